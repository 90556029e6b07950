"""A mesh of the user's as a latent of a model, and how well the model knows such shapes."""

import os
from typing import NamedTuple

import numpy as np
import torch

from loopdraw.data.cache import CachedLoops
from loopdraw.data.dataset import LoopSeqDataset
from loopdraw.data.point_clouds import sample_surface
from loopdraw.files import UserError
from loopdraw.loops.geometry import scan_axis
from loopdraw.loops.mesh_files import as_mesh, fit_to_unit
from loopdraw.loops.representations import eos_timestep, loops_to_sequence
from loopdraw.loops.slicing import slice_mesh

FEW_PLANES = 0.5  # share of the planes that a mesh set up as those of the dataset would meet


class EncodedMesh(NamedTuple):
    """A mesh through a model's eyes."""

    latent: np.ndarray  # (L,)
    report: str  # how well the model reproduces it, in one line


def encode_mesh(model, mesh, fit=False):
    """Slice a mesh with a model's planes and encode it.

    Parameters
    ----------
    model : vae.LoopSeqEncoderDecoderModel
    mesh : path of a file, trimesh.Trimesh, or (vertices (n, 3), faces (m, 3))
    fit : bool, first centre it and make its longest side 1

    Returns
    -------
    EncodedMesh

    Raises
    ------
    UserError
        When the file is no mesh or no plane meets it.
    """
    vertices, faces = as_mesh(mesh)
    path = mesh if isinstance(mesh, (str, os.PathLike)) else "the mesh"
    if fit:
        vertices = fit_to_unit(vertices, faces)
    info = model.info
    try:
        loops_by_plane = slice_mesh(vertices, faces, info.planes).loops_by_plane
    except ValueError as error:
        raise UserError(f"{path}: cannot be sliced ({error})") from None
    sequence, plane_index = loops_to_sequence(loops_by_plane, info.representation)
    if not len(sequence):
        raise UserError(
            f"{path}: no plane of the model meets it; its coordinates are from "
            f"{_listed(vertices[faces].min(axis=(0, 1)))} to "
            f"{_listed(vertices[faces].max(axis=(0, 1)))}"
            + ("" if fit else "; --fit moves and scales it to where the model's shapes are")
        )
    n_all = len(sequence)
    n_kept = min(n_all, info.n_timesteps - info.use_eos_token)
    sequence, plane_index = sequence[:n_kept], plane_index[:n_kept]
    latent = _encode(model, path, vertices, faces, sequence, plane_index)

    predicted = model.decode(latent)[0]
    # By the flags, as the model sees it: it cannot know of planes that the mesh does not meet.
    given, made = (info.loops(s) for s in (sequence, predicted))
    # Imported here: it takes as long as half of torch, and the prompt should not wait for it.
    from loopdraw.evaluation.measures import surface_distance

    distance, floor = surface_distance(info.planes, given, made, seed=0)
    n_met = len(set(plane_index.tolist()))
    report = (
        f"{n_kept} of {n_all} loops kept, on {n_met} of {info.n_planes} "
        f"planes; the model gives {sum(map(len, made))} back"
    )
    if np.isfinite(distance):
        report += (
            f", their surface {distance:.4f} away on average (two samples of one: {floor:.4f})"
        )
    if n_met < FEW_PLANES * info.n_planes:
        report += (
            f"; so few planes meet it: is it lying on its side? The planes follow each other along "
            f"the {'xyz'[scan_axis(info.planes)]} axis"
        )
    return EncodedMesh(latent, report)


def _encode(model, path, vertices, faces, sequence, plane_index):
    """The latent (L,) of a mesh and its sequence."""
    info = model.info
    if info.use_eos_token:
        sequence = np.concatenate([sequence, eos_timestep(info.representation)[None]])
        plane_index = np.append(plane_index, -1).astype(np.int32)
    loops = CachedLoops(
        planes=info.planes,
        sequences=sequence[None],
        plane_indices=plane_index[None],
        representation=info.representation,
        filenames=[str(path)],
        repairs=np.zeros((1, 3), dtype=np.int32),
    )
    dataset = LoopSeqDataset(loops, info, path)
    if model.needs_point_clouds:
        points, _ = sample_surface(vertices, faces, seed=0).astype(np.float32)
        dataset.point_clouds = torch.from_numpy(points)[None]
    return model.encode(dataset.to(model.device).batch([0]))[0].cpu().numpy()


def _listed(point):
    return "(" + ", ".join(f"{x:.3g}" for x in point) + ")"
