"""Decoding a latent under a list of edits, again and again as the list changes.

Two rules give the loops of an edited shape, one after the other:

1. A loop that no edit covers is what the decoder generates to follow the loops before it, edited
   or not. Up to the first edited loop that is the untouched shape, to the last bit.
2. A loop that edits cover is the loop that the shape has there *without these edits* (but with all
   others), changed by them in the order of the list.

For an edit of one loop the second rule says what an intervention function does: change what was
just generated. For a range it makes the whole range move as one: each of its loops is changed once,
however far the decoder would have followed the ones below.

A change costs only the steps from the first changed loop on: the decoder keeps its state of the
loops before.
"""

import dataclasses
import functools

import numpy as np
import torch

from loopdraw.editing.edits import apply_edits
from loopdraw.files import UserError
from loopdraw.loops.geometry import lift
from loopdraw.model.decoding import STEPS_BETWEEN_END_CHECKS
from loopdraw.threads import threads_for


@dataclasses.dataclass(frozen=True, eq=False)
class EditedShape:
    """The loops of a shape under an edit list.

    `edited`, `regenerated` and `timesteps` speak of the loops in the order of `loops_by_plane`,
    plane after plane, numbered from 0.

    Attributes
    ----------
    sequence : (T, F) float32
        Not normalised, all zero from its end on; what `LoopSeqEncoderDecoderModel.decode` gives.
    loops_by_plane : list of lists of (k, 2) float64 loops
    timesteps : (n_loops,) int
        The timestep of each loop: what edits call its number.
    planes : (n_loops,) int
        The plane of each loop.
    edited : (n,) int
        Numbers of the loops that an edit changed.
    regenerated : (n,) int
        Numbers of the loops after the first edited one that no edit changed.
    """

    sequence: np.ndarray
    loops_by_plane: list
    timesteps: np.ndarray
    planes: np.ndarray
    edited: np.ndarray
    regenerated: np.ndarray

    @property
    def n_loops(self):
        return len(self.timesteps)

    def loops(self):
        """The loops (k, 2), one plane after the other."""
        return [loop for loops in self.loops_by_plane for loop in loops]

    def loops_in_space(self, planes):
        """The same, lifted from their `planes` (P, 4, 3) to space: list of (k, 3) float."""
        return [lift(loop, planes[p]) for loop, p in zip(self.loops(), self.planes, strict=True)]


class EditedDecoder:
    """Decodes one latent under changing edit lists, keeping what a change leaves as it was.

    Parameters
    ----------
    model : vae.LoopSeqEncoderDecoderModel
    latent : (L,) float
    """

    def __init__(self, model, latent):
        model.eval()
        self.info = model.info
        self._decoder = model.decoder
        latent = checked_latent(latent, model.latent_size)
        self._latent = torch.tensor(latent, dtype=torch.float32, device=model.device)[None]
        self._edits = []  # those in force
        # One run for each set of edits that is decoded, named by places in the list of edits in
        # force. The empty one is the untouched shape.
        self._runs = {}
        self._n_fresh = {}  # steps of each run that agree with the edits now in force

    def decode(self, edits):
        """The shape under a list of edits.

        Parameters
        ----------
        edits : list of Edit that the model can take (`edits.check_edit`)

        Returns
        -------
        EditedShape
        """
        self._edits = [edit for edit in edits if edit.acts()]
        self._n_fresh = {}
        everything = tuple(range(len(self._edits)))
        with threads_for(1):
            self._advance(everything)
        self._runs = {key: r for key, r in self._runs.items() if key in self._n_fresh or not key}
        return self._shape(everything)

    @functools.cached_property
    def untouched(self):
        """The `EditedShape` without edits."""
        self._n_fresh = {}
        with threads_for(1):
            self._advance(())
        return self._shape(())

    def starting_loops(self, edits):
        """The loops that edits of a range start from, where they are not what is generated.

        Parameters
        ----------
        edits : list of Edit

        Returns
        -------
        dict of int to (F,) float64 : timestep, not normalised
        """
        self.decode(edits)
        everything = tuple(range(len(self._edits)))
        recipes = self._runs[everything].recipes[: self._n_fresh[everything]]
        return {
            t: self.info.unnormalise(base.cpu().numpy())
            for t, (_, base) in enumerate(recipes)
            if base is not None
        }

    def starting_centres(self, edits):
        """Where the loops that edits change lie before they are changed.

        Parameters
        ----------
        edits : list of Edit

        Returns
        -------
        dict of int to (3,) float64 : timestep of each edited loop, its centre in space
        """
        shape = self.decode(edits)
        run = self._runs[tuple(range(len(self._edits)))]
        centres = {}
        for t in shape.timesteps[shape.edited].tolist():
            base = run.recipes[t][1]
            start = self.info.unnormalise(
                (run.generated[t] if base is None else base).cpu().numpy()
            )
            is_polyline = self.info.representation.is_polyline
            centre = start[:-1].reshape(-1, 2).mean(axis=0) if is_polyline else start[:2]
            plane = shape.planes[np.searchsorted(shape.timesteps, t)]
            centres[t] = lift(centre, self.info.planes[plane])
        return centres

    @torch.inference_mode()
    def _advance(self, key, n_wanted=None):
        """Bring a run up to date, as far as `n_wanted` steps, or until its sequence has ended.

        Parameters
        ----------
        key : tuple of int, places of the edits that it is under
        n_wanted : int or None
        """
        if key not in self._runs:
            self._runs[key] = _Run(self._decoder, self._latent, self.info)
        run = self._runs[key]
        t = self._n_fresh.get(key, 0)
        while t < (self.info.n_timesteps if n_wanted is None else n_wanted):
            covering = [i for i in key if self._edits[i].covers(t)]
            edits, base = [self._edits[i] for i in covering], None
            if any(edit.first < t for edit in edits):
                without = tuple(i for i in key if i not in covering)
                if self._n_fresh.get(without, 0) <= t:
                    self._advance(without, 1 + max(edit.last for edit in edits))
                base = self._runs[without].taken[t]
            run.make(t, edits, base)
            t += 1
            if n_wanted is None and t % STEPS_BETWEEN_END_CHECKS == 0 and run.has_ended(t):
                break
        self._n_fresh[key] = t

    def _shape(self, key):
        info = self.info
        n_steps = self._n_fresh[key]
        sequence = np.zeros((info.n_timesteps, info.representation.n_features), dtype=np.float32)
        sequence[:n_steps] = info.unnormalise(self._runs[key].taken[:n_steps].cpu().numpy())
        planes = info.planes_of(sequence)
        timesteps = np.flatnonzero(planes >= 0)
        # As `decode` of the model does: the timestep that ends a sequence is part of it.
        sequence[(timesteps[-1] + 2 if len(timesteps) else 1) :] = 0
        edited = np.zeros(len(planes), dtype=bool)
        for i in key:
            edited[self._edits[i].first : self._edits[i].last + 1] = True
        after = np.logical_or.accumulate(edited)
        return EditedShape(
            sequence,
            info.loops(sequence, planes),
            timesteps,
            planes[timesteps],
            edited=np.flatnonzero(edited[timesteps]),
            regenerated=np.flatnonzero((after & ~edited)[timesteps]),
        )


