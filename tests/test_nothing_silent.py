"""What would lose a derivative says so, and what has derivative 0 gives 0 and not NaN."""

import math
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest

import tinymaml as tm
from tinymaml import func, maml, nn, ops
from tinymaml.engine import backend
from tinymaml.engine import op as engine_op
from tinymaml.engine.ops.fast import conv as fast_conv

X = np.array([0.3, -0.7, 1.1])
MASK = np.array([True, False, True])


def leaf(data):
    return tm.tensor(data, requires_grad=True)


@pytest.fixture(autouse=True)
def clean_table(monkeypatch):
    """Ops planted by a test are not part of the package's table."""
    monkeypatch.setattr(engine_op, "table", dict(engine_op.table))


# Transforms of functions that depend on tensors from outside

TRANSFORMS = {
    "grad": lambda f: func.grad(f)(2.0),
    "value_and_grad": lambda f: func.value_and_grad(f)(2.0)[1],
    "value": lambda f: func.value_and_grad(f)(2.0)[0],
    "vjp": lambda f: func.vjp(f, 2.0)[1](1.0)[0],
    "jvp": lambda f: func.jvp(f, 2.0, 1.0)[1],
    "hvp": lambda f: func.hvp(f, 2.0, 1.0),
    "jacobian": lambda f: func.jacobian(f)(2.0),
    "hessian": lambda f: func.hessian(f)(2.0),
}
OF_A = {"value": 16, "hvp": 24, "hessian": 24}  # d/da of 2 a^2 x^3 / a^2 ... at a = 1, see below


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_captured_tensor_keeps_its_derivative(name):
    """f = a^2 x^3 at a = 1, x = 2: of the value 2 a x^3, of f' 6 a x^2, of f'' 12 a x."""
    a = leaf(1.0)
    result = TRANSFORMS[name](lambda x: a * a * x**3)
    assert tm.grad(result, a).item() == OF_A.get(name, 24)


def test_a_tensor_by_keyword_keeps_its_derivative():
    a = leaf(3.0)
    result = func.grad(lambda x, a: a * x * x)(2.0, a=a)
    assert tm.grad(result, a).item() == 4


def test_a_captured_tensor_keeps_its_derivative_in_a_thread_pool():
    def outer(a):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: func.grad(lambda x: a * a * x)(2.0)).result()

    assert func.grad(outer)(5.0) == 10


def test_without_one_results_stay_arrays():
    inside = func.grad(lambda x: np.sum(x * leaf(2.0)))(X)  # made inside: newer, not from outside
    for result in (inside, func.grad(np.sum)(X), func.hessian(np.prod)(X)):
        assert type(result) is type(backend.asarray(X))


def test_no_grad_reaches_transforms():
    a, x = leaf(3.0), leaf(2.0)
    with tm.no_grad():
        results = [
            func.grad(np.square)(x),
            func.grad(lambda x: a * x)(2.0),
            func.vjp(np.square, x)[1](1.0)[0],
            *func.jvp(np.square, x, 1.0),
            func.hvp(lambda x: x**3, x, 1.0),
            func.jacobian(np.square)(x),
        ]
    assert not any(getattr(result, "requires_grad", False) for result in results)


# Functions that leave the graph


def set_item(x):
    array = np.zeros(2)
    array[0] = x
    return np.sum(array)


def set_flat(x):
    array = np.zeros(2)
    array.flat[0] = x
    return np.sum(array)


def fill(x):
    array = np.zeros(2)
    array.fill(x)
    return np.sum(array)


LEAVES = {
    "no return": lambda x: None,
    "a string": lambda x: "x",
    "a comparison": lambda x: x > 0,
    "float": lambda x: float(x),
    "math": lambda x: math.sin(x),
    "item": set_item,
    "flat": set_flat,
    "fill": fill,
    "float64": lambda x: np.float64(x),
    "fromiter": lambda x: np.fromiter([x, x], float).sum(),
    "complex": lambda x: x.astype(complex),
    "times i": lambda x: np.abs(x * 1j),
}


