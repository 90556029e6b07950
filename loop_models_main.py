"""Train a loop sequence VAE, or test one on whole sets.

    python loop_models_main.py --optfile vases-optfile.txt

`--mode train` trains from scratch, or resumes with `--load_epoch -1`. `--mode test` prints the
losses of a trained model on the train and test sets. On several GPUs or machines, start it with

    torchrun --nproc_per_node=N loop_models_main.py --optfile vases-optfile.txt
"""

import gc
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from loopdraw.data.dataset import DatasetInfo, load_datasets
from loopdraw.files import UserError, run_script, write_text
from loopdraw.model.checkpoints import checkpoint_label, finish_pending
from loopdraw.model.training import Trainer, rank_and_world_size
from loopdraw.model.vae import LoopSeqEncoderDecoderModel, pick_device
from loopdraw.options import format_options, parse_options, require

EPOCHS_BETWEEN_SAVES = 10
TRAIN_LOG, TEST_LOG = "loss_log.txt", "test_log.txt"


def main():
    options = parse_options(description=__doc__)
    require(options, "dataroot", "save_dir")
    if options.mode == "test":
        return test(options)
    if len(options.gpu_ids) > 1 and "WORLD_SIZE" not in os.environ:
        return _start_one_process_a_gpu(options)
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        if torch.cuda.is_available():
            options.gpu_ids = [int(os.environ["LOCAL_RANK"])]
    try:
        return train(options)
    finally:
        if dist.is_initialized():
            # What refers to the group goes first, even in cycles: a group that lives on until the
            # interpreter ends may abort it.
            gc.collect()
            dist.destroy_process_group()


def train(options):
    """Train from scratch, or from the checkpoint that `--load_epoch` names."""
    rank, _ = rank_and_world_size()
    report = print if rank == 0 else _say_nothing
    if rank > 0:
        dist.barrier()  # the first process slices the meshes, the others find the cache
    train_set, test_set = load_datasets(options, report=report)
    if rank == 0 and dist.is_initialized():
        dist.barrier()
    device = pick_device(options, report)
    if options.seed is not None:
        torch.manual_seed(options.seed)
    model = LoopSeqEncoderDecoderModel(options, train_set.info, device)
    trainer = Trainer(model, train_set, options)
    save_dir = Path(options.save_dir)
    first, last = _resume(trainer, report), options.niter + options.niter_decay
    if first > last:
        report(f"{save_dir}: all {last + 1} epochs are trained; raise --niter to go on")
        return
    size = sum(parameter.numel() for parameter in model.parameters())
    report(
        f"training {options.architecture} ({size / 1e6:.2f} million parameters) on "
        f"{len(train_set)} shapes of at most {train_set.n_timesteps} timesteps, on {device}"
    )
    if rank == 0:
        write_text(save_dir / "opt.txt", format_options(options))
        train_set.info.save(save_dir)
        log = _Log(save_dir, first)
    progress = _Progress(first, last)
    for epoch in range(first, last + 1):
        reconstruction, kl = trainer.run_epoch(epoch)
        is_last = epoch == last
        saves = is_last or (epoch + 1) % EPOCHS_BETWEEN_SAVES == 0
        if saves and options.whiten_latents:
            trainer.whiten_latents()
        if rank > 0:
            continue
        learning_rate = trainer.learning_rate_of(epoch)
        log.add(TRAIN_LOG, epoch, reconstruction, kl)
        log.scalars(epoch, learning_rate=learning_rate)
        progress.show(epoch, reconstruction, kl, learning_rate)
        if saves:
            trainer.save(epoch, "latest", *([str(epoch)] if is_last else []))
            if test_set is not None:
                log.add(TEST_LOG, epoch, *mean_losses(model, test_set, options.batch_size))
    if rank == 0:
        progress.end()
        log.close()
        print(f"trained; the checkpoint is in {save_dir}")


