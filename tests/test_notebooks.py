"""The notebooks: as committed they are tidy, every cell runs, and exercises tell solved from not.

The files are read wherever the tests run. To run them, in fast mode, takes
``pip install -e '.[notebooks]'``; without it that part is skipped.
"""

import ast
import json
import os
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
UNSOLVED = sorted(NOTEBOOKS.glob("*.ipynb"))
SOLVED = sorted(NOTEBOOKS.glob("solutions/*.ipynb"))

MACHINE_PATH = re.compile(r"(?<![\w.])(?:/(?:tmp|home|work|root|Users)/|[A-Z]:\\).*")
EXERCISE = re.compile(r"^(?:\*\*|#+ )Exercise (\d+)", re.M)
VERDICT = re.compile(r"(right|not yet)[ \t]*$", re.M)  # as docs/teachers.md counts them

pytestmark = pytest.mark.numpy_only
each = pytest.mark.parametrize("path", [*UNSOLVED, *SOLVED], ids=lambda path: path.stem)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def noise(notebook):
    """Return what a notebook says besides its results: errors, warnings, progress bars."""
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    return [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]


def strings(node):
    """Yield every text in a notebook; pictures in base64 are none."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for key, value in node.items():
            if key not in ("image/png", "image/jpeg"):
                yield from strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)


def verdicts(notebook):
    """Return exercise -> what its checks say; under "" what is said before the first one."""
    found, exercise = {"": []}, ""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for exercise in EXERCISE.findall("".join(cell["source"])):
                found.setdefault(exercise, [])
        elif cell["cell_type"] == "code":
            printed = "".join("".join(output.get("text", [])) for output in cell["outputs"])
            found[exercise] += VERDICT.findall(printed)
    return found


def exercises(notebook):
    """Return the text of each exercise, its hint included."""
    sources = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"]
    return [source[found.start() :] for source in sources if (found := EXERCISE.search(source))]


def checks(notebook):
    """Return the cells that say whether an exercise is solved."""
    return [c for c in code_cells(notebook) if re.search(r"^ *check\(", "".join(c["source"]), re.M)]


def definitions(notebook):
    """Return name -> every form in which a function or class is defined, except in an answer."""
    found, answer = {}, False
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            answer = bool(EXERCISE.search(source))
        elif answer:
            answer = False
        else:
            for node in ast.parse(source).body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    found.setdefault(node.name, set()).add(ast.dump(node))
    return found


def test_every_notebook_has_its_solutions():
    assert UNSOLVED
    assert [f"{path.stem}_solutions" for path in UNSOLVED] == [path.stem for path in SOLVED]


@each
def test_file(path):
    notebook = read(path)
    assert path.stat().st_size < 1e6
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    # of another name JupyterLab changes the file as soon as it opens
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    assert notebook["metadata"]["kernelspec"] == kernel
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    found = [match[0] for text in strings(notebook) for match in MACHINE_PATH.finditer(text)]
    assert not found


@each
def test_format_is_valid(path):
    nbformat = pytest.importorskip("nbformat", reason="pip install -e '.[notebooks]'")
    nbformat.validate(read(path))


@each
def test_committed_outputs_are_of_one_run_without_noise(path):
    notebook = read(path)
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert not noise(notebook)


@each
def test_committed_outputs_need_no_kernel(path):
    """A page shows nothing of a widget; CONTRIBUTING.md says how to run a notebook without."""
    assert "application/vnd.jupyter.widget" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", UNSOLVED, ids=lambda path: path.stem)
def test_exercises_say_not_yet_and_their_solutions_right(path):
    unsolved = verdicts(read(path))
    solved = verdicts(read(NOTEBOOKS / "solutions" / f"{path.stem}_solutions.ipynb"))
    assert unsolved.pop("") == solved.pop("") == []
    assert unsolved and unsolved.keys() == solved.keys()
    for exercise, said in unsolved.items():
        assert set(said) == {"not yet"}, exercise
        assert set(solved[exercise]) == {"right"} and len(solved[exercise]) >= len(said), exercise


@pytest.mark.parametrize("path", UNSOLVED, ids=lambda path: path.stem)
def test_exercises_have_a_hint_and_show_no_true_value(path):
    notebook = read(path)
    texts = exercises(notebook)
    assert texts and all("<summary>Hint</summary>" in text for text in texts)
    for cell in checks(notebook):
        printed = "".join("".join(output.get("text", [])) for output in cell["outputs"])
        assert "yours:" in printed and "true:" not in printed


@pytest.mark.parametrize("path", UNSOLVED, ids=lambda path: path.stem)
def test_solutions_are_of_these_exercises(path):
    """Same texts, same checks; and what a solution takes from the notebook is as it is there."""
    exercise = read(path)
    solution = read(NOTEBOOKS / "solutions" / f"{path.stem}_solutions.ipynb")
    assert exercises(exercise) == exercises(solution)
    sources = ["".join(cell["source"]) for cell in code_cells(solution)]
    for cell in checks(exercise):
        assert "".join(cell["source"]) in sources
    there = definitions(exercise)
    for name, made in definitions(solution).items():
        assert name not in there or made <= there[name], name


@each
def test_cells_that_check_are_folded_in_pages_and_in_jupyter(path):
    notebook = read(path)
    for cell in code_cells(notebook):
        hidden = "hide-input" in cell["metadata"].get("tags", [])
        assert hidden == cell["metadata"].get("jupyter", {}).get("source_hidden", False)
        assert hidden or cell not in checks(notebook)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the notebooks' folder, so that what they write is not written here."""
    room = tmp_path_factory.mktemp("clone")
    (room / "docs").symlink_to(ROOT / "docs")
    return shutil.copytree(NOTEBOOKS, room / "notebooks")


@pytest.mark.slow
@pytest.mark.parametrize("images", ["there", "drawn"])
@each
def test_runs_in_fast_mode(path, folder, images):
    """Every cell runs in a fresh kernel, and the exercises say what they say as committed."""
    settings = {"TINYMAML_FAST": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if images == "drawn":
        if "TINYMAML_DATA" not in path.read_text(encoding="utf-8"):
            pytest.skip("it needs no images")
        settings["TINYMAML_DATA"] = ""
    elif not os.environ.get("TINYMAML_DATA") and "TINYMAML_DATA" in path.read_text("utf-8"):
        pytest.skip("TINYMAML_DATA names no folder of images")
    for module in ("nbclient", "ipykernel"):
        pytest.importorskip(module, reason="pip install -e '.[notebooks]'")
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    here = folder / path.parent.relative_to(NOTEBOOKS)
    settings |= {"MPLBACKEND": ""}  # the notebook's own, which draws into it
    where = {"metadata": {"path": str(here)}}
    client = nbclient.NotebookClient(notebook, timeout=600, resources=where)
    client.execute(env=os.environ | settings)
    assert not noise(notebook)
    assert verdicts(notebook) == verdicts(read(path))
