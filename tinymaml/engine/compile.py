"""compile(): a function's operations, derivatives included, as a straight NumPy program.

The function runs once on tensors while a :class:`Recording` listens to its ops. What they did
becomes a program (:mod:`tinymaml.engine.program`), which from then on runs in its place.
"""

import functools
import inspect
import linecache
import re
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import MethodType

import numpy as np

from ..files import replacing
from .backend import is_array, to_numpy
from .program import Call, Program, Variable
from .structure import leaves, map_leaves, rebuild
from .tensor import Tensor, leaf, raw, thread

_HIDDEN = tuple([str(Path(__file__).parents[1] / room) for room in ("engine", "nn")])
_COMPREHENSIONS = ("<dictcomp>", "<listcomp>", "<setcomp>", "<genexpr>")
#: Python 3.11's syntax trees are not made for several threads.
_WRITING = threading.Lock()
_STATIC = (int, str, bytes, type(None), np.dtype, np.bool, np.integer, slice, type(Ellipsis))
_MOST = 64  # programs of one function
_CHECKED = 2  # calls that run eagerly beside


class Recording:
    """What the ops of one run did: a list of calls between variables."""

    def __init__(self):
        self.calls, self.order = [], 0
        self.live = self.peak = 0  # bytes of the results that exist at the same time
        self._variables, self._alive, self._owners, self._nodes = {}, {}, {}, {}

    def variable(self, array, stem, kind):
        """Return a new variable for an array, which is known by its identity while it exists."""
        made = Variable(stem, kind, array, self.order)
        key = id(array)
        self._variables[key] = made
        if kind == "constant" or isinstance(array, np.generic):
            made.value = array  # which keeps it, so that its identity stays its own
            return made
        if kind == "result":
            self._count(array)

        def gone(_):
            if self._variables.get(key) is made:
                del self._variables[key], self._alive[key]

        self._alive[key] = weakref.ref(array, gone)
        return made

    def _count(self, array):
        """Count the memory that an array lies in, once, for as long as it exists."""
        while is_array(getattr(array, "base", None)):
            array = array.base
        key, size = id(array), array.nbytes

        def freed(_):
            self.live -= size
            del self._owners[key]

        if key not in self._variables or self._variables[key].kind == "result":
            if key not in self._owners:
                self._owners[key] = weakref.ref(array, freed)
                self.live += size
                self.peak = max(self.peak, self.live)

    def reference(self, value):
        """Return the variable of an array or tensor, and any other value as it is."""
        array = raw(value)
        if not is_array(array) and id(array) not in self._variables:
            return value
        found = self._variables.get(id(array)) or self.variable(array, "constant", "constant")
        if type(value) is Tensor and value.node is not None:
            self._nodes[value.node.order] = found
        return found

    def append(self, event):
        """Listen to an op: the op, its arguments, its options, its result and what it saved."""
        op, args, options, y, saved = event
        arguments = [self.reference(a) for a in args]
        options = {name: map_leaves(self.reference, value) for name, value in options.items()}
        if id(y) in self._variables:  # an argument, handed on as it is
            return
        pairs = [(raw(a), v) for a, v in zip(args, arguments) if isinstance(v, Variable)]

        def made(array, stem):
            new = self.variable(array, stem, "result")
            new.views = [v for a, v in pairs if _share_memory(a, array)]
            pairs.append((array, new))
            return new

        if any(isinstance(part, (bool, int, float)) for part in leaves(saved)):
            raise TypeError(
                f"op {op.name!r} saves a number, which its program would keep; save an array, as "
                "np.asarray makes one"
            )
        result = made(y, _stem(op, arguments))
        new = lambda a: made(a, f"{result.stem}_saved") if is_array(a) else None
        saved = None if saved is None else map_leaves(new, saved)
        self.calls.append(Call(op, arguments, options, result, saved, self.order, _where()))

    # What grad() tells
    @contextmanager
    def walks_back(self, outputs):
        """Inside, ops belong to derivatives."""
        before = self.order
        for output in outputs:
            self.reference(output)
        try:
            yield
        finally:
            self.order = before

    def through(self, node):
        """Note that the ops to come are the derivative of this node."""
        made_of = self._nodes.get(node.order)
        self.order = 1 + (made_of.order if made_of else 0)

    def cotangent(self, g, node):
        """Note that g is (a part of) the cotangent of a node."""
        of, found = self._nodes.get(node.order), self.reference(g)
        if of and isinstance(found, Variable) and found.kind == "result" and not found.named:
            found.stem, found.named = f"d_{of.stem}", True

    def refuse(self, what):
        """Say that a value was wanted inside."""
        raise TypeError(
            f"a compiled function cannot make {what} of a tensor, since its program would keep the "
            f"choice made for these values ({_line()}); use np.where, or leave it out of compile"
        )


