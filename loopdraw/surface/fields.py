"""Signed distances to loops, blended from plane to plane into the field of a solid.

All lengths are in grid cells: node (row, column) of a plane lies at u = column, v = row. A field is
an array (2, ..., rows, columns). Its first part holds distances, negative inside. Walls thinner
than a cell or two would fall between the nodes, so they are widened, and so are the gaps between
them. The second part says by how much (in cells, positive outwards), so that the surface can be
moved back.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt, label

from loopdraw.loops.geometry import following

MARGIN = 3  # cells between a loop and the border of the window for its distances
LONGEST_SLOPE = 2  # plane distances: a wider ledge between two planes is flat in its middle
MOST_MOVEMENT = 6  # cells per slab: boundaries that move farther are ledges, not walls
BLENDING_OVERLAP = 2  # cells by which blends of separate loops may overlap and stay separate
FAR = np.float32(1e6)
THINNEST = 1.5  # cells: a strip this wide holds connected nodes, in any direction
CHUNK = 40_000  # distances computed at once, so that they stay in the processor's cache


class LoopFields:
    """The field of a solid on the planes of its loops and in the slabs between them.

    Each loop's field is computed when it is first needed.
    """

    def __init__(self, loops, slabs, heights, shape):
        """
        Parameters
        ----------
        loops : nesting.Loops
        slabs : list of lists of correspondence.Group
        heights : (P,) float
        shape : (rows, columns) of the grid
        """
        self.loops, self.slabs, self.heights, self.shape = loops, slabs, heights, shape
        boxes = self._loop_boxes().tolist()
        self.group_windows = [[self._window(group, boxes) for group in groups] for groups in slabs]
        # Each loop's field must cover the windows of the groups below and above it.
        for group, window in zip(sum(slabs, []), sum(self.group_windows, []), strict=True):
            for i in group.members:
                boxes[i] = _around([boxes[i], window])
        self.windows = [tuple(box) for box in boxes]
        self._fields, self._planes = {}, {}

    def loop(self, i):
        """The field of what one loop encloses, on its window, (2, rows, columns) float32."""
        if i not in self._fields:
            self._fields[i] = loop_field(self.loops.points[i], self.windows[i])
        return self._fields[i]

    def plane(self, k):
        """The field of plane k, (2, rows, columns) float32; None if it has no loop."""
        if k not in self._planes:
            self._planes[k] = self._plane(k)
        return self._planes[k]

    def n_outlines(self, k):
        """How many outlines marching cubes makes on plane k from its field."""
        inside = np.zeros(self.shape, dtype=bool)
        inside[1:-1, 1:-1] = self.plane(k)[0, 1:-1, 1:-1] < 0
        # Each outline lies between a part of the inside and one of the outside, and these form a
        # tree. Across a corner, marching cubes joins the outside.
        n_inside, n_outside = label(inside)[1], label(~inside, np.ones((3, 3)))[1]
        return n_inside + n_outside - 1

    def _loop_boxes(self):
        """First and last row and column (n, 4) of the nodes on and around each loop."""
        low = np.floor(self.loops.low).astype(int) - MARGIN
        high = np.ceil(self.loops.high).astype(int) + MARGIN + 1
        low, high = np.maximum(low, 0), np.minimum(high, self.shape[::-1])
        return np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], axis=1)

    def _window(self, group, boxes):
        """(first row, last row + 1, first column, last column + 1) that a group takes part in."""
        if _opens(group):
            return (0, self.shape[0], 0, self.shape[1])
        members = [boxes[i] for i in group.members]
        return _around(members if group.leans_on < 0 else [*members, boxes[group.leans_on]])

    def _plane(self, k):
        members = self.loops.on_plane(k)
        if not len(members):
            return None
        field = empty_field(self.shape)
        for i in members:
            _merge(field, self.loop(i), self.windows[i], self.loops.solid[i])
        return field

    def slab(self, k, fractions):
        """The field between planes k and k + 1.

        Parameters
        ----------
        k : int
        fractions : (m,) float in (0, 1), of the way from plane k to the next

        Returns
        -------
        (2, m, rows, columns) float32
        """
        field = empty_field((len(fractions), *self.shape))
        fractions = fractions.astype(np.float32)
        for group, window in zip(self.slabs[k], self.group_windows[k], strict=True):
            if not group.ends_with_parent:
                part = self._blend(group, window, fractions)
                # A part that leans on another one must join it.
                joins = group.leans_on >= 0 or group.leant_on
                least_gap = THINNEST if joins else -BLENDING_OVERLAP
                thinnest = THINNEST + self._movement(group, window) / (len(fractions) + 1)
                _merge(field, part, window, group.solid, not _opens(group), least_gap, thinnest)
        return field

    def _blend(self, group, window, fractions):
        """Field of a group at fractions of its slab, (2, m, rows, columns) of its window."""
        thickness = np.float32(self.heights[group.slab + 1] - self.heights[group.slab])
        lower, upper = self._union(group.lower, window), self._union(group.upper, window)
        t = fractions[:, None, None]
        if _opens(group):
            outside = np.negative(_cut(self.plane(group.slab + (upper is None)), window))
            return _mix(outside if lower is None else lower, outside if upper is None else upper, t)
        if lower is None or upper is None:
            t = t if upper is None else 1 - t
            if group.leans_on >= 0:
                own = lower if upper is None else upper
                return np.stack([_shifted(own, s * group.shift) for s in t.ravel()], axis=1)
            part = self._shrunk(group, window, t)
            for hole in self.slabs[group.slab]:
                if hole.ends_with_parent and self.loops.parent[hole.members[0]] in group.members:
                    inside = _common(window, self.windows[hole.members[0]])
                    _merge(part, self._shrunk(hole, inside, t), inside, solid=False, origin=window)
            np.maximum(part[0], (t - np.float32(group.taper.end)) * thickness, out=part[0])
            return part
        if group.shift is not None:
            lower = np.stack([_shifted(lower, s * group.shift) for s in fractions], axis=1)
            upper = np.stack([_shifted(upper, (s - 1) * group.shift) for s in fractions], axis=1)
            return _mix(lower, upper, t)
        reach = np.float32(LONGEST_SLOPE * thickness)
        raised, lowered = upper.copy(), lower.copy()
        raised[0] = np.clip(_overhang(lower[0], upper[0], thickness), -reach, reach)
        lowered[0] = np.clip(_overhang(upper[0], lower[0], thickness), -reach, reach)
        return _mix(lowered, raised, t)

    def _movement(self, group, window):
        """How far boundaries move sideways in a slab: the layers of a thin wall must overlap."""
        if group.shift is not None or not len(group.lower) or not len(group.upper):
            return 0.0
        lower, upper = self._union(group.lower, window), self._union(group.upper, window)
        return np.minimum(np.abs(lower[0] - upper[0]), np.float32(MOST_MOVEMENT))

    def _shrunk(self, group, window, t):
        """Field of one loop that tapers, at the fractions t (m, 1, 1) of the way from its plane."""
        own = self._union(group.members, window)
        part = np.repeat(own[:, None], len(t), axis=1)
        part[0] += group.taper.inset(t).astype(np.float32)
        return part

    def _union(self, members, window):
        """Field of some loops of one plane together on a window; None if there are none."""
        if not len(members):
            return None
        largest_first = members[np.argsort(-self.loops.area[members], kind="stable")]
        parts = [_cut(self.loop(i), window, self.windows[i]) for i in largest_first]
        union = parts[0].copy() if len(parts) > 1 else parts[0]
        for part in parts[1:]:
            _merge(union, part, window, solid=True, origin=window)
        return union


def _opens(group):
    """Whether a group is a hole that opens to the outside."""
    return not group.solid and group.taper is None and len(group.members) == 1


def empty_field(shape):
    """The field of nothing, (2, *shape) float32."""
    field = np.zeros((2, *shape), dtype=np.float32)
    field[0] = FAR
    return field


def _mix(lower, upper, t):
    """Linear blend of two fields, (2, [m,] rows, columns), at the fractions t, (m, 1, 1)."""
    if lower.ndim == 3:
        lower, upper = lower[:, None], upper[:, None]
    return (1 - t) * lower + t * upper


def _cut(field, window, origin=(0, 0, 0, 0)):
    """The part of a field inside a window; the field itself starts at `origin`."""
    rows = slice(window[0] - origin[0], window[1] - origin[0])
    return field[..., rows, window[2] - origin[2] : window[3] - origin[2]]


def _around(windows):
    """The window around some windows."""
    top, bottom, left, right = zip(*windows, strict=True)
    return (min(top), max(bottom), min(left), max(right))


def _common(window, other):
    """The nodes that two windows share."""
    return (
        max(window[0], other[0]), min(window[1], other[1]),
        max(window[2], other[2]), min(window[3], other[3]),
    )  # fmt: skip


def _merge(
    field,
    part,
    window,
    solid,
    keep_apart=True,
    least_gap=0.0,
    thinnest=THINNEST,
    origin=(0, 0, 0, 0),
):
    """Add a solid to a field or cut a hole into it, in place; thin walls and gaps are widened.

    A wall thinner than `thinnest` is thickened, half on each side. If a solid comes closer than
    that to what is already there, the gap is widened on the side of what is there, which is larger.
    But solids that overlap, with a gap below `least_gap`, unite.
    """
    own, own_thickening = _cut(field, window, origin)
    added, added_thickening = part
    if solid:
        missing = thinnest - (own + added)
        most = missing.max(axis=(-2, -1), keepdims=True)
        apart = (most > 0) & (most < THINNEST - least_gap)
        if apart.any():
            widening = np.where(apart, np.maximum(missing, 0), 0)
            own += widening
            own_thickening -= widening
        np.copyto(own_thickening, added_thickening, where=added < own)
        np.minimum(own, added, out=own)
        return
    missing = thinnest - (added - own)
    np.copyto(own_thickening, -added_thickening, where=-added > own)
    np.maximum(own, -added, out=own)
    if keep_apart and missing.max() > 0:
        missing = np.clip(missing, 0, thinnest) / 2
        own -= missing
        own_thickening += missing


def _overhang(shape, other, thickness):
    """Distances to the loops of the next plane, changed where this plane's shape overhangs them.

    With linear blending the surface goes from the edge of `shape` to the edge of `other`. That is
    right for a slope. But a bar that sticks out, such as a horizontal handle, would become a sheet
    that thins out along its length. Where the edge is nearer to the middle line of such a bar than
    to `other`, the bar gets an oval section that ends half-way at most.

    Parameters
    ----------
    shape, other : (rows, columns) float32 signed distances
    thickness : float, of the slab

    Returns
    -------
    (rows, columns) float32, to use instead of `other`
    """
    excess = (shape < 0) & (other > -shape)
    if not excess.any() or other[excess].max() < 2:
        return other
    slope_v, slope_u = np.gradient(shape)
    middle = excess & (slope_u**2 + slope_v**2 < 0.3) & (-shape < thickness)
    if not middle.any():
        return other
    distance, (row, column) = distance_transform_edt(~middle, return_indices=True)
    radius = -shape[row, column]
    bar = (shape < 0) & (other > 0) & (distance <= radius + 1)
    depth = np.clip(-shape / radius, 1e-3, 1)
    end = np.minimum(0.5, radius / thickness) * np.sqrt(1 - (1 - depth) ** 2)
    return np.where(bar, np.minimum(other, -shape * (1 / end - 1)), other).astype(np.float32)


def _shifted(field, shift):
    """A field moved by (u, v) cells, sampled linearly; beyond its edge the edge is repeated."""
    for axis, amount in ((-1, shift[0]), (-2, shift[1])):
        whole = int(np.floor(-amount))
        part = np.float32(-amount - whole)
        index = np.arange(field.shape[axis]) + whole
        low, high = (field.take(index + i, axis, mode="clip") for i in (0, 1))
        field = (1 - part) * low + part * high
    return field


# -------------------------------------------------------------------------- distances to one loop


def loop_field(points, window):
    """The field of what one loop encloses.

    Where the loop is narrower than `THINNEST`, or leaves a narrower notch open, its boundary is
    widened.

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
    around = distances[row.T[:, None], column.T[None]].reshape(16, -1)
    # How far inside and outside the nodes around each piece lie at most.
    for side, farthest in ((1, -around.min(axis=0)), (-1, around.max(axis=0))):
        thin = farthest < THINNEST / 2
        if thin.any():
            widened = _segment_distances(starts[thin], ends[thin], window) - THINNEST / 2
            where = widened < side * field[0]
            field[0][where] = side * widened[where]
            field[1][where] = side * THINNEST / 2
    return field


