"""Decoding a shape under a list of edits, again and again as the list changes.

The shape is that of a latent, or one given by its loops (`given.GivenShape`). Six rules give the
loops of an edited shape, one after the other:

1. A loop that no edit covers is what comes after the loops before it, edited or not. Up to the
   first edited loop that is the untouched shape, to the last bit; where loops are given, the given
   ones. After it, it is what the decoder generates; or else, by the choice of `after`, what the
   untouched shape has there, at once or on a way of N planes (rule 5).
2. A loop that edits cover is the loop that the shape has there *without these edits* (but with all
   others), changed by them in the order of the list.
3. In the planes that an insert or a remove covers, all loops are those that the shape has there
   *without these inserts and removes* (but with all other edits), less those that are removed, and
   with those that are inserted; the larger ones come first. A removed loop is one of the loops of
   the plane as they are without these edits, counted from 0.
4. The first loop after such planes opens a plane, as does the first after the lower part of a shape
   that is given to be completed. Where the decoder would rather go on in the last
   of them, the loop that opens the next plane without these edits takes its place.
5. With `after` 0, loops that no edit covers are always those of the untouched shape. With N, N
   planes after the last edited one are on the way back, and then the untouched shape goes on. On
   the i-th of them, each loop is i / (N + 1) of the way from the generated loop to the untouched
   one of the same number in the plane. A loop that only the generated shape has stays on these
   planes as it is; one that only the untouched shape has comes back after them. Should the
   generated shape end on the way, the untouched one goes on at once.

6. Above the last inserted loop, the decoder may generate with another latent, that of `onward`. It
   sees the same loops below. So an inserted loop can be carried on that the latent of the shape
   would leave hanging (`carrying`).

Loops have numbers, counted from 0 in the order of the sequence. Inserted loops have none, and
removed loops keep theirs: the loops before an insert or a remove, in its planes, and above them
are counted as if it were not there. On the way back to the untouched shape, loops have its numbers.

An insert does nothing in a plane that the shape does not reach, nor does a remove where there is no
such loop.

For an edit of one loop the second rule says what an intervention function does: change what was
just generated. For a range it makes the whole range move as one: each of its loops is changed once,
however far the decoder would have followed the ones below.

A change costs only the steps from the first changed loop on: the decoder keeps its state of the
loops before.
"""

import functools

import numpy as np
import torch

from loopdraw.editing.decoding.runs import (
    Next,
    Reference,
    Run,
    Step,
    Waiting,
    Way,
    area_of,
    planes_in_turn,
    with_flag,
)
from loopdraw.editing.decoding.shape import EditedShape, checked_latent
from loopdraw.editing.edits import apply_edits, edit_functions
from loopdraw.files import UserError
from loopdraw.loops.geometry import lift, signed_area
from loopdraw.loops.nesting import outlines_cross
from loopdraw.loops.representations import ellipse_loop
from loopdraw.model.decoding import STEPS_BETWEEN_END_CHECKS
from loopdraw.threads import threads_for


