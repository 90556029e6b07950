"""A folder of meshes as they come becomes a dataset folder, ready for slicing and training.

The work goes on beside the dataset, in a hidden folder with lists of what is done. So a run that is
stopped is continued by the next one, and the dataset appears whole or not at all.
"""

import contextlib
import hashlib
import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from loopdraw.data.build import longest_without_outliers
from loopdraw.data.cache import PLANESPEC_FILE
from loopdraw.data.prepare.journal import Journal, stamps
from loopdraw.data.prepare.one_mesh import (
    CutMesh,
    Cutting,
    Failure,
    Reading,
    ReadMesh,
    cut_one,
    read_one,
    set_up_path,
)
from loopdraw.data.prepare.report import SHEET_FILE, THE_SAME, PreparedDataset, write_reports
from loopdraw.data.slicing_run import work_on_files
from loopdraw.files import UserError, folder_lock, write_text
from loopdraw.loops.geometry import MOST_PLANES, SCAN_FRAMES, make_planes
from loopdraw.loops.mesh_files import UPS, load_mesh, turn_upright
from loopdraw.loops.slicing import slice_mesh

SIZES = ("longest", "axis")
ALIKE = 1e-5  # two meshes are the same if none of their moments differs by more
N_DRAWN = 24  # meshes on the contact sheet


def prepare(
    source,
    folder,
    axis="y",
    planes=32,
    test=0.1,
    up=None,
    size="longest",
    max_loops=None,
    seed=0,
    num_workers=None,
    mesh_timeout=120.0,
    dask_scheduler=None,
    report=print,
):
    """Make a dataset folder of a folder of meshes, in any formats that trimesh reads.

    Meshes are turned upright, centred and scaled. Those that cannot be used, and all but one of
    those that are the same, are left out, each with its reason. The planes are fitted to the rest,
    which are split into `train/` and `test/`.

    Parameters
    ----------
    source : path of a folder with meshes, also in subfolders; nothing in it changes
    folder : path of the dataset, missing or empty. In it, `report.txt`, `left_out.txt` and
        `contact-sheet.png` say what became of the meshes.
    axis : "x", "y" or "z", along which the planes follow each other
    planes : int, how many planes
    test : float, share of the meshes that are kept for tests; with 0 there is no folder `test/`
    up : the direction that is up in the files: "x", "y" or "z", or with a minus as "-z". It is
        turned to `axis`. By default it is that already.
    size : which side of a mesh becomes 1: the "longest", or that along the "axis"
    max_loops : int; meshes with more are left out. None: all are taken
    seed : int; another one splits the meshes differently
    num_workers : int, processes; None: one per core
    mesh_timeout : float, seconds after which a mesh is left out
    dask_scheduler : address of a Dask scheduler to work with, or None. Its workers must reach both
        folders under the same paths.
    report : function that gets lines of text while the work goes on

    Returns
    -------
    PreparedDataset

    Raises
    ------
    UserError
        When a value is wrong, the source has no meshes that can be used, or the folder is not
        empty.
    """
    start = time.perf_counter()
    _check(axis, planes, test, up, size)
    source, folder = Path(source).absolute(), Path(folder).absolute()
    _check_folders(source, folder)
    paths, other_files = find_meshes(source)
    aside = folder.with_name(f".{folder.name}-unfinished")
    task = Reading(str(source), str(aside / "set-up"), axis, up or axis, size, mesh_timeout)
    workers = {"num_workers": num_workers, "dask_scheduler": dask_scheduler}
    with _as_user_errors(folder):
        aside.mkdir(parents=True, exist_ok=True)
        with folder_lock(aside, report):
            read = _read_all(paths, task, aside, workers)
            left_out = {path: mesh.reason for path, mesh in read.items() if mesh.reason}
            left_out |= find_same(read, source)
            kept = _kept(paths, left_out, source)
            spec = fit_planes([read[path].sides for path in kept], axis, planes)
            cut = _cut_all(kept, task, spec, aside, workers)
            left_out |= {path: mesh.reason for path, mesh in cut.items() if mesh.reason}
            left_out |= {
                path: f"{mesh.n_loops} loops, more than --max_loops {max_loops}"
                for path, mesh in cut.items()
                if max_loops is not None and mesh.n_loops > max_loops
            }
            kept = _kept(kept, left_out, source)
            prepared = PreparedDataset(
                source=source,
                folder=folder,
                planespec=spec,
                left_out=left_out,
                other_files=other_files,
                meshes={path: (read[path], cut[path]) for path in kept},
                names=choose_names(kept, source),
                tested=choose_tests(kept, source, test, seed),
                limit=longest_without_outliers([cut[path].n_loops for path in kept]),
                size=size,
                seconds=0.0,
            )
            _assemble(prepared, task, aside / "dataset", start)
            if folder.is_dir():
                folder.rmdir()
            os.replace(aside / "dataset", folder)
            shutil.rmtree(aside, ignore_errors=True)
    return prepared


