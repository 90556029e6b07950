"""Building blocks of the demo shapes: stacks of rings, tubes, padded boxes.

All are `manifold3d.Manifold`: closed and oriented, ready for unions and cuts.
"""

import functools

import manifold3d
import numpy as np
from scipy.ndimage import gaussian_filter1d


def solid_from_rings(rings):
    """A closed solid from stacked rings (rows, around, 3), closed by a fan at each end.

    Seen from the end of the stack, the points of a ring run clockwise.
    """
    rows, around, _ = rings.shape
    index = np.arange(rows * around).reshape(rows, around)
    following = np.roll(index, -1, axis=1)
    a, b, c, d = index[:-1], index[1:], following[1:], following[:-1]
    sides = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    bottom, top = rows * around, rows * around + 1
    fan = np.stack([np.full(around, bottom), index[0], following[0]], -1)
    lid = np.stack([np.full(around, top), following[-1], index[-1]], -1)
    faces = np.concatenate([sides, fan, lid])
    centres = rings[[0, -1]].mean(axis=1)
    vertices = np.concatenate([rings.reshape(-1, 3), centres])
    return manifold3d.Manifold(
        manifold3d.Mesh64(vertices.astype(np.float64), faces.astype(np.uint64))
    )


def tube(curve, angle, half_width, half_depth, n_rings=30, n_around=14):
    """A tube of elliptic section around a curve (k, 2) in the half plane (radius, y) at `angle`.

    It flares at both ends, like a handle where it meets the wall.
    """
    curve = evenly_along(curve, 4 * n_rings)
    curve[1:-1] = gaussian_filter1d(curve, 3, axis=0, mode="nearest")[1:-1]
    curve = evenly_along(curve, n_rings)
    tangent = np.gradient(curve, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    flare = 1 + 0.35 * np.abs(np.linspace(-1, 1, n_rings)) ** 6
    outwards = np.array([np.cos(angle), 0, np.sin(angle)])
    up = np.array([0.0, 1, 0])
    around = 2 * np.pi * np.arange(n_around) / n_around

    centre = curve[:, :1] * outwards + curve[:, 1:] * up  # (n_rings, 3)
    across = tangent[:, 1:] * outwards - tangent[:, :1] * up
    sideways = np.cross(outwards, up)
    rings = (
        centre[:, None]
        + (flare[:, None] * half_width * np.cos(around))[..., None] * across[:, None]
        + (flare[:, None] * half_depth * np.sin(around))[..., None] * sideways
    )
    return solid_from_rings(rings)


def evenly_along(curve, n):
    """`n` points (n, 2) evenly spaced along the polyline `curve`."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    at = np.linspace(0, length[-1], n)
    return np.stack([np.interp(at, length, curve[:, k]) for k in (0, 1)], axis=1)


def padded_box(low, high, rounding, puff=0.0, n_inner=2, swell_axis=1):
    """A box with rounded edges. Its two sides across `swell_axis` bulge by `puff`, like a cushion.

    Parameters
    ----------
    low, high : corners, (3,) float
    rounding : float, radius of the edges; kept below half of the thinnest side
    puff : float, how far the middle of the two sides bulges
    n_inner : int, points along the flat part of an edge; a bulge needs 3 or more
    swell_axis : int, 0, 1 or 2

    Returns
    -------
    manifold3d.Manifold
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    half = (high - low) / 2
    rounding = min(rounding, 0.96 * half.min())
    corner, direction, faces = box_lattice(n_inner)
    direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    points = corner * (half - rounding) + rounding * direction
    across = [axis for axis in range(3) if axis != swell_axis]
    swelling = np.prod(1 - (points[:, across] / half[across]) ** 2, axis=1)
    points[:, swell_axis] += puff * swelling * np.sign(points[:, swell_axis])
    points += (low + high) / 2
    return manifold3d.Manifold(manifold3d.Mesh64(points, faces))


@functools.cache
def box_lattice(n_inner):
    """The surface of a box on a lattice that is fine at its edges.

    Returns
    -------
    corner : (n, 3) float, points on the box without its rounding, in [-1, 1]
    direction : (n, 3) float, where the rounding moves each point (not normalised)
    faces : (m, 3) uint64, oriented outwards
    """
    edge = np.tan(np.radians([45, 22.5]))
    corner_1d = np.concatenate([[-1, -1], np.linspace(-1, 1, n_inner), [1, 1]])
    direction_1d = np.concatenate([-edge, np.zeros(n_inner), edge[::-1]])
    n = len(corner_1d)
    grid = np.arange(n**3).reshape(n, n, n)
    sides = [grid[0].T, grid[-1], grid[:, 0], grid[:, -1].T, grid[:, :, 0].T, grid[:, :, -1]]
    a, b, c, d = np.concatenate(
        [
            np.stack([s[:-1, :-1], s[1:, :-1], s[1:, 1:], s[:-1, 1:]], -1).reshape(-1, 4)
            for s in sides
        ]
    ).T
    used, faces = np.unique(
        np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]), return_inverse=True
    )
    index = np.stack(np.unravel_index(used, (n, n, n)), axis=1)
    return corner_1d[index], direction_1d[index], faces.reshape(-1, 3).astype(np.uint64)
