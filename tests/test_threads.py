"""How many threads decode, and how they wait."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from test_editing import LATENT_SIZE, small_model

from loop_threads import SPINS, threads_for


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


def test_a_shape_does_not_depend_on_the_number_of_threads(two_threads):
    model = small_model()
    latent = np.linspace(-1, 1, LATENT_SIZE)
    several = model.decode(latent)
    torch.set_num_threads(1)
    np.testing.assert_array_equal(model.decode(latent), several)


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_what_the_user_has_set_stays(given, expected):
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    code = "import os, loop_threads; loop_threads.wait_briefly(); "
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
