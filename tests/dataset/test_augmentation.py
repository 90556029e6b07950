"""Augmented sequences must look as if they had been sliced: canonical, in order, ends in place."""

import numpy as np
import pytest
import torch

from loopdraw.data.augmentation import HistoryNoise, augment, canonical, disturb_history
from loopdraw.loops.representations import canonical_polyline

N_PLANES = 5


@pytest.fixture
def batch():
    """Points (T, B, n, 2) and flags (T, B) of three shapes of two loops a plane, then padding."""
    angles = np.arange(32) * (2 * np.pi / 32)
    ring = np.stack([np.cos(angles), 0.7 * np.sin(angles)], axis=1)
    points = np.zeros((2 * N_PLANES + 2, 3, 32, 2), dtype=np.float32)
    flags = np.zeros((2 * N_PLANES + 2, 3), dtype=np.float32)
    for shape in range(3):
        for plane in range(N_PLANES):
            for inner in (0, 1):
                loop = (0.3 + 0.05 * plane) * (0.5 if inner else 1.0) * ring + 0.01 * shape
                points[2 * plane + inner, shape] = canonical_polyline(loop)
            flags[2 * plane, shape] = 1
    flags[2 * N_PLANES, :] = 1  # the end of the sequence: flagged, no size
    return torch.from_numpy(points), torch.from_numpy(flags)


def run(batch, seed=0):
    return augment(*batch, N_PLANES, torch.Generator().manual_seed(seed))


def test_canonical_agrees_with_the_slicer():
    generator = np.random.default_rng(3)
    angles = np.sort(generator.random((50, 32)) * 2 * np.pi, axis=1)
    radii = 0.2 + 0.1 * generator.random((50, 32))
    loops = radii[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    ours = canonical(torch.from_numpy(loops)).numpy()
    theirs = np.stack([canonical_polyline(loop) for loop in loops])
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_loops_stay_canonical(batch):
    varied = run(batch)[: 2 * N_PLANES].double()
    sums = varied.sum(dim=-1)
    # The first point has the least u + v of those that it is resampled from, so up to resampling.
    assert (sums[..., 0] - sums.amin(dim=-1) < 1e-3).all()
    u, v = varied.unbind(dim=-1)
    area = 0.5 * (u * v.roll(-1, -1) - v * u.roll(-1, -1)).sum(dim=-1)
    assert (area < 0).all()  # clockwise
    # Larger loops of a plane still come first.
    assert (area[0::2].abs() > area[1::2].abs()).all()
    steps = (varied.roll(-1, dims=-2) - varied).norm(dim=-1)
    assert (steps.amax(dim=-1) / steps.amin(dim=-1) < 1.3).all()


def test_end_and_padding_stay(batch):
    varied = run(batch)
    assert (varied[2 * N_PLANES :] == 0).all()


def test_it_varies_and_repeats(batch):
    first, again, other = run(batch, 1), run(batch, 1), run(batch, 2)
    assert torch.equal(first, again)
    moved = (first[:-2] - batch[0][:-2]).abs().mean()
    assert 0.005 < moved < 0.2
    assert not torch.equal(first, other)
    # Shapes of one batch vary independently.
    assert not torch.allclose(first[:, 0] - batch[0][:, 0], first[:, 1] - batch[0][:, 1], atol=1e-3)


def test_half_of_the_shapes_are_mirrored(batch):
    """An off-centre loop tells its mirror image: the sign of its mean u."""
    points = batch[0][:1, :1].repeat(1, 400, 1, 1) + torch.tensor([1.0, 0.0])
    flags = torch.ones(1, 400)
    varied = augment(points, flags, N_PLANES, torch.Generator().manual_seed(0))
    share = (varied[0, :, :, 0].mean(dim=-1) < 0).float().mean()
    assert 0.4 < share < 0.6


def test_a_disturbed_history(batch):
    points, _ = batch
    points = points.repeat(1, 200, 1, 1)
    blank = torch.full((32, 2), 7.0)
    disturbed = disturb_history(points, blank, torch.Generator().manual_seed(0))
    assert torch.equal(disturbed[2 * N_PLANES :], points[2 * N_PLANES :])
    missing = (disturbed == blank).all(dim=(-1, -2))[: 2 * N_PLANES]  # (T, B)
    # Half of the shapes miss none, the others half of their loops on average.
    assert 0.45 < (missing.sum(dim=0) == 0).float().mean() < 0.65
    assert 0.2 < missing.float().mean() < 0.3
    moved = (disturbed - points)[: 2 * N_PLANES].mean(dim=-2).norm(dim=-1)
    assert (moved > 0).all() and moved[~missing].amax() < 5 * HistoryNoise().shift
    again = disturb_history(points, blank, torch.Generator().manual_seed(0))
    assert torch.equal(disturbed, again)