def _stem(op, arguments):
    """Return what to call a result: after the parameter that its op applies, or after the op."""
    for name, a in zip(op.names, arguments):
        if name in ("weight", "gamma") and isinstance(a, Variable) and a.stem.endswith(name):
            return a.stem[: -len(name) - 1] or op.name
    arrays = [a for a in arguments if isinstance(a, Variable)]
    if op.name in ("broadcast_to", "descend", "reshape", "astype", "copy") and arrays:
        return arrays[0].stem
    return op.name


def _frames():
    """Yield the frames outside the engine, from the innermost to the call of the compiled one."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code is not _record.__code__:
        if not frame.f_code.co_filename.startswith((*_HIDDEN, "<program ", "<frozen ")):
            yield frame
        frame = frame.f_back


def _where():
    """Return the lines that are running: (file, line, function), the outermost first."""
    places = [(f.f_code.co_filename, f.f_lineno, f.f_code.co_name) for f in _frames()]
    return tuple([place for place in reversed(places) if place[2] not in _COMPREHENSIONS])


def _line():
    """Return the innermost line outside the library, or the outermost one inside, in words."""
    package = str(Path(__file__).parents[1])
    places = _where()
    outside = [place for place in places if not place[0].startswith(package)]
    return _spoken(outside or places)


def _spoken(places):
    file, line, function = places[-1] if places else ("?", 0, "?")
    text = linecache.getline(file, line).strip()
    return f"{Path(file).name}, line {line}, in {function}: {text}"


def _record(function, inputs, args, kwargs):
    """Run a function on tensors of the inputs; return what it gave and the recording."""
    state, recording = thread.state, Recording()
    paths = input_names(function, args, kwargs)
    given = []
    for x, path in zip(inputs, paths):
        if not is_array(raw(x)):
            given.append(x)
            continue
        array = raw(x)[...]  # an input is a variable of its own, whatever else its array is
        recording.variable(array, path, "input")
        required = type(x) is Tensor and x.node is not None
        given.append(Tensor(array, leaf(array) if required else None))
    order = [v for v in recording._variables.values()]
    state.trace = recording
    try:
        new = iter(given)
        result = function(*rebuild(args, new), **rebuild(kwargs, new))
        outputs = [recording.reference(y) for y in leaves(result)]
    finally:
        state.trace = None
    for y, found in zip(leaves(result), outputs):
        if not isinstance(found, Variable):
            raise TypeError(
                f"the compiled function gave {type(y).__name__}, but its program gives arrays "
                "alone; return tensors, or dicts, lists and tuples of them"
            )
    return result, recording, order, outputs


def input_names(function, args, kwargs):
    """Return a name for every leaf of the arguments, after its place in them.

    Examples
    --------
    >>> input_names(lambda params, x: None, ({"linear1.weight": 1, "linear1.bias": 2}, 3), {})
    ['linear1_weight', 'linear1_bias', 'x']
    """
    try:
        known = inspect.signature(function).parameters.values()
        parameters = [
            p.name for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except ValueError:
        parameters = []
    parameters += [f"argument{i}" for i in range(len(parameters), len(args))]
    paths = [
        path for name, a in [*zip(parameters, args), *kwargs.items()] for path in _paths(a, (name,))
    ]
    short = [path if path[-1].isdigit() else path[1:] or path for path in paths]
    return [re.sub(r"\W", "_", "_".join(path)) for path in short]


def _paths(structure, path):
    if isinstance(structure, dict):
        parts = structure.items()
    elif hasattr(structure, "_fields"):
        parts = zip(structure._fields, structure)
    elif isinstance(structure, (list, tuple)):
        parts = enumerate(structure)
    else:
        return [path]
    return [found for key, part in parts for found in _paths(part, (*path, str(key)))]


class Compiled:
    """A function that runs as a NumPy program; :func:`compile` makes it.

    Attributes
    ----------
    source : str
        Of the program that ran last.
    constants : dict of str to str
        What it uses from outside of its arguments, and how large that is.
    program : list of dict
        Its operations: name, op, shape, bytes, and ``order``: 0 for the function itself, 1 for its
        first derivative, 2 for its second.
    memory : dict of str to int
        Bytes of the buffers that it keeps, ``plan``, and that the results of the eager run took at
        their most, ``eager_peak``.
    """

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.function, self._programs, self._last = function, {}, None
        self._running = threading.Lock()

    def __call__(self, *args, **kwargs):
        if thread.state.trace is not None:  # a part of what is compiled, or checked
            return self.function(*args, **kwargs)
        if not self._running.acquire(blocking=False):
            raise RuntimeError(
                f"{self.__name__} was called while it runs, by another thread or by itself; its "
                "program keeps its buffers, so make one with tm.compile for each thread"
            )
        try:
            inputs = []
            key = _flatten(args, inputs), _flatten(kwargs, inputs) if kwargs else None
            found = self._programs.get(key)
            if found is None or found.checked < _CHECKED or thread.state.transforms:
                return self._beside_eager(key, found, inputs, args, kwargs)
            self._last = found
            return found.rebuilt(found.run(inputs))
        finally:
            self._running.release()

    def _beside_eager(self, key, before, inputs, args, kwargs):
        """Run eagerly, make or check the program, and compare the two bit for bit."""
        if thread.state.transforms or any(
            type(x) is Tensor and x.node and x.node.op for x in inputs
        ):
            raise TypeError(
                f"{self.__name__} is compiled and has no derivative; take the derivative inside "
                "the function that is compiled"
            )
        if before is None and len(self._programs) >= _MOST:
            raise RuntimeError(
                f"{self.__name__} has {_MOST} programs for as many shapes, forms and numbers that "
                "it was called with; pass numbers that change from call to call as arrays"
            )
        state = _random_state()
        result, recording, variables, outputs = _record(self.function, inputs, args, kwargs)
        if state != _random_state():
            raise RuntimeError(
                f"{self.__name__} draws random numbers from np.random, which its program would "
                "keep; draw them outside and pass them in"
            )
        result = map_leaves(_detached, result)  # which lets go of the graph
        with _WRITING:
            made = before or Program(self.__name__, recording, variables, outputs, result)
        if before is not None:
            if (differs := before.differs(recording.calls, variables)) is not None:
                raise RuntimeError(
                    f"{self.__name__} did something else than at its first call, from "
                    f"{_spoken(differs)} on; pass in what changes from call to call, such as "
                    "random numbers and numbers that grow"
                )
        made.load()
        arrays = made.run(inputs)
        for ours, eager in zip(arrays, leaves(result)):
            if not _same_bits(ours, raw(eager)):
                raise RuntimeError(
                    f"the program of {self.__name__} gave other numbers than the function, which "
                    "does what compile does not see: arithmetic on t.data, or a change in place"
                )
        made.checked += 1
        if made.checked < _CHECKED:
            made.unload()  # the next eager run wants the memory
        self._programs[key] = self._last = made
        return made.rebuilt(arrays)  # which share no memory with the arguments

    def __get__(self, instance, owner=None):
        """Bind to an instance: a compiled function may be a method."""
        return self if instance is None else MethodType(self, instance)

    def _shown(self):
        if self._last is None:
            raise ValueError(f"{self.__name__} has no program yet; call it once")
        return self._last

    source = property(lambda self: self._shown().source)
    constants = property(lambda self: self._shown().constants)
    program = property(lambda self: self._shown().operations)
    memory = property(lambda self: self._shown().memory)

    def save(self, path) -> None:
        """Write the program as a Python file that needs NumPy alone.

        Its function takes the arrays of the arguments in order, and gives those of the result.
        """
        source = self._shown().file()
        with replacing(path) as file:
            file.write(source.encode())


def _random_state():
    """Return where NumPy's own generator stands."""
    name, key, place, *rest = np.random.get_state()  # noqa: NPY002
    return name, key.tobytes(), place, rest


