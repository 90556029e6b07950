"""What comes of decoding under a list of edits, and the latents that it starts from."""

import dataclasses

import numpy as np

from loopdraw.files import UserError
from loopdraw.loops.geometry import lift


@dataclasses.dataclass(frozen=True, eq=False)
class EditedShape:
    """The loops of a shape under an edit list.

    The attributes from `timesteps` on speak of the loops in the order of `loops_by_plane`, plane
    after plane, in places counted from 0.

    Attributes
    ----------
    sequence : (T, F) float32
        Not normalised, all zero from its end on; what `LoopSeqEncoderDecoderModel.decode` gives.
    loops_by_plane : list of lists of (k, 2) float64 loops
    timesteps : (n_loops,) int
        The timestep of each loop.
    numbers : (n_loops,) int
        What edits call the loop; -1 for those that have no number.
    inserts : (n_loops,) int
        The place in the edit list of the edit that inserted the loop; -1: none did.
    planes : (n_loops,) int
        The plane of each loop.
    edited : (n,) int
        Places of the loops that an edit changed or inserted.
    regenerated : (n,) int
        Places of the other loops that are not those of the untouched shape.
    """

    sequence: np.ndarray
    loops_by_plane: list
    timesteps: np.ndarray
    numbers: np.ndarray
    inserts: np.ndarray
    planes: np.ndarray
    edited: np.ndarray
    regenerated: np.ndarray

    @property
    def n_loops(self):
        return len(self.timesteps)

    def loops(self):
        """The loops (k, 2), one plane after the other."""
        return [loop for loops in self.loops_by_plane for loop in loops]

    def loops_in_space(self, planes):
        """The same, lifted from their `planes` (P, 4, 3) to space: list of (k, 3) float."""
        return [lift(loop, planes[p]) for loop, p in zip(self.loops(), self.planes, strict=True)]


def checked_latent(latent, latent_size):
    """A latent as (L,) float64; UserError when a model cannot take it."""
    try:
        latent = np.array(latent, dtype=np.float64).ravel()
    except (ValueError, TypeError):
        latent = np.zeros(0)
    if len(latent) != latent_size or not np.isfinite(latent).all():
        raise UserError(
            f"a latent of this model is {latent_size} finite numbers, and {len(latent)} were given"
        )
    return latent
