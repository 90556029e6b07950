"""The page in a headless Chromium that Playwright drives as a person would.

Needs Chromium (`apt-get install chromium`); without it these tests are skipped.
"""

import io
import sys

import numpy as np
from conftest import ROOT
from edited_page import PATIENCE, editing, wait_for
from small_model import LATENT_SIZE, small_model

from loop_inference_config_and_repl import InferenceREPL, LoopInferenceSettings
from loopdraw.editing.edit_files import load_edits
from loopdraw.loops.slices_files import load_slices
from loopdraw.prompt.engine import InferenceEngine
from loopdraw.surface.workers import SurfaceWorkers

sys.path.insert(0, str(ROOT / "docs"))
import record_editor

SIZE = {"width": 620, "height": 560}
LOOP, N_MOVES = 6, 4  # what is dragged, and in how many moves of the mouse


class Hand:
    """A person with the page open."""

    def __init__(self, chromium, page):
        self.page = page
        # Few pixels: each costs time without a graphics card.
        self.tab = chromium.new_page(viewport=SIZE)
        self.tab.set_default_timeout(1000 * PATIENCE)
        self.tab.goto(page.server.address + "?fixedDpr=0.3")
        self.client = wait_for(self._newest, "the connection")
        self.tab.get_by_text("make square").wait_for()

    def _newest(self):
        clients = self.page.server.viser.get_clients()
        return clients[max(clients)] if clients else None

    def place(self, point):
        """Where a point in space (3,) is in the tab."""
        return record_editor.place(self.client, self.tab, point)

    def grasp(self, point):
        """Press the mouse on a grip of the gizmo, once more where the page has not shown it yet."""
        for _ in range(5):
            self.tab.mouse.move(*self.place(point))
            self.tab.mouse.down()
            try:
                return wait_for(lambda: self.page.editor._hand, "the grip", seconds=PATIENCE / 5)
            except AssertionError:
                self.tab.mouse.up()
        raise AssertionError("the gizmo cannot be grasped")

    def type_into(self, label, text):
        """Type a number into the box beside a slider."""
        box = self.tab.locator(f"label:text-is('{label}')").first
        box = box.locator("xpath=ancestor::*[.//input[@inputmode]][1]").locator("input").last
        box.fill(text)
        box.press("Enter")
        self.tab.keyboard.press("Escape")


def test_a_person_drags_undoes_and_saves(page, chromium, tmp_path):
    with editing(page, tmp_path) as session:
        editor, ask = session.editor, page.editor.events.ask  # what the editor's thread knows
        planes, plane = editor.info.planes, editor.info.planes[LOOP]

        def loops():
            return ask(lambda: editor.shape.loops_in_space(planes)).result()

        hand = Hand(chromium, page)
        at_first = loops()
        loop = at_first[LOOP]
        front = loop[np.linalg.norm(loop - hand.client.camera.position, axis=1).argmin()]
        hand.tab.mouse.click(*hand.place(front))
        wait_for(lambda: session.first == LOOP, "the picked loop")

        # The square between the arrows of the gizmo moves the loop within its plane.
        gizmo = page.editor.gizmo
        wait_for(lambda: np.allclose(gizmo.position, loop.mean(axis=0), atol=1e-6), "the gizmo")
        grip = loop.mean(axis=0) + 0.255 * gizmo.scale * (plane[2] + plane[3])
        hand.grasp(grip)
        aside = 0.06 * plane[2] + 0.03 * plane[3]
        for share in np.linspace(0, 1, N_MOVES + 1)[1:]:
            before = loops()
            hand.tab.mouse.move(*hand.place(grip + share * aside))
            now = follows(loops, before)
            np.testing.assert_allclose(
                (now[LOOP] - plane[1]) @ plane[0], 0, atol=1e-9, err_msg="it has left its plane"
            )
        hand.tab.mouse.up()
        wait_for(lambda: page.editor._hand is None, "the end of the drag")
        (edit,) = editor.edits
        assert (edit.kind, edit.first, edit.last) == ("move", LOOP, LOOP)
        now = loops()
        np.testing.assert_allclose((now[LOOP] - loop).mean(axis=0), aside, atol=0.02)
        np.testing.assert_array_equal(now[:LOOP], at_first[:LOOP])
        pairs = zip(now[LOOP + 1 :], at_first[LOOP + 1 :], strict=True)
        assert all((one != other).any() for one, other in pairs)
        on_page = page.server.scene.get_handle_by_name("/shape/loops").points[:, 0]
        far = [np.linalg.norm(on_page - point, axis=1).min() for point in np.concatenate(now)]
        assert max(far) < 1e-6

        # The whole drag is one step.
        hand.tab.keyboard.press("Control+z")
        wait_for(lambda: not editor.edits, "undo")
        np.testing.assert_array_equal(loops(), at_first)
        hand.tab.keyboard.press("Control+y")
        wait_for(lambda: editor.edits == (edit,), "redo")

        hand.type_into("scale u", "1.5")
        wait_for(lambda: len(editor.edits) == 2, "the slider")
        assert editor.edits[1].values["u"] == 1.5
        hand.type_into("rotate", "30")
        wait_for(lambda: len(editor.edits) == 3, "the other slider")
        hand.tab.get_by_role("button", name="undo").click()
        wait_for(lambda: len(editor.edits) == 2, "undo")

        hand.tab.get_by_role("button", name="save", exact=True).click()
        saved = tmp_path / "inference" / "inference-0.obj"
        wait_for(saved.is_file, "the mesh")
        hand.tab.get_by_text("saved").first.wait_for()
        hand.tab.close()

    edit_list = saved.with_name("inference-0-edit.json")
    assert [edit.kind for edit in load_edits(edit_list).edits] == ["move", "scale"]
    by_prompt = at_the_prompt(tmp_path, f"submit decode |{edit_list} --edit {edit_list} --save")
    ours, theirs = (
        load_slices(path.with_name(path.stem + "-slices.npz")) for path in (saved, by_prompt)
    )
    np.testing.assert_array_equal(ours[0], theirs[0])
    for one, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def follows(loops, before):
    """What `loops` gives once the loop that is dragged lies elsewhere than in `before`."""

    def moved():
        now = loops()
        return now if np.abs(now[LOOP] - before[LOOP]).max() > 1e-3 else None

    return wait_for(moved, "the loop, under the hand")


def at_the_prompt(folder, line):
    """Perform a command of the prompt with the same model; the path of the mesh that it saves."""
    engine = InferenceEngine(
        small_model(flag_bias=5.0), None, SurfaceWorkers(1), folder / "prompt", "no_function.py"
    )
    settings = LoopInferenceSettings(
        folder, LATENT_SIZE, engine.info.representation.n_features, True
    )
    prompt = InferenceREPL(settings, engine, io.StringIO(), io.StringIO())
    for command in (line, "run all"):
        assert not prompt.onecmd(command)
    return folder / "prompt" / "inference-0.obj"
