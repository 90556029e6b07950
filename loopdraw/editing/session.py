"""What the controls of an editor do, without the editor: picking, adjusting, saving.

The edit window and the page in the browser show what is here and call these methods; so does a
test, which needs neither.
"""

import contextlib
from pathlib import Path

import numpy as np

from loopdraw.editing.edit_files import save_edits
from loopdraw.editing.editor import LoopEditor, dimensions_by_effect
from loopdraw.editing.edits import NUMBERS, ellipse_points, make_edit, square_points
from loopdraw.editing.written_intervention import save_intervention
from loopdraw.files import UserError
from loopdraw.loops.geometry import resample_loop
from loopdraw.surface.outputs import MESH_FORMATS, claimed_stem, save_shape
from loopdraw.surface.workers import build_surface

N_ACTIVE_DIMENSIONS = 8  # latent sliders
SEARCH_CHUNK = 8  # dimensions tried out in one go, so that the window keeps answering
PICKING_POINTS = 128  # of each loop
PICKING_ANGLE = 0.004  # radians: what the eye takes for the same spot
SLIDERS = {  # kind: (label, name of the number, least, most)
    "move": [("move u", "u", -0.5, 0.5), ("move v", "v", -0.5, 0.5)],
    "scale": [("scale u", "u", 0.2, 3.0), ("scale v", "v", 0.2, 3.0)],
    "rotate": [("rotate", "degrees", -180.0, 180.0)],
    # Shown once there is a square.
    "square": [("its angle", "degrees", -45.0, 45.0), ("its size", "scale", 0.2, 3.0)],
}


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
    given, after, onward : as for `LoopEditor`
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
        given=None,
        after=None,
        onward=None,
    ):
        self.editor = LoopEditor(model, latent, edits, given, after, onward)
        if edits:
            self.editor.leave_as_it_is()
        self.folder = Path(folder)
        self.read_latent = read_latent
        self.read_loops = read_loops
        self.build_surface = build_surface
        self.mesh_formats = mesh_formats
        self.first = self.last = 0  # places of the picked loops in the shape
        self.blend_ends = None  # the two latents (A, B) of the blend slider
        self.dimensions = None  # the most active ones, once they are known
        self._search = None
        self._saved = None  # (state, stem) of the last save
        self._kept = None  # the stem that `keep` writes to

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

    def pick_along(self, origin, direction):
        """Pick the loop that a ray from the eye passes nearest to, as seen by the eye.

        Parameters
        ----------
        origin, direction : (3,) float
        """
        loops = self.editor.shape.loops_in_space(self.editor.info.planes)
        if not loops:
            return
        direction = np.asarray(direction, float) / np.linalg.norm(direction)
        points = np.concatenate([resample_loop(loop, PICKING_POINTS) for loop in loops]) - origin
        depth = points @ direction
        aside = np.linalg.norm(points - depth[:, None] * direction, axis=1)
        angle = np.where(depth > 0, aside / np.maximum(depth, 1e-9), np.inf)
        # Of loops that the ray passes equally near, the front one was meant.
        near = angle <= angle.min() + PICKING_ANGLE
        place = np.flatnonzero(near)[depth[near].argmin()]
        self.pick(int(place // PICKING_POINTS))

    def loops_of(self, edit):
        """The places of the first and the last loop that an edit is of; None where none is left."""
        shape = self.editor.shape
        of = shape.planes if edit.of_planes else shape.numbers
        places = np.flatnonzero((of >= edit.first) & (of <= edit.last))
        return (int(places[0]), int(places[-1])) if len(places) else None

    def pick_edit(self, edit):
        """Pick the loops that an edit is of."""
        places = self.loops_of(edit)
        if places is not None:
            self.pick(*places)

    @property
    def picked(self):
        """Whether the picked loops are there: the sequence may have become shorter."""
        return self.last < self.editor.shape.n_loops

    # ---------------------------------------------------------------------------------- adjusting

    def _range(self):
        """The numbers of the first and the last picked loop.

        Raises
        ------
        UserError
            When one of them has no number.
        """
        numbers = self.editor.shape.numbers
        first, last = (int(numbers[min(i, len(numbers) - 1)]) for i in (self.first, self.last))
        if first < 0 or last < first:
            raise UserError("inserted loops are not edited together with others; pick one loop")
        return first, last

    def _insert_picked(self):
        """The place in the edit list of the edit that inserted the picked loop; None: none did."""
        inserts = self.editor.shape.inserts[self.first : self.first + 1]
        return int(inserts[0]) if len(inserts) and inserts[0] >= 0 else None

    def place_of(self, kind):
        """The place in the edit list of the edit of the picked loops, of a kind; None: none yet."""
        insert = self._insert_picked()
        if insert is not None:
            return insert if kind in ("move", "scale") else None
        if not self.editor.shape.n_loops:
            return None
        numbers = self.editor.shape.numbers
        range_ = tuple(int(numbers[min(i, len(numbers) - 1)]) for i in (self.first, self.last))
        for place in reversed(range(len(self.editor.edits))):
            edit = self.editor.edits[place]
            if not edit.of_planes and (edit.kind, edit.first, edit.last) == (kind, *range_):
                return place
        return None

    def values(self, kind):
        """The numbers of that edit; where there is none, those that change nothing."""
        place = self.place_of(kind)
        if place is None:
            return NUMBERS[kind]
        values = self.editor.edits[place].values
        if kind == "scale" and "scale" in values:  # an inserted loop
            return {"u": values["scale"], "v": values["scale"]}
        return values

    def adjust(self, kind, part_of=None, **values):
        """Set numbers of the edit of the picked loops, which is made when there is none."""
        self._put(self.place_of(kind), kind, values, part_of)

    def _put(self, place, kind, values, part_of):
        if self._insert_picked() is not None:
            if kind not in ("move", "scale"):
                raise UserError("an inserted loop can be moved and scaled")
            if kind == "scale":
                values = {"scale": next(iter(values.values()))}
            edit = self.editor.edits[place].changed(**values, enabled=True)
            self.editor.change(place, edit, part_of)
        elif place is None:
            self.editor.add(make_edit(kind, *self._range(), **values), part_of)
        else:
            edit = self.editor.edits[place].changed(**values, enabled=True)
            self.editor.change(place, edit, part_of)

    def _picked_planes(self):
        planes = self.editor.shape.planes
        if not self.picked:
            raise UserError("pick a loop first")
        return int(planes[self.first]), int(planes[self.last])

    def insert(self, form, beside=0.05):
        """Insert loops beside the first picked one, in the planes of those picked; pick the first.

        Parameters
        ----------
        form : "ellipse", "square" or "copy", of the picked loop
        beside : float, free space between them
        """
        first, last = self._picked_planes()
        loop = self.editor.shape.loops()[self.first]
        size = 0.2 * np.ptp(loop, axis=0).max()
        right, middle = loop[:, 0].max() + beside, loop.mean(axis=0)
        points = {
            "ellipse": ellipse_points(right + size / 2, middle[1], size, size),
            "square": square_points(right + size / 2, middle[1], size),
            "copy": loop + [right - loop[:, 0].min(), 0.0],
        }[form]
        place = self.editor.add(make_edit("insert", first, last, loops=[points.tolist()]))
        # What is inserted is moved next. A shape that has become shorter may lack it.
        inserted = np.flatnonzero(self.editor.shape.inserts == place)
        self.pick(inserted[0] if len(inserted) else self.first)

    def remove_loops(self):
        """Remove the first picked loop, and those of its number in the planes of those picked.

        An inserted loop goes with the edit that inserted it. A loop that is left there is picked.
        """
        first, last = self._picked_planes()
        insert = self._insert_picked()
        if insert is not None:
            self.editor.remove(insert)
            self._pick_in(first)
            return
        shape = self.editor.shape
        index = int((shape.inserts[: self.first][shape.planes[: self.first] == first] < 0).sum())
        # Counted as if nothing were removed: earlier removes have taken some before it.
        taken = sorted(
            edit.values["loop"]
            for edit in self.editor.edits
            if edit.kind == "remove" and edit.acts() and edit.covers(first)
        )
        for loop in taken:
            index += loop <= index
        self.editor.add(make_edit("remove", first, last, loop=index))
        self._pick_in(first)

    def _pick_in(self, plane):
        """Pick the last loop of a plane, of those that were not inserted if there are any."""
        shape = self.editor.shape
        there = shape.planes == plane
        own = there & (shape.inserts < 0)
        left = np.flatnonzero(own if own.any() else there)
        self.pick(left[-1] if len(left) else self.first)

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
        place, values = self.place_of(kind), self.values(kind)
        if place is None or self._insert_picked() is not None:
            return place, values
        first, last = self._range()
        changing = (e for e in self.editor.edits[place + 1 :] if e.kind != "move")
        if any(not e.of_planes and e.first <= last and first <= e.last for e in changing):
            return None, NUMBERS[kind]
        return place, values

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
        numbers = self._range()
        wanted = numbers[1] - numbers[0] + 1
        if start + wanted > len(loops):
            raise UserError(
                f"{word} has {len(loops)} loops; no {wanted} from loop {start} on to take the "
                "place of those picked"
            )
        loops = loops[start : start + wanted]
        try:
            edit = make_edit("replace", *numbers, loops=loops)
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

    def encode(self, mesh):
        """Go to the latent of a mesh, which is centred and made of length 1 first.

        Parameters
        ----------
        mesh : path of its file

        Returns
        -------
        str : how near the model comes to it, in one line

        Raises
        ------
        UserError
            When the file is no mesh.
        """
        from loopdraw.evaluation.own_mesh import encode_mesh

        encoded = encode_mesh(self.editor.model, mesh, fit=True)
        self.editor.set_latent(encoded.latent)
        return encoded.report

    # -------------------------------------------------------------------------------------- saving

    @contextlib.contextmanager
    def stem(self):
        """Yield where to save what belongs to the present state: a new number for each state.

        The state keeps its number if the block succeeds.
        """
        if self._saved and _same(self._saved[0], self._state()):
            yield self._saved[1]
            return
        # What was only kept so far is now saved under its number.
        kept = contextlib.nullcontext(self._kept) if self._kept else claimed_stem(self.folder)
        with kept as stem:
            self._saved = self._state(), stem
            try:
                yield stem
            except BaseException:
                self._saved = None
                raise
        self._kept = None

    def keep(self):
        """Write the edit list as it is now, lest it be lost: to one file, until the next save.

        Returns
        -------
        Path
        """
        if self._saved and _same(self._saved[0], self._state()):
            return self.save_edit_list()
        kept = contextlib.nullcontext(self._kept) if self._kept else claimed_stem(self.folder)
        with kept as stem:
            path = self._write_edit_list(stem)
        self._kept = stem
        return path

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

    def _state(self):
        editor = self.editor
        return editor.latent, editor.edits, editor.after, editor.onward

    def save_edit_list(self):
        """Write the edit list with its latent; the file's path."""
        with self.stem() as stem:
            return self._write_edit_list(stem)

    def _write_edit_list(self, stem):
        editor = self.editor
        path = stem.with_name(stem.name + "-edit.json")
        save_edits(
            path,
            editor.info.representation,
            editor.latent,
            editor.edits,
            editor.starting_centres(),
            editor.after,
            editor.given,
            editor.onward,
        )
        return path

    def save_intervention(self):
        """Write the edits as a `loop_generation_intervention` function; the file's path."""
        editor = self.editor
        by_number = editor.given is None and editor.after is None
        by_number = by_number and not any(edit.of_planes for edit in editor.edits)
        starting = editor.starting_loops() if by_number else None
        put = None if by_number else editor.put_loops()
        with self.path("-intervention.py") as path:
            save_intervention(
                path, editor.info.representation, editor.latent, editor.edits, starting, put
            )
        return path


def _same(state, other):
    return all(
        a is b or (not isinstance(a, np.ndarray) and a == b)
        for a, b in zip(state, other, strict=True)
    )
