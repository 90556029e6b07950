"""Safe reading and writing of files, a lock for folders, and user mistakes as one line.

Every file is written under a temporary name and then renamed. A crash or a full disk at any moment
leaves either the old file or the new one. Mistakes that a user can mend are raised as `UserError`;
`run_script` turns them into one line on stderr and exit status 2.
"""

import contextlib
import errno
import functools
import io
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import zipfile
import zlib
from pathlib import Path

LONGEST_MESSAGE = 800  # characters of a UserError; more is a path or a word without end

# numpy and filelock are imported by the functions that need them: every script imports this module,
# and `--help` should be quick.


class UserError(Exception):
    """A mistake the user can mend, as one line: which file, what is wrong, what to do.

    Of a line that is very long, for example as a damaged file holds it, the middle is left out.
    """

    def __init__(self, message):
        message = " ".join(str(message).split())
        if len(message) > LONGEST_MESSAGE:
            half = LONGEST_MESSAGE // 2
            message = f"{message[:half]} ... {message[-half:]}"
        super().__init__(message)


@contextlib.contextmanager
def write_aside(path):
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    The temporary file keeps the suffix of `path`, since many writers choose a format by it. It is
    flushed to disk before the rename and removed when the block fails.

    Raises
    ------
    UserError
        When the folder cannot be written to or the disk is full.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-{_writer()}-", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        # mkstemp files are private; give the result the permissions of an ordinary new file.
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{path}: cannot be written ({reason}); free some space or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _writer(process=None):
    """What names of temporary files say of their writer: its machine and its process."""
    return f"{_machine()}.{os.getpid() if process is None else process}"


@functools.cache
def _machine():
    """Where process ids mean the same: a machine, and in it a container that counts its own."""
    try:
        counting = os.readlink("/proc/self/ns/pid")
    except OSError:
        counting = ""
    return f"{zlib.crc32((socket.gethostname() + counting).encode()):08x}"


def process_tag():
    """A word for this process, which `tag_lives` understands."""
    return f"{_writer()}.{_start_of(os.getpid())}"


def tag_lives(tag):
    """Whether the process of a `process_tag` lives; None where that cannot be told from here."""
    found = re.fullmatch(rf"{_machine()}\.([0-9]+)\.([0-9]*)", tag)
    if not found:
        return None
    # A process that began at another time has the same number by chance.
    return _lives(int(found[1])) and _start_of(int(found[1])) in ("", found[2])


def _start_of(process):
    """When a process began, as Linux counts it; "" where it does not say."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def remove_leftovers(folder):
    """Remove the temporary files in a folder that `write_aside` of a killed process left there.

    Those of processes that live, or that ran on another machine, stay.
    """
    pattern = re.compile(rf"\..+-{_writer('(?P<process>[0-9]+)')}-\w+(\.\w+)?")
    with contextlib.suppress(OSError):  # it is not there, or not ours
        for path in Path(folder).iterdir():
            found = pattern.fullmatch(path.name)
            if found and not _lives(int(found["process"])):
                path.unlink(missing_ok=True)


def _lives(process):
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


TEXT_BYTES = 2**26  # files to read as text are smaller; some, such as /dev/zero, have no end


def read_text(path, what="a text file", most_bytes=TEXT_BYTES):
    """The text of a UTF-8 file; `what` says in the error line what it should be.

    A file of more than `most_bytes` is refused.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise UserError(f"{path}: not {what}: it has more than {most_bytes:,} bytes")
        return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be read ({reason}); expected {what} there") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not {what}: it holds bytes that are not UTF-8 text") from None


def write_text(path, text):
    """Write `text` to `path` (UTF-8), aside and renamed."""
    with write_aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_npz(path, **arrays):
    """Write arrays to an `.npz` file, aside and renamed."""
    import numpy as np

    # An exception between two members leaves one open, and closing the archive fails in its turn.
    with write_aside(path) as temporary, _ctrl_c_later():
        np.savez(temporary, **arrays)


