"""`polyscope_screenies.py`: every variable at its top does what its comment says."""

import os
import subprocess
import sys
from dataclasses import fields

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
    is_pink,
    is_red,
    share,
    shown,
)
from PIL import Image, ImageSequence

import polyscope_screenies
from loopdraw.files import UserError
from loopdraw.loops.geometry import make_planes
from loopdraw.loops.slices_files import save_slices
from loopdraw.view.gallery import Settings, load_scene

SIZE = (160, 160)


@pytest.fixture(autouse=True)
def small_pictures_without_windows(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "NO_POLYSCOPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GUI", "1")
    monkeypatch.setattr(polyscope_screenies, "IMAGE_SIZE", SIZE)


@pytest.fixture
def look(monkeypatch):
    """Sets variables of the script for one test."""

    def set_variables(**variables):
        for name, value in variables.items():
            assert hasattr(polyscope_screenies, name)
            monkeypatch.setattr(polyscope_screenies, name, value)

    return set_variables


def write_cylinder(folder, name="inference-0", radius=0.3, with_loops=True):
    """An upright cylinder of height 1 and its six loops; the fifth lies outside, at x = 0.6."""
    mesh = trimesh.creation.cylinder(radius, 1.0, sections=32)
    mesh.vertices = mesh.vertices[:, [0, 2, 1]]
    mesh.faces = mesh.faces[:, ::-1]
    path = folder / f"{name}.obj"
    mesh.export(path)
    if with_loops:
        planes = make_planes("y", 6, -0.4, 0.4)
        loops = [[circle(radius, n_points=24)] for _ in range(6)]
        loops[4] = [circle(0.1, (0.6, 0.0), 24)]
        save_slices(folder / f"{name}-slices.npz", planes, loops)
    return path


def take(*paths):
    """The pictures of some meshes as arrays, by file name."""
    written = list(polyscope_screenies.take_pictures(paths))
    return {path.name: np.asarray(Image.open(path)) for path in written if path.suffix == ".png"}


def read_scene(path):
    return load_scene(path, polyscope_screenies.read_settings())


def picture_of(path):
    return take(path)[f"{path.stem}-img.png"]


def is_mesh_blue(r, g, b):
    return is_blue(r, g, b) & (b - g > 12)


def amounts(picture):
    """Share of golden, red, pink, green, blue pixels."""
    tests = {
        "golden": is_golden,
        "red": is_red,
        "pink": is_pink,
        "green": is_green,
        "blue": is_mesh_blue,
    }
    return {name: float(share(picture, test)) for name, test in tests.items()}


def colours(picture):
    return {name for name, amount in amounts(picture).items() if amount > 0.0005}


def test_each_mesh_gets_a_picture_beside_it_with_its_loops(tmp_path, capsys):
    first = write_cylinder(tmp_path, "inference-0")
    (tmp_path / "other").mkdir()
    second = write_cylinder(tmp_path / "other", "bare", with_loops=False)
    polyscope_screenies.main([str(first), str(second)])
    wanted = [tmp_path / "inference-0-img.png", tmp_path / "other" / "bare-img.png"]
    assert capsys.readouterr().out.splitlines() == [f"wrote {path}" for path in wanted]
    for path, present in zip(wanted, ({"golden", "blue"}, {"blue"}), strict=True):
        picture = np.asarray(Image.open(path))
        assert picture.shape == (160, 160, 3)
        assert_whole(picture)
        assert colours(picture) == present
    assert len(list(tmp_path.rglob("*"))) == 3 + 1 + 2


def test_transparency(tmp_path, look):
    path = write_cylinder(tmp_path, radius=0.4)
    usual = picture_of(path).mean()
    look(MESH_OPACITY=0.0)
    assert colours(picture_of(path)) == {"golden"}
    look(MESH_OPACITY=1.0)
    solid = picture_of(path)
    assert solid.mean() < usual - 1, "a solid mesh is darker than glass"
    look(TRANSPARENT_BACKGROUND=True)
    clear = picture_of(path)
    assert clear.shape == (160, 160, 4)
    assert (clear[[0, -1], :, 3] == 0).all()
    assert (clear[..., 3] > 0).mean() == pytest.approx(shown(solid).mean(), abs=0.01)


def test_ground_shadow(tmp_path, look):
    path = write_cylinder(tmp_path)
    greys = []
    for shadow in (False, True):
        look(GROUND_SHADOW=shadow)
        picture = picture_of(path).astype(int)
        greys.append(((np.ptp(picture, axis=2) < 4) & (picture[..., 0] < 240)).mean())
    assert greys[0] < 0.002
    assert greys[1] > 0.01


