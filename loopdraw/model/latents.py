"""Random latents, and moving a trained model's latent space to where they are drawn from.

The KL term of a VAE weighs every shape's latent on its own. The latents of all shapes together, the
aggregated posterior, may end up off centre, stretched and correlated (Hoffman and Johnson, ELBO
surgery, 2016), and a standard normal latent then falls where the decoder never was. One Gaussian
fitted to the latents of a training set (ex-post density estimation: Ghosh et al., From Variational
to Deterministic Autoencoders, ICLR 2020) mends the mean and the covariance. Put into the layers on
both sides of the latent, it changes no reconstruction and no file format: the same networks in
other coordinates.
"""

from typing import NamedTuple

import numpy as np
import torch


class Whitening(NamedTuple):
    """z' = `whiten` (z - `mean`), and back z = `mean` + `colour` z'."""

    mean: torch.Tensor  # (L,)
    whiten: torch.Tensor  # (L, L)
    colour: torch.Tensor  # (L, L), the inverse of `whiten`
    log_variance_shift: torch.Tensor  # (L,), from log sigma^2 of z to that of z'


def fit_whitening(mu, log_sigma_squared):
    """The whitening of the latents of N shapes that moves them least.

    `whiten` is C^(-1/2), symmetric, with the covariance C = cov(mu) + mean(sigma^2) of the
    aggregated posterior. The noise of z' is correlated where that of z is not; `log_variance_shift`
    keeps its variances, of the average shape.

    Parameters
    ----------
    mu, log_sigma_squared : (N, L) tensors

    Returns
    -------
    Whitening
    """
    mu, noise = mu.double(), log_sigma_squared.double().exp().mean(dim=0)
    covariance = torch.cov(mu.T, correction=0) + noise.diag()
    values, vectors = torch.linalg.eigh(covariance)
    whiten = vectors / values.sqrt() @ vectors.T
    colour = vectors * values.sqrt() @ vectors.T
    shift = (whiten.square() @ noise / noise).log()
    return Whitening(
        *(x.to(log_sigma_squared.dtype) for x in (mu.mean(dim=0), whiten, colour, shift))
    )


@torch.no_grad()
def apply_whitening(whitening, encoder, decoder):
    """Change the encoder to give z' and the decoder to take it, in place."""
    last, noise = encoder.latent_layers()
    last.weight.copy_(whitening.whiten @ last.weight)
    last.bias.copy_(whitening.whiten @ (last.bias - whitening.mean))
    noise.bias += whitening.log_variance_shift
    for weight, bias in decoder.latent_inputs():
        bias += weight @ whitening.mean
        weight.copy_(weight @ whitening.colour)


def shape_generator(entropy, number):
    """The random generator of the shape with this number, counted from 0, after a seed.

    Each shape has its own, so what it draws does not depend on how many are made at once.
    """
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(number,)))
