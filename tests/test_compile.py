"""compile(): programs equal to what they were made of, bit for bit, and what cannot be one."""

import functools
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_derivatives import DIFFERENTIABLE
from test_learners import LEARNERS, TRAINED, episodes, init
from test_maml import problem

import tinymaml as tm
from tinymaml.engine import backend
from tinymaml.engine import op as engine_op
from tinymaml.engine.numpy_rules import OF_SHAPES, PASSING, listed, numpy_functions
from tinymaml.engine.structure import leaves
from tinymaml.engine.tensor import raw
from tinymaml.errors import UserError
from tinymaml.parallel import threads
from tinymaml.parallel.chunks import gradient_by_chunks, value_and_gradient

SEED = 3
X = np.random.default_rng(SEED).standard_normal((4, 6))
OTHERS = X + 1, -X, 2 * X

pytestmark = pytest.mark.numpy_only


@pytest.fixture(autouse=True)
def clean_table(monkeypatch):
    """Ops planted by a test are not part of the package's table."""
    monkeypatch.setattr(engine_op, "table", dict(engine_op.table))


def same(ours, eager):
    """Whether two structures of arrays have the same bytes (of a long double, values)."""
    ours, eager = ([np.asarray(raw(x)) for x in leaves(s)] for s in (ours, eager))
    assert [(a.shape, a.dtype) for a in ours] == [(a.shape, a.dtype) for a in eager]
    return all(
        a.tobytes() == b.tobytes() or (a.itemsize > 8 and np.array_equal(a, b, equal_nan=True))
        for a, b in zip(ours, eager)
    )


def ran(function, *args):
    """Return a compiled function that has been recorded and checked, and its results of a third."""
    compiled = tm.compile(function)
    for _ in range(2):
        compiled(*args)
    return compiled, compiled(*args)


def eager(function, *args):
    """Call a function as compile does: with tensors for arrays."""
    wrap = lambda a: tm.tensor(a) if isinstance(a, np.ndarray) else a
    return function(*[tm.engine.structure.map_leaves(wrap, a) for a in args])


# Every op


def derivatives(sample):
    """Return a function of the arrays of a sample: value, first and second derivative."""

    def orders(arrays, cotangents):
        variables = [tm.tensor(a, requires_grad=True) for a in arrays]
        parts = [y for y in leaves(sample.of(*variables)) if type(y) is tm.Tensor]
        parts = [y for y in parts if y.requires_grad]
        options = {"create_graph": True, "allow_unused": True}
        first = tm.grad(parts, variables, cotangents[: len(parts)], **options)
        found = [g for g in first if g is not None and g.requires_grad]
        second = []
        if found:
            probes = [tm.tensor(np.cos(np.arange(g.size)).reshape(g.shape)) for g in found]
            second = tm.grad(found, variables, probes, allow_unused=True)
        return parts, [g for g in first if g is not None], [g for g in second if g is not None]

    return orders


def sampled(sample):
    """Return the function of a sample, its arguments, and others of the same shapes."""
    arrays, rng = sample.arrays(), np.random.default_rng(SEED)
    cotangents = [rng.standard_normal(np.shape(raw(y))) for y in leaves(sample.of(*arrays))]
    near = [np.asarray(a * (1 + 0.01 * rng.random(a.shape)), a.dtype) for a in arrays]
    return derivatives(sample), (arrays, cotangents), (near, cotangents)


FIRST = [p if p.id.endswith("-0") else pytest.param(*p.values, id=p.id, marks=pytest.mark.slow)
         for p in DIFFERENTIABLE]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # some leave the domain of their op
@pytest.mark.parametrize("sample", FIRST)
def test_samples_of_every_op(sample, request):
    orders, given, near = sampled(sample)
    compiled, result = ran(orders, *given)
    assert same(result, orders(*given))
    if "batch_norm_" not in request.node.name:  # whose samples work out moments of raw arrays
        assert same(compiled(*near), orders(*near))


