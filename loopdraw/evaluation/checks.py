"""Faults that the eye sees at once, and samples that are drawn again because of them.

A free end is a tip of the solid that ends in air, as a handle that breaks off half-way does.
Between two planes the reconstruction groups the loops that belong together (`correspondence`). A
part that has a loop on one of the two planes only ends there, and a hollow likewise:

=================================================  ========
what ends                                          counted
=================================================  ========
the shape itself, at its first or last plane       no
a foot on the ground, also of one cut from aside   no
a bump: a single loop, then merged                 no
a hollow that closes                               no
a hollow that opens, at either end of the shape    no
a hollow that opens through a torn wall            once
a handle that reaches the body, however            no
a handle cut through                               twice
a part that floats, but for one at the end planes  twice
a body torn apart                                  twice
a scrap that floats over the rim                   once
=================================================  ========
"""

from typing import NamedTuple

import numpy as np
import trimesh

from loopdraw.loops.geometry import lift, plane_heights
from loopdraw.loops.nesting import collect_loops
from loopdraw.processes import TookTooLong, time_limit
from loopdraw.surface.correspondence import group_loops
from loopdraw.surface.reconstruction import (
    DEFAULT_RESOLUTION,
    LEAST_AREA,
    connected_parts,
    reconstruct_mesh,
)

MOUTH = 2  # planes: a hollow that opens so near to the first or last plane is meant to
BUMP = 1  # loops: a tip of so few that is merged behind them is a bump
ON_GROUND = 0.03  # of the height along y: a tip whose lowest point is so near to it stands on it
MOST_DRAWS = 10  # of one checked sample
DECODED_TOGETHER = 64
CHECK_SECONDS = 20.0  # of one shape; a second is usual
TOO_LONG = f"no check within {CHECK_SECONDS:g} s"


def free_ends(planes, loops_by_plane):
    """Where the solid of a shape has free ends.

    Parameters
    ----------
    planes : (P, 4, 3) float, parallel, in order
    loops_by_plane : list of P lists of (k, 2) float

    Returns
    -------
    list of (plane, upwards): the plane of the last loop of a part or hollow, and whether it ends
    between this plane and the next or the one before
    """
    points = [np.asarray(loop, dtype=float) for loops in loops_by_plane for loop in loops]
    plane_of_loop = [k for k, loops in enumerate(loops_by_plane) for _ in loops]
    if not points or not np.isfinite(np.concatenate(points)).all():
        return []
    everything = np.concatenate(points)
    low = everything.min(axis=0)
    # The reconstruction's own units, grid cells, so that it and this agree on what a scrap is.
    cell = float(np.ptp(everything, axis=0).max()) / DEFAULT_RESOLUTION
    if cell <= 0:
        return []
    heights = plane_heights(planes)
    heights = np.abs(heights - heights[0]) / cell
    loops = collect_loops([(loop - low) / cell for loop in points], plane_of_loop, LEAST_AREA)
    if not len(loops):
        return []
    grouped = [group for slab in group_loops(loops, heights) for group in slab]
    groups = [group for group in grouped if group.solid]
    towards = {True: {}, False: {}}  # upwards or not: loop -> its group on that side
    for group in groups:
        towards[True] |= dict.fromkeys(group.lower.tolist(), group)
        towards[False] |= dict.fromkeys(group.upper.tolist(), group)
    leaned_on = {(group.slab, group.leans_on) for group in groups}

    def ends(group):
        return (
            len(group.members) == 1
            and group.leans_on < 0
            and (group.slab, int(group.members[0])) not in leaned_on
        )

    on_ground = _on_ground(planes, loops, low, cell)
    first, last = loops.plane.min(), loops.plane.max()
    found = []
    for group in filter(ends, groups):
        tip, upwards = int(group.members[0]), bool(len(group.lower))
        plane = int(loops.plane[tip])
        if plane == (last if upwards else first) or on_ground[tip]:
            continue
        # Along the part, away from its end, until it merges, ends again or leaves the planes.
        length, loop = 1, tip
        while (behind := towards[not upwards].get(loop)) is not None:
            if len(behind.lower) != 1 or len(behind.upper) != 1:
                break
            loop = int((behind.lower if upwards else behind.upper)[0])
            length += 1
        is_held = behind is not None and not ends(behind)
        if not (is_held and length <= BUMP):
            found.append((plane, upwards))
    hollow = loops.plane[~loops.solid]
    for group in grouped:
        if not group.solid and len(group.members) == 1 and group.taper is None:
            plane, upwards = int(loops.plane[group.members[0]]), bool(len(group.lower))
            # Beyond the mouth of a basket only its handle goes on, beyond a tear the hollow does.
            goes_on = (hollow > plane if upwards else hollow < plane).any()
            if goes_on and min(plane - first, last - plane) > MOUTH:
                found.append((plane, upwards))
    return found


