"""Pictures are drawn for real, by EGL; where that is missing these tests fail and name it."""

import os
import subprocess
import sys

import numpy as np
import pytest
import trimesh
from conftest import ROOT
from picture_checks import (
    assert_whole,
    circle,
    is_blue,
    is_golden,
    is_green,
    is_grey,
    is_pink,
    is_red,
    share,
    shown,
)

from loopdraw.files import UserError
from loopdraw.loops.geometry import make_planes
from loopdraw.view import viewer
from loopdraw.view.gallery import orbit_points
from loopdraw.view.pictures import contact_sheet, framed_points, mix, over, pixel_rays, shrink
from loopdraw.view.scene import Look, Scene, fit_camera, split_creases, tube_mesh

SIZE = (160, 160)


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "NO_POLYSCOPE"):
        monkeypatch.delenv(name, raising=False)


def cylinder_scene(radius=0.3, height=1.0, n_planes=8, offset=(0, 0, 0), **settings):
    mesh = trimesh.creation.cylinder(radius, height, sections=48)
    vertices = mesh.vertices[:, [0, 2, 1]]  # upright along y
    planes = make_planes("y", n_planes, -0.45 * height, 0.45 * height)
    planes[:, 1] += offset
    loops = [[circle(radius)] for _ in range(n_planes)]
    return Scene(
        mesh=(vertices + offset, mesh.faces[:, ::-1]),
        planes=planes,
        loops_by_plane=loops,
        **settings,
    )


@pytest.mark.parametrize(
    "scene",
    [
        cylinder_scene(),
        cylinder_scene(radius=3.0, height=0.2),
        cylinder_scene(radius=0.05, height=2.0),
        cylinder_scene(radius=300.0, height=1000.0, offset=(5000.0, -200.0, 900.0)),
        cylinder_scene(radius=3e-4, height=1e-3),
        Scene(mesh=cylinder_scene().mesh),
        Scene(planes=make_planes("x", 4, 0, 1), loops_by_plane=[[circle(1)]] * 4),
        Scene(planes=make_planes("z", 2, 0, 1), loops_by_plane=[[circle(2), circle(1)], []]),
        cylinder_scene(planes_at=[3, 5]),
    ],
    ids=["usual", "flat", "thin", "far", "tiny", "mesh", "loops", "one plane", "slice planes"],
)
def test_the_default_view_shows_the_whole_shape_and_fills_the_picture(scene):
    picture = viewer.render_image(scene, size=SIZE)
    assert picture.shape == (160, 160, 3)
    assert picture.dtype == np.uint8
    assert_whole(picture)
    mask = shown(picture)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) > 0.8 * 160, "the shape is small in its picture"


@pytest.mark.parametrize("size", [(200, 80), (80, 200), (33, 47)])
def test_pictures_of_any_shape(size):
    picture = viewer.render_image(cylinder_scene(), size=size)
    assert picture.shape == (size[1], size[0], 3)
    assert_whole(picture, least=0.02)


def test_colours_tell_the_roles_of_the_loops_apart():
    scene = cylinder_scene(
        special=[1],
        edited=[3],
        regenerated=[4, 5, 6, 7],
        untouched=(make_planes("y", 2, 0.2, 0.4), [[circle(0.45)], [circle(0.45)]]),
    )
    picture = viewer.render_image(scene, size=(240, 240))
    for test in (is_golden, is_red, is_pink, is_green, is_blue, is_grey):
        assert share(picture, test) > 0.002, test.__name__
    plain = viewer.render_image(cylinder_scene(), size=(240, 240))
    assert share(plain, is_golden) > 0.01
    assert share(plain, is_blue) > 0.05
    for test in (is_red, is_pink, is_green):
        assert share(plain, test) == 0, test.__name__


def test_a_role_named_first_wins_and_hidden_loops_are_not_drawn():
    scene = cylinder_scene(special=[2], edited=[2, 3], regenerated=[3, 4], hidden=[0, 4])
    counts = {role: len(loops) for role, loops in scene.loops_by_role().items()}
    assert counts == {"untouched": 0, "loop": 4, "regenerated": 0, "edited": 1, "special": 1}
    assert scene.loop_count() == 8


