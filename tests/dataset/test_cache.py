"""Folders of meshes to caches: resuming, failing meshes, workers, locks, foreign files."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh
from conftest import PARITY, ROOT

from loopdraw.data import progress as slicing_progress
from loopdraw.data import slicing_run
from loopdraw.data.build import build_or_load_cache
from loopdraw.data.cache import load_cache, read_planespec
from loopdraw.data.point_clouds import load_or_sample_point_clouds
from loopdraw.files import LOCK_FILE, UserError, folder_lock
from loopdraw.loops.mesh_files import load_mesh
from loopdraw.loops.representations import REPRESENTATIONS, loops_to_sequence, sequence_to_loops
from loopdraw.loops.slicing import slice_mesh

POLYLINE = "fixed-res-polyline"
CACHE, PARTIAL = "preprocessed_cache.npz", "preprocessed_cache_PARTIAL.npz"


def make_folder(root, n_meshes=6, bad=(), planespec="y\n8\n-0.4\n0.4\n"):
    """A split of n small meshes of different lengths of sequence; `bad` ones are no meshes."""
    folder = root / "data" / "train"
    (folder / "more").mkdir(parents=True)
    (folder / "planespec.txt").write_text(planespec)
    for i in range(n_meshes):
        path = folder / ("more" if i % 3 == 2 else "") / f"shape_{i:02}.obj"
        if i in bad:
            path.write_text("v 0 0 0\nf 1 2 3\n")
            continue
        parts = [trimesh.creation.icosphere(1, 0.2 + 0.03 * i)]
        parts += [trimesh.creation.box([0.1, 0.4, 0.1]).apply_translation([0.5, 0, 0])] * (i % 3)
        trimesh.util.concatenate(parts).export(path)
    return folder


def build(folder, **settings):
    settings = {"num_workers": 1, "report": lambda line: None, **settings}
    return build_or_load_cache(folder, POLYLINE, **settings)


def in_order(folder):
    return sorted(map(str, folder.rglob("*.obj")))


# --- what a cache holds


def test_cache_of_a_folder(tmp_path, capsys):
    folder = make_folder(tmp_path)
    lines = []
    cached = build(folder, report=lines.append)
    assert cached.filenames == in_order(folder)
    np.testing.assert_array_equal(cached.planes, read_planespec(folder))
    for sequence, planes, name in zip(
        cached.sequences, cached.plane_indices, cached.filenames, strict=True
    ):
        loops = slice_mesh(*load_mesh(name), cached.planes).loops_by_plane
        expected, expected_planes = loops_to_sequence(loops, REPRESENTATIONS[POLYLINE])
        n = len(expected)
        np.testing.assert_array_equal(sequence[:n], expected)
        np.testing.assert_array_equal(planes[:n], expected_planes)
        assert not sequence[n:].any() and (planes[n:] == -1).all()
    assert cached.sequences.dtype == np.float32 and cached.plane_indices.dtype == np.int32
    assert not cached.has_eos
    assert lines[0].startswith(f"{folder}: 6 of 6 meshes sliced into 8 planes (")
    assert "meshes/s" in lines[0] and "planes that missed" in lines[1]
    assert "6/6" in capsys.readouterr().err  # the progress bar
    assert {path.name for path in folder.iterdir()} - {"more"} == (
        {"planespec.txt", CACHE} | {f"shape_{i:02}.obj" for i in (0, 1, 3, 4)}
    )
    with np.load(folder / CACHE) as arrays:
        assert arrays["meshes_reprs"].dtype == np.float32 and arrays["loop_repr_type"] == 3


def test_an_existing_cache_is_the_dataset(tmp_path):
    folder = make_folder(tmp_path)
    first = build(folder)
    for path in (*folder.rglob("*.obj"), folder / "planespec.txt"):
        path.unlink()
    lines = []
    again = build(folder, report=lines.append)
    np.testing.assert_array_equal(again.sequences, first.sequences)
    assert again.filenames == first.filenames and lines == []


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_every_representation(tmp_path, name):
    folder = make_folder(tmp_path, 3)
    cached = build_or_load_cache(folder, name, num_workers=1, report=lambda line: None)
    assert cached.representation.name == name
    loops = sequence_to_loops(
        cached.sequences[2], 8, cached.representation, False, cached.plane_indices[2]
    )
    expected = slice_mesh(*load_mesh(cached.filenames[2]), cached.planes).loops_by_plane
    assert [bool(found) for found in loops] == [bool(found) for found in expected]


def test_eos_timesteps(tmp_path):
    lines = []
    folder = make_folder(tmp_path / "with", 3)
    cached = build(folder, use_eos_token=True, report=lines.append)
    assert cached.has_eos and not any("warning" in line for line in lines)
    for sequence, planes, n in zip(
        cached.sequences, cached.plane_indices, cached.lengths, strict=True
    ):
        assert not sequence[n - 1, :-1].any() and sequence[n - 1, -1] == 1
        assert planes[n - 1] == -1 and planes[n - 2] >= 0
    build(folder, use_eos_token=False, report=lines.append)
    assert "warning" in lines[-1] and "--use_eos_token is off" in lines[-1]

    folder = make_folder(tmp_path / "without", 3)
    assert not build(folder).has_eos
    build(folder, use_eos_token=True, report=lines.append)
    assert "warning" in lines[-1] and "--use_eos_token is on" in lines[-1]
    with pytest.raises(UserError, match="ellipse-single"):
        build_or_load_cache(make_folder(tmp_path / "none", 1), "ellipse-single", use_eos_token=True)


def test_a_cache_that_its_folder_has_outgrown_is_warned_of(tmp_path):
    folder = make_folder(tmp_path / "train", 2)
    lines = []
    build(folder, report=lines.append)
    build(folder, report=lines.append)
    assert not any("warning" in line for line in lines)
    mesh = next(folder.rglob("*.obj"))
    (folder / "zz-new.obj").write_text(mesh.read_text())
    build(folder, report=lines.append)
    assert "1 mesh has come (zz-new.obj) since it was made" in lines[-1]
    (folder / "zz-new.obj").unlink()
    (folder / "planespec.txt").write_text("y\n3\n-0.1\n0.1\n")
    build(folder, report=lines.append)
    assert "planespec.txt has changed since it was made; remove it" in lines[-1]


@pytest.mark.parametrize(
    "name, representation", [("data-polyline", POLYLINE), ("data-ellipse", "ellipse-multiple")]
)
def test_published_caches(name, representation):
    folder = PARITY / name / "train"
    cached = build_or_load_cache(folder, representation, report=lambda line: None)
    with np.load(folder / CACHE) as published:
        assert published["meshes_reprs"].dtype == np.float64
        np.testing.assert_array_equal(
            cached.sequences, published["meshes_reprs"].astype(np.float32)
        )
    assert cached.sequences.dtype == np.float32
    assert cached.filenames[0] == "datasets/example/train/vase_0000.obj"
    np.testing.assert_allclose(cached.planes, read_planespec(folder))
    # The flags say where each plane begins.
    assert cached.plane_indices.max() == 9
    flags = cached.sequences[..., -1] == 1
    np.testing.assert_array_equal(
        np.cumsum(flags, axis=1) - 1,
        np.where(cached.plane_indices >= 0, cached.plane_indices, np.cumsum(flags, axis=1) - 1),
    )


def test_old_files_without_names_and_representation(tmp_path):
    planes = np.tile(np.eye(4, 3), (3, 1, 1))
    np.savez(tmp_path / CACHE, planes=planes, meshes_reprs=np.ones((2, 3, 6)))
    cached = load_cache(tmp_path / CACHE, "ellipse-multiple")
    assert cached.filenames is None
    np.testing.assert_array_equal(cached.plane_indices, [[0, 1, 2], [0, 1, 2]])
    assert cached.repairs.shape == (2, 3)
    with pytest.raises(UserError, match="holds ellipse-multiple loops.*--loop_repr_type"):
        load_cache(tmp_path / CACHE, POLYLINE)


GOOD = dict(planes=np.zeros((3, 4, 3)), meshes_reprs=np.ones((2, 5, 65)), loop_repr_type=3)


@pytest.mark.parametrize(
    "change, reason",
    [
        (dict(loop_repr_type=2), "no loop representation"),
        (dict(loop_repr_type=np.array([3, 3])), "not a loops cache"),
        (dict(planes=np.zeros((3, 3))), "planes"),
        (dict(planes=np.zeros((0, 4, 3))), "empty"),
        (dict(planes=np.full((3, 4, 3), np.nan)), "not all numbers"),
        (dict(meshes_reprs=np.ones((2, 5, 6))), "meshes_reprs"),
        (dict(meshes_reprs=np.ones((0, 5, 65))), "empty"),
        (dict(meshes_reprs=np.full((2, 5, 65), np.inf)), "not all numbers"),
        (dict(meshes_reprs=np.full((2, 5, 65), "a")), "not all numbers"),
        (dict(meshes_reprs=np.zeros((2, 5, 65))), "no loops"),
        (dict(loaded_obj_filenames=np.array(["a.obj"])), "another number of files"),
        (dict(plane_indices=np.zeros((2, 4), int)), "plane_indices"),
        (dict(plane_indices=np.full((2, 5), 3)), "plane_indices"),
        (dict(mesh_repairs=np.zeros((3, 3))), "mesh_repairs"),
    ],
)
def test_foreign_caches_are_refused(tmp_path, change, reason):
    path = tmp_path / CACHE
    np.savez(path, **{**GOOD, **change})
    with pytest.raises(UserError, match=reason) as caught:
        load_cache(path, POLYLINE)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_caches_are_refused_and_left_alone(tmp_path):
    folder = make_folder(tmp_path, 2)
    build(folder)
    whole = (folder / CACHE).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a zip file"):
        (folder / CACHE).write_bytes(content)
        with pytest.raises(UserError, match=CACHE):
            build(folder)
        assert (folder / CACHE).read_bytes() == content


# --- folders that cannot be sliced


@pytest.mark.parametrize(
    "text, reason",
    [
        ("y\n8\n-0.4\n", "3 lines"),
        ("w\n8\n-0.4\n0.4\n", "scan axis 'w'"),
        ("y\neight\n-0.4\n0.4\n", "'eight'"),
        ("y\n0\n-0.4\n0.4\n", "0"),
        ("y\n99999999999\n-0.4\n0.4\n", "at most 10000"),
        ("y\n8\n0.4\n-0.4\n", "below"),
        ("y\n8\nlow\n0.4\n", "'low'"),
        ("y\n8\nnan\n0.4\n", "not finite"),
        (None, "No such file"),
    ],
)
def test_malformed_planespec(tmp_path, text, reason):
    folder = make_folder(tmp_path, 1)
    (folder / "planespec.txt").unlink()
    if text is not None:
        (folder / "planespec.txt").write_text(text)
    with pytest.raises(UserError, match=reason) as caught:
        build(folder)
    assert str(folder / "planespec.txt") in str(caught.value)


def test_nothing_to_slice(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        build(tmp_path / "train")
    folder = make_folder(tmp_path, 0)
    with pytest.raises(UserError, match="put meshes there"):
        build(folder)
    assert not (folder / LOCK_FILE).exists()


def test_all_meshes_fail(tmp_path):
    folder = make_folder(tmp_path, 3, bad=(0, 1, 2))
    with pytest.raises(UserError, match=r"none of its 3 meshes.*shape_02.obj: line 2 names"):
        build(folder)
    assert (folder.parent / "failed_meshes.txt").read_text().splitlines() == in_order(folder)
    assert not (folder / CACHE).exists() and not (folder / PARTIAL).exists()


def test_unwritable_folder(tmp_path):
    folder = make_folder(tmp_path, 1)
    (folder / LOCK_FILE).mkdir()  # stands in for a folder without permission: tests run as root
    with pytest.raises(UserError, match="cannot be written to"):
        build(folder)


def test_failed_meshes_are_listed_with_reasons(tmp_path):
    folder = make_folder(tmp_path, 6, bad=(1, 4))
    trimesh.creation.box().apply_translation([0, 50, 0]).export(folder / "far.obj")
    listed = folder.parent / "failed_meshes.txt"
    other_split = str(folder.parent / "test" / "other.obj")
    listed.write_text(f"{other_split}\n{folder / 'gone.obj'}\n")
    lines = []
    cached = build(folder, report=lines.append)
    failed = [str(folder / name) for name in ("far.obj", "shape_01.obj", "shape_04.obj")]
    assert cached.filenames == [path for path in in_order(folder) if path not in failed]
    assert listed.read_text().splitlines() == [other_split, *failed]
    summary = "\n".join(lines)
    assert "4 of 7 meshes sliced" in summary and "failed: 3" in summary
    assert "far.obj: no plane meets it: it spans" in summary and "y 49.5 to 50.5" in summary
    assert "shape_01.obj: line 2 names vertex 2" in summary


# --- resuming


@pytest.fixture
def reference(tmp_path):
    """A folder with failing meshes, and the cache of an uninterrupted run."""
    folder = make_folder(tmp_path, 9, bad=(0, 4, 7))
    build(folder)
    content = (folder / CACHE).read_bytes()
    failed = (folder.parent / "failed_meshes.txt").read_text()
    (folder / CACHE).unlink()
    return folder, content, failed


@pytest.mark.parametrize("stop_at", range(10))
def test_resuming_after_ctrl_c(reference, monkeypatch, stop_at):
    folder, content, failed = reference
    sliced = []

    def slice_file(path, task, original=slicing_run.slice_file):
        if len(sliced) == stop_at:
            raise KeyboardInterrupt
        sliced.append(path)
        return original(path, task)

    with monkeypatch.context() as patch:
        patch.setattr(slicing_run, "slice_file", slice_file)
        if stop_at < 9:
            with pytest.raises(KeyboardInterrupt):
                build(folder)
            assert not (folder / CACHE).exists()
        stop_at = -1  # never again
        build(folder)
    assert sliced == in_order(folder)  # none twice, none left out
    assert (folder / CACHE).read_bytes() == content
    assert (folder.parent / "failed_meshes.txt").read_text() == failed
    assert not (folder / PARTIAL).exists()


@pytest.mark.parametrize("reason", [None, "broken"])
def test_ctrl_c_while_a_mesh_is_being_added(tmp_path, reason):
    folder = make_folder(tmp_path, 4)
    task = slicing_run.SlicingTask(read_planespec(folder), POLYLINE, False, 60.0)
    progress = slicing_progress.SlicingProgress(folder, task)
    first = slicing_run.slice_file(progress.paths[0], task)
    progress.add(first)

    class Interrupted:
        sequence, plane_index, repairs = first.sequence, first.plane_index, first.repairs

        @property
        def stamp(self):
            raise KeyboardInterrupt

    Interrupted.reason = reason
    with pytest.raises(KeyboardInterrupt):
        progress.add(Interrupted())
    progress.save_partial()
    assert slicing_progress.SlicingProgress(folder, task).next_index == 1


def test_resuming_when_all_is_done_but_the_cache(reference, monkeypatch):
    folder, content, failed = reference

    def finish(progress):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(slicing_progress, "SAVE_EVERY", 1)
        patch.setattr(slicing_progress.SlicingProgress, "finish", finish)
        with pytest.raises(KeyboardInterrupt):
            build(folder)
    build(folder, num_workers=2)
    assert (folder / CACHE).read_bytes() == content
    assert (folder.parent / "failed_meshes.txt").read_text() == failed


def test_full_disk(reference):
    """The run ends with a line, the partial cache stays as it was, and the next run goes on."""
    folder, content, _ = reference
    limit = len(content) * 3 // 4
    script = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from loopdraw import files\n"
        "from loopdraw.data import progress\n"
        "from loopdraw.data.build import build_or_load_cache\n"
        "progress.SAVE_EVERY = 1\n"
        "files.run_script(lambda: build_or_load_cache("
        f"{str(folder)!r}, {POLYLINE!r}, num_workers=1))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 2
    assert "error: " in run.stderr and "File too large" in run.stderr, run.stderr
    assert "Traceback" not in run.stderr
    assert 0 < (folder / PARTIAL).stat().st_size < limit
    assert {path.name for path in folder.glob(".*")} == set()
    build(folder)
    assert (folder / CACHE).read_bytes() == content


SLOW_RUN = """
import signal, sys, time
sys.path.insert(0, {root!r})
from loopdraw.data import progress, slicing_run
from loopdraw.data.build import build_or_load_cache
progress.SAVE_EVERY = 1
progress.SAVING_SECONDS = 60
original = slicing_run.load_mesh
def load_mesh(path):
    time.sleep(0.1)
    return original(path)
