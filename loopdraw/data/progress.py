"""The state of a slicing run: what is done, saved, resumed and reported.

`preprocessed_cache_PARTIAL.npz` is a cache of the meshes that are done, with three more keys. When
renamed, it works as a dataset.

=====================  ========================================================
key                    value
=====================  ========================================================
next_index_to_load     int, index into the sorted file list
failed_meshes_indices  (n,) int, indices into that list
failed_meshes_reasons  (n,) str; missing in published files
=====================  ========================================================
"""

import os
import time
from pathlib import Path

import numpy as np

from loopdraw.data.cache import CACHE_FILE, UNKNOWN, load_cache, save_cache
from loopdraw.files import TEXT_BYTES, UserError, load_npz, write_aside
from loopdraw.loops.representations import REPRESENTATIONS

PARTIAL_FILE = "preprocessed_cache_PARTIAL.npz"
FAILED_FILE = "failed_meshes.txt"

# A partial cache is saved after this many new meshes, as long as saving takes no more than this
# share of the run. The extra seconds let short runs save each time.
SAVE_EVERY = 25
SAVING_SHARE = 0.04
SAVING_SECONDS = 0.5

# Sequences are kept in blocks of this size, which are given back to the system when they are freed;
# glibc keeps pieces of less than 32 MiB. Memory that is never written to is never used.
BLOCK_BYTES = 2**26

N_SHOWN = 10  # meshes named in each list of the summary


def read_failures(root):
    """The lines of the list of failed meshes of a dataset; UserError where it is no such list."""
    path = Path(root) / FAILED_FILE
    if not os.path.lexists(path):
        return []
    content = b"\0"
    if path.is_file() and path.stat().st_size < TEXT_BYTES:
        content = path.read_bytes()
    if b"\0" in content:
        raise UserError(f"{path}: no list of meshes; remove it")
    # Names of files need not be UTF-8, nor free of what `splitlines` takes for ends of lines.
    return [line for line in os.fsdecode(content).split("\n") if line]


