"""The controls of the edit window.

Every control calls an `EditSession`, through `window.attempt`, which says in the panel what goes
wrong. Nothing is kept here but the words that the user is typing.
"""

import polyscope.imgui as imgui

from loopdraw.editing.edits import edit_functions

STATUS_WIDTH = 420.0  # pixels
ERROR_COLOR = (1.0, 0.50, 0.45, 1.0)
FORMATS = {  # of export: label
    "glb": ".glb",
    "stl": ".stl",
    "json": ".json",
    "svg": "slices .svg",
    "sheet": "sheet .svg",
}
SLIDERS = {  # kind: (label, name of the number, least, most)
    "move": [("move u", "u", -0.5, 0.5), ("move v", "v", -0.5, 0.5)],
    "scale": [("scale u", "u", 0.2, 3.0), ("scale v", "v", 0.2, 3.0)],
    "rotate": [("rotate", "degrees", -180.0, 180.0)],
    # Shown once there is a square.
    "square": [("its angle", "degrees", -45.0, 45.0), ("its size", "scale", 0.2, 3.0)],
}


class EditPanel:
    """Draws the panel and passes on what the user does.

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
            imgui.TextDisabled(f"plane {shape.planes[session.first]}; or click on a loop")

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
                    attempt(session.adjust, kind, self.window.gesture, **{name: value})
        _, self.donor = imgui.InputText("loops of", self.donor)
        imgui.SetItemTooltip(
            "$name of a sequence, |file or ||file: a sequence (.txt) or -slices.npz"
        )
        _, self.donor_start = imgui.InputInt("from loop", self.donor_start)
        if imgui.Button("replace by these"):
            attempt(session.replace, self.donor, self.donor_start)

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
            picked = (edit.first, edit.last) == (self.session.first, self.session.last)
            if imgui.Selectable(edit.describe(), picked):
                attempt(self.session.pick, edit.first, edit.last)
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

    def _latent(self):
        session, attempt, gesture = self.session, self.window.attempt, self.window.gesture
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
        """What has happened, and the way out: apart, so that it is always in sight."""
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
        imgui.TextDisabled(window.pace())
