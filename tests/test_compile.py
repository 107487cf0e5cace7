"""compile(): programs equal to what they were made of, bit for bit, and what cannot be one."""

import numpy as np
import pytest
from test_derivatives import DIFFERENTIABLE

import tinymaml as tm
from tinymaml.engine import backend
from tinymaml.engine.structure import leaves
from tinymaml.engine.tensor import raw

SEED = 3


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


@pytest.mark.parametrize("sample", DIFFERENTIABLE)
def test_samples_of_every_op(sample):
    arrays = sample.arrays()
    parts = [y for y in leaves(sample.of(*arrays))]
    rng = np.random.default_rng(SEED)
    cotangents = [rng.standard_normal(np.shape(raw(y))) for y in parts]
    orders = derivatives(sample)
    eager = orders(arrays, cotangents)
    _, result = ran(orders, arrays, cotangents)
    assert same(result, eager)


@pytest.mark.parametrize("sample", DIFFERENTIABLE[::11])
def test_programs_on_another_array_library(sample):
    with tm.use_backend("strict"):
        arrays = [backend.asarray(a) for a in sample.arrays()]
        orders = derivatives(sample)
        try:
            shapes = [np.shape(raw(y)) for y in leaves(sample.of(*arrays))]
            cotangents = [backend.asarray(np.ones(shape)) for shape in shapes]
            eager = orders(arrays, cotangents)
        except (TypeError, AttributeError):
            pytest.skip("CuPy lacks what this takes")
        _, result = ran(orders, arrays, cotangents)
        for a, b in zip(leaves(result), leaves(eager), strict=True):
            np.testing.assert_allclose(
                backend.to_numpy(raw(a)), backend.to_numpy(raw(b)), rtol=1e-12
            )
