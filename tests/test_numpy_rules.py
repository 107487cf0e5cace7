"""Tensors follow NumPy's rules: values, dtypes, shapes, 0-d and empty arrays, and errors."""

import copy
import operator
import pickle
import warnings

import numpy as np
import pytest
from samples import SAMPLES

import tinymaml as tm
from tinymaml import ops
from tinymaml.engine.numpy_rules import PASSING, REFUSED, listed, numpy_functions
from tinymaml.engine.op import table
from tinymaml.engine.structure import leaves
from tinymaml.engine.tensor import Tensor

EVERY_SAMPLE = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
]
#: Rows whose sums run in another order than NumPy's, so that the last digits may differ.
ROUNDED = set(
    "mean var std norm dot inner vdot tensordot einsum matmul trace det slogdet solve inv cholesky "
    "prod multiply.reduce batch_norm conv2d mean_pool2d sinc sum median"
    " nanmedian quantile cov svd svdvals qr matrix_power corrcoef cond matrix_norm eigvalsh lstsq "
    "polyfit gradient correlate geomspace vector_norm vecdot".split()
)


def tensors(a):
    return tm.tensor(a, requires_grad=a.dtype.kind == "f")


def assert_like_numpy(name, ours, numpys):
    assert len(leaves(ours)) == len(leaves(numpys))
    for y, expected in zip(leaves(ours), leaves(numpys)):
        if isinstance(expected, (bool, int)):
            assert y == expected
            continue
        assert type(y) is Tensor
        assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
        tolerance = 8 * np.finfo(y.dtype).eps if name in ROUNDED else 0
        np.testing.assert_allclose(y.numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.numpy_only
@pytest.mark.parametrize("name, sample", EVERY_SAMPLE)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_values_dtypes_and_shapes_are_numpys(name, sample):
    assert_like_numpy(name, sample.call(tensors), sample.call(lambda a: a))


def nodes_of(tensor):
    """Return every node that a tensor was made from."""
    found, stack = set(), [tensor.node]
    while stack:
        node = stack.pop()
        if node is not None and node not in found:
            found.add(node)
            stack += node.parents
    return found


@pytest.mark.parametrize("name, sample", [p for p in EVERY_SAMPLE if p.values[0] != "astype"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_float32_stays_float32_in_every_derivative(name, sample):
    """No Python number and no hidden constant promotes: neither a result nor anything between."""
    inputs = []

    def single(a):
        if a.dtype.kind != "f":
            return tm.tensor(a)
        inputs.append(tm.tensor(a.astype(np.float32), requires_grad=sample.differentiable))
        return inputs[-1]

    result = sample.call(single)
    plain = leaves(sample.call(lambda a: a.astype(np.float32) if a.dtype.kind == "f" else a))
    outputs = [
        y
        for y, expected in zip(leaves(result), plain)
        if type(y) is Tensor and y.requires_grad and expected.dtype == np.float32
    ]
    if not outputs:  # no derivative, or a list of Python numbers, which NumPy takes as float64
        return
    gradients = tm.grad(
        outputs, inputs, [np.ones(y.shape) for y in outputs], create_graph=True, allow_unused=True
    )
    for tensor in [*outputs, *(g for g in gradients if g is not None)]:
        assert tensor.dtype == np.float32
        assert {node.dtype for node in nodes_of(tensor)} <= {np.dtype(np.float32)}


METHODS = [
    p
    for p in EVERY_SAMPLE
    if p.values[1].function in numpy_functions
    and callable(getattr(Tensor, p.values[0], None))
    and "axes" not in p.values[1].kwargs  # a function's option, not a method's
    and p.values[0] not in ("sort", "partition", "resize")  # an array's are in place
    and isinstance(p.values[1].args[0], np.ndarray)
]


@pytest.mark.parametrize("name, sample", METHODS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_method_is_the_function(name, sample):
    function = sample.call(tensors)
    by_method = sample._replace(function=lambda x, *rest, **kw: getattr(x, name)(*rest, **kw))
    method = by_method.call(tensors)
    assert (method.shape, method.dtype) == (function.shape, function.dtype)
    np.testing.assert_array_equal(method.numpy(), function.numpy())
    if function.node is not None:
        assert method.node.op is function.node.op


OPERATORS = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.divide: operator.truediv,
    np.power: operator.pow,
    np.matmul: operator.matmul,
    np.negative: operator.neg,
    np.positive: operator.pos,
    np.absolute: abs,
}


@pytest.mark.parametrize("function", OPERATORS, ids=lambda f: f.__name__)
def test_the_operator_is_the_function_from_either_side(function):
    x = np.array([[1.5, 0.5], [2.0, 0.25]])
    t, symbol = tensors(x), OPERATORS[function]
    made = [(function(t), symbol(t))] if function.nin == 1 else []
    if function.nin == 2:
        other = tm.tensor(abs(x) + 1)
        made = [(function(t, other), symbol(t, other)), (function(other, t), symbol(other, t))]
        if tm.get_backend() == "numpy":  # NumPy's array gives way to the tensor
            made += [(function(x + 2, t), symbol(x + 2, t)), (function(t, x), symbol(t, x))]
        if function is not np.matmul:
            made += [(function(t, 2), symbol(t, 2)), (function(2, t), symbol(2, t))]
    for by_function, by_operator in made:
        op = numpy_functions[function]
        assert by_function.node.op is by_operator.node.op
        assert by_function.node.op is op or op.__name__ == "matmul"  # a function of several ops
        np.testing.assert_array_equal(by_function.numpy(), by_operator.numpy())


@pytest.mark.parametrize(
    "compute, expected",
    [
        (lambda t: t + 1, np.float32),
        (lambda t: 2.5 * t, np.float32),
        (lambda t: t**2, np.float32),
        (lambda t: 2**t, np.float32),
        (lambda t: t**0.5, np.float32),
        (lambda t: np.maximum(t, 0), np.float32),
        (lambda t: np.where(t > 0, t, 0.0), np.float32),
        (lambda t: np.clip(t, -1.0, 1.0), np.float32),
        (lambda t: t.mean(), np.float32),
        (lambda t: t.var(), np.float32),
        (lambda t: t + tm.tensor(np.ones(3)), np.float64),
        (lambda t: t * tm.tensor(np.arange(3)), np.float64),
        (lambda t: np.stack([t, t.astype(np.float64)]), np.float64),
    ],
)
def test_numbers_do_not_promote_but_arrays_do(compute, expected):
    t = tm.tensor(np.array([0.5, 1.0, 2.0], np.float32), requires_grad=True)
    y = compute(t)
    assert y.dtype == expected
    assert tm.grad(y.sum(), t).dtype == np.float32  # a gradient has its input's dtype


def test_reductions_to_a_number_are_0d_tensors():
    t = tensors(np.arange(6.0).reshape(2, 3))
    for y in (t.sum(), np.mean(t), t.max(), t[1, 2], np.linalg.norm(t), t.reshape(-1) @ t.ravel()):
        assert (type(y), y.shape, y.ndim, y.size) == (Tensor, (), 0, 1)
        assert tm.grad(y, t).shape == (2, 3)


def test_0d_tensors_are_numbers():
    t = tensors(np.array(2.5))
    assert (float(t), int(t), bool(t), t.item(), f"{t:.3f}") == (2.5, 2, True, 2.5, "2.500")
    with pytest.raises(TypeError, match="0-d"):
        iter(t).__next__()
    with pytest.raises(TypeError):
        len(t)
    with pytest.raises(ValueError):
        bool(tensors(np.ones(2)))
    with pytest.raises(ValueError):
        tensors(np.ones(2)).item()


def test_an_integer_tensor_is_an_index():
    assert [10, 20, 30][tm.tensor(1)] == 20
    with pytest.raises(TypeError):
        [10][tensors(np.array(0.0))]


def test_iteration_and_length_are_over_the_first_axis():
    t = tensors(np.arange(6.0).reshape(2, 3))
    assert len(t) == 2
    rows = [row * (i + 1) for i, row in enumerate(t)]
    np.testing.assert_array_equal(
        tm.grad(sum(r.sum() for r in rows), t).numpy(), [[1, 1, 1], [2, 2, 2]]
    )


def test_empty_arrays():
    empty = tensors(np.zeros((0, 3)))
    assert empty.sum().item() == 0 and empty.prod().item() == 1
    assert tm.grad((empty @ tm.tensor(np.ones((3, 2)))).sum(), empty).shape == (0, 3)
    np.testing.assert_array_equal(empty.sum(axis=0).numpy(), np.zeros(3))
    for reduction in (np.max, np.min, np.argmax):
        with pytest.raises(ValueError):
            reduction(empty)


BAD_AXES = {
    "sum": lambda x: np.sum(x, axis=2),
    "sum of a tuple": lambda x: np.sum(x, axis=(0, -3)),
    "mean": lambda x: np.mean(x, axis=2),
    "prod": lambda x: np.prod(x, axis=-3),
    "max": lambda x: np.max(x, axis=2),
    "min": lambda x: np.min(x, axis=2, keepdims=True),
    "var": lambda x: np.var(x, axis=2),
    "std": lambda x: np.std(x, axis=-3),
    "cumsum": lambda x: np.cumsum(x, axis=2),
    "argmax": lambda x: np.argmax(x, axis=2),
    "any": lambda x: np.any(x, axis=2),
    "norm": lambda x: np.linalg.norm(x, axis=2),
    "sort": lambda x: np.sort(x, axis=2),
    "argsort": lambda x: np.argsort(x, axis=-3),
    "transpose": lambda x: np.transpose(x, (0, 2)),
    "swapaxes": lambda x: np.swapaxes(x, 0, 2),
    "moveaxis": lambda x: np.moveaxis(x, 2, 0),
    "expand_dims": lambda x: np.expand_dims(x, 4),
    "squeeze": lambda x: np.squeeze(x, axis=2),
    "concatenate": lambda x: np.concatenate([x, x], axis=2),
    "stack": lambda x: np.stack([x, x], axis=4),
    "flip": lambda x: np.flip(x, axis=2),
    "roll": lambda x: np.roll(x, 1, axis=2),
    "repeat": lambda x: np.repeat(x, 2, axis=2),
    "take": lambda x: np.take(x, [0], axis=2),
    "take_along_axis": lambda x: np.take_along_axis(x, np.zeros((2, 3), int), axis=2),
    "diagonal": lambda x: np.diagonal(x, axis1=0, axis2=2),
}


@pytest.mark.parametrize("name", BAD_AXES)
def test_a_wrong_axis_is_numpys_error(name):
    x = np.ones((2, 3))
    with pytest.raises(Exception) as numpys:
        BAD_AXES[name](x)
    with pytest.raises(numpys.type) as ours:
        BAD_AXES[name](tensors(x))
    assert "out of bounds" in str(ours.value)


@pytest.mark.parametrize("function", [ops.logsumexp, ops.softmax, ops.log_softmax])
def test_a_wrong_axis_of_softmax_is_an_axis_error(function):
    with pytest.raises(ValueError, match="out of bounds"):
        function(tensors(np.ones((2, 3))), axis=2)


MISFITS = {
    "add": lambda x: x + x[:, :2],
    "power": lambda x: np.power(x, x[:, :2]),
    "where": lambda x: np.where(x > 0, x, x[:, :2]),
    "matmul": lambda x: x @ x,
    "matmul of a column": lambda x: x[:, :1] @ x,
    "matmul of rows": lambda x: x @ x[:1],
    "matmul with a vector": lambda x: x @ x[0, :2],
    "matmul of stacks": lambda x: np.matmul(
        x.reshape(1, 2, 3).repeat(2, axis=0), x.reshape(1, 3, 2).repeat(3, axis=0)
    ),
    "matmul with a number": lambda x: x @ 2,
    "dot": lambda x: np.dot(x, x),
    "inner": lambda x: np.inner(x, x[:, :2]),
    "vdot": lambda x: np.vdot(x, x[0]),
    "tensordot": lambda x: np.tensordot(x, x, axes=1),
    "einsum": lambda x: np.einsum("ij,jk->ik", x, x),
    "einsum with too few operands": lambda x: np.einsum("ij,jk->ik", x),
    "reshape": lambda x: x.reshape(4, 2),
    "reshape with two unknowns": lambda x: np.reshape(x, (-1, -1)),
    "broadcast_to": lambda x: np.broadcast_to(x, (3, 3)),
    "concatenate": lambda x: np.concatenate([x, x[:, :2]]),
    "concatenate of ranks": lambda x: np.concatenate([x, x[0]]),
    "concatenate of nothing": lambda x: np.concatenate([x[:0], x[0, :0]]),
    "stack": lambda x: np.stack([x, x[:, :2]]),
    "transpose": lambda x: np.transpose(x, (0, 0)),
    "transpose with too few axes": lambda x: np.transpose(x, (0,)),
    "moveaxis": lambda x: np.moveaxis(x, (0, 1), (0, 0)),
    "moveaxis to more places": lambda x: np.moveaxis(x, 0, (0, 1)),
    "einsum that loses an ellipsis": lambda x: np.einsum("...i->i", x),
    "expand_dims": lambda x: np.expand_dims(x, (0, 0)),
    "sum along an axis twice": lambda x: np.sum(x, axis=(0, 0)),
    "sum along an axis under two names": lambda x: np.sum(x, axis=(0, -2)),
    "mean along an axis twice": lambda x: np.mean(x, axis=(1, -1)),
    "squeeze": lambda x: np.squeeze(x, axis=1),
    "split": lambda x: np.split(x, 2, axis=1),
    "diag": lambda x: np.diag(x.reshape(1, 2, 3)),
    "diagonal": lambda x: np.diagonal(x, axis1=0, axis2=0),
    "cross": lambda x: np.cross(x, x[:, :1]),
    "take_along_axis": lambda x: np.take_along_axis(x, np.zeros(3, int), axis=1),
    "inv": lambda x: np.linalg.inv(x),
    "solve": lambda x: np.linalg.solve(x[:, :2], x.T),
}


@pytest.mark.parametrize("name", MISFITS)
def test_shapes_that_do_not_fit_are_an_error_as_in_numpy(name):
    x = np.arange(1.0, 7.0).reshape(2, 3)
    with pytest.raises(ValueError):  # LinAlgError is one
        MISFITS[name](x)
    with pytest.raises(ValueError):
        MISFITS[name](tensors(x))


@pytest.mark.numpy_only  # CuPy wraps an index that is out of bounds
@pytest.mark.parametrize(
    "index", [2, -3, (0, 3), [0, 2], np.array([0, 5]), (0, 0, 0), np.ones(3, bool)]
)
def test_an_index_out_of_bounds_is_an_index_error(index):
    with pytest.raises(IndexError):
        tensors(np.ones((2, 3)))[index]


@pytest.mark.parametrize("index", [1.0, "a", np.array([0.5])])
def test_an_index_that_is_no_integer_is_an_index_error(index):
    with pytest.raises(IndexError):
        tensors(np.ones((2, 3)))[index]


@pytest.mark.parametrize("function", [np.fft.fft, np.nextafter, np.gcd.outer])
def test_a_function_without_a_derivative_names_itself(function):
    t = tensors(np.ones((2, 2)))
    name = getattr(function, "__name__", "").split(".")[-1]
    with pytest.raises(TypeError, match=rf"np\..*{name}.* has no derivative"):
        function(t) if function is np.fft.fft else function(t, t)


def public(module):
    """Return the public functions of a module of NumPy's by name."""
    names = [name for name in dir(module) if not name.startswith("_")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {name: getattr(module, name) for name in names}
    return {n: f for n, f in found.items() if callable(f) and not isinstance(f, type)}


@pytest.mark.parametrize("module", [np, np.linalg])
def test_every_function_of_numpys_is_in_one_of_three_lists(module):
    functions = public(module)
    for name in "row_stack in1d trapz".split():  # older names of functions that are listed
        functions.pop(name, None)
    passing = {f for names in PASSING.values() for f in listed(names)}
    refused = {f for names in REFUSED.values() for f in listed(names)}
    for name, function in functions.items():
        differentiable = function in numpy_functions and function not in passing
        assert differentiable + (function in passing) + (function in refused) == 1, name


def test_the_lists_name_functions_of_numpys():
    """Misspelt names would be passed over; those that only some versions have are few."""
    for names in [*PASSING.values(), *REFUSED.values()]:
        lacking = len(names.split()) - len(listed(names))
        assert lacking <= (0 if np.lib.NumpyVersion(np.__version__) >= "2.4.0" else 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.isclose(x, 1.0),
        lambda x: np.nonzero(x),
        lambda x: np.unique(x, return_counts=True),
        lambda x: np.searchsorted(np.array([0.5, 1.5]), x),
        lambda x: np.digitize(x, bins=[0.5, 1.5]),
        lambda x: np.count_nonzero(x, axis=0),
        lambda x: np.isin(x, [1.0]),
        lambda x: np.lexsort((x[0], x[1])),
        lambda x: np.result_type(x, np.float32),
        lambda x: np.linalg.matrix_rank(x),
        lambda x: np.array2string(x),
        lambda x: np.spacing(x),
        lambda x: np.where(x > 1),
        lambda x: x.nonzero(),
        lambda x: np.array([0.5, 1.5]).searchsorted(x.tolist()),
        lambda x: x[0].searchsorted([1.0]),
    ],
)
@pytest.mark.numpy_only
def test_what_has_no_derivative_by_nature_gives_arrays(call):
    x = np.array([[1.0, 2.0], [0.0, 1.0]])
    for y, expected in zip(leaves(call(tensors(x))), leaves(call(x)), strict=True):
        assert type(y) is type(expected)
        np.testing.assert_array_equal(y, expected)


@pytest.mark.numpy_only
def test_a_tensor_is_saved_as_its_array(tmp_path):
    t = tensors(np.ones(2))
    np.save(tmp_path / "t.npy", t)
    np.testing.assert_array_equal(np.load(tmp_path / "t.npy"), t.numpy())


@pytest.mark.parametrize(
    "call, why",
    [
        (lambda t: np.copyto(np.zeros(2), t), "in place"),
        (lambda t: np.full((2,), t[0]), "derivative would be lost|in place"),
        (lambda t: np.add.at(np.zeros(2), [0, 1], t), "in place"),
        (lambda t: np.put(t, 0, 1.0), "in place"),
        (lambda t: np.linalg.eig(np.outer(t, t)), "complex"),
        (lambda t: np.roots(t), "complex"),
        (lambda t: np.histogram(t), "counts"),
        (lambda t: t.sort(), "in place"),
        (lambda t: t.fill(1.0), "in place"),
        (lambda t: np.linalg.qr(t[:, None], "raw"), "mode 'raw'"),
        (lambda t: np.quantile(t, t[0]), "with respect to q"),
        (lambda t: np.pad(t, 1, mode="reflect", reflect_type="odd"), "reflect_type='odd'"),
    ],
)
@pytest.mark.numpy_only
def test_what_would_lose_a_derivative_is_refused_with_the_reason(call, why):
    with pytest.raises(TypeError, match=why):
        call(tensors(np.array([0.25, 0.5])))


@pytest.mark.parametrize(
    "call, option",
    [
        (lambda t: np.exp(t, out=np.zeros(2)), "out"),
        (lambda t: np.sum(t, out=np.zeros(())), "out"),
        (lambda t: np.add(t, t, where=np.ones(2, bool)), "where"),
        (lambda t: np.exp(t, order="F"), "order"),
    ],
)
def test_an_option_that_is_not_taken_is_named(call, option):
    with pytest.raises(TypeError, match=f"{option}="):
        call(tensors(np.ones(2)))


@pytest.mark.numpy_only
def test_a_tensor_never_turns_into_a_plain_array_unasked():
    t = tensors(np.ones(2))
    with pytest.raises(TypeError, match="derivative would be lost"):
        np.asarray(t)
    assert type(np.ones(2) * t) is Tensor and type(np.float64(2) * t) is Tensor
    with pytest.raises(TypeError):
        np.ones(2).__iadd__(t)
    with pytest.raises(TypeError):
        t[0] = 1.0


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda t: np.outer(t, t, None), r"np\.outer .*\(a, b\): too many positional"),
        (lambda t: np.sum(t, 0, None, None), r"np\.sum .*too many positional"),
        (lambda t: np.mean(t, 0, None, None), r"np\.mean .*too many positional"),
        (lambda t: np.clip(t, 0, 1, out=t), r"np\.clip .*out="),
    ],
)
def test_a_call_that_does_not_fit_names_the_numpy_function(call, sentence):
    with pytest.raises(TypeError, match=sentence):
        call(tensors(np.ones((2, 3))))