def _check(axis, planes, test, up, size):
    known = {"axis": (axis, tuple(SCAN_FRAMES)), "up": (up or axis, UPS), "size": (size, SIZES)}
    for name, (value, values) in known.items():
        if value not in values:
            raise UserError(f"prepare: {name} {value!r} is none of {', '.join(values)}")
    if not 2 <= planes <= MOST_PLANES:
        raise UserError(f"prepare: {planes} planes; take from 2 to {MOST_PLANES}")
    if not 0 <= test < 1:
        raise UserError(f"prepare: test {test} is no share from 0 to less than 1")


def _check_folders(source, folder):
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; it must hold the meshes")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder}: is there already, and nothing in it is overwritten; "
            "name another folder, or remove this one first"
        )
    if source.resolve() in [folder.resolve(), *folder.resolve().parents]:
        raise UserError(f"{folder}: lies within {source}; name a folder elsewhere")


@contextlib.contextmanager
def _as_user_errors(folder):
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); "
            "free some space or name another folder"
        ) from error


def find_meshes(source):
    """The mesh files in a folder and its subfolders, and the endings of all other files.

    Returns
    -------
    paths : list of str, sorted
    others : Counter of str

    Raises
    ------
    UserError
        When there are no mesh files.
    """
    from trimesh.exchange.load import mesh_formats

    endings = {f".{name}" for name in mesh_formats()}
    paths, others = [], Counter()
    for path in Path(source).rglob("*"):
        if path.is_dir():
            continue
        ending = path.suffix.lower()
        if ending in endings:
            paths.append(str(path))
        else:
            others[ending or "without an ending"] += 1
    if not paths:
        found = ", ".join(f"{count} {ending}" for ending, count in others.most_common(8))
        raise UserError(
            f"{source}: no meshes there"
            + (f", only {found}" if found else "")
            + f"; what can be read is {', '.join(sorted(endings))}"
        )
    return sorted(paths), Counter(dict(sorted(others.items())))


def _read_all(paths, task, aside, workers):
    """A `ReadMesh` for each path. Meshes that an earlier run has set up are not read again."""
    settings = task._replace(timeout=0)._asdict()
    journal = Journal(aside / "read.txt", ReadMesh, settings)
    done = {path for path in paths if journal.has(path) and set_up_path(path, task).exists()}
    _work_through(journal, paths, done, read_one, task, "reading", workers)
    return {path: journal.results[path] for path in paths}


def _cut_all(paths, task, planespec, aside, workers):
    """A `CutMesh` for each path of a mesh that is set up."""
    set_up = {path: str(set_up_path(path, task)) for path in paths}
    journal = Journal(aside / "cut.txt", CutMesh, {"planespec": planespec})
    done = {path for path in set_up.values() if journal.has(path)}
    cutting = Cutting(planespec, task.timeout)
    _work_through(journal, list(set_up.values()), done, cut_one, cutting, "slicing", workers)
    return {path: journal.results[set_up[path]] for path in paths}


def _work_through(journal, paths, done, work, task, title, workers):
    """Do the work on all paths that are not done, with a progress bar on stderr."""
    from tqdm import tqdm

    left = [path for path in paths if path not in done]
    stamped = stamps(left)
    results = work_on_files(work, Failure(journal.kind), left, task, **workers)
    bar = tqdm(
        results,
        desc=title,
        total=len(paths),
        initial=len(done),
        unit="mesh",
        mininterval=0.1 if sys.stderr.isatty() else 10,
    )
    with contextlib.closing(journal), contextlib.closing(results), bar:
        for path, result in zip(left, bar, strict=True):
            if result.reason is not None and result.ends_the_run:
                raise UserError(result.reason)
            journal.add(path, result, stamped[path])


