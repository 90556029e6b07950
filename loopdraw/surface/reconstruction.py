"""Loops to a closed surface mesh.

The loops of each plane bound a solid: nested loops alternate between solid and hole.
`correspondence` finds which loops of neighbouring planes belong together. Where one loop follows
one, `loft` puts a band of triangles between them. Where loops end, split or merge, `fields` blends
signed distances to them from plane to plane, on a grid with a layer exactly at each plane. Marching
cubes [1] turns this into a mesh, and `polish` moves its vertices onto the loops.

At the first and last plane the mesh ends in a flat cap. If a part of the shape ends between two
planes, the loops before it show where; if they do not, it ends half-way.

[1] Lorensen and Cline: Marching Cubes. SIGGRAPH 1987
"""

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from loopdraw import files
from loopdraw.loops import geometry
from loopdraw.loops.nesting import collect_loops, nesting_depths
from loopdraw.surface.correspondence import group_loops, solid_parts
from loopdraw.surface.fields import MARGIN, THINNEST, LoopFields, empty_field
from loopdraw.surface.loft import find_bands, join, open_rings
from loopdraw.surface.polish import IN_CAP, IN_OPEN_CAP, meeting, polish, volumes

DEFAULT_RESOLUTION = 48
FINE_RESOLUTION = 80  # if thin parts end, split or merge, or the mesh falls apart otherwise
PREVIEW_RESOLUTION = 28
THIN = 1.5  # cells, half the width of a loop

LEAST_AREA = 1e-4  # of a loop, in grid cells: smaller ones are invisible
N_LAYERS = 2  # grid layers per slab
MOST_LAYERS_AT_ENDS = 4  # where a part ends
MOST_LAYERS_WHERE_STEEP = 12  # where thin parts move sideways and must not fall apart
SPLINTER = 0.5  # cubic cells: every part with its own loops is larger
NEAREST_TO_NODE = 0.02  # cells: vertices stay this far from grid nodes, so that none coincide
POISSON_DEPTH = 8  # of the octree, as published
POISSON_POINTS_PER_LOOP = 256


def reconstruct_mesh(planes, loops_by_plane, resolution=None):
    """Build a closed, outward oriented triangle mesh from planar loops.

    Parameters
    ----------
    planes : (P, 4, 3) float, parallel, in order
    loops_by_plane : list of P lists of (k, 2) float loops in the planes' coordinates
    resolution : int, grid cells along the longest side of the loops in their planes, where loops
        end, split or merge; by default `DEFAULT_RESOLUTION`, or `FINE_RESOLUTION` if it takes that

    Returns
    -------
    vertices : (n, 3) float64
    faces : (m, 3) int64

    Raises
    ------
    ValueError
        When no loop encloses an area, a loop has points that are not finite, there are fewer than
        two planes, or they are not in order along their normal.
    """
    heights = geometry.plane_heights(planes)
    steps = np.diff(heights)
    if not len(steps) or not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError("a surface needs two or more planes in order along their normal")
    points = [np.asarray(loop, dtype=np.float64) for loops in loops_by_plane for loop in loops]
    plane_of_loop = [k for k, loops in enumerate(loops_by_plane) for _ in loops]
    if not points or not sum(map(len, points)):
        raise ValueError("there are no loops to build a surface from")
    everything = np.concatenate(points)
    if not np.isfinite(everything).all():
        raise ValueError("a loop has points that are not finite")
    low, high = everything.min(axis=0), everything.max(axis=0)
    if not (high > low).any():
        raise ValueError("the loops enclose no area")
    for cells in (resolution,) if resolution else (DEFAULT_RESOLUTION, FINE_RESOLUTION):
        # From here on lengths are in cells; node (row, column) of a layer lies at (u, v) = (column,
        # row). The extra half keeps loops that follow the sides of the box off the nodes.
        cell = float((high - low).max()) / cells
        origin = low - (MARGIN + 0.5) * cell
        shape = tuple(np.ceil((high - low) / cell).astype(int)[::-1] + 2 * MARGIN + 2)
        levels = np.abs(heights - heights[0]) / cell
        scaled = [(loop - origin) / cell for loop in points]
        loops = collect_loops(scaled, plane_of_loop, LEAST_AREA)
        if not len(loops):
            raise ValueError("the loops enclose no area")
        slabs = group_loops(loops, levels)
        last = cells in (resolution, FINE_RESOLUTION)
        if last or not _thin_parts_change(loops, slabs):
            vertices, faces = _surface(loops, slabs, levels, shape)
            if last or not _falls_apart(vertices, faces, loops, slabs):
                break

    upwards = planes[0, 0] if heights[-1] > heights[0] else -planes[0, 0]
    in_plane = planes[0, 1] + (origin + cell * vertices[:, :2]) @ planes[0, 2:4]
    vertices = in_plane + cell * vertices[:, 2:] * upwards
    # The in-plane frames of some scan axes are left-handed.
    if np.linalg.det([planes[0, 2], planes[0, 3], upwards]) < 0:
        faces = faces[:, ::-1]
    return vertices, np.ascontiguousarray(faces, dtype=np.int64)


