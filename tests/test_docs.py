"""The documentation: its commands and code run, it builds without a warning, its pages hold.

The first part needs no more than the other tests. The rest needs ``pip install -e '.[docs]'`` and a
Chromium, and is skipped without them.
"""

import functools
import inspect
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from glob import glob
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib.pyplot as plt
import numpy as np
import pytest

import tinymaml as tm
from tinymaml import cli
from tinymaml.checks import reference
from tinymaml.engine.op import table as derivative_table
from tinymaml.experiments import EXPERIMENTS, launch

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.M | re.S)

pytestmark = pytest.mark.numpy_only


def text(name):
    return (DOCS / name).read_text(encoding="utf-8")


# Commands and code


@pytest.fixture
def lesson_room(tmp_path, monkeypatch):
    """A folder with what the pages speak of, where everything takes few steps."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in "abcde":
            folder = tmp_path / "my_classes" / split / f"{split}-{label}"
            folder.mkdir(parents=True)
            for i in range(7):
                pixels = rng.integers(0, 256, (42, 42, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    write_notebook(tmp_path / "notebooks" / "03_maml_by_hand.ipynb", "import tinymaml")
    done = 'print("slope: right")\nprint("curvature: not yet")'
    write_notebook(tmp_path / "handed_in" / "ada.ipynb", done, "1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "TEST_TASKS", 2)
    monkeypatch.setattr(reference, "CASES", reference.CASES[:1])
    yield tmp_path
    plt.close("all")


def write_notebook(path, *sources):
    """Write a notebook of a few code cells; those of the lesson have tests of their own."""
    cells = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{i}",
            "metadata": {},
            "outputs": [],
            "source": source,
        }
        for i, source in enumerate(sources)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}}
    path.parent.mkdir()
    path.write_text(json.dumps(content | {"nbformat": 4, "nbformat_minor": 5}))


def run_page(name):
    """Run the blocks of a page in order; return what each printed."""
    names, printed = {}, {}
    for language, code in BLOCK.findall(text(name)):
        with redirect_stdout(io.StringIO()) as out:
            if language == "python":
                exec(re.sub(r"\b1000\b", "20", code), names)
            else:
                for line in code.splitlines():
                    run_command(line.replace(".venv/bin/", ""))
        printed[code] = out.getvalue()
    return printed


def run_command(line):
    """Run a line of a shell block with fewer steps; those that install are looked at instead."""
    words = shlex.split(line, comments=True)
    variables = {}
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    if "pip" in words:
        check_extras(line)
    elif words[0] == "tinymaml":
        run_tinymaml(words[1:], variables)
    elif words[:2] == ["jupyter", "nbconvert"]:
        pytest.importorskip("nbconvert", reason="pip install -e '.[notebooks]'")
        files = [file for word in words[2:] for file in (sorted(glob(word)) or [word])]
        command = [sys.executable, "-m", "nbconvert", *files]
        variables = os.environ | {"PYTHONPATH": str(ROOT)} | variables
        told = subprocess.run(command, env=variables, capture_output=True, text=True)
        assert told.returncode == 0, f"{line}\n{told.stderr}"
    else:
        raise AssertionError(f"how is this to be tested? {line}")


def run_tinymaml(words, variables):
    if "--steps" in words:
        at = words.index("--steps") + 1
        words[at] = str(int(words[at]) // 1000)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        if "TINYMAML_BACKEND" in variables:
            patch.setattr(tm.engine.backend, "_current", None)
        with redirect_stderr(io.StringIO()) as told:
            code = cli.main(words)
    # without a GPU the page promises one sentence
    fine = code == 0 or ("cupy" in variables.values() and "cupy" in told.getvalue())
    assert fine, f"{words}\n{told.getvalue()}"


def check_extras(line):
    extras = re.findall(r"\[([\w,-]+)\]", line)
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert extras
    for extra in ",".join(extras).split(","):
        assert re.search(rf'"{extra}"\]? ?[=:]', setup), f"{line}: there is no extra {extra}"


@pytest.mark.parametrize("page", ["learn.md", "design.md"])
def test_what_is_to_be_installed_exists(page):
    ((_, code),) = BLOCK.findall(text(page))
    check_extras(code)


@pytest.mark.slow
def test_how_to(lesson_room):
    printed = "".join(run_page("howto.md").values())
    assert "(5, 5)" in printed and "True True" in printed
    assert "right: the second-order meta-gradient agrees" in printed
    for made in ("episodes.png", "runs/mine/results.json", "runs/parabolas/checkpoint.npz"):
        assert (lesson_room / made).exists(), made
    report = (lesson_room / "report" / "report.md").read_text(encoding="utf-8")
    assert "Pretrained" in report and "seeds" in report


def printed_by_results(place):
    """Run one of the Python blocks of the page of results, and return what it printed."""
    blocks = [code for language, code in BLOCK.findall(text("results.md")) if language == "python"]
    with redirect_stdout(io.StringIO()) as out:
        exec(blocks[place], {"np": np})
    return out.getvalue()


@pytest.mark.slow
def test_some_untrained_robots_ask_for_more_torque_than_there_is():
    pytest.importorskip("mujoco")
    shares = [float(line.split()[1]) for line in printed_by_results(1).splitlines()]
    (said,) = re.findall(r"This prints (0.*?), the share", text("results.md"))
    assert shares == pytest.approx([float(n) for n in re.findall(r"0\.\d+", said)], abs=0.03)


@pytest.mark.slow
def test_the_third_update_in_the_plane_goes_too_far():
    out = printed_by_results(0)
    read = lambda words: np.array(re.findall(r"-\d+\.\d", words), float).reshape(2, 4)
    as_trained, halved = found = read(out)
    assert as_trained[-1] < as_trained[-2] and halved[-1] > halved[-2]
    (said,) = re.findall(r"This prints (-.*?) \(", text("results.md"))
    assert abs(found - read(said)).max() < 0.5  # another processor rounds otherwise


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*MiniImageNet has:UserWarning")
def test_processes(lesson_room):
    run_page("processes.md")
    results = json.loads((lesson_room / "runs/two/results.json").read_text())
    assert results["trained_steps"] == 2 and results["processes"] == 2


@pytest.mark.slow
def test_teachers(lesson_room):
    printed = "".join(run_page("teachers.md").values())
    assert "All agree" in printed
    assert (lesson_room / "runs/room/fits.png").exists()
    assert (lesson_room / "runs/all-waves/fits.png").exists()
    assert (lesson_room / "runs/room/03_maml_by_hand.ipynb").exists()
    assert "ada: 1 right, 1 not yet, 1 cells failed" in printed


def test_the_lesson_plan_names_sections_that_the_notebooks_have():
    named = re.findall(
        r"^\| (?:\d+|[^|]*) \|[^|]*\| (\d+): (\"[^|]*) \|", text("teachers.md"), re.M
    )
    assert named
    for number, titles in named:
        (path,) = (ROOT / "notebooks").glob(f"{number:0>2}_*.ipynb")
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        lines = "".join(f"{''.join(cell['source'])}\n" for cell in cells).splitlines()
        headings = {re.sub(r"^#+ [\d.]* ?", "", line) for line in lines if line.startswith("#")}
        assert set(re.findall(r'"([^"]+)"', titles)) <= headings


def test_the_lesson_plan_says_where_its_commands_are():
    rows = [line for line in text("teachers.md").splitlines() if line.startswith("|")]
    commands = re.findall(r"`((?:\S*/)?tinymaml \w[^`]*)`", "\n".join(rows))
    assert commands
    for command in commands:
        assert command.startswith(".venv/bin/"), command
        cli._parser().parse_args(shlex.split(command)[1:])


def test_the_worksheet_asks_what_the_notebook_answers():
    path = ROOT / "notebooks" / "03_maml_by_hand.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    (section,) = (source for source in sources if "Algorithm 1 with pencil" in source)
    asked, answered = (
        re.findall(r"^\| ([^|]+?) \|", page, re.M) for page in (text("worksheet.md"), section)
    )
    assert answered and asked[-len(answered) :] == answered


def test_where_maml_sits_says_what_its_notebook_does():
    """The page's code is the notebook's, and its measured numbers are in the notebook's outputs."""
    path = ROOT / "notebooks" / "10_where_maml_sits.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    sources = "\n".join("".join(cell["source"]) for cell in cells)
    printed = "".join("".join(o.get("text", [])) for cell in cells for o in cell["outputs"])
    measured, _, _ = text("where.md").partition("## A timeline")
    for _, code in BLOCK.findall(measured):
        assert code.strip() in sources
    cells = re.findall(r"(?<=\| )[\d.]+(?: ± [\d.]+)?(?: %)?(?= \|)", measured)
    assert len(cells) > 25
    numbers = re.findall(r"[\d.]+", " ".join(cells))
    assert not set(numbers) - set(re.findall(r"\d+(?:\.\d+)?", printed))


