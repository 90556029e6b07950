"""Loops to feature sequences and back.

A sequence (T, F) has one loop per timestep: plane by plane, within a plane by decreasing area.

==================  ==  ===========================================================
name                id  features
==================  ==  ===========================================================
ellipse-single      0   cx, cy, a, b, phi: one ellipse per plane, fitted to all its loops
ellipse-multiple    1   cx, cy, a, b, phi, flag: one ellipse per loop
fixed-res-polyline  3   u0, v0, ..., u31, v31, flag: 32 points along the loop
==================  ==  ===========================================================

The flag is 1 for the first loop of a plane ("level up") and 0 for the others.
"""

import dataclasses

import numpy as np

from loopdraw.loops import geometry

POLYLINE_POINTS = 32  # of a loop in a fixed-res-polyline timestep
ELLIPSE_POINTS = 64  # of the polygon that stands for an ellipse

# A timestep ends the sequence only in the upper part of the shape, and only if it is this small, by
# the root of the summed squared distances of its points to their centroid, or its largest
# ellipse parameter.
EOS_FIRST_PLANE = 0.6
EOS_POLYLINE_SIZE = 0.02
EOS_ELLIPSE_SIZE = 0.005

# Points whose u + v differ by less than this, relative to the loop's size, are equally good starts.
# The float32 rounding of a stored loop is ten times smaller.
START_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Representation:
    """How a loop is written as numbers: `id` is the `loop_repr_type` stored in caches."""

    name: str
    id: int
    n_features: int
    has_flag: bool

    @property
    def is_polyline(self):
        return self.name == "fixed-res-polyline"


REPRESENTATIONS = {
    representation.name: representation
    for representation in (
        Representation("ellipse-single", 0, 5, False),
        Representation("ellipse-multiple", 1, 6, True),
        Representation("fixed-res-polyline", 3, 2 * POLYLINE_POINTS + 1, True),
    )
}


def representation_with_id(id):
    """The representation stored in caches as `loop_repr_type` = `id`; ValueError if unknown."""
    for representation in REPRESENTATIONS.values():
        if representation.id == id:
            return representation
    known = ", ".join(f"{r.id} ({r.name})" for r in REPRESENTATIONS.values())
    raise ValueError(f"no loop representation has the id {id}; known are {known}")


# ------------------------------------------------------------------------------ loops to sequence


def loops_to_sequence(loops_by_plane, representation):
    """Write the loops of a shape as a feature sequence.

    Parameters
    ----------
    loops_by_plane : list, per plane, of lists of (k, 2) float loops, k >= 3
    representation : Representation

    Returns
    -------
    sequence : (T, n_features) float32, without end-of-sequence timestep or padding
    plane_index : (T,) int32, the plane each timestep comes from

    Raises
    ------
    ValueError
        When a loop has points that are not finite, fewer than 3 points, or no length.
    """
    timesteps, plane_index = [], []
    for plane, loops in enumerate(loops_by_plane):
        if not loops:
            continue
        loops = geometry.sort_by_area([_checked(loop, plane) for loop in loops])
        if representation.is_polyline:
            features = [canonical_polyline(loop).ravel() for loop in loops]
        elif representation.has_flag:
            features = [fit_ellipse([loop]) for loop in loops]
        else:
            features = [fit_ellipse(loops)]
        for i, feature in enumerate(features):
            flag = [float(i == 0)] if representation.has_flag else []
            timesteps.append(np.concatenate([feature, flag]))
            plane_index.append(plane)
    sequence = np.array(timesteps, dtype=np.float32).reshape(-1, representation.n_features)
    return sequence, np.array(plane_index, dtype=np.int32)


def _checked(loop, plane):
    loop = np.asarray(loop, dtype=np.float64)
    if loop.ndim != 2 or loop.shape[1] != 2:
        raise ValueError(f"a loop of plane {plane} has shape {loop.shape}, not (k, 2)")
    if not np.isfinite(loop).all():
        raise ValueError(f"a loop of plane {plane} has points that are not finite")
    if len(loop) < 3 or not np.ptp(loop, axis=0).any():
        raise ValueError(f"a loop of plane {plane} has fewer than 3 points or no length")
    return loop


