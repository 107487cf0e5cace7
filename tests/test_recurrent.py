"""Recurrent layers, cosine similarity and dropout: by hand, by PyTorch, and to second order."""

import numpy as np
import pytest

import tinymaml as tm
from tinymaml import nn

CELL, LSTM, BILSTM = nn.LSTMCell(3, 4), nn.LSTM(3, 4), nn.BiLSTM(3, 4)


def host(array):
    return tm.tensor(array).numpy()


def normal(*shape, seed=0):
    return tm.tensor(np.random.default_rng(seed).normal(size=shape)).data


def draw(layer, *lead, seed=1):
    """Parameters of a layer in float64, with leading axes if some are given."""
    rng = np.random.default_rng(seed)
    start = layer.init(rng, dtype=float)
    return {n: tm.tensor(rng.normal(size=(*lead, *p.shape))) for n, p in start.items()}


def in_torch(torch, params, bidirectional=False):
    """An LSTM of PyTorch with the weights of ours, whose gates come in the order i, f, o, g."""
    lstm = torch.nn.LSTM(3, 4, bidirectional=bidirectional, dtype=torch.float64)
    order = np.concatenate([np.arange(8), np.arange(12, 16), np.arange(8, 12)])
    kinds = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0")
    for at, p in enumerate(params.values()):
        theirs = getattr(lstm, kinds[at % 3] + "_reverse" * (at // 3))
        theirs.data = torch.tensor(host(p).T[order])
    for name, theirs in lstm.named_parameters():
        if name.startswith("bias_hh"):
            theirs.data[:] = 0
    return lstm, order


def test_a_step_by_hand():
    """One unit, whose gates see x = 1, h = 2 by weights 0 except for the bias."""
    bias = np.log([1 / 3, 1.0, 3.0, 1.0])  # i = 1/4, f = 1/2, o = 3/4, g = tanh 0
    params = {"input.weight": np.zeros((1, 4)), "hidden.weight": np.zeros((1, 4)), "bias": bias}
    params["hidden.weight"][0, 3] = 0.5  # g = tanh(1)
    params = {n: tm.tensor(p) for n, p in params.items()}
    h, c = nn.LSTMCell(1, 1)(params, normal(1, 1), tuple(tm.tensor([[v]]) for v in (2.0, 6.0)))
    assert c.item() == pytest.approx(3 + np.tanh(1) / 4, rel=1e-15)
    assert h.item() == pytest.approx(0.75 * np.tanh(3 + np.tanh(1) / 4), rel=1e-15)


@pytest.mark.numpy_only
@pytest.mark.parametrize("bidirectional", [False, True])
def test_values_and_all_gradients_are_pytorchs(bidirectional):
    torch = pytest.importorskip("torch")
    layer = BILSTM if bidirectional else LSTM
    params = {n: tm.tensor(p.numpy(), requires_grad=True) for n, p in draw(layer).items()}
    lstm, order = in_torch(torch, params, bidirectional)
    x = tm.tensor(normal(6, 5, 3), requires_grad=True)
    theirs_x = torch.tensor(x.numpy(), requires_grad=True)
    start = [tm.tensor(normal(5, 4, seed=s), requires_grad=True) for s in (2, 3)]
    theirs_start = [torch.tensor(s.numpy(), requires_grad=True) for s in start]
    if bidirectional:
        ours, theirs = [layer(params, x)], [lstm(theirs_x)[0]]
        start, theirs_start = [], []
    else:
        y, state = layer(params, x, tuple(start))
        theirs_y, theirs_state = lstm(theirs_x, tuple(s[None] for s in theirs_start))
        ours, theirs = [y, *state], [theirs_y, *[s[0] for s in theirs_state]]
    value, theirs_value = 0, 0
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        np.testing.assert_allclose(host(a), b.detach().numpy(), rtol=1e-12, atol=1e-14)
        weights = normal(*a.shape, seed=10 + i)
        value, theirs_value = (
            value + (weights * a).sum(),
            theirs_value + (b * torch.tensor(weights)).sum(),
        )
    gradient = tm.grad(value, [x, *start, *params.values()])
    theirs_value.backward()
    found = [theirs_x.grad.numpy(), *[s.grad.numpy() for s in theirs_start]]
    for suffix in ("", "_reverse")[: 1 + bidirectional]:
        for kind in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
            found.append(getattr(lstm, kind + suffix).grad.numpy()[np.argsort(order)].T)
    for g, theirs_g in zip(gradient, found, strict=True):
        np.testing.assert_allclose(host(g), theirs_g, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layer", [LSTM, BILSTM], ids=repr)
def test_a_recurrent_layer_passes_both_checks(layer):
    params = draw(layer)

    def run(x, *values):
        y = layer(dict(zip(params, values)), x)
        return y if layer is BILSTM else [y[0], *y[1]]

    inputs = (tm.tensor(normal(2, 2, 3)), *params.values())
    tm.gradcheck(lambda *given: sum((y * y).sum() for y in run(*given)), inputs)
    tm.gradgradcheck(lambda *given: sum((y * y).sum() for y in run(*given)), inputs)


def test_the_state_passes_both_checks():
    params = draw(CELL)

    def run(x, h, c):
        h, c = CELL(params, x, (h, c))
        return (h * h).sum() + c.sum()

    inputs = tuple(tm.tensor(normal(2, n, seed=n)) for n in (3, 4, 4))
    tm.gradcheck(run, inputs)
    tm.gradgradcheck(run, inputs)


@pytest.mark.parametrize("layer", [LSTM, BILSTM], ids=repr)
@pytest.mark.parametrize("own", [True, False], ids=["own weights", "shared weights"])
def test_a_task_axis_gives_what_a_loop_over_tasks_gives(layer, own):
    params, x = draw(layer, *(3,) * own), normal(3, 5, 2, 3)
    start = () if layer is BILSTM else ((normal(3, 2, 4, seed=5), normal(3, 2, 4, seed=6)),)

    def outputs(*given):
        y = layer(*given)
        return [y] if layer is BILSTM else [y[0], *y[1]]

    together = outputs(params, x, *start)
    for t in range(3):
        mine = {n: p[t] if own else p for n, p in params.items()}
        alone = outputs(mine, x[t], *[tuple(s[t] for s in state) for state in start])
        for a, b in zip(together, alone):
            np.testing.assert_allclose(host(a)[t], host(b), rtol=1e-12)


def test_own_weights_of_each_task_on_one_sequence_of_all():
    params, x = draw(LSTM, 3), normal(5, 2, 3)
    y, state = LSTM(params, x)
    assert y.shape == (3, 5, 2, 4) and [s.shape for s in state] == [(3, 2, 4)] * 2
    for t in range(3):
        alone, _ = LSTM({n: p[t] for n, p in params.items()}, x)
        np.testing.assert_allclose(host(y)[t], host(alone), rtol=1e-12)


def test_a_sequence_in_two_parts_is_the_whole():
    params, x = draw(LSTM), normal(7, 2, 3)
    whole, end = LSTM(params, x)
    first, state = LSTM(params, x[:3])
    second, state = LSTM(params, x[3:], state)
    # a GPU multiplies matrices of other sizes in another order
    rounding = 1e-12 if tm.get_backend() == "cupy" else 0
    np.testing.assert_allclose(host(np.concatenate([first, second])), host(whole), rtol=rounding)
    for a, b in zip(state, end):
        np.testing.assert_allclose(host(a), host(b), rtol=rounding)


def test_the_way_back_of_a_bidirectional_lstm_has_seen_what_comes():
    params, x = draw(BILSTM), normal(4, 1, 3)
    y, other = host(BILSTM(params, x)), x.copy()
    other[2] += 1
    changed = np.any(y != host(BILSTM(params, other)), axis=1)
    np.testing.assert_array_equal(changed[:, :4].any(1), [False, False, True, True])
    np.testing.assert_array_equal(changed[:, 4:].any(1), [True, True, True, False])


def test_initial_weights_and_dtype():
    params = nn.LSTM(30, 25).init(np.random.default_rng(0))
    assert [(n, p.shape) for n, p in params.items()] == [
        ("input.weight", (30, 100)),
        ("hidden.weight", (25, 100)),
        ("bias", (100,)),
    ]
    for name in ("input.weight", "hidden.weight"):
        assert 0.19 < np.abs(host(params[name])).max() <= 0.2
    np.testing.assert_array_equal(host(params["bias"]).reshape(4, 25).mean(1), [0, 1, 0, 0])
    y, state = nn.LSTM(30, 25)(params, tm.tensor(np.ones((2, 3, 30), np.float32)))
    assert {a.dtype for a in (y, *state)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: LSTM(draw(LSTM), np.zeros((0, 2, 3))),
            r"LSTM\(inputs=3, hidden=4\) takes \(..., t",
        ),
        (lambda: LSTM(draw(LSTM), np.zeros((2, 3))), "with t of 1 or more"),
        (lambda: LSTM(draw(LSTM), np.zeros((5, 2, 9))), r"takes x \(..., n, 3\)"),
        (
            lambda: CELL(draw(CELL), np.zeros((2, 3)), (np.zeros((2, 4)), np.zeros((2, 5)))),
            r"have shapes \(2, 3\), \(2, 4\) and \(2, 5\)",
        ),
        (lambda: nn.dropout(np.ones(3), 1.0, np.random.default_rng(0)), "dropout: the rate is 1.0"),
        (lambda: nn.dropout(np.ones(3), np.nan, np.random.default_rng(0)), "from 0 to below 1"),
    ],
)
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_cosine_similarity_is_that_of_every_pair():
    a, b = normal(2, 5, 3), normal(2, 7, 3, seed=1)
    found = host(nn.cosine_similarity(tm.tensor(a), tm.tensor(b)))
    assert found.shape == (2, 5, 7)
    for t, i, j in np.ndindex(2, 5, 7):
        u, v = host(a)[t, i], host(b)[t, j]
        angle = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
        assert found[t, i, j] == pytest.approx(angle, rel=1e-9)
    tm.gradcheck(nn.cosine_similarity, (tm.tensor(a), tm.tensor(b)))
    tm.gradgradcheck(nn.cosine_similarity, (tm.tensor(a[0]), tm.tensor(b[0])))


def test_a_vector_of_zeros_is_like_no_other_and_its_gradient_is_finite():
    a = tm.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    found = nn.cosine_similarity(a, a)
    np.testing.assert_allclose(host(found), [[0, 0], [0, 1]], rtol=1e-12)
    assert np.isfinite(host(tm.grad(found.sum(), a))).all()


def test_dropout_zeroes_a_share_and_keeps_the_mean():
    x = tm.tensor(np.full((100, 1000), 3.0, np.float32), requires_grad=True)
    y = nn.dropout(x, 0.7, np.random.default_rng(0))
    assert y.dtype == np.float32 and set(np.unique(host(y))) == {0, np.float32(3 / (1 - 0.7))}
    # the share of 100,000 draws has a standard deviation of 0.0015
    assert (host(y) == 0).mean() == pytest.approx(0.7, abs=0.006)
    np.testing.assert_array_equal(host(tm.grad(y.sum(), x)), host(y) / 3)
    again = nn.dropout(x, 0.7, np.random.default_rng(0))
    np.testing.assert_array_equal(host(again), host(y))
    np.testing.assert_array_equal(host(nn.dropout(x, 0.0, np.random.default_rng(0))), host(x))
