"""The command line: ``tinymaml list``, ``train``, ``evaluate``, ``report``, ``data``, ``check``."""

import argparse
import dataclasses
import os
import platform
import signal
import sys
import time
import warnings
from contextlib import suppress

import numpy as np

from . import __version__
from .engine import backend
from .errors import UserError
from .experiments import EXPERIMENTS, OF_THE_TEST, flag, from_config
from .experiments.interrupts import CtrlC
from .experiments.runs import Run
from .experiments.training import train

TEST_TASKS = 600  # Finn et al. 2017, and the authors' code

HELP = {
    "steps": "meta-iterations",
    "seed": "of weights and tasks",
    "first_order": "take inner gradients as constants",
    "meta_lr": "learning rate of Adam",
    "meta_batch": "tasks per meta-iteration",
    "inner_lr": "alpha of the paper",
    "inner_steps": "gradient steps of the inner loop in training, 0 to train without",
    "n_way": "classes of a task",
    "k_shot": "support examples (of each class)",
    "n_query": "query images of each class in training, 0 for as many as shots",
    "test_query": "query images of each class at validation and test, 0 for as many as shots",
    "test_steps": "gradient steps at test",
    "split": "of the characters: random, vinyals or lake",
    "resize": "of the drawings: nearest or lanczos",
    "filters": "of every convolution",
    "image_size": "pixels a side to which the images are resized",
    "clip": "bound of the meta-gradient's elements in the authors' units, 0 for none",
}


def main(argv=None):
    """Run the command line; returns the exit code: 2 for bad input, 130 if a training was stopped.

    Ctrl-C outside of a training is let through.
    """
    arguments = _parser().parse_args(argv)
    warnings.showwarning = _warn
    try:
        return arguments.run(arguments)
    except UserError as error:
        reason = str(error)
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # such as a full disk below our own output
        reason = str(error)
    except MemoryError as error:
        reason = f"not enough memory: {error}"
    # It may quote a hostile file: no control characters, and not for ever.
    reason = "".join(c if c.isprintable() else "?" for c in reason[:1000])
    with suppress(OSError):
        print(f"tinymaml: {reason}", file=sys.stderr)
    return 2


def _warn(message, category, *_):
    if issubclass(category, UserWarning):
        print(f"tinymaml: warning: {message}", file=sys.stderr)


