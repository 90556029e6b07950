"""What is measured: the published settings, a dataset of vases, models, meshes."""

import os
from pathlib import Path

import numpy as np
import torch

from loopdraw.data.build import build_or_load_cache
from loopdraw.data.dataset import DatasetInfo, LoopSeqDataset
from loopdraw.demo.dataset import make_dataset
from loopdraw.loops.geometry import make_planes
from loopdraw.model.vae import LoopSeqEncoderDecoderModel
from loopdraw.options import options_for, parse_options

ROOT = Path(__file__).resolve().parent.parent
N_TIMESTEPS = 91  # of the published vases
N_PLANES = 32
N_SHAPES = 24


def options_of(settings, folder, device="cpu"):
    """The options of the published settings "vases" or "sofas", on a dataset of ours.

    Parameters
    ----------
    settings : str
    folder : Path; holds `data/`, and gets the checkpoint
    device : "cpu" or "cuda"
    """
    options = parse_options(["--optfile", str(ROOT / f"{settings}-optfile.txt")])
    options.dataroot, options.save_dir = str(folder / "data"), str(folder / "checkpoint")
    options.gpu_ids = [0 if device == "cuda" else -1]
    options.seed, options.use_eos_token = 0, False
    return options


def dataset_of(folder, full_length=False, n_shapes=N_SHAPES):
    """Vases of at most 91 timesteps, padded to 91, as a `LoopSeqDataset`.

    They are made in `folder/data` when they are not there yet.

    With `full_length` what would be padding repeats the loops: nothing is left to trim.
    """
    data, n_workers = folder / "data", len(os.sched_getaffinity(0))
    if not data.exists():
        make_dataset("vases", data, n_shapes, 0, seed=0, num_workers=n_workers)
    cached = build_or_load_cache(data / "train", "fixed-res-polyline")
    kept = np.flatnonzero(cached.lengths <= N_TIMESTEPS)
    cached.sequences = cached.sequences[kept, :N_TIMESTEPS]
    cached.plane_indices = cached.plane_indices[kept, :N_TIMESTEPS]
    cached.filenames = [cached.filenames[i] for i in kept]
    present = cached.sequences[cached.sequences.any(axis=2)]  # (timesteps, F)
    mean, std = present.mean(axis=0, dtype=float), present.std(axis=0, dtype=float)
    mean[-1], std[-1] = 0.0, 1.0
    info = DatasetInfo(cached.planes, mean, std, N_TIMESTEPS, cached.representation, False)
    if full_length:
        for sequence in cached.sequences:
            length = int(sequence.any(axis=1).sum())
            sequence[length:] = np.resize(sequence[:length], sequence.shape)[
                : len(sequence) - length
            ]
    return LoopSeqDataset(cached, info, data / "train")


def model_of(options, info):
    """A model with random weights, repeatable."""
    torch.manual_seed(0)
    device = torch.device("cpu" if options.gpu_ids[0] < 0 else "cuda")
    return LoopSeqEncoderDecoderModel(
        info, device, **options_for(LoopSeqEncoderDecoderModel, options)
    )


def write_mesh(path, n_around=100, n_across=60):
    """Write a bumpy ring, 2 x n_around x n_across triangles (12,000 by default), as an `.obj`."""
    around = np.arange(n_around) * (2 * np.pi / n_around)
    across = np.arange(n_across) * (2 * np.pi / n_across)
    u, v = np.meshgrid(around, across, indexing="ij")
    tube = 0.14 + 0.01 * np.sin(9 * u) * np.sin(5 * v)
    radius = 0.34 + tube * np.cos(v)
    vertices = np.stack([radius * np.cos(u), radius * np.sin(u), tube * np.sin(v)], axis=-1)
    corner = np.arange(n_around * n_across).reshape(n_around, n_across)
    right, up = np.roll(corner, -1, axis=0), np.roll(corner, -1, axis=1)
    both = np.roll(right, -1, axis=1)
    faces = np.stack([corner, right, both, corner, both, up], axis=-1).reshape(-1, 3) + 1
    with open(path, "w", encoding="ascii") as file:
        file.writelines("v {:.6f} {:.6f} {:.6f}\n".format(*p) for p in vertices.reshape(-1, 3))
        file.writelines("f {} {} {}\n".format(*face) for face in faces.tolist())
    return path


def planes_of(n_planes=N_PLANES):
    """Planes across y that all meet the ring of `write_mesh`."""
    return make_planes("y", n_planes, -0.471, 0.473)


def write_many_meshes(folder, n_meshes):
    """A folder of small meshes with its planes: three prisms each, so about 96 loops."""
    folder.mkdir(parents=True)
    (folder / "planespec.txt").write_text(f"y\n{N_PLANES}\n-0.471\n0.473\n")
    angles = np.arange(16) * (2 * np.pi / 16)
    side = np.stack([np.arange(16), np.roll(np.arange(16), -1)], axis=1)  # (16, 2)
    low, high = side, side + 16
    walls = np.concatenate([np.c_[low, high[:, :1]], np.c_[high[:, ::-1], low[:, 1:]]])
    fan = np.stack([np.zeros(14, int), np.arange(2, 16), np.arange(1, 15)], axis=1)
    faces = np.concatenate([walls[:, ::-1], fan[:, ::-1], fan + 16])
    originals = []
    for k in range(min(n_meshes, 20)):
        lines = []
        for part, x in enumerate((-0.3, 0.0, 0.3)):
            radius = 0.06 + 0.003 * k + 0.01 * part
            for y in (-0.5, 0.5):
                circle = np.c_[x + radius * np.cos(angles), 0 * angles + y, radius * np.sin(angles)]
                lines += ["v {:.6f} {:.6f} {:.6f}\n".format(*p) for p in circle]
            lines += ["f {} {} {}\n".format(*face) for face in (faces + 32 * part + 1).tolist()]
        originals.append(folder / f"mesh-{k:06}.obj")
        originals[-1].write_text("".join(lines))
    for i in range(len(originals), n_meshes):
        os.link(originals[i % len(originals)], folder / f"mesh-{i:06}.obj")
