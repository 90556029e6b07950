"""Training: losses, schedule, checkpoints, logs, resumption after a kill, several processes."""

import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from small_dataset import small_options, write_dataset

import loop_models_main
from loopdraw.checkpoints import load_state
from loopdraw.data.dataset import DatasetInfo, load_datasets
from loopdraw.files import UserError, write_aside
from loopdraw.model.training import Trainer
from loopdraw.model.vae import LoopSeqEncoderDecoderModel
from loopdraw.options import options_for, parse_options


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


def train(words):
    options = parse_options(words)
    loop_models_main.train(options)
    return options


def log_lines(path):
    return [[float(value) for value in line.split(",")] for line in path.read_text().splitlines()]


def nets(folder, label="latest"):
    return {
        f"{prefix}.{name}": value
        for prefix in ("enc", "dec")
        for name, value in load_state(folder / f"{prefix}{label}_net.pth").items()
    }


def assert_same_nets(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def trainer_for(words):
    options = parse_options(words)
    train_set = load_datasets(**options_for(load_datasets, options))["train"]
    torch.manual_seed(0)
    model = LoopSeqEncoderDecoderModel(
        train_set.info, "cpu", **options_for(LoopSeqEncoderDecoderModel, options)
    )
    return Trainer(model, train_set, **options_for(Trainer, options))


def test_files_of_a_run(dataroot, tmp_path, capsys):
    train(small_options(dataroot, tmp_path))
    names = {path.name for path in tmp_path.iterdir()}
    expected = {"opt.txt", "loss_log.txt", "test_log.txt", "dataset_info.npz"}
    for label in ("latest", "4"):
        expected |= {f"{p}{label}_{k}.pth" for p in ("enc", "dec") for k in ("net", "optimizer")}
        expected.add(f"{label}_training_state.pth")
    assert expected <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert len(names) == len(expected) + 1
    losses = log_lines(tmp_path / "loss_log.txt")
    assert [line[0] for line in losses] == [0, 1, 2, 3, 4]
    assert [line[0] for line in log_lines(tmp_path / "test_log.txt")] == [4]
    assert losses[-1][1] < losses[0][1]
    output = capsys.readouterr().out
    assert len(re.findall(r"epoch \d/4  reconstruction .* kl .* lr .* left 0:0", output)) == 5
    # opt.txt is an optfile that repeats the run.
    again = parse_options(["--optfile", str(tmp_path / "opt.txt")])
    assert again.niter == 2 and again.latent_size == 4 and again.use_eos_token is False


def test_same_seed_same_run(dataroot, tmp_path):
    train(small_options(dataroot, tmp_path / "a"))
    train(small_options(dataroot, tmp_path / "b"))
    train(small_options(dataroot, tmp_path / "c", "--seed", "8"))
    assert_same_nets(nets(tmp_path / "a"), nets(tmp_path / "b"))
    assert (tmp_path / "a/loss_log.txt").read_text() == (tmp_path / "b/loss_log.txt").read_text()
    assert (tmp_path / "a/loss_log.txt").read_text() != (tmp_path / "c/loss_log.txt").read_text()


VARIED = ("--augment", "--disturb_history", "--whiten_latents")


RECIPE = (
    *("--transformer_arch_version", "4", "--use_eos_token", "True", "--reco_loss_type", "l1"),
    *("--enc_transformer_d_model", "32", "--dec_transformer_d_model", "32"),
    *("--enc_fc_hidden_sizes", "32", "--dec_fc_hidden_sizes", "32"),
    *("--ema", "0.9", "--lr_schedule", "cosine", "--optimizer", "muon", "--clip_grad", "1"),
    *("--weight_decay", "0.05", "--bucket_batches", "--rare_loops_weight", "3"),
    *("--joints_weight", "2"),
    *("--disturb_history", "--vary_profile", "0.04", "--vary_spacing", "0.5", "--mirror_planes"),
    *("--practise_edits", "0.5"),
    *("--order_ties", "--enc_kl_min", "0", "--enc_kl_anneal_cycle", "-1"),
)


@pytest.mark.parametrize(
    "more", [[], ["--dec_transformer_dropout", "0.2", *VARIED], [*RECIPE, "--whiten_latents"]]
)
def test_a_resumed_run_continues_as_if_uninterrupted(dataroot, tmp_path, more):
    whole = small_options(dataroot, tmp_path / "whole", *more)
    train([*whole, "--niter", "15", "--niter_decay", "8"])
    part = small_options(dataroot, tmp_path / "part", *more)
    options = parse_options([*part, "--niter", "15", "--niter_decay", "8"])
    _stop_after(options, 13)  # saved after epoch 9; 10 to 13 are lost and trained again
    resumed = [*part, "--niter", "15", "--niter_decay", "8", "--load_epoch", "-1"]
    train([*resumed, "--count_from_epoch", "10"])
    assert_same_nets(nets(tmp_path / "whole"), nets(tmp_path / "part"))
    for log in ("loss_log.txt", "test_log.txt"):
        assert (tmp_path / "whole" / log).read_text() == (tmp_path / "part" / log).read_text()


def test_histories_are_disturbed_alone(dataroot, tmp_path):
    """Targets are the varied loops themselves, the history is those, moved; flags are the same."""
    trainer = trainer_for(small_options(dataroot, tmp_path, "--augment", "--disturb_history"))
    batch = trainer._batch(np.arange(4), True)
    given, targets = batch.inputs[1:], batch.targets
    present = ~batch.padding[1:]
    assert torch.equal(given[..., -1], targets[..., -1])
    assert ((given - targets)[..., :-1].abs().amax(dim=-1)[present] > 0).float().mean() > 0.9
    assert (given[~present] == 0).all() and (targets[~present] == 0).all()
    plain = trainer.dataset.batch(np.arange(4), True)
    assert torch.equal(batch.inputs[0], plain.inputs[0])
    assert not torch.allclose(targets, plain.targets, atol=0.1)


def test_augmentation_and_disturbed_histories_are_apart(dataroot, tmp_path):
    plain = trainer_for(small_options(dataroot, tmp_path)).dataset.batch(np.arange(4), True)
    varied = trainer_for(small_options(dataroot, tmp_path, "--augment"))._batch(np.arange(4), True)
    torch.testing.assert_close(varied.inputs[1:], varied.targets)
    words = small_options(dataroot, tmp_path, "--disturb_history")
    disturbed = trainer_for(words)._batch(np.arange(4), True)
    torch.testing.assert_close(disturbed.targets, plain.targets, atol=1e-5, rtol=0)
    assert not torch.allclose(disturbed.inputs, plain.inputs, atol=0.1)


def test_whitening_changes_no_reconstruction(dataroot, tmp_path):
    trainer = trainer_for(small_options(dataroot, tmp_path, "--whiten_latents"))
    everything = trainer.dataset.batch(np.arange(len(trainer.dataset)), True)
    with torch.no_grad():
        before, _ = trainer.model.losses(everything)
        trainer.whiten_latents()
        after, _ = trainer.model.losses(everything)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=0)


