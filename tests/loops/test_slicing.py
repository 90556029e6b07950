"""Meshes cut into loops: exact expectations for shapes whose sections are known."""

import itertools

import numpy as np
import pytest
import shapely
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from loopdraw.loops.geometry import lift, make_planes, signed_area
from loopdraw.loops.slicing import slice_mesh

AXES = "xyz"


def cut(mesh, axis="y", n_planes=9, low=-0.4, high=0.4):
    planes = make_planes(axis, n_planes, low, high)
    return planes, slice_mesh(np.array(mesh.vertices), np.array(mesh.faces), planes)


def counts(sliced):
    return [len(loops) for loops in sliced.loops_by_plane]


def total_area(loops):
    return sum(signed_area(loop) for loop in loops)


def assert_sound(sliced):
    """What holds for the loops of any mesh."""
    for loops in sliced.loops_by_plane:
        areas = [abs(signed_area(loop)) for loop in loops]
        assert (np.diff(areas) <= 1e-9).all()
        for loop in loops:
            assert loop.shape[1:] == (2,) and len(loop) >= 3 and loop.dtype == np.float64
            steps = np.linalg.norm(np.roll(loop, -1, axis=0) - loop, axis=1)
            assert steps.min() > 0


def assert_unharmed(sliced):
    """A closed mesh needs no repair."""
    assert_sound(sliced)
    assert (sliced.n_bridged, sliced.n_closed) == (0, 0)


def box(size=1.0):
    return trimesh.creation.box(extents=np.broadcast_to(size, 3))


def rotated(mesh, seed):
    turn = trimesh.transformations.random_rotation_matrix(np.random.default_rng(seed).random(3))
    return mesh.copy().apply_transform(turn)


def section_area(mesh, plane):
    """Area of a section found by trimesh and shapely, independently of our code."""
    section = mesh.section(plane_origin=plane[1], plane_normal=plane[0])
    if section is None:
        return 0.0
    rings = []
    for curve in section.discrete:
        rings.append(shapely.make_valid(shapely.Polygon((curve - plane[1]) @ plane[2:4].T)))
    area = shapely.Polygon()
    for ring in rings:
        area = shapely.symmetric_difference(area, ring)
    return area.area


# --- planes through corners, edges, faces


@pytest.mark.parametrize("axis", AXES)
def test_box_at_every_plane_with_both_caps(axis):
    planes, sliced = cut(
        box((0.6, 0.8, 1.0)), axis, 5, *((-0.3, 0.3), (-0.4, 0.4), (-0.5, 0.5))[AXES.index(axis)]
    )
    assert_unharmed(sliced)
    u, v = {"x": (0.5, 0.4), "y": (0.3, 0.5), "z": (0.3, 0.4)}[axis]
    for (loop,) in sliced.loops_by_plane:
        assert signed_area(loop) == pytest.approx(4 * u * v)
        np.testing.assert_allclose(loop.min(axis=0), (-u, -v))
        np.testing.assert_allclose(loop.max(axis=0), (u, v))
        corners = {
            tuple(np.sign(point)) for point in loop if (np.abs(point) > (u - 1e-9, v - 1e-9)).all()
        }
        assert len(corners) == 4
    assert sliced.n_slivers == 0


@pytest.mark.parametrize("noise", [1e-12, 1e-9, 2e-7])
def test_caps_that_are_flat_up_to_rounding(noise):
    mesh = box().subdivide().subdivide()
    vertices = mesh.vertices + np.random.default_rng(0).uniform(-noise, noise, mesh.vertices.shape)
    sliced = slice_mesh(vertices, mesh.faces, make_planes("y", 5, -0.5, 0.5))
    assert_unharmed(sliced)
    assert counts(sliced) == [1] * 5
    for (loop,) in sliced.loops_by_plane:
        assert signed_area(loop) == pytest.approx(1, abs=1e-5)


def test_octahedron_through_its_corners():
    corners = np.vstack([np.eye(3), -np.eye(3)]) * 0.5
    mesh = trimesh.convex.convex_hull(corners)
    _, sliced = cut(mesh, "y", 5, -0.5, 0.5)
    assert_unharmed(sliced)
    assert counts(sliced) == [0, 1, 1, 1, 0]
    assert sliced.n_slivers == 2  # the two tips
    middle = sliced.loops_by_plane[2][0]
    assert len(middle) == 4
    assert signed_area(middle) == pytest.approx(0.5)
    assert signed_area(sliced.loops_by_plane[1][0]) == pytest.approx(0.125)


