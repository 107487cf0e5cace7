"""The paper's tables with runs beside them, as Markdown and HTML: ``tinymaml report RUNS...``."""

import math
import os
import re
from pathlib import Path

from ...errors import UserError
from ...pictures import plots
from .. import paper
from ..classification import QUERY, SUPPORT
from ..runs import replacing
from .document import (
    BREAK,
    Bullets,
    Commands,
    Heading,
    Image,
    Link,
    Paragraph,
    Table,
    markdown,
    to_html,
)
from .entries import digits, group, in_words, short_names
from .outcomes import read

TITLE = "Results beside the paper's"
#: The headings of the paper's data; any other has its own name
TITLES = {
    "Omniglot": "Omniglot (Table 1)",
    "MiniImageNet": "MiniImageNet (Table 1)",
    "sinusoid": "Sinusoid (Table 2)",
}


def report(runs, out):
    """Write the paper's tables with ours beside them, and a section for each run.

    Parameters
    ----------
    runs : list of str or Path
        Folders of runs. Those that differ in their seed only become one entry: their mean, the
        interval over tasks, and apart from it the standard deviation over the seeds.
    out : str or Path
        The folder of ``report.md``, which links the runs' figures where they are, of
        ``report.html``, which holds them and so can be sent as one file, and of a figure of all
        methods on sinusoids if there are several.

    Returns
    -------
    list of Path
        The two pages.

    Raises
    ------
    UserError
        If a run lacks a file, a file is damaged, or the pages cannot be written.

    Examples
    --------
    >>> report(["nowhere"], "page")
    Traceback (most recent call last):
    ...
    tinymaml.errors.UserError: nowhere holds no run: results.json is missing; ...
    """
    folders = list({os.path.realpath(run): run for run in runs}.values())
    entries = group([read(*run) for run in zip(folders, short_names(folders))])
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {out}: {error.strerror}; choose another --out"
        ) from error
    blocks = _page(entries, _sinusoids(entries, out))
    pages = {"report.md": markdown(blocks, out), "report.html": to_html(TITLE, blocks)}
    for name, text in pages.items():
        with replacing(out / name) as file:
            file.write(text.encode())
    return [out / name for name in pages]


def _sinusoids(entries, out):
    """Draw all methods on sinusoids together, as the paper's Figure 3; return the picture's block.

    Nothing is drawn, and no block returned, for fewer than two methods.
    """
    runs = [entry for entry in entries if entry.data()[0] == "sinusoid"]
    labels = list(dict.fromkeys(label for entry in runs for label in entry.results["curves"]))
    panels = []
    for label in labels:
        curves = {}
        for entry in runs:
            if label in entry.results["curves"]:
                method = entry.results["rows"][0]["method"]
                name = f"{method} ({entry.name})" if method in curves else method
                means = [score.mean for score in entry.curve(label)]
                curves[name] = [math.nan if mean is None else mean for mean in means]
        panels.append(curves)
    if max(map(len, panels), default=0) < 2:
        return []

    def draw(axes):
        for ax, label, curves in zip(axes, labels, panels):
            plots.method_curves(curves, label, "mean squared error", ax=ax)
        handles = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(*handles, frameon=False, loc="outside lower center", ncols=5)

    path = out / "sinusoid-methods.png"
    plots.save(path, draw, width=4 * len(labels), height=4, panels=(1, len(labels)))
    words = "all methods on sinusoids over gradient steps, as Figure 3 of the paper"
    return [Image(path, path.read_bytes(), words)]


def _page(entries, sinusoids):
    """Return the blocks of the page."""
    about = (
        "Paper: Finn, Abbeel & Levine 2017, Model-Agnostic Meta-Learning for Fast Adaptation of "
        "Deep Networks, as printed. Ours: the runs at the end of this page, to which the numbers "
        "link. ± is a 95 % interval over test tasks."
    )
    if any(len(entry.runs) > 1 for entry in entries):
        about += (
            " Runs that differ in their seed only are one entry: the mean over the seeds; "
            "± (tasks) is the mean of their intervals, ± (seeds) the standard deviation of their "
            "means."
        )
    if any(score.diverged for entry in entries for _, score in entry.rows()):
        about += " Diverged tasks are counted and left out of the mean."
    data = [*TITLES, *(row["data"] for entry in entries for row, _ in entry.rows())]
    tables = []
    for one in dict.fromkeys(data):
        tables += _tables(one, entries) + (sinusoids if one == "sinusoid" else [])
    return [
        Heading(1, TITLE),
        Paragraph(about),
        *tables,
        Heading(2, "Runs"),
        *[block for entry in entries for block in _section(entry)],
    ]


