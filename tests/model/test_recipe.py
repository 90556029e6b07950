"""Options of the recipe for version 4: optimizer, schedule, average, losses, variations, saving."""

import math
import os
import re
import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from small_dataset import small_options, write_dataset
from test_training import RECIPE, assert_same_nets, log_lines, nets, train, trainer_for

from loopdraw.checkpoints import load_state
from loopdraw.files import UserError
from loopdraw.model.networks.planned import at_joints, places
from loopdraw.model.optimizers import Muon, hidden_matrices, orthogonalise
from loopdraw.model.training import Trainer
from loopdraw.options import parse_options


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small", eos=True)


def test_orthogonalised_matrices_have_singular_values_of_about_one():
    torch.manual_seed(0)
    for shape in ((32, 48), (48, 32), (3, 40, 40)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert 0.4 < values.median() and values.max() < 1.3


def test_muon_takes_hidden_matrices_and_adamw_the_rest():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Linear(64, 5))
    reference = torch.nn.Linear(64, 5)
    reference.load_state_dict(network[1].state_dict())
    ours = Muon(network, 0.01, weight_decay=0.1)
    groups = [
        {"params": [reference.weight]},
        {"params": [reference.bias], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, 0.01, betas=(0.9, 0.98), weight_decay=0.1)
    assert hidden_matrices(network) == [network[0].weight]
    before = network[0].weight.detach().clone()
    for _ in range(3):
        x = torch.randn(7, 32)
        hidden = network[0](x).detach()
        for optimizer in (ours, theirs):
            optimizer.zero_grad()
        network(x).square().sum().backward()
        reference(hidden).square().sum().backward()
        reference.weight.grad.copy_(network[1].weight.grad)
        reference.bias.grad.copy_(network[1].bias.grad)
        ours.step()
        theirs.step()
        torch.testing.assert_close(network[1].weight, reference.weight)
        torch.testing.assert_close(network[1].bias, reference.bias)
    # Steps of the size of AdamW's: root mean square of about 0.2 times the learning rate.
    size = (network[0].weight.detach() - before).square().mean().sqrt()
    assert 0.1 * 0.01 < size < 3 * 0.3 * 0.01


@pytest.mark.parametrize("architecture", ["lstm", "transformer"])
def test_hidden_matrices_of_published_networks(dataroot, tmp_path, architecture):
    words = small_options(dataroot, tmp_path, "--architecture", architecture)
    words += ["--enc_transformer_d_model", "32", "--dec_transformer_d_model", "32"]
    words += ["--enc_transformer_ffwd_size", "32", "--optimizer", "muon"]
    trainer = trainer_for(words)
    names = {
        name
        for network in trainer.model.networks.values()
        for name, weight in network.named_parameters()
        if any(weight is hidden for hidden in hidden_matrices(network))
    }
    words = ("linear1", "attn") if architecture == "transformer" else ("weight_hh",)
    assert all(any(word in name for name in names) for word in words)
    assert not any("linear_in" in name or "to_out" in name or "weight_ih" in name for name in names)
    trainer.run_epoch(0)


def test_cosine_schedule(dataroot, tmp_path):
    words = small_options(dataroot, tmp_path, "--lr_schedule", "cosine", "--lr", "0.5")
    trainer = trainer_for([*words, "--niter", "0", "--niter_decay", "99"])
    assert trainer.n_epochs == 100 and trainer.n_batches == 3
    rates = [trainer.learning_rate_of(0, step) for step in range(301)]
    assert rates[0] == pytest.approx(0.5 / 100)
    assert rates[150] == pytest.approx(0.25) and rates[300] == pytest.approx(0)
    expected = 0.5 * 0.5 * (1 + math.cos(math.pi * 225 / 300))
    assert rates[225] == trainer.learning_rate_of(75) == pytest.approx(expected)
    assert int(np.argmax(rates)) == 99


def test_the_average_is_what_is_saved(dataroot, tmp_path):
    trainer = trainer_for(small_options(dataroot, tmp_path, "--ema", "0.9"))
    followed = {name: value.clone() for name, value in trainer.average.items()}
    steps = []
    real = trainer._update_average

    def update():
        real()
        step = len(steps) + 1
        decay = min(0.9, (1 + step) / (10 + step))
        for name, weight in trainer._weights().items():
            followed[name] = decay * followed[name] + (1 - decay) * weight.detach()
        steps.append(step)

    trainer._update_average = update
    trainer.run_epoch(0)
    trainer.run_epoch(1)
    trained = trainer._copy_of_weights()
    trainer.save(1, "latest")
    assert len(steps) == 6
    saved = nets(tmp_path)
    state = load_state(tmp_path / "latest_training_state.pth")
    for name, value in followed.items():
        torch.testing.assert_close(saved[name], value)
        assert torch.equal(state["weights"][name], trained[name])
        assert torch.equal(trainer._weights()[name], trained[name])
    name = "dec.linear_dec_to_out.weight"
    assert not torch.allclose(saved[name], trained[name], atol=1e-5)


def test_gradients_are_clipped_together(dataroot, tmp_path):
    norms = []
    for limit in ([], ["--clip_grad", "0.01"]):
        trainer = trainer_for(small_options(dataroot, tmp_path, *limit))
        for optimizer in trainer.optimizers.values():
            optimizer.step = lambda: None
            optimizer.zero_grad = lambda set_to_none: None
        trainer._optimize(trainer._batch(np.arange(4), True), torch.zeros(4, 4))
        gradients = [p.grad.flatten() for p in trainer.model.parameters()]
        norms.append(torch.cat(gradients).norm().item() / 100)  # of 100 times the loss
    assert norms[0] > 0.02 and norms[1] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("optimizer, default", [("adam", 0), ("adamw", 0.01), ("muon", 0.01)])
def test_weight_decay(dataroot, tmp_path, optimizer, default):
    words = small_options(dataroot, tmp_path, "--optimizer", optimizer)
    for more, expected in (([], default), (["--weight_decay", "0.2"], 0.2)):
        trainer = trainer_for([*words, *more])
        assert trainer.optimizers["enc"].param_groups[0]["weight_decay"] == expected


@pytest.mark.parametrize("practised", [0.0, 0.9])
def test_losses_of_version_4(dataroot, tmp_path, practised):
    words = [*small_options(dataroot, tmp_path), *RECIPE, "--practise_edits", f"{practised}"]
    trainer = trainer_for([*words, "--binary_flag_loss_weight", "0.7"])
    model, batch = trainer.model, trainer._batch(np.arange(5), True)
    assert (batch.told is not None) == (practised > 0)
    told = batch.told or batch
    with torch.no_grad():
        mu, _ = model.encoder(told.targets, told.padding[1:])
        flags = batch.targets[..., -1]
        outputs = model.decoder(batch.inputs[:-1], mu, next_flags=flags)
        planned = model.decoder.read_plan(model.decoder.plan(mu), told.targets[..., -1])
        ours, _ = model.losses(batch)
    n_present = (~batch.padding[1:]).sum()
    expected = 0.0
    for share, part, said in ((1.0, batch, outputs), (0.5, told, planned)):
        present = ~part.padding[1:]
        plane, number = places(part.targets[..., -1].t())
        weights = torch.where(number >= trainer.first_rare_number, 3.0, 1.0)
        joints = at_joints(plane, present.t(), model.info.n_planes)
        weights = (weights * torch.where(joints, 2.0, 1.0)).t()
        weights = weights / weights[present].mean()
        decided = present.clone()
        decided[0] = False
        if practised and part is batch:
            weights = weights * (batch.point_weights > 0)
            assert set(batch.flag_weights.unique().tolist()) == {0.0, 1.0}
            decided &= batch.flag_weights > 0
        errors = (said[..., :-1] - part.targets[..., :-1]).abs().mean(dim=-1)
        expected += share * (errors * weights)[present].sum() / n_present
        entropy = F.binary_cross_entropy_with_logits(
            said[..., -1][decided], part.targets[..., -1][decided], reduction="sum"
        )
        expected += share * 0.7 * entropy / n_present
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_varied_batches_end_where_their_loops_do(dataroot, tmp_path):
    trainer = trainer_for([*small_options(dataroot, tmp_path), *RECIPE])
    trainer.generator.manual_seed(3)
    batch = trainer._batch(np.arange(10), True)
    assert batch.inputs.shape == (len(batch.targets) + 1, 10, 65)
    info = trainer.dataset.info
    for i in range(10):
        length = int((~batch.padding[1:, i]).sum())
        assert not batch.padding[:length, i].any() and (batch.targets[length:, i] == 0).all()
        sequence = info.unnormalise(batch.targets[:length, i].numpy())
        np.testing.assert_allclose(sequence[-1], [0] * 64 + [1], atol=1e-5)
        assert (np.abs(sequence[:-1, :-1]).max(axis=1) > 0.05).all()
    assert torch.equal(batch.inputs[1:, :, -1], batch.targets[..., -1])


def test_options_that_do_not_fit():
    for words, message in (
        (["--vary_spacing", "1"], "--vary_spacing changes lengths"),
        (["--mirror_planes"], "--mirror_planes changes lengths"),
        (["--rare_loops_weight", "2"], "--transformer_arch_version 4"),
        (["--joints_weight", "2"], "--joints_weight needs --transformer_arch_version 4"),
        (["--practise_edits", "0.5"], "--practise_edits needs --transformer_arch_version 4"),
        (["--order_ties", "--loop_repr_type", "ellipse-multiple"], "--order_ties needs"),
    ):
        with pytest.raises(UserError, match=message):
            parse_options(["--loop_repr_type", "fixed-res-polyline", *words])


def test_bucketed_batches_need_a_full_one(dataroot, tmp_path):
    words = small_options(dataroot, tmp_path, "--bucket_batches", "--batch_size", "11")
    with pytest.raises(UserError, match="--bucket_batches needs at least one full batch"):
        trainer_for(words)


@pytest.mark.parametrize("more", [["--whiten_latents"], RECIPE])
def test_how_often_one_saves_changes_nothing(dataroot, tmp_path, more):
    for every in ("1", "10"):
        train(small_options(dataroot, tmp_path / every, *more, "--save_every", every))
    assert_same_nets(nets(tmp_path / "1"), nets(tmp_path / "10"))
    first, second = (tmp_path / every / "loss_log.txt" for every in ("1", "10"))
    assert first.read_text() == second.read_text()
    assert [line[0] for line in log_lines(tmp_path / "1/test_log.txt")] == [0, 1, 2, 3, 4]
    assert [line[0] for line in log_lines(tmp_path / "10/test_log.txt")] == [4]


@pytest.mark.parametrize(
    "number, words, error, status",
    [
        (signal.SIGINT, "Ctrl-C: .*; press it again", KeyboardInterrupt, ""),
        (signal.SIGTERM, "SIGTERM: .*; send it again", SystemExit, "143"),
    ],
    ids=["ctrl_c", "sigterm"],
)
def test_stopping_saves_at_the_end_of_the_epoch(
    dataroot, tmp_path, capsys, monkeypatch, number, words, error, status
):
    real, pressed = Trainer._step, []
    before, message = signal.getsignal(number), words

    def step(self, *arguments):
        if self.iteration == 7 and not pressed:
            pressed.append(True)
            os.kill(os.getpid(), number)
        return real(self, *arguments)

    train(small_options(dataroot, tmp_path / "whole"))
    monkeypatch.setattr(Trainer, "_step", step)
    words = small_options(dataroot, tmp_path / "part")
    with pytest.raises(error) as ended:
        train(words)
    assert str(ended.value) == status and signal.getsignal(number) is before
    output = capsys.readouterr().out
    assert re.search(f"{message} to stop at once", output)
    assert "stopping at the end of this epoch" in output
    assert "has all up to epoch 2 of 4; --load_epoch -1 and the same options go on" in output
    assert load_state(tmp_path / "part/latest_training_state.pth")["epoch"] == 2
    monkeypatch.setattr(Trainer, "_step", real)
    train([*words, "--load_epoch", "-1"])
    assert_same_nets(nets(tmp_path / "whole"), nets(tmp_path / "part"))


def test_a_second_ctrl_c_stops_at_once(dataroot, tmp_path, monkeypatch):
    def step(self, *_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        train(small_options(dataroot, tmp_path))
    assert not (tmp_path / "enclatest_net.pth").exists()


@pytest.mark.parametrize("more", [[], RECIPE])
def test_what_a_kill_between_two_saves_left_out_is_completed(dataroot, tmp_path, more):
    words = small_options(dataroot, tmp_path, *more)
    train(words)
    log = tmp_path / "test_log.txt"
    whole, complete = nets(tmp_path, "4"), log.read_text()
    for path in tmp_path.glob("*4_*.pth"):
        path.unlink()
    log.unlink()
    train([*words, "--load_epoch", "-1"])
    assert_same_nets(nets(tmp_path, "4"), whole)
    assert (tmp_path / "4_training_state.pth").exists()
    assert log.read_text() == complete
    # Not so where another number of epochs is asked for.
    train([*words, "--niter", "0", "--load_epoch", "-1"])
    assert not (tmp_path / "enc2_net.pth").exists()


def test_a_missing_line_of_the_test_log_is_completed_midway(dataroot, tmp_path):
    words = small_options(dataroot, tmp_path, "--save_every", "2")
    train([*words, "--niter", "0"])
    log = tmp_path / "test_log.txt"
    complete = log.read_text()
    log.write_text("".join(complete.splitlines(keepends=True)[:-1]))
    train([*words, "--load_epoch", "-1"])
    assert log.read_text().startswith(complete)


@pytest.mark.parametrize("name, epochs", [("vases", 40), ("sofas", 110)])
def test_optfiles_of_the_demo_models(name, epochs):
    options = parse_options(["--optfile", str(ROOT / f"demo-{name}-optfile.txt")])
    assert options.niter + options.niter_decay + 1 == epochs
    beta = options.enc_kl_weight * options.batch_size / options.latent_size  # a nat
    assert beta == pytest.approx(5e-5)
    assert options.order_ties
    assert options.mirror_planes is (name == "sofas")
