"""Vertices of a reconstructed mesh, moved exactly onto the given loops and spaced evenly.

Only positions change, never triangles, so a closed mesh stays closed.
"""

import numpy as np
from scipy.sparse import coo_array, csc_array
from scipy.sparse.csgraph import connected_components

from loopdraw.surface.fields import THINNEST

EVENING_STEPS = 12  # of spacing vertices along the loops
CARRYING_STEPS = 6  # of spreading moves from the planes to what lies between
RELAXING_STEPS = 4  # of evening out all other vertices
TAKEN_BACK = 0.85  # of the thickening; the rest keeps thin sheets from turning inside out
SAME_PLACE = 1e-4  # cells; readers of mesh files merge vertices this close
MEETINGS = 10  # rounds of separating vertices that meet
BESIDE_CAP = 0.02  # cells; what lies between the planes stays this far from the end planes
AT_CORNER = 0.01  # cells; a vertex this close to a corner of its loop is at the corner
IN_CAP, IN_OPEN_CAP = -2, -3  # in place of a vertex's plane
EDGE = np.cos(np.radians(20))  # flatness of a vertex between faces that meet at twice that angle
SHARP_TURN = np.cos(np.radians(20))  # loop corners sharper than this take the nearest vertex
SLIGHT_TURN = np.cos(np.radians(1))  # and those sharper than this get a new one


def polish(vertices, faces, plane, excess, ends, loops):
    """Move a mesh onto its loops, undo its thickening and even out its triangles.

    Parameters
    ----------
    vertices : (n, 3) float, u, v and height in grid cells
    faces : (m, 3) int, of a mesh oriented outwards, closed but for the middle of some end caps
    plane : (n,) int: plane of a vertex on a loop, `IN_CAP` inside an end cap, `IN_OPEN_CAP` inside
        one with an open middle, which stays as it is, -1 for all others
    excess : (n,) float, how far the surface was moved outwards in the plane
    ends : (n, 2) float, the lowest and highest height of the mesh that a vertex belongs to
    loops : nesting.Loops

    Returns
    -------
    vertices : (n, 3) float, all distinct
    faces : (m, 3) int
    loop : (n,) int, the loop that each vertex was moved onto, or -1
    """
    around = _sums_around(faces, len(vertices))
    normals, _ = _vertex_normals(vertices, faces, around)
    # The field was widened in the plane: a slanting surface rises less than it moves sideways.
    back = (excess * np.hypot(normals[:, 0], normals[:, 1]))[:, None] * normals
    back[plane != -1, 2] = 0
    polished = vertices - TAKEN_BACK * back
    curves = _Curves(loops)
    laid, loop, arc = _lay_onto_loops(polished, faces, plane, curves)
    polished += _carry_on(laid - (vertices - back), vertices, normals, faces, plane != -1)
    polished[plane >= 0] = laid[plane >= 0]
    fixed = (plane >= 0) | (plane == IN_OPEN_CAP)
    polished = _relax(polished, faces, around, fixed, level=plane == IN_CAP)
    between = plane == -1
    bottom, top = ends[between].T
    polished[between, 2] = polished[between, 2].clip(bottom + BESIDE_CAP, top - BESIDE_CAP)
    # Where loops touch or cross, vertices meet. Those go back to where they were, and then those
    # that they meet there.
    for _ in range(MEETINGS):
        together = meeting(polished)
        if not len(together):
            break
        polished[together] = vertices[together]
        arc[together] = np.nan
    else:
        return vertices, faces, loop
    if not (plane == IN_OPEN_CAP).any() and volumes(polished, faces).sum() <= 0:
        return vertices, faces, loop
    finished = _insert_corners(polished, faces, loop, arc, curves)
    return (polished, faces, loop) if len(meeting(finished[0])) else finished


def volumes(vertices, faces):
    """Volumes (m,) below the faces (m, 3), down to the third coordinate's zero.

    Their sum is the volume inside a closed mesh, positive when its faces look outwards.
    """
    x, y, z = np.ascontiguousarray(vertices.T)
    a, b, c = np.ascontiguousarray(faces.T)
    x_a, y_a = x[a], y[a]
    twice = (x[b] - x_a) * (y[c] - y_a) - (x[c] - x_a) * (y[b] - y_a)  # the area from above
    return twice * (z[a] + z[b] + z[c]) / 6


