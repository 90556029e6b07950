"""What decoding under edits goes through: sequences in the making, their steps, and where they are.

The rules themselves are in `decoder`.
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np
import torch

from loopdraw.loops.geometry import signed_area


class Reference:
    """A shape whose loops are known: a given one, or the untouched one that is returned to.

    Attributes
    ----------
    rows : (n or n + 1, F) float32 tensor, normalised; the end-of-sequence timestep may be the last
    sequence : the same, not normalised
    loops : list of n loops
    number : dict of (plane, index in it) to number; planes are counted as they are opened
    is_whole : bool
    """

    def __init__(self, sequence, loops, is_whole, info, device):
        self.sequence, self.loops, self.is_whole = sequence, loops, is_whole
        rows = (sequence - info.dataset_mean) / info.dataset_std
        self.rows = torch.from_numpy(rows.astype(np.float32)).to(device)
        flags = sequence[:, -1] > 0.5 if info.representation.has_flag else np.ones(len(sequence))
        self.number, plane, index = {}, -1, 0
        for number, opens in enumerate(flags):
            index = 0 if opens or plane < 0 else index + 1
            plane += bool(opens) or plane < 0
            self.number[plane, index] = number

    @classmethod
    def of_shape(cls, shape, info, device):
        n_rows = np.flatnonzero(shape.sequence.any(axis=1)).max(initial=-1) + 1
        return cls(shape.sequence[:n_rows], shape.loops(), True, info, device)

    def first_number(self, plane):
        """The number of the first loop in a plane; past the loops, if there is none."""
        return self.number.get((plane, 0), len(self.loops))


class Next(NamedTuple):
    """A loop that may come next."""

    row: torch.Tensor  # (F,) normalised
    number: int  # -1: none
    given: int | None  # where it stands in the reference, unchanged
    is_new: bool  # it is not a loop of the untouched shape
    start: torch.Tensor | None = None  # what edits of its number were applied to
    is_edited: bool = False  # edits of its number have been applied


class Waiting(NamedTuple):
    """A loop to be inserted in the present plane."""

    area: float
    edit: int
    points: np.ndarray  # (k, 2)


class Step(NamedTuple):
    """How a step of a run came about."""

    number: int
    plane: int  # counted as planes are opened
    index: int  # in the plane, as if nothing were inserted or removed; -1: inserted
    start: torch.Tensor | None = None  # (F,) what edits were applied to
    is_based: bool = False  # the start is not what comes next here
    given: int | None = None
    is_new: bool = False
    insert: int | None = None


@dataclasses.dataclass
class Way:
    """Where a walk is."""

    returned: bool = True  # the loops are those of the reference, where there is one
    number: int = 0  # of the next loop
    plane: int = -1
    index: int = 0  # of the next loop in its plane, as if nothing were inserted or removed
    n_taken: int = 0  # steps taken in the plane
    edited_plane: int | None = None  # the last one that an edit changed
    waiting: list = dataclasses.field(default_factory=list)

    def open_plane(self, waiting):
        self.plane, self.index, self.n_taken, self.waiting = self.plane + 1, 0, 0, waiting

    def acted(self, after):
        self.edited_plane = self.plane
        self.returned = after == 0


class Outputs:
    """What a decoder gives after each step of a sequence, with one latent."""

    def __init__(self, decoder, latent, info):
        self._decoder = decoder
        self._has_flag = info.representation.has_flag
        self._state = decoder.begin(latent)
        self._rows = latent.new_zeros(info.n_timesteps, info.representation.n_features)

    def at(self, t, taken):
        """What comes at step `t`, flags after the sigmoid, (F,), after the steps `taken` (T, F)."""
        while self._state.length <= t:
            before = self._state.length - 1
            x = taken[before : before + 1] if before >= 0 else torch.zeros_like(taken[:1])
            output = self._decoder.step(self._state, x)
            if self._has_flag:
                output[:, -1].sigmoid_()
            self._rows[before + 1] = output[0]
        return self._rows[t]

    def forget(self, t):
        """Step `t` is another one now. What is generated there follows from those before alone."""
        if self._state.length > t + 1:
            self._state.rewind(t + 1)


class Run:
    """One sequence in the making, under some edits. All tensors are normalised, (T, F).

    Attributes
    ----------
    taken : the steps, each the input of the next
    steps : list of `Step`, those that agree with the edits now in force
    at_number, at_place : the step of a loop by its number, by (plane, index)
    onward_from : the first step that was generated with the second latent
    """

    def __init__(self, decoder, latent, info):
        self.info = info
        self._decoder = decoder
        self._outputs = self._outputs_of(latent)
        self._onward = self._onward_outputs = None
        self.taken = latent.new_zeros(info.n_timesteps, info.representation.n_features)
        self._n_known = 0  # rows of `taken` that stand
        self.begin()

    def begin(self, onward=None):
        """Go through the steps anew; those that come out as before cost nothing.

        Parameters
        ----------
        onward : (1, L) tensor, the latent of `generated(..., onward=True)`; None: there is none
        """
        self.steps, self.at_number, self.at_place = [], {}, {}
        self.onward_from = self.info.n_timesteps
        if onward is not self._onward:
            self._onward = onward
            self._onward_outputs = None if onward is None else self._outputs_of(onward)

    def _outputs_of(self, latent):
        return Outputs(self._decoder, latent, self.info)

    def generated(self, t, onward=False):
        """What the decoder gives at step `t`, flags after the sigmoid, (F,)."""
        if not onward:
            return self._outputs.at(t, self.taken)
        self.onward_from = min(self.onward_from, t)
        return self._onward_outputs.at(t, self.taken)

    def take(self, row, step):
        t = len(self.steps)
        if t >= self._n_known or not torch.equal(self.taken[t], row):
            self.taken[t] = row
            self._n_known = t + 1
            for outputs in filter(None, (self._outputs, self._onward_outputs)):
                outputs.forget(t)
        if step.number >= 0:
            self.at_number[step.number] = t
        if step.index >= 0:
            self.at_place[step.plane, step.index] = t
        self.steps.append(step)

    @property
    def plane(self):
        return self.steps[-1].plane if self.steps else -1

    def _planes(self, rows):
        return self.info.planes_of(self.info.unnormalise(rows.cpu().numpy()))

    def has_ended(self):
        """Whether the sequence has ended."""
        return self._planes(self.taken[: len(self.steps)])[-1] < 0

    def is_loop(self, t):
        """Whether step `t` is a loop, and not the end of the sequence or beyond."""
        return self._planes(self.taken[: t + 1])[-1] >= 0

    def would_end(self, row):
        """Whether the sequence would end if `row` came next."""
        return self._planes(torch.cat([self.taken[: len(self.steps)], row[None]]))[-1] < 0


def planes_in_turn(given, n_planes):
    """The plane of each plane that a sequence opens, (P,) int; -1: past the last.

    A given shape may leave planes out, which its sequence does not tell.
    """
    met = [] if given is None else sorted(set(given.planes.tolist()))
    table = [*met, *range(met[-1] + 1 if met else 0, n_planes)]
    return np.array([*table, *itertools.repeat(-1, n_planes - len(table))])


def with_flag(row, opens):
    """A row whose flag says whether it opens a plane; unchanged if it says so already."""
    if bool(row[-1] > 0.5) == opens:
        return row
    row = row.clone()
    row[-1] = float(opens)
    return row


def area_of(loop):
    return abs(signed_area(loop))