def test_loops_that_cannot_be_drawn_are_left_out_but_keep_their_numbers():
    broken = [np.full((4, 2), np.nan), np.zeros((3, 2)), circle(1.0)]
    scene = Scene(planes=make_planes("y", 2, 0, 1), loops_by_plane=[broken, []], edited=[2])
    roles = scene.loops_by_role()
    assert len(roles["edited"]) == 1
    assert len(roles["loop"]) == 0
    assert np.isfinite(scene.points()).all()


def test_a_translucent_mesh_shows_the_loops_behind_it():
    amounts = {}
    for opacity in (1.0, 0.5, 0.0):
        look = Look(mesh_opacity=opacity)
        picture = viewer.render_image(cylinder_scene(), size=SIZE, look=look)
        assert_whole(picture)
        amounts[opacity] = share(picture, is_blue), picture
    assert amounts[1.0][0] > 0.1
    assert amounts[0.0][0] == 0
    # Lighter than the solid mesh, darker than none.
    brightness = [picture.mean() for _, picture in amounts.values()]
    assert brightness == sorted(brightness)


def test_drawing_other_things_in_between_changes_nothing():
    scene = cylinder_scene(edited=[2])
    first = viewer.render_image(scene, size=SIZE)
    others = [
        (Scene(mesh=scene.mesh), Look(mesh_opacity=1.0, ground_shadow=True)),
        (cylinder_scene(planes_at=[1], regenerated=[3, 4]), Look(loop_nodes=True)),
        (cylinder_scene(offset=(9, 9, 9)), Look(mesh_opacity=0.0)),
    ]
    for other, look in others:
        assert_whole(viewer.render_image(other, size=(90, 120), look=look), least=0.01)
    again = viewer.render_image(cylinder_scene(edited=[2]), size=SIZE)
    assert (first == again).all()
    viewer.close_viewer()
    assert (first == viewer.render_image(scene, size=SIZE)).all()


def test_a_transparent_background():
    scene, look = cylinder_scene(), Look(background_color=(0.2, 0.5, 0.9))
    clear = viewer.render_image(scene, size=SIZE, look=look, transparent=True)
    solid = viewer.render_image(scene, size=SIZE, look=look)
    assert clear.shape == (160, 160, 4)
    assert (clear[[0, -1], :, 3] == 0).all()
    assert (clear[..., 3] == 255).any(), "golden loops are solid"
    assert ((clear[..., 3] > 100) & (clear[..., 3] < 255)).mean() > 0.05, "glass is translucent"
    alpha = clear[..., 3:] / 255.0
    blended = alpha * clear[..., :3] + (1 - alpha) * np.array([51.0, 127.5, 229.5])
    assert np.abs(blended - solid).max() < 3


def test_the_ground_shadow_lies_under_the_shape():
    scene = cylinder_scene()
    look = Look(ground_shadow=True)
    camera = fit_camera(framed_points(scene, look), SIZE)
    lit = viewer.render_image(scene, camera, SIZE).astype(int)
    shaded = viewer.render_image(scene, camera, SIZE, look).astype(int)
    darker = (lit - shaded).max(axis=2)
    assert darker.max() > 30
    assert (shaded <= lit + 1).all()
    rows = np.flatnonzero((darker > 10).any(axis=1))
    assert rows.min() > 0.6 * 160, "the shadow is at the foot of the shape"
    # From below there is no ground in the way.
    below = fit_camera(scene.points(), SIZE, elevation=-30)
    assert (
        viewer.render_image(scene, below, SIZE, look) == viewer.render_image(scene, below, SIZE)
    ).all()


def test_mirrored_x_is_the_mirror_image():
    scene = cylinder_scene(edited=[5])
    planes, loops = scene.planes, [list(row) for row in scene.loops_by_plane]
    loops[5] = [circle(0.2, center=(0.4, 0.1))]
    scene = Scene(mesh=scene.mesh, planes=planes, loops_by_plane=loops, edited=[5])
    look = Look(mesh_opacity=1.0)
    points = np.concatenate([scene.points(), scene.mirrored_x().points()])
    picture = viewer.render_image(scene, fit_camera(points, SIZE, azimuth=0), SIZE, look)
    mirror = viewer.render_image(
        scene.mirrored_x(), fit_camera(points, SIZE, azimuth=0), SIZE, look
    )
    red, mirrored_red = (is_red(*np.moveaxis(p.astype(int), 2, 0)) for p in (picture, mirror))
    assert np.argwhere(red)[:, 1].mean() > 90
    assert (red[:, ::-1] != mirrored_red).mean() < 0.01
    volume = trimesh.Trimesh(*scene.mesh, process=False).volume
    assert trimesh.Trimesh(*scene.mirrored_x().mesh, process=False).volume == pytest.approx(volume)


