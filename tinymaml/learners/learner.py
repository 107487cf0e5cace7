"""What meta-training needs of a learner, and all that it needs."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ..engine.tensor import Tensor
from ..tasks import Batch, Task

Array = Any  # of NumPy or CuPy
Params = dict[str, Tensor]


class Learner(Protocol):
    """A system that learns to learn from tasks: MAML, or another one.

    Training descends ``objective``, and a test asks ``predict``; neither knows more of a learner.
    All arrays of ``support``, ``x`` and ``tasks`` have a leading task axis, and parameters have
    none: they are what all tasks share.
    """

    def init(self, rng: np.random.Generator) -> Params:
        """Draw the initial parameters."""
        ...

    def objective(self, params: Params, tasks: Task) -> Tensor:
        """Return what meta-training descends: a scalar, the mean over the tasks."""
        ...

    def predict(self, params: Params, support: Batch, x: Array) -> Tensor:
        """Return what the learner says of x, once it has seen the support.

        Parameters
        ----------
        params : dict of str to Tensor
        support : Batch
            The examples of each task that come with their targets.
        x : array, shape (n_tasks, n, *example)

        Returns
        -------
        Tensor, shape (n_tasks, n, k)
            The k outputs of a regression; of a classification one score for each class.
        """
        ...

    def predictions(
        self, params: Params, support: Batch, x: Array, steps: Sequence[int]
    ) -> Iterator[Tensor]:
        """Yield what the learner says after each of these numbers of steps of adaptation.

        They are in rising order. A learner that takes no steps says one thing.
        """
        yield self.predict(params, support, x)
