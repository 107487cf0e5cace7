"""The results of a test as text."""

from collections.abc import Iterator

from .presets import EXPERIMENTS

SHOWN = (0, 1, 2, 3, 5, 10, 20, 50)  # steps of a long curve


def shortfall(results: dict) -> str:
    """Say how far a training came that has fewer iterations than the experiment's own.

    Parameters
    ----------
    results : dict
        Of results.json.

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


def table(problem, results: dict) -> str:
    """Return the test results as text: the curves beside the paper's numbers, or the rows.

    Parameters
    ----------
    problem : Problem
    results : dict
        As :meth:`Experiment.test` returns them; ``trained_steps`` too.
    """
    columns = _curves(problem, results) if results["curves"] else _rows(problem, results)
    columns = list(columns)
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in zip(*columns)
    ]
    lost = [row["diverged"] for row in results["rows"]]
    lost += [sum(curve["diverged"]) for curve in results["curves"].values()]
    if any(lost):
        lines.append("Diverged tasks are counted and left out of the mean.")
    if short := shortfall(results):
        lines.append(f"Trained for {short}.")
    return "\n".join(["", results["protocol"], "", *lines])


def _curves(problem, results) -> Iterator[list[str]]:
    last = max(len(curve["mean"]) for curve in results["curves"].values()) - 1
    steps = range(last + 1) if last <= 10 else [i for i in SHOWN if i < last] + [last]
    yield ["steps", *map(str, steps)]
    for label, curve in results["curves"].items():
        scores = zip(*[curve[key] for key in ("mean", "ci95", "diverged")])
        column = [problem.result(*score) for score in scores]
        yield [label, *[column[i] for i in steps]]
        if values := results["paper"].get(label):
            yield ["paper", *[problem.number(values[i]) if i in values else "" for i in steps]]


def _rows(problem, results) -> Iterator[tuple[str, ...]]:
    return zip(
        *[
            (
                row["method"],
                row["setting"],
                f"batch norm: {row['batch_norm']}" if row["batch_norm"] else "",
                problem.result(row["mean"], row["ci95"], row["diverged"]),
            )
            for row in results["rows"]
        ]
    )
