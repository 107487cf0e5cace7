"""A tensor: an array that remembers how it was made.

If a gradient is required of one of an op's arguments, the op (see :mod:`tinymaml.engine.op`) notes
in a :class:`Node` which op it was and on what. The nodes are the graph that :func:`tinymaml.grad`
walks back through.

A node points to its arguments, never to its own result, so there are no reference cycles: a graph
is freed as soon as its last tensor goes.
"""

import itertools
import sys
import threading
import weakref
from contextlib import AbstractContextManager, contextmanager
from dis import opmap

import numpy as np

from . import backend

# Creation order is a topological order: arguments come before results.
_next_order = itertools.count().__next__


class _State:
    def __init__(self):
        self.recording = True  # whether ops make nodes
        self.in_derivative = False  # whether these belong to a derivative: grad() walks back
        self.trace = None  # a list while somebody listens to the ops that run
        self.transforms = 0  # how many of func's are running, one inside another

    def refuse_value(self, what):
        """While a function is compiled, refuse what depends on the values of a tensor."""
        refuse = getattr(self.trace, "refuse", None)
        if refuse:
            refuse(what)


class _Thread(threading.local):
    def __init__(self):
        self.state = _State()


thread = _Thread()  # one look-up for all of its state


class Node:
    """How one tensor was made; ``op`` is None for a leaf, whose data the user gave.

    Attributes
    ----------
    op : Op or None
    parents : list of Node or None
        The node of each argument, None for one that requires no gradient.
    args : list or tuple
        The arguments: a ``Tensor`` where a derivative needs the values, a ``Node`` (which still has
        ``shape`` and ``dtype``) where none does, anything else as it came.
    static : dict
        The op's keyword arguments: axes, shapes; never differentiated.
    y : array or None
        The raw result, where a derivative needs it.
    saved : array, tuple or None
        What the forward found out on its way, where a derivative needs it.
    shape, dtype
        Of the result.
    in_derivative : bool
        Whether :func:`tinymaml.grad` recorded it on its walk back.
    order : int
        Grows with every node made, so sorting by it sorts the graph topologically.
    array : function
        Only where there is no op; gives the values if they still exist: pictures show them.
    """

    __slots__ = tuple(
        "op parents args static y saved shape dtype in_derivative order array".split()
    )

    def __init__(self, op, parents, args, static, y, saved, shape, dtype, in_derivative=False):
        self.op = op
        self.parents = parents
        self.args = args
        self.static = static
        self.y = y
        self.saved = saved
        self.shape = shape
        self.dtype = dtype
        self.in_derivative = in_derivative
        self.order = _next_order()

    @classmethod
    def of(cls, array):
        """Return the node of an array that no op made."""
        node = cls(None, (), (), {}, None, None, array.shape, array.dtype)
        node.array = (lambda: array) if isinstance(array, np.generic) else weakref.ref(array)
        return node

    @property
    def ndim(self):
        return len(self.shape)

    def __array_ufunc__(self, ufunc, *_, **__):
        raise TypeError(
            f"np.{ufunc.__name__} met an argument whose values were not kept, since the derivative "
            "names it NAME_like; name it NAME where the op is made"
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
        The values. Those of an op's result are read-only. Of a tensor made by :func:`tensor`, a
        change in place after they were used is not noticed: don't.
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
    def requires_grad(self) -> bool:
        """Whether gradients with respect to it can be taken."""
        return self.node is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """Tuple of its axes' lengths."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.size

    @property
    def dtype(self) -> np.dtype:
        """The numpy.dtype of its elements."""
        return self.data.dtype

    def numpy(self) -> np.ndarray:
        """Return the values as ``numpy.ndarray`` on the host (shared with the tensor on NumPy)."""
        thread.state.refuse_value("an array (t.numpy(), np.asarray(t))")
        return backend.to_numpy(self.data)

    def item(self) -> float:
        """Return the only element as a Python number; ValueError if there are several."""
        thread.state.refuse_value("a Python number (float(t), t.item())")
        if self.size != 1:
            raise ValueError(f"item() needs one element, but the tensor has shape {self.shape}")
        return self.data.item()

    def tolist(self) -> list:
        """Return the values as nested Python lists."""
        thread.state.refuse_value("a list (t.tolist())")
        return self.data.tolist()

    def detach(self) -> "Tensor":
        """Return a tensor of the same data that does not remember how it was made."""
        return Tensor(self.data)

    def __repr__(self):
        """One line, so that parameters print as a table: the values, or what they are like."""
        if 0 < self.size <= 10:
            what = " ".join(np.array2string(backend.to_numpy(self.data), separator=", ").split())
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
        thread.state.refuse_value("a truth value (if t > 0)")
        return bool(self.data)

    def __float__(self):
        state = thread.state
        if self.node is not None and (state.transforms or (state.recording and _assigned())):
            raise TypeError(
                "a tensor that is being differentiated does not turn into a number by itself, as "
                "float(t), math.sin(t), array[0] = t or array.fill(t) want, since its derivative "
                "would be lost; use NumPy's functions, or call .item() if that is what you want"
            )
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        return self.numpy().__index__()  # CuPy's array has none

    def __copy__(self):
        return Tensor(self.data, self.node)

    def __reduce__(self):
        """Pickle and deep-copy without the graph: into a leaf if a gradient is required."""
        thread.state.refuse_value("a copy by pickle or deepcopy")
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
                "since its derivative would be lost; join a list of tensors with np.stack, or call "
                ".numpy() if that is what you want"
            )
        host = self.numpy()
        return np.array(host, dtype=dtype) if copy else np.asarray(host, dtype=dtype)


def tensor(data, dtype=None, requires_grad: bool = False) -> Tensor:
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
    if type(data) is Tensor and dtype is not None:
        data = data.detach().astype(dtype)  # an op, which programs see
    array = backend.asarray(data.data if type(data) is Tensor else data, dtype)
    return Tensor(array, leaf(array) if requires_grad else None)


def leaf(array):
    """Return the node of data that the user gave and asks gradients for."""
    if array.dtype.kind != "f":
        raise TypeError(
            f"a gradient needs floating-point numbers but the data are {array.dtype.name}; "
            "pass dtype=float, or leave requires_grad out"
        )
    return Node.of(array)


def raw(x):
    """Return the array of a tensor, and anything else as it is."""
    return x.data if type(x) is Tensor else x


def _assigned():
    """Whether the caller of ``__float__`` is an assignment, array[0] = t, and not float(t)."""
    frame = sys._getframe(2)
    return frame.f_code.co_code[frame.f_lasti] == opmap["STORE_SUBSCR"]


@contextmanager
def transform():
    """Record inside a ``with`` block what is being differentiated, in this thread."""
    state = thread.state
    before = state.recording, state.in_derivative
    state.recording, state.in_derivative = True, False
    state.transforms += 1
    try:
        yield
    finally:
        state.transforms -= 1
        state.recording, state.in_derivative = before


@contextmanager
def recording(on, in_derivative=False):
    """Switch recording on or off inside a ``with`` block, in this thread."""
    state = thread.state
    before = state.recording, state.in_derivative
    state.recording, state.in_derivative = on, in_derivative
    try:
        yield
    finally:
        state.recording, state.in_derivative = before


def no_grad() -> AbstractContextManager:
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
