"""Edit lists as files, `inference-#-edit.json`: the edits with their latent, complete in itself.

{"format": "LoopDraw edit", "version": 1, "loop_repr_type": "fixed-res-polyline",
 "latent": [0.1, ...],
 "edits": [{"kind": "move", "first": 10, "last": 12, "u": 0.05, "v": 0.0, "enabled": true}],
 "centres": {"10": [0.0, -0.2, 0.0], "11": [0.0, -0.17, 0.0], "12": [0.0, -0.14, 0.0]}}

`centres` says where the edited loops lay before they were changed. It shows whether the edits fit
another latent, and may be absent. Version 2 adds inserts and removes, and, where the loops of the
shape were given, the loops of each plane; and after how many planes the untouched shape goes on:

 "after": 0,
 "given": {"whole": true, "loops": [[[[0.1, 0.0], [0.0, 0.1], ...], ...], [], ...]}

Version 3 adds the latent above the last inserted loop, where it is another one:

 "onward": [0.2, ...]

A list is of version 2 or 3 only where it must be.
"""

import json
from typing import NamedTuple

import numpy as np

from loopdraw.editing.edits import Edit, check_edit, checked_loop, checked_number
from loopdraw.files import UserError, read_text, write_text
from loopdraw.loops.representations import REPRESENTATIONS

FORMAT, VERSION = "LoopDraw edit", 3
# Edits are said not to fit a shape when the centres of more than this share of the edited loops lie
# farther than this, in the lengths of the dataset, from where they lay when the edits were saved.
MOST_ELSEWHERE, ELSEWHERE = 0.1, 0.1
FIELDS = ("kind", "first", "last", "enabled")


class EditFile(NamedTuple):
    """What an edit file holds."""

    representation: object  # representations.Representation
    latent: np.ndarray  # (L,) float64
    edits: list  # of Edit
    centres: dict  # number of a loop -> (3,), see `EditedDecoder.starting_centres`; may be empty
    after: int | None = None  # see `EditedDecoder.decode`
    given: list | None = None  # the loops (k, 2) of each plane, where they were given
    is_whole: bool = True  # see `given.GivenShape`
    onward: np.ndarray | None = None  # (L,) float64, see `EditedDecoder.decode`

    def onward_of(self, latent):
        """The latent to go on with above inserted loops of the shape of a latent (L,).

        It was found for the file's own shape, and is None for others.
        """
        return self.onward if np.array_equal(latent, self.latent) else None

    def given_shape(self, model):
        """The `GivenShape` that the edits are of; None: the shape of a latent.

        Raises
        ------
        UserError
            When the model cannot take it.
        """
        if self.given is None:
            return None
        if len(self.given) > model.info.n_planes:
            raise UserError(
                f"the edit is of loops on {len(self.given)} planes, and the model has "
                f"{model.info.n_planes}; use the model that it was made with"
            )
        from loopdraw.editing.given import given_shape  # costs torch, which reading files need not

        shape = given_shape(model, self.given, self.latent)
        return shape if self.is_whole else shape.below(model.info.n_planes)


def save_edits(
    path, representation, latent, edits, centres=None, after=None, given=None, onward=None
):
    """Write an edit list with its latent as JSON.

    Parameters
    ----------
    path : path of the file
    representation : representations.Representation
    latent : (L,) float
    edits : list of Edit
    centres : dict from `LoopEditor.starting_centres`, optional
    after : int or None, see `EditedDecoder.decode`
    given : given.GivenShape that is edited, or None
    onward : (L,) float or None, see `EditedDecoder.decode`
    """
    needs_2 = after is not None or given is not None or any(edit.of_planes for edit in edits)
    content = {
        "format": FORMAT,
        "version": 3 if onward is not None else 2 if needs_2 else 1,
        "loop_repr_type": representation.name,
        "latent": np.asarray(latent, dtype=np.float64).tolist(),
        "edits": [
            {"kind": e.kind, "first": e.first, "last": e.last, **e.values, "enabled": e.enabled}
            for e in edits
        ],
    }
    if centres:
        content["centres"] = {
            str(t): np.round(centre, 4).tolist() for t, centre in sorted(centres.items())
        }
    if after is not None:
        content["after"] = int(after)
    if onward is not None:
        content["onward"] = np.asarray(onward, dtype=np.float64).tolist()
    if given is not None:
        loops = given.loops_by_plane(given.planes[-1] + 1)
        loops = [[loop.tolist() for loop in of_plane] for of_plane in loops]
        content["given"] = {"whole": given.is_whole, "loops": loops}
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
    if content.get("version") not in range(1, VERSION + 1):
        raise ValueError(
            f"an edit file of version {content.get('version')!r}, and this program reads "
            f"versions 1 to {VERSION}; use the program that wrote it"
        )
    name = content.get("loop_repr_type")
    if not isinstance(name, str) or name not in REPRESENTATIONS:
        raise ValueError(f"loop_repr_type {name!r} is none of {', '.join(REPRESENTATIONS)}")
    latent, onward = content.get("latent"), content.get("onward")
    for what, value in (("latent", latent), ("onward", latent if onward is None else onward)):
        if not isinstance(value, list) or not value or not all(map(_is_number, value)):
            raise ValueError(f"its {what} is no list of finite numbers")
    if onward is not None and len(onward) != len(latent):
        raise ValueError(f"its onward has {len(onward)} numbers, and its latent {len(latent)}")
    entries = content.get("edits")
    if not isinstance(entries, list):
        raise ValueError("it has no list of edits")
    edits = [_read_edit(entry, f"edit {i + 1}") for i, entry in enumerate(entries)]
    after = content.get("after")
    if after is not None and (isinstance(after, bool) or not isinstance(after, int) or after < 0):
        raise ValueError(f"after is {after!r}, not a number of planes")
    given, is_whole = _read_given(content.get("given"))
    return EditFile(
        REPRESENTATIONS[name],
        np.array(latent, dtype=np.float64),
        edits,
        _read_centres(content.get("centres", {})),
        after,
        given,
        is_whole,
        None if onward is None else np.array(onward, dtype=np.float64),
    )


