"""Which loops of neighbouring planes belong together.

Between two planes, loops of one kind (outer boundaries or holes) form groups that are blended into
each other:

===============================  =================================================================
loops of a group                 what happens between the planes
===============================  =================================================================
one or more on both planes       they split, merge or continue
one on both, moved sideways      it continues as a slanting tube
a loop on one plane only         it ends where the planes before suggest, otherwise half-way
one close to one of the other    it leans on that one, like the root of a handle
a hole in solid that ends        it ends with the solid
a hole over open space           it opens to the outside
===============================  =================================================================
"""

import dataclasses

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from loopdraw.loops.nesting import in_parts, pairs_of_planes, shared_areas, touching_boxes

# Loops whose overlap is less than this share of the smaller one do not belong together.
LEAST_OVERLAP = 0.02
LEAST_JOINT = 0.6  # the same, if both continue as other loops
# Loops that do not overlap are still one slanting tube if the gap between them is less than this
# many plane distances and they have the same shape: overlap over union after moving them together.
LARGEST_GAP = 2.5
LEAST_LIKENESS = 0.4
# A loose end reaches a loop of the other plane over a gap of this many plane distances.
NEAR_GAP = 0.4
HANDLE_GAP = 0.8  # the same for the second end of what is already attached to that part
# The same if that end is on its way there: it does not taper, is as thick as the gap, and the loop
# before it lies farther away by this share of the gap.
APPROACHING_GAP, LEAST_APPROACH = 1.6, 0.25
LEAST_SLOPE = -0.1
LEANT_ON_END = 0.75  # of the slab, which a loose end reaches at least where another leans on it
MOST_SCRAP_PLANES = 2  # that a part takes which stands on nothing, not even on the end planes
WIDEST_TUBE = 4  # plane distances: wider loops are not handles and end by themselves
# A pair that has moved by more than this share of its thickness is blended in a moving frame.
STRAIGHT_SHIFT = 0.25
# Two loops can be one part cut twice if their areas and widths have at most these ratios.
LARGEST_AREA_RATIO = 4
LARGEST_WIDTH_RATIO = 2


@dataclasses.dataclass
class Taper:
    """How loops end between their plane and the next.

    At a fraction t of the way, their radius is radius * sqrt(1 + slope * t + curvature * t^2), and
    never more than at t = 0. At t = `end` a flat cap closes what is left.
    """

    radius: float
    slope: float = 0.0
    curvature: float = 0.0
    end: float = 0.5

    def inset(self, t):
        """How far the boundary at the fractions t lies inside the boundary on the plane."""
        ratio = np.clip(1 + self.slope * t + self.curvature * t**2, 0, 1)
        return self.radius * (1 - np.sqrt(ratio))


@dataclasses.dataclass
class Group:
    """Loops of one kind that belong together: `lower` on one plane, `upper` on the next.

    `members` are both.
    """

    slab: int
    solid: bool
    depth: int
    lower: np.ndarray
    upper: np.ndarray
    shift: np.ndarray | None = None  # (2,) of a slanting tube: how far it moves from end to end
    leans_on: int = -1  # the loop of the other plane that a loose end reaches sideways
    leant_on: bool = False  # a loose end that another one of the slab leans on
    taper: Taper | None = None  # of a loop on one plane only, unless it opens to the outside
    ends_with_parent: bool = False  # a hole in solid that ends

    def __post_init__(self):
        self.members = np.concatenate([self.lower, self.upper])

    @property
    def continues(self):
        """Whether one loop follows one."""
        return len(self.lower) == len(self.upper) == 1


