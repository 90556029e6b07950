"""Priors: what they draw, how they are fitted, and the file beside the checkpoint."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy.stats import multivariate_normal
from small_dataset import small_options, write_dataset

import loop_models_main
import loopdraw
from loop_inference_config_and_repl import InferenceREPL, LoopInferenceSettings
from loopdraw.data.dataset import load_datasets
from loopdraw.files import UserError, save_npz
from loopdraw.model import fit_prior
from loopdraw.model.fit_prior import fit_flow, fit_mixture
from loopdraw.model.latents import shape_generator
from loopdraw.model.networks.flow import FlowNetwork
from loopdraw.model.prior import (
    MOST_DRAWS,
    PRIOR_FILE,
    FlowPrior,
    MixturePrior,
    NormalPrior,
    SettledPrior,
    load_prior,
    save_prior,
)
from loopdraw.model.vae import load_model, load_model_and_sets
from loopdraw.options import parse_options

L = 4


def quiet(*_):
    pass


def mixture(seed=0, k=3):
    rng = np.random.default_rng(seed)
    factors = np.tril(0.2 * rng.standard_normal((k, L, L))) + 0.5 * np.eye(L)
    return MixturePrior(rng.dirichlet(np.ones(k)), 3 * rng.standard_normal((k, L)), factors)


def flow(seed=0):
    torch.manual_seed(seed)
    network = FlowNetwork(L, width=16, n_blocks=2)
    torch.nn.init.normal_(network.leave.weight, std=0.3)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return FlowPrior(np.linspace(-1, 1, L), np.linspace(0.5, 2, L), weights), network


def exact(latents):
    """Means with no variance about them, as the fits take them."""
    latents = torch.as_tensor(latents, dtype=torch.float32)
    return latents, torch.zeros_like(latents)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small trained model with a fitted prior, and its words."""
    folder = tmp_path_factory.mktemp("prior")
    data = write_dataset(folder / "data", n_train=24, n_test=6)
    words = small_options(data, folder / "run", "--num_workers", "1", "--fit_prior", "mixture")
    loop_models_main.train(parse_options([*words, "--niter", "0", "--niter_decay", "0"]))
    return folder / "run"


# ---------------------------------------------------------------------------------------- drawing


@pytest.mark.parametrize("prior", [NormalPrior(L), mixture(), flow()[0]], ids=lambda p: type(p))
def test_latents_are_the_same_alone_and_together(prior):
    one, all_at_once = np.random.default_rng(1), np.random.default_rng(1)
    alone = np.concatenate([prior.draw(one, 1) for _ in range(5)])
    np.testing.assert_array_equal(alone, prior.draw(all_at_once, 5))
    assert prior.draw(one, 0).shape == (0, L)


def test_the_normal_prior_draws_as_published():
    drawn = NormalPrior(L).draw(np.random.default_rng(2), 1)[0]
    np.testing.assert_array_equal(drawn, np.random.default_rng(2).standard_normal(L))


def test_a_flow_computes_what_its_network_does():
    prior, network = flow()
    z = np.random.default_rng(0).standard_normal(L)
    with torch.no_grad():
        expected = network.double()(torch.from_numpy(z)[None], torch.tensor([0.3]).double())[0]
    np.testing.assert_allclose(prior._velocity(z, 0.3), expected, atol=1e-4)


# ---------------------------------------------------------------------------------------- fitting


def test_a_mixture_fitted_to_a_known_one_is_as_likely():
    known = mixture()
    rng = np.random.default_rng(5)
    fitted = fit_mixture(*(exact(known.draw(rng, n)) for n in (2000, 500)), report=quiet)
    z = known.draw(rng, 2000)

    def likelihood(prior):
        terms = [
            np.log(weight) + multivariate_normal(mean, factor @ factor.T).logpdf(z)
            for weight, mean, factor in zip(prior.weights, prior.means, prior.factors, strict=True)
        ]
        return np.logaddexp.reduce(terms).mean()

    assert likelihood(fitted) > likelihood(known) - 0.1


def test_a_flow_moves_noise_onto_two_moons():
    rng = np.random.default_rng(0)

    def moons(n):
        angle, upper = np.pi * rng.random(n), np.arange(n) % 2
        points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        points[upper == 1] = (1, 0.5) - points[upper == 1]
        return points

    prior = fit_flow(exact(moons(1000)), exact(moons(40)), report=quiet, n_steps=900)
    drawn, set_ = prior.draw(rng, 150), moons(2000)
    noise = prior.mean + prior.std * rng.standard_normal((150, 2))
    to_set, of_noise = (
        np.linalg.norm(points[:, None] - set_, axis=2).min(axis=1).mean()
        for points in (drawn, noise)
    )
    assert to_set < 0.25 * of_noise
    assert 0.3 < (drawn[:, 1] > 0.25).mean() < 0.7, "both moons"


