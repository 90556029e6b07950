"""Surfaces rebuilt from loops: exact shapes, topology, and promises kept for any loops at all."""

import sys

import numpy as np
import pytest
import shapely
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from loopdraw.demo import vases
from loopdraw.files import UserError
from loopdraw.loops.geometry import make_planes, plane_heights, project, resample_loop
from loopdraw.loops.mesh_files import save_mesh
from loopdraw.loops.nesting import collect_loops
from loopdraw.loops.representations import REPRESENTATIONS, loops_to_sequence, sequence_to_loops
from loopdraw.loops.slicing import slice_mesh
from loopdraw.surface.correspondence import group_loops
from loopdraw.surface.fields import THINNEST, loop_field, signed_distances
from loopdraw.surface.loft import make_bands
from loopdraw.surface.reconstruction import (
    PREVIEW_RESOLUTION,
    poisson_mesh,
    reconstruct_mesh,
)

POLYLINE = REPRESENTATIONS["fixed-res-polyline"]
PLANES = make_planes("y", 32, -0.48, 0.48)
STEP = 0.96 / 31


def circle(radius, centre=(0.0, 0.0), n_points=64):
    t = 2 * np.pi * np.arange(n_points) / n_points
    return np.stack([np.cos(t), np.sin(t)], axis=1) * radius + centre


def rectangle(width, depth, centre=(0.0, 0.0)):
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.5
    return corners * (width, depth) + centre


def rebuilt(vertices, faces, resolution=64, planes=PLANES):
    """Slice a mesh, keep only its loop sequence, and rebuild: (mesh, loops by plane)."""
    loops_by_plane = slice_mesh(vertices, faces, planes).loops_by_plane
    sequence, plane_index = loops_to_sequence(loops_by_plane, POLYLINE)
    loops_by_plane = sequence_to_loops(sequence, len(planes), POLYLINE, False, plane_index)
    return checked(*reconstruct_mesh(planes, loops_by_plane, resolution)), loops_by_plane


def checked(vertices, faces):
    """A trimesh of the result, after the checks that every result must pass.

    Vertices are rounded and merged as readers of mesh files do.
    """
    assert vertices.dtype == np.float64 and faces.dtype == np.int64
    assert np.isfinite(vertices).all()
    mesh = trimesh.Trimesh(vertices.round(8), faces, process=True)
    assert len(mesh.vertices) == len(vertices), "vertices meet"
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.volume > 0
    return mesh


def farthest_from_surface(mesh, planes, loops_by_plane):
    """Largest distance in the planes from a point of the loops to the mesh's edges there."""
    vertices, edges = mesh.vertices, mesh.edges_unique
    farthest = 0.0
    for plane, loops in zip(planes, loops_by_plane, strict=True):
        if not loops:
            continue
        on_plane = np.abs((vertices - plane[1]) @ plane[0]) < 1e-7
        flat = project(vertices, plane)
        lines = shapely.multilinestrings(
            shapely.linestrings(flat[edges[on_plane[edges].all(axis=1)]])
        )
        points = np.concatenate([resample_loop(loop, 200) for loop in loops])
        farthest = max(farthest, shapely.distance(shapely.points(points), lines).max())
    return farthest


def symmetric_distance(mesh, other, n_samples=20000):
    one, _ = trimesh.sample.sample_surface(mesh, n_samples, seed=1)
    two, _ = trimesh.sample.sample_surface(other, n_samples, seed=2)
    return (cKDTree(two).query(one)[0].mean() + cKDTree(one).query(two)[0].mean()) / 2


# ------------------------------------------------------------------------------- simple shapes


@pytest.mark.parametrize("axis", "xyz")
def test_prism_is_exact(axis):
    planes = make_planes(axis, 6, -0.3, 0.5)
    outline = rectangle(0.4, 0.2, (0.1, -0.05))
    mesh = checked(*reconstruct_mesh(planes, [[outline]] * 6, 40))
    k = "xyz".index(axis)
    assert mesh.euler_number == 2
    assert mesh.bounds[:, k] == pytest.approx([-0.3, 0.5], abs=1e-12)
    assert mesh.volume == pytest.approx(0.4 * 0.2 * 0.8, rel=1e-3)
    # No shift: the mesh stands where the loops do, in the plane's own axes.
    frame = planes[0, 2:4]
    centre = project(mesh.center_mass[None], planes[0])[0]
    assert centre == pytest.approx([0.1, -0.05], abs=1e-4)
    assert (mesh.bounds @ frame.T) == pytest.approx(
        np.array([[-0.1, -0.15], [0.3, 0.05]]), abs=5e-4
    )
    # The caps are flat and look outwards.
    for end, sign in ((-0.3, -1), (0.5, 1)):
        cap = (np.abs(mesh.triangles[:, :, k] - end) < 1e-12).all(axis=1)
        assert mesh.area_faces[cap].sum() == pytest.approx(0.4 * 0.2, rel=1e-3)
        assert mesh.face_normals[cap][:, k] == pytest.approx(sign)
    assert farthest_from_surface(mesh, planes, [[outline]] * 6) < 1e-6


