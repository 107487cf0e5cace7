"""tinymaml's meta-step, as its training takes it: a NumPy program, in as many processes as pay."""

import time
from collections import Counter
from itertools import count

import numpy as np

import tinymaml as tm
from tinymaml.engine.backend import asarray
from tinymaml.parallel import local
from tinymaml.parallel.chunks import gradient_by_chunks, value_and_gradient
from tinymaml.parallel.group import current
from tinymaml.parallel.threads import Own, single_threaded_blas

from .workloads import META_LR, Contender, cores

LIMIT_SECONDS = 0.2  # that the products of one shape are timed
_open = []  # groups of processes and limits of threads, which last


def build(workload, dtype, processes=None, eager=False):
    """The meta-step in processes of which each takes its share of the chunks; the first one asks.

    ``processes`` is as many as cores by default, and at most one for a chunk.
    """
    chunks = -(-workload.meta_batch // (workload.chunk or workload.meta_batch))
    size = min(processes or cores(), chunks)
    if size == 1:
        _open.append(single_threaded_blas())
        _open[-1].__enter__()
        return Contender(**_parts(workload, dtype, eager), threads="1")
    # they end with this process
    _open.append(local.processes(size, _follow, (workload, dtype, eager)))
    group = _open[-1].__enter__()
    parts = _parts(workload, dtype, eager)
    return Contender(*[_led(group, parts, name) for name in parts], threads=f"{size} processes")


def _led(group, parts, name):
    def run():
        def together():
            group.gather(name)
            return parts[name]()

        return group.work(together)

    return run


def _follow(workload, dtype, eager):
    parts = _parts(workload, dtype, eager)
    while True:
        parts[current().gather(None)[0]]()


def _parts(workload, dtype, eager):
    """Return what a process does, by name: the gradient, a step, the products of a step alone."""
    tm.parallel.threads.keep_freed_memory()  # as tm.training.train does
    if workload.network == "mlp":
        model, loss_of = tm.nn.mlp((1, 40, 40, 1)), tm.nn.mse_loss
    else:
        model, loss_of = _conv4(workload), tm.nn.cross_entropy
    names = model.init(np.random.default_rng(0))
    start = {
        name: tm.tensor(array, requires_grad=True)
        for name, array in zip(names, workload.parameters(dtype), strict=True)
    }
    support_x, support_y, query_x, query_y = map(asarray, workload.data(dtype))
    tasks = tm.Task(tm.Batch(support_x, support_y), tm.Batch(query_x, query_y))
    learner = tm.learners.MAML(model, loss_of, workload.inner_lr, workload.inner_steps)
    optimizer = tm.optim.Adam(META_LR)
    now = start, optimizer.init(start)
    of_chunk = value_and_gradient(learner.objective)
    programs = Own(lambda: tm.compile(of_chunk))
    program = of_chunk if eager else lambda *chunk: programs.own(*chunk)

    def meta_gradient(params, of_chunk=program):
        return gradient_by_chunks(learner.objective, params, tasks, workload.chunk, of_chunk)[1]

    def gradient():
        found = meta_gradient(start)
        return [found[name].numpy() for name in start]

    def step():
        nonlocal now
        params, state = now
        now = optimizer.update(params, meta_gradient(params), state)

    def products():
        """Return the seconds that the matrix products of a step take alone, operands warm."""
        shapes, matmul = Counter(), np.matmul

        def counting(a, b, out=None):
            shapes[a.shape, b.shape] += 1
            return matmul(a, b) if out is None else matmul(a, b, out=out)

        np.matmul = counting
        try:
            meta_gradient(start, of_chunk)
        finally:
            np.matmul = matmul
        seconds = sum(n * _seconds(*pair, dtype) for pair, n in shapes.items())
        return max(current().gather(seconds))

    return {"gradient": gradient, "step": step, "products": products}


def _seconds(a, b, dtype):
    a, b = np.ones(a, dtype), np.ones(b, dtype)
    out = np.matmul(a, b)
    start = time.perf_counter()
    for n in count(1):
        np.matmul(a, b, out=out)
        if time.perf_counter() - start > LIMIT_SECONDS:
            return (time.perf_counter() - start) / n


def _conv4(workload):
    return tm.nn.conv4(
        workload.n_way,
        channels=workload.channels,
        filters=workload.filters,
        downsample=workload.network,
        image_size=workload.image_size,
    )
