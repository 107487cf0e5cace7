"""Matching networks (Vinyals et al. 2016): attention over the support.

The label of x^ is a mean of the support's labels y_i, weighted by an attention a (Equation 1, and
the one after it, with the cosine c and embeddings f and g):

    P(y^ | x^, S) = sum_i a(x^, x_i) y_i,
    a(x^, x_i) = exp(c(f(x^), g(x_i)) / T) / sum_j exp(c(f(x^), g(x_j)) / T).

Training descends -log P of the true label. The paper has no temperature: T = 1. As a cosine is at
most 1, P is then nearly even whatever the embedding, and the loss has little to say; we take
T = 0.05.
"""

from dataclasses import dataclass

from ..engine.ops import logsumexp
from ..nn import cosine_similarity
from .learner import MetricLearner, by_class


@dataclass(frozen=True)
class MatchingNet(MetricLearner):
    """Matching networks as a learner; its scores are log P, less what all classes share.

    Parameters
    ----------
    temperature : float
        T.
    body, n_way, train_way, inductive
        As of :class:`MetricLearner`; ``body`` is f and g.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner = tm.learners.MatchingNet(tm.nn.Linear(3, 2))
    >>> params = learner.init(np.random.default_rng(0))
    >>> support = tm.Batch(np.eye(3)[None], np.array([[0, 1, 1]]))  # one task, two classes
    >>> learner.predict(params, support, np.eye(3)[None]).shape
    (1, 3, 2)
    """

    temperature: float = 0.05

    def scores(self, params, known, query, members):
        similarity = cosine_similarity(query, known) / self.temperature
        return logsumexp(by_class(similarity, members), axis=-2)
