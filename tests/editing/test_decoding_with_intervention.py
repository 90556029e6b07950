"""Decoding with a user's intervention function: what it sees, may return, and changes."""

import numpy as np
import pytest
import torch
from small_dataset import small_options, write_dataset

from loopdraw.data.dataset import load_datasets
from loopdraw.editing.interventions import decode_with_intervention
from loopdraw.files import UserError
from loopdraw.model.vae import LoopSeqEncoderDecoderModel
from loopdraw.options import options_for, parse_options


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


def make_model(dataroot, *more):
    options = parse_options(small_options(dataroot, "unused", *more))
    train = load_datasets(**options_for(load_datasets, options))["train"]
    torch.manual_seed(3)
    return LoopSeqEncoderDecoderModel(
        train.info, **options_for(LoopSeqEncoderDecoderModel, options)
    )


@pytest.fixture(scope="module")
def model(dataroot):
    return make_model(dataroot)


LATENT = np.array([[0.3, -1.0, 0.5, 2.0]], dtype=np.float32)


def test_a_function_that_changes_nothing_changes_nothing(model):
    def leave(dataset, ts_i_state, ts):
        ts_i_state.modify(lambda i: i + 1)
        return ts

    plain = model.decode(LATENT)[0]
    np.testing.assert_allclose(decode_with_intervention(model, LATENT, leave), plain, atol=1e-6)


def test_what_the_function_sees(model):
    seen = []

    def look(dataset, ts_i_state, ts):
        assert ts.shape == (1, 65) and ts.dtype == torch.float32
        np.testing.assert_array_equal(dataset.dataset_mean, model.info.dataset_mean)
        np.testing.assert_array_equal(dataset.dataset_std, model.info.dataset_std)
        assert ts_i_state.retrieve("latent_size") == 4
        np.testing.assert_array_equal(ts_i_state.retrieve("latent_z").numpy(), LATENT)
        ts_i_state.store("count", ts_i_state.retrieve("count") + 1 if ts_i_state() else 1)
        assert ts_i_state.retrieve("count") == ts_i_state() + 1
        assert 0 <= float(ts[0, -1]) <= 1
        seen.append(ts_i_state())
        ts_i_state.put(ts_i_state() + 1)
        return ts

    # Two shapes: the state starts anew for each.
    for _ in range(2):
        decode_with_intervention(model, LATENT, look)
    assert seen == list(range(10)) * 2


def test_an_edited_loop_changes_all_that_follow_and_none_before(model):
    def shift(dataset, ts_i_state, ts):
        i = ts_i_state()
        ts_i_state.modify(lambda i: i + 1)
        if i != 4:
            return ts
        edited = ts.numpy() * dataset.dataset_std + dataset.dataset_mean
        edited[0, 0:64:2] += 0.2
        return (edited - dataset.dataset_mean) / dataset.dataset_std  # a float64 array

    plain = model.decode(LATENT)[0]
    edited = decode_with_intervention(model, LATENT, shift)
    np.testing.assert_allclose(edited[:4], plain[:4], atol=1e-6)
    np.testing.assert_allclose(edited[4, 0:64:2], plain[4, 0:64:2] + 0.2, atol=1e-5)
    np.testing.assert_allclose(edited[4, 1:64:2], plain[4, 1:64:2], atol=1e-5)
    both = slice(5, min(map(np.count_nonzero, (plain.any(axis=1), edited.any(axis=1)))))
    assert both.stop >= 7
    assert (np.abs(edited - plain)[both].max(axis=1) > 1e-6).all()


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_a_new_latent_conditions_all_further_steps(dataroot, version):
    model = make_model(dataroot, "--transformer_arch_version", version)
    other = -LATENT

    def switch(dataset, ts_i_state, ts):
        ts_i_state.modify(lambda i: i + 1)
        if ts_i_state() == 6:
            return ts, lambda z: torch.from_numpy(other)
        return ts

    def replay(dataset, ts_i_state, ts):
        """The same loops up to the switch, decoded with the other latent from the start."""
        ts_i_state.modify(lambda i: i + 1)
        i = ts_i_state() - 1
        if i < 6:
            given = (switched[i] - dataset.dataset_mean) / dataset.dataset_std
            return torch.from_numpy(given)[None]
        return ts

    plain = model.decode(LATENT)[0]
    switched = decode_with_intervention(model, LATENT, switch).astype(np.float64)
    np.testing.assert_allclose(switched[:6], plain[:6], atol=1e-6)
    assert np.abs(switched[6:] - plain[6:]).max() > 1e-4
    replayed = decode_with_intervention(model, other, replay)
    np.testing.assert_allclose(switched, replayed, atol=1e-5)


def test_arch_version_0_says_that_it_cannot(dataroot):
    model = make_model(dataroot, "--transformer_arch_version", "0")
    with pytest.raises(UserError, match="arch version 0 cannot change its latent"):
        decode_with_intervention(model, LATENT, lambda dataset, state, ts: (ts, lambda z: z))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda ts: ts[:, :10], "timestep of loop 0 of shape \\(1, 10\\)"),
        (lambda ts: ts * float("nan"), "timestep of loop 0 that is not finite"),
        (lambda ts: (ts, lambda z: z[:, :2]), "latent after loop 0 of shape \\(1, 2\\)"),
    ],
)
def test_unusable_answers(model, answer, message):
    with pytest.raises(UserError, match=message):
        decode_with_intervention(model, LATENT, lambda dataset, state, ts: answer(ts))


def test_the_loops_that_the_function_changed_are_noted(model):
    def shift(dataset, ts_i_state, ts):
        i = ts_i_state()
        ts_i_state.modify(lambda i: i + 1)
        if i in (2, 5):
            ts += 0.1  # in place
        return ts * (1 + 1e-7)

    edited = set()
    decode_with_intervention(model, LATENT, shift, edited=edited)
    assert edited == {2, 5}


def test_a_latent_of_another_size_is_refused(model):
    with pytest.raises(UserError, match="4 finite numbers, and 8 were given"):
        decode_with_intervention(model, np.zeros(8), lambda dataset, state, ts: ts)
