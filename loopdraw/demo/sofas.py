"""A family of sofas: armchairs to four-seaters, some with a chaise or a corner.

A sofa is put together from padded boxes, in metres, as an upholsterer would do it:

    frame      base, and a back that may lean, have a hump, or be quilted in channels
    arms       boxes, rolls, flared, padded, open wooden ones, or none
    cushions   one per seat or one long one, on the seat and against the back; some pillows
    legs       blocks, cones, buns, or a plinth
    corner     a longer last seat (chaise), or a second wing with its own back

x points from side to side, y up, z from the back to the front. x is always the longest side and the
scan axis, so every plane meets the sofa. Loop sequences need that: they cannot say that a plane is
empty.
"""

from typing import NamedTuple

import manifold3d
import numpy as np

from loopdraw.demo.solids import padded_box

SCAN_AXIS = "x"


class Plan(NamedTuple):
    """The measures of a sofa, in metres, and the kinds of its parts."""

    n_seats: int
    width: float  # of everything, x
    depth: float  # of the straight part, z
    seat: float  # height of the seat cushions' top
    back: float  # height of the back
    arm: float  # height of the arms
    arm_width: float
    back_thickness: float
    cushion: float  # thickness of the seat cushions
    softness: float  # rounding of the cushions
    puff: float  # how far their middle swells
    lean: float  # slope of the back
    legs: float  # height of the legs
    arm_kind: str
    back_kind: str
    leg_kind: str
    corner_kind: str
    corner_side: int  # -1 or 1: at which end in x
    corner_depth: float  # z
    bench: bool  # one long seat cushion

    def inner(self):
        """Where the seats start and end, in x."""
        half = self.width / 2 - self.arm_width
        return -half, half

    def open_sides(self):
        """Whether base and back can be seen from the side."""
        return self.arm_kind in ("open", "none")

    def base_top(self):
        """Top of the base. The rounded lower edges of the seat cushions are sunk into it."""
        return self.seat - self.cushion + self.softness + 0.01


def make_sofa(rng):
    """Draw one sofa.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    manifold3d.Manifold or None
        In metres. None when it is deeper or higher than wide, or in pieces. The caller then draws
        another.
    """
    plan = draw_plan(rng)
    parts = [
        *base(plan),
        *back(plan),
        *arms(plan),
        *seat_cushions(plan),
        *back_cushions(plan),
        *legs(plan),
    ]
    if plan.corner_kind == "wing":
        parts += wing(plan)
    parts += pillows(rng, plan)
    solid = manifold3d.Manifold.batch_boolean(parts, manifold3d.OpType.Add)
    pieces = solid.decompose()
    # Cushions may enclose air. Such inner surfaces become pieces with a negative volume.
    outer = [piece for piece in pieces if piece.volume() > 0]
    if len(outer) != 1:
        return None
    width, height, depth = np.diff(np.reshape(outer[0].bounding_box(), (2, 3)), axis=0)[0]
    return outer[0] if max(height, depth) <= width else None


