"""Drawings of loops by matplotlib, and a sheet of them: quick, plain, and without a display."""

import matplotlib.colors
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline

from loopdraw.files import write_aside
from loopdraw.loops.geometry import lift, signed_area
from loopdraw.loops.nesting import nesting_depths

# Where the viewer stands: around the vertical axis (y), and above the ground.
AZIMUTH, ELEVATION = np.radians(30.0), np.radians(24.0)
# Share of white in the colour of the plane farthest from the viewer, and of the nearest.
WHITE = (0.12, 0.72)
LOOP_COLOR = (0.95, 0.68, 0.10)  # as in pictures by Polyscope
COLUMNS, CELL = 6, 2.0  # of a sheet; inches


def view_axes():
    """Right and up on the screen, and the direction towards the viewer, (3,) each."""
    sin_a, cos_a = np.sin(AZIMUTH), np.cos(AZIMUTH)
    sin_e, cos_e = np.sin(ELEVATION), np.cos(ELEVATION)
    right = np.array([cos_a, 0.0, -sin_a])
    towards = np.array([sin_a * cos_e, sin_e, cos_a * cos_e])
    return right, np.cross(towards, right), towards


def project_stack(planes, loops_by_plane):
    """The loops of each plane as they are seen, the farthest plane first.

    Parameters
    ----------
    planes : (P, 4, 3) float
    loops_by_plane : list of P lists of (k, 2) float

    Returns
    -------
    list, one item a plane with loops, of lists of (k, 2) float outlines: right and up on the
    screen, in units of the planes; holes run the other way round than what they are in
    """
    right, up, towards = view_axes()
    screen = np.stack([right, up], axis=1)  # (3, 2)
    stack = []
    for k in np.argsort(planes[:, 1] @ towards):
        outlines = []
        for loop, depth in zip(loops_by_plane[k], nesting_depths(loops_by_plane[k]), strict=True):
            outline = lift(loop, planes[k]) @ screen
            is_hole = depth % 2 == 1
            outlines.append(outline[::-1] if (signed_area(outline) < 0) != is_hole else outline)
        if outlines:
            stack.append(outlines)
    return stack


def draw_stack(axes, stack, color):
    """Draw a stack of `project_stack` into matplotlib axes, lighter towards the viewer."""
    color = np.array(matplotlib.colors.to_rgb(color))
    patches = [
        # What lies inside loops of opposite direction is left open.
        Outline.make_compound_path(*(Outline(np.vstack([o, o[:1]]), closed=True) for o in plane))
        for plane in stack
    ]
    white = np.linspace(*WHITE, len(patches))[:, None]
    axes.add_collection(
        PathCollection(
            patches,
            facecolors=color * (1 - white) + white,
            edgecolors=[0.62 * color],
            linewidths=0.45,
        )
    )


def draw_alone(axes, planes, loops_by_plane):
    """Draw a stack of loops so that it fills matplotlib axes."""
    stack = project_stack(planes, loops_by_plane)
    points = np.concatenate([outline for plane in stack for outline in plane])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.05 * (high - low).max() + 1e-6
    axes.axis("off")
    axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
    axes.set_aspect("equal")
    draw_stack(axes, stack, LOOP_COLOR)


def save_contact_sheet(path, drawings):
    """Write drawings of shapes side by side, each with its captions, as a PNG file.

    Parameters
    ----------
    path : path of the file
    drawings : list of (lines of text, planes (P, 4, 3), loops by plane)
    """
    n_rows = -(-len(drawings) // COLUMNS)
    n_columns = min(COLUMNS, len(drawings))
    figure = Figure(figsize=(CELL * n_columns, 1.25 * CELL * n_rows), dpi=110)
    FigureCanvasAgg(figure)
    for i, (lines, planes, loops_by_plane) in enumerate(drawings):
        row, column = divmod(i, COLUMNS)
        bottom = 1 - (row + 0.8) / n_rows
        place = (column / n_columns, bottom, 1 / n_columns, 0.78 / n_rows)
        draw_alone(figure.add_axes(place), planes, loops_by_plane)
        middle = (column + 0.5) / n_columns
        text = "\n".join(_short(line) for line in lines)
        figure.text(middle, bottom, text, ha="center", va="top", fontsize=6.5, parse_math=False)
    with write_aside(path) as temporary:
        figure.savefig(temporary, format="png")


def _short(line, most=32):
    """The end of a line that is too long: there, names of files differ."""
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= most else "…" + line[1 - most :]
