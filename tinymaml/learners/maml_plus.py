"""MAML with what later work adds: learned rates, a loss of every step, and a tied head.

MAML++ (Antoniou, Edwards & Storkey 2019, section 4) learns a rate for each parameter theta_l and
inner step s, and descends the loss of the query after each of the S steps:

    theta_l^(s+1) = theta_l^(s) - alpha_l,s grad_theta_l L(f_theta^(s)),
    theta <- theta - beta grad_theta sum_s v_s L^q(f_theta^(s)).

There the v_s of all but the last step fade out in training; here all are 1/S. The statistics of
batch norm are of each step's batch, as in all our learners; its gamma and beta are not of a step.
Its cosine schedule is a setting of the training, ``--decay cosine``.

A tied head (UNICORN: Ye & Chao 2022) is a last layer w in R^d without bias that all classes share:
class k starts from w_k = w, so that the order of the labels cannot matter. Where all w_k are w, the
gradient of the features is sum_k (p_k - y_k) w = 0: the first step moves the head alone,

    w_k = w + alpha/n sum_i ([y_i = k] - 1/N) f(x_i),

and the logits f(x) . w_k are those of a centred matching by dot products.
"""

from dataclasses import dataclass

import numpy as np

from ..engine.ops.shape import broadcast_to
from ..engine.tensor import tensor
from .learner import Params
from .maml import MAML, Rates, adapt, per_task

LEARNED = "lr."  # the names of learned rates start so


@dataclass(frozen=True)
class MAMLPlus(MAML):
    """:class:`MAML` with a tied head, learned rates or a loss of every step.

    Parameters
    ----------
    ways : int, optional
        Tie the last layer of a model that ends in ``nn.Linear(inputs, 1, bias=False)``, for so many
        classes.
    learned_lr : bool
        Learn a rate of each parameter for each inner step, from ``lr`` on. A test of more steps
        goes on with the last one.
    multi_step : bool
        Descend the mean of the query losses after every inner step, and not the last one alone.
    model, loss, lr, steps, first_order, test_steps, inductive
        As of :class:`MAML`.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> model = tm.nn.Sequential(tm.nn.Linear(3, 8), tm.nn.Linear(8, 1, bias=False))
    >>> learner = tm.learners.MAMLPlus(model, tm.nn.cross_entropy, lr=0.5, ways=2, learned_lr=True)
    >>> params = learner.init(np.random.default_rng(0))
    >>> support = tm.Batch(np.eye(3)[None], np.array([[0, 1, 1]]))  # one task, two classes
    >>> learner.predict(params, support, support.x).shape, params["lr.linear2.weight"].shape
    ((1, 3, 2), (1,))
    """

    ways: int | None = None
    learned_lr: bool = False
    multi_step: bool = False

    def init(self, rng):
        params = self.model.init(rng)
        for name, lr in self.alphas(params).items() if self.learned_lr else ():
            if lr and (acting := self.steps - self._first(name)) > 0:
                rates = np.full(acting, lr, np.float32)
                params[LEARNED + name] = tensor(rates, requires_grad=True)
        return params

    def objective(self, params, tasks):
        path = list(self.path(params, tasks.support, self.steps, self.first_order))
        ends = path[1:] if self.multi_step else path[-1:]
        return sum(self.task_loss(end, *tasks.query).mean() for end in ends) / len(ends)

    def path(self, params, support, steps, first_order=True):
        theta = per_task({n: params[n] for n in self.alphas(params)}, len(support.x))
        if self.ways:
            head = self.model.names[-1]
            theta[head] = broadcast_to(theta[head], (*theta[head].shape[:-1], self.ways))
        yield theta
        for step in range(steps):
            if self.ways and step == 1:  # the head depends on the features that stayed, but the
                theta = {n: +p for n, p in theta.items()}  # next gradient must not go that way
            rates = {"lr": self.rates(params, step), "first_order": first_order}
            yield (theta := adapt(self.task_loss, theta, support, **rates))

    def alphas(self, params: Params) -> dict:
        """Return where alpha of each parameter starts; 0 of those that stay."""
        own = [name for name in params if not name.startswith(LEARNED)]
        return self.lr if isinstance(self.lr, dict) else dict.fromkeys(own, self.lr)

    def rates(self, params: Params, step: int) -> Rates:
        """Return alpha of each parameter at a step, from 0 on."""
        found = {}
        for name, lr in self.alphas(params).items():
            acting, learned = step - self._first(name), params.get(LEARNED + name)
            if learned is not None:
                lr = learned[min(max(acting, 0), len(learned) - 1)]
            found[name] = lr if acting >= 0 else 0
        return found

    def _first(self, name):
        """Return the first step that moves a parameter."""
        return int(bool(self.ways) and name != self.model.names[-1])
