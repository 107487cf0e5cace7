"""Functions of matrices: inverses, determinants, decompositions. They broadcast over leading axes.

The derivatives are those of Giles 2008, "Collected matrix derivative results", where no other
source is named. A decomposition of several parts is one op that gives them stacked; a function
beside it takes them apart. Where a part has no derivative (eigenvectors of equal eigenvalues, say)
and one is asked for, an error says so.
"""

import math

import numpy as np

from ..numpy_rules import implements
from ..op import as_arrays, op
from ..tensor import raw
from .elementwise import where
from .linalg import mT
from .shape import broadcast_to, concatenate, moveaxis, reshape, tril


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


_cholesky = op(lambda x: np.linalg.cholesky(x), "x", _cholesky_vjp, name="cholesky")


def cholesky(a, *, upper=False):
    """The lower triangle L with L L^T = A, or the upper one, L^T; A is symmetric."""
    return mT(_cholesky(mT(a))) if upper else _cholesky(a)


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


def _pinv_vjp(g, y, x):
    """-P^T g P^T + (I - A P) g^T P P^T + P^T P g^T (I - P A), where the rank stays as it is.

    Golub & Pereyra 1973, "The differentiation of pseudo-inverses and nonlinear least squares".
    """
    pt, gt = mT(y), mT(g)
    left, right = gt @ y @ pt, pt @ y @ gt
    return -(pt @ g @ pt) + left - x @ (y @ left) + right - (right @ y) @ x


_pinv = op(np.linalg.pinv, "x", _pinv_vjp)


def pinv(a, rcond=None, hermitian=False, *, rtol=None):
    """Pseudo-inverse; its derivative holds where no singular value is near the cut."""
    cut = rcond if rtol is None else rtol
    return _pinv(a) if cut is None else _pinv(a, rcond=cut)


def _check_apart(w, cotangent, *, what):
    """Return ``w``, values in order, unless two are equal and ``cotangent`` needs their gap."""
    gap = abs(w[..., 1:] - w[..., :-1])
    near = gap <= 8 * np.finfo(w.dtype).eps * (abs(w[..., :1]) + abs(w[..., -1:]))
    if near.any() and (cotangent != 0).any():
        raise ValueError(
            f"{what} that are equal have vectors without a derivative; use a function of the "
            "values alone, or move them apart"
        )
    return w


_apart = op(_check_apart, "w cotangent", lambda g: g, None, name="apart")


def _inverse_gaps(w):
    """F with F_ij = 1 / (w_j - w_i), and 0 where they are equal (on the diagonal)."""
    gaps = w[..., None, :] - w[..., :, None]
    return where(gaps == 0, 0, 1 / where(gaps == 0, 1, gaps))


def _eigh_vjp(g, y, UPLO="L"):
    """V (diag(g_w) + F * (V^T g_V)) V^T, F_ij = 1 / (w_j - w_i), folded into the triangle read."""
    w, v = y[..., 0, :], y[..., 1:, :]
    gw, gv = g[..., :1, :], g[..., 1:, :]
    inner = _inverse_gaps(_apart(w, gv, what="eigenvalues")) * (mT(v) @ gv)
    s = (v * gw) @ mT(v) + v @ inner @ mT(v)
    s = 0.5 * (s + mT(s))
    s = tril(s) + tril(s, -1)
    return mT(s) if UPLO == "U" else s


def _eigh_forward(x, *, UPLO="L"):
    w, v = np.linalg.eigh(x, UPLO)
    return np.concatenate([w[..., None, :], v], axis=-2)


_eigh = op(_eigh_forward, "x", _eigh_vjp, name="eigh")


def eigh(a, UPLO="L"):
    """Eigenvalues and eigenvectors of a symmetric matrix, of which one triangle is read."""
    y = _eigh(a, UPLO=UPLO)
    return type(np.linalg.eigh(np.eye(1)))(y[..., 0, :], y[..., 1:, :])


def eigvalsh(a, UPLO="L"):
    """Eigenvalues of a symmetric matrix."""
    return eigh(a, UPLO)[0]


def _check_unused(cotangent, *, shape):
    if (cotangent != 0).any():
        raise ValueError(
            "the vectors beyond the rank, which full_matrices=True and mode='complete' add, have "
            "no derivative; take full_matrices=False or mode='reduced'"
        )
    return np.zeros_like(cotangent, shape=shape)


def _beyond_forward(x, *, part):
    m, n = x.shape[-2:]
    if part == "q":
        return np.linalg.qr(x, "complete")[0][..., n:]
    return np.linalg.svd(x)[0][..., n:] if part == "u" else np.linalg.svd(x)[2][..., m:, :]


_unused = op(_check_unused, "cotangent", None, name="unused")
#: The vectors that complete those of a decomposition; they may be there but not be used.
_beyond = op(_beyond_forward, "x", lambda g, x_like: _unused(g, shape=x_like.shape), name="beyond")


def _svd_forward(x):
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return np.concatenate([u, s[..., None, :], vh.swapaxes(-1, -2)], axis=-2)


