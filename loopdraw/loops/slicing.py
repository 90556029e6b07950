"""A triangle mesh cut by parallel planes into closed loops.

All planes are cut in one vectorised pass. Nothing is matched by floating-point distance: a crossing
is identified by its plane and its mesh edge. The two triangles at that edge share it, so a closed
mesh always gives closed loops.

A vertex on a plane counts as above it. Then nothing ever lies *in* a plane, and the usual special
cases need no extra code:

==============================  ==================================================
the plane goes through          result
==============================  ==================================================
a vertex, an edge               the section just below the plane, moved onto it
coplanar faces, solid below     their outline (the top cap of a box)
coplanar faces, solid above     nothing, as the faces do not reach below
the bottom of the whole shape   the section just above it (the bottom cap of a box)
its topmost or lowest vertex    a loop of one point, dropped as a sliver
==============================  ==================================================
"""

from typing import NamedTuple

import numpy as np

from loopdraw.loops.chaining import chain_segments
from loopdraw.loops.geometry import plane_heights

# A vertex this close to a plane is on it, in units of the mesh size. Coordinates written with six
# digits are rounded by about as much.
ON_PLANE = 1e-6

# The corner of a triangle that is alone on its side of a plane, by the code
# above[0] + 2 above[1] + 4 above[2]. Codes 0 and 7 are not cut.
LONE_CORNER = np.array([-1, 0, 1, 2, 2, 1, 0, -1])


class SlicedMesh(NamedTuple):
    """The result of `slice_mesh`.

    loops_by_plane : for each plane a list of (k, 2) float loops, by decreasing area
    n_bridged : number of cracks in the mesh that were bridged
    n_closed : number of wider gaps, from holes in the mesh, that were closed by a straight segment
    n_slivers : number of loops dropped because they have under 3 distinct points or no area
    """

    loops_by_plane: list
    n_bridged: int
    n_closed: int
    n_slivers: int


def slice_mesh(vertices, faces, planes):
    """Cut a mesh with parallel planes.

    Parameters
    ----------
    vertices : (n, 3) float; equal positions count as one vertex
    faces : (m, 3) int
    planes : (P, 4, 3) float, parallel and with the same in-plane axes, in any order

    Returns
    -------
    SlicedMesh
        Loops in plane coordinates, closed implicitly, without consecutive duplicates. Where the
        faces are wound outwards, loops run counter-clockwise in (u, v) around solid and clockwise
        around holes.

    Raises
    ------
    ValueError
        When the planes are not parallel or a face uses a vertex that is not finite.
    """
    vertices, faces = np.asarray(vertices, dtype=float), np.asarray(faces)
    frame = planes[0, [2, 3, 0]]  # in-plane x, in-plane y, normal
    if not np.allclose(planes[:, [2, 3, 0]], frame):
        raise ValueError("the planes must be parallel and share their in-plane axes")
    loops_by_plane = [[] for _ in planes]
    vertices, faces = weld(vertices, faces)
    if len(faces) == 0:
        return SlicedMesh(loops_by_plane, 0, 0, 0)
    local = vertices @ frame.T  # (n, 3): u, v, height
    used = local[faces.ravel()]
    if not np.isfinite(used).all():
        raise ValueError("a face uses a vertex that is not finite")
    low, high = used.min(axis=0), used.max(axis=0)
    size = (high - low).max()

    plane, segments, crossings = _cut(local, faces, plane_heights(planes), low[2], size)
    origins = planes[:, 1] @ frame[:2].T  # points (u, v) are relative to the point of each plane
    segments -= origins[plane, None]
    if np.linalg.det(frame) < 0:
        # A left-handed frame mirrors the mesh and reverses its winding.
        segments, crossings = segments[:, ::-1], crossings[:, ::-1]
    loops, loop_planes, *counts = chain_segments(plane, segments, crossings, size)
    for loop, index in zip(loops, loop_planes, strict=True):
        loops_by_plane[index].append(loop)
    return SlicedMesh(loops_by_plane, *counts)


def weld(vertices, faces):
    """Merge equal positions and drop triangles that lose a corner.

    Parameters
    ----------
    vertices : (n, 3) float
    faces : (m, 3) int

    Returns
    -------
    vertices : (n', 3) float
    faces : (m', 3) int
    """
    # Most meshes are welded already. Distinct sums prove it faster than sorting the rows.
    sums = np.sort(vertices[:, 0] + 1.618 * vertices[:, 1] + 2.718 * vertices[:, 2])
    if (sums[1:] == sums[:-1]).any():
        order = np.lexsort(vertices.T)
        ordered = vertices[order]
        is_new = np.ones(len(order), dtype=bool)
        is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        merged = np.empty(len(order), dtype=np.int64)
        merged[order] = np.cumsum(is_new) - 1
        vertices, faces = ordered[is_new], merged[faces]
    a, b, c = faces.T
    return vertices, faces[(a != b) & (b != c) & (c != a)]


def _cut(local, faces, heights, lowest, size):
    """The segment that each plane cuts from each triangle, with solid on its left.

    Returns
    -------
    plane : (s,) int
    segments : (s, 2, 2) float, tail and head in (u, v)
    crossings : (s, 2) int, the names of the crossings at tail and head
    """
    slack = ON_PLANE * size
    at_bottom = np.abs(heights - lowest) <= slack
    thresholds = np.where(at_bottom, heights + slack, heights - slack)  # what reaches it is above
    by_height = np.argsort(thresholds, kind="stable")

    # A vertex of rank r is above the r lowest planes, so a triangle is cut by the planes from the
    # least to the greatest rank of its corners.
    rank = np.searchsorted(thresholds[by_height], local[:, 2], side="right")[faces]  # (m, 3)
    first = rank.min(axis=1)
    n_cuts = rank.max(axis=1) - first
    cut_face = np.repeat(np.arange(len(faces)), n_cuts)  # (s,)
    step = np.arange(len(cut_face)) - np.repeat(np.cumsum(n_cuts) - n_cuts, n_cuts)
    sorted_plane = first[cut_face] + step
    plane = by_height[sorted_plane]

    above = rank[cut_face] > sorted_plane[:, None]  # (s, 3)
    lone = LONE_CORNER[above @ np.array([1, 2, 4])]
    row = np.arange(len(cut_face))
    corners = faces[cut_face]
    apex, following, preceding = (corners[row, (lone + i) % 3] for i in range(3))
    # Seen from outside, corners run counter-clockwise: with the apex on top the following corner
    # is on its left, and going from there to the right solid is behind, left of the travel.
    apex_on_top = above[row, lone]
    tail = np.where(apex_on_top, following, preceding)
    head = np.where(apex_on_top, preceding, following)

    # Both triangles at an edge find its crossing from the same vertices in the same order, and so
    # the same point to the last bit.
    apex, ends = apex[:, None], np.stack([tail, head], axis=1)  # (s, 1), (s, 2)
    one, other = np.minimum(apex, ends), np.maximum(apex, ends)
    start, stop = local[one], local[other]  # (s, 2, 3)
    along = (heights[plane, None] - start[..., 2]) / (stop[..., 2] - start[..., 2])
    along = np.clip(along, 0.0, 1.0)[..., None]
    segments = start[..., :2] + along * (stop[..., :2] - start[..., :2])
    crossings = (one * len(local) + other) * len(heights) + plane[:, None]
    return plane, segments, crossings
