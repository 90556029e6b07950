"""What people do on the page, in order, performed by one thread.

Callbacks of the page run on viser's own thread and may come in any order. So they only put things
here. Of a hand that has moved on, only its last place is performed.
"""

import collections
import concurrent.futures
import threading

from loopdraw.files import UserError

MOST_WAITING = 1000  # more is a page that went wild; the oldest are dropped
TOO_LATE = "the page has changed meanwhile; look again, and repeat it"
IDLE_SECONDS = 0.05  # how often `idle` is called while nothing happens


class Events:
    """A queue of things to do."""

    def __init__(self):
        self._waiting = collections.deque()  # of (action, arguments, latest, future or None)
        self._changed = threading.Condition()
        self._thread = None
        self._stopped = self._over = False

    def put(self, action, *arguments, latest=None):
        """Let the thread of `run` perform an action.

        Parameters
        ----------
        action : function
        arguments : its arguments
        latest : anything; the action takes the place of the one before it, if that has the same
        """
        with self._changed:
            if latest is not None and self._waiting and self._waiting[-1][2] == latest:
                self._waiting.pop()
            self._add((action, arguments, latest, None))

    def ask(self, action, *arguments):
        """As `put`; returns a concurrent.futures.Future with what the action returns.

        It raises a `UserError` if the action is not performed any more.
        """
        future = concurrent.futures.Future()

        def answer():
            try:
                future.set_result(action(*arguments))
            except BaseException as error:
                future.set_exception(error)

        with self._changed:
            self._add((answer, (), None, future))
        return future

    def _add(self, event):
        self._waiting.append(event)
        while len(self._waiting) > (0 if self._over else MOST_WAITING):
            _drop(self._waiting.popleft())
        self._changed.notify()

    def run(self, perform, idle=lambda: None, is_over=lambda: False):
        """Perform actions until it is over, or `stop` is called. What waits then is dropped.

        Parameters
        ----------
        perform : function (action, arguments) that performs one, and catches its errors
        idle : function that is called after each, and often while there are none
        is_over : function that says whether it is over

        Returns
        -------
        int : how many actions were dropped; of those with `latest`, nobody waits for an answer, and
            they do not count
        """
        try:
            while not self._stopped and not is_over():
                with self._changed:
                    if not self._waiting:
                        self._changed.wait(IDLE_SECONDS)
                    event = self._waiting.popleft() if self._waiting else None
                if event is not None:
                    perform(*event[:2])
                idle()
        finally:
            with self._changed:
                self._over = True
                dropped = list(self._waiting)
                self._waiting.clear()
            for event in dropped:
                _drop(event)
        return sum(event[2] is None for event in dropped)

    def start(self, perform, idle=lambda: None):
        """As `run`, in a thread that ends with the program."""
        self._thread = threading.Thread(target=self.run, args=(perform, idle), daemon=True)
        self._thread.start()

    def stop(self):
        """End `run`, and wait for the thread of `start`, if there is one."""
        self._stopped = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5.0)


def _drop(event):
    """Tell who waits for an answer that there will be none."""
    future = event[3]
    if future is not None:
        future.set_exception(UserError(TOO_LATE))
