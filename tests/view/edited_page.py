"""A page on which a shape of a small model is edited, as tests look at it."""

import contextlib
import time

import numpy as np
from small_model import EGG, LATENT_SIZE, small_model

from loopdraw.editing.session import EditSession

PATIENCE = 60.0  # seconds: a machine without a graphics card may be busy


def wait_for(condition, what, seconds=PATIENCE):
    """Wait until a function gives something true; what it gives."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come")


@contextlib.contextmanager
def editing(page, folder):
    """A session that is edited on the page, as `edit` does it."""
    session = EditSession(
        small_model(flag_bias=5.0),
        np.zeros(LATENT_SIZE),
        [],
        folder / "inference",
        lambda word: np.full(LATENT_SIZE, 0.5),
        lambda word: [EGG],
    )
    thread = page.start_editing(session, "edit ?")
    try:
        yield session
    finally:
        page.editor.finish()
        thread.join(PATIENCE)
        assert not thread.is_alive()
