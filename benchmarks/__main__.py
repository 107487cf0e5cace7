"""``python -m benchmarks``: one meta-step of tinymaml and of its peers, in one interleaved run."""

import argparse
import contextlib
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from . import measure
from .measure import CONTENDERS, OURS, Worker
from .workloads import WORKLOADS, cores

STARTUP_TARGET = 0.3  # seconds, W1
MEMORY_TARGET = 1.0  # times any way of running PyTorch
INSTALL = "pip install -e '.[reference]'"
NOTES = {
    "ms per step": "median [quartiles]; its ratio: median of (peer / tinymaml in the same round)",
    "memory": "resident before the first step + peak of the first three steps above that; "
    "its ratio: of the peaks",
    "limit": "the share of tinymaml's time that its matrix products take alone, on as many cores, "
    "with warm operands",
    "difference": "of a parameter's meta-gradient from tinymaml's, relative; the largest",
} | {name: workload.summary for name, workload in WORKLOADS.items()}


def main(arguments=None):
    """Measure; Markdown on standard output as results come, progress on standard error."""
    options = _parse(arguments)
    missing = {CONTENDERS[n][2] for n in options.contenders if not measure.is_installed(n)}
    for package in sorted(missing):
        _say(f"{package} is not installed, so it is left out: {INSTALL}")
    contenders = [n for n in options.contenders if CONTENDERS[n][2] not in missing]
    report = {"environment": environment(), "workloads": {}, "startup": {}}
    for name, text in (report["environment"] | NOTES).items():
        print(f"* {name}: {text}")
    columns = _columns(options)
    print("", _line(columns), _line(["---"] * len(columns)), sep="\n", flush=True)
    for name in options.workloads:
        workload = WORKLOADS[name]
        able = [n for n in contenders if n != "autograd" or workload.network == "mlp"]
        if options.peers is None:
            able = [n for n in able if n == OURS or n in workload.peers]
        rows = report["workloads"][name] = measure_workload(workload, able, options)
        for contender in rows:
            print(_line(_cells(workload, contender, rows)), flush=True)
        _write(options.json, report)
    if options.startup:
        print("", _line(["contender", "start to first W1 step, s", "target"]), sep="\n")
        print(_line(["---"] * 3), flush=True)
        for name in contenders:
            seconds = measure.startup(name, "W1")
            report["startup"][name] = seconds.tolist()
            target = f"< {STARTUP_TARGET:g}" if name == OURS else ""
            print(_line([name, f"{np.median(seconds):.2f}", target]), flush=True)
        _write(options.json, report)


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time one second-order MAML meta-step (meta-gradient and Adam update, "
        "float32) of tinymaml beside its peers, interleaved in one run.",
    )
    peers = [name for name in CONTENDERS if name != OURS]
    parser.add_argument("workloads", nargs="*", metavar="W", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--peers", nargs="*", help=f"of {', '.join(map(repr, peers))}")
    parser.add_argument("--rounds", type=int, help="rounds per workload; 0 leaves out the timing")
    parser.add_argument("--memory", action="store_true", help="also peak memory")
    parser.add_argument("--startup", action="store_true", help="also start to first W1 step")
    parser.add_argument("--float64", action="store_true", help="also compare in float64")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    options = parser.parse_args(arguments)
    for kind, given, known in (
        ("workload", options.workloads, WORKLOADS),
        ("peer", options.peers or [], peers),
    ):
        for name in given:
            if name not in known:
                parser.error(f"there is no {kind} {name!r}; choose from {', '.join(known)}")
    if options.rounds is not None and options.rounds < 0:
        parser.error(f"--rounds is {options.rounds}; give 0 or more")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}; make it first")
    options.workloads = options.workloads or list(WORKLOADS)
    options.contenders = [OURS] + (peers if options.peers is None else options.peers)
    return options


