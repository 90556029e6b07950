"""Inserted and removed loops, shapes given by their loops, and their completion."""

import json

import numpy as np
import pytest
import trimesh
from real_session import Session, published
from small_loops import circle
from small_model import EGG, LATENT_SIZE, N_PLANES, N_STEPS, read_function, small_model

import loopdraw
from loopdraw.editing import given as given_module
from loopdraw.editing.edit_files import check_edits, load_edits, save_edits
from loopdraw.editing.editor import LoopEditor
from loopdraw.editing.edits import make_edit
from loopdraw.editing.given import GivenShape, complete, given_shape, given_slices
from loopdraw.editing.interventions import decode_with_intervention
from loopdraw.editing.session import EditSession
from loopdraw.files import UserError
from loopdraw.loops.geometry import make_planes, signed_area
from loopdraw.loops.representations import canonical_polyline
from loopdraw.loops.slices_files import load_slices, save_slices
from loopdraw.loops.slicing import slice_mesh

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
        for plane in range(4):  # and nothing is added there
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


# -------------------------------------------------------------------------- files and the session


def sample_edits():
    return [
        insert(3, 4, u=0.1),
        make_edit("remove", 6, 7, loop=1),
        make_edit("move", 8, 9, u=0.03),
    ]


def test_edit_files_hold_given_shapes(any_model, tmp_path):
    editor = editor_of(any_model, sample_edits(), after=2, first=1)
    path, info = tmp_path / "edit.json", any_model.info
    save_edits(
        path, info.representation, editor.latent, editor.edits, None, editor.after, editor.given
    )
    read = load_edits(path)
    check_edits(read, info)
    assert read.edits == list(editor.edits) and read.after == 2
    again = LoopEditor(any_model, read.latent, read.edits, read.given_shape(any_model), read.after)
    np.testing.assert_array_equal(again.shape.sequence, editor.shape.sequence)
    assert_same_loops(again.shape.loops(), editor.shape.loops())
    part = editor.given.below(4)
    save_edits(path, info.representation, editor.latent, [], None, None, part)
    assert load_edits(path).given_shape(any_model).is_whole is False
    # What older programs can read stays as they read it.
    save_edits(path, info.representation, editor.latent, sample_edits()[2:])
    assert json.loads(path.read_text())["version"] == 1


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"after": -1}, "after is -1"),
        ({"after": True}, "after is True"),
        ({"given": [1]}, "given loops are no"),
        ({"given": {"whole": 1, "loops": []}}, "given loops are no"),
        ({"given": {"whole": True, "loops": [[[[0, 0], [1, 1]]]]}}, "three or more points"),
    ],
)
def test_bad_given_shapes_in_files_are_one_line(changes, reason, planned, tmp_path):
    path = tmp_path / "edit.json"
    save_edits(path, planned.info.representation, np.zeros(LATENT_SIZE), [insert(3, 4)])
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UserError, match=reason):
        load_edits(path)


def test_intervention_functions_give_the_very_same_loops(any_model, tmp_path):
    for of_latent in (True, False):
        shape = given(any_model, inner=range(2, 5))
        session = EditSession(
            any_model,
            shape.latent,
            [insert(3, 3, u=0.1)] if of_latent else sample_edits(),
            tmp_path,
            None,
            None,
            given=None if of_latent else shape,
            after=None if of_latent else 0,
        )
        editor = session.editor
        function = read_function(session.save_intervention())
        decoded = decode_with_intervention(any_model, editor.latent, function)
        n_loops = editor.shape.n_loops
        np.testing.assert_allclose(decoded[:n_loops], editor.shape.sequence[:n_loops], atol=1e-6)


