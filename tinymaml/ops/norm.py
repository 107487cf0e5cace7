"""Batch normalisation, fused.

With x^ = (x - mean(x)) s, s = (var(x) + eps)^(-1/2), means over the batch, per task and channel:

    y             = gamma x^ + beta
    B(g, x, gamma) = gamma s (g - mean(g) - x^ mean(g x^))         the cotangent of x
    B is linear in g and its own transpose, and along u its derivative with respect to x is
    D(u, g, x, gamma) = -gamma s^2 (x^ (cov(u, g) - 3 m_u m_g) + m_g (u - mean(u)) + m_u (g - mean(g)))
    where m_u = mean(u x^), m_g = mean(g x^), cov(u, g) = mean(u g) - mean(u) mean(g).

Each is fused into two passes over memory. Every derivative goes through x itself: the statistics
are functions of x, never constants, which is what makes the second order right.
"""

import numpy as np

from ..tensor import Tensor, op
from .blocks import blocks, task_axis
from .elementwise import sqrt
from .reduction import mean, sum
from .shape import reshape


def _lead(core, x, gamma):
    """Return the broadcast leading axes of x, (*lead, *batch, c), and gamma, (*lead, c)."""
    return np.broadcast_shapes(x.shape[: x.ndim - core], gamma.shape[:-1])


def _rows(lead, core, *arrays):
    """View arrays (*lead, *batch, c) as contiguous (tasks, rows, c)."""
    views = [np.ascontiguousarray(task_axis(lead, a, core)) for a in arrays]
    return [a.reshape(a.shape[0], -1, a.shape[-1]) for a in views]


def _column_sums(x):
    """Sum (tasks, rows, c) over rows: a product with ones is several times faster than sum."""
    return np.ones((1, x.shape[1]), x.dtype, like=x) @ x


def _moments(x, eps):
    """Return mean and (var + eps)^(-1/2), both (tasks, 1, c), in one pass over (tasks, rows, c)."""
    tasks, n, c = x.shape
    shift = np.zeros((tasks, 1, c), x.dtype, like=x)
    total, squares = np.zeros_like(shift), np.zeros_like(shift)
    for t, i in blocks(x, tasks, n, c):
        part = x[t, i]
        if i.start == 0:  # sums are taken about a first guess of the mean, lest squares cancel
            shift[t] = _column_sums(part) / part.shape[1]
        d = part - shift[t]
        total[t] += _column_sums(d)
        np.multiply(d, d, out=d)
        squares[t] += _column_sums(d)
    total /= n
    return shift + total, 1 / np.sqrt(squares / n - total * total + eps)


def _means_with(x, mu, s, arrays, products=()):
    """Return in one pass mean(a) and mean(a x^) for each array, and mean(a b) for each product."""
    tasks, n, c = x.shape
    zeros = [
        np.zeros((tasks, 1, c), x.dtype, like=x) for _ in range(2 * len(arrays) + len(products))
    ]
    for t, i in blocks(x, tasks, n, c):
        d = x[t, i] - mu[t]
        e = np.empty_like(d)
        sums = iter(zeros)
        for a in arrays:
            next(sums)[t] += _column_sums(a[t, i])
            np.multiply(d, a[t, i], out=e)
            next(sums)[t] += _column_sums(e)
        for a, b in products:
            np.multiply(a[t, i], b[t, i], out=e)
            next(sums)[t] += _column_sums(e)
    means = [z / n for z in zeros]
    for k in range(1, 2 * len(arrays), 2):
        means[k] *= s
    return means


def _combine(constant, *pairs):
    """Return constant + sum of coefficient * array, (tasks, 1, c) by (tasks, rows, c), in one pass."""
    (first_coefficient, first), *rest = pairs
    y = np.empty_like(first)
    for t, i in blocks(y, *y.shape):
        part = y[t, i]
        np.multiply(first[t, i], first_coefficient[t], out=part)
        for coefficient, a in rest:
            part += a[t, i] * coefficient[t]
        part += constant[t]
    return y


def _batch_norm_forward(x, gamma, beta, *, eps, core):
    lead = _lead(core, x, gamma)
    shape = lead + x.shape[x.ndim - core :]
    (x,) = _rows(lead, core, x)
    gamma, beta = (task_axis(lead, a, 1)[:, None] for a in (gamma, beta))
    mu, s = _moments(x, eps)
    scale = gamma * s
    return _combine(beta - mu * scale, (scale, x)).reshape(shape)


