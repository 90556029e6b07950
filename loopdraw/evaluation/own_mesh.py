"""A mesh of the user's as a latent of a model, and how well the model knows such shapes.

What is said of the result goes by the distance of the surfaces, less that of two samplings of one
surface, by the mesh's longest side:

================  ==============  ==================  ============
in words          excess by size  validation shapes   random pairs
================  ==============  ==================  ============
the same shape    up to 0.01      39 of 40            none of 40
a similar shape   up to 0.015     1                   none
another shape     more            none                40
================  ==============  ==================  ============

Validation shapes are vases of the demo's kind, encoded and decoded, with refining or without;
random pairs are two such vases. The limits were chosen on these. `OTHER_CATEGORY` limits the
teacher-forced loss of the latent that the encoder gives: at most 0.3 for 64 validation vases, 3.6
to 13 for a cow, a teapot, a figure and vases that are not hollow or were cut off.
"""

import os
from typing import NamedTuple

import numpy as np
import torch

from loopdraw.data.cache import CachedLoops
from loopdraw.data.dataset import LoopSeqDataset
from loopdraw.data.point_clouds import sample_surface
from loopdraw.files import UserError
from loopdraw.loops.geometry import scan_axis
from loopdraw.loops.mesh_files import as_mesh, fit_to_unit, turn_upright
from loopdraw.loops.representations import eos_timestep, loops_to_sequence
from loopdraw.loops.slicing import slice_mesh
from loopdraw.model.refine import refine as refine_latents
from loopdraw.model.refine import shape_losses

SAME, SIMILAR = 0.01, 0.015
OTHER_CATEGORY = 1.0
REFINING_SECONDS = 3.0  # with slicing and comparing, encoding then takes under 5
FEW_PLANES = 0.5  # share of the planes that a mesh set up as those of the dataset would meet


class EncodedMesh(NamedTuple):
    """A mesh through a model's eyes."""

    latent: np.ndarray  # (L,)
    report: str  # how well the model reproduces it: parts, with "; " between them
    loops_by_plane: list  # its own loops, of each plane of the model


def encode_mesh(
    model,
    mesh,
    fit=False,
    refine=True,
    seconds=REFINING_SECONDS,
    up=None,
    say=lambda line: None,
):
    """Slice a mesh with a model's planes and encode it.

    Parameters
    ----------
    model : vae.LoopSeqEncoderDecoderModel
    mesh : path of a file, trimesh.Trimesh, or (vertices (n, 3), faces (m, 3))
    fit : bool, first centre it and make its longest side 1
    refine : bool, improve the encoder's latent, see `loopdraw.model.refine`
    seconds : float or None, time for that
    up : "x", "y", "z" or with a minus, what is up in the mesh; it is turned to the model's axis.
        None: the mesh stays as it stands
    say : function that gets lines of progress

    Returns
    -------
    EncodedMesh. With `refine`, the surface is never farther away than without.

    Raises
    ------
    UserError
        When the file is no mesh or no plane meets it.
    """
    vertices, faces = as_mesh(mesh)
    path = mesh if isinstance(mesh, (str, os.PathLike)) else "the mesh"
    info = model.info
    if up is not None:
        vertices = turn_upright(vertices, up, "xyz"[scan_axis(info.planes)])
    if fit:
        vertices = fit_to_unit(vertices, faces)
    say(f"slicing {len(faces):,} triangles")
    try:
        loops_by_plane = slice_mesh(vertices, faces, info.planes).loops_by_plane
    except ValueError as error:
        raise UserError(f"{path}: cannot be sliced ({error})") from None
    sequence, plane_index = loops_to_sequence(loops_by_plane, info.representation)
    if not len(sequence):
        raise UserError(
            f"{path}: no plane of the model meets it"
            + ("" if fit else "; add --fit, which moves and scales it to the model's planes")
            + f" (its coordinates are from {_listed(vertices[faces].min(axis=(0, 1)))} to "
            f"{_listed(vertices[faces].max(axis=(0, 1)))})"
        )
    n_all = len(sequence)
    n_met = len(set(plane_index.tolist()))
    n_kept = min(n_all, info.n_timesteps - info.use_eos_token)
    sequence, plane_index = sequence[:n_kept], plane_index[:n_kept]
    batch = _batch(model, path, vertices, faces, sequence, plane_index)
    latent = model.encode(batch)  # (1, L)
    with torch.no_grad():
        loss = float(shape_losses(model, batch, latent))

    # Imported here: it takes as long as half of torch, and the prompt should not wait for it.
    from loopdraw.evaluation.measures import surface_distance

    # By the flags, as the model sees it: it cannot know of planes that the mesh does not meet.
    say("comparing the mesh with what the model makes of it")
    given = info.loops(sequence)
    made = info.bounded_loops(model.decode(latent.cpu())[0])
    before = distance, floor = surface_distance(info.planes, given, made, seed=0)
    if refine:
        say("improving the latent" + (f", for up to {seconds:g} s" if seconds else ""))
        refined = refine_latents(model, batch, latent, seconds=seconds)
        made_then = info.bounded_loops(refined.sequences[0])
        then = surface_distance(info.planes, given, made_then, seed=0)
        # Loops nearer on average may still give a surface farther away, or none.
        if then[0] <= distance or not np.isfinite(distance):
            latent, made, (distance, floor) = refined.z, made_then, then
    n_seen = len(set(plane_index.tolist()))
    report = (
        f"{n_kept} of {n_all} loops kept, on {n_seen} of {info.n_planes} "
        f"planes; the model gives {sum(map(len, made))} back"
    )
    sides = np.ptp(vertices[np.unique(faces)], axis=0)
    words = None
    if np.isfinite(distance):
        words = nearness(distance, floor, sides.max())
        report += (
            f"; {words}: their surface {distance:.4f} away on average "
            f"(two samples of one: {floor:.4f}"
            + (f", before refining: {before[0]:.4f})" if refine else ")")
        )
    if words != "the same shape":
        reasons = _reasons(info, n_all - n_kept, n_met, sides, loss, fit)
        report += "".join(f"; {reason}" for reason in reasons)
    elif n_kept < n_all:
        report += f"; but {n_all - n_kept} loops were cut off: the model takes {n_kept}"
    return EncodedMesh(latent[0].cpu().numpy(), report, loops_by_plane)


