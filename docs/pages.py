"""What the pages show but others wrote: notebooks, the command line, the experiments' settings.

A comment ``generated: NAME`` in a page is replaced by what the function of that name in
``GENERATED`` returns. Nothing is retyped, so nothing can be out of date.
"""

import argparse
import base64
import json
import os
import re
import shutil
from pathlib import Path
from unittest import mock

from tinymaml import cli
from tinymaml.engine.numpy_rules import PASSING, REFUSED, listed, numpy_functions
from tinymaml.experiments import EXPERIMENTS, pretrained

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
NOTEBOOKS, LEARN = ROOT / "notebooks", DOCS / "learn"

# The notebooks in the order of the start page's gallery, and the cells whose pictures stand for
# them; those that are not named here follow, each with its first picture.
GALLERY = {
    "00_five_points_and_a_wave": "code-06",
    "08_museum_of_bugs": "nb08-22",
    "03_maml_by_hand": "code-22",
    "04_sinusoid": "code-18",
    "12_how_long_is_a_step": "code-42",
    "05_omniglot": "code-29",
    "10_where_maml_sits": "loops",
    "11_algorithm_3_in_the_plane": "nb11-09",
    "01_autograd_from_scratch": "code-30",
    "02_gradients_of_gradients": "code-08",
    "06_miniimagenet": "code-12",
    "07_checking_gradients": "nb07-60",
    "09_the_step_as_numpy": "nb09-33",
}
ONE_START = ("00_five_points_and_a_wave", "code-09")  # Figure 1, which the README shows too

_GENERATED = re.compile(r"^(?:<!--|\.\.) generated: ([\w-]+)(?: -->)?$", re.M)  # Markdown, reST
_PICTURE = re.compile(r"^<!-- picture: (\S+) (\S+): (.+) -->$", re.M)
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s#]+)(#[^()\s]*)?\)")


def setup(app):
    """Take part in the build."""
    app.connect("builder-inited", lambda _: copy_notebooks())
    app.connect("source-read", lambda _, docname, source: _read(docname, source))
    app.connect("doctree-read", _hide_solutions)
    app.connect("autodoc-process-docstring", _literal_stars, priority=400)  # before numpydoc
    app.connect("autodoc-process-docstring", _formulas)
    app.connect("missing-reference", _by_last_name)
    return {"parallel_read_safe": True}


def copy_notebooks():
    """Copy the notebooks into the documentation, and remove copies of those that have gone."""
    wanted = {LEARN / path.relative_to(NOTEBOOKS): path for path in _notebooks()}
    for path in LEARN.rglob("*.ipynb"):
        if path not in wanted:
            path.unlink()
    for copy, path in wanted.items():
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    (LEARN / "pictures").mkdir(exist_ok=True)
    for stem in gallery_order():
        (LEARN / "pictures" / f"{stem}.png").write_bytes(picture(stem, GALLERY.get(stem)))
    (DOCS / "one_start.png").write_bytes(picture(*ONE_START))


def gallery_order():
    """Return the stems of the notebooks in the order of the gallery."""
    stems = [path.stem for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))]
    return sorted(stems, key=lambda stem: (*GALLERY, stem).index(stem))


def picture(stem, cell=None):
    """Return the PNG that a cell of a notebook drew as it was committed; by default the first."""
    cells = json.loads((NOTEBOOKS / f"{stem}.ipynb").read_text(encoding="utf-8"))["cells"]
    for drawn in cells:
        for output in drawn.get("outputs", ()):
            if cell in (None, drawn["id"]) and "image/png" in output.get("data", {}):
                return base64.b64decode(output["data"]["image/png"])
    raise ValueError(f"{stem}: {cell or 'no cell'} has a picture; name one in GALLERY")


def _notebooks():
    return sorted([*NOTEBOOKS.glob("[0-9]*.ipynb"), *NOTEBOOKS.glob("solutions/[0-9]*.ipynb")])


