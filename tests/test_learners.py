"""Learners: the protocol that they keep to, and each method by an independent route."""

from dataclasses import replace

import numpy as np
import pytest

import tinymaml as tm
from tinymaml import learners, nn
from tinymaml.engine.ops.loss import one_hot
from tinymaml.experiments import EXPERIMENTS, Schedule
from tinymaml.experiments.evaluation import score_tasks
from tinymaml.experiments.methods import PixelMeans
from tinymaml.learners.protonet import class_means
from tinymaml.parallel.chunks import gradient_by_chunks
from tinymaml.tasks import Batch, Task

MLP = nn.mlp((2, 5, 3), nn.he_normal)
NORMALISED = nn.mlp((2, 5, 3), batch_norm=True)
TIED = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 1, bias=False))
SETTINGS = dict(model=MLP, loss=nn.cross_entropy)
LEARNERS = {
    "MAML": learners.MAML(**SETTINGS, lr=0.1, steps=2),
    "MAML, first order": learners.MAML(**SETTINGS, lr=0.1, steps=2, first_order=True),
    "MAML, inductive": learners.MAML(NORMALISED, nn.cross_entropy, lr=0.1, inductive=True),
    "Pretrained": learners.Pretrained(**SETTINGS, lr=0.1, test_steps=2),
    "NoAdaptation": learners.NoAdaptation(**SETTINGS),
    "NearestNeighbour": learners.NearestNeighbour(nn.Linear(2, 4)),
    "MatchingNet": learners.MatchingNet(MLP),
    "MatchingNet, inductive": learners.MatchingNet(NORMALISED, inductive=True),
    "MatchingNet, FCE": learners.MatchingNet(MLP, fce_steps=2, features=3),
    "ProtoNet": learners.ProtoNet(MLP),
    "ProtoNet, inductive": learners.ProtoNet(NORMALISED, inductive=True),
    "Siamese": learners.Siamese(MLP, features=3),
    "Siamese, inductive": learners.Siamese(NORMALISED, features=3, inductive=True),
    "ANIL": learners.ANIL(**SETTINGS, lr=0.1, steps=2),
    "MetaSGD": learners.MetaSGD(**SETTINGS, lr=0.1, steps=2),
    "MAML, tied": learners.MAMLPlus(TIED, nn.cross_entropy, 0.1, 2, ways=3, learned_lr=True),
    "MAML, multi-step": learners.MAMLPlus(**SETTINGS, lr=0.1, steps=2, multi_step=True),
    "IMAML": learners.IMAML(**SETTINGS, lr=0.1, steps=3),
    "MANN": learners.MANN(nn.Sequential(), 2, 3, hidden=5, slots=6, width=4, heads=2),
    "MemoryModule": learners.MemoryModule(nn.Linear(2, 4), width=4),
    "Reptile": learners.Reptile(**SETTINGS, lr=0.01, steps=3, batch=4, test_steps=3),
    "Reptile, inductive": learners.Reptile(NORMALISED, nn.cross_entropy, 0.01, test_steps=2),
    "NeuralStatistician": learners.NeuralStatistician(
        nn.mlp((2, 5), nn.he_normal), nn.Linear(4, 2), features=5, context=3, latent=2, hidden=4
    ),
    "MetaLSTM": learners.MetaLSTM(NORMALISED, nn.cross_entropy, steps=3, hidden=4),
    "MetaLSTM, inductive": learners.MetaLSTM(NORMALISED, nn.cross_entropy, 2, inductive=True),
}
TRAINED = [name for name in LEARNERS if name != "NearestNeighbour"]


def episodes(n_tasks=3, k_shot=2, n_query=3, seed=0):
    """Three classes of points in the plane, in another order in every task."""
    rng = np.random.default_rng(seed)
    batches = []
    for k in (k_shot, n_query):
        y = np.stack([rng.permutation(np.arange(3 * k) % 3) for _ in range(n_tasks)])
        x = rng.normal(size=(*y.shape, 2)) + 2 * np.stack([y == 1, y == 2], axis=-1)
        batches.append(Batch(tm.tensor(x).data, tm.tensor(y).data))
    return Task(*batches)


def init(learner, seed=1):
    """Initial parameters in float64."""
    params = learner.init(np.random.default_rng(seed))
    return {n: tm.tensor(p.numpy().astype(float), requires_grad=True) for n, p in params.items()}


def host(array):
    return tm.tensor(array).numpy()


# What every learner keeps to


def test_every_learner_is_tested_here():
    tested = {type(learner).__name__ for learner in LEARNERS.values()}
    assert tested == set(learners.__all__) - {"Learner", "maml"}


