"""The edit engine: what edits do to loops, incremental decoding, files, intervention functions."""

import json

import numpy as np
import pytest
import torch
from small_model import EGG, ELLIPSE, LATENT_SIZE, N_STEPS, POLYLINE, read_function, small_model

from loopdraw.editing.edit_files import (
    check_edits,
    load_edits,
    save_edits,
    warnings_about,
)
from loopdraw.editing.editor import LoopEditor, decode_with_edits, dimensions_by_effect
from loopdraw.editing.edits import Edit, apply_edits, make_edit
from loopdraw.editing.interventions import decode_with_intervention
from loopdraw.editing.written_intervention import intervention_source, save_intervention
from loopdraw.files import UserError
from loopdraw.loops.geometry import lift, signed_area
from loopdraw.loops.representations import (
    canonical_polyline,
    ellipse_loop,
    fit_ellipse,
    sequence_to_loops,
)

MODELS = [
    ("transformer", 0, "fixed-res-polyline"),
    ("transformer", 1, "fixed-res-polyline"),
    ("transformer", 2, "ellipse-multiple"),
    ("transformer", 3, "fixed-res-polyline"),
    ("transformer", 1, "ellipse-single"),
    ("lstm", 0, "ellipse-multiple"),
]


@pytest.fixture(scope="module", params=MODELS, ids=lambda p: "-".join(map(str, p)))
def any_model(request):
    return small_model(*request.param)


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture
def latent():
    return np.random.default_rng(5).standard_normal(LATENT_SIZE)


def sample_edits(representation):
    """One edit of each kind, single loops and ranges, overlapping."""
    edits = [
        make_edit("move", 3, 3, u=0.1, v=-0.05),
        make_edit("scale", 5, 8, u=1.5, v=0.7),
        make_edit("rotate", 7, 10, degrees=30.0),
        make_edit("replace", 12, 13, loops=[EGG, 0.5 * EGG]),
        make_edit("move", 13, 14, v=0.02),
    ]
    if representation.is_polyline:
        edits.insert(2, make_edit("square", 6, 6, degrees=45.0))
    return edits


# ------------------------------------------------------------------------------------ single loops


def test_a_move_shifts_every_point_and_nothing_else():
    timestep = np.append(canonical_polyline(EGG).ravel(), 0.7)
    moved = apply_edits(timestep, [make_edit("move", 4, 4, u=0.1, v=-0.2)], 4, POLYLINE)
    np.testing.assert_array_equal(moved[0:-1:2], timestep[0:-1:2] + 0.1)
    np.testing.assert_array_equal(moved[1:-1:2], timestep[1:-1:2] - 0.2)
    assert moved[-1] == 0.7


@pytest.mark.parametrize(
    "edit",
    [
        make_edit("scale", 0, 0, u=2.0, v=0.5),
        make_edit("rotate", 0, 0, degrees=130.0),
        make_edit("square", 0, 0, degrees=20.0, scale=1.2),
        make_edit("replace", 0, 0, loops=[EGG[::-1]]),
    ],
    ids=lambda edit: edit.kind,
)
def test_edited_polylines_are_canonical(edit):
    timestep = np.append(canonical_polyline(EGG).ravel(), 1.0)
    loop = apply_edits(timestep, [edit], 0, POLYLINE)[:-1].reshape(-1, 2)
    steps = np.linalg.norm(np.roll(loop, -1, axis=0) - loop, axis=1)
    assert loop.shape == (32, 2)
    assert signed_area(loop) < 0
    assert loop.sum(axis=1).argmin() == 0
    # Evenly along the outline it was made from; chords across its bends are shorter.
    assert np.ptp(steps) < 0.1 * steps.max()


