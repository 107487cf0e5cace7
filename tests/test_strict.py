"""The engine on the stand-in for CuPy: the same numbers as on NumPy, and no NumPy array anywhere.

``tests/strict_array.py`` says what the stand-in refuses.
"""

import numpy as np
import pytest
from samples import SAMPLES
from strict_array import StrictArray

import tinymaml as tm
from tinymaml import backend
from tinymaml.structure import leaves

pytestmark = pytest.mark.numpy_only  # these tests choose their backends themselves

EVERY_SAMPLE = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    if name != "astype"  # its sample is NumPy's long double, which no GPU has
    for i, sample in enumerate(samples)
]


def tensors_of(sample):
    """Return the float inputs as tensors of the current backend, and the function's result."""
    inputs = []

    def convert(a):
        if a.dtype.kind == "f":
            inputs.append(tm.tensor(a, requires_grad=True))
            return inputs[-1]
        return tm.tensor(a)

    # an op called by itself, not through its NumPy function, takes its index as a raw array
    kinds = "f" if "index" in sample.kwargs else "fib"
    return inputs, sample.call(convert, kinds)


def numbers(structure):
    return [leaf.numpy() if type(leaf) is tm.Tensor else leaf for leaf in leaves(structure)]


def assert_same(ours, reference):
    assert len(ours) == len(reference)
    for a, b in zip(ours, reference):
        np.testing.assert_array_equal(a, b, strict=isinstance(b, np.ndarray))


def derivatives(inputs, result):
    """Return gradients without a graph, then with one, then of those gradients."""
    outputs = [y for y in leaves(result) if type(y) is tm.Tensor and y.requires_grad]
    if not outputs:
        return []
    rng = np.random.default_rng(0)
    cotangents = [tm.tensor(rng.standard_normal(y.shape)) for y in outputs]
    directions = [tm.tensor(rng.standard_normal(x.shape)) for x in inputs]
    plain = tm.grad(outputs, inputs, cotangents, allow_unused=True)
    recorded = tm.grad(outputs, inputs, cotangents, create_graph=True, allow_unused=True)
    connected = [(g, v) for g, v in zip(recorded, directions) if g is not None and g.requires_grad]
    second = []
    if connected:
        gs, vs = zip(*connected)
        second = tm.grad(gs, inputs, vs, allow_unused=True)
    return [g for g in (*plain, *recorded, *second) if g is not None]


@pytest.mark.parametrize("name, sample", EVERY_SAMPLE)
def test_values_and_derivatives_equal_numpys(name, sample):
    with tm.use_backend("numpy"), np.errstate(all="ignore"):
        inputs, result = tensors_of(sample)
        expected, expected_gradients = numbers(result), numbers(derivatives(inputs, result))
    with tm.use_backend("strict"), np.errstate(all="ignore"):
        inputs, result = tensors_of(sample)
        gradients = derivatives(inputs, result) if sample.differentiable else []
    for leaf in [*leaves(result), *gradients]:
        if type(leaf) is tm.Tensor:
            assert type(leaf.data) is StrictArray
    assert_same(numbers(result), expected)
    if sample.differentiable:
        assert_same(numbers(gradients), expected_gradients)


NETWORKS = {
    "mlp": (lambda: tm.nn.mlp((1, 8, 8, 1), tm.nn.he_normal), tm.nn.mse_loss, (5, 1)),
    "stride": (lambda: tm.nn.conv4(3, filters=4), tm.nn.cross_entropy, (6, 28, 28, 1)),
    "pool": (
        lambda: tm.nn.conv4(3, channels=3, filters=4, downsample="pool", image_size=19),
        tm.nn.cross_entropy,
        (6, 19, 19, 3),
    ),
}


def maml_step(network, steps, first_order):
    """Return the meta-loss, the meta-gradient and the parameters after Adam, all as tensors."""
    build, loss_of, shape = NETWORKS[network]
    model, rng = build(), np.random.default_rng(3)
    params = model.init(rng, dtype=np.float64)

    def batch():
        x = rng.standard_normal((2, *shape))
        y = np.sin(x) if network == "mlp" else np.stack([rng.permutation(6) % 3 for _ in range(2)])
        return tm.Batch(backend.asarray(x), backend.asarray(y))

    loss = lambda params, x, y: loss_of(model(params, x), y)
    value = tm.maml.meta_loss(
        loss, params, tm.Task(batch(), batch()), lr=0.05, steps=steps, first_order=first_order
    )
    gradient = tm.grad(value, params)
    optimizer = tm.optim.Adam(1e-3)
    updated, state = optimizer.update(params, gradient, optimizer.init(params))
    updated, _ = optimizer.update(updated, gradient, state)
    return {"loss": value, "gradient": gradient, "updated": updated}


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_maml_step_equals_numpys(network, first_order):
    with tm.use_backend("numpy"):
        expected = maml_step(network, steps=2, first_order=first_order)
    with tm.use_backend("strict"):
        ours = maml_step(network, steps=2, first_order=first_order)
    for a, b in zip(leaves(ours), leaves(expected), strict=True):
        assert type(a.data) is StrictArray
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: np.asarray(x),
        lambda x: np.array([x, x]),
        lambda x: x + np.ones(2),
        lambda x: np.ones(2) * x,
        lambda x: np.where(np.array([True, False]), x, 0.0),
        lambda x: np.concatenate([x, np.ones(2)]),
        lambda x: np.sum(x, where=x > 0),
        lambda x: x.sum(initial=0.0),
        lambda x: np.add.reduce(x),
        lambda x: np.ones(2, like=x),  # NumPy passes on a device that CuPy does not take
        lambda x: np.ascontiguousarray(x),
        lambda x: np.vecdot(x, x),
    ],
)
def test_the_stand_in_refuses_what_cupy_refuses(misuse):
    with tm.use_backend("strict"), pytest.raises(TypeError):
        misuse(backend.asarray(np.ones(2)))


def test_the_stand_in_gives_0d_arrays_where_numpy_gives_scalars():
    with tm.use_backend("strict"):
        x = backend.asarray(np.ones((2, 2)))
        for y in (x.sum(), np.max(x), x[0, 1], x.ravel() @ x.ravel(), np.linalg.det(x)):
            assert (type(y), y.shape) == (StrictArray, ())
