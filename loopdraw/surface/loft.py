"""Bands of triangles between loops of neighbouring planes, where one loop follows one.

Most of a shape is like that. There the loops' own points are the vertices, so that the mesh lies on
the loops exactly and is as light as they are. The slabs where loops end, split or merge are left to
marching cubes, and the bands start from the vertices that it puts on a loop.

All lengths are in grid cells.
"""

import dataclasses

import numpy as np
import shapely

from loopdraw.loops.geometry import points_after
from loopdraw.loops.nesting import touching_boxes, without_repeats
from loopdraw.surface.fields import LONGEST_SLOPE

LEAST_DISTANCE = 1e-3  # between vertices of a ring, and between rings
MOST_POINTS = 256  # of a ring; finer ones are left to marching cubes


@dataclasses.dataclass
class Bands:
    """Bands between two rings of points each, as parallel arrays of length b.

    slab, lower, upper : (b,) int, the slab and its two loops
    shift : (b, 2) float, how far a slanting tube moves from end to end; zero for others
    sizes : (2, b) int, numbers of points of the rings below and above
    starts : (2, b) int, the points between which the first edge runs from ring to ring
    steps : (most steps, b) bool, how triangles follow each other: True for one with an edge on the
        lower ring, False for one with an edge on the upper ring
    """

    slab: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    shift: np.ndarray
    sizes: np.ndarray
    starts: np.ndarray
    steps: np.ndarray

    def where(self, kept):
        """The bands in which `kept`, (b,) bool, is true."""
        return Bands(
            self.slab[kept], self.lower[kept], self.upper[kept], self.shift[kept],
            self.sizes[:, kept], self.starts[:, kept], self.steps[:, kept],
        )  # fmt: skip

    def edges(self):
        """The edges from ring to ring, band by band, in order.

        Returns
        -------
        band : (e,) int
        below, above : (e,) int, points of the rings
        step : (e,) bool, as in `steps`, of the triangle after the edge
        """
        step = self.steps.T
        below = np.cumsum(step, axis=1) - step
        above = np.arange(len(self.steps)) - below
        inside = np.arange(len(self.steps)) < self.sizes.sum(axis=0)[:, None]
        band = np.nonzero(inside)[0]
        below, above = (
            (on_ring[inside] + start[band]) % size[band]
            for on_ring, start, size in zip((below, above), self.starts, self.sizes, strict=True)
        )
        return band, below, above, step[inside]

    def faces(self, numbers):
        """Triangles (m, 3), which look outwards if the rings are oriented.

        Parameters
        ----------
        numbers : list of (k,) int, the vertices of each loop's ring
        """
        band, below, above, step = self.edges()
        first = np.cumsum([0, *map(len, numbers)])
        numbers = np.concatenate(numbers)
        lower, upper = first[self.lower[band]], first[self.upper[band]]
        next_below, next_above = (
            (below + 1) % self.sizes[0][band],
            (above + 1) % self.sizes[1][band],
        )
        a, b = numbers[lower + below], numbers[upper + above]
        third = np.where(step, lower + next_below, upper + next_above)
        return np.stack([a, numbers[third], b], axis=1)


def oriented(loops):
    """The points of all loops, counter-clockwise around solid and clockwise around holes.

    Parameters
    ----------
    loops : nesting.Loops

    Returns
    -------
    list of (k, 2) float
    """
    rings = without_repeats(loops.points, LEAST_DISTANCE)
    sizes = np.array([len(ring) for ring in rings])
    # Relative to a corner of its loop, so that small loops far from the origin keep their digits.
    u, v = (np.concatenate(rings) - np.repeat(loops.low, sizes, axis=0)).T
    after = points_after(sizes)
    loop = np.repeat(np.arange(len(rings)), sizes)
    area = np.bincount(loop, u * v[after] - u[after] * v, len(rings))
    turned = ((area > 0) != loops.solid).tolist()
    return [ring[::-1] if turn else ring for ring, turn in zip(rings, turned, strict=True)]


