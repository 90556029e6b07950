"""What each part of the demo's recipe brings: one training run a row, with one part left out.

    python benchmarks/ablation.py [FOLDER] [--epochs 8]

Trains on 1,000 vases with `demo-vases-optfile.txt`, each time without one of its options, for as
many epochs and with the same seed; the whole recipe with three seeds. FOLDER keeps the dataset and
finished rows: the same command goes on after a Ctrl-C. A row takes about four minutes of one core.
Prints a table of what comes back when the 200 validation vases are encoded and decoded:

    loops      planes with the right number of loops
    shapes     shapes that have it on all planes
    distance   mean distance of the points of loops, teacher-forced
    free ends  shapes with parts that end in air
    kept       an outer loop is scaled by 0.6: the share of this left eight planes above, median
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

N_TRAIN, N_VAL, N_EDITED = 1000, 200, 40
EDITED_PLANE, SCALE, PLANES_ON = 8, 0.6, 8
VERSION_4_ONLY = ("--rare_loops_weight", "--joints_weight", "--practise_edits")
# What a row leaves out and puts in instead.
ROWS = {
    "the whole recipe": ((), ()),
    "the same, seed 1": (("--seed",), ("--seed", "1")),
    "the same, seed 2": (("--seed",), ("--seed", "2")),
    "version 0, without a plan": (
        ("--transformer_arch_version", *VERSION_4_ONLY),
        ("--transformer_arch_version", "0"),
    ),
    "no practised edits": (("--practise_edits",), ()),
    "no disturbed history": (("--disturb_history",), ()),
    "no order of ties": (("--order_ties",), ()),
    "no weight on joints": (("--joints_weight",), ()),
    "no weight on rare loops": (("--rare_loops_weight",), ()),
    "no varied profiles": (("--vary_profile",), ()),
    "AdamW at 6e-4": (("--optimizer", "--lr"), ("--optimizer", "adamw", "--lr", "6e-4")),
    "no averaged weights": (("--ema",), ()),
    "learning rate falls linearly": (("--lr_schedule",), ()),
}
COLUMNS = ("loops", "shapes", "distance", "free ends", "kept")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="what to keep the runs in")
    parser.add_argument("--epochs", type=int, default=8, metavar="N", help="of each row")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        return measure_rows(arguments.folder, arguments.epochs)
    with tempfile.TemporaryDirectory(prefix="loopdraw-ablation-") as folder:
        measure_rows(Path(folder), arguments.epochs)


def measure_rows(folder, epochs):
    dataset = folder.resolve() / "vases"
    if not dataset.exists():
        sizes = ("--n_train", N_TRAIN, "--n_val", N_VAL, "--n_test", 1, "--seed", 0)
        run("-m", "loopdraw.demo.dataset", "vases", dataset, *sizes)
    print(f"| {N_TRAIN} vases, {epochs} epochs | " + " | ".join(COLUMNS) + " |")
    print("|---" * (1 + len(COLUMNS)) + "|")
    for name, (left_out, put_in) in ROWS.items():
        row = folder.resolve() / f"{name.replace(' ', '-').replace(',', '')}-{epochs}"
        result = row / "result.json"
        if not result.exists():
            words = [*recipe(("--dataroot", "--save_dir", "--niter_decay", *left_out)), *put_in]
            words += ["--dataroot", dataset, "--save_dir", row, "--niter_decay", epochs - 1]
            run("loop_models_main.py", *words)
            result.write_text(json.dumps(measure(row)))
        found = json.loads(result.read_text())
        print(
            f"| {name} | {found['loops']:.1%} | {found['shapes']:.1%} | {found['distance']:.4f} "
            f"| {found['free ends']:.1%} | {found['kept']:.0%} |",
            flush=True,
        )


def recipe(left_out):
    """The words of the demo's optfile without some options, and without a prior."""
    words = shlex.split((ROOT / "demo-vases-optfile.txt").read_text(), comments=True)
    kept = []
    for word in words:
        if word.startswith("--"):
            skips = word in (*left_out, "--fit_prior")
        if not skips:
            kept.append(word)
    return kept


def measure(folder):
    """What a trained model makes of the validation set: dict of `COLUMNS`."""
    import loopdraw
    from loopdraw.data.dataset import load_datasets
    from loopdraw.evaluation.checks import free_ends
    from loopdraw.evaluation.scores import predict, sequence_errors
    from loopdraw.options import options_for, parse_options

    options = parse_options(["--optfile", str(folder / "opt.txt")])
    model = loopdraw.load(folder)
    info = model.network.info
    sets = load_datasets(info=info, **options_for(load_datasets, options))
    predicted = predict(model.network, sets["val"])
    pairs = [
        [[len(loops) for loops in info.loops(sequence)] for sequence in sequences]
        for sequences in zip(sets["val"].sequences, predicted.autoregressive, strict=True)
    ]
    right = [np.equal(*pair) for pair in pairs]
    ends = [len(free_ends(info.planes, info.loops(s))) for s in predicted.autoregressive]
    errors = sequence_errors(info, sets["val"], predicted.teacher_forced)
    return {
        "loops": float(np.mean(right)),
        "shapes": float(np.mean([all(planes) for planes in right])),
        "distance": float(errors["distance"]),
        "free ends": float(np.mean([n > 0 for n in ends])),
        "kept": kept(model, predicted.mu[:N_EDITED]),
    }


def kept(model, latents):
    """How much of a scaled loop's change is left some planes above it; median over shapes."""
    import loopdraw
    from loopdraw.loops.geometry import signed_area

    shares = []
    for z in latents.double().numpy():
        shape = model.decode(z[None])[0]
        outer = sum(len(loops) for loops in shape.loops[:EDITED_PLANE])
        edited = shape.edit(loopdraw.Scale(loop=outer, u=SCALE, v=SCALE))
        above = [of.loops[EDITED_PLANE + PLANES_ON] for of in (shape, edited)]
        if all(above):
            before, after = (max(abs(signed_area(loop)) for loop in loops) for loops in above)
            shares.append((1 - np.sqrt(after / before)) / (1 - SCALE))
    return float(np.median(shares))


def run(*words):
    """Run a program of the project with this Python, on one core."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        check=True,
        env=environment,
    )


if __name__ == "__main__":
    main()