def test_where_one_loop_follows_one_its_points_are_the_vertices():
    outline = rectangle(0.4, 0.2, (0.1, -0.05))
    # In another order on each plane: where a loop begins and which way it runs do not matter.
    loops = [[np.roll(outline, k, axis=0)[:: 1 - 2 * (k % 2)]] for k in range(6)]
    planes = make_planes("y", 6, -0.3, 0.5)
    mesh = checked(*reconstruct_mesh(planes, loops))
    assert len(mesh.vertices) == 6 * 4 and len(mesh.faces) == 5 * 4 * 2 + 2 * 2
    assert mesh.volume == pytest.approx(0.4 * 0.2 * 0.8, rel=1e-9)
    expected = np.concatenate([plane[1] + outline @ plane[2:4] for plane in planes])
    distances, _ = cKDTree(mesh.vertices).query(expected)
    assert distances.max() < 1e-12


def test_bands_follow_a_slanting_tube():
    # It moves by three times its width from plane to plane.
    loops = [[circle(0.03, (0.18 * k, 0), 32)] for k in range(6)]
    mesh = checked(*reconstruct_mesh(make_planes("y", 6, 0, 0.9), loops))
    area = 16 * 0.03**2 * np.sin(2 * np.pi / 32)
    assert len(mesh.vertices) == 6 * 32
    assert mesh.volume == pytest.approx(0.9 * area, rel=1e-6)


def test_marching_cubes_is_left_where_loops_cross():
    one, other = circle(0.2, n_points=32), circle(0.1, (0.2, 0), 32)
    loops = [[one]] * 3 + [[one, other]] + [[one]] * 4
    planes = make_planes("y", 8, 0, 0.7)
    mesh = checked(*reconstruct_mesh(planes, loops))
    assert mesh.body_count == 1 and mesh.euler_number == 2
    # Two slabs on each side of the crossing, and bands in the others.
    on_plane = [
        int((np.abs(mesh.vertices[:, 1] - height) < 1e-9).sum()) for height in planes[:, 1, 1]
    ]
    assert [count == 32 for count in on_plane] == [k not in (2, 3, 4) for k in range(8)]


def test_loops_that_split_are_met_at_each_of_their_corners():
    star = circle(0.3, n_points=32)
    star[::2] *= 0.8
    loops = [[star]] * 3 + [[circle(0.08, (-0.15, 0), 32), circle(0.08, (0.15, 0), 32)]] * 3
    planes = make_planes("y", 6, 0, 0.5)
    mesh = checked(*reconstruct_mesh(planes, loops, 24))
    assert mesh.body_count == 1
    for plane, of_plane in zip(planes[1:5], loops[1:5], strict=True):
        points = np.concatenate([plane[1] + loop @ plane[2:4] for loop in of_plane])
        distances, _ = cKDTree(mesh.vertices).query(points)
        assert distances.max() < 1e-3


def test_falling_planes_give_the_same_solid():
    outline = rectangle(0.4, 0.2, (0.1, -0.05))
    loops = [[outline * (1 + 0.1 * k)] for k in range(5)]
    planes = make_planes("y", 5, -0.3, 0.5)
    rising = checked(*reconstruct_mesh(planes, loops, 40))
    falling = checked(*reconstruct_mesh(planes[::-1], loops[::-1], 40))
    assert falling.bounds == pytest.approx(rising.bounds, abs=5e-4)
    assert falling.volume == pytest.approx(rising.volume, rel=1e-4)


def test_cone_frustum_is_ruled():
    loops = [[circle(0.1 + 0.02 * k, n_points=256)] for k in range(11)]
    mesh = checked(*reconstruct_mesh(make_planes("y", 11, 0, 1), loops, 64))
    assert mesh.volume == pytest.approx(np.pi / 3 * (0.01 + 0.03 + 0.09), rel=3e-3)
    assert mesh.euler_number == 2


