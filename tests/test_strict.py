"""The engine on CuPy, or on its stand-in: the same numbers as on NumPy, no NumPy array anywhere.

``pytest --backend cupy`` runs these tests on a GPU; otherwise they run on the stand-in, and
``tests/strict_array.py`` says what that refuses.
"""

import functools
import inspect
import re

import numpy as np
import pytest
from samples import SAMPLES, UP_TO_SIGNS
from strict_array import FUNCTIONS, METHODS, StrictArray, signatures

import tinymaml as tm
from tinymaml.engine import backend
from tinymaml.engine.structure import leaves

#: How far results may be from NumPy's: the stand-in computes with NumPy, a GPU rounds differently.
#: Batch norm sums in another order off NumPy.
TOLERANCE = {"strict": 0, "cupy": 1e-10}

EVERY_SAMPLE = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
]


@pytest.fixture
def other(request):
    """The backend that is held against NumPy."""
    name = request.config.getoption("--backend")
    return "strict" if name == "numpy" else name


def tensors_of(sample):
    """Return the float inputs as tensors of the current backend, and the function's result."""
    inputs = []

    def convert(a):
        if a.dtype.kind == "f":
            inputs.append(tm.tensor(a, requires_grad=True))
            return inputs[-1]
        return tm.tensor(a)

    return inputs, sample.call(convert)


def numbers(structure):
    return [leaf.numpy() if type(leaf) is tm.Tensor else leaf for leaf in leaves(structure)]


def assert_same(ours, reference, tolerance):
    for a, b in zip(ours, reference, strict=True):
        if isinstance(b, np.ndarray):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def assert_on(name, tensor):
    assert type(tensor.data) is backend._load(name).ndarray


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
def test_values_and_derivatives_equal_numpys(name, sample, other):
    if (name, other) == ("partition", "cupy"):
        pytest.skip("CuPy sorts the whole axis, which is a partition too but not NumPy's")
    with tm.use_backend("numpy"), np.errstate(all="ignore"):
        inputs, result = tensors_of(sample)
        expected, expected_gradients = numbers(result), numbers(derivatives(inputs, result))
    with tm.use_backend(other), np.errstate(all="ignore"):
        inputs, result = tensors_of(sample)
        gradients = derivatives(inputs, result) if sample.differentiable else []
    for leaf in [*leaves(result), *gradients]:
        if type(leaf) is tm.Tensor:
            assert_on(other, leaf)
    tolerance = max(TOLERANCE[other], 1e-12 if name.startswith("batch_norm") else 0)
    if (name in UP_TO_SIGNS, other) == (True, "cupy"):  # and so are derivatives of the vectors
        assert_same(*[[np.abs(y) for y in ys] for ys in (numbers(result), expected)], tolerance)
        return
    assert_same(numbers(result), expected, tolerance)
    if sample.differentiable:
        assert_same(numbers(gradients), expected_gradients, tolerance)


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
    # of a bias before batch norm the gradient is 0, and Adam would divide its rounding by itself
    rounded = {name: np.where(np.abs(g) > 1e-12, g, 0) for name, g in gradient.items()}
    optimizer = tm.optim.Adam(1e-3)
    updated, state = optimizer.update(params, rounded, optimizer.init(params))
    updated, _ = optimizer.update(updated, rounded, state)
    return {"loss": value, "gradient": gradient, "updated": updated}


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_maml_step_equals_numpys(network, first_order, other):
    with tm.use_backend("numpy"):
        expected = maml_step(network, steps=2, first_order=first_order)
    with tm.use_backend(other):
        ours = maml_step(network, steps=2, first_order=first_order)
    for a, b in zip(leaves(ours), leaves(expected), strict=True):
        assert_on(other, a)
        tolerance = max(TOLERANCE[other], 1e-12)
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=0.1 * tolerance)


def parameters(function):
    """Return name, kind and default of each parameter; of compiled code, what its text says."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        line = function.__doc__.strip().splitlines()[0].replace("\\", "")
        options = re.sub(r"\w+ (?=\w)", "", line[line.index("(") + 1 : line.rindex(")")])
        signature = inspect.signature(eval(f"lambda {options}: None"))
    found = [(p.name, p.kind, p.default) for p in signature.parameters.values()]
    return [p for p in found if p[0] != "self"]


@pytest.mark.parametrize("table", [FUNCTIONS, METHODS], ids=["functions", "methods"])
def test_the_stand_in_has_cupys_options(table):
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    module = cupy if table is FUNCTIONS else cupy.ndarray
    for name, signature in signatures(table).items():
        ours = [(p.name, p.kind, p.default) for p in signature.parameters.values()]
        if name != "einsum":  # CuPy's takes any option by name, and then two
            assert parameters(functools.reduce(getattr, name.split("."), module)) == ours, name


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
        lambda x: np.spacing(x),
        lambda x: x.astype(np.longdouble),
    ],
)
def test_the_stand_in_refuses_what_cupy_refuses(misuse):
    with tm.use_backend("strict"), pytest.raises((TypeError, ValueError)):
        misuse(backend.asarray(np.ones(2)))


def test_the_stand_in_gives_0d_arrays_where_numpy_gives_scalars():
    with tm.use_backend("strict"):
        x = backend.asarray(np.ones((2, 2)))
        for y in (x.sum(), np.max(x), x[0, 1], x.ravel() @ x.ravel(), np.linalg.det(x)):
            assert (type(y), y.shape) == (StrictArray, ())


@pytest.mark.parametrize(
    "transform",
    [
        lambda f, x: tm.func.value_and_grad(f)(x),
        lambda f, x: tm.func.grad(lambda x: tm.func.grad(f)(x).sum())(x),
        lambda f, x: tm.func.hvp(f, x, np.cos(x)),
        lambda f, x: tm.func.jvp(lambda x: {"y": np.sin(x), "constant": x[:1] * 0}, x, x),
        lambda f, x: tm.func.vjp(np.sin, x)[1](x),
        lambda f, x: tm.func.jacobian(np.cumsum)(x),
        lambda f, x: tm.func.hessian(f)(x),
    ],
)
def test_transforms_give_arrays_of_the_backend(transform, other):
    f = lambda x: np.sum(np.exp(x) * x[::-1])
    results = {}
    for name in ("numpy", other):
        with tm.use_backend(name):
            results[name] = leaves(transform(f, backend.asarray(np.array([0.5, -1.0, 2.0]))))
            assert all(type(y) is backend._load(name).ndarray for y in results[name][1:])
    assert_same([backend.to_numpy(y) for y in results[other]], results["numpy"], TOLERANCE[other])
