"""Episodes of images: disjoint, balanced, and without a hint of the class in the labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymaml.errors import UserError
from tinymaml.tasks.images import ImageEpisodes


def coded(counts, side=2):
    """Image j of class i: its top-left pixels are i and j, everything else is 0."""
    classes = []
    for i, count in enumerate(counts):
        images = np.zeros((count, side, side, 2), np.uint8)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = i, np.arange(count)
        classes.append(images)
    return np.stack(classes) if len(set(counts)) == 1 else classes


def decode(x):
    """Class and image numbers of `coded` images, wherever a rotation took them."""
    return np.rint(x.max(axis=(-3, -2)) * 255).astype(int).transpose(2, 0, 1)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rotate=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_every_episode_is_well_formed(data, rotate, seed):
    n_way, k_shot, n_query = (data.draw(st.integers(low, 4)) for low in (2, 1, 1))
    counts = st.integers(k_shot + n_query, 12)
    equal = data.draw(st.booleans())
    n_classes = data.draw(st.integers(n_way, 9))
    counts = (
        [data.draw(counts)] * n_classes if equal else [data.draw(counts) for _ in range(n_classes)]
    )
    episodes = ImageEpisodes(coded(counts), n_way, k_shot, n_query, rotate)
    support, query = episodes.sample(np.random.default_rng(seed), 3)
    for (x, y), k in ((support, k_shot), (query, n_query)):
        assert x.shape == (3, n_way * k, 2, 2, 2) and x.dtype == np.float32
        assert y.shape == (3, n_way * k) and y.dtype == np.int64
        assert (np.sort(y) == np.repeat(np.arange(n_way), k)).all()
    x, y = np.concatenate([support.x, query.x], 1), np.concatenate([support.y, query.y], 1)
    for classes, images, labels in zip(*decode(x), y):
        # A label is one class and a class is one label, in support and query alike.
        assert len(set(zip(classes, labels))) == len(set(classes)) == n_way
        # No image is used twice.
        assert len(set(zip(classes, images))) == n_way * (k_shot + n_query)


def test_pixels_are_scaled_to_one_and_otherwise_unchanged():
    images = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 4, 1), dtype=np.uint8)
    support, query = ImageEpisodes(images, 2, 1, 1).sample(np.random.default_rng(0), 1)
    drawn = np.concatenate([support.x[0], query.x[0]])
    expected = images.reshape(4, 3, 4, 1) / np.float32(255)
    assert sorted(map(np.ndarray.tobytes, drawn)) == sorted(map(np.ndarray.tobytes, expected))
    assert (
        ImageEpisodes(np.full_like(images, 255), 2, 1, 1)
        .sample(np.random.default_rng(0), 1)
        .query.x.min()
        == 1.0
    )


@pytest.mark.parametrize("counts", [[4] * 6, [4, 5, 9, 4, 30, 6]])
def test_class_label_and_place_are_independent(counts):
    n_tasks, n_way = 12_000, 3
    episodes = ImageEpisodes(coded(counts), n_way, 1, 1)
    for x, y in episodes.sample(np.random.default_rng(1), n_tasks):
        classes, _ = decode(x)
        place = np.broadcast_to(np.arange(n_way), y.shape)
        for one, other, n in ((classes, y, 6), (classes, place, 6), (y, place, 3)):
            share = np.histogram2d(one.ravel(), other.ravel(), bins=(n, 3))[0] / one.size
            # Uniform to five standard errors of a binomial share.
            error = 5 * np.sqrt(1 / (n * 3) / one.size)
            np.testing.assert_allclose(share, 1 / (n * 3), atol=error)


def test_query_order_says_nothing_about_support_order():
    episodes = ImageEpisodes(coded([4] * 6), 5, 1, 1)
    support, query = episodes.sample(np.random.default_rng(1), 12_000)
    assert np.mean(support.y == query.y) == pytest.approx(0.2, abs=0.01)


def test_every_image_of_a_class_is_drawn_equally_often():
    episodes = ImageEpisodes(coded([3, 8]), 2, 1, 1)
    for x, _ in episodes.sample(np.random.default_rng(2), 12_000):
        classes, images = decode(x)
        for i, count in enumerate((3, 8)):
            share = np.bincount(images[classes == i]) / 12_000
            np.testing.assert_allclose(share, 1 / count, atol=0.02)


def test_one_rotation_per_class_and_episode_and_all_four_equally_often():
    support, query = ImageEpisodes(coded([4] * 6, side=3), 5, 1, 2, rotate=True).sample(
        np.random.default_rng(3), 4000
    )
    x, y = np.concatenate([support.x, query.x], 1), np.concatenate([support.y, query.y], 1)
    # Image 0 of class 0 is blank and shows no rotation.
    corners = np.stack([x[..., 0, 0, :], x[..., 2, 0, :], x[..., 2, 2, :], x[..., 0, 2, :]], -2)
    turns = corners.sum(-1).argmax(-1)
    seen = x.sum((-3, -2, -1)) > 0
    for label in range(5):
        low = np.where(seen & (y == label), turns, 4).min(1)
        high = np.where(seen & (y == label), turns, -1).max(1)
        assert (low == high).mean() == 1.0
        np.testing.assert_allclose(np.bincount(low) / len(low), 0.25, atol=0.035)
    # Classes of one episode turn independently.
    first, second = (np.where(seen & (y == label), turns, 4).min(1) for label in (0, 1))
    assert np.mean(first == second) == pytest.approx(0.25, abs=0.035)


def test_rotations_are_the_four_quarter_turns_and_no_mirror_image():
    picture = np.arange(9, dtype=np.uint8).reshape(3, 3, 1)
    images = np.broadcast_to(picture, (2, 2, 3, 3, 1))
    x = ImageEpisodes(images, 2, 1, 1, rotate=True).sample(np.random.default_rng(0), 64).query.x
    drawn = {image.tobytes() for image in x.reshape(-1, 3, 3, 1)}
    assert drawn == {
        (np.rot90(picture, quarter) / np.float32(255)).tobytes() for quarter in range(4)
    }


def test_the_source_images_stay_as_they_are():
    images = coded([4] * 3)
    before = images.copy()
    ImageEpisodes(images, 3, 2, 2, rotate=True).sample(np.random.default_rng(0), 8)
    np.testing.assert_array_equal(images, before)


def test_equal_generators_draw_equal_episodes():
    episodes = ImageEpisodes(coded([4] * 6), 5, 1, 2, rotate=True)
    one, other, third = (episodes.sample(np.random.default_rng(seed), 4) for seed in (7, 7, 8))
    for a, b in zip((*one.support, *one.query), (*other.support, *other.query)):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.query.x, third.query.x)


@pytest.mark.parametrize(
    "images, options, sentence",
    [
        (coded([20] * 6), (0, 1, 1), "n_way is 0"),
        (coded([20] * 6), (1, 1, 1), "n_way is 1"),
        (coded([20] * 6), (2.5, 1, 1), "n_way is 2.5"),
        (coded([20] * 6), (5, 0, 1), "k_shot is 0"),
        (coded([20] * 6), (5, 1, -1), "n_query is -1"),
        (coded([20] * 6), (7, 1, 1), "7-way episodes need 7 classes, but there are 6"),
        (coded([20] * 6), (5, 30, 1), "30-shot with 1 query .* class 0 has 20"),
        (coded([20] * 6), (5, 15, 6), "takes 21 different images"),
        (coded([20, 3, 9]), (2, 3, 1), "class 1 has 3"),
        ([], (2, 1, 1), "got no classes"),
        (np.zeros((6, 20, 28, 28), np.uint8), (5, 1, 1), r"got uint8 \(images, 28, 28\)"),
        (np.zeros(6, np.uint8), (5, 1, 1), r"got uint8 \(images, \)"),
        ([np.zeros((9, 2, 2, 1), np.uint8), np.zeros((9, 3, 3, 1), np.uint8)], (2, 1, 1), "one sh"),
        (np.zeros((6, 20, 2, 2, 1)), (5, 1, 1), "uint8 array .*; got float64"),
    ],
)
def test_bad_options_are_one_clear_sentence(images, options, sentence):
    with pytest.raises(UserError, match=sentence):
        ImageEpisodes(images, *options)


def test_oblong_images_cannot_rotate():
    images = np.zeros((5, 9, 3, 4, 1), np.uint8)
    ImageEpisodes(images, 5, 1, 1)
    with pytest.raises(UserError, match="square images; these are 3x4"):
        ImageEpisodes(images, 5, 1, 1, rotate=True)
