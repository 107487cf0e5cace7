"""A program: recorded calls as straight-line NumPy source, into buffers that are kept."""

import ast
import builtins
import inspect
import keyword
import linecache
import re
import sys
import unicodedata
from collections import Counter
from itertools import count

import numpy as np

from .backend import asarray, is_array, to_numpy
from .inline import (
    OPERATORS,
    VIEWS,
    Array,
    Code,
    Line,
    NotInline,
    base_name,
    call_tree,
    inline,
    literal,
    outline,
)
from .standalone import sources
from .structure import leaves, map_leaves, rebuild
from .tensor import Tensor, leaf, raw

_ORDERS = ("the function", "first derivative", "second derivative")
_ALIGNED = 64  # bytes
_SMALL = 1 << 16  # bytes that are copied in less time than a view of them is made
_TAKEN = ("np", "memory", "float", "slice", "int", "bool", "complex", *keyword.kwlist)
_numbers = count(1)


class Variable(Array):
    """An array of a recording.

    Attributes
    ----------
    name, stem : str
        What it is called, once the source is written; what after.
    kind : {"input", "constant", "result"}
    like : numpy.ndarray
        Of its shape, dtype and strides.
    order : int
        0 if it belongs to the function, 1 to its first derivative, 2 to its second.
    value : array
        Of a constant.
    own : bool
        Whether a constant was made inside.
    views : list of Variable
        Whose memory it may share.
    named : bool
        Whether ``stem`` says more than the op.
    """

    def __init__(self, stem, kind, array, order):
        super().__init__(None, outline(array))
        self.stem, self.kind, self.order, self.named = stem, kind, order, False
        self.value, self.own, self.views, self.given = None, False, [], None


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
        self.checked, self.places = 0, None
        for v in {v for c in recording.calls for v in c.inputs() if v.kind == "constant"}:
            # made inside, if nobody else has it: then nobody can change it
            v.own = sys.getrefcount(v.value) <= 2 and getattr(v.value, "base", None) is None
        self.recorded = _numbered(recording.calls, inputs)
        calls, outputs = _distinct(_folded(recording.calls), outputs)
        array_type = type(raw(leaves(result)[0])) if self.kinds else np.ndarray
        self.text = _Text(self.name, _needed(calls, outputs), inputs, outputs, array_type)
        self.memory = {"plan": self.text.bytes, "eager_peak": recording.peak}
        self.source, self.operations = self.text.source, self.text.operations
        self.constants = {
            v.name: f"{v.like.dtype.name} {v.like.shape}, {v.like.nbytes} bytes"
            for v in self.text.captured
        }
        file = f"<program {next(_numbers)} of {self.name}>"
        linecache.cache[file] = (len(self.source), None, self.source.splitlines(True), file)
        self.code, self.function = compile(self.source, file, "exec"), None

    def load(self):
        """Take the memory that it keeps."""
        space = self.text.space | {v.name: v.value for v in self.text.captured}
        exec(self.code, space)
        self.function = space[self.name]

    def unload(self):
        """Give its memory back until it is loaded again."""
        self.function = None

    def file(self):
        """Return the source as a file that needs NumPy alone."""
        for v in self.text.captured:
            if v.value.dtype.kind not in "biufc":
                raise ValueError(f"{v.name} holds {v.value.dtype.name}, which has no source")
        parts = [f'"""The program of {self.name}: it needs NumPy alone."""']
        used = {name: value for name, value in self.text.space.items() if value is not np}
        parts.append(sources({"np": np} | used, self.source))
        parts += [f"{v.name} = {_array(v.value)}" for v in self.text.captured]
        return "\n\n".join([*parts, self.source])

    def run(self, inputs):
        """Return the arrays that the program gives for arrays or tensors."""
        if self.places is None:  # of the arrays among numbers and words
            self.places = [i for i, x in enumerate(inputs) if is_array(raw(x))]
        return self.function(*[raw(inputs[i]) for i in self.places])

    def rebuilt(self, arrays):
        """Return the arrays in the form of what the function gave."""
        made = []
        for array, kind in zip(arrays, self.kinds):
            made.append(array if kind is None else Tensor(array, leaf(array) if kind else None))
        return rebuild(self.form, iter(made))

    def differs(self, calls, inputs):
        """Return where calls recorded another time differ from these, None if they do not."""
        others = _numbered(calls, inputs)
        for mine, theirs in zip(self.recorded, others):
            if not _same(mine, theirs):
                return mine[-1]
        return None if len(self.recorded) == len(others) else self.recorded[-1][-1]


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
                else v.value
                if isinstance(v, Variable)
                else repr(v)
            ),
            given,
        )
        for v in call.outputs():
            number[v] = len(number)
        found.append((call.op, known, call.where))
    return found


