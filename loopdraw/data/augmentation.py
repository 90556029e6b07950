"""Random variations of loop sequences for training, on whole batches at once.

Each shape of a batch is mirrored in the plane or not, scaled, slightly rotated and sheared, scaled
by a factor that varies smoothly with height, and its points are jittered. What comes out is again
in canonical form: 32 evenly spaced points from the one with the least u + v on, clockwise. So it
could have been sliced from a mesh, but for the jitter.

The loops that a decoder is given as its history can be disturbed as well. With true loops before
it, a decoder needs its latent for little, learns to do without, and then goes astray from its own
loops, which are never quite right.

Edits can be practised: the latent then tells of one shape, and the loops are those of another that
departs from it somewhere, as after an edit. The decoder learns to go on from there.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

# Standard deviations of what is drawn for each shape.
LOG_SCALE = 0.08  # of each in-plane axis
ROTATION = 0.12  # radians
SHEAR = 0.05
HEIGHT_SCALE = 0.10  # of each of the waves below, as a log of a factor
HEIGHT_WAVES = (0.5, 1.0, 2.0)  # how many of each fit into the height of the shape
JITTER = 0.001  # of each point; the shapes' longest side is 1

SPACING = 0.045  # of the longest wave that moves the planes, as a share of the shape's height
SAME_SPACING = 0.15  # of the shapes


class HistoryNoise(NamedTuple):
    """How much histories are disturbed at most; every shape draws its share of it."""

    missing: float = 1.0  # of the loops; half of the shapes miss none
    shift: float = 0.02  # of each loop
    log_scale: float = 0.04  # of each in-plane axis
    jitter: float = 0.004  # of each point


HISTORY = HistoryNoise()
# For a decoder with a plan, which looks at its latent anyhow. What is noise here must be small
# beside an edit, or loops would return from an edit to the plan.
PLANNED_HISTORY = HistoryNoise(missing=0.0, shift=0.006, log_scale=0.015, jitter=0.002)


class Practice(NamedTuple):
    """Edits that are practised. Numbers are standard deviations, of the largest edits.

    Every shape draws its share of them, so that there are small ones as well.
    """

    shift: float = 0.15
    log_scale: float = 0.35
    log_stretch: float = 0.12  # of each in-plane axis
    rotation: float = 0.25  # radians
    waves: float = 0.08  # of the radius, in each of 2 to 4 waves around a loop

    adds: float = 0.2  # share of edits that add loops which the latent does not tell of
    removes: float = 0.2  # share of edits that remove loops which it does tell of
    inner: float = 0.25  # share of the others that leave the first loop of each plane as it is


PRACTICE = Practice()


class Practised(NamedTuple):
    """Shapes with edits, and the shapes that their latents tell of. See `practise_edits`."""

    points: torch.Tensor  # (T, B, n, 2)
    flags: torch.Tensor  # (T, B)
    lengths: torch.Tensor  # (B,)
    is_told: torch.Tensor  # (T, B, 2) bool: False for points and flags that only the edit decides
    told_points: torch.Tensor  # (T', B, n, 2)
    told_flags: torch.Tensor  # (T', B)
    told_lengths: torch.Tensor  # (B,)


NO_SIZE = 1e-5  # float32 rounding leaves less of an end-of-sequence timestep; no loop is as small


def augment(points, flags, n_planes, generator):
    """Vary the shapes of a batch.

    Parameters
    ----------
    points : (T, B, n, 2) float, loops in plane coordinates, not normalised
    flags : (T, B) float, 1 where a loop opens a plane
    n_planes : int
    generator : torch.Generator on the device of `points`

    Returns
    -------
    (T, B, n, 2) float, in canonical form; loops of no size (padding, end of sequence) stay
    """
    n_shapes = points.shape[1]

    def normal(*shape):
        return torch.randn(*shape, generator=generator, device=points.device)

    extent = (points.amax(dim=-2) - points.amin(dim=-2)).sum(dim=-1)  # (T, B)
    angle = ROTATION * normal(n_shapes)
    scale = torch.exp(LOG_SCALE * normal(n_shapes, 2))  # (B, 2)
    mirror = torch.sign(normal(n_shapes))
    rotate = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1)
    rotate = rotate.view(n_shapes, 2, 2)
    shear = torch.eye(2, device=points.device).repeat(n_shapes, 1, 1)
    shear[:, 0, 1] = SHEAR * normal(n_shapes)
    stretch = torch.diag_embed(scale * torch.stack([mirror, torch.ones_like(mirror)], dim=-1))
    matrix = rotate @ shear @ stretch  # (B, 2, 2)
    height = (flags.cumsum(dim=0) - 1) / max(n_planes - 1, 1)  # (T, B), from 0 to 1
    log_factor = _height_waves(height, HEIGHT_SCALE, generator)
    varied = torch.einsum("tbni,bji->tbnj", points, matrix) * log_factor.exp()[..., None, None]
    varied = varied + JITTER * normal(*varied.shape)
    return torch.where((extent > NO_SIZE)[..., None, None], canonical(varied), points)


def _height_waves(height, amount, generator):
    """A sum of waves along the height (T, B), each shape's own."""
    n_shapes, device = height.shape[1], height.device
    total = torch.zeros_like(height)
    for waves in HEIGHT_WAVES:
        phase = 2 * math.pi * torch.rand(n_shapes, generator=generator, device=device)
        amplitude = amount / waves * torch.randn(n_shapes, generator=generator, device=device)
        total = total + amplitude * torch.sin(2 * math.pi * waves * height + phase)
    return total


