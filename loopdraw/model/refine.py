"""From the encoder's latent of a shape to one whose decoded shape is nearer.

An encoder is trained once for all shapes, so its answer for a single one can be improved: descend
the loss of that one shape with respect to its latent, the networks held fixed. What that gains is
the amortisation gap (Cremer, Li and Duvenaud, Inference Suboptimality in Variational Autoencoders,
ICML 2018; for descending from the encoder's answer see Kim et al., Semi-Amortized Variational
Autoencoders, ICML 2018). What is minimised is, for a shape x,

    loss(x given z, every true loop before the next) + PRIOR_WEIGHT |z|² / 2,

the negative logarithm of a normal prior being |z|² / 2 and a constant. This is no promise for the
shape that the model decodes by itself, so latents are kept on the way, decoded, and compared with
the true loops; the best one is taken, and the encoder's is among them.
"""

import math
import time
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from loopdraw.model.vae import PLAN_SHARE

STEPS, LEARNING_RATE = 120, 0.06
BETAS = (0.9, 0.98)  # of Adam
KEPT = 6  # latents kept on the way
PRIOR_WEIGHT = 1e-4  # as the KL term of the demo's model, whose loss is a mean over timesteps
MISSING = 4.0  # error of a loop too many or too few; 2 is usual between loops of unlike shapes
DECODING_SHARE = 0.4  # of the time, kept for decoding


class Refined(NamedTuple):
    """Latents of B shapes after refining."""

    z: torch.Tensor  # (B, L)
    sequences: np.ndarray  # (B, T, F) decoded from them, not normalised
    errors: np.ndarray  # (B,) of the decoded loops, see `loop_errors`
    errors_before: np.ndarray  # (B,) the same of the latents given
    steps: int  # taken


def refine(model, batch, z, *, steps=STEPS, seconds=None, learning_rate=LEARNING_RATE):
    """Improve latents of a batch of shapes, each on its own.

    Parameters
    ----------
    model : LoopSeqEncoderDecoderModel
    batch : Batch of B shapes
    z : (B, L) tensor, where to start: the encoder's means
    steps : int, at most that many steps of Adam
    seconds : float, or None for no limit. When time is short, fewer steps are taken, so the result
        then depends on the machine.
    learning_rate : float, falls to zero over the steps (half a cosine)

    Returns
    -------
    Refined. No shape's decoded loops are farther from the true ones than those of the latent given.
    """
    started = time.monotonic()
    model.eval()
    # Tensors made in inference mode take no gradients; copies made outside do. cuDNN's LSTMs take
    # none in evaluation mode.
    with torch.inference_mode(False), torch.enable_grad(), torch.backends.cudnn.flags(False):
        batch = batch._replace(
            inputs=batch.inputs.clone(),
            targets=batch.targets.clone(),
            padding=batch.padding.clone(),
        )
        z = z.detach().clone()
        true = _sequences(model, batch)
        sequences = [model.decode(z.cpu())]
        decoding = time.monotonic() - started
        limit = math.inf
        if seconds is not None:
            # All kept latents are decoded as one batch, which takes at most as long as one by one.
            limit = seconds - min(KEPT * decoding, DECODING_SHARE * seconds)
        kept, done = descend(model, batch, z, steps, learning_rate, started, limit)
        if kept:
            decoded = model.decode(torch.cat(kept).cpu())
            sequences += np.split(decoded, len(kept))
    latents = torch.stack([z, *kept])  # (1 + kept, B, L)
    errors = np.stack([loop_errors(model.info, true, found) for found in sequences])
    best, every = errors.argmin(axis=0), np.arange(len(z))  # the first of equals
    return Refined(
        latents[torch.from_numpy(best).to(z.device), torch.from_numpy(every).to(z.device)],
        np.stack(sequences)[best, every],
        errors[best, every],
        errors[0],
        done,
    )