def find_same(read, source):
    """Which meshes are the same as one before them, with that one's name as the reason.

    Parameters
    ----------
    read : dict, path -> ReadMesh
    source : Path

    Returns
    -------
    dict, path -> reason
    """
    from scipy.spatial import KDTree

    paths = [path for path, mesh in read.items() if mesh.reason is None]
    if not paths:
        return {}
    moments = np.array([read[path].moments for path in paths])
    near = KDTree(moments).query_ball_point(moments, ALIKE, p=np.inf)
    same = {}
    for i, others in enumerate(near):
        firsts = [j for j in others if j < i and paths[j] not in same]
        if firsts:
            same[paths[i]] = f"{THE_SAME} {os.path.relpath(paths[min(firsts)], source)}"
    return same


def _kept(paths, left_out, source):
    kept = [path for path in paths if path not in left_out]
    if not kept:
        first = next(path for path in paths if path in left_out)
        raise UserError(
            f"{source}: none of its {len(left_out)} meshes can be used; the first, {first}: "
            f"{left_out[first]}"
        )
    return kept


def fit_planes(sides, axis, n_planes):
    """The planes for meshes that are centred: in the middles of as many equal slabs of the tallest.

    Parameters
    ----------
    sides : list of (3,) float
    axis : "x", "y" or "z"
    n_planes : int

    Returns
    -------
    (axis, n_planes, position of the first plane, position of the last)
    """
    tallest = np.array(sides)[:, "xyz".index(axis)].max()
    last = float(np.round(tallest / 2 * (1 - 1 / n_planes), 4))
    return axis, n_planes, -last, last


def choose_names(paths, source):
    """A name ending in `.obj` for each path, in the same subfolder: a dict path -> Path."""
    names, taken = {}, set()
    relative = {path: Path(os.path.relpath(path, source)) for path in paths}
    wanted = Counter(str(path.with_suffix(".obj")).casefold() for path in relative.values())
    for path, inner in relative.items():
        name = inner.with_suffix(".obj")
        if wanted[str(name).casefold()] > 1 and inner.suffix != ".obj":
            name = inner.with_name(f"{inner.stem}-{inner.suffix[1:]}.obj")
        number = 2
        while str(name).casefold() in taken:
            name, number = name.with_name(f"{inner.stem}-{number}.obj"), number + 1
        taken.add(str(name).casefold())
        names[path] = name
    return names


def choose_tests(paths, source, share, seed):
    """The paths of the meshes for tests.

    A mesh keeps its place when others come or go, but for the few that keep the share right.

    Returns
    -------
    set of str
    """
    n_tests = min(max(round(share * len(paths)), int(share > 0)), len(paths) - 1)

    def drawn(path):
        name = os.fsencode(f"{seed}:{os.path.relpath(path, source)}")
        return hashlib.sha256(name).digest()

    return set(sorted(paths, key=drawn)[:n_tests])


def _assemble(prepared, task, folder, start):
    """Put the dataset together in a new folder."""
    from loopdraw.data.prepare.drawing import save_contact_sheet

    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped here
    folder.mkdir()
    save_contact_sheet(folder / SHEET_FILE, _drawings(prepared, task))
    for split in ("train", "test") if prepared.tested else ("train",):
        spec = "".join(f"{value}\n" for value in prepared.planespec)
        write_text(folder / split / PLANESPEC_FILE, spec)
    for path in prepared.meshes:
        target = folder / prepared.place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(set_up_path(path, task), target)
    prepared.seconds = time.perf_counter() - start
    write_reports(prepared, folder)


def _drawings(prepared, task):
    """Meshes to draw by their loops, evenly chosen from the one with the fewest to the most."""
    counts = {path: cut.n_loops for path, (_, cut) in prepared.meshes.items()}
    ordered = sorted(counts, key=lambda path: (counts[path], path))
    chosen = np.linspace(0, len(ordered) - 1, min(N_DRAWN, len(ordered))).round().astype(int)
    planes = make_planes(*prepared.planespec)
    # Pictures are seen with y upwards.
    shown = turn_upright(planes, prepared.planespec[0], "y")
    drawings = []
    for path in (ordered[i] for i in chosen):
        loops = slice_mesh(*load_mesh(set_up_path(path, task)), planes).loops_by_plane
        drawings.append(([str(prepared.names[path]), f"{counts[path]} loops"], shown, loops))
    return drawings
