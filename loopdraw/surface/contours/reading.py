"""Stacks of contours from any of the files that hold them.

======  ============================================================================
ending  file
======  ============================================================================
.csl    planes in any direction, holes, labels: `csl_files`
.svg    one drawing a plane, several files: `svg_files`
.json   planes and loops as numbers, as `--format json` writes them
.npz    the `-slices.npz` files that `--save` writes
======  ============================================================================
"""

import json
from pathlib import Path

import numpy as np

from loopdraw.files import UserError, first_line, read_text
from loopdraw.loops.slices_files import load_slices
from loopdraw.surface.contours.csl_files import load_csl
from loopdraw.surface.contours.stacks import Contours, from_planes, make_stacks
from loopdraw.surface.contours.svg_files import load_svg_slices
from loopdraw.surface.export import LOOPS_FORMAT


def read_stacks(paths, spacing=None):
    """Read parallel contours.

    Parameters
    ----------
    paths : a path, or several of `.svg` drawings
    spacing : float, mm between the planes of drawings that do not say where they lie

    Returns
    -------
    dict from label, int, to (planes (P, 4, 3) float, list of P lists of (k, 2) float loops)

    Raises
    ------
    UserError
        When a file is missing, damaged or of an unknown kind, or the contours are no stack.
    """
    paths = [Path(path) for path in (paths if isinstance(paths, (list, tuple)) else [paths])]
    kinds = {path.suffix.lower() for path in paths}
    readers = {".csl": load_csl, ".json": load_json, ".npz": lambda p: from_planes(*load_slices(p))}
    if kinds == {".svg"}:
        contours = load_svg_slices(paths, spacing)
    elif len(paths) > 1:
        raise UserError(f"{paths[1]}: several files must all be .svg drawings, one a plane")
    elif spacing is not None:
        raise UserError(f"{paths[0]}: --spacing is for .svg drawings; this file has its own planes")
    elif not kinds <= set(readers):
        raise UserError(f"{paths[0]}: expected contours: a .csl, .svg, .json or .npz file")
    else:
        with np.errstate(all="ignore"):  # of numbers beyond all bounds; those are found below
            contours = readers[paths[0].suffix.lower()](paths[0])
    try:
        with np.errstate(all="ignore"):
            return make_stacks(contours)
    except ValueError as error:
        name = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} others"
        raise UserError(f"{name}: {error}") from None


def load_json(path):
    """Read planes and loops as numbers, as `export.save_loops` writes them: list of Contours."""
    try:
        content = json.loads(read_text(path, "loops as numbers (.json)"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not loops as numbers: {first_line(error)}") from None
    if not isinstance(content, dict) or content.get("format") != LOOPS_FORMAT:
        raise UserError(f"{path}: not loops as numbers: its format is not {LOOPS_FORMAT!r}")
    contours = []
    try:
        for plane in content["planes"]:
            normal, point, x, y = (
                np.array(plane[name], dtype=np.float64).reshape(3)
                for name in ("normal", "point", "xaxis", "yaxis")
            )
            loops = [np.array(loop, dtype=np.float64).reshape(-1, 2) for loop in plane["loops"]]
            loops = [point + loop @ [x, y] for loop in loops if len(loop)]
            contours.append(Contours(normal, float(normal @ point), loops, [1] * len(loops)))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path}: plane {len(contours)} is damaged ({first_line(error)}); save it again"
        ) from None
    return contours
