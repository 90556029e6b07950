"""Fit a prior to the latents of a trained model's training set.

    python -m loopdraw.model.fit_prior --optfile vases-optfile.txt --fit_prior flow

writes `prior.npz` beside the checkpoint. From then on random latents are drawn from it;
`--prior normal` is the published way. Of each training shape the encoder gives a mean and a
variance; the prior is fitted to latents drawn from these, and tried on those of held-out shapes: of
`val/`, or where there is none of the test set, or else of every tenth training shape. It also
learns which latents to draw again, see `prior.SettledPrior`. The same `--seed` (0 by default) gives
the same prior on the same machine.
"""

import copy
import math

import numpy as np

# What takes seconds to import, torch among it, is imported by the functions: `--help` is quick.
from loopdraw.files import run_script
from loopdraw.model.prior import PRIOR_FILE, FlowPrior, MixturePrior, SettledPrior, save_prior
from loopdraw.options import parse_options, require

DEFAULT_KIND = "flow"

COMPONENTS = (1, 2, 4, 8, 16, 32)
# Added to the variances, as a share of the mean variance of the latents.
FLOORS = (1e-3, 1e-2, 5e-2)
DRAWS = 4  # latents drawn from each shape's posterior
# The share of random latents to keep: the others would still move farthest. Of N_SETTLED.
KEPT, N_SETTLED = 0.9, 400

FLOW_TRAINING_STEPS, FLOW_BATCH = 6000, 256
FLOW_LR, FLOW_AVERAGE = 1e-3, 0.995
FLOW_TRIALS = 20  # times that the averaged weights are tried on held-out latents


def posteriors(model, dataset):
    """Mean and standard deviation of the latents of a set's shapes, (N, L) float32 tensors."""
    import torch

    dataset.to(model.device)
    parts = []
    model.eval()
    with torch.inference_mode():
        for indices in torch.arange(len(dataset)).split(64):
            parts.append(model.encode_distribution(dataset.batch(indices, trim=True)))
    mu, log_variance = (torch.cat(part).cpu().clone() for part in zip(*parts, strict=True))
    # A plain autoencoder says nothing of the variance.
    return mu, (0.5 * log_variance).exp() if model.enc_kl_weight > 0 else torch.zeros_like(mu)


def fit_mixture(train, held, seed=0, report=print):
    """Gaussian mixtures of several sizes by EM; the one with the best held-out likelihood.

    Parameters
    ----------
    train, held : pairs of (N, L) tensors, means and standard deviations of latents
    seed : int
    report : function that gets lines of text

    Returns
    -------
    MixturePrior
    """
    from sklearn.mixture import GaussianMixture
    from tqdm import tqdm

    rng = np.random.default_rng(seed)
    z, tried = (
        np.concatenate([mu + sigma * rng.standard_normal(mu.shape) for _ in range(DRAWS)])
        for mu, sigma in ([part.double().numpy() for part in pair] for pair in (train, held))
    )
    best = None
    floors = [share * z.var(axis=0).mean() for share in FLOORS]
    # A component needs shapes to be fitted to.
    counts = [k for k in COMPONENTS if k == 1 or 20 * k <= len(train[0])]
    for count in tqdm(counts, desc="fitting mixtures", unit="size", disable=None):
        fits = [
            GaussianMixture(count, reg_covar=floor, random_state=seed, tol=1e-3).fit(z)
            for floor in floors
        ]
        scores = [fit.score(tried) for fit in fits]
        i = int(np.argmax(scores))
        report(f"{count:>3} components: held-out log likelihood {scores[i]:.2f}")
        if best is not None and scores[i] <= best[0]:
            break  # larger ones only fit the training set better
        best = scores[i], fits[i]
    fit = best[1]
    return MixturePrior(fit.weights_, fit.means_, np.linalg.cholesky(fit.covariances_))


