"""MAML with a tied head and learned rates, ANIL, Meta-SGD and implicit MAML."""

import tracemalloc
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from test_learners import MLP, SETTINGS, TIED, episodes, host, init
from test_metric_learners import assert_compiled_equals_eager

import tinymaml as tm
from tinymaml import learners, nn
from tinymaml.learners.imaml import conjugate_gradients
from tinymaml.tasks import Batch, Task

if find_spec("torch"):
    import torch

needs_torch = pytest.mark.skipif(not find_spec("torch"), reason="PyTorch is not installed")
ONE_STEP = learners.MAMLPlus(TIED, nn.cross_entropy, 0.3, 1, ways=3)
LEARNED = replace(ONE_STEP, steps=3, learned_lr=True, multi_step=True)
VARIANTS = {
    "tied": replace(ONE_STEP, steps=2),
    "tied, learned": LEARNED,
    "tied, learned, first order": replace(LEARNED, first_order=True),
    "multi-step": learners.MAMLPlus(**SETTINGS, lr=0.2, steps=3, multi_step=True),
    "ANIL": learners.ANIL(**SETTINGS, lr=0.3, steps=2),
    "Meta-SGD": learners.MetaSGD(**SETTINGS, lr=0.3, steps=2),
}


def perturbed(params, seed=0):
    """Parameters that are all different, so that no rate equals another one."""
    rng = np.random.default_rng(seed)
    return {
        n: tm.tensor(p.numpy() * (1 + 0.3 * rng.random(p.shape)), requires_grad=True)
        for n, p in params.items()
    }


# A tied head


@pytest.mark.parametrize("name", ["tied", "tied, learned"])
def test_with_a_tied_head_the_order_of_the_labels_cannot_matter(name):
    learner, tasks, renamed = VARIANTS[name], episodes(), np.array([2, 0, 1])
    params = init(learner)
    y = tm.tensor(renamed[host(tasks.support.y)]).data
    said = host(learner.predict(params, tasks.support, tasks.query.x))
    other = host(learner.predict(params, Batch(tasks.support.x, y), tasks.query.x))
    np.testing.assert_allclose(other[..., renamed], said, rtol=1e-9)
    own = learners.MAML(MLP, nn.cross_entropy, 0.3, 2)  # where classes have their own vectors
    params = init(own)
    a = host(own.predict(params, tasks.support, tasks.query.x))
    b = host(own.predict(params, Batch(tasks.support.x, y), tasks.query.x))
    assert abs(b[..., renamed] - a).max() > 0.01


def test_one_step_of_a_tied_head_is_a_centred_matching_by_dot_products():
    """w_k = w + alpha/n sum_i ([y_i = k] - 1/N) f_i, and the logits are f . w_k."""
    tasks, params = episodes(), init(ONE_STEP)
    said = host(ONE_STEP.predict(params, tasks.support, tasks.query.x))
    body, w = nn.Sequential(*TIED.layers[:-1]), host(params["linear2.weight"])[:, 0]
    for t in range(3):
        known, query = (host(body(params, b.x[t])) for b in tasks)
        is_k = host(tasks.support.y[t])[:, None] == np.arange(3)
        moved = w[:, None] + 0.3 / 6 * known.T @ (is_k - 1 / 3)
        np.testing.assert_allclose(said[t], query @ moved, rtol=1e-9)


def test_the_first_step_moves_no_feature_since_their_gradient_is_zero():
    """sum_k (p_k - y_k) w = 0: leaving them out changes nothing."""
    tasks, params = episodes(), init(ONE_STEP)
    start = next(ONE_STEP.path(params, tasks.support, 0))
    all_of_them = tm.maml.adapt(ONE_STEP.task_loss, start, tasks.support, lr=0.3)
    *_, moved = ONE_STEP.path(params, tasks.support, 1)
    for name, p in all_of_them.items():
        np.testing.assert_allclose(moved[name].numpy(), p.numpy(), rtol=1e-12, atol=1e-15)
    assert (moved["linear1.weight"].numpy() == start["linear1.weight"].numpy()).all()
    *_, second = ONE_STEP.path(params, tasks.support, 2)
    assert (second["linear1.weight"].numpy() != start["linear1.weight"].numpy()).any()


def test_rates_are_learned_for_the_steps_that_take_them_and_the_last_one_stays():
    params = LEARNED.init(np.random.default_rng(0))
    rates = {n: p.shape for n, p in params.items() if n.startswith("lr.")}
    shapes = [(2,), (2,), (3,)]  # the first step is the head's alone
    assert rates == dict(zip(("lr.linear1.weight", "lr.linear1.bias", "lr.linear2.weight"), shapes))
    assert all(np.all(params[n].numpy() == np.float32(0.3)) for n in rates)
    params["lr.linear1.bias"] = tm.tensor([0.5, 0.7])
    params["lr.linear2.weight"] = tm.tensor([1.0, 2.0, 3.0])
    found = [LEARNED.rates(params, step) for step in range(5)]
    assert [float(r["linear1.bias"]) for r in found] == [0, 0.5, 0.7, 0.7, 0.7]
    assert [float(r["linear2.weight"]) for r in found] == [1, 2, 3, 3, 3]
    one = replace(ONE_STEP, learned_lr=True).init(np.random.default_rng(0))
    assert [n for n in one if n.startswith("lr.")] == ["lr.linear2.weight"]
    still = {"linear1.weight": 0, "linear1.bias": 0, "linear2.weight": 0.1}
    kept = replace(LEARNED, lr=still).init(np.random.default_rng(0))
    assert [n for n in kept if n.startswith("lr.")] == ["lr.linear2.weight"]


