"""Inserted loops that the model would leave hanging are carried on until they join the rest.

The latent of a shape tells of no handle where one was inserted. The decoder sees the inserted
loops, and mostly carries them on. But at times it ends them in air, or takes them for the beginning
of a handle that the shape has further up. Then another latent may serve it better from there on.
Some are drawn about that of the shape, as far as the encoder is unsure of it, and a few lie on the
way down the loss of the loops that are there, inserted ones included. All are decoded together. Of
those that make a hole and spoil nothing else, the one whose shape is nearest to the untouched one
is taken.
"""

import functools

import numpy as np
import torch

from loopdraw.data.dataset import batch_of
from loopdraw.editing.decoding.joints import joints
from loopdraw.files import UserError
from loopdraw.loops.representations import eos_timestep
from loopdraw.model.refine import descend, loop_errors
from loopdraw.surface.reconstruction import connected_parts
from loopdraw.surface.workers import build_surface
from loopdraw.threads import threads_for

DRAWN, SPREAD = 32, 3.0  # latents drawn, and how far, in the encoder's standard deviations
STEPS, RATE = 30, 0.06  # of the descent
STEPS_AT_ONCE = 5  # of both, so that a window keeps answering


def carry_on(model, decoder, edits, onward=None):
    """Look for a latent with which inserted loops are carried on: a generator.

    Parameters
    ----------
    model : vae.LoopSeqEncoderDecoderModel
    decoder : decoder.EditedDecoder
    edits : list of Edit
    onward : (L,) float or None, the latent that is used now

    Yields
    ------
    None, after each part of the work

    Returns
    -------
    (L,) float64, or None where nothing need be done or nothing better was found
    """
    lasts = [edit.last for edit in edits if edit.kind == "insert" and edit.acts()]
    if model.needs_point_clouds or not lasts:
        return None
    look = functools.partial(joints, model.info.planes)
    untouched = decoder.untouched
    before = look(untouched.loops_by_plane, [])
    yield
    shape = decoder.decode(edits, None, onward)
    inserts = _inserted(shape)
    present = look(shape.loops_by_plane, inserts)
    yield
    nothing_above = not (shape.planes > max(lasts)).any()
    if nothing_above or not present.is_held:
        return None
    surface = _surface(model.info, untouched.loops_by_plane)
    yield
    is_right = present.adds_a_hole(before)
    if is_right and _has_a_hole_more(model.info, shape.loops_by_plane, surface):
        return None
    yield
    rows, next_row = decoder.below_the_last_insert(edits)
    sound = []  # of those that lose a hole elsewhere
    for latents in _latents(model, decoder, untouched, rows):
        if latents is None:
            yield
            continue
        sequences = yield from _go_on(model, rows, next_row, latents)
        errors = loop_errors(
            model.info, np.broadcast_to(untouched.sequence, sequences.shape), sequences
        )
        for i in errors.argsort(kind="stable"):
            found = look(_loops(model.info, decoder, sequences[i]), inserts)
            if found.is_sound(before):
                sound.append((errors[i], latents[i]))
            yield
            if found.adds_a_hole(before):
                # As it is decoded alone, which differs in the last bits.
                loops = _alone(decoder, edits, latents[i])
                is_right = look(loops, inserts).adds_a_hole(before)
                if is_right and _has_a_hole_more(model.info, loops, surface):
                    return latents[i]
                yield
    for _, latent in sorted(sound, key=lambda pair: pair[0]):
        if present.is_sound(before):
            break
        if look(_alone(decoder, edits, latent), inserts).is_sound(before):
            return latent
        yield
    return None


def _alone(decoder, edits, latent):
    """The loops of each plane with a latent above the inserts; none, if it makes too many."""
    try:
        return decoder.decode(edits, None, latent).loops_by_plane
    except UserError:
        return []


