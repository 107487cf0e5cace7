"""The report: each number in its cell and no other."""

import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from tinymaml.errors import UserError
from tinymaml.experiments import EXPERIMENTS, paper
from tinymaml.experiments.report import report
from tinymaml.pictures import plots

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
HOSTILE = "<script>alert(1)</script> | [x](javascript:y) *a* `b` \"q' & \n# head"


def row(data="Omniglot", method="MAML", setting="5-way 1-shot", mean=0.984, ci95=0.005, **more):
    """A row as an experiment writes it; the mean and interval can be of MSE too."""
    usual = {
        "steps": 10 if data == "MiniImageNet" else 3,
        "batch_norm": "query batch",
        "tasks": 600,
        "diverged": 0,
    }
    return {"data": data, "method": method, "setting": setting, "mean": mean, "ci95": ci95} | (
        usual | more
    )


METRICS = "step,seconds,meta_loss,validation,diverged\n"


def write(folder, *rows, experiment="omniglot", trained=60_000, pictures=(), csv="", **changes):
    """Write a run's folder with these rows; other arguments are settings."""
    folder.mkdir(parents=True)
    settings = EXPERIMENTS[experiment].config() | changes
    of_sinusoids = experiment.startswith("sinusoid")
    steps = {"mean": [0.2, 0.98], "ci95": [0.0, 0.01], "diverged": [0, 0], "tasks": 600}
    results = {
        "experiment": experiment,
        "settings": settings,
        "seed": settings["seed"],
        "trained_steps": trained,
        "train_seconds": 5400.0,
        "training": {"peak_memory_mb": 321, "versions": {"tinymaml": "0.1.0"}, "cores": 2},
        "seconds": 8.4,
        "peak_memory_mb": 123,
        "protocol": f"accuracy over 600 tasks, seed {settings['seed']}; batch norm: query batch",
        "metric": "MSE" if of_sinusoids else "accuracy",
        "curves": {"query batch": steps},
        "paper": {"query batch": {"1": 0.987}},
        "rows": list(rows),
        "versions": {"tinymaml": "0.1.0", "numpy": "2.4.6"},
        "cores": 16,
        "parameters": 111_749,
        "task_ms": 4.21,
    }
    config = {"experiment": experiment, "settings": settings, "data": None}
    if not of_sinusoids:
        config["data"] = "/home/someone/images"
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.json").write_text(json.dumps(config))
    if csv:
        (folder / "metrics.csv").write_text(csv)
    for name in pictures:
        (folder / name).write_bytes(PNG)
    return folder


def change(run, **results):
    content = json.loads((run / "results.json").read_text()) | results
    (run / "results.json").write_text(json.dumps(content))


class Page(HTMLParser):
    """The tables of an HTML page by the heading above, and what else a test asks of it."""

    EMPTY = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.tags, self.ids, self.links = [], {}, set(), [], []
        self.images, self.text, self.rows, self.cell = [], "", None, None
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        self.images += [attributes] if tag == "img" else []
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td", "h2", "h3"):
            self.cell = ""
        elif tag == "br":
            self.cell += "\n"

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("h2", "h3"):
            self.heading = self.cell
        elif tag == "table":
            self.tables.setdefault(self.heading, []).append(self.rows)
        elif tag in ("th", "td"):
            self.rows[-1].append(self.cell)

    def handle_data(self, data):
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        self.text += data
        if self.cell is not None:
            self.cell += data

    def table(self, heading, number=0):
        """A table under a heading as {row: {column: text}}."""
        head, *rows = self.tables[heading][number]
        assert all(len(cells) == len(head) for cells in rows)
        return {cells[0]: dict(zip(head[1:], cells[1:])) for cells in rows}


def made(tmp_path, *runs):
    """The two pages of a report about runs: Markdown's text and the parsed HTML."""
    left, right = report(runs, tmp_path / "page")
    files = {path.name for path in (tmp_path / "page").iterdir()}
    assert {name for name in files if not name.endswith("-near.png")} == {
        "report.md",
        "report.html",
    }
    return left.read_text(), Page(right.read_text())


