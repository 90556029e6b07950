"""Cut a mesh into loops, and build a closed mesh from the loops. No model is needed for that.

    python examples/04_slice_and_rebuild.py [folder] [mesh file]

writes `slices.svg` (a drawing of every slice), `slices.json` (the loops as numbers), `rebuilt.glb`
(the new mesh) and `rebuilt.png` (its picture, with the loops) into the folder, which is
`example_output` by default. Without a mesh file it slices a torus that stands upright.
"""

import sys
from pathlib import Path

import trimesh

import loopdraw

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "example_output")
if len(sys.argv) > 2:
    mesh = loopdraw.load_mesh(sys.argv[2])
else:
    mesh = trimesh.creation.torus(major_radius=0.35, minor_radius=0.13)

low, high = mesh.bounds[:, 1]
gap = 0.02 * (high - low)  # a plane at the very bottom or top would only touch the mesh
loops = loopdraw.slice_mesh(mesh, planes=loopdraw.planes("y", 32, low + gap, high - gap))
rebuilt = loopdraw.reconstruct(loops)  # also as loops.mesh
print(loops, rebuilt)
print(f"volume {mesh.volume:.4f}, rebuilt {rebuilt.volume:.4f}")

loops.save(folder / "slices.svg")
loops.save(folder / "slices.json")
loops.save(folder / "rebuilt.glb")
loops.save(folder / "rebuilt.png")