class SlicingProgress:
    """The meshes of a folder that are done, each with its unpadded sequence.

    Parameters
    ----------
    folder : Path
    task : slicing_run.SlicingTask

    Attributes
    ----------
    paths : list of str, all meshes of the folder, sorted
    next_index : int, index of the first mesh that is not done
    n_resumed : int, how many were done by an earlier run
    failures : dict, index of each failed mesh -> reason

    Raises
    ------
    UserError
        When there are no meshes, or a partial cache does not fit them.
    """

    def __init__(self, folder, task):
        self.folder = Path(folder)
        self.task = task
        self.paths = sorted(map(str, self.folder.rglob("*.obj")))
        self.failures = {}
        self._sequences, self._plane_indices, self._repairs = [], [], []
        self._stamps = []  # of all meshes that are done
        # Set last when a mesh is added, in one step, so that Ctrl-C cannot come in between.
        self._counts = 0, 0  # of meshes that are done, and that gave a sequence
        self._block = np.empty((0, 0), dtype=np.float32)  # the rows of it that are free
        self._n_saved = 0
        self._started = time.perf_counter()
        self._seconds_saving = self._last_save = 0.0
        partial = self.folder / PARTIAL_FILE
        if not self.paths:
            hint = f", or rename {PARTIAL_FILE} to use what it holds" if partial.exists() else ""
            raise UserError(
                f"{self.folder}: it holds neither {CACHE_FILE} nor *.obj files; put meshes "
                f"there{hint}"
            )
        if partial.exists():
            self._resume(partial)
        self.n_resumed = self.next_index

    @property
    def next_index(self):
        return self._counts[0]

    @property
    def n_loaded(self):
        return self._counts[1]

    def add(self, sliced):
        """Add the `SlicedFile` of the next mesh."""
        if sliced.reason is not None:
            self.failures[self.next_index] = sliced.reason
        else:
            self._sequences.append(self._kept(sliced.sequence))
            self._plane_indices.append(sliced.plane_index)
            self._repairs.append(sliced.repairs)
        self._stamps.append(sliced.stamp)
        self._counts = self.next_index + 1, len(self._sequences)

    def _drop_unfinished(self):
        """Drop what belongs to a mesh whose adding was interrupted."""
        n_done, n_loaded = self._counts
        for kept in (self._sequences, self._plane_indices, self._repairs):
            del kept[n_loaded:]
        del self._stamps[n_done:]
        self.failures.pop(n_done, None)

    def _kept(self, sequence):
        """A copy of a sequence (T, F) in a block."""
        if len(self._block) < len(sequence):
            n_features = sequence.shape[1]
            n_rows = max(BLOCK_BYTES // (4 * n_features), len(sequence))
            self._block = np.empty((n_rows, n_features), dtype=np.float32)
        kept, self._block = np.split(self._block, [len(sequence)])
        kept[:] = sequence
        return kept

    # ------------------------------------------------------------------------------ saving

    def save_if_due(self):
        """Save a partial cache if there are enough new meshes and saving is quick enough."""
        if self.n_loaded - self._n_saved < SAVE_EVERY:
            return
        expected = self._last_save * self.n_loaded / max(self._n_saved, 1)
        elapsed = time.perf_counter() - self._started
        if self._seconds_saving + expected <= SAVING_SHARE * elapsed + SAVING_SECONDS:
            self.save_partial()

    def save_partial(self):
        """Save what is done, so that the next run continues from here."""
        self._drop_unfinished()
        if not self._sequences:
            return
        start = time.perf_counter()
        self._save(
            PARTIAL_FILE,
            next_index_to_load=self.next_index,
            failed_meshes_indices=np.array(sorted(self.failures), dtype=np.int64),
            failed_meshes_reasons=np.array(
                [self.failures[index] for index in sorted(self.failures)], dtype=np.str_
            ),
        )
        self._last_save = time.perf_counter() - start
        self._seconds_saving += self._last_save
        self._n_saved = self.n_loaded

    def finish(self):
        """Write the cache and the list of failed meshes; remove the partial cache.

        Returns
        -------
        list of str : warnings

        Raises
        ------
        UserError
            When every mesh failed.
        """
        warnings = self._list_failures()
        if self._sequences:
            self._save(CACHE_FILE)
        (self.folder / PARTIAL_FILE).unlink(missing_ok=True)
        if not self._sequences:
            raise UserError(
                f"{self.folder}: none of its {len(self.paths)} meshes could be sliced; the first, "
                f"{self.paths[0]}: {self.failures[0]}"
            )
        return warnings

    def _save(self, name, **more):
        save_cache(
            self.folder / name,
            self.task.planes,
            self._sequences,
            self._plane_indices,
            REPRESENTATIONS[self.task.representation_name],
            self._loaded_paths(),
            self._repairs,
            source_files=np.array(self._inner(self.paths[: self.next_index]), dtype=np.str_),
            source_stamps=np.array(self._stamps, dtype=np.int64),
            max_timesteps=self.task.max_timesteps or 0,
            **more,
        )

    def _inner(self, paths):
        """Paths within the folder."""
        return [os.path.relpath(path, self.folder) for path in paths]

    def _loaded_paths(self):
        done = enumerate(self.paths[: self.next_index])
        return [path for index, path in done if index not in self.failures]

    def _list_failures(self):
        """Write the failures of this folder to the list shared by all splits of the dataset.

        Returns warnings: the cache is worth more than the list, and must not wait for it.
        """
        folder = self.folder.absolute()
        listed = folder.parent / FAILED_FILE
        try:
            lines = read_failures(folder.parent)
            lines = [line for line in lines if folder not in Path(line).absolute().parents]
            lines += [self.paths[index] for index in sorted(self.failures)]
            if lines:
                with write_aside(listed) as temporary:
                    temporary.write_bytes(b"".join(os.fsencode(f"{line}\n") for line in lines))
            else:
                listed.unlink(missing_ok=True)
        except (UserError, OSError) as error:
            return [f"warning: the meshes that failed cannot be listed: {error}"]
        return []

    # ------------------------------------------------------------------------------ resuming

    def _resume(self, partial):
        names = ("next_index_to_load", "failed_meshes_indices", "loaded_obj_filenames")
        arrays = load_npz(partial, names, what="a partial loops cache")
        cached = load_cache(partial, self.task.representation_name)
        failed, next_index = arrays["failed_meshes_indices"], arrays["next_index_to_load"]
        reasons = arrays.get("failed_meshes_reasons")
        if reasons is None:
            reasons = np.full(failed.shape, "failed in an earlier run")
        are_whole = next_index.size == 1 and next_index.dtype.kind in "iu"
        are_whole &= failed.ndim == 1 and (failed.dtype.kind in "iu" or not failed.size)
        if not are_whole or reasons.shape != failed.shape:
            raise UserError(
                f"{partial}: not a partial loops cache, or damaged (its numbers of meshes do not "
                "fit); remove it to slice anew"
            )
        self._counts = int(next_index.item()), len(cached.sequences)
        self.failures = {
            int(index): str(reason) for index, reason in zip(failed, reasons, strict=True)
        }

        if not np.array_equal(cached.planes, self.task.planes):
            change = "planespec.txt has changed"
        elif cached.has_eos != self.task.use_eos_token:
            change = "--use_eos_token has changed"
        elif cached.max_timesteps != self.task.max_timesteps:
            change = "--max_timesteps has changed"
        elif not self._is_same_list(cached.filenames):
            change = "the *.obj files have changed"
        else:
            change = None
        if change is not None:
            raise UserError(
                f"{partial}: slicing cannot go on from it, as {change} since; undo that, or remove "
                "the file to start anew"
            )
        # Copies, so that the padded arrays can be freed.
        lengths = cached.lengths
        self._sequences = [
            self._kept(a[:n]) for a, n in zip(cached.sequences, lengths, strict=True)
        ]
        self._plane_indices = [
            a[:n].copy() for a, n in zip(cached.plane_indices, lengths, strict=True)
        ]
        self._repairs = list(cached.repairs)
        stamps = cached.sources or {}
        done = self._inner(self.paths[: self.next_index])
        self._stamps = [stamps.get(path, UNKNOWN) for path in done]
        self._n_saved = self.n_loaded

    def _is_same_list(self, filenames):
        """Whether these are the meshes done so far; the path of the dataset may differ."""
        if not 0 <= self.next_index <= len(self.paths):
            return False
        if not all(0 <= index < self.next_index for index in self.failures):
            return False
        inner = self._inner(self._loaded_paths())
        return len(filenames) == len(inner) and all(
            name == path or name.endswith(f"/{path}")
            for name, path in zip(filenames, inner, strict=True)
        )

    # ------------------------------------------------------------------------------ reporting

    def summary(self):
        """The result, as lines of text."""
        seconds = time.perf_counter() - self._started
        n_new = self.next_index - self.n_resumed
        n_planes = len(self.task.planes)
        n_loops = np.array([(planes >= 0).sum() for planes in self._plane_indices])
        n_missed = np.array(
            [n_planes - len(np.unique(planes[planes >= 0])) for planes in self._plane_indices]
        )
        resumed = f", {self.n_resumed} of them in an earlier run" if self.n_resumed else ""
        lines = [
            f"{self.folder}: {self.n_loaded} of {len(self.paths)} meshes sliced into {n_planes} "
            f"planes{resumed} ({seconds:.1f} s, {n_new / max(seconds, 1e-9):.1f} meshes/s)"
        ]
        if self.n_loaded:
            lines.append(
                f"  loops per mesh: {n_loops.min()} to {n_loops.max()}, median "
                f"{np.median(n_loops):g}; planes that missed: {n_missed.sum()} in "
                f"{np.count_nonzero(n_missed)} meshes"
            )
        kinds = ("cracks bridged", "open chains closed", "slivers dropped")
        for kind, counts in zip(kinds, np.array(self._repairs).reshape(-1, 3).T, strict=True):
            lines += self._counted(kind, counts)
        if self.failures:
            lines.append(
                f"  failed: {len(self.failures)}, listed in "
                f"{self.folder.absolute().parent / FAILED_FILE}"
            )
            items = [f"{self.paths[i]}: {reason}" for i, reason in sorted(self.failures.items())]
            lines += first_few(items)
        return lines

    def _counted(self, kind, counts):
        """Lines about one kind of repair: the total, and the meshes that needed most."""
        where = np.flatnonzero(counts)
        if len(where) == 0:
            return []
        paths = self._loaded_paths()
        most = where[np.argsort(-counts[where], kind="stable")]
        items = [f"{paths[i]}: {counts[i]}" for i in most]
        return [f"  {kind}: {counts.sum()} in {len(where)} meshes", *first_few(items)]


def first_few(items):
    """Lines that name the first of some items, and say how many more there are."""
    shown = [f"    {item}" for item in items[:N_SHOWN]]
    return shown if len(items) <= N_SHOWN else [*shown, f"    and {len(items) - N_SHOWN} more"]