def _cell_long_pieces(points):
    """The edges of a loop, cut into pieces of a cell or less: starts, ends, (m, 2) float."""
    edges = following(points) - points
    counts = np.maximum(np.ceil(np.hypot(edges[:, 0], edges[:, 1])).astype(int), 1)
    edge = np.repeat(np.arange(len(points)), counts)
    piece = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    step = edges[edge] / counts[edge, None]
    starts = points[edge] + piece[:, None] * step
    return starts, starts + step


def signed_distances(points, window):
    """Exact distances from grid nodes to a closed loop, negative inside.

    A loop that crosses itself encloses everything that it winds around.

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
    rows, columns = window[1] - window[0], window[3] - window[2]
    # From the middle of the window, so that few digits are lost.
    middle = np.array([window[2] + (columns - 1) / 2, window[0] + (rows - 1) / 2])
    nodes = np.ones((3, rows, columns), dtype=np.float32)
    nodes[0] = np.arange(columns) - (columns - 1) / 2
    nodes[1] = (np.arange(rows) - (rows - 1) / 2)[:, None]
    nodes = nodes.reshape(3, -1)
    edges, middles = ends - starts, (starts + ends) / 2 - middle
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    tangent_u, tangent_v = edges.T / lengths
    # Times the nodes, the first half gives how far a node lies along each segment from its middle,
    # the second half how far across.
    lines = np.empty((2, len(starts), 3), dtype=np.float32)
    lines[0, :, 0], lines[0, :, 1] = tangent_u, tangent_v
    lines[1, :, 0], lines[1, :, 1] = tangent_v, -tangent_u
    lines[0, :, 2] = -tangent_u * middles[:, 0] - tangent_v * middles[:, 1]
    lines[1, :, 2] = -tangent_v * middles[:, 0] + tangent_u * middles[:, 1]
    lines = lines.reshape(-1, 3)
    half = (lengths / 2).astype(np.float32)[:, None]
    squared = np.empty(rows * columns, dtype=np.float32)
    step = max(1, CHUNK // len(starts))
    for first in range(0, len(squared), step):
        found = lines @ nodes[:, first : first + step]
        along, across = found[: len(starts)], found[len(starts) :]
        np.abs(along, out=along)
        along -= half
        np.maximum(along, 0, out=along)
        found *= found
        along += across
        along.min(axis=0, out=squared[first : first + step])
    return np.sqrt(squared, out=squared).reshape(rows, columns)


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
