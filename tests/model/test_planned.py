"""Version 4 of the transformer: steps, edits and whole sequences agree; what its losses are."""

import pytest
import torch
import torch.nn.functional as F

from loopdraw.model.networks.encoders import build_decoder, build_encoder
from loopdraw.model.networks.planned import K, at_joints, places

T, P, N_FEATURES, LATENT = 14, 6, 7, 4
SIZES = dict(n_features=N_FEATURES, max_length=T, latent_size=LATENT, n_planes=P)
SETTINGS = dict(transformer_arch_version=4, fc_hidden_sizes=[10], d_model=12, n_heads=3)


def small_decoder():
    torch.manual_seed(3)
    decoder = build_decoder(
        "transformer", **SIZES, **SETTINGS, n_layers=2, ffwd_size=10, has_flag=True
    )
    with torch.no_grad():  # flags of either kind, and corrections that count
        decoder.flag.weight *= 20
        decoder.out.weight *= 10
    return decoder.double().eval()


def random_case(n_rows, seed=0):
    """Inputs (T, B, F) after a zero start step, with flags of 0 and 1, and latents (B, L)."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(T, n_rows, N_FEATURES, dtype=torch.float64, generator=generator)
    inputs[..., -1] = (inputs[..., -1] > 0).double()
    inputs[1, :, -1] = 1
    inputs[0] = 0
    return inputs, torch.randn(n_rows, LATENT, dtype=torch.float64, generator=generator)


def take_steps(decoder, state, inputs):
    return torch.stack([decoder.step(state, x) for x in inputs])


def assert_close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_places_are_read_off_the_flags():
    flags = torch.tensor([[0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 1]])  # the first one always opens
    plane, index = places(flags.float())
    assert plane.tolist() == [[1, 1, 2, 3, 3, 3], [1, 2, 2, 2, 2, 3]]
    assert index.tolist() == [[0, 1, 0, 0, 1, 2], [0, 0, 1, 2, 3, 0]]


def test_joints_lie_beside_a_change_of_the_number_of_loops():
    # Loops a plane: 1, 1, 2, 2, 2, 1 and the end of the sequence; then 1, 1, 1 and padding.
    flags = torch.tensor([[1, 1, 1, 0, 1, 0, 1, 0, 1, 1], [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]])
    present = torch.ones(2, 10, dtype=torch.bool)
    present[1, 3:] = False
    found = at_joints(places(flags.float())[0], present, 6)
    assert found.int().tolist() == [[0, 1, 1, 1, 0, 0, 1, 1, 1, 0], [0, 0, 1] + [0] * 7]


@pytest.mark.parametrize("n_rows", [1, 3])
def test_steps_give_what_the_whole_sequence_gives(n_rows):
    decoder = small_decoder()
    inputs, z = random_case(n_rows)
    whole = decoder(inputs, z)
    assert_close(take_steps(decoder, decoder.begin(z), inputs), whole.detach())
    assert (whole[..., -1] > 0).any() and (whole[..., -1] < 0).any()


def test_sequences_with_more_planes_and_loops_than_there_are():
    decoder = small_decoder()
    for flag in (0.0, 1.0):
        inputs, z = random_case(2)
        inputs[1:, :, -1] = flag
        whole = decoder(inputs, z).detach()
        assert_close(take_steps(decoder, decoder.begin(z), inputs), whole)
    assert T > K and T > P + 2


def test_outputs_depend_on_no_later_input():
    decoder = small_decoder()
    inputs, z = random_case(2)
    later = inputs.clone()
    later[7:, :, :-1] += 1
    later[7:, :, -1] = 1 - later[7:, :, -1]
    whole, changed = decoder(inputs, z), decoder(later, z)
    assert_close(changed[:7], whole[:7])
    assert not torch.allclose(changed[7], whole[7])
    assert_close(decoder(inputs[:5], z), whole[:5])


def test_edited_loops_change_those_that_follow():
    decoder = small_decoder()
    inputs, z = random_case(2)
    edited = inputs.clone()
    edited[4, :, :-1] += 1
    changed = (decoder(edited, z) - decoder(inputs, z)).abs().amax(dim=(1, 2))
    assert (changed[:4] == 0).all() and (changed[4:] > 1e-9).all()


def test_rewound_state_goes_on_as_if_freshly_decoded():
    decoder = small_decoder()
    inputs, z = random_case(2)
    edited = inputs.clone()
    edited[4:, :, :-1] += 1
    edited[4:, :, -1] = 1 - edited[4:, :, -1]
    fresh = take_steps(decoder, decoder.begin(z), edited)
    state = decoder.begin(z)
    before = take_steps(decoder, state, inputs)
    state.rewind(4)
    assert torch.equal(take_steps(decoder, state, edited[4:]), fresh[4:])
    state.rewind(0)
    assert torch.equal(take_steps(decoder, state, inputs), before)


@pytest.mark.parametrize("index", [[0, 1, 4, 3], [3, 1], [2], torch.tensor([4, 0])])
def test_selected_rows_go_on_as_before(index):
    decoder = small_decoder()
    inputs, z = random_case(5)
    whole = decoder(inputs, z).detach()
    state = decoder.begin(z)
    take_steps(decoder, state, inputs[:3])
    state.select(index)
    assert_close(take_steps(decoder, state, inputs[3:, index]), whole[3:, index])
    decoder.recondition(state, z[index])
    state.rewind(5)
    assert_close(take_steps(decoder, state, inputs[5:, index]), whole[5:, index])


def test_reconditioned_state_goes_on_as_if_all_steps_had_the_new_latent():
    decoder = small_decoder()
    inputs, z = random_case(3)
    whole = decoder(inputs, z + 1).detach()
    state = decoder.begin(z)
    first = take_steps(decoder, state, inputs[:6])
    decoder.recondition(state, z + 1)
    assert_close(take_steps(decoder, state, inputs[6:]), whole[6:])
    state.rewind(2)
    assert_close(take_steps(decoder, state, inputs[2:]), whole[2:])
    assert not torch.allclose(first, whole[:6])


def test_a_shape_in_a_batch_is_as_alone():
    decoder = small_decoder()
    inputs, z = random_case(4)
    together = decoder(inputs, z)
    for i in range(4):
        assert_close(decoder(inputs[:, i : i + 1], z[i : i + 1]), together[:, i : i + 1])


def test_true_flags_say_where_the_next_loops_lie():
    decoder = small_decoder()
    inputs, z = random_case(2)
    predicted = decoder(inputs, z)
    flags = (predicted[..., -1] > 0).double()
    assert_close(decoder(inputs, z, next_flags=flags), predicted)
    other = decoder(inputs, z, next_flags=1 - flags)
    assert_close(other[..., -1], predicted[..., -1])  # the flags themselves do not change
    assert not torch.allclose(other[1:, :, :-1], predicted[1:, :, :-1])
    assert_close(decoder(inputs, z, next_flags=flags, plan=decoder.plan(z)), predicted)


def test_the_plan_is_what_loops_are_without_corrections():
    decoder = small_decoder()
    with torch.no_grad():
        for layer in (decoder.flag, decoder.out):
            layer.weight.zero_()
            layer.bias.zero_()
    inputs, z = random_case(2)
    flags = inputs[1:, :, -1]
    said = decoder.read_plan(decoder.plan(z), flags)
    assert said.shape == (T - 1, 2, N_FEATURES)
    assert_close(decoder(inputs[:-1], z, next_flags=flags), said)


def test_encoder_sees_no_padding():
    torch.manual_seed(0)
    encoder = build_encoder("transformer", **SIZES, **SETTINGS, n_layers=2, ffwd_size=10).double()
    inputs, _ = random_case(2)
    sequence, padding = inputs[1:], torch.zeros(T - 1, 2, dtype=torch.bool)
    padding[8:] = True
    short = encoder(sequence[:8], padding[:8])
    for ours, theirs in zip(encoder(sequence, padding), short, strict=True):
        assert_close(ours, theirs)


def test_every_parameter_is_trained():
    decoder = small_decoder().train()
    inputs, z = random_case(8)
    flags = F.pad(inputs[1:, :, -1], (0, 0, 0, 1))
    outputs = decoder(inputs, z, next_flags=flags)
    planned = decoder.read_plan(decoder.plan(z), flags)
    (outputs.square().sum() + planned.square().sum()).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_hidden_matrices_are_the_blocks_and_the_layers_between():
    decoder = small_decoder()
    taken = set(map(id, decoder.hidden_matrices()))
    names = {n for n, w in decoder.named_parameters() if w.ndim == 2 and id(w) not in taken}
    assert names == {
        *("plan_place", "slot_loop.weight", "plane.weight", "loop.weight", "inp.weight"),
        *("plan_last.weight", "plan_points.weight", "flag.weight", "below.weight", "out.weight"),
    }