def _cross(a, b):
    """Cross product of vectors as tuples of three arrays; `np.cross` is much slower."""
    return tuple(a[i] * b[j] - a[j] * b[i] for i, j in ((1, 2), (2, 0), (0, 1)))


def meeting(vertices):
    """Indices of vertices at the same place as another one."""
    place = np.round(vertices / SAME_PLACE).astype(np.int64) @ _HASH
    in_order = np.sort(place)
    twice = in_order[1:][in_order[1:] == in_order[:-1]]
    return np.flatnonzero(np.isin(place, twice)) if len(twice) else np.zeros(0, dtype=int)


# Three large odd numbers: different places get different sums, but for harmless accidents.
# `np.unique(axis=0)` needs no such sums, but is much slower.
_HASH = np.array([6364136223846793005, 3935559000370003845, 2862933555777941757])


def _sums_around(faces, n_vertices):
    """A sparse array (n, m) whose product sums over the faces (m, 3) around each vertex."""
    columns = np.arange(0, faces.size + 1, 3)
    return csc_array((np.ones(faces.size), faces.ravel(), columns), (n_vertices, len(faces)))


def _vertex_normals(vertices, faces, around):
    """Unit normals (n, 3), the area-weighted mean over the faces, and flatness (n,).

    The flatness is 1 where all faces around a vertex have the same normal, and less on edges.
    """
    a, b, c = np.ascontiguousarray(faces.T)
    first, second = [], []
    for x in np.ascontiguousarray(vertices.T):
        x_a = x[a]
        first.append(x[b] - x_a)
        second.append(x[c] - x_a)
    normals = _cross(first, second)  # of the faces, twice as long as their areas
    areas = np.sqrt(sum(component**2 for component in normals))
    sums = around @ np.stack([*normals, areas], axis=1)
    normals = sums[:, :3]
    lengths = np.maximum(np.sqrt(np.einsum("ni,ni->n", normals, normals)), 1e-12)
    return normals / lengths[:, None], lengths / np.maximum(sums[:, 3], 1e-12)


def _relax(vertices, faces, around, fixed, level):
    """Move vertices along the surface towards the mean of their neighbours, but not off edges.

    Parameters
    ----------
    vertices : (n, 3) float; faces : (m, 3) int, of a closed oriented mesh
    around : (n, m) sparse, as `_sums_around` returns it
    fixed : (n,) bool, vertices that stay
    level : (n,) bool, vertices that keep their third coordinate

    Returns
    -------
    (n, 3) float
    """
    normals, flatness = _vertex_normals(vertices, faces, around)
    normals[level] = (0, 0, 1)
    rate = 0.5 * np.clip((flatness - EDGE) / (1 - EDGE), 0, 1)
    rate[level] = 1
    free = np.flatnonzero(~fixed)
    normals, rate = normals[free], rate[free, None]
    # Each edge is one of two faces. So the corners of all faces around a vertex are its neighbours
    # twice, and the vertex itself as often as it has neighbours.
    faces = faces[~fixed[faces].all(axis=1)]
    number = np.full(len(vertices), len(free))  # all that stay share the last row
    number[free] = np.arange(len(free))
    around = _sums_around(number[faces], len(free) + 1)
    twice = 2.0 * np.maximum(np.bincount(around.indices, minlength=len(free))[: len(free), None], 1)
    a, b, c = np.ascontiguousarray(faces.T)
    vertices = vertices.copy()
    for _ in range(RELAXING_STEPS):
        step = (around @ (vertices[a] + vertices[b] + vertices[c]))[:-1]
        step /= twice
        step -= 1.5 * vertices[free]
        step -= np.einsum("ni,ni->n", step, normals)[:, None] * normals
        step *= rate
        vertices[free] += step
    return vertices


