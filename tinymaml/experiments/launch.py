"""From the words of a command to a run: start it, resume it, test it."""

import os
import platform
import sys
import time

import numpy as np

from ..errors import UserError
from ..parallel.group import current, once
from ..parallel.start import number, together
from ..version import __version__
from .presets import experiment_of, from_config
from .pretrained import PREFIX, opened
from .problem import Problem
from .runs import Run
from .schedule import FALLING, flag
from .tables import table
from .training import train

TEST_TASKS = Problem.test_tasks


def train_run(
    name: str,
    settings: dict,
    out: str | None = None,
    *,
    data: str | None = None,
    download: bool = False,
    resume: bool = False,
    test_tasks: int = TEST_TASKS,
    processes: int | None = 1,
    eager: bool = False,
) -> bool:
    """Train an experiment into a run's folder and test it.

    Parameters
    ----------
    name : str
        Of the experiment.
    settings : dict
        Those that differ from the experiment's own.
    out : str, optional
        The run's folder, ``runs/NAME`` by default.
    data : str, optional
        Folder of the images; of a resumed run its own by default.
    download : bool
        Download the images to ``data`` first.
    resume : bool
        Go on from the run's checkpoint. Of the settings only ``steps`` may differ from the run's.
    test_tasks : int
        Tasks of the test.
    processes : int, optional
        Of this machine; None: as many as bring a gain. Under MPI there are those that it started.
    eager : bool
        Do not compile the training step.

    Returns
    -------
    bool
        Whether all steps were done: Ctrl-C ends a training after the step at hand.
    """
    _check_interval("--test-tasks", test_tasks)
    run = Run(out or f"runs/{name}")
    experiment = _resumed(run, name, settings) if resume else from_config(name, settings)
    path = None
    if experiment.problem.needs_data:
        path = data or (_data_of(run) if resume else None)
        if download:
            path = experiment.problem.download(path)
        experiment, path = experiment.load(path)
    processes = number(processes, experiment.chunks)
    config = {"experiment": name, "settings": experiment.config(), "data": path}
    with run.locked():
        if resume:
            run.write_json("config.json", config)  # it may have been given more steps
        else:
            run.start(config)
        work = (name, experiment, run, resume, test_tasks, eager)
        return together(_train_and_test, *work, processes=processes)


