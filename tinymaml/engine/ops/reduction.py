"""Rows that reduce or accumulate along axes, and softmax.

In every row ``axis`` is None, an integer or a tuple, negative or not, as in NumPy. What comes after
it takes its name: NumPy's next argument by position is a dtype.
"""

import math

import numpy as np

from ..tensor import Tensor, implements, op, raw
from .elementwise import absolute, exp, sqrt, square, where
from .shape import (
    broadcast_to,
    flip,
    moveaxis,
    ravel,
    reshape,
    take_along_axis,
)


def _reduced(axis, ndim):
    """Return the axes that a reduction goes over, as a set of numbers from 0."""
    if axis is None or not ndim:  # NumPy lets a number be reduced along axis 0
        return set(range(ndim))
    return {a % ndim for a in (axis if isinstance(axis, tuple) else (axis,))}


def kept_shape(shape, axis):
    """Return ``shape`` with the reduced axes kept at length 1.

    Examples
    --------
    >>> kept_shape((2, 3, 4), (0, -1))
    (1, 3, 1)
    """
    if axis is None:
        return (1,) * len(shape)
    axes = _reduced(axis, len(shape))
    return tuple([1 if i in axes else n for i, n in enumerate(shape)])


def _spread(g, like, axis):
    """Return the cotangent (or result) of a reduction of ``like``, broadcastable against it."""
    return reshape(g, kept_shape(like.shape, axis))


def sum_to(g, shape):
    """Sum a cotangent down to the shape of the argument that was broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> sum_to(np.ones((2, 3)), (3,))
    array([2., 2., 2.])
    """
    extra = g.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        [i for i, n in enumerate(shape, extra) if n == 1 and g.shape[i] != 1]
    )
    if axes:
        g = _sum(g, axis=axes, keepdims=False)
    return g if g.shape == shape else reshape(g, shape)


_sum = op(
    lambda x, *, axis, keepdims: x.sum(axis=axis, keepdims=keepdims),
    lambda g, _y, _x, axis, keepdims: broadcast_to(_spread(g, _x, axis), _x.shape),
    name="sum",
)
_mean = op(
    lambda x, *, axis, keepdims: x.mean(axis=axis, keepdims=keepdims),
    lambda g, _y, _x, axis, keepdims: broadcast_to(
        _spread(g, _x, axis) * (math.prod(_y.shape) / (math.prod(_x.shape) or 1)), _x.shape
    ),
    name="mean",
)


def _prod_vjp(g, _y, x, axis, keepdims):
    """The product of all the other factors, so that zeros among them are no special case."""
    axes = sorted(_reduced(axis, x.ndim))
    rest = [a for a in range(x.ndim) if a not in axes]
    last = moveaxis(x, axes, range(len(rest), x.ndim))
    n = math.prod([x.shape[a] for a in axes])
    flat = reshape(last, tuple([x.shape[a] for a in rest]) + (1, n))
    others = _prod(where(np.identity(n, dtype=bool, like=raw(x)), 1, flat), axis=-1, keepdims=False)
    others = moveaxis(reshape(others, last.shape), range(len(rest), x.ndim), axes)
    return _spread(g, x, axis) * others


_prod = op(
    lambda x, *, axis, keepdims: x.prod(axis=axis, keepdims=keepdims), _prod_vjp, name="prod"
)


def _extremum_vjp(g, y, x, axis, keepdims):
    """The largest (smallest) element takes the cotangent; equal ones share it in equal parts."""
    ties = (x == _spread(y, x, axis)).astype(x.dtype)
    return _spread(g, x, axis) * (ties / _sum(ties, axis=axis, keepdims=True))


_max = op(
    lambda x, *, axis, keepdims: x.max(axis=axis, keepdims=keepdims), _extremum_vjp, name="max"
)
_min = op(
    lambda x, *, axis, keepdims: x.min(axis=axis, keepdims=keepdims), _extremum_vjp, name="min"
)
_cumsum = op(
    lambda x, *, axis: x.cumsum(axis=axis),
    lambda g, _y, _x, axis: flip(_cumsum(flip(g, axis), axis=axis), axis),
    name="cumsum",
)


def _logsumexp_forward(x, *, axis, keepdims):
    largest = x.max(axis=axis, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0)
    y = np.log(np.exp(x - largest).sum(axis=axis, keepdims=True)) + largest
    gone = _reduced(axis, x.ndim)
    return y if keepdims else y.reshape([n for i, n in enumerate(y.shape) if i not in gone])


_logsumexp = op(
    _logsumexp_forward,
    lambda g, y, x, axis, keepdims: _spread(g, x, axis) * exp(x - _spread(y, x, axis)),
    name="logsumexp",
)


