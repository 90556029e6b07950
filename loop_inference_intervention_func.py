"""Edit the loops of a shape while it is being decoded. This file is yours to change.

The inference program calls `loop_generation_intervention` for every loop of an action submitted
with `--intervene`. What the function returns takes the place of the loop, and all later loops are
generated to follow it. The file is read again before each such run, so edit, save and run again.

To switch on an example, change the line `ACTIVE = no_edit` below to one of

    ACTIVE = shift_loop      one loop moved sideways
    ACTIVE = square_loops    some loops made square
    ACTIVE = transplant      the first loops taken from another shape
    ACTIVE = make_handle     a small loop beside the body, for the model to grow a handle from
    ACTIVE = change_latent   the shape goes on as another one

An example gets the loop `unn_ts`, a (1, F) array in the units of the dataset (its shapes fit in a
box of side 1), the number `i` of the loop, counted from 0, and `state`, which keeps values from
one loop of a shape to the next. It returns the loop to go on with.

A polyline loop is u0, v0, ..., u31, v31, flag: 32 points in their plane, and 1 if the loop is the
first of its plane ("level up"), else 0. An ellipse is cx, cy, a, b, phi, flag.
"""

import numpy as np


def no_edit(unn_ts, i, state):
    return unn_ts


def shift_loop(unn_ts, i, state):
    if i == 10:
        return scale_shift_loop(unn_ts, 1.0, 1.0, 0.1, 0.0)
    return unn_ts


def square_loops(unn_ts, i, state):
    if 8 <= i < 14:
        return turn_into_square(unn_ts, 45.0, 1.0)
    return unn_ts


def transplant(unn_ts, i, state):
    # Written in the REPL by `print last_pred_seq donor.txt`: one row a loop.
    donor = np.loadtxt("donor.txt", ndmin=2)
    if i < min(12, len(donor)):
        return donor[i : i + 1]
    return unn_ts


def make_handle(unn_ts, i, state):
    if i == 11:
        state.store("body", unn_ts)
    if i == 12:
        handle = scale_shift_loop(state.retrieve("body"), 0.3, 0.3, 0.3, 0.0)
        handle[0, -1] = 0.0  # it lies in the plane of the loop before it
        return handle
    return unn_ts


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
    edited, new_latent = ACTIVE(unn_ts, i, ts_i_state), None
    if isinstance(edited, tuple):
        edited, new_latent = edited
    if edited is not unn_ts:
        ts = (edited - dataset.dataset_mean) / dataset.dataset_std
    return ts if new_latent is None else (ts, new_latent)


# Helpers. Each takes a loop (1, F) that is not normalised and returns a changed copy of it.


def apply_rotation_matrix(unn_ts, angle_in_degrees):
    """The loop rotated about its centre, counter-clockwise in (u, v)."""
    angle = np.deg2rad(angle_in_degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return _transformed(unn_ts, rotation, np.zeros(2))


def scale_shift_loop(unn_ts, scalex, scaley, dx, dy):
    """The loop scaled about its centre by `scalex` along u and `scaley` along v, then moved."""
    return _transformed(unn_ts, np.diag([scalex, scaley]), np.array([dx, dy]))


def turn_into_square(unn_ts, angle_in_degrees, scale):
    """A square about the loop's centre, of `scale` times the side that would keep its area.

    At an angle of 0 the sides follow u and v. ValueError for ellipses.
    """
    unn_ts = np.array(unn_ts, dtype=np.float64)
    if _is_ellipse(unn_ts):
        raise ValueError("an ellipse cannot be made square; that needs fixed-res-polyline loops")
    points = unn_ts[0, :-1].reshape(-1, 2)
    centre = points.mean(axis=0)
    along = np.arange(0, 4, 4 / len(points))  # position on the outline: sides 0 to 4
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1], [-1, -1]]) / 2
    outline = np.stack([np.interp(along, range(5), column) for column in corners.T], axis=1)
    side = scale * np.sqrt(abs(_signed_area(points)))
    unn_ts[0, :-1] = (centre + side * outline).ravel()
    return apply_rotation_matrix(unn_ts, angle_in_degrees)


def _is_ellipse(unn_ts):
    return unn_ts.shape[1] in (5, 6)  # without or with a flag


def _transformed(unn_ts, matrix, shift):
    """The loop under x -> centre + matrix (x - centre) + shift."""
    unn_ts = np.array(unn_ts, dtype=np.float64)
    if _is_ellipse(unn_ts):
        a, b, phi = unn_ts[0, 2:5]
        turn = np.array([[np.cos(phi), -np.sin(phi)], [np.sin(phi), np.cos(phi)]])
        # An ellipse is a linear image of the circle; so is its image.
        axes, lengths, _ = np.linalg.svd(matrix @ turn @ np.diag([a, b]))
        unn_ts[0, :2] += shift
        unn_ts[0, 2:4] = lengths
        unn_ts[0, 4] = np.arctan2(axes[1, 0], axes[0, 0]) % np.pi
        return unn_ts
    points = unn_ts[0, :-1].reshape(-1, 2)
    centre = points.mean(axis=0)
    points = centre + (points - centre) @ matrix.T + shift
    # The model knows loops that start at the point with the least u + v and run clockwise.
    if _signed_area(points) > 0:
        points = points[::-1]
    points = np.roll(points, -points.sum(axis=1).argmin(), axis=0)
    unn_ts[0, :-1] = points.ravel()
    return unn_ts


def _signed_area(points):
    """Area inside the loop, positive when it runs counter-clockwise in (u, v)."""
    u, v = points.T
    return 0.5 * float(u @ np.roll(v, -1) - v @ np.roll(u, -1))
