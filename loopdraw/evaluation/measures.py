"""What is measured on shapes as loops and as the meshes rebuilt from them.

All functions take the planes (P, 4, 3) and the loops of every plane, so that shapes of a dataset
and shapes of a model go the same way: differences between them are the model's, not the mesher's.
"""

import functools
from typing import NamedTuple

import numpy as np
import shapely
import trimesh
from joblib import Parallel, delayed
from scipy.spatial import cKDTree
from tqdm import tqdm

from loopdraw.evaluation.checks import CHECK_SECONDS, count_solids, free_ends
from loopdraw.loops.geometry import plane_heights
from loopdraw.surface.reconstruction import DEFAULT_RESOLUTION
from loopdraw.surface.workers import MESH_SECONDS, build_surface

CLOUD_POINTS = 2048  # of a shape, as in Achlioptas et al. and PointFlow
RESOLUTION = 48  # of meshes that are checked and sampled: half of the usual one, for time
SURFACE_POINTS = 20_000  # of a mesh, where two single meshes are compared

# A loop is degenerate when it is next to nothing: its area below this share of the area of a
# circle of the same length, or its length below this share of the distance between the first and
# last plane.
DEGENERATE_ROUNDNESS = 0.01
DEGENERATE_LENGTH = 0.01


class ShapeMeasures(NamedTuple):
    """Of one shape; see `measure_shape`."""

    n_loops: int
    n_degenerate: int
    n_self_crossing: int
    n_free_ends: int
    watertight: bool
    n_solids: int
    cloud: np.ndarray | None  # (2048, 3) float32 on the surface; None: the loops give no mesh
    resampling: float  # Chamfer distance of that cloud to another one of the same surface

    @property
    def is_faultless(self):
        return self.watertight and self.n_solids == 1 and not self.n_free_ends


def measure_shape(planes, loops_by_plane, seed):
    """Check the loops of a shape, rebuild its mesh, check that, and sample it.

    Parameters
    ----------
    planes : (P, 4, 3) float
    loops_by_plane : list of P lists of (k, 2) float
    seed : int, of the points on the surface

    Returns
    -------
    ShapeMeasures
    """
    loops = [loop for loops in loops_by_plane for loop in loops]
    counts = [
        len(loops),
        degenerate_loops(loops, planes).sum(),
        self_crossing_loops(loops).sum(),
        len(free_ends(planes, loops_by_plane)),
    ]
    mesh = rebuild(planes, loops_by_plane, RESOLUTION)
    if mesh is None:
        return ShapeMeasures(*map(int, counts), False, 0, None, np.nan)
    cloud, again = (_sample(mesh, CLOUD_POINTS, [seed, i]) for i in range(2))
    resampling = sum((distances**2).mean() for distances in _nearest_distances(cloud, again))
    return ShapeMeasures(
        *map(int, counts),
        watertight=bool(mesh.is_watertight),
        n_solids=count_solids(mesh.vertices, mesh.faces),
        cloud=cloud.astype(np.float32),
        resampling=float(resampling),
    )


def measure_shapes(planes, shapes, rng, n_workers=1, name="shapes"):
    """`measure_shape` of many shapes, a list of loops_by_plane; returns a list of ShapeMeasures.

    `rng` is a numpy.random.Generator, `n_workers` a number of processes, `name` what the progress
    bar calls the shapes.
    """
    seeds = rng.integers(2**31, size=len(shapes))
    jobs = [(planes, *job) for job in zip(shapes, seeds, strict=True)]
    return in_parallel(measure_shape, jobs, n_workers, f"rebuilding {name}")


def validity(measures):
    """What shares of shapes, and of their loops, are as they should be.

    Parameters
    ----------
    measures : list of ShapeMeasures

    Returns
    -------
    dict: `shapes`, their number; `with_mesh`, `watertight`, `one_solid` (and watertight), shares of
    them; `free_ends`, the share of shapes with any, and `free_ends_per_shape` (see `checks`);
    `faultless`, the share that is one solid, watertight and without free ends; `loops`, their
    number; `degenerate`, `self_crossing`, shares of them; `resampling`, mean
    Chamfer distance of two samplings of one surface, None without a mesh
    """
    n_loops = sum(m.n_loops for m in measures)
    resamplings = [m.resampling for m in measures if m.cloud is not None]
    return {
        "shapes": len(measures),
        "with_mesh": len(resamplings) / len(measures),
        "watertight": sum(m.watertight for m in measures) / len(measures),
        "one_solid": sum(m.watertight and m.n_solids == 1 for m in measures) / len(measures),
        "free_ends": sum(m.n_free_ends > 0 for m in measures) / len(measures),
        "free_ends_per_shape": sum(m.n_free_ends for m in measures) / len(measures),
        "faultless": sum(m.is_faultless for m in measures) / len(measures),
        "loops": n_loops,
        "degenerate": sum(m.n_degenerate for m in measures) / max(n_loops, 1),
        "self_crossing": sum(m.n_self_crossing for m in measures) / max(n_loops, 1),
        "resampling": float(np.mean(resamplings)) if resamplings else None,
    }


