"""The page in the browser, in a headless Chromium that Playwright drives as a person would.

Needs Chromium (`apt-get install chromium`); without it, what needs it is skipped.
"""

import contextlib
import shutil
import threading
import time
import urllib.error
import urllib.request
import warnings

import numpy as np
import pytest
from small_model import EGG, LATENT_SIZE, small_model

from loopdraw.editing.edit_files import load_edits
from loopdraw.editing.editor import decode_with_edits
from loopdraw.editing.session import EditSession
from loopdraw.loops.slices_files import load_slices
from loopdraw.view.browser.page import open_page

WORDS = "--no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader"
SIZE = {"width": 760, "height": 620}
PATIENCE = 60.0  # seconds: a machine without a graphics card may be busy


def wait_for(condition, what):
    """Wait until a function gives something true; what it gives."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come")


def get(page, path=""):
    """The answer of the page to a path below its address."""
    with urllib.request.urlopen(page.server.address + path, timeout=PATIENCE) as answer:
        return answer.read()


@pytest.fixture
def page():
    page = open_page()
    yield page
    page.close()


@pytest.fixture(scope="module")
def chromium():
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        reason = "the page is not tested in a browser: chromium is not installed"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=WORDS.split())
        yield browser
        browser.close()


class Hand:
    """A person with the page open."""

    def __init__(self, chromium, page):
        self.page = page
        # Few pixels: each costs time without a graphics card.
        self.tab = chromium.new_page(viewport=SIZE)
        self.tab.set_default_timeout(1000 * PATIENCE)
        self.tab.goto(page.server.address + "?fixedDpr=0.3")
        self.client = wait_for(self._newest, "the connection")

    def _newest(self):
        clients = self.page.server.viser.get_clients()
        return clients[max(clients)] if clients else None

    def place(self, point):
        """Where a point in space (3,) is in the tab."""
        camera, box = self.client.camera, self.tab.locator("canvas").first.bounding_box()
        look = camera.look_at - camera.position
        look = look / np.linalg.norm(look)
        right = np.cross(look, camera.up_direction)
        right /= np.linalg.norm(right)
        offset = np.asarray(point) - camera.position
        scale = box["height"] / 2 / np.tan(camera.fov / 2) / (offset @ look)
        x = box["x"] + box["width"] / 2 + scale * offset @ right
        return x, box["y"] + box["height"] / 2 - scale * offset @ np.cross(right, look)

    def type_into(self, label, text):
        """Type a number into the box beside a slider."""
        box = self.tab.locator(f"label:text-is('{label}')").first
        box = box.locator("xpath=ancestor::*[.//input[@inputmode]][1]").locator("input").last
        box.fill(text)
        box.press("Enter")


@contextlib.contextmanager
def editing(page, folder):
    """A session that is edited on the page, as `edit` does it."""
    session = EditSession(
        small_model(flag_bias=5.0),
        np.zeros(LATENT_SIZE),
        [],
        folder / "inference",
        lambda word: np.full(LATENT_SIZE, 0.5),
        lambda word: [EGG],
    )
    thread = threading.Thread(target=page.edit, args=(session, "edit ?"))
    thread.start()
    try:
        wait_for(lambda: page.editor, "the editor")
        yield session
    finally:
        page.editor.finish()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_person_edits_and_saves(page, chromium, tmp_path):
    with editing(page, tmp_path) as session:
        editor = session.editor
        hand = Hand(chromium, page)
        hand.tab.locator("canvas").first.wait_for()
        hand.tab.get_by_text("make square").wait_for()
        planes = editor.info.planes
        loop = editor.shape.loops_in_space(planes)[6]
        camera = hand.client.camera.position
        front = loop[np.linalg.norm(loop - camera, axis=1).argmin()]
        hand.tab.mouse.click(*hand.place(front))
        wait_for(lambda: session.first == 6, "the picked loop")

        # The square between the arrows of the gizmo moves the loop within its plane.
        gizmo = wait_for(lambda: page.server.scene.get_handle_by_name("/gizmo"), "the gizmo")
        wait_for(lambda: np.allclose(gizmo.position, loop.mean(axis=0), atol=1e-6), "it there")
        plane = planes[editor.shape.planes[6]]
        grip = loop.mean(axis=0) + 0.255 * gizmo.scale * (plane[2] + plane[3])
        wait_for(lambda: drags(hand, session, grip, plane), "the drag")
        (edit,) = editor.edits
        assert (edit.kind, edit.first, edit.last) == ("move", 6, 6)
        moved = editor.shape.loops_in_space(planes)[6]
        np.testing.assert_allclose(
            (moved - plane[1]) @ plane[0], 0, atol=1e-9, err_msg="it has left its plane"
        )

        hand.type_into("scale u", "1.5")
        wait_for(lambda: len(editor.edits) == 2, "the slider")
        assert editor.edits[1].values["u"] == 1.5
        hand.type_into("rotate", "30")
        wait_for(lambda: len(editor.edits) == 3, "the other slider")
        hand.tab.keyboard.press("Escape")
        hand.tab.get_by_role("button", name="undo").click()
        wait_for(lambda: len(editor.edits) == 2, "undo")

        hand.tab.get_by_role("button", name="save", exact=True).click()
        saved = tmp_path / "inference" / "inference-0.obj"
        wait_for(saved.is_file, "the mesh")
        hand.tab.get_by_text("saved").first.wait_for()
        hand.tab.close()

    edit_file = load_edits(saved.with_name("inference-0-edit.json"))
    assert [edit.kind for edit in edit_file.edits] == ["move", "scale"]
    model = small_model(flag_bias=5.0)
    sequence = decode_with_edits(model, edit_file.latent, edit_file.edits)
    _, saved_loops = load_slices(saved.with_name("inference-0-slices.npz"))
    for ours, theirs in zip(model.info.loops(sequence), saved_loops, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def drags(hand, session, grip, plane):
    """Drag the gizmo by its grip; whether that became an edit."""
    start, end = hand.place(grip), hand.place(grip + 0.06 * plane[2] + 0.03 * plane[3])
    hand.tab.mouse.move(*start)
    hand.tab.mouse.down()
    for share in (0.25, 0.5, 0.75, 1.0):
        hand.tab.mouse.move(*(a + share * (b - a) for a, b in zip(start, end, strict=True)))
    hand.tab.mouse.up()
    time.sleep(0.3)
    return session.editor.edits
