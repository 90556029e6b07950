"""The user's editing function, read from its file again and again while they change it."""

import contextlib
import itertools
import sys
import traceback
import types
from pathlib import Path

import numpy as np
import torch

from loopdraw.files import UserError

ENTRY_POINT = "loop_generation_intervention"
# Functions that undo and redo the normalisation of every loop change all of them a little; what
# differs by less than this, in standard deviations, is no edit.
ROUNDING = 1e-4


class Intervention:
    """The user's editing function, read from its file again before each run."""

    def __init__(self, path):
        self.path = Path(path)
        self.function = None

    def reload(self):
        """Run the file anew. One that fails leaves the last good function in place.

        Returns
        -------
        list of str : why it failed; empty when it did not

        Raises
        ------
        UserError
            When it fails and no version of it has worked yet.
        """
        # Not through importlib: its bytecode cache takes two edits within a second for one.
        module = types.ModuleType(self.path.stem)
        module.__file__ = str(self.path)
        before = sys.modules.get(module.__name__)
        sys.modules[module.__name__] = module  # where classes defined in it look for it
        try:
            exec(compile(self.path.read_bytes(), str(self.path), "exec"), module.__dict__)
            function = getattr(module, ENTRY_POINT, None)
            if not callable(function):
                raise UserError(f"{self.path.name}: defines no function {ENTRY_POINT}")
        except (Exception, SystemExit) as error:
            sys.modules[module.__name__] = before
            reason = self._explain(error)
            if self.function is None:
                raise UserError(f"{reason}; mend the file and run again") from None
            return [f"{reason}; going on with its last good version"]
        self.function = function
        return []

    @contextlib.contextmanager
    def explaining_errors(self):
        """Turn what goes wrong in the function, or with what it returns, into a `UserError`."""
        try:
            yield
        except Exception as error:
            raise UserError(self._explain(error)) from error

    def _explain(self, error):
        """One line on an error, with the line of the user's file where it came about."""
        text = " ".join(str(error).split())
        if isinstance(error, SyntaxError) and error.filename == str(self.path):
            return f"{self.path.name}:{error.lineno}: {type(error).__name__}: {error.msg}"
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self.path)]
        if lines:
            return f"{self.path.name}:{lines[-1]}: {type(error).__name__}: {text}"
        return text or type(error).__name__


def noting_edits(function, edited):
    """The user's function, with the numbers of the loops that it changes put into a set."""
    numbers = itertools.count()

    def noting(dataset, state, ts):
        before = ts.cpu().numpy().flatten()  # a copy: the function may change ts in place
        answer = function(dataset, state, ts)
        timestep = answer[0] if isinstance(answer, tuple) else answer
        after = torch.as_tensor(timestep).detach().cpu().numpy().ravel()
        number = next(numbers)
        if after.shape == before.shape and not np.abs(after - before).max() < ROUNDING:
            edited.add(number)
        return answer

    return noting
