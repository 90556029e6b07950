"""The queue of the inference REPL: which actions run together, and what they draw.

Every action that runs has a random generator of its own, made from the seed and the number of
actions before it. So what it draws does not depend on whether actions are run one by one,
together, or in part before a Ctrl-C.
"""

import itertools
from collections import deque
from dataclasses import dataclass

import numpy as np

from loopdraw.model.latents import shape_generator
from loopdraw.prompt.actions import Action

MAX_TOGETHER = 64  # actions decoded as one batch; more gains little and delays the first result


@dataclass(frozen=True)
class Task:
    """An action about to run, with all its values known."""

    action: Action
    value: np.ndarray | None  # latent (L,), or sequence (T, F), or None for dataset items
    seed: int  # for whatever else the action draws


class ActionQueue:
    """Actions that wait, in order.

    Parameters
    ----------
    reader : variables.ValueReader
    seed : int, or None for another one each time
    """

    def __init__(self, reader, seed=None):
        self._reader = reader
        self._actions = deque()
        self._values = {}  # Operand -> value, of the tasks made last
        self.seed(seed)

    def __len__(self):
        return len(self._actions)

    def __iter__(self):
        return iter(self._actions)

    def extend(self, actions):
        self._actions.extend(actions)

    def pop(self):
        """Remove the first action and return it."""
        return self._actions.popleft()

    def clear(self):
        self._actions.clear()

    def seed(self, seed):
        self._entropy = np.random.SeedSequence(seed).entropy
        self._n_drawn = 0

    def next_generator(self):
        """What `latents.shape_generator` makes the generator of the next action of."""
        return self._entropy, self._n_drawn

    def draw(self, operand):
        """The value of an operand on its own, outside any action."""
        value = self._reader.known_at_run(operand)
        if value is None:
            value = self._reader.draw([self._generator(0)])[0]
        self._n_drawn += operand.value is None
        return value

    def _generator(self, ahead):
        """The generator of the next action that runs, or of the one `ahead` after it."""
        return shape_generator(self._entropy, self._n_drawn + ahead)

    def next_tasks(self, limit, n_begun=0):
        """The next actions, at most `limit`, as many as may run together; they stay queued.

        Parameters
        ----------
        limit : int
        n_begun : int, the first actions, which run already: those after them are asked for, as far
            as they can be begun before these are done

        Returns
        -------
        list of Task, at least one if none runs yet

        Raises
        ------
        UserError
            When a value of the first action is missing or unfit.
        """
        if not n_begun:
            self._values = {}
        elif self._actions[n_begun - 1].intervene:
            return []
        chosen, to_draw = [], []
        first_ones = itertools.islice(self._actions, n_begun, n_begun + min(limit, MAX_TOGETHER))
        for ahead, action in enumerate(first_ones, n_begun):
            waits = any(
                operand.awaited and operand not in self._values for operand in action.operands
            )
            # An edited shape runs the user's function, which may take long or stop: alone.
            alone = action.intervene or (chosen and chosen[0][0].intervene)
            if ahead and (waits or alone):
                break
            generator = self._generator(ahead)
            for operand in action.operands:
                if operand not in self._values:
                    value = self._values[operand] = self._reader.known_at_run(operand)
                    if value is None:
                        to_draw.append((operand, generator))
            chosen.append((action, generator))
        if to_draw:
            operands, generators = zip(*to_draw, strict=True)
            self._values.update(zip(operands, self._reader.draw(generators), strict=True))
        tasks = []
        for action, generator in chosen:
            value = action.combine([self._values[operand] for operand in action.operands])
            tasks.append(Task(action, value, int(generator.integers(2**32))))
        return tasks

    def take(self):
        """Remove the first action: it has run as a task. What it drew is settled with it."""
        for operand in self.pop().operands:
            if operand in self._values:  # else an earlier action has settled it
                operand.value = self._values.pop(operand)
        self._n_drawn += 1
