"""What an evaluation measures of a trained model itself: its reconstructions and its latent space.

The results are dicts of numbers, ready for JSON. Shapes of the dataset go the way of the model's:
their stored sequences are read by their flags (a model cannot know of planes that a shape does not
meet), and their loops rebuilt by the same reconstruction.
So what is compared is the model, not the representation and not the mesher.

Of large sets, some shapes are drawn at random where meshes are compared, for time.
"""

from typing import NamedTuple

import numpy as np
import torch

from loopdraw.evaluation.measures import in_parallel, interpolation_changes, surface_distance
from loopdraw.evaluation.metrics import active_dimensions, kl_per_dimension
from loopdraw.loops.representations import POLYLINE_POINTS
from loopdraw.model.refine import refine

BATCH_SIZE = 64
MOST_RECONSTRUCTIONS = 64  # of a set, rebuilt and compared
INTERPOLATIONS = 24
INTERPOLATION_STEPS = 10


class Prediction(NamedTuple):
    """What a model makes of the N shapes of a set; sequences are not normalised."""

    mu: torch.Tensor  # (N, L)
    log_variance: torch.Tensor  # (N, L), log sigma^2
    teacher_forced: np.ndarray  # (N, T, F) float32, flags between 0 and 1
    autoregressive: np.ndarray  # (N, T, F) float32, flags between 0 and 1


def predict(model, dataset):
    """Encode a LoopSeqDataset, and decode it teacher-forced and autoregressively, with z = mu."""
    dataset.to(model.device)
    parts = []
    with torch.inference_mode():
        for indices in torch.arange(len(dataset)).split(BATCH_SIZE):
            batch = dataset.batch(indices)
            mu, log_variance = model.encode_distribution(batch)
            forced = model.teacher_forced(batch, mu).transpose(0, 1)  # (B, T, F)
            if model.info.representation.has_flag:
                forced[..., -1].sigmoid_()
            forced = model.info.unnormalise(forced.cpu().numpy()).astype(np.float32)
            free = model.decode(mu.cpu(), full_length=True)
            parts.append((mu, log_variance, forced, free))
    mu, log_variance, forced, free = zip(*parts, strict=True)
    return Prediction(
        torch.cat(mu), torch.cat(log_variance), np.concatenate(forced), np.concatenate(free)
    )


def decode(model, latents):
    """Sequences (N, T, F) of latents (N, L), not normalised."""
    starts = range(0, len(latents), BATCH_SIZE)
    return np.concatenate([model.decode(latents[i : i + BATCH_SIZE]) for i in starts])


# --------------------------------------------------------------------------------- reconstruction


def refined_surface_distance(model, dataset, prediction, rng, n_workers=1):
    """The `surface_distance` of `reconstruction` with refined latents; None if nothing is built."""
    info = model.info
    chosen = rng.permutation(len(dataset))[:MOST_RECONSTRUCTIONS]
    found = refine(model, dataset.batch(chosen, trim=True), prediction.mu[chosen])
    jobs = [
        (info.planes, info.loops(dataset.sequences[i]), info.loops(sequence), seed)
        for i, sequence, seed in zip(
            chosen, found.sequences, rng.integers(2**31, size=len(chosen)), strict=True
        )
    ]
    compared = np.array(in_parallel(surface_distance, jobs, n_workers, "comparing refined"))[:, 0]
    return float(np.nanmean(compared)) if np.isfinite(compared).any() else None


def reconstruction(info, dataset, prediction, rng, n_workers=1):
    """How well a set is reconstructed.

    Parameters
    ----------
    info : DatasetInfo
    dataset : LoopSeqDataset
    prediction : Prediction
    rng : numpy.random.Generator
    n_workers : int, processes

    Returns
    -------
    dict with `teacher_forced` and `autoregressive` errors, each a dict (see `sequence_errors`), and

    ====================  ======================================================================
    planes_right          share of shapes whose autoregressive reconstruction has loops in as
                          many planes as the shape has
    loops_right           share of planes that then have the right number of loops
    surface_distance      mean distance between the surfaces of shapes and their autoregressive
                          reconstructions (see `measures`); None if nothing is rebuilt
    resampling            the same between two samplings of one surface: its floor
    surfaces_compared     number of shapes behind these two
    without_mesh          number of reconstructions whose loops give no mesh
    ====================  ======================================================================
    """
    true, decoded = (
        np.array([_loops_per_plane(info, sequence) for sequence in sequences])  # (N, P)
        for sequences in (dataset.sequences, prediction.autoregressive)
    )
    chosen = rng.permutation(len(dataset))[:MOST_RECONSTRUCTIONS]
    jobs = [
        (
            info.planes,
            info.loops(dataset.sequences[i]),
            info.loops(prediction.autoregressive[i]),
            seed,
        )
        for i, seed in zip(chosen, rng.integers(2**31, size=len(chosen)), strict=True)
    ]
    compared = np.array(in_parallel(surface_distance, jobs, n_workers, "comparing surfaces"))
    compared = compared[np.isfinite(compared).all(axis=1)]
    distance, floor = compared.mean(axis=0).tolist() if len(compared) else (None, None)
    return {
        "shapes": len(dataset),
        "teacher_forced": sequence_errors(info, dataset, prediction.teacher_forced),
        "autoregressive": sequence_errors(info, dataset, prediction.autoregressive),
        "planes_right": float(((true > 0).sum(axis=1) == (decoded > 0).sum(axis=1)).mean()),
        "loops_right": float((true == decoded).mean()),
        "surface_distance": distance,
        "resampling": floor,
        "surfaces_compared": len(compared),
        "without_mesh": len(jobs) - len(compared),
    }