def group_loops(loops, heights):
    """Group the loops between every pair of neighbouring planes.

    Parameters
    ----------
    loops : nesting.Loops
    heights : (P,) float, in the units of the loops

    Returns
    -------
    list, per slab (P - 1), of lists of Group, outer ones first
    """
    n = len(loops)
    gaps = LARGEST_GAP * np.append(np.diff(heights), 0)[loops.plane]
    lower, upper = _links(loops, gaps)
    # Each loop is two nodes: i as a lower loop of the slab above it, n + i as an upper loop of the
    # slab below it.
    graph = coo_array((np.ones(len(lower)), (lower, n + upper)), shape=(2 * n, 2 * n))
    _, label = connected_components(graph, directed=False)
    slab = np.concatenate([loops.plane, loops.plane - 1])
    order = np.argsort(label, kind="stable")
    ends = [*(np.flatnonzero(np.diff(label[order])) + 1).tolist(), 2 * n]
    # As lists: single elements of arrays are slow to take.
    order, slab = order.tolist(), slab.tolist()
    solid, depth = loops.solid.tolist(), loops.depth.tolist()
    groups, first = [], 0
    for end in ends:
        nodes, first = order[first:end], end
        if 0 <= slab[nodes[0]] < len(heights) - 1:
            lower, upper = [i for i in nodes if i < n], [i - n for i in nodes if i >= n]
            members = lower + upper
            deepest = max(depth[i] for i in members)
            lower, upper = np.array(lower, dtype=int), np.array(upper, dtype=int)
            groups.append(Group(slab[nodes[0]], solid[members[0]], deepest, lower, upper))
    _set_shifts(loops, [group for group in groups if group.continues])
    continued = _set_ends(loops, groups, np.bincount(label)[label] == 1)
    _lean(loops, groups, np.diff(heights), continued)
    slabs = [[] for _ in heights[1:]]
    for group in sorted(groups, key=lambda group: group.depth):
        slabs[group.slab].append(group)
    return slabs


def _links(loops, gaps):
    """Pairs of loops of one kind on neighbouring planes that belong together: two (m,) int."""
    lower, upper = touching_boxes(loops.plane, loops.low, loops.high, 1)
    same = loops.solid[lower] == loops.solid[upper]
    lower, upper = lower[same], upper[same]
    linked = _surely_alike(loops, lower, upper)
    rest = np.flatnonzero(~linked)
    linked[rest] = _shares(loops, lower[rest], upper[rest]) > LEAST_OVERLAP
    # The thin wall of a slanting bowl: the rings do not overlap, the discs they bound do.
    thin = np.flatnonzero(~linked)
    pairs = loops.polygons[lower[thin]], loops.polygons[upper[thin]]
    linked[thin] = in_parts(_likeness, *pairs) > 0.5
    lower, upper = lower[linked], upper[linked]

    # A handle that slants as much as the wall beside it overlaps that wall on the next plane. So a
    # small overlap does not link two loops that each continue as another one.
    above, below, tubes = _successors(loops, gaps)
    crossing = (
        (above[lower] >= 0) & (above[lower] != upper)
        & (below[upper] >= 0) & (below[upper] != lower)
    )  # fmt: skip
    crossing[crossing] = _shares(loops, lower[crossing], upper[crossing]) < LEAST_JOINT
    lower, upper = lower[~crossing], upper[~crossing]

    lone_below, lone_above = np.ones(len(loops), dtype=bool), np.ones(len(loops), dtype=bool)
    lone_below[lower] = lone_above[upper] = False
    links = [(lower, upper)]
    for a, b in tubes:
        if lone_below[a] and lone_above[b]:
            moved = _moved(loops.polygons[a], loops.centroid[b] - loops.centroid[a])
            if _likeness(moved, loops.polygons[b]) > LEAST_LIKENESS:
                lone_below[a] = lone_above[b] = False
                links.append(([a], [b]))
    return tuple(np.concatenate(ends).astype(int) for ends in zip(*links, strict=True))


def _shares(loops, lower, upper):
    """The share of the smaller one of two regions that overlaps the other, (m,) float."""
    regions = loops.regions[lower], loops.regions[upper]
    return shared_areas(*regions) / np.minimum(*map(shapely.area, regions))


def _surely_alike(loops, lower, upper):
    """Whether two loops enclose the same for more than half of what they enclose together.

    Where this is true it is, but not the other way round: it looks at boxes and at loops inside
    others. This spares most of the overlaps, which take long.
    """
    box = np.maximum(loops.high[lower], loops.high[upper])
    box -= np.minimum(loops.low[lower], loops.low[upper])
    areas = loops.area[lower], loops.area[upper]
    both = areas[0] + areas[1]
    alike = 3 * (both - box[:, 0] * box[:, 1]) > both
    rest = np.flatnonzero(~alike & (2 * np.minimum(*areas) > np.maximum(*areas)))
    below_is_smaller = areas[0][rest] < areas[1][rest]
    larger, smaller = (
        loops.polygons[np.where(of_larger, upper[rest], lower[rest])]
        for of_larger in (below_is_smaller, ~below_is_smaller)
    )
    alike[rest] = in_parts(shapely.contains, larger, smaller) > 0
    return alike


