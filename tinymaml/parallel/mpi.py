"""Processes on many machines, started by ``mpiexec`` or ``srun``, which talk by MPI (mpi4py)."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import UserError
from .group import Group

#: Variables by which MPICH, SLURM and Open MPI tell a process its rank, and the number of them
RANKS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")


class World(Group):
    """All processes that one ``mpiexec`` or ``srun`` has started."""

    def __init__(self, communicator):
        self.communicator = communicator
        self.rank, self.size = communicator.rank, communicator.size

    def exchange(self, part):
        return self.communicator.allgather(part)

    def lead(self, function: Callable, *arguments: Any) -> Any:
        """Call a function here in the first process and in all that follow it."""
        self.communicator.bcast((function, arguments))
        return self.work(function, *arguments)

    def follow(self) -> int:
        """Do what the first process leads; return its exit code when it ends."""
        while True:
            function, arguments = self.communicator.bcast(None)
            if function is None:
                return arguments
            with suppress(Exception):  # the first one says what it was
                self.work(function, *arguments)


world: World | None = None  # the processes that follow this one


def everywhere(main: Callable[[], int]) -> int:
    """Run a program in the first of MPI's processes; the others do what it shares with them.

    Parameters
    ----------
    main : function
        Returns an exit code.

    Returns
    -------
    int
        The exit code, in every process.
    """
    global world
    ranks = [os.environ[name] for name in RANKS if name in os.environ]
    if not ranks:
        return main()
    try:
        found = _connect()
    except UserError:
        if ranks[0] == "0":  # one of them says it
            raise
        return 2
    if found.size == 1:
        return main()
    try:
        if found.rank:
            return found.follow()
        world = found
        try:
            code = main()
        except SystemExit as stop:  # of the parser
            code = stop.code
        found.communicator.bcast((None, code))
        return code
    except BaseException:
        found.communicator.Abort(1)
        raise


def _connect():
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI beside it
        raise UserError(
            "mpiexec or srun started this, but mpi4py and an MPI for it are not installed; "
            "run pip install mpi4py mpich"
        ) from error
    all_of_them = MPI.COMM_WORLD
    size = all_of_them.size
    told = next((int(os.environ[name]) for name in SIZES if name in os.environ), size)
    if told != size:
        raise UserError(
            f"mpiexec started {told} processes, but mpi4py sees {size}: they are of two "
            "MPIs; take the mpiexec that lies beside Python, or build mpi4py for the other one"
        )
    all_of_them.barrier()  # all hold the memory that MPICH shares, whose name would outlive a kill
    with suppress(OSError):  # another one of this machine was first, or it is not Linux
        for line in Path("/proc/self/maps").read_text().splitlines():
            if "/dev/shm/mpich_shm" in line:
                os.unlink(line.split(maxsplit=5)[5])
    return World(all_of_them)