def vary_profile(points, flags, n_planes, amount, generator):
    """Scale each shape in its planes, by a factor that varies smoothly with height.

    Loops keep their form, so they stay canonical.

    Parameters
    ----------
    points, flags, n_planes, generator : as for `augment`
    amount : float, standard deviation of the factor of a whole shape and of each wave, as a log

    Returns
    -------
    (T, B, n, 2) float
    """
    height = (flags.cumsum(dim=0) - 1) / max(n_planes - 1, 1)  # (T, B)
    log_factor = amount * torch.randn(flags.shape[1], generator=generator, device=points.device)
    log_factor = log_factor + _height_waves(height, amount, generator)
    return points * log_factor.exp()[..., None, None]


def vary_planes(points, flags, n_planes, spacing, mirrors, generator):
    """Stretch and squeeze shapes along the scan axis, and turn half of them upside down.

    A plane then lies between two of the old ones. Where these have as many loops, its own are
    interpolated; else it takes those of the nearer one.

    Parameters
    ----------
    points, flags, n_planes, generator : as for `augment`; loops of no size are left out
    spacing : float, 0 to leave the spacing of the planes as it is
    mirrors : bool

    Returns
    -------
    points : (T', B, n, 2) float
    flags : (T', B) float
    lengths : (B,) int, number of loops of each shape; what comes after them is zero
    """
    table, counts = _by_plane(points, flags, n_planes)  # (B, P, M, n, 2), (B, P)
    n_shapes, device = len(counts), points.device
    rows = torch.arange(n_shapes, device=device)[:, None]

    def uniform():
        return torch.rand(n_shapes, 1, generator=generator, device=device)

    even = torch.linspace(0, 1, n_planes, device=device)
    source = even.expand(n_shapes, n_planes)  # where each plane is taken from
    if spacing > 0:
        for waves in (1, 2, 3):
            normal = torch.randn(n_shapes, 1, generator=generator, device=device)
            amplitude = spacing * SPACING / waves**1.5 * normal
            source = source + amplitude * torch.sin(math.pi * waves * even)
        source = torch.where(uniform() < SAME_SPACING, even, source)
        source = source.cummax(dim=1).values.clamp(0, 1)
    if mirrors:
        source = torch.where(uniform() < 0.5, 1 - source, source)
    source = source * (n_planes - 1)
    low = source.floor().clamp(max=n_planes - 2).long()
    share = source - low
    near = torch.where(share > 0.5, low + 1, low)
    alike = counts[rows, low] == counts[rows, low + 1]
    share = torch.where(alike, share, (share > 0.5).to(share.dtype))[..., None, None, None]
    table = torch.lerp(table[rows, low], table[rows, low + 1], share)
    return _in_sequence(table, counts[rows, near])