# ANIL and Meta-SGD


def test_anil_is_maml_with_rate_0_for_the_features():
    tasks, anil = episodes(), VARIANTS["ANIL"]
    params = init(anil)
    rates = {n: 0.3 if n.startswith("linear2") else 0 for n in params}
    maml = learners.MAML(**SETTINGS, lr=rates, steps=2)
    expected = tm.grad(maml.objective(params, tasks), params)
    for n, g in tm.grad(anil.objective(params, tasks), params).items():
        np.testing.assert_array_equal(g.numpy(), expected[n].numpy())
    *_, adapted = anil.path(params, tasks.support, 2)
    for t in range(3):
        assert (adapted["linear1.weight"].numpy()[t] == params["linear1.weight"].numpy()).all()
        assert (adapted["linear2.bias"].numpy()[t] != params["linear2.bias"].numpy()).all()


def test_a_step_of_meta_sgd_by_hand():
    """L = mean (theta . x - y)^2 at theta = (1, 2) on x = (1, 1), y = 2: gradient (2, 2)."""
    model = nn.Linear(2, 1, bias=False)
    learner = learners.MetaSGD(model, nn.mse_loss, lr=0.5)
    params = {"weight": tm.tensor([[1.0], [2.0]]), "lr.weight": tm.tensor([[0.25], [-1.0]])}
    x, y = (tm.tensor(np.array(a)).data for a in ([[[1.0, 1.0]]], [[[2.0]]]))
    *_, moved = learner.path(params, Batch(x, y), 1)
    np.testing.assert_array_equal(moved["weight"].numpy(), [[[0.5], [4.0]]])
    params = {n: tm.tensor(p.numpy(), requires_grad=True) for n, p in params.items()}
    query = Batch(tm.tensor(np.array([[[1.0, 0.0]]])).data, 0 * y)
    gradient = tm.grad(learner.objective(params, Task(Batch(x, y), query)), params)
    # the loss 0.5^2 falls with the first rate by 2 * 0.5 * 2; the second weight has no part in it
    np.testing.assert_array_equal(gradient["lr.weight"].numpy(), [[-2.0], [0.0]])


# PyTorch


def torch_loss(p, x, y):
    hidden = torch.relu(x @ p["linear1.weight"] + p["linear1.bias"])
    return torch.nn.functional.cross_entropy(
        hidden @ p["linear2.weight"] + p.get("linear2.bias", 0), y
    )


def torch_rate(name, p, key, step):
    """alpha of a parameter at a step, from 0 on."""
    if name == "Meta-SGD":
        return p[f"lr.{key}"]
    if name == "ANIL":
        return 0.3 if key.startswith("linear2") else 0.0
    if "learned" in name:
        late = key != "linear2.weight"
        return p[f"lr.{key}"][step - late] if step >= late else 0.0
    return 0.2 if name == "multi-step" else 0.3


@needs_torch
@pytest.mark.numpy_only
@pytest.mark.parametrize("name", VARIANTS)
def test_loss_and_all_gradients_are_pytorchs(name):
    learner, tasks = VARIANTS[name], episodes(n_tasks=2)
    params = perturbed(init(learner))
    p = {n: torch.tensor(v.numpy(), requires_grad=True) for n, v in params.items()}
    losses = []
    for t in range(2):
        x, y, query, labels = (torch.tensor(a[t]) for batch in tasks for a in batch)
        theta = {n: v for n, v in p.items() if not n.startswith("lr.")}
        if "tied" in name:
            theta["linear2.weight"] = theta["linear2.weight"].repeat(1, 3)
        of_steps = []
        for step in range(learner.steps):
            loss = torch_loss(theta, x, y)
            inner = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
            if learner.first_order:
                inner = [g.detach() for g in inner]
            rates = [torch_rate(name, p, n, step) for n in theta]
            theta = {n: v - r * g for (n, v), r, g in zip(theta.items(), rates, inner)}
            of_steps.append(torch_loss(theta, query, labels))
        losses.append(torch.stack(of_steps).mean() if learner.multi_step else of_steps[-1])
    value = torch.stack(losses).mean()
    theirs = torch.autograd.grad(value, list(p.values()))
    ours = learner.objective(params, tasks)
    assert ours.item() == pytest.approx(value.item(), rel=1e-9)
    for (n, g), expected in zip(tm.grad(ours, params).items(), theirs):
        size = max(1e-3, abs(expected).max().item())
        np.testing.assert_allclose(g.numpy(), expected.numpy(), rtol=0, atol=1e-9 * size, err_msg=n)


