"""What the eye sees at once: ends in air, torn walls; and samples drawn again because of them."""

import time
import types

import numpy as np
import pytest
from small_loops import circle

from loopdraw.evaluation import checks
from loopdraw.evaluation.checks import draw_checked, fault, free_ends
from loopdraw.loops.geometry import make_planes

N = 12
PLANES = make_planes("y", N, -0.5, 0.5)
HANDLE = 0.42  # its centre, beside the body; its ends are nearer


def jar(handle=range(3, 9), gap=(), walls=range(N)):
    """A hollow jar, open above, with a handle on some planes that leans on it at both ends."""
    planes = [[circle(0.25)] for _ in range(N)]
    for k in range(2, N):
        if k in walls:
            planes[k].append(circle(0.2))
    handle = list(handle)
    for k in handle:
        if k not in gap:
            x = 0.3 if k in (handle[0], handle[-1]) else HANDLE
            planes[k].append(circle(0.04, (x, 0.0)))
    return planes


def test_a_jar_with_a_whole_handle():
    assert free_ends(PLANES, jar()) == []
    assert fault(PLANES, jar()) == ""


def test_a_handle_cut_through_has_two_free_ends():
    broken = jar(gap=(5, 6))
    assert sorted(free_ends(PLANES, broken)) == [(4, True), (7, False)]
    assert fault(PLANES, broken) == "2 free ends"


def test_a_part_that_floats_has_two_free_ends():
    floating = jar(handle=())
    for k in (5, 6):
        floating[k].append(circle(0.04, (0.45, 0.4)))
    assert sorted(free_ends(PLANES, floating)) == [(5, False), (6, True)]


def test_a_scrap_over_the_rim():
    scrap = jar(handle=())
    scrap[-2:] = [[], [circle(0.02, (0.4, 0.4))]]
    assert (N - 1, False) in free_ends(PLANES, scrap)


def test_ends_that_belong():
    """A foot and a rim, a bump of one loop, and a leg of a shape that is cut from aside."""
    bump = jar(handle=())
    bump[4] = [circle(0.2), circle(0.05, (0.18, 0))]
    assert free_ends(PLANES, bump) == []
    aside = make_planes("x", N, -0.5, 0.5)
    seat = [[circle(0.2, (0.0, 0.1))] for _ in range(N)]
    leg, cushion = ([list(loops) for loops in seat] for _ in range(2))
    for k in (4, 5, 6):  # v is y there
        leg[k].append(circle(0.05, (0.0, -0.4)))
        cushion[k].append(circle(0.05, (0.5, 0.1)))
    assert free_ends(aside, leg) == []
    assert sorted(free_ends(aside, cushion)) == [(4, False), (6, True)]


def test_a_hollow_that_opens_through_the_wall():
    torn = jar(handle=())
    torn[6] = [circle(0.1)]
    assert any(4 <= plane <= 7 for plane, _ in free_ends(PLANES, torn))
    assert free_ends(PLANES, [[] for _ in PLANES]) == []


def test_faults_in_words():
    assert fault(PLANES, [[] for _ in PLANES]) == "no surface"
    two = [[circle(0.1), circle(0.1, (0.5, 0.5))] for _ in range(N)]
    assert fault(PLANES, two) == "not one closed solid"


@pytest.fixture
def model():
    """Latents are one number, which is the sequence and the shape; below 0 it is faulty."""

    def draw_each(generators):
        return np.array([rng.uniform(-1, 1, 1) for rng in generators])

    prior = types.SimpleNamespace(draw_each=draw_each)
    info = types.SimpleNamespace(planes=None, bounded_loops=lambda sequence: sequence)
    return types.SimpleNamespace(prior=prior, info=info, decode=lambda latents: list(latents))


def test_faulty_samples_are_drawn_again(model, monkeypatch):
    monkeypatch.setattr(checks, "fault", lambda _, loops: "a fault" if loops[0] < 0 else "")
    first = [[0.5], [-0.5], [0.1], [-0.1]]
    told = []
    checked = draw_checked(model, first, range(4), lambda *numbers: told.append(numbers))
    assert told[:4] == [(1, 1), (1, 2), (2, 3), (2, 4)] and told[-1] == (4, sum(checked.draws))
    assert (checked.latents > 0).all() and checked.faults == [""] * 4
    assert checked.latents[[0, 2]].tolist() == [[0.5], [0.1]]
    assert checked.draws[0] == checked.draws[2] == 1 and min(checked.draws[1::2]) > 1
    np.testing.assert_array_equal(checked.sequences, checked.latents)
    # What is drawn for one sample does not depend on the others.
    alone = draw_checked(model, first[3:], seeds=[3])
    assert alone.latents[0] == checked.latents[3]


def test_drawing_again_has_an_end(model, monkeypatch):
    monkeypatch.setattr(checks, "fault", lambda *_: "a fault")
    checked = draw_checked(model, [[0.5]], seeds=[0])
    assert checked.draws == [checks.MOST_DRAWS] and checked.faults == ["a fault"]


def test_a_check_that_takes_too_long_is_the_last(model, monkeypatch):
    monkeypatch.setattr(checks, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(checks, "free_ends", lambda *_: time.sleep(5))
    start = time.monotonic()
    checked = draw_checked(model, [[0.5]], seeds=[0])
    assert time.monotonic() - start < 4
    assert checked.draws == [1] and checked.faults == [checks.TOO_LONG]
