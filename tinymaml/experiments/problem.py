"""What all problems share: tasks to train, validate and test on, and how they are tested."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..learners import Learner
from ..tasks import Task
from .evaluation import score_tasks, summarise


class Trial(NamedTuple):
    """A part of a test: one learner on the test tasks of one problem.

    Attributes
    ----------
    learner : Learner
    params : dict of str to Tensor
    problem : Problem
    method : str
        Its name in the rows of a report.
    steps : sequence of int
        The numbers of adaptation steps after which it is scored.
    rows : sequence of int
        Those of ``steps`` that have a row in a report.
    batch_norm : str or None
        Whose statistics batch norm takes.
    curve : bool
        Whether all scores are kept as a curve.
    floor : str
        Which of the floors it is, if any; see :mod:`~.floors`.
    """

    learner: Learner
    params: dict
    problem: Any
    method: str
    steps: Sequence[int] = (0,)
    rows: Sequence[int] = (0,)
    batch_norm: str | None = None
    curve: bool = False
    floor: str = ""

    def score(self, split: str, rng: np.random.Generator, n_tasks: int, bar=None) -> dict:
        """Score the learner on tasks of a split, as :func:`~.evaluation.summarise` does."""
        problem = self.problem
        blocks = problem.blocks(split, rng, n_tasks)
        if self.floor == "shuffled labels":
            blocks = _shuffled(blocks, rng.spawn(1)[0])
        options = {"steps": self.steps, "chunk": problem.test_chunk, "bar": bar}
        scores = score_tasks(self.learner, self.params, blocks, problem.score, **options)
        return summarise(scores, problem.worst)


def _shuffled(blocks, rng):
    """Yield tasks with the labels of each support in another order."""
    for tasks in blocks:
        y = rng.permuted(tasks.support.y, axis=1)
        yield tasks._replace(support=tasks.support._replace(y=y))


class Problem:
    """Where tasks come from, which network and loss they want, and how they are tested.

    A problem is a frozen dataclass, whose options are the settings of a run. Its own are ``model``,
    ``loss``, ``tasks``, ``trials``, ``protocol``, ``score`` and ``number``; ``data``, the title of
    its tables; ``setting``, the column there; and ``task``, both in words. A problem of images also
    has ``body``, for learners that compare images.
    """

    needs_data = False
    metric = ""
    axis = "gradient steps"  # of the curves of a test
    suffix = ()  # of the method's name in tables
    without: tuple[str, ...] = ()  # settings of a method that have no meaning here
    chunk: int | None = 1000  # tasks taken at once in training, lest a large batch fill the memory
    test_chunk = 100  # and at test
    test_tasks = 600  # Finn et al. 2017, and the authors' code
    block = 100  # tasks of a test in memory at once; which tasks are drawn depends on it
    worst = float("inf")  # a score above it, or one that is not a number, counts as diverged
    mean_scale = 1.0  # the authors' summed loss in units of our mean loss

    def __getstate__(self):
        """Return what another process needs, which makes the network anew."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def curve_label(self) -> str:
        """What a curve of a test is of."""
        return self.setting

    @property
    def flat_model(self):
        """The network, with a last layer that sees all positions of an image."""
        return self.model

    def replace(self, **changed) -> "Problem":
        """Return the same problem with other settings."""
        return replace(self, **changed)

    def blocks(self, split: str, rng: np.random.Generator, n_tasks: int) -> Iterator[Task]:
        """Yield tasks of a split, block after block."""
        source = self.tasks(split)
        for start in range(0, n_tasks, self.block):
            yield source.sample(rng, min(self.block, n_tasks - start))

    def result(self, mean: float, half: float, diverged: int) -> str:
        """Return a score with its interval as text, and how many tasks it leaves out."""
        return self.number(mean, half) + f" ({diverged} diverged)" * (diverged > 0)

    def figures(self, run, method, params: dict, rng: Callable) -> list[Path]:
        """Draw the problem's own figures into a run's folder, and return their paths."""
        return []
