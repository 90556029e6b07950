"""Slicing on a Dask scheduler with two workers, all real processes on loopback."""

import socketserver
import sys
import threading
from pathlib import Path

import distributed
import pytest
import trimesh
from conftest import ROOT

from loopdraw.data import slicing_run
from loopdraw.data.build import build_or_load_cache
from loopdraw.data.dataset import load_caches
from loopdraw.files import UserError
from loopdraw.options import options_for, parse_options


def make_folder(root):
    folder = root / "train"
    folder.mkdir(parents=True)
    (folder / "planespec.txt").write_text("y\n8\n-0.4\n0.4\n")
    for i in range(12):
        trimesh.creation.icosphere(2, 0.3 + 0.02 * i).export(folder / f"shape_{i:02}.obj")
    (folder / "shape_05.obj").write_text("v 0 0 0\nf 1 2 3\n")
    return folder


@pytest.fixture
def scheduler(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def test_same_arrays_as_on_one_machine(tmp_path, scheduler):
    settings = {"report": lambda line: None}
    one, other = make_folder(tmp_path / "one"), make_folder(tmp_path / "other")
    expected = build_or_load_cache(one, "fixed-res-polyline", num_workers=1, **settings)
    cached = build_or_load_cache(
        other, "fixed-res-polyline", dask_scheduler=scheduler, mesh_timeout=60, **settings
    )
    assert cached.sequences.tobytes() == expected.sequences.tobytes()
    assert [Path(name).name for name in cached.filenames] == [
        Path(name).name for name in expected.filenames
    ]
    assert len(cached.filenames) == 11
    # It was the workers that sliced: they have loaded the module for it.
    with distributed.Client(scheduler) as client:
        assert all(client.run(lambda: "loopdraw.data.slicing_run" in sys.modules).values())


def test_no_workers_there(tmp_path, monkeypatch):
    folder = make_folder(tmp_path)
    monkeypatch.setattr(slicing_run, "CONNECTION_SECONDS", 1)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        with pytest.raises(UserError, match="no workers"):
            build_or_load_cache(
                folder, "fixed-res-polyline", dask_scheduler=cluster.scheduler_address
            )


def test_a_server_of_another_kind(tmp_path, monkeypatch):
    """Dask takes its first bytes for lengths, and asks for that much memory."""
    folder = make_folder(tmp_path)
    server = socketserver.TCPServer(("127.0.0.1", 0), Greeter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(slicing_run, "CONNECTION_SECONDS", 3)
    address = f"tcp://127.0.0.1:{server.server_address[1]}"
    try:
        with pytest.raises(UserError, match="no scheduler answers"):
            build_or_load_cache(folder, "fixed-res-polyline", dask_scheduler=address)
    finally:
        server.shutdown()
        server.server_close()


class Greeter(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n" * 10)


def test_no_scheduler_there(tmp_path, monkeypatch):
    folder = make_folder(tmp_path)
    monkeypatch.setattr(slicing_run, "CONNECTION_SECONDS", 1)
    words = ["--dataroot", str(folder.parent), "--dask_scheduler", "tcp://127.0.0.1:9"]
    with pytest.raises(UserError, match="no scheduler answers"):
        load_caches(**options_for(load_caches, parse_options(words)))
