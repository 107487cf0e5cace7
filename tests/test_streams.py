"""Streams of images: what is shown when, what is known when, and how a stream is scored."""

from dataclasses import replace

import numpy as np
import pytest

import tinymaml as tm
from tinymaml.engine import backend
from tinymaml.errors import UserError
from tinymaml.experiments import EXPERIMENTS, Omniglot, Schedule, from_config, problem
from tinymaml.experiments.evaluation import score_tasks
from tinymaml.experiments.runs import Run
from tinymaml.experiments.streams import OmniglotStreams
from tinymaml.experiments.training import train
from tinymaml.tasks import Streams
from tinymaml.tasks.streams import earlier_views, late


def numbered(classes=12, count=20, side=4):
    """Images whose first pixel says of which class they are, and the second which of them."""
    images = np.zeros((classes, count, side, side, 1), np.uint8)
    images[:, :, 0, 0, 0] = 1 + np.arange(classes)[:, None]
    images[:, :, 1, 1, 0] = 1 + np.arange(count)
    return images


def drawn(n=300, seed=0, **options):
    """Streams, with the class and the number of each image."""
    tasks = Streams(numbered(), **options).sample(np.random.default_rng(seed), n)
    x = np.rint(tasks.query.x[..., 0] * 255).astype(int)
    return tasks, x[..., 0, 0] - 1, x[..., 1, 1] - 1


def test_what_was_there_before_by_hand():
    y = np.array([[2, 2, 0, 2, 0, 1], [0, 1, 2, 0, 1, 2]])
    np.testing.assert_array_equal(earlier_views(y), [[0, 1, 0, 2, 1, 0], [0, 0, 0, 1, 1, 1]])
    np.testing.assert_array_equal(late(y), [[-1, 2, 2, 0, 2, 0], [-1, 0, 1, 2, 0, 1]])


@pytest.mark.parametrize("rounds", [False, True])
def test_a_stream_has_each_class_equally_often_and_no_image_twice(rounds):
    tasks, classes, numbers = drawn(n_way=5, views=4, rounds=rounds)
    y = tasks.query.y
    assert tasks.query.x.shape == (300, 20, 4, 4, 1) and tasks.query.x.dtype == np.float32
    np.testing.assert_array_equal(np.sort(y), np.tile(np.repeat(np.arange(5), 4), (300, 1)))
    for labels, kinds, which in zip(y, classes, numbers):
        pairs = set(zip(labels.tolist(), kinds.tolist()))
        assert len(pairs) == 5 and len({kind for _, kind in pairs}) == 5
        assert len(set(zip(kinds.tolist(), which.tolist()))) == 20


def test_the_label_of_an_image_is_told_with_the_next_one():
    tasks, _, _ = drawn(n_way=5, views=4)
    np.testing.assert_array_equal(tasks.support.x, tasks.query.x)
    np.testing.assert_array_equal(tasks.support.y[:, 1:], tasks.query.y[:, :-1])
    assert (tasks.support.y[:, 0] == -1).all()


def test_in_rounds_each_class_is_shown_once_before_any_is_shown_twice():
    tasks, _, _ = drawn(n_way=5, views=4, rounds=True)
    y = tasks.query.y
    np.testing.assert_array_equal(np.sort(y.reshape(300, 4, 5)), np.tile(np.arange(5), (300, 4, 1)))
    assert len(np.unique(y[:, 5:10], axis=0)) > 80  # of 120 orders: none is preferred
    free = drawn(n_way=5, views=4)[0].query.y
    assert (np.sort(free[:, :5]) == np.arange(5)).all(1).mean() < 0.15  # 4^5 / C(20, 5) = 0.066


def told(classes, y):
    """How far the counts of 12 classes with 3 labels at 6 steps are from equal ones.

    Of 6000 streams 167 are expected, with a standard deviation of 13.
    """
    counts = np.zeros((12, 3, 6))
    np.add.at(counts, (classes, y, np.arange(6)), 1)
    return np.abs(counts - 6000 / 12 / 3).max()


def test_labels_and_the_order_say_nothing_about_a_class():
    tasks, classes, _ = drawn(n=6000, n_way=3, views=2)
    assert told(classes, tasks.query.y) < 60
    # of what would say something, this notices each
    assert told(classes, np.sort(tasks.query.y)) > 60  # labels in order
    ranks = (classes[:, None] < classes[:, :, None]).sum(-1) // 2  # labels by the number of a class
    assert told(classes, ranks) > 60


def test_a_class_is_turned_by_one_angle_in_a_stream():
    images = np.zeros((6, 4, 4, 4, 1), np.uint8)
    images[:, :, 0, 0] = 255
    tasks = Streams(images, 3, 4, rotate=True).sample(np.random.default_rng(0), 200)
    corners = tasks.query.x[..., [0, 0, -1, -1], [0, -1, 0, -1], 0].argmax(-1)
    seen = set()
    for y, where in zip(tasks.query.y, corners):
        angles = [set(where[y == label].tolist()) for label in range(3)]
        assert [len(found) for found in angles] == [1] * 3
        seen.update(*angles)
    assert seen == {0, 1, 2, 3}


