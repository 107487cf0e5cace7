"""Transforms of plain functions, alone and inside each other."""

import math
import re
from typing import NamedTuple

import numpy as np
import pytest

import tinymaml as tm
from tinymaml.engine import backend
from tinymaml.engine.func import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

A = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.5, -1.0, 4.0]])
X = np.array([0.5, -1.0, 2.0])
V = np.array([1.0, 0.3, -0.7])


def quadratic(x):
    return 0.5 * x @ backend.asarray(A) @ x


def cubic(x):
    """Its Hessian is diag(6 x) + A."""
    return np.sum(x**3) + quadratic(x)


def swirl(x):
    return np.stack([np.sin(x[0]) * x[1], np.exp(x[1] * x[2]), x[0] * x[1] * x[2], x[2] ** 2])


def swirl_jacobian(x):
    a, b, c = x
    e = math.exp(b * c)
    return np.array(
        [[math.cos(a) * b, math.sin(a), 0], [0, e * c, e * b], [b * c, a * c, a * b], [0, 0, 2 * c]]
    )


class Point(NamedTuple):
    x: object
    y: object


def is_plain(structure):
    return not any(isinstance(leaf, tm.Tensor) for leaf in tm.engine.structure.leaves(structure))


class TestGrad:
    def test_gradient_of_a_quadratic_form(self):
        np.testing.assert_allclose(grad(quadratic)(X), A @ X, rtol=1e-14)

    def test_takes_and_gives_plain_arrays(self):
        g = grad(quadratic)(X)
        of_backend = type(backend.asarray(X))
        assert type(g) is of_backend and g.shape == X.shape
        assert type(grad(np.tanh)(0.3)) is of_backend

    def test_float32_stays_float32(self):
        assert grad(lambda x: np.sum(np.tanh(x)))(X.astype(np.float32)).dtype == np.float32
        v = V.astype(np.float32)
        assert hvp(lambda x: np.sum(x**3), X.astype(np.float32), v).dtype == np.float32
        assert jacobian(np.square)(v).dtype == np.float32

    def test_structures(self):
        def f(p):
            return np.sum(p["w"] * p["rest"][0]) + p["rest"][1].x * p["rest"][1].y

        p = {"w": X, "rest": [V, Point(2.0, 5.0)]}
        g = grad(f)(p)
        np.testing.assert_array_equal(g["w"], V)
        np.testing.assert_array_equal(g["rest"][0], X)
        assert type(g["rest"][1]) is Point and g["rest"][1] == (5, 2)
        assert is_plain(g)

    def test_argnums(self):
        f = lambda a, b, c: a * b**2 * c**3
        assert grad(f)(2.0, 3.0, 1.0) == 9
        assert grad(f, argnums=1)(2.0, 3.0, 1.0) == 12
        assert grad(f, argnums=(2, 0))(2.0, 3.0, 1.0) == (54, 9)
        assert grad(f, argnums=-1)(2.0, 3.0, 1.0) == 54
        assert type(grad(f, argnums=(0,))(2.0, 3.0, 1.0)) is tuple

    @pytest.mark.parametrize("argnums", [3, -4, (0, 3)])
    def test_an_argument_that_is_not_there(self, argnums):
        message = rf"argnums is {re.escape(str(argnums))}, but .* 2 positional arguments"
        with pytest.raises(ValueError, match=message):
            grad(lambda a, b, c=1.0: a * b * c, argnums)(2.0, 3.0)

    @pytest.mark.parametrize("number", [3, True, np.int64(3), np.float64(3), np.float32(3)])
    def test_numbers_of_every_kind(self, number):
        assert float(grad(lambda x: x**2)(number)) == 2 * number
        assert float(jvp(np.square, number, np.int64(1))[1]) == 2 * number
        assert grad(np.square)(np.float32(3)).dtype == np.float32

    def test_other_arguments_pass_through_untouched(self):
        seen = []

        def f(x, labels, *, scale, name):
            seen.append((labels, name))
            return scale * np.sum(x[labels])

        labels = np.array([0, 0, 2])
        g = grad(f)(X, labels, scale=2.0, name="kept")
        np.testing.assert_array_equal(g, [4, 0, 2])
        assert seen[0][0] is labels and seen[0][1] == "kept"

    def test_value_and_grad(self):
        value, g = value_and_grad(quadratic)(X)
        assert float(value) == pytest.approx(0.5 * X @ A @ X) and is_plain(value)
        np.testing.assert_allclose(g, A @ X, rtol=1e-14)

    def test_unused_arguments_get_zeros(self):
        _, b = grad(lambda a, b: np.sum(a), argnums=(0, 1))(X, A)
        np.testing.assert_array_equal(b, np.zeros((3, 3)))
        np.testing.assert_array_equal(grad(lambda x: 3.0)(X), np.zeros(3))
        np.testing.assert_array_equal(grad(lambda p: np.sum(p["a"]))({"a": X, "b": A})["b"], A * 0)

    def test_wants_a_scalar(self):
        with pytest.raises(ValueError, match=r"shape \(3,\); sum it, or use jacobian or vjp"):
            grad(np.tanh)(X)

    def test_wants_floating_point(self):
        with pytest.raises(TypeError, match="a gradient needs floating-point numbers"):
            grad(np.sum)(np.arange(3))

    def test_works_inside_no_grad(self):
        with tm.no_grad():
            np.testing.assert_allclose(grad(quadratic)(X), A @ X, rtol=1e-14)
            assert float(grad(grad(np.sin))(0.3)) == pytest.approx(-math.sin(0.3))

    def test_the_arguments_are_not_written(self):
        x = X.copy()
        grad(lambda x: np.sum(x * x + x))(x)
        np.testing.assert_array_equal(x, X)


