"""Advantages: how much better an action was than what the baseline expects."""

import numpy as np

from .baseline import fitted_values
from .environments import Array
from .rollout import Trajectories


def discounted_sums(values: Array, discount: float) -> Array:
    """Return sum_k discount^k v_{t+k} over the last axis: returns from each step on.

    Examples
    --------
    >>> discounted_sums(np.array([1.0, 2.0, 4.0]), 0.5)
    array([3., 4., 4.])
    """
    sums, total = np.zeros(values.shape), 0
    for t in reversed(range(values.shape[-1])):
        sums[..., t] = total = values[..., t] + discount * total
    return sums


def gae(rewards: Array, values: Array, discount: float, trace: float) -> Array:
    """Return generalised advantages (Schulman et al. 2016, equation 16).

    The discounted sums, by discount times trace (lambda), of r_t + discount V(s_{t+1}) - V(s_t).
    After the last step V counts as 0, as in the authors' code.

    Examples
    --------
    >>> gae(np.array([1.0, 1.0]), np.array([0.5, 2.0]), discount=0.5, trace=1.0)
    array([ 1., -1.])
    """
    following = np.concatenate([values[..., 1:], np.zeros_like(values[..., :1])], axis=-1)
    return discounted_sums(rewards + discount * following - values, discount * trace)


def advantages(trajectories: Trajectories, discount: float = 0.99, trace: float = 1.0) -> Array:
    """Return advantages of each step, of mean 0 and standard deviation 1 in each task.

    The baseline is fitted to the same rollouts, as in the authors' code. What comes after the end
    of a rollout is 0, and takes no part.
    """
    rewards, alive = trajectories.rewards.astype(float), trajectories.alive
    returns = discounted_sums(rewards, discount)
    values = fitted_values(trajectories.observations, returns, alive) * alive
    found = gae(rewards, values, discount, trace) * alive
    axes = (1, 2)
    count = alive.sum(axes, keepdims=True)
    found = (found - found.sum(axes, keepdims=True) / count) * alive
    std = np.sqrt((found**2).sum(axes, keepdims=True) / count)
    return (found / (std + 1e-8)).astype(np.float32)
