"""Scenes on the page: all loops in one set of segments, the surface, planes, the picked loops.

What is there is updated in place, so that a shape can change many times a second.
"""

import dataclasses

import numpy as np

from loopdraw.loops.geometry import lift, resample_loop
from loopdraw.view.scene import Look, fit_camera, split_creases, vertex_normals

THICKNESS = 1.8  # of the lines, in radii of the look
SHARE_OF_SPACING = 0.25  # and at most this share of the distance between planes
BEAD_FACTOR, BEAD_COLOR = 2.2, (0.16, 0.20, 0.33)  # of the beads on picked loops
BEAD_GAP, FEWEST_BEADS, MOST_BEADS = 5.0, 8, 96  # from bead to bead, in thicknesses; of one loop
SURFACE_OPACITY = 0.55
VIEW_SIZE = (
    740,
    800,
)  # what the camera is fitted to, so that a row of shapes fits beside the panel
ROLES = {  # of `Scene.loops_by_role`, in words
    "loop": "loops",
    "edited": "edited",
    "regenerated": "regenerated",
    "special": "special",
    "untouched": "what was there",
}


class Canvas:
    """One shape in the page's scene.

    Parameters
    ----------
    server : server.Server
    name : of the shape, for viser
    offset : (3,) float, where to put it
    """

    def __init__(self, server, name, offset=(0.0, 0.0, 0.0)):
        self.server = server
        self.name = name
        self.offset = np.asarray(offset, float)
        self.look = Look()
        self._parts = {}  # "loops", "picked", "planes", "surface" -> viser's handle
        self._inset = 0.0  # how far the surface lies behind the loops, which are in it

    def draw_loops(self, scene, picked=(), planes=False):
        """Draw the loops of a scene in the colours of their roles.

        Parameters
        ----------
        scene : scene.Scene
        picked : list of (k, 3) float loops to stand out
        planes : bool, draw the planes that have loops as well
        """
        roles = scene.loops_by_role()
        drawn = {role: [_segments(loop) for loop, _ in loops] for role, loops in roles.items()}
        thickness = self._thickness(scene, sum(drawn.values(), []))
        drawn["untouched"] = _apart(scene, thickness)
        points, colors = [], []
        for role, segments in drawn.items():
            points += segments
            color = getattr(self.look, f"{role}_color")
            colors += [_painted(each, color) for each in segments]
        self._inset = thickness / 2 if points else 0.0
        self._lines("loops", points, colors, thickness)
        beads = [_beads(loop, thickness) for loop in picked]
        dark = [_painted(each, BEAD_COLOR) for each in beads]
        self._lines("picked", beads, dark, BEAD_FACTOR * thickness)
        corners = ()
        if planes:
            everywhere = range(scene.loop_count())
            corners = dataclasses.replace(scene, planes_at=everywhere).plane_corners()
        light = [_painted(square, self.look.plane_color) for square in corners]
        self._lines("planes", [_segments(square) for square in corners], light, thickness / 3)

    def _thickness(self, scene, segments):
        # Where loops are drawn, theirs: the scene would have to lift them into space again.
        points = np.concatenate(segments)[:, 0] if segments else scene.points()
        diagonal = np.linalg.norm(np.ptp(points, axis=0)) if len(points) else 1.0
        radius = self.look.loop_radius * float(diagonal)
        return min(THICKNESS * radius, SHARE_OF_SPACING * scene.plane_spacing())

    def _lines(self, name, points, colors, thickness):
        if not points:
            self._remove(name)
            return
        points = np.concatenate(points).astype(np.float32)
        colors = np.concatenate(colors)
        handle = self._parts.get(name)
        if handle is None:
            self._parts[name] = self.server.scene.add_line_segments(
                f"/{self.name}/{name}", points, colors, thickness=thickness, position=self.offset
            )
            return
        with self.server.viser.atomic():
            handle.points, handle.colors, handle.thickness = points, colors, thickness

    def draw_surface(self, mesh):
        """Draw a mesh (vertices (n, 3) float, faces (m, 3) int), or none."""
        if mesh is None or not len(mesh[1]):
            self._remove("surface")
            return
        vertices, faces = np.asarray(mesh[0], float), np.asarray(mesh[1])
        # As far behind: where both lay at one depth, they would be seen by turns.
        vertices = vertices - self._inset * vertex_normals(vertices, faces)
        vertices, faces = split_creases(vertices, faces)
        vertices, faces = vertices.astype(np.float32), faces.astype(np.uint32)
        handle = self._parts.get("surface")
        if handle is None:
            self._parts["surface"] = self.server.scene.add_mesh_simple(
                f"/{self.name}/surface",
                vertices,
                faces,
                color=self.look.mesh_color,
                opacity=SURFACE_OPACITY,
                side="double",
                cast_shadow=False,
                receive_shadow=False,
                position=self.offset,
            )
            return
        with self.server.viser.atomic():
            handle.vertices, handle.faces = vertices, faces

    def show_surface(self, shown):
        """Show or hide the mesh."""
        if "surface" in self._parts:
            self._parts["surface"].visible = shown

    def _remove(self, name):
        handle = self._parts.pop(name, None)
        if handle is not None:
            handle.remove()

    def remove(self):
        """Take the shape off the page."""
        for name in list(self._parts):
            self._remove(name)


