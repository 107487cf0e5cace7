"""The paper's protocol: its numbers, and which images and which random numbers go where."""

import io
import json
import zipfile
from dataclasses import replace
from itertools import combinations
from unittest.mock import MagicMock

import numpy as np
import pytest

import tinymaml as tm
from tinymaml import cli
from tinymaml.errors import UserError
from tinymaml.experiments import (
    EXPERIMENTS,
    Experiment,
    MiniImageNet,
    Omniglot,
    OmniglotMLP,
    Reinforcement,
    Schedule,
    Sinusoids,
    classification,
    flag,
    launch,
    methods,
    paper,
    problem,
    sinusoid,
)
from tinymaml.experiments.classification import Classification, Images, TrainingBatches
from tinymaml.experiments.evaluation import evaluate, score_tasks
from tinymaml.experiments.report import _label
from tinymaml.experiments.runs import Run
from tinymaml.experiments.tables import table
from tinymaml.experiments.training import train
from tinymaml.tasks import Batch, miniimagenet, omniglot

pytestmark = pytest.mark.numpy_only

SPLITS = ("train", "val", "test")

# Finn et al. 2017, A.1; iterations of sinusoids and the batch of MiniImageNet 5-shot by the
# authors' code. Snell et al. 2017, and the authors' code of Nichol et al. 2018. Queries are of each
# class in training, 0 for as many as shots; "-" is what is no setting of an experiment.
SETTINGS = (
    "n_way k_shot inner_lr inner_steps test_steps meta_batch steps n_query first_order".split()
)
NUMBERS = """
    sinusoid                        -    10    0.01  1     -       25    70000      -       False
    sinusoid-first-order            -    10    0.01  1     -       25    70000      -       True
    sinusoid-pretrained             -    10    -     -     -       25    70000      -       -
    sinusoid-oracle                 -    10    -     -     -       25    70000      -       -
    omniglot                        5    1     0.4   1     3       32    60000      0       False
    omniglot-5shot                  5    5     0.4   1     3       32    60000      0       False
    omniglot-first-order            5    1     0.4   1     3       32    60000      0       True
    omniglot-20way                  20   1     0.1   5     5       16    60000      0       False
    omniglot-20way-5shot            20   5     0.1   5     5       16    60000      0       False
    omniglot-mlp                    5    1     0.4   1     3       32    60000      0       False
    omniglot-mlp-5shot              5    5     0.4   1     3       32    60000      0       False
    omniglot-protonet               5    1     -     -     -       1     20000      5       -
    omniglot-reptile                5    1     0.001 5     50      5     100000     9       -
    omniglot-mann                   5    -     -     -     -       16    30000     -       -
    omniglot-memory-module          5    -     -     -     -       1     10000     -       -
    omniglot-20way-tied             20   1     0.1   1     1       8     12000      0       False
    omniglot-20way-anil             20   1     0.1   5     5       16    60000      0       False
    omniglot-meta-sgd               5    1     0.1   1     1       32    60000      0       False
    omniglot-imaml                  5    1     0.1   16    16      32    60000      0       -
    omniglot-matching               5    1     -     -     -       1     20000      5       -
    omniglot-siamese                5    1     -     -     -       1     20000      9       -
    omniglot-siamese-koch           20   1     -     -     -       1     90000      2       -
    omniglot-statistician           -    -     -     -     -       1     45000      4       -
    miniimagenet                    5    1     0.01  5     10      4     60000      15      False
    miniimagenet-5shot              5    5     0.01  5     10      2     60000      15      False
    miniimagenet-first-order        5    1     0.01  5     10      4     60000      15      True
    miniimagenet-5shot-first-order  5    5     0.01  5     10      2     60000      15      True
    miniimagenet-meta-lstm          5    1     -     12    12      1     75000      15      -
    miniimagenet-5shot-meta-lstm    5    5     -     8     8       1     50000      15      -
    miniimagenet-matching           5    1     -     -     -       1     75000      15     -
    miniimagenet-pretrained         5    -     -     -     15      4     30000      -       -
    navigation                      -    -     0.1   1     3       20    500        -       False
    navigation-first-order          -    -     0.1   1     3       20    500        -       True
    navigation-pretrained           -    -     0.1   0     3       20    500        -       False
    navigation-oracle               -    -     -     -     -       20    500        -       -
    navigation-random               -    -     0.1   1     3       20    1          -       False
"""
NUMBERS = [line.split() for line in NUMBERS.strip().splitlines()]
# Robots have the settings of navigation but for tasks and iterations, of which random has 1.
NUMBERS += [
    [name.replace("navigation", robot), *five, "40", "1" if steps == "1" else "800", n_query, order]
    for robot in ("cheetah-direction", "cheetah-velocity", "ant-direction", "ant-velocity")
    for name, *five, _, steps, n_query, order in NUMBERS[-5:]
]
RATES_OF = {
    "omniglot-mann": 3e-3,
    "omniglot-siamese-koch": 6e-5,
    "omniglot-memory-module": 3e-4,
    "miniimagenet-matching": 1e-4,
}
DECAYS = dict.fromkeys([f"omniglot-{n}" for n in ("protonet", "matching", "siamese")], "halving")
DECAYS |= {"omniglot-20way-tied": "cosine", "omniglot-mann": "linear"}


