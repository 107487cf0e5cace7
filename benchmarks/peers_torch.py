"""PyTorch: two eager loops over the tasks, as people write them, torch.func, and that compiled."""

import torch
import torch.nn.functional as F

from .workloads import META_LR, Contender

# The fastest of None, 1, 2, 4 and 8 tasks a piece, on 2 cores.
VMAP_CHUNK = {"W2": 8, "W2q": 4, "W3": 1}


def eager(workload, dtype):
    """Loop over the tasks, one ``torch.autograd.grad`` of the mean of their query losses.

    As fast as ``eager_by_task`` or faster, but it holds the graphs of all tasks at once.
    """
    params, tasks, query_loss = _task_loop(workload, dtype)

    def meta_gradient():
        losses = [query_loss(*task) for task in tasks]
        return torch.autograd.grad(sum(losses) / workload.meta_batch, params)

    return _contender(workload, params, meta_gradient)


def eager_by_task(workload, dtype):
    """Loop over the tasks, a ``torch.autograd.grad`` for each: one task's graph in memory."""
    params, tasks, query_loss = _task_loop(workload, dtype)

    def meta_gradient():
        total = [torch.zeros_like(p) for p in params]
        for task in tasks:
            for t, g in zip(total, torch.autograd.grad(query_loss(*task), params)):
                t.add_(g, alpha=1 / workload.meta_batch)
        return total

    return _contender(workload, params, meta_gradient)


def _task_loop(workload, dtype):
    params, tasks, loss = _setup(workload, dtype)

    def query_loss(support_x, support_y, query_x, query_y):
        adapted = params
        for _ in range(workload.inner_steps):
            gradient = torch.autograd.grad(
                loss(adapted, support_x, support_y), adapted, create_graph=True
            )
            adapted = [p - workload.inner_lr * g for p, g in zip(adapted, gradient)]
        return loss(adapted, query_x, query_y)

    return params, list(zip(*tasks)), query_loss


def compiled(workload, dtype):
    """``torch.compile`` of the same as ``functional``; it takes a minute to start."""
    return functional(workload, dtype, torch.compile)


def functional(workload, dtype, prepare=lambda function: function):
    """``torch.func.grad`` of the mean over a ``torch.func.vmap`` of the adapted query loss."""
    params, tasks, loss = _setup(workload, dtype, batch_norm=_plain_batch_norm)

    def query_loss(params, support_x, support_y, query_x, query_y):
        for _ in range(workload.inner_steps):
            gradient = torch.func.grad(loss)(params, support_x, support_y)
            params = [p - workload.inner_lr * g for p, g in zip(params, gradient)]
        return loss(params, query_x, query_y)

    over_tasks = torch.func.vmap(
        query_loss, in_dims=(None, 0, 0, 0, 0), chunk_size=VMAP_CHUNK.get(workload.name)
    )

    whole = torch.func.grad(lambda params, *tasks: over_tasks(params, *tasks).mean())
    gradient = prepare(whole)
    return _contender(workload, params, lambda: gradient(params, *tasks))


def _batch_norm(x, gamma, beta):
    return F.batch_norm(x, None, None, gamma, beta, training=True)


def _plain_batch_norm(x, gamma, beta):
    """Batch norm in elementary operations, for torch.func.

    The second derivative of ``F.batch_norm`` inside ``vmap`` of ``grad`` is wrong by 0.1 to 4 %
    of the meta-gradient, in float64 too; this one is right, and as fast on these workloads.
    """
    centred = x - x.mean((0, 2, 3), keepdim=True)
    variance = (centred * centred).mean((0, 2, 3), keepdim=True)
    normalised = centred * torch.rsqrt(variance + 1e-5)
    return gamma[:, None, None] * normalised + beta[:, None, None]


def _setup(workload, dtype, batch_norm=_batch_norm):
    params = [
        torch.tensor(array).requires_grad_()
        for array in _to_torch(workload, workload.parameters(dtype))
    ]
    support_x, support_y, query_x, query_y = map(torch.tensor, workload.data(dtype))
    if workload.network == "mlp":
        loss = lambda params, x, y: F.mse_loss(_mlp(params, x), y)
    else:
        support_x, query_x = (x.permute(0, 1, 4, 2, 3).contiguous() for x in (support_x, query_x))
        network = {"stride": _stride_net, "pool": _pool_net}[workload.network]
        loss = lambda params, x, y: F.cross_entropy(network(params, x, batch_norm), y)
    return params, (support_x, support_y, query_x, query_y), loss


def _contender(workload, params, meta_gradient):
    optimizer = torch.optim.Adam(params, lr=META_LR)

    def gradient():
        return _from_torch(workload, [g.detach().numpy() for g in meta_gradient()])

    def step():
        for p, g in zip(params, meta_gradient()):
            p.grad = g.detach()
        optimizer.step()

    return Contender(gradient, step, threads=f"{torch.get_num_threads()}")


def _mlp(params, x):
    for weight, bias in zip(params[:-2:2], params[1:-2:2]):
        x = F.relu(F.linear(x, weight, bias))
    return F.linear(x, *params[-2:])


def _stride_net(params, x, batch_norm):
    for block in range(0, 16, 4):
        weight, bias, gamma, beta = params[block : block + 4]
        if x.shape[-1] % 2:
            x = F.conv2d(x, weight, bias, stride=2, padding=1)
        else:  # TensorFlow's "same" pads an even side on one end only
            x = F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, bias, stride=2)
        x = F.relu(batch_norm(x, gamma, beta))
    return F.linear(x.mean((-2, -1)), *params[16:])


def _pool_net(params, x, batch_norm):
    for block in range(0, 16, 4):
        weight, bias, gamma, beta = params[block : block + 4]
        x = F.conv2d(x, weight, bias, padding=1)
        x = F.relu(batch_norm(x, gamma, beta))
        x = F.max_pool2d(x, 2)
    return F.linear(x.flatten(1), *params[16:])


def _to_torch(workload, arrays):
    """Weights (k, l, c, o) become (o, c, k, l); the linear layer's (h w c, o) become (o, c h w)."""
    arrays = list(arrays)
    if workload.network == "pool":
        side, weight = workload.pooled_size, arrays[16]
        weight = weight.reshape(side, side, workload.filters, -1).transpose(2, 0, 1, 3)
        arrays[16] = weight.reshape(-1, workload.n_way)
    return [
        a.transpose(3, 2, 0, 1).copy() if a.ndim == 4 else a.T.copy() if a.ndim == 2 else a
        for a in arrays
    ]


def _from_torch(workload, arrays):
    arrays = [a.transpose(2, 3, 1, 0) if a.ndim == 4 else a.T if a.ndim == 2 else a for a in arrays]
    if workload.network == "pool":
        side, weight = workload.pooled_size, arrays[16]
        weight = weight.reshape(workload.filters, side, side, -1).transpose(1, 2, 0, 3)
        arrays[16] = weight.reshape(-1, workload.n_way)
    return arrays
