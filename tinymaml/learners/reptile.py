"""Reptile (Nichol, Achiam & Schulman 2018), the batched version of its Algorithm 1.

From the shared parameters phi, k steps U of an ordinary optimiser on the examples of task i lead to

    phi~_i = U_i^k(phi),

and phi moves towards the mean of these: no gradient of a gradient, and no support apart from a
query.

    phi <- phi + epsilon (1/n) sum_i (phi~_i - phi)

That is a step of gradient descent on the mean of ``|phi - phi~_i|^2 / 2``, with phi~_i a constant.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..engine.grad import grad
from ..engine.tensor import Tensor, recording, tensor
from ..nn import Layer
from ..optim import Adam
from ..tasks import Batch
from .learner import Array, GradientLearner
from .maml import per_task


@dataclass(frozen=True)
class Reptile(GradientLearner):
    """Reptile as a learner: phi moves towards where each task's steps lead from it.

    Parameters
    ----------
    model : Layer
        The network that phi are the parameters of.
    loss : function
        ``loss(prediction, y)``: one value per task.
    lr : float
        Rate of the inner optimiser: Adam without a mean of gradients (beta1 = 0), as in the
        authors' code. Theirs keeps its mean of squared gradients from task to task; here every
        task starts anew.
    steps, test_steps : int
        Steps of the inner optimiser in training (k) and at test.
    batch : int
        Examples of each step: the next ones of the task, then the first ones again.
    inductive : bool
        As of :class:`MAML`.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner = tm.learners.Reptile(tm.nn.mlp((1, 40, 40, 1)), tm.nn.mse_loss, lr=0.01)
    >>> params = learner.init(np.random.default_rng(0))
    >>> tasks = tm.tasks.SinusoidTasks().sample(np.random.default_rng(1), n_tasks=25)
    >>> gradient = tm.grad(learner.objective(params, tasks), params)  # phi - mean of phi~
    """

    model: Layer
    loss: Callable[[Tensor, Array], Tensor]
    lr: float = 1e-3
    steps: int = 5
    batch: int = 10
    test_steps: int = 50
    inductive: bool = False

    compiles = False  # Adam works on arrays

    def objective(self, params, tasks):
        examples = Batch(*[np.concatenate(pair, axis=1) for pair in zip(*tasks)])
        *_, ends = self.path(params, examples, self.steps)
        parts = [(params[name] - ends[name].data) ** 2 for name in params]
        return sum(part.sum() for part in parts) / (2 * len(examples.x))

    def path(self, params, support, steps):
        n_tasks, n = support.x.shape[:2]
        start = per_task({name: p.data for name, p in params.items()}, n_tasks)
        phi = {name: tensor(p, requires_grad=True) for name, p in start.items()}
        optimizer = Adam(self.lr, betas=(0.0, 0.999))
        state = optimizer.init(phi)
        yield phi
        for step in range(steps):
            now = np.arange(step * self.batch, (step + 1) * self.batch) % n
            with recording(True):
                values = self.loss(self.model(phi, support.x[:, now]), support.y[:, now])
                phi, state = optimizer.update(phi, grad(values.sum(), phi), state)
            yield phi