def test_hidden_loops_do_not_move_the_camera_nor_thicken_the_others():
    scene = cylinder_scene()
    points = cylinder_scene(hidden=range(1, 8)).points()
    assert (points == scene.points()).all()


def test_a_scene_without_anything_is_refused():
    with pytest.raises(ValueError, match="neither a mesh nor loops"):
        viewer.render_image(Scene(), size=SIZE)


def test_windows_are_left_out_where_there_is_no_display():
    assert viewer.show_shape(cylinder_scene(), "title") is False
    assert viewer.choose_camera(cylinder_scene()) is None
    assert not viewer.open_viewer()


def test_no_polyscope(monkeypatch):
    assert viewer.viewer_available()
    monkeypatch.setenv("NO_POLYSCOPE", "1")
    assert not viewer.viewer_available()
    with pytest.raises(UserError, match="NO_POLYSCOPE"):
        viewer.render_image(cylinder_scene(), size=SIZE)


def run_python(code, cwd, **variables):
    kept = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment = {**kept, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


RENDER = """
import sys
from loopdraw.view import viewer
assert "polyscope" not in sys.modules
import numpy as np
from loopdraw.view.scene import Scene
corners = np.array([[0., 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
viewer.render_picture("picture.png", Scene(mesh=(corners, faces)), size=(60, 60))
"""


def test_drawing_is_silent_and_leaves_nothing_else_behind(tmp_path):
    result = run_python(RENDER, tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def test_a_display_that_does_not_answer_is_not_needed(tmp_path):
    result = run_python(RENDER, tmp_path, DISPLAY=":987")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_without_egl_one_line_names_the_debian_packages(tmp_path):
    # Twice, because the second attempt must not fail for another reason.
    guarded = "from loopdraw.files import UserError, run_script\ndef main():\n" + "".join(
        f"    {line}\n" for line in RENDER.strip().splitlines()
    )
    guarded += "try:\n    main()\nexcept UserError:\n    pass\n"
    guarded = guarded.replace('assert "polyscope" not in sys.modules', "pass")
    result = run_python(
        guarded + "run_script(main)",
        tmp_path,
        # Leaves EGL's loader without a driver, as on a machine without Mesa.
        __EGL_VENDOR_LIBRARY_DIRS=str(tmp_path),
        __EGL_VENDOR_LIBRARY_FILENAMES="",
    )
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    for package in ("libegl1", "libgl1", "libgl1-mesa-dri"):
        assert package in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_camera_holds_every_point_inside_the_margin():
    random = np.random.default_rng(0)
    for _ in range(50):
        points = random.normal(size=(40, 3)) * random.uniform(0.01, 5, 3) + random.normal(size=3)
        size = tuple(random.integers(50, 500, 2))
        margin = random.uniform(0, 0.2)
        camera = fit_camera(
            points,
            size,
            azimuth=random.uniform(-180, 180),
            elevation=random.uniform(-80, 80),
            margin=margin,
        )
        rays = pixel_rays(camera, size)
        across, down = rays[0, 1] - rays[0, 0], rays[1, 0] - rays[0, 0]  # one pixel
        forward = rays.mean(axis=(0, 1))
        depth = (points - camera.position) @ forward
        assert (depth > 0).all()
        flat = (points - camera.position) / depth[:, None]
        x = flat @ across / (across @ across) / (size[0] / 2)  # -1 to 1
        y = flat @ down / (down @ down) / (size[1] / 2)
        limit = 1 - 2 * margin
        assert max(np.abs(x).max(), np.abs(y).max()) == pytest.approx(limit, abs=1e-6)


def test_a_turntable_stays_inside_its_picture():
    wide = np.array([[0.0, 0, 0], [1, 0.1, 0], [0, 0.2, 0.1], [3, 1, 4]])
    scene = Scene(mesh=(wide, np.array([[0, 1, 2], [1, 2, 3], [0, 1, 3]])))
    pivot = np.array([1.0, 0.0, 1.0])
    start = fit_camera(orbit_points(scene.points(), pivot), SIZE)
    for degrees in (0, 75, 150, 225, 300):
        camera = start.orbited(pivot, degrees)
        assert_whole(viewer.render_image(scene, camera, SIZE), least=0.003)


def test_tubes_are_closed_round_and_outwards():
    loops = [(np.insert(circle(1.0, n_points=200), 1, 0.0, axis=1), np.array([0.0, 1.0, 0.0]))]
    loops.append((loops[0][0][::-1] + [5, 0, 0], -loops[0][1]))
    tubes = trimesh.Trimesh(*tube_mesh(loops, 0.05, sides=32), process=False)
    assert tubes.is_watertight
    assert tubes.body_count == 2
    # A torus of radii 1 and 0.05, twice.
    assert tubes.volume == pytest.approx(2 * 2 * np.pi**2 * 0.05**2, rel=0.01)


def test_tubes_keep_their_thickness_round_corners():
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]])
    vertices, _ = tube_mesh([(square, np.array([0.0, 1.0, 0.0]))], 0.1, sides=4)
    # Mitred: the outer corners of the tube form a square wider by the radius on every side.
    assert vertices.min(axis=0) == pytest.approx([-0.1, -0.1, -0.1])
    assert vertices.max(axis=0) == pytest.approx([1.1, 0.1, 1.1])


