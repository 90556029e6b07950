"""The trained model of the repository, and what the documents say of it."""

import json
import re
import subprocess

import numpy as np
import pytest
import trimesh
from conftest import ROOT

from loopdraw.data.dataset import DatasetInfo
from loopdraw.demo import tour
from loopdraw.editing.edit_files import check_edits, load_edits
from loopdraw.editing.editor import LoopEditor
from loopdraw.evaluation.evaluate import format_table
from loopdraw.loops.representations import sequence_to_loops
from loopdraw.model.vae import LoopSeqEncoderDecoderModel
from loopdraw.options import options_for, parse_options
from loopdraw.surface.reconstruction import reconstruct_mesh

FOLDER = ROOT / "checkpoints/demo-vases"
MOST_BYTES = 15e6  # of the two networks


@pytest.fixture(scope="module")
def options():
    options = parse_options(["--optfile", str(ROOT / tour.OPTFILE)])
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


def test_what_is_in_the_repository():
    listed = subprocess.run(
        ["git", "ls-files", FOLDER], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {line.rsplit("/", 1)[1] for line in listed.stdout.split()}
    nets = {"enclatest_net.pth", "declatest_net.pth"}
    assert names == nets | {
        *("dataset_info.npz", "loss_log.txt", "test_log.txt", "opt.txt"),
        *("evaluation.json", "evaluation.png"),
    }
    assert sum((FOLDER / name).stat().st_size for name in nets) < MOST_BYTES
    pictures = list((ROOT / "docs/images").iterdir())
    assert sum(path.stat().st_size for path in pictures) < 2e6


def test_it_was_trained_with_the_optfile(options):
    trained = vars(parse_options(["--optfile", str(FOLDER / "opt.txt")]))
    given = vars(options) | {"save_dir": trained["save_dir"], "optfile": trained["optfile"]}
    assert trained == given
    epochs = [int(line.split(",")[0]) for line in (FOLDER / "loss_log.txt").open()]
    assert epochs == list(range(options.niter + options.niter_decay + 1))


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
    assert edit_file.edits[0].values == {"u": 0.3, "v": 0.3}
    np.testing.assert_array_equal(shape.sequence[:loop], before.sequence[:loop])
    n_steps = min(shape.timesteps[-1], before.timesteps[-1])
    after = np.abs(shape.sequence - before.sequence)[loop + 1 : n_steps]
    assert (after.max(axis=1) > 0.01).mean() > 0.9  # what follows follows


def test_the_readme_shows_what_is_there():
    text = (ROOT / "README.md").read_text() + (ROOT / "docs/demo.md").read_text()
    for name in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert (ROOT / name).exists() or (ROOT / "docs" / name).exists(), name
