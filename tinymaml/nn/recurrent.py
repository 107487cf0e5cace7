"""Recurrent layers: an LSTM that takes its state and returns it."""

import numpy as np

from ..engine.ops import sigmoid
from ..engine.ops.linalg import linear
from ..engine.tensor import Tensor, raw
from .layers import Layer, Params

State = tuple[Tensor, Tensor]


class LSTMCell(Layer):
    """One step of an LSTM: ``(n,i),(n,h),(n,h)->(n,h),(n,h)``.

    With s the logistic function and a b c d the four quarters of
    x @ input.weight + h @ hidden.weight + bias,

        i, f, o, g = s(a), s(b), s(c), tanh(d)
        c' = f c + i g
        h' = o tanh(c').

    Parameters
    ----------
    inputs, hidden : int
        Weights start uniform in +-1/sqrt(hidden), the bias at 1 for f and at 0 elsewhere.

    References
    ----------
    Hochreiter & Schmidhuber (1997), Long Short-Term Memory; Gers et al. (2000) for f.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> cell = tm.nn.LSTMCell(3, 2)
    >>> params = cell.init(np.random.default_rng(0))
    >>> h, c = cell(params, np.zeros((5, 3)), cell.start(params, 5))
    >>> h.shape, c.shape
    ((5, 2), (5, 2))
    """

    names = ("input.weight", "hidden.weight", "bias")

    def __init__(self, inputs: int, hidden: int):
        self.inputs, self.hidden = inputs, hidden

    def draw(self, rng):
        bound, four = self.hidden**-0.5, 4 * self.hidden
        weights = [rng.uniform(-bound, bound, (n, four)) for n in (self.inputs, self.hidden)]
        return dict(zip(self.names, (*weights, np.repeat([0.0, 1.0, 0.0, 0.0], self.hidden))))

    def start(self, params: Params, n: int) -> State:
        """Return the state before the first step: zeros h and c, (n, hidden) each."""
        zeros = np.zeros_like(raw(params["bias"]), shape=(n, self.hidden))
        return zeros, zeros

    def __call__(self, params: Params, x: Tensor, state: State) -> State:
        """Return the state after a step: h, which is the output, and c."""
        weight, recurrent, bias = (params[name] for name in self.names)
        h, c = state
        k = self.hidden
        found = [a.shape[-2:] for a in (x, h, c)]
        if x.ndim < 2 or found != [(x.shape[-2], size) for size in (self.inputs, k, k)]:
            raise ValueError(
                f"{self!r} takes x (..., n, {self.inputs}) and a state h, c of (..., n, {k}) each, "
                f"but they have shapes {x.shape}, {h.shape} and {c.shape}"
            )
        gates = linear(x, weight, bias) + h @ recurrent
        i_f_o, g = sigmoid(gates[..., : 3 * k]), np.tanh(gates[..., 3 * k :])
        i, f, o = (i_f_o[..., j * k : (j + 1) * k] for j in range(3))
        c = f * c + i * g
        return o * np.tanh(c), c


class LSTM(Layer):
    """A sequence through an :class:`LSTMCell`, step by step: ``(t,n,i)->(t,n,h)``.

    ``lstm(params, x, state)`` returns h of every step, and the state ``(h, c)`` after the last, to
    go on from. Without a state it starts from zeros.

    Parameters
    ----------
    inputs, hidden : int

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> lstm, x = tm.nn.LSTM(3, 2), np.ones((7, 5, 3))  # seven steps of five sequences
    >>> params = lstm.init(np.random.default_rng(0))
    >>> y, state = lstm(params, x)
    >>> y.shape, [s.shape for s in state]
    ((7, 5, 2), [(5, 2), (5, 2)])
    >>> start, state = lstm(params, x[:4])
    >>> rest, state = lstm(params, x[4:], state)
    >>> np.array_equal(np.concatenate([start, rest]).data, y.data)
    True
    """

    def __init__(self, inputs: int, hidden: int):
        self.inputs, self.hidden = inputs, hidden
        self.cell = LSTMCell(inputs, hidden)
        self.names, self.draw = self.cell.names, self.cell.draw

    def __call__(self, params: Params, x: Tensor, state: State | None = None):
        """Return h of every step, and the state after the last."""
        if x.ndim < 3 or not x.shape[-3]:
            raise ValueError(
                f"{self!r} takes (..., t, n, {self.inputs}) with t of 1 or more, but the input has "
                f"shape {x.shape}"
            )
        state, outputs = state or self.cell.start(params, x.shape[-2]), []
        for t in range(x.shape[-3]):
            state = self.cell(params, x[..., t, :, :], state)
            outputs.append(state[0])
        return np.stack(outputs, axis=-3), state


class BiLSTM(Layer):
    """One :class:`LSTM` along a sequence, another one back: ``(t,n,i)->(t,n,2h)``.

    The last axis has h of the way there, then h of the way back, which at each step has seen that
    step and all after it.

    Parameters
    ----------
    inputs, hidden : int

    References
    ----------
    Graves & Schmidhuber (2005), Framewise phoneme classification with bidirectional LSTM.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> layer = tm.nn.BiLSTM(3, 2)
    >>> layer(layer.init(np.random.default_rng(0)), np.ones((7, 5, 3))).shape
    (7, 5, 4)
    """

    def __init__(self, inputs: int, hidden: int):
        self.inputs, self.hidden = inputs, hidden
        self.lstm = LSTM(inputs, hidden)
        self.names = [f"{way}.{name}" for way in ("there", "back") for name in self.lstm.names]

    def draw(self, rng):
        both = [*self.lstm.draw(rng).values(), *self.lstm.draw(rng).values()]
        return dict(zip(self.names, both))

    def __call__(self, params, x):
        n = len(self.lstm.names)
        there, back = (
            {own: params[name] for own, name in zip(self.lstm.names, names)}
            for names in (self.names[:n], self.names[n:])
        )
        ahead = self.lstm(there, x)[0]
        behind = self.lstm(back, x[..., ::-1, :, :])[0][..., ::-1, :, :]
        return np.concatenate([ahead, behind], axis=-1)