def _share_memory(a, b):
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.may_share_memory(a, b)


def _same_bits(a, b):
    if not isinstance(a, np.ndarray):  # a GPU adds in no fixed order
        return np.allclose(to_numpy(a), to_numpy(b), rtol=1e-3, atol=1e-5, equal_nan=True)
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    if a.dtype.itemsize > 8:  # a long double has bytes that mean nothing
        return np.array_equal(a, b, equal_nan=True)
    return a.tobytes() == b.tobytes()


def _detached(y):
    if type(y) is not Tensor:
        return y
    return Tensor(y.data, leaf(y.data) if y.node is not None and y.node.op is None else None)


def _flatten(structure, inputs):
    """Append the leaves of a structure to ``inputs``, and return what a program depends on.

    That is: form, shapes, dtypes, strides, what requires a gradient, and the values of numbers.
    """
    kind = type(structure)
    if isinstance(structure, dict):
        return tuple([(key, _flatten(part, inputs)) for key, part in structure.items()])
    if isinstance(structure, (list, tuple)):
        return (kind, *[_flatten(part, inputs) for part in structure])
    inputs.append(structure)
    if kind is Tensor:
        array, node = structure.data, structure.node
        # True of a leaf, False of what was computed, which is refused
        return type(array), array.shape, array.dtype, array.strides, node and node.op is None
    if kind is np.ndarray or is_array(structure):
        return kind, structure.shape, structure.dtype, structure.strides, None
    if isinstance(structure, (float, complex, np.generic)):
        return kind, repr(structure)  # 0.0 is not -0.0, and nan is nan
    if isinstance(structure, _STATIC) or callable(structure):
        return kind, structure
    raise TypeError(
        f"a compiled function was given {kind.__name__}, of which its program would not notice a "
        "change; give arrays, numbers, text, functions, and dicts, lists and tuples of them"
    )