def _thin_parts_change(loops, slabs):
    """Whether thin loops end, split or merge."""
    members = [group.members for groups in slabs for group in groups if not group.continues]
    return bool(members) and loops.thickness[np.concatenate(members)].min() < THIN


def _falls_apart(vertices, faces, loops, slabs):
    """Whether a mesh has more parts than its loops."""
    parts = np.unique(solid_parts(loops, sum(slabs, []))[loops.solid])
    return (connected_parts(vertices, faces)[1] > 0).sum() > len(parts)


def _surface(loops, slabs, heights, shape):
    """A closed mesh: bands where one loop follows one, marching cubes in all other slabs.

    Returns
    -------
    vertices : (n, 3) float, u, v and height
    faces : (m, 3) int
    """
    fields = LoopFields(loops, slabs, heights, shape)
    occupied = np.array([bool(groups) for groups in slabs])
    rings, bands = find_bands(loops, slabs, heights)
    if bands is not None:
        rough = occupied.copy()
        rough[bands.slab] = False
        block = _blocks(rough, fields)
        smooth = occupied & ~rough
        if not smooth.any():
            return block[:2]
        mesh = join(*block, rings, bands.where(smooth[bands.slab]), loops, heights, smooth)
        if not len(meeting(mesh[0])) and volumes(*mesh).sum() > 0:
            return mesh
    first, last = np.flatnonzero(occupied)[[0, -1]]
    return _marched([(first, last + 1)], fields)[:2]


def _runs(where):
    """Starts and ends of the runs of True in (n,) bool, as a list of pairs."""
    ends = np.flatnonzero(np.diff(where, prepend=False, append=False))
    return list(zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True))


def _blocks(rough, fields):
    """A mesh of the `rough` slabs by marching cubes, open towards the other slabs with loops.

    Marching cubes widens what is thin, so it may join loops or lose one. Where its mesh does not
    meet the loops of an open plane one by one, `rough` is extended beyond that plane, in place.

    Returns
    -------
    vertices : (n, 3) float
    faces : (m, 3) int
    around : dict from loops on open planes to their vertices (k,), oriented like the loops
    """
    loops, slabs, heights = fields.loops, fields.slabs, fields.heights
    while True:
        runs = _runs(rough)
        beyond = {}  # the slab on the other side of each open plane
        for first, last in runs:
            for k, slab in ((first, first - 1), (last, last)):
                if 0 <= slab < len(slabs) and slabs[slab]:
                    beyond[k] = slab
        # Most of those planes can be told from their fields alone.
        for k, slab in beyond.items():
            rough[slab] |= fields.n_outlines(k) != len(loops.on_plane(k))
        if runs != _runs(rough):
            continue
        vertices, faces, loop = _marched(runs, fields, heights[list(beyond)])
        level = np.full(len(vertices), -1)
        for k in beyond:
            level[vertices[:, 2] == heights[k]] = k
        # Without the caps.
        faces = faces[(level[faces] < 0).any(axis=1)]
        around, complete = {}, dict.fromkeys(beyond, True)
        for ring in open_rings(faces, level, [k for k, slab in beyond.items() if slab == k]):
            i, k = loop[ring[0]], level[ring[0]]
            rightly = geometry.signed_area(vertices[ring, :2]) > 0
            complete[k] &= (loop[ring] == i).all() and i not in around and rightly == loops.solid[i]
            around[i] = ring
        for k, slab in beyond.items():
            rough[slab] |= not complete[k] or not all(i in around for i in loops.on_plane(k))
        if runs == _runs(rough):
            return vertices, faces, around


def _marched(runs, fields, open_at=()):
    """Meshes of some runs of slabs by marching cubes, together as one.

    They are closed, but of the caps at the heights `open_at` only the rim is right.

    Returns
    -------
    vertices : (n, 3) float, u, v and height
    faces : (m, 3) int
    loop : (n,) int, the loop that each vertex lies on, or -1
    """
    if not runs:
        return np.zeros((0, 3)), np.zeros((0, 3), dtype=int), np.zeros(0, dtype=int)
    vertices, faces, plane, excess, run = _without_splinters(*_march(*_layers(runs, fields)))
    # Most of a cap that will be thrown away need not be polished.
    open_cap = (plane == IN_CAP) & np.isin(vertices[:, 2], open_at)
    plane[open_cap] = IN_OPEN_CAP
    faces = faces[open_cap[faces].sum(axis=1) < 2]
    ends = np.repeat([[np.inf, -np.inf]], len(runs), axis=0)
    np.minimum.at(ends[:, 0], run, vertices[:, 2])
    np.maximum.at(ends[:, 1], run, vertices[:, 2])
    return polish(vertices, faces, plane, excess, ends[run], fields.loops)


