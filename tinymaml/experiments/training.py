"""The loop round Algorithm 1: batches of tasks, the meta-update, progress, checkpoints."""

import time

import numpy as np
from tqdm import tqdm

from ..engine.backend import asarray
from ..engine.grad import grad
from ..engine.tensor import Tensor
from ..errors import UserError
from ..learners.maml import meta_loss
from ..optim import Adam
from ..parallel.threads import keep_freed_memory, map_chunks, single_threaded_blas
from ..tasks import Batch, Task
from .interrupts import CtrlC
from .runs import Checkpoint


def meta_gradient(loss, params, tasks, *, lr, steps=1, first_order=False, chunk=None):
    """Return the meta-loss of a batch of tasks and its gradient, taken in chunks.

    The same as ``tm.grad(tm.maml.meta_loss(...), params)``. Large networks fit the caches only in
    chunks of tasks; these run on a pool of threads, are the same however many cores there are, and
    are added in the same order.

    Parameters
    ----------
    loss, params, tasks, lr, steps, first_order
        As :func:`tinymaml.maml.meta_loss`.
    chunk : int, optional
        Tasks taken at once, all by default.

    Returns
    -------
    array, shape ()
    dict of str to Tensor

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> model = tm.nn.mlp((1, 8, 1))
    >>> params = model.init(np.random.default_rng(0))
    >>> loss = lambda params, x, y: tm.nn.mse_loss(model(params, x), y)
    >>> tasks = tm.tasks.SinusoidTasks().sample(np.random.default_rng(1), n_tasks=25)
    >>> value, gradient = meta_gradient(loss, params, tasks, lr=0.01, chunk=10)
    >>> gradient["linear1.weight"].shape
    (1, 8)
    """
    n = len(tasks.support.x)
    chunk = n if chunk is None else min(chunk, n)

    def of_chunk(start):
        tasks_here = tasks.part(start, start + chunk)
        value = meta_loss(loss, params, tasks_here, lr=lr, steps=steps, first_order=first_order) * (
            len(tasks_here.support.x) / n
        )
        return value.data, grad(value, params)

    if chunk == n:
        return of_chunk(0)
    parts = map_chunks(of_chunk, range(0, n, chunk))
    value, total = next(parts)
    total = {name: g.data for name, g in total.items()}
    for v, gradient in parts:
        value = value + v
        total = {name: g + gradient[name].data for name, g in total.items()}
    return value, {name: Tensor(g) for name, g in total.items()}


def train(experiment, run, resume=False, progress=True):
    """Meta-train an experiment: Algorithm 1, with Adam as the meta-optimiser.

    Ctrl-C ends the training at once; the last whole step is kept.

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
    Checkpoint
        Of the last step done: fewer than ``experiment.steps`` if Ctrl-C ended the training.

    Raises
    ------
    UserError
        If the loss is no longer finite: at which step, and which checkpoint is kept.
    """
    keep_freed_memory()
    params = experiment.model.init(experiment.rng("weights"))
    optimizer = Adam(experiment.meta_lr)
    now = Checkpoint(0, params, optimizer.init(params), [])
    if resume:
        now = run.load(params, now.optimizer)
    rows = run.read_metrics(until=now.step)
    started = time.perf_counter() - (rows[-1]["seconds"] if rows else 0)
    saved = None

    def save():
        nonlocal saved
        if saved != now.step:
            run.write_metrics(rows)
            if not all(bool(np.isfinite(p.data).all()) for p in now.params.values()):
                raise _diverged("parameters are", now.step, saved, run)
            run.save(now)
            saved = now.step

    quiet = np.errstate(all="ignore")  # what is not finite stops the training with a sentence
    with (
        CtrlC() as ctrl_c,
        single_threaded_blas(),
        _bar(experiment, now.step, progress) as bar,
        quiet,
    ):
        save()
        while now.step < experiment.steps and not ctrl_c.pressed:
            try:
                ctrl_c.raised = True
                after = meta_step(experiment, optimizer, now)
                if not np.isfinite(after.losses[-1]):
                    run.write_metrics(rows)  # what led there is worth a look
                    raise _diverged("meta-loss is", after.step, saved, run)
                if after.step % experiment.log_every == 0:
                    row = _row(experiment, after, time.perf_counter() - started)
                    bar.set_postfix_str(f"meta-loss {row['meta_loss']:.3f}", refresh=False)
                    if row["validation"] is not None:
                        bar.write(_sentence(row, experiment))
                    # In one statement: Ctrl-C never finds a step without its row.
                    now, rows = after._replace(losses=[]), [*rows, row]
                else:
                    now = after
                bar.update()
            except KeyboardInterrupt:
                ctrl_c.pressed = True
            except Exception:  # which Ctrl-C becomes in the lock of a thread pool
                if not ctrl_c.pressed:
                    raise
            finally:
                ctrl_c.raised = False
            if now.step % experiment.checkpoint_every == 0:
                save()
        save()
    if ctrl_c.pressed and now.step == experiment.steps:
        raise KeyboardInterrupt  # too late to stop the training, in time to stop what follows
    return now


def meta_step(experiment, optimizer, now):
    """Do one iteration of Algorithm 1: draw tasks, adapt to each, and move theta.

    Parameters
    ----------
    experiment : Experiment
    optimizer : Adam
    now : Checkpoint
        Where the training stands.

    Returns
    -------
    Checkpoint
        One step further.
    """
    tasks = on_backend(experiment.training_tasks(now.step + 1))
    value, gradient = experiment.gradient(now.params, tasks)
    params, state = optimizer.update(now.params, gradient, now.optimizer)
    return Checkpoint(now.step + 1, params, state, [*now.losses, float(value)])


def on_backend(tasks):
    """Move a batch of tasks to the current backend."""
    return Task(*[Batch(*[asarray(a) for a in batch]) for batch in tasks])


def _row(experiment, now, seconds):
    """Return a row of the metrics, with a validation where one is due."""
    validation = diverged = None
    if now.step % experiment.validate_every == 0:
        validation, diverged = experiment.validate(now.params)
    return {
        "step": now.step,
        "seconds": round(seconds, 2),
        "meta_loss": sum(now.losses) / len(now.losses),
        "validation": validation,
        "diverged": diverged,
    }


def _sentence(row, experiment):
    lost = f" ({row['diverged']} diverged tasks left out)" if row["diverged"] else ""
    return f"step {row['step']}: validation {experiment.metric} {row['validation']:.4f}{lost}"


def _bar(experiment, step, progress):
    return tqdm(
        total=experiment.steps,
        initial=step,
        disable=not progress,
        desc=experiment.data,
        unit="step",
        mininterval=0.5,
        dynamic_ncols=True,
    )


def _diverged(what, step, saved, run):
    return UserError(
        f"the {what} not finite at step {step}: the training diverged; the last good "
        f"checkpoint, of step {saved}, is kept in {run.path}; lower --meta-lr or --inner-lr"
    )
