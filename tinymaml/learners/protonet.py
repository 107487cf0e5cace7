"""Prototypical networks (Snell, Swersky & Zemel 2017): the nearest class mean in a learned space.

The prototype of class k is the mean of its embedded support (Equation 1), and a query belongs to a
class with a probability that falls with the squared Euclidean distance d (Equation 2):

    c_k = mean of f_phi(x_i) over the support of class k,
    p(y = k | x) = softmax over k of -d(f_phi(x), c_k).

Training descends -log p(y = k | x) of the true class k, in episodes of more classes than at test.
"""

from dataclasses import dataclass

import numpy as np

from ..engine.tensor import Tensor
from .learner import Array, MetricLearner


@dataclass(frozen=True)
class ProtoNet(MetricLearner):
    """Prototypical networks as a learner: each query is nearest to the mean of its class.

    Its parameters are those of :class:`MetricLearner`; ``body`` is f_phi.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner = tm.learners.ProtoNet(tm.nn.Linear(3, 2))
    >>> params = learner.init(np.random.default_rng(0))
    >>> support = tm.Batch(np.eye(3)[None], np.array([[0, 1, 1]]))  # one task, two classes
    >>> learner.predict(params, support, np.eye(3)[None]).numpy().argmax(-1)
    array([[0, 1, 1]])
    """

    def scores(self, params, known, query, members):
        means = class_means(known, members)
        # -d(q, c) = 2 q . c - |q|^2 - |c|^2
        products = query @ means.swapaxes(-1, -2)
        squares = [np.sum(a * a, axis=-1) for a in (query, means)]
        return 2 * products - squares[0][..., :, None] - squares[1][..., None, :]


def class_means(features: Tensor, members: Array) -> Tensor:
    """Return the mean of the features of every class: (n, d), (n, classes) -> (classes, d)."""
    members = members.swapaxes(-1, -2).astype(features.dtype)
    return (members / np.maximum(members.sum(-1, keepdims=True), 1)) @ features
