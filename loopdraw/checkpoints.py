"""The files of a checkpoint, written all together or not at all.

A checkpoint is several files (two networks, two optimizers, the state of training). Each is
written aside, in a folder that is renamed when all are complete; then they move into place one by
one. A run killed between two of those moves is finished by whoever comes next, so the files of two
epochs are never mixed.
"""

import contextlib
import os
import pickle
import shutil
from pathlib import Path

import torch

from loopdraw.files import UserError, write_aside

PENDING = ".pending-"  # + label: a folder of complete files that have not all moved into place yet


def checkpoint_label(epoch):
    """The epoch as file names have it: a number, or "latest" for -1 and None."""
    return "latest" if epoch in (None, -1) else str(epoch)


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
            with write_aside(incomplete / name) as temporary:
                _save(state, temporary)
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


def finish_pending(folder):
    """Move the files of a completely written checkpoint into place, after an interruption too."""
    for pending in sorted(Path(folder).glob(f"{PENDING}*")):
        # A reader and the writer may both be at it: what is gone has been moved by the other.
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(pending.iterdir()):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(path, Path(folder) / path.name)
            pending.rmdir()


def load_state(path, device="cpu"):
    """Read a file that `torch.save` wrote; tensors and plain values only.

    Raises
    ------
    UserError
        When it is missing, damaged or no such file.
    """
    path = Path(path)
    finish_pending(path.parent)
    if not path.is_file():
        raise UserError(
            f"{path}: no such checkpoint; check --save_dir and --load_epoch, or train first"
        )
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:80]
        raise UserError(
            f"{path}: not a checkpoint, or damaged ({reason}); take another copy of it"
        ) from None
