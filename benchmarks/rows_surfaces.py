"""Surfaces from loops: processor time, triangles and size of file."""

import statistics
import time

from measuring import Row
from reconstruction_quality import make_vase, slices_of

from loopdraw.loops.mesh_files import save_mesh
from loopdraw.surface.reconstruction import PREVIEW_RESOLUTION, reconstruct_mesh

FIRST_SEED = 1000


def rows(folder, n_vases):
    """Rows on procedural vases, means over them."""
    shapes = [slices_of(*make_vase(FIRST_SEED + i))[1:] for i in range(n_vases)]
    seconds = {}
    for resolution in (PREVIEW_RESOLUTION, None):
        reconstruct_mesh(*shapes[0], resolution)  # so that no shape pays for imports
        started = time.process_time()  # a busy machine hardly changes it
        meshes = [reconstruct_mesh(*shape, resolution) for shape in shapes]
        seconds[resolution] = (time.process_time() - started) / n_vases
    sizes = []
    for mesh in meshes:
        save_mesh(folder / "vase.obj", *mesh)
        sizes.append((folder / "vase.obj").stat().st_size)
    n_faces = statistics.mean(len(faces) for _, faces in meshes)
    size = statistics.mean(sizes)
    default, preview = seconds[None], seconds[PREVIEW_RESOLUTION]
    return [
        Row("surface of a vase, processor time", "s", default, goal="≤ 80 ms", met=default <= 0.08),
        Row("the same for the preview", "s", preview, goal="≤ 30 ms", met=preview <= 0.03),
        Row("its triangles", "number", n_faces, goal="≤ 20,000", met=n_faces <= 20_000),
        Row("its .obj file", "bytes", size, goal="≤ 1.0 MB", met=size <= 1e6),
    ]