def nearness(distance, floor, size):
    """How near a surface is to a mesh, in words: see the top of this file.

    Parameters
    ----------
    distance : float, mean distance of the surfaces
    floor : float, the same of two samplings of one surface
    size : float, longest side of the mesh
    """
    excess = (distance - floor) / size
    if excess <= SAME:
        return "the same shape"
    return "a similar shape" if excess <= SIMILAR else "another shape"


def _reasons(info, n_cut, n_met, sides, loss, fit):
    """Why the model's shape may be far from a mesh, a list of str.

    Parameters
    ----------
    n_cut : int, loops that the model's sequences have no room for
    n_met : int, planes with a loop
    sides : (3,) float, of the mesh
    loss : float, teacher-forced, of the encoder's latent
    fit : bool, whether the mesh was fitted
    """
    reasons = []
    axis = scan_axis(info.planes)
    if n_cut:
        n_taken = info.n_timesteps - info.use_eos_token
        reasons.append(f"{n_cut} loops were cut off: the model takes {n_taken}")
    fits = 0.5 < sides.max() < 1.5
    if not fits and not fit:
        reasons.append(f"its longest side is {sides.max():.3g}, not about 1: try --fit")
    if n_met < FEW_PLANES * info.n_planes:
        reasons.append(
            "so few planes meet it: is it lying on its side? The planes follow each other along "
            f"the {'xyz'[axis]} axis"
        )
    elif n_met < info.n_planes:
        n_missed = info.n_planes - n_met
        planes = "1 plane misses it" if n_missed == 1 else f"{n_missed} planes miss it"
        reasons.append(planes + ("" if fit else ": try --fit"))
    if loss > OTHER_CATEGORY:
        reasons.append(
            "the model has seen nothing like it: it guesses the next loop far worse than for "
            "shapes of its category"
        )
    return reasons


def _batch(model, path, vertices, faces, sequence, plane_index):
    """The batch that holds one mesh, of which `sequence` (T, F) are the loops."""
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
    return dataset.to(model.device).batch([0], trim=True)


def _listed(point):
    return "(" + ", ".join(f"{x:.3g}" for x in point) + ")"
