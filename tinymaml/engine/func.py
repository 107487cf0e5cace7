"""Transforms of plain functions: from a function of arrays to a function of arrays.

Each transform wraps its arrays in fresh tensors, runs the function, and walks back. While one
transform runs inside another, the inner one records its own derivative, so they nest to any order.
"""

import numbers
from collections.abc import Callable

import numpy as np

from . import backend
from .grad import grad as _grad
from .ops.elementwise import positive
from .ops.shape import concatenate, expand_dims, reshape
from .structure import leaves, map_leaves, match, names, rebuild
from .tensor import Tensor, ancestors, leaf, raw, thread, transform


def _variable(x):
    """Return a fresh tensor for one array: a new leaf, or a copy that is tied to a tensor."""
    if type(x) is Tensor and x.node is not None:
        return positive(x)
    array = backend.asarray(raw(x))
    if isinstance(x, numbers.Real) and array.dtype.kind != "f":
        array = array.astype(float)
    return Tensor(array, leaf(array))


def _inner(*inputs):
    """Whether the result must itself be differentiable: inside a transform, or of tensors."""
    return thread.state.transforms > 1 or any(type(x) is Tensor for x in leaves(inputs))


def _depends(y, variables):
    """Whether y depends on a tensor from outside, older than the variables, by closure or keyword.

    Raises a TypeError if y is not made of numbers, as when a function forgets its ``return``.
    """
    for part in leaves(y):
        kind = np.asarray(raw(part)).dtype if not hasattr(part, "dtype") else part.dtype
        if kind.kind not in "fiu":
            raise TypeError(
                f"the function gave {type(part).__name__ if part is None else kind.name}, which "
                "has no derivative; return a tensor of real numbers"
            )
    oldest = min((x.node.order for x in leaves(variables)), default=0)
    nodes = [part.node for part in leaves(y) if type(part) is Tensor and part.node is not None]
    return any(node.order < oldest for node in ancestors(nodes))


def _given(result, tensors):
    """Return a transform's result: tensors, under ``no_grad`` without their graph; or arrays."""
    if tensors and thread.state.recording:
        return result
    return map_leaves(lambda t: Tensor(raw(t)) if tensors else _own(raw(t)), result)


def _own(array):
    """Return an array that may be written into, as those of the user's own functions are."""
    read_only = isinstance(array, np.ndarray) and not array.flags.writeable
    return array.copy() if read_only else array


def _gradients(outputs, inputs, cotangents, create_graph, what="the cotangent"):
    """Walk back; zeros for inputs (and outputs) that are not connected.

    ``what`` is what the user calls the cotangents.
    """
    pairs = []
    given = match(outputs, cotangents, what)
    for name, y, g in zip(names(outputs), leaves(outputs), given):
        if np.shape(g) != np.shape(y):
            raise ValueError(
                f"{what}{name} has shape {np.shape(g)}, but shape {np.shape(y)} is expected"
            )
        if type(y) is Tensor and y.node is not None:
            pairs.append((y, g))
    flat = leaves(inputs)
    if not pairs:
        found = [None] * len(flat)
    else:
        ys, gs = zip(*pairs)
        found = _grad(ys, flat, gs, create_graph=create_graph, allow_unused=True)
    return rebuild(
        inputs,
        iter([Tensor(np.zeros_like(x.data)) if g is None else g for x, g in zip(flat, found)]),
    )


def _scalar(y):
    if np.shape(y) != ():
        raise ValueError(
            f"grad needs a function with a scalar result, but it has shape {np.shape(y)}; "
            "sum it, or use jacobian or vjp"
        )
    return y


