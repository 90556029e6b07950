"""Reading and writing files so that nothing is ever lost, and the user's mistakes as one line.

Every file of the project is written aside and renamed into place, so a crash or a full disk at any
moment leaves either the old file or the new one. Mistakes that a user can mend are raised as
`UserError`; `run_script` turns them into one line on stderr and exit status 2.
"""

import contextlib
import os
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

# numpy is imported by the two functions that need it: every script passes through here on its way
# to `--help`, which should not take the quarter of a second that numpy takes.


class UserError(Exception):
    """A mistake the user can mend, as one line: which file, what is wrong, what to do."""


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
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
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


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_text(path, what="a text file"):
    """The text of a UTF-8 file; `what` says in the error line what it should be."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
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

    with write_aside(path) as temporary:
        np.savez(temporary, **arrays)


# What numpy and zipfile raise for files that are damaged or something else.
_DAMAGE = (
    *(OSError, ValueError, EOFError, AttributeError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


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
        When the file is missing, truncated, foreign, pickled, or lacks a required array.
    """
    import numpy as np

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected {what} there")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with archive:
            arrays = {name: archive[name] for name in archive.files}
    except _DAMAGE as error:
        raise UserError(
            f"{path}: not {what}, or damaged ({_first_line(error)}); make it again or remove it"
        ) from error
    missing = [name for name in required if name not in arrays]
    if missing:
        raise UserError(f"{path}: not {what}: it lacks {', '.join(missing)}")
    return arrays


def _first_line(error):
    return (str(error) or type(error).__name__).splitlines()[0][:100]


def run_script(main):
    """Run `main()` as a script: a `UserError` becomes one line on stderr and exit status 2."""
    try:
        status = main()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        # The reader of a pipe went away (`| head`); Python must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status or 0)