@pytest.mark.parametrize("sample", DIFFERENTIABLE[::11])
def test_programs_on_another_array_library(sample):
    with tm.use_backend("strict"):
        arrays = [backend.asarray(a) for a in sample.arrays()]
        orders = derivatives(sample)
        try:
            shapes = [np.shape(raw(y)) for y in leaves(sample.of(*arrays))]
            cotangents = [backend.asarray(np.ones(shape)) for shape in shapes]
            expected = orders(arrays, cotangents)
        except (TypeError, AttributeError):
            pytest.skip("CuPy lacks what this takes")
        _, result = ran(orders, arrays, cotangents)
        for a, b in zip(leaves(result), leaves(expected), strict=True):
            np.testing.assert_allclose(
                backend.to_numpy(raw(a)), backend.to_numpy(raw(b)), rtol=1e-12
            )


# MAML and other learners


def classifier(n_tasks):
    """A loss of images as vectors, normalised by batch; its parameters, and tasks."""
    rng, model = np.random.default_rng(0), tm.nn.mlp((5, 8, 3), tm.nn.he_normal, batch_norm=True)
    x = rng.standard_normal((2, n_tasks, 6, 5)).astype(np.float32)
    y = np.stack([rng.permutation(6) % 3 for _ in range(2 * n_tasks)]).reshape(2, n_tasks, 6)

    def loss(params, x, y):
        return tm.nn.cross_entropy(model(params, x), y)

    return loss, model.init(rng), tm.Task(*map(tm.Batch, x, y))


def meta_problem(network, n_tasks):
    if network == "batch norm":
        return classifier(n_tasks)
    return problem(network, n_tasks, np.float32)


def moved(params, tasks):
    """Return other parameters and tasks of the same shapes."""
    params = {name: tm.tensor(1.1 * p.data, requires_grad=True) for name, p in params.items()}
    params = {name: tm.tensor(p.data.astype(np.float32), None, True) for name, p in params.items()}
    return params, tm.Task(*[tm.Batch(x[::-1].copy(), y[::-1].copy()) for x, y in tasks])


def cases():
    for network in ("mlp", "batch norm", "stride", "pool"):
        for n_tasks, steps in ((1, 1), (5, 1), (5, 5)):
            for first_order in (False, True):
                long = steps == 5 and network in ("stride", "pool")
                marks = [pytest.mark.slow] if long else []
                yield pytest.param(network, n_tasks, steps, first_order, marks=marks)


@pytest.mark.parametrize("network, n_tasks, steps, first_order", [*cases()])
def test_meta_gradient(network, n_tasks, steps, first_order):
    loss, params, tasks = meta_problem(network, n_tasks)
    options = {"lr": 0.1, "steps": steps, "first_order": first_order}

    def meta_gradient(params, tasks):
        return tm.maml.meta_gradient(loss, params, tasks, **options)

    compiled, result = ran(meta_gradient, params, tasks)
    assert same(result, meta_gradient(params, tasks))
    others = moved(params, tasks)
    assert same(compiled(*others), meta_gradient(*others))
    assert not compiled.constants
    orders = {operation["order"] for operation in compiled.program}
    assert orders == ({0, 1} if first_order else {0, 1, 2})


@pytest.mark.parametrize("network", ["mlp", "stride"])
def test_chunks_of_tasks(network):
    """The gradient of a chunk is compiled, once for each size; they are shared out to threads."""
    loss, params, tasks = meta_problem(network, 5)
    objective = lambda params, tasks: tm.maml.meta_loss(loss, params, tasks, lr=0.1)
    whole = functools.partial(gradient_by_chunks, objective, params, tasks, 2)
    with ThreadPoolExecutor(1) as pool:  # a program runs in one thread at a time
        compiled = tm.compile(value_and_gradient(objective))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threads, "_pool", lambda: pool)
            for _ in range(4):
                assert same(whole(compiled), whole())
    with pytest.raises(TypeError, match=r"cannot share out chunks .* the gradient of one chunk"):
        tm.compile(whole)()


@pytest.mark.parametrize("steps", [1, 3])
def test_adapting_to_one_task_without_a_task_axis(steps):
    loss, params, tasks = problem("stride", 2, np.float32)
    adapt = lambda params, support: tm.maml.adapt(loss, params, support, lr=0.1, steps=steps)
    support, other = (tm.Batch(*[a[i] for a in tasks.support]) for i in range(2))
    compiled, _ = ran(adapt, params, support)
    assert same(compiled(params, other), adapt(params, other))


