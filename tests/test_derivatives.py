"""Every row of the derivative table against NumPy, finite differences and closed forms."""

import contextlib
import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import SAMPLES, TABLE, UP_TO_SIGNS, Sample, normal, spread, uniform

import tinymaml as tm
from tinymaml import ops
from tinymaml.checks.gradients import gradcheck, gradgradcheck
from tinymaml.engine import backend, numpy_rules
from tinymaml.engine.ops import fast
from tinymaml.engine.structure import leaves
from tinymaml.engine.tensor import Tensor, raw, thread

EVERY = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
]
#: Of the samples of one function, those after the second are for the slow run.
DIFFERENTIABLE = [
    pytest.param(sample, id=f"{name}-{i}", marks=[pytest.mark.slow] if i > 1 else [])
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
    if sample.differentiable
]

few = settings(max_examples=25, derandomize=True, deadline=None)


def wrap(array):
    return tm.tensor(array, requires_grad=array.dtype.kind == "f")


# Every row has a sample, and every sample is right.


@pytest.mark.numpy_only  # of what no GPU takes, too
def test_every_op_of_the_table_has_a_sample():
    thread.state.trace = []
    try:
        for samples in SAMPLES.values():
            for sample in samples:
                with np.errstate(invalid="ignore"):
                    sample.call(wrap)
        reached = {
            op for op, args, *_ in thread.state.trace if any(type(a) is Tensor for a in args)
        }
    finally:
        thread.state.trace = None
    assert [name for name, op in TABLE.items() if op not in reached] == []


@pytest.mark.numpy_only
def test_every_numpy_function_has_a_sample(monkeypatch):
    reached = set()

    class Listening(dict):
        def get(self, function):
            reached.add(function)
            return super().get(function)

    monkeypatch.setattr(numpy_rules, "numpy_functions", Listening(numpy_rules.numpy_functions))
    for samples in SAMPLES.values():
        for sample in samples:
            with np.errstate(invalid="ignore"):
                sample.call(wrap)
    assert [f for f in numpy_rules.numpy_functions if f not in reached] == []


def test_every_public_op_has_a_sample():
    public = {name for name in ops.__all__ if callable(getattr(ops, name))}
    assert public - SAMPLES.keys() == set()


@pytest.mark.parametrize("name, sample", EVERY)
def test_value_is_that_of_the_arrays(name, sample):
    with np.errstate(invalid="ignore"):
        expected = leaves(sample.call(np.copy))  # NumPy itself, where the function is NumPy's
        result = leaves(sample.call(wrap))
    assert len(result) == len(expected)
    for y, e in zip(result, expected):
        data = y.numpy() if type(y) is Tensor else y
        if name in UP_TO_SIGNS and backend.get_backend() == "cupy":
            data, e = np.abs(data), np.abs(e)
        np.testing.assert_allclose(data, e, rtol=1e-14, atol=1e-14)
        assert np.shape(data) == np.shape(e)
        assert np.asarray(data).dtype == np.asarray(e).dtype


def passes(check, sample):
    """Run a check; of a result without elements all derivatives are 0, and a check refuses it."""
    arrays = sample.arrays()
    y, pullback = tm.func.vjp(sample.of, *arrays)
    if any(np.size(part) for part in leaves(y)):
        return check(sample.of, tuple(arrays))
    return all(np.shape(g) == a.shape and not np.any(g) for g, a in zip(pullback(y), arrays))


@pytest.mark.parametrize("sample", DIFFERENTIABLE)
def test_first_derivative(sample):
    assert passes(gradcheck, sample)


@pytest.mark.parametrize("sample", DIFFERENTIABLE)
def test_second_derivative(sample):
    assert passes(gradgradcheck, sample)


@pytest.mark.parametrize("name, sample", [p for p in EVERY if not p.values[1].differentiable])
def test_what_has_no_derivative_requires_no_gradient(name, sample):
    with np.errstate(invalid="ignore"):
        result = leaves(sample.call(wrap))
    assert not any(y.requires_grad for y in result if type(y) is Tensor)


# Higher orders.


def nested(f, order):
    for _ in range(order):
        f = tm.func.grad(f)
    return f


