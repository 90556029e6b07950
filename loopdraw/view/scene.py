"""What a picture shows and from where: the shape, its loops by colour, the look, the camera.

Nothing here draws; `viewer` does. Colours follow the figures of the LoopDraw paper: loops are
golden, edited loops red, regenerated loops pink, loops of the untouched shape faint grey, the mesh
blue. Loops are numbered from 0 in the order of the sequence: plane after plane, and within a plane
as listed.

Colours are RGB in [0, 1]. Lengths are shares of the diagonal of the shape's bounding box.
"""

import functools
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from loopdraw.loops.geometry import lift, plane_heights, project


@dataclass(frozen=True)
class Look:
    """How a scene is drawn: colours, opacity, thickness."""

    mesh_color: tuple = (0.36, 0.64, 0.98)
    mesh_opacity: float = 0.62  # 0 hides the mesh, 1 hides the loops behind it
    loop_radius: float = 0.003
    loop_nodes: bool = False  # a ball at every point of a loop
    loop_color: tuple = (0.95, 0.68, 0.10)
    edited_color: tuple = (0.86, 0.09, 0.11)
    regenerated_color: tuple = (0.97, 0.42, 0.68)
    special_color: tuple = (0.10, 0.62, 0.42)
    untouched_color: tuple = (0.80, 0.80, 0.82)
    plane_color: tuple = (0.62, 0.66, 0.74)
    plane_opacity: float = 0.3
    background_color: tuple = (1.0, 1.0, 1.0)
    ground_shadow: bool = False


@dataclass(frozen=True, eq=False)
class Scene:
    """One shape: its mesh, its loops, and which loops stand out.

    Parameters
    ----------
    mesh : (vertices (n, 3) float, faces (m, 3) int) or None
    planes : (P, 4, 3) float or None
    loops_by_plane : list of P lists of (k, 2) float loops
    edited, regenerated, special : loop numbers
        A loop named in several is drawn as the first of special, edited, regenerated.
    hidden : numbers of loops that are not drawn
    planes_at : numbers of loops whose slice plane is drawn
    untouched : (planes, loops_by_plane) of the shape before the edit, drawn faintly, or None
    """

    mesh: tuple | None = None
    planes: np.ndarray | None = None
    loops_by_plane: list | tuple = ()
    edited: Collection = ()
    regenerated: Collection = ()
    special: Collection = ()
    hidden: Collection = ()
    planes_at: Collection = ()
    untouched: tuple | None = None

    def loop_count(self):
        """Number of loops, including hidden ones."""
        return sum(len(loops) for loops in self.loops_by_plane)

    def loops_by_role(self):
        """The loops in space, grouped by role. The role decides the colour.

        Returns
        -------
        dict of str to list of (points (k, 3) float, plane normal (3,) float)
            keys "untouched", "loop", "regenerated", "edited", "special"
        """
        roles = {"untouched": [], "loop": [], "regenerated": [], "edited": [], "special": []}
        for _, role, loop in self.numbered_loops():
            roles[role].append(loop)
        if self.untouched is not None:
            roles["untouched"] = [loop for loop in _lifted(*self.untouched) if loop is not None]
        return roles

    def numbered_loops(self):
        """The loops that are drawn, those of the untouched shape apart, in their order.

        Yields
        ------
        number : int
        role : str, as in `loops_by_role`
        (points (k, 3) float, plane normal (3,) float)
        """
        edited, regenerated, special, hidden = (
            {int(number) for number in numbers}
            for numbers in (self.edited, self.regenerated, self.special, self.hidden)
        )
        for number, loop in enumerate(_lifted(self.planes, self.loops_by_plane)):
            if number in hidden or loop is None:
                continue
            if number in special:
                role = "special"
            elif number in edited:
                role = "edited"
            elif number in regenerated:
                role = "regenerated"
            else:
                role = "loop"
            yield number, role, loop

    def plane_spacing(self):
        """Smallest distance between neighbouring planes; infinite with fewer than two planes."""
        if self.planes is None or len(self.planes) < 2:
            return np.inf
        gaps = np.diff(np.sort(plane_heights(self.planes)))
        return float(gaps[gaps > 0].min(initial=np.inf))

    def plane_corners(self):
        """Corners of the slice planes of the loops in `planes_at`, (n, 4, 3) float."""
        plane_of_loop = np.repeat(
            np.arange(len(self.loops_by_plane)), [len(loops) for loops in self.loops_by_plane]
        )
        numbers = [int(number) for number in self.planes_at if int(number) < len(plane_of_loop)]
        corners = []
        for index in np.unique(plane_of_loop[numbers]) if numbers else ():
            plane = self.planes[index]
            flat = project(self._shape_points, plane)
            low, high = flat.min(axis=0), flat.max(axis=0)
            margin = 0.08 * (high - low).max()
            (u0, v0), (u1, v1) = low - margin, high + margin
            corners.append(lift(np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]]), plane))
        return np.array(corners).reshape(-1, 4, 3)

    def points(self):
        """Every point that must be in the picture, (n, 3) float.

        That includes hidden loops, so that the frames of an animation line up.
        """
        return np.concatenate([self._shape_points, self.plane_corners().reshape(-1, 3)])

    def mirrored_x(self):
        """The same scene with x negated, faces still oriented outwards."""
        flip = np.array([-1.0, 1.0, 1.0])
        mesh, planes, untouched = self.mesh, self.planes, self.untouched
        if mesh is not None:
            mesh = (np.asarray(mesh[0]) * flip, np.asarray(mesh[1])[:, ::-1])
        if planes is not None:
            planes = planes * flip
        if untouched is not None:
            untouched = (untouched[0] * flip, untouched[1])
        return replace(self, mesh=mesh, planes=planes, untouched=untouched)

    def center(self):
        """The middle of the bounding box, (3,) float."""
        points = self.points()
        return (points.min(axis=0) + points.max(axis=0)) / 2

    @functools.cached_property
    def _shape_points(self):
        lifted = _lifted(self.planes, self.loops_by_plane)
        if self.untouched is not None:
            lifted += _lifted(*self.untouched)
        sources = [loop[0] for loop in lifted if loop is not None]
        if self.mesh is not None:
            # Only vertices that a face uses. Stray ones would make the shape small in the picture.
            sources.append(np.asarray(self.mesh[0])[np.unique(self.mesh[1])])
        return np.concatenate(sources) if sources else np.zeros((0, 3))


