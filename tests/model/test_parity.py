"""Agreement of model, losses and decoding with the published program's recorded outputs."""

import numpy as np
import pytest
import torch
from conftest import PARITY

from loopdraw.data.dataset import Batch, load_datasets
from loopdraw.model.vae import LoopSeqEncoderDecoderModel
from loopdraw.options import options_for, parse_options

CASES = sorted(path.parent.name for path in PARITY.glob("*/expected.npz"))


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """The options, dataset, model and expected arrays of one published checkpoint."""
    options = parse_options(["--optfile", str(PARITY / request.param / "arguments.txt")])
    kind = "ellipse" if options.loop_repr_type == "ellipse-multiple" else "polyline"
    options.dataroot = str(PARITY / f"data-{kind}")
    train = load_datasets(**options_for(load_datasets, options))["train"]
    model = LoopSeqEncoderDecoderModel(
        train.info, "cpu", **options_for(LoopSeqEncoderDecoderModel, options)
    )
    model.load(PARITY / request.param, -1)
    with np.load(PARITY / request.param / "expected.npz") as arrays:
        return options, train, model, dict(arrays)


def test_cases_are_all_there():
    versions = {f"transformer-v{version}" for version in range(4)}
    others = {"lstm-transformer", "pointnet-transformer"}
    assert versions | others | {"transformer-v1-ellipse", "transformer-v1-fourier"} == set(CASES)


def test_statistics_and_first_batch(case):
    options, train, _, expected = case
    # The caches hold float32 in memory, the expected arrays were computed in float64.
    np.testing.assert_allclose(train.dataset_mean, expected["mean"], atol=1e-6)
    np.testing.assert_allclose(train.dataset_std, expected["std"], atol=1e-6)
    batch = train.batch(range(options.batch_size))
    np.testing.assert_allclose(batch.inputs, expected["batch_input"], atol=2e-5)
    np.testing.assert_allclose(batch.targets, expected["batch_target"], atol=2e-5)
    np.testing.assert_array_equal(batch.padding, expected["batch_padding"])
    if batch.point_clouds is not None:
        np.testing.assert_allclose(batch.point_clouds, expected["batch_point_clouds"], atol=1e-6)


def test_losses(case):
    _, _, model, expected = case
    clouds = expected.get("batch_point_clouds")
    batch = Batch(
        torch.from_numpy(expected["batch_input"]).float(),
        torch.from_numpy(expected["batch_target"]).float(),
        torch.from_numpy(expected["batch_padding"]),
        None if clouds is None else torch.from_numpy(clouds).float(),
    )
    with torch.inference_mode():
        reconstruction, kl = model.losses(batch)
    assert float(reconstruction) == pytest.approx(float(expected["reconstruction_loss"]), rel=2e-5)
    assert float(model.kl_loss(kl)) == pytest.approx(float(expected["kl_loss"]), rel=2e-5)


@pytest.fixture
def decoding_case(case):
    """Model, latents, expected sequences, and how many of their timesteps can be compared.

    Decoding with Fourier features is chaotic: rounding, which differs between processors, grows
    some tenfold a step. Past its first steps that case is compared in `test_networks.py`, where
    every step goes on from the recorded ones.
    """
    options, _, model, expected = case
    n_steps = 3 if options.fourier_map_size else len(expected["decoded"][0])
    return model, expected["latents"], expected["decoded"][:, :n_steps], n_steps


def test_decoded_sequences(decoding_case):
    model, latents, expected, n_steps = decoding_case
    together = model.decode(latents, full_length=True)
    one_by_one = np.concatenate([model.decode(latent, full_length=True) for latent in latents])
    np.testing.assert_allclose(together[:, :n_steps], expected, atol=1e-4)
    np.testing.assert_allclose(one_by_one[:, :n_steps], expected, atol=1e-4)


def test_an_ended_sequence_is_the_start_of_the_whole_one(decoding_case):
    model, latents, expected, n_steps = decoding_case
    for ours, whole in zip(model.decode(latents), expected, strict=True):
        length = min(n_steps, int(np.flatnonzero(ours.any(axis=1))[-1]) + 1)
        np.testing.assert_allclose(ours[:length], whole[:length], atol=1e-4)
        assert n_steps == 3 or not ours[length:].any()
