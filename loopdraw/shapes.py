"""The door for programs: load a model, make shapes, edit them, look at them, save them.

`loopdraw/__init__.py` hands on what is here, so write `loopdraw.load(...)`.
"""

import base64
import functools
import io
from pathlib import Path

import numpy as np

from loopdraw.files import UserError, write_aside
from loopdraw.loops.geometry import make_planes

PREVIEW_SIZE = (480, 480)  # pixels, of the picture in a notebook


class Shape:
    """A shape as loops, with a surface that is made when asked for.

    Attributes
    ----------
    planes : (P, 4, 3) float, normal, point, x axis and y axis of each plane
    loops : list of P lists of (k, 2) float loops, in the coordinates of their plane
    z : (L,) float latent, or None
    sequence : (T, F) float32 loop sequence, not normalised, or None
    edits : list of Edit that led here from z
    number : int, place among the shapes made together
    """

    def __init__(
        self, planes, loops, *, z=None, sequence=None, edits=(), number=0, model=None, before=None
    ):
        self.planes = planes
        self.loops = loops
        self.z = z
        self.sequence = sequence
        self.edits = list(edits)
        self.number = number
        self._model = model
        self._before = before  # the Shape before the edits

    def __repr__(self):
        n_planes = sum(map(bool, self.loops))
        return f"<loopdraw.Shape: {sum(map(len, self.loops))} loops on {n_planes} planes>"

    @functools.cached_property
    def mesh(self):
        """The closed surface, a trimesh.Trimesh.

        Raises
        ------
        UserError
            When no surface can be built from the loops.
        """
        return reconstruct(self)

    def edit(self, *edits):
        """The shape under edits: loops change, and those above follow.

        Parameters
        ----------
        edits : `Move`, `Scale`, `Rotate`, `Square`, `Replace`, added to those the shape has

        Returns
        -------
        Shape

        Raises
        ------
        UserError
            When the shape has no latent, or an edit does not fit the model.
        """
        from loopdraw.editing.editor import LoopEditor

        if self.z is None or self._model is None:
            raise UserError("edit: the shape has no latent; make it with a model")
        edits = [*self.edits, *edits]
        try:
            edited = LoopEditor(self._model.network, self.z, edits).shape
        except ValueError as error:
            raise UserError(f"edit: {error}") from None
        before = self._before or self
        return self._model.shape_of(edited.sequence, self.z, edits=edits, before=before)

    def save(self, path):
        """Write a file of the kind that its name ends in.

        Parameters
        ----------
        path : `.obj`, `.ply`, `.stl`, `.glb`: the mesh; `-slices.npz`: the loops, as the prompt
            saves them; `.svg`: all slices in one drawing; `.json`: the loops as numbers;
            `-latent.txt`: the latent; `.png`: a picture

        Returns
        -------
        Path

        Raises
        ------
        UserError
            When the ending is another one, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix in (".obj", ".ply", ".stl", ".glb"):
            from loopdraw.loops.mesh_files import save_mesh

            save_mesh(path, self.mesh.vertices, self.mesh.faces)
        elif path.suffix == ".npz":
            from loopdraw.loops.slices_files import save_slices

            save_slices(path, self.planes, self.loops)
        elif path.suffix in (".svg", ".json"):
            from loopdraw.surface.export import save_loops, save_sheet

            save = {".svg": save_sheet, ".json": save_loops}[path.suffix]
            save(path, self.planes, self.loops)
        elif path.suffix == ".txt":
            if self.z is None:
                raise UserError(f"{path}: the shape has no latent to write")
            with write_aside(path) as temporary:
                np.savetxt(temporary, self.z)
        elif path.suffix == ".png":
            from loopdraw.view.pictures import save_png

            save_png(path, self.picture())
        else:
            raise UserError(
                f"{path}: cannot tell what to write; end it in .obj, .ply, .stl, .glb, .npz, .svg, "
                ".json, .txt or .png"
            )
        return path

    def picture(self, size=PREVIEW_SIZE):
        """A picture of loops and surface, (height, width, 3) uint8."""
        from loopdraw.view.viewer import render_image

        return render_image(self.scene(), size=size)

    def show(self):
        """Show the shape in a window, or where none can open return its picture for a notebook."""
        from loopdraw.view.viewer import has_display, show_shape

        if has_display():
            show_shape(self.scene(), repr(self))
            return None
        from PIL import Image

        return Image.fromarray(self.picture())

    def scene(self):
        """What a picture of the shape shows, a `loopdraw.view.scene.Scene`."""
        from loopdraw.view.scene import Scene

        ranges = [range(edit.first, edit.last + 1) for edit in self.edits if edit.enabled]
        touched = {number for numbers in ranges for number in numbers}
        n_loops = sum(map(len, self.loops))
        return Scene(
            mesh=(np.asarray(self.mesh.vertices), np.asarray(self.mesh.faces)),
            planes=self.planes,
            loops_by_plane=self.loops,
            edited=touched,
            regenerated=range(min(touched), n_loops) if touched else (),
            untouched=(self.planes, self._before.loops) if touched and self._before else None,
        )

    def _repr_html_(self):
        """For notebooks: the picture, and what it is of."""
        from PIL import Image

        png = io.BytesIO()
        Image.fromarray(self.picture()).save(png, "png")
        data = base64.b64encode(png.getvalue()).decode("ascii")
        text = repr(self).strip("<>")
        return f'<figure><img src="data:image/png;base64,{data}"><p>{text}</p></figure>'


class Model:
    """A trained model. `network` is the `LoopSeqEncoderDecoderModel` behind it."""

    def __init__(self, network):
        self.network = network
        self.info = network.info

    def __repr__(self):
        return (
            f"<loopdraw.Model: {self.network.architecture}, {len(self.info.planes)} planes, "
            f"latents of {self.latent_size} numbers>"
        )

    @property
    def planes(self):
        """(P, 4, 3) float, the planes of the loops."""
        return self.info.planes

    @property
    def latent_size(self):
        return self.network.latent_size

    def sample(self, n=1, seed=None):
        """Shapes from random latents.

        Parameters
        ----------
        n : int
        seed : int, or None for other shapes each time. The prompt makes the same ones after
            `seed <n>` or with `--seed`.

        Returns
        -------
        list of Shape
        """
        return self.decode(self.random_latents(n, seed))

    def random_latents(self, n, seed=None):
        """The latents that `sample` decodes, (n, L) float."""
        from loopdraw.model.latents import shape_generator

        entropy = np.random.SeedSequence(seed).entropy
        drawn = [shape_generator(entropy, i).standard_normal(self.latent_size) for i in range(n)]
        return np.array(drawn).reshape(n, self.latent_size)

    def decode(self, latents):
        """The shapes of latents.

        Parameters
        ----------
        latents : (L,) or (n, L) float

        Returns
        -------
        Shape for one latent, list of Shape for several

        Raises
        ------
        UserError
            When the latents have another size, or are not finite.
        """
        array = np.asarray(latents, dtype=np.float64)
        if array.ndim not in (1, 2) or array.shape[-1] != self.latent_size:
            raise UserError(
                f"decode: latents of shape {array.shape}; a latent of this model is "
                f"{self.latent_size} numbers"
            )
        if not np.isfinite(array).all():
            raise UserError("decode: the latents hold values that are not finite")
        rows = np.atleast_2d(array)
        sequences = self.network.decode(rows) if len(rows) else []
        shapes = [
            self.shape_of(sequence, z, number=i)
            for i, (z, sequence) in enumerate(zip(rows, sequences, strict=True))
        ]
        return shapes[0] if array.ndim == 1 else shapes

    def encode(self, mesh, fit=False, refine=True):
        """The shape that the model makes of a mesh.

        Parameters
        ----------
        mesh : path of a file, trimesh.Trimesh, or (vertices (n, 3), faces (m, 3))
        fit : bool, first centre the mesh and make its longest side 1
        refine : bool, improve the encoder's latent, for three seconds at most

        Returns
        -------
        Shape, with the mesh's latent as `z` and `report`, one line on how near it comes

        Raises
        ------
        UserError
            When the file is no mesh, or no plane meets it.
        """
        from loopdraw.evaluation.own_mesh import encode_mesh

        encoded = encode_mesh(self.network, mesh, fit, refine)
        shape = self.decode(encoded.latent)
        shape.report = encoded.report
        return shape

    def interpolate(self, a, b, n):
        """Shapes from latents on the line from one to another, ends included.

        Parameters
        ----------
        a, b : Shape or (L,) latent
        n : int

        Returns
        -------
        list of Shape
        """
        start, end = (x.z if isinstance(x, Shape) else np.asarray(x) for x in (a, b))
        shares = np.arange(n)[:, None] / max(n - 1, 1)
        return self.decode((1 - shares) * start + shares * end)

    def shape_of(self, sequence, z=None, **more):
        """A sequence (T, F), not normalised, as a `Shape`."""
        loops = self.info.loops(sequence)
        return Shape(self.planes, loops, z=z, sequence=sequence, model=self, **more)


def load(folder, optfile=None, device="cpu"):
    """Load a trained model.

    Parameters
    ----------
    folder : path of its checkpoint
    optfile : path of the options that it was trained with; `opt.txt` in the folder by default.
        Published checkpoints need it.
    device : torch.device or str

    Returns
    -------
    Model

    Raises
    ------
    UserError
        When a file is missing, damaged, or of another model.
    """
    from loopdraw.model.vae import load_model

    return Model(load_model(folder, optfile=optfile, device=device))


def planes(axis, n, low, high):
    """Evenly spaced parallel planes.

    Parameters
    ----------
    axis : "x", "y" or "z", the normal
    n : int, how many
    low, high : float, positions of the first and the last

    Returns
    -------
    (n, 4, 3) float: normal, point, in-plane x axis, in-plane y axis of each
    """
    return make_planes(axis, n, low, high)


def load_mesh(path):
    """Read a mesh of any format that trimesh knows, as a trimesh.Trimesh.

    Raises
    ------
    UserError
        When the file is missing, damaged, or has no faces.
    """
    import trimesh

    from loopdraw.loops.mesh_files import read_mesh

    return trimesh.Trimesh(*read_mesh(path), process=False)


def slice_mesh(mesh, planes):
    """The closed loops in which planes cut a mesh; open meshes are closed along the way.

    Parameters
    ----------
    mesh : path of a file, trimesh.Trimesh, or (vertices (n, 3), faces (m, 3))
    planes : (P, 4, 3) float, see `planes`

    Returns
    -------
    Shape

    Raises
    ------
    UserError
        When the file is no mesh, or it cannot be sliced.
    """
    from loopdraw.loops.mesh_files import as_mesh
    from loopdraw.loops.slicing import slice_mesh as slice_arrays

    try:
        sliced = slice_arrays(*as_mesh(mesh), planes)
    except ValueError as error:
        raise UserError(f"slice_mesh: {error}") from None
    return Shape(planes, sliced.loops_by_plane)


def reconstruct(shape, resolution=None):
    """A closed surface through the loops of a shape.

    Parameters
    ----------
    shape : Shape
    resolution : int, grid cells along the longest side

    Returns
    -------
    trimesh.Trimesh

    Raises
    ------
    UserError
        When no surface can be built from the loops.
    """
    import trimesh

    from loopdraw.surface.workers import build_surface

    try:
        vertices, faces = build_surface(shape.planes, shape.loops, resolution=resolution)
    except ValueError as error:
        raise UserError(f"no mesh: {error}") from None
    return trimesh.Trimesh(vertices, faces, process=False)


# ------------------------------------------------------------------------------------------ edits


def _edit(kind, loop, **values):
    from loopdraw.editing.edits import make_edit

    first, last = loop if isinstance(loop, (tuple, list)) else (loop, loop)
    try:
        return make_edit(kind, first, last, **values)
    except ValueError as error:
        raise UserError(f"{kind}: {error}") from None


def Move(loop, u=0.0, v=0.0):
    """Move a loop, or the loops of a range (first, last), by (u, v) in its plane."""
    return _edit("move", loop, u=u, v=v)


def Scale(loop, u=1.0, v=1.0):
    """Scale a loop, or a range (first, last), about its centre: by u along u, by v along v."""
    return _edit("scale", loop, u=u, v=v)


def Rotate(loop, degrees):
    """Turn a loop, or a range (first, last), about its centre, counter-clockwise in (u, v)."""
    return _edit("rotate", loop, degrees=degrees)


def Square(loop, degrees=0.0, scale=1.0):
    """Make a loop, or a range (first, last), a square about its centre."""
    return _edit("square", loop, degrees=degrees, scale=scale)


def Replace(loop, loops):
    """Put loops, a list of (k, 2) points, in the place of a loop or a range (first, last)."""
    return _edit("replace", loop, loops=loops)