def test_scale_and_rotate_act_about_the_centre():
    loop = canonical_polyline(EGG)
    timestep = np.append(loop.ravel(), 1.0)
    centre, size = loop.mean(axis=0), np.ptp(loop, axis=0)
    scaled = apply_edits(timestep, [make_edit("scale", 0, 0, u=2.0, v=0.5)], 0, POLYLINE)
    scaled = scaled[:-1].reshape(-1, 2)
    np.testing.assert_allclose(np.ptp(scaled, axis=0), size * [2, 0.5], rtol=0.02)
    turned = apply_edits(timestep, [make_edit("rotate", 0, 0, degrees=90.0)], 0, POLYLINE)
    turned = turned[:-1].reshape(-1, 2)
    # Counter-clockwise: the blunt end, at large u, comes to lie at large v.
    np.testing.assert_allclose(np.ptp(turned, axis=0), size[::-1], rtol=0.02)
    np.testing.assert_allclose(
        turned.max(axis=0) - centre,
        [centre[1] - loop[:, 1].min(), loop[:, 0].max() - centre[0]],
        atol=0.01,
    )


def test_a_square_keeps_area_and_place():
    loop = canonical_polyline(EGG)
    timestep = np.append(loop.ravel(), 1.0)
    square = apply_edits(timestep, [make_edit("square", 0, 0)], 0, POLYLINE)[:-1].reshape(-1, 2)
    side = np.sqrt(abs(signed_area(loop)))
    np.testing.assert_allclose(np.ptp(square, axis=0), [side, side])
    np.testing.assert_allclose(square.mean(axis=0), loop.mean(axis=0), atol=1e-9)
    diamond = apply_edits(timestep, [make_edit("square", 0, 0, degrees=45.0)], 0, POLYLINE)
    diamond = diamond[:-1].reshape(-1, 2)
    np.testing.assert_allclose(np.ptp(diamond, axis=0), [side * np.sqrt(2)] * 2)


@pytest.mark.parametrize(
    "kind, values", [("scale", {"u": 1.7, "v": 0.6}), ("rotate", {"degrees": 35})]
)
def test_ellipses_change_as_their_outline_does(kind, values):
    ellipse = np.array([0.1, -0.2, 0.3, 0.2, 0.4])
    edit = make_edit(kind, 0, 0, **values)
    changed = apply_edits(np.append(ellipse, 1.0), [edit], 0, ELLIPSE)[:-1]
    points = ellipse_loop(ellipse, 4000) - ellipse[:2]
    if kind == "scale":
        points = points * [1.7, 0.6]
    else:
        turn = np.deg2rad(35)
        points = points @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    reached = np.linalg.norm(points, axis=1)
    np.testing.assert_allclose(changed[:2], ellipse[:2])
    np.testing.assert_allclose(changed[2:4], [reached.max(), reached.min()], rtol=1e-4)
    furthest = points[reached.argmax()]
    across = np.abs(furthest @ [-np.sin(changed[4]), np.cos(changed[4])])
    assert across < 1e-2 * reached.max()
    assert 0 <= changed[4] < np.pi


def test_an_ellipse_is_replaced_by_the_ellipse_of_the_loop():
    edit = make_edit("replace", 2, 3, loops=[EGG, EGG + 1])
    changed = apply_edits(np.zeros(6), [edit], 3, ELLIPSE)
    np.testing.assert_allclose(changed[:5], fit_ellipse([EGG + 1]))


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: make_edit("melt", 0, 0), "'melt' is none of"),
        (lambda: make_edit("move", 4, 3), "no range"),
        (lambda: make_edit("move", -1, 3), "no range"),
        (lambda: make_edit("move", True, 3), "not a whole number"),
        (lambda: make_edit("move", 0, 0, u=np.nan), "not finite"),
        (lambda: make_edit("move", 0, 0, u=10**400), "not finite"),
        (lambda: make_edit("move", 0, 0, u="far"), "not a number"),
        (lambda: make_edit("move", 0, 0, w=1.0), "u and v and w where u and v belongs"),
        (lambda: make_edit("scale", 0, 0, u=0.0), "u is 0.0"),
        (lambda: make_edit("replace", 0, 1, loops=[EGG]), "1 loops for a range of 2"),
        (lambda: make_edit("replace", 0, 0, loops=[EGG[:2]]), "three or more points"),
        (lambda: make_edit("replace", 0, 0, loops=[[[0, 0], [1, "b"], [2, 3]]]), "points"),
        (lambda: make_edit("replace", 0, 0, loops=[np.ones((5, 2))]), "single point"),
        (lambda: make_edit("replace", 0, 0, loops=7), "not a list of loops"),
    ],
)
def test_senseless_edits_are_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