def console():
    """Run the command line as a program of its own, and leave it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be asked to end is as Ctrl-C
    with CtrlC() as ctrl_c:
        ctrl_c.raised, code = True, 130
        try:
            code = main()
        except (Exception, KeyboardInterrupt):
            if not ctrl_c.pressed:
                raise
            print("\ntinymaml: stopped", file=sys.stderr)
        if code == 130:
            # Not by sys.exit, which would wait for threads whose results nobody wants any more.
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(code)
    sys.exit(code)


def _parser():
    parser = argparse.ArgumentParser(
        prog="tinymaml", description="Model-Agnostic Meta-Learning on NumPy and CuPy."
    )
    parser.add_argument("--version", action="version", version=f"tinymaml {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="show the experiments")
    listing.set_defaults(run=_list)

    training = commands.add_parser("train", help="train an experiment of the paper, then test it")
    kinds = training.add_subparsers(title="experiments", required=True, metavar="EXPERIMENT")
    for name, preset in EXPERIMENTS.items():
        what = f"{preset.method}: {_what(preset)}"
        options = kinds.add_parser(name, help=what, description=what)
        options.set_defaults(run=_train, experiment=name)
        for field in _options(preset):
            _add_option(options, field, getattr(preset, field.name))
        options.add_argument("--out", metavar="RUN", help=f"folder of the run (runs/{name})")
        options.add_argument(
            "--resume", action="store_true", help="go on from the run's checkpoint"
        )
        _add_shared(options, preset.needs_data)
        if hasattr(preset, "download"):
            options.add_argument(
                "--download", action="store_true", help="download the images to --data first"
            )

    evaluation = commands.add_parser("evaluate", help="test a trained run anew")
    evaluation.add_argument("folder", metavar="RUN", help="folder of the run")
    evaluation.add_argument(
        "--tasks", type=int, default=TEST_TASKS, help=f"test tasks ({TEST_TASKS})"
    )
    for name in OF_THE_TEST:
        evaluation.add_argument(
            flag(name), type=int, metavar="INT", help=f"{HELP[name]} (the run's)"
        )
    _add_shared(evaluation, True)
    evaluation.set_defaults(run=_evaluate)

    report = commands.add_parser("report", help="write the paper's tables with runs beside them")
    report.add_argument("folders", nargs="+", metavar="RUN", help="folders of runs")
    report.add_argument("--out", default="report", metavar="DIR", help="where to (report)")
    report.set_defaults(run=_report)

    data = commands.add_parser("data", help="check the images of a data set, show some episodes")
    data.add_argument("name", choices=("omniglot", "miniimagenet"), metavar="NAME")
    data.add_argument("--root", metavar="DIR", help="folder of the images (variable TINYMAML_DATA)")
    data.add_argument("--out", metavar="PNG", help="the picture (NAME-episodes.png)")
    data.set_defaults(run=_data)

    check = commands.add_parser("check", help="compare meta-gradients with other frameworks")
    check.set_defaults(run=_check)
    return parser


def _options(preset):
    """Return the fields that the command line can set."""
    return [field for field in dataclasses.fields(preset) if field.name not in preset.fixed]


def _add_option(parser, field, default):
    if field.type is bool:
        parser.add_argument(
            flag(field.name),
            action="store_true",
            default=argparse.SUPPRESS,
            help=HELP[field.name],
        )
    else:
        parser.add_argument(
            flag(field.name),
            type=field.type,
            default=argparse.SUPPRESS,  # so that --resume can tell what was asked for
            metavar=field.type.__name__.upper(),
            help=f"{HELP[field.name]} ({default})",
        )


def _add_shared(parser, data):
    parser.add_argument("--backend", choices=("numpy", "cupy"), help="array library (numpy)")
    if data:
        parser.add_argument(
            "--data", metavar="DIR", help="folder of the images (variable TINYMAML_DATA)"
        )


def _what(preset):
    """Return the first line of an experiment's description, and which task it is."""
    return f"{type(preset).__doc__.splitlines()[0].rstrip('.:')}; {preset.task}"


def _list(arguments):
    rows = [("name", "method", "task", "iterations", "paper")]
    for name, preset in EXPERIMENTS.items():
        rows.append((name, preset.method, preset.task, f"{preset.steps:,}", preset.printed()))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print("\ntinymaml train NAME runs one; tinymaml train NAME --help shows its settings.")
    return 0


def _train(arguments):
    backend.set_backend(arguments.backend or backend.get_backend())
    name = arguments.experiment
    given = {
        field.name: getattr(arguments, field.name)
        for field in _options(EXPERIMENTS[name])
        if hasattr(arguments, field.name)
    }
    run = Run(arguments.out or f"runs/{name}")
    experiment = _resumed(run, name, given) if arguments.resume else from_config(name, given)
    data = None
    if experiment.needs_data:
        data = arguments.data or (_data_of(run) if arguments.resume else None)
        if getattr(arguments, "download", False):
            data = experiment.download(data)
        data = experiment.load_data(data)
    config = {"experiment": name, "settings": experiment.config(), "data": data}
    if arguments.resume:
        run.write_json("config.json", config)  # it may have been given more steps
    else:
        run.start(config)
    started = time.perf_counter()
    done, before = (run.steps_done(), _training(run)) if arguments.resume else (0, None)
    reached = train(experiment, run, resume=arguments.resume)
    if reached.step > done:
        machine = _machine()
        peaks = [m["peak_memory_mb"] for m in (machine, before) if m and m.get("peak_memory_mb")]
        machine["peak_memory_mb"] = max(peaks, default=None)  # of all processes of the training
        run.write_json("training.json", machine)
    if reached.step < experiment.steps:
        print(f"\nstopped; continue with: tinymaml train {name} --out {run.path} --resume")
        return 130
    print(f"trained in {time.perf_counter() - started:.0f} s; testing on {TEST_TASKS} tasks ...")
    return _test(name, experiment, run, reached, TEST_TASKS)


