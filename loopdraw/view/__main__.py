"""A gallery in the browser: `python -m loopdraw.view a.obj b.obj ...`.

The loops of `<name>-slices.npz` beside a mesh are drawn, too.
"""

from loopdraw.files import run_script
from loopdraw.options import Parser, file_name


def main(argv=None):
    parser = Parser(
        description="Show meshes and their loops on a page in the browser. The loops of "
        "<name>-slices.npz beside a mesh are drawn, too.",
        allow_abbrev=False,
    )
    parser.add_argument("meshes", nargs="+", type=file_name, metavar="mesh.obj", help="mesh files")
    parser.add_argument(
        "--viewer_host",
        metavar="ADDRESS",
        help="listen on this address of the machine; by default only this machine can open the "
        "page",
    )
    arguments = parser.parse_args(argv)
    from loopdraw.view.browser.page import show_all

    show_all(arguments.meshes, arguments.viewer_host, wait=True)


if __name__ == "__main__":
    run_script(main)
