"""The edit window: a Polyscope view of an `EditSession`.

Loops before the first edit are golden, edited loops red, loops regenerated after them pink, and the
loops of the untouched shape faint grey. The picked loops have beads, and the first of them has
Polyscope's transformation gizmo. Errors are shown in the panel; the window stays open.

`viewer` draws scenes that stay as they are. Here the scene can change in every frame.
"""

import time
import traceback

import numpy as np

from loopdraw.files import UserError
from loopdraw.loops.geometry import plane_heights
from loopdraw.surface.workers import LatestSurface
from loopdraw.view import viewer
from loopdraw.view.pictures import save_gif, save_png
from loopdraw.view.scene import Camera, Look, fit_camera, tube_mesh

WINDOW_SIZE = (1100, 880)  # small, because every pixel costs time without a graphics card
PANEL_WIDTH = 350
REST_SECONDS = 0.4  # without a change, then the surface is made sharp
SLOW_FRAME_SECONDS = 0.06
TURNTABLE_PICTURES = 48
TURNTABLE_SECONDS = 4.0

RADIUS = 0.0035  # of the loops' tubes, share of the shape's diagonal
SHARE_OF_SPACING = 0.16  # and at most this share of the distance between planes
TUBE_SIDES = 6
BEAD_FACTOR = 2.0  # radius of the beads on picked loops
BEAD_COLOR = (0.16, 0.20, 0.33)
SURFACE_OPACITY = 0.5
ROLES = {
    "loop": "before the edit",
    "edited": "edited",
    "regenerated": "regenerated",
    "untouched": "what was there",
}


def edit_in_window(session, title):
    """Show a session's shape in a window for editing, and wait until the user closes it.

    Parameters
    ----------
    session : session.EditSession
    title : str

    Returns
    -------
    bool : whether a window could be shown; without a display nothing happens

    Raises
    ------
    UserError
        As `viewer.open_viewer`.
    """
    if not viewer.open_viewer(headless=False):
        return False
    try:
        with LatestSurface() as surfaces:
            EditWindow(session, title, surfaces).run()
    finally:
        # This closes the window and drops everything drawn in it.
        viewer.close_viewer()
    return True


