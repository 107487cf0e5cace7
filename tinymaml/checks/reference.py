"""Our meta-gradients held against PyTorch's and JAX's: what ``tinymaml check`` shows.

PyTorch's are stored with the package, so that the comparison needs no framework; where PyTorch or
JAX is installed, it is asked again. The networks below are written once more for each, from the
paper and without tinymaml, taking our parameters by our names and channels-last images.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import nn
from ..engine.backend import asarray
from ..engine.grad import grad
from ..engine.tensor import tensor
from ..learners import maml
from ..tasks import Batch, Task
from .gradients import compare

STORED = Path(__file__).with_name("reference_gradients.npz")
TOLERANCE = 1e-10  # of the largest element of a meta-gradient
N_WAY, FILTERS = 5, 6


class Network(NamedTuple):
    """A small version of one of the paper's networks, and the rate it is adapted with."""

    model: nn.Sequential
    loss: object
    x_shape: tuple
    inner_lr: float


NETWORKS = {
    "mlp": Network(nn.mlp((1, 16, 16, 1), nn.he_normal), nn.mse_loss, (10, 1), 0.01),
    "stride": Network(
        nn.conv4(N_WAY, filters=FILTERS, downsample="stride"),
        nn.cross_entropy,
        (5, 28, 28, 1),
        0.1,
    ),
    "pool": Network(
        nn.conv4(N_WAY, channels=3, filters=FILTERS, downsample="pool", image_size=19),
        nn.cross_entropy,
        (5, 19, 19, 3),
        0.1,
    ),
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


def problem(network, stored):
    """Return the parameters and tasks of a network from the opened file, as NumPy arrays."""
    prefix = f"{network}/params/"
    params = {k.removeprefix(prefix): stored[k] for k in stored if k.startswith(prefix)}
    x, y = (stored[f"{network}/{name}"] for name in ("x", "y"))
    if x.dtype == np.uint8:
        x = x / 255
    return params, Task(*[Batch(x[part], y[part]) for part in (0, 1)])


def our_meta_gradient(case, params, tasks):
    """Return the meta-loss and meta-gradient of a case as arrays."""
    network = NETWORKS[case.network]
    params = {name: tensor(p, requires_grad=True) for name, p in params.items()}
    value = maml.meta_loss(
        lambda params, x, y: network.loss(network.model(params, x), y),
        params,
        Task(*[Batch(asarray(batch.x), asarray(batch.y)) for batch in tasks]),
        lr=network.inner_lr,
        steps=case.steps,
        first_order=case.first_order,
    )
    gradient = grad(value, params)
    return value.numpy(), {name: g.numpy() for name, g in gradient.items()}


# PyTorch


def torch_loss(network, params, x, y):
    """Return the mean loss of one task's batch in PyTorch.

    Parameters
    ----------
    network : {"mlp", "stride", "pool"}
    params : dict of str to torch.Tensor
        By our names and in our layouts.
    x : torch.Tensor
        Channels-last.
    y : torch.Tensor
    """
    import torch.nn.functional as F

    if network == "mlp":
        for i in (1, 2):
            x = F.relu(x @ params[f"linear{i}.weight"] + params[f"linear{i}.bias"])
        return F.mse_loss(x @ params["linear3.weight"] + params["linear3.bias"], y)
    x = x.movedim(-1, 1)
    for i in (1, 2, 3, 4):
        stride = 2 if network == "stride" else 1
        weight = params[f"conv2d{i}.weight"].permute(3, 2, 0, 1)
        x = F.pad(x, _same_padding(x.shape[-1], stride) + _same_padding(x.shape[-2], stride))
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


def torch_meta_gradient(case, params, tasks):
    """Return the meta-loss and meta-gradient from PyTorch, one task after the other."""
    import torch

    theta = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    losses = []
    for task in zip(*tasks.support, *tasks.query):
        support_x, support_y, query_x, query_y = map(torch.tensor, task)
        adapted = theta
        for _ in range(case.steps):
            inner = torch_loss(case.network, adapted, support_x, support_y)
            gradient = torch.autograd.grad(
                inner, list(adapted.values()), create_graph=not case.first_order
            )
            lr = NETWORKS[case.network].inner_lr
            adapted = {name: p - lr * g for (name, p), g in zip(adapted.items(), gradient)}
        losses.append(torch_loss(case.network, adapted, query_x, query_y))
    value = sum(losses) / len(losses)
    gradient = torch.autograd.grad(value, list(theta.values()))
    return value.detach().numpy(), {name: g.numpy() for name, g in zip(theta, gradient)}


# JAX, the MLP only


def jax_loss(params, x, y):
    """Return the mean loss of one task's batch of the MLP in JAX, parameters by our names."""
    import jax.numpy as jnp

    for i in (1, 2):
        x = jnp.maximum(x @ params[f"linear{i}.weight"] + params[f"linear{i}.bias"], 0)
    return jnp.mean((x @ params["linear3.weight"] + params["linear3.bias"] - y) ** 2)


def jax_meta_gradient(case, params, tasks):
    """Return the meta-loss and meta-gradient of the MLP from JAX, tasks by ``vmap``."""
    import jax

    jax.config.update("jax_enable_x64", True)

    def query_loss(theta, support_x, support_y, query_x, query_y):
        for _ in range(case.steps):
            gradient = jax.grad(jax_loss)(theta, support_x, support_y)
            if case.first_order:
                gradient = jax.lax.stop_gradient(gradient)
            lr = NETWORKS[case.network].inner_lr
            theta = {name: p - lr * gradient[name] for name, p in theta.items()}
        return jax_loss(theta, query_x, query_y)

    over_tasks = jax.vmap(query_loss, (None, 0, 0, 0, 0))
    meta_loss = lambda theta: over_tasks(theta, *tasks.support, *tasks.query).mean()
    value, gradient = jax.jit(jax.value_and_grad(meta_loss))(params)
    return np.asarray(value), {name: np.asarray(gradient[name]) for name in params}  # JAX sorts


def check():
    """Print one row per case and framework; return whether all meta-gradients agree.

    A row compares the meta-loss and the whole meta-gradient as one vector: single parameters may
    have a gradient that is zero but for rounding, as a bias before batch norm has.
    """
    found = {name: importlib.util.find_spec(name) is not None for name in ("torch", "jax")}
    print("Meta-gradients of MAML in float64, ours against")
    print("  PyTorch's, stored with tinymaml")
    for name, title in {"torch": "PyTorch's", "jax": "JAX's (the MLP)"}.items():
        print(f"  {title}, " + ("computed now" if found[name] else f"left out: no {name} here"))
    worst = 0.0
    with np.load(STORED, allow_pickle=False) as file:
        stored = dict(file)
    for case in CASES:
        params, tasks = problem(case.network, stored)
        ours = as_vector(*our_meta_gradient(case, params, tasks))
        theirs = {"stored": stored[f"{case}"]}
        if found["torch"]:
            theirs["PyTorch"] = as_vector(*torch_meta_gradient(case, params, tasks))
        if found["jax"] and case.network == "mlp":
            theirs["JAX"] = as_vector(*jax_meta_gradient(case, params, tasks))
        for source, reference in theirs.items():
            worst = max(worst, compare(f"{case} {source}", ours, reference).max_rel)
    agree = bool(worst < TOLERANCE)
    print(
        f"All agree: the largest relative difference is {worst:.1e}, below {TOLERANCE:.0e}."
        if agree
        else f"They DISAGREE: the largest relative difference is {worst:.1e}, above "
        f"{TOLERANCE:.0e}. Do not trust gradients of this installation."
    )
    return agree


def as_vector(loss, gradient):
    """Return the loss and all gradients as one vector."""
    return np.concatenate([np.ravel(loss), *[np.ravel(g) for g in gradient.values()]])
