"""Generate new vases from random latents.

    python examples/01_sample.py [folder] [number of vases]

writes `vase-0.glb`, `vase-1.glb`, ... (meshes) and `vase-0.png`, ... (pictures) into the folder,
which is `example_output` by default. The same seed makes the same vases each time.
"""

import sys
from pathlib import Path

import loopdraw

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "demo-vases"

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "example_output")
n_vases = int(sys.argv[2]) if len(sys.argv) > 2 else 3

model = loopdraw.load(CHECKPOINT)
print(model)
for shape in model.sample(n_vases, seed=0):
    print(shape, shape.mesh)
    shape.save(folder / f"vase-{shape.number}.glb")
    shape.save(folder / f"vase-{shape.number}.png")
