"""Rows that reduce or accumulate along axes, and softmax.

In every row ``axis`` is None, an integer or a tuple, negative or not, as in NumPy. NumPy's other
options (``dtype``, ``initial``, ``where``) are taken by functions around the rows.
"""

import math

import numpy as np

from ..numpy_rules import implements, numpy_functions
from ..op import op
from ..tensor import raw
from . import elementwise
from .elementwise import absolute, exp, sqrt, square, where
from .shape import astype, broadcast_to, flip, moveaxis, ravel, reshape, take_along_axis


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


def _sum(x, axis=None, *, keepdims=False):
    if isinstance(x, np.ndarray):  # what x.sum() calls in the end
        return np.add.reduce(x, axis=axis, keepdims=keepdims)
    return x.sum(axis=axis, keepdims=keepdims)


sum = op(_sum, "x", lambda g, x_like, axis: broadcast_to(_spread(g, x_like, axis), x_like.shape))
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


# NumPy's reductions: the rows, with its other options.
def _with_options(row, neutral, combine, takes_dtype=True):
    """Return a reduction that leaves out where not ``where``, and begins with ``initial``."""

    def reduction(x, axis=None, dtype=None, *, keepdims=False, initial=None, where=True):
        if dtype is not None:
            x = astype(x, dtype)
        if where is not True:
            x = elementwise.where(where, x, initial if neutral is None else neutral)
        if not x.size and initial is not None:  # the largest of nothing is what it begins with
            return sum(x, axis=axis, keepdims=keepdims) + initial
        y = row(x, axis=axis, keepdims=keepdims)
        return y if initial is None else combine(y, initial)

    def without_dtype(x, axis=None, *, keepdims=False, initial=None, where=True):
        return reduction(x, axis, keepdims=keepdims, initial=initial, where=where)

    made = reduction if takes_dtype else without_dtype
    made.__name__, made.__doc__ = row.name, row.__doc__
    return made


total = _with_options(sum, 0, elementwise.add)
product = _with_options(prod, 1, elementwise.multiply)
largest = _with_options(max, None, elementwise.maximum, takes_dtype=False)
smallest = _with_options(min, None, elementwise.minimum, takes_dtype=False)
some = _with_options(any, False, elementwise.logic["logical_or"], takes_dtype=False)
every = _with_options(all, True, elementwise.logic["logical_and"], takes_dtype=False)


def _count(x, axis, keepdims, where):
    """Return how many elements each part of a result is made of."""
    if where is not True:
        there = broadcast_to(np.asarray(raw(where), like=raw(x)), x.shape)
        return sum(there, axis=axis, keepdims=keepdims).astype(x.dtype)
    return math.prod([x.shape[i] for i in _reduced(axis, x.ndim)])


def average(x, axis=None, dtype=None, *, keepdims=False, where=True):
    """Mean over axes, of the elements where ``where``."""
    x = x if dtype is None else astype(x, dtype)
    if where is True:
        return mean(x, axis=axis, keepdims=keepdims)
    return total(x, axis, keepdims=keepdims, where=where) / _count(x, axis, keepdims, where)


def var(
    x, axis=None, dtype=None, *, ddof=0, keepdims=False, where=True, mean=None, correction=None
):
    """Variance over axes, with divisor n - ddof (``correction`` is its other name)."""
    x, ddof = x if dtype is None else astype(x, dtype), ddof if correction is None else correction
    centre = average(x, axis, keepdims=True, where=where) if mean is None else mean
    x = x - centre
    if where is not True:
        x = elementwise.where(where, x, 0)  # what is left out may be NaN
    y = average(square(x), axis, keepdims=keepdims, where=where)
    if not ddof:
        return y
    n = _count(x, axis, keepdims, where)
    if where is not True:
        return y * (n / elementwise.maximum(n - ddof, 0))
    return y * (n / (n - ddof) if n > ddof else math.inf)


def std(x, axis=None, dtype=None, **options):
    """Standard deviation over axes; as of a norm, the gradient is 0 where it is 0."""
    y = var(x, axis, dtype, **options)
    return where(y == 0, 0, sqrt(where(y == 0, 1, y)))


def cumulate(x, axis=None, dtype=None):
    """Sum of all elements so far."""
    return cumsum(x if dtype is None else astype(x, dtype), axis=axis)


