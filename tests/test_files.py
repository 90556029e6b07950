"""Files are complete or untouched, whatever happens; mistakes are one line and a status."""

import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from loopdraw import files
from loopdraw.files import UserError, load_npz, read_text, save_npz, write_aside, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_write_aside_makes_folders_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "deep" / "file.txt"
    write_text(path, "grüße\n")
    assert path.read_text(encoding="utf-8") == "grüße\n"
    assert names(path.parent) == ["file.txt"]


def test_write_aside_keeps_the_suffix_that_writers_choose_a_format_by(tmp_path):
    with write_aside(tmp_path / "mesh.v2.obj") as temporary:
        assert temporary.suffix == ".obj" and temporary.parent == tmp_path
        assert temporary.name != "mesh.v2.obj"
        temporary.write_text("new")
    assert names(tmp_path) == ["mesh.v2.obj"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_while_writing_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error):
        with write_aside(path) as temporary:
            temporary.write_text("half")
            raise error
    assert path.read_text() == "old" and names(tmp_path) == ["file.txt"]


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(UserError, match="file.txt: cannot be written .No space left on device."):
        with write_aside(path):
            raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and names(tmp_path) == ["file.txt"]


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "below.txt", tmp_path, Path("/proc/nothing/here.txt")):
        with pytest.raises(UserError, match="cannot be written") as caught:
            write_text(path, "text")
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert names(tmp_path) == ["file"]


def test_new_files_have_ordinary_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file.txt", "text")
    finally:
        assert os.umask(before) == 0o027
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o640


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from loopdraw.files import write_aside\n"
        f"with write_aside({str(path)!r}) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    print('written', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.kill()
    process.communicate()
    assert path.read_text() == "old"


def test_npz_round_trip(tmp_path):
    path = tmp_path / "arrays.npz"
    arrays = {"a": np.arange(6.0).reshape(2, 3), "names": np.array(["x", "ÿ"]), "n": np.array(3)}
    save_npz(path, **arrays)
    loaded = load_npz(path, required=("a", "n"))
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_ctrl_c_within_an_archive_comes_after_it(tmp_path, monkeypatch):
    close = zipfile._ZipWriteFile.close

    def interrupted(member):
        os.kill(os.getpid(), signal.SIGINT)
        close(member)

    path = tmp_path / "arrays.npz"
    monkeypatch.setattr(zipfile._ZipWriteFile, "close", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            save_npz(path, a=np.ones(2), b=np.ones(3))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert names(tmp_path) == []


def damaged_files(folder):
    """Path and reason for each way in which a file is no good `.npz` file."""
    good = folder / "good.npz"
    save_npz(good, a=np.arange(1000))
    content = good.read_bytes()
    bent = bytearray(content)
    bent[200] ^= 255
    pickled = folder / "pickled.npz"
    np.savez(pickled, a=np.array([{}], dtype=object))
    alone = folder / "alone.npz"
    with open(alone, "wb") as file:
        np.save(file, np.arange(3))
    for name, data in (
        ("truncated", content[:-30]),
        ("halved", content[: len(content) // 2]),
        ("bent", bytes(bent)),
        ("empty", b""),
        ("text", b"not a zip file"),
        ("zip", b"PK\x03\x04 and nonsense"),
    ):
        (folder / f"{name}.npz").write_bytes(data)
        yield folder / f"{name}.npz", "not a thing, or damaged"
    yield pickled, "not a thing, or damaged"
    yield alone, "not a thing, or damaged"
    yield folder / "nothing.npz", "no such file; expected a thing there"
    yield folder, "no such file"


def test_bad_npz_files_are_refused_with_the_reason(tmp_path):
    for path, reason in damaged_files(tmp_path):
        with pytest.raises(UserError) as caught:
            load_npz(path, what="a thing")
        message = str(caught.value)
        assert message.startswith(f"{path}: {reason}"), path
        assert "\n" not in message
    with pytest.raises(UserError, match="good.npz: not a thing: it lacks b, c"):
        load_npz(tmp_path / "good.npz", required=("a", "b", "c"), what="a thing")


@pytest.mark.filterwarnings("ignore")
def test_whatever_byte_is_bent_a_file_is_read_or_refused(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez_compressed(path, a=np.arange(20), b=np.array(["xx", "y"]))
    content = path.read_bytes()
    refused = 0
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ (1 << i % 8)]) + content[i + 1 :])
        try:
            load_npz(path)
        except UserError:
            refused += 1
    assert refused > len(content) / 2


def test_archives_that_fill_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    monkeypatch.setattr(files, "BOMB_BYTES", 10**6)
    np.savez_compressed(path, a=np.zeros(10**6))
    with pytest.raises(UserError, match="it would unpack to 0.0 GB"):
        load_npz(path)
    np.savez(path, a=np.zeros(10**6))
    assert load_npz(path)["a"].shape == (10**6,)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000000,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 'a')}",
    ],
)
def test_headers_that_say_nonsense(tmp_path, header):
    path = tmp_path / "x.npz"
    text = f"{header:<117}\n".encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(UserError, match="not an .npz file, or damaged"):
        load_npz(path)


