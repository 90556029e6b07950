"""Make a demo dataset of vases or sofas: folders of meshes with their planes.

    python -m loopdraw.demo.dataset vases datasets/demo-vases --n_train 1000 --n_test 200 --seed 0

writes `train/`, `test/` and, with `--n_val`, `val/`, each with a `planespec.txt` and its meshes.
Each mesh is one closed, oriented solid, centred. Its longest side is 1 and lies along the scan
axis, so every plane meets every mesh. No mesh reaches more than a hundredth beyond the first and
last plane.

The same seed makes the same meshes, however many worker processes there are, and mesh k is the
same in a small dataset and a large one. `vases.py` and `sofas.py` draw the shapes.
"""

import argparse
import os
import shutil
import time
from pathlib import Path

import numpy as np

from loopdraw.files import UserError, run_script
from loopdraw.loops.geometry import signed_area
from loopdraw.options import Parser, file_name, number

FAMILIES = ("vases", "sofas")
SPLITS = ("train", "test", "val")  # by their numbers in the seeds
N_PLANES = 32
# A plane at 0.5 would only touch the flat foot of a vase.
FIRST_PLANE, LAST_PLANE = -0.49, 0.49

# Limits of what a model can learn from. A shape beyond them is drawn again.
MAX_LOOPS = 96
MAX_LOOPS_IN_A_PLANE = 8
SMALLEST_LOOP = 1e-4  # area
SMALLEST_FACE = 1e-10  # area; a smaller triangle has no reliable normal
TOLERANCE = 2e-4  # how far the surface may move when short edges are removed
MAX_ATTEMPTS = 1000


def parse_arguments(argv=None):
    """Parse the command line, or `argv`. Wrong values raise a `UserError`."""
    parser = Parser(
        description="Make a demo dataset of meshes, ready for slicing and training.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("family", choices=FAMILIES, help="what to make")
    parser.add_argument(
        "folder", type=file_name, help="the dataset's folder; it must not exist yet"
    )
    parser.add_argument("--n_train", type=number(int, 1), default=1000, help="training meshes")
    parser.add_argument("--n_test", type=number(int, 0), default=200, help="test meshes")
    parser.add_argument(
        "--n_val", type=number(int, 0), default=0, help="validation meshes, to choose settings on"
    )
    parser.add_argument(
        "--seed", type=number(int, 0), default=0, help="another seed makes other shapes"
    )
    parser.add_argument(
        "--num_workers",
        type=number(int, 1),
        default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        help="processes that share the work; the meshes do not depend on it",
    )
    return parser.parse_args(argv)


def make_dataset(family, folder, n_train, n_test, seed, num_workers=1, n_val=0):
    """Make all meshes of a dataset. The folder appears complete or not at all.

    Parameters
    ----------
    family : "vases" or "sofas"
    folder : path, missing or empty
    n_train, n_test : int; with n_test 0 there is no folder `test/`
    seed : int
    num_workers : int, processes
    n_val : int; with 0 there is no folder `val/`

    Raises
    ------
    UserError
        When the folder is not empty, or cannot be written.
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    folder = Path(folder)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(
                f"{folder}: is there already, and nothing in it is overwritten; "
                "name another folder, or remove this one first"
            )
        target = folder.resolve()
        aside = target.with_name(f".{target.name}-unfinished-{os.getpid()}")
        try:
            jobs = []
            for split, count in zip(SPLITS, (n_train, n_test, n_val), strict=True):
                if count == 0:
                    continue
                (aside / split).mkdir(parents=True)
                (aside / split / "planespec.txt").write_text(planespec(family))
                for index in range(count):
                    path = aside / split / f"{family[:-1]}-{index:04d}.obj"
                    jobs.append(delayed(_make_file)(path, family, seed, split, index))
            made = Parallel(n_jobs=num_workers, return_as="generator_unordered")(jobs)
            for _ in tqdm(made, desc=f"{family}", total=len(jobs), unit="mesh"):
                pass
            os.replace(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); "
            "free some space or name another folder"
        ) from error


def planespec(family):
    """The text of the family's `planespec.txt`."""
    return f"{_family_module(family).SCAN_AXIS}\n{N_PLANES}\n{FIRST_PLANE}\n{LAST_PLANE}\n"


def _family_module(family):
    if family == "vases":
        from loopdraw.demo import vases as module
    else:
        from loopdraw.demo import sofas as module
    return module


def _make_file(path, family, seed, split, index):
    vertices, faces = make_shape(family, seed, split, index)
    with open(path, "w", encoding="ascii") as file:
        file.writelines("v {:.6f} {:.6f} {:.6f}\n".format(*xyz) for xyz in vertices.tolist())
        file.writelines("f {} {} {}\n".format(*abc) for abc in (faces + 1).tolist())


def make_shape(family, seed, split, index):
    """Make one mesh of a dataset.

    Parameters
    ----------
    family : "vases" or "sofas"
    seed : int
    split : "train", "test" or "val"
    index : int, number of the mesh in its split

    Returns
    -------
    vertices : (n, 3) float64, rounded to the six decimals that a file holds
    faces : (m, 3) int64
    """
    module = _family_module(family)
    draw = module.make_vase if family == "vases" else module.make_sofa
    for attempt in range(MAX_ATTEMPTS):
        key = (FAMILIES.index(family), SPLITS.index(split), index, attempt)
        solid = draw(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)))
        if solid is None:
            continue
        solid = tidied(solid)
        mesh = solid.to_mesh64()
        vertices = np.round(np.asarray(mesh.vert_properties)[:, :3], 6)
        faces = np.asarray(mesh.tri_verts).astype(np.int64)
        if slices_are_clear(solid, module.SCAN_AXIS) and is_one_solid(vertices, faces):
            return vertices, faces
    raise RuntimeError(f"no shape out of {MAX_ATTEMPTS} was sound: {family}, {split} {index}")