def _cumulative(scan, identity):
    def cumulative(x, axis=None, dtype=None, *, include_initial=False):
        if axis is None and x.ndim > 1:
            raise ValueError(f"axis must be given for an array of {x.ndim} axes")
        axis = -1 if axis is None else axis
        y = scan(x, axis=axis, dtype=dtype)
        if not include_initial:
            return y
        widths = [(1 if i == axis % y.ndim else 0, 0) for i in range(y.ndim)]
        return np.pad(y, widths, constant_values=identity)

    return cumulative


def vector_norm(x, *, axis=None, keepdims=False, ord=2):
    """Norm of any order over one axis, several or all.

    At x = 0 the gradient is 0, one of the subgradients; so is the second derivative's part.
    """
    if ord in (None, 2):
        return _norm(x, axis=axis, keepdims=keepdims)
    if ord == 0:  # a count
        return sum((x != 0).astype(x.dtype), axis=axis, keepdims=keepdims)
    size = absolute(x)
    if abs(ord) == math.inf:
        return (max if ord > 0 else min)(size, axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum(size, axis=axis, keepdims=keepdims)
    return sum(size**ord, axis=axis, keepdims=keepdims) ** (1 / ord)


def matrix_norm(x, *, keepdims=False, ord="fro"):
    """Norm of any order of the matrices in the last two axes."""
    if ord in (None, "fro"):
        return _norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord == "nuc" or abs(ord) == 2:
        s = np.linalg.svd(x, compute_uv=False)
        y = sum(s, axis=-1) if ord == "nuc" else (max if ord > 0 else min)(s, axis=-1)
    elif abs(ord) in (1, math.inf):
        sums = sum(absolute(x), axis=-2 if abs(ord) == 1 else -1)
        y = (max if ord > 0 else min)(sums, axis=-1)
    else:
        raise ValueError(f"norm of a matrix has no order {ord!r}; take fro, nuc, 1, 2, inf or less")
    return reshape(y, (*y.shape, 1, 1)) if keepdims else y


def norm(x, ord=None, axis=None, keepdims=False):
    """Euclidean (Frobenius) norm over all elements, or of any order over one axis or two."""
    if ord is None:
        return _norm(x, axis=axis, keepdims=keepdims)
    if isinstance(axis, (int, np.integer)) or x.ndim == 1:
        return vector_norm(x, axis=axis, keepdims=keepdims, ord=ord)
    axes = (0, 1) if axis is None and x.ndim == 2 else axis
    if axes is None or len(axes) != 2:
        raise ValueError(f"norm of order {ord!r} goes over one axis or two, given axis={axis}")
    y = matrix_norm(moveaxis(x, axes, (-2, -1)), ord=ord)
    return _spread(y, x, tuple(axes)) if keepdims else y


def _taken(x, order, axis, **options):
    """Put elements in an order; the gradient goes back to where each came from."""
    if axis is None:
        x, axis = ravel(x), -1
    options = {name: value for name, value in options.items() if value is not None}
    return take_along_axis(x, order(x, axis=axis, **options), axis)


def sort(x, axis=-1, kind=None, *, stable=None):
    """Sort along an axis."""
    return _taken(x, argsort, axis, kind="stable" if stable else kind)


def partition(x, kth, axis=-1, kind=None):
    """Partition along an axis as NumPy does."""
    return _taken(x, argpartition, axis, kth=kth, kind=kind)


implements(np, argmax, argmin, argsort, argpartition, var, std, sort, partition)
implements(np.linalg, norm, vector_norm, matrix_norm)
numpy_functions |= {
    np.sum: total,
    np.prod: product,
    np.max: largest,
    np.min: smallest,
    np.amax: largest,
    np.amin: smallest,
    np.any: some,
    np.all: every,
    np.mean: average,
    np.cumsum: cumulate,
}
if hasattr(np, "cumulative_sum"):  # NumPy 2.1
    numpy_functions[np.cumulative_sum] = _cumulative(np.cumsum, 0)
    numpy_functions[np.cumulative_prod] = _cumulative(np.cumprod, 1)


# A ufunc's own reduction is along the first axis by default, where np.sum takes them all.
def _along_first(function):
    def reduce(x, axis=0, dtype=None, **options):
        return function(x if dtype is None else astype(x, dtype), axis, **options)

    return reduce


_ufuncs = (np.add, np.multiply, np.maximum, np.minimum, np.logical_or, np.logical_and)
for _ufunc, _function in zip(_ufuncs, (total, product, largest, smallest, some, every)):
    numpy_functions[_ufunc, "reduce"] = _along_first(_function)
numpy_functions[np.add, "accumulate"] = lambda x, axis=0, dtype=None: cumulate(x, axis, dtype)