def _same(mine, theirs):
    if mine[0] != theirs[0]:
        return False
    a, b = leaves(mine[1]), leaves(theirs[1])
    return len(a) == len(b) and all(
        x is y
        or (
            type(x) is type(y)
            and (_bytes(x) if is_array(x) else x) == (_bytes(y) if is_array(y) else y)
        )
        for x, y in zip(a, b)
    )


def _bytes(array):
    return array.shape, array.dtype, to_numpy(array).tobytes()


def _folded(calls):
    """Leave out calls that depend on nothing, such as those on a cotangent of one."""
    kept = []
    for call in calls:
        inputs = call.inputs()
        if not inputs or not all(v.own for v in inputs):
            kept.append(call)
            continue
        given, options = map_leaves(
            lambda v: v.value if isinstance(v, Variable) else v, (call.arguments, call.options)
        )
        made = call.op.forward(*given, **options)
        values = made if call.op.saves else (made, None)
        for v, value in zip(leaves([call.result, call.saved]), leaves(list(values))):
            if isinstance(v, Variable):
                v.kind, v.value, v.own = "constant", asarray(value), True
    return kept


def _distinct(calls, outputs):
    """Do the same thing to the same arrays once."""
    seen, other = {}, {}
    large = lambda v: v.like.nbytes > _SMALL
    swap = lambda v: other.get(v, v) if isinstance(v, Variable) else v
    kept = []
    for call in calls:
        arguments, options = map_leaves(swap, (list(call.arguments), call.options))
        key = call.op, _key(arguments), tuple([(k, _key(v)) for k, v in options.items()])
        before = call if any(map(large, call.outputs())) else seen.setdefault(key, call)
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
        Of the memory that it keeps.
    """

    def __init__(self, name, calls, inputs, outputs, array_type):
        self.names, self.space, self.captured = Counter([name, *_TAKEN]), {"np": np}, []
        self.array_type = array_type
        if array_type is not np.ndarray:
            self.space["asarray"] = asarray
        self.made, self.arrays = {}, {}  # constants by what they are; arrays by name
        self.functions = {}
        self.header, self.kept, self.lines, self.first = [], [], [], []
        for v in inputs:
            self.name(v)
        for c in calls:
            self.write(c)
        self.outputs = outputs
        for v in outputs:
            self.tree(v)
        self.merge()
        self.bytes = self.plan(inputs)
        body = list(self.commented())
        arguments = ", ".join([v.given or v.name for v in inputs])
        results = ", ".join(map(self.returned, self.outputs))
        body = [*self.first, *body, f"return ({results},)" if results else "return ()"]
        body = [f"    {line}" for line in body]
        self.source = "\n".join(
            [*self.header, *self.kept, "", "", f"def {name}({arguments}):", *body, ""]
        ).lstrip("\n")
        self.operations = [
            {
                "name": c.result.name,
                "op": c.op.name,
                "shape": c.result.like.shape,
                "bytes": sum(v.like.nbytes for v in c.outputs()),
                "order": c.order,
            }
            for c in calls
        ]

    def fresh(self, stem):
        """Return a name that nothing has yet."""
        stem = unicodedata.normalize("NFKC", stem)
        stem = "".join([c if f"_{c}".isidentifier() else "_" for c in stem])
        stem = stem if stem.isidentifier() else f"_{stem}"
        while True:
            self.names[stem] += 1
            n = self.names[stem]
            name = stem if n == 1 else f"{stem}_{n}"
            if n == 1 or name not in self.names:
                self.names[name] += name != stem
                return name

    def name(self, v):
        v.name = self.fresh(v.stem)
        self.arrays[v.name] = v

    # Lines
    def write(self, c):
        """Write the lines of a recorded call."""
        for v in c.inputs():
            self.tree(v)
        for v in c.outputs():
            self.name(v)
        function, lines = getattr(c.op.forward, "plain", c.op.forward), []
        try:
            if isinstance(function, np.ufunc):
                raise NotInline
            bound = inspect.signature(function).bind(*c.arguments, **c.options)
            bound.apply_defaults()
            lines, result = inline(
                function, bound.arguments, self.name_of, self.fresh, self.array_type
            )
            if not isinstance(result, Code):
                raise NotInline
            tree, base = result.tree, None if result.work else base_name(result.tree)
        except NotInline:
            base = None
            options = {key: self.tree(value) for key, value in c.options.items()}
            name = self.name_of(function, c.op.name)
            lines, tree = [], call_tree(name, map(self.tree, c.arguments), options)
        target = c.result
        if c.op.saves:
            target = (c.result, c.saved)
        elif own := [line for line in lines if line.target.name == getattr(tree, "id", None)]:
            trees = [t for line in lines for t in (line.tree, line.in_place) if t]
            for node in [node for tree in trees for node in ast.walk(tree)]:
                if isinstance(node, ast.Name) and node.id == own[0].target.name:
                    node.id = c.result.name
            for line in own:
                line.target = c.result
            base = None
        if target is not c.result or not own:
            lines.append(Line(target, tree))
        for line in lines:
            line.call, line.base = c, None
            for array in _arrays(line.target):
                self.arrays[array.name] = array
        lines[-1].base = base
        self.lines += lines

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
        if not v.own:
            self.name(v)
            self.captured.append(v)
            self.header.append(f"# {v.name}: {v.like.dtype.name} {v.like.shape}, from outside")
        elif not v.like.ndim:
            v.name = literal(to_numpy(v.value)[()])
        else:
            v.name = self.name_of(v.value)

    def name_of(self, value, stem=None):
        """Return a name for a function, called after ``stem``, or for an array."""
        if is_array(value):
            source = _array(to_numpy(value))
            if self.array_type is not np.ndarray:
                source = f"asarray({source})"
            if source not in self.made:
                self.made[source] = self.fresh("constant")
                self.arrays[self.made[source]] = Array(self.made[source], outline(value))
                self.header.append(f"{self.made[source]} = {source}")
            return self.made[source]
        name = getattr(value, "__name__", None)
        for module, prefix in ((np, "np."), (np.linalg, "np.linalg.")):
            if name and getattr(module, name, None) is value:
                return prefix + name
        if isinstance(ufunc := getattr(value, "__self__", None), np.ufunc):  # such as np.add.reduce
            return f"np.{ufunc.__name__}.{name}"
        if id(value) not in self.functions:
            stem = stem or (name or "option").strip("_<>")
            self.functions[id(value)] = self.fresh(stem + "_" * hasattr(builtins, stem))
            self.space[self.functions[id(value)]] = value
        return self.functions[id(value)]

    def merge(self):
        """Do the same thing to the same arrays once, unless it takes memory to keep that."""
        changed = {line.target: line.call for line in self.lines if line.in_place}
        seen, other, kept = {}, {}, []
        for line in self.lines:
            _rename(line.tree, other)
            small = isinstance(line.target, Array) and (
                line.target.like is None or line.target.like.nbytes <= _SMALL
            )
            while_changing = any(changed.get(a) is line.call for a in self.read(line.tree))
            if small and line.target not in changed and not while_changing:
                before = seen.setdefault(ast.unparse(line.tree), line)
                if before is not line:
                    other[line.target.name] = before.target.name
                    continue
            kept.append(line)
        self.lines = kept
        survivor = lambda v: self.arrays.get(other.get(v.name, v.name), v)
        self.outputs = [survivor(v) for v in self.outputs]
        for line in kept:
            for array in _arrays(line.target):
                if isinstance(array, Variable):
                    array.views = [survivor(view) for view in array.views]

    # Memory
    def plan(self, inputs):
        """Give results places in one block of memory that is kept; return its size in bytes."""
        roots = {}  # array -> whose memory it shares, as it was recorded

        def root(array):
            while roots.get(array, array) is not array:
                array = roots[array]
            return array

        for line in self.lines:
            for array in _arrays(line.target):
                views = getattr(array, "views", None)
                if views is None:  # nothing is known of it: it may be a view of what it is made of
                    views = [] if _ufunc(line.tree) else self.read(line.tree)
                for view in [*views, self.arrays[line.base]] if line.base else views:
                    if root(view) is not root(array):
                        roots[root(view)] = root(array)
        last = {}
        for i, line in enumerate(self.lines):
            for array in (*self.read(line.tree), *_arrays(line.target)):
                last[root(array)] = i
        never = {root(v) for v in self.outputs}
        free, placed, end, static = [(0, 1 << 62)], {}, 0, set()
        kept = []
        for v in self.copied(inputs):
            size = -(-v.like.nbytes // _ALIGNED) * _ALIGNED
            start = end = _take(free, size)
            end += size
            static.add(v.name)
            self.kept.append(_buffer(v, start))
        for i, line in enumerate(self.lines):
            v, dying = line.target, {root(a) for a in self.read(line.tree) if last[root(a)] == i}
            if line.base in static or self.is_view(line, static):
                static.add(v.name)
                source = ast.unparse(line.tree)
                self.made[source] = v.name
                self.kept.append(f"{v.name} = {source}")
                _release(free, placed, dying)
                continue
            kept.append(line)
            name = _ufunc(line.tree)
            main = v if isinstance(v, Array) else v[0]
            if line.in_place:
                line.out = line.in_place if v.like is not None else None
            elif (
                _dense(main.like)
                and root(main) not in never
                and not getattr(main, "views", ())
                and self.array_type is np.ndarray
                and (name or self.takes_out(line.tree))
            ):
                size = -(-main.like.nbytes // _ALIGNED) * _ALIGNED
                # an elementwise operation may write where it reads, if that is just the same place
                same = [r for r in dying if name not in (None, "matmul") and _fits(r, main, placed)]
                start = placed.pop(same[0])[0][0] if same else _take(free, size)
                placed.setdefault(root(main), []).append((start, size, main.like))
                end = max(end, start + size)
                static.add(main.name)
                self.kept.append(_buffer(main, start))
                line.out = ast.Name(main.name, ast.Load())
            _release(free, placed, dying)
            _release(free, placed, {root(a) for a in _arrays(v) if last[root(a)] == i})
        self.lines, self.static = kept, static
        self.let_go()
        hoisted = _Hoisted(self, static)
        for line in kept:
            line.tree = hoisted.visit(line.tree)
            if getattr(line, "out", None):
                line.out = hoisted.visit(line.out)
        if end:
            self.kept[:0] = [
                f"memory = np.empty({end + _ALIGNED}, np.uint8)",
                f'memory = memory[-memory.__array_interface__["data"][0] % {_ALIGNED} :]',
            ]
        return end

    def let_go(self):
        """Note after which line a large array that is not kept is used no more."""
        last = {}
        for line in self.lines:
            line.gone = []
            for array in (*self.read(line.tree), *_arrays(line.target)):
                last[array] = line
        for array, line in last.items():
            made = getattr(array, "kind", "result") == "result" and array not in self.outputs
            if made and array.name not in self.static and array.name not in self.made.values():
                if array.like is not None and array.like.nbytes > _SMALL:
                    line.gone.append(array.name)

    def copied(self, inputs):
        """Take small inputs over into kept memory, so that views of them are made but once."""
        viewed = {view for line in self.lines for view in getattr(line.target, "views", ())}
        for v in inputs if self.array_type is np.ndarray else ():
            if v in viewed and _dense(v.like) and v.like.nbytes <= _SMALL:
                given, v.given = v.name, self.fresh(f"{v.name}_given")
                self.first.append(f"np.copyto({given}, {v.given})")
                yield v

    def read(self, tree):
        """Return the arrays that an expression names."""
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        return [self.arrays[name] for name in names if name in self.arrays]

    def is_view(self, line, static):
        """Whether a line does nothing but look at kept memory in another shape."""
        v, tree = line.target, line.tree
        if not isinstance(v, Variable) or len(v.views) != 1 or line.in_place:
            return False
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - {"np"}
        if not names <= static | set(self.made.values()):
            return False
        function = getattr(tree, "func", None)
        if isinstance(tree, ast.Subscript):
            return True
        return isinstance(function, ast.Attribute) and function.attr in (*VIEWS, "broadcast_to")

    def takes_out(self, tree):
        function = self.space.get(getattr(getattr(tree, "func", None), "id", None))
        return function is not None and "out" in inspect.signature(function).parameters

    # Source
    def commented(self):
        """Yield the lines, with the lines of the function that they come from as comments."""
        before, order = (), 0
        for line in self.lines:
            where = line.call.where
            if where != before:
                pairs = enumerate(zip(before, where))
                same = next((i for i, (a, b) in pairs if a != b), min(len(before), len(where)))
                for i in range(same, len(where)):
                    file, number, function = where[i]
                    yield f"# {'  ' * i}{function}: {linecache.getline(file, number).strip()}"
                before, order = where, 0
            if line.call.order != order:
                order = line.call.order
                name = _ORDERS[order] if order < len(_ORDERS) else f"derivative of order {order}"
                yield f"# {'  ' * len(where)}{name}"
            yield ast.unparse(ast.fix_missing_locations(self.statement(line)))
            if line.gone:
                yield f"del {', '.join(sorted(line.gone))}"

    def statement(self, line):
        tree, out = line.tree, getattr(line, "out", None)
        if line.in_place and out is None:  # it may be a number
            return ast.Assign([ast.Name(line.target.name, ast.Store())], tree, lineno=0)
        if out is None:
            return ast.Assign([_target(line.target)], tree, lineno=0)
        name = _ufunc(tree)
        if name and not isinstance(tree, ast.Call):
            parts = (
                (tree.left, tree.right)
                if isinstance(tree, ast.BinOp)
                else (tree.left, tree.comparators[0])
                if isinstance(tree, ast.Compare)
                else (tree.operand,)
            )
            tree = call_tree(f"np.{name}", parts)
        tree.keywords.append(ast.keyword("out", out))
        if isinstance(line.target, Array):
            return ast.Expr(tree)
        return ast.Assign([_target((None, *line.target[1:]))], tree, lineno=0)

    def returned(self, v):
        """Return what is given back for an output: never kept memory, an input or a constant."""
        if self.array_type is not np.ndarray:
            return f"{v.name}.copy()"
        mine = isinstance(v, Variable) and v.kind == "result" and v.name not in self.static
        shared = self.outputs.count(v) > 1
        shared |= any(v in getattr(other, "views", ()) for other in self.outputs)
        return (
            v.name if mine and v.like.ndim and not v.views and not shared else f"np.copy({v.name})"
        )


class _Hoisted(ast.NodeTransformer):
    """Takes views of kept memory out of the lines: they stay the same from call to call."""

    def __init__(self, text, static):
        self.text, self.static = text, static

    def visit(self, node):
        base, names = base_name(node), {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if isinstance(node, ast.Name) or base not in self.static or names - {base, "np"}:
            return self.generic_visit(node)
        if not self.is_view(node):
            return self.generic_visit(node)
        source = ast.unparse(node)
        if source not in self.text.made:
            self.text.made[source] = self.text.fresh(f"{base}_{_suffix(node)}")
            self.text.kept.append(f"{self.text.made[source]} = {source}")
        return ast.Name(self.text.made[source], ast.Load())

    def is_view(self, node):
        """Whether nothing is copied: a reshape copies what does not lie in one piece."""
        seen = []
        while not isinstance(node, ast.Name):
            seen.append(node)
            node = node.value if isinstance(node, ast.Subscript) else node.func.value
        like = self.text.arrays[node.id].like
        for step in reversed(seen):
            if getattr(getattr(step, "func", None), "attr", "") == "reshape":
                if not like.flags.c_contiguous:
                    return False
            source = ast.unparse(step).replace(ast.unparse(_inner(step)), "like", 1)
            like = eval(source, {"np": np, "like": like})
        return isinstance(like, np.ndarray)  # a number is a copy


def _inner(step):
    return step.value if isinstance(step, ast.Subscript) else step.func.value


def _suffix(node):
    return (
        "part"
        if isinstance(node, ast.Subscript)
        else {"swapaxes": "T"}.get(node.func.attr, node.func.attr)
    )


def _arrays(target):
    return [array for array in leaves(target) if isinstance(array, Array)]


def _target(structure):
    if isinstance(structure, (tuple, list)):
        return ast.Tuple([_target(part) for part in structure], ast.Store())
    return ast.Name("_" if structure is None else structure.name, ast.Store())


def _rename(tree, other):
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = other.get(node.id, node.id)


def _ufunc(tree):
    """Return the name of the ufunc that an expression calls, or None."""
    operator = getattr(tree, "op", None) or (tree.ops[0] if isinstance(tree, ast.Compare) else None)
    if operator is not None:
        function = OPERATORS.get(type(operator))
        return function and function.__name__
    function = getattr(tree, "func", None)
    if isinstance(function, ast.Attribute) and getattr(function.value, "id", None) == "np":
        if isinstance(getattr(np, function.attr, None), np.ufunc):
            return function.attr
    return None


def _buffer(v, start):
    like = v.like
    strides = "" if like.flags.c_contiguous else f", {like.strides}"
    return f"{v.name} = np.ndarray({like.shape}, np.{like.dtype.name}, memory, {start}{strides})"


def _fits(group, v, placed):
    """Whether all that is kept for a group of arrays is one of the same form as v."""
    ((_, _, like),) = placed[group] if len(placed.get(group, ())) == 1 else ((0, 0, None),)
    form = lambda like: (like.shape, like.strides, like.itemsize)
    return like is not None and form(like) == form(v.like)


def _dense(like):
    """Whether the elements fill their memory without gaps."""
    if like is None or not like.ndim or not like.nbytes:
        return False
    expected = like.itemsize
    for stride, n in sorted((s, n) for s, n in zip(like.strides, like.shape) if n != 1):
        if stride != expected:
            return False
        expected *= n
    return True


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
        return f"np.array({literal(value.tolist())}, {value.dtype.str!r}).reshape({value.shape})"
    return f"np.frombuffer({value.tobytes()!r}, {value.dtype.str!r}).reshape({value.shape})"


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
            free += [(start, start + size) for start, size, _ in placed.pop(group)]
            free.sort()
            merged = [free[0]]
            for begin, end in free[1:]:
                if begin == merged[-1][1]:
                    merged[-1] = merged[-1][0], end
                else:
                    merged.append((begin, end))
            free[:] = merged
