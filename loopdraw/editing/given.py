"""Shapes given by their loops: to be edited as they are, or completed.

A model edits a `GivenShape` as it edits the shape of a latent, but the loops that no edit has
reached are the given ones. The latent is the model's best for the shape, and tells what comes
above an edit.

A given shape may also be the lower part of one. What lies above is then the model's to make.
"""

import dataclasses

import numpy as np
import torch

from loopdraw.data.dataset import batch_of, order_ties
from loopdraw.editing.decoding.decoder import EditedDecoder
from loopdraw.editing.edits import check_completion
from loopdraw.files import UserError
from loopdraw.loops.geometry import plane_heights, sort_by_area
from loopdraw.loops.representations import canonical_polyline, eos_timestep, loops_to_sequence
from loopdraw.model.prior import SettledPrior
from loopdraw.model.refine import descend, loop_errors, refine, shape_losses

REFINING_SECONDS = 3.0  # for the latent of a given shape
SAME_PLANE = 1e-4  # of the distance between planes; slices files hold float64 numbers
# Completing: latents drawn, how many of the best are improved for each one asked for, and by how
# many steps; one pass through the networks takes so many.
DRAWN, CANDIDATES, STEPS, RATE, AT_ONCE = 512, 6, 30, 0.06, 128


@dataclasses.dataclass(frozen=True, eq=False)
class GivenShape:
    """Loops of a shape, as they are and as a model takes them.

    Attributes
    ----------
    loops : list of n (k, 2) float64 loops, plane after plane and in the order of the sequence
    planes : (n,) int, not decreasing: the plane of each
    sequence : (n or n + 1, F) float32, not normalised; with its end-of-sequence timestep, if the
        shape is whole and sequences of the model have one
    latent : (L,) float64
    is_whole : bool, nothing comes after the loops
    """

    loops: list
    planes: np.ndarray
    sequence: np.ndarray
    latent: np.ndarray
    is_whole: bool = True

    def below(self, plane):
        """The part of the shape that lies on planes below `plane`."""
        n_loops = int(np.searchsorted(self.planes, plane))
        return dataclasses.replace(
            self,
            loops=self.loops[:n_loops],
            planes=self.planes[:n_loops],
            sequence=self.sequence[:n_loops],
            is_whole=False,
        )

    def loops_by_plane(self, n_planes):
        """List of `n_planes` lists of loops."""
        by_plane = [[] for _ in range(n_planes)]
        for plane, loop in zip(self.planes, self.loops, strict=True):
            by_plane[plane].append(loop)
        return by_plane


def given_shape(model, loops_by_plane, latent=None, seconds=None):
    """Loops as a shape that a model can edit.

    Parameters
    ----------
    model : vae.LoopSeqEncoderDecoderModel
    loops_by_plane : list, for each plane of the model, of lists of (k, 2) float loops
    latent : (L,) float; None: that of the encoder, improved
    seconds : float, time for improving it; None: REFINING_SECONDS

    Returns
    -------
    GivenShape

    Raises
    ------
    UserError
        When there are no loops, too many, or loops that are none; or when the encoder reads points
        of a surface and there is no latent.
    """
    info = model.info
    try:
        sequence, planes = loops_to_sequence(loops_by_plane, info.representation)
    except ValueError as error:
        raise UserError(f"the shape cannot be edited: {error}") from None
    if not len(sequence):
        raise UserError("the shape has no loops to edit")
    if len(sequence) > info.n_timesteps - info.use_eos_token:
        raise UserError(
            f"the shape has {len(sequence)} loops, and the model takes "
            f"{info.n_timesteps - info.use_eos_token}; leave out small parts"
        )
    if info.representation.has_flag:
        loops = [
            np.asarray(loop, dtype=np.float64)
            for of_plane in loops_by_plane
            for loop in sort_by_area(of_plane)
        ]
    else:  # one ellipse stands for all loops of a plane
        loops = [loop for of_plane in info.loops(sequence, planes) for loop in of_plane]
    if info.order_ties:
        ordered = order_ties(sequence[None], planes[None])[0]
        loops = [loops[i] for i in _places_before(sequence, ordered, planes)]
        sequence = ordered
    if info.use_eos_token:
        sequence = np.concatenate([sequence, eos_timestep(info.representation)[None]])
    if latent is None:
        latent = latent_of(model, sequence, seconds)
    return GivenShape(loops, planes, sequence, np.asarray(latent, dtype=np.float64))


def given_sequence(model, sequence, latent=None, seconds=None):
    """A sequence (T, F) that is not normalised, as a `GivenShape`. See `given_shape`."""
    return given_shape(model, model.info.loops(sequence), latent, seconds)


def given_slices(model, planes, loops_by_plane, seconds=None):
    """The loops of other planes (S, 4, 3), which must be among the model's, as a `GivenShape`.

    Raises
    ------
    UserError
        As `given_shape`, and when a plane is none of the model's.
    """
    own = plane_heights(model.info.planes)
    near = SAME_PLANE * np.abs(np.diff(own)).min() if len(own) > 1 else SAME_PLANE
    of_model = [[] for _ in own]
    for plane, loops in zip(planes, loops_by_plane, strict=True):
        away = np.abs(own - plane[1] @ model.info.planes[0, 0])
        if away.min() > near or not np.allclose(plane[[0, 2, 3]], model.info.planes[0, [0, 2, 3]]):
            raise UserError(
                "its planes are not those of the model; slice the mesh with the model's planes, "
                "or encode it"
            )
        of_model[away.argmin()] += loops
    return given_shape(model, of_model, None, seconds)


