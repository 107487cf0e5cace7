"""Optimisers: state in, state out.

``state = optimizer.init(params)``, and at every step
``params, state = optimizer.update(params, gradient, state)``.
A state is a dict whose values are numbers or dicts of arrays, so that a checkpoint can hold it.
The number of steps is an array without axes: :func:`tinymaml.compile` makes one program for all.
"""

import math
from numbers import Real

import numpy as np

from .engine.tensor import Tensor, leaf, no_grad, raw, thread

Params = dict[str, Tensor]


def _parameter(values):
    return Tensor(raw(values), leaf(raw(values)))


def _values(tensors):
    """Return the arrays of tensors; the tensors themselves while a program is made of them."""
    return tensors if thread.state.trace is not None else {n: t.data for n, t in tensors.items()}


class SGD:
    """Stochastic gradient descent with momentum, v <- momentum v + g, theta <- theta - lr v.

    Parameters
    ----------
    lr : float
        Learning rate.
    momentum : float
        In [0, 1).

    Examples
    --------
    >>> import tinymaml as tm
    >>> params = {"theta": tm.tensor(1.0, requires_grad=True)}
    >>> optimizer = tm.optim.SGD(lr=0.5)
    >>> params, state = optimizer.update(params, {"theta": tm.tensor(1.0)}, optimizer.init(params))
    >>> params["theta"].item()
    0.5
    """

    def __init__(self, lr: float, momentum: float = 0.0):
        _check_rate(lr)
        _check_decay("momentum", momentum)
        self.lr, self.momentum = float(lr), momentum

    def init(self, params: Params) -> dict:
        """Return the state before the first update."""
        if not self.momentum:
            return {}
        return {"velocity": {name: np.zeros_like(p.data) for name, p in params.items()}}

    def update(self, params: Params, gradient: Params, state: dict) -> tuple[Params, dict]:
        """Return the parameters after one step, and the new state."""
        _check_gradient(params, gradient)
        p, g = _values(params), _values(gradient)
        with no_grad():
            if self.momentum:
                g = {name: self.momentum * v + g[name] for name, v in state["velocity"].items()}
                state = {"velocity": {name: raw(v) for name, v in g.items()}}
            return {name: _parameter(p[name] - self.lr * g[name]) for name in params}, state


class Adam:
    """Adam (Kingma & Ba 2015, Algorithm 1).

    A gradient that has always been zero moves nothing: 0 / (0 + eps).

    Parameters
    ----------
    lr : float
        Learning rate.
    betas : pair of float
        Decay of the mean gradient and of the mean squared gradient, in [0, 1).
    eps : float
        Added to the root of the second moment.

    Examples
    --------
    >>> import tinymaml as tm
    >>> params = {"theta": tm.tensor(1.0, requires_grad=True)}
    >>> optimizer = tm.optim.Adam(lr=0.001)
    >>> params, state = optimizer.update(params, {"theta": tm.tensor(7.0)}, optimizer.init(params))
    >>> round(params["theta"].item(), 6)
    0.999
    """

    def __init__(self, lr: float = 1e-3, betas: tuple = (0.9, 0.999), eps: float = 1e-8):
        _check_rate(lr)
        for beta in betas:
            _check_decay("beta", beta)
        self.lr, self.betas, self.eps = float(lr), tuple(betas), eps

    def init(self, params: Params) -> dict:
        """Return the state before the first update."""
        first = {name: np.zeros_like(p.data) for name, p in params.items()}
        second = {name: np.zeros_like(p.data) for name, p in params.items()}
        return {"step": np.zeros((), int), "first": first, "second": second}

    def update(self, params: Params, gradient: Params, state: dict) -> tuple[Params, dict]:
        """Return the parameters after one step, and the new state."""
        _check_gradient(params, gradient)
        with no_grad():
            return self._update(_values(params), _values(gradient), state)

    def _update(self, params, gradient, state):
        step = state["step"] + 1
        beta1, beta2 = self.betas
        # Both bias corrections are folded into the rate and eps (Kingma & Ba 2015, section 2).
        root = np.sqrt(1 - np.power(beta2, step))
        rate, eps = self.lr * root / (1 - np.power(beta1, step)), self.eps * root
        new, first, second = {}, {}, {}
        for names in _of_one_kind(params, gradient, state):
            # small parameters as one vector: fewer calls, and the same numbers
            p, g = _vector(params, names), _vector(gradient, names)
            m = beta1 * _vector(state["first"], names) + (1 - beta1) * g
            v = beta2 * _vector(state["second"], names) + (1 - beta2) * (g * g)
            p = p - rate.astype(p.dtype) * m / (np.sqrt(v) + eps.astype(p.dtype))
            start = 0
            for name in names:
                shape, end = params[name].shape, start + params[name].size
                new[name] = _parameter(p[start:end].reshape(shape))
                first[name] = raw(m[start:end].reshape(shape))
                second[name] = raw(v[start:end].reshape(shape))
                start = end
        return new, {"step": np.asarray(raw(step)), "first": first, "second": second}


def _vector(arrays, names):
    flat = [arrays[name].ravel() for name in names]
    return np.concatenate(flat) if len(flat) > 1 else flat[0]


def _of_one_kind(params, gradient, state):
    """Return lists of names: large ones alone, small ones of the same dtypes together."""
    kinds = {}
    for name, p in params.items():
        moments = state["first"][name].dtype, state["second"][name].dtype
        kind = name if p.size > 4096 else (p.dtype, gradient[name].dtype, *moments)
        kinds.setdefault(kind, []).append(name)
    return kinds.values()


def _check_rate(lr):
    if not (isinstance(lr, Real) and 0 < lr < math.inf):
        raise ValueError(f"the learning rate is {lr}; give a number above 0")


def _check_gradient(params, gradient):
    for name, p in params.items():
        g = gradient.get(name)
        if g is None or g.data.shape != p.data.shape:
            given = "no gradient" if g is None else f"a gradient of shape {g.shape}"
            raise ValueError(
                f"parameter {name!r} of shape {p.shape} was given {given}; give one of its shape"
            )


def _check_decay(name, value):
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}; give a number from 0 to below 1")
