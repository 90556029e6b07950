"""Edit lists as files, `inference-#-edit.json`: the edits with their latent, complete in itself.

{"format": "LoopDraw edit", "version": 1, "loop_repr_type": "fixed-res-polyline",
 "latent": [0.1, ...],
 "edits": [{"kind": "move", "first": 10, "last": 12, "u": 0.05, "v": 0.0, "enabled": true}]}
"""

import json
from typing import NamedTuple

import numpy as np

from loopdraw.editing import edits
from loopdraw.editing.edits import Edit
from loopdraw.files import UserError, read_text, write_text
from loopdraw.loops.representations import REPRESENTATIONS

FORMAT, VERSION = "LoopDraw edit", 1
FIELDS = ("kind", "first", "last", "enabled")


class EditFile(NamedTuple):
    """What an edit file holds."""

    representation: object  # representations.Representation
    latent: np.ndarray  # (L,) float64
    edits: list  # of Edit


def save_edits(path, representation, latent, edits):
    """Write an edit list with its latent (L,) as JSON."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "loop_repr_type": representation.name,
        "latent": np.asarray(latent, dtype=np.float64).tolist(),
        "edits": [
            {"kind": e.kind, "first": e.first, "last": e.last, **e.values, "enabled": e.enabled}
            for e in edits
        ],
    }
    # One line for each entry: short enough to read, and a diff shows what changed.
    entries = ",\n".join(
        f"  {json.dumps(key)}: "
        + (_lines(value) if key == "edits" else json.dumps(value, allow_nan=False))
        for key, value in content.items()
    )
    write_text(path, f"{{\n{entries}\n}}\n")


def _lines(values):
    return "[\n" + ",\n".join(f"    {json.dumps(v, allow_nan=False)}" for v in values) + "\n  ]"


def load_edits(path):
    """Read an edit file.

    Returns
    -------
    EditFile

    Raises
    ------
    UserError
        When the file is missing, no edit file, or damaged.
    """
    text = read_text(path, "an edit file (.json)")
    try:
        return _read(json.loads(text))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not JSON (line {error.lineno}: {error.msg}); expected an edit file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {error}") from None


def _read(content):
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError("no edit file; the edit window and `edit` write them")
    if content.get("version") != VERSION:
        raise ValueError(
            f"an edit file of version {content.get('version')!r}, and this program reads "
            f"version {VERSION}; use the program that wrote it"
        )
    name = content.get("loop_repr_type")
    if not isinstance(name, str) or name not in REPRESENTATIONS:
        raise ValueError(f"loop_repr_type {name!r} is none of {', '.join(REPRESENTATIONS)}")
    latent = content.get("latent")
    if not isinstance(latent, list) or not latent or not all(map(_is_number, latent)):
        raise ValueError("its latent is no list of finite numbers")
    entries = content.get("edits")
    if not isinstance(entries, list):
        raise ValueError("it has no list of edits")
    edits = [_read_edit(entry, f"edit {i + 1}") for i, entry in enumerate(entries)]
    return EditFile(REPRESENTATIONS[name], np.array(latent, dtype=np.float64), edits)


def _is_number(value):
    try:
        edits.checked_number(value, "")
    except ValueError:
        return False
    return True


def _read_edit(entry, what):
    if not isinstance(entry, dict):
        raise ValueError(f"{what} is no {{...}} with a kind, first, last and values")
    values = {name: value for name, value in entry.items() if name not in FIELDS}
    try:
        return Edit(
            entry.get("kind"),
            entry.get("first"),
            entry.get("last"),
            values,
            entry.get("enabled", True),
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what}: {error}") from None


def check_edits(edit_file, info):
    """ValueError, with the reason, when a model cannot take the edits of a file.

    `info` is the `dataset.DatasetInfo` of the model. The latent in the file is another matter:
    edits may be applied to any.
    """
    if edit_file.representation != info.representation:
        raise ValueError(
            f"the edit was made for {edit_file.representation.name} loops, and the model has "
            f"{info.representation.name}; use the model that it was made with"
        )
    for i, edit in enumerate(edit_file.edits):
        try:
            edits.check_edit(edit, info.representation, info.n_timesteps)
        except ValueError as error:
            raise ValueError(f"edit {i + 1}: {error}") from None
