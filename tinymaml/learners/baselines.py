"""Baselines: what MAML is compared with, and a learner too."""

from dataclasses import dataclass

import numpy as np

from ..nn import Layer
from .learner import Learner
from .maml import MAML, per_task


@dataclass(frozen=True)
class Pretrained(MAML):
    """One network for the examples of all tasks together, fine-tuned to each at test.

    Finn et al. 2017, section 5.1. Training takes the examples of the query; parameters as
    :class:`MAML`, of which training has no inner steps.
    """

    steps: int = 0


@dataclass(frozen=True)
class NoAdaptation(Pretrained):
    """The same network, which says the same whatever the support is."""

    lr: float = 0.0

    def predictions(self, params, support, x, steps):
        yield self.model(per_task(params, len(support.x)), x)


@dataclass(frozen=True)
class NearestNeighbour(Learner):
    """The label of the support example whose features are nearest by cosine.

    Ravi & Larochelle 2017, section 5. It learns nothing by itself: ``body`` is trained otherwise,
    say as a part of a classifier of all training classes.

    Parameters
    ----------
    body : Layer
        Images to features, (n, h, w, c) -> (n, d).
    """

    body: Layer

    def init(self, rng):
        return self.body.init(rng)

    def predict(self, params, support, x):
        known, new = (self.body(params, images) for images in (support.x, x))
        known, new = (f / np.sqrt(np.sum(f * f, -1, keepdims=True) + 1e-12) for f in (known, new))
        similarity = new @ known.swapaxes(-1, -2)  # (n_tasks, n, support)
        classes = np.arange(int(support.y.max()) + 1, like=support.y)
        members = support.y[..., None, :, None] == classes
        return np.max(np.where(members, similarity[..., None], -2.0), axis=-2)
