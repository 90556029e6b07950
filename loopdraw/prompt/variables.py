"""Latents and sequences by name: the inference REPL's variables, and values from files.

An *operand* is a value that an action names. It may be known already, or be drawn or looked up
only when the action runs.
"""

import difflib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loopdraw.editing.edit_files import load_edits
from loopdraw.files import UserError, read_text

LATENT_HELP = """\
A latent is written as one of
  ?         random: {prior},
            drawn when the action runs
  $name     a variable ("help assign", "help variables")
  |file     a text file of numbers, or an edit file (.json: the latent in it), relative to the
            working directory
  ||file    the same, relative to --save_dir
Quote a file name that has spaces: "|my latent.txt"."""

LOOPS_HELP = """\
A shape given by its loops is edited as it is, and not as the model knows it. It is written as
  $name.loops   the mesh that "encode name ..." has read
  $name         a variable that holds a sequence, such as $last_pred_seq
  |file.npz     a slices file, as --save writes it; its planes must be those of the model
  gt:<i>        item <i> of the dataset
  |file.json    an edit file, if it was made of such a shape"""

RUN_VARIABLES = {
    "last_z": "latent of the last shape decoded or reconstructed, (latent size,)",
    "last_pred_seq": "its sequence of loops, (timesteps, features), not normalised",
    "closest_data_matches": "of each sample of the last run that made any (4096 at most), the\n"
    "nearest training item: its index, the mean squared difference to it, (n, 2)",
    "diversity_stats": "number of those samples, of distinct nearest items, their ratio, (3,)",
}


@dataclass(eq=False)
class Operand:
    """A latent or a sequence that an action works on, as the user wrote it.

    `value` is None until it is known: a `?` is drawn, and the `$variable` that an earlier action
    in the queue will set is looked up, when the action runs. The n actions of one `interp` share
    their operands, so that its ends are drawn once.
    """

    text: str
    check: object  # function (array, what) -> array; raises UserError
    value: np.ndarray | None = None

    @property
    def is_sequence(self):
        """Whether it is known to be a sequence."""
        return self.value is not None and self.value.ndim == 2

    @property
    def awaited(self):
        """Name of the variable that a queued action has yet to set, or None."""
        return self.text[1:] if self.value is None and self.text.startswith("$") else None


class Variables:
    """The REPL's arrays by name. What describes the last samples is worked out when asked for."""

    def __init__(self, closest_matches):
        self._arrays = {}
        self._closest_matches = closest_matches
        self._samples = None  # sequences not compared with the dataset yet

    def __setitem__(self, name, array):
        self._arrays[name] = array

    def __contains__(self, name):
        return name in self._arrays

    def __getitem__(self, name):
        if name in ("closest_data_matches", "diversity_stats"):
            self._compare_samples()
        if name in self._arrays:
            return self._arrays[name]
        nearest = difflib.get_close_matches(name, self._arrays, n=1)
        if name in RUN_VARIABLES:
            hint = "`run` sets it" + ("" if name.startswith("last") else ", given a dataset")
        else:
            hint = f"did you mean {nearest[0]}?" if nearest else "`variables` lists them"
        raise UserError(f"no variable {name}; {hint}")

    def names(self):
        self._compare_samples()
        return sorted(self._arrays)

    def known_names(self):
        """The names, without comparing any samples first."""
        return sorted(self._arrays)

    def set_samples(self, sequences):
        self._samples = sequences
        for name in ("closest_data_matches", "diversity_stats"):
            self._arrays.pop(name, None)

    def _compare_samples(self):
        if self._samples is None:
            return
        matches = self._closest_matches(np.stack(self._samples))
        self._samples = None
        if matches is not None:
            n_distinct = len(np.unique(matches[:, 0]))
            self["closest_data_matches"] = matches
            self["diversity_stats"] = np.array(
                [len(matches), n_distinct, n_distinct / len(matches)]
            )


