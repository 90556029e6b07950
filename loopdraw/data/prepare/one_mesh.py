"""What is done to each mesh when a dataset is prepared, in a process or on a Dask worker.

First it is read, turned, centred, scaled and written again as `.obj`. Then, with the planes that
were fitted to all meshes, it is sliced to see what a model will get of it.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from loopdraw.data.slicing_run import tried
from loopdraw.files import UserError
from loopdraw.loops.geometry import make_planes, signed_area
from loopdraw.loops.mesh_files import fit_to_unit, load_mesh, read_mesh, save_mesh, turn_upright
from loopdraw.loops.slicing import slice_mesh, weld

FLAT = 1e-6  # share of the longest side; a mesh is flat if it is thinner along the axis
BETWEEN = 3  # cuts between two planes, to find what lies there
# A part between two planes is thin if its section is so much larger than those on both planes, as
# a share of the mesh's outline from above.
THIN_AREA = 0.05
LEAST = 0.005  # of the outline; smaller loops do not count as parts

# A rule for polynomials of degree 3 on a triangle: its middle, and a point near each corner.
MIDDLES = np.array([[1, 1, 1], [1.8, 0.6, 0.6], [0.6, 1.8, 0.6], [0.6, 0.6, 1.8]]) / 3
WEIGHTS = np.array([-27, 25, 25, 25]) / 48


class Reading(NamedTuple):
    """How meshes are read; sent to the processes with each path."""

    source: str  # the folder with the meshes
    folder: str  # the folder for those that are set up
    axis: str
    up: str
    size: str  # "longest" or "axis"
    timeout: float  # seconds a mesh


class ReadMesh(NamedTuple):
    """A mesh that was set up. `reason` says why it was not, or is None."""

    reason: str | None
    sides: tuple = ()  # (3,) of its box
    moments: tuple = ()  # (20,), see `surface_moments`
    n_open: int = 0  # edges with a hole beside them
    ends_the_run: bool = False  # the fault is not the mesh's


class Cutting(NamedTuple):
    """How meshes that are set up are sliced."""

    planespec: tuple  # axis, number of planes, position of the first and the last
    timeout: float


class CutMesh(NamedTuple):
    """What the planes find of a mesh. `reason` says why they could not, or is None."""

    reason: str | None
    n_loops: int = 0
    n_missed: int = 0  # planes
    n_thin: int = 0  # gaps between planes that hold a part which neither plane meets
    ends_the_run: bool = False


class Failure(NamedTuple):
    """Makes results that failed. A class, so that it can be sent to other processes."""

    kind: type

    def __call__(self, reason):
        return self.kind(" ".join(str(reason).split()))


def set_up_path(path, task):
    """Where the mesh of a path is written when it is set up."""
    return Path(task.folder, f"{Path(path).relative_to(task.source)}.obj")


def read_one(path, task):
    """Read the mesh of a path and write it set up; a `ReadMesh`, whatever happens."""
    return tried(_read, Failure(ReadMesh), path, task)


def cut_one(path, task):
    """Slice a mesh that is set up; a `CutMesh`, whatever happens."""
    return tried(_cut, Failure(CutMesh), path, task)


def _read(path, task):
    vertices, faces = read_mesh(path)
    vertices, faces = _usable(vertices, faces)
    vertices = turn_upright(vertices, task.up, task.axis)
    with np.errstate(all="ignore"):
        sides = np.ptp(vertices, axis=0)
    if not np.isfinite(sides).all():
        raise UserError("its coordinates are too large")
    if not sides.max() > 0:
        raise UserError("all its corners are at one point")
    if sides["xyz".index(task.axis)] <= FLAT * sides.max():
        raise UserError(f"it is flat: it has no height along {task.axis}")
    # As the file will hold it, so that nothing changes when it is read again.
    vertices = fit_to_unit(vertices, faces, task.axis if task.size == "axis" else None).round(8)
    welded, triangles = weld(vertices, faces)
    if not len(triangles):
        raise UserError("it has no triangle with an area")
    moments = surface_moments(welded, triangles)
    if moments is None:
        raise UserError("it has no triangle with an area")
    try:
        save_mesh(set_up_path(path, task), vertices, faces)
    except UserError as error:
        return ReadMesh(str(error), ends_the_run=True)
    return ReadMesh(
        None,
        tuple(np.ptp(vertices, axis=0).tolist()),
        tuple(moments.tolist()),
        n_open_edges(triangles),
    )


def _usable(vertices, faces):
    """A mesh without faces that are not finite, and without vertices that no face uses."""
    faces = faces[np.isfinite(vertices).all(axis=1)[faces].all(axis=1)]
    if not len(faces):
        raise UserError("no usable face: all have vertices that are not finite")
    used, faces = np.unique(faces, return_inverse=True)
    return vertices[used], faces.reshape(-1, 3)


def surface_moments(vertices, faces):
    """Integrals over a surface by which one knows the same shape in another file.

    They do not depend on the order of the triangles, nor on how flat parts are cut into them.

    Parameters
    ----------
    vertices : (n, 3) float
    faces : (m, 3) int

    Returns
    -------
    (20,) float, the logarithm of the area, and the means over the surface of all products of one,
    two and three coordinates; None where there is no area
    """
    corners = vertices[faces]
    a, b, c = np.moveaxis(corners, 1, 0)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    if not areas.sum() > 0:
        return None
    points = (MIDDLES @ corners).reshape(-1, 3)
    weights = (areas[:, None] * WEIGHTS).ravel() / areas.sum()
    weighted = points * weights[:, None]
    # Products of two, and of three: matrices, of which one half repeats the other.
    pairs = weighted.T @ points
    triples = np.stack([(weighted * points[:, i, None]).T @ points for i in range(3)])
    two = np.triu_indices(3)
    three = [(i, j, k) for i in range(3) for j in range(i, 3) for k in range(j, 3)]
    triples = triples[tuple(np.transpose(three))]
    return np.array([np.log(areas.sum()), *weighted.sum(axis=0), *pairs[two], *triples])


def n_open_edges(faces):
    """How many edges of welded triangles (m, 3) lack the triangle on their other side."""
    start, stop = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    names = np.minimum(start, stop) * (faces.max() + 1) + np.maximum(start, stop)
    return int((np.unique(names, return_counts=True)[1] % 2).sum())


def _cut(path, task):
    axis, n_planes, low, high = task.planespec
    vertices, faces = load_mesh(path)
    step = (high - low) / (n_planes - 1) / (BETWEEN + 1)
    bottom = vertices[:, "xyz".index(axis)].min()
    top = vertices[:, "xyz".index(axis)].max()
    # From below the lowest point to above the highest, as there is more beyond the outer planes.
    n_below = max(0, int(np.ceil((low - bottom) / step)))
    n_above = max(0, int(np.ceil((top - high) / step)))
    cuts = make_planes(axis, n_planes, low, high)
    count = n_below + (n_planes - 1) * (BETWEEN + 1) + 1 + n_above
    between = make_planes(axis, count, low - n_below * step, high + n_above * step)
    is_plane = np.zeros(count, dtype=bool)
    is_plane[n_below : count - n_above : BETWEEN + 1] = True
    between[is_plane] = cuts
    loops = slice_mesh(vertices, faces, between).loops_by_plane
    n_loops = np.array([len(plane) for plane in loops])
    if not n_loops[is_plane].any():
        raise UserError(
            f"no plane meets it: it reaches from {bottom:.3g} to {top:.3g} along {axis}, and the "
            f"planes are {(BETWEEN + 1) * step:.3g} apart"
        )
    across = [i for i in range(3) if i != "xyz".index(axis)]
    outline = np.prod(np.ptp(vertices[:, across], axis=0))
    areas = [np.array([abs(signed_area(loop)) for loop in plane]) for plane in loops]
    largest = np.array([plane.max(initial=0.0) for plane in areas])
    n_large = np.array([(plane > LEAST * outline).sum() for plane in areas])
    return CutMesh(
        None,
        int(n_loops[is_plane].sum()),
        int((n_loops[is_plane] == 0).sum()),
        _n_thin(n_loops, n_large, largest, is_plane, THIN_AREA * outline),
    )


def _n_thin(n_loops, n_large, largest, is_plane, least):
    """How many gaps hold more loops, or a larger one, than the planes on their two sides.

    Parameters
    ----------
    n_loops, n_large, largest, is_plane : (c,), of each cut: how many loops, how many that are not
        small, the area of the largest, and whether it is one of the planes
    least : float, by how much more area counts
    """
    gap = np.cumsum(is_plane)  # 0 below the first plane
    planes = np.flatnonzero(is_plane)
    n_thin = 0
    for i in np.unique(gap[~is_plane]):
        sides = planes[max(i - 1, 0) : i + 1]
        inside = (gap == i) & ~is_plane
        more = n_large[inside].max() > n_loops[sides].max()
        larger = largest[inside].max() > largest[sides].max() + least
        n_thin += bool(more or larger)
    return n_thin