@pytest.mark.parametrize(("name", "numbers"), [(name, numbers) for name, *numbers in NUMBERS])
def test_the_presets_are_the_papers(name, numbers):
    preset, config = EXPERIMENTS[name], EXPERIMENTS[name].config()
    assert [str(config.get(setting, "-")) for setting in SETTINGS] == numbers
    schedule = preset.schedule
    if name == "omniglot-reptile":
        assert (schedule.optimizer, schedule.meta_lr, schedule.decay) == ("sgd", 1.0, "linear")
    elif isinstance(preset, Reinforcement):
        rollouts = 40 if "ant-direction" in name else 20
        bound = 0.02 if "cheetah-direction" in name else 0.01
        assert (preset.method.rollouts, preset.method.max_kl) == (rollouts, bound)
        assert preset.method.update == ("none" if name.endswith("-random") else "trpo")
        tested = 40 if "ant-direction" in name or "navigation" in name else 20
        assert (preset.problem.test_rollouts, preset.problem.test_tasks) == (tested, 40)
    else:
        decay = DECAYS.get(name, "none")
        rate = RATES_OF.get(name, 1e-3)
        assert (schedule.optimizer, schedule.meta_lr, schedule.decay) == ("adam", rate, decay)
    assert schedule.seed == 0
    maml_of_mini = name.startswith("miniimagenet") and isinstance(preset.method, methods.MAML)
    assert schedule.clip == (10 if maml_of_mini else 0)
    assert schedule.clip_norm == (0.25 if "meta-lstm" in name else 10 if "mann" in name else 0)
    if type(preset.method) is methods.MAML and config.get("head") == "own":
        assert config["test_query"] == 0
        assert config["test_steps"] == paper.steps(preset.problem.data, preset.problem.setting)


def test_every_preset_is_in_the_table_of_numbers():
    assert [row[0] for row in NUMBERS] == list(EXPERIMENTS)
    assert (Omniglot().split, Omniglot().resize, launch.TEST_TASKS) == ("random", "nearest", 600)
    assert (MiniImageNet().filters, MiniImageNet().image_size) == (32, 84)
    baselines = EXPERIMENTS["miniimagenet-pretrained"]  # Ravi & Larochelle 2017
    assert (baselines.problem.filters, baselines.problem.test_query) == (64, 15)
    assert baselines.problem.batch * baselines.schedule.meta_batch == 64
    assert (baselines.method.rates_tried, baselines.method.tuning_tasks) == (RATES, 30)
    protonet, reptile = (EXPERIMENTS[f"omniglot-{name}"] for name in ("protonet", "reptile"))
    assert (protonet.problem.train_way, reptile.problem.train_way) == (60, 0)
    assert reptile.method.inner_batch == 10
    mann, module = (EXPERIMENTS[f"omniglot-{name}"].problem for name in ("mann", "memory-module"))
    assert (mann.views, mann.train_way, mann.rounds, mann.of_the_table) == (10, 0, False, (1, 4))
    assert (module.views, module.train_way, module.rounds) == (6, 80, True)
    assert module.of_the_table == (1, 5)


RATES = (0.5, 0.1, 0.01, 0.001)


@pytest.mark.parametrize(
    ("name", "count", "norms", "strides"),
    [
        ("omniglot", 111_749, 4, [2] * 4),
        ("omniglot-mlp", 246_597, 4, []),
        ("omniglot-protonet", 111_424, 4, [1] * 4),
        ("omniglot-reptile", 111_749 + 3 * 64 * 5, 4, [2] * 4),  # sees all four positions
        ("miniimagenet", 32_645, 4, [1] * 4),
        ("sinusoid", 1761, 0, []),
        ("sinusoid-pretrained", 1761, 0, []),
        ("sinusoid-oracle", 1841, 0, []),
    ],
)
def test_the_networks_are_the_papers(name, count, norms, strides):
    learner, params = EXPERIMENTS[name].learner, EXPERIMENTS[name].init()
    model = learner.body if name == "omniglot-protonet" else learner.model
    assert sum(p.size for n, p in params.items() if "batchnorm" not in n) == count
    assert sum(n.endswith("gamma") for n in params) == norms
    assert [layer.stride for layer in model.layers if isinstance(layer, tm.nn.Conv2d)] == strides


def test_protonet_compares_vectors_of_64_numbers():
    learner, params = (
        EXPERIMENTS["omniglot-protonet"].learner,
        EXPERIMENTS["omniglot-protonet"].init(),
    )
    assert learner.body(params, np.zeros((2, 28, 28, 1), np.float32)).shape == (2, 64)


@pytest.mark.parametrize(("kind", "ways"), [(Omniglot, 5), (Omniglot, 20), (MiniImageNet, 5)])
def test_the_step_on_the_mean_loss_is_alpha_of_the_authors_sum_over_classes(kind, ways):
    problem = kind(n_way=ways)
    rates, names = problem.rates(0.25), problem.model.names
    still = {n for n in names if "batchnorm" in n}
    assert len(still) == 8
    assert rates == {n: 0 if n in still else 0.25 * ways for n in names}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_no_two_purposes_and_steps_share_random_numbers(seeds):
    streams = [
        Schedule(seed=seed).rng(*which).integers(0, 2**32, 8).tolist()
        for seed in seeds
        for which in [("weights",), ("val",), ("test",), *[("train", step) for step in (1, 2, 3)]]
    ]
    assert all(a != b for a, b in combinations(streams, 2))
    # nor a validation's known images
    assert Schedule().rng("val", 1).integers(0, 2**32, 8).tolist() not in streams


@pytest.mark.parametrize("name", ["sinusoid-oracle", "miniimagenet-pretrained"])
def test_every_step_draws_tasks_of_its_own_as_many_as_asked_for(name):
    one = small(name, meta_batch=3)
    x = np.concatenate([one.training_tasks(step).query.x for step in (1, 2, 3, 4)])
    assert len(x) == len(np.unique(x.reshape(len(x), -1), axis=0)) == 12


def test_sinusoids_of_training_validation_and_test_are_not_the_same_nor_of_other_seeds(monkeypatch):
    waves = []  # the oracle is told them

    def watched(learner, params, blocks, score, steps, **_):
        waves.extend(tasks.support.x[:, 0, 1:] for tasks in blocks)
        return np.ones((5, len(steps)))

    monkeypatch.setattr(problem, "score_tasks", watched)
    for seed in (0, 1):
        one = EXPERIMENTS["sinusoid-oracle"].replace(seed=seed, meta_batch=5, validation_tasks=5)
        waves.append(one.training_tasks(1).support.x[:, 0, 1:])
        one.validate({})
        one.test({}, 5)
    assert len(waves) == 10  # the three numbers of points are tested on the same waves
    assert len(np.unique(np.concatenate(waves), axis=0)) == 5 * 2 * 3


