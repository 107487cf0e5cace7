"""Reinforcement learning, Algorithm 3: its methods, its problems, and how they train and test."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np

from .. import rl
from ..engine.backend import get_backend
from ..errors import UserError
from ..parallel.group import map_chunks
from ..pictures import plots
from ..rl import mujoco
from . import paper
from .evaluation import summarise
from .experiment import Experiment
from .methods import Method
from .problem import Problem
from .schedule import ABOVE_0, check, choose, option


@dataclass(frozen=True)
class PolicyMAML(Method):
    """MAML of a policy: REINFORCE inside, TRPO or PPO outside (Finn et al. 2017, Algorithm 3)."""

    first_order: bool = option(False, "first-order MAML: take inner gradients as constants")
    inner_lr: float = option(0.1, "learning rate of the inner loop: alpha")
    inner_steps: int = option(1, "gradient steps of the inner loop in training; 0: none")
    rollouts: int = option(20, "rollouts of each task for each gradient")
    surrogate: str = option("reinforce", "inner loss: reinforce, dice or low-variance")
    update: str = option("trpo", "meta-update: trpo, or ppo, which takes --meta-lr")
    max_kl: float = option(0.01, "mean KL that an update by trpo may change the policies by")
    test_steps: int = option(3, "gradient steps at test; from the second on alpha is halved")

    group = "reinforcement"
    without = ("clip",)
    informed = False

    def __post_init__(self):
        check(self, "inner_lr", least=ABOVE_0, what="a number above 0")
        check(self, "inner_steps", least=0, most=100, what="1 or more, or 0 for no adaptation")
        check(self, "rollouts", least=2, most=10_000, what="2 or more")
        check(self, "test_steps", least=0, most=100, what="0 to 100")
        check(self, "max_kl", least=ABOVE_0, what="a number above 0")
        choose(self, "surrogate", *rl.surrogates.INNER)
        choose(self, "update", "trpo", "ppo", "none")

    def learner(self, problem, inductive=False):
        world = problem.informed if self.informed else problem.environment
        policy = rl.GaussianPolicy(world.observation_size, world.action_size)
        settings = (self.inner_steps, self.rollouts, self.first_order, self.surrogate)
        return rl.MAML(policy, world, self.inner_lr, *settings, chunk=problem.chunk)

    def label(self, problem):
        if self.update == "none":
            return "Random"
        if not self.inner_steps:
            return "Oracle" if self.informed else "Pretrained"
        words = ["first order"] * self.first_order + ["PPO"] * (self.update == "ppo")
        return ", ".join(["MAML", *words, *[self.surrogate] * (self.surrogate != "reinforce")])

    def meta_update(self, meta_lr: float) -> Callable | None:
        """Return what moves theta."""
        return {"trpo": rl.TRPO(self.max_kl), "ppo": rl.PPO(meta_lr), "none": None}[self.update]

    def rates(self) -> list[float]:
        """Return the step sizes at test: alpha, then half of it (Finn et al. 2017, A.2)."""
        return [self.inner_lr / (1 if i == 0 else 2) for i in range(self.test_steps)]


@dataclass(frozen=True)
class PolicyOracle(PolicyMAML):
    """A policy that sees which task it is, and so has nothing to adapt to."""

    inner_steps: int = 0
    test_steps: int = 0

    informed = True
    without = ("clip", "first_order", "inner_lr", "surrogate")


class Control(Problem):
    """Acting in an environment whose tasks differ in what is rewarded.

    It has the classes ``environment`` and ``informed``, the latter for the oracle.
    """

    metric = "return"
    chunk = 5
    test_tasks = 40  # Finn et al. 2017, A.2
    test_rollouts = 20

    def simulator(self) -> str:
        """Return the end of a protocol: what the numbers depend on besides."""
        return ""

    @property
    def setting(self) -> str:
        """How many rollouts a gradient has at test."""
        return f"{self.test_rollouts} rollouts"

    def printed(self, method: str) -> str:
        """Return the reference returns after 0, 1, ... updates as text."""
        return " / ".join(f"{value:.1f}" for value in self._reference(method).values())

    def paper_values(self, method) -> dict:
        """Return the reference returns by setting and updates."""
        values = self._reference(method.label(self))
        return {self.setting: values} if values else {}

    def _reference(self, method):
        values = {i: paper.value(self.data, method, self.setting, i) for i in range(4)}
        return {i: value[0] for i, value in values.items() if value}

    def number(self, mean: float, half: float | None = None) -> str:
        """Return a score as text."""
        return f"{mean:.1f}" + (f" +- {half:.1f}" if half is not None else "")


@dataclass(frozen=True)
class Navigation(Control):
    """A point that looks for a goal in the plane (Finn et al. 2017, section 5.3)."""

    data = "2D navigation"
    task = "goals in the plane, 100 steps"
    test_rollouts = 40
    environment, informed = rl.Navigation2D, rl.InformedNavigation2D

    def figures(self, run, method, params: dict, rng: Callable) -> list[Path]:
        """Draw paths to three goals before and after each update, as the paper's figure 4."""
        learner, rates = method.learner(self), method.rates()[:2]
        goals = self.environment.sample_tasks(rng("test"), 3)
        streams = lambda task, updates: rng("test", 1 + task + len(goals) * updates)
        found = list(learner.path(params, goals, streams, rates))

        def draw(axes):
            for i, ax in enumerate(axes):
                walks = {u: (f.observations[i, ..., :2], f.alive[i]) for u, f in enumerate(found)}
                plots.paths(walks, goals[i], ax=ax)
            plots.shared_legend(axes)

        plots.save(run / "paths.png", draw, width=12, height=4.5, panels=(1, 3))
        return [run / "paths.png"]


