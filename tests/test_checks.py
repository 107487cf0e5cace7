"""The checks find planted bugs, name them, and call right code right."""

import sys

import numpy as np
import pytest

import tinymaml as tm
from tinymaml import checks, maml, nn
from tinymaml.checks.gradients import GradientError, compare, gradcheck, gradgradcheck
from tinymaml.checks.meta_gradient import check_meta_gradient
from tinymaml.engine import backend
from tinymaml.engine.tensor import thread

X = np.array([[0.3, -1.2, 0.8], [1.1, 0.4, -0.6]])


@pytest.fixture(autouse=True)
def clean_table(monkeypatch):
    """Ops planted by a test are not part of the package's table."""
    engine = sys.modules["tinymaml.engine.op"]
    monkeypatch.setattr(engine, "table", dict(engine.table))


def wrong_square(x):
    return tm.op(np.square, "x", lambda g, x: g * x, name="wrong_square")(x)


def captured_square(x):
    """Right at first order; at second its derivative takes 2x for a constant."""
    twice = 2 * x.data
    return tm.op(np.square, "x", lambda g: g * twice, name="captured_square")(x)


raw_square = tm.op(
    np.square,
    "x",
    lambda g, x: g * 2 * (x.data if type(x) is tm.Tensor else x),
    name="raw_square",
)


class TestGradcheck:
    def test_right_functions_pass(self):
        assert gradcheck(np.tanh, X)
        assert gradcheck(np.matmul, (X, X.T))
        assert gradcheck(np.tanh, 0.3)
        assert gradcheck(lambda p: p["w"] * p["b"][0], {"w": X, "b": [X]})
        assert gradcheck(lambda x: {"s": np.sin(x), "rest": [np.exp(x), np.sum(x)]}, X)
        assert gradgradcheck(lambda x: {"s": np.sin(x), "rest": [np.exp(x), np.sum(x)]}, X)

    def test_tensors_and_whole_numbers_may_come_along(self):
        labels = backend.asarray([2, 0])
        assert gradcheck(nn.cross_entropy, (tm.tensor(X), labels))
        assert gradgradcheck(nn.cross_entropy, (tm.tensor(X, requires_grad=True), labels))

    def test_large_arrays_are_checked_along_directions(self):
        large = np.random.default_rng(0).standard_normal((40, 40))
        assert gradcheck(np.tanh, large)
        assert gradgradcheck(np.tanh, large)
        with pytest.raises(GradientError, match=r"random direction 0.*'wrong_square'"):
            gradcheck(wrong_square, large)

    def test_names_the_wrong_op_inside_a_composite_and_prints_both_numbers(self):
        with pytest.raises(GradientError) as error:
            gradcheck(lambda x: np.sum(np.exp(wrong_square(np.sin(x)))), np.array([0.5]))
        message = str(error.value)
        assert "op 'wrong_square': its derivative is wrong" in message
        analytic, numeric = (
            float(part.split()[0]) for part in message.split("inputs[0]: ")[1].split(", ")[:2]
        )
        assert numeric == pytest.approx(2 * analytic, rel=1e-6)

    def test_names_the_element(self):
        with pytest.raises(GradientError, match=r"inputs\['b'\]\[1, 2\]"):
            bump = np.zeros((2, 3))
            bump[1, 2] = 1
            bump = backend.asarray(bump)
            gradcheck(lambda p: p["a"] + p["b"] + bump * p["b"].data, {"a": X, "b": X})

    def test_says_when_a_value_left_the_graph(self):
        for leave in (
            lambda x: x.detach() * x,
            lambda x: x.data * x,
            lambda x: x * x.sum().item(),
            lambda x: x.numpy() * 2.0,
        ):
            with pytest.raises(GradientError, match=r"Every op .* right by itself.*left the graph"):
                gradcheck(leave, X)

    def test_says_so_too_behind_the_derivative_of_a_batch_norm(self):
        """Its ops take sums over others of their arguments, so they cannot be tried alone."""

        def leave(x):
            y = tm.ops.batch_norm(x, backend.asarray(np.ones(3)), backend.asarray(np.zeros(3)))
            return tm.grad(np.sum(y**3), x, create_graph=True) * x.detach()

        batch = np.random.default_rng(0).standard_normal((5, 3))
        for check in (gradcheck, gradgradcheck):
            with pytest.raises(GradientError, match="right by itself"):
                check(leave, batch)

    def test_a_list_is_one_argument(self):
        assert gradcheck(lambda pair: pair[0] @ pair[1], [X, X.T])

    def test_wants_float64(self):
        with pytest.raises(TypeError, match=r"inputs\['w'\] is float32.*give float64"):
            gradcheck(lambda p: p["w"], {"w": X.astype(np.float32)})
        with pytest.raises(TypeError, match="nothing to differentiate"):
            gradcheck(np.tanh, np.arange(3))

    def test_a_nan_is_no_proof(self):
        with pytest.raises(GradientError, match="nan"), np.errstate(invalid="ignore"):
            gradcheck(np.log, np.array([-1.0]))

    def test_first_order_passes_what_is_only_wrong_at_second(self):
        for f in (captured_square, raw_square):
            assert gradcheck(f, X)

    @pytest.mark.parametrize("f", [captured_square, raw_square])
    def test_second_order_finds_a_derivative_that_captures_an_array(self, f):
        with pytest.raises(GradientError, match=f"'{f.__name__}'.*captures an array"):
            gradgradcheck(lambda x: np.sin(f(np.exp(x))), X)

    def test_second_order_finds_an_inner_gradient_without_create_graph(self):
        def loss(x):
            inner = tm.grad(np.sum(x**3), x)
            return np.sum((x - inner) ** 2)

        with pytest.raises(GradientError, match="create_graph"):
            gradcheck(loss, X)

    def test_second_order_finds_two_forms_of_a_derivative_that_disagree(self):
        def vjp(g, x):
            return g * 2 * x if type(g) is tm.Tensor else g * 3 * x

        two_faced = tm.op(np.square, "x", vjp, name="two_faced")
        with pytest.raises(GradientError, match="two_faced"):
            gradgradcheck(two_faced, X)

    def test_finds_a_missing_derivative(self):
        half = tm.op(np.multiply, "a b", lambda g, b: g * b, None, name="half")
        with pytest.raises(GradientError, match=r"'half'.*argument 1\[0, 0\]: 0 analytic"):
            gradcheck(half, (X, X))

    def test_leaves_the_trace_as_it_was(self):
        with pytest.raises(GradientError):
            gradcheck(wrong_square, X)
        assert thread.state.trace is None


