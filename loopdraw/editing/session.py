"""What the controls of the edit window do, without the window: picking, adjusting, saving.

The window shows what is here and calls these methods; so does a test, which needs no display.
"""

import contextlib
from pathlib import Path

import numpy as np

from loopdraw.editing.edit_files import save_edits
from loopdraw.editing.editor import LoopEditor, dimensions_by_effect
from loopdraw.editing.edits import NUMBERS, make_edit
from loopdraw.editing.written_intervention import save_intervention
from loopdraw.files import UserError
from loopdraw.surface.outputs import MESH_FORMATS, claimed_stem, save_shape
from loopdraw.surface.workers import build_surface

N_ACTIVE_DIMENSIONS = 8  # latent sliders
SEARCH_CHUNK = 8  # dimensions tried out in one go, so that the window keeps answering


class EditSession:
    """A `LoopEditor` with a picked range of loops.

    Parameters
    ----------
    model : vae.LoopSeqEncoderDecoderModel
    latent : (L,) float
    edits : list of Edit
    folder : path of the folder that is saved to
    read_latent : function from a word (`?`, `$name`, `|file`) to a latent (L,)
    read_loops : function from a word (`$name`, `|file`) to a list of (k, 2) loops
    build_surface : function (planes, loops_by_plane) that gives the vertices and faces to save
    mesh_formats : endings of the mesh files to save, without their points
    """

    def __init__(
        self,
        model,
        latent,
        edits,
        folder,
        read_latent,
        read_loops,
        build_surface=build_surface,
        mesh_formats=MESH_FORMATS,
    ):
        self.editor = LoopEditor(model, latent, edits)
        self.folder = Path(folder)
        self.read_latent = read_latent
        self.read_loops = read_loops
        self.build_surface = build_surface
        self.mesh_formats = mesh_formats
        self.first = self.last = 0
        self.blend_ends = None  # the two latents (A, B) of the blend slider
        self.dimensions = None  # the most active ones, once they are known
        self._search = None
        self._saved = None  # (latent, edits, stem) of the last save

    # ------------------------------------------------------------------------------------ picking

    def pick(self, first, last=None):
        """Pick the loops `first` to `last`, or `first` alone, as far as they are there."""
        n_loops = max(self.editor.shape.n_loops, 1)
        self.first = int(np.clip(first, 0, n_loops - 1))
        self.last = int(np.clip(self.first if last is None else last, self.first, n_loops - 1))

    def pick_nearest(self, point):
        """Pick the loop that passes nearest to a point in space (3,)."""
        points = self.editor.shape.loops_in_space(self.editor.info.planes)
        if points:
            distances = [np.linalg.norm(loop - point, axis=1).min() for loop in points]
            self.pick(int(np.argmin(distances)))

    @property
    def picked(self):
        """Whether the picked loops are there: the sequence may have become shorter."""
        return self.last < self.editor.shape.n_loops

    # ---------------------------------------------------------------------------------- adjusting

    def place_of(self, kind):
        """The place in the edit list of the edit of the picked loops, of a kind; None: none yet."""
        for place in reversed(range(len(self.editor.edits))):
            edit = self.editor.edits[place]
            if (edit.kind, edit.first, edit.last) == (kind, self.first, self.last):
                return place
        return None

    def values(self, kind):
        """The numbers of that edit; where there is none, those that change nothing."""
        place = self.place_of(kind)
        return NUMBERS[kind] if place is None else self.editor.edits[place].values

    def adjust(self, kind, part_of=None, **values):
        """Set numbers of the edit of the picked loops, which is made when there is none."""
        self._put(self.place_of(kind), kind, values, part_of)

    def _put(self, place, kind, values, part_of):
        if place is None:
            self.editor.add(make_edit(kind, self.first, self.last, **values), part_of)
        else:
            edit = self.editor.edits[place].changed(**values, enabled=True)
            self.editor.change(place, edit, part_of)

    def drag(self, part_of, move=(0.0, 0.0), degrees=0.0, scale=(1.0, 1.0)):
        """Move, turn and scale the picked loops further, by what the mouse has done.

        Parameters
        ----------
        part_of : what says which drag this is
        move : (u, v), in the plane of the loops
        degrees : counter-clockwise in (u, v)
        scale : factors along u and v
        """
        if any(move):
            old = self.values("move")
            self.adjust("move", part_of, u=old["u"] + move[0], v=old["v"] + move[1])
        if degrees:
            place, old = self._last("rotate")
            turned = (old["degrees"] + degrees + 180.0) % 360.0 - 180.0
            self._put(place, "rotate", {"degrees": turned}, part_of)
        if tuple(scale) != (1.0, 1.0):
            place, old = self._last("scale")
            scaled = {"u": old["u"] * scale[0], "v": old["v"] * scale[1]}
            self._put(place, "scale", scaled, part_of)

    def _last(self, kind):
        """Place and values of the edit of a kind to go on with, by hand: what is seen is turned.

        None, and values that change nothing, where a later edit has changed the form of the loops.
        """
        place = self.place_of(kind)
        later = () if place is None else self.editor.edits[place + 1 :]
        if any(e.kind != "move" and e.first <= self.last and self.first <= e.last for e in later):
            place = None
        return place, NUMBERS[kind] if place is None else self.editor.edits[place].values

    def make_square(self):
        """Make the picked loops square."""
        if self.place_of("square") is None:
            self.adjust("square")

    def replace(self, word, start):
        """Replace the picked loops by those of another shape, from loop `start` on.

        Raises
        ------
        UserError
            When `word` names no loops, too few, or loops without extent.
        """
        loops = self.read_loops(word)
        wanted = self.last - self.first + 1
        if start + wanted > len(loops):
            raise UserError(
                f"{word} has {len(loops)} loops; no {wanted} from loop {start} on to take the "
                "place of those picked"
            )
        loops = loops[start : start + wanted]
        try:
            edit = make_edit("replace", self.first, self.last, loops=loops)
        except ValueError as error:
            raise UserError(f"{word}: {error}") from None
        self.editor.add(edit)

    # ---------------------------------------------------------------------------------- the latent

    def set_blend_end(self, word):
        """Blend from the latent as it is now to the one that a word names."""
        self.blend_ends = self.editor.latent, self.read_latent(word)

    def blend(self, position, part_of=None):
        """Go to a place between the two latents: 0 at the first, 1 at the second."""
        start, end = self.blend_ends
        self.editor.set_latent((1 - position) * start + position * end, part_of)

    def set_dimension(self, dimension, value, part_of=None):
        """Set one number of the latent."""
        latent = self.editor.latent.copy()
        latent[dimension] = value
        self.editor.set_latent(latent, part_of)

    def search_dimensions(self):
        """Look for the most active dimensions a little further; call until they are known."""
        if self._search is None:
            self._search = dimensions_by_effect(self.editor.model, self.editor.latent, SEARCH_CHUNK)
        order = next(self._search)
        if order is not None:
            self.dimensions = order[:N_ACTIVE_DIMENSIONS].tolist()

    # -------------------------------------------------------------------------------------- saving

    @contextlib.contextmanager
    def stem(self):
        """Yield where to save what belongs to the present state: a new number for each state.

        The state keeps its number if the block succeeds.
        """
        latent, edits = self.editor.latent, self.editor.edits
        if self._saved and self._saved[0] is latent and self._saved[1] == edits:
            yield self._saved[2]
            return
        with claimed_stem(self.folder) as stem:
            self._saved = latent, edits, stem
            try:
                yield stem
            except BaseException:
                self._saved = None
                raise

    @contextlib.contextmanager
    def path(self, suffix):
        """Yield `stem` with a suffix, such as "-edit.json", to write to."""
        with self.stem() as stem:
            yield stem.with_name(stem.name + suffix)

    def save(self, formats=()):
        """Write the mesh, the loops, the latent and the edit list.

        Parameters
        ----------
        formats : names of export.FORMATS, to write as well

        Returns
        -------
        Path of the mesh

        Raises
        ------
        UserError
            When there are no loops or a file cannot be written.
        """
        editor, info = self.editor, self.editor.info
        loops_by_plane = editor.shape.loops_by_plane
        mesh = self.build_surface(info.planes, loops_by_plane)
        with self.stem() as stem:
            self.save_edit_list()
            return save_shape(
                stem,
                info.planes,
                loops_by_plane,
                mesh,
                editor.latent,
                formats,
                self.mesh_formats,
            )

    def save_edit_list(self):
        """Write the edit list with its latent; the file's path."""
        editor = self.editor
        centres = editor.starting_centres()
        with self.path("-edit.json") as path:
            save_edits(path, editor.info.representation, editor.latent, editor.edits, centres)
        return path

    def save_intervention(self):
        """Write the edits as a `loop_generation_intervention` function; the file's path."""
        editor = self.editor
        loops = editor.starting_loops()
        with self.path("-intervention.py") as path:
            save_intervention(path, editor.info.representation, editor.latent, editor.edits, loops)
        return path