def _resumed(run, name, given):
    """Return the experiment of a run; only --steps may differ from what it was started with."""
    kept_name, kept = _experiment(run)
    if kept_name != name:
        raise UserError(
            f"{run.path} is a run of {kept_name!r}, not of {name!r}; resume it by its own name"
        )
    settings = kept.config()
    for key, value in given.items():
        if key != "steps" and settings[key] != value:
            raise UserError(
                f"{flag(key)} {value} differs from the run's {settings[key]}; a resumed run "
                "keeps its settings (only --steps may grow), so leave it out or start a new --out"
            )
    experiment = from_config(name, settings | given)
    if experiment.steps < (done := run.steps_done()):
        raise UserError(f"--steps is {experiment.steps}, but {run.path} has done {done}; give more")
    return experiment


def _experiment(run):
    """Return the name of the experiment that a run's folder says it is of, and the experiment."""
    config = run.read_json("config.json")
    name, settings = config.get("experiment"), config.get("settings")
    if not isinstance(name, str) or not isinstance(settings, dict):
        raise UserError(
            f"{run / 'config.json'} has no experiment and settings; it is not a run of tinymaml"
        )
    return name, from_config(name, settings)


def _data_of(run):
    """Return the folder of the images that a run was trained on."""
    data = run.read_json("config.json").get("data")
    if data is not None and not isinstance(data, str):
        raise UserError(f"{run / 'config.json'} has no folder as its data; give it with --data")
    return data


def _evaluate(arguments):
    backend.set_backend(arguments.backend or backend.get_backend())
    if arguments.tasks < 2:
        raise UserError(f"--tasks is {arguments.tasks}; give at least 2, for an interval")
    run = Run(arguments.folder)
    name, experiment = _experiment(run)
    given = {n: getattr(arguments, n) for n in OF_THE_TEST if getattr(arguments, n) is not None}
    if unknown := given.keys() - {field.name for field in _options(experiment)}:
        raise UserError(f"{flag(unknown.pop())} has no meaning for {name}; leave it out")
    experiment = dataclasses.replace(experiment, **given)
    if experiment.needs_data:
        experiment.load_data(arguments.data or _data_of(run))
    reached = run.load(experiment.model.init(experiment.rng("weights")))
    return _test(name, experiment, run, reached, arguments.tasks)


def _test(name, experiment, run, reached, n_tasks):
    started = time.perf_counter()
    metrics, training = run.read_metrics(), _training(run)  # damage is found before the test
    results = experiment.test(reached.params, n_tasks)
    results |= {
        "experiment": name,
        "settings": experiment.config(),
        "seed": experiment.seed,
        "trained_steps": reached.step,
        "train_seconds": metrics[-1]["seconds"] if metrics else None,
        "training": training,
        "seconds": round(time.perf_counter() - started, 1),
        **_machine(),
    }
    run.write_json("results.json", results)
    print(experiment.table(results))
    figures = experiment.figures(run, reached.params, results)
    print(f"figures: {', '.join(map(str, figures))}")
    return 0


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
    """Return what this process has needed, and what it runs on."""
    return {
        "peak_memory_mb": _peak_memory(),
        "versions": {
            "tinymaml": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "cores": os.cpu_count(),
    }


def _peak_memory():
    """Return the most memory that this process has held, in MB; None where it is not known."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return None
    peak = getrusage(RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def _report(arguments):
    from .experiments.report import report

    for path in report(arguments.folders, arguments.out):
        print(path)
    return 0


def _data(arguments):
    from .experiments.datasheet import datasheet

    print(datasheet(arguments.name, arguments.root, arguments.out))
    return 0


def _check(arguments):
    from .checks.reference import check

    return 0 if check() else 1
