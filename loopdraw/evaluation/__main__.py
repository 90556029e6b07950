"""Measure how well a trained model reconstructs and generates shapes.

    python -m loopdraw.evaluation --optfile vases-optfile.txt --n_samples 200

prints the numbers and writes them to `evaluation.json` and, as one page of pictures and plots, to
`evaluation.png` in the folder of the checkpoint. `--n_samples` and `--prior` also count
beside an optfile. The
same `--seed` (0 by default) gives the same numbers on the same machine.
"""

from loopdraw.files import run_script
from loopdraw.options import options_for, parse_options, require
from loopdraw.processes import pick_device
from loopdraw.threads import wait_briefly


def main():
    options = parse_options(description=__doc__, beside_optfile=("n_samples", "prior"))
    require(options, "dataroot", "save_dir")
    wait_briefly()  # before torch is imported
    from loopdraw.evaluation.evaluate import evaluate, report

    model, sets, epoch = load(options)
    numbers, pictures = evaluate(
        model,
        sets,
        n_samples=options.n_samples,
        seed=options.seed or 0,
        n_workers=options.num_workers,
    )
    about = {"checkpoint": options.save_dir, "epoch": epoch, "dataset": options.dataroot}
    report(about | numbers, pictures, options.save_dir)


def load(options):
    """The model that the options name, the sets of its dataset by name, and the epoch's label."""
    from loopdraw.checkpoints import checkpoint_label
    from loopdraw.data.dataset import DatasetInfo, load_datasets
    from loopdraw.model.vae import load_model

    info = DatasetInfo.load(options.save_dir, options.loop_repr_type)
    train, test = load_datasets(info=info, **options_for(load_datasets, options))
    epoch = -1 if options.load_epoch is None else options.load_epoch
    model = load_model(
        options.save_dir,
        settings=vars(options),
        epoch=epoch,
        info=train.info,
        device=pick_device(options.gpu_ids),
    )
    return model, {"train": train} | ({"test": test} if test else {}), checkpoint_label(epoch)


if __name__ == "__main__":
    run_script(main)
