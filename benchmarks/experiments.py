"""``python -m benchmarks.experiments``: what the experiments spend on anything but learning.

One line of a table for each experiment: loading its images for the first time and again (Omniglot
from its cache), drawing a batch of tasks beside the step that learns from it, and the test.
"""

import argparse
import os
import tempfile
import time
from unittest import mock

import numpy as np

from tinymaml.experiments import EXPERIMENTS
from tinymaml.experiments.runs import Checkpoint
from tinymaml.experiments.training import meta_step
from tinymaml.parallel.threads import single_threaded_blas

HEAD = ("experiment", "first load, s", "again, s", "draw a batch, ms", "step, ms", "share")
TASKS = 600  # of a test


def main(arguments=None):
    """Measure; Markdown on standard output."""
    options = _parse(arguments)
    print(_line([*HEAD, f"test of {TASKS} tasks, s"]), _line(["---"] * 7), sep="\n", flush=True)
    for name in options.experiments:
        print(_line(measure(EXPERIMENTS[name], name, options)), flush=True)


def measure(experiment, name, options):
    """Return the cells of an experiment's line."""
    loads = ["", ""]
    if experiment.problem.needs_data:
        with (
            tempfile.TemporaryDirectory() as cache,
            mock.patch.dict(os.environ, TINYMAML_CACHE=cache),
        ):
            loads = [f"{_seconds(lambda: experiment.load(options.data)):.2f}" for _ in loads]
            experiment, _ = experiment.load(options.data)
    params = experiment.init()
    start = experiment.schedule.optimiser(1).init(params)
    now, draws, steps = Checkpoint(0, params, start, []), [], []
    with single_threaded_blas():
        for step in range(options.steps + 1):
            draws.append(_seconds(lambda step=step: experiment.training_tasks(step + 1)))
            started = time.perf_counter()
            now = meta_step(experiment, now)  # which draws them again
            steps.append(time.perf_counter() - started)
    draw, step = np.median(draws[1:]), np.median(steps[1:])  # the first is slower
    test = _seconds(lambda: experiment.test(now.params, TASKS)) if options.test else None
    return [
        name,
        *loads,
        f"{1e3 * draw:.3g}",
        f"{1e3 * step:.3g}",
        f"{100 * draw / step:.1f} %",
        "" if test is None else f"{test:.1f}",
    ]


def _parse(arguments):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments", description=__doc__)
    parser.add_argument("experiments", nargs="+", choices=EXPERIMENTS, metavar="NAME")
    parser.add_argument("--data", metavar="DIR", help="folder of the images (TINYMAML_DATA)")
    parser.add_argument("--steps", type=int, default=20, help="timed steps (20)")
    parser.add_argument("--test", action="store_true", help="also a test, which may take minutes")
    return parser.parse_args(arguments)


def _seconds(function):
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _line(cells):
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
