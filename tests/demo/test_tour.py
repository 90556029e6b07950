"""The tour of `make demo`, the trained model of the repository, and the documents about it."""

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh
from conftest import ROOT
from PIL import Image

import loopdraw
from loopdraw.data.dataset import DatasetInfo
from loopdraw.demo import tour
from loopdraw.editing.edit_files import check_edits, load_edits
from loopdraw.editing.editor import LoopEditor
from loopdraw.evaluation.evaluate import format_table
from loopdraw.loops.geometry import make_planes
from loopdraw.loops.representations import sequence_to_loops
from loopdraw.model.prior import NormalPrior
from loopdraw.model.vae import LoopSeqEncoderDecoderModel
from loopdraw.options import options_for, parse_options
from loopdraw.surface.reconstruction import reconstruct_mesh

FOLDER = ROOT / tour.CHECKPOINT
OPTFILE = "demo-vases-optfile.txt"
MOST_BYTES = 8e6  # of a model


@pytest.fixture(scope="module")
def options():
    options = parse_options(["--optfile", str(ROOT / OPTFILE)])
    options.save_dir = str(ROOT / options.save_dir)
    return options


@pytest.fixture(scope="module")
def model(options):
    info = DatasetInfo.load(options.save_dir, options.loop_repr_type)
    model = LoopSeqEncoderDecoderModel(
        info, "cpu", **options_for(LoopSeqEncoderDecoderModel, options)
    )
    model.load(options.save_dir, -1)
    return model


@pytest.mark.parametrize("folder", [tour.CHECKPOINT, tour.SOFAS])
def test_what_is_in_the_repository(folder):
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {line.rsplit("/", 1)[1] for line in listed.stdout.split()}
    nets = {"enclatest_net.pth", "declatest_net.pth"}
    assert names == nets | {
        *("dataset_info.npz", "prior.npz", "loss_log.txt", "test_log.txt", "opt.txt"),
        *("evaluation.json", "evaluation.png", "samples-48.png"),
    }
    sizes = {name: (ROOT / folder / name).stat().st_size for name in names}
    assert sum(size for name, size in sizes.items() if not name.endswith(".png")) < MOST_BYTES
    pictures = list((ROOT / "docs/images").iterdir())
    # Two of them move, an edit and a drag in the browser, and take half of it.
    assert sum(path.stat().st_size for path in pictures) < 2.75e6


def test_it_was_trained_with_the_optfile(options):
    trained = vars(parse_options(["--optfile", str(FOLDER / "opt.txt")]))
    given = vars(options) | {"save_dir": trained["save_dir"], "optfile": trained["optfile"]}
    assert trained == given
    epochs = [int(line.split(",")[0]) for line in (FOLDER / "loss_log.txt").open()]
    assert epochs == list(range(options.niter + options.niter_decay + 1))


@pytest.mark.parametrize("name", ["demo-vases", "demo-sofas"])
def test_models_that_plan(name):
    """They load, know their prior and their options, and most of what they make is one solid."""
    folder = ROOT / "checkpoints" / name
    optfile, trained = (
        vars(parse_options(["--optfile", str(path)]))
        for path in (ROOT / f"{name}-optfile.txt", folder / "opt.txt")
    )
    assert trained == optfile | {"optfile": trained["optfile"]}
    model = loopdraw.load(folder)
    meshes = [shape.mesh for shape in model.sample(4, seed=1)]
    assert not isinstance(model.network.prior, NormalPrior)
    assert all(mesh.is_watertight for mesh in meshes)
    assert sum(mesh.body_count == 1 for mesh in meshes) >= 3


def test_the_documents_have_its_figures():
    numbers = json.loads((FOLDER / "evaluation.json").read_text())
    table = "\n".join(line.rstrip() for line in format_table(numbers).splitlines())
    assert table in (ROOT / "docs/demo.md").read_text()


def test_it_makes_closed_vases(model):
    info = model.info
    sequences = model.decode(np.random.default_rng(0).normal(size=(6, model.latent_size)))
    for sequence in sequences:
        loops = sequence_to_loops(sequence, info.n_planes, info.representation, info.use_eos_token)
        assert sum(map(bool, loops)) > 0.9 * info.n_planes
        mesh = trimesh.Trimesh(*reconstruct_mesh(info.planes, loops, 32), process=False)
        assert mesh.is_watertight and mesh.volume > 0.001
    assert np.abs(sequences[0] - sequences[1]).max() > 0.05


