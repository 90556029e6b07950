"""One training run's moving parts: optimizers, schedule, annealing, steps, resumption.

All randomness of an epoch (order of the items, noise of the latents, dropout) is drawn from the
seed and the number of the epoch. So a resumed run continues as if it had never stopped, and several
processes that share the batches draw the same numbers as one.
"""

import math
import os
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from loopdraw.checkpoints import checkpoint_label, load_state, save_states
from loopdraw.data.augmentation import augment, disturb_history
from loopdraw.data.dataset import Batch
from loopdraw.files import UserError
from loopdraw.model.latents import apply_whitening, fit_whitening
from loopdraw.processes import draw_seed, rank_and_world_size

# The published program takes gradients of 100 times the loss. With Adam that matters only through
# its epsilon, but it does to whoever resumes a published run.
GRADIENT_SCALE = 100.0


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
        niter=20,
        niter_decay=20,
        count_from_epoch=0,
        enc_kl_anneal_cycle=100,
        enc_kl_anneal_formula="ramp",
        augment=False,
        disturb_history=False,
        seed=None,
        amp=False,
        compile=False,
    ):
        self.model = model
        self.dataset = dataset.to(model.device)
        self.save_dir = Path(save_dir)
        self.batch_size = batch_size
        self.lr, self.niter, self.niter_decay = lr, niter, niter_decay
        self.count_from_epoch = count_from_epoch
        self.enc_kl_anneal_cycle = enc_kl_anneal_cycle
        self.enc_kl_anneal_formula = enc_kl_anneal_formula
        self.augment, self.disturb_history = augment, disturb_history
        self.amp = amp
        self.iteration = 0
        self.seed = draw_seed(model.device) if seed is None else seed
        self.rank, self.world_size = rank_and_world_size()
        on_gpu = model.device.type == "cuda"
        optimizer_class = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
        self.optimizers = {
            prefix: optimizer_class(network.parameters(), lr=lr, betas=(0.9, 0.999), fused=True)
            for prefix, network in model.networks.items()
        }
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

    def learning_rate_of(self, epoch):
        """Full for `niter` epochs, then falling to zero over `niter_decay`."""
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
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate_of(epoch)
        batches = self.dataset.shuffled(self.batch_size, generator)
        noise = torch.randn(len(self.dataset), model.latent_size, generator=generator)
        noise = noise.to(model.device)
        total = torch.zeros(2, device=model.device)
        start = 0
        for indices in batches:
            total += self._step(indices, noise[start : start + len(indices)])
            start += len(indices)
            self.iteration += 1
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
        if not (self.augment or self.disturb_history):
            return batch
        padding = batch.padding[1:, :, None]
        timesteps = batch.targets * self.std + self.mean  # (T, B, F)
        flags = timesteps[..., -1].masked_fill(padding[..., 0], 0.0)
        points = timesteps[..., :-1].unflatten(-1, (-1, 2))
        if self.augment:
            points = augment(points, flags, self.dataset.info.n_planes, self.generator)
        history = points
        if self.disturb_history:
            history = disturb_history(points, self.mean[:-1].view(-1, 2), self.generator)
        flag = timesteps[..., -1:]
        targets, history = (
            ((torch.cat([loops.flatten(-2), flag], dim=-1) - self.mean) / self.std).masked_fill(
                padding, 0.0
            )
            for loops in (points, history)
        )
        return batch._replace(inputs=torch.cat([batch.inputs[:1], history]), targets=targets)

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
        batch = Batch(
            whole.inputs[:, mine],
            whole.targets[:, mine],
            whole.padding[:, mine],
            None if whole.point_clouds is None else whole.point_clouds[mine],
        )
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
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return torch.stack([reconstruction.detach(), kl.detach()])

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
        """Write networks, optimizers and the state of training after `epoch`, under each label."""
        for label in labels:
            states = {
                f"{label}_training_state.pth": {
                    "epoch": epoch,
                    "iteration": self.iteration,
                    "seed": self.seed,
                }
            }
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
            # How a step is computed is this run's own business.
            own = [
                {name: group[name] for name in ("lr", "fused", "capturable", "foreach")}
                for group in optimizer.param_groups
            ]
            try:
                for saved, ours in zip(state["param_groups"], own, strict=True):
                    saved.update(ours)
                optimizer.load_state_dict(state)
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{path}: not the optimizer of this model ({error}); remove it to start the "
                    "optimizer afresh"
                ) from None
        path = folder / f"{label}_training_state.pth"
        if not path.exists():
            batches = -(-len(self.dataset) // self.batch_size)
            self.iteration = self.count_from_epoch * batches
            return None
        state = load_state(path)
        self.iteration = state["iteration"]
        if keeps_seed:
            self.seed = state["seed"]
        return state["epoch"]


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
