"""The house: imports run one way, from the engine up to the command line."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import tinymaml

#: Each room imports from those before it.
ROOMS = (
    "version",
    "errors",
    "files",
    "engine",
    "nn",
    "optim",
    "tasks",
    "parallel",
    "learners",
    "few_shot",
    "rl",
    "checks",
    "pictures",
    "experiments",
    "cli",
)
PACKAGE = Path(tinymaml.__file__).parent


def imports(path):
    """Yield the modules of the package that a file imports, as tuples of names."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*here[: len(here) - node.level], *(node.module or "").split("."))
            base = tuple(filter(None, base))
            for alias in node.names:
                module = (*base, alias.name)
                file = PACKAGE.joinpath(*module)
                yield module if file.is_dir() or file.with_suffix(".py").exists() else base


FILES = {path.relative_to(PACKAGE).with_suffix("").parts: path for path in PACKAGE.rglob("*.py")}


def test_every_room_has_its_place():
    rooms = {parts[0] for parts in FILES} - {"__init__", "__main__"}
    assert rooms == set(ROOMS)


def test_a_room_imports_from_those_before_it():
    for parts, path in FILES.items():
        if parts[0] in ROOMS:
            for module in imports(path):
                if module and module[0] != parts[0]:
                    place = ROOMS.index(parts[0])
                    assert module[0] in ROOMS[:place], f"{path} imports {'.'.join(module)}"


def test_no_file_imports_in_a_circle():
    graph = {}
    for parts, path in FILES.items():
        name = parts[:-1] if parts[-1] == "__init__" else parts
        # A package's __init__ gathers the names of its files: it is not a step of the way down.
        graph[name] = {module for module in imports(path) if module != name[:-1]} - {name}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
