"""Surfaces from stacks of contours: their files, mistakes in those, and the shapes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import trimesh
from conftest import ROOT
from small_loops import circle

import loopdraw
from loopdraw.files import UserError
from loopdraw.loops.geometry import lift, make_planes
from loopdraw.loops.slices_files import save_slices
from loopdraw.loops.slicing import slice_mesh
from loopdraw.surface.contours import smooth
from loopdraw.surface.contours.reading import read_stacks
from loopdraw.surface.export import export_shape, save_loops
from loopdraw.surface.reconstruction import connected_parts, reconstruct_mesh

SQUARE = """CSLC
2 1
1 4 1 0 0 1 0
0 0 0  1 0 0  1 1 0  0 1 0
4 1 0 1 2 3
2 4 1 0 0 1 -1
0 0 1  1 0 1  1 1 1  0 1 1
4 1 0 1 2 3
"""
TILTED = np.array([2.0, -1.0, 0.5]) / np.sqrt(5.25)


def tilted_planes(heights):
    planes = np.zeros((len(heights), 4, 3))
    planes[:, 0], planes[:, 2:] = TILTED, np.linalg.svd(TILTED[None])[2][1:]
    planes[:, 1] = np.asarray(heights)[:, None] * TILTED
    return planes


def csl(planes, loops_by_plane, labels=None, holes=None):
    """A `.csl` file's text; `labels` and `holes` are of the loops of each plane, in order."""
    labels = labels or [1] * max(map(len, loops_by_plane))
    holes = holes or [""] * len(labels)
    lines = ["CSLC", f"{len(planes)} {len(set(labels))}"]
    for k, (plane, loops) in enumerate(zip(planes, loops_by_plane, strict=True)):
        n_points = sum(map(len, loops))
        numbers = " ".join(f"{x:.17g}" for x in (*plane[0], -plane[0] @ plane[1]))
        lines.append(f"{k} {n_points} {len(loops)} {numbers}")
        components, first = [], 0
        for loop, label, hole in zip(loops, labels, holes, strict=False):
            lines += [" ".join(f"{x:.17g}" for x in point) for point in lift(loop, plane)]
            index = " ".join(map(str, range(first, first + len(loop))))
            components.append(f"{len(loop)}{hole} {label} {index}")
            first += len(loop)
        lines += components
    return "\n".join(lines) + "\n"


def closed(vertices, faces):
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert np.isfinite(vertices).all()
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    return mesh


def smooth_mesh(planes, loops_by_plane):
    return smooth.smooth_mesh(planes, loops_by_plane, resolution=24)  # for speed


def of_file(tmp_path, text):
    path = tmp_path / "stack.csl"
    path.write_text(text)
    return read_stacks(path)


def run(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "loopdraw.surface", *map(str, words)],
        cwd=cwd, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip


# ---------------------------------------------------------------------------------- the surfaces


def test_a_ball_is_rounded_off_at_both_ends():
    ball = trimesh.creation.icosphere(4)
    planes = tilted_planes(np.linspace(-0.9, 0.9, 15))
    loops = slice_mesh(ball.vertices, ball.faces, planes).loops_by_plane
    mesh = closed(*smooth_mesh(planes, loops))
    assert np.linalg.norm(mesh.vertices, axis=1) == pytest.approx(1, abs=0.005)
    # Without, its ends are flat, and it bulges nowhere between the planes.
    flat = trimesh.Trimesh(*reconstruct_mesh(planes, loops))
    assert np.abs(flat.vertices @ TILTED).max() == pytest.approx(0.9)
    assert ball.volume - flat.volume > 5 * abs(ball.volume - mesh.volume)


def test_what_does_not_taper_ends_flat():
    planes = make_planes("z", 8, 0.0, 1.4)
    mesh = closed(*smooth_mesh(planes, [[circle(0.5, n_points=64)]] * 8))
    assert mesh.bounds[:, 2] == pytest.approx([0, 1.4], abs=1e-9)
    assert mesh.volume == pytest.approx(1.4 * 32 * 0.25 * np.sin(2 * np.pi / 64), rel=0.01)


