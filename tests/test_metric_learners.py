"""Learners that compare images: facts by hand, PyTorch's numbers, and no leak of labels."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from test_learners import MLP, NORMALISED, episodes, host, init

import tinymaml as tm
from tinymaml import learners, nn
from tinymaml.learners.learner import LEAST
from tinymaml.tasks import Batch, distortions
from tinymaml.tasks.distortions import distort

if find_spec("torch"):
    import torch
    from torch.nn import functional

needs_torch = pytest.mark.skipif(not find_spec("torch"), reason="PyTorch is not installed")
SYSTEMS = {
    "NearestNeighbour": learners.NearestNeighbour(MLP),
    "ProtoNet": learners.ProtoNet(MLP),
    "MatchingNet": learners.MatchingNet(MLP),
    "MatchingNet, FCE": learners.MatchingNet(MLP, fce_steps=3, features=3),
    "Siamese": learners.Siamese(MLP, features=3),
}
every_system = pytest.mark.parametrize("name", SYSTEMS)
as_it_is = nn.Sequential()  # a body that leaves vectors alone


def batch(x, y=None):
    return Batch(*[tm.tensor(a).data for a in (x, y) if a is not None])


def support(x, y):
    return batch(np.array([x], float), np.array([y]))


# By hand


def test_the_attention_of_a_matching_net_by_hand():
    """Cosines 1, 0, 4/5 over T = 1/5: weights e^5, 1 and e^4 over their sum, 1 and 3 of a class."""
    given = support([[2, 0], [0, 1], [4, 3]], [0, 1, 0])
    learner = learners.MatchingNet(as_it_is, temperature=0.2)
    said = host(learner.predict({}, given, tm.tensor([[[7.0, 0.0]]]).data))
    weights = np.exp([5, 0, 4]) / np.exp([5, 0, 4]).sum()
    p = np.exp(said[0, 0]) / np.exp(said[0, 0]).sum()
    np.testing.assert_allclose(p, [weights[0] + weights[2], weights[1]], rtol=1e-9)


def test_with_one_shot_a_matching_net_says_the_softmax_of_the_similarities():
    learner, tasks = learners.MatchingNet(MLP), episodes(k_shot=1)
    params = init(learner)
    said = host(learner.predict(params, tasks.support, tasks.query.x))
    for t in range(3):
        known, query = (host(MLP(params, b.x[t])) for b in tasks)
        lengths = [np.linalg.norm(v, axis=-1) for v in (query, known)]
        cosine = query @ known.T / np.outer(*lengths)
        in_order = cosine[:, np.argsort(host(tasks.support.y[t]))] / 0.05
        np.testing.assert_allclose(said[t], in_order, rtol=1e-8)


def test_the_logits_of_a_protonet_are_linear_in_the_features_of_the_query():
    """-|q - c|^2 + |q|^2 = 2 q . c - |c|^2."""
    rng = np.random.default_rng(0)
    known, (a, b) = rng.normal(size=(6, 4)), rng.normal(size=(2, 1, 4))
    given, learner = support(known, [0, 0, 1, 1, 2, 2]), learners.ProtoNet(as_it_is)

    def logits(q):
        return host(learner.predict({}, given, tm.tensor(q[None]).data))[0, 0] + (q**2).sum()

    means = known.reshape(3, 2, 4).mean(1)
    np.testing.assert_allclose(logits(a), 2 * means @ a[0] - (means**2).sum(-1), rtol=1e-9)
    np.testing.assert_allclose(logits(a) + logits(b) - logits(0 * a), logits(a + b), rtol=1e-9)


def test_the_similarity_of_a_siamese_network_by_hand():
    """Differences (1, 2), (0, 1) and (3, 0); alpha = (-1, 1/2), b = 1: logits 1, 3/2 and -2."""
    given = support([[1, 2], [2, 3], [5, 4]], [0, 0, 1])
    params = {"alpha.weight": tm.tensor([[-1.0], [0.5]]), "alpha.bias": tm.tensor([1.0])}
    learner = learners.Siamese(as_it_is, features=2)
    said = host(learner.predict(params, given, tm.tensor([[[2.0, 4.0]]]).data))[0, 0]
    p = 1 / (1 + np.exp(-np.array([1, 1.5, -2])))
    np.testing.assert_allclose(np.exp(said), [p[:2].mean(), p[2]], rtol=1e-9)


def test_similarities_that_round_to_1_are_told_apart():
    given = support([[0.0], [1.0]], [0, 1])
    params = {"alpha.weight": tm.tensor([[-1.0]]), "alpha.bias": tm.tensor([50.0])}
    params = {n: tm.tensor(p.numpy().astype(np.float32)) for n, p in params.items()}
    given = Batch(given.x.astype(np.float32), given.y)
    learner = learners.Siamese(as_it_is, features=1)
    said = host(learner.predict(params, given, given.x))
    np.testing.assert_array_equal(said.argmax(-1), [[0, 1]])


def test_the_pairs_of_one_class_weigh_as_much_as_all_others():
    """Logits b for all pairs: half softplus(-b) and half softplus(b), plus the decay."""
    tasks = episodes()
    learner = learners.Siamese(nn.Linear(2, 3), features=3, weight_decay=0.5)
    params = {n: tm.tensor(0 * p.numpy()) for n, p in init(learner).items()}
    params["alpha.bias"] = tm.tensor([0.7])
    expected = (np.log1p(np.exp(-0.7)) + np.log1p(np.exp(0.7))) / 2 + 0.5 * 0.49
    assert learner.objective(params, tasks).item() == pytest.approx(expected, rel=1e-12)


# Which classes there are


@every_system
def test_the_names_of_the_classes_change_the_order_of_the_columns_alone(name):
    learner, tasks, renamed = SYSTEMS[name], episodes(), np.array([2, 0, 1])
    params = init(learner)
    y = tm.tensor(renamed[host(tasks.support.y)]).data
    said = host(learner.predict(params, tasks.support, tasks.query.x))
    other = host(learner.predict(params, Batch(tasks.support.x, y), tasks.query.x))
    np.testing.assert_allclose(other[..., renamed], said, rtol=1e-9)


@every_system
def test_a_class_without_support_is_never_chosen_and_costs_no_other(name):
    learner, tasks = SYSTEMS[name], episodes()
    params = init(learner)
    said = host(learner.predict(params, tasks.support, tasks.query.x))
    more = replace(learner, n_way=5).predict(params, tasks.support, tasks.query.x)
    np.testing.assert_allclose(host(more)[..., :3], said, rtol=1e-12)
    assert (host(more)[..., 3:] <= LEAST / 2).all() and np.isfinite(host(more)).all()
    if name == "NearestNeighbour":
        return
    own, with_more = (
        tm.grad(one.objective(params, tasks), params)
        for one in (learner, replace(learner, n_way=5))
    )
    for n, g in own.items():
        np.testing.assert_allclose(with_more[n].numpy(), g.numpy(), rtol=1e-9, atol=1e-14)


@every_system
def test_training_may_have_more_classes_than_the_test(name):
    learner = replace(SYSTEMS[name], n_way=2, train_way=3)
    tasks, params = episodes(), init(SYSTEMS[name])
    value = learner.objective(params, tasks).item()
    assert value == SYSTEMS[name].objective(params, tasks).item()
    two = support([[0, 0], [3, 3]], [1, 0])
    assert learner.predict(params, two, two.x).shape == (1, 2, 2)


@pytest.mark.numpy_only
def test_a_label_beyond_the_classes_is_an_error():
    tasks = episodes()
    with pytest.raises(ValueError, match="labels reach from 0 to 2, but 2 classes need 0 to 1"):
        learners.ProtoNet(MLP, n_way=2).predict(init(MLP), tasks.support, tasks.query.x)


# PyTorch


def torch_mlp(p, x):
    hidden = torch.relu(x @ p["linear1.weight"] + p["linear1.bias"])
    return hidden @ p["linear2.weight"] + p["linear2.bias"]


def torch_lstm(p, prefix, x, state):
    """PyTorch's own cell, whose gates come in another order: i, f, g, o."""

    def reordered(w):
        i, f, o, g = w.chunk(4, -1)
        return torch.cat([i, f, g, o], -1)

    weights = [reordered(p[f"{prefix}{n}.weight"]).T for n in ("input", "hidden")]
    bias = reordered(p[f"{prefix}bias"])
    return torch.lstm_cell(x, state, *weights, bias, torch.zeros_like(bias))


