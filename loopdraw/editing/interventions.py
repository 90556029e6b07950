"""The user's editing function: what it gets, what its answers do, and the file it is read from.

An intervention function `loop_generation_intervention(dataset, ts_i_state, ts)` sees every loop
before the decoder gets it as its next input. So when it moves one loop, all later ones follow.
"""

import contextlib
import dis
import inspect
import sys
import traceback
import types
from pathlib import Path

import numpy as np
import torch

from loopdraw.editing.decoding.shape import checked_latent
from loopdraw.files import UserError
from loopdraw.threads import threads_for

ENTRY_POINT = "loop_generation_intervention"
# Functions that undo and redo the normalisation of every loop change all of them a little; what
# differs by less than this, in standard deviations, is no edit.
ROUNDING = 1e-4


class InterventionState:
    """What an intervention function keeps from one timestep of a shape to the next.

    Calling it gives the index of the current loop. The function itself advances the index, with
    `state.modify(lambda i: i + 1)`. `retrieve("latent_z")` is the (1, latent size) latent of the
    shape, `retrieve("latent_size")` its size; other keys are the function's own.
    """

    def __init__(self, latent):
        self._index = 0
        self._values = {"latent_z": latent, "latent_size": latent.shape[-1]}

    def __call__(self):
        return self._index

    def modify(self, function):
        """Replace the index by `function(index)`."""
        self._index = function(self._index)

    def put(self, value):
        """Set the index."""
        self._index = value

    def store(self, key, value):
        """Keep a value for later timesteps of this shape."""
        self._values[key] = value

    def retrieve(self, key):
        """The value kept under `key`; KeyError if there is none."""
        return self._values[key]


@torch.inference_mode()
def decode_with_intervention(model, latent, intervention, dataset=None, edited=None):
    """Decode one latent, passing every timestep through an intervention function.

    Parameters
    ----------
    model : vae.LoopSeqEncoderDecoderModel
    latent : (L,) or (1, L) float
    intervention : function (dataset, ts_i_state, ts)
        Takes a normalised timestep (1, F) and returns the new one, or a tuple of it and a function
        from the latent (1, L) to one that conditions all further steps.
    dataset : what the function gets as its dataset; the model's info by default
    edited : set, optional
        Gets the numbers of the timesteps that the function changed.

    Returns
    -------
    (T, F) float32, not normalised, flags between 0 and 1; zeros after its end

    Raises
    ------
    UserError
        When the function returns something unusable, or a new latent with arch version 0. What
        the function itself raises comes through as it is.
    """
    info = model.info
    dataset = info if dataset is None else dataset
    latent = torch.tensor(
        checked_latent(latent, model.latent_size), dtype=torch.float32, device=model.device
    )[None]
    memory = InterventionState(latent)
    normalised = latent.new_zeros(info.n_timesteps, info.representation.n_features)
    timestep = torch.zeros_like(normalised[:1])  # (1, F)
    model.eval()
    with threads_for(1):
        state = model.decoder.begin(latent)
        for t in range(info.n_timesteps):
            timestep = model.decoder.step(state, timestep)
            if info.representation.has_flag:
                timestep[:, -1].sigmoid_()
            answer = intervention(dataset, memory, timestep.clone())
            new, change_latent = _parts(answer, intervention, t)
            new = _as_tensor(new, timestep, intervention, f"timestep of loop {t}")
            if edited is not None and (new - timestep).abs().max() >= ROUNDING:
                edited.add(t)
            normalised[t] = timestep = new
            if change_latent is not None:
                what = f"latent after loop {t}"
                latent = _as_tensor(change_latent(latent.clone()), latent, change_latent, what)
                try:
                    model.decoder.recondition(state, latent)
                except ValueError as error:
                    raise UserError(f"{_place(intervention)}{error}") from None
                memory.store("latent_z", latent)
    normalised = normalised.cpu().numpy()
    sequence = info.unnormalise(normalised).astype(np.float32)
    sequence[model.lengths(normalised[None])[0] :] = 0
    return sequence


def _parts(answer, function, t):
    """The timestep that a function returned, and its function of the latent or None."""
    if not isinstance(answer, tuple):
        return answer, None
    if len(answer) != 2 or not (answer[1] is None or callable(answer[1])):
        kinds = ", ".join(type(part).__name__ for part in answer)
        raise UserError(
            f"{_place(function)}a tuple ({kinds}) was returned for loop {t}; it must be a "
            "timestep and a function of the latent"
        )
    return answer


def _as_tensor(value, like, function, what):
    """What a user's function returned, in the shape, type and place of the tensor `like`."""
    try:
        value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    except Exception:
        problem = f"of type {type(value).__name__}"
    else:
        if value.numel() != like.numel():
            problem = f"of shape {tuple(value.shape)}"
        elif not torch.isfinite(value).all():
            problem = "that is not finite"
        else:
            return value.reshape(like.shape)
    raise UserError(
        f"{_place(function)}the function returned a {what} {problem}; it must be "
        f"{tuple(like.shape)} and finite"
    )


def _place(function):
    """ "file.py:12: ", the file of a function and the lines where it returns, where known."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return ""
    returns = (
        i for i in dis.get_instructions(code) if i.opname in ("RETURN_VALUE", "RETURN_CONST")
    )
    lines = sorted({i.positions.lineno for i in returns if i.positions.lineno})
    return f"{Path(code.co_filename).name}:{','.join(map(str, lines))}: "


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
        try:
            with self.explaining_errors():
                sys.modules[module.__name__] = module  # where classes defined in it look for it
                exec(compile(self.path.read_bytes(), str(self.path), "exec"), module.__dict__)
                function = getattr(module, ENTRY_POINT, None)
                if not callable(function):
                    raise UserError(f"defines no function {ENTRY_POINT}")
        except BaseException as error:
            sys.modules.pop(module.__name__, None)
            if before is not None:
                sys.modules[module.__name__] = before
            if not isinstance(error, UserError):
                raise
            if self.function is None:
                raise UserError(f"{error}; mend the file and run again") from None
            return [f"{error}; going on with its last good version"]
        self.function = function
        return []

    @contextlib.contextmanager
    def explaining_errors(self):
        """Run the user's code: whatever it raises becomes a `UserError` of one line.

        Ctrl-C still comes through. `sys.exit()` in the user's code ends only the code, and closing
        `sys.stdout` has no effect.
        """
        kept = sys.stdin, sys.stdout, sys.stderr
        sys.stdin, sys.stdout, sys.stderr = map(_Unclosable, kept)
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise UserError(self._explain(error)) from error
        finally:
            sys.stdin, sys.stdout, sys.stderr = kept

    def _explain(self, error):
        """One line on an error: the user's file, the line in it where known, and what happened."""
        file, text = self.path.name, " ".join(str(error).split())
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        if isinstance(error, SyntaxError) and error.filename == str(self.path):
            return f"{file}:{error.lineno}: {kind}{error.msg}"
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self.path)]
        if lines:
            return f"{file}:{lines[-1]}: {kind}{text}"
        return text if text.startswith(f"{file}:") else f"{file}: {kind}{text}"


class _Unclosable:
    """A stream of the program, as the user's code sees it."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def __iter__(self):
        return iter(self._stream)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    @property
    def buffer(self):
        return _Unclosable(self._stream.buffer)

    def detach(self):
        """What is beneath the stream, which keeps it."""
        return self.buffer

    def close(self):
        """Leave the stream open."""
