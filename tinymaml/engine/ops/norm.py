"""Batch normalisation in its plain form; what runs is fused: ``ops/fast/norm.py``."""

from .elementwise import sqrt, square
from .reduction import mean
from .shape import astype, reshape, same_dtype


def arguments(x, gamma, beta):
    """Return x, gamma and beta in one dtype, and how many last axes make up a batch of x.

    Four axes or more are taken as images, (n, h, w, c).
    """
    if x.ndim < 2 or gamma.shape[-1:] != x.shape[-1:] or beta.shape[-1:] != x.shape[-1:]:
        raise ValueError(
            f"batch_norm: input {x.shape} needs a batch axis and its last axis must agree with "
            f"gamma {gamma.shape} and beta {beta.shape}"
        )
    x, gamma, beta = same_dtype(x, gamma, beta)
    if x.dtype.kind != "f":
        x, gamma, beta = (astype(a, float) for a in (x, gamma, beta))
    return x, gamma, beta, 4 if x.ndim >= 4 else 2


def normalised(x, eps, core):
    """Return x^ = (x - mean(x)) s and s = (var(x) + eps)^(-1/2), over the batch."""
    axes = tuple(range(-core, -1))
    centred = x - mean(x, axis=axes, keepdims=True)
    s = 1 / sqrt(mean(square(centred), axis=axes, keepdims=True) + eps)
    return centred * s, s


def over_batch(a, core):
    """Return numbers per channel, (..., c), with axes of length 1 for the batch."""
    return reshape(a, a.shape[:-1] + (1,) * (core - 1) + a.shape[-1:])


def batch_norm(x, gamma, beta, eps=1e-5):
    """gamma x^ + beta: see :func:`tinymaml.ops.batch_norm`, which is the same and faster."""
    x, gamma, beta, core = arguments(x, gamma, beta)
    x_hat, _ = normalised(x, eps, core)
    return over_batch(gamma, core) * x_hat + over_batch(beta, core)
