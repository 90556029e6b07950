"""Points sampled on the surfaces of meshes, for PointNet encoders."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from loopdraw.files import UserError, load_npz, save_npz
from loopdraw.loops.mesh_files import load_mesh

POINT_CLOUDS_FILE = "preprocessed_sampled_point_clouds.npz"
N_POINTS = 2048


def sample_surface(vertices, faces, seed, n_points=N_POINTS):
    """Points on a mesh, uniformly by area.

    Parameters
    ----------
    vertices : (n, 3) float
    faces : (m, 3) int
    seed : int, the same for the same points
    n_points : int

    Returns
    -------
    (2, n_points, 3) float, the points and the normals of the faces they lie on
    """
    import trimesh  # slow to import, and only PointNet models need it

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    points, faces_of_points = trimesh.sample.sample_surface(mesh, n_points, seed=seed)
    return np.stack([points, mesh.face_normals[faces_of_points]])


def load_or_sample_point_clouds(folder, filenames, n_meshes):
    """Points on the surfaces of a folder's meshes, for PointNet encoders.

    They are read from `preprocessed_sampled_point_clouds.npz`. If that file is missing, it is made:
    2048 points per mesh, uniformly by area, with a fixed seed.

    Parameters
    ----------
    folder : a split of a dataset
    filenames : list of str, the meshes in the order of the cache, or None if unknown
    n_meshes : int, how many the cache has

    Returns
    -------
    points, normals : (n_meshes, 2048, 3) float32

    Raises
    ------
    UserError
        When the file does not fit the cache, or both it and a mesh are missing.
    """
    path = Path(folder) / POINT_CLOUDS_FILE
    if not path.exists():
        if filenames is None:
            raise UserError(
                f"{path}: no such file, and the cache beside it does not name the meshes to make "
                "it from; remove the cache to slice the meshes again"
            )
        meshes = [_find_mesh(Path(folder), name) for name in filenames]
        bar = tqdm(meshes, desc="sampling surfaces", unit="mesh")
        clouds = [sample_surface(*load_mesh(mesh), seed) for seed, mesh in enumerate(bar)]
        points, normals = np.stack(clouds, axis=1).astype(np.float32)
        save_npz(path, points=points, normals=normals)
    arrays = load_npz(path, ("points", "normals"), what="a file of sampled point clouds")
    for name in ("points", "normals"):
        if arrays[name].shape != (n_meshes, N_POINTS, 3) or not np.isfinite(arrays[name]).all():
            raise UserError(
                f"{path}: its {name} are {arrays[name].shape}, not finite numbers "
                f"({n_meshes}, {N_POINTS}, 3) as the cache needs; remove it to sample again"
            )
    return arrays["points"].astype(np.float32), arrays["normals"].astype(np.float32)


def _find_mesh(folder, name):
    """The mesh that a cache names; the path may be from another machine or folder."""
    parts = Path(name).parts
    for path in (Path(name), *(folder.joinpath(*parts[i:]) for i in range(1, len(parts)))):
        if path.is_file():
            return path
    raise UserError(
        f"{name}: no such mesh in {folder}; put it there, or {POINT_CLOUDS_FILE}, which is made "
        "from the meshes"
    )