def markdown_tables(text):
    """The tables of a Markdown page as lists of rows of cells, which pipes without \\ divide."""
    tables, last = [], False
    for line in text.splitlines():
        if line.startswith("|"):
            if not last:
                tables.append([])
            tables[-1].append([c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]])
        last = line.startswith("|")
    return tables


# The paper


def test_values_of_the_paper():
    assert paper.value("Omniglot", "MAML", "5-way 5-shot") == (99.9, 0.1)
    assert paper.value("Omniglot", "Siamese nets", "20-way 1-shot") == (88.2, None)
    assert paper.value("MiniImageNet", "MAML, first order", "5-way 1-shot") == (48.07, 1.75)
    assert paper.value("sinusoid", "Pretrained", "K = 5", 5) == (2.23, None)
    for nothing in (
        ("Omniglot", "MANN, no conv", "20-way 1-shot"),
        ("MiniImageNet", "MAML", "20-way 1-shot"),
        ("grocerystore", "MAML", "5-way 1-shot"),
        ("sinusoid", "MAML", "K = 10", 1),
        ("sinusoid", "MAML", "K = 5", 2),
    ):
        assert paper.value(*nothing) is None


def test_every_row_and_number_of_the_paper_is_there_without_ours(tmp_path):
    text, page = made(tmp_path, write(tmp_path / "run", row("photographs")))
    for heading, table, digits in (
        ("Omniglot (Table 1)", paper.TABLES["Omniglot"], 1),
        ("MiniImageNet (Table 1)", paper.TABLES["MiniImageNet"], 2),
        ("Sinusoid (Table 2)", paper.TABLES["sinusoid"], 2),
    ):
        shown = page.table(heading)
        assert list(shown) == list(table)
        for method, columns in table.items():
            for column, (mean, half) in columns.items():
                printed = f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half else "")
                assert shown[method][f"{column}, paper"] == printed
                assert shown[method][f"{column}, ours"] == "—"
                assert printed in text
    assert shown["MAML"]["K = 5, 10 steps, paper"] == "0.35"
    assert page.text.count("None of the runs is of these data.") == 3


# Ours beside it


def test_our_numbers_stand_in_their_cells(tmp_path):
    a = write(tmp_path / "a", row(), row(mean=0.9666, ci95=0.0071, batch_norm="support batch"))
    b = write(
        tmp_path / "b",
        row("MiniImageNet", mean=0.48123, ci95=0.0184),
        row("MiniImageNet", "Nearest neighbour", mean=None, batch_norm="training images"),
        experiment="miniimagenet",
    )
    waves = [
        row("sinusoid", "MAML", f"K = {k}", k / 10 + steps, 0.125, steps=steps, batch_norm=None)
        for k in (5, 10)
        for steps in (1, 5, 10)
    ]
    waves[2]["diverged"] = 2
    c = write(tmp_path / "c", *waves, experiment="sinusoid", trained=70_000)
    text, page = made(tmp_path, a, b, c)

    omniglot = page.table("Omniglot (Table 1)")
    assert omniglot["MAML"]["5-way 1-shot, paper"] == "98.7 ± 0.4"
    assert omniglot["MAML"]["5-way 1-shot, ours"] == "98.4 ± 0.5"
    alone = omniglot["MAML, batch norm from support only"]
    assert (alone["5-way 1-shot, paper"], alone["5-way 1-shot, ours"]) == ("—", "96.7 ± 0.7")
    assert list(omniglot)[-2:] == ["MAML", "MAML, batch norm from support only"]
    images = page.table("MiniImageNet (Table 1)")
    assert images["MAML"]["5-way 1-shot, ours"] == "48.12 ± 1.84"
    assert images["Nearest neighbour"]["5-way 1-shot, ours"] == "—"

    errors = page.table("Sinusoid (Table 2)")["MAML"]
    assert errors["K = 5, 1 step, ours"] == "1.50 ± 0.12"
    assert errors["K = 5, 10 steps, ours"] == "10.50 ± 0.12, 2 diverged"
    assert "Diverged tasks are counted and left out of the mean." in page.text
    assert page.table("Sinusoid (Table 2)", 1)["MAML"]["K = 10, 5 steps"] == "6.00 ± 0.12"

    # the same in Markdown, where each number is a link to its run
    assert "| 98.7 ± 0.4 | [98.4 ± 0.5](#run-a) |" in text
    assert '<a id="run-a"></a>\n\n### a' in text
    # tables without runs come last
    assert list(page.tables)[:3] == [
        "Omniglot (Table 1)",
        "MiniImageNet (Table 1)",
        "Sinusoid (Table 2)",
    ]
    # and every link leads somewhere
    assert set(page.links) == {"#run-a", "#run-b", "#run-c"} <= {f"#{id}" for id in page.ids}
    assert len(page.ids) == len(set(page.ids))


