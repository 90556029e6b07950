"""Loop sequences: exact rules, published data, and round trips as properties."""

import numpy as np
import pytest
from conftest import DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_loops import circle, loop_lists, star_loops

from loopdraw.loops import geometry
from loopdraw.loops.representations import (
    REPRESENTATIONS,
    canonical_polyline,
    ellipse_loop,
    eos_timestep,
    fit_ellipse,
    loops_to_sequence,
    representation_with_id,
    sequence_planes,
    sequence_to_loops,
)

POLYLINE = REPRESENTATIONS["fixed-res-polyline"]
ELLIPSES = REPRESENTATIONS["ellipse-multiple"]
ELLIPSE = REPRESENTATIONS["ellipse-single"]


def polyline_timestep(loop, flag):
    return np.concatenate([canonical_polyline(loop).ravel(), [flag]])


def largest_gap(loop, other):
    """Largest distance from the points of `loop` to the densely sampled curve `other`."""
    dense = geometry.resample_loop(other, 4000)
    return np.linalg.norm(loop[:, None] - dense[None], axis=2).min(axis=1).max()


# ------------------------------------------------------------------------------- representations


def test_ids_and_features_are_the_published_ones():
    assert [(r.name, r.id, r.n_features, r.has_flag) for r in REPRESENTATIONS.values()] == [
        ("ellipse-single", 0, 5, False),
        ("ellipse-multiple", 1, 6, True),
        ("fixed-res-polyline", 3, 65, True),
    ]
    assert representation_with_id(np.int64(3)) is POLYLINE
    with pytest.raises(ValueError, match="id 2; known are 0"):
        representation_with_id(2)


def test_polyline_of_a_square_starts_low_and_runs_clockwise():
    square = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    points = canonical_polyline(square)
    expected = np.arange(8) / 8
    assert np.allclose(points[:8], np.stack([0 * expected, expected], axis=1))
    assert np.allclose(points[8:16], np.stack([expected, 0 * expected + 1], axis=1))
    assert geometry.signed_area(points) == pytest.approx(-1)


def test_tied_start_is_the_same_for_every_rotation():
    diamond = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 1.5], [1.5, 0.5]])[[0, 1, 3, 2]]
    rounding = 1e-9 * np.random.default_rng(0).normal(size=(20, 4, 2))
    starts = [canonical_polyline(np.roll(diamond, i, axis=0) + rounding[i])[0] for i in range(20)]
    assert np.allclose(starts, [0, 1], atol=1e-8)


@settings(deadline=None)
@given(star_loops(), st.integers(0, 60), st.booleans())
def test_polyline_does_not_depend_on_start_or_direction(loop, shift, flip):
    turned = np.roll(loop, shift, axis=0)
    turned = turned[::-1] if flip else turned
    points = canonical_polyline(loop)
    assert np.allclose(points, canonical_polyline(turned), atol=1e-9)
    assert geometry.signed_area(points) < 0
    assert points.sum(axis=1).argmin() == 0
    assert loop.sum(axis=1).min() == pytest.approx(points[0].sum(), abs=1e-5)


@settings(deadline=None)
@given(star_loops())
def test_polyline_points_are_even_distinct_and_on_the_loop(loop):
    points = canonical_polyline(loop)
    assert len(np.unique(points.round(9), axis=0)) == 32
    assert largest_gap(points, loop) < 1e-3
    # Chords are at most the arc between two points, 1/32 of the length.
    perimeter = np.linalg.norm(np.roll(loop, -1, axis=0) - loop, axis=1).sum()
    chords = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    assert chords.max() <= perimeter / 32 + 1e-9


def test_ellipse_fit_of_an_ellipse_is_that_ellipse():
    expected = [0.1, -0.3, 0.4, 0.37, 2.5]
    # Dense, and evenly spaced along the curve, which weights all of it alike: exact for circles,
    # close for ellipses.
    assert fit_ellipse([ellipse_loop(expected, 4000)]) == pytest.approx(expected, abs=0.02)
    fitted = fit_ellipse([circle(0.25, (0.5, 0.25), 4000)])
    assert fitted == pytest.approx([0.5, 0.25, 0.25, 0.25, 0], abs=1e-5)


