"""Functions of matrices: inverse, determinant, Cholesky. They broadcast over leading axes.

The derivatives are those of Giles 2008, "Collected matrix derivative results".
"""

import numpy as np

from ..numpy_rules import implements
from ..op import as_arrays, op
from ..tensor import raw
from .linalg import mT
from .shape import broadcast_to, reshape, tril


def _of_matrices(g):
    """Return one number for each matrix, (...), as (..., 1, 1)."""
    return reshape(g, (*g.shape, 1, 1))


inv = op(np.linalg.inv, "x", lambda g, y: -(mT(y) @ g @ mT(y)))
_solve = op(
    np.linalg.solve,
    "a b",
    lambda g, y, a: -(_solve(mT(a), g) @ mT(y)),
    lambda g, a: _solve(mT(a), g),
)
det = op(np.linalg.det, "x", lambda g, y, x: _of_matrices(g * y) * mT(inv(x)))
_logabsdet = op(
    lambda x: np.linalg.slogdet(x)[1],
    "x",
    lambda g, x: _of_matrices(g) * mT(inv(x)),
    name="logabsdet",
)
_sign_of_det = op(lambda x: np.linalg.slogdet(x)[0], "x", None, name="sign_of_det")


def _cholesky_vjp(g, y):
    """L^-T Phi(L^T g) L^-1, symmetric; Phi takes the lower triangle and half the diagonal."""
    phi = tril(mT(y) @ tril(g))
    phi = phi - 0.5 * phi * np.identity(y.shape[-1], dtype=y.dtype, like=raw(y))
    s = _solve(mT(y), mT(_solve(mT(y), mT(phi))))
    return 0.5 * (s + mT(s))


cholesky = op(lambda x: np.linalg.cholesky(x), "x", _cholesky_vjp, name="cholesky")


def solve(a, b):
    """Solve a x = b for x; b is a vector or a stack of matrices, as in NumPy 2."""
    a, b = as_arrays((a, b))
    if b.ndim == 1:
        y = solve(a, reshape(b, -1, 1))
        return reshape(y, y.shape[:-1])
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # CuPy leaves this to its caller
    return _solve(broadcast_to(a, lead + a.shape[-2:]), broadcast_to(b, lead + b.shape[-2:]))


def slogdet(x):
    """Sign (no derivative) and logarithm of the absolute value of the determinant."""
    return type(np.linalg.slogdet(np.eye(1)))(_sign_of_det(x), _logabsdet(x))


implements(np.linalg, inv, solve, det, slogdet, cholesky)