def test_equal_generators_draw_equal_streams():
    first, second, other = (drawn(n=3, seed=seed)[0] for seed in (1, 1, 2))
    for a, b in zip((*first.support, *first.query), (*second.support, *second.query)):
        np.testing.assert_array_equal(a, b)
    assert (first.query.y != other.query.y).any()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"views": 1}, "views is 1; a stream needs at least 2 images of each class"),
        ({"views": 2.5}, "views is 2.5; a stream needs at least 2"),
        ({"n_way": 13}, "13-way episodes need 13 classes, but there are 12"),
        ({"views": 21}, "takes 21 different images of a class, but class 0 has 20"),
    ],
)
def test_bad_input_is_one_sentence(options, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        Streams(numbered(), **options)
    assert "\n" not in str(caught.value)


def test_a_stream_is_scored_by_the_number_of_earlier_views():
    y = np.array([[1, 0, 1, 0], [0, 0, 1, 1]])
    said = np.array([[1, 1, 1, 0], [1, 0, 1, 0]])
    logits = np.eye(2)[said]
    problem = OmniglotStreams(n_way=2, views=2)
    np.testing.assert_array_equal(problem.score(logits, y), [[0.5, 1.0], [0.5, 0.5]])
    logits[1, 0] = 7  # as good as any: half of the answer
    np.testing.assert_array_equal(problem.score(logits, y), [[0.5, 1.0], [0.75, 0.5]])
    logits[1, 0, 0] = np.inf
    np.testing.assert_array_equal(problem.score(logits, y), [[0.5, 1.0], [np.nan, np.nan]])


# Experiments on streams


def photographs(seed=0):
    """Images of each split, which the first pixel tells."""
    rng, splits = np.random.default_rng(seed), {}
    for colour, split in ((40, "train"), (120, "val"), (200, "test")):
        splits[split] = rng.integers(0, 256, (6, 20, 28, 28, 1), np.uint8)
        for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1)):  # stays there if turned
            splits[split][:, :, i, j] = colour
    return splits


def small(name, **settings):
    often = {"log_every": 2, "checkpoint_every": 2, "validate_every": 2, "validation_tasks": 3}
    found = EXPERIMENTS[name].replace(meta_batch=2, decay="none", **often, **settings)
    if name == "omniglot-memory-module":
        found = found.replace(filters=2, width=8, train_way=6)
    return replace(found, problem=found.problem.with_images(photographs()))


