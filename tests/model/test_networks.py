"""Networks: agreement with the published checkpoints, and step by step with the whole sequence."""

import functools
import math

import numpy as np
import pytest
import torch
from conftest import PARITY
from torch import nn

from loopdraw.model.networks import packed
from loopdraw.model.networks.encoders import ARCHITECTURES, build_decoder, build_encoder
from loopdraw.model.networks.layers import FourierMap, PositionalEmbedding, TransformerLayer
from loopdraw.model.networks.planned import Block
from loopdraw.model.vae import kl_divergence, reconstruction_loss

ENCODER = dict(fc_hidden_sizes=[16], d_model=48, n_layers=2, n_heads=2, ffwd_size=64)
DECODER = dict(fc_hidden_sizes=[16, 24], d_model=48, n_layers=3, n_heads=4, ffwd_size=80)
CASES = {
    "lstm-transformer": ("lstm+transformer", dict(lstm_hidden_size=40, lstm_n_layers=2)),
    "pointnet-transformer": ("pointnet+transformer", dict(transformer_arch_version=1)),
    "transformer-v0": ("transformer", dict(transformer_arch_version=0)),
    "transformer-v1": ("transformer", dict(transformer_arch_version=1)),
    "transformer-v1-ellipse": ("transformer", dict(transformer_arch_version=1)),
    "transformer-v1-fourier": (
        "transformer",
        dict(transformer_arch_version=1, fourier_map_size=6, fourier_map_sigma=2.0),
    ),
    "transformer-v2": ("transformer", dict(transformer_arch_version=2)),
    "transformer-v3": ("transformer", dict(transformer_arch_version=3)),
}

# Every kind of decoder, small, with random weights.
DECODERS = {
    "lstm": ("lstm", dict(lstm_hidden_size=10, lstm_n_layers=3)),
    "lstm+transformer": ("lstm+transformer", dict(lstm_hidden_size=10, lstm_n_layers=1)),
    "v0": ("transformer", dict(transformer_arch_version=0)),
    "v1": ("transformer", dict(transformer_arch_version=1)),
    "v1-one-head": ("transformer", dict(transformer_arch_version=1, n_heads=1)),
    "v1-fourier": ("transformer", dict(transformer_arch_version=1, fourier_map_size=3)),
    "v2": ("transformer", dict(transformer_arch_version=2)),
    "v3": ("transformer", dict(transformer_arch_version=3)),
    "pointnet-v2": ("pointnet+transformer", dict(transformer_arch_version=2)),
}
RECONDITIONABLE = [name for name in DECODERS if name != "v0"]
T, N_FEATURES, LATENT = 9, 7, 4


@functools.cache
def published(name):
    """Encoder, decoder, their state dicts and the expected arrays of one recorded case."""
    architecture, settings = CASES[name]
    with np.load(PARITY / name / "expected.npz") as arrays:
        expected = {key: torch.from_numpy(value) for key, value in arrays.items()}
    n_features = expected["batch_target"].shape[2]
    sizes = dict(n_features=n_features, max_length=27, latent_size=8)
    networks = (
        build_encoder(architecture, **sizes, **ENCODER, pointnet_hidden_size=24),
        build_decoder(architecture, **sizes, **DECODER, **settings, has_flag=True),
    )
    state_dicts = []
    for network, prefix in zip(networks, ("enc", "dec"), strict=True):
        path = PARITY / name / f"{prefix}latest_net.pth"
        state_dicts.append(torch.load(path, weights_only=True))
        network.load_state_dict(state_dicts[-1], strict=True)
        network.eval()
    return *networks, state_dicts, expected


def small_decoder(name, **more):
    """A decoder of `DECODERS` in float64, in evaluation mode."""
    torch.manual_seed(3)
    architecture, settings = DECODERS[name]
    settings = dict(d_model=12, n_heads=3, n_layers=2, ffwd_size=10) | settings | more
    sizes = dict(n_features=N_FEATURES, max_length=T, latent_size=LATENT, has_flag=True)
    return build_decoder(architecture, **sizes, fc_hidden_sizes=[6], **settings).double().eval()


