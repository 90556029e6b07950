"""The smoothest surface through the contours of a stack.

`reconstruct_mesh` joins neighbouring planes by straight lines and ends in flat caps. Here that
surface is refined, and every vertex that lies on no contour moves so that the surface bends least
[1]: it passes each plane without a crease, and beyond the last plane it rounds off. Where the last
contours do not taper, the cap stays flat.

[1] Botsch and Kobbelt: An Intuitive Framework for Real-Time Freeform Modeling. SIGGRAPH 2004
"""

import numpy as np
import shapely
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from loopdraw.loops import geometry
from loopdraw.loops.nesting import collect_loops
from loopdraw.surface.correspondence import group_loops
from loopdraw.surface.polish import volumes
from loopdraw.surface.reconstruction import (
    DEFAULT_RESOLUTION,
    LEAST_AREA,
    connected_parts,
    reconstruct_mesh,
)

ROUNDS = 2  # of bending: the second knows the shape better
# A part tapers if its last loops let it end within this many plane distances. Much farther, and
# another plane would have cut it.
TAPERS_WITHIN = 1.25
REACH = 1.0  # plane distances: no vertex moves farther
MOST_VERTICES = 60_000  # about; a larger surface is refined less
ON_LOOP = 1e-6  # of the longest side
BESIDE_PLANE = 1e-3  # of the smallest plane distance: what lies between planes stays off them


def smooth_mesh(planes, loops_by_plane, resolution=None):
    """Build a closed, outward oriented, smooth triangle mesh from planar loops.

    Parameters
    ----------
    planes : (P, 4, 3) float, parallel, in order, with the same in-plane axes
    loops_by_plane : list of P lists of (k, 2) float loops in the planes' coordinates
    resolution : int, edges along the longest side; by default `DEFAULT_RESOLUTION`

    Returns
    -------
    vertices : (n, 3) float64
    faces : (m, 3) int64

    Raises
    ------
    ValueError
        As `reconstruct_mesh` does.
    """
    heights = geometry.plane_heights(planes)
    if len(heights) > 1 and heights[0] > heights[1]:
        planes, loops_by_plane = planes[::-1], loops_by_plane[::-1]
        heights = heights[::-1]
    vertices, faces = reconstruct_mesh(planes, loops_by_plane, resolution)
    if len(heights) < 3:
        return vertices, faces  # nothing tells how the surface bends
    size = np.ptp(vertices, axis=0).max()
    vertices, faces = _refined(vertices, faces, size / (resolution or DEFAULT_RESOLUTION))
    vertices, faces = _with_middles(vertices, faces, planes[0, 0], heights[[0, -1]], ON_LOOP * size)

    height = vertices @ planes[0, 0]
    on_loop = _on_loops(vertices, height, planes, heights, loops_by_plane, ON_LOOP * size)
    at_end, flat = _end_caps(vertices, height, on_loop, planes, heights, loops_by_plane)
    held = on_loop | flat
    # Slab k lies between planes k - 1 and k. Beyond the ends nothing was cut any more, so the
    # surface ends before the next plane would have been there.
    slab = np.searchsorted(heights, height)
    slab[at_end == -1], slab[at_end == 1] = 0, len(heights)
    steps = np.diff(heights)
    bounds = np.concatenate([[heights[0] - steps[0]], heights, [heights[-1] + steps[-1]]])
    margin = BESIDE_PLANE * steps.min()
    low, high = bounds[slab] + margin, bounds[slab + 1] - margin

    # At the rim of a flat cap the surface has an edge.
    rim = np.zeros(len(vertices), dtype=bool)
    rim[faces[flat[faces].any(axis=1)]] = True
    part, _ = connected_parts(vertices, faces)
    held |= ~np.isin(part, part[on_loop])  # nothing tells where those parts should be
    smooth, reach = vertices, REACH * np.diff(bounds)[slab]
    for _ in range(ROUNDS):
        try:
            smooth = _bent_least(smooth, faces, held, rim)
        except RuntimeError:  # faces without area where loops cross
            return vertices, faces
        if not np.isfinite(smooth).all():
            return vertices, faces
        move = smooth - vertices
        distance = np.linalg.norm(move, axis=1)
        smooth = vertices + move * np.minimum(1, reach / np.maximum(distance, reach))[:, None]
        height = smooth @ planes[0, 0]
        smooth += np.where(held, 0, height.clip(low, high) - height)[:, None] * planes[0, 0]
    return (smooth, faces) if volumes(smooth, faces).sum() > 0 else (vertices, faces)


