"""Edits of loops while a shape is decoded: the engine of the edit window, which scripts use too.

A `LoopEditor` is a shape, its latent and a list of edits (`edits.Edit`), with undo. Its `shape`
holds the loops, by the rules of `decoding`; a change costs only the steps from the first changed
loop on.
"""

import numpy as np

from loopdraw.editing.decoding.decoder import EditedDecoder
from loopdraw.editing.decoding.shape import checked_latent
from loopdraw.editing.edits import check_edit
from loopdraw.files import UserError

_AS_IT_IS = object()


class LoopEditor:
    """A shape, its latent and its edits, with undo: all that the edit window does.

    Parameters
    ----------
    model : vae.LoopSeqEncoderDecoderModel
    latent : (L,) float
    edits : list of Edit
    given : given.GivenShape, whose loops are edited; None: those of the latent
    after, onward : see `EditedDecoder.decode`

    Raises
    ------
    UserError
        Here and in all methods, for an edit or a latent that the model cannot take; nothing has
        changed then.
    """

    def __init__(self, model, latent, edits=(), given=None, after=None, onward=None):
        self.model = model
        self.info = model.info
        self.given = given
        self._decoder = None  # of the latent `_decoded`
        self._decoded = None
        # (latent, tuple of edits, after, onward), oldest first, and the place of the current one
        self._states, self._at = [], -1
        self._going_on = None  # what the last change was part of
        self._shape = None
        self._carried = None  # the shape that `carry_on_a_little` is at, and its generator
        if onward is not None:
            onward = checked_latent(onward, model.latent_size)
        self._set(edits, latent, after, onward=onward)

    @property
    def latent(self):
        """(L,) float64, not to be written to."""
        return self._states[self._at][0]

    @property
    def edits(self):
        """The edit list, a tuple."""
        return self._states[self._at][1]

    @property
    def after(self):
        """How many planes after an edit the untouched shape goes on; None: not at all."""
        return self._states[self._at][2]

    @property
    def onward(self):
        """The latent (L,) above the last inserted loop; None: that of the shape."""
        return self._states[self._at][3]

    @property
    def shape(self):
        """The `EditedShape` under the edits."""
        if self._shape is None:
            self._shape = self._current_decoder().decode(self.edits, self.after, self.onward)
        return self._shape

    @property
    def untouched(self):
        """The `EditedShape` without edits."""
        return self._current_decoder().untouched

    def starting_loops(self):
        """As `EditedDecoder.starting_loops`."""
        return self._current_decoder().starting_loops(self.edits)

    def put_loops(self):
        """As `EditedDecoder.put_loops`."""
        return self._current_decoder().put_loops(self.edits, self.after, self.onward)

    def starting_centres(self):
        """As `EditedDecoder.starting_centres`."""
        return self._current_decoder().starting_centres(self.edits, self.after, self.onward)

    # Changes in a row that are `part_of` the same thing, any value but None, are undone together: a
    # drag of the mouse is one change.

    def add(self, edit, part_of=None):
        """Append an edit to the list; its place there."""
        self._set([*self.edits, edit], part_of=part_of)
        return len(self.edits) - 1

    def change(self, place, edit, part_of=None):
        """Put another edit at a place of the list."""
        edits = list(self.edits)
        edits[place] = edit
        self._set(edits, part_of=part_of)

    def set_edits(self, edits):
        """Put another list in the place of all edits."""
        self._set(edits)

    def remove(self, place):
        """Take an edit off the list."""
        self._set(self.edits[:place] + self.edits[place + 1 :])

    def set_latent(self, latent, part_of=None):
        """Decode another latent, under the same edits."""
        self._set(self.edits, latent, part_of)

    def set_after(self, after, part_of=None):
        """Let the untouched shape go on `after` planes after an edit; None: not at all."""
        self._set(self.edits, after=after, part_of=part_of)

    def carry_on(self):
        """Look for a way to go on in which inserted loops join the rest: see `carrying`.

        What is found belongs to the last change, and is undone with it.
        """
        while self.carry_on_a_little():
            pass

    def carry_on_a_little(self):
        """A part of that work.

        Returns
        -------
        bool : whether more of it is left
        """
        if self.after is not None or not any(edit.kind == "insert" for edit in self.edits):
            return False
        if self._carried is None or self._carried[0] is not self.shape:
            from loopdraw.editing.decoding import carrying  # it takes a while to import

            decoder = self._current_decoder()
            work = carrying.carry_on(self.model, decoder, list(self.edits), self.onward)
            self._carried = self.shape, work
        work = self._carried[1]
        if work is None:
            return False
        try:
            next(work)
            return True
        except StopIteration as end:
            if end.value is not None:
                self._states[self._at] = (*self._states[self._at][:3], end.value)
                self._shape = None
        self._carried = self.shape, None
        return False

    def leave_as_it_is(self):
        """Let `carry_on` do nothing until the next change: the shape has been saved like this."""
        self._carried = self.shape, None

    @property
    def can_undo(self):
        return self._at > 0

    @property
    def can_redo(self):
        return self._at < len(self._states) - 1

    def undo(self):
        """Back to before the last change, if there is one."""
        self._go_to(max(self._at - 1, 0))

    def redo(self):
        """Forward again after `undo`."""
        self._go_to(min(self._at + 1, len(self._states) - 1))

    def _set(self, edits, latent=None, after=_AS_IT_IS, part_of=None, onward=None):
        for edit in edits:
            check_edit(edit, self.info.representation, self.info.n_timesteps, self.info.n_planes)
        # The same array as before says that nothing need be decoded anew.
        if latent is None:  # what was found above inserted loops holds while they are dragged
            latent, onward = self.latent, self.onward
        else:
            latent = checked_latent(latent, self.model.latent_size)
        state = (latent, tuple(edits), self.after if after is _AS_IT_IS else after, onward)
        before = self._states, self._at, self._shape
        keep = self._at if part_of is not None and part_of == self._going_on else self._at + 1
        self._states = [*self._states[:keep], state]
        self._go_to(keep)
        if any(edit.of_planes and edit.acts() for edit in edits):
            try:
                self.shape  # noqa: B018  (they fit some shapes only)
            except UserError:
                self._states, self._at, self._shape = before
                raise
        self._going_on = part_of

    def _go_to(self, place):
        self._at = place
        self._going_on = None
        self._shape = None

    def _current_decoder(self):
        if self._decoded is not self.latent:
            self._decoder = EditedDecoder(self.model, self.latent, self.given)
            self._decoded = self.latent
        return self._decoder


def decode_with_edits(model, latent, edits):
    """The sequence (T, F) of a latent (L,) under edits, as `LoopEditor` makes it.

    Raises
    ------
    UserError
        For an edit or a latent that the model cannot take.
    """
    return LoopEditor(model, latent, edits).shape.sequence


def dimensions_by_effect(model, latent, n_at_once=64, step=1.0):
    """Order the numbers of a latent by how much they change the shape, trying a few at a time.

    Parameters
    ----------
    model : vae.LoopSeqEncoderDecoderModel
    latent : (L,) float
    n_at_once : int, how many to try before each yield
    step : how far each number is moved

    Yields
    ------
    None until all have been tried, then once the dimensions, (L,) int, those that change most
    first
    """
    plain = model.decode(latent)[0]
    changes = []
    for start in range(0, len(latent), n_at_once):
        moved = latent + step * np.eye(len(latent))[start : start + n_at_once]
        changes.append(np.abs(model.decode(moved) - plain).mean(axis=(1, 2)))
        yield None
    yield np.concatenate(changes).argsort()[::-1]
