"""What can be done to loops by hand: move, scale, rotate, make square, replace, insert, remove.

An `Edit` names a range of loops of a sequence, counted from 0, and what happens to each of them.
An insert or a remove names a range of planes instead. All lengths are those of the dataset, in the
(u, v) coordinates of the loop's plane. A loop is changed about its own centre, the mean of its
points.

A model knows loops in canonical form only (`representations.canonical_polyline`: clockwise,
from the point with the least u + v, evenly spaced). So every function below takes a canonical loop
and returns one; a move keeps the form by itself, the others bring it about.
"""

import dataclasses

import numpy as np

from loopdraw.files import UserError
from loopdraw.loops.geometry import signed_area
from loopdraw.loops.representations import REPRESENTATIONS, canonical_polyline, fit_ellipse

# kind: its numbers, each with the value that changes nothing (for a square: the plain one)
NUMBERS = {
    "move": {"u": 0.0, "v": 0.0},
    "scale": {"u": 1.0, "v": 1.0},
    "rotate": {"degrees": 0.0},
    "square": {"degrees": 0.0, "scale": 1.0},
    "replace": {},
    "insert": {"u": 0.0, "v": 0.0, "scale": 1.0},
    "remove": {"loop": 1},
}
OF_PLANES = ("insert", "remove")  # their ranges are of planes
WITH_LOOPS = ("replace", "insert")
SMALLEST_SCALE = 1e-3  # a smaller loop is a point


@dataclasses.dataclass(frozen=True)
class Edit:
    """One entry of an edit list.

    ========  ====================  ===========================================================
    kind      values                what happens to the loop
    ========  ====================  ===========================================================
    move      u, v                  moved by (u, v)
    scale     u, v                  scaled about its centre, by u along u and by v along v
    rotate    degrees               turned about its centre, counter-clockwise in (u, v)
    square    degrees, scale        a square about its centre, of `scale` times the side that
                                    keeps its area, turned by `degrees`
    replace   loops                 loop `first + i` becomes `loops[i]`, a list of (u, v) points
    insert    loops, u, v, scale    plane `first + i` gets `loops[i]`, or `loops[0]` where there is
                                    but one, scaled about its centre and moved by (u, v)
    remove    loop                  each plane loses its loop of this number, counted from 0
    ========  ====================  ===========================================================

    Attributes
    ----------
    kind : str
    first, last : int
        The range of loops, both ends included; for an insert and a remove, of planes.
    values : dict
    enabled : bool

    Raises
    ------
    ValueError
        When something in it makes no sense, saying what.
    """

    kind: str
    first: int
    last: int
    values: dict
    enabled: bool = True

    def __post_init__(self):
        if not isinstance(self.kind, str) or self.kind not in NUMBERS:
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(NUMBERS)}")
        for name in ("first", "last"):
            object.__setattr__(self, name, _whole_number(getattr(self, name), name))
        if not isinstance(self.enabled, bool):
            raise ValueError(f"enabled is {self.enabled!r}, not true or false")
        if not 0 <= self.first <= self.last:
            what = "planes" if self.of_planes else "loops"
            raise ValueError(f"{what} {self.first} to {self.last} are no range from 0 on")
        wanted = set(NUMBERS[self.kind]) | ({"loops"} if self.kind in WITH_LOOPS else set())
        if set(self.values) != wanted:
            raise ValueError(f"it has {_listed(self.values)} where {_listed(wanted)} belongs")
        object.__setattr__(self, "values", self._checked_values())

    def _checked_values(self):
        if self.kind == "remove":
            loop = _whole_number(self.values["loop"], "loop")
            if loop < 0:
                raise ValueError(f"loop is {loop}, not 0 or more")
            return {"loop": loop}
        values = {}
        for name, value in self.values.items():
            if name == "loops":
                one_will_do = self.kind == "insert"
                values[name] = _checked_loops(value, self.last - self.first + 1, one_will_do)
                continue
            values[name] = checked_number(value, name)
            is_scale = name == "scale" or self.kind == "scale"
            if is_scale and values[name] < SMALLEST_SCALE:
                raise ValueError(f"{name} is {values[name]}, not {SMALLEST_SCALE} or more")
        return values

    @property
    def of_planes(self):
        """Whether `first` and `last` are planes."""
        return self.kind in OF_PLANES

    def covers(self, number):
        """Whether loop (or plane) `number` is in the range."""
        return self.first <= number <= self.last

    def acts(self):
        """Whether it changes anything: it is switched on, and not a move by nothing."""
        always = ("square", *WITH_LOOPS, *OF_PLANES)
        return self.enabled and (self.kind in always or self.values != NUMBERS[self.kind])

    def inserted(self, plane):
        """The points (k, 2) that an insert puts into a plane of its range."""
        loops = self.values["loops"]
        points = np.array(loops[plane - self.first if len(loops) > 1 else 0])
        centre = points.mean(axis=0)
        shift = np.array([self.values["u"], self.values["v"]])
        return centre + (points - centre) * self.values["scale"] + shift

    def arguments(self, number):
        """What the function of this kind takes beside the loop, for loop `number`."""
        if self.kind == "replace":
            return {"points": self.values["loops"][number - self.first]}
        return self.values

    def changed(self, **changes):
        """The same edit with another `first`, `last`, `enabled` or other values."""
        own = {name: changes.pop(name) for name in ("first", "last", "enabled") if name in changes}
        return dataclasses.replace(self, values={**self.values, **changes}, **own)

    def partly(self, share):
        """The edit on its way: `share` 0 changes nothing, 1 is the whole edit.

        Squares and other loops cannot come bit by bit: they come one after the other.
        """
        if self.kind in ("square", *WITH_LOOPS, *OF_PLANES):
            n_loops = int(np.ceil(share * (self.last - self.first + 1)))
            part = self.changed(enabled=self.enabled and n_loops > 0)
            n_loops = max(n_loops, 1)
            values = {k: x[:n_loops] if k == "loops" else x for k, x in self.values.items()}
            return dataclasses.replace(part, last=self.first + n_loops - 1, values=values)
        neutral = NUMBERS[self.kind]
        return self.changed(
            **{k: neutral[k] + share * (x - neutral[k]) for k, x in self.values.items()}
        )

    def describe(self):
        """One line: "move 10-12: u 0.05, v 0", "remove planes 4-9: loop 1"."""
        numbers = ", ".join(f"{name} {x:.3g}" for name, x in self.values.items() if name != "loops")
        range_ = f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        if self.of_planes:
            range_ = f"plane{'' if self.first == self.last else 's'} {range_}"
        return f"{self.kind} {range_}" + (f": {numbers}" if numbers else "")