CLOSED_FORMS = {  # f, x, third derivative, fourth derivative
    "exp": (np.exp, 0.3, math.exp(0.3), math.exp(0.3)),
    "sin": (np.sin, 0.3, -math.cos(0.3), math.sin(0.3)),
    "cos": (np.cos, 0.3, math.sin(0.3), math.cos(0.3)),
    "log": (np.log, 0.7, 2 / 0.7**3, -6 / 0.7**4),
    "sqrt": (np.sqrt, 0.7, 3 / 8 * 0.7**-2.5, -15 / 16 * 0.7**-3.5),
    "reciprocal": (np.reciprocal, 0.7, -6 / 0.7**4, 24 / 0.7**5),
    "divide": (lambda x: 1 / x, 0.7, -6 / 0.7**4, 24 / 0.7**5),
    "fourth power": (lambda x: x**4, -1.5, 24 * -1.5, 24.0),
    "power 2.5": (lambda x: x**2.5, 0.7, 1.875 * 0.7**-0.5, -0.9375 * 0.7**-1.5),
    "power of 2": (lambda x: 2**x, 0.7, math.log(2) ** 3 * 2**0.7, math.log(2) ** 4 * 2**0.7),
    "x to the x": (
        lambda x: x**x,
        1.0,
        3.0,  # x^x = exp(x log x) = 1 + h + h^2 + h^3 / 2 + h^4 / 3 + ... at 1 + h
        8.0,
    ),
    "arctan": (np.arctan, 0.5, (6 * 0.25 - 2) / 1.25**3, 24 * 0.5 * (1 - 0.25) / 1.25**4),
    "square": (np.square, 0.5, 0.0, 0.0),
    "expm1": (np.expm1, -0.2, math.exp(-0.2), math.exp(-0.2)),
    "log1p": (np.log1p, 0.2, 2 / 1.2**3, -6 / 1.2**4),
    "cosh": (np.cosh, 0.4, math.sinh(0.4), math.cosh(0.4)),
}
_t = math.tanh(0.3)
CLOSED_FORMS["tanh"] = (
    np.tanh,
    0.3,
    (1 - _t**2) * (6 * _t**2 - 2),
    (1 - _t**2) * (16 * _t - 24 * _t**3),
)
_s = 1 / (1 + math.exp(-0.3))
CLOSED_FORMS["sigmoid"] = (
    ops.sigmoid,
    0.3,
    _s * (1 - _s) * (1 - 6 * _s + 6 * _s**2),
    _s * (1 - _s) * (1 - 2 * _s) * (1 - 12 * _s + 12 * _s**2),
)
CLOSED_FORMS["softplus"] = (
    ops.softplus,
    0.3,
    _s * (1 - _s) * (1 - 2 * _s),
    _s * (1 - _s) * (1 - 6 * _s + 6 * _s**2),
)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_third_and_fourth_derivative(name):
    f, x, third, fourth = CLOSED_FORMS[name]
    assert float(nested(f, 3)(x)) == pytest.approx(third, rel=1e-11, abs=1e-11)
    assert float(nested(f, 4)(x)) == pytest.approx(fourth, rel=1e-11, abs=1e-11)


def test_tenth_derivative_of_the_sine():
    assert float(nested(np.sin, 10)(0.4)) == pytest.approx(-math.sin(0.4), rel=1e-13)


FUSED = (
    "batch_norm batch_norm_grad conv2d conv2d_transpose elu cross_entropy mse max_pool2d "
    "mean_pool2d logsumexp softmax log_softmax prod norm matmul einsum solve inv det cholesky "
    "power var std sigmoid gelu linear getitem sort"
)


@pytest.mark.parametrize("name", [n for n in FUSED.split() if n in SAMPLES])
def test_third_derivative_by_differences(name):
    """Fused ops have derivatives of derivatives of their own: those must be right in turn."""
    # of a saturated softmax the third derivatives are 1e-22, and their differences rounding
    samples = [s for s in SAMPLES[name] if all(abs(a).max(initial=0) < 20 for a in s.arrays())]
    for sample in sorted(samples, key=lambda s: sum(a.size for a in s.arrays()))[-3:]:
        rng = np.random.default_rng(0)

        def gradient(*arrays, sample=sample, rng=rng):
            ys = [y for y in leaves(sample.of(*arrays)) if y.requires_grad]
            weights = [np.cos(np.arange(y.size)).reshape(y.shape) for y in ys]
            return tm.grad(ys, list(arrays), weights, create_graph=True, allow_unused=True)

        assert gradgradcheck(gradient, tuple(sample.arrays()))