KEYWORDS = {
    "sum": lambda x: np.sum(a=x, axis=1),
    "inv": lambda x: np.linalg.inv(a=x @ x.T + np.identity(2)),
    "reshape": lambda x: np.reshape(x, (3, 2)),
    "split": lambda x: np.split(x, indices_or_sections=3, axis=1),
    "full_like": lambda x: np.full_like(x, fill_value=3),
    "zeros_like": lambda x: np.zeros_like(x, np.float32),
    "size": lambda x: np.size(x, axis=1),
    "tile": lambda x: np.tile(A=x, reps=np.int64(2)),
    "broadcast_to": lambda x: np.broadcast_to(x[0, :1], np.int64(2)),
    "norm": lambda x: np.linalg.norm(x, np.inf, axis=np.int64(1)),
    "atleast_1d": lambda x: np.atleast_1d(x[0, 0], x),
    "atleast_3d": lambda x: np.atleast_3d(x, x[0]),
    "empty index": lambda x: x[[]],
    "empty rows": lambda x: x[:, []],
    "take nothing": lambda x: np.take(x, []),
}


@pytest.mark.numpy_only
@pytest.mark.parametrize("name", KEYWORDS)
def test_numpys_names_and_numbers_are_taken(name):
    x = np.arange(1.0, 7.0).reshape(2, 3)
    assert_like_numpy("inv", KEYWORDS[name](tensors(x)), KEYWORDS[name](x))