@pytest.mark.parametrize("name", TRAINED)
def test_objectives_of_learners(name):
    """What a learner says of itself is so; trainings ask it."""
    learner = LEARNERS[name]
    if hasattr(learner, "n_way"):
        learner = replace(learner, n_way=3)
    params, step = init(learner), value_and_gradient(learner.objective)
    compiled, rng = tm.compile(step), np.random.default_rng(SEED)
    prepared = [learner.prepare(episodes(seed=i), rng, i) for i in range(3)]
    if learner.compiles:
        for tasks in prepared:
            assert same(compiled(params, tasks, 1.0), step(params, tasks, 1.0))
        return
    with pytest.raises(RuntimeError, match="did something else than at its first call"):
        for tasks in prepared:
            compiled(params, tasks, 1.0)


def test_counting_classes_by_their_labels_is_refused():
    learner = LEARNERS["ProtoNet"]
    with pytest.raises(TypeError, match=r"cannot make a Python number .*int\(support.y.max\(\)\)"):
        tm.compile(learner.objective)(init(learner), episodes())


# Any program

UNARY = [
    np.tanh,
    np.square,
    np.negative,
    lambda t: np.maximum(t, 0.1),
    lambda t: np.where(t > 0, t, 2 * t),
    lambda t: np.exp(-t * t),
    lambda t: t.reshape(-1),
    lambda t: t.reshape(t.shape[::-1]),
    lambda t: t.T,
    lambda t: t[..., None],
    lambda t: t[::-1] if t.ndim else t,
    lambda t: t[..., :1] if t.ndim else t,
    lambda t: t.sum(axis=0, keepdims=True) if t.ndim else t,
    lambda t: t.mean(),
    lambda t: np.concatenate([t, 2 * t]) if t.ndim else t,
    lambda t: np.broadcast_to(t, (2, *t.shape)),
    lambda t: t,
    lambda t: tm.func.grad(lambda u: (np.sin(u) * u).sum())(t),
]
BINARY = [np.add, np.multiply, np.subtract, np.maximum, lambda a, b: a / (2 + b * b)]


@st.composite
def programs(draw):
    """A function of two arrays, value and two orders of derivatives, and three pairs of them."""
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4))
    places = st.integers(0, 10)
    steps = draw(st.lists(st.tuples(st.integers(0, 40), places, places), min_size=2, max_size=10))
    kept = draw(st.lists(places, min_size=1, max_size=3))

    def function(a, b):
        variables = [tm.tensor(x, requires_grad=True) for x in (a, b)]
        values = list(variables)
        for which, i, j in steps:
            one, two = values[i % len(values)], values[j % len(values)]
            small = one.size * two.size < 400 and one.ndim + two.ndim < 10
            if which >= len(UNARY) and small and _fit(one, two):
                values.append(BINARY[which % len(BINARY)](one, two))
            elif small:
                values.append(UNARY[which % len(UNARY)](one))
        chosen = [values[k % len(values)] for k in kept]
        loss = sum((np.sin(v) * (i + 1)).sum() for i, v in enumerate(chosen))
        first = tm.grad(loss, variables, create_graph=True, allow_unused=True)
        first = [g for g in first if g is not None]
        squares = sum((g * g).sum() for g in first)
        second = tm.grad(squares, variables, allow_unused=True) if squares.requires_grad else []
        return chosen, {"first": first, "second": [g for g in second if g is not None]}

    rng = np.random.default_rng(draw(st.integers(0, 100)))
    order = draw(st.sampled_from("CF"))
    pairs = [[np.array(rng.standard_normal(s), order=order) for s in shapes.input_shapes]
             for _ in range(3)]  # fmt: skip
    return function, pairs


def _fit(a, b):
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return False
    return True


@settings(max_examples=60, derandomize=True, deadline=None)
@given(programs())
def test_random_programs(drawn):
    function, pairs = drawn
    compiled, before = tm.compile(function), []
    for a, b in [pairs[0], pairs[1], pairs[2], pairs[0]]:
        given = a.copy(), b.copy()
        result = compiled(a, b)
        assert same(result, function(a, b))
        assert same((a, b), given)  # inputs are not written to
        before.append((result, [np.array(raw(y)) for y in leaves(result)]))
    for result, copies in before:  # nor are results of calls before
        assert same(leaves(result), copies)


