"""Work on many mesh files, such as slicing, on all cores or on a Dask cluster.

Results come in the order of the files, as soon as they are ready. A file that cannot be worked on,
takes too long or kills its process is a failure with a reason, and the run goes on.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loopdraw.data.cache import UNKNOWN, file_stamp
from loopdraw.files import UserError
from loopdraw.loops.mesh_files import load_mesh
from loopdraw.loops.representations import REPRESENTATIONS, eos_timestep, loops_to_sequence
from loopdraw.loops.slicing import slice_mesh
from loopdraw.processes import TookTooLong, end_with_parent, time_limit

# Seconds. A process that is stuck outside Python does not notice its own time limit, so it is ended
# after this much more time, which also covers the start of the processes.
GRACE = 30.0

CONNECTION_SECONDS = 10  # for a Dask scheduler, and its first worker, to answer


class SlicedFile(NamedTuple):
    """The result for a mesh file. `reason` says why there is no sequence, or is None."""

    sequence: np.ndarray | None  # (T, F) float32
    plane_index: np.ndarray | None  # (T,) int32, -1 for the end-of-sequence timestep
    repairs: tuple  # cracks bridged, gaps closed, slivers dropped
    reason: str | None
    stamp: tuple = UNKNOWN  # `cache.file_stamp` of the file


class SlicingTask(NamedTuple):
    """How each mesh of a run is sliced; sent to the processes with each file."""

    planes: np.ndarray  # (P, 4, 3)
    representation_name: str
    use_eos_token: bool
    timeout: float  # seconds a mesh
    max_timesteps: int | None = None  # longer sequences are failures


DIED = "the process that read it died; it may need more memory than there is"


def _timeout_reason(task):
    return f"took longer than {task.timeout:g} s; allow more with --mesh_timeout"


def failure(reason):
    """A `SlicedFile` without sequence."""
    return SlicedFile(None, None, (0, 0, 0), " ".join(str(reason).split()))


def slice_file(path, task):
    """Read and slice one mesh file; problems with it are returned, not raised."""
    stamp = file_stamp(path)
    return tried(_slice_file, failure, path, task)._replace(stamp=stamp)


def tried(work, failure, path, task):
    """`work(path, task)`, or `failure(reason)` if that raises an error or takes too long."""
    try:
        with time_limit(task.timeout):
            return work(path, task)
    except UserError as error:
        return failure(str(error).removeprefix(f"{path}: "))
    except TookTooLong:
        return failure(_timeout_reason(task))
    except MemoryError:
        return failure("too large for the memory")
    except Exception as error:  # one mesh must never end the run
        return failure(f"{type(error).__name__}: {error}")


def _slice_file(path, task):
    vertices, faces = load_mesh(path)
    sliced = slice_mesh(vertices, faces, task.planes)
    if not any(sliced.loops_by_plane):
        used = vertices[faces.ravel()]
        low, high = used.min(axis=0), used.max(axis=0)
        return failure(
            f"no plane meets it: it spans x {low[0]:.3g} to {high[0]:.3g}, y {low[1]:.3g} to "
            f"{high[1]:.3g}, z {low[2]:.3g} to {high[2]:.3g}; scale it to the planes"
        )
    representation = REPRESENTATIONS[task.representation_name]
    sequence, plane_index = loops_to_sequence(sliced.loops_by_plane, representation)
    if task.use_eos_token:
        sequence = np.concatenate([sequence, eos_timestep(representation)[None]])
        plane_index = np.append(plane_index, np.int32(-1))
    if task.max_timesteps is not None and len(sequence) > task.max_timesteps:
        return failure(f"{len(sequence)} timesteps, more than --max_timesteps {task.max_timesteps}")
    return SlicedFile(sequence, plane_index, tuple(sliced[1:]), None)


def slice_files(paths, task, num_workers=None, dask_scheduler=None):
    """Slice mesh files; yields a `SlicedFile` for each, in order. See `work_on_files`."""
    return work_on_files(slice_file, failure, paths, task, num_workers, dask_scheduler)


def work_on_files(work, failure, paths, task, num_workers=None, dask_scheduler=None):
    """Do the same with each of many files.

    Parameters
    ----------
    work : function (path, task) that returns a result, and raises nothing: see `tried`
    failure : function (reason) that returns the result for a file that could not be worked on
    paths : sequence of path
    task : what `work` needs to know, with a `timeout` in seconds a file
    num_workers : int, processes to use; None or 0: one per core; 1: only this process
    dask_scheduler : str, address of a Dask scheduler to send the work to. Its workers must have the
        files under the same absolute paths and be able to import this module.

    Yields
    ------
    The result of each path, in order. A result has an attribute `reason`, None unless it failed.
    """
    if not paths:
        return
    import joblib  # slow to import, and not needed if there is a cache

    n_jobs = min(num_workers or joblib.cpu_count(), len(paths))
    paths = [str(Path(path).absolute()) for path in paths]
    if n_jobs == 1 and dask_scheduler is None:
        yield from (work(path, task) for path in paths)
        return
    with _backend(dask_scheduler, n_jobs) as client:
        done = 0
        while done < len(paths):
            try:
                with _in_parallel(work, paths[done:], task) as results:
                    for result in results:
                        yield result
                        done += 1
            except multiprocessing.TimeoutError:
                yield failure(_timeout_reason(task))
                done += 1
            except Exception:
                # A process died, and it is unknown which mesh killed it. Those that may have been
                # in work are done one by one until it shows.
                for path in paths[done : done + 4 * n_jobs]:
                    if client is not None:
                        check_cluster(client, dask_scheduler)
                    result = _alone(work, failure, path, task)
                    yield result
                    done += 1
                    if result.reason == DIED:
                        break


@contextlib.contextmanager
def _backend(dask_scheduler, n_jobs):
    """Set the joblib backend for `_in_parallel` in the block; yields the Dask client or None."""
    import joblib

    if dask_scheduler is None:
        with joblib.parallel_config(backend="loky", n_jobs=n_jobs):
            yield None
        return
    with dask_client(dask_scheduler) as client:
        with joblib.parallel_config(backend="dask", n_jobs=-1, client=client):
            yield client


@contextlib.contextmanager
def dask_client(dask_scheduler):
    """A connection to a Dask scheduler that has workers.

    Raises
    ------
    UserError
        When Dask is not installed, nothing answers at the address, or there are no workers.
    """
    try:
        from dask.distributed import Client
    except ImportError:
        raise UserError(
            "--dask_scheduler needs Dask, which is not installed; run: pip install "
            "'dask[distributed]'"
        ) from None
    try:
        client = Client(dask_scheduler, timeout=CONNECTION_SECONDS)
    except (OSError, ValueError, MemoryError) as error:  # the last of a server of another kind
        raise UserError(
            f"--dask_scheduler {dask_scheduler}: no scheduler answers there ({error}); start one "
            "with: dask scheduler"
        ) from None
    with client:
        with contextlib.suppress(TimeoutError):
            client.wait_for_workers(1, timeout=CONNECTION_SECONDS)
        check_cluster(client, dask_scheduler)
        yield client


def check_cluster(client, dask_scheduler):
    """Raise a UserError if the cluster has failed, and not a mesh."""
    if client.status != "running":
        reason = "the connection was lost; run the same command again to go on from here"
    elif not client.ncores():
        reason = f"it has no workers; start some with: dask worker {dask_scheduler}"
    else:
        return
    raise UserError(f"--dask_scheduler {dask_scheduler}: {reason}") from None


@contextlib.contextmanager
def _in_parallel(work, paths, task):
    """Results of `work` in order, as they are ready; unfinished work is ended at exit."""
    import joblib

    # Batches of one, as the time limit is for one mesh.
    parallel = joblib.Parallel(
        return_as="generator", batch_size=1, pre_dispatch="3 * n_jobs", timeout=task.timeout + GRACE
    )
    main = os.getpid()
    results = parallel(joblib.delayed(_work_in_worker)(work, path, task, main) for path in paths)
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib warns that not all results were used
            results.close()


def _alone(work, failure, path, task):
    """Work on one file in its own process, to see whether it kills it."""
    try:
        with _in_parallel(work, [path], task) as results:
            return list(results)[0]
    except multiprocessing.TimeoutError:
        return failure(_timeout_reason(task))
    except Exception:
        return failure(DIED)


def _work_in_worker(work, path, task, main_process):
    if os.getpid() != main_process and threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches each process of a terminal; the main process ends the others.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_with_parent(main_process)
    return work(path, task)