class ValueReader:
    """Reads latents and sequences from words: `?`, `$name`, `|file`, `||file`.

    Parameters
    ----------
    settings : LoopInferenceSettings
    variables : mapping of name to array, raising UserError for an unknown name
    read_given : function (word) that gives the GivenShape of a word of LOOPS_HELP, or None
    """

    def __init__(self, settings, variables, read_given=lambda word: None):
        self.settings = settings
        self.variables = variables
        self.read_given = read_given

    def path(self, word):
        """The file that `|file`, `||file` or a bare `file` names."""
        name = word.lstrip("|")
        if not name or word.startswith("|||"):
            raise UserError(f"{word!r} names no file; write |file or ||file")
        path = self.folder(word[: len(word) - len(name)]) / name
        try:
            path.is_file()
        except OSError as error:  # a name that is too long, a folder that nobody may look into
            raise UserError(f"{word[:60]}: cannot be read ({error.strerror})") from None
        return path

    def folder(self, bars):
        """The folder that file names after these bars are relative to."""
        return Path(self.settings.save_dir) if bars == "||" else Path()

    def read_file(self, path):
        """The numbers in a text file: (n,) for one row or column, else (rows, columns)."""
        if path.suffix == ".json":
            return load_edits(path).latent
        if not path.is_file():
            raise UserError(f"{path}: no such file; expected numbers as text there")
        text = read_text(path, what="a text file of numbers")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # an empty file is refused below
                array = np.loadtxt(io.StringIO(text), ndmin=2)
        except ValueError as error:
            reason = str(error).splitlines()[0].split(";")[0]
            raise UserError(f"{path}: not a text file of numbers ({reason})") from None
        if not array.size:
            raise UserError(f"{path}: holds no numbers")
        return array.ravel() if 1 in array.shape else array

    def check_latent(self, array, what):
        """`array` as a latent, (latent size,) float64; UserError naming `what` if it is none."""
        if array.size != self.settings.latent_size or array.size != max(array.shape):
            raise UserError(
                f"{what}: has shape {array.shape}; a latent of this model is "
                f"{self.settings.latent_size} numbers"
            )
        return self._finite(array, what).ravel()

    def check_sequence(self, array, what):
        """`array` as a sequence, (timesteps, features) float64."""
        if array.ndim != 2 or array.shape[1] != self.settings.n_features:
            raise UserError(
                f"{what}: has shape {array.shape}; a sequence of this model is "
                f"(timesteps, {self.settings.n_features})"
            )
        return self._finite(array, what)

    def check_either(self, array, what):
        """`array` as a latent or a sequence, whichever it is by its shape."""
        if array.ndim == 2 and 1 not in array.shape:
            return self.check_sequence(array, what)
        return self.check_latent(array, what)

    @staticmethod
    def _finite(array, what):
        if not np.isfinite(array).all():
            raise UserError(f"{what}: holds values that are not finite (NaN or infinite)")
        return np.asarray(array, dtype=np.float64)

    def operand(self, word, check, awaited=()):
        """The operand that a word names.

        Parameters
        ----------
        word : as typed
        check : `check_latent` or another of the checks above
        awaited : names that queued actions will set, which may be missing as yet
        """
        if word == "?" and check != self.check_sequence:
            return Operand(word, check)
        if word.startswith("|"):
            path = self.path(word)
            return Operand(word, check, check(self.read_file(path), path))
        if word.startswith("$") and len(word) > 1:
            if word[1:] in awaited and word[1:] not in self.variables:
                return Operand(word, check)
            return Operand(word, check, check(self.variables[word[1:]], word))
        raise UserError(f"{word!r} is no value; write ? or $name or |file or ||file")

    def shape(self, word, awaited=()):
        """What a word says of a shape: the `Operand`, and its GivenShape, if it has one already.

        The value of the operand may be a sequence, which is a shape given by its loops.
        """
        given = self.read_given(word)
        if given is not None:
            return Operand(word, self.check_latent, given.latent), given
        return self.operand(word, self.check_either, awaited), None

    def known_at_run(self, operand):
        """The value of an operand at the moment its action runs; None for `?`, which is drawn."""
        if operand.value is None and operand.awaited:
            return operand.check(self.variables[operand.awaited], operand.text)
        return operand.value

    def draw(self, generators):
        """A latent of each generator, (n, L): the values of as many `?`."""
        return self.settings.prior.draw_each(generators)
