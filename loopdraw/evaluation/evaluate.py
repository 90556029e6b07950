"""The whole evaluation of a trained model: numbers, their table, and a page of pictures."""

import json
from pathlib import Path

import numpy as np
import torch
from joblib import cpu_count
from tqdm import tqdm

from loopdraw.evaluation.measures import measure_shapes, validity
from loopdraw.evaluation.metrics import generation_scores, novelty
from loopdraw.evaluation.page import save_page
from loopdraw.evaluation.scores import (
    decode,
    interpolation_smoothness,
    interpolations,
    latent_space,
    predict,
    read_loops,
    reconstruction,
    refined_surface_distance,
)
from loopdraw.files import UserError, write_text

JSON_FILE, PAGE_FILE = "evaluation.json", "evaluation.png"

# Of larger sets, that many shapes are drawn at random for what concerns generation: each is
# rebuilt and compared with all of another set.
MOST_SHAPES = {"train": 2000, "test": 512}
SAMPLES_WITHOUT_TEST_SET = 64
PICTURES = 8  # of a kind, on the page


def report(numbers, pictures, folder):
    """Print the numbers, and write them and the page of pictures into a folder."""
    print(format_table(numbers))
    folder = Path(folder)
    write_text(folder / JSON_FILE, json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    save_page(folder / PAGE_FILE, numbers, pictures)
    print(f"\nsaved {folder / JSON_FILE} and {folder / PAGE_FILE}")


def evaluate(model, sets, *, n_samples=None, seed=0, n_workers=0):
    """Measure a model on its dataset.

    Parameters
    ----------
    model : LoopSeqEncoderDecoderModel
    sets : dict of LoopSeqDataset, "train" and perhaps "test"
    n_samples : int, shapes to generate; by default as many as the test set has
    seed : int
    n_workers : int, processes; 0 for one a core

    Returns
    -------
    numbers : dict, ready for JSON
    pictures : dict of the loops that `page` draws

    Raises
    ------
    UserError
        When weights of the model are not finite.
    """
    if not all(torch.isfinite(weights).all() for weights in model.parameters()):
        raise UserError(
            "the weights of the checkpoint are not finite; evaluate another epoch with --load_epoch"
        )
    rng = np.random.default_rng(seed)
    n_workers = n_workers or cpu_count()
    info = model.info

    predictions = {name: predict(model, dataset) for name, dataset in sets.items()}
    held_out = "test" if "test" in sets else "train"
    ways = interpolations(model, predictions[held_out].mu, rng)
    numbers = {
        "seed": seed,
        "reconstruction": {
            name: reconstruction(info, dataset, predictions[name], rng, n_workers)
            for name, dataset in sets.items()
        },
        "latent_space": latent_space(predictions["train"].mu, predictions["train"].log_variance),
        "interpolation": interpolation_smoothness(info.planes, ways, n_workers)
        | {"between": held_out},
    }
    for name, dataset in sets.items():
        # The shapes that `reconstruction` drew need not be these: a generator of its own leaves
        # all other numbers as they are.
        own = np.random.default_rng(seed)
        distance = refined_surface_distance(model, dataset, predictions[name], own, n_workers)
        numbers["reconstruction"][name]["refined_surface_distance"] = distance
    if n_samples is None:
        n_test = len(sets["test"]) if "test" in sets else SAMPLES_WITHOUT_TEST_SET
        n_samples = min(n_test, MOST_SHAPES["test"])
    generation, pairs = _generation(model, sets, n_samples, rng, n_workers)
    shown = rng.permutation(len(sets[held_out]))[:PICTURES]
    pictures = {
        "planes": info.planes,
        "reconstructions": [
            [
                read_loops(info, sequences[i])
                for sequences in (sets[held_out].sequences, predictions[held_out].autoregressive)
            ]
            for i in shown
        ],
        "samples": pairs[:PICTURES],
        "interpolation": ways[0] if ways else [],
    }
    return numbers | generation, pictures


def _generation(model, sets, n_samples, rng, n_workers):
    """Measure shapes decoded from random latents, and shapes of the dataset beside them.

    Returns
    -------
    numbers : dict of `generation` scores, `novelty` and `validity`; None what cannot be told
        without a test set, or when no sample gives a mesh
    pairs : list of the loops of a sample and of the training shape nearest to it
    """
    info = model.info
    items = {name: rng.permutation(len(data))[: MOST_SHAPES[name]] for name, data in sets.items()}
    sequences = {name: sets[name].sequences[chosen] for name, chosen in items.items()}
    sequences["samples"] = decode(model, model.prior.draw(rng, n_samples))
    checked, shapes, clouds = {}, {}, {}
    for name in ("samples", "test", "train"):
        if name not in sequences:
            continue
        loops = [read_loops(info, sequence) for sequence in sequences[name]]
        measures = measure_shapes(info.planes, loops, rng, n_workers, name)
        checked[name] = validity(measures)
        # From here on only of shapes that have a mesh.
        kept = [i for i, measured in enumerate(measures) if measured.cloud is not None]
        shapes[name] = [loops[i] for i in kept]
        if name in items:
            items[name] = items[name][kept]
        if kept:
            points = np.stack([measures[i].cloud for i in kept])
            clouds[name] = torch.from_numpy(points).to(model.device)
    numbers = {"validity": checked, "generation": None, "novelty": None}
    if "samples" not in clouds or "train" not in clouds:
        return numbers, []

    train, compared = clouds["train"], [name for name in ("samples", "test") if name in clouds]
    n_pairs = 2 * len(train) * sum(len(clouds[name]) for name in compared)
    if "test" in clouds:
        n_pairs += 7 * min(map(len, clouds.values())) ** 2
    with tqdm(total=n_pairs, desc="Chamfer distances", unit="pair", disable=None) as bar:
        if "test" in clouds:
            numbers["generation"] = generation_scores(
                clouds["samples"], train, clouds["test"], bar.update
            )
        found = {name: novelty(clouds[name], train, bar.update) for name in compared}
    pairs = [
        (loops, shapes["train"][i])
        for loops, i in zip(shapes["samples"], found["samples"]["nearest"], strict=True)
    ]
    for of_set in found.values():
        of_set["nearest"] = items["train"][of_set["nearest"]].tolist()  # as numbered in the set
    numbers["novelty"] = {"training_shapes": len(train)} | found
    return numbers, pairs


def format_table(numbers):
    """The numbers as a text for people."""
    lines = [
        f"\n{numbers['checkpoint']}, epoch {numbers['epoch']}, on {numbers['dataset']}, "
        f"seed {numbers['seed']}"
    ]

    def section(title, sets):
        lines.append(f"\n{title:<56}" + "".join(f"{name:>12}" for name in sets))
        return list(sets.values())

    def row(label, values, form="{:.4f}"):
        cells = ("-" if value is None else form.format(value) for value in values)
        lines.append(f"  {label:<54}" + "".join(f"{cell:>12}" for cell in cells))

    sets = section("Reconstruction", numbers["reconstruction"])
    row("shapes", [of["shapes"] for of in sets], "{}")
    for key in ("teacher_forced", "autoregressive"):
        way = key.replace("_", "-")
        row(f"{way}: error, squared, normalised", [of[key]["squared_error"] for of in sets])
        row(f"{way}: distance of points (rms)", [of[key]["distance"] for of in sets])
        row(f"{way}: flags right", [of[key]["flag_accuracy"] for of in sets], "{:.1%}")
    row("shapes with the right number of planes", [of["planes_right"] for of in sets], "{:.1%}")
    row("planes with the right number of loops", [of["loops_right"] for of in sets], "{:.1%}")
    row("distance of surfaces", [of["surface_distance"] for of in sets])
    if any("refined_surface_distance" in of for of in sets):
        row("  the same with refine", [of.get("refined_surface_distance") for of in sets])
    row("  its floor: two samplings of one surface", [of["resampling"] for of in sets])

    scores = numbers["generation"]
    if scores:
        title = f"Generation: {scores['shapes']} against as many test shapes"
        sets = section(title, {name: scores[name] for name in ("samples", "train")})
        matching = [1000 * of["minimum_matching_distance"] for of in sets]
        row("minimum matching distance x 1000 (low is good)", matching, "{:.3f}")
        row("coverage (high is good)", [of["coverage"] for of in sets], "{:.1%}")
        accuracy = [of["nearest_neighbour_accuracy"] for of in sets]
        row("1-nearest-neighbour accuracy (50% is best)", accuracy, "{:.1%}")
    found = numbers["novelty"]
    if found:
        title = f"Novelty: the nearest of {found['training_shapes']} training shapes"
        sets = section(title, {name: found[name] for name in ("samples", "test") if name in found})
        row("Chamfer distance x 1000, median", [1000 * of["median_distance"] for of in sets])
        row("distinct ones, share", [of["distinct"] for of in sets], "{:.1%}")

    sets = section("Validity", numbers["validity"])
    row("shapes", [of["shapes"] for of in sets], "{}")
    for label, key in (
        ("with a mesh", "with_mesh"),
        ("watertight", "watertight"),
        ("watertight and one solid", "one_solid"),
        ("loops that are degenerate", "degenerate"),
        ("loops that cross themselves", "self_crossing"),
    ):
        row(label, [of[key] for of in sets], "{:.1%}")
    floor = [of["resampling"] and 1000 * of["resampling"] for of in sets]
    row("Chamfer distance x 1000 of two samplings of a surface", floor)

    latent, way = numbers["latent_space"], numbers["interpolation"]
    active = latent["active_dimensions"]
    section("Latent space", {})
    row("active dimensions", [f"{sum(active)} of {len(active)}"], "{}")
    row("KL divergence, nats, all dimensions", [latent["kl"]], "{:.2f}")
    section(f"Interpolation between {way['between']} shapes", {})
    row("largest by mean step (1 is even)", [way["largest_step"]], "{:.2f}")
    row("sum of steps by change from end to end (1 is direct)", [way["detour"]], "{:.2f}")
    return "\n".join(lines)