def _refined(vertices, faces, length):
    """A closed mesh whose edges are shorter; what lay on an edge still does."""
    import manifold3d  # slow to import

    mesh = manifold3d.Manifold(
        manifold3d.Mesh64(vert_properties=vertices, tri_verts=faces.astype(np.uint64))
    )
    if mesh.status() != manifold3d.Error.NoError:
        return vertices, faces
    # A surface of area A takes about A / length^2 vertices.
    length = max(length, np.sqrt(mesh.surface_area() / MOST_VERTICES))
    fine = mesh.refine_to_length(length).to_mesh64()
    vertices = np.asarray(fine.vert_properties, dtype=np.float64)[:, :3]
    faces = np.asarray(fine.tri_verts, dtype=np.int64)
    number = np.arange(len(vertices))
    number[np.asarray(fine.merge_from_vert, dtype=int)] = fine.merge_to_vert
    used, faces = np.unique(number[faces], return_inverse=True)
    return vertices[used], faces.reshape(-1, 3)


def _with_middles(vertices, faces, normal, ends, tolerance):
    """A mesh whose small end caps have a vertex in their middle, which may become a tip.

    A cap without one, around which its whole rim can be seen, becomes a fan of triangles.
    """
    on_end = (np.abs((vertices @ normal)[:, None] - ends) < tolerance).any(axis=1)
    in_cap = np.flatnonzero(on_end[faces].all(axis=1))
    start, end = faces[in_cap].ravel(), faces[in_cap][:, [1, 2, 0]].ravel()
    graph = sparse.coo_array((np.ones(len(start)), (start, end)), shape=(len(vertices),) * 2)
    _, cap_of_vertex = connected_components(graph, directed=False)
    cap_of_face = cap_of_vertex[faces[in_cap, 0]]
    n = len(vertices)
    rim = ~np.isin(start * n + end, end * n + start)
    start, end = start[rim], end[rim]
    middles, fans, gone = [], [], []
    for cap in np.unique(cap_of_face):
        own = in_cap[cap_of_face == cap]
        edges = np.flatnonzero(cap_of_vertex[start] == cap)
        # A disc of k vertices, all of them on its rim, has k - 2 faces.
        if len(own) != len(edges) - 2 or len(np.unique(faces[own])) != len(edges):
            continue
        a, b = start[edges], end[edges]
        middle = vertices[a].mean(axis=0)
        areas = np.cross(vertices[a] - middle, vertices[b] - middle) @ normal
        if (areas > 0).all() or (areas < 0).all():
            fans.append(np.column_stack([a, b, np.full(len(a), n + len(middles))]))
            middles.append(middle)
            gone.append(own)
    if not middles:
        return vertices, faces
    faces = np.concatenate([np.delete(faces, np.concatenate(gone), axis=0), *fans])
    return np.concatenate([vertices, middles]), faces


def _on_loops(vertices, height, planes, heights, loops_by_plane, tolerance):
    """Which vertices (n,) bool lie on a loop."""
    found = np.zeros(len(vertices), dtype=bool)
    for plane, at, loops in zip(planes, heights, loops_by_plane, strict=True):
        rings = [shapely.linearrings(loop) for loop in loops if len(loop) > 2]
        here = np.flatnonzero(np.abs(height - at) < tolerance)
        if len(here) and rings:
            points = shapely.points(geometry.project(vertices[here], plane))
            tree = shapely.STRtree(rings)
            near, _ = tree.query(points, predicate="dwithin", distance=10 * tolerance)
            found[here[near]] = True
    return found


