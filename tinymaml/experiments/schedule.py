"""How long and how fast a training goes, and what a setting is."""

import math
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UserError
from ..optim import SGD, Adam

ABOVE_0 = 5e-324  # the smallest positive number
FALLING = ("linear", "cosine")  # decays to 0 at the last step, wherever that is
HALVING = 2000  # steps after which "halving" halves the rate (Snell et al. 2017)


def option(default: Any, meaning: str) -> Any:
    """Return a dataclass field that a run stores and that the command line has an option for."""
    return field(default=default, metadata={"help": meaning})


def flag(name: str) -> str:
    """Return the command-line option of a setting.

    Examples
    --------
    >>> flag("inner_lr")
    '--inner-lr'
    """
    return "--" + name.replace("_", "-")


def check(settings, *names: str, least: float, most: float | None = None, what: str) -> None:
    """Raise UserError if a named setting is below ``least``, above ``most``, infinite or NaN.

    Without ``most`` a count is at most a million.
    """
    for name in names:
        value = getattr(settings, name)
        top = most or (10**6 if isinstance(value, int) else sys.float_info.max)
        if not least <= value <= top:
            limit = f", at most {top:g}" * (value > top)
            raise UserError(f"{flag(name)} is {value}; give {what}{limit}")


def choose(settings, name: str, *known) -> None:
    """Raise UserError if the value of the named setting is not one of the known ones."""
    value = getattr(settings, name)
    if value not in known:
        *others, last = map(str, known)
        raise UserError(f"{flag(name)} is {value!r}; choose {', '.join(others)} or {last}")


@dataclass(frozen=True)
class Schedule:
    """Steps, batches and rates of a meta-training, and how often it logs, validates and saves.

    Parameters
    ----------
    optimizer : {"adam", "sgd"}
    decay : {"none", "linear", "cosine", "halving"}
        Of the learning rate: none, to 0 at the last step in a line or in half a wave of the
        cosine, or halved every 2,000 steps.
    log_every, validate_every, checkpoint_every : int
        Steps between two rows of the metrics, two validations, two checkpoints. A validation is
        a part of a row.
    validation_tasks : int
        Tasks of a validation.
    clip_norm : float
        The most that the root of the sum of squares of the whole meta-gradient may be; 0: any.
    """

    steps: int = option(60_000, "meta-iterations")
    seed: int = option(0, "seed of the random numbers")
    meta_lr: float = option(1e-3, "learning rate of the meta-optimiser")
    meta_batch: int = option(32, "tasks per meta-iteration")
    clip: float = option(0.0, "clip limit of the meta-gradient, on the authors' scale; 0: none")
    decay: str = option("none", "how the meta-rate falls: none, linear, cosine or halving")
    optimizer: str = "adam"
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 100
    validation_tasks: int = 200
    clip_norm: float = 0.0

    def __post_init__(self):
        check(self, "steps", least=1, most=10**9, what="1 or more")
        check(self, "meta_batch", least=1, what="1 or more")
        check(self, "meta_lr", least=ABOVE_0, what="a number above 0")
        check(self, "clip", least=0, what="a number above 0, or 0 for no clipping")
        check(self, "seed", least=0, what="0 or more", most=float("inf"))
        choose(self, "decay", "none", "linear", "cosine", "halving")

    def rng(self, purpose: str, step: int = 0) -> np.random.Generator:
        """Return the random generator of a purpose.

        Parameters
        ----------
        purpose : {"weights", "train", "val", "test"}
            The initial weights, or the tasks of a split.
        step : int
            Of the training. Its tasks depend on the seed and the step alone, so that a resumed
            run equals one without a break. For other purposes, the number of one more stream.
        """
        stream = ("weights", "train", "val", "test").index(purpose)
        return np.random.default_rng([self.seed, stream, step] if step else [self.seed, stream])

    def optimiser(self, step: int) -> Adam | SGD:
        """Return the optimiser of a step, from 1 on."""
        done = (step - 1) / self.steps
        share = {
            "none": 1,
            "linear": 1 - done,
            "cosine": 0.5 + 0.5 * math.cos(math.pi * done),
            "halving": 0.5 ** ((step - 1) // HALVING),
        }[self.decay]
        return {"adam": Adam, "sgd": SGD}[self.optimizer](self.meta_lr * share)
