"""Rows of NumPy's rarer ufuncs; the methods ``reduce``, ``accumulate`` and ``outer`` of all."""

import functools
import itertools
import math

import numpy as np

from ..numpy_rules import implements, numpy_functions
from ..op import as_arrays, op, table
from ..tensor import raw
from .elementwise import _nothing, absolute, arctan2, power, trunc, where
from .shape import astype, expand_dims, moveaxis, ravel, reshape, stack

# Remainders: a - b n, where n is a step whose derivative is zero wherever there is one.
remainder = op(np.remainder, "a b", lambda g: g, lambda g, a, b: -g * np.floor_divide(a, b))
fmod = op(np.fmod, "a b", lambda g: g, lambda g, a, b: -g * np.trunc(a / b))
floor_divide = op(np.floor_divide, "a b", _nothing, _nothing)
heaviside = op(np.heaviside, "a b", _nothing, lambda g, a: where(a == 0, g, 0))

# Scales and signs
_degree = math.pi / 180
deg2rad = op(np.deg2rad, "x", lambda g: g * _degree)
radians = op(np.radians, "x", lambda g: g * _degree)
rad2deg = op(np.rad2deg, "x", lambda g: g / _degree)
degrees = op(np.degrees, "x", lambda g: g / _degree)
fabs = op(np.fabs, "x", lambda g, x: g * np.sign(x))
ldexp = op(np.ldexp, "x n", lambda g, n: ldexp(g, n), None)
copysign = op(np.copysign, "a b", lambda g, a, y: g * np.sign(a) * np.sign(y), _nothing)
_exponent = op(lambda x: np.frexp(x)[1], "x", None, name="exponent")
unwrap = op(np.unwrap, "x", lambda g: g)  # whole periods are added
logaddexp2 = op(
    np.logaddexp2,
    "a b",
    lambda g, y, a: g * np.exp2(a - y),
    lambda g, y, b: g * np.exp2(b - y),
)


def _chosen(largest):
    """Return the cotangents of fmax (fmin): a number is chosen before NaN; a tie is shared."""

    def share(g, chosen, other):
        better, equal = (chosen > other) if largest else (chosen < other), chosen == other
        return where(better | np.isnan(other), g, 0) + where(equal, 0.5 * g, 0)

    return lambda g, a, b: share(g, a, b), lambda g, a, b: share(g, b, a)


fmax = op(np.fmax, "a b", *_chosen(True))
fmin = op(np.fmin, "a b", *_chosen(False))


def divmod(a, b):
    """Quotient, rounded down, and remainder."""
    return floor_divide(a, b), remainder(a, b)


def modf(x):
    """Fraction and whole part, both with the sign of x."""
    whole = trunc(x)
    return x - whole, whole


def frexp(x):
    """Mantissa and (without derivative) exponent of 2."""
    n = _exponent(x)
    return ldexp(x, -n), n


def float_power(a, b):
    """Power in double precision."""
    a, b = as_arrays((a, b))
    return power(*[astype(x, np.result_type(x.dtype, np.float64)) for x in (a, b)])


def sinc(x):
    """sin(pi x) / (pi x); near 0 by its series, so that the derivatives are right there too."""
    u = math.pi * x
    near = absolute(u) < 0.05
    v, w = where(near, u, 0) ** 2, where(near, 1, u)
    series = 1 - v / 6 * (1 - v / 20 * (1 - v / 42 * (1 - v / 72 * (1 - v / 110))))
    return where(near, series, np.sin(w) / w)


def _i1(x):
    """Mean of cos(t) exp(x cos(t)), the derivative of I0 (Abramowitz & Stegun 1964, 9.6.19).

    Over n equal steps of t the error is of the size of I_n(x).
    """
    n = 48 + 9 * int(math.sqrt(np.abs(raw(x)).max() if x.size else 0))
    cosines = np.cos(np.arange(n, like=raw(x)) * (2 * math.pi / n)).astype(x.dtype)
    return np.mean(cosines * np.exp(x[..., None] * cosines), axis=-1)


i0 = op(lambda x: np.i0(x).reshape(x.shape), "x", lambda g, x: g * _i1(x), name="i0")


def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    """Put numbers in place of NaN and the infinities; the derivative is 0 there."""
    limits = np.finfo(x.dtype) if x.dtype.kind == "f" else np.iinfo(x.dtype)
    for where_it_is, value in (
        (np.isnan(x), nan),
        (x == math.inf, limits.max if posinf is None else posinf),
        (x == -math.inf, limits.min if neginf is None else neginf),
    ):
        x = where(where_it_is, value, x)
    return x


# Real numbers as complex ones.
def real(x):
    """The tensor itself: tensors are real."""
    return x


def imag(x):
    """Zeros: tensors are real."""
    return np.zeros_like(x)


def real_if_close(x, tol=100):
    """The tensor itself: tensors are real."""
    return x


def angle(z, deg=False):
    """0 for a positive number, pi (180 degrees) for a negative one."""
    turned = arctan2(imag(z), z)
    return rad2deg(turned) if deg else turned


# Methods of ufuncs. The rows of a reduction or a scan are combined one by one.
def _rows(x, axis):
    return list(moveaxis(x, axis, 0))


def _reduce(function, x, axis=0, dtype=None, *, keepdims=False, initial=None, where=True):
    if where is not True:
        raise TypeError("a ufunc's reduce of tensors does not take where=; choose by np.where")
    x = x if dtype is None else astype(x, dtype)
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = sorted(a % x.ndim for a in axes)
    if keepdims:
        y = _reduce(function, x, axis, initial=initial)
        return expand_dims(y, tuple(axes))
    for a in reversed(axes):
        x = functools.reduce(function, _rows(x, a))
    return x if initial is None else function(initial, x)


def _accumulate(function, x, axis=0, dtype=None):
    x = x if dtype is None else astype(x, dtype)
    rows = list(itertools.accumulate(_rows(x, axis), function))
    return stack(rows, axis) if rows else x


def _reduceat(function, x, indices, axis=0, dtype=None):
    x = moveaxis(x if dtype is None else astype(x, dtype), axis, 0)
    starts = [int(i) for i in indices]
    ends = [*starts[1:], len(x)]
    parts = [_reduce(function, x[i : max(j, i + 1)]) for i, j in zip(starts, ends)]
    return stack(parts, axis)


def _outer(function, a, b):
    a, b = as_arrays((a, b))
    return function(reshape(a, a.shape + (1,) * b.ndim), b)


def cumprod(x, axis=None, dtype=None):
    """Product of all elements so far; right where some are 0, to every order."""
    x, axis = (ravel(x), 0) if axis is None else (x, axis)
    return _accumulate(np.multiply, x, axis, dtype)


implements(np, divmod, modf, frexp, float_power, sinc, nan_to_num, real, imag, real_if_close)
implements(np, angle, unwrap, cumprod, i0)
numpy_functions |= {row.forward: row for row in table.values() if isinstance(row.forward, np.ufunc)}
numpy_functions |= {
    np.conjugate: real,
    np.divmod: divmod,
    np.modf: modf,
    np.frexp: frexp,
    np.fix: trunc,
}
numpy_functions |= {"reduce": _reduce, "accumulate": _accumulate}
numpy_functions |= {"reduceat": _reduceat, "outer": _outer}
