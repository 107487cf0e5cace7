"""Processes of one machine, which hand each other results through memory that they share.

They are programs of their own and no forks, which threads of the linear algebra library do not
survive. The shared memory is a file without a name: it goes with the last process, in whatever way
that ends.
"""

import mmap
import multiprocessing.connection
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import UserError
from .group import Group

SLOT = 1 << 40  # bytes from one slot of the shared memory to the next; only those written to exist
FOLLOW = "import sys; sys.path[:] = {}; from tinymaml.parallel import local; local.follow{}"


class Local(Group):
    """Processes of one machine: memory for what they say, and pipes to say that it is there.

    Every process writes into slots of its own. It has two and takes turns: who writes for the
    second time has heard from all others that they have read what was written before the first.
    """

    def __init__(self, rank, size, memory, pipes):
        self.rank, self.size, self.memory, self.pipes = rank, size, memory, pipes
        self.turn = 0

    def exchange(self, part):
        self.turn ^= 1
        lengths = self._meet(_write(self.memory, pickle.dumps(part, 5), self._slot(self.rank)))
        said = [os.pread(self.memory, n, self._slot(rank)) for rank, n in enumerate(lengths)]
        return [pickle.loads(part) for part in said]

    def _slot(self, rank):
        return (1 + 2 * rank + self.turn) * SLOT

    def _meet(self, length):
        """Wait for all processes, and return the lengths that they say, by rank."""
        if self.rank:
            self.pipes[0].send(length)
            return self.pipes[0].recv()
        try:
            lengths = [length, *[pipe.recv() for pipe in self.pipes]]
            for pipe in self.pipes:
                pipe.send(lengths)
        except (EOFError, OSError):
            self.failed = True
            raise UserError(
                f"one of the {self.size} processes was killed, and that ended the others; go on "
                "from the last checkpoint with --resume, with fewer --processes if memory was short"
            ) from None
        return lengths


@contextmanager
def processes(size: int, function: Callable, arguments: tuple) -> Iterator[Local]:
    """Have other processes call a function as ones of a group, of which this one is the first.

    They are gone when the ``with`` block ends.
    """
    memory, pipes, started = _file_without_a_name(), [], []
    try:
        places = _put(memory, (function, arguments))
        for rank in range(1, size):
            pipe, far_end = multiprocessing.connection.Pipe()
            pipes.append(pipe)
            with far_end:
                share = (rank, size, memory, far_end.fileno())
                started.append(_start(FOLLOW.format(sys.path, share), share[2:]))
            pipe.send(places)
        yield Local(0, size, memory, pipes)
    finally:
        for process in started:
            process.kill()
            process.communicate()
        for pipe in pipes:
            pipe.close()
        os.close(memory)


def _start(program, files):
    """Start Python on a program, which keeps some open files and gets no requests to end.

    Those are for the first process alone, with which the others end.
    """
    requests = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, requests)  # a new process inherits that
    try:
        command = [sys.executable, "-c", program]
        return subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=files)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow(rank: int, size: int, memory: int, pipe: int) -> None:
    """Do the work of one of the processes that follow the first, and end with it."""
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    warnings.simplefilter("ignore")  # the first one gives them
    pipe = multiprocessing.connection.Connection(pipe)
    try:
        Local(rank, size, memory, [pipe]).work(_share, memory, pipe.recv())
    finally:
        os._exit(0)  # the first one says what went wrong


def _share(memory, places):
    function, arguments = _get(memory, places)
    return function(*arguments)


def _end_with_the_first():
    sys.stdin.read()  # to its end, which is that of the process that holds the other end
    os._exit(0)


def _file_without_a_name():
    if hasattr(os, "memfd_create"):  # on Linux
        return os.memfd_create("tinymaml")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write(memory, data, place):
    """Write bytes at a place, and return how many."""
    if os.pwrite(memory, data, place) < len(data):
        raise MemoryError("no room for what the processes share")
    return len(data)


def _put(memory, value):
    """Write an object, its arrays apart; return where each piece begins and ends."""
    arrays, places, end = [], [], 0
    pickled = pickle.dumps(value, 5, buffer_callback=arrays.append)
    for piece in [pickled, *[array.raw() for array in arrays]]:
        start = -(-end // 64) * 64  # as NumPy likes it
        end = start + _write(memory, piece, start)
        places.append((start, end))
    return places


def _get(memory, places):
    """Return the object; its arrays are in the shared memory, and can only be read."""
    view = memoryview(mmap.mmap(memory, places[-1][1], access=mmap.ACCESS_READ))
    pickled, *arrays = [view[start:end] for start, end in places]
    return pickle.loads(pickled, buffers=arrays)
