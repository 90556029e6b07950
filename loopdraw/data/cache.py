"""The cache file of a dataset folder: loop sequences of meshes, zero-padded to the longest.

====================  ==========================================================================
key                   value
====================  ==========================================================================
planes                (P, 4, 3) float
meshes_reprs          (N, T, F) float; all-zero timesteps are padding
loop_repr_type        int, id of the representation; missing in old files, which means 1
loaded_obj_filenames  (N,) str; missing in old files
plane_indices         (N, T) int, plane of each loop, -1 for none; missing in published files
mesh_repairs          (N, 3) int, cracks bridged, gaps closed, slivers dropped; also missing
source_files          (M,) str, all meshes there were, within the folder; also missing
source_stamps         (M, 3) int, see `file_stamp`; also missing
max_timesteps         int, longer sequences were left out; 0: none were; also missing
====================  ==========================================================================
"""

import os
import stat
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from loopdraw.files import UserError, load_npz, read_text, write_aside
from loopdraw.loops.geometry import make_planes, parse_planespec
from loopdraw.loops.representations import Representation, representation_with_id, sequence_planes

CACHE_FILE = "preprocessed_cache.npz"
PLANESPEC_FILE = "planespec.txt"
PLANESPEC_LINES = "four lines: scan axis (x, y or z), number of planes, min and max coordinate"


@dataclass
class CachedLoops:
    """The loop sequences of the N meshes of a folder.

    planes : (P, 4, 3) float64
    sequences : (N, T, F) float32, not normalised; all-zero timesteps are padding
    plane_indices : (N, T) int32, the plane of each loop; -1 for padding and end of sequence
    representation : Representation
    filenames : list of N str, or None for old caches without names
    repairs : (N, 3) int32, cracks bridged, gaps closed, slivers dropped; 0 where unknown
    sources : dict of each mesh there was, within the folder, to its `file_stamp`, or None
    max_timesteps : int or None, longer sequences were left out of the file
    kept : (M,) bool, which meshes of the file these are, in its order
    stored_filenames : list of M str, or None; the names in the file

    The last four are None for loops that are of no file.
    """

    planes: np.ndarray
    sequences: np.ndarray
    plane_indices: np.ndarray
    representation: Representation
    filenames: list | None
    repairs: np.ndarray
    sources: dict | None = None
    max_timesteps: int | None = None
    kept: np.ndarray | None = None
    stored_filenames: list | None = None

    @property
    def lengths(self):
        """Number of timesteps of each sequence without padding, (N,) int."""
        return sequence_lengths(self.sequences)

    @property
    def has_eos(self):
        """Whether every sequence ends with an end-of-sequence timestep."""
        return bool(_ends_with_eos(self.sequences, self.representation).all())

    def without_longer(self, max_timesteps):
        """The same without the meshes that have more timesteps; at least one must be left."""
        kept = self.lengths <= max_timesteps
        longest = self.lengths[kept].max()
        return replace(
            self,
            sequences=self.sequences[kept, :longest],
            plane_indices=self.plane_indices[kept, :longest],
            repairs=self.repairs[kept],
            filenames=self.filenames and [self.filenames[i] for i in np.flatnonzero(kept)],
            kept=kept,
        )


UNKNOWN = (-1, -1, -1)


def file_stamp(path):
    """By what one sees that a file has changed: size, time of change in ns, CRC-32.

    `UNKNOWN` where it cannot be read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return UNKNOWN
        checksum = 0
        with open(path, "rb") as file:
            while block := file.read(2**20):
                checksum = zlib.crc32(block, checksum)
    except OSError:
        return UNKNOWN
    return status.st_size, status.st_mtime_ns, checksum


def read_planespec(folder):
    """The planes (P, 4, 3) of a folder's `planespec.txt`; UserError if it is not valid."""
    path = Path(folder) / PLANESPEC_FILE
    text = read_text(path, PLANESPEC_LINES)
    try:
        return make_planes(*parse_planespec(text))
    except ValueError as error:
        raise UserError(f"{path}: {error}; write {PLANESPEC_LINES}") from None


