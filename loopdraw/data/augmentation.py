"""Random variations of loop sequences for training, on whole batches at once.

Each shape of a batch may be mirrored in the plane. It is scaled, slightly rotated and sheared, then
scaled by a factor that varies smoothly with height, and its points are jittered. The result is in
canonical form again: 32 evenly spaced points, clockwise, starting with the least u + v. Apart from
the jitter, it could have been sliced from a mesh.

The loops that a decoder gets as its history can be disturbed, too. With true loops as history, a
decoder hardly needs its latent and learns to ignore it. Then it drifts off when it continues its
own loops, which are never quite right.
"""

import math

import torch

# Standard deviations of what is drawn for each shape.
LOG_SCALE = 0.08  # of each in-plane axis
ROTATION = 0.12  # radians
SHEAR = 0.05
HEIGHT_SCALE = 0.10  # of each of the waves below, as a log of a factor
HEIGHT_WAVES = (0.5, 1.0, 2.0)  # how many of each fit into the height of the shape
JITTER = 0.001  # of each point; the shapes' longest side is 1

# Of histories, at most: each shape draws its share of these between 0 and 1.
HISTORY_MISSING = 1.0  # of the loops; half of the shapes miss none
HISTORY_SHIFT = 0.02  # of each loop
HISTORY_LOG_SCALE = 0.04  # of each in-plane axis
HISTORY_JITTER = 0.004  # of each point

NO_SIZE = 1e-5  # end-of-sequence timesteps are smaller, up to float32 rounding; loops are larger


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
    (T, B, n, 2) float, in canonical form; loops without size (padding, end of sequence) stay
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
    log_factor = torch.zeros_like(height)
    for waves in HEIGHT_WAVES:
        phase = 2 * math.pi * torch.rand(n_shapes, generator=generator, device=points.device)
        amplitude = HEIGHT_SCALE / waves * normal(n_shapes)
        log_factor = log_factor + amplitude * torch.sin(2 * math.pi * waves * height + phase)
    varied = torch.einsum("tbni,bji->tbnj", points, matrix) * log_factor.exp()[..., None, None]
    varied = varied + JITTER * normal(*varied.shape)
    return torch.where((extent > NO_SIZE)[..., None, None], canonical(varied), points)


def disturb_history(points, blank, generator):
    """Shift, scale and jitter each loop a little, and blank some.

    Blanked loops make the decoder use its latent (word dropout: Bowman et al., Generating Sentences
    from a Continuous Space, 2016). The noise imitates the decoder's own errors.

    Parameters
    ----------
    points : (T, B, n, 2) float, loops in plane coordinates, not normalised
    blank : (n, 2) float, written in place of a missing loop
    generator : torch.Generator on the device of `points`

    Returns
    -------
    (T, B, n, 2) float; loops without size (padding, end of sequence) stay
    """
    n_steps, n_shapes, n_points, _ = points.shape

    def normal(*shape):
        return torch.randn(*shape, 2, generator=generator, device=points.device)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, device=points.device)

    share = uniform(n_shapes)[:, None, None]
    low, high = points.amin(dim=-2, keepdim=True), points.amax(dim=-2, keepdim=True)
    centre = 0.5 * (low + high)
    scale = torch.exp(share * HISTORY_LOG_SCALE * normal(n_steps, n_shapes, 1))
    shift = share * HISTORY_SHIFT * normal(n_steps, n_shapes, 1)
    jitter = share * HISTORY_JITTER * normal(n_steps, n_shapes, n_points)
    disturbed = centre + (points - centre) * scale + shift + jitter
    missing = HISTORY_MISSING * (2 * uniform(n_shapes) - 1)  # below 0: none
    missing = (uniform(n_steps, n_shapes) < missing)[..., None, None]
    sized = (high - low).sum(dim=-1, keepdim=True) > NO_SIZE
    return torch.where(sized, torch.where(missing, blank, disturbed), points)


def canonical(points):
    """Loops (..., n, 2) in canonical form, as `representations.canonical_polyline`, for tensors."""
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
    """As `geometry.signed_area`, for a batch of loops (..., n, 2) on any device."""
    u, v = points.unbind(dim=-1)
    return 0.5 * (u * v.roll(-1, dims=-1) - v * u.roll(-1, dims=-1)).sum(dim=-1)
