"""Regression of sinusoids: MAML, the network pretrained on all tasks, and the oracle."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .. import nn
from ..engine.backend import asarray
from ..engine.tensor import raw
from ..learners.maml import adapt
from ..pictures import plots
from ..tasks import Batch, Task
from ..tasks.sinusoid import SinusoidTasks, wave
from . import paper
from .evaluation import evaluate, summarise
from .experiment import STEPS, Experiment

#: One model, trained at K = 10, is tested with these numbers of points (Finn et al. 2017, 5.1)
SHOTS = (5, 10, 20)


@dataclass(frozen=True)
class Sinusoid(Experiment):
    """Regression of sinusoids (Finn et al. 2017, section 5.1): MLP 1-40-40-1, mean squared error.

    The inner loss is the mean over the K points, as in the authors' code.
    """

    steps: int = 70_000
    meta_batch: int = 25
    inner_lr: float = 0.01
    k_shot: int = 10

    data = "sinusoid"
    metric = "MSE"
    log_every, validate_every, checkpoint_every = 100, 5000, 1000
    validation_tasks = 200
    #: Eight times the error of predicting 0 for the largest wave: gradient descent blew up
    worst = 100.0

    @property
    def task(self):
        """What is learned from, in words."""
        return "sinusoids, tested with 5, 10 and 20 points"

    def printed(self):
        """Return the paper's result as text."""
        values = [paper.value(self.data, self.method, "K = 5", i) for i in (1, 5, 10)]
        return " / ".join(f"{value[0]:.2f}" for value in values if value)

    @cached_property
    def model(self):
        return nn.mlp((1, 40, 40, 1))

    def loss(self, params, x, y):
        return nn.mse_loss(self.model(params, x), y)

    def rates(self, params):
        """The mean over the points: alpha as it is."""
        return self.inner_lr

    def tasks(self, split, k_shot=None):
        """Return the source of tasks; all splits are drawn from the same family."""
        k_shot = k_shot or self.k_shot
        return SinusoidTasks(k_shot=k_shot, n_query=self.k_shot if split == "train" else 100)

    def score(self, params, support, query):
        """Return the mean squared error of each task."""
        return raw(self.loss(params, *query))

    def tuned(self, k_shot):
        """Return the experiment with the step size that it is tested with at some K."""
        return self

    def curve(self, params, tasks):
        """Return the summary of the scores after 0 to 10 gradient steps."""
        return summarise(evaluate(self, params, tasks, STEPS), self.worst)

    def test(self, params, n_tasks):
        """Return the test results: the model, trained at one K, is tested at K = 5, 10 and 20."""
        curves, rows, printed = {}, [], {}
        for k in SHOTS:
            label = f"K = {k}"
            tasks = self.tasks("test", k).sample(self.rng("test"), n_tasks)
            curve = curves[label] = self.tuned(k).curve(params, tasks)
            rows += [self.row(label, curve, steps, steps) for steps in (1, 5, 10)]
            values = {i: paper.value(self.data, self.method, label, i) for i in (1, 5, 10)}
            if values[1]:
                printed[label] = {i: value[0] for i, value in values.items()}
        return {
            "protocol": f"mean squared error +- 95 % interval over {n_tasks} tasks, seed "
            f"{self.seed}; K support and 100 query points of each; a task whose error is above "
            f"{self.worst:g} counts as diverged; {self._adaptation()}",
            "metric": self.metric,
            "curves": curves,
            "paper": printed,
            "rows": rows,
        }

    def _adaptation(self):
        rates = {k: self.tuned(k).inner_lr for k in SHOTS}
        if len(set(rates.values())) == 1:
            return f"step size {self.inner_lr:g}"
        return "step size " + ", ".join(f"{rate:g} at K = {k}" for k, rate in rates.items())

    def number(self, mean, half=None):
        """Return a score as text."""
        digits = 2 if mean >= 0.1 else 3
        return f"{mean:.{digits}f}" + (f" +- {half:.{digits}f}" if half is not None else "")

    def figures(self, run, params, results):
        """Draw the run's figures; returns their paths."""
        fits = run / "fits.png"
        plots.save(
            fits, lambda axes: self._draw_fits(params, axes), width=13, height=7, panels=(2, 3)
        )
        return [*super().figures(run, params, results), fits]

    def _draw_fits(self, params, axes):
        """Three tasks at K = 5 above the same three at K = 10, as the paper's Figure 2."""
        for row, k in zip((axes[:3], axes[3:]), (5, 10)):
            family, rng = self.tasks("test", k), self.rng("test")
            waves = family.sample_waves(rng, len(row))
            support = family.sample_points(rng, *waves).support
            x = np.linspace(-5, 5, 200, dtype=np.float32)[:, None]
            for i, ax in enumerate(row):
                amplitude, phase = waves[0][i], waves[1][i]
                fits = self._fits(params, Batch(support.x[i], support.y[i]), x, k)
                points = Batch(support.x[i][:, :1], support.y[i])
                truth = Batch(x, wave(x, amplitude, phase))
                plots.sinusoid_fits(points, fits, truth, ax=ax)
                ax.set_title(f"{self.method}, K = {k}")
        handles = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(*handles, frameon=False, loc="outside lower center", ncols=5)

    def _fits(self, params, support, x, k):
        """Return the network's output on x after 0, 1 and 10 gradient steps."""
        tuned, fits = self.tuned(k), {}
        for steps in (0, 1, 10):
            adapted = adapt(
                tuned.loss,
                params,
                Batch(*map(asarray, support)),
                lr=tuned.rates(params),
                steps=steps,
                first_order=True,
            )
            fits[steps] = self.model(adapted, asarray(x)).numpy()
        return fits


@dataclass(frozen=True)
class SinusoidPretrained(Sinusoid):
    """The pretrained baseline of section 5.1: one network for the points of all tasks together,
    then fine-tuned.

    By the step sizes that the legends of the paper's figures name, 0.01 at K = 5 and 0.02 above.
    """

    inner_steps: int = 0

    fixed = ("inner_steps", "inner_lr", "first_order")

    def tuned(self, k_shot):
        """Return the experiment with the step size that it is tested with at some K."""
        return replace(self, inner_lr=0.01 if k_shot == 5 else 0.02)


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
class SinusoidOracle(Sinusoid):
    """The oracle of section 5.1: amplitude and phase are inputs too, so there is nothing to learn
    from the support."""

    inner_steps: int = 0

    fixed = ("inner_steps", "inner_lr", "first_order")
    method = "Oracle"
    test_steps = 0

    @cached_property
    def model(self):
        return nn.mlp((3, 40, 40, 1))

    def tasks(self, split, k_shot=None):
        """Return the source of tasks, with amplitude and phase beside x."""
        family = super().tasks(split, k_shot)
        return InformedTasks(k_shot=family.k_shot, n_query=family.n_query)

    def curve(self, params, tasks):
        """Return the error, the same whatever the number of steps: it takes none."""
        scores = evaluate(self, params, tasks, 0)
        return summarise(np.repeat(scores, STEPS + 1, axis=-1), self.worst)

    def _adaptation(self):
        return "no adaptation"

    def _fits(self, params, support, x, k):
        known = np.broadcast_to(support.x[:1, 1:], (len(x), 2))
        return {0: self.model(params, asarray(np.concatenate([x, known], -1))).numpy()}
