"""How often the shape follows while a loop is dragged in the edit window.

    python benchmarks/edit_window.py [OPTFILE]       needs a display; xvfb-run gives one

Opens the window with a shape of the model (`demo-vases-optfile.txt` by default), drags a loop to
and fro for some seconds as the mouse would, and prints how many times a second the loops above it
were decoded and drawn anew, and the surface rebuilt. Without a graphics card, drawing takes the
larger part.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).parent)]

from dragged import STARTS, session_of_optfile  # noqa: E402

SECONDS = 6
STEP = 0.003  # of a drag, in a frame


def main():
    with session_of_optfile(__doc__) as (session, optfile):
        from loopdraw.surface.workers import LatestSurface
        from loopdraw.view import viewer

        if not viewer.open_viewer(headless=False):
            sys.exit("no window can be opened here; try xvfb-run")
        from loopdraw.view.edit_window import EditWindow

        with LatestSurface() as surfaces:
            measure(EditWindow(session, "edit", surfaces), session, optfile)


def measure(window, session, optfile):
    """Drag some loops, and print how the window follows."""
    window.open()
    print(f"{optfile}: {session.editor.shape.n_loops} loops")
    print("dragged loop   updates a second   decoding   surfaces a second")
    for start in STARTS:
        session.editor.set_edits([])
        session.pick(start)
        updates, seconds, surfaces_drawn = drag(window)
        print(f"{start:12d}{updates:19.1f}{1000 * seconds:8.0f} ms{surfaces_drawn:20.1f}",
              flush=True)  # fmt: skip


def drag(window):
    """Updates a second, median seconds of decoding, and surfaces a second during a drag."""
    session, seconds, n_surfaces, n_frames = window.session, [], 0, 0
    window.ps.frame_tick()
    shape, mesh = window._shape, window._mesh
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        forth = n_frames // 25 % 2 == 0
        session.drag(window.mouse.gesture, move=(STEP if forth else -STEP, 0.0))
        window.ps.frame_tick()
        n_frames += 1
        if window._shape is not shape:
            shape = window._shape
            seconds.append(window._decode_seconds)
        if window._mesh is not mesh:
            mesh = window._mesh
            n_surfaces += 1
    window.mouse.gesture += 1
    return len(seconds) / SECONDS, statistics.median(seconds), n_surfaces / SECONDS


if __name__ == "__main__":
    main()
