"""The paper's regression tasks: sine waves that differ in amplitude and phase."""

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from ..errors import UserError
from .episode import Batch, Task

# Finn et al. 2017, section 5.1; the input range and the absence of noise also from its code.
AMPLITUDE = (0.1, 5.0)
PHASE = (0.0, math.pi)
INPUT = (-5.0, 5.0)


def wave(x: np.ndarray, amplitude: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Return the curve of a task, ``amplitude * sin(x - phase)``; the arguments broadcast.

    Examples
    --------
    >>> float(wave(0.5, amplitude=3.0, phase=0.5))
    0.0
    """
    return amplitude * np.sin(x - phase)


@dataclass(frozen=True)
class SinusoidTasks:
    """Regression on y = A sin(x - phi), A in [0.1, 5], phi in [0, pi], x in [-5, 5], all uniform.

    Support and query points of a task are drawn independently from the same wave, without noise.

    Parameters
    ----------
    k_shot, n_query : int
        Points in the support and in the query batch of each task.

    Raises
    ------
    UserError
        If a size is not a whole number of at least 1.

    References
    ----------
    Finn, Abbeel, Levine (2017), Model-Agnostic Meta-Learning, section 5.1.

    Examples
    --------
    >>> tasks = SinusoidTasks(k_shot=5).sample(np.random.default_rng(0), n_tasks=25)
    >>> tasks.support.x.shape, tasks.query.y.shape, tasks.query.y.dtype
    ((25, 5, 1), (25, 10, 1), dtype('float32'))
    """

    k_shot: int = 10
    n_query: int = 10

    def __post_init__(self):
        for name in ("k_shot", "n_query"):
            size = getattr(self, name)
            if not isinstance(size, Integral) or size < 1:
                raise UserError(f"{name} is {size!r}; a sinusoid task needs at least 1 point there")

    def sample(self, rng: np.random.Generator, n_tasks: int) -> Task:
        """Draw tasks.

        Parameters
        ----------
        rng : numpy.random.Generator
        n_tasks : int

        Returns
        -------
        Task
            float32 arrays of shapes (n_tasks, k_shot, 1) and (n_tasks, n_query, 1).
        """
        return self.sample_points(rng, *self.sample_waves(rng, n_tasks))

    def sample_waves(self, rng: np.random.Generator, n_tasks: int) -> tuple:
        """Draw the amplitude and the phase of each task: two float32 arrays (n_tasks, 1).

        With `wave` they give the true curves of the tasks that `sample_points` then draws.

        Examples
        --------
        >>> family, rng = SinusoidTasks(), np.random.default_rng(0)
        >>> waves = family.sample_waves(rng, n_tasks=2)
        >>> support, query = family.sample_points(rng, *waves)
        >>> bool(np.all(wave(support.x[..., 0], *waves) == support.y[..., 0]))
        True
        """
        uniform = rng.random((2, n_tasks, 1), dtype=np.float32)
        return _stretch(uniform[0], AMPLITUDE), _stretch(uniform[1], PHASE)

    def sample_points(
        self, rng: np.random.Generator, amplitude: np.ndarray, phase: np.ndarray
    ) -> Task:
        """Draw support and query points of given waves, as `sample` returns them."""
        size = (len(amplitude), self.k_shot + self.n_query)
        x = _stretch(rng.random(size, dtype=np.float32), INPUT)
        y = wave(x, amplitude, phase)[..., None]
        x, k = self.inputs(x, amplitude, phase), self.k_shot
        return Task(Batch(x[:, :k], y[:, :k]), Batch(x[:, k:], y[:, k:]))

    def inputs(self, x: np.ndarray, amplitude: np.ndarray, phase: np.ndarray) -> np.ndarray:
        """Return the inputs at the points x (n_tasks, n) of given waves: (n_tasks, n, 1)."""
        return x[..., None]


def _stretch(uniform, interval):
    low, high = interval
    return uniform * (high - low) + low
