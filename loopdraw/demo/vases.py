"""A family of vases: amphoras, bottles, jars, gourds, pitchers, mugs, urns, baskets.

A vase is made as a potter would make it, from parts that are drawn independently at random:

    profile    foot (flat, ring or pedestal), belly, neck and lip, joined by a smooth curve r(y)
    section    round, oval, polygonal or lobed, and sometimes twisted
    cavity     the profile moved inwards by the wall thickness, open at the top
    spout      the lip drawn out on one side
    handles    none to three: ears, lugs, squared, rising, or one that spans the mouth

The solid is (outside + handles) - cavity, so that no handle reaches into the cavity. The y axis
points up. A vase is at least as tall as it is wide, so every plane of a y scan meets it. Loop
sequences need that: they cannot say that a plane is empty.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from loopdraw.demo.handles import draw_handle, handle_solid, over_the_mouth_handle
from loopdraw.demo.solids import solid_from_rings

SCAN_AXIS = "y"

N_ANGLES = 64
N_ROWS = 40
N_PROFILE_SAMPLES = 501
HEIGHTS = np.linspace(0, 1, N_PROFILE_SAMPLES)
FOOT_ROUNDING = 0.012


class Profile(NamedTuple):
    """Half a vertical section through a vase of height 1, sampled at `HEIGHTS`."""

    radius: np.ndarray  # of the outside, without relief
    relief: np.ndarray  # rings and a rolled lip, on the outside only
    floor: float  # height where the belly starts, above foot or pedestal
    belly: float  # height where the belly is widest
    shoulder: float  # height where the belly ends and the neck starts


class Section(NamedTuple):
    """The shape of the horizontal sections, and how it changes with height."""

    kind: str
    count: int  # sides or lobes
    strength: float  # sharpness of corners, depth of lobes, or aspect ratio
    twist: float  # radians from foot to lip
    reach: tuple  # heights (fade-in start, end, fade-out start, end) outside of which it is round


class Body(NamedTuple):
    profile: Profile
    section: Section
    wall: float


def make_vase(rng):
    """Draw one vase.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    manifold3d.Manifold or None
        Not yet scaled. None when the parts do not fit together: a handle touches the body in a
        third place, or the vase is wider than tall. The caller then draws another.
    """
    wall = rng.uniform(0.038, 0.055)
    profile = draw_profile(rng, wall)
    body = Body(profile, draw_section(rng, profile), wall)
    radius = functools.partial(outside_radius, body)
    outside, cavity = body_rings(body)

    n_handles = rng.choice([0, 1, 2, 3], p=[0.34, 0.24, 0.3, 0.12])
    spouted = n_handles < 2 and profile.radius[-1] > 0.1 and rng.random() < 0.4
    if spouted:
        width, length, rise = rng.uniform(0.45, 0.8), rng.uniform(0.25, 0.6), rng.uniform(0, 0.06)
        outside = draw_out_spout(outside, width, length, rise)
        cavity = draw_out_spout(cavity, width, length, rise)

    solid = solid_from_rings(outside)
    if n_handles == 1 and not spouted and profile.radius[-1] > 0.14 and rng.random() < 0.4:
        solid += over_the_mouth_handle(rng, radius)
    elif n_handles:
        handle = draw_handle(rng, profile, n_handles)
        for k in range(n_handles):
            # Loops are sorted by area, and equal handles would give loops of equal area. So each
            # handle is a little thinner than the last, and the order is never random.
            thinner = handle._replace(
                half_width=handle.half_width * (1 - 0.05 * k),
                half_depth=handle.half_depth * (1 - 0.05 * k),
            )
            solid += handle_solid(thinner, radius, wall, 2 * np.pi * k / n_handles)
    solid -= solid_from_rings(cavity)
    width_x, height, width_z = np.diff(np.reshape(solid.bounding_box(), (2, 3)), axis=0)[0]
    fits = solid.genus() == n_handles and max(width_x, width_z) <= height
    return solid if fits else None


def draw_profile(rng, wall):
    """Draw foot, belly, neck and lip, and join them by a smooth curve: see `Profile`."""
    width = rng.uniform(0.19, 0.42)
    neck = rng.choice(["none", "short", "long"], p=[0.3, 0.35, 0.35])
    foot_points, floor, bottom = draw_foot(rng, width)
    shoulder = {
        "none": rng.uniform(0.93, 0.96),
        "short": rng.uniform(0.76, 0.86),
        "long": rng.uniform(0.52, 0.7),
    }[neck]
    throat = width * (rng.uniform(0.55, 0.95) if neck == "none" else rng.uniform(0.3, 0.58))
    throat = max(throat, 2.1 * wall)
    belly_points, belly = draw_belly(rng, neck, floor, shoulder, width, bottom, throat)
    neck_points, relief = draw_neck_and_lip(rng, neck, shoulder, belly_points[-1][1])
    if floor > 0.1 and rng.random() < 0.5:  # a knot in the stem of the pedestal
        relief = relief + ring(0.65 * floor, rng.uniform(0.014, 0.024), 1)

    points = foot_points + belly_points + neck_points
    radius = PchipInterpolator(*np.transpose(points))(HEIGHTS)
    radius = np.maximum(gaussian_filter1d(radius, 6, mode="nearest"), 1.9 * wall)
    return Profile(radius, relief, floor, belly, shoulder)


def draw_foot(rng, width):
    """Draw a flat foot, a ring or a pedestal under a belly of this greatest radius.

    Returns
    -------
    points : list of (height, radius)
    floor : float, height where the belly starts
    bottom : float, its radius there
    """
    kind = rng.choice(["flat", "ring", "pedestal"], p=[0.4, 0.35, 0.25])
    if kind == "flat":
        return [], 0.0, width * rng.uniform(0.45, 0.8)
    if kind == "ring":
        floor = rng.uniform(0.04, 0.07)
        bottom = max(width * rng.uniform(0.36, 0.64), 0.08)
        return [(0, bottom * rng.uniform(1.1, 1.3)), (0.4 * floor, bottom * 1.08)], floor, bottom
    floor = rng.uniform(0.12, 0.26)
    bottom = max(width * rng.uniform(0.25, 0.4), 0.075)
    disc = max(width * rng.uniform(0.5, 0.8), bottom * 1.5)
    return [(0, disc), (0.12 * floor, disc * 0.97), (0.65 * floor, bottom * 0.9)], floor, bottom


def draw_belly(rng, neck, floor, shoulder, width, bottom, throat):
    """Draw the belly, from radius `bottom` at height `floor` to `throat` at `shoulder`.

    Returns
    -------
    points : list of (height, radius)
    belly : float, height where it is widest
    """
    rise = shoulder - floor
    kinds = ["round", "shouldered", "pear", "straight", "gourd", "flaring"]
    # A long neck on a straight or flaring body would look broken.
    odds = [0.25, 0.25, 0.15, 0.15, 0.08, 0.12] if neck != "long" else [0.4, 0.25, 0.25, 0, 0.1, 0]
    kind = rng.choice(kinds, p=odds)
    if kind == "straight":
        belly = floor + 0.5 * rise
        points = [(floor, width * rng.uniform(0.75, 0.95)), (floor + 0.12 * rise, width * 0.97)]
        points += [(floor + rng.uniform(0.7, 0.88) * rise, width)]
    elif kind == "flaring":
        throat, belly = width, floor + 0.6 * rise
        points = [(floor, bottom), (floor + 0.45 * rise, width * rng.uniform(0.5, 0.75))]
    elif kind == "gourd":
        belly = floor + 0.3 * rise
        waist = max(width * rng.uniform(0.4, 0.6), 0.11)
        points = [(floor, bottom), (belly, width), (floor + 0.58 * rise, waist)]
        points += [(floor + 0.78 * rise, width * rng.uniform(0.62, 0.8))]
    else:
        at = {"round": (0.42, 0.6), "shouldered": (0.66, 0.82), "pear": (0.22, 0.36)}
        belly = floor + rng.uniform(*at[kind]) * rise
        full = rng.uniform(0.74, 0.9)
        points = [(floor, bottom), ((floor + belly) / 2, bottom + full * (width - bottom))]
        points += [(belly, width)]
        if kind != "pear":
            points += [((belly + shoulder) / 2, throat + full * (width - throat))]
    return [*points, (shoulder, throat)], belly


def draw_neck_and_lip(rng, neck, shoulder, throat):
    """Draw the part above the shoulder: points (height, radius), and relief at `HEIGHTS`."""
    points, relief = [], np.zeros_like(HEIGHTS)
    if neck == "long":
        points += [(0.5 * (shoulder + 0.95), throat * rng.uniform(0.8, 0.95))]
    if neck != "none":
        points += [(0.93, throat * rng.uniform(0.9, 1.05))]
        if rng.random() < 0.35:
            relief = relief + ring(shoulder + 0.02, rng.uniform(0.012, 0.02), 0.9)
    lip = rng.choice(["plain", "flared", "rolled"], p=[0.35, 0.4, 0.25])
    below = points[-1][1] if points else throat
    if lip == "rolled":
        relief = relief + ring(1 - rng.uniform(0.02, 0.03), rng.uniform(0.022, 0.03), 0.8)
    return [*points, (1, below + (rng.uniform(0.02, 0.09) if lip == "flared" else 0.004))], relief


def ring(height, size, bulge):
    """Relief of a moulded ring at `height`: it is `2 * size` high and `bulge * size` deep."""
    return bulge * size * np.sqrt(np.maximum(0, 1 - ((HEIGHTS - height) / size) ** 2))


def draw_section(rng, profile):
    """Draw the shape of the horizontal sections: see `Section`."""
    kind = rng.choice(["round", "oval", "polygon", "lobed"], p=[0.4, 0.12, 0.26, 0.22])
    count = {"polygon": rng.integers(4, 7), "lobed": rng.integers(3, 9)}.get(kind, 0)
    strength = {
        "round": 0,
        "oval": rng.uniform(0.62, 0.85),
        "polygon": rng.uniform(6, 11) * count / 4,
        "lobed": rng.uniform(0.3, 0.55) / max(count, 1),
    }[kind]
    twist = rng.uniform(0.5, 1.6) * rng.choice([-1, 1]) if rng.random() < 0.45 else 0.0
    reach = (-2, -1, 2, 3)
    if rng.random() < 0.55:  # only the belly: foot and neck stay round
        low, high = profile.floor, profile.shoulder
        reach = (low - 0.02, low + 0.3 * (high - low), high - 0.3 * (high - low), high)
    return Section(kind, int(count), float(strength), float(twist * (count > 0)), reach)


def section_factor(section, height, angle):
    """The factor of the radius at these heights and angles (arrays that broadcast)."""
    angle = angle - section.twist * (height - 0.5)
    if section.kind == "oval":
        factor = section.strength / np.hypot(section.strength * np.cos(angle), np.sin(angle))
    elif section.kind == "polygon":
        # The p-norm of the distances to the sides: a polygon with rounded corners.
        sides = 2 * np.pi * np.arange(section.count) / section.count
        towards = np.maximum(0, np.cos(np.expand_dims(angle, -1) - sides))
        factor = (towards**section.strength).sum(-1) ** (-1 / section.strength)
        factor /= np.sqrt(section.count / np.pi * np.tan(np.pi / section.count))  # same area
    elif section.kind == "lobed":
        factor = 1 + section.strength * (np.abs(np.cos(section.count / 2 * angle)) * 2 - 1.3)
    else:
        return np.ones(np.broadcast_shapes(np.shape(height), np.shape(angle)))
    start, full_from, full_to, end = section.reach
    weight = smooth_step(start, full_from, height) * (1 - smooth_step(full_to, end, height))
    return 1 + weight * (factor - 1)


def smooth_step(start, end, values):
    """0 before `start`, 1 after `end`, and a smooth step between them."""
    x = np.clip((values - start) / (end - start), 0, 1)
    return x * x * (3 - 2 * x)


def outside_radius(body, height, angle):
    """Radius of the outside of a body, without the rounding of foot and lip."""
    radius = np.interp(height, HEIGHTS, body.profile.radius + body.profile.relief)
    return radius * section_factor(body.section, height, angle)


def body_rings(body):
    """The outside and the cavity of a body, each as rings of points (rows, N_ANGLES, 3)."""
    profile, wall = body.profile, body.wall
    outer = profile.radius + profile.relief
    inner = moved_inwards(profile.radius, wall)
    # Round the lip on both sides of the wall, and the edge of the foot.
    lip = 0.4 * wall
    lip_rounding = 0.85 * quarter_circle((HEIGHTS - (1 - lip)) / lip) * lip
    outer = outer - lip_rounding - FOOT_ROUNDING * quarter_circle(1 - HEIGHTS / FOOT_ROUNDING)
    inner = inner + lip_rounding
    # The cavity ends in a bowl above the foot, and reaches a little beyond the mouth.
    bottom = profile.floor + wall
    bowl = np.minimum(0.12, 0.5 * (profile.shoulder - bottom))
    inner = inner * (1 - 0.9 * quarter_circle(1 - (HEIGHTS - bottom) / bowl))

    outside_rows = well_spaced(HEIGHTS, outer, N_ROWS)
    inside = HEIGHTS >= bottom
    cavity_rows = well_spaced(HEIGHTS[inside], inner[inside], int(0.75 * N_ROWS))
    angles = 2 * np.pi * np.arange(N_ANGLES) / N_ANGLES

    def rings(rows, radii):
        rows = rows[:, None]
        angle = angles + body.section.twist * (rows - 0.5)  # columns of points follow the twist
        radius = np.interp(rows, HEIGHTS, radii) * section_factor(body.section, rows, angle)
        return np.stack([radius * np.cos(angle), rows + 0 * angle, radius * np.sin(angle)], axis=-1)

    cavity = rings(cavity_rows, inner)
    above = cavity[-1:] + [0, 0.02, 0]
    return rings(outside_rows, outer), np.concatenate([cavity, above])


def moved_inwards(radius, wall):
    """The profile that is `wall` inside the profile `radius`, measured at right angles to it.

    A wall of constant horizontal thickness would be paper-thin at a flat shoulder.
    """
    step = HEIGHTS[1] - HEIGHTS[0]
    shifts = np.arange(-int(wall / step), int(wall / step) + 1)
    index = np.clip(np.arange(len(radius)) + shifts[:, None], 0, len(radius) - 1)
    return (radius[index] - np.sqrt(wall**2 - (shifts[:, None] * step) ** 2)).min(axis=0)


def quarter_circle(x):
    """0 up to x = 0, then 1 - sqrt(1 - x^2), and 1 from x = 1 on."""
    return 1 - np.sqrt(1 - np.clip(x, 0, 1) ** 2)


def well_spaced(heights, radii, n):
    """`n` heights, close together where the profile is flat or bends."""
    d_height, d_radius = np.diff(heights), np.diff(radii)
    turning = np.abs(np.diff(np.unwrap(np.arctan2(d_radius, d_height)), prepend=0))
    turning[0] = 0
    cost = np.hypot(d_height, d_radius) + 0.03 * turning
    cost = np.concatenate([[0], np.cumsum(cost)])
    return np.interp(np.linspace(0, cost[-1], n), cost, heights)


def draw_out_spout(points, width, length, rise):
    """Pull the lip out towards -x, opposite the first handle.

    `width` is in radians, `length` a share of the radius, `rise` a share of the height.
    """
    x, y, z = np.moveaxis(points, -1, 0)
    away = np.angle(np.exp(1j * (np.arctan2(z, x) - np.pi)))
    pull = np.exp(-((away / width) ** 2)) * smooth_step(0.72, 1.02, y) ** 1.5
    return np.stack([x * (1 + length * pull), y + rise * pull, z * (1 - 0.2 * pull)], axis=-1)
