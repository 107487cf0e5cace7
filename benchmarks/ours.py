"""tinymaml's meta-step, as its own training loop takes it."""

import numpy as np

import tinymaml as tm

from .workloads import META_LR, Contender, cores


def build(workload, dtype):
    """``tm.maml.meta_gradient`` and ``tm.optim.Adam``."""
    tm.parallel.threads.keep_freed_memory()  # as tm.training.train does
    if workload.network == "mlp":
        model, loss_of = tm.nn.mlp((1, 40, 40, 1)), tm.nn.mse_loss
    else:
        model, loss_of = _conv4(workload), tm.nn.cross_entropy
    names = model.init(np.random.default_rng(0))
    params = {
        name: tm.tensor(array, requires_grad=True)
        for name, array in zip(names, workload.parameters(dtype), strict=True)
    }
    support_x, support_y, query_x, query_y = workload.data(dtype)
    tasks = tm.Task(tm.Batch(support_x, support_y), tm.Batch(query_x, query_y))
    loss = lambda params, x, y: loss_of(model(params, x), y)
    optimizer = tm.optim.Adam(META_LR)
    now = params, optimizer.init(params)

    def meta_gradient(params):
        return tm.maml.meta_gradient(
            loss,
            params,
            tasks,
            lr=workload.inner_lr,
            steps=workload.inner_steps,
            first_order=False,
            chunk=workload.chunk,
        )[1]

    def gradient():
        found = meta_gradient(params)
        return [found[name].numpy() for name in params]

    def step():
        nonlocal now
        params, state = now
        now = optimizer.update(params, meta_gradient(params), state)

    return Contender(gradient, step, threads=f"{cores()}")


def _conv4(workload):
    return tm.nn.conv4(
        workload.n_way,
        channels=workload.channels,
        filters=workload.filters,
        downsample=workload.network,
        image_size=workload.image_size,
    )
