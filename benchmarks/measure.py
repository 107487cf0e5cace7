"""Each contender in a process of its own: time, peak memory, gradient, and time from a cold start.

Processes keep the libraries' thread pools, allocators and settings out of each other's way. They
take turns: while one runs a round, the others wait on a pipe and use no CPU.
"""

import importlib
import importlib.util
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

OURS = "tinymaml"
# name: module here, function that builds the Contender, distribution that it needs
CONTENDERS = {
    OURS: ("ours", "build", "tinymaml"),
    "torch": ("peers_torch", "eager", "torch"),
    "torch by task": ("peers_torch", "eager_by_task", "torch"),
    "torch.func": ("peers_torch", "functional", "torch"),
    "torch.compile": ("peers_torch", "compiled", "torch"),
    "jax": ("peers_jax", "build", "jax"),
    "autograd": ("peers_autograd", "build", "autograd"),
}
SHORTEST_ROUND = 0.05  # seconds
WARM_UP = 0.3  # seconds
MEMORY_STEPS = 3
STARTUP_RUNS = 5


def is_installed(name):
    """Whether the contender's package can be imported here."""
    return importlib.util.find_spec(CONTENDERS[name][2]) is not None


def build(name, workload, dtype="float32"):
    """The ``Contender`` called ``name``, set up for ``workload``."""
    module, function, _ = CONTENDERS[name]
    return getattr(importlib.import_module(f"benchmarks.{module}"), function)(workload, dtype)


class Worker:
    """A contender built in a fresh process; a context manager that ends the process.

    Raises
    ------
    RuntimeError
        From any method, if the contender failed; the message names it and says what it said.
    """

    def __init__(self, name, workload, dtype="float32"):
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(far_end, name, workload, dtype), daemon=True
        )
        self._process.start()
        far_end.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.join()

    def threads(self):
        """How many threads the contender says it uses."""
        return self._ask("threads")

    def gradient(self):
        """The meta-gradient at the initial parameters: a list of arrays."""
        return self._ask("gradient")

    def seconds(self, steps):
        """Wall time of ``steps`` meta-steps."""
        return self._ask("seconds", steps)

    def products(self):
        """Seconds that the matrix products of a step take alone; None if it does not tell."""
        return self._ask("products")

    def memory(self):
        """Resident bytes before the first step, and the peak of the first steps above that.

        For JAX the first step includes the compilation.
        """
        return self._ask("memory")

    def _ask(self, *request):
        self._pipe.send(request)
        try:
            answer, failure = self._pipe.recv()
        except EOFError:
            self._process.join()
            failure = f"its process ended with code {self._process.exitcode}"
        if failure:
            raise RuntimeError(f"{self.name}: {failure}")
        return answer


def _serve(pipe, name, workload, dtype):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    contender = None
    while True:
        try:
            request, *arguments = pipe.recv()
        except EOFError:  # the parent is gone
            return
        try:
            contender = contender or build(name, workload, dtype)
            pipe.send((_ANSWERS[request](contender, *arguments), None))
        except Exception as error:
            pipe.send((None, f"{type(error).__name__}: {error}"))


def _seconds(contender, steps):
    start = time.perf_counter()
    for _ in range(steps):
        contender.step()
    return time.perf_counter() - start


def _memory(contender):
    # 5 sets the peak back to the present (man proc_pid_clear_refs): imports may have peaked higher.
    for process in _family():
        Path(f"/proc/{process}/clear_refs").write_text("5")
    before = _resident("VmRSS")
    _seconds(contender, MEMORY_STEPS)
    return before, _resident("VmHWM") - before


def _family():
    """This process and those that it has started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [os.getpid(), *map(int, children)]


def _resident(field):
    lines = [line for p in _family() for line in Path(f"/proc/{p}/status").read_text().splitlines()]
    sizes = [1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":")]
    if not sizes:
        raise OSError(f"/proc/self/status has no {field}; memory is measured on Linux only")
    return sum(sizes)


_ANSWERS = {
    "threads": lambda contender: contender.threads,
    "gradient": lambda contender: contender.gradient(),
    "seconds": _seconds,
    "products": lambda contender: contender.products and contender.products(),
    "memory": _memory,
}


def interleaved(workers, rounds):
    """Seconds per step, ``{name: array of shape (rounds,)}``; in each round all take their turn.

    A round is as many steps as fill ``SHORTEST_ROUND``, at least one. On a busy machine PyTorch's
    threads wait on one another and its steps can take ten times as long: measure in quiet.
    """
    steps = {}
    for worker in workers:
        worker.seconds(1)
        warm = worker.seconds(1)
        if warm < WARM_UP:
            n = math.ceil(WARM_UP / warm)
            warm = worker.seconds(n) / n
        steps[worker.name] = math.ceil(SHORTEST_ROUND / warm)
    times = {worker.name: np.empty(rounds) for worker in workers}
    for turn in range(rounds):
        for worker in workers:
            n = steps[worker.name]
            times[worker.name][turn] = worker.seconds(n) / n
    return times


def difference(gradient, reference):
    """Largest ``|g - r| / |r|`` over the parameters, in the Euclidean norm.

    A parameter whose gradient is less than a thousandth of the whole (a bias before a batch norm
    has none at all) is compared with that thousandth.

    >>> difference([np.array([3.0, 4.5])], [np.array([3.0, 4.0])])
    0.1
    """
    norms = [np.linalg.norm(r) for r in reference]
    floor = 1e-3 * np.linalg.norm(norms)
    return max(
        float(np.linalg.norm(g - r) / max(norm, floor))
        for g, r, norm in zip(gradient, reference, norms, strict=True)
    )


def startup(name, workload_name):
    """Seconds from starting Python to the end of the first meta-step: an array of runs."""
    program = f"from benchmarks.measure import first_step; first_step({name!r}, {workload_name!r})"
    times = []
    for _ in range(STARTUP_RUNS):
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            line = process.stdout.readline()
            times.append(time.perf_counter() - start)
        if line != "done\n":
            raise RuntimeError(f"{name}: the first step failed with code {process.returncode}")
    return np.array(times)


def first_step(name, workload_name):
    """Build, take one step and say so: what ``startup`` times."""
    from .workloads import WORKLOADS

    build(name, WORKLOADS[workload_name]).step()
    print("done", flush=True)
