"""Which loops lie inside which."""

import numpy as np
from small_loops import circle

from loopdraw.loops.nesting import collect_loops, nesting_depths


def test_nested_loops_count_those_around_them():
    beside, outer, hole = circle(0.1, (2.0, 0.0)), circle(1.0), circle(0.5)
    inner = circle(0.2, (0.1, 0.0))[::-1]
    assert nesting_depths([inner, beside, hole, outer]).tolist() == [2, 0, 1, 0]
    assert nesting_depths([]).tolist() == []


def test_a_loop_that_crosses_another_lies_inside_when_most_of_it_does():
    outer = circle(1.0)
    assert nesting_depths([outer, circle(0.3, (0.9, 0.0))]).tolist() == [0, 1]
    assert nesting_depths([outer, circle(0.3, (1.1, 0.0))]).tolist() == [0, 0]


def test_loops_that_enclose_nothing_lie_inside_nothing():
    line = np.array([[0.0, 0.0], [0.1, 0.0], [0.2, 0.0]])
    closed_twice = np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.0]])
    loops = [circle(1.0), np.zeros((32, 2)), line, closed_twice, line[:2], line[:1], line[:0]]
    assert nesting_depths(loops).tolist() == [0] * 7


def test_drawings_and_surfaces_agree_on_nesting():
    rng = np.random.default_rng(0)
    for _ in range(50):
        loops = [circle(*rng.uniform(0.1, 1.0, 1), rng.uniform(-0.5, 0.5, 2)) for _ in range(6)]
        collected = collect_loops(loops, np.zeros(6), least_area=0)
        assert nesting_depths(loops).tolist() == collected.depth.tolist()
