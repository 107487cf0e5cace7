"""The LSTM meta-learner: by hand, against PyTorch, and where it is gradient descent."""

import math
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

import tinymaml as tm
from tinymaml import learners, nn
from tinymaml.experiments import EXPERIMENTS
from tinymaml.learners.meta_lstm import _in_two
from tinymaml.tasks import Batch, Task

if find_spec("torch"):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)

needs_torch = pytest.mark.skipif(not find_spec("torch"), reason="PyTorch is not installed")


class Coordinates(nn.Layer):
    """theta itself, of two coordinates, whatever the input."""

    names = ("theta",)

    def draw(self, rng):
        return {"theta": np.array([1.0, 2.0])}

    def __call__(self, params, x):
        return params["theta"]


def slope(theta, y):
    """A loss with the gradient y everywhere."""
    return (theta * y).sum(-1)


def by_hand(**gates):
    """Parameters of the learner of two coordinates, zero where not given; and a task of slope y."""
    learner = learners.MetaLSTM(Coordinates(), slope, steps=2, hidden=1)
    params = {n: np.zeros(p.shape) for n, p in learner.init(np.random.default_rng(0)).items()}
    params |= {"start.theta": np.array([1.0, 2.0])} | gates
    params = {n: tm.tensor(np.array(p, float), requires_grad=True) for n, p in params.items()}
    slopes = tm.tensor(np.array([[4.0, -8.0]])).data
    return learner, params, Batch(slopes, slopes)


def test_two_steps_on_two_parameters_by_hand():
    """s(0) = 1/2, s(ln 3) = 3/4: f = (1/2, 3/4) and i = 1/4, then by the gates before.

    A weight has a row for h, theta, and the gate before s.
    """
    gates = {
        "decay.weight": [[0], [math.log(3)], [-1]],
        "decay.bias": [-math.log(3)],
        "rate.weight": [[0], [0], [-1]],
        "rate.bias": [-math.log(3)],
    }
    learner, params, support = by_hand(**gates)
    start, first, second = (p["theta"].numpy() for p in learner.path(params, support, 2))
    rounding = 1e-14 if tm.get_backend() == "cupy" else 1e-15
    np.testing.assert_array_equal(start, [[1, 2]])
    np.testing.assert_allclose(first, [[0.5 * 1 - 0.25 * 4, 0.75 * 2 + 0.25 * 8]], rtol=rounding)
    # theta is (-1/2, 7/2); f~ was (0, ln 3) and is ln 3 (theta - 1) - (0, ln 3); i~ is ln 3 - ln 3
    f = 1 / (1 + 3.0 ** (1 - first + [[0, 1]]))
    np.testing.assert_allclose(second, f * first - 0.5 * np.array([[4, -8]]), rtol=1e-14)


def test_a_first_step_reads_the_gradient_and_the_loss_by_hand():
    """One unit whose gates stand at 1/2: h = tanh(tanh(r) / 2) / 2, and i = s(h)."""
    weight = np.zeros((4, 4))
    weight[:, 3] = [1, 2, 3, 4]  # of the pairs of gradient and loss, to the candidate
    gates = {"lstm.input.weight": weight, "rate.weight": [[1], [0], [0]]}
    learner, params, support = by_hand(**gates)
    _, theta = learner.path(params, support, 1)
    for k, g in enumerate((4.0, -8.0)):
        loss = 1 * 4 - 2 * 8
        pairs = [math.log(abs(g)) / 10, np.sign(g), math.log(abs(loss)) / 10, np.sign(loss)]
        h = 0.5 * math.tanh(0.5 * math.tanh(np.dot([1, 2, 3, 4], pairs)))
        expected = 0.5 * (1.0, 2.0)[k] - g / (1 + math.exp(-h))
        assert theta["theta"].numpy()[0, k] == pytest.approx(expected, rel=1e-14)