def _svd_vjp(g, y, x_like):
    """The cotangent of A = U S V^T, U (m, k), V (n, k), F_ij = 1 / (s_j^2 - s_i^2):

    (U (F * [U^T g_U - g_U^T U]) S + (I - U U^T) g_U S^-1) V^T + U g_S V^T
    + U (S (F * [V^T g_V - g_V^T V]) V^T + S^-1 g_V^T (I - V V^T)).

    Townsend 2016, "Differentiating the singular value decomposition".
    """
    m, n = x_like.shape[-2:]
    u, s, v = y[..., :m, :], y[..., m, :], y[..., m + 1 :, :]
    gu, gs, gv = g[..., :m, :], g[..., m : m + 1, :], g[..., m + 1 :, :]
    vectors = concatenate([gu, gv], -2)
    f = _inverse_gaps(_apart(s, vectors, what="singular values") ** 2)
    if m != n:  # a last one of 0 stands for those beyond
        _apart(concatenate([s, 0 * s[..., -1:]], -1), vectors, what="singular values of 0, or")
    row, column = s[..., None, :], s[..., :, None]
    inverse = where(row == 0, 0, 1 / where(row == 0, 1, row))
    uu, vv = mT(u) @ gu, mT(v) @ gv
    left = u @ ((f * (uu - mT(uu))) * row) + (gu - u @ uu) * inverse
    right = mT(f * (vv - mT(vv)) * column)
    return (left + u * gs) @ mT(v) + u @ mT(v @ right + (gv - v @ vv) * inverse)


_svd = op(_svd_forward, "x", _svd_vjp, name="svd")


def svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    """Singular value decomposition of any matrix."""
    m, n = a.shape[-2:]
    y = _svd(a)
    u, s, vh = y[..., :m, :], y[..., m, :], mT(y[..., m + 1 :, :])
    if not compute_uv:
        return s
    if full_matrices and m > n:
        u = concatenate([u, _beyond(a, part="u")], -1)
    elif full_matrices and m < n:
        vh = concatenate([vh, _beyond(a, part="vh")], -2)
    return type(np.linalg.svd(np.eye(1)))(u, s, vh)


def svdvals(x):
    """Singular values, the largest first."""
    return svd(x, compute_uv=False)


def _qr_forward(x):
    q, r = np.linalg.qr(x)
    return np.concatenate([q, r.swapaxes(-1, -2)], axis=-2)


def _qr_vjp(g, y, x_like):
    """(g_Q + Q copyltu(M)) R^-T with M = R g_R^T - g_Q^T Q, for at least as many rows as columns.

    copyltu mirrors the lower triangle. Walter & Lehmann 2010, "Algorithmic differentiation of
    linear algebra functions with application in optimum experimental design".
    """
    m = x_like.shape[-2]
    q, rt, gq, grt = y[..., :m, :], y[..., m:, :], g[..., :m, :], g[..., m:, :]
    inner = mT(rt) @ tril(grt) - mT(gq) @ q
    return mT(_solve(mT(rt), mT(gq + q @ (tril(inner) + mT(tril(inner, -1))))))


_qr = op(_qr_forward, "x", _qr_vjp, name="qr")


def qr(a, mode="reduced"):
    """Orthonormal columns times a triangle; the rank must be full."""
    m, n = a.shape[-2:]
    if mode not in ("reduced", "complete", "r"):
        raise TypeError(f"np.linalg.qr: mode {mode!r} has no derivative; take 'reduced' or 'r'")
    y = _qr(a[..., :m])
    q, r = y[..., :m, :], mT(y[..., m:, :])
    if m < n:  # A = Q [R, Q^T B]
        r = concatenate([r, mT(q) @ a[..., m:]], -1)
    if mode == "complete" and m > n:
        q = concatenate([q, _beyond(a, part="q")], -1)
        r = concatenate([r, np.zeros_like(raw(r), shape=(*a.shape[:-2], m - n, n))], -2)
    return r if mode == "r" else type(np.linalg.qr(np.eye(1)))(q, r)


def lstsq(a, b, rcond=None):
    """Least squares: solution, residuals, rank and singular values; the rank must stay as it is."""
    a, b = as_arrays((a, b))
    (m, n), eps = a.shape, np.finfo(a.dtype).eps
    s = svdvals(a)
    cut = max(m, n) * eps if rcond is None else rcond
    rank = int((raw(s) > cut * raw(s)[0]).sum())
    x = pinv(a, cut) @ b
    residuals = np.sum(np.atleast_1d((b - a @ x) ** 2), axis=0)
    residuals = np.atleast_1d(residuals) if rank == n < m else reshape(residuals, -1)[:0]
    return x, residuals, rank, s


def cond(x, p=None):
    """Condition number: the norm of a matrix times that of its inverse."""
    if p in (None, 2, -2):
        s = svdvals(x)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return np.linalg.matrix_norm(x, ord=p) * np.linalg.matrix_norm(inv(x), ord=p)


def tensorsolve(a, b, axes=None):
    """Solve a tensordot x = b for x."""
    a, b = as_arrays((a, b))
    if axes is not None:
        a = moveaxis(a, axes, range(a.ndim - len(axes), a.ndim))
    lengths = a.shape[b.ndim :]
    return reshape(solve(reshape(a, b.size, -1), reshape(b, -1)), lengths)


def tensorinv(a, ind=2):
    """Inverse for tensordot, whose first ``ind`` axes are the rows."""
    n = math.prod(a.shape[ind:])
    return reshape(inv(reshape(a, -1, n)), a.shape[ind:] + a.shape[:ind])


implements(np.linalg, inv, solve, det, slogdet, cholesky, pinv, eigh, eigvalsh, svd, svdvals, qr)
implements(np.linalg, lstsq, cond, tensorsolve, tensorinv)
