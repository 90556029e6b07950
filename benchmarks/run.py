"""Measure LoopDraw against plain versions of the published algorithms.

    python benchmarks/run.py               the table of docs/performance.md, in some minutes
    python benchmarks/run.py --quick       the same with few repeats and meshes, in a minute
    python benchmarks/run.py --scaling     how costs grow: timesteps, batch, faces, planes

Both sides run in turn on the same machine, so the ratios hold while the machine is busy; times in
seconds do not. "before" is our figure that was committed last. The figures are also written as
JSON, by default to `results/<machine>.json`.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repeats, few meshes")
    parser.add_argument("--scaling", action="store_true", help="show how costs grow instead")
    parser.add_argument("--only", metavar="WORD", help="only the rows whose group has this name")
    parser.add_argument("--n_meshes", type=int, metavar="N", help="meshes of the long slicing run")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes")
    arguments = parser.parse_args()
    from loopdraw.threads import wait_briefly

    wait_briefly()  # for both sides
    from measuring import machine

    facts = machine()
    arguments.name = facts["name"]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="loopdraw-benchmark-") as folder:
        measure = _scaling if arguments.scaling else _table
        result = measure(Path(folder), arguments)
    result["machine"] = {**facts, "load_after": os.getloadavg()[0]}
    result["seconds"] = round(time.perf_counter() - started)
    result["quick"] = arguments.quick
    name = facts["name"] + ("-scaling" if arguments.scaling else "")
    path = arguments.output or HERE / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"\n{facts['cpu']}, {facts['cores']} cores, {facts['gpu'] or 'no GPU'}; load", end=" ")
    print(f"{facts['load_before']:.1f} before, {os.getloadavg()[0]:.1f} after; written to {path}")


def _table(folder, arguments):
    before = _committed(arguments.name)
    print(f"| {'what':<57} | {'ours':>9} | {'before':>9} | {'plain':>9} | {'ratio':>8} | goal |")
    print(f"|{'-' * 59}|{'-' * 11}|{'-' * 11}|{'-' * 11}|{'-' * 10}|------|", flush=True)
    rows = []
    for name, group in _groups(folder, arguments):
        if arguments.only in (None, name):
            for row in _quietly(group):
                print(_line(row, before.get(row.what)), flush=True)
                rows.append(row)
    return {"rows": [dataclasses.asdict(row) for row in rows]}


def _groups(folder, arguments):
    """(name, function that gives rows), in the order of the table."""
    import rows_networks as networks
    import rows_programs as programs
    import rows_sampling as sampling
    import rows_slicing as slicing
    import rows_surfaces as surfaces

    n_meshes = arguments.n_meshes or (500 if arguments.quick else 10_000)

    def some(few, many):
        return few if arguments.quick else many

    yield "decoding", lambda: networks.decoding(folder, some(2, 7))
    yield (
        "slicing",
        lambda: [
            slicing.one_mesh(folder, some(3, 9)),
            slicing.two_cores(folder, some(1, 5), some(40, 120)),
        ],
    )
    yield (
        "training",
        lambda: [
            networks.training(folder, some(2, 9)),
            networks.training(folder, some(1, 5), full_length=True),
            *networks.training_on_one_core(folder, some(2, 9)),
        ],
    )
    yield "surfaces", lambda: surfaces.rows(folder, some(4, 16))
    yield "programs", lambda: programs.rows(folder, some(1, 5))
    yield (
        "sampling",
        lambda: [
            *sampling.parts(folder, some(1, 5)),
            *sampling.saved(folder, 60, goal=8),
            *([] if arguments.quick else sampling.saved(folder, 1000, goal=100)),
        ],
    )
    yield "stored", lambda: sampling.stored(folder)
    yield "saving", lambda: slicing.many_meshes(folder, n_meshes)
    yield (
        "gpu",
        lambda: [
            networks.training(folder, some(2, 9), "vases", "cuda"),
            networks.training(folder, some(2, 9), "sofas", "cuda"),
            *networks.decoding(folder, some(2, 7), "cuda"),
        ],
    )


def _scaling(folder, arguments):
    import rows_networks as networks
    import rows_slicing as slicing

    repeats = 2 if arguments.quick else 7
    found = []
    for measure in (
        networks.limits,
        networks.decoding_scaling,
        networks.training_scaling,
        slicing.slicing_scaling,
    ):
        for what, number, seconds in _quietly(lambda m=measure: m(folder, repeats)):
            print(f"{what:<45}{number:>9,}{seconds * 1e3:>11.2f} ms", flush=True)
            found.append({"what": what, "number": number, "seconds": seconds})
    return {"scaling": found}


def _quietly(function):
    """Call a function without the lines and progress bars of what it calls."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function()


def _committed(name):
    """The figures of this machine that were committed last, a dict of what was measured."""
    path = f"HEAD:benchmarks/results/{name}.json"
    shown = subprocess.run(["git", "show", path], cwd=HERE, capture_output=True, text=True)
    if shown.returncode:
        return {}
    return {row["what"]: row["ours"] for row in json.loads(shown.stdout)["rows"]}


def _line(row, before):
    ratio = "" if row.ratio is None else f"{row.ratio:.1f} ×"
    mark = {True: "", False: "  MISSED", None: ""}[row.met]
    goal = f"{row.goal}{mark}" + (f"  ({row.note})" if row.note else "")
    shown = [f"{_shown(value, row.unit):>9}" for value in (row.ours, before, row.plain)]
    return f"| {row.what:<57} | {' | '.join(shown)} | {ratio:>8} | {goal} |"


def _shown(value, unit):
    if value is None:
        return ""
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "bytes":
        if value < 1e5:
            return f"{value / 1e3:.1f} kB"
        return f"{value / 1e6:,.0f} MB" if value >= 1e7 else f"{value / 1e6:.2f} MB"
    if unit == "number":
        return f"{value:,.0f}"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


if __name__ == "__main__":
    main()
