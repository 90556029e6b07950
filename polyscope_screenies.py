"""Take pictures of meshes and their loops: `python polyscope_screenies.py a.obj b.obj ...`.

Writes `<name>-img.png` beside each mesh. The loops of `<name>-slices.npz`, which `--save` writes
beside an inferred mesh, are drawn too. Where there is a display, a window opens with the first
mesh; the view in which you leave it is used for all. `NO_GUI=1` opens none and takes the default
view.

The look is set here. Loops are numbered in the order of the sequence, from 0: plane after plane,
and within a plane in decreasing size.
"""

import argparse
import math
import os
from pathlib import Path

from loopdraw.files import UserError, run_script

# Width and height of the pictures, pixels.
IMAGE_SIZE = (1000, 1000)
# How opaque the mesh is: 1 is solid, 0 leaves it out and shows the loops alone.
MESH_OPACITY = 0.62
# Leave the background out of the PNG files (True), or white (False).
TRANSPARENT_BACKGROUND = False
# A soft shadow on the ground below the shape.
GROUND_SHADOW = False
# Mirror the shape: x becomes -x.
MIRROR_X = False
# The default view frames all meshes of a run alike ("together": they can be laid side by side and
# keep their relative sizes) or each mesh by itself ("each": every one fills its picture).
FRAMING = "together"

# Draw the loops of `<name>-slices.npz`.
DRAW_LOOPS = True
# Loops to highlight, by number: those that were edited, in red.
HIGHLIGHTED_LOOPS = []
# Loops to highlight in another colour, green, such as one that the text speaks of.
SPECIAL_LOOPS = []
# Draw the highlighted and special loops only.
HIDE_OTHER_LOOPS = False
# The loops that come after the last highlighted one, which an edit regenerated: "unchanged" (golden
# like the others), "color" (pink), "flip" (golden, and those before the edit pink), "hide".
LOOPS_ABOVE_EDIT = "unchanged"
# A `-slices.npz` file of the shape before the edit; its loops are drawn in faint grey. Or None.
UNTOUCHED_SLICES = None
# Draw the slice planes that hold these loops, by number.
PLANES_AT_LOOPS = []
# Draw a ball at every point of a loop.
LOOP_NODES = False

# One picture per revealed loop, in the folder `<name>-frames`, and all as `<name>-animation.gif`;
# the mesh appears in the last one.
ANIMATION = False
# `<name>-turntable.gif`: once around the shape.
TURNTABLE = False
# Pictures in one turn.
TURNTABLE_FRAMES = 36
# Seconds per picture of an animation, and for one turn of the turntable.
ANIMATION_SECONDS_PER_LOOP = 0.12
TURNTABLE_SECONDS = 4.0
# Largest side of the animations, pixels.
GIF_SIZE = 420
# One picture of all meshes of the run: a file name such as "gallery.png" (beside the first mesh
# unless it names a folder), or None.
GALLERY = None
# Pictures in a row of the gallery; None chooses.
GALLERY_COLUMNS = None
# Most pixels from left to right in the gallery.
GALLERY_WIDTH = 2000


def main(argv=None):
    """Take the pictures of the meshes named on the command line."""
    parser = argparse.ArgumentParser(
        description="Take pictures of meshes and their loops: writes <name>-img.png beside each "
        "mesh; the loops of <name>-slices.npz are drawn too.",
        epilog="The look is set by the variables at the top of polyscope_screenies.py. With a "
        "display, a window opens for you to set the camera; NO_GUI=1 takes the default view.",
    )
    parser.add_argument("meshes", nargs="*", metavar="mesh.obj", help="mesh files")
    parser.error = _usage_error
    paths = parser.parse_args(argv).meshes
    if not paths:
        raise UserError("no mesh named; use: python polyscope_screenies.py a.obj b.obj ...")
    for path in take_pictures(paths):
        print(f"wrote {path}")