def torch_context(p, g, f):
    """Full context embeddings of one task."""
    zero = torch.zeros(1, 3, dtype=torch.float64)
    ways = []
    for way, order in (("there", range(len(g))), ("back", reversed(range(len(g))))):
        state, found = (zero, zero), {}
        for i in order:
            state = torch_lstm(p, f"g.{way}.", g[i : i + 1], state)
            found[i] = state[0][0]
        ways.append(torch.stack([found[i] for i in range(len(g))]))
    g = ways[0] + ways[1] + g
    embedded = []
    for one in f:
        h, r, c = zero, zero, zero
        for _ in range(3):
            h, c = torch_lstm(p, "f.", torch.cat([one[None], r], -1), (h, c))
            h = h + one
            r = torch.softmax(h @ g.T, -1) @ g
        embedded.append(h[0])
    return g, torch.stack(embedded)


def torch_scores(name, p, x, y, query):
    """The log of the probability of every class, of one task."""
    g, f = torch_mlp(p, x), torch_mlp(p, query)
    classes = range(int(y.max()) + 1)
    if name == "ProtoNet":
        means = torch.stack([g[y == k].mean(0) for k in classes])
        return torch.log_softmax(-(torch.cdist(f, means) ** 2), -1)
    if "FCE" in name:
        g, f = torch_context(p, g, f)
    a = torch.softmax(functional.cosine_similarity(f[:, None], g[None], dim=-1) / 0.05, -1)
    return torch.log(a @ functional.one_hot(y, len(classes)).double())


