"""Cached loop sequences as training batches: padding, normalisation, shuffling.

`LoopSeqDataset` is one split of a dataset folder. `DatasetInfo` is what a trained model must know
of its dataset to be used without it; training writes it beside the checkpoint.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from loopdraw.data import build
from loopdraw.data.cache import sequence_lengths
from loopdraw.data.point_clouds import load_or_sample_point_clouds
from loopdraw.files import UserError, load_npz, save_npz
from loopdraw.loops.representations import (
    REPRESENTATIONS,
    Representation,
    representation_with_id,
    sequence_planes,
    sequence_to_loops,
)

INFO_FILE = "dataset_info.npz"
SPLITS = ("train", "val", "test")  # the folders of a dataset; only the first must be there
MOST_TIMESTEPS = 100_000  # of a model; more are a damaged number
POOL = 8  # batches that are sorted by length together
RARE = 0.2  # of the planes; loops that fewer have are rare
SAME_AREA = 0.97  # of the loop before: two loops of the same size


class Batch(NamedTuple):
    """Normalised sequences, time first, as the networks take them."""

    inputs: torch.Tensor  # (T+1, B, F) a start step, then the sequence
    targets: torch.Tensor  # (T, B, F) the sequence
    padding: torch.Tensor  # (T+1, B) bool, True where there is no loop; the start step is none
    point_clouds: torch.Tensor | None  # (B, 2048, 3), for PointNet encoders
    point_weights: torch.Tensor | None = None  # (T, B), of the points' errors; 1 on average
    flag_weights: torch.Tensor | None = None  # (T, B), of the flags' errors: 1 or 0
    told: "Batch | None" = None  # what the latents tell of, if other shapes: `practise_edits`

    @property
    def size(self):
        return self.targets.shape[1]

    def select(self, index):
        """The shapes with these numbers in the batch."""
        clouds = None if self.point_clouds is None else self.point_clouds[index]
        told = None if self.told is None else self.told.select(index)
        rows = {
            name: None if value is None else value[:, index]
            for name, value in self._asdict().items()
            if name not in ("point_clouds", "told")
        }
        return Batch(**rows, point_clouds=clouds, told=told)


@dataclass
class DatasetInfo:
    """What a model must know of the dataset that it was trained on.

    `dataset_mean` and `dataset_std` are (F,) float64 statistics of the train set; features that
    are not normalised, the flag among them, have mean 0 and standard deviation 1.
    """

    planes: np.ndarray  # (P, 4, 3)
    dataset_mean: np.ndarray  # (F,)
    dataset_std: np.ndarray  # (F,)
    n_timesteps: int
    representation: Representation
    use_eos_token: bool
    order_ties: bool = False  # see the function of this name
    most_loops: int | None = None  # on a plane of a training shape; None where it is not known

    @property
    def n_planes(self):
        return len(self.planes)

    def normalise(self, timesteps):
        """Normalise timesteps (..., F); all-zero ones are padding and stay zero."""
        present = np.any(timesteps != 0, axis=-1, keepdims=True)
        return np.where(present, (timesteps - self.dataset_mean) / self.dataset_std, 0.0)

    def unnormalise(self, timesteps):
        """Undo `normalise`. Every timestep (..., F) counts: a decoder's zeros are values."""
        return timesteps * self.dataset_std + self.dataset_mean

    def planes_of(self, sequence):
        """The plane of each timestep of a sequence (T, F), not normalised, by its flags.

        Returns
        -------
        (T,) int, -1 where there is no loop
        """
        return sequence_planes(sequence, self.n_planes, self.representation, self.use_eos_token)

    def loops(self, sequence, plane_index=None):
        """The loops of each plane of a sequence (T, F), not normalised.

        Parameters
        ----------
        sequence : (T, F) float
        plane_index : (T,) int, the plane of each timestep; None to read it off the flags

        Returns
        -------
        list of P lists of (k, 2) float loops
        """
        return sequence_to_loops(
            sequence, self.n_planes, self.representation, self.use_eos_token, plane_index
        )

    @property
    def most_drawn(self):
        """How many loops of a plane become part of a mesh: as many as in training and half more."""
        return None if self.most_loops is None else self.most_loops + (self.most_loops + 1) // 2

    def within_bounds(self, plane_index):
        """`plane_index` (T,) with -1 also for loops beyond the first `most_drawn` of a plane.

        A model that is hardly trained may put hundreds of loops onto a plane, too many to make a
        mesh of.
        """
        if self.most_drawn is None:
            return plane_index
        bounded = plane_index.copy()
        for plane in range(self.n_planes):
            bounded[np.flatnonzero(plane_index == plane)[self.most_drawn :]] = -1
        return bounded

    def bounded_loops(self, sequence):
        """As `loops`, without those that `within_bounds` leaves out: what a mesh is made of."""
        return self.loops(sequence, self.within_bounds(self.planes_of(sequence)))

    def save(self, folder):
        """Write `dataset_info.npz` into the folder of a checkpoint."""
        save_npz(
            Path(folder) / INFO_FILE,
            planes=self.planes,
            dataset_mean=self.dataset_mean,
            dataset_std=self.dataset_std,
            n_timesteps=self.n_timesteps,
            loop_repr_type=self.representation.id,
            use_eos_token=self.use_eos_token,
            **({"order_ties": True} if self.order_ties else {}),
            **({} if self.most_loops is None else {"most_loops": self.most_loops}),
        )

    @classmethod
    def load(cls, folder, loop_repr_type=None):
        """Read `dataset_info.npz` from the folder of a checkpoint; None when there is none.

        Raises
        ------
        UserError
            When it is damaged, or made with another representation than `loop_repr_type`.
        """
        path = Path(folder) / INFO_FILE
        if not path.exists():
            return None
        names = ("planes", "dataset_mean", "dataset_std", "n_timesteps", "loop_repr_type")
        arrays = load_npz(path, (*names, "use_eos_token"), what="a dataset info file")
        representation = _checked_info(path, arrays)
        if loop_repr_type not in (None, representation.name):
            raise UserError(
                f"{path}: the model was trained on {representation.name} loops, but the options "
                f"say {loop_repr_type}; set --loop_repr_type {representation.name}"
            )
        return cls(
            planes=arrays["planes"],
            dataset_mean=arrays["dataset_mean"],
            dataset_std=arrays["dataset_std"],
            n_timesteps=int(arrays["n_timesteps"]),
            representation=representation,
            use_eos_token=bool(arrays["use_eos_token"]),
            order_ties=bool(arrays.get("order_ties", False)),
            most_loops=int(arrays["most_loops"]) if "most_loops" in arrays else None,
        )


