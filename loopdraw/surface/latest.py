"""The surface of a shape that is being edited, built beside the program.

Building it takes longer than a frame of the window, so a process of its own, of low priority, does
it: what the hand drags never waits for it. Only the latest loops count; those that came while an
earlier surface was being built are skipped.
"""

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from loopdraw.surface.workers import end_with_parent

MOST_STARTS = 3  # of a process that keeps ending, before it is given up


class LatestSurface:
    """Builds one surface after the other, always of the latest loops. Use it in a `with` block."""

    def __init__(self):
        self._pool = None
        self._n_ended = 0
        self._running = None  # future
        self._waiting = None  # arguments of `reconstruct_mesh`

    def __enter__(self):
        self._start()
        return self

    def __exit__(self, *_):
        # What it is building is of no use to anyone now, so it is not waited for.
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def request(self, planes, loops_by_plane, resolution):
        """Ask for a surface; takes the place of an earlier request that has not been begun.

        Parameters
        ----------
        planes, loops_by_plane, resolution : as `reconstruction.reconstruct_mesh`
        """
        self._waiting = planes, loops_by_plane, resolution
        self._go_on()

    def poll(self):
        """A surface that has been finished since the last call, or None; call it in every frame.

        Returns
        -------
        mesh : (vertices (n, 3) float64, faces (m, 3) int64), or None where that failed
        error : str, why; "" where it did not
        """
        if self._running is None or not self._running.done():
            return None
        future, self._running = self._running, None
        try:
            answer = future.result(), ""
        except BrokenProcessPool:
            answer = None, "no surface: the process that builds it has ended"
            self._n_ended += 1
            if self._n_ended < MOST_STARTS:
                self._start()
            else:
                self._pool = None
        except Exception as error:  # whatever it is, the next loops may be better
            answer = None, f"no surface: {error}"
        self._go_on()
        return answer

    @property
    def busy(self):
        """Whether a surface is being built."""
        return self._running is not None

    def _go_on(self):
        if self._running is None and self._waiting is not None and self._pool is not None:
            arguments, self._waiting = self._waiting, None
            self._running = self._pool.submit(_build, *arguments)

    def _start(self):
        # A child inherits that Ctrl-C is ignored: it stops what the user sees run.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, context, _prepare)
            self._pool.submit(os.getpid)  # starts it: its imports take a second
        finally:
            signal.signal(signal.SIGINT, handler)


def _prepare():
    import skimage.measure  # noqa: F401

    from loopdraw.surface import reconstruction  # noqa: F401

    # Decoding and drawing go first: with few cores they would wait for this otherwise.
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif hasattr(os, "nice"):
        os.nice(10)
    end_with_parent()


def _build(planes, loops_by_plane, resolution):
    from loopdraw.surface.reconstruction import reconstruct_mesh

    return reconstruct_mesh(planes, loops_by_plane, resolution)
