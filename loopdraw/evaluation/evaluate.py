"""The whole evaluation of a trained model: numbers, their table, and a page of pictures."""

import json
from pathlib import Path

import numpy as np
import torch
from joblib import cpu_count
from tqdm import tqdm

from loopdraw.evaluation.measures import in_parallel, measure_shapes, rebuild, validity
from loopdraw.evaluation.metrics import chamfer_distances, generation_scores, novelty
from loopdraw.evaluation.page import save_page, save_sheet
from loopdraw.evaluation.scores import (
    decode,
    interpolation_smoothness,
    interpolations,
    latent_space,
    predict,
    reconstruction,
    refined_surface_distance,
)
from loopdraw.files import UserError, write_text
from loopdraw.model.latents import shape_generator

JSON_FILE, PAGE_FILE = "evaluation.json", "evaluation.png"

SHEET_FILE = "samples-48.png"

# Of larger sets, that many shapes are drawn at random for what concerns generation: each is
# rebuilt and compared with all of another set.
MOST_TRAINING_SHAPES, MOST_UNSEEN_SHAPES = 2000, 512
SAMPLES_WITHOUT_TEST_SET = 64
PICTURES = 8  # of a kind, on the page
SHEET = 48  # samples on the sheet


def report(numbers, pictures, folder):
    """Print the numbers, and write them, the page and the sheet of samples into a folder."""
    print(format_table(numbers))
    folder = Path(folder)
    write_text(folder / JSON_FILE, json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    save_page(folder / PAGE_FILE, numbers, pictures)
    title = (
        f"{numbers['checkpoint']}, epoch {numbers['epoch']}: the first {len(pictures['sheet'])} "
        f"samples of seed {numbers['seed']}, none left out"
    )
    save_sheet(folder / SHEET_FILE, title, pictures["sheet"])
    print(f"\nsaved {folder / JSON_FILE}, {PAGE_FILE} and {SHEET_FILE}")


def evaluate(model, sets, *, on="test", n_samples=None, seed=0, n_seeds=1, n_workers=0):
    """Measure a model on its dataset.

    Parameters
    ----------
    model : LoopSeqEncoderDecoderModel
    sets : dict of LoopSeqDataset, "train" and perhaps "val" and "test"
    on : "val" or "test", the unseen shapes to measure on. The other set is not looked at.
    n_samples : int, shapes to generate; by default as many as that set has
    seed : int
    n_seeds : int, how many times to sample, with the seeds from `seed` on. What concerns samples
        is then a mean over these, beside its spread.
    n_workers : int, processes; 0 for one a core

    Returns
    -------
    numbers : dict, ready for JSON
    pictures : dict of the loops that `page` draws, and the meshes of its `sheet`

    Raises
    ------
    UserError
        When weights of the model are not finite, or there is no validation set to measure on.
    """
    if not all(torch.isfinite(weights).all() for weights in model.parameters()):
        raise UserError(
            "the weights of the checkpoint are not finite; evaluate another epoch with --load_epoch"
        )
    if on == "val" and on not in sets:
        raise UserError("--on val: the dataset has no val/; make one, or leave the option out")
    sets = {name: sets[name] for name in ("train", on) if name in sets}
    rng = np.random.default_rng(seed)
    n_workers = n_workers or cpu_count()
    info = model.info

    predictions = {name: predict(model, dataset) for name, dataset in sets.items()}
    held_out = on if on in sets else "train"
    ways = interpolations(model, predictions[held_out].mu, rng)
    numbers = {
        "seed": seed,
        "seeds": n_seeds,
        "on": on,
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
        n_unseen = len(sets[on]) if on in sets else SAMPLES_WITHOUT_TEST_SET
        n_samples = min(n_unseen, MOST_UNSEEN_SHAPES)
    seeds = range(seed, seed + n_seeds)
    generation, pairs = _generation(model, sets, on, n_samples, seeds, rng, n_workers)
    shown = np.random.default_rng(seed).permutation(len(sets[held_out]))[:PICTURES]
    sheet = [info.loops(sequence) for sequence in decode(model, _latents(model, seed, SHEET))]
    pictures = {
        "planes": info.planes,
        "reconstructions": [
            [
                info.loops(sequences[i])
                for sequences in (sets[held_out].sequences, predictions[held_out].autoregressive)
            ]
            for i in shown
        ],
        "samples": pairs[:PICTURES],
        "interpolation": ways[0] if ways else [],
        "sheet": in_parallel(
            rebuild, [(info.planes, loops) for loops in sheet], n_workers, "drawing samples"
        ),
    }
    return numbers | generation, pictures


def _latents(model, seed, n):
    """The first n latents that the prompt and `loopdraw` draw with a seed, (n, L)."""
    return model.prior.draw_each([shape_generator(seed, i) for i in range(n)])


def _generation(model, sets, on, n_samples, seeds, rng, n_workers):
    """Measure shapes decoded from random latents, and shapes of the dataset beside them.

    Samples without faults, of all seeds, are also measured on their own, as `checked`: with
    `--checked`, samples are drawn until they have none.

    Returns
    -------
    numbers : dict of `generation` scores, `novelty` and `validity`; None what cannot be told
        without unseen shapes, or when no sample gives a mesh. Samples have means over the seeds;
        `spread` has the standard deviations.
    pairs : list of the loops of a sample and of the training shape nearest to it
    """
    info = model.info
    most = {"train": MOST_TRAINING_SHAPES, on: MOST_UNSEEN_SHAPES}
    items = {name: rng.permutation(len(data))[: most[name]] for name, data in sets.items()}
    loops, measures = {}, {}
    for seed in seeds:
        sequences = decode(model, _latents(model, seed, n_samples))
        loops[seed] = [info.loops(sequence) for sequence in sequences]
    for name in (on, "train"):
        if name in sets:
            loops[name] = [info.loops(sequence) for sequence in sets[name].sequences[items[name]]]
    for name, of_set in loops.items():
        label = name if name in sets else f"samples, seed {name}"
        measures[name] = measure_shapes(info.planes, of_set, rng, n_workers, label)
    samples = [measured for seed in seeds for measured in measures[seed]]
    checked = {"samples": validity(samples)}
    checked |= {name: validity(measures[name]) for name in (on, "train") if name in sets}
    if len(seeds) > 1:
        by_seed = [validity(measures[seed]) for seed in seeds]
        checked["spread"] = {
            key: float(np.std([of_one[key] for of_one in by_seed]))
            for key, value in by_seed[0].items()
            if isinstance(value, float)
        }
    numbers = {"validity": checked, "generation": None, "novelty": None}

    # From here on only shapes that have a mesh.
    clouds, kept = {}, {}
    for name, of_set in measures.items():
        kept[name] = [i for i, measured in enumerate(of_set) if measured.cloud is not None]
        clouds[name] = _clouds([of_set[i] for i in kept[name]], model.device)
    clouds["checked"] = _clouds([m for m in samples if m.is_faultless], model.device)
    first = seeds[0]
    if clouds[first] is None or clouds["train"] is None:
        return numbers, []
    compared = {"samples": clouds[first]} | {
        name: clouds[name] for name in (on,) if clouds.get(name) is not None
    }
    n_pairs = 2 * len(clouds["train"]) * sum(map(len, compared.values()))
    with tqdm(total=n_pairs, desc="distances to train", unit="pair", disable=None) as bar:
        found = {
            name: novelty(of_set, clouds["train"], bar.update) for name, of_set in compared.items()
        }
    if on in compared:
        numbers["generation"] = _compare(
            clouds[on],
            [clouds[seed] for seed in seeds if clouds[seed] is not None],
            {name: clouds[name] for name in ("train", "checked") if clouds[name] is not None},
        )
    pairs = [
        (loops[first][i], loops["train"][kept["train"][j]])
        for i, j in zip(kept[first], found["samples"]["nearest"], strict=True)
    ]
    of_train = items["train"][kept["train"]]
    for of_set in found.values():
        of_set["nearest"] = of_train[of_set["nearest"]].tolist()  # as numbered in the set
    numbers["novelty"] = {"training_shapes": len(clouds["train"])} | found
    return numbers, pairs


def _clouds(measures, device):
    """The point clouds (n, 2048, 3) of shapes, a tensor; None of no shapes."""
    if not measures:
        return None
    return torch.from_numpy(np.stack([measured.cloud for measured in measures])).to(device)


def _compare(unseen, samples, others):
    """Scores of the samples of each seed, and of other sets beside them, against unseen shapes.

    All sets are cut to the size of the smallest of samples, training and unseen shapes, since the
    scores depend on it; what has fewer is left out.
    """
    size = min(len(unseen), len(others["train"]), *map(len, samples))
    others = {name: clouds for name, clouds in others.items() if len(clouds) >= size}
    unseen = unseen[:size]
    n_pairs = (3 * (len(samples) + len(others)) + 1) * size**2
    with tqdm(total=n_pairs, desc="Chamfer distances", unit="pair", disable=None) as bar:
        among = chamfer_distances(unseen, None, bar.update)

        def scores_of(clouds):
            return generation_scores(clouds[:size], unseen, among, bar.update)

        by_seed = [scores_of(clouds) for clouds in samples]
        scores = {
            "shapes": size,
            "samples": {key: float(np.mean([s[key] for s in by_seed])) for key in by_seed[0]},
        }
        if len(samples) > 1:
            scores["spread"] = {key: float(np.std([s[key] for s in by_seed])) for key in by_seed[0]}
        return scores | {name: scores_of(clouds) for name, clouds in others.items()}


def format_table(numbers):
    """The numbers as a text for people."""
    lines = [
        f"\n{numbers['checkpoint']}, epoch {numbers['epoch']}, on {numbers['dataset']}, "
        f"seed {numbers['seed']}"
        + (f" to {numbers['seed'] + numbers['seeds'] - 1}" if numbers["seeds"] > 1 else "")
    ]

    # Of samples the mean over seeds and its spread; those that --checked would keep; real shapes.
    columns = ("samples", *(("spread",) if numbers["seeds"] > 1 else ()), "checked", "train")

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
        title = f"Generation: {scores['shapes']} against as many {numbers['on']} shapes"
        names = [name for name in columns if name in scores]
        sets = section(title, {name: scores[name] for name in names})
        matching = [1000 * of["minimum_matching_distance"] for of in sets]
        row("minimum matching distance x 1000 (low is good)", matching, "{:.3f}")
        row("coverage (high is good)", [of["coverage"] for of in sets], "{:.1%}")
        accuracy = [of["nearest_neighbour_accuracy"] for of in sets]
        row("1-nearest-neighbour accuracy (50% is best)", accuracy, "{:.1%}")
        for kind in ("samples", "references"):
            own = [of[f"own_kind_of_{kind}"] for of in sets]
            row(f"  {kind} whose nearest is of their own kind", own, "{:.1%}")
    found = numbers["novelty"]
    if found:
        title = f"Novelty: the nearest of {found['training_shapes']} training shapes"
        names = [name for name in ("samples", "val", "test") if name in found]
        sets = section(title, {name: found[name] for name in names})
        row("Chamfer distance x 1000, median", [1000 * of["median_distance"] for of in sets])
        row("distinct ones, share", [of["distinct"] for of in sets], "{:.1%}")

    checked = numbers["validity"]
    names = [name for name in ("samples", *columns[1:], "val", "test") if name in checked]
    sets = section("Validity", {name: checked[name] for name in names})
    row("shapes", [of.get("shapes") for of in sets], "{}")
    for label, key in (
        ("with a mesh", "with_mesh"),
        ("watertight", "watertight"),
        ("watertight and one solid", "one_solid"),
        ("with free ends: parts that end in air", "free_ends"),
        ("one solid without free ends", "faultless"),
        ("loops that are degenerate", "degenerate"),
        ("loops that cross themselves", "self_crossing"),
    ):
        row(label, [of[key] for of in sets], "{:.1%}")
    row("free ends a shape", [of["free_ends_per_shape"] for of in sets], "{:.3f}")
    floor = [of.get("resampling") and 1000 * of["resampling"] for of in sets]
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
