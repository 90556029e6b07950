"""The plots of an evaluation, each drawn into matplotlib axes from numbers of the same name."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

INK, MUTED, RULE = "#1d2733", "#6b7785", "#d5dae0"
# What the model makes, held-out shapes, and training shapes to compare with.
MODEL, TEST, TRAIN = "#d9772b", "#3b6ea8", "#8a94a0"
COLORS = {"samples": MODEL, "test": TEST, "train": TRAIN}


def plot_errors(axes, sets):
    """Error of the loops of each plane; `sets` are the `reconstruction` numbers."""
    has_points = next(iter(sets.values()))["autoregressive"]["distance"] is not None
    axes.set(
        title="Error along the shape",
        xlabel="plane",
        ylabel="distance of points (rms)" if has_points else "error (rms, normalised)",
    )
    for name, color in (("train", TRAIN), ("test", TEST)):
        if name in sets:
            for way, line in (("autoregressive", "-"), ("teacher_forced", ":")):
                errors = np.array(sets[name][way]["by_plane"], dtype=float)
                label = f"{name}, {way.replace('_', '-')}"
                axes.plot(errors, line, color=color, label=label, linewidth=1.6)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc="upper left", ncols=2, columnspacing=1.0, fontsize=7)


def plot_scores(axes, scores):
    """MMD, coverage and 1-NNA as bars; `scores` are the `generation` numbers, or None."""
    axes.set_title("Generation against the test set")
    if scores is None:
        return _nothing(axes, "needs a test set and samples that give meshes")
    both = scores["samples"], scores["train"]
    matching = [1000 * of["minimum_matching_distance"] for of in both]
    bars = (  # values, the value that fills the height, how they are written
        (matching, 1.1 * max(*matching, 1e-12), "{:.2f}"),
        ([of["coverage"] for of in both], 1.0, "{:.0%}"),
        ([of["nearest_neighbour_accuracy"] for of in both], 1.0, "{:.0%}"),
    )
    for k, (values, full, form) in enumerate(bars):
        for value, shift, color in zip(values, (-0.2, 0.2), (MODEL, TRAIN), strict=True):
            axes.bar(k + shift, value / full, width=0.36, color=color)
            written = axes.text(k + shift, value / full + 0.035, form.format(value), ha="center")
            written.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0})
    axes.plot([1.6, 2.4], [0.5, 0.5], color=INK, linewidth=0.9, linestyle="--")
    axes.set(ylim=(0, 1.3), yticks=[], xticks=range(3))
    axes.set_xticklabels(
        ["MMD x 1000\nlow is good", "coverage\nhigh is good", "1-NNA\n50% is best"], color=INK
    )
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in (MODEL, TRAIN)]
    axes.legend(handles, ["samples", "train shapes"], loc="upper left", ncols=2)


def plot_novelty(axes, found):
    """Histograms of distances to training shapes; `found` are the `novelty` numbers."""
    axes.set(title="Distance to nearest training shape", xlabel="Chamfer distance x 1000")
    if found is None:
        return _nothing(axes, "no sample gives a mesh")
    of_sets = {
        name: 1000 * np.array(found[name]["distances"])
        for name in ("samples", "test")
        if name in found
    }
    everything = np.concatenate(list(of_sets.values()))
    # Logarithmic: distances spread over decades.
    low, high = np.maximum(np.quantile(everything, [0, 1]), 1e-6) * (0.9, 1.1)
    bins = np.geomspace(low, high, 25)
    for name, color in (("test", TEST), ("samples", MODEL)):
        if name in of_sets:
            weights = np.full(len(of_sets[name]), 1 / len(of_sets[name]))
            axes.hist(of_sets[name], bins, weights=weights, color=color, alpha=0.6, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("share")
    axes.legend()


def plot_validity(axes, checked):
    """Shares of shapes and loops as bars; `checked` are the `validity` numbers."""
    axes.set_title("Validity")
    keys = {
        "watertight": "watertight",
        "one_solid": "one solid",
        "degenerate": "degenerate\nloops",
        "self_crossing": "self-crossing\nloops",
    }
    names = [name for name in ("samples", "test", "train") if name in checked]
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        places = np.arange(len(keys)) + (i - (len(names) - 1) / 2) * width
        values = [checked[name][key] for key in keys]
        axes.bar(places, values, width=0.9 * width, color=COLORS[name], label=name)
        for place, value in zip(places, values, strict=True):
            written = f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"
            axes.text(place, value + 0.03, written, ha="center", fontsize=6.5, rotation=90)
    axes.set(ylim=(0, 1.45), yticks=[0, 0.5, 1], xticks=range(len(keys)))
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.set_xticklabels(keys.values(), color=INK, fontsize=7.5)
    axes.legend(loc="upper right", ncols=3)


def plot_divergences(axes, latent):
    """KL divergence of each dimension; `latent` are the `latent_space` numbers."""
    kl, active = np.array(latent["kl_per_dimension"]), np.array(latent["active_dimensions"])
    order = np.argsort(-kl)
    axes.bar(np.arange(len(kl)), kl[order], width=0.85, color=np.where(active[order], MODEL, RULE))
    axes.set(
        title=f"Latent space: {active.sum()} of {len(active)} dimensions active",
        xlabel="dimension, sorted",
        ylabel="KL divergence, nats",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_interpolations(axes, smoothness):
    """Change along interpolations; `smoothness` are the `interpolation` numbers."""
    axes.set(
        title="Interpolation: change on the way",
        xlabel="share of the way",
        ylabel="share of the change",
    )
    ways = np.array(smoothness["progress"])
    if not len(ways):
        return _nothing(axes, "nothing changes on the way")
    along = np.linspace(0, 1, ways.shape[1])
    axes.plot(along, ways.T, color=MODEL, alpha=0.35, linewidth=0.9)
    axes.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=0.9, label="even")
    axes.plot([], [], color=MODEL, label=f"{len(ways)} interpolations")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left")


def _nothing(axes, why):
    axes.text(0.5, 0.5, why, ha="center", va="center", color=MUTED, transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])
