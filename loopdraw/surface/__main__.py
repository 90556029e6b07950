"""Build closed surfaces from parallel contours.

    python -m loopdraw.surface stack.csl out.ply
    python -m loopdraw.surface inference-0-slices.npz out.obj
    python -m loopdraw.surface slice-*.svg out.stl --spacing 2.5

reads a stack of planes in any direction, with holes, several parts and several labels, and writes
one mesh for each label: out.ply, or out-1.ply, out-2.ply where there are several. The surface
passes through every contour. It rounds off where the last contours taper, and ends flat where they
do not.
"""

import argparse
import time
from pathlib import Path

from loopdraw.files import UserError, run_script

MOST_SECONDS = 900  # for a surface
REPORT_EVERY = 10  # seconds


def main():
    parser = argparse.ArgumentParser(
        prog="python -m loopdraw.surface",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "contours", nargs="+", help="a .csl, .json or -slices.npz file, or .svg drawings"
    )
    parser.add_argument("out", help="the mesh: .ply, .obj, .stl or .glb")
    parser.add_argument(
        "--spacing", type=float, help="mm between .svg drawings that do not say where they lie"
    )
    parser.add_argument(
        "--resolution", type=int, help="edges of the mesh along its longest side; default: 48"
    )
    arguments = parser.parse_args()
    out = Path(arguments.out)
    _check(arguments, out)

    from loopdraw.loops.mesh_files import save_mesh
    from loopdraw.surface.contours.reading import read_stacks

    stacks = read_stacks(arguments.contours, arguments.spacing)
    planes = next(iter(stacks.values()))[0]
    n_loops = sum(len(loops) for _, of_planes in stacks.values() for loops in of_planes)
    counts = ((len(planes), "plane"), (n_loops, "contour"), (len(stacks), "label"))
    print(", ".join(_counted(*count) for count in counts), flush=True)
    for label, (planes, loops_by_plane) in stacks.items():
        path = out if len(stacks) == 1 else out.with_name(f"{out.stem}-{label}{out.suffix}")
        vertices, faces = _build(path, planes, loops_by_plane, arguments.resolution)
        save_mesh(path, vertices, faces)


def _check(arguments, out):
    from loopdraw.loops.mesh_files import MESH_FORMATS

    if out.suffix.lower() not in MESH_FORMATS:
        raise UserError(f"{out}: end it in {', '.join(MESH_FORMATS)}")
    if arguments.spacing is not None and not 0 < arguments.spacing < float("inf"):
        raise UserError(f"--spacing {arguments.spacing:g} is not a length in mm")
    if arguments.resolution is not None and not 8 <= arguments.resolution <= 400:
        raise UserError(f"--resolution {arguments.resolution} is not from 8 to 400")


def _build(path, planes, loops_by_plane, resolution):
    """The surface of one label, saying so on the way."""
    from loopdraw.processes import TookTooLong, time_limit
    from loopdraw.surface.contours.smooth import smooth_mesh
    from loopdraw.surface.reconstruction import connected_parts

    said, start = 0, time.monotonic()

    def waiting(seconds):
        nonlocal said
        if seconds >= said + REPORT_EVERY:
            said = seconds
            print(f"{path}: {seconds:.0f} s", flush=True)

    try:
        with time_limit(MOST_SECONDS, waiting):
            vertices, faces = smooth_mesh(planes, loops_by_plane, resolution)
    except TookTooLong:
        raise UserError(
            f"{path}: no surface within {MOST_SECONDS} s; try a lower --resolution"
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: no surface: {error}") from None
    n_parts = (connected_parts(vertices, faces)[1] > 0).sum()
    seconds = time.monotonic() - start
    print(
        f"{path}: {_counted(len(faces), 'triangle')}, {_counted(n_parts, 'part')}, {seconds:.1f} s",
        flush=True,
    )
    return vertices, faces


def _counted(n, what):
    return f"{n:,} {what}{'' if n == 1 else 's'}"


if __name__ == "__main__":
    run_script(main)
