"""Batch normalisation, fused.

With x^ = (x - mean(x)) s, s = (var(x) + eps)^(-1/2), means over the batch, per task and channel:

    y             = gamma x^ + beta
    B(g, x, gamma) = gamma s (g - mean(g) - x^ mean(g x^))         the cotangent of x
    B is linear in g and its own transpose, and along u its derivative with respect to x is
    D(u, g, x, gamma) = -gamma s^2 (x^ (cov(u, g) - 3 m_u m_g)
                                     + m_g (u - mean(u)) + m_u (g - mean(g)))
    where m_u = mean(u x^), m_g = mean(g x^), cov(u, g) = mean(u g) - mean(u) mean(g).

Each is fused into two passes over memory. Every derivative goes through x itself: the statistics
are functions of x, never constants, which is what makes the second order right.
"""

import math

import numpy as np

from ..tensor import Tensor, op
from .blocks import blocks, task_axis
from .elementwise import sqrt
from .linalg import sum_batch
from .reduction import mean, sum
from .shape import astype, reshape, same_dtype

#: Bytes of a block: the few arrays that a pass goes through then stay in a core's own cache.
NORM_BLOCK = 1 << 20


class _Folded:
    """Arrays (*lead, *batch, c) viewed as (tasks, rows, fold * c), and passes over them.

    NumPy's loops run over the last axis, and one of a few dozen channels is too short for them to
    be fast; so several rows of the batch are viewed as one. Per-channel numbers are (tasks, 1, c).
    """

    def __init__(self, shape, core, dtype, like):
        self.lead, self.c = shape[: len(shape) - core], shape[-1]
        self.n = math.prod(shape[len(shape) - core : -1])
        self.tasks = math.prod(self.lead)
        fit = max(1, 1024 // self.c)
        self.fold = next(f for f in range(fit, 0, -1) if self.n % f == 0)
        self.shape, self.core, self.dtype, self.like = shape, core, dtype, like
        rows, width = self.n // self.fold, self.fold * self.c
        self.blocks = blocks(like, self.tasks, rows, width, NORM_BLOCK)
        self.ones = np.ones_like(like, dtype, shape=(1, rows))

    def view(self, a):
        """Return an array of the batch as (tasks, rows, fold * c)."""
        a = np.ascontiguousarray(task_axis(self.lead, a, self.core), like=a)
        return a.reshape(self.tasks, self.n // self.fold, self.fold * self.c)

    def channels(self, a):
        """Return numbers per channel, (*lead, c), as (tasks, 1, c)."""
        return task_axis(self.lead, a, 1)[:, None]

    def wide(self, a):
        """Repeat numbers per channel for every row that is viewed as one."""
        return np.concatenate([a] * self.fold, axis=-1)

    def means(self, terms, count):
        """Return the means over the batch of the ``count`` arrays that ``terms(t, i)`` yields.

        It yields them for one block, and may reuse the array between them.
        """
        width = self.fold * self.c
        sums = [np.zeros((self.tasks, 1, width), self.dtype, like=self.like) for _ in range(count)]
        for t, i in self.blocks:
            # a product with a row of ones is several times faster than sum(axis=1)
            row = self.ones[:, : i.stop - i.start]
            for total, term in zip(sums, terms(t, i)):
                total[t] += row @ term
        n = self.n or 1
        return [s.reshape(self.tasks, 1, self.fold, self.c).sum(axis=2) / n for s in sums]

    def moments(self, x, eps):
        """Return mean and (var + eps)^(-1/2) in one pass over x."""
        few = self.blocks[0][1]
        few = slice(0, min(few.stop, 8))
        # sums are taken about a first guess of the mean, lest the squares cancel
        guess = self.ones[:, few] @ x[:, few] / (few.stop or 1)
        guess = guess.reshape(self.tasks, 1, self.fold, self.c).mean(axis=2)
        wide = self.wide(guess)

        def terms(t, i):
            d = x[t, i] - wide[t]
            yield d
            yield np.multiply(d, d, out=d)

        first, second = self.means(terms, 2)
        return guess + first, 1 / np.sqrt(second - first * first + eps)

    def combine(self, constant, *pairs):
        """Return constant + the sum of coefficient * array, in one pass, shaped as the batch."""
        constant = self.wide(constant)
        pairs = [(self.wide(coefficient), a) for coefficient, a in pairs]
        y = np.empty_like(pairs[0][1])
        for t, i in self.blocks:
            part = y[t, i]
            (coefficient, a), *rest = pairs
            np.multiply(a[t, i], coefficient[t], out=part)
            part += constant[t]
            for coefficient, a in rest:
                part += a[t, i] * coefficient[t]
        return y.reshape(self.shape)

    def grad_means(self, x, mu, s, g):
        """Return mean(g) and mean(g x^) in one pass."""
        wide = self.wide(mu)

        def terms(t, i):
            yield g[t, i]
            d = x[t, i] - wide[t]
            yield np.multiply(d, g[t, i], out=d)

        g_mean, g_dot = self.means(terms, 2)
        return g_mean, g_dot * s

    def grad(self, x, mu, s, gamma, g, g_mean, g_dot):
        """Return B from the means that it needs."""
        by_x = -gamma * s * s * g_dot
        return self.combine(-gamma * s * g_mean - by_x * mu, (gamma * s, g), (by_x, x))


# The ops below share a dict, `memo`, of the statistics of the arrays last seen. They are taken from
# it only for the very same array, so it saves passes over memory and never changes a result.
def _moments(batch, x, eps, memo):
    known = memo.get("x")
    if known is None or known[0] is not x:
        known = memo["x"] = (x, *batch.moments(batch.view(x), eps))
    return known[1:]


def _grad_means(batch, x, g, eps, memo):
    known = memo.get("g")
    if known is None or known[0] is not x or known[1] is not g:
        mu, s = _moments(batch, x, eps, memo)
        known = memo["g"] = (x, g, *batch.grad_means(batch.view(x), mu, s, batch.view(g)))
    return known[2:]


def _batch_norm_forward(x, gamma, beta, *, eps, core, memo):
    lead = np.broadcast_shapes(x.shape[: x.ndim - core], gamma.shape[:-1], beta.shape[:-1])
    b = _Folded(lead + x.shape[x.ndim - core :], core, x.dtype, x)
    gamma, beta = b.channels(gamma), b.channels(beta)
    mu, s = _moments(b, x, eps, memo)
    return b.combine(beta - mu * gamma * s, (gamma * s, b.view(x)))


def _batch_norm_vjp(needed, g, _y, x, gamma, _beta, **static):
    core, memo = static["core"], static["memo"]
    if type(g) is Tensor:
        return [
            _grad(g, x, gamma, **static) if needed[0] else None,
            _dot(g, x, **static) if needed[1] else None,
            sum_batch(g, core) if needed[2] else None,
        ]
    b = _Folded(g.shape, core, g.dtype, g)
    mu, s = _moments(b, x, static["eps"], memo)
    g, x = b.view(g), b.view(x)
    g_mean, g_dot = b.grad_means(x, mu, s, g)
    of_x = b.grad(x, mu, s, b.channels(gamma), g, g_mean, g_dot) if needed[0] else None
    channels = (*b.lead, b.c)
    return [of_x, (g_dot * b.n).reshape(channels), (g_mean * b.n).reshape(channels)]


def _grad_forward(g, x, gamma, *, eps, core, memo):
    b = _Folded(g.shape, core, g.dtype, g)
    mu, s = _moments(b, x, eps, memo)
    means = _grad_means(b, x, g, eps, memo)
    return b.grad(b.view(x), mu, s, b.channels(gamma), b.view(g), *means)


def _grad_vjp(needed, u, _y, g, x, gamma, eps, core, memo):
    if type(u) is Tensor:
        return _grad_vjp_plain(u, g, x, gamma, eps=eps, core=core, memo=memo)
    b = _Folded(u.shape, core, u.dtype, u)
    mu, s = _moments(b, x, eps, memo)
    g_mean, g_dot = _grad_means(b, x, g, eps, memo)
    u, g, x, gamma = b.view(u), b.view(g), b.view(x), b.channels(gamma)
    wide = b.wide(mu)

    def terms(t, i):
        yield u[t, i]
        d = x[t, i] - wide[t]
        yield np.multiply(d, u[t, i], out=d)
        yield np.multiply(g[t, i], u[t, i], out=d)

    u_mean, u_dot, product = b.means(terms, 3)
    u_dot, covariance = u_dot * s, product - u_mean * g_mean
    of_g = of_x = None
    if needed[0]:
        of_g = b.grad(x, mu, s, gamma, u, u_mean, u_dot)
    if needed[1]:
        common = -gamma * s * s
        by_x = common * s * (covariance - 3 * u_dot * g_dot)
        by_u, by_g = common * g_dot, common * u_dot
        of_x = b.combine(
            -(by_x * mu + by_u * u_mean + by_g * g_mean), (by_x, x), (by_u, u), (by_g, g)
        )
    of_gamma = b.n * s * (covariance - u_dot * g_dot)
    return [of_g, of_x, of_gamma.reshape(*b.lead, b.c)]


def _grad_vjp_plain(u, g, x, gamma, **static):
    """The same in recorded ops, so that orders above the second are right too."""
    core = static["core"]
    axes = tuple(range(-core, -1))

    def average(a):
        return mean(a, axes, keepdims=True)

    channels = gamma
    gamma = reshape(gamma, gamma.shape[:-1] + (1,) * (core - 1) + gamma.shape[-1:])
    centred = x - average(x)
    s = 1 / sqrt(average(centred * centred) + static["eps"])
    x_hat = centred * s
    u_dot, g_dot = average(u * x_hat), average(g * x_hat)
    u_centred, g_centred = u - average(u), g - average(g)
    covariance = average(u_centred * g_centred)
    of_x = (
        -gamma
        * s
        * s
        * (x_hat * (covariance - 3 * u_dot * g_dot) + g_dot * u_centred + u_dot * g_centred)
    )
    of_gamma = sum(u * s * (g_centred - x_hat * g_dot), axes)
    return [_grad(u, x, channels, **static), of_x, of_gamma]


def _dot_forward(g, x, *, eps, core, memo):
    b = _Folded(g.shape, core, g.dtype, g)
    return (_grad_means(b, x, g, eps, memo)[1] * b.n).reshape(*b.lead, b.c)


def _dot_vjp(needed, u, _y, g, x, **static):
    """u x^, a normalisation by gamma = u; and B with gamma = u, for sum(u g x^) is its pairing."""
    return [
        _batch_norm(x, u, u * 0, **static) if needed[0] else None,
        _grad(g, x, u, **static) if needed[1] else None,
    ]


_batch_norm = op(_batch_norm_forward, joint=_batch_norm_vjp, name="batch_norm")
_grad = op(_grad_forward, joint=_grad_vjp, name="batch_norm_grad")
#: sum(g x^) per channel, the cotangent of gamma
_dot = op(_dot_forward, joint=_dot_vjp, name="batch_norm_dot")


def batch_norm(x, gamma, beta, eps=1e-5):
    """Normalise every channel by the mean and variance of the batch, per task.

    ``(n,h,w,c),(c),(c)->(n,h,w,c)`` or ``(n,c),(c),(c)->(n,c)``, broadcast over leading axes. The
    variance is the biased one. Ioffe & Szegedy 2015, Algorithm 1; no running averages.

    Parameters
    ----------
    x : Tensor or array, shape (..., n, h, w, c), or (n, c) or (tasks, n, c)
        Four axes or more are taken as images.
    gamma, beta : Tensor or array, shape (..., c)
    eps : float
        Added to the variance.

    Raises
    ------
    ValueError
        If the channels do not agree.

    Examples
    --------
    >>> import numpy as np
    >>> batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1), eps=0.0)
    array([[-1.],
           [ 1.]])
    """
    if x.ndim < 2 or gamma.shape[-1:] != x.shape[-1:] or beta.shape[-1:] != x.shape[-1:]:
        raise ValueError(
            f"batch_norm: input {x.shape} needs a batch axis and its last axis must agree with "
            f"gamma {gamma.shape} and beta {beta.shape}"
        )
    x, gamma, beta = same_dtype(x, gamma, beta)
    if x.dtype.kind != "f":
        x, gamma, beta = (astype(a, float) for a in (x, gamma, beta))
    return _batch_norm(x, gamma, beta, eps=eps, core=4 if x.ndim >= 4 else 2, memo={})
