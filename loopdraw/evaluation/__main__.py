"""Measure how well a trained model reconstructs and generates shapes.

    python -m loopdraw.evaluation --optfile vases-optfile.txt --n_samples 200

prints the numbers and writes them to `evaluation.json` and, as one page of pictures and plots, to
`evaluation.png` in the folder of the checkpoint. `--n_samples` also counts beside an optfile. The
same `--seed` (0 by default) gives the same numbers on the same machine.
"""

from loopdraw.files import run_script
from loopdraw.options import parse_options, require
from loopdraw.threads import wait_briefly


def main():
    options = parse_options(description=__doc__, beside_optfile=("n_samples",))
    require(options, "dataroot", "save_dir")
    wait_briefly()  # before torch is imported
    from loopdraw.evaluation.evaluate import evaluate, report

    numbers, pictures = evaluate(options)
    report(numbers, pictures, options.save_dir)


if __name__ == "__main__":
    run_script(main)
