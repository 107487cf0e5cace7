"""JAX: the whole meta-step, Adam included, compiled by ``jax.jit``."""

import jax
import jax.numpy as jnp
import numpy as np

from .workloads import META_LR, Contender, cores


def build(workload, dtype):
    """``vmap`` over the tasks of the MLP; ``lax.map`` for the conv nets.

    XLA turns a vmap of convolutions over their weights into grouped convolutions, which are far
    slower on a CPU than one task after another.
    """
    jax.config.update("jax_enable_x64", np.dtype(dtype) == np.float64)
    params = [jnp.asarray(array) for array in workload.parameters(dtype)]
    tasks = tuple(jnp.asarray(array) for array in workload.data(dtype))
    loss = {"mlp": _mlp_loss, "stride": _stride_loss, "pool": _pool_loss}[workload.network]

    def query_loss(params, support_x, support_y, query_x, query_y):
        for _ in range(workload.inner_steps):
            gradient = jax.grad(loss)(params, support_x, support_y)
            params = [p - workload.inner_lr * g for p, g in zip(params, gradient)]
        return loss(params, query_x, query_y)

    def meta_gradient(params, tasks):
        one_task = lambda task: jax.grad(query_loss)(params, *task)
        over_tasks = jax.vmap(one_task) if workload.network == "mlp" else _map(one_task)
        return [g.mean(0) for g in over_tasks(tasks)]

    @jax.jit
    def meta_step(params, state, tasks):
        found = meta_gradient(params, tasks)
        return found, *_adam(params, found, state)

    zeros = [jnp.zeros_like(p) for p in params]
    start = (params, (zeros, zeros, jnp.zeros((), dtype)))
    now = start

    def gradient():
        return [np.asarray(g) for g in meta_step(*start, tasks)[0]]

    def step():
        nonlocal now
        _, *now = jax.block_until_ready(meta_step(*now, tasks))

    return Contender(gradient, step, threads=f"{cores()}")


def _map(function):
    return lambda tasks: jax.lax.map(function, tasks)


def _adam(params, gradient, state):
    mean, square, count = state
    count = count + 1
    mean = [0.9 * m + 0.1 * g for m, g in zip(mean, gradient)]
    square = [0.999 * s + 0.001 * g * g for s, g in zip(square, gradient)]
    params = [
        p - META_LR * (m / (1 - 0.9**count)) / (jnp.sqrt(s / (1 - 0.999**count)) + 1e-8)
        for p, m, s in zip(params, mean, square)
    ]
    return params, (mean, square, count)


def _mlp_loss(params, x, y):
    for weight, bias in zip(params[:-2:2], params[1:-2:2]):
        x = jax.nn.relu(x @ weight + bias)
    return jnp.mean((x @ params[-2] + params[-1] - y) ** 2)


def _cross_entropy(logits, labels):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))


def _conv(x, weight, bias, stride):
    return bias + jax.lax.conv_general_dilated(
        x, weight, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _batch_norm(x, gamma, beta):
    axes = (0, 1, 2)
    return gamma * (x - x.mean(axes)) * jax.lax.rsqrt(x.var(axes) + 1e-5) + beta


def _stride_loss(params, x, y):
    for block in range(0, 16, 4):
        weight, bias, gamma, beta = params[block : block + 4]
        x = jax.nn.relu(_batch_norm(_conv(x, weight, bias, 2), gamma, beta))
    return _cross_entropy(x.mean((1, 2)) @ params[16] + params[17], y)


def _pool_loss(params, x, y):
    for block in range(0, 16, 4):
        weight, bias, gamma, beta = params[block : block + 4]
        x = jax.nn.relu(_batch_norm(_conv(x, weight, bias, 1), gamma, beta))
        x = jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), padding="VALID"
        )
    return _cross_entropy(x.reshape(len(x), -1) @ params[16] + params[17], y)
