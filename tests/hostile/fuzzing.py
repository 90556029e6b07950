"""Thousands of bent files, each read in a process that may neither grow nor linger.

A failure is an exception that is no `UserError`, the text of a traceback, more than 4 GB, more than
60 seconds, a process that dies, or an input file that is another one afterwards.
"""

import io
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
import warnings
import zlib
from pathlib import Path

import numpy as np
from formats import GROUPS, formats_of

from loopdraw.files import UserError

MOST_BYTES = 4 * 2**30
MOST_SECONDS = 60


class TooLong(BaseException):
    """An input took more than its time."""


def fuzz(group, folder, seed, tries, only=None):
    """Bend and read the files of a group.

    Parameters
    ----------
    group : key of GROUPS
    folder : path for its files
    seed : int
    tries : int, inputs of each format
    only : "format:number", one input alone

    Yields
    ------
    format name, number of the input, problem (str or None)
    """
    start = (0, 0)
    while start is not None:
        start = yield from _in_a_process(group, Path(folder), seed, tries, start, only)


def _in_a_process(group, folder, seed, tries, start, only):
    """Read inputs from `start` on, in a process; where to go on if it dies, else None."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        os.close(receiver)
        _child(group, folder / str(os.getpid()), seed, tries, start, only, sender)
    os.close(sender)
    current, buffered = None, b""
    try:
        while True:
            if not select.select([receiver], [], [], 2 * MOST_SECONDS)[0]:
                os.kill(child, signal.SIGKILL)
            chunk = os.read(receiver, 65536)
            if not chunk:
                break
            *lines, buffered = (buffered + chunk).split(b"\n")
            for line in lines:
                kind, at, name, problem = json.loads(line)
                if kind == "begin":
                    current = at, name
                else:
                    current = None
                    yield name, at[1], problem
    finally:
        os.close(receiver)
        _, status = os.waitpid(child, 0)
    if current is None:
        if status:
            yield group, -1, f"the process could not start ({status})"
        return None
    (place, number), name = current
    yield name, number, f"the process died or stuck (status {status})"
    return (place, number + 1)


def _child(group, folder, seed, tries, start, only, sender):
    status = 1
    try:
        with os.fdopen(sender, "w") as out:
            _read_inputs(group, folder, seed, tries, start, only, out)
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(status)


def _read_inputs(group, folder, seed, tries, start, only, out):
    warnings.simplefilter("ignore")
    formats = formats_of(group, folder)
    sys.stdout = io.StringIO()
    (folder / "cwd").mkdir()
    os.chdir(folder / "cwd")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = size + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, _too_long)

    for place, (name, fmt) in enumerate(formats.items()):
        right = fmt.path.read_bytes() if fmt.path.exists() else None
        for number in range(tries):
            skipped = only is not None and only != f"{name}:{number}"
            if (place, number) < tuple(start) or skipped:
                continue
            print(json.dumps(["begin", (place, number), name, None]), file=out, flush=True)
            rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
            sample = fmt.samples[number % len(fmt.samples)]
            problem = _read(fmt, fmt.bend(sample, rng) if number else sample, only)
            print(json.dumps(["end", (place, number), name, problem]), file=out, flush=True)
        if right is not None:  # other formats of the group need it
            fmt.path.write_bytes(right)


def _read(fmt, content, shown):
    """What goes wrong when a file of this content is read, as a line; None if nothing does."""
    fmt.path.write_bytes(content)
    sys.stderr = io.StringIO()
    started, problem = time.monotonic(), None
    signal.alarm(MOST_SECONDS)
    try:
        fmt.read(fmt.path)
    except UserError as error:
        if "\n" in str(error) or len(str(error)) > 2000:
            problem = f"a UserError that is not one short line: {str(error)[:300]!r}"
    except SystemExit as error:
        problem = f"SystemExit: {error}"
    except TooLong:
        problem = f"took longer than {MOST_SECONDS} s"
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "loopdraw/" in frame.filename] or frames
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        problem = f"{type(error).__name__} at {place}: {str(error)[:200]}"
        if shown:
            traceback.print_exc(file=sys.__stderr__)
    finally:
        signal.alarm(0)
        said, sys.stderr = sys.stderr.getvalue(), sys.__stderr__
    if problem is None and "Traceback" in said:
        problem = f"a traceback: {said.strip().splitlines()[-1][:300]}"
    if problem is None and not fmt.changes and fmt.path.read_bytes() != content:
        problem = "the file has changed"
    if shown:
        print(f"{time.monotonic() - started:.2f} s, {content[:300]!r}", file=sys.__stderr__)
    return problem


def _too_long(*_):
    raise TooLong


__all__ = ["GROUPS", "fuzz"]
