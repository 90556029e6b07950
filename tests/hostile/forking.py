"""Programs run in forked processes: they start in no time, so they can be killed by the hundred."""

import os
import signal
import sys
import time
import traceback

from loopdraw.files import run_script

PATIENCE = 60  # seconds


def start(main, log, words=None, before=None):
    """Run `main` as a script in a process of its own, its output in a file; the process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until the program begins
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return child
    status = 70
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(out, stream)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(out), "w") for _ in range(2))
        sys.argv = ["script.py", *map(str, words or ())]
        if before is not None:
            before()
        run_script(lambda: _interruptible(main))
    except SystemExit as error:
        status = error.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
        os._exit(status)


def _interruptible(main):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return main()


def wait(child):
    """The exit status of a process, negative for a signal; it is killed if it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def run(main, log, words=None, before=None):
    """Run `main` to its end; its exit status."""
    return wait(start(main, log, words, before))


def kill_after(child, seconds, number):
    """Send a signal after some time, unless the process has ended; its exit status."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(child, number)
    return wait(child)
