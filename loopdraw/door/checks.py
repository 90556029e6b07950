"""Checks of what programs give to the functions of the door."""

import os

import numpy as np

from loopdraw.files import UserError


def checked_mesh(mesh):
    """A path as it is, or the checked vertices (n, 3) and faces (m, 3) of a mesh."""
    from loopdraw.loops.mesh_files import as_mesh

    if isinstance(mesh, (str, os.PathLike)):
        return mesh
    try:
        vertices, faces = as_mesh(mesh)
    except (TypeError, ValueError):
        raise UserError(
            f"{short(mesh)} is not a mesh: give a path, a trimesh.Trimesh or (vertices, faces)"
        ) from None
    if vertices.shape[1:] != (3,) or faces.shape[1:] != (3,) or not len(faces):
        raise UserError(
            f"the mesh has vertices of shape {vertices.shape} and faces of shape {faces.shape}, "
            "not (n, 3) and (m, 3)"
        )
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise UserError(
            f"the mesh has faces of vertices {faces.min()} to {faces.max()}, but {len(vertices)} "
            "vertices, counted from 0"
        )
    return vertices, faces


def checked_up(up):
    from loopdraw.loops.mesh_files import UPS

    if up is not None and up not in UPS:
        raise UserError(f"up is {short(up)}, none of {', '.join(UPS)}")
    return up


def check_count(value, name, least=0):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise UserError(f"{name} is {short(value)}, not a whole number from {least} on")


def short(value):
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
