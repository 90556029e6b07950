"""What is known of a kind of file that is to be bent."""

from pathlib import Path
from typing import NamedTuple


class Format(NamedTuple):
    """A kind of file: right ones, where they stand, how they are bent and read."""

    samples: list  # of bytes
    path: Path
    bend: object  # function (bytes, rng) -> bytes
    read: object  # function (path)
    changes: bool = False  # whether reading it may replace it