def test_what_the_paper_did_not_measure_has_rows_and_tables_too(tmp_path):
    run = write(
        tmp_path / "run",
        row(method="ProtoNet", mean=0.96, steps=0),
        row(method="MAML, first order", mean=0.95),
        row(setting="7-way 2-shot", mean=0.91),
    )
    page = made(tmp_path, run)[1]
    table = page.table("Omniglot (Table 1)")
    assert list(table)[-3:] == ["MAML", "ProtoNet", "MAML, first order"]
    for method, printed, number in (
        ("ProtoNet", "98.8", "96.0 ± 0.5"),  # by its own paper
        ("MAML, first order", "—", "95.0 ± 0.5"),
    ):
        assert table[method]["5-way 1-shot, paper"] == printed
        assert table[method]["5-way 1-shot, ours"] == number
    assert page.table("Omniglot (Table 1)", 1) == {"MAML": {"7-way 2-shot": "91.0 ± 0.5"}}


def test_floors_are_rows_and_what_no_training_made_is_not_marked_as_short(tmp_path):
    pixels = row(method="Nearest neighbour, raw pixels", mean=0.45, floor="pixels", tasks=100)
    runs = [
        write(
            tmp_path / name,
            row(method=name, mean=0.97),
            pixels,
            row(method=f"{name}, untrained", mean=0.5, floor="untrained"),
            row(method=f"{name}, shuffled labels", mean=0.2, floor="shuffled labels"),
            trained=10,
        )
        for name in ("ProtoNet", "Reptile")
    ]
    table = made(tmp_path, *runs)[1].table("Omniglot (Table 1)")
    ours = {method: cells["5-way 1-shot, ours"] for method, cells in table.items()}
    assert ours["Nearest neighbour, raw pixels"] == "45.0 ± 0.5"  # once, beside both
    for name in ("ProtoNet", "Reptile"):
        assert ours[f"{name}, untrained"] == "50.0 ± 0.5"
        assert ours[f"{name}, shuffled labels"] == "20.0 ± 0.5 †" and "†" in ours[name]


def test_tables_with_runs_come_first(tmp_path):
    runs = [write(tmp_path / "a", row("grocerystore"), experiment="miniimagenet")]
    runs += [write(tmp_path / "b", row("sinusoid", mean=1.0), experiment="sinusoid")]
    headings = re.findall("^## (.*)$", made(tmp_path, *runs)[0], re.M)
    expected = ["Sinusoid (Table 2)", "grocerystore", "Omniglot (Table 1)"]
    assert headings == [*expected, "MiniImageNet (Table 1)", "Runs"]


