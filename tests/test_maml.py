"""Algorithm 1: the task axis, rates, first order, and chunks."""

import numpy as np
import pytest

import tinymaml as tm
from tinymaml.learners.maml import meta_gradient


def problem(network, n_tasks=5, dtype=float):
    rng = np.random.default_rng(0)
    if network == "mlp":
        model = tm.nn.mlp((1, 8, 8, 1), tm.nn.he_normal)
        batches = [rng.standard_normal((2, n_tasks, n, 1)).astype(dtype) for n in (4, 6)]

        def loss(params, x, y):
            return tm.nn.mse_loss(model(params, x), y)

    else:
        model = tm.nn.conv4(3, filters=4, downsample=network, image_size=16)
        labels = [np.stack([rng.permutation(3) for _ in range(n_tasks)]) for _ in range(2)]
        batches = [(rng.standard_normal((n_tasks, 3, 16, 16, 1)).astype(dtype), y) for y in labels]

        def loss(params, x, y):
            return tm.nn.cross_entropy(model(params, x), y)

    tasks = tm.Task(*[tm.Batch(*[tm.tensor(a).data for a in batch]) for batch in batches])
    return loss, model.init(rng, dtype=dtype), tasks


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("network", ["mlp", "stride", "pool"])
def test_task_loop_and_task_axis_agree(network, steps, first_order):
    loss, params, tasks = problem(network)
    options = dict(lr=0.1, steps=steps, first_order=first_order)
    together = tm.grad(tm.maml.meta_loss(loss, params, tasks, **options), params)
    values = []
    for i in range(5):
        support, query = (tm.Batch(*[a[i] for a in batch]) for batch in tasks)
        values.append(loss(tm.maml.adapt(loss, params, support, **options), *query))
    alone = tm.grad(sum(values) / 5, params)
    for name, g in together.items():
        np.testing.assert_allclose(g.numpy(), alone[name].numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("network", ["mlp", "stride"])
@pytest.mark.parametrize("chunk", [1, 2, 4, 99])
def test_chunks_give_the_same_meta_gradient(network, chunk):
    loss, params, tasks = problem(network)
    value, gradient = meta_gradient(loss, params, tasks, lr=0.1)
    in_chunks, parts = meta_gradient(loss, params, tasks, lr=0.1, chunk=chunk)
    assert float(in_chunks) == pytest.approx(float(value), rel=1e-12)
    for name, g in gradient.items():
        np.testing.assert_allclose(parts[name].numpy(), g.numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.numpy_only
def test_the_number_of_threads_changes_no_bit(monkeypatch):
    loss, params, tasks = problem("stride", n_tasks=7, dtype=np.float32)
    results = []
    for threads in (1, 3):
        with tm.parallel.threads.ThreadPoolExecutor(threads) as pool:
            monkeypatch.setattr(tm.parallel.threads, "_pool", lambda pool=pool: pool)
            results.append(meta_gradient(loss, params, tasks, lr=0.1, chunk=2))
    (value, gradient), (other_value, other) = results
    assert value.tobytes() == other_value.tobytes()
    for name, g in gradient.items():
        np.testing.assert_array_equal(g.numpy(), other[name].numpy())


def test_rates_by_name_and_zero_rates():
    loss, params, tasks = problem("stride")
    support = tm.Batch(*[a[0] for a in tasks.support])
    same = tm.maml.adapt(loss, params, support, lr=dict.fromkeys(params, 0.1))
    plain = tm.maml.adapt(loss, params, support, lr=0.1)
    rates = {name: 0 if "batchnorm" in name else 0.1 for name in params}
    kept = tm.maml.adapt(loss, params, support, lr=rates)
    for name, p in params.items():
        np.testing.assert_array_equal(same[name].numpy(), plain[name].numpy())
        assert (kept[name] is p) == ("batchnorm" in name)
    # what is not adapted is still meta-learned
    gradient = tm.grad(tm.maml.meta_loss(loss, params, tasks, lr=rates), params)
    assert all(gradient[name].numpy().any() for name in params if name.endswith("gamma"))
    with pytest.raises(ValueError, match=r"lr has rates for w, but the parameters are conv2d1"):
        tm.maml.adapt(loss, params, support, lr={"w": 0.1})


def test_a_learned_rate_gets_its_gradient():
    """alpha as a tensor: on the loss (theta - x)^2 / 2, theta' = theta - alpha (theta - x)."""
    theta = {"theta": tm.tensor(2.0, requires_grad=True)}
    alpha = tm.tensor(0.25, requires_grad=True)

    def loss(params, x, y):
        return 0.5 * ((params["theta"] - x) ** 2).mean()

    x, z = tm.tensor([5.0]), tm.tensor([1.0])
    adapted = tm.maml.adapt(loss, theta, tm.Batch(x, None), lr={"theta": alpha})
    outer = loss(adapted, z, None)
    by_alpha, by_theta = tm.grad(outer, [alpha, theta["theta"]])
    assert adapted["theta"].item() == 2.75
    assert by_theta.item() == (2.75 - 1) * (1 - 0.25)
    assert by_alpha.item() == (2.75 - 1) * (5 - 2)


def test_adapt_takes_detached_parameters_and_leaves_them_alone():
    loss, params, tasks = problem("mlp")
    support = tm.Batch(*[a[0] for a in tasks.support])
    before = {name: p.numpy().copy() for name, p in params.items()}
    a = tm.maml.adapt(loss, params, support, lr=0.1, steps=2)
    b = tm.maml.adapt(loss, {n: p.detach() for n, p in params.items()}, support, lr=0.1, steps=2)
    for name, p in params.items():
        np.testing.assert_array_equal(p.numpy(), before[name])
        np.testing.assert_array_equal(a[name].numpy(), b[name].numpy())


def test_first_order_takes_the_inner_gradient_as_constant():
    """d/dtheta L(theta - alpha g) with g constant is L'(theta'), for any alpha."""
    loss, params, tasks = problem("mlp")
    first = tm.grad(tm.maml.meta_loss(loss, params, tasks, lr=0.1, first_order=True), params)
    adapted = tm.maml.adapt(loss, tm.maml.per_task(params, 5), tasks.support, lr=0.1)
    moved = {name: tm.tensor(p, requires_grad=True) for name, p in adapted.items()}
    direct = tm.grad(loss(moved, *tasks.query).mean(), moved)
    for name, g in first.items():
        np.testing.assert_allclose(g.numpy(), direct[name].numpy().sum(0), rtol=1e-12, atol=1e-14)


def test_a_shared_matrix_is_broadcast_as_numpy_broadcasts_it():
    x, w = np.ones((1, 5, 4)), np.broadcast_to(np.arange(12.0).reshape(4, 3), (3, 4, 3))
    assert (tm.tensor(x) @ tm.tensor(w)).shape == (3, 5, 3)
    np.testing.assert_array_equal((tm.tensor(x) @ tm.tensor(w)).numpy(), x @ w)
