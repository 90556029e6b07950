"""Meshes as they come become a dataset folder: `python -m loopdraw.data.prepare`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed
import numpy as np
import pytest
import trimesh
from conftest import ROOT
from PIL import Image

import loopdraw
from loopdraw.data.build import build_or_load_cache
from loopdraw.data.cache import read_planespec
from loopdraw.data.prepare import journal, run
from loopdraw.data.prepare.__main__ import parse_arguments
from loopdraw.data.prepare.one_mesh import n_open_edges, surface_moments
from loopdraw.files import UserError
from loopdraw.loops.mesh_files import load_mesh, turn_upright


def vase(seed, points=24):
    """A closed mesh that stands along z, off the origin, and is like no other seed's."""
    generator = np.random.default_rng(seed)
    radii = 1 + 0.3 * np.cumsum(generator.normal(size=8)) / 8
    outline = [[0, 0], *zip(abs(radii), np.linspace(0, 4, 8), strict=True), [0, 4]]
    mesh = trimesh.creation.revolve(np.array(outline), sections=points)
    mesh.apply_translation([5, -3, 40])
    return mesh


@pytest.fixture
def source(tmp_path):
    """A folder of meshes, good and bad, in several formats, along z."""
    folder = tmp_path / "raw"
    (folder / "more" / "deep").mkdir(parents=True)
    for i, name in enumerate(["a.obj", "b.STL", "c.ply", "more/d.glb", "more/deep/e.off"]):
        vase(i).export(folder / name, file_type=name[-3:].lower())
    foot = trimesh.creation.box([3, 3, 1])
    foot.apply_translation([5, -3, 40])
    scene = trimesh.Scene([vase(5), foot])
    scene.export(folder / "scene.glb")
    copy = vase(2)
    copy.apply_scale(30)  # in another unit, format and order
    copy.update_faces(np.arange(len(copy.faces))[::-1])
    copy.export(folder / "z-copy-of-c.stl")
    opened = vase(6)
    opened.update_faces(np.arange(len(opened.faces)) > 5)
    opened.export(folder / "open.ply")
    (folder / "empty.obj").write_text("")
    (folder / "points.obj").write_text("v 0 0 0\n")
    (folder / "damaged.glb").write_bytes(b"glTF, but not really")
    (folder / "flat.obj").write_text("v 0 0 1\nv 1 0 1\nv 0 1 1\nf 1 2 3\n")
    (folder / "huge.obj").write_text("v 0 0 -1e308\nv 1 0 1e308\nv 0 1e308 1\nf 1 2 3\n")
    (folder / "one-point.obj").write_text("v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n")
    (folder / "readme.txt").write_text("about these")
    (folder / "texture.png").write_bytes(b"")
    return folder


@pytest.fixture
def few(tmp_path):
    """A folder of five good meshes and a bad one."""
    (tmp_path / "few").mkdir()
    for i in range(5):
        vase(i).export(tmp_path / "few" / f"{i}.ply")
    (tmp_path / "few" / "empty.obj").write_text("")
    return tmp_path / "few"


def prepare(source, folder, **settings):
    settings = {"up": "z", "planes": 8, "test": 0.25, "num_workers": 1} | settings
    return loopdraw.prepare(source, folder, **settings)


