"""Surfaces built in other processes.

`SurfaceWorkers` builds the surfaces of several shapes at once for the prompt, `LatestSurface` that
of a shape being edited for an editor. Threads would not help: marching cubes holds Python's
lock.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from loopdraw.processes import TookTooLong, time_limit

MESH_SECONDS = 60.0  # by default
PREVIEW_SECONDS = 20.0
GRACE = 30.0  # seconds, after which a process is ended that does not notice its own time limit
HEAP = 20  # loops that overlap on a plane: no trained model makes as many
WORTH_IT = 3  # shapes; for fewer, starting processes takes longer than it saves
MOST_WORKERS = 8
MOST_STARTS = 3  # of the edit window's process, when it keeps dying


def build_surface(
    planes, loops_by_plane, reco="loops", resolution=None, seconds=MESH_SECONDS, waiting=None
):
    """The surface of a shape.

    Parameters
    ----------
    planes : (P, 4, 3) float
    loops_by_plane : list of P lists of (k, 2) float loops
    reco : "loops" (`reconstruct_mesh`), "smooth" (`smooth_mesh`) or "poisson" (`poisson_mesh`)
    resolution : int, grid cells along the longest side, but of "poisson"; None for the default
    seconds : float, that it may take
    waiting : function that gets the seconds gone by, about once a second, or None

    Returns
    -------
    vertices (n, 3) float, faces (m, 3) int

    Raises
    ------
    ValueError
        When the loops give no surface, or none in this time.
    """
    try:
        with time_limit(seconds, waiting):
            return _build(planes, loops_by_plane, reco, resolution)
    except TookTooLong:
        raise ValueError(_why_so_long(loops_by_plane, seconds)) from None


def _build(planes, loops_by_plane, reco, resolution):
    if reco == "poisson":
        from loopdraw.surface.reconstruction import poisson_mesh

        return poisson_mesh(planes, loops_by_plane)
    if reco == "smooth":
        from loopdraw.surface.contours.smooth import smooth_mesh

        return smooth_mesh(planes, loops_by_plane, resolution)
    from loopdraw.surface.reconstruction import reconstruct_mesh

    return reconstruct_mesh(planes, loops_by_plane, resolution)


def _why_so_long(loops_by_plane, seconds):
    """One line about a surface that took too long: it is loops in heaps that take long."""
    heaps = [_n_overlapping(loops) for loops in loops_by_plane]
    plane = int(np.argmax(heaps))
    why = f"it takes more than {seconds:g} s; allow more with --mesh_seconds"
    if heaps[plane] < HEAP:
        return why
    return f"{heaps[plane]} overlapping loops on plane {plane}; the model is hardly trained ({why})"


def _n_overlapping(loops):
    """How many loops of a plane have a bounding box that touches that of another one."""
    loops = [loop for loop in map(np.asarray, loops) if len(loop)]
    if not loops:
        return 0
    low, high = (np.array([end(loop, axis=0) for loop in loops]) for end in (np.min, np.max))
    return sum(
        np.count_nonzero((low <= high[i]).all(axis=1) & (high >= low[i]).all(axis=1)) > 1
        for i in range(len(loops))
    )


class SurfaceWorkers:
    """Processes that build surfaces.

    Parameters
    ----------
    n_workers : int, by default one per core. With a single one, or if they fail, this process does
        the work.
    reco, resolution : as for `build_surface`
    mesh_seconds : float, that each surface may take
    """

    def __init__(self, n_workers=None, reco="loops", resolution=None, mesh_seconds=MESH_SECONDS):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self.n_workers = min(cores, MOST_WORKERS) if n_workers is None else n_workers
        self.mesh_seconds = mesh_seconds
        self.build = functools.partial(
            build_surface, reco=reco, resolution=resolution, seconds=mesh_seconds
        )
        self._pool = None

    def start(self):
        """Start the processes, unless they are running; returns at once.

        Starting them takes half a second, so call it while this process uses only one core.
        """
        if self._pool is None and self.n_workers > 1:
            self._pool = _start_pool(self.n_workers)

    def stop(self):
        """End the processes when they have finished what they are doing.

        Call it before the program ends: a pool left over may print errors at exit.
        """
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    @contextlib.contextmanager
    def surfaces(self, planes, shapes, waiting=None):
        """The surfaces of shapes, computed ahead while the caller handles the first ones.

        Parameters
        ----------
        planes : (P, 4, 3) float
        shapes : list of `loops_by_plane`
        waiting : function (number of the shape, seconds gone by) that is called about once a second
            while the caller waits for a surface, or None

        Yields
        ------
        list of functions without arguments, one per shape. Each waits for the surface of its shape
        and returns (vertices (n, 3) float, faces (m, 3) int), or raises the error of building it.
        """
        futures = []
        if len(shapes) >= WORTH_IT:
            self.start()
        if self._pool is not None:
            with contextlib.suppress(BrokenProcessPool):
                futures = [self._pool.submit(self.build, planes, shape) for shape in shapes]
        try:
            yield [
                functools.partial(
                    self._wait,
                    futures[i] if futures else None,
                    planes,
                    shape,
                    waiting and functools.partial(waiting, i),
                )
                for i, shape in enumerate(shapes)
            ]
        finally:
            for future in futures:
                future.cancel()

    def _wait(self, future, planes, shape, waiting):
        with contextlib.suppress(BrokenProcessPool):  # killed, or out of memory
            if future is not None:
                return self._result(future, shape, waiting)
        return self.build(planes, shape, waiting=waiting)

    def _result(self, future, shape, waiting):
        """The result of a future, whose work is in progress: those before it have been waited for.

        The process that does it keeps the time limit, unless it is stuck outside Python.
        """
        start = time.monotonic()
        while not future.done():
            with contextlib.suppress(TimeoutError):
                return future.result(timeout=1.0)
            seconds = time.monotonic() - start
            if seconds > self.mesh_seconds + GRACE:
                self._kill()
                raise ValueError(_why_so_long(shape, self.mesh_seconds))
            if waiting:
                waiting(seconds)
        return future.result()

    def _kill(self):
        """End the processes at once. Surfaces that they were to build are built by this one."""
        for process in list(self._pool._processes.values()):
            process.kill()
        self._pool.shutdown(wait=False)
        self._pool = None


class LatestSurface:
    """Builds the surface of a shape that is being edited, always from the latest loops.

    One process of low priority does it, so that the window never waits. Loops that were replaced
    while an earlier surface was being built are skipped. Use it in a `with` block.
    """

    def __init__(self):
        self._pool = None
        self._n_ended = 0
        self._running = None  # future
        self._waiting = None  # arguments of `reconstruct_mesh`
        self._asked = None  # (shape, resolution) of the last request of `follow`

    def __enter__(self):
        self._pool = _start_pool(1, low_priority=True)
        return self

    def __exit__(self, *_):
        # Nobody needs the surface being built now, so do not wait for it; nor at the end of the
        # program, which could take minutes on a busy machine.
        if self._pool is not None:
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()

    def request(self, planes, loops_by_plane, resolution):
        """Ask for a surface; replaces an earlier request that has not been started.

        Parameters
        ----------
        planes, loops_by_plane, resolution : as for `reconstruction.reconstruct_mesh`
        """
        self._waiting = planes, loops_by_plane, resolution
        self._go_on()

    def follow(self, shape, planes, loops_by_plane, resting):
        """Ask for a coarse surface of a shape that changes, and for a fine one once it rests.

        Call it often, with the shape as it is now.

        Parameters
        ----------
        shape : object that is another one once the shape has changed
        planes, loops_by_plane : as for `reconstruction.reconstruct_mesh`
        resting : bool, whether the shape has been as it is for a while
        """
        from loopdraw.surface.reconstruction import DEFAULT_RESOLUTION, PREVIEW_RESOLUTION

        resolution = DEFAULT_RESOLUTION if resting else PREVIEW_RESOLUTION
        if self._asked is not None and self._asked[0] is shape:
            if self._asked[1] >= resolution or self.busy:  # the coarse one comes first
                return
        self._asked = shape, resolution
        self.request(planes, loops_by_plane, resolution)

    @property
    def is_fine(self):
        """Whether the last surface that `follow` asked for is a fine one, and is there."""
        from loopdraw.surface.reconstruction import PREVIEW_RESOLUTION

        return self._asked is not None and self._asked[1] > PREVIEW_RESOLUTION and not self.busy

    def poll(self):
        """A surface finished since the last call, or None. Call it in every frame.

        Returns
        -------
        mesh : (vertices (n, 3) float64, faces (m, 3) int64), or None if it failed
        error : str, the reason; "" if it did not fail
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
                self._pool = _start_pool(1, low_priority=True)
            else:
                self._pool = None
        except Exception as error:  # the next loops may be better
            answer = None, f"no surface: {error}"
        self._go_on()
        return answer

    @property
    def busy(self):
        """Whether a surface is being built."""
        return self._running is not None

    def _go_on(self):
        if self._running is None and self._waiting is not None and self._pool is not None:
            (planes, loops_by_plane, resolution), self._waiting = self._waiting, None
            self._running = self._pool.submit(
                build_surface,
                planes,
                loops_by_plane,
                resolution=resolution,
                seconds=PREVIEW_SECONDS,
            )


# --------------------------------------------------------------------------------- the processes


def _start_pool(n_workers, low_priority=False):
    """A pool of processes that are ready to build surfaces; returns before they are.

    They ignore Ctrl-C, which stops what the user sees run, and they end when this process does.
    """
    # A child process inherits that the signal is ignored. Only the main thread may say so.
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(n_workers, context, _begin, (low_priority,))
        for _ in range(n_workers):
            pool.submit(os.getpid)  # a process starts when there is work
        return pool
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)


def _begin(low_priority):
    """Prepare a process of the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _warm_up()
    if low_priority and hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif low_priority and hasattr(os, "nice"):
        os.nice(10)


def _end_with_parent():
    """End this process when its parent is killed; it would wait for work forever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _warm_up():
    """Build a small surface, which imports everything that this takes."""
    from loopdraw.loops.geometry import make_planes

    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    build_surface(make_planes("y", 2, 0.0, 1.0), [[square], [square]], resolution=8)
