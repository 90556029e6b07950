"""A few tries of each hostile campaign (`make hostile` runs all), and that they can fail."""

import os
import signal

import bending
import fuzzing
import kills
import numpy as np
import pytest
import sharing
from file_kinds import Format

from loopdraw.files import UserError

FEW = {"meshes": 4, "datasets": 6, "shapes": 10, "options": 10, "prompt": 4, "models": 3}
FEW["contours"] = 8


@pytest.mark.parametrize("group", fuzzing.GROUPS)
def test_bent_files(tmp_path, group):
    results = list(fuzzing.fuzz(group, tmp_path, 0, FEW[group]))
    assert len(results) >= FEW[group]
    assert [result for result in results if result[2]] == []


@pytest.mark.parametrize("kind, tries", [("slicing", 4), ("training", 3), ("saving", 3)])
def test_kills(tmp_path, kind, tries):
    results = list(kills.kills(kind, tmp_path, 0, tries))
    assert len(results) >= tries
    assert [result for result in results if result[1]] == []


@pytest.mark.parametrize("kind", ["slicing", "saving"])
def test_full_disk(tmp_path, kind):
    assert [result for result in kills.full_disk(kind, tmp_path, 0, 3) if result[1]] == []


def test_several_at_once(tmp_path):
    assert [result for result in sharing.saves(tmp_path, 0, 24) if result[1]] == []


def read(path):
    content = path.read_bytes()
    if content == b"user":
        raise UserError("one line")
    if content == b"key":
        raise KeyError("a bug")
    if content == b"large":
        bytearray(2 * fuzzing.MOST_BYTES)
    if content == b"changes":
        path.write_bytes(b"other")
    if content == b"long":
        while True:
            pass
    if content == b"dies":
        os.kill(os.getpid(), signal.SIGKILL)


def test_failures_are_noticed(tmp_path, monkeypatch):
    """A reader that does all that readers must not do."""
    contents = [b"fine", b"user", b"key", b"large", b"changes", b"long", b"dies", b"fine"]
    path = tmp_path / "file"

    def bend(data, rng):
        return contents[bend.number]

    def formats_of(group, folder):
        folder.mkdir(parents=True)
        return {
            f"{i}": Format([content], path, lambda data, rng: data, read)
            for i, content in enumerate(contents)
        }

    monkeypatch.setattr(fuzzing, "formats_of", formats_of)
    monkeypatch.setattr(fuzzing, "MOST_SECONDS", 1)
    problems = [problem for _, _, problem in fuzzing.fuzz("any", tmp_path, 0, 1)]
    assert [problems[i] for i in (0, 1, 7)] == [None] * 3
    expected = ["KeyError", "MemoryError", "has changed", "longer than", "died"]
    for problem, part in zip(problems[2:7], expected, strict=True):
        assert part in problem


def test_kills_that_damage_are_noticed(tmp_path, monkeypatch):
    """Files that are written in place, not aside."""

    def save_numbered(folder, planes, mesh, number):
        folder.mkdir(exist_ok=True)
        for suffix in ("-slices.npz", "-latent.txt", ".obj"):
            (folder / f"inference-{number}{suffix}").write_bytes(b"")
        return folder / f"inference-{number}"

    work = kills.Saving(tmp_path)
    save_numbered(work.folder, work.planes, work.mesh, 0)
    assert kills.problem_of(work.check_files, _log(tmp_path))


def _log(folder):
    log = folder / "log"
    log.write_text("")
    return log


def test_inputs_are_known_by_seed_and_number():
    sample = b'{"a": [1, 2, 3], "b": {"c": 0}}'
    for bend in (bending.bend_json, bending.bend_text, bending.bend_bytes):
        first, again = (
            [bend(sample, np.random.default_rng([7, i])) for i in range(20)] for _ in range(2)
        )
        assert first == again and len(set(first)) > 10