def test_plane_along_edges_of_a_tilted_cube():
    """Standing on an edge, the middle plane holds two edges and cuts two faces along diagonals."""
    tilted = box().apply_transform(trimesh.transformations.rotation_matrix(np.pi / 4, [0, 0, 1]))
    half = np.sqrt(0.5)
    _, sliced = cut(tilted, "y", 5, -half, half)
    assert_unharmed(sliced)
    assert counts(sliced) == [0, 1, 1, 1, 0]
    areas = [total_area(loops) for loops in sliced.loops_by_plane]
    np.testing.assert_allclose(areas, [0, half, 2 * half, half, 0], atol=1e-9)


def test_cube_on_its_corner():
    """A cube with its diagonal upright: triangles, then hexagons."""
    mesh = box()
    mesh.apply_transform(trimesh.geometry.align_vectors([1, 1, 1], [0, 1, 0]))
    planes, sliced = cut(mesh, "y", 7, -0.8, 0.8)
    assert_unharmed(sliced)
    assert counts(sliced) == [1] * 7
    middle = sliced.loops_by_plane[3][0]
    assert signed_area(middle) == pytest.approx(3 * np.sqrt(3) / 4)
    assert shapely.Polygon(middle).convex_hull.area == pytest.approx(signed_area(middle))


def test_plane_in_a_step_gives_the_section_below():
    profile = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0), (0.2, 0), (0.2, 0.5), (-0.5, 0.5)]
    stairs = trimesh.creation.extrude_polygon(shapely.Polygon(profile), 1.0)
    _, sliced = cut(stairs, "y", 3, -0.25, 0.25)
    areas = [total_area(loops) for loops in sliced.loops_by_plane]
    np.testing.assert_allclose(areas, [1.0, 1.0, 0.7])
    overhang = stairs.apply_transform(np.diag([-1.0, -1.0, 1.0, 1.0]))
    _, sliced = cut(overhang, "y", 3, -0.25, 0.25)
    areas = [total_area(loops) for loops in sliced.loops_by_plane]
    np.testing.assert_allclose(areas, [0.7, 0.7, 1.0])


# --- round and nested shapes


@pytest.mark.parametrize("axis", AXES)
def test_sphere(axis):
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    planes, sliced = cut(mesh, axis, 11, -0.45, 0.45)
    assert_unharmed(sliced)
    assert counts(sliced) == [1] * 11
    for plane, (loop,) in zip(planes, sliced.loops_by_plane, strict=True):
        np.testing.assert_allclose(np.linalg.norm(lift(loop, plane), axis=1), 0.5, atol=2e-3)
        radius = np.sqrt(0.25 - plane[1, AXES.index(axis)] ** 2)
        assert signed_area(loop) == pytest.approx(np.pi * radius**2, rel=0.01)


def test_torus_on_edge_opens_and_closes():
    mesh = trimesh.creation.torus(0.35, 0.1, major_sections=64, minor_sections=32)
    _, sliced = cut(mesh, "y", 9, -0.4, 0.4)
    assert_unharmed(sliced)
    assert counts(sliced) == [1, 1, 2, 2, 2, 2, 2, 1, 1]


def test_torus_lying_has_a_hole():
    mesh = trimesh.creation.torus(0.35, 0.1, major_sections=128, minor_sections=64)
    _, sliced = cut(mesh, "z", 3, -0.05, 0.05)
    assert_unharmed(sliced)
    outer, hole = sliced.loops_by_plane[1]
    assert signed_area(outer) == pytest.approx(np.pi * 0.45**2, rel=0.01)
    assert signed_area(hole) == pytest.approx(-np.pi * 0.25**2, rel=0.01)


@pytest.mark.parametrize("axis", AXES)
def test_hollow_sphere_has_two_loops_of_opposite_sense(axis):
    outer = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    inner = trimesh.creation.icosphere(subdivisions=3, radius=0.3)
    inner.invert()
    _, sliced = cut(trimesh.util.concatenate([outer, inner]), axis, 9, -0.4, 0.4)
    assert_unharmed(sliced)
    assert counts(sliced) == [1, 1, 2, 2, 2, 2, 2, 1, 1]
    for loops in sliced.loops_by_plane:
        assert [signed_area(loop) > 0 for loop in loops] == [True, False][: len(loops)]


