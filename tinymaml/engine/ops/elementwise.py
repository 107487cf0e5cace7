"""Elementwise rows of the derivative table.

Each row reads: the function, then for every argument the cotangent in terms of ``g``, the cotangent
of the result ``y``. What a cotangent names is kept for the walk back, and nothing else.
"""

import math

import numpy as np

from ..numpy_rules import implements, numpy_functions
from ..op import op, table

LN2, LN10 = math.log(2), math.log(10)

# Arithmetic
positive = op(np.positive, "x", lambda g: g)
negative = op(np.negative, "x", lambda g: -g)
add = op(np.add, "a b", lambda g: g, lambda g: g)
subtract = op(np.subtract, "a b", lambda g: g, lambda g: -g)
multiply = op(np.multiply, "a b", lambda g, b: g * b, lambda g, a: g * a)
divide = op(np.divide, "a b", lambda g, b: _over(g, b), lambda g, a, b: -_over(_over(g * a, b), b))
reciprocal = op(np.reciprocal, "x", lambda g, x: -_over(_over(g, x), x))
square = op(np.square, "x", lambda g, x: g * 2 * x)
sqrt = op(np.sqrt, "x", lambda g, y: _over(g, 2 * y))
cbrt = op(np.cbrt, "x", lambda g, y: _over(g, 3 * y * y))

# What a mask has cut off stays out where its derivative is infinite: 0 * inf and 0 / 0 are NaN.
ratio = op(
    lambda a, b: a / np.where(a == 0, 1, b),
    "a b",
    lambda g, b: ratio(g, b),
    lambda g, a, b: -ratio(ratio(g * a, b), b),
    name="ratio",
)


def _over(g, b):
    """g / b, and 0 where g is 0, whatever b is."""
    return g / b if type(b) in (int, float) else ratio(g, b)


_BITS = {size: np.dtype(f"i{size}") for size in (2, 4, 8)}


def _keep(x, chosen):
    # np.where is several times slower on a mask without a pattern: it has to guess every branch
    bits = _BITS.get(x.itemsize) if type(x) is np.ndarray else None
    if bits is None:
        return np.where(chosen, x, 0)
    return (x.view(bits) * chosen.astype(bits)).view(
        x.dtype
    )  # inf * 0 is NaN, but its bits * 0 are those of 0


#: x where ``by``, of the same shape, is positive, and 0 elsewhere.
keep = op(lambda x, by: _keep(x, by > 0), "x by", lambda g, by: keep(g, by), None, name="keep")


def _power_base(g, a, b):
    """b a^(b-1); for b < 1 as a quotient, which is 0 where g or b is 0 and a^(b-1) is infinite."""
    if isinstance(b, (int, float, np.number)):
        if not b:
            return _nothing(g)
        if b == 2:  # a GPU's power of 1 is not always exact, nor for free
            return g * (b * a)
        return g * (b * a ** (b - 1)) if b >= 1 else ratio(g * b, a ** (1 - b))
    low = b < 1
    size = a ** where(low, 1 - b, b - 1)
    return where(low, ratio(g * b, where(low, size, 1)), g * b * size)


def _power_exponent(g, y, a):
    """y log a, and 0 where a = 0 (the limit for b > 0)."""
    if isinstance(a, (int, float)):
        return g * y * float(np.log(a or 1))
    return g * y * log(where(a == 0, 1, a))


power = op(np.power, "a b", _power_base, _power_exponent)

# Exponentials and logarithms
exp = op(np.exp, "x", lambda g, y: g * y)
exp2 = op(np.exp2, "x", lambda g, y: g * y * LN2)
expm1 = op(np.expm1, "x", lambda g, y: g * (y + 1))
log = op(np.log, "x", lambda g, x: _over(g, x))
log2 = op(np.log2, "x", lambda g, x: _over(g, x * LN2))
log10 = op(np.log10, "x", lambda g, x: _over(g, x * LN10))
log1p = op(np.log1p, "x", lambda g, x: _over(g, 1 + x))
logaddexp = op(np.logaddexp, "a b", lambda g, y, a: g * exp(a - y), lambda g, y, b: g * exp(b - y))