class EditedDecoder:
    """Decodes one shape under changing edit lists, keeping what a change leaves as it was.

    Parameters
    ----------
    model : vae.LoopSeqEncoderDecoderModel
    latent : (L,) float
    given : given.GivenShape, or None for the shape of the latent
    """

    def __init__(self, model, latent, given=None):
        model.eval()
        self.info = model.info
        self._decoder = model.decoder
        self.latent = checked_latent(latent, model.latent_size)
        self._latent = torch.tensor(self.latent, dtype=torch.float32, device=model.device)[None]
        self._given = (
            None
            if given is None
            else Reference(
                given.sequence, given.loops, given.is_whole, self.info, self._latent.device
            )
        )
        self.planes_in_turn = planes_in_turn(given, self.info.n_planes)
        self._edits = []  # those in force
        self._after = self._onward = None
        # One run for each set of edits that is decoded, named by places in the list of edits. The
        # empty one is the untouched shape.
        self._runs = {}
        self._walks = {}  # of each run, the generator that takes it further

    def decode(self, edits, after=None, onward=None):
        """The shape under a list of edits.

        Parameters
        ----------
        edits : list of Edit that the model can take (`edits.check_edit`)
        after : int or None
            How many planes after an edit the untouched shape goes on; None: not at all.
        onward : (L,) float or None
            The latent above the last inserted loop, if it is another one. Only where `after` is
            None.

        Returns
        -------
        EditedShape

        Raises
        ------
        UserError
            When an inserted loop crosses another one of its plane, a plane would lose its only
            loop, or the inserted loops are more than the model takes.
        """
        if self._given is None and after is not None:
            self._own_reference  # noqa: B018  (needs decoding of its own)
        self._edits, self._after = list(edits), after
        self._set_onward(onward if after is None else None)
        self._walks = {}
        key = self._everything()
        with threads_for(1):
            self._advance(key)
        self._runs = {k: run for k, run in self._runs.items() if k in self._walks or not k}
        run, n_most = self._runs[key], self.info.n_timesteps
        if len(run.steps) == n_most and any(step.insert is not None for step in run.steps):
            if not run.has_ended() and self.untouched.n_loops < n_most:
                raise UserError(
                    f"with the inserted loops the shape is longer than the {n_most} loops that the "
                    "model takes"
                )
        return self._shape(run)

    @functools.cached_property
    def untouched(self):
        """The `EditedShape` without edits."""
        kept = self._edits, self._after, self._walks
        self._edits, self._after, self._walks = [], None, {}  # no edits, so nothing goes onward
        with threads_for(1):
            self._advance(())
        shape = self._shape(self._runs[()])
        self._edits, self._after, self._walks = kept
        return shape

    @functools.cached_property
    def _own_reference(self):
        """The untouched shape of the latent, as if it were given."""
        return Reference.of_shape(self.untouched, self.info, self._latent.device)

    @property
    def _reference(self):
        """The shape that loops are taken from, a `Reference`; None: from the decoder alone."""
        if self._given is None and self._after is not None:
            return self._own_reference
        return self._given

    def starting_loops(self, edits):
        """The loops that edits of a range start from, where they are not what is generated.

        Parameters
        ----------
        edits : list of Edit, none of planes

        Returns
        -------
        dict of int to (F,) float64 : number, not normalised
        """
        self.decode(edits)
        steps = self._runs[self._everything()].steps
        return {
            step.number: self.info.unnormalise(step.start.cpu().numpy())
            for step in steps
            if step.is_based
        }

    def put_loops(self, edits, after=None, onward=None):
        """All loops of the edited shape that are not what the decoder generates there.

        Returns
        -------
        dict of int to (F,) float64 : timestep, not normalised
        """
        self.decode(edits, after, onward)
        run = self._runs[self._everything()]
        with torch.inference_mode():
            return {
                t: self.info.unnormalise(run.taken[t].cpu().numpy())
                for t in range(len(run.steps))
                if t >= run.onward_from or not torch.equal(run.generated(t), run.taken[t])
            }

    def starting_centres(self, edits, after=None, onward=None):
        """Where the loops that edits change lie before they are changed.

        Returns
        -------
        dict of int to (3,) float64 : number of each edited loop, its centre in space
        """
        shape = self.decode(edits, after, onward)
        steps = self._runs[self._everything()].steps
        centres = {}
        for place in shape.edited.tolist():
            step = steps[shape.timesteps[place]]
            if step.start is None:
                continue
            start = self.info.unnormalise(step.start.cpu().numpy())
            is_polyline = self.info.representation.is_polyline
            centre = start[:-1].reshape(-1, 2).mean(axis=0) if is_polyline else start[:2]
            centres[step.number] = lift(centre, self.info.planes[shape.planes[place]])
        return centres

    def below_the_last_insert(self, edits):
        """What lies below the loops that come after all inserts; there must be some.

        Returns
        -------
        rows : (t, F) tensor, normalised: all steps up to the last plane with an inserted loop
        next_row : (F,) tensor, the step that comes then, which opens a plane
        """
        self.decode(edits)
        run = self._runs[self._everything()]
        last = self._last_insert(self._everything())
        n = sum(self._real_plane(step.plane) <= last for step in run.steps)
        return run.taken[:n].clone(), run.taken[n].clone()

    def _set_onward(self, onward):
        if onward is None or self._onward is None:
            self._onward = None if onward is None else self._as_latent(onward)
        elif not torch.equal(self._as_latent(onward), self._onward):
            self._onward = self._as_latent(onward)

    def _as_latent(self, latent):
        return torch.tensor(latent, dtype=torch.float32, device=self._latent.device)[None]

    def _last_insert(self, key):
        """The last plane of the inserts of a run; None: it has none."""
        inserts = [self._edits[i] for i in key if self._edits[i].kind == "insert"]
        return max((edit.last for edit in inserts), default=None)

    def _goes_onward(self, key, way):
        """Whether what a run generates next, it generates with the latent of `onward`."""
        if way.plane < 0 or not self._may_go_onward(key):
            return False
        return self._real_plane(way.plane) >= self._last_insert(key)

    def _may_go_onward(self, key):
        has_inserts = key == self._everything() and self._last_insert(key) is not None
        return self._onward is not None and has_inserts

    def _real_plane(self, plane):
        """The plane that is opened as number `plane`; a number beyond all past the last one."""
        real = self.planes_in_turn[plane] if plane < len(self.planes_in_turn) else -1
        return real if real >= 0 else len(self.planes_in_turn)

    def _everything(self):
        return tuple(i for i, edit in enumerate(self._edits) if edit.acts())

    # -------------------------------------------------------------------------------- the rules

    @torch.inference_mode()
    def _advance(self, key, is_far_enough=None):
        """Take a run further, until a function of it says so or it has ended; the run.

        Parameters
        ----------
        key : tuple of int, places of the edits that it is under
        is_far_enough : function (run), or None
        """
        if key not in self._runs:
            self._runs[key] = Run(self._decoder, self._latent, self.info)
        run = self._runs[key]
        if key not in self._walks:
            run.begin(self._onward if self._may_go_onward(key) else None)
            self._walks[key] = self._walk(key, run)
        while len(run.steps) < self.info.n_timesteps:
            if is_far_enough is not None and is_far_enough(run):
                break
            if not next(self._walks[key], False):
                break
            if is_far_enough is None and len(run.steps) % STEPS_BETWEEN_END_CHECKS == 0:
                if run.has_ended():
                    break
        return run

    def _walk(self, key, run):
        """Take the steps of a run that has begun: a generator that yields True after each."""
        way = Way()
        here = ()  # the edits of planes that cover the present plane
        while True:
            opens = False
            next_ = self._base(key, here, way.plane, way.index)
            if next_ is None:
                if here:
                    yield from self._close_plane(run, way)
                next_, opens, here = self._leave(key, run, way, here)
                if next_ is None:
                    return
            if opens:
                way.open_plane(self._inserts(here, way.plane + 1))
            while way.waiting and way.waiting[0].area > area_of(self._loop(next_.row)):
                self._insert(run, way)
                yield True
            if next_.number >= 0:
                way.number = next_.number + 1
            way.index += 1
            if any(self._removes(i, way.index - 1) for i in here):
                way.acted(self._after)
                continue
            self._take(key, run, way, next_, here)
            yield True

    def _leave(self, key, run, way, here):
        """What comes after the loops that are known to lie in the present plane.

        Parameters
        ----------
        here : the edits of planes that cover the present plane, which is over then; or none do

        Returns
        -------
        next_ : `Next`, or None at the end
        opens : bool, it opens a plane
        there : the edits of planes that cover its plane
        """
        there = self._covering(key, way.plane + 1)
        if here and there:
            based = self._base(key, there, way.plane + 1, 0)
            if based is not None:
                return based, True, there
        own = self._own(key, run, way)
        if own is None:
            return None, False, ()
        opens = way.plane < 0 or self._opens(own.row)
        if here and not opens:
            return self._base(key, here, way.plane + 1, 0, or_end=True), True, ()
        if opens and there:
            based = self._base(key, there, way.plane + 1, 0)
            if based is not None:
                return based, True, there
        return own, opens, ()

    def _take(self, key, run, way, next_, here):
        """Take a loop, under the edits that cover its number."""
        covering, start, is_based = [], next_.row, False
        if not next_.is_edited:
            covering = [i for i in key if self._changes(i, next_.number)]
        if any(self._edits[i].first < next_.number for i in covering):
            without = tuple(i for i in key if i not in covering)
            based = self._advance(without, lambda other: next_.number in other.at_number)
            if next_.number in based.at_number:
                start, is_based = based.taken[based.at_number[next_.number]].clone(), True
        row = self._edited(start, covering, next_.number) if covering else start
        if here:
            row = with_flag(row, way.n_taken == 0)
        step = Step(
            next_.number,
            way.plane,
            way.index - 1,
            start=start if covering else next_.start,
            is_based=is_based,
            given=None if covering else next_.given,
            is_new=next_.is_new,
        )
        run.take(row, step)
        way.n_taken += 1
        if step.start is not None:
            way.acted(self._after)

    def _own(self, key, run, way):
        """What comes after the steps of a run by rules 1 and 5, a `Next`; None: the end."""
        reference = self._reference
        if reference is not None and way.returned:
            if way.number < len(reference.rows):
                return Next(reference.rows[way.number], way.number, way.number, is_new=False)
            if reference.is_whole:
                return None
        row = run.generated(len(run.steps), self._goes_onward(key, way))
        generated = Next(row, way.number, None, is_new=way.edited_plane is not None)
        if reference is not None and way.returned:  # the given part is over, and so is its plane
            if way.number == len(reference.rows) and self.info.representation.has_flag:
                row = with_flag(row, True)
            return generated._replace(row=row, is_new=True)
        if self._after is None or way.edited_plane is None:
            return generated
        opens = self._opens(row)
        plane, index = way.plane + opens, 0 if opens else way.index
        share = (plane - way.edited_plane) / (self._after + 1)
        if share >= 1 or run.would_end(row):
            way.returned = True
            way.number = reference.first_number(plane)
            return self._own(key, run, way)
        partner = reference.number.get((plane, index))
        if partner is None:
            return generated._replace(number=-1)
        if share == 0:  # still in the edited plane
            return generated._replace(number=partner)
        other = reference.rows[partner]
        points = (1 - share) * self._loop(row) + share * self._loop(other)
        return Next(self._as_row(points, row), partner, None, is_new=True)

    def _base(self, key, without, plane, index, or_end=False):
        """The loop at a place of the run without some edits, a `Next`; None: there is none.

        Parameters
        ----------
        key : tuple of int, the run that asks
        without : tuple of int, edits of planes
        plane, index : the place; planes are counted as they are opened
        or_end : bool, the end of the sequence counts as a loop
        """
        if not without:
            return None
        run = self._advance(
            tuple(i for i in key if i not in without),
            lambda run: (plane, index) in run.at_place or run.plane > plane,
        )
        t = run.at_place.get((plane, index))
        if t is None:
            return None
        step = run.steps[t]
        if not or_end and (self._is_past(step.given) or not run.is_loop(t)):
            return None
        row = run.taken[t].clone()
        return Next(row, step.number, step.given, step.is_new, step.start, is_edited=True)

    def _is_past(self, given):
        """Whether a row of the reference, or None, is its end."""
        return given is not None and given >= len(self._reference.loops)

    def _covering(self, key, plane):
        """The edits of planes in `key` that cover the plane opened as number `plane`."""
        if plane >= len(self.planes_in_turn):
            return ()
        edits, real = self._edits, self.planes_in_turn[plane]
        return tuple(i for i in key if edits[i].of_planes and edits[i].covers(real))

    def _changes(self, i, number):
        return not self._edits[i].of_planes and self._edits[i].covers(number)

    def _removes(self, i, index):
        return self._edits[i].kind == "remove" and self._edits[i].values["loop"] == index

    def _inserts(self, here, plane):
        """The loops to insert in a plane, largest first: list of `Waiting`."""
        inserts = []
        for i in here:
            if self._edits[i].kind == "insert":
                points = self._edits[i].inserted(self.planes_in_turn[plane])
                inserts.append(Waiting(abs(signed_area(points)), i, points))
        return sorted(inserts, key=lambda waiting: -waiting.area)

    def _insert(self, run, way):
        waiting = way.waiting.pop(0)
        blank = torch.zeros_like(run.taken[0])
        row = with_flag(self._as_row(waiting.points, blank), way.n_taken == 0)
        run.take(row, Step(-1, way.plane, -1, insert=waiting.edit))
        way.n_taken += 1
        way.acted(self._after)

    def _close_plane(self, run, way):
        """Insert what is still to be inserted in the present plane, and look whether it will do."""
        while way.waiting:
            self._insert(run, way)
            yield True
        plane = self.planes_in_turn[way.plane]
        if not way.n_taken:
            raise UserError(
                f"remove: plane {plane} would lose its only loop; a shape has one in each plane"
            )
        steps = range(len(run.steps) - way.n_taken, len(run.steps))
        loops = {t: self._loop(run.taken[t]) for t in steps}
        for t in steps:
            if run.steps[t].insert is None:
                continue
            others = [loops[other] for other in steps if other != t]
            if outlines_cross(loops[t], others):
                raise UserError(
                    f"insert: the loop inserted in plane {plane} crosses itself or another loop of "
                    "the plane; move it or make it smaller"
                )

    # --------------------------------------------------------------------------- rows and loops

    def _opens(self, row):
        return not self.info.representation.has_flag or bool(row[-1] > 0.5)

    def _loop(self, row):
        """The points of a normalised timestep, (k, 2) float64."""
        values = self.info.unnormalise(row.cpu().numpy())
        if self.info.representation.is_polyline:
            return values[:-1].reshape(-1, 2)
        return ellipse_loop(values[:5])

    def _as_row(self, points, like):
        """A loop as a normalised timestep, with the flag of another one."""
        representation = self.info.representation
        values = np.array(self.info.unnormalise(like.cpu().numpy()), dtype=np.float64)
        n_values = representation.n_features - representation.has_flag
        values[:n_values] = edit_functions(representation)["replace"](None, points).ravel()
        return self._normalised(values)

    def _edited(self, row, edits, number):
        values = self.info.unnormalise(row.cpu().numpy())
        edits = [self._edits[i] for i in edits]
        return self._normalised(apply_edits(values, edits, number, self.info.representation))

    def _normalised(self, values):
        # Not `normalise` of the info: that takes a loop of zeros for padding.
        values = (values - self.info.dataset_mean) / self.info.dataset_std
        return torch.from_numpy(values.astype(np.float32)).to(self._latent.device)

    def _shape(self, run):
        info, n_steps = self.info, len(run.steps)
        sequence = np.zeros((info.n_timesteps, info.representation.n_features), dtype=np.float32)
        sequence[:n_steps] = info.unnormalise(run.taken[:n_steps].cpu().numpy())
        reference = self._reference
        given = [step.given for step in run.steps]
        for t, i in enumerate(given):
            if i is not None:
                flag = sequence[t, -1]
                sequence[t] = reference.sequence[i]
                if info.representation.has_flag and (flag > 0.5) != (sequence[t, -1] > 0.5):
                    sequence[t, -1] = flag
        n_placed = next((t for t, i in enumerate(given) if self._is_past(i)), n_steps)
        opened = np.full(len(sequence), -1)
        opened[:n_placed] = info.planes_of(sequence[:n_placed]) if n_placed else -1
        planes = np.where(opened >= 0, self.planes_in_turn[opened], -1)
        timesteps = np.flatnonzero(planes >= 0)
        # As `decode` of the model does: the timestep that ends a sequence is part of it.
        sequence[(timesteps[-1] + 2 if len(timesteps) else 1) :] = 0
        loops_by_plane = info.loops(sequence, planes)
        counts = np.zeros(info.n_planes, dtype=int)
        for t in timesteps:
            if given[t] is not None:
                loops_by_plane[planes[t]][counts[planes[t]]] = reference.loops[given[t]]
            counts[planes[t]] += 1
        steps = [run.steps[t] for t in timesteps]
        edited = np.array([s.start is not None or s.insert is not None for s in steps], dtype=bool)
        is_new = np.array([step.is_new for step in steps], dtype=bool)
        return EditedShape(
            sequence,
            loops_by_plane,
            timesteps,
            np.array([step.number for step in steps], dtype=int),
            np.array([-1 if step.insert is None else step.insert for step in steps], dtype=int),
            planes[timesteps],
            edited=np.flatnonzero(edited),
            regenerated=np.flatnonzero(is_new & ~edited),
        )