def canonical_polyline(loop, n_points=POLYLINE_POINTS):
    """Evenly spaced points along a loop, in the order in which polylines are stored.

    First the loop is reordered: it starts at the vertex with the least u + v and runs clockwise in
    (u, v). Then it is resampled. So the result does not depend on where the given loop starts or
    which way it runs, and its first point has the least u + v of the whole curve.

    Parameters
    ----------
    loop : (k, 2) float
    n_points : int

    Returns
    -------
    (n_points, 2) float, all distinct
    """
    if geometry.signed_area(loop) > 0:
        loop = loop[::-1]
    sums = loop.sum(axis=1)
    # The ends of an edge along u + v = const tie. Take the one with the least u, so that rounding
    # does not decide.
    tied = np.flatnonzero(sums <= sums.min() + START_TOLERANCE * np.ptp(loop, axis=0).sum())
    start = tied[loop[tied, 0].argmin()]
    return geometry.resample_loop(np.roll(loop, -start, axis=0), n_points)


def fit_ellipse(loops):
    """The ellipse with the mean and covariance of points spread evenly along the given loops.

    In the limit of many sample points the sums are integrals over straight segments, which have a
    closed form. With singular values s and right singular vectors V of n
    centred samples, (a, b) = sqrt(2 s^2 / n) and phi is the angle of the first row of V.

    Parameters
    ----------
    loops : list of (k, 2) float, taken together

    Returns
    -------
    (5,) float: cx, cy, a, b, phi; a >= b, phi in [0, pi)
    """
    starts = np.concatenate(loops)
    ends = np.concatenate([np.roll(loop, -1, axis=0) for loop in loops])
    lengths = np.linalg.norm(ends - starts, axis=1)
    weights = lengths / lengths.sum()
    centre = weights @ (starts + ends) / 2
    middles, halves = (starts + ends) / 2 - centre, (ends - starts) / 2
    # Mean of x x^T over the segment m + t h, t in [-1, 1], is m m^T + h h^T / 3.
    covariance = (weights[:, None] * middles).T @ middles + (
        weights[:, None] * halves
    ).T @ halves / 3
    variances, axes = np.linalg.eigh(covariance)
    b, a = np.sqrt(2 * np.maximum(variances, 0))
    # A circle has no first axis: 0, instead of whatever rounding gives.
    phi = np.arctan2(axes[1, 1], axes[0, 1]) % np.pi if a - b > 1e-9 * a else 0.0
    if np.float32(phi) >= np.float32(np.pi):
        phi = 0.0
    return np.array([centre[0], centre[1], a, b, phi])


def ellipse_loop(parameters, n_points=ELLIPSE_POINTS):
    """Points of the ellipse (cx, cy, a, b, phi): centre + R(phi) (a sin t, b cos t).

    Returns
    -------
    (n_points, 2) float, clockwise in (u, v) for positive a and b
    """
    cx, cy, a, b, phi = parameters
    t = 2 * np.pi * np.arange(n_points) / n_points
    along, across = a * np.sin(t), b * np.cos(t)
    return np.stack(
        [
            cx + np.cos(phi) * along - np.sin(phi) * across,
            cy + np.sin(phi) * along + np.cos(phi) * across,
        ],
        axis=1,
    )


def eos_timestep(representation):
    """The timestep that ends a sequence: all features 0, flag 1. (n_features,) float32.

    Raises
    ------
    ValueError
        For a representation without a flag: its end would look like padding.
    """
    if not representation.has_flag:
        raise ValueError(f"{representation.name} has no flag and so no end-of-sequence timestep")
    timestep = np.zeros(representation.n_features, dtype=np.float32)
    timestep[-1] = 1
    return timestep


# ------------------------------------------------------------------------------ sequence to loops


