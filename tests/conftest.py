"""Makes package and scripts importable, and keeps numerical libraries on one thread."""

import os
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
PARITY = DATA / "parity"  # made with the published program
sys.path.insert(0, str(ROOT))
# For programs that tests start, in whatever folder.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
