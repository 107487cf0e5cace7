"""Products of all kinds; they broadcast over leading axes as NumPy's do."""

import functools
import math
import string

import numpy as np

from ..numpy_rules import implements, numpy_functions
from ..op import as_arrays, op
from ..tensor import raw
from .elementwise import multiply
from .shape import broadcast_to, diagonal, expand_dims, moveaxis, ravel, reshape, roll, swapaxes


def mT(x):
    """Transpose the last two axes."""
    return swapaxes(x, -1, -2)


def _matmul_forward(a, b, *, at=False, bt=False):
    # a column times a row: NumPy multiplies twice as fast as its BLAS
    one = a.shape[-2 if at else -1] == b.shape[-1 if bt else -2] == 1
    # a matrix that all tasks share: one large product in place of many small ones
    shared = a.ndim > 2 and a.size and a.shape[-2] > 1
    shared = shared and (b.ndim == 2 or b.shape[:-2] == a.shape[:-2])
    shared = shared and not (at or one or any(b.strides[:-2]))
    a = a.swapaxes(-1, -2) if at else a
    b = b.swapaxes(-1, -2) if bt else b
    if shared:
        rows = np.matmul(a.reshape(-1, a.shape[-1]), b[(0,) * (b.ndim - 2)])
        return rows.reshape(*a.shape[:-1], b.shape[-1])
    return np.multiply(a, b) if one else np.matmul(a, b)


#: a @ b over the last two axes, either transposed first if ``at`` or ``bt`` says so; its
#: derivatives are again of this form: (a b)' = g b^T and a^T g.
_matmul = op(
    _matmul_forward,
    "a b",
    lambda g, b, at, bt: _matmul(b, g, at=bt, bt=True) if at else _matmul(g, b, bt=not bt),
    lambda g, a, at, bt: _matmul(g, a, at=True, bt=at) if bt else _matmul(a, g, at=not at),
    name="matmul",
)


def matmul(a, b):
    """Matrix product over the last two axes; vectors as NumPy takes them."""
    if not (hasattr(a, "ndim") and hasattr(b, "ndim")):
        a, b = as_arrays((a, b))
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("matmul takes arrays of at least one axis; use * for numbers")
    if a.ndim > 1 and b.ndim > 1:
        return _matmul(a, b)
    y = _matmul(reshape(a, 1, -1) if a.ndim == 1 else a, reshape(b, -1, 1) if b.ndim == 1 else b)
    rows = () if a.ndim == 1 else y.shape[-2:-1]
    columns = () if b.ndim == 1 else y.shape[-1:]
    return reshape(y, y.shape[:-2] + rows + columns)


def dot(a, b):
    """NumPy's dot: over the last axis of a and the second-to-last (or only) axis of b."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return multiply(a, b)
    a, b = as_arrays((a, b))
    return matmul(a, b) if b.ndim <= 2 else tensordot(a, b, (-1, -2))


def inner(a, b):
    """Sum of products over the last axis of both."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return multiply(a, b)
    return tensordot(a, b, (-1, -1))


def outer(a, b):
    """Every product of an element of a and an element of b."""
    a, b = as_arrays((a, b))
    return multiply(reshape(ravel(a), -1, 1), ravel(b))


def vdot(a, b):
    """Sum of products of all elements."""
    a, b = as_arrays((a, b))
    return matmul(ravel(a), ravel(b))


def tensordot(a, b, axes=2):
    """Sum of products over given axes, or the last ``axes`` of a and the first of b."""
    a, b = as_arrays((a, b))
    if isinstance(axes, (int, np.integer)):
        axes = range(a.ndim - axes, a.ndim), range(axes)
    of_a, of_b = ([i] if isinstance(i, (int, np.integer)) else list(i) for i in axes)
    k = len(of_a)
    a, b = moveaxis(a, of_a, range(a.ndim - k, a.ndim)), moveaxis(b, of_b, range(len(of_b)))
    rows, summed, columns = a.shape[: a.ndim - k], b.shape[:k], b.shape[k:]
    if a.shape[a.ndim - k :] != summed or len(of_b) != k:
        raise ValueError(
            f"tensordot: axes {of_a} and {of_b} differ in their lengths, "
            f"{a.shape[a.ndim - k :]} and {b.shape[: len(of_b)]}"
        )
    m, n, o = map(math.prod, (rows, summed, columns))
    return reshape(_matmul(reshape(a, m, n), reshape(b, n, o)), rows + columns)


