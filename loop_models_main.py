"""Train a loop sequence VAE, or test one on whole sets.

    python loop_models_main.py --optfile vases-optfile.txt

`--mode train` trains from scratch, or resumes with `--load_epoch -1`. `--mode test` prints the
losses of a trained model on all sets. On several GPUs or machines, start it with

    torchrun --nproc_per_node=N loop_models_main.py --optfile vases-optfile.txt
"""

import datetime
import os
import signal
import sys
import time
from pathlib import Path

from loopdraw.files import UserError, remove_leftovers, run_script, write_text
from loopdraw.logs import TEST_LOG, TRAIN_LOG, TrainingLog
from loopdraw.options import format_options, options_for, parse_options, require
from loopdraw.processes import (
    any_process,
    deferred_interrupt,
    draw_seed,
    ended_by,
    first_process_first,
    pick_device,
    process_group,
    rank_and_world_size,
    start_one_process_a_gpu,
)
from loopdraw.threads import wait_briefly


def main():
    options = parse_options(description=__doc__)
    require(options, "dataroot", "save_dir")
    wait_briefly()  # before torch is imported
    if options.mode == "test":
        return test(options)
    if len(options.gpu_ids) > 1 and "WORLD_SIZE" not in os.environ:
        start_one_process_a_gpu(options.gpu_ids)
    with process_group(options.gpu_ids):
        train(options)


def train(options):
    """Train from scratch, or from the checkpoint that `--load_epoch` names."""
    import torch

    from loopdraw.data.dataset import load_datasets
    from loopdraw.model.training import Trainer
    from loopdraw.model.vae import LoopSeqEncoderDecoderModel

    rank, _ = rank_and_world_size()
    report = print if rank == 0 else _say_nothing
    device = pick_device(options.gpu_ids, report)
    with first_process_first():  # it slices the meshes, the others find the cache
        sets = load_datasets(report=report, **options_for(load_datasets, options))
    train_set = sets["train"]
    # Whoever chooses settings or an epoch by the log should not choose by the test set.
    logged_set = sets.get("val", sets.get("test"))
    seed = draw_seed(device) if options.seed is None else options.seed
    torch.manual_seed(seed)
    model = LoopSeqEncoderDecoderModel(
        train_set.info, device, **options_for(LoopSeqEncoderDecoderModel, options)
    )
    trainer = Trainer(model, train_set, **{**options_for(Trainer, options), "seed": seed})
    save_dir = Path(options.save_dir)
    (first, done), last = resume(trainer, options, report), trainer.n_epochs - 1
    if first > last:
        if done == last:
            log = TrainingLog(save_dir, first) if rank == 0 else None
            complete(trainer, logged_set, log, done, str(done))
        report(f"{save_dir}: all {last + 1} epochs are trained; raise --niter to go on")
        return
    size = sum(parameter.numel() for parameter in model.parameters())
    report(
        f"training {options.architecture} ({size / 1e6:.2f} million parameters) on "
        f"{len(train_set)} shapes of at most {train_set.n_timesteps} timesteps, on {device}, "
        f"seed {trainer.seed}"
    )
    if rank == 0:
        options.seed = trainer.seed
        write_text(save_dir / "opt.txt", format_options(options))
        train_set.info.save(save_dir)
    log = TrainingLog(save_dir, first) if rank == 0 else None
    if done is not None and first == done + 1:
        complete(trainer, logged_set, log, done)
    started = time.monotonic()
    message = "\n{name}: stopping at the end of this epoch; {repeat} to stop at once"
    with deferred_interrupt(message, report) as interrupted:
        for epoch in range(first, last + 1):
            reconstruction, kl = trainer.run_epoch(epoch)
            is_last, stops = epoch == last, any_process(interrupted(), device)
            if rank == 0:
                learning_rate = trainer.learning_rate_of(epoch)
                log.add(TRAIN_LOG, epoch, reconstruction, kl)
                log.scalars(epoch, learning_rate=learning_rate)
                seconds_left = (time.monotonic() - started) / (epoch - first + 1) * (last - epoch)
                show_progress(
                    f"epoch {epoch}/{last}  reconstruction {reconstruction:.5f}  kl {kl:.5f}  "
                    f"lr {learning_rate:.2e}  left "
                    f"{datetime.timedelta(seconds=round(seconds_left))}"
                )
            if is_last or stops or (epoch + 1) % options.save_every == 0:
                trainer.save(epoch, "latest", *([str(epoch)] if is_last else []))
                log_test_losses(trainer, logged_set, log, epoch)
            if stops and not is_last:
                report(
                    "\n" * sys.stdout.isatty() + f"stopped; {save_dir} has all up to epoch "
                    f"{epoch} of {last}; --load_epoch -1 and the same options go on from there"
                )
                raise ended_by(interrupted() or signal.SIGINT)
    if rank == 0:
        log.close()
        if options.fit_prior:
            from loopdraw.model.fit_prior import fit_prior
            from loopdraw.model.prior import save_prior

            mirrors = bool(options.mirror_planes)
            prior = fit_prior(model, sets, options.fit_prior, trainer.seed, mirrors=mirrors)
            save_prior(save_dir, prior, model.decoder)
        print("\n" * sys.stdout.isatty() + f"trained; the checkpoint is in {save_dir}")


