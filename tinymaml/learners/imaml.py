"""Implicit MAML (Rajeswaran, Finn, Kakade & Levine 2019): a meta-gradient without the path.

Each task goes down its loss, held near theta (Equation 3),

    phi_i = argmin over phi of L_i(phi) + lambda/2 |phi - theta|^2,

by gradient steps. Where it ends well, the derivative of phi_i depends on the end alone (Lemma 1),

    d phi_i / d theta = (I + 1/lambda  grad^2 L_i(phi_i))^-1,

and so the meta-gradient g_i of the query's loss L_i^q solves (Equation 7)

    (I + 1/lambda  grad^2 L_i(phi_i)) g_i = grad L_i^q(phi_i).

Some steps of conjugate gradients do, each with one product of the Hessian and a vector (Algorithm
2). Memory does not grow with the steps, and any optimiser may take them.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..engine.grad import grad
from ..engine.tensor import Tensor, no_grad, tensor
from ..nn import Layer
from .learner import Array, GradientLearner
from .maml import adapt, per_task

TINY = 1e-30  # in place of a division by 0 where nothing is left to solve


@dataclass(frozen=True)
class IMAML(GradientLearner):
    """Implicit MAML as a learner. Every parameter is adapted, those of batch norm too.

    Parameters
    ----------
    model : Layer
    loss : function
        ``loss(prediction, y)``: one value per task.
    lr : float
        Of the gradient steps.
    steps, test_steps : int
        Gradient steps in training and at test (None: the same).
    strength : float
        lambda: how strongly phi is held near theta.
    cg_steps : int
        Steps of conjugate gradients.
    inductive : bool
        As of :class:`MAML`.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner = tm.learners.IMAML(tm.nn.mlp((1, 40, 40, 1)), tm.nn.mse_loss, lr=0.01)
    >>> params = learner.init(np.random.default_rng(0))
    >>> tasks = tm.tasks.SinusoidTasks().sample(np.random.default_rng(1), n_tasks=25)
    >>> meta_gradient = tm.grad(learner.objective(params, tasks), params)  # the mean of g_i
    """

    model: Layer
    loss: Callable[[Tensor, Array], Tensor]
    lr: float
    steps: int = 16
    test_steps: int | None = None
    strength: float = 2.0
    cg_steps: int = 5
    inductive: bool = False

    compiles = False  # conjugate gradients work on arrays

    def path(self, params, support, steps):
        theta = phi = per_task(params, len(support.x))

        def held(phi, x, y):
            far = inner({name: p - theta[name] for name, p in phi.items()})
            return self.loss(self.model(phi, x), y) + self.strength / 2 * far

        yield phi
        for _ in range(steps):
            yield (phi := adapt(held, phi, support, lr=self.lr, first_order=True))

    def objective(self, params, tasks):
        with no_grad():  # of the path nothing is kept but its end
            (phi,) = deque(self.path(params, tasks.support, self.steps), maxlen=1)
        phi = {name: tensor(p.data, requires_grad=True) for name, p in phi.items()}
        losses = self.loss(self.model(phi, tasks.query.x), tasks.query.y)
        right = {name: g.data for name, g in grad(losses.sum(), phi).items()}
        near = self.loss(self.model(phi, tasks.support.x), tasks.support.y).sum()
        slope = grad(near, phi, create_graph=True)

        def matrix(v):
            product = grad(slope, phi, grad_outputs=v)
            return {name: v[name] + g.data / self.strength for name, g in product.items()}

        g = conjugate_gradients(matrix, right, self.cg_steps)
        # A scalar of this gradient, and of the value of the loss
        along = sum((params[name] * g[name].mean(0)).sum() for name in params)
        return along + (losses.data.mean() - along.data)


def conjugate_gradients(matrix: Callable[[dict], dict], right: dict, steps: int) -> dict:
    """Solve matrix(x) = right for every task: Hestenes & Stiefel (1952), from x = 0.

    Parameters
    ----------
    matrix : function
        Of a dict of arrays, with a leading task axis: the product of a symmetric positive
        definite matrix with it.
    right : dict of str to array
    steps : int

    Returns
    -------
    dict of str to array
        After as many steps as it has elements, the solution; after fewer, one near to it.
    """
    x, residual, direction = {name: 0 * r for name, r in right.items()}, right, right
    size = inner(right)
    for _ in range(steps):
        product = matrix(direction)
        far = size / (inner(direction, product) + TINY)
        x = _along(x, far, direction)
        residual = _along(residual, -far, product)
        before, size = size, inner(residual)
        direction = _along(residual, size / (before + TINY), direction)
    return x


def inner(a: dict, b: dict | None = None) -> Array:
    """Return the inner product of two dicts of arrays for every task, or of one with itself."""
    products = ((p * (p if b is None else b[name])) for name, p in a.items())
    return sum(p.reshape(len(p), -1).sum(-1) for p in products)


def _along(start, far, direction):
    """Return start + far * direction, with one number ``far`` for each task."""
    return {n: p + far.reshape(-1, *[1] * (p.ndim - 1)) * direction[n] for n, p in start.items()}
