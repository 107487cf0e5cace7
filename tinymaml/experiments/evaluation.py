"""Scores on test tasks, step by step of adaptation, with their intervals."""

import math

import numpy as np

from ..engine.backend import asarray, to_numpy
from ..engine.tensor import no_grad
from ..learners.maml import adapt, per_task
from ..parallel.threads import map_chunks
from ..tasks import Batch


def evaluate(experiment, params, tasks, steps):
    """Score the query of each task before adaptation and after every gradient step.

    Parameters
    ----------
    experiment : Experiment
    params : dict of str to Tensor
        theta, without a task axis.
    tasks : Task
        With a leading task axis.
    steps : int
        Gradient steps.

    Returns
    -------
    array of float64, shape (n_tasks, steps + 1)
        The experiment's metric.
    """
    return score_tasks(experiment, params, [tasks], (experiment.score, range(steps + 1)))[0]


def score_tasks(experiment, params, blocks, *wanted):
    """Adapt to each task and score it by several measures, each after some gradient steps.

    Parameters
    ----------
    experiment, params
        As :func:`evaluate`.
    blocks : iterable of Task
        With a leading task axis. One is taken after the other, so that no more of them than one
        need be in memory.
    *wanted : (function, sequence of int)
        ``score(params, support, query)``, one number per task, and the steps after which to take
        it, in rising order.

    Returns
    -------
    list of array of float64, shape (n_tasks, len(steps))
        One for each of ``wanted``.
    """
    rates, size = experiment.rates(params), experiment.test_chunk
    last = max(step for _, steps in wanted for step in steps)

    def one(chunk):
        support, query = (Batch(*map(asarray, batch)) for batch in chunk)
        adapted = per_task({name: p.detach() for name, p in params.items()}, len(support.x))
        scores = [[] for _ in wanted]
        for step in range(last + 1):
            if step:
                adapted = adapt(experiment.loss, adapted, support, lr=rates, first_order=True)
                adapted = {name: p.detach() for name, p in adapted.items()}
            with no_grad():
                for column, (score, steps) in zip(scores, wanted):
                    if step in steps:
                        column.append(to_numpy(score(adapted, support, query)))
        return [np.stack(column, axis=1).astype(float) for column in scores]

    parts = []
    for tasks in blocks:
        starts = range(0, len(tasks.support.x), size)
        parts += map_chunks(one, [tasks.part(start, start + size) for start in starts])
    return [np.concatenate(scores) for scores in zip(*parts)]


def summarise(scores, worst=math.inf):
    """Return mean, 95 % interval and count of diverged tasks after every step.

    The interval is 1.96 standard deviations (of the population) over the root of the number of
    tasks, as in the authors' code. Scores that are no number or above ``worst`` are counted and
    left out of the mean.

    Examples
    --------
    >>> summary = summarise(np.array([[1.0], [3.0], [np.nan]]))
    >>> summary["mean"], summary["diverged"], round(summary["ci95"][0], 3)
    ([2.0], [1], 1.386)
    """
    good = scores <= worst  # False for NaN
    mean, interval = [], []
    for column, keep in zip(scores.T, good.T):
        kept = column[keep]
        mean.append(float(kept.mean()) if kept.size else math.nan)
        interval.append(float(1.96 * kept.std() / math.sqrt(kept.size)) if kept.size else math.nan)
    return {
        "mean": mean,
        "ci95": interval,
        "diverged": (~good).sum(axis=0).tolist(),
        "tasks": len(scores),
    }
