"""The user's editing function: its helpers, its examples, and reading it again."""

import re
import types

import numpy as np
import pytest
import torch
from conftest import ROOT

import loop_inference_intervention_func as func
from loopdraw.editing.interventions import Intervention
from loopdraw.files import UserError
from loopdraw.loops.geometry import signed_area
from loopdraw.loops.representations import canonical_polyline, ellipse_loop, fit_ellipse
from loopdraw.model.decoding import InterventionState

ANGLES = np.linspace(0, 2 * np.pi, 400, endpoint=False)
OVAL = np.stack([0.3 * np.cos(ANGLES) + 0.1, 0.2 * np.sin(ANGLES) - 0.05], axis=1)
DATASET = types.SimpleNamespace(
    dataset_mean=np.append(np.full(64, 0.1), 0.0), dataset_std=np.append(np.full(64, 0.5), 1.0)
)


def polyline(loop, flag=1.0):
    return np.append(canonical_polyline(loop).ravel(), flag)[None]


def points_of(timestep):
    assert timestep.shape == (1, 65)
    return np.asarray(timestep)[0, :-1].reshape(-1, 2)


def ellipse(*parameters, flag=1.0):
    return np.array([[*parameters, flag]])


# ---------------------------------------------------------------------------------- the helpers


def test_scale_and_shift_keep_the_centre_and_the_flag():
    before = polyline(OVAL, flag=0.0)
    original = before.copy()
    after = func.scale_shift_loop(before, 0.5, 2.0, 0.1, -0.2)
    np.testing.assert_array_equal(before, original)  # a copy is changed
    np.testing.assert_allclose(
        points_of(after).mean(axis=0), points_of(before).mean(axis=0) + [0.1, -0.2], atol=1e-12
    )
    np.testing.assert_allclose(
        np.ptp(points_of(after), axis=0), np.ptp(points_of(before), axis=0) * [0.5, 2.0]
    )
    assert after[0, -1] == 0.0


def test_rotation_is_counter_clockwise_about_the_centre():
    # A triangle-like loop whose tip points along +u.
    tip = polyline(np.array([[0.4, 0.0], [0.0, 0.1], [0.0, -0.1]]))
    turned = func.apply_rotation_matrix(tip, 90)
    centre = points_of(tip).mean(axis=0)
    farthest = points_of(tip)[np.linalg.norm(points_of(tip) - centre, axis=1).argmax()]
    expected = centre + [-(farthest - centre)[1], (farthest - centre)[0]]
    assert np.linalg.norm(points_of(turned) - expected, axis=1).min() < 1e-12
    np.testing.assert_allclose(points_of(turned).mean(axis=0), centre, atol=1e-12)
    back = func.apply_rotation_matrix(turned, -90)
    np.testing.assert_allclose(points_of(back), points_of(tip), atol=1e-12)


@pytest.mark.parametrize("edit", [(1, 1, 0, 0), (2, 0.5, 0, 0), (-1, 1, 0.2, 0), (0.3, -0.3, 0, 0)])
def test_edited_polylines_keep_the_order_that_the_model_knows(edit):
    after = points_of(func.scale_shift_loop(polyline(OVAL), *edit))
    assert signed_area(after) < 0  # clockwise
    assert after.sum(axis=1).argmin() == 0  # from the least u + v


