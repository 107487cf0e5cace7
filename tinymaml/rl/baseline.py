"""The linear baseline: how much return is to be expected in a state."""

import numpy as np

from .environments import Array


def features(observations: Array) -> Array:
    """Return what the baseline is linear in (Duan et al. 2016, and the authors' code).

    The observation clipped to +-10, its square, t/100, its square and cube, and 1: (..., horizon,
    d) -> (..., horizon, 2 d + 4), in float64.

    Examples
    --------
    >>> features(np.array([[2.0], [20.0]]))[1]
    array([1.e+01, 1.e+02, 1.e-02, 1.e-04, 1.e-06, 1.e+00])
    """
    x = np.clip(observations.astype(float), -10, 10)
    t = np.arange(x.shape[-2])[:, None] / 100
    time = np.broadcast_to(np.concatenate([t, t**2, t**3, t**0], axis=1), (*x.shape[:-1], 4))
    return np.concatenate([x, x**2, time], axis=-1)


def fitted_values(observations: Array, returns: Array, alive: Array) -> Array:
    """Fit the baseline to each task by ridge regression, and return its values in the same states.

    Parameters
    ----------
    observations : array, shape (tasks, rollouts, horizon, d)
    returns : array, shape (tasks, rollouts, horizon)
        The discounted sum of the rewards from each step on.
    alive : array, shape (tasks, rollouts, horizon)
        States that are 0 here count nothing.

    Returns
    -------
    array, shape (tasks, rollouts, horizon)

    Raises
    ------
    FloatingPointError
        If no ridge makes the fit finite, as of returns that are not.
    """
    x = features(observations)
    flat = (x * alive[..., None]).reshape(len(x), -1, x.shape[-1])
    target = (returns * alive).reshape(len(x), -1, 1)
    gram, moment = flat.mT @ flat, flat.mT @ target
    ridge = 1e-5
    for _ in range(5):
        try:
            weights = np.linalg.solve(gram + ridge * np.eye(x.shape[-1]), moment)
            if np.isfinite(weights).all():
                return (x @ weights[:, None])[..., 0]
        except np.linalg.LinAlgError:
            pass
        ridge *= 10
    raise FloatingPointError("the baseline cannot be fitted to these returns")
