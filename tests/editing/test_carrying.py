"""Inserted loops are carried on until they join the rest, by another latent above them."""

import json

import numpy as np
import pytest
from small_loops import circle
from small_model import LATENT_SIZE, read_function, small_model

from loopdraw.editing.decoding import carrying
from loopdraw.editing.decoding.joints import joints
from loopdraw.editing.edit_files import load_edits, save_edits
from loopdraw.editing.editor import LoopEditor
from loopdraw.editing.edits import make_edit
from loopdraw.editing.interventions import decode_with_intervention
from loopdraw.editing.written_intervention import save_intervention
from loopdraw.files import UserError
from loopdraw.loops.geometry import make_planes

PLANES = make_planes("y", 10, -0.45, 0.45)
AWAY = [0.015, 0.06, 0.08, 0.06, 0.015]  # of a handle's loops from the body
SPECK = circle(0.02, (0.7, 0.0))


def stack(away=AWAY, first=2):
    """A body on all planes with a handle beside it, and the handle as an insert."""
    loops = [[circle(0.3)] for _ in range(10)]
    handle = [(first + i, circle(0.03, (0.33 + gap, 0.0))) for i, gap in enumerate(away)]
    for plane, loop in handle:
        loops[plane].append(loop)
    return loops, [handle]


# ---------------------------------------------------------------------------------- what is joined


def test_a_handle_closes_a_hole():
    loops, inserts = stack()
    plain = joints(PLANES, [loops[0]] * 10)
    assert plain[:4] == (1, 0, 0, 0)
    found = joints(PLANES, loops, inserts)
    assert found == (1, 1, 0, 0, True, True)
    assert found.is_sound(plain) and found.adds_a_hole(plain)
    assert not found.adds_a_hole(found)


def test_a_handle_that_ends_in_air_closes_none():
    found = joints(PLANES, *stack([0.015, 0.06, 0.08, 0.1, 0.1]))
    assert found == (1, 0, 1, 0, True, False)
    assert not found.is_sound(joints(PLANES, [[circle(0.3)]] * 10))


def test_a_handle_that_spoils_a_wall_is_not_sound():
    loops, inserts = stack()
    plain = joints(PLANES, [[circle(0.3), circle(0.2)]] * 10)
    for plane, of_plane in enumerate(loops):
        of_plane.append(circle(0.2, (0.15 if plane > 7 else 0.0, 0.0)))
    found = joints(PLANES, loops, inserts)
    assert found.is_closed and found.n_crossing == 2
    assert not found.is_sound(plain)


def test_what_floats_is_not_held():
    found = joints(PLANES, *stack([0.3, 0.3, 0.3]))
    assert (found.n_parts, found.n_holes, found.is_held, found.is_closed) == (2, 0, False, False)


def test_a_hollow_that_is_inserted_is_no_handle():
    loops = [[circle(0.3)] for _ in range(10)]
    inside = [(plane, circle(0.1)) for plane in (4, 5)]
    for plane, loop in inside:
        loops[plane].append(loop)
    found = joints(PLANES, loops, [inside])
    assert found.is_held and found.is_closed and found.n_holes == 0


def test_no_loops_hang_together_in_no_way():
    assert joints(PLANES, [[] for _ in range(10)]) == (0, 0, 0, 0, False, False)


# ---------------------------------------------------------------------------- another latent above


@pytest.fixture(scope="module", params=[("transformer", 4), ("lstm", 0)], ids=["plan", "lstm"])
def model(request):
    return small_model(*request.param)


def insert(first, last):
    return make_edit("insert", first, last, loops=[SPECK])


OWN, OTHER = np.full(LATENT_SIZE, 0.3), np.full(LATENT_SIZE, -1.0)


