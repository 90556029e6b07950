"""Records the pictures of the page in the browser.

    python docs/record_editor.py docs/images

writes drag-browser.gif, a drag in the editor, editor-browser.png, its whole window, and
gallery-browser.png, shapes side by side. A headless Chromium opens the page, and a mouse drags a
loop of the vase of `demo-vases-edit.json`. After each movement the picture is taken once the page
shows what came of it, so without a graphics card the GIF runs faster than the page did. Its second
half is the first one backwards.
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
RAIL = 44  # pixels of the panel, while it is folded up
PIXELS = 0.8  # of the drag's pictures, for one of the window: each costs time
SECONDS_PER_PICTURE = 0.4
APPROACH, REST = 3, 4  # pictures
DRAG = (0.16, 0.0), (-0.14, 0.04)  # where the loop is dragged to, in its plane
STEP = 0.03  # of the drag, from picture to picture
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
    from loopdraw.view.pictures import save_gif

    model = loopdraw.load(ROOT / "checkpoints/demo-vases")
    vase = model.decode(load_edits(ROOT / "demo-vases-edit.json").latent)
    with tempfile.TemporaryDirectory() as edits, sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=WORDS.split())
        editing = model.edit(vase, edits)
        recorder = Recorder(browser, editing.page)
        pictures = list(recorder.drag())
        save_gif(folder / "drag-browser.gif", there_and_back(pictures), SECONDS_PER_PICTURE)
        save_small(folder / "editor-browser.png", recorder.window())
        edited = editing.shape
        editing.close()
        save_small(
            folder / "gallery-browser.png", gallery(browser, [*model.sample(5, seed=0), edited])
        )
        browser.close()


def there_and_back(pictures):
    """The frames of the GIF: pictures (h, w, 3) uint8 without the panel, smaller, and backwards."""
    images = [Image.fromarray(picture[:, :-RAIL]) for picture in pictures]
    size = [round(PIXELS * n) for n in images[0].size]
    small = [np.asarray(image.resize(size, Image.Resampling.LANCZOS)) for image in images]
    return small + small[::-1]


def gallery(browser, shapes):
    """A picture of a page of shapes, with three of them side by side."""
    from loopdraw.view.browser.page import show_all

    page = show_all(shapes, wait=False)
    page.settle()
    entries = page.results.entries
    page.events.ask(page.results.look_at, [entries[-2], entries[-4], entries[0]]).result()
    picture = settled(open_tab(browser, page, WINDOW))
    page.close()
    return picture


def open_tab(browser, page, size, words="", script=""):
    """A tab with a page."""
    tab = browser.new_page(viewport=size)
    tab.set_default_timeout(PATIENCE)
    tab.add_init_script(script)
    tab.goto(page.server.address + words)
    # Without a graphics card, viser says so.
    tab.locator(".mantine-Notification-closeButton").first.click()
    return tab


def picture_of(tab):
    """What is seen in a tab, (height, width, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB"))


def settled(tab):
    """What is seen in a tab once it does not change any more: what is new comes bit by bit."""
    before, picture = None, picture_of(tab)
    while before is None or (picture != before).any():
        tab.wait_for_timeout(2000)
        before, picture = picture, picture_of(tab)
    return picture


def save_small(path, picture):
    """Write a picture (h, w, 3) uint8 as a PNG of 256 colours."""
    image = Image.fromarray(picture).quantize(256, Image.Quantize.MAXCOVERAGE, dither=0)
    image.save(path, optimize=True)


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
        self.tab = open_tab(browser, page, VIEW, f"?fixedDpr={PIXELS}", MOUSE)
        (self.client,) = page.server.viser.get_clients().values()

    def drag(self):
        """Pictures of a drag, (height, width, 3) uint8 each."""
        gizmo = self.editor.gizmo
        plane = self.editor.session.editor.info.planes
        plane = plane[self.editor.session.editor.shape.planes[LOOP]]
        grip = gizmo.position + GRIP * gizmo.scale * (plane[2] + plane[3])
        end = np.array(place(self.client, self.tab, grip))
        settled(self.tab)
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
                yield self.picture(place(self.client, self.tab, grip + u * plane[2] + v * plane[3]))
            at = at + way
            yield from [self.picture()] * REST
        self.tab.mouse.up()

    def window(self):
        """A picture of the window, with the panel."""
        self.panel.expand()
        self.tab.evaluate("document.getElementById('arrow')?.remove()")
        self.tab.set_viewport_size(WINDOW)
        self.picture()
        return settled(self.tab)

    def picture(self, mouse=None):
        """What is seen once the mouse is at a place and the page has followed."""
        if mouse is not None:
            self.tab.mouse.move(*mouse)
        self.tab.evaluate("new Promise(go => setTimeout(go, 300))")
        while not self.ask(self._has_followed).result():
            time.sleep(0.1)
        self.tab.evaluate("new Promise(go => setTimeout(() => requestAnimationFrame(go), 300))")
        return picture_of(self.tab)

    def _has_followed(self):
        surfaces, shape = self.editor.surfaces, self.editor.session.editor.shape
        return not surfaces.busy and surfaces._asked[0] is shape


def place(client, tab, point):
    """Where a point in space (3,) is in a tab of the browser, in pixels."""
    camera, box = client.camera, tab.locator("canvas").first.bounding_box()
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
