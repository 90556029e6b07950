"""Names of saved shapes: each is taken by one program only, and none is taken for nothing."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT

from loopdraw.files import UserError
from loopdraw.surface.outputs import LEFT_SECONDS, claimed_stem

# Each process marks its shapes by a number of its own, which their latents show.
SAVE = """
import sys
from pathlib import Path
import numpy as np
from loopdraw.loops.geometry import make_planes
from loopdraw.surface.outputs import claimed_stem, save_shape
folder, mark, label = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] or None
mesh = np.eye(3), np.array([[0, 1, 2]])
loop = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
print("ready", flush=True)
sys.stdin.readline()
for i in range(25):
    with claimed_stem(folder, label) as stem:
        save_shape(stem, make_planes("y", 2, 0, 1), [[loop], []], mesh, np.array([mark, i]))
"""

CLAIM = """
import sys
from pathlib import Path
from loopdraw.surface import outputs
outputs._next[Path("{0}")] = 5
Path("{0}/inference-4.obj").touch()
with outputs.claimed_stem(Path("{0}")) as stem:
    Path("{0}/inference-4.obj").unlink()
    print(stem.name, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("label", [None, "gt3"])
def test_programs_that_save_at_once_overwrite_nothing(tmp_path, label):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SAVE, tmp_path, str(mark), label or ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mark in range(3)
    ]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    saved = [tuple(np.loadtxt(path)) for path in tmp_path.glob("*-latent.txt")]
    assert sorted(saved) == [(mark, i) for mark in range(3) for i in range(25)]
    assert len(list(tmp_path.iterdir())) == 3 * 75  # no claims are left


def test_a_name_is_free_again_when_saving_fails(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with claimed_stem(tmp_path):
            raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with claimed_stem(tmp_path) as first, claimed_stem(tmp_path) as second:
        assert (first.name, second.name) == ("inference-0", "inference-1")
    with claimed_stem(tmp_path, "gt1") as first, claimed_stem(tmp_path, "gt1") as second:
        assert (first.name, second.name) == ("inference-gt1", "inference-gt1-1")


def test_claims_of_killed_programs_are_removed_in_time(tmp_path):
    old, new = tmp_path / ".inference-3.claim", tmp_path / ".inference-4.claim"
    foreign = tmp_path / ".other"
    for path, age in ((old, LEFT_SECONDS + 60), (new, 60), (foreign, LEFT_SECONDS + 60)):
        path.touch()
        os.utime(path, 2 * (time.time() - age,))
    killed = tmp_path / ".inference-5.claim"
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM.format(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    os.utime(killed, (0, 0))  # as by a program that was stopped for long
    with claimed_stem(tmp_path) as stem:
        assert stem.name == "inference-0" and killed.exists()  # its program lives
    process.kill()
    process.communicate()
    with claimed_stem(tmp_path) as stem:
        stem.with_name(f"{stem.name}.obj").touch()
    assert {path.name for path in tmp_path.iterdir()} == {new.name, ".other", "inference-0.obj"}


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/inference: cannot be written to"):
        with claimed_stem(tmp_path / "file" / "inference"):
            pass


def test_a_folder_is_listed_once_and_not_for_every_shape(tmp_path, monkeypatch):
    (tmp_path / "inference-4.obj").touch()
    listings = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listings.append(path) or scandir(path))
    for number in range(5, 15):
        with claimed_stem(tmp_path) as stem:
            stem.with_name(f"{stem.name}-slices.npz").touch()
        assert stem.name == f"inference-{number}"
    assert len([path for path in listings if path == tmp_path]) <= 2  # glob lists it, too
    for path in tmp_path.iterdir():
        path.unlink()
    with claimed_stem(tmp_path) as stem:
        assert stem.name == "inference-0"  # as in any empty folder
