"""The gradient of an objective over many tasks, taken in chunks of tasks."""

from collections.abc import Callable
from itertools import pairwise

from ..engine.backend import get_backend
from ..engine.grad import grad
from ..engine.tensor import Tensor
from .group import current, map_chunks


def gradient_by_chunks(
    objective: Callable[[dict, tuple], Tensor],
    params: dict[str, Tensor],
    tasks: tuple,
    chunk: int | None = None,
    of_chunk: Callable | None = None,
) -> tuple:
    """Return a mean over tasks and its gradient.

    Large networks fit the caches only in chunks of tasks. Chunks are shared out by
    :func:`~.group.map_chunks`, and their gradients are added in order: the result is the same
    however many cores, processes and machines there are.

    Parameters
    ----------
    objective : function
        ``objective(params, tasks)``: a scalar, the mean over the tasks.
    params : dict of str to Tensor
    tasks : Task
        With a leading task axis.
    chunk : int, optional
        The most tasks taken at once, all by default and on a GPU. Chunks are as equal as can be.
    of_chunk : function, optional
        In place of :func:`value_and_gradient` of the objective, such as that compiled.

    Returns
    -------
    array, shape ()
    dict of str to Tensor
    """
    n = len(tasks.support.x)
    chunk = n if get_backend() == "cupy" else chunk  # a GPU wants few large steps
    count = max(1, -(-n // (chunk or n or 1)))
    edges = [n * i // count for i in range(count + 1)]

    of_chunk = of_chunk or value_and_gradient(objective)

    def of_part(part):
        value, gradient = of_chunk(params, part, len(part.support.x) / n)
        return value.data, {name: g.data for name, g in gradient.items()}

    if count == 1 and current().size == 1:
        value, total = of_part(tasks)
    else:
        parts = map_chunks(of_part, [tasks.part(*pair) for pair in pairwise(edges)])
        value, total = next(parts)
        for v, gradient in parts:
            value = value + v
            total = {name: g + gradient[name] for name, g in total.items()}
    return value, {name: Tensor(g) for name, g in total.items()}


def value_and_gradient(objective: Callable[[dict, tuple], Tensor]) -> Callable:
    """Return the function of (params, tasks, share) that gives a share of an objective's mean.

    It gives that and its gradient.
    """

    def chunk(params, tasks, share):
        value = objective(params, tasks) * share
        return value, grad(value, params)

    return chunk
