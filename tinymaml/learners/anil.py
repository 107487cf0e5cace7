"""ANIL, almost no inner loop (Raghu, Raghu, Bengio & Vinyals 2020).

MAML whose inner loop moves the last layer alone (section 4): with theta = (theta_body, theta_head),

    theta_head' = theta_head - alpha grad_theta_head L_Ti(f_theta),

and the features stay as they are. Both are meta-learned as in MAML.
"""

from dataclasses import dataclass

from .maml_plus import MAMLPlus


@dataclass(frozen=True)
class ANIL(MAMLPlus):
    """ANIL as a learner: :class:`MAMLPlus`, with rate 0 for all but the last layer.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner = tm.learners.ANIL(tm.nn.mlp((1, 40, 40, 1)), tm.nn.mse_loss, lr=0.01)
    >>> [n for n, lr in learner.alphas(learner.init(np.random.default_rng(0))).items() if lr]
    ['linear3.weight', 'linear3.bias']
    """

    def alphas(self, params):
        head = self.model.names[-1].rpartition(".")[0] + "."
        starts = super().alphas(params).items()
        return {name: lr if name.startswith(head) else 0 for name, lr in starts}
