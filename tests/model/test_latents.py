"""Whitening: the latents of a set come to mean 0 and covariance 1, what is decoded stays."""

import pytest
import torch

from loopdraw.model.latents import apply_whitening, fit_whitening
from loopdraw.model.networks.encoders import build_decoder, build_encoder

L, T, F, N = 5, 6, 7, 400
SIZES = {"n_features": F, "max_length": T, "latent_size": L}
SMALL = {"d_model": 16, "n_layers": 1, "n_heads": 2, "ffwd_size": 16}


def skewed_latents(seed=0):
    """Means (N, L) off centre and correlated, and log variances that differ between dimensions."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(L, L, generator=generator)
    mu = torch.randn(N, L, generator=generator) @ mix + torch.arange(L)
    log_variance = torch.linspace(-4, -1, L) + 0.1 * torch.randn(N, L, generator=generator)
    return mu, log_variance


def test_what_is_fitted_centres_and_whitens():
    mu, log_variance = skewed_latents()
    whitening = fit_whitening(mu, log_variance)
    noise = torch.diag_embed(log_variance.exp())  # (N, L, L)
    covariance = (
        whitening.whiten @ (torch.cov(mu.T, correction=0) + noise.mean(dim=0)) @ whitening.whiten
    )
    moved = (mu - whitening.mean) @ whitening.whiten.T
    torch.testing.assert_close(moved.mean(dim=0), torch.zeros(L), atol=1e-5, rtol=0)
    torch.testing.assert_close(covariance, torch.eye(L), atol=1e-4, rtol=0)
    torch.testing.assert_close(whitening.whiten @ whitening.colour, torch.eye(L), atol=1e-5, rtol=0)
    moved_noise = (whitening.whiten @ noise @ whitening.whiten).diagonal(dim1=1, dim2=2).mean(dim=0)
    expected = (log_variance.exp().mean(dim=0) * whitening.log_variance_shift.exp()).float()
    torch.testing.assert_close(moved_noise, expected, rtol=1e-4, atol=0)


def test_white_latents_stay_where_they_are():
    """The change is the smallest: no rotation on top, and none at all the second time."""
    mu, log_variance = skewed_latents()
    first = fit_whitening(mu, log_variance)
    torch.testing.assert_close(first.whiten, first.whiten.T, atol=1e-6, rtol=0)
    mu = (mu - first.mean) @ first.whiten.T
    again = fit_whitening(mu, log_variance + first.log_variance_shift)
    # Only the correlations of the noise are lost, and its share of the covariance is small.
    torch.testing.assert_close(again.whiten, torch.eye(L), atol=0.1, rtol=0)
    torch.testing.assert_close(again.mean, torch.zeros(L), atol=1e-5, rtol=0)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_transformers_encode_and_decode_as_before(version):
    torch.manual_seed(version)
    encoder = build_encoder("transformer", **SIZES, **SMALL).eval()
    decoder = build_decoder(
        "transformer", **SIZES, **SMALL, has_flag=True, transformer_arch_version=version
    ).eval()
    sequences = torch.randn(T, N, F)
    _check(encoder, decoder, (sequences, torch.zeros(T, N, dtype=torch.bool)))


def test_lstms_encode_and_decode_as_before():
    torch.manual_seed(4)
    encoder = build_encoder("lstm", **SIZES).eval()
    decoder = build_decoder("lstm", **SIZES, has_flag=True).eval()
    _check(encoder, decoder, (torch.randn(T, N, F), torch.zeros(T, N, dtype=torch.bool)))


def test_pointnet_encoders_too():
    torch.manual_seed(5)
    encoder = build_encoder("pointnet+transformer", **SIZES, pointnet_hidden_size=16).eval()
    decoder = build_decoder("pointnet+transformer", **SIZES, **SMALL, has_flag=True).eval()
    _check(encoder, decoder, (torch.randn(N, 20, 3),))


def _check(encoder, decoder, given):
    inputs = torch.randn(T, N, F)
    with torch.no_grad():
        encoder.latent_layers()[0].weight *= 30  # the latents of new networks are next to nothing
        mu, log_variance = encoder(*given)
        before = decoder(inputs, mu)
        apply_whitening(fit_whitening(mu, log_variance), encoder, decoder)
        moved, moved_log_variance = encoder(*given)
        after = decoder(inputs, moved)
    torch.testing.assert_close(after, before, atol=2e-4, rtol=0)
    assert (decoder(inputs, mu) - before).abs().max() > 1e-2, "the decoder should have changed"
    aggregated = torch.cov(moved.T, correction=0) + moved_log_variance.exp().mean(dim=0).diag()
    # The noise is kept without its correlations, so only the variances are exact.
    torch.testing.assert_close(aggregated.diagonal(), torch.ones(L), atol=0.02, rtol=0)
    torch.testing.assert_close(moved.mean(dim=0), torch.zeros(L), atol=1e-4, rtol=0)


def test_a_single_shape_is_enough():
    mu, log_variance = skewed_latents()
    whitening = fit_whitening(mu[:1], log_variance[:1])
    assert all(torch.isfinite(tensor).all() for tensor in whitening)
    torch.testing.assert_close(whitening.mean, mu[0])
