"""Decoding latents to sequences: together, one by one, and to their ends."""

import numpy as np
import pytest
import torch
from small_dataset import small_options, write_dataset

from loopdraw.data.dataset import load_datasets
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
        train.info, "cpu", **options_for(LoopSeqEncoderDecoderModel, options)
    )


def test_batch_and_single_agree_and_ends_are_cut(dataroot):
    model = make_model(dataroot)
    latents = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    whole = model.decode(latents, full_length=True)
    cut = model.decode(latents)
    single = np.concatenate([model.decode(latent) for latent in latents])
    np.testing.assert_allclose(cut, single, atol=1e-5)
    for ours, full in zip(cut, whole, strict=True):
        length = int(np.flatnonzero(ours.any(axis=1))[-1]) + 1
        np.testing.assert_allclose(ours[:length], full[:length], atol=1e-5)
        assert not ours[length:].any()