class EditWindow:
    """One open window.

    Parameters
    ----------
    session : session.EditSession
    title : str
    surfaces : workers.LatestSurface
    """

    def __init__(self, session, title, surfaces):
        import polyscope
        import polyscope.imgui

        from loopdraw.view.edit_panel import EditMouse, EditPanel

        self.ps, self.imgui = polyscope, polyscope.imgui
        self.session = session
        self.title = title
        self.surfaces = surfaces
        self.error = self.message = ""
        self.is_looking = False  # for a way to go on above inserted loops
        self._traced = set()  # crashes whose traceback was printed
        points = np.concatenate(self._loops(session.editor.shape) or [np.zeros((1, 3))])
        self.canvas = EditCanvas(self.ps, session.editor.info.planes, points)
        self.panel = EditPanel(session, self)
        self.mouse = EditMouse(self.ps, session, self.attempt, self.canvas.diagonal)
        self._shape = self._drawn = None  # the latest shape, and what of it is drawn
        self._change_times, self._decode_seconds = [0.0], 0.0
        self._mesh = None
        self._frame_ended, self._n_slow = time.perf_counter(), 0
        self._turntable = None
        self.ps.set_SSAA_factor(1)
        self.ps.set_window_size(*WINDOW_SIZE)
        free = (WINDOW_SIZE[0] - PANEL_WIDTH, WINDOW_SIZE[1])
        viewer.aim(_beside_panel(fit_camera(points, free)))
        self.ps.set_view_center_raw(self.canvas.center)

    def open(self):
        """Draw this window in every frame from now on."""
        self.ps.set_build_default_gui_panels(False)
        self.ps.set_user_callback(self._frame)

    def run(self):
        """Show the window until the user closes it."""
        self.open()
        try:
            self.ps.show()
        finally:
            self.ps.clear_user_callback()
            self.ps.set_build_default_gui_panels(True)

    def close(self):
        """Close the window at the end of this frame."""
        self.ps.unshow()

    def attempt(self, action, *arguments, **named):
        """Do something that the user asked for; errors are shown in the panel."""
        self.error = ""
        self._traced.clear()
        self.guard(action, *arguments, **named)

    def guard(self, action, *arguments, **named):
        """Do something that belongs to every frame; errors are shown in the panel, too."""
        try:
            action(*arguments, **named)
        except UserError as error:
            self.error = str(error)
        except Exception as error:
            expected = isinstance(error, ValueError)
            self.error = str(error) if expected else f"{type(error).__name__}: {error}"
            # Once, not in every frame.
            if self.error not in self._traced:
                self._traced.add(self.error)
                traceback.print_exc()

    def pace(self):
        """How fast the shape follows the hand, in words."""
        text = f"decoded in {1000 * self._decode_seconds:.0f} ms"
        recent = [t for t in self._change_times if t > time.perf_counter() - 1]
        return text + (f", {len(recent)} updates a second" if len(recent) > 1 else "")

    def _frame(self):
        # Outside this function Polyscope holds Python's lock. The threads that talk to the process
        # that builds the surface need it, too.
        time.sleep(0.001)
        self._look_at_speed()
        self.guard(self.mouse.follow)
        self.guard(self._decode)
        self._draw_panel()
        self.guard(self._draw_loops)
        self.guard(self.mouse.place_gizmo)
        self.guard(self._draw_surface)
        self.guard(self._carry_on)
        self.guard(self._turn)
        self._frame_ended = time.perf_counter()

    def _look_at_speed(self):
        # Translucency takes many passes. Without a graphics card they are too slow to work with.
        seconds = time.perf_counter() - self._frame_ended
        self._n_slow = self._n_slow + 1 if seconds > SLOW_FRAME_SECONDS else 0
        if self.canvas.translucent and self._n_slow >= 2:
            self.canvas.make_opaque()

    def _draw_panel(self):
        imgui = self.imgui
        width, height = imgui.GetIO().DisplaySize
        imgui.SetNextWindowPos((width - 10, 10), imgui.ImGuiCond_Always, (1.0, 0.0))
        imgui.SetNextWindowSizeConstraints((PANEL_WIDTH, 0), (PANEL_WIDTH, height - 20))
        imgui.SetNextWindowSize((PANEL_WIDTH, 0))
        imgui.Begin(self.title)
        self.guard(self.panel.draw)
        imgui.End()
        imgui.SetNextWindowPos((10, height - 10), imgui.ImGuiCond_Always, (0.0, 1.0))
        bare = imgui.ImGuiWindowFlags_NoDecoration | imgui.ImGuiWindowFlags_AlwaysAutoResize
        imgui.Begin("status", bare)
        self.guard(self.panel.draw_status)
        imgui.End()
        if not imgui.GetIO().WantTextInput:
            editor = self.session.editor
            for key, action in ((imgui.ImGuiKey_Z, editor.undo), (imgui.ImGuiKey_Y, editor.redo)):
                if imgui.IsKeyChordPressed(imgui.ImGuiMod_Ctrl | key):
                    self.attempt(action)

    # ----------------------------------------------------------------------------------- the scene

    def _draw_loops(self):
        session, editor = self.session, self.session.editor
        self._decode()
        shape, untouched = self._shape, editor.untouched
        picked = range(session.first, session.last + 1)
        wanted = (shape, untouched, picked, self.canvas.show_untouched)
        if wanted != self._drawn:
            self.canvas.draw_loops(self._loops(shape), self._loops(untouched), shape, picked)
            self._drawn = wanted

    def _decode(self):
        start = time.perf_counter()
        shape = self.session.editor.shape
        if shape is not self._shape:
            now = time.perf_counter()
            self._decode_seconds = now - start
            self._change_times = [t for t in self._change_times if t > now - 1] + [now]
            self._shape = shape

    def _loops(self, shape):
        return shape.loops_in_space(self.session.editor.info.planes)

    def _draw_surface(self):
        shape = self._shape
        answer = self.surfaces.poll()
        if answer is not None:
            self._mesh, error = answer
            self.error = error or self.error
            if self._mesh is not None:
                self.canvas.draw_surface(*self._mesh)
        self.canvas.enable_surface(self.canvas.show_surface and self._mesh is not None)
        if not self.canvas.show_surface:
            return
        resting = self._is_resting()
        planes = self.session.editor.info.planes
        self.surfaces.follow(shape, planes, shape.loops_by_plane, resting)

    def _is_resting(self):
        return time.perf_counter() - self._change_times[-1] > REST_SECONDS

    def _carry_on(self):
        """Look a little further for a way to join inserted loops, while the hand rests."""
        self.is_looking = self._is_resting() and self.session.editor.carry_on_a_little()

    # -------------------------------------------------------------------------------------- saving

    def save(self, formats):
        """Save the mesh, the loops, the latent and the edit list, and more formats."""
        self.message = f"saved {self.session.save(formats)}"

    def save_intervention(self):
        """Save the edits as an intervention function."""
        self.message = f"saved {self.session.save_intervention()}"

    def save_screenshot(self):
        """Save the view, without the panel."""
        picture = self._picture()
        with self.session.path(".png") as path:
            save_png(path, picture)
        self.message = f"saved {path}"

    def start_turntable(self):
        """Take pictures all around the shape, one in each frame from now on."""
        self._turntable = self._take_turntable()

    def _turn(self):
        if self._turntable is not None and next(self._turntable, "done") == "done":
            self._turntable = None

    def _take_turntable(self):
        camera = viewer.current_camera(self.canvas.center)
        pictures = []
        for i in range(TURNTABLE_PICTURES):
            self.message = f"turntable: picture {i + 1} of {TURNTABLE_PICTURES}"
            viewer.aim(camera.orbited(self.canvas.center, 360 * i / TURNTABLE_PICTURES))
            pictures.append(self._picture()[:, :-PANEL_WIDTH])
            yield
        viewer.aim(camera)
        with self.session.path(".gif") as path:
            save_gif(path, pictures, TURNTABLE_SECONDS / TURNTABLE_PICTURES)
        self.message = f"saved {path}"

    def _picture(self):
        self.canvas.show_beads(False)
        try:
            return np.array(self.ps.screenshot_to_buffer(transparent_bg=False)[..., :3])
        finally:
            self.canvas.show_beads(True)


