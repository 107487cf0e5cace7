"""Walking through large arrays a cache-full at a time.

A pass over memory costs more than the arithmetic of an elementwise step, so convolution and batch
norm do all their steps on one block before they go on to the next. A GPU wants the opposite, few
large steps, so there everything is one block.
"""

import math

import numpy as np

#: Bytes of a block: a fraction of a core's second-level cache, which also holds the block's inputs.
BLOCK = 1 << 19


def blocks(array, tasks, items, item_size, limit=BLOCK):
    """Yield pairs of slices (of tasks, of items within a task) that cover everything in order.

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
    >>> list(blocks(np.zeros(1), 2, 3, item_size=8, limit=2 * 64))
    [(slice(0, 1, None), slice(0, 2, None)), (slice(0, 1, None), slice(2, 3, None)), \
(slice(1, 2, None), slice(0, 2, None)), (slice(1, 2, None), slice(2, 3, None))]
    """
    if not isinstance(array, np.ndarray):
        yield slice(0, tasks), slice(0, items)
        return
    fit = max(1, limit // max(1, item_size * array.itemsize))
    if fit >= items:
        step = max(1, fit // max(1, items))
        for t in range(0, tasks, step):
            yield slice(t, min(t + step, tasks)), slice(0, items)
    else:
        for t in range(tasks):
            for i in range(0, items, fit):
                yield slice(t, t + 1), slice(i, min(i + fit, items))


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
