"""Siamese networks (Koch, Zemel & Salakhutdinov 2015): are two images of one class?

Twin networks with the same weights make vectors h_1 and h_2 of two images. The probability that
both are of one class is (section 3.1, the prediction layer)

    p(x_1, x_2) = sigma( sum_j alpha_j |h_1^(j) - h_2^(j)| + b ),

and training descends (section 3.2, with y = 1 for a pair of one class)

    -y log p - (1 - y) log(1 - p) + lambda |w|^2.

A new image is of the class of the support image that it is most alike (section 4.3).

What we chose: the pairs are those of every support with every query image of an episode, and those
of one class weigh as much together as all others, as in the paper's even choice. With K shots the
similarity to a class is the mean of p over its images. All parameters have one lambda, biases and
batch norm's too.
"""

from dataclasses import dataclass

import numpy as np

from ..engine.ops import logsumexp, softplus
from ..nn import Linear
from ..tasks import Batch, Task
from ..tasks.distortions import distort
from .learner import MetricLearner, by_class


@dataclass(frozen=True)
class Siamese(MetricLearner):
    """Siamese networks as a learner; its scores are the logarithms of the similarity.

    Parameters
    ----------
    body, n_way, train_way, inductive
        As of :class:`MetricLearner`; ``body`` makes h.
    features : int
        Size of h.
    weight_decay : float
        lambda.
    distort : bool
        Distort every image of a training: :func:`tinymaml.tasks.distortions.distort`.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner = tm.learners.Siamese(tm.nn.Linear(3, 2), features=2)
    >>> params = learner.init(np.random.default_rng(0))
    >>> support = tm.Batch(np.eye(3)[None], np.array([[0, 1, 1]]))  # one task, two classes
    >>> learner.predict(params, support, np.eye(3)[None]).shape
    (1, 3, 2)
    """

    features: int = 64
    weight_decay: float = 0.0
    distort: bool = False

    def init(self, rng):
        alpha = Linear(self.features, 1).init(rng)
        return self.body.init(rng) | {f"alpha.{name}": p for name, p in alpha.items()}

    def prepare(self, tasks, rng, step):
        if not self.distort:
            return tasks
        return Task(*[Batch(distort(x, rng), y) for x, y in tasks[:2]])

    def objective(self, params, tasks):
        known, query = self.embed(params, tasks.support.x, tasks.query.x)
        logits = self.alike(params, known, query)
        same = tasks.query.y[..., :, None] == tasks.support.y[..., None, :]
        loss = softplus(np.where(same, -logits, logits))
        parts = [(loss * s).sum((-2, -1)) / s.sum((-2, -1)) for s in (same, ~same)]
        squares = sum(np.sum(p * p) for p in params.values()) if self.weight_decay else 0
        return (parts[0] + parts[1]).mean() / 2 + self.weight_decay * squares

    def scores(self, params, known, query, members):
        log_p = -softplus(-self.alike(params, known, query))
        return logsumexp(by_class(log_p, members), axis=-2) - np.log(
            np.maximum(members.sum(-2), 1)[..., None, :]
        ).astype(log_p.dtype)

    def alike(self, params, known, query):
        """Return the logit of p for each pair: (n, d), (m, d) -> (m, n)."""
        distance = abs(query[..., :, None, :] - known[..., None, :, :])
        return (distance @ params["alpha.weight"])[..., 0] + params["alpha.bias"]