LISTS = {
    "arctan2": lambda x: np.arctan2(x[0], [1.0, 2.0]),
    "arctan2 of a list": lambda x: np.arctan2((1.0, 2.0), x[0]),
    "power": lambda x: x ** [2.0, 3.0],
    "minimum": lambda x: np.minimum(x, [[1, 2], [3, 4]]),
    "where": lambda x: np.where([True, False], x, [1.0, 2.0]),
    "dot": lambda x: np.dot(x, [1.0, 2.0]),
    "inner": lambda x: np.inner([1.0, 2.0], x),
    "outer": lambda x: np.outer(x, [1.0, 2.0]),
    "kron": lambda x: np.kron([1.0, 2.0], x),
    "vdot": lambda x: np.vdot(x, [[1.0, 2.0], [3.0, 4.0]]),
    "tensordot": lambda x: np.tensordot(x, [[1.0, 2.0], [3.0, 4.0]]),
    "cross": lambda x: np.cross(np.stack([x[0, 0], x[0, 1], x[1, 0]]), [1.0, 2.0, 3.0]),
    "solve": lambda x: np.linalg.solve(x, [1.0, 2.0]),
    "einsum": lambda x: np.einsum("ij,j", x, [1.0, 2.0]),
}


@pytest.mark.numpy_only
@pytest.mark.parametrize("name", LISTS)
def test_lists_are_arrays(name):
    x = np.array([[1.5, 0.25], [0.5, 2.0]])
    np.testing.assert_allclose(LISTS[name](tensors(x)).numpy(), LISTS[name](x), rtol=1e-14)
    tm.gradgradcheck(LISTS[name], tensors(x))