def log_test_losses(trainer, logged_set, log, epoch):
    """Write the losses of the set beside training down, once. Every process takes part."""
    from loopdraw.model.training import mean_losses

    with trainer.model_to_keep():
        if log is None or logged_set is None or log.has(TEST_LOG, epoch):
            return
        log.add(TEST_LOG, epoch, *mean_losses(trainer.model, logged_set, trainer.batch_size))


def complete(trainer, logged_set, log, epoch, label=None):
    """Write what a run that was killed while it saved did not get to.

    That is a line of the test log and, with a `label`, the last checkpoint under its own number.
    """
    if label and not (Path(trainer.save_dir) / f"{label}_training_state.pth").exists():
        trainer.save(epoch, label)
    log_test_losses(trainer, logged_set, log, epoch)


def resume(trainer, options, report):
    """Load the checkpoint that the options ask for.

    Returns
    -------
    first : int, the first epoch to train
    done : int, the last epoch of the checkpoint; None where there is none that says it
    """
    from loopdraw.checkpoints import checkpoint_label, finish_pending

    first = options.count_from_epoch
    finish_pending(options.save_dir)
    remove_leftovers(options.save_dir)
    path = Path(options.save_dir) / f"enc{checkpoint_label(options.load_epoch)}_net.pth"
    if options.load_epoch is None:
        if path.exists():
            raise UserError(
                f"{options.save_dir}: a trained model is there already; go on training it with "
                "--load_epoch -1, or name another --save_dir"
            )
        return first, None
    if options.load_epoch == -1 and not path.exists():
        report(f"{options.save_dir}: no checkpoint there yet; training starts from scratch")
        return first, None
    done = trainer.resume(options.load_epoch, keeps_seed=options.seed is None)
    if done is not None and first == 0:
        first = done + 1
    elif done is not None and first != done + 1:
        report(
            f"the checkpoint is of epoch {done}; counting from {first} as --count_from_epoch says"
        )
    report(f"resuming from {path.parent}, at epoch {first}")
    return first, done


def test(options):
    """Print the losses of a trained model on all sets of its dataset, each as a whole."""
    from loopdraw.model.training import mean_losses
    from loopdraw.model.vae import load_model_and_sets

    model, sets = load_model_and_sets(options)
    print(f"{'set':<8}{'shapes':>8}{'reconstruction':>16}{'KL':>10}")
    for name, dataset in sets.items():
        reconstruction, kl = mean_losses(model, dataset, options.batch_size)
        print(f"{name:<8}{len(dataset):>8}{reconstruction:>16.6f}{kl:>10.6f}")


def show_progress(line):
    """Print a line, or in a terminal put it in the place of the one before."""
    live = sys.stdout.isatty()
    print(f"\r{line}\x1b[K" if live else line, end="" if live else "\n", flush=True)


def _say_nothing(*_):
    pass


if __name__ == "__main__":
    run_script(main)
