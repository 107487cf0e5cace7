"""Policies: what a network does in a state, as a distribution over actions."""

import math

import numpy as np

from ..engine.tensor import Tensor, tensor
from ..learners.learner import Array, Params
from ..nn import mlp
from ..nn.weights import glorot_uniform


class GaussianPolicy:
    """A normal distribution whose mean is a network's output; log sigma is the same in all states.

    The network of Finn et al. 2017 has two layers of 100 with ReLU, drawn Glorot uniform in the
    authors' code. log sigma starts at 0. It is a parameter as all others, so it is adapted too.

    Parameters
    ----------
    observations, actions : int
        Sizes.
    hidden : tuple of int
        Of the layers between.

    Examples
    --------
    >>> import numpy as np
    >>> policy = GaussianPolicy(2, 2)
    >>> params = policy.init(np.random.default_rng(0))
    >>> mean, log_std = policy(params, np.zeros((5, 2), "float32"))
    >>> mean.shape, log_std.shape
    ((5, 2), (2,))
    """

    def __init__(self, observations: int, actions: int, hidden: tuple = (100, 100)):
        self.actions = actions
        self.network = mlp((observations, *hidden, actions), glorot_uniform)

    def init(self, rng: np.random.Generator) -> Params:
        """Draw the initial parameters."""
        log_std = tensor(np.zeros(self.actions, np.float32), requires_grad=True)
        return self.network.init(rng) | {"log_std": log_std}

    def __call__(self, params: Params, x: Array) -> tuple[Tensor, Tensor]:
        """Return mean (..., n, actions) and log sigma (..., actions) in the states x (..., n, d).

        Leading axes of the parameters and of x broadcast, as those of all layers.
        """
        return self.network(params, x), params["log_std"]

    def log_likelihood(self, params: Params, x: Array, actions: Array) -> Tensor:
        """Return log pi(a | s) of actions in the states x: (..., n)."""
        return log_likelihood(*self(params, x), actions)

    def kl(self, mean: Array, log_std: Array, params: Params, x: Array) -> Tensor:
        """Return in each state x the KL from the policy that had this mean and log sigma."""
        return kl_divergence(mean, log_std, *self(params, x))


def log_likelihood(mean: Tensor, log_std: Tensor, actions: Array) -> Tensor:
    """Return log pi(a | s): (..., n). It is the sum over the parts of an action, not their mean.

    Examples
    --------
    >>> import numpy as np
    >>> log_likelihood(np.zeros((1, 2)), np.zeros(2), np.ones((1, 2))).round(4)
    array([-2.8379])
    """
    log_std = log_std[..., None, :]
    z = (actions - mean) * np.exp(-log_std)
    return -(0.5 * z * z + log_std).sum(-1) - 0.5 * math.log(2 * math.pi) * mean.shape[-1]


def entropy(log_std: Tensor) -> Tensor:
    """Return the entropy of the policy in any state: sum of log sigma + log(2 pi e) / 2.

    Examples
    --------
    >>> import numpy as np
    >>> entropy(np.zeros(2)).round(4)
    np.float64(2.8379)
    """
    return (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


def kl_divergence(mean: Array, log_std: Array, new_mean: Tensor, new_log_std: Tensor) -> Tensor:
    """Return KL(old || new) of two policies in each state: (..., n).

    log(sigma' / sigma) + (sigma^2 + (mu - mu')^2) / (2 sigma'^2) - 1/2, summed over the parts of
    an action.

    Examples
    --------
    >>> import numpy as np
    >>> kl_divergence(np.zeros((1, 2)), np.zeros(2), np.ones((1, 2)), np.zeros(2))
    array([1.])
    """
    wider = (new_log_std - log_std)[..., None, :]
    away = (new_mean - mean) * np.exp(-new_log_std[..., None, :])
    return (wider + 0.5 * (np.exp(-2 * wider) + away * away) - 0.5).sum(-1)
