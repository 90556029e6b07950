"""The door for programs: load a model, make shapes, edit them, look at them, save them.

`loopdraw/__init__.py` hands on what is here, so write `loopdraw.load(...)`.
"""

import base64
import functools
import html
import io
import os
import sys
import warnings
from pathlib import Path

import numpy as np

from loopdraw.door.checks import check_count, checked_mesh, checked_up, short
from loopdraw.files import UserError, write_aside
from loopdraw.options import parse_options
from loopdraw.threads import wait_briefly

PREVIEW_SIZE = (480, 480)  # pixels, of the picture in a notebook
EDITOR_HEIGHT = 720  # pixels, of the editor in a notebook
DECODED_TOGETHER = 64  # as many as the prompt: the size of a batch decides the last bits


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
    report : str, one line on how well the model knows an encoded mesh, or on how many shapes were
        drawn for a checked sample, or ""
    """

    def __init__(self, planes, loops, *, z=None, sequence=None, number=0, model=None):
        self.planes = planes
        self.loops = loops
        self.z = z
        self.sequence = sequence
        self.edits = []
        self.number = number
        self.report = ""
        self.after = None  # what comes above the edits, see `edit`
        self._model = model
        self._given = None  # an `editing.given.GivenShape`, where the loops are edited as they are
        self._onward = None  # the latent above inserted loops, if it is another one
        self._before = None  # the Shape before the edits
        self._edited = self._regenerated = ()  # numbers of the loops that edits changed

    def __repr__(self):
        return f"<loopdraw.Shape: {_counts(self)}>"

    @functools.cached_property
    def mesh(self):
        """The closed surface, a trimesh.Trimesh.

        Raises
        ------
        UserError
            When no surface can be built from the loops.
        """
        return reconstruct(self)

    def edit(self, *edits, after="as it is"):
        """The shape under edits: loops change, and the model regenerates those after them.

        The loops of an edit are counted as in the sequence, from 0; the planes of an `Insert` or a
        `Remove` as in `planes`. Where the model would let inserted loops end in air, another way to
        go on above them is looked for, which takes a second or two.

        Parameters
        ----------
        edits : `Move`, `Scale`, `Rotate`, `Square`, `Replace`, `Insert`, `Remove`, added to those
            the shape has
        after : what comes above the edited loops: "regenerate", "keep" (what was there before the
            edits), or a number of planes, over which the loops return to what was there. By default
            as it is: "regenerate", unless it was set before.

        Returns
        -------
        Shape

        Raises
        ------
        UserError
            When the shape has no latent, or an edit does not fit the model or the shape.
        """
        from loopdraw.editing.edit_files import warnings_of_loops_beyond
        from loopdraw.editing.editor import LoopEditor
        from loopdraw.editing.edits import Edit

        if self.z is None or self._model is None:
            raise UserError(
                "edit: only shapes made by a model can be edited; encode the mesh first, or let "
                "model.adopt take its loops"
            )
        for edit in edits:
            if not isinstance(edit, Edit):
                raise UserError(
                    f"edit: {edit!r} is not an edit such as loopdraw.Move(loop=3, u=0.1)"
                )
        edits = [*self.edits, *edits]
        after = self.after if after == "as it is" else _planes_until_it_is_back(after)
        try:
            network = self._model.network
            editor = LoopEditor(network, self.z, edits, self._given, after, self._onward)
            editor.carry_on()
        except (ValueError, UserError) as error:
            raise UserError(f"edit: {error}") from None
        for line in warnings_of_loops_beyond(edits, editor):
            warnings.warn(f"edit: {line}", stacklevel=2)
        return self._edited_by(editor)

    def _edited_by(self, editor):
        """What a LoopEditor has made of the shape."""
        edited = editor.shape
        shape = self._with_loops(edited)
        shape.edits, shape.after, shape._onward = list(editor.edits), editor.after, editor.onward
        shape._before = self._before or self
        shape._edited, shape._regenerated = edited.edited, edited.regenerated
        return shape

    def _with_loops(self, edited):
        """A shape with the loops of a `decoding.EditedShape`, which remembers where it is from."""
        shape = Shape(
            self.planes,
            edited.loops_by_plane,
            z=self.z,
            sequence=edited.sequence,
            number=self.number,
            model=self._model,
        )
        shape._given = self._given
        return shape

    def complete(self, plane, n=1, seed=None):
        """Different ways to go on with the shape above its loops on planes below `plane`.

        Parameters
        ----------
        plane : int, the first plane that is made anew
        n : int, how many
        seed : int, or None for others each time

        Returns
        -------
        list of n Shape, which keep the loops below when they are edited

        Raises
        ------
        UserError
            When the shape was not made by a model, or nothing lies below or above the plane.
        """
        from loopdraw.editing import given as given_shapes

        check_count(n, "complete: n", 1)
        check_count(plane, "complete: plane")
        if seed is not None:
            check_count(seed, "seed")
        if self._model is None or self.z is None:
            raise UserError("complete: let model.adopt take the loops of the shape first")
        network = self._model.network
        given = given_shapes.given_shape(network, self.loops, self.z)
        shapes = []
        rng = np.random.default_rng(seed)
        for number, (part, whole) in enumerate(
            given_shapes.complete(network, given, plane, n, rng)
        ):
            shape = self._with_loops(whole)
            shape.z, shape.number, shape._given = part.latent, number, part
            shapes.append(shape)
        return shapes

    def save(self, path):
        """Write a file of the kind that its name ends in.

        Parameters
        ----------
        path : `.obj`, `.ply`, `.stl`, `.glb`: the mesh; `-slices.npz`: the loops, as the prompt
            saves them; `.svg`: all slices in one drawing; `.json`: the loops as numbers;
            `-latent.txt`: the latent; `.png`: a picture; `.html`: a page to turn it around in a
            browser, and of an edited shape what it was before

        Returns
        -------
        Path

        Raises
        ------
        UserError
            When the ending is another one, no mesh can be built, or the file cannot be written.
        """
        path = Path(path)
        kind = path.suffix.lower()
        if kind in (".obj", ".ply", ".stl", ".glb"):
            from loopdraw.loops.mesh_files import save_mesh

            save_mesh(path, self.mesh.vertices, self.mesh.faces)
        elif kind == ".npz":
            from loopdraw.loops.slices_files import save_slices

            try:
                save_slices(path, self.planes, self.loops)
            except ValueError as error:
                raise UserError(f"{path}: {error}") from None
        elif kind in (".svg", ".json"):
            from loopdraw.surface.export import save_loops, save_sheet

            save = {".svg": save_sheet, ".json": save_loops}[kind]
            save(path, self.planes, self.loops)
        elif kind == ".txt":
            if self.z is None:
                raise UserError(f"{path}: the shape has no latent to write")
            with write_aside(path) as temporary:
                np.savetxt(temporary, self.z)
        elif kind == ".png":
            from loopdraw.view.pictures import save_png

            save_png(path, self.picture())
        elif kind == ".html":
            self._save_page(path)
        else:
            raise UserError(
                f"{path}: cannot tell what to write; end it in .obj, .ply, .stl, .glb, .npz, .svg, "
                ".json, .txt, .png or .html"
            )
        return path

    def _save_page(self, path):
        from loopdraw.view.html.page import before_and_after, save_page

        shapes = [self] if self._before is None else [self._before, self]
        captions = before_and_after(self.edits) if len(shapes) > 1 else [self.report]
        scenes = [shape.scene() for shape in shapes]
        save_page(path, scenes, path.stem, _counts(self), captions)

    def picture(self, size=PREVIEW_SIZE):
        """A picture of loops and surface; of the loops alone where no surface can be built.

        Polyscope draws it, and needs no display for that. Where it cannot run, or `NO_POLYSCOPE` is
        set, the picture is a plainer drawing of the loops.

        Parameters
        ----------
        size : (width, height) in pixels

        Returns
        -------
        (height, width, 3) uint8

        Raises
        ------
        UserError
            When the shape has no loops.
        """
        from loopdraw.view.viewer import render_image

        if not any(self.loops):
            raise UserError("the shape has no loops, so there is nothing to draw")
        try:
            return render_image(self.scene(), size=size)
        except UserError:
            return _drawing(self.planes, self.loops, size)

    def show(self):
        """Show the shape in a notebook, to be turned with the mouse, or else in a window.

        Returns
        -------
        None when it is shown, or its picture, a PIL.Image, where no window can open
        """
        from PIL import Image

        from loopdraw.view.viewer import show_shape, viewer_available

        if _in_notebook():
            from loopdraw.view.browser.server import browser_available

            shown = self
            if browser_available() and any(self.loops):
                from loopdraw.view.browser.page import inline_view

                shown = sys.modules["IPython"].display.HTML(inline_view(self.scene()))
            sys.modules["IPython"].display.display(shown)
            return None
        if viewer_available() and any(self.loops) and show_shape(self.scene(), repr(self)[1:-1]):
            return None
        return Image.fromarray(self.picture())

    def scene(self):
        """What a picture of the shape shows, a `loopdraw.view.scene.Scene`.

        Its mesh is None when no surface can be built from the loops.
        """
        from loopdraw.view.scene import Scene

        try:
            mesh = np.asarray(self.mesh.vertices), np.asarray(self.mesh.faces)
        except UserError:
            mesh = None
        return Scene(
            mesh=mesh,
            planes=self.planes,
            loops_by_plane=self.loops,
            edited=self._edited,
            regenerated=self._regenerated,
            untouched=(self.planes, self._before.loops) if len(self._edited) else None,
        )

    def _repr_html_(self):
        """For notebooks: the picture, and what it is of."""
        from PIL import Image

        lines, image = [repr(self)[1:-1], self.report], ""
        if any(self.loops):
            png = io.BytesIO()
            Image.fromarray(self.picture()).save(png, "png", optimize=True)
            data = base64.b64encode(png.getvalue()).decode("ascii")
            image = f'<img src="data:image/png;base64,{data}">'
            try:
                self.mesh  # noqa: B018  (built for the picture already)
            except UserError as error:
                lines.append(str(error))
        text = "<br>".join(html.escape(line) for line in lines if line)
        return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _in_notebook():
    """Whether this runs in a notebook, not in a terminal."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def _drawing(planes, loops_by_plane, size):
    """The loops as the evaluation page draws them, without Polyscope; (height, width, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from loopdraw.data.prepare.drawing import draw_alone

    canvas = FigureCanvasAgg(Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100))
    draw_alone(canvas.figure.add_axes((0, 0, 1, 1)), planes, loops_by_plane)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


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

    def sample(self, n=1, seed=None, checked=False):
        """Shapes from random latents.

        Parameters
        ----------
        n : int
        seed : int, or None for other shapes each time. The prompt makes the same ones after
            `seed <n>` or with `--seed`.
        checked : bool, draw again, up to 10 times, when a shape is not one closed solid or has a
            part that ends in air; `report` says how many were drawn

        Returns
        -------
        list of Shape

        Raises
        ------
        UserError
            When `n` or `seed` is not a whole number from 0 on.
        """
        latents, seeds = self._draw(n, seed)
        if not checked:
            return self.decode(latents)
        from loopdraw.evaluation.checks import draw_checked

        shapes = []
        for i, (z, sequence, draws, fault) in enumerate(
            zip(*draw_checked(self.network, latents, seeds), strict=True)
        ):
            shapes.append(self.shape_of(sequence, z, i))
            shapes[-1].report = f"{draws} drawn" + (f", {fault} still" if fault else "")
        return shapes

    def random_latents(self, n, seed=None):
        """The latents that `sample` decodes, (n, L) float."""
        return self._draw(n, seed)[0]

    def _draw(self, n, seed):
        """Random latents (n, L), and as the prompt n seeds for what else is drawn for each."""
        from loopdraw.model.latents import shape_generator

        check_count(n, "n")
        if seed is not None:
            check_count(seed, "seed")
        entropy = np.random.SeedSequence(seed).entropy
        generators = [shape_generator(entropy, i) for i in range(n)]
        latents = self.network.prior.draw_each(generators)
        return latents, [int(generator.integers(2**32)) for generator in generators]

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
        try:
            array = np.asarray(latents, dtype=np.float64)
        except (TypeError, ValueError):
            raise UserError(f"decode: {short(latents)} is not an array of latents") from None
        if array.ndim not in (1, 2) or array.shape[-1] != self.latent_size:
            raise UserError(
                f"decode: latents of shape {array.shape}; a latent of this model is "
                f"{self.latent_size} numbers"
            )
        if not np.isfinite(array).all():
            raise UserError("decode: the latents hold values that are not finite")
        rows = np.atleast_2d(array)
        sequences = [
            sequence
            for start in range(0, len(rows), DECODED_TOGETHER)
            for sequence in self.network.decode(rows[start : start + DECODED_TOGETHER])
        ]
        shapes = [
            self.shape_of(sequence, z, i)
            for i, (z, sequence) in enumerate(zip(rows, sequences, strict=True))
        ]
        return shapes[0] if array.ndim == 1 else shapes

    def encode(self, mesh, fit=False, refine=True, up=None):
        """The shape that the model makes of a mesh.

        Parameters
        ----------
        mesh : path of a file, trimesh.Trimesh, or (vertices (n, 3), faces (m, 3))
        fit : bool, first centre the mesh and make its longest side 1
        refine : bool, improve the encoder's latent, for three seconds at most
        up : "x", "y" or "z", or with a minus as "-z", what is up in the mesh; it is turned to the
            axis of the model's planes. By default it stands as the model's shapes do.

        Returns
        -------
        Shape, with the mesh's latent as `z` and `report`, one line on how near it comes

        Raises
        ------
        UserError
            When the file is no mesh, or no plane meets it.
        """
        from loopdraw.evaluation.own_mesh import encode_mesh

        try:
            encoded = encode_mesh(self.network, checked_mesh(mesh), fit, refine, up=checked_up(up))
        except UserError as error:  # it speaks of the prompt's option
            raise UserError(
                str(error).replace("; add --fit, which", "; add fit=True, which")
            ) from None
        shape = self.decode(encoded.latent)
        shape.report = encoded.report
        return shape

    def adopt(self, shape, fit=False, up=None):
        """A shape whose own loops can be edited and completed, instead of the model's version.

        Parameters
        ----------
        shape : a mesh, as for `encode`; a Shape, whose planes must be among the model's; or the
            path of a `-slices.npz` file
        fit, up : as for `encode`, of a mesh

        Returns
        -------
        Shape, with the latent that the model makes of it

        Raises
        ------
        UserError
            When it is none of these, lies on other planes, or has more loops than the model takes.
        """
        from loopdraw.editing import given as given_shapes

        if isinstance(shape, (str, os.PathLike)) and str(shape).endswith(".npz"):
            from loopdraw.loops.slices_files import load_slices

            shape = Shape(*load_slices(shape))
        report = ""
        if isinstance(shape, Shape):
            given = given_shapes.given_slices(self.network, shape.planes, shape.loops)
        else:
            from loopdraw.evaluation.own_mesh import encode_mesh

            encoded = encode_mesh(self.network, checked_mesh(shape), fit, up=checked_up(up))
            given = given_shapes.given_shape(self.network, encoded.loops_by_plane, encoded.latent)
            report = encoded.report
        own = Shape(
            self.planes,
            given.loops_by_plane(len(self.planes)),
            z=given.latent,
            sequence=_padded(given.sequence, self.info.n_timesteps),
            model=self,
        )
        own.report, own._given = report, given
        return own

    def edit(self, shape, folder="edits", host=None):
        """Let people edit a shape with the mouse, on a page in the browser or in the notebook.

        Parameters
        ----------
        shape : Shape of this model
        folder : path of the folder that the page saves to, and that keeps the edits
        host : address to listen on; by default this machine alone can connect

        Returns
        -------
        Editing, at once

        Raises
        ------
        UserError
            When the shape has no latent, or no page can be opened.
        """
        from loopdraw.editing.session import EditSession
        from loopdraw.view.browser.page import open_page

        if not isinstance(shape, Shape) or shape.z is None:
            raise UserError("edit: give a shape of this model; let model.adopt take others first")

        def read_latent(word):
            if word != "?":
                raise UserError(f"{word}: write ? for a random latent")
            return self.random_latents(1)[0]

        def read_loops(word):
            raise UserError(f"{word}: loops of other shapes are put there by loopdraw.Replace")

        session = EditSession(
            self.network,
            shape.z,
            shape.edits,
            folder,
            read_latent,
            read_loops,
            given=shape._given,
            after=shape.after,
            onward=shape._onward,
        )
        page = open_page(host)
        print(*page.server.greeting(), sep="\n")
        editing = Editing(self, shape, session, page, page.start_editing(session, "edit"))
        if _in_notebook():
            display = sys.modules["IPython"].display
            display.display(display.IFrame(page.server.address, "100%", EDITOR_HEIGHT))
        return editing

    def interpolate(self, a, b, n):
        """Shapes from latents on the line from one to another, ends included.

        Parameters
        ----------
        a, b : Shape or (L,) latent
        n : int

        Returns
        -------
        list of Shape

        Raises
        ------
        UserError
            When a shape has no latent, or a latent another size.
        """
        check_count(n, "n")
        start, end = (self._latent_of(x) for x in (a, b))
        shares = np.arange(n)[:, None] / max(n - 1, 1)
        return self.decode((1 - shares) * start + shares * end)

    def _latent_of(self, shape):
        z = shape.z if isinstance(shape, Shape) else shape
        if z is None:
            raise UserError("interpolate: a shape has no latent; encode its mesh first")
        if np.shape(z) != (self.latent_size,):
            raise UserError(
                f"interpolate: {short(z)} is no latent of this model, {self.latent_size} numbers"
            )
        return np.asarray(z, dtype=np.float64)

    def shape_of(self, sequence, z=None, number=0):
        """A sequence (T, F), not normalised, as a `Shape`."""
        loops = self.info.bounded_loops(sequence)
        return Shape(self.planes, loops, z=z, sequence=sequence, number=number, model=self)


class Editing:
    """A shape that people edit on a page, see `Model.edit`."""

    def __init__(self, model, start, session, page, thread):
        self.page = page
        self._model = model
        self._start = start
        self._session = session
        self._thread = thread

    @property
    def shape(self):
        """The Shape as it is now."""
        events = self.page.editor and self.page.editor.events
        if events is None or not self._thread.is_alive():
            return self._current()
        try:
            # By the thread that performs what people do on the page, which may be decoding.
            return events.ask(self._current).result()
        except UserError:
            self._thread.join(5.0)
            if self._thread.is_alive():
                raise
            return self._current()  # the page was closed meanwhile

    def _current(self):
        start, editor = self._start._before or self._start, self._session.editor
        if not np.array_equal(editor.latent, start.z):
            start = self._model.decode(editor.latent)
            start._given = self._start._given
        return start._edited_by(editor)

    def wait(self):
        """Wait until somebody presses "done" on the page; the Shape as it is then."""
        self._thread.join()
        return self.shape

    def close(self):
        """Close the page. The edits are kept in the folder."""
        editor = self.page.editor
        if editor is not None:
            editor.finish()
        self._thread.join()
        self.page.close()


def load(folder, optfile=None, device="cpu", prior=None):
    """Load a trained model.

    Parameters
    ----------
    folder : path of its checkpoint
    optfile : path of the options that it was trained with; `opt.txt` in the folder by default.
        Published checkpoints need it, and the dataset it names as `--dataroot`: a path from the
        current folder, or else from the folder of the optfile.
    device : torch.device or str
    prior : "auto": `sample` draws from the prior in the folder, if one was fitted; "normal": from
        the standard normal. By default as the options say.

    Returns
    -------
    Model

    Raises
    ------
    UserError
        When a file is missing, damaged, or of another model.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a checkpoint there")
    path = Path(optfile or folder / "opt.txt")
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; name the options the model was trained with: "
            "loopdraw.load(folder, optfile=...)"
        )
    wait_briefly()  # before torch is imported
    import torch

    from loopdraw.model.vae import load_model

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch built without CUDA
        reason = str(error).splitlines()[0]
        raise UserError(f"load: device {str(device)!r} cannot be used ({reason})") from None
    settings = vars(parse_options(["--optfile", str(path)]))
    dataroot = settings["dataroot"]
    if dataroot and not Path(dataroot).exists() and (path.parent / dataroot).exists():
        settings["dataroot"] = str(path.parent / dataroot)
    return Model(load_model(folder, settings=settings, device=device, prior=prior))