def _read(docname, source):
    """Change the text of a page before it is parsed."""
    if docname.startswith("learn/"):
        path = NOTEBOOKS / f"{docname.removeprefix('learn/')}.ipynb"
        notebook = json.loads(source[0])
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = with_links("".join(cell["source"]), path, DOCS / docname)
        notebook["cells"][0]["source"] += online(path.relative_to(ROOT).as_posix())
        source[0] = json.dumps(notebook)
        return
    here = DOCS / docname
    if docname == "results":  # which is read on its own too, so its navigation stands here
        report = "results/report\n" if (DOCS / "results" / "report.md").exists() else ""
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{report}speed\n```\n"
    if docname == "results/report":  # its anchors are HTML, which Markdown's links do not find here
        source[0] = re.sub(r'^<a id="([\w-]+)"></a>$', r"(\1)=", source[0], flags=re.M)
    text = _GENERATED.sub(lambda match: GENERATED[match[1]](), source[0])
    text = _PICTURE.sub(lambda match: _shown(*match.groups()), text)
    source[0] = with_links(text, here, here)


def _shown(stem, cell, words):
    """Show what a cell drew: the page has ``picture: NOTEBOOK CELL: the picture in words``."""
    name = f"{stem}-{cell}.png"
    (LEARN / "pictures" / name).write_bytes(picture(stem, cell))
    return f"![{words}](learn/pictures/{name})"


def with_links(text, original, page):
    """Return Markdown with its links to files as they are on the page.

    The page need not lie where the text was written. A learner's file becomes its place in the
    reference. Other links that lead out of the documentation, to a notebook that is not written
    yet, or to the report before it is made, become plain text.

    Parameters
    ----------
    text : str
    original, page : Path
        The file that the text is of; where it is shown.
    """

    def link(match):
        words, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        there = Path(os.path.normpath(original.parent / target))
        to_come = there.suffix == ".ipynb" or there == DOCS / "results" / "report.md"
        if not (there.exists() or to_come):
            return match[0]  # no link at all, or a broken one, of which Sphinx warns
        if there.is_relative_to(NOTEBOOKS):
            there = LEARN / there.relative_to(NOTEBOOKS)
        if there.parent == ROOT / "tinymaml" / "learners" and there.stem != "learner":
            return f"{{py:mod}}`{words.strip('`')} <tinymaml.learners.{there.stem}>`"
        shown = there.is_relative_to(DOCS) and there.is_file() and there.suffix != ".html"
        return f"[{words}]({os.path.relpath(there, page.parent)}{anchor})" if shown else words

    return _LINK.sub(link, text)


def _hide_solutions(app, _doctree):
    """Keep the solutions out of the search, which would show them before their exercises."""
    if app.env.docname.startswith("learn/solutions/"):
        app.env.metadata[app.env.docname]["nosearch"] = True


def _literal_stars(_app, _what, _name, _obj, _options, lines):
    """Keep the star of a shape such as (n, *example) from being taken for emphasis."""
    lines[:] = [re.sub(r"(?<=[ (])\*(?=\w+\)$)", r"\\*", line) for line in lines]


def _formulas(_app, what, _name, _obj, _options, lines):
    """Show the indented formulas in a module's docstring as they are typed."""
    if what == "module":
        text = "\n".join(lines)
        lines[:] = re.sub(r"\n\n(?=    \S)", "\n\n.. code-block:: text\n\n", text).split("\n")


def _by_last_name(app, env, node, contnode):
    """Find what a docstring calls by its public name, but is defined in another module."""
    name = node["reftarget"]
    if node.get("refdomain") != "py" or ("." in name and not name.startswith("tinymaml.")):
        return None
    node["refspecific"] = True
    python, name = env.get_domain("py"), name.split(".")[-1]
    return python.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], name, node, contnode
    )


def _about(path):
    """Return title, first paragraph, goals and minutes of a notebook, from its first cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "".join(cells[0]["source"])
    title = re.search(r"^# (.+)$", text, re.M)
    goals = re.findall(r"^(?:[*-]|\d+\.) (.+)$", text, re.M)
    minutes = re.search(r"\b(\d+(?: to \d+)? minutes)\b", text)
    if cells[0]["cell_type"] != "markdown" or not (title and goals and minutes):
        raise ValueError(f"{path}: the first cell needs a # title, bullets of goals, and minutes")
    return title[1], text[title.end() :].split("\n\n")[1], goals, minutes[1]


def notebooks():
    """List the notebooks with what their first cells say of themselves."""
    lines = []
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        title, summary, goals, minutes = _about(path)
        solution = f"solutions/{path.stem}_solutions.ipynb"
        parts = [f"**[{title}](learn/{path.name})**", minutes]
        if (NOTEBOOKS / solution).exists():
            parts.append(f"[solutions](learn/{solution})")
        lines += [" · ".join(parts), "", with_links(summary, path, LEARN), ""]
        lines += [f"* {with_links(goal, path, LEARN)}" for goal in goals] + [""]
    return "\n".join(lines)


def online(path="notebooks"):
    """Return a line with links that open a notebook on Binder and Colab, or all of them on Binder.

    They take the repository from its public address, the line ``repository-code:`` in CITATION.cff,
    and there are none without it.
    """
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    home = re.search(
        r"^repository-code: [\"']?https://github\.com/([\w.-]+/[\w.-]+)", citation, re.M
    )
    if home is None:
        return ""
    binder = f"[Binder](https://mybinder.org/v2/gh/{home[1]}/HEAD?labpath={path})"
    if not path.endswith(".ipynb"):
        return f"Without installing anything: all notebooks on {binder}."
    colab = f"[Colab](https://colab.research.google.com/github/{home[1]}/blob/main/{path})"
    install = f"%pip install git+https://github.com/{home[1]}"
    return f"\n\n**Run it** on {binder}, or on {colab} with `{install}` in a first cell.\n"


def gallery():
    """Show a card for each notebook: a picture of its own, its title, what it is about."""
    cards = []
    for stem in gallery_order():
        title, summary, _, minutes = _about(NOTEBOOKS / f"{stem}.ipynb")
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(summary.split()))
        first_sentence = re.match(r".*?[.?!](?= |$)", words)[0]
        options = {"img-top": f"learn/pictures/{stem}.png", "img-alt": f"A picture of {title}"}
        options |= {"link": f"learn/{stem}", "link-type": "doc"}
        lines = [f":{name}: {value}" for name, value in options.items()]
        head = "````{grid-item-card} " + title
        cards.append("\n".join([head, *lines, "", f"{first_sentence} *{minutes}*", "````"]))
    grid = "`````{grid} 2 2 3 3\n:gutter: 2 3 3 3\n:padding: 0\n:class-container: gallery\n\n"
    return grid + "\n".join(cards) + "\n`````"


