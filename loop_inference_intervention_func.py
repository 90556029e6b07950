"""Edit the loops of a shape while it is being decoded. This file is yours to change.

The inference program calls `loop_generation_intervention` for every loop of an action submitted
with `--intervene`. What the function returns takes the place of the loop, and all later loops are
generated to follow it. The file is read again before each such run, so edit, save and run again.

To switch on an example, change the line `ACTIVE = no_edit` below to one of

    ACTIVE = shift_loop      one loop moved sideways
    ACTIVE = square_loops    some loops made square
    ACTIVE = transplant      the first loops taken from another shape
    ACTIVE = make_handle     small loops beside the body, which become a handle
    ACTIVE = change_latent   the shape goes on as another one

An example gets the loop `unn_ts`, a (1, F) array in the units of the dataset (its shapes fit in a
box of side 1), the number `i` of the loop, counted from 0, and `state`, which keeps values from
one loop of a shape to the next. It returns the loop to go on with.

A polyline loop is u0, v0, ..., u31, v31, flag: 32 points in their plane, and 1 if the loop is the
first of its plane ("level up"), else 0. An ellipse is cx, cy, a, b, phi, flag.
"""

import numpy as np

from loopdraw.editing.edits import (  # helpers, explained below
    map_ellipse,
    move_loop,
    replace_loop,
    rotate_loop,  # noqa: F401
    scale_loop,  # noqa: F401
    square_loop,
)
from loopdraw.loops.geometry import resample_loop


def no_edit(unn_ts, i, state):
    return unn_ts


def shift_loop(unn_ts, i, state):
    if i == 10:
        return move_loop(unn_ts, 0.1, 0.0)
    return unn_ts


def square_loops(unn_ts, i, state):
    if 8 <= i < 14:
        return square_loop(unn_ts, degrees=45.0)
    return unn_ts


def transplant(unn_ts, i, state):
    # Written in the REPL by `print last_pred_seq donor.txt`: one row a loop.
    donor = np.loadtxt("donor.txt", ndmin=2)
    if i < min(12, len(donor)):
        return donor[i : i + 1]
    return unn_ts


def make_handle(unn_ts, i, state):
    # The handle leaves the body on plane 9 and comes back to it on plane 15. There, an arm is added
    # to the body's outline. On the planes between, one more loop lies beside the body.
    first, last, gap, width = 9, 15, 0.08, 0.08
    if i == 0:
        state.store("plane", -1)
        state.store("done", -1)  # the last plane with a loop of the handle
    plane = state.retrieve("plane")
    opens_plane = i == 0 or unn_ts[0, -1] > 0.5
    wanted = first < plane < last and state.retrieve("done") < plane
    if opens_plane and not wanted:
        state.store("plane", plane + 1)
        state.store("body", unn_ts)
        return add_arm(unn_ts, gap + width, width) if plane + 1 in (first, last) else unn_ts
    body = state.retrieve("body")[0, :-1].reshape(-1, 2)
    u, v = body[:, 0].max(), body[:, 1].mean()
    # All loops of the plane are there, or the model makes a handle of its own here.
    if wanted and (opens_plane or unn_ts[0, :-1:2].mean() > u):
        state.store("done", plane)
        angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        circle = width / 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        handle = replace_loop(unn_ts, [u + gap + width / 2, v] + circle)
        handle[0, -1] = 0.0  # it lies in the plane of the loop before it
        return handle
    return unn_ts


def add_arm(unn_ts, length, width):
    """The loop with a straight arm that reaches out along u by `length`."""
    points = resample_loop(unn_ts[0, :-1].reshape(-1, 2), 640)
    u, v = points.T
    arm = (u > u.mean()) & (abs(v - v.mean()) < width / 2)
    points[arm, 0] = u.max() + length
    return replace_loop(unn_ts, points)


def change_latent(unn_ts, i, state):
    # The function beside the loop maps the latent, (1, latent size), to the one that conditions
    # all further loops. Not possible with --transformer_arch_version 0.
    if i == 15:
        return unn_ts, lambda z: -z
    return unn_ts