# What a program keeps, and what it gives


def aliased(t):
    y = t * 2
    return {"in": (t, t), "view": (t.T, t[1:]), "y": [y, y, y[0], y.reshape(-1)], "made": (y + 1,)}


MAKERS = {
    "inputs, views and results": aliased,
    "constants": lambda t: (t * 1, tm.tensor(CAPTURED), tm.tensor(np.ones(3)) * 2.0),
    "constant derivatives": lambda t: [
        tm.func.grad(lambda u, k=k: (k * u).sum())(t) for k in (1, 2)
    ],
    "nothing": lambda t: {},
    "named tuples": lambda t: [tm.Batch(t, np.tanh(t)), {"a": (t.mean(),)}],
}
CAPTURED = np.arange(6.0)


@pytest.mark.parametrize("name", MAKERS)
def test_results_share_no_memory(name):
    compiled, results = tm.compile(MAKERS[name]), []
    for x in (X, *OTHERS, X):
        given = x.copy()
        result = compiled(x)
        assert type(result) is type(MAKERS[name](tm.tensor(x)))
        assert same(result, eager(MAKERS[name], x))
        arrays = [raw(y) for y in leaves(result)]
        others = [x, CAPTURED, *[raw(y) for r, _ in results for y in leaves(r)]]
        for i, a in enumerate(arrays):
            assert not any(np.may_share_memory(a, b) for b in (*arrays[:i], *others))
            a += 0  # and it may be written to
        assert same(x, given)
        results.append((result, [a.copy() for a in arrays]))
    for result, copies in results:
        assert same(leaves(result), copies)


def test_what_a_call_gave_goes_into_the_next():
    compiled = tm.compile(lambda a, b: (a * 2 + b, np.tanh(a)))
    a = b = X
    for _ in range(5):
        expected = a * 2 + b, np.tanh(a)
        a, b = map(raw, compiled(a, b))
        assert same((a, b), expected)


STRIDED = {
    "Fortran": np.asfortranarray,
    "steps": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "a view in the middle": lambda a: np.pad(a, 2)[2:-2, 2:-2],
    "big-endian": lambda a: a.astype(">f8"),
    "a subclass": lambda a: a.view(np.memmap),
}


@pytest.mark.parametrize("name", STRIDED)
def test_strides(name):
    def function(x, w):
        w = tm.tensor(w, requires_grad=True)
        value = (np.tanh(x @ w.T) * x.reshape(-1)[:4]).sum()
        return tm.grad((tm.grad(value, w, create_graph=True) ** 2).sum(), w), x.reshape(-1) * 2

    compiled = tm.compile(function)
    for x in (X, *OTHERS):
        args = STRIDED[name](x), STRIDED[name](x[::-1])
        assert same(compiled(*args), eager(function, *args))


def test_overlapping_arguments():
    function = lambda a, b: (a * b + a, np.exp(a))
    compiled = tm.compile(function)
    for x in (X, *OTHERS):
        assert same(compiled(x[:3], x[1:]), eager(function, x[:3], x[1:]))
        assert same(compiled(x, x), eager(function, x, x))


def test_one_program_a_signature():
    def function(params, t, power=1.0):
        calls.append(power)
        return params["w"] * t**power

    calls, compiled = [], tm.compile(function)
    w = tm.tensor([2.0, 3.0], requires_grad=True)
    signatures = [
        ({"w": w}, np.ones(2)),
        ({"w": w}, np.ones(2, np.float32)),
        ({"w": w}, np.ones((3, 2))),
        ({"w": w}, np.ones((3, 2), order="F")),
        ({"w": w.detach()}, np.ones(2)),
        ({"w": w}, np.ones(2), 1),
        ({"w": w}, np.ones(2), True),
        ({"w": w}, np.ones(2), 0.0),
        ({"w": w}, np.ones(2), -0.0),
        ({"w": w}, np.ones(2), np.nan),
        ({"w": w}, np.ones(2), np.float32(1)),
    ]
    for _ in range(4):
        for args in signatures:
            assert same(compiled(*args), function(*args))
            calls.pop()
    assert len(calls) == 2 * len(signatures)  # each recorded and checked, then never called again