# Trigonometry
sin = op(np.sin, "x", lambda g, x: g * cos(x))
cos = op(np.cos, "x", lambda g, x: -g * sin(x))
tan = op(np.tan, "x", lambda g, y: g * (1 + y * y))
arcsin = op(np.arcsin, "x", lambda g, x: _over(g, sqrt(1 - x * x)))
arccos = op(np.arccos, "x", lambda g, x: -_over(g, sqrt(1 - x * x)))
arctan = op(np.arctan, "x", lambda g, x: g / (1 + x * x))
arctan2 = op(
    np.arctan2,
    "a b",
    lambda g, a, b: g * b / (a * a + b * b),
    lambda g, a, b: -g * a / (a * a + b * b),
)
sinh = op(np.sinh, "x", lambda g, x: g * cosh(x))
cosh = op(np.cosh, "x", lambda g, x: g * sinh(x))
tanh = op(np.tanh, "x", lambda g, y: g * (1 - y * y))
arcsinh = op(np.arcsinh, "x", lambda g, x: g / sqrt(x * x + 1))
arccosh = op(np.arccosh, "x", lambda g, x: _over(g, sqrt(x * x - 1)))
arctanh = op(np.arctanh, "x", lambda g, x: _over(g, 1 - x * x))
hypot = op(np.hypot, "a b", lambda g, y, a: _over(g * a, y), lambda g, y, b: _over(g * b, y))


# Steps: the derivative is zero wherever there is one.
def _nothing(g):
    return keep(g, np.zeros_like(g))  # rather than g * 0, which is NaN if g is infinite


sign = op(np.sign, "x", _nothing)
floor = op(np.floor, "x", _nothing)
ceil = op(np.ceil, "x", _nothing)
trunc = op(np.trunc, "x", _nothing)
rint = op(np.rint, "x", _nothing)
round = op(lambda x, decimals=0: np.round(x, decimals), "x", _nothing, name="round")

# Choices between arguments
absolute = op(np.absolute, "x", lambda g, x: g * sign(x))


def _share(g, chosen, other):
    """The part of g for the argument where ``chosen``; half of it in a tie."""
    return where(chosen > other, g, where(chosen == other, 0.5 * g, 0))


maximum = op(np.maximum, "a b", lambda g, a, b: _share(g, a, b), lambda g, a, b: _share(g, b, a))
minimum = op(np.minimum, "a b", lambda g, a, b: _share(g, b, a), lambda g, a, b: _share(g, a, b))
where = op(
    lambda condition, a, b: np.where(condition, a, b),
    "condition a b",
    None,
    lambda g, condition: where(condition, g, 0),
    lambda g, condition: where(condition, 0, g),
    name="where",
)


# Activations
def _sigmoid(x):
    # e^x / (1 + e^x) left of 0 and 1 / (1 + e^-x) right of it: no overflow, no cancellation
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


sigmoid = op(_sigmoid, "x", lambda g, y: g * y * (1 - y))


def _relu(x):
    # NumPy compares two small arrays four times as fast as an array with a number
    return np.maximum(x, np.zeros_like(x) if x.size < 1 << 16 else 0)


relu = op(_relu, "x", lambda g, y: keep(g, y))
elu = op(
    lambda x: np.maximum(x, np.expm1(np.minimum(x, 0))),
    "x",
    lambda g, y: g * (minimum(y, 0) + 1),  # e^x = y + 1 left of 0 (Clevert et al. 2016, alpha = 1)
    name="elu",
)
softplus = op(lambda x: np.logaddexp(x, 0), "x", lambda g, x: g * sigmoid(x), name="softplus")

# Not differentiable: the result is a tensor that requires no gradient.
logic = {
    function.__name__: op(function, "a b" if function.nin == 2 else "x", *[None] * function.nin)
    for function in (
        *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
        *(np.isfinite, np.isnan, np.isinf, np.signbit),
        *(np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
        *(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert),
    )
}


def clip(x, a_min=None, a_max=None, min=None, max=None):
    """Limit ``x`` to [a_min, a_max]; either may be None, a number, an array or a tensor.

    A value on a bound counts as inside, so the whole gradient goes to ``x`` there.
    """
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is not None:
        x = where(logic["less"](x, low), low, x)  # so that NaN stays
    if high is not None:
        x = where(logic["greater"](x, high), high, x)
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


implements(np, where, round, clip)
numpy_functions[np.around] = round
numpy_functions |= {row.forward: row for row in table.values() if isinstance(row.forward, np.ufunc)}
