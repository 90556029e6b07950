"""What `browser.py` and `edit_window.py` drag: loops of a shape of a model."""

import argparse
import contextlib
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STARTS = (0, 10, 20, 30)  # the loops
SEED = 7  # of the latent


@contextlib.contextmanager
def session_of_optfile(description):
    """An `EditSession` of the model that the command line names, and the path of its optfile."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("optfile", nargs="?", default=str(ROOT / "demo-vases-optfile.txt"))
    optfile = parser.parse_args().optfile
    from loopdraw.threads import wait_briefly

    wait_briefly()
    import numpy as np

    from loopdraw.editing.session import EditSession
    from loopdraw.model.vae import load_model
    from loopdraw.options import parse_options

    options = parse_options(["--optfile", optfile])
    model = load_model(options.save_dir, settings=vars(options))
    latent = np.random.default_rng(SEED).normal(size=model.latent_size)
    with tempfile.TemporaryDirectory() as folder:
        yield EditSession(model, latent, [], folder, None, None), optfile