def test_sphere():
    sphere = trimesh.creation.icosphere(5, 0.4)
    mesh, loops_by_plane = rebuilt(sphere.vertices, sphere.faces, 96)
    assert mesh.euler_number == 2
    assert mesh.volume == pytest.approx(sphere.volume, rel=0.015)
    # The top and bottom lie between planes; where, the loops before tell.
    assert mesh.bounds[:, 1] == pytest.approx([-0.4, 0.4], abs=0.005)
    assert np.linalg.norm(mesh.vertices, axis=1) == pytest.approx(0.4, abs=0.007)
    assert farthest_from_surface(mesh, PLANES, loops_by_plane) < 1e-3


@pytest.mark.parametrize(("turn", "height"), [(0, 0.38), (90, 0.08)])
def test_torus_from_both_sides(turn, height):
    torus = trimesh.creation.torus(0.3, 0.08)
    torus.apply_transform(trimesh.transformations.rotation_matrix(np.radians(turn), [1, 0, 0]))
    mesh, loops_by_plane = rebuilt(torus.vertices, torus.faces)
    assert mesh.euler_number == 0 and mesh.body_count == 1
    assert mesh.volume == pytest.approx(torus.volume, rel=0.06)
    assert mesh.bounds[:, 1] == pytest.approx([-height, height], abs=0.4 * STEP)
    assert symmetric_distance(mesh, torus) < 0.0055
    assert farthest_from_surface(mesh, PLANES, loops_by_plane) < 1e-3


def test_nested_cylinders_are_a_pipe():
    loops = [[circle(0.3), circle(0.2)[::-1]]] * 6
    mesh = checked(*reconstruct_mesh(make_planes("y", 6, -0.3, 0.3), loops, 64))
    ring = np.pi * (0.3**2 - 0.2**2)
    assert mesh.euler_number == 0 and mesh.body_count == 1
    assert mesh.volume == pytest.approx(0.6 * ring, rel=4e-3)
    assert mesh.bounds[:, 1] == pytest.approx([-0.3, 0.3], abs=1e-12)


def test_three_nested_loops_alternate():
    loops = [[circle(0.3), circle(0.2), circle(0.1)]] * 4
    mesh = checked(*reconstruct_mesh(make_planes("z", 4, 0, 0.3), loops, 64))
    assert mesh.body_count == 2
    assert mesh.euler_number == 0 + 2  # a pipe and a rod
    assert mesh.volume == pytest.approx(0.3 * np.pi * (0.09 - 0.04 + 0.01), rel=5e-3)


def test_closed_cavity_has_a_floor_and_a_lid():
    loops = [[circle(0.3)] + ([circle(0.2)] if 2 <= k <= 5 else []) for k in range(8)]
    mesh = checked(*reconstruct_mesh(make_planes("y", 8, 0, 0.7), loops, 64))
    assert mesh.body_count == 2 and mesh.euler_number == 4  # an outer and an inner surface
    # The cavity reaches half-way beyond its planes at 0.2 and 0.5.
    assert mesh.volume == pytest.approx(np.pi * (0.7 * 0.09 - 0.4 * 0.04), rel=5e-3)


def test_branches_join_and_end():
    spread = 0.15 * np.clip(np.arange(12) / 11 - 0.4, 0, None)
    loops = [
        [circle(0.06, (-s * 2, 0)), circle(0.06, (s * 2, 0))] if s > 0.035 else [circle(0.08)]
        for s in spread
    ]
    loops[-1] = loops[-1][:1]  # one branch ends below the last plane
    mesh = checked(*reconstruct_mesh(make_planes("y", 12, 0, 0.55), loops, 64))
    assert mesh.body_count == 1 and mesh.euler_number == 2
    ended = mesh.vertices[mesh.vertices[:, 0] > 0.05]
    assert ended[:, 1].max() == pytest.approx(0.525, abs=0.005)  # half-way between planes
    assert mesh.bounds[1, 1] == pytest.approx(0.55, abs=1e-12)


def test_flat_end_between_planes_is_half_way_and_round_end_is_round():
    planes = make_planes("y", 11, 0, 1)
    rod = [[circle(0.2)] if k < 7 else [] for k in range(11)]
    mesh = checked(*reconstruct_mesh(planes, rod, 48))
    assert mesh.bounds[:, 1] == pytest.approx([0, 0.65], abs=2e-3)
    assert mesh.volume == pytest.approx(np.pi * 0.04 * 0.65, rel=0.01)
    cone = [[circle(0.25 * (0.78 - 0.1 * k))] if k < 8 else [] for k in range(11)]
    mesh = checked(*reconstruct_mesh(planes, cone, 48))
    assert mesh.bounds[1, 1] == pytest.approx(0.77, abs=0.015)


