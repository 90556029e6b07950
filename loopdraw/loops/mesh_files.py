"""A Wavefront `.obj` file as plain triangles.

Slicing needs positions and triangles only, from files made by many hands. trimesh reads the common
ones, but counts relative (negative) indices from the end of the file, which scrambles files of
several objects, splits vertices at texture seams, does not say what is wrong with a file, and takes
19 to 37 ms for 12,000 faces, most where there are quads or texture coordinates; reading and slicing
together should take 30. This reader takes lines in bulk: 11 to 18 ms for the same files. It goes
line by line only where a file asks for it.
"""

import re
from pathlib import Path

import numpy as np
import shapely

from loopdraw.files import UserError


def load_mesh(path):
    """Read the triangles of an `.obj` file.

    Polygons are triangulated; several objects become one mesh; texture coordinates, normals,
    colours, groups and materials are passed over. Vertices keep their order, used or not. Faces
    with a vertex that is not finite, and faces of fewer than three corners, are left out (slicing
    closes the holes).

    Returns
    -------
    vertices : (n, 3) float
    faces : (m, 3) int

    Raises
    ------
    UserError
        When the file cannot be read, is no `.obj` file, is damaged, or has no usable face.
    """
    path = Path(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return _parse(text)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _parse(text):
    """The body of `load_mesh`; raises ValueError with the reason."""
    if not text.strip():
        raise ValueError("the file is empty")
    lines = _lines(text)
    vertex_lines = [line[2:] for line in lines if line.startswith(b"v ")]
    face_lines = [line[2:] for line in lines if line.startswith(b"f ")]
    if not vertex_lines:
        raise ValueError("no vertices (lines 'v x y z'); this is not an .obj mesh")
    if not face_lines:
        raise ValueError("vertices but no faces (lines 'f a b c')")
    vertices = _parse_vertices(vertex_lines, lines)
    corners, n_corners = _parse_faces(face_lines, lines)
    corners = _absolute_indices(corners, n_corners, len(vertices), lines)

    starts = np.concatenate([[0], np.cumsum(n_corners)[:-1]])
    usable = n_corners >= 3
    infinite = ~np.isfinite(vertices).all(axis=1)
    if infinite.any():
        face_of_corner = np.repeat(np.arange(len(n_corners)), n_corners)
        usable &= np.bincount(face_of_corner, infinite[corners], len(n_corners)) == 0
        vertices[infinite] = 0.0  # unreferenced from here on
    if not usable.any():
        raise ValueError("no usable face: all have too few corners or vertices that are not finite")
    return vertices, _triangulate(vertices, corners, starts[usable], n_corners[usable])


def _lines(text):
    """Lines as bytes, each starting with its keyword and one blank, continuations joined."""
    if b"\0" in text:
        raise ValueError("a binary file; this is not an .obj mesh")
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    text = text.removeprefix(b"\xef\xbb\xbf").replace(b"\t", b" ").replace(b"\\\n", b" ")
    lines = text.split(b"\n")
    if b"\n " in text or text.startswith(b" "):
        lines = [line.lstrip() for line in lines]
    return lines


def _line_number(lines, keyword, index):
    """1-based number of the line that holds the `index`-th (0-based) entry of a keyword."""
    numbers = [number for number, line in enumerate(lines, 1) if line.startswith(keyword)]
    return numbers[index]


def _parse_vertices(vertex_lines, lines):
    """Coordinates (n, 3) of the vertex lines; a fourth number and colours are cut off."""
    try:
        numbers = np.array(b" ".join(vertex_lines).split(), dtype=float)
        n_columns = len(vertex_lines[0].split())
        # Every line must have the same number of columns: checked by blanks where lines are tidy.
        tidy = n_columns >= 3 and len(numbers) == n_columns * len(vertex_lines)
        if tidy and {line.strip().count(b" ") for line in vertex_lines} == {n_columns - 1}:
            return np.ascontiguousarray(numbers.reshape(-1, n_columns)[:, :3])
    except ValueError:
        pass  # a comment, a NaN as Windows writes it, or damage: see line by line
    vertices = np.empty((len(vertex_lines), 3))
    for i, line in enumerate(vertex_lines):
        words = line.split()[:3]
        try:
            vertices[i] = [_number(word) for word in words]
        except ValueError:
            raise ValueError(
                f"line {_line_number(lines, b'v ', i)} should be a vertex 'v x y z', not "
                f"{_shown(b'v ' + line)}; the file may be damaged"
            ) from None
    return vertices


def _number(word):
    """A float; the forms in which Microsoft's runtime writes NaN and infinity count as NaN."""
    return float("nan") if re.fullmatch(rb"[+-]?1\.#\w+", word) else float(word)


def _parse_faces(face_lines, lines):
    """Vertex indices as written (1-based or relative), and the number of corners of each face."""
    joined = b" ".join(face_lines)
    if b"#" in joined:
        face_lines = [line.split(b"#")[0] for line in face_lines]
        joined = b" ".join(face_lines)
    if b"/" in joined:
        joined = re.sub(rb"/[^ ]*", b"", joined)  # of 'vertex/texture/normal' the vertex counts
    n_corners = np.array(list(map(len, map(bytes.split, face_lines))))
    try:
        corners = np.fromstring(joined, dtype=np.int64, sep=" ")
    except ValueError:
        corners = np.zeros(0, dtype=np.int64)  # words, or nothing at all
    if not n_corners.any():
        corners = corners[:0]
    elif len(corners) != n_corners.sum():
        index = next(
            i
            for i, line in enumerate(face_lines)
            if not all(re.fullmatch(rb"[+-]?\d+(/\S*)?", word) for word in line.split())
        )
        raise ValueError(
            f"line {_line_number(lines, b'f ', index)} should be a face 'f a b c', not "
            f"{_shown(b'f ' + face_lines[index])}; the file may be damaged"
        )
    return corners, n_corners


def _shown(line):
    return repr(line[:40].decode("utf-8", "replace").strip())


def _absolute_indices(corners, n_corners, n_vertices, lines):
    """0-based indices; a negative index counts back from the last vertex above its line."""
    if (corners < 0).any():
        n_above, count = [], 0
        for line in lines:
            if line.startswith(b"v "):
                count += 1
            elif line.startswith(b"f "):
                n_above.append(count)
        n_above = np.repeat(n_above, n_corners)
        absolute = np.where(corners < 0, n_above + corners, corners - 1)
    else:
        absolute = corners - 1
    wrong = (absolute < 0) | (absolute >= n_vertices)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        face = int(np.searchsorted(np.cumsum(n_corners), at, side="right"))
        raise ValueError(
            f"line {_line_number(lines, b'f ', face)} names vertex {corners[at]}, but there are "
            f"{n_vertices} vertices, counted from 1; the file may be damaged"
        )
    return absolute


def _triangulate(vertices, corners, starts, n_corners):
    """Triangles (m, 3) of polygons given by the start and length of their run in `corners`."""
    if (n_corners == 3).all() and len(corners) == 3 * len(starts):
        return corners.reshape(-1, 3)
    triangles = []
    for k in np.unique(n_corners):
        polygons = corners[starts[n_corners == k, None] + np.arange(k)]  # (m, k)
        fans = np.stack(
            [np.repeat(polygons[:, :1], k - 2, axis=1), polygons[:, 1:-1], polygons[:, 2:]], axis=2
        )  # (m, k - 2, 3), right for convex polygons
        if k > 3:
            a, b, c = np.moveaxis(vertices[fans], 2, 0)
            areas = np.cross(b - a, c - a)  # (m, k - 2, 3); their sum is the polygon's area vector
            folded = (areas * areas.sum(axis=1, keepdims=True)).sum(axis=2).min(axis=1) < 0
            for i in np.flatnonzero(folded):
                cut = _cut_concave(vertices, polygons[i], areas[i].sum(axis=0))
                if cut is not None:
                    triangles.append(cut)
                    fans[i] = -1
        fans = fans.reshape(-1, 3)
        triangles.append(fans[fans[:, 0] >= 0])
    return np.concatenate(triangles)


def _cut_concave(vertices, polygon, normal):
    """Triangles (k, 3) of one concave polygon, or None where it crosses itself."""
    across = int(np.abs(normal).argmax())
    flat = np.delete(vertices[polygon], across, axis=1)
    outline = shapely.Polygon(flat)
    cut = shapely.constrained_delaunay_triangles(outline)
    if abs(cut.area - outline.area) > 1e-6 * outline.area:
        return None
    index_of = {tuple(point): index for point, index in zip(flat, polygon, strict=True)}
    triangles = []
    for triangle in shapely.get_parts(cut):
        points = shapely.get_coordinates(triangle)[:3]
        # The outline's sense, seen along the area vector: that of `np.delete` flips for axis 1.
        left = np.cross(np.append(points[1] - points[0], 0), np.append(points[2] - points[0], 0))[2]
        if (left > 0) != ((normal[across] > 0) == (across != 1)):
            points = points[::-1]
        triangles.append([index_of[tuple(point)] for point in points])
    return np.array(triangles, dtype=np.int64)