def draw_plan(rng):
    """Draw all measures and kinds at random: see `Plan`."""
    n_seats = int(rng.choice([1, 2, 3, 4], p=[0.14, 0.3, 0.4, 0.16]))
    arm_kind = rng.choice(
        ["box", "roll", "flared", "padded", "open", "none"], p=[0.24, 0.2, 0.16, 0.18, 0.14, 0.08]
    )
    arm_width = {
        "box": rng.uniform(0.09, 0.26),
        "roll": rng.uniform(0.16, 0.26),
        "flared": rng.uniform(0.12, 0.2),
        "padded": rng.uniform(0.14, 0.24),
        "open": 0.08,
        "none": 0.0,
    }[arm_kind]
    corner_odds = {1: [1, 0, 0], 2: [0.75, 0.25, 0]}.get(n_seats, [0.5, 0.25, 0.25])
    corner_kind = rng.choice(["none", "chaise", "wing"], p=corner_odds)
    depth = rng.uniform(0.74, 0.84) if n_seats == 1 else rng.uniform(0.8, 1.02)
    width = n_seats * rng.uniform(0.56, 0.76) + 2 * arm_width + 0.1 * (n_seats == 1)
    corner_depth = min(depth + rng.uniform(0.5, 0.9), 0.95 * width)
    seat = rng.uniform(0.38, 0.46)
    back_kind = rng.choice(
        ["cushions", "bench", "tight", "camel", "channels"], p=[0.4, 0.14, 0.16, 0.16, 0.14]
    )
    if corner_kind == "wing" and back_kind in ("camel", "channels"):
        back_kind = "cushions"
    back = rng.uniform(0.64, 1.0)
    return Plan(
        n_seats=n_seats,
        width=width,
        depth=depth,
        seat=seat,
        back=back,
        arm=min(rng.uniform(0.54, 0.72), back - 0.03),
        arm_width=arm_width,
        back_thickness=rng.uniform(0.12, 0.2),
        cushion=rng.uniform(0.13, 0.2),
        softness=rng.uniform(0.03, 0.06),
        puff=rng.uniform(0.0, 0.035),
        lean=0.0 if corner_kind == "wing" else rng.uniform(0, 0.22),
        legs=rng.uniform(0.09, 0.2),
        arm_kind=arm_kind,
        back_kind=back_kind,
        leg_kind=rng.choice(["block", "cone", "bun", "plinth"], p=[0.3, 0.36, 0.18, 0.16]),
        corner_kind=corner_kind,
        corner_side=int(rng.choice([-1, 1])),
        corner_depth=corner_depth,
        bench=bool(rng.random() < 0.25),
    )


def base(plan):
    """What the seat cushions lie on."""
    top, front = plan.base_top(), plan.depth - 0.04
    half = plan.width / 2 - (0.01 if plan.open_sides() else 0.5 * plan.arm_width)
    yield padded_box((-half, plan.legs, 0.02), (half, top, front), 0.02)
    if plan.corner_kind == "chaise":
        start, end = corner_seat(plan)
        yield padded_box((start, plan.legs, 0.02), (end, top, plan.corner_depth - 0.04), 0.02)


def back(plan):
    """The back, without its cushions."""
    low, thick = plan.legs, plan.back_thickness
    whole = plan.open_sides() or plan.corner_kind == "wing" or plan.back > plan.arm + 0.12
    half = plan.width / 2 if whole else plan.inner()[1] + 0.01
    left, right = -half, half
    if plan.back_kind == "channels":
        n = 4 * plan.n_seats
        edges = np.linspace(left, right, n + 1)
        for start, end in zip(edges[:-1], edges[1:], strict=True):
            low_corner = (start - 0.004, plan.seat - 0.1, 0.01)
            channel = padded_box(low_corner, (end + 0.004, plan.back, thick + 0.06), 0.05)
            yield leaning(channel, plan)
        yield leaning(padded_box((left, low, 0), (right, plan.back - 0.03, thick), 0.02), plan)
    elif plan.back_kind == "camel":

        def hump(points):
            x, y, z = points.T
            wave = 0.08 * np.cos(2 * np.pi * x / plan.width)
            return np.stack(
                [x, y + wave * np.clip((y - plan.seat) / (plan.back - plan.seat), 0, 1), z], axis=1
            )

        board = padded_box((left, low, 0), (right, plan.back, thick + 0.06), 0.06, n_inner=13)
        yield leaning(board.warp_batch(hump), plan)
    else:
        padding, rounding = (0.06, 0.07) if plan.back_kind == "tight" else (0, 0.03)
        board = padded_box((left, low, 0), (right, plan.back, thick + padding), rounding)
        yield leaning(board, plan)


def leaning(part, plan):
    """Lean the part above the seat backwards."""

    def lean(points):
        x, y, z = points.T
        return np.stack([x, y, z - plan.lean * np.maximum(0, y - plan.seat + 0.1)], axis=1)

    return part.warp_batch(lean)


