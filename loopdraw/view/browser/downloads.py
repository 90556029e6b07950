"""What can be taken home from the page: a shape as the bytes of a file, or several as a zip."""

import io
import re
import tempfile
import zipfile
from pathlib import Path

from loopdraw.files import UserError
from loopdraw.loops.mesh_files import save_mesh
from loopdraw.loops.slices_files import save_slices
from loopdraw.surface.export import save_loops, save_sheet
from loopdraw.view.browser.server import Answer, escape

MESHES = ("obj", "glb", "stl")
LOOPS = {"npz": "-slices.npz", "json": "-loops.json", "svg": "-slices.svg"}  # kind: end of the name
LINK = (
    "display:inline-block;margin:0 0.45em 0.35em 0;padding:0.15em 0.5em;border:1px solid #228be6;"
    "border-radius:2px;color:#228be6;text-decoration:none"
)


def shape_file(name, kind, scene):
    """A scene's mesh or loops as a file to download.

    Parameters
    ----------
    name : str, of the file, without its ending
    kind : one of MESHES or LOOPS
    scene : scene.Scene

    Returns
    -------
    server.Answer

    Raises
    ------
    UserError
        When there is no such kind, or the scene has no mesh or no loops.
    """
    if kind in MESHES and scene.mesh is not None:
        return Answer(_written(f".{kind}", save_mesh, *scene.mesh), name=f"{name}.{kind}")
    if kind in LOOPS and scene.planes is not None:
        save = {"npz": save_slices, "json": save_loops, "svg": save_sheet}[kind]
        content = _written(f".{kind}", save, scene.planes, scene.loops_by_plane)
        return Answer(content, name=name + LOOPS[kind])
    raise UserError(f"{name}: there is no .{kind} of it")


def all_files(shapes, extra=()):
    """Several shapes in one zip file.

    Parameters
    ----------
    shapes : list of (name, scene.Scene)
    extra : list of (name, text), more files

    Returns
    -------
    server.Answer
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, scene in shapes:
            kinds = (MESHES if scene.mesh is not None else ()) + (
                ("npz",) if scene.planes is not None else ()
            )
            for kind in kinds:
                answer = shape_file(name, kind, scene)
                archive.writestr(answer.name, answer.content)
        for name, text in extra:
            archive.writestr(name, text)
    return Answer(file.getvalue(), "application/zip", "loopdraw-shapes.zip")


def links(title, folder, kinds, together=None):
    """HTML with one link for each kind of file.

    Parameters
    ----------
    title : str
    folder : path on the page that the kinds are below
    kinds : names of kinds
    together : (path on the page, text) of one more link, or None
    """
    targets = [(f"{folder}/{kind}", f".{kind}" if kind in MESHES else kind) for kind in kinds]
    targets += [together] if together else []
    anchors = "".join(
        f'<a style="{LINK}" href="{escape(path)}" download>{escape(text)}</a>'
        for path, text in targets
    )
    return (
        f'<div style="padding:0.2em 0.9em;font-size:0.8em"><div style="margin-bottom:0.3em">'
        f"{escape(title)}</div>{anchors}</div>"
    )


def file_name(number, title):
    """The name of a shape's files, from its number on the page and what it is."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-").lower()[:40]
    return f"{number}-{words}" if words else str(number)


def _written(ending, save, *content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"shape{ending}"
        save(path, *content)
        return path.read_bytes()
