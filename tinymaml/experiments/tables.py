"""The results of a test as text."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import PureWindowsPath

from .presets import EXPERIMENTS
from .problem import Problem
from .schedule import FALLING, flag

SHOWN = (0, 1, 2, 3, 5, 10, 20, 50)  # steps of a long curve


def shortfall(results: dict) -> str:
    """Return how many iterations a training has, if they are fewer than its experiment's.

    Parameters
    ----------
    results : dict
        As in ``results.json``.

    Examples
    --------
    >>> shortfall({"experiment": "sinusoid", "trained_steps": 2000})
    '2,000 of 70,000 iterations'
    >>> shortfall({"experiment": "sinusoid", "trained_steps": 70_000})
    ''
    """
    done, whole = results["trained_steps"], 0
    if preset := EXPERIMENTS.get(results["experiment"]):
        whole = preset.schedule.steps
    return f"{done:,} of {whole:,} iterations" if done < whole else ""


def recipe(results: dict) -> list[str]:
    """Return the experiment's name, and the options that differ from its own but the seed.

    Runs of earlier versions hold settings that their experiment no longer has.

    Parameters
    ----------
    results : dict
        As in ``results.json``.
    """
    name = results["experiment"]  # runs of other versions may be of others
    usual, words = EXPERIMENTS[name].config() if name in EXPERIMENTS else {}, [name]
    steps = {} if _to_zero(results) else {"steps": results["trained_steps"]}
    for key, value in (results["settings"] | steps).items():
        if key in usual and key != "seed" and value is not False and value != usual[key]:
            words += [flag(key)] if value is True else [flag(key), str(value)]
    return words


def command(results: dict, images: str | None) -> str:
    """Return the command that makes a run; DIR is where its reader keeps images.

    Parameters
    ----------
    results : dict
        As in ``results.json``.
    images : str, optional
        The folder that the run had them from.

    Examples
    --------
    >>> results = {"experiment": "omniglot", "settings": {}, "trained_steps": 500, "seed": 0}
    >>> command(results, "/home/ada/omniglot")
    'tinymaml train omniglot --steps 500 --seed 0 --data DIR/omniglot'
    """
    words = ["tinymaml", "train", *recipe(results), "--seed", str(results["seed"])]
    if images:
        words += ["--data", f"DIR/{PureWindowsPath(str(images)).name}"]
    stopped = _to_zero(results) and results["trained_steps"] < results["settings"]["steps"]
    return shlex.join(words) + f"  # stopped after {results['trained_steps']}" * stopped


def _to_zero(results):
    """Return whether the meta-rate falls to 0 at the last step, so that fewer are another run."""
    preset = EXPERIMENTS.get(results["experiment"])
    decay = results["settings"].get("decay", preset.schedule.decay if preset else "none")
    return decay in FALLING and "steps" in results["settings"]


def table(problem: Problem, results: dict) -> str:
    """Return the test results as text: the curves beside the paper's numbers, or the rows.

    Parameters
    ----------
    problem : Problem
    results : dict
        As in ``results.json``.
    """
    rows, below = ([r for r in results["rows"] if bool(r.get("floor")) == f] for f in (0, 1))
    if results["curves"]:
        lines = aligned(list(zip(*_curves(problem, results))))
    else:
        lines = aligned([_row(problem, row) for row in rows])
    if below:
        lines += ["", f"Floors, over {below[0]['tasks']} tasks:"]
        lines += aligned([_row(problem, row) for row in below], left=1)
    lost = [row["diverged"] for row in results["rows"]]
    lost += [sum(curve["diverged"]) for curve in results["curves"].values()]
    if any(lost):
        lines.append("Diverged tasks are counted and left out of the mean.")
    if short := shortfall(results):
        lines.append(f"Trained for {short}.")
    return "\n".join(["", results["protocol"], "", *lines])


def aligned(rows: Sequence[Sequence[str]], left: int = 0) -> list[str]:
    """Return rows of cells as lines with columns, the first ``left`` of them flush left.

    Examples
    --------
    >>> aligned([("a", "1"), ("bb", "10")], left=1)
    ['a    1', 'bb  10']
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    signs = "<" * left + ">" * (len(widths) - left)
    form = "  ".join(f"{{:{sign}{width}}}" for sign, width in zip(signs, widths))
    return [form.format(*row) for row in rows]


def _curves(problem, results) -> Iterator[list[str]]:
    last = max(len(curve["mean"]) for curve in results["curves"].values()) - 1
    steps = range(last + 1) if last <= 10 else [i for i in SHOWN if i < last] + [last]
    yield [problem.axis.removeprefix("gradient "), *map(str, steps)]
    for label, curve in results["curves"].items():
        scores = zip(*[curve[key] for key in ("mean", "ci95", "diverged")])
        column = [problem.result(*score) for score in scores]
        yield [label, *[column[i] for i in steps]]
        if values := results["paper"].get(label):
            yield ["paper", *[problem.number(values[i]) if i in values else "" for i in steps]]


def _row(problem, row) -> tuple[str, ...]:
    statistics = f"batch norm: {row['batch_norm']}" if row["batch_norm"] else ""
    score = problem.result(row["mean"], row["ci95"], row["diverged"])
    return row["method"], row["setting"], statistics, score
