"""What tests ask of a picture: what is shown, in which colours, and is it whole?"""

import numpy as np


def circle(radius, center=(0.0, 0.0), n_points=32):
    angles = np.arange(n_points) * (2 * np.pi / n_points)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + center


def shown(picture, background=255):
    """Pixels that differ from the background."""
    return (picture[..., :3].astype(int) != background).any(axis=2)


def share(picture, test):
    """Share of the pixels whose (red, green, blue), 0 to 255, pass a test."""
    return test(*np.moveaxis(picture[..., :3].astype(int), 2, 0)).mean()


def is_golden(r, g, b):
    return (r > 150) & (g > 100) & (r - b > 70) & (g - b > 30)


def is_red(r, g, b):
    return (r > 140) & (r - g > 80) & (r - b > 80)


def is_pink(r, g, b):
    return (r > 180) & (r - g > 50) & (b - g > 15)


def is_green(r, g, b):
    return (g - r > 50) & (g - b > 20)


def is_blue(r, g, b):
    return (b - r > 30) & (b > 120)


def is_grey(r, g, b):
    return (r < 240) & (np.abs(r - g) < 12) & (np.abs(g - b) < 12)


def assert_whole(picture, least=0.03, background=255):
    """Neither blank nor clipped: enough is shown, and none of it at the border."""
    mask = shown(picture, background)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert not border.any(), "something touches the border of the picture"
    assert least < mask.mean() < 0.95, f"{mask.mean():.3f} of the picture is covered"