def find_bands(loops, slabs, heights):
    """The bands of all slabs that hold nothing else.

    A slab is left out if a loop ends, splits or merges in it, if a loop beside it crosses itself or
    another one or has very many points, if its bands would cross, or if one is a wide ledge.

    Parameters
    ----------
    loops : nesting.Loops
    slabs : list of lists of correspondence.Group
    heights : (P,) float

    Returns
    -------
    rings : list of (k, 2) float, the points of each loop, oriented
    bands : Bands
    """
    rings = oriented(loops)
    rough = np.array([not all(group.continues for group in groups) for groups in slabs])
    many = np.flatnonzero([len(ring) > MOST_POINTS for ring in rings])
    points, sizes = np.concatenate(rings), np.array([len(ring) for ring in rings])
    unfit = loops.plane[np.append(_crossing(points, sizes, loops.plane), many).astype(int)]
    rough[unfit[unfit < len(slabs)]] = True
    rough[unfit[unfit > 0] - 1] = True
    groups = [group for k, slab in enumerate(slabs) if not rough[k] for group in slab]
    if not groups:
        return rings, None
    bands = make_bands(
        rings,
        slab=np.array([group.slab for group in groups]),
        lower=np.concatenate([group.lower for group in groups]),
        upper=np.concatenate([group.upper for group in groups]),
        shift=np.array([(0.0, 0.0) if g.shift is None else g.shift for g in groups]),
    )
    band, below, above, _ = bands.edges()
    first, after = np.cumsum(sizes) - sizes, points_after(sizes)
    tangents, back = points[after] - points, np.empty_like(points)
    back[after] = -tangents
    ends = points[first[bands.lower[band]] + below], points[first[bands.upper[band]] + above]
    # How far each edge moves across its loop; what it moves along the loop, on either side of a
    # corner, does not matter.
    moves = ends[1] - ends[0] - bands.shift[band]
    at = first[bands.lower[band]] + below
    across = np.minimum(_across(moves, tangents[at]), _across(moves, back[at]))
    ledge = across > LONGEST_SLOPE * np.diff(heights)[bands.slab[band]]
    rough[bands.slab[band[ledge]]] = True
    crossing = _crossing((ends[0] + ends[1]) / 2, bands.sizes.sum(axis=0), bands.slab)
    rough[bands.slab[crossing]] = True
    return rings, bands.where(~rough[bands.slab])


def _across(moves, directions):
    """How far moves (n, 2) lead away from lines of some directions (n, 2)."""
    cross = moves[:, 0] * directions[:, 1] - moves[:, 1] * directions[:, 0]
    return np.abs(cross) / np.maximum(np.hypot(*directions.T), np.finfo(float).tiny)


def _crossing(points, sizes, plane):
    """Indices of rings that cross themselves or come close to another one of their plane.

    Parameters
    ----------
    points : (n, 2) float, of all rings, one after the other
    sizes, plane : (rings,) int
    """
    if sizes.min() < 3:
        return np.arange(len(sizes))
    firsts = np.cumsum(sizes) - sizes
    lines = shapely.linearrings(points, indices=np.repeat(np.arange(len(sizes)), sizes))
    low, high = np.minimum.reduceat(points, firsts), np.maximum.reduceat(points, firsts)
    one, other = touching_boxes(plane, low, high, 0)
    one, other = one[one < other], other[one < other]
    close = shapely.dwithin(lines[one], lines[other], LEAST_DISTANCE)
    return np.concatenate([np.flatnonzero(~shapely.is_simple(lines)), one[close], other[close]])


