"""What the edit window draws with Polyscope: loops by colour, beads, the gizmo, the surface.

Structures are updated in place where they can be, so that a shape can be drawn anew many times a
second.
"""

import numpy as np

from loopdraw.loops.geometry import plane_heights
from loopdraw.view.scene import Look, tube_mesh

RADIUS = 0.0035  # of the loops' tubes, share of the shape's diagonal
SHARE_OF_SPACING = 0.16  # and at most this share of the distance between planes
RADIUS_FACTORS = {"untouched": 0.7, "edited": 1.4}
TUBE_SIDES = 6
BEAD_FACTOR = 2.0  # radius of the beads on picked loops
BEAD_COLOR = (0.16, 0.20, 0.33)
SURFACE_OPACITY = 0.5
GIZMO_SIZE = 1.6
ROLES = {
    "loop": "before the edit",
    "edited": "edited",
    "regenerated": "regenerated",
    "untouched": "what was there",
}


class EditCanvas:
    """The Polyscope scene of the edit window.

    Parameters
    ----------
    ps : the polyscope module, started
    planes : (P, 4, 3) float
    points : (n, 3) float, all of the shape, for its size and place
    """

    def __init__(self, ps, planes, points):
        self.ps = ps
        self.look = Look()
        self.center = (points.min(axis=0) + points.max(axis=0)) / 2
        self.diagonal = float(np.linalg.norm(np.ptp(points, axis=0))) or 1.0
        self.normal = planes[0, 0]
        # Thin where the planes are close, so that neighbouring loops stay apart.
        spacing = np.abs(np.diff(plane_heights(planes))).min()
        self.radius = min(RADIUS * self.diagonal, SHARE_OF_SPACING * spacing)
        self.show_untouched = True
        self.show_surface = True
        self.translucent = True
        self._drawn = {}  # name -> (sizes of its loops, structure)
        self._surface = None
        ps.remove_all_structures()
        ps.set_background_color(self.look.background_color)
        ps.set_bounding_box(points.min(axis=0), points.max(axis=0))
        ps.set_length_scale(self.diagonal)
        ps.set_ground_plane_mode("none")
        self.gizmo = ps.add_transformation_gizmo("picked loop")
        self.gizmo.set_allow_scaling(True)
        self.gizmo.set_allow_nonuniform_scaling(True)
        self.gizmo.set_interact_in_local_space(True)
        self.gizmo.set_gizmo_scale(GIZMO_SIZE)

    def colors(self):
        """(name, colour) of each kind of loop, for a legend."""
        return [(name, getattr(self.look, f"{role}_color")) for role, name in ROLES.items()]

    # --------------------------------------------------------------------------------------- loops

    def draw_loops(self, loops, untouched_loops, shape, picked):
        """Draw all loops.

        Parameters
        ----------
        loops, untouched_loops : lists of (k, 3) float, of the shape and of the one without edits
        shape : EditedShape
        picked : range of numbers
        """
        edited, regenerated = set(shape.edited.tolist()), set(shape.regenerated.tolist())
        first = min(edited, default=len(untouched_loops))
        groups = {
            "untouched": untouched_loops[first:] if self.show_untouched else [],
            "edited": [loops[i] for i in sorted(edited)],
            "regenerated": [loops[i] for i in sorted(regenerated)],
            "loop": [
                loop for i, loop in enumerate(loops) if i not in edited and i not in regenerated
            ],
        }
        for role, of_role in groups.items():
            self._draw_tubes(role, of_role)
        self._draw_beads([loops[i] for i in picked if i < len(loops)])

    def _draw_tubes(self, role, loops):
        # As a mesh: without a graphics card, Polyscope's curve networks take three times as long.
        name = ROLES[role]
        if not loops:
            if self._drawn.pop(name, None) is not None:
                self.ps.get_surface_mesh(name).remove()
            return
        radius = self.radius * RADIUS_FACTORS.get(role, 1.0)
        vertices, faces = tube_mesh([(loop, self.normal) for loop in loops], radius, TUBE_SIDES)
        sizes = [len(loop) for loop in loops]
        if name in self._drawn and self._drawn[name][0] == sizes:
            self._drawn[name][1].update_vertex_positions(vertices)
            return
        tubes = self.ps.register_surface_mesh(
            name, vertices, faces, material="wax", smooth_shade=True, back_face_policy="cull"
        )
        tubes.set_color(getattr(self.look, f"{role}_color"))
        self._drawn[name] = sizes, tubes

    def _draw_beads(self, loops):
        nodes = np.concatenate([np.zeros((0, 3)), *loops])
        if "picked" in self._drawn and self._drawn["picked"][0] == len(nodes):
            self._drawn["picked"][1].update_point_positions(nodes)
            return
        beads = self.ps.register_point_cloud("picked", nodes, material="wax")
        beads.set_color(BEAD_COLOR)
        beads.set_radius(BEAD_FACTOR * self.radius, relative=False)
        self._drawn["picked"] = len(nodes), beads

    def show_beads(self, shown):
        """Show or hide what marks the picked loops."""
        self._drawn["picked"][1].set_enabled(shown)

    # ------------------------------------------------------------------------------------- surface

    def draw_surface(self, vertices, faces):
        """Draw a mesh: (n, 3) float, (m, 3) int."""
        self._surface = self.ps.register_surface_mesh(
            "surface", vertices, faces, material="wax", smooth_shade=True
        )
        self._surface.set_color(self.look.mesh_color)
        if self.translucent:
            self._surface.set_transparency(SURFACE_OPACITY)
            # After registering: Polyscope changes the mode by itself then.
            self.ps.set_transparency_mode("pretty")

    def make_opaque(self):
        """Draw surfaces opaque from now on, which is much faster."""
        self.translucent = False
        if self._surface is not None:
            self._surface.set_transparency(1.0)
        self.ps.set_transparency_mode("none")

    def enable_surface(self, shown):
        """Show or hide the mesh, if there is one."""
        if self._surface is not None:
            self._surface.set_enabled(shown)

    # ------------------------------------------------------------------------- picking, the gizmo

    def point_at(self, screen_position):
        """The point in space (3,) of what is drawn at a place of the window; None: nothing is."""
        hit = self.ps.pick(screen_coords=screen_position)
        return hit.position if hit.is_hit else None

    def place_gizmo(self, loop, plane):
        """Put the gizmo in the middle of a loop (k, 3), in its plane; None: take it away."""
        self.gizmo.set_enabled(loop is not None)
        if loop is None:
            return
        pose = np.eye(4)
        pose[:3, 0], pose[:3, 1] = plane[2], plane[3]
        # Not the plane's normal: the in-plane frames of some scan axes are left-handed.
        pose[:3, 2] = np.cross(plane[2], plane[3])
        pose[:3, 3] = loop.mean(axis=0)
        self.gizmo.set_transform(pose)
        self._pose = self.gizmo.get_transform()

    def read_gizmo(self, plane):
        """What the mouse has done to the gizmo since the last look, as far as it is in the plane.

        Returns
        -------
        dict with `move` (u, v), `degrees` and `scale` (along u, along v), as
        `EditSession.drag`; or None: nothing
        """
        pose, before = self.gizmo.get_transform(), self._pose
        if np.array_equal(pose, before):
            return None
        axes, axes_before = (plane[2:4] @ p[:3, :2] for p in (pose, before))
        lengths, lengths_before = (np.linalg.norm(a, axis=0) for a in (axes, axes_before))
        move = plane[2:4] @ (pose[:3, 3] - before[:3, 3])
        turn = (axes / lengths) @ (axes_before / lengths_before).T
        angle = np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])
        scale = lengths / lengths_before
        # What is left of the gizmo's rounding is no movement.
        move[np.abs(move) < 1e-5 * self.diagonal] = 0.0
        angle *= abs(angle) > 1e-4
        scale[np.abs(scale - 1) < 1e-4] = 1.0
        # Whatever would leave the plane is undone.
        kept = before.copy()
        cos, sin = np.cos(angle), np.sin(angle)
        kept[:3, :2] = plane[2:4].T @ np.array([[cos, -sin], [sin, cos]]) @ axes_before * scale
        kept[:3, 3] += move @ plane[2:4]
        self.gizmo.set_transform(kept)
        self._pose = self.gizmo.get_transform()
        return {
            "move": tuple(move.tolist()),
            "degrees": float(np.rad2deg(angle)),
            "scale": tuple(scale.tolist()),
        }
