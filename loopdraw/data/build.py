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

from loopdraw.data.cache import (
    CACHE_FILE,
    PLANESPEC_FILE,
    file_stamp,
    load_cache,
    read_planespec,
)
from loopdraw.data.progress import SlicingProgress, first_few, read_failures
from loopdraw.data.slicing_run import SlicingTask, slice_files
from loopdraw.files import UserError, folder_lock, remove_leftovers
from loopdraw.loops.representations import REPRESENTATIONS

# Meshes are outliers if they are at most this share, and make all sequences so many times as long.
OUTLIER_SHARE, OUTLIER_FACTOR = 0.02, 3
COMPARED_BYTES = 2**28  # of meshes that are read to see whether they have changed


def build_or_load_cache(
    folder,
    representation_name,
    use_eos_token=False,
    num_workers=None,
    mesh_timeout=120.0,
    dask_scheduler=None,
    max_timesteps=None,
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
    max_timesteps : int; meshes with longer sequences are left out, and listed. None: all are taken
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
        task = SlicingTask(planes, representation_name, use_eos_token, mesh_timeout, max_timesteps)
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
    if cached.max_timesteps and (max_timesteps or np.inf) > cached.max_timesteps:
        report(
            f"warning: {cache}: meshes of more than {cached.max_timesteps} timesteps were left out "
            "when it was made; remove it to slice again"
        )
    if max_timesteps is not None:
        return _without_longer(cached, max_timesteps, cache, report)
    _warn_of_outliers(cached, cache, report)
    return cached


def _without_longer(cached, max_timesteps, cache, report):
    """The cached loops without meshes of more timesteps, which are listed."""
    lengths = cached.lengths
    if not (lengths > max_timesteps).any():
        return cached
    if lengths.min() > max_timesteps:
        raise UserError(
            f"{cache}: --max_timesteps {max_timesteps} leaves no mesh; the shortest has "
            f"{lengths.min()} timesteps"
        )
    longer = _longest(cached, (lengths > max_timesteps).sum())
    report(f"{cache}: {len(longer)} meshes of more than {max_timesteps} timesteps are left out")
    for line in first_few(longer):
        report(line)
    return cached.without_longer(max_timesteps)


def _longest(cached, n):
    """The n longest meshes, as text."""
    lengths, names = cached.lengths, cached.filenames
    order = np.argsort(-lengths, kind="stable")[:n]
    return [f"{names[i] if names else f'mesh {i}'}: {lengths[i]} timesteps" for i in order]


def longest_without_outliers(lengths):
    """The longest length but for a few that are much longer, or None where there are no such few.

    Parameters
    ----------
    lengths : (n,) int

    Returns
    -------
    int or None
    """
    lengths = np.sort(lengths)
    n_few = max(1, int(OUTLIER_SHARE * len(lengths)))
    if len(lengths) <= n_few or lengths[-1] < OUTLIER_FACTOR * lengths[-n_few - 1]:
        return None
    # Those before the largest step in length.
    few = lengths[-n_few - 1 :].astype(float)
    return int(lengths[-n_few - 1 + int(np.argmax(few[1:] / few[:-1]))])


def _warn_of_outliers(cached, cache, report):
    """Say so if a few meshes make all sequences much longer, as all are padded to the longest."""
    lengths = cached.lengths
    limit = longest_without_outliers(lengths)
    if limit is None:
        return
    n_longer, longest = (lengths > limit).sum(), lengths.max()
    megabytes = cached.sequences.nbytes / 1e6
    report(
        f"warning: {cache}: {n_longer} of {len(lengths)} meshes make all sequences {longest} "
        f"timesteps long instead of {limit}, which takes {megabytes:.0f} MB instead of "
        f"{megabytes * limit / longest:.0f}; --max_timesteps {limit} leaves them out"
    )
    for line in first_few(_longest(cached, n_longer)):
        report(line)


def _change_since(cached, folder):
    """What has changed in a dataset folder since its cache was made, or None."""
    if (folder / PLANESPEC_FILE).exists():
        planes = read_planespec(folder)
        if planes.shape != cached.planes.shape or not np.allclose(planes, cached.planes):
            return f"{PLANESPEC_FILE} has changed"
    present = {str(path.relative_to(folder)) for path in folder.rglob("*.obj")}
    if not present:  # a cache needs no meshes
        return None
    if cached.sources is not None:
        known = cached.sources.keys()
        new, gone, edited = present - known, known - present, _edited(cached.sources, folder)
    elif cached.stored_filenames is not None:
        new, gone = _compared(cached.stored_filenames, present, folder)
        edited = []
    else:
        return None
    changes = [
        f"{len(names)} {'mesh has' if len(names) == 1 else 'meshes have'} {what} "
        f"({min(names)}{' first' if len(names) > 1 else ''})"
        for names, what in ((new, "come"), (gone, "gone"), (edited, "been edited"))
        if names
    ]
    return ", ".join(changes) or None


def _compared(names, present, folder):
    """Which meshes are new, and which of these names have gone.

    The names may be from another folder or machine, so each is looked up by as much of its end as
    fits.
    """
    matched, gone = set(), set()

    def find(name):
        parts = Path(name).parts
        tails = (str(Path(*parts[i:])) for i in range(len(parts)))
        return next((tail for tail in tails if tail in present), None)

    for name in names:
        tail = find(name)
        matched.add(tail)
        if tail is None:
            gone.add(Path(name).name)
    with contextlib.suppress(UserError):
        failed = [name for name in read_failures(folder.parent) if folder.name in Path(name).parts]
        matched.update(map(find, failed))
    return present - matched, gone


def _edited(sources, folder):
    """Which meshes have other content than when they were sliced.

    The time of change tells which files to read: those that were edited, and all of a dataset that
    was copied. The newest come first, and only so much is read.
    """
    edited, touched = set(), []
    for name, (size, time, _) in sources.items():
        with contextlib.suppress(OSError):
            status = (folder / name).stat()
            if size < 0 or (status.st_size == size and status.st_mtime_ns == time):
                continue
            if status.st_size == size:
                touched.append((status.st_mtime_ns, name))
            else:
                edited.add(name)
    n_bytes = 0
    for _, name in sorted(touched, reverse=True):
        n_bytes += sources[name][0]
        if n_bytes > COMPARED_BYTES:
            break
        if file_stamp(folder / name)[2] != sources[name][2]:
            edited.add(name)
    return edited


def _slice_folder(folder, task, num_workers, dask_scheduler, report):
    """Slice the meshes of a folder into its cache, with a progress bar on stderr."""
    remove_leftovers(folder.parent)  # of the list of failed meshes
    for leftover in folder.glob(".preprocessed_cache*.npz"):
        if leftover.is_file():  # of a process that was killed while it wrote
            leftover.unlink(missing_ok=True)
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
    warnings = progress.finish()
    for line in progress.summary() + warnings:
        report(line)
