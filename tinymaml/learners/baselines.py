"""Baselines, which MAML is compared with; they are learners too.

All tasks share one network f_theta, which learns nothing about learning:

    theta <- theta - beta grad_theta sum_i L_Ti(f_theta).
"""

from dataclasses import dataclass

import numpy as np

from ..nn import cosine_similarity
from .learner import MetricLearner, by_class
from .maml import MAML, per_task


@dataclass(frozen=True)
class Pretrained(MAML):
    """One network for all tasks together, fine-tuned to each at test (Finn et al. 2017, 5.1).

    It is :class:`MAML` without inner steps in training, which takes the examples of the query.
    """

    steps: int = 0


@dataclass(frozen=True)
class NoAdaptation(Pretrained):
    """The same network without fine-tuning: its predictions do not depend on the support."""

    lr: float = 0.0

    def predictions(self, params, support, x, steps):
        yield self.model(per_task(params, len(support.x)), x)


@dataclass(frozen=True)
class NearestNeighbour(MetricLearner):
    """The label of the support example whose features are nearest by cosine.

    Ravi & Larochelle 2017, section 5. The score of class k is the largest
    cos(f_theta(x), f_theta(x_i)) over its support examples x_i. It has no objective of its own:
    ``body`` is trained as a part of a classifier of all training classes. Its parameters are those
    of :class:`MetricLearner`.
    """

    def scores(self, params, known, query, members):
        return np.max(by_class(cosine_similarity(query, known), members), axis=-2)