def _tables(data, entries):
    """Return the blocks about one data set: the paper's table, what is not in it, and notes."""
    printed = paper.TABLES.get(data, {})
    theirs = list(dict.fromkeys(column for row in printed.values() for column in row))
    cells = {}  # by label and column the entries with their rows and scores
    for entry in entries:
        for row, score in entry.rows():
            if row["data"] == data:
                column = paper.column(data, row["setting"], row["steps"])
                cells.setdefault((_label(row), column), []).append((entry, row, score))
    more = {column for _, column in cells if column not in theirs}
    more = sorted(more, key=lambda column: [int(n) for n in re.findall(r"\d{1,9}", column)])
    what = "Mean squared error" if data == "sinusoid" else "Accuracy in per cent"
    blocks = [Heading(2, TITLES.get(data, data))]
    if printed:
        blocks.append(_table(f"{what}, paper and ours", data, printed, theirs, cells))
    else:
        blocks.append(
            Paragraph(
                "These images are not known to be MiniImageNet, nor the paper's selection of "
                "Omniglot: the numbers cannot be compared with the paper's."
            )
        )
    if more:
        caption = f"{what}, ours" + " (not in the paper's table)" * bool(printed)
        blocks.append(_table(caption, data, {}, more, cells))
    return blocks + _notes(cells)


def _label(row):
    """Return the name of a result's row in a table: the paper's, if it is taken as there."""
    usual = SUPPORT if row["method"] == "Fine-tuning" else QUERY
    words = {QUERY: ", batch norm from query batch", SUPPORT: ", batch norm from support only"}
    return row["method"] + words.get(row["batch_norm"], "") * (row["batch_norm"] != usual)


def _table(caption, data, printed, columns, cells):
    """Return a table of the paper's rows, each followed by its variant, and of other methods."""
    methods = {method: method for method in printed}  # by label
    for (label, column), found in cells.items():
        if column in columns:
            methods[label] = found[0][1]["method"]
    order = list(dict.fromkeys(methods.values()))
    head, rows = ["method"], []
    for column in columns:
        head += [f"{column}, paper", f"{column}, ours"] if printed else [column]
    for label in sorted(methods, key=lambda label: (order.index(methods[label]), label)):
        row = [label]
        for column in columns:
            if printed:
                numbers = [x for x in printed.get(label, {}).get(column, ()) if x is not None]
                row.append(" ± ".join(f"{x:.{digits(data)}f}" for x in numbers) or "—")
            row.append(_cell(cells.get((label, column), [])))
        rows.append(row)
    return Table(caption, head, rows)


def _cell(found):
    """Return our numbers of a cell, each told apart from the others and linked to its run."""
    several = len({entry.id for entry, _, _ in found}) > 1
    told = [key for key in ("steps", "batch_norm") if len({row[key] for _, row, _ in found}) > 1]
    line = []
    for entry, row, score in found:
        names = [entry.name] * several
        names += [f"{key.replace('_', ' ')} {row[key]}" for key in told]
        of_the_paper = row["data"] in ("Omniglot", "MiniImageNet") and "MAML" in row["method"]
        if of_the_paper and row["steps"] != paper.steps(row["data"], row["setting"]):
            words = f"after {row['steps']} step{'s' * (row['steps'] != 1)}"
            names += [words] * ("steps" not in told)
        text = score.text(row["data"], entry.results["metric"])
        short = entry.runs[0].missing_iterations
        line += [BREAK] * bool(line)
        line += [f"{', '.join(names)}: "] * bool(names) + [Link(text, entry.id)]
        # no network took part in what pixels alone say
        line += [f" at {short}"] * bool(short and "raw pixels" not in row["method"])
    return line or "—"


