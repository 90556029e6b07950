"""The user's editing function: its helpers, its examples, and reading it again."""

import re
import sys
import types

import numpy as np
import pytest
import torch
from conftest import ROOT
from small_model import LATENT_SIZE, small_model

import loop_inference_intervention_func as func
from loopdraw.editing.interventions import (
    Intervention,
    InterventionState,
    decode_with_intervention,
)
from loopdraw.files import UserError
from loopdraw.loops.geometry import signed_area
from loopdraw.loops.representations import canonical_polyline, ellipse_loop, fit_ellipse

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


# ----------------------------------------------------------- helpers of the published program


def test_the_published_scaling_is_about_the_origin_and_in_place():
    given = polyline(OVAL, flag=0.3)
    before = given.copy()
    after = func.scale_shift_loop(given, -0.5, 2.0, 0.1, -0.2)
    assert after is given
    np.testing.assert_allclose(points_of(after), points_of(before) * [-0.5, 2.0] + [0.1, -0.2])
    assert after[0, -1] == 0.3


def test_the_published_rotation_is_about_the_origin_and_keeps_the_order():
    given = polyline(OVAL, flag=0.3)
    before = given.copy()
    after = func.apply_rotation_matrix(given, 90)
    np.testing.assert_array_equal(given, before)
    u, v = points_of(before).T
    np.testing.assert_allclose(points_of(after), np.stack([-v, u], axis=1), atol=1e-12)
    assert after[0, -1] == 0.3


def test_the_published_square():
    given = polyline(OVAL, flag=0.3)
    before = given.copy()
    after = func.turn_into_square(given, 0, 0.4)
    np.testing.assert_array_equal(given, before)
    assert after[0, -1] == 0.3
    # Clockwise from the upper left corner, eight points a side, each side with its first corner.
    steps = np.arange(8) / 8
    expected = np.concatenate(
        [
            np.stack([steps - 0.5, np.full(8, 0.5)], axis=1),
            np.stack([np.full(8, 0.5), 0.5 - steps], axis=1),
            np.stack([0.5 - steps, np.full(8, -0.5)], axis=1),
            np.stack([np.full(8, -0.5), steps - 0.5], axis=1),
        ]
    )
    np.testing.assert_allclose(points_of(after), 0.4 * expected, atol=1e-12)
    turned = func.turn_into_square(given, 30, 0.4)
    np.testing.assert_allclose(turned, func.apply_rotation_matrix(after, 30), atol=1e-12)
    mean_distance = np.linalg.norm(expected, axis=1).mean()
    assert 0.56 < mean_distance < 0.58
    np.testing.assert_allclose(
        points_of(func.turn_into_square(given, 0, None)), mean_distance * expected, atol=1e-12
    )


def test_the_published_square_takes_a_multiple_of_four_points():
    for n_points in (2, 5, 30):
        given = np.random.default_rng(0).random((1, 2 * n_points + 1))
        np.testing.assert_array_equal(func.turn_into_square(given, 45, 1), given)
    square = func.turn_into_square(np.ones((1, 9)), 0, 2)
    np.testing.assert_allclose(square, [[-1, 1, 1, 1, 1, -1, -1, -1, 1]])


@pytest.mark.parametrize("phi", [0.0, 0.4, 2.5])
def test_ellipses_are_mapped_about_the_origin_exactly_like_their_points(phi):
    before = ellipse(0.1, -0.2, 0.4, 0.15, phi)
    points = ellipse_loop(before[0, :5], 4000)
    for after, matrix, shift in [
        (func.scale_shift_loop(before.copy(), 0.5, 1.7, 0.3, 0.1), np.diag([0.5, 1.7]), [0.3, 0.1]),
        (func.apply_rotation_matrix(before, 90), np.array([[0, -1], [1, 0]]), [0, 0]),
    ]:
        moved = points @ matrix.T + shift
        # An ellipse is known by where it lies and how far it reaches in every direction.
        directions = np.stack([np.cos(ANGLES), np.sin(ANGLES)])
        reach = ellipse_loop(after[0, :5], 4000) @ directions
        np.testing.assert_allclose(reach.max(axis=0), (moved @ directions).max(axis=0), atol=1e-6)
        assert after[0, 2] >= after[0, 3] > 0 and 0 <= after[0, 4] < np.pi and after[0, 5] == 1.0
    assert fit_ellipse([points])[4] == pytest.approx(phi, abs=0.01)