def torch_siamese(p, x, y, query, labels):
    g, f = torch_mlp(p, x), torch_mlp(p, query)
    losses = {True: [], False: []}
    similar = torch.zeros(len(f), len(g), dtype=torch.float64)
    for i, j in np.ndindex(len(f), len(g)):
        logit = (f[i] - g[j]).abs() @ p["alpha.weight"] + p["alpha.bias"]
        probability = torch.sigmoid(logit)[0]
        similar[i, j] = probability.detach()
        same = bool(labels[i] == y[j])
        losses[same].append(-torch.log(probability if same else 1 - probability))
    loss = sum(torch.stack(part).mean() for part in losses.values()) / 2
    return loss, torch.stack([similar[:, y == k].mean(1) for k in range(3)], -1).log()


@needs_torch
@pytest.mark.numpy_only
@pytest.mark.parametrize("name", [name for name in SYSTEMS if name != "NearestNeighbour"])
def test_loss_gradients_and_predictions_are_pytorchs(name):
    learner, tasks = SYSTEMS[name], episodes(n_tasks=2)
    params = init(learner)
    p = {n: torch.tensor(v.numpy(), requires_grad=True) for n, v in params.items()}
    losses, scores = [], []
    for t in range(2):
        x, y, query, labels = (torch.tensor(a[t]) for batch in tasks for a in batch)
        if name == "Siamese":
            loss, said = torch_siamese(p, x, y, query, labels)
        else:
            said = torch_scores(name, p, x, y, query)
            loss = functional.nll_loss(said, labels)
        losses.append(loss)
        scores.append(said.detach().numpy())
    value = torch.stack(losses).mean()
    theirs = torch.autograd.grad(value, list(p.values()))
    ours = learner.objective(params, tasks)
    assert ours.item() == pytest.approx(value.item(), rel=1e-9)
    for (n, g), expected in zip(tm.grad(ours, params).items(), theirs):
        size = max(1e-3, abs(expected).max().item())
        np.testing.assert_allclose(g.numpy(), expected.numpy(), rtol=0, atol=1e-9 * size, err_msg=n)
    said = learner.predict(params, tasks.support, tasks.query.x).numpy()
    if name != "Siamese":
        said = tm.ops.log_softmax(said, -1)
    np.testing.assert_allclose(said, scores, rtol=1e-9, atol=1e-9)


@pytest.mark.numpy_only
@pytest.mark.skipif(not hasattr(tm, "compile"), reason="there is no compiler")
@pytest.mark.parametrize("name", [name for name in SYSTEMS if name != "NearestNeighbour"])
def test_compiled_a_training_step_gives_the_same_numbers(name):
    assert_compiled_equals_eager(replace(SYSTEMS[name], n_way=3))


