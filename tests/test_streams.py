"""Streams of images: what is shown when, what is known when, and how a stream is scored."""

import numpy as np
import pytest

from tinymaml.errors import UserError
from tinymaml.experiments.streams import OmniglotStreams
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


def test_labels_and_the_order_say_nothing_about_a_class():
    """Each of 12 classes has each of 3 labels, at each of 6 steps, equally often."""
    tasks, classes, _ = drawn(n=6000, n_way=3, views=2)
    counts = np.zeros((12, 3, 6))
    np.add.at(counts, (classes, tasks.query.y, np.arange(6)), 1)
    expected = 6000 / 12 / 3  # a standard deviation of 13
    assert np.abs(counts - expected).max() < 60


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
    logits[1, 0, 0] = np.inf
    np.testing.assert_array_equal(problem.score(logits, y), [[0.5, 1.0], [np.nan, np.nan]])
