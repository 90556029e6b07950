"""A small dataset of round, hollow shapes, written as a cache: what tests train on in seconds."""

import numpy as np

from loopdraw.files import save_npz
from loopdraw.loops.geometry import make_planes
from loopdraw.loops.representations import REPRESENTATIONS, eos_timestep, loops_to_sequence

N_PLANES = 6
ANGLES = np.arange(48) * (2 * np.pi / 48)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def shape(generator):
    """Loops of a vase: round, hollow from the third plane on."""
    radii = 0.2 + 0.1 * generator.random() + 0.1 * np.sin(np.linspace(0, 3, N_PLANES))
    center = 0.02 * generator.standard_normal(2)
    return [
        [radius * CIRCLE + center, *([0.6 * radius * CIRCLE + center] if plane >= 2 else [])]
        for plane, radius in enumerate(radii)
    ]


def write_split(folder, n_shapes, representation="fixed-res-polyline", eos=False, seed=0):
    """Write planespec.txt and preprocessed_cache.npz of one split; its sequences (N, T, F)."""
    generator = np.random.default_rng(seed)
    representation = REPRESENTATIONS[representation]
    sequences, indices = [], []
    for i in range(n_shapes):
        loops = shape(generator)
        loops = loops[: N_PLANES - i % 2]  # lengths differ, so that there is padding
        sequence, plane_index = loops_to_sequence(loops, representation)
        if eos:
            sequence = np.concatenate([sequence, eos_timestep(representation)[None]])
            plane_index = np.append(plane_index, -1)
        sequences.append(sequence)
        indices.append(plane_index)
    longest = max(map(len, sequences))
    padded = np.zeros((n_shapes, longest, representation.n_features), dtype=np.float32)
    planes = np.full((n_shapes, longest), -1, dtype=np.int32)
    for i, (sequence, plane_index) in enumerate(zip(sequences, indices, strict=True)):
        padded[i, : len(sequence)] = sequence
        planes[i, : len(sequence)] = plane_index
    folder.mkdir(parents=True)
    (folder / "planespec.txt").write_text(f"y\n{N_PLANES}\n-0.45\n0.45\n")
    save_npz(
        folder / "preprocessed_cache.npz",
        planes=make_planes("y", N_PLANES, -0.45, 0.45),
        meshes_reprs=padded,
        loop_repr_type=representation.id,
        loaded_obj_filenames=np.array([f"shape_{i}.obj" for i in range(n_shapes)]),
    )
    return padded


def write_dataset(root, n_train=10, n_test=3, n_val=0, **settings):
    """A dataset folder with train/, test/ and val/; returns it as a string, for `--dataroot`."""
    write_split(root / "train", n_train, **settings)
    if n_test:
        write_split(root / "test", n_test, **{**settings, "seed": 1})
    if n_val:
        write_split(root / "val", n_val, **{**settings, "seed": 2})
    return str(root)


def small_options(dataroot, save_dir, *more, repr_type="fixed-res-polyline"):
    """Command-line words for a small transformer."""
    return [
        *("--dataroot", str(dataroot), "--save_dir", str(save_dir), "--gpu_ids", "-1"),
        *("--loop_repr_type", repr_type, "--architecture", "transformer"),
        *("--transformer_arch_version", "1", "--latent_size", "4", "--batch_size", "4"),
        *("--enc_transformer_d_model", "16", "--enc_transformer_n_layers", "1"),
        *("--enc_transformer_ffwd_size", "16", "--dec_transformer_d_model", "16"),
        *("--dec_transformer_n_layers", "1", "--dec_transformer_ffwd_size", "16"),
        *("--enc_fc_hidden_sizes", "8", "--dec_fc_hidden_sizes", "8"),
        *("--niter", "2", "--niter_decay", "2", "--seed", "7"),
        *more,
    ]