def test_tube():
    mesh = trimesh.creation.annulus(r_min=0.2, r_max=0.4, height=1.0, sections=64)
    _, sliced = cut(mesh, "z", 5, -0.5, 0.5)
    assert_unharmed(sliced)
    assert counts(sliced) == [2] * 5
    for loops in sliced.loops_by_plane:
        assert total_area(loops) == pytest.approx(np.pi * (0.16 - 0.04), rel=0.01)


def test_several_parts():
    parts = [box(0.2).apply_translation([x, 0, z]) for x in (-0.3, 0, 0.3) for z in (-0.3, 0.3)]
    _, sliced = cut(trimesh.util.concatenate(parts), "y", 3, -0.05, 0.05)
    assert_unharmed(sliced)
    assert counts(sliced) == [6] * 3


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("seed", range(3))
def test_area_matches_trimesh_and_shapely(axis, seed):
    parts = [
        trimesh.creation.torus(0.3, 0.12, major_sections=24, minor_sections=12),
        trimesh.creation.cylinder(0.1, 0.5).apply_translation([0, 0, 0.4]),
        trimesh.creation.icosphere(2, 0.15).apply_translation([0.5, 0.2, 0.1]),
    ]
    mesh = rotated(trimesh.util.concatenate(parts[: seed + 1]), seed)
    planes, sliced = cut(mesh, axis, 7, -0.35, 0.31)
    assert_unharmed(sliced)
    for plane, loops in zip(planes, sliced.loops_by_plane, strict=True):
        area = shapely.Polygon()
        for loop in loops:
            area = area.symmetric_difference(shapely.make_valid(shapely.Polygon(loop)))
        assert area.area == pytest.approx(section_area(mesh, plane), rel=1e-6, abs=1e-9)


# --- planes in general position


def test_planes_in_any_order_and_in_a_turned_frame():
    mesh = trimesh.creation.cone(0.4, 1.0, sections=200)  # along z, apex at z = 1
    planes = make_planes("z", 5, 0.1, 0.9)
    turn = trimesh.transformations.random_rotation_matrix(np.array([0.1, 0.5, 0.9]))
    turn[:3, 3] = [0.3, -0.2, 0.7]
    moved = mesh.copy().apply_transform(turn)
    moved_planes = planes @ turn[:3, :3].T
    moved_planes[:, 1] += turn[:3, 3]
    order = [3, 0, 4, 2, 1]
    one = slice_mesh(mesh.vertices, mesh.faces, planes)
    other = slice_mesh(moved.vertices, moved.faces, moved_planes[order])
    for index, loops in zip(order, other.loops_by_plane, strict=True):
        height = planes[index, 1, 2]
        assert total_area(loops) == pytest.approx(np.pi * (0.4 * (1 - height)) ** 2, rel=1e-3)
        expected = shapely.Polygon(one.loops_by_plane[index][0])
        assert shapely.Polygon(loops[0]).hausdorff_distance(expected) < 1e-6


def test_origin_of_the_plane_is_its_point():
    planes = make_planes("y", 3, -0.2, 0.2)
    planes[:, 1] += [0.1, 0, 0.3]
    sliced = slice_mesh(box().vertices, box().faces, planes)
    np.testing.assert_allclose(sliced.loops_by_plane[1][0].max(axis=0), [0.4, 0.2])


def test_planes_beside_the_mesh_and_equal_planes():
    planes = make_planes("y", 3, 0.7, 0.9)
    assert counts(slice_mesh(box().vertices, box().faces, planes)) == [0, 0, 0]
    planes = np.repeat(make_planes("y", 2, -0.2, 0.3), 2, axis=0)
    sliced = slice_mesh(box().vertices, box().faces, planes)
    assert counts(sliced) == [1, 1, 1, 1]


