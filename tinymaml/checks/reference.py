"""Our meta-gradients held against PyTorch's and JAX's: what ``tinymaml check`` shows.

PyTorch's are stored with the package, so that the comparison needs no framework; where PyTorch or
JAX is installed, it is asked again. The losses and the inner loop below are written once more, from
the paper and without tinymaml, taking our parameters by our names and channels-last images.
"""

import math
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import nn
from ..engine.backend import asarray
from ..engine.grad import grad
from ..engine.structure import map_leaves
from ..engine.tensor import tensor
from ..learners import maml
from ..tasks import Batch, Task

STORED = Path(__file__).with_name("reference_gradients.npz")
DIGITS = 10  # to which two meta-gradients have to agree
N_WAY, FILTERS = 5, 6


class Network(NamedTuple):
    """A small version of one of the paper's networks, and the rate it is adapted with."""

    model: nn.Sequential
    loss: object
    x_shape: tuple
    inner_lr: float


_stride = nn.conv4(N_WAY, filters=FILTERS, downsample="stride")
_pool = nn.conv4(N_WAY, channels=3, filters=FILTERS, downsample="pool", image_size=19)
NETWORKS = {
    "mlp": Network(nn.mlp((1, 16, 16, 1), nn.he_normal), nn.mse_loss, (10, 1), 0.01),
    "stride": Network(_stride, nn.cross_entropy, (5, 28, 28, 1), 0.1),
    "pool": Network(_pool, nn.cross_entropy, (5, 19, 19, 3), 0.1),
}


class Case(NamedTuple):
    """One meta-gradient: of which network, after how many inner steps, of which order."""

    network: str
    steps: int
    first_order: bool

    def __str__(self):
        steps = f"{self.steps} step{'s' * (self.steps > 1)}"
        return f"{self.network} {steps} {'1st' if self.first_order else '2nd'} order"


CASES = [
    Case(network, steps, first_order)
    for network in NETWORKS
    for steps in (1, 5)
    for first_order in (False, True)
]


def problem(network: str, stored: dict) -> tuple[dict, Task]:
    """Return the parameters and tasks of a network from the opened file, as NumPy arrays."""
    prefix = f"{network}/params/"
    params = {k.removeprefix(prefix): stored[k] for k in stored if k.startswith(prefix)}
    x, y = (stored[f"{network}/{name}"] for name in ("x", "y"))
    if x.dtype == np.uint8:
        x = x / 255
    return params, Task(*[Batch(x[part], y[part]) for part in (0, 1)])


def our_meta_gradient(case: Case, params: dict, tasks: Task) -> np.ndarray:
    """Return the meta-loss and the meta-gradient of a case as one vector."""
    model, loss, _, lr = NETWORKS[case.network]
    theta = map_leaves(partial(tensor, requires_grad=True), params)
    value = maml.meta_loss(
        lambda params, x, y: loss(model(params, x), y),
        theta,
        map_leaves(asarray, tasks),
        lr=lr,
        steps=case.steps,
        first_order=case.first_order,
    )
    return as_vector(value.numpy(), [g.numpy() for g in grad(value, theta).values()])


def as_vector(loss, gradient) -> np.ndarray:
    """Return the meta-loss and all gradients as one vector.

    Single parameters may have a gradient that is zero but for rounding, as a bias before batch norm
    has; in one vector they do not count for more than they are worth.
    """
    return np.concatenate([np.ravel(part) for part in (loss, *gradient)])


# The same from others
def mlp_loss(params, x, y):
    """Return the mean squared error of the MLP; operators alone, so that PyTorch and JAX run it."""
    for i in (1, 2):
        x = x @ params[f"linear{i}.weight"] + params[f"linear{i}.bias"]
        x = x * (x > 0)
    return ((x @ params["linear3.weight"] + params["linear3.bias"] - y) ** 2).mean()


def torch_conv_loss(network, params, x, y):
    """Return the cross-entropy of a convolutional network in PyTorch.

    Parameters
    ----------
    network : {"stride", "pool"}
    params : dict of str to torch.Tensor
        By our names and in our layouts.
    x : torch.Tensor
        Channels-last.
    y : torch.Tensor
    """
    import torch.nn.functional as F

    x = x.movedim(-1, 1)
    for i in (1, 2, 3, 4):
        stride = 2 if network == "stride" else 1
        weight = params[f"conv2d{i}.weight"].permute(3, 2, 0, 1)
        x = F.pad(x, 2 * _same_padding(x.shape[-1], stride))  # images are square
        x = F.conv2d(x, weight, params[f"conv2d{i}.bias"], stride=stride)
        gamma, beta = params[f"batchnorm{i}.gamma"], params[f"batchnorm{i}.beta"]
        x = F.relu(F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-5))
        if network == "pool":
            x = F.max_pool2d(x, 2)
    x = x.mean((2, 3)) if network == "stride" else x.movedim(1, -1).flatten(1)
    return F.cross_entropy(x @ params["linear1.weight"] + params["linear1.bias"], y)


