"""The loops of a shape, measured and sorted into outer boundaries and holes.

A loop is the outer boundary of solid when an even number of other loops of its plane contain it,
and the boundary of a hole when an odd number do.
"""

import dataclasses

import numpy as np
import shapely

from loopdraw.loops.geometry import following


@dataclasses.dataclass
class Loops:
    """The loops of a shape that enclose an area, as parallel sequences of length n.

    points : list of (k, 2) float; plane, area, thickness : (n,); low, high, centroid : (n, 2);
    spread : (n, 2, 2) covariance of the points;
    polygons, regions : (n,) shapely geometries, what a loop encloses with and without the loops
    directly inside it; radius : (n,) of the largest circle in a region, about;
    depth : (n,) int, number of loops of its plane that contain it;
    parent : (n,) int, the loop directly around it, or -1
    """

    points: list
    plane: np.ndarray
    polygons: np.ndarray
    area: np.ndarray
    thickness: np.ndarray
    low: np.ndarray
    high: np.ndarray
    centroid: np.ndarray
    spread: np.ndarray
    depth: np.ndarray = None
    parent: np.ndarray = None
    regions: np.ndarray = None
    radius: np.ndarray = None

    def __len__(self):
        return len(self.points)

    @property
    def solid(self):
        return self.depth % 2 == 0

    def on_plane(self, plane):
        """Indices of the loops of a plane, outer ones first."""
        found = np.flatnonzero(self.plane == plane)
        return found[np.argsort(self.depth[found], kind="stable")]


def collect_loops(points, planes, least_area):
    """Measure loops and find out how they are nested.

    Parameters
    ----------
    points : list of (k, 2) float
    planes : (n,) int, the plane of each
    least_area : float, loops that enclose less are left out

    Returns
    -------
    Loops
    """
    points = [loop[(loop != following(loop)).any(axis=1)] for loop in points]
    kept = [i for i, loop in enumerate(points) if len(loop) > 2]
    points, planes = [points[i] for i in kept], np.asarray(planes, dtype=int)[kept]
    ring = np.repeat(np.arange(len(points)), [len(loop) for loop in points])
    everything = np.concatenate([np.zeros((0, 2)), *points])
    polygons = shapely.polygons(shapely.linearrings(everything, indices=ring))
    crossing = ~shapely.is_valid(polygons)
    polygons[crossing] = shapely.make_valid(polygons[crossing])
    area = shapely.area(polygons)
    kept = np.flatnonzero(area > least_area)
    points, planes, polygons, area = (
        [points[i] for i in kept], planes[kept], polygons[kept], area[kept],
    )  # fmt: skip
    loops = Loops(
        points=points,
        plane=planes,
        polygons=polygons,
        area=area,
        # The width of a long strip; half the diameter of a disc.
        thickness=2 * area / np.maximum(shapely.length(polygons), np.finfo(float).tiny),
        low=_of_each(np.minimum, points),
        high=_of_each(np.maximum, points),
        centroid=shapely.get_coordinates(shapely.centroid(polygons)),
        spread=_covariances(points),
    )
    _nest(loops)
    return loops


def _of_each(function, rows):
    """`function.reduce` over the rows of each of n arrays (k, ...); loop by loop takes longer."""
    if not rows:
        return np.zeros((0, 2))
    sizes = np.array([len(of_one) for of_one in rows])
    return function.reduceat(np.concatenate(rows), np.cumsum(sizes) - sizes)


def _covariances(points):
    """Covariance (n, 2, 2) of the points of each loop."""
    if not points:
        return np.zeros((0, 2, 2))
    sizes = np.array([len(loop) for loop in points])
    means = _of_each(np.add, points) / sizes[:, None]
    offsets = np.concatenate(points) - np.repeat(means, sizes, axis=0)
    products = offsets[:, :, None] * offsets[:, None]
    sums = np.add.reduceat(products, np.cumsum(sizes) - sizes)
    # The smallest share of the identity keeps that of a straight line invertible.
    least = 1e-9 * np.eye(2) * (1 + np.trace(sums, axis1=1, axis2=2))[:, None, None]
    return sums / sizes[:, None, None] + least


def _nest(loops):
    """Set the depth and region of every loop; one that is mostly inside another is nested in it."""
    inner, outer = touching_boxes(loops, 0)
    smaller = (loops.area[inner] < loops.area[outer]) | (
        (loops.area[inner] == loops.area[outer]) & (inner > outer)
    )
    inner, outer = inner[smaller], outer[smaller]
    shared = shapely.area(shapely.intersection(loops.polygons[inner], loops.polygons[outer]))
    nested = shared > 0.5 * loops.area[inner]
    inner, outer = inner[nested], outer[nested]
    loops.depth = np.bincount(inner, minlength=len(loops))
    loops.regions = loops.polygons.copy()
    loops.parent = np.full(len(loops), -1)
    direct = loops.depth[inner] == loops.depth[outer] + 1
    loops.parent[inner[direct]] = outer[direct]
    for child, parent in zip(inner[direct], outer[direct], strict=True):
        loops.regions[parent] = shapely.difference(loops.regions[parent], loops.polygons[child])
    # A / P is half the width of a strip or a ring, and half the radius of a disc, for which the
    # isoperimetric quotient 4 pi A / P^2 is 1.
    area, length = shapely.area(loops.regions), shapely.length(loops.regions)
    length = np.maximum(length, np.finfo(float).tiny)
    loops.radius = area / length * (1 + np.minimum(4 * np.pi * area / length**2, 1))


def touching_boxes(loops, step):
    """Pairs of loops on planes k and k + step whose bounding boxes touch: two (m,) int."""
    firsts, seconds = [np.zeros(0, dtype=int)], [np.zeros(0, dtype=int)]
    for plane in np.unique(loops.plane):
        first = np.flatnonzero(loops.plane == plane)
        second = np.flatnonzero(loops.plane == plane + step)
        touching = (
            (loops.low[first][:, None] <= loops.high[second][None])
            & (loops.low[second][None] <= loops.high[first][:, None])
        ).all(axis=2)
        i, j = np.nonzero(touching)
        firsts.append(first[i])
        seconds.append(second[j])
    return np.concatenate(firsts), np.concatenate(seconds)
