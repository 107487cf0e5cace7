"""The paper's protocol: its numbers, and which images and which random numbers go where."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

import tinymaml as tm
from tinymaml import cli
from tinymaml.errors import UserError
from tinymaml.experiments import (
    EXPERIMENTS,
    MiniImageNet,
    MiniImageNetPretrained,
    Omniglot,
    OmniglotMLP,
    Sinusoid,
    SinusoidOracle,
    baselines,
    classification,
    experiment,
    paper,
    sinusoid,
)
from tinymaml.experiments.evaluation import score_tasks, summarise
from tinymaml.experiments.report import _label
from tinymaml.experiments.runs import Run
from tinymaml.experiments.training import train
from tinymaml.tasks import Batch, Task, miniimagenet, omniglot

pytestmark = pytest.mark.numpy_only

SPLITS = ("train", "val", "test")

# Finn et al. 2017, A.1; iterations of sinusoids and the batch of MiniImageNet 5-shot by the
# authors' code. Queries are of each class in training, 0 for as many as shots.
NUMBERS = """
    name                            ways shots alpha steps at-test batch iterations queries order
    sinusoid                        -    10    0.01  1     1       25    70000      -       2
    sinusoid-first-order            -    10    0.01  1     1       25    70000      -       1
    sinusoid-pretrained             -    10    0.01  0     1       25    70000      -       2
    sinusoid-oracle                 -    10    0.01  0     0       25    70000      -       2
    omniglot                        5    1     0.4   1     3       32    60000      0       2
    omniglot-5shot                  5    5     0.4   1     3       32    60000      0       2
    omniglot-first-order            5    1     0.4   1     3       32    60000      0       1
    omniglot-20way                  20   1     0.1   5     5       16    60000      0       2
    omniglot-20way-5shot            20   5     0.1   5     5       16    60000      0       2
    omniglot-mlp                    5    1     0.4   1     3       32    60000      0       2
    omniglot-mlp-5shot              5    5     0.4   1     3       32    60000      0       2
    miniimagenet                    5    1     0.01  5     10      4     60000      15      2
    miniimagenet-5shot              5    5     0.01  5     10      2     60000      15      2
    miniimagenet-first-order        5    1     0.01  5     10      4     60000      15      1
    miniimagenet-5shot-first-order  5    5     0.01  5     10      2     60000      15      1
    miniimagenet-pretrained         5    1     0.01  0     15      4     30000      15      2