def test_mirrored_x(tmp_path, look):
    path = write_cylinder(tmp_path)
    look(HIGHLIGHTED_LOOPS=[4])
    x = []
    for mirrored in (False, True):
        look(MIRROR_X=mirrored)
        picture = picture_of(path).astype(int)
        red = (picture[..., 0] > 140) & (picture[..., 0] - picture[..., 1] > 80)
        x.append(np.argwhere(red)[:, 1].mean())
    assert x[0] > 100
    assert x[1] < 60


def test_highlighted_and_special_loops_and_hiding_the_others(tmp_path, look):
    path = write_cylinder(tmp_path)
    look(HIGHLIGHTED_LOOPS=[4], SPECIAL_LOOPS=[1])
    picture = picture_of(path)
    assert colours(picture) == {"golden", "red", "green", "blue"}
    look(HIDE_OTHER_LOOPS=True)
    assert colours(picture_of(path)) == {"red", "green", "blue"}
    look(DRAW_LOOPS=False)
    assert colours(picture_of(path)) == {"blue"}


@pytest.mark.parametrize(
    ("above", "golden", "pink"),
    [("unchanged", 5, 0), ("color", 3, 2), ("flip", 2, 3), ("hide", 3, 0)],
)
def test_loops_above_an_edit(tmp_path, look, above, golden, pink):
    path = write_cylinder(tmp_path)
    look(HIGHLIGHTED_LOOPS=[3], LOOPS_ABOVE_EDIT=above)
    roles = read_scene(path).loops_by_role()
    assert len(roles["edited"]) == 1
    assert (len(roles["loop"]), len(roles["regenerated"])) == (golden, pink)
    heights = [points[0, 1] for points, _ in roles["regenerated"]]
    if above == "color":
        assert min(heights) > 0.1
    if above == "flip":
        assert max(heights) < 0.1
    assert ("pink" in colours(picture_of(path))) == (pink > 0)


def test_without_an_edit_nothing_lies_above_it(tmp_path, look):
    path = write_cylinder(tmp_path)
    for above in ("color", "flip", "hide"):
        look(LOOPS_ABOVE_EDIT=above)
        assert len(read_scene(path).loops_by_role()["loop"]) == 6


def test_what_the_untouched_shape_had_is_grey(tmp_path, look):
    path = write_cylinder(tmp_path)
    write_cylinder(tmp_path, "before", radius=0.5)
    look(UNTOUCHED_SLICES=tmp_path / "before-slices.npz", MESH_OPACITY=0.0)
    picture = picture_of(path).astype(int)
    grey = (np.ptp(picture, axis=2) < 12) & (picture[..., 0] < 235)
    assert grey.mean() > 0.005
    assert colours(picture) == {"golden"}


def test_slice_planes_and_nodes(tmp_path, look):
    path = write_cylinder(tmp_path)
    look(MESH_OPACITY=0.0, FRAMING="each")
    before = shown(picture_of(path)).mean()
    look(PLANES_AT_LOOPS=[2])
    with_plane = picture_of(path)
    assert_whole(with_plane)
    assert shown(with_plane).mean() > 1.5 * before
    look(PLANES_AT_LOOPS=[], LOOP_NODES=True)
    assert shown(picture_of(path)).mean() > 1.1 * before


def test_framing_together_keeps_relative_sizes(tmp_path, look):
    small = write_cylinder(tmp_path, "small", radius=0.05, with_loops=False)
    large = write_cylinder(tmp_path, "large", radius=1.0, with_loops=False)
    heights = {}
    for framing in ("together", "each"):
        look(FRAMING=framing)
        pictures = take(small, large)
        for name, picture in pictures.items():
            assert shown(picture).any()
            heights[framing, name] = np.ptp(np.flatnonzero(shown(picture).any(axis=1)))
    assert heights["each", "small-img.png"] > 1.5 * heights["together", "small-img.png"]
    assert heights["each", "large-img.png"] == heights["together", "large-img.png"]


