"""Inserted and removed loops, shapes given by their loops, and their completion."""

import numpy as np
import pytest
from small_loops import circle
from small_model import EGG, LATENT_SIZE, N_PLANES, N_STEPS, small_model

from loopdraw.editing.editor import LoopEditor
from loopdraw.editing.edits import make_edit
from loopdraw.editing.given import GivenShape, complete, given_shape, given_slices
from loopdraw.files import UserError
from loopdraw.loops.geometry import make_planes
from loopdraw.loops.representations import canonical_polyline

MODELS = [
    ("transformer", 1, "fixed-res-polyline"),
    ("transformer", 4, "fixed-res-polyline"),
    ("transformer", 2, "ellipse-multiple"),
    ("lstm", 0, "fixed-res-polyline"),
]
SPECK = circle(0.02, (0.7, 0.0))


@pytest.fixture(scope="module", params=MODELS, ids=lambda p: "-".join(map(str, p)))
def any_model(request):
    flag_bias = 5.0 if request.param[1] in (1, 2) else None  # each loop opens a plane
    return small_model(*request.param, flag_bias=flag_bias)


@pytest.fixture(scope="module")
def planned():
    return small_model(version=4)


def hollow(first=0, last=9, inner=range(2, 9)):
    """Loops of a hollow shape: an outside on each plane from first to last, and an inside."""
    loops = [[] for _ in range(N_PLANES)]
    for plane in range(first, last + 1):
        loops[plane] = [EGG * (1 + 0.02 * plane)]
        if plane in inner:
            loops[plane] = [0.6 * loops[plane][0], *loops[plane]]
    return loops


def given(model, **kwargs):
    return given_shape(model, hollow(**kwargs), np.full(LATENT_SIZE, 0.3))


def editor_of(model, edits=(), after=None, **kwargs):
    shape = given(model, **kwargs)
    return LoopEditor(model, shape.latent, edits, shape, after)


def insert(first, last, loop=SPECK, **values):
    return make_edit("insert", first, last, loops=[loop], **values)


