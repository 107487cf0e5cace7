"""The sinusoid family of Finn et al. 2017, section 5.1."""

import math

import numpy as np
import pytest

from tinymaml.errors import UserError
from tinymaml.tasks.sinusoid import SinusoidTasks, wave


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_shapes_and_types(rng):
    support, query = SinusoidTasks(k_shot=5, n_query=7).sample(rng, 25)
    assert support.x.shape == support.y.shape == (25, 5, 1)
    assert query.x.shape == query.y.shape == (25, 7, 1)
    assert {a.dtype for a in (*support, *query)} == {np.dtype(np.float32)}


def test_points_lie_on_the_wave_of_their_task(rng):
    family = SinusoidTasks()
    amplitude, phase = family.sample_waves(rng, 50)
    for x, y in family.sample_points(rng, amplitude, phase):
        expected = amplitude[..., None] * np.sin(x - phase[..., None])
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)
    assert wave(math.pi / 2 + 1, 2.0, 1.0) == pytest.approx(2.0)


def test_ranges_are_the_papers_and_filled_evenly(rng):
    family = SinusoidTasks()
    amplitude, phase = family.sample_waves(rng, 100_000)
    x = family.sample(rng, 10_000).query.x
    for values, low, high in ((amplitude, 0.1, 5), (phase, 0, math.pi), (x, -5, 5)):
        assert low <= values.min() and values.max() <= high
        # Of 100,000 uniform draws each tenth holds 10 %, give or take 0.1 (one sigma).
        share = np.histogram(values, bins=10, range=(low, high))[0] / values.size
        np.testing.assert_allclose(share, 0.1, atol=0.005)


def test_predicting_zero_scores_the_known_error(rng):
    # E[A^2 sin^2(x - phi)] = 8.503 / 2 for uniform amplitude, and x and phase as the paper's.
    y = SinusoidTasks().sample(rng, 100_000).query.y.astype(float)
    assert np.mean(y**2) == pytest.approx(4.25, abs=0.06)


def test_support_and_query_are_independent_draws(rng):
    support, query = SinusoidTasks().sample(rng, 1000)
    assert not np.isin(support.x, query.x).all()
    assert abs(np.corrcoef(support.x.ravel(), query.x.ravel())[0, 1]) < 0.05


def test_equal_generators_draw_equal_tasks():
    draws = [SinusoidTasks().sample(np.random.default_rng(7), 3) for _ in range(2)]
    for one, other in zip(*draws):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.y, other.y)


@pytest.mark.parametrize("sizes", [{"k_shot": 0}, {"n_query": 0}, {"k_shot": -3}, {"k_shot": 2.5}])
def test_nonsense_sizes_are_named(sizes):
    ((name, size),) = sizes.items()
    with pytest.raises(UserError, match=f"{name} is {size}"):
        SinusoidTasks(**sizes)