def _end_caps(vertices, height, on_loop, planes, heights, loops_by_plane):
    """The vertices inside the caps that close the surface at the first and last plane.

    Returns
    -------
    at_end : (n,) int, -1 in a cap at the first plane, 1 in one at the last, 0 elsewhere
    flat : (n,) bool, which of them are to stay there
    """
    cell = max(np.ptp(vertices, axis=0).max() / DEFAULT_RESOLUTION, np.finfo(float).tiny)
    points = [np.asarray(loop, float) / cell for loops in loops_by_plane for loop in loops]
    plane_of_loop = [k for k, loops in enumerate(loops_by_plane) for _ in loops]
    loops = collect_loops(points, plane_of_loop, LEAST_AREA)
    slabs = group_loops(loops, heights / cell)
    at_end, flat = np.zeros(len(vertices), dtype=int), np.zeros(len(vertices), dtype=bool)
    for end, k in ((-1, 0), (1, len(heights) - 1)):
        here = np.flatnonzero((np.abs(height - heights[k]) < 1e-6 * cell) & ~on_loop)
        at_end[here] = end
        places = shapely.points(geometry.project(vertices[here], planes[k]) / cell)
        for group in slabs[min(k, len(slabs) - 1)]:
            last, before = (group.upper, group.lower) if end > 0 else (group.lower, group.upper)
            if group.solid and len(last) and not _tapers(loops, slabs, heights, end, last, before):
                inside = shapely.intersects(shapely.union_all(loops.regions[last]), places)
                flat[here[inside]] = True
    return at_end, flat


def _tapers(loops, slabs, heights, end, last, before):
    """Whether loops on an end plane shrink so fast that they end soon after it.

    The area of what they bound, and the square of its radius, are taken as parabolas in height. The
    first is exact for balls and cones, the second for rings that lie flat.

    Parameters
    ----------
    end : 1 at the last plane, -1 at the first
    last, before : (k,) int, loops on the end plane, and those they continue on the plane before
    """
    chain = [last, before] if len(before) else [last]
    if len(before) == 1 and len(slabs) > 1:
        for group in slabs[-2 if end > 0 else 1]:
            near, far = (group.upper, group.lower) if end > 0 else (group.lower, group.upper)
            if group.continues and near[0] == before[0]:
                chain.append(far)
    planes = [loops.plane[members[0]] for members in chain]
    depths = np.abs(heights[planes] - heights[planes[0]])
    for measure in (shapely.area(loops.regions), loops.radius**2):
        values = np.array([measure[members].sum() for members in chain])
        for n in range(2, len(chain) + 1):
            roots = np.roots(np.polyfit(-depths[:n], values[:n], n - 1))
            ends = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 0)]
            if len(ends) and ends.min() <= TAPERS_WITHIN * depths[1]:
                return True
    return False


def _bent_least(vertices, faces, held, edge):
    """Move the vertices that are not held so that the surface bends least.

    Parameters
    ----------
    vertices : (n, 3) float
    faces : (m, 3) int
    held : (n,) bool
    edge : (n,) bool, where the surface may bend freely

    Returns
    -------
    (n, 3) float
    """
    import robust_laplacian

    # It treats the slivers between close loops as better triangles would be.
    laplacian, mass = robust_laplacian.mesh_laplacian(vertices, faces)
    weights = np.where(edge, 0, 1 / mass.diagonal())
    energy = (laplacian.T @ sparse.diags_array(weights) @ laplacian).tocsc()
    free = np.flatnonzero(~held)
    rows = energy[free]
    system, given = rows[:, free], rows[:, np.flatnonzero(held)] @ vertices[held]
    solve = splu(
        system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    ).solve
    moved = vertices.copy()
    moved[free] = solve(-given)
    return moved
