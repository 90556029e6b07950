"""One training run's moving parts: optimizers, schedule, annealing, steps, resumption.

All randomness of an epoch (order of the items, noise of the latents, dropout) is drawn from the
seed and the number of the epoch. So a resumed run continues as if it had never stopped, and several
processes that share the batches draw the same numbers as one.
"""

import contextlib
import math
import os
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from loopdraw.checkpoints import checkpoint_label, load_state, save_states
from loopdraw.data.augmentation import (
    HISTORY,
    PLANNED_HISTORY,
    augment,
    disturb_history,
    practise_edits,
    vary_planes,
    vary_profile,
)
from loopdraw.files import UserError
from loopdraw.model.latents import apply_whitening, fit_whitening
from loopdraw.model.networks.planned import at_joints, places
from loopdraw.model.optimizers import Muon
from loopdraw.processes import draw_seed, rank_and_world_size

# The published program takes gradients of 100 times the loss. With Adam that matters only through
# its epsilon, but it does to whoever resumes a published run.
GRADIENT_SCALE = 100.0

WARM_UP = 100  # steps in which a cosine schedule reaches its learning rate


class Trainer:
    """Trains a model on a dataset, an epoch at a time.

    Parameters
    ----------
    model : LoopSeqEncoderDecoderModel
    dataset : LoopSeqDataset
    save_dir : path of the folder of the checkpoints
    batch_size, ..., compile : as the command line's options of these names
    seed : int, or None to draw one
    """

    def __init__(
        self,
        model,
        dataset,
        save_dir,
        *,
        batch_size=4,
        optimizer="adam",
        lr=0.001,
        lr_schedule="linear",
        weight_decay=None,
        clip_grad=None,
        ema=0.0,
        niter=20,
        niter_decay=20,
        count_from_epoch=0,
        enc_kl_anneal_cycle=100,
        enc_kl_anneal_formula="ramp",
        augment=False,
        disturb_history=False,
        vary_profile=0.0,
        vary_spacing=0.0,
        mirror_planes=False,
        practise_edits=0.0,
        whiten_latents=False,
        bucket_batches=False,
        rare_loops_weight=1.0,
        joints_weight=1.0,
        seed=None,
        amp=False,
        compile=False,
    ):
        self.model = model
        self.dataset = dataset.to(model.device)
        self.save_dir = Path(save_dir)
        self.batch_size = batch_size
        self.lr, self.niter, self.niter_decay = lr, niter, niter_decay
        self.lr_schedule, self.clip_grad, self.ema = lr_schedule, clip_grad, ema
        self.count_from_epoch = count_from_epoch
        self.enc_kl_anneal_cycle = enc_kl_anneal_cycle
        self.enc_kl_anneal_formula = enc_kl_anneal_formula
        self.augment, self.disturb_history = augment, disturb_history
        self.vary_profile, self.vary_spacing = vary_profile, vary_spacing
        self.mirror_planes, self.practise_edits = mirror_planes, practise_edits
        self.whitens = whiten_latents
        self.history_noise = PLANNED_HISTORY if model.is_planned else HISTORY
        self.bucket_batches = bucket_batches
        if self.n_batches == 0:
            raise UserError(
                f"--bucket_batches needs at least one full batch: {len(dataset)} shapes are less "
                f"than --batch_size {batch_size}"
            )
        self.rare_loops_weight, self.joints_weight = rare_loops_weight, joints_weight
        if rare_loops_weight != 1:
            self.first_rare_number = dataset.first_rare_number()
        self.amp = amp
        self.iteration = 0
        self.seed = draw_seed(model.device) if seed is None else seed
        self.rank, self.world_size = rank_and_world_size()
        on_gpu = model.device.type == "cuda"
        decay = {} if weight_decay is None else {"weight_decay": weight_decay}
        self.keeps_decay = weight_decay is None  # that of a checkpoint

        def make_optimizer(network):
            if optimizer == "muon":
                return Muon(network, lr, eps=GRADIENT_SCALE * 1e-8, **decay)
            of_kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
            return of_kind(network.parameters(), lr=lr, betas=(0.9, 0.999), fused=True, **decay)

        self.optimizer_kind = optimizer
        self.optimizers = {
            prefix: make_optimizer(network) for prefix, network in model.networks.items()
        }
        self.average = self._copy_of_weights() if ema else None  # by the names of `_weights`
        # Of augmentation: on the device, so that no numbers need to travel.
        self.generator = torch.Generator(device=model.device)
        self.mean, self.std = (
            torch.as_tensor(values, dtype=torch.float32, device=model.device)
            for values in (dataset.dataset_mean, dataset.dataset_std)
        )
        self.losses = _Losses(model)
        if compile:
            compiler = os.environ.get("CXX", "g++")
            if shutil.which(compiler) is None:
                raise UserError(
                    f"--compile: no C++ compiler {compiler!r} on this machine; install one, or "
                    "leave the option out"
                )
            # On a GPU, "reduce-overhead" also records the step as a CUDA graph, so that some
            # hundreds of small launches do not dominate it. On a CPU batches are trimmed to many
            # lengths, and compiling takes a minute: once for all of them.
            mode = "reduce-overhead" if on_gpu else "default"
            self.losses = torch.compile(self.losses, mode=mode, dynamic=not on_gpu)
        if self.world_size > 1:
            self.losses = torch.nn.parallel.DistributedDataParallel(
                self.losses, device_ids=[model.device.index] if on_gpu else None
            )
        # Padding that all items of a batch share is dropped, which changes no loss. A compiled step
        # on a GPU is recorded for one shape, so there it stays.
        self.trims = not (compile and on_gpu)

    # Schedule

    @property
    def n_epochs(self):
        return self.niter + self.niter_decay + 1

    @property
    def n_batches(self):
        """Batches of an epoch."""
        if self.bucket_batches:
            return len(self.dataset) // self.batch_size
        return -(-len(self.dataset) // self.batch_size)

    def learning_rate_of(self, epoch, iteration=None):
        """The learning rate of an epoch or, with a cosine schedule, of an iteration.

        Linear: full for `niter` epochs, then falling to zero over `niter_decay`. Cosine: half a
        wave over all epochs. Without `iteration` it is the first of the epoch.
        """
        if self.lr_schedule == "cosine":
            iteration = epoch * self.n_batches if iteration is None else iteration
            progress = min(1.0, iteration / (self.n_epochs * self.n_batches))
            warm_up = min(1.0, (iteration + 1) / WARM_UP)
            return self.lr * warm_up * 0.5 * (1 + math.cos(math.pi * progress))
        decayed = max(0, epoch + 1 - self.niter) / (self.niter_decay + 1)
        return self.lr * max(0.0, 1.0 - decayed)

    def annealing_of(self, iteration):
        """Factor of the KL term at an iteration."""
        cycle = self.enc_kl_anneal_cycle
        if self.model.enc_kl_weight == 0 or cycle == -1:
            return 1.0
        if self.enc_kl_anneal_formula == "ramp":
            return 1.0 - (1.0 - self.model.enc_kl_min) * 0.9999**iteration
        return (iteration % cycle) / cycle

    # Training

    def run_epoch(self, epoch):
        """Train one epoch.

        Returns
        -------
        reconstruction, kl : float, means over the batches, as logged

        Raises
        ------
        UserError
            When a loss is not finite.
        """
        model = self.model
        generator = torch.Generator().manual_seed(self._epoch_seed(epoch))
        self.generator.manual_seed(self._epoch_seed(epoch))
        torch.manual_seed(self._epoch_seed(epoch) + self.rank)  # for dropout
        model.train()
        batches = self.dataset.shuffled(self.batch_size, generator, self.bucket_batches)
        noise = torch.randn(len(self.dataset), model.latent_size, generator=generator)
        noise = noise.to(model.device)
        total = torch.zeros(2, device=model.device)
        start = 0
        for indices in batches:
            for optimizer in self.optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate_of(epoch, self.iteration)
            total += self._step(indices, noise[start : start + len(indices)])
            start += len(indices)
            self.iteration += 1
            self._update_average()
        model.eval()
        if self.world_size > 1:
            dist.all_reduce(total)
            total /= self.world_size
        reconstruction, kl = (total / len(batches)).tolist()
        if not (math.isfinite(reconstruction) and math.isfinite(kl)):
            raise UserError(
                f"epoch {epoch}: the loss is not finite (reconstruction {reconstruction}, "
                f"KL {kl}); the last checkpoint in {self.save_dir} is untouched; resume it "
                "with a lower --lr"
            )
        return reconstruction, kl

    def _epoch_seed(self, epoch):
        return int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])

    def _batch(self, indices, trim):
        """The batch of these items, varied at random if the options ask for it."""
        batch = self.dataset.batch(indices, trim)
        varies_planes = self.vary_spacing > 0 or self.mirror_planes
        varies = varies_planes or self.augment or self.disturb_history
        if varies or self.vary_profile > 0 or self.practise_edits > 0:
            batch = self._varied(batch, varies_planes)
        return self._weighted(batch)

    def _weighted(self, batch):
        """A batch with weights on rare loops and on joints."""
        if self.rare_loops_weight == self.joints_weight == 1:
            return batch
        present = ~batch.padding[1:]
        plane, number = places(batch.targets[..., -1].t())
        weights = torch.ones_like(batch.targets[..., 0])
        if self.rare_loops_weight != 1:
            weights[number.t() >= self.first_rare_number] *= self.rare_loops_weight
        if self.joints_weight != 1:
            n_planes = self.dataset.info.n_planes
            weights[at_joints(plane, present.t(), n_planes).t()] *= self.joints_weight
        weights = weights / weights[present].mean()
        if batch.point_weights is not None:
            weights = weights * batch.point_weights
        told = None if batch.told is None else self._weighted(batch.told)
        return batch._replace(point_weights=weights, told=told)

    def _varied(self, batch, varies_planes):
        info, padding = self.dataset.info, batch.padding[1:]
        timesteps = batch.targets * self.std + self.mean  # (T, B, F)
        flags = timesteps[..., -1].masked_fill(padding, 0.0)
        points = timesteps[..., :-1].unflatten(-1, (-1, 2))
        points = points.masked_fill(padding[..., None, None], 0.0)  # of no size
        lengths = told = is_told = None
        if varies_planes:
            points, flags, lengths = vary_planes(
                points,
                flags,
                info.n_planes,
                self.vary_spacing,
                self.mirror_planes,
                self.generator,
            )
        if self.vary_profile > 0:
            points = vary_profile(points, flags, info.n_planes, self.vary_profile, self.generator)
        if self.augment:
            points = augment(points, flags, info.n_planes, self.generator)
        if self.practise_edits > 0:
            practised = practise_edits(
                points, flags, info.n_planes, self.practise_edits, self.generator
            )
            points, flags, lengths, is_told, told_points, told_flags, told_lengths = practised
            told = self._as_batch(batch, told_points, told_flags, told_lengths)
        varied = self._as_batch(batch, points, flags, lengths, self.disturb_history)
        if is_told is not None:
            n_more = len(varied.targets) - len(is_told)  # for the end of the sequence
            is_told = F.pad(is_told.to(points.dtype), (0, 0, 0, 0, 0, n_more), value=1.0)
            weights = dict(point_weights=is_told[..., 0], flag_weights=is_told[..., 1])
            varied = varied._replace(told=told, **weights)
        return varied

    def _as_batch(self, batch, points, flags, lengths=None, disturbs=False):
        """Shapes as a batch: points (T, B, n, 2), flags (T, B), of these `lengths` (B,).

        Without `lengths` there are as many timesteps as in `batch`.
        """
        padding = batch.padding[1:]
        if lengths is not None:
            if self.dataset.info.use_eos_token:  # one more timestep, of no size and flagged
                points = torch.cat([points, torch.zeros_like(points[:1])])
                flags = torch.cat([flags, torch.zeros_like(flags[:1])])
                flags[lengths, torch.arange(len(lengths), device=flags.device)] = 1.0
                lengths = lengths + 1
            padding = torch.arange(len(flags), device=flags.device)[:, None] >= lengths
        history = points
        if disturbs:
            blank = self.mean[:-1].view(-1, 2)
            history = disturb_history(points, blank, self.generator, self.history_noise)
        targets, history = (
            torch.cat([loops.flatten(-2), flags[..., None]], dim=-1) for loops in (points, history)
        )
        targets, history = (
            ((timesteps - self.mean) / self.std).masked_fill(padding[..., None], 0.0)
            for timesteps in (targets, history)
        )
        return batch._replace(
            inputs=torch.cat([batch.inputs[:1], history]),
            targets=targets,
            padding=torch.cat([batch.padding[:1], padding]),
        )

    def _step(self, indices, noise):
        """One step on the items `indices`; returns the two losses, (2,)."""
        if self.world_size > 1:
            return self._shared_step(indices, noise)
        return self._optimize(self._batch(indices, self.trims), noise)

    def _shared_step(self, indices, noise):
        """One step of which this process does its share.

        Every process knows the whole batch, so what the loss averages over needs no messages. A
        batch that does not divide evenly is filled up with items of weight 0.
        """
        whole = self._batch(indices, self.trims)
        n_present = (~whole.padding[1:]).sum() / self.world_size
        share = -(-len(indices) // self.world_size)
        mine = np.arange(self.rank * share, (self.rank + 1) * share)
        weights = torch.from_numpy((mine < len(indices)).astype(np.float32)).to(noise.device)
        mine = torch.from_numpy(np.minimum(mine, len(indices) - 1)).to(noise.device)
        batch = whole.select(mine)
        return self._optimize(batch, noise[mine], weights, n_present)

    def _optimize(self, batch, noise, weights=None, n_present=None):
        device_type = self.model.device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=self.amp):
            reconstruction, kl = self.losses(batch, noise, weights, n_present)
        if self.world_size > 1:
            # The floor applies to the KL of the whole batch. Gradients are averaged over the
            # processes, the divergence is a sum: hence the factor.
            whole = kl.detach().clone()
            dist.all_reduce(whole)
            kl = whole + self.world_size * (kl - kl.detach())
        kl = self.model.kl_loss(kl, self.annealing_of(self.iteration))
        (GRADIENT_SCALE * (reconstruction + kl)).backward()
        if self.clip_grad is not None:
            limit = GRADIENT_SCALE * self.clip_grad
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return torch.stack([reconstruction.detach(), kl.detach()])

    # The model that is kept

    def _weights(self):
        """The weights that are trained, by network and name."""
        return {
            f"{prefix}.{name}": weight
            for prefix, network in self.model.networks.items()
            for name, weight in network.named_parameters()
        }

    def _copy_of_weights(self):
        return {name: weight.detach().clone() for name, weight in self._weights().items()}

    @torch.no_grad()
    def _set_weights(self, values):
        for name, weight in self._weights().items():
            weight.copy_(values[name])

    @torch.no_grad()
    def _update_average(self):
        """One step of the moving average, faster at first."""
        if self.average is None:
            return
        decay = min(self.ema, (1 + self.iteration) / (10 + self.iteration))
        weights = [weight.detach() for weight in self._weights().values()]
        torch._foreach_lerp_(list(self.average.values()), weights, 1 - decay)

    @contextlib.contextmanager
    def model_to_keep(self):
        """Within, the networks are those that are tested and saved: averaged and whitened.

        After it, those that are trained are back, so how often one saves changes nothing. Every
        process enters it at once.
        """
        if self.average is None and not self.whitens:
            yield
            return
        trained = self._copy_of_weights()
        try:
            if self.average is not None:
                self._set_weights(self.average)
            if self.whitens:
                self.whiten_latents()
            yield
        finally:
            self._set_weights(trained)

    def whiten_latents(self):
        """Move the latent space: see `whitening`. Every process does it at once.

        What counts are the training shapes as they are, even where training varies them: samples
        are to look like those.
        """
        parts = []
        with torch.inference_mode():
            for indices in torch.arange(len(self.dataset)).split(64):
                parts.append(self.model.encode_distribution(self.dataset.batch(indices, trim=True)))
        whitening = fit_whitening(*map(torch.cat, zip(*parts, strict=True)))
        if self.world_size > 1:  # all the same, to the last digit
            for tensor in whitening:
                dist.broadcast(tensor, 0)
        apply_whitening(whitening, self.model.encoder, self.model.decoder)

    # Checkpoints

    def save(self, epoch, *labels):
        """Write networks, optimizers and the state of training after `epoch`, under each label.

        The networks are those of `model_to_keep`. Where they are not those that are trained, the
        state of training has the latter, and their average. Every process calls this, the first
        one writes.
        """
        state = {"epoch": epoch, "iteration": self.iteration, "seed": self.seed}
        if self.average is not None or self.whitens:
            state["weights"] = self._copy_of_weights()
        if self.average is not None:
            state["average"] = self.average
        with self.model_to_keep():
            for label in labels if self.rank == 0 else ():
                states = {f"{label}_training_state.pth": state}
                for prefix, network in self.model.networks.items():
                    states[f"{prefix}{label}_net.pth"] = network.state_dict()
                    states[f"{prefix}{label}_optimizer.pth"] = self.optimizers[prefix].state_dict()
                save_states(self.save_dir, label, states)

    def resume(self, load_epoch, keeps_seed=False):
        """Load a checkpoint to go on from; with `keeps_seed`, also the seed that it was begun with.

        Optimizers and the state of training are optional: published checkpoints lack the latter,
        and those handed on for inference both.

        Returns
        -------
        int or None : the last epoch trained, where the checkpoint says it
        """
        folder, label = self.save_dir, checkpoint_label(load_epoch)
        self.model.load(folder, load_epoch)
        for prefix, optimizer in self.optimizers.items():
            path = folder / f"{prefix}{label}_optimizer.pth"
            if not path.exists():
                continue
            state = load_state(path, self.model.device)
            _check_kind(path, state, self.optimizer_kind)
            # How a step is computed is this run's own business.
            names = ["lr", "fused", "capturable", "foreach"]
            names += [] if self.keeps_decay else ["weight_decay"]
            own = [
                {name: group[name] for name in names if name in group}
                for group in optimizer.param_groups
            ]
            try:
                for saved, ours in zip(state["param_groups"], own, strict=True):
                    saved.update(ours)
                optimizer.load_state_dict(state)
                _check_shapes(optimizer)
            except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                raise UserError(
                    f"{path}: not the optimizer of this model ({error}); remove it to start the "
                    "optimizer afresh"
                ) from None
        path = folder / f"{label}_training_state.pth"
        if not path.exists():
            self.iteration = self.count_from_epoch * self.n_batches
            self.average = self._copy_of_weights() if self.ema else None
            return None
        state = load_state(path, self.model.device)
        self._check_training_state(path, state)
        self.iteration = state["iteration"]
        if self.ema:
            self.average = state.get("average") or self._copy_of_weights()
        if "weights" in state and (self.average is not None or self.whitens):
            self._set_weights(state["weights"])
        if keeps_seed:
            self.seed = state["seed"]
        return state["epoch"]

    def _check_training_state(self, path, state):
        """UserError where a file holds something else than `save` writes for this model."""
        numbers = [state.get(name) for name in ("epoch", "iteration", "seed")]
        fits = all(type(number) is int and number >= 0 for number in numbers)
        weights = self._weights()
        for kept in (state.get("weights") or weights, state.get("average") or weights):
            fits = fits and isinstance(kept, dict) and kept.keys() == weights.keys()
            fits = fits and all(
                isinstance(kept[name], torch.Tensor) and kept[name].shape == weight.shape
                for name, weight in weights.items()
            )
        if not fits:
            raise UserError(
                f"{path}: not the state of training this model; remove it to go on without it, "
                "counting from --count_from_epoch"
            )