def _surface(info, loops_by_plane):
    """How many surfaces the loops make, and their holes; None where they make none in time."""
    try:
        vertices, faces = build_surface(info.planes, loops_by_plane)
    except ValueError:
        return None
    n_surfaces = len(connected_parts(vertices, faces)[1])
    euler = len(vertices) - len(faces) // 2  # three edges for two faces
    return n_surfaces, n_surfaces - euler // 2


def _has_a_hole_more(info, loops_by_plane, before):
    """The loops may fit together, and the surface of a thin wall be torn all the same."""
    surface = _surface(info, loops_by_plane)
    if surface is None or before is None:
        return before is None
    return surface[0] <= before[0] and surface[1] > before[1]


def _inserted(shape):
    """The (plane, loop) of each insert of an EditedShape."""
    loops, by_edit = shape.loops(), {}
    for place in np.flatnonzero(shape.inserts >= 0).tolist():
        of_edit = by_edit.setdefault(int(shape.inserts[place]), [])
        of_edit.append((int(shape.planes[place]), loops[place]))
    return list(by_edit.values())


def _latents(model, decoder, untouched, rows):
    """Latents (n, L) to try, most likely ones first; None in between, where they take a while."""
    info, start = model.info, decoder.latent
    batch = batch_of(info, _true_steps(info, untouched), model.device)
    with torch.inference_mode(), threads_for(1):
        spread = SPREAD * torch.exp(0.5 * model.encode_distribution(batch)[1][0]).cpu().numpy()
    rng = np.random.default_rng(0)  # the same edit always gives the same shape
    yield start + spread * rng.standard_normal((DRAWN, len(start)))
    steps = info.unnormalise(rows.cpu().numpy()).astype(np.float32)
    if info.representation.has_flag:
        steps[:, -1] = steps[:, -1] > 0.5
    batch = batch_of(info, steps, model.device)
    kept, z = [], torch.tensor(start, dtype=torch.float32, device=model.device)[None]
    for _ in range(STEPS // STEPS_AT_ONCE):
        with threads_for(1):
            z = descend(model, batch, z, STEPS_AT_ONCE, RATE)[0][-1]
        kept.append(z[0].cpu().numpy().astype(np.float64))
        yield None
    yield np.stack(kept)


def _true_steps(info, shape):
    """The steps (n, F) of an EditedShape as an encoder takes them."""
    steps = shape.sequence[shape.timesteps].copy()
    steps[:, -1] = steps[:, -1] > 0.5
    if info.use_eos_token:
        steps = np.concatenate([steps, eos_timestep(info.representation)[None]])
    return steps


def _go_on(model, rows, next_row, latents):
    """Decode latents (n, L) after the steps `rows` (t, F), a few steps before each yield.

    Returns
    -------
    (n, T, F) float32 sequences, not normalised
    """
    info = model.info
    latents = torch.tensor(latents, dtype=torch.float32, device=model.device)
    state, outputs = None, []
    while len(outputs) < info.n_timesteps:
        with torch.inference_mode(), threads_for(1):
            if state is None:
                state = model.decoder.begin(latents)
                row = rows.new_zeros(len(latents), rows.shape[1])
            for t in range(len(outputs), min(len(outputs) + STEPS_AT_ONCE, info.n_timesteps)):
                row = model.decoder.step(state, row)
                row[:, -1].sigmoid_()
                if t < len(rows):
                    row = rows[t].expand(len(latents), -1).clone()
                elif t == len(rows):  # it opens a plane
                    row = torch.where(row[:, -1:] > 0.5, row, next_row)
                outputs.append(row)
        yield
    normalised = torch.stack(outputs, dim=1).cpu().numpy()
    sequences = info.unnormalise(normalised).astype(np.float32)
    sequences[np.arange(info.n_timesteps) >= model.lengths(normalised)[:, None]] = 0
    return sequences


def _loops(info, decoder, sequence):
    opened = info.planes_of(sequence)
    planes = np.where(opened >= 0, decoder.planes_in_turn[opened], -1)
    return info.loops(sequence, info.within_bounds(planes))
