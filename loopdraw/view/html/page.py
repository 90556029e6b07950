"""Shapes as one HTML file that draws itself: no Python, no network, opened from disk.

The file holds the program (`SCRIPTS`), the style `page.css`, and the shapes of some scenes as
numbers of 16 bits. It looks as `viewer` does: the loops in the colours of `scene.Look`, the surface
over them.
"""

import base64
import contextlib
import dataclasses
import html
import json
import re
import zlib
from pathlib import Path

import numpy as np

from loopdraw.files import UserError, write_text
from loopdraw.loops.geometry import plane_heights
from loopdraw.view.scene import Look, Scene, split_creases

FOLDER = Path(__file__).parent
SCRIPTS = ("shapes.js", "drawing.js", "hand.js", "page.js")  # in this order
OPACITY = 0.78  # of the surface: inner walls have many loops, too
MOST_FACES = 250_000  # of all shapes of a page; larger surfaces are thinned out
MOST_BYTES = 2_900_000  # of their numbers, as text: where there are more, MOST_FACES is halved
HALVINGS = 10  # at most
STEPS = 2**16 - 1  # of a coordinate
LEGEND = {  # role: how it is called, and how much thicker than others it is drawn
    "untouched": ("before the edit", 0.7),
    "loop": ("loop", 1.0),
    "regenerated": ("made anew", 1.0),
    "edited": ("edited", 1.4),
    "special": ("special", 1.4),
}


def save_page(path, scenes, title, note="", captions=None):
    """Write shapes as a page to look at in a browser.

    Parameters
    ----------
    path : path of the file
    scenes : list of scene.Scene, at least one; all are drawn to the same scale
    title : str
    note : str, a line below the title; what stands between backquotes is shown as code
    captions : list of str, one a scene, or None

    Raises
    ------
    UserError
        When a scene shows nothing, values are not finite, or the file cannot be written.
    """
    for number, scene in enumerate(scenes):
        _check(path, scene, number)
    points = [scene.points() for scene in scenes]
    low, high = (np.concatenate(points).min(axis=0), np.concatenate(points).max(axis=0))
    size = float((high - low).max()) or 1.0
    center = (low + high) / 2
    for halving in range(HALVINGS):
        most_faces = (MOST_FACES >> halving) // len(scenes)
        shapes, packed = zip(
            *(_pack(scene, center, size, most_faces) for scene in scenes), strict=True
        )
        data = base64.b64encode(zlib.compress(b"".join(packed))).decode("ascii")
        if len(data) <= MOST_BYTES:
            break
    for shape, caption in zip(shapes, captions or [""] * len(scenes), strict=True):
        shape["caption"] = caption
    sideways = [np.hypot(*(each - center)[:, [0, 2]].T).max() for each in points]
    look = Look()
    spacing = min(scene.plane_spacing() for scene in scenes)
    diagonal = max(float(np.linalg.norm(np.ptp(each, axis=0))) for each in points)
    content = {
        "shapes": shapes,
        "roles": _roles(shapes, look),
        "most_loops": max(shape["n_loops"] for shape in shapes),
        "mesh_color": look.mesh_color,
        "mesh_opacity": OPACITY,
        "radius": min(look.loop_radius * diagonal, 0.2 * spacing) / size,
        "frame": [max(sideways) / size, float(high[1] - low[1]) / 2 / size],
    }
    parts = {
        "title": html.escape(title),
        "note": re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(note)),
        "style": (FOLDER / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS),
        # No "<", so that nothing in a caption ends the script element.
        "page": json.dumps(content, allow_nan=False).replace("<", "\\u003c"),
        "data": data,
    }
    template = (FOLDER / "template.html").read_text(encoding="utf-8")
    write_text(path, re.sub(r"{{(\w+)}}", lambda name: parts[name[1]], template))


def save_shape_and_page(save, scene, note, captions, build, stem, mesh):
    """Write the files of a shape and its page; of one that was edited, beside what it was before.

    Parameters
    ----------
    save : function (stem, mesh=mesh) that writes the other files and returns the mesh's path
    scene : scene.Scene, without its mesh
    note, captions : as for `save_page`; the captions of both shapes
    build : function (planes, loops_by_plane) that gives a surface
    stem : Path, from `outputs.claimed_stem`
    mesh : vertices (n, 3) float, faces (m, 3) int

    Returns
    -------
    Path of the mesh
    """
    scenes = [dataclasses.replace(scene, mesh=mesh)]
    if scene.untouched is not None:
        before = None
        with contextlib.suppress(ValueError):  # then it is shown by its loops
            before = build(*scene.untouched)
        scenes.insert(0, Scene(before, *scene.untouched))
    captions = captions if len(scenes) > 1 else None
    save_page(stem.with_name(stem.name + ".html"), scenes, stem.name, note, captions)
    return save(stem, mesh=mesh)