slicing_run.load_mesh = load_mesh
{more}
build_or_load_cache({folder!r}, "fixed-res-polyline", num_workers={num_workers})
"""


def start_slow_run(folder, num_workers=1, more=""):
    settings = {"folder": str(folder), "num_workers": num_workers, "more": more}
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN.format(root=str(ROOT), **settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition):
    for _ in range(10_000):
        if condition():
            return
        time.sleep(0.003)
    raise AssertionError("it did not happen in 30 s")


def test_resuming_after_kill_9(reference):
    """Killed again and again, soon after another mesh has been saved, saving or not."""
    folder, content, failed = reference
    partial, saved_at = folder / PARTIAL, None
    for delay in (0, 0.03, 0.1):
        process = start_slow_run(folder)
        wait_for(lambda last=saved_at: partial.exists() and partial.stat().st_mtime_ns != last)
        time.sleep(delay)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL and not (folder / CACHE).exists()
        saved_at = partial.stat().st_mtime_ns
    build(folder)
    assert (folder / CACHE).read_bytes() == content
    assert (folder.parent / "failed_meshes.txt").read_text() == failed


STUCK_WORKERS = """
def work_in_worker(work, path, task, main_process, original=slicing_run._work_in_worker):
    import ctypes, os
    original(work, path, task, main_process)
    open(path + ".stuck", "w").write(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)  # holds Python's lock
