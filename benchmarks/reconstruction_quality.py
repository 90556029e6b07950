"""How well shapes are rebuilt from their loops alone.

    python benchmarks/reconstruction_quality.py                     16 procedural vases
    python benchmarks/reconstruction_quality.py FOLDER …            the meshes in some folders
    python benchmarks/reconstruction_quality.py --vases 16 FOLDER … both
    python benchmarks/reconstruction_quality.py --reco poisson      the paper's way (pymeshlab)

Every mesh is centred, scaled to a longest side of 1, cut by 32 planes along y from -0.48 to 0.48,
written as a loop sequence of 32 points a loop, and rebuilt from that. The columns:

    distance   mean distance between the surfaces, 20,000 samples each way
    floor      the same between two samplings of the original: no rebuilding can show less
    normals    mean cosine between the normals of nearest samples, without sign
    loops      farthest that a point of a given loop lies from the mesh
    closed     watertight and oriented outwards
    euler      Euler characteristic, rebuilt / original
    faces      triangles of the mesh
    seconds    processor time of the rebuilding
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

N_SAMPLES = 20000
N_PLANES, FIRST, LAST = 32, -0.48, 0.48
SUFFIXES = (".obj", ".ply", ".stl", ".off", ".glb")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, help="folders of meshes")
    parser.add_argument("--vases", type=int, metavar="N", help="procedural vases to measure too")
    parser.add_argument("--reco", choices=("loops", "poisson"), default="loops", help="how")
    parser.add_argument("--resolution", type=int, help="grid cells; default: that of the program")
    parser.add_argument("--first_seed", type=int, default=1000, help="seed of the first vase")
    arguments = parser.parse_args()
    if arguments.vases is None:
        arguments.vases = 0 if arguments.folders else 16

    from loopdraw.surface.workers import build_surface

    def build(planes, loops_by_plane):
        return build_surface(planes, loops_by_plane, arguments.reco, arguments.resolution)

    measure(*make_vase(arguments.first_seed), build)  # so that no row pays for imports
    print(
        f"{'':34s}{'distance':>9s}{'floor':>8s}{'normals':>9s}{'loops':>9s}"
        f"{'closed':>8s}{'euler':>10s}{'faces':>8s}{'seconds':>9s}"
    )
    for name, meshes in groups(arguments):
        rows = []
        for label, vertices, faces in meshes:
            row = measure(vertices, faces, build)
            rows.append(row)
            print_row(label, row)
        print_row(f"{name}: mean of {len(rows)}", mean_of(rows))


def groups(arguments):
    """Names of groups of meshes, each with an iterator over (label, vertices, faces)."""
    from loopdraw.loops.mesh_files import load_mesh

    for folder in arguments.folders:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        yield folder.name, ((path.stem, *load_mesh(path)) for path in paths)
    if arguments.vases:
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.vases)
        yield "vases", ((f"vase {seed}", *make_vase(seed)) for seed in seeds)


def make_vase(seed):
    """A procedural vase: vertices (n, 3), faces (m, 3)."""
    import numpy as np

    from loopdraw.demo import vases

    rng = np.random.default_rng(seed)
    while (vase := vases.make_vase(rng)) is None:
        pass
    mesh = vase.to_mesh()
    return np.asarray(mesh.vert_properties[:, :3], dtype=float), np.asarray(mesh.tri_verts)


def measure(vertices, faces, build):
    """Slice a mesh, rebuild it from its loop sequence and compare: a dict of the columns.

    `build` gives the vertices and faces for planes and loops by plane.
    """
    import trimesh

    original, planes, loops = slices_of(vertices, faces)
    started = time.process_time()
    mesh = trimesh.Trimesh(*build(planes, loops), process=False)
    seconds = time.process_time() - started
    distance, normals = compare(original, mesh)
    return {
        "distance": distance,
        "floor": compare(original, original)[0],
        "normals": normals,
        "loops": farthest_loop_point(mesh, planes, loops),
        "closed": bool(mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0),
        "euler": (mesh.euler_number, original.euler_number),
        "faces": len(mesh.faces),
        "seconds": seconds,
    }


def slices_of(vertices, faces):
    """A mesh, scaled, its planes, and its loops by plane as they come from a loop sequence."""
    import numpy as np
    import trimesh

    from loopdraw.loops.geometry import make_planes
    from loopdraw.loops.representations import REPRESENTATIONS, loops_to_sequence, sequence_to_loops
    from loopdraw.loops.slicing import slice_mesh

    vertices = vertices - (vertices.max(axis=0) + vertices.min(axis=0)) / 2
    original = trimesh.Trimesh(vertices / np.ptp(vertices, axis=0).max(), faces)
    planes = make_planes("y", N_PLANES, FIRST, LAST)
    polyline = REPRESENTATIONS["fixed-res-polyline"]
    loops = slice_mesh(original.vertices, original.faces, planes).loops_by_plane
    sequence, plane_index = loops_to_sequence(loops, polyline)
    return original, planes, sequence_to_loops(sequence, N_PLANES, polyline, False, plane_index)


def compare(mesh, other):
    """Mean symmetric distance between two surfaces, and agreement of their normals."""
    import numpy as np
    import trimesh
    from scipy.spatial import cKDTree

    points, normals = [], []
    for seed, surface in enumerate((mesh, other)):
        samples, face = trimesh.sample.sample_surface(surface, N_SAMPLES, seed=seed)
        points.append(np.asarray(samples))
        normals.append(surface.face_normals[face])
    distances, cosines = [], []
    for one, two in ((0, 1), (1, 0)):
        distance, nearest = cKDTree(points[two]).query(points[one])
        distances.append(distance.mean())
        cosines.append(np.abs(np.einsum("ni,ni->n", normals[one], normals[two][nearest])).mean())
    return np.mean(distances), np.mean(cosines)


def farthest_loop_point(mesh, planes, loops_by_plane):
    """Largest distance, in its plane, from a point of the loops to the edges of the mesh there."""
    import numpy as np
    import shapely

    from loopdraw.loops.geometry import project, resample_loop

    edges, farthest = mesh.edges_unique, 0.0
    for plane, loops in zip(planes, loops_by_plane, strict=True):
        if not loops:
            continue
        on_plane = np.abs((mesh.vertices - plane[1]) @ plane[0]) < 1e-9
        ends = project(mesh.vertices, plane)[edges[on_plane[edges].all(axis=1)]]
        if not len(ends):
            return np.inf
        lines = shapely.multilinestrings(shapely.linestrings(ends))
        points = shapely.points(np.concatenate([resample_loop(loop, 200) for loop in loops]))
        farthest = max(farthest, shapely.distance(points, lines).max())
    return farthest


def mean_of(rows):
    """Means of the columns, shares of `closed` and of the right `euler`."""
    import numpy as np

    means = {
        column: np.mean([row[column] for row in rows])
        for column in ("distance", "floor", "normals", "loops", "closed", "faces", "seconds")
    }
    right = np.mean([row["euler"][0] == row["euler"][1] for row in rows])
    return {**means, "euler": f"{right:.0%} right"}


def print_row(label, row):
    euler = row["euler"] if isinstance(row["euler"], str) else "{} / {}".format(*row["euler"])
    print(
        f"{label[:33]:34s}{row['distance']:9.4f}{row['floor']:8.4f}{row['normals']:9.3f}"
        f"{row['loops']:9.4f}{row['closed']:8.0%}{euler:>10s}{row['faces']:8.0f}"
        f"{row['seconds']:9.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
