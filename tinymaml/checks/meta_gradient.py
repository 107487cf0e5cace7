"""Proof that a meta-gradient is right: against finite differences of the meta-loss itself."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..engine import backend
from ..engine.func import _gradients
from ..engine.structure import leaves, map_leaves, names, rebuild
from ..engine.tensor import raw
from ..learners import maml
from ..tasks import Task
from . import gradients


@dataclass(frozen=True)
class MetaGradientCheck:
    """What :func:`check_meta_gradient` found; as a string, its table and verdict.

    Attributes
    ----------
    verdict : str
        Begins with "right" or "wrong".
    max_difference : float
        Between the second-order meta-gradient and finite differences, relative to the largest.
    cosine : float
        Between the two.
    table : str
    """

    verdict: str
    max_difference: float
    cosine: float
    table: str = field(repr=False)  # notebooks show the result after it was printed

    def __str__(self):
        return f"{self.table}\n{self.verdict}"


def check_meta_gradient(
    loss: Callable,
    params: dict,
    tasks: Task,
    lr: float | dict,
    steps: int,
    meta_loss: Callable | None = None,
) -> MetaGradientCheck:
    """Compare the meta-gradient with finite differences, print a table, and say what is wrong.

    Everything is done in float64, whatever comes in. Every element of a parameter is varied, or
    five random directions if it has more than 20. Where a relu or a maximum changes its
    choice within the step, finite differences mean nothing; such an entry is left out, and counted.

    Parameters
    ----------
    loss : function
        ``loss(params, x, y)``: one value per task.
    params : dict of str to Tensor or array
        theta, without a task axis.
    tasks : Task
        Support and query; every array has a leading task axis. A few small tasks will do.
    lr : float or dict
    steps : int
        Of the inner loop.
    meta_loss : function, optional
        An implementation to check: takes what :func:`tinymaml.maml.meta_loss`, the default, takes,
        and must give the same value.

    Returns
    -------
    MetaGradientCheck

    Raises
    ------
    ValueError
        If the meta-loss is not finite, is random, or no finite difference is smooth.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> model = tm.nn.mlp((1, 3, 1))
    >>> params = model.init(np.random.default_rng(0))
    >>> loss = lambda params, x, y: tm.nn.mse_loss(model(params, x), y)
    >>> x = np.linspace(-1, 1, 10).reshape(2, 5, 1)
    >>> batch = tm.Batch(x, np.sin(x))
    >>> check = tm.check_meta_gradient(loss, params, tm.Task(batch, batch), lr=0.1, steps=1)
    ... # doctest: +ELLIPSIS
    parameter ...
    right: ...
    """
    meta_loss = meta_loss or maml.meta_loss
    theta = map_leaves(lambda p: gradients.host(p).astype(float), params)
    tasks = map_leaves(_on_backend, tasks)

    def objective(first_order=False, meta_loss=meta_loss, tasks=tasks):
        options = {"lr": lr, "steps": steps, "first_order": first_order}
        return lambda *arrays: meta_loss(loss, rebuild(theta, iter(arrays)), tasks, **options)

    def value(**options):
        return float(gradients.host(gradients.run(objective(**options), arrays)[1][0]))

    arrays = leaves(theta)
    values = value(), value()
    if not np.isfinite(values[0]):
        raise ValueError(f"the meta-loss is {values[0]}, so there is no meta-gradient to check")
    if values[0] != values[1]:
        raise ValueError(
            f"the meta-loss is random, {values[0]} and then {values[1]}; draw random numbers "
            "outside of the loss"
        )
    usual = value(meta_loss=maml.meta_loss)
    one_by_one = [map_leaves(lambda a, t=t: a[t : t + 1], tasks) for t in range(len(tasks[0].x))]
    try:
        alone = np.mean([value(meta_loss=maml.meta_loss, tasks=task) for task in one_by_one])
    except ValueError:  # the loss has not one value for one task
        alone = math.nan
    seed = [np.ones(())]

    def gradient(*options):
        xs, ys = gradients.run(objective(*options), arrays)
        return [g.numpy() for g in _gradients(ys[:1], xs, seed, False)]

    second, first = gradient(False), gradient(True)
    usual_first = gradient(True, maml.meta_loss)
    rng = np.random.default_rng(0)
    columns, skipped = [], 0
    for i, x in enumerate(arrays):
        found = []
        for _, v in gradients.directions(x, 20, 5, rng):
            v = v / np.linalg.norm(v)
            numeric = _smooth_difference(objective(), arrays, i, v)
            if numeric is None:
                skipped += 1
            else:
                found.append((np.sum(second[i] * v), numeric, np.sum(first[i] * v)))
        columns.append(np.array(found).reshape(-1, 3).T)
    every = np.concatenate(columns, axis=1)
    if not every.size:
        raise ValueError(
            "no finite difference is smooth: a relu or maximum changes its choice at every step; "
            "take fewer or smaller tasks"
        )
    scale = np.abs(every[1]).max()
    differences = [
        (np.abs(a - n).max(initial=0), 1e-3 * np.abs(n).max(initial=0) + 1e-5 * scale)
        for a, n, _ in columns
    ]
    if not np.isclose(alone, usual, rtol=1e-6):
        verdict = (
            f"wrong: the meta-loss of all tasks is {usual:.8g}, but the mean of one task at a time "
            f"is {alone:.8g}; the loss mixes the task axis with another"
        )
    elif not np.isclose(values[0], usual, rtol=1e-6):
        verdict = f"wrong: the value is {values[0]:.8g}, but that of maml.meta_loss is {usual:.8g}"
    elif any(difference > allowed for difference, allowed in differences):
        options = {"lr": lr, "steps": steps}
        verdict = f"wrong: {_cause(loss, theta, tasks, options, second, usual_first)}"
    elif not _equal(first, usual_first):
        what = "is ignored" if _equal(first, second) else "gives another than maml.meta_loss"
        verdict = f"wrong: the second-order meta-gradient is right, but first_order=True {what}"
    else:
        verdict = "right: the second-order meta-gradient agrees with finite differences"
    if skipped:
        verdict += f" ({skipped} entries left out: a choice changes within the step there)"
    result = MetaGradientCheck(
        verdict,
        float(max(difference for difference, _ in differences) / (scale or 1)),
        _cosine(every[0], every[1]),
        _table(names(theta), arrays, columns),
    )
    print(result)
    return result


def _on_backend(leaf):
    """Return an array of a task as the loss takes it, on the backend, in float64 if it is float."""
    if gradients.is_float(leaf):
        return backend.asarray(gradients.host(leaf).astype(float))
    return backend.asarray(raw(leaf)) if hasattr(leaf, "shape") else leaf


def _smooth_difference(call, arrays, i, v):
    """Return the derivative along v as two steps that agree give it; None if no two do."""

    def value(h):
        _, (y, *_) = gradients.run(call, [*arrays[:i], arrays[i] + h * v, *arrays[i + 1 :]])
        return float(gradients.host(y))

    before = None
    for eps in (1e-5, 1e-6, 1e-7, 1e-8):
        plus, minus = value(eps), value(-eps)
        now = (plus - minus) / (2 * eps)
        if before is not None and abs(now - before) <= 1e-4 * abs(now) + 1e-7 * abs(plus):
            return before  # the larger step has the smaller rounding error
        before = now
    return None


def _equal(ones, others):
    return all(np.allclose(a, b, rtol=1e-9, atol=1e-14) for a, b in zip(ones, others))


def _cosine(a, b):
    lengths = np.sqrt(np.sum(a * a) * np.sum(b * b))
    return float(np.sum(a * b) / lengths) if lengths else 1.0


def _table(labels, arrays, columns):
    """Return a row for each parameter: its largest entry in all three, and how they differ.

    The cosines are of the second and of the first order with finite differences.
    """
    head = f"{'parameter':<24}{'differences':>13}{'second order':>14}{'max diff.':>11}"
    lines = [head + f"{'cosine':>10}{'first order':>14}{'cosine':>10}"]
    for label, x, (a, n, f) in zip(labels, arrays, columns):
        line = f"{label[2:-2] or 'theta'} {x.shape}".ljust(24)
        if n.size:
            k = np.argmax(np.abs(n))
            line += f"{n[k]:>13.5e}{a[k]:>14.5e}{np.abs(a - n).max():>11.1e}{_cosine(a, n):>10.6f}"
            line += f"{f[k]:>14.5e}{_cosine(f, n):>10.6f}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _cause(loss, theta, tasks, options, second, first):
    """Return why a meta-gradient is wrong, as far as the loss of the first task tells."""
    one = map_leaves(lambda a: a[0] if np.ndim(a) else a, tasks)
    adapted = maml.adapt(loss, theta, one.support, **options)

    for batch, params in ((one.support, theta), (one.query, adapted)):

        def task_loss(*arrays, batch=batch):
            return loss(rebuild(theta, iter(arrays)), *batch)

        arrays = [gradients.host(p) for p in leaves(params)]
        culprit = gradients.find_culprit(task_loss, arrays, True)
        if culprit:
            return culprit
        try:
            gradients.gradcheck(task_loss, tuple(arrays))
            gradients.gradgradcheck(task_loss, tuple(arrays))
        except gradients.GradientError:
            return (
                "every op of the loss is right by itself, so a value left the graph in the loss, "
                "through .data, .numpy(), .item() or .detach()"
            )
    if _equal(second, first):
        return (
            "the second-order gradient equals the first-order one; "
            "create_graph is missing in the inner loop"
        )
    return "the loss is right, so a value left the graph in the adaptation or after it"