def assert_compiled_equals_eager(learner):
    def step(params, tasks):
        value = learner.objective(params, tasks)
        return {"value": value} | tm.grad(value, params)

    compiled, params = tm.compile(step), init(learner)
    for seed in range(4):
        tasks = episodes(seed=seed)
        found, expected = compiled(params, tasks), step(params, tasks)
        for n, array in expected.items():
            np.testing.assert_array_equal(host(found[n]), host(array), err_msg=n)


# Distortions


def test_without_luck_nothing_is_distorted():
    class Never:
        def uniform(self, low, high, size):
            return np.broadcast_to(high, size)

        def random(self, size):
            return np.full(size, 0.5)

    images = np.random.default_rng(0).random((3, 8, 8, 2)).astype(np.float32)
    np.testing.assert_allclose(distort(images, Never()), images, rtol=1e-6)


@pytest.mark.parametrize(
    ("which", "largest", "expected"),
    [
        ("SHIFT", 105 / 9, lambda image: np.pad(image, ((0, 1), (0, 1)))[1:, 1:]),  # by one pixel
        ("ANGLE", np.pi / 2, lambda image: np.rot90(image, -1)),
        ("SCALE", 1.0, lambda image: np.pad(image[::2, ::2], 2)),  # half as large
    ],
)
def test_each_distortion_is_what_it_is_called(monkeypatch, which, largest, expected):
    class Always:
        def uniform(self, low, high, size):
            return np.broadcast_to(high, size)

        def random(self, size):
            return np.zeros(size)

    for name in ("ANGLE", "SHEAR", "SCALE", "SHIFT"):
        monkeypatch.setattr(distortions, name, largest if name == which else 0.0)
    image = np.random.default_rng(0).random((9, 9))
    found = distort(image[None, ..., None], Always())[0, ..., 0]
    np.testing.assert_allclose(found, expected(image), atol=1e-9)


def test_distortions_are_those_of_the_paper_and_of_every_image_its_own():
    assert (distortions.SHEAR, distortions.SCALE, distortions.SHIFT) == (0.3, 0.2, 2)
    assert distortions.ANGLE == pytest.approx(np.deg2rad(10))
    image = np.zeros((28, 28, 1), np.float32)
    image[6:22, 12:16] = 1
    images = distort(np.stack([image] * 400), np.random.default_rng(0))
    assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
    same = (images == image).all((1, 2, 3)).mean()  # none of seven: 1 of 128
    assert same < 0.05 and len(np.unique(images.reshape(400, -1), axis=0)) > 380
    assert abs(images.mean() / image.mean() - 1) < 0.1


def test_a_siamese_network_trains_on_distorted_images_and_is_tested_on_plain_ones():
    images = np.random.default_rng(0).random((2, 3, 8, 8, 1))
    tasks = tm.Task(Batch(images, np.zeros((2, 3))), Batch(images, np.ones((2, 3))))
    learner = learners.Siamese(as_it_is, features=3)
    assert learner.prepare(tasks, np.random.default_rng(0), 1) is tasks
    learner = replace(learner, distort=True)
    first, again = (learner.prepare(tasks, np.random.default_rng(0), 1) for _ in range(2))
    np.testing.assert_array_equal(first.support.x, again.support.x)
    assert (first.support.x != first.query.x).any() and (first.support.x != images).any()
    np.testing.assert_array_equal(first.query.y, tasks.query.y)


@pytest.mark.numpy_only
def test_the_twin_of_koch_has_38_951_745_parameters_with_its_last_layer():
    count = 4096 + 1
    for layer in nn.koch().layers:
        if isinstance(layer, nn.Conv2d):
            count += (layer.kernel_size**2 * layer.channels + 1) * layer.outputs
        elif isinstance(layer, nn.Linear):
            count += (layer.inputs + 1) * layer.outputs
    assert count == 38_951_745


def test_normalised_by_the_support_a_query_sees_no_other_query():
    for name in ("MatchingNet", "MatchingNet, FCE", "Siamese"):
        tasks = episodes()
        for inductive in (False, True):
            learner = replace(SYSTEMS[name], body=NORMALISED, inductive=inductive)
            params = init(learner)
            whole = host(learner.predict(params, tasks.support, tasks.query.x))
            alone = host(learner.predict(params, tasks.support, tasks.query.x[:, :2]))
            assert np.allclose(alone, whole[:, :2], rtol=1e-9) == inductive
