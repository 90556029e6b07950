"""Pictures of mesh files: settings, scenes, cameras, animations. Used by `polyscope_screenies.py`.

Heavy libraries are imported where they are needed, so that `--help` stays fast.
"""

import functools
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from loopdraw.files import UserError
from loopdraw.loops.mesh_files import load_mesh
from loopdraw.loops.slices_files import load_slices
from loopdraw.view.scene import Look, Scene, fit_camera

# Settings that take one of a few words.
CHOICES = {
    "framing": ("together", "each"),
    "loops_above_edit": ("unchanged", "color", "flip", "hide"),
}


@dataclass(frozen=True)
class Settings:
    """How to draw. The variables of `polyscope_screenies.py` have the same names in capitals.

    Raises
    ------
    ValueError
        When a setting has a value it cannot have.
    """

    image_size: tuple = (1000, 1000)  # width, height
    mesh_opacity: float = 0.62
    transparent_background: bool = False
    ground_shadow: bool = False
    mirror_x: bool = False
    framing: str = "together"

    draw_loops: bool = True
    highlighted_loops: Collection = ()
    special_loops: Collection = ()
    hide_other_loops: bool = False
    loops_above_edit: str = "unchanged"
    untouched_slices: str | Path | None = None
    planes_at_loops: Collection = ()
    loop_nodes: bool = False

    animation: bool = False
    turntable: bool = False
    turntable_frames: int = 36
    animation_seconds_per_loop: float = 0.12
    turntable_seconds: float = 4.0
    gif_size: int = 420
    gallery: str | Path | None = None
    gallery_columns: int | None = None
    gallery_width: int = 2000

    def __post_init__(self):
        for name, values in CHOICES.items():
            value = getattr(self, name)
            if value not in values:
                raise ValueError(f"{name.upper()} is {value!r}; it can be {', '.join(values)}")

    @functools.cached_property
    def look(self):
        """The scene.Look of these settings."""
        return Look(
            mesh_opacity=self.mesh_opacity,
            ground_shadow=self.ground_shadow,
            loop_nodes=self.loop_nodes,
        )

    def size_of_gifs(self):
        """Width and height of animations."""
        scale = min(1.0, self.gif_size / max(self.image_size))
        return tuple(max(1, round(side * scale)) for side in self.image_size)


def load_scene(path, settings):
    """Read a mesh, and the loops beside it if there are any.

    Parameters
    ----------
    path : path of the mesh; its loops are in `<name>-slices.npz`
    settings : Settings

    Returns
    -------
    scene.Scene

    Raises
    ------
    UserError
        When a file cannot be read, or a setting names a loop that is not there.
    """
    path = Path(path)
    mesh = load_mesh(path)
    planes, loops_by_plane = None, ()
    slices = path.with_name(f"{path.stem}-slices.npz")
    if settings.draw_loops and slices.is_file():
        planes, loops_by_plane = load_slices(slices)
    n_loops = sum(len(loops) for loops in loops_by_plane)
    for name in ("highlighted_loops", "special_loops", "planes_at_loops"):
        if n_loops and any(not 0 <= number < n_loops for number in getattr(settings, name)):
            raise UserError(
                f"{slices}: has loops 0 to {n_loops - 1}; {name.upper()} asks for another"
            )
    if settings.mesh_opacity <= 0 and not n_loops:
        raise UserError(f"{path}: nothing to draw: MESH_OPACITY is 0 and there are no {slices}")

    regenerated, hidden = _regenerated_and_hidden(n_loops, settings)
    scene = Scene(
        mesh=mesh,
        planes=planes,
        loops_by_plane=loops_by_plane,
        edited=settings.highlighted_loops,
        regenerated=regenerated,
        special=settings.special_loops,
        hidden=hidden,
        planes_at=settings.planes_at_loops,
        untouched=load_slices(settings.untouched_slices) if settings.untouched_slices else None,
    )
    return scene.mirrored_x() if settings.mirror_x else scene


def _regenerated_and_hidden(n_loops, settings):
    """Two sets of loop numbers: those drawn as regenerated, and those not drawn."""
    edited, special = settings.highlighted_loops, settings.special_loops
    last_edit = max(edited, default=n_loops)
    above = set(range(last_edit + 1, n_loops))
    regenerated, hidden = set(), set()
    if settings.loops_above_edit == "color":
        regenerated = above
    elif settings.loops_above_edit == "flip" and edited:
        regenerated = set(range(last_edit))
    elif settings.loops_above_edit == "hide":
        hidden = above - set(special)
    if settings.hide_other_loops:
        hidden = set(range(n_loops)) - {*edited, *special}
    return regenerated, hidden


def place_cameras(scenes, settings, turning=False):
    """One camera per scene, in the default view.

    Parameters
    ----------
    scenes : list of scene.Scene
    settings : Settings
    turning : bool, leave room for the shape to turn around

    Returns
    -------
    list of scene.Camera
    """
    from loopdraw.view.pictures import framed_points

    if turning:
        points = [orbit_points(scene.points(), scene.center()) for scene in scenes]
    else:
        points = [framed_points(scene, settings.look) for scene in scenes]
    if settings.framing == "together":
        return [fit_camera(np.concatenate(points), settings.image_size)] * len(points)
    return [fit_camera(each, settings.image_size) for each in points]


def orbit_points(points, pivot):
    """What a shape sweeps when it turns around the vertical axis through `pivot`.

    Parameters
    ----------
    points : (n, 3) float
    pivot : (3,) float

    Returns
    -------
    (k, 3) float, points on the convex hull of the swept body; frame these for a turntable
    """
    import shapely

    radius = np.hypot(points[:, 0] - pivot[0], points[:, 2] - pivot[2])
    outline = shapely.convex_hull(shapely.multipoints(np.stack([radius, points[:, 1]], axis=1)))
    radius, height = shapely.get_coordinates(outline).T
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)[:, None]
    return np.stack(
        [
            pivot[0] + radius * np.sin(angles),
            np.broadcast_to(height, (len(angles), len(height))),
            pivot[2] + radius * np.cos(angles),
        ],
        axis=-1,
    ).reshape(-1, 3)


def draw(scene, camera, settings):
    """A picture of a scene, (height, width, 3 or 4) uint8."""
    from loopdraw.view.viewer import render_image

    return render_image(
        scene, camera, settings.image_size, settings.look, settings.transparent_background
    )


def draw_growth(scene, camera, settings):
    """Reveal one loop after another, then the mesh; yields the pictures.

    Loops appear in the order of the sequence. Hidden ones stay hidden.
    """
    loops_alone = replace(settings, mesh_opacity=0.0)
    n_loops = scene.loop_count()
    shown = [number for number in range(n_loops) if number not in scene.hidden]
    for count in range(1, len(shown) + 1):
        hidden = set(range(n_loops)) - set(shown[:count])
        yield draw(replace(scene, hidden=hidden), camera, loops_alone)
    yield draw(scene, camera, settings)


def draw_turntable(scene, camera, settings):
    """Pictures from all around a shape, the first one from where the camera stands."""
    small = replace(settings, image_size=settings.size_of_gifs())
    turns = np.linspace(0, 360, settings.turntable_frames, endpoint=False)
    return [draw(scene, camera.orbited(scene.center(), turn), small) for turn in turns]


def resized(picture, size):
    """A picture in another size (width, height)."""
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def thumbnail(picture, most):
    """A picture whose sides are at most `most` pixels, with its proportions."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((most, most))
    return np.asarray(image)
