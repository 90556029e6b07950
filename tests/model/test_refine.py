"""Refined latents: never worse, a lower loss, bounded steps, each shape on its own; the words."""

import numpy as np
import pytest
import torch
from small_model import LATENT_SIZE, N_STEPS, small_model

from loopdraw.data.dataset import Batch
from loopdraw.evaluation.own_mesh import _reasons, nearness
from loopdraw.files import UserError
from loopdraw.model.refine import loop_errors, refine, shape_losses


def batch_of(model, n, seed=0):
    """The shapes of n random latents, of different lengths, and other latents to start from."""
    rng = np.random.default_rng(seed)
    sequences = model.decode(rng.standard_normal((n, LATENT_SIZE)))
    sequences[..., -1] = sequences[..., -1] > 0.5
    padding = torch.arange(N_STEPS + 1)[:, None] > torch.arange(N_STEPS, N_STEPS - n, -1)
    targets = torch.from_numpy(model.info.normalise(sequences).astype(np.float32)).transpose(0, 1)
    targets = targets.masked_fill(padding[1:, :, None], 0.0)
    start = torch.from_numpy(-model.info.dataset_mean / model.info.dataset_std).float()
    inputs = torch.cat([start.expand(1, n, -1), targets])
    z = torch.from_numpy(rng.standard_normal((n, LATENT_SIZE))).float()
    return Batch(inputs, targets, padding, None), z


KINDS = [("transformer", 1), ("transformer", 4), ("lstm", 0)]


@pytest.mark.parametrize("architecture, version", KINDS)
def test_never_worse_and_each_shape_on_its_own(architecture, version):
    model = small_model(architecture, version)
    batch, z = batch_of(model, 3)
    found = refine(model, batch, z, steps=24)
    assert found.steps == 24
    assert (found.errors <= found.errors_before).all()
    np.testing.assert_allclose(model.decode(found.z.cpu()), found.sequences, atol=1e-5)
    for i in range(3):
        single = Batch(*(part[:, i : i + 1] for part in batch[:3]), None)
        alone = refine(model, single, z[i : i + 1], steps=24)
        np.testing.assert_allclose(alone.z[0], found.z[i], atol=2e-3)


@pytest.mark.parametrize("architecture, version", KINDS)
def test_steps_lower_the_loss(architecture, version):
    from loopdraw.model.refine import descend

    model = small_model(architecture, version)
    batch, z = batch_of(model, 3)
    kept, _ = descend(model, batch, z, 40, 0.03, 0.0, float("inf"))
    with torch.no_grad():
        before, after = (shape_losses(model, batch, x) for x in (z, kept[-1]))
    assert (after < before).all()


def test_no_time_and_no_steps_leave_the_latent():
    model = small_model()
    batch, z = batch_of(model, 2)
    for limits in ({"steps": 0}, {"seconds": 0.0}):
        found = refine(model, batch, z, **limits)
        assert found.steps == 0
        assert torch.equal(found.z, z)


def test_it_works_in_inference_mode():
    model = small_model()
    with torch.inference_mode():
        batch, z = batch_of(model, 2)
        assert refine(model, batch, z, steps=3).steps == 3


def test_loop_errors_by_hand():
    model = small_model(flag_bias=5.0)
    true = model.decode(np.zeros((1, LATENT_SIZE)))
    assert loop_errors(model.info, true, true)[0] == 0
    assert loop_errors(model.info, true, np.full_like(true, np.nan))[0] == np.inf


def test_latents_of_another_size_are_refused():
    model = small_model()
    for shape in ((2 * LATENT_SIZE,), (1, LATENT_SIZE + 1), (1, 1, LATENT_SIZE)):
        with pytest.raises(UserError, match="a latent of this model is 4 numbers"):
            model.decode(np.zeros(shape))


@pytest.mark.parametrize(
    "excess, words", [(0.009, "the same"), (0.014, "a similar"), (0.016, "another")]
)
def test_nearness_in_words(excess, words):
    assert nearness(0.005 + excess, 0.005, 1.0) == f"{words} shape"
    assert nearness(2 * (0.005 + excess), 2 * 0.005, 2.0) == f"{words} shape"


def test_reasons():
    info = small_model().info
    near = dict(n_cut=0, n_met=info.n_planes, sides=np.ones(3), loss=0.1, fit=False)
    assert _reasons(info, **near) == []
    for change, text in (
        ({"n_cut": 3}, "3 loops were cut off"),
        ({"n_met": 2}, "lying on its side"),
        ({"n_met": info.n_planes - 1}, "1 plane misses it: try --fit"),
        ({"sides": np.full(3, 40.0)}, "longest side is 40, not about 1: try --fit"),
        ({"loss": 5.0}, "nothing like it"),
    ):
        (reason,) = _reasons(info, **near | change)
        assert text in reason