def compile(function: Callable) -> Compiled:
    """Return the function as a straight NumPy program, the derivatives in it included.

    The first call with arguments of these shapes runs eagerly and records what the ops do; later
    ones run the program, which gives the same numbers bit for bit. The first two calls do both and
    compare. Its results are new arrays, which do not remember how they were made.

    Parameters
    ----------
    function : function
        Of arrays, tensors, numbers, and dicts, lists and tuples of them. It is given tensors in
        place of arrays, which do not require a gradient. It gives tensors or such
        structures of them. Everything it computes goes through tensors, NumPy's functions and ops;
        random numbers are passed in. An array from outside that it uses is taken as it is at every
        call, if it is changed in place. Anything else is as it was at the first call: another
        array under the same name, and what NumPy makes of arrays from outside alone. Arithmetic on
        ``t.data`` is not seen: that it is missing shows only if the first two calls differ.

    Returns
    -------
    Compiled
        To be called like the function, from one thread at a time. Numbers among the arguments are
        part of the program: for another number there will be another one; pass arrays.

    Raises
    ------
    TypeError
        When it is called, if the function makes numbers or choices of values, gives no tensors, or
        is to be differentiated.
    RuntimeError
        If the second call records something else than the first one.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> slope = tm.compile(tm.func.grad(lambda x: np.tanh(x).sum()))
    >>> slope(np.array([0.0, 0.5]))
    Tensor([1. , 0.78644773])
    """
    if not callable(function):
        raise TypeError(f"compile takes a function, not {function!r}")
    return Compiled(function)