def make_bands(rings, slab, lower, upper, shift):
    """Bands whose edges from ring to ring are as short as possible.

    Of all ways around both rings that start at their nearest points, this finds the one with the
    least sum of squared lengths, by dynamic programming, for all bands together.

    Parameters
    ----------
    rings : list of (k, 2) float, the points of each loop, oriented
    slab, lower, upper, shift : see Bands

    Returns
    -------
    Bands
    """
    points, first = np.concatenate(rings), np.cumsum([0, *map(len, rings)])
    pairs, each = np.stack([lower, upper]), np.arange(len(slab))
    sizes = np.diff(first)[pairs]
    moves = np.stack([shift, np.zeros_like(shift)])

    def along(side, starts, n_points):
        """Points of each band's ring on a side (b,), from a start on: (b, n_points, 2)."""
        place = (starts[:, None] + np.arange(n_points)) % sizes[side, each, None]
        return points[first[pairs[side, each]][:, None] + place] + moves[side, each, None]

    # All rings with fewer points go first, since the work of each step grows with them.
    fewer = (sizes[0] > sizes[1]).astype(int)
    most = sizes.min(axis=0).max(), sizes.max()
    one, other = (
        along(side, np.zeros(len(slab), dtype=int), n)
        for side, n in zip((fewer, 1 - fewer), most, strict=True)
    )
    squared = _squared(one[:, :, None], other[:, None]).reshape(len(slab), -1)
    nearest = np.stack(np.unravel_index(squared.argmin(axis=1), most))
    one, other = (
        along(side, start, n + 1)
        for side, start, n in zip((fewer, 1 - fewer), nearest, most, strict=True)
    )
    n_steps = sizes.sum(axis=0)
    steps = _shortest_ways(one, other, sizes[fewer, each], n_steps)
    steps ^= fewer == 1
    steps &= np.arange(len(steps))[:, None] < n_steps
    return Bands(slab, lower, upper, shift, sizes, nearest[[fewer, 1 - fewer], each], steps)


def _squared(points, others):
    """Squared distances between points (..., 2)."""
    u, v = points[..., 0] - others[..., 0], points[..., 1] - others[..., 1]
    return u * u + v * v


def _shortest_ways(points, others, n_points, n_steps):
    """The shortest ways from the first points of two rings, step by step, around both.

    Parameters
    ----------
    points : (b, n, 2) float, of the rings with fewer points
    others : (b, m, 2) float, of the rings with more
    n_points : (b,) int, of the rings with fewer points
    n_steps : (b,) int, how many points both rings have

    Returns
    -------
    (most steps, b) bool, True for a step along a ring with fewer points
    """
    squared = _squared(
        np.ascontiguousarray(points.transpose(1, 0, 2))[:, None],
        np.ascontiguousarray(others.transpose(1, 0, 2))[None],
    )
    (n, _, n_bands), most = squared.shape, n_steps.max()
    # cost[d, i] is of the edges between the points i and the other points d - i: a view, since the
    # next d and the next j are as far apart in memory, and the next i is one row less one farther.
    # Where d - i does not lie in a row it holds costs of other edges, which no way can reach.
    row, column, band = squared.strides
    cost = np.lib.stride_tricks.as_strided(
        squared, (most + 1, n, n_bands), (column, row - column, band), writeable=False
    )
    total = np.full((n + 1, n_bands), np.inf)  # one row more, ahead of the first point
    total[1] = cost[0, 0]
    came = np.zeros((most + 1, n, n_bands), dtype=bool)  # from the point before
    before, same = total[:-1], total[1:]
    for step, edge in zip(came[1:], cost[1:], strict=True):
        np.less(before, same, out=step)
        np.minimum(before, same, out=same)
        same += edge
    # Back from the end: a plain loop is faster than many small steps of arrays.
    ways = np.zeros((n_bands, most), dtype=np.uint8)
    came = np.ascontiguousarray(came.transpose(2, 0, 1))
    for way, of_band, at, d in zip(ways, came, n_points.tolist(), n_steps.tolist(), strict=True):
        of_band, place, back = of_band.tobytes(), d * n + at, bytearray()
        for _ in range(d):
            taken = of_band[place]
            back.append(taken)
            place -= n + taken
        way[:d] = back[::-1]
    return ways.T.astype(bool)