class TestNesting:
    @pytest.mark.parametrize("order", range(1, 7))
    def test_any_order(self, order):
        f = np.sin
        for _ in range(order):
            f = grad(f)
        assert float(f(0.4)) == pytest.approx(math.sin(0.4 + order * math.pi / 2), rel=1e-12)
        assert is_plain(f(0.4))

    def test_perturbations_are_not_confused(self):
        """d/dx (x d/dy (x y)) = 2 x: the inner derivative must see its own y only."""
        # Siskind & Pearlmutter 2005, "Perturbation confusion and referential transparency"
        assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1
        assert grad(lambda x: x * grad(lambda y: x * y)(1.0))(3.0) == 6
        assert grad(lambda x: x * grad(lambda y: x * y * y)(x))(2.0) == 24  # d/dx 2 x^3

    def test_inner_and_outer_variable_are_the_same_number(self):
        f = lambda x: grad(lambda y: y**3)(x)
        assert grad(f)(2.0) == 12
        assert grad(lambda x: grad(lambda y: y * x)(x) * x)(2.0) == 4

    def test_closures_over_outer_variables(self):
        def outer(w):
            step = lambda v: v - 0.1 * grad(lambda u: (u - w) ** 2)(v)
            return step(step(0.0)) ** 2  # two steps from 0: w (1 - 0.8^2)

        assert float(grad(outer)(3.0)) == pytest.approx(2 * 3 * 0.36**2)
        assert float(grad(grad(outer))(3.0)) == pytest.approx(2 * 0.36**2)

    def test_a_gradient_that_does_not_depend_on_the_outer_variable(self):
        assert grad(lambda x: x * grad(lambda y: y * y)(3.0))(2.0) == 6
        assert grad(lambda x: grad(lambda y: 5.0 * y)(x))(2.0) == 0

    def test_the_fourth_order_mixed_derivative(self):
        f = lambda a, b: np.sin(a) * np.exp(2 * b)
        g = grad(grad(grad(grad(f, 0), 1), 0), 1)
        assert float(g(0.3, 0.1)) == pytest.approx(-4 * math.sin(0.3) * math.exp(0.2))

    def test_transforms_of_every_kind_inside_each_other(self):
        cube = lambda x: np.sum(x**3)
        v = backend.asarray(V)
        np.testing.assert_allclose(jacobian(grad(cube))(X), np.diag(6 * X), rtol=1e-14)
        np.testing.assert_allclose(jvp(grad(cube), X, V)[1], 6 * X * V, rtol=1e-14)
        np.testing.assert_allclose(vjp(grad(cube), X)[1](V)[0], 6 * X * V, rtol=1e-14)
        np.testing.assert_allclose(grad(lambda x: hvp(cube, x, V) @ v)(X), 6 * V * V, rtol=1e-14)
        np.testing.assert_allclose(hvp(lambda x: jvp(cube, x, V)[1], X, V), 6 * V * V, rtol=1e-14)
        np.testing.assert_allclose(
            grad(lambda x: np.sum(jacobian(np.sin)(x)))(X), -np.sin(X), rtol=1e-14
        )
        np.testing.assert_allclose(
            jacobian(hessian(cube))(X),
            6 * np.einsum("ij,jk->ijk", np.eye(3), np.eye(3)),
            rtol=1e-14,
        )
        pulled = lambda x: np.sum(vjp(np.sin, x)[1](x)[0])  # sum of x cos x
        np.testing.assert_allclose(grad(pulled)(X), np.cos(X) - X * np.sin(X), rtol=1e-14)

    def test_tensors_in_give_tensors_out_that_remember(self):
        x = tm.tensor(X, requires_grad=True)
        g = grad(cubic)(x)
        assert isinstance(g, tm.Tensor) and g.requires_grad
        second = tm.grad(np.sum(g), x)
        np.testing.assert_allclose(second.numpy(), 6 * X + A.sum(0), rtol=1e-14)


