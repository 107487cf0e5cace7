"""The loop round a learner: batches of tasks, the meta-update, progress, checkpoints."""

import time

import numpy as np
from tqdm import tqdm

from ..errors import UserError
from ..learners.maml import meta_gradient  # noqa: F401  a public name of this module
from ..parallel.group import current, once
from ..parallel.threads import keep_freed_memory, single_threaded_blas
from .experiment import Experiment
from .interrupts import stop_requests
from .runs import Checkpoint, Run, named_arrays


def train(
    experiment: Experiment,
    run: Run,
    resume: bool = False,
    progress: bool = True,
    eager: bool = False,
) -> Checkpoint:
    """Meta-train an experiment, in every process of the group that this one is of.

    The first process alone reads, writes and prints. The first Ctrl-C ends the training after the
    step at hand and saves it; the second one ends it at once, and the last checkpoint stays.

    Parameters
    ----------
    experiment : Experiment
    run : Run
        Where metrics and checkpoints go; started already.
    resume : bool
        Go on from the run's checkpoint, bit for bit as if there had been no break.
    progress : bool
        Show a progress bar.
    eager : bool
        Do not compile the step; the numbers are the same.

    Returns
    -------
    Checkpoint
        Of the last step done: fewer than the schedule's steps if Ctrl-C ended the training.

    Raises
    ------
    UserError
        If the objective is no longer finite: at which step, and which checkpoint is kept.
    """
    schedule, group = experiment.schedule, current()
    keep_freed_memory()
    params = experiment.init()
    now = Checkpoint(0, params, experiment.optimizer_state(params), [], experiment.recipe())
    if resume:
        now = once(run.load, params, now.optimizer, now.settings)
    rows = once(run.read_metrics, now.step)
    started = time.perf_counter() - (rows[-1]["seconds"] if rows else 0)
    with (
        stop_requests() as stop,
        single_threaded_blas(),
        np.errstate(all="ignore"),  # what is not finite stops the training with a sentence
        _bar(experiment, now.step, progress and group.rank == 0) as bar,
    ):
        once(_save, run, now, rows)
        # a request to stop may reach some of the processes only
        while now.step < schedule.steps and not any(group.gather(stop.is_set())):
            try:
                now = meta_step(experiment, now, eager)
            except FloatingPointError as error:
                raise UserError(
                    f"{error} in iteration {now.step + 1}: the training diverged; the last good "
                    f"checkpoint is kept in {run.path}; lower --inner-lr or --meta-lr"
                ) from error
            if not np.isfinite(now.losses[-1]).all():
                once(run.write_metrics, rows)  # what led there is worth a look
                raise once(_diverged, "meta-loss is", now.step, run)
            if now.step % schedule.log_every == 0:
                losses = _means(now.losses)
                row = _row(experiment, now, losses[0], time.perf_counter() - started)
                now, rows = now._replace(losses=[]), [*rows, row]
                told = experiment.progress(losses, bar.format_dict["rate"] or 0)
                bar.set_postfix_str(told, refresh=False)
                if row["validation"] is not None and group.rank == 0:
                    bar.write(_sentence(row, experiment))
            if now.step % schedule.checkpoint_every == 0:
                once(_save, run, now, rows)
            bar.update()
        once(_save, run, now, rows)
    return now


def meta_step(experiment: Experiment, now: Checkpoint, eager: bool = False) -> Checkpoint:
    """Do one meta-iteration: draw tasks, and move theta down the gradient of the objective.

    Parameters
    ----------
    experiment : Experiment
    now : Checkpoint
        Where the training stands.
    eager : bool
        Do not compile the step.

    Returns
    -------
    Checkpoint
        One step further.
    """
    step = now.step + 1
    params, state, value = experiment.step(step, now.params, now.optimizer, eager)
    return Checkpoint(step, params, state, [*now.losses, value], now.settings)


def _save(run, now, rows):
    run.write_metrics(rows)
    arrays = named_arrays(now.params, now.optimizer).values()
    if not all(bool(np.isfinite(array).all()) for array in arrays):
        raise _diverged("parameters or their moments are", now.step, run)
    run.save(now)


def _means(losses):
    """Return the means of the losses of some steps, each a number or a list of them."""
    rows = [value if isinstance(value, list) else [value] for value in losses]
    return [sum(column) / len(column) for column in zip(*rows)]


def _row(experiment, now, meta_loss, seconds):
    """Return a row of the metrics, with a validation where one is due."""
    validation = diverged = None
    if now.step % experiment.schedule.validate_every == 0:
        validation, diverged = experiment.validate(now.params)
    return {
        "step": now.step,
        "seconds": round(seconds, 2),
        "meta_loss": meta_loss,
        "validation": validation,
        "diverged": diverged,
    }


def _sentence(row, experiment):
    lost = f" ({row['diverged']} diverged tasks left out)" if row["diverged"] else ""
    metric = experiment.problem.metric
    return f"step {row['step']}: validation {metric} {row['validation']:.4f}{lost}"


def _bar(experiment, step, progress):
    return tqdm(
        total=experiment.schedule.steps,
        initial=step,
        disable=not progress,
        desc=experiment.problem.data,
        unit="step",
        mininterval=0.5,
        dynamic_ncols=True,
    )


def _diverged(what, step, run):
    return UserError(
        f"the {what} not finite at step {step}: the training diverged; the last good "
        f"checkpoint, of step {run.steps_done()}, is kept in {run.path}; "
        "lower --meta-lr or --inner-lr"
    )