def load_cache(path, representation_name):
    """Read a cache, from this program or the published one, complete or partial.

    Returns
    -------
    CachedLoops

    Raises
    ------
    UserError
        When it is missing, damaged, not a cache, or of another representation.
    """
    arrays = load_npz(path, ("planes", "meshes_reprs"), what="a loops cache")
    representation = _checked_representation(path, arrays, representation_name)

    def require(condition, reason):
        if not condition:
            raise UserError(f"{path}: not a loops cache, {reason}; remove it to slice again")

    planes, sequences = arrays["planes"], arrays["meshes_reprs"]
    require(planes.ndim == 3 and planes.shape[1:] == (4, 3), f"its planes are {planes.shape}")
    require(
        sequences.ndim == 3 and sequences.shape[2] == representation.n_features,
        f"its meshes_reprs are {sequences.shape}, not (meshes, timesteps, "
        f"{representation.n_features}) as {representation.name} loops are",
    )
    require(planes.size and sequences.size, "it is empty")
    for name, array in (("planes", planes), ("meshes_reprs", sequences)):
        is_numeric = array.dtype.kind in "fiu"
        require(is_numeric and np.isfinite(array).all(), f"its {name} are not all numbers")
    planes = planes.astype(np.float64, copy=False)
    sequences = sequences.astype(np.float32, copy=False)
    require(sequences.any(axis=(1, 2)).all(), "some of its meshes have no loops")

    n_meshes, n_timesteps, _ = sequences.shape
    filenames = arrays.get("loaded_obj_filenames")
    if filenames is not None:
        require(filenames.shape == (n_meshes,), "it names another number of files")
        filenames = [str(name) for name in filenames]
    plane_indices = arrays.get("plane_indices")
    if plane_indices is None:
        plane_indices = _derive_plane_indices(sequences, len(planes), representation)
    require(
        plane_indices.shape == (n_meshes, n_timesteps)
        and plane_indices.dtype.kind == "i"
        and plane_indices.max() < len(planes),
        "its plane_indices do not fit",
    )
    repairs = arrays.get("mesh_repairs", np.zeros((n_meshes, 3), dtype=np.int32))
    require(repairs.shape == (n_meshes, 3), "its mesh_repairs do not fit")
    plane_indices = plane_indices.astype(np.int32, copy=False)
    sources, stamps = arrays.get("source_files"), arrays.get("source_stamps")
    if sources is not None:
        require(
            sources.ndim == 1
            and stamps is not None
            and stamps.dtype.kind == "i"
            and stamps.shape == (len(sources), 3),
            "its source_stamps do not fit",
        )
        sources = dict(zip(map(str, sources), map(tuple, stamps.tolist()), strict=True))
    limit = arrays.get("max_timesteps", np.array(0))
    require(limit.shape == () and limit.dtype.kind == "i", "its max_timesteps is no number")
    return CachedLoops(
        planes,
        sequences,
        plane_indices,
        representation,
        filenames,
        repairs,
        sources,
        max_timesteps=int(limit) or None,
        kept=np.ones(n_meshes, dtype=bool),
        stored_filenames=filenames,
    )


def save_cache(path, planes, sequences, plane_indices, representation, filenames, repairs, **more):
    """Write a cache. Sequences are padded one by one, as a large dataset already fills the memory.

    Parameters
    ----------
    sequences : list of N (T_i, F) float32
    plane_indices : list of N (T_i,) int32
    others : as for `CachedLoops`
    more : further arrays to store
    """
    longest = max(map(len, sequences))
    arrays = {
        "planes": planes,
        "loop_repr_type": representation.id,
        "loaded_obj_filenames": np.array(filenames, dtype=np.str_),
        "plane_indices": np.stack([_padded(planes, longest, -1) for planes in plane_indices]),
        "mesh_repairs": np.array(repairs, dtype=np.int32),
        **more,
    }
    # At the lowest level: padding is what packs well, and the rest hardly does at any.
    with (
        write_aside(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):

        def member(name):
            return archive.open(f"{name}.npy", "w", force_zip64=True)

        for name, array in arrays.items():
            with member(name) as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
        with member("meshes_reprs") as stream:
            shape = (len(sequences), longest, representation.n_features)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            for sequence in sequences:
                stream.write(_padded(sequence, longest, 0).astype("<f4", copy=False).tobytes())


def _padded(array, length, value):
    """The array with rows of `value` appended, up to the given length."""
    padded = np.full((length, *array.shape[1:]), value, dtype=array.dtype)
    padded[: len(array)] = array
    return padded


def _checked_representation(path, arrays, expected_name):
    """The representation of a cache, which must be the expected one."""
    try:
        representation = representation_with_id(int(arrays.get("loop_repr_type", 1)))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: not a loops cache ({error}); remove it to slice again") from None
    if representation.name != expected_name:
        raise UserError(
            f"{path}: it holds {representation.name} loops, but the options ask for "
            f"{expected_name}; set --loop_repr_type {representation.name}, or remove the file to "
            "slice again"
        )
    return representation


def sequence_lengths(sequences):
    """Timesteps of each sequence (N, T, F) up to the last one that is not all zero, (N,) int."""
    present = sequences.any(axis=2)
    n_padding = present[:, ::-1].argmax(axis=1)
    return np.where(present.any(axis=1), sequences.shape[1] - n_padding, 0)


def _ends_with_eos(sequences, representation):
    """Which sequences end with a timestep that is all zeros but for a flag of 1, (N,) bool."""
    if not representation.has_flag:
        return np.zeros(len(sequences), dtype=bool)
    last = sequences[np.arange(len(sequences)), sequence_lengths(sequences) - 1]
    return (last[:, -1] == 1) & ~last[:, :-1].any(axis=1)


def _derive_plane_indices(sequences, n_planes, representation):
    """The plane of each timestep from its flags, (N, T) int32."""
    planes = np.stack(
        [sequence_planes(sequence, n_planes, representation, False) for sequence in sequences]
    )
    ended = np.flatnonzero(_ends_with_eos(sequences, representation))
    planes[ended, sequence_lengths(sequences)[ended] - 1] = -1
    return planes.astype(np.int32)
