"""Figures: each function takes data, draws one figure and returns the matplotlib Axes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import replacing
from ..tasks import Batch, Task

Axes = Any  # of matplotlib, which is imported where a figure is drawn

# Okabe & Ito's colours, which colour-blind readers can distinguish
BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2 #E69F00 #009E73 #CC79A7 #56B4E9 #D55E00".split()


def _axes(ax):
    if ax is None:
        import matplotlib.pyplot as plt  # only here, since a server has no screen to open

        ax = plt.subplots(layout="constrained")[1]
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def style(**more: Any) -> None:
    """Set how the figures of a notebook look: legible from the last row, and no frames.

    Keywords are further settings of matplotlib, with ``_`` for each ``.``: ``axes_grid=True``.
    """
    import matplotlib.pyplot as plt

    looks = {"font.size": 13, "figure.dpi": 80, "figure.constrained_layout.use": True}
    looks |= {"axes.spines.top": False, "axes.spines.right": False}
    plt.rcParams.update(looks | {name.replace("_", ".", 1): value for name, value in more.items()})


def learning_curve(rows: list[dict], metric: str, ax: Axes = None) -> Axes:
    """Draw the meta-loss and the validation metric over the steps of a training.

    An accuracy has its own axis to the right; an error shares that of the meta-loss.

    Parameters
    ----------
    rows : list of dict
        With ``step``, ``meta_loss`` and ``validation`` (None where there was none).
    metric : str
        The name of the validation metric.
    ax : matplotlib.axes.Axes, optional
    """
    ax = _axes(ax)
    steps = np.array([row["step"] for row in rows])
    loss = np.array([row["meta_loss"] for row in rows])
    ax.plot(steps, loss, color=SKY, alpha=0.5, lw=1, label="meta-loss (training tasks)")
    window = max(1, len(loss) // 50)
    if window > 1:
        smooth = np.convolve(loss, np.ones(window) / window, "valid")
        middle = steps[window // 2 :][: len(smooth)]
        ax.plot(middle, smooth, color=BLUE, lw=2, label="its running mean")
    ax.set(xlabel="meta-iteration", ylabel="meta-loss")
    if metric != "return":
        ax.set_ylim(0, None)
    held_out = [(row["step"], row["validation"]) for row in rows if row["validation"] is not None]
    handles = [*ax.lines]
    if held_out:
        right = ax
        if metric == "accuracy":
            right = ax.twinx()
            right.spines["top"].set_visible(False)
            right.set_ylabel(metric, color=RED)
            right.tick_params(axis="y", colors=RED)
        else:
            ax.set_ylabel(f"meta-loss, {metric}")
        style = {"color": RED, "marker": "o", "ms": 3, "label": f"validation {metric}"}
        handles += right.plot(*zip(*held_out), **style)
    ax.legend(handles=handles, frameon=False, loc="center right")
    return ax


def adaptation_curve(
    summaries: dict,
    metric: str,
    paper: dict | None = None,
    axis: str = "gradient steps",
    ax: Axes = None,
) -> Axes:
    """Draw a metric on test tasks over gradient steps, with its 95 % interval.

    Parameters
    ----------
    summaries : dict of str to dict
        By the label of each curve, its scores as :func:`~tinymaml.experiments.evaluation.summarise`
        returns them and ``curves`` of a run's ``results.json`` holds them.
    metric : str
    paper : dict of str to dict, optional
        By the label of a curve, the paper's values by the number of steps, as ``paper`` there.
    axis : str
        What is counted along the curve.
    ax : matplotlib.axes.Axes, optional
    """
    ax = _axes(ax)
    looks = ((BLUE, "o-"), (ORANGE, "s--"), (GREEN, "D-."), (PINK, "^:"))
    for (label, summary), (colour, style) in zip(summaries.items(), looks):
        mean, half = (np.array(summary[key], dtype=float) for key in ("mean", "ci95"))
        steps = np.arange(len(mean))
        ax.plot(steps, mean, style, color=colour, ms=4, label=label)
        ax.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.2, lw=0)
    for label, values in (paper or {}).items():
        if values:
            label = f"paper, {label}"
            points = [(int(step), value) for step, value in values.items()]  # JSON's keys are texts
            ax.plot(*zip(*points), "x", color="black", ms=8, mew=2, label=label, zorder=5)
    ax.set(xlabel=f"{axis} at test", ylabel=metric)
    if metric not in ("accuracy", "return"):
        ax.set_ylim(0, None)
    ax.legend(frameon=False)
    return ax


def sinusoid_fits(support: Batch, fits: dict, truth: Batch, ax: Axes = None) -> Axes:
    """Draw one task: its points, the true curve, and the network after some gradient steps.

    As Figure 2 of Finn et al. 2017.

    Parameters
    ----------
    support : Batch
        x and y of shape (k, 1).
    fits : dict of int to array, shape (n, 1)
        The network's output on ``truth.x`` by the number of gradient steps.
    truth : Batch
        x and y of the true curve, shape (n, 1).
    ax : matplotlib.axes.Axes, optional
    """
    ax = _axes(ax)
    ax.plot(truth.x[:, 0], truth.y[:, 0], color=RED, lw=2, label="true wave")
    styles = ((SKY, ":"), (ORANGE, "--"), (BLUE, "-"))
    for (steps, output), (colour, style) in zip(fits.items(), styles):
        label = "before adaptation" if steps == 0 else f"{steps} step{'s' * (steps > 1)}"
        ax.plot(truth.x[:, 0], output[:, 0], style, color=colour, lw=2, label=label)
    ax.plot(support.x[:, 0], support.y[:, 0], "^", color=PINK, ms=8, label="support", zorder=5)
    ax.set(xlabel="x", ylabel="y", xlim=(-5, 5))
    return ax


def method_curves(curves: dict, title: str, metric: str, ax: Axes = None) -> Axes:
    """Draw a metric over gradient steps for several methods on the same tasks.

    A panel of Figure 3 of Finn et al. 2017.

    Parameters
    ----------
    curves : dict of str to list
        By the name of a method, its mean after 0, 1, ... gradient steps.
    title, metric : str
    ax : matplotlib.axes.Axes, optional
    """
    ax = _axes(ax)
    styles = zip((BLUE, ORANGE, GREEN, PINK, SKY), ("-", "--", ":", "-.", "-"), "os^Dv")
    for (method, means), (colour, style, marker) in zip(curves.items(), styles):
        ax.plot(means, style, color=colour, marker=marker, ms=4, label=method)
    ax.set(title=title, xlabel="gradient steps at test", ylabel=metric, ylim=(0, None))
    ax.xaxis.get_major_locator().set_params(integer=True)
    return ax


def paths(walks: dict, goal: np.ndarray, ax: Axes = None) -> Axes:
    """Draw ways through the plane before and after adaptation, as Figure 4 of Finn et al. 2017.

    Parameters
    ----------
    walks : dict of int to pair of arrays
        By the number of updates, positions (rollouts, steps, 2), and 1 where they count
        (rollouts, steps).
    goal : array, shape (2,)
    ax : matplotlib.axes.Axes, optional
    """
    ax = _axes(ax)
    styles = ((SKY, ":"), (ORANGE, "--"), (BLUE, "-"), (GREEN, "-."))
    for (updates, (positions, alive)), (colour, style) in zip(walks.items(), styles):
        label = "before" if updates == 0 else f"after {updates} update{'s' * (updates > 1)}"
        for way, counts in zip(positions[:5], alive):
            way = way[counts > 0]
            ax.plot(*way.T, style, color=colour, lw=1, alpha=0.8, label=label)
            label = None
    ax.plot(*goal, "*", color=RED, ms=14, label="goal", zorder=5)
    ax.set(xlabel="x", ylabel="y", aspect="equal")


def film(poses: np.ndarray, times: Sequence[float], title: str, ax: Axes = None) -> Axes:
    """Draw a robot from the side at some times, one frame below the other, on the same ground.

    Parameters
    ----------
    poses : array, shape (frames, parts, 7)
        As :meth:`~tinymaml.rl.mujoco.Robot.poses` gives them.
    times : sequence of float
        Of the frames, in seconds. At the last ones the rollout may have ended.
    title : str
    ax : matplotlib.axes.Axes, optional
    """
    ax, height = _axes(ax), 1.4
    ground = -height * np.arange(len(times))
    for y in ground:
        ax.axhline(y, color="0.6", lw=1)
    for y in ground[len(poses) :]:
        ax.text(0.1, y + 0.1, "ended", color="0.4")
    for y, parts in zip(ground, poses):
        for part in sorted(parts, key=lambda part: -part[1] - part[4]):  # the far ones first
            (x, _, z), (to_x, _, to_z), radius = part[:3], part[3:6], part[6]
            turn = np.linspace(np.pi / 2, 3 * np.pi / 2, 12) + np.arctan2(to_z - z, to_x - x)
            arc = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
            outline = np.concatenate([arc + (x, z), (to_x, to_z) - arc]) + (0, y)
            ax.fill(*outline.T, facecolor=SKY, edgecolor=BLUE, lw=0.7)
    ax.axvline(0, color=ORANGE, lw=1, zorder=0)
    ax.set(title=title, xlabel="x in m", aspect="equal", ylim=(ground[-1] - 0.2, height))
    ax.set_yticks(ground, [f"{time:.1f} s" for time in times])
    return ax


def time_curves(curves: dict, title: str, metric: str = "accuracy", ax: Axes = None) -> Axes:
    """Draw the scores of several systems on validation tasks over the time of their trainings.

    Parameters
    ----------
    curves : dict of str to (list, list)
        By the name of a system, seconds and scores.
    title : str
    metric : str
        What the scores are.
    ax : matplotlib.axes.Axes, optional
    """
    ax = _axes(ax)
    colours, styles = (BLUE, ORANGE, GREEN, PINK, SKY, RED, "black"), ("o-", "s--", "^:")
    for i, (name, (seconds, scores)) in enumerate(curves.items()):
        look = {"color": colours[i % len(colours)], "ms": 3, "lw": 1.2, "label": name}
        minutes = np.array(seconds) / 60
        ax.plot(minutes, scores, styles[i // len(colours) % len(styles)], **look)
    ax.set(title=title, xlabel="minutes of training", ylabel=f"validation {metric}", xscale="log")
    ax.xaxis.get_major_locator().set_params(subs=(1, 2, 5))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=8)
    return ax


def beside_printed(rows: dict, title: str, ax: Axes = None) -> Axes:
    """Draw numbers that papers print, and ours beside them, a line for each.

    Parameters
    ----------
    rows : dict of str to ((mean, half or None), list of (mean, half, bool, str))
        By its name what is printed with half its interval, if it has one; and ours, hollow where
        the training stopped short, with a name that is shown where there are several.
    title : str
    ax : matplotlib.axes.Axes, optional
    """
    ax = _axes(ax)
    for y, ((mean, half), ours) in enumerate(rows.values()):
        span = {"color": "0.75", "zorder": 1}
        ax.plot([mean - (half or 0), mean + (half or 0)], [y, y], "-", lw=8, **span)
        ax.plot(mean, y, "|", ms=12, color="black", zorder=2)
        for k, (value, interval, short, name) in enumerate(ours):
            look = {"fmt": "o", "ms": 5, "capsize": 2, "color": (BLUE, ORANGE)[k % 2], "zorder": 3}
            at = y + 0.25 * k if len(ours) > 1 else y
            marks = ax.errorbar(value, at, xerr=interval, **look)
            if short:
                marks[0].set_markerfacecolor("white")
            if len(ours) > 1:
                ax.annotate(f"  {name}", (value + interval, at), fontsize=6, va="center")
    ax.set(title=title, yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.5))
    ax.grid(axis="x", color="0.9")
    return ax


def shared_legend(axes: list) -> None:
    """Put the legend that the first of these axes would have below all of the figure."""
    handles = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(*handles, frameon=False, loc="outside lower center", ncols=5)


def contact_sheet(
    tasks: Task,
    titles: list[str] | None = None,
    captions: tuple[str, str] = ("support", "query"),
    ax: Axes = None,
) -> Axes:
    """Draw the images of classification tasks, one task below the other.

    A row for each class with its label before it: support images left, query images right.

    Parameters
    ----------
    tasks : Task
        With a leading task axis: x (tasks, n, h, w, c) in [0, 1], c = 1 for grey or 3 for colour,
        and y (tasks, n) with as many examples of each class.
    titles : list of str, optional
        Of each task.
    captions : pair of str
        Of the images left and right.
    ax : matplotlib.axes.Axes, optional
    """
    ax = _axes(ax)
    ax.set_axis_off()
    ax.set_aspect("equal")
    support, query = (_by_class(batch) for batch in tasks)
    n_tasks, n_way, k_shot = support.shape[:3]
    # in images: one image and its margin are 1 wide and high
    right = k_shot + 0.5
    width = right + query.shape[2]
    for task in range(n_tasks):
        top = task * (n_way + 1.2)
        for images, left, caption in zip((support, query), (0, right), captions):
            rows = images[task].swapaxes(1, 2)
            rows = rows.reshape(n_way * rows.shape[1], -1, rows.shape[-1])
            edges = (left, left + images.shape[2], top + n_way, top)
            ax.imshow(rows, cmap="gray", vmin=0, vmax=1, extent=edges)
            ax.text(left, top - 0.1, caption, va="bottom")
        if titles is not None:
            ax.text(width, top - 0.1, titles[task], va="bottom", ha="right", weight="bold")
        for label in range(n_way):
            ax.text(-0.2, top + label + 0.5, str(label), va="center", ha="right")
    ax.set(xlim=(-0.6, width), ylim=(top + n_way, -0.6))
    return ax


def _by_class(batch):
    """Return images (tasks, classes, k, h, w, c), each with a white margin right and below."""
    x, y = np.asarray(batch.x), np.asarray(batch.y)
    order = np.argsort(y, axis=1, kind="stable")
    x = x[np.arange(len(x))[:, None], order]
    n_way = int(y.max()) + 1
    x = x.reshape(len(x), n_way, -1, *x.shape[2:])
    margin = max(1, x.shape[3] // 14)
    edge = ((0, 0),) * 3 + ((0, margin), (0, margin), (0, 0))
    return np.pad(x, edge, constant_values=1)


def save(
    path: str | Path,
    draw: Callable,
    width: float = 7.0,
    height: float = 4.5,
    panels: tuple = (1, 1),
) -> None:
    """Draw a figure without a screen, and save it as PNG.

    ``draw`` takes the list of the axes row by row; ``panels`` is (rows, columns).
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    with rc_context({"text.parse_math": False}):  # a run's folder may be called $a_b$
        draw(list(figure.subplots(*panels, squeeze=False).flat))
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)
