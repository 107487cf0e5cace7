"""Rows of linear algebra: products of all kinds, and functions of matrices.

All broadcast over leading axes as NumPy's do.
"""

import math
import string

import numpy as np

from ..tensor import Tensor, as_arrays, implements, op, raw
from .elementwise import multiply
from .shape import (
    broadcast_to,
    diagonal,
    expand_dims,
    getitem,
    moveaxis,
    ravel,
    reshape,
    swapaxes,
    tril,
)


def mT(x):
    """Transpose the last two axes."""
    return swapaxes(x, -1, -2)


def _matmul_forward(a, b, *, at=False, bt=False):
    a = a.swapaxes(-1, -2) if at else a
    b = b.swapaxes(-1, -2) if bt else b
    # a column times a row: NumPy multiplies twice as fast as its BLAS
    return np.multiply(a, b) if a.shape[-1] == b.shape[-2] == 1 else np.matmul(a, b)


#: a @ b over the last two axes, either transposed first if ``at`` or ``bt`` says so; its
#: derivatives are again of this form: (a b)' = g b^T and a^T g.
_matmul = op(
    _matmul_forward,
    lambda g, _y, _a, b, at=False, bt=False: (
        _matmul(b, g, at=bt, bt=True) if at else _matmul(g, b, bt=not bt)
    ),
    lambda g, _y, a, _b, at=False, bt=False: (
        _matmul(g, a, at=True, bt=at) if bt else _matmul(a, g, at=not at)
    ),
    name="matmul",
)


@implements(np.matmul)
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


@implements(np.dot)
def dot(a, b):
    """NumPy's dot: over the last axis of a and the second-to-last (or only) axis of b."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return multiply(a, b)
    a, b = as_arrays((a, b))
    if b.ndim <= 2:
        return matmul(a, b)
    return tensordot(a, b, (-1, -2))


@implements(np.inner)
def inner(a, b):
    """Sum of products over the last axis of both."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return multiply(a, b)
    return tensordot(a, b, (-1, -1))


@implements(np.outer)
def outer(a, b):
    """Every product of an element of a and an element of b."""
    a, b = as_arrays((a, b))
    return multiply(reshape(ravel(a), -1, 1), ravel(b))


@implements(np.vdot)
def vdot(a, b):
    """Sum of products of all elements."""
    a, b = as_arrays((a, b))
    return matmul(ravel(a), ravel(b))


@implements(np.tensordot)
def tensordot(a, b, axes=2):
    """Sum of products over given axes, or the last ``axes`` of a and the first of b."""
    a, b = as_arrays((a, b))
    if isinstance(axes, (int, np.integer)):
        of_a, of_b = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        of_a, of_b = ([i] if isinstance(i, (int, np.integer)) else list(i) for i in axes)
    of_a, of_b = [i % a.ndim for i in of_a], [i % b.ndim for i in of_b]
    summed = [a.shape[i] for i in of_a]
    if summed != [b.shape[i] for i in of_b]:
        raise ValueError(
            f"tensordot: shapes {a.shape} and {b.shape} differ along axes {of_a} and {of_b}"
        )
    rest_a = [i for i in range(a.ndim) if i not in of_a]
    rest_b = [i for i in range(b.ndim) if i not in of_b]
    n = math.prod(summed)
    a_shape, b_shape = [a.shape[i] for i in rest_a], [b.shape[i] for i in rest_b]
    left = reshape(np.transpose(a, tuple(rest_a + of_a)), math.prod(a_shape), n)
    right = reshape(np.transpose(b, tuple(of_b + rest_b)), n, math.prod(b_shape))
    return reshape(_matmul(left, right), (*a_shape, *b_shape))


def _einsum_vjp(needed, g, _y, *args, terms, result):
    """The same sum with g in place of one argument; indices that only it has are broadcast."""
    found = []
    for i, (term, x) in enumerate(zip(terms, args)):
        if not needed[i]:
            found.append(None)
            continue
        others = terms[:i] + terms[i + 1 :]
        there = set(result).union(*others)
        reached = "".join([c for c in term if c in there])
        partial = _einsum(g, *args[:i], *args[i + 1 :], terms=(result, *others), result=reached)
        partial = reshape(partial, tuple([_size(partial, reached, c) for c in term]))
        found.append(
            broadcast_to(
                partial,  # where x has length 1 the others may have more: the engine sums those
                [
                    m if n == 1 and c in there else n
                    for c, m, n in zip(term, partial.shape, x.shape)
                ],
            )
        )
    return found


def _size(x, term, letter):
    return x.shape[term.index(letter)] if letter in term else 1


_einsum = op(
    lambda *arrays, terms, result: np.einsum(
        f"{','.join(terms)}->{result}", *arrays, optimize=len(arrays) > 1
    ),
    joint=_einsum_vjp,
    name="einsum",
)


@implements(np.einsum)
def einsum(subscripts, *operands, optimize=True):
    """NumPy's einsum in its string form: repeated indices, implicit result, ellipsis."""
    if not isinstance(subscripts, str):
        raise TypeError("np.einsum on tensors takes its subscripts as a string, such as 'ij,jk'")
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