# Any shape, any axis, any broadcast.


def check(function, *args, **kwargs):
    """Compare values with NumPy's, and the first two derivatives with differences."""
    sample = Sample(function, args, kwargs)
    expected = sample.call(np.copy)
    result = sample.call(wrap)
    for y, e in zip(leaves(result), leaves(expected)):
        np.testing.assert_allclose(raw(y), e, rtol=1e-12, atol=1e-12)
        assert np.shape(y) == np.shape(e)
    assert passes(gradcheck, sample)
    assert passes(gradgradcheck, sample)


shapes = hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)


@few
@given(
    st.sampled_from(
        [np.add, np.subtract, np.multiply, np.divide, np.power, np.maximum, np.minimum]
        + [np.arctan2, np.logaddexp, np.hypot]
    ),
    hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3, max_dims=3),
)
def test_broadcasts_of_two(function, shapes):
    check(function, *[uniform(0.5, 2, *s) for s in shapes.input_shapes])


@few
@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_side=3, max_dims=3), st.randoms())
def test_broadcasts_of_where(shapes, random):
    first, second, third = shapes.input_shapes
    condition = np.array([random.random() < 0.5 for _ in range(math.prod(first))], bool)
    check(np.where, condition.reshape(first), normal(*second), normal(*third))


def axes_of(shape):
    n = len(shape)
    if not n:
        return st.sampled_from([None, ()])
    one = st.integers(-n, n - 1)
    several = st.lists(one, max_size=n, unique_by=lambda a: a % n).map(tuple)
    return st.one_of(st.none(), one, several)


@settings(few, max_examples=60)
@given(
    st.sampled_from([np.sum, np.mean, np.prod, np.max, np.min, np.var, ops.logsumexp, np.flip]),
    shapes.flatmap(lambda s: st.tuples(st.just(s), axes_of(s))),
    st.booleans(),
)
def test_reductions(function, shape_and_axis, keepdims):
    shape, axis = shape_and_axis
    x = np.asarray(spread(*shape) / 3)
    check(
        function,
        x,
        axis=axis,
        **{} if function is np.flip else {"keepdims": keepdims},
    )


@few
@given(
    shapes.flatmap(lambda s: st.tuples(st.just(s), st.permutations(range(len(s))))), st.randoms()
)
def test_rearrangements(shape_and_order, random):
    shape, order = shape_and_order
    x = normal(*shape)
    check(np.transpose, x, tuple(order))
    check(np.moveaxis, x, tuple(order), tuple(range(len(order))))
    lengths = [shape[i] for i in order]
    check(np.reshape, x, tuple(lengths))
    check(np.broadcast_to, x, (2, *shape))
    check(np.tile, x, tuple(random.randint(0, 2) for _ in range(random.randint(0, 3))))
    if shape:
        check(np.roll, x, random.randint(-3, 3), random.randrange(len(shape)))
        check(np.repeat, x, random.randint(0, 2), random.randrange(len(shape)))
        check(np.cumsum, x, random.randrange(-len(shape), len(shape)))
        check(np.pad, x, [(random.randint(0, 2), random.randint(0, 2)) for _ in shape])


@settings(few, max_examples=40)
@given(st.data())
def test_indexing(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3))
    kind = data.draw(st.sampled_from(["basic", "integer", "boolean", "mixed"]))
    if kind == "basic":
        index = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    elif kind == "integer":
        index = data.draw(hnp.integer_array_indices(shape))
    elif kind == "boolean":
        index = data.draw(hnp.arrays(bool, shape[: data.draw(st.integers(1, len(shape)))]))
    else:
        n = data.draw(st.integers(1, 3))
        index = tuple(
            data.draw(
                st.one_of(
                    st.slices(m),
                    st.integers(-m, m - 1),
                    hnp.arrays(np.intp, n, elements=st.integers(-m, m - 1)),
                )
            )
            for m in shape
        )
    check(lambda x: x[index], normal(*shape))