def _resume(trainer, report):
    """Load the checkpoint that the options ask for; the number of the first epoch to train."""
    options = trainer.options
    first = options.count_from_epoch
    finish_pending(options.save_dir)
    epoch = -1 if options.load_epoch is None else options.load_epoch
    path = Path(options.save_dir) / f"enc{checkpoint_label(epoch)}_net.pth"
    if options.load_epoch is None:
        if path.exists():
            raise UserError(
                f"{options.save_dir}: a trained model is there already; go on training it with "
                "--load_epoch -1, or name another --save_dir"
            )
        return first
    if options.load_epoch == -1 and not path.exists():
        report(f"{options.save_dir}: no checkpoint there yet; training starts from scratch")
        return first
    done = trainer.resume(options.load_epoch)
    if done is not None and first == 0:
        first = done + 1
    elif done is not None and first != done + 1:
        report(
            f"the checkpoint is of epoch {done}; counting from {first} as --count_from_epoch says"
        )
    report(f"resuming from {path.parent}, at epoch {first}")
    return first


def test(options):
    """Print the losses of a trained model on the whole train and test sets."""
    info = DatasetInfo.load(options.save_dir, options)
    train_set, test_set = load_datasets(options, info)
    model = LoopSeqEncoderDecoderModel(options, train_set.info, pick_device(options))
    epoch = -1 if options.load_epoch is None else options.load_epoch
    model.load(options.save_dir, epoch)
    print(f"{'set':<8}{'shapes':>8}{'reconstruction':>16}{'KL':>10}")
    for name, dataset in (("train", train_set), ("test", test_set)):
        if dataset is not None:
            dataset.to(model.device)
            reconstruction, kl = mean_losses(model, dataset, options.batch_size)
            print(f"{name:<8}{len(dataset):>8}{reconstruction:>16.6f}{kl:>10.6f}")


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


class _Log:
    """`loss_log.txt`, `test_log.txt` and TensorBoard's event files, cut back to where we resume."""

    def __init__(self, save_dir, first_epoch):
        from torch.utils.tensorboard import SummaryWriter

        self.save_dir = save_dir
        for name in (TRAIN_LOG, TEST_LOG):
            self._cut_back(save_dir / name, first_epoch)
        self.writer = SummaryWriter(save_dir, purge_step=first_epoch)

    @staticmethod
    def _cut_back(path, first_epoch):
        """Drop the lines of epochs that are trained again, and a line that a crash cut short."""
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8")
        kept = []
        for line in text.splitlines(keepends=True):
            epoch = line.split(",")[0]
            if line.endswith("\n") and epoch.isdigit() and int(epoch) < first_epoch:
                kept.append(line)
        if "".join(kept) != text:
            write_text(path, "".join(kept))

    def add(self, name, epoch, reconstruction, kl):
        try:
            with open(self.save_dir / name, "a", encoding="utf-8") as file:
                file.write(f"{epoch},{reconstruction:.9g},{kl:.9g}\n")
        except OSError as error:
            raise UserError(
                f"{self.save_dir / name}: cannot be written ({error.strerror}); free some space "
                "and resume"
            ) from None
        split = "train" if name == TRAIN_LOG else "test"
        self.scalars(epoch, **{f"reconstruction/{split}": reconstruction, f"kl/{split}": kl})

    def scalars(self, epoch, **values):
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)

    def close(self):
        self.writer.close()


class _Progress:
    """A line an epoch: both losses, learning rate, time left. In a terminal it is one live line."""

    def __init__(self, first, last):
        self.first, self.last = first, last
        self.started = time.monotonic()
        self.live = sys.stdout.isatty()

    def show(self, epoch, reconstruction, kl, learning_rate):
        spent = time.monotonic() - self.started
        left = spent / (epoch - self.first + 1) * (self.last - epoch)
        line = (
            f"epoch {epoch}/{self.last}  reconstruction {reconstruction:.5f}  kl {kl:.5f}  "
            f"lr {learning_rate:.2e}  left {_hours(left)}"
        )
        print(f"\r{line}\x1b[K" if self.live else line, end="" if self.live else "\n", flush=True)

    def end(self):
        if self.live:
            print()


def _hours(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _say_nothing(*_):
    pass


def _start_one_process_a_gpu(options):
    """`--gpu_ids 0 1`: run this script again, as torchrun would, on each of those GPUs."""
    n_gpus = torch.cuda.device_count()
    if max(options.gpu_ids) >= n_gpus:
        raise UserError(
            f"--gpu_ids {' '.join(map(str, options.gpu_ids))}: this machine has {n_gpus} GPUs"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, options.gpu_ids))
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={len(options.gpu_ids)}"]
    os.execv(sys.executable, [sys.executable, *launcher, *sys.argv])


if __name__ == "__main__":
    run_script(main)