def test_each_loop_of_an_end_tapers_for_itself():
    # A thick post beside a bump whose top lies just above the last plane.
    planes = make_planes("z", 6, 0.0, 1.0)
    post = circle(0.3, (1, 0), 40)
    loops = [[post, circle(0.5 * np.sqrt(1.1 - height), (-1, 0), 40)] for height in planes[:, 1, 2]]
    mesh = closed(*smooth_mesh(planes, loops))
    at_post = mesh.vertices[:, 0] > 0.5
    assert mesh.vertices[at_post, 2].max() == pytest.approx(1, abs=1e-9)
    assert 1.03 < mesh.vertices[~at_post, 2].max() < 1.2


def test_the_surface_passes_every_contour():
    planes = tilted_planes([0, 0.2, 0.35, 0.7, 0.8])  # at uneven distances
    loops = [[circle(radius, (x, 0.1), 30)] for radius, x in
             zip((0.2, 0.3, 0.25, 0.3, 0.2), (0, 0.05, 0, 0.1, 0), strict=True)]  # fmt: skip
    mesh = closed(*smooth_mesh(planes, loops))
    points = np.concatenate(
        [lift(loop, plane) for plane, (loop,) in zip(planes, loops, strict=True)]
    )
    nearest = trimesh.proximity.closest_point_naive(mesh, points)[1]
    assert nearest.max() < 1e-9
    # Where the ends lie follows from the planes: less than one distance beyond.
    heights = mesh.vertices @ TILTED
    assert heights.min() > -0.2 and heights.max() < 0.9


def test_between_planes_it_bulges_where_straight_lines_do_not():
    radii = np.sqrt(1 - np.linspace(-0.8, 0.8, 6) ** 2)
    planes = make_planes("y", 6, -0.8, 0.8)
    loops = [[circle(radius, n_points=64)] for radius in radii]
    middle = make_planes("y", 5, -0.64, 0.64)
    smooth, straight = (
        slice_mesh(*build(planes, loops), middle).loops_by_plane
        for build in (smooth_mesh, reconstruct_mesh)
    )
    true = np.sqrt(1 - np.linspace(-0.64, 0.64, 5) ** 2)
    for k in (1, 2, 3):
        radius = [np.linalg.norm(loops[k][0], axis=1).mean() for loops in (smooth, straight)]
        assert abs(radius[0] - true[k]) < 0.3 * abs(radius[1] - true[k])


def test_several_parts_and_holes_stay_apart():
    planes = make_planes("x", 7, 0, 0.3)
    ring = [circle(0.4, n_points=48), circle(0.2, n_points=48)]
    mesh = closed(*smooth_mesh(planes, [[*ring, circle(0.1, (1, 0), 32)]] * 7))
    volumes = np.sort(connected_parts(mesh.vertices, mesh.faces)[1])
    areas = [n / 2 * np.sin(2 * np.pi / n) for n in (48, 32)]
    expected = [0.3 * 0.01 * areas[1], 0.3 * (0.16 - 0.04) * areas[0]]
    assert volumes == pytest.approx(expected, rel=0.02)


def test_falling_planes_and_crossing_loops_give_a_closed_surface():
    planes = make_planes("y", 5, 0, 1)[::-1]
    eight = np.array([[0, 0], [1, 1], [1, 0], [0, 1.0]])
    closed(*smooth_mesh(planes, [[eight, circle(0.3, (0.4, 0.5))]] * 5))


def test_empty_planes_end_a_part_before_them():
    planes = make_planes("z", 9, 0, 0.8)
    ball = [[circle(0.01 + np.sqrt(max(0.04 - z**2, 0)), n_points=40)] for z in (-0.1, 0, 0.1)]
    mesh = closed(*smooth_mesh(planes, [[], [], [], *ball, [], [], []]))
    assert mesh.bounds[0, 2] > 0.2 and mesh.bounds[1, 2] < 0.6


# ------------------------------------------------------------------------------------- the files


def test_a_contour_file_in_any_direction(tmp_path):
    planes = tilted_planes([0.3, 0.1, 0.2, 0.4])  # out of order
    loops = [[circle(0.4), circle(0.2)]] * 4
    text = csl(planes, loops, holes=["", "h0"])
    stack = of_file(tmp_path, text)
    assert list(stack) == [1]
    read, by_plane = stack[1]
    assert np.allclose(read[:, 0], TILTED)
    assert np.allclose(read[:, 1] @ TILTED, [0.1, 0.2, 0.3, 0.4])
    assert [len(of_plane) for of_plane in by_plane] == [2] * 4
    lifted = lift(by_plane[2][0], read[2])
    assert np.allclose(lifted, lift(circle(0.4), planes[0]))
    assert np.linalg.det(read[0, [2, 3, 0]]) == pytest.approx(1)


