"""Model-Agnostic Meta-Learning (Finn, Abbeel & Levine 2017), Algorithm 1.

Each task T_i starts from the same theta and takes gradient steps on its support (line 6),

    theta'_i = theta - alpha grad_theta L_Ti(f_theta),

and theta descends the loss of theta'_i on the query, by the gradient through these steps (line 8,
Equation 1):

    theta <- theta - beta grad_theta sum_i L_Ti(f_theta'_i).

Here the sum is a mean over the tasks. First-order MAML takes grad_theta L_Ti(f_theta) as a
constant (section 5.2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np

from ..engine.backend import array_module
from ..engine.grad import grad
from ..engine.ops import descend
from ..engine.ops.shape import astype, broadcast_to
from ..engine.tensor import Tensor, raw, tensor, thread, transform
from ..nn import Layer
from ..parallel.chunks import gradient_by_chunks
from ..tasks import Batch, Task
from .learner import Array, GradientLearner, Params

Loss = Callable[[Params, Array, Array], Tensor]  # of (params, x, y): one value per task
Rates = float | Tensor | dict[str, float | Tensor]


def adapt(
    loss: Loss,
    params: Params,
    support: Batch,
    *,
    lr: Rates,
    steps: int = 1,
    first_order: bool = False,
) -> Params:
    """Adapt parameters to a task: theta' = theta - alpha grad L(theta), ``steps`` times.

    Algorithm 1, lines 5 and 6.

    Parameters
    ----------
    loss : function
        ``loss(params, x, y)``: one value per task.
    params : dict of str to Tensor
        theta. With a leading task axis on every parameter if ``support`` has one.
    support : Batch
        The examples to adapt to: of one task, or of many with a leading task axis.
    lr : float or dict
        alpha, or one for each parameter; a parameter of rate 0 is not adapted.
    steps : int
        Gradient steps.
    first_order : bool
        Take the gradients as constants: theta' is not differentiated through them.

    Returns
    -------
    dict of str to Tensor
        theta', differentiable with respect to ``params``.

    Raises
    ------
    ValueError
        If ``steps`` or a rate is negative, or ``lr`` lacks a parameter.

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
    lr = _rate_of_each(lr, params)
    support = _on_backend_of(params, support)
    theta = {name: _differentiable(p) for name, p in params.items()}
    params = {name: p for name, p in theta.items() if name in lr}
    with transform():
        for _ in range(steps):
            values = _values(loss(theta | params, *support))
            gradient = grad(values.sum(), params, create_graph=not first_order, allow_unused=True)
            if unused := [name for name, g in gradient.items() if g is None]:
                raise ValueError(
                    f"the loss does not depend on parameter {unused[0]!r}; leave it out of params, "
                    "or give it the rate 0"
                )
            params = {name: descend(p, gradient[name], lr[name]) for name, p in params.items()}
    adapted = theta | params
    return adapted if thread.state.recording else {name: p.detach() for name, p in adapted.items()}


