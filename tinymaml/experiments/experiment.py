"""What all experiments share: settings, random streams, the meta-gradient, tables and figures."""

from dataclasses import asdict, dataclass

import numpy as np

from ..errors import UserError
from ..pictures import plots
from .evaluation import score_tasks, summarise
from .training import meta_gradient

STEPS = 10  # of the curves at test: the authors' code always takes ten


@dataclass(frozen=True)
class Experiment:
    """Settings, and what the training loop needs to know; see the subclasses.

    A subclass has the fields of a run's settings, and beside them ``data`` (the title of its
    tables), ``task`` and ``printed`` for the list of experiments, ``metric``, the intervals of the
    log, ``validation_tasks``, and ``model``, ``loss``, ``rates``, ``tasks``, ``score``, ``test``
    and ``number``.
    """

    steps: int = 1
    seed: int = 0
    first_order: bool = False
    meta_lr: float = 1e-3
    meta_batch: int = 1
    inner_lr: float = 0.01
    inner_steps: int = 1
    k_shot: int = 1

    fixed = ()  # fields that are no option, having no effect or no choice
    needs_data = False
    chunk, test_chunk = None, 100  # tasks taken at once in training, at most, and at test
    block = 100  # tasks of a test in memory at once; which they are depends on it
    test_steps = 1  # gradient steps at validation and, for the headline, at test
    worst = float("inf")  # a score above it, or that is no number, counts as diverged

    def __post_init__(self):
        for name in ("steps", "meta_batch", "k_shot"):
            if getattr(self, name) < 1:
                raise UserError(f"{flag(name)} is {getattr(self, name)}; give 1 or more")
        for name in ("meta_lr", "inner_lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{flag(name)} is {getattr(self, name)}; give a number above 0")
        if self.inner_steps < 0:
            raise UserError(
                f"--inner-steps is {self.inner_steps}; give 1 or more, or 0 to train without "
                "adaptation"
            )
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; give 0 or more")

    def rng(self, purpose, step=0):
        """Return the random generator of a purpose.

        Parameters
        ----------
        purpose : {"weights", "train", "val", "test"}
            The initial weights, or the tasks of a split.
        step : int
            Of the training, whose tasks are a function of the seed and the step: that is what
            makes a resumed run equal to one without a break. Of other purposes, one more stream.
        """
        stream = ("weights", "train", "val", "test").index(purpose)
        return np.random.default_rng([self.seed, stream, step] if step else [self.seed, stream])

    def training_tasks(self, step):
        """Return the batch of tasks of a training step."""
        return self.tasks("train").sample(self.rng("train", step), self.meta_batch)

    def blocks(self, split, n_tasks):
        """Yield tasks of a split, always the same, a block of them after the other."""
        source, rng = self.tasks(split), self.rng(split)
        for start in range(0, n_tasks, self.block):
            yield source.sample(rng, min(self.block, n_tasks - start))

    def gradient(self, params, tasks):
        """Return the meta-loss of a batch of tasks and its gradient (Algorithm 1, line 8)."""
        return meta_gradient(
            self.loss,
            params,
            tasks,
            lr=self.rates(params),
            steps=self.inner_steps,
            first_order=self.first_order,
            chunk=self.chunk,
        )

    def config(self):
        """Return the fields as a dict."""
        return asdict(self)

    @property
    def method(self):
        """How the paper's tables would call it."""
        if not self.inner_steps:
            return "Pretrained"
        return "MAML, first order" if self.first_order else "MAML"

    def validate(self, params):
        """Return the mean score on validation tasks, always the same, and how many diverged."""
        tasks = self.blocks("val", self.validation_tasks)
        (scores,) = score_tasks(self, params, tasks, (self.score, [self.test_steps]))
        curve = summarise(scores, self.worst)
        return curve["mean"][0], curve["diverged"][0]

    def row(self, setting, curve, steps, at=-1, **more):
        """Return a row for the tables of a report.

        It is the score after some gradient steps, entry ``at`` of a curve.
        """
        row = {"data": self.data, "method": self.method, "setting": setting, "steps": steps}
        row |= {"batch_norm": None} | more
        row |= {key: curve[key][at] for key in ("mean", "ci95", "diverged")}
        return row | {"tasks": curve["tasks"]}

    def figures(self, run, params, results):
        """Draw the run's figures; returns their paths."""
        drawn, rows = [], run.read_metrics()
        curves, paper = results["curves"], results["paper"]
        if rows:
            drawn.append(run / "learning_curve.png")
            plots.save(drawn[-1], lambda axes: plots.learning_curve(rows, self.metric, ax=axes[0]))
        if curves:
            drawn.append(run / "adaptation.png")
            plots.save(
                drawn[-1],
                lambda axes: plots.adaptation_curve(curves, self.metric, paper, ax=axes[0]),
            )
        return drawn

    def table(self, results):
        """Return the test results as text: the curves beside the paper's numbers, or the rows."""
        columns = self._curve_columns(results) if results["curves"] else self._row_columns(results)
        widths = [max(map(len, column)) for column in columns]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths))
            for row in zip(*columns)
        ]
        lost = [row["diverged"] for row in results["rows"]]
        lost += [sum(curve["diverged"]) for curve in results["curves"].values()]
        note = "\nDiverged tasks are counted and left out of the mean." if any(lost) else ""
        return "\n".join(["", results["protocol"], "", *lines]) + note

    def result(self, mean, half, diverged):
        """Return a score with its interval as text, and how many tasks are left out of it."""
        return self.number(mean, half) + f" ({diverged} diverged)" * (diverged > 0)

    def _curve_columns(self, results):
        count = max(len(curve["mean"]) for curve in results["curves"].values())
        columns = [["steps", *map(str, range(count))]]
        for label, curve in results["curves"].items():
            column = map(self.result, curve["mean"], curve["ci95"], curve["diverged"])
            columns.append([label, *column])
            if values := results["paper"].get(label):
                column = [self.number(values[i]) if i in values else "" for i in range(count)]
                columns.append(["paper", *column])
        return columns

    def _row_columns(self, results):
        columns = [[], [], [], []]
        for row in results["rows"]:
            kind = f"batch norm: {row['batch_norm']}" if row["batch_norm"] else ""
            score = self.result(row["mean"], row["ci95"], row["diverged"])
            cells = (row["method"], row["setting"], kind, score)
            for column, cell in zip(columns, cells):
                column.append(cell)
        return columns


def flag(name):
    """Return the command-line option of a field.

    Examples
    --------
    >>> flag("inner_lr")
    '--inner-lr'
    """
    return "--" + name.replace("_", "-")