def _read_given(content):
    if content is None:
        return None, True
    planes = content.get("loops") if isinstance(content, dict) else None
    is_list = isinstance(planes, list) and all(isinstance(loops, list) for loops in planes)
    if not is_list or not isinstance(content.get("whole"), bool):
        raise ValueError("its given loops are no {whole, loops: one list for each plane}")
    try:
        return [[checked_loop(loop) for loop in loops] for loops in planes], content["whole"]
    except ValueError as error:
        raise ValueError(f"its given loops: {error}") from None


def _read_centres(content):
    if not isinstance(content, dict):
        raise ValueError("its centres are no {loop: [x, y, z]}")
    centres = {}
    for number, point in content.items():
        is_point = isinstance(point, list) and len(point) == 3 and all(map(_is_number, point))
        if not (number.isdecimal() and len(number) < 10 and is_point):
            raise ValueError(f"its centre of loop {number[:20]!r} is no {{loop: [x, y, z]}}")
        centres[int(number)] = np.array(point, dtype=np.float64)
    return centres


def _is_number(value):
    try:
        checked_number(value, "")
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
    """UserError, with the reason, when a model cannot take the edits of a file.

    `info` is the `dataset.DatasetInfo` of the model. The latent in the file is not checked: edits
    may be applied to any.
    """
    if edit_file.representation != info.representation:
        raise UserError(
            f"the edit was made for {edit_file.representation.name} loops, and the model has "
            f"{info.representation.name}; use the model that it was made with"
        )
    for i, edit in enumerate(edit_file.edits):
        try:
            check_edit(edit, info.representation, info.n_timesteps, info.n_planes)
        except UserError as error:
            raise UserError(f"edit {i + 1}: {error}") from None


def warnings_about(edit_file, editor):
    """Lines to print when edits do less than they say, or meet other loops than when saved.

    Parameters
    ----------
    edit_file : EditFile
    editor : LoopEditor with the edits of the file, and any latent
    """
    warnings = warnings_of_loops_beyond(edit_file.edits, editor)
    centres = editor.starting_centres()
    elsewhere = [
        t
        for t, saved in edit_file.centres.items()
        if t not in centres or np.linalg.norm(centres[t] - saved) > ELSEWHERE
    ]
    if len(elsewhere) > MOST_ELSEWHERE * len(edit_file.centres):
        warnings.append(
            f"{len(elsewhere)} of the {len(edit_file.centres)} edited loops lie more than "
            f"{ELSEWHERE} from where they lay when the edits were saved; the edits may not fit "
            "this shape"
        )
    return warnings


def warnings_of_loops_beyond(edits, editor):
    """A line, in a list, where a `LoopEditor` has edits of loops that the shape does not reach."""
    n_loops = np.max(editor.shape.timesteps, initial=-1) + 1
    beyond = [edit for edit in edits if edit.acts() and edit.first >= n_loops]
    if not beyond:
        return []
    more = f", nor do {len(beyond) - 1} more edits" if len(beyond) > 1 else ""
    return [f"{beyond[0].describe()}: does nothing, as the shape has {n_loops} loops{more}"]
