"""NumPy's statistics and numerics, written in NumPy's functions that are differentiable already.

So each is its definition, and has its derivatives to every order.
"""

import builtins
import functools
import math

import numpy as np

from ..backend import to_numpy
from ..numpy_rules import implements, numpy_functions
from ..op import LISTS, as_arrays
from ..tensor import Tensor, raw
from .elementwise import where
from .reduction import _reduced, max, mean, min, sum
from .shape import astype, broadcast_to, moveaxis, pad, ravel, reshape, scatter_add, take


def _last(x, axis):
    """Move the axes of a reduction behind the others and make one of them."""
    gone = sorted(_reduced(axis, x.ndim))
    rest = [i for i in range(x.ndim) if i not in gone]
    x = moveaxis(x, gone, range(len(rest), x.ndim))
    return reshape(x, (*x.shape[: len(rest)], math.prod(x.shape[len(rest) :])))


def _kept(y, x, axis, keepdims):
    """Give the result of a reduction of ``x``, behind leading axes of its own, its lost axes."""
    if not keepdims:
        return y
    gone = _reduced(axis, x.ndim)
    lead = y.shape[: y.ndim - x.ndim + len(gone)]
    return reshape(y, (*lead, *[1 if i in gone else n for i, n in enumerate(x.shape)]))


def average(a, axis=None, weights=None, returned=False, *, keepdims=False):
    """Mean, weighted; weights are of the shape of ``a`` or of the axes averaged over."""
    a, weights = as_arrays((a, 1.0 if weights is None else weights))
    if weights.shape not in ((), a.shape):
        gone = sorted(_reduced(axis, a.ndim))
        weights = reshape(weights, [n if i in gone else 1 for i, n in enumerate(a.shape)])
    weights = astype(weights, np.result_type(a.dtype, weights.dtype)) if weights.ndim else weights
    total = sum(broadcast_to(weights, a.shape), axis=axis, keepdims=keepdims)
    if not weights.ndim:
        y = mean(a, axis=axis, keepdims=keepdims)
        total = astype(total, y.dtype)
    else:
        y = sum(a * weights, axis=axis, keepdims=keepdims) / total
    return (y, total) if returned else y


def ptp(a, axis=None, *, keepdims=False):
    """Largest minus smallest element."""
    return max(a, axis=axis, keepdims=keepdims) - min(a, axis=axis, keepdims=keepdims)


def quantile(
    a, q, axis=None, overwrite_input=False, method="linear", keepdims=False, *, interpolation=None
):
    """Quantiles by any of NumPy's methods; ``q`` is not differentiated.

    NumPy's quantile of 0, 1, 2, ... says between which two sorted elements it lies, and where.
    """
    if type(q) is Tensor and q.requires_grad:
        raise TypeError("np.quantile has no derivative with respect to q; pass q.numpy()")
    x, q = np.sort(_last(a, axis), axis=-1), to_numpy(np.asarray(raw(q)))
    n = x.shape[-1]
    place = np.quantile(np.arange(float(n)), q, method=interpolation or method)
    low = np.minimum(place.astype(int), n - 1)
    dtype = np.result_type(x.dtype, q.dtype) if q.ndim else x.dtype
    part = np.asarray(place - low, dtype, like=raw(x))
    below, above = take(x, low, axis=-1), take(x, np.minimum(low + 1, n - 1), axis=-1)
    y = below + (above - below) * part
    y = where(np.isnan(x[..., -1:] if low.ndim else x[..., -1]), math.nan, y)
    y = moveaxis(y, range(y.ndim - low.ndim, y.ndim), range(low.ndim))
    return _kept(y, a, axis, keepdims)


def percentile(
    a, q, axis=None, overwrite_input=False, method="linear", keepdims=False, *, interpolation=None
):
    """Quantiles, given in percent."""
    return quantile(a, np.true_divide(raw(q), 100), axis, False, interpolation or method, keepdims)


def median(a, axis=None, overwrite_input=False, keepdims=False):
    """The middle of the sorted elements, or the mean of the two there."""
    return quantile(a, 0.5, axis, keepdims=keepdims)


# NaNs left out: the same reduction where there is none.
def _without_nan(function, empty=None):
    def without_nan(a, axis=None, dtype=None, *, keepdims=False, **options):
        there = ~np.isnan(a)
        if empty is None and "where" in options:
            there = there & options.pop("where")
        options |= {} if dtype is None else {"dtype": dtype}
        if empty is None:
            return function(a, axis=axis, keepdims=keepdims, where=there, **options)
        y = function(where(there, a, empty), axis=axis, keepdims=keepdims, **options)
        return where(np.any(there, axis=axis, keepdims=keepdims), y, math.nan)

    return without_nan