def small_encoder(architecture, **more):
    torch.manual_seed(4)
    settings = dict(d_model=12, n_heads=2, n_layers=2, ffwd_size=10) | more
    settings |= dict(lstm_hidden_size=9, pointnet_hidden_size=6, fc_hidden_sizes=[6])
    sizes = dict(n_features=N_FEATURES, max_length=T, latent_size=LATENT)
    return build_encoder(architecture, **sizes, **settings).double().eval()


def random_case(n_rows):
    """Inputs (T, B, F) after a zero start step, and latents (B, L)."""
    inputs = torch.randn(T, n_rows, N_FEATURES, dtype=torch.float64)
    inputs[0] = 0
    return inputs, torch.randn(n_rows, LATENT, dtype=torch.float64)


def take_steps(decoder, state, inputs):
    """Outputs (len(inputs), B, F) of as many steps."""
    return torch.stack([decoder.step(state, x) for x in inputs])


def decode(decoder, z, n_steps, n_features):
    """Generated timesteps (B, T, F), normalised."""
    state = decoder.begin(z)
    x = torch.zeros(len(z), n_features)
    timesteps = []
    for _ in range(n_steps):
        x = decoder.step(state, x)
        x[:, -1].sigmoid_()
        timesteps.append(x.clone())
    return torch.stack(timesteps, dim=1)


def assert_close(ours, theirs, rtol=0.0, atol=1e-12):
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol, check_dtype=False)


# ------------------------------------------------------------- agreement with what was published