OURS = "would be lost", "has no derivative", "needs real"


@pytest.mark.numpy_only
@pytest.mark.parametrize("name", LEAVES)
@pytest.mark.parametrize("transform", [func.grad, func.jacobian, func.hessian])
def test_what_leaves_the_graph_is_an_error(transform, name):
    with pytest.raises((TypeError, ValueError)) as error:
        transform(LEAVES[name])(0.5)
    # NumPy puts a sentence of its own before that of float(), and for array.flat in its place
    said = "".join(traceback.format_exception(error.value))
    assert any(words in said for words in (*OURS, "setting single item"))


def test_so_is_it_in_the_loss_of_an_adaptation():
    params = {"w": leaf(1.0)}
    with pytest.raises(TypeError, match=r"would be lost.*\.item\(\)"):
        maml.adapt(lambda p, x, y: p["w"] * float(p["w"]), params, tm.Batch(X, X), lr=0.1)


def test_the_number_of_a_finished_loss_is_free():
    x = leaf(2.0)
    loss = x * x
    assert float(loss) == 4 and tm.grad(loss, x).item() == 4
    assert func.grad(lambda x: x * x.item())(2.0) == 2  # asked for


@pytest.mark.numpy_only
def test_an_assignment_is_refused_while_recording_and_free_otherwise():
    array, x = np.zeros(2), leaf(2.0)
    with pytest.raises((TypeError, ValueError)) as error:  # NumPy adds a sentence of its own
        array[0] = x
    assert "array[0] = t" in "".join(traceback.format_exception(error.value))
    with pytest.raises((TypeError, ValueError)):
        array.flat[0] = x
    array[0] = x.item()
    array[1] = float(x * 2)
    with tm.no_grad():
        array[0] += x * x
    array[1] += x.detach()
    np.testing.assert_array_equal(array, [6, 6])


def test_full_like_has_the_derivative_of_its_value():
    assert func.grad(lambda x: np.sum(np.full_like(leaf([1.0, 2.0]), x)))(3.0) == 2


def test_complex_results_are_refused_while_recording_and_free_otherwise():
    for f in (lambda x: x * 1j, lambda x: x.astype(complex), lambda x: x**1j):
        with pytest.raises(TypeError, match="complex128"):
            f(leaf(X))
        assert f(tm.tensor(X)).dtype == complex


# Masks select: 0, not NaN, where an infinite cotangent meets what was cut off

CUT = {
    "sqrt relu": lambda x: np.sqrt(ops.relu(x)),
    "cbrt relu": lambda x: np.cbrt(ops.relu(x)),
    "log maximum": lambda x: np.log(np.maximum(x, 0)),
    "log clip": lambda x: np.log(np.clip(x, 0, 1)),
    "root of relu": lambda x: ops.relu(x) ** 0.5,
    "power of relu": lambda x: ops.relu(x) ** -1.5,
    "array power of relu": lambda x: ops.relu(x) ** backend.asarray(1.5),
    "array root of relu": lambda x: np.sum(ops.relu(x) ** backend.asarray([0.5, -1, 1.5, 0])),
    "log1p": lambda x: np.log1p(np.maximum(x, 0) - 1),
    "arcsin": lambda x: np.arcsin(np.minimum(1 - x, 1)),
    "arccos": lambda x: np.arccos(np.minimum(1 - x, 1)),
    "arccosh": lambda x: np.arccosh(1 + ops.relu(x)),
    "arctanh": lambda x: np.arctanh(1 - ops.relu(x)),
    "arctan2": lambda x: np.arctan2(ops.relu(x), ops.relu(x)),
    "hypot": lambda x: np.hypot(ops.relu(x), 0),
    "norm": lambda x: np.linalg.norm(np.stack([ops.relu(x)])),
    "std": lambda x: np.std(np.stack([ops.relu(x), ops.relu(x)])),
    "1 / relu": lambda x: 1 / ops.relu(x),
    "reciprocal relu": lambda x: np.reciprocal(ops.relu(x)),
    "1 / floor": lambda x: 1 / np.floor(x + 1),
    "1 / ceil": lambda x: 1 / np.ceil(x),
    "sqrt sign": lambda x: np.sqrt(1 + np.sign(x)),
    "1 / round": lambda x: 1 / np.round(x),
    "sqrt minimum": lambda x: np.sqrt(-np.minimum(-x, 0)),
    "where": lambda x: np.where(x > 0, np.sqrt(np.abs(x) * (x > 0)), 0),
}