def test_the_session_inserts_and_removes(planned, tmp_path):
    shape = given(planned, inner=range(2, 6))
    session = EditSession(planned, shape.latent, [], tmp_path, None, None, given=shape, after=0)
    loops = session.editor.untouched.loops()
    assert loops[2] is shape.loops[2]
    for form in ("ellipse", "square", "copy"):
        session.pick(2, 6)  # planes 2 to 4
        session.insert(form)
        assert session.editor.shape.inserts[session.first] == 0
        assert session.editor.shape.planes[session.first] == 2
        assert session.last == session.first
        edit = session.editor.edits[-1]
        assert (edit.kind, edit.first, edit.last) == ("insert", 2, 4)
        assert np.array(edit.values["loops"][0])[:, 0].min() > loops[2][:, 0].max()
        session.editor.undo()
    session.pick(2, 6)
    session.insert("ellipse")
    inserted = int(session.editor.shape.edited[0])
    session.drag(1, move=(0.1, 0.2), scale=(1.5, 1.0))
    session.adjust("move", part_of=1, u=0.3)
    values = session.editor.edits[0].values
    assert (values["u"], values["v"], values["scale"]) == (0.3, 0.2, 1.5)
    assert session.values("move")["u"] == 0.3 and session.values("scale")["v"] == 1.5
    with pytest.raises(UserError, match="moved and scaled"):
        session.drag(2, degrees=10.0)
    # Loops after it keep their numbers.
    place = int(np.flatnonzero(session.editor.shape.numbers == 9)[0])
    session.pick(place)
    session.adjust("move", v=0.02)
    assert session.editor.edits[-1] == make_edit("move", 9, 9, v=0.02)
    session.pick(inserted - 1, place)
    session.remove_loops()
    assert session.editor.edits[-1] == make_edit("remove", 2, 5, loop=1)
    session.pick_edit(session.editor.edits[-1])
    assert session.editor.shape.planes[session.first] == 2
    n_edits = len(session.editor.edits)
    session.pick(int(np.flatnonzero(session.editor.shape.inserts == 0)[0]))
    session.remove_loops()  # takes back the insert
    assert len(session.editor.edits) == n_edits - 1
    path = session.save_edit_list()
    assert load_edits(path).after == 0 and len(load_edits(path).given) == 10


# ---------------------------------------------------------------------------- prompt and Python


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(given_module, "REFINING_SECONDS", 0.2)
    return Session(published(tmp_path))


def saved_loops(session, number):
    planes, loops = load_slices(session.folder / f"inference-{number}-slices.npz")
    return [loop for of_plane in loops for loop in of_plane]


