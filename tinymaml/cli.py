"""The command line: ``tinymaml list``, ``train``, ``evaluate``, ``pack``, ``report`` ..."""

import argparse
import os
import signal
import sys
import tempfile
import traceback
import warnings
from contextlib import suppress
from functools import partial

from .engine import backend
from .errors import UserError
from .experiments import BESIDE, EXPERIMENTS, GROUPS, OF_THE_TEST, flag, launch
from .experiments.pretrained import describe, names, pack
from .experiments.tables import aligned
from .parallel import mpi
from .version import __version__


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 2 for bad input, 130 if a training was stopped.

    Ctrl-C outside of a training is let through.
    """
    return _in_a_sentence(partial(_run, argv))


def _run(argv):
    arguments = _parser().parse_args(argv)
    warnings.showwarning = _warn
    if [] in vars(arguments).values():  # what argparse makes of --out=--
        raise UserError("-- is not the value of an option; give one, or leave the option out")
    return arguments.run(arguments)


def _in_a_sentence(function):
    """Return the exit code of a function; what goes wrong in it becomes a sentence."""
    try:
        return function()
    except UserError as error:
        reason = str(error)
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # such as a full disk below our own output
        reason = str(error)
    except MemoryError as error:
        reason = f"not enough memory: {error}"
    except Exception as error:  # of which nobody thought
        with tempfile.NamedTemporaryFile("w", prefix="tinymaml-", delete=False) as kept:
            traceback.print_exc(file=kept)
        reason = f"{type(error).__name__}: {error}, an error of ours; report it with {kept.name}"
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
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C ends the program at once and without a traceback; a training asks to be told.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # a closed one's number would be that of the next file
    sys.stdout, sys.stderr = (s or open(os.devnull, "w") for s in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # such as é where ASCII is all
    sys.exit(_in_a_sentence(partial(mpi.everywhere, main)))


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
        what = f"{preset.label}: {_what(preset)}"
        options = kinds.add_parser(name, help=what, description=what)
        options.set_defaults(run=_train, experiment=name)
        for field in preset.options().values():
            _add_option(options, field, preset.config()[field.name])
        options.add_argument("--out", metavar="RUN", help=f"folder of the run (runs/{name})")
        options.add_argument(
            "--resume", action="store_true", help="go on from the run's checkpoint"
        )
        options.add_argument(
            "--eager", action="store_true", help="do not compile the step; the numbers are the same"
        )
        tasks = min(launch.TEST_TASKS, preset.problem.test_tasks)
        _add_shared(options, "--test-tasks", tasks, preset.problem.needs_data)
        if hasattr(preset.problem, "download"):
            options.add_argument(
                "--download", action="store_true", help="download the images to --data first"
            )

    evaluation = commands.add_parser("evaluate", help="test a trained run anew")
    evaluation.add_argument(
        "folder", metavar="RUN", help="folder of the run, or pretrained:NAME of a shipped network"
    )
    evaluation.add_argument(
        "--out", metavar="DIR", help="folder for the results (the run's; nowhere if it is shipped)"
    )
    for name, field in EXPERIMENTS["omniglot"].options().items():
        if name in OF_THE_TEST:
            evaluation.add_argument(
                flag(name), type=int, metavar="INT", help=f"{field.metadata['help']} (the run's)"
            )
    _add_shared(evaluation, "--tasks", None, True)
    evaluation.set_defaults(run=_evaluate)

    packing = commands.add_parser("pack", help="make a small folder of a trained run's network")
    packing.add_argument("folder", metavar="RUN", help="folder of the run")
    packing.add_argument("out", metavar="DIR", help="folder that tm.pretrained will take")
    packing.set_defaults(run=_pack)

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


def _add_option(parser, field, default):
    meaning = field.metadata["help"]
    # without a default, so that --resume can tell what was asked for
    if field.type is bool:
        parser.add_argument(
            flag(field.name), action="store_true", default=argparse.SUPPRESS, help=meaning
        )
    else:
        parser.add_argument(
            flag(field.name),
            type=field.type,
            default=argparse.SUPPRESS,
            metavar=field.type.__name__.upper(),
            help=f"{meaning} ({default})",
        )


def _add_shared(parser, tasks, number, data):
    parser.add_argument(
        tasks,
        dest="test_tasks",
        type=int,
        default=number,
        metavar="INT",
        help=f"tasks of the test ({number or 'as the training'})",
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="INT",
        help="processes of this machine (as many as bring a gain); mpiexec starts them on many",
    )
    parser.add_argument("--backend", choices=("numpy", "cupy"), help="array library (numpy)")
    if data:
        parser.add_argument(
            "--data", metavar="DIR", help="folder of the images (variable TINYMAML_DATA)"
        )


def _what(preset):
    """Return the first lines of a method's and a problem's description, and which task it is."""
    method, problem = (
        type(part).__doc__.splitlines()[0].rstrip(".:") for part in (preset.method, preset.problem)
    )
    return f"{method}. {problem}; {preset.problem.task}"


def _list(arguments):
    rows = [("", "name", "method", "task", "iterations", "paper")]
    for name, preset in EXPERIMENTS.items():
        if preset.method.group == "reinforcement" and name.endswith(tuple(BESIDE)):
            continue  # the heading says that they are there
        steps, printed = f"{preset.schedule.steps:,}", preset.problem.printed(preset.label)
        rows.append((preset.method.group, name, preset.label, preset.problem.task, steps, printed))
    lines = aligned([row[1:] for row in rows], left=len(rows[0]))
    for group in ("", *GROUPS):
        shown = [line.rstrip() for row, line in zip(rows, lines) if row[0] == group]
        if group and shown:
            also = f"; each also as {', '.join(f'NAME-{end}' for end in BESIDE)}"
            print(f"\n{group}{also * (group == 'reinforcement')}")
        print(*shown, sep="\n")
    print("\ntinymaml train NAME runs one; tinymaml train NAME --help shows its settings.")

    print('\ntrained networks: tm.pretrained("NAME"), tinymaml evaluate pretrained:NAME')
    print(*aligned(list(map(describe, names())), left=4), sep="\n")
    return 0


def _train(arguments):
    backend.set_backend(arguments.backend or backend.get_backend())
    given = vars(arguments)
    settings = {n: given[n] for n in EXPERIMENTS[arguments.experiment].options() if n in given}
    finished = launch.train_run(
        arguments.experiment,
        settings,
        arguments.out,
        data=given.get("data"),
        download=given.get("download", False),
        resume=arguments.resume,
        test_tasks=arguments.test_tasks,
        processes=arguments.processes,
        eager=arguments.eager,
    )
    return 0 if finished else 130


def _evaluate(arguments):
    backend.set_backend(arguments.backend or backend.get_backend())
    given = vars(arguments)
    settings = {name: given[name] for name in OF_THE_TEST if given[name] is not None}
    launch.evaluate_run(
        arguments.folder,
        settings,
        arguments.out,
        data=arguments.data,
        test_tasks=arguments.test_tasks,
        processes=arguments.processes,
    )
    return 0


def _pack(arguments):
    pack(arguments.folder, arguments.out)
    print(f'tm.pretrained("{arguments.out}") loads it')
    return 0


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
