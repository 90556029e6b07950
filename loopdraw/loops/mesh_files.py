"""Mesh files: reading and writing triangles.

`read_mesh` reads any format that trimesh knows and uses `load_mesh` for `.obj` files. `save_mesh`
writes `.obj`, `.ply`, `.stl` and `.glb`.

The `.obj` reader is our own. Slicing needs only positions and triangles, from files made by many
programs. trimesh reads the common ones, but it counts relative (negative) indices from the end of
the file, which scrambles files with several objects. It also splits vertices at texture seams, does
not say what is wrong with a file, and is slower. Ours takes lines in bulk and goes line by line
only where a file needs it.
"""

import logging
import os
import re
from pathlib import Path

import numpy as np
import shapely

from loopdraw.files import UserError, write_aside, write_text

UPS = ("x", "y", "z", "-x", "-y", "-z")  # what can be up in a file, see `turn_upright`
STL_HEADER, STL_TRIANGLE = 84, 50  # bytes of a binary .stl file; its header ends in their number
MESH_FORMATS = (".obj", ".ply", ".stl", ".glb")  # that `save_mesh` writes


def read_mesh(path):
    """Read a mesh file of any format that trimesh knows.

    Returns
    -------
    vertices : (n, 3) float
    faces : (m, 3) int

    Raises
    ------
    UserError
        When the file is missing, damaged, of an unknown format, or has no faces.
    """
    path = Path(path)
    if path.suffix.lower() == ".obj":
        return load_mesh(path)
    import trimesh

    # Python prints what a library logs if nobody takes it, here with the traceback of each format
    # that was tried. The error below says enough.
    logging.getLogger("trimesh").addHandler(logging.NullHandler())
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a mesh there")
    try:
        mesh = trimesh.load_mesh(path, process=False)
        if isinstance(mesh, trimesh.Scene):
            mesh = mesh.to_mesh()
    except Exception as error:  # its readers raise whatever comes to hand
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be read as a mesh ({reason}); try .obj or .stl") from None
    if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
        raise UserError(f"{path}: {_why_no_faces(path)}")
    return np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces, dtype=np.int64)


def _why_no_faces(path):
    """What is wrong with a file that gave no faces. Of an `.stl` file that is cut short, trimesh
    reads nothing.
    """
    none = "has no faces; expected a triangle mesh"
    content = path.read_bytes() if path.suffix.lower() == ".stl" else b""
    again = "copy or export it again"
    if content and content.isascii() and b"\0" not in content:
        if not content.lstrip().startswith(b"solid") or b"endsolid" in content:
            return none
        n_held = content.count(b"endfacet")
        return f"cut short: it has no line 'endsolid', after {n_held:,} triangles; {again}"
    if not content:
        return none
    if len(content) < STL_HEADER:
        return f"cut short: it ends within its header; {again}"
    n_announced = int.from_bytes(content[STL_HEADER - 4 : STL_HEADER], "little")
    n_held = (len(content) - STL_HEADER) // STL_TRIANGLE
    if n_announced <= n_held:
        return none
    return f"cut short: it announces {n_announced:,} triangles and holds {n_held:,}; {again}"


def as_mesh(mesh):
    """Vertices and faces of a mesh, however it is given.

    Parameters
    ----------
    mesh : path of a file, trimesh.Trimesh, or (vertices (n, 3), faces (m, 3))

    Returns
    -------
    vertices : (n, 3) float
    faces : (m, 3) int

    Raises
    ------
    UserError
        When it is a path and `read_mesh` refuses it.
    """
    if isinstance(mesh, (str, os.PathLike)):
        return read_mesh(mesh)
    vertices, faces = (mesh.vertices, mesh.faces) if hasattr(mesh, "faces") else mesh
    return np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int64)


