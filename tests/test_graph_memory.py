"""The memory meter: what it counts is what a graph keeps."""

import gc
import tracemalloc

import numpy as np
import pytest

import tinymaml as tm
from tinymaml.engine.tensor import Tensor


def leaf(n, dtype=float):
    return tm.tensor(np.ones(n), dtype, requires_grad=True)


def test_a_chain_counted_by_hand():
    x = leaf(1000)
    held = tm.graph_memory(np.sum(np.exp(np.sin(x))))
    # sin keeps its argument x, exp its result, sum nothing; the output itself is one number
    assert held.by_op == {"exp": 8000, "sum": 8}
    assert (held.leaves, held.constants, held.results, held.total) == (8000, 0, 8008, 16008)


def test_what_no_derivative_needs_is_not_kept():
    x = leaf(1000)
    assert tm.graph_memory(np.sum(x + x)).total == 8


def test_an_array_counts_once():
    x = leaf(1000)
    assert tm.graph_memory(np.sum(x * x * x)).by_op == {"multiply": 8000, "sum": 8}
    y = np.exp(x)
    assert tm.graph_memory([y, y, y.detach()]).by_op == {"exp": 8000}


def test_constants_are_what_requires_no_gradient():
    x, data = leaf(1000), tm.tensor(np.ones(1000), np.float32)
    held = tm.graph_memory(np.sum(x * data))
    assert (held.constants, held.leaves) == (4000, 0)  # of x the derivative needs the shape alone


def test_several_outputs_share_their_graph():
    x = leaf(1000)
    y = np.exp(x)
    both = tm.graph_memory({"a": y * 2, "b": [y * 3]})
    assert both.by_op == {"exp": 8000, "multiply": 16000}


@pytest.mark.numpy_only
class TestViews:
    def test_a_view_counts_as_the_whole_array_that_it_keeps(self):
        x = tm.tensor(np.ones(1000)[:10], requires_grad=True)
        assert tm.graph_memory(np.sin(x)).leaves == 8000

    def test_views_of_a_leaf_are_the_leaf(self):
        x = leaf(1000)
        wide = np.broadcast_to(x, (50, 1000))
        held = tm.graph_memory(np.sin(np.reshape(wide, (50, 10, 100))[:, 0]))
        assert (held.by_op, held.leaves) == ({"sin": 50 * 100 * 8}, 8000)
        held = tm.graph_memory(np.sin(np.ravel(wide)))  # which no view can be
        assert (held.results, held.leaves) == (2 * 400_000, 0)
        assert tm.graph_memory(np.sin(np.reshape(x, (10, 100))[0].T)).leaves == 8000

    def test_views_of_a_result_are_its_op(self):
        held = tm.graph_memory(np.sin(np.transpose(np.reshape(np.exp(leaf(1000)), (10, 100)))))
        assert held.by_op == {"exp": 8000, "sin": 8000}


def test_what_ops_remember_counts():
    x = leaf((1, 4, 4, 1000), np.float32)
    held = tm.graph_memory(tm.ops.max_pool2d(x, 2))
    assert held.by_op == {"max_pool2d": 4 * 1000 * (4 + 1)}  # the maxima, and which each one is
    gamma, beta = leaf(1000, np.float32), leaf(1000, np.float32)
    held = tm.graph_memory(tm.ops.batch_norm(x, gamma, beta))
    assert held.by_op["batch_norm"] == 4 * 1000 * (16 + 2)  # the result, mean and deviation


def conv_step(steps, first_order=False):
    """Return a meta-loss with all that it needs, which must not outlive the caller."""
    rng = np.random.default_rng(0)
    model = tm.nn.conv4(5, channels=3, filters=16, downsample="pool", image_size=32)
    params = model.init(rng)
    images = lambda: tm.engine.backend.asarray(rng.standard_normal((4, 5, 32, 32, 3)), np.float32)
    labels = tm.engine.backend.asarray(np.tile(np.arange(5), (4, 1)))
    tasks = tm.Task(tm.Batch(images(), labels), tm.Batch(images(), labels))
    loss = lambda params, x, y: tm.nn.cross_entropy(model(params, x), y)
    options = {"lr": 0.1, "steps": steps, "first_order": first_order}
    return tm.maml.meta_loss(loss, params, tasks, **options), params, tasks


@pytest.mark.slow
@pytest.mark.numpy_only
@pytest.mark.parametrize("steps", [1, 3])
def test_it_agrees_with_what_python_measures(steps):
    conv_step(1)  # what is made once and kept, such as plans
    gc.collect()
    tracemalloc.start()
    try:
        value, params, tasks = conv_step(steps)
        measured = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # the graph itself, and what was made beside it: all the parameters, and the images and labels,
    # of which the graph holds copies
    everything = [value, *params.values(), *[Tensor(a) for batch in tasks for a in batch]]
    held = tm.graph_memory(everything)
    assert held.total == pytest.approx(measured, rel=0.03)
    assert tm.graph_memory(value).total > 0.9 * held.total


@pytest.mark.slow
def test_every_inner_step_adds_the_same_and_first_order_adds_none():
    second = [tm.graph_memory(conv_step(steps)[0]).total for steps in (1, 2, 3, 4)]
    growth = np.diff(second)
    assert growth[0] == growth[1] == growth[2] > second[0] / 2
    first = [tm.graph_memory(conv_step(steps, True)[0]).total for steps in (1, 2, 3)]
    assert first[0] == first[1] == first[2] < second[0]


def test_it_prints_as_a_table():
    x = leaf(250_000)
    assert repr(tm.graph_memory(np.sum(np.exp(np.sin(x))))).splitlines() == [
        "results of ops    2.00 MB",
        "  exp             2.00 MB",
        "  sum                 8 B",
        "constants             0 B",
        "leaves            2.00 MB",
        "total             4.00 MB",
    ]


def test_it_takes_tensors():
    with pytest.raises(TypeError, match="graph_memory takes tensors, not ndarray"):
        tm.graph_memory(np.ones(2))
    assert tm.graph_memory(tm.tensor(np.ones(10))).constants == 80