def readme(start, end):
    """Show the README from one heading up to another, with its links and pictures as they are."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = text[text.index(start) : text.index(end)]
    part = re.sub(r"(!\[[^\]]*\]\()docs/", r"\1", part)
    return with_links(part, ROOT / "README.md", DOCS / "index.md")


def commands():
    """Show what ``--help`` says, command by command."""
    with mock.patch.dict(os.environ, COLUMNS="88"):
        parser = cli._parser()
        parts = [("tinymaml", parser.format_help())]
        for name, command in _subparsers(parser).items():
            parts.append((f"tinymaml {name}", command.format_help()))
    return "\n".join(f"## {title}\n\n```text\n{text}```\n" for title, text in parts)


def _subparsers(parser):
    (action,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return action.choices


def settings():
    """Show the options of ``tinymaml train NAME``, and the settings of every experiment."""
    meanings = {}  # of a setting: methods may have more than one for a name
    for experiment in EXPERIMENTS.values():
        for name, field in experiment.options().items():
            meanings.setdefault(name, {})[field.metadata["help"]] = None
    lines = ["| option | meaning |", "| --- | --- |"]
    for option, takes, meaning in _options_of_experiments(meanings):
        lines.append(f"| `{option}{takes}` | {meaning} |")
    lines += ["", f"| experiment | {' | '.join(meanings).replace('_', ' ')} |"]
    lines.append("| --- |" + " ---: |" * len(meanings))
    for title, experiment in EXPERIMENTS.items():
        config = experiment.config()
        values = [_value(config[name]) if name in config else "" for name in meanings]
        lines.append(f"| `{title}` | {' | '.join(values)} |")
    return "\n".join(lines)


def _options_of_experiments(meanings):
    """Return (option, " METAVAR", help) of the options of all experiments, settings first."""
    found = {}
    for name, parser in _subparsers(_subparsers(cli._parser())["train"]).items():
        for action in parser._actions[1:]:  # without --help
            takes = action.metavar or " or ".join(action.choices or ())
            meaning = "; or: ".join(meanings.get(action.dest, ()))
            meaning = meaning or action.help.replace(f"runs/{name}", "runs/NAME")
            found[action.dest] = (action.option_strings[-1], f" {takes}".rstrip(), meaning)
    return [found[name] for name in [*meanings, *(name for name in found if name not in meanings)]]


def _value(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value}"


def numpy_names():
    """List NumPy's functions: the differentiable ones, those that pass, those refused."""
    named = {f"UFUNC.{name}" for name in numpy_functions if isinstance(name, str)}
    passing = {f for names in PASSING.values() for f in listed(names)}
    for function in numpy_functions:
        if not isinstance(function, (str, tuple)) and function not in passing:
            module = getattr(function, "__module__", None) or "numpy"
            named.add(f"{module}.{function.__name__}".removeprefix("numpy."))
    groups = {"Differentiable": " ".join(named)}
    groups |= {f"No derivative by nature: {what}": names for what, names in PASSING.items()}
    groups |= {f"Refused: {why}": names for why, names in REFUSED.items()}
    return "\n\n".join(
        f"**{title}.** " + ", ".join(f"``np.{name}``" for name in sorted(names.split())) + "."
        for title, names in groups.items()
    )


