"""The source of functions with all that they use, as a file that needs NumPy alone."""

import ast
import builtins
import inspect
import sys
from types import FunctionType, MethodType, ModuleType

import numpy as np

from .inline import NotInline, definition, literal
from .op import Op


def sources(space: dict) -> str:
    """Return definitions of the functions, classes and values of a namespace, and of what they use.

    Parameters
    ----------
    space : dict
        Name -> function.

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
    >>> print(sources({"same": same_padding})[:40])
    def same(size, kernel, stride):
    """
    writer = _Definitions()
    for name, value in space.items():
        writer.add(name, value)
    return "\n\n".join(writer.texts)


class _Definitions:
    def __init__(self):
        self.names, self.taken, self.texts, self.imports = {}, set(dir(builtins)), [], []

    def add(self, name, value):
        """Define a value under a name, or a free one like it; return the name."""
        if isinstance(value, Op):
            value = value.forward
        if id(value) in self.names:
            return self.names[id(value)]
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        self.names[id(value)] = name
        if isinstance(value, ModuleType):
            same = value.__name__ == name
            self.texts.insert(0, f"import {value.__name__}" + ("" if same else f" as {name}"))
        elif isinstance(value, (FunctionType, type)) and value.__module__.startswith("tinymaml"):
            tree = self.definition(value)
            self.rename(tree, value)
            if isinstance(tree, ast.Lambda):
                tree = ast.Assign([ast.Name(name, ast.Store())], tree, lineno=0)
            else:
                tree.name, tree.decorator_list = name, []
            self.texts.append(ast.unparse(ast.fix_missing_locations(tree)))
        else:
            self.texts.append(f"{name} = {self.value(value)}")
        return name

    def definition(self, value):
        try:
            if isinstance(value, FunctionType):
                return _fresh(definition(value))
            module = ast.parse(inspect.getsource(sys.modules[value.__module__]))
            return next(n for n in module.body if getattr(n, "name", None) == value.__name__)
        except (NotInline, StopIteration):
            raise ValueError(
                f"{value.__name__} of {value.__module__} has no source to be saved; use functions "
                "and ops that are defined in a file"
            ) from None

    def rename(self, tree, value):
        """Define what a function or class uses, and call it as it is called here."""
        functions = (
            [value]
            if isinstance(value, FunctionType)
            else [f for f in vars(value).values() if isinstance(f, FunctionType)]
        )
        outside = {}
        for function in functions:
            used = inspect.getclosurevars(function)
            outside |= used.globals | used.nonlocals
        own = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
        names = {n: self.add(n, v) for n, v in outside.items() if n not in own}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                node.id = names.get(node.id, node.id)

    def value(self, value):
        """Return the source of a value."""
        if isinstance(value, dict):
            pairs = [f"{self.value(k)}: {self.value(v)}" for k, v in value.items()]
            return f"{{{', '.join(pairs)}}}"
        if isinstance(value, ModuleType):
            return self.add("np" if value is np else value.__name__, value)
        for module, prefix in ((np, "np"), (np.linalg, "np.linalg"), (np.lib, "np.lib")):
            name = getattr(value, "__name__", None)
            if name and getattr(module, name, None) is value:
                return f"{prefix}.{name}"
        if isinstance(value, MethodType) or (source := literal(value)) is None:
            raise ValueError(f"{value!r}, which an op uses, has no source to be saved")
        return source


def _fresh(tree):
    """Return a copy of a syntax tree."""
    text = ast.unparse(tree)
    parsed = (
        ast.parse(text, mode="eval").body
        if isinstance(tree, ast.Lambda)
        else ast.parse(text).body[0]
    )
    return parsed
