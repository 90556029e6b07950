"""A folder of meshes becomes a dataset: `preprocessed_cache.npz`, one loop sequence per mesh.

If a folder has a cache, the cache is used. Otherwise its `*.obj` files are sliced with the planes
of its `planespec.txt`. A run that is stopped, for whatever reason, is continued by the next one,
with the same result as a single run. Meshes that fail are skipped and listed in the dataset's
`failed_meshes.txt`.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from loopdraw.data.cache import CACHE_FILE, PLANESPEC_FILE, load_cache, read_planespec
from loopdraw.data.progress import FAILED_FILE, SlicingProgress
from loopdraw.data.slicing_run import SlicingTask, slice_files
from loopdraw.files import UserError, folder_lock
from loopdraw.loops.representations import REPRESENTATIONS


def build_or_load_cache(
    folder,
    representation_name,
    use_eos_token=False,
    num_workers=None,
    mesh_timeout=120.0,
    dask_scheduler=None,
    report=print,
):
    """The cache of a folder. If there is none yet, the meshes are sliced.

    Parameters
    ----------
    folder : a split of a dataset, with a cache, or with `planespec.txt` and `*.obj` files
    representation_name : a key of `representations.REPRESENTATIONS`
    use_eos_token : close each sequence with an end-of-sequence timestep; an existing cache stays as
        it is, with a warning if it disagrees
    num_workers : processes to slice with; None or 0: one per core
    mesh_timeout : seconds after which a mesh counts as failed
    dask_scheduler : address of a Dask scheduler to slice with, or None
    report : function that gets lines of text

    Returns
    -------
    CachedLoops

    Raises
    ------
    UserError
        When there is nothing to read or slice, a file is not valid, or all meshes failed.
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
            if not cache.exists():  # otherwise another process made it while this one waited
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
