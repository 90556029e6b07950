"""Pictures as arrays: mixing layers, a soft shadow, contact sheets, PNG and GIF files.

Layers are (height, width, 4) float32 with premultiplied alpha, 0 to 255. Pictures are
(height, width, 3) uint8, or (height, width, 4) with straight alpha when they have no background.
"""

import math

import numpy as np
import scipy.ndimage
from PIL import Image, ImageDraw

from loopdraw.files import write_aside
from loopdraw.loops.geometry import resample_loop
from loopdraw.view.scene import Look, fit_camera

# Bands of height (from, to: shares of the shape's height), each with the blur (share of the
# diagonal) and darkness of its shadow: sharp and dark near the ground, wide and faint above.
SHADOW_BANDS = ((0.0, 0.04, 0.012, 0.30), (0.0, 0.25, 0.03, 0.16), (0.25, 1.01, 0.07, 0.16))
SHADOW_GRID = 192
N_SHADOW_POINTS = 60_000  # spread over the mesh that casts the shadow

SKETCH_SAMPLING = 2  # pixels drawn a pixel of a sketch
LIGHT = np.array([0.35, 0.75, 0.55]) / np.linalg.norm([0.35, 0.75, 0.55])
PALE = np.array([0.93, 0.95, 0.98])
NEARER = 0.012  # lengths of the shape: loops lie in the surface, and are to be seen


