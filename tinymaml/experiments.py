"""The paper's settings, one small dataclass each.

Every field is an option of ``tinymaml train NAME`` and is stored with the run.
"""

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import ClassVar

import numpy as np

from . import nn, plots
from .backend import asarray
from .errors import UserError
from .evaluation import evaluate, summarise
from .maml import adapt
from .tasks import Batch
from .tasks.images import ImageEpisodes
from .tasks.sinusoid import SinusoidTasks, wave
from .tensor import raw


@dataclass(frozen=True)
class Experiment:
    """What the training loop needs to know of an experiment; see its subclasses."""

    steps: int = 1
    seed: int = 0
    first_order: bool = False
    meta_lr: float = 1e-3
    meta_batch: int = 1
    inner_lr: float = 0.01
    inner_steps: int = 1
    k_shot: int = 1

    needs_data = False
    test_steps = 1  # inner steps at validation and, for the headline, at test
    worst = float("inf")  # a score above it, or that is no number, counts as diverged

    def __post_init__(self):
        for name in ("steps", "meta_batch", "inner_steps", "k_shot"):
            if getattr(self, name) < 1:
                raise UserError(f"{flag(name)} is {getattr(self, name)}; give 1 or more")
        for name in ("meta_lr", "inner_lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{flag(name)} is {getattr(self, name)}; give a number above 0")
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; give 0 or more")

    def rng(self, purpose):
        """Return the random generator of "weights", or of the tasks of "train", "val" or "test"."""
        streams = ("weights", "train", "val", "test")
        return np.random.default_rng([self.seed, streams.index(purpose)])

    def config(self):
        """Return the fields as a dict."""
        return asdict(self)

    def figures(self, run, params, results):
        """Draw the run's figures; returns their paths."""
        curve, steps = run / "learning_curve.png", run / "adaptation.png"
        rows, curves, paper = run.read_metrics(), results["curves"], results["paper"]
        plots.save(curve, lambda axes: plots.learning_curve(rows, self.metric, ax=axes[0]))
        plots.save(
            steps,
            lambda axes: plots.adaptation_curve(curves, self.metric, paper, ax=axes[0]),
        )
        return [curve, steps]

    def _summary(self, params, tasks):
        """Return the summary of the scores after 0 to 10 steps (authors' code: always 10)."""
        return summarise(evaluate(self, params, tasks, 10), self.worst)


def flag(name):
    """Return the command-line option of a field.

    Examples
    --------
    >>> flag("inner_lr")
    '--inner-lr'
    """
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Sinusoid(Experiment):
    """Regression of sinusoids (Finn et al. 2017, section 5.1): MLP 1-40-40-1, mean squared error.

    The inner loss is the mean over the K points, as in the authors' code.
    """

    steps: int = 70_000
    meta_batch: int = 25
    inner_lr: float = 0.01
    k_shot: int = 10

    name = "sinusoid"
    metric = "MSE"
    chunk = None
    log_every, validate_every, checkpoint_every = 100, 5000, 1000
    validation_tasks = 200
    #: Eight times the error of predicting 0 for the largest wave: gradient descent blew up
    worst = 100.0
    #: Mean squared error at K = 5 after 1, 5, 10 steps (Finn et al. 2017, Table 2)
    paper: ClassVar = {1: 0.67, 5: 0.38, 10: 0.35}

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

    def score(self, params, x, y):
        """Return the mean squared error of each task."""
        return raw(self.loss(params, x, y))

    def test(self, params, n_tasks):
        """Return the test results: the model, trained at one K, is tested at K = 5, 10 and 20."""
        curves = {}
        for k in (5, 10, 20):
            curves[f"K = {k}"] = self._summary(
                params, self.tasks("test", k).sample(self.rng("test"), n_tasks)
            )
        return {
            "protocol": f"mean squared error +- 95 % interval over {n_tasks} tasks, seed "
            f"{self.seed}; K support and 100 query points of each; a task whose error is above "
            f"{self.worst:g} counts as diverged",
            "curves": curves,
            "paper": {"K = 5": self.paper},
        }

    def table(self, results):
        """Return the test results as text beside the paper's numbers."""
        return _table(results, lambda mean, half: f"{mean:.2f} +- {half:.2f}")

    def figures(self, run, params, results):
        """Draw the run's figures; returns their paths."""
        fits = run / "fits.png"
        plots.save(fits, lambda axes: self._draw_fits(params, axes), width=13, height=4, panels=3)
        return [*super().figures(run, params, results), fits]

    def _draw_fits(self, params, axes):
        family, rng = self.tasks("test", 5), self.rng("test")
        amplitude, phase = family.sample_waves(rng, len(axes))
        support = family.sample_points(rng, amplitude, phase).support
        x = np.linspace(-5, 5, 200, dtype=np.float32)[:, None]
        for i, ax in enumerate(axes):
            one = Batch(asarray(support.x[i]), asarray(support.y[i]))
            fits = {}
            for steps in (0, 1, 10):
                adapted = adapt(
                    self.loss, params, one, lr=self.rates(params), steps=steps, first_order=True
                )
                fits[steps] = self.model(adapted, asarray(x)).numpy()
            truth = Batch(x, wave(x, amplitude[i], phase[i]))
            plots.sinusoid_fits(Batch(support.x[i], support.y[i]), fits, truth, ax=ax)
        handles = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(*handles, frameon=False, loc="outside lower center", ncols=5)