@pytest.mark.parametrize("name", CUT)
@np.errstate(all="ignore")
def test_cut_off_is_zero_to_second_order(name):
    f = CUT[name]
    np.testing.assert_array_equal(func.grad(f)(-0.4), 0)
    second = func.hessian(lambda z: z[0] * f(z[1]))(np.array([2.0, -0.4]))
    np.testing.assert_array_equal(second, np.zeros((2, 2)))


@np.errstate(all="ignore")
def test_what_is_chosen_still_has_its_derivative():
    second = func.hessian(lambda z: z[0] * np.sqrt(ops.relu(z[1])))(np.array([2.0, 0.25]))
    np.testing.assert_allclose(second, [[0, 1], [1, -4]], rtol=1e-14)
    # at c = 0 the cotangent of log is 0, and yet d/dc dx = 1/x
    second = func.hessian(lambda z: z[0] * np.log(z[1]))(np.array([0.0, 2.0]))
    np.testing.assert_allclose(second, [[0, 0.5], [0.5, 0]], rtol=1e-14)


@np.errstate(all="ignore")
def test_pools_keep_an_infinite_cotangent_to_what_was_chosen():
    image = np.array([[0.0, -1.0], [-2.0, -3.0]]).reshape(1, 2, 2, 1)
    for pool in (ops.max_pool2d, lambda x: np.max(x, axis=(1, 2))):
        g = backend.to_numpy(
            func.grad(lambda x, pool=pool: np.sum(np.sqrt(pool(x))))(image)
        ).ravel()
        assert g[0] == math.inf and not g[1:].any()
    picked = fast_conv._gather(image - math.inf, np.zeros((1, 1, 1, 1), np.uint8), (2, 2), 2)
    assert picked.item() == -math.inf


def test_selecting_equals_multiplying_in_every_precision():
    rng = np.random.default_rng(0)
    for dtype in (np.float16, np.float32, np.float64, np.longdouble):
        x = rng.standard_normal((3, 4)).astype(dtype).T
        kept = engine_op.table["keep"](x, x)
        assert kept.dtype == dtype
        np.testing.assert_array_equal(kept, x * (x > 0))


# Small differences in float32


def test_small_differences_do_not_cancel_in_float32():
    logits = np.array([[1020.0, 1010.0]], np.float32)
    exact = math.log1p(math.exp(-10))
    of_cross_entropy = float(nn.cross_entropy(logits, np.array([0])))
    of_softmax = -float(ops.log_softmax(logits)[0, 0])
    assert of_cross_entropy == pytest.approx(exact, rel=2e-3)  # of 1 + 4.5e-5 in float32
    assert of_softmax == pytest.approx(exact, rel=2e-3)
    of_logsumexp = func.grad(lambda x: ops.logsumexp(x))(np.array([1000, 1000], np.float32))
    np.testing.assert_allclose(of_logsumexp, [0.5, 0.5], rtol=1e-6)


# Ops by hand


class Doubler:
    def double(self, x):
        return x * 2


def test_a_bound_method_is_a_forward():
    assert func.grad(tm.op(Doubler().double, "x", lambda g: g * 2))(1.0) == 2


