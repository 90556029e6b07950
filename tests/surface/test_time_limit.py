"""No mesh takes for ever: what a hardly trained model makes is given up in time."""

import gc
import sys
import threading
import time

import numpy as np
import pytest
from small_loops import circle

from loopdraw.loops.geometry import make_planes
from loopdraw.processes import TookTooLong, time_limit
from loopdraw.surface import workers
from loopdraw.surface.workers import SurfaceWorkers, build_surface

PLANES = make_planes("y", 4, -0.5, 0.5)
SOUND = [[circle(0.3)]] * 4


def heap(n_loops=540):
    """Loops that all cross each other, on the first plane."""
    rng = np.random.default_rng(0)
    loops = [circle(rng.uniform(0.2, 0.4), rng.normal(0, 0.05, 2)) for _ in range(n_loops)]
    return [[loop * rng.uniform(0.9, 1.1, (len(loop), 1)) for loop in loops], [], [], []]


def test_a_heap_of_loops_is_given_up_in_time():
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"540 overlapping loops on plane 0; the model is hardly"):
        build_surface(PLANES, heap(), seconds=1.0)
    assert time.monotonic() - start < 4


def in_a_thread(work):
    """What `work()` returns in a thread, as those of a Dask worker are.

    Without callbacks of the garbage collector, such as Hypothesis has: what is raised in them is
    dropped, and in a thread a limit is raised once.
    """
    results, callbacks = [], gc.callbacks[:]
    thread = threading.Thread(target=lambda: results.append(work()))
    gc.callbacks.clear()
    try:
        thread.start()
        thread.join()
    finally:
        gc.callbacks[:] = callbacks
    return results[0]


def test_the_limit_holds_in_threads():
    def work():
        start = time.monotonic()
        with pytest.raises(ValueError, match=r"540 overlapping loops on plane 0"):
            build_surface(PLANES, heap(), seconds=1.0)
        return time.monotonic() - start

    assert in_a_thread(work) < 4


def test_a_limit_in_a_thread_ends_with_its_block():
    """What comes late is not raised in what follows the block, however close it was."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that the thread that watches the time often comes between

    def work():
        n_late = 0
        for i in range(60):
            try:
                with time_limit(0.001):
                    busy((0, 0.0005, 0.001, 0.0015, 5)[i % 5])
            except TookTooLong:
                n_late += 1
            busy(0.0001)
        return n_late

    def busy(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass

    try:
        assert in_a_thread(work) >= 12  # and nothing was raised outside
    finally:
        sys.setswitchinterval(interval)


def test_the_limit_holds_where_exceptions_are_dropped():
    """Python drops what is raised in a callback of the garbage collector."""

    def callback(phase, info):
        pass

    junk = [[i] for i in range(300_000)]  # collecting takes most of the time
    gc.callbacks.append(callback)
    start = time.monotonic()
    try:
        with pytest.raises(TookTooLong), time_limit(0.2):
            while time.monotonic() < start + 5:
                gc.collect()
                sum(range(100_000))
    finally:
        gc.callbacks.remove(callback)
    assert time.monotonic() - start < 2 and junk


def test_a_sound_shape_that_takes_long_is_not_blamed_on_the_model():
    with pytest.raises(ValueError, match=r"^it takes more than 0.001 s; allow more with"):
        build_surface(PLANES, SOUND, resolution=512, seconds=0.001)


def test_one_heap_does_not_hold_up_the_workers():
    ticks = []
    pool = SurfaceWorkers(2, resolution=16, mesh_seconds=2.0)
    try:
        shapes = [SOUND, heap(), SOUND]
        first, slow, last = pool.put(PLANES, shapes)
        (vertices, _), path = first.wait()
        with pytest.raises(ValueError, match="540 overlapping loops"):
            slow.wait(ticks.append)
        np.testing.assert_array_equal(last.wait()[0][0], vertices)
        assert ticks and path is None
        assert pool._pool is not None  # the same processes go on
    finally:
        pool.stop()


def stuck(planes, loops_by_plane, waiting=None):
    """In the place of a surface that no time limit can interrupt: it takes none."""
    if loops_by_plane[1]:
        return np.zeros((1, 3)), np.zeros((1, 3), dtype=int)
    time.sleep(60)


def test_a_process_that_does_not_stop_is_ended(monkeypatch):
    monkeypatch.setattr(workers, "GRACE", 0.5)
    ticks = []
    pool = SurfaceWorkers(2, resolution=16, mesh_seconds=1.0)
    pool.build = stuck
    try:
        pool.start()
        pool._pool.submit(abs, 1).result()  # ready
        start = time.monotonic()
        shapes = [heap(30), SOUND, SOUND]
        stuck_one, *others = pool.put(PLANES, shapes)
        with pytest.raises(ValueError, match="30 overlapping loops on plane 0"):
            stuck_one.wait(ticks.append)
        assert time.monotonic() - start < 5 and len(ticks) == 1
        assert all(len(shape.wait()[0][0]) == 1 for shape in others)
    finally:
        pool.stop()


def test_progress_is_told_without_workers():
    ticks = []
    pool = SurfaceWorkers(1, mesh_seconds=2.5)
    (shape,) = pool.put(PLANES, [heap()])
    with pytest.raises(ValueError, match="540 overlapping"):
        shape.wait(ticks.append)
    assert ticks and 1 <= ticks[0] < 2.5
