"""Metrics of generated shapes and of latent spaces, on point clouds and latents as tensors.

Chamfer distance, and the three scores by which a set of generated shapes S is compared with a set
of reference shapes R:

=========  ==================================================================  ================
metric     question                                                            best
=========  ==================================================================  ================
MMD        how far is a reference shape from the nearest generated one?        low
coverage   which share of R is the nearest one of some shape of S?             high
1-NNA      can a classifier tell S from R by the nearest other shape?          0.5; 1: always
=========  ==================================================================  ================

Minimum matching distance and coverage: Achlioptas et al., Learning Representations and Generative
Models for 3D Point Clouds (ICML 2018). 1-nearest-neighbour accuracy: Lopez-Paz and Oquab,
Revisiting Classifier Two-Sample Tests (ICLR 2017), taken to shapes by Yang et al., PointFlow (ICCV
2019), section 5.1, whose definitions these are.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import torch

# Points of a box: more make fewer, longer lists of candidates. Time is flat around this value.
POINTS_PER_BOX = 512
# Boxes that are compared at once: what they need stays in a core's cache.
BOXES_PER_CHUNK = 16

# Burda et al., Importance Weighted Autoencoders (ICLR 2016), section 4.1.2.
ACTIVE_VARIANCE = 0.01


# -------------------------------------------------------------------------------- Chamfer distance


def chamfer_distances(first, second=None, progress=None):
    """Chamfer distance of every cloud of one set to every cloud of another.

    CD(X, Y) = mean over x of min |x - y|^2 + mean over y of min |y - x|^2, as in PointFlow. It is
    exact: the candidates that are left out cannot be nearest.

    Parameters
    ----------
    first : (N, n, 3) float32 tensor
    second : (M, m, 3) float32 tensor on the same device; None for `first` against itself
    progress : function or None; called with the number of directed distances as they are done,
        N x N in all for one set, 2 x N x M for two

    Returns
    -------
    (N, M) float32 tensor, in squared units of the points
    """
    middle = first.mean(dim=(0, 1))  # near the origin float32 has the most digits
    first = first - middle
    if second is None:
        there = _directed_distances(first, first, progress)
        return there + there.T
    second = second - middle
    there = _directed_distances(first, second, progress)
    return there + _directed_distances(second, first, progress).T


def _directed_distances(queries, targets, progress):
    """Mean squared distance of each query cloud's points to each target cloud, (N, M).

    Comparing all points with all points takes more than ten times as long, a k-d tree asked point
    by point five times. Instead the points of all query clouds together are put into small boxes,
    once. For each target cloud and box, only few targets can be nearest to a point in the box;
    those are compared with all of its points, by a small matrix product.
    """
    boxes = _Boxes(queries.reshape(-1, 3))
    # float32 rounding of a squared distance, generously.
    slack = 2e-6 * max(queries.square().sum(dim=-1).max(), targets.square().sum(dim=-1).max())
    distances = queries.new_empty(len(queries), len(targets))

    def fill(column):
        nearest = boxes.nearest_squared(targets[column], slack)
        distances[:, column] = nearest.view(len(queries), -1).mean(dim=1)
        if progress is not None:
            progress(len(queries))

    # Each step is too small for PyTorch to share among cores, so the targets are shared instead.
    n_threads = torch.get_num_threads()
    n_workers = n_threads if queries.device.type == "cpu" else 1
    with ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in pool.map(fill, range(len(targets))):
            pass
    torch.set_num_threads(n_threads)  # of some libraries the setting is not the thread's own
    return distances


class _Boxes:
    """Points (Q, 3) in boxes of equally many, halved along the longest side again and again."""

    def __init__(self, points):
        self.n_points = len(points)
        n_boxes = 2 ** max(0, round(math.log2(len(points) / POINTS_PER_BOX)))
        missing = -len(points) % n_boxes
        points = torch.cat([points, points[:1].expand(missing, 3)])
        order = torch.arange(len(points), device=points.device)[None]  # (boxes, points a box)
        while len(order) < n_boxes:
            inside = points[order]
            longest = (inside.amax(dim=1) - inside.amin(dim=1)).argmax(dim=1)
            along = inside.gather(2, longest[:, None, None].expand(-1, inside.shape[1], 1))
            # The number of points is a multiple of the number of boxes, so halves are equal.
            order = order.gather(1, along[..., 0].argsort(dim=1)).reshape(2 * len(order), -1)
        self.order = order
        inside = points[order]
        self.centres = (inside.amax(dim=1) + inside.amin(dim=1)) / 2  # (boxes, 3)
        offsets = inside - self.centres[:, None]
        self.squares = offsets.square().sum(dim=-1)  # (boxes, points a box)
        self.radii = self.squares.amax(dim=1).sqrt()
        self.minus_twice = (-2 * offsets).transpose(1, 2).contiguous()  # (boxes, 3, points a box)

    def nearest_squared(self, targets, slack):
        """Squared distance of each point to the nearest of `targets` (m, 3), (Q,)."""
        candidates, counts, starts = self._candidates(targets, slack)
        nearest = torch.empty_like(self.squares)
        # Boxes with about equally many candidates go together, so that little is filled up.
        for chunk in counts.argsort().split(BOXES_PER_CHUNK):
            last = counts[chunk, None] - 1
            steps = torch.arange(int(last[-1]) + 1, device=last.device)
            # Lists that are shorter than the chunk's longest repeat their last candidate.
            picked = candidates[torch.minimum(steps, last) + starts[chunk, None]]
            picked = targets[picked] - self.centres[chunk, None]  # (boxes, candidates, 3)
            compared = torch.baddbmm(
                picked.square().sum(dim=-1, keepdim=True), picked, self.minus_twice[chunk]
            )
            nearest[chunk] = compared.amin(dim=1) + self.squares[chunk]
        result = torch.empty_like(nearest).view(-1)
        result[self.order.view(-1)] = nearest.view(-1)
        return result[: self.n_points].clamp_(min=0)

    def _candidates(self, targets, slack):
        """The targets that may be nearest to a point of each box.

        Let c be the centre of a box, r its radius and y0 the target nearest to c. Another target y
        is nearer than y0 to a point x = c + e of the box only if
        |c - y|^2 - |c - y0|^2 <= 2 e (y - y0) <= 2 r |y - y0|.

        Returns
        -------
        candidates : indices of targets, box after box
        counts, starts : (boxes,) how many a box has, and where they begin
        """
        squares = targets.square().sum(dim=-1)
        apart = torch.addmm(squares[:, None] + squares, targets, targets.T, alpha=-2)
        apart = apart.add_(slack).clamp_(min=0).sqrt_()  # (m, m) |y - y0|, rounded up
        lists, counts = [], []
        chunks = (part.split(4 * BOXES_PER_CHUNK) for part in (self.centres, self.radii))
        for centres, radii in zip(*chunks, strict=True):
            # |c - y|^2 without |c|^2, which is the same for all y
            distances = torch.addmm(squares, centres, targets.T, alpha=-2)  # (boxes, m)
            least, nearest = distances.min(dim=1)
            limits = torch.addcmul((least + slack)[:, None], apart[nearest], 2 * radii[:, None])
            box, target = (distances <= limits).nonzero(as_tuple=True)
            lists.append(target)
            counts.append(torch.bincount(box, minlength=len(centres)))
        counts = torch.cat(counts)
        return torch.cat(lists), counts, counts.cumsum(0) - counts


# ---------------------------------------------------------------------------------- sets of shapes


def minimum_matching_distance(distances):
    """Mean over the references of the distance to the nearest generated shape.

    Parameters
    ----------
    distances : (S, R) tensor, generated against reference shapes

    Returns
    -------
    float, in the unit of the distances
    """
    return distances.amin(dim=0).mean().item()


def coverage(distances):
    """Share of the references that are the nearest one of some generated shape.

    Parameters
    ----------
    distances : (S, R) tensor, generated against reference shapes

    Returns
    -------
    float between 1 / R and min(S / R, 1)
    """
    return len(distances.argmin(dim=1).unique()) / distances.shape[1]


def nearest_of_own_kind(generated, between, reference):
    """Shares of the generated and of the reference shapes whose nearest other is of their own kind.

    Their mean is the accuracy of a 1-nearest-neighbour classifier that leaves out the shape it
    judges: 0.5 when the two sets come from one distribution, 1 when they are apart. Below 0.5 the
    shapes are nearer to those of the other set than to those of their own: copies. Two identical
    sets give 0. Two unlike halves, such as 0.9 and 0.3, mean that one of the sets is more varied
    than the other, which the mean hides. The sets should be of the same size, or the larger one is
    found more often.

    Parameters
    ----------
    generated : (S, S) tensor of distances
    between : (S, R) tensor
    reference : (R, R) tensor

    Returns
    -------
    of_generated, of_reference : float
    """
    n_generated, n_reference = between.shape
    distances = torch.cat(
        [torch.cat([generated, between], dim=1), torch.cat([between.T, reference], dim=1)]
    ).fill_diagonal_(math.inf)
    is_generated = torch.arange(n_generated + n_reference, device=distances.device) < n_generated
    own = (is_generated[distances.argmin(dim=1)] == is_generated).double()
    return own[:n_generated].mean().item(), own[n_generated:].mean().item()


def generation_scores(clouds, test, among_test, progress=None):
    """Scores of shapes against as many test shapes.

    Parameters
    ----------
    clouds, test : (n, 2048, 3) tensors
    among_test : (n, n) tensor, the distances among the test shapes
    progress : as in `chamfer_distances`; 3 n^2 in all

    Returns
    -------
    dict: `minimum_matching_distance`, `coverage`, `nearest_neighbour_accuracy`, and its halves
    `own_kind_of_samples` and `own_kind_of_references`
    """
    to_test = chamfer_distances(clouds, test, progress)
    among = chamfer_distances(clouds, None, progress)
    of_samples, of_references = nearest_of_own_kind(among, to_test, among_test)
    return {
        "minimum_matching_distance": minimum_matching_distance(to_test),
        "coverage": coverage(to_test),
        "nearest_neighbour_accuracy": (of_samples + of_references) / 2,
        "own_kind_of_samples": of_samples,
        "own_kind_of_references": of_references,
    }


def novelty(clouds, train, progress=None):
    """How far shapes are from the nearest training shape.

    Parameters
    ----------
    clouds, train : (n, 2048, 3) tensors
    progress : as in `chamfer_distances`

    Returns
    -------
    dict: `median_distance`, Chamfer; `distinct`, number of different nearest training shapes by
    number of clouds; `distances` and `nearest` training shape of each
    """
    distances, nearest = chamfer_distances(clouds, train, progress).min(dim=1)
    return {
        "median_distance": distances.quantile(0.5).item(),
        "distinct": len(nearest.unique()) / len(nearest),
        "distances": distances.tolist(),
        "nearest": nearest.tolist(),
    }


# ------------------------------------------------------------------------------------ latent space


def active_dimensions(mu):
    """Which latent dimensions carry something of the data: the variance of mu is above 0.01.

    Burda et al., Importance Weighted Autoencoders (ICLR 2016), section 4.1.2.

    Parameters
    ----------
    mu : (N, L) tensor, means of the encoder for a set of shapes

    Returns
    -------
    (L,) bool tensor
    """
    return mu.var(dim=0, correction=0) > ACTIVE_VARIANCE


def kl_per_dimension(mu, log_sigma_squared):
    """Divergence of each latent dimension from the standard normal, in nats, a mean over shapes.

    Kingma and Welling, Auto-Encoding Variational Bayes (2014), appendix B.

    Parameters
    ----------
    mu, log_sigma_squared : (N, L) tensors

    Returns
    -------
    (L,) tensor
    """
    terms = mu.square() + log_sigma_squared.exp() - 1 - log_sigma_squared
    return 0.5 * terms.mean(dim=0)
