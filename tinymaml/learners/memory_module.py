"""Memory module (Kaiser, Nachum, Roy & Bengio 2017, Learning to Remember Rare Events).

A memory holds keys K (unit vectors), values V (labels) and ages A. The query q of an image is its
embedding, times a matrix that is learned, at length 1; n_1 is the key nearest to q by K[i] . q, and
V[n_1] is the answer. Of the keys with the right label v let p be the nearest, of the others b:

    loss(q, v) = max(q . K[b] - q . K[p] + alpha, 0) - alpha.

Then the memory is updated. If the nearest key was right, V[n_1] = v,

    K[n_1] <- (q + K[n_1]) / |q + K[n_1]|,   A[n_1] <- 0;

if it was not, the pair takes the oldest slot, n' = argmax A,

    K[n'] <- q,   V[n'] <- v,   A[n'] <- 0;

and all other ages grow by 1. The gradient goes through q alone: keys are constants.

Left open, or changed here: the nearest key is sought among all, not in a list of the nearest 256;
of keys that there are none of, such as of a class that is new, q . K counts as 0; no noise is added
to ages, and slots never written to are the oldest. The memory is empty at the start of every
stream, so it belongs to a task and is no part of what is learned.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..engine.op import op
from ..engine.ops import relu
from ..engine.tensor import Tensor, tensor
from ..nn import Layer, dropout, glorot_uniform
from ..tasks import Prepared
from ..tasks.streams import late
from .learner import Array, Learner, Params

NONE = -2.0  # the similarity to what is not there: less than any cosine


class Memory(NamedTuple):
    """The memory of each of n tasks: keys (n, slots, d), values and ages (n, slots)."""

    keys: Array
    values: Array  # -1: never written to
    ages: Array

    @classmethod
    def empty(cls, q: Array, slots: int) -> "Memory":
        """Return a memory for queries like q (n, ..., d)."""
        shape = (len(q), slots)
        ages = np.zeros_like(q, shape=shape, dtype=np.int64)
        return cls(np.zeros_like(q, shape=(*shape, q.shape[-1])), ages - 1, ages)

    def nearest(self, q: Array, allowed: Array) -> tuple:
        """Return the similarity and the slot of the key nearest to q (n, d) where ``allowed``."""
        similar = np.where(allowed, (self.keys @ q[..., None])[..., 0], NONE)
        return similar.max(-1), similar.argmax(-1)

    def scores(self, q: Array, classes: int) -> Array:
        """Return the similarity of q to the nearest key of each class: (n,m,d)->(n,m,classes)."""
        similar, labels = q @ self.keys.swapaxes(-1, -2), np.arange(classes, like=self.values)
        held = self.values[:, None, None] == labels[:, None]  # (n, 1, classes, slots)
        return np.where(held, similar[:, :, None], NONE).max(-1)

    def write(self, q: Array, v: Array) -> "Memory":
        """Return the memory after it was told that q (n, d) has the label v (n)."""
        rows = np.arange(len(v), like=v)
        _, slot = self.nearest(q, self.values >= 0)
        right = self.values[rows, slot] == v
        slot = np.where(right, slot, self.ages.argmax(-1))
        keys, values, ages = self.keys.copy(), self.values.copy(), self.ages + 1
        keys[rows, slot] = unit(q + np.where(right[:, None], keys[rows, slot], 0))
        values[rows, slot], ages[rows, slot] = v, 0
        return Memory(keys, values, ages)


def unit(q: Tensor) -> Tensor:
    """Return vectors at length 1: (..., d) -> (..., d)."""
    return q / np.sqrt(np.sum(np.square(q), -1, keepdims=True) + 1e-12)


def memories(q: Array, known: Array, slots: int) -> Iterator[Memory]:
    """Yield the memory at each step of a stream, before the label of that step is known.

    Parameters
    ----------
    q : array, shape (n, t, d)
    known : integer array, shape (n, t)
        The label of the step before, ``late``.
    slots : int
    """
    steps = known.shape[1]
    memory = Memory.empty(q, min(slots, steps))  # a memory that is never full is none that matters
    for t in range(steps):
        if t:
            memory = memory.write(q[:, t - 1], known[:, t])
        yield memory


def _contrast(q, known, v, *, slots):
    """K[b] - K[p] at each step: (n,t,d),(n,t),(n,t)->(n,t,d)."""
    found, rows = np.zeros_like(q), np.arange(len(q), like=v)
    for t, memory in enumerate(memories(q, known, slots)):
        right = memory.values == v[:, t, None]
        for sign, allowed in ((1, (memory.values >= 0) & ~right), (-1, right)):
            similar, slot = memory.nearest(q[:, t], allowed)
            found[:, t] += sign * (similar > NONE)[:, None] * memory.keys[rows, slot]
    return found


def _answers(q, known, *, slots, classes):
    """The similarity of the nearest key of each class: (n,t,d),(n,t)->(n,t,classes)."""
    each = [memory.scores(q[:, [t]], classes) for t, memory in enumerate(memories(q, known, slots))]
    return np.concatenate(each, axis=1)


def _recall(asked, q, known, *, slots, classes):
    """The same for ``asked`` (n, m, d), by the memory at the last step."""
    *_, memory = memories(q, known, slots)
    return memory.scores(asked, classes)


# What the memory does is one op each, without a derivative: its keys are constants.
contrast = op(_contrast, "q known v", None, None, None, name="memory_contrast")
answers = op(_answers, "q known", None, None, name="memory_answers")
recall = op(_recall, "asked q known", None, None, None, name="memory_recall")


@dataclass(frozen=True)
class MemoryModule(Learner):
    """The memory module as a learner: the answer is the value of the nearest key.

    Parameters
    ----------
    body : Layer
        Images to embeddings, (n, h, w, c) -> (n, d).
    width : int
        d.
    slots : int
        Keys that the memory has room for.
    margin : float
        alpha.
    rate : float
        The share of the embedding that dropout leaves out in training.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner = tm.learners.MemoryModule(tm.nn.Linear(3, 4), width=4)
    >>> params = learner.init(np.random.default_rng(0))
    >>> support = tm.Batch(np.eye(3)[None], np.array([[2, 0, 1]]))  # one task, three classes
    >>> learner.predict(params, support, np.eye(3)[None]).numpy().argmax(-1)
    array([[2, 0, 1]])
    """

    body: Layer
    width: int
    slots: int = 8192
    margin: float = 0.1
    rate: float = 0.7

    def init(self, rng):
        weight = glorot_uniform(rng, (self.width, self.width)).astype(np.float32)
        return self.body.init(rng) | {"query.weight": tensor(weight, requires_grad=True)}

    def query(self, params: Params, x: Array, kept: Array = 1) -> Tensor:
        """Return q of images: their embedding, of which dropout has kept a part, turned."""
        return unit(kept * self.body(params, x) @ params["query.weight"])

    def prepare(self, tasks, rng, step):
        """Draw which elements of each embedding dropout keeps, and their factor."""
        ones = np.ones((*tasks.query.y.shape, self.width), np.float32)
        return Prepared(*tasks, {"kept": dropout(ones, self.rate, rng)})

    def objective(self, params, tasks):
        """Return the loss of the query as a stream.

        Of plain tasks, which :meth:`prepare` has not seen, dropout keeps everything.
        """
        x, v = tasks.query
        q = self.query(params, x, getattr(tasks, "extra", {"kept": 1})["kept"])
        difference = np.sum(q * contrast(q, late(v), v, slots=self.slots), -1)
        return np.mean(relu(difference + self.margin)) - self.margin

    def stream(self, params: Params, x: Array, known: Array) -> Tensor:
        """Return scores of every class at each step, by the labels of the steps before.

        x of shape ``(n_tasks, t, *example)``, known ``(n_tasks, t)`` as :func:`memories` takes it.
        """
        classes = int(known.max()) + 1
        return answers(self.query(params, x), known, slots=self.slots, classes=classes)

    def predict(self, params, support, x):
        q, asked = (self.query(params, images) for images in (support.x, x))
        known = late(np.concatenate([support.y, support.y[:, :1]], 1))
        classes = int(support.y.max()) + 1
        return recall(asked, q, known, slots=self.slots, classes=classes)
