"""Batch normalisation, fused: what runs.

With x^ = (x - mean(x)) s, s = (var(x) + eps)^(-1/2), means over the batch, per task and channel:

    y              = gamma x^ + beta
    B(g, x, gamma) = gamma s (g - mean(g) - x^ mean(g x^))         the cotangent of x
    B is linear in g and its own transpose, and along u its derivative with respect to x is
    D(u, g, x, gamma) = -gamma s^2 (x^ (cov(u, g) - 3 m_u m_g)
                                     + m_g (u - mean(u)) + m_u (g - mean(g)))
    where m_u = mean(u x^), m_g = mean(g x^), cov(u, g) = mean(u g) - mean(u) mean(g).

Each is fused into two passes over memory: one for sums over the batch, one for the result. Sums
that several ops want are handed on to them: ``moments``, the mean of x and s; ``sums``, of g and of
g x^, which are also the cotangents of beta and gamma. Such an argument, named in parentheses, has
no derivative of its own, since every derivative goes through x itself: that the sums are functions
of x, never constants, is what makes the second order right.

Numbers per channel have the shape (*lead, c), stacks of them one axis more in front.
"""

import math

import numpy as np

from ...op import op
from ...tensor import thread
from ..norm import arguments, normalised, over_batch
from ..reduction import mean, sum
from .blocks import blocks, task_axis

#: Bytes of a block: the few arrays that a pass goes through then stay in a core's own cache.
NORM_BLOCK = 1 << 20


