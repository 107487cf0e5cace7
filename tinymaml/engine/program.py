"""A program: recorded calls as straight-line NumPy source, into buffers that are kept."""

import ast
import inspect
import linecache
import re
import sys
from collections import Counter
from itertools import count

import numpy as np

from .inline import Array, NotInline, inline, literal
from .structure import leaves, map_leaves, rebuild
from .tensor import Tensor, leaf

#: What operators call, where the result has a buffer
_OPERATORS = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide"}
_ORDERS = ("the function", "first derivative", "second derivative")
_ALIGNED = 64  # bytes
_numbers = count(1)


class Variable(Array):
    """An array of a program.

    Attributes
    ----------
    stem, name : str
        What it is called after; what it is called, once the source is written.
    kind : {"input", "constant", "result"}
    shape, dtype, strides, ndim, size, itemsize, nbytes
        Of the array.
    order : int
        0 if it belongs to the function, 1 to its first derivative, 2 to its second.
    value : array
        Of a constant.
    views : list of Variable
        Whose memory it may share.
    named : bool
        Whether ``stem`` says more than the op.
    """

    def __init__(self, stem, kind, array, order):
        self.stem, self.kind, self.order, self.named = stem, kind, order, False
        self.name, self.value, self.views = None, None, []
        self.shape, self.dtype, self.strides = array.shape, array.dtype, array.strides
        self.ndim, self.size, self.itemsize = array.ndim, array.size, array.itemsize
        self.nbytes = array.nbytes


class Call:
    """A call of an op: what it was given, and the variables of what it gave.

    ``where`` are the lines that were running: (file, line, function), the outermost first.
    """

    def __init__(self, op, arguments, options, result, saved, order, where):
        self.op, self.arguments, self.options = op, arguments, options
        self.result, self.saved, self.order, self.where = result, saved, order, where

    def inputs(self):
        return variables([self.arguments, list(self.options.values())])

    def outputs(self):
        return variables([self.result, self.saved])


def variables(structure):
    """Return the variables in a structure."""
    return [v for v in leaves(structure) if isinstance(v, Variable)]


class Program:
    """The source of a recording, and the function it makes."""

    def __init__(self, name, recording, inputs, outputs, result):
        self.name = re.sub(r"\W", "_", name)
        self.form = rebuild(result, count())
        self.kinds = [
            None if type(y) is not Tensor else y.node is not None and y.node.op is None
            for y in leaves(result)
        ]
        self.inputs, self.outputs, self.checked = inputs, outputs, 0
        self.recorded = _numbered(recording.calls, inputs)
        calls, outputs = _distinct(_folded(recording.calls), outputs)
        self.text = _Text(self.name, _needed(calls, outputs), inputs, outputs)
        self.memory = {"plan": self.text.bytes, "eager_peak": recording.peak}
        self.source, self.operations = self.text.source, self.text.operations
        self.constants = {
            v.name: f"{v.dtype.name} {v.shape}, {v.nbytes} bytes" for v in self.text.captured
        }
        file = f"<program {next(_numbers)} of {self.name}>"
        linecache.cache[file] = (len(self.source), None, self.source.splitlines(True), file)
        space = self.text.space | {v.name: v.value for v in self.text.captured}
        exec(compile(self.source, file, "exec"), space)
        self.function = space[self.name]

    def run(self, inputs):
        """Return the arrays that the program gives for arrays or tensors."""
        arrays = [x.data if type(x) is Tensor else x for x in inputs]
        return self.function(*[a for a in arrays if isinstance(a, np.ndarray)])

    def rebuilt(self, arrays):
        """Return the arrays in the form of what the function gave."""
        made = []
        for array, kind in zip(arrays, self.kinds):
            made.append(array if kind is None else Tensor(array, leaf(array) if kind else None))
        return rebuild(self.form, iter(made))

    def compare(self, other):
        """Say where another recording of the same function differs from this one's."""
        for mine, theirs in zip(self.recorded, other.recorded):
            if not _same(mine, theirs):
                return mine[-1]
        return None if len(self.recorded) == len(other.recorded) else self.recorded[-1][-1]


# From recorded calls to those that are needed
def _numbered(calls, inputs):
    """Return what each call does in a form that can be compared: variables are numbers."""
    number = {v: i for i, v in enumerate(inputs)}
    found = []
    for call in calls:
        given = [call.arguments, sorted(call.options.items())]
        known = map_leaves(
            lambda v: (
                number.setdefault(v, len(number))
                if isinstance(v, Variable) and v.kind != "constant"
                else v.value if isinstance(v, Variable) else repr(v)
            ),
            given,
        )
        for v in call.outputs():
            number[v] = len(number)
        found.append((call.op.name, known, call.where))
    return found