def tidied(solid):
    """A solid without the short edges that its unions left, centred, its longest side 1."""
    # Manifold keeps the edges between the parts of a union, unless told to forget their origin.
    return centred(centred(solid).as_original().simplify(TOLERANCE))


def centred(solid):
    """A solid moved and scaled: its bounding box is centred, the longest side is 1."""
    low, high = np.reshape(solid.bounding_box(), (2, 3))
    size = 1 / (high - low).max()
    return solid.translate(tuple(-(low + high) / 2)).scale((size, size, size))


def slices_are_clear(solid, scan_axis):
    """Whether every plane meets the solid, and the loops are neither tiny nor too many."""

    # Manifold slices across z.
    upright = solid.rotate({"x": (0, -90, 0), "y": (90, 0, 0)}[scan_axis])
    slices = [upright.slice(h) for h in np.linspace(FIRST_PLANE, LAST_PLANE, N_PLANES)]
    counts = [section.num_contour() for section in slices]
    if min(counts) == 0 or max(counts) > MAX_LOOPS_IN_A_PLANE or sum(counts) > MAX_LOOPS:
        return False
    return all(
        abs(signed_area(loop)) > SMALLEST_LOOP
        for section in slices
        for loop in section.to_polygons()
    )


def is_one_solid(vertices, faces):
    """Whether a mesh is one closed solid, oriented outwards, without doubled vertices or slivers.

    Give it the rounded vertices, as a reader of the file sees them.
    """
    import trimesh

    if len(np.unique(vertices, axis=0)) < len(vertices):
        return False
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    return mesh.is_volume and mesh.body_count == 1 and mesh.area_faces.min() > SMALLEST_FACE


def main(argv=None):
    arguments = parse_arguments(argv)
    start = time.perf_counter()
    make_dataset(**vars(arguments))
    print(
        f"{arguments.folder}: {arguments.n_train} train, {arguments.n_val} validation and "
        f"{arguments.n_test} test {arguments.family} in {time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    run_script(main)
