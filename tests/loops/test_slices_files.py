"""Slices files: the published layout, normals, and round trips."""

import numpy as np
import pytest
from conftest import DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from small_loops import circle, loop_lists

from loopdraw.files import UserError
from loopdraw.loops.geometry import lift, make_planes
from loopdraw.loops.slices_files import load_slices, save_slices


@pytest.fixture
def published_slices():
    return DATA / "slices-example" / "inference-gt2-slices.npz"


def test_published_slices_are_read(published_slices):
    planes, loops_by_plane = load_slices(published_slices)
    assert planes.shape == (9, 4, 3) and len(loops_by_plane) == 9
    packed = np.load(published_slices)["loop_pts_packed"]
    assert sum(len(loop) for loops in loops_by_plane for loop in loops) == len(packed) - 9
    assert all(loop.shape == (32, 2) for loops in loops_by_plane for loop in loops)
    lifted = np.concatenate(
        [
            lift(loop, plane)
            for plane, loops in zip(planes, loops_by_plane, strict=True)
            for loop in loops
        ]
    )
    stored = packed[np.isfinite(packed).all(axis=1)]
    assert np.allclose(np.sort(lifted, axis=0), np.sort(stored, axis=0), atol=1e-15)
    # The published blocks hold inner loops of the plane below; here they are where they lie:
    # an outer and an inner wall on the planes between bottom and lip, a handle on most.
    assert [len(loops) for loops in loops_by_plane] == [1, 2, 2, 3, 3, 3, 3, 3, 1]


def test_published_slices_saved_again_hold_the_same_arrays(published_slices, tmp_path):
    planes, loops_by_plane = load_slices(published_slices)
    save_slices(tmp_path / "again-slices.npz", planes, loops_by_plane)
    ours, published = np.load(tmp_path / "again-slices.npz"), np.load(published_slices)
    assert set(ours.files) == set(published.files)
    for name in published.files:
        assert ours[name].dtype == published[name].dtype
        assert ours[name].shape == published[name].shape
        assert np.allclose(
            np.sort(ours[name], axis=0), np.sort(published[name], axis=0), atol=1e-15
        ) or name in ("loop_segment_normals_packed", "loop_conn_arr_packed")
    points, segments = ours["loop_pts_packed"], ours["loop_conn_arr_packed"]
    assert np.array_equal(np.isinf(points[:, 0]), segments[:, 0] == -1)
    again_planes, again_loops = load_slices(tmp_path / "again-slices.npz")
    assert np.array_equal(again_planes, planes)
    for loops, again in zip(loops_by_plane, again_loops, strict=True):
        assert np.allclose(loops, again, atol=1e-15)


def test_slices_normals_point_out_of_the_solid(tmp_path):
    planes = make_planes("y", 3, -0.4, 0.4)
    wall = [circle(0.3, n_points=60), circle(0.2, n_points=40)[::-1]]
    path = tmp_path / "a-slices.npz"
    save_slices(path, planes, [[], wall, [circle(0.1)]])
    arrays = np.load(path)
    assert np.array_equal(arrays["planes"], planes[1:])
    points, normals = arrays["loop_pts_packed"], arrays["loop_segment_normals_packed"]
    segments = arrays["loop_conn_arr_packed"]
    assert np.array_equal(points[[0, 101]], np.full((2, 3), -np.inf))
    assert np.array_equal(normals[[0, 101]], np.full((2, 3), -np.inf))
    assert np.array_equal(segments[[0, 101]], np.full((2, 2), -1))
    assert segments[1].tolist() == [0, 1] and segments[60].tolist() == [59, 0]
    assert segments[61].tolist() == [60, 61] and segments[100].tolist() == [99, 60]
    assert segments[102].tolist() == [0, 1]
    outer, hole = slice(1, 61), slice(61, 101)
    assert np.allclose(np.linalg.norm(normals[1:101], axis=1), 1)
    assert np.allclose(normals[1:101, 1], 0)
    # Cosine between each normal and the direction away from the axis (the y axis).
    assert (np.sum(normals[outer] * points[outer], axis=1) > 0.99 * 0.3).all()
    assert (np.sum(normals[hole] * points[hole], axis=1) < -0.99 * 0.2).all()


@settings(max_examples=25, deadline=None)
@given(loop_lists, st.sampled_from("xyz"))
def test_slices_survive_the_round_trip(tmp_path_factory, loops_by_plane, axis):
    path = tmp_path_factory.mktemp("slices") / "x-slices.npz"
    planes = make_planes(axis, len(loops_by_plane) + 1, -0.5, 0.5)[1:]
    save_slices(path, planes, loops_by_plane)
    read_planes, read_loops = load_slices(path)
    carrying = [i for i, loops in enumerate(loops_by_plane) if loops]
    assert np.array_equal(read_planes, planes[carrying])
    for loops, i in zip(read_loops, carrying, strict=True):
        assert len(loops) == len(loops_by_plane[i])
        for loop, original in zip(loops, loops_by_plane[i], strict=True):
            assert np.allclose(loop, original, atol=1e-14)


def test_slices_that_are_none_give_one_line(tmp_path, published_slices):
    path = tmp_path / "x-slices.npz"
    with pytest.raises(UserError, match="no such file"):
        load_slices(path)
    np.savez(path, planes=np.zeros((0, 4, 3)))
    with pytest.raises(UserError, match="lacks loop_pts_packed"):
        load_slices(path)
    arrays = dict(np.load(published_slices))
    shifted_segments = arrays["loop_conn_arr_packed"] + 40 * (np.arange(681) == 3)[:, None]
    for changes in (
        {"planes": arrays["planes"][:5]},
        {"planes": arrays["planes"][0]},
        {"loop_pts_packed": arrays["loop_pts_packed"][1:]},
        {"loop_conn_arr_packed": shifted_segments},
        {"loop_conn_arr_packed": np.where(arrays["loop_conn_arr_packed"] == 0, 1, 0)},
        {"loop_pts_packed": arrays["loop_pts_packed"].astype("U3")},
        {"planes": np.full((len(arrays["planes"]), 4, 3), "up")},
    ):
        np.savez(path, **{**arrays, **changes})
        with pytest.raises(UserError, match="x-slices.npz: not a slices file"):
            load_slices(path)


def test_slices_with_nan_are_not_written(tmp_path):
    loop = circle()
    loop[0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        save_slices(tmp_path / "x.npz", make_planes("z", 2, 0, 1), [[loop], []])
    assert not list(tmp_path.iterdir())
