"""``python -m benchmarks.processes``: one meta-step on one thread, on threads and in processes.

Under ``mpiexec -n N`` the processes are those that it has started. The ways take turns. While one
process is measured, the others wait.
"""

import argparse
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from tinymaml.parallel import mpi, threads
from tinymaml.parallel.group import Group, current, once
from tinymaml.parallel.start import together

from . import ours
from .workloads import WORKLOADS, Contender, cores

COLUMNS = (
    "workload | processes | chunks | one thread, ms | threads, times faster | "
    "processes, times faster | model, times faster | gather, ms"
)


def main():
    """Measure; Markdown on standard output as results come."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="W", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--processes", type=int, default=cores(), help=f"of ours ({cores()})")
    parser.add_argument("--rounds", type=int, help="rounds per workload")
    parser.add_argument("--chunk", type=int, help="tasks taken at once (the workload's own)")
    options = parser.parse_args()
    print(f"| {COLUMNS} |")
    print("| " + " | ".join(["---"] * (COLUMNS.count("|") + 1)) + " |", flush=True)
    for name in options.workloads or ["W2", "W3"]:
        work = name, options.rounds, options.chunk
        row = together(measure, *work, processes=options.processes)
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
    return 0


def measure(name, rounds, chunk):
    """Return the row of a workload: medians of seconds, and of ratios within a round."""
    workload, group = WORKLOADS[name], current()
    if chunk:
        workload = replace(workload, chunk=chunk)
    contender, pool = Contender(**ours._parts(workload, "float32", eager=False)), threads._pool
    single = ThreadPoolExecutor(1)
    part = _gradients(workload, contender, group)

    def one():
        threads._pool = lambda: single
        Group().work(contender.step)

    def on_threads():
        threads._pool = pool
        Group().work(contender.step)

    ways = {one: False, on_threads: False, contender.step: True, lambda: group.gather(part): True}
    times = np.empty((1 + (rounds or workload.rounds), len(ways)))
    for turn in range(len(times)):
        for i, (way, shared) in enumerate(ways.items()):
            once(int)  # wait for all
            start = time.perf_counter()
            if shared or group.rank == 0:
                way()
            times[turn, i] = time.perf_counter() - start
    alone, threaded, together_, gather = times[1:].T  # without the first round, which warms up
    chunks = -(-workload.meta_batch // (workload.chunk or workload.meta_batch))
    share = -(-chunks // group.size) / chunks
    model = np.median(alone / (share * alone + gather))
    return (
        *(name, group.size, chunks, f"{1e3 * np.median(alone):.4g}"),
        *(f"{np.median(alone / seconds):.2f}" for seconds in (threaded, together_)),
        *(f"{model:.2f}", f"{1e3 * np.median(gather):.3g} for {_size(part, group):.2g} MB"),
    )


def _gradients(workload, contender, group):
    """Return what a process gives the others in a step: as many gradients as it has chunks."""
    chunks = -(-workload.meta_batch // (workload.chunk or workload.meta_batch))
    gradient = contender.gradient()
    return [gradient] * len(range(group.rank, chunks, group.size))


def _size(part, group):
    return sum(group.gather(len(pickle.dumps([g.copy() for gs in part for g in gs])))) / 1e6


if __name__ == "__main__":
    from .processes import main  # which other processes can import, as they cannot this program

    mpi.everywhere(main)
