"""The files that `--save` writes, and their names: nothing is ever overwritten.

==========================  =====================================================================
file                        content
==========================  =====================================================================
`inference-#.obj`           the mesh; other endings with `--save_format`
`inference-#-latent.txt`    the latent, as written by `numpy.savetxt`; not for items of the dataset
                            and given sequences
`inference-#-slices.npz`    the loops
==========================  =====================================================================

For new shapes # is a number, one more than the highest present. For others it is a label: gt<i>,
reco<i>, seqviz, and if that is taken gt<i>-1, gt<i>-2 and so on. Several programs may save into one
folder: each claims a name before it writes to it.
"""

import contextlib
import itertools
import os
import re
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from loopdraw.files import UserError, write_aside
from loopdraw.loops.mesh_files import save_mesh
from loopdraw.loops.slices_files import save_slices
from loopdraw.surface.export import export_shape

# The mesh is written last: if it is there, so are the others.
SUFFIXES = ("-slices.npz", "-latent.txt", ".obj")
MESH_FORMATS = ("obj",)  # by default

# What programs of ours write beside a number, as a claim checks it without listing the folder. The
# rest comes with one of these.
ENDINGS = (
    *SUFFIXES,
    ".glb",
    ".ply",
    ".stl",
    ".png",
    ".gif",
    ".html",
    "-edit.json",
    "-intervention.py",
)
CLAIM = ".inference-{}.claim"
LEFT_SECONDS = 24 * 3600  # a claim that is older was left by a program that was killed
LEFT_OWNED_SECONDS = 600  # likewise, where a claim says whose it is: no shape takes as long

_next = {}  # folder -> the number after the last one that this process has claimed there


class Saving(NamedTuple):
    """How a shape is saved."""

    claim: Callable  # () -> context manager of the path to write to, as `claimed_stem`
    write: Callable  # (stem, mesh=mesh) -> path of the mesh; can be sent to another process
    before: Callable | None = None  # (stem), writes what else belongs to the shape


@contextlib.contextmanager
def claimed_stem(folder, label=None):
    """Yield a path `<folder>/inference-#`, without a suffix, that no file uses yet.

    Nobody else gets it as long as the block lasts, nor afterwards if the block writes a file of
    that name. If it writes none, the name is free again.

    Parameters
    ----------
    folder : Path; it is made where it does not exist
    label : str, or None for the next number

    Raises
    ------
    UserError
        When the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name = next(name for name in _names(folder, label) if _claim(folder, name))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{folder}: cannot be written to ({reason}); free some space or choose another "
            "--save_dir"
        ) from error
    if label is None:
        _next[folder] = int(name) + 1
    try:
        yield folder / f"inference-{name}"
    finally:
        (folder / CLAIM.format(name)).unlink(missing_ok=True)


class NumberTaken(UserError):
    """The files of a number are there, or another program is making them."""


@contextlib.contextmanager
def claimed_number(folder, number, owner):
    """As `claimed_stem`, but for this very number.

    Parameters
    ----------
    folder : Path
    number : int
    owner : str, of the claim; one that an owner left behind is taken up by the same owner

    Raises
    ------
    NumberTaken
        When the number is used, or claimed by somebody else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    claim = folder / CLAIM.format(number)
    try:
        handle = os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.write(handle, owner.encode())
        os.close(handle)
        if _is_used(folder, number):
            claim.unlink(missing_ok=True)
            raise NumberTaken(f"{folder}: inference-{number} is there already")
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):  # it has been given back
            left = time.time() - claim.stat().st_mtime > LEFT_OWNED_SECONDS
            holder = claim.read_text(encoding="utf-8")
            if holder != owner and not (holder and left):
                raise NumberTaken(f"{folder}: inference-{number} is being made") from None
    try:
        yield folder / f"inference-{number}"
    finally:
        claim.unlink(missing_ok=True)


def numbers_present(folder):
    """The numbers of the shapes in a folder, a set of int, but for those that are being made."""
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return set()
    claimed = (re.fullmatch(CLAIM.format(r"(\d+)"), name) for name in names)
    numbers = (re.match(r"inference-(\d+)[.-]", name) for name in names)
    return {int(n[1]) for n in numbers if n} - {int(n[1]) for n in claimed if n}


def is_present(folder, number):
    """Whether a number is among `numbers_present`."""
    return _is_used(folder, number) and not _is_claimed(folder, number)


def _names(folder, label):
    """What may stand for #, one after the other."""
    if label is None:
        yield from map(str, itertools.count(_first_number(folder)))
    for again in itertools.count():
        yield label + (f"-{again}" if again else "")


def _first_number(folder):
    """One more than the highest number present. Listing a folder of many shapes takes long, so
    where our own last one is still there, the next one follows it.
    """
    number = _next.get(folder, 0)
    if number and (_is_used(folder, number - 1) or _is_claimed(folder, number - 1)):
        return number
    _remove_old_claims(folder)
    numbers = (re.match(r"inference-(\d+)[.-]", entry.name) for entry in os.scandir(folder))
    return max((int(number[1]) for number in numbers if number), default=-1) + 1


def _claim(folder, name):
    """Claim a name; False where another program has claimed or used it."""
    claim = folder / CLAIM.format(name)
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    # Another program may have saved, and given its claim back, since the folder was listed.
    if _is_used(folder, name):
        claim.unlink(missing_ok=True)
        return False
    return True


def _is_claimed(folder, name):
    return (folder / CLAIM.format(name)).exists()


def _is_used(folder, name):
    return any((folder / f"inference-{name}{ending}").exists() for ending in ENDINGS)


def _remove_old_claims(folder):
    oldest = time.time() - LEFT_SECONDS
    for path in folder.glob(CLAIM.format("*")):
        with contextlib.suppress(OSError):  # another program may remove it, too
            if path.is_file() and path.stat().st_mtime < oldest:
                path.unlink()


def save_shape(stem, planes, loops_by_plane, mesh, z=None, formats=(), mesh_formats=MESH_FORMATS):
    """Write the files of a shape.

    Parameters
    ----------
    stem : Path, from `claimed_stem`
    planes : (P, 4, 3) float
    loops_by_plane : list of P lists of (k, 2) float loops
    mesh : vertices (n, 3) float, faces (m, 3) int
    z : (L,) float or None
    formats : names of export.FORMATS, to write as well
    mesh_formats : endings of mesh_files.MESH_FORMATS, without their points

    Returns
    -------
    Path of the mesh, the first of them

    Raises
    ------
    UserError
        When a file cannot be written.
    """
    slices, latent = (stem.with_name(stem.name + suffix) for suffix in SUFFIXES[:2])
    meshes = [stem.with_name(f"{stem.name}.{kind}") for kind in mesh_formats]
    save_slices(slices, planes, loops_by_plane)
    if z is not None:
        with write_aside(latent) as temporary:
            np.savetxt(temporary, z)
    export_shape(stem, planes, loops_by_plane, mesh, formats)
    for path in meshes:
        save_mesh(path, *mesh)
    return meshes[0]