def test_markdown_and_html_hold_the_same_tables(tmp_path):
    runs = [
        write(tmp_path / name, row(mean=mean), pictures=["curve.png"], n_query=i)
        for i, (name, mean) in enumerate((("a|b", 0.9), ("c", 0.8)))
    ]
    text, page = made(tmp_path, *runs)
    ours = [table for tables in page.tables.values() for table in tables]
    theirs = markdown_tables(text)
    assert len(ours) == len(theirs) == 8
    for html_table, (head, rule, *rows) in zip(ours, theirs):
        assert set(rule) == {"---"}
        assert {len(cells) for cells in (head, rule, *rows)} == {len(html_table[0])}
        for html_row, cells in zip(html_table, [head, *rows]):
            plain = [re.sub(r"\[(.*?)\]\(#.*?\)", r"\1", c).replace("<br>", "\n") for c in cells]
            assert [c.replace("\\", "") for c in plain] == html_row


# Several runs


def test_seeds_are_one_entry_with_their_spread_apart(tmp_path):
    means, halves = (0.98, 0.99, 0.964), (0.005, 0.004, 0.009)
    runs = [
        write(tmp_path / f"seed-{i}", row(mean=mean, ci95=half), row(mean=m, setting="x"), seed=i)
        for i, (mean, half, m) in enumerate(zip(means, halves, (0.5, None, 0.5)))
    ]
    page = made(tmp_path, *runs)[1]
    # mean 97.8; mean interval 0.6; sqrt((0.2² + 1.2² + 1.4²) / 2) = 1.311
    cell = page.table("Omniglot (Table 1)")["MAML"]["5-way 1-shot, ours"]
    assert cell == "97.8 ± 0.6 (tasks), ± 1.3 (3 seeds)"
    assert page.table("Omniglot (Table 1)", 1)["MAML"]["x"] == "—"  # one seed has no number
    assert "seed-0, seed-1, seed-2: omniglot; accuracy over 600 tasks, seeds 0, 1, 2;" in page.text
    for i in range(3):
        assert f"tinymaml train omniglot --seed {i} --data DIR/images" in page.text


def test_of_several_seeds_a_cell_names_the_first(tmp_path):
    runs = [
        write(tmp_path / f"{name}-seed{i}", row(mean=mean), inner_lr=rate, seed=i)
        for name, mean, rate in (("large", 0.98, 0.4), ("small", 0.95, 0.08))
        for i in range(2)
    ]
    page = made(tmp_path, *runs)[1]
    large, small = page.table("Omniglot (Table 1)")["MAML"]["5-way 1-shot, ours"].split("\n")
    assert large == "large-seed0: 98.0 ± 0.5 (tasks), ± 0.0 (2 seeds)"
    assert small.startswith("small-seed0: 95.0")


def test_seeds_of_other_images_or_other_tasks_are_not_one_entry(tmp_path):
    rows = (row("grocerystore"), row("MiniImageNet"), row("MiniImageNet", mean=0.5, tasks=50))
    runs = [
        write(tmp_path / name, one, experiment="miniimagenet", seed=seed)
        for seed, (name, one) in enumerate(zip("abc", rows))
    ]
    page = made(tmp_path, *runs)[1]
    assert page.table("grocerystore")["MAML"]["5-way 1-shot"] == "98.4 ± 0.5"
    cell = page.table("MiniImageNet (Table 1)")["MAML"]["5-way 1-shot, ours"]
    assert cell == "b: 98.40 ± 0.50\nc: 50.00 ± 0.50"


def test_the_same_folder_twice_is_one_run(tmp_path, monkeypatch):
    run = write(tmp_path / "run", row())
    monkeypatch.chdir(tmp_path)
    page = made(tmp_path, run, "run", "./run")[1]
    assert page.table("Omniglot (Table 1)")["MAML"]["5-way 1-shot, ours"] == "98.4 ± 0.5"


