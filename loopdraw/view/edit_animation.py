"""An edit as an animation: the loops move, and the rest of the shape follows.

    python -m loopdraw.view.edit_animation vases-optfile.txt inference-0-edit.json edit.gif

The edit list holds the latent, too. The edit window saves one, and so does
`submit decode <z> --edit … --save`. Colours are those of the window: golden before the edit, red
edited, pink regenerated, faint grey the untouched shape.
"""

import numpy as np

from loopdraw.files import UserError, run_script
from loopdraw.options import Parser, parse_options, require

N_STEPS = 16  # from the untouched shape to the whole edit
SECONDS_PER_PICTURE = 0.09
REST = 8  # pictures that show the whole edit before it goes back
SIZE = (460, 460)


def parse_arguments(argv=None):
    """Parse the command line, or `argv`. Wrong arguments raise a `UserError`."""
    parser = Parser(
        description="Draw an edit as a GIF: the loops move, and the rest of the shape follows.",
        allow_abbrev=False,
    )
    parser.add_argument("optfile", help="the options of the model")
    parser.add_argument("edit", help="an edit list, inference-#-edit.json")
    parser.add_argument("gif", help="the file to write")
    return parser.parse_args(argv)


def make_scenes(editor, edits):
    """The shape on its way from untouched to edited.

    Parameters
    ----------
    editor : editor.LoopEditor
    edits : list of Edit

    Returns
    -------
    list of N_STEPS scene.Scene
    """
    from loopdraw.surface.reconstruction import reconstruct_mesh
    from loopdraw.view.scene import Scene

    planes = editor.info.planes
    scenes = []
    # Slow at the start and at the end, as a hand moves.
    for share in (1 - np.cos(np.linspace(0, np.pi, N_STEPS))) / 2:
        editor.set_edits([edit.partly(float(share)) for edit in edits])
        shape = editor.shape
        scenes.append(
            Scene(
                mesh=reconstruct_mesh(planes, shape.loops_by_plane),
                planes=planes,
                loops_by_plane=shape.loops_by_plane,
                edited=shape.edited.tolist(),
                regenerated=shape.regenerated.tolist(),
                untouched=(planes, editor.untouched.loops_by_plane) if share else None,
            )
        )
    return scenes


def main(argv=None):
    arguments = parse_arguments(argv)
    from loopdraw.editing.edit_files import check_edits, load_edits
    from loopdraw.editing.editor import LoopEditor
    from loopdraw.model.vae import load_model
    from loopdraw.view.pictures import save_gif
    from loopdraw.view.scene import fit_camera
    from loopdraw.view.viewer import render_image

    options = parse_options(["--optfile", arguments.optfile])
    require(options, "save_dir")
    edit_file = load_edits(arguments.edit)
    model = load_model(options.save_dir, settings=vars(options), epoch=options.load_epoch)
    try:
        check_edits(edit_file, model.info)
        given = edit_file.given_shape(model)
        of_file = {"after": edit_file.after, "onward": edit_file.onward}
        editor = LoopEditor(model, edit_file.latent, given=given, **of_file)
        scenes = make_scenes(editor, edit_file.edits)
    except (UserError, ValueError) as error:
        raise UserError(f"{arguments.edit}: {error}") from None
    points = np.concatenate([scene.points() for scene in scenes])
    camera = fit_camera(points, SIZE)
    pictures = [render_image(scene, camera, SIZE) for scene in scenes]
    there_and_back = pictures + [pictures[-1]] * REST + pictures[-2:0:-1]
    save_gif(arguments.gif, there_and_back, SECONDS_PER_PICTURE)
    print(f"wrote {arguments.gif}: {len(there_and_back)} pictures")


if __name__ == "__main__":
    run_script(main)
