"""How many threads decode, and how they wait."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from small_model import LATENT_SIZE, small_model

from loopdraw.editing.editor import LoopEditor
from loopdraw.editing.interventions import decode_with_intervention
from loopdraw.threads import SPINS, threads_for


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_shape_takes_one_thread(two_threads):
    with threads_for(1):
        assert torch.get_num_threads() == 1
        with threads_for(1):
            assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with threads_for(2):
        assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), threads_for(1):
        raise KeyError
    assert torch.get_num_threads() == 2


def test_every_way_to_decode_one_shape_takes_one_thread(two_threads, monkeypatch):
    model = small_model()
    latents = np.linspace(-1, 1, 2 * LATENT_SIZE).reshape(2, -1)
    step, seen = model.decoder.step, []

    def watched(*arguments):
        seen.append(torch.get_num_threads())
        return step(*arguments)

    monkeypatch.setattr(model.decoder, "step", watched)
    for decode in (
        lambda: model.decode(latents[0]),
        lambda: decode_with_intervention(model, latents[0], lambda dataset, state, ts: ts),
        lambda: LoopEditor(model, latents[0]).shape,
        lambda: LoopEditor(model, latents[0]).untouched,
    ):
        seen.clear()
        decode()
        assert set(seen) == {1}
    seen.clear()
    model.decode(latents)
    assert set(seen) == {2}


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_what_the_user_has_set_stays(given, expected):
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    code = "import os; from loopdraw import threads; threads.wait_briefly(); "
    code += "print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environment, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected
