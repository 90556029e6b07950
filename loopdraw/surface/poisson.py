"""Loops to a surface by screened Poisson reconstruction, as in the paper; for comparison.

It needs pymeshlab, which is not in the requirements. `reconstruction` is faster, closer to the
loops and always closed.
"""

import numpy as np

from loopdraw import files
from loopdraw.loops.geometry import lift, outward_normals, resample_loop
from loopdraw.loops.nesting import nesting_depths

POISSON_DEPTH = 8  # of the octree, as published
POINTS_PER_LOOP = 256


def poisson_mesh(planes, loops_by_plane, depth=POISSON_DEPTH):
    """Build a surface from loops by screened Poisson reconstruction [1].

    Parameters
    ----------
    planes : (P, 4, 3) float
    loops_by_plane : list of P lists of (k, 2) float loops
    depth : int, of the octree

    Returns
    -------
    vertices : (n, 3) float64
    faces : (m, 3) int64; in general neither closed nor complete

    Raises
    ------
    ValueError
        When there are no loops, or one has points that are not finite.
    UserError
        When pymeshlab is not installed.

    [1] Kazhdan and Hoppe: Screened Poisson Surface Reconstruction. TOG 32(3), 2013
    """
    try:
        import pymeshlab
    except ImportError:
        raise files.UserError(
            "--reco poisson needs pymeshlab, which is not installed; run: pip install pymeshlab"
        ) from None
    points, normals = [], []
    for plane, loops in zip(planes, loops_by_plane, strict=True):
        loops = [resample_loop(np.asarray(loop, float), POINTS_PER_LOOP) for loop in loops]
        for loop, loop_depth in zip(loops, nesting_depths(loops), strict=True):
            points.append(lift(loop, plane))
            normals.append(outward_normals(loop, loop_depth) @ plane[2:4])
    if not points:
        raise ValueError("there are no loops to build a surface from")
    points, normals = np.concatenate(points), np.concatenate(normals)
    if not np.isfinite(points).all():
        raise ValueError("a loop has points that are not finite")
    meshes = pymeshlab.MeshSet(verbose=False)
    meshes.add_mesh(pymeshlab.Mesh(vertex_matrix=points, v_normals_matrix=normals))
    meshes.generate_surface_reconstruction_screened_poisson(depth=depth)
    mesh = meshes.current_mesh()
    return mesh.vertex_matrix(), mesh.face_matrix().astype(np.int64)
