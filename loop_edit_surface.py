"""The surface of a shape that is being edited, rebuilt beside the program.

Rebuilding takes longer than a frame of the window, so it is done by a process of its own, of low
priority: what the hand drags never waits for it. Only the latest loops count; those that came
between are skipped.

Run as a script, this file is that process. It reads requests from stdin and writes meshes to
stdout, as length-prefixed `.npz` blobs.
"""

import contextlib
import io
import os
import struct
import subprocess
import sys
import threading

import numpy as np

_LENGTH = struct.Struct("<Q")


class SurfaceWorker:
    """Rebuilds surfaces in a process of its own; the last one asked for wins.

    Use it in a `with` block, or call `close`.
    """

    def __init__(self):
        self._process = None
        self._lock = threading.Lock()
        self._waiting = None  # the request to send when the process is free
        self._busy = False
        self._answer = None

    def __enter__(self):
        self._start()  # its imports take a second or two
        return self

    def __exit__(self, *_):
        self.close()

    def request(self, tag, planes, loops_by_plane, resolution):
        """Ask for a surface; takes the place of an earlier request that has not been begun.

        Parameters
        ----------
        tag : int, handed back with the mesh
        planes : (P, 4, 3) float
        loops_by_plane : list of P lists of (k, 2) float loops
        resolution : int, as `loop_reconstruction.reconstruct_mesh`
        """
        loops = [loop for loops in loops_by_plane for loop in loops]
        blob = _packed(
            tag=tag,
            planes=planes,
            resolution=resolution,
            points=np.concatenate([np.zeros((0, 2)), *loops]),
            sizes=np.array([len(loop) for loop in loops], dtype=np.int64),
            counts=np.array([len(loops) for loops in loops_by_plane], dtype=np.int64),
        )
        with self._lock:
            self._waiting = blob
            if self._process is None:
                self._start()
            if not self._busy:
                self._send()

    def poll(self):
        """The latest answer that has come since the last call, or None.

        Returns
        -------
        tag : int
        mesh : (vertices (n, 3) float64, faces (m, 3) int64), or None where that failed
        error : str, why; "" where it did not
        """
        with self._lock:
            answer, self._answer = self._answer, None
        return answer

    @property
    def busy(self):
        """Whether a surface is being made or waits to be."""
        return self._busy

    def close(self):
        """End the process."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()

    def _start(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        threading.Thread(target=self._listen, args=[self._process], daemon=True).start()

    def _send(self):
        blob, self._waiting = self._waiting, None
        self._busy = True
        try:
            _write(self._process.stdin, blob)
        except OSError:
            pass  # it has died; `_listen` says so

    def _listen(self, process):
        while True:
            try:
                answer = _unpacked(_read(process.stdout))
                mesh, error = None, str(answer["error"])
                if not error:
                    mesh = answer["vertices"], answer["faces"]
                tag = int(answer["tag"])
            except (EOFError, OSError, ValueError):
                tag, mesh, error = -1, None, "the process that makes surfaces has ended"
            with self._lock:
                if process is not self._process:
                    return
                self._answer = tag, mesh, error
                self._busy = False
                if tag < 0:
                    self._process = None  # the next request starts another
                    return
                if self._waiting is not None:
                    self._send()


def _packed(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _unpacked(blob):
    with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
        return dict(arrays)


def _write(pipe, blob):
    pipe.write(_LENGTH.pack(len(blob)))
    pipe.write(blob)
    pipe.flush()


def _read(pipe):
    (length,) = _LENGTH.unpack(_read_exactly(pipe, _LENGTH.size))
    return _read_exactly(pipe, length)


def _read_exactly(pipe, length):
    blob = pipe.read(length)
    if len(blob) < length:
        raise EOFError
    return blob


def _rebuild(request):
    from loop_reconstruction import reconstruct_mesh

    loops = np.split(request["points"], np.cumsum(request["sizes"])[:-1])
    starts = np.cumsum([0, *request["counts"]])
    loops_by_plane = [loops[start:end] for start, end in zip(starts[:-1], starts[1:], strict=True)]
    try:
        if not len(request["sizes"]):
            raise ValueError("there are no loops")
        vertices, faces = reconstruct_mesh(
            request["planes"], loops_by_plane, int(request["resolution"])
        )
    except Exception as error:  # whatever it is, the next loops may be better
        return {"tag": request["tag"], "error": f"no surface: {error}"}
    return {"tag": request["tag"], "error": "", "vertices": vertices, "faces": faces}


def main():
    if hasattr(os, "nice"):
        os.nice(10)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing may print among the meshes
    while True:
        try:
            request = _unpacked(_read(requests))
        except EOFError:
            return
        _write(answers, _packed(**_rebuild(request)))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
