"""Surfaces built in other processes.

`SurfaceWorkers` builds the surfaces of several shapes at once for the prompt and writes their
files, `LatestSurface` builds that of a shape being edited for an editor. Threads would not help:
marching cubes holds Python's lock.
"""

import contextlib
import functools
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections import deque
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
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
    """Processes that build surfaces and write files, of one shape after another.

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
        self._pool = self._ready = None
        self._n_ended = 0
        self._feeder, self._waiting = None, queue.SimpleQueue()  # of PendingShape

    def start(self):
        """Start the processes, unless they are running; returns at once.

        Starting them takes half a second, so call it while this process uses only one core.
        """
        if self._pool is None and self.n_workers > 1 and self._n_ended < MOST_STARTS:
            self._pool = _start_pool(self.n_workers)
            self._ready = self._pool.submit(os.getpid)

    def stop(self):
        """End the processes when they have finished what they are doing.

        Call it before the program ends: a pool left over may print errors at exit.
        """
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        if self._feeder is not None:
            self._waiting.put(None)
            self._feeder.join()
            self._feeder = None

    def put(self, planes, shapes, savings=None):
        """Have the surfaces of shapes built and, where they are to be saved, their files written.

        The processes work on shapes in the order in which they were put. Names are claimed in this
        order, too. The caller goes on at once.

        Parameters
        ----------
        planes : (P, 4, 3) float
        shapes : list of `loops_by_plane`
        savings : list of outputs.Saving, or None where a shape is not to be saved

        Returns
        -------
        list of PendingShape
        """
        savings = savings or [None] * len(shapes)
        pending = [
            PendingShape(self, planes, shape, saving)
            for shape, saving in zip(shapes, savings, strict=True)
        ]
        if len(shapes) >= WORTH_IT:
            self.start()
        if self._pool is not None and self._feeder is None:
            self._feeder = threading.Thread(target=self._feed, daemon=True)
            self._feeder.start()
        for shape in pending:
            if self._feeder is None:
                shape.give_back()
            else:
                self._waiting.put(shape)
        return pending

    def _feed(self):
        """Keep the processes busy, a few shapes ahead: a thread, as this process may be busy, too.

        What was begun for the shapes ahead comes before the files of the present one, so they are
        few.
        """
        begun = deque()
        with contextlib.suppress(Exception, CancelledError):
            self._ready.result()  # so that their start does not count as work on a shape
        while True:
            while len(begun) < 2 * self.n_workers + 1:
                try:
                    shape = self._waiting.get(block=not begun)
                except queue.Empty:
                    break
                if shape is None:
                    return
                shape.begin(self._pool)
                begun.append(shape)
            begun.popleft().finish()

    def result(self, future, loops_by_plane):
        """The surface of a shape from the process that builds it.

        That process keeps the time limit, unless it is stuck outside Python.
        """
        try:
            # Those before it are done, so it is in work.
            return future.result(timeout=self.mesh_seconds + GRACE)
        except TimeoutError:
            self._kill()
            raise ValueError(_why_so_long(loops_by_plane, self.mesh_seconds)) from None

    def _kill(self):
        """End the processes at once. Surfaces that they were to build are built by this one."""
        pool, self._pool = self._pool, None
        if pool is not None:
            _kill_processes(pool)
            pool.shutdown(wait=False)

    def lost(self, pool):
        """Take note that a process of a pool has died, for example for lack of memory."""
        if self._pool is not None and self._pool is pool:
            self._n_ended += 1
            self._kill()


class PendingShape:
    """A shape whose surface is built, and whose files are written, by `SurfaceWorkers`."""

    def __init__(self, workers, planes, loops_by_plane, saving):
        self._workers, self._planes, self._loops = workers, planes, loops_by_plane
        self._saving = saving
        self._pool = self._surface = None  # the future
        self._done = Future()  # of the mesh and its path
        self._lock = threading.Lock()  # held to begin saving, or to stop before that
        self._stopped = self._is_saving = False
        self._next_since = None  # when others began to wait for its surface
        self._claim, self._stem, self._mesh = contextlib.ExitStack(), None, None

    # In the thread that feeds the processes

    def give_back(self):
        """Leave the work to the process that waits for it."""
        self._done.set_exception(BrokenProcessPool())

    def begin(self, pool):
        self._pool = pool
        with contextlib.suppress(BrokenProcessPool):  # then `finish` says so
            if not self._stopped:
                self._surface = self._submit(self._workers.build, self._planes, self._loops)

    def _submit(self, function, *arguments, **more):
        try:
            return self._pool.submit(function, *arguments, **more)
        except (RuntimeError, AttributeError):  # the pool has ended, or there is none
            raise BrokenProcessPool from None

    def finish(self):
        """Wait for the surface and let the files be written."""
        self._next_since = time.monotonic()
        try:
            if self._surface is None:
                raise CancelledError if self._stopped else BrokenProcessPool
            mesh = self._workers.result(self._surface, self._loops)
            self._next_since = None
            if self._saving is None:
                self._done.set_result((mesh, None))
                return
            with self._lock:
                if self._stopped:
                    raise CancelledError
                self._mesh = mesh
                stem = self._claimed()
                self._is_saving = True
                files = self._submit(self._saving.write, stem, mesh=mesh)
        except BaseException as error:
            self._fail(error)
        else:
            files.add_done_callback(self._written)

    def _written(self, files):
        try:
            path = files.result()
        except BaseException as error:
            self._fail(error)
        else:
            self._claim.close()
            self._done.set_result((self._mesh, path))

    def _fail(self, error):
        try:
            if isinstance(error, BrokenProcessPool):  # the claim stays, for `wait`
                self._workers.lost(self._pool)
            else:
                self._claim.close()
        finally:
            self._done.set_exception(error)

    def _claimed(self):
        if self._stem is None:
            self._stem = self._claim.enter_context(self._saving.claim())
            if self._saving.before:
                self._saving.before(self._stem)
        return self._stem

    # In the process that has put it

    def wait(self, waiting=None):
        """The surface, once it is there and saved, if it is to be.

        Parameters
        ----------
        waiting : function that gets the seconds that this shape has taken, about once a second, or
            None

        Returns
        -------
        mesh : vertices (n, 3) float, faces (m, 3) int
        path : Path of the mesh; None where it is not saved

        Raises
        ------
        ValueError
            When there is no surface.
        UserError
            When a file cannot be written.
        """
        while True:
            try:
                return self._done.result(timeout=1.0)
            except TimeoutError:
                if waiting and self._next_since is not None:
                    waiting(time.monotonic() - self._next_since)
            except BrokenProcessPool:
                return self._make_here(waiting)

    def _make_here(self, waiting):
        mesh = self._mesh or self._workers.build(self._planes, self._loops, waiting=waiting)
        if self._saving is None:
            return mesh, None
        with self._claim:
            return mesh, self._saving.write(self._claimed(), mesh=mesh)

    def stop(self):
        """Do not begin what has not been begun. Files that are being written are finished."""
        with self._lock:
            self._stopped = True
        if self._surface is not None:
            self._surface.cancel()

    def is_saved(self):
        """Whether it was saved, or is being saved, which is waited for."""
        return self._is_saving and self._done.exception() is None


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
            _kill_processes(self._pool)
            self._pool.shutdown(wait=False, cancel_futures=True)

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


def _kill_processes(pool):
    """End the processes of a pool at once."""
    for process in list((pool._processes or {}).values()):
        process.kill()
    # One may have been killed in the midst of an answer. The pool's thread would wait for the rest,
    # and the program could not end, while this end of the pipe is open.
    answers = getattr(pool, "_result_queue", None)
    if answers is not None:
        answers._writer.close()


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