def _successors(loops, gaps):
    """Loops that may be the same part cut twice: close to each other and similar in size.

    Returns
    -------
    above, below : (n,) int, for loops that are each other's nearest such loop, otherwise -1
    pairs : (m, 2) int, all such pairs that are close enough, nearest first
    """
    lower, upper = pairs_of_planes(loops.plane, 1)
    widths = np.maximum(loops.high - loops.low, 1e-3)
    ratio = loops.area[lower] / loops.area[upper]
    stretch = widths[lower] / widths[upper]
    gap = np.maximum(loops.low[lower] - loops.high[upper], loops.low[upper] - loops.high[lower])
    near = (
        (loops.solid[lower] == loops.solid[upper])
        & (np.maximum(ratio, 1 / ratio) <= LARGEST_AREA_RATIO)
        & (np.maximum(stretch, 1 / stretch) <= LARGEST_WIDTH_RATIO).all(axis=1)
        & (gap <= gaps[lower][:, None]).all(axis=1)
    )
    lower, upper = lower[near], upper[near]
    # A slanting tube is cut into ovals that are shifted along their long axis. So the distance
    # between them is measured in units of their width in that direction.
    shift = loops.centroid[upper] - loops.centroid[lower]
    spread = loops.spread[lower] + loops.spread[upper]
    distance = np.einsum("...i,...ij,...j->...", shift, np.linalg.inv(spread), shift)

    order = np.argsort(distance, kind="stable")
    lower, upper = lower[order], upper[order]
    nearest = np.zeros((2, len(lower)), dtype=bool)  # of all pairs of the lower, the upper loop
    for of_loop, loop in zip(nearest, (lower, upper), strict=True):
        of_loop[np.unique(loop, return_index=True)[1]] = True
    mutual = nearest.all(axis=0)
    above, below = np.full(len(loops), -1), np.full(len(loops), -1)
    above[lower[mutual]], below[upper[mutual]] = upper[mutual], lower[mutual]
    apart = in_parts(shapely.distance, loops.polygons[lower], loops.polygons[upper])
    return above, below, np.stack([lower, upper], axis=1)[apart < gaps[lower]]


def _likeness(polygons, others):
    """Overlap over union, in [0, 1]."""
    shared = shapely.area(shapely.intersection(polygons, others))
    return shared / np.maximum(shapely.area(polygons) + shapely.area(others) - shared, 1e-300)


def _moved(polygon, shift):
    return shapely.transform(polygon, lambda points: points + shift)


def _set_shifts(loops, groups):
    """Find which of the groups in which one loop follows one are slanting tubes."""
    a, b = np.array([group.members for group in groups], dtype=int).reshape(-1, 2).T
    shift = loops.centroid[b] - loops.centroid[a]
    thickness = np.minimum(loops.thickness[a], loops.thickness[b])
    for i in np.flatnonzero(np.hypot(*shift.T) >= STRAIGHT_SHIFT * thickness):
        pair = loops.polygons[a[i]], loops.polygons[b[i]]
        moved = _likeness(_moved(pair[0], shift[i]), pair[1])
        if moved > max(LEAST_LIKENESS, _likeness(*pair)):
            groups[i].shift = shift[i]


def _set_ends(loops, groups, lone):
    """Decide how loops without a partner end: those where `lone`, (2 n,) bool, is true.

    Returns
    -------
    (2, n) int, the loop that alone continues a loop below (row 0) or above it (row 1), or -1
    """
    n = len(loops)
    continued = np.full((2, n), -1)
    for group in groups:
        if group.continues:
            continued[0, group.upper], continued[1, group.lower] = group.lower, group.upper
    for group in groups:
        if len(group.members) > 1:
            continue
        loop, upwards = group.members[0], bool(len(group.lower))
        before = continued[0 if upwards else 1]
        parent = loops.parent[loop]
        if group.solid:
            group.taper = _taper(loops, loop, before)
        elif parent >= 0 and lone[parent + (0 if upwards else n)]:
            # The hole grows while the solid around it shrinks.
            taper = _taper(loops, parent, before)
            group.taper = dataclasses.replace(taper, radius=-taper.radius)
            group.ends_with_parent = True
        else:
            other = loops.on_plane(loops.plane[loop] + (1 if upwards else -1))
            if not len(other):  # nothing there to open from
                group.taper = _taper(loops, loop, before)
                continue
            outer = shapely.union_all(loops.polygons[other[loops.depth[other] == 0]])
            outside = shapely.area(shapely.difference(loops.regions[loop], outer))
            if outside <= LEAST_OVERLAP * loops.area[loop]:
                group.taper = _taper(loops, loop, before)
    return continued


