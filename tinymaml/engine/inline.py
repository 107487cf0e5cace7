"""The lines of a forward function: its body with the arguments of one call filled in.

What depends on shapes and options alone is worked out as the lines are made: branches are decided,
and shapes become numbers. Every line is one operation of NumPy's. A function with loops, or with
branches on values, has no lines and is called.
"""

import ast
import builtins
import functools
import inspect
import math
import sys
from types import CodeType, FunctionType

import numpy as np

#: What is known of an array before it has values
KNOWN = ("shape", "ndim", "dtype", "itemsize", "size", "strides", "nbytes")
OPERATORS = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.MatMult: np.matmul,
    ast.Gt: np.greater,
    ast.Lt: np.less,
    ast.GtE: np.greater_equal,
    ast.LtE: np.less_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.BitAnd: np.bitwise_and,
    ast.BitOr: np.bitwise_or,
    ast.USub: np.negative,
    ast.Invert: np.invert,
}
#: Methods that give another view of the same memory; a reshape of what lies in one piece does
VIEWS = ("swapaxes", "transpose", "view", "reshape")
COMPREHENSIONS = (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)


class NotInline(Exception):
    """A function has no lines: it must be called."""


class Array:
    """An array of a program: its name, and what is known before it has values.

    Attributes
    ----------
    name : str
    like : numpy.ndarray or None
        Of its shape, dtype and strides, in next to no memory. None if these are not known.
    """

    def __init__(self, name, like):
        self.name, self.like = name, like


class Known:
    """A part of an expression whose value is known."""

    def __init__(self, value):
        self.value = value


class Code:
    """A part of an expression that is computed.

    Attributes
    ----------
    tree : ast.expr
    array : Array
        The one that it names, or else a nameless one.
    work : bool
        Whether there is more to do than to look at an array in another shape.
    """

    def __init__(self, tree, array, work):
        self.tree, self.array, self.work = tree, array, work


class Line:
    """One operation: an expression, and the array (or structure of arrays) that it makes.

    If the line changes an array that was there before, ``in_place`` is the expression for what of
    it changes.
    """

    def __init__(self, target, tree, in_place=None):
        self.target, self.tree, self.in_place = target, tree, in_place


def outline(array):
    """Return an array of the same shape, dtype and strides that takes no memory."""
    point = np.zeros(1, array.dtype)
    return np.lib.stride_tricks.as_strided(point, array.shape, array.strides, writeable=False)


def inline(function, arguments, name_of, fresh, array_type=np.ndarray):
    """Return the lines of a call, and its result: Known or Code.

    Parameters
    ----------
    function : function
    arguments : dict
        Parameter -> an :class:`Array`, a tuple of such, or any other value.
    name_of : function
        Gives a name to a value that has no literal: a function, an array.
    fresh : function
        Makes a new name from a name.
    array_type : type
        What arrays will be.

    Raises
    ------
    NotInline
        If the function has loops, or branches on values.
    """
    writer = _Writer(function, arguments, name_of, fresh, array_type)
    return writer.lines, writer.result()


@functools.cache
def definition(function):
    """Return the syntax tree of a function, FunctionDef or Lambda; NotInline if there is none."""
    try:
        code, line = function.__code__, function.__code__.co_firstlineno
        statements = _statements(sys.modules[function.__module__])
        (around,) = [s for s in statements if s.lineno <= line <= s.end_lineno]
        nodes = [n for n in ast.walk(around) if isinstance(n, (ast.FunctionDef, ast.Lambda))]
        (node,) = [n for n in nodes if n.lineno == line and _is(n, code)]
        return node
    except (OSError, TypeError, KeyError, AttributeError, ValueError):
        raise NotInline from None


