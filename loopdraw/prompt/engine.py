"""What the inference REPL's actions do: decode, rebuild, save, show.

`InferenceEngine` is the engine that `loop_inference_config_and_repl` describes. It opens the
checkpoint at once and the dataset when it is needed: for its items, for the training items nearest
to samples, or when no `dataset_info.npz` lies beside the checkpoint.
"""

import contextlib
import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from loopdraw.data.dataset import Batch, DatasetInfo, load_datasets
from loopdraw.editing.edit_files import check_edits, save_edits, warn_of_other_loops
from loopdraw.editing.editor import LoopEditor
from loopdraw.editing.interventions import Intervention, decode_with_intervention
from loopdraw.files import UserError
from loopdraw.loops.representations import sequence_planes, sequence_to_loops
from loopdraw.model.checkpoints import checkpoint_label, load_state
from loopdraw.model.vae import LoopSeqEncoderDecoderModel, pick_device
from loopdraw.prompt.actions import GroundTruth, Outcome, Reconstruction, SequenceView
from loopdraw.prompt.editing import EditingEngine
from loopdraw.surface.outputs import free_stem, save_shape
from loopdraw.view.scene import Scene

INTERVENTION_FILE = Path(__file__).parents[2] / "loop_inference_intervention_func.py"


class InferenceEngine(EditingEngine):
    """Performs the actions of the REPL with a trained model.

    Parameters
    ----------
    options : argparse.Namespace of `options`, with `save_dir`
    workers : workers.SurfaceWorkers
    show : function (title, scene.Scene) that shows a shape to the user, or None
    report : function that gets lines of progress
    edit_window : function (session.EditSession, title) that lets the user edit a shape,
        or None

    Raises
    ------
    UserError
        When the checkpoint or a dataset that it needs is missing or unfit.
    """

    def __init__(self, options, workers, show=None, report=print, edit_window=None):
        self.options = options
        self.report = report
        self.workers = workers
        self.show = show
        self.edit_window = edit_window
        self.intervention = Intervention(INTERVENTION_FILE)
        self._datasets = None  # (train, test), once loaded
        epoch = -1 if options.load_epoch is None else options.load_epoch
        self.info = DatasetInfo.load(options.save_dir, options)
        if self.info is None:
            # Before a dataset is loaded, which may take its time: is there a checkpoint at all?
            load_state(Path(options.save_dir) / f"dec{checkpoint_label(epoch)}_net.pth")
            self.info = self._train_set().info
        device = pick_device(options, report)
        self.model = LoopSeqEncoderDecoderModel(options, self.info, device)
        self.model.load(options.save_dir, epoch)
        self.description = (
            f"{options.save_dir}, epoch {checkpoint_label(epoch)}: {options.architecture}, "
            f"{self.info.representation.name}, {self.info.n_planes} planes, "
            f"latents of {options.latent_size} numbers; on the {device.type.upper()}"
        )

    # ------------------------------------------------------------------------------- the datasets

    def _train_set(self):
        if self._datasets is None:
            self._datasets = load_datasets(self.options, self.info, self.report)
        return self._datasets[0]

    def _items(self):
        """The split whose items the commands name."""
        train = self._train_set()
        if not self.options.load_test_set_for_inference:
            return train
        if self._datasets[1] is None:
            raise UserError(
                f"{self.options.dataroot}: has no test set; leave out --load_test_set_for_inference"
            )
        return self._datasets[1]

    def n_items(self):
        return len(self._items())

    def closest_matches(self, sequences):
        """Index and mean squared difference of the training items nearest to sequences.

        Parameters
        ----------
        sequences : (n, T, F) float, not normalised

        Returns
        -------
        (n, 2) float, or None where there is no dataset with a cache
        """
        if self._datasets is None and not self._has_caches():
            return None
        try:
            items = self._train_set().sequences
        except UserError:
            return None
        items = items.reshape(len(items), -1)
        sequences = sequences.reshape(len(sequences), -1)
        # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b: the nearest in one matrix product, which is exact
        # enough to choose by, but not to report.
        squares = np.einsum("ij,ij->i", items, items)
        nearest = (squares - 2 * sequences @ items.T).argmin(axis=1)
        differences = np.square(items[nearest] - sequences).mean(axis=1, dtype=np.float64)
        return np.stack([nearest, differences], axis=1)

    def _has_caches(self):
        root = Path(self.options.dataroot or "")
        splits = [root / "train", *(path for path in [root / "test"] if path.is_dir())]
        return all((split / "preprocessed_cache.npz").is_file() for split in splits)

    # ----------------------------------------------------------------------------------- actions

    def prepare(self, actions):
        if not any(action.intervene for action in actions):
            return []
        return self.intervention.reload()

    def perform(self, tasks):
        """Perform tasks, decoding together what is decoded; yields an `Outcome` for each."""
        try:
            shapes = self._make(tasks)
        except Exception as error:
            if len(tasks) == 1:
                yield Outcome(error=error)
                return
            # One of them spoils the batch (or it is too large for the device): one by one, then.
            for task in tasks:
                yield from self.perform([task])
            return
        with self._meshes(tasks, shapes) as meshes:
            for task, shape, mesh in zip(tasks, shapes, meshes, strict=True):
                outcome = Outcome(z=shape.z)
                if not isinstance(task.action, (GroundTruth, SequenceView)):
                    outcome.sequence = shape.sequence
                try:
                    outcome.message = self._finish(task.action, shape, mesh)
                except Exception as error:
                    outcome.error = error
                yield outcome

    def _make(self, tasks):
        """The `Shape` of each task."""
        shapes = [Shape(self._latent(task)) for task in tasks]
        to_decode = []
        for task, shape in zip(tasks, shapes, strict=True):
            if isinstance(task.action, GroundTruth):
                shape.sequence = self._items().sequences[task.action.index]
            elif isinstance(task.action, SequenceView):
                shape.sequence = task.value
            elif isinstance(task.action, Reconstruction) and task.action.teacher_forced:
                shape.sequence = self._teacher_forced(task.action.index, shape.z)
            elif task.action.intervene:
                self._decode_with_function(shape, task.seed)
            elif task.action.edit is not None:
                self._decode_with_edits(shape, task.action.edit)
            else:
                to_decode.append(shape)
        if to_decode:
            sequences = self.model.decode(np.stack([shape.z for shape in to_decode]))
            for shape, sequence in zip(to_decode, sequences, strict=True):
                shape.sequence = sequence
        for task, shape in zip(tasks, shapes, strict=True):
            shape.plane_index = self._plane_index(task.action, shape.sequence)
            shape.loops_by_plane = self._loops(shape.sequence, shape.plane_index)
        return shapes

    def _latent(self, task):
        """The latent (L,) of a task; None for those that have none."""
        if isinstance(task.action, (GroundTruth, SequenceView)):
            return None
        if isinstance(task.action, Reconstruction):
            _seed_everything(task.seed)
            batch = self._batch(task.action.index)
            return self.model.encode(batch, task.action.use_enc_sigma)[0].cpu().numpy()
        return task.value

    def _batch(self, index):
        batch = self._items().batch([index])
        return Batch(*(part if part is None else part.to(self.model.device) for part in batch))

    def _decode_with_function(self, shape, seed):
        """Decode a shape through the user's function."""
        _seed_everything(seed)
        if self.show:
            shape.untouched = self.model.decode(shape.z)[0]
        function = self.intervention.function
        with self.intervention.explaining_errors():
            shape.sequence = decode_with_intervention(
                self.model, shape.z, function, edited=shape.edited
            )

    def _decode_with_edits(self, shape, edit_file):
        """Decode a shape under an edit list."""
        check_edits(edit_file, self.info)
        editor = LoopEditor(self.model, shape.z, edit_file.edits)
        shape.sequence = editor.shape.sequence
        shape.centres = editor.starting_centres()
        shape.warning = warn_of_other_loops(edit_file, editor)
        if self.show:
            shape.untouched = editor.untouched.sequence
            shape.edited = set(editor.shape.timesteps[editor.shape.edited].tolist())

    def _teacher_forced(self, index, latent):
        """The decoder's sequence (T, F) for an item of which it is told each loop in turn."""
        batch = self._batch(index)
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
            return self._items().plane_indices[action.index]
        info = self.info
        planes = sequence_planes(sequence, info.n_planes, info.representation, info.use_eos_token)
        if isinstance(action, SequenceView):
            # After the flags have been counted: they count where their loops are not shown, too.
            planes[: action.start] = -1
            planes[len(planes) if action.end is None else action.end :] = -1
        return planes

    def _loops(self, sequence, plane_index=None):
        info = self.info
        return sequence_to_loops(
            sequence, info.n_planes, info.representation, info.use_eos_token, plane_index
        )

    @contextlib.contextmanager
    def _meshes(self, tasks, shapes):
        """For each shape a function that gives its mesh, or None where none is wanted."""
        wanted = [
            shape
            for task, shape in zip(tasks, shapes, strict=True)
            if shape.n_loops and (task.action.save or self.show)
        ]
        loops = [shape.loops_by_plane for shape in wanted]
        with self.workers.surfaces(self.info.planes, loops) as surfaces:
            found = dict(zip(map(id, wanted), surfaces, strict=True))
            yield [found.get(id(shape)) for shape in shapes]

    def _finish(self, action, shape, mesh):
        """Save and show a shape as its action asks; returns what there is to say."""
        if not shape.n_loops:
            raise UserError("no loops, so there is nothing to save or show")
        n_planes = sum(map(bool, shape.loops_by_plane))
        message = f"{shape.n_loops} loops on {n_planes} planes"
        if shape.warning:
            message += f" (warning: {shape.warning})"
        if mesh is None:
            return message
        try:
            mesh = mesh()
        except ValueError as error:
            raise UserError(f"no mesh: {error}") from error
        if action.save:
            stem = free_stem(Path(self.options.save_dir) / "inference", _label(action))
            if action.edit is not None:
                representation, edits = self.info.representation, action.edit.edits
                path = stem.with_name(stem.name + "-edit.json")
                save_edits(path, representation, shape.z, edits, shape.centres)
            path = save_shape(
                stem,
                self.info.planes,
                shape.loops_by_plane,
                mesh,
                shape.z,
                action.formats,
                self.options.save_format,
            )
            message += f", saved {path}"
        if self.show:
            self.show(action.text, self._scene(shape, mesh))
        return message

    def _scene(self, shape, mesh):
        numbers = np.cumsum(shape.plane_index >= 0) - 1  # timestep -> number of its loop
        placed = np.flatnonzero(shape.plane_index >= 0)
        edited = [int(numbers[t]) for t in placed if t in shape.edited]
        later = range(min(edited), len(placed)) if edited else ()
        untouched = None
        if edited:
            untouched = self.info.planes, self._loops(shape.untouched)
        return Scene(
            mesh=mesh,
            planes=self.info.planes,
            loops_by_plane=shape.loops_by_plane,
            edited=edited,
            regenerated=later,
            untouched=untouched,
        )


@dataclass
class Shape:
    """A shape on its way from a latent to a mesh."""

    z: np.ndarray | None  # (L,)
    sequence: np.ndarray | None = None  # (T, F), not normalised
    plane_index: np.ndarray | None = None  # (T,) int, -1 where there is no loop
    loops_by_plane: list = ()
    edited: set = field(default_factory=set)  # timesteps that the user's function changed
    untouched: np.ndarray | None = None  # (T, F), the sequence without the edit
    centres: dict | None = None  # `EditedDecoder.starting_centres`
    warning: str | None = None

    @property
    def n_loops(self):
        return sum(map(len, self.loops_by_plane))


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
