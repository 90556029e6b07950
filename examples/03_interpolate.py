"""Turn one shape into another, step by step.

    python examples/03_interpolate.py [folder] [number of steps]

writes `step-0.glb`, `step-1.glb`, ... (meshes) and `interpolation.png` (all steps in one picture)
into the folder, which is `example_output` by default.
"""

import sys
from pathlib import Path

import loopdraw
from loopdraw.view.pictures import contact_sheet, save_png

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "demo-vases"

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "example_output")
n_steps = int(sys.argv[2]) if len(sys.argv) > 2 else 6

model = loopdraw.load(CHECKPOINT)
a, b = model.sample(2, seed=5)  # or meshes of yours: a, b = model.encode(...), model.encode(...)
shapes = model.interpolate(a, b, n_steps)
for shape in shapes:
    shape.save(folder / f"step-{shape.number}.glb")
pictures = [shape.picture(size=(300, 400)) for shape in shapes]
save_png(folder / "interpolation.png", contact_sheet(pictures, columns=n_steps))