@implements(np.kron)
def kron(a, b):
    """Kronecker product."""
    a, b = as_arrays((a, b))
    ndim = max(a.ndim, b.ndim)
    a, b = (reshape(x, (1,) * (ndim - x.ndim) + x.shape) for x in (a, b))
    product = multiply(
        expand_dims(a, tuple(range(1, 2 * ndim, 2))), expand_dims(b, tuple(range(0, 2 * ndim, 2)))
    )
    return reshape(product, tuple([m * n for m, n in zip(a.shape, b.shape)]))


@implements(np.cross)
def cross(a, b, axis=-1):
    """Cross product of vectors of length 3 along ``axis``."""
    a, b = as_arrays((a, b))
    if a.shape[axis] != 3 or b.shape[axis] != 3:
        raise ValueError(f"cross takes vectors of length 3, given shapes {a.shape} and {b.shape}")
    a, b = moveaxis(a, axis, -1), moveaxis(b, axis, -1)
    after, before = [1, 2, 0], [2, 0, 1]
    product = _last(a, after) * _last(b, before) - _last(a, before) * _last(b, after)
    return moveaxis(product, -1, axis)


def _last(x, order):
    return getitem(x, (Ellipsis, order))


# Functions of matrices. Sources: Giles 2008, "Collected matrix derivative results".
inv = implements(np.linalg.inv)(
    op(np.linalg.inv, lambda g, y, _x: -(mT(y) @ g @ mT(y)), name="inv")
)
_solve = op(
    np.linalg.solve,
    lambda g, y, a, _b: -(_solve(mT(a), g) @ mT(y)),
    lambda g, _y, a, _b: _solve(mT(a), g),
    name="solve",
)
_det = op(
    np.linalg.det,
    lambda g, y, x: reshape(g * y, (*g.shape, 1, 1)) * mT(inv(x)),
    name="det",
)
_logabsdet = op(
    lambda x: np.linalg.slogdet(x)[1],
    lambda g, _y, x: reshape(g, (*g.shape, 1, 1)) * mT(inv(x)),
    name="logabsdet",
)


def _cholesky_vjp(g, y, _x):
    """L^-T Phi(L^T g) L^-1, symmetric; Phi takes the lower triangle and half the diagonal."""
    phi = tril(mT(y) @ tril(g))
    phi = phi - 0.5 * phi * np.identity(y.shape[-1], dtype=y.dtype, like=raw(y))
    s = _solve(mT(y), mT(_solve(mT(y), mT(phi))))
    return 0.5 * (s + mT(s))


cholesky = implements(np.linalg.cholesky)(op(np.linalg.cholesky, _cholesky_vjp, name="cholesky"))


@implements(np.linalg.solve)
def solve(a, b):
    """Solve a x = b for x; b is a vector or a stack of matrices, as in NumPy 2."""
    a, b = as_arrays((a, b))
    if b.ndim == 1:
        y = solve(a, reshape(b, -1, 1))
        return reshape(y, y.shape[:-1])
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # CuPy leaves this to its caller
    return _solve(broadcast_to(a, lead + a.shape[-2:]), broadcast_to(b, lead + b.shape[-2:]))


@implements(np.linalg.det)
def det(x):
    """Determinant; its derivative needs an invertible matrix."""
    return _det(x)


@implements(np.linalg.slogdet)
def slogdet(x):
    """Sign (no derivative) and logarithm of the absolute value of the determinant."""
    sign, _ = np.linalg.slogdet(raw(x))
    result = type(np.linalg.slogdet(np.eye(1)))
    return result(Tensor(np.asarray(sign, like=raw(x))), _logabsdet(x))


def _linear_forward(x, weight, bias):
    bias = bias[..., None, :]
    y = _matmul_forward(x, weight)
    if bias.dtype != y.dtype or (bias.ndim > 2 and bias.shape[:-2] != y.shape[:-2]):
        return y + bias
    y += bias
    return y


#: x @ weight + bias, (n,i),(i,o),(o)->(n,o), in one pass
linear = op(
    _linear_forward,
    lambda g, _y, _x, weight, _bias: _matmul(g, weight, bt=True),
    lambda g, _y, x, _weight, _bias: _matmul(x, g, at=True),
    lambda g, _y, _x, _weight, _bias: sum_rows(g),
    name="linear",
)

#: The sum over the second-to-last axis; a product with ones is three times as fast as NumPy's sum.
sum_rows = op(
    lambda x: np.ones_like(x, shape=x.shape[-2:-1]) @ x,
    lambda g, _y, _x: broadcast_to(reshape(g, (*g.shape[:-1], 1, g.shape[-1])), _x.shape),
    name="sum_rows",
)


def sum_batch(g, core):
    """Sum (*lead, *batch, c), of which ``core`` axes are no lead, over the batch: (*lead, c)."""
    lead, batch = g.shape[: g.ndim - core], math.prod(g.shape[g.ndim - core : -1])
    return sum_rows(reshape(g, (*lead, batch, g.shape[-1])))