def legend(scene):
    """HTML that says what the colours of a scene mean."""
    look = Look()
    spans = []
    for role, loops in scene.loops_by_role().items():
        if loops:
            color = "#" + _bytes(getattr(look, f"{role}_color")).tobytes().hex()
            spans.append(
                '<span style="white-space:nowrap;margin-right:0.9em"><span style="display:'
                "inline-block;width:0.8em;height:0.8em;border-radius:50%;margin-right:0.35em;"
                f'background:{color}"></span>{ROLES[role]}</span>'
            )
    return f'<div style="padding:0.2em 0.9em 0.6em;font-size:0.8em">{" ".join(spans)}</div>'


def frame(server, points):
    """Let everybody's camera see all of some points (n, 3)."""
    camera = fit_camera(points, VIEW_SIZE)
    server.viser.initial_camera.up = camera.up
    views = [server.viser.initial_camera]
    views += [client.camera for client in server.viser.get_clients().values()]
    for view in views:
        view.position, view.look_at = camera.position, camera.target
        view.fov = np.radians(camera.fov)


def _segments(loop):
    """A closed loop (k, d) as segments (k, 2, d)."""
    return np.stack([loop, np.concatenate([loop[1:], loop[:1]])], axis=1)


def _beads(loop, thickness):
    """Beads along a closed loop (k, 3): segments (n, 2, 3) that are as good as points."""
    length = np.linalg.norm(loop - np.roll(loop, 1, axis=0), axis=1).sum()
    gap = max(BEAD_GAP * thickness, length / MOST_BEADS, 1e-12)
    n_beads = max(int(length / gap), FEWEST_BEADS)
    points = resample_loop(loop, n_beads)
    onwards = np.roll(points, -1, axis=0) - points
    return np.stack([points, points + 0.01 * onwards], axis=1)


def _apart(scene, distance):
    """Segments of the untouched loops that lie apart from the loops of now, (k, 2, 3) float each.

    Of two lines in one place, both would be seen by turns.
    """
    if scene.untouched is None:
        return []
    planes, loops_by_plane = scene.untouched
    kept = []
    for index, (plane, loops) in enumerate(zip(planes, loops_by_plane, strict=False)):
        now = scene.loops_by_plane[index] if index < len(scene.loops_by_plane) else []
        if not len(loops):
            continue
        segments = np.concatenate([_segments(np.asarray(loop, float)) for loop in loops])
        segments = segments[np.isfinite(segments).all(axis=(1, 2))]
        if len(now):
            lines = np.concatenate([_segments(np.asarray(loop, float)) for loop in now])
            places = np.concatenate([segments, segments.mean(axis=1, keepdims=True)], axis=1)
            far = _distances(places.reshape(-1, 2), lines) > distance
            segments = segments[far.reshape(-1, 3).any(axis=1)]
        if len(segments):
            kept.append(lift(segments.reshape(-1, 2), plane).reshape(-1, 2, 3))
    return kept


def _distances(points, lines):
    """How far points (n, 2) are from the nearest of some segments (k, 2, 2)."""
    start, along = lines[:, 0], lines[:, 1] - lines[:, 0]
    offset = points[:, None] - start
    squared = np.maximum((along**2).sum(axis=-1), 1e-12)
    share = ((offset * along).sum(axis=-1) / squared).clip(0, 1)
    return np.linalg.norm(offset - share[..., None] * along, axis=-1).min(axis=1)


def _painted(segments, color):
    """A colour for each end of segments (k, 2, 3), (k, 2, 3) uint8.

    Viser takes colours of lines for amounts of light, where it takes those of meshes for what a
    screen shows.
    """
    color = np.asarray(color, float)
    light = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return np.broadcast_to(_bytes(light), (len(segments), 2, 3))


def _bytes(color):
    return (255 * np.asarray(color)).round().astype(np.uint8)