def evaluate_run(
    folder: str,
    settings: dict,
    out: str | None = None,
    *,
    data: str | None = None,
    test_tasks: int | None = None,
    processes: int | None = 1,
) -> None:
    """Test a trained run anew, in place of the test before.

    Parameters
    ----------
    folder : str
        The run's, or ``pretrained:NAME`` of a network that the package ships.
    settings : dict
        Of the test, where they differ from the run's: see :data:`tinymaml.experiments.OF_THE_TEST`.
    out : str, optional
        A folder for the results. By default they are the run's; those of a network that the package
        ships are written nowhere.
    data : str, optional
        Folder of the images, the run's own by default.
    test_tasks : int, optional
        At least 2, for an interval; by default as many as the problem's.
    processes : int, optional
        As of :func:`train_run`.
    """
    _check_interval("--tasks", TEST_TASKS if test_tasks is None else test_tasks)
    run = opened(folder)
    name, experiment = experiment_of(run)
    test_tasks = test_tasks or min(TEST_TASKS, experiment.problem.test_tasks)
    if unknown := settings.keys() - experiment.options():
        raise UserError(f"{flag(unknown.pop())} has no meaning for {name}; leave it out")
    experiment = experiment.replace(**settings)
    if experiment.problem.needs_data:
        experiment, _ = experiment.load(data or _data_of(run))
    reached = run.load(experiment.init(), settings=experiment.recipe())
    results = None if folder.startswith(PREFIX) else run
    if out is not None:
        results = Run(out)
        results.start(run.read_json("config.json"))
    work = (name, experiment, run, reached, test_tasks, results)
    chunks = -(-test_tasks // experiment.problem.test_chunk)
    together(_test, *work, processes=number(processes, chunks))


def _resumed(run, name, settings):
    """Return the experiment of a run; only its steps may differ from what it was started with."""
    kept_name, kept = experiment_of(run)
    if kept_name != name:
        raise UserError(
            f"{run.path} is a run of {kept_name!r}, not of {name!r}; resume it by its own name"
        )
    for key, value in settings.items():
        if key != "steps" and kept.config()[key] != value:
            raise UserError(
                f"{flag(key)} {value} differs from the run's {kept.config()[key]}; a resumed run "
                "keeps its settings (only --steps may grow), so leave it out or start a new --out"
            )
    experiment = from_config(name, kept.config() | settings)
    to_zero = kept.schedule.decay in FALLING
    if to_zero and experiment.schedule.steps != kept.schedule.steps:
        raise UserError(
            f"--steps differs from the run's {kept.schedule.steps}, over which its learning rate "
            "falls to 0; leave it out"
        )
    if (steps := experiment.schedule.steps) < (done := run.steps_done()):
        raise UserError(f"--steps is {steps}, but {run.path} has done {done}; give more")
    return experiment


def _data_of(run):
    """Return the folder of the images that a run was trained on."""
    data = run.read_json("config.json").get("data")
    if data is not None and not isinstance(data, str):
        raise UserError(f"{run / 'config.json'} has no folder as its data; give it with --data")
    return data


def _check_interval(option, tasks):
    if not 2 <= tasks <= 1_000_000:
        raise UserError(f"{option} is {tasks}; give at least 2, for an interval, a million at most")


def _train_and_test(name, experiment, run, resume, test_tasks, eager):
    """Do what is left of a training, and test it if that is its end; return whether it is."""
    started = time.perf_counter()
    done, before = (once(run.steps_done), once(_training, run)) if resume else (0, None)
    reached = train(experiment, run, resume=resume, eager=eager)
    if reached.step > done:
        machine = _machine()
        peaks = [m["peak_memory_mb"] for m in (machine, before) if m and m.get("peak_memory_mb")]
        machine["peak_memory_mb"] = max(peaks, default=None)  # of all parts of the training
        once(run.write_json, "training.json", machine)
    if reached.step < experiment.schedule.steps:
        go_on = f"tinymaml train {name} --out {run.path} --resume"
        once(print, f"\nstopped; continue with: {go_on}")
        return False
    seconds = time.perf_counter() - started
    once(print, f"trained in {seconds:.0f} s; testing on {test_tasks} tasks")
    _test(name, experiment, run, reached, test_tasks, run)
    return True


def _test(name, experiment, run, reached, test_tasks, out):
    """Test what a run has reached, and write the results into the folder of ``out``, if any."""
    started = time.perf_counter()
    # damage is found before the test
    metrics, training = once(run.read_metrics), once(_training, run)
    results = experiment.test(reached.params, test_tasks, progress=current().rank == 0)
    results |= {
        "experiment": name,
        "settings": experiment.config(),
        "seed": experiment.schedule.seed,
        "trained_steps": reached.step,
        "train_seconds": metrics[-1]["seconds"] if metrics else None,
        "training": training,
        "seconds": round(time.perf_counter() - started, 1),
        **experiment.costs(reached.params),
        **_machine(),
    }
    once(_report, experiment, out, reached, results)


def _report(experiment, out, reached, results):
    print(table(experiment.problem, results))
    if out is None:
        return
    out.write_json("results.json", results)
    if figures := experiment.figures(out, reached.params, results):
        print(f"figures: {', '.join(map(str, figures))}")


def _training(run):
    """Return what a run's training ran on, None if it never ended well; UserError if damaged."""
    if not (run / "training.json").exists():
        return None
    training = run.read_json("training.json")
    if not isinstance(training.get("peak_memory_mb"), (int, float, type(None))):
        raise UserError(
            f"{run / 'training.json'} has no number as its memory; delete it to go on without"
        )
    return training


def _machine():
    """Return what the processes have needed, and what this one runs on."""
    peaks = current().gather(_peak_memory())
    return {
        "peak_memory_mb": None if None in peaks else sum(peaks),
        "versions": {
            "tinymaml": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "cores": os.cpu_count(),
        "processes": len(peaks),
    }


def _peak_memory():
    """Return the most memory that this process has held, in MB; None where it is not known."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return None
    peak = getrusage(RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
