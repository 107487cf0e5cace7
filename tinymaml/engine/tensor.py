"""A tensor: an array that remembers how it was made.

An op (a row of the derivative table, see :func:`op`) computes an array with NumPy and, if one of
its arguments requires a gradient, notes in a :class:`Node` which op it was and on what. The nodes
are the graph that :func:`tinymaml.grad` walks back through.

A node points to its arguments, never to its own result, so there are no reference cycles: a graph
is freed as soon as its last tensor goes.
"""

import functools
import inspect
import itertools
import threading
import weakref
from contextlib import contextmanager

import numpy as np

from . import backend

_order = itertools.count()  # creation order is a topological order: arguments come before results
DERIVATIVE = "derivative"  # what recording is while grad() walks back: it marks the nodes


class _State(threading.local):
    recording = True  # or False, or DERIVATIVE
    trace = None  # a list while checks.py listens to the ops that run


state = _State()


class Node:
    """How one tensor was made; ``op`` is None for a leaf, whose data the user gave.

    Attributes
    ----------
    op : function or None
        The op, as made by :func:`op`.
    parents : list
        The node of each positional argument, None for one that requires no gradient.
    args : list or tuple
        The positional arguments: a ``Tensor`` where a derivative needs the values, a ``Node``
        (which still has ``shape`` and ``dtype``) where none does, anything else as it came.
    static : dict or function
        Its keyword arguments: axes, shapes, indices; never differentiated. Where there is no op, a
        function that gives the values if they still exist: pictures show them.
    y : array or None
        The raw result, where a derivative needs it.
    shape, dtype
        Of the result.
    recorded : bool or str
        ``DERIVATIVE`` if :func:`tinymaml.grad` recorded it on its walk back, True otherwise.
    order : int
        Grows with every node made, so sorting by it sorts the graph topologically.
    """

    __slots__ = ("args", "dtype", "op", "order", "parents", "recorded", "shape", "static", "y")

    def __init__(self, op, parents, args, static, y, shape, dtype, recorded=True):
        self.op = op
        self.parents = parents
        self.args = args
        self.static = static
        self.y = y
        self.shape = shape
        self.dtype = dtype
        self.recorded = recorded
        self.order = next(_order)

    @property
    def ndim(self):
        return len(self.shape)

    def __array_ufunc__(self, ufunc, *_, **__):
        raise TypeError(
            f"np.{ufunc.__name__} met an argument whose values were not kept, since the derivative "
            "gives it a name that begins with an underscore; rename it where the op is made"
        )


def ancestors(nodes):
    """Return the nodes and all that they were made from, oldest first.

    Examples
    --------
    >>> import tinymaml as tm
    >>> x = tm.tensor(3.0, requires_grad=True)
    >>> [node.op.name if node.op else "leaf" for node in ancestors([(x * x + 1).node])]
    ['leaf', 'multiply', 'add']
    """
    found, stack = set(), list(nodes)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack += [parent for parent in node.parents if parent is not None]
    return sorted(found, key=lambda node: node.order)