def _checked_info(path, arrays):
    """The representation in a dataset info file, whose arrays must fit it."""
    try:
        representation = representation_with_id(int(arrays["loop_repr_type"]))
        shapes = {"n_timesteps": (), "use_eos_token": ()}
        shapes |= dict.fromkeys(("dataset_mean", "dataset_std"), (representation.n_features,))
        shapes["planes"] = (len(arrays["planes"]), 4, 3)
        for name, shape in shapes.items():
            array = arrays[name]
            if array.shape != shape or array.dtype.kind not in "biuf" or not array.size:
                raise ValueError(f"its {name} is {array.shape} of {array.dtype}")
            if not np.isfinite(array).all():
                raise ValueError(f"its {name} is not finite")
        if arrays["n_timesteps"] < 1 or (arrays["dataset_std"] <= 0).any():
            raise ValueError("its n_timesteps or dataset_std is not above zero")
        if arrays["n_timesteps"] > MOST_TIMESTEPS:
            raise ValueError(f"its n_timesteps is above {MOST_TIMESTEPS}")
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not a dataset info file, or damaged ({error}); copy it from the checkpoint "
            "again"
        ) from None
    return representation


class LoopSeqDataset:
    """One split of a dataset: loop sequences, made into normalised batches.

    Parameters
    ----------
    cached : cache.CachedLoops
    info : DatasetInfo, of the train set
    folder : the split's folder, for messages and point clouds
    with_point_clouds : also hold the sampled surface points of each mesh

    Attributes
    ----------
    sequences : (N, T, F) float32, not normalised, zero-padded to `info.n_timesteps`
    plane_indices : (N, T) int32, the plane of each loop; -1 for padding and end of sequence
    filenames : list of str, or None when the cache does not say
    """

    def __init__(self, cached, info, folder, with_point_clouds=False):
        self.info = info
        self.folder = Path(folder)
        self.filenames = cached.filenames
        n_timesteps = info.n_timesteps
        if cached.sequences.shape[1] > n_timesteps:
            raise UserError(
                f"{folder}: sequences of {cached.sequences.shape[1]} timesteps, but the model "
                f"takes {n_timesteps}; use the dataset it was trained on, or train again"
            )
        sequences = cached.sequences
        if info.order_ties:
            sequences = order_ties(sequences, cached.plane_indices)
        self.sequences = _pad_timesteps(sequences, n_timesteps, 0.0)
        self.plane_indices = _pad_timesteps(cached.plane_indices, n_timesteps, -1)
        self.point_clouds = None
        if with_point_clouds:
            points, _ = load_or_sample_point_clouds(
                self.folder, cached.stored_filenames, len(cached.kept)
            )
            self.point_clouds = torch.from_numpy(points[cached.kept].astype(np.float32))
        # Time first, as the networks take it: a batch is then one gather.
        n_features = self.sequences.shape[2]
        inputs = np.empty((n_timesteps + 1, len(self), n_features), dtype=np.float32)
        # The start step is zero before normalisation, and unlike padding it is normalised.
        inputs[0] = -info.dataset_mean / info.dataset_std
        for rows in _chunks(len(self)):
            inputs[1:, rows] = info.normalise(self.sequences[rows]).swapaxes(0, 1)
        self._inputs = torch.from_numpy(inputs)  # (T+1, N, F)
        self.lengths = sequence_lengths(self.sequences)
        steps = np.arange(n_timesteps + 1)
        self._padding = torch.from_numpy(steps[:, None] > self.lengths)  # (T+1, N)

    def __len__(self):
        return len(self.sequences)

    @property
    def planes(self):
        return self.info.planes

    @property
    def dataset_mean(self):
        return self.info.dataset_mean

    @property
    def dataset_std(self):
        return self.info.dataset_std

    @property
    def n_timesteps(self):
        return self.info.n_timesteps

    def to(self, device):
        """Move the data to a device, once, so that batches need no transfers."""
        self._inputs = self._inputs.to(device)
        self._padding = self._padding.to(device)
        if self.point_clouds is not None:
            self.point_clouds = self.point_clouds.to(device)
        return self

    def batch(self, indices, trim=False):
        """A batch of the items with these indices.

        Parameters
        ----------
        indices : sequence of int, or int64 tensor
        trim : drop the timesteps that are padding in every item; losses are unchanged by it
        """
        index = torch.as_tensor(indices, device=self._inputs.device)
        inputs = self._inputs[:, index]
        padding = self._padding[:, index]
        if trim:
            longest = int(self.lengths[index.cpu().numpy()].max())
            inputs, padding = inputs[: longest + 1], padding[: longest + 1]
        clouds = None if self.point_clouds is None else self.point_clouds[index]
        return Batch(inputs, inputs[1:], padding, clouds)

    def shuffled(self, batch_size, generator, of_like_length=False):
        """Index tensors of an epoch's batches, over the whole set in random order.

        With `of_like_length`, batches are cut from pools of some batches, sorted by length, which
        leaves little padding. All are full then: a last incomplete one is left out.
        """
        order = torch.randperm(len(self), generator=generator)
        if not of_like_length:
            return order.split(batch_size)
        lengths = torch.from_numpy(self.lengths)
        batches = []
        for pool in order.split(POOL * batch_size):
            pool = pool[lengths[pool].argsort()]
            batches += [batch for batch in pool.split(batch_size) if len(batch) == batch_size]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator)]

    def first_rare_number(self):
        """The least number k, from 0, that loop k of a plane exists in few planes only."""
        shape, step = np.nonzero(self.plane_indices >= 0)
        places = shape * self.info.n_planes + self.plane_indices[shape, step]
        counts = np.bincount(places)
        counts = counts[counts > 0]
        number = 0
        while (counts > number).mean() >= RARE:
            number += 1
        return number


