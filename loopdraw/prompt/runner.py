"""Running what is queued: tasks go to the engine, outcomes into variables and onto the screen."""

import itertools
import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from loopdraw.files import UserError
from loopdraw.prompt.actions import Outcome, Sample, counted

MOST_BEGUN = 2  # batches: one is decoded while the surfaces of the other are built
MOST_COMPARED = 4096  # samples of a run, the last ones: `closest_data_matches`
SECONDS_BETWEEN_WORDS = 5.0  # about how long a run will take


class Batch(NamedTuple):
    """Actions that run together."""

    tasks: deque  # those without an outcome yet
    outcomes: object  # iterator


@dataclass
class _Run:
    n_asked: int  # actions the user asked for
    end: int  # how many to leave in the queue
    begun: deque = field(default_factory=deque)  # of Batch
    # Sequences of the last `sample` actions among them
    samples: deque = field(default_factory=lambda: deque(maxlen=MOST_COMPARED))
    # Of which the speed is told: since when, and how many were done then
    started: float = 0.0
    n_before: int = 0
    next_word: float = field(default_factory=lambda: time.monotonic() + SECONDS_BETWEEN_WORDS)


class Runner:
    """Performs the first actions of a queue.

    Parameters
    ----------
    queue : ActionQueue
    engine : see `loop_inference_config_and_repl`
    variables : Variables, which gets what the runs set
    screen : TerminalCmd, which prints what is said
    cluster : cluster.Cluster that makes the samples that are saved, or None
    """

    def __init__(self, queue, engine, variables, screen, cluster=None):
        self.queue = queue
        self.engine = engine
        self.variables = variables
        self.screen = screen
        self.cluster = cluster

    def run(self, n_actions):
        """Perform the first `n_actions`, decoding together what may be.

        While the surfaces of some actions are built, the next ones are decoded.

        Raises
        ------
        UserError
            When Ctrl-C stopped an action; it is off the queue, those after it are not.
        """
        for warning in self.engine.prepare(list(itertools.islice(self.queue, n_actions))):
            self.screen.warn(warning)
        run = _Run(n_actions, end=len(self.queue) - n_actions)
        while len(self.queue) > run.end:
            n_waiting = len(self.queue) - 1
            try:
                if not run.begun and (n_samples := self._n_for_cluster(run)):
                    self._sample_on_cluster(run, n_samples)
                elif self._begin(run):
                    self._run_next(run)
            except KeyboardInterrupt:
                which = ""
                # It may come when the outcome was just noted; others were saved meanwhile, too.
                is_noted = len(self.queue) <= n_waiting
                if not self._keep_finished(run) and not is_noted:
                    which = f": {next(iter(self.queue)).text}"
                    self.queue.take()
                left = counted(len(self.queue) - run.end, "action")
                raise UserError(f"stopped{which} ({left} left in the queue)") from None

    def _begin(self, run):
        """Begin the next actions, as many as may run together, and with them those after them;
        whether any run now.
        """
        n_left = len(self.queue) - run.end
        if not run.begun:
            try:
                tasks = self.queue.next_tasks(n_left)
            except UserError as error:
                self.screen.fail_with(self.queue.pop().text, error)
                return False
            run.begun.append(Batch(deque(tasks), iter(self.engine.perform(tasks))))
        n_begun = sum(len(batch.tasks) for batch in run.begun)
        if len(run.begun) < MOST_BEGUN and n_begun < n_left:
            tasks = self.queue.next_tasks(n_left - n_begun, n_begun)
            if tasks:
                run.begun.append(Batch(deque(tasks), iter(self.engine.perform(tasks))))
        return True

    def _run_next(self, run):
        """Get the outcome of the first action and note it."""
        batch = run.begun[0]
        try:
            outcome = next(batch.outcomes)
        except Exception as error:  # of the engine itself: what it has begun is lost
            outcome = Outcome(error=error)
            self._close(run)
            run.begun.clear()
        self._done(run, batch.tasks.popleft(), outcome)
        if not batch.tasks and run.begun:
            run.begun.popleft()

    def _done(self, run, task, outcome):
        self.queue.take()
        done = run.n_asked - (len(self.queue) - run.end)
        self._note(task, outcome, f"[{done}/{run.n_asked}] " if run.n_asked > 1 else "")
        if isinstance(task.action, Sample) and outcome.sequence is not None:
            run.samples.append(outcome.sequence)
            self.variables.set_samples(run.samples)
        self._say_how_fast(run, done, run.n_asked)

    def _say_how_fast(self, run, done, n):
        """Say from time to time how many of n are done."""
        if not run.started:
            # The first ones take longer, since programs start; they say nothing of the rest.
            run.started, run.n_before = time.monotonic(), done
        elif time.monotonic() > run.next_word and run.n_before + 2 < done < n:
            run.next_word = time.monotonic() + SECONDS_BETWEEN_WORDS
            rate = (done - run.n_before) / (time.monotonic() - run.started)
            left = clock((n - done) / rate)
            self.screen.say(f"{done} of {n} done, {rate:.1f} a second, {left} left")

    def _n_for_cluster(self, run):
        """How many of the first actions the cluster makes."""
        if self.cluster is None:
            return 0
        first = next(iter(self.queue))
        if not (isinstance(first, Sample) and first.save and not first.intervene):
            return 0
        alike = itertools.takewhile(lambda action: action.text == first.text, self.queue)
        return sum(1 for _ in itertools.islice(alike, len(self.queue) - run.end))

    def _sample_on_cluster(self, run, n):
        """Have the first n actions made on the cluster. Those made are off the queue with the last:
        after Ctrl-C the same command goes on, as what is there is not made again.
        """
        action = next(iter(self.queue))
        entropy, first = self.queue.next_generator()
        made = there = failed = 0
        try:
            for chunk in self.cluster.sample(action, entropy, first, n):
                made, there = made + chunk.n_made, there + chunk.n_there
                failed += len(chunk.errors)
                for error in chunk.errors:
                    self.screen.fail(f"{action.text} {error}")
                self._say_how_fast(run, made + there + failed, n)
        except KeyboardInterrupt:
            raise UserError(
                f"stopped: {action.text} ({made} made; run again to go on from here)"
            ) from None
        for _ in range(n):
            self.queue.take()
        self.screen.say(
            f"{action.text}: {first} to {first + n - 1} in {self.cluster.folder}: {made} made, "
            f"{there} there already, {failed} failed"
        )

    def _close(self, run):
        for batch in run.begun:
            batch.outcomes.close()

    def _keep_finished(self, run):
        """After Ctrl-C: note what was saved in the meantime, but not begin any more; how many."""
        self._close(run)
        kept = []
        for batch in run.begun:
            finished = list(zip(batch.tasks, batch.outcomes, strict=False))
            kept += finished
            if len(finished) < len(batch.tasks):
                break
        for task, outcome in kept:
            self._done(run, task, outcome)
        return len(kept)

    def _note(self, task, outcome, progress):
        if outcome.z is not None:
            self.variables["last_z"] = outcome.z
        if outcome.sequence is not None:
            self.variables["last_pred_seq"] = outcome.sequence
        if outcome.error is not None:
            self.screen.fail_with(task.action.text, outcome.error)
        else:
            self.screen.say(f"{progress}{task.action.text}: {outcome.message}")


def clock(seconds):
    """A time in words: "45 s", "3 min 20 s", "2 h 5 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
