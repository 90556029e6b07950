"""Augmented sequences must look as if they had been sliced: canonical, in order, ends in place."""

import numpy as np
import pytest
import torch

from loopdraw.data.augmentation import (
    HISTORY,
    Practice,
    augment,
    canonical,
    disturb_history,
    practise_edits,
    vary_planes,
    vary_profile,
)
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
    assert (moved > 0).all() and moved[~missing].amax() < 5 * HISTORY.shift
    again = disturb_history(points, blank, torch.Generator().manual_seed(0))
    assert torch.equal(disturbed, again)


def test_varied_profiles_keep_the_form_of_loops(batch):
    points, flags = batch
    varied = vary_profile(points, flags, N_PLANES, 0.1, torch.Generator().manual_seed(0))
    assert (varied[2 * N_PLANES :] == 0).all()
    factor = varied[: 2 * N_PLANES, ..., 0] / points[: 2 * N_PLANES, ..., 0]  # (T, B, n)
    torch.testing.assert_close(factor, factor[..., :1].expand_as(factor), rtol=1e-3, atol=1e-4)
    factor = factor[..., 0]
    torch.testing.assert_close(factor[0::2], factor[1::2], rtol=1e-3, atol=1e-4)  # of a plane
    assert factor.std(dim=0).min() > 1e-3 and factor.std(dim=1).min() > 1e-3


def _vary(batch, spacing, mirrors, copies=1, seed=0):
    points, flags = batch[0].repeat(1, copies, 1, 1), batch[1].repeat(1, copies)
    generator = torch.Generator().manual_seed(seed)
    return vary_planes(points, flags, N_PLANES, spacing, mirrors, generator)


def test_planes_that_are_not_varied_stay(batch):
    points, flags, lengths = _vary(batch, 0.0, False)
    assert lengths.tolist() == [2 * N_PLANES] * 3
    torch.testing.assert_close(points, batch[0][: 2 * N_PLANES], rtol=0, atol=1e-6)
    assert torch.equal(flags, batch[1][: 2 * N_PLANES])


def test_half_of_the_shapes_are_turned_upside_down(batch):
    points, flags, _ = _vary(batch, 0.0, True, copies=100)
    original = batch[0][: 2 * N_PLANES].repeat(1, 100, 1, 1)
    order = torch.arange(2 * N_PLANES).view(N_PLANES, 2).flip(0).flatten()  # planes, not loops
    same, turned = (
        (points - wanted).abs().amax(dim=(0, 2, 3)) < 1e-5 for wanted in (original, original[order])
    )
    assert (same ^ turned).all() and 0.4 < turned.float().mean() < 0.6
    assert torch.equal(flags, batch[1][: 2 * N_PLANES].repeat(1, 100))


def test_varied_spacing_takes_loops_from_between_the_planes(batch):
    points, flags, lengths = _vary(batch, 1.0, False, copies=20)
    assert (lengths == 2 * N_PLANES).all() and (flags.sum(dim=0) == N_PLANES).all()
    sizes = points[0::2].abs().amax(dim=(2, 3))  # (P, B), growing with height
    assert (sizes.diff(dim=0) > -1e-6).all()
    assert sizes[0].min() >= 0.29 and sizes[-1].max() <= 0.53
    assert sizes[2].std() > 1e-3
    # Inner loops stay inner ones.
    assert (points[1::2].abs().amax(dim=(2, 3)) < 0.6 * sizes).all()


def test_where_counts_differ_the_nearer_plane_is_taken(batch):
    """With an inner loop on the upper planes only, no plane gets half of one."""
    points, flags = (torch.cat([part[0:1], part[2:3], part[4:]]) for part in batch)
    points, flags, lengths = _vary((points, flags), 8.0, True, copies=50)
    assert lengths.min() < lengths.max()
    for row in range(points.shape[1]):
        loops = points[: lengths[row], row]
        assert (loops.amax(dim=(1, 2)) > 0.1).all()
        assert (points[lengths[row] :, row] == 0).all()
        assert flags[: lengths[row], row].sum() == N_PLANES


def practise(batch, share=1.0, seed=0, n_shapes=64, **practice):
    """Edits of many copies of the first shape: what came out, and the shape's own loops."""
    points, flags = (part[:, :1].repeat(1, n_shapes, *[1] * (part.ndim - 2)) for part in batch)
    generator = torch.Generator().manual_seed(seed)
    return practise_edits(points, flags, N_PLANES, share, generator, Practice(**practice))