def test_characters_are_read_by_the_split_and_the_resizing_of_the_settings(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(omniglot, "load", lambda data, *how: asked.extend(how))
    monkeypatch.setattr(omniglot, "splits", lambda images, split, data: asked.append(split) or {})
    monkeypatch.setattr(omniglot, "find", lambda data: tmp_path)
    Omniglot(split="lake", resize="lanczos", image_size=105).load(tmp_path)
    assert asked == ["lanczos", 105, "lake"]


@pytest.mark.parametrize(
    ("split", "turned"),
    [("random", "train val test"), ("lake", "train"), ("vinyals", "")],
)
def test_characters_are_turned_where_their_split_has_no_angles_of_its_own(split, turned):
    none = dict.fromkeys(SPLITS, np.zeros((5, 20, 28, 28, 1), np.uint8))
    characters = Omniglot(split=split).with_images(none)
    assert [s for s in SPLITS if characters.tasks(s).rotate] == turned.split()


def test_more_classes_in_training_are_in_training_alone():
    none = dict.fromkeys(SPLITS, np.zeros((60, 20, 28, 28, 1), np.uint8))
    problem = EXPERIMENTS["omniglot-protonet"].problem.with_images(none)
    found = [(source.n_way, source.n_query) for source in map(problem.tasks, SPLITS)]
    assert found == [(60, 5), (5, 1), (5, 1)]
    assert problem.n_way == 5 and problem.setting == "5-way 1-shot"


# How it is trained


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("name", ["sinusoid", "omniglot-mlp", "miniimagenet"])
def test_the_meta_gradient_is_of_the_rate_the_steps_and_the_order_of_the_settings(
    name, first_order
):
    settings = {"inner_lr": 0.03, "inner_steps": 2, "meta_batch": 2, "first_order": first_order}
    if name == "miniimagenet":
        settings |= {"clip": 0.0, "n_query": 1}
    one = small(name, **settings)
    params, problem = one.problem.model.init(np.random.default_rng(0)), one.problem
    if name == "sinusoid":  # that the curvature shows, which the small initial weights hide
        params = larger(params)
    alpha = 0.03 if name == "sinusoid" else 5 * 0.03
    rates = {n: 0 if n.endswith(("gamma", "beta")) else alpha for n in params}
    tasks = one.training_tasks(1)
    found = one.gradient(params, tasks)[1]
    far = []

    def loss(params, x, y):
        return problem.loss(problem.model(params, x), y)

    for order in (first_order, not first_order):
        value = tm.maml.meta_loss(loss, params, tasks, lr=rates, steps=2, first_order=order)
        expected = tm.grad(value, params)
        far.append(max(abs(g.numpy() - expected[n].numpy()).max() for n, g in found.items()))
    size = max(abs(g.numpy()).max() for g in found.values())
    assert far[0] < 1e-4 * size < 1e-2 * size < far[1]


def test_the_losses_are_the_papers():
    assert Sinusoids().loss is tm.nn.mse_loss and Omniglot().loss is tm.nn.cross_entropy


@pytest.mark.parametrize(("optimizer", "decay"), [("adam", "none"), ("sgd", "linear")])
def test_a_training_is_of_the_optimiser_and_the_rate_from_the_weights_of_the_seed(
    tmp_path, optimizer, decay
):
    settings = {"optimizer": optimizer, "decay": decay, "log_every": 3, "validate_every": 3}
    one = EXPERIMENTS["sinusoid"].replace(steps=3, seed=3, meta_lr=0.02, meta_batch=2, **settings)
    run = Run(tmp_path / "run")
    run.start({})
    reached = train(one, run, progress=False)
    params, losses = one.problem.model.init(one.schedule.rng("weights")), []
    kind = {"adam": tm.optim.Adam, "sgd": tm.optim.SGD}[optimizer]
    state = kind(0.02).init(params)
    for step in (1, 2, 3):
        loss, gradient = one.gradient(params, one.training_tasks(step))
        losses.append(float(loss))
        rate = 0.02 if decay == "none" else 0.02 * (4 - step) / 3
        params, state = kind(rate).update(params, gradient, state)
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


def small(name, **settings):
    """The experiment with small images and few tasks, and small networks where it has a choice."""
    found = EXPERIMENTS[name].replace(validation_tasks=3)
    if name.startswith("miniimagenet"):
        found = found.replace(image_size=16, filters=2)
    if name == "miniimagenet-pretrained":
        found = found.replace(tuning_tasks=3)
    if name == "omniglot-protonet":
        found = found.replace(train_way=6)
    if name == "omniglot-reptile":
        found = found.replace(test_steps=5)
    found = found.replace(**settings)
    if not found.problem.needs_data:
        return found
    images = coloured(16, 3) if name.startswith("miniimagenet") else coloured(28, 1)
    return replace(found, problem=found.problem.with_images(images))


def larger(params):
    """Weights that a step of gradient descent changes the output of."""
    return {n: tm.tensor(20 * p.numpy(), requires_grad=True) for n, p in params.items()}


@pytest.fixture
def read(monkeypatch):
    """Every use of tasks for a score, in order: by what, the rate, and of which split."""
    uses = []

    def watched(learner, params, blocks, score, **options):
        blocks = list(blocks)
        for tasks in blocks:
            assert split_of(tasks.support.x) == split_of(tasks.query.x)
            use = type(learner).__name__, getattr(learner, "lr", None), split_of(tasks.query.x)
            if use not in uses[-1:]:
                uses.append(use)
        return score_tasks(learner, params, blocks, score, **options)

    monkeypatch.setattr(problem, "score_tasks", watched)
    return uses


@pytest.mark.parametrize(
    "name",
    "omniglot omniglot-mlp omniglot-protonet omniglot-reptile miniimagenet "
    "miniimagenet-meta-lstm".split(),
)
def test_training_validation_and_test_read_each_their_own_classes(name, read):
    one = small(name)
    tasks = one.training_tasks(1)
    assert split_of(tasks.support.x) == split_of(tasks.query.x) == "train"
    params = one.init()
    one.validate(params)
    learner = type(one.learner).__name__, getattr(one.learner, "lr", None)
    assert read == [(*learner, "val")]
    one.test(params, 3)
    own, pixels = (*learner, "test"), ("NearestNeighbour", None, "test")
    assert own in read[1:] and all(use in (own, pixels) for use in read[1:])


def test_the_baselines_learn_of_train_are_tuned_on_val_and_tested_on_test(read, monkeypatch):
    one, known = small("miniimagenet-pretrained", test_steps=2), []

    def watched_batches(images, size):
        known.append((split_of(np.array(images) / 255), size))
        return TrainingBatches(images, size)

    for module in (classification, methods):
        monkeypatch.setattr(module, "TrainingBatches", watched_batches)
    assert split_of(one.training_tasks(1).query.x) == "train"
    params = one.init()
    assert params["linear1.bias"].shape == (6,)  # all training classes
    one.validate(params)
    assert read == [("NearestNeighbour", None, "val")]
    results = one.test(params, 3)
    tuning, tests = read[1:9], read[9:]
    assert tuning == [("Pretrained", rate, "val") for rate in RATES] * 2
    for shots, (pixels, nearest, tuned) in zip((1, 5), (tests[:3], tests[3:])):
        assert pixels == ("ProtoNet", None, "test") and nearest == (
            "NearestNeighbour",
            None,
            "test",
        )
        assert tuned[0] == "Pretrained" and tuned[2] == "test"
        assert f" {tuned[1]:g} ({shots}-shot)" in results["protocol"]
    assert len(read) == 15
    assert known == [("train", 16), *[("train", 64)] * 3]


def test_the_baselines_take_tasks_of_their_shots_and_of_the_settings(monkeypatch):
    settings = {"seed": 4, "n_way": 3, "test_query": 2, "test_steps": 1, "rates_tried": (0.1,)}
    one, supports = small("miniimagenet-pretrained", **settings), []

    def scores(learner, params, blocks, score, **options):
        assert options["steps"] in ([1], (0,))
        for tasks in blocks:
            supports.append((split_of(tasks.support.x), *tasks.support.y.shape))
            split, n, size = supports[-1]
            problem = one.problem.replace(k_shot=size // 3)
            (expected,) = problem.blocks(split, Schedule(seed=4).rng(split), n)
            np.testing.assert_array_equal(tasks.query.x, expected.query.x)
            assert tasks.query.y.shape == (3, 6)
        return np.ones((3, 1))

    monkeypatch.setattr(problem, "score_tasks", scores)
    one.test(one.init(), 3)
    # the rates; the tests by pixels, nearest neighbours and fine-tuning twice
    assert supports == [
        ("val", 3, 3),
        ("val", 3, 15),
        *[("test", 3, 3)] * 4,
        *[("test", 3, 15)] * 4,
    ]


def test_the_rate_is_the_one_that_is_best_on_validation_by_the_support(monkeypatch):
    one, accuracy = small("miniimagenet-pretrained"), dict(zip(RATES, (0.3, 0.4, 0.6, 0.5)))

    def scores(learner, params, blocks, score, **options):
        right = accuracy[learner.lr] if learner.inductive else 1 - accuracy[learner.lr]
        return np.array([[right], [np.nan if learner.lr == 0.01 else 0.5]])

    monkeypatch.setattr(problem, "score_tasks", scores)
    # 0.01 is better, but one task of it diverged
    assert one.method.tuned(one.problem, one.init(), one.schedule) == 0.001


def fine_tuning(one, params, inductive=False):
    """The learner of rate 0.1, and its parameters before."""
    return one.method.fine_tuning(one.problem, params, one.schedule, 0.1, inductive)[:2]


@pytest.mark.parametrize("inductive", [False, True])
def test_a_step_of_fine_tuning_moves_every_parameter_by_the_mean_loss(inductive):
    one = small("miniimagenet-pretrained", test_steps=1, seed=4).replace(k_shot=5)
    params = one.problem.model.init(np.random.default_rng(5))
    tasks = one.problem.tasks("test").sample(np.random.default_rng(6), 2)
    learner, start = fine_tuning(one, params, inductive)
    fresh = one.problem.network(5).init(one.schedule.rng("weights"))
    assert start.keys() == fresh.keys() == params.keys()
    called = []

    class Watched(tm.nn.Layer):
        statistics = learner.model.statistics

        def __call__(self, given, x):
            called.append(given)
            return learner.model(given, x)

    replace(learner, model=Watched()).predict(start, tasks.support, tasks.query.x)
    adapted = called[-1]
    assert any(name.endswith("var") for name in adapted) == inductive
    for t in range(2):
        given = {
            n: tm.tensor(
                fresh[n].numpy() if n.startswith("linear") else params[n].numpy(),
                requires_grad=True,
            )
            for n in params
        }
        logits = learner.model(given, tasks.support.x[t])
        loss = np.mean(tm.nn.cross_entropy(logits, tasks.support.y[t]))
        assert len(tasks.support.y[t]) == 25
        for name, gradient in tm.grad(loss, given).items():
            expected = given[name].data - np.float32(0.1) * gradient.numpy()
            np.testing.assert_allclose(adapted[name].numpy()[t], expected, rtol=1e-3, atol=1e-5)
    assert any(name.endswith("gamma") for name in adapted)


def nearest(one, params, tasks):
    """The accuracy of the nearest neighbour on tasks."""
    trial = one.method.validation(one.problem, params, one.schedule)
    return score_tasks(trial.learner, trial.params, [tasks], one.problem.score).mean()


def test_nearest_neighbours_find_copies_of_the_support():
    one = small("miniimagenet-pretrained")
    params = one.problem.model.init(np.random.default_rng(0))
    tasks = one.problem.tasks("test").sample(np.random.default_rng(0), 3)
    copies = tasks._replace(query=Batch(tasks.support.x[:, ::-1], tasks.support.y[:, ::-1]))
    assert nearest(one, params, copies) == 1
    other = Batch(copies.query.x, (copies.query.y + 1) % 5)
    assert nearest(one, params, copies._replace(query=other)) == 0


def test_the_nearest_neighbour_of_a_query_does_not_depend_on_the_others():
    one = small("miniimagenet-pretrained")
    params = one.problem.model.init(np.random.default_rng(1))
    tasks = one.problem.tasks("test").sample(np.random.default_rng(2), 2)
    whole = nearest(one, params, tasks)
    alone = [
        nearest(one, params, tasks._replace(query=Batch(*[a[:, i : i + 1] for a in tasks.query])))
        for i in range(tasks.query.y.shape[1])
    ]
    assert 0 < whole < 1 and np.mean(alone) == pytest.approx(whole)


def test_given_statistics_leave_gamma_and_beta():
    rng, layer = np.random.default_rng(0), tm.nn.BatchNorm(3)
    x, params = rng.normal(size=(8, 3)), dict(zip(("gamma", "beta"), rng.uniform(1, 2, (2, 3))))
    found = layer(params | layer.statistics(params, x), x)
    np.testing.assert_allclose(found, layer(params, x), rtol=1e-6)


def test_the_nearest_neighbour_is_told_by_the_features_below_the_last_layer():
    one = small("miniimagenet-pretrained")
    params, other = (one.problem.model.init(np.random.default_rng(i)) for i in (1, 2))
    other = {n: p for n, p in other.items() if "linear" in n}
    tasks = one.problem.tasks("test").sample(np.random.default_rng(2), 20)
    assert nearest(one, params | other, tasks) == nearest(one, params, tasks)


def test_batches_of_training_images_hold_every_image_of_every_class():
    images = [np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1) + 20 * n for n in (2, 4)]
    drawn = TrainingBatches(images, 16).sample(np.random.default_rng(0), 50).query
    values = np.rint(drawn.x * 255).astype(int)[..., 0, 0, 0]
    assert set(values[drawn.y == 0]) == {40, 41} and set(values[drawn.y == 1]) == {80, 81, 82, 83}


# What is reported of the scores


@pytest.mark.parametrize(
    ("name", "steps"),
    [("omniglot", 1), ("omniglot", 3), ("miniimagenet", 10), ("omniglot-reptile", 12)],
)
def test_the_row_of_a_result_is_the_curve_at_the_steps_of_the_test(name, steps):
    one = small(name, test_steps=steps, inner_lr=0.05)
    results = one.test(one.learner.init(np.random.default_rng(0)), 8)
    curve = results["curves"]["5-way 1-shot"]
    assert len(curve["mean"]) == max(steps, 10) + 1 and len(set(curve["mean"])) > 2
    row = results["rows"][0]
    assert row["steps"] == steps and row["batch_norm"] == "query batch"
    for key in ("mean", "ci95", "diverged"):
        assert row[key] == curve[key][steps]
    assert results["rows"][1]["batch_norm"] == "support batch"
    # the paper's number stays at the paper's steps
    (at,) = results["paper"]["5-way 1-shot"]
    assert at == {"omniglot": 3, "miniimagenet": 10}.get(name, steps)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("omniglot", {}),
        ("omniglot-protonet", {}),
        ("omniglot-reptile", {"test_steps": 3, "inner_lr": 0.01}),
    ],
)
def test_the_rows_are_of_the_learner_by_both_kinds_of_statistics(name, settings):
    one = small(name, n_way=3, **settings)
    params = one.init()
    rows = [row for row in one.test(params, 8)["rows"] if row["setting"] == "3-way 1-shot"]
    rows = [row for row in rows if "floor" not in row]
    kinds = [("query batch", False), ("support batch", True)]
    for row, (kind, inductive) in zip(rows, kinds, strict=True):
        blocks = one.problem.blocks("test", Schedule().rng("test"), 8)
        learner = replace(one.learner, inductive=inductive)
        right = []
        for support, query in blocks:
            said = learner.predict(params, support, query.x).numpy()
            right.append(said.argmax(-1) == query.y)
        assert row["batch_norm"] == kind
        assert row["mean"] == pytest.approx(np.concatenate(right).mean())
    assert rows[0]["mean"] != rows[1]["mean"]