def assert_same_loops(some, others):
    assert len(some) == len(others)
    for a, b in zip(some, others, strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------ given shapes


def test_without_edits_a_given_shape_is_as_given(any_model):
    """Every point of it, although the model takes 32 of a loop; and on the planes it was on."""
    for first in (0, 3):
        shape = editor_of(any_model, first=first).shape
        for plane, loops in enumerate(hollow(first=first)):
            assert_same_loops(shape.loops_by_plane[plane], loops[::-1])
        assert not len(shape.edited) and not len(shape.regenerated)


def test_below_an_edit_a_given_shape_is_kept_and_above_it_generated(any_model):
    shape = editor_of(any_model, [make_edit("scale", 6, 6, u=1.5, v=1.5)]).shape
    plain = editor_of(any_model).shape
    place = int(np.flatnonzero(shape.numbers == 6)[0])
    assert_same_loops(shape.loops()[:place], plain.loops()[:place])
    np.testing.assert_array_equal(shape.sequence[:6], plain.sequence[:6])
    assert (shape.sequence[7] != plain.sequence[7]).any()
    np.testing.assert_array_equal(shape.edited, [place])
    np.testing.assert_array_equal(shape.regenerated, np.arange(place + 1, shape.n_loops))


def test_the_decoder_is_told_the_given_loops(any_model):
    """What comes above an edit depends on the loops below it, and on the latent."""
    edit = make_edit("replace", 6, 6, loops=[EGG])
    one = editor_of(any_model, [edit]).shape.sequence[7:]
    other = given_shape(any_model, [[1.3 * loop for loop in o] for o in hollow()], np.zeros(4))
    same_latent = LoopEditor(any_model, np.full(LATENT_SIZE, 0.3), [edit], other).shape
    assert (same_latent.sequence[7:] != one).any()
    assert (LoopEditor(any_model, np.zeros(4), [edit], other).shape.sequence[7:] != one).any()


def test_with_after_0_only_the_edited_loops_change(any_model):
    edits = [make_edit("move", 6, 7, u=0.1), insert(4, 5), make_edit("remove", 7, 7, loop=1)]
    shape = editor_of(any_model, edits, after=0).shape
    loops = hollow()
    plain = editor_of(any_model).shape
    for plane in (0, 1, 2, 3, 6, 8, 9):
        count = [len(o) for o in loops][plane]
        kept = [i for i in np.flatnonzero(shape.planes == plane) if i not in shape.edited]
        assert_same_loops(
            [shape.loops()[i] for i in kept],
            [
                loop
                for loop, n in zip(plain.loops_by_plane[plane], range(count), strict=True)
                if plain.numbers[plain.planes == plane][n] not in (6, 7)
            ],
        )
    assert [len(o) for o in shape.loops_by_plane] == [1, 1, 2, 2, 3, 3, 2, 1, 2, 1, 0, 0, 0, 0]
    assert not len(shape.regenerated)


def test_after_5_planes_the_given_shape_is_back(planned):
    edit = make_edit("scale", 2, 2, u=1.5, v=1.5)
    shape = editor_of(planned, [edit], after=5).shape
    plain, free = editor_of(planned).shape, editor_of(planned, [edit]).shape
    assert shape.planes[shape.edited[0]] == 2
    for plane in range(8, N_PLANES):
        assert_same_loops(shape.loops_by_plane[plane], plain.loops_by_plane[plane])
    assert set(shape.planes[shape.regenerated]) == set(range(2, 8))
    # Nearer and nearer. The first regenerated loop is on the way already.
    first = 3
    generated = free.loops_by_plane[first][0]
    own = canonical_polyline(plain.loops_by_plane[first][0])
    expected = canonical_polyline((5 * generated + own) / 6)
    np.testing.assert_allclose(shape.loops_by_plane[first][0], expected, atol=1e-6)
    # Loops on the way back have the numbers of the given shape.
    last = edit.changed(first=14, last=14)
    again = editor_of(planned, [edit, last], after=5).shape
    np.testing.assert_array_equal(again.planes[again.edited], [2, plain.planes[14]])


def test_after_works_without_given_loops(any_model):
    latent = np.full(LATENT_SIZE, 0.3)
    plain = LoopEditor(any_model, latent).shape
    shape = LoopEditor(any_model, latent, [make_edit("move", 4, 4, u=0.1)], after=0).shape
    others = np.arange(N_STEPS) != 4
    np.testing.assert_array_equal(shape.sequence[others], plain.sequence[others])
    assert (shape.sequence[4] != plain.sequence[4]).any()


def test_what_cannot_be_given(planned):
    with pytest.raises(UserError, match="21 loops, and the model takes 20"):
        given_shape(planned, hollow(last=12, inner=range(8)), np.zeros(LATENT_SIZE))
    with pytest.raises(UserError, match="no loops to edit"):
        given_shape(planned, [[] for _ in range(N_PLANES)], np.zeros(LATENT_SIZE))
    with pytest.raises(UserError, match="not finite"):
        given_shape(planned, [[np.full((5, 2), np.nan)]], np.zeros(LATENT_SIZE))
    other = make_planes("y", N_PLANES, -0.4, 0.5)
    with pytest.raises(UserError, match="planes are not those of the model"):
        given_slices(planned, other, hollow())
    some = planned.info.planes[2:9]
    shape = given_slices(planned, some, hollow()[2:9], seconds=0)
    assert_same_loops(shape.loops, given(planned).below(9).loops[2:])
    assert shape.latent.shape == (LATENT_SIZE,)


# ------------------------------------------------------------------------------ insert and remove


def test_an_insert_adds_loops_and_leaves_the_others_of_its_planes(any_model):
    latent = np.full(LATENT_SIZE, 0.3)
    plain = LoopEditor(any_model, latent).shape
    shape = LoopEditor(any_model, latent, [insert(3, 5, u=0.2)]).shape
    for plane in range(3):
        assert_same_loops(shape.loops_by_plane[plane], plain.loops_by_plane[plane])
    for plane in (3, 4, 5):
        loops = shape.loops_by_plane[plane]
        assert len(loops) == len(plain.loops_by_plane[plane]) + 1
        centre = loops[-1].mean(axis=0)
        np.testing.assert_allclose(centre, [0.9, 0.0], atol=1e-3)  # the smallest comes last
        if plane == 3:
            assert_same_loops(loops[:-1], plain.loops_by_plane[3])
        for a, b in zip(loops, plain.loops_by_plane[plane], strict=False):
            np.testing.assert_allclose(a, b, atol=1e-6)
    inserted = np.flatnonzero(shape.inserts == 0)
    np.testing.assert_array_equal(shape.edited, inserted)
    np.testing.assert_array_equal(shape.planes[inserted], [3, 4, 5])
    assert (shape.numbers[inserted] == -1).all()
    # Above, the model goes on; the first loop is the old one where it would not open a plane.
    above = np.flatnonzero(shape.planes > 5)
    assert set(shape.regenerated) >= set(above[1:]) and set(shape.regenerated) <= set(above)
    # Numbers are those of the shape without the insert, in its planes and below them.
    below = shape.planes < 6
    np.testing.assert_array_equal(
        shape.numbers[below & (shape.inserts < 0)], plain.numbers[plain.planes < 6]
    )


def test_a_large_inserted_loop_comes_first_and_opens_the_plane(any_model):
    shape = editor_of(any_model, [insert(4, 4, 4 * EGG)], after=0).shape
    plain = editor_of(any_model).shape
    t = shape.timesteps[shape.edited[0]]
    assert len(shape.edited) == 1
    assert_same_loops(shape.loops_by_plane[4][1:], plain.loops_by_plane[4])
    assert shape.sequence[t, -1] == 1 and shape.sequence[t + 1, -1] == 0
    np.testing.assert_array_equal(shape.planes[shape.planes != 4], plain.planes[plain.planes != 4])


def test_a_remove_takes_loops_away_and_keeps_the_others(any_model):
    shape = editor_of(any_model, [make_edit("remove", 3, 5, loop=1)]).shape
    plain = editor_of(any_model).shape
    for plane in range(3):
        assert_same_loops(shape.loops_by_plane[plane], plain.loops_by_plane[plane])
    for plane in (3, 4, 5):
        assert_same_loops(shape.loops_by_plane[plane], plain.loops_by_plane[plane][:1])
    above = np.flatnonzero(shape.planes > 5)  # where the model goes on
    assert set(shape.regenerated) >= set(above[1:]) and set(shape.regenerated) <= set(above)
    assert len(above) > 1
    # What is removed keeps its number: 5, 7 and 9 are missing.
    np.testing.assert_array_equal(shape.numbers[:7], [0, 1, 2, 3, 4, 6, 8])


def test_when_the_first_loop_goes_the_next_one_opens_the_plane(any_model):
    shape = editor_of(any_model, [make_edit("remove", 3, 3, loop=0)], after=0).shape
    plain = editor_of(any_model).shape
    assert_same_loops(shape.loops_by_plane[3], plain.loops_by_plane[3][1:])
    assert_same_loops(shape.loops_by_plane[4], plain.loops_by_plane[4])
    assert shape.sequence[4, -1] == 1


def test_edits_by_number_find_their_loops_in_and_above_these_planes(any_model):
    move = make_edit("move", 7, 11, v=0.05)
    moved = editor_of(any_model, [move], after=0).shape
    both = editor_of(
        any_model, [insert(2, 4), move, make_edit("remove", 3, 3, loop=0)], after=0
    ).shape
    assert 4 not in both.numbers
    for number in (3, 5, 6, 7, 8, 9, 10, 11, 12):
        one, other = (x.loops()[int(np.flatnonzero(x.numbers == number)[0])] for x in (both, moved))
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_refused_inserts_and_removes_change_nothing(any_model):
    editor = editor_of(any_model, [make_edit("move", 3, 3, u=0.01)], after=0)
    before = editor.edits, editor.shape
    refused = {
        "crosses itself or another loop": insert(4, 4, EGG + 0.2),
        "plane 4 crosses": insert(4, 4, EGG * (1 + 0.02 * 4)),
        "would lose its only loop": make_edit("remove", 0, 1, loop=0),
        f"no plane {N_PLANES}": insert(3, N_PLANES),
    }
    for reason, edit in refused.items():
        with pytest.raises(UserError, match=reason):
            editor.add(edit)
        assert (editor.edits, editor.shape) == before
    editor.undo()
    assert editor.edits == before[0] and not editor.can_undo
    with pytest.raises(UserError, match="longer than the 20 loops"):
        editor_of(any_model, [insert(3, 7)], after=0, inner=range(2, 10))


def test_one_loop_a_plane_takes_no_inserts():
    model = small_model(name="ellipse-single")
    with pytest.raises(UserError, match="one loop a plane"):
        LoopEditor(model, np.zeros(LATENT_SIZE), [insert(3, 4)])


def test_beyond_its_end_nothing_is_inserted(any_model):
    editor = editor_of(any_model, [insert(11, 12), make_edit("remove", 8, 12, loop=5)])
    assert_same_loops(editor.shape.loops(), editor_of(any_model).shape.loops())


def test_changes_give_what_decoding_afresh_gives(any_model):
    rng = np.random.default_rng(1)
    kinds = [
        insert(3, 5),
        insert(4, 8, circle(0.03, (-0.8, 0.1))),
        make_edit("remove", 4, 6, loop=1),
        make_edit("move", 5, 9, u=0.02),
        make_edit("scale", 3, 3, u=1.1, v=1.1),
    ]
    shape = given(any_model)
    for of in (None, shape):
        editor = LoopEditor(any_model, shape.latent, given=of)
        for _ in range(14):
            try:
                what = rng.integers(5)
                if what <= 1 or not editor.edits:
                    editor.add(kinds[rng.integers(len(kinds))])
                elif what == 2:
                    editor.remove(int(rng.integers(len(editor.edits))))
                elif what == 3:
                    editor.set_after([None, 0, 2][rng.integers(3)])
                else:
                    editor.undo()
            except UserError:
                pass  # an insert on top of itself, or too many loops
            fresh = LoopEditor(any_model, shape.latent, editor.edits, of, editor.after).shape
            np.testing.assert_array_equal(editor.shape.sequence, fresh.sequence)
            np.testing.assert_array_equal(editor.shape.numbers, fresh.numbers)


# ------------------------------------------------------------------------------------ completing


def test_completions_keep_the_shape_below_a_plane(planned):
    shape = given(planned)
    found = complete(planned, shape, 4, 3, np.random.default_rng(0))
    assert len(found) == 3
    for part, whole in found:
        assert isinstance(part, GivenShape) and not part.is_whole
        for plane in range(4):
            assert_same_loops(whole.loops_by_plane[plane], hollow()[plane][::-1])
        assert (whole.planes[whole.regenerated] >= 4).all() and len(whole.regenerated)
        again = LoopEditor(planned, part.latent, given=part).shape
        np.testing.assert_array_equal(again.sequence, whole.sequence)
    assert len({whole.sequence.tobytes() for _, whole in found}) == 3


@pytest.mark.parametrize("plane", [0, -1, N_PLANES - 1, N_PLANES])
def test_completions_from_the_first_or_the_last_plane_are_refused(planned, plane):
    with pytest.raises(UserError, match="it is one from 1 to 12"):
        complete(planned, given(planned), plane, 1, np.random.default_rng(0))


def test_completions_need_something_to_keep(planned):
    with pytest.raises(UserError, match="nothing to keep"):
        complete(planned, given(planned, first=5), 3, 1, np.random.default_rng(0))