@pytest.mark.parametrize("fit", [fit_mixture, lambda *a, **k: fit_flow(*a, n_steps=40, **k)])
def test_fits_repeat_by_seed(fit):
    train, held = (exact(mixture().draw(np.random.default_rng(i), 100)) for i in (0, 1))
    a, b = (fit(train, held, seed=3, report=quiet).draw(np.random.default_rng(0), 3) for _ in "ab")
    np.testing.assert_array_equal(a, b)


# --------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize("prior", [mixture(), flow()[0]], ids=lambda p: p.kind)
def test_files_give_back_the_prior(tmp_path, prior):
    network = torch.nn.Linear(2, 2)
    save_prior(tmp_path, prior, network)
    again = load_prior(tmp_path, L, network)
    assert again.description == prior.description
    a, b = (p.draw(np.random.default_rng(0), 4) for p in (prior, again))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_fitted_flow_draws_the_same_from_its_file(tmp_path):
    prior = fit_flow(*2 * [exact(np.eye(L))], report=quiet, n_steps=20)
    network = torch.nn.Linear(2, 2)
    save_prior(tmp_path, prior, network)
    a, b = (p.draw(np.random.default_rng(0), 4) for p in (prior, load_prior(tmp_path, L, network)))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_prior_of_other_weights_is_not_used(tmp_path):
    save_prior(tmp_path, mixture(), torch.nn.Linear(2, 2))
    lines = []
    prior = load_prior(tmp_path, L, torch.nn.Linear(2, 2), lines.append)
    assert isinstance(prior, NormalPrior)
    assert len(lines) == 1 and lines[0].startswith("warning: ")


def test_damaged_files_are_one_line(tmp_path):
    network, path = torch.nn.Linear(2, 2), tmp_path / PRIOR_FILE

    def error():
        with pytest.raises(UserError, match=PRIOR_FILE) as caught:
            load_prior(tmp_path, L, network)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    save_prior(tmp_path, mixture(), network)
    with pytest.raises(UserError, match="latents of 4 numbers"):
        load_prior(tmp_path, L + 1, network)
    path.write_bytes(path.read_bytes()[:200])
    assert "damaged" in error()
    path.write_text("no prior")
    assert "damaged" in error()
    for prior in (mixture(), flow()[0]):
        good = {"kind": prior.kind, "of": 1} | prior.arrays()
        for name in good:
            save_npz(path, **{other: good[other] for other in good if other != name})
            assert "lacks" in error() or "damaged" in error()
            if name not in ("kind", "of"):
                save_npz(path, **good | {name: np.full_like(good[name], np.nan)})
                assert "not finite" in error()
                save_npz(path, **good | {name: good[name][:-1]})
                assert "damaged" in error()
                save_npz(path, **good | {name: np.array(["text"])})
                error()
    save_npz(path, kind="oracle", of=1)
    assert "oracle" in error()
    save_npz(path, **{"kind": "mixture", "of": np.arange(3)} | mixture().arrays())
    error()


# ------------------------------------------------------------------------------ wherever it draws


def test_training_fits_one_and_the_model_draws_from_it(trained):
    model = loopdraw.load(trained)
    prior = model.network.prior
    assert isinstance(prior, SettledPrior) and isinstance(prior.prior, MixturePrior)
    expected = [prior.draw(shape_generator(7, i), 1)[0] for i in range(3)]
    np.testing.assert_array_equal(model.random_latents(3, seed=7), expected)
    np.testing.assert_array_equal(model.random_latents(1, seed=7), expected[:1])


def test_latents_settle_where_the_encoder_places_their_shapes(trained):
    network = loopdraw.load(trained).network
    network.prior.prior.largest_step = np.inf
    z = network.prior.prior.draw(np.random.default_rng(0), 3)
    settled = network.prior.draw(np.random.default_rng(0), 3)
    assert np.abs(settled - z).max() > 1e-3
    again = [network.encode_sequence(sequence) for sequence in network.decode(z)]
    np.testing.assert_allclose(again, settled, atol=1e-4)


def test_latents_that_move_far_are_drawn_again(trained):
    prior = loopdraw.load(trained).network.prior
    assert 0 < prior.prior.largest_step < np.inf
    generators = [np.random.default_rng(i) for i in range(40)]
    settled = prior.settled(prior.prior.draw_each(generators))
    steps = prior.next_steps(settled)
    prior.prior.largest_step = np.median(steps)
    near = steps < np.median(steps)
    drawn = prior.draw_each([np.random.default_rng(i) for i in range(40)])
    np.testing.assert_array_equal(drawn[near], settled[near])
    assert (drawn[~near] != settled[~near]).any(axis=1).all()
    prior.prior.largest_step = 1e-9  # none is near enough: the last draw is taken
    assert np.isfinite(prior.draw(np.random.default_rng(0), 1)).all()


