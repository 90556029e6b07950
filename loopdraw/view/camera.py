"""Where a picture is taken from: the camera, and framing a shape with it."""

from dataclasses import dataclass, replace

import numpy as np
import shapely


@dataclass(frozen=True)
class Camera:
    """A perspective camera: where it stands, what it looks at, which way is up.

    `position`, `target` and `up` are (3,) float; `fov` is the vertical field of view in degrees.
    """

    position: np.ndarray
    target: np.ndarray
    up: np.ndarray
    fov: float

    def orbited(self, pivot, degrees):
        """This camera carried around the vertical (y) axis through `pivot` (3,)."""
        angle = np.radians(degrees)
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
        return replace(
            self,
            position=pivot + turn @ (self.position - pivot),
            target=pivot + turn @ (self.target - pivot),
            up=turn @ self.up,
        )


def fit_camera(points, size, azimuth=32.0, elevation=20.0, fov=24.0, margin=0.05):
    """The nearest camera that has every point in the picture, seen from a given direction.

    In camera axes (right, up, towards the viewer) a point p is inside the picture when
    |p_x - c_x| <= t_x (c_z - p_z), t_x the tangent of half the field of view; so is p_y. Each
    bound is linear in the camera position c, and its extreme over all points gives c directly.

    Parameters
    ----------
    points : (n, 3) float
    size : (width, height) of the picture in pixels
    azimuth, elevation : degrees around the y axis from +z towards +x, and above the horizon
    fov : vertical field of view in degrees; small ones distort less
    margin : share of the picture left free on every side

    Returns
    -------
    Camera

    Raises
    ------
    ValueError
        When there are no points.
    """
    points = np.asarray(points, dtype=float)
    if len(points) == 0:
        raise ValueError("nothing to look at: the scene has neither a mesh nor loops")
    around, above = np.radians([azimuth, elevation])
    back = np.array([np.sin(around) * np.cos(above), np.sin(above), np.cos(around) * np.cos(above)])
    right = np.array([np.cos(around), 0.0, -np.sin(around)])
    up = np.cross(back, right)
    axes = np.stack([right, up, back])
    x, y, z = axes @ points.T

    tangent_y = np.tan(np.radians(fov) / 2) * (1 - 2 * margin)
    tangent_x = tangent_y * size[0] / size[1]
    reach_x = (x + tangent_x * z).max(), (-x + tangent_x * z).max()
    reach_y = (y + tangent_y * z).max(), (-y + tangent_y * z).max()
    extent = np.ptp(points, axis=0).max() or 1.0
    distance = max(sum(reach_x) / (2 * tangent_x), sum(reach_y) / (2 * tangent_y))
    # A flat or single-point scene seen edge-on would put the camera on it.
    distance = max(distance, z.max() + 0.05 * extent)
    center = np.array([reach_x[0] - reach_x[1], reach_y[0] - reach_y[1]]) / 2
    position = np.array([*center, distance]) @ axes
    target = np.array([*center, (z.min() + z.max()) / 2]) @ axes
    return Camera(position, target, up, fov)


def orbit_points(points, pivot):
    """What a shape sweeps when it turns around the vertical axis through `pivot`.

    Parameters
    ----------
    points : (n, 3) float
    pivot : (3,) float

    Returns
    -------
    (k, 3) float, points on the convex hull of the swept body; frame these for a turntable
    """
    radius = np.hypot(points[:, 0] - pivot[0], points[:, 2] - pivot[2])
    outline = shapely.convex_hull(shapely.multipoints(np.stack([radius, points[:, 1]], axis=1)))
    radius, height = shapely.get_coordinates(outline).T
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)[:, None]
    return np.stack(
        [
            pivot[0] + radius * np.sin(angles),
            np.broadcast_to(height, (len(angles), len(height))),
            pivot[2] + radius * np.cos(angles),
        ],
        axis=-1,
    ).reshape(-1, 3)


def pixel_rays(camera, size):
    """Directions in which the pixels of a picture look, top row first.

    Returns
    -------
    (height, width, 3) float, not normalised: one unit along the viewing direction each
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
