"""Meshes, contours and planes become shapes, without a model."""

import numpy as np

from loopdraw.door.checks import check_count, checked_mesh
from loopdraw.files import UserError
from loopdraw.loops.geometry import SCAN_FRAMES, make_planes
from loopdraw.shapes import Shape


def planes(axis, n, low, high):
    """Evenly spaced parallel planes.

    Parameters
    ----------
    axis : "x", "y" or "z", the normal
    n : int, how many
    low, high : float, positions of the first and the last

    Returns
    -------
    (n, 4, 3) float: normal, point, in-plane x axis, in-plane y axis of each

    Raises
    ------
    UserError
        When the axis is another one, there are no planes, or low is not below high.
    """
    if axis not in SCAN_FRAMES:
        raise UserError(f"planes: axis {axis!r} is not 'x', 'y' or 'z'")
    check_count(n, "planes: n", 1)
    if not (np.isfinite([low, high]).all() and low < high):
        raise UserError(f"planes: the first, {low}, is not below the last, {high}")
    return make_planes(axis, n, low, high)


def load_mesh(path):
    """Read a mesh of any format that trimesh knows, as a trimesh.Trimesh.

    Raises
    ------
    UserError
        When the file is missing, damaged, or has no faces.
    """
    import trimesh

    from loopdraw.loops.mesh_files import read_mesh

    return trimesh.Trimesh(*read_mesh(path), process=False)


def slice_mesh(mesh, planes):
    """The closed loops in which planes cut a mesh; open meshes are closed along the way.

    Parameters
    ----------
    mesh : path of a file, trimesh.Trimesh, or (vertices (n, 3), faces (m, 3))
    planes : (P, 4, 3) float, see `planes`

    Returns
    -------
    Shape

    Raises
    ------
    UserError
        When the file is no mesh, or it cannot be sliced.
    """
    from loopdraw.loops.mesh_files import as_mesh
    from loopdraw.loops.slicing import slice_mesh as slice_arrays

    planes = np.asarray(planes, dtype=np.float64)
    if planes.ndim != 3 or planes.shape[1:] != (4, 3) or not len(planes):
        raise UserError(
            f"slice_mesh: planes of shape {planes.shape}, not (P, 4, 3); make some with "
            "loopdraw.planes"
        )
    try:
        sliced = slice_arrays(*as_mesh(checked_mesh(mesh)), planes)
    except ValueError as error:
        raise UserError(f"slice_mesh: {error}") from None
    return Shape(planes, sliced.loops_by_plane)


def load_contours(path, spacing=None):
    """Read parallel contours: a `.csl`, `.json` or `-slices.npz` file, or `.svg` drawings.

    Parameters
    ----------
    path : path of the file, or a list of drawings, one a plane
    spacing : float, mm between the planes of drawings that do not say where they lie

    Returns
    -------
    dict from label, int, to Shape; the label is 1 where the file knows none

    Raises
    ------
    UserError
        When a file is missing or damaged, or the planes are not parallel.
    """
    from loopdraw.surface.contours.reading import read_stacks

    return {label: Shape(*stack) for label, stack in read_stacks(path, spacing).items()}
