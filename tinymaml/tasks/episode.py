"""What every source of tasks yields: a support to adapt to, and a query to be scored on."""

from typing import Any, NamedTuple

from ..engine.structure import map_leaves


class Batch(NamedTuple):
    """Inputs and targets of one task, or of many with a leading task axis.

    Attributes
    ----------
    x : array, shape (..., n, *example)
        Inputs, for example (25, 10, 1) for ten points of each of 25 sinusoids.
    y : array, shape (..., n) or (..., n, k)
        Integer labels or regression targets.

    Examples
    --------
    >>> import numpy as np
    >>> Batch(np.zeros((25, 10, 1)), np.zeros((25, 10, 1))).x.shape
    (25, 10, 1)
    """

    x: Any
    y: Any


class Task(NamedTuple):
    """A task: its support batch (D in the paper) and its query batch (D').

    Attributes
    ----------
    support : Batch
        The examples that the model adapts to (Finn et al. 2017, Algorithm 2, line 5).
    query : Batch
        The examples that score the adapted model (line 8).

    Examples
    --------
    >>> import numpy as np
    >>> batch = Batch(np.zeros((10, 1)), np.zeros((10, 1)))
    >>> Task(support=batch, query=batch).query.y.shape
    (10, 1)
    """

    support: Batch
    query: Batch

    def part(self, start: int, stop: int) -> "Task":
        """Return the tasks ``start`` to ``stop`` - 1 of many with a leading task axis.

        Examples
        --------
        >>> import numpy as np
        >>> batch = Batch(np.zeros((25, 10, 1)), np.zeros((25, 10, 1)))
        >>> Task(batch, batch).part(0, 5).support.x.shape
        (5, 10, 1)
        """
        return map_leaves(lambda array: array[start:stop], self)


class Prepared(NamedTuple):
    """Tasks with what else an objective takes of a training step, such as random numbers.

    Attributes
    ----------
    support, query : Batch
    extra : dict of str to array
        Each with a leading task axis.

    Examples
    --------
    >>> import numpy as np
    >>> batch = Batch(np.zeros((25, 10, 1)), np.zeros((25, 10, 1)))
    >>> Prepared(batch, batch, {"noise": np.zeros((25, 3))}).part(0, 5).extra["noise"].shape
    (5, 3)
    """

    support: Batch
    query: Batch
    extra: dict[str, Any]

    part = Task.part
