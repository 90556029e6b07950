"""Encode a mesh of your own, and edit one loop of it.

    python examples/02_encode_and_edit.py [folder] [mesh file]

writes `encoded.glb` (what the model makes of the mesh), `edited.glb` (the same with one loop
narrowed and moved, and the loops after it regenerated to suit) and a picture of each, `encoded.png`
and `edited.png`, into the folder, which is `example_output` by default. Without a mesh file it
makes a vase that the model was not trained on, `my-vase.obj`.
"""

import sys
from pathlib import Path

import trimesh

import loopdraw
from loopdraw.demo.dataset import make_shape

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "demo-vases"

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "example_output")
folder.mkdir(parents=True, exist_ok=True)
if len(sys.argv) > 2:
    path = sys.argv[2]
else:
    path = folder / "my-vase.obj"
    trimesh.Trimesh(*make_shape("vases", seed=1, split="test", index=1)).export(path)

model = loopdraw.load(CHECKPOINT)
encoded = model.encode(path, fit=True)  # fit: centre the mesh and make its longest side 1
print(encoded.report)
# Loops are numbered from 0, from the foot upwards. u and v are the axes within its plane.
edited = encoded.edit(loopdraw.Scale(loop=10, u=0.6, v=0.6), loopdraw.Move(loop=10, u=0.1))

for name, shape in (("encoded", encoded), ("edited", edited)):
    shape.save(folder / f"{name}.glb")
    shape.save(folder / f"{name}.png")