# --------------------------------------------------------------------------------- decoding edited


def test_without_edits_it_is_the_plain_decode(any_model, latent):
    editor = LoopEditor(any_model, latent)
    (plain,) = any_model.decode(latent)
    np.testing.assert_array_equal(editor.shape.sequence, plain)
    info = any_model.info
    loops = sequence_to_loops(plain, info.n_planes, info.representation, info.use_eos_token)
    assert [len(of_plane) for of_plane in editor.shape.loops_by_plane] == list(map(len, loops))
    assert not len(editor.shape.edited) and not len(editor.shape.regenerated)


def test_an_edit_of_one_loop_is_an_intervention(any_model, latent):
    edit = make_edit("move", 4, 4, u=0.1)

    def intervene(dataset, state, ts):
        number = state()
        state.modify(lambda i: i + 1)
        if number != 4:
            return ts
        timestep = ts.numpy()[0] * dataset.dataset_std + dataset.dataset_mean
        timestep = apply_edits(timestep, [edit], 4, any_model.info.representation)
        return (timestep - dataset.dataset_mean) / dataset.dataset_std

    expected = decode_with_intervention(any_model, latent, intervene)
    np.testing.assert_array_equal(decode_with_edits(any_model, latent, [edit]), expected)


def test_loops_of_a_range_move_as_one_and_the_rest_follows(any_model, latent):
    plain = any_model.decode(latent)[0]
    shape = LoopEditor(any_model, latent, [make_edit("move", 4, 6, u=0.1)]).shape
    np.testing.assert_array_equal(shape.sequence[:4], plain[:4])
    moved = shape.sequence[4:7] - plain[4:7]
    u = slice(0, -1, 2) if any_model.info.representation.is_polyline else slice(0, 1)
    np.testing.assert_allclose(moved[:, u], 0.1, atol=1e-6)
    assert (shape.sequence[7:] != plain[7:]).any()


def test_what_is_edited_and_what_is_regenerated(model, latent):
    editor = LoopEditor(model, latent, [make_edit("move", 5, 6, u=0.1), make_edit("move", 9, 9)])
    shape = editor.shape
    # The second edit moves by nothing, so it is no edit.
    np.testing.assert_array_equal(shape.timesteps[shape.edited], [5, 6])
    np.testing.assert_array_equal(shape.timesteps[shape.regenerated], np.arange(7, shape.n_loops))
    np.testing.assert_array_equal(editor.untouched.sequence, model.decode(latent)[0])
    assert not len(editor.untouched.edited)
    assert shape.n_loops == sum(map(len, shape.loops_by_plane)) == len(shape.planes)


def test_overlapping_edits_follow_the_rule(model, latent):
    """Loop 7 starts from the shape without the edits that cover it, but with all others."""
    first, second = make_edit("move", 3, 3, v=0.1), make_edit("scale", 6, 7, u=1.5, v=1.5)
    third = make_edit("rotate", 7, 8, degrees=20.0)
    shape = LoopEditor(model, latent, [first, second, third]).shape
    start = decode_with_edits(model, latent, [first])[7]
    expected = apply_edits(start, [second, third], 7, POLYLINE)
    np.testing.assert_allclose(shape.sequence[7], expected, atol=1e-6)
    start = decode_with_edits(model, latent, [first, second])[8]
    np.testing.assert_allclose(
        shape.sequence[8], apply_edits(start, [third], 8, POLYLINE), atol=1e-6
    )