def test_numbers_of_any_magnitude_come_in_as_two():
    x = np.array([math.exp(-5), -1.0, 0.0, math.exp(-11), -math.exp(-12), -math.exp(20)])
    size, sign = _in_two(x)
    np.testing.assert_allclose(size, [-0.5, 0, -1, -1, -1, 2], rtol=1e-14)
    np.testing.assert_allclose(sign, [1, -1, 0, math.exp(-1), -math.exp(-2), -1], rtol=1e-14)
    assert {a.dtype for a in _in_two(x.astype(np.float32))} == {np.dtype(np.float32)}


MODEL = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm(4), nn.ReLU(), nn.Linear(4, 3))
LEARNER = learners.MetaLSTM(MODEL, nn.cross_entropy, steps=3, hidden=5)


def episodes(n_tasks=2, seed=0):
    rng, batches = np.random.default_rng(seed), []
    for n in (6, 9):
        y = np.stack([rng.permutation(np.arange(n) % 3) for _ in range(n_tasks)])
        x = rng.normal(size=(*y.shape, 2)) + np.stack([y == 1, y == 2], axis=-1)
        batches.append(Batch(tm.tensor(x).data, tm.tensor(y).data))
    return Task(*batches)


def init(learner, spread=0.0):
    """Initial parameters in float64, those of the LSTM and its gates spread further."""
    rng = np.random.default_rng(1)
    params = {n: p.numpy().astype(float) for n, p in learner.init(rng).items()}
    for name, p in params.items():
        if not name.startswith("start."):
            params[name] = p + rng.normal(0, spread, p.shape)
    return {n: tm.tensor(p, requires_grad=True) for n, p in params.items()}


def torch_objective(p, tasks, steps, hidden):
    """The objective in PyTorch, task by task, with torch's own LSTM cell."""

    def logits(theta, x):
        x = x @ theta["linear1.weight"] + theta["linear1.bias"]
        gamma, beta = theta["batchnorm1.gamma"], theta["batchnorm1.beta"]
        x = F.relu(F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-5))
        return x @ theta["linear2.weight"] + theta["linear2.bias"]

    def pair(x):
        large = abs(x) > math.exp(-10)
        log = torch.log(torch.where(large, abs(x), torch.ones_like(x))) / 10
        return [
            torch.where(large, log, -torch.ones_like(x)),
            torch.where(large, torch.sign(x), math.exp(10) * x),
        ]

    start = {n[len("start.") :]: v for n, v in p.items() if n.startswith("start.")}
    sizes = [v.numel() for v in start.values()]
    i, f, o, g = range(4)  # torch's order is i f g o
    quarters = [
        [p[f"lstm.{n}"].T.split(hidden)[k] for k in (i, f, g, o)]
        for n in ("input.weight", "hidden.weight")
    ] + [[p["lstm.bias"].split(hidden)[k] for k in (i, f, g, o)]]
    w_x, w_h, b = map(torch.cat, quarters)
    total = 0
    for t in range(len(tasks.support.x)):
        (x, y), (x_query, y_query) = (
            [torch.tensor(tm.tensor(a[t]).numpy()) for a in part] for part in tasks
        )
        theta = torch.cat([v.reshape(-1) for v in start.values()])
        h, c = torch.zeros(len(theta), hidden), torch.zeros(len(theta), hidden)
        f_before = i_before = torch.zeros(len(theta))

        def shaped(theta):
            return {n: v.reshape(start[n].shape) for n, v in zip(start, theta.split(sizes))}

        for _ in range(steps):
            leaf = theta.detach().requires_grad_()
            loss = F.cross_entropy(logits(shaped(leaf), x), y)
            (gradient,) = torch.autograd.grad(loss, leaf)
            read = torch.stack([*pair(gradient), *pair(loss.detach().expand(len(theta)))], 1)
            # as torch.nn.LSTMCell, of which these are the weights
            h, c = torch.lstm_cell(read, (h, c), w_x, w_h, b, torch.zeros_like(b))
            f_before, i_before = (
                torch.cat([h, theta[:, None], before[:, None]], 1) @ p[f"{name}.weight"][:, 0]
                + p[f"{name}.bias"]
                for name, before in (("decay", f_before), ("rate", i_before))
            )
            theta = torch.sigmoid(f_before) * theta - torch.sigmoid(i_before) * gradient
        total = total + F.cross_entropy(logits(shaped(theta), x_query), y_query)
    return total / len(tasks.support.x)