@settings(few, max_examples=60)
@given(st.data())
def test_einsum(data):
    sizes = {c: data.draw(st.integers(1, 3), label=c) for c in "abc"}
    terms = data.draw(st.lists(st.text("abc", max_size=3), min_size=1, max_size=3))
    present = sorted(set("".join(terms)))
    if data.draw(st.booleans()):
        result = "".join(data.draw(st.permutations(present)))
        result = "->" + result[: data.draw(st.integers(0, len(result)))]
    else:
        result = ""
    dots = data.draw(st.booleans())
    leading = [data.draw(st.sampled_from([(), (2,), (1,)])) if dots else () for _ in terms]
    if dots and result:
        result = result.replace("->", "->...")
    subscripts = ",".join(("..." if dots else "") + t for t in terms) + result
    arrays = [normal(*lead, *[sizes[c] for c in t]) for lead, t in zip(leading, terms)]
    check(np.einsum, subscripts, *arrays)


@few
@given(st.data())
def test_joins(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3))
    n = data.draw(st.integers(1, 3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    lengths = [data.draw(st.integers(0, 3)) for _ in range(n)]
    parts = []
    for length in lengths:
        part = list(shape)
        part[axis] = length
        parts.append(normal(*part))
    check(np.concatenate, parts, axis=axis)
    check(np.stack, [normal(*shape) for _ in range(n)], axis=axis)
    check(np.array_split, normal(*shape), n, axis=axis)


@few
@given(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_side=3, max_dims=2))
def test_matrix_products(shapes):
    check(np.matmul, *[normal(*s) for s in shapes.input_shapes])


@few
@given(st.data())
def test_convolution(data):
    n, c, o, stride = (data.draw(st.integers(1, 2)) for _ in range(4))
    h, w = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    k, l = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    padding = data.draw(st.sampled_from(["same", "valid"]))
    if padding == "valid":
        h, w = max(h, k), max(w, l)
    x, weight, bias = normal(n, h, w, c), normal(k, l, c, o), normal(o)
    sample = Sample(ops.conv2d, (x, weight, bias), {"stride": stride, "padding": padding})
    expected = conv2d(x, weight, bias, stride, padding)
    np.testing.assert_allclose(sample.call(wrap).numpy(), expected, rtol=1e-12, atol=1e-12)
    assert passes(gradcheck, sample)
    assert passes(gradgradcheck, sample)


# Functions that NumPy does not have, against their definitions in NumPy.


def centred(x, axes, eps):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + eps)


def batch_norm(x, gamma, beta, eps=1e-5):
    batch = (-4, -3, -2) if x.ndim >= 4 else (-2,)
    gamma, beta = (np.expand_dims(a, tuple(range(-1 - len(batch), -1))) for a in (gamma, beta))
    return gamma * centred(x, batch, eps) + beta


def batch_norm_sums(g, x, eps, core):
    axes = tuple(range(-core, -1))
    return np.stack([g.sum(axes), (g * centred(x, axes, eps)).sum(axes)])


def windows(x, size):
    """Return (..., p, size, q, size, c): the windows of a pool."""
    *lead, h, w, c = x.shape
    p, q = h // size, w // size
    return x[..., : p * size, : q * size, :].reshape(*lead, p, size, q, size, c)


def scatter_add(x, index, shape):
    y = np.zeros(shape)
    places = np.arange(y.size).reshape(shape)[index]
    for place, value in zip(np.ravel(places), np.ravel(x)):
        y.reshape(-1)[place] += value
    return y


def cross_entropy(logits, labels):
    losses = []
    for rows, answers in zip(logits.reshape(-1, *logits.shape[-2:]), np.atleast_2d(labels)):
        shifted = rows - rows.max(axis=1, keepdims=True)
        scores = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        losses.append(-np.mean([row[k] for row, k in zip(scores, answers)]))
    return np.reshape(losses, logits.shape[:-2])


