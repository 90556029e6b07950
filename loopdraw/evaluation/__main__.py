"""Measure how well a trained model reconstructs and generates shapes.

    python -m loopdraw.evaluation --optfile vases-optfile.txt --seeds 3

prints the numbers and writes them to `evaluation.json` in the folder of the checkpoint, with a page
of pictures and plots, `evaluation.png`, and a sheet of samples to look at, `samples-48.png`.
`--on val` measures on the validation set, so that the test set is kept for the end. `--n_samples`,
`--seeds`, `--on` and `--prior` also count beside an optfile. The same `--seed` (0 by default) gives
the same numbers on the same machine.
"""

from loopdraw.files import run_script
from loopdraw.options import parse_options, require
from loopdraw.threads import wait_briefly


def main():
    options = parse_options(
        description=__doc__, beside_optfile=("n_samples", "prior", "on", "seeds")
    )
    require(options, "dataroot", "save_dir")
    wait_briefly()  # before torch is imported
    from loopdraw.checkpoints import checkpoint_label
    from loopdraw.evaluation.evaluate import evaluate, report
    from loopdraw.model.vae import load_model_and_sets

    model, sets = load_model_and_sets(options)
    numbers, pictures = evaluate(
        model,
        sets,
        on=options.on,
        n_samples=options.n_samples,
        seed=options.seed or 0,
        n_seeds=options.seeds,
        n_workers=options.num_workers,
    )
    epoch = checkpoint_label(options.load_epoch)
    about = {"checkpoint": options.save_dir, "epoch": epoch, "dataset": options.dataroot}
    report(about | numbers, pictures, options.save_dir)


if __name__ == "__main__":
    run_script(main)