def fails(action):
    """Return what an action says when it fails, or shows."""
    with redirect_stderr(io.StringIO()) as told, redirect_stdout(told):
        try:
            action()
        except Exception as error:
            return str(error)
    return told.getvalue()


def test_the_error_sentences_are_real(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYMAML_DATA", raising=False)
    monkeypatch.setattr(launch, "TEST_TASKS", 2)
    monkeypatch.setitem(sys.modules, "cupy", None)
    x = tm.tensor(np.ones((2, 3)), requires_grad=True)
    model = tm.nn.Linear(1, 40)
    batch = tm.Batch(np.ones((2, 5, 1)), np.ones((2, 5, 1)))
    theta = model.init(np.random.default_rng(0))
    half = tm.op(np.sin, "x", lambda g, x: g * np.cos(x) / 2, name="half_sine")
    monkeypatch.delitem(derivative_table, "half_sine")
    train = ["train", "sinusoid", "--steps", "3"]
    said = [
        fails(action)
        for action in (
            lambda: exec("valley", {}),
            lambda: tm.grad(tm.grad(x.sum(), x).sum(), x),
            lambda: tm.grad((x * x).sum(), tm.tensor(1.0, requires_grad=True)),
            lambda: np.array(x),
            lambda: x.__setitem__(0, 1),
            lambda: tm.tensor(2, requires_grad=True),
            lambda: np.nextafter(x, x),
            lambda: tm.maml.meta_loss(
                lambda params, x, y: ((model(params, x) - y) ** 2).mean(-1),
                theta,
                tm.Task(batch, batch),
                lr=0.1,
            ),
            lambda: model(theta, np.ones(5)),
            lambda: tm.gradcheck(half, np.array(0.3)),
            lambda: tm.gradcheck(np.sin, np.array(0.3, "float32")),
            lambda: [cli.main([*train, "--out", "run"]) for _ in range(2)],
            lambda: cli.main([*train, "--out", "other", "--meta-lr", "1e30"]),
            lambda: cli.main([*train, "--out", "far", "--inner-lr", "100"]),
            lambda: cli.main(["train", "omniglot"]),
            lambda: tm.set_backend("cupy"),
        )
    ]
    table = text("teachers.md").partition("| it says |")[2].partition("\n\n")[0]
    quoted = re.findall(r"^\| `([^`]+)` \|", table, re.M)
    others = ["No module named 'tinymaml'"]
    for sentence in (sentence for sentence in quoted if sentence not in others):
        pattern = ".*".join(map(re.escape, sentence.split("…")))
        assert any(re.search(pattern, words, re.S) for words in said), sentence
    assert len(quoted) == len(said) + len(others)


# What the pages say of the code


FUNC = "grad value_and_grad vjp jvp hvp jacobian hessian"
MAML = "adapt meta_loss meta_gradient per_task"
EVALUATION = "evaluate score_tasks summarise"


def test_the_address_of_the_repository_gives_links_to_binder_and_colab(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    pages = import_module("pages")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    citation = tmp_path / "CITATION.cff"
    citation.write_text("title: x\n")
    assert pages.online() == pages.online("notebooks/a.ipynb") == ""
    citation.write_text("repository-code: 'https://github.com/ada/tiny-maml'\n")
    line = pages.online("notebooks/solutions/a.ipynb")
    for link in (
        "(https://mybinder.org/v2/gh/ada/tiny-maml/HEAD?labpath=notebooks/solutions/a.ipynb)",
        "(https://colab.research.google.com/github/ada/tiny-maml/blob/main/notebooks/solutions/a.ipynb)",
        "%pip install git+https://github.com/ada/tiny-maml`",
    ):
        assert link in line
    assert "(https://mybinder.org/v2/gh/ada/tiny-maml/HEAD?labpath=notebooks)" in pages.online()


# The built pages


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The pages, built anew, in English and in Korean."""
    for module in ("sphinx", "myst_nb", "pydata_sphinx_theme", "numpydoc"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -e '.[docs]'")
    out = tmp_path_factory.mktemp("docs")
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", DOCS]
    for command in ([*sphinx, out], [*sphinx, "-D", "language=ko", out / "ko"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return out


class Page(HTMLParser):
    """The ids of a page, where it leads, what a browser loads with it, and its text."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.words = set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.add(given.get("id"))
        if tag == "a":
            self.links.append(given.get("href"))
        elif tag == "link" and given.get("rel") not in ("index", "search", "next", "prev"):
            self.loads.append(given["href"])
        self.loads += [given[name] for name in ("src", "srcset", "data", "poster") if name in given]

    def handle_data(self, data):
        self.words.append(data)


@functools.cache
def pages(root):
    return {
        path: Page(path) for path in sorted(root.rglob("*.html")) if "_static" not in path.parts
    }


def test_links_images_and_anchors_hold(built):
    broken = []
    for path, page in pages(built).items():
        for target in [*page.links, *page.loads]:
            parts = urlsplit(target or "")
            if parts.scheme in ("http", "https", "data", "mailto"):
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not there.is_file():
                broken.append(f"{path.name}: {target}")
            elif parts.fragment and unquote(parts.fragment) not in pages(built)[there].ids:
                broken.append(f"{path.name}: {target} (no such anchor)")
    assert not broken


def test_nothing_is_loaded_from_the_network(built):
    for path, page in pages(built).items():
        assert not [url for url in page.loads if urlsplit(url).netloc], path
    for style in built.rglob("*.css"):
        css = style.read_text(encoding="utf-8")
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", css), style


def test_the_search_does_not_find_solutions(built):
    text = (built / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    solutions = {i for i, name in enumerate(index["docnames"]) if "learn/solutions/" in name}
    assert solutions and not {index["titles"][i] for i in solutions} - {""}
    for words in (index["terms"], index["titleterms"]):
        for pages in words.values():
            assert not solutions & {*(pages if isinstance(pages, list) else [pages])}


def test_the_start_page_shows_every_notebook_by_a_picture_of_its_own(built):
    page = Page(built / "index.html")
    stems = {path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    assert {f"learn/{stem}.html" for stem in stems} <= set(page.links)
    assert {f"_images/{stem}.png" for stem in stems} <= set(page.loads)


def test_figure_1_in_the_readme_is_what_the_notebook_drew(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    import pages as of_docs

    drawn = of_docs.picture(*of_docs.ONE_START)
    assert (DOCS / "one_start.png").read_bytes() == drawn, "build the documentation, which saves it"
    assert "docs/one_start.png" in (ROOT / "README.md").read_text(encoding="utf-8")


# Formulas, code and roles, links and pictures, HTML
PLACEHOLDER = re.compile(r"\$[^$]+\$|(?:\{[\w:]+\})?`[^`]+`|!?\]\([^)]+\)|<[^>]+>")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@pytest.fixture
def korean(monkeypatch):
    pytest.importorskip("sphinx", reason="pip install -e '.[docs]'")
    monkeypatch.syspath_prepend(DOCS)
    return import_module("korean")


def messages(path):
    """Return the messages of a catalogue, and their translations where these are certain."""
    from babel.messages.pofile import read_po

    with path.open("rb") as file:
        return {m.id: "" if m.fuzzy else m.string for m in read_po(file) if m.id}


def test_links_to_binder_and_colab_are_in_korean(korean, tmp_path, monkeypatch):
    pages = import_module("pages")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    home = "repository-code: https://github.com/ada/tiny-maml"
    (tmp_path / "CITATION.cff").write_text(home)
    assert korean.RUN_IT.fullmatch(pages.online("notebooks/a.ipynb").strip())


@pytest.mark.slow
def test_every_message_is_in_korean_with_its_formulas_links_code_and_numbers(korean, tmp_path):
    command = [sys.executable, "-m", "sphinx", "-Q", "-b", "gettext", DOCS, tmp_path]
    subprocess.run(command, check=True)
    for page in korean.PAGES:
        translated = messages(korean.CATALOGUES / f"{page}.po")
        wanted = messages(tmp_path / f"{page}.pot")
        assert [m for m in wanted if not translated.get(m)] == [], page
        assert translated.keys() <= wanted.keys(), page
        for english, other in translated.items():
            assert sorted(PLACEHOLDER.findall(other)) == sorted(PLACEHOLDER.findall(english))
            left, kept = (NUMBER.findall(PLACEHOLDER.sub("", m)) for m in (english, other))
            assert not Counter(left) - Counter(kept), other


def test_pages_in_korean_and_in_english_lead_to_each_other(built, korean):
    import pydata_sphinx_theme

    theme = Path(pydata_sphinx_theme.__file__).parent / "locale" / "sphinx.pot"
    for page in ("index", *korean.PAGES):
        english, other = built / f"{page}.html", built / "ko" / f"{page}.html"
        for here, there in ((english, other), (other, english)):
            links = [urlsplit(link or "").path for link in Page(here).links]
            assert there in {(here.parent / link).resolve() for link in links}, here
        words = Page(other).words
        assert not messages(theme).keys() & {word.strip() for word in words}  # as "On this page"
        assert not re.search(r"\*[가-힣]|[가-힣]\*", "".join(words))  # emphasis not seen as such


def public_names():
    """Return what a reader may look for: the contract's names, and all that modules export."""
    names = {f"tinymaml.{name}" for name in tm.__all__ if not inspect.ismodule(getattr(tm, name))}
    for module in (tm.ops, tm.nn, tm.tasks, tm.learners):
        exported = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
        exported = [name for name in exported if not hasattr(tm, name)]  # tm.Batch, tm.Task
        names |= {f"{module.__name__}.{name}" for name in exported}
    names |= {f"tinymaml.engine.func.{f}" for f in FUNC.split()}
    names |= {f"tinymaml.Tensor.{m}" for m in "numpy item detach sum mean var max min".split()}
    names |= {f"tinymaml.Tensor.{m}" for m in "reshape transpose swapaxes T mT astype".split()}
    names |= {f"tinymaml.Tensor.{m}" for m in "data shape ndim size dtype requires_grad".split()}
    names |= {f"tinymaml.learners.maml.{f}" for f in MAML.split()}
    names |= {f"tinymaml.optim.{c}" for c in ("SGD", "Adam")}
    names |= {f"tinymaml.experiments.training.{f}" for f in "train meta_step".split()}
    names |= {f"tinymaml.experiments.evaluation.{f}" for f in EVALUATION.split()}
    rooms = "pictures.plots pictures.play experiments.report experiments.datasheet experiments"
    for module in rooms.split():
        module = __import__(f"tinymaml.{module}", fromlist=["*"])
        own = inspect.getmembers(module, inspect.isfunction)
        names |= {
            f"{module.__name__}.{name}"
            for name, function in own
            if function.__module__.startswith(module.__name__) and not name.startswith("_")
        }
    return names


def test_every_public_name_has_its_place_in_the_reference(built):
    packed = (built / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = [line.split(" ") for line in zlib.decompress(packed).decode().splitlines()]
    documented = {name for name, kind, *_ in entries if kind.startswith("py:")}
    assert not public_names() - documented


def test_every_option_is_on_the_page_of_the_command_line(built):
    words = "".join(Page(built / "reference" / "commands.html").words)
    for name, experiment in EXPERIMENTS.items():
        assert name in words
        for setting in experiment.options():
            assert cli.flag(setting) in words
    for option in "resume backend data download tasks test-tasks root out".split():
        assert f"--{option}" in words


LOOK = """async () => {
    await window.MathJax?.startup?.promise
    for (const e of document.querySelectorAll("details")) e.open = true
    const faults = [], name = (e) => e.outerHTML.slice(0, 80)
    for (const e of document.querySelectorAll("html, main, .bd-content, .bd-article-container"))
        if (e.scrollWidth > e.clientWidth + 1)
            faults.push(`${e.className || "the page"} scrolls: ${e.scrollWidth} px`)
    const scrolls = (e) => ["auto", "scroll"].includes(getComputedStyle(e).overflowX)
    const inside = (e) => !e.matches("article") && (scrolls(e) || inside(e.parentElement))
    for (const e of document.querySelectorAll("article :is(table, pre, img, svg, .math)"))
        if (e.getBoundingClientRect().right > innerWidth + 1 && !inside(e))
            faults.push(`cut off: ${name(e)}`)
    for (const e of document.querySelectorAll("article pre"))
        if (e.scrollWidth > e.clientWidth + 1 && !(innerWidth < 600 && e.closest(".output")))
            faults.push(`too wide: ${e.textContent.slice(0, 80)}`)
    for (const e of document.images)
        if (!e.naturalWidth) faults.push(`no picture: ${e.src.slice(0, 80)}`)
    for (const e of document.querySelectorAll(".math"))
        if (!e.querySelector("mjx-container")) faults.push(`raw: ${name(e)}`)
    for (const e of document.querySelectorAll("mjx-merror, [data-mjx-error]"))
        faults.push(`wrong formula: ${name(e)}`)
    const article = (document.querySelector("article") || document.body).cloneNode(true)
    for (const e of article.querySelectorAll("pre, code, script, style, mjx-container")) e.remove()
    const raw = /\\\\[([]|\\$[^$]*[\\\\^_{][^$]*\\$|\\\\(frac|theta|nabla)/
    const left = article.textContent.match(raw)
    if (left) faults.push(`raw: ${left[0]}`)
    return faults
}"""


def test_pages_in_a_browser(built):
    """Every page in Chromium, as wide as a screen and as a phone."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[docs]'")
    faults = []
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.on("console", lambda m: m.type == "error" and faults.append((tab.url, m.text)))
        tab.on("pageerror", lambda error: faults.append((tab.url, str(error))))
        tab.on("requestfailed", lambda request: faults.append((tab.url, request.url)))
        tab.on("request", lambda r: r.url.startswith("http") and faults.append((tab.url, r.url)))
        for path in pages(built):
            tab.set_viewport_size({"width": 1280, "height": 900})
            tab.goto(path.as_uri())
            for width in (1280, 390):
                tab.set_viewport_size({"width": width, "height": 844})
                faults += [(path.name, width, fault) for fault in tab.evaluate(LOOK)]
        browser.close()
    assert not faults