def cup_with_handle(thickness=0.025):
    upright = trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0])
    # Bottom, floor and rim lie half-way between planes, where an end is expected.
    outside = trimesh.creation.cylinder(0.25, 30 * STEP, sections=64, transform=upright)
    inside = trimesh.creation.cylinder(0.21, 30 * STEP, sections=64, transform=upright)
    inside.apply_translation([0, 3 * STEP, 0])
    handle = trimesh.creation.torus(0.2, thickness)
    handle.apply_scale([0.8, 1, 1])
    handle.apply_translation([0.25, 0, 0])
    return outside.union(handle).difference(inside)


@pytest.mark.parametrize("resolution", [PREVIEW_RESOLUTION, 64])
def test_cup_with_a_handle(resolution):
    cup = cup_with_handle()
    assert cup.euler_number == 0
    mesh, loops_by_plane = rebuilt(cup.vertices, cup.faces, resolution)
    assert mesh.euler_number == 0 and mesh.body_count == 1
    assert mesh.volume == pytest.approx(cup.volume, rel=0.03)
    assert mesh.bounds[:, 1] == pytest.approx([-15 * STEP, 15 * STEP], abs=0.1 * STEP)
    if resolution > PREVIEW_RESOLUTION:
        assert farthest_from_surface(mesh, PLANES, loops_by_plane) < 1e-3
        assert symmetric_distance(mesh, cup) < 0.007
    # A straw down the axis meets the floor only: the cup is open at the top.
    floor = mesh.vertices[np.hypot(*mesh.vertices[:, [0, 2]].T) < 0.1]
    assert floor[:, 1].max() == pytest.approx(-12 * STEP, abs=0.1 * STEP)


def test_slanting_tube_neither_breaks_nor_thins():
    planes = make_planes("y", 6, 0, 0.2)
    for step in (0.03, 0.06, 0.1):  # of tubes 0.06 wide: overlapping, touching, apart
        loops = [[circle(0.03, (step * k, 0))] for k in range(6)]
        mesh = checked(*reconstruct_mesh(planes, loops, 96))
        assert mesh.body_count == 1 and mesh.euler_number == 2
        # By Cavalieri the volume does not depend on the slant.
        assert mesh.volume == pytest.approx(np.pi * 0.03**2 * 0.2, rel=0.04)


def test_handle_beside_a_wall_that_slants_as_much_stays_free():
    # On each plane the wall reaches over where the handle was on the plane before.
    loops = [[circle(0.2 + 0.02 * k), circle(0.025, (0.24 + 0.02 * k, 0))] for k in range(8)]
    mesh = checked(*reconstruct_mesh(make_planes("y", 8, 0, 0.2), loops, 96))
    assert mesh.body_count == 2 and mesh.euler_number == 4


def test_handle_whose_roots_run_level_between_planes_is_attached():
    loops = [[circle(0.2)] for _ in range(10)]
    for k in range(4, 7):
        loops[k].append(circle(0.02, (0.25, 0)))
    mesh = checked(*reconstruct_mesh(make_planes("y", 10, 0, 0.36), loops, 96))
    assert mesh.body_count == 1
    # But two things that stand beside each other stay two.
    loops = [[circle(0.2)] + ([circle(0.02, (0.25, 0))] if k < 5 else []) for k in range(10)]
    mesh = checked(*reconstruct_mesh(make_planes("y", 10, 0, 0.36), loops, 96))
    assert mesh.body_count == 2


@pytest.mark.parametrize("lean, genus", [(0.02, 1), (0.0, 0)])
def test_open_end_on_its_way_to_the_body_is_attached(lean, genus):
    """The top of a handle leans towards the body, and is to reach it. An arm hangs straight."""
    planes = make_planes("y", 10, 0, 0.36)  # 0.04 apart; the gap below the end is 0.05
    loops = [[circle(0.2)] for _ in range(10)]
    loops[2] = [rectangle(0.7, 0.4)]
    for k in range(3, 7):
        loops[k].append(circle(0.035, (0.285 + lean * (6 - k), 0)))
    mesh = checked(*reconstruct_mesh(planes, loops, 96))
    assert mesh.body_count == 1 and mesh.euler_number == 2 - 2 * genus


@pytest.mark.parametrize("resolution", [32, 48, 80])
def test_top_of_an_arch_is_held_by_both_legs(resolution):
    # The last plane cuts the top of a basket's handle, the one below it both legs beside that.
    legs = [0.165, 0.163, 0.158, 0.15, 0.136, 0.113, 0.067]
    body = [[circle(0.2)] for _ in range(20)]
    loops = [[rectangle(0.4, 0.3)], *body]
    loops += [[circle(0.02, (x, 0)), circle(0.02, (-x, 0))] for x in legs]
    loops.append([rectangle(0.09, 0.04)])
    planes = make_planes("y", len(loops), 0, 0.0316 * (len(loops) - 1))
    mesh = checked(*reconstruct_mesh(planes, loops, resolution))
    assert mesh.body_count == 1 and mesh.euler_number == 0


