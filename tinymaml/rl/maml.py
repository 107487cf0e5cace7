"""MAML for reinforcement learning (Finn, Abbeel & Levine 2017), Algorithm 3.

Each task T_i is adapted to by its own rollouts (lines 5 to 7),

    theta'_i = theta - alpha grad_theta L_Ti(f_theta),    L_Ti: equation 4, by the rollouts D_i,

and acts again as adapted (line 8). theta descends the loss of those rollouts D'_i, by the gradient
through the step on D_i (line 10),

    theta <- theta - beta grad_theta sum_i L_Ti(f_theta'_i),

where TRPO, or PPO with Adam, takes the place of the plain step. The sum is a mean over tasks here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..engine.compile import compile
from ..engine.func import hvp
from ..engine.grad import grad
from ..engine.structure import leaves, map_leaves, rebuild
from ..engine.tensor import Tensor, no_grad, raw
from ..learners import maml
from ..learners.learner import Params
from ..parallel.group import map_chunks
from ..parallel.threads import Own
from ..tasks import Batch
from . import surrogates
from .environments import Array, MakeEnvironment
from .rollout import Trajectories, sample

Rngs = Callable[[int, int], np.random.Generator]  # of (task, number of updates before)


class Experience(NamedTuple):
    """What a chunk of tasks has been through.

    Attributes
    ----------
    support : tuple of Batch
        D_i: before each update.
    query : Batch
        D'_i: after the last one.
    returns : array, shape (tasks, updates + 1)
        Of each task in the mean, before and after each update.
    """

    support: tuple[Batch, ...]
    query: Batch
    returns: Array


@dataclass(frozen=True)
class MAML:
    """Algorithm 3: a policy that is good after one gradient step on a task's own rollouts.

    Parameters
    ----------
    policy : GaussianPolicy
    environment : type
        ``environment(tasks, rollouts)`` makes an :class:`~.environments.Environment`.
    lr : float
        alpha.
    steps : int
        Updates of a task in training; 0 trains one policy for all tasks.
    rollouts : int
        Of each task for each gradient.
    first_order : bool
        Take inner gradients as constants.
    surrogate : {"reinforce", "dice", "low-variance"}
        The inner loss.
    chunk : int
        Tasks taken at once, on one core.
    few : int
        Tasks of each chunk in TRPO's products of the KL's Hessian, which need no precision.
    eager : bool
        Do not compile; the numbers are the same.

    Examples
    --------
    >>> import numpy as np
    >>> from tinymaml.rl import GaussianPolicy, MAML, Navigation2D, PPO
    >>> learner = MAML(GaussianPolicy(2, 2, hidden=(8,)), Navigation2D, lr=0.1, rollouts=2)
    >>> theta = learner.policy.init(np.random.default_rng(0))
    >>> goals = Navigation2D.sample_tasks(np.random.default_rng(1), n_tasks=3)
    >>> chunks = learner.experience(theta, goals, lambda *key: np.random.default_rng(key))
    >>> chunks[0].returns.shape
    (3, 2)
    >>> update = PPO()
    >>> theta, state = update(learner, theta, chunks, update.init(theta))
    """

    policy: Any
    environment: MakeEnvironment
    lr: float = 0.1
    steps: int = 1
    rollouts: int = 20
    first_order: bool = False
    surrogate: str = "reinforce"
    chunk: int = 5
    few: int = 2
    eager: bool = False

    def inner_loss(self, params: Params, x: Array, y: surrogates.Steps) -> Tensor:
        """Return L_T(f), one value per task."""
        return surrogates.INNER[self.surrogate](self.policy, params, x, y)

    def adapt(self, params: Params, rollouts: Batch, lr: float | None = None) -> Params:
        """Return theta' = theta - alpha grad L_T(f_theta): lines 6 and 7."""
        rate = self.lr if lr is None else lr
        return maml.adapt(self.inner_loss, params, rollouts, lr=rate, first_order=self.first_order)

    def path(
        self, theta: Params, tasks: Array, rngs: Rngs, rates: Sequence[float]
    ) -> Iterator[Trajectories]:
        """Yield the trajectories before and after each update of every task: lines 5 to 8."""
        params = maml.per_task({name: p.detach() for name, p in theta.items()}, len(tasks))
        for update in range(len(rates) + 1):
            streams = [rngs(i, update) for i in range(len(tasks))]
            world = (self.environment, tasks, self.rollouts, streams)
            found = sample(self.policy, params, *world)  # lines 5 and 8
            yield found
            if update < len(rates):
                with no_grad():  # lines 6 and 7
                    params = self.adapt(params, surrogates.batch(found), rates[update])

    def experience(self, theta: Params, tasks: Array, rngs: Rngs) -> list[Experience]:
        """Let every task act and adapt, and return what happened by chunks of tasks.

        Parameters
        ----------
        theta : dict of str to Tensor
        tasks : array
            With a leading task axis.
        rngs : function
            The random numbers of (task, number of updates before).
        """

        def of_chunk(edges):
            start, stop = edges
            own = lambda i, update: rngs(start + i, update)
            found = list(self.path(theta, tasks[start:stop], own, [self.lr] * self.steps))
            *support, query = map(surrogates.batch, found)
            returns = np.stack([f.returns for f in found], axis=1)
            return Experience(tuple(support), query, returns)

        count = -(-len(tasks) // self.chunk)
        edges = pairwise([len(tasks) * i // count for i in range(count + 1)])
        return list(map_chunks(of_chunk, edges))

    def adapted(self, theta: Params, support: tuple, n_tasks: int) -> Params:
        """Return theta'_i of every task as a function of theta, by the rollouts that there were."""
        params = maml.per_task(theta, n_tasks)
        for rollouts in support:
            params = self.adapt(params, rollouts)
        return params

    def loss(self, outer: Callable, theta: Params, support: tuple, query: Batch) -> Tensor:
        """Return an outer loss after adaptation, the mean over tasks, as a function of theta."""
        return outer(self.policy, self.adapted(theta, support, len(query.x)), *query).mean()

    # What the meta-updates ask for, of a chunk of tasks

    def ratio_gradient(self, theta: Params, support: tuple, query: Batch) -> tuple:
        """Return the outer loss of TRPO and its gradient: line 10."""
        value = self.loss(surrogates.importance, theta, support, query)
        return value, grad(value, theta)

    def clipped_gradient(self, theta: Params, support: tuple, query: Batch) -> tuple:
        """Return the outer loss of PPO and its gradient: line 10."""
        value = self.loss(surrogates.clipped, theta, support, query)
        return value, grad(value, theta)

    def measure(self, theta: Params, support: tuple, query: Batch) -> tuple:
        """Return the outer loss of TRPO, and the mean KL from the policies that sampled."""
        params = self.adapted(theta, support, len(query.x))
        losses = (surrogates.importance, surrogates.divergence)
        return tuple(loss(self.policy, params, *query).mean() for loss in losses)

    @no_grad()
    def kl_product(self, theta: Params, support: tuple, query: Batch, v: dict) -> Params:
        """Return the Hessian of the mean KL at theta times v, exactly: J^T F J v.

        F is the Hessian of the KL at theta', where its gradient is 0, so that the second
        derivative of theta' has no part; and J = d theta' / d theta, for each step I - alpha H
        with the Hessian H of the inner loss.
        """
        n = len(query.x)
        params, v, steps = maml.per_task(theta, n), maml.per_task(v, n), []

        def through(v, at, rollouts):
            if self.first_order:
                return v
            curved = hvp(lambda params: self.inner_loss(params, *rollouts).sum(), at, v)
            return {name: v[name] - self.lr * curved[name] for name in v}

        for rollouts in support:
            steps.append((params, rollouts))
            params = self.adapt(params, rollouts)
        for step in steps:
            v = through(v, *step)
        v = hvp(lambda params: surrogates.divergence(self.policy, params, *query).mean(), params, v)
        for step in reversed(steps):
            v = through(v, *step)
        return {name: v[name].sum(axis=0) for name in v}

    def over_tasks(self, function: Callable, theta: Params, parts: Sequence, *more: Any) -> Any:
        """Return what one of these functions gives in the mean over the tasks of all chunks.

        Chunks are shared out by :func:`~tinymaml.parallel.group.map_chunks` and added in their
        order: the result does not depend on the number of cores and processes.

        Parameters
        ----------
        function : function
            One of these methods.
        theta : dict of str to Tensor
        parts : sequence of (support, query)
            Of each chunk.
        more
            Further arguments.
        """
        program = self._programs.setdefault(function, Own(partial(self._program, function)))
        of_part = lambda part: map_leaves(raw, program.own(theta, *part, *more))
        sizes = [len(query.x) for _, query in parts]
        total = None
        for n, found in zip(sizes, map_chunks(of_part, parts)):
            share = [n / sum(sizes) * a for a in leaves(found)]
            total = share if total is None else [a + b for a, b in zip(total, share)]
        return rebuild(found, iter(total))

    def _program(self, function):
        return function if self.eager else compile(function)

    @cached_property
    def _programs(self):
        return {}