def test_unedited_shapes_are_told_of_as_they_are(batch):
    whole = batch[0][: 2 * N_PLANES, :1]
    result = practise(batch, share=0.0)
    assert result.is_told.all()
    for points in (result.points, result.told_points):
        assert torch.equal(points, whole.expand_as(points))
    assert torch.equal(result.flags, result.told_flags)
    assert result.lengths.tolist() == result.told_lengths.tolist() == [2 * N_PLANES] * 64
    some = practise(batch, share=0.5)
    edited = (some.points[: len(whole)] != whole).flatten(2).any(2).any(0)
    assert 0.1 < edited.float().mean() < 0.6


def test_bent_loops_depart_from_one_plane_on(batch):
    """The latent tells of the shape as it was; only the first edited loop comes as a surprise."""
    result = practise(batch, adds=0.0, removes=0.0, inner=0.0)
    whole = batch[0][: 2 * N_PLANES, :1]
    assert torch.equal(result.told_points, whole.expand_as(result.told_points))
    departs = (result.points - whole).abs().amax(dim=(2, 3)) > 1e-3  # (T, B)
    first = departs.long().argmax(dim=0)
    steps = torch.arange(2 * N_PLANES)[:, None]
    assert torch.equal(departs, steps >= first) and (first % 2 == 0).all()
    assert set(first.tolist()) == {0, 2, 4, 6, 8}
    assert torch.equal(~result.is_told[..., 0], steps == first)
    assert result.is_told[..., 1].all()
    # Loops of a plane keep to each other: the inner one stays within the outer one.
    extent = result.points.amax(dim=-2) - result.points.amin(dim=-2)
    assert (extent[0::2] > extent[1::2]).all()
    # All planes move alike, so what is above an edit fits what is below it.
    shift = (result.points - whole).mean(dim=2)  # (T, B, 2)
    last = shift[-2]
    np.testing.assert_allclose(shift[first, torch.arange(64)], last, atol=0.06)


def test_edits_of_inner_loops_leave_the_outer_ones(batch):
    result = practise(batch, adds=0.0, removes=0.0, inner=1.0)
    whole = batch[0][: 2 * N_PLANES, :1]
    assert torch.equal(result.points[0::2], whole[0::2].expand_as(result.points[0::2]))
    assert (result.points[-1] != whole[-1]).flatten(1).any(1).all()
    assert ((~result.is_told[..., 0]).sum(dim=0) == 1).all()


def counts_of(flags, lengths):
    """Loops of each plane, a tuple a shape."""
    found = []
    for shape, length in enumerate(lengths.tolist()):
        opens = np.flatnonzero(flags[:length, shape].numpy() > 0.5)
        found.append(tuple(np.diff(np.append(opens, length)).tolist()))
    return found


def test_added_loops_are_surprises_where_they_begin(batch):
    result = practise(batch, adds=1.0, removes=0.0)
    assert counts_of(result.flags, result.lengths) == [(2,) * N_PLANES] * 64
    told = counts_of(result.told_flags, result.told_lengths)
    # Half of the edits keep one loop of two, half of those everywhere, the others from a plane on.
    expected = {(2,) * k + (1,) * (N_PLANES - k) for k in range(N_PLANES + 1)}
    assert set(told) == expected
    for shape, counts in enumerate(told):
        surprises = [tuple(at) for at in (~result.is_told[:, shape]).nonzero().tolist()]
        begins = counts.index(1) if 1 in counts else None
        step = None if begins is None else 2 * begins + 1
        assert surprises == ([] if step is None else [(step, 0), (step, 1)])


def test_removed_loops_are_surprises_where_they_are_missed(batch):
    result = practise(batch, adds=0.0, removes=1.0)
    assert counts_of(result.told_flags, result.told_lengths) == [(2,) * N_PLANES] * 64
    actual = counts_of(result.flags, result.lengths)
    assert set(actual) == {(2,) * k + (1,) * (N_PLANES - k) for k in range(N_PLANES + 1)}
    for shape, counts in enumerate(actual):
        surprises = [tuple(at) for at in (~result.is_told[:, shape]).nonzero().tolist()]
        # The flag of the plane that follows says that a loop is missing, if one does follow.
        missed = counts.index(1) if 1 in counts else N_PLANES
        step = sum(counts[: missed + 1])
        assert surprises == ([(step, 1)] if missed < N_PLANES - 1 else [])