def test_tip_of_a_spout_on_the_last_plane_is_attached():
    # The rim rises towards the spout: the last plane cuts nothing but its tip, off the wall below.
    loops = [[circle(0.2), circle(0.17)] for _ in range(9)] + [[circle(0.03, (0.28, 0))]]
    mesh = checked(*reconstruct_mesh(make_planes("y", 10, 0, 0.36), loops, 96))
    assert mesh.body_count == 1
    # But what stands on more planes beside the vase is a thing of its own.
    loops = [[circle(0.2), circle(0.17), circle(0.03, (0.28, 0))] for _ in range(10)]
    mesh = checked(*reconstruct_mesh(make_planes("y", 10, 0, 0.36), loops, 96))
    assert mesh.body_count == 2


def test_thin_wall_of_a_bowl_has_no_gaps():
    # From plane to plane the wall moves outwards by more than its thickness.
    loops = [[circle(0.05 + 0.05 * k), circle(0.03 + 0.05 * k)] for k in range(1, 8)]
    mesh = checked(*reconstruct_mesh(make_planes("y", 7, 0, 0.2), loops, 64))
    assert mesh.body_count == 1 and mesh.euler_number == 0


def test_horizontal_bar_keeps_its_thickness():
    # A gate: two posts and a bar on one plane; above it nothing, below it the posts only.
    posts = [rectangle(0.06, 0.06, (-0.3, 0)), rectangle(0.06, 0.06, (0.3, 0))]
    loops = [posts, posts, posts, [rectangle(0.66, 0.06)], []]
    mesh = checked(*reconstruct_mesh(make_planes("y", 5, 0, 0.2), loops, 96))
    middle = mesh.vertices[np.abs(mesh.vertices[:, 0]) < 0.1]
    assert np.ptp(middle[:, 1]) > 0.04
    assert mesh.body_count == 1 and mesh.euler_number == 2


def test_ring_opens_to_the_outside():
    # A ring below, a C above: the hole must open through the mouth, with no skin across it.
    ring = shapely.Point(0, 0).buffer(0.3).difference(shapely.Point(0, 0).buffer(0.2))
    mouth = shapely.box(0, -0.05, 1, 0.05)
    c_shape = np.array(ring.difference(mouth).exterior.coords)[:-1]
    loops = [[circle(0.3), circle(0.2)]] * 3 + [[c_shape]] * 3
    mesh = checked(*reconstruct_mesh(make_planes("y", 6, 0, 0.5), loops, 64))
    assert mesh.body_count == 1 and mesh.euler_number == 0


def test_overlapping_loops_are_one_solid():
    loops = [[circle(0.2), circle(0.1, (0.2, 0))]] * 4
    union = shapely.Polygon(loops[0][0]).union(shapely.Polygon(loops[0][1])).area
    mesh = checked(*reconstruct_mesh(make_planes("y", 4, 0, 0.3), loops, 64))
    assert mesh.euler_number == 2
    assert mesh.volume == pytest.approx(0.3 * union, rel=0.01)


@pytest.mark.parametrize("thickness", [1e-5, 0.003, 0.012])
def test_sheets_thinner_than_a_cell_have_no_holes(thickness):
    turn = np.array([[0.8, 0.6], [-0.6, 0.8]])
    loops = [[rectangle(0.8, thickness) @ turn]] * 6
    planes = make_planes("y", 6, 0, 0.3)
    mesh = checked(*reconstruct_mesh(planes, loops, 40))
    assert mesh.body_count == 1 and mesh.euler_number == 2
    across = np.abs(mesh.vertices[:, [0, 2]] @ turn.T[:, 1])
    assert 2 * np.quantile(across, 0.9) < thickness + 0.4 * 0.64 / 40
    assert farthest_from_surface(mesh, planes, loops) < 2e-3


def test_thin_walls_and_narrow_gaps_stay_apart():
    # Cells are 0.02 wide, the wall and the gap 0.01.
    planes = make_planes("y", 5, 0, 0.3)
    mesh = checked(*reconstruct_mesh(planes, [[circle(0.28), circle(0.27)]] * 5, 28))
    assert mesh.body_count == 1 and mesh.euler_number == 0
    mesh = checked(*reconstruct_mesh(planes, [[circle(0.24), circle(0.03, (0.28, 0))]] * 5, 28))
    assert mesh.body_count == 2 and mesh.euler_number == 4


# ------------------------------------------------------------------------------------ real shapes


