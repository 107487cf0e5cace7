"""Initial weights: functions of (rng, shape), where shape ends in (inputs, outputs)."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

Shape = tuple[int, ...]
Initialiser = Callable[[np.random.Generator, Shape], np.ndarray]


def _fans(shape):
    receptive = math.prod(shape[:-2])
    return receptive * shape[-2], receptive * shape[-1]


def glorot_uniform(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16)."""
    bound = math.sqrt(6 / sum(_fans(shape)))
    return rng.uniform(-bound, bound, shape)


def he_normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal of standard deviation sqrt(2 / fan_in), for ReLU (He et al. 2015, eq. 10)."""
    return rng.normal(0, math.sqrt(2 / _fans(shape)[0]), shape)


def zeros(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Zero, as biases start."""
    return np.zeros(shape)


def normal(std: float, mean: float = 0.0) -> Initialiser:
    """Return an initialiser: normal of standard deviation ``std``."""
    return partial(_normal, std=std, mean=mean)  # which can be pickled, as a closure cannot


def truncated_normal(std: float) -> Initialiser:
    """Return an initialiser: normal of standard deviation ``std``, redrawn beyond two of them."""
    return partial(_truncated_normal, std=std)


def _normal(rng, shape, std, mean):
    return rng.normal(mean, std, shape)


def _truncated_normal(rng, shape, std):
    z = rng.standard_normal(shape)
    while (far := np.abs(z) > 2).any():
        z[far] = rng.standard_normal(far.sum())
    return std * z
