"""The page as a whole: a server, the shapes of the session, and now and then an editor.

`open_page` opens it. Viser is imported then, and not before.
"""

import contextlib
import sys
import threading
import time
from pathlib import Path

from loopdraw.files import UserError
from loopdraw.view.browser.canvas import Canvas, frame
from loopdraw.view.browser.events import TOO_LATE, Events
from loopdraw.view.browser.results import MOST_SHAPES, Results
from loopdraw.view.browser.server import Server, escape

INLINE_HEIGHT = 480  # pixels, of a view in a notebook


def open_page(host=None, title="Shapes"):
    """Open the page.

    Parameters
    ----------
    host : address to listen on; by default this machine alone can connect
    title : str, over the pictures of the shapes

    Returns
    -------
    Page

    Raises
    ------
    UserError
        When viser is not installed, or nothing can listen there.
    """
    return Page(Server(host), title)


def show_all(shapes, host=None, wait=None):
    """Show shapes on a page of their own.

    Parameters
    ----------
    shapes : objects with a method `scene`, or paths of `.obj` files
    host : address to listen on; by default this machine alone can connect
    wait : bool, return when Ctrl-C ends the page; by default unless Python is used by hand

    Returns
    -------
    Page

    Raises
    ------
    UserError
        When a file cannot be read, or no page can be opened.
    """
    from loopdraw.view.gallery import Settings, load_scene

    if not shapes:
        raise UserError("view: nothing to show; name shapes, or .obj files")
    chosen = shapes[:MOST_SHAPES]
    scenes = [
        ("shape", shape.scene())
        if hasattr(shape, "scene")
        else (Path(shape).stem, load_scene(shape, Settings()))
        for shape in chosen
    ]
    page = open_page(host, "Gallery")
    for title, scene in reversed(scenes):  # the last one stands first
        page.show(title, scene)
    print(*page.server.greeting(), sep="\n")
    if len(shapes) > len(chosen):
        print(f"these are the first {len(chosen)} of {len(shapes)} shapes")
    by_hand = hasattr(sys, "ps1") or "IPython" in sys.modules
    if wait or (wait is None and not by_hand):
        page.wait()
    return page


def inline_view(scene, height=INLINE_HEIGHT):
    """HTML that shows a scene.Scene in a notebook, to be turned with the mouse.

    It is complete in itself, so it needs no server, and stays in the saved notebook.
    """
    server = Server()
    try:
        canvas = Canvas(server, "shape")
        canvas.draw_loops(scene)
        canvas.draw_surface(scene.mesh)
        frame(server, scene.points())
        page = server.scene.as_html()
    finally:
        server.stop()
    return (
        f'<div><iframe srcdoc="{escape(page)}" width="100%" height="{height}" '
        'style="border:1px solid #ddd"></iframe></div>'
    )


class Page:
    """The open page.

    Parameters
    ----------
    server : server.Server
    title : str
    """

    def __init__(self, server, title="Shapes"):
        self.server = server
        self.events = Events()
        self.results = Results(server, self.events, title)
        self.editor = None  # while a shape is edited
        self.results.open()
        self.events.start(server.perform)

    def show(self, title, scene):
        """Put a scene.Scene on the page, soon."""
        self.events.put(self.results.add, title, scene)

    def edit(self, session, title):
        """Let people edit a shape on the page, until somebody presses the button, or Ctrl-C.

        Parameters
        ----------
        session : session.EditSession
        title : str

        Returns
        -------
        bool : True, as `edit_window.edit_in_window` where a window could be shown
        """
        print(f"edit at {self.server.address} ; Ctrl-C here ends it, too", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            self._edit(session, title, "done: back to the prompt")
        return True

    def _edit(self, session, title, done):
        from loopdraw.surface.workers import LatestSurface
        from loopdraw.view.browser.editor import Editor

        # The thread of the results must not draw while the page is the editor's.
        self.events.ask(self.results.close).result()
        events = Events()
        try:
            with LatestSurface() as surfaces:
                editor = Editor(self.server, events, session, surfaces, title, done)
                self.editor = editor
                try:
                    if events.run(self.server.perform, editor.follow, lambda: editor.is_done):
                        self.server.notify(f"the editor is closed; {TOO_LATE}", is_error=True)
                finally:
                    editor.close()
        finally:
            self.editor = None
            self.events.ask(self.results.open).result()

    def start_editing(self, session, title):
        """As `edit`, in a thread, so that a notebook goes on; returns the thread."""
        thread = threading.Thread(target=self._edit, args=(session, title, "done"), daemon=True)
        thread.start()
        while self.editor is None and thread.is_alive():
            time.sleep(0.01)
        return thread

    def settle(self):
        """Wait until all that was put on the page so far is there."""
        with contextlib.suppress(UserError):
            self.events.ask(lambda: None).result()

    def wait(self):
        """Keep the page open until Ctrl-C."""
        print(f"{self.server.address} stays open until Ctrl-C", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
        self.close()

    def close(self):
        """Close the page."""
        self.events.stop()
        self.server.stop()