def _notes(cells):
    """Return what stands under a table: how its numbers were taken, and how they differ."""
    entries = {entry.id: entry for found in cells.values() for entry, _, _ in found}
    if not entries:
        return [Paragraph("None of the runs is of these data.")]
    blocks, methods = [], {}  # by whose statistics batch norm takes
    for found in cells.values():
        for _, row, _ in found:
            methods.setdefault(row["batch_norm"], {})[row["method"]] = None
    if "support batch" in methods:
        blocks.append(
            Paragraph(
                "Batch norm takes the statistics of all query images of a task together, as the "
                "paper's code does for MAML, or those of the support images, so that a query image "
                "is classified by itself; that is the nearest that we have to the running averages "
                "of the fine-tuning baseline which the paper quotes. A row that is taken in the "
                "other way says so."
            )
        )
    if "training images" in methods:
        names = ", ".join(methods["training images"])
        blocks.append(Paragraph(f"{names}: batch norm takes the statistics of training images."))
    lines = []
    for entry in entries.values():
        options = " ".join(entry.runs[0].options)
        lines.append([Link(entry.name, entry.id), f" ({options})" * bool(options)])
        lines[-1].append(f": {entry.protocol()}")
    rivals = {tuple({e.id: e for e, _, _ in found}.values()): None for found in cells.values()}
    lines += [_difference(rival) for rival in rivals if len(rival) > 1]
    return [*blocks, Bullets(lines)]


def _difference(entries):
    settings = [entry.settings() for entry in entries]
    differ = []
    for key in dict.fromkeys(key for one in settings for key in one):
        values = [str(one.get(key, "—")) for one in settings]
        if len(set(values)) > 1:
            differ.append(f"{key.replace('_', ' ')} {' vs '.join(values)}")
    names = " vs ".join(entry.name for entry in entries)
    return f"{names}: {'; '.join(differ) or 'the same settings'}"


def _section(entry):
    """Return the blocks about the runs of an entry."""
    blocks = [
        Heading(3, entry.name, entry.id),
        Commands([run.command for run in entry.runs]),
        Paragraph(f"Protocol: {entry.protocol()}."),
        _facts(entry),
    ]
    if entry.results["curves"]:
        blocks.append(_curves(entry))
    for run in entry.runs:
        blocks += [
            Image(path, data, f"{run.name}: {path.stem.replace('_', ' ')}")
            for path, data in run.figures
        ]
        if run.left_out:
            names = ", ".join(run.left_out)
            blocks.append(Paragraph(f"Left out, being no pictures or too large: {names}."))
    return blocks


def _facts(entry):
    head = ["run", "seed", "training", "time", "peak memory", "peak memory of the test", "cores"]
    head += ["last validation in training", "versions"]
    rows = []
    for run in entry.runs:
        results, validation = run.results, "—"
        if run.validation:
            step, score = run.validation
            score = in_words(score, entry.data()[0], results["metric"])
            validation = f"{score} at iteration {step:,}"
        training = results["training"] or {}
        cores, versions = training.get("cores"), training.get("versions", {})
        rows.append(
            [
                run.name,
                str(run.seed),
                run.missing_iterations or f"{results['trained_steps']:,} iterations",
                _duration(results["train_seconds"]),
                _megabytes(training.get("peak_memory_mb")),
                _megabytes(results["peak_memory_mb"]),
                "unknown" if cores is None else f"{cores:g}",
                validation,
                ", ".join(f"{name} {version}" for name, version in versions.items()) or "unknown",
            ]
        )
    return Table("How it was made", head, rows)


def _megabytes(memory):
    return "unknown" if memory is None else f"{memory:,.0f} MB"


def _duration(seconds):
    """Return a time in words.

    Examples
    --------
    >>> _duration(80.2), _duration(1800), _duration(20000), _duration(None)
    ('80 s', '30 min', '5.6 h', 'unknown')
    """
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _curves(entry):
    """Return the table of the scores after every gradient step."""
    results, data = entry.results, entry.data()
    longest = max(len(curve["mean"]) for curve in results["curves"].values())
    head, rows = ["gradient steps"], [[str(step)] for step in range(longest)]
    for label in results["curves"]:
        head.append(label)
        scores = [score.text(data[0], results["metric"]) for score in entry.curve(label)]
        for row, text in zip(rows, scores + ["—"] * (longest - len(scores))):
            row.append(text)
        # other data are never set beside the paper
        if label in results["paper"] and set(data) <= set(paper.TABLES):
            head.append(f"{label}, paper")
            for step, row in enumerate(rows):
                value = results["paper"][label].get(str(step))
                row.append(in_words(value, data[0], results["metric"]))
    what = "Mean squared error" if results["metric"] == "MSE" else "Accuracy in per cent"
    return Table(f"{what} on test tasks", head, rows)
