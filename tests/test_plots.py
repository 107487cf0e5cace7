"""Figures show the numbers that they are given."""

import json

import matplotlib as mpl
import numpy as np
import pytest

from tinymaml.pictures import plots

pytestmark = pytest.mark.numpy_only


@pytest.fixture
def ax():
    mpl.use("Agg")
    from matplotlib.figure import Figure

    return Figure().subplots()


def test_curves_are_drawn_as_a_run_stores_them(ax):
    """With steps as texts, and null where every task diverged."""
    curve = {"mean": [3.0, None, 0.5], "ci95": [0.1, None, 0.2]}
    stored = {"curves": {"K = 5": curve}, "paper": {"K = 5": {1: 0.67}}}
    stored = json.loads(json.dumps(stored))
    plots.adaptation_curve(stored["curves"], "MSE", stored["paper"], ax=ax)
    ours, paper = ax.lines
    np.testing.assert_array_equal(ours.get_ydata(), [3.0, np.nan, 0.5])
    assert paper.get_xydata().tolist() == [[1, 0.67]]


def test_curves_differ_in_more_than_colour(ax):
    flat = {"mean": [1.0, 1.0], "ci95": [0.0, 0.0]}
    plots.adaptation_curve(dict.fromkeys("abcd", flat), "accuracy", ax=ax)
    looks = {(line.get_linestyle(), line.get_marker()) for line in ax.lines}
    assert len(looks) == 4


def test_many_systems_differ_over_time_and_ticks_are_minutes(ax):
    curves = {f"system {i}": ([60, 600 * i], [0.5, 0.9]) for i in range(1, 15)}
    plots.time_curves(curves, "40 rollouts", "return", ax=ax)
    assert ax.get_ylabel() == "validation return"
    assert ax.lines[2].get_xydata().tolist() == [[1, 0.5], [30, 0.9]]
    assert len({(x.get_color(), x.get_linestyle()) for x in ax.lines}) == 14
    ax.figure.canvas.draw()
    assert {"1", "2", "5", "10"} <= {tick.get_text() for tick in ax.get_xticklabels()}


@pytest.mark.parametrize(("metric", "axes"), [("MSE", 1), ("accuracy", 2)])
def test_an_error_is_on_the_scale_of_the_meta_loss(ax, metric, axes):
    rows = [{"step": i, "meta_loss": 4.0 / i, "validation": 0.5 / i} for i in (1, 2, 3)]
    plots.learning_curve(rows, metric, ax=ax)
    assert len(ax.figure.axes) == axes
    loss, validation = ax.lines[0], ax.figure.axes[-1].lines[-1]
    np.testing.assert_array_equal(loss.get_ydata(), [4.0, 2.0, 4.0 / 3])
    np.testing.assert_array_equal(validation.get_ydata(), [0.5, 0.25, 0.5 / 3])
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert named == ["meta-loss (training tasks)", f"validation {metric}"]