def _layers(runs, fields):
    """The field of the solid in some runs of slabs, layer by layer, and an empty layer around each.

    Returns
    -------
    field : (2, layers, rows, columns) float32
    heights : (layers,) float; of no meaning where a layer is empty
    plane : (layers,) int, the plane of each layer, or -1
    run : (layers,) int, the run that each layer belongs to, or -1 if it is empty
    """
    empty = empty_field((1, *fields.shape))
    stack, heights, planes, of_run = [empty], [[0.0]], [[-1]], [[-1]]
    for run, (first, last) in enumerate(runs):
        for k in range(first, last + 1):
            plane = fields.plane(k)
            stack.append(empty if plane is None else plane[:, None])
            heights.append([fields.heights[k]])
            planes.append([-1 if plane is None else k])
            of_run.append([run])
            if k < last:
                fractions = _fractions(fields, k)
                thickness = fields.heights[k + 1] - fields.heights[k]
                stack.append(fields.slab(k, fractions))
                heights.append(fields.heights[k] + fractions * thickness)
                planes.append(np.full(len(fractions), -1))
                of_run.append(np.full(len(fractions), run))
        stack.append(empty)
        heights.append([0.0])
        planes.append([-1])
        of_run.append([-1])
    return np.concatenate(stack, axis=1), *map(np.concatenate, (heights, planes, of_run))


def _fractions(fields, k):
    """Heights of the layers between planes k and k + 1, as fractions of the slab."""
    loops, thickness = fields.loops, fields.heights[k + 1] - fields.heights[k]
    n_layers = N_LAYERS
    if any(group.solid and group.taper for group in fields.slabs[k]):
        n_layers = np.clip(round(thickness), N_LAYERS, MOST_LAYERS_AT_ENDS)
    steep = n_layers
    for group in fields.slabs[k]:
        if group.shift is not None:
            # A slanting tube: per layer, its section moves by a quarter of its length at most.
            distance = max(np.hypot(*group.shift), 1e-9)
            sections = [loops.points[i] @ group.shift / distance for i in group.members]
            length = max(min(np.ptp(section) for section in sections), THINNEST)
            steep = max(steep, 4 * distance / length)
        elif not group.solid and len(group.lower) == len(group.upper) == 1:
            # A slanting thin wall: per layer, it moves by half a cell at most.
            walls = loops.radius[loops.parent[group.members]]
            if walls.min() < THINNEST:
                radii = np.sqrt(loops.area[group.members] / np.pi)
                steep = max(steep, 2 * abs(radii[1] - radii[0]))
    n_layers = max(n_layers, min(int(np.ceil(steep)), MOST_LAYERS_WHERE_STEEP))
    return np.arange(1, n_layers) / n_layers


def connected_parts(vertices, faces):
    """The connected surfaces of a closed mesh.

    Parameters
    ----------
    vertices : (n, 3) float, each used by a face
    faces : (m, 3) int

    Returns
    -------
    part : (n,) int, the surface that each vertex belongs to
    volume : (parts,) float, enclosed; negative if the faces are oriented inwards
    """
    part = _part_of_vertices(len(vertices), faces)
    return part, np.bincount(part[faces[:, 0]], weights=volumes(vertices, faces))


def _part_of_vertices(n_vertices, faces):
    # Each face is a node, too, linked to its corners, which needs no sorting of edges.
    rows = np.concatenate([np.zeros(n_vertices, dtype=int), np.arange(0, faces.size + 1, 3)])
    links = np.ones(faces.size), faces.ravel(), rows
    graph = csr_array(links, shape=(n_vertices + len(faces),) * 2)
    return connected_components(graph, directed=False)[1][:n_vertices]


def _without_splinters(vertices, faces, plane, excess, run):
    """Remove parts and hollows that come from no loop, for example where loops cross.

    They lie between two planes, or have almost no volume. Takes and returns what `_march` returns.
    """
    part = _part_of_vertices(len(vertices), faces)
    of_vertices = vertices, plane, excess, run
    volume = np.abs(np.bincount(part[faces[:, 0]], weights=volumes(vertices, faces)))
    run_of_part = np.zeros(len(volume), dtype=int)
    run_of_part[part] = run
    largest = np.zeros(run.max() + 1)
    np.maximum.at(largest, run_of_part, volume)
    on_loops = np.bincount(part, weights=plane >= 0) > 0
    kept = (on_loops & (volume > SPLINTER)) | (volume == largest[run_of_part])
    if kept.all():
        return vertices, faces, plane, excess, run
    vertex_kept = kept[part]
    number = np.cumsum(vertex_kept) - 1
    vertices, plane, excess, run = (values[vertex_kept] for values in of_vertices)
    return vertices, number[faces[kept[part[faces[:, 0]]]]], plane, excess, run


