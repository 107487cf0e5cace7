"""Rollouts: what a policy does in an environment, for many tasks and rollouts at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..engine.tensor import no_grad, raw
from ..errors import UserError
from .environments import Array, MakeEnvironment


class Trajectories(NamedTuple):
    """What happened in each task, rollout and step.

    Attributes
    ----------
    observations : array, shape (tasks, rollouts, horizon, d)
        Before each action.
    actions, mean : array, shape (tasks, rollouts, horizon, a)
        As the policy drew them, and the mean that it drew them around.
    rewards : array, shape (tasks, rollouts, horizon)
        0 after a rollout has terminated.
    alive : array, shape (tasks, rollouts, horizon)
        1 until a rollout has terminated, then 0.
    log_std : array, shape (tasks, a)
        Of the policy.
    """

    observations: Array
    actions: Array
    mean: Array
    rewards: Array
    alive: Array
    log_std: Array

    @property
    def returns(self) -> Array:
        """The sum of the rewards of a rollout, undiscounted, in the mean of each task: (tasks,)."""
        return self.rewards.sum(-1, dtype=float).mean(-1)


def sample(
    policy,
    params: dict,
    environment: MakeEnvironment,
    tasks: Array,
    rollouts: int,
    rngs: Sequence[np.random.Generator],
) -> Trajectories:
    """Let a policy act: Algorithm 3, lines 5 and 8.

    Parameters
    ----------
    policy : GaussianPolicy
    params : dict of str to Tensor
        Its parameters, with a leading task axis.
    environment : type
        ``environment(tasks, rollouts)`` makes an :class:`~.environments.Environment`.
    tasks : array
        With a leading task axis.
    rollouts : int
        Of each task.
    rngs : sequence of numpy.random.Generator
        One for each task, so that a task's rollouts do not depend on what is sampled beside it.

    Returns
    -------
    Trajectories

    Raises
    ------
    UserError
        If the shapes of what the environment gives are not those that it says, or an observation
        or a reward is not finite.
    FloatingPointError
        If an action is not finite: the policy has diverged.
    """
    env = environment(tasks, rollouts)
    lead, horizon = (len(tasks), rollouts), env.horizon
    form = (*lead, horizon)
    found = Trajectories(
        observations=np.zeros((*form, env.observation_size), np.float32),
        actions=np.zeros((*form, env.action_size), np.float32),
        mean=np.zeros((*form, env.action_size), np.float32),
        rewards=np.zeros(form, np.float32),
        alive=np.zeros(form, np.float32),
        log_std=np.broadcast_to(raw(params["log_std"]), (len(tasks), env.action_size)),
    )
    noise = [
        rng.standard_normal((rollouts, *form[2:], env.action_size), np.float32) for rng in rngs
    ]
    noise = np.exp(found.log_std)[:, None, None] * np.stack(noise)
    observations, _ = env.reset(rngs)
    alive = np.ones(lead, bool)
    for t in range(horizon):
        _check("observations", observations, (*lead, env.observation_size), t)
        found.observations[:, :, t] = observations
        with no_grad():
            mean = raw(policy(params, found.observations[:, :, t])[0])
        found.mean[:, :, t] = mean
        found.actions[:, :, t] = actions = mean + noise[:, :, t]
        if not np.isfinite(actions).all():
            raise FloatingPointError(f"the policy's actions are not finite at step {t}")
        found.alive[:, :, t] = alive
        observations, rewards, terminated, truncated, _ = env.step(actions)
        _check("rewards", rewards, lead, t)
        found.rewards[:, :, t] = np.where(alive, rewards, 0)
        alive &= ~terminated
        if truncated or not alive.any():
            break
    return found


def _check(name, array, shape, t):
    if np.shape(array) != shape:
        raise UserError(
            f"the environment gave {name} of shape {np.shape(array)} at step {t}; its sizes, tasks "
            f"and rollouts make {shape}"
        )
    if not np.isfinite(array).all():
        raise UserError(
            f"the environment gave {name} that are not finite at step {t}; it is unstable, or its "
            "actions need a limit"
        )
