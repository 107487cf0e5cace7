"""Model-Agnostic Meta-Learning (Finn, Abbeel, Levine 2017), Algorithm 1 and nothing else."""

from numbers import Real

import numpy as np

from ..engine.backend import array_module
from ..engine.grad import grad
from ..engine.ops import descend
from ..engine.ops.shape import broadcast_to
from ..engine.tensor import Tensor, raw, recording, tensor
from ..tasks.episode import Batch, Task


def adapt(loss, params, support, *, lr, steps=1, first_order=False):
    """Adapt parameters to a task: theta' = theta - alpha grad L(theta), ``steps`` times.

    Algorithm 1, lines 5 and 6.

    Parameters
    ----------
    loss : function
        ``loss(params, x, y)``: one value per task.
    params : dict of str to Tensor
        theta. With a leading task axis on every parameter if ``support`` has one.
    support : Batch
        The examples to adapt on: of one task, or of many with a leading task axis.
    lr : float or dict
        alpha, or one for each parameter; a parameter of rate 0 is not adapted.
    steps : int
        Gradient steps.
    first_order : bool
        Take the gradients as constants: what follows does not differentiate through them.

    Returns
    -------
    dict of str to Tensor
        theta', differentiable with respect to ``params``.

    Examples
    --------
    One step on the loss (theta - x)^2 from theta = 1 towards x = 3:

    >>> import numpy as np, tinymaml as tm
    >>> loss = lambda params, x, y: ((params["theta"] - x) ** 2).mean()
    >>> theta = {"theta": tm.tensor(1.0, requires_grad=True)}
    >>> tm.maml.adapt(loss, theta, tm.Batch(np.array([3.0]), None), lr=0.25)["theta"].item()
    2.0
    """
    if steps < 0:
        raise ValueError(f"steps is {steps}; give 0 or more gradient steps")
    rates = lr if isinstance(lr, dict) else dict.fromkeys(params, lr)
    if rates.keys() != params.keys():
        raise ValueError(
            f"lr has rates for {', '.join(rates) or 'nothing'}, but the parameters are "
            f"{', '.join(params)}; give one for each (0 for those that stay)"
        )
    moving = [name for name, rate in rates.items() if not _is_zero(rate)]
    support = _beside(params, support)
    for _ in range(steps):
        params = {name: _differentiable(p) for name, p in params.items()}
        with recording(True):
            values = loss(params, *support).sum()
            targets = {name: params[name] for name in moving}
            gradient = grad(values, targets, create_graph=not first_order)
        params = params | {n: descend(params[n], gradient[n], rates[n]) for n in moving}
    return params


def meta_loss(loss, params, tasks, *, lr, steps=1, first_order=False):
    """Mean over tasks of the query loss after adaptation: the meta-objective, Equation 1.

    Its gradient with respect to ``params`` is the meta-gradient (Algorithm 1, line 8), through the
    inner gradients unless ``first_order``.

    Parameters
    ----------
    loss, lr, steps, first_order
        As :func:`adapt`.
    params : dict of str to Tensor
        theta, without a task axis.
    tasks : Task
        Support and query; every array has a leading task axis.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ValueError
        If the arrays differ in their number of tasks, or the loss averages over tasks.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> model = tm.nn.mlp((1, 8, 1))
    >>> params = model.init(np.random.default_rng(0))
    >>> loss = lambda params, x, y: tm.nn.mse_loss(model(params, x), y)
    >>> batch = tm.Batch(np.ones((4, 10, 1)), np.ones((4, 10, 1)))  # four tasks of ten points
    >>> value = tm.maml.meta_loss(loss, params, tm.Task(batch, batch), lr=0.01)
    >>> gradient = tm.grad(value, params)
    """
    tasks = Task(*[_beside(params, batch) for batch in tasks])
    n_tasks = len(tasks.support.x)
    lengths = [len(a) for batch in tasks for a in batch]
    if lengths != [n_tasks] * 4:
        raise ValueError(
            "every array in tasks needs the same leading task axis, but support x, y and query "
            f"x, y have {', '.join(map(str, lengths))} tasks"
        )
    params = per_task(params, n_tasks)
    adapted = adapt(loss, params, tasks.support, lr=lr, steps=steps, first_order=first_order)
    values = loss(adapted, *tasks.query)
    if values.shape != (n_tasks,):
        raise ValueError(
            f"the loss gave shape {values.shape} for {n_tasks} tasks; it must give one value per "
            "task, a mean over examples but not over tasks"
        )
    return values.mean()


def per_task(params, n_tasks):
    """Give every parameter a leading task axis: each task starts from its own theta.

    Examples
    --------
    >>> import tinymaml as tm
    >>> tm.maml.per_task({"bias": tm.tensor([0.0, 0.0])}, 25)["bias"].shape
    (25, 2)
    """
    return {name: broadcast_to(p, (n_tasks, *p.shape)) for name, p in params.items()}


def _differentiable(p):
    return p if type(p) is Tensor and p.requires_grad else tensor(p, requires_grad=True)


def _is_zero(rate):
    if not isinstance(rate, Real):  # learned rates, as tensors
        return False
    if not rate >= 0:
        raise ValueError(f"the inner rate is {rate}; give 0 or more")
    return rate == 0


def _beside(params, batch):
    """Move NumPy arrays of a batch to where the parameters are, as a GPU needs."""
    module = array_module(raw(next(iter(params.values()))))
    if module is np:
        return batch
    return Batch(*[module.asarray(a) if isinstance(a, np.ndarray) else a for a in batch])
