"""What `--augment` does to the test loss, on few shapes: the same steps and seed with and without.

    python benchmarks/augmentation.py [--n_train 64] [--epochs 960]

Makes procedural vases, slices them, and trains the networks of `demo-vases-optfile.txt` twice, with
the squared error and the learning rate falling to zero over the second half of the epochs. Prints
the reconstruction losses on the training and the test shapes as they are. About a quarter of an
hour on two cores, one for each run.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BATCH_SIZE = 4
LEFT_OUT = ("--augment", "--disturb_history", "--whiten_latents", "--reco_loss_type", "--niter",
            "--dataroot", "--save_dir", "--batch_size")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n_train", type=int, default=64, metavar="N", help="training shapes")
    parser.add_argument("--n_test", type=int, default=64, metavar="N", help="test shapes")
    parser.add_argument("--epochs", type=int, default=960, metavar="N", help="of each run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loopdraw-augmentation-") as folder:
        folder = Path(folder)
        dataset = folder / "vases"
        sizes = ("--n_train", arguments.n_train, "--n_test", arguments.n_test, "--seed", 0)
        run("loopdraw/demo/dataset.py", "vases", dataset, *sizes)
        print(f"{arguments.n_train} training and {arguments.n_test} test vases, "
              f"{arguments.epochs} epochs of batches of {BATCH_SIZE}")  # fmt: skip
        print(f"{'':10}{'train':>10}{'test':>10}")
        run("loop_models.py", "--dataroot", dataset, "--loop_repr_type", "fixed-res-polyline")

        def losses_of(name, more):
            return name, train(folder / name, dataset, arguments.epochs, more)

        with ThreadPoolExecutor(2) as pool:
            for name, losses in pool.map(losses_of, ("plain", "--augment"), ([], ["--augment"])):
                print(f"{name:10}{losses['train']:10.3f}{losses['test']:10.3f}", flush=True)


def train(save_dir, dataset, epochs, more):
    """Train a model; the reconstruction losses on both sets, a dict."""
    lines = (ROOT / "demo-vases-optfile.txt").read_text().splitlines()
    words = [
        word
        for line in lines
        if line.startswith("--") and not line.startswith(LEFT_OUT)
        for word in line.split()
    ]
    words += ["--dataroot", dataset, "--save_dir", save_dir, "--batch_size", BATCH_SIZE]
    words += ["--niter", epochs // 2 - 1, "--niter_decay", epochs // 2, *more]
    run("loop_models_main.py", *words)
    words[words.index("train")] = "test"
    printed = run("loop_models_main.py", *words)
    table = [line.split() for line in printed.splitlines()]
    return {row[0]: float(row[2]) for row in table if row and row[0] in ("train", "test")}


def run(script, *words):
    """Run a script of the project; what it printed."""
    done = subprocess.run(
        [sys.executable, script, *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.stdout


if __name__ == "__main__":
    main()
