"""What the inference REPL's actions do: decode, rebuild, save, show.

`InferenceEngine` is the engine that `loop_inference_config_and_repl` describes.
"""

import functools
import random
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from loopdraw.editing.edit_files import check_edits, save_edits, warnings_about
from loopdraw.editing.editor import LoopEditor
from loopdraw.editing.given import complete, given_sequence, given_shape, given_slices
from loopdraw.editing.interventions import Intervention, decode_with_intervention
from loopdraw.editing.session import EditSession
from loopdraw.evaluation.own_mesh import encode_mesh
from loopdraw.files import UserError
from loopdraw.prompt.actions import (
    Completion,
    GroundTruth,
    Outcome,
    Reconstruction,
    Sample,
    SequenceView,
    counted,
)
from loopdraw.surface.outputs import MESH_FORMATS, Saving, claimed_number, claimed_stem, save_shape
from loopdraw.view.html.page import before_and_after, save_shape_and_page
from loopdraw.view.scene import Scene

FIRST_NOTE, NEXT_NOTE = 2.0, 10.0  # seconds, of progress while a mesh is made

_NO_WINDOW = (
    "edit: no window can be opened here; --viewer browser opens a page instead, and an edit list "
    "that was saved elsewhere is applied by submit decode <z> --edit <file>"
)


