"""Drives a real edit window with a real mouse; run by `test_edit_window.py` under Xvfb.

    DISPLAY=:99 python edit_window_driver.py <folder>

Works through a window as a user would, by xdotool, and writes what came of each step to
`<folder>/steps.json`.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from small_model import EGG, LATENT_SIZE, small_model

from loopdraw.editing.session import EditSession
from loopdraw.files import UserError
from loopdraw.surface.workers import LatestSurface
from loopdraw.view import edit_panel, edit_window, viewer

WIDGETS = (
    *("Button", "SmallButton", "Checkbox", "Selectable", "CollapsingHeader"),
    *("SliderFloat", "SliderInt", "InputText", "InputInt"),
)


class Recorder:
    """Dear ImGui, remembering where the widgets are: label -> (left, top, right, bottom)."""

    def __init__(self, imgui):
        self._imgui = imgui
        self.places = {}

    def __getattr__(self, name):
        function = getattr(self._imgui, name)
        if name not in WIDGETS:
            return function

        def widget(label, *arguments):
            result = function(label, *arguments)
            least, most = self._imgui.GetItemRectMin(), self._imgui.GetItemRectMax()
            self.places[label] = (*least, *most)
            return result

        return widget


class Hand:
    """The mouse and the keyboard, in coordinates of the window."""

    def __init__(self, ps, places):
        self.ps, self.places = ps, places
        self.ticks(3)
        window = self._xdotool("search", "--onlyvisible", "--name", "LoopDraw").split()[0]
        geometry = self._xdotool("getwindowgeometry", "--shell", window)
        lines = dict(line.split("=") for line in geometry.split())
        self.corner = int(lines["X"]), int(lines["Y"])

    def ticks(self, n=4, seconds=0.06):
        """Draw frames, for as long as events take to come through the X server."""
        until = time.monotonic() + seconds
        while n > 0 or time.monotonic() < until:
            self.ps.frame_tick()
            n -= 1

    def _xdotool(self, *words):
        done = subprocess.run(
            ["xdotool", *map(str, words)], check=True, capture_output=True, text=True
        )
        return done.stdout

    def do(self, *words):
        self._xdotool(*words)
        self.ticks()

    def to(self, x, y):
        self.do("mousemove", round(x) + self.corner[0], round(y) + self.corner[1])

    def click(self, x, y):
        self.to(x, y)
        self.do("mousedown", 1)
        self.do("mouseup", 1)

    def drag(self, start, by, n_steps=4, before_release=lambda: None):
        self.to(*start)
        self.do("mousedown", 1)
        for step in range(1, n_steps + 1):
            self.to(*(s + b * step / n_steps for s, b in zip(start, by, strict=True)))
        before_release()
        self.do("mouseup", 1)

    def place(self, label, along=0.5):
        left, top, right, bottom = self.places[label]
        return left + along * (right - left), (top + bottom) / 2

    def press(self, label):
        self.click(*self.place(label))


def on_screen(ps, point):
    """Where a point in space (3,) is in the window."""
    view = ps.get_view_camera_parameters()
    offset = np.asarray(point) - np.array(view.get_position())
    look, up = np.array(view.get_look_dir()), np.array(view.get_up_dir())
    width, height = ps.get_window_size()
    scale = height / 2 / np.tan(np.radians(view.get_fov_vertical_deg()) / 2) / (offset @ look)
    return width / 2 + scale * offset @ np.cross(look, up), height / 2 - scale * offset @ up


def colors_seen(ps):
    """How many pixels of the view have the colour of each kind of loop."""
    red, green, blue = (
        np.moveaxis(ps.screenshot_to_buffer(transparent_bg=False)[..., :3], -1, 0) / 1.0
    )
    seen = {
        "before": (red > 1.05 * green) & (green > 1.3 * blue),
        "edited": (red > 1.6 * np.maximum(green, blue)) & (np.abs(green - blue) < 0.12 * red),
        "regenerated": (red > 1.15 * blue) & (blue > 1.12 * green),
    }
    return {name: int(pixels.sum()) for name, pixels in seen.items()}


def read_loops(word):
    if word != "$egg":
        raise UserError(f"no variable {word}")
    return [EGG]


def main(folder):
    session = EditSession(
        small_model(flag_bias=5.0),
        np.zeros(LATENT_SIZE),
        [],
        folder / "saved",
        lambda word: np.ones(LATENT_SIZE),
        read_loops,
    )
    editor = session.editor
    steps = {}
    recorder = edit_panel.imgui = Recorder(edit_panel.imgui)
    if not viewer.open_viewer(headless=False):
        sys.exit("no window could be opened")
    import polyscope as ps

    def note(name, **more):
        steps[name] = {
            "edits": [[e.kind, e.first, e.last, e.enabled] for e in editor.edits],
            "values": [{k: v for k, v in e.values.items() if k != "loops"} for e in editor.edits],
            "picked": [session.first, session.last],
            "error": window.error,
            "message": window.message,
            **more,
        }

    with LatestSurface() as surfaces:
        window = edit_window.EditWindow(session, "edit a shape", surfaces)
        window.open()
        hand = Hand(ps, recorder.places)

        session.pick(6)
        window.canvas.show_surface = False  # it hides loops, sooner or later
        hand.ticks()
        note("at first", colors=colors_seen(ps))

        # A slider: one drag is one edit, and one step to undo.
        hand.drag(hand.place("move u", 0.5), (30, 0))
        note("slider", colors=colors_seen(ps))
        hand.press("undo")
        note("undone")
        hand.press("redo")
        note("redone")

        # Polyscope's gizmo: dragged by its middle, the loop stays in its plane.
        planes = editor.info.planes
        loop = editor.shape.loops_in_space(planes)[6]
        hand.drag(on_screen(ps, loop.mean(axis=0)), (30, -12))
        note("gizmo")

        hand.press("make square")
        note("square")
        hand.press("replace by these")  # of $last_pred_seq, which is not there
        note("mistake")
        hand.click(*hand.place("loops of"))
        hand.do("key", "ctrl+a")
        hand.do("type", "--delay", 50, "$egg")
        hand.ticks(30)  # Dear ImGui takes one key a frame
        hand.press("replace by these")
        note("replaced")
        hand.press("##on")  # of the last edit
        note("switched off")
        hand.press("x")
        note("removed")

        front = editor.shape.loops_in_space(planes)[2]
        camera = np.array(ps.get_view_camera_parameters().get_position())
        nearest = front[np.linalg.norm(front - camera, axis=1).argmin()]
        hand.click(*on_screen(ps, nearest))
        note("clicked")
        hand.press("surface")

        # The surface comes by itself, and sharpens when the mouse rests.
        until = time.monotonic() + 100
        while time.monotonic() < until and (window._mesh is None or not surfaces.is_fine):
            hand.ticks(1, 0)
        n_vertices = 0 if window._mesh is None else len(window._mesh[0])
        note("surface", shown=window.canvas._surface.is_enabled(), n_vertices=n_vertices)

        hand.press(".glb")
        hand.press("save")
        note("saved")
        steps["sequence"] = editor.shape.sequence.astype(float).tolist()
        hand.press("screenshot")
        note("screenshot")

        # Whatever fails, the window goes on.
        session.make_square = lambda: 1 / 0
        hand.press("make square")
        note("crash")
        session.make_square = EditSession.make_square.__get__(session)
        hand.press("make square")
        note("after the crash")
    ps.clear_user_callback()
    viewer.close_viewer()

    # The same as the program does it: until "close" is pressed, by another process.
    x, y = (round(c) for c in hand.place("close"))
    x, y = x + hand.corner[0], y + hand.corner[1]
    again = EditSession(
        small_model(flag_bias=5.0), np.zeros(LATENT_SIZE), editor.edits, folder, None, read_loops
    )
    presses = f"while sleep 1; do xdotool mousemove {x} {y} mousedown 1 sleep 0.3 mouseup 1; done"
    presser = subprocess.Popen(["sh", "-c", presses])
    try:
        steps["closed"] = edit_window.edit_in_window(again, "again")
    finally:
        presser.kill()
    (folder / "steps.json").write_text(json.dumps(steps))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