def _lifted(planes, loops_by_plane):
    """Every loop as (points, plane normal), or None for a loop that cannot be drawn."""
    lifted = []
    for index, loops in enumerate(loops_by_plane):
        for loop in loops:
            loop = np.asarray(loop, dtype=float)
            distinct = loop[(loop != np.roll(loop, 1, axis=0)).any(axis=1)]
            drawable = len(distinct) > 1 and np.isfinite(distinct).all()
            lifted.append((lift(distinct, planes[index]), planes[index, 0]) if drawable else None)
    return lifted


@dataclass(frozen=True)
class Camera:
    """A perspective camera."""

    position: np.ndarray  # (3,)
    target: np.ndarray  # (3,) the point it looks at
    up: np.ndarray  # (3,)
    fov: float  # vertical field of view, degrees

    def orbited(self, pivot, degrees):
        """This camera turned around the vertical (y) axis through `pivot` (3,)."""
        angle = np.radians(degrees)
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
        return replace(
            self,
            position=pivot + turn @ (self.position - pivot),
            target=pivot + turn @ (self.target - pivot),
            up=turn @ self.up,
        )


def fit_camera(points, size, azimuth=32.0, elevation=20.0, fov=24.0, margin=0.05):
    """The nearest camera that sees every point from a given direction.

    In camera axes (right, up, towards the viewer) a point p is inside the picture when
    |p_x - c_x| <= t_x (c_z - p_z), where t_x is the tangent of half the field of view. The same
    holds for y. Each bound is linear in the camera position c, so its extreme over all points
    gives c directly.

    Parameters
    ----------
    points : (n, 3) float
    size : (width, height) of the picture in pixels
    azimuth : degrees around the y axis, from +z towards +x
    elevation : degrees above the horizon
    fov : vertical field of view in degrees; a small one distorts less
    margin : share of the picture left free on every side

    Returns
    -------
    Camera

    Raises
    ------
    ValueError
        When there are no points.
    """
    points = np.asarray(points, dtype=float)
    if len(points) == 0:
        raise ValueError("nothing to look at: the scene has neither a mesh nor loops")
    around, above = np.radians([azimuth, elevation])
    back = np.array([np.sin(around) * np.cos(above), np.sin(above), np.cos(around) * np.cos(above)])
    right = np.array([np.cos(around), 0.0, -np.sin(around)])
    up = np.cross(back, right)
    axes = np.stack([right, up, back])
    x, y, z = axes @ points.T

    tangent_y = np.tan(np.radians(fov) / 2) * (1 - 2 * margin)
    tangent_x = tangent_y * size[0] / size[1]
    reach_x = (x + tangent_x * z).max(), (-x + tangent_x * z).max()
    reach_y = (y + tangent_y * z).max(), (-y + tangent_y * z).max()
    extent = np.ptp(points, axis=0).max() or 1.0
    distance = max(sum(reach_x) / (2 * tangent_x), sum(reach_y) / (2 * tangent_y))
    # A flat scene seen edge-on, or a single point, would put the camera on the shape.
    distance = max(distance, z.max() + 0.05 * extent)
    center = np.array([reach_x[0] - reach_x[1], reach_y[0] - reach_y[1]]) / 2
    position = np.array([*center, distance]) @ axes
    target = np.array([*center, (z.min() + z.max()) / 2]) @ axes
    return Camera(position, target, up, fov)


