"""Walking through large arrays a cache-full at a time.

A pass over memory costs more than the arithmetic of an elementwise step, so convolution and batch
norm do all their steps on one block before they go on to the next. A GPU wants the opposite, few
large steps, so there everything is one block.
"""

import math

import numpy as np


def blocks(array, tasks, items, item_size, limit):
    """Return pairs of slices (of tasks, of items within a task) that cover everything in order.

    The first pair is the largest; there is one, an empty one, even where there is no work.

    Parameters
    ----------
    array : array
        Says where the work is done and how large an element is.
    tasks, items : int
        How many tasks there are, and items (images, rows) in each.
    item_size : int
        Elements that the work on one item holds in cache.
    limit : int
        Bytes of a block.

    Examples
    --------
    >>> for t, i in blocks(np.zeros(1), 2, 3, item_size=8, limit=2 * 64):
    ...     print(t.start, t.stop, i.start, i.stop)
    0 1 0 2
    0 1 2 3
    1 2 0 2
    1 2 2 3
    """
    if not (tasks and isinstance(array, np.ndarray)):
        return [(slice(0, tasks), slice(0, items))]
    fit = max(1, limit // max(1, item_size * array.itemsize))
    if fit >= items:
        step = max(1, fit // max(1, items))
        return [(slice(t, min(t + step, tasks)), slice(0, items)) for t in range(0, tasks, step)]
    step = -(-items // -(-items // fit))  # even parts rather than full ones and a small rest
    return [
        (slice(t, t + 1), slice(i, min(i + step, items)))
        for t in range(tasks)
        for i in range(0, items, step)
    ]


def task_axis(lead, array, core):
    """Broadcast the leading axes of ``array`` to ``lead`` and view them as one task axis.

    Examples
    --------
    >>> task_axis((2, 3), np.zeros((3, 5)), core=1).shape
    (6, 5)
    """
    inner = array.shape[array.ndim - core :]
    if array.shape[: array.ndim - core] != lead:
        array = np.broadcast_to(array, lead + inner)
    return array if len(lead) == 1 else array.reshape((math.prod(lead), *inner))