def _lean(loops, groups, thicknesses, continued):
    """Attach loose ends to larger parts that are close; `continued` as `_set_ends` returns it.

    The root of a handle may be horizontal and lie between two planes; then the loops of the handle
    overlap nothing. One end may also be farther away if the part would float otherwise: if nothing
    holds it and it does not reach the first or last plane with loops, or is only a scrap there,
    like the tip of a spout.
    """
    solids = [group for group in groups if group.solid]
    part = solid_parts(loops, groups)
    first, last = loops.plane.min(), loops.plane.max()
    extent = np.zeros((2, part.max() + 1), dtype=int)  # first and last plane of each part
    extent[0] = last
    np.minimum.at(extent[0], part, loops.plane)
    np.maximum.at(extent[1], part, loops.plane)
    reaches_end = (extent[0] == first) | (extent[1] == last)
    held = set(np.flatnonzero(reaches_end & (extent[1] - extent[0] >= MOST_SCRAP_PLANES)))
    ends = []
    for group in solids:
        loop, thickness = group.members[0], thicknesses[group.slab]
        if len(group.members) > 1 or (loops.high[loop] - loops.low[loop]).max() > (
            WIDEST_TUBE * thickness
        ):
            continue
        others = loops.on_plane(group.slab + (1 if len(group.lower) else 0))
        others = others[loops.solid[others] & (loops.area[others] > loops.area[loop])]
        if part[loop] not in held:
            others = others[part[others] != part[loop]]
        if len(others):
            gaps = shapely.distance(loops.polygons[loop], loops.regions[others]) / thickness
            ends.append((gaps.min(), loop, int(others[gaps.argmin()]), group))
    hanging = set()
    for gap, loop, target, group in sorted(ends, key=lambda end: end[:2]):
        largest = NEAR_GAP
        if part[loop] not in held:
            largest = LARGEST_GAP
        elif part[loop] in hanging or part[loop] == part[target]:
            largest = HANDLE_GAP
            before = continued[0 if len(group.lower) else 1, loop]
            if _approaches(loops, loop, before, target, group.taper, gap * thicknesses[group.slab]):
                largest = APPROACHING_GAP
        if gap > largest:
            continue
        if part[loop] not in held:
            hanging.add(part[loop])
            held.add(part[loop])
        way = shapely.shortest_line(loops.polygons[loop], loops.regions[target])
        way = shapely.get_coordinates(way)
        towards = way[1] - loops.centroid[loop]
        deep = 2 * min(loops.radius[loop], loops.radius[target])
        group.leans_on, group.taper = target, None
        group.shift = way[1] - way[0] + towards * deep / max(np.hypot(*towards), 1e-9)
    leant_on = {(group.slab, group.leans_on) for group in solids}
    for group in solids:
        # The top of an arch reaches down to the legs that lean on it.
        if group.taper is not None and (group.slab, group.members[0]) in leant_on:
            group.leant_on = True
            group.taper = dataclasses.replace(group.taper, end=max(group.taper.end, LEANT_ON_END))


def _approaches(loops, loop, before, target, taper, gap):
    """Whether a loose end, `loop` after `before`, is on its way to a target over this gap."""
    if before < 0 or taper.slope < LEAST_SLOPE or 2 * loops.thickness[loop] < gap:
        return False
    gap_before = shapely.distance(loops.polygons[before], loops.regions[target])
    return gap_before - gap > LEAST_APPROACH * gap


def solid_parts(loops, groups):
    """The part of the solid that each loop bounds, (n,) int; holes have parts of their own."""
    solids = [group for group in groups if group.solid]
    joined = [[*group.members, *[group.leans_on] * (group.leans_on >= 0)] for group in solids]
    start = [loop for members in joined for loop in members]
    end = [members[0] for members in joined for _ in members]
    graph = coo_array((np.ones(len(start)), (start, end)), shape=(len(loops),) * 2)
    return connected_components(graph, directed=False)[1]


def _taper(loops, loop, before):
    """Where a loop ends, from its radius on the planes before.

    The squared radius is taken as a parabola in height, which is exact for spheres, cones and
    paraboloids. If it does not reach zero before the next plane, the loop ends half-way: the best
    guess for a cylinder.
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