def shrink(image, factor):
    """Average a (factor * h, factor * w, 4) uint8 image over squares: a layer (h, w, 4)."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    total = np.zeros((height, width, 4), dtype=np.float32)
    for row in range(factor):
        for column in range(factor):
            total += image[row::factor, column::factor][:height, :width]
    return total / factor**2


def mix(front, behind, opacity):
    """A layer in front of another, drawn with an opacity in [0, 1]."""
    return opacity * front + (1 - opacity) * behind


def over(layer, background):
    """A picture: a layer over a background (r, g, b) in [0, 1], or with alpha if that is None."""
    color, alpha = layer[..., :3], layer[..., 3:]
    if background is None:
        straight = color * (255.0 / np.maximum(alpha, 1e-3))
        picture = np.concatenate([straight, alpha], axis=2)
    else:
        picture = color + (255.0 - alpha) * np.asarray(background, dtype=np.float32)
    return picture.clip(0, 255).round().astype(np.uint8)


def framed_points(scene, look):
    """The points (n, 3) that a picture must show: those of the scene and of its shadow, if any."""
    points = scene.points()
    if not look.ground_shadow or len(points) == 0:
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    blur = 0.05 * np.linalg.norm(high - low)
    x0, _, z0 = low - blur
    x1, _, z1 = high + blur
    corners = [[x, low[1], z] for x in (x0, x1) for z in (z0, z1)]
    return np.concatenate([points, corners])


def shadow_layer(scene, look, camera, size):
    """The soft shadow of a scene on the ground, lit from above, as a layer.

    Parameters
    ----------
    scene : scene.Scene
    look : scene.Look
    camera : scene.Camera
    size : (width, height) in pixels
    """
    layer = np.zeros((size[1], size[0], 4), dtype=np.float32)
    low, high = scene.points().min(axis=0), scene.points().max(axis=0)
    ground = low[1]
    casters = _shadow_casters(scene, look)
    if camera.position[1] <= ground or len(casters) == 0:
        return layer
    diagonal = float(np.linalg.norm(high - low)) or 1.0
    center = (low + high)[[0, 2]] / 2
    reach = (high - low)[[0, 2]].max() / 2 + 0.25 * diagonal
    cell = 2 * reach / SHADOW_GRID
    cells = ((casters[:, [0, 2]] - center + reach) / cell).astype(int)
    share_of_height = (casters[:, 1] - ground) / max(high[1] - ground, 1e-9)

    light = np.ones((SHADOW_GRID, SHADOW_GRID))
    for bottom, top, blur, darkness in SHADOW_BANDS:
        inside = cells[(share_of_height >= bottom) & (share_of_height < top)]
        covered = np.zeros_like(light)
        covered[inside[:, 0], inside[:, 1]] = 1.0
        # Close the gaps between sampled points before blurring.
        covered = scipy.ndimage.binary_closing(np.pad(covered, 4), iterations=3)[4:-4, 4:-4]
        light *= 1 - darkness * scipy.ndimage.gaussian_filter(
            covered.astype(float), blur * diagonal / cell
        )

    rays = pixel_rays(camera, size)
    down = rays[..., 1] < -1e-6
    distance = (ground - camera.position[1]) / np.where(down, rays[..., 1], -1.0)
    where = [
        (camera.position[axis] + distance * rays[..., axis] - center[i] + reach) / cell - 0.5
        for i, axis in enumerate((0, 2))
    ]
    seen = scipy.ndimage.map_coordinates(1 - light, where, order=1, mode="constant")
    layer[..., 3] = np.where(down, seen, 0.0) * 255.0
    return layer


def pixel_rays(camera, size):
    """The viewing direction of every pixel, top row first.

    Returns
    -------
    (height, width, 3) float, not normalised: each is one unit long along the camera's direction
    """
    width, height = size
    forward = camera.target - camera.position
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, camera.up)
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    half = np.tan(np.radians(camera.fov) / 2)
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * half * width / height
    y = (1 - (np.arange(height) + 0.5) / height * 2) * half
    return forward + x[None, :, None] * right + y[:, None, None] * up


def _shadow_casters(scene, look):
    """Points spread densely over the mesh, or over the loops when there is none, (n, 3) float."""
    if scene.mesh is not None and look.mesh_opacity > 0:
        import trimesh

        mesh = trimesh.Trimesh(*scene.mesh, process=False)
        if mesh.area == 0:
            return mesh.vertices[mesh.faces.reshape(-1)]
        return trimesh.sample.sample_surface(mesh, N_SHADOW_POINTS, seed=0)[0]
    loops = [points for role in scene.loops_by_role().values() for points, _ in role]
    return np.concatenate([np.zeros((0, 3)), *(resample_loop(points, 400) for points in loops)])


def save_png(path, picture):
    """Write a picture as a PNG file."""
    with write_aside(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", optimize=True)


def save_gif(path, pictures, seconds_per_picture, last_seconds=None):
    """Write pictures of one size as an endless animation.

    Parameters
    ----------
    path : path of the GIF file
    pictures : list of (height, width, 3 or 4) uint8
    seconds_per_picture : float
    last_seconds : float or None, how long the last picture stays; None: as long as the others
    """
    images = [_on_white(picture) for picture in pictures]
    # One palette for all pictures, so that colours do not flicker.
    chosen = images[:: max(1, len(images) // 8)] + images[-1:]
    montage = Image.fromarray(np.concatenate([np.asarray(image) for image in chosen]))
    palette = montage.quantize(255, method=Image.Quantize.MAXCOVERAGE)
    # The background, by far the most common colour, must come out exactly.
    palette.putpalette(palette.getpalette()[: 3 * 255] + list(images[0].getpixel((0, 0))))
    indexed = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    milliseconds = [round(1000 * seconds_per_picture)] * len(images)
    if last_seconds is not None:
        milliseconds[-1] = round(1000 * last_seconds)
    with write_aside(path) as temporary:
        indexed[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=indexed[1:],
            duration=milliseconds,
            loop=0,
            disposal=1,
        )


def contact_sheet(pictures, columns=None, width=2000, gap=0.04):
    """Put pictures into one, row by row. All are cropped alike, to what any of them shows.

    Parameters
    ----------
    pictures : list of (height, width, 3 or 4) uint8, all of one size and kind
    columns : int or None; None makes the sheet a little wider than high
    width : int, largest width of the sheet in pixels
    gap : float, space between pictures, as a share of a picture's width

    Returns
    -------
    (h, w, 3 or 4) uint8
    """
    stack = np.stack(pictures)
    shown = (stack != stack[:, :1, :1]).any(axis=(0, 3))
    rows, cols = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    if len(rows):
        stack = stack[:, rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    n_pictures, cell_height, cell_width = stack.shape[:3]
    if columns is None:
        # Near the ideal shape, prefer a full last row.
        ideal = math.ceil(math.sqrt(1.5 * n_pictures * cell_height / cell_width))
        near = range(max(1, ideal - 1), ideal + 2)
        columns = min(near, key=lambda count: (-n_pictures % count, abs(count - ideal)))
    columns = min(columns, n_pictures)
    n_rows = -(-n_pictures // columns)
    space = round(gap * cell_width)
    sheet = np.empty(
        (
            n_rows * (cell_height + space) + space,
            columns * (cell_width + space) + space,
            stack.shape[3],
        ),
        dtype=np.uint8,
    )
    sheet[:] = pictures[0][0, 0]
    for index, picture in enumerate(stack):
        top = space + index // columns * (cell_height + space)
        left = space + index % columns * (cell_width + space)
        sheet[top : top + cell_height, left : left + cell_width] = picture
    if sheet.shape[1] > width:
        height = round(sheet.shape[0] * width / sheet.shape[1])
        sheet = np.asarray(Image.fromarray(sheet).resize((width, height), Image.Resampling.LANCZOS))
    return sheet


def _on_white(picture):
    image = Image.fromarray(picture)
    if image.mode == "RGB":
        return image
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def sketch(scene, size):
    """A small picture of a scene, drawn without OpenGL; of an empty scene, a blank one.

    Parameters
    ----------
    scene : scene.Scene
    size : int, width and height in pixels

    Returns
    -------
    (size, size, 3) uint8
    """
    look, side = Look(), size * SKETCH_SAMPLING
    image = Image.new("RGB", (side, side), "white")
    points = scene.points()
    if len(points):
        camera = fit_camera(points, (side, side))
        pieces = [*_sketched_faces(scene.mesh, look, camera), *_sketched_loops(scene, look, camera)]
        pen = ImageDraw.Draw(image)
        # From the farthest to the nearest: what is in front covers what is behind.
        for _, corners, color in sorted(pieces, key=lambda piece: -piece[0]):
            if len(corners) == 2:
                pen.line([*map(tuple, corners * side)], fill=color, width=SKETCH_SAMPLING)
            else:
                pen.polygon([*map(tuple, corners * side)], fill=color)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def _projected(points, camera):
    """Points (..., 3) in the picture (..., 2), from 0 to 1, and how far they are (...)."""
    look = camera.target - camera.position
    look = look / np.linalg.norm(look)
    right = np.cross(look, camera.up)
    right /= np.linalg.norm(right)
    offset = points - camera.position
    depth = offset @ look
    reach = 2 * depth * np.tan(np.radians(camera.fov) / 2)
    across, down = offset @ right / reach, -(offset @ np.cross(right, look)) / reach
    return np.stack([0.5 + across, 0.5 + down], axis=-1), depth


def _sketched_faces(mesh, look, camera):
    if mesh is None:
        return
    corners = np.asarray(mesh[0], float)[np.asarray(mesh[1])]  # (m, 3, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    bright = (0.45 + 0.55 * np.abs(normals @ LIGHT))[:, None]
    # Paler than on the page: it is opaque here.
    color = 0.5 * np.array(look.mesh_color) + 0.5 * PALE
    colors = (255 * (bright * color).clip(0, 1)).astype(int)
    places, depth = _projected(corners, camera)
    for distance, place, rgb in zip(depth.mean(axis=1), places, colors, strict=True):
        yield distance, place, tuple(rgb.tolist())


def _sketched_loops(scene, look, camera):
    nearer = NEARER * np.ptp(scene.points(), axis=0).max()
    for role, loops in scene.loops_by_role().items():
        rgb = tuple(int(255 * c) for c in getattr(look, f"{role}_color"))
        for loop, _ in loops:
            places, depth = _projected(loop, camera)
            ends = np.stack([places, np.roll(places, -1, axis=0)], axis=1)
            for distance, place in zip(depth - nearer, ends, strict=True):
                yield distance, place, rgb
