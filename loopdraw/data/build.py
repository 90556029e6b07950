"""A folder of meshes becomes a dataset: `preprocessed_cache.npz`, one loop sequence a mesh.

If a folder has a cache, the cache is its dataset. Else its `*.obj` files are sliced with the planes
of its `planespec.txt`. A run that is ended, in whatever way, is resumed by the next one, which
comes to the same arrays as a single run. Meshes that fail are skipped and listed in
`failed_meshes.txt` of the dataset.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from loopdraw.data.cache import CACHE_FILE, PLANESPEC_FILE, CachedLoops, load_cache, read_planespec
from loopdraw.data.progress import FAILED_FILE, SlicingProgress
from loopdraw.data.slicing_run import SlicingTask, slice_files
from loopdraw.files import UserError, load_npz, save_npz
from loopdraw.folder_lock import folder_lock
from loopdraw.loops.mesh_files import load_mesh
from loopdraw.loops.representations import REPRESENTATIONS

__all__ = [
    "CachedLoops",
    "build_or_load_cache",
    "load_cache",
    "load_or_sample_point_clouds",
    "read_planespec",
]

POINT_CLOUDS_FILE = "preprocessed_sampled_point_clouds.npz"
N_POINTS = 2048


def build_or_load_cache(
    folder,
    representation_name,
    use_eos_token=False,
    num_workers=None,
    mesh_timeout=120.0,
    dask_scheduler=None,
    report=print,
):
    """The cache of a folder; its meshes are sliced where there is none yet.

    Parameters
    ----------
    folder : a split of a dataset, with a cache, or with `planespec.txt` and `*.obj` files
    representation_name : a key of `representations.REPRESENTATIONS`
    use_eos_token : close each sequence with an end-of-sequence timestep; what an existing cache
        holds stays as it is, with a warning where this disagrees
    num_workers : processes to slice with; None or 0: one a core
    mesh_timeout : seconds after which a mesh counts as failed
    dask_scheduler : address of a Dask scheduler to slice with, or None
    report : function that gets lines of text

    Returns
    -------
    CachedLoops

    Raises
    ------
    UserError
        When there is nothing to read or slice, a file is not as it must be, or all meshes failed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it must hold planespec.txt and *.obj files")
    cache = folder / CACHE_FILE
    if not cache.exists():
        planes = read_planespec(folder)
        if use_eos_token and not REPRESENTATIONS[representation_name].has_flag:
            raise UserError(
                f"--use_eos_token: {representation_name} loops have no flag to mark the end of a "
                "sequence with; leave it out, or choose another --loop_repr_type"
            )
        task = SlicingTask(planes, representation_name, use_eos_token, mesh_timeout)
        with folder_lock(folder, report):
            if not cache.exists():  # else another process made it while this one waited
                _slice_folder(folder, task, num_workers, dask_scheduler, report)
    cached = load_cache(cache, representation_name)
    if cached.has_eos and not use_eos_token:
        report(f"warning: {cache}: its sequences end with EOS timesteps; --use_eos_token is off")
    elif use_eos_token and not cached.has_eos:
        report(f"warning: {cache}: its sequences have no EOS timesteps; --use_eos_token is on")
    if change := _change_since(cached, folder):
        report(f"warning: {cache}: {change} since it was made; remove it to slice again")
    return cached


def _change_since(cached, folder):
    """What has changed in a dataset folder since its cache was made, or None."""
    if (folder / PLANESPEC_FILE).exists():
        planes = read_planespec(folder)
        if planes.shape != cached.planes.shape or not np.allclose(planes, cached.planes):
            return f"{PLANESPEC_FILE} has changed"
    if cached.filenames is None:
        return None
    failed = folder.parent / FAILED_FILE
    names = cached.filenames + (failed.read_text().splitlines() if failed.exists() else [])
    known = {Path(name).name for name in names}
    new = sorted(path.name for path in folder.rglob("*.obj") if path.name not in known)
    return f"{len(new)} meshes have come, {new[0]} first," if new else None


def _slice_folder(folder, task, num_workers, dask_scheduler, report):
    """Slice the meshes of a folder into its cache, with a progress bar on stderr."""
    for leftover in folder.glob(".preprocessed_cache*.npz"):
        leftover.unlink(missing_ok=True)  # of a process that was killed while it wrote
    progress = SlicingProgress(folder, task)
    remaining = progress.paths[progress.next_index :]
    results = slice_files(remaining, task, num_workers, dask_scheduler)
    bar = tqdm(
        results,
        desc=f"slicing {folder.name}",
        total=len(progress.paths),
        initial=progress.next_index,
        unit="mesh",
        mininterval=0.1 if sys.stderr.isatty() else 10,
    )
    with contextlib.closing(results), bar:
        try:
            for sliced in bar:
                progress.add(sliced)
                progress.save_if_due()
        except BaseException:  # Ctrl-C among them
            progress.save_partial()
            raise
    progress.finish()
    for line in progress.summary():
        report(line)


def load_or_sample_point_clouds(folder, filenames, n_meshes):
    """Points on the surfaces of a folder's meshes, for PointNet encoders.

    They are read from `preprocessed_sampled_point_clouds.npz`, which is made where it is missing:
    2048 points a mesh, uniformly by area, with a fixed seed.

    Parameters
    ----------
    folder : a split of a dataset
    filenames : list of str, the meshes in the order of the cache, or None when it does not say
    n_meshes : int, how many the cache has

    Returns
    -------
    points, normals : (n_meshes, 2048, 3) float32

    Raises
    ------
    UserError
        When the file does not fit the cache, or is missing as well as a mesh.
    """
    path = Path(folder) / POINT_CLOUDS_FILE
    if not path.exists():
        if filenames is None:
            raise UserError(
                f"{path}: no such file, and the cache beside it does not name the meshes to make "
                "it from; remove the cache to slice the meshes again"
            )
        meshes = [_find_mesh(Path(folder), name) for name in filenames]
        bar = tqdm(meshes, desc="sampling surfaces", unit="mesh")
        clouds = [_sample_surface(mesh, seed) for seed, mesh in enumerate(bar)]
        points, normals = np.stack(clouds, axis=1).astype(np.float32)
        save_npz(path, points=points, normals=normals)
    arrays = load_npz(path, ("points", "normals"), what="a file of sampled point clouds")
    for name in ("points", "normals"):
        if arrays[name].shape != (n_meshes, N_POINTS, 3) or not np.isfinite(arrays[name]).all():
            raise UserError(
                f"{path}: its {name} are {arrays[name].shape}, not finite numbers "
                f"({n_meshes}, {N_POINTS}, 3) as the cache needs; remove it to sample again"
            )
    return arrays["points"].astype(np.float32), arrays["normals"].astype(np.float32)


def _find_mesh(folder, name):
    """The mesh that a cache names, by a path from wherever it was made."""
    parts = Path(name).parts
    for path in (Path(name), *(folder.joinpath(*parts[i:]) for i in range(1, len(parts)))):
        if path.is_file():
            return path
    raise UserError(
        f"{name}: no such mesh in {folder}; put it there, or {POINT_CLOUDS_FILE}, which is made "
        "from the meshes"
    )


def _sample_surface(path, seed):
    """Points and normals (2, 2048, 3) on a mesh."""
    import trimesh  # takes half a second, which only PointNet users should wait

    mesh = trimesh.Trimesh(*load_mesh(path), process=False)
    points, faces = trimesh.sample.sample_surface(mesh, N_POINTS, seed=seed)
    return np.stack([points, mesh.face_normals[faces]])