def test_losses_take_lists():
    p = tensors(np.array([[1.0, 2.0], [3.0, 5.0]]))
    assert ops.mse(p, [[1, 2], [3, 4]]).item() == 0.25
    assert ops.cross_entropy(p * 0, [0, 1]).item() == pytest.approx(np.log(2))


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.int8])
def test_a_minimum_with_integers(dtype):
    t = tensors(np.array([0.5, -1.0, 1.0]))
    other = tm.tensor(np.ones(3, dtype))
    for y in (np.minimum(t, other), np.minimum(other, t)):
        np.testing.assert_array_equal(tm.grad(y.sum(), t).numpy(), [1, 1, 0.5])


def test_sigmoid_keeps_its_digits():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in (np.float32, np.float64):
            x = np.linspace(-80, 80, 1001).astype(dtype)
            y = ops.sigmoid(x)
            wide = x.astype(np.longdouble)
            exact = np.where(wide < 0, np.exp(wide), 1) / (1 + np.exp(-abs(wide)))
            assert y.dtype == dtype
            np.testing.assert_allclose(y, exact, rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(ops.sigmoid(np.array([-1e4, 0, 1e4])), [0, 0.5, 1])


@pytest.mark.parametrize("index", [lambda i: i, lambda i: (i, 0), lambda i: (slice(None), i)])
def test_an_index_array_may_change_afterwards(index):
    rows = np.array([0, 0])
    t = tensors(np.ones((2, 2)))
    y = t[index(rows)].sum() + np.take(t, rows).sum()
    expected = tm.grad(y, t).numpy()
    rows[:] = 1
    np.testing.assert_array_equal(tm.grad(y, t).numpy(), expected)


@pytest.mark.numpy_only
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("ddof", [1, 3, 4])
def test_variance_without_degrees_of_freedom_is_numpys(ddof):
    for x in (np.array([1.0, 2.0, 4.0], np.float32), np.ones(3)):
        assert_like_numpy("var", np.var(tensors(x), ddof=ddof), np.var(x, ddof=ddof))


def test_round():
    t = tensors(np.array([1.26, 2.5]))
    np.testing.assert_array_equal(round(t).numpy(), [1, 2])
    np.testing.assert_array_equal(round(t, 1).numpy(), [1.3, 2.5])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_deep_copy_is_a_leaf_or_detached(again):
    t = tensors(np.array([1.0, 2.0]))
    for of in (t, t * 2, t.detach(), tm.tensor([1, 2])):
        made = again(of)
        np.testing.assert_array_equal(made.numpy(), of.numpy())
        assert (made.dtype, made.requires_grad) == (of.dtype, of.requires_grad)
        assert made.node is None or made.node.op is None
        assert not np.shares_memory(made.numpy(), of.numpy())
    assert copy.copy(t).node is t.node


def test_using_the_values_of_what_is_named_like_is_explained():
    wrong = tm.op(np.sinh, "x", lambda g, x_like: g * np.cosh(x_like), name="wrong_sinh")
    try:
        t = tensors(np.ones(2))
        with pytest.raises(TypeError, match="NAME_like"):
            tm.grad(wrong(t).sum(), t)
    finally:
        del table["wrong_sinh"]


@pytest.mark.numpy_only
def test_a_tensor_has_what_arrays_have():
    lacking = {"base", "ctypes", "getfield", "itemset", "newbyteorder", "tostring", "view", "ptp"}
    lacking |= {"to_device"}
    assert {name for name in dir(np.ndarray) if name[0] != "_"} - set(dir(tm.Tensor)) <= lacking
    array = np.arange(6.0).reshape(2, 3).T
    t = tm.tensor(array, requires_grad=True)
    assert t.tobytes() == array.tobytes() and t.strides == array.strides
    assert t.flags.f_contiguous and [x.item() for x in t.flat] == list(array.flat)
    assert tm.func.grad(lambda x: x.flat[2])(array).tolist() == [[0, 0], [1, 0], [0, 0]]


def test_keywords_that_say_nothing_are_taken():
    t = tensors(np.array([[1.0, 2.0], [3.0, 4.0]]))
    for call in (
        lambda t: np.broadcast_to(t, (2, 2), subok=False),
        lambda t: np.copy(t, order="K", subok=False),
        lambda t: np.full_like(t, 2.0, order="K", subok=True) * 0.5 * t,
        lambda t: np.take(t, [0, 1], axis=0, mode="raise"),
    ):
        np.testing.assert_array_equal(call(t).numpy(), t.numpy())
