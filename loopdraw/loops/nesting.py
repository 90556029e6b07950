"""The loops of a shape: which lie inside which, and their measures.

A loop lies inside a larger one of its plane when the larger one covers more than half of it. That
also holds for loops that cross, as decoded loops may. A loop inside an even number of others bounds
solid from the outside; a loop inside an odd number bounds a hole.
"""

import dataclasses

import numpy as np
import shapely

from loopdraw.loops.geometry import points_after

PAIRS_AT_ONCE = 1000  # in one call of the geometry library, which no time limit can interrupt


@dataclasses.dataclass
class Loops:
    """The loops of a shape that enclose an area, as parallel sequences of length n.

    points : list of (k, 2) float
    plane, area, thickness : (n,)
    low, high, centroid : (n, 2)
    spread : (n, 2, 2), covariance of the points
    polygons : (n,) shapely geometries, what each loop encloses
    regions : (n,) shapely geometries, the same without the loops directly inside
    radius : (n,), about the radius of the largest circle in the region
    depth : (n,) int, how many loops of its plane it lies inside
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
    """Measure loops and find how they are nested.

    Parameters
    ----------
    points : list of (k, 2) float
    planes : (n,) int, the plane of each
    least_area : float, loops that do not enclose more are left out

    Returns
    -------
    Loops
    """
    points = without_repeats(points)
    kept = [i for i, loop in enumerate(points) if len(loop) > 2]
    points, planes = [points[i] for i in kept], np.asarray(planes, dtype=int)[kept]
    polygons = _polygons(points)
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


def without_repeats(points, distance=0.0):
    """Loops (k, 2) without the points that lie as close as this to the next, in u and in v."""
    if not points:
        return []
    sizes, everything = np.array([len(loop) for loop in points]), np.concatenate(points)
    distinct = (np.abs(everything[points_after(sizes)] - everything) > distance).any(axis=1)
    ends = np.cumsum(np.bincount(np.repeat(np.arange(len(sizes)), sizes), distinct, len(sizes)))
    return np.split(everything[distinct], ends[:-1].astype(int))


def nesting_depths(loops):
    """How many other loops of the same plane each loop lies inside.

    An even depth means that the loop bounds solid from the outside, an odd depth that it bounds a
    hole.

    Parameters
    ----------
    loops : list of n (k, 2) float, of one plane

    Returns
    -------
    (n,) int; 0 for loops that enclose no area
    """
    depths = np.zeros(len(loops), dtype=int)
    index = np.array([i for i, loop in enumerate(loops) if len(loop) > 2], dtype=int)
    polygons = _polygons([loops[i] for i in index])
    area = shapely.area(polygons)
    inner, outer = shapely.STRtree(polygons).query(polygons)  # pairs whose boxes touch
    inner, _, _ = _nested(polygons, area, inner, outer)
    depths[index] = np.bincount(inner, minlength=len(index))
    return depths


def outlines_cross(loop, others):
    """Whether a loop (k, 2) crosses or touches itself or one of the other loops."""
    ring = shapely.linearrings(loop)
    touching = shapely.intersects(ring, [shapely.linearrings(other) for other in others])
    return bool(np.any(touching)) or not shapely.is_simple(ring)


def _polygons(points):
    """What each loop (k, 2), k > 2, encloses: (n,) valid shapely geometries."""
    ring = np.repeat(np.arange(len(points)), [len(loop) for loop in points])
    everything = np.concatenate([np.zeros((0, 2)), *points])
    polygons = shapely.polygons(shapely.linearrings(everything, indices=ring))
    crossing = ~shapely.is_valid(polygons)
    polygons[crossing] = shapely.make_valid(polygons[crossing])
    return polygons


def _nested(polygons, area, inner, outer):
    """Of pairs of polygons, those in which the first lies inside the second.

    Of two polygons with the same area the one listed later counts as the smaller one.

    Parameters
    ----------
    polygons : (n,) shapely geometries
    area : (n,) float
    inner, outer : (m,) int, the pairs

    Returns
    -------
    inner, outer : (m,) int
    wholly : (m,) bool, whether the second has the first inside without touching it
    """
    smaller = (area[inner] < area[outer]) | ((area[inner] == area[outer]) & (inner > outer))
    inner, outer = inner[smaller], outer[smaller]
    wholly = in_parts(shapely.contains_properly, polygons[outer], polygons[inner]) > 0
    wholly &= area[inner] > 0  # what encloses nothing lies inside nothing
    nested = wholly.copy()
    rest = np.flatnonzero(~wholly)
    shared = shared_areas(polygons[inner[rest]], polygons[outer[rest]])
    nested[rest] = shared > 0.5 * area[inner[rest]]
    return inner[nested], outer[nested], wholly[nested]


def shared_areas(polygons, others):
    """The area (m,) that each of m polygons shares with the other one of its pair."""
    return in_parts(lambda a, b: shapely.area(shapely.intersection(a, b)), polygons, others)


def in_parts(function, polygons, others):
    """What a function of shapely says of pairs of polygons, (m,) float, a few pairs at a time."""
    values = np.zeros(len(polygons))
    for start in range(0, len(polygons), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        values[part] = function(polygons[part], others[part])
    return values


def _of_each(function, rows):
    """`function.reduce` over the rows of each of n arrays (k, ...); faster than a loop."""
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
    # A tiny share of the identity keeps the covariance of a straight line invertible.
    least = 1e-9 * np.eye(2) * (1 + np.trace(sums, axis1=1, axis2=2))[:, None, None]
    return sums / sizes[:, None, None] + least


def _nest(loops):
    """Set the depth, parent and region of every loop."""
    touching = touching_boxes(loops.plane, loops.low, loops.high, 0)
    inner, outer, wholly = _nested(loops.polygons, loops.area, *touching)
    loops.depth = np.bincount(inner, minlength=len(loops))
    loops.regions = loops.polygons.copy()
    loops.parent = np.full(len(loops), -1)
    direct = loops.depth[inner] == loops.depth[outer] + 1
    inner, outer, wholly = inner[direct], outer[direct], wholly[direct]
    loops.parent[inner] = outer
    # Most loops have one loop inside, which needs no computing.
    plain = shapely.get_type_id(loops.polygons) == shapely.GeometryType.POLYGON
    alone = wholly & plain[inner] & plain[outer]
    alone &= np.bincount(outer, minlength=len(loops))[outer] == 1
    rings, holes = (
        shapely.get_exterior_ring(loops.polygons[of_pair[alone]]) for of_pair in (outer, inner)
    )
    loops.regions[outer[alone]] = shapely.polygons(rings, holes[:, None])
    for child, parent in zip(inner[~alone], outer[~alone], strict=True):
        loops.regions[parent] = shapely.difference(loops.regions[parent], loops.polygons[child])
    # A / P is half the width of a strip or a ring, and half the radius of a disc, for which the
    # isoperimetric quotient 4 pi A / P^2 is 1.
    area, length = shapely.area(loops.regions), shapely.length(loops.regions)
    length = np.maximum(length, np.finfo(float).tiny)
    loops.radius = area / length * (1 + np.minimum(4 * np.pi * area / length**2, 1))


def touching_boxes(plane, low, high, step):
    """Pairs of loops on planes k and k + step whose bounding boxes touch: two (m,) int, sorted.

    Parameters
    ----------
    plane : (n,) int
    low, high : (n, 2) float, corners of the boxes
    step : int
    """
    if not len(plane):
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    # Laid out side by side, the planes share one index.
    width = high[:, 0].max() - low[:, 0].min() + 1
    index = shapely.STRtree(_boxes(low, high, width * plane))
    found, other = index.query(_boxes(low, high, width * (plane + step)))
    order = np.lexsort((other, found))
    return found[order], other[order]


def _boxes(low, high, shift):
    """Bounding boxes, moved along u: (n,) shapely geometries."""
    (left, bottom), (right, top) = low.T, high.T
    return shapely.box(left + shift, bottom, right + shift, top)


def pairs_of_planes(plane, step):
    """All pairs of loops on planes k and k + step: two (m,) int."""
    order = np.argsort(plane, kind="stable")
    first = np.searchsorted(plane[order], plane + step)
    count = np.searchsorted(plane[order], plane + step, side="right") - first
    one = np.repeat(np.arange(len(plane)), count)
    place = np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count)
    return one, order[first[one] + place]
