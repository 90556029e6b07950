"""Generate, reconstruct, interpolate and edit shapes with a trained model, by commands.

The commands are typed, or piped:

    python loop_models_inference.py --optfile vases-optfile.txt
    printf "submit sample 10 --save\\nrun all" | \\
        NO_POLYSCOPE=1 python loop_models_inference.py --optfile vases-optfile.txt

Type `help` at the prompt. With NO_POLYSCOPE set, or without a display, no windows are opened.
"""

import importlib.util
import os
import sys
from pathlib import Path

from loopdraw.files import UserError, run_script
from loopdraw.options import parse_options, require
from loopdraw.threads import wait_briefly


def main():
    options = parse_options(description=__doc__.splitlines()[0])
    require(options, "save_dir")
    from loopdraw.surface.workers import SurfaceWorkers

    if options.reco == "poisson" and importlib.util.find_spec("pymeshlab") is None:
        raise UserError(
            "--reco poisson: needs pymeshlab, which is not installed; run: pip install pymeshlab"
        )
    workers = SurfaceWorkers(reco=options.reco, resolution=options.reco_resolution)
    try:
        if not sys.stdin.isatty():
            # A script is likely to save many shapes. While torch is imported the other cores idle.
            workers.start()
        return session(options, workers)
    finally:
        workers.stop()


def session(options, workers):
    """Perform the commands that are typed or piped; the exit status."""
    wait_briefly()
    # Importing torch takes seconds, which nobody should wait who asks for help or mistypes.
    from loop_inference_config_and_repl import InferenceREPL, LoopInferenceSettings
    from loopdraw.prompt.engine import InferenceEngine

    no_polyscope = bool(os.environ.get("NO_POLYSCOPE"))
    show, edit_window = (None, None) if no_polyscope else window_openers()
    engine = InferenceEngine(options, workers, show, edit_window=edit_window)
    settings = LoopInferenceSettings(
        save_dir=Path(options.save_dir),
        latent_size=options.latent_size,
        n_features=engine.info.representation.n_features,
        no_polyscope=no_polyscope,
        seed=options.seed,
    )
    repl = InferenceREPL(settings, engine)
    return repl.session(f'{engine.description}\n"help" lists the commands.')


def window_openers():
    """What shows shapes in windows, or (None, None) where no window can open.

    Returns
    -------
    show : function (title, scene)
    edit_window : function (session, title), as `edit_window.edit_in_window`
    """
    from loopdraw.view.viewer import has_display, show_shape, viewer_available

    if not (viewer_available() and has_display()):
        return None, None

    def show(title, scene):
        try:
            show_shape(scene, title)
        except UserError as error:
            # The shape itself is well, and saved if it was to be.
            print(f"no window: {error}", file=sys.stderr)

    def edit_window(session, title):
        from loopdraw.view.edit_window import edit_in_window

        return edit_in_window(session, title)

    return show, edit_window


if __name__ == "__main__":
    run_script(main)