def test_changes_give_what_decoding_afresh_gives(any_model, latent):
    rng = np.random.default_rng(0)
    editor = LoopEditor(any_model, latent)
    kinds = sample_edits(any_model.info.representation)
    for round in range(25):
        what = rng.integers(6)
        if what <= 1 or not editor.edits:
            editor.add(kinds[rng.integers(len(kinds))])
        elif what == 2:
            editor.remove(int(rng.integers(len(editor.edits))))
        elif what == 3:
            place = int(rng.integers(len(editor.edits)))
            edit = editor.edits[place]
            editor.change(place, edit.changed(enabled=not edit.enabled))
        elif what == 4:
            editor.undo()
        else:
            place = int(rng.integers(len(editor.edits)))
            first = int(rng.integers(N_STEPS - 3))
            editor.change(place, make_edit("move", first, first + 2, u=float(rng.normal()) / 9))
        if round % 3 == 0:
            editor.untouched  # noqa: B018  (must not disturb what follows)
        fresh = decode_with_edits(any_model, latent, editor.edits)
        np.testing.assert_array_equal(editor.shape.sequence, fresh)


def test_a_change_decodes_from_the_first_changed_loop_on(model, latent, monkeypatch):
    editor = LoopEditor(model, latent)
    assert editor.untouched.n_loops >= 14
    place = editor.add(make_edit("move", 12, 12, u=0.1))
    editor.shape  # noqa: B018
    n_steps = []
    step = model.decoder.step
    monkeypatch.setattr(model.decoder, "step", lambda *args: (n_steps.append(1), step(*args))[1])
    editor.change(place, make_edit("move", 12, 12, u=0.2))
    editor.shape  # noqa: B018
    assert 0 < len(n_steps) <= N_STEPS - 13
    n_steps.clear()
    editor.change(place, make_edit("move", 12, 13, u=0.2))
    editor.shape  # noqa: B018
    # Loop 13 starts from the untouched shape, which is there already.
    assert 0 < len(n_steps) <= N_STEPS - 13


@pytest.mark.parametrize("name", ["fixed-res-polyline", "ellipse-multiple"])
def test_sequences_end_where_decode_ends_them(name, latent):
    model = small_model(name=name, eos=True, flag_bias=5.0)
    (plain,) = model.decode(latent)
    n_kept = np.flatnonzero(plain.any(axis=1))[-1] + 1
    assert 2 < n_kept < N_STEPS
    # Everything is a speck here: a loop made large where the sequence ended goes on from there.
    edit = make_edit("replace", n_kept - 1, n_kept - 1, loops=[EGG])
    shape = LoopEditor(model, latent, [edit]).shape
    assert shape.n_loops >= n_kept
    np.testing.assert_array_equal(shape.sequence[: n_kept - 1], plain[: n_kept - 1])
    past_the_end = make_edit("move", N_STEPS - 1, N_STEPS - 1, u=0.1)
    unchanged = LoopEditor(model, latent, [past_the_end]).shape
    np.testing.assert_array_equal(unchanged.sequence, plain)
    assert not len(unchanged.edited)


def test_undo_and_redo(model, latent):
    editor = LoopEditor(model, latent)
    assert not editor.can_undo and not editor.can_redo
    editor.undo()
    place = editor.add(make_edit("move", 2, 2))
    for i in range(5):
        editor.change(place, make_edit("move", 2, 2, u=0.01 * i), part_of="drag 1")
    dragged = editor.shape.sequence
    editor.change(place, make_edit("move", 2, 2, u=0.5), part_of="drag 2")
    editor.set_latent(-latent)
    editor.undo()
    np.testing.assert_array_equal(editor.latent, latent)
    editor.undo()
    np.testing.assert_array_equal(editor.shape.sequence, dragged)
    editor.undo()
    assert editor.edits[0].values == {"u": 0.0, "v": 0.0}
    editor.undo()
    assert editor.edits == () and not editor.can_undo
    np.testing.assert_array_equal(editor.shape.sequence, model.decode(latent)[0])
    for _ in range(5):
        editor.redo()
    np.testing.assert_array_equal(editor.latent, -latent)
    assert not editor.can_redo
    editor.undo()
    editor.remove(0)
    assert not editor.can_redo


