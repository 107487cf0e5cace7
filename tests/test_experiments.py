"""The paper's experiments: protocols, baselines, and that each starts by its name."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import glyphs
import numpy as np
import pytest

import tinymaml as tm
from tinymaml import cli, nn
from tinymaml.errors import UserError
from tinymaml.experiments import (
    BESIDE,
    EXPERIMENTS,
    GROUPS,
    Experiment,
    Schedule,
    from_config,
    launch,
    methods,
)
from tinymaml.experiments.classification import TrainingBatches
from tinymaml.experiments.evaluation import score_tasks
from tinymaml.experiments.runs import Run
from tinymaml.experiments.sinusoid import InformedSinusoids, Sinusoids
from tinymaml.experiments.tables import table
from tinymaml.tasks import Batch, Task

pytestmark = pytest.mark.numpy_only


def float64(model, seed=0):
    return model.init(np.random.default_rng(seed), np.float64)


NETWORKS = {
    "stride": (nn.conv4(3, filters=4), (28, 28, 1)),
    "pool": (nn.conv4(3, channels=3, filters=4, downsample="pool", image_size=32), (32, 32, 3)),
    "mlp": (nn.Sequential(nn.Flatten(), *nn.mlp((16, 8, 3), batch_norm=True).layers), (4, 4, 1)),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("lead", [(), (2,)])
def test_a_batch_normalised_by_its_own_statistics_is_batch_norm(network, lead):
    model, shape = NETWORKS[network]
    x = np.random.default_rng(0).normal(size=(*lead, 6, *shape))
    params = float64(model)
    if lead:
        params = tm.maml.per_task(params, *lead)
    fixed = params | model.statistics(params, x)
    np.testing.assert_allclose(model(fixed, x).numpy(), model(params, x).numpy(), atol=1e-12)


@pytest.mark.parametrize("network", NETWORKS)
def test_by_the_statistics_of_the_support_no_query_sees_another(network):
    model, shape = NETWORKS[network]
    rng = np.random.default_rng(0)
    support, query = rng.normal(size=(2, 3, *shape)), rng.normal(size=(2, 6, *shape))
    params = tm.maml.per_task(float64(model), 2)
    fixed = params | model.statistics(params, support)
    whole, alone = model(fixed, query).numpy(), model(fixed, query[:, :1]).numpy()
    np.testing.assert_allclose(alone, whole[:, :1], atol=1e-12)
    assert abs(model(params, query[:, :2]).numpy() - model(params, query).numpy()[:, :2]).max() > 0


def test_given_statistics_are_differentiable_to_second_order():
    layer = nn.BatchNorm(3)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, 4, 2, 2, 3)), *rng.uniform(0.5, 2, (4, 2, 3))]

    def f(x, *values):
        return layer(dict(zip(("gamma", "beta", "mean", "var"), values)), x)

    tm.gradcheck(f, tuple(arrays))
    tm.gradgradcheck(f, tuple(arrays))


def test_the_inductive_score_is_the_share_of_right_answers_by_support_statistics():
    experiment = EXPERIMENTS["omniglot"].replace(n_way=3)
    model, rng = experiment.problem.model, np.random.default_rng(1)
    x, y = rng.random((2, 3, 28, 28, 1), np.float32), np.array([[0, 1, 2], [2, 0, 1]])
    tasks = Task(Batch(x, y), Batch(x[::-1], y))
    params = model.init(rng)
    for inductive in (False, True):
        learner = replace(experiment.learner, inductive=inductive)
        scores = score_tasks(learner, params, [tasks], experiment.problem.score, steps=[1])
        assert scores.shape == (2, 1)
        for t in range(2):
            support, query = Batch(x[t], y[t]), Batch(x[::-1][t], y[t])
            adapted = tm.maml.adapt(learner.task_loss, params, support, lr=learner.lr)
            fixed = model.statistics(adapted, support.x) if inductive else {}
            answers = model(adapted | fixed, query.x).numpy().argmax(-1)
            assert scores[t, 0] == np.mean(answers == query.y)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("omniglot", {"test_steps": 2}),
        ("omniglot-protonet", {"train_way": 4}),
        ("omniglot-reptile", {"test_steps": 2}),
        ("omniglot-mann", {"views": 3}),
        ("omniglot-memory-module", {"train_way": 4, "views": 6, "filters": 2}),
    ],
)
def test_training_and_test_on_another_array_library(name, more):
    """On the stand-in for CuPy as on NumPy."""
    images = np.random.default_rng(2).integers(0, 256, (4, 12, 28, 28, 1), np.uint8)
    experiment = EXPERIMENTS[name].replace(n_way=3, meta_batch=2, **more)
    problem = experiment.problem.with_images(dict.fromkeys(("train", "val", "test"), images))
    experiment, results = replace(experiment, problem=problem), []
    for library in ("numpy", "strict"):
        with tm.use_backend(library):
            params = experiment.init()
            value, gradient = experiment.gradient(params, experiment.training_tasks(1))
            gradient = {n: g.numpy() for n, g in gradient.items()}
            results.append((float(value), gradient, experiment.test(params, 12)["rows"]))
    (value, gradient, rows), (other_value, other, other_rows) = results
    assert other_rows == rows and other_value == pytest.approx(value, rel=1e-3)
    # the bias below a batch norm has noise for a gradient, of which Reptile's Adam makes steps
    names = [n for n in gradient if "conv2d" not in n or "weight" in n]
    far, size = (
        np.sqrt(sum((g**2).sum() for g in of))
        for of in ([other[n] - gradient[n] for n in names], [gradient[n] for n in names])
    )
    assert far < 0.01 * size


def test_training_without_inner_steps_is_training_on_the_points_of_all_tasks_together():
    experiment = EXPERIMENTS["sinusoid-pretrained"]
    params = experiment.init()
    tasks = experiment.training_tasks(1)
    value, gradient = experiment.gradient(params, tasks)
    x, y = (a.reshape(250, 1) for a in tasks.query)
    together = tm.nn.mse_loss(experiment.problem.model(params, x), y)
    expected = tm.grad(together, params)
    assert float(value) == pytest.approx(together.item(), rel=1e-5)
    for name, g in gradient.items():
        np.testing.assert_allclose(g.numpy(), expected[name].numpy(), rtol=1e-4, atol=1e-6)


def test_the_oracle_is_told_the_task():
    oracle = EXPERIMENTS["sinusoid-oracle"]
    tasks = InformedSinusoids(k_shot=5).tasks("test").sample(np.random.default_rng(0), 40)
    for x, y in tasks:
        point, amplitude, phase = np.moveaxis(x, -1, 0)
        np.testing.assert_allclose(y[..., 0], amplitude * np.sin(point - phase), rtol=1e-5)
    for curve in oracle.test(oracle.init(), 40)["curves"].values():
        assert len(curve["mean"]) == 11 and len(set(curve["mean"])) == 1


def test_the_tasks_of_a_step_depend_on_seed_and_step_alone():
    seeded = [EXPERIMENTS["sinusoid"].replace(seed=seed) for seed in (3, 3, 4)]
    first, again = (one.training_tasks(7) for one in seeded[:2])
    np.testing.assert_array_equal(first.support.x, again.support.x)
    for other in (seeded[2].training_tasks(7), seeded[0].training_tasks(8)):
        assert not np.array_equal(first.support.x, other.support.x)


def pictures(classes=6, count=20, size=16, seed=0):
    return list(
        np.random.default_rng(seed).integers(0, 256, (classes, count, size, size, 3), np.uint8)
    )


def photographs(name, images=None, title=None, **settings):
    experiment = EXPERIMENTS[name].replace(image_size=16, filters=4, **settings)
    images = images or {s: pictures(seed=i) for i, s in enumerate(("train", "val", "test"))}
    return replace(experiment, problem=experiment.problem.with_images(images, title))


@pytest.mark.slow
@pytest.mark.parametrize(("k_shot", "limit"), [(1, 10 / 75), (5, 10 / 15)])
def test_the_meta_gradient_is_clipped_where_the_authors_clip_theirs(k_shot, limit):
    """They clip the gradient of a sum over 75 query images that is divided by K at +-10."""
    whole, clipped = (photographs("miniimagenet", k_shot=k_shot, clip=c) for c in (0.0, 10.0))
    params = {n: p * 40 for n, p in whole.init().items()}
    params = {n: tm.tensor(p.data, requires_grad=True) for n, p in params.items()}
    tasks = whole.training_tasks(1)
    (_, free), (_, bound) = (e.gradient(params, tasks) for e in (whole, clipped))
    assert max(abs(g.numpy()).max() for g in free.values()) > limit
    for name, g in free.items():
        np.testing.assert_allclose(bound[name].numpy(), g.numpy().clip(-limit, limit), rtol=1e-6)


def test_training_batches_are_labelled_by_class_and_every_image_is_as_likely():
    images = [np.full((n, 1, 1, 1), 10 * i + n, np.uint8) for i, n in enumerate((1, 2, 5))]
    task = TrainingBatches(images, 16).sample(np.random.default_rng(0), 500)
    assert task.support.x.shape == (500, 0, 1, 1, 1) and task.query.x.shape == (500, 16, 1, 1, 1)
    values = np.array([class_images[0].item() for class_images in images])
    np.testing.assert_array_equal((task.query.x * 255).round()[..., 0, 0, 0], values[task.query.y])
    share = np.bincount(task.query.y.ravel()) / task.query.y.size
    np.testing.assert_allclose(share, [1 / 8, 2 / 8, 5 / 8], atol=0.02)


DONE = {"experiment": "miniimagenet-pretrained", "trained_steps": 30_000}


def test_the_baselines_are_tested_with_one_and_five_shots():
    colours = [np.full_like(images, 40 * c) for c, images in enumerate(pictures())]
    images = dict.fromkeys(("train", "val", "test"), colours)
    # only the second of the rates can be learned by
    settings = {"rates_tried": (1e9, 0.1), "tuning_tasks": 4}
    experiment = photographs("miniimagenet-pretrained", images, **settings)
    results = experiment.test(experiment.init(), 3)
    rows = [(row["method"], row["setting"], row["batch_norm"]) for row in results["rows"]]
    assert rows == [
        (method, f"5-way {k}-shot", kind)
        for k in (1, 5)
        for method, kind in (
            ("Class means, raw pixels", None),
            ("Nearest neighbour", "training images"),
            ("Fine-tuning", "query batch"),
            ("Fine-tuning", "support batch"),
        )
    ]
    assert rows[0][0].endswith("pixels") and results["rows"][0]["mean"] == 1.0
    assert "0.1 (1-shot)" in results["protocol"] and "0.1 (5-shot)" in results["protocol"]
    said = table(experiment.problem, results | DONE)
    assert "Nearest neighbour" in said and "iverged" not in said and "Trained for" not in said


def test_photographs_under_another_name_are_not_beside_the_paper():
    experiment = photographs("miniimagenet")
    assert experiment.problem.printed("MAML") == "48.7 +- 1.84 %"
    renamed = photographs("miniimagenet", title="grocerystore")
    results = renamed.test(renamed.init(), 3)
    assert not results["paper"] and {row["data"] for row in results["rows"]} == {"grocerystore"}
    assert "images: grocerystore, 16x16 pixels, 6/6/6 classes" in results["protocol"]


def test_other_splits_of_omniglot_are_not_beside_the_paper():
    problem = EXPERIMENTS["omniglot"].problem
    assert problem.printed("MAML") == "98.7 +- 0.4 %"
    assert problem.replace(split="lake").printed("MAML") == ""


def test_other_regressions_are_not_beside_the_paper():
    class Others(Sinusoids):
        data = "others"

    assert Sinusoids().printed("MAML") and Others().printed("MAML") == ""
    experiment = Experiment(EXPERIMENTS["sinusoid"].method, Others(), Schedule())
    assert experiment.test(experiment.init(), 2)["paper"] == {}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_stored_configuration_gives_the_experiment_again(name):
    changed = EXPERIMENTS[name].replace(steps=77, seed=3, meta_lr=0.25)
    for experiment in (EXPERIMENTS[name], changed):
        assert from_config(name, json.loads(json.dumps(experiment.config()))) == experiment
    assert changed != EXPERIMENTS[name]


STORED = sorted((Path(__file__).parents[1] / "docs" / "results").glob("*/config.json"))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_the_settings_of_stored_runs_are_read(path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    experiment = from_config(stored["experiment"], stored["settings"])
    found, ignored = experiment.config(), stored["settings"].keys() - experiment.options()
    assert found == found | {k: v for k, v in stored["settings"].items() if k not in ignored}
    if not isinstance(experiment.method, (methods.Pretrained, methods.Oracle, methods.Baselines)):
        assert not ignored


def test_what_is_not_a_setting_is_not_replaced():
    with pytest.raises(TypeError, match="'inner_lr' is not a setting of this experiment"):
        EXPERIMENTS["sinusoid-oracle"].replace(inner_lr=0.1)
    one = EXPERIMENTS["sinusoid"].replace(steps=5, k_shot=3, inner_lr=0.2)
    assert one == Experiment(
        methods.MAML(inner_lr=0.2),
        EXPERIMENTS["sinusoid"].problem.replace(k_shot=3),
        replace(EXPERIMENTS["sinusoid"].schedule, steps=5),
    )
    assert isinstance(one.schedule, Schedule) and EXPERIMENTS["sinusoid"].schedule.steps == 70_000


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Tiny images in both layouts, under the folder that TINYMAML_DATA would name."""
    from PIL import Image

    root = tmp_path_factory.mktemp("data")
    (root / "omniglot").mkdir()
    for part in ("images_background", "images_evaluation"):
        glyphs.write_zip(root / "omniglot", part)
    folder = root / "photographs"
    (folder / "images").mkdir(parents=True)
    for i, split in enumerate(("train", "val", "test")):
        rows = []
        for label, images in enumerate(pictures(seed=i)):
            for number, image in enumerate(images):
                file = f"{split}{label}_{number}.png"
                Image.fromarray(image).save(folder / "images" / file)
                rows.append((file, f"{split}{label}"))
        with open(folder / f"{split}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("filename", "label"), *rows])
    return root


ROBOTS = ("navigation", "cheetah", "ant")  # and a point
SMALL = dict.fromkeys(ROBOTS, ("--steps", 1, "--meta-batch", 2, "--rollouts", 2)) | {
    "sinusoid": ("--steps", 100),
    "omniglot": ("--steps", 1, "--meta-batch", 2),
    "omniglot-protonet": ("--steps", 1, "--train-way", 10),
    "omniglot-siamese-koch": ("--steps", 1, "--image-size", 28),
    "omniglot-memory-module": ("--steps", 1, "--train-way", 10, "--filters", 2, "--views", 4),
    "miniimagenet": ("--steps", 10, "--image-size", 16, "--filters", 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_starts_by_its_name(name, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TINYMAML_CACHE", str(data / "cache"))
    kind = name.split("-")[0]
    if kind in ("cheetah", "ant"):
        pytest.importorskip("mujoco")
    options = [*map(str, SMALL.get(name, SMALL[kind])), "--out", str(tmp_path / "run")]
    options += ["--test-tasks", "4"]
    if kind in ("omniglot", "miniimagenet"):
        options += ["--data", str(data / kind.replace("miniimagenet", "photographs"))]
    assert cli.main(["train", name, *options]) == 0
    results = Run(tmp_path / "run").read_json("results.json")
    said = capsys.readouterr().out
    assert results["experiment"] == name and results["rows"] and results["protocol"] in said
    assert {"method", "setting", "steps", "batch_norm", "mean", "ci95"} <= results["rows"][0].keys()


def test_the_list_shows_every_experiment_and_the_papers_numbers(capsys):
    assert cli.main(["list"]) == 0
    said = capsys.readouterr().out
    beside = {n for n in EXPERIMENTS if n.endswith(tuple(BESIDE)) and n.split("-")[0] in ROBOTS}
    for name in EXPERIMENTS:
        assert (f"\n{name} " in said) == (name not in beside)
    for number in ("0.67 / 0.38 / 0.35", "98.7 +- 0.4 %", "48.07 +- 1.75 %", "89.7 +- 1.1 %"):
        assert number in said
    groups = {}
    for line in said.split("\n\n")[1:-2]:
        group, *rows = line.splitlines()
        groups[group] = {row.split()[0] for row in rows}
    also = ", ".join(f"NAME-{end}" for end in BESIDE)
    acting = groups.pop(f"reinforcement; each also as {also}")
    assert beside == {f"{name}-{end}" for name in acting for end in BESIDE}
    assert set(groups) < set(GROUPS)
    assert set().union(acting, beside, *groups.values()) == set(EXPERIMENTS)
    assert "omniglot" in groups["optimisation"] and "omniglot-protonet" in groups["metric"]


class Zero:
    """A learner with the three methods alone, which predicts 0 times its one parameter."""

    def init(self, rng):
        return {"scale": tm.tensor(np.float32(1), requires_grad=True)}

    def objective(self, params, tasks):
        return (params["scale"] * np.ones(2, np.float32)).sum()

    def predict(self, params, support, x):
        return params["scale"] * (0 * x)


class ZeroMethod(methods.Method):
    name = "Zero"

    def learner(self, problem, inductive=False):
        return Zero()


def test_a_learner_with_three_methods_is_trained_and_tested_on_sinusoids():
    one = Experiment(ZeroMethod(), Sinusoids(), Schedule(steps=1))
    value, gradient = one.gradient(one.init(), one.training_tasks(1))
    assert value == 2 and gradient["scale"].item() == 2
    results = one.test(one.init(), 4)
    assert results["protocol"].endswith("no adaptation")
    assert len({row["mean"] for row in results["rows"] if row["setting"] == "K = 5"}) == 1


@pytest.mark.parametrize("name", ["omniglot-reptile", "omniglot-20way-tied"])
def test_a_rate_that_falls_to_0_keeps_its_number_of_steps(name, tmp_path):
    run = Run(tmp_path / "run")
    settings = EXPERIMENTS[name].replace(steps=5).config()
    run.start({"experiment": name, "settings": settings, "data": None})
    with pytest.raises(UserError, match="--steps differs from the run's 5, over which"):
        launch.train_run(name, {"steps": 6}, str(run.path), resume=True)
