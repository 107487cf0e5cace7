"""What all problems share: tasks to train, validate and test on, and how they are tested."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..learners import Learner
from ..tasks import Task


class Trial(NamedTuple):
    """A part of a test: one learner on the test tasks of one problem.

    Attributes
    ----------
    learner : Learner
    params : dict of str to Tensor
    problem : Problem
    method, setting : str
        As the rows of a report name them.
    steps : sequence of int
        After which steps of adaptation it is scored.
    rows : sequence of int
        For which of these the report has a row.
    batch_norm : str or None
        Whose statistics batch norm takes.
    curve : bool
        Whether all scores are kept as a curve.
    """

    learner: Learner
    params: dict
    problem: Any
    method: str
    setting: str
    steps: Sequence[int] = (0,)
    rows: Sequence[int] = (0,)
    batch_norm: str | None = None
    curve: bool = False


class Problem:
    """Where tasks come from, which network and loss they want, and how they are tested.

    A problem is a frozen dataclass, whose options are the settings of a run. It has ``model``,
    ``loss``, ``tasks``, ``trials``, ``protocol``, ``score`` and ``number``, and the title of its
    tables, ``data``.
    """

    needs_data = False
    metric = ""
    suffix = ()  # of the method, in the names of tables
    chunk: int | None = None  # tasks taken at once in training, all by default
    test_chunk = 100  # and at test
    block = 100  # tasks of a test in memory at once; which they are depends on it
    worst = float("inf")  # a score above it, or that is not a number, counts as diverged
    mean_scale = 1.0  # the authors' summed loss in units of our mean loss

    def replace(self, **changed):
        """Return the same problem with other settings."""
        return replace(self, **changed)

    def blocks(self, split: str, rng: np.random.Generator, n_tasks: int) -> Iterator[Task]:
        """Yield tasks of a split, a block of them after the other."""
        source = self.tasks(split)
        for start in range(0, n_tasks, self.block):
            yield source.sample(rng, min(self.block, n_tasks - start))

    def result(self, mean: float, half: float, diverged: int) -> str:
        """Return a score with its interval as text, and how many tasks are left out of it."""
        return self.number(mean, half) + f" ({diverged} diverged)" * (diverged > 0)

    def figures(self, run, method, params, rng) -> list:
        """Draw the problem's own figures into a run's folder; returns their paths."""
        return []
