"""Segments in planes chained into closed loops, even if the mesh is not closed.

If exactly two segments share a crossing, they are neighbours. If more do (three faces at an edge,
parts that touch, doubled faces), they are paired by direction, so that each solid keeps its own
outline. An end that shares its crossing with no other is loose: the mesh has a crack or a hole
there. Loose ends are joined within their plane, shortest gap first: the two ends of one chain, or
facing ends of two chains. If most of a loop would be made up in this way, the mesh is an open sheet
there, and it becomes a thin wall.
"""

import heapq
import math

import numpy as np
import shapely

from loopdraw.loops.geometry import signed_area

# Lengths in units of the mesh size, the longest side of its bounding box.
SAME_POINT = 1e-6
CRACK = 2e-3  # a gap up to this wide is a crack, a wider one is a hole
SLIVER_AREA = 1e-7  # a disc of radius 0.0002
SHEET_THICKNESS = 0.02  # of walls made from open sheets; about the least that can be rebuilt

# If the wide gaps of a loop are longer than this share of what was cut from the mesh, the loop is
# made of sheets. A box with one of four sides missing (1/3) is closed, half a circle (0.64) is a
# sheet.
SHEET_GAPS = 0.35
# A wide gap to another chain must be shorter than this share of the chain's own gap.
FACING = 0.5
N_FACING = 8  # how many of the nearest ends are considered


def chain_segments(plane, segments, crossings, size):
    """Chain segments into closed loops.

    Parameters
    ----------
    plane : (s,) int
    segments : (s, 2, 2) float, tail and head, with solid on the left
    crossings : (s, 2) int, equal where segments meet, different in different planes
    size : float, of the mesh

    Returns
    -------
    loops : list of (k, 2) float, by plane and then decreasing area
    loop_planes : list of int
    n_bridged, n_closed, n_slivers : int, as in `slicing.SlicedMesh`
    """
    if len(plane) == 0:
        return [], [], 0, 0, 0
    order, run_starts, run_lengths = _runs(crossings.ravel())
    if (run_lengths > 2).any():
        kept = _without_doubles(crossings)
        plane, segments, crossings = plane[kept], segments[kept], crossings[kept]
        order, run_starts, run_lengths = _runs(crossings.ravel())

    # Segment s has the ends 2 s, its tail, and 2 s + 1, its head.
    ends = segments.reshape(-1, 2) / size
    end_plane = np.repeat(plane, 2)
    partner = _pair_ends(ends, order, run_starts, run_lengths)
    loose = np.flatnonzero(partner == -1)
    alone = set(order[run_starts[run_lengths == 1]].tolist())  # at the border of the mesh
    # Plain Python lists from here on: they are faster to follow one segment at a time.
    partner = partner.tolist()
    n_bridged, wide_gaps = _join_loose_ends(partner, loose, alone, ends, end_plane)
    # Start at tails where possible, to follow the segments forwards.
    chains = _follow(partner, first=sorted(wide_gaps, key=lambda end: (end % 2, end)))
    loops, areas = _to_loops(chains, ends)

    found, n_slivers = [], 0
    for chain, loop, area in zip(chains, loops, areas, strict=True):
        if chain[0] in wide_gaps and _is_made_of_sheets(chain, wide_gaps, ends):
            pieces = _walls(_split_at(wide_gaps, chain), ends)
        else:
            pieces = [(loop, abs(area))]
        pieces = [(loop, area) for loop, area in pieces if len(loop) > 2 and area >= SLIVER_AREA]
        n_slivers += not pieces
        found.extend((int(plane[chain[0] >> 1]), -area, loop) for loop, area in pieces)
    found.sort(key=lambda entry: entry[:2])
    loops = [loop * size for _, _, loop in found]
    return loops, [at for at, _, _ in found], n_bridged, len(wide_gaps) // 2, n_slivers