def scale_by(x, by=2.0):
    return x * by


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tm.op(np.multiply, "a b", lambda g: g), "takes 'a b' but has 1 derivatives"),
        (lambda: tm.op(np.multiply, "a b"), "no derivatives"),
        (lambda: tm.op(lambda *a: a[0], "*a"), "no derivatives"),
    ],
)
def test_an_op_that_lacks_derivatives(make, words):
    with pytest.raises(TypeError, match=words):
        make()


@pytest.mark.parametrize(
    ("forward", "names"),
    [(np.multiply, "a"), (np.sin, "a b"), (lambda x: x, "a b"), (lambda a, *, b: a * b, "a b")],
)
def test_a_row_whose_names_are_not_those_of_its_forward(forward, names):
    with pytest.raises(TypeError, match=f"takes '{names}', but its forward does not take so many"):
        tm.op(forward, names, *[lambda g: g] * len(names.split()))


def test_a_call_that_lacks_an_argument_names_the_op():
    by = tm.op(lambda x, by: x * by, "x", lambda g, by: g * by, name="by")
    assert func.grad(by)(1.0, by=2.0) == 2
    for call in (lambda x: by(x), lambda x: by(), lambda x: by(x, 1, 2), lambda x: by(x, to=1)):
        with pytest.raises(TypeError, match=r"by\(x, by\): "):
            func.grad(call)(1.0)


def test_a_tensor_where_none_is_differentiated_is_named():
    scale = tm.op(scale_by, "x", lambda g, by: g * by, name="scale")
    assert func.grad(lambda b: scale(1.0, by=b))(2.0) == 1  # no op of ours: NumPy's product
    for f in (lambda b: scale(b, by=b), lambda b: scale(b, b)):
        with pytest.raises(TypeError, match=r"op 'scale' got a tensor for its keyword 'by'"):
            func.grad(f)(2.0)


@pytest.mark.parametrize(
    ("cotangent", "words"),
    [
        (None, "NoneType"),
        (1.0, "float"),
        (np.ones((3, 2)), r"shape \(3, 2\)"),
        (np.ones(6), r"shape \(6,\)"),
        (np.ones(()), r"shape \(\)"),
    ],
)
@pytest.mark.parametrize("joint", [False, True])
def test_a_derivative_of_a_wrong_kind_names_op_and_argument(cotangent, words, joint):
    if joint:
        bad = tm.op(lambda x: x.sum(), "x", joint=lambda g: [cotangent], name="bad")
    else:
        bad = tm.op(lambda x: x.sum(), "x", lambda g: cotangent, name="bad")
    with pytest.raises(TypeError, match=f"op 'bad': its derivative for 'x' gave {words}"):
        func.grad(bad)(np.ones((2, 3)))


# Checks


@pytest.mark.parametrize("result", [None, 3, True, "x", np.zeros(0), [], np.arange(3)])
@pytest.mark.parametrize("check", [tm.gradcheck, tm.gradgradcheck])
def test_a_result_without_numbers_proves_nothing(check, result):
    with pytest.raises(TypeError, match="gives no floating-point number"):
        check(lambda x: result, X)


def test_a_second_input_is_not_taken_for_a_step():
    with pytest.raises(TypeError, match="positional"):
        tm.gradcheck(np.multiply, X, X)


@pytest.mark.parametrize("seed", range(20))
def test_the_kinks_of_the_papers_network_are_not_blamed(seed):
    rng = np.random.default_rng(seed)
    model = nn.mlp((1, 40, 40, 1))
    params = {name: p.numpy().astype(float) for name, p in model.init(rng).items()}
    x = backend.asarray(rng.uniform(-5, 5, (10, 1)))
    assert tm.gradcheck(lambda p: nn.mse_loss(model(p, x), np.sin(x)), params)


@pytest.mark.parametrize("check", [tm.gradcheck, tm.gradgradcheck])
@pytest.mark.parametrize("kink", [0.0, 3e-7, -3e-8])
def test_a_point_on_a_kink_or_beside_it(check, kink):
    x, weights = np.array([0.5, kink, -1.0]), backend.asarray([1.0, 2.0, 3.0])
    assert check(lambda x: np.sum(ops.relu(x) * weights) ** 2, x)
    assert check(np.abs, x)
    with pytest.raises(AssertionError):
        tm.gradcheck(lambda x: ops.relu(x) * x.detach(), x)