def _on_ground(planes, loops, low, cell):
    """Which loops reach down to the lowest points of the shape, along y; (n,) bool.

    Where the planes follow each other along y, the first plane says it already.
    """
    y = [
        lift(points * cell + low, planes[k])[:, 1]
        for points, k in zip(loops.points, loops.plane, strict=True)
    ]
    lowest = np.array([values.min() for values in y])
    height = max(values.max() for values in y) - lowest.min()
    stands_along_y = abs(planes[0, 0, 1]) > 0.5
    return (lowest - lowest.min() < ON_GROUND * height) & (not stands_along_y)


def count_solids(vertices, faces):
    """Number of separate solids of a closed, outward oriented mesh.

    A connected surface that encloses a positive volume is the outside of a solid; one with a
    negative volume is the wall of a hollow inside.
    """
    return int((connected_parts(vertices, faces)[1] > 0).sum())


def fault(planes, loops_by_plane):
    """What is wrong with a shape, in words: "" when it is one closed solid without free ends.

    `TOO_LONG` when that cannot be said in time: loops in heaps, as hardly trained models make them,
    would take minutes.
    """
    try:
        with time_limit(CHECK_SECONDS):
            return _fault(planes, loops_by_plane)
    except TookTooLong:
        return TOO_LONG


def _fault(planes, loops_by_plane):
    n_ends = len(free_ends(planes, loops_by_plane))
    if n_ends:
        return f"{n_ends} free end" + "s" * (n_ends > 1)
    try:
        vertices, faces = reconstruct_mesh(planes, loops_by_plane)
    except ValueError:
        return "no surface"
    closed = trimesh.Trimesh(vertices, faces, process=False).is_watertight
    return "" if closed and count_solids(vertices, faces) == 1 else "not one closed solid"


class Checked(NamedTuple):
    """N samples after checking."""

    latents: np.ndarray  # (N, L)
    sequences: list  # of (T, F) float32, not normalised
    draws: list  # of int, how many shapes were drawn for each
    faults: list  # of str, what is still wrong with each, or ""


def draw_checked(model, latents, seeds, report=lambda n_settled, n_drawn: None):
    """Decode latents, and draw others from the prior for shapes that have a `fault`.

    Shapes of a training set with handles, legs and arms have none, so the rule needs no training
    set. A family whose shapes do end in air would be drawn in vain, MOST_DRAWS times each.

    Parameters
    ----------
    model : LoopSeqEncoderDecoderModel
    latents : (N, L) float, the first draws
    seeds : N int, of the later draws
    report : function that gets, after each draw, the number of samples that are settled by then and
        of shapes drawn for all

    Returns
    -------
    Checked
    """
    latents = np.array(latents, dtype=np.float64)
    generators = [np.random.default_rng(seed) for seed in seeds]
    sequences, faults = [None] * len(latents), [""] * len(latents)
    draws = [0] * len(latents)
    wrong = list(range(len(latents)))
    for attempt in range(MOST_DRAWS):
        if attempt:
            latents[wrong] = model.prior.draw_each([generators[i] for i in wrong])
        for start in range(0, len(wrong), DECODED_TOGETHER):
            rows = wrong[start : start + DECODED_TOGETHER]
            for i, sequence in zip(rows, model.decode(latents[rows]), strict=True):
                sequences[i] = sequence
                faults[i] = fault(model.info.planes, model.info.bounded_loops(sequence))
                draws[i] += 1
                n_open = sum(not n or bool(text) for n, text in zip(draws, faults, strict=True))
                report(len(latents) - n_open, sum(draws))
        # The next draws of a model that makes such heaps would take as long.
        wrong = [i for i in wrong if faults[i] and faults[i] != TOO_LONG]
        if not wrong:
            break
    return Checked(latents, sequences, draws, faults)