class TestCompare:
    def test_numbers_and_row(self, capsys):
        result = compare("weights", np.array([1.0, 2.5]), np.array([1.0, 2.0]))
        assert result == (False, False, 0.5, 0.25)
        row = capsys.readouterr().out
        assert row.startswith("weights ") and "exact: no" in row and "max rel: 2.5e-01" in row

    def test_exact_and_close(self, capsys):
        assert compare("a", tm.tensor([1.0]), np.array([1.0])) == (True, True, 0, 0)
        assert compare("a", {"w": X}, {"w": X + 1e-12})[:2] == (False, True)

    def test_the_worst_of_a_structure(self, capsys):
        ours = {"a": np.array([1.0]), "b": tm.tensor([10.0], requires_grad=True)}
        result = compare("both", ours, {"a": np.array([2.0]), "b": np.array([10.0])})
        assert result == (False, False, 1.0, 0.5)

    def test_the_order_of_a_dict_does_not_matter(self, capsys):
        assert compare("w", {"a": 1.0, "b": 2.0}, {"b": 2.0, "a": 1.0}).exact

    def test_rows_line_up(self, capsys):
        compare("a", X, X)
        compare("a longer name", X, X * 1.1)
        first, second = capsys.readouterr().out.splitlines()
        for heading in ("exact:", "close:", "max abs:", "max rel:"):
            assert first.index(heading) == second.index(heading)

    def test_refuses_other_shapes_and_structures(self):
        with pytest.raises(ValueError, match=r"w\['a'\] has shape \(2, 3\).*\(3, 2\)"):
            compare("w", {"a": X}, {"a": X.T})
        with pytest.raises(ValueError, match="reference"):
            compare("w", {"a": X}, {"b": X})

    def test_empty_and_nan(self, capsys):
        assert compare("empty", np.zeros(0), np.zeros(0)).exact
        assert not compare("nan", np.array([np.nan]), np.array([1.0])).close


# The meta-gradient: an MLP with batch norm on two tasks of a few points.