slicing_run._work_in_worker = work_in_worker
"""


def test_workers_end_with_a_main_process_that_is_killed(tmp_path):
    """Even those that are stuck outside Python: nobody is left to hold the pipe."""
    folder = make_folder(tmp_path, 6)
    process = start_slow_run(folder, num_workers=2, more=STUCK_WORKERS)
    stuck = []
    try:
        wait_for(lambda: len(list(folder.rglob("*.stuck"))) == 2 or process.poll() is not None)
        time.sleep(0.1)
        stuck = [int(path.read_text()) for path in folder.rglob("*.stuck")]
        assert len(stuck) == 2
        process.kill()
        process.communicate(timeout=10)  # to the end of the pipe
    finally:
        process.kill()
        for pid in stuck:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def interrupted(folder, monkeypatch, after=5):
    """Slice the first meshes of a folder, as an interrupted run does."""

    def slice_file(path, task, original=slicing_run.slice_file):
        if path == in_order(folder)[after]:
            raise KeyboardInterrupt
        return original(path, task)

    with monkeypatch.context() as patch:
        patch.setattr(slicing_run, "slice_file", slice_file)
        with pytest.raises(KeyboardInterrupt):
            build(folder)


def test_a_partial_cache_renamed_is_a_dataset(reference, monkeypatch):
    folder, _, _ = reference
    interrupted(folder, monkeypatch)
    with np.load(folder / PARTIAL) as partial:
        assert partial["next_index_to_load"] == 5
        # Sorted by path, more/shape_02, _05 and _08 come first.
        np.testing.assert_array_equal(partial["failed_meshes_indices"], [3])
    (folder / PARTIAL).rename(folder / CACHE)
    cached = build(folder)
    assert cached.filenames == [path for i, path in enumerate(in_order(folder)[:5]) if i != 3]


def test_a_published_partial_cache_is_resumed(reference, monkeypatch):
    """Without our extra keys, and with the path of the dataset as it was then."""
    folder, content, _ = reference
    (folder.parent / "expected.npz").write_bytes(content)
    expected = load_cache(folder.parent / "expected.npz", POLYLINE)
    interrupted(folder, monkeypatch)
    with np.load(folder / PARTIAL) as arrays:
        arrays = dict(arrays)
    for name in ("plane_indices", "mesh_repairs", "failed_meshes_reasons"):
        del arrays[name]
    names = [os.path.relpath(name, folder) for name in arrays["loaded_obj_filenames"]]
    arrays["loaded_obj_filenames"] = np.array([f"datasets/some/train/{name}" for name in names])
    arrays["meshes_reprs"] = arrays["meshes_reprs"].astype(np.float64)
    np.savez(folder / PARTIAL, **arrays)
    resumed = build(folder)
    np.testing.assert_array_equal(resumed.sequences, expected.sequences)
    assert resumed.filenames == expected.filenames


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    folder = make_folder(tmp_path, 1)
    leftover = folder / ".preprocessed_cache_PARTIAL-k3j2h1.npz"
    leftover.write_bytes(b"half a file")
    build(folder)
    assert not leftover.exists()


@pytest.mark.parametrize("change", ["planespec", "eos", "representation", "added", "removed"])
def test_a_partial_cache_that_no_longer_fits_is_refused(reference, monkeypatch, change):
    folder, _, _ = reference
    interrupted(folder, monkeypatch)
    settings = {"num_workers": 1}
    name = POLYLINE
    if change == "planespec":
        (folder / "planespec.txt").write_text("y\n8\n-0.4\n0.3\n")
    elif change == "eos":
        settings["use_eos_token"] = True
    elif change == "representation":
        name = "ellipse-multiple"
    elif change == "added":
        trimesh.creation.box().export(folder / "a.obj")
    else:
        Path(in_order(folder)[1]).unlink()
    before = (folder / PARTIAL).read_bytes()
    with pytest.raises(UserError, match=PARTIAL):
        build_or_load_cache(folder, name, **settings)
    assert (folder / PARTIAL).read_bytes() == before and not (folder / CACHE).exists()


def test_meshes_added_behind_are_sliced_too(reference, monkeypatch):
    folder, _, _ = reference
    interrupted(folder, monkeypatch)
    trimesh.creation.box([0.3, 0.5, 0.3]).export(folder / "shape_99.obj")
    assert build(folder).filenames[-1] == str(folder / "shape_99.obj")


class FakeClock:
    """Time as `SlicingProgress` sees it: slicing and saving take what the test says."""

    def __init__(self, monkeypatch, saving_seconds):
        self.now, self.saved_at, self.spent = 0.0, [], 0.0
        monkeypatch.setattr(slicing_progress.time, "perf_counter", lambda: self.now)

        def save_cache(path, planes, sequences, *rest, **more):
            seconds = saving_seconds(len(sequences))
            self.now += seconds
            self.spent += seconds
            self.saved_at.append(len(sequences))

        monkeypatch.setattr(slicing_progress, "save_cache", save_cache)

    def slice(self, folder, n_meshes, seconds):
        task = slicing_run.SlicingTask(read_planespec(folder), POLYLINE, False, 1.0)
        progress = slicing_progress.SlicingProgress(folder, task)
        progress.paths = [f"{i}.obj" for i in range(n_meshes)]
        sliced = slicing_run.SlicedFile(np.ones((1, 65)), np.zeros(1), (0, 0, 0), None)
        for _ in range(n_meshes):
            self.now += seconds
            progress.add(sliced)
            progress.save_if_due()


def test_partial_caches_every_25_meshes_while_cheap(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, 1)
    clock = FakeClock(monkeypatch, lambda n: 0.01)
    clock.slice(folder, 130, 0.02)
    assert clock.saved_at == [25, 50, 75, 100, 125]


@pytest.mark.parametrize("seconds_a_mesh", [0.01, 0.03, 0.3])
def test_saving_takes_little_of_a_long_run(tmp_path, monkeypatch, seconds_a_mesh):
    folder = make_folder(tmp_path, 1)
    clock = FakeClock(monkeypatch, lambda n: 0.005 + 1e-4 * n)
    clock.slice(folder, 10_000, seconds_a_mesh)
    assert clock.spent <= 0.05 * clock.now
    # Yet little is ever at stake: never more than the greater part of a run's meshes.
    assert clock.saved_at[-1] > 6_000 and len(clock.saved_at) > 8


# --- workers


def test_parallel_is_serial(reference):
    folder, content, failed = reference
    build(folder, num_workers=2)
    assert (folder / CACHE).read_bytes() == content
    assert (folder.parent / "failed_meshes.txt").read_text() == failed


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_mesh_that_takes_too_long_is_a_failure(tmp_path, num_workers):
    folder = make_folder(tmp_path, 6)
    os.mkfifo(folder / "shape_00a.obj")  # reading it waits for a writer that never comes
    lines = []
    cached = build(folder, num_workers=num_workers, mesh_timeout=1.0, report=lines.append)
    assert len(cached.filenames) == 6
    assert any("shape_00a.obj: took longer than 1 s" in line for line in lines)


def test_a_mesh_that_is_stuck_outside_python_is_a_failure(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, 6)
    stuck, original = str(folder / "shape_01.obj"), slicing_run._work_in_worker

    def work_in_worker(work, path, task, main_process):
        if path == stuck:
            import signal
            import time

            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            time.sleep(600)
        return original(work, path, task, main_process)

    monkeypatch.setattr(slicing_run, "_work_in_worker", work_in_worker)
    monkeypatch.setattr(slicing_run, "GRACE", 0.0)
    lines = []
    cached = build(folder, num_workers=2, mesh_timeout=3.0, report=lines.append)
    assert len(cached.filenames) == 5
    assert any("shape_01.obj: took longer than 3 s" in line for line in lines)


def test_a_worker_that_dies_loses_only_its_mesh(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, 9)
    deadly, original = str(folder / "shape_03.obj"), slicing_run._work_in_worker

    def work_in_worker(work, path, task, main_process):
        if path == deadly:
            import os

            os.kill(os.getpid(), 9)
        return original(work, path, task, main_process)

    monkeypatch.setattr(slicing_run, "_work_in_worker", work_in_worker)
    lines = []
    cached = build(folder, num_workers=2, report=lines.append)
    assert cached.filenames == [path for path in in_order(folder) if path != deadly]
    assert any(f"{deadly}: the process that read it died" in line for line in lines)


def test_any_error_of_a_mesh_is_a_failure_with_its_name(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, 3)

    def slice_mesh(vertices, faces, planes, original=slicing_run.slice_mesh):
        if len(vertices) > 45:
            raise RuntimeError("a bug\nof ours")
        return original(vertices, faces, planes)

    monkeypatch.setattr(slicing_run, "slice_mesh", slice_mesh)
    lines = []
    assert len(build(folder, report=lines.append).filenames) == 1
    assert sum("RuntimeError: a bug of ours" in line for line in lines) == 2


def test_dask_that_is_not_installed(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, 1)
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(UserError, match=r"pip install 'dask\[distributed\]'"):
        build(folder, dask_scheduler="tcp://127.0.0.1:1")


# --- several processes on one folder


def test_the_second_process_waits_and_says_for_whom(tmp_path):
    folder = make_folder(tmp_path, 3)
    lines, results = [], []
    with folder_lock(folder):
        thread = threading.Thread(
            target=lambda: results.append(build(folder, report=lines.append)), daemon=True
        )
        thread.start()
        wait_for(lambda: lines)
        assert f"waiting for process {os.getpid()} on" in lines[0]
        assert not results and not (folder / CACHE).exists()
    thread.join(20)
    assert len(results[0].filenames) == 3
    assert not (folder / LOCK_FILE).exists()


def test_processes_started_together_agree(reference):
    folder, content, _ = reference
    processes = [start_slow_run(folder) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert (folder / CACHE).read_bytes() == content
    assert sum("meshes sliced into" in output for output in outputs) == 1


def test_the_lock_ends_with_its_process(tmp_path):
    script = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from loopdraw.files import folder_lock\n"
        f"with folder_lock({str(tmp_path)!r}):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / LOCK_FILE).exists()
    lines = []
    with folder_lock(tmp_path, lines.append):
        assert f"process {os.getpid()} on" in (tmp_path / LOCK_FILE).read_text()
    assert lines == []


def test_a_file_system_without_locks_is_no_hindrance(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    folder = make_folder(tmp_path, 1)
    monkeypatch.setattr(fcntl, "flock", flock)
    lines = []
    assert len(build(folder, report=lines.append).filenames) == 1
    assert any("warning" in line and "has no locks" in line for line in lines)
    assert not (folder / LOCK_FILE).exists()


# --- point clouds


def test_point_clouds_lie_on_the_surface(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    trimesh.creation.box([1.0, 0.5, 0.25]).export(folder / "box.obj")
    trimesh.creation.icosphere(4, 0.5).export(folder / "sphere.obj")
    names = ["elsewhere/train/sphere.obj", str(folder / "box.obj")]
    points, normals = load_or_sample_point_clouds(folder, names, 2)
    assert points.shape == normals.shape == (2, 2048, 3)
    assert points.dtype == normals.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(points[0], axis=1), 0.5, atol=2e-3)
    np.testing.assert_allclose(normals[0], 2 * points[0], atol=0.1)
    # On the box by area: 1 x 0.5 is 4/7 of it, 1 x 0.25 is 2/7, 0.5 x 0.25 is 1/7.
    shares = np.abs(normals[1]).mean(axis=0)
    np.testing.assert_allclose(shares, [1 / 7, 2 / 7, 4 / 7], atol=0.05)
    distances = np.abs(points[1]) - [0.5, 0.25, 0.125]
    np.testing.assert_allclose(distances.max(axis=1), 0, atol=1e-6)

    (folder / "box.obj").unlink()
    again = load_or_sample_point_clouds(folder, names, 2)
    np.testing.assert_array_equal(again[0], points)
    with pytest.raises(UserError, match="remove it to sample again"):
        load_or_sample_point_clouds(folder, names, 3)


def test_point_clouds_that_cannot_be_made(tmp_path):
    with pytest.raises(UserError, match="does not name the meshes"):
        load_or_sample_point_clouds(tmp_path, None, 2)
    with pytest.raises(UserError, match="a/b.obj: no such mesh"):
        load_or_sample_point_clouds(tmp_path, ["a/b.obj"], 1)


# --- names, lists and leftovers that are not what they should be


def test_a_broken_mesh_whose_name_is_not_utf_8(tmp_path):
    folder = make_folder(tmp_path, 2)
    bad = os.fsencode(folder) + b"/br\xff\x85ken.obj"
    with open(bad, "w") as file:
        file.write("v 0 0 0\n")
    assert len(build(folder).sequences) == 2
    assert (folder.parent / "failed_meshes.txt").read_bytes() == bad + b"\n"
    lines = []
    build(folder, report=lines.append)
    assert lines == []


@pytest.mark.parametrize("kind", ["folder", "binary"])
def test_a_list_of_failures_that_is_something_else(tmp_path, kind):
    folder = make_folder(tmp_path, 2, bad=[1])
    listed = folder.parent / "failed_meshes.txt"
    if kind == "folder":
        listed.mkdir()
    else:
        listed.write_bytes(bytes(range(256)))
    (folder / ".preprocessed_cachexx.npz").mkdir()
    lines = []
    assert len(build(folder, report=lines.append).sequences) == 1
    assert "warning: the meshes that failed cannot be listed" in lines[-1]
    assert listed.is_dir() if kind == "folder" else listed.read_bytes() == bytes(range(256))
    assert len(build(folder).sequences) == 1


# --- what has changed since a cache was made


def test_edited_and_removed_meshes_and_new_ones_of_known_names(tmp_path):
    folder = make_folder(tmp_path, 4)
    build(folder)

    def warning():
        lines = []
        build(folder, report=lines.append)
        return lines[-1] if lines else None

    edited = folder / "shape_00.obj"
    content = edited.read_bytes()
    os.utime(edited, ns=(1, 1))  # as in a copy: not a change
    assert warning() is None
    edited.write_bytes(content.replace(b"v 0", b"v 1", 1))
    assert "1 mesh has been edited (shape_00.obj) since" in warning()
    edited.write_bytes(content + b"#")
    assert "1 mesh has been edited (shape_00.obj) since" in warning()
    (folder / "more/shape_00.obj").write_bytes(content)
    (folder / "shape_01.obj").rename(folder / "more/shape_01.obj")
    assert "2 meshes have come (more/shape_00.obj first), 1 mesh has gone (shape_01" in warning()


def test_caches_that_only_name_their_meshes(tmp_path):
    folder = make_folder(tmp_path, 4)
    build(folder)
    with np.load(folder / CACHE) as arrays:
        published = {name: arrays[name] for name in arrays.files if "source" not in name}
    names = published["loaded_obj_filenames"]
    published["loaded_obj_filenames"] = np.char.replace(names, str(tmp_path), "/elsewhere")
    np.savez(folder / CACHE, **published)
    lines = []
    build(folder, report=lines.append)
    assert lines == []
    (folder / "shape_02.obj").write_bytes((folder / "shape_01.obj").read_bytes())
    (folder / "shape_01.obj").unlink()
    build(folder, report=lines.append)
    assert "1 mesh has come (shape_02.obj), 1 mesh has gone (shape_01.obj) since" in lines[-1]


# --- long sequences


def test_longer_meshes_are_left_out_and_listed(tmp_path):
    folder = make_folder(tmp_path, 6)  # those in more/ have the most loops
    whole, lines = build(folder), []
    limit = int(np.sort(whole.lengths)[3])
    cached = build(folder, max_timesteps=limit, report=lines.append)
    assert cached.kept.tolist() == (whole.lengths <= limit).tolist()
    assert cached.sequences.shape[1] == cached.lengths.max() == limit
    assert f"2 meshes of more than {limit} timesteps are left out" in lines[0]
    assert {line.split(":")[0].strip() for line in lines[1:]} == (
        set(whole.filenames) - set(cached.filenames)
    )
    with pytest.raises(UserError, match="--max_timesteps 1 leaves no mesh"):
        build(folder, max_timesteps=1)

    (folder / CACHE).unlink()
    again = build(folder, max_timesteps=limit)
    np.testing.assert_array_equal(again.sequences, cached.sequences)
    failed = (folder.parent / "failed_meshes.txt").read_text().splitlines()
    assert set(failed) == set(whole.filenames) - set(cached.filenames)
    build(folder, report=lines.append)
    assert f"meshes of more than {limit} timesteps were left out" in lines[-1]


def test_outliers_are_named_with_what_they_cost(tmp_path):
    folder = make_folder(tmp_path, 5)
    lines = []
    build(folder, report=lines.append)
    assert not any("--max_timesteps" in line for line in lines)
    parts = [trimesh.creation.icosphere(1, 0.3).apply_translation([i, 0, 0]) for i in range(60)]
    trimesh.util.concatenate(parts).export(folder / "zz.obj")
    (folder / CACHE).unlink()
    build(folder, report=lines.append)
    assert "1 of 6 meshes make all sequences" in lines[-2] and "MB instead of" in lines[-2]
    assert "zz.obj: " in lines[-1]
    assert (folder / CACHE).stat().st_size < 50_000
