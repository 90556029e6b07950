"""Shapes drawn with matplotlib as stacks of filled loops, the plane nearest to the viewer last."""

import matplotlib.colors
import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.path import Path as Outline

from loopdraw.loops.geometry import lift, signed_area
from loopdraw.loops.nesting import nesting_depths

# Where the viewer stands: around the vertical axis (y), and above the ground.
AZIMUTH, ELEVATION = np.radians(30.0), np.radians(24.0)

# Share of white in the colour of the plane farthest from the viewer, and of the nearest.
WHITE = (0.12, 0.72)


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
    sin_a, cos_a = np.sin(AZIMUTH), np.cos(AZIMUTH)
    sin_e, cos_e = np.sin(ELEVATION), np.cos(ELEVATION)
    right = np.array([cos_a, 0.0, -sin_a])
    towards = np.array([sin_a * cos_e, sin_e, cos_a * cos_e])
    screen = np.stack([right, np.cross(towards, right)], axis=1)  # (3, 2)
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
