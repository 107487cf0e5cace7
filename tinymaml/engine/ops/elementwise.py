"""Elementwise rows of the derivative table.

Each row reads: the function, then for every argument the cotangent in terms of ``g``, the cotangent
of the result ``y``. An argument whose name begins with ``_`` is not kept for the walk back.
"""

import math

import numpy as np

from ..tensor import implements, op, raw

LN2, LN10 = math.log(2), math.log(10)

# Arithmetic
positive = op(np.positive, lambda g, _y, _x: g)
negative = op(np.negative, lambda g, _y, _x: -g)
add = op(np.add, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g)
subtract = op(np.subtract, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: -g)
multiply = op(np.multiply, lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a)
divide = op(np.divide, lambda g, _y, _a, b: g / b, lambda g, y, _a, b: -g * y / b)
reciprocal = op(np.reciprocal, lambda g, y, _x: -g * y * y)
square = op(np.square, lambda g, _y, x: g * 2 * x)
sqrt = op(np.sqrt, lambda g, y, _x: g / (2 * y))
cbrt = op(np.cbrt, lambda g, y, _x: g / (3 * y * y))


def _power_base(g, _y, a, b):
    """b a^(b-1), and 0 where a = b = 0: there a^(b-1) is infinite."""
    if isinstance(b, (int, float, np.number)):
        return g * (b * a ** (b - 1)) if b else g * 0
    return g * b * a ** where((a == 0) & (b == 0), 1, b - 1)


def _power_exponent(g, y, a, _b):
    """y log a, and 0 where a = 0 (the limit for b > 0)."""
    if isinstance(a, (int, float)):
        return g * y * float(np.log(a or 1))
    return g * y * log(where(a == 0, 1, a))


power = op(np.power, _power_base, _power_exponent)

# Exponentials and logarithms
exp = op(np.exp, lambda g, y, _x: g * y)
exp2 = op(np.exp2, lambda g, y, _x: g * y * LN2)
expm1 = op(np.expm1, lambda g, y, _x: g * (y + 1))
log = op(np.log, lambda g, _y, x: g / x)
log2 = op(np.log2, lambda g, _y, x: g / (x * LN2))
log10 = op(np.log10, lambda g, _y, x: g / (x * LN10))
log1p = op(np.log1p, lambda g, _y, x: g / (1 + x))
logaddexp = op(np.logaddexp, lambda g, y, a, _b: g * exp(a - y), lambda g, y, _a, b: g * exp(b - y))

# Trigonometry
sin = op(np.sin, lambda g, _y, x: g * cos(x))
cos = op(np.cos, lambda g, _y, x: -g * sin(x))
tan = op(np.tan, lambda g, y, _x: g * (1 + y * y))
arcsin = op(np.arcsin, lambda g, _y, x: g / sqrt(1 - x * x))
arccos = op(np.arccos, lambda g, _y, x: -g / sqrt(1 - x * x))
arctan = op(np.arctan, lambda g, _y, x: g / (1 + x * x))
arctan2 = op(
    np.arctan2,
    lambda g, _y, a, b: g * b / (a * a + b * b),
    lambda g, _y, a, b: -g * a / (a * a + b * b),
)
sinh = op(np.sinh, lambda g, _y, x: g * cosh(x))
cosh = op(np.cosh, lambda g, _y, x: g * sinh(x))
tanh = op(np.tanh, lambda g, y, _x: g * (1 - y * y))
arcsinh = op(np.arcsinh, lambda g, _y, x: g / sqrt(x * x + 1))
arccosh = op(np.arccosh, lambda g, _y, x: g / sqrt(x * x - 1))
arctanh = op(np.arctanh, lambda g, _y, x: g / (1 - x * x))
hypot = op(np.hypot, lambda g, y, a, _b: g * a / y, lambda g, y, _a, b: g * b / y)

# Steps: the derivative is zero wherever there is one.
sign = op(np.sign, lambda g, _y, _x: g * 0)
floor = op(np.floor, lambda g, _y, _x: g * 0)
ceil = op(np.ceil, lambda g, _y, _x: g * 0)
trunc = op(np.trunc, lambda g, _y, _x: g * 0)
rint = op(np.rint, lambda g, _y, _x: g * 0)
_round = op(
    lambda x, *, decimals: np.round(x, decimals), lambda g, _y, _x, **_: g * 0, name="round"
)

# Choices between arguments
absolute = op(np.absolute, lambda g, _y, x: g * sign(x))


def _share(g, chosen, other):
    """The part of g for the argument where ``chosen``; half of it in a tie."""
    return g * (0.5 * ((chosen >= other).astype(g.dtype) + (chosen > other).astype(g.dtype)))


maximum = op(np.maximum, lambda g, _y, a, b: _share(g, a, b), lambda g, _y, a, b: _share(g, b, a))
minimum = op(np.minimum, lambda g, _y, a, b: _share(g, b, a), lambda g, _y, a, b: _share(g, a, b))
where = implements(np.where)(
    op(
        lambda condition, a, b: np.where(condition, a, b),
        None,
        lambda g, _y, condition, _a, _b: where(condition, g, 0),
        lambda g, _y, condition, _a, _b: where(condition, 0, g),
        name="where",
    )
)

# Activations
relu = op(lambda x: np.maximum(x, 0), lambda g, y, _x: g * (y > 0), name="relu")
sigmoid = op(
    # e^x / (1 + e^x) left of 0 and 1 / (1 + e^-x) right of it: no overflow, no cancellation
    lambda x: np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))),
    lambda g, y, _x: g * y * (1 - y),
    name="sigmoid",
)
softplus = op(lambda x: np.logaddexp(x, 0), lambda g, _y, x: g * sigmoid(x), name="softplus")

# Not differentiable: the result is a tensor that requires no gradient.
logic = {
    function.__name__: op(function, *[None] * function.nin)
    for function in (
        *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
        *(np.isfinite, np.isnan, np.isinf, np.signbit),
        *(np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
        *(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert),
    )
}


@implements(np.round, np.around)
def round(x, decimals=0):
    """Round to ``decimals`` decimals; the derivative is zero."""
    return _round(x, decimals=decimals)


@implements(np.clip)
def clip(x, a_min=None, a_max=None, min=None, max=None):
    """Limit ``x`` to [a_min, a_max]; either may be None, a number, an array or a tensor.

    A value on a bound counts as inside, so the whole gradient goes to ``x`` there.
    """
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is not None:
        x = where(raw(x) < raw(low), low, x)  # so that NaN stays
    if high is not None:
        x = where(raw(x) > raw(high), high, x)
    return x


def gelu(x):
    """Gaussian error linear unit in its tanh form, without erf (Hendrycks & Gimpel 2016).

    Examples
    --------
    >>> import numpy as np
    >>> gelu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1588,  0.    ,  0.8412])
    """
    return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
