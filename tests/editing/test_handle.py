"""The example that makes a handle, on the demo model."""

import numpy as np
import trimesh
from conftest import ROOT

import loop_inference_intervention_func as func
from loopdraw.editing.interventions import decode_with_intervention
from loopdraw.loops.nesting import nesting_depths
from loopdraw.loops.representations import sequence_to_loops
from loopdraw.loops.slicing import slice_mesh
from loopdraw.model.latents import shape_generator
from loopdraw.model.vae import load_model
from loopdraw.surface.reconstruction import reconstruct_mesh

FIRST, LAST = 9, 15  # planes of the handle


def demo_model():
    return load_model(ROOT / "checkpoints/demo-vases")


def mesh_of(sequence, info, n_planes=None):
    """The surface of the loops on the first `n_planes` planes, or on all."""
    loops = sequence_to_loops(sequence, info.n_planes, info.representation, info.use_eos_token)
    loops = [
        of_plane if k in range(info.n_planes)[:n_planes] else [] for k, of_plane in enumerate(loops)
    ]
    return trimesh.Trimesh(*reconstruct_mesh(info.planes, loops), process=False)


def n_eyes(mesh, planes):
    """How many eyes of handles there are on the side of +u, between the planes of the handle.

    An eye is a hole in the section along u and the scan axis, at least three planes high. The
    inside of a vase is none: it is open at the top.
    """
    side = np.array([[planes[0, 3], np.zeros(3), planes[0, 2], planes[0, 0]]])
    (loops,) = slice_mesh(mesh.vertices, mesh.faces, side).loops_by_plane
    heights = planes[:, 1] @ planes[0, 0]
    n_eyes = 0
    for loop, depth in zip(loops, nesting_depths(loops), strict=True):
        u, y = (loop.min(axis=0) + loop.max(axis=0)) / 2
        tall = np.ptp(loop[:, 1]) > 3 * (heights[1] - heights[0])
        n_eyes += depth % 2 and u > 0 and tall and heights[FIRST] <= y <= heights[LAST]
    return n_eyes


def genus(mesh):
    return mesh.body_count - mesh.euler_number // 2


def test_the_handle_example_makes_a_handle(monkeypatch):
    """For 8 of 10 seeds one closed solid with an eye that is new, and of higher genus.

    The genus is that of the part around the handle: spouts and handles higher up may change theirs.
    """
    monkeypatch.setattr(func, "ACTIVE", func.make_handle)
    model = demo_model()
    info, by_genus, by_eye = model.info, [], []
    for seed in range(10):
        latent = model.prior.draw(shape_generator(seed, 0), 1)[0]
        sequence = decode_with_intervention(model, latent, func.loop_generation_intervention)
        mesh, untouched = mesh_of(sequence, info), mesh_of(model.decode(latent)[0], info)
        solid = mesh.is_watertight and mesh.body_count == 1
        parts = [mesh_of(of, info, LAST + 3) for of in (sequence, model.decode(latent)[0])]
        by_genus.append(solid and genus(parts[0]) == genus(parts[1]) + 1)
        by_eye.append(solid and n_eyes(mesh, info.planes) > n_eyes(untouched, info.planes))
    assert sum(by_genus) >= 8, by_genus
    assert sum(by_eye) >= 8, by_eye