def _places_before(sequence, ordered, planes):
    """For each row of `ordered`, where it stands in `sequence`; rows stay in their plane."""
    places = []
    for plane in np.unique(planes):
        rows = np.flatnonzero(planes == plane).tolist()
        for row in ordered[planes == plane]:
            places.append(next(i for i in rows if np.array_equal(sequence[i, :-1], row[:-1])))
            rows.remove(places[-1])
    return places


def latent_of(model, sequence, seconds=None):
    """The latent (L,) that a model makes of a sequence (T, F), improved for some seconds."""
    if model.needs_point_clouds:
        raise UserError("the model's encoder reads points of a mesh, not loops; encode the mesh")
    seconds = REFINING_SECONDS if seconds is None else seconds
    batch = batch_of(model.info, sequence, model.device)
    return refine(model, batch, model.encode(batch), seconds=seconds).z[0].cpu().numpy()


# ------------------------------------------------------------------------------------ completing


def complete(model, given, plane, n, rng):
    """Different ways in which a shape may go on.

    Latents are drawn from the prior, and weighed by how well they explain the loops that are kept:
    by the loss of these, each told before the next is asked for. The best come nearer by some
    steps down that loss. Of the half of their shapes that goes on most steadily from the last kept
    plane, the ones that differ most are taken.

    Parameters
    ----------
    model : vae.LoopSeqEncoderDecoderModel
    given : GivenShape
    plane : int, the first plane that is made anew
    n : int, how many
    rng : numpy.random.Generator

    Returns
    -------
    list of n (GivenShape, decoding.EditedShape), the lower part with its new latent and the whole,
    first the one whose latent explains it best

    Raises
    ------
    UserError
        When the plane is the first, the last or none, or no loop lies below it.
    """
    check_completion(plane, model.info.n_planes, given.planes)
    kept = given.below(plane)
    # Descending brings latents near, so they need not settle: that takes a decoding each.
    prior = model.prior.prior if isinstance(model.prior, SettledPrior) else model.prior
    drawn = prior.draw(rng, DRAWN)
    drawn = torch.as_tensor(drawn, dtype=torch.float32, device=model.device)
    drawn = drawn[_losses(model, kept.sequence, drawn).argsort()[: CANDIDATES * n]]
    batch = batch_of(model.info, kept.sequence, model.device, len(drawn))
    model.eval()
    nearer = [drawn, *descend(model, batch, drawn, STEPS, RATE)[0]][-1]
    nearer = nearer[_losses(model, kept.sequence, nearer).argsort()].cpu().numpy()
    parts = [dataclasses.replace(kept, latent=z.astype(np.float64)) for z in nearer]
    shapes = [EditedDecoder(model, part.latent, part).untouched for part in parts]
    seams = np.array([seam(shape.loops_by_plane, int(kept.planes[-1])) for shape in shapes])
    steady = np.sort(seams.argsort(kind="stable")[: max(n, len(seams) // 2)])  # the best come first
    sequences = np.stack([shapes[i].sequence for i in steady])
    chosen = steady[_most_different(model.info, sequences, n)]
    return [(parts[i], shapes[i]) for i in chosen]


def seam(loops_by_plane, plane):
    """How much the loops change from a plane to the next; inf if one of these has none."""
    below, above = loops_by_plane[plane : plane + 2]
    return change_between(below, above) if below and above else np.inf


def change_between(loops, others):
    """How far loops move from a plane to the next: the mean distance of points, on average.

    Points and loops are paired so that this is least, as the first point of a loop may jump where
    the loop does not. Loops that begin or end there have no partner, and do not count.

    Parameters
    ----------
    loops, others : lists of (k, 2) float

    Returns
    -------
    float
    """
    from scipy.optimize import linear_sum_assignment

    one, other = ([canonical_polyline(loop) for loop in each] for each in (loops, others))
    n = len(one[0])
    turned = (np.arange(n)[:, None] + np.arange(n)) % n  # (shift, point)
    away = np.array([[_mean_distances(a, b[turned]).min() for b in other] for a in one])
    return float(away[linear_sum_assignment(away)].mean())


def _mean_distances(loop, turned):
    """Mean distances of a loop (n, 2) to the same points (m, n, 2) of m loops, (m,)."""
    return np.linalg.norm(loop - turned, axis=-1).mean(axis=-1)


@torch.no_grad()
def _losses(model, sequence, latents):
    """The teacher-forced loss of a sequence (T, F) under each of B latents, (B,)."""
    losses = []
    for part in latents.split(AT_ONCE):
        batch = batch_of(model.info, sequence, model.device, len(part))
        losses.append(shape_losses(model, batch, part))
    return torch.cat(losses)


def _most_different(info, sequences, n):
    """Numbers of `n` of the sequences: the first, then each the farthest from those before it."""
    chosen = [0]
    away = np.full(len(sequences), np.inf)
    while len(chosen) < n:
        others = np.broadcast_to(sequences[chosen[-1]], sequences.shape)
        away = np.minimum(away, loop_errors(info, others, sequences))
        away[chosen] = -1
        chosen.append(int(away.argmax()))
    return sorted(chosen)
