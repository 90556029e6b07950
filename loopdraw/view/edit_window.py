"""The edit window: a Polyscope view of an `EditSession`.

Loops before the first edit are golden, edited ones red, those regenerated after them pink, and what
the untouched shape had there faint grey. The picked loops wear beads and, the first of them,
Polyscope's transformation gizmo. Whatever goes wrong is said in the panel; the window stays.

Beside `viewer`, this module and its two parts (`edit_canvas`, `edit_panel`) are what
talks to Polyscope: here the scene changes in every frame.
"""

import time

import numpy as np

from loopdraw.files import UserError
from loopdraw.surface.latest import LatestSurface
from loopdraw.surface.reconstruction import DEFAULT_RESOLUTION, PREVIEW_RESOLUTION
from loopdraw.view import viewer
from loopdraw.view.pictures import save_gif, save_png
from loopdraw.view.scene import Camera, fit_camera

WINDOW_SIZE = (1100, 880)  # drawn without a graphics card, pixels are what costs
PANEL_WIDTH = 350
REST_SECONDS = 0.4  # without a change, before the surface is made sharp
SLOW_FRAME_SECONDS = 0.06
CLICK_PIXELS = 4  # a press that moves further is a drag
TURNTABLE_PICTURES = 48
TURNTABLE_SECONDS = 4.0


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
        # The window goes, and with it all that was drawn here.
        viewer.close_viewer()
    return True


