"""Reading `.obj` files as people write them."""

import numpy as np
import pytest
import trimesh

from loopdraw.files import UserError
from loopdraw.loops.mesh_files import load_mesh, read_mesh

TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
SQUARE = TRIANGLE + "v 1 1 0\n"


def read(tmp_path, text):
    path = tmp_path / "mesh.obj"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_mesh(path)


def area_vector(vertices, faces):
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return 0.5 * np.cross(b - a, c - a)


@pytest.mark.parametrize(
    "face",
    ["f 1 2 3", "f 1/1 2/2 3/3", "f 1//1 2//1 3//1", "f 1/1/1 2/2/1 3/3/1", "f -3 -2 -1"]
    + [
        "f\t1 2  3 ",
        "  f 1 2 3",
        "f 1 2 3 # a comment",
        "f 1 \\\n2 3",
        "f 1/4 2//3 3",
        "f 1/4/x 2/5/6 3/6/7",
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_one_triangle_however_written(tmp_path, face, line_end):
    text = f"# made by hand\nmtllib x.mtl\no it\n{TRIANGLE}vt 0 0\nvn 0 0 1\ns off\n{face}\nl 1 2"
    if line_end == "\r" and "\\" in face:
        pytest.skip("no program joins lines with a lone carriage return")
    vertices, faces = read(tmp_path, text.replace("\n", line_end))
    assert vertices.dtype == np.float64 and faces.dtype == np.int64
    np.testing.assert_array_equal(vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(faces, [[0, 1, 2]])


@pytest.mark.parametrize(
    "vertices",
    [
        "v 0 0 0\nv 1 0 0\nv 0 1 0",
        "v  0 0 0 \nv\t1 0 0\n v 0 1 0",
        "v 0 0 0 1.0\nv 1 0 0 1.0\nv 0 1 0 1.0",
        "v 0 0 0 .5 .5 .5\nv 1 0 0 .5 .5 .5\nv 0 1 0 .5 .5 .5",
        "v 0 0 0 .5 .5 .5\nv 1 0 0\nv 0 1 0",
        "v 0 0 0 # origin\nv 1e0 0 -0.0\nv +0 1 0",
    ],
)
def test_vertices_however_written(tmp_path, vertices):
    vertices, faces = read(tmp_path, vertices + "\nf 1 2 3\n")
    np.testing.assert_array_equal(vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])


def test_several_objects_with_relative_indices(tmp_path):
    far = TRIANGLE.replace("v 0", "v 5")
    text = f"o one\n{TRIANGLE}f -3 -2 -1\no two\n{far}f -3 -2 -1\nf 4 5 6\n"
    vertices, faces = read(tmp_path, text)
    assert len(vertices) == 6
    np.testing.assert_array_equal(faces, [[0, 1, 2], [3, 4, 5], [3, 4, 5]])


def test_vertices_keep_their_order_and_unused_ones_stay(tmp_path):
    vertices, faces = read(tmp_path, "v 9 9 9\n" + TRIANGLE + "v 8 8 8\nf 2 3 4\n")
    np.testing.assert_array_equal(vertices[[0, 4]], [[9, 9, 9], [8, 8, 8]])
    np.testing.assert_array_equal(faces, [[1, 2, 3]])


def test_faces_of_different_sizes(tmp_path):
    vertices, faces = read(tmp_path, SQUARE + "f 1 2 4 3\nf 1 2 3\nf 1 2\nf 4\n")
    assert len(faces) == 3
    np.testing.assert_allclose(area_vector(vertices, faces).sum(axis=0), [0, 0, 1.5])


def turned(points, turn):
    """Points (k, 2) as 3D lines of an .obj, in a plane that is not along the axes."""
    points = np.column_stack([points, np.zeros(len(points))]) @ turn.T
    return "".join("v {:.9f} {:.9f} {:.9f}\n".format(*point) for point in points), points


CONCAVE = {
    "arrow": [(0, 0), (2, 1), (0, 2), (0.5, 1)],
    "comb": [(0, 0), (5, 0), (5, 3), (4, 3), (4, 1), (3, 1), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3)]
    + [(0, 3)],
    "square with a hole, by a bridge": [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (1, 2)]
    + [(2, 2), (2, 1), (1, 1)],
}


@pytest.mark.parametrize("name", CONCAVE)
@pytest.mark.parametrize("seed", range(4))
def test_concave_polygons_are_not_overrun(tmp_path, name, seed):
    """Every triangle has the sense of the polygon, so none lies outside it."""
    turn = trimesh.transformations.random_rotation_matrix(np.random.default_rng(seed).random(3))[
        :3, :3
    ]
    lines, points = turned(CONCAVE[name], turn)
    polygon = "f " + " ".join(str(i + 1) for i in range(len(points)))
    vertices, faces = read(tmp_path, lines + polygon)
    areas = area_vector(vertices, faces)
    following = np.roll(points, -1, axis=0)
    expected = 0.5 * np.cross(points, following).sum(axis=0)
    np.testing.assert_allclose(areas.sum(axis=0), expected, atol=1e-6)
    assert (areas @ expected > -1e-9).all()


@pytest.mark.parametrize("word", ["nan", "NaN", "-nan", "inf", "1.#QNAN", "-1.#IND00"])
def test_faces_with_infinite_vertices_are_left_out(tmp_path, word):
    text = SQUARE + f"v 2 {word} 0\nf 1 2 3\nf 2 4 5\nf 1 2 4 5\n"
    vertices, faces = read(tmp_path, text)
    np.testing.assert_array_equal(faces, [[0, 1, 2]])
    assert np.isfinite(vertices).all()


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "empty"),
        (" \n\n", "empty"),
        ("hello world\n", "no vertices"),
        (b"solid\0\0\x01binary", "binary"),
        (TRIANGLE, "no faces"),
        (TRIANGLE + "f 1 2\nf 3\n", "no usable face"),
        (TRIANGLE + "f\nf \n", "no usable face|no faces"),
        ("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "no usable face"),
        (TRIANGLE + "f 1 2 3\nf 1 2 4\n", "line 5 names vertex 4, but there are 3"),
        (TRIANGLE + "f 0 1 2\n", "line 4 names vertex 0"),
        (TRIANGLE + "f -4 1 2\n", "line 4 names vertex -4"),
        (TRIANGLE + "f 1 2 99999999999\n", "line 4 names vertex 99999999999"),
        (TRIANGLE + "f 1 2 3\nf one 2 3\n", "line 5 should be a face"),
        (TRIANGLE + "f 1.5 2 3\n", "line 4 should be a face"),
        ("v 0 0 0\nv 1 0\nv 0 1 0\nf 1 2 3\n", "line 2 should be a vertex"),
        ("v 0 0 0\nv 1 0 zero\nv 0 1 0\nf 1 2 3\n", "line 2 should be a vertex"),
        ("v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n", "line 1 should be a vertex"),
    ],
)
def test_refusals_name_file_and_reason(tmp_path, text, reason):
    with pytest.raises(UserError, match=reason) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "mesh.obj") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        load_mesh(tmp_path / "missing.obj")
    (tmp_path / "folder.obj").mkdir()
    with pytest.raises(UserError, match="folder.obj: cannot be read"):
        load_mesh(tmp_path / "folder.obj")