def test_a_recorded_derivative_that_differs_from_the_raw_one_is_found_at_first_order():
    def vjp(g, x):
        return g * 3 * x if type(g) is tm.Tensor else g * 2 * x

    with pytest.raises(AssertionError, match="two_faced"):
        tm.gradcheck(tm.op(np.square, "x", vjp, name="two_faced"), X)


def test_a_joint_derivative_that_is_wrong_for_one_argument_alone_is_found():
    def both(needed, g, a, b):
        return [g * b if needed[1] else g, g * a]

    product = tm.op(np.multiply, "a b", joint=both, name="product")
    with pytest.raises(AssertionError, match="product"):
        tm.gradcheck(product, (X, X + 1))


def test_a_joint_derivative_that_is_wrong_for_some_arguments_is_found():
    def all_three(needed, g, a, b, c):
        wrong = needed == [True, False, True]
        return [g * b * c, g * a * c, g * a * b * (2 if wrong else 1)]

    product = tm.op(lambda a, b, c: a * b * c, "a b c", joint=all_three, name="product")
    with pytest.raises(AssertionError, match="product"):
        tm.gradcheck(product, (X, X + 1, X + 2))
    with pytest.raises(AssertionError, match="product"):
        tm.gradcheck(lambda a, b, c, d: product(a, b, c) * d, (X, X + 1, X + 2, X + 3))


@pytest.mark.parametrize("of_x", [1e-8, 1e-3, 1.0, 1e5, 1e9])
@pytest.mark.parametrize("of_y", [1e-9, 1.0, 1e9])
def test_gradcheck_judges_at_every_scale(of_x, of_y):
    x = of_x * X
    assert tm.gradcheck(lambda x: of_y * x**2, x)
    assert tm.gradgradcheck(lambda x: of_y * x**2, x)
    for vjp in (lambda g, x: g * x, lambda g: g * 0):
        wrong = tm.op(np.square, "x", vjp, name="wrong")
        with pytest.raises(AssertionError, match="wrong"):
            tm.gradcheck(lambda x, wrong=wrong: of_y * wrong(x), x)