@needs_torch
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_loss_and_all_gradients_against_torch(spread):
    torch.set_default_dtype(torch.float64)
    try:
        tasks, params = episodes(), init(LEARNER, spread)
        value = LEARNER.objective(params, tasks)
        gradient = tm.grad(value, params)
        theirs = {n: torch.tensor(p.numpy(), requires_grad=True) for n, p in params.items()}
        expected = torch_objective(theirs, tasks, steps=3, hidden=5)
        expected.backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    for name, p in theirs.items():
        np.testing.assert_allclose(gradient[name].numpy(), p.grad.numpy(), rtol=1e-9, atol=1e-9)


def test_with_its_gates_fixed_it_is_first_order_maml():
    """f = 1 and i = 0.2 everywhere: the same theta, and the same gradient of the first theta."""
    tasks, params = episodes(), init(LEARNER)
    fixed = {"decay.bias": 60.0, "rate.bias": math.log(0.2 / 0.8)}
    for name in params:
        if name.startswith(("decay", "rate")):
            value = np.full(params[name].shape, fixed.get(name, 0.0))
            params[name] = tm.tensor(value, requires_grad=True)
    maml = learners.MAML(MODEL, nn.cross_entropy, lr=0.2, steps=3, first_order=True)
    start = {n.removeprefix("start."): p for n, p in params.items() if n.startswith("start.")}
    for ours, theirs in zip(
        LEARNER.path(params, tasks.support, 3), maml.path(start, tasks.support, 3)
    ):
        for name in start:
            # a bias before batch norm stays 0 but for rounding, which a GPU does differently
            atol = 1e-12 if tm.get_backend() == "cupy" else 0
            a, b = ours[name].numpy(), theirs[name].numpy()
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=atol)
    gradient = tm.grad(LEARNER.objective(params, tasks), params)
    for name, g in tm.grad(maml.objective(start, tasks), start).items():
        ours = gradient[f"start.{name}"].numpy()
        np.testing.assert_allclose(ours, g.numpy(), rtol=1e-9, atol=1e-12)


def test_it_starts_near_gradient_descent_with_a_rate_of_a_hundredth():
    drawn = [LEARNER.init(np.random.default_rng(seed)) for seed in range(50)]
    for name in [name for name in drawn[0] if not name.startswith("start.")]:
        low, high = {"decay.bias": (4, 5), "rate.bias": (-5, -4)}.get(name, (-0.01, 0.01))
        values = np.concatenate([params[name].numpy().ravel() for params in drawn])
        share = (values - low) / (high - low)
        assert 0 <= share.min() < 0.1 and 0.9 < share.max() <= 1
    assert sum(p.size for n, p in drawn[0].items() if not n.startswith("start.")) == (
        4 * 5 * (4 + 5 + 1) + 2 * (5 + 2 + 1)  # the same for every number of coordinates
    )


def test_a_norm_of_the_meta_gradient_above_the_limit_is_brought_to_it():
    one = EXPERIMENTS["miniimagenet-meta-lstm"].replace(image_size=16, filters=2, inner_steps=2)
    assert one.schedule.clip_norm == 0.25 and one.schedule.clip == 0
    pixels = np.random.default_rng(0).integers(0, 256, (5, 20, 16, 16, 3), np.uint8)
    problem = one.problem.with_images(dict.fromkeys(("train", "val", "test"), pixels))
    one = replace(one, problem=problem)
    tasks, params = one.training_tasks(1), one.init()
    free = one.replace(clip_norm=0.0).gradient(params, tasks)[1]
    norm = np.sqrt(sum((g.numpy().astype(float) ** 2).sum() for g in free.values()))
    for limit, share in ((norm / 4, 0.25), (norm * 4, 1.0)):
        _, gradient = one.replace(clip_norm=float(limit)).gradient(params, tasks)
        for name, g in gradient.items():
            np.testing.assert_allclose(g.numpy(), share * free[name].numpy(), rtol=1e-5)
            assert g.dtype == free[name].dtype
