"""The command line: ``tinymaml train``, ``evaluate``, ``check``."""

import argparse
import dataclasses
import os
import platform
import sys
import time

import numpy as np

from . import __version__, backend
from .errors import UserError
from .experiments import EXPERIMENTS, flag, from_config
from .runs import Run
from .training import train

HELP = {
    "steps": "meta-iterations",
    "seed": "of weights and tasks",
    "first_order": "take inner gradients as constants",
    "meta_lr": "learning rate of Adam",
    "meta_batch": "tasks per meta-iteration",
    "inner_lr": "alpha of the paper",
    "inner_steps": "gradient steps of the inner loop in training",
    "n_way": "classes of a task",
    "k_shot": "support examples (of each class)",
    "n_query": "query examples of each class, 0 for as many as shots",
}


def main(argv=None):
    """Run the command line; returns the exit code: 2 for bad input, 130 for Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except UserError as error:
        print(f"tinymaml: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ntinymaml: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser():
    parser = argparse.ArgumentParser(
        prog="tinymaml", description="Model-Agnostic Meta-Learning on NumPy and CuPy."
    )
    parser.add_argument("--version", action="version", version=f"tinymaml {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    training = commands.add_parser("train", help="train an experiment of the paper, then test it")
    kinds = training.add_subparsers(title="experiments", required=True, metavar="EXPERIMENT")
    for name, kind in EXPERIMENTS.items():
        what = kind.__doc__.splitlines()[0]
        options = kinds.add_parser(name, help=what, description=what)
        options.set_defaults(run=_train, experiment=name)
        for field in dataclasses.fields(kind):
            _add_option(options, field)
        options.add_argument("--out", metavar="RUN", help=f"folder of the run (runs/{name})")
        options.add_argument(
            "--resume", action="store_true", help="go on from the run's checkpoint"
        )
        _add_shared(options, kind.needs_data)
        if kind.needs_data:
            options.add_argument(
                "--download", action="store_true", help="download the images to --data first"
            )

    evaluation = commands.add_parser("evaluate", help="test a trained run again")
    evaluation.add_argument("folder", metavar="RUN", help="folder of the run")
    evaluation.add_argument("--tasks", type=int, default=600, help="test tasks (600)")
    _add_shared(evaluation, True)
    evaluation.set_defaults(run=_evaluate)

    check = commands.add_parser("check", help="compare meta-gradients with other frameworks")
    check.set_defaults(run=_check)
    return parser


def _add_option(parser, field):
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
            help=f"{HELP[field.name]} ({field.default})",
        )


def _add_shared(parser, data):
    parser.add_argument("--backend", choices=("numpy", "cupy"), help="array library (numpy)")
    if data:
        parser.add_argument(
            "--data", metavar="DIR", help="folder of the images (variable TINYMAML_DATA)"
        )


def _train(arguments):
    backend.set_backend(arguments.backend or backend.get_backend())
    name = arguments.experiment
    given = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(EXPERIMENTS[name])
        if hasattr(arguments, field.name)
    }
    run = Run(arguments.out or f"runs/{name}")
    experiment = _resumed(run, name, given) if arguments.resume else from_config(name, given)
    data = None
    if experiment.needs_data:
        data = experiment.load_data(arguments.data, arguments.download)
    config = {"experiment": name, "settings": experiment.config(), "data": data}
    if arguments.resume:
        run.write_json("config.json", config)  # it may have been given more steps
    else:
        run.start(config)
    started = time.perf_counter()
    reached = train(experiment, run, resume=arguments.resume)
    if reached.step < experiment.steps:
        print(f"\nstopped; continue with: tinymaml train {name} --out {run.path} --resume")
        return 130
    print(f"trained in {time.perf_counter() - started:.0f} s; testing on 600 tasks ...")
    return _test(experiment, run, reached, 600)


def _resumed(run, name, given):
    """Return the experiment of a run; only --steps may differ from what it was started with."""
    kept = _experiment(run)
    if kept.name != name:
        raise UserError(
            f"{run.path} is a run of {kept.name!r}, not of {name!r}; resume it by its own name"
        )
    settings = kept.config()
    for key, value in given.items():
        if key != "steps" and settings[key] != value:
            raise UserError(
                f"{flag(key)} {value} differs from the run's {settings[key]}; a resumed run "
                "keeps its settings (only --steps may grow), so leave it out or start a new --out"
            )
    experiment = from_config(name, settings | given)
    done = run.load(experiment.model.init(experiment.rng("weights"))).step
    if experiment.steps < done:
        raise UserError(f"--steps is {experiment.steps}, but {run.path} has done {done}; give more")
    return experiment


def _experiment(run):
    """Return the experiment that a run's folder says it is of."""
    config = run.read_json("config.json")
    settings = config.get("settings")
    if not isinstance(settings, dict):
        raise UserError(f"{run / 'config.json'} has no settings; it is not a run of tinymaml")
    return from_config(config.get("experiment"), settings)


def _evaluate(arguments):
    backend.set_backend(arguments.backend or backend.get_backend())
    if arguments.tasks < 2:
        raise UserError(f"--tasks is {arguments.tasks}; give at least 2, for an interval")
    run = Run(arguments.folder)
    experiment = _experiment(run)
    if experiment.needs_data:
        experiment.load_data(arguments.data or run.read_json("config.json").get("data"))
    reached = run.load(experiment.model.init(experiment.rng("weights")))
    return _test(experiment, run, reached, arguments.tasks)


def _test(experiment, run, reached, n_tasks):
    started = time.perf_counter()
    results = experiment.test(reached.params, n_tasks)
    results |= {
        "experiment": experiment.name,
        "settings": experiment.config(),
        "trained_steps": reached.step,
        "seconds": round(time.perf_counter() - started, 1),
        "versions": {
            "tinymaml": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "cores": os.cpu_count(),
    }
    run.write_json("results.json", results)
    print(experiment.table(results))
    figures = experiment.figures(run, reached.params, results)
    print(f"figures: {', '.join(map(str, figures))}")
    return 0


def _check(arguments):
    from .reference import check

    return 0 if check() else 1
