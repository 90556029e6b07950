import json
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from small_dataset import N_PLANES, small_options, write_dataset, write_split

import loop_models_main
import loopdraw
from loopdraw.data.dataset import load_datasets
from loopdraw.evaluation import evaluate as evaluation_script
from loopdraw.evaluation import scores as evaluation_scores
from loopdraw.evaluation.__main__ import main as evaluation_main
from loopdraw.evaluation.scores import interpolation_smoothness, sequence_errors
from loopdraw.files import UserError
from loopdraw.model.vae import LoopSeqEncoderDecoderModel, load_model_and_sets
from loopdraw.options import options_for, parse_options


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The optfile of a small model, trained for an epoch."""
    folder = tmp_path_factory.mktemp("trained")
    dataroot = write_dataset(folder / "data", n_train=6, n_test=3)
    words = small_options(dataroot, folder / "run", "--num_workers", "1")
    words += ["--niter", "0", "--niter_decay", "0"]
    loop_models_main.train(parse_options(words))
    (folder / "opt.txt").write_text(" ".join(words))
    return folder


def evaluate(optfile, *words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["evaluate", "--optfile", str(optfile), *words])
    evaluation_main()


def all_floats(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for part in value for number in all_floats(part)]
    return [value] if isinstance(value, float) else []


def test_the_script(trained, monkeypatch, capsys):
    monkeypatch.setattr(evaluation_scores, "MOST_RECONSTRUCTIONS", 2)
    evaluate(trained / "opt.txt", "--n_samples", "4", "--lr", "7", monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    for words in (
        "Reconstruction                                                 train        test",
        "Generation: 3 against as many test shapes                    samples",
        "Novelty: the nearest of 6 training shapes                    samples        test",
        "Validity                                                     samples",
        "active dimensions",
        "free ends a shape",
        "references whose nearest is of their own kind",
        "evaluation.json",
    ):
        assert words in printed
    numbers = json.loads((trained / "run" / "evaluation.json").read_text())
    assert np.isfinite(all_floats(numbers)).all()
    assert (numbers["epoch"], numbers["seed"]) == ("latest", 7)
    assert numbers["validity"]["samples"]["shapes"] == 4
    assert [numbers["reconstruction"][name]["shapes"] for name in ("train", "test")] == [6, 3]
    assert numbers["validity"]["test"]["watertight"] == 1.0
    assert numbers["validity"]["test"]["self_crossing"] == 0.0
    assert len(numbers["reconstruction"]["test"]["autoregressive"]["by_plane"]) == N_PLANES
    assert len(numbers["latent_space"]["kl_per_dimension"]) == 4
    assert set(numbers["novelty"]["test"]["nearest"]) <= set(range(6))
    for scores in (numbers["generation"][name] for name in ("samples", "train")):
        assert 1 / 3 <= scores["coverage"] <= 1
        assert 0 <= scores["nearest_neighbour_accuracy"] <= 1
    with Image.open(trained / "run" / "evaluation.png") as page:
        assert min(page.size) > 1000
        assert len(page.convert("RGB").getcolors(10**7)) > 100

    # The teacher-forced error is the loss that training logs, without the flag's part.
    options = parse_options(["--optfile", str(trained / "opt.txt")])
    model, sets = load_model_and_sets(options)
    batch = sets["test"].batch(range(3))
    with torch.no_grad():
        mu, _ = model.encode_distribution(batch)
        outputs = model.teacher_forced(batch, mu)
    present = ~batch.padding[1:]
    expected = (outputs - batch.targets)[..., :-1][present].square().mean()
    found = numbers["reconstruction"]["test"]["teacher_forced"]["squared_error"]
    assert found == pytest.approx(expected.item(), rel=1e-4)

    with Image.open(trained / "run" / "samples-48.png") as sheet:
        assert min(sheet.size) > 1500

    # The same seed gives the same numbers.
    for name in ("save_page", "save_sheet"):
        monkeypatch.setattr(evaluation_script, name, lambda *_: None)
    evaluate(trained / "opt.txt", "--n_samples", "4", monkeypatch=monkeypatch)
    assert json.loads((trained / "run" / "evaluation.json").read_text()) == numbers


def test_several_seeds_on_a_validation_set(tmp_path, trained, monkeypatch, capsys):
    monkeypatch.setattr(evaluation_scores, "MOST_RECONSTRUCTIONS", 1)
    monkeypatch.setattr(evaluation_script, "SHEET", 2)
    for name in ("save_page", "save_sheet"):
        monkeypatch.setattr(evaluation_script, name, lambda *_: None)
    with pytest.raises(UserError, match="--on val: the dataset has no val/"):
        evaluate(trained / "opt.txt", "--on", "val", monkeypatch=monkeypatch)
    shutil.copytree(trained / "data", tmp_path / "data")
    write_split(tmp_path / "data/val", 4, seed=5)
    words = (trained / "opt.txt").read_text().replace(str(trained / "data"), str(tmp_path / "data"))
    (tmp_path / "opt.txt").write_text(words)
    evaluate(tmp_path / "opt.txt", *"--on val --seeds 2".split(), monkeypatch=monkeypatch)
    numbers = json.loads((trained / "run/evaluation.json").read_text())
    assert list(numbers["reconstruction"]) == ["train", "val"]
    assert "test" not in numbers["validity"] and "test" not in numbers["novelty"]
    assert numbers["validity"]["samples"]["shapes"] == 2 * 4
    assert set(numbers["generation"]["spread"]) == set(numbers["generation"]["samples"])
    assert "seed 7 to 8" in capsys.readouterr().out


def test_samples_are_those_of_the_prompt(trained):
    model, _ = load_model_and_sets(parse_options(["--optfile", str(trained / "opt.txt")]))
    expected = loopdraw.load(trained / "run").random_latents(3, seed=4)
    np.testing.assert_array_equal(evaluation_script._latents(model, 4, 3), expected)


def test_as_many_samples_as_test_shapes_by_default(trained, monkeypatch):
    asked = []

    def generation(model, sets, on, n_samples, seeds, rng, n_workers):
        asked.append(n_samples)
        return {}, []

    monkeypatch.setattr(evaluation_script, "_generation", generation)
    monkeypatch.setattr(evaluation_scores, "MOST_RECONSTRUCTIONS", 1)
    options = parse_options(["--optfile", str(trained / "opt.txt")])
    evaluation_script.evaluate(*load_model_and_sets(options))
    assert asked == [3]


def test_without_test_set_and_without_any_mesh(tmp_path, monkeypatch, capsys):
    dataroot = write_dataset(
        tmp_path / "data", n_train=3, n_test=0, representation="ellipse-single"
    )
    words = small_options(dataroot, tmp_path / "run", repr_type="ellipse-single")
    words += ["--niter", "0", "--niter_decay", "0", "--num_workers", "1"]
    loop_models_main.train(parse_options(words))
    (tmp_path / "opt.txt").write_text(" ".join(words))
    monkeypatch.setattr(evaluation_script, "SAMPLES_WITHOUT_TEST_SET", 2)
    evaluate(tmp_path / "opt.txt", monkeypatch=monkeypatch)
    numbers = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert numbers["generation"] is None
    assert list(numbers["reconstruction"]) == ["train"]
    assert numbers["reconstruction"]["train"]["autoregressive"]["flag_accuracy"] is None
    assert numbers["reconstruction"]["train"]["autoregressive"]["distance"] is None
    assert list(numbers["validity"]) == ["samples", "train"]
    assert len(numbers["novelty"]["samples"]["distances"]) == 2

    monkeypatch.setattr(
        LoopSeqEncoderDecoderModel,
        "decode",
        lambda self, latents, **_: np.zeros((len(latents), N_PLANES, 5)),
    )
    evaluate(tmp_path / "opt.txt", monkeypatch=monkeypatch)
    numbers = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert numbers["novelty"] is None
    assert numbers["reconstruction"]["train"]["surface_distance"] is None
    assert numbers["reconstruction"]["train"]["without_mesh"] == 3
    assert numbers["validity"]["samples"]["with_mesh"] == 0
    assert numbers["interpolation"]["largest_step"] is None
    assert "distance of surfaces" in capsys.readouterr().out


@pytest.mark.parametrize("eos", [False, True])
def test_sequence_errors_by_hand(tmp_path, eos):
    dataroot = write_dataset(tmp_path / "data", n_train=4, n_test=0, eos=eos)
    options = parse_options(small_options(dataroot, "unused", "--use_eos_token", str(eos)))
    dataset = load_datasets(**options_for(load_datasets, options))["train"]
    errors = sequence_errors(dataset.info, dataset, dataset.sequences)
    assert errors["squared_error"] == errors["distance"] == 0
    assert errors["flag_accuracy"] == 1
    assert errors["by_plane"] == [0] * N_PLANES

    moved = dataset.sequences.copy()
    moved[..., 0:64:2] += 0.03
    moved[..., 1:64:2] -= 0.04
    moved[0, 0, -1] = 0  # the first flag of the first shape
    errors = sequence_errors(dataset.info, dataset, moved)
    assert errors["distance"] == pytest.approx(0.05, rel=1e-5)
    assert errors["by_plane"] == pytest.approx([0.05] * N_PLANES, rel=1e-5)
    n_loops = (dataset.plane_indices >= 0).sum()
    assert errors["flag_accuracy"] == pytest.approx(1 - 1 / n_loops)


def test_a_perfect_reconstruction(tmp_path):
    dataroot = write_dataset(tmp_path / "data", n_train=3, n_test=0)
    dataset = load_datasets(dataroot, "fixed-res-polyline")["train"]
    perfect = types.SimpleNamespace(
        teacher_forced=dataset.sequences, autoregressive=dataset.sequences
    )
    numbers = evaluation_scores.reconstruction(
        dataset.info, dataset, perfect, np.random.default_rng(0)
    )
    assert numbers["planes_right"] == numbers["loops_right"] == 1
    assert numbers["surface_distance"] == pytest.approx(numbers["resampling"], rel=0.05)
    assert (numbers["surfaces_compared"], numbers["without_mesh"]) == (3, 0)

    # Without the inner loop of the last plane but one of each shape.
    info, worse = dataset.info, dataset.sequences.copy()
    worse[:, :, -1] = 1  # every loop opens a plane of its own
    perfect.autoregressive = worse
    numbers = evaluation_scores.reconstruction(info, dataset, perfect, np.random.default_rng(0))
    # Shapes have 6 or 5 planes, the first two with one loop, the others with two.
    loops = [sum(map(len, info.loops(sequence))) for sequence in dataset.sequences]
    assert sorted(loops) == [8, 10, 10]
    assert numbers["planes_right"] == 2 / 3
    assert numbers["loops_right"] == pytest.approx(6 / 18)


def test_interpolation_smoothness(tmp_path):
    dataroot = write_dataset(tmp_path / "data", n_train=2, n_test=0)
    dataset = load_datasets(dataroot, "fixed-res-polyline")["train"]
    info = dataset.info
    small, large = (
        [[scale * loop for loop in loops[:1]] for loops in info.loops(dataset.sequences[0])]
        for scale in (0.5, 1.0)
    )
    sizes = np.sqrt(np.linspace(0.25, 1, 11))  # areas grow evenly
    even = [[[size * loop for loop in loops] for loops in large] for size in sizes]
    jump = [small] * 6 + [large] * 5
    numbers = interpolation_smoothness(info.planes, [even])
    assert numbers["largest_step"] == pytest.approx(1, abs=1e-6)
    assert numbers["detour"] == pytest.approx(1, abs=1e-6)
    assert numbers["progress"][0] == pytest.approx(np.linspace(0, 1, 11))
    numbers = interpolation_smoothness(info.planes, [jump])
    assert (numbers["largest_step"], numbers["detour"]) == pytest.approx((10, 1))
    there_and_half_back = [small] * 5 + [large] * 5 + [even[5]]
    numbers = interpolation_smoothness(info.planes, [there_and_half_back])
    assert numbers["detour"] == pytest.approx(3)
    assert interpolation_smoothness(info.planes, [[small] * 11])["interpolations"] == 0


def test_errors_are_one_line(trained, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="n_samples.*at least 1"):
        evaluate(trained / "opt.txt", "--n_samples", "0", monkeypatch=monkeypatch)
    (tmp_path / "no.txt").write_text("--n_samples 3")
    with pytest.raises(UserError, match="--dataroot is missing"):
        evaluate(tmp_path / "no.txt", monkeypatch=monkeypatch)
    words = small_options(trained / "data", tmp_path / "nothing")
    (tmp_path / "none.txt").write_text(" ".join(words))
    with pytest.raises(UserError, match="enclatest_net.pth"):
        evaluate(tmp_path / "none.txt", monkeypatch=monkeypatch)
    options = parse_options(["--optfile", str(trained / "opt.txt")])
    options.save_dir = str(tmp_path / "diverged")
    (tmp_path / "diverged").mkdir()
    for name in ("enclatest_net.pth", "declatest_net.pth"):
        state = torch.load(trained / "run" / name, weights_only=True)
        for weights in state.values():
            weights.fill_(float("nan"))
        torch.save(state, tmp_path / "diverged" / name)
    with pytest.raises(UserError, match="not finite"):
        evaluation_script.evaluate(*load_model_and_sets(options))


def test_help_imports_nothing_heavy():
    code = (
        "import runpy, sys\n"
        "sys.argv = ['evaluation', '--help']\n"
        "try:\n"
        "    runpy.run_module('loopdraw.evaluation', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "assert not {'torch', 'matplotlib', 'trimesh', 'shapely'} & set(sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "--n_samples N" in run.stdout