def practise_edits(points, flags, n_planes, share, generator, practice=PRACTICE):
    """Edit a share of the shapes, each from some plane on.

    An edit is one of three. Loops are moved, scaled, stretched, turned and bent, all in the same
    way about the centre of their plane's first loop. Or loops are there that the latent does not
    tell of, from the second or the third of a plane on; or they are missing, though it does.

    Parameters
    ----------
    points, flags, n_planes, generator : as for `augment`; loops of no size are left out
    share : float, of the shapes
    practice : Practice

    Returns
    -------
    Practised
    """
    table, counts = _by_plane(points, flags, n_planes)  # (B, P, M, n, 2), (B, P)
    n_shapes, device = len(counts), points.device

    def uniform(*shape):
        return torch.rand(n_shapes, *shape, generator=generator, device=device)

    edited = uniform() < share
    kind = uniform()
    adds = edited & (kind < practice.adds)
    removes = edited & ~adds & (kind < practice.adds + practice.removes)
    bends = edited & ~adds & ~removes
    first_plane = (uniform() * n_planes).long()[:, None]
    onward = torch.arange(n_planes, device=device) >= first_plane  # (B, P)
    kept = torch.where(uniform() < 0.5, 1, 2)[:, None]  # loops of a plane, where others go
    # Half of what is added the latent tells of below the edit: it goes on where it should end.
    everywhere = (uniform() < 0.5)[:, None]
    fewer = torch.minimum(counts, kept)
    told = torch.where(adds[:, None] & (onward | everywhere), fewer, counts)
    actual = torch.where(removes[:, None] & onward, fewer, counts)

    numbers = torch.arange(table.shape[2], device=device)
    begins = first_plane + torch.zeros_like(numbers)  # (B, M)
    only_inner = (uniform() < practice.inner)[:, None, None]
    moved = bends[:, None, None] & onward[..., None] & ~(only_inner & (numbers == 0))
    bent = _bent(table, generator, practice)
    bent_table = torch.where(moved[..., None, None], bent, table)

    points_told, flags_told = _told(told, actual, len(numbers))
    # The first loop of an edit comes as a surprise; what follows it does not.
    first_moved = moved & (numbers == moved.long().argmax(dim=2)[..., None])
    planes = torch.arange(n_planes, device=device)[None, :, None]
    points_told &= ~(first_moved & (planes == begins[:, None]))
    surprises = ~torch.stack([points_told, flags_told], dim=-1)  # (B, P, M, 2)

    new_points, new_flags, lengths = _in_sequence(bent_table, actual)
    told_points, told_flags, told_lengths = _in_sequence(table, told)
    surprises = _in_sequence(surprises[..., None].to(table.dtype), actual)[0][..., 0]
    is_told = surprises < 0.5
    return Practised(new_points, new_flags, lengths, is_told, told_points, told_flags, told_lengths)


def _told(told, actual, n_numbers):
    """Which loops and flags follow from the latent and from the loops before them.

    Parameters
    ----------
    told, actual : (B, P) int, loops of each plane by the latent, and as they are

    Returns
    -------
    points, flags : (B, P, n_numbers) bool
    """
    numbers = torch.arange(n_numbers, device=told.device)
    below = F.pad(actual[:, :-1], (1, 0))
    agreed_below = F.pad(told[:, :-1] == actual[:, :-1], (1, 0), value=True)
    more, fewer = actual > told, actual < told
    # A loop too many surprises where the plane below has none to go on from; and wherever an edit
    # begins.
    extra = more[..., None] & (numbers >= told[..., None])
    surprise = extra & (agreed_below[..., None] | (numbers >= below[..., None]))
    # Where loops begin to be missing, the surprise is that the next one opens a plane.
    ends_early = F.pad((fewer & agreed_below)[:, :-1], (1, 0))[..., None] & (numbers == 0)
    return ~surprise, ~(surprise | ends_early)


def _bent(table, generator, practice):
    """All loops (B, P, M, n, 2) of each shape, changed in a way of its own."""
    n_shapes, device = len(table), table.device

    def normal(*shape):
        return torch.randn(n_shapes, *shape, generator=generator, device=device)

    amount = torch.rand(n_shapes, 1, generator=generator, device=device)
    angle = practice.rotation * amount[:, 0] * normal()
    scale = practice.log_scale * normal(1) + practice.log_stretch * normal(2)
    scale = torch.exp(amount * scale)
    rotate = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1)
    matrix = rotate.view(n_shapes, 2, 2) @ torch.diag_embed(scale)
    shift = (practice.shift * amount * normal(2))[:, None, None, None]
    first = table[:, :, :1]
    centre = 0.5 * (first.amin(dim=-2, keepdim=True) + first.amax(dim=-2, keepdim=True))
    offset = table - centre  # (B, P, M, n, 2)
    around = torch.atan2(offset[..., 1], offset[..., 0])
    waves = torch.zeros_like(around)
    round_shapes = torch.rand(n_shapes, 1, generator=generator, device=device) < 0.5
    for k in (2, 3, 4):
        phase = 2 * math.pi * torch.rand(n_shapes, generator=generator, device=device)
        height = practice.waves * amount * normal(1) * ~round_shapes
        waves = waves + height[..., None, None] * torch.cos(k * around + phase[:, None, None, None])
    offset = offset * (1 + waves).clamp(min=0.5)[..., None]
    bent = torch.einsum("bpmni,bji->bpmnj", offset, matrix) + centre + shift
    return canonical(bent)