def batch_of(info, sequence, device, n=1):
    """A sequence (T, F), not normalised, as a batch of n shapes alike."""
    start = -info.dataset_mean / info.dataset_std
    steps = np.concatenate([start[None], info.normalise(sequence)]).astype(np.float32)
    inputs = torch.from_numpy(steps)[:, None].to(device).expand(-1, n, -1)
    padding = torch.zeros(inputs.shape[:2], dtype=torch.bool, device=device)
    return Batch(inputs, inputs[1:], padding, None)


def order_ties(sequences, plane_indices):
    """Put loops of a plane that are nearly as large as each other into an order of their own.

    Loops come in order of decreasing area. That says nothing of the legs of a chair, say: their
    areas are equal up to rounding, and they change places from plane to plane. In a run of loops,
    each nearly as large as the one before, the order here is by u + v of the mean of the points.

    Parameters
    ----------
    sequences : (N, T, F) float, polylines, not normalised
    plane_indices : (N, T) int, the plane of each loop; -1 for none

    Returns
    -------
    (N, T, F) float
    """
    shape, step = np.nonzero(plane_indices >= 0)
    loops = sequences[shape, step, :-1]
    points = loops.reshape(len(loops), -1, 2).astype(np.float64)
    u, v = points[..., 0], points[..., 1]
    areas = 0.5 * np.abs((u * np.roll(v, -1, axis=1) - v * np.roll(u, -1, axis=1)).sum(axis=1))
    place = np.stack([shape, plane_indices[shape, step]])
    same_plane = (place[:, 1:] == place[:, :-1]).all(axis=0)
    continues = same_plane & (areas[1:] >= SAME_AREA * areas[:-1])
    runs = np.cumsum(np.append(True, ~continues))
    order = np.lexsort((points.mean(axis=1).sum(axis=1), runs))
    ordered = sequences.copy()
    ordered[shape, step, :-1] = loops[order]
    return ordered