def fit_flow(train, held, seed=0, report=print, n_steps=FLOW_TRAINING_STEPS):
    """A rectified flow; its averaged weights are kept from when they fitted held-out latents best.

    The loss is the mean square of v(z_t, t) - (z_1 - z_0), with z_t = (1 - t) z_0 + t z_1, noise
    z_0, latents z_1 and t even between 0 and 1: equation 1 of Liu et al., ICLR 2023.

    Parameters and result as of `fit_mixture`; the result is a FlowPrior.
    """
    import torch
    from tqdm import tqdm

    from loopdraw.model.networks.flow import FlowNetwork

    generator = torch.Generator().manual_seed(seed)
    mean = train[0].mean(dim=0)
    std = (train[0].var(dim=0, correction=0) + train[1].square().mean(dim=0)).sqrt()
    std = std.clamp(min=1e-6)
    size = len(mean)

    def draw(mu, sigma, indices):
        """Places, times and the velocities wanted there, of these shapes."""
        noise = torch.randn(2, len(indices), size, generator=generator)
        t = torch.rand(len(indices), generator=generator)
        end = (mu[indices] + sigma[indices] * noise[0] - mean) / std
        return torch.lerp(noise[1], end, t[:, None]), t, end - noise[1]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FlowNetwork(size)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=FLOW_LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: min(1, (i + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * i / n_steps)),
    )
    tried = draw(*held, torch.arange(len(held[0])).repeat(8 * DRAWS))
    best = None
    with tqdm(total=n_steps, desc="fitting the flow", unit="step", disable=None) as bar:
        for i in range(n_steps):
            indices = torch.randint(len(train[0]), (FLOW_BATCH,), generator=generator)
            z, t, wanted = draw(*train, indices)
            loss = (network(z, t) - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            share = 1 - min(FLOW_AVERAGE, (1 + i) / (10 + i))
            torch._foreach_lerp_(
                list(average.parameters()), [p.detach() for p in network.parameters()], share
            )
            bar.update()
            if (i + 1) % max(n_steps // FLOW_TRIALS, 1) == 0:
                with torch.no_grad():
                    score = (average(tried[0], tried[1]) - tried[2]).square().mean().item()
                if best is None or score < best[0]:
                    best = score, i + 1, copy.deepcopy(average.state_dict())
    report(f"flow: held-out loss {best[0]:.4f}, after {best[1]} of {n_steps} steps")
    weights = {name: tensor.numpy() for name, tensor in best[2].items()}
    return FlowPrior(mean.numpy(), std.numpy(), weights)


FITS = {"mixture": fit_mixture, "flow": fit_flow}


def fit_prior(model, sets, kind=DEFAULT_KIND, seed=0, report=print):
    """Fit a prior to the latents of a training set.

    Parameters
    ----------
    model : LoopSeqEncoderDecoderModel
    sets : dict of split to LoopSeqDataset; "val", or else "test", is held out where it is there
    kind : "mixture" or "flow"
    seed : int
    report : function that gets lines of text

    Returns
    -------
    MixturePrior or FlowPrior
    """
    import torch

    train = posteriors(model, sets["train"])
    held_out = sets.get("val", sets.get("test"))
    if held_out is not None:
        held = posteriors(model, held_out)
    else:
        tenth = torch.arange(len(sets["train"])) % 10 == 0
        if len(sets["train"]) < 10:
            tenth[:] = True  # too few to leave any out
            held = train
        else:
            held, train = ([part[rows] for part in train] for rows in (tenth, ~tenth))
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are small, and sums are always in one order
    try:
        prior = FITS[kind](train, held, seed, report)
    finally:
        torch.set_num_threads(n_threads)
    if not model.needs_point_clouds:
        generators = [np.random.default_rng([seed, i]) for i in range(N_SETTLED)]
        settling = SettledPrior(prior, model)
        steps = settling.next_steps(settling.draw_each(generators))
        prior.largest_step = float(np.quantile(steps, KEPT))
        report(f"latents that would still move by {prior.largest_step:.2f} are drawn again")
    return prior


def main():
    options = parse_options(description=__doc__, beside_optfile=("fit_prior",))
    require(options, "dataroot", "save_dir")
    from loopdraw.model.vae import load_model_and_sets

    model, sets = load_model_and_sets(options, prior="normal")
    prior = fit_prior(model, sets, options.fit_prior or DEFAULT_KIND, options.seed or 0)
    save_prior(options.save_dir, prior, model.decoder)
    print(f"wrote {options.save_dir}/{PRIOR_FILE}: random latents are drawn {prior.description}")


if __name__ == "__main__":
    run_script(main)
