"""The hostile campaign: `make hostile`, or `python tests/hostile --help`.

Bent files of every format, programs ended at random moments, full disks, and several programs in
one folder. Prints a table of tries and failures; the exit status is 1 if anything failed.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]
import campaign  # noqa: E402
import conftest  # noqa: E402,F401  one thread for numerical libraries


def main():
    parser = argparse.ArgumentParser(prog="python tests/hostile", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="another one, other inputs")
    parser.add_argument("--share", type=float, default=1.0, help="of the tries: 0.1 is a tenth")
    parser.add_argument("--only", help='one input of a format, as printed: "cache .npz:8"')
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    here = os.getpid()
    tries, failures, started = Counter(), Counter(), time.monotonic()
    try:
        for name, problem in campaign.results(folder, given.seed, given.share, given.only):
            kind = name.split(":")[0]
            tries[kind] += 1
            if problem is not None:
                failures[kind] += 1
                print(f"{name}: {problem}", flush=True)
    finally:
        if os.getpid() == here:
            shutil.rmtree(folder, ignore_errors=True)
    print(campaign.table(tries, failures))
    print(f"seed {given.seed}, {time.monotonic() - started:.0f} s")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