def descend(model, batch, start, steps, learning_rate, started=0.0, limit=math.inf):
    """Go down the loss of each shape of a batch, see the top of this file.

    Parameters
    ----------
    model, batch, steps, learning_rate : as for `refine`
    start : (B, L) tensor
    started, limit : time.monotonic() before, and how many seconds after it to stop

    Returns
    -------
    list of latents (B, L) kept on the way, the last one last; the number of steps taken
    """
    z = start.clone().requires_grad_(True)
    mean, square = torch.zeros_like(z), torch.zeros_like(z)  # of the gradients
    kept, share, step, last = [], 0.0, 0, 0.0
    while step < steps:
        before = time.monotonic() - started
        if before + last > limit:
            break
        if math.isfinite(limit):
            share = max(share, before / limit)
        share = max(share, step / steps)
        rate = learning_rate * 0.5 * (1 + math.cos(math.pi * share))
        # A sum: each shape's gradient, and Adam's step, are then its own.
        loss = (shape_losses(model, batch, z) + PRIOR_WEIGHT / 2 * z.square().sum(dim=1)).sum()
        (gradient,) = torch.autograd.grad(loss, [z])
        if not torch.isfinite(gradient).all():
            break
        step += 1
        with torch.no_grad():
            # Adam (Kingma and Ba, ICLR 2015, algorithm 1). torch.optim's imports a compiler first,
            # which takes as long as all the steps.
            mean.lerp_(gradient, 1 - BETAS[0])
            square.lerp_(gradient.square(), 1 - BETAS[1])
            of_mean, of_square = (1 - beta**step for beta in BETAS)
            z -= rate * (mean / of_mean) / ((square / of_square).sqrt() + 1e-8)
        last = time.monotonic() - started - before if step > 1 else 0.0  # the first one warms up
        if share >= (len(kept) + 1) / (KEPT + 1):
            kept.append(z.detach().clone())
    if step:
        kept.append(z.detach().clone())
    return kept[-KEPT:], step


def shape_losses(model, batch, z):
    """The teacher-forced loss of each shape of a batch, (B,), as training weighs its terms.

    The mean over the shape's own timesteps, so that it does not depend on the rest of the batch.
    With version 4 of the transformer, true flags say where the next loops lie and the plan's own
    flags and points count as well; the first flag, which always opens a plane, does not.
    """
    present = (~batch.padding[1:]).to(z.dtype)  # (T, B)
    flags_count = present
    parts = []  # outputs with the flag last, and their weight
    if model.is_planned:
        plan, flags = model.decoder.plan(z), batch.targets[..., -1]
        outputs = model.decoder(batch.inputs[:-1], z, next_flags=flags, plan=plan)
        planned = model.decoder.read_plan(plan, flags)
        parts = [(outputs, 1.0), (planned, PLAN_SHARE)]
        flags_count = present.clone()
        flags_count[0] = 0
    else:
        parts = [(model.teacher_forced(batch, z), 1.0)]
    has_flag = model.info.representation.has_flag
    n_values = batch.targets.shape[-1] - int(has_flag)
    n_present = present.sum(dim=0)
    losses = 0
    for outputs, weight in parts:
        difference = outputs[..., :n_values] - batch.targets[..., :n_values]
        error = difference.square() if model.reco_loss_type == "l2" else difference.abs()
        loss = (error.mean(dim=-1) * present).sum(dim=0)
        if has_flag:
            entropy = F.binary_cross_entropy_with_logits(
                outputs[..., -1], batch.targets[..., -1], reduction="none"
            )
            loss = loss + model.binary_flag_loss_weight * (entropy * flags_count).sum(dim=0)
        losses = losses + weight * loss / n_present
    return losses


def _sequences(model, batch):
    """The true sequences (B, T, F) of a batch, not normalised, zero where there is padding."""
    targets = batch.targets.transpose(0, 1).cpu().numpy()
    sequences = model.info.unnormalise(targets).astype(np.float32)
    sequences[batch.padding[1:].t().cpu().numpy()] = 0
    return sequences


def loop_errors(info, true, decoded):
    """How far decoded loops are from the true ones, for each of B shapes.

    Loops with the same plane and number in it are compared: the mean squared difference of their
    features but the flag, each by its standard deviation in the dataset. A loop that only one of
    the two has counts MISSING. The mean over all loops that either has.

    Parameters
    ----------
    info : DatasetInfo
    true, decoded : (B, T, F) sequences, not normalised

    Returns
    -------
    (B,) float, inf where it is not finite
    """
    n_values = info.representation.n_features - info.representation.has_flag
    errors = np.full(len(true), np.inf)
    for i, pair in enumerate(zip(true, decoded, strict=True)):
        if not all(np.isfinite(sequence).all() for sequence in pair):
            continue
        first, second = (dict(_placed(info, sequence)) for sequence in pair)
        both = [place for place in first if place in second]
        a, b = (np.array([x[place] for place in both]) for x in (first, second))
        squares = 0.0
        if both:
            difference = (a - b)[:, :n_values] / info.dataset_std[:n_values]
            squares = np.square(difference, dtype=np.float64).mean(axis=1).sum()
        n_alone = len(first) + len(second) - 2 * len(both)
        error = (squares + MISSING * n_alone) / max(len(both) + n_alone, 1)
        if np.isfinite(error):
            errors[i] = error
    return errors


def _placed(info, sequence):
    """(plane, number in it) and timestep of each loop of a sequence (T, F)."""
    counts = {}
    for plane, row in zip(info.planes_of(sequence).tolist(), sequence, strict=True):
        if plane >= 0:
            number = counts.get(plane, 0)
            counts[plane] = number + 1
            yield (plane, number), row