def networks():
    """Write the two sinusoid networks into the page, where its script reads them."""
    text = json.dumps({"maml": _weights("sinusoid"), "pooled": _weights("sinusoid-pretrained")})
    script = f'<script id="networks" type="application/json">{text}</script>'
    return f"```{{raw}} html\n{script}\n```"


def _weights(name):
    """Return the sizes of a trained network's layers, and its weights as float32 in base64."""
    _, params = pretrained.pretrained(name)
    arrays = [p.numpy().astype("<f4") for p in params.values()]
    sizes = [len(arrays[0]), *(len(bias) for bias in arrays[1::2])]
    packed = b"".join(array.tobytes() for array in arrays)
    return {"sizes": sizes, "weights": base64.b64encode(packed).decode()}


def trained_networks():
    """List the networks that ship: score, protocol, and the command that made each."""
    lines = []
    for name in pretrained.names():
        run = pretrained.opened(pretrained.PREFIX + name)
        about, protocol = pretrained.describe(name), run.read_json("results.json")["protocol"]
        words = f"{about[1]}. {about[2]}: {about[3]}"
        made = run.read_json("config.json")["command"]
        lines += [f"``{name}``", f"    {words}", "", f"    {protocol}", "", f"    ``{made}``", ""]
    return "\n".join(lines).replace("+-", "±")


GENERATED = {
    "start": lambda: readme("\n\n", "## Two commands"),  # without the title
    "first-commands": lambda: readme("## Two commands", "## What it looks like"),
    "gallery": gallery,
    "notebooks": notebooks,
    "online": online,
    "commands": commands,
    "settings": settings,
    "networks": networks,
    "numpy-functions": numpy_names,
    "trained-networks": trained_networks,
}
