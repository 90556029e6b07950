"""Slicing: one mesh, meshes a second on more cores, 10,000 meshes with their partial caches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import plain
from measuring import PeakMemory, Row, median_seconds, paired, seconds_of
from setups import N_PLANES, planes_of, write_many_meshes, write_mesh

from loopdraw.data.cache import load_cache
from loopdraw.data.progress import SAVE_EVERY
from loopdraw.data.slicing_run import SlicingTask, slice_files
from loopdraw.loops.mesh_files import load_mesh
from loopdraw.loops.slicing import slice_mesh


def one_mesh(folder, repeats):
    """Reading and slicing a mesh of 12,000 faces with 32 planes."""
    path, planes = write_mesh(folder / "ring.obj"), planes_of()
    seconds, theirs, ratio = paired(
        lambda: slice_mesh(*load_mesh(path), planes),
        lambda: plain.slice_file(path, planes),
        repeats,
    )
    what = "slice a mesh, 12,000 faces, 32 planes"
    return Row(what, "s", seconds, theirs, ratio, "≤ 30 ms", seconds <= 0.030)


def two_cores(folder, repeats, n_files=24):
    """Meshes a second on two cores against one, as time a mesh; files to sequences."""
    path = write_mesh(folder / "ring.obj")
    task = SlicingTask(planes_of(), "fixed-res-polyline", False, 120.0)
    row = Row("slice many such meshes on two cores, per mesh", "s", goal="≥ 1.8 × one core")
    if len(os.sched_getaffinity(0)) < 2:
        row.note = "one core here"
        return row

    def run(n_workers):
        for sliced in slice_files([path] * n_files, task, n_workers):
            assert sliced.reason is None, sliced.reason

    ours, theirs, row.ratio = paired(lambda: run(2), lambda: run(1), repeats)
    row.ours, row.plain, row.met = ours / n_files, theirs / n_files, row.ratio >= 1.8
    return row


# Runs in a process of its own: slices a dataset as `python loop_models.py` does, and says how much
# of that it spent saving partial caches.
PROBE = """
import json, sys, time
from loopdraw.data.progress import SlicingProgress
saving = []
save_partial = SlicingProgress.save_partial
def timed(self):
    start = time.perf_counter()
    save_partial(self)
    saving.append(time.perf_counter() - start)
SlicingProgress.save_partial = timed
finish = SlicingProgress.finish
def finished(self):
    elapsed = time.perf_counter() - start
    warnings = finish(self)
    print(json.dumps({"seconds": elapsed, "saving": sum(saving), "saves": len(saving)}))
    return warnings
SlicingProgress.finish = finished
import loop_models
start = time.perf_counter()
loop_models.main()
"""


def many_meshes(folder, n_meshes):
    """Rows on partial caches and on memory, from one run over `n_meshes` meshes."""
    split = folder / "many" / "train"
    write_many_meshes(split, n_meshes)
    command = [sys.executable, "-c", PROBE, "--dataroot", str(split.parent)]
    command += ["--loop_repr_type", "fixed-res-polyline"]
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(
        command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    with PeakMemory(process.pid) as memory:
        output = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f"slicing {n_meshes} meshes failed: {output}")
    run = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    cached = load_cache(split / "preprocessed_cache.npz", "fixed-res-polyline")
    arrays = sum(array.nbytes for array in (cached.sequences, cached.plane_indices, cached.planes))
    rest = run["seconds"] - run["saving"]
    plainly = _plain_saving_seconds(folder / "plain.npz", cached)
    saving = Row(f"saving partial caches, {n_meshes:,} meshes, share of the run", "share")
    saving.ours, saving.plain = run["saving"] / run["seconds"], plainly / (plainly + rest)
    saving.ratio = saving.plain / max(saving.ours, 1e-9)
    saving.goal = "≤ 5 %"
    if n_meshes >= 10_000:  # on fewer, saving may take half a second in all, however short the run
        saving.met = saving.ours <= 0.05
    held = Row(f"memory while slicing {n_meshes:,} meshes", "bytes")
    held.ours, held.plain = memory.peak, None
    held.goal = f"≤ {(arrays + 500e6) / 1e6:,.0f} MB: the arrays + 500"
    if memory.peak is None:
        held.note = "this system does not tell"
    else:
        held.met = memory.peak <= arrays + 500e6
    return [saving, held]


def _plain_saving_seconds(path, cached):
    """What saving everything anew every 25 meshes takes, estimated from saves of four sizes."""
    sequences = [s[:n] for s, n in zip(cached.sequences, cached.lengths, strict=True)]
    n_meshes = len(sequences)
    sizes = [max(1, n_meshes * k // 8) for k in (1, 3, 5, 7)]  # the middles of four quarters
    seconds = [
        seconds_of(
            plain.save_partial,
            path,
            cached.planes,
            sequences[:size],
            cached.filenames[:size],
            cached.representation.id,
        )
        for size in sizes
    ]
    path.unlink()
    return float(np.mean(seconds)) * (n_meshes // SAVE_EVERY)


def slicing_scaling(folder, repeats):
    """How slicing grows with faces and planes: list of (what, number, seconds)."""
    found = []
    for n_around, n_across in ((50, 30), (100, 60), (200, 120), (400, 240)):
        path = write_mesh(folder / "ring.obj", n_around, n_across)
        n_faces = 2 * n_around * n_across
        read = median_seconds(lambda path=path: load_mesh(path), repeats)
        mesh = load_mesh(path)
        cut = median_seconds(lambda mesh=mesh: slice_mesh(*mesh, planes_of()), repeats)
        found.append(("read a mesh, faces", n_faces, read))
        found.append((f"slice it with {N_PLANES} planes, faces", n_faces, cut))
    mesh = load_mesh(write_mesh(folder / "ring.obj"))
    for n_planes in (8, 16, 32, 64, 128):
        planes = planes_of(n_planes)
        seconds = median_seconds(lambda planes=planes: slice_mesh(*mesh, planes), repeats)
        found.append(("slice 12,000 faces, planes", n_planes, seconds))
    return sorted(found, key=lambda entry: entry[0])
