"""Surfaces of several shapes at once, in other processes: building one takes longer than decoding.

Threads would not do: marching cubes holds Python's lock.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

WORTH_IT = 3  # shapes; for fewer, starting processes takes longer than it saves
MOST_WORKERS = 8


class SurfaceWorkers:
    """Processes that build surfaces.

    Parameters
    ----------
    n_workers : how many; one a core by default. With one core, or if they fail, the work is done
        in this process.
    reco, resolution : as `build_surface`
    """

    def __init__(self, n_workers=None, reco="loops", resolution=None):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self.n_workers = min(cores, MOST_WORKERS) if n_workers is None else n_workers
        self.build = functools.partial(build_surface, reco=reco, resolution=resolution)
        self._pool = None

    def start(self):
        """Start the processes, unless they are running; returns at once.

        Best called while this process is busy with one core only: their start takes half a second.
        """
        if self._pool is not None or self.n_workers < 2:
            return
        # A child inherits that Ctrl-C is ignored: it stops what the user sees run, not the helpers.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._pool = ProcessPoolExecutor(
                self.n_workers, multiprocessing.get_context("spawn"), end_with_parent
            )
            for _ in range(self.n_workers):
                self._pool.submit(_warm_up)
        finally:
            signal.signal(signal.SIGINT, handler)

    def stop(self):
        """End the processes, as soon as they are done with what they are at.

        Left to the end of the program, the pool may be taken apart in an order in which it
        complains.
        """
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    @contextlib.contextmanager
    def surfaces(self, planes, shapes):
        """The surfaces of shapes, worked out ahead while the caller deals with the first ones.

        Parameters
        ----------
        planes : (P, 4, 3) float
        shapes : list of `loops_by_plane`

        Yields
        ------
        list of functions without arguments, one a shape: each waits for the surface of its shape
        and returns (vertices (n, 3) float, faces (m, 3) int), or raises what went wrong with it.
        """
        futures = []
        if len(shapes) >= WORTH_IT:
            self.start()
        if self._pool is not None:
            with contextlib.suppress(BrokenProcessPool):
                futures = [self._pool.submit(self.build, planes, shape) for shape in shapes]
        try:
            yield [
                functools.partial(self._wait, futures[i] if futures else None, planes, shape)
                for i, shape in enumerate(shapes)
            ]
        finally:
            for future in futures:
                future.cancel()

    def _wait(self, future, planes, shape):
        with contextlib.suppress(BrokenProcessPool):  # killed, or out of memory
            if future is not None:
                return future.result()
        return self.build(planes, shape)


def build_surface(planes, loops_by_plane, reco="loops", resolution=None):
    """The surface of a shape.

    Parameters
    ----------
    planes : (P, 4, 3) float
    loops_by_plane : list of P lists of (k, 2) float loops
    reco : "loops" (`reconstruction`) or "poisson" (`poisson`)
    resolution : int, grid cells along the longest side, of "loops"; None for the default

    Returns
    -------
    vertices (n, 3) float, faces (m, 3) int

    Raises
    ------
    ValueError
        When no surface can be built from the loops.
    """
    if reco == "poisson":
        from loopdraw.surface.poisson import poisson_mesh

        return poisson_mesh(planes, loops_by_plane)
    from loopdraw.surface.reconstruction import DEFAULT_RESOLUTION, reconstruct_mesh

    return reconstruct_mesh(planes, loops_by_plane, resolution or DEFAULT_RESOLUTION)


def _warm_up():
    """Build a small surface, so that all that takes is imported."""
    from loopdraw.loops.geometry import make_planes
    from loopdraw.surface.reconstruction import reconstruct_mesh

    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    reconstruct_mesh(make_planes("y", 2, 0.0, 1.0), [[square], [square]], resolution=8)


def end_with_parent():
    """Let a worker end when its parent is killed; it would wait for work for ever."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