def test_creases_are_split_and_smooth_edges_are_not():
    box = trimesh.creation.box()
    vertices, faces = split_creases(np.asarray(box.vertices), np.asarray(box.faces))
    assert len(vertices) == 24, "three vertices at each corner of a cube"
    assert (vertices[faces] == box.triangles).all()
    ball = trimesh.creation.icosphere(3)
    vertices, faces = split_creases(np.asarray(ball.vertices), np.asarray(ball.faces))
    assert len(vertices) == len(ball.vertices)
    assert (vertices[faces] == ball.triangles).all()
    # Neighbours that wind differently are smooth too, where their normals agree after all.
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert len(split_creases(flat, np.array([[0, 1, 2], [0, 2, 3]]))[0]) == 4


def test_layers_are_mixed_and_laid_over_the_background():
    image = np.zeros((4, 4, 4), dtype=np.uint8)
    image[:2, :2] = [200, 100, 0, 255]
    image[2, 2] = [0, 0, 80, 255]
    layer = shrink(image, 2)
    assert layer.shape == (2, 2, 4)
    assert layer[0, 0].tolist() == [200, 100, 0, 255]
    assert layer[1, 1].tolist() == [0, 0, 20, 63.75]
    assert over(layer, (1, 1, 1))[1, 1].tolist() == [191, 191, 211]
    assert over(layer, None)[1, 1].tolist() == [0, 0, 80, 64]
    empty = np.zeros_like(layer)
    assert mix(layer, empty, 0.25)[0, 0].tolist() == [50, 25, 0, 63.75]


@pytest.mark.parametrize(
    ("count", "columns", "shape"), [(1, None, (1, 1)), (5, 2, (3, 2)), (2, 8, (1, 2))]
)
def test_contact_sheets(count, columns, shape):
    pictures = []
    for index in range(count):
        picture = np.full((50, 50, 3), 255, dtype=np.uint8)
        picture[10:40, 20:30] = [index, 0, 0]
        pictures.append(picture)
    sheet = contact_sheet(pictures, columns, gap=0.1)
    # Cropped to what is shown: cells of 30 x 10 pixels and a gap of 1.
    assert sheet.shape == (31 * shape[0] + 1, 11 * shape[1] + 1, 3)
    for index in range(count):
        assert (sheet == [index, 0, 0]).all(axis=2).sum() == 300
    assert contact_sheet(pictures, columns, width=9).shape[1] == 9


def test_contact_sheets_prefer_full_rows():
    cell = np.zeros((10, 10, 3), dtype=np.uint8)
    cell[2:8, 2:8] = 255
    for count, columns in ((12, 4), (9, 3), (8, 4), (20, 5)):
        sheet = contact_sheet([cell] * count, gap=0)
        assert sheet.shape == (6 * count // columns, 6 * columns, 3)