def contents(folder):
    """What the dataset holds, without the report, which tells the time."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "report.txt"
    }


def test_the_whole_folder(source, tmp_path):
    folder = tmp_path / "chairs"
    prepared = prepare(source, folder, size="axis")
    assert [str(path) for path in prepared.names.values()] == [
        *("a.obj", "b.obj", "c.obj", "more/d.obj", "more/deep/e.obj", "open.obj", "scene.obj")
    ]
    assert "z-copy-of-c.stl: the same as c.ply" in str(prepared)
    assert "    1: the same as another one" in str(prepared)
    reasons = {Path(path).name: reason for path, reason in prepared.left_out.items()}
    for name, reason in {
        "empty.obj": "the file is empty",
        "points.obj": "vertices but no faces",
        "damaged.glb": "cannot be read as a mesh",
        "flat.obj": "it is flat: it has no height along y",
        "huge.obj": "too large",
        "one-point.obj": "all its corners are at one point",
        "z-copy-of-c.stl": "the same as c.ply",
    }.items():
        assert reason in reasons.pop(name)
    assert not reasons
    assert len(list((folder / "test").glob("**/*.obj"))) == 2
    assert len(list((folder / "train").glob("**/*.obj"))) == 5

    for path in prepared.meshes:
        vertices, faces = load_mesh(folder / prepared.place(path))
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        assert np.allclose(low, -high) and high[1] - low[1] == pytest.approx(1)
        if not path.endswith("open.ply"):  # still facing outwards
            assert trimesh.Trimesh(vertices, faces).volume > 0
    report = (folder / "report.txt").read_text()
    assert report == f"{prepared}\n"
    for line in ("7 meshes, 5 in train/ and 2 in test/", "left out: 7 of 14", "1 .png, 1 .txt"):
        assert line in report
    assert "open meshes: 1;" in report and "planes that missed" not in report
    assert len((folder / "left_out.txt").read_text().splitlines()) == 7
    assert Image.open(folder / "contact-sheet.png").size[0] > 500
    assert not list(tmp_path.glob(".*"))

    # It says of the loops what slicing then finds.
    n_loops = {}
    for split in ("train", "test"):
        assert np.allclose(read_planespec(folder / split)[[0, -1], 1, 1], [-0.4375, 0.4375])
        cached = build_or_load_cache(folder / split, "fixed-res-polyline", num_workers=1)
        for name, length in zip(cached.filenames, cached.lengths, strict=True):
            n_loops[Path(name).relative_to(folder)] = length
    for path, (_, cut) in prepared.meshes.items():
        assert cut.n_loops == n_loops[prepared.place(path)]


def test_planes_fit_the_tallest_and_the_longest_side_is_1(tmp_path):
    (tmp_path / "raw").mkdir()
    for i, sides in enumerate([(4, 2, 1), (4, 1, 3), (5, 0.4, 1), (4, 0.01, 4)]):
        trimesh.creation.box(sides).export(tmp_path / "raw" / f"{i}.ply")
    prepared = prepare(tmp_path / "raw", tmp_path / "out", up=None, planes=10, test=0)
    assert prepared.planespec == ("y", 10, -0.225, 0.225)  # of a height of 0.5
    assert not (tmp_path / "out" / "test").exists()
    assert sorted(cut.n_missed for _, cut in prepared.meshes.values()) == [0, 4, 8]
    assert "planes are 0.05 apart" in prepared.left_out[str(tmp_path / "raw" / "3.ply")]
    assert "planes that missed: 12 in 2 meshes; --size axis" in str(prepared)


def test_thin_parts_between_planes(tmp_path):
    """A table whose board is thinner than the space between planes, and a ball on a box."""
    (tmp_path / "raw").mkdir()
    legs = [trimesh.creation.box([0.1, 0.7, 0.1]) for _ in range(2)]
    for leg, x in zip(legs, (-0.4, 0.4), strict=True):
        leg.apply_translation([x, -0.15, 0])
    board = trimesh.creation.box([0.9, 0.04, 0.9])
    board.apply_translation([0, 0.22, 0])
    lamp = trimesh.creation.box([0.2, 1.0, 0.2])
    trimesh.util.concatenate([*legs, board, lamp]).export(tmp_path / "raw" / "table.obj")
    trimesh.creation.capsule(2, 0.5).export(tmp_path / "raw" / "round.ply")
    prepared = prepare(tmp_path / "raw", tmp_path / "out", up=None, planes=8, size="axis")
    thin = {Path(path).name: cut.n_thin for path, (_, cut) in prepared.meshes.items()}
    assert thin == {"table.obj": 1, "round.ply": 0}
    assert "thin parts that lie between two planes, and are lost: in 1 meshes" in str(prepared)


def test_outliers_and_max_loops(tmp_path):
    (tmp_path / "raw").mkdir()
    for i in range(4):
        vase(i).export(tmp_path / "raw" / f"{i}.ply")
    many = [vase(9, 5) for _ in range(5)]
    for i, part in enumerate(many):
        part.apply_translation([4 * i, 0, 0])
    trimesh.util.concatenate(many).export(tmp_path / "raw" / "many.ply")
    settings = {"test": 0, "size": "axis"}
    prepared = prepare(tmp_path / "raw", tmp_path / "out", **settings)
    assert "outliers: 1 with many more loops than the others; --max_loops 8" in str(prepared)
    prepared = prepare(tmp_path / "raw", tmp_path / "fewer", max_loops=8, **settings)
    assert [Path(path).name for path in prepared.left_out] == ["many.ply"]
    assert "40 loops, more than --max_loops 8" in str(list(prepared.left_out.values()))


def test_the_split_has_a_seed_and_stays_when_meshes_come(tmp_path):
    paths = [f"/raw/{i}.obj" for i in range(100)]
    tests = run.choose_tests(paths, Path("/raw"), 0.2, 0)
    assert len(tests) == 20 and tests == run.choose_tests(paths[::-1], Path("/raw"), 0.2, 0)
    assert tests != run.choose_tests(paths, Path("/raw"), 0.2, 1)
    more = run.choose_tests([*paths, "/raw/new.obj"], Path("/raw"), 0.2, 0)
    assert len(tests & more) >= 19
    assert len(run.choose_tests(paths[:2], Path("/raw"), 0.01, 0)) == 1
    assert not run.choose_tests(paths[:1], Path("/raw"), 0.5, 0)


def test_names_do_not_collide():
    paths = [f"/raw/{name}" for name in ("A.obj", "a.glb", "a.stl", "a-glb.obj", "b/a.ply")]
    names = [str(name) for name in run.choose_names(paths, Path("/raw")).values()]
    assert names == ["A.obj", "a-glb.obj", "a-stl.obj", "a-glb-2.obj", "b/a.obj"]


@pytest.mark.parametrize("up", ["x", "y", "z", "-x", "-y", "-z"])
@pytest.mark.parametrize("axis", "xyz")
def test_turning_upright(up, axis):
    turned = turn_upright(np.eye(3), up, axis)  # where each axis goes
    sign = -1 if up[0] == "-" else 1
    assert (sign * turned["xyz".index(up[-1])] == np.eye(3)["xyz".index(axis)]).all()
    assert np.linalg.det(turned) == pytest.approx(1) and np.allclose(turned @ turned.T, np.eye(3))


def test_moments_know_a_shape_however_it_is_cut_into_triangles():
    box = trimesh.creation.box([1, 0.5, 0.3])
    box.apply_translation([0.1, 0.2, 0.3])
    moments = surface_moments(box.vertices, box.faces)
    finer = box.subdivide().subdivide()
    assert np.abs(moments - surface_moments(finer.vertices, finer.faces)).max() < 1e-12
    mean = box.triangles_center.T @ box.area_faces / box.area
    assert np.allclose(moments[:4], [np.log(box.area), *mean])
    other = trimesh.creation.box([1, 0.5, 0.3001])
    assert np.abs(moments - surface_moments(other.vertices, other.faces)).max() > run.ALIKE
    assert n_open_edges(box.faces) == 0 and n_open_edges(box.faces[1:]) == 3


# --- going on


def test_in_parallel_is_the_same(few, tmp_path):
    prepare(few, tmp_path / "one")
    prepare(few, tmp_path / "two", num_workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("function", ["read_one", "cut_one", "write_reports"])
def test_ctrl_c_and_on(few, tmp_path, monkeypatch, function):
    prepare(few, tmp_path / "expected")
    calls = []

    original = getattr(run, function)

    def stopped(path, task):
        if len(calls) == 3 or function == "write_reports":
            raise KeyboardInterrupt
        calls.append(path)
        return original(path, task)

    with monkeypatch.context() as patch:
        patch.setattr(run, function, stopped)
        with pytest.raises(KeyboardInterrupt):
            prepare(few, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    again = []

    def counted(path, task, original=run.read_one):
        again.append(path)
        return original(path, task)

    monkeypatch.setattr(run, "read_one", counted)
    prepare(few, tmp_path / "out")
    assert not set(calls) & set(again)
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert not list(tmp_path.glob(".*"))


SLOW_RUN = """
import sys, time
sys.path.insert(0, {root!r})
from loopdraw.data.prepare import run
original = run.{function}
def slow(path, task):
    time.sleep(0.1)
    return original(path, task)
