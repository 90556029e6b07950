"""Priors: the distributions that random latents are drawn from.

The published one is the standard normal. The latents of a trained VAE do not fill it evenly, and a
decoder given a latent from a gap makes poor shapes. A prior fitted to the latents of the training
set after training mends that (TwoStageVAE: Dai and Wipf, Diagnosing and Enhancing VAE Models, ICLR
2019; RAE: Ghosh et al., From Variational to Deterministic Autoencoders, ICLR 2020).

A fitted prior lies beside its checkpoint in `prior.npz`, which other loaders ignore.
`loopdraw.model.fit_prior` makes it. Drawing needs numpy alone.
"""

import math
import zlib
from pathlib import Path

import numpy as np

from loopdraw.files import UserError, load_npz, save_npz

PRIOR_FILE = "prior.npz"
FLOW_STEPS = 32  # of the midpoint rule
DECODED_TOGETHER = 64
MOST_DRAWS = 10  # of one settled latent
FLOW_FREQUENCIES = np.pi * 2.0 ** np.arange(6)  # how a flow sees the time


class Prior:
    """Base of the priors, which have a method `draw`."""

    largest_step = math.inf  # see `SettledPrior`

    def draw_each(self, generators):
        """One random latent of each of n generators, (n, L), as if each were drawn alone."""
        drawn = [self.draw(generator, 1) for generator in generators]
        return np.concatenate([np.empty((0, self.latent_size)), *drawn])


class NormalPrior(Prior):
    """The standard normal: what the published program draws from."""

    description = "standard normal numbers"

    def __init__(self, latent_size):
        self.latent_size = latent_size

    def draw(self, rng, n):
        """Random latents.

        Parameters
        ----------
        rng : numpy.random.Generator
        n : int; drawing n at once gives the same as drawing one n times

        Returns
        -------
        (n, L) float64
        """
        return rng.standard_normal((n, self.latent_size))


class MixturePrior(Prior):
    """A mixture of Gaussians.

    Parameters
    ----------
    weights : (k,) float, their sum is 1
    means : (k, L) float
    factors : (k, L, L) float, the lower Cholesky factors of the covariances
    """

    kind = "mixture"

    def __init__(self, weights, means, factors):
        self.weights, self.means, self.factors = map(_as_float, (weights, means, factors))
        self.latent_size = self.means.shape[-1]
        k, size = len(self.weights), self.latent_size
        if k == 0 or self.weights.shape != (k,) or self.means.shape != (k, size):
            raise ValueError("weights and means do not fit each other")
        if self.factors.shape != (k, size, size):
            raise ValueError("means and covariances do not fit each other")
        if (self.weights < 0).any() or abs(self.weights.sum() - 1) > 1e-3:
            raise ValueError("the weights are no probabilities")

    @property
    def description(self):
        count = len(self.weights)
        what = "a Gaussian" if count == 1 else f"a mixture of {count} Gaussians"
        return f"from {what} fitted to the latents of the training set"

    def draw(self, rng, n):
        """Random latents (n, L): see `NormalPrior.draw`."""
        latents = np.empty((n, self.latent_size))
        edges = np.cumsum(self.weights) / self.weights.sum()
        for row in latents:  # one after the other, as if they were drawn alone
            i = min(np.searchsorted(edges, rng.random(), side="right"), len(edges) - 1)
            row[:] = self.means[i] + self.factors[i] @ rng.standard_normal(self.latent_size)
        return latents

    def arrays(self):
        return {"weights": self.weights, "means": self.means, "factors": self.factors}


