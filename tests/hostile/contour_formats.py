"""Stacks of contours from elsewhere, read and made into surfaces as `loopdraw.surface` does."""

from bending import bend_json, bend_npz, bend_text
from file_kinds import Format
from small_dataset import CIRCLE

import loopdraw
from loopdraw.loops.slices_files import save_slices
from loopdraw.surface.contours.reading import read_stacks
from loopdraw.surface.contours.smooth import smooth_mesh
from loopdraw.surface.export import export_shape

# Two labels, a hole, another order of the planes than along their normal, and an oblique normal.
CSL = b"""CSLC
3 2
1 8 2 1 0 1 -1.5
0 0 1.5
0 1 1.5
0.5 1 1
0.5 0 1
0.2 .2 1.3
0.2 .8 1.3
0.4 .8 1.1
0.4 .2 1.1
4 1 0 1 2 3
4h0 2 4 5 6 7

2 6 2 1 0 1 -1
0 0 1
0 1 1
0.5 1 .5
0.5 0 .5
0 1.5 1
.5 1.5 .5
4 1 0 1 2 3
3 2 1 4 5

3 3 1 2 0 2 -1
0 0 .5
0 1 .5
.5 1 0
3 1 0 1 2
"""
DRAWING = b"""<svg xmlns="http://www.w3.org/2000/svg" width="100mm" viewBox="0 0 200 200">
<!-- slice 7, at 12.3 mm -->
<g transform="rotate(10 5 5) translate( 3 , 4 )">
<path d="M 10 10 C 20 0 , 40 0 , 50 10 A 5 5 0 0 1 60 20 L 30 40 q -5 -5 -10 0 t -3 -3 z" />
<polygon points="1 1 , 2 1 , 2 3" transform="matrix(1 0 0 2 0 0)" />
</g>
</svg>
"""


def contour_formats(folder):
    planes = loopdraw.planes("y", 4, -0.3, 0.3)
    loops = [[0.3 * CIRCLE, 0.1 * CIRCLE], [0.3 * CIRCLE], [], [0.2 * CIRCLE]]
    export_shape(folder / "own", planes, loops, None, ["svg", "json"])
    save_slices(folder / "own-slices.npz", planes, loops)
    (folder / "above.svg").write_bytes(DRAWING)

    def build(paths, spacing=None):
        for planes, loops_by_plane in read_stacks(paths, spacing).values():
            try:
                smooth_mesh(planes, loops_by_plane, 12)
            except ValueError:
                pass  # "no surface", in one line

    path = folder / "stack.csl"
    yield "contours .csl", Format([CSL], path, bend_text, build)
    drawing = (folder / "own-slice-00.svg").read_bytes()
    path = folder / "drawing.svg"

    def build_drawings(path):
        build([path, folder / "above.svg", folder / "own-slice-01.svg"], 2.5)

    yield "contours .svg", Format([DRAWING, drawing], path, bend_text, build_drawings)

    def build_placed(path):
        build([path, folder / "own-slice-01.svg"])

    yield "contours .svg, placed", Format([drawing], path, bend_text, build_placed)
    for name, bend in (("own-loops.json", bend_json), ("own-slices.npz", bend_npz)):
        path = folder / name
        yield f"contours {path.suffix}", Format([path.read_bytes()], path, bend, build)
