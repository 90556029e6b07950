"""The `-slices.npz` files: loops in space, in the layout of the published program."""

import numpy as np

from loopdraw.files import UserError, load_npz, save_npz
from loopdraw.loops.geometry import lift, outward_normals, project
from loopdraw.loops.nesting import nesting_depths

# The published layout: one block per slice, with a delimiter row before it in all packed arrays.
_POINT_DELIMITER = np.full((1, 3), -np.inf)
_SEGMENT_DELIMITER = np.full((1, 2), -1)
_SLICES_KEYS = (
    "loop_pts_packed",
    "loop_conn_arr_packed",
    "loop_segment_normals_packed",
    "planes",
)


def save_slices(path, planes, loops_by_plane):
    """Write loops as a `…-slices.npz` file.

    Each plane that has loops becomes one block: points in space, segments (i, i + 1) of which the
    last returns to the first point of its loop, and unit normals in the plane that point out of the
    solid.

    Parameters
    ----------
    path : path of the file
    planes : (P, 4, 3) float
    loops_by_plane : list of P lists of (k, 2) float loops

    Raises
    ------
    ValueError
        When a loop has points that are not finite.
    UserError
        When the file cannot be written.
    """
    points, segments, normals, written = [], [], [], []
    for plane, loops in enumerate(loops_by_plane):
        if not loops:
            continue
        loops = [np.asarray(loop, dtype=np.float64) for loop in loops]
        if not all(np.isfinite(loop).all() for loop in loops):
            raise ValueError(f"a loop of plane {plane} has points that are not finite")
        written.append(plane)
        points.append(_POINT_DELIMITER)
        segments.append(_SEGMENT_DELIMITER)
        normals.append(_POINT_DELIMITER)
        first = 0
        for loop, depth in zip(loops, nesting_depths(loops), strict=True):
            index = np.arange(len(loop))
            points.append(lift(loop, planes[plane]))
            segments.append(first + np.stack([index, np.roll(index, -1)], axis=1))
            normals.append(outward_normals(loop, depth) @ planes[plane, 2:4])
            first += len(loop)
    save_npz(
        path,
        loop_pts_packed=np.concatenate([np.zeros((0, 3)), *points]),
        loop_conn_arr_packed=np.concatenate([np.zeros((0, 2), dtype=np.int64), *segments]),
        loop_segment_normals_packed=np.concatenate([np.zeros((0, 3)), *normals]),
        planes=np.asarray(planes, dtype=np.float64)[written],
    )


def load_slices(path):
    """Read a `…-slices.npz` file, from this program or the published one.

    Each loop goes to the plane that its points lie on, whatever block it is stored in.

    Returns
    -------
    planes : (S, 4, 3) float64, the planes that have loops
    loops_by_plane : list of S lists of (k, 2) float64 loops; points as stored (the published
        program repeats a loop's first point as its last)

    Raises
    ------
    UserError
        When the file is missing, damaged or not a slices file.
    """
    arrays = load_npz(path, required=_SLICES_KEYS, what="a slices file")
    points, segments = arrays["loop_pts_packed"], arrays["loop_conn_arr_packed"]
    try:
        planes = arrays["planes"].astype(np.float64)
        point_blocks = _blocks(points, ~np.isfinite(points).all(axis=1))
        segment_blocks = _blocks(segments, (segments < 0).any(axis=1))
        if planes.shape != (len(planes), 4, 3):
            raise ValueError(f"planes have shape {planes.shape}, not (S, 4, 3)")
        if not len(planes) == len(point_blocks) == len(segment_blocks):
            raise ValueError(
                f"{len(planes)} planes, {len(point_blocks)} blocks of points and "
                f"{len(segment_blocks)} of segments"
            )
        loops = [
            loop
            for block, connectivity in zip(point_blocks, segment_blocks, strict=True)
            for loop in _split_loops(block, connectivity)
        ]
    except (ValueError, IndexError, TypeError) as error:  # of words in place of numbers
        raise UserError(
            f"{path}: not a slices file, or damaged ({error}); make it again with --save"
        ) from None
    # The published program stores the inner loops of a plane in the block of the next plane, but
    # with points at the right height.
    loops_by_plane = [[] for _ in planes]
    for loop in loops:
        offsets = np.einsum("pi,pi->p", planes[:, 0], loop.mean(axis=0) - planes[:, 1])
        nearest = np.abs(offsets).argmin()
        loops_by_plane[nearest].append(project(loop, planes[nearest]))
    return planes, loops_by_plane


def _blocks(rows, is_delimiter):
    """The rows after each delimiter, up to the next."""
    if rows.ndim != 2 or (len(rows) and not is_delimiter[0]):
        raise ValueError("the packed arrays do not start with a delimiter row")
    return [block[1:] for block in np.split(rows, np.flatnonzero(is_delimiter))[1:]]


def _split_loops(points, segments):
    """The loops (k, 3) of one block: each ends with the segment that returns to its first point."""
    if len(segments) != len(points) or (segments[:, 0] != np.arange(len(points))).any():
        raise ValueError("segments do not start at one point after the other")
    ends = np.flatnonzero(segments[:, 1] != segments[:, 0] + 1)
    firsts = np.concatenate([[0], ends + 1])
    if firsts[-1] != len(points) or (segments[ends, 1] != firsts[:-1]).any():
        raise ValueError("segments do not close their loops")
    return [
        points[first : last + 1].astype(np.float64)
        for first, last in zip(firsts[:-1], ends, strict=True)
    ]
