"""The inference script as its user meets it: help, prompt, the piped line of the README."""

import os
import pty
import statistics
import subprocess
import sys
import time

import torch
from measuring import Row, median_seconds, run_program
from setups import ROOT, dataset_of, model_of, options_of

from loopdraw.checkpoints import save_states
from loopdraw.model.training import Trainer
from loopdraw.options import options_for

SCRIPT = "loop_models_inference.py"
ENVIRONMENT = {**os.environ, "NO_POLYSCOPE": "1"}
PROMPT = b"inference>"
PIPED = "submit sample 10 --save\nrun all\n"


N_LEARNED = 4  # vases; a model can learn so few by heart in half a minute


def make_checkpoint(folder, n_epochs):
    """Train at the vases settings until what is sampled has the form of a vase.

    The surfaces of an untrained model's tangled loops would take five times as long to build.

    Returns
    -------
    list of str, words of a command line for the inference script
    """
    options = options_of("vases", folder)
    options.lr, options.niter = 3e-4, n_epochs  # 7e-5 takes thousands of epochs
    dataset = dataset_of(folder, n_shapes=N_LEARNED)
    model = model_of(options, dataset.info)
    trainer = Trainer(model, dataset, **options_for(Trainer, options))
    for epoch in range(n_epochs):
        trainer.run_epoch(epoch)
    states = {f"{prefix}latest_net.pth": net.state_dict() for prefix, net in model.networks.items()}
    save_states(options.save_dir, "latest", states)
    dataset.info.save(options.save_dir)
    optfile = folder / "optfile.txt"
    text = (ROOT / "vases-optfile.txt").read_text()
    lines = [line for line in text.splitlines() if "--dataroot" not in line]
    lines = [line for line in lines if not line.startswith(("--save_dir", "--gpu_ids"))]
    lines += [f"--save_dir {options.save_dir}", f"--dataroot {options.dataroot}", "--gpu_ids -1"]
    optfile.write_text("\n".join(lines) + "\n")
    return ["--optfile", str(optfile)]


def rows(folder, repeats, n_epochs=120):
    """Rows on the inference script with the vases settings, on the CPU."""
    python = [sys.executable, SCRIPT]
    help_seconds = median_seconds(lambda: run_program([*python, "--help"], cwd=ROOT), repeats)
    torch.manual_seed(0)
    own = folder / "programs"
    own.mkdir()
    command = [*python, *make_checkpoint(own, n_epochs)]
    _seconds_to_prompt(command)
    prompt = statistics.median(_seconds_to_prompt(command) for _ in range(repeats))
    piped = median_seconds(
        lambda: run_program(command, input=PIPED, cwd=ROOT, env=ENVIRONMENT), max(repeats // 2, 1)
    )
    return [
        Row("--help", "s", help_seconds, goal="≤ 0.3 s", met=help_seconds <= 0.3),
        Row("prompt, vases checkpoint", "s", prompt, goal="≤ 2.5 s", met=prompt <= 2.5),
        Row("README's piped line, 10 samples", "s", piped, goal="≤ 5 s", met=piped <= 5.0),
    ]


def _seconds_to_prompt(command):
    """Time from the start to the first prompt in a terminal of its own."""
    ours, theirs = pty.openpty()
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    try:
        while PROMPT not in seen:
            seen += os.read(ours, 4096)
        seconds = time.perf_counter() - start
        os.write(ours, b"quit\n")
        process.wait(timeout=20)
    except OSError:
        raise RuntimeError(f"no prompt: {seen.decode(errors='replace')}") from None
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return seconds
