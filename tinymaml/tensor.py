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
from contextlib import contextmanager

import numpy as np

from . import backend

_order = itertools.count()  # creation order is a topological order: arguments come before results


class _State(threading.local):
    recording = True
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
    static : dict
        Its keyword arguments: axes, shapes, indices; never differentiated.
    y : array or None
        The raw result, where a derivative needs it.
    shape, dtype
        Of the result.
    order : int
        Grows with every node made, so sorting by it sorts the graph topologically.
    """

    __slots__ = ("args", "dtype", "op", "order", "parents", "shape", "static", "y")

    def __init__(self, op, parents, args, static, y, shape, dtype):
        self.op = op
        self.parents = parents
        self.args = args
        self.static = static
        self.y = y
        self.shape = shape
        self.dtype = dtype
        self.order = next(_order)

    @property
    def ndim(self):
        return len(self.shape)


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
        return self.node is not None

    @property
    def shape(self):
        return self.data.shape

    @property
    def ndim(self):
        return self.data.ndim

    @property
    def size(self):
        return self.data.size

    @property
    def dtype(self):
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
        values = np.array2string(self.numpy(), separator=", ", prefix="Tensor(")
        dtype = "" if self.dtype == np.float64 else f", dtype={self.dtype.name}"
        made = ""
        if self.node is not None:
            made = f", op={self.node.op.name}" if self.node.op else ", requires_grad=True"
        return f"Tensor({values}{dtype}{made})"

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
        if function is None:
            called = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
            raise TypeError(_no_derivative(f"np.{called}"))
        return _call(function, f"np.{ufunc.__name__}", inputs, kwargs)

    def __array_function__(self, func, types, args, kwargs):
        name = f"{func.__module__}.{func.__name__}".replace("numpy", "np", 1)
        function = numpy_functions.get(func)
        if function is None:
            raise TypeError(_no_derivative(name))
        return _call(function, name, args, kwargs)


#: NumPy function, or (ufunc, method) -> the function that does the same on tensors.
numpy_functions = {}

#: Every op by its name: the derivative table.
table = {}


def _no_derivative(name):
    return (
        f"{name} has no derivative in tinymaml; use another function, define one with tinymaml.op, "
        "or call it on tensor.numpy() if no derivative is needed"
    )


def _call(function, name, args, kwargs):
    """Call ``function``, turning an option it does not take into a TypeError that names it."""
    if kwargs:
        kwargs = {key: value for key, value in kwargs.items() if value is not np._NoValue}
        for key in kwargs:
            if key not in _options(function):
                raise TypeError(f"{name} on a tensor does not take {key}=; leave it out")
    return function(*args, **kwargs)


@functools.cache
def _options(function):
    """Return the names of the keyword arguments that ``function`` takes; a ufunc's are refused."""
    forward = getattr(function, "forward", function)
    if isinstance(forward, np.ufunc):
        return frozenset()
    return frozenset(inspect.signature(forward).parameters)


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
    return Node(None, (), (), None, None, array.shape, array.dtype)


def raw(x):
    """Return the array of a tensor, and anything else as it is."""
    return x.data if type(x) is Tensor else x


@contextmanager
def recording(on):
    """Switch recording on or off inside a ``with`` block, in this thread."""
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
        plain, parents, active, bit, wrapped = [], [], 0, 1, False
        for a in args:
            node = None
            if type(a) is Tensor:
                wrapped = True
                node, a = a.node, a.data
                if node is not None:
                    active |= bit
            plain.append(a)
            parents.append(node)
            bit <<= 1
        y = forward(*plain, **static)
        if state.trace is not None:
            state.trace.append((apply, args, static))
        if not wrapped:
            return y
        if isinstance(y, np.generic):  # NumPy turns 0-d results into scalars; tensors hold arrays
            y = np.asarray(y)
        active &= differentiable
        if not active or not state.recording:
            return Tensor(y)
        key = (active, len(args))
        keep_y, dropped = plans.get(key) or plan(*key)
        if dropped:
            args = list(args)
            for i in dropped:
                if hasattr(args[i], "shape"):
                    args[i] = parents[i] or _shape_only(args[i])
        y_kept = y if keep_y else None
        return Tensor(y, Node(apply, parents, args, static, y_kept, y.shape, y.dtype))

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
    return Node(None, (), (), None, None, a.shape, a.dtype)