def reconstruct(shape, resolution=None, smooth=False):
    """A closed surface through the loops of a shape.

    Parameters
    ----------
    shape : Shape
    resolution : int, grid cells along the longest side where loops end, split or merge; by default
        48, or 80 for thin parts
    smooth : bool, pass the planes without creases and round off beyond the last ones, which suits
        few planes far apart

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

    if not isinstance(shape, Shape):
        raise UserError("reconstruct: give a Shape, such as slice_mesh returns")
    if resolution is not None:
        check_count(resolution, "resolution", 2)
    if not any(shape.loops):
        raise UserError("no mesh: the shape has no loops")
    try:
        reco = "smooth" if smooth else "loops"
        vertices, faces = build_surface(shape.planes, shape.loops, reco, resolution)
    except ValueError as error:
        raise UserError(f"no mesh: {error}") from None
    return trimesh.Trimesh(vertices, faces, process=False)


def _padded(sequence, n_timesteps):
    """A sequence (t, F) with zeros up to `n_timesteps`."""
    padded = np.zeros((n_timesteps, sequence.shape[1]), dtype=np.float32)
    padded[: len(sequence)] = sequence
    return padded


def _planes_until_it_is_back(after):
    """The number of planes that "keep", "regenerate" or a number stands for; None: never."""
    if after in ("keep", "regenerate"):
        return 0 if after == "keep" else None
    check_count(after, 'edit: after, unless "keep" or "regenerate",')
    return int(after)


def _counts(shape):
    n_planes = sum(map(bool, shape.loops))
    return f"{sum(map(len, shape.loops))} loops on {n_planes} planes"