def test_refusals():
    mesh = box()
    planes = make_planes("y", 3, -0.2, 0.2)
    with pytest.raises(ValueError, match="parallel"):
        slice_mesh(mesh.vertices, mesh.faces, np.stack([planes[0], make_planes("x", 2, 0, 1)[0]]))
    broken = mesh.vertices.copy()
    broken[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        slice_mesh(broken, mesh.faces, planes)
    assert counts(slice_mesh(mesh.vertices, mesh.faces[:0], planes)) == [0, 0, 0]


# --- meshes that are not closed, or not only that


def test_vertices_doubled_along_a_seam_are_welded():
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    soup = mesh.vertices[mesh.faces].reshape(-1, 3)
    planes = make_planes("y", 9, -0.4, 0.4)
    sliced = slice_mesh(soup, np.arange(len(soup)).reshape(-1, 3), planes)
    assert_unharmed(sliced)
    whole = slice_mesh(mesh.vertices, mesh.faces, planes)
    assert counts(sliced) == counts(whole)
    for loops, expected in zip(sliced.loops_by_plane, whole.loops_by_plane, strict=True):
        assert total_area(loops) == pytest.approx(total_area(expected))


def cylinder_side(sections=48, n_rings=5, opening=0):
    """The side of a cylinder along y, radius 0.4, without caps and without `opening` strips."""
    angles = 2 * np.pi * np.arange(sections) / sections
    ring = np.stack([0.4 * np.cos(angles), 0 * angles, -0.4 * np.sin(angles)], axis=1)
    vertices = np.concatenate([ring + [0, y, 0] for y in np.linspace(-0.5, 0.5, n_rings)])
    faces = []
    for level, i in itertools.product(range(n_rings - 1), range(sections - opening)):
        a, b = level * sections + i, level * sections + (i + 1) % sections
        faces += [[a, b, b + sections], [a, b + sections, a + sections]]
    return vertices, np.array(faces)


def test_side_without_caps_is_closed_already():
    sliced = slice_mesh(*cylinder_side(), make_planes("y", 5, -0.5, 0.5))
    assert_unharmed(sliced)
    assert counts(sliced) == [1] * 5
    for (loop,) in sliced.loops_by_plane:
        assert signed_area(loop) == pytest.approx(np.pi * 0.16, rel=0.01)


def test_hole_is_closed_by_a_straight_segment_and_reported():
    sliced = slice_mesh(*cylinder_side(opening=8), make_planes("y", 5, -0.4, 0.4))
    assert_sound(sliced)
    assert (counts(sliced), sliced.n_closed, sliced.n_bridged) == ([1] * 5, 5, 0)
    # A sixth of the way round is missing: the circle less a segment of 60 degrees.
    missing = 0.5 * 0.16 * (np.pi / 3 - np.sin(np.pi / 3))
    for (loop,) in sliced.loops_by_plane:
        assert signed_area(loop) == pytest.approx(np.pi * 0.16 - missing, rel=0.01)


def test_hole_in_some_planes_only():
    vertices, faces = cylinder_side(n_rings=11)
    level, strip = np.divmod(np.arange(len(faces)) // 2, 48)
    faces = faces[~(np.isin(level, (4, 5)) & (strip < 8))]  # heights from -0.1 to 0.1
    sliced = slice_mesh(vertices, faces, make_planes("y", 9, -0.36, 0.36))
    assert counts(sliced) == [1] * 9
    assert sliced.n_closed == 3


def test_open_sheet_becomes_a_thin_wall():
    vertices, faces = cylinder_side(opening=36)  # a quarter of the way round
    sliced = slice_mesh(vertices, faces, make_planes("y", 3, -0.4, 0.4))
    assert_sound(sliced)
    assert (counts(sliced), sliced.n_closed) == ([1] * 3, 3)
    wall = shapely.Polygon(sliced.loops_by_plane[1][0])
    assert wall.is_valid
    assert wall.area == pytest.approx(0.02 * 0.4 * np.pi / 2, rel=0.01)
    radii = np.linalg.norm(sliced.loops_by_plane[1][0], axis=1)
    assert 0.385 < radii.min() < radii.max() < 0.415


def test_flat_sheets_side_by_side_become_walls_of_their_own():
    def sheet(left, right):
        corners = [(left, -0.5, 0), (right, -0.5, 0), (right, 0.5, 0), (left, 0.5, 0)]
        return trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], process=False)

    sheets = trimesh.util.concatenate([sheet(-0.5, -0.1), sheet(0.1, 0.5)])
    backs = sheets.copy()
    backs.invert()
    for mesh in (sheets, trimesh.util.concatenate([sheets, backs])):
        _, sliced = cut(mesh, "y", 4)
        assert_sound(sliced)
        assert counts(sliced) == [2] * 4
        for loop in itertools.chain.from_iterable(sliced.loops_by_plane):
            assert abs(signed_area(loop)) == pytest.approx(0.02 * 0.4)