def _same_padding(size, stride):
    """TensorFlow's "same" for a 3 x 3 kernel: the result is ceil(size / stride) long."""
    total = max((-(-size // stride) - 1) * stride + 3 - size, 0)
    return total // 2, total - total // 2


def _meta_loss(case, loss, gradient, theta, tasks):
    """Algorithm 1 of the paper, one task after the other; ``gradient`` is a framework's."""
    losses = []
    for support_x, support_y, query_x, query_y in zip(*tasks.support, *tasks.query):
        adapted = theta
        for _ in range(case.steps):
            step = gradient(adapted, support_x, support_y)
            lr = NETWORKS[case.network].inner_lr
            adapted = {name: p - lr * step[name] for name, p in adapted.items()}
        losses.append(loss(adapted, query_x, query_y))
    return sum(losses) / len(losses)


def torch_meta_gradient(case: Case, params: dict, tasks: Task) -> np.ndarray:
    """Return the meta-loss and the meta-gradient from PyTorch as one vector."""
    import torch

    loss = mlp_loss if case.network == "mlp" else partial(torch_conv_loss, case.network)

    def gradient(params, *batch):
        inputs, options = list(params.values()), {"create_graph": not case.first_order}
        return dict(zip(params, torch.autograd.grad(loss(params, *batch), inputs, **options)))

    theta = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    value = _meta_loss(case, loss, gradient, theta, map_leaves(torch.tensor, tasks))
    return as_vector(value.detach(), torch.autograd.grad(value, list(theta.values())))


def jax_meta_gradient(case: Case, params: dict, tasks: Task) -> np.ndarray:
    """Return the meta-loss and the meta-gradient of the MLP from JAX as one vector."""
    import jax

    jax.config.update("jax_enable_x64", True)

    def gradient(params, *batch):
        g = jax.grad(mlp_loss)(params, *batch)
        return jax.lax.stop_gradient(g) if case.first_order else g

    meta_loss = lambda theta: _meta_loss(case, mlp_loss, gradient, theta, tasks)
    value, g = jax.jit(jax.value_and_grad(meta_loss))(params)
    return as_vector(value, [g[name] for name in params])  # JAX sorts


def check() -> bool:
    """Print one row per case and framework; return whether all meta-gradients agree."""
    found = {name: find_spec(name) is not None for name in ("torch", "jax")}
    print("Meta-gradients of MAML in float64, ours against")
    print("  PyTorch's, stored with tinymaml")
    for name, title in {"torch": "PyTorch's", "jax": "JAX's (the MLP)"}.items():
        print(f"  {title}, " + ("computed now" if found[name] else f"left out: no {name} here"))
    with np.load(STORED, allow_pickle=False) as file:
        stored = dict(file)
    fewest = math.inf
    for case in CASES:
        given = problem(case.network, stored)
        ours = our_meta_gradient(case, *given)
        theirs = {"stored": stored[f"{case}"]}
        if found["torch"]:
            theirs["PyTorch"] = torch_meta_gradient(case, *given)
        if found["jax"] and case.network == "mlp":
            theirs["JAX"] = jax_meta_gradient(case, *given)
        for source, reference in theirs.items():
            digits = agreement(ours, reference)
            fewest = min(fewest, digits)
            row = f"{f'{case}, {source}':<34} agrees to {digits} digits"
            print(row if digits >= DIGITS else f"{row}: TOO FEW, {DIGITS} are needed")
    if fewest >= DIGITS:
        print(f"All agree to {fewest} digits or more ({DIGITS} are needed).")
    else:
        print("They DISAGREE. Do not trust gradients of this installation.")
    return fewest >= DIGITS


def agreement(ours: np.ndarray, reference: np.ndarray) -> int:
    """Return to how many digits two vectors agree, relative to the largest of the reference.

    Examples
    --------
    >>> agreement(np.array([1.0, 2.0]), np.array([1.0, 2.0002]))
    4
    """
    difference = np.max(np.abs(ours - reference)) / np.max(np.abs(reference))
    return int(-math.log10(max(difference, 1e-16))) if difference < 1 else 0  # also for NaN