def test_the_prompt_edits_loops_as_they_are(session, tmp_path, capsys):
    """An item of the dataset, a slices file, a sequence and a mesh: without an edit, as it is."""
    info = session.engine.info
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.4)
    mesh.export("ball.stl")
    printed = session.do(
        "encode ball ball.stl --no-refine",
        "submit decode gt:1 --save",
        "submit decode $ball.loops --save",
        "run all",
        "submit decode ||inference/inference-0-slices.npz --save",
        "submit decode $last_pred_seq --save",
        "run all",
    )
    assert "saved" in printed
    n_item = int((session.items.split.plane_indices[1] >= 0).sum())
    assert len(saved_loops(session, 0)) == len(saved_loops(session, 2)) == n_item
    for a, b in zip(saved_loops(session, 0), saved_loops(session, 2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    sliced = slice_mesh(mesh.vertices, mesh.faces, info.planes).loops_by_plane
    loops = [loop for of_plane in sliced for loop in of_plane]
    for a, b in zip(saved_loops(session, 1), loops, strict=True):
        assert len(a) == len(b) and abs(abs(signed_area(a)) - abs(signed_area(b))) < 1e-6
    # With an edit; and what is saved of it can be opened again.
    path = tmp_path / "edit.json"
    save_edits(path, info.representation, np.zeros(8), [make_edit("move", 1, 1, u=0.02)])
    session.do("submit decode gt:1 --edit edit.json --after keep --save", "run")
    edited = saved_loops(session, 4)
    moved = canonical_polyline(saved_loops(session, 0)[1]) + [0.02, 0]
    np.testing.assert_allclose(edited[1].mean(axis=0), moved.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(edited[2], saved_loops(session, 0)[2], atol=1e-6)
    again = "||inference/inference-4-edit.json"
    session.do(f"submit decode {again} --edit {again} --save", "run")
    for a, b in zip(saved_loops(session, 5), edited, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_prompt_completes(session):
    session.do("submit complete gt:1 2 2 --save", "run all")
    first = saved_loops(session, 0)[:2], saved_loops(session, 1)[:2]
    for a, b in zip(*first, strict=True):
        np.testing.assert_array_equal(a, b)
    assert session["last_z"].shape == (8,)
    assert "complete" in session.do("help submit complete")


@pytest.mark.parametrize(
    "line, reason",
    [
        ("submit decode $mine.loops", "no mesh mine; encode mine"),
        ("submit decode gt:999", "no such item"),
        ("submit decode ? --after keep", "goes with --edit"),
        ("submit decode ? --edit edit.json --after soon", "none of regenerate, keep and a number"),
        ("submit decode gt:1 --intervene", "goes with a latent"),
        ("submit complete gt:1 0 2", "at least 1"),
        ("submit complete ? 40 2", "it is one from 1 to"),
        ("submit decode |other.npz", "planes are not those of the model"),
    ],
)
def test_mistakes_are_one_line(session, capsys, line, reason):
    edits = [make_edit("move", 1, 1, u=0.02)]
    save_edits("edit.json", session.engine.info.representation, np.zeros(8), edits)
    save_slices("other.npz", make_planes("y", 3, -0.1, 0.123), [[EGG]] * 3)
    assert reason in session.fail(capsys, line)
    assert not session.repl.queue


def test_python_adopts_edits_and_completes(planned, tmp_path):
    model = loopdraw.Model(planned)
    loops = loopdraw.Shape(planned.info.planes, hollow())
    own = model.adopt(loops)
    assert_same_loops(own.loops[3], hollow()[3][::-1])
    handle = loopdraw.Insert((3, 5), loopdraw.ellipse(0.7, 0.0, 0.1, 0.1), v=0.1)
    edited = own.edit(handle, loopdraw.Remove((6, 7)), after="keep")
    assert [len(o) for o in edited.loops] == [1, 1, 2, 3, 3, 3, 1, 1, 2, 1, 0, 0, 0, 0]
    assert_same_loops(edited.loops[8], own.loops[8])
    # The next edits go on from there.
    further = edited.edit(loopdraw.Move(3, u=0.02))
    assert len(further.edits) == 3 and further.after == 0
    assert_same_loops(further.loops[8], own.loops[8])
    ways = own.complete(4, n=2, seed=1)
    for way in ways:
        assert_same_loops(way.loops[3], own.loops[3])
        assert_same_loops(way.edit(loopdraw.Move(9, u=0.1)).loops[3], own.loops[3])
    own.save(tmp_path / "own-slices.npz")
    assert len(model.adopt(tmp_path / "own-slices.npz").loops[3]) == 2
    with pytest.raises(loopdraw.UserError, match="would lose its only loop"):
        own.edit(loopdraw.Remove(0, loop=0))
    with pytest.raises(loopdraw.UserError, match="planes are not those"):
        model.adopt(loopdraw.Shape(make_planes("y", 4, -0.4, 0.3), hollow()[:4]))
    with pytest.raises(loopdraw.UserError, match="model.adopt"):
        loops.complete(4)


def test_the_change_between_planes_is_of_loops_that_belong_together():
    """Not of points that start elsewhere, nor of loops that come in another order, or new."""
    ring = np.array(circle(0.3, (0.0, 0.0)))
    square = 0.3 * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    turned = square @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + [[1e-6, 0], [0, 0], [0, 0], [0, -1e-6]]
    assert given_module.change_between([ring], [1.1 * ring]) == pytest.approx(0.03, rel=0.01)
    assert given_module.change_between([square], [turned]) < 1e-4
    others = [0.2 * ring + 0.6, ring, 0.5 * ring]
    assert given_module.change_between([ring, 0.5 * ring], others) < 1e-9
    assert given_module.seam([[ring], []], 0) == np.inf
