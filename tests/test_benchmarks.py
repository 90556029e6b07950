"""The plain versions that benchmarks compare with compute what ours compute; nothing is timed."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import ROOT
from small_dataset import small_options, write_dataset

from loopdraw.data.cache import load_cache
from loopdraw.data.dataset import load_datasets
from loopdraw.loops.geometry import signed_area
from loopdraw.loops.mesh_files import load_mesh
from loopdraw.loops.slicing import slice_mesh
from loopdraw.model.training import Trainer
from loopdraw.model.vae import LoopSeqEncoderDecoderModel
from loopdraw.options import options_for, parse_options

sys.path.insert(0, str(ROOT / "benchmarks"))

import measuring
import plain
import setups


@pytest.fixture
def parts(tmp_path):
    """A small model and its dataset, with padding in most batches."""
    options = parse_options(small_options(write_dataset(tmp_path / "data"), tmp_path / "out"))
    dataset = load_datasets(**options_for(load_datasets, options))["train"]
    torch.manual_seed(1)
    return (
        options,
        dataset,
        LoopSeqEncoderDecoderModel(
            dataset.info, "cpu", **options_for(LoopSeqEncoderDecoderModel, options)
        ),
    )


def test_decoding_gives_the_same_sequences(parts):
    _, dataset, model = parts
    n_steps, n_features = dataset.n_timesteps, dataset.info.representation.n_features
    decoder = plain.PlainDecoder(model.decoder).eval()
    latents = torch.randn(3, model.latent_size)
    expected = [plain.decode(decoder, z[None], n_steps, n_features).numpy() for z in latents]
    expected = dataset.info.unnormalise(np.stack(expected))
    found = model.decode(latents, full_length=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    alone = model.decode(latents[:1], full_length=True)
    np.testing.assert_allclose(alone[0], expected[0], atol=1e-4)


def test_batches_and_losses_are_the_same(parts):
    _, dataset, model = parts
    training = plain.PlainTraining(model, dataset)
    indices, noise = [3, 0, 7, 4], torch.randn(4, model.latent_size)
    batch = dataset.batch(indices)
    inputs, targets, padding = training.batch(indices)
    assert torch.equal(padding, batch.padding) and padding.any()
    torch.testing.assert_close(inputs, batch.inputs)
    torch.testing.assert_close(targets, batch.targets)
    expected = training.losses(indices, noise)
    for trim in (False, True):
        found = model.losses(dataset.batch(indices, trim=trim), noise)
        torch.testing.assert_close(torch.stack(found), torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_training_steps_go_the_same_way(parts):
    options, dataset, model = parts
    options.enc_kl_anneal_cycle, options.niter = -1, 9
    trainer = Trainer(model, dataset, **options_for(Trainer, options))
    training = plain.PlainTraining(model, dataset)
    batches = torch.arange(8).split(4)
    dataset.shuffled = lambda *_: batches
    losses = np.array([trainer.run_epoch(epoch) for epoch in range(3)])
    expected = []
    for epoch in range(3):
        generator = torch.Generator().manual_seed(trainer._epoch_seed(epoch))
        noise = torch.randn(len(dataset), model.latent_size, generator=generator)
        steps = [training.step(batch.tolist(), noise[batch]) for batch in batches]
        expected.append(np.mean(steps, axis=0))
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_slicing_gives_the_same_loops(tmp_path):
    path = setups.write_mesh(tmp_path / "ring.obj", 40, 24)
    planes = setups.planes_of(8)
    vertices, faces = load_mesh(path)
    assert len(faces) == 2 * 40 * 24
    ours = slice_mesh(vertices, faces, planes).loops_by_plane
    theirs = plain.slice_file(path, planes)
    assert sum(map(len, ours)) > len(planes)  # there are planes with two loops
    for one, other in zip(ours, theirs, strict=True):
        areas = [[abs(signed_area(loop)) for loop in loops] for loops in (one, other)]
        assert areas[0] == pytest.approx(areas[1], abs=1e-6)


def test_partial_cache_of_the_plain_version_is_one(tmp_path):
    planes = setups.planes_of(4)
    sequences = [np.full((n, 65), 0.5, dtype=np.float32) for n in (3, 4)]
    for sequence in sequences:
        sequence[:, -1] = 1
    path = tmp_path / "partial.npz"
    plain.save_partial(path, planes, sequences, ["a.obj", "b.obj"], 3)
    cached = load_cache(path, "fixed-res-polyline")
    assert cached.lengths.tolist() == [3, 4]
    np.testing.assert_array_equal(cached.sequences[1], sequences[1])


def test_meshes_of_the_long_run_have_three_loops_a_plane(tmp_path):
    setups.write_many_meshes(tmp_path / "train", 22)
    paths = sorted((tmp_path / "train").glob("*.obj"))
    assert len(paths) == 22
    sliced = slice_mesh(*load_mesh(paths[21]), setups.planes_of())
    assert [len(loops) for loops in sliced.loops_by_plane] == [3] * 32
    assert sliced[1:] == (0, 0, 0)


def test_paired_times_alternate_and_take_medians(monkeypatch):
    calls = []
    clock = iter([0, 1, 1, 5, 5, 13, 13, 15, 15, 18, 18, 30])  # ours 1, 2, 3; plain 4, 8, 12
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(clock))
    ours, theirs, ratio = measuring.paired(
        lambda: calls.append("ours"), lambda: calls.append("plain"), 3
    )
    assert calls == ["ours", "plain"] + ["ours", "plain", "plain", "ours", "ours", "plain"]
    assert (ours, theirs, ratio) == (2, 8, 4)


def test_peak_memory_counts_children():
    hold = (
        "x = bytearray(60_000_000); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(9)"
    )
    child = [sys.executable, "-c", hold]
    parent = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", parent, *child])
    try:
        with measuring.PeakMemory(process.pid) as memory:
            for _ in range(100):
                if (memory.peak or 0) > 60e6:
                    break
                time.sleep(0.1)
    finally:
        for pid in reversed(measuring.family(process.pid)):
            os.kill(pid, 9)
        process.wait()
    assert 60e6 < memory.peak < 120e6


def test_table_is_written_as_json(tmp_path):
    output = tmp_path / "table.json"
    finished = subprocess.run(
        [sys.executable, "benchmarks/run.py", "--quick", "--only", "gpu", "--output", output],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert "| training step, sofas, cuda" in finished.stdout
    result = json.loads(output.read_text())
    assert result["quick"] and result["machine"]["cores"] >= 1
    if not torch.cuda.is_available():
        assert {row["note"] for row in result["rows"]} == {"no GPU here"}