@settings(deadline=None)
@given(star_loops())
def test_ellipse_fit_agrees_with_its_definition_by_samples(loop):
    points = geometry.resample_loop(loop, 20000)
    centre = points.mean(axis=0)
    _, singular_values, axes = np.linalg.svd(points - centre, full_matrices=False)
    cx, cy, a, b, phi = fit_ellipse([loop])
    assert [cx, cy] == pytest.approx(centre, abs=1e-4)
    assert [a, b] == pytest.approx(np.sqrt(2 * singular_values**2 / 20000), abs=1e-4)
    assert 0 <= phi < np.pi
    if a > 1.01 * b:
        assert abs(axes[0] @ [np.cos(phi), np.sin(phi)]) == pytest.approx(1, abs=1e-3)


def test_sequence_order_flags_and_plane_index():
    small, large = circle(0.1), circle(0.3)
    loops_by_plane = [[], [small, large], [], [small]]
    for representation in (POLYLINE, ELLIPSES):
        sequence, plane_index = loops_to_sequence(loops_by_plane, representation)
        assert sequence.dtype == np.float32 and plane_index.dtype == np.int32
        assert sequence.shape == (3, representation.n_features)
        assert sequence[:, -1].tolist() == [1, 0, 1]
        assert plane_index.tolist() == [1, 1, 3]
    assert np.abs(sequence[:, 2] - [0.3, 0.1, 0.1]).max() < 1e-3  # the larger loop first
    sequence, plane_index = loops_to_sequence(loops_by_plane, ELLIPSE)
    assert sequence.shape == (2, 5) and plane_index.tolist() == [1, 3]
    # Points spread evenly along both loops: three quarters of the length at radius 0.3.
    assert sequence[0, 2] == pytest.approx(np.sqrt(0.75 * 0.3**2 + 0.25 * 0.1**2), rel=1e-3)


def test_no_loops_give_an_empty_sequence():
    for representation in REPRESENTATIONS.values():
        sequence, plane_index = loops_to_sequence([[], []], representation)
        assert sequence.shape == (0, representation.n_features) and plane_index.shape == (0,)
        assert sequence_to_loops(sequence, 2, representation, False) == [[], []]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_loops_that_are_not_finite_are_named(bad):
    loop = circle()
    loop[3, 1] = bad
    for representation in REPRESENTATIONS.values():
        with pytest.raises(ValueError, match="plane 1 has points that are not finite"):
            loops_to_sequence([[circle()], [loop]], representation)


@pytest.mark.parametrize("loop", [np.zeros((2, 2)), np.zeros((0, 2)), np.ones((5, 2))])
def test_loops_without_length_are_refused(loop):
    with pytest.raises(ValueError, match="fewer than 3 points or no length"):
        loops_to_sequence([[loop]], POLYLINE)


# ------------------------------------------------------------------------------ sequence to loops


@pytest.mark.parametrize(
    ("flags", "planes"),
    [
        ([1, 0, 1, 1], [0, 0, 1, 2]),
        ([0, 0, 1, 0], [0, 0, 1, 1]),  # the first loop opens plane 0 whatever its flag
        ([1, 1, 1, 1], [0, 1, 2, -1]),  # past the last plane
        ([0.4, 0.6, 0.5, 1.0], [0, 1, 1, 2]),
        ([-8.0, 7.0, -3.0, 1.2], [0, 1, 1, 2]),  # raw logits
    ],
)
def test_planes_from_flags(flags, planes):
    sequence = np.stack([polyline_timestep(circle(), flag) for flag in flags])
    assert sequence_planes(sequence, 3, POLYLINE, False).tolist() == planes


def test_padding_is_skipped_wherever_it_stands():
    step = polyline_timestep(circle(), 1)
    sequence = np.stack([0 * step, step, 0 * step, step, 0 * step])
    assert sequence_planes(sequence, 3, POLYLINE, False).tolist() == [-1, 0, -1, 1, -1]


@pytest.mark.parametrize("representation", [POLYLINE, ELLIPSES])
def test_eos_ends_the_sequence_only_in_the_upper_part(representation):
    loops_by_plane = [[circle()] for _ in range(10)]
    sequence, _ = loops_to_sequence(loops_by_plane, representation)
    for at, ended in ((3, False), (5, False), (6, True), (8, True)):
        with_eos = sequence.copy()
        with_eos[at] = eos_timestep(representation)
        planes = sequence_planes(with_eos, 10, representation, True)
        expected = np.arange(10)
        if ended:
            expected[at:] = -1
        assert planes.tolist() == expected.tolist()
        assert (sequence_planes(with_eos, 10, representation, False) == np.arange(10)).all()
        with_eos[at] = 1e-4 * (
            np.arange(representation.n_features) == 0
        )  # without the flag it is a small loop, not an end
        assert (sequence_planes(with_eos, 10, representation, True) >= 0).all()


