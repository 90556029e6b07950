"""The plots of an evaluation, each drawn into matplotlib axes from numbers of the same name."""

import textwrap

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

INK, MUTED, RULE = "#1d2733", "#6b7785", "#d5dae0"
# What the model makes, held-out shapes, and training shapes to compare with.
MODEL, TEST, TRAIN = "#d9772b", "#3b6ea8", "#8a94a0"
COLORS = {"samples": MODEL, "val": TEST, "test": TEST, "train": TRAIN}


def explain(axes, text):
    """Write a sentence under a plot, for those who do not know its measure."""
    wrapped = textwrap.fill(text, 56)
    axes.annotate(wrapped, (0, -0.27), xycoords="axes fraction", va="top", fontsize=7, color=MUTED)


def plot_errors(axes, sets):
    """Error of the loops of each plane; `sets` are the `reconstruction` numbers."""
    has_points = next(iter(sets.values()))["autoregressive"]["distance"] is not None
    axes.set(
        title="Error along the shape",
        xlabel="plane",
        ylabel="distance of points (rms)" if has_points else "error (rms, normalised)",
    )
    for name, color in COLORS.items():
        if name in sets:
            for way, line in (("autoregressive", "-"), ("teacher_forced", ":")):
                errors = np.array(sets[name][way]["by_plane"], dtype=float)
                label = f"{name}, {way.replace('_', '-')}"
                axes.plot(errors, line, color=color, label=label, linewidth=1.6)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc="upper left", ncols=2, columnspacing=1.0, fontsize=7)
    explain(
        axes,
        "How far decoded loops are from the true ones, plane by plane; teacher-forced: each loop "
        "is decoded after true ones. Low is good, and alike on new shapes and training shapes.",
    )


def plot_scores(axes, scores):
    """MMD, coverage and 1-NNA as bars; `scores` are the `generation` numbers, or None."""
    axes.set_title("Generation against unseen shapes")
    if scores is None:
        return _nothing(axes, "needs unseen shapes and samples that give meshes")
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
    handles = [Rectangle((0, 0), 1, 1, color=color) for color in (MODEL, TRAIN)]
    axes.legend(handles, ["samples", "train shapes"], loc="upper left", ncols=2)
    explain(
        axes,
        "MMD: how far an unseen shape is from the nearest sample. Coverage: share of unseen shapes "
        "that some sample is nearest to. 1-NNA: how often samples and unseen shapes can be told "
        "apart. Grey: what real shapes reach.",
    )


def plot_novelty(axes, found):
    """Histograms of distances to training shapes; `found` are the `novelty` numbers."""
    axes.set(title="Distance to nearest training shape", xlabel="Chamfer distance x 1000")
    if found is None:
        return _nothing(axes, "no sample gives a mesh")
    of_sets = {
        name: 1000 * np.array(found[name]["distances"])
        for name in ("samples", "val", "test")
        if name in found
    }
    everything = np.concatenate(list(of_sets.values()))
    # Logarithmic: distances spread over decades.
    low, high = np.maximum(np.quantile(everything, [0, 1]), 1e-6) * (0.9, 1.1)
    bins = np.geomspace(low, high, 25)
    for name in ("test", "val", "samples"):
        color = COLORS[name]
        if name in of_sets:
            weights = np.full(len(of_sets[name]), 1 / len(of_sets[name]))
            axes.hist(of_sets[name], bins, weights=weights, color=color, alpha=0.6, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("share")
    axes.legend()
    explain(
        axes,
        "How near each shape is to a training shape. Samples much farther left than unseen shapes "
        "would be copies of training shapes.",
    )


def plot_validity(axes, checked):
    """Shares of shapes and loops as bars; `checked` are the `validity` numbers."""
    axes.set_title("Validity")
    keys = {
        "watertight": "watertight",
        "one_solid": "one\nsolid",
        "free_ends": "free\nends",
        "degenerate": "degen-\nerate",
        "self_crossing": "self-\ncrossing",
    }
    names = [name for name in COLORS if name in checked]
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
    explain(
        axes,
        "Share of shapes that are closed, that are one closed solid, and that have parts ending in "
        "air, such as broken handles; share of loops that are next to nothing or cross themselves.",
    )


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
    explain(
        axes,
        "How much each number of the latent says about the shape. A number that says nothing "
        "(grey) is not used.",
    )


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
    explain(
        axes,
        "How a shape turns into another one: a straight line is an even change, a step a jump.",
    )


def _nothing(axes, why):
    axes.text(0.5, 0.5, why, ha="center", va="center", color=MUTED, transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])