def test_the_other_latent_makes_what_lies_above_the_last_insert(model):
    edits = [insert(3, 5), make_edit("move", 1, 1, u=0.02)]
    plain = LoopEditor(model, OWN, edits).shape
    editor = LoopEditor(model, OWN, edits, onward=OTHER)
    n = int((plain.planes <= 5).sum())
    np.testing.assert_array_equal(editor.shape.sequence[:n], plain.sequence[:n])
    assert (editor.shape.sequence[n:] != plain.sequence[n:]).any()
    same = LoopEditor(model, OWN, edits, onward=OWN).shape
    np.testing.assert_array_equal(same.sequence, plain.sequence)
    np.testing.assert_array_equal(editor.untouched.sequence, LoopEditor(model, OWN).shape.sequence)
    # It is of no use where nothing is inserted, or what was there goes on.
    for of in ({"edits": edits[1:]}, {"edits": edits, "after": 0}):
        with_other = LoopEditor(model, OWN, onward=OTHER, **of).shape
        np.testing.assert_array_equal(
            with_other.sequence, LoopEditor(model, OWN, **of).shape.sequence
        )


def test_it_holds_while_inserts_are_dragged_and_goes_with_the_latent(model):
    editor = LoopEditor(model, OWN, [insert(3, 5)], onward=OTHER)
    for u in (0.01, 0.02, 0.03):
        editor.change(0, editor.edits[0].changed(u=u), part_of="drag")
        fresh = LoopEditor(model, OWN, editor.edits, onward=OTHER).shape
        np.testing.assert_array_equal(editor.shape.sequence, fresh.sequence)
    editor.set_latent(OWN + 0.1)
    assert editor.onward is None
    editor.undo()
    assert editor.onward is not None
    with pytest.raises(UserError, match="4 finite numbers"):
        LoopEditor(model, OWN, onward=[1.0])


def test_files_and_functions_keep_it(model, tmp_path):
    edits = [insert(3, 5)]
    editor = LoopEditor(model, OWN, edits, onward=OTHER)
    path, representation = tmp_path / "edit.json", model.info.representation
    save_edits(path, representation, OWN, edits, onward=OTHER)
    read = load_edits(path)
    assert json.loads(path.read_text())["version"] == 3
    np.testing.assert_array_equal(read.onward_of(OWN), OTHER)
    assert read.onward_of(OWN + 0.1) is None
    path.write_text(path.read_text().replace("-1.0, ", "", 1))
    with pytest.raises(UserError, match="its onward has 3 numbers"):
        load_edits(path)
    path = tmp_path / "function.py"
    save_intervention(path, representation, OWN, edits, None, editor.put_loops())
    sequence = decode_with_intervention(model, OWN, read_function(path))
    np.testing.assert_allclose(sequence, editor.shape.sequence, atol=1e-5)


def test_what_is_found_belongs_to_the_insert(model, monkeypatch):
    def carry_on(model, decoder, edits, onward=None):
        yield
        return OTHER if onward is None else None

    monkeypatch.setattr(carrying, "carry_on", carry_on)
    editor = LoopEditor(model, OWN)
    editor.carry_on()  # nothing is inserted
    assert editor.onward is None
    editor.add(insert(3, 5))
    shape = editor.shape
    assert editor.carry_on_a_little() and editor.shape is shape
    assert not editor.carry_on_a_little() and editor.shape is not shape
    np.testing.assert_array_equal(editor.onward, OTHER)
    assert not editor.carry_on_a_little()
    editor.undo()
    assert editor.onward is None and not editor.edits
    editor.redo()
    np.testing.assert_array_equal(editor.onward, OTHER)
    editor.set_after(0)
    assert not editor.carry_on_a_little()
    as_saved = LoopEditor(model, OWN, [insert(3, 5)])
    as_saved.leave_as_it_is()
    as_saved.carry_on()
    assert as_saved.onward is None


def test_untrained_models_leave_it_at_that(model):
    """No way to go on helps here, and nothing changes."""
    editor = LoopEditor(model, OWN, [insert(3, 5)])
    shape = editor.shape
    editor.carry_on()
    np.testing.assert_array_equal(editor.shape.sequence, shape.sequence)