def test_one_training_of_a_metric_learner_is_tested_with_5_and_20_classes():
    images = np.random.default_rng(0).integers(0, 256, (21, 20, 28, 28, 1), np.uint8)
    for name, numbers in (("protonet", (0.988, 0.96)), ("matching", (0.981, 0.938))):
        one = EXPERIMENTS[f"omniglot-{name}"].replace(train_way=7)
        one = replace(one, problem=one.problem.with_images(dict.fromkeys(SPLITS, images)))
        assert one.training_tasks(1).support.y.max() == 6
        results = one.test(one.init(), 2)
        settings = [row["setting"] for row in results["rows"]]
        assert settings == ["5-way 1-shot"] * 2 + ["20-way 1-shot"] * 2 + settings[4:]
        assert results["curves"].keys() == set(settings) == {"5-way 1-shot", "20-way 1-shot"}
        found = dict(zip(("5-way 1-shot", "20-way 1-shot"), ({0: number} for number in numbers)))
        assert results["paper"] == found
        assert "5-way 1-shot and 20-way 1-shot, 1 query/class" in results["protocol"]
        assert "; trained with 7 classes an episode; " in results["protocol"]
    few = one.problem.with_images(dict.fromkeys(SPLITS, images[:19]))
    assert [p.n_way for p in few.tested(one.method)] == [5]
    assert [p.n_way for p in few.replace(n_way=6).tested(one.method)] == [5, 6]