class FlowPrior(Prior):
    """A rectified flow (Liu et al., Flow Straight and Fast, ICLR 2023).

    A latent is where the flow dz/dt = v(z, t) carries standard normal noise between t = 0 and 1.
    The velocity v is a small residual network.

    Parameters
    ----------
    mean, std : (L,) float, of the latents: v is trained on scaled ones
    weights : dict of name to array, as `flow.FlowNetwork.state_dict` has them; they are stored in
        the precision that they come in
    """

    kind = "flow"
    description = "from a flow fitted to the latents of the training set"

    def __init__(self, mean, std, weights):
        self.mean, self.std = _as_float(mean), _as_float(std)
        self.stored = {name: np.asarray(array) for name, array in weights.items()}
        self.weights = {name: _as_float(array) for name, array in self.stored.items()}
        self.latent_size = len(self.mean)
        if self.mean.shape != self.std.shape or (self.std <= 0).any():
            raise ValueError("mean and standard deviation do not fit each other")
        self.n_blocks = sum(name.startswith("blocks.") for name in self.weights) // 6
        self._check_shapes()

    def _check_shapes(self):
        size, width = self.latent_size, len(np.atleast_1d(self.weights["enter.bias"]))
        layers = {"enter": (width, size + 2 * len(FLOW_FREQUENCIES)), "leave": (size, width)}
        for i in range(self.n_blocks):
            layers |= {f"blocks.{i}.{name}": (width, width) for name in ("wide", "narrow")}
            layers[f"blocks.{i}.norm"] = (width,)
        expected = {f"{name}.weight": shape for name, shape in layers.items()}
        expected |= {f"{name}.bias": shape[:1] for name, shape in layers.items()}
        if {name: array.shape for name, array in self.weights.items()} != expected:
            raise ValueError("the layers of the network do not fit each other")

    def _linear(self, name, x):
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]

    def _velocity(self, z, t):
        """dz/dt, (L,), as `flow.FlowNetwork` computes it."""
        angles = t * FLOW_FREQUENCIES
        x = self._linear("enter", np.concatenate([z, np.sin(angles), np.cos(angles)]))
        for i in range(self.n_blocks):
            y = x - x.mean()
            y = y / np.sqrt(y @ y / len(y) + 1e-5)
            norm = f"blocks.{i}.norm"
            y = self.weights[f"{norm}.weight"] * y + self.weights[f"{norm}.bias"]
            y = self._linear(f"blocks.{i}.wide", y)
            y = y / (1 + np.exp(-np.clip(y, -500, None)))  # SiLU
            x = x + self._linear(f"blocks.{i}.narrow", y)
        return self._linear("leave", x)

    def draw(self, rng, n):
        """Random latents (n, L): see `NormalPrior.draw`."""
        latents = np.empty((n, self.latent_size))
        step = 1 / FLOW_STEPS
        # One after the other: matrix products round differently in batches of other sizes.
        for row in latents:
            z = rng.standard_normal(self.latent_size)
            for i in range(FLOW_STEPS):
                middle = z + 0.5 * step * self._velocity(z, i * step)
                z = z + step * self._velocity(middle, (i + 0.5) * step)
            row[:] = z * self.std + self.mean
        return latents

    def arrays(self):
        named = {f"net.{name}": array for name, array in self.stored.items()}
        return {"mean": self.mean, "std": self.std} | named


class SettledPrior(Prior):
    """A fitted prior whose latents are each decoded and encoded again, once.

    A random latent may lie between those of shapes, where the decoder makes faulty ones. The
    encoder places these near sound ones. It is one step of the chain in Rezende, Mohamed and
    Wierstra, Stochastic Backpropagation and Approximate Inference in Deep Generative Models (ICML
    2014), appendix F. One that a second such step would move by `prior.largest_step` or more still
    lies between those of shapes, and another one is drawn instead.

    Parameters
    ----------
    prior : MixturePrior or FlowPrior
    model : vae.LoopSeqEncoderDecoderModel with an encoder that reads loops
    """

    def __init__(self, prior, model):
        self.prior, self.model = prior, model
        self.latent_size, self.description = prior.latent_size, prior.description

    def draw(self, rng, n):
        """Random latents (n, L): see `NormalPrior.draw`."""
        drawn = [self.draw_each([rng]) for _ in range(n)]
        return np.concatenate([np.empty((0, self.latent_size)), *drawn])

    def draw_each(self, generators):
        """As `Prior.draw_each`; the shapes are decoded together."""
        latents = self.prior.draw_each(generators)
        waiting = np.arange(len(latents))
        for draw in range(MOST_DRAWS):
            if draw:
                latents[waiting] = self.prior.draw_each([generators[i] for i in waiting])
            latents[waiting] = self.settled(latents[waiting])
            if self.prior.largest_step == math.inf:
                break
            waiting = waiting[self.next_steps(latents[waiting]) >= self.prior.largest_step]
            if not len(waiting):
                break
        return latents

    def next_steps(self, latents):
        """How far latents (n, L) would still move, (n,)."""
        return np.linalg.norm(self.settled(latents) - latents, axis=1)

    def settled(self, latents):
        """Where the encoder places the shapes of latents (n, L): (n, L)."""
        places = np.empty_like(latents)
        for start in range(0, len(latents), DECODED_TOGETHER):
            some = slice(start, start + DECODED_TOGETHER)
            sequences = self.model.decode(latents[some], alone=True)
            for row, sequence in zip(places[some], sequences, strict=True):
                row[:] = self.model.encode_sequence(sequence)
        return places