def test_agrees_with_trimesh_on_a_textured_file(tmp_path):
    mesh = trimesh.creation.icosphere(subdivisions=2)
    mesh.visual = trimesh.visual.TextureVisuals(uv=np.random.default_rng(0).random((162, 2)))
    path = tmp_path / "sphere.obj"
    mesh.export(path, include_normals=True, include_texture=True, mtl_name="sphere.mtl")
    vertices, faces = load_mesh(path)
    np.testing.assert_allclose(vertices, mesh.vertices, atol=1e-7)
    np.testing.assert_array_equal(faces, mesh.faces)


def test_polygons_that_cross_themselves_are_cut_into_a_fan(tmp_path):
    path = tmp_path / "crossing.obj"
    path.write_text("v 0 2 0\nv 1 0 0\nv 0 1 0\nv 2 1 0\nf 1 2 3 4\n")
    _, faces = load_mesh(path)
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    "kind, kept, reason",
    [
        (
            "stl",
            84 + 50 * 5 + 7,
            "cut short: it announces 12 triangles and holds 5; copy or export",
        ),
        ("stl", 84, "cut short: it announces 12 triangles and holds 0"),
        ("stl", 83, "cut short: it ends within its header"),
        ("stl_ascii", -40, "cut short: it has no line 'endsolid', after 11 triangles"),
    ],
)
@pytest.mark.parametrize("header", [b"", b"solid by some programs"])
def test_an_stl_file_that_is_cut_short(tmp_path, kind, kept, reason, header):
    content = trimesh.creation.box().export(file_type=kind)
    content = content.encode() if isinstance(content, str) else header + content[len(header) :]
    path = tmp_path / "box.stl"
    path.write_bytes(content)
    assert len(read_mesh(path)[1]) == 12
    path.write_bytes(content[:kept])
    with pytest.raises(UserError, match=f"box.stl: {reason}"):
        read_mesh(path)


@pytest.mark.parametrize(
    "content", [b"", b"some words of no meaning " * 9, b"solid a\nendsolid a\n"]
)
def test_an_stl_file_without_faces(tmp_path, content):
    path = tmp_path / "box.stl"
    path.write_bytes(content)
    with pytest.raises(UserError, match="box.stl: (has no faces|cannot be read)"):
        read_mesh(path)