def ellipse_points(u, v, width, height):
    """An ellipse about (u, v) to insert, (48, 2) float64."""
    angles = np.arange(48) * (2 * np.pi / 48)
    return np.array([u, v]) + 0.5 * np.stack(
        [width * np.cos(angles), height * np.sin(angles)], axis=1
    )


def square_points(u, v, side):
    """A square about (u, v) to insert, (4, 2) float64."""
    return np.array([u, v]) + 0.5 * side * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])


def make_edit(kind, first, last, **values):
    """An edit with the values given, the others such that they change nothing."""
    return Edit(kind, first, last, {**NUMBERS.get(kind, {}), **values})


def _whole_number(value, name):
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} is {value!r}, not a whole number")
    return int(value)


def checked_number(value, name):
    """`value` as a float; ValueError, naming it, when it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ValueError(f"{name} is {value!r}, not a number")
    try:
        value = float(value)
    except OverflowError:
        value = np.inf
    if not np.isfinite(value):
        raise ValueError(f"{name} is {value}, not finite")
    return value


def _checked_loops(loops, n_loops, one_will_do=False):
    if not isinstance(loops, list | tuple):
        raise ValueError(f"loops is {loops!r}, not a list of loops")
    if len(loops) != n_loops and not (one_will_do and len(loops) == 1):
        raise ValueError(f"it has {len(loops)} loops for a range of {n_loops}")
    return [checked_loop(loop).tolist() for loop in loops]


def checked_loop(loop):
    """A loop as (k, 2) float64; ValueError, when it is none."""
    try:
        loop = np.asarray(loop, dtype=np.float64)
    except (ValueError, TypeError):
        loop = np.zeros(0)
    if loop.ndim != 2 or loop.shape[1] != 2 or len(loop) < 3 or not np.isfinite(loop).all():
        raise ValueError("a loop in it is no list of three or more points (u, v)")
    if not np.ptp(loop, axis=0).any():
        raise ValueError("a loop in it is a single point")
    return loop


def _listed(names, word="and"):
    return f" {word} ".join(sorted(map(str, names))) or "nothing"


# ------------------------------------------------------------------------- what happens to a loop


def apply_edits(timestep, edits, number, representation):
    """Loop `number` of a sequence, changed by edits one after the other.

    Parameters
    ----------
    timestep : (F,) float, not normalised
    edits : list of Edit that cover the loop
    number : int
    representation : representations.Representation

    Returns
    -------
    (F,) float64; the flag stays as it is
    """
    timestep = np.array(timestep, dtype=np.float64)
    n_values = representation.n_features - representation.has_flag
    functions = edit_functions(representation)
    loop = timestep[:n_values]
    if representation.is_polyline:
        loop = loop.reshape(-1, 2)
    for edit in edits:
        loop = functions[edit.kind](loop, **edit.arguments(number))
    timestep[:n_values] = loop.ravel()
    return timestep


def edit_functions(representation):
    """kind -> the function that changes a loop of this representation."""
    return POLYLINE_FUNCTIONS if representation.is_polyline else ELLIPSE_FUNCTIONS


def check_edit(edit, representation, n_timesteps, n_planes):
    """UserError, with the reason, when a model cannot take an edit."""
    if edit.kind == "square" and not representation.is_polyline:
        raise UserError("an ellipse cannot be made square; that takes fixed-res-polyline loops")
    if edit.of_planes:
        if not representation.has_flag:
            raise UserError(f"{edit.kind}: {representation.name} shapes have one loop a plane")
        if edit.last >= n_planes:
            raise UserError(
                f"{edit.kind}: there is no plane {edit.last}: the model has {n_planes}, from 0 to "
                f"{n_planes - 1}"
            )
    elif edit.last >= n_timesteps:
        raise UserError(
            f"there is no loop {edit.last}: the model has {n_timesteps}, from 0 to "
            f"{n_timesteps - 1}"
        )


def check_completion(plane, n_planes, with_loops=None):
    """UserError when a shape cannot be completed from this plane on.

    Parameters
    ----------
    plane : int, the first plane that is made anew
    n_planes : int, of the model
    with_loops : (n,) int, the planes that the shape has loops on; None: not known yet
    """
    if not 0 < plane < n_planes - 1:
        raise UserError(
            f"complete: plane {plane}; the planes below it are kept, so it is one from 1 to "
            f"{n_planes - 2}"
        )
    if with_loops is not None and not (with_loops < plane).any():
        raise UserError(f"complete: no loop lies below plane {plane}, so there is nothing to keep")


# For intervention functions: each takes a loop as they get it, a (1, F) array that is not
# normalised, and returns a changed copy. The flag stays as it is.


def move_loop(unn_ts, u, v):
    """The loop moved by (u, v)."""
    return _changed(unn_ts, "move", u=u, v=v)


def scale_loop(unn_ts, u, v):
    """The loop scaled about its own centre, by `u` along u and by `v` along v; both above 0."""
    return _changed(unn_ts, "scale", u=u, v=v)


def rotate_loop(unn_ts, degrees):
    """The loop turned about its own centre, counter-clockwise in (u, v)."""
    return _changed(unn_ts, "rotate", degrees=degrees)


def square_loop(unn_ts, degrees=0.0, scale=1.0):
    """A square about the loop's own centre, of `scale` times the side that keeps its area.

    At 0 degrees its sides follow u and v. UserError for ellipses.
    """
    return _changed(unn_ts, "square", degrees=degrees, scale=scale)


def replace_loop(unn_ts, points):
    """A loop through `points`, (k, 2) float; they may start anywhere and run either way."""
    return _changed(unn_ts, "replace", loops=[points])


def _changed(unn_ts, kind, **values):
    unn_ts = np.asarray(unn_ts, dtype=np.float64)
    by_size = {r.n_features: r for r in REPRESENTATIONS.values()}
    representation = by_size.get(unn_ts.size)
    if representation is None:
        raise UserError(f"a loop has {_listed(by_size, 'or')} numbers, not {unn_ts.shape}")
    edit = make_edit(kind, 0, 0, **values)
    check_edit(edit, representation, 1, 1)
    return apply_edits(unn_ts.ravel(), [edit], 0, representation).reshape(unn_ts.shape)


# The same for the points (32, 2) of a polyline, or the five numbers of an ellipse.


def move_polyline(loop, u, v):
    return loop + np.array([u, v])


def scale_polyline(loop, u, v):
    centre = loop.mean(axis=0)
    return canonical_polyline(centre + (loop - centre) * np.array([u, v]))


def rotate_polyline(loop, degrees):
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    centre = loop.mean(axis=0)
    return canonical_polyline(centre + (loop - centre) @ np.array([[cos, sin], [-sin, cos]]))


def square_polyline(loop, degrees, scale):
    half = 0.5 * scale * np.sqrt(abs(signed_area(loop)))
    angles = np.deg2rad(degrees + np.array([45.0, 135.0, 225.0, 315.0]))
    corners = half * np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return canonical_polyline(loop.mean(axis=0) + corners)


def replace_polyline(loop, points):
    return canonical_polyline(np.array(points, dtype=np.float64))


def move_ellipse(ellipse, u, v):
    return ellipse + np.array([u, v, 0.0, 0.0, 0.0])


def scale_ellipse(ellipse, u, v):
    return map_ellipse(ellipse, np.diag([u, v]))


def rotate_ellipse(ellipse, degrees):
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return map_ellipse(ellipse, np.array([[cos, -sin], [sin, cos]]))


def map_ellipse(ellipse, matrix):
    """The image (5,) of an ellipse (cx, cy, a, b, phi) under a linear map about its centre."""
    centre, (a, b, phi) = ellipse[:2], ellipse[2:]
    turn = np.array([[np.cos(phi), -np.sin(phi)], [np.sin(phi), np.cos(phi)]])
    # An ellipse is a linear image of the circle: its axes are the singular vectors of the map.
    axes, lengths, _ = np.linalg.svd(matrix @ turn @ np.diag([a, b]))
    return np.array([*centre, *lengths, np.arctan2(axes[1, 0], axes[0, 0]) % np.pi])


def replace_ellipse(ellipse, points):
    return fit_ellipse([np.array(points, dtype=np.float64)])


POLYLINE_FUNCTIONS = {
    "move": move_polyline,
    "scale": scale_polyline,
    "rotate": rotate_polyline,
    "square": square_polyline,
    "replace": replace_polyline,
}
# No "square": an ellipse cannot be one.
ELLIPSE_FUNCTIONS = {
    "move": move_ellipse,
    "scale": scale_ellipse,
    "rotate": rotate_ellipse,
    "replace": replace_ellipse,
}
