"""A shape in formats for other programs: meshes, and slices as drawings or numbers.

=======  =====================================================================================
format   files
=======  =====================================================================================
glb      the mesh, for viewers and the web
ply      the mesh, for geometry programs
stl      the mesh, for 3D printing
svg      one drawing per slice, to scale, all with the same frame so that they can be stacked
sheet    all slices in one drawing, to scale
json     planes and loops as numbers
=======  =====================================================================================

Drawings show the slices from above (against the normals of their planes), filled where there is
solid. One unit of the dataset is 100 mm, so shapes of length 1 become 10 cm long.
"""

import json
import math

import numpy as np

from loopdraw.files import UserError, write_text
from loopdraw.loops.geometry import plane_heights
from loopdraw.loops.mesh_files import save_mesh

MM_PER_UNIT = 100.0
MARGIN, LABEL = 5.0, 3.5  # mm: around each slice; height of the letters
LOOPS_FORMAT, LOOPS_VERSION = "LoopDraw loops", 1


def export_shape(stem, planes, loops_by_plane, mesh, formats):
    """Write a shape in one or more formats.

    Parameters
    ----------
    stem : Path without suffix; the files are `<stem>.glb`, `<stem>.stl`, `<stem>-slice-07.svg`
        and so on, `<stem>-slices.svg`, `<stem>-loops.json`
    planes : (P, 4, 3) float
    loops_by_plane : list of P lists of (k, 2) float loops
    mesh : vertices (n, 3) float, faces (m, 3) int
    formats : names of FORMATS

    Returns
    -------
    list of Path

    Raises
    ------
    UserError
        When a file cannot be written.
    """
    return [path for name in formats for path in FORMATS[name](stem, planes, loops_by_plane, mesh)]


def parse_formats(text, others=()):
    """The formats named in a text such as "glb,svg"; UserError for an unknown name.

    `others` are names that are known beside those of FORMATS.
    """
    names = [name.strip().lower().lstrip(".") for name in text.split(",")]
    known = [*FORMATS, *others]
    for name in names:
        if name not in known:
            raise UserError(f"no format {name!r}; write some of {','.join(known)}")
    return list(dict.fromkeys(names))


def _beside(stem, ending):
    return stem.with_name(stem.name + ending)


def _save_mesh(kind):
    def save(stem, planes, loops_by_plane, mesh):
        path = _beside(stem, f".{kind}")
        save_mesh(path, *mesh)
        return [path]

    return save


def _save_json(stem, planes, loops_by_plane, mesh):
    path = _beside(stem, "-loops.json")
    save_loops(path, planes, loops_by_plane)
    return [path]


def save_loops(path, planes, loops_by_plane):
    """Write planes and loops as numbers, as JSON."""
    content = {
        "format": LOOPS_FORMAT,
        "version": LOOPS_VERSION,
        "planes": [
            {
                "normal": plane[0].tolist(),
                "point": plane[1].tolist(),
                "xaxis": plane[2].tolist(),
                "yaxis": plane[3].tolist(),
                "loops": [np.asarray(loop).tolist() for loop in loops],
            }
            for plane, loops in zip(planes, loops_by_plane, strict=True)
        ],
    }
    write_text(path, json.dumps(content, allow_nan=False) + "\n")


# ---------------------------------------------------------------------------------------- drawings


def _save_slices(stem, planes, loops_by_plane, mesh):
    drawings, size = _drawings(planes, loops_by_plane)
    paths = []
    for index, drawing in drawings:
        path = _beside(stem, f"-slice-{index:02d}.svg")
        write_text(path, _svg(size, [drawing]))
        paths.append(path)
    return paths


def _save_sheet(stem, planes, loops_by_plane, mesh):
    path = _beside(stem, "-slices.svg")
    save_sheet(path, planes, loops_by_plane)
    return [path]


def save_sheet(path, planes, loops_by_plane):
    """Write all slices in one SVG drawing, to scale."""
    drawings, (width, height) = _drawings(planes, loops_by_plane)
    columns = max(1, math.ceil(math.sqrt(len(drawings) * height / width)))
    rows = max(1, math.ceil(len(drawings) / columns))
    cells = [
        f'<g transform="translate({i % columns * width:.3f} {i // columns * height:.3f})">'
        f"{drawing}</g>"
        for i, (_, drawing) in enumerate(drawings)
    ]
    write_text(path, _svg((columns * width, rows * height), cells))


def _drawings(planes, loops_by_plane):
    """The slices that have loops, as SVG elements.

    Returns
    -------
    list of (number of the plane, text)
    (width, height) : mm, of each
    """
    # v points up on the paper where the frame is right-handed, seen against the normal.
    up = np.linalg.det([planes[0, 2], planes[0, 3], planes[0, 0]]) > 0
    on_paper = MM_PER_UNIT * np.array([1.0, -1.0 if up else 1.0])
    scaled = [[np.asarray(loop) * on_paper for loop in loops] for loops in loops_by_plane]
    points = np.concatenate([np.zeros((0, 2)), *(loop for loops in scaled for loop in loops)])
    low, high = (points.min(axis=0), points.max(axis=0)) if len(points) else np.zeros((2, 2))
    size = high - low + 2 * MARGIN + [0, LABEL]
    drawings = []
    for index, loops in enumerate(scaled):
        if loops:
            outline = " ".join(_path(loop - low + MARGIN + [0, LABEL]) for loop in loops)
            height = plane_heights(planes[index : index + 1])[0]
            label = f"slice {index}, at {MM_PER_UNIT * height:.1f} mm"
            drawings.append(
                (
                    index,
                    f'<text x="{MARGIN / 2}" y="{MARGIN / 2 + LABEL / 2}">{label}</text>'
                    f'<path d="{outline}"/>',
                )
            )
    return drawings, size


def _path(loop):
    return "M" + "L".join(f"{x:.3f} {y:.3f}" for x, y in loop) + "Z"


def _svg(size, elements):
    width, height = size
    body = "\n".join(elements)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.3f}mm" height="{height:.3f}mm" '
        f'viewBox="0 0 {width:.3f} {height:.3f}">\n'
        "<style>path { fill: #f3d28b; fill-rule: evenodd; stroke: #222; stroke-width: 0.2 } "
        f"text {{ font: {LABEL * 0.8:.1f}px sans-serif; fill: #666 }}</style>\n"
        f"{body}\n</svg>\n"
    )


FORMATS = {
    "glb": _save_mesh("glb"),
    "ply": _save_mesh("ply"),
    "stl": _save_mesh("stl"),
    "svg": _save_slices,
    "sheet": _save_sheet,
    "json": _save_json,
}
