"""HIPS autograd with all tasks in one batched product; it has no convolution, so the MLP only."""

import autograd.numpy as anp
import numpy as np
from autograd import grad

from .workloads import META_LR, Contender, cores


def build(workload, dtype):
    """Nested ``autograd.grad`` over parameters that carry a leading task axis."""
    params = workload.parameters(dtype)
    support_x, support_y, query_x, query_y = workload.data(dtype)

    def losses(params, x, y):
        for weight, bias in zip(params[:-2:2], params[1:-2:2]):
            x = anp.maximum(anp.matmul(x, weight) + bias, 0)
        residual = anp.matmul(x, params[-2]) + params[-1] - y
        return anp.sum(residual * residual) / x.shape[1]

    def meta_loss(params):
        ones = np.ones((workload.meta_batch, 1, 1), dtype)
        params = [p * ones for p in params]
        for _ in range(workload.inner_steps):
            gradient = grad(losses)(params, support_x, support_y)
            params = [p - workload.inner_lr * g for p, g in zip(params, gradient)]
        return losses(params, query_x, query_y) / workload.meta_batch

    meta_gradient = grad(meta_loss)
    mean = [np.zeros_like(p) for p in params]
    square = [np.zeros_like(p) for p in params]
    now, count = params, 0

    def step():
        nonlocal now, count
        count += 1
        gradient = meta_gradient(now)
        mean[:] = [0.9 * m + 0.1 * g for m, g in zip(mean, gradient)]
        square[:] = [0.999 * s + 0.001 * g * g for s, g in zip(square, gradient)]
        m_scale, s_scale = 1 / (1 - 0.9**count), 1 / (1 - 0.999**count)
        now = [
            p - META_LR * m_scale * m / (np.sqrt(s_scale * s) + 1e-8)
            for p, m, s in zip(now, mean, square)
        ]

    return Contender(lambda: meta_gradient(params), step, threads=f"{cores()} (BLAS)")