class Tensor:
    """An array that remembers how it was made, so that it can be differentiated.

    Make one with :func:`tinymaml.tensor`. It takes NumPy's operators, methods and functions.

    Attributes
    ----------
    data : numpy.ndarray or cupy.ndarray
        The values. Changing them in place after they were used is not noticed: don't.
    node : Node or None
        How it was made; None if no gradient is required.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> x = tm.tensor([1.0, 2.0], requires_grad=True)
    >>> np.sum(x**2)
    Tensor(5., op=sum)
    """

    __slots__ = ("__weakref__", "data", "node")
    __hash__ = object.__hash__  # __eq__ compares elements, identity is the key

    def __init__(self, data, node=None):
        self.data = data
        self.node = node

    @property
    def requires_grad(self):
        """Whether gradients with respect to it can be taken."""
        return self.node is not None

    @property
    def shape(self):
        """Tuple of its axes' lengths."""
        return self.data.shape

    @property
    def ndim(self):
        """Number of axes."""
        return self.data.ndim

    @property
    def size(self):
        """Number of elements."""
        return self.data.size

    @property
    def dtype(self):
        """The numpy.dtype of its elements."""
        return self.data.dtype

    def numpy(self):
        """Return the values as ``numpy.ndarray`` on the host (shared with the tensor on NumPy)."""
        return backend.to_numpy(self.data)

    def item(self):
        """Return the only element as a Python number; ValueError if there are several."""
        if self.size != 1:
            raise ValueError(f"item() needs one element, but the tensor has shape {self.shape}")
        return self.data.item()

    def tolist(self):
        """Return the values as nested Python lists."""
        return self.data.tolist()

    def detach(self):
        """Return a tensor of the same data that does not remember how it was made."""
        return Tensor(self.data)

    def __repr__(self):
        """One line, so that parameters print as a table: the values, or what they are like."""
        if 0 < self.size <= 10:
            what = " ".join(np.array2string(self.numpy(), separator=", ").split())
        else:
            what = f"shape={self.shape}"
            if self.size and self.dtype.kind in "biuf":
                for statistic in ("min", "mean", "max"):
                    what += f", {statistic}={float(getattr(self.data, statistic)()):.3g}"
        dtype = "" if self.dtype == np.float64 else f", dtype={self.dtype.name}"
        made = ""
        if self.node is not None:
            made = f", op={self.node.op.name}" if self.node.op else ", requires_grad=True"
        return f"Tensor({what}{dtype}{made})"

    def __format__(self, spec):
        return format(self.item(), spec) if spec else str(self)

    def __len__(self):
        return len(self.data)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d tensor; use .item() for its number")
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        return bool(self.data)

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        return self.numpy().__index__()  # CuPy's array has none

    def __copy__(self):
        return Tensor(self.data, self.node)

    def __reduce__(self):
        """Pickle and deep-copy without the graph: into a leaf if a gradient is required."""
        return tensor, (self.data, None, self.requires_grad)

    def __setitem__(self, index, value):
        raise TypeError(
            "a tensor cannot be changed in place, since its derivative would be wrong; "
            "build a new one, for example with np.where or np.concatenate"
        )

    def __array__(self, dtype=None, copy=None):
        if self.node is not None:
            raise TypeError(
                "a tensor that requires a gradient does not turn into a NumPy array by itself, "
                "since its derivative would be lost; call .numpy() if that is what you want"
            )
        host = self.numpy()
        return np.array(host, dtype=dtype) if copy else np.asarray(host, dtype=dtype)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        function = numpy_functions.get(ufunc if method == "__call__" else (ufunc, method))
        name = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
        if function is None:
            raise TypeError(_no_derivative(name))
        return _call(function, ufunc, name, inputs, kwargs)

    def __array_function__(self, func, types, args, kwargs):
        name = f"{func.__module__}.{func.__name__}".replace("numpy", "np", 1)
        function = numpy_functions.get(func)
        if function is None:
            raise TypeError(_no_derivative(name))
        return _call(function, func, name, args, kwargs)


#: NumPy function, or (ufunc, method) -> the function that does the same on tensors.
numpy_functions = {}

#: Every op by its name: the derivative table.
table = {}


def _no_derivative(name):
    return (
        f"{name} has no derivative in tinymaml; use another function, define one with tinymaml.op, "
        "or call it on tensor.numpy() if no derivative is needed"
    )


def _call(function, numpys, name, args, kwargs):
    """Call ``function`` in place of ``numpys``; a call that does not fit is named after that."""
    if kwargs:
        kwargs = {key: value for key, value in kwargs.items() if value is not np._NoValue}
        own = _keywords(function)
        if not kwargs.keys() <= own:
            renamed = _renamed(function, numpys)
            for key in kwargs:
                if key not in own and key not in renamed:
                    raise TypeError(f"{name} on a tensor does not take {key}=; leave it out")
            kwargs = {renamed.get(key, key): value for key, value in kwargs.items()}
            bound = _signature(function).bind(*args, **kwargs)
            args, kwargs = bound.args, bound.kwargs
    try:
        return function(*args, **kwargs)
    except TypeError:
        try:
            _signature(function).bind(*args, **kwargs)
        except TypeError as misfit:
            wanted = f"{name} on a tensor takes {_signature(function)}"
            raise TypeError(f"{wanted}: {misfit}") from None
        raise