def test_one_training_on_pairs_is_tested_with_1_and_5_shots():
    images = np.random.default_rng(0).integers(0, 256, (21, 20, 28, 28, 1), np.uint8)
    one = EXPERIMENTS["omniglot-siamese"]
    one = replace(one, problem=one.problem.with_images(dict.fromkeys(SPLITS, images)))
    results = one.test(one.init(), 2)
    settings = [f"{n}-way {k}-shot" for k in (1, 5) for n in (5, 20)]
    assert list(results["curves"]) == list(results["paper"]) == settings
    assert "20-way 5-shot, as many as shots query/class; " in results["protocol"]
    few = one.problem.replace(n_query=1)
    few = few.with_images(dict.fromkeys(SPLITS, images[:, :9]))  # 5 and 5 are too many
    assert [p.k_shot for p in few.tested(one.method)] == [1, 1]
    assert {p.k_shot for p in few.replace(test_query=4).tested(one.method)} == {1, 5}
    many = one.problem.replace(n_query=16)  # of the 20 that there are: with five shots too many
    assert [p.k_shot for p in many.tested(one.method)] == [1, 1, 5, 5]


class Pixels(methods.MetricMethod):
    """A method that learns nothing."""

    name = "Pixels"

    def learner(self, problem, inductive=False):
        return tm.learners.ProtoNet(methods.PixelMeans(), problem.n_way)