def environment():
    """What the numbers depend on: processor, threads, library versions, BLAS."""
    cpu_lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    models = [line.split(":")[1].strip() for line in cpu_lines if line.startswith("model name")]
    versions = {"Python": platform.python_version()}
    for package in ("numpy", "torch", "jax", "autograd"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    blas = [
        f"{pool['internal_api']} {pool['version']}, architecture "
        f"{pool.get('architecture', 'unknown')}, {pool['num_threads']} threads"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]
    if "OPENBLAS_CORETYPE" in os.environ:
        blas.append(f"OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']}")
    return {
        "processor": f"{(models or [platform.processor()])[0]}, {cores()} cores",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "BLAS": "; ".join(blas),
        "load before the start": f"{os.getloadavg()[0]:.1f} running processes",
    }


def measure_workload(workload, names, options):
    """``{contender: numbers}`` for one workload; one that fails is reported and left out."""
    rounds = workload.rounds if options.rounds is None else options.rounds
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(name, workload)) for name in names]
        found = {name: {"float32": off} for name, off in compare(workload, workers, "float32")}
        workers = [worker for worker in workers if worker.name in found]
        for worker in workers:
            found[worker.name]["threads"] = worker.threads()
        if rounds:
            _say(f"{workload.name}: {rounds} rounds of {', '.join(found)}")
            times = measure.interleaved(workers, rounds)
            for name, seconds in times.items():
                found[name]["seconds"] = seconds.tolist()
                found[name]["ratio"] = float(np.median(seconds / times[OURS]))
            found[OURS]["limit"] = workers[0].products()
    if options.float64:
        with contextlib.ExitStack() as stack:
            workers = [stack.enter_context(Worker(name, workload, "float64")) for name in found]
            for name, off in compare(workload, workers, "float64"):
                found[name]["float64"] = off
    if options.memory:
        _say(f"{workload.name}: memory")
        for name in found:
            with Worker(name, workload) as worker:
                found[name]["resident"], found[name]["peak"] = worker.memory()
    return found


def compare(workload, workers, dtype):
    """Pairs of a contender and its difference from our meta-gradient; ours is the first."""
    _say(f"{workload.name}: meta-gradients in {dtype}")
    ours = workers[0].gradient()
    yield OURS, 0.0
    for worker in workers[1:]:
        try:
            yield worker.name, measure.difference(worker.gradient(), ours)
        except RuntimeError as error:
            _say(f"{workload.name}: {error}; it is left out")


def _columns(options):
    columns = ["workload", "contender", "threads", "difference, float32"]
    if options.float64:
        columns += ["difference, float64"]
    if options.rounds != 0:
        columns += ["ms per step", "ratio", "target"]
    if options.memory:
        columns += ["memory, MB", "ratio", "target"]
    return columns


def _cells(workload, contender, rows):
    """One row of the table: as many cells as ``_columns`` names."""
    row, is_ours = rows[contender], contender == OURS
    cells = [workload.name, contender, row["threads"]]
    cells += ["" if is_ours else f"{row[d]:.1e}" for d in ("float32", "float64") if d in row]
    if "seconds" in row:
        low, middle, high = 1e3 * np.percentile(row["seconds"], [25, 50, 75])
        target = workload.targets.get(contender.removesuffix(" by task"))
        cells += [
            f"{middle:.4g} [{low:.4g}, {high:.4g}]",
            _limit(row) if is_ours else f"{row['ratio']:.2f}",
            f">= {target:g}" if target else "",
        ]
    if "peak" in row:
        cells += [
            f"{row['resident'] / 1e6:.0f} + {row['peak'] / 1e6:.0f}",
            "" if is_ours else f"{row['peak'] / rows[OURS]['peak']:.2f}",
            f">= {MEMORY_TARGET:g}" if contender.startswith("torch") else "",
        ]
    return cells


def _limit(row):
    """The share of the limit that is reached, and the limit."""
    share = row["limit"] / np.median(row["seconds"])
    return f"limit {1e3 * row['limit']:.4g} ms, {share:.0%}"


def _line(cells):
    return f"| {' | '.join(cells)} |"


def _write(path, report):
    if path:
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(report, indent=1))
        os.replace(partial, path)


def _say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