def _chunks(n_items):
    """Slices of items that are few enough for copies in double precision."""
    return [slice(start, start + 512) for start in range(0, n_items, 512)]


def _most_loops(plane_indices):
    """The most loops that any plane of a shape has; (N, T) int, -1 where there is none."""
    shape, step = np.nonzero(plane_indices >= 0)
    _, counts = np.unique([shape, plane_indices[shape, step]], axis=1, return_counts=True)
    return int(counts.max(initial=0))


def _pad_timesteps(array, n_timesteps, value):
    if array.shape[1] == n_timesteps:
        return array
    widths = [(0, 0)] * array.ndim
    widths[1] = (0, n_timesteps - array.shape[1])
    return np.pad(array, widths, constant_values=value)


def _statistics(sequences, representation, norm_by, report=print):
    """Mean and standard deviation to normalise by, (F,) each; 0 and 1 where nothing is done."""
    n_features = sequences.shape[2]
    mean, std = np.zeros(n_features), np.ones(n_features)
    values = slice(0, n_features - 1) if representation.has_flag else slice(None)
    if norm_by == "per_value":
        mean[values], std[values] = _moments(
            lambda part: part[np.any(part != 0, axis=2)][:, values], sequences
        )
    elif norm_by == "whole_array":
        mean[values], std[values] = _moments(lambda part: part.reshape(-1, 1), sequences)
    if not std.all():
        # A feature that never varies would be divided by zero; the published rule is to leave
        # all of them as they are.
        constant = ", ".join(map(str, np.flatnonzero(std == 0)))
        report(
            f"warning: feature {constant} of the loops is the same in the whole training set, so "
            "nothing is normalised, as in the published program"
        )
        return np.zeros(n_features), np.ones(n_features)
    return mean, std


def _moments(rows_of, sequences):
    """Mean and standard deviation over the rows that a function gives of a part of the sequences.

    In two passes and in double precision, a part at a time: a copy of the whole might not fit.
    """
    parts = _chunks(len(sequences))
    # Seen from the first row, a feature that never varies has a deviation of exactly zero.
    first = rows_of(sequences[:1])[0].astype(np.float64)
    n_rows = sum(len(rows_of(sequences[part])) for part in parts)
    shift = sum((rows_of(sequences[part]) - first).sum(axis=0) for part in parts) / n_rows
    mean = first + shift
    squares = sum(np.square(rows_of(sequences[part]) - mean).sum(axis=0) for part in parts)
    return mean, np.sqrt(squares / n_rows)


