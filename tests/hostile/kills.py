"""Programs ended at random moments, and disks that are full; then the checks.

After each: no file that stands under its final name is damaged, the same command completes the
work, and the result is that of a run nobody disturbed.
"""

import contextlib
import io
import re
import resource
import shutil
import signal
import time
from pathlib import Path

import filelock  # noqa: F401  what programs import when they run: once, here
import forking
import joblib  # noqa: F401
import numpy as np
import torch
import torch._dynamo  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import trimesh
from small_dataset import CIRCLE, small_options, write_dataset

import loop_models
import loop_models_main
import loopdraw
import loopdraw.data.dataset
import loopdraw.model.training  # noqa: F401
from loopdraw.checkpoints import load_state
from loopdraw.data import progress
from loopdraw.data.cache import load_cache
from loopdraw.files import UserError
from loopdraw.loops.mesh_files import read_mesh
from loopdraw.loops.slices_files import load_slices
from loopdraw.model.vae import load_model
from loopdraw.surface.outputs import claimed_stem, save_shape

SIGNALS = (*[signal.SIGKILL] * 5, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
N_SAVES = 15
SAVED_EPOCHS = (1, 3, 5, 6)  # of `Training`


class Slicing:
    """A dataset of small meshes, one of them broken, sliced with a save after each."""

    def __init__(self, folder):
        self.source = folder / "slicing-source"
        (self.source / "train").mkdir(parents=True)
        (self.source / "train/planespec.txt").write_text("y\n8\n-0.4\n0.4\n")
        for i in range(12):
            ball = trimesh.creation.icosphere(1, 0.2 + 0.02 * i)
            ball.export(self.source / f"train/{i:02}.obj")
        (self.source / "train/05.obj").write_text("v 0 0 0\nf 1 2 3\n")
        self.folder = folder / "slicing"

    main = staticmethod(loop_models.main)

    def words(self):
        shape = ("--loop_repr_type", "fixed-res-polyline", "--num_workers", "1")
        return ["--dataroot", self.folder, *shape]

    def before(self):
        progress.SAVE_EVERY = 1
        progress.SAVING_SECONDS = 1e9

    def reset(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.source, self.folder)

    def check_files(self):
        for path in self.folder.glob("train/preprocessed_cache*.npz"):
            load_cache(path, "fixed-res-polyline")

    def result(self):
        left = [path.name for path in self.folder.rglob(".*")]
        assert not left, f"left over: {left}"
        files = ("train/preprocessed_cache.npz", "failed_meshes.txt")
        return [(self.folder / name).read_bytes() for name in files]


class Training:
    """A small model, trained for a few epochs with a save after each or every second."""

    def __init__(self, folder):
        self.data = write_dataset(folder / "training-data", n_train=5, n_test=2)
        self.folder = folder / "training"

    main = staticmethod(loop_models_main.main)

    def words(self):
        schedule = ("--niter", "4", "--niter_decay", "2", "--save_every", "2", "--ema", "0.9")
        return small_options(self.data, self.folder, *schedule, "--load_epoch", "-1")

    def before(self):
        torch.set_num_threads(1)

    def reset(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def check_files(self):
        if (self.folder / "opt.txt").exists():
            with contextlib.suppress(UserError):  # no checkpoint yet
                load_state(self.folder / "enclatest_net.pth")
                load_model(self.folder, report=lambda line: None)
                return
            assert not list(self.folder.glob("*_net.pth")), "networks that cannot be loaded"

    def result(self):
        left = [path.name for path in self.folder.glob(".*")]
        assert not left, f"left over: {left}"
        names = [f"{net}{label}_net.pth" for net in ("enc", "dec") for label in ("latest", "6")]
        states = [load_state(self.folder / name) for name in names]
        losses, tests = (
            (self.folder / name).read_text().splitlines()
            for name in ("loss_log.txt", "test_log.txt")
        )
        # Ctrl-C saves at once, and then the test set is tried as well.
        tests = [line for line in tests if int(line.split(",")[0]) in SAVED_EPOCHS]
        return [losses, tests] + [
            {name: t.numpy().tobytes() for name, t in s.items()} for s in states
        ]


class Saving:
    """Shapes saved one after the other, as the prompt saves them."""

    def __init__(self, folder):
        self.folder = folder / "saving"
        self.planes = loopdraw.planes("y", 5, -0.4, 0.4)
        ball = trimesh.creation.icosphere(2, 0.4)
        self.mesh = np.asarray(ball.vertices), np.asarray(ball.faces)

    def main(self):
        done = len(list(self.folder.glob("inference-*.obj")))
        for i in range(done, N_SAVES):
            save_numbered(self.folder, self.planes, self.mesh, i)

    def words(self):
        return []

    def before(self):
        pass

    def reset(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def check_files(self):
        check_shapes(self.folder, len(self.mesh[1]))

    def result(self):
        self.check_files()
        return len(list(self.folder.glob("inference-*.obj")))


def save_numbered(folder, planes, mesh, number):
    """Save a shape whose latent, loops and mesh all say this number."""
    loops = [[0.1 * CIRCLE + number]] * len(planes)
    with claimed_stem(folder) as stem:
        save_shape(stem, planes, loops, (mesh[0] + number, mesh[1]), np.full(8, number))
    return stem


def check_shapes(folder, n_faces):
    """The numbers of the shapes in a folder, by stem; each file is whole and says the same."""
    numbers = {}
    for path in folder.glob("inference-*"):
        stem = re.sub(r"(-slices\.npz|-latent\.txt|\.obj)$", "", path.name)
        if path.suffix == ".npz":
            number = round(load_slices(path)[1][0][0].mean())
        elif path.suffix == ".txt":
            latent = np.loadtxt(path)
            assert latent.shape == (8,), f"{path.name} is not whole"
            number = round(latent[0])
        else:
            vertices, faces = read_mesh(path)
            assert len(faces) == n_faces, f"{path.name} is not whole"
            number = round(vertices.mean())
            both = [folder / f"{stem}{suffix}" for suffix in ("-slices.npz", "-latent.txt")]
            assert all(map(Path.exists, both)), f"{stem} has no loops or no latent"
        assert numbers.setdefault(stem, number) == number, f"{stem} is of two shapes"
    return numbers


KINDS = {"slicing": Slicing, "training": Training, "saving": Saving}


def kills(kind, folder, seed, tries):
    """End programs at random moments; yields number, problem (str or None)."""
    work, log, expected, seconds = prepared(kind, Path(folder))
    rng = np.random.default_rng([seed, len(kind)])
    number = 0
    while number < tries:
        work.reset()
        log.write_text("")
        for _ in range(rng.integers(1, 4)):
            sent = signal.Signals(SIGNALS[rng.integers(len(SIGNALS))])
            child = forking.start(work.main, log, work.words(), work.before)
            status = forking.kill_after(child, seconds * rng.uniform(0, 1.1), sent)
            problem = None if status is not None else f"{sent.name} did not end it"
            yield number, problem or problem_of(work.check_files, log)
            number += 1
        yield from _completed(work, log, expected, number - 1)


def full_disk(kind, folder, seed, tries):
    """Let no file grow beyond a random size; yields number, problem (str or None)."""
    work, log, expected, _ = prepared(kind, Path(folder))
    rng = np.random.default_rng([seed, len(kind), 1])
    for number in range(tries):
        work.reset()
        log.write_text("")
        most = int(2 ** rng.uniform(4, 17))

        def before(most=most):
            work.before()
            # The log is a file as well: it is not to be what fails.
            resource.setrlimit(resource.RLIMIT_FSIZE, (most + 20_000, most + 20_000))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        status = forking.run(work.main, log, work.words(), before)
        problem = None if status in (0, 2) else f"exit status {status}: {tail(log)}"
        yield number, problem or problem_of(work.check_files, log)
        yield from _completed(work, log, expected, number)


def prepared(kind, folder):
    work, log = KINDS[kind](folder), folder / f"{kind}.log"
    for _ in range(2):  # the second one is timed with warm caches
        work.reset()
        started = time.monotonic()
        status = forking.run(work.main, log, work.words(), work.before)
        seconds = time.monotonic() - started
        assert status == 0, tail(log)
    return work, log, work.result(), seconds


def _completed(work, log, expected, number):
    """Run the same command to its end; yields a problem, if there is one."""
    status = forking.run(work.main, log, work.words(), work.before)
    if status != 0:
        yield number, f"cannot be completed ({status}): {tail(log)}"
        return

    def compare():
        assert work.result() == expected, "the result is another one"

    problem = problem_of(compare, log)
    if problem:
        yield number, problem


def problem_of(check, log):
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            check()
    except (AssertionError, UserError, OSError, ValueError) as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    if "Traceback" in log.read_text():
        return f"a traceback: {tail(log)}"
    return None


def tail(log):
    return " / ".join(log.read_text().strip().splitlines()[-2:])[-300:]
