"""Optimisers against their formulas."""

import numpy as np
import pytest

import tinymaml as tm


def run(optimizer, gradients, start=1.0):
    params = {"theta": tm.tensor(np.array([start]), requires_grad=True)}
    state = optimizer.init(params)
    for g in gradients:
        params, state = optimizer.update(params, {"theta": tm.tensor(np.array([g]))}, state)
    return params["theta"].item(), state


def test_sgd_and_momentum():
    assert run(tm.optim.SGD(0.5), [1.0, 2.0])[0] == 1 - 0.5 * 1 - 0.5 * 2
    # v1 = 1, v2 = 0.5 * 1 + 2
    assert run(tm.optim.SGD(0.5, momentum=0.5), [1.0, 2.0])[0] == 1 - 0.5 * 1 - 0.5 * 2.5


def test_adam_against_the_algorithm_as_printed():
    gradients = [0.3, -1.2, 0.05, 4.0]
    theta, m, v = 1.0, 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        theta -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    assert run(tm.optim.Adam(0.01), gradients)[0] == pytest.approx(theta, rel=1e-12)


def test_adam_does_not_move_or_divide_by_zero_without_a_gradient():
    with np.errstate(all="raise"):
        assert run(tm.optim.Adam(0.01), [0.0, 0.0])[0] == 1.0


def test_state_goes_in_and_comes_out():
    params = {"theta": tm.tensor(np.array([1.0]), requires_grad=True)}
    optimizer = tm.optim.Adam()
    state = optimizer.init(params)
    gradient = {"theta": tm.tensor(np.array([1.0]))}
    first = optimizer.update(params, gradient, state)
    again = optimizer.update(params, gradient, state)
    assert first[0]["theta"].item() == again[0]["theta"].item()
    assert (
        params["theta"].item() == 1.0 and state["step"] == 0 and not state["first"]["theta"].any()
    )


def test_parameters_keep_their_dtype():
    params = {"theta": tm.tensor(np.ones(3, np.float32), requires_grad=True)}
    for optimizer in (tm.optim.SGD(0.1, momentum=0.9), tm.optim.Adam()):
        new, state = optimizer.update(params, params, optimizer.init(params))
        new, _ = optimizer.update(new, params, state)
        assert new["theta"].dtype == np.float32 and new["theta"].requires_grad


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: tm.optim.SGD(-1), "learning rate is -1"),
        (lambda: tm.optim.Adam(float("nan")), "learning rate is nan"),
        (lambda: tm.optim.SGD(0.1, momentum=1.0), "momentum is 1.0"),
        (lambda: tm.optim.Adam(betas=(0.9, 1.0)), "beta is 1.0"),
    ],
)
def test_nonsense_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
