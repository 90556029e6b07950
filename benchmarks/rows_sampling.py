"""Many samples of the demo's model, drawn, decoded and saved; and what a shape takes to store."""

import resource
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np
from measuring import PeakMemory, Row
from rows_programs import ENVIRONMENT, SCRIPT
from setups import ROOT, dataset_of

from loopdraw.data.build import build_or_load_cache
from loopdraw.model.latents import shape_generator
from loopdraw.model.vae import load_model
from loopdraw.surface.outputs import claimed_stem, save_shape
from loopdraw.surface.reconstruction import reconstruct_mesh

CHECKPOINT = ROOT / "checkpoints" / "demo-vases"
N_DRAWN = 32


def parts(folder, n_repeats):
    """Rows on the parts of a sample, on one thread."""
    model = load_model(CHECKPOINT)
    planes = model.info.planes

    def generators():
        return [shape_generator(0, i) for i in range(N_DRAWN)]

    def seconds(function):
        times = []
        for _ in range(n_repeats):
            started = time.process_time()
            function()
            times.append(time.process_time() - started)
        return statistics.median(times) / N_DRAWN

    def one_by_one():
        """As `SettledPrior` drew them before."""
        first = [model.prior.prior.draw(generator, 1)[0] for generator in generators()]
        return [model.encode_sequence(model.decode(z)[0]) for z in first]

    latents = model.prior.draw_each(generators())
    drawn = seconds(lambda: model.prior.draw_each(generators()))
    alone = seconds(one_by_one)
    decoded = seconds(lambda: model.decode(latents))
    shapes = [model.info.loops(sequence) for sequence in model.decode(latents)]
    reconstruct_mesh(planes, shapes[0])  # which imports what it takes
    meshes = [reconstruct_mesh(planes, loops) for loops in shapes]
    built = seconds(lambda: [reconstruct_mesh(planes, loops) for loops in shapes])

    def save():
        for loops, mesh, z in zip(shapes, meshes, latents, strict=True):
            with claimed_stem(folder / "saved") as stem:
                save_shape(stem, planes, loops, mesh, z)

    saved = seconds(save)
    files = list((folder / "saved").iterdir())
    n_bytes = sum(path.stat().st_size for path in files) / (len(files) / 3)
    return [
        Row("draw a sample's latent, processor time", "s", drawn, alone, alone / drawn),
        Row("decode it, 32 together", "s", decoded),
        Row("build its surface", "s", built),
        Row("write its files", "s", saved),
        Row("the bytes of its files", "bytes", n_bytes),
    ]


def saved(folder, n, goal):
    """Rows on `submit sample n --save`, the whole program, `goal` in seconds."""
    own = folder / f"samples-{n}"
    shutil.copytree(CHECKPOINT, own)
    text = (ROOT / "demo-vases-optfile.txt").read_text()
    (own / "optfile.txt").write_text(text.replace("checkpoints/demo-vases", str(own)))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "--optfile", str(own / "optfile.txt")],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    with PeakMemory(process.pid) as memory:
        process.communicate(f"submit sample {n} --save\nrun all\n")
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    n_files = len(list((own / "inference").iterdir()))
    if process.returncode or n_files != 3 * n:
        raise RuntimeError(f"{n} samples gave {n_files} files")
    shutil.rmtree(own)
    peak = memory.peak
    return [
        Row(f"{n:,} samples saved", "s", seconds, goal=f"≤ {goal} s", met=seconds <= goal),
        Row("    their processor time", "s", processor),
        Row(
            "    peak memory of all processes",
            "bytes",
            peak,
            goal="≤ 1,500 MB",
            met=None if peak is None else peak <= 1.5e9,
        ),
    ]


def stored(folder):
    """Rows on what a shape of a dataset takes, from the benchmarks' vases."""
    dataset_of(folder)  # makes it
    cache = folder / "data" / "train" / "preprocessed_cache.npz"
    cached = build_or_load_cache(cache.parent, "fixed-res-polyline")
    n, longest, n_features = cached.sequences.shape
    return [
        Row("a vase's .obj file", "bytes", _mean_size(cache.parent.glob("*.obj"))),
        Row("a vase in the cache file", "bytes", cache.stat().st_size / n),
        Row(f"a vase in memory, padded to {longest} loops", "bytes", 4 * longest * n_features),
        Row("timesteps of a vase", "number", float(np.mean(cached.lengths))),
    ]


def _mean_size(paths):
    return statistics.mean(path.stat().st_size for path in paths)