# ---------------------------------------------------------- helpers about the loop's own centre


def test_scaling_and_moving_keep_the_centre_and_the_flag():
    before = polyline(OVAL, flag=0.0)
    original = before.copy()
    after = func.move_loop(func.scale_loop(before, 0.5, 2.0), 0.1, -0.2)
    np.testing.assert_array_equal(before, original)  # a copy is changed
    np.testing.assert_allclose(
        points_of(after).mean(axis=0), points_of(before).mean(axis=0) + [0.1, -0.2], atol=1e-3
    )
    np.testing.assert_allclose(
        np.ptp(points_of(after), axis=0), np.ptp(points_of(before), axis=0) * [0.5, 2.0], rtol=0.01
    )
    assert after[0, -1] == 0.0


def test_rotation_is_counter_clockwise_about_the_centre():
    # A triangle-like loop whose tip points along +u.
    tip = polyline(np.array([[0.4, 0.0], [0.0, 0.1], [0.0, -0.1]]))
    turned = func.rotate_loop(tip, 90)
    centre = points_of(tip).mean(axis=0)
    farthest = points_of(tip)[np.linalg.norm(points_of(tip) - centre, axis=1).argmax()]
    expected = centre + [-(farthest - centre)[1], (farthest - centre)[0]]
    assert np.linalg.norm(points_of(turned) - expected, axis=1).min() < 0.02
    np.testing.assert_allclose(points_of(turned).mean(axis=0), centre, atol=2e-3)


@pytest.mark.parametrize("edit", [(1, 1), (2, 0.5), (0.3, 0.3)])
def test_edited_polylines_keep_the_order_that_the_model_knows(edit):
    after = points_of(func.scale_loop(polyline(OVAL), *edit))
    assert signed_area(after) < 0  # clockwise
    assert after.sum(axis=1).argmin() == 0  # from the least u + v