class InferenceEngine:
    """Performs the actions of the REPL with a trained model.

    Parameters
    ----------
    model : LoopSeqEncoderDecoderModel
    items : Items of the dataset
    workers : SurfaceWorkers
    folder : path of the folder that shapes are saved to
    intervention_file : path of the user's editing function
    mesh_formats : endings of the mesh files to save, without their points
    show : function (title, Scene) that shows a shape to the user, or None
    edit_window : function (EditSession, title) that lets the user edit a shape, or None
    report : function that gets what there is to say beside outcomes
    """

    def __init__(
        self,
        model,
        items,
        workers,
        folder,
        intervention_file,
        mesh_formats=MESH_FORMATS,
        show=None,
        edit_window=None,
        report=print,
    ):
        self.model = model
        self.info = model.info
        self.items = items
        self.workers = workers
        self.folder = Path(folder)
        self.intervention = Intervention(intervention_file)
        self.mesh_formats = mesh_formats
        self.show = show
        self.edit_window = edit_window
        self.report = report

    def n_items(self):
        return len(self.items)

    def closest_matches(self, sequences):
        """As `Items.closest_matches`."""
        return self.items.closest_matches(sequences)

    # ----------------------------------------------------------------------------------- actions

    def prepare(self, actions):
        if not any(action.intervene for action in actions):
            return []
        return self.intervention.reload()

    def perform(self, tasks):
        """Perform tasks, decoding together what is decoded.

        The shapes are made at once, their surfaces and files while the caller does something else.
        With windows, everything waits for the outcomes to be asked for.

        Returns
        -------
        Outcomes
        """
        outcomes = Outcomes(lambda: self._begin(tasks))
        if not self.show:
            outcomes.begin()
        return outcomes

    def _begin(self, tasks):
        """For each task the shape in the making: a PendingShape, or None where no mesh is wanted;
        and a function that gives the Outcome.
        """
        shapes = self._shapes(tasks)
        wanted = [
            (shape, task.action)
            for task, shape in zip(tasks, shapes, strict=True)
            if isinstance(shape, Shape) and shape.n_loops and (task.action.save or self.show)
        ]
        put = self.workers.put(
            self.info.planes,
            [shape.loops_by_plane for shape, _ in wanted],
            [self._saving(action, shape) if action.save else None for shape, action in wanted],
        )
        pending = {id(shape): one for (shape, _), one in zip(wanted, put, strict=True)}
        for task, shape in zip(tasks, shapes, strict=True):
            one = pending.get(id(shape))
            yield one, functools.partial(self._outcome, task.action, shape, one)

    def _shapes(self, tasks):
        """The `Shape` of each task, or the error of making it."""
        try:
            return self._make(tasks)
        except Exception as error:
            if len(tasks) == 1:
                return [error]
            # One of them spoils the batch (or it is too large for the device): one by one, then.
            return [shape for task in tasks for shape in self._shapes([task])]

    def _outcome(self, action, shape, pending):
        if isinstance(shape, Exception):
            return Outcome(error=shape)
        outcome = Outcome(z=shape.z)
        if not isinstance(action, (GroundTruth, SequenceView)):
            outcome.sequence = shape.sequence
        try:
            outcome.message = self._finish(action, shape, pending)
        except Exception as error:
            outcome.error = error
        return outcome

    def _make(self, tasks):
        """The `Shape` of each task."""
        shapes = [Shape(self._latent(task)) for task in tasks]
        to_decode, to_check = [], []
        for task, shape in zip(tasks, shapes, strict=True):
            if isinstance(task.action, GroundTruth):
                shape.sequence = self.items.split.sequences[task.action.index]
            elif isinstance(task.action, SequenceView):
                shape.sequence = task.value
            elif isinstance(task.action, Reconstruction) and task.action.teacher_forced:
                shape.sequence = self._teacher_forced(task.action.index, shape.z)
            elif task.action.intervene:
                self._decode_with_function(shape, task)
            elif isinstance(task.action, Completion):
                self._complete(shape, task)
            elif task.action.edit is not None or self._given(task) is not None:
                self._decode_with_edits(shape, task)
            elif task.action.checked:
                to_check.append((shape, task.seed))
            else:
                to_decode.append(shape)
        if to_decode:
            sequences = self.model.decode(np.stack([shape.z for shape in to_decode]))
            for shape, sequence in zip(to_decode, sequences, strict=True):
                shape.sequence = sequence
        if to_check:
            self._draw_checked(*zip(*to_check, strict=True))
        for task, shape in zip(tasks, shapes, strict=True):
            if shape.plane_index is not None:
                continue
            shape.plane_index = self._plane_index(task.action, shape.sequence)
            if not isinstance(task.action, GroundTruth):
                self._bound(shape)
            shape.loops_by_plane = self.info.loops(shape.sequence, shape.plane_index)
        return shapes

    def _latent(self, task):
        """The latent (L,) of a task; None for those that have none."""
        if isinstance(task.action, (GroundTruth, SequenceView)):
            return None
        if isinstance(task.action, Reconstruction):
            _seed_everything(task.seed)
            batch = self.items.batch(task.action.index)
            return self.model.encode(batch, task.action.use_enc_sigma)[0].cpu().numpy()
        return task.value

    def _draw_checked(self, shapes, seeds):
        """Decode samples, drawing faulty ones again."""
        from loopdraw.evaluation.checks import draw_checked  # it takes a while to import

        started = time.monotonic()
        due = FIRST_NOTE

        def report(n_settled, n_drawn):
            nonlocal due
            if time.monotonic() - started >= due:
                due = time.monotonic() - started + NEXT_NOTE
                self.report(
                    f"checking samples: {n_settled} of {len(shapes)} done, "
                    f"{counted(n_drawn, 'shape')} drawn"
                )

        checked = draw_checked(self.model, [shape.z for shape in shapes], seeds, report)
        for shape, z, sequence, draws, fault in zip(shapes, *checked, strict=True):
            shape.z, shape.sequence, shape.draws = z, sequence, draws
            if fault:
                shape.warnings.append(f"{fault} still")

    def _decode_with_function(self, shape, task):
        """Decode a shape through the user's function."""
        _seed_everything(task.seed)
        if self.show or task.action.page:
            shape.untouched = self.info.loops(self.model.decode(shape.z)[0])
        function = self.intervention.function
        with self.intervention.explaining_errors():
            shape.sequence = decode_with_intervention(
                self.model, shape.z, function, edited=shape.edited
            )

    def _given(self, task):
        """The `GivenShape` of a task whose loops are given; None for those of a latent."""
        if task.action.given is None and task.value is not None and task.value.ndim == 2:
            return given_sequence(self.model, task.value)
        return task.action.given

    def _decode_with_edits(self, shape, task):
        """Decode a shape, given by its loops or not, under an edit list, if there is one."""
        shape.given, edit_file = self._given(task), task.action.edit
        if shape.given is not None:
            shape.z = shape.given.latent
        edits, after, onward = [], None, None
        if edit_file is not None:
            check_edits(edit_file, self.info)
            edits, after, onward = edit_file.edits, edit_file.after, edit_file.onward_of(shape.z)
        editor = LoopEditor(self.model, shape.z, edits, shape.given, after, onward)
        if edit_file is not None and not np.array_equal(shape.z, edit_file.latent):
            editor.carry_on()  # of the file's own shape, it has been looked for already
        shape.take(editor.shape)
        shape.onward = editor.onward
        if edit_file is not None:
            shape.centres = editor.starting_centres()
            shape.warnings += warnings_about(edit_file, editor)
        if self.show or task.action.page:
            shape.untouched = editor.untouched.loops_by_plane
            shape.edited = set(editor.shape.timesteps[editor.shape.edited].tolist())

    def _complete(self, shape, task):
        """One of the ways to go on with a shape; all are found with the first."""
        action = task.action
        if not action.found:
            given = self._given(task)
            if given is None:
                given = given_sequence(self.model, self.model.decode(shape.z)[0], shape.z)
            rng = np.random.default_rng(task.seed)
            action.found += complete(self.model, given, action.plane, action.n, rng)
        part, whole = action.found[action.number]
        shape.z = part.latent
        shape.take(whole)

    def _teacher_forced(self, index, latent):
        """The decoder's sequence (T, F) for an item of which it is told each loop in turn."""
        batch = self.items.batch(index)
        with torch.inference_mode():
            z = torch.as_tensor(latent, device=self.model.device)[None]
            outputs = self.model.teacher_forced(batch, z)
            if self.info.representation.has_flag:
                outputs[..., -1].sigmoid_()
        sequence = self.info.unnormalise(outputs[:, 0].cpu().numpy()).astype(np.float32)
        sequence[batch.padding[1:, 0].cpu().numpy()] = 0
        return sequence

    def _plane_index(self, action, sequence):
        """The plane of each timestep, (T,) int, -1 where there is no loop."""
        if isinstance(action, GroundTruth):
            return self.items.split.plane_indices[action.index]
        planes = self.info.planes_of(sequence)
        if isinstance(action, SequenceView):
            # After the flags have been counted: they count where their loops are not shown, too.
            planes[: action.start] = -1
            planes[len(planes) if action.end is None else action.end :] = -1
        return planes

    def _bound(self, shape):
        """Leave out loops of a shape that are too many for a mesh, and say so."""
        bounded = self.info.within_bounds(shape.plane_index)
        n_left_out = np.count_nonzero(bounded != shape.plane_index)
        if n_left_out:
            shape.warnings.append(
                f"{n_left_out} more are left out, those beyond the first {self.info.most_drawn} of "
                f"a plane; the training set has {self.info.most_loops} at most, so the model is "
                "hardly trained"
            )
        shape.plane_index = bounded

    def _finish(self, action, shape, pending):
        """See a shape saved and show it, as its action asks; returns what there is to say."""
        if not shape.n_loops:
            raise UserError("no loops, so there is nothing to save or show")
        n_planes = sum(map(bool, shape.loops_by_plane))
        message = f"{shape.n_loops} loops on {n_planes} planes"
        if shape.draws:
            message += f", {counted(shape.draws, 'shape')} drawn"
        for warning in shape.warnings:
            message += f" (warning: {warning})"
        if pending is None:
            return message
        due = FIRST_NOTE  # seconds, when there will be more to say of the progress

        def waiting(seconds):
            nonlocal due
            if seconds >= due:
                due = seconds + NEXT_NOTE
                self.report(
                    f"making a mesh of {shape.n_loops} loops: {seconds:.0f} s so far, of "
                    f"{self.workers.mesh_seconds:g} at most"
                )

        try:
            mesh, path = pending.wait(waiting)
        except ValueError as error:
            raise UserError(f"no mesh: {error}") from error
        if path is not None:
            message += f", saved {path}"
        if self.show:
            self.show(action.text, self._scene(shape, mesh))
        return message

    def _saving(self, action, shape):
        """How a shape is saved, an outputs.Saving."""
        write = functools.partial(
            save_shape,
            planes=self.info.planes,
            loops_by_plane=shape.loops_by_plane,
            z=shape.z,
            formats=action.formats,
            mesh_formats=self.mesh_formats,
        )
        if action.page:
            edits = action.edit.edits if action.edit is not None else []
            write = functools.partial(
                save_shape_and_page,
                write,
                self._scene(shape, None),
                f"Made at the prompt by `{action.text}`",
                before_and_after(edits),
                self.workers.build,
            )
        before = None
        if action.edit is not None:

            def before(stem):
                representation, edits = self.info.representation, action.edit.edits
                path, after = stem.with_name(stem.name + "-edit.json"), action.edit.after
                save_edits(
                    path,
                    representation,
                    shape.z,
                    edits,
                    shape.centres,
                    after,
                    shape.given,
                    shape.onward,
                )

        claim = functools.partial(claimed_stem, self.folder, _label(action))
        if isinstance(action, Sample) and action.number is not None:
            claim = functools.partial(claimed_number, self.folder, action.number, action.owner)
        return Saving(claim, write, before)

    def _scene(self, shape, mesh):
        numbers = np.cumsum(shape.plane_index >= 0) - 1  # timestep -> number of its loop
        placed = np.flatnonzero(shape.plane_index >= 0)
        edited = [int(numbers[t]) for t in placed if t in shape.edited]
        later = range(min(edited), len(placed)) if edited else ()
        untouched = None
        if edited:
            untouched = self.info.planes, shape.untouched
        return Scene(
            mesh=mesh,
            planes=self.info.planes,
            loops_by_plane=shape.loops_by_plane,
            edited=edited,
            regenerated=later,
            untouched=untouched,
        )

    # ----------------------------------------------------------- editing, and meshes of one's own

    def edit(self, title, latent, edit_file, read_latent, read_loops, given=None, after=None):
        """Let the user edit a shape in a window.

        Parameters
        ----------
        title : str
        latent : (L,) float, or a sequence (T, F) whose loops are edited
        edit_file : edit_files.EditFile to start with, or None
        read_latent, read_loops : as `session.EditSession`
        given : given.GivenShape whose loops are edited, or None
        after : int or None, see `EditedDecoder.decode`

        Returns
        -------
        latent : (L,) float, as it is when the window is closed
        sequence : (T, F) float32, likewise
        message : str, what there is to say

        Raises
        ------
        UserError
            When no window can be opened, or the model cannot take the edits.
        """
        if self.edit_window is None:
            raise UserError(_NO_WINDOW)
        if given is None and latent.ndim == 2:
            given = given_sequence(self.model, latent)
            latent = given.latent
        edits = []
        if edit_file is not None:
            check_edits(edit_file, self.info)
            edits = edit_file.edits
        session = EditSession(
            self.model,
            latent,
            edits,
            self.folder,
            read_latent,
            read_loops,
            build_surface=self.workers.build,
            mesh_formats=self.mesh_formats,
            given=given,
            after=after,
            onward=None if edit_file is None else edit_file.onward_of(latent),
        )
        if edit_file is not None:
            for warning in warnings_about(edit_file, session.editor):
                self.report(f"warning: {warning}")
        try:
            opened = self.edit_window(session, title)
        except KeyboardInterrupt:
            raise UserError(f"stopped; {_kept(session)}") from None
        if not opened:
            raise UserError(_NO_WINDOW)
        return session.editor.latent, session.editor.shape.sequence, _kept(session)

    def loops_of(self, sequence):
        """The loops (k, 2) of a sequence (T, F), one after the other."""
        return [loop for loops in self.info.loops(sequence) for loop in loops]

    def given_item(self, index):
        """Item `index` of the dataset as a `GivenShape`; UserError when there is none."""
        if index >= len(self.items):
            raise UserError(f"gt:{index}: no such item; the dataset has {len(self.items)}")
        split, latent = self.items.split, None
        if self.model.needs_point_clouds:
            latent = self.model.encode(self.items.batch(index))[0].cpu().numpy()
        loops = self.info.loops(split.sequences[index], split.plane_indices[index])
        return given_shape(self.model, loops, latent)

    def given_slices(self, planes, loops_by_plane):
        """As `given.given_slices`."""
        return given_slices(self.model, planes, loops_by_plane)

    def given_mesh(self, encoded):
        """An `EncodedMesh` as a `GivenShape`."""
        return given_shape(self.model, encoded.loops_by_plane, encoded.latent)

    def given_file(self, edit_file):
        """As `EditFile.given_shape`."""
        check_edits(edit_file, self.info)
        return edit_file.given_shape(self.model)

    def encode_mesh(self, path, fit, refine, up):
        """As `own_mesh.encode_mesh`."""
        say = self.report
        return encode_mesh(
            self.model, path, fit, refine, up=up, say=lambda line: say(f"encode: {line}")
        )


