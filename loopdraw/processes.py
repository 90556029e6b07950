"""Training on several processes, one a GPU (or, on the CPU, one a core), as torchrun starts them;
and what signals do: Ctrl-C, and time limits.

Also how worker processes of any kind end with the process that started them. Torch is imported by
the functions that need it: scripts pass through here on their way to `--help`.
"""

import _thread
import contextlib
import datetime
import gc
import os
import secrets
import signal
import sys
import threading
import time
import weakref

from loopdraw.files import UserError

# The first process slices the dataset while the others wait for it.
PATIENCE = datetime.timedelta(days=7)


def pick_device(gpu_ids, report=print):
    """The device that `--gpu_ids` names, or the CPU, saying so, where there is no such GPU.

    Under torchrun each process takes one of the GPUs, by its number on the machine.
    """
    import torch

    if gpu_ids[0] < 0:
        return torch.device("cpu")
    wanted = int(os.environ.get("LOCAL_RANK", gpu_ids[0]))
    if wanted < torch.cuda.device_count():
        return torch.device("cuda", wanted)
    report(f"no GPU {wanted} on this machine: using the CPU (--gpu_ids -1 says so up front)")
    return torch.device("cpu")


def start_one_process_a_gpu(gpu_ids):
    """Run this script again, as torchrun would, on each of several GPUs. Does not return.

    The numbers are those that the script sees: with CUDA_VISIBLE_DEVICES=2,3, GPU 0 is the
    machine's 2.
    """
    import torch

    n_gpus = torch.cuda.device_count()
    if max(gpu_ids) >= n_gpus:
        raise UserError(f"--gpu_ids {' '.join(map(str, gpu_ids))}: this machine has {n_gpus} GPUs")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(n_gpus)]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[i] for i in gpu_ids)
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={len(gpu_ids)}"]
    os.execv(sys.executable, [sys.executable, *launcher, *sys.argv])


@contextlib.contextmanager
def process_group(gpu_ids):
    """Join the processes that torchrun started, if it did, for the block.

    Raises
    ------
    UserError
        When some of the processes would find a GPU and others not.
    """
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    import torch
    import torch.distributed as dist

    on_gpu = gpu_ids[0] >= 0 and torch.cuda.is_available()
    n_here, n_gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if on_gpu and n_here > n_gpus:
        raise UserError(
            f"{n_here} processes for {n_gpus} GPUs: start torchrun with --nproc_per_node={n_gpus}, "
            "or train on the CPU with --gpu_ids -1"
        )
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        # What refers to the group goes first, even in cycles: a group that lives on until the
        # interpreter ends may abort it.
        gc.collect()
        dist.destroy_process_group()


def rank_and_world_size():
    """This process's number and how many there are; (0, 1) unless started by torchrun."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@contextlib.contextmanager
def first_process_first():
    """Let process 0 do the block before the others do it."""
    import torch.distributed as dist

    rank, world_size = rank_and_world_size()
    if rank > 0:
        dist.barrier()
    yield
    if rank == 0 and world_size > 1:
        dist.barrier()


def any_process(flag, device):
    """Whether the flag is set in any of the processes."""
    import torch
    import torch.distributed as dist

    if rank_and_world_size()[1] == 1:
        return flag
    flags = torch.tensor(float(flag), device=device)
    dist.all_reduce(flags)
    return bool(flags > 0)


@contextlib.contextmanager
def deferred_interrupt(message, report=print):
    """Within, a first Ctrl-C or SIGTERM prints a message and is remembered; a second one ends.

    Parameters
    ----------
    message : str, with {name} and {repeat} for what was done and how to do it again

    Yields
    ------
    function that returns the number of the first signal, 0 before there has been one
    """
    received = []

    def handle(number, _):
        received.append(number)
        if len(received) > 1:
            raise ended_by(number)
        pressed = number == signal.SIGINT
        name, repeat = ("Ctrl-C", "press it again") if pressed else ("SIGTERM", "send it again")
        report(message.format(name=name, repeat=repeat))

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0  # signals reach the main thread only
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ended_by(number):
    """The exception that ends a program which got this signal, with the exit status for it."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


# Seconds: short beside a run of the garbage collector, and long beside leaving the block.
LOOK_AGAIN, RAISE_AGAIN = 0.0005, 1.0


class TookTooLong(BaseException):
    """Raised by `time_limit`. Not an Exception, so that no handler on the way catches it."""


@contextlib.contextmanager
def time_limit(seconds, waiting=None):
    """Raise `TookTooLong` in the block after this many seconds.

    A call of a library that is not written in Python is not interrupted, so each should be short.

    Parameters
    ----------
    seconds : float, or None for no limit
    waiting : function that gets the seconds gone by, about once a second, or None; only called in
        the main thread
    """
    if seconds is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        with _time_limit_in_thread(seconds):
            yield
        return
    start = time.monotonic()

    def look(_, frame):
        left = start + seconds - time.monotonic()
        if left <= 0:
            if _drops_exceptions(frame):
                signal.setitimer(signal.ITIMER_REAL, LOOK_AGAIN)
                return
            signal.setitimer(signal.ITIMER_REAL, RAISE_AGAIN)  # it may be dropped all the same
            raise TookTooLong
        signal.setitimer(signal.ITIMER_REAL, min(left, 1.0) if waiting else left)
        if waiting:
            waiting(seconds - left)

    previous = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, min(seconds, 1.0))
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextlib.contextmanager
def _time_limit_in_thread(seconds):
    """`time_limit` where no signal arrives, as in the threads of a Dask worker: another thread
    watches the time. It raises only once, since it cannot tell whether that was dropped or has
    left the block.
    """
    # Bare locks and a bare thread: an exception in the midst of `threading.Event` and the like may
    # leave them locked.
    thread = threading.get_ident()
    inside, watching = threading.Lock(), threading.Lock()
    inside.acquire()
    watching.acquire()

    def watch():
        wait = seconds
        while not inside.acquire(timeout=wait):
            if not _drops_exceptions(sys._current_frames().get(thread)):
                _raise_in_thread(thread, TookTooLong)
                break
            wait = LOOK_AGAIN
        watching.release()

    _thread.start_new_thread(watch, ())
    try:
        yield
    finally:
        with contextlib.suppress(TookTooLong):  # the block is done, so it comes too late
            inside.release()
            watching.acquire()
            _raise_in_thread(thread, None)


def _raise_in_thread(thread, error):
    """Let a thread raise an error as soon as it runs Python again, or forget it (None)."""
    import ctypes

    error = ctypes.py_object(error) if error else ctypes.py_object()
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)


def _drops_exceptions(frame):
    """Whether Python runs a callback here whose exceptions it only prints: of the garbage collector
    or of a weak reference, or a destructor.
    """
    callbacks = {getattr(each, "__code__", None) for each in gc.callbacks}
    while frame is not None:
        code = frame.f_code
        if code in callbacks or code.co_name == "__del__" or code.co_filename == weakref.__file__:
            return True
        frame = frame.f_back
    return False


def draw_seed(device):
    """A seed drawn at random, the same in every process."""
    import torch
    import torch.distributed as dist

    seed = torch.tensor(secrets.randbelow(2**31), device=device)
    if rank_and_world_size()[1] > 1:
        dist.broadcast(seed, 0)
    return int(seed)


PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


def end_with_parent(parent):
    """From now on, this process is killed when the one that started it ends, even by `kill -9`.

    The system does it, so it works even while this process is stuck outside Python. On Linux; more
    exactly, what counts is the end of the thread that started this process.

    Parameters
    ----------
    parent : int, process id
    """
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)