@pytest.mark.numpy_only
@pytest.mark.skipif(not hasattr(tm, "compile"), reason="there is no compiler")
@pytest.mark.parametrize("name", VARIANTS)
def test_compiled_a_training_step_gives_the_same_numbers(name):
    assert_compiled_equals_eager(VARIANTS[name])


# Implicit MAML


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_elements():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 6, 6))
    a, b = a @ a.swapaxes(1, 2) + np.eye(6), rng.normal(size=(3, 6))

    def matrix(v):
        joined = np.concatenate([v["one"], v["two"].reshape(3, 4)], 1)
        product = (a @ joined[..., None])[..., 0]
        return {"one": product[:, :2], "two": product[:, 2:].reshape(3, 2, 2)}

    right = {"one": b[:, :2], "two": b[:, 2:].reshape(3, 2, 2)}
    expected = np.linalg.solve(a, b[..., None])[..., 0]
    for steps, close in ((6, True), (9, True), (3, False)):
        found = conjugate_gradients(matrix, right, steps)
        found = np.concatenate([found["one"], found["two"].reshape(3, 4)], 1)
        assert np.allclose(found, expected, rtol=1e-9) == close
    zero = conjugate_gradients(matrix, {n: 0 * r for n, r in right.items()}, 3)
    assert all((z == 0).all() for z in zero.values())


def line(steps, **settings):
    """Implicit MAML of a line through two points, and one task."""
    learner = learners.IMAML(nn.Linear(1, 1), nn.mse_loss, 0.05, steps, strength=3.0, **settings)
    rng = np.random.default_rng(0)
    x, y = (tm.tensor(rng.normal(size=(2, 4, 1))).data for _ in range(2))
    return learner, Task(Batch(x, y), Batch(y, x))


def test_at_the_end_of_the_inner_loop_the_gradient_is_the_derivative():
    """By finite differences of the query's loss where 400 steps lead from theta."""
    learner, tasks = line(400)
    params = init(learner)
    gradient = tm.grad(learner.objective(params, tasks), params)

    def loss(params):
        said = learner.predict(params, tasks.support, tasks.query.x)
        return nn.mse_loss(said, tasks.query.y).mean().item()

    for n, p in params.items():
        ends = [loss(params | {n: tm.tensor(p.numpy() + h)}) for h in (1e-5, -1e-5)]
        assert gradient[n].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
    assert learner.objective(params, tasks).item() == pytest.approx(loss(params), rel=1e-12)


@needs_torch
@pytest.mark.numpy_only
def test_the_gradient_of_implicit_maml_solves_the_papers_equation():
    learner = learners.IMAML(**SETTINGS, lr=0.2, steps=4, strength=2.0, cg_steps=60)
    tasks, params = episodes(n_tasks=2), init(learners.MAML(**SETTINGS, lr=0.1))
    names, sizes = list(params), [p.size for p in params.values()]
    theta = torch.cat([torch.tensor(p.numpy()).ravel() for p in params.values()])

    def split(flat):
        return {n: v.reshape(params[n].shape) for n, v in zip(names, flat.split(sizes))}

    values, gradients = [], []
    for t in range(2):
        x, y, query, labels = (torch.tensor(a[t]) for batch in tasks for a in batch)
        phi = theta
        for _ in range(4):
            phi = phi.detach().requires_grad_()
            held = torch_loss(split(phi), x, y) + ((phi - theta) ** 2).sum()
            phi = phi - 0.2 * torch.autograd.grad(held, phi)[0]
        phi = phi.detach().requires_grad_()
        values.append(torch_loss(split(phi), query, labels))
        right = torch.autograd.grad(values[-1], phi)[0]
        near = lambda v, x=x, y=y: torch_loss(split(v), x, y)
        hessian = torch.autograd.functional.hessian(near, phi)
        gradients.append(torch.linalg.solve(torch.eye(len(phi)) + hessian / 2, right))
    value = learner.objective(params, tasks)
    assert value.item() == pytest.approx(torch.stack(values).mean().item(), rel=1e-9)
    theirs = split(torch.stack(gradients).mean(0))
    for n, g in tm.grad(value, params).items():
        np.testing.assert_allclose(g.numpy(), theirs[n].detach().numpy(), rtol=1e-9, atol=1e-10)


@pytest.mark.numpy_only
def test_the_memory_of_implicit_maml_does_not_grow_with_the_steps():
    model = nn.mlp((1, 40, 40, 1), nn.he_normal)
    tasks = tm.tasks.SinusoidTasks().sample(np.random.default_rng(0), 25)

    def needed(learner):
        params = learner.init(np.random.default_rng(0))
        learner.objective(params, tasks)
        tracemalloc.start()
        value = learner.objective(params, tasks)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return tm.graph_memory(value).total, peak

    implicit = [needed(learners.IMAML(model, nn.mse_loss, 0.01, steps)) for steps in (2, 30)]
    explicit = [needed(learners.MAML(model, nn.mse_loss, 0.01, steps)) for steps in (2, 30)]
    assert implicit[0][0] == implicit[1][0] and implicit[1][1] < 1.05 * implicit[0][1]
    assert explicit[1][0] > 8 * explicit[0][0] and explicit[1][1] > 8 * explicit[0][1]