def test_planes_may_be_written_with_normals_either_way(tmp_path):
    flipped = SQUARE.replace("2 4 1 0 0 1 -1", "2 4 1 0 0 -2 2")
    (planes, _), (same, _) = of_file(tmp_path, SQUARE)[1], of_file(tmp_path, flipped)[1]
    assert np.allclose(planes, same)


def test_each_label_gets_its_own_loops_and_its_holes(tmp_path):
    planes = make_planes("z", 3, 0, 1)
    # A core of label 7 in a shell of label 2, whose hole carries the label of what fills it.
    shell, core = circle(0.4), circle(0.2)
    text = csl(planes, [[shell, core, core]] * 3, labels=[2, 7, 7], holes=["", "h0", ""])
    stacks = of_file(tmp_path, text)
    assert {label: [len(p) for p in loops] for label, (_, loops) in stacks.items()} == {
        2: [2, 2, 2],
        7: [1, 1, 1],
    }


@pytest.mark.parametrize(
    "before, after, said",
    [
        ("CSLC", "OFF", "not a contour file: it starts with 'OFF'"),
        (SQUARE, "", "it starts with nothing"),
        ("2 1\n", "3 1\n", "plane 2: the file ends"),
        ("2 1\n", "1 1\n", "words after its last plane"),
        ("2 1\n", "2 0\n", "1 labels in use, but its second line says 0"),
        ("2 1\n", "999999999 1\n", "at most 100,000"),
        ("2 1\n", "two 1\n", "'two' where the numbers of planes"),
        ("1 4 1 0", "1 5 1 0", "plane 0"),
        ("1 4 1 0", "1 999999999 1 0", "words belong there"),
        ("1 4 1 0", "1 4 999999999 0", "fewer than 999,999,999 components"),
        ("1 4 1 0 0 1 0", "1 4 1 0 0 0 0", "A, B and C are all zero"),
        ("1 0 0  1 1 0", "nan 0 0  1 1 0", "plane 0: its vertices are not all finite"),
        ("1 0 0  1 1 0", "x 0 0  1 1 0", "plane 0: its vertices are not all numbers"),
        ("1 0 0  1 1 0", "1 0 0.5  1 1 0", "a contour of plane 0 lies up to 0.5 off its plane"),
        ("4 1 0 1 2 3\n2", "4 1 0 1 2 9\n2", "plane 0, component 0: no vertex 9, there are 4"),
        ("4 1 0 1 2 3\n2", "4h3 1 0 1 2 3\n2", "component 3, which is not there"),
        ("4 1 0 1 2 3\n2", "4h0 1 0 1 2 3\n2", "component 0, which is a hole"),
        ("4 1 0 1 2 3\n2", "4g0 1 0 1 2 3\n2", "'4g0' is no number of points"),
        ("4 1 0 1 2 3\n2", "2 1 0 1\n2", "a loop has three points or more"),
        ("2 4 1 0 0 1 -1", "2 4 1 0.1 0 1 -1", "plane 1 is turned by 5.71 degrees"),
        ("2 4 1 0 0 1 -1", "2 4 1 0 0 1 0", "a contour of plane 1 lies up to 1 off"),
    ],
)  # fmt: skip
def test_mistakes_in_contour_files_are_one_line(tmp_path, before, after, said):
    assert before in SQUARE
    with pytest.raises(UserError, match="stack.csl: .*") as error:
        of_file(tmp_path, SQUARE.replace(before, after, 1))
    assert said in str(error.value)