def conv2d(x, weight, bias=0.0, stride=1, padding="same"):
    """The definition: a sum over every window. "same" pads as TensorFlow's notes on padding say."""
    k, l = weight.shape[-4:-2]
    if padding == "same":
        totals = [
            max((-(-size // stride) - 1) * stride + m - size, 0)
            for size, m in zip(x.shape[-3:-1], (k, l))
        ]
        around = [(t // 2, t - t // 2) for t in totals]
        x = np.pad(x, [(0, 0)] * (x.ndim - 3) + around + [(0, 0)])
    seen = np.lib.stride_tricks.sliding_window_view(x, (k, l), (-3, -2))
    seen = seen[..., ::stride, ::stride, :, :, :]
    bias = np.expand_dims(bias, (-2, -3, -4)) if np.ndim(bias) else bias
    return np.einsum("...npqckl,...klco->...npqo", seen, weight) + bias


def conv2d_transpose(x, weight, bias=0.0, stride=1, padding="same"):
    """The definition: every pixel adds its multiple of the weight, of which "same" cuts the rim."""
    (k, l, o, _), (p, q) = weight.shape[-4:], x.shape[-3:-1]
    size = [max(stride * n, stride * (n - 1) + m) for n, m in ((p, k), (q, l))]
    lead = np.broadcast_shapes(x.shape[:-4], weight.shape[:-4])
    y = np.zeros((*lead, x.shape[-4], *size, o))
    for i, j in np.ndindex(p, q):
        placed = np.einsum("...ni,...kloi->...nklo", x[..., i, j, :], weight)
        y[..., stride * i : stride * i + k, stride * j : stride * j + l, :] += placed
    if padding == "same":
        cut = [max(m - stride, 0) // 2 for m in (k, l)]
        y = y[..., cut[0] : cut[0] + stride * p, cut[1] : cut[1] + stride * q, :]
    return y + (np.expand_dims(bias, (-2, -3, -4)) if np.ndim(bias) else bias)


DEFINITIONS = {
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "conv2d_transpose": conv2d_transpose,
    "relu": lambda x: np.where(x > 0, x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "logsumexp": lambda x, **kwargs: np.log(np.sum(np.exp(x), **kwargs)),
    "softmax": lambda x, axis=-1: np.exp(x) / np.exp(x).sum(axis, keepdims=True),
    "log_softmax": lambda x, axis=-1: np.log(np.exp(x) / np.exp(x).sum(axis, keepdims=True)),
    "sum_to": lambda x, shape: x.sum(0).sum(-1, keepdims=True) if shape else x.sum(),
    "scatter_add": scatter_add,
    "conv2d": conv2d,
    "max_pool2d": lambda x, size: windows(x, size).max((-4, -2)),
    "mean_pool2d": lambda x, size: windows(x, size).mean((-4, -2)),
    "batch_norm": batch_norm,
    "batch_norm_sums": batch_norm_sums,
    "linear": lambda x, weight, bias: np.matmul(x, weight) + bias[..., None, :],
    "sum_rows": lambda x: x.sum(-2),
    "cross_entropy": cross_entropy,
    "mse": lambda p, t: ((p - t) ** 2).mean((-2, -1)),
    "descend": lambda p, g, lr: p - lr * g,
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_value_is_that_of_the_definition(name):
    for sample in SAMPLES[name]:
        result = sample.call(wrap)
        expected = DEFINITIONS[name](*sample.args, **sample.kwargs)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12, atol=1e-12)


PLAIN = {
    "conv2d": ops.conv.conv2d,
    "max_pool2d": ops.conv.max_pool2d,
    "batch_norm": ops.norm.batch_norm,
}


def two_orders(sample):
    """Return the result of a sample, its derivatives, recorded and not, and theirs in turn."""
    weights = lambda t: np.cos(np.arange(t.size)).reshape(t.shape)
    xs = [wrap(a) for a in sample.arrays()]
    y = sample.of(*xs)
    u = wrap(weights(y))
    first = tm.grad(y, xs, u, create_graph=True)
    second = tm.grad(first, [*xs, u], [weights(g) for g in first], allow_unused=True)
    second = [x * 0 if g is None else g for x, g in zip([*xs, u], second)]
    return [t.numpy() for t in (y, *tm.grad(y, xs, u), *first, *second)]


@pytest.mark.parametrize("name, sample", [(name, s) for name in PLAIN for s in SAMPLES[name]])
def test_what_runs_is_the_plain_form(name, sample):
    plain = sample._replace(function=PLAIN[name])
    for a, b in zip(two_orders(sample), two_orders(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("limit", [1, 3000])
@pytest.mark.parametrize(
    "function, shapes, options",
    [
        (ops.conv2d, [(2, 5, 4, 4, 2), (3, 3, 2, 3), (3,)], {}),
        (ops.conv2d, [(2, 5, 4, 4, 2), (2, 3, 3, 2, 3), (2, 3)], {"stride": 2}),
        (ops.conv2d, [(5, 5, 4, 2), (2, 3, 3, 2, 3), (3,)], {"padding": "valid"}),
        (ops.batch_norm, [(2, 7, 3, 3, 5), (5,), (2, 5)], {}),
        (ops.batch_norm, [(3, 40, 6), (6,), (6,)], {}),
    ],
)
def test_large_arrays_walked_in_blocks(monkeypatch, limit, function, shapes, options):
    """However many blocks there are: blocks of one image or row, and of a few with a rest."""
    arrays = [normal(*shape) for shape in shapes]
    sample = Sample(function, tuple(arrays), options)
    definition = DEFINITIONS[function.__name__](*arrays, **options)
    monkeypatch.setattr(fast.conv, "CONV_BLOCK", limit)
    monkeypatch.setattr(fast.norm, "NORM_BLOCK", limit)
    np.testing.assert_allclose(sample.call(wrap).numpy(), definition, rtol=1e-12, atol=1e-12)
    assert gradcheck(sample.of, tuple(arrays))
    assert gradgradcheck(sample.of, tuple(arrays))


# Kinks and edges: what is promised where finite differences cannot say.


def gradient(f, *arrays):
    return tm.func.grad(lambda *x: np.sum(f(*x)), tuple(range(len(arrays))))(
        *[np.asarray(a, float) for a in arrays]
    )


@pytest.mark.parametrize("f", [np.max, np.min])
def test_ties_share_equally(f):
    (g,) = gradient(f, [1.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(g, [0.25] * 4)
    sign = 1 if f is np.max else -1
    (g,) = gradient(lambda x: f(x, axis=1), sign * np.array([[2.0, 3.0, 3.0], [5.0, 1.0, 0.0]]))
    np.testing.assert_array_equal(g, [[0, 0.5, 0.5], [1, 0, 0]])


@pytest.mark.parametrize("f", [np.maximum, np.minimum])
def test_arguments_that_tie_share_equally(f):
    a, b = gradient(f, [1.0, 2.0], [1.0, 2.0])
    np.testing.assert_array_equal(a, [0.5, 0.5])
    np.testing.assert_array_equal(b, [0.5, 0.5])
    (g,) = gradient(lambda x: f(x, x), [1.0])
    assert g == 1


def test_relu_and_absolute_have_gradient_zero_at_zero():
    np.testing.assert_array_equal(gradient(ops.relu, [-1.0, 0.0, 1.0])[0], [0, 0, 1])
    np.testing.assert_array_equal(gradient(np.abs, [-1.0, 0.0, 1.0])[0], [-1, 0, 1])


def test_norm_at_zero_has_gradient_zero_to_every_order():
    zero = np.zeros(3)
    np.testing.assert_array_equal(tm.func.grad(np.linalg.norm)(zero), zero)
    np.testing.assert_array_equal(tm.func.hessian(np.linalg.norm)(zero), np.zeros((3, 3)))
    rows = np.array([[0.0, 0.0], [3.0, 4.0]])
    g = tm.func.grad(lambda x: np.sum(np.linalg.norm(x, axis=1)))(rows)
    np.testing.assert_allclose(g, [[0, 0], [0.6, 0.8]], rtol=1e-15)


@pytest.mark.parametrize("exponent", [2, 2.0, np.array(2.0), np.array(2)])
def test_square_as_a_power_at_zero(exponent):
    if isinstance(exponent, np.ndarray):
        exponent = backend.asarray(exponent)
    f = lambda x: x**exponent
    assert [nested(f, k)(0.0) for k in (1, 2, 3)] == [0, 2, 0]


@pytest.mark.parametrize("exponent", [0, 1, 3])
def test_whole_powers_at_zero(exponent):
    expected = [1 if exponent == 1 else 0, 0, 6 if exponent == 3 else 0]
    assert [nested(lambda x: x**exponent, k)(0.0) for k in (1, 2, 3)] == expected


def test_gradient_of_the_exponent_is_zero_where_the_base_is():
    a, b = gradient(np.power, [0.0, 2.0], [2.0, 3.0])
    np.testing.assert_allclose(a, [0, 12])
    np.testing.assert_allclose(b, [0, 8 * math.log(2)])


def test_zero_to_the_power_of_zero():
    a, b = gradient(np.power, [0.0], [0.0])
    assert a == 0 and b == 0


def test_product_with_zeros():
    x = np.array([0.0, 2.0, 3.0])
    np.testing.assert_array_equal(tm.func.grad(np.prod)(x), [6, 0, 0])
    np.testing.assert_array_equal(tm.func.hessian(np.prod)(x), [[0, 3, 2], [3, 0, 0], [2, 0, 0]])
    x = np.array([0.0, 0.0, 3.0])
    np.testing.assert_array_equal(tm.func.grad(np.prod)(x), [0, 0, 0])
    np.testing.assert_array_equal(tm.func.hessian(np.prod)(x), [[0, 3, 0], [3, 0, 0], [0, 0, 0]])


def test_nan_in_the_branch_not_taken_stays_out():
    yes = backend.asarray([True, False])
    a, b = gradient(lambda a, b: np.where(yes, a, b), [1.0, np.nan], [np.nan, 2.0])
    np.testing.assert_array_equal(a, [1, 0])
    np.testing.assert_array_equal(b, [0, 1])
    (g,) = gradient(lambda x: np.where(x > 0, x, 0.0) ** 2, [3.0, np.nan])
    np.testing.assert_array_equal(g, [6, 0])


def test_clip_passes_the_gradient_at_its_bounds_and_not_beyond():
    (g,) = gradient(lambda x: np.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0])
    np.testing.assert_array_equal(g, [0, 1, 1, 1, 0])
    _, low, high = gradient(np.clip, [-2.0, -1.0, 1.0, 3.0], -np.ones(4), np.ones(4))
    np.testing.assert_array_equal(low, [1, 0, 0, 0])
    np.testing.assert_array_equal(high, [0, 0, 0, 1])


def test_clip_keeps_nan_as_numpy_does():
    assert np.isnan(np.clip(tm.tensor([np.nan]), -1, 1).numpy())


def test_steps_have_derivative_zero():
    for f in (np.floor, np.ceil, np.trunc, np.rint, np.sign, np.round):
        np.testing.assert_array_equal(gradient(f, [0.3, -1.7])[0], [0, 0])


def test_far_out_no_activation_overflows():
    with np.errstate(over="raise", invalid="raise"):
        for f in (ops.sigmoid, ops.softplus, ops.softmax, ops.log_softmax, ops.logsumexp):
            (g,) = gradient(f, [-1000.0, 1000.0])
            assert np.isfinite(g).all()


def test_sorted_ties_still_give_each_element_one_gradient():
    weights = backend.asarray([1.0, 2.0, 4.0])
    (g,) = gradient(lambda x: np.sort(x) * weights, [5.0, 5.0, 1.0])
    assert g[2] == 1 and sorted(g[:2]) == [2, 4]


def test_counts_of_a_repeat_may_be_an_array():
    (g,) = gradient(lambda x: np.repeat(x, np.array([0, 2]), axis=0), np.ones((2, 3)))
    np.testing.assert_array_equal(g, [[0, 0, 0], [2, 2, 2]])


def test_mean_over_axes_of_an_empty_array():
    warns = contextlib.nullcontext()
    if backend.get_backend() != "cupy":  # CuPy divides by 0 without a word
        warns = pytest.warns(RuntimeWarning)
    with np.errstate(invalid="ignore"), warns:
        assert gradient(np.mean, np.zeros((0, 3)))[0].shape == (0, 3)
    assert gradient(lambda x: np.mean(x, axis=1), np.zeros((0, 3)))[0].shape == (0, 3)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.linalg.eigh(x)[1],
        lambda x: np.linalg.svd(x)[0],
        lambda x: np.linalg.svd(x[:, :2] * np.zeros_like(x[:, :2]), full_matrices=False)[2],
    ],
)
def test_vectors_of_equal_values_have_no_derivative(f):
    with pytest.raises(ValueError, match=r"values .*that are equal have vectors without"):
        gradient(f, np.eye(3))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.linalg.svd(x)[0],
        lambda x: np.linalg.svd(np.swapaxes(x, -1, -2))[2],
        lambda x: np.linalg.qr(x, "complete")[0],
    ],
)
def test_vectors_that_complete_others_may_be_there_but_have_no_derivative(f):
    x = np.array([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="beyond the rank"):
        gradient(f, x)


def test_sums_of_equal_values_have_a_derivative():
    for f in (np.linalg.eigvalsh, np.linalg.svdvals):
        np.testing.assert_allclose(gradient(f, np.eye(3))[0], np.eye(3), atol=1e-15)


def test_a_standard_deviation_of_zero_has_gradient_zero():
    np.testing.assert_array_equal(gradient(np.std, [2.0, 2.0])[0], [0, 0])
    np.testing.assert_array_equal(tm.func.hessian(np.std)(np.ones(2)), np.zeros((2, 2)))
