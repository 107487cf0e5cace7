"""``python -m benchmarks.gpu --out DIR``: everything that wants a GPU, in under nine minutes.

The engine's tests on CuPy; each workload's meta-step on CuPy, eager and compiled, beside PyTorch
and JAX on the same GPU; then trainings that are resumed for a while each. ``DIR/gpu.json`` is
written after every part, so that what was measured is there whenever the time is up.
"""

import argparse
import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tinymaml.engine import backend
from tinymaml.errors import UserError
from tinymaml.files import replacing

from . import measure, ours
from .workloads import WORKLOADS

ROOT = Path(__file__).parents[1]
TESTS = [
    *"test_engine test_derivatives test_strict test_func test_nn test_maml test_compile".split(),
    *"test_recurrent test_metric_learners test_memory_learners test_statistician".split(),
    *"test_meta_lstm test_optim".split(),
]
CONTENDERS = ("tinymaml", "tinymaml eager", "torch", "jax")
SECONDS = 5  # of timed steps


def main():
    """Measure what there is time for; return the exit code."""
    options = _parse()
    if options.one:
        print(json.dumps(one(*options.one)))
        return 0
    try:
        with backend.use_backend("cupy"):
            device = backend._load("cupy").cuda.runtime.getDeviceProperties(0)["name"].decode()
    except UserError as error:
        print(f"tinymaml: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    end = time.time() + 60 * options.minutes
    report = {"device": device, "tests": None, "workloads": {}, "trainings": {}}

    def write():
        with replacing(options.out / "gpu.json") as file:
            file.write(json.dumps(report, indent=1).encode())

    report["tests"] = tests(options.out / "tests.txt", end - time.time())
    write()
    for workload in options.workloads:
        for name in CONTENDERS:
            framework = name.split()[0]
            if importlib.util.find_spec(framework) and time.time() < end:
                found = _run(["--one", name, workload], end - time.time())
                report["workloads"].setdefault(workload, {})[name] = found
                print(workload, name, found, flush=True)
                write()
    for k, run in enumerate(options.train):
        share = (end - time.time()) / (len(options.train) - k)
        report["trainings"][run] = train(options.out, run, options.data, share)
        write()
    return 0


def _parse():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("gpu"), metavar="DIR", help="results (gpu)"
    )
    parser.add_argument("--minutes", type=float, default=8.5, help="that all may take (8.5)")
    parser.add_argument("--workloads", nargs="*", default=["W1", "W1b", "W2", "W2q", "W3"])
    parser.add_argument(
        "--train", nargs="*", default=[], metavar="NAME", help="experiments to train"
    )
    parser.add_argument("--data", metavar="DIR", help="folder of the images")
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "W"), help=argparse.SUPPRESS)
    return parser.parse_args()


def tests(log, seconds):
    """Run the engine's tests on CuPy; return their last line."""
    files = [f"tests/{name}.py" for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "8", "--backend", "cupy", *files]
    with open(log, "w") as file:
        try:
            subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, timeout=max(1, seconds / 2))
        except subprocess.TimeoutExpired:
            file.write("\ntime was up\n")
    return log.read_text().strip().splitlines()[-1]


def _run(arguments, seconds):
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=max(1, seconds)
        )
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return "time was up"
    except (IndexError, ValueError):
        return done.stderr.strip().splitlines()[-1:]


def one(name, workload_name):
    """Return milliseconds of a step of one contender on the GPU, and of its first one."""
    workload, wait = WORKLOADS[workload_name], lambda: None
    if name.startswith("tinymaml"):
        backend.set_backend("cupy")
        wait = backend._load("cupy").cuda.Device().synchronize
        build = lambda: ours.build(workload, "float32", processes=1, eager=name.endswith("eager"))
    else:
        if name == "torch":
            import torch

            torch.set_default_device("cuda")
            wait = torch.cuda.synchronize
        build = lambda: measure.build(name, workload)
    contender, times = build(), []
    while len(times) < 4 or (sum(times[3:]) < SECONDS and len(times) < 2000):
        start = time.perf_counter()
        contender.step()
        wait()
        times.append(time.perf_counter() - start)
    return {"ms": 1e3 * float(np.median(times[3:] or times)), "first_ms": 1e3 * times[0]}


def train(out, name, data, seconds):
    """Train an experiment, or go on with it, for some seconds; return its last line."""
    run = out / name
    command = [sys.executable, "-m", "tinymaml", "train", name, "--out", str(run)]
    command += ["--backend", "cupy", *(["--data", data] if data else [])]
    command += ["--resume"] if (run / "checkpoint.npz").exists() else []
    with open(out / f"{name}.txt", "a") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            process.wait(max(1, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)  # it ends the step and saves
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
    lines = (out / f"{name}.txt").read_text(errors="replace").strip().splitlines()
    return {"code": process.returncode, "last": lines[-1][-200:] if lines else ""}


if __name__ == "__main__":
    sys.exit(main())