@pytest.mark.parametrize(
    ("second", "recipe"),
    [
        ({"inner_lr": 0.08, "seed": 1}, "omniglot --inner-lr 0.08"),
        ({"trained": 12_870, "seed": 1}, "omniglot --steps 12870; † 12,870 of 60,000 iterations"),
        ({"experiment": "omniglot-first-order"}, "omniglot-first-order"),
        ({}, "omniglot"),
    ],
)
def test_runs_of_other_settings_share_a_cell_by_name(tmp_path, second, recipe):
    a = write(tmp_path / "x" / "run", row())
    b = write(tmp_path / "y" / "run", row(mean=0.95), **second)
    page = made(tmp_path, a, b)[1]
    cell = page.table("Omniglot (Table 1)")["MAML"]["5-way 1-shot, ours"]
    assert cell == "x/run: 98.4 ± 0.5\ny/run: 95.0 ± 0.5" + " †" * ("trained" in second)
    assert "x/run: omniglot; accuracy" in page.text
    assert f"y/run: {recipe}; accuracy" in page.text


def test_rows_of_one_run_that_share_a_cell_are_told_apart(tmp_path):
    run = write(tmp_path / "run", row(), row(steps=10, mean=0.99))
    cell = made(tmp_path, run)[1].table("Omniglot (Table 1)")["MAML"]["5-way 1-shot, ours"]
    assert cell == "98.4 ± 0.5\nafter 10 steps: 99.0 ± 0.5"


def test_a_training_that_fell_short_is_marked_and_its_command_stops_there(tmp_path):
    pixels = row(method="Class means, raw pixels", mean=0.4, steps=0, batch_norm=None)
    run = write(tmp_path / "run", row(), pixels, trained=12_870, inner_lr=0.08)
    page = made(tmp_path, run)[1]
    table = page.table("Omniglot (Table 1)")
    assert table["MAML"]["5-way 1-shot, ours"] == "98.4 ± 0.5 †"
    assert "† 12,870 of 60,000 iterations" in page.text
    assert table["Class means, raw pixels"]["5-way 1-shot, ours"] == "40.0 ± 0.5"
    command = "tinymaml train omniglot --steps 12870 --inner-lr 0.08 --seed 0 --data DIR/images"
    assert sorted(command.split()) == sorted(
        next(line for line in page.text.splitlines() if "tinymaml train" in line).split()
    )
    assert "someone" not in page.text


# Other data


@pytest.mark.parametrize(("steps", "words"), [(3, ""), (1, "after 1 step: ")])
def test_a_result_after_other_steps_than_the_papers_says_so(tmp_path, steps, words):
    page = made(tmp_path, write(tmp_path / "run", row(steps=steps)))[1]
    assert page.table("Omniglot (Table 1)")["MAML"]["5-way 1-shot, ours"].startswith(f"{words}98")


def test_the_committed_report_is_made_of_the_committed_runs(tmp_path):
    """But for the paths of the pictures, by the command that docs/results.md names."""
    results = Path(__file__).parents[1] / "docs" / "results"
    runs = [folder for folder in results.iterdir() if folder.is_dir()]
    runs.sort(key=lambda folder: f"{folder.name}/")  # as a shell sorts docs/results/*/
    made_now, _ = report(runs, tmp_path / "page")
    texts = [
        re.sub(r"\]\([^()#]*\.png\)", "", path.read_text())
        for path in (made_now, results / "report.md")
    ]
    assert texts[0] == texts[1]


def test_other_images_never_stand_beside_the_paper(tmp_path):
    run = write(
        tmp_path / "run",
        row("grocerystore", mean=0.5511, batch_norm="query batch"),
        row("grocerystore", "MAML, first order", "5-way 5-shot", mean=0.61),
        experiment="miniimagenet",
    )
    text, page = made(tmp_path, run)
    assert page.table("grocerystore") == {
        "MAML": {"5-way 1-shot": "55.1 ± 0.5", "5-way 5-shot": "—"},
        "MAML, first order": {"5-way 1-shot": "—", "5-way 5-shot": "61.0 ± 0.5"},
    }
    for said in (text, page.text):
        assert "The paper's numbers are of other data, and cannot be compared" in said
    for cells in page.table("MiniImageNet (Table 1)").values():
        assert all(cell == "—" for column, cell in cells.items() if column.endswith("ours"))


# A run's section