def load_mesh(path):
    """Read the triangles of an `.obj` file.

    Polygons are triangulated, and several objects become one mesh. Texture coordinates, normals,
    colours, groups and materials are ignored. All vertices are kept in their order, used or not.
    Faces with a vertex that is not finite and faces with fewer than three corners are left out;
    slicing closes the holes.

    Returns
    -------
    vertices : (n, 3) float
    faces : (m, 3) int

    Raises
    ------
    UserError
        When the file cannot be read, is not an `.obj` file, is damaged, or has no usable face.
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


def fit_to_unit(vertices, faces, axis=None):
    """Move and scale vertices (n, 3): centred at the origin, longest side 1.

    Vertices that no face uses are ignored when measuring.

    Parameters
    ----------
    vertices : (n, 3) float
    faces : (m, 3) int
    axis : "x", "y" or "z": its side becomes 1 instead of the longest

    Returns
    -------
    (n, 3) float
    """
    used = vertices[np.unique(faces)]
    low, high = used.min(axis=0), used.max(axis=0)
    sides = high - low
    side = sides["xyz".index(axis)] if axis else sides.max()
    return (vertices - (low + high) / 2) / (side or 1.0)


def turn_upright(points, up, axis):
    """Turn points (..., 3) so that the direction `up` becomes `axis`.

    Parameters
    ----------
    points : (..., 3) float
    up : "x", "y" or "z", or one of them with a minus
    axis : "x", "y" or "z"

    Returns
    -------
    (..., 3) float; turned by a quarter about the third axis, or by a half if up is down
    """
    before, after = np.zeros(3), np.zeros(3)
    before["xyz".index(up[-1])] = -1 if up[0] == "-" else 1
    after["xyz".index(axis)] = 1
    if up[-1] == axis:
        third = np.roll(after, 1)  # any axis at right angles will do for half a turn
        turn = np.eye(3) if up == axis else 2 * np.outer(third, third) - np.eye(3)
    else:
        third = np.cross(before, after)
        turn = np.outer(after, before) - np.outer(before, after) + np.outer(third, third)
    return points @ turn.T


def save_mesh(path, vertices, faces):
    """Write a mesh as `.obj`, `.ply`, `.stl` or `.glb`, by the ending of the path.

    Parameters
    ----------
    path : path of the file
    vertices : (n, 3) float
    faces : (m, 3) int

    Raises
    ------
    UserError
        When the path has another ending or the file cannot be written.
    """
    kind = Path(path).suffix.lower()
    if kind not in MESH_FORMATS:
        raise UserError(
            f"{path}: meshes are not saved as {kind or 'files without an ending'}; "
            f"use {', '.join(MESH_FORMATS)}"
        )
    if kind == ".obj":
        write_text(path, _obj_text(np.asarray(vertices), np.asarray(faces)))
        return
    import trimesh  # slow to import, and slower at writing .obj files

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    with write_aside(path) as temporary:
        mesh.export(temporary, file_type=kind[1:])


def _obj_text(vertices, faces):
    """The lines of an `.obj` file; one format for all of them is what Python does fastest."""
    points = "v %.8f %.8f %.8f\n" * len(vertices) % tuple(vertices.ravel().tolist())
    return points + "f %d %d %d\n" * len(faces) % tuple((faces + 1).ravel().tolist())


# ---------------------------------------------------------------------------------- the .obj reader


def _parse(text):
    """The body of `load_mesh`; raises ValueError with the reason."""
    if not text.strip():
        raise ValueError("the file is empty")
    text = _tidy(text)
    vertex_lines = re.findall(rb"\nv ([^\n]*)", text)
    face_lines = re.findall(rb"\nf ([^\n]*)", text)
    if not vertex_lines:
        raise ValueError("no vertices (lines 'v x y z'); this is not an .obj mesh")
    if not face_lines:
        raise ValueError("vertices but no faces (lines 'f a b c')")
    vertices = _parse_vertices(vertex_lines, text)
    corners, n_corners = _parse_faces(face_lines, text)
    corners = _absolute_indices(corners, n_corners, len(vertices), text)

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


def _tidy(text):
    """The text as lines that start with their keyword and one blank, continuations joined; before
    the first line, too, is an end of line.
    """
    if b"\0" in text:
        raise ValueError("a binary file; this is not an .obj mesh")
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    text = text.removeprefix(b"\xef\xbb\xbf").replace(b"\t", b" ").replace(b"\\\n", b" ")
    if b"\n " in text or text.startswith(b" "):
        text = b"\n".join([line.lstrip() for line in text.split(b"\n")])
    return b"\n" + text


def _line_number(text, keyword, index):
    """1-based number of the line that holds the `index`-th (0-based) entry of a keyword."""
    lines = text.split(b"\n")
    numbers = [number for number, line in enumerate(lines) if line.startswith(keyword)]
    return numbers[index]


def _parse_vertices(vertex_lines, text):
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
                f"line {_line_number(text, b'v ', i)} should be a vertex 'v x y z', not "
                f"{_shown(b'v ' + line)}; the file may be damaged"
            ) from None
    return vertices


def _number(word):
    """A float; the forms in which Microsoft's runtime writes NaN and infinity count as NaN."""
    return float("nan") if re.fullmatch(rb"[+-]?1\.#\w+", word) else float(word)