@pytest.mark.parametrize("angle", [0, 30, 45])
def test_a_square_has_equal_straight_sides_and_the_area_asked_for(angle):
    before = polyline(OVAL)
    square = points_of(func.square_loop(before, angle, 1.5))
    side = 1.5 * np.sqrt(-signed_area(points_of(before)))
    centre = points_of(before).mean(axis=0)
    # In its own frame every point lies on the outline of the square.
    turn = np.deg2rad(-angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    own = (square - centre) @ matrix.T
    np.testing.assert_allclose(np.abs(own).max(axis=1), side / 2)
    assert len(np.unique(square.round(9), axis=0)) == 32


def test_ellipses_cannot_be_made_square():
    with pytest.raises(UserError, match="fixed-res-polyline"):
        func.square_loop(ellipse(0, 0, 1, 1, 0), 45, 1)
    with pytest.raises(UserError, match="5 or 6 or 65 numbers"):
        func.move_loop(np.zeros((1, 7)), 1, 1)


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
    # Each loop generated opens a plane; each of the planes 10 to 14 gets one more.
    generated, returned, _ = run(func.make_handle, n_loops=25, monkeypatch=monkeypatch)
    assert changed(generated, returned) == [9, 11, 13, 15, 17, 19, 20]
    body = points_of(unnormalised(generated))
    for i in (11, 19):
        handle = unnormalised(returned[i])
        assert handle[0, -1] == pytest.approx(0)  # in the plane of the body
        assert points_of(handle)[:, 0].min() == pytest.approx(body[:, 0].max() + 0.08, abs=1e-3)
    for i in (9, 20):
        arm = unnormalised(returned[i])
        assert arm[0, -1] == pytest.approx(1)
        assert points_of(arm)[:, 0].max() == pytest.approx(body[:, 0].max() + 0.16, abs=0.02)


def test_a_loop_changed_in_place_counts(monkeypatch):
    def scale(unn_ts, i, state):
        return func.scale_shift_loop(unn_ts, 2.0, 1.0, 0.0, 0.0) if i == 3 else unn_ts

    generated, returned, _ = run(scale, monkeypatch=monkeypatch)
    assert changed(generated, returned) == [3]


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


def explained(intervention, *arguments):
    """The line that running the function fails with."""
    with pytest.raises(UserError) as error:
        with intervention.explaining_errors():
            intervention.function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_error_inside_names_the_line_of_the_users_file(file):
    file.write_text(
        "import numpy as np\n"
        "def helper(ts):\n"
        "    return np.linalg.inv(ts)\n" + GOOD.format("helper(np.zeros((2, 3)))")
    )
    intervention = Intervention(file)
    intervention.reload()
    assert re.search(r"func.py:3: LinAlgError: .*square", explained(intervention, None, None, None))
    # No line of the file raised this; its name is all that is known.
    file.write_text("import functools, math\nloop_generation_intervention = math.sqrt\n")
    intervention.reload()
    assert explained(intervention, -1) == f"{file.name}: ValueError: math domain error"


@pytest.mark.parametrize(
    "raising", ["sys.exit()", "sys.exit('done')", "raise GeneratorExit", "raise StopIteration"]
)
def test_nothing_that_the_function_raises_ends_the_program(file, raising):
    file.write_text(
        "import sys\ndef loop_generation_intervention(dataset, state, ts):\n    " + raising
    )
    intervention = Intervention(file)
    intervention.reload()
    assert explained(intervention, None, None, None).startswith(f"{file.name}:3: ")


def test_ctrl_c_in_the_function_comes_through(file):
    file.write_text(
        "def loop_generation_intervention(dataset, state, ts):\n    raise KeyboardInterrupt"
    )
    intervention = Intervention(file)
    intervention.reload()
    with pytest.raises(KeyboardInterrupt), intervention.explaining_errors():
        intervention.function(None, None, None)


def test_the_function_cannot_close_the_programs_streams(file, capsys):
    file.write_text(
        "import sys\n"
        "sys.stderr.close()\n"
        "def loop_generation_intervention(dataset, state, ts):\n"
        "    print('seen')\n"
        "    sys.stdout.close()\n"
        "    with sys.stdout:\n"
        "        return ts\n"
    )
    intervention = Intervention(file)
    intervention.reload()
    with intervention.explaining_errors():
        assert intervention.function(None, None, 3) == 3
    print("still here")
    print("and here", file=sys.stderr)
    assert capsys.readouterr() == ("seen\nstill here\n", "and here\n")


def test_a_first_reload_that_fails_leaves_no_module_behind(file):
    sys.modules.pop(file.stem, None)
    file.write_text("1 / 0\n")
    with pytest.raises(UserError, match="func.py:1: ZeroDivisionError"):
        Intervention(file).reload()
    assert file.stem not in sys.modules


@pytest.mark.parametrize(
    "body, line, problem",
    [
        ("return None", "2", "a timestep of loop 0 of type NoneType"),
        ("state = 3", "2", "a timestep of loop 0 of type NoneType"),
        ("return ts[:, :3]", "2", r"a timestep of loop 0 of shape \(1, 3\)"),
        ("ts = 'no'\n    return ts", "3", "of type str"),
        ("return ts, 4", "2", r"a tuple \(Tensor, int\) was returned for loop 0"),
        ("return ts, ts, ts", "2", "a tuple"),
        ("return (ts,\n        lambda z: z[:, :1])", "3", r"latent after loop 0 of shape \(1, 1\)"),
        ("if ts is None:\n        return ts\n    return 5", "3,4", r"of shape \(\)"),
    ],
)
def test_a_wrong_answer_names_the_file_and_the_line(file, body, line, problem):
    file.write_text(f"def loop_generation_intervention(dataset, state, ts):\n    {body}\n")
    intervention = Intervention(file)
    intervention.reload()
    with pytest.raises(UserError, match=rf"^{file.name}:{line}: .*{problem}"):
        with intervention.explaining_errors():
            decode_with_intervention(small_model(), np.zeros(LATENT_SIZE), intervention.function)
