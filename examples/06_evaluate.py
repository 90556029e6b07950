"""Measure how well a model reconstructs the shapes of a dataset and generates new ones.

    python examples/06_evaluate.py [folder] [number of samples] [checkpoint] [dataset]

prints a table, and writes it as `evaluation.json` and, with pictures, as `evaluation.png` into the
folder, which is `example_output` by default. By default it measures the demo model on a few vases
that it makes, `measured-on/`; so few that the numbers tell little.
"""

import sys
from pathlib import Path

import loopdraw
from loopdraw.data.dataset import load_datasets
from loopdraw.demo.dataset import make_dataset
from loopdraw.evaluation.evaluate import evaluate, report

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "demo-vases"

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "example_output")
n_samples = int(sys.argv[2]) if len(sys.argv) > 2 else 4
checkpoint = Path(sys.argv[3]) if len(sys.argv) > 3 else CHECKPOINT
dataset = Path(sys.argv[4]) if len(sys.argv) > 4 else folder / "measured-on"

if not dataset.exists():
    make_dataset("vases", dataset, n_train=4, n_test=4, seed=0)
model = loopdraw.load(checkpoint)
sets = load_datasets(
    dataset,
    model.info.representation.name,
    info=model.info,
    use_eos_token=model.info.use_eos_token,
    architecture=model.network.architecture,
)
numbers, pictures = evaluate(model.network, sets, n_samples=n_samples, n_workers=1)
about = {"checkpoint": checkpoint.name, "epoch": "latest", "dataset": dataset.name}
report(about | numbers, pictures, folder)
