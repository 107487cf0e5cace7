"""The LSTM meta-learner (Ravi & Larochelle 2017): a learned rule of optimisation.

The parameters theta of the learner are the cell state of an LSTM, whose update is gradient descent
with a learned rate i and a learned decay f for each coordinate, and whose first state is learned:

    theta_t = f_t theta_{t-1} - i_t grad L_t,
    f_t = s(W_F [h_t, theta_{t-1}, f~_{t-1}] + b_F),
    i_t = s(W_I [h_t, theta_{t-1}, i~_{t-1}] + b_I),

with s the logistic function and f~, i~ the same without s, 0 before the first step. That is the
second layer. The first is an ordinary LSTM whose output h_t has read, at every step, the gradient
of the coordinate and the loss. All coordinates share its weights and those of the gates. As both
are of many orders of magnitude, each of the two comes in as a pair, with p = 10:

    x -> (log|x| / p, sign x) where |x| >= e^-p, else (-1, e^p x).

Training descends the loss of theta_T on the query. As in the paper, gradients and losses of the
learner are constants for that (first order), while theta_{t-1} in the gates is not.

What we chose: all of the support is one batch at every step. The gradient is that of the mean loss;
the authors' code divides it by the size of the batch once more. Batch norm is adapted too, gamma
and beta being coordinates like others. In training it takes the statistics of the batch, support or
query. At test the query is normalised by its own statistics or, ``inductive``, by those of the
support under theta_T, which is nearest to the authors: they take running averages collected on the
support, anew in each episode.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..engine.grad import grad
from ..engine.ops import sigmoid
from ..engine.ops.shape import reshape
from ..engine.tensor import Tensor, recording, tensor
from ..nn import Layer, Linear, LSTMCell
from .learner import Array, GradientLearner
from .maml import per_task

P = 10.0  # of the preprocessing


@dataclass(frozen=True)
class MetaLSTM(GradientLearner):
    """The LSTM meta-learner as a learner: it finds weights, and how to go on from them.

    Parameters
    ----------
    model : Layer
        The learner's network.
    loss : function
        ``loss(prediction, y)``: one value per task.
    steps, test_steps : int
        Updates in training and at test (None: the same).
    hidden : int
        Units of the first layer.
    inductive : bool
        As of :class:`MAML`.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner = MetaLSTM(tm.nn.mlp((1, 40, 40, 1)), tm.nn.mse_loss, steps=5)
    >>> params = learner.init(np.random.default_rng(0))
    >>> tasks = tm.tasks.SinusoidTasks().sample(np.random.default_rng(1), n_tasks=25)
    >>> gradient = tm.grad(learner.objective(params, tasks), params)
    >>> gradient["start.linear1.weight"].shape, gradient["rate.weight"].shape
    ((1, 40), (22, 1))
    """

    model: Layer
    loss: Callable[[Tensor, Array], Tensor]
    steps: int = 12
    test_steps: int | None = None
    hidden: int = 20
    inductive: bool = False

    @cached_property
    def parts(self) -> dict[str, Layer]:
        """What has parameters: the first theta, the first layer, and the two gates."""
        gates = {name: Linear(self.hidden + 2, 1) for name in ("decay", "rate")}
        return {"start": self.model, "lstm": LSTMCell(4, self.hidden), **gates}

    def init(self, rng):
        params = {f"start.{name}": p for name, p in self.model.init(rng).items()}
        for part in ("lstm", "decay", "rate"):
            bounds = {"decay.bias": (4, 5), "rate.bias": (-5, -4)}  # f near 1, i near 0.01
            for name, p in self.parts[part].init(rng).items():
                drawn = rng.uniform(*bounds.get(f"{part}.{name}", (-0.01, 0.01)), p.shape)
                params[f"{part}.{name}"] = tensor(drawn.astype(np.float32), requires_grad=True)
        return params

    def objective(self, params, tasks):
        *_, theta = self.path(params, tasks.support, self.steps)
        return self.loss(self.model(theta, tasks.query.x), tasks.query.y).mean()

    def path(self, params, support, steps):
        own = {
            part: {name: params[f"{part}.{name}"] for name in layer.names}
            for part, layer in self.parts.items()
        }
        start = per_task(own["start"], len(support.x))
        theta, shapes = _flat(start), {name: p.shape for name, p in start.items()}
        state = self.parts["lstm"].start(own["lstm"], theta.shape[-2])
        gates = {"decay": 0 * theta.detach(), "rate": 0 * theta.detach()}  # before s
        yield start
        for _ in range(steps):
            losses, gradient = self._constants(_shaped(theta, shapes), support)
            read = np.concatenate([*_in_two(gradient), *_in_two(losses + 0 * gradient)], axis=-1)
            state = self.parts["lstm"](own["lstm"], read, state)
            for name, before in gates.items():
                inputs = np.concatenate([state[0], theta, before], axis=-1)
                gates[name] = self.parts[name](own[name], inputs)
            theta = sigmoid(gates["decay"]) * theta - sigmoid(gates["rate"]) * gradient
            yield _shaped(theta, shapes)

    def _constants(self, theta, support):
        """Return the loss (tasks, 1, 1) and its gradient (tasks, coordinates, 1) as constants."""
        with recording(True):
            leaves = {name: tensor(p, requires_grad=True) for name, p in theta.items()}
            losses = self.loss(self.model(leaves, support.x), support.y)
            gradient = grad(losses.sum(), leaves)
        return reshape(losses.detach(), (-1, 1, 1)), _flat(gradient)


def _flat(params):
    """Return parameters (tasks, ...) as one column of all their coordinates, (tasks, n, 1)."""
    return np.concatenate([reshape(p, (len(p), -1, 1)) for p in params.values()], axis=1)


def _shaped(theta, shapes):
    """Return the parameters of a column of coordinates."""
    ends = np.cumsum([0, *[int(np.prod(shape[1:])) for shape in shapes.values()]]).tolist()
    parts = zip(shapes.items(), ends, ends[1:])
    return {name: reshape(theta[:, a:b], shape) for (name, shape), a, b in parts}


def _in_two(x):
    """Return the two numbers that stand for one of any order of magnitude."""
    magnitude = np.absolute(x)
    large = magnitude >= math.exp(-P)
    size = np.log(np.where(large, magnitude, 1)) / P
    return np.where(large, size, -1), np.where(large, np.sign(x), math.exp(P) * x)
