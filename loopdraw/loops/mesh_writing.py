"""A mesh as a file. Apart from building surfaces, so that who only writes one starts quickly."""

from pathlib import Path

import numpy as np

from loopdraw.files import UserError, write_aside, write_text

MESH_FORMATS = (".obj", ".ply", ".stl", ".glb")


def save_mesh(path, vertices, faces):
    """Write a mesh as `.obj`, `.ply`, `.stl` or `.glb`, by the ending of the path.

    Parameters
    ----------
    path : path of the file
    vertices : (n, 3) float
    faces : (m, 3) int

    Raises
    ------
    UserError
        When the ending is another one or the file cannot be written.
    """
    kind = Path(path).suffix.lower()
    if kind not in MESH_FORMATS:
        raise UserError(
            f"{path}: meshes are not saved as {kind or 'files without an ending'}; "
            f"use {', '.join(MESH_FORMATS)}"
        )
    if kind == ".obj":
        write_text(path, _obj_text(np.asarray(vertices), np.asarray(faces)))
        return
    import trimesh  # takes half a second, and three times as long to write an .obj

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    with write_aside(path) as temporary:
        mesh.export(temporary, file_type=kind[1:])


def _obj_text(vertices, faces):
    """The lines of an `.obj` file; one format for all of them is what Python does fastest."""
    points = "v %.8f %.8f %.8f\n" * len(vertices) % tuple(vertices.ravel().tolist())
    return points + "f %d %d %d\n" * len(faces) % tuple((faces + 1).ravel().tolist())