def before_and_after(edits):
    """The captions of a shape and of what a list of Edit makes of it."""
    described = "; ".join(edit.describe() for edit in edits)
    return ["before", f"after: {described}" if described else "after"]


def _check(path, scene, number):
    if not np.isfinite(scene.points()).all():
        raise UserError(f"{path}: shape {number} has values that are not finite")
    if len(scene.points()) == 0:
        raise UserError(f"{path}: shape {number} has neither loops nor a mesh to show")


def _roles(shapes, look):
    """How each role is drawn; it has a legend where there is more than ordinary loops."""
    present = {loop["role"] for shape in shapes for loop in shape["loops"]}
    names = list(LEGEND)
    return [
        {
            "color": getattr(look, f"{name}_color"),
            "thickness": thickness,
            "legend": text if names.index(name) in present and len(present) > 1 else "",
        }
        for name, (text, thickness) in LEGEND.items()
    ]


def _pack(scene, center, size, most_faces):
    """A dict of what a scene holds; its vertices, faces and the points of its loops as bytes."""
    vertices, faces = np.zeros((0, 3)), np.zeros((0, 3), dtype=int)
    if scene.mesh is not None and len(scene.mesh[1]):
        vertices, faces = split_creases(*_thinned(*map(np.asarray, scene.mesh), most_faces))
    loops = [(number, role, points) for number, role, (points, _) in scene.numbered_loops()]
    loops += [(-1, "untouched", points) for points, _ in scene.loops_by_role()["untouched"]]
    nodes = np.concatenate([np.zeros((0, 3)), *(points for _, _, points in loops)])
    packed = [
        _packed_points((vertices - center) / size),
        _differences(faces.reshape(-1).astype("<u4")),
        _packed_points((nodes - center) / size),
    ]
    names = list(LEGEND)
    shape = {
        "vertices": len(vertices),
        "faces": len(faces),
        "n_loops": scene.loop_count(),
        "up": _upwards(scene).tolist(),
        "loops": [
            {"number": number, "role": names.index(role), "points": len(points)}
            for number, role, points in loops
        ],
    }
    return shape, b"".join(packed)


def _packed_points(points):
    """Points (n, 3) between -0.5 and 0.5 as whole numbers: all x, then all y, then all z."""
    steps = np.rint((points + 0.5) * STEPS).clip(0, STEPS)
    return _differences(steps.T.reshape(-1).astype("<u2"))


def _differences(values):
    """Unsigned numbers (n,) as differences from the one before, which compress better."""
    return np.diff(values, prepend=values.dtype.type(0)).tobytes()


def _upwards(scene):
    """The direction in which loop follows loop, (3,) float."""
    if scene.planes is None or not len(scene.planes):
        return np.array([0.0, 1.0, 0.0])
    heights = plane_heights(scene.planes)
    return scene.planes[0, 0] * (1.0 if heights[-1] >= heights[0] else -1.0)


def _thinned(vertices, faces, most_faces):
    """A mesh of at most `most_faces` faces: vertices in one cell of a grid become one.

    Parameters
    ----------
    vertices : (n, 3) float
    faces : (m, 3) int
    most_faces : int

    Returns
    -------
    vertices (k, 3) float, faces (l, 3) int
    """
    extent = float(np.ptp(vertices, axis=0).max()) or 1.0
    cells = int(most_faces**0.5)  # along the longest side; at first too many, but for thin shapes
    fewer = faces
    while len(fewer) > most_faces and cells > 1:
        x, y, z = np.floor((vertices - vertices.min(axis=0)) / extent * cells).astype(int).T
        number = (x * (cells + 1) + y) * (cells + 1) + z
        _, first, cell = np.unique(number, return_index=True, return_inverse=True)
        merged = cell[faces]
        flat = (merged == np.roll(merged, 1, axis=1)).any(axis=1)
        fewer = first[merged[~flat]]
        cells = int(cells / 1.2)
    return vertices, fewer
