"""The inference program on small published checkpoints: in this process, and as users run it."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from conftest import PARITY, ROOT
from real_session import Session, published
from small_dataset import small_options, write_dataset

import loop_models_inference
from loopdraw.data.dataset import load_datasets
from loopdraw.evaluation import checks
from loopdraw.files import UserError
from loopdraw.loops.representations import sequence_planes
from loopdraw.loops.slices_files import load_slices
from loopdraw.model.vae import LoopSeqEncoderDecoderModel
from loopdraw.options import options_for, parse_options
from loopdraw.prompt import engine
from loopdraw.surface.outputs import SUFFIXES, claimed_stem
from loopdraw.surface.reconstruction import reconstruct_mesh
from loopdraw.surface.workers import PendingShape, SurfaceWorkers

STOPPERS = (
    *("sys.exit(3)", "raise GeneratorExit", "sys.stdout.close()", "sys.stdout.buffer.close()"),
    "sys.stderr.detach().close()",
)
SCRIPT = ROOT / "loop_models_inference.py"


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Session(published(tmp_path))


@pytest.fixture(scope="module")
def expected():
    with np.load(PARITY / "transformer-v1" / "expected.npz") as arrays:
        return dict(arrays)


def assert_starts_like(sequence, full):
    """`sequence` agrees with the published one up to its end, from where it is zero."""
    used = sequence.any(axis=1)
    length = np.flatnonzero(used)[-1] + 1
    assert length > 10 and used[:length].all()
    np.testing.assert_allclose(sequence[:length], full[:length], atol=1e-4)


# ------------------------------------------------------------------------------ how it is saved


def test_kinds_of_mesh_files_and_their_resolution(tmp_path, expected):
    words = published(tmp_path)
    np.savetxt(tmp_path / "z.txt", expected["latents"][0])
    decode = f"submit decode |{tmp_path}/z.txt --save"
    fine = Session([*words, "--save_format", "ply", "stl"])
    assert "inference-0.ply" in fine.do(f"{decode} --format stl,json", "run")
    kinds = ("-latent.txt", "-loops.json", "-slices.npz", ".ply", ".stl")
    assert fine.saved() == [f"inference-0{kind}" for kind in kinds]
    coarse = Session([*words, "--reco_resolution", "24"])
    coarse.do(decode, "run")
    assert "inference-1.obj" in coarse.saved()  # the number of the first is taken
    meshes = [trimesh.load(fine.folder / f"inference-{name}") for name in ("0.ply", "1.obj")]
    assert all(mesh.is_watertight for mesh in meshes)
    assert len(meshes[1].faces) < len(meshes[0].faces) / 4


def test_a_page_and_of_an_edit_before_and_after(session, expected):
    np.savetxt("z.txt", expected["latents"][0])
    session.do("submit decode |z.txt --save --format html,json", "run")
    assert {"inference-0.html", "inference-0-loops.json"} < set(session.saved())
    text = (session.folder / "inference-0.html").read_text()
    assert "<h1>inference-0</h1>" in text and text.count('"caption"') == 1
    assert "Made at the prompt by <code>decode |z.txt --save --format html,json</code>" in text
    session.engine.intervention.path = Path("func.py").absolute()
    Path("func.py").write_text(MOVE_LOOP)
    session.do("submit decode |z.txt --intervene --save --format html", "run")
    text = (session.folder / "inference-1.html").read_text()
    assert [f'"caption": "{when}"' in text for when in ("before", "after")] == [True, True]


def test_poisson_needs_pymeshlab(tmp_path):
    words = [*published(tmp_path), "--reco", "poisson"]
    hidden = tmp_path / "pymeshlab-hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'pymeshlab' else find(name, *rest)\n"
    )
    done = subprocess.run(
        [sys.executable, SCRIPT, *words],
        input="",
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(hidden)},
    )
    assert done.returncode == 2 and done.stdout == ""
    assert "needs pymeshlab" in done.stderr and done.stderr.count("\n") == 1


# ------------------------------------------------------------------------------------- what is made


def test_decode_gives_the_published_sequences(session, expected):
    for i, latent in enumerate(expected["latents"]):
        np.savetxt("z.txt", latent)
        session.do("submit decode |z.txt", f"assign z{i} |z.txt", "run")
        assert_starts_like(session["last_pred_seq"], expected["decoded"][i])
    session.do("submit interp 3 $z0 $z2", "run 2")
    middle = (expected["latents"][0] + expected["latents"][2]) / 2
    np.testing.assert_allclose(session["last_z"], middle)
    session.do("run")
    assert_starts_like(session["last_pred_seq"], expected["decoded"][2])


def test_reconstructions_of_items(session, expected):
    session.do("submit tf-reco 1", "run")
    np.testing.assert_allclose(session["last_z"], expected["encoder_mu"][1], atol=1e-5)
    info = session.engine.info
    forced = expected["teacher_forced"][:, 1].astype(np.float64)
    forced[:, -1] = 1 / (1 + np.exp(-forced[:, -1]))
    forced = info.unnormalise(forced)
    used = session["last_pred_seq"].any(axis=1)
    assert used.sum() == (~expected["batch_padding"][1:, 1]).sum()
    np.testing.assert_allclose(session["last_pred_seq"][used], forced[used], atol=1e-4)
    session.do("submit auto-reco 1", "run")
    np.testing.assert_allclose(session["last_z"], expected["encoder_mu"][1], atol=1e-5)
    decoded = session["last_pred_seq"]
    session.do("submit decode $last_z", "run")
    np.testing.assert_allclose(session["last_pred_seq"], decoded, atol=1e-5)


def test_the_encoders_sigma_is_used_when_asked_and_repeatable(session, expected):
    latents = []
    for line in ("seed 1", "run", "seed 1", "run"):
        session.do("submit auto-reco 0 --use_enc_sigma", line)
        latents += [session["last_z"]] if line == "run" else []
    session.do("run all")
    latents.append(session["last_z"])
    np.testing.assert_array_equal(latents[0], latents[1])
    assert np.abs(latents[0] - latents[2]).max() > 1e-3
    sigma = np.exp(expected["encoder_log_sigma_squared"][0] / 2)
    assert (np.abs(latents[0] - expected["encoder_mu"][0]) < 6 * sigma).all()


def test_ground_truth_is_rebuilt_at_its_true_height(session):
    item = session.engine.items.split
    session.do("submit gt 2 --save", "run")
    planes, loops = load_slices(session.folder / "inference-gt2-slices.npz")
    index = item.plane_indices[2]
    present = np.unique(index[index >= 0])
    np.testing.assert_allclose(planes, item.planes[present])
    assert [len(loop) for loop in loops] == [(index == plane).sum() for plane in present]
    first = item.sequences[2, 0, :-1].reshape(32, 2)
    np.testing.assert_allclose(loops[0][0], first, atol=1e-6)
    mesh = trimesh.load(session.folder / "inference-gt2.obj")
    assert mesh.is_watertight and mesh.volume > 0
    # Made from an item, not from a latent.
    assert session.saved() == ["inference-gt2-slices.npz", "inference-gt2.obj"]
    with pytest.raises(UserError, match="no variable last_z"):
        session["last_z"]


def test_a_part_of_a_sequence_is_shown_at_its_own_height(session):
    session.do("submit sample 1", "run", "submit seq-viz $last_pred_seq 3 9 --save", "run")
    sequence, info = session["last_pred_seq"], session.engine.info
    planes = sequence_planes(sequence, info.n_planes, info.representation, info.use_eos_token)
    written, loops = load_slices(session.folder / "inference-seqviz-slices.npz")
    np.testing.assert_allclose(written, info.planes[np.unique(planes[3:9])])
    assert sum(map(len, loops)) == 6


def test_samples_are_compared_with_the_training_items(session):
    session.do("submit sample 5", "run all")
    train = session.engine.items.train_set.sequences.astype(np.float64)
    session.do("seed 3")
    sequences = []
    for _ in range(5):
        session.do("submit sample 1", "run")
        sequences.append(session["last_pred_seq"])
    session.do("seed 3", "submit sample 5", "run all")
    differences = np.square(np.array(sequences)[:, None] - train[None]).mean(axis=(2, 3))
    np.testing.assert_array_equal(session["closest_data_matches"][:, 0], differences.argmin(axis=1))
    np.testing.assert_allclose(
        session["closest_data_matches"][:, 1], differences.min(axis=1), rtol=1e-4
    )
    n_distinct = len(set(differences.argmin(axis=1)))
    np.testing.assert_allclose(session["diversity_stats"], [5, n_distinct, n_distinct / 5])


def test_the_test_set_when_asked(tmp_path, expected, monkeypatch, capsys):
    other = Session([*published(tmp_path), "--load_test_set_for_inference"])
    test = load_datasets(**options_for(load_datasets, other.options))["test"]
    assert other.engine.n_items() == len(test)
    other.do("submit gt 0", "submit tf-reco 0", "run all")
    assert np.abs(other["last_z"] - expected["encoder_mu"][0]).max() > 1e-3
    # Normalised with the statistics of the train set.
    np.testing.assert_allclose(other.engine.info.dataset_mean, expected["mean"], atol=1e-6)
    assert f"from 0 to {len(test) - 1}" in other.fail(capsys, f"submit gt {len(test)}")


@pytest.mark.parametrize(
    ("case", "data"),
    [
        ("transformer-v0", "data-polyline"),
        ("transformer-v1-ellipse", "data-ellipse"),
        ("lstm-transformer", "data-polyline"),
        ("pointnet-transformer", "data-polyline"),
    ],
)
def test_every_action_with_other_published_checkpoints(tmp_path, case, data):
    one = Session(published(tmp_path, case, data))
    one.do("submit gt 0", "submit auto-reco 0", "submit tf-reco 1", "submit sample 2")
    printed = one.do("submit interp 2 ? ? --save", "submit decode $last_z --intervene", "run all")
    assert printed.count(" loops on ") == 8
    assert [name for name in one.saved() if name.endswith(".obj")] == [
        "inference-0.obj",
        "inference-1.obj",
    ]


@pytest.mark.parametrize(
    ("architecture", "representation"),
    [("lstm", "ellipse-single"), ("transformer", "ellipse-single"), ("lstm", "fixed-res-polyline")],
)
def test_every_action_with_an_untrained_model(tmp_path, architecture, representation):
    root = write_dataset(tmp_path / "data", representation=representation)
    words = small_options(root, tmp_path / "made", repr_type=representation)
    words += ["--architecture", architecture]
    options = parse_options(words)
    train = load_datasets(**options_for(load_datasets, options))["train"]
    model = LoopSeqEncoderDecoderModel(
        train.info, "cpu", **options_for(LoopSeqEncoderDecoderModel, options)
    )
    (tmp_path / "made").mkdir()
    for prefix, network in model.networks.items():
        torch.save(network.state_dict(), tmp_path / "made" / f"{prefix}latest_net.pth")
    one = Session(words)
    one.do("submit gt 1 --save", "submit auto-reco 0", "submit tf-reco 1", "submit sample 2")
    printed = one.do("submit interp 2 ? ?", "submit decode $last_z --intervene", "run all")
    assert printed.count(" loops on ") == 8


def test_checked_samples_say_how_many_were_drawn(session, monkeypatch, capsys):
    faults = iter(["1 free end", "", "2 free ends"])
    monkeypatch.setattr(checks, "fault", lambda *_: next(faults))
    printed = session.do("seed 3", "submit sample 1 --checked", "run all")
    assert "2 shapes drawn" in printed and "warning" not in printed
    drawn = session["last_z"].copy()
    session.do("seed 3", "submit sample 1", "run all")
    assert np.abs(session["last_z"] - drawn).max() > 1e-3
    monkeypatch.setattr(checks, "MOST_DRAWS", 1)
    monkeypatch.setattr(engine, "FIRST_NOTE", 0.0)
    printed = session.do("submit sample 1 --checked", "run all")
    assert "0 of 1 done, 1 shape drawn" in capsys.readouterr().out
    assert "1 shape drawn (warning: 2 free ends still)" in printed
    assert "exclude each other" in session.fail(capsys, "submit sample 1 --checked --intervene")


# ------------------------------------------------------------------------------------ what is saved


def test_nothing_is_ever_overwritten(session):
    session.do(
        "submit sample 2 --save", "submit gt 0 --save", "submit auto-reco 3 --save", "run all"
    )
    first = {name: (session.folder / name).read_bytes() for name in session.saved()}
    assert sorted(first) == sorted(
        [f"inference-{n}{suffix}" for n in (0, 1, "reco3") for suffix in SUFFIXES]
        + ["inference-gt0.obj", "inference-gt0-slices.npz"]
    )
    session.do("submit interp 1 ? ? --save", "submit gt 0 --save", "submit tf-reco 3 --save")
    session.do("submit gt 0 --save", "run all")
    second = set(session.saved()) - set(first)
    assert {name for name in second if name.endswith(".obj")} == {
        "inference-2.obj",
        "inference-gt0-1.obj",
        "inference-gt0-2.obj",
        "inference-reco3-1.obj",
    }
    for name, content in first.items():
        assert (session.folder / name).read_bytes() == content


@pytest.mark.parametrize(
    ("present", "number"),
    [
        ([], 0),
        (["inference-0.obj"], 1),
        (["inference-9.obj", "inference-10-latent.txt"], 11),
        (["inference-4-slices.npz", "inference-7-img.png", "other-99.obj"], 8),
        (["inference-gt5.obj", "inference-reco9-latent.txt", "inference-x.obj"], 0),
        (["inference-3"], 0),
    ],
)
def test_numbers_go_on_from_the_highest_present(tmp_path, present, number):
    for name in present:
        (tmp_path / name).touch()
    with claimed_stem(tmp_path) as stem, claimed_stem(tmp_path / "missing") as first:
        assert stem == tmp_path / f"inference-{number}"
        assert first == tmp_path / "missing" / "inference-0"


def test_running_together_or_one_by_one_saves_the_same(session):
    lines = ["seed 8", "submit sample 3 --save", "submit gt 1", "submit interp 2 ? $last_z --save"]
    session.do("submit decode ?", "run", "assign first $last_z")
    session.do(*[line.replace("last_z", "first") for line in lines], "run all")
    together = session["last_z"], session["last_pred_seq"], session["closest_data_matches"]
    session.do(*[line.replace("last_z", "first") for line in lines], *["run"] * 6)
    np.testing.assert_array_equal(session["last_z"], together[0])
    np.testing.assert_allclose(session["last_pred_seq"], together[1], atol=1e-5)
    for n in range(5):
        a, b = (session.folder / f"inference-{k}-latent.txt" for k in (n, n + 5))
        assert a.read_bytes() == b.read_bytes()
        (planes_a, loops_a), (planes_b, loops_b) = (
            load_slices(session.folder / f"inference-{k}-slices.npz") for k in (n, n + 5)
        )
        np.testing.assert_array_equal(planes_a, planes_b)
        for in_a, in_b in zip(loops_a, loops_b, strict=True):
            np.testing.assert_allclose(in_a, in_b, atol=1e-5)


def test_a_saved_latent_decodes_to_the_saved_shape(session):
    session.do("submit sample 1 --save", "run", "assign before $last_pred_seq")
    session.do("submit decode ||inference/inference-0-latent.txt --save", "run")
    np.testing.assert_array_equal(session["last_pred_seq"], session["before"].astype(np.float32))
    a, b = (session.folder / f"inference-{n}.obj" for n in (0, 1))
    assert a.read_bytes() == b.read_bytes()


def test_a_folder_that_cannot_be_written_to_is_one_line_an_action(session, capsys):
    session.folder.write_text("in the way")
    session.do("submit sample 2 --save", "submit sample 1")
    capsys.readouterr()
    session.repl.onecmd("run all")
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all("cannot be written" in error and str(session.folder) in error for error in errors)
    # The shapes were made all the same.
    assert session["last_z"].shape == (8,) and not session.repl.queue
    assert len(session["closest_data_matches"]) == 3


def test_sequences_without_loops_say_so(session, capsys):
    np.savetxt("empty.txt", np.zeros((4, 65)))
    np.savetxt("point.txt", np.hstack([np.zeros((4, 64)), np.ones((4, 1))]))
    session.do("assign empty |empty.txt", "assign point |point.txt")
    session.do("submit seq-viz $empty --save", "submit seq-viz $point --save")
    assert "no loops, so there is nothing to save" in session.fail(capsys, "run")
    assert "no mesh: " in session.fail(capsys, "run")
    assert not session.folder.exists()


# -------------------------------------------------------------------------------- without a dataset


def test_with_dataset_info_no_dataset_is_needed(tmp_path, session, expected, capsys):
    session.engine.info.save(session.options.save_dir)
    words = published(tmp_path / "other")
    words[words.index("--dataroot") + 1] = str(tmp_path / "nowhere")
    shutil.copy(Path(session.options.save_dir) / "dataset_info.npz", tmp_path / "other/checkpoint")
    alone = Session(words)
    np.savetxt("z.txt", expected["latents"][0])
    alone.do("submit sample 2 --save", "submit interp 2 ? ?", "submit decode |z.txt --save")
    alone.do("submit seq-viz $last_pred_seq --save", "run all")
    assert_starts_like(alone["last_pred_seq"], expected["decoded"][0])
    assert len(alone.saved()) == 3 * 3 + 2
    assert "closest_data_matches" not in alone.do("variables")
    assert f"{tmp_path / 'nowhere'}: no such dataset folder" in alone.fail(capsys, "submit gt 0")
    assert "nowhere" in alone.fail(capsys, "submit tf-reco 0")


def test_without_either_the_error_says_which_is_missing(tmp_path):
    words = published(tmp_path)
    words[words.index("--dataroot") + 1] = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere: no such dataset folder"):
        Session(words)
    words[words.index("--save_dir") + 1] = str(tmp_path / "no-checkpoint")
    with pytest.raises(UserError, match="no-checkpoint/declatest_net.pth: no such checkpoint"):
        Session(words)


# ----------------------------------------------------------------------------------- interventions

# As a user of the published program may have written it.
MOVE_LOOP = """
import numpy as np
def loop_generation_intervention(dataset, ts_i_state, ts):
    i = ts_i_state()
    ts_i_state.modify(lambda i: i + 1)
    if i == 4:
        ts = ts.cpu().numpy() * dataset.dataset_std + dataset.dataset_mean
        ts[:, 0:-1:2] += 0.1
        ts = (ts - dataset.dataset_mean) / dataset.dataset_std
    return ts