def test_the_sign_of_a_zero_is_another_number():
    compiled = tm.compile(lambda t, k: t * k)
    for k in (0.0, 0.0, 0.0, -0.0):
        result = compiled(np.ones(2), k)
    assert np.signbit(raw(result)).all()


def test_by_keyword():
    compiled = tm.compile(lambda t, *, by: t * by)
    assert [compiled(np.array(2.0), by=k).item() for k in (2, 2, 2, 3, 2)] == [4, 4, 4, 6, 4]


def test_dead_code_and_twice_the_same_are_gone():
    def function(t):
        np.exp(t)
        return np.tanh(t) + np.tanh(t) * np.sinh(t), np.sinh(t)

    compiled, _ = ran(function, X)
    assert [o["op"] for o in compiled.program] == ["tanh", "sinh", "multiply", "add"]
    lines = [line for line in compiled.source.splitlines() if "#" not in line]
    assert [sum(f"np.{name}(t" in line for line in lines) for name in ("tanh", "sinh", "exp")] == [
        1,
        1,
        0,
    ]


def test_what_one_op_works_out_on_its_way_serves_another():
    twice = tm.op(lambda x: np.exp(x) * 2, "x", lambda g, y: g * y, name="twice exp")
    for function in (lambda t: (twice(t), np.exp(t)), lambda t: (np.exp(t), twice(t))):
        compiled, _ = ran(function, X)
        assert same(compiled(-X), eager(function, -X))
        assert compiled.source.count("= np.exp(") + compiled.source.count("np.exp(t, out") == 1


