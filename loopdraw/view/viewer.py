"""Everything Polyscope draws: windows when there is a display, pictures when there is none.

Polyscope is imported by `open_viewer` alone, so importing this module is cheap and
`NO_POLYSCOPE` keeps Polyscope out. Polyscope has one global scene and one engine. The functions
below open the engine they need and clear the scene before they draw.
"""

import importlib.util
import os
import signal
import sys
import threading

import numpy as np

from loopdraw.files import UserError
from loopdraw.view.pictures import framed_points, mix, over, save_png, shadow_layer, shrink
from loopdraw.view.scene import Camera, Look, fit_camera, split_creases, tube_mesh

EGL_PACKAGES = "libegl1 libgl1 libgl1-mesa-dri"
WINDOW, HEADLESS = "openGL3_glfw", "openGL3_egl"
WINDOW_SIZE = (1280, 960)
PANEL_WIDTH = 310  # of Polyscope's panels, pixels
PICTURE_SIZE = (1000, 1000)
SUPERSAMPLING = 2  # pixels rendered per picture pixel, each way
WINDOW_TRANSPARENCY_PASSES = 6  # layers of a translucent mesh: the walls of a vase are four
ROLE_NAMES = {
    "untouched": "untouched shape",
    "loop": "loops",
    "regenerated": "regenerated loops",
    "edited": "edited loops",
    "special": "special loops",
}
# Marked loops are a little thicker, so that they stay visible where tubes overlap.
RADIUS_FACTORS = {"untouched": 0.7, "edited": 1.4, "special": 1.4}

_ps = None  # the polyscope module once imported
_engine = None  # WINDOW or HEADLESS once open
_failed = {}  # engine -> why it did not start; it is not tried again
_drawn = None  # (scene, look, for a window?) that Polyscope holds now
_parts = {}  # name of a part of that scene -> its Polyscope structures
_window_camera = None  # the user's view when the last window closed


def viewer_available():
    """Whether Polyscope is installed and `NO_POLYSCOPE` is not set."""
    if os.environ.get("NO_POLYSCOPE"):
        return False
    return importlib.util.find_spec("polyscope") is not None