class TestVjp:
    def test_value_and_pullback(self):
        y, pullback = vjp(swirl, X)
        np.testing.assert_allclose(y, swirl(X), rtol=1e-14)
        u = np.array([1.0, -2.0, 0.5, 3.0])
        (g,) = pullback(u)
        np.testing.assert_allclose(g, u @ swirl_jacobian(X), rtol=1e-13)
        np.testing.assert_allclose(pullback(2 * u)[0], 2 * g, rtol=1e-14)  # may be called again
        assert is_plain((y, g))

    def test_structures_in_and_out(self):
        def f(p, scale):
            return {"sum": p["a"] + p["b"], "rest": (p["a"] * scale,)}

        y, pullback = vjp(f, {"a": X, "b": V}, 2.0)
        np.testing.assert_array_equal(y["rest"][0], 2 * X)
        p, scale = pullback({"sum": np.ones(3), "rest": (V,)})
        np.testing.assert_array_equal(p["a"], 1 + 2 * V)
        np.testing.assert_array_equal(p["b"], np.ones(3))
        assert float(scale) == pytest.approx(X @ V)

    def test_cotangents_are_matched_by_key(self):
        f = lambda a, b: {"first": a, "second": 10 * b, "third": 3.0}
        a, b = vjp(f, 2.0, 3.0)[1]({"third": 1.0, "second": 5.0, "first": 7.0})
        assert (float(a), float(b)) == (7, 50)

    def test_cotangents_of_another_form_or_shape(self):
        _, pullback = vjp(lambda x: {"y": x, "rest": [np.sum(x), 3.0]}, X)
        for cotangent, message in [
            ({"y": V}, "the cotangent is a dict with keys 'y', but a dict with keys 'y', 'rest'"),
            ({"y": V, "rest": [1.0]}, r"the cotangent\['rest'\] is a list of 1, but a list of 2"),
            ({"y": V[:2], "rest": [1.0, 1.0]}, r"cotangent\['y'\] has shape \(2,\).*\(3,\)"),
            ({"y": V, "rest": [1.0, V]}, r"cotangent\['rest'\]\[1\] has shape \(3,\).*\(\)"),
        ]:
            with pytest.raises(ValueError, match=message):
                pullback(cotangent)

    def test_zeros_for_what_is_not_used(self):
        _, pullback = vjp(lambda a, b: a, X, V)
        np.testing.assert_array_equal(pullback(V)[1], np.zeros(3))


class TestJvp:
    def test_against_the_jacobian_and_differences(self):
        y, dy = jvp(swirl, X, V)
        np.testing.assert_allclose(y, swirl(X), rtol=1e-14)
        np.testing.assert_allclose(dy, swirl_jacobian(X) @ V, rtol=1e-13)
        h = 1e-6
        np.testing.assert_allclose(dy, (swirl(X + h * V) - swirl(X - h * V)) / (2 * h), rtol=1e-7)
        assert is_plain((y, dy))

    def test_structures(self):
        f = lambda p: {"product": p["a"] * p["b"], "constant": 3.0 * p["b"] ** 0}
        y, dy = jvp(f, {"a": X, "b": V}, {"a": V, "b": X})
        np.testing.assert_array_equal(y["product"], X * V)
        np.testing.assert_allclose(dy["product"], V * V + X * X, rtol=1e-14)
        np.testing.assert_array_equal(dy["constant"], np.zeros(3))

    def test_directions_are_matched_by_key(self):
        dy = jvp(lambda p: p["a"] + 10 * p["b"], {"a": 2.0, "b": 3.0}, {"b": 5.0, "a": 7.0})[1]
        assert float(dy) == 7 + 50

    @pytest.mark.parametrize(
        "transform", [jvp, lambda f, x, v: hvp(lambda x: np.sum(f(x)), x, v)], ids=["jvp", "hvp"]
    )
    def test_directions_of_another_form_or_shape(self, transform):
        f = lambda p: p["a"] * p["b"] + p["a"] ** 2
        for v, message in [
            ({"a": V}, "v is a dict with keys 'a', but a dict with keys 'a', 'b' is expected"),
            ({"a": V, "b": V, "c": V}, "v is a dict with keys 'a', 'b', 'c', but"),
            ([V, V], "v is a list of 2, but a dict"),
            ({"a": V, "b": V[:1]}, r"v\['b'\] has shape \(1,\).*shape \(3,\)"),
            ({"a": 1.0, "b": V}, r"v\['a'\] has shape \(\).*shape \(3,\)"),
        ]:
            with pytest.raises(ValueError, match=message):
                transform(f, {"a": X, "b": X}, v)
        with pytest.raises(ValueError, match=r"v has shape \(2,\)"):
            transform(np.square, X, V[:2])

    def test_direction_and_pullback_agree(self):
        """<u, J v> = <J^T u, v>."""
        u = np.array([1.0, -2.0, 0.5, 3.0])
        forward, backward = jvp(swirl, X, V)[1], vjp(swirl, X)[1](u)[0]
        np.testing.assert_allclose(
            backend.asarray(u) @ forward, backward @ backend.asarray(V), rtol=1e-13
        )

    def test_differentiates_with_respect_to_the_direction(self):
        g = grad(lambda v: np.sum(jvp(swirl, X, v)[1]))(V)
        np.testing.assert_allclose(g, swirl_jacobian(X).sum(0), rtol=1e-13)

    def test_to_the_third_order(self):
        f = lambda x: jvp(lambda x: jvp(np.sin, x, 1.0)[1], x, 1.0)[1]
        assert float(jvp(f, 0.3, 1.0)[1]) == pytest.approx(-math.cos(0.3))


