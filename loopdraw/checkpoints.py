"""The files of a checkpoint, written all together or not at all.

A checkpoint is several files (two networks, two optimizers, the state of training). Each is
written aside, in a folder that is renamed when all are complete; then they move into place one by
one. A run killed between two of those moves is finished by whoever comes next.

Each file ends with a seal: a line in the comment of the zip archive that `torch.save` writes, which
`torch.load` passes over. It holds a checksum of the file, which shows damage, and the generation,
the same for all files of a checkpoint, which shows that files belong together. Files without a
seal (published ones, or from older versions) are checked as far as a zip archive can be.
"""

import contextlib
import errno
import hashlib
import math
import os
import re
import shutil
import time
import zipfile
from pathlib import Path

import torch

from loopdraw.files import UserError, first_line

PENDING = ".pending-"  # + label: a folder of complete files that have not all moved into place yet
SEAL = "LoopDraw checkpoint {generation} sha256 {digest}\n"
SEAL_FORM = re.compile(rb"LoopDraw checkpoint ([0-9a-f]{16}) sha256 ([0-9a-f]{64})\n")
SEAL_LENGTH = len(SEAL.format(generation=16 * "0", digest=64 * "0"))
END_OF_DIRECTORY = 22  # bytes of a zip archive's last record; the last two are the comment's length
# How often files of two generations are read again: they are while training puts new ones there.
TRIES, PAUSE = 10, 0.1


def checkpoint_label(epoch):
    """The epoch as file names have it: a number, or "latest" for -1."""
    return "latest" if epoch == -1 else str(epoch)


def save_states(folder, label, states):
    """Write tensors to the files of one checkpoint.

    Parameters
    ----------
    folder : folder of the checkpoint
    label : which checkpoint of that folder this is, such as "latest"
    states : dict of file name to what `torch.save` takes

    Raises
    ------
    UserError
        When the folder cannot be written to or the disk is full; the old files are untouched.
    """
    folder = Path(folder)
    finish_pending(folder)
    incomplete = folder / f".incomplete-{label}"
    try:
        shutil.rmtree(incomplete, ignore_errors=True)
        incomplete.mkdir(parents=True)
        for name, state in states.items():
            _save(state, incomplete / name)
        _seal([incomplete / name for name in states])
        os.replace(incomplete, folder / f"{PENDING}{label}")
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); free some space or choose another "
            "--save_dir"
        ) from error
    finally:
        shutil.rmtree(incomplete, ignore_errors=True)
    finish_pending(folder)


def _save(state, path):
    try:
        torch.save(state, path)
    except RuntimeError as error:
        # torch reports a full disk as a RuntimeError of its own zip writer.
        raise OSError(None, "the disk is full or failing") from error


def _seal(paths):
    """Add to each of these files what its checksum is, and which files it belongs to."""
    digests = []
    for path in paths:
        with open(path, "rb") as file:
            digests.append(_digest(file).digest())
    generation = hashlib.sha256(b"".join(digests)).hexdigest()[:16]
    for path in paths:
        with open(path, "r+b") as file:
            file.seek(-END_OF_DIRECTORY, os.SEEK_END)
            if file.read(4) != b"PK\5\6":
                raise AssertionError(f"{path}: torch.save has not written a plain zip archive")
            file.seek(-2, os.SEEK_END)
            file.write(SEAL_LENGTH.to_bytes(2, "little"))
            file.write(SEAL.format(generation=generation, digest="")[:-1].encode())
            digest = _digest(file)
            file.write(f"{digest.hexdigest()}\n".encode())
            file.flush()
            os.fsync(file.fileno())


def _digest(file, n_bytes=math.inf):
    """The SHA-256 object of an open file's bytes, or of the first of them."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(min(n_bytes, 2**20)):
        digest.update(block)
        n_bytes -= len(block)
    return digest


def finish_pending(folder):
    """Move the files of a completely written checkpoint into place, after an interruption too."""
    for pending in sorted(Path(folder).glob(f"{PENDING}*")):
        try:
            # A reader and the writer may both be at it: what is gone has been moved by the other.
            with contextlib.suppress(FileNotFoundError):
                for path in sorted(pending.iterdir()):
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(path, Path(folder) / path.name)
                pending.rmdir()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # otherwise the writer is at the next one already
                raise UserError(
                    f"{folder}: cannot be written to ({error.strerror}), but a checkpoint has to "
                    "be moved into place there; make it writable, or copy the folder"
                ) from error


def load_state(path, device="cpu"):
    """Read a file that `torch.save` wrote; tensors and plain values only.

    Returns
    -------
    dict

    Raises
    ------
    UserError
        When it is missing, damaged or no such file.
    """
    path = Path(path)
    return load_states(path.parent, [path.name], device)[path.name]


def load_states(folder, names, device="cpu"):
    """Read files of one checkpoint, all of the same generation, even while training saves.

    Parameters
    ----------
    folder : path
    names : names of the files
    device : torch.device or str

    Returns
    -------
    dict of name to dict

    Raises
    ------
    UserError
        When a file is missing or damaged, or they are of different checkpoints.
    """
    folder = Path(folder)
    for is_last in [False] * (TRIES - 1) + [True]:
        finish_pending(folder)
        states, generations = {}, set()
        for name in names:
            states[name], generation = _read(folder / name, device)
            generations.add(generation)
        if len(generations) == 1:
            return states
        if not is_last:
            time.sleep(PAUSE)
    # A file without a seal may have been written by the user's own program.
    if len(generations - {None}) > 1:
        raise UserError(
            f"{folder}: {', '.join(names)} are not of the same checkpoint; copy all files of one"
        )
    return states


def _read(path, device):
    """The content of a file, and its generation or None."""
    if not path.is_file():
        raise UserError(
            f"{path}: no such checkpoint; check --save_dir and --load_epoch, or train first"
        )
    try:
        # The file is opened once: training may put another in its place meanwhile.
        with open(path, "rb") as file:
            generation = _checked_generation(file)
            file.seek(0)
            state = torch.load(file, map_location=device, weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds no dictionary but {type(state).__name__}")
    except Exception as error:  # torch raises whatever a damaged file leads it into
        raise UserError(
            f"{path}: not a checkpoint, or damaged ({first_line(error)}); take another copy of it"
        ) from None
    return state, generation


def _checked_generation(file):
    """The generation that a file's seal names, or None; ValueError if the file is damaged."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - SEAL_LENGTH))
    seal = SEAL_FORM.fullmatch(file.read())
    if seal is not None:
        if _digest(file, size - len(seal[2]) - 1).hexdigest() != seal[2].decode():
            raise ValueError("its checksum is wrong")
        return seal[1].decode()
    file.seek(0)
    if file.read(2) == b"PK":
        with zipfile.ZipFile(file) as archive:
            if sum(record.file_size for record in archive.infolist()) > size:
                raise ValueError("its records are larger than the file")
            damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"the checksum of its record {damaged} is wrong")
    return None
