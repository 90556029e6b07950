"""The controls of the edit window: its panel, and the mouse in the view.

Every control calls an `EditSession` through `window.attempt`, which shows errors in the panel.
"""

import numpy as np
import polyscope.imgui as imgui

from loopdraw.editing.edits import edit_functions
from loopdraw.editing.session import SLIDERS
from loopdraw.loops.geometry import frame_on_plane, motion_in_plane

STATUS_WIDTH = 420.0  # pixels
CLICK_PIXELS = 4  # a press that moves further is a drag
GIZMO_SIZE = 1.6
ERROR_COLOR = (1.0, 0.50, 0.45, 1.0)
FORMATS = {  # name in export.FORMATS: label
    "glb": ".glb",
    "stl": ".stl",
    "json": ".json",
    "svg": "slices .svg",
    "sheet": "sheet .svg",
}


class EditPanel:
    """The panel: draws the controls and passes on what the user does.

    It keeps nothing but the words that the user is typing.

    Parameters
    ----------
    session : session.EditSession
    window : edit_window.EditWindow
    """

    def __init__(self, session, window):
        self.session = session
        self.window = window
        self.kinds = edit_functions(session.editor.info.representation)
        self.donor, self.donor_start = "$last_pred_seq", 0
        self.blend_word, self.blend_position = "?", 0.0
        self.formats = dict.fromkeys(FORMATS, False)

    def draw(self):
        """All controls, in one frame."""
        imgui.PushItemWidth(-90)
        self._legend()
        self._picking()
        self._adjusting()
        self._edit_list()
        if imgui.CollapsingHeader("Latent"):
            self._latent()
        if imgui.CollapsingHeader("Save", imgui.ImGuiTreeNodeFlags_DefaultOpen):
            self._saving()
        imgui.PopItemWidth()

    def _legend(self):
        for number, (name, color) in enumerate(self.window.canvas.colors()):
            if number % 2:
                imgui.SameLine(170)
            imgui.ColorButton(name, (*color, 1.0), 0, (16, 16))
            imgui.SameLine()
            imgui.TextUnformatted(name)
        canvas = self.window.canvas
        _, canvas.show_surface = imgui.Checkbox("surface", canvas.show_surface)
        imgui.SameLine()
        _, canvas.show_untouched = imgui.Checkbox("what was there", canvas.show_untouched)

    def _picking(self):
        imgui.SeparatorText("Loops")
        session = self.session
        shape = session.editor.shape
        last = max(shape.n_loops - 1, 0)
        changed, first = imgui.SliderInt("loop", session.first, 0, last)
        if changed:
            session.pick(first, first + session.last - session.first)
        changed, end = imgui.SliderInt("up to", session.last, session.first, last)
        if changed:
            session.pick(session.first, end)
        if session.picked and len(shape.planes):
            inserted = ", inserted" if shape.inserts[session.first] >= 0 else ""
            imgui.TextDisabled(f"plane {shape.planes[session.first]}{inserted}; or click on a loop")

    def _adjusting(self):
        imgui.SeparatorText("Change them")
        session, attempt = self.session, self.window.attempt
        for kind, sliders in SLIDERS.items():
            if kind == "square":
                if kind in self.kinds and imgui.Button("make square"):
                    attempt(session.make_square)
                if session.place_of(kind) is None:
                    continue
            for label, name, low, high in sliders:
                changed, value = imgui.SliderFloat(label, session.values(kind)[name], low, high)
                if changed:
                    gesture = self.window.mouse.gesture
                    attempt(session.adjust, kind, gesture, **{name: value})
        _, self.donor = imgui.InputText("loops of", self.donor)
        imgui.SetItemTooltip(
            "$name of a sequence, |file or ||file: a sequence (.txt) or -slices.npz"
        )
        _, self.donor_start = imgui.InputInt("from loop", self.donor_start)
        if imgui.Button("replace by these"):
            attempt(session.replace, self.donor, self.donor_start)
        if not session.editor.info.representation.has_flag:
            return  # one loop a plane
        imgui.TextUnformatted("insert beside it:")
        for form in ("ellipse", "square", "copy"):
            imgui.SameLine()
            if imgui.SmallButton(form):
                attempt(session.insert, form)
        if imgui.Button("remove"):
            attempt(session.remove_loops)
        imgui.SetItemTooltip("the loop, in each plane up to that of the last picked one")

    def _edit_list(self):
        imgui.SeparatorText("Edits")
        editor, attempt = self.session.editor, self.window.attempt
        for place, edit in enumerate(editor.edits):
            imgui.PushID(place)
            changed, enabled = imgui.Checkbox("##on", edit.enabled)
            if changed:
                attempt(editor.change, place, edit.changed(enabled=enabled))
            imgui.SameLine()
            if imgui.SmallButton("x"):
                attempt(editor.remove, place)
            imgui.SetItemTooltip("remove")
            imgui.SameLine()
            picked = self.session.loops_of(edit) == (self.session.first, self.session.last)
            if imgui.Selectable(edit.describe(), picked):
                attempt(self.session.pick_edit, edit)
            imgui.PopID()
        if not editor.edits:
            imgui.TextDisabled("none yet")
        for label, possible, action in (
            ("undo", editor.can_undo, editor.undo),
            ("redo", editor.can_redo, editor.redo),
        ):
            imgui.BeginDisabled(not possible)
            if imgui.Button(label):
                attempt(action)
            imgui.EndDisabled()
            imgui.SameLine()
        imgui.NewLine()
        self._after()

    def _after(self):
        editor, attempt = self.session.editor, self.window.attempt
        changed, back = imgui.Checkbox("back to what was there", editor.after is not None)
        if changed:
            attempt(editor.set_after, 0 if back else None)
        if editor.after is not None:
            last = len(editor.info.planes)
            changed, after = imgui.SliderInt("after planes", editor.after, 0, last)
            if changed:
                attempt(editor.set_after, after, self.window.mouse.gesture)

    def _latent(self):
        session, attempt, gesture = self.session, self.window.attempt, self.window.mouse.gesture
        if imgui.Button("new random"):
            attempt(lambda: session.editor.set_latent(session.read_latent("?")))
        _, self.blend_word = imgui.InputText("towards", self.blend_word)
        imgui.SetItemTooltip("a latent: ? $name |file ||file")
        if imgui.Button("blend from here"):
            self.blend_position = 0.0
            attempt(session.set_blend_end, self.blend_word)
        if session.blend_ends is not None:
            changed, self.blend_position = imgui.SliderFloat("blend", self.blend_position, 0.0, 1.0)
            if changed:
                attempt(session.blend, self.blend_position, gesture)
        if session.dimensions is None:
            imgui.TextDisabled("looking for the most active dimensions ...")
            self.window.guard(session.search_dimensions)
            return
        for dimension in session.dimensions:
            value = session.editor.latent[dimension]
            changed, value = imgui.SliderFloat(f"z {dimension}", value, -3.0, 3.0)
            if changed:
                attempt(session.set_dimension, dimension, value, gesture)

    def _saving(self):
        window, attempt = self.window, self.window.attempt
        for number, (name, label) in enumerate(FORMATS.items()):
            if number % 3:
                imgui.SameLine()
            _, self.formats[name] = imgui.Checkbox(label, self.formats[name])
        if imgui.Button("save"):
            attempt(window.save, [name for name, wanted in self.formats.items() if wanted])
        imgui.SetItemTooltip("mesh, loops, latent and edit list, and what is ticked")
        for label, action in (
            ("as intervention", window.save_intervention),
            ("screenshot", window.save_screenshot),
            ("turntable", window.start_turntable),
        ):
            imgui.SameLine()
            if imgui.Button(label):
                attempt(action)

    def draw_status(self):
        """The last message and the close button, apart from the rest so that they stay in sight."""
        window = self.window
        if window.error or window.message:
            imgui.PushTextWrapPos(STATUS_WIDTH)
            if window.error:
                imgui.TextColored(ERROR_COLOR, window.error)
            else:
                imgui.TextUnformatted(window.message)
            imgui.PopTextWrapPos()
        if imgui.Button("close"):
            window.close()
        imgui.SameLine()
        looking = "looking for a way to join what was inserted ..."
        imgui.TextDisabled(looking if window.is_looking else window.pace())


