"""An experiment: a method, a problem and a schedule, and what a run of it does with them."""

import time
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..engine.backend import asarray
from ..engine.compile import compile
from ..engine.structure import map_leaves
from ..engine.tensor import no_grad
from ..learners import Learner
from ..parallel.chunks import gradient_by_chunks, value_and_gradient
from ..parallel.threads import Own, cores
from ..pictures import plots
from ..tasks import Batch, Task
from . import floors
from .methods import Method
from .problem import Problem
from .schedule import Schedule

if cores() == 1:
    tqdm.monitor_interval = 0  # what watches the bars is a thread, and a browser starts none

#: Settings that a training does not depend on: a run may be tested by others
OF_THE_TEST = ("test_steps", "test_query")


@dataclass(frozen=True)
class Experiment:
    """How something is learned (method), what (problem), and how long and fast (schedule).

    The options of the three, whose names all differ, are the settings of a run.

    Examples
    --------
    >>> from tinymaml.experiments import EXPERIMENTS
    >>> short = EXPERIMENTS["sinusoid"].replace(steps=2000, inner_lr=0.001)
    >>> short.schedule.steps, short.method.inner_lr, short.learner.steps
    (2000, 0.001, 1)
    """

    method: Method
    problem: Problem
    schedule: Schedule

    def __getstate__(self):
        """Return what another process needs, which makes the learner anew."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def parts(self) -> tuple:
        return self.problem, self.method, self.schedule

    @cached_property
    def learner(self) -> Learner:
        return self.method.learner(self.problem)

    @property
    def label(self) -> str:
        """The method's name in tables."""
        return self.method.label(self.problem)

    def options(self) -> dict:
        """Return the settings by name: dataclass fields, whose metadata hold the help texts."""
        found = {f.name: f for part in self.parts for f in fields(part) if "help" in f.metadata}
        without = {*self.method.without, *self.problem.without}
        return {name: field for name, field in found.items() if name not in without}

    def config(self) -> dict:
        """Return the values of the settings by name."""
        values = {f.name: getattr(part, f.name) for part in self.parts for f in fields(part)}
        return {name: values[name] for name in self.options()}

    def recipe(self) -> dict:
        """Return what a training depends on; it may be of more steps than at first."""
        kept = {k: v for k, v in self.config().items() if k not in ("steps", *OF_THE_TEST)}
        return {"method": self.label} | kept

    def replace(self, **settings) -> "Experiment":
        """Return the experiment with other settings; TypeError if a name is unknown."""
        changed = []
        for part in (self.method, self.problem, self.schedule):
            own = {f.name: settings.pop(f.name) for f in fields(part) if f.name in settings}
            changed.append(replace(part, **own))
        if settings:
            raise TypeError(f"{next(iter(settings))!r} is not a setting of this experiment")
        return type(self)(*changed)

    def load(self, data: str | None = None) -> tuple["Experiment", str]:
        """Return the experiment with the images of a folder, and the folder's path."""
        problem, path = self.problem.load(data)
        return replace(self, problem=problem), path

    def init(self) -> dict:
        """Return the initial parameters."""
        return self.learner.init(self.schedule.rng("weights"))

    def optimizer_state(self, params: dict) -> dict:
        """Return the state of the meta-optimiser before the first step."""
        return self.schedule.optimiser(1).init(params)

    @property
    def chunks(self) -> int:
        """In how many chunks of tasks a training step is done."""
        return -(-self.schedule.meta_batch // (self.problem.chunk or self.schedule.meta_batch))

    def training_tasks(self, step: int) -> Task:
        """Return the batch of tasks of a training step, from 1 on."""
        rng = self.schedule.rng("train", step)
        tasks = self.problem.tasks("train").sample(rng, self.schedule.meta_batch)
        prepare = getattr(type(self.learner), "prepare", Learner.prepare)
        return prepare(self.learner, tasks, rng, step)

    @cached_property
    def _programs(self):
        step = value_and_gradient(self.learner.objective)
        return Own(lambda: compile(step))

    def gradient(self, params: dict, tasks: Task, eager: bool = False) -> tuple:
        """Return the objective on a batch of tasks and its gradient, clipped if the schedule says.

        A NumPy program computes it (see :func:`tinymaml.compile`), which gives the same numbers as
        ``eager`` and is faster.

        The authors clip the gradient of a loss that is summed over the query and divided by K. Our
        loss is the mean over the query, and the limit is smaller by the same factor.
        """
        tasks = map_leaves(asarray, tasks)
        objective, chunk = self.learner.objective, self.problem.chunk
        compiled = None
        if getattr(self.learner, "compiles", False) and not eager:  # a learner may not say
            compiled = lambda *chunk: self._programs.own(*chunk)
        value, gradient = gradient_by_chunks(objective, params, tasks, chunk, compiled)
        if self.schedule.clip:
            limit = self.schedule.clip / self.problem.mean_scale
            gradient = {name: np.clip(g, -limit, limit) for name, g in gradient.items()}
        if limit := self.schedule.clip_norm:
            norm = np.sqrt(sum(np.sum(g * g) for g in gradient.values()))
            share = limit / np.maximum(norm, limit)
            gradient = {name: g * share for name, g in gradient.items()}
        return value, gradient

    def step(self, step: int, params: dict, state: dict, eager: bool = False) -> tuple:
        """Do a meta-iteration: draw tasks, and move theta down the gradient of the objective.

        Returns the new parameters, the new state of the optimiser, and the objective before.
        """
        value, gradient = self.gradient(params, self.training_tasks(step), eager)
        return *self.schedule.optimiser(step).update(params, gradient, state), float(value)

    def progress(self, losses: list, rate: float) -> str:
        """Return what a progress bar says of the last steps' mean losses; rate is in steps/s."""
        return f"meta-loss {losses[0]:.3f}"

    def validate(self, params: dict) -> tuple[float, int]:
        """Return the mean score on validation tasks, always the same, and how many diverged."""
        trial = self.method.validation(self.problem, params, self.schedule)
        curve = trial.score("val", self.schedule.rng("val"), self.schedule.validation_tasks)
        return curve["mean"][-1], curve["diverged"][-1]

    def test(self, params: dict, n_tasks: int, progress: bool = False) -> dict:
        """Return the test results: a protocol sentence, curves, and rows for a report."""
        trials = list(self.method.trials(self.problem, params, self.schedule))
        below = list(floors.floors(trials, self.method, self.schedule))
        curves, rows, few = {}, [], min(n_tasks, floors.TASKS)
        shown = {"desc": "test", "unit": "task", "leave": False, "disable": not progress}
        with tqdm(total=n_tasks * len(trials) + few * len(below), **shown) as bar:
            for trial in (*trials, *below):
                n = few if trial.floor else n_tasks
                curve = trial.score("test", self.schedule.rng("test"), n, bar)
                rows += [_row(trial, curve, step) for step in trial.rows]
                if trial.curve:
                    curves[trial.problem.curve_label] = curve
        own = rows[: len(rows) - len(below)]
        return {
            "protocol": self.method.protocol(self.problem, trials, own, n_tasks, self.schedule),
            "metric": self.problem.metric,
            "axis": self.problem.axis,
            "curves": curves,
            "paper": self.problem.paper_values(self.method) if curves else {},
            "rows": rows,
        }

    def costs(self, params: dict) -> dict:
        """Return the number of parameters, and the milliseconds to learn a new task.

        They are from the support to the first prediction, of one task with one query example: the
        least of five times.
        """
        trial = self.method.validation(self.problem, params, self.schedule)
        (support, query), *_ = trial.problem.blocks("val", self.schedule.rng("val"), 1)
        given = Batch(*map(asarray, support)), asarray(query.x[:, :1])
        times = []
        with no_grad():
            for _ in range(5):
                started = time.perf_counter()
                trial.learner.predict(trial.params, *given).numpy()
                times.append(time.perf_counter() - started)
        size = sum(p.size for p in params.values())
        return {"parameters": size, "task_ms": round(1000 * min(times), 2)}

    def figures(self, run, params: dict, results: dict) -> list[Path]:
        """Draw the run's figures, and return their paths."""
        drawn, rows, metric = [], run.read_metrics(), self.problem.metric
        if rows:
            drawn.append(run / "learning_curve.png")
            plots.save(drawn[-1], lambda axes: plots.learning_curve(rows, metric, ax=axes[0]))
        if curves := {k: c for k, c in results["curves"].items() if len(c["mean"]) > 1}:
            drawn.append(run / "adaptation.png")
            labels = metric, results["paper"], self.problem.axis
            draw = lambda axes: plots.adaptation_curve(curves, *labels, ax=axes[0])
            plots.save(drawn[-1], draw)
        drawn += self.problem.figures(run, self.method, params, self.schedule.rng)
        return drawn + self.method.figures(run, self.problem, params, self.schedule.rng)


def _row(trial, curve, step):
    """Return a row for the tables of a report: the score after some steps of adaptation."""
    at = list(trial.steps).index(step)
    row = {"data": trial.problem.data, "method": trial.method, "setting": trial.problem.setting}
    row |= {"steps": step, "batch_norm": trial.batch_norm}
    row |= {"floor": trial.floor} if trial.floor else {}
    return row | {k: curve[k][at] for k in ("mean", "ci95", "diverged")} | {"tasks": curve["tasks"]}