def surface_distance(planes, loops_by_plane, other_loops_by_plane, seed):
    """Mean distance between the surfaces of two shapes, rebuilt from their loops.

    20,000 points are sampled on each surface; the mean distance to the nearest point of the other
    is taken both ways and averaged.

    Returns
    -------
    distance : float, in units of the planes; nan when a shape gives no mesh, or none in
        `CHECK_SECONDS`
    floor : float, the same distance between two samplings of the first shape's surface
    """
    mesh = rebuild(planes, loops_by_plane, seconds=CHECK_SECONDS)
    other = rebuild(planes, other_loops_by_plane, seconds=CHECK_SECONDS)
    if mesh is None or other is None:
        return np.nan, np.nan
    points, again = (_sample(mesh, SURFACE_POINTS, [seed, i]) for i in range(2))
    others = _sample(other, SURFACE_POINTS, [seed, 2])
    return tuple(
        float(np.mean([distances.mean() for distances in _nearest_distances(points, cloud)]))
        for cloud in (others, again)
    )


def rebuild(planes, loops_by_plane, resolution=DEFAULT_RESOLUTION, seconds=MESH_SECONDS):
    """The mesh of some loops as trimesh has it; None where there is none, or none in time."""
    try:
        vertices, faces = build_surface(
            planes, loops_by_plane, resolution=resolution, seconds=seconds
        )
    except ValueError:
        return None
    return trimesh.Trimesh(vertices, faces, process=False)


def _sample(mesh, n_points, seed):
    points, _ = trimesh.sample.sample_surface(mesh, n_points, seed=np.random.default_rng(seed))
    return np.asarray(points)


def _nearest_distances(first, second):
    return cKDTree(second).query(first)[0], cKDTree(first).query(second)[0]


def degenerate_loops(loops, planes):
    """Which loops are next to nothing, a line or a point, (n,) bool."""
    if not loops:
        return np.zeros(0, dtype=bool)
    rings = _rings(loops)
    lengths, areas = shapely.length(rings), shapely.area(_regions(rings))
    heights = plane_heights(planes)
    too_short = lengths < DEGENERATE_LENGTH * abs(heights[-1] - heights[0])
    return too_short | (4 * np.pi * areas < DEGENERATE_ROUNDNESS * lengths**2)


def self_crossing_loops(loops):
    """Which loops cross or touch themselves, (n,) bool."""
    return ~shapely.is_simple(_rings(loops)) if loops else np.zeros(0, dtype=bool)


def _rings(loops):
    indices = np.repeat(np.arange(len(loops)), [len(loop) for loop in loops])
    return shapely.linearrings(np.concatenate(loops), indices=indices)


# --------------------------------------------------------------------------- sequences of shapes


def interpolation_changes(planes, shapes):
    """How much solid changes from each shape to the next, and from the first to the last.

    The change is the volume that belongs to one shape and not to the other: in every plane the
    area between the loops of one and the other, exactly, times the distance of the planes. As a
    distance it obeys the triangle inequality, and other than distances of sampled points it has
    no noise.

    Parameters
    ----------
    planes : (P, 4, 3) float
    shapes : list of n loops_by_plane

    Returns
    -------
    steps : (n - 1,) float, in cubed units of the planes
    ends : float
    """
    sections = [_sections(loops_by_plane) for loops_by_plane in shapes]
    spacing = np.abs(np.gradient(plane_heights(planes)))

    def change(first, second):
        return float(shapely.area(shapely.symmetric_difference(first, second)) @ spacing)

    steps = [change(*pair) for pair in zip(sections[:-1], sections[1:], strict=True)]
    return np.array(steps), change(sections[0], sections[-1])


def _sections(loops_by_plane):
    """What is inside the loops of each plane by the even-odd rule, (P,) of shapely geometries."""
    return np.array(
        [
            functools.reduce(shapely.symmetric_difference, _regions(_rings(loops)))
            if loops
            else shapely.Polygon()
            for loops in loops_by_plane
        ]
    )


def _regions(rings):
    """What each ring encloses: all parts of one that crosses itself, no lines or points."""
    return shapely.make_valid(shapely.polygons(rings), method="structure", keep_collapsed=False)


def in_parallel(function, jobs, n_workers, description):
    """`[function(*job) for job in jobs]` in processes, with a progress bar in a terminal."""
    results = Parallel(n_jobs=n_workers, return_as="generator")(
        delayed(function)(*job) for job in jobs
    )
    return list(tqdm(results, desc=description, total=len(jobs), unit="shape", disable=None))