def _quantile_without_nan(function):
    def without_nan(a, *q, axis=None, overwrite_input=False, keepdims=False, **options):
        options = {name: value for name, value in options.items() if value is not None}
        x = _last(a, axis)
        rows = reshape(x, (-1, x.shape[-1]))
        parts = [function(row[~np.isnan(row)], *q, **options) for row in rows]
        y = np.stack(parts, axis=-1)
        return _kept(reshape(y, (*y.shape[:-1], *x.shape[:-1])), a, axis, keepdims)

    return without_nan


def _sums_without_nan(function, empty):
    return lambda a, axis=None, dtype=None: function(
        where(np.isnan(a), empty, a), axis=axis, dtype=dtype
    )


def cov(m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    """Covariance matrix of variables in rows (columns if not ``rowvar``)."""
    x, *others = [np.atleast_2d(part) for part in as_arrays([p for p in (m, y) if p is not None])]
    if not rowvar and np.ndim(m) > 1:
        x = x.T
    others = [other if rowvar or other.shape[0] == 1 else other.T for other in others]
    x = np.concatenate([x, *others]) if others else x
    x = astype(x, np.result_type(x.dtype, np.float64) if dtype is None else dtype)
    ddof = (0 if bias else 1) if ddof is None else ddof
    n, w = x.shape[1], 1.0
    given = as_arrays([x, *[v for v in (fweights, aweights) if v is not None]])[1:]
    if given:
        w = functools.reduce(np.multiply, given)
        n = sum(w)
    centred = x - average(x, 1, w if given else None, keepdims=True)
    if ddof and aweights is not None:
        n = n - ddof * sum(w * given[-1]) / n
    else:
        n = n - ddof
    return np.squeeze((centred * w) @ centred.T / n)


def corrcoef(x, y=None, rowvar=True, *, dtype=None):
    """Correlation matrix of variables in rows (columns if not ``rowvar``)."""
    c = cov(x, y, rowvar, dtype=dtype)
    if not c.ndim:
        return c / c
    d = np.sqrt(np.diagonal(c))
    return np.clip(c / d[:, None] / d, -1, 1)


def bincount(x, weights=None, minlength=0):
    """Sum of the weights in each bin; without weights the counts, as an array."""
    if weights is None:
        return np.bincount(raw(x), minlength=minlength)
    x = raw(x)
    n = builtins.max(
        int(np.max(np.asarray(x, like=raw(weights)))) + 1 if np.size(x) else 0, minlength
    )
    return scatter_add(astype(weights, np.float64), x, (n,))


# Differences and integrals along an axis
def _slices(x, axis, *ends):
    axis %= x.ndim
    return [x[(slice(None),) * axis + (slice(*end),)] for end in ends]


def diff(a, n=1, axis=-1, prepend=None, append=None):
    """Differences of neighbours, ``n`` times."""
    if n < 0:
        raise ValueError(f"diff takes an order of at least 0, given {n}")
    if n and not (prepend is None and append is None):
        ends = []
        for part in as_arrays((a, *[e for e in (prepend, append) if e is not None]))[1:]:
            one = [1 if i == axis % a.ndim else m for i, m in enumerate(a.shape)]
            ends.append(part if part.ndim else broadcast_to(part, tuple(one)))
        before = ends[:1] if prepend is not None else []
        a = np.concatenate([*before, a, *(ends[-1:] if append is not None else [])], axis)
    for _ in range(n):
        later, earlier = _slices(a, axis, (1, None), (None, -1))
        a = later - earlier
    return a


def ediff1d(ary, to_end=None, to_begin=None):
    """Differences of neighbours of the flattened array, with what is put around them."""
    parts = [part for part in (to_begin, diff(ravel(ary)), to_end) if part is not None]
    return np.concatenate([astype(ravel(part), ary.dtype) for part in as_arrays(parts)])


def trapezoid(y, x=None, dx=1.0, axis=-1):
    """Integral by the trapezoidal rule."""
    y, x = as_arrays((y, x), LISTS)
    width = dx if x is None else diff(x, axis=axis if x.ndim == y.ndim else 0)
    if np.ndim(width) == 1:
        width = reshape(width, [-1 if i == axis % y.ndim else 1 for i in range(y.ndim)])
    later, earlier = _slices(y, axis, (1, None), (None, -1))
    return sum(width * (later + earlier) / 2.0, axis=axis)


def gradient(f, *varargs, axis=None, edge_order=1):
    """Differences, central within and one-sided at the ends, over the distances of the places."""
    axes = sorted(_reduced(axis, f.ndim)) if axis is None else np.atleast_1d(axis).tolist()
    spacings = (
        list(varargs) * len(axes) if len(varargs) == 1 else list(varargs) or [1.0] * len(axes)
    )
    if len(spacings) != len(axes) or edge_order not in (1, 2):
        raise TypeError("gradient takes one distance, or one for each axis, and edge_order 1 or 2")
    found = [_gradient(f, h, a, edge_order) for h, a in zip(spacings, axes)]
    return found[0] if len(found) == 1 else tuple(found)


def _gradient(f, h, axis, edge_order):
    f = moveaxis(f, axis, -1)
    f, h = as_arrays((f, h), LISTS)
    ones = np.ones_like(raw(f), shape=f.shape[-1] - 1)
    h = diff(h) if np.ndim(h) else h * ones
    a, b = h[:-1], h[1:]
    inner = (a * a * f[..., 2:] + (b * b - a * a) * f[..., 1:-1] - b * b * f[..., :-2]) / (
        a * b * (a + b)
    )
    first, last = (f[..., 1:2] - f[..., :1]) / h[0], (f[..., -1:] - f[..., -2:-1]) / h[-1]
    if edge_order == 2:  # parabolas through the three outermost places
        second = (f[..., 2:3] - f[..., 1:2]) / h[1]
        first = first - h[0] * (second - first) / (h[0] + h[1])
        second = (f[..., -2:-1] - f[..., -3:-2]) / h[-2]
        last = last + h[-1] * (last - second) / (h[-1] + h[-2])
    return moveaxis(np.concatenate([first, inner, last], axis=-1), -1, axis)


def interp(x, xp, fp, left=None, right=None, period=None):
    """Piecewise linear interpolation between the points (xp, fp)."""
    x, xp, fp = (astype(part, np.float64) for part in as_arrays((x, xp, fp)))
    if period is not None:
        order = np.argsort(raw(xp) % period)
        xp, fp = (xp % period)[order], fp[order]
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp, x = np.concatenate([fp[-1:], fp, fp[:1]]), x % period
    after = np.searchsorted(raw(xp), raw(x), side="right")
    i = np.clip(after - 1, 0, builtins.max(len(xp) - 2, 0))
    j = np.minimum(i + 1, len(xp) - 1)
    width = xp[j] - xp[i]
    y = fp[i] + (x - xp[i]) * ((fp[j] - fp[i]) / where(width == 0, 1, width))
    y = where(x < xp[0], fp[0] if left is None else left, y)
    return where(x > xp[-1], fp[-1] if right is None else right, y)


def _convolve_full(a, v):
    a, v = as_arrays((a, v))
    if not (a.size and v.size) or a.ndim > 1 or v.ndim > 1:
        raise ValueError(f"convolve takes two vectors, given shapes {a.shape} and {v.shape}")
    a, v = (a, v) if len(a) >= len(v) else (v, a)
    a, n = pad(ravel(a), len(v) - 1), len(a) + len(v) - 1
    return a[np.arange(n)[:, None] + np.arange(len(v))] @ ravel(v)[::-1]


def _middle(full, m, n, mode):
    """The part of a full convolution of lengths m and n that a mode asks for."""
    short, long = sorted((m, n))
    starts = {"full": (0, m + n - 1), "same": ((short - 1) // 2, long)}
    start, length = (starts | {"valid": (short - 1, long - short + 1)})[mode]
    return full[start : start + length]


def convolve(a, v, mode="full"):
    """Convolution of two vectors."""
    return _middle(_convolve_full(a, v), np.size(a), np.size(v), mode)


def correlate(a, v, mode="valid"):
    """Correlation of two vectors."""
    a, v = as_arrays((a, v))
    if len(v) > len(a):
        return _middle(_convolve_full(v, a[::-1]), len(a), len(v), mode)[::-1]
    return _middle(_convolve_full(a, v[::-1]), len(a), len(v), mode)


# Polynomials, the highest power first
def polyval(p, x):
    """Value of a polynomial, by Horner's rule."""
    p, x = as_arrays((p, x), LISTS)
    return functools.reduce(lambda y, coefficient: y * x + coefficient, p, x * 0)


def polyadd(a1, a2):
    """Sum of two polynomials."""
    a, b = (np.atleast_1d(a) for a in as_arrays((a1, a2)))
    n = builtins.max(len(a), len(b))
    return pad(a, (n - len(a), 0)) + pad(b, (n - len(b), 0))


def polysub(a1, a2):
    """Difference of two polynomials."""
    return polyadd(a1, np.negative(as_arrays((a2, a1))[0]))


def polymul(a1, a2):
    """Product of two polynomials."""
    return convolve(a1, a2)


def polyder(p, m=1):
    """Derivative of a polynomial, ``m`` times."""
    for _ in range(m):
        p = p[:-1] * np.arange(len(p) - 1, 0, -1, like=raw(p))
    return p


def polyint(p, m=1, k=0):
    """Antiderivative of a polynomial, ``m`` times, with constants ``k``."""
    constants = np.broadcast_to(np.atleast_1d(0 if k is None else k), (m,))
    for constant in constants:
        powers = np.arange(len(p), 0, -1, like=raw(p))
        p = np.concatenate([p / powers, np.asarray([constant], powers.dtype, like=raw(p))])
    return p


def vander(x, N=None, increasing=False):
    """Powers of a vector in columns, the highest first by default."""
    x, n = astype(x, np.result_type(x.dtype, int)), len(x) if N is None else N
    powers = np.arange(n) if increasing else np.arange(n)[::-1]
    return np.stack([x**p for p in powers.tolist()], axis=1)


def polyfit(x, y, deg):
    """Polynomial of degree ``deg`` through points, in the sense of least squares."""
    x, y = as_arrays((x, y))
    columns = vander(x, deg + 1)
    scale = np.sqrt(sum(columns * columns, axis=0))
    fitted = np.linalg.lstsq(columns / scale, y)[0]
    return fitted / (scale if y.ndim == 1 else scale[:, None])


# Grids of numbers between two ends
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    """Numbers at equal distances."""
    start, stop = as_arrays((start, stop), LISTS)
    stop = stop + 0 * start
    steps = num - 1 if endpoint else num
    step = (stop - start) / builtins.max(steps, 1) if steps > 0 else (stop - start) * math.nan
    at = np.arange(num, dtype=step.dtype, like=raw(step))
    y = start + reshape(at, (-1,) + (1,) * step.ndim) * (step if steps > 0 else 0)
    if endpoint and num > 1:
        y = np.concatenate([y[:-1], broadcast_to(stop, step.shape)[None]])
    y = moveaxis(y if dtype is None else astype(y, dtype), 0, axis)
    return (y, step) if retstep else y


def logspace(start, stop, num=50, endpoint=True, base=10.0, dtype=None, axis=0):
    """Numbers whose logarithms are at equal distances."""
    y = base ** linspace(start, stop, num, endpoint, axis=axis)
    return y if dtype is None else astype(y, dtype)


def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    """Numbers of which each is a multiple of the one before, by the same factor."""
    start, stop = (astype(end, np.float64) for end in as_arrays((start, stop)))
    y = start * np.exp(linspace(0 * start, np.log(stop / start), num, endpoint, axis=axis))
    return y if dtype is None else astype(y, dtype)


implements(np, average, ptp, quantile, percentile, median, cov, corrcoef, bincount, diff, ediff1d)
implements(np, trapezoid, gradient, interp, convolve, correlate, polyval, polyadd, polysub)
implements(np, polymul, polyder, polyint, vander, polyfit, linspace, logspace, geomspace)
numpy_functions |= {
    np.nansum: _without_nan(np.sum),
    np.nanprod: _without_nan(np.prod),
    np.nanmean: _without_nan(np.mean),
    np.nanvar: _without_nan(np.var),
    np.nanstd: _without_nan(np.std),
    np.nanmax: _without_nan(np.max, -math.inf),
    np.nanmin: _without_nan(np.min, math.inf),
    np.nanquantile: _quantile_without_nan(quantile),
    np.nanpercentile: _quantile_without_nan(percentile),
    np.nanmedian: _quantile_without_nan(median),
    np.nancumsum: _sums_without_nan(np.cumsum, 0),
    np.nancumprod: _sums_without_nan(np.cumprod, 1),
}