def test_animation(tmp_path, look):
    path = write_cylinder(tmp_path)
    look(ANIMATION=True, GIF_SIZE=80, SPECIAL_LOOPS=[0])
    pictures = take(path)
    frames = [pictures[f"{count:03d}.png"] for count in range(1, 8)]
    assert (tmp_path / "inference-0-frames" / "007.png").is_file()
    covered = [shown(frame).mean() for frame in frames]
    assert covered == sorted(covered)
    assert [amounts(frame)["blue"] > 0 for frame in frames] == [False] * 6 + [True]
    assert (frames[-1] == pictures["inference-0-img.png"]).all()
    with Image.open(tmp_path / "inference-0-animation.gif") as gif:
        assert (gif.size, gif.n_frames, gif.info["loop"]) == ((80, 80), 7, 0)
        for image in ImageSequence.Iterator(gif):
            assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_turntable(tmp_path, look):
    path = write_cylinder(tmp_path)
    look(TURNTABLE=True, TURNTABLE_FRAMES=6, TURNTABLE_SECONDS=3.0, GIF_SIZE=100)
    written = list(polyscope_screenies.take_pictures([path]))
    assert [file.name for file in written] == ["inference-0-img.png", "inference-0-turntable.gif"]
    with Image.open(written[1]) as gif:
        assert (gif.n_frames, gif.info["duration"]) == (6, 500)
        frames = [np.asarray(image.convert("RGB")) for image in ImageSequence.Iterator(gif)]
    for frame in frames:
        assert_whole(frame)
    # The loop that lies outside comes round.
    sides = [np.argwhere(shown(frame))[:, 1].mean() for frame in frames]
    assert max(sides) - min(sides) > 3


def test_gallery(tmp_path, look):
    paths = [write_cylinder(tmp_path, f"s{i}", radius=0.1 + 0.1 * i) for i in range(4)]
    look(GALLERY="all.png", GALLERY_COLUMNS=2, GALLERY_WIDTH=300)
    sheet = take(*paths)["all.png"]
    assert 250 < sheet.shape[1] <= 300
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 2
    for row in (0, 1):
        for column in (0, 1):
            cell = sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
            assert {"golden", "blue"} <= colours(cell)
    assert (tmp_path / "all.png").is_file()


def test_wrong_values_are_named(tmp_path, look):
    path = write_cylinder(tmp_path)
    look(LOOPS_ABOVE_EDIT="purple")
    with pytest.raises(UserError, match="LOOPS_ABOVE_EDIT is 'purple'.*unchanged"):
        take(path)
    look(LOOPS_ABOVE_EDIT="hide", SPECIAL_LOOPS=[6])
    with pytest.raises(UserError, match="inference-0-slices.npz: has loops 0 to 5; SPECIAL_LOOPS"):
        take(path)
    look(SPECIAL_LOOPS=[], MESH_OPACITY=0.0)
    bare = write_cylinder(tmp_path, "bare", with_loops=False)
    with pytest.raises(UserError, match="bare.obj: nothing to draw"):
        take(bare)


def test_the_settings_of_the_package_are_those_of_the_script(monkeypatch):
    monkeypatch.undo()  # the small pictures, too
    ours = polyscope_screenies.read_settings()
    for field in fields(Settings):
        value, default = getattr(ours, field.name), getattr(Settings(), field.name)
        assert value == (list(default) if isinstance(value, list) else default), field.name
    variables = {name.lower() for name in vars(polyscope_screenies) if name.isupper()}
    assert variables == {field.name for field in fields(Settings)}


def test_a_bad_file_is_found_before_anything_is_drawn(tmp_path):
    path = write_cylinder(tmp_path)
    (tmp_path / "late.obj").write_text("this is no mesh\n")
    with pytest.raises(UserError, match="late.obj"):
        take(path, tmp_path / "late.obj")
    assert not list(tmp_path.glob("*.png"))


def run_script(*arguments, cwd):
    kept = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run(
        [sys.executable, ROOT / "polyscope_screenies.py", *arguments],
        cwd=cwd,
        env={**kept, "NO_GUI": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "no mesh named"),
        (["missing.obj"], "missing.obj"),
        (["text.obj"], "text.obj"),
        (["good.obj", "--fast"], "--fast"),
    ],
)
def test_mistakes_are_one_line_and_status_2(tmp_path, arguments, reason):
    (tmp_path / "text.obj").write_text("hello\n")
    write_cylinder(tmp_path, "good", with_loops=False)
    result = run_script(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert reason in result.stderr


def test_as_a_user_runs_it(tmp_path):
    write_cylinder(tmp_path, "shape")
    result = run_script("shape.obj", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "wrote shape-img.png\n"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["shape-img.png", "shape-slices.npz", "shape.obj"]
    picture = np.asarray(Image.open(tmp_path / "shape-img.png"))
    assert picture.shape == (1000, 1000, 3)
    assert_whole(picture)


def test_help_loads_nothing_heavy(tmp_path):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['polyscope_screenies.py', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'polyscope_screenies.py')!r}, run_name='__main__')\n"
        "except SystemExit as exit:\n"
        "    assert exit.code == 0\n"
        "heavy = {'polyscope', 'scipy', 'trimesh', 'shapely', 'PIL', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert "NO_GUI" in result.stdout
