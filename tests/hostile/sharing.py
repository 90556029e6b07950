"""Several programs at work in one folder at once."""

import signal
from pathlib import Path

import forking
import kills
import numpy as np
from kills import Saving, check_shapes, save_numbered

N_PROCESSES = 4


def saves(folder, seed, tries):
    """Shapes saved by several processes into one folder; yields number, problem (str or None).

    Every shape must be there afterwards, and no two in one name.
    """
    work, log = Saving(Path(folder)), Path(folder) / "saves.log"
    log.write_text("")
    share = -(-tries // N_PROCESSES)

    def save(first):
        for i in range(first, first + share):
            save_numbered(work.folder, work.planes, work.mesh, i)

    children = [forking.start(lambda first=n * share: save(first), log) for n in range(N_PROCESSES)]
    statuses = [forking.wait(child) for child in children]
    problem = None if not any(statuses) else f"exit statuses {statuses}: {log.read_text()[-300:]}"
    try:
        numbers = check_shapes(work.folder, len(work.mesh[1]))
        found = sorted(numbers.values())
        if found != list(range(N_PROCESSES * share)):
            problem = f"{len(found)} shapes, {len(set(found))} of them different"
    except AssertionError as error:
        problem = str(error)
    for number in range(N_PROCESSES * share):
        yield number, problem if number == 0 else None


def slicers(folder, seed, tries):
    """Two slicers on one folder, one of them killed every second time; yields as `saves`."""
    work, log, expected, seconds = kills.prepared("slicing", Path(folder))
    rng = np.random.default_rng([seed, 2])
    for number in range(tries):
        work.reset()
        log.write_text("")
        children = [forking.start(work.main, log, work.words(), work.before) for _ in range(2)]
        statuses = []
        if number % 2:
            statuses.append(
                forking.kill_after(children.pop(), seconds * rng.uniform(0, 1), signal.SIGKILL)
            )
        statuses += [forking.wait(child) for child in children]
        problem = None
        if statuses[-1] != 0 or any(status not in (0, -signal.SIGKILL) for status in statuses):
            problem = f"exit statuses {statuses}: {kills.tail(log)}"
        yield number, problem or kills.problem_of(lambda: _compare(work, expected), log)


def _compare(work, expected):
    assert work.result() == expected, "the result is another one"