class EditWindow:
    """One open window. `gesture` says which drag of the mouse is going on."""

    def __init__(self, session, title, surfaces):
        import polyscope
        import polyscope.imgui

        from loopdraw.view.edit_canvas import EditCanvas
        from loopdraw.view.edit_panel import EditPanel

        self.ps, self.imgui = polyscope, polyscope.imgui
        self.session = session
        self.title = title
        self.surfaces = surfaces
        self.gesture = 0
        self.error = self.message = ""
        points = np.concatenate(self._loops(session.editor.shape) or [np.zeros((1, 3))])
        self.canvas = EditCanvas(self.ps, session.editor.info.planes, points)
        self.panel = EditPanel(session, self)
        # What has been drawn, and when the shape changed last.
        self._shape = self._drawn = self._gizmo_at = None
        self._change_times, self._decode_seconds = [0.0], 0.0
        self._mesh, self._asked = None, None  # asked for: (shape, resolution)
        self._frame_ended, self._n_slow = time.perf_counter(), 0
        self._press, self._dragging = None, False
        self._turntable = None
        self.ps.set_SSAA_factor(1)
        self.ps.set_window_size(*WINDOW_SIZE)
        self._aim(_beside_panel(fit_camera(points, (WINDOW_SIZE[0] - PANEL_WIDTH, WINDOW_SIZE[1]))))
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
        """Do something that the user asked for; what goes wrong is said in the panel."""
        self.error = ""
        self.guard(action, *arguments, **named)

    def guard(self, action, *arguments, **named):
        """Do something that the user did not ask for in this frame, likewise."""
        try:
            action(*arguments, **named)
        except (UserError, ValueError) as error:
            self.error = str(error)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    def pace(self):
        """How fast the shape follows, in words."""
        text = f"decoded in {1000 * self._decode_seconds:.0f} ms"
        recent = [t for t in self._change_times if t > time.perf_counter() - 1]
        return text + (f", {len(recent)} updates a second" if len(recent) > 1 else "")

    def _frame(self):
        # Polyscope holds Python's lock outside this function. The threads that talk with the
        # process that builds the surface need it, too.
        time.sleep(0.001)
        self._look_at_speed()
        self.guard(self._mouse)
        self.guard(self._decode)
        self._draw_panel()
        self.guard(self._draw_loops)
        self.guard(self._draw_surface)
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

    # ----------------------------------------------------------------------------------- the mouse

    def _mouse(self):
        imgui, session = self.imgui, self.session
        if imgui.IsMouseDown(0) and session.picked and self._gizmo_at is not None:
            plane = session.editor.info.planes[session.editor.shape.planes[session.first]]
            dragged = self.canvas.read_gizmo(plane)
            if dragged is not None:
                self._dragging = True
                self.attempt(session.drag, self.gesture, **dragged)
        position = imgui.GetMousePos()
        if imgui.IsMouseClicked(0):
            self._press = None if imgui.GetIO().WantCaptureMouse else position
        if imgui.IsMouseReleased(0):
            if self._press is not None and not self._dragging:
                moved = np.hypot(position[0] - self._press[0], position[1] - self._press[1])
                if moved <= CLICK_PIXELS:
                    self._pick_at(position)
            self._dragging, self._press = False, None
            self._gizmo_at = None  # to be put in its place again
            self.gesture += 1

    def _pick_at(self, position):
        point = self.canvas.point_at(position)
        if point is not None:
            self.session.pick_nearest(point)

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
        gizmo_at = (shape, session.first)
        if gizmo_at != self._gizmo_at and not self._dragging:
            if session.picked:
                plane = editor.info.planes[shape.planes[session.first]]
                self.canvas.place_gizmo(self._loops(shape)[session.first], plane)
            else:
                self.canvas.place_gizmo(None, None)
            self._gizmo_at = gizmo_at

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
        resting = time.perf_counter() - self._change_times[-1] > REST_SECONDS
        resolution = DEFAULT_RESOLUTION if resting else PREVIEW_RESOLUTION
        if self._asked is None or self._asked[0] is not shape or self._asked[1] < resolution:
            if self.surfaces.busy and resting and self._asked[0] is shape:
                return  # the preview first
            self._asked = shape, resolution
            planes = self.session.editor.info.planes
            self.surfaces.request(planes, shape.loops_by_plane, resolution)

    # -------------------------------------------------------------------------------------- saving

    def save(self, formats):
        """Save the shape and what belongs to it."""
        self.message = f"saved {self.session.save(formats)}"

    def save_intervention(self):
        """Save the edits as an intervention function."""
        self.message = f"saved {self.session.save_intervention()}"

    def save_screenshot(self):
        """Save the view, without the panel."""
        path = self.session.path(".png")
        save_png(path, self._picture())
        self.message = f"saved {path}"

    def start_turntable(self):
        """Take pictures all around the shape, one in each frame from now on."""
        self._turntable = self._take_turntable()

    def _turn(self):
        if self._turntable is not None and next(self._turntable, "done") == "done":
            self._turntable = None

    def _take_turntable(self):
        view = self.ps.get_view_camera_parameters()
        position = np.asarray(view.get_position(), dtype=float)
        camera = Camera(
            position,
            position + np.asarray(view.get_look_dir(), dtype=float),
            np.asarray(view.get_up_dir(), dtype=float),
            float(view.get_fov_vertical_deg()),
        )
        pictures = []
        for i in range(TURNTABLE_PICTURES):
            self.message = f"turntable: picture {i + 1} of {TURNTABLE_PICTURES}"
            self._aim(camera.orbited(self.canvas.center, 360 * i / TURNTABLE_PICTURES))
            pictures.append(self._picture()[:, :-PANEL_WIDTH])
            yield
        self._aim(camera)
        path = self.session.path(".gif")
        save_gif(path, pictures, TURNTABLE_SECONDS / TURNTABLE_PICTURES)
        self.message = f"saved {path}"

    def _picture(self):
        self.canvas.show_beads(False)
        try:
            return np.array(self.ps.screenshot_to_buffer(transparent_bg=False)[..., :3])
        finally:
            self.canvas.show_beads(True)

    def _aim(self, camera):
        self.ps.set_view_projection_mode("perspective")
        self.ps.set_vertical_fov_degrees(camera.fov)
        self.ps.look_at_dir(camera.position, camera.target, camera.up)


def _beside_panel(camera):
    """A camera moved sideways, so that what it aims at is in the middle of the room left free."""
    look = camera.target - camera.position
    right = np.cross(look, camera.up)
    right /= np.linalg.norm(right)
    pixel = 2 * np.linalg.norm(look) * np.tan(np.radians(camera.fov) / 2) / WINDOW_SIZE[1]
    aside = PANEL_WIDTH / 2 * pixel * right
    return Camera(camera.position + aside, camera.target + aside, camera.up, camera.fov)