class TestMetaGradient:
    """Of a line y = w x + b on two tasks of two examples."""

    params: ClassVar = {"w": np.array(0.5), "b": np.array(0.1)}
    x = np.array([[0.3, -1.0], [2.0, 0.7]])
    tasks = tm.Task(tm.Batch(x, np.sin(x)), tm.Batch(x + 0.3, np.cos(x)))

    @staticmethod
    def loss(params, x, y, axis=-1):
        line = params["w"][..., None] * x + params["b"][..., None]
        return np.mean(np.tanh(line - y) ** 2, axis=axis)

    def check(self, loss=None, **options):
        loss = loss or self.loss
        return tm.check_meta_gradient(loss, self.params, self.tasks, lr=0.3, steps=2, **options)

    def test_right(self, capsys):
        assert self.check().verdict.startswith("right")

    def test_the_task_axis_mixed_up_with_the_examples(self, capsys):
        def mixed(params, x, y):
            return self.loss(params, x, y, axis=0 if x.ndim > 1 else -1)

        assert "mixes the task axis" in self.check(mixed).verdict

    def test_a_value_that_is_not_the_meta_loss(self, capsys):
        twice = lambda *args, **options: 2 * maml.meta_loss(*args, **options)
        assert "that of maml.meta_loss" in self.check(meta_loss=twice).verdict

    @pytest.mark.parametrize("noise", [math.nan, "random"])
    def test_random_and_nan(self, noise, capsys):
        rng = np.random.default_rng(0)

        def loss(params, x, y):
            return self.loss(params, x, y) * (rng.uniform() if noise == "random" else noise)

        with pytest.raises(ValueError, match="the meta-loss is"):
            self.check(loss)

    def test_an_ignored_first_order_is_not_blamed(self, capsys):
        def lossy(loss, params, tasks, *, lr, steps, first_order):
            value = maml.meta_loss(loss, params, tasks, lr=lr, steps=steps)
            return (
                value + params["b"] - params["b"].detach()
                if type(params["b"]) is tm.Tensor
                else value
            )

        verdict = self.check(meta_loss=lossy).verdict
        assert "in the adaptation or after it" in verdict

    def test_an_ignored_first_order_is_named(self, capsys):
        def always(*args, first_order, **options):
            return maml.meta_loss(*args, **options)

        def other(*args, first_order, **options):
            value = maml.meta_loss(*args, first_order=first_order, **options)
            return value + first_order * (args[1]["b"] - args[1]["b"].detach())

        for meta_loss, words in ((always, "is ignored"), (other, "gives another")):
            verdict = self.check(meta_loss=meta_loss).verdict
            assert verdict.startswith("wrong") and f"first_order=True {words}" in verdict

    def test_an_op_that_is_wrong_at_adapted_parameters_alone_is_named(self, capsys):
        half = tm.op(np.tanh, "x", lambda g, y: g * (1 - y * y) / 2, name="half_tanh")

        def loss(params, x, y):
            if abs(np.ravel(params["w"].numpy())[0] - 0.5) > 1e-3:  # adapted
                return np.mean(half(params["w"][..., None] * x - y) ** 2, axis=-1) + 0 * params["b"]
            return self.loss(params, x, y)

        assert "op 'half_tanh'" in self.check(loss).verdict


# Rates, gradients and losses


def one_loss(params, x, y):
    return np.mean((params["w"] * x - y) ** 2, axis=-1)


def adapt(lr, loss=one_loss, dtype=np.float32, **params):
    params = params or {"w": tm.tensor(np.ones(3, dtype), requires_grad=True)}
    x = np.ones(3, dtype)
    return maml.adapt(loss, params, tm.Batch(x, 2 * x), lr=lr)


@pytest.mark.parametrize("lr", [np.float64(0.1), np.array(0.1), leaf(0.1), np.full(3, 0.1)])
def test_a_rate_leaves_shape_and_dtype_as_they_are(lr):
    adapted = adapt({"w": lr})["w"]
    assert adapted.dtype == np.float32 and adapted.shape == (3,)
    np.testing.assert_allclose(adapted.numpy(), np.ones(3) + 0.1 * 2 / 3, rtol=1e-6)


def test_a_learned_rate_keeps_its_derivative():
    lr = leaf(0.1)
    np.testing.assert_allclose(tm.grad(adapt({"w": lr})["w"].sum(), lr).numpy(), 2, rtol=1e-6)


def test_a_rate_that_would_enlarge_a_parameter_is_refused():
    for lr in (np.full((2, 3), 0.1), leaf(np.full(4, 0.1))):
        with pytest.raises(ValueError, match=r"inner rate of 'w' has shape .* \(3,\)"):
            adapt(lr)


@pytest.mark.parametrize("make", [tm.optim.SGD, tm.optim.Adam])
def test_optimisers_keep_shape_and_dtype(make):
    params = {"w": tm.tensor(np.ones(3, np.float32), requires_grad=True)}
    optimizer = make(np.float64(0.1))
    state = optimizer.init(params)
    new, _ = optimizer.update(params, {"w": tm.tensor(np.ones(3, np.float32))}, state)
    assert new["w"].dtype == np.float32
    for gradient in ({"w": tm.tensor(np.ones((2, 3)))}, {"w": tm.tensor(1.0)}, {}):
        with pytest.raises(ValueError, match=r"parameter 'w' of shape \(3,\)"):
            optimizer.update(params, gradient, state)
    for lr in (np.full(3, 0.1), math.nan, math.inf, leaf(0.1)):
        with pytest.raises(ValueError, match="learning rate"):
            make(lr)


