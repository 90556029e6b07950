"""An edit list as a `loop_generation_intervention` function in Python.

The file takes the place of `loop_inference_intervention_func.py`. With the latent of the edit it
gives the very same loops, to the last bit. It is written to be read and changed.
"""

import textwrap

import numpy as np

from loopdraw.editing.edits import NUMBERS
from loopdraw.files import write_text

WIDTH = 100  # characters of a line


def save_intervention(path, representation, latent, edits, starting_loops, put_loops=None):
    """Write an edit list as a `loop_generation_intervention` function.

    Parameters
    ----------
    path : path of the Python file
    representation : representations.Representation
    latent : (L,) float
    edits : list of Edit
    starting_loops : from `LoopEditor.starting_loops`
    put_loops : from `LoopEditor.put_loops`, for edits that are more than changes of loops by their
        number; then the function puts these loops, whatever the latent
    """
    source = intervention_source(representation, latent, edits, starting_loops, put_loops)
    write_text(path, source)


def intervention_source(representation, latent, edits, starting_loops, put_loops=None):
    """The Python source that `save_intervention` writes; the same for the same edit."""
    if put_loops is not None:
        loops = (f"{t}: {np.asarray(loop).tolist()}" for t, loop in sorted(put_loops.items()))
        described = "\n".join(f"    {e.describe()}" for e in edits if e.acts()) or "    none"
        return _PUT_LOOPS.format(edits=described, loops="{" + _items(loops) + "}")
    edits = [edit for edit in edits if edit.acts()]
    parts = [
        _HEAD.format(
            edits="\n".join(f"    {edit.describe()}" for edit in edits) or "    none",
            representation=representation.name,
            entries=_items(map(_entry, edits)),
        )
    ]
    if starting_loops:
        latent = np.asarray(latent, dtype=np.float32).tolist()
        loops = (f"{t}: {np.asarray(loop).tolist()}" for t, loop in sorted(starting_loops.items()))
        parts.append(
            _STARTING_LOOPS.format(latent=_wrapped(f"{latent!r},"), loops="{" + _items(loops) + "}")
        )
    parts.append(_FUNCTION.format(start=_USE_STARTING_LOOP if starting_loops else ""))
    return "\n".join(parts)


def _entry(edit):
    """`make_edit("move", 10, 12, u=0.05)`, without the values that change nothing."""
    plain = NUMBERS[edit.kind]
    values = [f"{k}={x!r}" for k, x in edit.values.items() if k not in plain or x != plain[k]]
    words = [f'"{edit.kind}"', str(edit.first), str(edit.last), *values]
    return f"make_edit({', '.join(words)})"


def _items(items):
    """Items of a list or dict as Python source, each on lines of its own."""
    return "\n" + "".join(f"{_wrapped(f'{item},')}\n" for item in items)


def _wrapped(text):
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=" " * 4,
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )


_HEAD = '''"""Loops edited by hand, as an intervention function. Written by LoopDraw's editor.

{edits}

To use it, copy it over loop_inference_intervention_func.py and submit actions with --intervene.
With the latent that it was made with, it gives the loops that the editor showed. Change it as you
like.
"""

import numpy as np

from loopdraw.editing.edits import apply_edits, make_edit
from loopdraw.loops.representations import REPRESENTATIONS

REPRESENTATION = REPRESENTATIONS["{representation}"]

# What happens to a loop, the first and the last loop that it happens to (counted from 0), and how
# much, in the (u, v) coordinates of the loops and in degrees.
EDITS = [{entries}]
'''

_STARTING_LOOPS = """
# Edits of several loops start from the loops that the shape had before them. These are those loops
# for this latent. For any other latent the edits start from the loops as they are generated.
LATENT = np.array(
{latent}
    dtype=np.float32,
)
STARTING_LOOPS = {loops}
"""

_FUNCTION = '''
def loop_generation_intervention(dataset, ts_i_state, ts):
    """Called for each loop in turn: `ts` is a (1, F) tensor, normalised; returns the new one."""
    i = ts_i_state()
    ts_i_state.modify(lambda number: number + 1)
    edits = [edit for edit in EDITS if edit.covers(i)]
    if not edits:
        return ts
    timestep = ts.cpu().numpy()[0] * dataset.dataset_std + dataset.dataset_mean
{start}    timestep = apply_edits(timestep, edits, i, REPRESENTATION)
    return ts.new_tensor(((timestep - dataset.dataset_mean) / dataset.dataset_std)[None])
'''

_USE_STARTING_LOOP = """    latent = ts_i_state.retrieve("latent_z").cpu().numpy().ravel()
    if i in STARTING_LOOPS and np.array_equal(latent, LATENT):
        timestep = np.array(STARTING_LOOPS[i])
"""

_PUT_LOOPS = '''"""Loops edited by hand, as an intervention function. Written by LoopDraw's editor.

{edits}

To use it, copy it over loop_inference_intervention_func.py and submit actions with --intervene.
With the latent that it was made with, it gives the loops that the editor showed. Change it as you
like.
"""

import numpy as np

# The loops that are not what the decoder generates after those before them, by their timestep.
LOOPS = {loops}


def loop_generation_intervention(dataset, ts_i_state, ts):
    """Called for each loop in turn: `ts` is a (1, F) tensor, normalised; returns the new one."""
    i = ts_i_state()
    ts_i_state.modify(lambda number: number + 1)
    if i not in LOOPS:
        return ts
    timestep = (np.array(LOOPS[i]) - dataset.dataset_mean) / dataset.dataset_std
    return ts.new_tensor(timestep[None])
'''