def test_refused_changes_leave_everything_as_it_was(latent):
    editor = LoopEditor(small_model(name="ellipse-multiple"), latent)
    with pytest.raises(UserError, match="ellipse cannot be made square"):
        editor.add(make_edit("square", 0, 0))
    with pytest.raises(UserError, match=f"no loop {N_STEPS}"):
        editor.add(make_edit("move", 0, N_STEPS, u=1.0))
    with pytest.raises(UserError, match="latent of this model is 4"):
        editor.set_latent(np.zeros(5))
    assert editor.edits == () and not editor.can_undo


def test_dimensions_by_effect(model, latent):
    net = model.decoder.fc_latent_to_start_embedding
    weight = net.fcnet[0].weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[:, 1] = 0
        weight[:, 2] *= 10
    *nothing_yet, order = dimensions_by_effect(model, latent, n_at_once=3)
    with torch.no_grad():
        weight.copy_(kept)
    assert nothing_yet == [None, None]
    assert sorted(order) == [0, 1, 2, 3]
    assert order[0] == 2 and order[-1] == 1


# ------------------------------------------------------------------------------------------- files


def test_edit_files_give_the_same_loops(any_model, latent, tmp_path):
    representation = any_model.info.representation
    edits = [*sample_edits(representation), make_edit("move", 1, 1, u=0.3).changed(enabled=False)]
    editor = LoopEditor(any_model, latent, edits)
    path = tmp_path / "inference-0-edit.json"
    save_edits(path, representation, editor.latent, editor.edits)
    read = load_edits(path)
    check_edits(read, any_model.info)
    assert read.edits == list(editor.edits)
    np.testing.assert_array_equal(
        decode_with_edits(any_model, read.latent, read.edits), editor.shape.sequence
    )
    again = tmp_path / "again.json"
    save_edits(again, read.representation, read.latent, read.edits)
    assert again.read_text() == path.read_text()


def edit_file(**changes):
    content = {
        "format": "LoopDraw edit",
        "version": 1,
        "loop_repr_type": "fixed-res-polyline",
        "latent": [0.0] * LATENT_SIZE,
        "edits": [{"kind": "move", "first": 0, "last": 1, "u": 0.5, "v": 0.0}],
    }
    return {**content, **changes}


@pytest.mark.parametrize(
    "content, reason",
    [
        ("{", "not JSON"),
        ("[" * 100_000, ""),
        ([1, 2], "no edit file"),
        (edit_file(format="something"), "no edit file"),
        (edit_file(version=4), "version 4"),
        (edit_file(onward=[0.1]), "its onward has 1 numbers"),
        (edit_file(loop_repr_type=["a"]), "none of"),
        (edit_file(latent=[1.0, "b", 0, 0]), "no list of finite numbers"),
        (edit_file(latent=[float("nan"), 0, 0, 0]), "no list of finite numbers"),
        (edit_file(edits="none"), "no list of edits"),
        (edit_file(edits=[5]), "edit 1 is no"),
        (edit_file(edits=[{"kind": "move", "first": 0, "last": 1}]), "edit 1: it has nothing"),
        (edit_file(edits=[{"kind": ["move"], "first": 0, "last": 1}]), "edit 1: kind"),
        (edit_file(edits=[{"kind": "move", "last": 1, "u": 0, "v": 0}]), "edit 1: first is None"),
    ],
)
def test_bad_edit_files_are_one_line_errors(content, reason, tmp_path):
    path = tmp_path / "edit.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError) as error:
        load_edits(path)
    assert str(error.value).startswith(f"{path}: ") and reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, reason",
    [
        (edit_file(loop_repr_type="ellipse-single"), "the model has fixed-res-polyline"),
        (
            edit_file(edits=[{"kind": "rotate", "first": 0, "last": 99, "degrees": 1}]),
            "edit 1: there is no loop 99",
        ),
    ],
)
def test_edits_for_another_model_are_refused(content, reason, model, tmp_path):
    path = tmp_path / "edit.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=reason):
        check_edits(load_edits(path), model.info)


