"""Memory-augmented neural networks (Santoro et al. 2016), which keep what they see in a memory.

At step t of a stream a network sees an image x_t and the label y_{t-1} of the image before, and
says which class x_t is of. Its controller is an LSTM, which is also given what it last read:

    h_t = LSTM([x_t, y_{t-1}, r_{t-1}], h_{t-1}).

M_t is the memory, a matrix with a row i for each slot. A head reads by content, with K the cosine
and a key k_t = tanh(W_k h_t + b_k):

    w^r_t(i) = exp K(k_t, M_t(i)) / sum_j exp K(k_t, M_t(j)),    r_t = sum_i w^r_t(i) M_t(i),

and it writes before that to where it has read last, or to the slot that is least used, w^lu (1 for
the least of w^u_{t-1}, 0 for the others), by a gate s_t = sigmoid(W_s h_t + b_s) and with a vector
a_t = tanh(W_a h_t + b_a). The least used slot is cleared first:

    w^w_t = s_t w^r_{t-1} + (1 - s_t) w^lu_{t-1},
    M_t(i) = (1 - w^lu_{t-1}(i)) M_{t-1}(i) + sum over heads of w^w_t(i) a_t.

Usage fades by gamma and grows with use; no gradient goes through it:

    w^u_t = gamma w^u_{t-1} + sum over heads of (w^r_t + w^w_t).

The class is read off [h_t, r_t] by a linear layer and a softmax, and training descends the
cross-entropy of all steps.

Left open, or changed here: what is written is a vector of its own, as in public code, where the
paper writes the key; all heads share one least used slot; the state starts with h, c, r at 0, M at
1e-6, and w^r and w^u at the first slot. Weights of the heads start with a standard deviation of 1,
those of the output with 0.2: smaller ones leave keys and vectors near 0, and it takes many times as
long until the network finds out what the memory is good for. The paper has no episodes of support
and query: here the support is a stream, after which each query image is one more step of its own,
from the same memory.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..engine.ops import cross_entropy, sigmoid, softmax
from ..engine.ops.loss import one_hot
from ..engine.structure import map_leaves
from ..engine.tensor import Tensor, raw
from ..nn import Layer, Linear, LSTMCell, cosine_similarity, normal
from ..tasks.streams import late
from .learner import Array, Learner, Params


class State(NamedTuple):
    """What is carried from step to step, of each of n streams."""

    h: Tensor  # (n, hidden), as c
    c: Tensor
    r: Tensor  # what was read, (n, heads * width)
    memory: Tensor  # M, (n, slots, width)
    read: Tensor  # w^r, (n, heads, slots)
    usage: Tensor  # w^u, (n, slots)


@dataclass(frozen=True)
class MANN(Learner):
    """A memory-augmented neural network as a learner.

    Parameters
    ----------
    body : Layer
        Images to vectors, (n, h, w, c) -> (n, d).
    features : int
        d.
    n_way : int
        Classes of a stream.
    hidden : int
        Units of the controller.
    slots, width : int
        Rows and columns of the memory.
    heads : int
        Reads, and writes, of a step.
    decay : float
        gamma.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner = tm.learners.MANN(tm.nn.Flatten(), features=16, n_way=5)
    >>> params = learner.init(np.random.default_rng(0))
    >>> support = tm.Batch(np.zeros((3, 5, 4, 4, 1)), np.tile(np.arange(5), (3, 1)))
    >>> learner.predict(params, support, np.zeros((3, 2, 4, 4, 1))).shape
    (3, 2, 5)
    """

    body: Layer
    features: int
    n_way: int
    hidden: int = 200
    slots: int = 128
    width: int = 40
    heads: int = 4
    decay: float = 0.95

    @cached_property
    def layers(self) -> dict[str, Layer]:
        read = self.heads * self.width
        return {
            "body": self.body,
            "controller": LSTMCell(self.features + self.n_way + read, self.hidden),
            "heads": Linear(
                self.hidden, 2 * read + self.heads, normal(1.0)
            ),  # keys, vectors, gates
            "output": Linear(self.hidden + read, self.n_way, normal(0.2)),
        }

    def init(self, rng):
        drawn = {part: layer.init(rng) for part, layer in self.layers.items()}
        return {f"{part}.{name}": p for part, own in drawn.items() for name, p in own.items()}

    def apply(self, part: str, params: Params, *given):
        """Apply a layer by its own parameters."""
        layer = self.layers[part]
        return layer({name: params[f"{part}.{name}"] for name in layer.names}, *given)

    def objective(self, params, tasks):
        """Return the cross-entropy of the query as a stream."""
        x, y = tasks.query
        return cross_entropy(self.stream(params, x, late(y)), y).mean()

    def stream(self, params: Params, x: Array, known: Array) -> Tensor:
        """Return logits at each step of streams, by the labels of the steps before.

        Parameters
        ----------
        params : dict of str to Tensor
        x : array, shape (n, t, *example)
        known : integer array, shape (n, t)
            The label of the step before, -1 for none: ``late``.

        Returns
        -------
        Tensor, shape (n, t, n_way)
        """
        return self.run(params, x, known, self.start(params, len(x)))[0]

    def predict(self, params, support, x):
        n, m = x.shape[:2]
        start = self.start(params, n)
        _, state = self.run(params, support.x, late(support.y), start)
        state = map_leaves(lambda part: np.repeat(part, m, axis=0), state)
        known = np.repeat(support.y[:, -1:], m, axis=0)
        said, _ = self.run(params, x.reshape(n * m, 1, *x.shape[2:]), known, state)
        return said.reshape(n, m, self.n_way)

    def run(self, params: Params, x: Array, known: Array, state: State) -> tuple[Tensor, State]:
        """Return the logits of :meth:`stream` from a state on, and the state at the end."""
        x, outputs = self.apply("body", params, x), []
        x = np.concatenate([x, one_hot(known, classes=self.n_way).astype(x.dtype)], -1)
        for t in range(x.shape[1]):
            state = self.step(params, x[:, t], state)
            outputs.append(np.concatenate([state.h, state.r], -1))
        return self.apply("output", params, np.stack(outputs, 1)), state

    def start(self, params: Params, n: int) -> State:
        """Return the state before the first step of n streams."""
        zeros = lambda *shape: np.zeros_like(raw(params["heads.bias"]), shape=(n, *shape))
        first = np.arange(self.slots, like=raw(params["heads.bias"])) == 0
        h = zeros(self.hidden)
        memory = zeros(self.slots, self.width) + 1e-6
        read = zeros(self.heads, self.slots) + first
        return State(h, h, zeros(self.heads * self.width), memory, read, read[:, 0])

    def step(self, params: Params, x: Tensor, state: State) -> State:
        """Do a step: x (n, features + n_way) is an image and the label of the one before."""
        shape, k = (-1, self.heads, self.width), self.heads * self.width
        x = np.concatenate([x, state.r], -1)
        h, c = self.apply("controller", params, x, (state.h, state.c))
        from_h = self.apply("heads", params, h)
        key, vector = (np.tanh(a).reshape(shape) for a in (from_h[:, :k], from_h[:, k : 2 * k]))
        gate = sigmoid(from_h[:, 2 * k :])[..., None]
        least = one_hot(state.usage.argmin(-1), classes=self.slots).astype(h.dtype)
        write = gate * state.read + (1 - gate) * least[:, None]
        memory = state.memory * (1 - least)[..., None] + write.swapaxes(-1, -2) @ vector
        read = softmax(cosine_similarity(key, memory))
        r = (read @ memory).reshape(-1, k)
        usage = self.decay * state.usage + (read + write).detach().sum(-2)
        return State(h, c, r, memory, read, usage)
