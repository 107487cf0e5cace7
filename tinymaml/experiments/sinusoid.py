"""Regression of sinusoids: MAML, the network pretrained on all tasks, and the oracle."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .. import nn
from ..engine.backend import asarray
from ..engine.tensor import no_grad
from ..pictures import plots
from ..tasks import Batch, Task
from ..tasks.sinusoid import SinusoidTasks, wave
from . import paper
from .problem import Problem, Trial
from .schedule import check, option

#: One model, trained at K = 10, is tested with these numbers of points (Finn et al. 2017, 5.1)
SHOTS = (5, 10, 20)
STEPS = 10  # of the curves at test: the authors' code always takes ten


@dataclass(frozen=True)
class Sinusoids(Problem):
    """Regression of sinusoids (Finn et al. 2017, section 5.1): MLP 1-40-40-1, mean squared error.

    The inner loss is the mean over the K points, as in the authors' code.
    """

    k_shot: int = option(10, "support examples")

    data = "sinusoid"
    task = "sinusoids, tested with 5, 10 and 20 points"
    metric = "MSE"
    block = 600
    #: Eight times the error of predicting 0 for the largest wave: gradient descent blew up
    worst = 100.0

    def __post_init__(self):
        check(self, "k_shot", least=1, what="1 or more")

    @cached_property
    def model(self):
        return nn.mlp((1, 40, 40, 1))

    loss = staticmethod(nn.mse_loss)
    score = staticmethod(nn.mse_loss)

    def rates(self, alpha):
        """Return the inner rates: the loss is the mean over the points, so alpha as it is."""
        return alpha

    def tasks(self, split: str) -> SinusoidTasks:
        """Return the source of tasks; all splits are drawn from the same family."""
        n_query = self.k_shot if split == "train" else 100
        return SinusoidTasks(k_shot=self.k_shot, n_query=n_query)

    def printed(self, method: str) -> str:
        """Return the paper's result as text."""
        values = [paper.value(self.data, method, "K = 5", i) for i in (1, 5, 10)]
        return " / ".join(f"{value[0]:.2f}" for value in values if value)

    def trials(self, method, params) -> Iterator[Trial]:
        """Yield the tests: the model, trained at one K, is tested at K = 5, 10 and 20."""
        for k in SHOTS:
            problem = self.replace(k_shot=k)
            yield Trial(
                method.learner(problem),
                params,
                problem,
                method.label(self),
                f"K = {k}",
                steps=range(STEPS + 1),
                rows=(1, 5, 10),
                curve=True,
            )

    def paper_values(self, method) -> dict:
        """Return the paper's numbers by setting and steps."""
        found, label = {}, method.label(self)
        for k in SHOTS:
            values = {i: paper.value(self.data, label, f"K = {k}", i) for i in (1, 5, 10)}
            if values[1]:
                found[f"K = {k}"] = {i: value[0] for i, value in values.items()}
        return found

    def protocol(self, trials: list, rows: list, n_tasks: int, seed: int) -> str:
        """Return the sentence that says how it was tested."""
        rates = {trial.setting: trial.learner.lr for trial in trials}
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

    def figures(self, run, method, params, rng) -> list:
        """Draw three tasks at K = 5 above the same three at K = 10, as the paper's Figure 2."""

        def draw(axes):
            for row, k, generator in zip((axes[:3], axes[3:]), (5, 10), (rng("test"), rng("test"))):
                problem = self.replace(k_shot=k)
                family = problem.tasks("test")
                waves = family.sample_waves(generator, len(row))
                support = family.sample_points(generator, *waves).support
                x = np.linspace(-5, 5, 200, dtype=np.float32)[:, None]
                for i, ax in enumerate(row):
                    points = Batch(support.x[i], support.y[i])
                    fits = problem.fits(method.learner(problem), params, points, x)
                    truth = Batch(x, wave(x, waves[0][i], waves[1][i]))
                    plots.sinusoid_fits(Batch(points.x[:, :1], points.y), fits, truth, ax=ax)
                    ax.set_title(f"{method.label(self)}, K = {k}")
            handles = axes[0].get_legend_handles_labels()
            axes[0].figure.legend(*handles, frameon=False, loc="outside lower center", ncols=5)

        plots.save(run / "fits.png", draw, width=13, height=7, panels=(2, 3))
        return [run / "fits.png"]

    def inputs(self, support: Batch, x: np.ndarray) -> np.ndarray:
        """Return the network's inputs at x in the task of a support."""
        return x

    def fits(self, learner, params, support: Batch, x: np.ndarray) -> dict:
        """Return the network's output on x, by the number of gradient steps: 0, 1 and 10."""
        inputs = asarray(self.inputs(support, x)[None])
        one = Batch(*[asarray(a[None]) for a in support])
        with no_grad():
            said = learner.predictions(params, one, inputs, (0, 1, 10))
            return {steps: y.numpy()[0] for steps, y in zip((0, 1, 10), said)}


class InformedTasks(SinusoidTasks):
    """Sinusoids whose inputs say which task they are of: x, amplitude and phase, (..., n, 3).

    Examples
    --------
    >>> tasks = InformedTasks(k_shot=5).sample(np.random.default_rng(0), n_tasks=25)
    >>> tasks.support.x.shape
    (25, 5, 3)
    """

    def sample_points(self, rng, amplitude, phase):
        """Draw the support and query points of given waves."""
        task = np.stack([amplitude, phase], axis=-1)  # (n_tasks, 1, 2)
        return Task(
            *[
                Batch(np.concatenate([x, np.broadcast_to(task, (*x.shape[:-1], 2))], -1), y)
                for x, y in super().sample_points(rng, amplitude, phase)
            ]
        )


@dataclass(frozen=True)
class InformedSinusoids(Sinusoids):
    """Sinusoids whose amplitude and phase are inputs too, for the oracle of section 5.1.

    There is nothing to learn from the support.
    """

    @cached_property
    def model(self):
        return nn.mlp((3, 40, 40, 1))

    def tasks(self, split):
        family = super().tasks(split)
        return InformedTasks(k_shot=family.k_shot, n_query=family.n_query)

    def inputs(self, support, x):
        return np.concatenate([x, np.broadcast_to(support.x[:1, 1:], (len(x), 2))], -1)
