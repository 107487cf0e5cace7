"""Scores on test tasks, step by step of adaptation, with their intervals."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..engine.backend import asarray, to_numpy
from ..engine.tensor import no_grad, raw
from ..learners import Learner
from ..learners.learner import Params
from ..parallel.group import map_chunks
from ..tasks import Batch, Task


def evaluate(experiment, params: Params, tasks: Task, steps: int) -> np.ndarray:
    """Score the query of each task before adaptation and after every gradient step.

    Parameters
    ----------
    experiment : Experiment
    params : dict of str to Tensor
    tasks : Task
        With a leading task axis.
    steps : int
        Steps of adaptation.

    Returns
    -------
    array of float64, shape (n_tasks, steps + 1)
        The metric of the experiment's problem.
    """
    problem = experiment.problem
    options = {"steps": range(steps + 1), "chunk": problem.test_chunk}
    return score_tasks(experiment.learner, params, [tasks], problem.score, **options)


def score_tasks(
    learner: Learner,
    params: Params,
    blocks: Iterable[Task],
    score: Callable,
    *,
    steps: Sequence[int] = (0,),
    chunk: int = 100,
    bar=None,
) -> np.ndarray:
    """Let a learner see the support of each task, and score its predictions for the query.

    Parameters
    ----------
    learner : Learner
    params : dict of str to Tensor
    blocks : iterable of Task
        With a leading task axis. They are taken one after another, so that only one need be in
        memory.
    score : function
        ``score(prediction, y)`` of raw arrays: one number per task; or one for each of ``steps``,
        (n_tasks, more), of a learner with a single prediction.
    steps : sequence of int
        Numbers of adaptation steps after which to score, rising. A learner that takes no steps
        scores the same after any number of them.
    chunk : int
        Tasks taken at once.
    bar : tqdm, optional
        Shows how many tasks are done.

    Returns
    -------
    array of float64, shape (n_tasks, len(steps))
    """
    predictions = getattr(type(learner), "predictions", Learner.predictions)

    def of_chunk(tasks):
        support, query = (Batch(*map(asarray, batch)) for batch in tasks)
        with no_grad():
            said = predictions(learner, params, support, query.x, steps)
            scores = [score(raw(y), query.y) for y in said]
        scores = np.column_stack([to_numpy(s) for s in scores]).astype(float)
        # one that takes no steps scores the same after any number of them
        return scores[:, np.minimum(range(len(steps)), scores.shape[1] - 1)]

    parts = []
    for tasks in blocks:
        starts = range(0, len(tasks.support.x), chunk)
        for scores in map_chunks(of_chunk, [tasks.part(i, i + chunk) for i in starts]):
            parts.append(scores)
            if bar is not None:
                bar.update(len(scores))
    return np.concatenate(parts)


def summarise(scores: np.ndarray, worst: float = math.inf) -> dict:
    """Return the mean, its 95 % interval and the count of diverged tasks after every step.

    Half the interval is 1.96 standard deviations (of the population) over the root of the number
    of tasks, as in the authors' code. Scores above ``worst`` and those that are not a number are
    counted and left out of the mean.

    Examples
    --------
    >>> summary = summarise(np.array([[1.0], [3.0], [np.nan]]))
    >>> summary["mean"], summary["diverged"], round(summary["ci95"][0], 3)
    ([2.0], [1], 1.386)
    """
    good = scores <= worst  # False for NaN
    columns = [column[kept] for column, kept in zip(scores.T, good.T)]
    return {
        "mean": [float(c.mean()) if c.size else math.nan for c in columns],
        "ci95": [float(1.96 * c.std() / c.size**0.5) if c.size else math.nan for c in columns],
        "diverged": (~good).sum(axis=0).tolist(),
        "tasks": len(scores),
    }