def test_more_mistakes_in_contour_files(tmp_path):
    planes = make_planes("z", 2, 0, 1)
    beside = csl(planes, [[circle(0.2), circle(0.1, (1, 0))]] * 2, holes=["", "h0"])
    with pytest.raises(UserError, match="a hole in component 0, but it lies outside"):
        of_file(tmp_path, beside)
    with pytest.raises(UserError, match="planes 0 and 1 lie at the same place"):
        of_file(tmp_path, csl(planes[[0, 0]], [[circle(0.2)]] * 2))
    with pytest.raises(UserError, match="it has a single plane"):
        of_file(tmp_path, csl(planes[:1], [[circle(0.2)]]))
    with pytest.raises(UserError, match="it has no contours"):
        of_file(tmp_path, "CSLC 2 1 0 0 0 0 0 1 0 1 0 0 0 0 1 -1")
    (tmp_path / "garbage.csl").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(UserError, match="not UTF-8"):
        read_stacks(tmp_path / "garbage.csl")
    with pytest.raises(UserError, match="cannot be read"):
        read_stacks(tmp_path / "missing.csl")
    with pytest.raises(UserError, match=r"expected contours: a \.csl"):
        read_stacks(tmp_path / "mesh.obj")


def test_our_own_files_come_back(tmp_path):
    planes = make_planes("y", 4, -0.3, 0.3)
    loops = [[circle(0.2 + 0.02 * k), circle(0.1)] for k in range(4)]
    save_loops(tmp_path / "a.json", planes, loops)
    save_slices(tmp_path / "a-slices.npz", planes, loops)
    export_shape(tmp_path / "a", planes, loops, None, ["svg", "sheet"])
    drawings = sorted(tmp_path.glob("a-slice-*.svg"))
    for path, scale in (("a.json", 1), ("a-slices.npz", 1), (drawings, 100)):
        path = path if path is drawings else tmp_path / path
        read, by_plane = read_stacks(path)[1]
        assert np.allclose(np.diff(read[:, 1], axis=0), 0.2 * scale * read[:3, 0], atol=1e-9)
        area = [trimesh.path.polygons.Polygon(of_plane[0]).area for of_plane in by_plane]
        true = [trimesh.path.polygons.Polygon(of_plane[0]).area * scale**2 for of_plane in loops]
        assert area == pytest.approx(true, rel=1e-4)
        assert [len(of_plane) for of_plane in by_plane] == [2] * 4
    with pytest.raises(UserError, match="holds several slices"):
        read_stacks(tmp_path / "a-slices.svg")


def test_drawings_are_seen_from_above(tmp_path):
    # An L would come back mirrored if left and right were mixed up.
    angle = np.array([[0, 0], [0.3, 0], [0.3, 0.1], [0.1, 0.1], [0.1, 0.2], [0, 0.2]])
    for axis in "xyz":
        planes = make_planes(axis, 3, 0, 1)
        export_shape(tmp_path / axis, planes, [[angle]] * 3, None, ["svg"])
        _, by_plane = read_stacks(sorted(tmp_path.glob(f"{axis}-slice-*.svg")))[1]
        area = np.linalg.det(planes[0, [2, 3, 0]])
        loop = by_plane[0][0]
        turn = np.linalg.det([loop[1] - loop[0], loop[2] - loop[1]])
        assert np.sign(turn) == np.sign(area)


def svg(body, attributes='width="100mm" viewBox="0 0 200 200"'):
    return f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}>{body}</svg>'


def test_drawings_of_other_programs(tmp_path):
    bodies = [
        '<path d="M0 0h20v20h-20z"/>',
        '<g transform="translate(10 0)"><g transform="scale(2)">'
        '<polygon points="0,0 10,0 10,10 0,10"/></g></g>',
        '<path d="M10 0A10 10 0 0 1 10 20A10 10 0 0 1 10 0z"/>',
    ]
    paths = [tmp_path / f"{k}.svg" for k in range(3)]
    for path, body in zip(paths, bodies, strict=True):
        path.write_text(svg(body))
    with pytest.raises(UserError, match="--spacing"):
        read_stacks(paths)
    planes, by_plane = read_stacks(paths, spacing=2.5)[1]
    assert planes[:, 1, 2].tolist() == [0, 2.5, 5]
    points = [lift(loop, plane) for plane, (loop,) in zip(planes, by_plane, strict=True)]
    # 200 units are 100 mm wide, and y points up.
    assert points[0].min(axis=0) == pytest.approx([0, -10, 0])
    assert points[0].max(axis=0) == pytest.approx([10, 0, 0])
    assert points[1].min(axis=0) == pytest.approx([5, -10, 2.5])
    assert points[1].max(axis=0) == pytest.approx([15, 0, 2.5])
    radius = np.linalg.norm(points[2] - (5, -5, 5), axis=1)
    assert len(points[2]) > 20 and radius == pytest.approx(5, abs=0.01)


