"""Shapes in formats of other programs."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import trimesh

from loopdraw.files import UserError
from loopdraw.loops.geometry import make_planes
from loopdraw.surface.export import FORMATS, export_shape, parse_formats

SQUARE = np.array([[0.0, 0.0], [0.0, 0.2], [0.3, 0.2], [0.3, 0.0]])
HOLE = 0.5 * SQUARE + 0.05
MESH = (np.eye(4)[:, :3], np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
LOOPS = [[SQUARE], [], [SQUARE + 0.1, HOLE + 0.1]]


def shape(axis="z"):
    return make_planes(axis, 3, -0.1, 0.1), LOOPS, MESH


def test_every_format_writes_its_files(tmp_path):
    paths = export_shape(tmp_path / "inference-3", *shape(), list(FORMATS))
    assert [path.name for path in paths] == [
        "inference-3.glb",
        "inference-3.ply",
        "inference-3.stl",
        "inference-3-slice-00.svg",
        "inference-3-slice-02.svg",
        "inference-3-slices.svg",
        "inference-3-loops.json",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(p.name for p in paths)


@pytest.mark.parametrize("kind", ["glb", "ply", "stl"])
def test_meshes_can_be_read_back(kind, tmp_path):
    (path,) = export_shape(tmp_path / "a", *shape(), [kind])
    mesh = trimesh.load_mesh(path)
    np.testing.assert_allclose(mesh.bounds, [[0, 0, 0], [1, 1, 1]])
    assert len(mesh.faces) == 4


def test_json_holds_planes_and_loops(tmp_path):
    planes, loops_by_plane, mesh = shape()
    (path,) = export_shape(tmp_path / "a", planes, loops_by_plane, mesh, ["json"])
    content = json.loads(path.read_text())
    assert content["version"] == 1
    assert [len(plane["loops"]) for plane in content["planes"]] == [1, 0, 2]
    np.testing.assert_array_equal(content["planes"][2]["loops"][1], HOLE + 0.1)
    np.testing.assert_array_equal(content["planes"][2]["point"], planes[2, 1])


def outlines(path):
    """The closed outlines (k, 2) of each path element of a drawing, in mm."""
    root = ElementTree.parse(path).getroot()
    return [
        [
            np.array(re.findall(r"[-\d.]+", part), dtype=float).reshape(-1, 2)
            for part in element.get("d").split("Z")[:-1]
        ]
        for element in root.iter("{http://www.w3.org/2000/svg}path")
    ], root


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_drawings_are_to_scale_and_seen_from_above(axis, tmp_path):
    paths = export_shape(tmp_path / "a", *shape(axis), ["svg"])
    (((first,),), root), (((outer, inner),), _) = outlines(paths[0]), outlines(paths[1])
    np.testing.assert_allclose(np.ptp(first, axis=0), [30, 20], atol=2e-3)
    np.testing.assert_allclose(np.ptp(inner, axis=0), [15, 10], atol=2e-3)
    # In the same frame, so that slices can be stacked. Paper has y downwards; seen against the
    # normal, v points up for scans along z and down for the left-handed frames of x and y.
    down = 1 if axis in "xy" else -1
    np.testing.assert_allclose(outer.min(axis=0) - first.min(axis=0), [10, 10 * down], atol=2e-3)
    width, height = (float(root.get(name).removesuffix("mm")) for name in ("width", "height"))
    for outline in (first, outer, inner):
        assert (outline > 0).all() and (outline < [width, height]).all()


def test_a_sheet_has_all_slices_apart(tmp_path):
    (path,) = export_shape(tmp_path / "a", *shape(), ["sheet"])
    drawn, root = outlines(path)
    assert [len(parts) for parts in drawn] == [1, 2]
    groups = list(root.iter("{http://www.w3.org/2000/svg}g"))
    assert len({group.get("transform") for group in groups}) == 2


def test_formats_are_parsed():
    assert parse_formats("glb, .STL,glb") == ["glb", "stl"]
    assert parse_formats("html,stl", ["html"]) == ["html", "stl"]
    with pytest.raises(UserError, match="'html'; write some of glb,"):
        parse_formats("html")
    with pytest.raises(UserError, match="'dxf'"):
        parse_formats("svg,dxf")