def value_and_grad(f: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """Return a function that gives f's value and its gradient.

    Parameters
    ----------
    f : function
        Of arrays or structures of them; its result is a scalar.
    argnums : int or tuple of int
        The positional arguments to differentiate.

    Returns
    -------
    function
        With f's arguments; gives ``(value, gradient)``, the gradient structured like the argument,
        a tuple of such if ``argnums`` is one.

    Raises
    ------
    ValueError
        By that function, if the argument is not there or f's result is no scalar.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> tm.func.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    """
    many = isinstance(argnums, (tuple, list))

    def value_and_gradient(*args, **kwargs):
        with transform():
            inner = _inner(args)
            args = list(args)
            positions = argnums if many else [argnums]
            for i in positions:
                if not -len(args) <= i < len(args):
                    raise ValueError(
                        f"argnums is {argnums}, but the function was called with {len(args)} "
                        "positional arguments; they count from 0, and those given by keyword do not"
                    )
                args[i] = map_leaves(_variable, args[i])
            y = _scalar(f(*args, **kwargs))
            inner = _depends(y, [args[i] for i in positions]) or inner
            gradient = _gradients([y], [args[i] for i in positions], [np.ones(())], inner)
        return _given((y, tuple(gradient) if many else gradient[0]), inner)

    return value_and_gradient


def grad(f: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """Return a function that gives the gradient of a function with a scalar result.

    Parameters and errors as :func:`value_and_grad`.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> third = tm.func.grad(tm.func.grad(tm.func.grad(np.tanh)))
    >>> third(0.3).round(6)
    np.float64(-1.364306)
    """
    both = value_and_grad(f, argnums)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def vjp(f: Callable, *inputs) -> tuple:
    """Return f's result and its pullback, cotangent of the result -> cotangents of the inputs.

    Returns
    -------
    y
        ``f(*inputs)``.
    pullback : function
        Takes a structure like y; gives a tuple with an entry for each input. A ValueError names
        what has another form or shape than y.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> y, pullback = tm.func.vjp(np.multiply, 2.0, 3.0)
    >>> y, pullback(1.0)
    (array(6.), (array(3.), array(2.)))
    """
    with transform():
        inner = _inner(inputs)
        variables = map_leaves(_variable, inputs)
        y = f(*variables)
        inner = _depends(y, variables) or inner

    def pullback(cotangent):
        with transform():
            nested = inner or _inner(cotangent)
            result = _gradients(y, variables, cotangent, nested)
        return _given(result, nested)

    return _given(y, inner), pullback


def jvp(f: Callable, x, v) -> tuple:
    """Return f(x) and the derivative of f at x in the direction v, a structure like x.

    The pullback g -> J^T g is linear, and its own pullback at v is J v, whatever g was.

    Raises
    ------
    ValueError
        If v has another form or shape than x; the sentence names where.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> tm.func.jvp(np.square, 3.0, 1.0)
    (array(9.), array(6.))
    """
    with transform():
        inner = _inner(x, v)
        x = map_leaves(_variable, x)
        y = f(x)
        inner = _depends(y, x) or inner
        probe = map_leaves(lambda t: _variable(np.zeros_like(_data(t))), y)
        pulled = _gradients(y, x, probe, True)
        dy = _gradients(pulled, probe, v, inner, "v")
    return _given((y, dy), inner)


def _data(t):
    return backend.asarray(raw(t))


def hvp(f: Callable, x, v):
    """Return the Hessian of f at x times v, both one structure; f takes it as its one argument.

    Errors as :func:`jvp`.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> tm.func.hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    array([6., 0.])
    """
    with transform():
        inner = _inner(x, v)
        x = map_leaves(_variable, x)
        y = _scalar(f(x))
        inner = _depends(y, x) or inner
        gradient = _gradients(y, x, np.ones(()), True)
        product = _gradients(gradient, x, v, inner, "v")
    return _given(product, inner)


def jacobian(f: Callable) -> Callable:
    """Return a function that gives the derivatives of every element of f's result.

    Its result has for each array of ``f(x)`` and each array of x one of shape
    ``result.shape + x.shape``, in the structure of f's result filled with the structure of x.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> tm.func.jacobian(np.square)(np.array([1.0, 3.0]))
    array([[2., 0.],
           [0., 6.]])
    """

    def matrix(x):
        with transform():
            inner = _inner(x)
            x = map_leaves(_variable, x)
            y = f(x)
            inner = _depends(y, x) or inner
            blocks = [_rows(part, x, inner) for part in leaves(y)]
            result = rebuild(y, iter(blocks))
        return _given(result, inner)

    return matrix


def _rows(y, x, create_graph):
    """Return the Jacobian of one array: a walk back for every element of it."""
    shape, ones = np.shape(y), np.identity(_data(y).size, dtype=_data(y).dtype, like=_data(y))
    rows = [leaves(_gradients(y, x, one.reshape(shape), create_graph)) for one in ones]
    blocks = []
    for k, part in enumerate(leaves(x)):
        none = np.zeros_like(part.data, shape=(0, *part.shape))  # y may have no element
        column = [none, *[expand_dims(row[k], 0) for row in rows]]
        blocks.append(reshape(concatenate(column), shape + part.shape))
    return rebuild(x, iter(blocks))


def hessian(f: Callable) -> Callable:
    """Return a function that gives the matrix of second derivatives of a scalar function.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> tm.func.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 3.0]))
    array([[6., 2.],
           [2., 0.]])
    """
    return jacobian(grad(f))