@pytest.mark.parametrize(
    ("result", "words"),
    [(1.0, "float"), (None, "NoneType"), ((leaf(1.0),) * 2, "tuple"), (np.ones(2), "ndarray")],
)
def test_a_loss_that_is_no_tensor_is_named(result, words):
    with pytest.raises(TypeError, match=f"the loss gave {words}, but it must return a tensor"):
        adapt(0.1, loss=lambda p, x, y: result)


def test_a_loss_that_ignores_a_parameter_names_it():
    with pytest.raises(ValueError, match="the loss does not depend on parameter 'b'"):
        adapt(0.1, w=leaf(1.0), b=leaf(1.0))


def test_no_parameters():
    with pytest.raises(ValueError, match="params is empty"):
        maml.adapt(one_loss, {}, tm.Batch(X, X), lr=0.1)


def test_tasks_may_be_plain_tuples():
    x = np.ones((2, 3))
    params = {"w": leaf(1.0)}
    loss = lambda p, x, y: np.mean((p["w"][..., None] * x - y) ** 2, axis=-1)
    given = maml.meta_loss(loss, params, ((x, 2 * x), (x, 2 * x)), lr=0.1)
    batch = tm.Batch(x, 2 * x)
    assert given.item() == maml.meta_loss(loss, params, tm.Task(batch, batch), lr=0.1).item()


# Changes in place


@pytest.mark.numpy_only
@pytest.mark.parametrize("x", [leaf(X), tm.tensor(X)])
def test_results_are_read_only(x):
    for y in (x * x, x.T, x[1:], x.sum(), np.where(X > 0, x, 0), x > 0):
        with pytest.raises(ValueError, match="read-only"):
            y.data[...] = 1
    x.data[0] = x.data[0]  # what the user gave stays the user's


@pytest.mark.numpy_only
def test_an_argument_that_is_handed_on_stays_as_it_was():
    same = tm.op(lambda x: x, "x", lambda g: -g, name="reversal")
    array = X.copy()
    y = same(leaf(array))
    with pytest.raises(ValueError, match="read-only"):
        y.data[0] = 1
    array[0] = 1
    assert func.grad(same)(1.0) == -1


@pytest.mark.numpy_only
def test_values_of_transforms_may_be_written_into():
    for value in (func.vjp(np.exp, X)[0], func.jvp(np.exp, X, X)[0], func.grad(np.prod)(X)):
        value += 1


@pytest.mark.numpy_only
@pytest.mark.parametrize(
    "f",
    [
        lambda x, c: np.sum(x * c),
        lambda x, c: np.sum(np.where(c > 0, x, 0) * c),
        lambda x, c: np.sum(x @ c),
        lambda x, c: np.sum(x**c),
        lambda x, c: nn.mse_loss(x[None], c[None]),
        lambda x, c: np.einsum("i,i", x, c),
        lambda x, c: np.sum(np.where(MASK, x, c)),
        lambda x, c: np.max(np.maximum(x, c)),
    ],
)
def test_a_constant_that_changes_after_it_was_used(f):
    x, c = leaf(X), np.array([2.0, 3.0, 4.0])
    expected = func.grad(f)(X, c)
    y = f(x, c)
    try:
        c[:], MASK[:] = 7, False
        np.testing.assert_array_equal(tm.grad(y, x).numpy(), expected)
    finally:
        MASK[:] = True, False, True


# Sentences


@pytest.mark.numpy_only
def test_arrays_and_tensors_together():
    array, t = np.zeros(3), leaf(X)
    with pytest.raises(TypeError, match=r"operators such as \+=.*array = array \+ tensor"):
        array += t
    np.testing.assert_array_equal(np.ones(3).clip(0, t).numpy(), np.clip(X, None, 1))
    with pytest.raises(TypeError, match=r"join a list of tensors with np\.stack"):
        np.sum([t, t])