def test_buffers_are_planned_by_lifetime():
    def chain(t):
        for _ in range(30):
            t = np.sin(t)
        return t.sum()

    compiled, _ = ran(chain, np.ones(1000))
    assert compiled.memory["plan"] == -(-8000 // 64) * 64  # each sine in the place of the last
    assert compiled.memory["eager_peak"] >= 16000
    assert {o["bytes"] for o in compiled.program} == {8000, 8}


def test_captured_arrays_are_used_as_they_then_are():
    scale, theta = np.ones(6), tm.tensor(np.ones(6), requires_grad=True)

    def function(t):
        return t * scale, tm.grad((t * theta**3).sum(), theta)

    compiled, _ = ran(function, X)
    assert sorted(compiled.constants.values()) == ["float64 (6,), 48 bytes"] * 2
    scale[:], theta.data[:] = 5, 2
    assert same(compiled(X), eager(function, X))


def test_names_that_python_or_the_program_needs():
    names = ["np", "memory", "class", "0.w", "float", "d", "lambda", "a b", "constant", "sum", "é"]
    params = {name: X * i for i, name in enumerate(names)}
    function = lambda d: sum((v - np.inf).max() + (v * [2.5]).mean() for v in d.values())
    compiled, _ = ran(function, params)
    moved = {name: np.flip(x) for name, x in params.items()}
    assert same(compiled(moved), eager(function, moved))


def test_ops_of_ones_own():
    def powers(x, n=3):
        y = np.ones_like(x)
        for _ in range(n):
            y = y * x
        return y

    def kinked(x):
        if x.sum() > 0:
            return x * factor
        y = x.copy()
        y[y < -1] = -1
        return y

    factor = 2.0
    power = tm.op(powers, "x", lambda g, x, n: g * n * power(x, n=n - 1), name="power")
    many = tm.op(
        lambda x: sum(x**i for i in range(4)), "x", lambda g, x: g * (1 + 2 * x + 3 * x * x)
    )
    kink = tm.op(kinked, "x", lambda g: g, name="kink 2.0")
    base = tm.op(functools.partial(np.power, 2.0), "x", lambda g, y: g * y * np.log(2.0), name="2^")

    def function(t):
        values = power(t, n=4), many(t), kink(t), base(t)
        slope = tm.func.grad(lambda u: (power(u) + many(u) + base(u)).sum())
        return values, slope(t), tm.func.grad(lambda u: (slope(u) ** 2).sum())(t)

    compiled, _ = ran(function, X)
    for x in OTHERS:
        assert same(compiled(x), eager(function, x))


# Read and saved


def test_the_source_shows_algorithm_1():
    model = tm.nn.mlp((1, 8, 1))
    params = model.init(np.random.default_rng(0))
    loss = lambda params, x, y: tm.nn.mse_loss(model(params, x), y)
    tasks = tm.tasks.SinusoidTasks().sample(np.random.default_rng(1), 5)

    def meta_step(params, tasks):
        value = tm.maml.meta_loss(loss, params, tasks, lr=0.01)
        gradient = tm.grad(value, params)
        return {name: p - 0.001 * gradient[name] for name, p in params.items()}, value

    step, _ = ran(meta_step, params, tasks)
    signature = "def meta_step(linear1_weight_given, linear1_bias_given, "
    lines = [
        signature,
        "# meta_step: value = tm.maml.meta_loss(",
        "adapt: values = _values(loss(",
        "linear1",
        "adapt: gradient = grad(values.sum(), ",
        "# first derivative",
        "d_linear1",
        "adapt: params = {name: descend(p, gradient[name], lr[name])",
        "meta_loss: values = _values(loss(adapted, *tasks.query))",
        "# meta_step: gradient = tm.grad(value, params)",
        "# second derivative",
        "d_d_linear1",
        "# meta_step: return {name: p - 0.001 * gradient[name]",
        "return (",
    ]
    own = step.source.split("def meta_step")[1]
    assert not re.findall(r"(?<![.\w])\w+\(", re.sub(r"#.*|np\.\w+\(|return \(", "", own))[1:]
    source = " ".join(step.source.replace("#  ", "#").split())  # the depth of a comment aside
    place = 0
    for line in lines:
        place = source.find(line.replace("# ", "").strip(), place) + 1
        assert place, line


FILE = """
import sys
import numpy as np
sys.path.insert(0, {folder!r})
import saved
assert not [name for name in sys.modules if name.startswith(("tinymaml", "scipy", "torch"))]
given = np.load({folder!r} + "/given.npz")
results = saved.{name}(*[given[key] for key in given.files])
results = saved.{name}(*[given[key] for key in given.files])
np.savez({folder!r} + "/results.npz", *results)
"""


def run_alone(compiled, name, args, folder):
    """Return what the saved program gives in a process of its own, without the package."""
    compiled.save(folder / "saved.py")
    arrays = [raw(x) for x in leaves(args) if isinstance(raw(x), np.ndarray)]
    np.savez(folder / "given.npz", *arrays)
    code = FILE.format(folder=str(folder), name=name)
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=300)
    with np.load(folder / "results.npz") as results:
        return [results[key] for key in results.files]


@pytest.mark.parametrize("network", ["mlp", "batch norm", "stride", "pool"])
def test_a_saved_step_needs_numpy_alone(network, tmp_path):
    loss, params, tasks = meta_problem(network, 3)

    def meta_step(params, tasks):
        value, gradient = tm.maml.meta_gradient(loss, params, tasks, lr=0.1)
        return value, {name: p - 0.1 * gradient[name] for name, p in params.items()}

    compiled, _ = ran(meta_step, params, tasks)
    others = moved(params, tasks)
    assert same(run_alone(compiled, "meta_step", others, tmp_path), leaves(compiled(*others)))


OFFSET = (0.5, -0.5)


def clipped(x, low=-1.0):
    """A helper, and one that it uses, of the user's own."""
    return np.array([[max(low, min(v, 1.0)) for v in row] for row in shifted(x)])


def shifted(x, *, by=OFFSET):
    return x + by[0]