@pytest.mark.parametrize("name", CASES)
def test_state_dicts_have_the_published_names_shapes_and_order(name):
    encoder, decoder, state_dicts, _ = published(name)
    for network, theirs in zip((encoder, decoder), state_dicts, strict=True):
        ours = network.state_dict()
        assert list(ours) == list(theirs)
        assert [value.shape for value in ours.values()] == [v.shape for v in theirs.values()]
        # The positional table is computed, the rest comes from the file.
        for key, value in theirs.items():
            assert torch.equal(ours[key], value), key


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("lstm")])
def test_positional_table_is_the_published_one(name):
    theirs = published(name)[2][1]["positional_embedding.positional_embedding_additives"]
    assert_close(PositionalEmbedding(28, 48).positional_embedding_additives, theirs, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_encoders_agree(name):
    encoder, _, _, expected = published(name)
    with torch.inference_mode():
        if name.startswith("pointnet"):
            mu, log_sigma_squared = encoder(expected["batch_point_clouds"].float())
        else:
            padding = expected["batch_padding"][1:]
            mu, log_sigma_squared = encoder(expected["batch_target"].float(), padding)
    assert_close(mu, expected["encoder_mu"], rtol=1e-5, atol=1e-5)
    assert_close(log_sigma_squared, expected["encoder_log_sigma_squared"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_teacher_forced_outputs_agree(name):
    _, decoder, _, expected = published(name)
    inputs, z = expected["batch_input"].float()[:-1], expected["encoder_mu"]
    padding = expected["batch_padding"]
    tolerance = dict(rtol=1e-5, atol=2e-5)
    with torch.inference_mode():
        outputs = decoder(inputs, z, padding[:-1])
        assert_close(outputs, expected["teacher_forced"], **tolerance)
        present = ~padding[1:]
        outputs = decoder(inputs, z)
        assert_close(outputs[present], expected["teacher_forced"][present], **tolerance)


@pytest.mark.parametrize("name", CASES)
def test_losses_of_the_published_outputs(name):
    """The formula of the losses, from recorded outputs: what counts as a timestep, and how much."""
    expected = published(name)[3]
    present = (~expected["batch_padding"][1:]).float()
    reconstruction = reconstruction_loss(
        expected["teacher_forced"],
        expected["batch_target"].float(),
        present,
        present.sum(),
        has_flag=True,
        loss_type="l1" if name == "transformer-v2" else "l2",
        flag_weight=0.5 if name == "transformer-v1-ellipse" else 1.0,
    )
    assert_close(reconstruction, expected["reconstruction_loss"], rtol=1e-5)

    kl = kl_divergence(expected["encoder_mu"], expected["encoder_log_sigma_squared"])
    assert_close(0.1 * kl.clamp(min=0.05), expected["kl_loss"], rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if "fourier" not in name])
def test_decoded_sequences_agree(name):
    _, decoder, _, expected = published(name)
    latents, decoded = expected["latents"].float(), expected["decoded"]
    n_steps, n_features = decoded.shape[1:]
    with torch.inference_mode():
        together = decode(decoder, latents, n_steps, n_features)
        alone = torch.cat([decode(decoder, z[None], n_steps, n_features) for z in latents])
    for timesteps in (together, alone):
        assert_close(timesteps * expected["std"] + expected["mean"], decoded, atol=1e-4)


def test_decoding_with_fourier_features_agrees_step_by_step():
    """Such a sequence hangs on the last bit of every sum, so each step goes on from the record."""
    _, decoder, _, expected = published("transformer-v1-fourier")
    decoded = expected["decoded"]
    recorded = ((decoded - expected["mean"]) / expected["std"]).float()  # (B, T, F)
    inputs = torch.cat([torch.zeros_like(recorded[:, :1]), recorded[:, :-1]], dim=1)
    with torch.inference_mode():
        state = decoder.begin(expected["latents"].float())
        outputs = take_steps(decoder, state, inputs.transpose(0, 1)).transpose(0, 1)
        outputs[..., -1].sigmoid_()
    assert_close(outputs * expected["std"] + expected["mean"], decoded, atol=1e-4)


def test_decoding_with_fourier_features_is_the_same_alone_and_in_a_batch():
    _, decoder, _, expected = published("transformer-v1-fourier")
    latents = expected["latents"].float()
    with torch.inference_mode():
        together = decode(decoder, latents, 8, decoder.n_features)
        alone = torch.cat([decode(decoder, z[None], 8, decoder.n_features) for z in latents])
    assert torch.equal(together, alone)


# ------------------------------------------------------------------- steps and whole sequences


@pytest.mark.parametrize("n_rows", [1, 3, 10])
@pytest.mark.parametrize("name", DECODERS)
def test_steps_give_what_the_whole_sequence_gives(name, n_rows):
    decoder = small_decoder(name)
    inputs, z = random_case(n_rows)
    with torch.inference_mode():
        whole = decoder(inputs, z)
        state = decoder.begin(z)
        assert_close(take_steps(decoder, state, inputs), whole)
    assert state.length == T


@pytest.mark.parametrize("name", DECODERS)
def test_steps_build_no_graph(name):
    decoder = small_decoder(name)
    inputs, z = random_case(2)
    assert not take_steps(decoder, decoder.begin(z), inputs[:6]).requires_grad


@pytest.mark.parametrize("name", DECODERS)
def test_rewound_state_goes_on_as_if_freshly_decoded(name):
    decoder = small_decoder(name)
    inputs, z = random_case(2)
    edited = inputs.clone()
    edited[4:] += 1
    with torch.inference_mode():
        fresh = take_steps(decoder, decoder.begin(z), edited)
        state = decoder.begin(z)
        before = take_steps(decoder, state, inputs)
        state.rewind(4)
        after = take_steps(decoder, state, edited[4:])
        state.rewind(0)
        again = take_steps(decoder, state, inputs)
    assert torch.equal(after, fresh[4:])
    assert torch.equal(again, before)
    if name != "v3":
        assert not torch.allclose(before[4], fresh[4])


@pytest.mark.parametrize("index", [[0, 1, 4, 3], [3, 1], [1, 2, 3, 4], [2], torch.tensor([4, 0])])
@pytest.mark.parametrize("name", DECODERS)
def test_selected_rows_go_on_as_before(name, index):
    decoder = small_decoder(name)
    inputs, z = random_case(5)
    with torch.inference_mode():
        whole = decoder(inputs, z)
        state = decoder.begin(z)
        take_steps(decoder, state, inputs[:3])
        state.select(index)
        outputs = take_steps(decoder, state, inputs[3:, index])
        assert_close(outputs, whole[3:, index])
        if name != "v0":
            decoder.recondition(state, z[index])
            state.rewind(5)
            assert_close(take_steps(decoder, state, inputs[5:, index]), whole[5:, index])


@pytest.mark.parametrize("name", RECONDITIONABLE)
def test_reconditioned_state_goes_on_as_if_all_steps_had_the_new_latent(name):
    decoder = small_decoder(name)
    inputs, z = random_case(3)
    with torch.inference_mode():
        whole = decoder(inputs, z + 1)
        state = decoder.begin(z)
        first = take_steps(decoder, state, inputs[:6])
        decoder.recondition(state, z + 1)
        assert_close(take_steps(decoder, state, inputs[6:]), whole[6:])
        state.rewind(2)
        assert_close(take_steps(decoder, state, inputs[2:]), whole[2:])
    assert not torch.allclose(first, whole[:6])


def test_latent_of_arch_version_0_cannot_change():
    decoder = small_decoder("v0")
    _, z = random_case(1)
    with pytest.raises(ValueError, match="arch version 0"):
        decoder.recondition(decoder.begin(z), z)


def test_arch_version_3_prescribes_the_first_five_inputs():
    decoder = small_decoder("v3")
    inputs, z = random_case(2)
    other = inputs.clone()
    other[:5] += 1
    with torch.inference_mode():
        whole = take_steps(decoder, decoder.begin(z), inputs)
        assert torch.equal(take_steps(decoder, decoder.begin(z), other), whole)
        other[5] += 1
        changed = take_steps(decoder, decoder.begin(z), other)
    assert torch.equal(changed[:5], whole[:5]) and not torch.allclose(changed[5], whole[5])


def test_arch_version_2_adds_to_the_flag_alone():
    decoder = small_decoder("v2")
    inputs, z = random_case(2)
    with torch.inference_mode():
        with_shift = decoder(inputs, z)
        shift = decoder.fc_latent_to_binary_flags(z).t()  # (T, B)
        nn.init.zeros_(decoder.fc_latent_to_binary_flags.fcnet.out.weight)
        nn.init.zeros_(decoder.fc_latent_to_binary_flags.fcnet.out.bias)
        without = decoder(inputs, z)
    assert_close(with_shift[..., :-1], without[..., :-1])
    assert_close(with_shift[..., -1] - without[..., -1], shift)


@pytest.mark.parametrize("name", DECODERS)
def test_outputs_depend_on_no_later_input(name):
    decoder = small_decoder(name)
    inputs, z = random_case(2)
    later = inputs.clone()
    later[6:] += 1
    with torch.inference_mode():
        whole, changed = decoder(inputs, z), decoder(later, z)
        assert_close(changed[:6], whole[:6])
        assert not torch.allclose(changed[6], whole[6])
        assert_close(decoder(inputs[:4], z), whole[:4])


@pytest.mark.parametrize("name", DECODERS)
def test_outputs_depend_on_the_latent_at_every_step(name):
    decoder = small_decoder(name)
    inputs, z = random_case(2)
    with torch.inference_mode():
        changed = (decoder(inputs, z + 1) - decoder(inputs, z)).abs().amax(dim=(1, 2))
    assert (changed > 1e-6).all()


@pytest.mark.parametrize("name", [name for name in DECODERS if "lstm" not in name])
def test_dropout_is_for_training_alone(name):
    inputs, z = random_case(2)
    plain, decoder = small_decoder(name), small_decoder(name, dropout=0.5)
    with torch.inference_mode():
        assert_close(decoder(inputs, z), plain(inputs, z))
        steps = take_steps(decoder, decoder.begin(z), inputs)
        assert_close(steps, plain(inputs, z))
        decoder.train()
        assert not torch.allclose(decoder(inputs, z), decoder(inputs, z))


# ----------------------------------------------------------------------------------- encoders


@pytest.mark.parametrize(
    "architecture, settings",
    [
        ("transformer", {}),
        ("lstm+transformer", dict(n_layers=1)),
        ("lstm", {}),
        ("lstm", dict(bidirectional=True)),
    ],
)
def test_padding_does_not_reach_the_latent(architecture, settings):
    encoder = small_encoder(architecture, **settings)
    sequence = torch.randn(T, 3, N_FEATURES, dtype=torch.float64)
    lengths = [T, 5, 1]
    padding = torch.arange(T)[:, None] >= torch.tensor(lengths)
    with torch.inference_mode():
        together = torch.stack(encoder(sequence, padding))
        for i, length in enumerate(lengths):
            alone = encoder(sequence[:length, i : i + 1], padding[:length, i : i + 1])
            assert_close(together[:, i], torch.stack(alone)[:, 0])
        changed = sequence.clone()
        changed[lengths[1] - 1, 1] += 1
        assert not torch.allclose(torch.stack(encoder(changed, padding)), together)


def test_transformer_encoder_sees_the_order_of_timesteps():
    encoder = small_encoder("transformer")
    sequence = torch.randn(T, 2, N_FEATURES, dtype=torch.float64)
    padding = torch.zeros(T, 2, dtype=torch.bool)
    with torch.inference_mode():
        mu, swapped = encoder(sequence, padding)[0], encoder(sequence.flip(0), padding)[0]
    assert not torch.allclose(mu, swapped)


def test_bidirectional_encoder_sees_both_ends():
    narrow, wide = small_encoder("lstm"), small_encoder("lstm", bidirectional=True)
    assert wide.fc_enc_out_to_mu.fcnet.fc0.in_features == 18
    assert narrow.fc_enc_out_to_mu.fcnet.fc0.in_features == 9


def test_pointnet_takes_points_in_any_order():
    encoder = small_encoder("pointnet+transformer")
    points = torch.randn(2, 50, 3, dtype=torch.float64)
    with torch.inference_mode():
        mu, log_sigma_squared = encoder(points)
        assert mu.shape == log_sigma_squared.shape == (2, LATENT)
        shuffled = encoder(points[:, torch.randperm(50)])
        assert_close(torch.stack(shuffled), torch.stack([mu, log_sigma_squared]))
        assert not torch.allclose(encoder(points + 1)[0], mu)


# ------------------------------------------------------------------------------------- pieces


@pytest.mark.parametrize("kind", ["causal", "mask", "first_only"])
def test_layer_is_that_of_pytorch(kind):
    """Same parameters, outputs and gradients as `nn.TransformerEncoderLayer`."""
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(12, 3, 10, dropout=0.0, batch_first=True).double()
    ours = TransformerLayer(12, 3, 10, dropout=0.0).double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(2, 6, 12, dtype=torch.float64, requires_grad=True)
    if kind == "causal":
        y = ours(x, causal=True)
        expected = theirs(x, src_mask=torch.ones(6, 6, dtype=torch.bool).triu(1))
    else:
        hidden = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
        first_only = kind == "first_only"
        y = ours(x, ~hidden[:, None, None], first_only=first_only)
        expected = theirs(x, src_key_padding_mask=hidden)
        expected = expected[:, :1] if first_only else expected
    assert_close(y, expected)
    weight = torch.randn_like(y)
    ours_gradients = torch.autograd.grad((y * weight).sum(), [x, *ours.parameters()])
    gradients = torch.autograd.grad((expected * weight).sum(), [x, *theirs.parameters()])
    for gradient, expected_gradient in zip(ours_gradients, gradients, strict=True):
        assert_close(gradient, expected_gradient)


@pytest.mark.parametrize(
    "make, kind",
    [
        *((TransformerLayer, kind) for kind in ("causal", "all", "first_only")),
        *((Block, kind) for kind in ("causal", "all")),
    ],
)
@pytest.mark.parametrize("longest", [2, 6], ids=["torch", "written_out"])
def test_packed_layers_are_the_padded_ones(make, longest, kind, monkeypatch):
    """Same outputs and gradients; both ways to attend."""
    monkeypatch.setattr(packed, "LONGEST", longest)
    torch.manual_seed(0)
    more = {"dropout": 0.0} if make is TransformerLayer else {}
    layers = nn.ModuleList(make(12, 3, ffwd_size=10, **more) for _ in range(2)).double()
    x = torch.randn(3, 6, 12, dtype=torch.float64, requires_grad=True)
    seen = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    y = packed.run_packed(layers, x, seen, kind == "causal", kind == "first_only")
    expected, mask = x, seen[:, None, None]
    for layer in layers:
        expected = layer(expected, mask if kind != "causal" else None, causal=kind == "causal")
    expected = expected * seen[..., None]
    expected = expected[:, 0] if kind == "first_only" else expected
    assert_close(y, expected)
    weight = torch.randn_like(y)
    variables = [x, *layers.parameters()]
    gradients = torch.autograd.grad((y * weight).sum(), variables)
    expected = torch.autograd.grad((expected * weight).sum(), variables)
    for gradient, expected_gradient in zip(gradients, expected, strict=True):
        assert_close(gradient, expected_gradient)


def test_layer_starts_as_that_of_pytorch():
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(64, 2, 96).state_dict()
    ours = TransformerLayer(64, 2, 96, dropout=0.0).state_dict()
    for key, value in theirs.items():
        spread, expected = (float(v.std(correction=0)) for v in (ours[key], value))
        assert spread == pytest.approx(expected, rel=0.2), key
        assert float(ours[key].mean()) == pytest.approx(float(value.mean()), abs=0.03), key


def test_fourier_map_of_a_known_point():
    fourier_map = FourierMap(2, 1.0)
    fourier_map.fourier_map_B.copy_(torch.tensor([[1.0, 0.0], [0.25, 0.5]]))
    features = fourier_map(torch.tensor([[0.25, 0.125]]))
    angles = [math.pi / 2, math.pi / 4]
    expected = [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
    assert_close(features, torch.tensor([expected]), atol=1e-6)


def test_fourier_map_has_the_asked_spread():
    torch.manual_seed(0)
    assert FourierMap(5000, 4.0).fourier_map_B.std().item() == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_parameter_is_trained(name):
    decoder = small_decoder(name).train()
    inputs, z = random_case(2)
    decoder(inputs, z).square().sum().backward()
    for key, parameter in decoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_encoder_parameter_is_trained(architecture):
    encoder = small_encoder(architecture).train()
    if architecture == "pointnet+transformer":
        mu, log_sigma_squared = encoder(torch.randn(2, 20, 3, dtype=torch.float64))
    else:
        sequence = torch.randn(T, 2, N_FEATURES, dtype=torch.float64)
        padding = torch.zeros(T, 2, dtype=torch.bool)
        mu, log_sigma_squared = encoder(sequence, padding)
    (mu.square() + log_sigma_squared.square()).sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


# --------------------------------------------------------------------------------- complaints


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(architecture="gru"), "'gru' is none of lstm, transformer"),
        (dict(transformer_arch_version=5), "arch version 5"),
        (dict(transformer_arch_version=2, has_flag=False), "needs a representation with a flag"),
        (dict(d_model=10, n_heads=3), "10 cannot be shared among 3 heads"),
        (dict(n_features=6, fourier_map_size=2), "5 coordinates"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    sizes = dict(n_features=N_FEATURES, max_length=T, latent_size=LATENT, has_flag=True)
    with pytest.raises(ValueError, match=message):
        build_decoder(**dict(architecture="transformer") | sizes | settings)


def test_unknown_encoder():
    with pytest.raises(ValueError, match="'gru' is none of"):
        build_encoder("gru", n_features=N_FEATURES, max_length=T, latent_size=LATENT)


def test_sequences_longer_than_the_positional_table():
    inputs, z = random_case(1)
    longer = torch.cat([inputs, inputs])
    with pytest.raises(ValueError, match="18 steps, but the positional table has 10 rows"):
        small_decoder("v1")(longer, z)
    with pytest.raises(ValueError, match="19 steps"):
        small_encoder("transformer")(longer, torch.zeros(2 * T, 1, dtype=torch.bool))


@pytest.mark.parametrize("name", DECODERS)
def test_misuse_of_a_state(name):
    decoder = small_decoder(name)
    inputs, z = random_case(2)
    with torch.inference_mode():
        state = decoder.begin(z)
        take_steps(decoder, state, inputs)
        with pytest.raises(ValueError, match="made for 9 steps"):
            decoder.step(state, inputs[0])
        for t in (-1, T + 1):
            with pytest.raises(ValueError, match=f"cannot rewind to step {t}"):
                state.rewind(t)
        with pytest.raises(ValueError, match="cannot keep 3 rows of 2"):
            state.select([0, 1, 1])