class _Run:
    """One sequence in the making, under some edits. All tensors are normalised, (T, F).

    Attributes
    ----------
    generated : what the decoder gave, flags after the sigmoid
    taken : what became of it, and was the next input
    recipes : (edits, base) of each step taken; base: see `make`
    """

    def __init__(self, decoder, latent, info):
        self.info = info
        self.decoder = decoder
        self.state = decoder.begin(latent)
        self.generated = latent.new_zeros(info.n_timesteps, info.representation.n_features)
        self.taken = torch.zeros_like(self.generated)
        self.recipes = []

    def make(self, t, edits, base):
        """Take step `t`, unless it was taken just so.

        Parameters
        ----------
        t : int, at most the number of steps taken
        edits : list of Edit that cover the step
        base : (F,) tensor that they start from; None: what the decoder generates here
        """
        if t < len(self.recipes):
            old_edits, old_base = self.recipes[t]
            if edits == old_edits and (base is old_base or _equal(base, old_base)):
                return
            del self.recipes[t:]
            # What is generated at a step follows from the steps before it alone.
            self.state.rewind(t + 1)
        if self.state.length == t:
            before = self.taken[t - 1 : t] if t else torch.zeros_like(self.taken[:1])
            generated = self.decoder.step(self.state, before)
            if self.info.representation.has_flag:
                generated[:, -1].sigmoid_()
            self.generated[t] = generated[0]
        if edits:
            start = self.generated[t] if base is None else base
            loop = self.info.unnormalise(start.cpu().numpy())
            loop = apply_edits(loop, edits, t, self.info.representation)
            # Not `normalise` of the info: that takes a loop of zeros for padding.
            loop = (loop - self.info.dataset_mean) / self.info.dataset_std
            self.taken[t] = torch.from_numpy(loop.astype(np.float32))
        else:
            self.taken[t] = self.generated[t]
        self.recipes.append((edits, None if base is None else base.clone()))

    def has_ended(self, n_steps):
        """Whether the sequence ends within its first `n_steps`."""
        sequence = self.info.unnormalise(self.taken[:n_steps].cpu().numpy())
        return self.info.planes_of(sequence)[-1] < 0


def checked_latent(latent, latent_size):
    """A latent as (L,) float64; UserError when a model cannot take it."""
    try:
        latent = np.array(latent, dtype=np.float64).ravel()
    except (ValueError, TypeError):
        latent = np.zeros(0)
    if len(latent) != latent_size or not np.isfinite(latent).all():
        raise UserError(
            f"a latent of this model is {latent_size} finite numbers, and {len(latent)} were given"
        )
    return latent


def _equal(a, b):
    return a is not None and b is not None and torch.equal(a, b)
