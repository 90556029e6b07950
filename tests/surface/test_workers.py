"""Shapes on their way through the workers to files, with threads in the place of processes."""

import functools
import os
import struct
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from loopdraw.surface.outputs import Saving, claimed_stem
from loopdraw.surface.workers import LatestSurface, SurfaceWorkers

MESH = np.eye(3), np.array([[0, 1, 2]])


def write(stem, mesh, loops):
    path = stem.with_name(stem.name + ".obj")
    path.write_text(f"{loops} {len(mesh[0])}")
    return path


def build(planes, loops, waiting=None):
    if loops == "bad":
        raise ValueError("no surface")
    return MESH


@pytest.fixture
def workers():
    workers = SurfaceWorkers(2)
    workers._pool = ThreadPoolExecutor(2)
    workers._pool._processes = {}
    workers._ready = workers._pool.submit(os.getpid)
    workers.build = build
    yield workers
    workers.stop()


def put(workers, folder, shapes):
    claim = functools.partial(claimed_stem, folder)
    savings = [Saving(claim, functools.partial(write, loops=loops)) for loops in shapes]
    return workers.put(None, shapes, savings)


def written(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_files_are_named_in_the_order_of_the_shapes(workers, tmp_path):
    pending = put(workers, tmp_path, ["a", "bad", *range(20)])
    with pytest.raises(ValueError, match="no surface"):
        pending[1].wait()
    for shape in (*pending[2:], pending[0]):
        assert shape.wait()[1].is_file() and shape.is_saved()
    expected = dict(enumerate(["a", *range(20)]))  # a shape without a surface takes no name
    assert written(tmp_path) == {f"inference-{i}.obj": f"{mark} 3" for i, mark in expected.items()}


def test_what_is_stopped_is_whole_or_not_there(workers, tmp_path):
    going = threading.Event()
    workers.build = lambda planes, loops: going.wait() and MESH
    pending = put(workers, tmp_path, range(6))
    for shape in pending[2:]:
        shape.stop()
    going.set()
    assert [shape.wait()[1].name for shape in pending[:2]] == ["inference-0.obj", "inference-1.obj"]
    for shape in pending[2:]:
        assert not shape.is_saved()
        with pytest.raises(CancelledError):
            shape.wait()
    assert set(written(tmp_path)) == {"inference-0.obj", "inference-1.obj"}  # nor a claim


@pytest.mark.parametrize("when", ["surface", "files"])
def test_a_worker_that_dies_loses_nothing(workers, tmp_path, when, monkeypatch):
    """What is left is done by the process itself, under the name that was claimed for it."""
    broken, submit = Future(), workers._pool.submit
    broken.set_exception(BrokenProcessPool())

    def dies(function, *arguments, **more):
        if (function is build) == (when == "surface"):
            return broken
        return submit(function, *arguments, **more)

    monkeypatch.setattr(workers._pool, "submit", dies)
    pending = put(workers, tmp_path, "abcd")
    assert [shape.wait()[1].name for shape in pending] == [f"inference-{i}.obj" for i in range(4)]
    assert set(written(tmp_path).values()) == {"a 3", "b 3", "c 3", "d 3"}
    assert len(written(tmp_path)) == 4


def test_a_process_killed_in_the_midst_of_an_answer_keeps_nobody_waiting():
    with LatestSurface() as surfaces:
        pool = surfaces._pool
        pool.submit(os.getpid).result()
        # The first bytes of an answer, as if the process were writing the rest.
        os.write(pool._result_queue._writer.fileno(), struct.pack("!i", 100) + b"x")
        thread = pool._executor_manager_thread
    thread.join(10)  # the program waits for it when it ends
    assert not thread.is_alive()