def batch_norm_captured(x, gamma, beta):
    """A fused batch norm whose derivative keeps the statistics of the forward pass."""
    data = x.data if type(x) is tm.Tensor else x
    s = 1 / np.sqrt(data.var(axis=-2, keepdims=True) + 1e-5)
    x_hat = (data - data.mean(axis=-2, keepdims=True)) * s

    def forward(x, gamma, beta):
        s = 1 / np.sqrt(x.var(axis=-2, keepdims=True) + 1e-5)
        x_hat = (x - x.mean(axis=-2, keepdims=True)) * s
        return x_hat * gamma[..., None, :] + beta[..., None, :]

    def of_x(g, gamma):
        g = g * gamma[..., None, :] if gamma.ndim > 1 else g * gamma
        mean = np.mean(g, axis=-2, keepdims=True)
        return s * (g - mean - x_hat * np.mean(g * x_hat, axis=-2, keepdims=True))

    op = tm.op(
        forward,
        "x gamma beta",
        of_x,
        lambda g: np.sum(g * x_hat, axis=-2),
        lambda g: np.sum(g, axis=-2),
        name="batch_norm_captured",
    )
    return op(x, gamma, beta)


def make_params(dtype=float):
    rng = np.random.default_rng(0)
    shapes = {"w1": (1, 4), "gamma": (4,), "beta": (4,), "w2": (4, 1), "b2": (1,)}
    params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    params["gamma"] = params["gamma"] + 1.5
    return {name: tm.tensor(p.astype(dtype), requires_grad=True) for name, p in params.items()}


def make_tasks(dtype=float):
    rng = np.random.default_rng(1)
    support, query = (
        tm.Batch(x.astype(dtype), np.sin(2 * x).astype(dtype))
        for x in rng.uniform(-2, 2, (2, 3, 6, 1))
    )
    return tm.Task(support, query)


def make_loss(norm=tm.ops.batch_norm, leave=lambda x: x):
    def loss(params, x, y):
        hidden = norm(x @ params["w1"], params["gamma"], params["beta"])
        hidden = leave(np.tanh(hidden))
        return nn.mse_loss(hidden @ params["w2"] + params["b2"][..., None, :], y)

    return loss


def verdict(loss, dtype=float, steps=2, **options):
    result = check_meta_gradient(
        loss, make_params(dtype), make_tasks(dtype), lr=0.05, steps=steps, **options
    )
    assert str(result).endswith(result.verdict)
    return result