def _softmax_forward(x, *, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


_softmax = op(
    _softmax_forward,
    lambda g, y, _x, axis: y * (g - _sum(g * y, axis=axis, keepdims=True)),
    name="softmax",
)
_log_softmax = op(
    lambda x, *, axis: x - _logsumexp_forward(x, axis=axis, keepdims=True),
    lambda g, y, _x, axis: g - exp(y) * _sum(g, axis=axis, keepdims=True),
    name="log_softmax",
)
_norm = op(
    lambda x, *, axis, keepdims: np.sqrt(np.square(x).sum(axis=axis, keepdims=keepdims)),
    # x = 0 has many subgradients, 0 among them; dividing by 1 there makes no NaN to any order
    lambda g, y, x, axis, keepdims: x * _spread(where(y == 0, 0, g / where(y == 0, 1, y)), x, axis),
    name="norm",
)


@implements(np.sum)
def sum(x, axis=None, *, keepdims=False):
    """Sum over axes."""
    return _sum(x, axis=axis, keepdims=keepdims)


@implements(np.mean)
def mean(x, axis=None, *, keepdims=False):
    """Mean over axes."""
    return _mean(x, axis=axis, keepdims=keepdims)


@implements(np.prod)
def prod(x, axis=None, *, keepdims=False):
    """Product over axes; right also where factors are zero. Its derivative takes n^2 memory."""
    return _prod(x, axis=axis, keepdims=keepdims)


@implements(np.max)
def max(x, axis=None, *, keepdims=False):
    """Maximum over axes; elements that tie share the gradient in equal parts."""
    return _max(x, axis=axis, keepdims=keepdims)


@implements(np.min)
def min(x, axis=None, *, keepdims=False):
    """Minimum over axes; elements that tie share the gradient in equal parts."""
    return _min(x, axis=axis, keepdims=keepdims)


@implements(np.var)
def var(x, axis=None, *, ddof=0, keepdims=False):
    """Variance over axes, with divisor n - ddof."""
    squares = square(x - _mean(x, axis=axis, keepdims=True))
    average = _mean(squares, axis=axis, keepdims=keepdims)
    if not ddof:
        return average
    n = x.size // (math.prod(average.shape) or 1)
    return average * (n / (n - ddof) if n > ddof else math.inf)


@implements(np.std)
def std(x, axis=None, *, ddof=0, keepdims=False):
    """Standard deviation over axes; its derivative is infinite or NaN where it is 0."""
    return sqrt(var(x, axis, ddof=ddof, keepdims=keepdims))


@implements(np.cumsum)
def cumsum(x, axis=None):
    """Cumulative sum along an axis, of the flattened array by default."""
    return _cumsum(ravel(x), axis=0) if axis is None else _cumsum(x, axis=axis)


def logsumexp(x, axis=None, keepdims=False):
    """log(sum(exp(x))) over axes, without overflow.

    Examples
    --------
    >>> import numpy as np
    >>> logsumexp(np.array([1000.0, 1000.0])).round(3)
    np.float64(1000.693)
    """
    return _logsumexp(x, axis=axis, keepdims=keepdims)


def softmax(x, axis=-1):
    """exp(x) / sum(exp(x)) along ``axis``, without overflow.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    return _softmax(x, axis=axis)


def log_softmax(x, axis=-1):
    """log(softmax(x)) along ``axis``, without overflow.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([0.0, 0.0])).round(3)
    array([-0.693, -0.693])
    """
    return _log_softmax(x, axis=axis)


@implements(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    """Euclidean (Frobenius) norm over all elements, one axis or two.

    At x = 0 the gradient is 0, one of the subgradients; so is the second derivative's part.
    """
    vector = isinstance(axis, (int, np.integer)) or (axis is None and x.ndim == 1)
    if ord is None or (ord == 2 and vector) or (ord == "fro" and not vector):
        return _norm(x, axis=axis, keepdims=keepdims)
    if vector and ord == 1:
        return sum(absolute(x), axis, keepdims=keepdims)
    if vector and ord == math.inf:
        return max(absolute(x), axis, keepdims=keepdims)
    raise TypeError(f"norm of order {ord!r} has no derivative in tinymaml; take ord=None, 1 or inf")


@implements(np.sort)
def sort(x, axis=-1):
    """Sort along an axis; the gradient goes back to where each element came from."""
    if axis is None:
        x, axis = ravel(x), -1
    return take_along_axis(x, np.argsort(raw(x), axis=axis), axis)


@implements(np.partition)
def partition(x, kth, axis=-1):
    """Partition along an axis as NumPy does; differentiable like :func:`sort`."""
    if axis is None:
        x, axis = ravel(x), -1
    return take_along_axis(x, np.argpartition(raw(x), kth, axis=axis), axis)


def _index_of(function):
    @implements(function)
    def index(x, axis=None, *, keepdims=False):
        found = function(raw(x), axis=axis)
        if keepdims:
            found = np.reshape(found, kept_shape(x.shape, axis))
        return Tensor(np.asarray(found) if np.isscalar(found) else found)

    index.__name__ = function.__name__
    index.__doc__ = f"As NumPy's {function.__name__}: integers, without a derivative."
    return index


argmax, argmin = _index_of(np.argmax), _index_of(np.argmin)


@implements(np.argsort)
def argsort(x, axis=-1):
    """As NumPy's argsort: integers, without a derivative."""
    return Tensor(np.argsort(raw(x), axis=axis))


@implements(np.any)
def any(x, axis=None, *, keepdims=False):
    """Whether any element is true along axes; no derivative."""
    return Tensor(np.asarray(raw(x).any(axis=axis, keepdims=keepdims), like=raw(x)))


@implements(np.all)
def all(x, axis=None, *, keepdims=False):
    """Whether all elements are true along axes; no derivative."""
    return Tensor(np.asarray(raw(x).all(axis=axis, keepdims=keepdims), like=raw(x)))


# A ufunc's own reduction is along the first axis by default, where np.sum takes them all.
def _reduction(function):
    return lambda x, axis=0, *, keepdims=False: function(x, axis, keepdims=keepdims)


for _ufunc, _function in {
    np.add: sum,
    np.multiply: prod,
    np.maximum: max,
    np.minimum: min,
    np.logical_or: any,
    np.logical_and: all,
}.items():
    implements((_ufunc, "reduce"))(_reduction(_function))