@functools.cache
def _signature(function):
    """Return how ``function`` is called; NumPy itself sees to it that its ufuncs are so."""
    forward = getattr(function, "forward", function)
    return inspect.signature((lambda *args: None) if isinstance(forward, np.ufunc) else forward)


@functools.cache
def _keywords(function):
    """Return the keyword arguments of ``function``; an op's are the static ones alone."""
    of_an_op = hasattr(function, "forward")
    return {
        name
        for name, p in _signature(function).parameters.items()
        if p.kind is p.KEYWORD_ONLY or (p.kind is p.POSITIONAL_OR_KEYWORD and not of_an_op)
    }


@functools.cache
def _renamed(function, numpys):
    """Return NumPy's name of a positional parameter -> our own, where they differ."""
    try:
        theirs = list(inspect.signature(numpys).parameters)
    except (TypeError, ValueError):  # NumPy 1's functions in C do not tell
        return {}
    ours = [
        name
        for name, p in _signature(function).parameters.items()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    of_an_op = hasattr(function, "forward")
    return {their: our for their, our in zip(theirs, ours) if of_an_op or our not in theirs}


def implements(*functions):
    """Say that the decorated function does on tensors what NumPy's ``functions`` do on arrays."""

    def register(implementation):
        for function in functions:
            numpy_functions[function] = implementation
        return implementation

    return register


def tensor(data, dtype=None, requires_grad=False):
    """Wrap data as a tensor of the current backend.

    Parameters
    ----------
    data : array_like or Tensor
        Not copied where that is possible.
    dtype : dtype, optional
        NumPy's choice for ``data`` by default.
    requires_grad : bool
        Whether gradients with respect to this tensor will be asked for.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        If a gradient is required of anything but floating-point numbers.

    Examples
    --------
    >>> import tinymaml as tm
    >>> tm.tensor([1.0, 2.0], requires_grad=True)
    Tensor([1., 2.], requires_grad=True)
    """
    if isinstance(data, (list, tuple)) and any(type(item) is Tensor for item in data):
        raise TypeError(
            "tensor() was given a list of tensors; join them with np.stack or np.concatenate"
        )
    array = backend.asarray(data.data if type(data) is Tensor else data, dtype)
    return Tensor(array, leaf(array) if requires_grad else None)


def leaf(array):
    """Return the node of data that the user gave and asks gradients for."""
    if array.dtype.kind != "f":
        raise TypeError(
            f"a gradient needs floating-point numbers but the data are {array.dtype.name}; "
            "pass dtype=float, or leave requires_grad out"
        )
    return Node(None, (), (), _while_it_lives(array), None, array.shape, array.dtype)


def _while_it_lives(array):
    """Return a function that gives the array, or None when nobody holds it any more."""
    return (lambda: array) if isinstance(array, np.generic) else weakref.ref(array)


def raw(x):
    """Return the array of a tensor, and anything else as it is."""
    return x.data if type(x) is Tensor else x


LISTS = (list, tuple)
LISTS_AND_NUMBERS = (*LISTS, bool, int, float, np.generic)


def as_arrays(parts, kinds=LISTS_AND_NUMBERS):
    """Turn lists, and by default numbers, into arrays of the library of the tensors beside them."""
    like = next((raw(part) for part in parts if not isinstance(part, LISTS_AND_NUMBERS)), None)
    return [np.asarray(part, like=like) if isinstance(part, kinds) else part for part in parts]


@contextmanager
def recording(on):
    """Switch recording on (True or DERIVATIVE) or off inside a ``with`` block, in this thread."""
    before = state.recording
    state.recording = on
    try:
        yield
    finally:
        state.recording = before


def no_grad():
    """Record nothing inside a ``with`` block, in this thread only.

    Examples
    --------
    >>> import tinymaml as tm
    >>> x = tm.tensor(3.0, requires_grad=True)
    >>> with tm.no_grad():
    ...     (x * x).requires_grad
    False
    """
    return recording(False)


def _wants(vjp, position):
    """Whether ``vjp`` uses its positional argument: its name does not begin with an underscore."""
    code = getattr(vjp, "__code__", None)
    if code is None:
        return True
    if position < code.co_argcount:
        return not code.co_varnames[position].startswith("_")
    if not code.co_flags & inspect.CO_VARARGS:
        return True
    rest = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]  # the name of *args
    return not rest.startswith("_")