def _einsum_vjp(needed, g, arrays, terms, result):
    """The same sum with g in place of one argument; indices that only it has are broadcast."""
    found = []
    for i, (term, x) in enumerate(zip(terms, arrays)):
        if not needed[i]:
            found.append(None)
            continue
        others = terms[:i] + terms[i + 1 :]
        there = set(result).union(*others)
        reached = "".join([c for c in term if c in there])
        partial = _einsum(g, *arrays[:i], *arrays[i + 1 :], terms=(result, *others), result=reached)
        sizes = dict(zip(reached, partial.shape))
        partial = reshape(partial, tuple([sizes.get(c, 1) for c in term]))
        # where x has length 1 the others may have more: the engine sums those
        shape = [sizes[c] if n == 1 and c in there else n for c, n in zip(term, x.shape)]
        found.append(broadcast_to(partial, shape))
    return found


_einsum = op(
    lambda *arrays, terms, result: np.einsum(
        f"{','.join(terms)}->{result}", *arrays, optimize=len(arrays) > 1
    ),
    "*arrays",
    joint=_einsum_vjp,
    name="einsum",
)


def einsum(subscripts, *operands, optimize=True):
    """NumPy's einsum: repeated indices, implicit result, ellipsis; its form in lists too."""
    if not isinstance(subscripts, str):
        lists = (subscripts, *operands)
        result = lists[-1] if len(lists) % 2 else None
        letters = [
            "".join("..." if i is Ellipsis else string.ascii_letters[i] for i in indices)
            for indices in [*lists[1::2], *([] if result is None else [result])]
        ]
        operands = lists[: len(lists) // 2 * 2 : 2]
        subscripts = ",".join(letters[: len(operands)])
        subscripts += "" if result is None else "->" + letters[-1]
    terms, arrow, result = subscripts.replace(" ", "").partition("->")
    terms = terms.split(",")
    if len(terms) != len(operands):
        raise ValueError(
            f"einsum: '{subscripts}' names {len(terms)} operands, {len(operands)} given"
        )
    free = [c for c in string.ascii_letters if c not in subscripts]
    extra = [np.ndim(x) - len(t) + 3 if "..." in t else 0 for t, x in zip(terms, operands)]
    dots = "".join(free[: max(extra)])
    if arrow and dots and "..." not in result:
        raise ValueError(f"einsum: the result of '{subscripts}' lacks the ellipsis of its operands")
    if not arrow:
        letters = "".join(terms).replace(".", "")
        result = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    pairs = [
        _take_diagonals(t.replace("...", dots[len(dots) - n :]), x)
        for t, x, n in zip(terms, operands, extra)
    ]
    return _einsum(
        *[x for _, x in pairs],
        terms=tuple([t for t, _ in pairs]),
        result=result.replace("...", dots),
    )


def _take_diagonals(term, x):
    """Return a term without repeated indices, and the diagonals of x that it stands for."""
    for letter in dict.fromkeys(term):
        while term.count(letter) > 1:
            first = term.index(letter)
            second = term.index(letter, first + 1)
            x = diagonal(x, axis1=first, axis2=second)
            term = term[:first] + term[first + 1 : second] + term[second + 1 :] + letter
    return term, x


def kron(a, b):
    """Kronecker product."""
    a, b = as_arrays((a, b))
    ndim = max(a.ndim, b.ndim)
    a, b = (reshape(x, (1,) * (ndim - x.ndim) + x.shape) for x in (a, b))
    product = multiply(
        expand_dims(a, tuple(range(1, 2 * ndim, 2))), expand_dims(b, tuple(range(0, 2 * ndim, 2)))
    )
    return reshape(product, tuple([m * n for m, n in zip(a.shape, b.shape)]))


def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """Cross product of vectors of length 3."""
    a, b = as_arrays((a, b))
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    if a.shape[axisa] != 3 or b.shape[axisb] != 3:
        raise ValueError(f"cross takes vectors of length 3, given shapes {a.shape} and {b.shape}")
    a, b = moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)
    product = roll(a, -1, -1) * roll(b, 1, -1) - roll(a, 1, -1) * roll(b, -1, -1)
    return moveaxis(product, -1, axisc)


