"""What people do on the page, in order, performed by one thread.

Callbacks of the page run on viser's own thread and may come in any order. So they only put things
here. Of a hand that has moved on, only its last place is performed.
"""

import collections
import concurrent.futures
import threading

MOST_WAITING = 1000  # more is a page that went wild; the oldest are dropped
IDLE_SECONDS = 0.05  # how often `idle` is called while nothing happens


class Events:
    """A queue of things to do."""

    def __init__(self):
        self._waiting = collections.deque(maxlen=MOST_WAITING)
        self._changed = threading.Condition()
        self._thread = None
        self._stopped = False

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
            self._waiting.append((action, arguments, latest))
            self._changed.notify()

    def ask(self, action, *arguments):
        """As `put`; returns a concurrent.futures.Future with what the action returns."""
        future = concurrent.futures.Future()

        def answer():
            try:
                future.set_result(action(*arguments))
            except BaseException as error:
                future.set_exception(error)

        self.put(answer)
        return future

    def run(self, perform, idle=lambda: None, is_over=lambda: False):
        """Perform actions until it is over, or `stop` is called.

        Parameters
        ----------
        perform : function (action, arguments) that performs one, and catches its errors
        idle : function that is called after each, and often while there are none
        is_over : function that says whether it is over
        """
        while not self._stopped and not is_over():
            with self._changed:
                if not self._waiting:
                    self._changed.wait(IDLE_SECONDS)
                event = self._waiting.popleft() if self._waiting else None
            if event is not None:
                perform(*event[:2])
            idle()

    def start(self, perform, idle=lambda: None):
        """As `run`, in a thread that ends with the program."""
        self._thread = threading.Thread(target=self.run, args=(perform, idle), daemon=True)
        self._thread.start()

    def stop(self):
        """End `run`, and wait for the thread of `start`, if there is one."""
        self._stopped = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5.0)
