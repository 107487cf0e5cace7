"""Chunks of tasks on a pool of threads.

NumPy releases Python's lock while it computes, so chunks of tasks run side by side, each with its
linear algebra on one thread. A chunk fits a core's caches; the whole batch would not.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import cache, partial
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from ..engine.backend import get_backend


def on_threads(function: Callable, chunks: Iterable) -> Iterator:
    """Yield ``function(chunk)`` of every chunk in order, computed on as many threads as cores."""
    if get_backend() == "cupy":  # a GPU is kept busy by one thread
        yield from map(function, chunks)
        return
    keep_freed_memory()
    share = map if cores() == 1 else _pool().map  # in a browser no thread can be started
    with single_threaded_blas():
        yield from share(partial(quietly, function), chunks)


class Own(threading.local):
    """What every thread makes for itself.

    Examples
    --------
    >>> numbers = Own(list)
    >>> numbers.own.append(1)
    >>> numbers.own
    [1]
    """

    def __init__(self, make: Callable):
        self.own = make()


_inside = threading.local()


def in_a_chunk() -> bool:
    """Whether this thread computes a chunk: what it shares out in turn it does alone."""
    return getattr(_inside, "chunk", False)


def quietly(function: Callable, chunk: Any) -> Any:
    """Return ``function(chunk)``; callers find in it what overflowed."""
    _inside.chunk = True
    try:
        with np.errstate(all="ignore"):
            return function(chunk)
    finally:
        _inside.chunk = False


def cores() -> int:
    """Return how many cores this process may use."""
    available = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(available(0)) if available else os.cpu_count()


def single_threaded_blas() -> AbstractContextManager:
    """Keep the linear algebra library to one thread inside a ``with`` block.

    Results then do not depend on the number of cores.
    """
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller():
    return ThreadpoolController()


@cache
def _pool():
    return ThreadPoolExecutor(cores(), "chunk")


@cache
def keep_freed_memory() -> None:
    """Ask the C library (glibc) to keep freed memory and not to give it back to the system.

    Training frees and takes the same memory at every step, and the system clears each page anew:
    a third of the time of a sinusoid step, a fifth of an Omniglot step. Large pages save 5 % more
    of the latter. Without glibc, nothing happens.
    """
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # the numbers of <malloc.h>
    huge_page, use_huge_pages = 1 << 21, 14  # and of <sys/mman.h>
    room = 1 << 29
    with suppress(OSError, AttributeError):  # another system, another allocator
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(arena_max, 1)  # else every thread keeps its own
        libc.malloc.restype = ctypes.c_void_p
        if block := libc.malloc(ctypes.c_size_t(room)):  # only addresses: it is never touched
            first = ctypes.c_void_p(-(-block // huge_page) * huge_page)
            libc.madvise(first, ctypes.c_size_t(room - huge_page), use_huge_pages)
            libc.free(ctypes.c_void_p(block))
