"""The paper's experiments: protocols, baselines, and that each starts by its name."""

import csv

import glyphs
import numpy as np
import pytest

import tinymaml as tm
from tinymaml import cli, nn
from tinymaml.experiments import (
    EXPERIMENTS,
    MiniImageNet,
    MiniImageNetPretrained,
    Omniglot,
    Sinusoid,
    SinusoidOracle,
    from_config,
)
from tinymaml.experiments.baselines import TrainingBatches
from tinymaml.experiments.evaluation import score_tasks
from tinymaml.experiments.runs import Run
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
    experiment = Omniglot(n_way=3)
    rng = np.random.default_rng(1)
    x, y = rng.random((2, 3, 28, 28, 1), np.float32), np.array([[0, 1, 2], [2, 0, 1]])
    tasks = Task(Batch(x, y), Batch(x[::-1], y))
    params = experiment.model.init(rng)
    scores = score_tasks(
        experiment, params, [tasks], (experiment.score, [0, 1]), (experiment.inductive_score, [1])
    )
    assert [s.shape for s in scores] == [(2, 2), (2, 1)]
    for t in range(2):
        support, query = Batch(x[t], y[t]), Batch(x[::-1][t], y[t])
        adapted = tm.maml.adapt(experiment.loss, params, support, lr=experiment.rates(params))
        for column, extra in zip(scores, ({}, experiment.model.statistics(adapted, support.x))):
            answers = experiment.model(adapted | extra, query.x).numpy().argmax(-1)
            assert column[t, -1] == np.mean(answers == query.y)


def test_both_protocols_on_another_array_library():
    """Scores on the stand-in for CuPy, as on NumPy."""
    experiment = Omniglot(n_way=3)
    images = np.random.default_rng(2).integers(0, 256, (4, 8, 28, 28, 1), np.uint8)
    experiment.keep(dict.fromkeys(("train", "val", "test"), images))
    results = []
    for name in ("numpy", "strict"):
        with tm.use_backend(name):
            params = experiment.model.init(experiment.rng("weights"))
            results.append(experiment.test(params, 12)["rows"])
    assert results[0] == results[1]


def test_training_without_inner_steps_is_training_on_the_points_of_all_tasks_together():
    experiment = EXPERIMENTS["sinusoid-pretrained"]
    params = experiment.model.init(experiment.rng("weights"))
    tasks = experiment.training_tasks(1)
    value, gradient = experiment.gradient(params, tasks)
    x, y = (a.reshape(250, 1) for a in tasks.query)
    together = tm.nn.mse_loss(experiment.model(params, x), y)
    expected = tm.grad(together, params)
    assert float(value) == pytest.approx(together.item(), rel=1e-5)
    for name, g in gradient.items():
        np.testing.assert_allclose(g.numpy(), expected[name].numpy(), rtol=1e-4, atol=1e-6)


def test_the_baseline_is_fine_tuned_by_the_rates_of_the_figures_and_maml_by_its_own():
    baseline = EXPERIMENTS["sinusoid-pretrained"]
    assert [baseline.tuned(k).inner_lr for k in (5, 10, 20)] == [0.01, 0.02, 0.02]
    assert [Sinusoid().tuned(k).inner_lr for k in (5, 10, 20)] == [0.01] * 3
    chosen = Sinusoid(inner_steps=0, inner_lr=0.005)
    assert [chosen.tuned(k).inner_lr for k in (5, 10, 20)] == [0.005] * 3


def test_the_oracle_is_told_the_task():
    tasks = SinusoidOracle().tasks("test", 5).sample(np.random.default_rng(0), 40)
    for x, y in tasks:
        point, amplitude, phase = np.moveaxis(x, -1, 0)
        np.testing.assert_allclose(y[..., 0], amplitude * np.sin(point - phase), rtol=1e-5)
    params = SinusoidOracle().model.init(np.random.default_rng(0))
    curve = SinusoidOracle().curve(params, tasks)
    assert len(curve["mean"]) == 11 and len(set(curve["mean"])) == 1


def test_the_tasks_of_a_step_depend_on_seed_and_step_alone():
    first, again = (Sinusoid(seed=3).training_tasks(7) for _ in range(2))
    np.testing.assert_array_equal(first.support.x, again.support.x)
    for other in (Sinusoid(seed=4).training_tasks(7), Sinusoid(seed=3).training_tasks(8)):
        assert not np.array_equal(first.support.x, other.support.x)