class _Robot(Control):
    def simulator(self):
        versions = " and ".join(f"{name} {version(name)}" for name in ("mujoco", "gymnasium"))
        return f"; {versions}, time step {self.environment.timestep} s, no frame skip"

    @property
    def informed(self):
        return mujoco.informed(self.environment)

    def figures(self, run, method, params: dict, rng: Callable) -> list[Path]:
        """Draw a walk of two tasks before and after an update, as the paper's figure 5."""
        learner, world, rates = method.learner(self), self.environment, method.rates()[:1]
        drawn = world.sample_tasks(rng("test"), self.test_tasks)
        tasks = np.array([drawn.min(), drawn.max()])  # backward and forward, or slow and fast
        streams = lambda task, updates: rng("test", 1 + task + len(tasks) * updates)
        found = list(learner.path(params, tasks, streams, rates))
        panels = [(i, u) for i in range(len(tasks)) for u in range(len(found))]
        times = np.linspace(0, world.horizon - 1, 6).astype(int)

        def draw(axes):
            for (i, updates), ax in zip(panels, axes):
                walk = found[updates]
                poses = world.poses(walk.observations[i, 0])[times[walk.alive[i, 0, times] > 0]]
                when = "after an update" if updates else "before"
                title = f"{world.aim(tasks[i])}, {when}" if rates else world.aim(tasks[i])
                plots.film(poses, times * world.timestep, title, ax=ax)
            widest = np.array([ax.get_xlim() for ax in axes])
            for ax in axes:
                ax.set_xlim(widest.min(), widest.max())

        plots.save(run / "film.png", draw, width=12, height=3.6, panels=(1, len(panels)))
        return [run / "film.png"]


@dataclass(frozen=True)
class CheetahDirection(_Robot):
    """A half-cheetah that is to run forward or backward, in MuJoCo."""

    data = "half-cheetah direction"
    task = "forward or backward, 200 steps of 0.01 s"
    environment = mujoco.HalfCheetahDirection


@dataclass(frozen=True)
class CheetahVelocity(_Robot):
    """A half-cheetah that is to run at a speed, in MuJoCo."""

    data = "half-cheetah velocity"
    task = "0 to 2 m/s, 200 steps of 0.01 s"
    environment = mujoco.HalfCheetahVelocity


@dataclass(frozen=True)
class AntDirection(_Robot):
    """An ant that is to run forward or backward, in MuJoCo."""

    data = "ant direction"
    task = "forward or backward, 200 steps of 0.02 s"
    test_rollouts = 40
    environment = mujoco.AntDirection


@dataclass(frozen=True)
class AntVelocity(_Robot):
    """An ant that is to run at a speed, in MuJoCo."""

    data = "ant velocity"
    task = "0 to 3 m/s, 200 steps of 0.02 s"
    environment = mujoco.AntVelocity