"""


@pytest.fixture
def edits(session, tmp_path):
    """The session, and the file of its editing function."""
    session.engine.intervention.path = path = tmp_path / "loop_inference_intervention_func.py"
    path.write_text(MOVE_LOOP)
    session.do("submit sample 1", "run", "assign z $last_z")
    return session, path


def test_an_edit_changes_its_loop_and_those_after_it(edits):
    session, _ = edits
    before = session["last_pred_seq"]
    session.do("submit decode $z --intervene --save", "run")
    after = session["last_pred_seq"]
    np.testing.assert_allclose(after[:4], before[:4], atol=1e-5)
    moved = (after - before)[4, :-1].reshape(32, 2)
    np.testing.assert_allclose(moved, np.tile([0.1, 0], (32, 1)), atol=1e-5)
    assert np.abs(after - before)[5:].max() > 1e-3
    assert session.saved()[-1] == "inference-0.obj"
    # Nothing of it lasts.
    session.do("submit decode $z", "run")
    np.testing.assert_allclose(session["last_pred_seq"], before, atol=1e-5)


def test_the_function_starts_afresh_for_every_shape(edits):
    session, _ = edits
    session.do("submit interp 3 $z $z --intervene", "run", "assign a $last_pred_seq", "run all")
    np.testing.assert_array_equal(session["last_pred_seq"], session["a"].astype(np.float32))


def test_a_new_latent_from_the_function(edits):
    session, path = edits
    before = session["last_pred_seq"]
    path.write_text(
        "def loop_generation_intervention(dataset, state, ts):\n"
        "    state.modify(lambda i: i + 1)\n"
        "    assert state.retrieve('latent_size') == 8\n"
        "    assert state.retrieve('latent_z').shape == (1, 8)\n"
        "    return (ts, lambda z: z + 1.5) if state() == 6 else ts\n"
    )
    session.do("submit decode $z --intervene", "run")
    after = session["last_pred_seq"]
    np.testing.assert_allclose(after[:6], before[:6], atol=1e-5)
    assert np.abs(after - before)[6:].max() > 1e-3


def test_a_broken_function_is_one_line_and_the_session_goes_on(edits, capsys):
    session, path = edits
    session.do("submit decode $z --intervene", "run", "submit decode $z --intervene")
    edited = session["last_pred_seq"]
    path.write_text("def broken(:\n")
    session.do("run")
    warning = capsys.readouterr().err
    assert warning.startswith("warning: loop_inference_intervention_func.py:1: SyntaxError")
    assert warning.count("\n") == 1
    np.testing.assert_array_equal(session["last_pred_seq"], edited)
    session.do("submit sample 3 --intervene")
    path.write_text(MOVE_LOOP.replace("+= 0.1", "+= nothing"))
    capsys.readouterr()
    session.repl.onecmd("run all")
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and not session.repl.queue
    assert errors[0] == (
        "error: sample --intervene: loop_inference_intervention_func.py:8: NameError: "
        "name 'nothing' is not defined"
    )
    session.repl.failed = False
    for bad, reason in (("ts[:, :3]", "must be (1, 65)"), ("ts * float('nan')", "not finite")):
        path.write_text(f"def loop_generation_intervention(d, s, ts):\n    return {bad}\n")
        session.do("submit decode $z --intervene")
        assert reason in session.fail(capsys, "run")


@pytest.mark.parametrize("body", STOPPERS)
def test_the_function_cannot_end_the_session(edits, body):
    session, path = edits
    path.write_text(
        f"import sys\ndef loop_generation_intervention(d, s, ts):\n    {body}\n    return ts\n"
    )
    before = session["last_pred_seq"]
    session.repl.onecmd("submit decode $z --intervene")
    session.repl.onecmd("run")
    session.repl.failed = False
    session.do("submit decode $z", "run")
    np.testing.assert_array_equal(session["last_pred_seq"], before)
    print("still here", flush=True)


def test_a_new_latent_with_arch_version_0_says_why_not(tmp_path, capsys):
    one = Session(published(tmp_path, "transformer-v0"))
    one.engine.intervention.path = path = tmp_path / "func.py"
    path.write_text("def loop_generation_intervention(d, s, ts):\n    return ts, lambda z: -z\n")
    one.do("submit sample 1 --intervene")
    message = one.fail(capsys, "run")
    assert "version 0" in message or "arch" in message


def test_random_edits_are_repeatable(edits):
    session, path = edits
    path.write_text(
        "import random, numpy, torch\n"
        "def loop_generation_intervention(d, s, ts):\n"
        "    return ts + 0.01 * (random.random() + numpy.random.rand() + torch.rand(1))\n"
    )
    made = []
    for _ in range(2):
        session.do("seed 5", "submit decode $z --intervene", "run")
        made.append(session["last_pred_seq"])
    np.testing.assert_array_equal(*made)


# -------------------------------------------------------------------------------------- windows


def test_windows_get_the_shape_and_what_was_edited(tmp_path):
    shown = []
    one = Session(published(tmp_path), show=lambda title, scene: shown.append((title, scene)))
    one.engine.intervention.path = path = tmp_path / "func.py"
    path.write_text(MOVE_LOOP)
    one.do("submit gt 0", "submit sample 1", "submit decode $last_z --intervene", "run all")
    assert [title for title, _ in shown] == ["gt 0", "sample", "decode $last_z --intervene"]
    for _, scene in shown:
        assert scene.mesh[0].shape[1] == 3 and scene.loop_count() > 10
    _, plain, edited = (scene for _, scene in shown)
    assert not plain.edited and not plain.regenerated and plain.untouched is None
    assert list(edited.edited) == [4]
    assert list(edited.regenerated) == list(range(4, edited.loop_count()))
    np.testing.assert_allclose(edited.untouched[1][0][0], plain.loops_by_plane[0][0], atol=1e-5)


def test_no_window_is_opened_without_a_display_or_when_told(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert loop_models_inference.window_openers() == (None, None)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("NO_POLYSCOPE", "1")
    assert loop_models_inference.window_openers() == (None, None)


# --------------------------------------------------------------------------------------- workers


def rings(scale):
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return [[scale * np.stack([np.cos(angles), np.sin(angles)], axis=1)]] * 4


def test_workers_give_the_same_surfaces_in_order():
    from loopdraw.loops.geometry import make_planes

    planes = make_planes("y", 4, -0.5, 0.5)
    shapes = [rings(0.1), rings(0.2), [[], [], [], []], rings(0.3)]
    workers = SurfaceWorkers(2)
    for killed in (False, True):
        if killed:
            for process in list(workers._pool._processes.values()):
                process.kill()
                process.join()
        put = workers.put(planes, shapes)
        for i in (0, 1, 3):
            vertices, faces = reconstruct_mesh(planes, shapes[i])
            (our_vertices, our_faces), _ = put[i].wait()
            np.testing.assert_array_equal(our_vertices, vertices)
            np.testing.assert_array_equal(our_faces, faces)
        with pytest.raises(ValueError, match="no loops"):
            put[2].wait()


def test_workers_end_with_a_parent_that_is_killed():
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from loopdraw.surface.workers import SurfaceWorkers\n"
        "workers = SurfaceWorkers(2)\n"
        "workers.start()\n"
        "time.sleep(1)\n"
        "print(*workers._pool._processes, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(map(is_running, pids))
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 30
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


def is_running(pid):
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


# ------------------------------------------------------------------------------- as users run it


def environment(**more):
    plain = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    return plain | {"NO_POLYSCOPE": "1"} | more


@pytest.fixture
def optfile(tmp_path):
    path = tmp_path / "optfile.txt"
    path.write_text("# published settings\n" + "\n".join(map(shlex.quote, published(tmp_path))))
    return path


def test_the_readmes_piped_line(optfile, tmp_path):
    for first, n_samples in ((0, 10), (10, 2)):
        done = subprocess.run(
            f'printf "submit sample {n_samples} --save\\nrun all" | NO_POLYSCOPE=1 '
            f"{sys.executable} -X importtime {SCRIPT} --optfile {optfile}",
            shell=True,
            capture_output=True,
            text=True,
            env=environment(),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert "polyscope" not in done.stderr
        # On a busy machine it also says how fast it is.
        lines = [line for line in done.stdout.splitlines() if " a second, " not in line]
        assert lines[2:5] == [
            f"inference> submit sample {n_samples} --save",
            f"queued {n_samples} actions, {n_samples} in the queue",
            "inference> run all",
        ]
        folder = tmp_path / "checkpoint" / "inference"
        for n, line in enumerate(lines[5 : 5 + n_samples], start=first):
            assert line.startswith(f"[{n - first + 1}/{n_samples}] sample --save: ")
            assert line.endswith(f", saved {folder / f'inference-{n}.obj'}")
            mesh = trimesh.load(folder / f"inference-{n}.obj")
            assert mesh.is_watertight and mesh.volume > 0
            assert np.loadtxt(folder / f"inference-{n}-latent.txt").shape == (8,)
            assert load_slices(folder / f"inference-{n}-slices.npz")[1]
        assert lines[5 + n_samples :] == ["inference> "]
        assert len(list(folder.iterdir())) == 3 * (first + n_samples)


def test_a_script_with_mistakes_and_a_ctrl_c(optfile, tmp_path):
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "--optfile", optfile],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=tmp_path,
    )
    process.stdin.write("seed 1\nsubmit gt 99\nnonsense\nsubmit sample 3000 --save\nrun all\n")
    process.stdin.flush()
    while "inference-0.obj" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate("queue\nsubmit sample 1\nqueue clear\nsubmit sample 1\nrun\n")
    assert process.returncode == 1
    errors = err.splitlines()
    assert "no item 99" in errors[0] and "no command 'nonsense'" in errors[1]
    assert len(errors) == 3, err
    # Ctrl-C may come just when a shape is done.
    stopped = re.fullmatch(
        r"error: stopped(: sample --save)? \((\d+) actions left in the queue\)", errors[2]
    )
    assert stopped, err
    left = int(stopped[2])
    saved = [path for path in (tmp_path / "checkpoint/inference").iterdir()]
    n_saved = sum(path.suffix == ".obj" for path in saved)
    assert n_saved in (3000 - left - 1, 3000 - left)
    assert not [path for path in saved if path.name.startswith(".")]  # nothing half-written
    assert f"1-{left}  sample --save" in out and out.rstrip().endswith("planes\ninference>")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "error: command line: --save_dir is missing"),
        (["--save_dir", "nowhere"], "nowhere/declatest_net.pth: no such checkpoint"),
    ],
)
def test_mistakes_at_the_start_are_one_line_and_status_2(tmp_path, words, reason):
    done = subprocess.run(
        [sys.executable, SCRIPT, *words],
        input="submit sample 1\n",
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert reason in done.stderr and done.stderr.count("\n") == 1


# ------------------------------------------------------------------ what hardly trained models make


def test_loops_beyond_what_training_shapes_have_are_left_out(session):
    info = session.engine.info
    before = info.most_loops
    try:
        info.most_loops = 10_000
        assert "warning" not in session.do("seed 3", "submit sample 1 --save", "run")
        info.most_loops = 1
        said = session.do("seed 3", "submit sample 1 --save", "run")
    finally:
        info.most_loops = before
    left_out = int(re.search(r"\(warning: (\d+) more are left out", said)[1])
    assert "beyond the first 2 of a plane; the training set has 1 at most" in said
    *_, whole, bounded = sorted(session.folder.glob("inference-*-slices.npz"), key=os.path.getmtime)
    counts = [[len(loops) for loops in load_slices(path)[1]] for path in (whole, bounded)]
    assert max(counts[0]) > 2 and counts[1] == [min(n, 2) for n in counts[0]]
    assert left_out == sum(counts[0]) - sum(counts[1])
    # Shapes of the dataset are shown as they are.
    assert "warning" not in session.do("submit gt 0", "run")


def test_progress_shows_while_a_mesh_is_made(session, monkeypatch, capsys):
    def wait(pending, waiting):
        for seconds in range(1, 15):
            waiting(seconds)
        return (np.zeros((0, 3)), np.zeros((0, 3), dtype=int)), None

    monkeypatch.setattr(PendingShape, "wait", wait)
    session.do("submit sample 1 --save", "run")
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"\d+ loops", "n loops", line) for line in lines] == [
        "making a mesh of n loops: 2 s so far, of 60 at most",
        "making a mesh of n loops: 12 s so far, of 60 at most",
    ]
