"""Decoding and training, ours against the plain versions, at the published settings."""

import functools
import time

import plain
import torch
from measuring import Row, median_seconds, paired
from setups import N_TIMESTEPS, dataset_of, model_of, options_of
from torch.utils.flop_counter import FlopCounterMode

from loopdraw.model.training import Trainer
from loopdraw.options import options_for


def decoding(folder, repeats, device="cpu"):
    """Rows on decoding at the vases settings, all 91 steps."""
    where = "" if device == "cpu" else f", {device}"
    names = {
        n: f"decode one shape{where}" if n == 1 else f"decode {n} shapes together, per shape{where}"
        for n in ((1, 64) if device == "cpu" else (1, 64, 1024))
    }
    goals = {1: 8, 64: 60} if device == "cpu" else {}
    if device == "cuda" and not torch.cuda.is_available():
        return [Row(what, "s", note="no GPU here") for what in names.values()]
    model = model_of(options_of("vases", folder, device), dataset_of(folder).info)
    decoder = plain.PlainDecoder(model.decoder).eval()
    latents = torch.randn(max(names), model.latent_size)
    first = latents[:1].to(model.device)
    n_features = model.info.representation.n_features
    rows = []
    for n, what in names.items():
        ours, theirs, ratio = paired(
            functools.partial(model.decode, latents[:n], full_length=True),
            lambda: plain.decode(decoder, first, N_TIMESTEPS, n_features).cpu(),
            repeats,
        )
        row = Row(what, "s", ours / n, theirs, ratio * n)
        if n in goals:
            row.goal, row.met = f"≥ {goals[n]} ×", row.ratio >= goals[n]
        rows.append(row)
    return rows


def training(folder, repeats, settings="vases", device="cpu", full_length=False):
    """The row on a training step, both sides on the same batches."""
    where = "" if device == "cpu" else f", {device}"
    kind = ", no padding" if full_length else ""
    row = Row(f"training step, {settings}{kind}{where}", "s")
    least = 1.3 if device == "cpu" else 5.0
    row.goal = "" if full_length else f"≥ {least:g} ×"
    if device == "cuda" and not torch.cuda.is_available():
        row.note = "no GPU here"
        return row
    ours, theirs, n_steps = _both_trainings(folder, settings, device, full_length)
    row.ours, row.plain, row.ratio = paired(ours, theirs, repeats)
    row.ours, row.plain = row.ours / n_steps, row.plain / n_steps
    row.met = None if full_length else row.ratio >= least
    return row


def training_on_one_core(folder, repeats):
    """Rows on the processor time of a training step, and how near it comes to the core's limit.

    What other programs take does not count in it, though they do slow it down.
    """
    n_threads, clock, least = torch.get_num_threads(), time.process_time, 1.6
    torch.set_num_threads(1)
    try:
        ours, theirs, n_steps = _both_trainings(folder, "vases")
        step, plain_step, ratio = paired(ours, theirs, repeats, clock)
        with FlopCounterMode(display=False) as counter:
            ours()
        a, b = torch.randn(2, 1024, 1024)
        product = median_seconds(lambda: a @ b, 4 * repeats, clock)
    finally:
        torch.set_num_threads(n_threads)
    row = Row("processor time of such a step on one core", "s", goal=f"≥ {least:g} ×")
    row.ours, row.plain, row.ratio = step / n_steps, plain_step / n_steps, ratio
    row.met = ratio >= least
    share = (counter.get_total_flops() / step) / (2 * 1024**3 / product)
    return [row, Row("floating-point rate of it, of a large product's", "share", share)]


def _both_trainings(folder, settings, device="cpu", full_length=False):
    """Functions that train an epoch, ours and plainly, on the same batches.

    Returns
    -------
    ours, theirs : function
    n_steps : int, of an epoch
    """
    options = options_of(settings, folder, device)
    options.compile = device == "cuda"
    dataset = dataset_of(folder, full_length)
    model = model_of(options, dataset.info)
    training = plain.PlainTraining(model, dataset, options.lr)
    trainer = Trainer(model, dataset, **options_for(Trainer, options))
    size = min(options.batch_size, len(dataset))
    batches = [batch for batch in torch.arange(len(dataset)).split(size) if len(batch) == size]
    dataset.shuffled = lambda *_: batches

    def theirs():
        for batch in batches:
            noise = torch.randn(len(batch), model.latent_size).to(model.device)
            training.step(batch.tolist(), noise)

    return lambda: trainer.run_epoch(0), theirs, len(batches)


def limits(folder, repeats):
    """What this machine can do at most: list of (what, 1, seconds)."""
    values = torch.randn(2**28 // 4)  # 0.27 GB, more than any cache holds
    reading = median_seconds(values.sum, repeats) / (values.nbytes / 1e9)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    multiplying = median_seconds(lambda: a @ b, repeats) / (2 * 1024**3 / 1e9)
    return [
        ("limit: read memory, GB", 1, reading),
        ("limit: matrix products, Gflop", 1, multiplying),
    ]


def decoding_scaling(folder, repeats):
    """How decoding grows with timesteps and with shapes: list of (what, number, seconds)."""
    found = []
    info = dataset_of(folder).info
    options = options_of("vases", folder)
    for n_steps in (23, 46, 91, 182, 364):
        info.n_timesteps = n_steps
        model = model_of(options, info)
        latent = torch.randn(1, model.latent_size)
        decode = functools.partial(model.decode, latent, full_length=True)
        found.append(("decode one shape, timesteps", n_steps, median_seconds(decode, repeats)))
    info.n_timesteps = N_TIMESTEPS
    model = model_of(options, info)
    for n in (1, 2, 4, 8, 16, 64, 256):
        latents = torch.randn(n, model.latent_size)
        decode = functools.partial(model.decode, latents, full_length=True)
        seconds = median_seconds(decode, max(2, repeats // 2))
        found.append(("decode together, shapes (time per shape)", n, seconds / n))
    return found


def training_scaling(folder, repeats):
    """How a training step grows with the batch: list of (what, batch size, seconds)."""
    found = []
    for n in (1, 2, 4, 8, 16):
        dataset = dataset_of(folder, full_length=True)
        options = options_of("vases", folder)
        trainer = Trainer(model_of(options, dataset.info), dataset, **options_for(Trainer, options))
        batch = torch.arange(n) % len(dataset)
        dataset.shuffled = lambda *_, batch=batch: [batch]
        seconds = median_seconds(lambda trainer=trainer: trainer.run_epoch(0), repeats)
        found.append(("training step, full-length batch of", n, seconds))
    return found