def _as_float(array):
    array = np.asarray(array)
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ValueError("it holds values that are not finite numbers")
    return array.astype(np.float64)


def fingerprint(network):
    """A number that tells a network's weights from others; int."""
    value = 0
    for tensor in network.state_dict().values():
        value = zlib.crc32(np.ascontiguousarray(tensor.detach().cpu().numpy()), value)
    return value


def save_prior(folder, prior, network):
    """Write a fitted prior beside the checkpoint whose decoder is `network`.

    Raises
    ------
    UserError
        When the file cannot be written.
    """
    arrays = {
        name: array if array.dtype == np.float16 else array.astype(np.float32)
        for name, array in prior.arrays().items()
    }
    arrays |= {"kind": prior.kind, "of": fingerprint(network), "largest_step": prior.largest_step}
    save_npz(Path(folder) / PRIOR_FILE, **arrays)


def load_prior(folder, latent_size, network, report=print):
    """The prior of the checkpoint in a folder.

    Parameters
    ----------
    folder : path
    latent_size : int, of the model
    network : the model's decoder
    report : function that gets a warning where the prior belongs to other weights

    Returns
    -------
    MixturePrior, FlowPrior, or where none was fitted to these weights `NormalPrior`

    Raises
    ------
    UserError
        When the file is damaged or of another latent size.
    """
    path = Path(folder) / PRIOR_FILE
    if not path.is_file():
        return NormalPrior(latent_size)
    hint = "fit it again (python -m loopdraw.model.fit_prior), or choose --prior normal"
    arrays = load_npz(path, required=("kind", "of"), what="a fitted prior")
    kind, of = str(arrays.pop("kind")), arrays.pop("of")
    largest_step = arrays.pop("largest_step", math.inf)  # older files have none
    try:
        if kind == "mixture":
            prior = MixturePrior(*(arrays[name] for name in ("weights", "means", "factors")))
        elif kind == "flow":
            weights = {name[4:]: array for name, array in arrays.items() if name.startswith("net.")}
            prior = FlowPrior(arrays["mean"], arrays["std"], weights)
        else:
            raise ValueError(f"{kind[:20]!r} is no kind of prior")
        prior.largest_step = float(largest_step)
        if not prior.largest_step > 0:
            raise ValueError("no latent is near enough")
        same = int(of) == fingerprint(network)
    except KeyError as error:
        raise UserError(f"{path}: damaged: it lacks {error.args[0]}; {hint}") from None
    except (ValueError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0][:80]
        raise UserError(f"{path}: not a fitted prior, or damaged ({reason}); {hint}") from None
    if prior.latent_size != latent_size:
        raise UserError(
            f"{path}: made for latents of {prior.latent_size} numbers, but those of this model "
            f"have {latent_size}; {hint}"
        )
    if not same:
        report(
            f"warning: {path} was fitted to other weights than these; random latents are standard "
            "normal until you fit it again: python -m loopdraw.model.fit_prior"
        )
        return NormalPrior(latent_size)
    return prior