def test_the_floors_are_pixels_the_untrained_learner_and_labels_that_say_nothing():
    shades = np.arange(20, dtype=np.uint8)[:, None, None, None, None] * 12
    images = np.broadcast_to(shades, (20, 20, 28, 28, 1))  # which classes differ in
    problem = Omniglot().with_images(dict.fromkeys(SPLITS, images))
    one = Experiment(Pixels(), problem, Schedule())
    rows = {(r["setting"], r["method"]): r for r in one.test({}, 150)["rows"] if "floor" in r}
    assert len(rows) == 6 and {row["tasks"] for row in rows.values()} == {100}
    for n in (5, 20):
        means = [
            rows[f"{n}-way 1-shot", name]["mean"]
            for name in (
                "Nearest neighbour, raw pixels",
                "Pixels, untrained",
                "Pixels, shuffled labels",
            )
        ]
        # all classes but black are at the same angle
        assert means[0] < 0.5 and means[1] == 1
        assert abs(means[2] - 1 / n) < 4 * (1 / n / n / 100) ** 0.5 + 0.02


def test_the_untrained_floor_is_of_the_weights_of_the_seed():
    one = small("omniglot-protonet", seed=3, n_way=5)
    params = {n: tm.tensor(p.numpy() * 0) for n, p in one.init().items()}
    rows = {row.get("floor", row["batch_norm"]): row for row in one.test(params, 8)["rows"]}
    start = one.test(one.init(), 8)["rows"][0]
    assert rows["untrained"]["mean"] == start["mean"] != rows["query batch"]["mean"]
    assert rows["query batch"]["mean"] == pytest.approx(1 / 5)  # all say the same of all


def test_a_learner_that_ignores_its_support_scores_1_of_n():
    one = small("omniglot", n_way=3)
    learner = tm.learners.NoAdaptation(one.problem.model, one.problem.loss)
    trial = problem.Trial(learner, one.init(), one.problem, "")
    found = trial.score("test", np.random.default_rng(0), 200)
    assert abs(found["mean"][0] - 1 / 3) < 2 * found["ci95"][0]


def test_validation_and_the_inductive_row_are_after_the_steps_of_the_test_too(monkeypatch):
    # unlike accuracies never twice the same
    monkeypatch.setattr(Classification, "score", staticmethod(tm.nn.cross_entropy))
    one = small("miniimagenet", test_steps=3, inner_steps=2, inner_lr=0.05)
    params = one.problem.model.init(np.random.default_rng(0))
    for inductive, split, found in (
        (False, "val", one.validate(params)[0]),
        (True, "test", one.test(params, 3)["rows"][1]["mean"]),
    ):
        blocks = one.problem.blocks(split, one.schedule.rng(split), 3)
        learner = replace(one.learner, inductive=inductive)
        scores = score_tasks(learner, params, blocks, one.problem.score, steps=range(5))
        assert np.isclose(scores.mean(0), found, rtol=1e-6).tolist() == [0, 0, 0, 1, 0]


def test_fine_tuning_has_a_row_for_each_kind_of_statistics(monkeypatch):
    one = small("miniimagenet-pretrained", test_steps=1, rates_tried=(0.1,))

    def scores(learner, params, blocks, score, steps, **_):
        return np.full((3, len(steps)), 0.75 if getattr(learner, "inductive", False) else 0.25)

    monkeypatch.setattr(problem, "score_tasks", scores)
    rows = one.test(one.init(), 3)["rows"]
    found = [(r["batch_norm"], r["mean"]) for r in rows if r["method"] == "Fine-tuning"]
    assert found == [("query batch", 0.25), ("support batch", 0.75)] * 2


def test_scores_are_of_every_task_after_every_step_from_the_same_start(monkeypatch):
    monkeypatch.setattr(Sinusoids, "test_chunk", 2)
    one = EXPERIMENTS["sinusoid"].replace(inner_lr=0.02, k_shot=5)
    params = larger(one.init())
    tasks = one.problem.tasks("test").sample(np.random.default_rng(0), 3)
    found = evaluate(one, params, tasks, 3)
    assert found.shape == (3, 4)
    for t in range(3):
        support, query = (Batch(*[a[t] for a in batch]) for batch in tasks)
        loss = one.learner.task_loss
        for steps in range(4):
            adapted = tm.maml.adapt(loss, params, support, lr=0.02, steps=steps)
            assert found[t, steps] == pytest.approx(loss(adapted, *query).item(), rel=1e-4)


def test_one_answer_that_is_no_number_makes_no_accuracy_of_the_task():
    logits = np.zeros((2, 4, 5))
    logits[..., 0] = 1
    logits[1, 2, 3] = np.nan
    scores = Omniglot().score(logits, np.zeros((2, 4), int))
    np.testing.assert_array_equal(scores, [1, np.nan])


