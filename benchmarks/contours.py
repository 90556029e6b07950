"""How well shapes are rebuilt from few parallel contours in any direction.

    python benchmarks/contours.py                vases, sofas and simple solids
    python benchmarks/contours.py FOLDER …       the closed meshes in some folders
    python benchmarks/contours.py --flat         as the prompt builds its surfaces

Every mesh is scaled to a longest side of 1 and cut by 15 to 20 planes in a random direction, which
stop 5 % short of its two ends. The surface is rebuilt from those contours. The columns:

    planes     how many planes
    distance   mean distance between the surfaces, 20,000 samples each way
    floor      the same between two samplings of the original: no rebuilding can show less
    ratio      distance / floor
    parts      connected parts, rebuilt / original; hollows are none
    closed     watertight and oriented outwards
    seconds    processor time of the rebuilding
"""

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).parent)]

from reconstruction_quality import SUFFIXES, compare, make_vase  # noqa: E402

SHORT = 0.05  # of the extent, that the planes stop short of the ends
FEWEST, MOST = 15, 20  # planes
N_EACH = 8


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, help="folders of meshes")
    parser.add_argument("--flat", action="store_true", help="as the prompt builds its surfaces")
    parser.add_argument("--seed", type=int, default=0, help="of the shapes and directions")
    arguments = parser.parse_args()

    print(
        f"{'':30s}{'planes':>7s}{'distance':>10s}{'floor':>8s}{'ratio':>7s}{'parts':>8s}"
        f"{'closed':>8s}{'seconds':>9s}"
    )
    everything = []
    for group, meshes in groups(arguments.folders, arguments.seed):
        rows = []
        for number, (label, mesh) in enumerate(meshes):
            rows.append(measure(mesh, arguments.seed + number, arguments.flat))
            print_row(label, rows[-1])
        if rows:
            print_mean(group, rows)
        everything += rows
    print_mean("all", everything)


def groups(folders, seed):
    """Names of groups of closed meshes, each with an iterator over (label, trimesh.Trimesh)."""
    if folders:
        for folder in folders:
            yield folder.name, closed_meshes(folder)
        return
    yield "vases", ((f"vase {seed + i}", vase(seed + i)) for i in range(N_EACH))
    yield "sofas", ((f"sofa {seed + i}", sofa(seed + i)) for i in range(N_EACH))
    yield "solids", solids()


def closed_meshes(folder):
    import trimesh

    from loopdraw.loops.mesh_files import load_mesh

    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        mesh = trimesh.Trimesh(*load_mesh(path), process=True)
        if mesh.is_watertight:
            yield path.stem, mesh


def vase(seed):
    import trimesh

    return trimesh.Trimesh(*make_vase(seed), process=False)


def sofa(seed):
    import trimesh

    from loopdraw.demo.dataset import make_shape

    vertices, faces = make_shape("sofas", seed, "test", 0)
    return trimesh.Trimesh(vertices, faces, process=False)


def solids():
    import numpy as np
    import trimesh

    make = trimesh.creation
    angle = np.linspace(0, 4 * np.pi, 60)
    helix = np.stack([0.4 * np.cos(angle), 0.4 * np.sin(angle), angle / 12], axis=1)
    disc = trimesh.path.polygons.Polygon(
        0.08 * np.stack([np.cos(angle[:30]), np.sin(angle[:30])], axis=1)
    )
    yield "ball", make.icosphere(4)
    yield "ellipsoid", make.icosphere(4).apply_scale((1, 0.6, 0.3))
    yield "ring", make.torus(0.4, 0.12, 96, 48)
    yield "capsule", make.capsule(1.0, 0.25)
    yield "cone", make.cone(0.4, 1.0, sections=96)
    yield "pipe", make.annulus(0.25, 0.4, 0.9, sections=96)
    yield "box", make.box((1, 0.7, 0.4))
    yield "spring", make.sweep_polygon(disc, helix)


def measure(mesh, seed, flat):
    """Cut a mesh, rebuild it and compare: a dict of the columns."""
    import trimesh

    original, planes, loops = cut(mesh, seed)
    started = time.process_time()
    rebuilt = trimesh.Trimesh(*build(planes, loops, flat), process=False)
    seconds = time.process_time() - started
    return {
        "planes": len(planes),
        "distance": compare(original, rebuilt)[0],
        "floor": compare(original, original)[0],
        "parts": (n_parts(rebuilt), n_parts(original)),
        "closed": bool(rebuilt.is_watertight and rebuilt.is_winding_consistent),
        "seconds": seconds,
    }


def n_parts(mesh):
    from loopdraw.surface.reconstruction import connected_parts

    return int((connected_parts(mesh.vertices, mesh.faces)[1] > 0).sum())


def build(planes, loops, flat):
    from loopdraw.surface.reconstruction import reconstruct_mesh

    if flat:
        return reconstruct_mesh(planes, loops)
    from loopdraw.surface.contours.smooth import smooth_mesh

    return smooth_mesh(planes, loops)


def cut(mesh, seed):
    """A mesh, scaled, and its planes and loops by plane in a random direction."""
    import numpy as np
    import trimesh

    from loopdraw.loops.slicing import slice_mesh

    rng = np.random.default_rng(seed)
    mesh = trimesh.Trimesh(mesh.vertices / mesh.extents.max(), mesh.faces, process=False)
    normal = rng.normal(size=3)
    normal /= np.linalg.norm(normal)
    across = np.linalg.svd(normal[None])[2][1:]
    heights = mesh.vertices @ normal
    margin = SHORT * np.ptp(heights)
    n_planes = int(rng.integers(FEWEST, MOST + 1))
    planes = np.zeros((n_planes, 4, 3))
    planes[:, 0], planes[:, 2:] = normal, across
    steps = np.linspace(heights.min() + margin, heights.max() - margin, n_planes)
    planes[:, 1] = steps[:, None] * normal
    return mesh, planes, slice_mesh(mesh.vertices, mesh.faces, planes).loops_by_plane


def print_row(label, row):
    parts = "{} / {}".format(*row["parts"])
    print(
        f"{label[:29]:30s}{row['planes']:7d}{row['distance']:10.4f}{row['floor']:8.4f}"
        f"{row['distance'] / row['floor']:7.2f}{parts:>8s}{row['closed']:8.0%}"
        f"{row['seconds']:9.2f}",
        flush=True,
    )


def print_mean(group, rows):
    import numpy as np

    distance, floor, closed, seconds = (
        np.mean([row[column] for row in rows])
        for column in ("distance", "floor", "closed", "seconds")
    )
    ratio = np.mean([row["distance"] / row["floor"] for row in rows])
    right = np.mean([row["parts"][0] == row["parts"][1] for row in rows])
    print(
        f"{f'{group}: mean of {len(rows)}':30s}{'':7s}{distance:10.4f}{floor:8.4f}{ratio:7.2f}"
        f"{right:8.0%}{closed:8.0%}{seconds:9.2f}\n",
        flush=True,
    )


if __name__ == "__main__":
    main()
