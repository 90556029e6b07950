"""Generate, reconstruct, interpolate and edit shapes with a trained model, by commands.

The commands are typed, or piped:

    python loop_models_inference.py --optfile vases-optfile.txt
    printf "submit sample 10 --save\\nrun all" | \\
        NO_POLYSCOPE=1 python loop_models_inference.py --optfile vases-optfile.txt

Type `help` at the prompt. Shapes are shown in windows, or without a display on a page in the
browser (`--viewer`). With NO_POLYSCOPE set, no windows are opened, and piped commands show nothing.
"""

import importlib.util
import os
import sys
from pathlib import Path

from loopdraw.files import UserError, remove_leftovers, run_script
from loopdraw.options import options_for, parse_options, require
from loopdraw.processes import pick_device
from loopdraw.threads import wait_briefly

BESIDE_OPTFILE = ("prior", "viewer", "viewer_host")
INTERVENTION_FILE = Path(__file__).with_name("loop_inference_intervention_func.py")


def main():
    options = parse_options(description=__doc__.splitlines()[0], beside_optfile=BESIDE_OPTFILE)
    require(options, "save_dir")
    if sys.stdin is None:
        raise UserError("stdin is closed; type commands, or pipe them")
    from loopdraw.surface.workers import SurfaceWorkers

    if options.reco == "poisson" and importlib.util.find_spec("pymeshlab") is None:
        raise UserError(
            "--reco poisson: needs pymeshlab, which is not installed; run: pip install pymeshlab"
        )
    workers = SurfaceWorkers(
        reco=options.reco,
        resolution=options.reco_resolution,
        mesh_seconds=options.mesh_seconds,
    )
    try:
        if not sys.stdin.isatty():
            # A script is likely to save many shapes. While torch is imported the other cores idle.
            workers.start()
        return session(options, workers)
    finally:
        workers.stop()


def session(options, workers):
    """Load the model and perform the commands that are typed or piped; the exit status."""
    wait_briefly()
    # Importing torch takes seconds, which nobody should wait who asks for help or mistypes.
    from loop_inference_config_and_repl import InferenceREPL, LoopInferenceSettings
    from loopdraw.checkpoints import checkpoint_label
    from loopdraw.data.dataset import load_datasets
    from loopdraw.model.vae import load_model
    from loopdraw.prompt.cluster import Cluster
    from loopdraw.prompt.engine import InferenceEngine
    from loopdraw.prompt.items import Items

    save_dir = Path(options.save_dir)
    notes = []
    device = pick_device(options.gpu_ids, notes.append)
    model = load_model(save_dir, settings=vars(options), epoch=options.load_epoch, device=device)
    print(*notes, sep="\n", end="\n" * len(notes))
    info = model.info
    settings = options_for(load_datasets, options)
    items = Items(
        settings.pop("dataroot"),
        info,
        options.load_test_set_for_inference,
        device,
        **settings,
    )
    remove_leftovers(save_dir / "inference")
    show, edit_window, greeting, wait = viewers(options)
    engine = InferenceEngine(
        model,
        items,
        workers,
        folder=save_dir / "inference",
        intervention_file=INTERVENTION_FILE,
        mesh_formats=options.save_format,
        show=show,
        edit_window=edit_window,
    )
    cluster = None
    if options.dask_scheduler is not None:
        cluster = Cluster(options.dask_scheduler, vars(options), save_dir / "inference")
    repl = InferenceREPL(
        LoopInferenceSettings(
            save_dir=save_dir,
            latent_size=model.latent_size,
            n_features=info.representation.n_features,
            no_polyscope=bool(os.environ.get("NO_POLYSCOPE")),
            seed=options.seed,
            prior=model.prior,
            n_planes=info.n_planes,
        ),
        engine,
        cluster=cluster,
    )
    status = repl.session(
        "".join(f"{line}\n" for line in greeting)
        + f"{save_dir}, epoch {checkpoint_label(options.load_epoch)}: {model.architecture}, "
        f"{info.representation.name}, {info.n_planes} planes, "
        f"latents of {model.latent_size} numbers; on the {device.type.upper()}\n"
        '"help" lists the commands.'
    )
    wait()
    return status


def viewers(options):
    """What shows shapes to the user, as `--viewer` says.

    Returns
    -------
    show : function (title, scene), or None where nothing is shown
    edit_window : function (session, title), as `edit_window.edit_in_window`, or None
    greeting : list of str, lines that say where to look
    wait : function to call when all commands are performed, lest what they show vanish
    """
    is_typed = sys.stdin.isatty()
    no_polyscope = bool(os.environ.get("NO_POLYSCOPE"))
    nothing = None, None, [], lambda: None
    if options.viewer == "none" or (no_polyscope and not is_typed):
        return nothing
    if options.viewer != "browser":
        show, edit_window = (None, None) if no_polyscope else window_openers()
        if show is not None:
            return show, edit_window, [], lambda: None
        if options.viewer == "polyscope":
            raise UserError(
                "--viewer polyscope: no window can be opened here; --viewer browser shows shapes "
                "on a page"
            )
        if not is_typed:
            return nothing
    from loopdraw.view.browser.server import VISER_MISSING, browser_available

    if options.viewer is None and not browser_available():
        return None, None, [f"nothing is shown: {VISER_MISSING}"], lambda: None
    from loopdraw.view.browser.page import open_page

    page = open_page(options.viewer_host)
    wait = page.close if is_typed else page.wait
    return page.show, page.edit, page.server.greeting(), wait


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
