"""The measured meta-steps: their sizes, their data and the parameters every framework starts from.

NumPy alone, so that a framework measured in its own process pays for nothing but itself.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

META_LR = 1e-3


@dataclass(frozen=True)
class Workload:
    """One meta-step: a network, a batch of tasks and the inner loop.

    ``network`` is ``"mlp"`` (1-40-40-1, mean squared error), ``"stride"`` or ``"pool"`` (the
    paper's two conv nets, cross-entropy). ``n_support`` and ``n_query`` count the examples of one
    task over all its classes. ``chunk`` is our number of tasks per piece of work, None for all at
    once. ``targets`` is how many times a peer's time should be ours.
    """

    name: str
    summary: str
    network: str
    meta_batch: int
    n_support: int
    n_query: int
    inner_steps: int
    inner_lr: float
    rounds: int
    peers: tuple[str, ...]
    targets: dict[str, float]
    image_size: int = 0
    channels: int = 1
    filters: int = 0
    n_way: int = 5
    chunk: int | None = None

    @property
    def pooled_size(self):
        """Side of the image that the linear layer sees: four halvings, rounded down."""
        return self.image_size // 16

    def data(self, dtype):
        """``(support x, support y, query x, query y)``, task axis first, images channels-last."""
        rng = np.random.default_rng(1)
        if self.network == "mlp":
            amplitude = rng.uniform(0.1, 5.0, (self.meta_batch, 1, 1))
            phase = rng.uniform(0.0, np.pi, (self.meta_batch, 1, 1))
            x = rng.uniform(-5.0, 5.0, (self.meta_batch, self.n_support + self.n_query, 1))
            y = (amplitude * np.sin(x - phase)).astype(dtype)
        else:
            images = self.n_support + self.n_query
            shape = (self.meta_batch, images, self.image_size, self.image_size, self.channels)
            x = rng.uniform(0.0, 1.0, shape)
            y = np.stack([self._labels(rng) for _ in range(self.meta_batch)])
        x = x.astype(dtype)
        support, query = np.s_[:, : self.n_support], np.s_[:, self.n_support :]
        return tuple(np.ascontiguousarray(a) for a in (x[support], y[support], x[query], y[query]))

    def _labels(self, rng):
        return np.concatenate(
            [rng.permutation(n) % self.n_way for n in (self.n_support, self.n_query)]
        )

    def parameters(self, dtype):
        """Initial parameters in order of use, in our layout: a list of arrays.

        Gains, offsets and biases are off their usual ones and zeros, so that the comparison of
        the gradients would notice a framework that mixed them up.
        """
        rng = np.random.default_rng(0)
        arrays = []

        def affine(*shape):
            scale = np.sqrt(2.0 / np.prod(shape[:-1]))
            arrays.append(scale * rng.standard_normal(shape))
            arrays.append(0.1 * rng.standard_normal(shape[-1]))

        if self.network == "mlp":
            for sizes in ((1, 40), (40, 40), (40, 1)):
                affine(*sizes)
        else:
            channels = self.channels
            for _ in range(4):
                affine(3, 3, channels, self.filters)
                arrays.append(1.0 + 0.1 * rng.standard_normal(self.filters))
                arrays.append(0.1 * rng.standard_normal(self.filters))
                channels = self.filters
            pixels = self.pooled_size**2 if self.network == "pool" else 1
            affine(pixels * self.filters, self.n_way)
        return [array.astype(dtype) for array in arrays]


class Contender(NamedTuple):
    """A framework ready to run one workload.

    ``gradient()`` is the meta-gradient at ``workload.parameters``, as NumPy arrays in that order
    and layout; ``step()`` is one meta-gradient and Adam update from wherever the last one ended.
    Ours also tells what the matrix products of a step take alone, in seconds: ``products()``.
    """

    gradient: Callable[[], list[np.ndarray]]
    step: Callable[[], None]
    products: Callable[[], float] | None = None
    threads: str = ""


def cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


EVERY_PEER = ("torch", "torch by task", "torch.func", "jax", "autograd")
CONV_PEERS = ("torch", "torch by task", "torch.func", "jax")

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "W1",
            "sinusoid, MLP 1-40-40-1, 25 tasks, 10+10 points, 1 inner step",
            network="mlp",
            meta_batch=25,
            n_support=10,
            n_query=10,
            inner_steps=1,
            inner_lr=0.01,
            rounds=40,
            peers=EVERY_PEER,
            targets={"torch": 30.0, "jax": 1.1},
        ),
        Workload(
            "W1b",
            "W1 with 5 inner steps",
            network="mlp",
            meta_batch=25,
            n_support=10,
            n_query=10,
            inner_steps=5,
            inner_lr=0.01,
            rounds=40,
            peers=EVERY_PEER,
            targets={"torch": 30.0, "jax": 1.0},
        ),
        Workload(
            "W2",
            "Omniglot 5-way 1-shot, stride-2 conv net, 64 filters, 32 tasks, 5+5 images, "
            "1 inner step",
            network="stride",
            meta_batch=32,
            n_support=5,
            n_query=5,
            inner_steps=1,
            inner_lr=0.4,
            rounds=15,
            peers=CONV_PEERS,
            targets={"torch": 5.0, "jax": 12.0},
            image_size=28,
            filters=64,
            chunk=8,
        ),
        Workload(
            "W2q",
            "W2 with 75 query images",
            network="stride",
            meta_batch=32,
            n_support=5,
            n_query=75,
            inner_steps=1,
            inner_lr=0.4,
            rounds=7,
            peers=CONV_PEERS,
            targets={"torch": 2.0, "jax": 20.0},
            image_size=28,
            filters=64,
            chunk=8,
        ),
        Workload(
            "W3",
            "MiniImageNet 5-way 1-shot, max-pool conv net, 32 filters, 4 tasks, 5+75 images, "
            "5 inner steps",
            network="pool",
            meta_batch=4,
            n_support=5,
            n_query=75,
            inner_steps=5,
            inner_lr=0.01,
            rounds=7,
            peers=CONV_PEERS[:3],  # JAX takes 95 s a step, compiled
            targets={"torch": 2.0},
            image_size=84,
            channels=3,
            filters=32,
            chunk=1,
        ),
    )
}