def meta_loss(
    loss: Loss, params: Params, tasks: Task, *, lr: Rates, steps: int = 1, first_order: bool = False
) -> Tensor:
    """Return the meta-objective: the mean over tasks of the query loss after adaptation.

    Its gradient with respect to ``params`` is the meta-gradient (Algorithm 1, line 8; Equation 1).
    Unless ``first_order``, it goes through the inner gradients.

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
    tasks = Task(*[_on_backend_of(params, Batch(*batch)) for batch in tasks])
    n_tasks = len(tasks.support.x)
    lengths = [len(a) for batch in tasks for a in batch]
    if lengths != [n_tasks] * 4:
        raise ValueError(
            "every array in tasks needs the same leading task axis, but support x, y and query "
            f"x, y have {', '.join(map(str, lengths))} tasks"
        )
    params = per_task(params, n_tasks)
    adapted = adapt(loss, params, tasks.support, lr=lr, steps=steps, first_order=first_order)
    values = _values(loss(adapted, *tasks.query))
    if values.shape != (n_tasks,):
        raise ValueError(
            f"the loss gave shape {values.shape} for {n_tasks} tasks; it must give one value per "
            "task, a mean over examples but not over tasks"
        )
    return values.mean()


def meta_gradient(
    loss: Loss,
    params: Params,
    tasks: Task,
    *,
    lr: Rates,
    steps: int = 1,
    first_order: bool = False,
    chunk: int | None = None,
) -> tuple[Array, Params]:
    """Return the meta-loss of a batch of tasks and its gradient, taken in chunks of tasks.

    The same as ``tm.grad(tm.maml.meta_loss(...), params)``; see
    :func:`tinymaml.parallel.chunks.gradient_by_chunks`.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> model = tm.nn.mlp((1, 8, 1))
    >>> params = model.init(np.random.default_rng(0))
    >>> loss = lambda params, x, y: tm.nn.mse_loss(model(params, x), y)
    >>> tasks = tm.tasks.SinusoidTasks().sample(np.random.default_rng(1), n_tasks=25)
    >>> value, gradient = tm.maml.meta_gradient(loss, params, tasks, lr=0.01, chunk=10)
    >>> gradient["linear1.weight"].shape
    (1, 8)
    """

    def objective(params, tasks):
        return meta_loss(loss, params, tasks, lr=lr, steps=steps, first_order=first_order)

    return gradient_by_chunks(objective, params, tasks, chunk)


def per_task(params: Params, n_tasks: int) -> Params:
    """Give every parameter a leading task axis: each task starts from its own theta.

    Examples
    --------
    >>> import tinymaml as tm
    >>> tm.maml.per_task({"bias": tm.tensor([0.0, 0.0])}, 25)["bias"].shape
    (25, 2)
    """
    return {name: broadcast_to(p, (n_tasks, *p.shape)) for name, p in params.items()}


@dataclass(frozen=True)
class MAML(GradientLearner):
    """MAML as a learner: theta' = theta - alpha grad L(theta), and theta descends L(theta').

    Parameters
    ----------
    model : Layer
        f; with the task axis on its parameters it serves many tasks at once.
    loss : function
        ``loss(prediction, y)``: one value per task, such as :func:`tinymaml.nn.mse_loss`.
    lr : float or dict of str to float
        alpha, or one for each parameter.
    steps : int
        Gradient steps of the inner loop in training.
    first_order : bool
        Take inner gradients as constants in training.
    test_steps : int, optional
        Gradient steps at test; ``steps`` by default.
    inductive : bool
        At test, normalise by the statistics of the support (inductive) and not by those of the
        batch that is predicted (transductive, as in the paper).

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner = tm.learners.MAML(tm.nn.mlp((1, 40, 40, 1)), tm.nn.mse_loss, lr=0.01)
    >>> params = learner.init(np.random.default_rng(0))
    >>> tasks = tm.tasks.SinusoidTasks().sample(np.random.default_rng(1), n_tasks=25)
    >>> meta_gradient = tm.grad(learner.objective(params, tasks), params)
    >>> learner.predict(params, tasks.support, tasks.query.x).shape
    (25, 10, 1)
    """

    model: Layer
    loss: Callable[[Tensor, Array], Tensor]
    lr: Rates
    steps: int = 1
    first_order: bool = False
    test_steps: int | None = None
    inductive: bool = False

    def task_loss(self, params: Params, x: Array, y: Array) -> Tensor:
        """Return the loss of each task: L_T(f_theta)."""
        return self.loss(self.model(params, x), y)

    def objective(self, params, tasks):
        inner = {"lr": self.lr, "steps": self.steps, "first_order": self.first_order}
        return meta_loss(self.task_loss, params, tasks, **inner)

    def path(self, params, support, steps):
        yield (params := per_task(params, len(support.x)))
        for _ in range(steps):
            yield (params := adapt(self.task_loss, params, support, lr=self.lr, first_order=True))


def _values(values):
    """Return what a loss gave, or say that it is not a tensor."""
    if type(values) is not Tensor:
        raise TypeError(
            f"the loss gave {type(values).__name__}, but it must return a tensor made of the "
            "parameters, one value per task"
        )
    return values


def _rate_of_each(lr, params):
    """Return the rate of every parameter that is adapted, which leaves out those of rate 0."""
    rates = lr if isinstance(lr, dict) else dict.fromkeys(params, lr)
    if not params:
        raise ValueError("params is empty, so there is nothing to adapt; give a dict of tensors")
    if rates.keys() != params.keys():
        raise ValueError(
            f"lr has rates for {', '.join(rates) or 'nothing'}, but the parameters are "
            f"{', '.join(params)}; give one for each (0 for those that stay)"
        )
    rates = {name: _rate(name, rate, params[name]) for name, rate in rates.items()}
    numbers = {name: rate for name, rate in rates.items() if isinstance(rate, float)}
    if wrong := [rate for rate in numbers.values() if not rate >= 0]:
        raise ValueError(f"the inner rate is {wrong[0]}; give 0 or more")
    return {name: rate for name, rate in rates.items() if numbers.get(name) != 0}


def _rate(name, rate, p):
    """Return a rate that leaves its parameter the shape and dtype it has."""
    if isinstance(rate, (float, Real)):  # asking for Real alone is slow
        return float(rate)  # a NumPy number would promote float32
    rate = rate if type(rate) is Tensor else tensor(rate)  # a learned rate is a tensor
    shape, start = np.shape(raw(p)), np.ndim(raw(p)) - rate.ndim
    if start < 0 or any(n not in (1, m) for n, m in zip(rate.shape, shape[start:])):
        raise ValueError(
            f"the inner rate of {name!r} has shape {rate.shape}, but its parameter has {shape}; "
            "give one number, or an array that broadcasts to that"
        )
    return astype(rate, raw(p).dtype) if hasattr(raw(p), "dtype") else rate


def _differentiable(p):
    return p if type(p) is Tensor and p.requires_grad else tensor(p, requires_grad=True)


def _on_backend_of(params, batch):
    """Move NumPy arrays of a batch to where the parameters are, as a GPU needs."""
    module = array_module(raw(next(iter(params.values()))))
    if module is np:
        return batch
    return Batch(*[module.asarray(a) if isinstance(a, np.ndarray) else a for a in batch])
