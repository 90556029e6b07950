"""Slices as drawings: one `.svg` file a plane, as `--format svg` writes them.

The paths of a drawing are loops, seen from above. A label "slice 7, at 12.3 mm", as our own
drawings carry it, says where a plane lies; for other drawings their distance must be given.
Lengths are in mm.
"""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np

from loopdraw.files import UserError, first_line, read_text
from loopdraw.surface.contours.stacks import Contours

POINTS_PER_CURVE = 16
MOST_ELEMENTS = 200_000
MM_PER = {"mm": 1.0, "cm": 10.0, "in": 25.4, "pt": 25.4 / 72, "pc": 25.4 / 6}
MM_PER_PIXEL = 25.4 / 96
HEIGHT = re.compile(r"slice \d+, at (-?[\d.]{1,20}) mm")


def load_svg_slices(paths, spacing=None):
    """Read drawings of slices, lowest first.

    Parameters
    ----------
    paths : list of paths
    spacing : float, mm between the planes; None where the drawings say where they lie

    Returns
    -------
    list of Contours

    Raises
    ------
    UserError
        When a file is no drawing, has no paths, or does not say where its plane lies.
    """
    contours = []
    for k, path in enumerate(paths):
        loops, height = _load(path)
        if spacing is not None:
            height = k * spacing
        elif height is None:
            raise UserError(
                f"{path}: does not say where its plane lies; give the distance of the planes in mm "
                "with --spacing, and the drawings from the lowest to the highest"
            )
        loops = [np.column_stack([loop, np.full(len(loop), height)]) for loop in loops]
        contours.append(Contours(np.array([0.0, 0.0, 1.0]), height, loops, [1] * len(loops)))
    return contours


def _load(path):
    """Loops (k, 2) of a drawing, y upwards, and the height in its label, or None; in mm."""
    text = read_text(path, "a drawing of a slice (.svg)")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path}: not a drawing (.svg): {first_line(error)}") from None
    if _kind(root) != "svg":
        raise UserError(f"{path}: not a drawing (.svg): it is <{_kind(root)[:30]}>")
    try:
        loops = _loops(root)
        scale = _mm_per_unit(root)
    except Exception as error:  # the library raises whatever damaged paths lead it into
        raise UserError(
            f"{path}: has a path that cannot be read ({first_line(error)}); expected closed paths"
        ) from None
    if not loops:
        raise UserError(f"{path}: has no closed paths; expected the contours of a slice")
    labels = HEIGHT.findall(text)
    if len(set(labels)) > 1:
        raise UserError(
            f"{path}: holds several slices; save them in one file each: --format svg, not sheet"
        )
    try:
        height = float(labels[0]) if labels else None
    except ValueError:
        height = None
    return [loop * (scale, -scale) for loop in loops], height


def _kind(element):
    return str(element.tag).rpartition("}")[2]


def _mm_per_unit(root):
    """How long a unit of the drawing is: from its width and its view box."""
    width = re.fullmatch(r"\s*([\d.]+)\s*([a-z]*)\s*", root.get("width", ""))
    if not width:
        return MM_PER_PIXEL
    box = root.get("viewBox", "").replace(",", " ").split()
    mm = float(width[1]) * MM_PER.get(width[2], MM_PER_PIXEL)
    return mm / float(box[2]) if len(box) == 4 else MM_PER.get(width[2], MM_PER_PIXEL)


def _loops(root):
    """The closed paths of a drawing as (k, 2) float, y downwards."""
    from svgelements import Matrix, Path  # slow to import

    loops, n_elements = [], 0
    waiting = [(root, Matrix())]
    while waiting:
        element, placed = waiting.pop()
        n_elements += 1
        if n_elements > MOST_ELEMENTS:
            raise ValueError(f"more than {MOST_ELEMENTS:,} elements")
        if _kind(element) in ("defs", "clipPath", "mask", "symbol", "marker", "pattern"):
            continue
        placed = Matrix(element.get("transform", "")) * placed
        waiting += [(child, placed) for child in element]
        outline = element.get("d", "")
        if _kind(element) in ("polygon", "polyline"):
            outline = f"M{element.get('points', '')}Z"
        if _kind(element) in ("path", "polygon", "polyline") and outline:
            path = (Path(outline) * placed).reify()
            loops += [_points(subpath) for subpath in path.as_subpaths()]
    return [loop for loop in loops if len(loop) > 2]


def _points(subpath):
    """The points (k, 2) of a path, without a closing one that repeats the first."""
    from svgelements import Close, Line, Move

    points = []
    for segment in subpath:
        if segment.end is None:
            continue
        if isinstance(segment, (Move, Line, Close)):
            points.append(tuple(segment.end))
        else:
            shares = np.arange(1, POINTS_PER_CURVE + 1) / POINTS_PER_CURVE
            points += [tuple(segment.point(share)) for share in shares]
    points = np.array(points, dtype=np.float64).reshape(-1, 2)
    return points[:-1] if len(points) > 1 and (points[0] == points[-1]).all() else points