def test_latents_of_a_saved_checkpoint_are_white(dataroot, tmp_path):
    words = small_options(dataroot, tmp_path / "run", "--whiten_latents")
    train(words)
    trainer = trainer_for(words)
    trainer.model.load(tmp_path / "run", -1)
    everything = trainer.dataset.batch(np.arange(len(trainer.dataset)), True)
    with torch.no_grad():
        mu, log_variance = trainer.model.encode_distribution(everything)
    variances = (torch.cov(mu.T, correction=0) + log_variance.exp().mean(dim=0).diag()).diagonal()
    torch.testing.assert_close(mu.mean(dim=0), torch.zeros(mu.shape[1]), atol=1e-3, rtol=0)
    torch.testing.assert_close(variances, torch.ones(mu.shape[1]), atol=0.1, rtol=0)


def _stop_after(options, epoch):
    """Train, and stop as Ctrl-C would, after an epoch."""
    real = Trainer.run_epoch

    def run_epoch(self, number):
        if number > epoch:
            raise KeyboardInterrupt
        return real(self, number)

    Trainer.run_epoch = run_epoch
    try:
        with pytest.raises(KeyboardInterrupt):
            loop_models_main.train(options)
    finally:
        Trainer.run_epoch = real


def test_kill_and_resume(dataroot, tmp_path):
    """A real process, killed at once while it trains, and resumed without saying from where."""
    settings = ["--niter", "60", "--niter_decay", "0"]
    train([*small_options(dataroot, tmp_path / "whole"), *settings])
    words = [*small_options(dataroot, tmp_path / "part"), *settings]
    command = [sys.executable, str(ROOT / "loop_models_main.py"), *words, "--load_epoch", "-1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    log = tmp_path / "part/loss_log.txt"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= 12):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert log.read_text().count("\n") < 60
    # A temporary file, as if it had been killed while it wrote one.
    with write_aside(tmp_path / "part/note.txt") as temporary:
        left = str(temporary).replace(f".{os.getpid()}-", f".{process.pid}-")
    assert left != str(temporary)
    Path(left).write_text("")
    with open(log, "a") as file:
        file.write("61,0.")  # as a line cut short by the kill
    train([*words, "--load_epoch", "-1"])
    assert not os.path.exists(left)
    assert_same_nets(nets(tmp_path / "whole"), nets(tmp_path / "part"))
    assert log.read_text() == (tmp_path / "whole/loss_log.txt").read_text()


def test_learning_rate_and_annealing(dataroot, tmp_path):
    words = small_options(dataroot, tmp_path, "--lr", "0.5", "--niter", "3", "--niter_decay", "4")
    trainer = trainer_for([*words, "--enc_kl_min", "0.1"])
    rates = [trainer.learning_rate_of(epoch) for epoch in range(8)]
    np.testing.assert_allclose(rates, [0.5, 0.5, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0], atol=1e-12)
    assert trainer.annealing_of(0) == pytest.approx(0.1)
    assert trainer.annealing_of(1000) == pytest.approx(1 - 0.9 * 0.9999**1000)
    trainer.enc_kl_anneal_formula = "cyclic"
    trainer.enc_kl_anneal_cycle = 8
    assert [trainer.annealing_of(i) for i in (0, 2, 8, 13)] == [0, 0.25, 0, 0.625]
    trainer.enc_kl_anneal_cycle = -1
    assert trainer.annealing_of(5) == 1
    trainer.enc_kl_anneal_cycle = 100
    trainer.model.enc_kl_weight = 0
    assert trainer.annealing_of(5) == 1


def test_both_spellings_of_the_annealing_cycle():
    for name in ("--enc_kl_anneal_cycle", "--enc_kl_annealing_cycle"):
        assert parse_options([name, "-1"]).enc_kl_anneal_cycle == -1


def test_no_checkpoint_yet_starts_from_scratch(dataroot, tmp_path, capsys):
    train(small_options(dataroot, tmp_path, "--load_epoch", "-1"))
    assert "no checkpoint there yet; training starts from scratch" in capsys.readouterr().out
    train(small_options(dataroot, tmp_path, "--load_epoch", "-1"))
    assert "all 5 epochs are trained" in capsys.readouterr().out


def test_a_trained_model_is_not_overwritten(dataroot, tmp_path):
    train(small_options(dataroot, tmp_path))
    before = nets(tmp_path)
    with pytest.raises(UserError, match="a trained model is there already.*--load_epoch -1"):
        train(small_options(dataroot, tmp_path))
    assert_same_nets(before, nets(tmp_path))


def test_a_published_checkpoint_can_be_trained_on(dataroot, tmp_path, capsys):
    """Published optimizers know no fused steps, and there is no state of training."""
    options = train(small_options(dataroot, tmp_path))
    (tmp_path / "latest_training_state.pth").unlink()
    for prefix in ("enc", "dec"):
        path = tmp_path / f"{prefix}latest_optimizer.pth"
        state = load_state(path)
        for group in state["param_groups"]:
            for name in ("fused", "foreach", "capturable", "differentiable", "maximize"):
                group.pop(name, None)
        torch.save(state, path)
    words = small_options(dataroot, tmp_path, "--niter", "8", "--load_epoch", "-1")
    train([*words, "--count_from_epoch", "5"])
    assert "resuming from" in capsys.readouterr().out
    assert [line[0] for line in log_lines(tmp_path / "loss_log.txt")] == list(range(11))
    assert options.niter == 2


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("latest_training_state", lambda s: s.pop("iteration"), "not the state of training"),
        ("latest_training_state", lambda s: s.update(epoch="3"), "not the state of training"),
        ("latest_training_state", lambda s: s.update(weights={"w": 1}), "not the state of"),
        ("enclatest_optimizer", lambda s: s.update(param_groups=[3]), "not the optimizer of"),
        (
            "enclatest_optimizer",
            lambda s: s["state"][0].update(exp_avg=torch.zeros(2)),
            "not the optimizer of this model .its exp_avg is",
        ),
        ("declatest_net", lambda s: s.update(dict.fromkeys(s, 1.0)), "of another architecture"),
        (
            "declatest_net",
            lambda s: s.update({"positional_embedding.positional_embedding_additives": 3}),
            "of another architecture",
        ),
    ],
)
def test_what_is_resumed_from_is_not_trusted(dataroot, tmp_path, name, change, reason):
    words = small_options(dataroot, tmp_path, "--niter", "0", "--niter_decay", "0")
    train(words)
    path = tmp_path / f"{name}.pth"
    state = load_state(path)
    change(state)
    torch.save(state, path)
    with pytest.raises(UserError, match=f"{name}.pth: {reason}") as caught:
        train([*words, "--load_epoch", "-1"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("saved, other", [("muon", "adam"), ("adam", "adamw"), ("adamw", "muon")])
def test_an_optimizer_of_another_kind_is_refused(dataroot, tmp_path, saved, other):
    words = small_options(dataroot, tmp_path, "--niter", "0", "--niter_decay", "0")
    train([*words, "--optimizer", saved])
    again = [*words, "--load_epoch", "-1", "--optimizer"]
    reason = f"enclatest_optimizer.pth: saved with --optimizer {saved}, and this is {other}; "
    with pytest.raises(UserError, match=reason) as caught:
        train([*again, other])
    assert "\n" not in str(caught.value)
    train([*again, saved])
    for prefix in ("enc", "dec"):  # as the message says
        (tmp_path / f"{prefix}latest_optimizer.pth").unlink()
    train([*again, other])


def test_non_finite_loss_stops_and_keeps_the_checkpoint(dataroot, tmp_path):
    words = small_options(dataroot, tmp_path)
    train(words)
    before = nets(tmp_path)
    diverging = [*words, "--lr", "1e30", "--niter", "40", "--load_epoch", "-1"]
    with pytest.raises(UserError, match="loss is not finite"):
        train(diverging)
    assert_same_nets(before, nets(tmp_path))
    assert len(log_lines(tmp_path / "loss_log.txt")) >= 5


def test_trimmed_padding_changes_no_loss(dataroot, tmp_path):
    trainer = trainer_for(small_options(dataroot, tmp_path))
    shortest = np.argsort(trainer.dataset.lengths)[:3]
    noise = torch.randn(3, 4)
    full, trimmed = (trainer.dataset.batch(shortest, trim=trim) for trim in (False, True))
    assert len(trimmed.targets) < len(full.targets)
    for ours, theirs in zip(
        trainer.model.losses(full, noise), trainer.model.losses(trimmed, noise), strict=True
    ):
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_every_item_has_noise_of_its_own(dataroot, tmp_path):
    trainer = trainer_for(small_options(dataroot, tmp_path))
    batch = trainer.dataset.batch([0, 0, 0])
    torch.manual_seed(0)
    latents = trainer.model.encode(batch, use_sigma=True)
    assert not torch.allclose(latents[0], latents[1])
    assert torch.allclose(*trainer.model.encode(batch)[:2])


def test_plain_autoencoder_takes_no_noise(dataroot, tmp_path):
    trainer = trainer_for(small_options(dataroot, tmp_path, "--enc_kl_weight", "0"))
    batch = trainer.dataset.batch([0, 1])
    quiet = trainer.model.losses(batch)
    noisy = trainer.model.losses(batch, torch.randn(2, 4))
    assert quiet[0].item() == noisy[0].item()
    assert trainer.model.kl_loss(noisy[1]).item() == 0


@pytest.mark.parametrize("architecture", ["lstm", "lstm+transformer"])
@pytest.mark.parametrize("repr_type", ["ellipse-single", "ellipse-multiple"])
def test_other_architectures_and_representations_train(tmp_path, architecture, repr_type):
    dataroot = write_dataset(tmp_path / "data", representation=repr_type)
    words = small_options(dataroot, tmp_path / "run", repr_type=repr_type)
    train([*words, "--architecture", architecture])
    losses = log_lines(tmp_path / "run/loss_log.txt")
    assert all(math.isfinite(value) for line in losses for value in line)


def test_mode_test_prints_both_sets(dataroot, tmp_path, capsys):
    words = small_options(dataroot, tmp_path)
    train(words)
    capsys.readouterr()
    loop_models_main.test(parse_options([*words, "--mode", "test"]))
    lines = capsys.readouterr().out.splitlines()[-2:]
    reported = log_lines(tmp_path / "test_log.txt")[-1]
    assert lines[0].split()[:2] == ["train", "10"] and lines[1].split()[:2] == ["test", "3"]
    assert float(lines[1].split()[2]) == pytest.approx(reported[1], abs=1e-5)


def test_a_validation_set_is_tested_on_while_training(tmp_path, capsys):
    """Log file names are as published; only whose losses they hold depends on `val/`."""
    words = small_options(write_dataset(tmp_path / "data", n_val=2), tmp_path / "run")
    train(words)
    capsys.readouterr()
    loop_models_main.test(parse_options([*words, "--mode", "test"]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[-3:]]
    assert [line[:2] for line in lines] == [["train", "10"], ["val", "2"], ["test", "3"]]
    reported = log_lines(tmp_path / "run/test_log.txt")[-1]
    assert float(lines[1][2]) == pytest.approx(reported[1], abs=1e-5)
    assert float(lines[2][2]) != pytest.approx(reported[1], abs=1e-5)


def test_dataset_info_round_trip(dataroot, tmp_path):
    options = train(small_options(dataroot, tmp_path))
    train_set = load_datasets(**options_for(load_datasets, options))["train"]
    info = DatasetInfo.load(tmp_path, options.loop_repr_type)
    np.testing.assert_array_equal(info.planes, train_set.planes)
    np.testing.assert_array_equal(info.dataset_mean, train_set.dataset_mean)
    assert info.n_timesteps == train_set.n_timesteps
    assert info.representation == train_set.info.representation
    options.loop_repr_type = "ellipse-multiple"
    with pytest.raises(UserError, match="set --loop_repr_type fixed-res-polyline"):
        DatasetInfo.load(tmp_path, options.loop_repr_type)
    assert DatasetInfo.load(tmp_path / "nowhere", options.loop_repr_type) is None


def run_main(words, *launcher, **settings):
    return subprocess.run(
        [sys.executable, *launcher, str(ROOT / "loop_models_main.py"), *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        **settings,
    )


@pytest.mark.parametrize(
    "batch_size, options", [("4", VARIED), ("3", VARIED), ("3", RECIPE)], ids=["4", "3", "recipe"]
)
def test_two_processes_train_like_one(dataroot, tmp_path, batch_size, options):
    """gloo on the CPU; 10 shapes in batches of 4 or 3 leave last batches of 2 or 1."""
    more = ("--batch_size", batch_size, *options)
    train(small_options(dataroot, tmp_path / "one", *more))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = small_options(dataroot, tmp_path / "two", *more)
    finished = run_main(words, *launcher, env=environment)
    assert finished.returncode == 0, finished.stderr
    one, two = (log_lines(tmp_path / name / "loss_log.txt") for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=2e-4)
    assert finished.stdout.count("epoch 4/4") == 1
    assert len(list((tmp_path / "two").glob("events*"))) == 1
    # Adam turns the rounding of a gradient near zero into a step of either sign, so single weights
    # may differ; all of them together may not.
    weights = [
        torch.cat([value.flatten() for value in nets(tmp_path / name).values()])
        for name in ("one", "two")
    ]
    assert (weights[1] - weights[0]).norm() < 1e-3 * weights[0].norm()


NOTE_ITEMS = """
import os
import loop_models_main
from loopdraw.files import run_script
from loopdraw.model.training import Trainer

def shared_step(self, indices, noise, step=Trainer._shared_step):
    share = -(-len(indices) // 2)
    mine = indices[self.rank * share : (self.rank + 1) * share].tolist()
    with open(os.environ["NOTES"] + str(self.rank), "a") as notes:
        print(self.iteration, *mine, file=notes)
    return step(self, indices, noise)

Trainer._shared_step = shared_step
run_script(loop_models_main.main)
"""


def test_two_processes_without_a_seed_agree_on_one(dataroot, tmp_path):
    words = small_options(dataroot, tmp_path / "two")
    seed = words.index("--seed")
    del words[seed : seed + 2]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    rendezvous = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", NOTE_ITEMS, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                **rendezvous,
                **{"RANK": rank, "LOCAL_RANK": rank, "NOTES": str(tmp_path / "items-")},
            },
        )
        for rank in "01"
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    # Every item once an epoch, half of each batch by each process.
    epochs = {}
    for rank in "01":
        for line in (tmp_path / f"items-{rank}").read_text().splitlines():
            iteration, *items = map(int, line.split())
            epochs.setdefault(iteration // 3, []).extend(items)  # 10 shapes in batches of 4
    assert sorted(epochs) == [0, 1, 2, 3, 4]
    assert all(sorted(items) == list(range(10)) for items in epochs.values())
    # The seed that was drawn is told, kept, and gives the same run on one process.
    seed = parse_options(["--optfile", str(tmp_path / "two/opt.txt")]).seed
    assert f"seed {seed}" in outputs[0]
    train([*small_options(dataroot, tmp_path / "one"), "--seed", str(seed)])
    one, two = (log_lines(tmp_path / name / "loss_log.txt") for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=2e-4)


def test_bad_runs_are_one_line(dataroot, tmp_path):
    (tmp_path / "file").write_text("")
    good = small_options(dataroot, tmp_path / "run")
    cases = [
        ([], "--dataroot is missing"),
        (small_options(tmp_path / "nowhere", tmp_path / "run"), "no such dataset folder"),
        (small_options(dataroot, tmp_path / "file"), "cannot be written"),
        ([*good, "--mode", "test"], "no such checkpoint"),
        ([*good, "--load_epoch", "33"], "no such checkpoint"),
    ]
    for words, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            _main(words)
        assert "\n" not in str(caught.value)
    finished = run_main(cases[1][0])
    assert finished.returncode == 2 and finished.stdout == ""
    assert finished.stderr.count("\n") == 1 and finished.stderr.startswith("error: ")


def _main(words):
    arguments = sys.argv
    sys.argv = ["loop_models_main.py", *words]
    try:
        loop_models_main.main()
    finally:
        sys.argv = arguments


def test_checkpoint_of_another_size_or_dataset(dataroot, tmp_path):
    train(small_options(dataroot, tmp_path / "run"))
    other = [*small_options(dataroot, tmp_path / "run", "--load_epoch", "-1"), "--latent_size", "5"]
    with pytest.raises(UserError, match="of another architecture or size"):
        train(other)
    shorter = write_dataset(tmp_path / "other", n_train=1, n_test=0)
    cache = tmp_path / "other/train/preprocessed_cache.npz"
    with np.load(cache) as arrays:
        arrays = dict(arrays)
    arrays["meshes_reprs"] = arrays["meshes_reprs"][:, :-1]
    np.savez(cache, **arrays)
    (tmp_path / "run/dataset_info.npz").unlink()
    with pytest.raises(UserError, match="made for sequences of 10 timesteps.*--dataroot"):
        train(small_options(shorter, tmp_path / "run", "--load_epoch", "-1", "--niter", "9"))


def test_mixed_precision_trains_to_nearly_the_same_losses(dataroot, tmp_path):
    full = trainer_for(small_options(dataroot, tmp_path)).run_epoch(0)
    mixed = trainer_for(small_options(dataroot, tmp_path, "--amp")).run_epoch(0)
    assert full != mixed
    assert mixed == pytest.approx(full, rel=0.02)


def test_compile_needs_a_compiler(dataroot, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="--compile: no C\\+\\+ compiler 'no-such-compiler'"):
        trainer_for(small_options(dataroot, tmp_path, "--compile"))
