"""What meta-training needs of a learner, and all that it needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..engine.ops import cross_entropy
from ..engine.ops.loss import check_range, one_hot
from ..engine.tensor import Tensor
from ..nn import Layer
from ..tasks import Batch, Prepared, Task

Array = Any  # of NumPy or CuPy
Params = dict[str, Tensor]
LEAST = -1e30  # the score of a class without support: never the best, and finite


class Learner(Protocol):
    """A system that learns to learn from tasks: MAML, or another one.

    Training descends ``objective``, and a test asks ``predict``; neither knows more of a learner.
    All arrays of ``support``, ``x`` and ``tasks`` have a leading task axis. Parameters have none:
    all tasks share them.

    A new learner is a frozen dataclass in a file of its own in this folder. To train it by a
    command, it also needs its settings, a :class:`tinymaml.experiments.methods.Method`, and a name
    in ``experiments/presets.py``.
    """

    #: Whether ``objective`` can be compiled: it makes no choices that depend on values.
    compiles: bool = True

    def init(self, rng: np.random.Generator) -> Params:
        """Draw the initial parameters."""
        raise NotImplementedError

    def objective(self, params: Params, tasks: Task) -> Tensor:
        """Return the loss that meta-training descends: a scalar, the mean over the tasks."""
        raise NotImplementedError

    def prepare(self, tasks: Task, rng: np.random.Generator, step: int) -> Task | Prepared:
        """Return the tasks of a training step with what else the objective takes of it.

        Random numbers come in here, and what depends on the step: ``objective`` draws none. The
        tasks are on the host. A learner whose objective needs no more than tasks inherits this.
        """
        return tasks

    def predict(self, params: Params, support: Batch, x: Array) -> Tensor:
        """Return what the learner predicts for x after it has seen the support.

        Parameters
        ----------
        params : dict of str to Tensor
        support : Batch
            The labelled examples of each task.
        x : array, shape (n_tasks, n, *example)

        Returns
        -------
        Tensor, shape (n_tasks, n, k)
            In regression the k outputs, in classification one score for each of k classes.
        """
        raise NotImplementedError

    def predictions(
        self, params: Params, support: Batch, x: Array, steps: Sequence[int]
    ) -> Iterator[Tensor]:
        """Yield the predictions after each of these numbers of adaptation steps.

        ``steps`` rises. A learner that takes no steps has one prediction, and needs no more than
        this.
        """
        yield self.predict(params, support, x)


@dataclass(frozen=True)
class MetricLearner(Learner):
    """A learner that compares what it is asked about with the support, in a learned space.

    Training descends the cross-entropy of ``scores`` over the classes.

    Parameters
    ----------
    body : Layer
        Images to vectors, (n, h, w, c) -> (n, d).
    n_way : int, optional
        Classes of a task; by default one more than the largest label of its support.
    train_way : int, optional
        Classes of a task in training; ``n_way`` by default.
    inductive : bool
        Normalise the query too by the statistics of the support, and not by its own.
    """

    body: Layer
    n_way: int | None = None
    train_way: int | None = None
    inductive: bool = False

    def init(self, rng):
        return self.body.init(rng)

    def objective(self, params, tasks):
        said = self._scores(params, tasks.support, tasks.query.x, self.train_way or self.n_way)
        return cross_entropy(said, tasks.query.y).mean()

    def predict(self, params, support, x):
        return self._scores(params, support, x, self.n_way)

    def scores(self, params: Params, known: Tensor, query: Tensor, members: Array) -> Tensor:
        """Return a score of every class for every query example.

        Parameters
        ----------
        params : dict of str to Tensor
        known, query : Tensor, shapes (n_tasks, n, d), (n_tasks, m, d)
            What the body makes of the support and of the query.
        members : bool array, shape (n_tasks, n, n_way)
            Which class each example of the support belongs to.

        Returns
        -------
        Tensor, shape (n_tasks, m, n_way)
        """
        raise NotImplementedError

    def embed(self, params: Params, known: Array, query: Array) -> tuple[Tensor, Tensor]:
        """Return what the body makes of the images of the support, and of the query."""
        fixed = self.body.statistics(params, known) if self.inductive else {}
        return self.body(params, known), self.body(params | fixed, query)

    def _scores(self, params, support, x, n_way):
        known, query = self.embed(params, support.x, x)
        n_way = n_way or int(support.y.max()) + 1
        check_range("the support", support.y, n_way, "classes")
        members = one_hot(support.y, classes=n_way)
        said = self.scores(params, known, query, members)
        return np.where(members.any(-2)[..., None, :], said, LEAST)


def by_class(values: Tensor, members: Array) -> Tensor:
    """Spread what is said of the support over its classes, LEAST for other classes' examples.

    (m, n), (n, classes) -> (m, n, classes).
    """
    return np.where(members[..., None, :, :], values[..., None], LEAST)


class GradientLearner(Learner):
    """A learner whose network, ``model``, takes gradient steps on the support, as MAML does.

    It has the numbers of steps ``steps`` in training and ``test_steps`` at test (None: the same),
    and says by ``inductive`` whose statistics batch norm takes at test.
    """

    def init(self, rng):
        return self.model.init(rng)

    def path(self, params: Params, support: Batch, steps: int) -> Iterator[Params]:
        """Yield the parameters of each task before and after every step on the support."""
        raise NotImplementedError

    @property
    def final_steps(self) -> int:
        """The number of steps at test."""
        return self.steps if self.test_steps is None else self.test_steps

    def fixed(self, adapted: Params, support: Batch) -> Params:
        """Return adapted parameters, with the statistics of batch norm if these are fixed."""
        return adapted | (self.model.statistics(adapted, support.x) if self.inductive else {})

    def predict(self, params, support, x):
        return next(self.predictions(params, support, x, [self.final_steps]))

    def predictions(self, params, support, x, steps):
        for step, adapted in enumerate(self.path(params, support, max(steps))):
            if step in steps:
                yield self.model(self.fixed(adapted, support), x)
