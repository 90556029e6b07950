"""The `.csl` files of other programs for contours: planes in space, with loops, holes and labels.

    CSLC
    planes labels
    id n_vertices n_components A B C D      one such block a plane, Ax + By + Cz + D = 0
    x y z                                   n_vertices times
    n[hK] label i0 i1 ...                   n_components times

A component is a loop of n of the plane's vertices, counted from 0. hK marks a hole in component K.
"""

import re

import numpy as np

from loopdraw.files import UserError, read_text
from loopdraw.surface.contours.stacks import Contours, covers

MOST_PLANES = 100_000


def load_csl(path):
    """Read a `.csl` file.

    Returns
    -------
    list of Contours

    Raises
    ------
    UserError
        When the file is missing, damaged or not a contour file.
    """
    words = read_text(path, "a contour file (.csl)").split()
    if not words or words[0] != "CSLC":
        first = f"{words[0][:20]!r}" if words else "nothing"
        raise UserError(f"{path}: not a contour file: it starts with {first}, not CSLC")
    words = _Words(words[1:])
    try:
        n_planes, n_labels = words.counts(2, "the numbers of planes and labels")
        if n_planes > MOST_PLANES:
            raise ValueError(f"{n_planes:,} planes; at most {MOST_PLANES:,} can be used")
        contours = []
        for k in range(n_planes):
            words.where = f"plane {k}"
            contours.append(_plane(words))
        if words.left():
            raise ValueError(f"{words.left():,} words after its last plane; are its counts right?")
        labels = {label for plane in contours for label in plane.labels}
        if len(labels) > n_labels:
            raise ValueError(f"{len(labels)} labels in use, but its second line says {n_labels}")
    except ValueError as error:
        raise UserError(f"{path}: damaged contour file: {error}") from None
    return contours


class _Words:
    """The words of a file, taken one after the other."""

    def __init__(self, words):
        self.words, self.at, self.where = words, 0, "its second line"

    def left(self):
        return len(self.words) - self.at

    def take(self, n, what):
        if n > self.left():
            raise ValueError(
                f"{self.where}: the file ends in {what}: {n:,} words belong there, {self.left():,} "
                "are left"
            )
        self.at += n
        return self.words[self.at - n : self.at]

    def counts(self, n, what):
        """Whole numbers from 0 on."""
        words = self.take(n, what)
        for word in words:
            if not re.fullmatch(r"[0-9]{1,9}", word):
                raise ValueError(f"{self.where}: {word[:30]!r} where {what} should be")
        return [int(word) for word in words]

    def numbers(self, n, what):
        """Finite numbers, (n,) float."""
        words = self.take(n, what)
        try:
            numbers = np.array(words, dtype=np.float64)
        except ValueError:
            raise ValueError(f"{self.where}: {what} are not all numbers") from None
        if not np.isfinite(numbers).all():
            raise ValueError(f"{self.where}: {what} are not all finite")
        return numbers


def _plane(words):
    _, n_vertices, n_components = words.counts(3, "its id and numbers of vertices and components")
    *normal, offset = words.numbers(4, "A, B, C and D")
    if not np.any(normal):
        raise ValueError(f"{words.where}: A, B and C are all zero")
    vertices = words.numbers(3 * n_vertices, "its vertices").reshape(-1, 3)
    if 2 * n_components > words.left():
        raise ValueError(f"{words.where}: it has fewer than {n_components:,} components")
    loops, labels, parents = [], [], []
    for i in range(n_components):
        (size,) = words.take(1, f"component {i}")
        found = re.fullmatch(r"([0-9]{1,9})(?:h([0-9]{1,9}))?", size)
        if not found:
            raise ValueError(f"{words.where}, component {i}: {size[:30]!r} is no number of points")
        label, *index = words.counts(int(found[1]) + 1, f"component {i}: its label and vertices")
        if len(index) < 3:
            raise ValueError(f"{words.where}, component {i}: a loop has three points or more")
        if max(index) >= n_vertices:
            raise ValueError(
                f"{words.where}, component {i}: no vertex {max(index)}, there are {n_vertices}"
            )
        loops.append(vertices[index])
        labels.append(label)
        parents.append(found[2] and int(found[2]))
    for i, parent in enumerate(parents):
        if parent is None:
            continue
        if parent >= n_components or parent == i or parents[parent] is not None:
            raise ValueError(
                f"{words.where}, component {i}: a hole in component {parent}, "
                + ("which is a hole" if parent < n_components else "which is not there")
            )
        if not covers(loops[parent], loops[i], np.array(normal)):
            raise ValueError(
                f"{words.where}, component {i}: a hole in component {parent}, but it lies outside"
            )
        labels[i] = labels[parent]  # some programs give a hole the label of what fills it
    return Contours(np.array(normal), -offset, loops, labels)