class EditMouse:
    """The mouse in the view: a click picks a loop, dragging the gizmo edits the picked loops.

    `gesture` counts the drags. Changes made during one drag are undone together.

    Parameters
    ----------
    ps : the polyscope module, started
    session : session.EditSession
    attempt : EditWindow.attempt
    diagonal : float, of the shape
    """

    def __init__(self, ps, session, attempt, diagonal):
        self.ps = ps
        self.session = session
        self.attempt = attempt
        self.gesture = 0
        self._gizmo = Gizmo(ps, diagonal)
        self._gizmo_at = None  # (shape, loop number) it stands at; None: must be placed
        self._press = None  # where the button went down in the view
        self._dragging = False

    def follow(self):
        """Pass on what the mouse has done since the last frame."""
        session = self.session
        if imgui.IsMouseDown(0) and session.picked and self._gizmo_at is not None:
            plane = session.editor.info.planes[session.editor.shape.planes[session.first]]
            dragged = self._gizmo.read(plane)
            if dragged is not None:
                self._dragging = True
                self.attempt(session.drag, self.gesture, **dragged)
        position = imgui.GetMousePos()
        if imgui.IsMouseClicked(0):
            self._press = None if imgui.GetIO().WantCaptureMouse else position
        if imgui.IsMouseReleased(0):
            if self._press is not None and not self._dragging:
                moved = np.hypot(position[0] - self._press[0], position[1] - self._press[1])
                if moved <= CLICK_PIXELS:
                    self._pick_at(position)
            self._dragging, self._press = False, None
            self._gizmo_at = None
            self.gesture += 1

    def _pick_at(self, position):
        hit = self.ps.pick(screen_coords=position)
        if hit.is_hit:
            self.session.pick_nearest(hit.position)

    def place_gizmo(self):
        """Put the gizmo on the first picked loop, unless it is being dragged."""
        session = self.session
        shape, planes = session.editor.shape, session.editor.info.planes
        gizmo_at = (shape, session.first)
        if gizmo_at == self._gizmo_at or self._dragging:
            return
        if session.picked:
            loop = shape.loops_in_space(planes)[session.first]
            self._gizmo.place(loop, planes[shape.planes[session.first]])
        else:
            self._gizmo.place(None, None)
        self._gizmo_at = gizmo_at


