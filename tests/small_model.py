"""A small untrained model, for tests of what is done with models."""

import types

import numpy as np
import torch

from loopdraw.data.dataset import DatasetInfo
from loopdraw.loops.geometry import make_planes
from loopdraw.loops.representations import REPRESENTATIONS, canonical_polyline
from loopdraw.model.vae import LoopSeqEncoderDecoderModel
from loopdraw.options import options_for, parse_options

N_STEPS, N_PLANES, LATENT_SIZE = 20, 14, 4
POLYLINE = REPRESENTATIONS["fixed-res-polyline"]
ELLIPSE = REPRESENTATIONS["ellipse-multiple"]
ANGLES = np.arange(200) * (2 * np.pi / 200)
EGG = np.stack([0.3 * np.cos(ANGLES) + 0.1, (0.2 + 0.03 * np.cos(ANGLES)) * np.sin(ANGLES)], axis=1)


def small_model(
    architecture="transformer", version=1, name="fixed-res-polyline", eos=False, flag_bias=None
):
    """An untrained model whose loops are rough circles (or specks, with `eos`).

    With a large `flag_bias` each loop lies in a plane of its own; a transformer takes it.
    """
    words = [
        *("--architecture", architecture, "--transformer_arch_version", str(version)),
        *("--loop_repr_type", name, "--latent_size", str(LATENT_SIZE), "--gpu_ids", "-1"),
        *("--dec_transformer_d_model", "16", "--dec_transformer_n_layers", "2"),
        *("--dec_transformer_ffwd_size", "16", "--enc_transformer_n_layers", "1"),
    ]
    if version == 4:
        words += ["--enc_fc_hidden_sizes", "16", "--dec_fc_hidden_sizes", "16"]
    representation = REPRESENTATIONS[name]
    circle = canonical_polyline(0.3 * EGG / np.abs(EGG).max()).ravel()
    mean = circle if representation.is_polyline else np.array([0.0, 0.0, 0.3, 0.2, 1.0])
    std = np.full(len(mean), 0.02)
    if eos:
        mean, std = 0 * mean, np.full(len(mean), 1e-4)
    if representation.has_flag:
        mean, std = np.append(mean, 0.0), np.append(std, 1.0)
    info = DatasetInfo(
        planes=make_planes("y", N_PLANES, -0.5, 0.5),
        dataset_mean=mean,
        dataset_std=std,
        n_timesteps=N_STEPS,
        representation=representation,
        use_eos_token=eos,
    )
    torch.manual_seed(3)
    model = LoopSeqEncoderDecoderModel(
        info, "cpu", **options_for(LoopSeqEncoderDecoderModel, parse_options(words))
    )
    if flag_bias is not None:
        with torch.no_grad():
            model.decoder.linear_dec_to_out.bias[-1] = flag_bias
    return model


def read_function(path):
    module = types.ModuleType("user_function")
    exec(compile(path.read_text(), path, "exec"), module.__dict__)
    return module.loop_generation_intervention