def test_facing_ends_of_two_walls_are_joined():
    """A box without two opposite sides: the remaining two are joined across the gaps."""
    mesh = box((1.0, 1.0, 0.3))
    mesh.update_faces(np.abs(mesh.face_normals[:, 0]) < 0.5)
    _, sliced = cut(mesh, "y", 5)
    assert_sound(sliced)
    assert (counts(sliced), sliced.n_closed) == ([1] * 5, 10)
    for (loop,) in sliced.loops_by_plane:
        assert signed_area(loop) == pytest.approx(0.3)


def test_t_junctions_are_bridged():
    """One side of a box is divided more finely than its neighbours: vertices on their edges."""
    mesh = box()
    side = mesh.face_normals[:, 0] > 0.5
    rest, fine = mesh.submesh([~side, side])
    whole = trimesh.util.concatenate([rest, fine.subdivide().subdivide()])
    planes = make_planes("y", 7, -0.43, 0.39)
    sliced = slice_mesh(whole.vertices, whole.faces, planes)
    assert_sound(sliced)
    assert counts(sliced) == [1] * 7
    assert sliced.n_bridged == 14 and sliced.n_closed == 0
    for (loop,) in sliced.loops_by_plane:
        assert signed_area(loop) == pytest.approx(1)


def test_cracks_between_shifted_parts_are_bridged():
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    right = mesh.triangles_center[:, 0] > 0
    one, other = mesh.submesh([right, ~right])
    cracked = trimesh.util.concatenate([one.apply_translation([1e-4, 0, 0]), other])
    _, sliced = cut(cracked, "y", 9)
    assert_sound(sliced)
    assert counts(sliced) == [1] * 9
    assert sliced.n_bridged == 18 and sliced.n_closed == 0
    for (loop,), (expected,) in zip(
        sliced.loops_by_plane, cut(mesh)[1].loops_by_plane, strict=True
    ):
        assert signed_area(loop) == pytest.approx(signed_area(expected), rel=1e-3)


def test_slivers_are_dropped_and_counted():
    needle = trimesh.creation.cylinder(1e-4, 1.0, sections=8)
    mesh = trimesh.util.concatenate([box(0.5), needle])
    _, sliced = cut(mesh, "z", 3, -0.4, 0.4)
    assert counts(sliced) == [0, 1, 0]
    assert sliced.n_slivers == 3


@pytest.mark.parametrize("seed", range(4))
def test_windings_do_not_matter_for_the_outline(seed):
    mesh = trimesh.creation.torus(0.35, 0.1, major_sections=32, minor_sections=16)
    wrong = np.random.default_rng(seed).random(len(mesh.faces)) < 0.5
    faces = np.where(wrong[:, None], mesh.faces[:, ::-1], mesh.faces)
    planes = make_planes("y", 9, -0.4, 0.4)
    sliced = slice_mesh(mesh.vertices, faces, planes)
    assert_unharmed(sliced)
    expected = slice_mesh(mesh.vertices, mesh.faces, planes)
    for loops, expected_loops in zip(sliced.loops_by_plane, expected.loops_by_plane, strict=True):
        areas = [abs(signed_area(loop)) for loop in loops]
        np.testing.assert_allclose(areas, [abs(signed_area(loop)) for loop in expected_loops])


def test_inside_out_mesh_has_reversed_loops():
    mesh = box()
    mesh.invert()
    _, sliced = cut(mesh)
    assert all(signed_area(loop) < 0 for (loop,) in sliced.loops_by_plane)