@pytest.mark.parametrize("name", LEARNERS)
def test_predictions_are_scores_of_every_class_for_every_query_of_every_task(name):
    learner, tasks = LEARNERS[name], episodes()
    params = init(learner)
    assert all(p.requires_grad for p in params.values())
    with tm.no_grad():
        said = learner.predict(params, tasks.support, tasks.query.x)
    assert said.shape == (3, 9, 3) and np.isfinite(host(said)).all()
    for t in range(3):  # a task knows of no other
        one = tasks.part(t, t + 1)
        alone = learner.predict(params, one.support, one.query.x)
        np.testing.assert_allclose(host(alone), host(said)[t : t + 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TRAINED)
def test_the_objective_is_the_mean_over_tasks_of_what_has_a_gradient(name):
    learner, tasks = LEARNERS[name], episodes()
    params = init(learner)
    value = learner.objective(params, tasks)
    alone = [learner.objective(params, tasks.part(t, t + 1)) for t in range(3)]
    assert value.shape == () and value.item() == pytest.approx(np.mean([a.item() for a in alone]))
    gradient, parts = tm.grad(value, params), [tm.grad(a, params) for a in alone]
    chunks = gradient_by_chunks(learner.objective, params, tasks, chunk=2)
    assert float(chunks[0]) == pytest.approx(value.item())
    for n, g in gradient.items():
        assert g.shape == params[n].shape and np.isfinite(g.numpy()).all()
        mean = np.mean([part[n].numpy() for part in parts], axis=0)
        for other in (mean, chunks[1][n].numpy()):
            np.testing.assert_allclose(other, g.numpy(), rtol=1e-9, atol=1e-12)
    assert any(g.numpy().any() for g in gradient.values())


@pytest.mark.parametrize("name", ["MAML", "MAML, inductive", "Pretrained", "ProtoNet"])
def test_the_gradient_of_the_objective_is_its_derivative(name):
    learner, tasks = LEARNERS[name], episodes(n_tasks=2)
    params = init(learner)

    def objective(*values):
        return learner.objective(dict(zip(params, values)), tasks)

    tm.gradcheck(objective, tuple(params.values()))


@pytest.mark.parametrize("inductive", [False, True])
@pytest.mark.parametrize("name", ["MAML", "ProtoNet", "Reptile", "MetaLSTM"])
def test_by_the_statistics_of_the_support_no_query_example_sees_another(name, inductive):
    network = {"body" if name == "ProtoNet" else "model": NORMALISED}
    learner, tasks = replace(LEARNERS[name], **network, inductive=inductive), episodes()
    params = init(learner)
    whole = host(learner.predict(params, tasks.support, tasks.query.x))
    alone = host(learner.predict(params, tasks.support, tasks.query.x[:, :2]))
    assert np.allclose(alone, whole[:, :2], rtol=1e-9) == inductive


@pytest.mark.parametrize("name", LEARNERS)
def test_there_is_one_prediction_for_every_step_and_the_last_is_the_learners(name):
    learner, tasks = LEARNERS[name], episodes()
    params = init(learner)
    given = params, tasks.support, tasks.query.x
    steps = getattr(learner, "test_steps", None) or getattr(learner, "steps", 0)
    with tm.no_grad():
        said = [host(y) for y in learner.predictions(*given, range(steps + 1))]
        assert len(said) == (1 if name == "NoAdaptation" else steps + 1)
        np.testing.assert_array_equal(said[-1], host(learner.predict(*given)))
        for some in ([0], [steps], sorted({0, steps})):
            found = [host(y) for y in learner.predictions(*given, some)]
            np.testing.assert_array_equal(found, [said[i] for i in some][: len(said)])


def test_an_outside_learner_needs_no_more_than_the_three_methods():
    class Scale:
        """Says the mean of the support times a factor that it learns."""

        def init(self, rng):
            return {"factor": tm.tensor(rng.normal(), requires_grad=True)}

        def objective(self, params, tasks):
            said = self.predict(params, tasks.support, tasks.query.x)
            return nn.mse_loss(said, tasks.query.y).mean()

        def predict(self, params, support, x):
            mean = support.y.mean(1)[:, None] + 0 * x
            return params["factor"] * mean

    rng = np.random.default_rng(0)
    x, y = (tm.tensor(rng.normal(size=(5, 4, 1))).data for _ in range(2))
    tasks, params = Task(Batch(x, y), Batch(x, y)), Scale().init(rng)
    value, gradient = gradient_by_chunks(Scale().objective, params, tasks, chunk=2)
    factor, mean, y = params["factor"].item(), host(y).mean(1)[:, None], host(y)
    assert float(value) == pytest.approx(np.mean((factor * mean - y) ** 2))
    assert gradient["factor"].item() == pytest.approx(np.mean(2 * mean * (factor * mean - y)))
    for steps in ((0,), (3,), (0, 1, 5)):  # it takes none: always the same
        scores = score_tasks(
            Scale(), params, [tasks.part(0, 2), tasks.part(2, 5)], nn.mse_loss, steps=steps, chunk=2
        )
        expected = ((factor * mean - y) ** 2).mean((1, 2))
        np.testing.assert_allclose(scores, np.stack([expected] * len(steps), 1), rtol=1e-12)


# MAML and what it is compared with


def test_prediction_k_is_that_of_parameters_adapted_k_times():
    learner, tasks = LEARNERS["MAML"], episodes()
    params = init(learner)
    said = list(learner.predictions(params, tasks.support, tasks.query.x, range(4)))
    assert len(said) == 4
    for steps, prediction in enumerate(said):
        for t in range(3):
            support = Batch(tasks.support.x[t], tasks.support.y[t])
            adapted = tm.maml.adapt(learner.task_loss, params, support, lr=0.1, steps=steps)
            expected = MLP(adapted, tasks.query.x[t])
            np.testing.assert_allclose(prediction.numpy()[t], expected.numpy(), rtol=1e-9)


def test_the_objective_of_maml_is_the_meta_loss_of_its_settings():
    tasks, params = episodes(), init(LEARNERS["MAML"])

    def loss(params, x, y):
        return nn.cross_entropy(MLP(params, x), y)

    for first_order in (False, True):
        learner = replace(LEARNERS["MAML"], first_order=first_order)
        options = {"lr": 0.1, "steps": 2, "first_order": first_order}
        expected = tm.grad(tm.maml.meta_loss(loss, params, tasks, **options), params)
        for name, g in tm.grad(learner.objective(params, tasks), params).items():
            np.testing.assert_array_equal(g.numpy(), expected[name].numpy())


def test_the_steps_at_test_are_those_of_training_where_no_others_are_given():
    tasks, params = episodes(), init(LEARNERS["MAML"])
    given = params, tasks.support, tasks.query.x
    for test_steps, steps in ((None, 2), (0, 0), (5, 5)):
        learner = replace(LEARNERS["MAML"], test_steps=test_steps)
        (expected,) = learner.predictions(*given, [steps])
        np.testing.assert_array_equal(learner.predict(*given).numpy(), expected.numpy())


def test_the_pretrained_network_is_maml_without_inner_steps():
    tasks, params = episodes(), init(LEARNERS["MAML"])
    without = learners.MAML(**SETTINGS, lr=0.1, steps=0, test_steps=2)
    pretrained = LEARNERS["Pretrained"]
    x, y = (a.reshape(-1, *a.shape[2:]) for a in tasks.query)
    direct = nn.cross_entropy(MLP(params, x), y)
    for learner in (without, pretrained):
        assert learner.objective(params, tasks).item() == pytest.approx(direct.item())
    given = params, tasks.support, tasks.query.x
    np.testing.assert_array_equal(host(pretrained.predict(*given)), host(without.predict(*given)))


def test_without_adaptation_the_same_is_said_for_any_support():
    learner, tasks = LEARNERS["NoAdaptation"], episodes()
    params, x = init(learner), tasks.query.x
    said = host(learner.predict(params, tasks.support, x))
    np.testing.assert_array_equal(said, host(learner.predict(params, episodes(seed=7).support, x)))
    np.testing.assert_allclose(said[1], host(MLP(params, x[1])), rtol=1e-12)


def test_the_nearest_neighbour_is_the_one_of_least_angle():
    rng = np.random.default_rng(0)
    support_x, x = rng.normal(size=(2, 7, 4)), rng.normal(size=(2, 30, 4)) * 9
    y = np.array([[0, 1, 2, 2, 1, 0, 0], [2, 2, 2, 2, 1, 0, 1]])
    learner = learners.NearestNeighbour(nn.Sequential())
    support = Batch(tm.tensor(support_x).data, tm.tensor(y).data)
    said = host(learner.predict({}, support, tm.tensor(x).data))
    for t in range(2):
        for i in range(30):
            norms = np.linalg.norm(support_x[t], axis=-1) * np.linalg.norm(x[t, i])
            cosines = support_x[t] @ x[t, i] / norms
            best = [cosines[y[t] == c].max() for c in range(3)]
            np.testing.assert_allclose(said[t, i], best, rtol=1e-9)
            assert said[t, i].argmax() == y[t][cosines.argmax()]


# Prototypical networks


def test_a_protonet_by_hand():
    """Two classes of one and two vectors: means (0, 0) and (2, 1)."""
    vectors = (
        [[0.0, 0.0], [1.0, 1.0], [3.0, 1.0]],
        [[0.0, 0.0], [2.0, 1.0], [1.0, 3.0], [-1.0, 0.5]],
    )
    known, x = (tm.tensor([v]).data for v in vectors)
    support = Batch(known, tm.tensor([[0, 1, 1]]).data)
    learner = learners.ProtoNet(nn.Sequential())
    means = host(class_means(support.x, one_hot(support.y, classes=2)))
    np.testing.assert_array_equal(means, [[[0, 0], [2, 1]]])
    said = host(learner.predict({}, support, x))
    np.testing.assert_array_equal(said, [[[0, -5], [-5, 0], [-10, -5], [-1.25, -9.25]]])


def test_the_objective_of_a_protonet_is_the_papers_formula():
    learner, tasks = LEARNERS["ProtoNet"], episodes()
    params = init(learner)
    losses = []
    for t in range(3):
        (support, y), (query, labels) = (
            (host(MLP(params, batch.x[t])), host(batch.y[t])) for batch in tasks
        )
        means = [support[y == c].mean(0) for c in range(3)]
        for f, label in zip(query, labels):
            distances = np.array([np.sum((f - mean) ** 2) for mean in means])
            losses.append(distances[label] + np.log(np.exp(-distances).sum()))
    assert learner.objective(params, tasks).item() == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize("name", ["ProtoNet", "NearestNeighbour"])
def test_other_names_of_the_classes_change_the_order_of_the_columns_alone(name):
    learner, tasks = LEARNERS[name], episodes()
    params, renamed = init(learner), np.array([2, 0, 1])
    y = tm.tensor(renamed[host(tasks.support.y)]).data
    said = host(learner.predict(params, tasks.support, tasks.query.x))
    other = host(learner.predict(params, Batch(tasks.support.x, y), tasks.query.x))
    np.testing.assert_allclose(other[..., renamed], said, rtol=1e-9)


@pytest.mark.numpy_only
@pytest.mark.parametrize(("size", "side"), [(84, 21), (42, 21), (62, 31), (40, 40), (16, 16)])
def test_class_means_of_pixels_against_numpy(size, side):
    rng = np.random.default_rng(0)
    x, query = rng.random((2, 2, 6, size, size, 3))
    y = np.array([[0, 0, 1, 1, 2, 2], [2, 1, 1, 1, 0, 0]])
    block = size // side
    small = [
        images[..., : side * block, : side * block, :]
        .reshape(2, 6, side, block, side, block, 3)
        .mean((3, 5))
        .reshape(2, 6, -1)
        for images in (x, query)
    ]
    said = host(learners.ProtoNet(PixelMeans()).predict({}, Batch(x, y), query))
    for t in range(2):
        for c in range(3):
            mean = small[0][t][y[t] == c].mean(0)
            np.testing.assert_allclose(said[t, :, c], -((small[1][t] - mean) ** 2).sum(-1))


# Reptile


def reptile_by_hand(learner, params, x, y, steps):
    """Return phi of one task after each step, by Adam on batches in turn."""
    phi = {n: tm.tensor(p.numpy(), requires_grad=True) for n, p in params.items()}
    adam = tm.optim.Adam(learner.lr, betas=(0.0, 0.999))
    state, found, place = adam.init(phi), [phi], 0
    for _ in range(steps):
        now = [(place + i) % len(x) for i in range(learner.batch)]
        place += learner.batch
        loss = nn.cross_entropy(learner.model(phi, x[now]), y[now])
        phi, state = adam.update(phi, tm.grad(loss, phi), state)
        found.append(phi)
    return found


def test_the_gradient_of_reptile_leads_to_the_mean_of_the_tasks_ends():
    learner, tasks = LEARNERS["Reptile"], episodes()
    params = init(learner)
    ends = []
    for t in range(3):
        x, y = (np.concatenate([host(s[t]), host(q[t])]) for s, q in zip(*tasks))
        assert len(x) % learner.batch  # so that a batch goes round the end
        *_, end = reptile_by_hand(learner, params, tm.tensor(x).data, tm.tensor(y).data, 4)
        ends.append(end)
    value = replace(learner, steps=4).objective(params, tasks)
    gradient, far = tm.grad(value, params), 0
    for name, p in params.items():
        moved = np.stack([p.numpy() - end[name].numpy() for end in ends])
        np.testing.assert_allclose(gradient[name].numpy(), moved.mean(0), rtol=1e-7, atol=1e-12)
        far += (moved**2).sum() / 2 / 3
    assert value.item() == pytest.approx(far, rel=1e-9)


def test_an_outer_step_of_1_goes_to_the_mean_of_one_task():
    """theta + 1 (phi - theta) = phi, by SGD at rate 1."""
    learner, tasks = LEARNERS["Reptile"], episodes(n_tasks=1)
    params = init(learner)
    gradient = tm.grad(learner.objective(params, tasks), params)
    moved, _ = tm.optim.SGD(1.0).update(params, gradient, {})
    x, y = (tm.tensor(np.concatenate([host(s[0]), host(q[0])])).data for s, q in zip(*tasks))
    phi = reptile_by_hand(learner, params, x, y, 3)[-1]
    for name, p in moved.items():
        np.testing.assert_allclose(p.numpy(), phi[name].numpy(), rtol=1e-9)


def test_reptile_is_tested_after_the_same_steps_on_the_support():
    learner, tasks = LEARNERS["Reptile"], episodes()
    params = init(learner)
    said = list(learner.predictions(params, tasks.support, tasks.query.x, range(4)))
    for t in range(3):
        found = reptile_by_hand(learner, params, tasks.support.x[t], tasks.support.y[t], 3)
        for phi, prediction in zip(found, said, strict=True):
            expected = MLP(phi, tasks.query.x[t]).numpy()
            np.testing.assert_allclose(prediction.numpy()[t], expected, rtol=1e-7)


@pytest.mark.numpy_only
def test_reptile_learns_sinusoids():
    problem = EXPERIMENTS["sinusoid"].problem
    learner = learners.Reptile(problem.model, nn.mse_loss, lr=0.01, test_steps=10)
    params, source = learner.init(np.random.default_rng(0)), problem.tasks("train")
    new = problem.tasks("test").sample(np.random.default_rng(9), 100)

    def error():
        said = learner.predict(params, new.support, new.query.x).numpy()
        return ((said - new.query.y) ** 2).mean()

    before, optimizer = error(), tm.optim.SGD(1.0)
    for step in range(300):
        tasks = source.sample(np.random.default_rng(step), 10)
        gradient = tm.grad(learner.objective(params, tasks), params)
        params, _ = optimizer.update(params, gradient, {})
    assert error() < 0.7 * before


# Schedules: how the objective is descended


def test_the_rate_of_a_schedule_is_constant_or_falls_in_a_line_a_wave_or_by_halves():
    rates = {
        decay: [Schedule(steps=8000, meta_lr=0.5, decay=decay).optimiser(s).lr for s in steps]
        for decay, steps in {
            "none": (1, 8000),
            "linear": (1, 2, 4001, 8000),
            "cosine": (1, 2001, 4001, 6001),
            "halving": (1, 2000, 2001, 4000, 4001, 8000),
        }.items()
    }
    assert rates == {
        "none": [0.5, 0.5],
        "linear": [0.5, pytest.approx(0.5 * 7999 / 8000), 0.25, pytest.approx(0.5 / 8000)],
        "cosine": [
            0.5,
            pytest.approx(0.25 + 0.25 * 0.5**0.5),
            pytest.approx(0.25),
            pytest.approx(0.25 - 0.25 * 0.5**0.5),
        ],
        "halving": [0.5, 0.5, 0.25, 0.25, 0.125, 0.0625],
    }


def test_the_optimiser_of_a_schedule_is_adam_or_plain_gradient_descent():
    assert isinstance(Schedule().optimiser(1), tm.optim.Adam)
    sgd = Schedule(optimizer="sgd", meta_lr=0.5).optimiser(1)
    assert isinstance(sgd, tm.optim.SGD) and sgd.momentum == 0 and sgd.init({}) == {}


@pytest.mark.parametrize("name", ["sinusoid", "sinusoid-pretrained"])
def test_every_schedule_can_clip_the_gradient(name):
    one = EXPERIMENTS[name].replace(meta_batch=3)
    params = {n: tm.tensor(20 * p.numpy(), requires_grad=True) for n, p in one.init().items()}
    tasks = one.training_tasks(1)
    free = one.gradient(params, tasks)[1]
    limit = np.median(abs(free["linear1.weight"].numpy()))
    clipped = one.replace(clip=float(limit)).gradient(params, tasks)[1]
    for n, g in free.items():
        np.testing.assert_array_equal(clipped[n].numpy(), g.numpy().clip(-limit, limit))
