"""Surrogates: losses of sampled steps whose gradient is that of the expected return.

``x`` are states (tasks, n, d), ``y`` the :class:`Steps` taken in them; every loss gives one value
per task, the mean over the steps that count. They differ in their derivatives alone.
"""

from typing import NamedTuple

import numpy as np

from ..engine.tensor import Tensor
from ..learners.learner import Array, Params
from ..tasks import Batch
from .advantages import advantages
from .policies import log_likelihood
from .rollout import Trajectories


class Steps(NamedTuple):
    """Steps of one set of rollouts, all those of a task along one axis, rollout after rollout.

    Attributes
    ----------
    actions, mean : array, shape (tasks, n, a)
        What was done, and the mean of the policy that did it.
    log_std : array, shape (tasks, a)
        Of that policy.
    log_pi : array, shape (tasks, n)
        Its log-likelihood of the actions.
    advantages : array, shape (tasks, n)
    weight : array, shape (tasks, n)
        One over the number of steps that count; 0 after a rollout has terminated.
    first : array, shape (tasks, rollouts)
        Advantages of the first steps; its shape says how many rollouts there are.
    """

    actions: Array
    mean: Array
    log_std: Array
    log_pi: Array
    advantages: Array
    weight: Array
    first: Array


def batch(found: Trajectories, discount: float = 0.99, trace: float = 1.0) -> Batch:
    """Return trajectories as a batch (states, steps), which :func:`tinymaml.maml.adapt` takes."""
    gains = advantages(found, discount, trace)
    flat = lambda array: array.reshape(len(array), -1, *array.shape[3:])
    actions, mean, alive = map(flat, (found.actions, found.mean, found.alive))
    steps = Steps(
        actions=actions,
        mean=mean,
        log_std=found.log_std,
        log_pi=log_likelihood(mean, found.log_std, actions),
        advantages=flat(gains),
        weight=alive / alive.sum(-1, keepdims=True),
        first=gains[:, :, 0],
    )
    return Batch(flat(found.observations), steps)


def reinforce(policy, params: Params, x: Array, y: Steps) -> Tensor:
    """Return -mean(log pi(a | s) A): the inner loss of the authors' code.

    Its gradient is an estimate of that of minus the expected return (Williams 1992). The derivative
    of that gradient is none of its derivative, since theta also says which steps are sampled.
    """
    return -(policy.log_likelihood(params, x, y.actions) * y.advantages * y.weight).sum(-1)


def low_variance(policy, params: Params, x: Array, y: Steps) -> Tensor:
    """Return -mean(pi / pi_now A), whose value is the same for any pi_now (Rothfuss et al. 2019).

    pi_now is pi taken as a constant. The second derivative has the products of a step's own score;
    those between steps are left out.
    """
    log_pi = policy.log_likelihood(params, x, y.actions)
    return -(np.exp(log_pi - log_pi.detach()) * y.advantages * y.weight).sum(-1)


def dice(policy, params: Params, x: Array, y: Steps) -> Tensor:
    """Return the loss all of whose derivatives estimate the return's (Foerster et al. 2018).

    With the magic box M_t = exp(s_t - s_t as a constant), which is 1, of s_t, the sum of log pi up
    to step t, it is -mean((M_t - M_{t-1}) A_t). Where A_t is the sum of rewards from t on, this is
    -mean(M_t r_t) but for a constant, as summation by parts shows; a baseline does no harm.
    """
    log_pi = policy.log_likelihood(params, x, y.actions)
    log_pi = log_pi.reshape(*y.first.shape, -1)
    upto = np.cumsum(log_pi, axis=-1)
    before = upto - log_pi
    boxes = np.exp(upto - upto.detach()) - np.exp(before - before.detach())
    return -(boxes.reshape(y.weight.shape) * y.advantages * y.weight).sum(-1)


INNER = {"reinforce": reinforce, "dice": dice, "low-variance": low_variance}


def importance(policy, params: Params, x: Array, y: Steps) -> Tensor:
    """Return -mean(pi / pi_sampling A): the outer loss of TRPO (Schulman et al. 2015)."""
    return -(_ratio(policy, params, x, y) * y.advantages * y.weight).sum(-1)


def clipped(policy, params: Params, x: Array, y: Steps, clip: float = 0.2) -> Tensor:
    """Return the outer loss of PPO (Schulman et al. 2017, equation 7): no gain beyond 1 +- clip."""
    ratio = _ratio(policy, params, x, y)
    least = np.minimum(ratio * y.advantages, np.clip(ratio, 1 - clip, 1 + clip) * y.advantages)
    return -(least * y.weight).sum(-1)


def _ratio(policy, params, x, y):
    return np.exp(policy.log_likelihood(params, x, y.actions) - y.log_pi)


def divergence(policy, params: Params, x: Array, y: Steps) -> Tensor:
    """Return the mean over states of KL(the policy that sampled || the policy)."""
    kl = policy.kl(y.mean, y.log_std, params, x)
    return (kl * y.weight).sum(-1)
