"""Regression of sinusoids: MAML, the network pretrained on all tasks, and the oracle."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .. import nn
from ..engine.backend import asarray
from ..engine.tensor import no_grad
from ..pictures import plots
from ..tasks import Batch
from ..tasks.sinusoid import SinusoidTasks, wave
from . import paper
from .problem import Problem, Trial
from .schedule import check, option

#: One model, trained at K = 10, is tested with these numbers of points (Finn et al. 2017, 5.1)
SHOTS = (5, 10, 20)
STEPS = 10  # of the curves at test: the authors' code always takes ten
PRINTED = (1, 5, 10)  # of these the paper prints the error


class InformedTasks(SinusoidTasks):
    """Sinusoids whose inputs say which task they are of: x, amplitude and phase, (..., n, 3).

    Examples
    --------
    >>> tasks = InformedTasks(k_shot=5).sample(np.random.default_rng(0), n_tasks=25)
    >>> tasks.support.x.shape
    (25, 5, 3)
    """

    def inputs(self, x: np.ndarray, amplitude: np.ndarray, phase: np.ndarray) -> np.ndarray:
        """Return the inputs at the points x of given waves."""
        return np.stack(np.broadcast_arrays(x, amplitude, phase), axis=-1)


@dataclass(frozen=True)
class Sinusoids(Problem):
    """Regression of sinusoids (Finn et al. 2017, section 5.1): MLP 1-40-40-1, mean squared error.

    The inner loss is the mean over the K points, as in the authors' code.
    """

    k_shot: int = option(10, "support examples")

    data = "sinusoid"
    task = "sinusoids, tested with 5, 10 and 20 points"
    metric = "MSE"
    without = ("test_steps", "head")  # it is tested after 0 to 10 steps, and validated after one
    block = 600
    #: Eight times the error of predicting 0 for the largest wave: gradient descent blew up
    worst = 100.0
    family, inputs = SinusoidTasks, 1  # of the network

    def __post_init__(self):
        check(self, "k_shot", least=1, what="1 or more")

    @cached_property
    def model(self) -> nn.Layer:
        """The network."""
        return nn.mlp((self.inputs, 40, 40, 1))

    @property
    def setting(self) -> str:
        """The number of points, as the paper's figures name it."""
        return f"K = {self.k_shot}"

    loss = staticmethod(nn.mse_loss)
    score = staticmethod(nn.mse_loss)

    def rates(self, alpha: float) -> float:
        """Return the inner rate: alpha, since the authors' loss too is a mean over the points."""
        return alpha

    def tasks(self, split: str) -> SinusoidTasks:
        """Return the source of tasks; all splits are drawn from the same family."""
        n_query = self.k_shot if split == "train" else 100
        return self.family(k_shot=self.k_shot, n_query=n_query)

    def printed(self, method: str) -> str:
        """Return the paper's result as text."""
        return " / ".join(f"{value:.2f}" for value in self._in_the_paper(method).values())

    def _in_the_paper(self, method):
        """Return what Table 2 prints of a method, by the number of gradient steps."""
        values = {i: paper.value(self.data, method, "K = 5", i) for i in PRINTED}
        return {i: value[0] for i, value in values.items() if value}

    def trials(self, method, params: dict) -> Iterator[Trial]:
        """Yield the tests: the model, trained at one K, is tested at K = 5, 10 and 20."""
        for k in SHOTS:
            problem, steps = self.replace(k_shot=k), range(STEPS + 1)
            tested = (method.learner(problem), params, problem, method.label(self))
            yield Trial(*tested, steps, PRINTED, curve=True)

    def paper_values(self, method) -> dict:
        """Return the paper's numbers by setting and steps."""
        values = self._in_the_paper(method.label(self))
        return {"K = 5": values} if values else {}

    def protocol(self, trials: list, rows: list, n_tasks: int, seed: int) -> str:
        """Return the sentence that says how it was tested."""
        rates = {trial.problem.setting: getattr(trial.learner, "lr", 0.0) for trial in trials}
        adaptation = "step size " + ", ".join(f"{lr:g} at {k}" for k, lr in rates.items())
        if len(set(rates.values())) == 1:
            rate = rates["K = 5"]
            adaptation = f"step size {rate:g}" if rate else "no adaptation"
        return (
            f"mean squared error +- 95 % interval over {n_tasks} tasks, seed {seed}; K support and "
            f"100 query points of each; a task whose error is above {self.worst:g} counts as "
            f"diverged; {adaptation}"
        )

    def number(self, mean: float, half: float | None = None) -> str:
        """Return a score as text."""
        digits = 2 if mean >= 0.1 else 3
        return f"{mean:.{digits}f}" + (f" +- {half:.{digits}f}" if half is not None else "")

    def figures(self, run, method, params: dict, rng: Callable) -> list[Path]:
        """Draw three tasks at K = 5 above the same three at K = 10, as the paper's Figure 2."""

        def draw(axes):
            x, shown = np.linspace(-5, 5, 200, dtype=np.float32), (0, 1, 10)
            for row, k in ((axes[:3], 5), (axes[3:], 10)):
                problem, generator = self.replace(k_shot=k), rng("test")
                learner, family = method.learner(problem), problem.tasks("test")
                waves = family.sample_waves(generator, len(row))
                support = family.sample_points(generator, *waves).support
                inputs = family.inputs(np.stack([x] * len(row)), *waves)
                arrays = Batch(*map(asarray, support)), asarray(inputs)
                with no_grad():
                    said = [y.numpy() for y in learner.predictions(params, *arrays, shown)]
                for i, ax in enumerate(row):
                    points = Batch(support.x[i, :, :1], support.y[i])
                    truth = Batch(x[:, None], wave(x[:, None], waves[0][i], waves[1][i]))
                    fits = {steps: y[i] for steps, y in zip(shown, said)}
                    plots.sinusoid_fits(points, fits, truth, ax=ax)
                    ax.set_title(f"{method.label(self)}, {problem.setting}")
            plots.shared_legend(axes)

        plots.save(run / "fits.png", draw, width=13, height=7, panels=(2, 3))
        return [run / "fits.png"]


@dataclass(frozen=True)
class InformedSinusoids(Sinusoids):
    """Sinusoids whose amplitude and phase are inputs too, for the oracle of section 5.1.

    There is nothing to learn from the support.
    """

    family, inputs = InformedTasks, 3