def test_a_section_tells_how_a_run_was_made(tmp_path):
    csv = METRICS + "20,1,1.0,,\n500,9,0.5,0.77,0\n70000,99,0.1,0.99,0\n"
    run = write(tmp_path / "my run", row(), pictures=["learning_curve.png", "b.png"], csv=csv)
    text, page = made(tmp_path, run)
    facts, curve = page.table("my run"), page.table("my run", 1)
    assert facts["my run"] == {
        "seed": "0",
        "parameters": "111,749",
        "training": "60,000 iterations",
        "time (h:min:s)": "1:30:00",
        "peak memory": "321 MB",
        "ms to learn a new task": "4.2",
        "peak memory of the test": "123 MB",
        "cores": "2",
        "last validation in training": "77.0 at iteration 500",
        "versions": "tinymaml 0.1.0",
    }
    assert curve == {
        "0": {"query batch": "20.0 ± 0.0"},
        "1": {"query batch": "98.0 ± 1.0"},
    }
    links = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert [(tmp_path / "page" / unquote(link)).read_bytes() for link in links] == [PNG, PNG]
    assert {image["alt"] for image in page.images} == {"my run: learning curve", "my run: b"}
    assert all(
        image["src"].startswith("data:image/png;base64,iVBORw0KGgp") for image in page.images
    )


def test_systems_are_drawn_together_over_their_time_and_their_costs_stand_in_one_table(
    tmp_path, monkeypatch
):
    drawn = []
    draw = lambda curves, title, metric, ax: drawn.append((title, metric, curves))
    monkeypatch.setattr(plots, "time_curves", draw)
    start = METRICS + "20,1,1.0,,\n500,9,0.5,0.77,0\n"
    runs = [
        write(tmp_path / "maml", row(), csv=start + "1000,20,0.4,0.8,0\n"),
        write(tmp_path / "again", row(), seed=1, csv=start),  # the first stands for both
        write(
            tmp_path / "protonet",
            *(row(method="ProtoNet"), row(method="ProtoNet", batch_norm="support batch")),
            experiment="omniglot-protonet",
            csv=start,
        ),
        write(tmp_path / "many", row(setting="20-way 1-shot"), experiment="omniglot-20way"),
    ]
    change(runs[2], parameters=111_424, trained_steps=2000, task_ms=1234.56)
    text, html = (path.read_text() for path in report(runs, tmp_path / "page"))
    curve = [[9, 20], [0.77, 0.8]]
    both = {"maml, again": curve, "protonet": [[9], [0.77]]}
    assert drawn == [("5-way 1-shot", "accuracy", both)]
    page = Page(html)
    costs = page.table("Omniglot: what each system costs")
    assert costs.keys() == {"maml, again", "protonet", "many"}
    assert costs["protonet"] == {
        "experiment": "omniglot-protonet --steps 2000",
        "validated on": "5-way 1-shot",
        "parameters": "111,424",
        "training": "2,000 of 20,000 iterations",
        "time (h:min:s)": "1:30:00",
        "peak memory": "321 MB",
        "ms to learn a new task": "1,234.6",
    }
    assert "](omniglot-systems.png)" in text and (tmp_path / "page/omniglot-systems.png").exists()


def test_every_printed_number_with_one_of_ours_is_drawn_in_the_papers_order(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        plots, "beside_printed", lambda rows, title, ax: drawn.setdefault(title, rows)
    )
    runs = [
        write(tmp_path / "a", row(mean=0.97, ci95=0.01)),
        write(tmp_path / "short", row(mean=0.5), trained=500),
        write(tmp_path / "b", row(mean=0.98), row(method="Matching nets", mean=None, ci95=None)),
        write(tmp_path / "c", row(method="Matching nets", setting="20-way 1-shot", mean=0.9)),
        write(tmp_path / "d", row(steps=7), row(method="None of the paper's")),
    ]
    report(runs, tmp_path / "page")
    (rows,) = drawn.values()
    assert list(rows) == ["Matching nets, 20-way 1-shot", "MAML, 5-way 1-shot"]
    printed, ours = rows["MAML, 5-way 1-shot"]
    assert printed == (98.7, 0.4)
    assert ours == [[97.0, 1.0, False, "a"], [98.0, 0.5, False, "b"]]
    assert "](omniglot-near.png)" in (tmp_path / "page/report.md").read_text()


