"""The shapes of a session on the page: one of them large or some side by side, the others small."""

import asyncio
import dataclasses
import io

import numpy as np
from PIL import Image

from loopdraw.files import UserError
from loopdraw.view.browser import downloads
from loopdraw.view.browser.canvas import Canvas, frame, legend
from loopdraw.view.browser.server import Answer, escape
from loopdraw.view.pictures import sketch

MOST_SHAPES = 60  # the page holds; the oldest make room
MOST_BESIDE = 4
PICTURE_SIZE = 160  # pixels, of the small ones
GAP = 0.25  # between shapes side by side, share of the widest

HELP = (
    '<div style="padding:0 0.9em 0.5em;font-size:0.8em;color:#868e96">'
    "Click a picture to look at it, + to put it beside.</div>"
)
BOX = (
    "position:relative;width:5.2em;font-size:0.75em;text-align:center;cursor:pointer;"
    "border-radius:4px;padding:2px;border:2px solid {border}"
)
PLUS = (
    "position:absolute;top:2px;right:2px;width:1.5em;height:1.5em;line-height:1.4em;"
    "border-radius:50%;background:#e7f5ff;color:#1971c2;font-weight:bold"
)


@dataclasses.dataclass(eq=False)
class Entry:
    """A shape on the page."""

    number: int  # from 1, as people count
    title: str
    scene: object  # scene.Scene
    picture: bytes = b""  # PNG


