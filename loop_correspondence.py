"""Which loops of neighbouring planes belong together.

A loop is the outer boundary of solid when an even number of other loops of its plane contain it,
and the boundary of a hole when an odd number do. Between two planes the loops of one kind form
groups that are blended into each other:

===============================  =================================================================
loops of a group                 what happens between the planes
===============================  =================================================================
one or more on both planes       they split, merge or go on
one on both, moved sideways      it goes on as a slanting tube (`shift`)
a loop on one plane only         it ends where the planes before let expect it, else half-way
a hole in solid that ends        it ends with the solid
a hole over open space           it opens to the outside
===============================  =================================================================
"""

import dataclasses

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Loops that overlap less than this share of the smaller one do not belong together.
LEAST_OVERLAP = 0.02
# Loops that do not overlap are still one slanting tube when the gap between them is less than this
# many plane distances and they have the same shape: overlap over union once moved together.
LARGEST_GAP = 2.5
LEAST_LIKENESS = 0.4
# A pair that has moved by more than this share of its thickness is blended in a moving frame.
STRAIGHT_SHIFT = 0.25


@dataclasses.dataclass
class Loops:
    """The loops of a shape that enclose an area, as parallel sequences of length n.

    points : list of (k, 2) float; plane, area, thickness : (n,); low, high, centroid : (n, 2);
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


@dataclasses.dataclass
class Taper:
    """How loops end between their plane and the next.

    Their radius is radius * sqrt(1 + slope * t + curvature * t^2) at a fraction t of the way,
    never more than at t = 0; at t = `end` a flat cap closes what is left.
    """

    radius: float
    slope: float = 0.0
    curvature: float = 0.0
    end: float = 0.5

    def inset(self, t):
        """Distance between the boundary at the fractions t and that on the plane."""
        ratio = np.clip(1 + self.slope * t + self.curvature * t**2, 0, 1)
        return self.radius * (1 - np.sqrt(ratio))


@dataclasses.dataclass
class Group:
    """Loops of one kind, `lower` of one plane and `upper` of the next, that belong together."""

    slab: int
    solid: bool
    depth: int
    lower: np.ndarray
    upper: np.ndarray
    shift: np.ndarray | None = None  # (2,) from the lower to the upper loop of a slanting tube
    taper: Taper | None = None  # of loops on one plane only, unless they open to the outside

    @property
    def members(self):
        return np.concatenate([self.lower, self.upper])


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
    points = [loop[(loop != np.roll(loop, 1, axis=0)).any(axis=1)] for loop in points]
    kept = [i for i, loop in enumerate(points) if len(loop) > 2]
    points, planes = [points[i] for i in kept], np.asarray(planes, dtype=int)[kept]
    polygons = np.array([shapely.Polygon(loop) for loop in points], dtype=object)
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
        low=np.array([loop.min(axis=0) for loop in points]).reshape(-1, 2),
        high=np.array([loop.max(axis=0) for loop in points]).reshape(-1, 2),
        centroid=shapely.get_coordinates(shapely.centroid(polygons)),
    )
    _nest(loops)
    return loops


def _nest(loops):
    """Set the depth and region of every loop; one that is mostly inside another is nested in it."""
    inner, outer = _touching_boxes(loops, 0)
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


def _touching_boxes(loops, step):
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


def group_loops(loops, heights):
    """Group the loops between every pair of neighbouring planes.

    Parameters
    ----------
    loops : Loops
    heights : (P,) float, in the units of the loops

    Returns
    -------
    list (one item a slab, P - 1) of lists of Group, outer ones first
    """
    n = len(loops)
    lower, upper = _overlapping(loops)
    # Every loop is two nodes: i as a lower one of the slab above it, n + i as an upper one of the
    # slab below it.
    graph = coo_array((np.ones(len(lower)), (lower, n + upper)), shape=(2 * n, 2 * n))
    _, label = connected_components(graph, directed=False)
    _join_tubes(loops, heights, label)
    lone = np.bincount(label)[label] == 1
    slab = np.concatenate([loops.plane, loops.plane - 1])
    order = np.argsort(label, kind="stable")
    groups = []
    for nodes in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        if 0 <= slab[nodes[0]] < len(heights) - 1:
            members = nodes % n
            lower, upper = nodes[nodes < n], nodes[nodes >= n] - n
            solid, depth = bool(loops.solid[members[0]]), int(loops.depth[members].max())
            groups.append(Group(int(slab[nodes[0]]), solid, depth, lower, upper))
            groups[-1].shift = _shift(loops, groups[-1])
    # The loop that alone continues a loop below (row 0) or above it (row 1), or -1.
    continued = np.full((2, n), -1)
    for group in groups:
        if len(group.lower) == 1 and len(group.upper) == 1:
            continued[0, group.upper], continued[1, group.lower] = group.lower, group.upper
    for group in groups:
        if len(group.members) == 1:
            group.taper = _end(loops, group, lone, continued)
    groups.sort(key=lambda group: group.depth)
    return [[group for group in groups if group.slab == k] for k in range(len(heights) - 1)]


def _overlapping(loops):
    """Pairs of loops of one kind on neighbouring planes that overlap: two (m,) int."""
    lower, upper = _touching_boxes(loops, 1)
    alike = loops.solid[lower] == loops.solid[upper]
    lower, upper = lower[alike], upper[alike]
    region_area = shapely.area(loops.regions)
    shared = shapely.area(shapely.intersection(loops.regions[lower], loops.regions[upper]))
    linked = shared > LEAST_OVERLAP * np.minimum(region_area[lower], region_area[upper])
    # The thin wall of a slanting bowl: the rings do not overlap, the discs they bound do.
    thin = np.flatnonzero(~linked)
    linked[thin] = _likeness(loops.polygons[lower[thin]], loops.polygons[upper[thin]]) > 0.5
    return lower[linked], upper[linked]


def _likeness(polygons, others):
    """Overlap over union, in [0, 1]."""
    shared = shapely.area(shapely.intersection(polygons, others))
    return shared / np.maximum(shapely.area(polygons) + shapely.area(others) - shared, 1e-300)


def _moved(polygon, shift):
    return shapely.transform(polygon, lambda points: points + shift)


def _join_tubes(loops, heights, label):
    """Give loops without a partner that continue each other sideways one label, in place."""
    n = len(loops)
    lone = np.bincount(label)[label] == 1
    spread = {}
    candidates = []
    for plane in np.unique(loops.plane):
        lower = np.flatnonzero((loops.plane == plane) & lone[:n])
        upper = np.flatnonzero((loops.plane == plane + 1) & lone[n:])
        if not len(lower) or not len(upper):
            continue
        largest_gap = LARGEST_GAP * (heights[plane + 1] - heights[plane])
        i, j = (index.ravel() for index in np.meshgrid(lower, upper, indexing="ij"))
        box_gap = np.maximum(loops.low[i] - loops.high[j], loops.low[j] - loops.high[i])
        ratio = loops.area[i] / loops.area[j]
        near = (
            (loops.solid[i] == loops.solid[j])
            & (np.maximum(ratio, 1 / ratio) < 4)
            & (box_gap < largest_gap).all(axis=1)
        )
        i, j = i[near], j[near]
        near = shapely.distance(loops.polygons[i], loops.polygons[j]) < largest_gap
        for a, b in zip(i[near], j[near], strict=True):
            for loop in {a, b} - spread.keys():
                spread[loop] = np.cov(loops.points[loop].T)
            # A slanting tube is cut into ovals that follow each other along their long axis.
            shift = loops.centroid[b] - loops.centroid[a]
            distance = shift @ np.linalg.pinv(spread[a] + spread[b]) @ shift
            candidates.append((distance, a, b))
    for _, a, b in sorted(candidates):
        if lone[a] and lone[n + b]:
            moved = _moved(loops.polygons[a], loops.centroid[b] - loops.centroid[a])
            if _likeness(moved, loops.polygons[b]) > LEAST_LIKENESS:
                lone[a] = lone[n + b] = False
                label[n + b] = label[a]


def _shift(loops, group):
    if len(group.lower) != 1 or len(group.upper) != 1:
        return None
    a, b = group.lower[0], group.upper[0]
    shift = loops.centroid[b] - loops.centroid[a]
    if np.hypot(*shift) < STRAIGHT_SHIFT * min(loops.thickness[a], loops.thickness[b]):
        return None
    straight = _likeness(loops.polygons[a], loops.polygons[b])
    moved = _likeness(_moved(loops.polygons[a], shift), loops.polygons[b])
    return shift if moved > max(LEAST_LIKENESS, straight) else None


def _end(loops, group, lone, continued):
    """How a loop without a partner ends: a Taper, or None for a hole that opens."""
    loop, upwards = group.members[0], bool(len(group.lower))
    if group.solid:
        return _taper(loops, loop, continued[0 if upwards else 1])
    parent = loops.parent[loop]
    if lone[parent + (0 if upwards else len(loops))]:
        # The hole grows while the solid around it shrinks, and has no cap of its own.
        taper = _taper(loops, parent, continued[0 if upwards else 1])
        return dataclasses.replace(taper, radius=-taper.radius, end=np.inf)
    other = loops.on_plane(loops.plane[loop] + (1 if upwards else -1))
    outer = loops.polygons[other[loops.depth[other] == 0]]
    outside = shapely.area(shapely.difference(loops.regions[loop], shapely.union_all(outer)))
    if outside > LEAST_OVERLAP * loops.area[loop]:
        return None
    return _taper(loops, loop, continued[0 if upwards else 1])


def _taper(loops, loop, before):
    """Where a loop ends, from its radius on the planes before: squared, a parabola in height.

    That is exact for spheres, cones and paraboloids. When it does not reach zero before the next
    plane, the end is half-way: the best guess for a cylinder.
    """
    n_holes = np.bincount(loops.parent[loops.parent >= 0], minlength=len(loops))
    radii, n_holes_of_end = [loops.radius[loop]], n_holes[loop]
    while len(radii) < 3 and (loop := before[loop]) >= 0 and n_holes[loop] == n_holes_of_end:
        radii.append(loops.radius[loop])
    squares = np.square(radii) / np.square(radii[0])
    if len(squares) == 1:
        return Taper(radii[0])
    slope, curvature = 1 - squares[1], 0.0
    if len(squares) == 3:
        curvature = (1 - 2 * squares[1] + squares[2]) / 2
        slope = (3 - 4 * squares[1] + squares[2]) / 2
    roots = np.roots([curvature, slope, 1])
    ends = [root.real for root in roots if abs(root.imag) < 0.1 and 0 < root.real <= 1]
    return Taper(radii[0], slope, curvature, min(ends, default=0.5))