def pictures(classes=6, count=20, size=16, seed=0):
    return list(
        np.random.default_rng(seed).integers(0, 256, (classes, count, size, size, 3), np.uint8)
    )


def photographs(kind, **settings):
    experiment = kind(image_size=16, filters=4, **settings)
    experiment.keep({split: pictures(seed=i) for i, split in enumerate(("train", "val", "test"))})
    return experiment


@pytest.mark.parametrize(("k_shot", "limit"), [(1, 10 / 75), (5, 10 / 15)])
def test_the_meta_gradient_is_clipped_where_the_authors_clip_theirs(k_shot, limit):
    """They clip the gradient of a sum over 75 query images that is divided by K at +-10."""
    whole, clipped = (photographs(MiniImageNet, k_shot=k_shot, clip=c) for c in (0.0, 10.0))
    params = {n: p * 40 for n, p in whole.model.init(np.random.default_rng(0)).items()}
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


def test_nearest_neighbours_find_copies_of_the_support():
    experiment = photographs(MiniImageNetPretrained)
    params = experiment.model.init(np.random.default_rng(0))
    tasks = experiment.tasks("test").sample(np.random.default_rng(0), 3)
    copies = tasks._replace(query=Batch(tasks.support.x[:, ::-1], tasks.support.y[:, ::-1]))
    assert experiment._nearest(params, [copies])["mean"] == [1.0]
    other = Batch(copies.query.x, (copies.query.y + 1) % 5)
    assert experiment._nearest(params, [copies._replace(query=other)])["mean"] == [0.0]


def test_the_baselines_are_tested_with_one_and_five_shots():
    experiment = photographs(MiniImageNetPretrained)
    colours = [np.full_like(images, 40 * c) for c, images in enumerate(pictures())]
    experiment.keep(dict.fromkeys(("train", "val", "test"), colours))
    object.__setattr__(experiment, "rates_tried", (1e9, 0.1))  # only the second can be learned by
    object.__setattr__(experiment, "tuning_tasks", 4)
    results = experiment.test(experiment.model.init(np.random.default_rng(0)), 3)
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
    assert "Nearest neighbour" in experiment.table(results)


def test_photographs_under_another_name_are_not_beside_the_paper():
    experiment = photographs(MiniImageNet)
    assert experiment.printed() == "48.7 +- 1.84 %"
    experiment.hold(experiment._images, "grocerystore")
    results = experiment.test(experiment.model.init(np.random.default_rng(0)), 3)
    assert not results["paper"] and {row["data"] for row in results["rows"]} == {"grocerystore"}
    assert "images: grocerystore, 16x16 pixels, 6/6/6 classes" in results["protocol"]


def test_other_splits_of_omniglot_are_not_beside_the_paper():
    assert Omniglot(split="lake").printed() == "" and Omniglot().printed() == "98.7 +- 0.4 %"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_stored_configuration_gives_the_experiment_again(name):
    assert from_config(name, EXPERIMENTS[name].config()) == EXPERIMENTS[name]


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


SMALL = {
    "sinusoid": ("--steps", 100),
    "omniglot": ("--steps", 1, "--meta-batch", 2),
    "miniimagenet": ("--steps", 10, "--image-size", 16, "--filters", 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_starts_by_its_name(name, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TINYMAML_CACHE", str(data / "cache"))
    monkeypatch.setattr(cli, "TEST_TASKS", 4)
    kind = name.split("-")[0]
    options = [*map(str, SMALL[kind]), "--out", str(tmp_path / "run")]
    if kind != "sinusoid":
        options += ["--data", str(data / kind.replace("miniimagenet", "photographs"))]
    assert cli.main(["train", name, *options]) == 0
    results = Run(tmp_path / "run").read_json("results.json")
    said = capsys.readouterr().out
    assert results["experiment"] == name and results["rows"] and results["protocol"] in said
    assert {"method", "setting", "steps", "batch_norm", "mean", "ci95"} <= results["rows"][0].keys()


def test_the_list_shows_every_experiment_and_the_papers_numbers(capsys):
    assert cli.main(["list"]) == 0
    said = capsys.readouterr().out
    for name in EXPERIMENTS:
        assert f"\n{name} " in said
    for number in ("0.67 / 0.38 / 0.35", "98.7 +- 0.4 %", "48.07 +- 1.75 %", "89.7 +- 1.1 %"):
        assert number in said