def open_rings(faces, level, ceilings):
    """Rings of vertices along the open edges of a mesh on some planes.

    Parameters
    ----------
    faces : (m, 3) int
    level : (n,) int, the open plane that each vertex lies on, or -1
    ceilings : list of int, the planes that the mesh lies below

    Returns
    -------
    list of (k,) int, oriented like the loops; none if the edges do not form separate rings
    """
    start, end = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    there = (level[start] >= 0) & (level[start] == level[end])
    start, end, n = start[there], end[there], len(level)
    single = ~np.isin(start * n + end, end * n + start)
    start, end = start[single], end[single]
    below = np.isin(level[start], ceilings)
    start, end = np.where(below, end, start), np.where(below, start, end)
    ahead = dict(zip(start.tolist(), end.tolist(), strict=True))
    if len(ahead) < len(start) or set(ahead) != set(ahead.values()):
        return []
    rings = []
    while ahead:
        ring = [next(iter(ahead))]
        while (vertex := ahead.pop(ring[-1])) != ring[0]:
            ring.append(vertex)
        rings.append(np.array(ring))
    return rings


# --------------------------------------------------------------------------- the whole mesh


def join(vertices, faces, around, rings, bands, loops, heights, smooth):
    """Bands joined to the meshes of the slabs without, and flat caps where bands end.

    Parameters
    ----------
    vertices : (n, 3) float, of the slabs without
    faces : (m, 3) int
    around : dict from loops on their open planes to vertices (k,), oriented
    rings : list of (k, 2) float, the points of each loop, oriented
    bands : Bands, of all `smooth` slabs
    loops : nesting.Loops
    heights : (P,) float
    smooth : (P - 1,) bool

    Returns
    -------
    vertices : (n, 3) float
    faces : (m, 3) int
    """
    import manifold3d  # slow to import

    rings, numbers = rings.copy(), [np.zeros(0, dtype=int)] * len(loops)
    of_block = np.zeros(len(loops), dtype=bool)
    vertices, faces, n_vertices = [vertices], [faces], len(vertices)
    for i, ring in around.items():
        rings[i], numbers[i], of_block[i] = vertices[0][ring, :2], ring, True
    for i in np.setdiff1d([bands.lower, bands.upper], np.flatnonzero(of_block)):
        height = np.full(len(rings[i]), heights[loops.plane[i]])
        vertices.append(np.column_stack([rings[i], height]))
        numbers[i] = np.arange(len(rings[i])) + n_vertices
        n_vertices += len(rings[i])

    n_changed = of_block[bands.lower].astype(int) + of_block[bands.upper]
    faces.append(bands.where(n_changed == 0).faces(numbers))
    # Rings of marching cubes have more points, and the work grows with the most of all. So the
    # bands between two of them are computed apart.
    for n in (1, 2):
        again = bands.where(n_changed == n)
        if len(again.slab):
            again = make_bands(rings, again.slab, again.lower, again.upper, again.shift)
            faces.append(again.faces(numbers))
    for k, flat_end in ((0, smooth[0]), (len(smooth), smooth[-1])):
        if flat_end:
            members = loops.on_plane(k)
            flat = manifold3d.triangulate([rings[i] for i in members])  # seen from above
            around = np.concatenate([numbers[i] for i in members])
            faces.append(around[flat[:, ::-1] if k == 0 else flat])
    return _compact(np.concatenate(vertices), np.concatenate(faces))


def _compact(vertices, faces):
    """Without the vertices that no face uses, such as those inside the caps of blocks."""
    used = np.zeros(len(vertices), dtype=bool)
    used[faces] = True
    return vertices[used], (np.cumsum(used) - 1)[faces]
