"""The loop round Algorithm 1: batches of tasks, the meta-update, progress, checkpoints."""

import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
from tqdm import tqdm

from .autograd import grad
from .backend import asarray
from .chunks import keep_freed_memory, map_chunks, single_threaded_blas
from .errors import UserError
from .evaluation import evaluate, summarise
from .maml import meta_loss
from .optim import Adam
from .tasks import Batch, Task
from .tensor import Tensor


def meta_gradient(loss, params, tasks, *, lr, steps=1, first_order=False, chunk=None):
    """Return the meta-loss of a batch of tasks and its gradient.

    Parameters
    ----------
    loss, params, tasks, lr, steps, first_order
        As :func:`tinymaml.maml.meta_loss`.
    chunk : int, optional
        Tasks taken at once; chunks run on a pool of threads. All at once by default. Large
        networks fit the caches only in chunks; the chunks are the same, and are added in the same
        order, however many cores there are.

    Returns
    -------
    float, dict of str to Tensor
    """
    n = len(tasks.support.x)

    def one(start):
        part = slice(start, start + chunk)
        some = Task(*[Batch(*[a[part] for a in batch]) for batch in tasks])
        weight = len(some.support.x) / n
        value = meta_loss(loss, params, some, lr=lr, steps=steps, first_order=first_order) * weight
        return value.data, grad(value, params)

    keep_freed_memory()
    if chunk is None or chunk >= n:
        chunk = n
        value, gradient = one(0)
        return value, gradient
    parts = map_chunks(one, range(0, n, chunk))
    value, total = next(parts)
    total = {name: g.data for name, g in total.items()}
    for v, gradient in parts:
        value = value + v
        total = {name: g + gradient[name].data for name, g in total.items()}
    return value, {name: Tensor(g) for name, g in total.items()}


def train(experiment, run, resume=False, progress=True):
    """Meta-train an experiment: Algorithm 1, with Adam as the meta-optimiser.

    Parameters
    ----------
    experiment : Experiment
    run : Run
        Where metrics and checkpoints go; started already.
    resume : bool
        Go on from the run's checkpoint, bit for bit as if there had been no break.
    progress : bool
        Show a progress bar.

    Returns
    -------
    params : dict of str to Tensor
    finished : bool
        False if Ctrl-C ended the training; the checkpoint is then that of the last step.

    Raises
    ------
    UserError
        If the loss is no longer finite: at which step, and which checkpoint is kept.
    """
    params = experiment.model.init(experiment.rng(0))
    optimizer = Adam(experiment.meta_lr)
    state, rng, step, losses = optimizer.init(params), experiment.rng(1), 0, []
    if resume:
        step, params, state, rng, losses = run.load(params, state)
    rows = run.read_metrics(until=step)
    rates, sampler = experiment.rates(params), experiment.tasks("train")
    started = time.perf_counter() - (rows[-1]["seconds"] if rows else 0)
    saved = None

    def save():
        nonlocal saved
        if saved == step:
            return
        if not all(np.isfinite(p.data).all() for p in params.values()):
            raise _diverged("the parameters are", step, run, saved)
        run.write_metrics(rows)
        run.save(step, params, state, rng, losses)
        saved = step

    save()
    with (
        single_threaded_blas(),
        interruptible() as interrupted,
        _bar(experiment, step, progress) as bar,
    ):
        while step < experiment.steps and not interrupted.is_set():
            tasks = on_backend(sampler.sample(rng, experiment.meta_batch))
            value, gradient = meta_gradient(
                experiment.loss,
                params,
                tasks,
                lr=rates,
                steps=experiment.inner_steps,
                first_order=experiment.first_order,
                chunk=experiment.chunk,
            )
            value = float(value)
            if not np.isfinite(value):
                raise _diverged("the meta-loss is", step + 1, run, saved)
            params, state = optimizer.update(params, gradient, state)
            step += 1
            losses.append(value)
            bar.update()
            if step % experiment.log_every == 0:
                mean = sum(losses) / len(losses)
                losses = []
                bar.set_postfix_str(f"meta-loss {mean:.3f}", refresh=False)
                row = {"step": step, "seconds": round(time.perf_counter() - started, 2)}
                row |= {"meta_loss": mean, "validation": None}
                if step % experiment.validate_every == 0:
                    row["validation"] = validate(experiment, params)
                    bar.write(
                        f"step {step}: validation {experiment.metric} {row['validation']:.4f}"
                    )
                rows.append(row)
            if step % experiment.checkpoint_every == 0:
                save()
        save()
    return params, step >= experiment.steps


def validate(experiment, params):
    """Return the mean score on validation tasks, which are the same every time."""
    tasks = experiment.tasks("val").sample(experiment.rng(2), experiment.validation_tasks)
    scores = evaluate(experiment, params, tasks, experiment.test_steps)
    return summarise(scores, experiment.worst)["mean"][-1]


def on_backend(tasks):
    """Move a batch of tasks to the current backend."""
    return Task(*[Batch(*[asarray(a) for a in batch]) for batch in tasks])


def _bar(experiment, step, progress):
    return tqdm(
        total=experiment.steps,
        initial=step,
        disable=not progress,
        desc=experiment.name,
        unit="step",
        mininterval=0.5,
        dynamic_ncols=True,
    )


def _diverged(what, step, run, saved):
    kept = f"the last good checkpoint, of step {saved}, is kept in {run.path}"
    return UserError(
        f"{what} not finite at step {step}: the training diverged; {kept}; "
        "lower --meta-lr or --inner-lr"
    )


@contextmanager
def interruptible():
    """Turn the first Ctrl-C inside a ``with`` block into an event, so that a step can end."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only it receives signals
        yield event
        return

    def stop(*_):
        event.set()
        signal.signal(signal.SIGINT, before)  # a second Ctrl-C ends at once

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