class Results:
    """The page of shapes. Its methods are called by one thread, that of `Events.run`.

    Parameters
    ----------
    server : server.Server
    events : events.Events
    title : str, over the pictures
    """

    def __init__(self, server, events, title="Shapes"):
        self.server = server
        self.events = events
        self.title = title
        self.entries = []
        self.shown = []  # of the entries, side by side
        self._n_made = 0
        self._canvases = []
        self._framed = None  # how many shapes the cameras were last turned to
        self._controls = None  # while the page is that of the shapes

    def add(self, title, scene):
        """Put a shape on the page and look at it."""
        self._n_made += 1
        entry = Entry(self._n_made, title, scene)
        entry.picture = _png(sketch(scene, PICTURE_SIZE))
        self.entries = [*self.entries, entry][-MOST_SHAPES:]
        self.look_at([entry])

    def look_at(self, entries):
        """Show some shapes, from left to right."""
        self.shown = [entry for entry in entries if entry in self.entries][:MOST_BESIDE]
        if self._controls is not None:
            self._draw()

    # ------------------------------------------------------------------------------------ the page

    def open(self):
        """Make the page that of the shapes."""
        self.server.clear()
        gui = self.server.gui
        self.server.answers |= {
            "picture": self._picture,
            "look": self._look,
            "beside": self._beside,
            "download": self._download,
            "all.zip": self._all,
        }
        self._canvases, self._framed = [], None
        strip = gui.add_html("")
        named = gui.add_html("")
        boxes = {
            name: gui.add_checkbox(name, on)
            for name, on in (("surface", True), ("loops", True), ("planes", False))
        }
        for box in boxes.values():
            box.on_update(self._redraw_later)
        links = gui.add_html("")
        self._controls = {"strip": strip, "named": named, "links": links, **boxes}
        self._draw()

    def close(self):
        """The page is to become another one."""
        self._controls = None

    async def _redraw_later(self, event):
        if event.client is not None:
            self.events.put(self._draw, latest="draw")

    def _draw(self):
        controls = self._controls
        if controls is None:
            return
        controls["strip"].content = self._strip()
        controls["named"].content = self._named()
        controls["links"].content = self._links()
        scenes = [entry.scene for entry in self.shown]
        for canvas in self._canvases[len(scenes) :]:
            canvas.remove()
        offsets = _side_by_side(scenes)
        self._canvases = self._canvases[: len(scenes)]
        for i, (scene, offset) in enumerate(zip(scenes, offsets, strict=True)):
            if i == len(self._canvases):
                self._canvases.append(Canvas(self.server, f"shape-{i}", offset))
            elif not np.array_equal(self._canvases[i].offset, offset):
                self._canvases[i].remove()
                self._canvases[i] = Canvas(self.server, f"shape-{i}", offset)
            loops = (
                scene
                if controls["loops"].value
                else dataclasses.replace(scene, hidden=range(scene.loop_count()), untouched=None)
            )
            self._canvases[i].draw_loops(loops, planes=controls["planes"].value)
            self._canvases[i].draw_surface(scene.mesh)
            self._canvases[i].show_surface(controls["surface"].value)
        if scenes and self._framed != len(scenes):
            self._framed = len(scenes)
            points = [s.points() + offset for s, offset in zip(scenes, offsets, strict=True)]
            frame(self.server, np.concatenate(points))

    def _strip(self):
        if not self.entries:
            return (
                '<div style="padding:0.4em 0.9em;font-size:0.85em">No shapes yet. At the prompt, '
                "type <code>submit sample 3</code> and <code>run all</code>.</div>"
            )
        boxes = []
        for entry in reversed(self.entries):
            shown = entry in self.shown
            boxes.append(
                f'<div style="{BOX.format(border="#228be6" if shown else "transparent")}" '
                f'title="{escape(entry.title)}" onclick="fetch(\'look/{entry.number}\')">'
                f'<img src="picture/{entry.number}" alt="shape {entry.number}" '
                'style="width:100%;display:block">'
                f'<span>{entry.number}</span><span style="{PLUS}" onclick="event.stopPropagation();'
                f"fetch('beside/{entry.number}')\">{'−' if shown else '+'}</span></div>"
            )
        return (
            f'<div style="padding:0.3em 0.9em;font-weight:500">{escape(self.title)}</div>'
            '<div style="display:flex;flex-wrap:wrap;gap:2px;padding:0 0.6em 0.4em;'
            f'max-height:20em;overflow-y:auto">{"".join(boxes)}</div>{HELP}'
        )

    def _named(self):
        lines = []
        for entry in self.shown:
            scene = entry.scene
            n_planes = sum(map(bool, scene.loops_by_plane))
            what = f"{scene.loop_count()} loops on {n_planes} planes" if n_planes else "a mesh"
            lines.append(
                f'<div style="padding:0 0.9em 0.2em;font-size:0.85em"><b>{entry.number}</b> '
                f"{escape(entry.title)}: {what}</div>{legend(scene)}"
            )
        return "".join(lines)

    def _links(self):
        parts = []
        for entry in self.shown:
            kinds = (*downloads.MESHES, *downloads.LOOPS)
            parts.append(
                downloads.links(f"download {entry.number}", f"download/{entry.number}", kinds)
            )
        if len(self.entries) > 1:
            together = "all.zip", f"all {len(self.entries)} as .zip"
            parts.append(downloads.links("", "", (), together))
        return "".join(parts)

    # ------------------------------------------------------------------- what the page's paths give

    def _entry(self, number):
        for entry in self.entries:
            if number == str(entry.number):
                return entry
        raise UserError(f"there is no shape {number[:20]} any more")

    async def _picture(self, number):
        return Answer(self._entry(number).picture, "image/png")

    async def _look(self, number):
        self.events.put(self.look_at, [self._entry(number)])

    async def _beside(self, number):
        self.events.put(self._toggle, self._entry(number))

    def _toggle(self, entry):
        if entry in self.shown:
            self.look_at([other for other in self.shown if other is not entry])
        else:
            self.look_at([*self.shown[: MOST_BESIDE - 1], entry])

    async def _download(self, path):
        number, _, kind = path.partition("/")
        entry = self._entry(number)
        name = downloads.file_name(entry.number, entry.title)
        return await _apart(downloads.shape_file, name, kind, entry.scene)

    async def _all(self, _):
        shapes = [
            (downloads.file_name(entry.number, entry.title), entry.scene) for entry in self.entries
        ]
        return await _apart(downloads.all_files, shapes)


async def _apart(function, *arguments):
    """What a function returns, called in another thread, so that the page goes on."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


def _png(picture):
    """A picture (h, w, 3) as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def _side_by_side(scenes):
    """Where to put shapes so that they stand in a row, list of (3,) float."""
    if len(scenes) < 2:
        return [np.zeros(3) for _ in scenes]
    ends = [(scene.points().min(axis=0)[0], scene.points().max(axis=0)[0]) for scene in scenes]
    gap = GAP * max(high - low for low, high in ends)
    offsets, x = [], 0.0
    for low, high in ends:
        offsets.append(np.array([x - low, 0.0, 0.0]))
        x += high - low + gap
    middle = (x - gap) / 2
    return [offset - [middle, 0.0, 0.0] for offset in offsets]