@pytest.mark.parametrize("seed", [1, 3])
def test_vase_from_its_loop_sequence(seed):
    rng = np.random.default_rng(seed)
    while (vase := vases.make_vase(rng)) is None:
        pass
    genus, vase = vase.genus(), vase.to_mesh()
    vertices = np.asarray(vase.vert_properties[:, :3], dtype=np.float64)
    vertices -= (vertices.max(axis=0) + vertices.min(axis=0)) / 2
    vertices /= np.ptp(vertices, axis=0).max()
    original = trimesh.Trimesh(vertices, vase.tri_verts)
    for resolution in (PREVIEW_RESOLUTION, None):
        mesh, loops_by_plane = rebuilt(vertices, original.faces, resolution)
        assert mesh.body_count == 1 and mesh.euler_number == 2 - 2 * genus
        assert mesh.bounds[:, 1] == pytest.approx([-0.48, 0.48], abs=1e-12)
    assert symmetric_distance(mesh, original) < symmetric_distance(original, original) + 0.002
    assert farthest_from_surface(mesh, PLANES, loops_by_plane) < 1e-4
    # Both have thin handles, which take finer cells than most vases. There are few needles.
    assert len(mesh.faces) < 36_000
    ends = mesh.vertices[mesh.edges_unique]
    sides = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    quality = 4 * np.sqrt(3) * mesh.area_faces / (sides[mesh.faces_unique_edges] ** 2).sum(axis=1)
    assert quality.mean() > 0.65 and np.quantile(quality, 0.05) > 0.1  # 1 is equilateral


def test_handle_close_to_the_body_lies_on_its_own_loop_in_the_preview():
    """Its outline is moved away from the body, and points of it were then nearer to the body."""
    rng = np.random.default_rng(1037)
    vase = vases.make_vase(rng).to_mesh()
    vertices = np.asarray(vase.vert_properties[:, :3], dtype=np.float64)
    vertices -= (vertices.max(axis=0) + vertices.min(axis=0)) / 2
    vertices /= np.ptp(vertices, axis=0).max()
    mesh, loops_by_plane = rebuilt(vertices, np.asarray(vase.tri_verts), PREVIEW_RESOLUTION)
    assert farthest_from_surface(mesh, PLANES, loops_by_plane) < 1e-3


@pytest.mark.parametrize("sizes", [(9, 9), (5, 12), (12, 5)])
def test_bands_are_the_shortest(sizes):
    rng = np.random.default_rng(0)
    rings = [circle(1 + i, rng.normal(size=2) / 3, n) for i, n in enumerate(sizes)]
    rings.append(circle(3, (0.1, 0.2), 7))  # another pair with other sizes
    bands = make_bands(
        rings, np.array([0, 1]), np.array([0, 1]), np.array([1, 2]), np.array([[0.1, 0], [0, 0]])
    )
    band, below, above, _ = bands.edges()
    for i in range(2):
        lower, upper = rings[i] + bands.shift[i], rings[i + 1]
        edges = np.stack([below, above], axis=1)[band == i]
        squared = ((lower[:, None] - upper[None]) ** 2).sum(axis=2)
        first = edges[0]
        assert squared[*first] == squared.min() and len(edges) == len(lower) + len(upper)
        costs = np.pad(np.roll(squared, -first, axis=(0, 1)), (0, 1), mode="wrap")
        least = np.full(costs.shape, np.inf)
        least[0, 0] = costs[0, 0]
        for j, k in list(np.ndindex(costs.shape))[1:]:
            ways = least[j - 1, k] if j else np.inf, least[j, k - 1] if k else np.inf
            least[j, k] = min(ways) + costs[j, k]
        # The last edge is the first again.
        assert squared[*edges.T].sum() + squared.min() == pytest.approx(least[-1, -1])


# -------------------------------------------------------------------------------------- any loops


