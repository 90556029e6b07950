"""How torch's threads wait, and how many of them a job is worth.

Torch splits every product over all cores and has the threads meet after each. With small models,
how they wait for one another decides more than what they compute: see docs/performance.md.
"""

import contextlib
import os

SPINS = "3000"  # some microseconds: longer than the gap between two products
SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def wait_briefly():
    """Let waiting threads spin for a moment, then sleep. Call it before torch is imported.

    What the user has set for OpenMP stays. Torch builds with another library than GCC's disregard
    it.
    """
    if not any(name in os.environ for name in SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = SPINS


@contextlib.contextmanager
def threads_for(n_shapes):
    """Use one thread within the block if only one shape is decoded there, else leave all.

    The products of a single row are so small that two threads gain little when the other core is
    free, and when it is not each waits for the other a hundred times. One shape must always be
    decoded with one number of threads, as that decides the last bits.
    """
    import torch

    n_threads = torch.get_num_threads()
    if n_shapes > 1 or n_threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
