import numpy as np
import pytest
import trimesh

from loopdraw.evaluation import measures
from loopdraw.evaluation.checks import count_solids
from loopdraw.evaluation.measures import (
    CLOUD_POINTS,
    degenerate_loops,
    interpolation_changes,
    measure_shape,
    measure_shapes,
    self_crossing_loops,
    surface_distance,
    validity,
)
from loopdraw.loops.geometry import make_planes

PLANES = make_planes("y", 9, -0.4, 0.4)
ANGLES = np.arange(64) * (2 * np.pi / 64)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
BOW = SQUARE[[0, 2, 1, 3]]


def cylinder(radius, *more_loops):
    return [[radius * CIRCLE, *more_loops] for _ in PLANES]


def test_a_solid_cylinder():
    measures = measure_shape(PLANES, cylinder(0.3), seed=0)
    assert measures[:6] == (9, 0, 0, 0, True, 1)
    assert measures.cloud.shape == (CLOUD_POINTS, 3)
    assert measures.cloud.dtype == np.float32
    radii = np.linalg.norm(measures.cloud[:, [0, 2]], axis=1)
    assert radii.max() < 0.31
    assert abs(measures.cloud[:, 1]).max() < 0.41
    # Points as dense as these are about 1/2 / sqrt(density) from the nearest one.
    area = 2 * np.pi * 0.3 * (0.8 + 0.3)
    assert 0.2 < np.sqrt(measures.resampling / 2) / np.sqrt(area / CLOUD_POINTS) < 1.0


def test_the_seed_decides_the_points():
    clouds = [measure_shape(PLANES, cylinder(0.3), seed).cloud for seed in (1, 1, 2)]
    assert np.array_equal(clouds[0], clouds[1])
    assert not np.array_equal(clouds[0], clouds[2])


def test_loops_that_give_no_mesh():
    measures = measure_shape(PLANES, [[] for _ in PLANES], seed=0)
    assert measures[:7] == (0, 0, 0, 0, False, 0, None)
    numbers = validity([measures])
    assert numbers["with_mesh"] == numbers["watertight"] == numbers["degenerate"] == 0
    assert numbers["resampling"] is None
    assert np.isnan(surface_distance(PLANES, cylinder(0.3), [[] for _ in PLANES], 0)).all()


def test_validity_counts_shapes_and_loops():
    line = np.array([[0.0, 0.0], [0.3, 0.0], [0.6, 0.0], [0.3, 0.0]])
    two_solids = [[0.1 * CIRCLE, 0.1 * CIRCLE + 0.5] for _ in PLANES]
    marked = cylinder(0.3)
    marked[4] = [0.4 * BOW, line]
    shapes = [cylinder(0.3), two_solids, marked, [[] for _ in PLANES]]
    rng = np.random.default_rng(0)
    numbers = validity(measure_shapes(PLANES, shapes, rng))
    assert (numbers["shapes"], numbers["loops"]) == (4, 9 + 18 + 10)
    assert numbers["with_mesh"] == numbers["watertight"] == 3 / 4
    assert numbers["degenerate"] == 1 / 37
    assert numbers["self_crossing"] == 2 / 37  # the bow, and the line that goes back on itself
    assert numbers["one_solid"] in (1 / 4, 2 / 4)  # two solids are none


def test_surface_distance():
    same, floor = surface_distance(PLANES, cylinder(0.3), cylinder(0.3), 0)
    assert same == pytest.approx(floor, rel=0.05)
    apart, _ = surface_distance(PLANES, cylinder(0.3), cylinder(0.4), 0)
    # 0.1 all around the side; the caps differ only by a ring.
    assert 0.06 < apart < 0.11


def test_a_surface_that_takes_too_long_has_no_distance(monkeypatch):
    monkeypatch.setattr(measures, "CHECK_SECONDS", 0.001)
    assert np.isnan(surface_distance(PLANES, cylinder(0.3), cylinder(0.3), 0)).all()


def test_degenerate_loops():
    loops = [
        0.1 * CIRCLE,
        0.1 * BOW,  # its halves run in opposite directions; something is inside all the same
        1e-4 * CIRCLE,  # a point
        CIRCLE * (0.2, 1e-4),  # a line
        CIRCLE * (0.2, 0.01),  # thin
    ]
    assert degenerate_loops(loops, PLANES).tolist() == [False, False, True, True, False]
    assert degenerate_loops([], PLANES).tolist() == []


def test_self_crossing_loops():
    assert self_crossing_loops([CIRCLE, BOW, SQUARE]).tolist() == [False, True, False]
    assert self_crossing_loops([]).tolist() == []


def test_count_solids():
    ball = trimesh.creation.icosphere(subdivisions=1)
    hollow = trimesh.creation.icosphere(subdivisions=1, radius=0.5)
    hollow.invert()
    other = ball.copy()
    other.apply_translation([5, 0, 0])
    for parts, n_solids in (([ball], 1), ([ball, hollow], 1), ([ball, hollow, other], 2)):
        mesh = trimesh.util.concatenate(parts)
        assert count_solids(mesh.vertices, mesh.faces) == n_solids


def test_interpolation_changes_are_volumes():
    def bar(length, hole=False):
        box = SQUARE * (length, 0.2)
        return [[box, box * 0.5 + 0.01] if hole else [box] for _ in PLANES]

    # Nine planes, 0.1 apart, each standing for a slab of that thickness.
    steps, ends = interpolation_changes(PLANES, [bar(0.2), bar(0.3), bar(0.7)])
    np.testing.assert_allclose(steps, 0.9 * 0.2 * np.array([0.1, 0.4]), rtol=1e-9)
    assert ends == pytest.approx(0.9 * 0.2 * 0.5)
    steps, _ = interpolation_changes(PLANES, [bar(0.2), bar(0.2, hole=True)])
    np.testing.assert_allclose(steps, 0.9 * 0.1 * 0.1, rtol=1e-9)
    nothing = [[] for _ in PLANES]
    steps, ends = interpolation_changes(PLANES, [nothing, bar(0.2), nothing])
    np.testing.assert_allclose(steps, 0.9 * 0.2 * 0.2, rtol=1e-9)
    assert ends == 0
    # The bow encloses its two halves, 1/2 together.
    bow = [[BOW] for _ in PLANES]
    steps, _ = interpolation_changes(PLANES, [nothing, bow])
    np.testing.assert_allclose(steps, 0.9 * 0.5, rtol=1e-9)
