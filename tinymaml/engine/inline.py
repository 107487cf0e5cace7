"""The lines of a forward function: its body with the arguments of one call filled in.

What depends on shapes and options alone is worked out as the lines are made: branches are decided,
and shapes become numbers. A function with loops, or with branches on values, has no such lines and
is called.
"""

import ast
import builtins
import contextlib
import functools
import inspect
import math
import sys
from types import CodeType, FunctionType

import numpy as np

#: What is known of an array before it has values
KNOWN = ("shape", "ndim", "dtype", "itemsize", "size", "strides")
#: Expressions whose parts are expressions, by the fields that hold them
PARTS = {
    ast.BinOp: ("left", "right"),
    ast.UnaryOp: ("operand",),
    ast.Compare: ("left", "comparators"),
    ast.Subscript: ("value", "slice"),
    ast.Slice: ("lower", "upper", "step"),
    ast.Attribute: ("value",),
    ast.keyword: ("value",),
}
COMPREHENSIONS = (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)


class NotInline(Exception):
    """A function has no lines: it must be called."""


class Known:
    """A part of an expression whose value is known."""

    def __init__(self, value):
        self.value = value


class Code:
    """A part of an expression that is computed: its syntax tree, and the array if it names one."""

    def __init__(self, tree, array=None):
        self.tree, self.array = tree, array


class Array:
    """An array that has a name in the lines; what else is known of it are attributes as NumPy's."""


class Local(Array):
    """An array of which nothing but the name is known."""

    def __init__(self, name):
        self.name = name


def inline(function, arguments, name_of, fresh):
    """Return the lines of a call, and the expression of its result, as syntax trees.

    Parameters
    ----------
    function : function
    arguments : dict
        Parameter -> an :class:`Array`, a tuple of such, or any other value.
    name_of : function
        Gives a name to a value that has no literal: a function, an array.
    fresh : function
        Makes a new name from a name.

    Raises
    ------
    NotInline
        If the function has loops, or branches on values.
    """
    writer = _Writer(function, dict(arguments), name_of, fresh)
    result = writer.result()
    return writer.lines, writer.tree(result)


def definition(function):
    """Return the syntax tree of a function, a FunctionDef or a Lambda; NotInline if there is none."""
    try:
        code, tree = function.__code__, _nodes(sys.modules[function.__module__])
        (node,) = [n for n in tree if n.lineno == code.co_firstlineno and _is(n, code)]
        return node
    except (OSError, TypeError, KeyError, AttributeError, ValueError):
        raise NotInline from None


@functools.cache
def _nodes(module):
    functions = (ast.FunctionDef, ast.Lambda)
    tree = ast.walk(ast.parse(inspect.getsource(module)))
    return [node for node in tree if isinstance(node, functions)]


def _is(node, code):
    """Whether a node is that of a code object, where several begin in one line."""
    if isinstance(node, ast.FunctionDef):
        return node.name == code.co_name
    made = compile(ast.Expression(node), "", "eval").co_consts
    made = next(c for c in made if isinstance(c, CodeType))
    parts = ("co_names", "co_varnames", "co_consts")
    return all(getattr(made, part) == getattr(code, part) for part in parts)


def literal(value):
    """Return a value as source, None if it has none.

    Examples
    --------
    >>> literal((1, slice(None, 3), float("inf"))), literal(np.dtype("f4")), literal(np.zeros(3))
    ("(1, slice(None, 3, None), float('inf'))", "np.dtype('<f4')", None)
    """
    if isinstance(value, np.dtype):
        return f"np.dtype({value.str!r})"
    if isinstance(value, type) and issubclass(value, (np.generic, int, float)):
        return f"np.{value.__name__}" if issubclass(value, np.generic) else value.__name__
    if isinstance(value, np.generic):
        return f"np.{type(value).__name__}({literal(value.item())})"
    if value is Ellipsis:
        return "..."
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if value is None or isinstance(value, (int, float, str)):
        return repr(value)
    parts = value if isinstance(value, (tuple, list)) else None
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
    if parts is None or None in (parts := [literal(part) for part in parts]):
        return None
    if isinstance(value, list):
        return f"[{', '.join(parts)}]"
    comma = "," * (len(parts) == 1)
    return f"{'slice' * isinstance(value, slice)}({', '.join(parts)}{comma})"


