"""PPO: some steps of Adam on a loss that rewards no change of the policy beyond a limit."""

from dataclasses import dataclass

from ..engine.tensor import Tensor
from ..learners.learner import Params
from ..optim import Adam


@dataclass(frozen=True)
class PPO:
    """A meta-update that is cheaper than TRPO (Schulman et al. 2017).

    Parameters
    ----------
    lr : float
        Of Adam.
    epochs : int
        Steps on the same experience.
    """

    lr: float = 1e-2
    epochs: int = 3

    def init(self, theta: Params) -> dict:
        """Return the state of Adam before the first update."""
        return Adam(self.lr).init(theta)

    def __call__(self, learner, theta: Params, chunks: list, state: dict) -> tuple[Params, dict]:
        """Return theta after one update by the experience of a batch of tasks, and the state."""
        whole = [(c.support, c.query) for c in chunks]
        for _ in range(self.epochs):
            _, gradient = learner.over_tasks(learner.clipped_gradient, theta, whole)
            gradient = {n: Tensor(g.astype(theta[n].dtype)) for n, g in gradient.items()}
            theta, state = Adam(self.lr).update(theta, gradient, state)
        return theta, state