def _carry_on(moves, vertices, normals, faces, known):
    """Continue the moves of the vertices on the planes between the planes.

    On the planes, a sharp corner that grid cells cut off is restored by moving a vertex onto it. If
    its neighbours above and below stayed, the edge through those corners would be wavy. So each
    vertex between the planes moves by the mean of its neighbours above and below; neighbours
    straight up or down the surface count most.

    Parameters
    ----------
    moves : (n, 3) float, of the vertices where `known`
    vertices, normals : (n, 3) float
    faces : (m, 3) int, of a closed oriented mesh
    known : (n,) bool

    Returns
    -------
    (n, 3) float
    """
    start, end = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    height = vertices[:, 2]
    kept = np.flatnonzero(~known[start] & (height[start] != height[end]))
    start, end = start[kept], end[kept]
    edges = vertices[end, :2] - vertices[start, :2]
    normal = normals[start, :2]
    sideways = edges[:, 0] * normal[:, 1] - edges[:, 1] * normal[:, 0]
    weights = 1 / (0.1 + sideways**2) ** 2
    total = np.bincount(start, weights, len(vertices))
    # The product sums over the edges at each vertex.
    columns = np.arange(len(start) + 1)
    mean = csc_array((weights / total[start], start, columns), (len(vertices), len(start)))
    moves = np.where(known[:, None], moves, 0.0)
    between = moves
    for _ in range(CARRYING_STEPS):
        between = moves + mean @ between[end]
    return between


def _lay_onto_loops(vertices, faces, plane, curves):
    """Move the vertices where the mesh meets the planes onto the loops, evenly along them.

    Each vertex goes to the nearest point of the loops of its plane, but not to a loop close by that
    another outline of the mesh lies on. Then its neighbours on the same loop pull it along until
    the spacing is even. Each sharp corner of a loop holds a vertex.

    Parameters
    ----------
    vertices : (n, 3) float, u, v and height
    faces : (m, 3) int
    plane : (n,) int, plane of each vertex to move, -1 for all others
    curves : _Curves

    Returns
    -------
    vertices : (n, 3) float
    loop : (n,) int, the loop of each moved vertex, -1 for all others
    arc : (n,) float, its position along the loop
    """
    moved = np.flatnonzero(plane >= 0)
    loop, arc, _ = curves.nearest(vertices[moved, :2], plane[moved], curves.plane)
    found = loop >= 0
    moved, loop, arc = moved[found], loop[found], arc[found]

    start, end = _edges_along_outlines(faces, moved, plane)
    if (loop[start] != loop[end]).any():
        right = _loops_of_outlines(start, end, loop)
        stray = np.flatnonzero(right != loop)
        there = curves.nearest(vertices[moved[stray], :2], right[stray], curves.loop)
        close = there[2] < THINNEST
        loop[stray[close]], arc[stray[close]] = there[0][close], there[1][close]
        same = loop[start] == loop[end]
        start, end = start[same], end[same]
    length = curves.length[loop]
    degree = np.maximum(np.bincount(start, minlength=len(moved)), 1)
    free = np.ones(len(moved), dtype=bool)
    for step in range(EVENING_STEPS):
        if step == EVENING_STEPS // 2:
            free, arc = curves.take_corners(loop, arc)
        ahead = arc[end] - arc[start]
        # The shorter way round the loop.
        ahead -= length[start] * np.round(ahead / length[start])
        pull = np.bincount(start, ahead, minlength=len(moved)) / degree
        arc = arc + np.where(free, 0.5 * pull, 0)
    result = vertices.copy()
    result[moved, :2] = curves.at(loop, arc)
    loop_of_vertex, arc_of_vertex = np.full(len(vertices), -1), np.zeros(len(vertices))
    loop_of_vertex[moved], arc_of_vertex[moved] = loop, arc
    return result, loop_of_vertex, arc_of_vertex


def _edges_along_outlines(faces, moved, plane):
    """Mesh edges between two moved vertices of one plane, as indices into `moved`."""
    index = np.full(len(plane), -1)
    index[moved] = np.arange(len(moved))
    start = index[faces]
    end = start[:, [1, 2, 0]].ravel()
    start = start.ravel()
    both = np.flatnonzero((start >= 0) & (end >= 0))
    start, end = start[both], end[both]
    same = plane[moved[start]] == plane[moved[end]]
    return start[same], end[same]


def _loops_of_outlines(start, end, loop):
    """The loops (n,) that vertices belong to, given the loops (n,) that are nearest to them.

    Where two loops are close to each other, their outlines were moved apart, and a vertex may be
    nearer to the loop of another outline. It belongs to the one that most of its outline is near.
    But an outline may go around two loops that cross; then the other loop is not that of another
    outline.

    Parameters
    ----------
    start, end : (e,) int, edges along the outlines
    loop : (n,) int
    """
    graph = coo_array((np.ones(len(start)), (start, end)), shape=(len(loop),) * 2)
    n_outlines, outline = connected_components(graph, directed=False)
    votes = np.zeros((n_outlines, loop.max() + 1), dtype=int)
    np.add.at(votes, (outline, loop), 1)
    most = votes.argmax(axis=1)
    return np.where(np.isin(loop, most), most[outline], loop)