def corner_seat(plan):
    """Where the corner's seat starts and ends, in x."""
    left, right = plan.inner()
    seat_width = (right - left) / plan.n_seats
    return (left, left + seat_width) if plan.corner_side < 0 else (right - seat_width, right)


def arms(plan):
    """Both arms. A wing has its back there instead."""
    low, top, width, front = plan.legs, plan.arm, plan.arm_width, plan.depth
    for side in (-1, 1):
        if plan.arm_kind == "none" or (plan.corner_kind == "wing" and side == plan.corner_side):
            continue
        outer, inner = plan.width / 2, plan.width / 2 - width - 0.01
        if plan.arm_kind == "box":
            arm = [padded_box((inner, low, 0), (outer, top, front), 0.025)]
        elif plan.arm_kind == "padded":
            arm = [padded_box((inner, low, 0), (outer, top - 0.05, front - 0.02), 0.02)]
            arm += [padded_box((inner, top - 0.11, 0.03), (outer + 0.02, top, front + 0.01), 0.05)]
        elif plan.arm_kind == "roll":
            radius = 0.45 * width
            arm = [padded_box((inner, low, 0), (outer - 0.04, top - radius, front - 0.02), 0.02)]
            roll = manifold3d.Manifold.cylinder(front, radius, circular_segments=28)
            arm += [roll.translate((outer - radius, top - radius, 0))]
        elif plan.arm_kind == "flared":
            arm = [padded_box((inner, low, 0), (outer - 0.06, top, front), 0.035)]
            slope = 0.06 / (top - low)
            arm[0] = arm[0].transform([[1, slope, 0, -slope * low], [0, 1, 0, 0], [0, 0, 1, 0]])
        else:  # open: a rail on a post
            arm = [padded_box((inner, top - 0.06, -0.01), (outer, top, front), 0.015)]
            arm += [
                padded_box(
                    (inner + 0.01, low, front - 0.12),
                    (outer - 0.01, top - 0.02, front - 0.03),
                    0.01,
                )
            ]
        yield from (part if side > 0 else part.mirror((1, 0, 0)) for part in arm)


def seat_cushions(plan):
    """The cushions to sit on."""
    left, right = plan.inner()
    edges = np.linspace(left, right, plan.n_seats + 1)
    if plan.bench and plan.corner_kind == "none":
        edges = edges[[0, -1]]
    corner = corner_seat(plan)
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        drawn_out = plan.corner_kind == "chaise" and corner[0] < (start + end) / 2 < corner[1]
        front = plan.corner_depth if drawn_out else plan.depth
        low = (start - 0.004, plan.seat - plan.cushion, plan.back_thickness - plan.softness)
        yield padded_box(low, (end + 0.004, plan.seat, front), plan.softness, plan.puff, 5)


def back_cushions(plan):
    """The cushions to lean against. Some backs have none."""
    if plan.back_kind not in ("cushions", "bench"):
        return
    left, right = plan.inner()
    edges = np.linspace(left, right, plan.n_seats + 1)
    if plan.back_kind == "bench":
        edges = edges[[0, -1]]
    behind = plan.back_thickness - plan.softness
    # Hidden stuffing. Without it a tunnel would run along behind the rounded edges.
    low = (left, plan.seat - 0.1, behind - 0.04)
    stuffing = padded_box(low, (right, plan.seat + 0.1, plan.back_thickness + 0.05), 0.01)
    yield leaning(stuffing, plan)
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        low = (start - 0.004, plan.seat - plan.softness - 0.03, behind)
        high = (end + 0.004, plan.back + 0.04, behind + plan.softness + 0.16)
        cushion = padded_box(low, high, plan.softness + 0.01, plan.puff + 0.02, 5, swell_axis=2)
        yield leaning(cushion, plan)