def load_caches(
    dataroot,
    loop_repr_type="ellipse-multiple",
    *,
    use_eos_token=False,
    num_workers=0,
    mesh_timeout=120.0,
    dask_scheduler=None,
    max_timesteps=None,
    report=print,
):
    """The caches of a dataset folder, slicing meshes where there are none yet.

    Parameters
    ----------
    dataroot : path of the folder, with train/ and perhaps val/ and test/
    loop_repr_type : str, a name of `REPRESENTATIONS`
    use_eos_token, num_workers, mesh_timeout, dask_scheduler, max_timesteps : see
        `build.build_or_load_cache`
    report : function that gets lines of progress

    Returns
    -------
    dict of split, "train" and perhaps "val" and "test", to cache.CachedLoops
    """
    root = Path(dataroot)
    if not root.is_dir():
        raise UserError(f"{root}: no such dataset folder; --dataroot must hold train/")
    caches = {
        split: build.build_or_load_cache(
            root / split,
            loop_repr_type,
            use_eos_token=use_eos_token,
            num_workers=num_workers,
            mesh_timeout=mesh_timeout,
            dask_scheduler=dask_scheduler,
            max_timesteps=max_timesteps,
            report=report,
        )
        for split in SPLITS
        if split == "train" or (root / split).is_dir()
    }
    planes = caches["train"].planes
    for split, cache in caches.items():
        if planes.shape != cache.planes.shape or not np.allclose(planes, cache.planes):
            raise UserError(
                f"{root}: train and {split} sets have other planes; slice both with the same"
            )
    return caches


def load_datasets(
    dataroot,
    loop_repr_type="ellipse-multiple",
    *,
    info=None,
    data_norm_by="per_value",
    architecture="transformer",
    use_eos_token=False,
    order_ties=False,
    num_workers=0,
    mesh_timeout=120.0,
    dask_scheduler=None,
    max_timesteps=None,
    report=print,
):
    """The sets of a dataset folder, slicing meshes where no cache is there yet.

    Parameters
    ----------
    dataroot, loop_repr_type, use_eos_token, num_workers, mesh_timeout, dask_scheduler,
    max_timesteps, report : as for `load_caches`
    info : DatasetInfo of a trained model, or None to take it from the train set
    data_norm_by : "per_value" (each feature), "whole_array" (two scalars) or "none"
    order_ties : bool; see the function of this name. A given `info` knows it already.
    architecture : str; one that starts with "pointnet" needs points on the surfaces as well

    Returns
    -------
    dict of split, "train" and, where there is such a folder, "val" and "test", to LoopSeqDataset
    """
    caches = load_caches(
        dataroot,
        loop_repr_type,
        use_eos_token=use_eos_token,
        num_workers=num_workers,
        mesh_timeout=mesh_timeout,
        dask_scheduler=dask_scheduler,
        max_timesteps=max_timesteps,
        report=report,
    )
    root, train = Path(dataroot), caches["train"]
    if info is None:
        representation = REPRESENTATIONS[loop_repr_type]
        mean, std = _statistics(train.sequences, representation, data_norm_by, report)
        info = DatasetInfo(
            planes=train.planes,
            dataset_mean=mean,
            dataset_std=std,
            n_timesteps=max(cache.sequences.shape[1] for cache in caches.values()),
            representation=representation,
            use_eos_token=train.has_eos,
            order_ties=order_ties,
            most_loops=_most_loops(train.plane_indices),
        )
    elif train.planes.shape != info.planes.shape or not np.allclose(train.planes, info.planes):
        raise UserError(
            f"{root}: its planes are not those that the model was trained with; "
            "use the dataset it was trained on"
        )
    clouds = architecture.startswith("pointnet")
    return {
        split: LoopSeqDataset(cache, info, root / split, clouds) for split, cache in caches.items()
    }
