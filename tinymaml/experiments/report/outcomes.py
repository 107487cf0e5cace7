"""What the folder of a tested run tells, checked, for a report.

Nothing that lies there is trusted: whatever does not have the form that ``tinymaml evaluate``
gives it is refused in one sentence, before it is used.
"""

import math
import re
import shlex
from dataclasses import asdict
from typing import Any, NamedTuple

from ...errors import UserError
from .. import EXPERIMENTS, OF_THE_TEST, flag
from ..runs import Run

MOST_PICTURE = 4 * 2**20  # bytes of a figure
MOST_PICTURES = 20  # of a run

# What a value must be: in words, and as a test.
TEXT = ("a text", lambda x: isinstance(x, str))
TEXT_OR_NULL = ("a text or null", lambda x: x is None or isinstance(x, str))
COUNT = ("a whole number, 0 or more", lambda x: type(x) is int and 0 <= x < 2**63)
NUMBER = (
    "a number or null",
    lambda x: x is None or COUNT[1](x) or (type(x) is float and not 1e100 < abs(x) < math.inf),
)
SCALAR = ("a number, a text or a truth value", lambda x: isinstance(x, (str, bool, float, int)))
OBJECT = ("an object", lambda x: isinstance(x, dict))
LIST = ("a list", lambda x: isinstance(x, list))
METRIC = ("'accuracy' or 'MSE'", lambda x: x in ("accuracy", "MSE"))

CONFIG = {"experiment": TEXT, "settings": OBJECT, "data": TEXT_OR_NULL}
MACHINE = {"peak_memory_mb": NUMBER, "versions": OBJECT, "cores": NUMBER}
RESULTS = {
    "rows": LIST,
    "experiment": TEXT,
    "settings": OBJECT,
    "seed": COUNT,
    "trained_steps": COUNT,
    "train_seconds": NUMBER,
    "training": ("an object or null", lambda x: x is None or isinstance(x, dict)),
    "protocol": TEXT,
    "metric": METRIC,
    "curves": OBJECT,
    "paper": OBJECT,
    **MACHINE,
}
ROW = {
    "data": TEXT,
    "method": TEXT,
    "setting": TEXT,
    "steps": COUNT,
    "batch_norm": TEXT_OR_NULL,
    "tasks": COUNT,
    "mean": NUMBER,
    "ci95": NUMBER,
    "diverged": COUNT,
}
IDENTITY = list(ROW)[:6]  # of a row; the rest is its result
CURVE = {"mean": NUMBER, "ci95": NUMBER, "diverged": COUNT}  # of every element


class Outcome(NamedTuple):
    """A run with its test results; :func:`read` makes it.

    Attributes
    ----------
    name : str
    results : dict
        Of results.json.
    data : str or None
        The folder of the images.
    validation : (int, float) or None
        Step and score of the last validation that the results' training has seen.
    figures : list of (Path, bytes)
    left_out : list of str
        Names of .png files that are no pictures, or too large or too many.
    """

    name: str
    results: dict
    data: Any
    validation: Any
    figures: list
    left_out: list

    @property
    def seed(self):
        return self.results["seed"]

    @property
    def preset(self):
        """The experiment as it comes, None if this version does not have it."""
        return EXPERIMENTS.get(self.results["experiment"])

    @property
    def options(self):
        """The command-line options that differ from the experiment's own, the seed apart."""
        settings = {k: v for k, v in self.results["settings"].items() if k != "seed"}
        if "steps" in settings:
            settings["steps"] = self.results["trained_steps"]
        usual = asdict(self.preset) if self.preset else {}
        options = []
        for key, value in settings.items():
            if key in usual and value == usual[key]:
                continue
            if isinstance(value, bool):
                options += [flag(key)] * value
            else:
                options += [flag(key), str(value)]
        return options

    @property
    def command(self):
        """The command that makes the run; DIR is where its reader keeps images."""
        words = ["tinymaml", "train", self.results["experiment"], *self.options]
        words += ["--seed", str(self.seed)]
        if self.data or getattr(self.preset, "needs_data", False):
            words += ["--data", "/".join(["DIR", *re.split(r"[\\/]", self.data or "")[-1:]])]
        return shlex.join(words).removesuffix("/")

    @property
    def missing_iterations(self):
        """ "12,870 of 60,000 iterations" of a run that fell short; else an empty text."""
        done = self.results["trained_steps"]
        whole = getattr(self.preset, "steps", None) or self.results["settings"].get("steps")
        return f"{done:,} of {whole:,} iterations" if type(whole) is int and done < whole else ""

    def apart_from_seed(self):
        """Return what runs must share for their seeds to be compared."""
        return (
            [self.results[key] for key in ("experiment", "trained_steps", "metric", "paper")],
            {key: value for key, value in self.results["settings"].items() if key != "seed"},
            [[row[key] for key in IDENTITY] for row in self.results["rows"]],
            {label: len(curve["mean"]) for label, curve in self.results["curves"].items()},
        )