def test_a_saved_program_brings_ops_and_arrays_of_ones_own(tmp_path):
    op = tm.op(clipped, "x", lambda g, x: g * (abs(x + 0.5) < 1), name="sum")
    captured, small = np.linspace(0, 1, 600).reshape(100, 6), np.array([np.inf, -0.0, np.nan, 1])
    function = lambda t: (op(t, low=-0.5) @ captured.T, t[:, :4] * small, t.sum())
    compiled, _ = ran(function, X)
    result = run_alone(compiled, "_lambda_", [-X], tmp_path)
    assert same(result, list(compiled(-X)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_saved_samples_of_every_op(tmp_path):
    """All in one process: starting one a sample takes minutes."""
    expected = {}
    for i, (sample, *_) in enumerate([p.values for p in DIFFERENTIABLE if p.id.endswith("-0")]):
        orders, given, _ = sampled(sample)
        compiled, result = ran(orders, *given)
        compiled.save(tmp_path / f"saved{i}.py")
        np.savez(tmp_path / f"given{i}.npz", *[a for a in leaves(given)])
        expected[i] = leaves(result)
    code = f"""
import importlib, sys
import numpy as np
sys.path.insert(0, {str(tmp_path)!r})
for i in range({len(expected)}):
    with np.load({str(tmp_path)!r} + f"/given{{i}}.npz") as given:
        results = importlib.import_module(f"saved{{i}}").orders(*[given[k] for k in given.files])
    np.savez({str(tmp_path)!r} + f"/results{{i}}.npz", *results)
assert "tinymaml" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-I", "-c", code], check=True, timeout=300)
    for i, result in expected.items():
        with np.load(tmp_path / f"results{i}.npz") as found:
            assert same([found[key] for key in found.files], result), i


def test_what_cannot_be_saved():
    compiled = tm.compile(lambda t: t * 2)
    with pytest.raises(ValueError, match="<lambda> has no program yet; call it once"):
        compiled.save("step.py")
    compiled(X)
    with pytest.raises(UserError, match="cannot write"):
        compiled.save("no/such/folder/step.py")


# What cannot be a program

VALUES = {
    "truth": lambda t: t * 2 if t.sum() > 0 else t,
    "float": lambda t: t * float(t.sum()),
    "int": lambda t: t[int(abs(t[0, 0]))],
    "item": lambda t: t * t.sum().item(),
    "numpy": lambda t: t * t.numpy(),
    "asarray": lambda t: t * np.asarray(t.T).T,
    "list": lambda t: t * np.array(t.tolist()),
    "index": lambda t: X[t.astype(int)[0, 0]],
    "format": lambda t: (t, f"{t.sum():.3f}")[0],
    "nonzero": lambda t: t[np.nonzero(t)],
    "unique": lambda t: t * len(np.unique(t)),
    "searchsorted": lambda t: t * np.searchsorted(X[0], t),
    "isclose": lambda t: np.where(np.isclose(t, 0), t, 2 * t),
    "count_nonzero": lambda t: t * np.count_nonzero(t),
    "array_equal": lambda t: t * np.array_equal(t, t),
    "allclose": lambda t: t * np.allclose(t, t),
    "ix_": lambda t: X[np.ix_(t[0] > 0)],
}


@pytest.mark.parametrize("name", VALUES)
def test_choices_by_values_are_refused(name):
    function = VALUES[name]
    eager(function, X)
    line = function.__code__.co_firstlineno
    message = rf"a compiled function cannot make .* \(test_compile.py, line {line}, in <lambda>: "
    with pytest.raises(TypeError, match=message):
        tm.compile(function)(X)
    assert tm.compile(np.tanh)(X).shape == X.shape  # and nothing is left behind


def test_every_function_of_values_is_refused():
    """Of NumPy's functions that give no tensor, those that look at values, called as they allow."""
    groups = [n for what, n in PASSING.items() if what not in ("NumPy itself", OF_SHAPES)]
    names = " ".join(groups).split()
    found = [
        n for n in names if not {*listed(n)} <= {*numpy_functions} and not _is_refused(*listed(n))
    ]
    # these take no tensors
    assert found == ["load", "loadtxt", "genfromtxt", "fromregex", "fromstring", "datetime_data"]


def _is_refused(function):
    for n in (1, 2, 3):
        try:
            tm.compile(lambda t, n=n: (function(*[t] * n), t)[1])(np.arange(3))
        except Exception as error:
            if "a compiled function cannot make" in str(error):
                return True
    return False


def test_what_depends_on_shapes_is_no_choice():
    def function(t):
        kept = t if np.ndim(t) == 2 and np.result_type(t).kind == "f" and len(t) == 4 else 0
        return kept * np.shape(t)[0] + np.zeros_like(t) + np.sum(t > 0), repr(t) and t

    compiled, _ = ran(function, X)
    assert same(compiled(-X), eager(function, -X))


def test_masks_and_places_are_found_anew():
    def function(t):
        order = np.argsort(t, axis=1)
        return np.take_along_axis(t, order, 1), np.max(t, 0), np.argmax(t, 1), np.where(t > 0, t, 0)

    compiled, _ = ran(function, X)
    for x in OTHERS:
        assert same(compiled(x), eager(function, x))


@pytest.mark.parametrize("result", [3, None, "a", {1}, 2.0, np.float64(1), (X.shape,)])
def test_results_that_are_no_tensors(result):
    kind = type(leaves(result)[0]).__name__
    with pytest.raises(TypeError, match=f"gave {kind}, but its program gives arrays alone"):
        tm.compile(lambda t: (t, result))(X)


def test_random_numbers_and_counters_are_refused_at_the_second_call():
    rng, count = np.random.default_rng(0), [0]

    def counted(t):
        count[0] += 1
        return t * count[0]

    for function in (lambda t: t + rng.standard_normal(6), lambda t: t * rng.random(), counted):
        compiled = tm.compile(function)
        compiled(X)
        with pytest.raises(
            RuntimeError, match=r"test_compile.py, line \d+, in .*pass in what changes"
        ):
            compiled(X)


def test_work_on_raw_arrays_is_noticed():
    for function in (lambda t: tm.tensor(t.data * 2), lambda t: t + t.data.sum()):
        compiled = tm.compile(function)
        compiled(X)
        with pytest.raises(RuntimeError, match=r"pass in what changes|arithmetic on t.data"):
            compiled(X + 1)


def test_derivatives_are_taken_inside():
    compiled = tm.compile(lambda t: (np.tanh(t) ** 2).sum())
    leaf = tm.tensor(X, requires_grad=True)
    for _ in range(3):
        assert not compiled(leaf).requires_grad
        compiled(X)
        for use in (tm.func.grad(compiled), tm.func.jacobian(compiled)):
            with pytest.raises(TypeError, match="take the derivative inside the function"):
                use(X)
        with pytest.raises(TypeError, match="take the derivative inside the function"):
            compiled(leaf * 2)
    slope = tm.compile(tm.func.grad(compiled.function))
    for _ in range(3):
        assert same(slope(X), tm.func.grad(compiled.function)(X))


def test_a_compiled_function_inside_another():
    inner = tm.compile(lambda t: np.tanh(t) * 2)
    function = tm.func.grad(lambda t: (inner(t) ** 2).sum())
    compiled, result = ran(function, X)
    plain = tm.func.grad(lambda t: ((np.tanh(t) * 2) ** 2).sum())
    assert same(result, plain(X)) and same(compiled(-X), plain(-X))


@pytest.mark.parametrize("calls_before", [0, 2])
def test_two_threads_at_once(calls_before):
    inside, go_on = threading.Event(), threading.Event()

    def slow(x):
        for event in waits:
            event.set()
            go_on.wait(60)
        return x * 2

    waits = []
    op = tm.op(slow, "x", lambda g: g * 2, name="slow")
    compiled = tm.compile(lambda t: op(t))
    for _ in range(calls_before):
        compiled(X)
    waits.append(inside)
    results = []
    other = threading.Thread(target=lambda: results.append(compiled(X)))
    other.start()
    assert inside.wait(60)
    try:
        with pytest.raises(RuntimeError, match=r"by another thread .* make one .* for each thread"):
            compiled(X)
    finally:
        go_on.set()
        other.join()
    assert same(results, [2 * X]) and same(compiled(X), 2 * X)


def test_an_error_inside_leaves_nothing_behind():
    fails = [True]

    def function(t):
        if fails:
            raise ValueError("mine")
        return t * 2

    compiled = tm.compile(function)
    for _ in range(2):
        with pytest.raises(ValueError, match="mine"):
            compiled(X)
    fails.clear()
    for _ in range(3):
        assert same(compiled(X), 2 * X)


def test_what_is_no_function():
    with pytest.raises(TypeError, match="compile takes a function, not 3"):
        tm.compile(3)
    half = functools.partial(np.multiply, 0.5)
    for _ in range(3):
        assert same(tm.compile(half)(X), 0.5 * X)
