"""Check an optfile and print what it sets.

    python loop_models_options.py --optfile vases-optfile.txt

Every script takes the options listed by `--help`; `loopdraw.options` defines them.
"""

from loopdraw.files import run_script
from loopdraw.options import format_options, parse_options


def main():
    options = parse_options(description=__doc__)
    print(format_options(options), end="")


if __name__ == "__main__":
    run_script(main)