run.{function} = slow
run.prepare({source!r}, {folder!r}, up="z", planes=8, test=0.25, num_workers=1)
"""


@pytest.mark.parametrize(
    "function, journal_file", [("read_one", "read.txt"), ("cut_one", "cut.txt")]
)
def test_kill_9_and_on(few, tmp_path, function, journal_file):
    prepare(few, tmp_path / "expected")
    settings = {"source": str(few), "folder": str(tmp_path / "out"), "function": function}
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN.format(root=str(ROOT), **settings)],
        stderr=subprocess.DEVNULL,
    )
    done = tmp_path / ".out-unfinished" / journal_file
    for _ in range(10_000):
        if done.exists() and len(done.read_text().splitlines()) > 3:
            break
        time.sleep(0.003)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with open(done, "a") as file:
        file.write('["/cut/short.obj", [1')
    prepare(few, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


def test_what_has_changed_is_read_again(tmp_path):
    path, settings = tmp_path / "journal.txt", {"axis": "y"}
    mesh = tmp_path / "a.obj"
    mesh.write_text("v")
    first = journal.Journal(path, run.CutMesh, settings)
    first.add(str(mesh), run.CutMesh(None, 3), journal.stamps([str(mesh)])[str(mesh)])
    first.close()
    assert journal.Journal(path, run.CutMesh, settings).has(str(mesh))
    mesh.write_text("v 0 0 0")
    assert not journal.Journal(path, run.CutMesh, settings).has(str(mesh))
    assert not journal.Journal(path, run.CutMesh, {"axis": "z"}).results


def test_on_a_dask_cluster(few, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    prepare(few, tmp_path / "expected")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        prepare(few, tmp_path / "out", dask_scheduler=cluster.scheduler_address)
        with distributed.Client(cluster.scheduler_address) as client:
            probe = "loopdraw.data.prepare.one_mesh"
            assert all(client.run(lambda: probe in sys.modules).values())
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


# --- mistakes


def test_a_mesh_that_takes_too_long(source, tmp_path, monkeypatch):
    os.mkfifo(source / "never.obj")
    prepared = prepare(source, tmp_path / "out", mesh_timeout=1.0)
    assert "took longer than 1 s" in prepared.left_out[str(source / "never.obj")]


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"axis": "w"}, "axis 'w' is none of x, y, z"),
        ({"up": "north"}, "up 'north' is none of"),
        ({"size": "tall"}, "size 'tall'"),
        ({"planes": 1}, "1 planes"),
        ({"test": 1.0}, "test 1.0 is no share"),
        ({"max_loops": 1, "size": "axis"}, "none of its 14 meshes can be used"),
    ],
)
def test_wrong_values(source, tmp_path, settings, words):
    with pytest.raises(UserError, match=words):
        prepare(source, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_wrong_folders(source, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="is there already"):
        prepare(source, tmp_path / "full")
    with pytest.raises(UserError, match="lies within"):
        prepare(source, source / "out")
    with pytest.raises(UserError, match="no such folder"):
        prepare(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "notes.txt").write_text("")
    with pytest.raises(
        UserError, match=r"no meshes there, only 1 \.txt; what can be read is .*\.obj"
    ):
        prepare(tmp_path / "bare", tmp_path / "out")


def test_a_full_disk_ends_the_run_and_leaves_out_nothing(source, tmp_path, monkeypatch):
    from loopdraw.data.prepare import one_mesh

    def full(path, vertices, faces):
        raise UserError(f"{path}: cannot be written (No space left on device); free some space")

    monkeypatch.setattr(one_mesh, "save_mesh", full)
    with pytest.raises(UserError, match="No space left"):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line():
    arguments = parse_arguments(["in", "out", "--up=-z", "--max_loops", "50"])
    assert (arguments.up, arguments.max_loops, arguments.axis) == ("-z", 50, "y")
    with pytest.raises(UserError, match="--axis"):
        parse_arguments(["in", "out", "--axis", "w"])