def _usage_error(message):
    raise UserError(f"{message}; see python polyscope_screenies.py --help")


def take_pictures(paths):
    """Write the pictures, animations and gallery of some meshes, as the variables above say.

    Parameters
    ----------
    paths : list of mesh files

    Yields
    ------
    pathlib.Path : each file, once it is written

    Raises
    ------
    UserError
        When a file cannot be read, a variable has no such value, or nothing can be drawn here.
    """
    from PIL import Image

    from loopdraw.view import viewer
    from loopdraw.view.camera import orbit_points
    from loopdraw.view.pictures import contact_sheet, framed_points, save_gif, save_png

    _check_settings()
    paths = [Path(path) for path in paths]
    scenes = [read_scene(path) for path in paths]
    look = _look()
    chosen = None
    if not os.environ.get("NO_GUI") and viewer.has_display():
        chosen = viewer.choose_camera(scenes[0], IMAGE_SIZE, look)
    cameras = _cameras([framed_points(scene, look) for scene in scenes], chosen)
    turning = _cameras([orbit_points(scene.points(), _pivot(scene)) for scene in scenes], chosen)
    thumbnails = []
    for path, scene, camera, start in zip(paths, scenes, cameras, turning, strict=True):
        picture = viewer.render_image(scene, camera, IMAGE_SIZE, look, TRANSPARENT_BACKGROUND)
        yield _written(save_png, path.with_name(f"{path.stem}-img.png"), picture)
        if GALLERY:
            cell = Image.fromarray(picture)
            # No larger than a sheet of so many can use: hundreds of pictures fit into memory.
            side = 2 * GALLERY_WIDTH // math.isqrt(len(paths))
            cell.thumbnail((side, side))
            thumbnails.append(cell)
        if ANIMATION and scene.loop_count():
            yield from _animate(path, scene, camera, look)
        if TURNTABLE:
            yield _written(
                save_gif,
                path.with_name(f"{path.stem}-turntable.gif"),
                _turntable(scene, start, look),
                TURNTABLE_SECONDS / TURNTABLE_FRAMES,
            )
    if GALLERY:
        import numpy as np

        sheet = contact_sheet(
            [np.asarray(cell) for cell in thumbnails], GALLERY_COLUMNS, GALLERY_WIDTH
        )
        yield _written(save_png, paths[0].parent / GALLERY, sheet)


def read_scene(path):
    """A mesh and, if they lie beside it, its loops, as the scene that the variables ask for.

    Returns
    -------
    scene.Scene
    """
    from loopdraw.loops.mesh_files import load_mesh
    from loopdraw.loops.slices_files import load_slices
    from loopdraw.view.scene import Scene

    path = Path(path)
    mesh = load_mesh(path)
    planes, loops_by_plane = None, ()
    slices = path.with_name(f"{path.stem}-slices.npz")
    if DRAW_LOOPS and slices.is_file():
        planes, loops_by_plane = load_slices(slices)
    n_loops = sum(len(loops) for loops in loops_by_plane)
    for name in ("HIGHLIGHTED_LOOPS", "SPECIAL_LOOPS", "PLANES_AT_LOOPS"):
        if n_loops and any(not 0 <= number < n_loops for number in globals()[name]):
            raise UserError(f"{slices}: has loops 0 to {n_loops - 1}; {name} asks for another")

    if MESH_OPACITY <= 0 and not n_loops:
        raise UserError(f"{path}: nothing to draw: MESH_OPACITY is 0 and there are no {slices}")

    named = {*HIGHLIGHTED_LOOPS, *SPECIAL_LOOPS}
    edit = max(HIGHLIGHTED_LOOPS, default=n_loops)
    above = set(range(edit + 1, n_loops))
    regenerated, hidden = set(), set()
    if LOOPS_ABOVE_EDIT == "color":
        regenerated = above
    elif LOOPS_ABOVE_EDIT == "flip" and HIGHLIGHTED_LOOPS:
        regenerated = set(range(edit))
    elif LOOPS_ABOVE_EDIT == "hide":
        hidden = above - set(SPECIAL_LOOPS)
    if HIDE_OTHER_LOOPS:
        hidden = set(range(n_loops)) - named
    scene = Scene(
        mesh=mesh,
        planes=planes,
        loops_by_plane=loops_by_plane,
        edited=HIGHLIGHTED_LOOPS,
        regenerated=regenerated,
        special=SPECIAL_LOOPS,
        hidden=hidden,
        planes_at=PLANES_AT_LOOPS,
        untouched=load_slices(UNTOUCHED_SLICES) if UNTOUCHED_SLICES else None,
    )
    return scene.mirrored_x() if MIRROR_X else scene


