"""Pictures, windows and the page in the browser. The room can be called: `loopdraw.view(a, b)`."""

import sys
import types


class _Room(types.ModuleType):
    def __call__(self, *shapes, host=None):
        """Show shapes on a page in the browser, small ones to choose from and some side by side.

        In a script it returns when Ctrl-C ends the page; in a notebook or at Python's prompt it
        returns at once.

        Parameters
        ----------
        shapes : Shapes, or paths of `.obj` files, whose loops are drawn if they lie beside them
        host : address of this machine to listen on; by default only this machine can connect

        Returns
        -------
        loopdraw.view.browser.page.Page, the open page; `close()` closes it

        Raises
        ------
        UserError
            When a file cannot be read, or no page can be opened.
        """
        from loopdraw.view.browser.page import show_all

        return show_all(shapes, host)


# `loopdraw.view` is this package and a function in one.
sys.modules[__name__].__class__ = _Room