def test_equal_scores_are_worth_what_a_random_choice_of_them_gets():
    """Of four queries the first ties among five, the second with one other, the third is right."""
    logits = np.array([[[0, 0, 0, 0, 0], [2, 1, 2, 0, 0], [9, 0, 0, 0, 0], [0, 1, 1, 1, 1.0]]])
    found = Omniglot().score(logits, np.zeros((1, 4), int))
    np.testing.assert_allclose(found, [(1 / 5 + 1 / 2 + 1 + 0) / 4])
    y = np.random.default_rng(0).integers(0, 20, (3, 40))
    np.testing.assert_allclose(Omniglot().score(np.ones((3, 40, 20)), y), 1 / 20)


def test_the_error_of_a_sinusoid_is_the_mean_square_over_its_query():
    one = EXPERIMENTS["sinusoid"].replace(k_shot=5)
    zero = {n: 0 * p for n, p in one.init().items()}
    tasks = one.problem.tasks("test").sample(np.random.default_rng(0), 3)
    expected = (tasks.query.y**2).mean((1, 2))
    np.testing.assert_allclose(evaluate(one, zero, tasks, 0)[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["sinusoid", "sinusoid-oracle"])
def test_a_network_that_is_far_from_every_sinusoid_has_diverged(name):
    one = EXPERIMENTS[name].replace(validation_tasks=3)
    params = {n: 0 * p for n, p in one.init().items()}
    params["linear3.bias"] = params["linear3.bias"] + 30  # ten steps bring it back to no 20
    assert one.validate(params)[1] == 3
    assert [row["diverged"] for row in one.test(params, 3)["rows"]] == [3] * 9


def test_the_tasks_of_a_test_come_in_blocks_and_are_all_different():
    one = small("miniimagenet")

    def draw():
        return list(one.problem.blocks("test", one.schedule.rng("test"), 25))

    assert [len(tasks.support.x) for tasks in draw()] == [10, 10, 5]
    tasks, again = (np.concatenate([t.support.x for t in blocks]) for blocks in (draw(), draw()))
    assert len(np.unique(tasks.reshape(25, -1), axis=0)) == 25
    np.testing.assert_array_equal(tasks, again)


@pytest.mark.parametrize(
    "name", ["omniglot", "omniglot-protonet", "omniglot-reptile", "miniimagenet-pretrained"]
)
def test_a_network_that_is_not_finite_has_no_accuracy(name):
    one = small(name)
    few = {"test_steps": 1, "rates_tried": (0.1, 0.01)}
    one = one.replace(**{n: v for n, v in few.items() if n in vars(one.method)})
    params = {n: tm.tensor(p.data * np.nan) for n, p in one.init().items()}
    assert one.validate(params)[1] == 3
    results = one.test(params, 4) | {"experiment": name, "trained_steps": 1}
    for row in results["rows"]:
        if "pixels" not in row["method"] and row.get("floor") != "untrained":
            assert row["diverged"] == 4 and np.isnan(row["mean"])
    said = table(one.problem, results)
    assert "(4 diverged)" in said and "Diverged tasks are counted and left out" in said


def test_each_number_of_points_is_tested_with_its_own_rate_and_its_own_tasks(monkeypatch):
    used = []

    def scores(learner, params, blocks, score, steps, **_):
        (tasks,) = blocks
        used.append((learner.lr, tasks.support.x.shape[1], tasks.query.x.shape[1]))
        return np.ones((2, len(steps)))

    monkeypatch.setattr(problem, "score_tasks", scores)
    for name, settings, rates in (
        ("sinusoid", {}, [0.01] * 3),
        ("sinusoid", {"inner_steps": 0, "inner_lr": 0.005}, [0.005] * 3),
        ("sinusoid-pretrained", {}, [0.01, 0.02, 0.02]),
        ("sinusoid-oracle", {}, [0] * 3),
    ):
        used.clear()
        EXPERIMENTS[name].replace(**settings).test({}, 2)
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
    def scores(learner, params, blocks, score, steps, **_):
        return np.stack([np.array(steps, float)] * 2)

    monkeypatch.setattr(problem, "score_tasks", scores)
    results = EXPERIMENTS[name].test({}, 2)
    found = [(row["setting"], row["steps"], row["mean"]) for row in results["rows"]]
    assert found == [(f"K = {k}", i, i) for k in (5, 10, 20) for i in (1, 5, 10)]
    assert [curve["mean"] for curve in results["curves"].values()] == [[*range(11)]] * 3
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
        ("omniglot-protonet", 0, 98.8),
        ("omniglot-reptile", 50, 97.68),
        ("miniimagenet", 10, 48.70),
        ("miniimagenet-5shot", 10, 63.11),
        ("miniimagenet-first-order", 10, 48.07),
        ("miniimagenet-5shot-first-order", 10, 63.15),
        ("miniimagenet-meta-lstm", 12, 43.44),
        ("miniimagenet-5shot-meta-lstm", 8, 60.60),
    ],
)
def test_a_curve_of_images_has_the_papers_number_at_the_papers_step(
    name, step, printed, monkeypatch
):
    def scores(learner, params, blocks, score, steps, **_):
        return np.ones((2, len(steps)))

    monkeypatch.setattr(problem, "score_tasks", scores)
    one = EXPERIMENTS[name].replace(images=Images(dict.fromkeys(SPLITS, ())))
    found = one.test({}, 2)["paper"]
    assert found == ({one.problem.setting: {step: pytest.approx(printed / 100)}} if printed else {})


