"""Edits by name, for `Shape.edit`: `loopdraw.Move(loop=3, u=0.1)`."""

import numpy as np

from loopdraw.files import UserError


def _edit(kind, range_, /, **values):
    from loopdraw.editing.edits import make_edit

    try:
        first, last = range_ if isinstance(range_, (tuple, list)) else (range_, range_)
        return make_edit(kind, first, last, **values)
    except ValueError as error:
        raise UserError(f"{kind}: {error}") from None


def Move(loop, u=0.0, v=0.0):
    """Move a loop, or the loops of a range (first, last), by (u, v) in its plane."""
    return _edit("move", loop, u=u, v=v)


def Scale(loop, u=1.0, v=1.0):
    """Scale a loop, or a range (first, last), about its centre: by u along u, by v along v."""
    return _edit("scale", loop, u=u, v=v)


def Rotate(loop, degrees):
    """Turn a loop, or a range (first, last), about its centre, counter-clockwise in (u, v)."""
    return _edit("rotate", loop, degrees=degrees)


def Square(loop, degrees=0.0, scale=1.0):
    """Make a loop, or a range (first, last), a square about its centre."""
    return _edit("square", loop, degrees=degrees, scale=scale)


def Replace(loop, loops):
    """Put other loops in the place of a loop or a range (first, last).

    `loops` is a list of (k, 2) points, one a loop, or (k, 2) points for a single loop.
    """
    if isinstance(loops, np.ndarray):
        loops = list(loops)
    if isinstance(loops, (list, tuple)) and loops and np.shape(loops[0]) == (2,):
        loops = [loops]
    return _edit("replace", loop, loops=loops)


def Insert(plane, loop, u=0.0, v=0.0, scale=1.0):
    """Insert a loop in a plane, or in each plane of a range (first, last).

    `loop` is (k, 2) points, such as `loopdraw.ellipse` gives, or a list of such loops, one for
    each plane. It is scaled about its centre and moved by (u, v).
    """
    loops = [loop] if np.ndim(loop[0]) == 1 else list(loop)
    loops = [np.asarray(points).tolist() for points in loops]
    return _edit("insert", plane, loops=loops, u=u, v=v, scale=scale)


def Remove(plane, loop=1):
    """Remove the loop of this number, counted from 0, of a plane or of those of a range."""
    return _edit("remove", plane, loop=loop)


def ellipse(u, v, width, height):
    """The points of an ellipse about (u, v), to insert."""
    from loopdraw.editing.edits import ellipse_points

    return ellipse_points(u, v, width, height)