def _same(mine, theirs):
    if mine[0] != theirs[0]:
        return False
    a, b = leaves(mine[1]), leaves(theirs[1])
    return len(a) == len(b) and all(
        x is y or type(x) is type(y) and (_bytes(x) if isinstance(x, np.ndarray) else x)
        == (_bytes(y) if isinstance(y, np.ndarray) else y)
        for x, y in zip(a, b)
    )


def _bytes(array):
    return array.shape, array.dtype, array.tobytes()


def _folded(calls):
    """Leave out calls that depend on nothing, such as those on a cotangent of one."""
    kept = []
    for call in calls:
        inputs = call.inputs()
        if not inputs or not all(map(_own, inputs)):
            kept.append(call)
            continue
        given, options = map_leaves(
            lambda v: v.value if isinstance(v, Variable) else v, (call.arguments, call.options)
        )
        made = call.op.forward(*given, **options)
        values = made if call.op.saves else (made, None)
        for v, value in zip(leaves([call.result, call.saved]), leaves(list(values))):
            if isinstance(v, Variable):
                v.kind, v.value = "constant", np.asarray(value)
    return kept


def _own(v):
    """Whether a constant was made inside, so that nobody else can change it."""
    return v.kind == "constant" and sys.getrefcount(v.value) <= 2


def _distinct(calls, outputs):
    """Do the same thing to the same arrays once."""
    seen, other = {}, {}
    swap = lambda v: other.get(v, v) if isinstance(v, Variable) else v
    kept = []
    for call in calls:
        arguments, options = map_leaves(swap, (list(call.arguments), call.options))
        key = call.op.name, _key(arguments), tuple([(k, _key(v)) for k, v in options.items()])
        before = seen.setdefault(key, call)
        if before is not call:
            other |= zip(call.outputs(), before.outputs())
            continue
        kept.append(
            Call(call.op, arguments, options, call.result, call.saved, call.order, call.where)
        )
        for v in call.outputs():
            v.views = [swap(view) for view in v.views]
    return kept, [swap(v) for v in outputs]


def _key(value):
    if isinstance(value, (list, tuple)):
        return tuple([_key(part) for part in value])
    return value if isinstance(value, Variable) else (type(value), repr(value))


def _needed(calls, outputs):
    """Leave out what no output depends on."""
    needed, kept = set(outputs), []
    for call in reversed(calls):
        if needed.intersection(call.outputs()):
            needed.update(call.inputs())
            kept.append(call)
    return kept[::-1]