def _check_settings():
    for name, values in (
        ("LOOPS_ABOVE_EDIT", ("unchanged", "color", "flip", "hide")),
        ("FRAMING", ("together", "each")),
    ):
        if globals()[name] not in values:
            raise UserError(
                f"polyscope_screenies.py: {name} is {globals()[name]!r}; "
                f"it can be {', '.join(values)}"
            )


def _look():
    from loopdraw.view.scene import Look

    return Look(mesh_opacity=MESH_OPACITY, ground_shadow=GROUND_SHADOW, loop_nodes=LOOP_NODES)


def _cameras(points, chosen):
    """One camera per shape: the user's, or the default view of its points (n, 3)."""
    import numpy as np

    from loopdraw.view.camera import fit_camera

    if chosen is not None:
        return [chosen] * len(points)
    if FRAMING == "together":
        return [fit_camera(np.concatenate(points), IMAGE_SIZE)] * len(points)
    return [fit_camera(each, IMAGE_SIZE) for each in points]


def _pivot(scene):
    points = scene.points()
    return (points.min(axis=0) + points.max(axis=0)) / 2


def _animate(path, scene, camera, look):
    """Reveal one loop after another, then the mesh; yields the files."""
    from dataclasses import replace

    from loopdraw.view import viewer
    from loopdraw.view.pictures import save_gif, save_png

    n_loops, bare = scene.loop_count(), replace(look, mesh_opacity=0.0)
    # The order in which loops are revealed is that of the sequence; those hidden stay so.
    shown = [number for number in range(n_loops) if number not in scene.hidden]
    frames = []
    for count in range(1, len(shown) + 2):
        step = scene
        if count <= len(shown):
            step = replace(scene, hidden=set(range(n_loops)) - set(shown[:count]))
        picture = viewer.render_image(
            step,
            camera,
            IMAGE_SIZE,
            bare if count <= len(shown) else look,
            TRANSPARENT_BACKGROUND,
        )
        yield _written(save_png, path.parent / f"{path.stem}-frames" / f"{count:03d}.png", picture)
        frames.append(_for_gif(picture))
    gif = path.with_name(f"{path.stem}-animation.gif")
    yield _written(save_gif, gif, frames, ANIMATION_SECONDS_PER_LOOP, 2.0)


def _turntable(scene, camera, look):
    """Pictures from all around a shape, the first one from where the camera stands."""
    import numpy as np

    from loopdraw.view import viewer

    pivot = _pivot(scene)
    turns = np.linspace(0, 360, TURNTABLE_FRAMES, endpoint=False)
    size = _gif_size()
    return [
        viewer.render_image(scene, camera.orbited(pivot, turn), size, look, TRANSPARENT_BACKGROUND)
        for turn in turns
    ]


def _gif_size():
    scale = min(1.0, GIF_SIZE / max(IMAGE_SIZE))
    return tuple(max(1, round(side * scale)) for side in IMAGE_SIZE)


def _for_gif(picture):
    import numpy as np
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize(_gif_size(), Image.Resampling.LANCZOS))


def _written(save, path, *arguments):
    save(path, *arguments)
    return path


if __name__ == "__main__":
    run_script(main)
