"""The paper's tables with runs beside them: ``tinymaml report RUNS...``."""

import base64
import html
import json
import os
import re
import shlex
import warnings
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path
from statistics import fmean, stdev
from urllib.parse import quote, unquote

import numpy as np

from ..errors import UserError
from ..files import make_folder, reading, replacing
from ..pictures import plots
from . import paper
from .pretrained import check_own
from .runs import Run
from .tables import command, recipe, shortfall

#: The headings of the paper's data; any other has its own name
TITLES = {
    "Omniglot": "Omniglot (Table 1)",
    "MiniImageNet": "MiniImageNet (Table 1)",
    "sinusoid": "Sinusoid (Table 2)",
}
WHAT = {"MSE": "Mean squared error", "return": "Return", "accuracy": "Accuracy in per cent"}
IDENTITY = ("data", "method", "setting", "steps", "batch_norm", "tasks")  # of a row
SCORE = ("mean", "ci95", "diverged")  # of a row and, as lists, of a curve
NEEDED = {"rows", "experiment", "settings", "seed", "trained_steps", "protocol", "metric", "curves"}
#: Of the facts about a run, those that tell what a system costs
COSTS = "parameters, training, time (h:min:s), peak memory, ms to learn a new task".split(", ")
ABOUT = """Paper: Finn, Abbeel &amp; Levine 2017, Model-Agnostic Meta-Learning for Fast Adaptation
of Deep Networks, as printed; systems that it does not print as their own papers do, or as others
quote them, with other splits and numbers of test tasks. The printed siamese nets are those of
Vinyals et al. 2016, fine-tuned, which ours are not; a tied head stands beside public code. Ours:
the runs at the end of this page, to which the numbers link. ± is a 95 % interval over test tasks.
Runs that differ in their seed only are one entry: the mean over the seeds; ± (tasks) is the mean of
their intervals, ± (seeds) the standard deviation of the means. Diverged tasks are counted and left
out of the mean. † marks a training of fewer iterations than the experiment's own. Batch norm takes
the statistics of all query images of a task together, as the paper's code does for MAML, or those
of the support images, so that a query image is classified by itself; that is the nearest that we
have to the running averages of the baseline by fine-tuning which the paper quotes. A row that is
taken in the other way says so."""
# Whatever a run's files hold: no script is run, and nothing is loaded.
NEAR = (
    "printed numbers (black, their intervals grey) and ours beside them (blue; hollow: the "
    "training stopped short)"
)
HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Results beside the paper's</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'"><style>
:root { color-scheme: light dark }
body { margin: auto; max-width: 76rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif }
p, ul { max-width: 45rem; overflow-wrap: anywhere }
table, pre { display: block; overflow-x: auto; border-collapse: collapse }
th, td { border-bottom: 1px solid #8888; padding: .3rem .6rem; text-align: left; min-width: 6.8rem }
th:first-child, td:first-child { position: sticky; left: 0; background: Canvas }
img { max-width: 100%; background: white }
</style></head><body>
"""


def report(folders: list[str | Path], out: str | Path) -> list[Path]:
    """Write the paper's tables with ours beside them, and a section for each run.

    Parameters
    ----------
    folders : list of str or Path
        Folders of runs. Those that differ in their seed only become one entry: their mean, the
        interval over tasks, and apart from it the standard deviation over the seeds. Those that
        have not been tested yet are listed.
    out : str or Path
        The folder of ``report.md``, which links the runs' figures where they are, of
        ``report.html``, which holds them and so can be sent as one file, and of the figures of all
        runs together, if there are several.

    Returns
    -------
    list of Path
        The pages: without the HTML, and with a warning, if Python-Markdown is not installed.

    Raises
    ------
    UserError
        If a folder holds no run, a file is damaged, or the pages cannot be written.

    Examples
    --------
    >>> report(["nowhere"], "page")
    Traceback (most recent call last):
    ...
    tinymaml.errors.UserError: nowhere holds no run: config.json is missing; ...
    """
    for folder in folders:
        check_own(folder)
    folders = {os.path.realpath(folder): folder for folder in folders}
    root = os.path.commonpath([os.path.dirname(path) for path in folders])
    tested, untested = [], []
    for path, folder in folders.items():
        name = os.path.relpath(path, root)
        run = Run(folder)
        images = run.read_json("config.json").get("data")
        if (run / "results.json").exists():
            results = _results(run) | {"run": run, "name": name, "images": images}
            with reading(run / "results.json", "result of a test, of this form"):
                list(_page(_entries([results]), "", Path(out)))  # what it lacks is missed here
            tested.append(results)
        else:
            command = shlex.join(["tinymaml", "evaluate", str(folder)])
            untested.append(f"* {_text(name)}: not tested yet: {_code(command)}")
    out = Path(out)
    make_folder(out)
    text = "\n\n".join(_page(_entries(tested), "\n".join(untested), out)) + "\n"
    pages = {out / "report.md": text}
    try:
        from markdown import markdown
    except ImportError:
        warnings.warn("report.html needs Python-Markdown: pip install markdown", stacklevel=2)
    else:
        body = markdown(text, extensions=["tables", "fenced_code"])
        body = body.replace(" ± ", "&nbsp;±&nbsp;")  # a number stays on a line with its interval
        body = re.sub('(<img[^>]* src=")([^"]*)', lambda m: m[1] + _embedded(out, m[2]), body)
        pages[out / "report.html"] = f"{HEAD}{body}\n</body></html>\n"
    for path, content in pages.items():
        with replacing(path) as file:
            file.write(content.encode())
    return list(pages)


def _results(run):
    """Return the test results of a run."""
    results = run.read_json("results.json")
    if lacking := NEEDED - results.keys():
        what = f"{run / 'results.json'} has no {min(lacking)!r}, as an older tinymaml left it"
        raise UserError(f"{what}; run `tinymaml evaluate {run.path}` again")
    return results


def _entries(tested):
    """Return the entries of tested runs: those of one kind and seed are not one entry."""
    groups = {}
    for results in tested:
        rows = [[row[key] for key in IDENTITY] for row in results["rows"]]
        kind = json.dumps([recipe(results), results["settings"] | {"seed": None}, rows])
        while any(other["seed"] == results["seed"] for other in groups.get(kind, ())):
            kind += " again"
        groups.setdefault(kind, []).append(results)
    return [Entry(sorted(group, key=lambda results: results["seed"])) for group in groups.values()]


class Entry:
    """Runs that differ in their seed only: one number in a table, one section of the page."""

    def __init__(self, runs):
        self.runs = runs
        self.results = runs[0]  # for what all of them share
        self.name = ", ".join(run["name"] for run in runs)
        self.data = runs[0]["rows"][0]["data"]
        self.id = "run-" + re.sub(r"[^\w-]+", "-", runs[0]["name"])
        self.short = shortfall(runs[0])

    def number(self, value, like=None):
        """Return a number with as many digits as the paper prints of these data."""
        if self.results["metric"] == "accuracy":
            return f"{100 * value:.{_digits(self.data)}f}"
        if self.results["metric"] == "return":
            return f"{value:.1f}"
        return f"{value:.{3 if abs(like or value) < 0.1 else 2}f}"

    def score(self, means, halves, diverged):
        """Return the mean of each seed, and half its interval, as one score in words."""
        words = "—"
        if None not in means:
            mean = fmean(means)
            words = f"{self.number(mean)} ± {self.number(fmean(halves), mean)}"
            if len(means) > 1:
                words += f" (tasks), ± {self.number(stdev(means), mean)} ({len(means)} seeds)"
        return words + f", {sum(diverged)} diverged" * any(diverged)

    def row_score(self, i):
        """Return the score of the i-th row."""
        rows = [run["rows"][i] for run in self.runs]
        return self.score(*[[row[key] for row in rows] for key in SCORE])

    def curve(self, label):
        """Return the scores after 0, 1, ... gradient steps."""
        curves = [run["curves"][label] for run in self.runs]
        steps = zip(*[zip(*[curve[key] for curve in curves]) for key in SCORE])
        return [self.score(*step) for step in steps]

    def protocol(self):
        """Return the protocol of all runs; of each, if they differ in more than the seed."""
        seeds = ", ".join(str(run["seed"]) for run in self.runs)
        seeds = f"seed{'s' * (len(self.runs) > 1)} {seeds}"
        protocols = [re.sub(r"\bseed \d+\b", seeds, run["protocol"]) for run in self.runs]
        return _text(" | ".join(dict.fromkeys(protocols)))


def _page(entries, untested, out):
    """Return the blocks of the page as Markdown."""
    own = [row["data"] for entry in entries for row in entry.results["rows"]]
    blocks = ["# Results beside the paper's", *_all_rows(entries, out), _line(ABOUT), untested]
    for data in sorted(dict.fromkeys([*TITLES, *own]), key=lambda data: data not in own):
        blocks += _tables(data, entries)
        if data == "sinusoid":
            blocks += _all_sinusoids(entries, out)
    for data in dict.fromkeys(entry.data for entry in entries if entry.data != "sinusoid"):
        blocks += _all_systems([entry for entry in entries if entry.data == data], data, out)
    blocks += ["## Runs", *[block for entry in entries for block in _section(entry, out)]]
    return filter(None, blocks)


def _tables(data, entries):
    """Return the blocks about one data set: the paper's table, what is not in it, and notes."""
    own = {row["method"] for entry in entries for row in entry.results["rows"]}
    others = {name: row for name, row in paper.ELSEWHERE.get(data, {}).items() if name in own}
    printed = paper.TABLES.get(data, {}) | others
    theirs = list(dict.fromkeys(column for row in printed.values() for column in row))
    cells = {}  # by label and column the entries, with the numbers of their rows
    labels = {method: {method} for method in printed}  # by method
    for entry in entries:
        for i, row in enumerate(entry.results["rows"]):
            if row["data"] == data:
                label, column = _label(row), paper.column(data, row["setting"], row["steps"])
                labels.setdefault(row["method"], set()).add(label)
                found = cells.setdefault((label, column), [])
                means = [other.results["rows"][j]["mean"] for other, j in found]
                # the floor of the pixels is the same beside every learner
                if row.get("floor") != "pixels" or row["mean"] not in means:
                    found.append((entry, i))
    more = {column for _, column in cells}.difference(theirs)
    more = sorted(more, key=lambda column: [int(n) for n in re.findall(r"\d+", column)])
    what = WHAT["MSE" if data == "sinusoid" else "return" if data in paper.RETURNS else "accuracy"]
    blocks = [f"## {_text(TITLES.get(data, data))}"]
    if not printed:
        blocks.append("The paper's numbers are of other data, and cannot be compared with these.")
    for columns, by_method in ((theirs, printed), (more, {})):
        rows = []
        for label in [label for group in labels.values() for label in sorted(group)]:
            ours = [cells.get((label, column), []) for column in columns]
            if label in by_method or any(ours):
                rows.append([_text(label)])
                for column, found in zip(columns, ours):
                    if by_method:
                        rows[-1].append(_printed(by_method.get(label, {}).get(column, ()), data))
                    rows[-1].append(_cell(found))
        endings = (", paper", ", ours") if by_method else ("",)
        head = ["method", *[_text(column + end) for column in columns for end in endings]]
        whose = "paper and ours" if by_method else "ours, where the paper has none"
        if columns:
            blocks.append(_table(f"{what}, {whose}", head, rows))
    lines = []
    for entry in {entry.id: entry for found in cells.values() for entry, _ in found}.values():
        told = [_code(shlex.join(recipe(entry.results))), f"† {entry.short}" * bool(entry.short)]
        told = "; ".join(filter(None, [*told, entry.protocol()]))
        lines.append(f"* [{_text(entry.name)}](#{entry.id}): {told}")
    return [*blocks, "\n".join(lines) or "None of the runs is of these data."]


def _all_rows(entries, out):
    """Draw the printed numbers that we have one beside, of each data set: how near is each?

    Of several runs that is the one that was trained the longest, or all of these.
    """
    ours = {}  # by data, method as it is printed, and column: by trained steps the numbers
    for entry in entries:
        scale = 100 if entry.results["metric"] == "accuracy" else 1
        for i, row in enumerate(entry.results["rows"]):
            numbers = [(run["rows"][i]["mean"], run["rows"][i]["ci95"]) for run in entry.runs]
            if _steps_of_the_paper(row) and None not in {mean for mean, _ in numbers}:
                column = paper.column(row["data"], row["setting"], row["steps"])
                found = ours.setdefault((row["data"], _label(row), column), {})
                number = [scale * fmean(n) for n in zip(*numbers)]
                number += [bool(entry.short), entry.results["name"]]
                found.setdefault(entry.results["trained_steps"], []).append(number)
    blocks = []
    for data in dict.fromkeys([*TITLES, *(data for data, _, _ in ours)]):
        printed = paper.TABLES.get(data, {}) | paper.ELSEWHERE.get(data, {})
        rows = {
            f"{method}, {column}": (number, max(ours[data, method, column].items())[1])
            for method, numbers in printed.items()
            for column, number in numbers.items()
            if (data, method, column) in ours
        }
        if rows and len(entries) > 1:
            path = out / f"{_file_name(data)}-near.png"
            draw = lambda axes, rows=rows, data=data: plots.beside_printed(
                rows, TITLES.get(data, data), ax=axes[0]
            )
            plots.save(path, draw, height=0.9 + 0.27 * len(rows))
            blocks.append(_picture(path, f"{data}: {NEAR}", out))
    return blocks


def _file_name(data):
    return re.sub("[^a-z0-9]+", "-", data.lower())


def _steps_of_the_paper(row):
    """Whether a row of a method of the paper is of as many gradient steps as its number."""
    data, method = row["data"], row["method"]
    own = data in ("Omniglot", "MiniImageNet") and method.startswith("MAML")
    own = own and method in paper.TABLES[data]
    return not own or row["steps"] == paper.steps(data, row["setting"])


def _label(row):
    """Return the name of a result's row in a table: the paper's, if it is taken as there."""
    usual = "support batch" if row["method"] == "Fine-tuning" else "query batch"
    words = {"query batch": "query batch", "support batch": "support only"}.get(row["batch_norm"])
    other = f", batch norm from {words}" if words and row["batch_norm"] != usual else ""
    return row["method"] + other


def _printed(numbers, data):
    """Return what the paper prints: a mean and, if it has one, the half of its interval."""
    digits = _digits(data)
    return " ± ".join(f"{x:.{digits}f}" for x in numbers if x is not None) or "—"


def _cell(found):
    """Return our numbers of a cell, each told apart from the others and linked to its run."""
    lines = []
    for entry, i in found:
        row = entry.results["rows"][i]
        # of several seeds the first: the score says how many there are
        names = [_text(entry.runs[0]["name"])] * any(other is not entry for other, _ in found)
        if not _steps_of_the_paper(row):
            names.append(f"after {row['steps']} step{'s' * (row['steps'] != 1)}")
        lines.append(f"{', '.join(names)}: " * bool(names) + f"[{entry.row_score(i)}](#{entry.id})")
        untrained = "raw pixels" in row["method"] or row.get("floor") == "untrained"
        lines[-1] += " †" * bool(entry.short and not untrained)
    return "<br>".join(lines) or "—"


def _section(entry, out):
    """Return the blocks about the runs of an entry."""
    facts = [_facts(entry, run) for run in entry.runs]
    blocks = [
        f'<a id="{entry.id}"></a>',
        f"### {_text(entry.name)}",
        "\n".join(["```sh", *[_line(command(run, run["images"])) for run in entry.runs], "```"]),
        f"Protocol: {entry.protocol()}.",
        _table("How it was made", facts[0], [one.values() for one in facts]),
    ]
    if curves := entry.results["curves"]:
        what = WHAT[entry.results["metric"]]
        scores = zip_longest(*map(entry.curve, curves), fillvalue="—")
        rows = [(str(steps), *row) for steps, row in enumerate(scores)]
        head = [entry.results.get("axis", "gradient steps"), *map(_text, curves)]
        blocks.append(_table(f"{what} on test tasks", head, rows))
    for run in entry.runs:
        for path in sorted(filter(Path.is_file, run["run"].path.glob("*.png"))):
            blocks.append(_picture(path, f"{run['name']}: {path.stem.replace('_', ' ')}", out))
    return blocks


def _facts(entry, run):
    """Return how a run was made, by the heads of a table."""
    training, last = run.get("training") or {}, "—"
    versions = training.get("versions", {}).items()
    for row in run["run"].read_metrics(until=run["trained_steps"]):
        if row["validation"] is not None:
            last = f"{entry.number(row['validation'])} at iteration {row['step']:,}"
    return {
        "run": _text(run["name"]),
        "seed": str(run["seed"]),
        "parameters": _known(run.get("parameters"), "{:,}"),
        "training": entry.short or f"{run['trained_steps']:,} iterations",
        "time (h:min:s)": _duration(run.get("train_seconds")),
        "peak memory": _known(training.get("peak_memory_mb"), "{:,.0f} MB"),
        "ms to learn a new task": _known(run.get("task_ms"), "{:,.1f}"),
        "peak memory of the test": _known(run.get("peak_memory_mb"), "{:,.0f} MB"),
        "cores": str(training.get("cores", "unknown")),
        "last validation in training": last,
        "versions": _text(", ".join(map(" ".join, versions))) or "unknown",
    }


def _all_systems(entries, data, out):
    """Say what each system costs, and draw their scores over the time of training together.

    Of runs that differ in their seed only, the first stands for all.
    """
    if len(entries) < 2:
        return []
    metric = entries[0].results["metric"]
    panels, rows = {}, []  # by setting the curves by run
    for entry in entries:
        run, setting = entry.results["run"], entry.results["rows"][0]["setting"]
        facts = _facts(entry, entry.results)
        link = f"[{_text(entry.name)}](#{entry.id})"
        rows.append([link, _text(shlex.join(recipe(entry.results))), _text(setting)])
        rows[-1] += [facts[fact] for fact in COSTS]
        held_out = [r for r in run.read_metrics() if r["validation"] is not None]
        if held_out:
            curves = panels.setdefault(setting, {})
            curves[entry.name] = [[r[key] for r in held_out] for key in ("seconds", "validation")]
    head = ["run", "experiment", "validated on", *COSTS]
    table = _table("Training, and learning a task", head, rows)
    blocks = [f"## {_text(data)}: what each system costs", table]
    panels = sorted(
        panels.items(), key=lambda panel: [int(n) for n in re.findall(r"\d+", panel[0])]
    )
    if panels:

        def draw(axes):
            for ax, (setting, curves) in zip(axes, panels):
                plots.time_curves(curves, setting, metric, ax=ax)

        path = out / f"{_file_name(data)}-systems.png"
        plots.save(path, draw, width=5 * len(panels), height=4.5, panels=(1, len(panels)))
        blocks.append(_picture(path, f"{data}: {metric} over the time of training", out))
    return blocks


def _all_sinusoids(entries, out):
    """Draw all methods on sinusoids together, as the paper's Figure 3, if there are several."""
    panels = {}  # by label the curves by method
    for entry in entries:
        for label in entry.results["curves"] if entry.data == "sinusoid" else ():
            curves, method = panels.setdefault(label, {}), entry.results["rows"][0]["method"]
            name = f"{method} ({entry.name})" if method in curves else method
            means = [run["curves"][label]["mean"] for run in entry.runs]
            curves[name] = np.array(means, float).mean(axis=0)
    if max(map(len, panels.values()), default=0) < 2:
        return []

    def draw(axes):
        for ax, (label, curves) in zip(axes, panels.items()):
            plots.method_curves(curves, label, "mean squared error", ax=ax)
        plots.shared_legend(axes)

    path = out / "sinusoid-methods.png"
    plots.save(path, draw, width=4 * len(panels), height=4, panels=(1, len(panels)))
    return [_picture(path, "all methods over gradient steps, as Figure 3 of the paper", out)]


def _table(caption, head, rows):
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([f"**{caption}**", "", lines[0], "|" + "---|" * len(head), *lines[1:]])


def _picture(path, words, out):
    link = Path(os.path.relpath(os.path.realpath(path), os.path.realpath(out))).as_posix()
    return f"![{_text(words)}]({quote(link)})"


def _embedded(out, link):
    """Return a link that holds the picture which one on the page leads to."""
    return f"data:image/png;base64,{base64.b64encode((out / unquote(link)).read_bytes()).decode()}"


def _line(text):
    return " ".join(text.split())


def _text(text):
    """Return Markdown that shows a text as it is, on one line: no tags, links or table cells."""
    return re.sub(r"[\\`*_\[\]|]", r"\\\g<0>", html.escape(_line(text), quote=False))


def _code(text):
    return f"`{_line(text).replace('`', '')}`"


def _digits(data):
    """Return how many decimals the paper prints."""
    return 2 if data in ("MiniImageNet", "sinusoid") else 1


def _known(value, form):
    return "unknown" if value is None else form.format(value)


def _duration(seconds):
    return "unknown" if seconds is None else str(timedelta(seconds=round(seconds)))