class Outcomes:
    """The outcomes of tasks, in their order: an iterator.

    Parameters
    ----------
    begin : function that begins the tasks and gives pairs, as `InferenceEngine._begin`
    """

    def __init__(self, begin):
        self._begin, self._parts = begin, None
        self._closed = False

    def begin(self):
        if self._parts is None:
            self._parts = deque(self._begin())

    def __iter__(self):
        return self

    def __next__(self):
        self.begin()
        if not self._parts:
            raise StopIteration
        pending, outcome = self._parts[0]
        if self._closed and not (pending and pending.is_saved()):
            raise StopIteration
        outcome = outcome()
        self._parts.popleft()
        return outcome

    def close(self):
        """Begin no more. What is saved by then is still given."""
        self._closed = True
        self._parts = self._parts or deque()
        for pending, _ in self._parts:
            if pending:
                pending.stop()


@dataclass
class Shape:
    """A shape on its way from a latent to a mesh."""

    z: np.ndarray | None  # (L,)
    sequence: np.ndarray | None = None  # (T, F), not normalised
    plane_index: np.ndarray | None = None  # (T,) int, -1 where there is no loop
    loops_by_plane: list = ()
    edited: set = field(default_factory=set)  # timesteps that the user's function changed
    untouched: list | None = None  # the loops of each plane without the edit
    given: object = None  # the GivenShape that was edited
    onward: np.ndarray | None = None  # (L,), see `EditedDecoder.decode`
    centres: dict | None = None  # `EditedDecoder.starting_centres`
    warnings: list = field(default_factory=list)  # lines to print with the outcome
    draws: int = 0  # how many shapes were drawn for a checked sample

    @property
    def n_loops(self):
        return sum(map(len, self.loops_by_plane))

    def take(self, edited):
        """Take the loops of a `decoding.EditedShape`."""
        self.sequence, self.loops_by_plane = edited.sequence, edited.loops_by_plane
        self.plane_index = np.full(len(edited.sequence), -1)
        self.plane_index[edited.timesteps] = edited.planes


def _label(action):
    """What stands for `#` in the names of an action's files; None: the next number."""
    if isinstance(action, GroundTruth):
        return f"gt{action.index}"
    if isinstance(action, Reconstruction):
        return f"reco{action.index}"
    return "seqviz" if isinstance(action, SequenceView) else None


def _seed_everything(seed):
    """Seed the generators that the encoder's noise and the user's functions draw from."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (for users' functions that call np.random)
    torch.manual_seed(seed)


def _kept(session):
    """Keep the edits in a file, saved or not: work by hand is not to be lost with the window."""
    edits = session.editor.edits
    return f"{len(edits)} edits, kept in {session.save_edit_list()}" if edits else "no edits"