def _check_kind(path, state, kind):
    """UserError where a saved optimizer is of another `--optimizer` than `kind`."""
    groups = state.get("param_groups")
    if not (groups and isinstance(groups, list) and isinstance(groups[0], dict)):
        return  # damaged: loading it says so
    saved = "adamw" if groups[0].get("decoupled_weight_decay") else "adam"
    saved = "muon" if "is_hidden" in groups[0] else saved
    if saved != kind:
        raise UserError(
            f"{path}: saved with --optimizer {saved}, and this is {kind}; use the same, or remove "
            f"the {path.name[3:]} of both networks to start the optimizer afresh"
        )


def _check_shapes(optimizer):
    """ValueError where an optimizer's moments have other shapes than their weights."""
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.ndim and value.shape != weight.shape:
                raise ValueError(f"its {name} is {tuple(value.shape)}, not {tuple(weight.shape)}")


class _Losses(torch.nn.Module):
    """The losses as a module, the form that DistributedDataParallel and torch.compile take."""

    def __init__(self, model):
        super().__init__()
        self.encoder, self.decoder = model.encoder, model.decoder
        self._losses = model.losses

    def forward(self, *arguments):
        return self._losses(*arguments)


def mean_losses(model, dataset, batch_size):
    """Losses of a whole set, with z = mu and no annealing: means over its batches.

    Returns
    -------
    reconstruction, kl : float
    """
    dataset.to(model.device)
    model.eval()
    total = torch.zeros(2, device=model.device)
    batches = torch.arange(len(dataset)).split(batch_size)
    with torch.inference_mode():
        for indices in batches:
            reconstruction, kl = model.losses(dataset.batch(indices, trim=True))
            total += torch.stack([reconstruction, model.kl_loss(kl)])
    return (total / len(batches)).tolist()