def wing(plan):
    """The second wing of a corner sofa: base, back along its side, cushions."""
    end, thick, soft = plan.width / 2, plan.back_thickness, plan.softness
    inside, front = end - plan.depth, plan.corner_depth
    parts = [
        padded_box(
            (inside + 0.04, plan.legs, 0.02), (end - 0.01, plan.base_top(), front - 0.02), 0.02
        ),
        padded_box((end - thick, plan.legs, 0), (end, plan.back, front), 0.03),
    ]
    n = max(1, round((front - plan.depth) / 0.6))
    edges = np.linspace(plan.depth, front, n + 1)
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        low = (inside, plan.seat - plan.cushion, start - 0.004)
        parts += [padded_box(low, (end - thick + soft, plan.seat, stop), soft, plan.puff, 5)]
        low = (end - thick - 0.16, plan.seat - soft - 0.03, start - 0.004)
        high = (end - thick + soft, plan.back + 0.03, stop)
        parts += [padded_box(low, high, soft + 0.01, plan.puff + 0.02, 5, swell_axis=0)]
    return parts if plan.corner_side > 0 else [part.mirror((1, 0, 0)) for part in parts]


def legs(plan):
    """Legs under all corners of the base, or a plinth set back a little."""
    half, inset = plan.width / 2, 0.12
    top = plan.legs + 0.03
    if plan.leg_kind == "plinth":
        yield padded_box((-half + 0.05, 0, 0.06), (half - 0.05, top, plan.depth - 0.1), 0.01)
    places = [
        (x, z) for x in (-half + inset, half - inset) for z in (inset, plan.depth - inset - 0.04)
    ]
    if plan.n_seats > 2:
        places += [(0, inset), (0, plan.depth - inset - 0.04)]
    if plan.corner_kind != "none":
        start, end = corner_seat(plan)
        if plan.corner_kind == "wing":
            start, end = half - plan.depth + 0.05, half
            start, end = (start, end) if plan.corner_side > 0 else (-end, -start)
        front = plan.corner_depth - inset - 0.04
        if plan.leg_kind == "plinth":
            low = (start + 0.06, 0, 0.06)
            yield padded_box(low, (end - 0.06, top, front + 0.03), 0.01)
        places += [(start + inset, front), (end - inset, front)]
    for x, z in places:
        if plan.leg_kind == "block":
            yield padded_box((x - 0.045, 0, z - 0.045), (x + 0.045, top, z + 0.045), 0.008)
        elif plan.leg_kind == "cone":
            cone = manifold3d.Manifold.cylinder(top, 0.03, 0.05, circular_segments=16)
            splay = 0.25
            cone = cone.rotate((-90, 0, 0)).transform(
                [[1, -splay * np.sign(x), 0, x], [0, 1, 0, 0], [0, 0, -1, z]]
            )
            yield cone
        elif plan.leg_kind == "bun":
            bun = manifold3d.Manifold.sphere(1, 20)
            yield bun.scale((0.07, top / 2, 0.07)).translate((x, top / 2, z))


def pillows(rng, plan):
    """None to two loose pillows, leaning in the corners of the seat."""
    left, right = plan.inner()
    against = plan.back_thickness + (0.16 if plan.back_kind in ("cushions", "bench") else 0.05)
    for side, edge in ((-1, left), (1, right)):
        if plan.n_seats == 1 or rng.random() < 0.65:
            continue
        if plan.corner_kind == "wing" and side == plan.corner_side:
            continue
        size = rng.uniform(0.34, 0.44)
        half = size / 2
        pillow = padded_box((-half, -half, -0.05), (half, half, 0.05), 0.04, 0.06, 5, swell_axis=2)
        pillow = pillow.rotate((rng.uniform(-22, -8), -side * rng.uniform(0, 20), 0))
        inwards = edge - side * (half + rng.uniform(0.03, 0.12))
        pillow = pillow.translate((inwards, plan.seat + 0.85 * half, against + 0.08))
        # Fill the gap behind it: too small to see, but it would clutter the slices.
        yield manifold3d.Manifold.batch_hull([pillow, pillow.translate((0, -0.1, -0.14))])