def _runs(names):
    """Sort names; returns the order, and the start and length of each run of equal ones in it."""
    order = np.argsort(names, kind="stable")
    ordered = names[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return order, starts, np.diff(starts, append=len(names))


def _without_doubles(crossings):
    """Mask of segments that keeps one between the same two crossings.

    Doubled faces, such as sheets made to be visible from both sides, count as one sheet.
    """
    low, high = np.sort(crossings, axis=1).T
    order = np.lexsort((high, low))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (low[order][1:] != low[order][:-1]) | (high[order][1:] != high[order][:-1])
    kept = np.zeros(len(order), dtype=bool)
    kept[order[is_first]] = True
    return kept


def _pair_ends(ends, order, run_starts, run_lengths):
    """For each end, the end of the neighbouring segment, or -1 if it is loose: (2 s,) int."""
    partner = np.full(len(ends), -1)
    pairs = run_starts[run_lengths == 2]
    one, other = order[pairs], order[pairs + 1]
    partner[one], partner[other] = other, one
    for start, length in zip(
        run_starts[run_lengths > 2], run_lengths[run_lengths > 2], strict=True
    ):
        for one, other in _pair_crowd(order[start : start + length], ends):
            partner[one], partner[other] = other, one
    return partner


def _pair_crowd(crowd, ends):
    """Pair three or more ends at one crossing.

    Going around the crossing counter-clockwise, solid lies between a leaving segment (solid on its
    left) and the next arriving one. These two belong together, nested like brackets if several
    solids share the crossing. Ends left over because of wrong windings are paired with neighbours.
    """
    directions = ends[crowd ^ 1] - ends[crowd]
    crowd = crowd[np.argsort(np.arctan2(directions[:, 1], directions[:, 0]), kind="stable")]
    waiting, pairs, single = [], [], set(crowd.tolist())
    for turn in range(2):
        for end in crowd.tolist():
            if end % 2 == 0 and turn == 0:
                waiting.append(end)
            elif end % 2 == 1 and end in single and waiting:
                pairs.append((waiting.pop(), end))
                single -= set(pairs[-1])
    left = [end for end in crowd.tolist() if end in single]
    return pairs + list(zip(left[::2], left[1::2], strict=False))


def _join_loose_ends(partner, loose, alone, ends, end_plane):
    """Join all loose ends, shortest gap first; fills in `partner`.

    An end may be joined to the other end of its chain, or to an end of another chain if that gap is
    much shorter: so the walls of a box without lid and floor are joined across its open sides.

    Returns
    -------
    n_bridged : int, number of gaps up to the width of a crack
    wide_gaps : dict, for the ends on both sides of each wider gap, how much of it is missing mesh:
        its width, or 0 between two crowds, where a wall inside a solid was left over
    """
    if len(loose) == 0:
        return 0, {}
    far = {}  # the other end of the chain
    for end in loose.tolist():
        if end not in far:
            other = end ^ 1
            while partner[other] != -1:
                other = partner[other] ^ 1
            far[end], far[other] = other, end

    position = dict(zip(loose.tolist(), ends[loose].tolist(), strict=True))

    def gap(one, other):
        return math.dist(position[one], position[other])

    # One search for all planes, which are stacked too far apart to be neighbours.
    stacked = np.column_stack([ends[loose], 10.0 * end_plane[loose]])
    n_neighbours = min(N_FACING + 1, len(loose))
    from scipy.spatial import cKDTree  # slow to import, and most meshes have no gaps

    _, neighbours = cKDTree(stacked).query(stacked, n_neighbours, distance_upper_bound=5.0)
    queue = [(gap(end, other), end, other) for end, other in far.items() if end < other]
    for end, row in zip(loose.tolist(), neighbours.reshape(len(loose), -1), strict=True):
        for other in loose[row[row < len(loose)]].tolist():
            if other not in (end, far[end]):
                width = gap(end, other)
                queue.append((width if width <= CRACK else width / FACING, end, other))
    heapq.heapify(queue)

    n_bridged, wide_gaps = 0, {}
    while queue:
        _, one, other = heapq.heappop(queue)
        if partner[one] != -1 or partner[other] != -1:
            continue
        partner[one], partner[other] = other, one
        width = gap(one, other)
        if width > CRACK:
            wide_gaps[one] = wide_gaps[other] = width if {one, other} & alone else 0.0
        else:
            n_bridged += 1
        if far[one] != other:
            first, last = far[one], far[other]
            far[first], far[last] = last, first
            heapq.heappush(queue, (gap(first, last), first, last))
    return n_bridged, wide_gaps


def _follow(partner, first):
    """Every closed chain once, as the list of ends where it enters its segments.

    The chains of the ends in `first` come first and start there.
    """
    seen = bytearray(len(partner) // 2)
    chains = []
    for start in (*first, *range(0, len(partner), 2)):
        if seen[start >> 1]:
            continue
        chain, end = [], start
        while True:
            chain.append(end)
            seen[end >> 1] = 1
            end = partner[end ^ 1]
            if end == start:
                break
        chains.append(chain)
    return chains


def _to_loops(chains, ends):
    """The points of each chain without repeated ones, and its signed area."""
    lengths = np.array([2 * len(chain) for chain in chains])
    enters = np.concatenate([np.asarray(chain) for chain in chains])
    points = ends[np.stack([enters, enters ^ 1], axis=1).ravel()]
    starts = np.cumsum(lengths) - lengths
    loop = np.repeat(np.arange(len(chains)), lengths)

    following = np.arange(1, len(points) + 1)
    following[starts + lengths - 1] = starts
    # Drop a point if the next one (cyclically) is the same.
    repeated = np.abs(points[following] - points).max(axis=1) <= SAME_POINT
    points, loop = points[~repeated], loop[~repeated]
    n_points = np.bincount(loop, minlength=len(chains))
    loops = np.split(points, np.cumsum(n_points)[:-1])
    return loops, [signed_area(loop) for loop in loops]


def _is_made_of_sheets(chain, wide_gaps, ends):
    """Whether too much of a chain consists of gaps."""
    enters = np.array(chain)
    cut = np.hypot(*(ends[enters] - ends[enters ^ 1]).T).sum()
    return sum(wide_gaps.get(end, 0.0) for end in chain) > SHEET_GAPS * cut


def _split_at(gaps, chain):
    """A closed chain that starts at a gap, split at all of its gaps."""
    starts = [index for index, end in enumerate(chain) if end in gaps]
    return [chain[i:j] for i, j in zip(starts, [*starts[1:], len(chain)], strict=True)]


def _walls(sheets, ends):
    """Outlines of open sheets made into walls: list of (loop, area)."""
    walls = []
    for sheet in sheets:
        enters = np.array(sheet)
        line = shapely.LineString(ends[np.stack([enters, enters ^ 1], axis=1).ravel()])
        if line.length < SHEET_THICKNESS:
            continue  # a scrap
        wall = line.buffer(
            SHEET_THICKNESS / 2, cap_style="flat", join_style="mitre", mitre_limit=2.0
        )
        for polygon in shapely.get_parts(shapely.orient_polygons(wall)):
            for ring in (polygon.exterior, *polygon.interiors):
                walls.append((shapely.get_coordinates(ring)[:-1], shapely.Polygon(ring).area))
    return walls
