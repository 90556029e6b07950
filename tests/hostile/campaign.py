"""All campaigns, one after the other, with their number of tries."""

import fuzzing
import kills
import sharing

INPUTS = 90  # of each format
KILLS = {"slicing": 60, "training": 40, "saving": 30}
FULL_DISKS = {"slicing": 15, "training": 10, "saving": 15}
SAVES = 240
SLICERS = 20


def results(folder, seed=0, share=1.0, only=None):
    """Run the campaigns.

    Parameters
    ----------
    folder : Path for their files
    seed : int
    share : float, of the usual number of tries
    only : "format:number" for one input alone, or None

    Yields
    ------
    name with number ("cache .npz:8"), problem (str or None)
    """

    def part(n):
        return max(1, round(share * n))

    for group in fuzzing.GROUPS:
        for name, number, problem in fuzzing.fuzz(group, folder, seed, part(INPUTS), only):
            yield f"{name}:{number}", problem
    if only is not None:
        return
    for title, run, counts in (
        ("kills in {}", kills.kills, KILLS),
        ("full disk in {}", kills.full_disk, FULL_DISKS),
    ):
        for kind, n in counts.items():
            here = folder / title.format(kind).replace(" ", "-")
            here.mkdir()
            for number, problem in run(kind, here, seed, part(n)):
                yield f"{title.format(kind)}:{number}", problem
    for title, run, n in (
        ("saves by four processes", sharing.saves, SAVES),
        ("two slicers on a folder", sharing.slicers, SLICERS),
    ):
        here = folder / run.__name__
        here.mkdir()
        for number, problem in run(here, seed, part(n)):
            yield f"{title}:{number}", problem


def table(tries, failures):
    """Tries and failures of each campaign, as a Markdown table."""
    rows = [(name, n, failures[name]) for name, n in tries.items()]
    rows.append(("all", sum(tries.values()), sum(failures.values())))
    lines = [f"| {name} | {n} | {bad} |" for name, n, bad in rows]
    return "\n".join(["| what | tries | failures |", "|---|---|---|", *lines])
