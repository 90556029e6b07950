"""One page of pictures and plots of an evaluation, and a sheet of samples to look at.

On the page shapes are drawn by their loops: what is seen is what the model wrote, before any mesh
is built. On the sheet they are drawn by their surfaces, which show what is torn or ends in air.
"""

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from loopdraw.data.prepare.drawing import draw_stack, project_stack, view_axes
from loopdraw.evaluation.plots import (
    INK,
    MODEL,
    MUTED,
    RULE,
    TEST,
    TRAIN,
    plot_divergences,
    plot_errors,
    plot_interpolations,
    plot_novelty,
    plot_scores,
    plot_validity,
)
from loopdraw.files import write_aside

LEFT, RIGHT = 0.065, 0.975  # margins, shares of the width

STYLE = {
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def save_page(path, numbers, pictures):
    """Draw the page and write it as a PNG file.

    Parameters
    ----------
    path : path of the file
    numbers : dict of `evaluate`
    pictures : dict of `planes` (P, 4, 3); `reconstructions`, pairs of the loops of a shape and of
        its reconstruction; `samples`, pairs of the loops of a sample and of the training shape
        nearest to it; `interpolation`, the loops of shapes along one
    """
    with matplotlib.rc_context(STYLE):
        figure = _figure(11, 15)
        galleries = figure.add_gridspec(
            3,
            1,
            height_ratios=(2, 2, 1),
            hspace=0.17,
            left=LEFT,
            right=RIGHT,
            top=0.93,
            bottom=0.47,
        )
        plots = figure.add_gridspec(
            2, 3, wspace=0.3, hspace=0.75, left=LEFT, right=RIGHT, top=0.425, bottom=0.085
        )
        _draw_header(figure, numbers)
        _draw_galleries(figure, galleries, numbers, pictures)
        plot_errors(figure.add_subplot(plots[0, 0]), numbers["reconstruction"])
        plot_scores(figure.add_subplot(plots[0, 1]), numbers["generation"])
        plot_novelty(figure.add_subplot(plots[0, 2]), numbers["novelty"])
        plot_validity(figure.add_subplot(plots[1, 0]), numbers["validity"])
        plot_divergences(figure.add_subplot(plots[1, 1]), numbers["latent_space"])
        plot_interpolations(figure.add_subplot(plots[1, 2]), numbers["interpolation"])
        with write_aside(path) as temporary:
            figure.savefig(temporary, dpi=150, format="png")


def _figure(width, height):
    """A figure in inches that needs no display, and leaves the user's backend as it is."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def save_sheet(path, title, meshes, columns=8):
    """Draw the surfaces of many shapes side by side, numbered from 0, as a PNG file.

    Parameters
    ----------
    path : path of the file
    title : str
    meshes : list of trimesh.Trimesh, or None for loops that give no mesh
    columns : int
    """
    rows = -(-len(meshes) // columns)
    with matplotlib.rc_context(STYLE):
        figure = _figure(2.4 * columns, 2.4 * rows + 0.5)
        figure.text(0.01, 1 - 0.25 / (2.4 * rows + 0.5), title, fontsize=13, va="center")
        grid = figure.add_gridspec(
            rows, columns, left=0, right=1, bottom=0, top=1 - 0.5 / (2.4 * rows + 0.5),
            wspace=0, hspace=0,
        )  # fmt: skip
        for i, mesh in enumerate(meshes):
            axes = figure.add_subplot(grid[i // columns, i % columns])
            axes.axis("off")
            axes.text(0.03, 0.97, str(i), va="top", color=MUTED, transform=axes.transAxes)
            if mesh is None:
                axes.text(0.5, 0.5, "no mesh", ha="center", transform=axes.transAxes)
            else:
                draw_surface(axes, mesh)
        with write_aside(path) as temporary:
            figure.savefig(temporary, dpi=130, format="png")


def draw_surface(axes, mesh):
    """Draw a mesh into matplotlib axes as the viewer sees it, lit from above the left shoulder."""
    right, up, towards = view_axes()
    screen = np.stack([right, up], axis=1)
    facing = mesh.face_normals @ towards > 0
    corners = mesh.triangles[facing]
    # From back to front. Triangles are small, so that their middles decide well enough.
    order = np.argsort(corners.mean(axis=1) @ towards)
    light = 0.55 * towards + 0.6 * up - 0.45 * right
    shade = mesh.face_normals[facing] @ (light / np.linalg.norm(light))
    shade = 0.5 + 0.5 * np.clip(shade, 0, 1)
    colors = shade[order, None] * np.array([0.72, 0.80, 0.93])
    axes.add_collection(
        PolyCollection(corners[order] @ screen, facecolors=colors, antialiased=False, linewidths=0)
    )
    seen = mesh.vertices @ screen
    middle, half = (seen.max(axis=0) + seen.min(axis=0)) / 2, 0.54 * np.ptp(seen, axis=0).max()
    axes.set(
        xlim=(middle[0] - half, middle[0] + half),
        ylim=(middle[1] - half, middle[1] + half),
        aspect="equal",
    )


def _draw_header(figure, numbers):
    figure.text(LEFT, 0.974, "Evaluation", fontsize=19, weight="bold", va="center")
    figure.text(
        RIGHT,
        0.974,
        f"{numbers['checkpoint']}, epoch {numbers['epoch']}\n"
        f"on {numbers['dataset']}, seed {numbers['seed']}",
        ha="right",
        va="center",
        color=MUTED,
    )
    figure.add_artist(Line2D([LEFT, RIGHT], [0.956] * 2, color=RULE, linewidth=0.8))


def _draw_galleries(figure, rows, numbers, pictures):
    held_out = numbers["interpolation"]["between"]
    along = [[loops] for loops in pictures["interpolation"]]
    for row, columns, colors, title in (
        (
            rows[0],
            pictures["reconstructions"],
            (TEST, MODEL),
            f"Reconstruction: {held_out} shapes (top), decoded from their latents (bottom)",
        ),
        (
            rows[1],
            pictures["samples"],
            (MODEL, TRAIN),
            "Generation: shapes from random latents (top), the nearest training shapes (bottom)",
        ),
        (rows[2], along, (MODEL,), f"Interpolation between two {held_out} shapes"),
    ):
        _draw_gallery(figure, row, pictures["planes"], columns, colors, title)


def _draw_gallery(figure, place, planes, columns, colors, title):
    """Columns of shapes below each other, all at one scale, under a title."""
    frame = figure.add_subplot(place)
    frame.axis("off")
    frame.set_title(title)
    if not columns:
        frame.text(0, 0.9, "none", color=MUTED, transform=frame.transAxes, va="top")
        return
    grid = place.subgridspec(len(colors), len(columns), wspace=0.0, hspace=0.04)
    drawn = [[project_stack(planes, loops) for loops in column] for column in columns]
    outlines = [o for column in drawn for stack in column for plane in stack for o in plane]
    everything = np.concatenate(outlines or [np.zeros((1, 2))])
    low, high = everything.min(axis=0), everything.max(axis=0)
    middle, half = (low + high) / 2, 0.52 * (high - low) + 1e-6
    for i, column in enumerate(drawn):
        for j, (shape, color) in enumerate(zip(column, colors, strict=True)):
            axes = figure.add_subplot(grid[j, i])
            axes.axis("off")
            axes.set(
                xlim=(middle[0] - half[0], middle[0] + half[0]),
                ylim=(middle[1] - half[1], middle[1] + half[1]),
                aspect="equal",
            )
            draw_stack(axes, shape, color)