def vecdot(a, b, axis=-1):
    """Sum of products of vectors."""
    a, b = as_arrays((a, b))
    return matmul(moveaxis(a, axis, -1)[..., None, :], moveaxis(b, axis, -1)[..., None])[..., 0, 0]


def matvec(a, b):
    """Matrices times vectors."""
    a, b = as_arrays((a, b))
    return matmul(a, b[..., None])[..., 0]


def vecmat(a, b):
    """Vectors times matrices."""
    a, b = as_arrays((a, b))
    return matmul(a[..., None, :], b)[..., 0, :]


def matrix_power(a, n):
    """A matrix times itself, n times; a negative n takes the inverse."""
    if n < 0:
        a, n = np.linalg.inv(a), -n
    if n == 0:
        return 0 * a + np.identity(a.shape[-1], dtype=a.dtype, like=raw(a))
    half = matrix_power(a, n // 2) if n > 1 else None
    return a if n == 1 else matmul(half, half) if n % 2 == 0 else matmul(matmul(half, half), a)


def multi_dot(arrays):
    """Product of several matrices, of which the first and the last may be vectors."""
    return functools.reduce(dot, as_arrays(arrays))


def _linear(x, weight, bias):
    fits = bias.ndim == 1 or bias.shape[:-1] == x.shape[:-2]
    y = _matmul_forward(x, weight)
    if not (fits and x.dtype == weight.dtype == bias.dtype):
        return y + bias[..., None, :]
    y += bias[..., None, :]
    return y


#: x @ weight + bias, (n,i),(i,o),(o)->(n,o), in one pass
linear = op(
    _linear,
    "x weight bias",
    lambda g, weight: _matmul(g, weight, bt=True),
    lambda g, x: _matmul(x, g, at=True),
    lambda g: sum_rows(g),
)

#: The sum over the second-to-last axis; a product with ones is three times as fast as NumPy's sum.
sum_rows = op(
    lambda x: np.ones_like(x, shape=x.shape[-2:-1]) @ x,
    "x",
    lambda g, x_like: broadcast_to(reshape(g, (*g.shape[:-1], 1, g.shape[-1])), x_like.shape),
    name="sum_rows",
)


def sum_batch(g, core):
    """Sum (*lead, *batch, c), of which ``core`` axes are no lead, over the batch: (*lead, c)."""
    lead, batch = g.shape[: g.ndim - core], math.prod(g.shape[g.ndim - core : -1])
    return sum_rows(reshape(g, (*lead, batch, g.shape[-1])))


implements(np, matmul, dot, inner, outer, vdot, tensordot, einsum, kron, cross)
implements(np.linalg, matmul, tensordot, vecdot, matrix_power, multi_dot, outer)
implements(np, vecdot, matvec, vecmat)
numpy_functions |= {
    np.matrix_transpose: mT,
    np.linalg.matrix_transpose: mT,
    np.linalg.cross: lambda a, b, *, axis=-1: cross(a, b, axis=axis),
    np.linalg.diagonal: lambda x, *, offset=0: diagonal(x, offset, -2, -1),
    np.linalg.trace: lambda x, *, offset=0: diagonal(x, offset, -2, -1).sum(axis=-1),
}