def _beside_panel(camera):
    """A camera moved sideways, so that its target is in the middle of the free space."""
    look = camera.target - camera.position
    right = np.cross(look, camera.up)
    right /= np.linalg.norm(right)
    pixel = 2 * np.linalg.norm(look) * np.tan(np.radians(camera.fov) / 2) / WINDOW_SIZE[1]
    aside = PANEL_WIDTH / 2 * pixel * right
    return Camera(camera.position + aside, camera.target + aside, camera.up, camera.fov)


class EditCanvas:
    """What Polyscope draws in the edit window: loops by colour, beads, the surface.

    Structures are updated in place where possible, so that a shape can be redrawn many times a
    second.

    Parameters
    ----------
    ps : the polyscope module, started
    planes : (P, 4, 3) float
    points : (n, 3) float, all points of the shape
    """

    def __init__(self, ps, planes, points):
        self.ps = ps
        self.look = Look()
        self.center = (points.min(axis=0) + points.max(axis=0)) / 2
        self.diagonal = float(np.linalg.norm(np.ptp(points, axis=0))) or 1.0
        self.normal = planes[0, 0]
        # Thin where the planes are close, so that neighbouring loops stay apart.
        spacing = np.abs(np.diff(plane_heights(planes))).min()
        self.radius = min(RADIUS * self.diagonal, SHARE_OF_SPACING * spacing)
        self.show_untouched = True
        self.show_surface = True
        self.translucent = True
        self._drawn = {}  # name -> (points of its loops, their sizes, structure)
        self._beads = None  # (number of points, structure)
        self._surface = None
        ps.remove_all_structures()
        ps.set_background_color(self.look.background_color)
        ps.set_bounding_box(points.min(axis=0), points.max(axis=0))
        ps.set_length_scale(self.diagonal)
        ps.set_ground_plane_mode("none")

    def colors(self):
        """(name, colour) of each kind of loop, for a legend."""
        return [(name, getattr(self.look, f"{role}_color")) for role, name in ROLES.items()]

    # --------------------------------------------------------------------------------------- loops

    def draw_loops(self, loops, untouched_loops, shape, picked):
        """Draw all loops.

        Parameters
        ----------
        loops, untouched_loops : lists of (k, 3) float, of the shape with and without its edits
        shape : EditedShape
        picked : range of loop numbers
        """
        edited, regenerated = set(shape.edited.tolist()), set(shape.regenerated.tolist())
        first = min(edited, default=len(untouched_loops))
        groups = {
            "untouched": untouched_loops[first:] if self.show_untouched else [],
            "edited": [loops[i] for i in sorted(edited)],
            "regenerated": [loops[i] for i in sorted(regenerated)],
            "loop": [
                loop for i, loop in enumerate(loops) if i not in edited and i not in regenerated
            ],
        }
        for role, of_role in groups.items():
            self._draw_tubes(role, of_role)
        self._draw_beads([loops[i] for i in picked if i < len(loops)])

    def _draw_tubes(self, role, loops):
        # As a mesh: without a graphics card, Polyscope's curve networks are much slower.
        name = ROLES[role]
        if not loops:
            if self._drawn.pop(name, None) is not None:
                self.ps.get_surface_mesh(name).remove()
            return
        nodes, sizes = np.concatenate(loops), [len(loop) for loop in loops]
        before, sizes_before, tubes = self._drawn.get(name, (None, None, None))
        if sizes == sizes_before and np.array_equal(nodes, before):
            return  # during a drag, most loops stay as they are
        radius = self.radius * viewer.RADIUS_FACTORS.get(role, 1.0)
        vertices, faces = tube_mesh([(loop, self.normal) for loop in loops], radius, TUBE_SIDES)
        if sizes == sizes_before:
            tubes.update_vertex_positions(vertices)
            self._drawn[name] = nodes, sizes, tubes
            return
        tubes = self.ps.register_surface_mesh(
            name, vertices, faces, material="wax", smooth_shade=True, back_face_policy="cull"
        )
        tubes.set_color(getattr(self.look, f"{role}_color"))
        self._drawn[name] = nodes, sizes, tubes

    def _draw_beads(self, loops):
        nodes = np.concatenate([np.zeros((0, 3)), *loops])
        if self._beads is not None and self._beads[0] == len(nodes):
            self._beads[1].update_point_positions(nodes)
            return
        beads = self.ps.register_point_cloud("picked", nodes, material="wax")
        beads.set_color(BEAD_COLOR)
        beads.set_radius(BEAD_FACTOR * self.radius, relative=False)
        self._beads = len(nodes), beads

    def show_beads(self, shown):
        """Show or hide the beads on the picked loops."""
        self._beads[1].set_enabled(shown)

    # ------------------------------------------------------------------------------------- surface

    def draw_surface(self, vertices, faces):
        """Draw a mesh: (n, 3) float, (m, 3) int."""
        self._surface = self.ps.register_surface_mesh(
            "surface", vertices, faces, material="wax", smooth_shade=True
        )
        self._surface.set_color(self.look.mesh_color)
        if self.translucent:
            self._surface.set_transparency(SURFACE_OPACITY)
            # After registering, because that makes Polyscope change the mode itself.
            self.ps.set_transparency_mode("pretty")

    def make_opaque(self):
        """Draw surfaces opaque from now on, which is much faster."""
        self.translucent = False
        if self._surface is not None:
            self._surface.set_transparency(1.0)
        self.ps.set_transparency_mode("none")

    def enable_surface(self, shown):
        """Show or hide the mesh, if there is one."""
        if self._surface is not None:
            self._surface.set_enabled(shown)