@pytest.mark.parametrize("angle", [0, 30, 45])
def test_a_square_has_equal_straight_sides_and_the_area_asked_for(angle):
    before = polyline(OVAL)
    square = points_of(func.turn_into_square(before, angle, 1.5))
    assert signed_area(square) == pytest.approx(2.25 * signed_area(points_of(before)))
    np.testing.assert_allclose(square.mean(axis=0), points_of(before).mean(axis=0), atol=1e-12)
    # In its own frame every point lies on the outline of the square.
    turn = np.deg2rad(-angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    own = (square - square.mean(axis=0)) @ matrix.T
    half = np.sqrt(-signed_area(square)) / 2
    np.testing.assert_allclose(np.abs(own).max(axis=1), half)
    assert len(np.unique(square.round(9), axis=0)) == 32


@pytest.mark.parametrize("phi", [0.0, 0.4, 2.5])
def test_ellipses_are_edited_exactly_like_their_points(phi):
    before = ellipse(0.1, -0.2, 0.4, 0.15, phi)
    points = ellipse_loop(before[0, :5], 4000)
    for after, matrix, shift in [
        (func.scale_shift_loop(before, 0.5, 1.7, 0.3, 0.1), np.diag([0.5, 1.7]), [0.3, 0.1]),
        (func.apply_rotation_matrix(before, 90), np.array([[0, -1], [1, 0]]), [0, 0]),
    ]:
        moved = (points - [0.1, -0.2]) @ matrix.T + [0.1, -0.2] + shift
        # An ellipse is known by where it lies and how far it reaches in every direction.
        directions = np.stack([np.cos(ANGLES), np.sin(ANGLES)])
        reach = ellipse_loop(after[0, :5], 4000) @ directions
        np.testing.assert_allclose(reach.max(axis=0), (moved @ directions).max(axis=0), atol=1e-6)
        assert after[0, 2] >= after[0, 3] > 0 and 0 <= after[0, 4] < np.pi and after[0, 5] == 1.0
    assert fit_ellipse([points])[4] == pytest.approx(phi, abs=0.01)


def test_ellipses_cannot_be_made_square():
    with pytest.raises(ValueError, match="fixed-res-polyline"):
        func.turn_into_square(ellipse(0, 0, 1, 1, 0), 45, 1)


# ------------------------------------------------------------------------------------- the function


def run(active, n_loops=20, monkeypatch=None, donor=None):
    """What the function makes of the same loop, again and again; and the latent functions."""
    if monkeypatch:
        monkeypatch.setattr(func, "ACTIVE", active)
    normalised = (polyline(OVAL) - DATASET.dataset_mean) / DATASET.dataset_std
    generated = torch.tensor(normalised, dtype=torch.float32)
    state = InterventionState(torch.ones(1, 4))
    returned, latents = [], {}
    for i in range(n_loops):
        answer = func.loop_generation_intervention(DATASET, state, generated.clone())
        if isinstance(answer, tuple):
            answer, latents[i] = answer
        returned.append(answer)
    assert state() == n_loops
    return generated, returned, latents


def unnormalised(timestep):
    return np.asarray(timestep) * DATASET.dataset_std + DATASET.dataset_mean


def changed(generated, returned):
    return [i for i, loop in enumerate(returned) if not np.array_equal(loop, generated)]


def test_out_of_the_box_nothing_is_edited():
    generated, returned, latents = run(func.no_edit)
    assert func.ACTIVE is func.no_edit and not latents
    for loop in returned:
        assert isinstance(loop, torch.Tensor) and torch.equal(loop, generated)


def test_the_shift_example(monkeypatch):
    generated, returned, _ = run(func.shift_loop, monkeypatch=monkeypatch)
    assert changed(generated, returned) == [10]
    moved = points_of(unnormalised(returned[10])) - points_of(unnormalised(generated))
    np.testing.assert_allclose(moved, np.tile([0.1, 0.0], (32, 1)), atol=1e-6)


def test_the_square_example(monkeypatch):
    generated, returned, _ = run(func.square_loops, monkeypatch=monkeypatch)
    assert changed(generated, returned) == [8, 9, 10, 11, 12, 13]


def test_the_transplant_example(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    donor = np.random.default_rng(0).random((5, 65))
    np.savetxt("donor.txt", donor)
    generated, returned, _ = run(func.transplant, monkeypatch=monkeypatch)
    assert changed(generated, returned) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([unnormalised(loop)[0] for loop in returned[:5]], donor)


def test_the_handle_example(monkeypatch):
    generated, returned, _ = run(func.make_handle, monkeypatch=monkeypatch)
    assert changed(generated, returned) == [12]
    body, handle = unnormalised(generated), unnormalised(returned[12])
    assert handle[0, -1] == pytest.approx(0)  # in the plane of the body
    area = signed_area(points_of(handle)) / signed_area(points_of(body))
    assert area == pytest.approx(0.09, rel=1e-4)
    assert points_of(handle)[:, 0].min() > points_of(body)[:, 0].mean()


def test_the_latent_example(monkeypatch):
    generated, returned, latents = run(func.change_latent, monkeypatch=monkeypatch)
    assert not changed(generated, returned)
    assert list(latents) == [15]
    assert torch.equal(latents[15](torch.ones(1, 4)), -torch.ones(1, 4))


def test_every_example_is_named_where_the_user_is_told_to_look():
    for name in ("shift_loop", "square_loops", "transplant", "make_handle", "change_latent"):
        assert callable(getattr(func, name)) and f"ACTIVE = {name}" in func.__doc__
    source = (ROOT / "loop_inference_intervention_func.py").read_text()
    assert source.count("\nACTIVE = no_edit\n") == 1  # the line to edit


# -------------------------------------------------------------------------- reading it again

GOOD = "def loop_generation_intervention(dataset, state, ts):\n    return {}\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "loop_inference_intervention_func.py"
    path.write_text(GOOD.format("ts + 1"))
    return path


def test_an_edit_counts_at_once(file):
    intervention = Intervention(file)
    for number in range(5):  # within one tick of the file system's clock, and of the same length
        file.write_text(GOOD.format(f"ts + {number}"))
        assert intervention.reload() == []
        assert intervention.function(None, None, 10) == 10 + number


def test_module_variables_start_afresh(file):
    file.write_text("calls = []\n" + GOOD.format("calls.append(ts) or len(calls)"))
    intervention = Intervention(file)
    for _ in range(2):
        intervention.reload()
        assert intervention.function(None, None, 1) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def f(:\n", r"func.py:1: SyntaxError: invalid syntax"),
        ("\n\nimport no_such_thing\n", r"func.py:3: ModuleNotFoundError: No module named"),
        ("def f():\n    1 / 0\nf()\n", r"func.py:2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", r"func.py:2: SystemExit: 3"),
        ("x = 1\n", r"func.py: defines no function loop_generation_intervention"),
        ("loop_generation_intervention = 3\n", r"defines no function"),
        ("raise ValueError('one\\ntwo')\n", r"func.py:1: ValueError: one two$"),
        ("\0", r"null bytes"),
    ],
)
def test_a_file_that_fails_keeps_the_last_good_one_and_says_why(file, text, reason):
    intervention = Intervention(file)
    intervention.reload()
    file.write_text(text)
    (warning,) = intervention.reload()
    warning, _, consequence = warning.rpartition("; ")
    assert consequence == "going on with its last good version"
    assert re.search(reason, warning) and "\n" not in warning
    assert intervention.function(None, None, 1) == 2
    file.write_text(GOOD.format("ts + 5"))
    assert intervention.reload() == []
    assert intervention.function(None, None, 1) == 6


def test_a_file_that_never_worked_is_an_error(file):
    file.write_text("def f(:\n")
    with pytest.raises(UserError, match="func.py:1: SyntaxError.*; mend the file and run again"):
        Intervention(file).reload()
    file.unlink()
    with pytest.raises(UserError, match="No such file"):
        Intervention(file).reload()


def test_an_error_inside_names_the_line_of_the_users_file(file):
    file.write_text(
        "import numpy as np\n"
        "def helper(ts):\n"
        "    return np.linalg.inv(ts)\n" + GOOD.format("helper(np.zeros((2, 3)))")
    )
    intervention = Intervention(file)
    intervention.reload()
    with pytest.raises(UserError, match=r"func.py:3: LinAlgError: .*square"):
        with intervention.explaining_errors():
            intervention.function(None, None, None)
    # What the decoder says of the function's result has no line in the file.
    with pytest.raises(UserError, match=r"^it returned rubbish$"):
        with intervention.explaining_errors():
            raise ValueError("it returned rubbish")