@pytest.mark.parametrize("axis", AXES)
def test_boxes_that_share_an_edge_keep_their_own_outlines(axis):
    """Four faces meet at the shared edge, which planes along it cut in a point."""
    first, second = box(0.4), box(0.4)
    second.apply_translation(0.4 * (np.ones(3) - np.eye(3)[AXES.index(axis)]))
    mesh = trimesh.util.concatenate([first, second])
    _, sliced = cut(mesh, axis, 4, -0.15, 0.15)
    assert_unharmed(sliced)
    assert counts(sliced) == [2] * 4
    for loop in itertools.chain.from_iterable(sliced.loops_by_plane):
        assert shapely.Polygon(loop).is_valid
        assert signed_area(loop) == pytest.approx(0.16)


def test_boxes_that_share_a_face_keep_the_area():
    mesh = trimesh.util.concatenate([box(0.4), box(0.4).apply_translation([0.4, 0, 0])])
    _, sliced = cut(mesh, "y", 3, -0.1, 0.1)
    for loops in sliced.loops_by_plane:
        assert total_area(loops) == pytest.approx(0.32)


def test_inner_wall_leaves_the_outline_whole():
    """A wall across a box makes edges of three faces."""
    wall = trimesh.Trimesh(
        [[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]], [[0, 1, 2], [0, 2, 3]]
    )
    halves = [box((0.5, 1, 1)).apply_translation([x, 0, 0]) for x in (-0.25, 0.25)]
    for half in halves:
        half.update_faces(np.abs(half.triangles_center[:, 0]) > 0.1)
    mesh = trimesh.util.concatenate([*halves, wall])
    _, sliced = cut(mesh, "y", 3, -0.3, 0.2)
    for loops in sliced.loops_by_plane:
        outline = shapely.unary_union([shapely.Polygon(loop) for loop in loops])
        assert outline.symmetric_difference(shapely.box(-0.5, -0.5, 0.5, 0.5)).area < 0.02


def test_doubled_faces_count_once():
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    doubled = np.concatenate([mesh.faces, mesh.faces[:, ::-1]])
    planes = make_planes("y", 5, -0.4, 0.4)
    sliced = slice_mesh(mesh.vertices, doubled, planes)
    assert_unharmed(sliced)
    expected = slice_mesh(mesh.vertices, mesh.faces, planes)
    assert counts(sliced) == counts(expected)
    for loops, expected_loops in zip(sliced.loops_by_plane, expected.loops_by_plane, strict=True):
        assert total_area(loops) == pytest.approx(total_area(expected_loops))


def test_random_triangles_do_not_break_it():
    rng = np.random.default_rng(0)
    for n_vertices, n_faces in [(3, 1), (5, 40), (40, 200), (300, 100)]:
        vertices = rng.uniform(-0.5, 0.5, (n_vertices, 3))
        vertices[: n_vertices // 2] = vertices[: n_vertices // 2].round(1)
        faces = rng.integers(0, n_vertices, (n_faces, 3))
        for axis in AXES:
            assert_sound(slice_mesh(vertices, faces, make_planes(axis, 11, -0.5, 0.5)))


# --- any convex shape


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    on_grid=st.booleans(),
    axis=st.sampled_from(AXES),
    bounds=st.tuples(st.integers(-9, 9), st.integers(-9, 9)).filter(lambda pair: pair[0] < pair[1]),
)
def test_convex_shapes(seed, on_grid, axis, bounds):
    """One loop a plane, with the area that trimesh finds, also through vertices of a grid."""
    points = np.random.default_rng(seed).uniform(-1, 1, (20, 3))
    mesh = trimesh.convex.convex_hull(points.round(1) if on_grid else points)
    low, high = np.array(bounds) / 10
    planes, sliced = cut(mesh, axis, 6, low, high)
    assert_unharmed(sliced)
    for plane, loops in zip(planes, sliced.loops_by_plane, strict=True):
        assert len(loops) <= 1
        # trimesh is asked just below, as a plane in a face has no area of its own there.
        below = plane.copy()
        below[1] -= 1e-7 * plane[0]
        area = section_area(mesh, below)
        if not np.isclose(mesh.vertices @ plane[0], plane[1] @ plane[0]).any():
            assert total_area(loops) == pytest.approx(area, rel=1e-4, abs=1e-5)
        for loop in loops:
            assert signed_area(loop) > 0
            assert shapely.Polygon(loop).convex_hull.area == pytest.approx(signed_area(loop))
            offsets = (lift(loop, plane)[:, None] - mesh.triangles_center) * mesh.face_normals
            assert offsets.sum(axis=2).max() < 1e-5
