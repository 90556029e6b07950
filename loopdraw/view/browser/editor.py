"""The page while a shape is edited: an `EditSession`, followed by the scene and the controls.

What can be done is what the session can do. Here is only how the page shows it, and how a hand on
the page becomes calls of the session.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np

from loopdraw.files import UserError
from loopdraw.loops.geometry import frame_on_plane, motion_in_plane
from loopdraw.view.browser import downloads
from loopdraw.view.browser.canvas import Canvas, frame
from loopdraw.view.browser.controls import Controls
from loopdraw.view.browser.server import MOST_UPLOAD, Answer
from loopdraw.view.scene import Scene

REST_SECONDS = 0.4  # without a change: then the surface is made sharp, and the edits are kept
KEEP_SECONDS = 2.0  # and meanwhile they are kept this often
HAND_SECONDS = 3.0  # a hand on the gizmo that rests for so long gives way to whatever else is done
GIZMO_SIZE = 0.22  # share of the shape's diagonal
LEAST_MOVE = 1e-5  # share of the shape's diagonal: the gizmo rounds
MESH_ENDINGS = (".obj", ".ply", ".stl", ".glb", ".off")  # of files that name no other files


class Editor:
    """A shape being edited on the page. One thread calls its methods, that of `Events.run`.

    Parameters
    ----------
    server : server.Server
    events : events.Events
    session : session.EditSession
    surfaces : workers.LatestSurface
    title : str
    done : what the button says that ends it; "" for no button
    """

    def __init__(self, server, events, session, surfaces, title, done=""):
        self.server = server
        self.events = events
        self.session = session
        self.surfaces = surfaces
        self.is_done = False
        self.show_surface = self.show_untouched = True
        self.drawn_scene = None  # what the page shows, without its surface
        self.kept = None  # (state, the file that its edits are kept in)
        self._shape = self._drawn = self._start = None
        self._changed = self._kept_at = time.monotonic()
        self._must_keep = False
        self._told = set()  # errors that need not be shown again
        self._hand = None  # who drags the gizmo: (client, time of the last movement)
        self._held = None  # what the last movement made: (shape, number of the loop)
        self._pose = self._gizmo_at = None
        self._gesture = (None, 0, 0.0)  # what is being dragged, number, time
        points = np.concatenate(self._loops(session.editor.shape) or [np.zeros((1, 3))])
        self.diagonal = float(np.linalg.norm(np.ptp(points, axis=0))) or 1.0
        self._start = self._state()

        server.clear()
        server.answers |= {"download": self._download, "edits": self._edits}
        self.canvas = Canvas(server, "shape")
        self.gizmo = server.scene.add_transform_controls(
            "/gizmo",
            scale=GIZMO_SIZE * self.diagonal,
            active_axes=(True, True, False),  # it cannot leave the plane
            depth_test=False,
            opacity=0.8,
        )
        self.gizmo.on_update(self._on_gizmo)
        self.label = server.scene.add_label("/number", "")
        server.scene.on_click()(self._on_click)
        self.controls = Controls(self, title, done)
        frame(server, points)
        self.follow()

    # ----------------------------------------------------------------------------------- following

    def follow(self):
        """Let the page show the session as it is now."""
        for step in (
            self._decode,
            self._draw_loops,
            self._place_gizmo,
            self._draw_surface,
            self._search,
            self.controls.follow,
            self._keep,
        ):
            self.server.perform(step, told=self._told)

    def attempt(self, action, *arguments, **named):
        """Do something that somebody asked for."""
        self._told.clear()
        action(*arguments, **named)

    @property
    def is_resting(self):
        """Whether nothing has changed for a while."""
        return time.monotonic() - self._changed > REST_SECONDS

    def gesture(self, what):
        """What says which drag it is that changes something: those of one drag are undone together.

        A drag of a slider is over when it rests, or something else is dragged.
        """
        dragged, number, since = self._gesture
        now = time.monotonic()
        if what != dragged or now - since > REST_SECONDS:
            number += 1
        self._gesture = what, number, now
        return number

    def _loops(self, shape):
        return shape.loops_in_space(self.session.editor.info.planes)

    def _state(self):
        editor = self.session.editor
        onward = None if editor.onward is None else editor.onward.tobytes()
        return editor.latent.tobytes(), editor.edits, editor.after, onward

    def _decode(self):
        shape = self.session.editor.shape
        if shape is not self._shape:
            self._changed = time.monotonic()
            self._shape = shape

    def _draw_loops(self):
        session, shape = self.session, self._shape
        untouched = session.editor.untouched
        drawn = shape, untouched, session.first, session.last, self.show_untouched
        if self._drawn is not None and all(
            a is b or (isinstance(a, int) and a == b)
            for a, b in zip(drawn, self._drawn, strict=True)
        ):
            return
        loops = self._loops(shape)
        picked = [loops[i] for i in range(session.first, session.last + 1) if i < len(loops)]
        self.drawn_scene = self.scene()
        self.canvas.draw_loops(self.drawn_scene, picked)
        self._drawn = drawn

    def scene(self, mesh=None):
        """The shape as it is now, a scene.Scene."""
        editor = self.session.editor
        planes, shape = editor.info.planes, editor.shape
        edited = shape.edited.tolist()
        untouched = None
        if self.show_untouched and edited:
            above = _from(editor.untouched.loops_by_plane, min(edited))
            untouched = planes[: len(above)], above
        return Scene(
            mesh=mesh,
            planes=planes,
            loops_by_plane=shape.loops_by_plane,
            edited=edited,
            regenerated=shape.regenerated.tolist(),
            untouched=untouched,
        )

    def _draw_surface(self):
        shape = self._shape
        answer = self.surfaces.poll()
        if answer is not None:
            mesh, error = answer
            if mesh is not None:
                self.canvas.draw_surface(mesh)
            if error:
                raise UserError(error)
        self.canvas.show_surface(self.show_surface)
        if self.show_surface:
            planes = self.session.editor.info.planes
            self.surfaces.follow(shape, planes, shape.loops_by_plane, self.is_resting)

    def _search(self):
        if self.is_resting and self.session.editor.carry_on_a_little():
            return
        if self.session.dimensions is None and self.is_resting:
            self.session.search_dimensions()

    def _keep(self):
        """Keep the edits in a file: the tab, or the program, may be gone at any moment."""
        state = self._state()
        if state == (self.kept[0] if self.kept else self._start):
            return
        if self.is_resting or time.monotonic() - self._kept_at > KEEP_SECONDS:
            self.kept = state, self.session.keep()
            self._kept_at = time.monotonic()

    def close(self):
        """Keep the edits; the page is to become another one."""
        self._changed = 0.0
        self.server.perform(self._keep)

    # --------------------------------------------------------------------------------- the picking

    async def _on_click(self, event):
        self.events.put(
            self.attempt, self.session.pick_along, np.array(event.ray_origin), event.ray_direction
        )

    async def _on_gizmo(self, event):
        client, gizmo = event.client_id, event.target
        if event.phase == "start":
            self.events.put(self._grasp, client)
        elif event.phase == "update":
            pose = np.array(gizmo.position), np.array(gizmo.wxyz)
            self.events.put(self._drag, client, *pose, latest=("gizmo", client))
        else:
            self.events.put(self._let_go, client)

    def _grasp(self, client):
        if self._hand is None or self._is_idle():
            self._hand = client, time.monotonic()
            self._held = self.session.editor.shape, self.session.first
            self._gesture = "gizmo", self._gesture[1] + 1, time.monotonic()

    def _is_gone(self):
        return self._hand[0] not in self.server.viser.get_clients()

    def _is_idle(self):
        return self._is_gone() or time.monotonic() - self._hand[1] > HAND_SECONDS

    def _drag(self, client, position, wxyz):
        if self._hand is None or self._hand[0] != client or self._pose is None:
            return  # somebody else holds it, or the movement comes late
        self._hand = client, time.monotonic()
        session = self.session
        if not session.picked:
            return
        from viser.transforms import SO3

        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = SO3(wxyz).as_matrix(), position
        plane = session.editor.info.planes[session.editor.shape.planes[session.first]]
        motion = motion_in_plane(self._pose, pose, plane, LEAST_MOVE * self.diagonal)
        self._pose = motion.pose
        self._told.clear()
        session.drag(("gizmo", self._gesture[1]), motion.move, motion.degrees)
        self._held = session.editor.shape, session.first

    def _let_go(self, client):
        if self._hand is not None and self._hand[0] == client:
            self._hand = None
        self._gizmo_at = None  # also where somebody else dragged in vain

    def _place_gizmo(self):
        """Put the gizmo on the first picked loop, unless it is being dragged."""
        session, shape = self.session, self._shape
        if self._hand is not None:
            # Who looks at the shape for a while, with the button down, may drag on.
            held = self._held[0] is shape and self._held[1] == session.first
            if not self._is_gone() and (held or not self._is_idle()):
                return
            self._hand = None
        if self._gizmo_at is not None and self._gizmo_at[0] is shape:
            if self._gizmo_at[1] == session.first:
                return
        self._gizmo_at = shape, session.first
        self.gizmo.visible = self.label.visible = session.picked
        if not session.picked:
            self._pose = None
            return
        from viser.transforms import SO3

        planes = session.editor.info.planes
        loop = self._loops(shape)[session.first]
        self._pose = frame_on_plane(loop.mean(axis=0), planes[shape.planes[session.first]])
        with self.server.viser.atomic():
            self.gizmo.position = self._pose[:3, 3]
            self.gizmo.wxyz = SO3.from_matrix(self._pose[:3, :3]).wxyz
            self.label.position = loop[loop[:, 0].argmax()]
            self.label.text = f"loop {session.first}"

    # ------------------------------------------------------------------------------------- to save

    def save(self):
        """Save the mesh, the loops, the latent and the edit list on the server's machine."""
        self.server.notify(f"saved {self.session.save()}")

    def save_intervention(self):
        """Save the edits as an intervention function."""
        self.server.notify(f"saved {self.session.save_intervention()}")

    def finish(self):
        """End the editing."""
        self.is_done = True

    def encode(self, name, content):
        """Go to the latent of a mesh whose file came from the browser.

        Parameters
        ----------
        name : str, of the file
        content : bytes
        """
        ending = Path(name).suffix.lower()
        if ending not in MESH_ENDINGS:
            raise UserError(f"{name}: not a mesh of one file; send {', '.join(MESH_ENDINGS)}")
        if len(content) > MOST_UPLOAD:
            raise UserError(f"{name}: more than {MOST_UPLOAD >> 20} MB")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"mesh{ending}"
            path.write_bytes(content)
            try:
                report = self.session.encode(path)
            except UserError as error:
                raise UserError(str(error).replace(str(path), name)) from None
        self.server.notify(f"{name}: {report}")

    def word(self, word):
        """A word for a latent or loops, as it may come from the page.

        Raises
        ------
        UserError
            When it names a file outside the folder of the checkpoint.
        """
        word = word.strip()
        if word == "?" or word.startswith("$"):
            return word
        root = self.session.folder.parent.resolve()
        if not word.startswith("||") or not (root / word[2:]).resolve().is_relative_to(root):
            raise UserError(
                f"{word[:60]!r}: from the page, write ? or $name, or ||file for a file below "
                "--save_dir"
            )
        return word

    # ------------------------------------------------------------------- what the page's paths give

    async def _edits(self, path):
        """A press on a row of the list of edits: `on/<place>/<revision>` and the like."""
        what, place, revision = (path.split("/") + ["", ""])[:3]
        if what in ("on", "off", "remove", "pick") and place.isdecimal():
            self.events.put(self.attempt, self.controls.press_row, what, int(place), revision)

    async def _download(self, kind):
        return await asyncio.wrap_future(self.events.ask(self._file, kind))

    def _file(self, kind):
        if kind == "edit":
            path = self.session.keep()
            return Answer(path.read_bytes(), "application/json", path.name)
        session, name = self.session, "edited"
        if kind in downloads.LOOPS:
            return downloads.shape_file(name, kind, self.scene())
        # Not the surface on the page, which may be a coarse one.
        loops_by_plane = session.editor.shape.loops_by_plane
        mesh = session.build_surface(session.editor.info.planes, loops_by_plane)
        if kind == "all.zip":
            path = session.keep()
            latent = "\n".join(f"{x:.18e}" for x in session.editor.latent) + "\n"
            extra = [(path.name, path.read_text()), (f"{name}-latent.txt", latent)]
            return downloads.all_files([(name, self.scene(mesh))], extra)
        return downloads.shape_file(name, kind, self.scene(mesh))


def _from(loops_by_plane, first):
    """The loops of each plane, without those of numbers below `first`."""
    above, number = [], 0
    for loops in loops_by_plane:
        above.append([loop for i, loop in enumerate(loops, number) if i >= first])
        number += len(loops)
    return above
