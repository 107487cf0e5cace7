"""The source of functions with all that they use, as a file that needs NumPy alone."""

import ast
import builtins
import copy
import inspect
import sys
from types import FunctionType, MethodType, ModuleType

import numpy as np

from .backend import array_module
from .inline import NotInline, definition, literal
from .op import Op


def sources(space: dict, program: str = "") -> str:
    """Return definitions of the functions, classes and values of a namespace, and of what they use.

    Parameters
    ----------
    space : dict
        Name -> function.
    program : str
        Source that will follow, in whose names nothing else is defined.

    Returns
    -------
    str
        Each definition once, after those that it uses.

    Raises
    ------
    ValueError
        If the source of a function is not to be had.

    Examples
    --------
    >>> from tinymaml.engine.ops.conv import same_padding
    >>> print(sources({"same": same_padding})[:31])
    def same(size, kernel, stride):
    """
    writer = _Definitions(space, program)
    for name, value in space.items():
        writer.define(name, value)
    return "\n\n".join([*writer.imports, *writer.texts])


class _Definitions:
    def __init__(self, space, program):
        self.names = {id(value): name for name, value in space.items()}
        self.program = {n.id for n in ast.walk(ast.parse(program)) if isinstance(n, ast.Name)}
        self.taken = {*dir(builtins), *self.program, *space}
        self.texts, self.imports = [], []

    def add(self, name, value):
        """Define a value under a name, or a free one like it; return the name."""
        if isinstance(value, Op):
            value = value.forward
        if value is array_module:
            value = _numpy
        if id(value) not in self.names:
            while name in self.taken:
                name += "_"
            self.taken.add(name)
            self.names[id(value)] = name
            self.define(name, value)
        return self.names[id(value)]

    def define(self, name, value):
        if isinstance(value, ModuleType):
            same = value.__name__ == name
            self.imports.append(f"import {value.__name__}" + ("" if same else f" as {name}"))
        elif place := _place(value):
            self.imports.append(f"from {place} import {value.__name__} as {name}")
        elif isinstance(value, (FunctionType, type)):
            tree = self.definition(value)
            self.rename(tree, value)
            if isinstance(tree, ast.Lambda):
                tree = ast.Assign([ast.Name(name, ast.Store())], tree, lineno=0)
            else:
                tree.name = name
            self.texts.append(ast.unparse(ast.fix_missing_locations(tree)))
        else:
            self.texts.append(f"{name} = {self.value(value)}")

    def definition(self, value):
        try:
            if isinstance(value, FunctionType):
                return _plain(definition(value))
            module = ast.parse(inspect.getsource(sys.modules[value.__module__]))
            found = next(n for n in module.body if getattr(n, "name", None) == value.__name__)
            return _plain(found)
        except (NotInline, StopIteration, OSError, TypeError):
            raise ValueError(
                f"{value.__name__} of {value.__module__} has no source to be saved; use functions "
                "and ops that are defined in a file"
            ) from None

    def rename(self, tree, value):
        """Define what a function or class uses, and call it as it is called here."""
        found = [n for n in ast.walk(tree) if isinstance(n, ast.Name)]
        own = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
        own |= {n.id for n in found if isinstance(n.ctx, ast.Store)}
        outside = {name: vars(builtins)[name] for name in self.program & set(dir(builtins))}
        outside |= vars(sys.modules[value.__module__])
        if isinstance(value, FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            outside |= zip(value.__code__.co_freevars, cells)
        used = sorted({n.id for n in found} - own)
        names = {name: self.add(name, outside[name]) for name in used if name in outside}
        for node in found:
            node.id = names.get(node.id, node.id)

    def value(self, value):
        """Return the source of a value."""
        if isinstance(value, dict):
            pairs = [f"{self.value(k)}: {self.value(v)}" for k, v in value.items()]
            return f"{{{', '.join(pairs)}}}"
        if isinstance(value, ModuleType):
            return self.add("np" if value is np else value.__name__, value)
        if isinstance(value, MethodType) or (source := literal(value)) is None:
            raise ValueError(f"{value!r}, which an op uses, has no source to be saved")
        return source


def _numpy(array):
    """Return the module that ``array`` belongs to, which is NumPy."""
    return np


def _place(value):
    """Return the module, of Python or NumPy, that has a value under its name; or None."""
    name = getattr(value, "__name__", None)
    module = getattr(value, "__module__", None) or ""
    if module.split(".")[0] not in sys.stdlib_module_names - {"__main__"}:
        module = module if module.split(".")[0] == "numpy" else "numpy"  # a ufunc does not tell
    found = isinstance(name, str) and getattr(sys.modules.get(module), name, None) is value
    return module if found else None


def _plain(tree):
    """Return a copy of a definition without decorators, and without hints of types."""
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            node.decorator_list = []
        if isinstance(node, ast.arg):
            node.annotation = None
    return tree
