"""Loops for tests."""

import numpy as np
from hypothesis import strategies as st


def circle(radius=0.2, centre=(0.0, 0.0), n_points=100, phase=0.3):
    t = phase + 2 * np.pi * np.arange(n_points) / n_points
    return np.stack([np.cos(t), np.sin(t)], axis=1) * radius + centre


@st.composite
def star_loops(draw):
    """Simple closed loops: radii around a centre, a random start and direction."""
    n_points = draw(st.integers(5, 60))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    radii = 0.2 + 0.15 * random.random(n_points)
    angles = 2 * np.pi * (np.arange(n_points) + 0.8 * random.random(n_points)) / n_points
    loop = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    loop = loop * (1, random.uniform(0.4, 1)) + random.uniform(-0.5, 0.5, 2)
    loop = np.roll(loop, random.integers(n_points), axis=0)
    return loop[::-1] if random.random() < 0.5 else loop


loop_lists = st.lists(st.lists(star_loops(), max_size=3), min_size=1, max_size=5)
