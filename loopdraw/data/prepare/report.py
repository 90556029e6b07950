"""What became of the meshes of a prepared dataset, as text."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loopdraw.data.progress import first_few
from loopdraw.files import write_aside

REPORT_FILE, LEFT_OUT_FILE, SHEET_FILE = "report.txt", "left_out.txt", "contact-sheet.png"
THE_SAME = "the same as"  # begins the reason of a mesh that repeats another one
MANY_MISSED = 0.1  # share of all planes of all meshes


@dataclass(kw_only=True)
class PreparedDataset:
    """A dataset folder that was prepared; `print` shows its report.

    Attributes
    ----------
    source, folder : Path
    planespec : (axis, number of planes, position of the first, position of the last)
    left_out : dict, path of each mesh that was left out -> why
    other_files : Counter, endings of the files that are no meshes
    meshes : dict, path of each mesh that was taken -> (ReadMesh, CutMesh)
    names : dict, path of each mesh that was taken -> its Path in `train/` or `test/`
    tested : set of the paths that went into `test/`
    limit : int, longest of the meshes but for a few that are much longer, or None
    size : "longest" or "axis", the side that is 1
    seconds : float
    """

    source: Path
    folder: Path
    planespec: tuple
    left_out: dict
    other_files: Counter
    meshes: dict
    names: dict
    tested: set
    limit: int | None
    size: str
    seconds: float

    def place(self, path):
        """Where a mesh lies, relative to the folder."""
        return Path("test" if path in self.tested else "train", self.names[path])

    def __str__(self):
        axis, n_planes, low, high = self.planespec
        n_all, n_kept = len(self.meshes) + len(self.left_out), len(self.meshes)
        lines = [
            f"{self.folder}: {n_kept} meshes, {n_kept - len(self.tested)} in train/ and "
            f"{len(self.tested)} in test/ ({self.seconds:.1f} s, "
            f"{n_all / max(self.seconds, 1e-9):.1f} meshes/s)"
        ]
        if self.left_out:
            lines.append(f"  left out: {len(self.left_out)} of {n_all}, see {LEFT_OUT_FILE}")
            kinds = Counter(map(_kind, self.left_out.values()))
            lines += first_few([f"{count}: {kind}" for kind, count in kinds.most_common()])
            lines += self._of_the_same()
        if self.other_files:
            kinds = [f"{count} {ending}" for ending, count in self.other_files.most_common(8)]
            more = " and more" if len(self.other_files) > 8 else ""
            lines.append(f"  not meshes: {', '.join(kinds)}{more}")
        lines.append(f"  planes: {n_planes} along {axis}, from {low} to {high}")
        return "\n".join(lines + self._of_loops() + self._of_shapes())

    def _of_the_same(self):
        """Which meshes repeat which others."""
        named = [
            f"{os.path.relpath(path, self.source)}: {why}"
            for path, why in sorted(self.left_out.items())
            if why.startswith(THE_SAME)
        ]
        title = f"  repeated meshes: {len(named)}; of each, the first by name is kept"
        return [title, *first_few(named)] if named else []

    def _of_loops(self):
        loops = {path: cut.n_loops for path, (_, cut) in self.meshes.items()}
        counts = np.array(list(loops.values()))
        lines = [
            f"  loops per mesh: {counts.min()} to {counts.max()}, median {np.median(counts):g}"
        ]
        if self.limit is not None:
            longer = {path: count for path, count in loops.items() if count > self.limit}
            lines.append(
                f"  outliers: {len(longer)} with many more loops than the others; "
                f"--max_loops {self.limit} leaves them out"
            )
            lines += self._most(longer)
        return lines

    def _of_shapes(self):
        n_planes = self.planespec[1]
        missed = {path: cut.n_missed for path, (_, cut) in self.meshes.items() if cut.n_missed}
        thin = {path: cut.n_thin for path, (_, cut) in self.meshes.items() if cut.n_thin}
        n_open = {path: read.n_open for path, (read, _) in self.meshes.items() if read.n_open}
        lines = []
        if missed:
            many = sum(missed.values()) > MANY_MISSED * n_planes * len(self.meshes)
            hint = ""
            if many and self.size == "longest":
                hint = "; --size axis makes all as tall as the planes reach"
            lines.append(
                f"  planes that missed: {sum(missed.values())} in {len(missed)} meshes{hint}"
            )
            lines += self._most(missed)
        if thin:
            lines.append(
                f"  thin parts that lie between two planes, and are lost: in {len(thin)} meshes; "
                "--planes with a larger number finds more"
            )
            lines += self._most(thin, "gaps with such parts")
        if n_open:
            lines.append(
                f"  open meshes: {len(n_open)}; slicing closes their loops, plane by plane"
            )
            lines += self._most(n_open, "open edges")
        return lines

    def _most(self, counts, of=""):
        """The meshes with the largest counts, as indented lines."""
        most = sorted(counts, key=lambda path: (-counts[path], path))
        return first_few([f"{self.place(path)}: {counts[path]} {of}".rstrip() for path in most])


def _kind(reason):
    """A reason without what it says of one mesh alone."""
    if reason.startswith(THE_SAME):
        return f"{THE_SAME} another one"
    for sign in (" (", ": ", "; "):
        reason = reason.split(sign)[0]
    return "".join("#" if c.isdigit() else c for c in reason)


def write_reports(prepared, folder):
    """Write the report and the list of what was left out into a folder."""
    lines = [f"{path}: {reason}" for path, reason in sorted(prepared.left_out.items())]
    texts = {REPORT_FILE: [str(prepared)], LEFT_OUT_FILE: lines}
    for name, lines in texts.items():
        with write_aside(Path(folder, name)) as temporary:  # names of files need not be UTF-8
            temporary.write_bytes(b"".join(os.fsencode(line) + b"\n" for line in lines))
