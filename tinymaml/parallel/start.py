"""From one process to a group of them, and back."""

import os
from collections.abc import Callable
from typing import Any

from ..engine.backend import get_backend, use_backend
from ..errors import UserError
from . import local, mpi
from .threads import cores


def together(function: Callable, *arguments: Any, processes: int = 1) -> Any:
    """Call a function in a group of processes, and return what it returns in the first one.

    That is this process. The others are those that MPI has started, or processes of this machine
    that live as long as the call.

    Parameters
    ----------
    function : function
        Of a module that other processes can import. What it hands to
        :func:`~.group.map_chunks` is shared out; all else is done in every process.
    *arguments
        That can be pickled. Arrays among them can only be read.
    processes : int
        Of this machine. Under MPI it is those that MPI has started.

    Raises
    ------
    Exception
        What the function raises in any process, in all of them.
    UserError
        If one of them is killed.
    """
    if mpi.world:
        return mpi.world.lead(_work, get_backend(), function, arguments)
    if processes == 1:
        return function(*arguments)
    work = get_backend(), function, arguments
    with local.processes(processes, _work, work) as group:
        return group.work(_work, *work)


def _work(backend, function, arguments):
    with use_backend(backend):
        return function(*arguments)


def number(asked: int | None, chunks: int) -> int:
    """Return how many processes of this machine do some work.

    Parameters
    ----------
    asked : int or None
        What the user says; None: as many as there are cores and as bring a gain.
    chunks : int
        In which the work comes; more processes than that bring no gain.

    Raises
    ------
    UserError
        If what the user says cannot be had.
    """
    able = hasattr(os, "pwrite") and get_backend() != "cupy"
    if asked is None:
        return min(cores(), chunks) if able and not mpi.world else 1
    if not 1 <= asked <= 1024:
        raise UserError(f"--processes is {asked}; give 1 to 1024")
    if mpi.world and asked > 1:
        raise UserError(
            f"--processes is {asked}, but mpiexec has started {mpi.world.size}; leave it out"
        )
    if asked > 1 and not able:
        raise UserError(
            f"--processes is {asked}, but on a GPU and on Windows it is 1; leave it out"
        )
    return asked