def tube_mesh(loops, radius, sides=8):
    """Closed loops as one mesh of tubes.

    Each corner gets a ring of points, in the plane that halves the corner. The ring is stretched
    (at most twice) so that the tube keeps its thickness along the segments.

    Parameters
    ----------
    loops : list of (points (k, 3) float, none repeated, plane normal (3,) float)
    radius : float
    sides : int, points around the tube

    Returns
    -------
    vertices : (n * sides, 3) float, n points in all loops
    faces : (n * sides, 4) int, outwards
    """
    sizes = np.array([len(points) for points, _ in loops])
    nodes = np.concatenate([points for points, _ in loops])  # (n, 3)
    normals = np.repeat([normal for _, normal in loops], sizes, axis=0)
    starts = np.cumsum(sizes) - sizes
    following = np.arange(1, len(nodes) + 1)
    following[starts + sizes - 1] = starts
    previous = np.empty_like(following)
    previous[following] = np.arange(len(nodes))

    forward = _unit(nodes[following] - nodes)
    tangents = _unit(forward + forward[previous])
    half_turn = np.einsum("ni,ni->n", tangents, forward)
    across = np.cross(tangents, normals) / np.maximum(half_turn, 0.5)[:, None]
    angles = np.arange(sides) * (2 * np.pi / sides)
    rings = (
        np.cos(angles)[:, None] * across[:, None] + np.sin(angles)[:, None] * normals[:, None]
    )  # (n, sides, 3)
    vertices = nodes[:, None] + radius * rings

    here = np.arange(len(nodes))[:, None] * sides + np.arange(sides)  # (n, sides)
    there = here[following]
    faces = np.stack([here, there, np.roll(there, -1, 1), np.roll(here, -1, 1)], axis=2)
    return vertices.reshape(-1, 3), faces.reshape(-1, 4)


def vertex_normals(vertices, faces):
    """Unit normals of a mesh at its vertices: those of the faces around, by their areas.

    Parameters
    ----------
    vertices : (n, 3) float
    faces : (m, 3) int

    Returns
    -------
    (n, 3) float, zero where there is no face
    """
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    columns = [
        np.bincount(faces.ravel(), np.repeat(column, 3), len(vertices)) for column in normals.T
    ]
    return _unit(np.stack(columns, axis=1))


def split_creases(vertices, faces, degrees=50.0):
    """Double the vertices along sharp edges, so that smooth shading keeps them sharp.

    An edge is smooth when the normals of its two faces differ by at most `degrees`. Corners of
    faces that meet at a vertex and are linked by smooth edges share one vertex of the result.

    Parameters
    ----------
    vertices : (n, 3) float
    faces : (m, 3) int

    Returns
    -------
    vertices : (k, 3) float, k >= number of used vertices
    faces : (m, 3) int
    """
    normals = _unit(
        np.cross(
            vertices[faces[:, 1]] - vertices[faces[:, 0]],
            vertices[faces[:, 2]] - vertices[faces[:, 0]],
        )
    )
    # Half-edge h = 3 * face + i runs from corner i of its face to corner i + 1.
    tail = faces.reshape(-1)
    corner_after = np.arange(len(tail)).reshape(-1, 3)[:, [1, 2, 0]].reshape(-1)
    head = tail[corner_after]
    order = np.lexsort((np.maximum(tail, head), np.minimum(tail, head)))
    first, second = order[:-1], order[1:]
    along = (tail[first] == tail[second]) & (head[first] == head[second])
    against = (tail[first] == head[second]) & (head[first] == tail[second])
    alike = np.einsum("ni,ni->n", normals[first // 3], normals[second // 3])
    smooth = (along | against) & (alike >= np.cos(np.radians(degrees)))
    first, second, along = first[smooth], second[smooth], along[smooth]
    partner_of_tail = np.where(along, second, corner_after[second])
    partner_of_head = np.where(along, corner_after[second], second)
    rows = np.concatenate([first, corner_after[first]])
    columns = np.concatenate([partner_of_tail, partner_of_head])
    # Imported here so that the prompt, which also loads this module, does not wait for it.
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix(
        (np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(tail), len(tail))
    )
    _, label = connected_components(links, directed=False)
    _, representative = np.unique(label, return_index=True)
    return vertices[tail[representative]], label.reshape(-1, 3)


def _unit(vectors):
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