@pytest.mark.parametrize(
    "text, said",
    [
        (svg("<rect/>"), "has no closed paths"),
        (svg('<path d="M0 0 L nan nan L 3 3 Q z"/>'), r"no closed paths|cannot be read|not finite"),
        ("<html/>", "it is <html>"),
        ("<svg", "not a drawing"),
        ("\0\1", "not a drawing"),
        (svg('<path d="M0 0L1e999 1L2 2Z"/>'), "not finite|cannot be read"),
    ],
)
def test_mistakes_in_drawings_are_one_line(tmp_path, text, said):
    for name in "ab":
        (tmp_path / f"{name}.svg").write_text(text)
    with pytest.raises(UserError, match=said):
        read_stacks([tmp_path / "a.svg", tmp_path / "b.svg"], spacing=1)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda c: c.update(format="x"), "its format is not"),
        (lambda c: c["planes"][1].pop("normal"), "plane 1 is damaged"),
        (lambda c: c["planes"][1].update(normal=[0, 0, 0]), "plane 1"),
        (lambda c: c["planes"][0].update(loops=[[[0, 0], [1]]]), "plane 0 is damaged"),
        (lambda c: c["planes"][0]["loops"][0].append([None, 1]), "not finite"),
        (lambda c: c["planes"][0].update(xaxis=[1e308, 1e308, 1e400]), "not finite"),
        (lambda c: c.update(planes=3), "damaged"),
        (lambda c: c.update(planes=[]), "it has no contours"),
    ],
)
def test_mistakes_in_numbers_are_one_line(tmp_path, change, said):
    path = tmp_path / "a.json"
    save_loops(path, make_planes("y", 2, 0, 1), [[circle()]] * 2)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=said):
        read_stacks(path)


# ------------------------------------------------------------------------- the command and Python


def test_the_command_writes_one_mesh_a_label(tmp_path):
    planes = make_planes("z", 2, 0, 1)
    loops = [[circle(0.4), circle(0.2, (1, 0))]] * 2
    (tmp_path / "stack.csl").write_text(csl(planes, loops, labels=[1, 5]))
    result = run("stack.csl", "out.ply", "--resolution", 16, cwd=tmp_path)
    assert result.returncode == 0 and not result.stderr
    assert "2 planes, 4 contours, 2 labels" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out-1.ply", "out-5.ply", "stack.csl",
    ]  # fmt: skip
    assert trimesh.load(tmp_path / "out-1.ply").is_watertight


@pytest.mark.parametrize(
    "words, said",
    [
        (("stack.csl", "out.txt"), "out.txt: end it in .obj, .ply"),
        (("stack.csl", "out.ply", "--spacing", "1"), "--spacing is for .svg drawings"),
        (("stack.csl", "out.ply", "--resolution", "9999999"), "not from 8 to 400"),
        (("stack.csl", "stack.csl", "out.ply"), "several files must all be .svg"),
        (("flat.csl", "out.ply"), "enclose no area"),
    ],
)
def test_mistakes_at_the_command_are_one_line(tmp_path, words, said):
    (tmp_path / "stack.csl").write_text(SQUARE)
    line = csl(make_planes("z", 2, 0, 1), [[np.array([[0, 0], [1, 0], [2, 0.0]])]] * 2)
    (tmp_path / "flat.csl").write_text(line)
    result = run(*words, cwd=tmp_path)
    assert result.returncode == 2 and said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out.ply").exists()


def test_from_python(tmp_path):
    (tmp_path / "stack.csl").write_text(SQUARE)
    shape = loopdraw.load_contours(tmp_path / "stack.csl")[1]
    mesh = loopdraw.reconstruct(shape, smooth=True, resolution=16)
    assert mesh.is_watertight and mesh.volume == pytest.approx(1, rel=0.02)


def test_the_example_in_the_documents(tmp_path):
    text = (ROOT / "docs" / "contours.md").read_text()
    stacks = of_file(tmp_path, "CSLC\n3 2" + text.split("CSLC\n3 2")[1].split("```")[0])
    counts = {label: [len(of_plane) for of_plane in loops] for label, (_, loops) in stacks.items()}
    assert counts == {1: [2, 2, 2], 2: [1, 1, 1]}
    for stack in stacks.values():
        closed(*smooth_mesh(*stack))
