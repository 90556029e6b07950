"""The prompt with the real engine and a published checkpoint, without a process of its own."""

import io
import shlex
import shutil
from pathlib import Path

from conftest import PARITY, ROOT

from loop_inference_config_and_repl import InferenceREPL, LoopInferenceSettings
from loopdraw.data.dataset import load_datasets
from loopdraw.model.vae import load_model
from loopdraw.options import options_for, parse_options
from loopdraw.prompt.engine import InferenceEngine
from loopdraw.prompt.items import Items
from loopdraw.surface.workers import SurfaceWorkers


def published(folder, case="transformer-v1", data="data-polyline"):
    """A copy of a published checkpoint, and the words of its options."""
    save_dir = folder / "checkpoint"
    shutil.copytree(PARITY / case, save_dir)
    words = shlex.split((save_dir / "arguments.txt").read_text())
    return [*words, "--dataroot", str(PARITY / data), "--save_dir", str(save_dir)]


class Session:
    """The program without its process: the REPL with the real engine."""

    def __init__(self, words, show=None, workers=None):
        self.options = parse_options(words)
        workers = workers or SurfaceWorkers(
            1, reco=self.options.reco, resolution=self.options.reco_resolution
        )
        options, quiet = self.options, {"report": lambda line: None}
        model = load_model(
            options.save_dir, settings=vars(options), epoch=options.load_epoch, **quiet
        )
        settings = {**options_for(load_datasets, options), **quiet}
        self.items = Items(
            settings.pop("dataroot"),
            model.info,
            options.load_test_set_for_inference,
            model.device,
            **settings,
        )
        self.engine = InferenceEngine(
            model,
            self.items,
            workers,
            Path(options.save_dir) / "inference",
            ROOT / "loop_inference_intervention_func.py",
            options.save_format,
            show,
        )
        settings = LoopInferenceSettings(
            Path(self.options.save_dir),
            self.options.latent_size,
            self.engine.info.representation.n_features,
            seed=3,
            n_planes=self.engine.info.n_planes,
        )
        self.repl = InferenceREPL(settings, self.engine, stdout=io.StringIO())
        self.folder = Path(self.options.save_dir) / "inference"

    def do(self, *lines):
        """Perform commands, none of which may fail; what was printed."""
        start = len(self.repl.stdout.getvalue())
        for line in lines:
            self.repl.onecmd(line)
            assert not self.repl.failed, line
        return self.repl.stdout.getvalue()[start:]

    def fail(self, capsys, line):
        """The one line that a command fails with."""
        capsys.readouterr()
        self.repl.onecmd(line)
        assert self.repl.failed
        self.repl.failed = False
        message = capsys.readouterr().err
        assert message.startswith("error: ") and message.count("\n") == 1
        return message

    def __getitem__(self, name):
        return self.repl.variables[name]

    def saved(self):
        return sorted(path.name for path in self.folder.iterdir())
