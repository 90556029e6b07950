"""Take pictures of meshes and their loops: `python polyscope_screenies.py a.obj b.obj ...`.

Writes `<name>-img.png` beside each mesh. If `<name>-slices.npz` is there (`--save` writes it
beside an inferred mesh), its loops are drawn too. With a display, a window opens with the first
mesh, and the view in which you leave it is used for all meshes. With `NO_GUI=1` no window opens and
the default view is used.

Set the look with the variables below. Loops are numbered from 0 in the order of the sequence:
plane after plane, and within a plane from the largest.
"""

import math
import os
from dataclasses import fields
from pathlib import Path

from loopdraw.files import UserError, run_script
from loopdraw.options import Parser, file_name

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
# "together": one view for all meshes of a run, so that they keep their relative sizes.
# "each": every mesh fills its picture.
FRAMING = "together"

# Draw the loops of `<name>-slices.npz`.
DRAW_LOOPS = True
# Loops to highlight in red, by number: those that were edited.
HIGHLIGHTED_LOOPS = []
# Loops to highlight in green, by number: for example one that a text explains.
SPECIAL_LOOPS = []
# Draw only the highlighted and special loops.
HIDE_OTHER_LOOPS = False
# The loops after the last highlighted one, which the edit regenerated: "unchanged" (golden like the
# others), "color" (pink), "flip" (these golden, those before the edit pink), "hide".
LOOPS_ABOVE_EDIT = "unchanged"
# The `-slices.npz` file of the shape before the edit, or None. Its loops are drawn in faint grey.
UNTOUCHED_SLICES = None
# Draw the slice planes that hold these loops, by number.
PLANES_AT_LOOPS = []
# Draw a ball at every point of a loop.
LOOP_NODES = False

# Loops appear one by one, then the mesh: pictures in `<name>-frames/`, and
# `<name>-animation.gif`.
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
# One picture of all meshes of the run: a file name such as "gallery.png", or None. It is written
# beside the first mesh, unless the name includes a folder.
GALLERY = None
# Pictures in a row of the gallery; None chooses.
GALLERY_COLUMNS = None
# Largest width of the gallery, pixels.
GALLERY_WIDTH = 2000


def main(argv=None):
    """Take the pictures of the meshes named on the command line."""
    for path in take_pictures(parse_arguments(argv)):
        print(f"wrote {path}")


def parse_arguments(argv=None):
    """The mesh files that the command line names."""
    parser = Parser(
        description="Take pictures of meshes and their loops: writes <name>-img.png beside each "
        "mesh; the loops of <name>-slices.npz are drawn too.",
        epilog="The look is set by the variables at the top of polyscope_screenies.py. With a "
        "display, a window opens for you to set the camera; NO_GUI=1 takes the default view.",
    )
    parser.add_argument("meshes", nargs="*", type=file_name, metavar="mesh.obj", help="mesh files")
    parser.error = _usage_error
    paths = parser.parse_args(argv).meshes
    if not paths:
        raise UserError("no mesh named; use: python polyscope_screenies.py a.obj b.obj ...")
    return paths


def _usage_error(message):
    raise UserError(f"{message}; see python polyscope_screenies.py --help")


def read_settings():
    """The variables above as `loopdraw.view.gallery.Settings`."""
    from loopdraw.view.gallery import Settings

    try:
        return Settings(**{field.name: globals()[field.name.upper()] for field in fields(Settings)})
    except ValueError as error:
        raise UserError(f"polyscope_screenies.py: {error}") from None


def take_pictures(paths):
    """Write the pictures, animations and gallery of some meshes.

    Parameters
    ----------
    paths : list of mesh files

    Yields
    ------
    pathlib.Path : each file, once it is written

    Raises
    ------
    UserError
        When a file cannot be read, a variable has a wrong value, or nothing can be drawn here.
    """
    from loopdraw.view import gallery, viewer
    from loopdraw.view.pictures import contact_sheet, save_gif, save_png

    settings = read_settings()
    paths = [Path(path) for path in paths]
    scenes = [gallery.load_scene(path, settings) for path in paths]

    cameras = gallery.place_cameras(scenes, settings)
    starts = gallery.place_cameras(scenes, settings, turning=True)
    if not os.environ.get("NO_GUI") and viewer.has_display():
        chosen = viewer.choose_camera(scenes[0], settings.image_size, settings.look)
        if chosen is not None:
            cameras = starts = [chosen] * len(scenes)

    cells = []
    for path, scene, camera, start in zip(paths, scenes, cameras, starts, strict=True):
        picture = gallery.draw(scene, camera, settings)
        image = path.with_name(f"{path.stem}-img.png")
        save_png(image, picture)
        yield image

        if settings.gallery:
            # Small enough that hundreds of pictures fit into memory.
            most = 2 * settings.gallery_width // math.isqrt(len(paths))
            cells.append(gallery.thumbnail(picture, most))

        if settings.animation and scene.loop_count():
            small = []
            for count, picture in enumerate(gallery.draw_growth(scene, camera, settings), 1):
                frame = path.parent / f"{path.stem}-frames" / f"{count:03d}.png"
                save_png(frame, picture)
                yield frame
                small.append(gallery.resized(picture, settings.size_of_gifs()))
            animation = path.with_name(f"{path.stem}-animation.gif")
            save_gif(animation, small, settings.animation_seconds_per_loop, last_seconds=2.0)
            yield animation

        if settings.turntable:
            turns = gallery.draw_turntable(scene, start, settings)
            turntable = path.with_name(f"{path.stem}-turntable.gif")
            save_gif(turntable, turns, settings.turntable_seconds / settings.turntable_frames)
            yield turntable

    if settings.gallery:
        sheet = paths[0].parent / settings.gallery
        columns, width = settings.gallery_columns, settings.gallery_width
        save_png(sheet, contact_sheet(cells, columns, width))
        yield sheet


if __name__ == "__main__":
    run_script(main)