def has_display():
    """Whether this machine seems to have a display."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def open_viewer(headless=None):
    """Start Polyscope, or switch between its engines for windows and for pictures.

    Parameters
    ----------
    headless : bool or None
        True prefers the engine for pictures (EGL, needs no display), False the one for windows.
        None keeps the open engine, or else takes windows if there is a display. If the preferred
        engine does not start (a stale DISPLAY, a system without EGL), the other one is used.

    Returns
    -------
    bool : whether windows can be shown now

    Raises
    ------
    UserError
        When `NO_POLYSCOPE` is set, Polyscope cannot be imported, or no engine starts.
    """
    global _engine, _drawn
    if os.environ.get("NO_POLYSCOPE"):
        raise UserError("viewer: NO_POLYSCOPE is set, so nothing can be drawn; unset it")
    if headless is None:
        headless = _engine == HEADLESS if _engine else not has_display()
    engines = [HEADLESS, WINDOW] if headless else [WINDOW, HEADLESS]
    for engine in engines:
        if engine in _failed or (engine == WINDOW and not has_display()):
            continue
        if engine == _engine:
            return engine == WINDOW
        close_viewer()
        ps = _import_polyscope()
        try:
            ps.init(engine)
        except RuntimeError as error:
            _failed[engine] = str(error).split("ERROR:")[-1].strip()
            continue
        _engine = engine
        _prepare_engine(ps)
        return engine == WINDOW
    # Polyscope shuts down at exit, and complains on stderr if no engine was started.
    if not _ps.is_initialized():
        _ps.init("openGL_mock")
    raise UserError(
        f"viewer: pictures cannot be drawn here ({_failed[HEADLESS]}); on Debian or Ubuntu install "
        f"the system libraries with: apt-get install {EGL_PACKAGES}"
    )


def close_viewer():
    """Shut Polyscope down. The next call that draws starts it again."""
    global _engine, _drawn
    if _ps is not None and _ps.is_initialized():
        _ps.shutdown()
    _engine = _drawn = None


def _import_polyscope():
    global _ps
    if _ps is None:
        # Hide Mesa's messages about missing hardware.
        os.environ.setdefault("EGL_LOG_LEVEL", "fatal")
        try:
            import polyscope
        except ImportError as error:
            raise UserError(
                f"viewer: Polyscope cannot be imported ({error}); install requirements.txt, and on "
                f"Debian or Ubuntu: apt-get install {EGL_PACKAGES}"
            ) from None
        polyscope.set_verbosity(0)
        polyscope.set_program_name("LoopDraw")
        polyscope.set_use_prefs_file(False)
        _ps = polyscope
    return _ps


def _prepare_engine(ps):
    import polyscope.imgui as imgui

    imgui.GetIO().IniFilename = ""  # otherwise an imgui.ini appears in the user's folder
    ps.set_automatically_compute_scene_extents(False)
    ps.set_up_dir("y_up")
    ps.set_front_dir("z_front")
    ps.set_transparency_render_passes(WINDOW_TRANSPARENCY_PASSES)
    ps.set_shadow_darkness(0.22)
    ps.set_open_imgui_window_for_user_callback(False)


def show_shape(scene, title="", look=None, each_frame=None):
    """Show a scene in a window and wait until the user closes it. Does nothing without a display.

    The first window frames the scene. Later ones keep the user's last view.

    Parameters
    ----------
    scene : scene.Scene
    title : str, in the window's panel
    look : scene.Look or None
    each_frame : callable or None
        Called without arguments in every frame, inside the panel; for live editing.

    Returns
    -------
    bool : whether a window was shown
    """
    global _window_camera
    if not has_display() or not open_viewer(headless=False):
        return False
    # Centred: leave as much room on the right as Polyscope's panel takes on the left.
    free = (WINDOW_SIZE[0] - 2 * PANEL_WIDTH, WINDOW_SIZE[1])
    camera = _window_camera or fit_camera(scene.points(), free)
    _run_window(scene, look or Look(), camera, WINDOW_SIZE, title, "Close", each_frame)
    _window_camera = current_camera(scene.center())
    return True


def choose_camera(scene, size=PICTURE_SIZE, look=None):
    """Let the user turn the shape in a window. Returns their camera, or None without a display.

    Parameters and errors are those of `render_image`. The window has the picture's proportions.
    """
    if not has_display() or not open_viewer(headless=False):
        return None
    shrunk = min(1.0, WINDOW_SIZE[0] / size[0], WINDOW_SIZE[1] / size[1])
    window_size = [max(1, round(side * shrunk)) for side in size]
    camera = fit_camera(scene.points(), size)
    title = "Turn the shape, then take the pictures"
    # Without Polyscope's panels the window shows exactly what the picture will.
    _ps.set_build_default_gui_panels(False)
    try:
        _run_window(scene, look or Look(), camera, window_size, title, "Take the pictures")
    finally:
        _ps.set_build_default_gui_panels(True)
    return current_camera(scene.center())


def render_image(scene, camera=None, size=PICTURE_SIZE, look=None, transparent=False):
    """A picture of a scene.

    A translucent mesh is mixed from opaque pictures: the loops alone, the loops with the inside of
    the mesh (the faces turned away from the camera), and the loops with the mesh. Without a
    graphics card that is much faster than Polyscope's own transparency. It is also antialiased,
    and the background can be left out.

    Parameters
    ----------
    scene : scene.Scene
    camera : scene.Camera or None
        None shows the whole scene in a three-quarter view.
    size : (width, height) in pixels
    look : scene.Look or None
    transparent : bool, leave the background out

    Returns
    -------
    (height, width, 3) uint8, or (height, width, 4) with straight alpha when transparent

    Raises
    ------
    ValueError
        When the scene holds nothing to draw.
    UserError
        As `open_viewer`.
    """
    look = look or Look()
    camera = camera or fit_camera(framed_points(scene, look), size)
    open_viewer(headless=True)
    _draw(scene, look, window=False)
    # The headless engine renders larger pictures, which are averaged here, alpha included. A window
    # cannot be larger than the screen, so there Polyscope does the antialiasing.
    factor = SUPERSAMPLING if _engine == HEADLESS else 1
    _ps.set_SSAA_factor(1 if _engine == HEADLESS else SUPERSAMPLING)
    _ps.set_window_size(size[0] * factor, size[1] * factor)
    _ps.set_background_color((0.0, 0.0, 0.0, 0.0))
    aim(camera)

    def layer(*shown):
        for part, structures in _parts.items():
            for structure in structures:
                structure.set_enabled(part in shown)
        image = _ps.screenshot_to_buffer(transparent_bg=True)
        # On high-density screens a window has more pixels than were asked for.
        return shrink(image, max(1, image.shape[1] // size[0]))

    if 0 < look.mesh_opacity < 1 and "mesh" in _parts:
        inner = mix(layer("loops", "inside"), layer("loops"), look.mesh_opacity)
        picture = mix(layer("loops", "mesh"), inner, look.mesh_opacity)
    else:
        picture = layer("loops", "mesh")
    if "planes" in _parts:
        picture = mix(layer("loops", "mesh", "planes"), picture, look.plane_opacity)
    if look.ground_shadow:
        shadow = shadow_layer(scene, look, camera, size)
        picture = picture + (1 - picture[..., 3:] / 255.0) * shadow
    return over(picture, None if transparent else look.background_color)


def render_picture(path, scene, camera=None, size=PICTURE_SIZE, look=None, transparent=False):
    """Write a picture of a scene, `render_image`, to a PNG file."""
    save_png(path, render_image(scene, camera, size, look, transparent))


def _draw(scene, look, window):
    """Put a scene into Polyscope, unless it is there already."""
    global _drawn, _parts
    if _drawn is not None and _drawn[0] is scene and _drawn[1:] == (look, window):
        return
    points = scene.points()
    if len(points) == 0:
        raise ValueError("nothing to draw: the scene has neither a mesh nor loops")
    low, high = points.min(axis=0), points.max(axis=0)
    diagonal = float(np.linalg.norm(high - low)) or 1.0
    _drawn = None
    _ps.remove_all_structures()
    _parts = {"loops": []}

    translucent = False
    if scene.mesh is not None and look.mesh_opacity > 0:
        vertices, faces = split_creases(np.asarray(scene.mesh[0], float), np.asarray(scene.mesh[1]))
        mesh = _surface("mesh", vertices, faces, look.mesh_color)
        _parts["mesh"] = [mesh]
        if window:
            translucent = look.mesh_opacity < 1
            mesh.set_transparency(look.mesh_opacity)
        elif look.mesh_opacity < 1:
            inside = _surface("inside", vertices, faces[:, ::-1], look.mesh_color)
            inside.set_back_face_policy("cull")
            _parts["inside"] = [inside]
    # Thin where the planes are close, so that neighbouring loops stay apart.
    thickness = min(look.loop_radius * diagonal, 0.2 * scene.plane_spacing())
    for role, loops in scene.loops_by_role().items():
        if loops:
            color = getattr(look, f"{role}_color")
            radius = RADIUS_FACTORS.get(role, 1.0) * thickness
            tubes = _surface(ROLE_NAMES[role], *tube_mesh(loops, radius), color)
            tubes.set_back_face_policy("identical")
            _parts["loops"].append(tubes)
            if look.loop_nodes:
                nodes = np.concatenate([points for points, _ in loops])
                balls = _ps.register_point_cloud(f"points of {ROLE_NAMES[role]}", nodes)
                balls.set_radius(2 * radius, relative=False)
                balls.set_color(color)
                balls.set_material("wax")
                _parts["loops"].append(balls)
    corners = scene.plane_corners()
    if len(corners):
        _parts["planes"] = [_draw_planes(corners, look, window)]
        translucent = True

    # Set this last: Polyscope changes the mode itself when a structure becomes translucent, and if
    # the engine misses a change of mode the picture stays blank.
    _ps.set_transparency_mode("pretty" if window and translucent else "none")
    _ps.set_bounding_box(low, high)
    _ps.set_length_scale(diagonal)
    _ps.set_ground_plane_mode("shadow_only" if window and look.ground_shadow else "none")
    _ps.set_ground_plane_height(low[1])
    _drawn = (scene, look, window)


def _surface(name, vertices, faces, color):
    return _ps.register_surface_mesh(
        name, vertices, faces, color=color, material="wax", smooth_shade=True
    )


def _draw_planes(corners, look, window):
    planes = _ps.register_surface_mesh(
        "slice planes",
        corners.reshape(-1, 3),
        np.arange(4 * len(corners)).reshape(-1, 4),
        color=look.plane_color,
        material="flat",
        back_face_policy="identical",
    )
    if window:
        planes.set_transparency(look.plane_opacity)
    return planes


def aim(camera):
    """Look through a scene.Camera from now on."""
    _ps.set_view_projection_mode("perspective")
    _ps.set_vertical_fov_degrees(camera.fov)
    # Clip planes depend on it, and Polyscope keeps the one of the scene before.
    _ps.set_view_center_raw(camera.target)
    _ps.look_at_dir(camera.position, camera.target, camera.up)


def current_camera(center):
    """The camera that Polyscope looks through.

    Parameters
    ----------
    center : (3,) float, of the shape; the camera's target is as far away as this point

    Returns
    -------
    scene.Camera
    """
    view = _ps.get_view_camera_parameters()
    position = np.asarray(view.get_position(), dtype=float)
    direction = np.asarray(view.get_look_dir(), dtype=float)
    depth = max(float((center - position) @ direction), 1e-3)
    return Camera(
        position,
        position + depth * direction,
        np.asarray(view.get_up_dir(), dtype=float),
        float(view.get_fov_vertical_deg()),
    )


def _run_window(scene, look, camera, size, title, button, each_frame=None):
    """Show a scene, with a legend of its colours, until the user is done."""
    import polyscope.imgui as imgui

    _draw(scene, look, window=True)
    _ps.set_background_color(look.background_color)
    _ps.set_SSAA_factor(1)
    _ps.set_window_size(*size)
    aim(camera)
    _ps.set_view_center_raw(scene.center())  # the mouse turns the view around this point
    legend = [
        (ROLE_NAMES[role], getattr(look, f"{role}_color"))
        for role, loops in scene.loops_by_role().items()
        if loops
    ]

    def panel():
        # Bottom right: Polyscope has nothing there.
        width, height = imgui.GetIO().DisplaySize
        imgui.SetNextWindowPos((width - 10, height - 10), imgui.ImGuiCond_Always, (1.0, 1.0))
        imgui.SetNextWindowSize((290, 0))
        imgui.Begin(title or "LoopDraw")
        try:
            for name, color in legend:
                imgui.ColorButton(name, (*color, 1.0))
                imgui.SameLine()
                imgui.TextUnformatted(name)
            if each_frame is not None:
                each_frame()
            if imgui.Button(button) or imgui.IsKeyPressed(imgui.ImGuiKey_Escape) or interrupted:
                _ps.unshow()
        finally:
            imgui.End()

    # Ctrl-C closes the window between two frames. An exception in the middle of a frame would leave
    # Polyscope's panels half built.
    interrupted = []
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread:
        handler = signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    _ps.set_user_callback(panel)
    try:
        _ps.show()
    finally:
        _ps.clear_user_callback()
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
    if interrupted:
        raise KeyboardInterrupt