class _Text:
    """The source of calls.

    Attributes
    ----------
    source : str
    space : dict
        The modules and functions that it uses, by name.
    captured : list of Variable
        Arrays from outside that it uses.
    operations : list of dict
    bytes : int
        Of its buffers.
    """

    def __init__(self, name, calls, inputs, outputs):
        self.names, self.space, self.captured = Counter({name: 1}), {"np": np}, []
        self.constants, self.buffers = [], []
        for v in inputs:
            v.name = self.fresh(v.stem)
        written = [self.write(call) for call in calls]
        self.bytes = self.plan(calls, written, outputs)
        body = list(self.commented(calls, written))
        last = ", ".join([self.returned(v, outputs) for v in outputs])
        arguments = ", ".join([v.name for v in inputs])
        self.source = "\n".join(
            [
                *self.constants,
                *self.buffers,
                "",
                "",
                f"def {name}({arguments}):",
                *[f"    {line}" for line in body],
                f"    return ({last},)",
                "",
            ]
        ).lstrip("\n")
        self.operations = [
            {
                "name": call.result.name,
                "op": call.op.name,
                "shape": call.result.shape,
                "bytes": sum(v.nbytes for v in call.outputs()),
                "order": call.order,
            }
            for call in calls
        ]

    def fresh(self, stem):
        """Return a name that nothing has yet."""
        while True:
            self.names[stem] += 1
            n = self.names[stem]
            name = stem if n == 1 else f"{stem}_{n}"
            if n == 1 or name not in self.names:
                self.names[name] += name != stem
                return name

    def write(self, call):
        """Return the statements of a call, and where in them a buffer may go."""
        outputs = call.outputs()
        for v in outputs:
            v.name = self.fresh(v.stem)
        function = call.op.forward
        if isinstance(function, np.ufunc):
            lines, result = [], _call(f"np.{function.__name__}", map(self.tree, call.arguments))
        else:
            try:
                bound = inspect.signature(function).bind(*call.arguments, **call.options)
                bound.apply_defaults()
                self.read(call)
                lines, result = inline(function, bound.arguments, self.name_of, self.fresh)
            except NotInline:
                lines, options = [], {k: self.tree(v) for k, v in call.options.items()}
                trees = map(self.tree, call.arguments)
                result = _call(self.name_of(function), trees, options)
        target = self.target(call.result)
        if call.op.saves:
            target = ast.Tuple([target, self.target(call.saved)], ast.Store())
        elif isinstance(result, ast.Name) and any(result.id == _target(line) for line in lines):
            for node in [node for line in lines for node in ast.walk(line)]:
                if isinstance(node, ast.Name) and node.id == result.id != call.result.name:
                    node.id = call.result.name
            return lines
        return [*lines, ast.Assign([target], result, lineno=0)]

    def read(self, call):
        for v in call.inputs():
            self.tree(v)  # so that constants have names

    def target(self, structure):
        if isinstance(structure, (tuple, list)):
            return ast.Tuple([self.target(part) for part in structure], ast.Store())
        return ast.Name(structure.name if structure is not None else "_", ast.Store())

    def tree(self, value):
        """Return the syntax tree of an argument."""
        if isinstance(value, Variable):
            if value.name is None:
                self.define(value)
            return ast.parse(value.name, mode="eval").body
        if isinstance(value, (tuple, list)) and variables(value):
            return ast.Tuple([self.tree(part) for part in value], ast.Load())
        return ast.parse(literal(value) or self.name_of(value), mode="eval").body

    def define(self, v):
        """Give a constant its name: a number as it is, what was made inside a line of its own."""
        if not _own(v):
            v.name = self.fresh(v.stem)
            self.captured.append(v)
            self.constants.append(f"# {v.name}: {v.dtype.name} {v.shape}, from outside")
        elif v.size == 1 and not v.ndim:
            v.name = literal(v.value[()])
        else:
            v.name = self.name_of(v.value)

    def name_of(self, value):
        """Return a name for a function, a module or an array."""
        if isinstance(value, np.ndarray):
            name = self.fresh("constant")
            self.constants.append(f"{name} = {_array(value)}")
            return name
        name = getattr(value, "__name__", None)
        for module, prefix in ((np, "np."), (np.linalg, "np.linalg.")):
            if name and getattr(module, name, None) is value:
                return prefix + name
        if not callable(value):
            raise NotInline
        name = name if name and name.isidentifier() else "function"
        if self.space.get(name, value) is not value:
            name = self.fresh(name)
        self.space[name] = value
        self.names[name] += 1
        return name

    # Buffers
    def plan(self, calls, written, outputs):
        """Give results places in one block of memory that is kept; return its size in bytes."""
        group = {}

        def root(v):
            while group.get(v, v) is not v:
                v = group[v]
            return v

        last, returned = {}, set()
        for i, call in enumerate(calls):
            for v in call.outputs():
                group[v] = v
                for view in v.views:
                    if root(view) is not root(v):
                        group[root(view)] = root(v)
        for i, call in enumerate(calls):
            for v in call.inputs():
                last[root(v)] = i
        returned = {root(v) for v in outputs}
        free, placed, end = [(0, 1 << 62)], {}, 0
        for i, (call, lines) in enumerate(zip(calls, written)):
            dying = [root(v) for v in call.inputs() if last.get(root(v)) == i]
            at_once = len(lines) == 1 and isinstance(call.op.forward, np.ufunc)
            at_once = at_once and call.op.forward.signature is None
            if at_once:
                _release(free, placed, dying)
            v, slot = call.result, _slot(lines)
            if slot and root(v) not in returned and not v.views and _dense(v):
                size = -(-v.nbytes // _ALIGNED) * _ALIGNED
                start = _take(free, size)
                placed[root(v)] = start, size
                end = max(end, start + size)
                slot(self.buffer(v, start))
            if not at_once:
                _release(free, placed, dying)
            if root(v) not in last:
                _release(free, placed, [root(v)])
        if end:
            self.buffers[:0] = [
                f"memory = np.empty({end + _ALIGNED}, np.uint8)",
                f'memory = memory[-memory.__array_interface__["data"][0] % {_ALIGNED} :]',
            ]
        return end

    def buffer(self, v, start):
        name = f"{v.name}_"
        strides = "" if v.strides == np.empty(v.shape, v.dtype).strides else f", {v.strides}"
        self.buffers.append(
            f"{name} = np.ndarray({v.shape}, {v.dtype.str!r}, memory, {start}{strides})"
        )
        return name

    def commented(self, calls, written):
        """Yield the lines, with the lines of the function that they come from as comments."""
        before, order = (), 0
        for call, lines in zip(calls, written):
            if call.where != before:
                same = next(
                    (i for i, (a, b) in enumerate(zip(before, call.where)) if a != b),
                    min(len(before), len(call.where)),
                )
                for i in range(same, len(call.where)):
                    file, line, function = call.where[i]
                    yield f"# {'  ' * i}{function}: {linecache.getline(file, line).strip()}"
                before = call.where
                order = 0
            if call.order != order:
                order = call.order
                name = _ORDERS[order] if order < len(_ORDERS) else f"derivative of order {order}"
                yield f"# {'  ' * len(call.where)}{name}"
            for line in lines:
                yield ast.unparse(ast.fix_missing_locations(line))

    def returned(self, v, outputs):
        """Return what is given back for an output: never a buffer, an input or a constant."""
        if v.name is None:
            self.tree(v)
        fresh = v.kind == "result" and not v.views and outputs.count(v) == 1
        shared = any(v in other.views for other in outputs)
        return v.name if fresh and v.ndim and not shared else f"np.copy({v.name})"


def _call(name, arguments, options=None):
    keywords = [ast.keyword(key, value) for key, value in (options or {}).items()]
    return ast.Call(ast.parse(name, mode="eval").body, list(arguments), keywords)


def _target(line):
    return getattr(line.targets[0], "id", None) if isinstance(line, ast.Assign) else None


def _array(value):
    """Return the source of an array."""
    if value.size and (value == value.flat[0]).all() and value.flat[0] in (0, 1):
        make = "ones" if value.flat[0] else "zeros"
        return f"np.{make}({value.shape}, {value.dtype.str!r})"
    if value.size and value.dtype.kind in "iu" and value.ndim == 1 and value.size > 1:
        step = int(value[1]) - int(value[0])
        ends = (int(value[0]), int(value[0]) + step * value.size, step)
        if step and np.array_equal(np.arange(*ends), value):
            return f"np.arange{ends}.astype({value.dtype.str!r})"
    if value.size <= 64:
        return f"np.array({value.tolist()}, {value.dtype.str!r}).reshape({value.shape})"
    return f"np.frombuffer({value.tobytes()!r}, {value.dtype.str!r}).reshape({value.shape})"


def _dense(v):
    """Whether the elements of a result fill their memory without gaps."""
    expected = v.itemsize
    for stride, n in sorted((s, n) for s, n in zip(v.strides, v.shape) if n != 1):
        if stride != expected:
            return False
        expected *= n
    return v.ndim > 0 and v.nbytes > 0


def _slot(lines):
    """Return a function that puts a buffer into the call that makes a result, None if none can."""
    line = lines[0]
    if not isinstance(line, ast.Assign) or any(not isinstance(x, ast.AugAssign) for x in lines[1:]):
        return None
    value = line.value
    if isinstance(value, ast.BinOp) and type(value.op) in _OPERATORS:
        made = _call(f"np.{_OPERATORS[type(value.op)]}", (value.left, value.right))
    elif isinstance(value, ast.BinOp) and isinstance(value.op, ast.MatMult):
        made = _call("np.matmul", (value.left, value.right))
    elif (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and getattr(value.func.value, "id", None) == "np"
        and isinstance(getattr(np, value.func.attr, None), np.ufunc)
    ):
        made = value
    else:
        return None

    def put(name):
        made.keywords.append(ast.keyword("out", ast.Name(name, ast.Load())))
        line.value = made

    return put


def _take(free, size):
    """Take the first free place of a size, from a sorted list of (start, end)."""
    for i, (start, end) in enumerate(free):
        if end - start >= size:
            free[i : i + 1] = [(start + size, end)] if end - start > size else []
            return start
    raise AssertionError


def _release(free, placed, groups):
    for group in groups:
        if group in placed:
            start, size = placed.pop(group)
            free.append((start, start + size))
            free.sort()
            merged = [free[0]]
            for begin, end in free[1:]:
                if begin == merged[-1][1]:
                    merged[-1] = merged[-1][0], end
                else:
                    merged.append((begin, end))
            free[:] = merged