class _Folded:
    """Arrays (*lead, *batch, c) viewed as (tasks, rows, fold * c), and passes over them.

    NumPy's loops run over the last axis, and one of a few dozen channels is too short for them to
    be fast; so several rows of the batch are viewed as one. Per-channel numbers are (tasks, 1, c).
    """

    def __init__(self, a, core, shape=None):
        self.shape, self.core, self.like = shape or a.shape, core, a
        self.lead, self.c = self.shape[: len(self.shape) - core], self.shape[-1]
        self.n = math.prod(self.shape[len(self.shape) - core : -1])
        self.tasks = math.prod(self.lead)
        # a GPU has no use for longer rows, and every call less is a gain there
        fit = max(1, 1024 // self.c) if isinstance(a, np.ndarray) else 1
        self.fold = next(f for f in range(fit, 0, -1) if self.n % f == 0)
        rows, width = self.n // self.fold, self.fold * self.c
        self.blocks = blocks(a, self.tasks, rows, width, NORM_BLOCK)
        self.ones = np.ones_like(a, shape=(1, rows))

    def view(self, a):
        """Return an array of the batch as (tasks, rows, fold * c)."""
        a = np.ascontiguousarray(task_axis(self.lead, a, self.core), like=a)
        return a.reshape(self.tasks, self.n // self.fold, self.fold * self.c)

    def channels(self, *arrays):
        """Return arrays of numbers per channel, (*lead, c), as (tasks, 1, c)."""
        return [task_axis(self.lead, a, 1)[:, None] for a in arrays]

    def stack(self, *arrays):
        """Return several arrays (tasks, 1, c) as one, (several, *lead, c)."""
        return np.stack(arrays).reshape(len(arrays), *self.lead, self.c)

    def wide(self, a):
        """Repeat numbers per channel for every row that is viewed as one."""
        return np.concatenate([a] * self.fold, axis=-1) if self.fold > 1 else a

    def sums(self, terms, count):
        """Return the sums over the batch of the ``count`` arrays that ``terms(t, i)`` yields.

        It yields them for one block, and may reuse the array between them.
        """
        shape = (self.tasks, 1, self.fold * self.c)
        sums = [np.zeros_like(self.like, shape=shape) for _ in range(count)]
        for t, i in self.blocks:
            # a product with a row of ones is several times faster than sum(axis=1)
            row = self.ones[:, : i.stop - i.start]
            for total, term in zip(sums, terms(t, i)):
                part = total[t]
                part += row @ term
        if self.fold == 1:
            return sums
        return [s.reshape(self.tasks, 1, self.fold, self.c).sum(axis=2) for s in sums]

    def dots(self, u, x, mu, s, *others):
        """Return sum(u), sum(u x^) and sum(u h) for each h of the others, in one pass."""
        wide = self.wide(mu)

        def terms(t, i):
            yield u[t, i]
            d = x[t, i] - wide[t]
            yield np.multiply(d, u[t, i], out=d)
            for h in others:
                yield np.multiply(h[t, i], u[t, i], out=d)

        first, second, *rest = self.sums(terms, 2 + len(others))
        return first, second * s, *rest

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

        first, second = [total / (self.n or 1) for total in self.sums(terms, 2)]
        return self.stack(guess + first, 1 / np.sqrt(second - first * first + eps))

    def combine(self, constant, *pairs, out=None):
        """Return constant + the sum of coefficient * array, in one pass, shaped as the batch.

        It is written to ``out``, if that is given.
        """
        constant = self.wide(constant)
        pairs = [(self.wide(coefficient), a) for coefficient, a in pairs]
        y = np.empty_like(pairs[0][1]) if out is None else out.reshape(pairs[0][1].shape)
        for t, i in self.blocks:
            part = y[t, i]
            (coefficient, a), *rest = pairs
            np.multiply(a[t, i], coefficient[t], out=part)
            part += constant[t]
            for coefficient, a in rest:
                part += a[t, i] * coefficient[t]
        return y.reshape(self.shape)


def _forward(x, gamma, beta, *moments, eps, core, out=None):
    lead = np.broadcast_shapes(x.shape[: x.ndim - core], gamma.shape[:-1], beta.shape[:-1])
    b = _Folded(x, core, lead + x.shape[x.ndim - core :])
    x = b.view(x)
    moments = moments[0] if moments else b.moments(x, eps)
    gamma, beta, mu, s = b.channels(gamma, beta, *moments)
    return b.combine(beta - mu * gamma * s, (gamma * s, x), out=out), moments


def _vjp(needed, g, x, gamma, saved, **how):
    sums = _sums(g, x, saved, **how)
    return [
        _grad(g, x, gamma, sums, saved, **how) if needed[0] else None,
        sums[1] if needed[1] else None,
        sums[0] if needed[2] else None,
    ]


def _sums_forward(h, x, moments, *, eps, core):
    """sum(h) and sum(h x^)"""
    b = _Folded(h, core)
    return b.stack(*b.dots(b.view(h), b.view(x), *b.channels(*moments)))


def _sums_vjp(needed, g, y, h, x, moments, **how):
    """g_0 + g_1 x^, a normalisation by gamma = g_1, beta = g_0; and its pairing with h, B."""
    return [
        _batch_norm(x, g[1], g[0], moments, **how) if needed[0] else None,
        _grad(h, x, g[1], y, moments, **how) if needed[1] else None,
    ]


def _grad_forward(h, x, gamma, sums, moments, *, eps, core, out=None):
    """B(h, x, gamma)"""
    b = _Folded(h, core)
    gamma, h_sum, h_dot, mu, s = b.channels(gamma, *sums, *moments)
    n = b.n or 1
    by_x = -gamma * s * s * (h_dot / n)
    constant = -gamma * s * (h_sum / n) - by_x * mu
    return b.combine(constant, (gamma * s, b.view(h)), (by_x, b.view(x)), out=out)


def _grad_vjp(needed, g, h, x, gamma, sums, moments, **how):
    if thread.state.recording:
        return _grad_vjp_plain(g, h, x, gamma, moments, **how)
    products = _products(g, h, x, sums, moments, **how)
    n = math.prod(g.shape[g.ndim - how["core"] : -1]) or 1
    return [
        _grad(g, x, gamma, products[:2], moments, **how) if needed[0] else None,
        _second(g, h, x, gamma, products, sums, moments, **how) if needed[1] else None,
        n * moments[1] * (products[2] - products[1] * sums[1] / (n * n)) if needed[2] else None,
    ]


def _grad_vjp_plain(g, h, x, gamma, moments, eps, core):
    """The same in ops that have derivatives, so that orders above the second are right too."""
    axes = tuple(range(-core, -1))

    def average(a):
        return mean(a, axis=axes, keepdims=True)

    x_hat, s = normalised(x, eps, core)
    g_dot, h_dot = average(g * x_hat), average(h * x_hat)
    g_centred, h_centred = g - average(g), h - average(h)
    inner = x_hat * (average(g_centred * h_centred) - 3 * g_dot * h_dot)
    inner = inner + h_dot * g_centred + g_dot * h_centred
    return [
        _grad(g, x, gamma, _sums(g, x, moments, eps=eps, core=core), moments, eps=eps, core=core),
        -over_batch(gamma, core) * s * s * inner,
        sum(g * s * (h_centred - x_hat * h_dot), axis=axes),
    ]


def _products_forward(u, h, x, sums, moments, *, eps, core):
    """sum(u), sum(u x^) and cov(u, h)"""
    b = _Folded(u, core)
    h_sum, mu, s = b.channels(sums[0], *moments)
    u_sum, u_dot, product = b.dots(b.view(u), b.view(x), mu, s, b.view(h))
    n = b.n or 1
    return b.stack(u_sum, u_dot, product / n - (u_sum / n) * (h_sum / n))


def _second_forward(u, h, x, gamma, products, sums, moments, *, eps, core, out=None):
    """D(u, h, x, gamma)"""
    b = _Folded(u, core)
    gamma, covariance, mu, s = b.channels(gamma, products[2], *moments)
    u_mean, u_dot, h_mean, h_dot = [a / (b.n or 1) for a in b.channels(*products[:2], *sums)]
    common = -gamma * s * s
    by_x = common * s * (covariance - 3 * u_dot * h_dot)
    by_u, by_h = common * h_dot, common * u_dot
    return b.combine(
        -(by_x * mu + by_u * u_mean + by_h * h_mean),
        *((by_x, b.view(x)), (by_u, b.view(u)), (by_h, b.view(h))),
        out=out,
    )


_batch_norm = op(_forward, "x gamma beta *(moments)", joint=_vjp, name="batch_norm")
_sums = op(_sums_forward, "h x (moments)", joint=_sums_vjp, name="batch_norm_sums")
_grad = op(_grad_forward, "h x gamma (sums) (moments)", joint=_grad_vjp, name="batch_norm_grad")
# These run only where nothing is recorded, so they need no derivatives.
_products = op(_products_forward, "u h x sums moments", *[None] * 5, name="batch_norm_products")
_second = op(
    _second_forward, "u h x gamma products sums moments", *[None] * 7, name="batch_norm_second"
)


def batch_norm(x, gamma, beta, eps: float = 1e-5):
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
    x, gamma, beta, core = arguments(x, gamma, beta)
    return _batch_norm(x, gamma, beta, eps=eps, core=core)