def op(forward, *vjps, name=None, joint=None):
    """Make an op: one row of the derivative table.

    Parameters
    ----------
    forward : function
        Computes the result from raw arrays: ``forward(*args, **static)``.
    *vjps : function or None
        For each positional argument, its cotangent ``vjp(g, y, *args, **static)`` as an expression
        of the cotangent ``g`` of the result, the result ``y`` and the arguments. It is fed raw
        arrays, or tensors if the derivative itself will be differentiated, so it must use nothing
        but operators, NumPy functions and ops, and must capture no float array. It may return the
        shape that its expression broadcasts to; that is summed down to the argument's. None says
        that the argument has no derivative. A parameter whose name begins with an underscore is
        not kept: only its ``shape``, ``ndim`` and ``dtype`` arrive.
    name : str, optional
        ``forward.__name__`` by default.
    joint : function, optional
        In place of ``vjps``, for an op of any number of arguments or whose cotangents share work:
        ``joint(needed, g, y, *args, **static)`` gives a list of them all, None (or anything) for
        those that ``needed``, a list of booleans, does not ask for.

    Returns
    -------
    function
        Takes tensors and gives a tensor; given raw arrays only, it gives a raw array. Positional
        arguments may be differentiated, keyword arguments are static.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> cube = tm.op(lambda x: x**3, lambda g, _y, x: g * 3 * x**2, name="cube")
    >>> tm.func.grad(tm.func.grad(cube))(2.0)
    array(12.)
    """
    name = name or forward.__name__
    rules = [(joint, 1)] if joint else [(vjp, 0) for vjp in vjps]
    differentiable = -1 if joint else sum(1 << i for i, vjp in enumerate(vjps) if vjp)
    scalar = np.generic
    plans = {}  # bit mask of the arguments that require a gradient -> what must be kept

    def plan(active, n):
        used = [rule for i, rule in enumerate(rules) if joint or active >> i & 1]
        wants = [
            any(_wants(vjp, shift + position) for vjp, shift in used)
            for position in range(1, n + 2)
        ]
        dropped = [i for i, wanted in enumerate(wants[1:]) if not wanted]
        plans[active, n] = wants[0], dropped
        return wants[0], dropped

    def apply(*args, **static):
        plain, parents, active, wrapped = [], [], 0, False
        for a in args:
            kind = type(a)
            if kind is Tensor:
                wrapped = True
                node, a = a.node, a.data
                if node is not None:
                    active |= 1 << len(parents)
                parents.append(node)
            elif kind is list or kind is tuple:  # a derivative would do list arithmetic on it
                return apply(*as_arrays(args, LISTS), **static)
            else:
                parents.append(None)
            plain.append(a)
        y = forward(*plain, **static)
        if state.trace is not None:
            state.trace.append((apply, args, static))
        if not wrapped:
            return y
        if isinstance(y, scalar):  # NumPy turns 0-d results into scalars; tensors hold arrays
            y = np.asarray(y)
        active &= differentiable
        recorded = state.recording
        if not active or not recorded:
            return Tensor(y)
        key = (active, len(args))
        keep_y, dropped = plans.get(key) or plan(*key)
        if dropped:
            args = list(args)
            for i in dropped:
                if hasattr(args[i], "shape"):
                    args[i] = parents[i] or _shape_only(args[i])
        y_kept = y if keep_y else None
        return Tensor(y, Node(apply, parents, args, static, y_kept, y.shape, y.dtype, recorded))

    apply.name = apply.__name__ = apply.__qualname__ = name
    apply.forward = forward
    apply.vjps = vjps
    apply.joint = joint
    apply.__doc__ = f"The op ``{name}``; see :func:`tinymaml.op`."
    if isinstance(forward, np.ufunc):
        numpy_functions.setdefault(forward, apply)  # an own op leaves NumPy's functions as they are
    table[name] = apply
    return apply


def _shape_only(a):
    """Return something with the shape and dtype of ``a`` that does not hold its values."""
    if isinstance(a, np.generic):
        return a
    return Node(None, (), (), _while_it_lives(raw(a)), None, a.shape, a.dtype)
