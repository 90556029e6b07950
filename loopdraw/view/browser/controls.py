"""The controls of the editor's page: what they call, and how they follow the session."""

import time

from loopdraw.editing.edits import edit_functions
from loopdraw.editing.session import SLIDERS
from loopdraw.view.browser import downloads
from loopdraw.view.browser.canvas import legend
from loopdraw.view.browser.server import escape

IN_HAND_SECONDS = 0.6  # a control that somebody has just moved is not moved back under the hand
SMALL = "padding:0 0.9em 0.4em;font-size:0.8em"
ROW = "display:flex;align-items:center;gap:0.4em;padding:0.15em 0.3em;border-radius:3px"


class Controls:
    """The panel of the page.

    Parameters
    ----------
    editor : editor.Editor
    title : str
    done : what the button says that ends it; "" for no button
    """

    def __init__(self, editor, title, done):
        self.editor = editor
        self.session = editor.session
        self.gui = editor.server.gui
        self.kinds = edit_functions(self.session.editor.info.representation)
        self.revision = 0  # of the list of edits: presses on an older one come too late
        self._edits = None
        self._synced = None
        self._moved = (None, 0.0)  # the control that was moved last, and when
        self.gui.add_html(f'<div style="padding:0.3em 0.9em;font-weight:500">{escape(title)}</div>')
        self.legend = self.gui.add_html("")
        self.first, self.last, self.plane = self._picking()
        self.sliders, self.square = self._adjusting()
        self._replacing()
        self.rows, self.back, self.after = self._edit_list()
        self.blend, self.dimensions = self._latent()
        self.kept = self._saving()
        if done:
            self._button(done, editor.finish, color="green")
        for label, hotkey, modifier, action in (
            ("undo", "Z", "cmd/ctrl", self.session.editor.undo),
            ("redo", "Y", "cmd/ctrl", self.session.editor.redo),
            ("redo, too", "Z", "cmd/ctrl+shift", self.session.editor.redo),
        ):
            command = self.gui.add_command(label, hotkey=hotkey, modifier=modifier)
            command.on_trigger(self._callback(action))

    # -------------------------------------------------------------------------- making the controls

    def _callback(self, action):
        async def call(event):
            self.editor.events.put(self.editor.attempt, action)

        return call

    def _button(self, label, action, **looks):
        button = self.gui.add_button(label, **looks)
        button.on_click(self._callback(action))
        return button

    def _group(self, label, actions):
        """A row of buttons: dict of label to action."""
        group = self.gui.add_button_group(label, tuple(actions))

        @group.on_click
        async def call(event):
            self.editor.events.put(self.editor.attempt, actions[event.target.value])

    def _input(self, control, action):
        """Let a control call `action(value, gesture)`."""

        @control.on_update
        async def call(event):
            if event.client is not None:  # else it follows the session
                self._moved = control, time.monotonic()
                self.editor.events.put(self._change, control, action, control.value, latest=control)

        return control

    def _change(self, control, action, value):
        self.editor.attempt(action, value, self.editor.gesture(control))

    def _picking(self):
        session = self.session
        with self.gui.add_folder("Loops"):
            most = max(session.editor.shape.n_loops - 1, 1)

            def pick(value, _):
                session.pick(value, value + session.last - session.first)

            def up_to(value, _):
                session.pick(session.first, value)

            first = self._input(self.gui.add_slider("loop", 0, most, 1, session.first), pick)
            last = self._input(self.gui.add_slider("up to", 0, most, 1, session.last), up_to)
            return first, last, self.gui.add_html("")

    def _adjusting(self):
        sliders, square = {}, []
        with self.gui.add_folder("Change them"):
            for kind, rows in SLIDERS.items():
                if kind == "square":
                    if kind not in self.kinds:
                        continue
                    self._button("make square", self.session.make_square, color="gray")
                for label, name, low, high in rows:
                    step = 0.5 if name == "degrees" else 0.005
                    value = self.session.values(kind)[name]
                    slider = self.gui.add_slider(label, low, high, step, min(max(value, low), high))
                    self._input(slider, self._adjust(kind, name))
                    sliders[kind, name] = slider
                    if kind == "square":
                        square.append(slider)
            if self.session.editor.info.representation.has_flag:
                forms = ("ellipse", "square", "copy")
                self._group(
                    "insert", {form: lambda form=form: self.session.insert(form) for form in forms}
                )
                self._button("remove the loop", self.session.remove_loops, color="gray")
        return sliders, square

    def _adjust(self, kind, name):
        return lambda value, gesture: self.session.adjust(kind, gesture, **{name: value})

    def _replacing(self):
        with self.gui.add_folder("Replace them", expand_by_default=False):
            word = self.gui.add_text("loops of", "$last_pred_seq", hint="$name, or ||file")
            start = self.gui.add_number("from loop", 0, min=0, step=1)
            self._button(
                "replace by these",
                lambda: self.session.replace(self.editor.word(word.value), start.value),
                color="gray",
            )

    def _edit_list(self):
        editor = self.session.editor
        with self.gui.add_folder("Edits"):
            rows = self.gui.add_html("")
            self._group("", {"undo": editor.undo, "redo": editor.redo})
            back = self.gui.add_checkbox("back to what was there", editor.after is not None)
            self._input(back, lambda value, _: editor.set_after(0 if value else None))
            most = len(editor.info.planes)
            after = self.gui.add_slider("after planes", 0, most, 1, editor.after or 0)
            self._input(after, editor.set_after)
        return rows, back, after

    def _latent(self):
        session = self.session
        with self.gui.add_folder("Latent", expand_by_default=False) as self.latent_folder:
            self._button(
                "new random",
                lambda: session.editor.set_latent(session.read_latent("?")),
                color="gray",
            )
            upload = self.gui.add_upload_button("of a mesh of mine", color="gray")

            @upload.on_upload
            async def call(event):
                file = event.target.value
                self.editor.events.put(
                    self.editor.attempt, self.editor.encode, file.name, file.content
                )

            word = self.gui.add_text("towards", "?", hint="? or $name, or ||file")
            self._button(
                "blend from here",
                lambda: session.set_blend_end(self.editor.word(word.value)),
                color="gray",
            )
            blend = self.gui.add_slider("blend", 0.0, 1.0, 0.01, 0.0, visible=False)
            self._input(blend, session.blend)
        return blend, {}

    def _saving(self):
        editor = self.editor
        with self.gui.add_folder("Save"):
            self._button("save", editor.save)
            self._button("save as intervention", editor.save_intervention, color="gray")
            kinds = (*downloads.MESHES, *downloads.LOOPS, "edit")
            self.gui.add_html(
                downloads.links("download", "download", kinds, ("download/all.zip", "all as .zip"))
            )
            kept = self.gui.add_html("")
        with self.gui.add_folder("Show", expand_by_default=False):
            for label, name in (("surface", "show_surface"), ("what was there", "show_untouched")):
                box = self.gui.add_checkbox(label, True)
                self._input(box, lambda value, _, name=name: setattr(editor, name, value))
        return kept

    # ------------------------------------------------------------------------ following the session

    def follow(self):
        """Let the controls show the session as it is now."""
        session, editor = self.session, self.session.editor
        state = (
            editor.shape,
            editor.edits,
            editor.after,
            session.first,
            session.last,
            session.dimensions,
            session.blend_ends is None,
            self.editor.kept and self.editor.kept[1],
        )
        if state == self._synced:
            return
        self._synced = state
        most = max(editor.shape.n_loops - 1, 1)
        for slider, value in ((self.first, session.first), (self.last, session.last)):
            if slider.max != most:
                slider.max = most
            self._set(slider, value)
        for (kind, name), slider in self.sliders.items():
            self._set(slider, min(max(session.values(kind)[name], slider.min), slider.max))
        there = session.place_of("square") is not None
        for slider in self.square:
            slider.visible = there
        self._set(self.back, editor.after is not None)
        self.after.visible = editor.after is not None
        self._set(self.after, editor.after or 0)
        self.blend.visible = session.blend_ends is not None
        self._follow_latent()
        planes = editor.shape.planes
        if session.picked and len(planes):
            first, last = planes[session.first], planes[session.last]
            where = f"plane {first}" if first == last else f"planes {first} to {last}"
            self._show(self.plane, f"{where}; or click on a loop")
        if self.editor.kept:
            self._show(self.kept, f"the edits are kept in {self.editor.kept[1]}")
        self.legend.content = legend(self.editor.drawn_scene)
        self._list_edits()

    def _set(self, control, value):
        moved, when = self._moved
        if control is moved and time.monotonic() - when < IN_HAND_SECONDS:
            self._synced = None  # later
            return
        control.value = value

    def _show(self, element, text):
        content = f'<div style="{SMALL};color:#868e96">{escape(text)}</div>'
        if element.content != content:
            element.content = content

    def _follow_latent(self):
        session = self.session
        if session.dimensions is None:
            return
        latent = session.editor.latent
        if not self.dimensions:
            with self.latent_folder:
                for dimension in session.dimensions:
                    slider = self.gui.add_slider(f"z {dimension}", -3.0, 3.0, 0.01, 0.0)
                    self._input(slider, self._turn(dimension))
                    self.dimensions[dimension] = slider
        for dimension, slider in self.dimensions.items():
            self._set(slider, min(max(float(latent[dimension]), -3.0), 3.0))

    def _turn(self, dimension):
        return lambda value, gesture: self.session.set_dimension(dimension, value, gesture)

    def _list_edits(self):
        session, editor = self.session, self.session.editor
        if self._edits is not editor.edits:
            self._edits = editor.edits
            self.revision += 1
        rows = []
        for place, edit in enumerate(editor.edits):
            picked = session.loops_of(edit) == (session.first, session.last)
            press = {
                what: f"fetch('edits/{what}/{place}/{self.revision}')"
                for what in ("on", "off", "remove", "pick")
            }
            rows.append(
                f'<div style="{ROW};background:{"#e7f5ff" if picked else "none"}">'
                f'<input type="checkbox" {"checked" if edit.enabled else ""} title="on or off" '
                f'onclick="{press["off" if edit.enabled else "on"]}">'
                f'<span style="flex:1;cursor:pointer" onclick="{press["pick"]}">'
                f"{escape(edit.describe())}</span>"
                f'<span style="cursor:pointer;color:#e03131" title="remove" '
                f'onclick="{press["remove"]}">✕</span></div>'
            )
        content = "".join(rows) or '<span style="color:#868e96">none yet</span>'
        content = f'<div style="{SMALL}">{content}</div>'
        if self.rows.content != content:
            self.rows.content = content

    def press_row(self, what, place, revision):
        """Perform a press on a row of the list; one on a list that has changed comes too late."""
        editor = self.session.editor
        if revision != str(self.revision) or place >= len(editor.edits):
            return
        edit = editor.edits[place]
        if what == "remove":
            editor.remove(place)
        elif what == "pick":
            self.session.pick_edit(edit)
        else:
            editor.change(place, edit.changed(enabled=what == "on"))
