"""The entries of a report: runs, with those that differ in their seed only taken together."""

import math
import os
import re
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from .outcomes import CURVE


def short_names(folders):
    """Return the shortest ends of the paths that tell them apart."""
    paths = [Path(os.path.abspath(folder)).parts for folder in folders]
    names = []
    for path in paths:
        n = 1
        while sum(other[-n:] == path[-n:] for other in paths) > 1:
            n += 1
        names.append("/".join(path[-n:]))
    return names


def _together(names):
    """Return one name for several runs, as a shell would write it.

    Examples
    --------
    >>> _together(["omniglot-0", "omniglot-1"]), _together(["a", "b"])
    ('omniglot-{0,1}', 'a, b')
    """
    common = os.path.commonprefix(names)  # noqa: RUF071 - of texts, not of paths
    rest = [name.removeprefix(common) for name in names]
    return f"{common}{{{','.join(rest)}}}" if common and all(rest) else ", ".join(names)


class Score(NamedTuple):
    """A mean with its interval over tasks and, over several seeds, their standard deviation.

    Examples
    --------
    >>> score = Score.over([0.98, 0.99, 0.97], [0.005, 0.004, 0.006], [0, 0, 1])
    >>> score.text("Omniglot", "accuracy")
    '98.0 ± 0.5 (tasks), ± 1.0 (3 seeds), 1 diverged'
    """

    mean: Any
    half: Any
    diverged: int
    seeds: int
    spread: Any

    @classmethod
    def over(cls, means, halves, diverged):
        """Return the score over one or more seeds; no number if one of them has none."""
        mean, half = _mean(means), _mean(halves)
        spread = stdev(means) if mean is not None and len(means) > 1 else None
        return cls(mean, half, sum(diverged), len(means), spread)

    def text(self, data, metric):
        """Return the score with as many digits as the paper prints of these data."""
        mean, half, spread = (
            in_words(number, data, metric, self.mean)
            for number in (self.mean, self.half, self.spread)
        )
        if self.mean is not None and self.half is not None:
            mean += f" ± {half}" + " (tasks)" * (self.seeds > 1)
        if self.spread is not None:
            mean += f", ± {spread} ({self.seeds} seeds)"
        return mean + (f", {self.diverged} diverged" if self.diverged else "")


def _mean(numbers):
    known = all(number is not None and math.isfinite(number) for number in numbers)
    return fmean(numbers) if known else None


def in_words(number, data, metric, mean=None):
    """Return a number as text, with the digits that suit the mean that it belongs to."""
    if number is None or not math.isfinite(number):
        return "—"
    if metric == "MSE":
        small = (number if mean is None else mean) < 0.1
        return f"{number:.{3 if small else 2}f}"
    return f"{100 * number:.{digits(data)}f}"


def digits(data):
    return 2 if data in ("MiniImageNet", "sinusoid") else 1


class Entry:
    """Runs that differ in their seed only: one number in a table, one section of the page."""

    def __init__(self, runs, id):
        self.runs, self.id = runs, id
        self.name = _together([run.name for run in runs])
        self.results = runs[0].results  # for what all of them share

    def data(self):
        """Return the titles of the data that the results are of."""
        return [row["data"] for row in self.results["rows"]] or [""]

    def rows(self):
        """Return the pairs of a row and its score."""
        for rows in zip(*[run.results["rows"] for run in self.runs]):
            yield rows[0], Score.over(*[[row[key] for row in rows] for key in CURVE])

    def curve(self, label):
        """Return the scores after 0, 1, ... gradient steps."""
        curves = [run.results["curves"][label] for run in self.runs]
        by_key = [list(zip(*[curve[key] for curve in curves])) for key in CURVE]
        return [Score.over(*numbers) for numbers in zip(*by_key)]

    def protocol(self):
        """Return the protocol of all runs; of each, if they differ in more than the seed."""
        seeds = ", ".join(str(run.seed) for run in self.runs)
        named = f"seeds {seeds}" if len(self.runs) > 1 else f"seed {seeds}"
        protocols = [
            re.sub(rf"\bseed {run.seed}\b", named, run.results["protocol"]) for run in self.runs
        ]
        return " | ".join(dict.fromkeys(protocols))

    def settings(self):
        """Return what can differ between two entries."""
        seeds = ", ".join(str(run.seed) for run in self.runs)
        common = {"experiment": self.results["experiment"]}
        common["iterations"] = f"{self.results['trained_steps']:,}"
        return common | self.results["settings"] | {"seed": seeds}


def group(runs):
    """Return the entries of runs, in their order; of one entry by their seeds."""
    groups = []
    for run in runs:
        for group in groups:
            same = group[0].apart_from_seed() == run.apart_from_seed()
            if same and all(run.seed != other.seed for other in group):
                group.append(run)
                break
        else:
            groups.append([run])
    ids = []
    for group in groups:
        group.sort(key=lambda run: run.seed)
        id = "run-" + re.sub(r"[^a-z0-9]+", "-", group[0].name.lower()).strip("-")
        while id in ids:
            id += "-again"
        ids.append(id)
    return [Entry(group, id) for group, id in zip(groups, ids)]