class TestHessian:
    def test_closed_form(self):
        np.testing.assert_allclose(hessian(cubic)(X), np.diag(6 * X) + A, rtol=1e-13)

    def test_is_symmetric_and_hvp_multiplies_by_it(self):
        f = lambda x: np.sum(swirl(x) ** 2)
        H = backend.to_numpy(hessian(f)(X))
        np.testing.assert_allclose(H, H.T, rtol=1e-12)
        np.testing.assert_allclose(hvp(f, X, V), H @ V, rtol=1e-12)

    def test_of_a_structure(self):
        f = lambda p: np.sum(p["a"] ** 2 * p["b"])
        H = hessian(f)({"a": X, "b": V})
        np.testing.assert_allclose(H["a"]["a"], np.diag(2 * V), rtol=1e-14)
        np.testing.assert_allclose(H["a"]["b"], np.diag(2 * X), rtol=1e-14)
        np.testing.assert_allclose(H["b"]["a"], np.diag(2 * X), rtol=1e-14)
        np.testing.assert_array_equal(H["b"]["b"], np.zeros((3, 3)))

    def test_hvp_of_a_structure(self):
        f = lambda p: np.sum(p["a"] ** 2 * p["b"]) + np.sum(p["unused"] * 2)
        v = {"a": V, "b": X, "unused": 1.0}
        product = hvp(f, {"a": X, "b": V, "unused": 3.0}, v)
        np.testing.assert_allclose(product["a"], 2 * V * V + 2 * X * X, rtol=1e-14)
        np.testing.assert_allclose(product["b"], 2 * X * V, rtol=1e-14)
        assert product["unused"] == 0

    def test_hvp_matches_the_direction_by_key(self):
        f = lambda p: p["a"] ** 3 + p["b"] ** 3
        product = hvp(f, {"a": 1.0, "b": 2.0}, {"b": 5.0, "a": 7.0})
        assert (float(product["a"]), float(product["b"])) == (6 * 7, 12 * 5)

    def test_of_a_linear_function_is_zero(self):
        f = lambda x: x @ backend.asarray(V)
        np.testing.assert_array_equal(hessian(f)(X), np.zeros((3, 3)))
        np.testing.assert_array_equal(hvp(f, X, V), np.zeros(3))


class TestJacobian:
    def test_closed_form(self):
        np.testing.assert_allclose(jacobian(swirl)(X), swirl_jacobian(X), rtol=1e-13)

    def test_shapes(self):
        f = lambda x: np.outer(x, x)
        J = jacobian(f)(X)
        assert J.shape == (3, 3, 3)
        np.testing.assert_array_equal(J[0, 1], [X[1], X[0], 0])
        assert jacobian(np.sin)(0.3).shape == ()
        assert jacobian(np.sum)(A).shape == (3, 3)
        assert jacobian(lambda x: x[:0])(X).shape == (0, 3)

    def test_structures(self):
        J = jacobian(lambda p: {"y": p["a"] * p["b"], "z": (np.sum(p["a"]),)})({"a": X, "b": 2.0})
        np.testing.assert_array_equal(J["y"]["a"], 2 * np.eye(3))
        np.testing.assert_array_equal(J["y"]["b"], X)
        np.testing.assert_array_equal(J["z"][0]["a"], np.ones(3))
        assert J["z"][0]["b"] == 0