def test_edits_of_other_loops_are_told(any_model, latent, tmp_path):
    """A warning says when more than a tenth of the edited loops lie elsewhere than when saved."""
    path, representation = tmp_path / "edit.json", any_model.info.representation
    edits = [make_edit("move", 0, 9, u=0.1), make_edit("scale", 12, 12, u=1.2)]
    editor = LoopEditor(any_model, latent, edits)
    save_edits(path, representation, latent, edits, editor.starting_centres())
    saved = load_edits(path)
    assert set(saved.centres) == set(editor.shape.timesteps[editor.shape.edited])
    untouched = dict(zip(editor.untouched.timesteps, editor.untouched.loops(), strict=True))
    plane = editor.untouched.planes[5]
    start = lift(untouched[5].mean(axis=0), any_model.info.planes[plane])
    np.testing.assert_allclose(saved.centres[5], start, atol=1e-4)
    assert warnings_about(saved, editor) == []
    saved.centres[5][0] += 0.11
    assert warnings_about(saved, editor) == []  # one of eleven
    saved.centres[6][0] += 0.11
    assert warnings_about(saved, editor) == [
        f"2 of the {len(saved.centres)} edited loops lie more than 0.1 from where they lay when "
        "the edits were saved; the edits may not fit this shape"
    ]
    # Files from before there were centres say nothing of it.
    save_edits(path, representation, latent, edits)
    assert warnings_about(load_edits(path), editor) == []


def test_edits_past_the_last_loop_are_told(latent, tmp_path):
    """They do nothing; a list that is partly past the end still does something."""
    model = small_model(eos=True, flag_bias=5.0)
    n_loops = LoopEditor(model, latent).shape.n_loops
    assert 2 < n_loops < model.info.n_timesteps
    path = tmp_path / "edit.json"
    edits = [
        make_edit("move", 0, n_loops, u=0.0001),
        make_edit("move", n_loops, n_loops, u=0.0001),
        make_edit("move", n_loops, n_loops),  # by nothing
    ]
    save_edits(path, model.info.representation, latent, edits)
    assert warnings_about(load_edits(path), LoopEditor(model, latent, edits)) == [
        f"move {n_loops}: u 0.0001, v 0: does nothing, as the shape has {n_loops} loops"
    ]


@pytest.mark.parametrize("centres", [3, {"a": [0, 0, 0]}, {"1": [0, 0]}, {"1": [0, 0, "x"]}])
def test_bad_centres_are_one_line(centres, tmp_path):
    path = tmp_path / "edit.json"
    path.write_text(json.dumps(edit_file(centres=centres)))
    with pytest.raises(UserError, match="edit.json: its centre"):
        load_edits(path)


@pytest.mark.parametrize("bad", [np.zeros(3), np.full(LATENT_SIZE, np.nan), "abc", [[1], [2, 3]]])
def test_bad_latents_are_user_errors(model, bad):
    with pytest.raises(UserError, match="a latent of this model is 4 finite numbers"):
        decode_with_edits(model, bad, [])


def test_a_missing_edit_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="nowhere.json"):
        load_edits(tmp_path / "nowhere.json")


# ------------------------------------------------------------------------- intervention functions


