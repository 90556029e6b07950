"""Samples made on a Dask cluster of two processes, one of which is killed midway."""

import os
import signal
import subprocess
import sys
import threading
import time

import distributed
import numpy as np
import pytest
from conftest import ROOT
from real_session import Session, published

from loopdraw.files import UserError
from loopdraw.model.latents import shape_generator
from loopdraw.prompt import cluster as cluster_module
from loopdraw.prompt.cluster import Cluster
from loopdraw.surface import outputs
from loopdraw.surface.outputs import NumberTaken, claimed_number, numbers_present

N, SEED = 10, 3


@pytest.fixture
def scheduler(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    monkeypatch.setattr(cluster_module, "CHUNK", 1)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def latents(folder):
    return {path.name: np.loadtxt(path) for path in folder.glob("*-latent.txt")}


def kill_one_worker(scheduler, folder, present):
    """Kill a worker as soon as some shapes are there; `present` gets the numbers at that time."""
    end = time.monotonic() + 60
    with distributed.Client(scheduler) as client:
        pids = client.run(os.getpid)
        while len(numbers_present(folder)) < 3 and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(min(pids.values()), signal.SIGKILL)
        present += numbers_present(folder)


def test_a_worker_killed_midway_loses_nothing_and_makes_nothing_twice(tmp_path, scheduler):
    words = [*published(tmp_path), "--reco_resolution", "8"]
    folder = tmp_path / "checkpoint" / "inference"
    folder.mkdir()
    (folder / "inference-5.obj").write_text("somebody's")
    on_cluster = Session(words)
    settings = vars(on_cluster.options)
    on_cluster.repl.runner.cluster = Cluster(scheduler, settings, folder)
    present = []
    killer = threading.Thread(target=kill_one_worker, args=(scheduler, folder, present))
    killer.start()
    said = on_cluster.do(f"submit sample {N} --save", "run all")
    killer.join()
    assert 3 <= len(present) < N  # it was midway
    assert f"0 to {N - 1} in {folder}: " in said and ", 0 failed" in said
    assert (folder / "inference-5.obj").read_text() == "somebody's"
    found = latents(folder)
    others = [number for number in range(N) if number != 5]
    assert found.keys() == {f"inference-{number}-latent.txt" for number in others}
    # They are what this prompt itself would have drawn, each from the generator of its number.
    prior = on_cluster.engine.model.prior
    for number in others:
        z = prior.draw(shape_generator(SEED, number), 1)[0]
        np.testing.assert_array_equal(found[f"inference-{number}-latent.txt"], z)
    visible = [path for path in folder.iterdir() if not path.name.startswith(".inference-")]
    assert len(visible) == 3 * (N - 1) + 1
    assert not list(folder.glob("*.claim"))
    assert not on_cluster.repl.queue
    # Again: everything is there.
    again = Session(words)
    again.repl.runner.cluster = Cluster(scheduler, settings, folder)
    times = {path: path.stat().st_mtime_ns for path in visible}
    assert f"0 made, {N} there already" in again.do(f"submit sample {N} --save", "run all")
    assert times == {path: path.stat().st_mtime_ns for path in visible}


def test_claims_to_a_number(tmp_path):
    with claimed_number(tmp_path, 7, "me") as stem:
        stem.with_name("inference-7-slices.npz").touch()
        assert numbers_present(tmp_path) == set()  # not yet
        with pytest.raises(NumberTaken, match="is being made"):
            with claimed_number(tmp_path, 7, "you"):
                pass
    assert numbers_present(tmp_path) == {7}
    with pytest.raises(NumberTaken, match="is there already"):
        with claimed_number(tmp_path, 7, "me"):
            pass
    # One of a worker that was killed on another machine: the same run takes it up, and after a
    # while any other one.
    left = tmp_path / ".inference-8.claim"
    for owner, age in (("me", 0), ("you", 3600)):
        left.write_text("of.another.machine me")
        os.utime(left, 2 * (time.time() - age,))
        with claimed_number(tmp_path, 8, owner) as stem:
            assert stem.name == "inference-8"


KILLED = """
import os, signal, sys
from pathlib import Path
from loopdraw.surface.outputs import claimed_stem
with claimed_stem(Path(sys.argv[1])) as stem:
    for ending in sys.argv[2:]:
        stem.with_name(stem.name + ending).write_text("whole")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("written", [[], ["-slices.npz"], ["-slices.npz", ".obj"]])
def test_a_claim_of_a_killed_local_program(tmp_path, written):
    """It blocks no number; but a shape that was finished is neither lost nor made twice."""
    subprocess.run([sys.executable, "-c", KILLED, tmp_path, *written], cwd=ROOT, check=False)
    assert (tmp_path / ".inference-0.claim").exists()
    if ".obj" in written:
        with pytest.raises(NumberTaken, match="is there already"):
            with claimed_number(tmp_path, 0, "me"):
                pass
        assert numbers_present(tmp_path) == {0}
    else:
        with claimed_number(tmp_path, 0, "me") as stem:
            assert numbers_present(tmp_path) == set()
            with pytest.raises(NumberTaken, match="is being made"):
                with claimed_number(tmp_path, 0, "you"):
                    pass
            stem.with_name("inference-0.obj").touch()
        assert numbers_present(tmp_path) == {0}
    assert not list(tmp_path.glob(".*"))


def test_only_one_of_many_takes_up_a_claim(tmp_path):
    for number in range(20):
        (tmp_path / f".inference-{number}.claim").write_text("of.another.machine me")
        os.utime(tmp_path / f".inference-{number}.claim", (0, 0))
    together, taken = threading.Barrier(4), []

    def take(owner):
        for number in range(20):
            together.wait()
            try:
                with claimed_number(tmp_path, number, owner) as stem:
                    taken.append(number)
                    stem.with_name(f"inference-{number}.obj").touch()
            except NumberTaken:
                pass

    threads = [threading.Thread(target=take, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(20))


def test_claims_are_touched_as_long_as_they_are_held(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "TOUCH_SECONDS", 0.02)
    monkeypatch.setattr(outputs, "_toucher", None)
    claim = tmp_path / ".inference-7.claim"
    with claimed_number(tmp_path, 7, "me"):
        os.utime(claim, (0, 0))
        end = time.monotonic() + 5
        while claim.stat().st_mtime == 0 and time.monotonic() < end:
            time.sleep(0.01)
        assert claim.stat().st_mtime > 0
    assert not claim.exists()


def test_no_cluster_there(tmp_path, monkeypatch):
    monkeypatch.setattr("loopdraw.data.slicing_run.CONNECTION_SECONDS", 1)
    folder = tmp_path / "inference"
    samples = Cluster("tcp://127.0.0.1:9", {"save_dir": tmp_path}, folder).sample
    with pytest.raises(UserError, match="no scheduler answers"):
        list(samples(cluster_module.Sample(text="sample"), 0, 0, 3))
