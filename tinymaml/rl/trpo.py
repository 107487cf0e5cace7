"""TRPO: the longest step down a loss that changes the policy by little (Schulman et al. 2015)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..engine.structure import map_leaves
from ..engine.tensor import tensor
from ..learners.learner import Params

Vector = dict[str, np.ndarray]


def dot(a: Vector, b: Vector) -> float:
    """Return the inner product of two dicts of arrays."""
    return sum(float(np.vdot(a[name], b[name])) for name in a)


def conjugate_gradient(
    product: Callable[[Vector], Vector], b: Vector, iterations: int = 10, tolerance: float = 1e-10
) -> Vector:
    """Solve A x = b for a symmetric positive A that is known by its products alone.

    Hestenes & Stiefel 1952. In exact arithmetic it is done after as many iterations as there are
    dimensions.

    Parameters
    ----------
    product : function
        x -> A x.
    b : dict of str to array
    iterations : int
    tolerance : float
        Of the squared length of b - A x.

    Examples
    --------
    >>> solved = conjugate_gradient(lambda x: {"x": 2 * x["x"]}, {"x": np.array([1.0, 4.0])})
    >>> solved["x"]
    array([0.5, 2. ])
    """
    x = {name: np.zeros_like(value) for name, value in b.items()}
    residual, direction, squares = b, b, dot(b, b)
    for _ in range(iterations):
        if squares < tolerance:
            break
        image = product(direction)
        length = squares / dot(direction, image)
        x = {name: x[name] + length * direction[name] for name in b}
        residual = {name: residual[name] - length * image[name] for name in b}
        before, squares = squares, dot(residual, residual)
        direction = {n: residual[n] + squares / before * direction[n] for n in b}
    return x


@dataclass(frozen=True)
class TRPO:
    """The meta-update of the paper: F^-1 gradient, by the length at which the KL is ``max_kl``.

    F is the Hessian of the mean KL of the adapted policies, so to second order the KL of a step s
    is s F s / 2. Its products are of a few tasks, the first ``learner.few`` of each chunk; the
    gradient is of all. The step is shortened until the loss of all has fallen and their KL is
    within its bound; if it never is, theta stays. The numbers are the authors'.
    """

    max_kl: float = 0.01
    damping: float = 1e-5
    iterations: int = 10
    shrink: float = 0.8
    tries: int = 15

    def init(self, theta: Params) -> dict:
        """Return the state before the first update: there is none."""
        return {}

    def __call__(self, learner, theta: Params, chunks: list, state: dict) -> tuple[Params, dict]:
        """Return theta after one update by the experience of a batch of tasks, and the state."""
        whole = [(c.support, c.query) for c in chunks]
        few = map_leaves(lambda array: array[: learner.few], whole)
        loss, gradient = learner.over_tasks(learner.ratio_gradient, theta, whole)

        def product(v):
            image = learner.over_tasks(learner.kl_product, theta, few, v)
            return {name: image[name] + self.damping * v[name] for name in v}

        direction = conjugate_gradient(product, gradient, self.iterations)
        curvature = dot(direction, product(direction))
        length = (2 * self.max_kl / curvature) ** 0.5 if curvature > 0 else 0.0
        for k in range(self.tries if length else 0):
            step = {name: length * self.shrink**k * d for name, d in direction.items()}
            new = {name: _moved(p, step[name]) for name, p in theta.items()}
            new_loss, kl = learner.over_tasks(learner.measure, new, whole)
            if new_loss < loss and kl <= self.max_kl:
                return new, state
        return theta, state


def _moved(p, by):
    return tensor((p.data - by).astype(p.dtype), requires_grad=True)