def contents(run):
    with np.load(run / "checkpoint.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


both = pytest.mark.parametrize("name", ["omniglot-mann", "omniglot-memory-module"])


@pytest.mark.slow
@both
def test_a_resumed_run_equals_one_without_a_break_bit_for_bit(name, tmp_path):
    """Streams, dropout and memories included."""
    runs = [Run(tmp_path / part) for part in ("whole", "parts")]
    for run in runs:
        run.start({"experiment": name, "settings": small(name, steps=4).config()})
    train(small(name, steps=4, views=3), runs[0], progress=False)
    train(small(name, steps=2, views=3), runs[1], progress=False)
    train(small(name, steps=4, views=3), runs[1], resume=True, progress=False)
    whole, parts = map(contents, runs)
    assert whole.keys() == parts.keys()
    for key, array in whole.items():
        np.testing.assert_array_equal(parts[key], array)
    rows = [run.read_metrics() for run in runs]
    for of in rows:
        for row in of:
            del row["seconds"]
    assert rows[0] == rows[1] and rows[0][0]["validation"] is not None


@both
def test_training_validation_and_test_read_each_their_own_classes(name, monkeypatch):
    one, read = small(name, views=2), []

    def colour(x):
        (found,) = set(np.rint(np.asarray(x)[..., 0, 0, 0] * 255).astype(int).ravel().tolist())
        return {40: "train", 120: "val", 200: "test"}[found]

    def watched(learner, params, blocks, score, **options):
        blocks = list(blocks)
        for tasks in blocks:
            assert colour(tasks.support.x) == colour(tasks.query.x)
            read.append((type(learner).__name__, colour(tasks.query.x)))
        return score_tasks(learner, params, blocks, score, **options)

    monkeypatch.setattr(problem, "score_tasks", watched)
    tasks = one.training_tasks(1)
    assert colour(tasks.support.x) == colour(tasks.query.x) == "train"
    params = one.init()
    one.validate(params)
    one.test(params, 3)
    learner = type(one.learner).__name__
    floors = [("NearestNeighbour", "test"), *[(learner, "test")] * 2] * 2
    tests = [("OnStreams", "test")] * 2 + [(learner, "test")] * 2
    assert read == [("OnStreams", "val"), *tests, *floors]


def right_in(tasks, learner, params):
    """Which answers are right in streams; of m classes with equal scores each counts 1 / m."""
    said = learner.stream(params, *map(backend.asarray, tasks.support)).numpy()
    right = np.zeros(tasks.query.y.shape)
    for (i, t), label in np.ndenumerate(tasks.query.y):
        best = np.flatnonzero(said[i, t] == said[i, t].max())
        right[i, t] = (label in best) / len(best)
    return right


@both
def test_the_test_has_streams_by_earlier_views_and_then_episodes(name):
    one = small(name, n_way=3)
    params, views = one.init(), one.problem.views
    results = one.test(params, 8)
    label, five = one.label, one.problem.of_the_table[1]
    rows = [row for row in results["rows"] if "floor" not in row]
    # a memory of keys takes any number of classes, of 5 and 20 those that there are
    ways = (3,) if name == "omniglot-mann" else (3, 5)
    settings = [f"{n}-way {k}-shot" for k in (1, 5) for n in ways]
    assert [(row["method"], row["setting"], row["steps"]) for row in rows] == [
        (label, "3-way 1-shot", 1),
        (label, "3-way 5-shot", five),
        *[(f"{label}, episodes", setting, 0) for setting in settings],
    ]
    curve = results["curves"]["3-way"]
    assert len(curve["mean"]) == views and results["axis"] == "earlier views"
    tasks = one.problem.tasks("test").sample(Schedule().rng("test"), 8)
    right, before = right_in(tasks, one.learner, params), earlier_views(tasks.query.y)
    for k in range(views):
        assert curve["mean"][k] == pytest.approx(right[before == k].mean())
    assert [row["mean"] for row in rows[:2]] == [curve["mean"][k] for k in (1, five)]
    episodes = Omniglot(n_way=3, k_shot=5, images=one.problem.images).tasks("test")
    support, query = episodes.sample(Schedule().rng("test"), 8)
    known, asked = tm.Batch(*map(backend.asarray, support)), backend.asarray(query.x)
    said = one.learner.predict(params, known, asked).numpy().argmax(-1)
    at = 2 + settings.index("3-way 5-shot")
    assert rows[at]["mean"] == pytest.approx((said == query.y).mean())
    for row, setting in zip(rows[2:], settings, strict=True):
        share = f"{100 * row['mean']:.1f} +- {100 * row['ci95']:.1f} % ({setting})"
        assert share in results["protocol"]
    tasks = one.problem.tasks("val").sample(Schedule().rng("val"), 3)
    right, before = right_in(tasks, one.learner, params), earlier_views(tasks.query.y)
    assert one.validate(params)[0] == pytest.approx(right[before == 1].mean())


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        (
            "omniglot-mann",
            {0: 0.364, 1: 0.828, 2: 0.91, 3: 0.926, 4: 0.949, 9: 0.981},
        ),
        ("omniglot-memory-module", {1: 0.984, 5: 0.996}),
    ],
)
def test_a_curve_has_the_papers_numbers_by_earlier_views(name, printed):
    one = EXPERIMENTS[name]
    (found,) = one.problem.paper_values(one.method).values()
    assert found == {k: pytest.approx(value) for k, value in printed.items()}
    assert one.problem.printed(one.label) == {"MANN, no conv": "82.8 %"}.get(one.label, "98.4 %")
    other = one.replace(n_way=20, **({} if name == "omniglot-mann" else {"split": "lake"}))
    assert other.problem.paper_values(other.method) == {"20-way": {}}


@both
def test_a_network_that_is_not_finite_has_no_accuracy(name):
    one = small(name, views=3)
    params = {n: tm.tensor(p.data * np.nan) for n, p in one.init().items()}
    assert one.validate(params)[1] == 3
    for row in one.test(params, 3)["rows"]:
        trained = row.get("floor") not in ("pixels", "untrained")
        assert row["diverged"] == 3 * trained and np.isnan(row["mean"]) == trained


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"views": 1}, "--views is 1; give 2 or more"),
        ({"views": 21}, "--views is 21; give 2 or more, at most 20"),
        ({"train_way": 5}, "'train_way' is not a setting of the experiment omniglot-mann"),
        ({"views": 2.5}, "the setting views is 2.5, but int is needed"),
    ],
)
def test_bad_settings_are_one_sentence(settings, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        from_config("omniglot-mann", settings)
    assert "\n" not in str(caught.value)


def test_images_that_cannot_fill_a_stream_are_named():
    few = dict.fromkeys(("train", "val", "test"), np.zeros((6, 4, 28, 28, 1), np.uint8))
    with pytest.raises(UserError, match=r"'train' classes .* --views 10: .* has 4"):
        OmniglotStreams().with_images(few)
