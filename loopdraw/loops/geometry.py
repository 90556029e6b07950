"""Planes and closed planar loops: frames, areas, resampling, normals.

A plane is a (4, 3) array: normal, a point on the plane, in-plane x axis, in-plane y axis. A loop is
a (k, 2) array of points (u, v) in a plane. It is closed implicitly: the first point is not repeated
at the end. In space, a point (u, v) lies at `point + u * xaxis + v * yaxis`.

The in-plane axes are the same as in the published datasets. For scans along x and y they are
left-handed: xaxis x yaxis = -normal.
"""

from typing import NamedTuple

import numpy as np

# Scan axis -> (normal, in-plane x axis, in-plane y axis), as indices of the world axes.
SCAN_FRAMES = {"x": (0, 2, 1), "y": (1, 0, 2), "z": (2, 0, 1)}
MOST_PLANES = 10_000


def parse_planespec(text):
    """Read a `planespec.txt`: scan axis, number of planes, min and max coordinate, one per line.

    Returns
    -------
    axis : "x", "y" or "z"
    n_planes : int
    low, high : float, positions of the first and last plane

    Raises
    ------
    ValueError
        With the reason, when the text is not like that.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != 4:
        raise ValueError(
            f"{len(lines)} lines where 4 belong: scan axis, number of planes, min, max"
        )
    axis = lines[0].lower()
    if axis not in SCAN_FRAMES:
        raise ValueError(f"scan axis {lines[0]!r} is not x, y or z")
    try:
        n_planes = int(lines[1])
    except ValueError:
        raise ValueError(f"number of planes {lines[1]!r} is not a whole number") from None
    if n_planes < 2:
        raise ValueError(f"number of planes is {n_planes}; at least 2 are needed")
    if n_planes > MOST_PLANES:
        raise ValueError(f"number of planes is {n_planes}; at most {MOST_PLANES} can be used")
    bounds = []
    for name, line in (("min", lines[2]), ("max", lines[3])):
        try:
            bounds.append(float(line))
        except ValueError:
            raise ValueError(f"{name} coordinate {line!r} is not a number") from None
    low, high = bounds
    if not np.isfinite(bounds).all():
        raise ValueError(f"coordinates {low} and {high} are not finite")
    if low >= high:
        raise ValueError(f"min coordinate {low} is not below max coordinate {high}")
    return axis, n_planes, low, high


def make_planes(axis, n_planes, low, high):
    """Evenly spaced parallel planes, including both ends.

    Returns
    -------
    (n_planes, 4, 3) float: normal, point, xaxis, yaxis of each plane
    """
    frame = np.eye(3)[list(SCAN_FRAMES[axis])]
    planes = np.zeros((n_planes, 4, 3))
    planes[:, 0] = frame[0]
    planes[:, 1] = np.linspace(low, high, n_planes)[:, None] * frame[0]
    planes[:, 2] = frame[1]
    planes[:, 3] = frame[2]
    return planes


def scan_axis(planes):
    """Index (0, 1, 2) of the world axis that the planes' normals follow most closely."""
    return int(np.abs(planes[0, 0]).argmax())


def plane_heights(planes):
    """Positions of the planes along their normal, (P,) float."""
    return np.einsum("pi,pi->p", planes[:, 0], planes[:, 1])


def lift(loop, plane):
    """In-plane points (k, 2) to space (k, 3)."""
    return plane[1] + loop @ plane[2:4]


def project(points, plane):
    """Points in space (k, 3) to in-plane coordinates (k, 2)."""
    return (points - plane[1]) @ plane[2:4].T


def frame_on_plane(point, plane):
    """The pose (4, 4) of a right-handed frame at a point (3,), its first two axes in a plane."""
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1] = plane[2], plane[3]
    # Not the plane's normal: the in-plane frames of some scan axes are left-handed.
    pose[:3, 2] = np.cross(plane[2], plane[3])
    pose[:3, 3] = point
    return pose


class Motion(NamedTuple):
    """What of a change of pose lies within a plane."""

    move: tuple  # along u and v
    degrees: float  # counter-clockwise in (u, v)
    scale: tuple  # factors along the first two axes of the frame
    pose: np.ndarray  # (4, 4), the first pose after this motion: it has not left the plane


def motion_in_plane(before, after, plane, least=0.0):
    """How a frame, put down by `frame_on_plane`, has moved within its plane.

    Parameters
    ----------
    before, after : (4, 4) float
    plane : (4, 3) float
    least : float, shorter movements are none

    Returns
    -------
    Motion
    """
    axes, axes_before = (plane[2:4] @ pose[:3, :2] for pose in (after, before))
    lengths, lengths_before = (np.linalg.norm(a, axis=0) for a in (axes, axes_before))
    move = plane[2:4] @ (after[:3, 3] - before[:3, 3])
    turn = (axes / lengths) @ (axes_before / lengths_before).T
    angle = np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])
    scale = lengths / lengths_before
    move[np.abs(move) < least] = 0.0
    angle *= abs(angle) > 1e-4
    scale[np.abs(scale - 1) < 1e-4] = 1.0
    pose = before.copy()
    cos, sin = np.cos(angle), np.sin(angle)
    pose[:3, :2] = plane[2:4].T @ np.array([[cos, -sin], [sin, cos]]) @ axes_before * scale
    pose[:3, 3] += move @ plane[2:4]
    degrees = float(np.rad2deg(angle))
    return Motion(tuple(move.tolist()), degrees, tuple(scale.tolist()), pose)


def signed_area(loop):
    """Area inside a closed loop (k, 2), positive when it runs counter-clockwise in (u, v)."""
    u, v = loop[:, 0], loop[:, 1]
    # Relative to the first point, so that small loops far from the origin keep their digits.
    u, v = u - u[:1], v - v[:1]
    return 0.5 * float(np.dot(u, following(v)) - np.dot(v, following(u)))


def following(values):
    """The values of the next point, for each point of a closed loop; `np.roll` is much slower."""
    return np.concatenate([values[1:], values[:1]])


def points_after(sizes):
    """For closed loops of some sizes, one after the other: the index of the point after each."""
    after = np.arange(1, sizes.sum() + 1)
    ends = np.cumsum(sizes)[sizes > 0]
    after[ends - 1] = ends - sizes[sizes > 0]
    return after


def resample_loop(loop, n_points):
    """Points evenly spaced along a closed loop, all distinct, from its first point on.

    Parameters
    ----------
    loop : (k, 2) or (k, 3) float
    n_points : int

    Returns
    -------
    (n_points, 2) or (n_points, 3) float; the closing point is not repeated
    """
    closed = np.concatenate([loop, loop[:1]])
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    targets = np.arange(n_points) * (arc[-1] / n_points)
    return np.stack([np.interp(targets, arc, column) for column in closed.T], axis=1)


def sort_by_area(loops):
    """The loops in decreasing order of enclosed area; equal areas keep their order."""
    return sorted(loops, key=lambda loop: -abs(signed_area(loop)))


def outward_normals(loop, depth):
    """Unit normals in the plane, one per point, that point out of the solid.

    Each is the normal of the segment from its point to the next, as in the published slices files.
    A loop of odd depth bounds a hole, and its normals point into the hole.

    Parameters
    ----------
    loop : (k, 2) float
    depth : int, from `nesting.nesting_depths`

    Returns
    -------
    (k, 2) float
    """
    tangents = following(loop) - loop
    # Right of the direction of travel.
    normals = np.stack([tangents[:, 1], -tangents[:, 0]], axis=1)
    if (signed_area(loop) < 0) != (depth % 2 == 1):
        normals = -normals
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(lengths > 0, lengths, 1.0)
