"""The contract of tensors and of tm.grad."""

import contextlib
import copy
import gc
import itertools
import math
import pickle
import sys
import threading
import tracemalloc
import weakref
from typing import NamedTuple

import numpy as np
import pytest
from samples import SAMPLES

import tinymaml as tm
from tinymaml import ops
from tinymaml.checks.gradients import gradcheck, gradgradcheck
from tinymaml.engine import backend
from tinymaml.engine.structure import leaves
from tinymaml.engine.tensor import Tensor

EVERY = [
    pytest.param(sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
]


def is_array(t):
    """Whether a tensor holds an array of the backend, not a scalar."""
    return type(t.data) is type(backend.asarray(0.0))


def leaf(data, dtype=float):
    return tm.tensor(np.asarray(data, dtype), requires_grad=True)


@pytest.fixture(autouse=True)
def clean_table(monkeypatch):
    """Ops made by a test are not part of the package's table."""
    engine = sys.modules["tinymaml.engine.op"]
    monkeypatch.setattr(engine, "table", dict(engine.table))


class Pair(NamedTuple):
    first: object
    second: object


class TestStructures:
    def test_result_has_the_structure_of_the_inputs(self):
        a, b, c = leaf(2.0), leaf([1.0, 3.0]), leaf(4.0)
        y = a * np.sum(b) * c
        assert tm.grad(y, a).item() == 16
        gradients = tm.grad(y, {"a": a, "rest": [b, (c,)]})
        assert gradients["a"].item() == 16
        assert gradients["rest"][0].tolist() == [8, 8]
        assert gradients["rest"][1][0].item() == 8
        assert list(gradients) == ["a", "rest"] and type(gradients["rest"][1]) is tuple
        pair = tm.grad(y, Pair(a, {"b": b}))
        assert type(pair) is Pair and pair.first.item() == 16
        assert pair.second["b"].tolist() == [8, 8]
        assert tm.grad(y, []) == []

    def test_outputs_may_be_a_structure_and_their_cotangents_add(self):
        x = leaf(3.0)
        outputs = {"square": x * x, "cube": [x**3]}
        assert tm.grad(outputs, x).item() == 6 + 27
        assert tm.grad(outputs, x, {"square": 2.0, "cube": [0.5]}).item() == 12 + 13.5

    def test_cotangents_are_matched_by_key_and_by_position(self):
        x = leaf(3.0)
        outputs = {"square": x * x, "rest": [x**3, {"a": x, "b": 2 * x}]}
        cotangents = {"rest": ([0.5, {"b": 7.0, "a": 5.0}]), "square": 2.0}
        assert tm.grad(outputs, x, cotangents).item() == 2 * 6 + 0.5 * 27 + 5 + 7 * 2
        assert tm.grad([x * x, x], x, (1.0, 2.0)).item() == 6 + 2
        assert tm.grad([x * x, x], x, [None, 2.0]).item() == 6 + 2

    def test_one_input_twice(self):
        x = leaf(3.0)
        first, second = tm.grad(x * x, (x, x))
        assert first.item() == second.item() == 6


class TestErrors:
    def test_output_that_is_no_scalar(self):
        x = leaf([1.0, 2.0])
        with pytest.raises(ValueError, match=r"outputs\['y'\] has shape \(2,\), not a scalar's"):
            tm.grad({"y": x * x}, x)

    def test_cotangent_of_another_shape_or_number(self):
        x = leaf([1.0, 2.0])
        with pytest.raises(ValueError, match=r"grad_outputs has shape \(3,\).*has shape \(2,\)"):
            tm.grad(x * x, x, np.ones(3))
        with pytest.raises(ValueError, match=r"grad_outputs\['y'\] has shape \(3,\)"):
            tm.grad({"z": x, "y": x * x}, x, {"y": np.ones(3), "z": np.ones(2)})

    @pytest.mark.parametrize(
        "cotangents, message",
        [
            ([1.0], "grad_outputs is a list of 1, but a list of 2 is expected"),
            ([1.0, {"a": 1.0}, 1.0], "grad_outputs is a list of 3, but a list of 2"),
            (1.0, "grad_outputs is one value, but a list of 2 is expected"),
            ([1.0, 1.0], r"grad_outputs\[1\] is one value, but a dict with keys 'a', 'b'"),
            ([1.0, {"a": 1.0}], r"\[1\] is a dict with keys 'a', but .* keys 'a', 'b' is exp"),
            ([1.0, {"a": 1.0, "c": 1.0}], r"\[1\] is a dict with keys 'a', 'c', but"),
            ([{}, {"a": 1.0, "b": 1.0}], r"grad_outputs\[0\] is an empty dict, but one value"),
            ([1.0, {"a": 1.0, "b": (1.0,)}], r"\[1\]\['b'\] is a tuple of 1, but one value"),
        ],
    )
    def test_cotangents_of_another_form(self, cotangents, message):
        x = leaf(3.0)
        with pytest.raises(ValueError, match=message):
            tm.grad([x * x, {"a": x, "b": 2 * x}], x, cotangents)

    def test_unused_input_is_named(self):
        x, unused = leaf(1.0), leaf(np.ones((2, 3)))
        with pytest.raises(ValueError, match=r"inputs\['b'\]\[1\] of shape \(2, 3\) is not used"):
            tm.grad(x * x, {"a": x, "b": [x, unused]})
        a, b = tm.grad(x * x, [x, unused], allow_unused=True)
        assert a.item() == 2 and b is None

    def test_input_that_requires_no_gradient_is_named(self):
        x = leaf(1.0)
        with pytest.raises(ValueError, match=r"inputs\['w'\] of shape \(\) does not require"):
            tm.grad(x * x, {"w": tm.tensor(1.0)})

    def test_output_that_requires_no_gradient(self):
        x = leaf(1.0)
        with pytest.raises(ValueError, match=r"outputs of shape \(\) does not require"):
            tm.grad(x.detach() * 2, x)
        with pytest.raises(TypeError, match="outputs is float, but grad needs a Tensor"):
            tm.grad(2.0, x)

    @pytest.mark.parametrize("data", [1, True, [1, 2], np.zeros(2, np.uint8)])
    def test_whole_numbers_may_not_require_a_gradient(self, data):
        with pytest.raises(TypeError, match="a gradient needs floating-point numbers"):
            tm.tensor(data, requires_grad=True)
        assert tm.tensor(data, dtype=float, requires_grad=True).requires_grad

    def test_list_of_tensors(self):
        with pytest.raises(TypeError, match=r"np\.stack"):
            tm.tensor([leaf(1.0), leaf(2.0)])

    def test_item_of_several(self):
        with pytest.raises(ValueError, match=r"one element, but the tensor has shape \(2,\)"):
            leaf([1.0, 2.0]).item()

    @pytest.mark.parametrize(
        "call",
        [
            lambda t: np.fft.fft(t),
            lambda t: np.fft.ifft(t),
            lambda t: np.nextafter(t, t),
            lambda t: np.polydiv(t[0], t[1]),
            lambda t: np.emath.sqrt(t),
        ],
    )
    @pytest.mark.parametrize("requires_grad", [True, False])
    def test_numpy_functions_without_a_derivative_are_refused_by_name(self, call, requires_grad):
        names = r"np\.(fft\.i?fft|nextafter|polydiv|lib\.\w*scimath\w*\.sqrt) has no derivative"
        with pytest.raises(TypeError, match=names):
            call(tm.tensor(np.eye(3), requires_grad=requires_grad))

    @pytest.mark.parametrize(
        "call, name",
        [
            (lambda t: np.nextafter(t, 2.0), "np.nextafter"),
            (lambda t: np.gcd.accumulate(t), "np.gcd.accumulate"),
            (lambda t: np.lcm.outer(t, t), "np.lcm.outer"),
        ],
    )
    def test_ufuncs_without_a_derivative_are_refused_by_name(self, call, name):
        with pytest.raises(TypeError, match=f"{name} has no derivative"):
            call(leaf([1.0, 2.0]))

    @pytest.mark.parametrize(
        "call, message",
        [
            (lambda t: np.add(t, t, out=np.zeros(2)), "np.add on a tensor does not take out="),
            (lambda t: np.exp(t, where=np.array([True, False])), "np.exp .* not take where="),
            (lambda t: np.exp(t, subok=False), "np.exp .* not take subok="),
            (lambda t: np.argmax(t, out=np.zeros((), int)), "np.argmax .* not take out="),
            (lambda t: np.vecdot(t, t, out=np.zeros(())), "np.vecdot .* not take out="),
            (lambda t: np.sum(t, out=np.zeros(())), "np.sum .* not take out="),
            (lambda t: np.sum(t, 0, None, np.zeros(())), "positional argument"),
            (lambda t: np.var(t, 0, None, np.zeros(())), "positional argument"),
            (lambda t: t.mean(0, None, np.zeros(())), "positional argument"),
            (lambda t: np.concatenate([t, t], out=np.zeros(4)), "np.concatenate .* out="),
            (lambda t: np.sort(t, order="x"), "np.sort .* not take order="),
            (lambda t: np.einsum("i->", t, dtype=np.float32), "np.einsum .* take dtype="),
        ],
    )
    def test_options_that_are_not_differentiated_are_refused_by_name(self, call, message):
        with pytest.raises(TypeError, match=message):
            call(leaf([1.0, 2.0]))

    def test_an_array_is_not_added_to_in_place(self):
        array = np.zeros(2)
        with pytest.raises(TypeError, match="out="):
            array += leaf([1.0, 2.0])

    def test_a_tensor_does_not_turn_into_an_array_by_itself(self):
        x = leaf([1.0, 2.0])
        for convert in (np.asarray, np.array, np.random.default_rng(0).permutation):
            with pytest.raises(TypeError):
                convert(x)
        np.testing.assert_array_equal(np.asarray(x.detach()), [1, 2])
        assert np.asarray(x.detach(), dtype=np.float32).dtype == np.float32

    def test_a_tensor_is_not_changed_in_place(self):
        x = leaf([1.0, 2.0])
        with pytest.raises(TypeError, match="cannot be changed in place"):
            x[0] = 3.0
        before = x
        x += 1.0  # makes a new one
        assert before.tolist() == [1, 2] and x.tolist() == [2, 3]

    def test_no_iteration_over_0d(self):
        with pytest.raises(TypeError, match="0-d"):
            iter(leaf(1.0))
        assert [float(t) for t in leaf([1.0, 2.0])] == [1, 2]


class TestGrad:
    def test_with_respect_to_a_tensor_on_the_way(self):
        x = leaf(2.0)
        middle = x * x
        y = middle * middle
        assert tm.grad(y, middle).item() == 8
        assert tm.grad(y, y).item() == 1

    def test_with_respect_to_an_input_and_its_ancestor(self):
        x = leaf(2.0)
        middle = x * x
        y = middle * x
        of_x, of_middle = tm.grad(y, (x, middle))
        assert of_x.item() == 12 and of_middle.item() == 2
        of_middle, of_x = tm.grad(y, (middle, x))
        assert of_x.item() == 12 and of_middle.item() == 2

    def test_without_create_graph_the_gradient_is_a_constant(self):
        x = leaf(2.0)
        assert not tm.grad(x**3, x).requires_grad
        first = tm.grad(x**3, x, create_graph=True)
        assert first.requires_grad
        assert tm.grad(first, x).item() == 12

    def test_differentiates_with_respect_to_the_cotangents(self):
        x, u = leaf([1.0, 2.0]), leaf([3.0, 4.0])
        g = tm.grad(x**2, x, u, create_graph=True)
        np.testing.assert_array_equal(tm.grad(g, u, np.ones(2)).numpy(), [2, 4])

    def test_a_graph_may_be_walked_back_more_than_once(self):
        x = leaf(2.0)
        y = np.sin(x) * x
        assert tm.grad(y, x).item() == tm.grad(y, x).item()

    def test_nothing_is_written(self):
        data, u = np.array([1.0, 2.0]), np.array([3.0, 4.0])
        x = tm.tensor(data, requires_grad=True)
        y = x * x + x + np.exp(x) + x[::-1]
        value = y.numpy().copy()
        for create_graph in (False, True):
            tm.grad(y, x, u, create_graph=create_graph)
        np.testing.assert_array_equal(data, [1, 2])
        np.testing.assert_array_equal(u, [3, 4])
        np.testing.assert_array_equal(y.numpy(), value)
        assert not hasattr(x, "grad")

    def test_accumulation_does_not_reach_into_a_cotangent_that_is_kept(self):
        x = leaf([1.0, 2.0])
        middle = x * 1.0
        y = middle + middle + middle + middle  # the sums are accumulated in place
        outputs = [y, np.sum(middle * 2.0)]
        of_middle, of_x = tm.grad(outputs, [middle, x], [np.ones(2), 1.0])
        np.testing.assert_array_equal(of_middle.numpy(), [6, 6])
        np.testing.assert_array_equal(of_x.numpy(), [6, 6])

    def test_gradients_may_be_changed_in_place(self):
        """Writing into one reaches no other, no cotangent and no tensor."""
        x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
        u = backend.asarray(np.array([5.0, 6.0]))
        for outputs, inputs, cotangent in [
            (x.sum(), [x], None),
            (np.broadcast_to(x, (2,)), [x], u),
            (x + y, [x, y], u),
            ((x + y) * 2.0, [x, y, x], u),
            (x + y.reshape(2, 1).T, [x, y], np.ones((1, 2))),
            (x, [x], u),
        ]:
            gradients = tm.grad(outputs, inputs, cotangent)
            kept = [np.ones((1, 2)) * 0 + g.numpy() for g in gradients]
            for i, g in enumerate(gradients):
                g.data[...] = 7.0
                g.data[0] = 9.0
                assert g.numpy().ravel()[-1] == 7
                for other, before in list(zip(gradients, kept))[i + 1 :]:
                    np.testing.assert_array_equal(other.numpy(), before.reshape(other.shape))
        np.testing.assert_array_equal(backend.to_numpy(u), [5, 6])
        assert x.tolist() == [1, 2] and y.tolist() == [3, 4]

    @pytest.mark.numpy_only
    def test_gradients_that_would_be_views_may_be_changed_in_place(self):
        x, y, u = leaf(np.zeros((2, 2))), leaf(np.zeros(2)), np.array([[1.0, 2.0], [3.0, 4.0]])
        tm.grad(x.T, x, u).numpy()[:] = 0
        of_x, of_row = tm.grad([x.T, y], [x, y], [u, u[0]])
        of_x.numpy()[:] = of_row.numpy()[:] = 0
        np.testing.assert_array_equal(u, [[1, 2], [3, 4]])
        z = leaf(np.zeros((2, 2)))
        of_x, of_z = tm.grad((x + z.T) * 2.0, [x, z], u)
        of_z.numpy()[:] = 0
        np.testing.assert_array_equal(of_x.numpy(), 2 * u)

    def test_broadcast_arguments_get_gradients_of_their_shape(self):
        shapes = [(), (1,), (3,), (2, 1), (1, 3), (2, 3), (4, 2, 3)]
        for a_shape, b_shape in itertools.product(shapes, shapes):
            a, b = leaf(np.ones(a_shape)), leaf(np.ones(b_shape))
            y = a * b
            for g, x in zip(tm.grad(np.sum(y), (a, b)), (a, b)):
                assert g.shape == x.shape
                assert g.numpy().sum() == y.size


class TestRecording:
    def test_no_grad_records_nothing_and_ends(self):
        x = leaf(2.0)
        with tm.no_grad():
            assert not (x * x).requires_grad
            with tm.no_grad():
                pass
            assert not (x * x).requires_grad
        assert (x * x).requires_grad

    def test_no_grad_ends_after_an_error(self):
        x = leaf(2.0)
        with pytest.raises(KeyError), tm.no_grad():
            raise KeyError
        assert (x * x).requires_grad

    def test_no_grad_is_of_this_thread_only(self):
        x = leaf(2.0)
        inside, seen = threading.Event(), []

        def other():
            inside.wait(10)
            seen.append((x * x).requires_grad)

        thread = threading.Thread(target=other)
        thread.start()
        with tm.no_grad():
            inside.set()
            thread.join()
            seen.append((x * x).requires_grad)
        assert seen == [True, False]

    def test_detach_shares_the_data(self):
        x = leaf([1.0])
        assert x.detach().data is x.data and not x.detach().requires_grad

    def test_nothing_is_recorded_for_constants(self):
        assert not (tm.tensor(1.0) * 2).requires_grad

    def test_two_threads_at_once_compute_what_each_does_alone(self):
        def work(seed):
            rng = np.random.default_rng(seed)
            w, x = (leaf(rng.standard_normal((8, 8))) for _ in range(2))
            for step in range(30):
                with tm.no_grad() if step % 3 == 0 else contextlib.nullcontext():
                    np.tanh(x @ w)
                y = np.sum(np.tanh(x @ np.tanh(x @ w)))
                g = tm.grad(y, w, create_graph=True)
                second = tm.grad(np.sum(g * g), w)
                w = leaf(w.numpy() - 0.01 * second.numpy())
            return w.numpy()

        alone = [work(seed) for seed in range(4)]
        together = [None] * 4
        start = threading.Barrier(4)

        def run(seed):
            start.wait()
            together[seed] = work(seed)

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(before)
        for a, b in zip(alone, together):
            np.testing.assert_array_equal(a, b)


class TestLargeGraphs:
    N = 100_000

    def test_a_long_chain_walks_back_and_is_freed_without_recursion(self):
        x = leaf(1.0)
        y = x
        for _ in range(self.N):
            y = y + 0.5
        assert tm.grad(y, x).item() == 1
        del y  # would overflow the stack if it were freed one call inside another

    def test_a_long_chain_differentiates_twice(self):
        x = leaf(1.0)
        y = x
        for _ in range(self.N // 10):
            y = y * 1.0001
        z = y * y
        first = tm.grad(z, x, create_graph=True)
        assert tm.grad(first, x).item() == pytest.approx(2 * 1.0001 ** (self.N // 5), rel=1e-9)

    def test_every_node_is_visited_once(self):
        """A ladder of n rungs has 2^n paths; each op's derivative must run once."""
        calls = []
        step = tm.op(
            lambda a, b: a + b,
            "a b",
            lambda g: calls.append(1) or g,
            lambda g: calls.append(1) or g,
            name="step",
        )
        x = leaf(1.0)
        y = x
        for _ in range(60):
            y = step(y, y)
        assert tm.grad(y, x).item() == 2.0**60
        assert len(calls) == 2 * 60

    def test_the_walk_stops_at_the_inputs(self, monkeypatch):
        """Step k of an inner loop must not pay for steps 1 to k - 1."""
        calls, visited = [], []
        step = tm.op(np.sin, "x", lambda g, x: calls.append(1) or g * np.cos(x), name="step")
        x = leaf(1.0)
        for _ in range(50):
            x = step(x)
        middle = x
        for _ in range(5):
            x = step(x)
        autograd = sys.modules["tinymaml.engine.grad"]
        monkeypatch.setattr(autograd, "_by_age", lambda node: visited.append(1) or node.order)
        tm.grad(x, middle)
        assert len(calls) == 5 and len(visited) == 6


class TestMemory:
    @pytest.fixture(autouse=True)
    def no_garbage_collection(self):
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    def test_a_graph_is_freed_when_its_last_user_goes(self):
        x = leaf(np.ones(3))
        middle = np.exp(x)
        y = np.sum(np.sin(middle) * middle)
        gone = [weakref.ref(middle), weakref.ref(y)]
        arrays = [weakref.ref(middle.data)]
        del middle
        assert arrays[0]() is not None  # the graph still needs it
        del y
        assert [ref() for ref in gone + arrays] == [None] * 3

    @pytest.mark.parametrize("create_graph", [False, True])
    def test_also_after_grad(self, create_graph):
        x = leaf(np.ones(3))
        middle = np.exp(x)
        y = np.sum(middle**2)
        g = tm.grad(y, x, create_graph=create_graph)
        gone = [weakref.ref(middle), weakref.ref(y), weakref.ref(g), weakref.ref(middle.data)]
        del middle, y, g
        assert [ref() for ref in gone] == [None] * 4

    def test_also_after_a_second_derivative_and_through_func(self):
        x = leaf(np.ones(3))
        seen = []

        def f(x):
            y = np.exp(x)
            seen.append(weakref.ref(y.data))
            return np.sum(np.sin(y) * y)

        tm.func.hvp(f, x.numpy(), np.ones(3))
        tm.func.hessian(f)(x.numpy())
        g = tm.grad(f(x), x, create_graph=True)
        tm.grad(np.sum(g * g), x)
        del g
        assert [ref() for ref in seen] == [None] * len(seen)

    def test_ten_thousand_steps_leave_nothing_behind(self):
        def step(w):
            g = tm.grad(np.sum(np.tanh(w) ** 2), w, create_graph=True)
            return leaf(w.numpy() - 0.1 * tm.grad(np.sum(g * g), w).numpy())

        w = leaf(np.ones(3))
        for _ in range(10):
            w = step(w)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            w = step(w)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert grown < 20_000  # a leak of one array a step would be 30,000 and more

    def test_an_input_that_no_derivative_wants_is_not_kept(self):
        x = leaf(np.ones(3))
        doubled = x * 2.0
        data = weakref.ref(doubled.data)
        y = doubled + 1.0  # the derivative of a sum needs no values
        del doubled
        assert data() is None and y.requires_grad


class TestDtypes:
    @pytest.mark.parametrize("sample", EVERY)
    def test_float32_stays_float32(self, sample):
        def single(array):
            array = array.astype(np.float32) if array.dtype.kind == "f" else array
            return tm.tensor(array, requires_grad=array.dtype.kind == "f")

        xs = []
        with np.errstate(invalid="ignore"):
            result = sample.call(lambda a: xs.append(single(a)) or xs[-1])
            expected = sample.call(lambda a: single(a).numpy())
        own = (getattr(sample.function, "__module__", None) or "").startswith("tinymaml")
        for y, e in zip(leaves(result), leaves(expected)):
            if type(y) is Tensor and y.dtype.kind == "f":
                # NumPy widens where a sample brings lists or integers along
                assert y.dtype == (np.float32 if own else e.dtype)
                assert is_array(y)
        ys = [y for y in leaves(result) if type(y) is Tensor and y.requires_grad]
        xs = [x for x in xs if x.requires_grad]
        if not ys or not xs:
            return
        us = [np.ones(y.shape, y.dtype) for y in ys]
        for create_graph in (False, True):
            found = tm.grad(ys, xs, us, create_graph=create_graph, allow_unused=True)
            for g, x in zip(found, xs):
                assert g is None or (g.dtype == np.float32 and g.shape == x.shape)
                assert g is None or is_array(g)
        again = [g for g in found if g is not None and g.requires_grad]
        if again:
            us = [np.ones(g.shape, np.float32) for g in again]
            for g in tm.grad(again, xs, us, allow_unused=True):
                assert g is None or g.dtype == np.float32

    @pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
    def test_python_numbers_do_not_promote(self, dtype):
        x = leaf([1.0, 2.0], dtype)
        for y in (x + 1, 2.5 * x, x / 3, 1 / x, x**2, x**0.5, 2**x, 1 - x, np.maximum(x, 0)):
            assert y.dtype == dtype
            assert tm.grad(np.sum(y), x).dtype == dtype
        zero_d = leaf(1.5, dtype)
        assert (zero_d * 2.5 + 1).dtype == dtype
        assert tm.grad(zero_d * 2.5 + 1, zero_d).dtype == dtype

    def test_each_gradient_has_the_dtype_of_its_input(self):
        a, b = leaf([1.0, 2.0], np.float32), leaf([3.0, 4.0])
        y = np.sum(a * b)
        assert y.dtype == np.float64
        for create_graph in (False, True):
            of_a, of_b = tm.grad(y, (a, b), create_graph=create_graph)
            assert of_a.dtype == np.float32 and of_b.dtype == np.float64
            assert of_a.tolist() == [3, 4] and of_b.tolist() == [1, 2]

    def test_astype_and_back(self):
        x = leaf([1.5, 2.5], np.float32)
        wide = x.astype(float)
        assert wide.dtype == np.float64
        g = tm.grad(np.sum(wide * wide), x)
        assert g.dtype == np.float32 and g.tolist() == [3, 5]
        assert not x.astype(int).requires_grad

    def test_0d_results_stay_arrays(self):
        x = leaf([1.0, 2.0])
        for y in (np.sum(x), x[0], x @ x, np.max(x), x[0] * 2, np.linalg.norm(x), -x[1]):
            assert is_array(y) and y.shape == ()
            g = tm.grad(y, x)
            assert is_array(g) and g.shape == (2,)
        zero_d = leaf(2.0)
        g = tm.grad(zero_d**3, zero_d, create_graph=True)
        assert is_array(g) and is_array(tm.grad(g, zero_d))


class TestOperators:
    @pytest.mark.parametrize(
        "operate",
        [
            lambda a, b: a + b,
            lambda a, b: a - b,
            lambda a, b: a * b,
            lambda a, b: a / b,
            lambda a, b: a**b,
            lambda a, b: a @ b,
        ],
    )
    def test_array_and_tensor_in_either_order(self, operate):
        a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 1.0], [0.5, 3.0]])
        expected = operate(a, b)
        raw_a, raw_b = backend.asarray(a), backend.asarray(b)
        for x, y in ((leaf(a), raw_b), (raw_a, leaf(b)), (leaf(a), leaf(b))):
            result = operate(x, y)
            assert type(result) is Tensor and result.requires_grad
            rounding = 1e-14 if backend.get_backend() == "cupy" else 0
            np.testing.assert_allclose(result.numpy(), expected, rtol=rounding)

    def test_numpy_scalars_in_either_order(self):
        x = leaf([1.0, 2.0])
        for y in (np.float64(2) * x, x * np.float64(2), np.float64(2) / x, np.int64(2) ** x):
            assert type(y) is Tensor and y.requires_grad

    def test_comparisons_give_masks(self):
        x = leaf([1.0, 2.0, 3.0])
        mask = x > 1.5
        assert mask.tolist() == [False, True, True] and not mask.requires_grad
        assert (x[mask] * 2).tolist() == [4, 6]
        assert (backend.asarray([2.0, 2.0, 2.0]) < x).tolist() == [False, False, True]
        assert (~mask & (x < 5)).tolist() == [True, False, False]

    def test_function_method_and_operator_are_the_same_op(self):
        x = leaf(np.arange(6.0).reshape(2, 3))
        for one, other in [
            (np.sum(x, axis=1), x.sum(axis=1)),
            (np.mean(x, 0, keepdims=True), x.mean(0, keepdims=True)),
            (np.add(x, 1), x + 1),
            (np.matmul(x, x.T), x @ x.T),
            (np.transpose(x), x.T),
            (np.swapaxes(x, 0, 1), x.swapaxes(0, 1)),
            (np.reshape(x, (3, 2)), x.reshape(3, 2)),
            (np.max(x, axis=0), x.max(axis=0)),
            (np.var(x), x.var()),
            (np.clip(x, 1, 2), x.clip(1, 2)),
            (np.abs(x), abs(x)),
        ]:
            assert one.node.op is other.node.op
            np.testing.assert_array_equal(one.numpy(), other.numpy())

    def test_constants_of_a_tensor(self):
        x = leaf(np.ones((2, 3)))
        assert (np.shape(x), np.ndim(x), np.size(x), len(x)) == ((2, 3), 2, 6, 2)
        assert x.shape == (2, 3) and x.ndim == 2 and x.size == 6 and x.dtype == np.float64

    def test_numbers_out_of_tensors(self):
        x = leaf(2.5)
        assert (x.item(), float(x), int(x), bool(x), f"{x:.2f}") == (2.5, 2.5, 2, True, "2.50")
        assert [10, 20, 30][tm.tensor(1)] == 20
        with pytest.raises(ValueError):
            bool(leaf([1.0, 2.0]))

    def test_repr_says_how_it_was_made(self):
        x = leaf([1.0, 2.0], np.float32)
        assert repr(x) == "Tensor([1., 2.], dtype=float32, requires_grad=True)"
        assert repr(np.exp(x) * 0) == "Tensor([0., 0.], dtype=float32, op=multiply)"
        assert repr(tm.tensor(1)) == "Tensor(1, dtype=int64)"

    def test_equality_is_by_element_and_hash_by_identity(self):
        x = leaf([1.0, 2.0])
        assert (x == x).tolist() == [True, True]
        assert len({x, x, leaf([1.0, 2.0])}) == 2


def test_own_op_of_many_arguments():
    total = tm.op(
        lambda *a: sum(a[1:], a[0]),
        "*a",
        joint=lambda needed, g: [g for _ in needed],
        name="total",
    )
    x, y = leaf(1.0), leaf([2.0, 3.0])
    of_x, of_y = tm.grad(np.sum(total(x, y, 1.0, x)), (x, y))
    assert of_x.item() == 4 and of_y.tolist() == [1, 1]


class TestRows:
    """What a row may say, and what is kept of it."""

    def test_what_is_not_named_is_not_kept(self):
        x, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
        node = (x * 2.0 * b.detach()).node
        assert [type(a) for a in node.args] == [tm.engine.tensor.Node, Tensor] and node.y is None
        node = np.tanh(x).node
        assert type(node.args[0]) is not Tensor and node.y is not None

    @pytest.mark.numpy_only
    def test_shape_alone_keywords_and_their_defaults(self):
        times = tm.op(
            lambda x, factor=2.0, *, power=1: x * factor**power,
            "x",
            lambda g, x_like, y_like, power, factor: (
                g * factor**power + np.zeros(x_like.shape) * y_like.ndim
            ),
            name="times",
        )
        x = leaf([1.0, 2.0])
        for y, slope in [
            (times(x), 2),
            (times(x, 3.0), 3),
            (times(x, power=2), 4),
            (times(x, 3.0, power=2), 9),
            (times(power=2, x=x, factor=5.0), 25),
        ]:
            assert y.node.static.keys() == {"factor", "power"}
            assert tm.grad(y.sum(), x).tolist() == [slope, slope]
        with pytest.raises(TypeError, match="too many positional"):
            times(x, 3.0, 2)

    @pytest.mark.numpy_only
    def test_what_the_forward_saves_reaches_its_derivative(self):
        def forward(x, index):
            sign = np.sign(x)
            return x[index] * sign[index], sign

        fold = tm.op(
            forward,
            "x",
            lambda g, saved, x_like, **how: (
                saved * np.eye(x_like.shape[0])[how["index"]] * g.reshape(())
            ),
            name="fold",
        )
        x = leaf([-1.0, 2.0])
        assert fold(np.array([-3.0, 2.0]), index=0) == 3
        assert tm.grad(fold(x, index=0), x).tolist() == [-1, 0]

    def test_a_star_stands_for_the_rest(self):
        weigh = tm.op(
            lambda x, *weights: x * sum(weights),
            "x *weights",
            lambda g, weights: g * sum(weights),
            name="weigh",
        )
        x, w = leaf(2.0), leaf(3.0)
        assert tm.grad(weigh(x, w, 4.0), x).item() == 7
        assert tm.grad(weigh(x), x).item() == 0

    @pytest.mark.parametrize(
        "make, sentence",
        [
            (lambda: tm.op(np.tanh, lambda g, y, x: g), r"op\(np.multiply, 'a b', lambda g, b: "),
            (lambda: tm.op(np.tanh, "x", lambda g, z: g), "'tanh': .* names z, but it may name"),
            (lambda: tm.op(np.tanh, "x", lambda g, _x: g), "names _x, but it may name only"),
            (lambda: tm.op(np.add, "a b", lambda g: g), "'a b' but has 1 derivatives; give one"),
            (lambda: tm.op(np.add, "x y", lambda g: g, None), "'y' would mean two things"),
        ],
    )
    def test_a_row_that_is_wrong_is_refused_when_it_is_made(self, make, sentence):
        with pytest.raises(TypeError, match=sentence):
            make()

    def test_a_missing_argument_is_named(self):
        with pytest.raises(TypeError, match="missing a required argument: 'b'"):
            tm.ops.elementwise.add(leaf(1.0))


def test_own_op_leaves_numpys_function_as_it_is():
    zero = tm.op(np.square, "x", lambda g: g * 0, name="zero")
    x = leaf(3.0)
    assert tm.grad(zero(x), x).item() == 0
    assert tm.grad(np.square(x), x).item() == 6


@pytest.mark.numpy_only
def test_error_function_by_its_series_as_an_own_op():
    """An op from outside NumPy, to second order."""
    erf = tm.op(
        lambda x: np.asarray(np.frompyfunc(math.erf, 1, 1)(x), dtype=float),
        "x",
        lambda g, x: g * (2 / math.sqrt(math.pi)) * np.exp(-x * x),
        name="erf",
    )
    x = np.array([0.3, -1.0])
    assert gradcheck(erf, x) and gradgradcheck(erf, x)


def test_an_op_is_copied_and_pickled_by_its_name():
    assert copy.deepcopy(ops.relu) is ops.relu and pickle.loads(pickle.dumps(ops.relu)) is ops.relu


def test_a_call_that_does_not_fit_an_op_names_it():
    with pytest.raises(TypeError, match=r"^relu\(x\): too many positional arguments"):
        ops.relu(np.ones(2), 3)