def read(folder, name):
    """Read the folder of a run.

    Parameters
    ----------
    folder : str or Path
    name : str
        What the report calls it.

    Returns
    -------
    Outcome

    Raises
    ------
    UserError
        One sentence that names the file which is missing, damaged, or of another form.

    Examples
    --------
    >>> read("nowhere", "a run")
    Traceback (most recent call last):
    ...
    tinymaml.errors.UserError: nowhere holds no run: results.json is missing; ...
    """
    run = Run(folder)
    where, beside = run / "results.json", run / "config.json"
    results, config = run.read_json(where.name), run.read_json(beside.name)
    if "rows" not in results:
        raise UserError(
            f"{where} has no 'rows', as an older tinymaml left it; run `tinymaml evaluate "
            f"{folder}` again"
        )
    _check(results, RESULTS, where)
    _check(config, CONFIG, beside)
    for key, value in config["settings"].items():
        # a run may be trained further after its test, or tested in another way
        if key not in ("steps", *OF_THE_TEST) and results["settings"].get(key) != value:
            raise UserError(
                f"{where} is not of the settings in config.json beside it ({key} differs); "
                f"run `tinymaml evaluate {folder}` again"
            )
    if results["experiment"] != config["experiment"]:
        raise UserError(f"{where} is of another experiment than config.json beside it")
    _check_results(results, where)
    return Outcome(name, results, config["data"], _last_validation(run, results), *_figures(run))


def _check_results(results, where):
    for part, kind in (("settings", SCALAR), ("versions", TEXT), ("curves", OBJECT)):
        _check(results[part], dict.fromkeys(results[part], kind), f"{part!r} of {where}")
    if training := results["training"]:
        _check(training, MACHINE, f"'training' of {where}")
        versions = training["versions"]
        _check(versions, dict.fromkeys(versions, TEXT), f"'versions' of 'training' of {where}")
    for label, curve in results["curves"].items():
        what = f"the curve {label!r} of {where}"
        _check(curve, dict.fromkeys(CURVE, LIST), what)
        for key, kind in CURVE.items():
            values = dict(enumerate(curve[key]))
            _check(values, dict.fromkeys(values, kind), f"{key!r} of {what}")
        if len({len(curve[key]) for key in CURVE}) > 1:
            raise UserError(f"{what} has lists of different lengths; evaluate the run again")
    _check(results["paper"], dict.fromkeys(results["paper"], OBJECT), f"'paper' of {where}")
    for values in results["paper"].values():
        _check(values, dict.fromkeys(values, NUMBER), f"'paper' of {where}")
    seen = set()
    for number, row in enumerate(results["rows"], 1):
        what = f"row {number} of {where}"
        if not isinstance(row, dict):
            raise UserError(f"{what} is no object; evaluate the run again")
        _check(row, ROW, what)
        if (identity := tuple(row[key] for key in IDENTITY)) in seen:
            raise UserError(f"{what} repeats an earlier one; evaluate the run again")
        seen.add(identity)


def _check(content, kinds, where):
    for key, (what, fits) in kinds.items():
        if key not in content:
            raise UserError(f"{where} lacks {key!r}; evaluate the run again")
        if not fits(content[key]):
            found = repr(content[key])
            found = found if len(found) <= 40 else f"{found[:40]}..."
            raise UserError(
                f"{where} has {found} as {key!r}, where {what} is needed; evaluate the run again"
            )


def _last_validation(run, results):
    metrics = run.read_metrics(until=results["trained_steps"])
    validated = [
        (row["step"], row["validation"]) for row in metrics if row["validation"] is not None
    ]
    return validated[-1] if validated else None


def _figures(run):
    """Return the figures of a run, and the names of .png files that are left out."""
    figures, left_out = [], []
    for path in sorted(run.path.glob("*.png")):
        data = b""
        if path.is_file():  # not a pipe, which could be waited on for ever
            try:
                with open(path, "rb") as file:
                    data = file.read(MOST_PICTURE + 1)
            except OSError:
                pass  # named among those that are left out
        right = data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) <= MOST_PICTURE
        if right and len(figures) < MOST_PICTURES:
            figures.append((path, data))
        else:
            left_out.append(path.name)
    return figures, left_out