class Gizmo:
    """Polyscope's transformation gizmo, kept in the plane of a loop.

    Parameters
    ----------
    ps : the polyscope module, started
    diagonal : float, of the shape
    """

    def __init__(self, ps, diagonal):
        self.diagonal = diagonal
        self._gizmo = ps.add_transformation_gizmo("picked loop")
        self._gizmo.set_allow_scaling(True)
        self._gizmo.set_allow_nonuniform_scaling(True)
        self._gizmo.set_interact_in_local_space(True)
        self._gizmo.set_gizmo_scale(GIZMO_SIZE)
        self._pose = self._gizmo.get_transform()  # as it was last seen, (4, 4)

    def place(self, loop, plane):
        """Put the gizmo in the middle of a loop (k, 3), in its plane. A loop of None hides it."""
        self._gizmo.set_enabled(loop is not None)
        if loop is None:
            return
        pose = frame_on_plane(loop.mean(axis=0), plane)
        self._gizmo.set_transform(pose)
        self._pose = self._gizmo.get_transform()

    def read(self, plane):
        """How the mouse has changed the gizmo since the last call, within the plane (4, 3).

        Returns
        -------
        dict or None
            `move` (u, v), `degrees` and `scale` (along u, along v), the arguments of
            `EditSession.drag`. None when nothing has changed.
        """
        pose, before = self._gizmo.get_transform(), self._pose
        if np.array_equal(pose, before):
            return None
        # The gizmo rounds: tiny changes are not movements.
        motion = motion_in_plane(before, pose, plane, least=1e-5 * self.diagonal)
        # Undo whatever would leave the plane.
        self._gizmo.set_transform(motion.pose)
        self._pose = self._gizmo.get_transform()
        return {"move": motion.move, "degrees": motion.degrees, "scale": motion.scale}
