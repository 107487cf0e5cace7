"""Meta-SGD (Li, Zhou, Chen & Li 2017): the inner rate of every weight is learned.

The inner step has a vector alpha of the size of theta, which says how far and, by its sign, which
way each weight moves (Equation 1; o is the product element by element):

    theta' = theta - alpha o grad_theta L_Ti(f_theta),

and theta and alpha descend the loss of theta' on the query (Algorithm 1). The paper draws where
alpha starts from a range; here it is ``lr``.
"""

from dataclasses import dataclass

import numpy as np

from ..engine.tensor import tensor
from .maml_plus import LEARNED, MAMLPlus


@dataclass(frozen=True)
class MetaSGD(MAMLPlus):
    """Meta-SGD as a learner: :class:`MAMLPlus`, with a learned rate of each element.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner = tm.learners.MetaSGD(tm.nn.mlp((1, 40, 40, 1)), tm.nn.mse_loss, lr=0.01)
    >>> learner.init(np.random.default_rng(0))["lr.linear1.weight"].shape
    (1, 40)
    """

    def init(self, rng):
        params = self.model.init(rng)
        rates = {
            LEARNED + name: tensor(np.full_like(params[name].data, lr), requires_grad=True)
            for name, lr in self.alphas(params).items()
            if lr
        }
        return params | rates

    def rates(self, params, step):
        starts = self.alphas(params).items()
        return {name: params[LEARNED + name] if lr else 0 for name, lr in starts}