def test_eos_sizes():
    loops_by_plane = [[circle()] for _ in range(10)]
    sequence, _ = loops_to_sequence(loops_by_plane, POLYLINE)
    for size, ended in ((0.0199, True), (0.0201, False)):
        # 32 points at a distance r from their centroid: the root of the sum is r sqrt(32).
        sequence[8, :-1] = (circle(size / np.sqrt(32), (0.3, 0.2), 32)).ravel()
        assert (sequence_planes(sequence, 10, POLYLINE, True)[-1] == -1) == ended
    sequence, _ = loops_to_sequence(loops_by_plane, ELLIPSES)
    for size, ended in ((0.0049, True), (-0.0049, True), (0.0051, False), (-0.0051, False)):
        sequence[8, :-1] = [0, size, 0.001, 0, 0]
        assert (sequence_planes(sequence, 10, ELLIPSES, True)[-1] == -1) == ended


def test_single_ellipses_count_planes_by_timestep():
    sequence, plane_index = loops_to_sequence([[circle()], [], [circle(0.3)]], ELLIPSE)
    assert sequence_planes(sequence, 3, ELLIPSE, False).tolist() == [0, 1]
    loops = sequence_to_loops(sequence, 3, ELLIPSE, False, plane_index)
    assert [len(of_plane) for of_plane in loops] == [1, 0, 1]
    with pytest.raises(ValueError, match="no flag"):
        eos_timestep(ELLIPSE)


def test_plane_index_overrides_flags():
    sequence, plane_index = loops_to_sequence(
        [[], [circle(0.3), circle(0.1)], [circle()]], POLYLINE
    )
    padded = np.concatenate([sequence, [eos_timestep(POLYLINE)], np.zeros((2, 65))])
    loops = sequence_to_loops(padded, 3, POLYLINE, True, plane_index)
    assert [len(of_plane) for of_plane in loops] == [0, 2, 1]
    index = np.array([2, -1, 7, -1, -1, -1])
    loops = sequence_to_loops(padded, 3, POLYLINE, True, index)
    assert [len(of_plane) for of_plane in loops] == [0, 0, 1]


@pytest.mark.parametrize("representation", REPRESENTATIONS.values(), ids=lambda r: r.name)
def test_sequences_of_the_wrong_kind_are_refused(representation):
    with pytest.raises(ValueError, match="shape"):
        sequence_to_loops(np.zeros((4, representation.n_features + 1)), 3, representation, False)
    sequence = np.ones((4, representation.n_features))
    sequence[2, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        sequence_to_loops(sequence, 3, representation, False)


@settings(max_examples=40, deadline=None)
@given(loop_lists)
def test_polylines_survive_the_round_trip(loops_by_plane):
    sequence, plane_index = loops_to_sequence(loops_by_plane, POLYLINE)
    n_planes = len(loops_by_plane)
    rebuilt = sequence_to_loops(sequence, n_planes, POLYLINE, False, plane_index)
    assert [len(loops) for loops in rebuilt] == [len(loops) for loops in loops_by_plane]
    for loops, given_loops in zip(rebuilt, loops_by_plane, strict=True):
        for loop, original in zip(loops, geometry.sort_by_area(given_loops), strict=True):
            assert loop.dtype == np.float64 and loop.shape == (32, 2)
            assert largest_gap(loop, original) < 1e-3
    # A second trip changes nothing but the spacing along the loops.
    again, plane_index_again = loops_to_sequence(rebuilt, POLYLINE)
    assert (plane_index_again == plane_index).all()
    assert np.array_equal(again[:, -1], sequence[:, -1])
    # Planes that all carry loops need no plane index: the flags say the same.
    carrying = [loops for loops in loops_by_plane if loops]
    planes = sequence_planes(sequence, len(carrying), POLYLINE, False)
    assert np.array_equal(np.bincount(planes, minlength=len(carrying)), [len(c) for c in carrying])


ellipse_parameters = st.tuples(
    st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0.2, 0.4), st.floats(0.1, 0.18),
    st.floats(0.05, 3.1),
)  # fmt: skip