def test_a_text_without_an_end():
    with pytest.raises(UserError, match="/dev/zero: not an optfile: it has more than"):
        read_text("/dev/zero", what="an optfile")


def test_a_mistake_is_one_line_of_bounded_length():
    assert str(UserError("a file:\n  two lines")) == "a file: two lines"
    long = str(UserError(f"file: {'x' * 10**6} is no number"))
    assert len(long) < 2000 and long.startswith("file: x") and long.endswith("x is no number")


def test_read_text(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"\xef\xbb\xbfline\n")
    assert read_text(path) == "line\n"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="file.txt: not an optfile: it holds bytes"):
        read_text(path, what="an optfile")
    with pytest.raises(UserError, match="nothing.txt: cannot be read .No such file"):
        read_text(tmp_path / "nothing.txt")


def script(body):
    """Result of a script whose main function has this body."""
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from loopdraw.files import UserError, run_script\n"
        f"def main():\n    {body}\n"
        "run_script(main)\n"
    )
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("body", "status", "out", "err"),
    [
        ("print('fine')", 0, "fine\n", ""),
        ("return 1", 1, "", ""),
        ("raise UserError('f: wrong; mend it')", 2, "", "error: f: wrong; mend it\n"),
        ("raise KeyboardInterrupt", 130, "", "interrupted\n"),
        ("sys.exit(3)", 3, "", ""),
    ],
)
def test_run_script(body, status, out, err):
    done = subprocess.run(script(body), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


def test_run_script_does_not_hide_the_programs_own_faults():
    done = subprocess.run(script("1 / 0"), capture_output=True, text=True)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr


def test_run_script_is_quiet_when_the_reader_goes_away():
    process = subprocess.Popen(
        script("[print('line', flush=True) or time.sleep(0.01) for _ in range(500)]"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    assert (process.returncode, process.stderr.read()) == (141, b"")
    process.stderr.close()


@pytest.mark.parametrize(
    ("body", "redirect", "status", "err"),
    [
        ("print('x')", ">/dev/full", 2, "error: stdout: cannot be written (No space left on"),
        ("print('x', flush=True)", ">/dev/full", 2, "error: stdout: cannot be written (No space"),
        ("sys.stdout.write('x'); sys.exit()", ">/dev/full", 2, "error: stdout: cannot be wri"),
        ("print('x')", ">&-", 2, "error: stdout is closed; send it to /dev/null if it is not wa"),
        ("assert sys.stdin is None and open('/dev/null').fileno() > 2", "<&-", 0, ""),
        ("print('x', file=sys.stderr)", "2>&-", 0, ""),
        ("raise OSError(28, 'full')", ">/dev/null", 1, "Traceback"),
        ("print(9 * 10**6 * 'x')", ">/dev/full", 2, "error: stdout: cannot be written (No space"),
        ("raise UserError(10**5 * 'word')", ">/dev/null", 2, "error: wordword"),
    ],
)
def test_run_script_with_streams_that_are_closed_or_full(body, redirect, status, err):
    command = f"{shlex.join(script(body))} {redirect}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (status, "") and done.stderr.startswith(err)
    assert status == 1 or done.stderr.count("\n") == bool(err) and len(done.stderr) < 1000


def test_run_script_in_an_ascii_locale(tmp_path):
    """A folder named in UTF-8, by the command line and by an optfile, can be read and printed."""
    folder = tmp_path / "\u00fc\u6f22"
    folder.mkdir()
    optfile = folder / "opt.txt"
    optfile.write_text(f"--save_dir {folder}", encoding="utf-8")
    command = [sys.executable, str(ROOT / "loop_models_options.py"), "--optfile", str(optfile)]
    names = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, env={**os.environ, **names})
    assert done.returncode == 0, done.stderr
    assert f"--save_dir '{folder}'" in done.stdout.decode("utf-8")


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from loopdraw.files import write_aside\n"
        "with write_aside(Path(sys.argv[1]) / 'inference-0-latent.txt'):\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    others = [tmp_path / ".inference-1-notes.txt", tmp_path / "inference-2.obj"]
    for path in others:
        path.touch()
    files.remove_leftovers(tmp_path)
    (left,) = set(tmp_path.iterdir()) - set(others)  # it is still being written
    elsewhere = left.with_name(re.sub(r"-[0-9a-f]{8}\.", "-00000000.", left.name))
    elsewhere.touch()  # by a process on another machine
    process.kill()
    process.communicate()
    files.remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {*others, elsewhere}
    files.remove_leftovers(tmp_path / "none")


def test_importing_it_does_not_import_numpy():
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import loopdraw.files; print(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'numpy'" not in done.stdout and files.__name__ in done.stdout
