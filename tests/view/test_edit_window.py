"""The edit window under Xvfb, with a mouse that is moved by xdotool.

Needs the programs Xvfb and xdotool (`apt-get install xvfb xdotool`); without them it is skipped.
"""

import json
import os
import shutil
import subprocess
import sys
import types
import warnings
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import trimesh
from PIL import Image
from small_model import small_model

from loopdraw.editing.edit_files import load_edits
from loopdraw.editing.editor import decode_with_edits
from loopdraw.loops.geometry import make_planes
from loopdraw.view.edit_window import EditCanvas

DRIVER = Path(__file__).with_name("edit_window_driver.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the driver has left what it did."""
    missing = [name for name in ("Xvfb", "xdotool") if not shutil.which(name)]
    if missing:
        reason = f"the edit window is not tested: {' and '.join(missing)} is not installed"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("window")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1400x1000x24"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            display = pipe.readline().strip()
        environment = {**os.environ, "DISPLAY": f":{display}"}
        environment.pop("NO_POLYSCOPE", None)
        environment.pop("WAYLAND_DISPLAY", None)
        done = subprocess.run(
            [sys.executable, str(DRIVER), str(folder)],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=400,
        )
    finally:
        server.kill()
        server.wait()
    assert done.returncode == 0, done.stderr[-3000:]
    assert "imgui-error" not in done.stdout + done.stderr
    (folder / "stderr.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def steps(folder):
    return json.loads((folder / "steps.json").read_text())


def test_a_slider_edits_and_undo_takes_it_back(steps):
    assert steps["at first"]["edits"] == [] and steps["at first"]["picked"] == [6, 6]
    assert steps["slider"]["edits"] == [["move", 6, 6, True]]
    (values,) = steps["slider"]["values"]
    assert 0.05 < values["u"] < 0.4 and values["v"] == 0
    assert steps["undone"]["edits"] == []
    assert steps["redone"]["values"] == [values]


def test_loops_take_their_colours(steps):
    before, after = steps["at first"]["colors"], steps["slider"]["colors"]
    assert before["before"] > 5000 and before["edited"] < 100 and before["regenerated"] < 100
    assert 1000 < after["before"] < 0.8 * before["before"]
    assert after["edited"] > 500 and after["regenerated"] > 3000


def test_the_gizmo_moves_the_loop_in_its_plane(steps):
    assert steps["gizmo"]["edits"] == [["move", 6, 6, True]]
    (before,), (after,) = steps["slider"]["values"], steps["gizmo"]["values"]
    assert after["u"] - before["u"] > 0.02 and abs(after["v"] - before["v"]) > 0.02


def test_buttons_and_the_list(steps):
    assert steps["square"]["edits"][1] == ["square", 6, 6, True]
    assert steps["replaced"]["edits"][2] == ["replace", 6, 6, True]
    assert steps["switched off"]["edits"][2] == ["replace", 6, 6, False]
    assert steps["removed"]["edits"] == steps["square"]["edits"]


def test_errors_show_in_the_panel_and_the_window_stays(steps):
    assert steps["mistake"]["error"] == "no variable $last_pred_seq"
    assert steps["mistake"]["edits"] == steps["square"]["edits"]
    assert steps["replaced"]["error"] == ""
    assert steps["crash"]["error"].startswith("ZeroDivisionError")
    assert steps["after the crash"]["error"] == ""
    assert steps["after the crash"]["edits"][-1] == ["square", 2, 2, True]


def test_only_a_crash_prints_its_traceback(folder):
    stderr = (folder / "stderr.txt").read_text()
    assert stderr.count("Traceback") == 1
    assert "edit_window_driver.py" in stderr and "ZeroDivisionError: division by zero" in stderr
    assert "no variable $last_pred_seq" not in stderr


def test_a_click_picks_a_loop(steps):
    assert steps["clicked"]["picked"] == [2, 2]


def test_the_surface_follows(steps):
    assert steps["surface"]["shown"] and steps["surface"]["n_vertices"] > 300


def test_what_is_saved(steps, folder):
    assert steps["saved"]["message"].endswith("inference-0.obj")
    saved = folder / "saved"
    for ending in (".obj", ".glb"):
        assert len(trimesh.load_mesh(saved / f"inference-0{ending}").faces) > 600
    picture = np.asarray(Image.open(saved / "inference-0.png"))
    assert picture.shape == (880, 1100, 3) and picture.std() > 10


def test_a_script_gives_the_loops_of_the_window(steps, folder):
    edit_file = load_edits(folder / "saved" / "inference-0-edit.json")
    edits = [["move", 6, 6, True], ["square", 6, 6, True]]
    assert [[e.kind, e.first, e.last, e.enabled] for e in edit_file.edits] == edits
    script = decode_with_edits(small_model(flag_bias=5.0), edit_file.latent, edit_file.edits)
    np.testing.assert_array_equal(script, np.array(steps["sequence"], dtype=np.float32))


def test_close_closes(steps):
    assert steps["closed"] is True


def test_only_loops_that_change_are_drawn_anew():
    ring = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    was_there = [ring + [0.0, 0.1 * number, 0.0] for number in range(5)]
    shape = types.SimpleNamespace(edited=np.array([2]), regenerated=np.array([3, 4]))
    tubes = {}
    ps = MagicMock()
    ps.register_surface_mesh = lambda name, *_, **__: tubes.setdefault(name, MagicMock())
    canvas = EditCanvas(ps, make_planes("y", 5, 0.0, 0.4), np.concatenate(was_there))
    for size in (1.1, 1.2, 1.2):
        loops = was_there[:2] + [size * loop for loop in was_there[2:]]
        canvas.draw_loops(loops, was_there, shape, range(2, 3))
    drawn_anew = {name: tube.update_vertex_positions.call_count for name, tube in tubes.items()}
    assert drawn_anew == {"what was there": 0, "edited": 1, "regenerated": 1, "before the edit": 0}
