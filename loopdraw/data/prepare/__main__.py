"""Make a dataset folder of meshes as they come.

    python -m loopdraw.data.prepare my-chairs datasets/chairs

reads the meshes in `my-chairs/`, of any format that trimesh knows, and writes `datasets/chairs/`:
`train/` and `test/` with their `planespec.txt`, a report, and a sheet of drawings to look at.
"""

import argparse

from loopdraw.files import run_script
from loopdraw.options import Parser, file_name, number


def parse_arguments(argv=None):
    """Parse the command line, or `argv`. Wrong values raise a `UserError`."""
    parser = Parser(
        description="Make a dataset folder of meshes, ready for slicing and training.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", metavar="IN", type=file_name, help="the folder with the meshes")
    add("folder", metavar="OUT", type=file_name, help="the dataset's folder, missing or empty")
    add("--axis", choices="xyz", default="y", help="along which the planes follow each other")
    add("--planes", type=number(int, 2, 10_000), default=32, help="how many planes")
    add(
        "--test",
        type=number(float, 0, below=1),
        default=0.1,
        help="share of the meshes that go into test/",
    )
    add(
        "--up",
        choices=("x", "y", "z", "-x", "-y", "-z"),
        help="what is up in the files, as in --up z or --up=-y; it is turned to the axis",
    )
    add(
        "--size",
        choices=("longest", "axis"),
        default="longest",
        help="which side of each mesh becomes 1: the longest, or that along the axis",
    )
    add("--max_loops", type=number(int, 1), help="leave out meshes with more loops")
    add("--seed", type=number(int, 0), default=0, help="another seed splits differently")
    add("--num_workers", type=number(int, 0), help="processes; by default one per core")
    add(
        "--mesh_timeout",
        type=number(float, 0.001),
        default=120.0,
        help="seconds after which a mesh is left out",
    )
    add("--dask_scheduler", help="address of a Dask scheduler to work with, tcp://HOST:8786")
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse_arguments(argv)
    from loopdraw.data.prepare.run import prepare

    print(prepare(**vars(arguments)))


if __name__ == "__main__":
    run_script(main)