def _insert_corners(vertices, faces, loop, arc, curves):
    """Split the edges along loops at the corners between their ends, so that the loops are exact.

    Parameters
    ----------
    vertices : (n, 3) float; faces : (m, 3) int, of a closed oriented mesh
    loop : (n,) int, the loop of each vertex, or -1
    arc : (n,) float, its position there; not finite if it does not lie on the loop
    curves : _Curves

    Returns
    -------
    vertices, faces, loop : as given, with the new ones last
    """
    start, end = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    along = (loop[start] == loop[end]) & (loop[start] >= 0)
    along &= np.repeat(along.reshape(-1, 3).sum(axis=1) == 1, 3)  # one side of a face at most
    side = np.flatnonzero(along)
    length = curves.length[loop[start[side]]]
    ahead = arc[end[side]] - arc[start[side]]
    ahead -= length * np.round(ahead / length)
    back = side[ahead < 0]
    side, ahead = side[ahead > 0], ahead[ahead > 0]
    # The same edges from the faces on their other sides.
    back = back[np.argsort(end[back] * len(vertices) + start[back], kind="stable")]
    key = start[side] * len(vertices) + end[side]
    at = np.searchsorted(end[back] * len(vertices) + start[back], key)
    paired = at < len(back)
    paired[paired] = (end[back[at[paired]]] * len(vertices) + start[back[at[paired]]]) == key[
        paired
    ]
    side, ahead, other = side[paired], ahead[paired], back[at[paired]]

    of_loop = loop[start[side]]
    corner = curves.between(of_loop, arc[start[side]], ahead)
    edge, position = corner
    if not len(edge):
        return vertices, faces, loop
    count = np.bincount(edge, minlength=len(side))
    new = np.arange(len(edge)) + len(vertices)
    points = np.column_stack([curves.at(of_loop[edge], position), vertices[start[side[edge]], 2]])
    # Of each face beside a split edge, one part per piece of the edge.
    split = np.flatnonzero(count)
    first_new = len(vertices) + np.cumsum(count) - count
    before = np.concatenate([start[side[split]], new])
    after = np.concatenate([first_new[split], new + 1])
    last = np.append(edge[1:] != edge[:-1], True)
    after[len(split) :][last] = end[side[edge[last]]]
    piece = np.concatenate([split, edge])
    ahead_apex, other_apex = (
        faces.ravel()[3 * (sides // 3) + (sides + 2) % 3] for sides in (side, other)
    )
    gone = np.zeros(len(faces), dtype=bool)
    gone[side[split] // 3] = gone[other[split] // 3] = True
    faces = np.concatenate([
        faces[~gone],
        np.stack([before, after, ahead_apex[piece]], axis=1),
        np.stack([after, before, other_apex[piece]], axis=1),
    ])  # fmt: skip
    return np.concatenate([vertices, points]), faces, np.concatenate([loop, of_loop[edge]])


class _Curves:
    """All loops, one after the other, as segments with their position along the loop."""

    def __init__(self, loops):
        counts = np.array([len(points) for points in loops.points])
        self.first = np.cumsum(counts) - counts
        self.counts = counts
        self.start = np.concatenate(loops.points)
        after = np.arange(1, len(self.start) + 1)
        after[self.first + counts - 1] = self.first
        self.edge = self.start[after] - self.start
        self.size = np.hypot(self.edge[:, 0], self.edge[:, 1])
        self.loop = np.repeat(np.arange(len(counts)), counts)
        self.length = np.bincount(self.loop, self.size, len(counts))
        total = np.cumsum(self.size) - self.size
        self.total = total  # position along all loops together
        self.offset = total[self.first]
        self.plane = loops.plane[self.loop]

    def nearest(self, points, key, key_of_segments):
        """The nearest loop (-1 if there is none), position along it and distance for each point.

        Parameters
        ----------
        points : (n, 2) float
        key : (n,) int; a point looks only at segments with the same one
        key_of_segments : int for each segment, its plane or its loop
        """
        loop, arc, squared = np.full(len(points), -1), *np.zeros((2, len(points)))
        for k in np.unique(key):
            rows, segments = np.flatnonzero(key == k), np.flatnonzero(key_of_segments == k)
            if not len(segments):
                continue
            size = self.size[segments]
            tangent = self.edge[segments] / size[:, None]
            normal = tangent[:, ::-1] * (1, -1)
            start, own = self.start[segments], points[rows]
            along = own @ tangent.T - np.einsum("si,si->s", start, tangent)
            across = own @ normal.T - np.einsum("si,si->s", start, normal)
            inside = np.minimum(np.maximum(along, 0), size)
            along -= inside
            along *= along
            across *= across
            along += across
            best = along.argmin(axis=1)
            nearest = segments[best]
            loop[rows] = self.loop[nearest]
            arc[rows] = self.total[nearest] + inside[np.arange(len(rows)), best]
            squared[rows] = along[np.arange(len(rows)), best]
        arc -= self.offset[loop]
        return loop, arc, np.sqrt(squared)

    def at(self, loop, arc):
        """Points (n, 2) at positions along loops; positions past the end wrap around."""
        position = self.offset[loop] + np.mod(arc, self.length[loop])
        segment = np.searchsorted(self.total, position, side="right") - 1
        segment = np.clip(segment, self.first[loop], self.first[loop] + self.counts[loop] - 1)
        fraction = np.clip((position - self.total[segment]) / self.size[segment], 0, 1)
        return self.start[segment] + fraction[:, None] * self.edge[segment]

    def _turns(self):
        """Cosine of the turn at the start of each segment."""
        before = np.arange(len(self.start)) - 1
        before[self.first] = self.first + self.counts - 1
        turn = np.einsum("si,si->s", self.edge, self.edge[before])
        return turn / (self.size * self.size[before])

    def between(self, loop, arc, ahead):
        """The corners on stretches of loops, without those at their ends.

        Parameters
        ----------
        loop : (e,) int
        arc, ahead : (e,) float, where each stretch begins and how long it is

        Returns
        -------
        stretch : (c,) int, in order
        position : (c,) float, along the loop
        """
        corner = np.flatnonzero(self._turns() < SLIGHT_TURN)
        # Every loop twice, so that a stretch may run across its first point.
        offset = 2 * self.offset
        own = self.loop[corner]
        places = offset[own] + self.total[corner] - self.offset[own]
        places = np.sort(np.concatenate([places, places + self.length[own]]))
        begin = offset[loop] + np.mod(arc, self.length[loop])
        first = np.searchsorted(places, begin + AT_CORNER)
        count = np.maximum(np.searchsorted(places, begin + ahead - AT_CORNER) - first, 0)
        stretch = np.repeat(np.arange(len(loop)), count)
        index = np.arange(len(stretch)) - np.repeat(np.cumsum(count) - count, count)
        return stretch, places[first[stretch] + index] - offset[loop[stretch]]

    def take_corners(self, loop, arc):
        """Move the vertex nearest to each sharp corner onto it.

        Returns
        -------
        free : (n,) bool, False for the vertices that hold a corner
        arc : (n,) float, their new positions
        """
        turn = self._turns()
        corner = np.flatnonzero(turn < SHARP_TURN)
        corner = corner[np.argsort(turn[corner], kind="stable")]  # sharpest first
        # Positions of the vertices along all loops, to find those next to a corner.
        place = self.offset[loop] + np.mod(arc, self.length[loop])
        order = np.argsort(place, kind="stable")
        count = np.bincount(loop, minlength=len(self.counts))
        first = (np.cumsum(count) - count)[self.loop[corner]]
        corner, first = corner[count[self.loop[corner]] > 2], first[count[self.loop[corner]] > 2]
        if not len(corner):
            return np.ones(len(arc), dtype=bool), arc
        own = self.loop[corner]
        after = np.searchsorted(place[order], self.total[corner]) - first
        beside = order[first + np.stack([after - 1, after]) % count[own]]  # (2, corners)
        gap = np.abs(place[beside] - self.total[corner])
        gap = np.minimum(gap, self.length[own] - gap)
        vertex = beside[gap.argmin(axis=0), np.arange(len(corner))]
        # A vertex beside several corners takes the sharpest.
        vertex, taken = np.unique(vertex, return_index=True)
        free, arc = np.ones(len(arc), dtype=bool), arc.copy()
        free[vertex] = False
        arc[vertex] = self.total[corner[taken]] - self.offset[own[taken]]
        return free, arc
