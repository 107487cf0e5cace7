"""The loop round Algorithm 1."""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from .autograd import grad
from .maml import meta_loss
from .tasks import Batch, Task
from .tensor import Tensor


@cache
def _pool():
    return ThreadPoolExecutor(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "chunk",
    )


@cache
def _controller():
    return ThreadpoolController()


@cache
def _keep_freed_memory():
    """Ask the C library (glibc) to keep freed memory rather than give it back to the system.

    A step frees and takes the same few hundred megabytes over and over, and the system clears
    every page anew: a fifth of an Omniglot step, and a tenth of a MiniImageNet one.
    """
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # the numbers of <malloc.h>
    with suppress(OSError, AttributeError):  # another system, another allocator
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(arena_max, 1)  # else every thread keeps its own


def single_threaded_blas():
    """Hold the linear algebra library to one thread inside a ``with`` block.

    Results then do not depend on how many cores there are.
    """
    return _controller().limit(limits=1, user_api="blas")


def meta_gradient(loss, params, tasks, *, lr, steps=1, first_order=False, chunk=None):
    """Return the meta-loss of a batch of tasks and its gradient.

    Parameters
    ----------
    loss, params, tasks, lr, steps, first_order
        As :func:`tinymaml.maml.meta_loss`.
    chunk : int, optional
        Tasks taken at once; chunks run on a pool of threads. All at once by default. Large
        networks fit the caches only in chunks; the chunks are the same, and are added in the same
        order, however many cores there are.

    Returns
    -------
    float, dict of str to Tensor
    """
    n = len(tasks.support.x)

    def one(start):
        part = slice(start, start + chunk)
        some = Task(*[Batch(*[a[part] for a in batch]) for batch in tasks])
        weight = len(some.support.x) / n
        value = meta_loss(loss, params, some, lr=lr, steps=steps, first_order=first_order) * weight
        return value.data, grad(value, params)

    if chunk is None or chunk >= n:
        chunk = n
        value, gradient = one(0)
        return value, gradient
    starts = range(0, n, chunk)
    _keep_freed_memory()
    if isinstance(next(iter(params.values())).data, np.ndarray):
        with single_threaded_blas():
            parts = list(_pool().map(one, starts))
    else:  # a GPU is kept busy by one thread
        parts = list(map(one, starts))
    value, total = parts[0]
    total = {name: g.data for name, g in total.items()}
    for v, gradient in parts[1:]:
        value = value + v
        total = {name: g + gradient[name].data for name, g in total.items()}
    return value, {name: Tensor(g) for name, g in total.items()}
