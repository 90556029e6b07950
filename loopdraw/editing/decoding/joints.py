"""Whether inserted loops have become part of the solid, read off the loops alone.

Between two planes the reconstruction groups the loops that belong together
(`surface.correspondence`). Loops and groups are the nodes of a graph, which has an edge where a
loop is of a group or a loose end leans on a loop. The solid is all around this graph: its circles
are the holes that handles make, its separate parts are those of the solid.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from loopdraw.evaluation.checks import free_ends
from loopdraw.loops.geometry import plane_heights
from loopdraw.loops.nesting import collect_loops, outlines_cross
from loopdraw.surface.correspondence import group_loops
from loopdraw.surface.reconstruction import DEFAULT_RESOLUTION, LEAST_AREA

WALL = 0.25  # of the widest loop of a plane: narrower ones are handles


class Joints(NamedTuple):
    """How the solid of a shape hangs together."""

    n_parts: int
    n_holes: int
    n_free_ends: int
    n_crossing: int  # planes on which walls cross
    is_held: bool  # each insert is joined to what lies below it
    is_closed: bool  # each insert is joined below and above: there is a hole beside it

    def is_sound(self, before):
        """Whether inserts have made handles, and have spoiled nothing; `before` is without them."""
        return (
            self.is_closed
            and self.n_parts <= before.n_parts
            and self.n_free_ends <= before.n_free_ends
            and self.n_crossing <= before.n_crossing
        )

    def adds_a_hole(self, before):
        """The same, and no hole of the untouched shape was lost for it."""
        return self.is_sound(before) and self.n_holes > before.n_holes


NONE = Joints(0, 0, 0, 0, False, False)  # of no loops


def joints(planes, loops_by_plane, inserts=()):
    """How the solid hangs together.

    Parameters
    ----------
    planes : (P, 4, 3) float
    loops_by_plane : list of P lists of (k, 2) float
    inserts : list of lists of (plane, (k, 2) loop): the loops of each insert, from the lowest up

    Returns
    -------
    Joints; inserts that bound no solid count as held and closed
    """
    points = [np.asarray(loop, dtype=float) for loops in loops_by_plane for loop in loops]
    everything = np.concatenate([np.zeros((0, 2)), *points])
    cell = float(np.ptp(everything, axis=0).max()) / DEFAULT_RESOLUTION if len(everything) else 0
    if not cell > 0 or not np.isfinite(everything).all():
        return NONE
    low = everything.min(axis=0)
    heights = plane_heights(planes)
    of_plane = [k for k, loops in enumerate(loops_by_plane) for _ in loops]
    loops = collect_loops([(loop - low) / cell for loop in points], of_plane, LEAST_AREA)
    if not len(loops):
        return NONE
    slabs = group_loops(loops, np.abs(heights - heights[0]) / cell)
    groups = [group for slab in slabs for group in slab if group.solid]
    graph = _Graph(loops, groups)
    is_held = is_closed = True
    for insert in inserts:
        numbers = [_number(loops, plane, (loop - low) / cell) for plane, loop in insert]
        if not all(i is not None and loops.solid[i] for i in numbers):
            continue
        is_held &= any(numbers[0] in group.upper and _joins(group) for group in groups)
        is_closed &= graph.holds_without(numbers[len(numbers) // 2])
    n_ends = len(free_ends(planes, loops_by_plane))
    n_crossing = sum(_walls_cross(of_plane) for of_plane in loops_by_plane)
    counts = graph.n_parts, graph.n_circles, n_ends, n_crossing
    return Joints(*counts, bool(is_held), bool(is_closed))


def _walls_cross(loops):
    """Whether loops of a plane cross that are no roots of handles, which may reach into a wall."""
    widths = [np.ptp(loop, axis=0).max() for loop in loops]
    walls = [loop for loop, w in zip(loops, widths, strict=True) if w > WALL * max(widths)]
    return any(outlines_cross(loop, walls[i + 1 :]) for i, loop in enumerate(walls))


def _joins(group):
    return len(group.members) > 1 or group.leans_on >= 0


def _number(loops, plane, points):
    """The number of a loop (k, 2) of a plane; None if it is too small to count."""
    there = loops.on_plane(plane)
    if not len(there):
        return None
    centres = np.array([loops.points[i].mean(axis=0) for i in there])
    return int(there[np.linalg.norm(centres - points.mean(axis=0), axis=1).argmin()])


class _Graph:
    """Loops and groups (m of them), joined where they belong together."""

    def __init__(self, loops, groups):
        joined = [[*group.members, *[group.leans_on] * (group.leans_on >= 0)] for group in groups]
        self._loop = np.array([loop for members in joined for loop in members], dtype=int)
        sizes = [len(members) for members in joined]
        self._group = len(loops) + np.repeat(np.arange(len(groups)), sizes)
        self._n_nodes = len(loops) + len(groups)
        self.n_parts = self._count(np.ones(len(self._loop), dtype=bool))
        n_used = len(np.unique(self._loop)) + len(groups)
        self.n_circles = len(self._loop) - n_used + self.n_parts

    def _count(self, kept):
        """The number of parts of the edges that are kept; groups always count."""
        loop, group = self._loop[kept], self._group[kept]
        graph = coo_array((np.ones(len(loop)), (loop, group)), shape=(self._n_nodes,) * 2)
        part = connected_components(graph, directed=False)[1]
        return len(np.unique(part[np.unique(np.concatenate([loop, self._group]))]))

    def holds_without(self, loop):
        """Whether nothing falls apart where a loop is cut through."""
        return self._count(self._loop != loop) <= self.n_parts