def test_intervention_functions_give_the_very_same_loops(any_model, latent, tmp_path):
    editor = LoopEditor(any_model, latent, sample_edits(any_model.info.representation))
    path = tmp_path / "intervention.py"
    info = any_model.info
    save_intervention(
        path, info.representation, editor.latent, editor.edits, editor.starting_loops()
    )
    decoded = decode_with_intervention(any_model, latent, read_function(path))
    np.testing.assert_array_equal(decoded, editor.shape.sequence)


@pytest.mark.parametrize("kind", ["move", "scale", "rotate", "square", "replace"])
@pytest.mark.parametrize("name", ["fixed-res-polyline", "ellipse-multiple", "ellipse-single"])
def test_each_kind_stands_alone_in_an_intervention_function(kind, name, latent, tmp_path):
    values = {
        "move": {"u": 0.1},
        "scale": {"v": 1.3},
        "rotate": {"degrees": 20},
        "square": {},
        "replace": {"loops": [EGG]},
    }[kind]
    if kind == "square" and name.startswith("ellipse"):
        return
    model = small_model(name=name)
    editor = LoopEditor(model, latent, [make_edit(kind, 3, 3, **values)])
    source = intervention_source(
        model.info.representation, latent, editor.edits, editor.starting_loops()
    )
    assert "STARTING_LOOPS" not in source
    path = tmp_path / "intervention.py"
    path.write_text(source)
    np.testing.assert_array_equal(
        decode_with_intervention(model, latent, read_function(path)), editor.shape.sequence
    )


def test_intervention_functions_work_for_other_latents(model, latent, tmp_path):
    editor = LoopEditor(model, latent, [make_edit("move", 3, 5, u=0.1)])
    source = intervention_source(POLYLINE, editor.latent, editor.edits, editor.starting_loops())
    path = tmp_path / "intervention.py"
    path.write_text(source)
    other = latent + 0.5
    given = []

    def spy(dataset, state, ts):
        new = read_function(path)(dataset, state, ts)
        given.append((ts.numpy() - np.asarray(new))[0] * dataset.dataset_std)
        return new

    decode_with_intervention(model, other, spy)
    moved = np.array(given)[:, 0:-1:2]
    np.testing.assert_allclose(moved[3:6], -0.1, atol=1e-6)
    assert not moved[:3].any() and not moved[6:].any()


def test_intervention_functions_are_deterministic_text(model, latent):
    edits = sample_edits(POLYLINE)
    sources = {
        intervention_source(
            POLYLINE, latent, edits, LoopEditor(model, latent, edits).starting_loops()
        )
        for _ in range(2)
    }
    assert len(sources) == 1
    assert max(map(len, sources.pop().splitlines())) <= 100


def test_edits_are_values():
    edit = make_edit("scale", 2, 4, u=2.0)
    assert edit == Edit("scale", 2, 4, {"u": 2.0, "v": 1.0})
    assert edit.changed(v=3, last=5) == Edit("scale", 2, 5, {"u": 2.0, "v": 3.0})
    assert edit.describe() == "scale 2-4: u 2, v 1"
    assert make_edit("replace", 2, 2, loops=[EGG]).describe() == "replace 2"
    assert not make_edit("scale", 2, 4).acts()
    assert make_edit("square", 2, 4).acts()
    assert not edit.changed(enabled=False).acts()
    assert edit.partly(0.5) == make_edit("scale", 2, 4, u=1.5)
    assert edit.partly(1.0) == edit and not edit.partly(0.0).acts()
    assert make_edit("square", 2, 5).partly(0.3) == make_edit("square", 2, 3)
    assert not make_edit("square", 2, 4).partly(0.0).acts()
    two = make_edit("replace", 2, 3, loops=[EGG, 2 * EGG])
    assert two.partly(0.5) == make_edit("replace", 2, 2, loops=[EGG]) and two.partly(1.0) == two