"""
NUMBERS = [line.split() for line in NUMBERS.strip().splitlines()][1:]


@pytest.mark.parametrize(
    (
        "name",
        "ways",
        "shots",
        "alpha",
        "steps",
        "at_test",
        "batch",
        "iterations",
        "queries",
        "order",
    ),
    NUMBERS,
)
def test_the_presets_are_the_papers(
    name, ways, shots, alpha, steps, at_test, batch, iterations, queries, order
):
    preset = EXPERIMENTS[name]
    found = [preset.k_shot, preset.inner_steps, preset.test_steps, preset.meta_batch, preset.steps]
    assert found == [int(x) for x in (shots, steps, at_test, batch, iterations)]
    assert (preset.inner_lr, preset.meta_lr, preset.seed) == (float(alpha), 1e-3, 0)
    assert preset.first_order == (order == "1")
    if ways != "-":
        assert (preset.n_way, preset.n_query) == (int(ways), int(queries))
        if preset.inner_steps:
            assert preset.test_query == 0
            assert preset.test_steps == paper.steps(preset.data, preset.setting)


def test_every_preset_is_in_the_table_of_numbers():
    assert [row[0] for row in NUMBERS] == list(EXPERIMENTS)
    assert (Omniglot().split, Omniglot().resize, cli.TEST_TASKS) == ("random", "nearest", 600)
    photographs = MiniImageNet()
    assert (photographs.filters, photographs.image_size, photographs.clip) == (32, 84, 10)
    baselines = MiniImageNetPretrained()  # Ravi & Larochelle 2017
    assert (baselines.filters, baselines.test_query) == (64, 15)
    assert baselines.images * baselines.meta_batch == 64


@pytest.mark.parametrize(
    ("kind", "count", "norms", "strides"),
    [
        (Omniglot, 111_749, 4, [2] * 4),
        (OmniglotMLP, 246_597, 4, []),
        (MiniImageNet, 32_645, 4, [1] * 4),
        (Sinusoid, 1761, 0, []),
    ],
)
def test_the_networks_are_the_papers(kind, count, norms, strides):
    model = kind().model
    params = model.init(np.random.default_rng(0))
    assert sum(p.size for n, p in params.items() if "batchnorm" not in n) == count
    assert sum(n.endswith("gamma") for n in params) == norms
    assert [layer.stride for layer in model.layers if isinstance(layer, tm.nn.Conv2d)] == strides


@pytest.mark.parametrize(("kind", "ways"), [(Omniglot, 5), (Omniglot, 20), (MiniImageNet, 5)])
def test_the_step_on_the_mean_loss_is_alpha_of_the_authors_sum_over_classes(kind, ways):
    rates = kind(n_way=ways, inner_lr=0.25).rates(dict.fromkeys(("a.weight", "b.gamma", "b.beta")))
    assert rates == {"a.weight": 0.25 * ways, "b.gamma": 0, "b.beta": 0}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_no_two_purposes_and_steps_share_random_numbers(seeds):
    streams = [
        Omniglot(seed=seed).rng(*which).integers(0, 2**32, 8).tolist()
        for seed in seeds
        for which in [("weights",), ("val",), ("test",), *[("train", step) for step in (1, 2, 3)]]
    ]
    assert all(a != b for a, b in combinations(streams, 2))
    # nor a validation's known images
    assert Omniglot().rng("val", 1).integers(0, 2**32, 8).tolist() not in streams


@pytest.mark.parametrize("kind", [SinusoidOracle, MiniImageNetPretrained])
def test_every_step_draws_tasks_of_its_own_as_many_as_asked_for(kind):
    one = small(kind, meta_batch=3) if kind is MiniImageNetPretrained else kind(meta_batch=3)
    x = np.concatenate([one.training_tasks(step).query.x for step in (1, 2, 3, 4)])
    assert len(x) == len(np.unique(x.reshape(len(x), -1), axis=0)) == 12


def test_sinusoids_of_training_validation_and_test_are_not_the_same_nor_of_other_seeds(monkeypatch):
    waves = []  # the oracle is told them

    def watched(experiment, params, tasks, *wanted):
        blocks = [tasks] if isinstance(tasks, Task) else tasks
        waves.extend(tasks.support.x[:, 0, 1:] for tasks in blocks)
        return [np.ones((5, 1))] if isinstance(wanted[0], tuple) else np.ones((5, 1))

    monkeypatch.setattr(sinusoid, "evaluate", watched)
    monkeypatch.setattr(experiment, "score_tasks", watched)
    for seed in (0, 1):
        one = SinusoidOracle(seed=seed, meta_batch=5)
        object.__setattr__(one, "validation_tasks", 5)
        waves.append(one.training_tasks(1).support.x[:, 0, 1:])
        one.validate({})
        one.test({}, 5)
    assert len(waves) == 10  # the three numbers of points are tested on the same waves
    assert len(np.unique(np.concatenate(waves), axis=0)) == 5 * 2 * 3


def test_characters_are_read_by_the_split_and_the_resizing_of_the_settings(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(omniglot, "load", lambda data, resize: asked.append(resize))
    monkeypatch.setattr(omniglot, "splits", lambda images, split, data: asked.append(split) or {})
    monkeypatch.setattr(omniglot, "find", lambda data: tmp_path)
    Omniglot(split="lake", resize="lanczos").load_data(tmp_path)
    assert asked == ["lanczos", "lake"]


@pytest.mark.parametrize(
    ("split", "turned"),
    [("random", "train val test"), ("lake", "train"), ("vinyals", "")],
)
def test_characters_are_turned_where_their_split_has_no_angles_of_its_own(split, turned):
    characters = Omniglot(split=split)
    characters.keep(dict.fromkeys(SPLITS, np.zeros((5, 20, 28, 28, 1), np.uint8)))
    assert [s for s in SPLITS if characters.tasks(s).rotate] == turned.split()


# How it is trained


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", [Sinusoid, OmniglotMLP, MiniImageNet])
def test_the_meta_gradient_is_of_the_rate_the_steps_and_the_order_of_the_settings(
    kind, first_order
):
    settings = {"inner_lr": 0.03, "inner_steps": 2, "meta_batch": 2, "first_order": first_order}
    if kind is MiniImageNet:
        settings |= {"clip": 0.0, "n_query": 1}
    one = kind(**settings) if kind is Sinusoid else small(kind, **settings)
    params = one.model.init(np.random.default_rng(0))
    if kind is Sinusoid:  # that the curvature shows, which the small initial weights hide
        params = {n: tm.tensor(20 * p.data, requires_grad=True) for n, p in params.items()}
    alpha = 0.03 if kind is Sinusoid else 5 * 0.03
    rates = {n: 0 if n.endswith(("gamma", "beta")) else alpha for n in params}
    tasks = one.training_tasks(1)
    found = one.gradient(params, tasks)[1]
    far = []
    for order in (first_order, not first_order):
        loss = tm.maml.meta_loss(one.loss, params, tasks, lr=rates, steps=2, first_order=order)
        expected = tm.grad(loss, params)
        far.append(max(abs(g.numpy() - expected[n].numpy()).max() for n, g in found.items()))
    size = max(abs(g.numpy()).max() for g in found.values())
    assert far[0] < 1e-4 * size < 1e-2 * size < far[1]


def test_a_training_is_adam_at_the_meta_rate_from_the_weights_of_the_seed(tmp_path):
    one, run = Sinusoid(steps=3, seed=3, meta_lr=0.02, meta_batch=2), Run(tmp_path / "run")
    for name in ("log_every", "validate_every"):
        object.__setattr__(one, name, 3)
    run.start({})
    reached = train(one, run, progress=False)
    params, adam = one.model.init(one.rng("weights")), tm.optim.Adam(0.02)
    state, losses = adam.init(params), []
    for step in (1, 2, 3):
        loss, gradient = one.gradient(params, one.training_tasks(step))
        losses.append(float(loss))
        params, state = adam.update(params, gradient, state)
    for name, p in params.items():
        np.testing.assert_allclose(reached.params[name].numpy(), p.numpy(), rtol=1e-5, atol=1e-7)
    (row,) = run.read_metrics()
    assert row["meta_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert row["validation"] == pytest.approx(one.validate(reached.params)[0], rel=1e-5)


# Which images go where: the first colour of every image says of which split it is.

COLOUR = dict(zip(SPLITS, (51, 102, 204)))


def coloured(size, channels, seed=0):
    images = {}
    for split, colour in COLOUR.items():
        rng = np.random.default_rng([seed, colour])
        images[split] = rng.integers(0, 256, (6, 20, size, size, channels), np.uint8)
        images[split][:, :, 0, 0] = colour  # stays there if turned: see below
        images[split][:, :, 0, -1] = images[split][:, :, -1, 0] = colour
        images[split][:, :, -1, -1] = colour
    return images


def split_of(x):
    """Of which split the images of a batch are."""
    colours = set(np.round(np.asarray(x)[..., 0, 0, 0] * 255).astype(int).ravel().tolist())
    (colour,) = colours
    return {value: split for split, value in COLOUR.items()}[colour]


@pytest.fixture
def read(monkeypatch):
    """Every use of tasks for a score, in order: by what, the rate, and of which split."""
    uses = []

    def watched(experiment, params, blocks, *wanted):
        blocks = list(blocks)
        for tasks in blocks:
            assert split_of(tasks.support.x) == split_of(tasks.query.x)
            use = type(experiment).__name__, experiment.inner_lr, split_of(tasks.query.x)
            if use not in uses[-1:]:
                uses.append(use)
        return score_tasks(experiment, params, blocks, *wanted)

    for module in (experiment, classification, baselines):
        monkeypatch.setattr(module, "score_tasks", watched)
    return uses


def small(kind, **settings):
    if issubclass(kind, MiniImageNet):
        settings = {"image_size": 16, "filters": 2} | settings
    found = kind(**settings)
    for name in ("validation_tasks", "tuning_tasks"):
        object.__setattr__(found, name, 3)
    found.keep(coloured(16, 3) if issubclass(kind, MiniImageNet) else coloured(28, 1))
    return found


@pytest.mark.parametrize("kind", [Omniglot, OmniglotMLP, MiniImageNet])
def test_training_validation_and_test_read_each_their_own_classes(kind, read):
    one = small(kind)
    tasks = one.training_tasks(1)
    assert split_of(tasks.support.x) == split_of(tasks.query.x) == "train"
    params = one.model.init(one.rng("weights"))
    one.validate(params)
    assert read == [(kind.__name__, one.inner_lr, "val")]
    one.test(params, 3)
    assert read[1:] == [(kind.__name__, one.inner_lr, "test")]


def test_the_baselines_learn_of_train_are_tuned_on_val_and_tested_on_test(read, monkeypatch):
    one, known, pixels = small(MiniImageNetPretrained, test_steps=2), [], []
    batches, pixel_means = baselines.TrainingBatches, baselines._pixel_means

    def watched_batches(images, size):
        known.append((split_of(np.array(images) / 255), size))
        return batches(images, size)

    def watched_pixels(tasks):
        pixels.append(split_of(tasks.query.x))
        return pixel_means(tasks)

    monkeypatch.setattr(baselines, "TrainingBatches", watched_batches)
    monkeypatch.setattr(baselines, "_pixel_means", watched_pixels)
    assert split_of(one.training_tasks(1).query.x) == "train"
    params = one.model.init(one.rng("weights"))
    assert params["linear1.bias"].shape == (6,)  # all training classes
    one.validate(params)
    assert read == [("MiniImageNetPretrained", one.inner_lr, "val")]
    results = one.test(params, 3)
    tuning = [("FineTuning", rate, "val") for rate in (0.5, 0.1, 0.01, 0.001)]
    for start in (1, 7):  # one shot, five shots
        *tuned, nearest, last = read[start : start + 6]
        assert tuned == tuning and nearest == ("MiniImageNetPretrained", one.inner_lr, "test")
        assert last[0] == "FineTuning" and last[2] == "test"
        assert f" {last[1]:g} ({1 if start == 1 else 5}-shot)" in results["protocol"]
    assert len(read) == 13 and set(pixels) == {"test"}
    assert known == [("train", 16), *[("train", 64)] * 3]


def test_the_baselines_take_tasks_of_their_shots_and_of_the_settings(monkeypatch):
    one = small(MiniImageNetPretrained, seed=4, n_way=3, test_query=2, test_steps=1)
    tuned = one._fine_tuning(k_shot=5, inner_lr=0.1)
    assert tuned.config().items() <= (one.config() | {"k_shot": 5, "inner_lr": 0.1}).items()
    object.__setattr__(one, "rates_tried", (0.1,))
    supports = []

    def scores(experiment, params, blocks, *wanted):
        supports.extend(tasks.support.y.shape for tasks in blocks)
        return [np.ones((3, 1)) for _ in wanted]

    def pixels(tasks):
        supports.append(tasks.support.y.shape)
        return np.ones(3)

    monkeypatch.setattr(baselines, "score_tasks", scores)
    monkeypatch.setattr(baselines, "_pixel_means", pixels)
    one.test(one.model.init(one.rng("weights")), 3)
    # the rate; the test by pixels, nearest neighbours and fine-tuning
    assert supports == [(3, 3)] * 4 + [(3, 15)] * 4


def test_the_rate_is_the_one_that_is_best_on_validation_by_the_support(monkeypatch):
    one, accuracy = small(MiniImageNetPretrained), {0.5: 0.3, 0.1: 0.4, 0.01: 0.6, 0.001: 0.5}

    def fine_tune(candidate, params, blocks):
        by_query = [[1 - accuracy[candidate.inner_lr]]] * 2
        by_support = [
            [accuracy[candidate.inner_lr]],
            [np.nan if candidate.inner_lr == 0.01 else 0.5],
        ]
        return [summarise(np.array(scores)) for scores in (by_query, by_support)]

    monkeypatch.setattr(type(one), "_fine_tune", lambda self, *args: fine_tune(*args))
    # 0.01 is better, but one task of it diverged
    assert one._tuned(1, {}).inner_lr == 0.001


def test_a_step_of_fine_tuning_moves_every_parameter_by_the_mean_loss(monkeypatch):
    one = small(MiniImageNetPretrained, test_steps=1, seed=4)
    params = one.model.init(np.random.default_rng(5))
    tuned = one._fine_tuning(k_shot=5, inner_lr=0.1)
    tasks = tuned.tasks("test").sample(np.random.default_rng(6), 2)
    adapted = {}

    def score(self, params, support, query):
        adapted.update(params)
        return np.zeros(len(query.y))

    monkeypatch.setattr(baselines.FineTuning, "score", score)
    monkeypatch.setattr(baselines.FineTuning, "inductive_score", score)
    object.__setattr__(tuned, "test_chunk", 2)
    one._fine_tune(tuned, params, [tasks])
    fresh = tuned.model.init(one.rng("weights"))
    for t in range(2):
        start = {
            n: tm.tensor(
                fresh[n].data if n.startswith("linear") else params[n].data, requires_grad=True
            )
            for n in params
        }
        logits = tuned.model(start, tasks.support.x[t])
        loss = np.mean(tm.nn.cross_entropy(logits, tasks.support.y[t]))
        assert len(tasks.support.y[t]) == 25
        for name, gradient in tm.grad(loss, start).items():
            expected = start[name].data - np.float32(0.1) * gradient.numpy()
            np.testing.assert_allclose(adapted[name].numpy()[t], expected, rtol=1e-3, atol=1e-5)
    assert any(name.endswith("gamma") for name in adapted)


def test_the_nearest_neighbour_of_a_query_does_not_depend_on_the_others():
    one = small(MiniImageNetPretrained)
    params = one.model.init(np.random.default_rng(1))
    tasks = one.tasks("test").sample(np.random.default_rng(2), 2)
    whole = one._nearest(params, [tasks])["mean"][0]
    alone = [
        one._nearest(params, [tasks._replace(query=Batch(*[a[:, i : i + 1] for a in tasks.query]))])
        for i in range(tasks.query.y.shape[1])
    ]
    assert 0 < whole < 1
    assert np.mean([curve["mean"][0] for curve in alone]) == pytest.approx(whole)


def test_given_statistics_leave_gamma_and_beta():
    rng, layer = np.random.default_rng(0), tm.nn.BatchNorm(3)
    x, params = rng.normal(size=(8, 3)), dict(zip(("gamma", "beta"), rng.uniform(1, 2, (2, 3))))
    found = layer(params | layer.statistics(params, x), x)
    np.testing.assert_allclose(found, layer(params, x), rtol=1e-6)


def test_the_nearest_neighbour_is_told_by_the_features_below_the_last_layer():
    one = small(MiniImageNetPretrained)
    params = one.model.init(np.random.default_rng(1))
    other = {n: p for n, p in one.model.init(np.random.default_rng(2)).items() if "linear" in n}
    tasks = one.tasks("test").sample(np.random.default_rng(2), 20)
    assert one._nearest(params | other, [tasks]) == one._nearest(params, [tasks])


def test_batches_of_training_images_hold_every_image_of_every_class():
    images = [np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1) + 20 * n for n in (2, 4)]
    drawn = baselines.TrainingBatches(images, 16).sample(np.random.default_rng(0), 50).query
    values = np.rint(drawn.x * 255).astype(int)[..., 0, 0, 0]
    assert set(values[drawn.y == 0]) == {40, 41} and set(values[drawn.y == 1]) == {80, 81, 82, 83}


@pytest.mark.parametrize(("size", "side"), [(84, 21), (42, 21), (62, 31), (40, 40), (16, 16)])
def test_class_means_of_pixels_know_colours(size, side):
    x = np.zeros((1, 4, size, size, 3), np.float32)
    x[0, :, ..., 0] = np.array([0.1, 0.4, 0.7, 0.9])[:, None, None]
    y = np.array([[0, 1, 2, 3]])
    right, wrong = (Task(Batch(x, y), Batch(x[:, ::-1], labels)) for labels in (y[:, ::-1], y))
    assert baselines._pixel_means(right) == [1.0] and baselines._pixel_means(wrong) == [0.0]
    assert baselines._shrunk(x[0]).shape == (4, side * side * 3)
    assert baselines._side(size) == side


# What is reported of the scores


@pytest.mark.parametrize(("kind", "steps"), [(Omniglot, 1), (Omniglot, 3), (MiniImageNet, 10)])
def test_the_row_of_a_result_is_the_curve_at_the_steps_of_the_test(kind, steps):
    one = small(kind, test_steps=steps, inner_lr=0.05)
    results = one.test(one.model.init(np.random.default_rng(0)), 8)
    curve = results["curves"]["5-way 1-shot"]
    assert len(curve["mean"]) == 11 and len(set(curve["mean"])) > 2
    row = results["rows"][0]
    assert row["steps"] == steps and row["batch_norm"] == "query batch"
    for key in ("mean", "ci95", "diverged"):
        assert row[key] == curve[key][steps]
    assert results["rows"][1]["batch_norm"] == "support batch"
    # the paper's number stays at the paper's steps
    (at,) = results["paper"]["5-way 1-shot"]
    assert at == {Omniglot: 3, MiniImageNet: 10}[kind]


def test_validation_and_the_inductive_row_are_after_the_steps_of_the_test_too(monkeypatch):
    def score(self, params, support, query):  # unlike accuracies never twice the same
        return self.loss(params, *query).numpy()

    monkeypatch.setattr(MiniImageNet, "score", score)
    one = small(MiniImageNet, test_steps=3, inner_steps=2, inner_lr=0.05)
    params = one.model.init(np.random.default_rng(0))
    for wanted, split, found in (
        (one.score, "val", one.validate(params)[0]),
        (one.inductive_score, "test", one.test(params, 3)["rows"][1]["mean"]),
    ):
        (scores,) = score_tasks(one, params, one.blocks(split, 3), (wanted, range(5)))
        assert np.isclose(scores.mean(0), found, rtol=1e-6).tolist() == [0, 0, 0, 1, 0]


def test_fine_tuning_has_a_row_for_each_kind_of_statistics(monkeypatch):
    one = small(MiniImageNetPretrained, test_steps=1)
    object.__setattr__(one, "rates_tried", (0.1,))
    for name, value in (("score", 0.25), ("inductive_score", 0.75)):
        score = lambda self, params, support, query, value=value: np.full(len(query.y), value)
        monkeypatch.setattr(baselines.FineTuning, name, score)
    rows = one.test(one.model.init(one.rng("weights")), 3)["rows"]
    found = [(r["batch_norm"], r["mean"]) for r in rows if r["method"] == "Fine-tuning"]
    assert found == [("query batch", 0.25), ("support batch", 0.75)] * 2


def test_scores_are_of_every_task_after_every_step_from_the_same_start():
    one = Sinusoid(inner_lr=0.02)
    object.__setattr__(one, "test_chunk", 2)
    params = one.model.init(np.random.default_rng(0))
    params = {n: tm.tensor(20 * p.data, requires_grad=True) for n, p in params.items()}
    tasks = one.tasks("test", 5).sample(np.random.default_rng(0), 3)
    found = sinusoid.evaluate(one, params, tasks, 3)
    assert found.shape == (3, 4)
    for t in range(3):
        support, query = (Batch(*[a[t] for a in batch]) for batch in tasks)
        for steps in range(4):
            adapted = tm.maml.adapt(one.loss, params, support, lr=0.02, steps=steps)
            assert found[t, steps] == pytest.approx(one.loss(adapted, *query).item(), rel=1e-4)


def test_one_answer_that_is_no_number_makes_no_accuracy_of_the_task():
    logits = np.zeros((2, 4, 5))
    logits[1, 2, 3] = np.nan
    one = Omniglot()
    one.__dict__["model"] = lambda params, x: tm.tensor(logits)
    scores = one.score({}, None, Batch(None, np.zeros((2, 4), int)))
    np.testing.assert_array_equal(scores, [1, np.nan])


def test_the_error_of_a_sinusoid_is_the_mean_square_over_its_query():
    one = Sinusoid()
    zero = {n: 0 * p for n, p in one.model.init(np.random.default_rng(0)).items()}
    tasks = one.tasks("test", 5).sample(np.random.default_rng(0), 3)
    expected = (tasks.query.y**2).mean((1, 2))
    np.testing.assert_allclose(sinusoid.evaluate(one, zero, tasks, 0)[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [Sinusoid, SinusoidOracle])
def test_a_network_that_is_far_from_every_sinusoid_has_diverged(kind):
    one = kind()
    params = {n: 0 * p for n, p in one.model.init(np.random.default_rng(0)).items()}
    params["linear3.bias"] = params["linear3.bias"] + 30  # ten steps bring it back to no 20
    object.__setattr__(one, "validation_tasks", 3)
    assert one.validate(params)[1] == 3
    assert [row["diverged"] for row in one.test(params, 3)["rows"]] == [3] * 9


def test_the_tasks_of_a_test_come_in_blocks_and_are_all_different():
    one = small(MiniImageNet)
    blocks = list(one.blocks("test", 25))
    assert [len(tasks.support.x) for tasks in blocks] == [10, 10, 5]
    tasks = np.concatenate([tasks.support.x for tasks in blocks])
    assert len(np.unique(tasks.reshape(25, -1), axis=0)) == 25
    again = np.concatenate([tasks.support.x for tasks in one.blocks("test", 25)])
    np.testing.assert_array_equal(tasks, again)


@pytest.mark.parametrize("kind", [Omniglot, MiniImageNetPretrained])
def test_a_network_that_is_not_finite_has_no_accuracy(kind):
    one = small(kind, test_steps=1)
    params = {n: tm.tensor(p.data * np.nan) for n, p in one.model.init(one.rng("weights")).items()}
    assert one.validate(params)[1] == 3
    object.__setattr__(one, "rates_tried", (0.1, 0.01))
    for row in one.test(params, 4)["rows"]:
        if "pixels" not in row["method"]:
            assert row["diverged"] == 4 and np.isnan(row["mean"])
    assert "(4 diverged)" in one.table(one.test(params, 4))


def test_each_number_of_points_is_tested_with_its_own_rate_and_its_own_tasks(monkeypatch):
    used = []

    def evaluate(experiment, params, tasks, steps):
        used.append((experiment.inner_lr, tasks.support.x.shape[1], tasks.query.x.shape[1]))
        return np.ones((len(tasks.support.x), steps + 1))

    monkeypatch.setattr(sinusoid, "evaluate", evaluate)
    for name, rates in (
        ("sinusoid", [0.01] * 3),
        ("sinusoid-pretrained", [0.01, 0.02, 0.02]),
        ("sinusoid-oracle", [0.01] * 3),
    ):
        used.clear()
        EXPERIMENTS[name].test({}, 2)
        assert used == [(rate, k, 100) for rate, k in zip(rates, (5, 10, 20))]


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("sinusoid", {"K = 5": {1: 0.67, 5: 0.38, 10: 0.35}}),
        ("sinusoid-first-order", {}),
        ("sinusoid-pretrained", {"K = 5": {1: 2.41, 5: 2.23, 10: 2.19}}),
        ("sinusoid-oracle", {}),
    ],
)
def test_sinusoids_are_reported_after_1_5_and_10_steps_beside_the_paper(name, printed, monkeypatch):
    def scores(experiment, params, tasks, steps):
        return np.stack([np.arange(steps + 1.0)] * 2)

    monkeypatch.setattr(sinusoid, "evaluate", scores)
    results = EXPERIMENTS[name].test({}, 2)
    found = [(row["setting"], row["steps"], row["mean"]) for row in results["rows"]]
    none = name == "sinusoid-oracle"  # takes no step
    assert found == [(f"K = {k}", i, 0 if none else i) for k in (5, 10, 20) for i in (1, 5, 10)]
    assert results["paper"] == printed


@pytest.mark.parametrize(
    ("name", "step", "printed"),
    [
        ("omniglot", 3, 98.7),
        ("omniglot-5shot", 3, 99.9),
        ("omniglot-first-order", None, None),
        ("omniglot-20way", 5, 95.8),
        ("omniglot-20way-5shot", 5, 98.9),
        ("omniglot-mlp", 3, 89.7),
        ("omniglot-mlp-5shot", 3, 97.5),
        ("miniimagenet", 10, 48.70),
        ("miniimagenet-5shot", 10, 63.11),
        ("miniimagenet-first-order", 10, 48.07),
        ("miniimagenet-5shot-first-order", 10, 63.15),
    ],
)
def test_a_curve_of_images_has_the_papers_number_at_the_papers_step(
    name, step, printed, monkeypatch
):
    def scores(experiment, params, blocks, *wanted):
        return [np.ones((2, len(steps))) for _, steps in wanted]

    monkeypatch.setattr(classification, "score_tasks", scores)
    one = replace(EXPERIMENTS[name])
    one.hold(dict.fromkeys(SPLITS, ()))
    found = one.test({}, 2)["paper"]
    assert found == ({one.setting: {step: pytest.approx(printed / 100)}} if printed else {})


@pytest.mark.parametrize(("k", "rate"), [(5, 0.01), (10, 0.02)])
def test_the_picture_of_the_baseline_is_by_the_rate_of_its_test(k, rate):
    one = EXPERIMENTS["sinusoid-pretrained"]
    params = one.model.init(np.random.default_rng(0))
    params = {n: tm.tensor(20 * p.data, requires_grad=True) for n, p in params.items()}
    support, _ = one.tasks("test", k).sample(np.random.default_rng(0), 1)
    support, x = Batch(support.x[0], support.y[0]), np.linspace(-5, 5, 9, dtype=np.float32)[:, None]
    for steps, found in one._fits(params, support, x, k).items():
        adapted = tm.maml.adapt(one.loss, params, support, lr=rate, steps=steps)
        expected = one.model(adapted, x).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_the_picture_of_the_oracle_is_of_the_wave_that_it_is_told():
    one = SinusoidOracle()
    params = one.model.init(np.random.default_rng(0))
    params = {n: 20 * p for n, p in params.items()}
    support, query = (Batch(b.x[0], b.y[0]) for b in one.training_tasks(1))
    found = one._fits(params, support, query.x[:, :1], 10)[0]
    np.testing.assert_allclose(found, one.model(params, query.x).numpy(), rtol=1e-5)


def test_train_and_evaluate_test_the_trained_network_as_asked(monkeypatch, tmp_path):
    tested = []

    def test(self, params, n_tasks):
        tested.append((self, params, n_tasks))
        return {}

    for name, method in (
        ("load_data", lambda self, data: self.keep(coloured(28, 1))),
        ("test", test),
        ("table", lambda *_: ""),
        ("figures", lambda *_: []),
    ):
        monkeypatch.setattr(OmniglotMLP, name, method)
    settings = {"steps": 1, "meta_batch": 2, "seed": 3, "meta_lr": 0.05}
    options = [f"{experiment.flag(name)}={value}" for name, value in settings.items()]
    run = str(tmp_path / "run")
    assert cli.main(["train", "omniglot-mlp", *options, "--out", run]) == 0
    assert cli.main(["evaluate", run, "--test-steps=7", "--test-query=2", "--tasks=50"]) == 0
    one = OmniglotMLP(**settings)
    assert [x[0] for x in tested] == [one, replace(one, test_steps=7, test_query=2)]
    assert [x[2] for x in tested] == [600, 50]
    start = one.model.init(one.rng("weights"))
    kept = Run(run).load(start).params
    for _, params, _ in tested:
        for name, p in params.items():
            np.testing.assert_array_equal(p.numpy(), kept[name].numpy())
    assert abs(kept["linear5.weight"].numpy() - start["linear5.weight"].numpy()).max() > 0.04


@pytest.mark.parametrize(
    ("method", "usual", "other"),
    [("MAML", "query", "support only"), ("Fine-tuning", "support", "query batch")],
)
def test_the_row_taken_as_the_papers_stands_beside_it(method, usual, other):
    labels = {
        kind: _label({"method": method, "batch_norm": f"{kind} batch"})
        for kind in ("query", "support")
    }
    assert labels.pop(usual) == method
    assert [*labels.values()] == [f"{method}, batch norm from {other}"]


# Images that do not fit, and what they are called


def test_too_few_images_are_found_before_the_training(capsys, tmp_path):
    few = {split: images[:, :19] for split, images in coloured(16, 3).items()}
    with pytest.raises(UserError, match=r"'val' .* --k-shot 5 and --test-query 15"):
        MiniImageNetPretrained(image_size=16).keep(few)
    MiniImageNetPretrained(image_size=16, test_query=14).keep(few)
    with pytest.raises(UserError, match=r"'train' .* --k-shot 5 and --n-query 15"):
        MiniImageNet(image_size=16, k_shot=5).keep(few)


def test_a_set_keeps_its_title_when_it_is_read_again(tmp_path, monkeypatch):
    import io
    import zipfile

    from PIL import Image

    (tmp_path / "shop").mkdir()
    with zipfile.ZipFile(tmp_path / "shop" / "photos_jpeg.zip", "w") as archive:
        for split in SPLITS:
            lines = ["filename,label"]
            for c in range(2):
                for i in range(2):
                    buffer = io.BytesIO()
                    pixels = np.random.default_rng([c, i]).integers(0, 256, (16, 16, 3), np.uint8)
                    Image.fromarray(pixels).save(buffer, "png")
                    archive.writestr(f"images/{split}{c}{i}.png", buffer.getvalue())
                    lines.append(f"{split}{c}{i}.png,{split}{c}")
            archive.writestr(f"{split}.csv", "\n".join(lines))
    for root, title in (
        (tmp_path / "shop", "shop"),
        (None, "shop"),
        (tmp_path / "shop" / "photos_jpeg.zip", "photos_jpeg"),
    ):
        monkeypatch.setenv("TINYMAML_DATA", str(tmp_path / "shop"))
        with pytest.warns(UserWarning, match=title):
            first = MiniImageNet(n_way=2, n_query=1, image_size=16)
            kept = first.load_data(root)
            again = MiniImageNet(n_way=2, n_query=1, image_size=16)
            assert again.load_data(kept) == kept
        assert first.data == again.data == title
        assert json.dumps(kept) and miniimagenet.find(kept) == miniimagenet.find(root)


@pytest.mark.parametrize(
    ("preset", "method"),
    [
        (OmniglotMLP(), "MAML, no conv"),
        (OmniglotMLP(first_order=True), "MAML, no conv, first order"),
        (OmniglotMLP(inner_steps=0), "Pretrained, no conv"),
        (Omniglot(inner_steps=0), "Pretrained"),
        (replace(EXPERIMENTS["sinusoid"], inner_steps=0), "Pretrained"),
    ],
)
def test_a_method_is_called_what_it_is(preset, method):
    assert preset.method == method
