"""Samples made and saved by the machines of a Dask cluster.

A worker makes a few shapes at a time, from the latents to the files, and needs nothing for it but
their numbers: the number of a shape gives what is drawn for it, and the names of its files. So a
number whose files are there is done, whoever made them, and a run that was stopped goes on where it
was. The folder of the checkpoint must lie under the same path for all machines.
"""

import dataclasses
import itertools
import secrets
import threading
from pathlib import Path
from typing import NamedTuple

from loopdraw.data.slicing_run import check_cluster, dask_client
from loopdraw.prompt.actions import Sample
from loopdraw.surface.outputs import NumberTaken, is_present, numbers_present

CHUNK = 16  # shapes that a worker makes at a time
AHEAD = 3  # chunks for each thread of the workers; those not sent yet take no memory anywhere
RETRIES = 3  # of a chunk whose worker fails


class Job(NamedTuple):
    """What workers must know; sent to them with each chunk."""

    settings: dict  # the options, as by `vars`
    folder: Path  # of the files
    action: Sample
    entropy: int  # of the generators of shapes
    owner: str  # of the claims of this run


class Chunk(NamedTuple):
    """What became of the shapes of a chunk."""

    n_made: int
    n_there: int  # were there already
    errors: list  # lines


class Cluster:
    """Makes samples on a Dask cluster.

    Parameters
    ----------
    address : str, of the scheduler
    settings : dict of the options
    folder : path of the folder that shapes are saved to
    """

    def __init__(self, address, settings, folder):
        self.address, self.settings = address, {**settings}
        self.settings["save_dir"] = str(Path(settings["save_dir"]).absolute())
        self.folder = Path(folder).absolute()

    def sample(self, action, entropy, first, n):
        """Make and save the shapes numbered from `first` to `first + n - 1`, but for those present.

        Parameters
        ----------
        action : Sample
        entropy : int, of `latents.shape_generator`
        first, n : int

        Yields
        ------
        Chunk, in any order, as the work goes on

        Raises
        ------
        UserError
            When the cluster does not answer, or has failed.
        """
        action = dataclasses.replace(action, operands=())
        job = Job(self.settings, self.folder, action, entropy, secrets.token_hex(8))
        there = numbers_present(self.folder)
        missing = [number for number in range(first, first + n) if number not in there]
        yield Chunk(0, n - len(missing), [])
        chunks = iter([missing[i : i + CHUNK] for i in range(0, len(missing), CHUNK)])
        with dask_client(self.address) as client:
            from dask.distributed import as_completed

            def submit(chunk):
                return client.submit(make_samples, job, chunk, pure=False, retries=RETRIES)

            n_ahead = AHEAD * sum(client.ncores().values())
            first_ones = itertools.islice(chunks, n_ahead)
            running = as_completed([submit(chunk) for chunk in first_ones])
            for future in running:
                try:
                    made = future.result()
                except Exception as error:
                    check_cluster(client, self.address)
                    made = Chunk(0, 0, [f"a worker failed: {error}"])
                running.update([submit(chunk) for chunk in itertools.islice(chunks, 1)])
                yield made


# ------------------------------------------------------------------------------------ on a worker

_engines = {}  # what was loaded in this process: (settings as text, folder) -> InferenceEngine
_loading = threading.Lock()


def _engine(job):
    """The engine of this process for a job, loaded once."""
    from loopdraw.model.vae import load_model
    from loopdraw.processes import pick_device
    from loopdraw.prompt.engine import InferenceEngine
    from loopdraw.surface.workers import SurfaceWorkers

    key = repr(sorted(job.settings.items())), job.folder
    with _loading:
        if key not in _engines:
            settings = job.settings
            model = load_model(
                settings["save_dir"],
                settings=settings,
                epoch=settings["load_epoch"],
                device=pick_device(settings["gpu_ids"], _quiet),
                report=_quiet,
            )
            workers = SurfaceWorkers(
                1, settings["reco"], settings["reco_resolution"], settings["mesh_seconds"]
            )
            _engines.clear()
            _engines[key] = InferenceEngine(
                model,
                None,
                workers,
                job.folder,
                intervention_file="",
                mesh_formats=settings["save_format"],
                report=_quiet,
            )
        return _engines[key]


def _quiet(line):
    pass


def make_samples(job, numbers):
    """Make and save shapes, but for those that are there; a `Chunk`."""
    from loopdraw.model.latents import shape_generator
    from loopdraw.prompt.queue import Task

    engine = _engine(job)
    there = [number for number in numbers if is_present(job.folder, number)]
    numbers = [number for number in numbers if number not in there]
    generators = [shape_generator(job.entropy, number) for number in numbers]
    latents = engine.model.prior.draw_each(generators)
    tasks = []
    for number, z, generator in zip(numbers, latents, generators, strict=True):
        action = dataclasses.replace(job.action, number=number, owner=job.owner)
        tasks.append(Task(action, z, int(generator.integers(2**32))))
    n_made, n_there, errors = 0, len(there), []
    for number, outcome in zip(numbers, engine.perform(tasks), strict=True):
        if isinstance(outcome.error, NumberTaken):
            n_there += 1
        elif outcome.error is not None:
            errors.append(f"{number}: {outcome.error}")
        else:
            n_made += 1
    return Chunk(n_made, n_there, errors)
