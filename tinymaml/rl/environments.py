"""Environments that step many tasks and rollouts at once, by gymnasium's words."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

Array = np.ndarray


class Environment(Protocol):
    """What rollouts need of an environment: the same one for several tasks, several times each.

    It is made by ``Environment(tasks, rollouts)``. All arrays begin with (tasks, rollouts).
    ``step`` and ``reset`` give what gymnasium's do; a rollout that has terminated is not reset,
    and what it does from then on does not count.
    """

    observation_size: int
    action_size: int
    horizon: int  # steps of a rollout, if it does not terminate

    @staticmethod
    def sample_tasks(rng: np.random.Generator, n_tasks: int) -> Array:
        """Draw tasks: what tells one from another, with a leading task axis."""
        raise NotImplementedError

    def reset(self, rngs: Sequence[np.random.Generator]) -> tuple[Array, dict]:
        """Begin anew, by the random numbers of each task; return observations and an empty dict."""
        raise NotImplementedError

    def step(self, actions: Array) -> tuple[Array, Array, Array, bool, dict]:
        """Act: return observations, rewards, whether each has terminated, whether time is up."""
        raise NotImplementedError


class Navigation2D:
    """A point that is to find a goal in the plane (Finn et al. 2017, section 5.3).

    It starts at 0; goals lie in [-0.5, 0.5]^2; the observation is the position. An action of 1
    moves it by 0.1, which is the most. A rollout ends after 100 steps, or within 0.01 of the goal
    along both axes.

    Parameters
    ----------
    tasks : array, shape (tasks, 2)
        Goals.
    rollouts : int
        Of each task.
    squared : bool
        Whether the reward is minus the squared distance to the goal, which the paper says, or
        minus the distance, as in the authors' code. Only the latter gives the returns of the
        paper's figure: a point that stays at 0 gets -38 in the mean, by squares -17.

    Examples
    --------
    >>> env = Navigation2D(np.array([[0.5, 0.0]]), rollouts=1)
    >>> position, _ = env.reset([np.random.default_rng(0)])
    >>> position, reward, terminated, truncated, _ = env.step(np.array([[[1.0, 0.0]]]))
    >>> position[0, 0], reward[0, 0], terminated[0, 0]
    (array([0.1, 0. ]), np.float64(-0.4), np.False_)
    """

    observation_size = action_size = 2
    horizon = 100
    stride, near = 0.1, 0.01

    def __init__(self, tasks: Array, rollouts: int, squared: bool = False):
        self.goals, self.rollouts, self.squared = tasks[:, None], rollouts, squared

    @staticmethod
    def sample_tasks(rng, n_tasks):
        return rng.uniform(-0.5, 0.5, (n_tasks, 2))

    def reset(self, rngs):
        self.time = 0
        self.position = np.zeros((len(self.goals), self.rollouts, 2))
        return self.observe(), {}

    def step(self, actions):
        self.time += 1
        self.position = self.position + self.stride * np.clip(actions, -1, 1)
        away = self.position - self.goals
        squares = (away**2).sum(-1)
        reward = -squares if self.squared else -np.sqrt(squares)
        terminated = (abs(away) < self.near).all(-1)
        return self.observe(), reward, terminated, self.time == self.horizon, {}

    def observe(self) -> Array:
        """Return what the policy sees."""
        return self.position


class InformedNavigation2D(Navigation2D):
    """Navigation whose goal is seen beside the position, for the oracle."""

    observation_size = 4

    def observe(self):
        return np.concatenate([self.position, np.broadcast_to(self.goals, self.position.shape)], -1)


MakeEnvironment = Callable[[Array, int], Any]
