"""Running what is queued: tasks go to the engine, outcomes into variables and onto the screen."""

import itertools

from loopdraw.files import UserError
from loopdraw.prompt.actions import Outcome, Sample, counted


class Runner:
    """Performs the first actions of a queue.

    Parameters
    ----------
    queue : ActionQueue
    engine : see `loop_inference_config_and_repl`
    variables : Variables, which gets what the runs set
    screen : TerminalCmd, which prints what is said
    """

    def __init__(self, queue, engine, variables, screen):
        self.queue = queue
        self.engine = engine
        self.variables = variables
        self.screen = screen

    def run(self, n_actions):
        """Perform the first `n_actions`, decoding together what may be.

        Raises
        ------
        UserError
            When Ctrl-C stopped an action; it is off the queue, those after it are not.
        """
        for warning in self.engine.prepare(list(itertools.islice(self.queue, n_actions))):
            self.screen.warn(warning)
        samples = []
        end = len(self.queue) - n_actions
        while len(self.queue) > end:
            self._run_together(end, n_actions, samples)

    def _run_together(self, end, n_asked, samples):
        """Run the first actions of the queue, as many as may run together.

        Parameters
        ----------
        end : how many to leave in the queue
        n_asked : how many the user asked for, for the progress
        samples : list that gets the sequences of the `sample` actions among them
        """
        try:
            tasks = self.queue.next_tasks(len(self.queue) - end)
        except UserError as error:
            self.screen.fail_with(self.queue.pop().text, error)
            return
        outcomes = iter(self.engine.perform(tasks))
        for task in tasks:
            n_waiting = len(self.queue) - 1
            try:
                engine_failed = self._run_next(task, outcomes, end, n_asked, samples)
            except KeyboardInterrupt:
                which = ""
                if len(self.queue) > n_waiting:  # else it was done, all but the reporting
                    self.queue.take()
                    which = f": {task.action.text}"
                left = counted(n_waiting, "action")
                raise UserError(f"stopped{which} ({left} left in the queue)") from None
            if engine_failed:
                return

    def _run_next(self, task, outcomes, end, n_asked, samples):
        """Get the outcome of a task and note it; whether the engine itself failed."""
        engine_failed = False
        try:
            outcome = next(outcomes)
        except Exception as error:
            outcome, engine_failed = Outcome(error=error), True
        self.queue.take()
        done = n_asked - (len(self.queue) - end)
        self._note(task, outcome, f"[{done}/{n_asked}] " if n_asked > 1 else "")
        if isinstance(task.action, Sample) and outcome.sequence is not None:
            samples.append(outcome.sequence)
            self.variables.set_samples(samples)
        return engine_failed

    def _note(self, task, outcome, progress):
        if outcome.z is not None:
            self.variables["last_z"] = outcome.z
        if outcome.sequence is not None:
            self.variables["last_pred_seq"] = outcome.sequence
        if outcome.error is not None:
            self.screen.fail_with(task.action.text, outcome.error)
        else:
            self.screen.say(f"{progress}{task.action.text}: {outcome.message}")