@pytest.fixture
def drawn(monkeypatch):
    """Draw the fits of an experiment with some parameters; returns what each picture shows."""
    shown = []
    monkeypatch.setattr(
        sinusoid.plots,
        "sinusoid_fits",
        lambda points, fits, truth, ax: shown.append((points, fits)),
    )
    monkeypatch.setattr(
        sinusoid.plots, "save", lambda path, draw, **_: draw([MagicMock() for _ in range(6)])
    )

    def draw(one, params):
        shown.clear()
        one.problem.figures(MagicMock(), one.method, params, one.schedule.rng)
        return shown

    return draw


@pytest.mark.parametrize(
    ("name", "rates"), [("sinusoid", (0.03, 0.03)), ("sinusoid-pretrained", (0.01, 0.02))]
)
def test_the_pictures_are_of_test_tasks_by_the_rates_of_the_test(name, rates, drawn):
    one = EXPERIMENTS[name]
    one = one.replace(inner_lr=0.03) if name == "sinusoid" else one
    params, model = larger(one.init()), one.problem.model
    x = np.linspace(-5, 5, 200, dtype=np.float32)[:, None]

    def loss(params, x, y):
        return tm.nn.mse_loss(model(params, x), y)

    shown = drawn(one, params)
    assert len(shown) == 6
    for i, (support, fits) in enumerate(shown):
        k, rate = ((5, 10)[i // 3], rates[i // 3])
        assert support.x.shape == (k, 1) and list(fits) == [0, 1, 10]
        tasks = one.problem.replace(k_shot=k).tasks("test").sample(Schedule().rng("test"), 3)
        np.testing.assert_array_equal(support.y, tasks.support.y[i % 3])
        for steps, found in fits.items():
            adapted = tm.maml.adapt(loss, params, support, lr=rate, steps=steps)
            np.testing.assert_allclose(found, model(adapted, x).numpy(), rtol=1e-3, atol=1e-4)


def test_the_picture_of_the_oracle_is_of_the_wave_that_it_is_told(drawn):
    one = EXPERIMENTS["sinusoid-oracle"]
    params = larger(one.init())
    shown = drawn(one, params)
    told = one.problem.replace(k_shot=10).tasks("test").sample(Schedule().rng("test"), 3)
    for i in range(3):
        points, fits = shown[3 + i]
        assert points.x.shape == (10, 1) and list(fits) == [0]
        x = np.linspace(-5, 5, 200, dtype=np.float32)[:, None]
        wave = np.broadcast_to(told.support.x[i, :1, 1:], (200, 2))
        expected = one.problem.model(params, np.concatenate([x, wave], -1)).numpy()
        np.testing.assert_allclose(fits[0], expected, rtol=1e-5, atol=1e-6)


def test_train_and_evaluate_test_the_trained_network_as_asked(monkeypatch, tmp_path):
    tested = []

    def test(self, params, n_tasks, progress):
        tested.append((self, params, n_tasks))
        return {}

    load = lambda self, data: (self.with_images(coloured(28, 1)), str(data))
    monkeypatch.setattr(OmniglotMLP, "load", load)
    monkeypatch.setattr(Experiment, "test", test)
    monkeypatch.setattr(Experiment, "figures", lambda *_: [])
    monkeypatch.setattr(launch, "table", lambda *_: "")
    settings = {"steps": 1, "meta_batch": 2, "seed": 3, "meta_lr": 0.05}
    options = [f"{flag(name)}={value}" for name, value in settings.items()]
    run = str(tmp_path / "run")
    assert cli.main(["train", "omniglot-mlp", *options, "--out", run]) == 0
    assert cli.main(["evaluate", run, "--test-steps=7", "--test-query=2", "--tasks=50"]) == 0
    one = EXPERIMENTS["omniglot-mlp"].replace(**settings)
    assert [x[0] for x in tested] == [one, one.replace(test_steps=7, test_query=2)]
    assert [x[2] for x in tested] == [600, 50]
    start = one.init()
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


def test_too_few_images_are_found_before_the_training():
    few = {split: images[:, :19] for split, images in coloured(16, 3).items()}
    baselines = EXPERIMENTS["miniimagenet-pretrained"].problem.replace(image_size=16)
    with pytest.raises(UserError, match=r"'val' .* --k-shot 5 and --test-query 15"):
        baselines.with_images(few)
    assert baselines.replace(test_query=14).with_images(few).k_shot == 1
    with pytest.raises(UserError, match=r"'train' .* --k-shot 5 and --n-query 15"):
        MiniImageNet(image_size=16, k_shot=5).with_images(few)


def test_a_set_keeps_its_title_when_it_is_read_again(tmp_path, monkeypatch):
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
            first, kept = MiniImageNet(n_way=2, n_query=1, image_size=16).load(root)
            again, kept_again = MiniImageNet(n_way=2, n_query=1, image_size=16).load(kept)
        assert kept == kept_again and first.data == again.data == title
        assert json.dumps(kept) and miniimagenet.find(kept) == miniimagenet.find(root)


@pytest.mark.parametrize(
    ("name", "settings", "label"),
    [
        ("omniglot", {}, "MAML"),
        ("omniglot-first-order", {}, "MAML, first order"),
        ("omniglot-mlp", {}, "MAML, no conv"),
        ("omniglot-mlp", {"first_order": True}, "MAML, no conv, first order"),
        ("omniglot-mlp", {"inner_steps": 0}, "Pretrained, no conv"),
        ("omniglot", {"inner_steps": 0}, "Pretrained"),
        ("sinusoid", {"inner_steps": 0}, "Pretrained"),
        ("sinusoid-pretrained", {}, "Pretrained"),
        ("sinusoid-oracle", {}, "Oracle"),
        ("omniglot-protonet", {}, "ProtoNet"),
        ("omniglot-reptile", {}, "Reptile"),
        ("omniglot-statistician", {}, "Neural statistician"),
        ("omniglot-mann", {}, "MANN, no conv"),
        ("omniglot-memory-module", {}, "Memory module"),
        ("miniimagenet-meta-lstm", {}, "Meta-learner LSTM"),
    ],
)
def test_a_method_is_called_what_it_is(name, settings, label):
    assert EXPERIMENTS[name].replace(**settings).label == label