@settings(deadline=None)
@given(ellipse_parameters)
def test_ellipses_survive_the_round_trip(parameters):
    sequence, _ = loops_to_sequence([[ellipse_loop(parameters, 500)]], ELLIPSES)
    loop = sequence_to_loops(sequence, 1, ELLIPSES, False)[0][0]
    assert loop.shape == (64, 2)
    # Even spacing along the curve counts the flat sides more than the ellipse's own parameter.
    assert largest_gap(loop, ellipse_loop(parameters, 500)) < 0.15 * parameters[2]
    assert sequence[0, 0:2] == pytest.approx(parameters[0:2], abs=1e-5)
    turn = abs(sequence[0, 4] - parameters[4])
    assert min(turn, np.pi - turn) < 1e-3


@pytest.mark.parametrize("representation", REPRESENTATIONS.values(), ids=lambda r: r.name)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_finite_sequence_gives_loops_in_valid_planes(representation, data):
    shape = (data.draw(st.integers(0, 12)), representation.n_features)
    sequence = data.draw(hnp.arrays(np.float32, shape, elements=st.floats(-1e3, 1e3, width=32)))
    n_planes = data.draw(st.integers(1, 8))
    use_eos = data.draw(st.booleans())
    planes = sequence_planes(sequence, n_planes, representation, use_eos)
    assert planes.shape == (len(sequence),) and (planes < n_planes).all()
    assert (np.diff(planes[planes >= 0]) >= 0).all()
    loops_by_plane = sequence_to_loops(sequence, n_planes, representation, use_eos)
    counts = np.bincount(planes[planes >= 0], minlength=n_planes)
    assert [len(loops) for loops in loops_by_plane] == counts.tolist()
    assert all(np.isfinite(loop).all() for loops in loops_by_plane for loop in loops)


# --------------------------------------------------------------------------------- published data


@pytest.mark.parametrize("name", ["data-polyline", "data-ellipse"])
def test_published_caches_are_read_as_they_are(name):
    cache = np.load(DATA / "parity" / name / "train" / "preprocessed_cache.npz")
    representation = representation_with_id(int(cache["loop_repr_type"]))
    n_planes = len(cache["planes"])
    for sequence in cache["meshes_reprs"]:
        assert sequence.dtype == np.float64
        used = sequence.any(axis=1)
        planes = sequence_planes(sequence, n_planes, representation, use_eos_token=False)
        assert (planes[~used] == -1).all()
        flags = sequence[used, -1]
        expected = np.cumsum(flags) - 1
        assert (planes[used] == np.where(expected < n_planes, expected, -1)).all()
        # The published sequences close with an end of sequence on plane 10 of 10, or earlier.
        with_eos = sequence_planes(sequence, n_planes, representation, use_eos_token=True)
        last = np.flatnonzero(used)[-1]
        assert sequence[last, -1] == 1 and not sequence[last, :-1].any()
        assert with_eos[last] == -1 and (with_eos[:last] == planes[:last]).all()
        loops_by_plane = sequence_to_loops(sequence, n_planes, representation, True)
        if representation is POLYLINE:
            loops = [loop for of_plane in loops_by_plane for loop in of_plane]
            assert np.array_equal(np.stack(loops).reshape(-1, 64), sequence[:last, :-1])


def test_published_polylines_keep_their_start_when_written_again():
    cache = np.load(DATA / "parity/data-polyline" / "train" / "preprocessed_cache.npz")
    sequence = cache["meshes_reprs"][0]
    loops_by_plane = sequence_to_loops(sequence, 10, POLYLINE, True)
    again, _ = loops_to_sequence(loops_by_plane, POLYLINE)
    assert np.array_equal(again[:, -1], sequence[: len(again), -1])
    assert np.abs(again[:, :2] - sequence[: len(again), :2]).max() < 1e-6
    # 32 distinct points now, where the published file repeats one.
    points = again[:, :-1].reshape(-1, 32, 2)
    steps = np.linalg.norm(np.roll(points, -1, axis=1) - points, axis=2)
    assert steps.min() > 1e-4
