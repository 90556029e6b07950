"""The page as a whole: a server, the shapes of the session, and now and then an editor.

`open_page` opens it. Viser is imported then, and not before.
"""

import contextlib
import threading

from loopdraw.files import UserError
from loopdraw.view.browser.events import Events
from loopdraw.view.browser.results import Results
from loopdraw.view.browser.server import Server


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

    def edit(self, session, title, done="done: back to the prompt"):
        """Let people edit a shape on the page, until somebody presses the button, or Ctrl-C.

        Parameters
        ----------
        session : session.EditSession
        title : str
        done : what the button says

        Returns
        -------
        bool : True, as `edit_window.edit_in_window` where a window could be shown
        """
        from loopdraw.surface.workers import LatestSurface
        from loopdraw.view.browser.editor import Editor

        print(f"edit at {self.server.address} ; Ctrl-C here ends it, too", flush=True)
        # The thread of the results must not draw while the page is the editor's.
        self.events.ask(self.results.close).result()
        events = Events()
        try:
            with LatestSurface() as surfaces:
                editor = Editor(self.server, events, session, surfaces, title, done)
                self.editor = editor
                with contextlib.suppress(KeyboardInterrupt):
                    events.run(self.server.perform, editor.follow, lambda: editor.is_done)
                editor.close()
        finally:
            self.editor = None
            self.events.ask(self.results.open).result()
        return True

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