class _Writer:
    def __init__(self, function, names, name_of, fresh):
        self.function, self.names, self.name_of, self.fresh = function, names, name_of, fresh
        self.lines = []

    def result(self):
        tree = definition(self.function)
        result = self.value(tree.body) if isinstance(tree, ast.Lambda) else self.block(tree.body)
        if result is None:
            raise NotInline
        return result

    def block(self, body):
        """Write statements, and return the result if they end in one."""
        for line in body:
            if isinstance(line, ast.Return):
                return self.value(line.value)
            if isinstance(line, ast.If):
                branch = line.body if self.decide(line.test) else line.orelse
                if (result := self.block(branch)) is not None:
                    return result
            elif isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                self.assign(line.targets[0].id, self.value(line.value))
            elif isinstance(line, ast.AugAssign) and isinstance(line.target, ast.Name):
                place = self.names.get(line.target.id)
                if not isinstance(place, Local):
                    raise NotInline
                value = self.tree(self.value(line.value))
                self.lines.append(ast.AugAssign(_name(place.name, ast.Store()), line.op, value))
            elif not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)):
                raise NotInline  # what is left is a docstring
        return None

    def assign(self, name, value):
        if isinstance(value, Known):
            self.names[name] = value.value
        elif value.array is not None:
            self.names[name] = value.array
        else:
            local = self.names[name] = Local(self.fresh(name))
            self.lines.append(ast.Assign([_name(local.name, ast.Store())], value.tree, lineno=0))

    def decide(self, test):
        test = self.value(test)
        if not isinstance(test, Known):
            raise NotInline
        return test.value

    def tree(self, part):
        """Return the syntax tree of a part."""
        if isinstance(part, Code):
            return part.tree
        value = part.value
        if isinstance(value, (tuple, list)) and any(map(_holds, value)):
            return ast.Tuple([self.tree(self.part(item)) for item in value], ast.Load())
        return ast.parse(literal(value) or self.name_of(value), mode="eval").body

    def part(self, value):
        if isinstance(value, Array):
            return Code(_name(value.name), value)
        return Known(value)

    def value(self, node):
        """Return an expression as a part: Known or Code."""
        if node is None or isinstance(node, ast.Constant):
            return Known(node and node.value)
        if isinstance(node, ast.Name):
            return self.part(self.look_up(node.id))
        if isinstance(node, ast.IfExp):
            return self.value(node.body if self.decide(node.test) else node.orelse)
        if isinstance(node, ast.BoolOp):
            until = isinstance(node.op, ast.Or)
            for test in node.values[:-1]:
                if bool(value := self.decide(test)) is until:
                    return Known(value)
            return self.value(node.values[-1])
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, (ast.Tuple, ast.List)):
            return self.sequence(node)
        if isinstance(node, COMPREHENSIONS):
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            own = {n.id for c in node.generators for n in ast.walk(c.target) if hasattr(n, "id")}
            return self.known(node, {name: self.look_up(name) for name in names - own})
        if type(node) not in PARTS:
            raise NotInline
        if isinstance(node, ast.Attribute) and node.attr in KNOWN:
            base = self.value(node.value)
            if isinstance(base, Code) and hasattr(base.array, node.attr):
                return Known(getattr(base.array, node.attr))
        fields, parts = {}, []
        for field in PARTS[type(node)]:
            inner = getattr(node, field)
            if isinstance(inner, list):
                fields[field] = [self.value(item) for item in inner]
                parts += fields[field]
            elif inner is not None:
                fields[field] = self.value(inner)
                parts.append(fields[field])
        return self.put_together(node, fields, parts)

    def put_together(self, node, fields, parts):
        """Return a node whose fields are these parts: its value if all of them are known."""
        values = {}

        def placed(part):
            if isinstance(part, list):
                return [placed(item) for item in part]
            if all_known:
                values[f"_{len(values)}"] = part.value
                return _name(f"_{len(values) - 1}")
            return self.tree(part)

        all_known = all(isinstance(part, Known) and not _holds(part.value) for part in parts)
        others = {field: value for field, value in ast.iter_fields(node) if field not in fields}
        made = type(node)(**others, **{field: placed(part) for field, part in fields.items()})
        return self.known(made, values) if all_known else Code(made)

    def known(self, node, values):
        if any(_holds(value) for value in values.values()):
            raise NotInline
        tree = ast.fix_missing_locations(ast.Expression(node))
        try:
            return Known(eval(compile(tree, "", "eval"), {}, values))
        except Exception:  # say it when it runs
            raise NotInline from None

    def look_up(self, name):
        if name in self.names:
            return self.names[name]
        closure = self.function.__closure__ or ()
        closed = dict(zip(self.function.__code__.co_freevars, closure))
        if name in closed:
            return closed[name].cell_contents
        space = self.function.__globals__
        return space[name] if name in space else getattr(builtins, name)

    def items(self, nodes):
        """Return expressions as parts, those with a star as many."""
        parts = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                values = self.value(node.value)
                if not isinstance(values, Known):
                    raise NotInline
                parts += map(self.part, values.value)
            else:
                parts.append(self.value(node))
        return parts

    def sequence(self, node):
        parts = self.items(node.elts)
        if all(isinstance(part, Known) for part in parts):
            return Known((tuple if isinstance(node, ast.Tuple) else list)(p.value for p in parts))
        return Code(type(node)([self.tree(part) for part in parts], ast.Load()))

    def call(self, node):
        function = self.value(node.func)
        arguments = self.items(node.args)
        keywords = {keyword.arg: self.value(keyword.value) for keyword in node.keywords}
        if None in keywords:
            raise NotInline
        if isinstance(function, Known):
            called = function.value
            if called is isinstance and isinstance(arguments[0], Code):
                if not getattr(arguments[0].array, "ndim", 0):
                    raise NotInline  # NumPy makes scalars of results without axes
                return Known(issubclass(np.ndarray, arguments[1].value))
            if called is getattr and isinstance(arguments[0], Code):
                return Code(ast.Attribute(arguments[0].tree, arguments[1].value, ast.Load()))
            if (getattr(called, "__module__", None) or "").startswith("numpy"):
                function = self.numpys(function, arguments, keywords)
        parts = [function, *arguments, *keywords.values()]
        if any(isinstance(part, Code) or _holds(part.value) for part in parts):
            if isinstance(function, Known) and isinstance(function.value, FunctionType):
                with contextlib.suppress(NotInline):
                    return self.nested(function.value, arguments, keywords)
            words = [ast.keyword(key, self.tree(part)) for key, part in keywords.items()]
            return Code(ast.Call(self.tree(function), [self.tree(a) for a in arguments], words))
        values = [part.value for part in arguments]
        try:
            return Known(function.value(*values, **{k: p.value for k, p in keywords.items()}))
        except Exception:  # say it when it runs
            raise NotInline from None

    def nested(self, function, arguments, keywords):
        """Return the result of a call inside, and add its lines."""
        given = [self.placed(part) for part in arguments]
        words = {key: self.placed(part) for key, part in keywords.items()}
        bound = inspect.signature(function).bind(*given, **words)
        bound.apply_defaults()
        writer = _Writer(function, bound.arguments, self.name_of, self.fresh)
        result = writer.result()
        self.lines += writer.lines
        return result

    def placed(self, part):
        """Return a part as an argument: what is computed gets a name."""
        if isinstance(part, Known):
            return part.value
        if part.array is not None:
            return part.array
        if isinstance(part.tree, ast.Attribute):
            raise NotInline
        local = Local(self.fresh("part"))
        self.lines.append(ast.Assign([_name(local.name, ast.Store())], part.tree, lineno=0))
        return local

    def numpys(self, function, arguments, keywords):
        """Leave out ``like``, and let new arrays of ones or zeros depend on their shape alone."""
        keywords.pop("like", None)
        make = {np.ones_like: np.ones, np.zeros_like: np.zeros}.get(function.value)
        array = getattr(arguments[0], "array", None) if arguments else None
        if make and hasattr(array, "dtype"):
            keywords.setdefault("shape", Known(array.shape))
            keywords.setdefault("dtype", Known(array.dtype))
            arguments[:] = [keywords.pop("shape")]
            return Known(make)
        return function


def _name(name, context=None):
    return ast.Name(name, context or ast.Load())


def _holds(value):
    """Whether a value holds an array that has a name alone."""
    if isinstance(value, (tuple, list)):
        return any(map(_holds, value))
    return isinstance(value, Array)
