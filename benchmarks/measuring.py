"""Timing that a busy machine does not fool, memory of a process with its children, the machine."""

import os
import platform
import re
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class Row:
    """A line of the table. What was not measured is None."""

    what: str
    unit: str  # "s", "share", "bytes" or "number"
    ours: float | None = None
    plain: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None
    note: str = ""  # why there is no figure


def seconds_of(function, *arguments, clock=None):
    """Seconds that a call takes by a clock, such as `time.process_time`; None for a wall clock."""
    clock = clock or time.perf_counter
    start = clock()
    function(*arguments)
    return clock() - start


def paired(ours, plain, n_pairs, clock=None):
    """Time two functions in turn, so that what else the machine does hits both.

    Returns
    -------
    seconds_ours, seconds_plain, ratio : medians; the ratio's is over the pairs
    """
    ours(), plain()  # warm up: allocators, caches, lazy initialisation
    times = []
    for i in range(n_pairs):
        pair = {}
        for side in (ours, plain) if i % 2 == 0 else (plain, ours):
            pair[side] = seconds_of(side, clock=clock)
        times.append((pair[ours], pair[plain]))
    ratio = statistics.median(b / a for a, b in times)
    return *(statistics.median(side) for side in zip(*times, strict=True)), ratio


def median_seconds(function, n_times, clock=None):
    """Median time of calls, after one to warm up."""
    function()
    return statistics.median(seconds_of(function, clock=clock) for _ in range(n_times))


class PeakMemory:
    """Peak memory of a process and all that descend from it, in bytes, sampled while in use.

    Pages that several of them share count once (the kernel's "proportional set size").
    """

    INTERVAL = 0.1  # seconds

    def __init__(self, pid):
        self.pid = pid
        self.peak = None  # None where the kernel does not tell
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _watch(self):
        while not self._ended.wait(self.INTERVAL):
            total = sum(map(_resident, family(self.pid)))
            self.peak = max(self.peak or 0, total) or None


def family(pid):
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:
                pass  # it has ended
    return found


def _resident(pid):
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    size = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return 1024 * int(size[1]) if size else 0


def machine():
    """What the figures depend on, as a dict of plain values; `name` is fit for a file name."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        model = found[1].strip() if found else model
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    cores = len(os.sched_getaffinity(0))
    words = re.findall(r"[a-z0-9]+", f"{gpu or model} {cores} cores".lower())
    return {
        "name": "-".join(words),
        "cpu": model,
        "cores": cores,
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_before": os.getloadavg()[0],
    }


def run_program(words, **settings):
    """Run a command to its end; an error of its own shows what it printed."""
    finished = subprocess.run(words, capture_output=True, text=True, **settings)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(words)}: {finished.stdout}{finished.stderr}")
    return finished.stdout
