"""One process at a time works on a folder."""

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path

from loopdraw.files import UserError

LOCK_FILE = ".slicing-lock"
POLL_SECONDS = 0.2


@contextlib.contextmanager
def folder_lock(folder, report=print):
    """Hold the lock of a folder; wait for it, saying who holds it, while another process does.

    The lock is the kernel's (`flock`) on a small file, so it ends with the process that holds it,
    however that ends: there are no stale locks to clean up. The file says who holds it.

    Raises
    ------
    UserError
        When the folder cannot be written to.
    """
    path = Path(folder) / LOCK_FILE
    has_waited = False
    while (handle := _try_lock(path)) is None:
        if not has_waited:
            report(f"{folder}: waiting for {_holder(path)}, which is slicing there")
            has_waited = True
        time.sleep(POLL_SECONDS)
    with handle:
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        handle.flush()
        try:
            yield
        finally:
            # Removed while still locked; whoever opened it meanwhile notices (`_try_lock`).
            path.unlink(missing_ok=True)


def _try_lock(path):
    """The locked lock file, or None when another process holds it."""
    try:
        handle = open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path.parent}: cannot be written to ({error.strerror}), but slicing puts its cache "
            "there; copy the dataset to a folder of yours"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle.fileno()).st_ino == os.stat(path).st_ino:
            return handle
    except OSError:
        pass  # locked by another process, or removed by it since it was opened
    handle.close()
    return None


def _holder(path):
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