def sequence_errors(info, dataset, sequences):
    """Errors of reconstructed sequences (N, T, F), over the loops of the dataset's.

    Returns
    -------
    dict with

    ===============  ===========================================================================
    squared_error    mean squared difference of the normalised features but for the flag, as in
                     the l2 loss
    distance         root mean square distance between points and where they belong, in units of
                     the planes; None for ellipses
    flag_accuracy    share of loops with the right flag; None without flags
    by_plane         for each plane the `distance`, or the root of the `squared_error` of
                     ellipses; None where no shape has a loop
    ===============  ===========================================================================
    """
    representation = info.representation
    n_values = representation.n_features - representation.has_flag
    present = dataset.plane_indices >= 0  # neither padding nor an end of sequence
    decoded, true = sequences[present], dataset.sequences[present]  # (loops, F)
    difference = decoded[:, :n_values].astype(np.float64) - true[:, :n_values]
    normalised = ((difference / info.dataset_std[:n_values]) ** 2).mean(axis=1)
    squares = normalised
    if representation.is_polyline:
        squares = (difference**2).sum(axis=1) / POLYLINE_POINTS
    planes = dataset.plane_indices[present]
    sums = np.bincount(planes, weights=squares, minlength=info.n_planes)
    counts = np.bincount(planes, minlength=info.n_planes)
    right = (decoded[:, -1] > 0.5) == (true[:, -1] > 0.5)
    return {
        "squared_error": float(normalised.mean()),
        "distance": float(np.sqrt(squares.mean())) if representation.is_polyline else None,
        "flag_accuracy": float(right.mean()) if representation.has_flag else None,
        "by_plane": [
            float(np.sqrt(s / n)) if n else None for s, n in zip(sums, counts, strict=True)
        ],
    }


def _loops_per_plane(info, sequence):
    planes = info.planes_of(sequence)
    return np.bincount(planes[planes >= 0], minlength=info.n_planes)


# ----------------------------------------------------------------------------------- latent space


def latent_space(mu, log_variance):
    """What the encoder uses of its latents, over a set of shapes.

    Parameters
    ----------
    mu, log_variance : (N, L) tensors

    Returns
    -------
    dict: `active` (share of dimensions, Burda et al.), `kl` (nats, all dimensions together),
    `kl_per_dimension` and `active_dimensions`, L of each
    """
    active, kl = active_dimensions(mu), kl_per_dimension(mu, log_variance)
    return {
        "active": active.double().mean().item(),
        "kl": kl.sum().item(),
        "kl_per_dimension": kl.tolist(),
        "active_dimensions": active.tolist(),
    }


def interpolations(model, mu, rng):
    """Loops along straight lines between pairs of latents drawn from `mu` (N, L).

    Returns
    -------
    list, one item a pair, of lists of INTERPOLATION_STEPS + 1 loops_by_plane
    """
    mu = mu.cpu().numpy()
    n_pairs = min(INTERPOLATIONS, len(mu) * (len(mu) - 1))
    ends = [mu[rng.choice(len(mu), 2, replace=False)] for _ in range(n_pairs)]
    ways = [np.linspace(*pair, INTERPOLATION_STEPS + 1) for pair in ends]
    sequences = decode(model, np.concatenate(ways)) if ways else []
    loops = [model.info.loops(sequence) for sequence in sequences]
    size = INTERPOLATION_STEPS + 1
    return [loops[i : i + size] for i in range(0, len(loops), size)]


def interpolation_smoothness(planes, ways, n_workers=1):
    """How evenly shapes change along interpolations.

    The change from one shape to the next is the volume by which they differ. An interpolation that
    moves at one speed has equal steps; one that jumps has a step much larger than the mean. One
    that changes only what must change adds up to the change between its ends; one that makes a
    detour, to more.

    Parameters
    ----------
    planes : (P, 4, 3) float
    ways : as `interpolations` returns them
    n_workers : int, processes

    Returns
    -------
    dict: `interpolations`, their number, without those that change nothing; `largest_step`, largest
    by mean step (1: even; the number of steps: one jump); `detour`, sum of the steps by the change
    between the ends, at least 1; both are medians. `progress`: for each interpolation the shares of
    the change done after 0, 1, ... steps.
    """
    changes = in_parallel(
        interpolation_changes, [(planes, way) for way in ways], n_workers, "interpolating"
    )
    changes = [(steps, ends) for steps, ends in changes if ends > 0]
    if not changes:
        return {"interpolations": 0, "largest_step": None, "detour": None, "progress": []}
    steps, ends = (np.array(values) for values in zip(*changes, strict=True))
    total = steps.sum(axis=1)
    done = np.cumsum(steps, axis=1) / total[:, None]
    return {
        "interpolations": len(steps),
        "largest_step": float(np.median(steps.max(axis=1) / steps.mean(axis=1))),
        "detour": float(np.median(total / ends)),
        "progress": np.insert(done, 0, 0.0, axis=1).tolist(),
    }