@contextlib.contextmanager
def _ctrl_c_later():
    """A Ctrl-C during the block takes effect when it ends."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    received = []
    signal.signal(signal.SIGINT, lambda *signal_and_frame: received.append(signal_and_frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if received:
            handler(*received[0])


# An archive that promises more than this, and so much more than its own size, is no data: zeros
# that were packed to fill a memory. Real data that is mostly padding comes to a hundredfold.
BOMB_BYTES, BOMB_RATIO = 2**30, 250


def load_npz(path, required=(), what="an .npz file"):
    """Read every array of an `.npz` file.

    Parameters
    ----------
    path : path of the file
    required : names of arrays that must be there
    what : what the file should be, for the error line ("a loops cache")

    Returns
    -------
    dict of str to numpy.ndarray

    Raises
    ------
    UserError
        When the file is missing, truncated, foreign, pickled, or lacks a required array, or takes
        more memory than there is.
    """
    import numpy as np

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected {what} there")
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(member.file_size for member in archive.infolist())
        if n_bytes > max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size):
            raise ValueError(f"it would unpack to {n_bytes / 1e9:.1f} GB")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # numpy and zipfile raise whatever a damaged file leads them into
        raise UserError(
            f"{path}: not {what}, or damaged ({first_line(error)}); make it again or remove it"
        ) from error
    missing = [name for name in required if name not in arrays]
    if missing:
        raise UserError(f"{path}: not {what}: it lacks {', '.join(missing)}")
    return arrays


def first_line(error):
    """What an error says, shortened to a part of a line."""
    return (str(error) or type(error).__name__).splitlines()[0][:100]


LOCK_FILE = ".slicing-lock"
POLL_SECONDS = 0.2
# What systems answer when a file system has no locks, as some network file systems.
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


@contextlib.contextmanager
def folder_lock(folder, report=print):
    """Hold the lock of a folder. While another process holds it, say who does and wait.

    The lock ends with the process that holds it, even if that is killed, so there are no stale
    locks. The lock file says who holds it. On a file system without locks, a warning is reported
    and the work goes on without one.

    Parameters
    ----------
    folder : path
    report : function that gets lines of text

    Raises
    ------
    UserError
        When the folder cannot be written to.
    """
    path = Path(folder) / LOCK_FILE
    lock = _acquired_lock(path, report)
    try:
        yield
    finally:
        # Removed while locked. A process that has opened it meanwhile notices that it is gone.
        path.unlink(missing_ok=True)
        if lock is not None:
            lock.release()


def _acquired_lock(path, report):
    """The lock at a path once it is ours, or None where the file system has no locks."""
    import filelock

    lock = filelock.FileLock(path, poll_interval=POLL_SECONDS, fallback_to_soft=False)
    try:
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            report(f"{path.parent}: waiting for {_holder(path)}, which is slicing there")
            lock.acquire()
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise UserError(
                f"{path.parent}: cannot be written to ({error.strerror}), but slicing puts its "
                "cache there; copy the dataset to a folder of yours"
            ) from error
        report(
            f"warning: {path.parent}: its file system has no locks ({error.strerror}); make sure "
            "that no other process slices there"
        )
        return None
    return lock


def _holder(path):
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"


def run_script(main):
    """Run `main()` as a script: a `UserError` becomes one line on stderr and exit status 2.

    So do a stdout that is closed or full. With a reader of the pipe that went away (`| head`) the
    script ends quietly.
    """
    _use_utf8()
    try:
        _open_streams()
        try:
            status = main()
        except SystemExit as end:
            status = end.code
        sys.stdout.flush()
    except UserError as error:
        _print_error(error)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        _drop_stdout()
        status = 141
    except OSError as error:
        if not _stdout_fails():
            raise
        _print_error(f"stdout: cannot be written ({error.strerror}); free some space")
        _drop_stdout()
        status = 2
    sys.exit(status or 0)


def _print_error(error):
    print(f"error: {error}", file=sys.stderr)


def _use_utf8():
    """Start again in Python's UTF-8 mode where the locale has another encoding, such as ASCII.

    There, names of files that an optfile or a checkpoint has in UTF-8 could not be opened.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes that the script starts, too
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _open_streams():
    """Let no stream be missing, but for stdin, which is None if it is closed.

    Else the first file that is opened would take its number, and get what is printed.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            if null > 2:
                os.close(null)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)
    if sys.stdout is None:
        raise UserError("stdout is closed; send it to /dev/null if it is not wanted")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files can be any bytes


def _stdout_fails():
    """Whether an error may come from stdout: flushing again would not tell, but a line does."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except OSError:
        return True
    return False


def _drop_stdout():
    """What is still to be written goes nowhere: Python must not complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