@functools.cache
def _statements(module):
    return ast.parse(inspect.getsource(module)).body


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
    ("(1, slice(None, 3, None), float('inf'))", 'np.float32', None)
    """
    if isinstance(value, np.dtype):
        name = f"np.{value.name}"
        return name if np.dtype(value.type) == value else f"np.dtype({value.str!r})"
    if isinstance(value, type) and issubclass(value, (np.generic, int, float)):
        return f"np.{value.__name__}" if issubclass(value, np.generic) else value.__name__
    if isinstance(value, np.longdouble):
        return f"np.longdouble({str(value)!r})"
    if isinstance(value, np.generic):
        number = literal(value.item())
        return number and f"np.{type(value).__name__}({number})"
    if value is Ellipsis:
        return "..."
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if value is None or type(value) in (bool, int, float, complex, str):
        return repr(value)
    parts = value if type(value) in (tuple, list) else None
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
    if parts is None or None in (parts := [literal(part) for part in parts]):
        return None
    if isinstance(value, list):
        return f"[{', '.join(parts)}]"
    comma = "," * (len(parts) == 1)
    return f"{'slice' * isinstance(value, slice)}({', '.join(parts)}{comma})"


def base_name(tree):
    """Return the name of the array that an expression looks at, None if it does more."""
    while not isinstance(tree, ast.Name):
        if isinstance(tree, ast.Subscript):
            tree = tree.value
        elif isinstance(tree, ast.Call) and getattr(tree.func, "attr", None) in VIEWS:
            tree = tree.func.value
        else:
            return None
    return tree.id


def call_tree(name, arguments, keywords=()):
    """Return the syntax tree of a call by name."""
    words = [ast.keyword(key, tree) for key, tree in dict(keywords).items()]
    return ast.Call(ast.parse(name, mode="eval").body, list(arguments), words)


class _Writer:
    def __init__(self, function, names, name_of, fresh, array_type):
        self.function, self.names, self.name_of, self.fresh = function, dict(names), name_of, fresh
        self.array_type, self.lines = array_type, []

    def result(self):
        tree = definition(self.function)
        result = self.value(tree.body) if isinstance(tree, ast.Lambda) else self.block(tree.body)
        if result is None:
            raise NotInline
        return result

    # Statements
    def block(self, body):
        """Write statements, and return the result if they end in one."""
        for line in body:
            if isinstance(line, ast.Return):
                return self.value(line.value)
            if isinstance(line, ast.If):
                branch = line.body if self.decide(line.test) else line.orelse
                if (result := self.block(branch)) is not None:
                    return result
            elif isinstance(line, ast.Assign) and isinstance(line.targets[-1], ast.Name):
                if len(line.targets) > 1:
                    raise NotInline
                value = self.value(line.value)
                if isinstance(value, Code) and value.work:
                    value = self.named(value, line.targets[0].id)
                self.names[line.targets[0].id] = value
            elif isinstance(line, ast.AugAssign) and isinstance(line.target, ast.Name):
                self.change(self.names.get(line.target.id), line.op, self.value(line.value))
            elif not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)):
                raise NotInline  # what is left is a docstring
        return None

    def change(self, place, operator, value):
        """Write ``place += value``, where the place is the result of a line of ours, or a view."""
        base = base_name(place.tree) if isinstance(place, Code) else None
        own = [line.target for line in self.lines if line.target.name == base]
        if not own or type(operator) not in OPERATORS:
            raise NotInline
        function = OPERATORS[type(operator)].__name__
        tree = call_tree(f"np.{function}", [place.tree, self.tree(self.operand(value))])
        self.lines.append(Line(own[0], tree, in_place=place.tree))

    def decide(self, test):
        test = self.value(test)
        if not isinstance(test, Known):
            raise NotInline
        return test.value

    def named(self, part, stem):
        """Give what is computed a line and a name."""
        array = Array(self.fresh(stem), part.array.like)
        self.lines.append(Line(array, part.tree))
        return _name(array)

    def operand(self, part):
        """Return a part of a larger expression: what takes work has a line before it."""
        return self.named(part, _stem(part.tree)) if isinstance(part, Code) and part.work else part

    def tree(self, part):
        if isinstance(part, Code):
            return part.tree
        if isinstance(part.value, (tuple, list)) and _holds(part.value):
            return ast.Tuple([self.tree(_part(item)) for item in part.value], ast.Load())
        return ast.parse(literal(part.value) or self.name_of(part.value), mode="eval").body

    # Expressions
    def value(self, node):
        """Return an expression as a part: Known or Code."""
        if node is None or isinstance(node, ast.Constant):
            return Known(node and node.value)
        if isinstance(node, ast.Name):
            return self.look_up(node.id)
        if isinstance(node, ast.IfExp):
            return self.value(node.body if self.decide(node.test) else node.orelse)
        if isinstance(node, ast.BoolOp):
            for test in node.values[:-1]:
                value = self.decide(test)
                if bool(value) is isinstance(node.op, ast.Or):
                    return Known(value)
            return self.value(node.values[-1])
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, (ast.Tuple, ast.List)):
            kind, parts = type(node), self.items(node.elts)
            if all(isinstance(part, Known) for part in parts):
                return Known((tuple if kind is ast.Tuple else list)(p.value for p in parts))
            trees = [self.tree(self.operand(part)) for part in parts]
            return Code(kind(trees, ast.Load()), Array(None, None), work=False)
        if isinstance(node, COMPREHENSIONS):
            found = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
            own = {n.id for n in found if isinstance(n.ctx, ast.Store)}
            return self.known(node, {n.id: self.look_up(n.id) for n in found if n.id not in own})
        if isinstance(node, ast.Attribute):
            return self.attribute(self.value(node.value), node.attr)
        if isinstance(node, ast.Slice):
            parts = {f: self.value(getattr(node, f)) for f in ("lower", "upper", "step")}
            return self.put_together(ast.Slice, parts)
        if isinstance(node, ast.Subscript):
            return self.subscript(self.operand(self.value(node.value)), self.value(node.slice))
        if isinstance(node, ast.BinOp):
            parts = {f: self.operand(self.value(getattr(node, f))) for f in ("left", "right")}
            return self.put_together(ast.BinOp, parts, node.op)
        if isinstance(node, ast.UnaryOp):
            parts = {"operand": self.operand(self.value(node.operand))}
            return self.put_together(ast.UnaryOp, parts, node.op)
        if isinstance(node, ast.Compare):
            return self.compare(node)
        raise NotInline

    def look_up(self, name):
        if name in self.names:
            return _part(self.names[name])
        closure = self.function.__closure__ or ()
        closed = dict(zip(self.function.__code__.co_freevars, closure))
        if name in closed:
            return Known(closed[name].cell_contents)
        space = self.function.__globals__
        if name not in space and not hasattr(builtins, name):
            raise NotInline
        return Known(space[name] if name in space else getattr(builtins, name))

    def items(self, nodes):
        """Return expressions as parts, those with a star as many."""
        parts = []
        for node in nodes:
            if not isinstance(node, ast.Starred):
                parts.append(self.value(node))
                continue
            values = self.value(node.value)
            if not isinstance(values, Known):
                raise NotInline
            parts += map(_part, values.value)
        return parts

    def known(self, node, parts):
        """Return the value of a node in which names stand for known parts."""
        if any(isinstance(part, Code) or _holds(part.value) for part in parts.values()):
            raise NotInline
        tree = ast.fix_missing_locations(ast.Expression(node))
        try:
            values = {name: part.value for name, part in parts.items()}
            return Known(eval(compile(tree, "", "eval"), {}, values))
        except Exception:  # say it when it runs
            raise NotInline from None

    def put_together(self, kind, parts, operator=None):
        """Return a node of these parts: its value if all of them are known."""
        rest = {} if operator is None else {"op": operator}
        if all(isinstance(part, Known) for part in parts.values()):
            names = {field: ast.Name(field, ast.Load()) for field in parts}
            return self.known(kind(**names, **rest), parts)
        if kind is ast.Slice:
            raise NotInline
        tree = kind(**{field: self.tree(part) for field, part in parts.items()}, **rest)
        return Code(tree, _computed(OPERATORS.get(type(operator)), parts.values()), work=True)

    def compare(self, node):
        parts = [self.operand(self.value(part)) for part in (node.left, *node.comparators)]
        if all(isinstance(part, Known) for part in parts):
            names = {f"_{i}": part for i, part in enumerate(parts)}
            first, *rest = [ast.Name(name, ast.Load()) for name in names]
            return self.known(ast.Compare(first, node.ops, rest), names)
        if len(parts) > 2:
            raise NotInline
        tree = ast.Compare(self.tree(parts[0]), node.ops, [self.tree(parts[1])])
        return Code(tree, _computed(OPERATORS.get(type(node.ops[0])), parts), work=True)

    def attribute(self, base, name):
        if isinstance(base, Known):
            return self.known(
                ast.Attribute(ast.Name("_", ast.Load()), name, ast.Load()), {"_": base}
            )
        base = self.operand(base)
        if name in KNOWN and base.array.like is not None:
            return Known(getattr(base.array.like, name))
        return Code(ast.Attribute(base.tree, name, ast.Load()), Array(None, None), work=True)

    def subscript(self, base, index):
        if isinstance(base, Known) and isinstance(index, Known):
            names = [ast.Name(name, ast.Load()) for name in ("base", "index")]
            return self.known(ast.Subscript(*names, ast.Load()), {"base": base, "index": index})
        tree = ast.Subscript(self.tree(base), self.tree(self.operand(index)), ast.Load())
        basic = isinstance(index, Known) and _is_basic(index.value)
        if basic:
            tree.slice = _index(index.value)
        if not (basic and isinstance(base, Code) and base.array.like is not None):
            return Code(tree, Array(None, None), work=True)
        part = base.array.like[index.value]
        return Code(tree, Array(None, part), work=not part.ndim)

    def call(self, node):
        if isinstance(node.func, ast.Attribute):
            base = self.value(node.func.value)
            if isinstance(base, Code):
                return self.method(self.operand(base), node.func.attr, node)
        function = self.value(node.func)
        if isinstance(function, Code):  # getattr(x, name)(...)
            return self.method(_name(function.array), function.tree.attr, node)
        called, arguments = function.value, [self.operand(part) for part in self.items(node.args)]
        keywords = {k.arg: self.operand(self.value(k.value)) for k in node.keywords}
        if None in keywords:
            raise NotInline
        if called in (isinstance, type) and isinstance(arguments[0], Code):
            like = arguments[0].array.like
            if like is None or not like.ndim:
                raise NotInline  # NumPy makes scalars of results without axes
            if called is type:
                return Known(self.array_type)
            return Known(issubclass(self.array_type, arguments[1].value))
        if called is getattr and isinstance(arguments[0], Code):
            tree = ast.Attribute(arguments[0].tree, arguments[1].value, ast.Load())
            return Code(tree, arguments[0].array, work=False)
        if (getattr(called, "__module__", None) or "").startswith("numpy"):
            called = self.of_shape_alone(called, arguments, keywords)
        parts = [*arguments, *keywords.values()]
        if all(isinstance(part, Known) and not _holds(part.value) for part in parts):
            try:
                values = [part.value for part in arguments]
                return Known(called(*values, **{k: p.value for k, p in keywords.items()}))
            except Exception:  # say it when it runs
                raise NotInline from None
        if isinstance(called, FunctionType) and not isinstance(called, np.ufunc):
            if not called.__module__.startswith("numpy"):
                return self.nested(called, arguments, keywords)
        words = {key: self.tree(part) for key, part in keywords.items()}
        tree = call_tree(self.name_of(called), map(self.tree, arguments), words)
        array = Array(None, None)
        if isinstance(called, np.ufunc) and not keywords:
            array = _computed(called, arguments)
        return Code(tree, array, work=True)

    def method(self, base, name, node):
        """Return the call of an array's method."""
        arguments = [self.operand(part) for part in self.items(node.args)]
        keywords = {k.arg: self.operand(self.value(k.value)) for k in node.keywords}
        words = [ast.keyword(key, self.tree(part)) for key, part in keywords.items()]
        function = ast.Attribute(base.tree, name, ast.Load())
        tree = ast.Call(function, [self.tree(part) for part in arguments], words)
        like = base.array.like
        parts = [*arguments, *keywords.values()]
        if like is None or not all(isinstance(part, Known) for part in parts):
            return Code(tree, Array(None, None), work=True)
        if name == "astype":
            made = outline(np.empty_like(like, dtype=arguments[0].value))
            return Code(tree, Array(None, made if made.ndim else None), work=True)
        if name not in VIEWS:
            return Code(tree, Array(None, None), work=True)
        if name == "reshape" and not like.flags.c_contiguous:
            return Code(tree, Array(None, None), work=True)
        values = [part.value for part in arguments]
        seen = getattr(like, name)(*values, **{k: p.value for k, p in keywords.items()})
        return Code(tree, Array(None, seen), work=False)

    def nested(self, function, arguments, keywords):
        """Return the result of a function inside, and add its lines; without any, call it."""
        given = [_argument(part) for part in arguments]
        words = {key: _argument(part) for key, part in keywords.items()}
        bound = inspect.signature(function).bind(*given, **words)
        bound.apply_defaults()
        writer = _Writer(function, bound.arguments, self.name_of, self.fresh, self.array_type)
        try:
            result = writer.result()
        except NotInline:
            trees = {key: self.tree(part) for key, part in keywords.items()}
            tree = call_tree(self.name_of(function), map(self.tree, arguments), trees)
            return Code(tree, Array(None, None), work=True)
        self.lines += writer.lines
        return result

    def of_shape_alone(self, called, arguments, keywords):
        """Leave out ``like``, and let new arrays of ones or zeros depend on their shape alone."""
        keywords.pop("like", None)
        make = {np.ones_like: np.ones, np.zeros_like: np.zeros}.get(called)
        like = arguments[0].array.like if make and isinstance(arguments[0], Code) else None
        if like is None or not like.flags.c_contiguous:  # it would have the order of that
            return called
        keywords.setdefault("dtype", arguments[1] if len(arguments) > 1 else Known(like.dtype))
        arguments[:] = [keywords.pop("shape", Known(like.shape))]
        return make