def test_unknown_facts_are_unknown(tmp_path):
    run = write(tmp_path / "run", row())
    change(run, train_seconds=None, peak_memory_mb=None, training=None, curves={}, task_ms=None)
    page = made(tmp_path, run)[1]
    facts = page.table("run")["run"]
    for key in ("time (h:min:s)", "peak memory", "cores", "versions", "ms to learn a new task"):
        assert facts[key] == "unknown"
    assert facts["last validation in training"] == "—"


def test_runs_that_are_not_tested_yet_are_listed_with_the_command_that_tests_them(tmp_path):
    runs = [write(tmp_path / name, row()) for name in ("tested", "stopped", "my run")]
    for run in runs[1:]:
        (run / "results.json").unlink()
    text, page = made(tmp_path, *runs)
    assert f"stopped: not tested yet: tinymaml evaluate {runs[1]}" in page.text
    assert f"* my run: not tested yet: `tinymaml evaluate '{runs[2]}'`" in text
    assert page.table("Omniglot (Table 1)")["MAML"]["5-way 1-shot, ours"] == "98.4 ± 0.5"
    assert "not tested yet" in made(tmp_path, runs[1])[0]


# What stands in the files is shown, and is nothing but text


def test_hostile_texts_stay_texts(tmp_path):
    folder = tmp_path / "<b>|`$(x)`"
    run = write(
        folder,
        row(method=HOSTILE, setting=HOSTILE),
        row(data=HOSTILE, method=HOSTILE, batch_norm=HOSTILE),
        pictures=['"><img src=x>](y).png'],
    )
    change(
        run,
        protocol=HOSTILE,
        training={"peak_memory_mb": 1, "versions": {HOSTILE: HOSTILE}, "cores": 1},
        curves={HOSTILE: {"mean": [0.5], "ci95": [0.1], "diverged": [0]}},
    )
    text, page = made(tmp_path, run)
    assert page.tags <= set(
        "html head meta title style body h1 h2 h3 p a ul li table thead tbody tr th td strong pre "
        "code img br".split()
    )
    shown = " ".join(HOSTILE.split())
    assert page.text.count(shown) >= 6
    assert all(image["src"].startswith("data:image/png") for image in page.images)
    tags = re.findall(r"(?<!\\)<[^>]*>", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    assert set(tags) == {'<a id="run--b-x-">', "</a>"}
    assert "\n# head" not in text
    for head, *rows in markdown_tables(text):
        assert {len(cells) for cells in rows} == {len(head)}
    assert "[x](" not in text and "\\[x\\](javascript" in text


def test_hostile_settings_cannot_leave_the_command(tmp_path):
    run = write(tmp_path / "run", row(), **{"resize": "$(rm -rf ~)\n```\n", "a b;": 1})
    text, _ = made(tmp_path, run)
    line = next(line for line in text.splitlines() if line.startswith("tinymaml train"))
    assert "'$(rm -rf ~) ``` '" in line and "a b" not in line  # the latter is not a setting
    assert text.count("\n```\n") == 1


def test_every_missing_or_damaged_file_is_one_sentence_that_names_it(tmp_path):
    run = write(tmp_path / "run", row(), csv=METRICS + "20,1,1.0,0.5,0\n")
    good = {path.name: path.read_bytes() for path in run.iterdir()}

    def refused():
        with pytest.raises(UserError) as error:
            report([run], tmp_path / "page")
        assert "\n" not in str(error.value) and len(str(error.value)) < 400
        assert not (tmp_path / "page" / "report.md").exists()
        return str(error.value)

    for name in ("results.json", "config.json"):
        for damage in (b"", b"{", b"[]", b"\xff\xfe", b"null", good[name][:-20]):
            (run / name).write_bytes(damage)
            assert name in refused()
        (run / name).write_bytes(good[name])
    (run / "config.json").unlink()
    assert "holds no run: config.json is missing" in refused()
    (run / "config.json").write_bytes(good["config.json"])
    head = METRICS.encode()
    for damage in (head + b"1,1,x,,\n", b"\xff", b"step\n1,2\n", head + b"1,2"):
        (run / "metrics.csv").write_bytes(damage)
        assert "metrics.csv does not hold numbers" in refused()
    (run / "metrics.csv").write_bytes(good["metrics.csv"])
    report([run], tmp_path / "page")


def test_results_of_before_are_to_be_evaluated_again(tmp_path):
    run = write(tmp_path / "run", row())
    results = json.loads((run / "results.json").read_text())
    del results["rows"]
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(UserError, match=r"results.json has no 'rows'.*`tinymaml evaluate .*run`"):
        report([run], tmp_path / "page")


def test_numbers_that_are_none_are_dashes(tmp_path):
    run = write(tmp_path / "run", row(mean=None, ci95=None, diverged=600))
    page = made(tmp_path, run)[1]
    assert page.table("Omniglot (Table 1)")["MAML"]["5-way 1-shot, ours"] == "—, 600 diverged"


# Writing


def test_the_page_is_the_same_every_time_and_never_half_written(tmp_path):
    run = write(tmp_path / "run", row())
    before = made(tmp_path, run)[0]
    assert made(tmp_path, run)[0] == before
    (tmp_path / "page" / "report.md").rename(tmp_path / "kept")
    (tmp_path / "page" / "report.md").mkdir()  # in the way of writing
    with pytest.raises(UserError, match=r"cannot write .*report\.md"):
        report([run], tmp_path / "page")
    assert (tmp_path / "kept").read_text() == before
    assert not list((tmp_path / "page").glob(".*"))


@pytest.mark.parametrize(
    "change",
    [
        lambda results: results["rows"][0].pop("setting"),
        lambda results: results["rows"][0].update(ci95="much"),
        lambda results: results["rows"].clear(),
        lambda results: results["curves"]["query batch"].pop("diverged"),
        lambda results: results.update(settings=7),
        lambda results: results["training"].update(versions=[1]),
    ],
)
def test_results_that_lack_something_inside_are_one_sentence(tmp_path, change):
    run = write(tmp_path / "run", row())
    results = json.loads((run / "results.json").read_text())
    change(results)
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(UserError, match=r"run/results\.json is damaged or not a result of a test"):
        report([run], tmp_path / "page")


def test_a_pipe_among_the_figures_is_left_out(tmp_path):
    run = write(tmp_path / "run", row(), pictures=["curve.png"])
    os.mkfifo(run / "pipe.png")
    assert "pipe" not in made(tmp_path, run)[0]


def test_a_file_in_the_way_of_the_folder(tmp_path):
    (tmp_path / "page").write_text("")
    with pytest.raises(UserError, match="choose another one"):
        report([write(tmp_path / "run", row())], tmp_path / "page")


def test_html_is_one_file_that_loads_nothing(tmp_path):
    made(tmp_path, write(tmp_path / "run", row(), pictures=["curve.png"]))
    text = (tmp_path / "page" / "report.html").read_text()
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "<title>Results beside the paper's</title>" in text
    assert 'name="viewport"' in text and "color-scheme: light dark" in text
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|link|iframe|object)|https?:|url\(|@import", text)


def test_without_the_library_for_html_there_is_markdown_and_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "markdown", None)
    with pytest.warns(UserWarning, match=r"report\.html needs .*pip install"):
        pages = report([write(tmp_path / "run", row())], tmp_path / "page")
    assert pages == [tmp_path / "page" / "report.md"] == list((tmp_path / "page").iterdir())