def _batch_norm_vjp(needed, g, _y, x, gamma, _beta, eps, core):
    if type(g) is Tensor:
        return [
            _grad(g, x, gamma, eps=eps, core=core) if needed[0] else None,
            _dot(g, x, eps=eps, core=core) if needed[1] else None,
            sum(g, _batch_axes(core)) if needed[2] else None,
        ]
    shape, lead = g.shape, g.shape[: g.ndim - core]
    g, x = _rows(lead, core, g, x)
    mu, s = _moments(x, eps)
    g_mean, g_dot = _means_with(x, mu, s, [g])
    channels, n = (*lead, shape[-1]), x.shape[1]
    input_grad = None
    if needed[0]:
        gamma = task_axis(lead, gamma, 1)[:, None]
        input_grad = _grad_of(g, x, gamma, mu, s, g_mean, g_dot).reshape(shape)
    return [input_grad, (g_dot * n).reshape(channels), (g_mean * n).reshape(channels)]


def _grad_of(g, x, gamma, mu, s, g_mean, g_dot):
    """B, from the means that it needs."""
    of_x = -gamma * s * s * g_dot
    return _combine(-gamma * s * g_mean - of_x * mu, (gamma * s, g), (of_x, x))


def _grad_forward(g, x, gamma, *, eps, core):
    shape, lead = g.shape, g.shape[: g.ndim - core]
    g, x = _rows(lead, core, g, x)
    mu, s = _moments(x, eps)
    g_mean, g_dot = _means_with(x, mu, s, [g])
    return _grad_of(g, x, task_axis(lead, gamma, 1)[:, None], mu, s, g_mean, g_dot).reshape(shape)


def _grad_vjp(needed, u, _y, g, x, gamma, eps, core):
    if type(u) is Tensor:
        return _grad_vjp_plain(u, g, x, gamma, eps, core)
    shape, lead = u.shape, u.shape[: u.ndim - core]
    u, g, x = _rows(lead, core, u, g, x)
    gamma = task_axis(lead, gamma, 1)[:, None]
    mu, s = _moments(x, eps)
    u_mean, u_dot, g_mean, g_dot, product = _means_with(x, mu, s, [u, g], [(u, g)])
    covariance = product - u_mean * g_mean
    of_g = of_x = None
    if needed[0]:
        of_g = _grad_of(u, x, gamma, mu, s, u_mean, u_dot).reshape(shape)
    if needed[1]:
        common = -gamma * s * s
        by_x = common * s * (covariance - 3 * u_dot * g_dot)
        by_u, by_g = common * g_dot, common * u_dot
        constant = -(by_x * mu + by_u * u_mean + by_g * g_mean)
        of_x = _combine(constant, (by_x, x), (by_u, u), (by_g, g)).reshape(shape)
    of_gamma = x.shape[1] * s * (covariance - u_dot * g_dot)
    return [of_g, of_x, of_gamma.reshape(*lead, shape[-1])]


def _grad_vjp_plain(u, g, x, gamma, eps, core):
    """The same in recorded ops, so that orders above the second are right too."""
    axes = _batch_axes(core)

    def average(a):
        return mean(a, axes, keepdims=True)

    channels = gamma
    gamma = reshape(gamma, gamma.shape[:-1] + (1,) * (core - 1) + gamma.shape[-1:])
    centred = x - average(x)
    s = 1 / sqrt(average(centred * centred) + eps)
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
    return [_grad(u, x, channels, eps=eps, core=core), of_x, of_gamma]


def _dot_forward(g, x, *, eps, core):
    lead, c = g.shape[: g.ndim - core], g.shape[-1]
    g, x = _rows(lead, core, g, x)
    _, g_dot = _means_with(x, *_moments(x, eps), [g])
    return (g_dot * x.shape[1]).reshape(*lead, c)


def _batch_axes(core):
    return tuple(range(-core, -1))


_batch_norm = op(_batch_norm_forward, joint=_batch_norm_vjp, name="batch_norm")
_grad = op(_grad_forward, joint=_grad_vjp, name="batch_norm_grad")
#: sum(g x^) per channel, the cotangent of gamma
_dot = op(
    _dot_forward,
    lambda u, _y, _g, x, eps, core: _batch_norm(x, u, u * 0, eps=eps, core=core),
    lambda u, _y, g, x, eps, core: _grad(g, x, u, eps=eps, core=core),
    name="batch_norm_dot",
)


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
    return _batch_norm(x, gamma, beta, eps=eps, core=4 if x.ndim >= 4 else 2)
