"""Matching networks (Vinyals et al. 2016): attention over the support.

The label of x^ is a mean of the support's labels y_i, weighted by an attention a (Equation 1, and
section 2.1.1, with the cosine c and embeddings f and g):

    P(y^ | x^, S) = sum_i a(x^, x_i) y_i,
    a(x^, x_i) = exp(c(f(x^), g(x_i)) / T) / sum_j exp(c(f(x^), g(x_j)) / T).

Training descends -log P of the true label. The paper has no temperature: T = 1. As a cosine is at
most 1, P is then nearly even whatever the embedding, and the loss has little to say; we take
T = 0.05.

Without more, f and g are one network f' that sees an image alone. Full context embeddings (FCE,
section 2.1.2 and appendix A) let them see the whole support. g adds to g' = f' what an LSTM along
the support in both directions says (its order is the episode's random one),

    g(x_i, S) = h->_i + h<-_i + g'(x_i),

and f takes K steps of an LSTM that attends to the support (Equations 2 to 5):

    h^_k, c_k = LSTM(f'(x^), [h_(k-1), r_(k-1)], c_(k-1)),       h_k = h^_k + f'(x^),
    r_(k-1) = sum_i softmax_i(h_(k-1) . g(x_i)) g(x_i).

They start from zeros, and the first r is zero too. Our LSTM reads [f', r] as its input, which is
the same.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..engine.ops import logsumexp, softmax
from ..nn import BiLSTM, LSTMCell, cosine_similarity
from .learner import MetricLearner, by_class


@dataclass(frozen=True)
class MatchingNet(MetricLearner):
    """Matching networks as a learner; its scores are log P, less what all classes share.

    Parameters
    ----------
    temperature : float
        T.
    fce_steps : int
        K, the steps of full context embeddings; 0: none of them.
    features : int
        Size of the vectors that ``body`` makes, which full context embeddings need to know.
    body, n_way, train_way, inductive
        As of :class:`MetricLearner`; ``body`` is f'.

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
    fce_steps: int = 0
    features: int = 64

    @cached_property
    def context(self) -> dict:
        """The LSTMs of f and g; none without full context embeddings."""
        d = self.features
        return {"g": BiLSTM(d, d), "f": LSTMCell(2 * d, d)} if self.fce_steps else {}

    def init(self, rng):
        params = self.body.init(rng)
        for name, layer in self.context.items():
            params |= {f"{name}.{own}": p for own, p in layer.init(rng).items()}
        return params

    def scores(self, params, known, query, members):
        if self.fce_steps:
            known = self._g(params, known)
            query = self._f(params, known, query)
        similarity = cosine_similarity(query, known) / self.temperature
        return logsumexp(by_class(similarity, members), axis=-2)

    def _g(self, params, known):
        both = self._lstm("g", params, known[..., :, None, :])[..., 0, :]
        return both[..., : self.features] + both[..., self.features :] + known

    def _f(self, params, known, query):
        r, state = 0 * query, (0 * query, 0 * query)
        for _ in range(self.fce_steps):
            h, c = self._lstm("f", params, np.concatenate([query, r], -1), state)
            h = h + query
            r = softmax(h @ known.swapaxes(-1, -2)) @ known
            state = h, c
        return h

    def _lstm(self, name, params, *inputs):
        layer = self.context[name]
        return layer({own: params[f"{name}.{own}"] for own in layer.names}, *inputs)