def _march(field, heights, plane, run):
    """Marching cubes over layers as `_layers` returns them, closed by flat caps at empty layers.

    Returns
    -------
    vertices : (n, 3) float, u, v and height
    faces : (m, 3) int
    plane : (n,) int: plane of a vertex on a loop, IN_CAP inside an end cap, -1 for all others
    excess : (n,) float, how far the surface was moved outwards in the plane to keep walls apart
    run : (n,) int, the run of slabs that a vertex belongs to
    """
    # Imported here because it is slow to import.
    from skimage.measure import marching_cubes

    field, thickening = field
    small = np.abs(field) < NEAREST_TO_NODE
    field[small] = np.where(field[small] < 0, -NEAREST_TO_NODE, NEAREST_TO_NODE)
    np.minimum(field, 4 * MARGIN, out=field)
    # What reaches the border of the grid is cut off and closed there.
    for border in (field[:, 0], field[:, -1], field[:, :, 0], field[:, :, -1]):
        np.maximum(border, 1, out=border)
    field[run < 0] = 1
    # "lorensen" decides each face of a cell from its corners alone, so that cells always fit
    # together. The library's default method leaves holes in rare cases. Of two ways to join corners
    # across a face, "lorensen" joins the lower values. With the sign changed it joins the outside,
    # so that a narrow slanting gap stays open. "descent" makes faces look outwards in
    # (u, v, height), the reverse of the array's order.
    vertices, faces, _, _ = marching_cubes(
        np.negative(field, out=field), 0.0, method="lorensen", gradient_direction="descent"
    )
    layer = vertices[:, 0].astype(np.float64)
    below, above = np.floor(layer).astype(int), np.ceil(layer).astype(int)
    # The caps lie on the layer next to an empty one.
    from_below, to_above = run[above] < 0, run[below] < 0
    capped = from_below | to_above
    below, above = np.where(to_above, above, below), np.where(from_below, below, above)
    layer = np.clip(layer, below, above)
    plane_of_vertex = np.where(below == above, plane[below], -1)
    plane_of_vertex[capped] = IN_CAP
    height = heights[below] + (layer - below) * (heights[above] - heights[below])
    vertices = np.stack([vertices[:, 2], vertices[:, 1], height], axis=1).astype(np.float64)
    at = np.stack([layer, vertices[:, 1], vertices[:, 0]])
    excess = map_coordinates(thickening, at, order=1) if thickening.any() else np.zeros(len(layer))
    return vertices, faces.astype(np.intp), plane_of_vertex, excess, run[below]


# ------------------------------------------------------------------------------- the paper's way


def poisson_mesh(planes, loops_by_plane, depth=POISSON_DEPTH):
    """Build a surface from loops by screened Poisson reconstruction [1], for comparison.

    `reconstruct_mesh` is faster, closer to the loops and always closed. This needs pymeshlab, which
    is not in the requirements.

    Parameters
    ----------
    planes : (P, 4, 3) float
    loops_by_plane : list of P lists of (k, 2) float loops
    depth : int, of the octree

    Returns
    -------
    vertices : (n, 3) float64
    faces : (m, 3) int64; in general neither closed nor complete

    Raises
    ------
    ValueError
        When there are no loops, or one has points that are not finite.
    UserError
        When pymeshlab is not installed.

    [1] Kazhdan and Hoppe: Screened Poisson Surface Reconstruction. TOG 32(3), 2013
    """
    try:
        import pymeshlab
    except ImportError:
        raise files.UserError(
            "--reco poisson needs pymeshlab, which is not installed; run: pip install pymeshlab"
        ) from None
    points, normals = [], []
    for plane, loops in zip(planes, loops_by_plane, strict=True):
        loops = [
            geometry.resample_loop(np.asarray(loop, float), POISSON_POINTS_PER_LOOP)
            for loop in loops
        ]
        for loop, loop_depth in zip(loops, nesting_depths(loops), strict=True):
            points.append(geometry.lift(loop, plane))
            normals.append(geometry.outward_normals(loop, loop_depth) @ plane[2:4])
    if not points:
        raise ValueError("there are no loops to build a surface from")
    points, normals = np.concatenate(points), np.concatenate(normals)
    if not np.isfinite(points).all():
        raise ValueError("a loop has points that are not finite")
    meshes = pymeshlab.MeshSet(verbose=False)
    meshes.add_mesh(pymeshlab.Mesh(vertex_matrix=points, v_normals_matrix=normals))
    meshes.generate_surface_reconstruction_screened_poisson(depth=depth)
    mesh = meshes.current_mesh()
    return mesh.vertex_matrix(), mesh.face_matrix().astype(np.int64)
