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
from loopdraw.model.prior import (
    DECODED_TOGETHER,
    PRIOR_FILE,
    FlowPrior,
    MixturePrior,
    SettledPrior,
    save_prior,
)
from loopdraw.options import parse_options, require

DEFAULT_KIND = "flow"

COMPONENTS = (1, 2, 4, 8, 16, 32)
# Added to the variances, as a share of the mean variance of the latents.
FLOORS = (1e-3, 1e-2, 5e-2)
DRAWS = 4  # latents drawn from each shape's posterior
# The share of random latents to keep: the others would still move farthest. Of N_SETTLED.
KEPT, N_SETTLED = 0.95, 400

FLOW_TRAINING_STEPS, FLOW_BATCH = 12000, 256
FLOW_LR, FLOW_AVERAGE, FLOW_DROPOUT = 3e-3, 0.995, 0.1
FLOW_TRIALS = 20  # times that the averaged weights are tried on held-out latents


def posteriors(model, dataset, mirrored=False):
    """Mean and standard deviation of the latents of a set's shapes, (N, L) float32 tensors.

    With `mirrored` of the shapes upside down.
    """
    import torch

    dataset.to(model.device)
    parts = []
    model.eval()
    with torch.inference_mode():
        for indices in torch.arange(len(dataset)).split(64):
            batch = dataset.batch(indices, trim=True)
            shapes = [batch]
            if mirrored:
                timesteps = model.info.unnormalise(batch.targets.cpu().numpy()).swapaxes(0, 1)
                present = ~batch.padding[1:].cpu().numpy().T
                pairs = zip(timesteps, present, strict=True)
                turned = (upside_down(model.info, steps[there]) for steps, there in pairs)
                shapes = map(model.batch_of_sequence, turned)
            parts += map(model.encode_distribution, shapes)
    mu, log_variance = (torch.cat(part).cpu().clone() for part in zip(*parts, strict=True))
    # A plain autoencoder says nothing of the variance.
    return mu, (0.5 * log_variance).exp() if model.enc_kl_weight > 0 else torch.zeros_like(mu)


def upside_down(info, sequence):
    """A sequence (T, F) of a shape with its planes in reverse order, without an end token."""
    plane = info.planes_of(sequence)
    sequence, plane = sequence[plane >= 0], plane[plane >= 0]
    order = np.argsort(-plane, kind="stable")
    turned, plane = sequence[order], plane[order]
    turned[1:, -1] = plane[1:] != plane[:-1]
    return turned


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

    mean = train[0].mean(dim=0)
    std = (train[0].var(dim=0, correction=0) + train[1].square().mean(dim=0)).sqrt()
    std = std.clamp(min=1e-6)
    size = len(mean)

    def draw(mu, sigma, indices):
        """Places, times and the velocities wanted there, of these shapes."""
        noise = torch.randn(2, len(indices), size)
        t = torch.rand(len(indices))
        end = (mu[indices] + sigma[indices] * noise[0] - mean) / std
        return torch.lerp(noise[1], end, t[:, None]), t, end - noise[1]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FlowNetwork(size, dropout=FLOW_DROPOUT)
        average = copy.deepcopy(network).requires_grad_(False).eval()
        optimizer = torch.optim.AdamW(network.parameters(), lr=FLOW_LR, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda i: min(1, (i + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * i / n_steps)),
        )
        tried = draw(*held, torch.arange(len(held[0])).repeat(8 * DRAWS))
        best = None
        with tqdm(total=n_steps, desc="fitting the flow", unit="step", disable=None) as bar:
            for i in range(n_steps):
                indices = torch.randint(len(train[0]), (FLOW_BATCH,))
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
    # In half precision, so that the file stays small.
    weights = {name: tensor.half().numpy() for name, tensor in best[2].items()}
    return FlowPrior(mean.numpy(), std.numpy(), weights)


FITS = {"mixture": fit_mixture, "flow": fit_flow}


def fit_prior(model, sets, kind=DEFAULT_KIND, seed=0, report=print, mirrors=False):
    """Fit a prior to the latents of a training set.

    Parameters
    ----------
    model : LoopSeqEncoderDecoderModel
    sets : dict of split to LoopSeqDataset; "val", or else "test", is held out where it is there
    kind : "mixture" or "flow"
    seed : int
    report : function that gets lines of text
    mirrors : bool, fit it to the shapes upside down, too: where the model was trained on both

    Returns
    -------
    MixturePrior or FlowPrior
    """
    import torch

    train = posteriors(model, sets["train"])
    rows = torch.ones(len(train[0]), dtype=torch.bool)  # of the shapes that it is fitted to
    held_out = sets.get("val", sets.get("test"))
    if held_out is not None:
        held = posteriors(model, held_out)
    elif len(rows) < 10:
        held = train  # too few to leave any out
    else:
        rows = torch.arange(len(rows)) % 10 != 0
        held = [part[~rows] for part in train]
    train = [part[rows] for part in train]
    if mirrors:
        turned = posteriors(model, sets["train"], mirrored=True)
        train = [torch.cat([part, other[rows]]) for part, other in zip(train, turned, strict=True)]
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are small, and sums are always in one order
    try:
        prior = FITS[kind](train, held, seed, report)
    finally:
        torch.set_num_threads(n_threads)
    if not model.needs_point_clouds:
        prior.largest_step = float(np.quantile(_settling_steps(prior, model, seed), KEPT))
        report(f"latents that would still move by {prior.largest_step:.2f} are drawn again")
    return prior


def _settling_steps(prior, model, seed):
    """How far random latents that have settled would still move, (N_SETTLED,)."""
    from tqdm import tqdm

    settling = SettledPrior(prior, model)
    steps = []
    with tqdm(total=N_SETTLED, desc="settling latents", unit="latent", disable=None) as bar:
        while len(steps) < N_SETTLED:
            some = range(len(steps), min(len(steps) + DECODED_TOGETHER, N_SETTLED))
            drawn = settling.draw_each([np.random.default_rng([seed, i]) for i in some])
            steps.extend(settling.next_steps(drawn))
            bar.update(len(some))
    return steps


def main():
    options = parse_options(description=__doc__, beside_optfile=("fit_prior",))
    require(options, "dataroot", "save_dir")
    from loopdraw.model.vae import load_model_and_sets

    model, sets = load_model_and_sets(options, prior="normal")
    kind, seed = options.fit_prior or DEFAULT_KIND, options.seed or 0
    prior = fit_prior(model, sets, kind, seed, mirrors=bool(options.mirror_planes))
    save_prior(options.save_dir, prior, model.decoder)
    print(f"wrote {options.save_dir}/{PRIOR_FILE}: random latents are drawn {prior.description}")


if __name__ == "__main__":
    run_script(main)