def test_latents_drawn_together_are_those_drawn_alone_to_the_last_bit():
    """The demo's decoder is large enough for the products whose sums depend on the company."""
    model = loopdraw.load(ROOT / "checkpoints" / "demo-vases").network
    generators = [shape_generator(0, i) for i in range(3)]
    together = model.prior.draw_each(generators)
    for i, z in enumerate(together):
        np.testing.assert_array_equal(model.prior.draw(shape_generator(0, i), 1)[0], z)
        generator = shape_generator(0, i)
        for _ in range(MOST_DRAWS):
            first = model.prior.prior.draw(generator, 1)[0]
            alone = model.encode_sequence(model.decode(first)[0])
            again = model.encode_sequence(model.decode(alone)[0])
            if np.linalg.norm(again - alone) < model.prior.prior.largest_step:
                break
        np.testing.assert_array_equal(alone, z)
    assert model.prior.draw_each([]).shape == (0, model.latent_size)


def test_sequences_are_encoded_as_those_of_a_dataset(trained):
    model, sets = load_model_and_sets(parse_options(["--optfile", str(trained / "opt.txt")]))
    dataset = sets["train"]
    batch = dataset.batch(np.arange(5))
    ours = [model.encode_sequence(sequence) for sequence in dataset.sequences[:5]]
    np.testing.assert_allclose(ours, model.encode(batch).numpy(), atol=1e-5)


def test_the_prompt_draws_the_same(trained, capsys):
    model = load_model(trained)
    settings = LoopInferenceSettings(
        trained, L, model.info.representation.n_features, True, 7, model.prior
    )

    class Engine:
        closest_matches = None

        def n_items(self):
            return 24

    repl = InferenceREPL(settings, Engine())
    repl.onecmd("assign a ?")
    repl.onecmd("assign b ?")
    repl.onecmd("help latents")
    expected = loopdraw.load(trained).random_latents(2, seed=7)
    np.testing.assert_array_equal([repl.variables["a"], repl.variables["b"]], expected)
    assert "fitted to the latents of the training set" in capsys.readouterr().out
    repl.onecmd("seed 7")
    repl.onecmd("submit sample 2")
    tasks = repl.queue.next_tasks(2)
    np.testing.assert_array_equal([task.value for task in tasks], expected)


def test_the_normal_prior_is_the_published_way(trained, tmp_path):
    normal = loopdraw.load(trained, prior="normal").random_latents(2, seed=7)
    published = [shape_generator(7, i).standard_normal(L) for i in range(2)]
    np.testing.assert_array_equal(normal, published)
    words = ["--optfile", str(trained / "opt.txt"), "--prior", "normal"]
    options = parse_options(words, beside_optfile=("prior",))
    assert isinstance(load_model(trained, settings=vars(options)).prior, NormalPrior)


def test_a_prior_of_mirrored_shapes(trained, monkeypatch):
    """A shape upside down has its planes in reverse order, and counts as one shape more."""
    model = load_model(trained)
    sets = load_datasets(trained.parent / "data", "fixed-res-polyline", info=model.info)
    sequence = sets["train"].sequences[0]
    turned = fit_prior.upside_down(model.info, sequence)
    for loops, others in zip(
        model.info.loops(sequence), reversed(model.info.loops(turned)), strict=True
    ):
        np.testing.assert_array_equal(loops, others)
    mean, _ = fit_prior.posteriors(model, sets["train"], mirrored=True)
    np.testing.assert_allclose(mean[0], model.encode_sequence(turned), atol=1e-5)

    def fit(train, held, *_):
        assert len(train[0]) == 42 and len(held[0]) == 3
        np.testing.assert_allclose(train[0][21:], mean[torch.arange(24) % 10 != 0], atol=1e-6)
        return mixture()

    monkeypatch.setitem(fit_prior.FITS, "mixture", fit)
    fit_prior.fit_prior(model, {"train": sets["train"]}, "mixture", mirrors=True)


def test_which_shapes_are_held_out(trained, monkeypatch):
    sizes = {}

    def fit(train, held, *_):
        sizes.update(train=len(train[0]), held=len(held[0]))
        return mixture()

    monkeypatch.setitem(fit_prior.FITS, "mixture", fit)
    model = load_model(trained)
    sets = load_datasets(trained.parent / "data", "fixed-res-polyline", info=model.info)
    for given, expected in (
        ({"train": sets["train"]}, (21, 3)),
        ({"train": sets["train"], "test": sets["test"]}, (24, 6)),
        ({"train": sets["train"], "val": sets["train"], "test": sets["test"]}, (24, 24)),
    ):
        fit_prior.fit_prior(model, given, "mixture")
        assert (sizes["train"], sizes["held"]) == expected


def test_the_command(trained):
    before = (trained / PRIOR_FILE).read_bytes()
    words = ["--optfile", trained / "opt.txt", "--fit_prior", "mixture"]
    command = [sys.executable, "-m", "loopdraw.model.fit_prior", *words]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "held-out log likelihood" in run.stdout and "wrote " in run.stdout
    save_again = np.load(trained / PRIOR_FILE)
    assert str(save_again["kind"]) == "mixture" and before