ACTIVE = no_edit


def loop_generation_intervention(dataset, ts_i_state, ts):
    """Called for each generated loop of a shape, in order.

    Parameters
    ----------
    dataset : has `dataset_mean` and `dataset_std`, (F,) float
    ts_i_state : `ts_i_state()` is the number of the loop, which this function itself must advance;
        `.store(key, value)` and `.retrieve(key)` keep values until the shape is done;
        `.retrieve("latent_z")` is the shape's latent (1, latent size), `"latent_size"` its size;
        `.put(value)` sets the number
    ts : (1, F) tensor, the generated loop, normalised

    Returns
    -------
    the loop to go on with, (1, F), normalised; or a tuple of it and a function from the latent
    (1, latent size) to a new one, which conditions all further loops
    """
    i = ts_i_state()
    ts_i_state.modify(lambda number: number + 1)
    unn_ts = ts.cpu().numpy() * dataset.dataset_std + dataset.dataset_mean
    edited, new_latent = ACTIVE(unn_ts.copy(), i, ts_i_state), None
    if isinstance(edited, tuple):
        edited, new_latent = edited
    if not np.array_equal(edited, unn_ts):
        ts = (edited - dataset.dataset_mean) / dataset.dataset_std
    return ts if new_latent is None else (ts, new_latent)


# Helpers. Each takes a loop (1, F) that is not normalised.
#
# About the loop's own centre, and in the order of points that the model knows:
#
#     move_loop(unn_ts, u, v)             scale_loop(unn_ts, u, v)
#     rotate_loop(unn_ts, degrees)        square_loop(unn_ts, degrees, scale)
#     replace_loop(unn_ts, points)
#
# The three below are those of the published program. They work about the origin of the plane, not
# about the loop's centre, and leave the points in the order that they have.


def apply_rotation_matrix(unn_ts, angle_in_degrees):
    """The loop turned about (0, 0), counter-clockwise in (u, v); a new array."""
    angle = np.deg2rad(angle_in_degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return _map_in_place(np.array(unn_ts, dtype=np.float64), rotation, np.zeros(2))


def scale_shift_loop(unn_ts, scalex, scaley, dx, dy):
    """Turn each point (u, v) into (u scalex + dx, v scaley + dy), in `unn_ts` itself."""
    return _map_in_place(unn_ts, np.diag([scalex, scaley]), np.array([dx, dy]))


def turn_into_square(unn_ts, angle_in_degrees, scale):
    """A square with sides of length `scale` about (0, 0), turned by an angle; a new array.

    A `scale` of None stands for about 0.57: the mean distance of the points from the origin in a
    square of side 1. A loop whose number of points is no multiple of 4, such as an ellipse, comes
    back unchanged.
    """
    n_points = unn_ts.shape[1] // 2
    if n_points % 4:
        return unn_ts
    square = np.array(unn_ts, dtype=np.float64)
    along = np.arange(n_points) / (n_points // 4)  # 0 to 4, once around the four sides
    corners = np.array([[-1, 1], [1, 1], [1, -1], [-1, -1], [-1, 1]]) / 2
    points = np.stack([np.interp(along, range(5), column) for column in corners.T], axis=1)
    if scale is None:
        scale = np.linalg.norm(points, axis=1).mean()
    square[0, : 2 * n_points] = (scale * points).ravel()
    return apply_rotation_matrix(square, angle_in_degrees)


def _map_in_place(unn_ts, matrix, shift):
    """Write the loop under x -> matrix x + shift into `unn_ts`; returns it."""
    if unn_ts.shape[1] in (5, 6):  # an ellipse
        unn_ts[0, :5] = map_ellipse(unn_ts[0, :5], matrix)
        unn_ts[0, :2] = matrix @ unn_ts[0, :2] + shift
    else:
        points = unn_ts[0, :-1].reshape(-1, 2)
        unn_ts[0, :-1] = (points @ matrix.T + shift).ravel()
    return unn_ts