def _parse_faces(face_lines, text):
    """Vertex indices as written (1-based or relative), and the number of corners of each face."""
    joined = b" ".join(face_lines)
    if b"#" in joined:
        face_lines = [line.split(b"#")[0] for line in face_lines]
        joined = b" ".join(face_lines)
    n_corners = np.array(list(map(len, map(bytes.split, face_lines))))
    corners = _first_of_each(joined, n_corners.sum())
    if not n_corners.any():
        corners = corners[:0]
    elif len(corners) != n_corners.sum():
        index = next(
            i
            for i, line in enumerate(face_lines)
            if not all(re.fullmatch(rb"[+-]?\d+(/\S*)?", word) for word in line.split())
        )
        raise ValueError(
            f"line {_line_number(text, b'f ', index)} should be a face 'f a b c', not "
            f"{_shown(b'f ' + face_lines[index])}; the file may be damaged"
        )
    return corners, n_corners


def _first_of_each(joined, n):
    """Of n corners 'vertex/texture/normal' the vertices, (n,) int; fewer where there are words."""
    n_slashes, n_double = joined.count(b"/"), joined.count(b"//")
    # Mostly, all corners have the same form: how many parts, and what is between them.
    forms = {(n, 0): (2, b"/"), (2 * n, 0): (3, b"/"), (2 * n, n): (2, b"//")}
    n_parts, between = forms.get((n_slashes, n_double), (1, b"/"))
    if n_parts > 1:
        numbers = _whole_numbers(joined.replace(between, b" "))
        if len(numbers) == n_parts * n:
            return numbers[::n_parts]
    # Several forms, or damage: much slower.
    return _whole_numbers(re.sub(rb"/[^ ]*", b"", joined) if n_slashes else joined)


def _whole_numbers(text):
    try:
        return np.fromstring(text, dtype=np.int64, sep=" ")
    except ValueError:
        return np.zeros(0, dtype=np.int64)  # words, or nothing at all


def _shown(line):
    return repr(line[:40].decode("utf-8", "replace").strip())


def _absolute_indices(corners, n_corners, n_vertices, text):
    """0-based indices; a negative index counts back from the last vertex above its line."""
    if (corners < 0).any():
        n_above, count = [], 0
        for line in text.split(b"\n"):
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
            f"line {_line_number(text, b'f ', face)} names vertex {corners[at]}, but there are "
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
    """Triangles (k, 3) of one concave polygon, or None where it crosses or touches itself."""
    across = int(np.abs(normal).argmax())
    flat = np.delete(vertices[polygon], across, axis=1)
    outline = shapely.Polygon(flat)
    try:
        cut = shapely.constrained_delaunay_triangles(outline)
    except shapely.GEOSException:
        return None
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