class TestMetaGradient:
    @pytest.mark.parametrize("steps", [1, 3])
    def test_right_code_is_right(self, steps, capsys):
        result = verdict(make_loss(), steps=steps)
        assert result.verdict.startswith("right")
        assert result.max_difference < 1e-7
        assert result.cosine > 1 - 1e-10
        printed = capsys.readouterr().out
        assert all(name in printed for name in ("w1", "gamma", "beta", "w2", "b2", "right"))

    @pytest.mark.parametrize("library", ["numpy", "strict"])
    def test_runs_on_the_backend(self, library, capsys):
        labels = np.array([[0, 1, 1], [1, 0, 0]])
        x = np.random.default_rng(1).standard_normal((2, 3, 4))
        loss = lambda params, x, y: nn.cross_entropy(
            np.tanh(x @ params["w"]) + params["b"][..., None, :], y
        )
        with tm.use_backend(library):
            params = {"w": tm.tensor(np.eye(4)[:, :2]), "b": tm.tensor([0.3, -0.1])}
            batch = tm.Batch(backend.asarray(x.astype(np.float32)), backend.asarray(labels))
            on_host = tm.Batch(x.astype(np.float32), labels)
            right = [
                check_meta_gradient(loss, params, tm.Task(b, b), lr=0.1, steps=2)
                for b in (batch, on_host)
            ]
            wrong = check_meta_gradient(
                lambda params, x, y: loss(params, x, y) * params["b"].detach().sum(-1),
                params,
                tm.Task(batch, batch),
                lr=0.1,
                steps=2,
            )
        assert all(result.verdict.startswith("right") for result in right)
        assert "a value left the graph in the loss" in wrong.verdict

    def test_shows_as_one_short_line(self, capsys):
        result = verdict(make_loss(), steps=1)
        assert repr(result) == (
            f"MetaGradientCheck(verdict={result.verdict!r}, "
            f"max_difference={result.max_difference!r}, cosine={result.cosine!r})"
        )
        assert str(result) == f"{result.table}\n{result.verdict}"

    def test_float32_is_checked_in_float64(self, capsys):
        assert verdict(make_loss(), np.float32).max_difference < 1e-7

    def test_planted_batch_norm_that_captures_an_array(self, capsys):
        found = verdict(make_loss(norm=batch_norm_captured)).verdict
        assert found.startswith("wrong: op 'batch_norm_captured'")
        assert "its derivative captures an array" in found

    def test_planted_missing_create_graph(self, monkeypatch, capsys):
        def forgetful(loss, params, tasks, *, lr, steps=1, first_order=False):
            params = maml.per_task(params, len(tasks.support.x))
            for _ in range(steps):
                gradient = tm.grad(loss(params, *tasks.support).sum(), params)
                params = {name: p - lr * gradient[name] for name, p in params.items()}
            return loss(params, *tasks.query).mean()

        expected = (
            "wrong: the second-order gradient equals the first-order one; "
            "create_graph is missing in the inner loop"
        )
        assert verdict(make_loss(), meta_loss=forgetful).verdict == expected
        monkeypatch.setattr(maml, "meta_loss", forgetful)  # looked up when called
        assert verdict(make_loss()).verdict == expected

    def test_planted_detach_in_the_loss(self, capsys):
        found = verdict(make_loss(leave=lambda x: x.detach() * x)).verdict
        assert found.startswith("wrong:") and "a value left the graph in the loss" in found

    def test_planted_detach_in_the_adaptation(self, capsys):
        def lossy(loss, params, tasks, *, lr, steps=1, first_order=False):
            params = maml.per_task(params, len(tasks.support.x))
            adapted = maml.adapt(
                loss, params, tasks.support, lr=lr, steps=steps, first_order=first_order
            )
            adapted = adapted | {"w2": adapted["w2"].detach()}
            return loss(adapted, *tasks.query).mean()

        found = verdict(make_loss(), meta_loss=lossy).verdict
        assert found.startswith("wrong:") and "in the adaptation or after it" in found

    def test_planted_wrong_first_derivative(self, capsys):
        tanh = tm.op(np.tanh, "x", lambda g, y: g * (1 - y), name="tanh_wrong")
        found = verdict(make_loss(leave=tanh)).verdict
        assert found.startswith("wrong: op 'tanh_wrong': its derivative is wrong")

    def test_a_relu_network_is_right(self, capsys):
        model = nn.mlp((1, 8, 1))
        params = model.init(np.random.default_rng(0))

        def loss(params, x, y):
            return nn.mse_loss(model(params, x), y)

        result = check_meta_gradient(loss, params, make_tasks(), lr=0.01, steps=2)
        assert result.verdict.startswith("right")

    def test_a_small_conv_network_is_right(self, capsys):
        rng = np.random.default_rng(0)
        model = nn.conv4(2, filters=2)
        params = model.init(rng)
        labels = np.array([[0, 1, 1], [1, 0, 0]])
        support, query = (tm.Batch(rng.random((2, 3, 9, 9, 1)), labels) for _ in range(2))

        def loss(params, x, y):
            return nn.cross_entropy(model(params, x), y)

        result = check_meta_gradient(loss, params, tm.Task(support, query), lr=0.1, steps=1)
        assert result.verdict.startswith("right")


class TestExercises:
    @pytest.mark.parametrize(
        "answer", ["x^2", [[1], [1, 2]], ..., np.sin, [np.sin, 2], {"a": 1}, [1j, 2]], ids=str
    )
    @pytest.mark.parametrize("right", [None, False])
    def test_an_answer_without_numbers_is_not_yet_one(self, capsys, answer, right):
        checks.check("slope", answer, [3, 2], right=right)
        said = capsys.readouterr().out
        if isinstance(answer, str) and right is not None:  # words may be meant
            assert said.split() == ["slope", "yours:", "x^2", "not", "yet"]
        else:
            assert said.split() == ["slope", "yours:", "?", "not", "yet:", "give", "numbers"]

    def test_a_tensor_is_its_numbers(self, capsys):
        three = tm.tensor(np.float64(3), requires_grad=True)
        for answer in (np.stack([three, three - 1]), [three, three - 1], (three, 2)):
            checks.check("slope", answer, [3, 2])
            assert "yours: [3 2]        true: [3 2]  right" in capsys.readouterr().out
        checks.check("slope", [three, None], [3, 2])
        assert "yours: [3 ?]        not yet" in capsys.readouterr().out
        checks.check("sign", three, 3, right=True)
        assert "yours: 3            true: 3  right" in capsys.readouterr().out
