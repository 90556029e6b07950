import math

import numpy as np
import pytest
import torch

from loopdraw.evaluation.metrics import (
    active_dimensions,
    chamfer_distances,
    coverage,
    generation_scores,
    kl_per_dimension,
    minimum_matching_distance,
    nearest_of_own_kind,
    novelty,
)


def brute_force(first, second):
    """Chamfer distances of all points with all points, in float64."""
    first, second = first.double(), second.double()
    squares = (first[:, None, :, None] - second[None, :, None]).square().sum(dim=-1)
    return squares.amin(dim=3).mean(dim=2) + squares.amin(dim=2).mean(dim=2)


def surfaces(n_clouds, n_points, seed, scale=1.0, shift=0.0):
    """Clouds on ellipsoids of different sizes and places, (n_clouds, n_points, 3) float32."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n_clouds, n_points, 3, generator=generator)
    points /= points.norm(dim=-1, keepdim=True)
    radii = 0.1 + 0.5 * torch.rand(n_clouds, 1, 3, generator=generator)
    middles = 0.1 * torch.randn(n_clouds, 1, 3, generator=generator)
    return scale * (radii * points + middles) + shift


# -------------------------------------------------------------------------------- Chamfer distance


@pytest.mark.parametrize(
    ("scale", "shift"), [(1.0, 0.0), (100.0, 0.0), (1e-3, 0.0), (1.0, torch.tensor([9.0, -4, 2]))]
)
def test_chamfer_distances_are_those_of_all_points_with_all(scale, shift):
    first = surfaces(5, 500, seed=0, scale=scale, shift=shift)
    second = surfaces(4, 301, seed=1, scale=scale, shift=shift)
    expected = brute_force(first, second)
    distances = chamfer_distances(first, second).double()
    torch.testing.assert_close(distances, expected, rtol=2e-5, atol=0.0)


@pytest.mark.parametrize(("n_first", "n_second"), [(1, 1), (1, 700), (2, 3), (700, 40)])
def test_chamfer_distances_of_any_number_of_points(n_first, n_second):
    first, second = surfaces(3, n_first, seed=2), surfaces(2, n_second, seed=3)
    expected = brute_force(first, second)
    torch.testing.assert_close(
        chamfer_distances(first, second).double(), expected, rtol=1e-4, atol=0
    )


def test_chamfer_distances_of_clouds_far_apart_and_of_points_that_coincide():
    near = torch.zeros(2, 600, 3)  # all points of a box are one
    far = torch.zeros(1, 5, 3) + torch.tensor([30.0, 40.0, 0.0])
    torch.testing.assert_close(chamfer_distances(near, far), torch.full((2, 1), 2 * 2500.0))
    assert chamfer_distances(near).tolist() == [[0, 0], [0, 0]]


def test_a_grid_and_its_shift_have_a_known_distance():
    axis = torch.arange(8.0)
    grid = torch.cartesian_prod(axis, axis, axis)[None]
    distance = chamfer_distances(grid, grid + torch.tensor([0.0, 0.25, 0.0]))
    assert distance.item() == pytest.approx(2 * 0.0625, rel=1e-5)


def test_one_set_against_itself():
    clouds = surfaces(4, 400, seed=4)
    distances = chamfer_distances(clouds)
    torch.testing.assert_close(distances, chamfer_distances(clouds, clouds), rtol=1e-5, atol=1e-10)
    assert (distances == distances.T).all()
    assert distances.diagonal().max() < 1e-7


def test_progress_adds_up():
    done = []
    chamfer_distances(surfaces(3, 50, seed=0), surfaces(2, 50, seed=1), done.append)
    assert sum(done) == 2 * 3 * 2
    done.clear()
    chamfer_distances(surfaces(3, 50, seed=0), None, done.append)
    assert sum(done) == 3 * 3


# ---------------------------------------------------------------------------------- sets of shapes


def on_a_line(first, second):
    """Distances between shapes that stand for numbers."""
    return (torch.tensor(first)[:, None] - torch.tensor(second)[None]).abs()


def scores(generated, reference):
    between = on_a_line(generated, reference)
    halves = nearest_of_own_kind(
        on_a_line(generated, generated), between, on_a_line(reference, reference)
    )
    return minimum_matching_distance(between), coverage(between), sum(halves) / 2


def test_scores_by_hand():
    # 0 and 1 are nearest to 0.2 and 0.9; 5 to 4 and 6 to 4; 4 and 9 have 5 and 6 nearest.
    matching, covered, accuracy = scores([0.0, 1.0, 5.0, 6.0], [0.2, 0.9, 4.0, 9.0])
    assert matching == pytest.approx((0.2 + 0.1 + 1.0 + 3.0) / 4)
    assert covered == 3 / 4
    # In the union only 5 and 6 have a shape of their own set nearest (each other; 5 ties with 4).
    assert accuracy in (1 / 8, 2 / 8)


def test_identical_sets_match_cover_and_are_told_apart_never():
    values = [0.0, 1.0, 3.0, 7.0]
    assert scores(values, values) == (0.0, 1.0, 0.0)


def test_sets_apart_are_told_apart_always():
    matching, covered, accuracy = scores([0.0, 1.0, 2.0], [100.0, 101.0, 102.0])
    assert (matching, covered, accuracy) == (99.0, 1 / 3, 1.0)


def test_mode_collapse_shows_in_coverage():
    reference = [float(i) for i in range(20)]
    collapsed = [7.0 + 0.001 * i for i in range(20)]
    matching, covered, accuracy = scores(collapsed, reference)
    assert covered == 1 / 20
    assert accuracy > 0.89
    assert matching > 4


def test_the_halves_show_which_set_is_more_varied():
    generated, reference = [5.0, 5.1, 5.2], [0.0, 5.15, 50.0]
    halves = nearest_of_own_kind(
        on_a_line(generated, generated),
        on_a_line(generated, reference),
        on_a_line(reference, reference),
    )
    assert halves == (1 / 3, 0.0)
    assert nearest_of_own_kind(
        on_a_line([0.0, 0.1], [0.0, 0.1]),
        on_a_line([0.0, 0.1], [9.0, 1.0]),
        on_a_line([9.0, 1.0], [9.0, 1.0]),
    ) == (1.0, 0.5)


def test_sets_of_one_distribution_cannot_be_told_apart():
    values = torch.rand(2, 1000, generator=torch.Generator().manual_seed(0)).tolist()
    _, covered, accuracy = scores(*values)
    assert accuracy == pytest.approx(0.5, abs=0.05)
    # A reference is missed when none of n numbers falls into its cell, whose size in units of 1/n
    # is Gamma(2, 1/2): in the mean (2/3)^2 of them are.
    assert covered == pytest.approx(5 / 9, abs=0.05)


def test_generation_scores_and_novelty():
    train, test = surfaces(6, 300, seed=5), surfaces(4, 300, seed=6)
    among_test = chamfer_distances(test)
    done = []
    apart = generation_scores(train[:4] + 10.0, test, among_test, done.append)
    assert sum(done) == 3 * 4**2
    assert apart["nearest_neighbour_accuracy"] == 1.0
    assert apart["own_kind_of_samples"] == apart["own_kind_of_references"] == 1.0
    assert apart["minimum_matching_distance"] > 200
    same = generation_scores(test, test, among_test)
    assert same["minimum_matching_distance"] < 1e-8
    assert same["coverage"] == 1.0
    assert same["nearest_neighbour_accuracy"] == 0.0

    found = novelty(train[[4, 2, 2, 0]], train)
    assert found["nearest"] == [4, 2, 2, 0]
    assert found["distinct"] == 3 / 4
    assert max(found["distances"]) < 1e-8


# ------------------------------------------------------------------------------------ latent space


def test_active_dimensions():
    # Standard deviations 0.2, 0.09, 0 and 3: variances above and below 0.01.
    signs = torch.tensor([1.0, -1.0]).repeat(10)[:, None]
    mu = signs * torch.tensor([0.2, 0.09, 0.0, 3.0]) + 5.0
    assert active_dimensions(mu).tolist() == [True, False, False, True]
    assert active_dimensions(mu[:1]).tolist() == [False] * 4


def test_kl_per_dimension():
    mu = torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    log_sigma_squared = torch.tensor([[0.0, 0.0, math.log(4.0)]]).expand(2, 3)
    expected = [0.0, 0.5, 0.5 * (4 - 1 - math.log(4.0))]
    np.testing.assert_allclose(kl_per_dimension(mu, log_sigma_squared), expected, rtol=1e-6)