def _name(array):
    return Code(ast.Name(array.name, ast.Load()), array, work=False)


def _part(value):
    if isinstance(value, (Known, Code)):
        return value
    return _name(value) if isinstance(value, Array) else Known(value)


def _argument(part):
    return part.value if isinstance(part, Known) else part


def _holds(value):
    """Whether a value holds what is computed."""
    if isinstance(value, (tuple, list)):
        return any(map(_holds, value))
    return isinstance(value, (Array, Code))


def _is_basic(index):
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, slice, np.integer)) for p in parts)


def _index(value):
    """Return the syntax tree of a basic index, written as people do: ``..., None, :3``."""
    if isinstance(value, tuple) and len(value) == 1:
        return _index(value[0])
    if isinstance(value, tuple):
        return ast.Tuple([_index(part) for part in value], ast.Load())
    if not isinstance(value, slice):
        return ast.parse(literal(value), mode="eval").body
    ends = [
        None if end is None else ast.parse(repr(end), mode="eval").body
        for end in (value.start, value.stop, value.step)
    ]
    return ast.Slice(*ends)


def _stem(tree):
    """Return what to call a step on the way: after its operation."""
    if isinstance(tree, ast.Compare):
        return "mask"
    if isinstance(tree, (ast.BinOp, ast.UnaryOp)):
        return OPERATORS[type(tree.op)].__name__ if type(tree.op) in OPERATORS else "part"
    function = getattr(tree, "func", tree)
    return getattr(function, "attr", None) or getattr(function, "id", "part")


def _computed(ufunc, parts):
    """Return what the result of a ufunc is like, as far as that is known."""
    likes = [p.value if isinstance(p, Known) else p.array.like for p in parts]
    if ufunc is None or ufunc.nout > 1 or any(like is None for like in likes):
        return Array(None, None)
    few = [
        np.ones((1,) * max(a.ndim, ufunc is np.matmul and 2), a.dtype)
        if isinstance(a, np.ndarray)
        else a
        for a in likes
    ]
    try:
        dtype = ufunc(*few).dtype
        if ufunc is np.matmul:
            a, b = likes
            lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            ends = (*a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ()))
            return Array(None, outline(np.empty((*lead, *ends), dtype)))
        flags = [["readonly"]] * len(likes) + [["writeonly", "allocate"]]
        arrays = [a if isinstance(a, np.ndarray) else np.asarray(a) for a in likes]
        options = {"casting": "unsafe", "op_dtypes": [None] * len(arrays) + [dtype]}
        made = np.nditer([*arrays, None], ["zerosize_ok"], flags, **options).operands[-1]
    except (TypeError, ValueError):
        return Array(None, None)
    return Array(None, outline(made)) if made.ndim else Array(None, None)
