"""Records the pictures of the editor in the browser: a drag as a GIF, and the whole window.

    python docs/record_editor.py docs/images        writes drag-browser.gif and editor-browser.png

A headless Chromium opens the page, and a mouse drags a loop of the vase of `demo-vases-edit.json`.
After each movement the picture is taken once the page shows what came of it, so without a graphics
card the GIF runs faster than the page did.
"""

import argparse
import io
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

LOOP = 21
VIEW, WINDOW = {"width": 600, "height": 500}, {"width": 1000, "height": 680}
SECONDS_PER_PICTURE = 0.4
APPROACH, REST = 3, 4  # pictures
DRAG = (0.16, 0.0), (-0.14, 0.04), (0.05, 0.02)  # where the loop is dragged to, in its plane
STEP = 0.025  # of the drag, from picture to picture
PATIENCE = 600_000  # milliseconds, on a busy machine
GRIP = 0.255  # of the gizmo's size: where the square is that moves the loop
WORDS = "--no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader"
MOUSE = """addEventListener("mousemove", (event) => {
  let arrow = document.getElementById("arrow");
  if (!arrow) {
    arrow = document.createElement("div");
    arrow.id = "arrow";
    arrow.innerHTML = `<svg width="22" height="30" viewBox="0 0 22 30"><path fill="black"
      stroke="white" stroke-width="1.5" d="M1 1 V23 L6.5 18 L10 27 L14 25.4 L10.4 16.6 H18 Z"/>
      </svg>`;
    arrow.style = "position:fixed;pointer-events:none;z-index:99999";
    document.body.append(arrow);
  }
  arrow.style.left = `${event.clientX}px`;
  arrow.style.top = `${event.clientY}px`;
}, true);"""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to write the pictures")
    folder = parser.parse_args().folder
    from playwright.sync_api import sync_playwright

    import loopdraw
    from loopdraw.editing.edit_files import load_edits
    from loopdraw.view.pictures import save_gif, save_png

    model = loopdraw.load(ROOT / "checkpoints/demo-vases")
    vase = model.decode(load_edits(ROOT / "demo-vases-edit.json").latent)
    with tempfile.TemporaryDirectory() as edits, sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=WORDS.split())
        editing = model.edit(vase, edits)
        recorder = Recorder(browser, editing.page)
        save_gif(folder / "drag-browser.gif", list(recorder.drag()), SECONDS_PER_PICTURE)
        save_png(folder / "editor-browser.png", recorder.window())
        browser.close()
        editing.close()


class Recorder:
    """A page with the editor, and a mouse on it.

    Parameters
    ----------
    browser : playwright's browser
    page : page.Page, with an editor
    """

    def __init__(self, browser, page):
        self.editor, self.panel = page.editor, page.server.gui.main_panel
        self.panel.minimize()  # so that there is room for the shape
        self.ask = page.editor.events.ask
        self.ask(page.editor.session.pick, LOOP).result()
        self.tab = browser.new_page(viewport=VIEW)
        self.tab.set_default_timeout(PATIENCE)
        self.tab.add_init_script(MOUSE)
        self.tab.goto(page.server.address)
        # Without a graphics card, viser says so.
        self.tab.locator(".mantine-Notification-closeButton").first.click()
        (self.client,) = page.server.viser.get_clients().values()

    def drag(self):
        """Pictures of a drag, (height, width, 3) uint8 each."""
        gizmo = self.editor.gizmo
        plane = self.editor.session.editor.info.planes
        plane = plane[self.editor.session.editor.shape.planes[LOOP]]
        grip = gizmo.position + GRIP * gizmo.scale * (plane[2] + plane[3])
        end = np.array(self.place(grip))
        for share in np.linspace(0, 1, APPROACH):
            yield self.picture(end + (1 - share) * np.array([110, 90]))
        self.tab.mouse.down()
        at = np.zeros(2)
        for stop in DRAG:
            way = np.array(stop) - at
            n_steps = round(np.linalg.norm(way) / STEP)
            # Slow at the start and at the end, as a hand moves.
            for share in (1 - np.cos(np.linspace(0, np.pi, n_steps + 1)[1:])) / 2:
                u, v = at + share * way
                yield self.picture(self.place(grip + u * plane[2] + v * plane[3]))
            at = at + way
            for _ in range(REST):
                yield self.picture()
        self.tab.mouse.up()

    def window(self):
        """A picture of the window, with the panel."""
        self.panel.expand()
        self.tab.evaluate("document.getElementById('arrow').remove()")
        self.tab.set_viewport_size(WINDOW)
        return self.picture()

    def picture(self, mouse=None):
        """What is seen once the mouse is at a place and the page has followed."""
        if mouse is not None:
            self.tab.mouse.move(*mouse)
        until = time.monotonic() + 1.0
        while time.monotonic() < until or not self.ask(self._has_followed).result():
            time.sleep(0.1)
        self.tab.evaluate("new Promise(go => requestAnimationFrame(() => setTimeout(go, 500)))")
        return np.asarray(Image.open(io.BytesIO(self.tab.screenshot())).convert("RGB"))

    def _has_followed(self):
        return self.editor.surfaces.is_fine

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


if __name__ == "__main__":
    main()
