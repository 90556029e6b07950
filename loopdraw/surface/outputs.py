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
folder: each claims a name before it writes to it. A claim says whose it is, and is touched as long
as it is held, so that others can tell when its program was killed.
"""

import contextlib
import fcntl
import itertools
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loopdraw.files import UserError, process_tag, tag_lives, write_aside
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
MESH_ENDINGS = (".obj", ".glb", ".ply", ".stl")
TOUCH_SECONDS = 30  # between two touches of a claim that is held
# A claim that nobody has touched for so long was left by a program of another machine.
LEFT_SECONDS = 600

_held = set()  # paths of the claims of this process
_toucher = None  # the thread that touches them
_holding = threading.Lock()  # of both

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
        name, claim = next(
            (name, claim)
            for name in _names(folder, label)
            if not _is_used(folder, name) and (claim := _claim(folder, name, ENDINGS))
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{folder}: cannot be written to ({reason}); free some space or choose another "
            "--save_dir"
        ) from error
    if label is None:
        _next[folder] = int(name) + 1
    with _touched(claim):
        yield folder / f"inference-{name}"


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
    claim = _claim(folder, number, MESH_ENDINGS, owner)
    if claim is None:
        what = "there already" if is_present(folder, number) else "being made"
        raise NumberTaken(f"{folder}: inference-{number} is {what}")
    with _touched(claim):
        yield folder / f"inference-{number}"


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
    _remove_left_claims(folder)
    numbers = (re.match(r"inference-(\d+)[.-]", entry.name) for entry in os.scandir(folder))
    return max((int(number[1]) for number in numbers if number), default=-1) + 1


class _Claim(NamedTuple):
    path: Path
    text: str  # whose it is


def _claim(folder, name, done, owner=""):
    """Claim a name; None where another program has claimed or used it.

    `done` are the endings of the files that show, where the claim was left by a program that was
    killed, that it had finished.
    """
    claim = _Claim(folder / CLAIM.format(name), f"{process_tag()} {owner}")
    try:
        handle = os.open(claim.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.write(handle, claim.text.encode())
        os.close(handle)
        done = ENDINGS
    except FileExistsError:
        before = _take_over(claim, owner)
        if before is None:
            return None
        if owner and _owner(before) == owner:
            done = ()  # the same shape is made again
    # Another program may have saved, and given its claim back, since the folder was listed.
    if _is_used(folder, name, done):
        claim.path.unlink(missing_ok=True)
        return None
    return claim


def _take_over(claim, owner=""):
    """Make a claim that was left behind one's own: what it said before, or None if it is held."""
    try:
        with open(claim.path, "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of several programs, one gets it
            now = os.fstat(file.fileno())
            before = file.read()
            if not os.path.samestat(now, claim.path.stat()):  # given back, and claimed anew
                return None
            if not (owner and _owner(before) == owner or _is_left(claim.path, before)):
                return None
            file.seek(0)
            file.write(claim.text)
            file.truncate()
            return before
    except OSError:  # it has been given back, is being taken over, or the disk has no locks
        return None


def _owner(text):
    return text.partition(" ")[2]


def _is_left(path, text):
    """Whether the program that holds a claim, by its text, was killed."""
    lives = tag_lives(text.partition(" ")[0])
    if lives is None:
        # By the clock of the disk, which may be another machine's.
        with tempfile.TemporaryFile(dir=path.parent) as file:
            return os.fstat(file.fileno()).st_mtime - path.stat().st_mtime > LEFT_SECONDS
    return not lives


@contextlib.contextmanager
def _touched(claim):
    """Hold a claim for the block, then give it back."""
    global _toucher
    with _holding:
        _held.add(claim.path)
        if _toucher is None:
            _toucher = threading.Thread(target=_touch_held, daemon=True)
            _toucher.start()
    try:
        yield
    finally:
        with _holding:
            _held.discard(claim.path)
        with contextlib.suppress(FileNotFoundError):
            if claim.path.read_text(encoding="utf-8") == claim.text:
                claim.path.unlink()


def _touch_held():
    """Touch the claims of this process, as long as there are any."""
    global _toucher
    while True:
        time.sleep(TOUCH_SECONDS)
        with _holding:
            if not _held:
                _toucher = None
                return
            for path in _held:
                with contextlib.suppress(OSError):
                    os.utime(path)


def _is_claimed(folder, name):
    return (folder / CLAIM.format(name)).exists()


def _is_used(folder, name, endings=ENDINGS):
    return any((folder / f"inference-{name}{ending}").exists() for ending in endings)


def _remove_left_claims(folder):
    """Those of names without any file: the others tell that their shapes are not finished."""
    for path in folder.glob(CLAIM.format("*")):
        name = re.fullmatch(CLAIM.format("(.*)"), path.name)[1]
        claim = _Claim(path, f"{process_tag()} ")
        if not _is_used(folder, name) and _take_over(claim) is not None:
            path.unlink(missing_ok=True)


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
