"""Rows that reduce or accumulate along axes, and softmax.

In every row ``axis`` is None, an integer or a tuple, negative or not, as in NumPy. What comes after
it takes its name: NumPy's next argument by position is a dtype.
"""

import math

import numpy as np

from ..numpy_rules import implements, numpy_functions
from ..op import op
from ..tensor import raw
from .elementwise import absolute, exp, sqrt, square, where
from .shape import broadcast_to, flip, moveaxis, ravel, reshape, take_along_axis


def _reduced(axis, ndim):
    """Return the axes that a reduction goes over, as a set of numbers from 0."""
    if axis is None or not ndim:  # NumPy lets a number be reduced along axis 0
        return set(range(ndim))
    return {a % ndim for a in (axis if isinstance(axis, tuple) else (axis,))}


def _spread(g, like, axis):
    """Return the cotangent (or result) of a reduction of ``like``, broadcastable against it."""
    axes = _reduced(axis, len(like.shape))
    return reshape(g, tuple([1 if i in axes else n for i, n in enumerate(like.shape)]))


def sum_to(g, shape: tuple[int, ...]):
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
        g = sum(g, axis=axes)
    return g if g.shape == shape else reshape(g, shape)


def _reduction(name, vjp):
    """Return the row of an array's method ``name``, over all axes by default."""

    def forward(x, axis=None, *, keepdims=False):
        return getattr(x, name)(axis=axis, keepdims=keepdims)

    forward.__doc__ = f"As NumPy's ``{name}``."
    return op(forward, "x", vjp, name=name)


def _mean_vjp(g, x_like, y_like, axis):
    part = math.prod(y_like.shape) / (math.prod(x_like.shape) or 1)
    return broadcast_to(_spread(g, x_like, axis) * part, x_like.shape)


def _prod_vjp(g, x, axis):
    """The product of all the other factors, so that zeros among them are no special case.

    It takes n^2 memory for n factors.
    """
    axes = sorted(_reduced(axis, x.ndim))
    rest = [a for a in range(x.ndim) if a not in axes]
    last = moveaxis(x, axes, range(len(rest), x.ndim))
    n = math.prod([x.shape[a] for a in axes])
    flat = reshape(last, tuple([x.shape[a] for a in rest]) + (1, n))
    others = prod(where(np.identity(n, dtype=bool, like=raw(x)), 1, flat), axis=-1)
    others = moveaxis(reshape(others, last.shape), range(len(rest), x.ndim), axes)
    return _spread(g, x, axis) * others


def _extremum_vjp(g, y, x, axis):
    """The largest (smallest) element takes the cotangent; equal ones share it in equal parts."""
    ties = x == _spread(y, x, axis)
    share = _spread(g, x, axis) / sum(ties.astype(x.dtype), axis=axis, keepdims=True)
    return where(ties, share, 0)


sum = _reduction(
    "sum", lambda g, x_like, axis: broadcast_to(_spread(g, x_like, axis), x_like.shape)
)
mean = _reduction("mean", _mean_vjp)
prod = _reduction("prod", _prod_vjp)
max = _reduction("max", _extremum_vjp)
min = _reduction("min", _extremum_vjp)
# Not differentiable
any = _reduction("any", None)
all = _reduction("all", None)
argmax = _reduction("argmax", None)
argmin = _reduction("argmin", None)
argsort = op(np.argsort, "x", None)
argpartition = op(np.argpartition, "x", None)


def _cumsum_vjp(g, x_like, axis):
    return reshape(flip(cumsum(flip(g, axis), axis=axis), axis), x_like.shape)


cumsum = op(lambda x, axis=None: x.cumsum(axis=axis), "x", _cumsum_vjp, name="cumsum")


def _logsumexp(x, axis=None, keepdims=False):
    """log(sum(exp(x))) over axes, without overflow.

    Examples
    --------
    >>> import numpy as np
    >>> logsumexp(np.array([1000.0, 1000.0])).round(3)
    np.float64(1000.693)
    """
    largest = x.max(axis=axis, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0)
    y = np.log(np.exp(x - largest).sum(axis=axis, keepdims=True)) + largest
    gone = _reduced(axis, x.ndim)
    return y if keepdims else y.reshape([n for i, n in enumerate(y.shape) if i not in gone])


def _softmax(x, axis=-1):
    """exp(x) / sum(exp(x)) along ``axis``, without overflow.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _log_softmax(x, axis=-1):
    """log(softmax(x)) along ``axis``, without overflow.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([0.0, 0.0])).round(3)
    array([-0.693, -0.693])
    """
    x = x - x.max(axis=axis, keepdims=True)  # first of all, lest small differences cancel
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


logsumexp = op(
    _logsumexp,
    "x",
    lambda g, x, axis: _spread(g, x, axis) * softmax(x, axis=axis),
)
softmax = op(_softmax, "x", lambda g, y, axis: y * (g - sum(g * y, axis=axis, keepdims=True)))
log_softmax = op(
    _log_softmax, "x", lambda g, y, axis: g - exp(y) * sum(g, axis=axis, keepdims=True)
)
_norm = op(
    lambda x, axis, keepdims: np.sqrt(np.square(x).sum(axis=axis, keepdims=keepdims)),
    "x",
    # x = 0 has many subgradients, 0 among them; dividing by 1 there makes no NaN to any order
    lambda g, y, x, axis: x * _spread(where(y == 0, 0, g / where(y == 0, 1, y)), x, axis),
    name="norm",
)


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


def var(x, axis=None, *, ddof=0, keepdims=False):
    """Variance over axes, with divisor n - ddof."""
    squares = square(x - mean(x, axis=axis, keepdims=True))
    average = mean(squares, axis=axis, keepdims=keepdims)
    if not ddof:
        return average
    n = x.size // (math.prod(average.shape) or 1)
    return average * (n / (n - ddof) if n > ddof else math.inf)


def std(x, axis=None, *, ddof=0, keepdims=False):
    """Standard deviation over axes; its derivative is infinite or NaN where it is 0."""
    return sqrt(var(x, axis, ddof=ddof, keepdims=keepdims))


def sort(x, axis=-1):
    """Sort along an axis; the gradient goes back to where each element came from."""
    if axis is None:
        x, axis = ravel(x), -1
    return take_along_axis(x, argsort(x, axis=axis), axis)


def partition(x, kth, axis=-1):
    """Partition along an axis as NumPy does; differentiable like :func:`sort`."""
    if axis is None:
        x, axis = ravel(x), -1
    return take_along_axis(x, argpartition(x, kth=kth, axis=axis), axis)


implements(np, sum, mean, prod, max, min, any, all, argmax, argmin, argsort, argpartition)
implements(np, cumsum, var, std, sort, partition)
implements(np.linalg, norm)


# A ufunc's own reduction is along the first axis by default, where np.sum takes them all.
def _along_first(function):
    return lambda x, axis=0, *, keepdims=False: function(x, axis, keepdims=keepdims)


_ufuncs = (np.add, np.multiply, np.maximum, np.minimum, np.logical_or, np.logical_and)
for _ufunc, _function in zip(_ufuncs, (sum, prod, max, min, any, all)):
    numpy_functions[_ufunc, "reduce"] = _along_first(_function)