def test_the_edit_of_the_demo(model):
    edit_file = load_edits(ROOT / tour.EDIT)
    check_edits(edit_file, model.info)
    (loop,) = {edit.first for edit in edit_file.edits}
    shape = LoopEditor(model, edit_file.latent, edit_file.edits).shape
    before = LoopEditor(model, edit_file.latent).shape
    assert [e.kind for e in edit_file.edits] == ["scale", "move"]
    assert edit_file.edits[0].values == {"u": 0.6, "v": 0.6}
    np.testing.assert_array_equal(shape.sequence[:loop], before.sequence[:loop])
    n_steps = min(shape.timesteps[-1], before.timesteps[-1])
    after = np.abs(shape.sequence - before.sequence)[loop + 1 : n_steps]
    assert (after.max(axis=1) > 0.01).mean() > 0.9  # what follows follows


def test_the_readme_shows_what_is_there():
    text = (ROOT / "README.md").read_text() + (ROOT / "docs/demo.md").read_text()
    for name in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert (ROOT / name).exists() or (ROOT / "docs" / name).exists(), name


class CylinderModel:
    """Stands in for the model of the tour: every latent is a cylinder."""

    latent_size = 48
    network = SimpleNamespace(prior=NormalPrior(48))

    def shape(self, radius=0.3, before=None):
        mesh = trimesh.creation.cylinder(radius, 1.0, sections=24)
        mesh.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        loop = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        planes = make_planes("y", 40, -0.45, 0.45)
        shape = loopdraw.Shape(planes, [[loop] for _ in planes], z=np.zeros(48))
        shape._before = before
        shape.mesh = mesh
        shape.edit = lambda *edits: self.shape(0.2, before=shape)
        return shape

    def decode(self, z):
        assert len(z) == self.latent_size
        return self.shape()

    def encode(self, path):
        return self.shape()

    def sample(self, n, seed):
        return [self.shape(radius) for radius in np.linspace(0.1, 0.4, n)]

    def interpolate(self, a, b, n):
        return self.sample(n, 0)


def test_the_tour_draws_and_saves(tmp_path, monkeypatch, capsys):
    def make_meshes(folder):
        tour.TEST_MESH.parent.mkdir(parents=True)
        CylinderModel().shape().mesh.export(tour.TEST_MESH)

    shutil.copy(ROOT / tour.EDIT, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_POLYSCOPE", raising=False)
    monkeypatch.setattr(tour, "ROOT", tmp_path)
    monkeypatch.setattr(tour, "make_meshes", make_meshes)
    monkeypatch.setattr(tour, "CELL_SIZE", (60, 80))
    monkeypatch.setattr(tour, "EDIT_SIZE", (100, 120))
    monkeypatch.setattr(loopdraw, "load", lambda folder: CylinderModel(), raising=False)
    for folder in (tour.CHECKPOINT, tour.SOFAS):
        (tmp_path / folder).mkdir(parents=True)
    tour.main()
    printed = capsys.readouterr().out
    for name, proportions in (
        ("samples", 1.5),
        ("interpolation", 4),
        ("reconstruction", 1),
        ("sofas", 1),
        ("edit", 1),
    ):
        picture = np.asarray(Image.open(tmp_path / f"demo_output/{name}.png"))
        assert picture.std() > 10 and picture.shape[1] > proportions * picture.shape[0], name
        assert f"demo_output/{name}.png" in printed
    for name, count in (("samples", 12), ("edit", 2)):
        assert (tmp_path / f"demo_output/{name}.html").read_text().count('"caption"') == count
        assert f"demo_output/{name}.html" in printed
    endings = (".obj", "-latent.txt", "-slices.npz")
    for folder, count in ((tour.CHECKPOINT, 12 + 8 + 1 + 2), (tour.SOFAS, 6)):
        saved = {path.name for path in (tmp_path / folder / tour.SHAPES).iterdir()}
        stems = [f"inference-{number}" for number in range(count)]
        assert saved == {stem + ending for stem in stems for ending in endings}
    assert "[12/12] sample: 40 loops on 40 planes, saved" in printed