@st.composite
def any_loops(draw):
    """Loops as an untrained model makes them, and worse."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = draw(st.lists(st.sampled_from("noise walk lump grid tiny".split()), min_size=1))
    n_planes = draw(st.integers(2, 10))
    t = 2 * np.pi * np.arange(32) / 32

    def loop(kind):
        if kind == "noise":
            return random.normal(size=(32, 2)) * random.uniform(0.01, 0.3)
        if kind == "walk":
            return np.cumsum(random.normal(size=(32, 2)) * 0.02, axis=0)
        if kind == "lump":
            sizes = random.uniform(0.01, 0.3, 2)
            shaken = random.normal(size=(32, 2)) * 0.01 + random.normal(size=2) * 0.2
            return np.stack([np.cos(t), np.sin(t)], axis=1) * sizes + shaken
        if kind == "grid":  # edges and corners that coincide exactly
            return np.round(random.normal(size=(random.integers(1, 12), 2)) * 4) / 20
        sizes = 10 ** random.uniform(-6, -0.5, 2)
        return np.stack([np.cos(t), np.sin(t)], axis=1) * sizes + random.normal(size=2) * 0.2

    return [
        [loop(random.choice(kinds)) for _ in range(random.integers(0, 5))] for _ in range(n_planes)
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(any_loops(), st.sampled_from("xyz"), st.sampled_from([12, 28]))
def test_any_loops_give_a_closed_oriented_surface(loops_by_plane, axis, resolution):
    planes = make_planes(axis, len(loops_by_plane), -0.48, 0.48)
    enclosing = any(
        shapely.make_valid(shapely.Polygon(loop)).area > 1e-6
        for loops in loops_by_plane
        for loop in loops
        if len(loop) > 2
    )
    try:
        mesh = checked(*reconstruct_mesh(planes, loops_by_plane, resolution))
    except ValueError as error:
        assert not enclosing, error
        return
    heights = mesh.vertices[:, "xyz".index(axis)]
    assert heights.min() >= -0.48 - 1e-9 and heights.max() <= 0.48 + 1e-9


def test_loops_nested_all_over_each_other_below_an_empty_plane():
    """Loops of an untrained model above which there is nothing."""
    corners = [
        [(-0.088, 0.035), (-0.041, 0.043), (0.005, 0.014), (-0.048, -0.01)],
        [(-0.095, 0.028), (-0.043, 0.023), (0.003, -0.005), (-0.042, -0.016)],
        [(-0.11, 0.024), (-0.04, 0.025), (0.018, -0.018), (-0.037, -0.033)],
        [(-0.11, 0.021), (-0.029, 0.025), (0.025, -0.027), (-0.03, -0.043)],
        [(-0.107, 0.017), (-0.028, 0.025), (0.022, -0.024), (-0.027, -0.04)],
        [(-0.121, 0.014), (-0.041, 0.03), (0.013, -0.016), (-0.038, -0.035)],
        [(-0.144, 0.014), (-0.049, 0.04), (0.013, -0.011), (-0.049, -0.035)],
        [(-0.17, 0.01), (-0.047, 0.058), (0.043, -0.009), (-0.04, -0.054)],
    ]
    planes = make_planes("y", 12, -0.49, -0.15)
    loops_by_plane = [[] for _ in range(10)] + [[np.array(loop) for loop in corners], []]
    checked(*reconstruct_mesh(planes, loops_by_plane, resolution=28))


def test_one_point_out_of_line_is_no_reason_to_fail():
    loops = [[circle(0.2)] for _ in range(5)]
    loops[2][0][7] = (0.5, -0.4)
    loops[3][0][[3, 40]] = loops[3][0][[40, 3]]  # crosses itself
    loops[4][0] = np.concatenate([loops[4][0], loops[4][0][:1]])  # repeats its first point
    mesh = checked(*reconstruct_mesh(make_planes("y", 5, 0, 0.5), loops, 48))
    assert mesh.body_count == 1


# --------------------------------------------------------------------------------- the parts of it


def test_signed_distances_are_exact():
    random = np.random.default_rng(0)
    points = 10 + 6 * circle(1, n_points=17) * random.uniform(0.4, 1, (17, 1))
    distances = signed_distances(points, (0, 20, 2, 19))
    polygon = shapely.Polygon(points)
    columns, rows = np.meshgrid(np.arange(2, 19), np.arange(20))
    nodes = shapely.points(columns, rows)
    expected = shapely.distance(nodes, polygon.exterior)
    expected[shapely.contains(polygon, nodes)] *= -1
    assert distances == pytest.approx(expected, abs=1e-4)


def test_a_loop_that_crosses_itself_holds_all_it_winds_around():
    # A pentagram: its middle is wound around twice.
    points = (10 + 8 * circle(1, n_points=5))[[0, 2, 4, 1, 3]]
    distances = signed_distances(points, (0, 20, 0, 20))
    assert distances[10, 10] < 0 and distances[10, 16] < 0 and distances[2, 2] > 0


def test_thin_parts_of_a_loop_are_widened_and_thick_ones_are_not():
    # A spoon: a disc with a handle a fifth of a cell wide.
    spoon = shapely.Point(10.3, 10.4).buffer(5).union(shapely.box(15, 10.3, 27, 10.5))
    points = np.array(spoon.exterior.coords)[:-1]
    field, thickening = loop_field(points, (0, 22, 0, 32))
    assert (field[10:12, 16:26] < 0).any(axis=0).all()
    assert thickening[10, 20] == pytest.approx(THINNEST / 2)
    assert (thickening[:, :13] == 0).all()


def test_groups_of_loops():
    heights = plane_heights(make_planes("y", 4, 0, 0.3))
    loops_by_plane = [
        [circle(0.3), circle(0.2)],
        [circle(0.3), circle(0.2), circle(0.03, (0.5, 0))],
        [circle(0.3), circle(0.03, (0.58, 0))],
        [circle(0.3, (-0.1, 0)), circle(0.2, (0.65, 0))],
    ]
    points = [loop for loops in loops_by_plane for loop in loops]
    planes = [k for k, loops in enumerate(loops_by_plane) for _ in loops]
    loops = collect_loops(points, planes, 1e-9)
    assert loops.depth.tolist() == [0, 1, 0, 1, 0, 0, 0, 0, 0]
    assert loops.parent.tolist() == [-1, 0, -1, 2, -1, -1, -1, -1, -1]
    slabs = group_loops(loops, heights)
    members = [
        sorted((group.lower.tolist(), group.upper.tolist()) for group in groups) for groups in slabs
    ]
    assert members[0] == [([], [4]), ([0], [2]), ([1], [3])]
    # The hole ends, and the rod goes on slanting.
    assert members[1] == [([2], [5]), ([3], []), ([4], [6])]
    slanting = next(group for group in slabs[1] if group.lower.tolist() == [4])
    assert slanting.shift == pytest.approx([0.08, 0])
    assert members[2] == [([5], [7]), ([6], [8])]


# ----------------------------------------------------------------------------- mistakes and files


@pytest.mark.parametrize(
    ("loops", "reason"),
    [
        ([[], []], "no loops"),
        ([[np.zeros((0, 2))], []], "no loops"),
        ([[np.zeros((32, 2))], [np.zeros((32, 2))]], "no area"),
        ([[np.array([[0, 0], [1, 1], [2, 2.0]])], []], "no area"),
        ([[circle(0.1)], [circle(0.1) + np.nan]], "not finite"),
        ([[circle(0.1)], [circle(0.1) + np.inf]], "not finite"),
    ],
)
def test_loops_without_a_surface_are_named(loops, reason):
    with pytest.raises(ValueError, match=reason):
        reconstruct_mesh(make_planes("y", 2, 0, 1), loops)


def test_planes_must_be_in_order():
    planes = make_planes("y", 3, 0, 1)
    for wrong in (planes[:1], planes[[0, 0, 1]], planes[[0, 2, 1]]):
        with pytest.raises(ValueError, match="two or more planes in order"):
            reconstruct_mesh(wrong, [[circle(0.1)]] * len(wrong))


@pytest.mark.parametrize("ending", ["obj", "ply", "stl", "glb", "OBJ"])
def test_saved_meshes_are_read_back_closed(tmp_path, ending):
    vertices, faces = reconstruct_mesh(make_planes("y", 3, 0, 0.4), [[circle(0.2)]] * 3, 16)
    path = tmp_path / f"inference-0.{ending}"
    save_mesh(path, vertices, faces)
    mesh = trimesh.load(path, force="mesh", file_type=ending.lower())
    assert mesh.is_watertight and mesh.volume == pytest.approx(
        trimesh.Trimesh(vertices, faces).volume, rel=1e-5
    )
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_meshes_are_not_saved_in_other_formats(tmp_path):
    vertices, faces = reconstruct_mesh(make_planes("y", 2, 0, 0.4), [[circle(0.2)]] * 2, 8)
    for name in ("mesh.3ds", "mesh"):
        with pytest.raises(UserError, match=r"mesh.*; use \.obj, \.ply"):
            save_mesh(tmp_path / name, vertices, faces)
    assert not list(tmp_path.iterdir())


def test_poisson_needs_an_extra_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymeshlab", None)
    with pytest.raises(UserError, match="pip install pymeshlab"):
        poisson_mesh(make_planes("y", 2, 0, 0.4), [[circle(0.2)]] * 2)


def test_poisson_surface_lies_on_the_loops():
    pytest.importorskip("pymeshlab")
    vertices, faces = poisson_mesh(make_planes("y", 20, -0.4, 0.4), [[circle(0.2)]] * 20, depth=5)
    middle = np.abs(vertices[:, 1]) < 0.3
    assert np.hypot(vertices[middle, 0], vertices[middle, 2]) == pytest.approx(0.2, abs=0.01)
    with pytest.raises(ValueError, match="no loops"):
        poisson_mesh(make_planes("y", 2, 0, 1), [[], []])
