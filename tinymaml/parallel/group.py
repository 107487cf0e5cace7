"""Processes that do one piece of work together, and the door through which they share it.

All of them run the same program on the same numbers (SPMD: single program, multiple data). Where
work comes in chunks, each takes its share of them, and all get the results of all, in the order
of the chunks: what follows is the same in every process, and does not depend on how many there
are. The kinds of groups are in ``local.py`` and ``mpi.py``.
"""

import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from ..engine.tensor import thread
from .threads import on_threads, quietly, single_threaded_blas


class Failure(NamedTuple):
    """What a process tells the others when an error ends its part of the work."""

    error: Exception
    trace: str


class Group:
    """The processes that do one piece of work together; by itself a group of one.

    Attributes
    ----------
    rank : int
        The number of this process. The process 0 prints and writes.
    size : int
        How many there are.
    """

    rank, size = 0, 1
    failed = False  # whether all know that the work has ended

    def exchange(self, part: Any) -> list:
        """Give the others a part, and return the parts of all, by rank."""
        return [part]

    def gather(self, part: Any) -> list:
        """Return the parts of all processes by rank; if one has failed, raise its error in all."""
        parts = self.exchange(part)
        for failure in parts:
            if isinstance(failure, Failure):
                self.failed = True
                raise failure.error from RuntimeError(f"in another process:\n{failure.trace}")
        return parts

    def work(self, function: Callable, *arguments: Any) -> Any:
        """Call a function as one of the group; an error here ends the work in all processes."""
        global _current
        before, _current, self.failed = _current, self, False
        try:
            with single_threaded_blas():
                return function(*arguments)
        except Exception as error:
            if not self.failed:
                with suppress(Exception):
                    self.gather(_failure(error))
            raise
        finally:
            _current = before


def _failure(error):
    trace = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return Failure(error, trace)


_current = Group()


def current() -> Group:
    """Return the group that this process is one of."""
    return _current


def map_chunks(function: Callable, chunks: Iterable) -> Iterator:
    """Return what a function makes of every chunk, in order: the one door to many cores.

    Within a group of processes each computes its share of the chunks and gets the results of all.
    A process that is alone computes them on as many threads as it has cores. The result of a chunk
    does not depend on either.

    Parameters
    ----------
    function : function
        Of one chunk.
    chunks : iterable
        The same ones in every process.

    Examples
    --------
    >>> list(map_chunks(lambda n: n * n, range(4)))
    [0, 1, 4, 9]
    """
    group = current()
    if hasattr(thread.state.trace, "refuse"):
        raise TypeError(
            "a compiled function cannot share out chunks to threads or processes; compile the "
            "gradient of one chunk"
        )
    if group.size == 1:
        return on_threads(function, chunks)
    chunks = list(chunks)
    shares = group.gather([quietly(function, c) for c in chunks[group.rank :: group.size]])
    return iter([shares[i % group.size][i // group.size] for i in range(len(chunks))])


def once(function: Callable, *arguments: Any) -> Any:
    """Call a function in the first process alone, and return its result in all of them.

    Its error too is raised in all. It is for what is read, written and printed.

    Examples
    --------
    >>> once(max, 3, 5)
    5
    """
    group = current()
    return group.gather(None if group.rank else function(*arguments))[0]
