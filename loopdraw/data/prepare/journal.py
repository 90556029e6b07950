"""A list of the meshes that are done, so that a run which is stopped can be continued."""

import contextlib
import json
import os

JOURNAL_VERSION = 1  # another one starts anew what an older version had begun


class Journal:
    """Results by path, kept in a file with one line each, written as they come.

    A result counts as long as the file it was made from has not changed. The list starts anew if it
    was made with other settings.

    Parameters
    ----------
    path : Path of the list
    kind : type of the results, a NamedTuple of what JSON can hold
    settings : dict, of what JSON can hold
    """

    def __init__(self, path, kind, settings):
        self.results = {}
        self.kind = kind
        self._stamps = {}
        head = json.dumps([JOURNAL_VERSION, settings])
        lines = []
        with contextlib.suppress(OSError, UnicodeDecodeError):
            lines = path.read_text(encoding="ascii").splitlines()
        if not lines or lines[0] != head:
            path.unlink(missing_ok=True)
            lines = []
        for line in lines[1:]:
            with contextlib.suppress(ValueError, TypeError):  # the last may have been cut short
                name, stamp, *values = json.loads(line)
                self.results[name], self._stamps[name] = kind(*values), stamp
        self._file = open(path, "a", encoding="ascii")  # closed by `close`
        # An end for a line that was cut short.
        self._file.write("\n" if lines else f"{head}\n")
        self._file.flush()

    def has(self, path):
        """Whether there is a result that still counts."""
        return path in self.results and self._stamps[path] == _stamp(path)

    def add(self, path, result, stamp):
        """Add a result; one that failed is not kept for the next run."""
        self.results[path] = result
        if result.reason is None:
            self._stamps[path] = stamp
            self._file.write(json.dumps([path, stamp, *result]) + "\n")
            self._file.flush()

    def close(self):
        self._file.close()


def _stamp(path):
    """By what one sees that a file has changed: its size and time of change."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def stamps(paths):
    """The stamp of each path, for `Journal.add`; taken before the work, so that changes show."""
    return {path: _stamp(path) for path in paths}
