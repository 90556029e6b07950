"""Stacks of parallel contours: what they must fulfil, whatever file they come from."""

import dataclasses

import numpy as np
import shapely

from loopdraw.loops.geometry import lift

PARALLEL = 0.1  # degrees, by which planes may differ
OFF_PLANE = 1e-3  # of the longest side, by which points may lie off their plane
MOST_LOOPS = 200_000
MOST_POINTS = 5_000_000


@dataclasses.dataclass
class Contours:
    """The contours of one plane.

    normal : (3,) float
    loops : list of (k, 3) float, in space
    labels : list of int, one per loop: what material it bounds
    at : float, where the plane lies along its normal
    """

    normal: np.ndarray
    at: float
    loops: list
    labels: list


def make_stacks(contours):
    """Sort planes along their normal and split them by label.

    Parameters
    ----------
    contours : list of Contours

    Returns
    -------
    dict from label, int, to (planes (P, 4, 3) float, loops by plane), for every label with loops

    Raises
    ------
    ValueError
        When it is no stack: fewer than two planes, planes that are not parallel or lie at the same
        place, points that are not finite or not on their plane, no loop at all, or too many.
    """
    loops = [loop for plane in contours for loop in plane.loops]
    if not loops:
        raise ValueError("it has no contours")
    if len(contours) < 2:
        raise ValueError("it has a single plane; a surface needs two or more")
    n_points = sum(map(len, loops))
    if len(loops) > MOST_LOOPS or n_points > MOST_POINTS:
        raise ValueError(
            f"it has {len(loops):,} contours of {n_points:,} points; at most {MOST_LOOPS:,} of "
            f"{MOST_POINTS:,} can be used"
        )
    points = np.concatenate(loops)
    if not np.isfinite(points).all():
        raise ValueError("a contour has points that are not finite")
    size = np.ptp(points, axis=0).max()
    if not size > 0:
        raise ValueError("its contours enclose no area")

    normal = contours[0].normal / max(np.linalg.norm(contours[0].normal), 1e-300)
    heights = np.empty(len(contours))
    for k, plane in enumerate(contours):
        length = np.linalg.norm(plane.normal)
        if not 0 < length < np.inf:
            raise ValueError(f"the normal of plane {k} has no direction")
        sine = np.linalg.norm(np.cross(plane.normal, normal)) / length
        angle = np.degrees(np.arcsin(min(sine, 1)))
        if not angle <= PARALLEL:
            raise ValueError(
                f"plane {k} is turned by {angle:.3g} degrees against plane 0; only parallel planes "
                "can be rebuilt"
            )
        heights[k] = plane.at / length * np.sign(plane.normal @ normal)
        for loop in plane.loops:
            off = np.abs(loop @ normal - heights[k]).max()
            if off > OFF_PLANE * size:
                raise ValueError(f"a contour of plane {k} lies up to {off:.3g} off its plane")
    order = np.argsort(heights, kind="stable")
    equal = np.flatnonzero(np.diff(heights[order]) <= 1e-9 * size)
    if len(equal):
        one, other = sorted(order[equal[0] : equal[0] + 2])
        raise ValueError(f"planes {one} and {other} lie at the same place; join them")

    planes = np.zeros((len(contours), 4, 3))
    planes[:, 0], planes[:, 2:] = normal, _axes(normal)
    planes[:, 1] = heights[order, None] * normal
    labels = sorted({label for plane in contours for label in plane.labels})
    stacks = {label: (planes, [[] for _ in contours]) for label in labels}
    for k, i in enumerate(order):
        for loop, label in zip(contours[i].loops, contours[i].labels, strict=True):
            stacks[label][1][k].append(loop @ planes[k, 2:].T)
    return stacks


def _axes(normal):
    """In-plane axes (2, 3) that make a right-handed frame with a unit normal."""
    least = np.eye(3)[np.abs(normal).argmin()]
    x = np.cross(least, normal)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(normal, x)])


def from_planes(planes, loops_by_plane):
    """The contours of planes (P, 4, 3) and loops (k, 2) by plane: list of Contours, label 1."""
    contours = []
    for plane, loops in zip(planes, loops_by_plane, strict=True):
        lifted = [lift(np.asarray(loop, dtype=np.float64), plane) for loop in loops]
        at = float(plane[0] @ plane[1])
        contours.append(Contours(plane[0], at, lifted, [1] * len(lifted)))
    return contours


def covers(outer, hole, normal):
    """Whether a loop (k, 3) lies inside another one of its plane, mostly."""
    axes = _axes(normal / np.linalg.norm(normal))
    inner, around = (shapely.make_valid(shapely.polygons(loop @ axes.T)) for loop in (hole, outer))
    return shapely.area(shapely.intersection(inner, around)) > 0.5 * shapely.area(inner)