@dataclass(frozen=True)
class Reinforcement(Experiment):
    """An experiment in which the data come from what the learner does."""

    def init(self):
        if get_backend() != "numpy":
            raise UserError("environments act on NumPy alone; leave --backend out")
        return self.learner.policy.init(self.schedule.rng("weights"))

    def optimizer_state(self, params):
        update = self.method.meta_update(self.schedule.meta_lr)
        return update.init(params) if update else {}

    def training_tasks(self, step):
        rng = self.schedule.rng("train", step)
        return self.learner.environment.sample_tasks(rng, self.schedule.meta_batch)

    def _rngs(self, stream, step):
        return lambda *key: np.random.default_rng([self.schedule.seed, stream, step, *key])

    @cached_property
    def _eager(self):
        return replace(self.learner, eager=True)

    def step(self, step, params, state, eager=False):
        """Do an iteration of Algorithm 3.

        In place of a loss, it gives minus the mean return, after adaptation and before, and the
        number of frames.
        """
        learner = self._eager if eager else self.learner
        chunks = learner.experience(params, self.training_tasks(step), self._rngs(10, step))
        if update := self.method.meta_update(self.schedule.meta_lr):
            params, state = update(learner, params, chunks, state)
        returns = np.concatenate([chunk.returns for chunk in chunks]).mean(0)
        batches = [batch for chunk in chunks for batch in (*chunk.support, chunk.query)]
        frames = sum(np.count_nonzero(batch.y.weight) for batch in batches)
        return params, state, [*(-returns[::-1]).tolist(), frames]

    def progress(self, losses, rate):
        *losses, frames = losses
        returns = " -> ".join(f"{-loss:.1f}" for loss in losses[::-1])
        return f"return {returns}, {frames * rate:,.0f} frames/s"

    def returns(self, params: dict, split: str, n_tasks: int, rates: list) -> np.ndarray:
        """Return the returns of tasks before and after updates by these rates.

        Shape (tasks, updates + 1).
        """
        learner = replace(self.learner, rollouts=self.problem.test_rollouts)
        tasks = learner.environment.sample_tasks(self.schedule.rng(split), n_tasks)
        stream = {"val": 11, "test": 12}[split]

        def of_chunk(start):
            rngs = self._rngs(stream, start)
            part = tasks[start : start + self.problem.chunk]
            path = learner.path(params, part, rngs, rates)
            return np.stack([found.returns for found in path], axis=1)

        return np.concatenate(list(map_chunks(of_chunk, range(0, n_tasks, self.problem.chunk))))

    def validate(self, params):
        rates = self.method.rates()[:1]
        found = self.returns(params, "val", self.schedule.validation_tasks, rates)
        return float(found[:, -1].mean()), 0

    def costs(self, params):
        """Return the number of parameters, and the milliseconds that a new task takes.

        They are of acting, one update and acting again, the least of five times.
        """
        task, times = self.learner.environment.sample_tasks(self.schedule.rng("val"), 1), []
        for _ in range(5):
            started = time.perf_counter()
            list(self.learner.path(params, task, self._rngs(11, 0), self.method.rates()[:1]))
            times.append(time.perf_counter() - started)
        size = sum(p.size for p in params.values())
        return {"parameters": size, "task_ms": round(1000 * min(times), 2)}

    def test(self, params, n_tasks, progress=False):
        rates = self.method.rates()
        curve = summarise(self.returns(params, "test", n_tasks, rates))
        problem, method = self.problem, self.method
        about = {"data": problem.data, "method": self.label, "setting": problem.setting}
        about |= {"batch_norm": None, "tasks": n_tasks}
        rows = [
            about | {"steps": i} | {key: curve[key][i] for key in ("mean", "ci95", "diverged")}
            for i in range(len(curve["mean"]))
        ]
        rates = ", ".join(f"{rate:g}" for rate in rates)
        return {
            "protocol": (
                f"return +- 95 % interval over {n_tasks} tasks, seed {self.schedule.seed}; each "
                f"the mean of {problem.test_rollouts} rollouts of at most "
                f"{problem.environment.horizon} steps, which also give the gradient; "
                + (f"step sizes {rates}" if rates else "no adaptation")
                + problem.simulator()
            ),
            "metric": problem.metric,
            "axis": problem.axis,
            "curves": {problem.setting: curve},
            "paper": problem.paper_values(method),
            "rows": rows,
        }