def sequence_planes(sequence, n_planes, representation, use_eos_token):
    """The plane of each timestep of a sequence, from its flags.

    ===========================================  ==================================
    timestep                                     plane
    ===========================================  ==================================
    all zero                                     -1 (padding)
    flag > 0.5                                   the next plane
    flag <= 0.5                                  the same plane as the one before
    the first one, whatever its flag             0
    past the last plane                          -1 (dropped)
    an end of sequence and all that follow it    -1 (dropped); see `_is_eos`
    ===========================================  ==================================

    Without a flag (ellipse-single), timestep i lies in plane i.

    Parameters
    ----------
    sequence : (T, n_features) float, un-normalised
    n_planes : int
    representation : Representation
    use_eos_token : bool

    Returns
    -------
    (T,) int

    Raises
    ------
    ValueError
        When the number of features is wrong or values are not finite.
    """
    sequence = _checked_sequence(sequence, representation)
    used = sequence.any(axis=1)
    if not representation.has_flag:
        planes = np.arange(len(sequence))
    else:
        # A flag outside [-1, 1] is a raw logit; as sigmoid(1) > 0.5 > sigmoid(-1), the threshold
        # of 0.5 reads logits and probabilities alike.
        opens = used & (sequence[:, -1] > 0.5)
        if used.any():
            opens[used.argmax()] = True
        planes = np.cumsum(opens) - 1
        if use_eos_token:
            late = planes >= round(EOS_FIRST_PLANE * n_planes)
            ends = opens & late & _is_eos(sequence, representation)
            used = used & ~np.logical_or.accumulate(ends)
    return np.where(used & (planes < n_planes), planes, -1)


def _checked_sequence(sequence, representation):
    sequence = np.asarray(sequence, dtype=np.float64)
    if sequence.ndim != 2 or sequence.shape[1] != representation.n_features:
        raise ValueError(
            f"a {representation.name} sequence has shape (T, {representation.n_features}), "
            f"not {sequence.shape}"
        )
    if not np.isfinite(sequence).all():
        raise ValueError("the loop sequence has values that are not finite")
    return sequence


def _is_eos(sequence, representation):
    """Which timesteps (T, n_features) are small enough to end a sequence, (T,) bool."""
    features = sequence[:, :-1]
    if not representation.is_polyline:
        return np.abs(features).max(axis=1) <= EOS_ELLIPSE_SIZE
    points = features.reshape(-1, POLYLINE_POINTS, 2)
    offsets = points - points.mean(axis=1, keepdims=True)
    return np.sqrt((offsets**2).sum(axis=(1, 2))) <= EOS_POLYLINE_SIZE


def sequence_to_loops(sequence, n_planes, representation, use_eos_token, plane_index=None):
    """Rebuild the loops of every plane from a feature sequence.

    Parameters
    ----------
    sequence : (T, n_features) float, un-normalised
    n_planes : int
    representation : Representation
    use_eos_token : bool, whether sequences of this dataset end with an end-of-sequence timestep
    plane_index : (T',) int, optional
        The true plane of each timestep, known for ground truth; it replaces the flags. Timesteps
        with -1, or beyond T', are left out.

    Returns
    -------
    list, per plane, of lists of (k, 2) float64 loops in the order of the sequence; 32 points from a
    polyline, 64 from an ellipse

    Raises
    ------
    ValueError
        When the number of features is wrong or values are not finite.
    """
    sequence = _checked_sequence(sequence, representation)
    if plane_index is None:
        planes = sequence_planes(sequence, n_planes, representation, use_eos_token)
    else:
        planes = np.full(len(sequence), -1)
        known = np.asarray(plane_index, dtype=int)[: len(sequence)]
        planes[: len(known)] = np.where(known < n_planes, known, -1)
        planes[~sequence.any(axis=1)] = -1
    loops_by_plane = [[] for _ in range(n_planes)]
    for timestep in np.flatnonzero(planes >= 0):
        if representation.is_polyline:
            loop = sequence[timestep, :-1].reshape(POLYLINE_POINTS, 2)
        else:
            loop = ellipse_loop(sequence[timestep, :5])
        loops_by_plane[planes[timestep]].append(loop)
    return loops_by_plane