def _by_plane(points, flags, n_planes):
    """Loops by plane and number, (B, P, M, n, 2), and how many each plane has, (B, P)."""
    n_steps, n_shapes, n_points, _ = points.shape
    extent = (points.amax(dim=-2) - points.amin(dim=-2)).sum(dim=-1)
    step, shape = (extent > NO_SIZE).nonzero(as_tuple=True)
    opens = flags > 0.5
    plane = opens.long().cumsum(dim=0) - 1
    steps = torch.arange(n_steps, device=points.device)[:, None].expand_as(plane)
    number = steps - torch.where(opens, steps, 0).cummax(dim=0).values
    plane, number = plane[step, shape], number[step, shape]
    table = points.new_zeros(n_shapes, n_planes, int(number.max()) + 1, n_points, 2)
    table[shape, plane, number] = points[step, shape]
    counts = torch.zeros(n_shapes, n_planes, dtype=torch.long, device=points.device)
    counts.index_put_((shape, plane), torch.ones_like(shape), accumulate=True)
    return table, counts


def _in_sequence(table, counts):
    """Undo `_by_plane`: points (T, B, n, 2), flags (T, B) and lengths (B,)."""
    lengths = counts.sum(dim=1)
    n_shapes, n_steps = len(counts), int(lengths.max())
    numbers = torch.arange(table.shape[2], device=table.device)
    taken = numbers < counts[..., None]  # (B, P, M)
    present = torch.arange(n_steps, device=table.device) < lengths[:, None]
    points = table.new_zeros(n_shapes, n_steps, *table.shape[3:])
    flags = table.new_zeros(n_shapes, n_steps)
    points[present] = table[taken]
    flags[present] = (numbers == 0).to(table.dtype).expand_as(taken)[taken]
    return points.transpose(0, 1), flags.t(), lengths


def disturb_history(points, blank, generator, noise=HISTORY):
    """Shift, scale and jitter every loop a little on its own, and blank some.

    Blanked loops make the decoder look at its latent: word dropout, from Bowman et al., Generating
    Sentences from a Continuous Space (2016). The noise stands for the decoder's own errors.

    Parameters
    ----------
    points : (T, B, n, 2) float, loops in plane coordinates, not normalised
    blank : (n, 2) float, what stands for a loop that is missing
    generator : torch.Generator on the device of `points`
    noise : HistoryNoise

    Returns
    -------
    (T, B, n, 2) float; loops of no size (padding, end of sequence) stay
    """
    n_steps, n_shapes, n_points, _ = points.shape

    def normal(*shape):
        return torch.randn(*shape, 2, generator=generator, device=points.device)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, device=points.device)

    share = uniform(n_shapes)[:, None, None]
    low, high = points.amin(dim=-2, keepdim=True), points.amax(dim=-2, keepdim=True)
    centre = 0.5 * (low + high)
    scale = torch.exp(share * noise.log_scale * normal(n_steps, n_shapes, 1))
    shift = share * noise.shift * normal(n_steps, n_shapes, 1)
    jitter = share * noise.jitter * normal(n_steps, n_shapes, n_points)
    disturbed = centre + (points - centre) * scale + shift + jitter
    missing = noise.missing * (2 * uniform(n_shapes) - 1)  # below 0: none
    missing = (uniform(n_steps, n_shapes) < missing)[..., None, None]
    sized = (high - low).sum(dim=-1, keepdim=True) > NO_SIZE
    return torch.where(sized, torch.where(missing, blank, disturbed), points)


def canonical(points):
    """Loops (..., n, 2) in canonical form: evenly spaced, least u + v first, clockwise."""
    area = _signed_area(points)
    points = torch.where((area > 0)[..., None, None], points.flip(dims=(-2,)), points)
    n_points = points.shape[-2]
    start = points.sum(dim=-1).argmin(dim=-1, keepdim=True)  # (..., 1)
    order = (start + torch.arange(n_points + 1, device=points.device)) % n_points  # closed
    closed = points.gather(-2, order[..., None].expand(*order.shape, 2))  # (..., n+1, 2)
    steps = (closed[..., 1:, :] - closed[..., :-1, :]).norm(dim=-1)  # (..., n)
    arc = torch.cat([torch.zeros_like(steps[..., :1]), steps.cumsum(dim=-1)], dim=-1)
    targets = arc[..., -1:] * torch.arange(n_points, device=points.device) / n_points
    segment = torch.searchsorted(arc.contiguous(), targets.contiguous(), right=True) - 1
    segment = segment.clamp(0, n_points - 1)  # (..., n)
    share = (targets - arc.gather(-1, segment)) / steps.gather(-1, segment).clamp(min=1e-12)
    index = segment[..., None].expand(*segment.shape, 2)
    first, second = closed.gather(-2, index), closed.gather(-2, index + 1)
    return first + share.clamp(0, 1)[..., None] * (second - first)


def _signed_area(points):
    u, v = points.unbind(dim=-1)
    return 0.5 * (u * v.roll(-1, dims=-1) - v * u.roll(-1, dims=-1)).sum(dim=-1)