@dataclass(frozen=True)
class Omniglot(Experiment):
    """Few-shot classification of characters (Finn et al. 2017, section 5.2): four convolutions.

    alpha is meant as in the authors' code, whose inner loss sums over the classes: on the mean
    over examples, which we use, the step is n_way * alpha. Gamma and beta of batch norm are
    meta-learned but not adapted, and there is as much query as support, as there.
    """

    steps: int = 60_000
    meta_batch: int = 32
    inner_lr: float = 0.4
    n_way: int = 5
    k_shot: int = 1
    n_query: int = 0

    needs_data = True
    name = "omniglot"
    metric = "accuracy"
    chunk = 16  # 8 holds half the memory, at a tenth less speed on two cores
    log_every, validate_every, checkpoint_every = 20, 500, 100
    validation_tasks = 200
    test_steps = 3  # Finn et al. 2017, A.1
    #: Accuracy of 5-way 1-shot in per cent (Finn et al. 2017, Table 1)
    paper: ClassVar = {3: 98.7}

    def __post_init__(self):
        super().__post_init__()
        if self.n_way < 2:
            raise UserError(f"--n-way is {self.n_way}; give at least 2 classes")
        if self.n_query < 0:
            raise UserError(
                f"--n-query is {self.n_query}; give 1 or more, or 0 for as many as shots"
            )
        if self.k_shot + self.queries > 20:
            raise UserError(
                f"--k-shot {self.k_shot} and --n-query {self.queries} take more than the "
                "20 drawings that a character has; lower them"
            )

    @property
    def queries(self):
        """Query images of each class."""
        return self.n_query or self.k_shot

    @cached_property
    def model(self):
        return nn.conv4(self.n_way)

    def loss(self, params, x, y):
        return nn.cross_entropy(self.model(params, x), y)

    def rates(self, params):
        """The authors' sum over the classes; batch norm's parameters stay."""
        return {
            name: 0 if name.endswith(("gamma", "beta")) else self.n_way * self.inner_lr
            for name in params
        }

    def load_data(self, data=None, download=False):
        """Load the characters from a folder, downloading them to it first if asked to.

        Returns the folder's path. UserError if it does not hold what is needed.
        """
        from .tasks import omniglot

        if download:
            data = data or "data/omniglot"
            omniglot.download(data)
        characters = omniglot.load(data)
        classes = omniglot.split(characters.names)
        for split, indices in classes.items():
            if self.n_way > len(indices):
                raise UserError(
                    f"--n-way is {self.n_way}, but the split {split!r} has {len(indices)} "
                    "characters; give fewer"
                )
        # the dataclass is frozen so that its options are; the images are no option
        object.__setattr__(self, "_images", {k: characters.images[i] for k, i in classes.items()})
        return str(omniglot.find(data).resolve())

    def tasks(self, split):
        """Return the episodes of a split: "train", "val" or "test"."""
        return ImageEpisodes(
            self._images[split], self.n_way, self.k_shot, self.queries, rotate=True
        )

    def score(self, params, x, y):
        """Return the share of right answers in each task."""
        return (raw(self.model(params, x)).argmax(-1) == raw(y)).mean(-1)

    def test(self, params, n_tasks):
        """Return the test results, on characters that training has not seen."""
        label = f"{self.n_way}-way {self.k_shot}-shot"
        paper = self.paper if (self.n_way, self.k_shot) == (5, 1) else {}
        return {
            "protocol": f"accuracy +- 95 % CI over {n_tasks} tasks, seed {self.seed}; {label}, "
            f"{self.queries} query/class; batch norm: query batch; split: 1100 characters to "
            "train, 100 to validate, 423 to test, irrespective of alphabet; rotations",
            "curves": {
                label: self._summary(params, self.tasks("test").sample(self.rng("test"), n_tasks))
            },
            "paper": {label: {steps: value / 100 for steps, value in paper.items()}},
        }

    def table(self, results):
        """Return the test results as text beside the paper's number."""
        return _table(results, lambda mean, half: f"{100 * mean:.1f} +- {100 * half:.1f} %")


def _table(results, number):
    """Return a table with a row for every gradient step and a column for every curve."""
    head, columns = ["steps"], [[str(step) for step in range(11)]]
    for label, curve in results["curves"].items():
        head.append(label)
        columns.append(
            [
                number(mean, half) + f" ({lost} diverged)" * (lost > 0)
                for mean, half, lost in zip(curve["mean"], curve["ci95"], curve["diverged"])
            ]
        )
        if paper := results["paper"].get(label):
            head.append(f"paper, {label}")
            columns.append(
                [number(paper[i], 0).split(" +-")[0] if i in paper else "" for i in range(11)]
            )
    rows = list(zip(*[[title, *column] for title, column in zip(head, columns)]))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
    note = ""
    if any(sum(curve["diverged"]) for curve in results["curves"].values()):
        note = "\nDiverged tasks are counted and left out of the mean."
    return "\n".join(["", results["protocol"], "", *lines]) + note


EXPERIMENTS = {kind.name: kind for kind in (Sinusoid, Omniglot)}


def from_config(name, config):
    """Return the experiment of a name with the fields that a run stored.

    Raises
    ------
    UserError
        If the name or a field is unknown, or a value is not of its type.

    Examples
    --------
    >>> from_config("sinusoid", {"steps": 2000}).steps
    2000
    """
    if name not in EXPERIMENTS:
        raise UserError(f"experiment {name!r} is unknown; choose {' or '.join(EXPERIMENTS)}")
    kind = EXPERIMENTS[name]
    types = {field.name: field.type for field in fields(kind)}
    for key, value in config.items():
        if key not in types:
            raise UserError(f"{key!r} is no setting of the experiment {name}")
        if types[key] is float and type(value) is int:
            continue
        if type(value) is not types[key]:
            raise UserError(f"the setting {key} is {value!r}, but {types[key].__name__} is needed")
    return kind(**config)
