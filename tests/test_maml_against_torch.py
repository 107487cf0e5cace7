"""Meta-gradients of MAML: against PyTorch and JAX, and against fractions computed by hand."""

import re
from fractions import Fraction
from importlib.util import find_spec

import numpy as np
import pytest

import tinymaml as tm
from tinymaml.checks import reference
from tinymaml.checks.reference import CASES, DIGITS, agreement
from tinymaml.engine import backend

with np.load(reference.STORED, allow_pickle=False) as file:
    STORED = dict(file)

if find_spec("torch"):
    import torch

    torch.set_num_threads(1)  # for networks as small as these, threads cost more than they give

needs_torch = pytest.mark.skipif(not find_spec("torch"), reason="PyTorch is not installed")
needs_jax = pytest.mark.skipif(not find_spec("jax"), reason="JAX is not installed")
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def assert_agree(ours, theirs):
    assert agreement(ours, theirs) >= DIGITS == 10


@every_case
def test_against_the_stored_reference(case):
    params, tasks = reference.problem(case.network, STORED)
    assert_agree(reference.our_meta_gradient(case, params, tasks), STORED[str(case)])


@needs_torch
@every_case
def test_against_torch(case):
    problem = reference.problem(case.network, STORED)
    theirs = reference.torch_meta_gradient(case, *problem)
    assert_agree(reference.our_meta_gradient(case, *problem), theirs)
    assert_agree(STORED[str(case)], theirs)


@pytest.mark.slow
@needs_jax
@pytest.mark.parametrize("case", [case for case in CASES if case.network == "mlp"], ids=str)
def test_against_jax(case):
    problem = reference.problem(case.network, STORED)
    theirs = reference.jax_meta_gradient(case, *problem)
    assert_agree(reference.our_meta_gradient(case, *problem), theirs)


@every_case
def test_the_reference_can_tell_first_order_from_second(case):
    other = case._replace(first_order=not case.first_order)
    a, b = STORED[str(case)], STORED[str(other)]
    assert a[0] == b[0]  # the loss is the same
    assert np.max(np.abs(a - b)) > 0.05 * np.max(np.abs(a))


def test_the_reference_file_is_small():
    assert reference.STORED.stat().st_size < 300_000


@pytest.mark.parametrize("live", [True, False])
def test_check_says_that_all_agree(live, monkeypatch, capsys):
    if not live:  # as where neither PyTorch nor JAX is installed
        monkeypatch.setattr(reference, "find_spec", lambda name: None)
    monkeypatch.setattr(reference, "CASES", CASES[:2])
    assert reference.check() is True
    printed = capsys.readouterr().out
    assert "All agree" in printed
    assert ("left out: no torch here" in printed) is (not live or not find_spec("torch"))
    assert printed.count("stored") == 1 + 2  # the heading and a row for each case
    assert len(re.findall(r", stored +agrees to 1[3456] digits\n", printed)) == 2


def test_check_says_that_a_wrong_meta_gradient_disagrees(monkeypatch, capsys):
    ours = reference.our_meta_gradient
    wrong = lambda case, *problem: ours(case._replace(first_order=True), *problem)
    monkeypatch.setattr(reference, "our_meta_gradient", wrong)
    monkeypatch.setattr(reference, "CASES", CASES[:1])
    monkeypatch.setattr(reference, "find_spec", lambda name: None)
    assert reference.check() is False
    printed = capsys.readouterr().out
    assert "DISAGREE" in printed and "All agree" not in printed
    assert re.search(r"agrees to [01] digits: TOO FEW, 10 are needed", printed)


def test_agreement_is_in_digits_of_the_largest_element():
    reference_vector = np.array([1e-9, 200.0])
    for size, digits in ((0, 16), (1e-15, 15), (3e-6, 5), (2.0, 0), (np.nan, 0)):
        assert agreement(reference_vector + 200 * size, reference_vector) in (digits, digits - 1)


# One parameter, f(x) = theta x, mean squared error. With S the second moments of the support and Q
# of the query, the loss of a task is S_xx theta^2 - 2 S_xy theta + S_yy, so that a step is
# theta' = theta - 2 alpha (S_xx theta - S_xy) and d theta' / d theta = 1 - 2 alpha S_xx. All
# numbers are dyadic fractions, which float64 holds exactly.
SUPPORT = [([1, 2], [3, 1]), ([-1, 1], [2, 2])]  # two tasks: x, y
QUERY = [([2, 0], [1, 5]), ([1, 3], [-1, 1])]
THETA, ALPHA = Fraction(3, 4), Fraction(1, 16)


def moments(x, y):
    n = len(x)
    return Fraction(sum(a * a for a in x), n), Fraction(sum(a * b for a, b in zip(x, y)), n)


def by_hand(steps, first_order):
    total = Fraction(0)
    for support, query in zip(SUPPORT, QUERY):
        (s_xx, s_xy), (q_xx, q_xy) = moments(*support), moments(*query)
        theta, derivative = THETA, Fraction(1)
        for _ in range(steps):
            theta -= 2 * ALPHA * (s_xx * theta - s_xy)
            derivative *= 1 if first_order else 1 - 2 * ALPHA * s_xx
        total += 2 * (q_xx * theta - q_xy) * derivative
    return total / len(SUPPORT)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
@pytest.mark.parametrize("alpha", [float(ALPHA), {"theta": float(ALPHA)}])
def test_a_linear_model_has_exactly_the_meta_gradient_computed_by_hand(steps, first_order, alpha):
    def loss(params, x, y):
        return ((params["theta"][..., None] * x - y) ** 2).mean(axis=-1)

    def batch(tasks):
        x, y = np.array(tasks, float).swapaxes(0, 1)
        return tm.Batch(backend.asarray(x), backend.asarray(y))

    theta = {"theta": tm.tensor(float(THETA), requires_grad=True)}
    value = tm.maml.meta_loss(
        loss,
        theta,
        tm.Task(batch(SUPPORT), batch(QUERY)),
        lr=alpha,
        steps=steps,
        first_order=first_order,
    )
    exact = by_hand(steps, first_order)
    assert Fraction(tm.grad(value, theta)["theta"].item()) == exact


def test_by_hand_is_what_the_paper_says():
    """One task, one step, in numbers: theta' = 1, and 2 (Q_xx theta' - Q_xy) (1 - 2 alpha S_xx)."""
    x, y = np.array([[2.0]]), np.array([[6.0]])
    loss = lambda params, x, y: ((params["theta"][..., None] * x - y) ** 2).mean(axis=-1)
    support = tm.Batch(backend.asarray(x), backend.asarray(y))
    query = tm.Batch(backend.asarray(x / 2), backend.asarray(y))
    theta = {"theta": tm.tensor(0.0, requires_grad=True)}
    # support loss (2 theta - 6)^2, gradient -24 at 0: theta' = 1 and d theta' / d theta = 2/3
    value = tm.maml.meta_loss(loss, theta, tm.Task(support, query), lr=1 / 24)
    assert value.item() == pytest.approx(25.0)  # query loss (theta' - 6)^2
    assert tm.grad(value, theta)["theta"].item() == pytest.approx(-10 * 2 / 3)
    value = tm.maml.meta_loss(loss, theta, tm.Task(support, query), lr=1 / 24, first_order=True)
    assert tm.grad(value, theta)["theta"].item() == pytest.approx(-10)
