"""The demo datasets: sound meshes, sound slices, the same for the same seed."""

import subprocess
import sys

import numpy as np
import pytest
import trimesh
from conftest import ROOT

from loopdraw.demo import dataset as demo
from loopdraw.demo.solids import padded_box, solid_from_rings
from loopdraw.files import UserError
from loopdraw.loops.geometry import make_planes, parse_planespec
from loopdraw.loops.mesh_files import load_mesh
from loopdraw.loops.slicing import slice_mesh

N_TRAIN, N_TEST = 7, 2


@pytest.fixture(scope="module", params=demo.FAMILIES)
def dataset(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "new" / request.param
    demo.make_dataset(request.param, folder, N_TRAIN, N_TEST, seed=3)
    return request.param, folder


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_the_folder_holds_both_splits_and_nothing_else(dataset):
    family, folder = dataset
    names = {str(name) for name in files_of(folder)}
    shape = family[:-1]
    assert names == (
        {f"train/{shape}-{k:04d}.obj" for k in range(N_TRAIN)}
        | {f"test/{shape}-{k:04d}.obj" for k in range(N_TEST)}
        | {"train/planespec.txt", "test/planespec.txt"}
    )
    assert [path.name for path in folder.parent.iterdir()] == [family]  # nothing left aside


def test_every_mesh_is_one_closed_oriented_centred_solid(dataset):
    family, folder = dataset
    axis = {"vases": 1, "sofas": 0}[family]
    for path in folder.rglob("*.obj"):
        mesh = trimesh.load(path)
        assert mesh.is_watertight and mesh.is_winding_consistent, path
        assert mesh.body_count == 1 and mesh.volume > 0, path
        low, high = mesh.bounds
        assert np.abs(low + high).max() < 2e-6, path  # six decimals
        assert abs((high - low)[axis] - 1) < 2e-6 and (high - low).max() < 1 + 2e-6, path
        assert 1000 < len(mesh.faces) < 13000, path


def test_every_plane_meets_every_mesh_in_a_few_clear_loops(dataset):
    _, folder = dataset
    axis, n_planes, low, high = parse_planespec((folder / "train/planespec.txt").read_text())
    assert (folder / "test/planespec.txt").read_text() == f"{axis}\n{n_planes}\n{low}\n{high}\n"
    assert low <= -0.49 and high >= 0.49 and n_planes == 32
    planes = make_planes(axis, n_planes, low, high)
    for path in folder.rglob("*.obj"):
        sliced = slice_mesh(*load_mesh(path), planes)
        counts = [len(loops) for loops in sliced.loops_by_plane]
        assert min(counts) >= 1 and max(counts) <= 8 and sum(counts) <= 96, path
        assert (sliced.n_bridged, sliced.n_closed, sliced.n_slivers) == (0, 0, 0), path


def test_vases_are_hollow_and_open_at_the_top():
    for index in range(6):
        vertices, faces = demo.make_shape("vases", 1, "train", index)
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        # Walls, foot and handles take up far less room than a full vase would.
        assert mesh.volume < 0.75 * mesh.convex_hull.volume
        planes = make_planes("y", 9, -0.2, 0.2)
        counts = [len(loops) for loops in slice_mesh(vertices, faces, planes).loops_by_plane]
        assert np.median(counts) >= 2
        # One surface with as many tunnels as handles: no closed hollow, no touching parts.
        assert mesh.body_count == 1 and 0 <= 1 - mesh.euler_number / 2 <= 3


def test_the_family_is_varied():
    tunnels, widths = set(), []
    for index in range(12):
        vertices, faces = demo.make_shape("vases", 0, "train", index)
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        tunnels.add(1 - mesh.euler_number // 2)
        widths.append(np.ptp(vertices[:, [0, 2]], axis=0).max())
    assert len(tunnels) >= 3
    assert max(widths) > 1.5 * min(widths)


@pytest.mark.parametrize("family", demo.FAMILIES)
def test_same_seed_same_meshes_whatever_the_workers_and_the_size(family, tmp_path):
    demo.make_dataset(family, tmp_path / "one", 3, 1, seed=5, num_workers=1)
    demo.make_dataset(family, tmp_path / "two", 4, 0, seed=5, num_workers=2)
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    train = [name for name in one if name.parts[0] == "train"]
    assert len(train) == 4 and all(one[name] == two[name] for name in train)
    assert not (tmp_path / "two/test").exists()


def test_seeds_splits_and_numbers_make_different_shapes():
    shapes = [
        demo.make_shape("sofas", *key)[0]
        for key in [(0, "train", 0), (1, "train", 0), (0, "test", 0), (0, "train", 1)]
    ]
    for k, shape in enumerate(shapes):
        for other in shapes[:k]:
            assert shape.shape != other.shape or np.abs(shape - other).max() > 0.01


def test_nothing_is_overwritten(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    demo.make_dataset("sofas", folder, 1, 0, seed=0)  # an empty folder is as good as none
    before = files_of(folder)
    with pytest.raises(UserError, match="mine: is there already.*remove"):
        demo.make_dataset("sofas", folder, 1, 0, seed=1)
    assert files_of(folder) == before
    (tmp_path / "file").write_text("a file")
    with pytest.raises(UserError, match="is there already"):
        demo.make_dataset("sofas", tmp_path / "file", 1, 0, seed=0)
    with pytest.raises(UserError, match="below: cannot be written"):
        demo.make_dataset("sofas", tmp_path / "file" / "below", 1, 0, seed=0)


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    made = []

    def interrupted(*key):
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(key)
        return np.zeros((3, 3)), np.zeros((1, 3), int)

    monkeypatch.setattr(demo, "make_shape", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.make_dataset("vases", tmp_path / "demo", 3, 0, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_solidity_is_judged_on_the_rounded_mesh():
    box = trimesh.creation.box()
    vertices, faces = np.array(box.vertices), np.array(box.faces)
    assert demo.is_one_solid(vertices, faces)
    assert not demo.is_one_solid(vertices, faces[1:])  # open
    assert not demo.is_one_solid(vertices, faces[:, ::-1])  # inside out
    two = np.concatenate([vertices, vertices + 3]), np.concatenate([faces, faces + 8])
    assert not demo.is_one_solid(*two)
    doubled = np.concatenate([vertices, vertices[:1]])
    assert not demo.is_one_solid(doubled, np.where(faces == 0, 8, faces))
    flat = vertices * [1, 1, 1e-12]
    assert not demo.is_one_solid(flat, faces)


def test_building_blocks_have_the_volume_they_should():
    assert padded_box((0, 0, 0), (1, 2, 3), 0.001).volume() == pytest.approx(6, rel=0.01)
    rounded = padded_box((0, 0, 0), (1, 1, 1), 0.2, n_inner=5).volume()
    swollen = padded_box((0, 0, 0), (1, 1, 1), 0.2, 0.1, n_inner=5).volume()
    assert 0.8 < rounded < 1 and 0.05 < swollen - rounded < 0.1
    angles = 2 * np.pi * np.arange(90) / 90
    ring = np.stack([np.cos(angles), 0 * angles, np.sin(angles)], axis=1)
    cylinder = solid_from_rings(np.stack([ring, ring + [0, 1, 0], ring + [0, 2, 0]]))
    assert cylinder.volume() == pytest.approx(2 * np.pi, rel=0.01)


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["chairs", "x"], "chairs"),
        (["vases"], "folder"),
        (["vases", "x", "--n_train", "0"], "0 is out of range: at least 1"),
        (["vases", "x", "--n_test", "few"], "'few' is not a whole number"),
        (["vases", "x", "--sed", "1"], "--sed"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, reason):
    with pytest.raises(UserError, match=reason) as caught:
        demo.parse_arguments(arguments)
    assert "\n" not in str(caught.value)


def run(*arguments, cwd):
    command = [sys.executable, "-m", "loopdraw.demo.dataset", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_as_a_command(tmp_path):
    done = run("sofas", "out/demo", "--n_train", 3, "--n_test", 1, "--num_workers", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "out/demo: 3 train, 0 validation and 1 test sofas" in done.stdout
    assert "4/4" in done.stderr  # the progress bar
    assert len(list((tmp_path / "out/demo").rglob("*.obj"))) == 4
    again = run("sofas", "out/demo", "--n_train", 3, cwd=tmp_path)
    assert again.returncode == 2 and again.stdout == ""
    assert again.stderr.startswith("error: out/demo: is there already")
    assert again.stderr.count("\n") == 1


def test_help_loads_nothing_heavy():
    code = (
        "import sys, loopdraw.demo.dataset as d\n"
        "try: d.parse_arguments(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'scipy', 'manifold3d', 'joblib', 'tqdm', 'trimesh', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for option in ("--n_train", "--n_test", "--seed", "--num_workers"):
        assert option in done.stdout
