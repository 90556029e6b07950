"""Handles of the demo vases: ears, lugs, squared and rising handles, and one over the mouth.

Every handle is a tube along an arch in a vertical half plane through the axis of the vase. A point
in the half plane is (radius, y).
"""

from typing import NamedTuple

import numpy as np

from loopdraw.demo.solids import tube


class Handle(NamedTuple):
    """An arch in a vertical half plane, from the wall at `low` to the wall at `high`."""

    low: float
    high: float
    squareness: float  # 2: an ellipse, more: square, less: pointed
    lift: float  # how far the arch leans upwards, as a slope
    gap: float  # free space between handle and wall
    half_width: float  # of the tube, seen from the side
    half_depth: float  # of the tube, around the axis


def draw_handle(rng, profile, n_handles):
    """Draw the place and the form of a handle at random."""
    longest = 0.34 if n_handles == 3 else 0.5
    has_neck = profile.shoulder < 0.9
    kind = rng.choice(
        ["ear", "side", "lug", "rising"],
        p=[0.5, 0.2, 0.15, 0.15] if has_neck else [0, 0.6, 0.2, 0.2],
    )
    half_width, half_depth = rng.uniform(0.02, 0.036), rng.uniform(0.024, 0.05)
    squareness, lift, gap = rng.uniform(1.7, 3.6), rng.uniform(-0.1, 0.35), rng.uniform(0.05, 0.13)
    if kind == "ear":  # from the neck down to the shoulder
        high = rng.uniform(0.5 * profile.shoulder + 0.5 * 0.93, 0.93)
        low = profile.belly + rng.uniform(0.1, 0.8) * (profile.shoulder - profile.belly)
    elif kind == "side":  # both ends on the belly, as on a mug
        high = rng.uniform(0.68, 0.88)
        low = rng.uniform(max(profile.floor + 0.08, 0.2), 0.5)
    elif kind == "lug":  # a small ear
        high = np.clip(profile.shoulder - rng.uniform(-0.02, 0.1), 0.3, 0.88)
        low = high - rng.uniform(0.13, 0.18)
        half_width, half_depth, gap = 0.02, rng.uniform(0.02, 0.03), rng.uniform(0.045, 0.06)
    else:  # swings up beyond the lip
        high = rng.uniform(0.9, 0.94)
        low = rng.uniform(0.5, 0.65)
        lift, squareness = rng.uniform(0.6, 1.1), rng.uniform(1.8, 2.6)
    low = np.clip(low, high - longest, high - 0.13)
    return Handle(low, high, squareness, lift, gap, half_width, half_depth)


def handle_solid(handle, outside_radius, wall, angle):
    """A handle at `angle` around the axis of a body. Its ends lie inside the wall.

    Parameters
    ----------
    handle : Handle
    outside_radius : function (heights, angles) that gives the radius of the body's outside
    wall : float, thickness of the wall
    angle : float, radians

    Returns
    -------
    manifold3d.Manifold
    """
    heights = np.array([handle.low, handle.high])
    low, high = np.stack([outside_radius(heights, angle), heights], axis=1)  # (radius, y)
    t = np.linspace(0, np.pi, 60)
    along = 0.5 - 0.5 * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** (2 / handle.squareness)
    out = np.sin(t) ** (2 / handle.squareness)
    # Far enough out to clear the widest place between the two ends.
    between = np.linspace(handle.low, handle.high, 30)
    line = low[0] + (high[0] - low[0]) * np.linspace(0, 1, 30)
    bulge = np.max(outside_radius(between, angle) - line)
    reach = bulge + handle.gap + handle.half_width
    direction = np.array([1.0, handle.lift])
    arch = low + (high - low) * along[:, None] + reach * out[:, None] * direction
    # Continue both ends into the wall, to half of the radius at most.
    depth = np.minimum(wall + 0.01, 0.5 * np.array([low[0], high[0]]))
    curve = np.concatenate([[low - [depth[0], 0]], arch, [high - [depth[1], 0]]])
    return tube(curve, angle, handle.half_width, handle.half_depth)


def over_the_mouth_handle(rng, outside_radius):
    """A basket's handle, from one side of the lip over the mouth to the other."""
    height, squareness = rng.uniform(0.18, 0.38), rng.uniform(1.8, 3)
    half_width, half_depth = rng.uniform(0.018, 0.022), rng.uniform(0.025, 0.04)
    foot = 0.9
    right, left = outside_radius(np.array([foot, foot]), np.array([0, np.pi]))
    lip = max(outside_radius(np.linspace(foot, 1, 20), 0).max(), right)
    t = np.linspace(0, np.pi, 60)
    side = np.sign(np.cos(t)) * np.abs(np.cos(t)) ** (2 / squareness)
    arch = np.stack([side * lip, 0.99 + height * np.sin(t) ** (2 / squareness)], axis=1)
    curve = np.concatenate([[[right, foot]], arch, [[-left, foot]]])
    return tube(curve, 0.0, half_width, half_depth)
