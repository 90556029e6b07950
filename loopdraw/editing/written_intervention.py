"""An edit list as a `loop_generation_intervention` function in Python.

The file takes the place of `loop_inference_intervention_func.py`. With the latent of the edit it
gives the very same loops, to the last bit. It needs NumPy only, and is written to be read and
changed.
"""

import inspect
import textwrap

import numpy as np

from loopdraw.files import write_text
from loopdraw.loops import geometry, representations


def save_intervention(path, representation, latent, edits, starting_loops):
    """Write an edit list as a `loop_generation_intervention` function.

    Parameters
    ----------
    path : path of the Python file
    representation : representations.Representation
    latent : (L,) float
    edits : list of Edit
    starting_loops : from `LoopEditor.starting_loops`
    """
    write_text(path, intervention_source(representation, latent, edits, starting_loops))


def intervention_source(representation, latent, edits, starting_loops):
    """The Python source that `save_intervention` writes; the same for the same edit."""
    edits = [edit for edit in edits if edit.acts()]
    kinds = [kind for kind in edits.NUMBERS if any(edit.kind == kind for edit in edits)]
    functions = edits.edit_functions(representation)
    rows = [
        (edit.kind, first, last, edit.arguments(first))
        for edit in edits
        # A loop that replaces another is one entry each.
        for first, last in (
            [(i, i) for i in range(edit.first, edit.last + 1)]
            if edit.kind == "replace"
            else [(edit.first, edit.last)]
        )
    ]
    parts = [
        _HEAD.format(edits="\n".join(f"    {edit.describe()}" for edit in edits) or "    none"),
        f"EDITS = {_python(rows)}\n",
    ]
    if starting_loops:
        latent = np.asarray(latent, dtype=np.float32).tolist()
        loops = {t: np.asarray(loop).tolist() for t, loop in sorted(starting_loops.items())}
        parts.append(
            _STARTING_LOOPS.format(
                latent=textwrap.fill(
                    repr(latent), 96, initial_indent="    ", subsequent_indent="    "
                ),
                loops=_python(loops),
            )
        )
    n_values = representation.n_features - representation.has_flag
    parts.append(
        _FUNCTION.format(
            n_values=n_values,
            loop="timestep[:N_VALUES]" + (".reshape(-1, 2)" if representation.is_polyline else ""),
            start=_USE_STARTING_LOOP if starting_loops else "",
        )
    )
    needed = [functions[kind] for kind in kinds]
    constants = ""
    if representation.is_polyline and set(kinds) - {"move"}:
        constants = "".join(
            f"{name} = {getattr(representations, name)!r}\n"
            for name in ("POLYLINE_POINTS", "START_TOLERANCE")
        )
        needed += [
            representations.canonical_polyline,
            geometry.resample_loop,
            geometry.following,
            geometry.signed_area,
        ]
    elif not representation.is_polyline:
        needed += [edits.map_ellipse] if {"scale", "rotate"} & set(kinds) else []
        needed += [representations.fit_ellipse] if "replace" in kinds else []
    # The very functions of the editor, so that the numbers are the same to the last bit.
    parts.append(_HELPERS + constants)
    parts += [inspect.getsource(function).replace("geometry.", "") for function in needed]
    names = "".join(f'    "{kind}": {functions[kind].__name__},\n' for kind in kinds)
    parts.append(f"CHANGES = {{\n{names}}}\n")
    return "\n\n".join(parts)


def _python(items):
    """A list or dict as Python source, an item a line, long ones wrapped."""
    named = isinstance(items, dict)
    lines = [
        textwrap.fill(
            (f"{key}: " if named else "") + f"{item!r},",
            width=100,
            initial_indent="    ",
            subsequent_indent="        ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for key, item in (items.items() if named else enumerate(items))
    ]
    brackets = "{}" if named else "[]"
    return "\n".join([brackets[0], *lines, brackets[1]])


_HEAD = '''"""Loops edited by hand, as an intervention function. Written by LoopDraw's editor.

{edits}

To use it, copy it over loop_inference_intervention_func.py and submit actions with --intervene.
With the latent that it was made with, it gives the loops that the editor showed. It needs nothing
but NumPy, so change it as you like.
"""

import numpy as np

# What happens to a loop, first and last loop (counted from 0), and the numbers that go with it, in
# the (u, v) coordinates of the loops and in degrees.'''

_STARTING_LOOPS = """\
# Edits of a range start from the loops that the shape had before them. These are they, for this
# latent; for another one the edits start from what is being generated.
LATENT = np.array(
{latent},
    dtype=np.float32,
)
STARTING_LOOPS = {loops}
"""

_FUNCTION = '''N_VALUES = {n_values}  # of a timestep, without the flag


def loop_generation_intervention(dataset, ts_i_state, ts):
    """Called for each loop in turn: `ts` is a (1, F) tensor, normalised; returns the new one."""
    i = ts_i_state()
    ts_i_state.modify(lambda number: number + 1)
    edits = [edit for edit in EDITS if edit[1] <= i <= edit[2]]
    if not edits:
        return ts
    timestep = ts.cpu().numpy()[0] * dataset.dataset_std + dataset.dataset_mean
{start}    loop = {loop}
    for kind, _, _, values in edits:
        loop = CHANGES[kind](loop, **values)
    timestep[:N_VALUES] = loop.ravel()
    return ts.new_tensor(((timestep - dataset.dataset_mean) / dataset.dataset_std)[None])
'''

_USE_STARTING_LOOP = """    latent = ts_i_state.retrieve("latent_z").cpu().numpy().ravel()
    if i in STARTING_LOOPS and np.array_equal(latent, LATENT):
        timestep = np.array(STARTING_LOOPS[i])
"""

_HELPERS = """# What the entries of EDITS do.
"""
