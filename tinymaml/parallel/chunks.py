"""The gradient of an objective over many tasks, taken in chunks of tasks."""

from collections.abc import Callable

from ..engine.grad import grad
from ..engine.tensor import Tensor
from .threads import map_chunks


def gradient_by_chunks(
    objective: Callable[[dict, tuple], Tensor],
    params: dict[str, Tensor],
    tasks: tuple,
    chunk: int | None = None,
) -> tuple:
    """Return a mean over tasks and its gradient.

    Large networks fit the caches only in chunks of tasks. Chunks run on a pool of threads, and
    their gradients are added in order: the result is the same however many cores there are.

    Parameters
    ----------
    objective : function
        ``objective(params, tasks)``: a scalar, the mean over the tasks.
    params : dict of str to Tensor
    tasks : Task
        With a leading task axis.
    chunk : int, optional
        Tasks taken at once, all by default.

    Returns
    -------
    array, shape ()
    dict of str to Tensor
    """
    n = len(tasks.support.x)
    chunk = n if chunk is None else min(chunk, n)

    def of_chunk(start):
        part = tasks.part(start, start + chunk)
        value = objective(params, part) * (len(part.support.x) / n)
        return value.detach(), grad(value, params)

    parts = map_chunks(of_chunk, range(0, n, chunk)) if chunk < n else iter([of_chunk(0)])
    value, total = next(parts)
    for v, gradient in parts:  # as tensors, so that a program sees it
        value = value + v
        total = {name: g + gradient[name] for name, g in total.items()}
    return value.data, total
