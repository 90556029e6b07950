"""Distances from the nodes of a grid to one loop, with what is too thin for the grid widened.

All lengths are in grid cells: node (row, column) lies at u = column, v = row.
"""

import numpy as np

from loopdraw.loops.geometry import following

THINNEST = 1.5  # a strip this wide holds nodes that hang together, in any direction
CHUNK = 60_000  # distances computed at once: they stay in the cache


def loop_field(points, window):
    """The field of what one loop encloses.

    Where the loop encloses less than `THINNEST` between two of its sides, or leaves less open, as
    in a narrow notch, its boundary there is given a width of its own.

    Parameters
    ----------
    points : (k, 2) float, in cells
    window : (first row, last row + 1, first column, last column + 1)

    Returns
    -------
    (2, rows, columns) float32
    """
    distances = signed_distances(points, window)
    field = np.stack([distances, np.zeros_like(distances)])
    starts, ends = _cell_long_pieces(points)
    middles = (starts + ends) / 2 - (window[2], window[0])
    column, row = (np.floor(middles).astype(int) + np.arange(-1, 3)[:, None, None]).T
    around = distances[row.T[:, None], column.T[None]]
    for side in (1, -1):
        # How deep the nodes around each piece lie inside (outside) at most.
        thin = (-side * around).max(axis=(0, 1)) < THINNEST / 2
        if thin.any():
            widened = _segment_distances(starts[thin], ends[thin], window) - THINNEST / 2
            where = widened < side * field[0]
            field[0][where] = side * widened[where]
            field[1][where] = side * THINNEST / 2
    return field


def _cell_long_pieces(points):
    """The edges of a loop cut into pieces at most a cell long: starts, ends, (m, 2) float."""
    edges = following(points) - points
    counts = np.maximum(np.ceil(np.hypot(edges[:, 0], edges[:, 1])).astype(int), 1)
    edge = np.repeat(np.arange(len(points)), counts)
    piece = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    step = edges[edge] / counts[edge, None]
    starts = points[edge] + piece[:, None] * step
    return starts, starts + step


def signed_distances(points, window):
    """Exact distances from grid nodes to a closed loop, negative inside.

    A loop that crosses itself holds everything that it winds around.

    Parameters
    ----------
    points : (k, 2) float, in cells
    window : (first row, last row + 1, first column, last column + 1)

    Returns
    -------
    (rows, columns) float32
    """
    distances = _segment_distances(points, following(points), window)
    np.negative(distances, out=distances, where=_winding_numbers(points, window) != 0)
    return distances


def _segment_distances(starts, ends, window):
    """Distances from grid nodes to the nearest of some segments, (rows, columns) float32."""
    v = np.arange(window[0], window[1], dtype=np.float32)
    u = np.arange(window[2], window[3], dtype=np.float32)
    edges, middles = ends - starts, ((starts + ends) / 2).astype(np.float32)
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    tangent_u, tangent_v = (edges / lengths[:, None]).astype(np.float32).T[:, :, None]
    half = (lengths / 2).astype(np.float32)[:, None, None]
    from_u, from_v = u - middles[:, :1], v - middles[:, 1:]  # (k, columns), (k, rows)
    along_u, along_v = from_u * tangent_u, from_v * tangent_v
    across_u, across_v = from_u * tangent_v, from_v * tangent_u
    squared = np.empty((len(v), len(u)), dtype=np.float32)
    step = max(1, CHUNK // (len(starts) * len(u)))
    for row in range(0, len(v), step):
        rows = slice(row, row + step)
        along = along_u[:, None, :] + along_v[:, rows, None]
        np.abs(along, out=along)
        along -= half
        np.maximum(along, 0, out=along)
        across = across_u[:, None, :] - across_v[:, rows, None]
        along *= along
        across *= across
        along += across
        along.min(axis=0, out=squared[rows])
    return np.sqrt(squared, out=squared)


def _winding_numbers(points, window):
    """How often a loop winds around the nodes of a window, (rows, columns) int."""
    v = np.arange(window[0], window[1])
    width = window[3] - window[2]
    ends = following(points)
    upwards = (points[:, 1:] <= v) & (v < ends[:, 1:])
    downwards = (ends[:, 1:] <= v) & (v < points[:, 1:])
    edge, row = np.nonzero(upwards | downwards)
    slope = (ends[edge, 0] - points[edge, 0]) / (ends[edge, 1] - points[edge, 1])
    crossing = points[edge, 0] + (v[row] - points[edge, 1]) * slope
    column = np.minimum(np.maximum(np.ceil(crossing - window[2]), 0), width).astype(int)
    turns = np.zeros((len(v), width + 1), dtype=np.int32)
    np.add.at(turns, (row, column), np.where(upwards[edge, row], 1, -1))
    return np.cumsum(turns, axis=1)[:, :-1]
