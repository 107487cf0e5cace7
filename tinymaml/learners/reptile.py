"""Reptile (Nichol, Achiam & Schulman 2018), the batched version of its Algorithm 1.

Each task T moves theta by a few steps of an ordinary optimiser to phi_T, and theta moves towards
the mean of them: no gradient of a gradient, and no support apart from a query.

    theta <- theta + epsilon (1/n) sum_T (phi_T - theta)

That is a step of gradient descent on the mean of ``|theta - phi_T|^2 / 2``, phi_T a constant.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..engine.grad import grad
from ..engine.tensor import recording, tensor
from ..nn import Layer
from ..optim import Adam
from ..tasks import Batch
from .learner import Learner
from .maml import per_task


@dataclass(frozen=True)
class Reptile(Learner):
    """Reptile as a learner.

    Parameters
    ----------
    model : Layer
    loss : function
        ``loss(prediction, y)``: one value per task.
    lr : float
        Rate of the inner optimiser, Adam without a mean of gradients (beta1 = 0), as in the
        authors' code. Theirs goes on with its squared gradients from task to task; here every task
        starts anew.
    steps, test_steps : int
        Of the inner optimiser, in training and at test.
    batch : int
        Examples of each step: the next ones of the task, and from the start again.
    inductive : bool
        Whether batch norm takes the statistics of the support at test.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner = tm.learners.Reptile(tm.nn.mlp((1, 40, 40, 1)), tm.nn.mse_loss, lr=0.01)
    >>> params = learner.init(np.random.default_rng(0))
    >>> tasks = tm.tasks.SinusoidTasks().sample(np.random.default_rng(1), n_tasks=25)
    >>> gradient = tm.grad(learner.objective(params, tasks), params)  # theta - mean of phi
    """

    model: Layer
    loss: Callable
    lr: float = 1e-3
    steps: int = 5
    batch: int = 10
    test_steps: int = 50
    inductive: bool = False

    def init(self, rng):
        return self.model.init(rng)

    def objective(self, params, tasks):
        examples = Batch(*[np.concatenate(pair, axis=1) for pair in zip(*tasks)])
        *_, phi = self._path(params, examples, self.steps)
        parts = [(params[name] - phi[name].data) ** 2 for name in params]
        return sum(part.sum() for part in parts) / (2 * len(examples.x))

    def predict(self, params, support, x):
        return next(self.predictions(params, support, x, [self.test_steps]))

    def predictions(self, params, support, x, steps):
        for step, phi in enumerate(self._path(params, support, max(steps))):
            if step in steps:
                fixed = self.model.statistics(phi, support.x) if self.inductive else {}
                yield self.model(phi | fixed, x)

    def _path(self, params, examples, steps):
        """Yield phi before and after each step of the inner optimiser."""
        n_tasks, n = examples.x.shape[:2]
        start = per_task({name: p.data for name, p in params.items()}, n_tasks)
        phi = {name: tensor(p, requires_grad=True) for name, p in start.items()}
        optimizer = Adam(self.lr, betas=(0.0, 0.999))
        state = optimizer.init(phi)
        yield phi
        for step in range(steps):
            now = np.arange(step * self.batch, (step + 1) * self.batch) % n
            with recording(True):
                values = self.loss(self.model(phi, examples.x[:, now]), examples.y[:, now])
                phi, state = optimizer.update(phi, grad(values.sum(), phi), state)
            yield phi
