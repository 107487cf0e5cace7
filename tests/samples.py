"""Sample inputs for every row of the derivative table and every NumPy function tensors take.

``SAMPLES[name]`` lists calls of one function. Its float arrays are the inputs to differentiate;
integer and boolean arrays are indices and masks. Values lie inside the function's domain and well
away from its kinks, so that finite differences hold; kinks have tests of their own.
"""

import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tinymaml import ops
from tinymaml.engine import backend
from tinymaml.engine.op import table
from tinymaml.engine.ops import shape as shape_ops
from tinymaml.engine.structure import leaves, map_leaves
from tinymaml.engine.tensor import raw

#: The derivative table as the package makes it, before any test adds ops of its own.
TABLE = dict(table)


class Sample(NamedTuple):
    """One call: ``function(*args, **kwargs)``."""

    function: Callable
    args: tuple
    kwargs: dict
    differentiable: bool = True

    def arrays(self):
        """Return the float arrays among the arguments, in order."""
        return [a for a in leaves((self.args, self.kwargs)) if is_array(a, "f")]

    def call(self, convert, kinds="fibu"):
        """Call the function with ``convert`` applied to every array of the given dtype kinds."""
        args, kwargs = map_leaves(
            lambda a: convert(a) if is_array(a, kinds) else a, (self.args, self.kwargs)
        )
        return self.function(*args, **kwargs)

    def of(self, *arrays):
        """Call the function with ``arrays`` in place of the float arrays, all on the backend."""
        arrays = iter(arrays)
        return self.call(lambda a: next(arrays) if is_array(a, "f") else backend.asarray(a))


def is_array(a, kinds):
    return isinstance(a, np.ndarray) and a.dtype.kind in kinds


SAMPLES: dict[str, list[Sample]] = {}

_rng = np.random.default_rng(0)


def normal(*shape):
    return _rng.standard_normal(shape)


def uniform(low, high, *shape):
    return _rng.uniform(low, high, shape)


def spread(*shape):
    """Distinct values of both signs, 1 apart, none near an integer, a half or zero."""
    n = int(np.prod(shape))
    return (_rng.permutation(n) - n // 2 + 0.3).reshape(shape).astype(float)


def well_conditioned(*shape):
    """Matrices whose inverses are tame."""
    return np.eye(shape[-1]) * 3 + uniform(-0.7, 0.7, *shape)


def add(name, function, *args, differentiable=True, **kwargs):
    SAMPLES.setdefault(name, []).append(Sample(function, args, kwargs, differentiable))


def add_unary(name, function, make):
    """Sample a function of one array at a 0-d, an empty, and a two-dimensional array."""
    for shape in ((), (0,), (2, 3)):
        add(name, function, make(*shape))


def add_binary(name, function, make_a, make_b=None):
    """Sample a function of two arrays over the ways in which they broadcast."""
    make_b = make_b or make_a
    add(name, function, make_a(2, 3), make_b(2, 3))
    add(name, function, make_a(2, 1), make_b(1, 3))  # size-1 axes on both sides
    add(name, function, make_a(3), make_b(2, 2, 3))  # missing axes
    add(name, function, make_a(), make_b(2))  # 0-d
    add(name, function, make_a(0, 1), make_b(3))  # empty
    add(name, function, make_a(2, 2), 1.5)  # Python numbers
    add(name, function, 2, make_b(3))


# Elementwise functions of one array, where they live.
_everywhere = (
    "positive negative square exp exp2 expm1 sin cos tanh sinh cosh arctan arcsinh sign floor ceil "
    "trunc rint absolute"
)
for _name in _everywhere.split():
    add_unary(
        _name, getattr(np, _name), spread if _name in "sign floor ceil trunc rint" else normal
    )
for _name in "sqrt cbrt log log2 log10 log1p reciprocal".split():
    add_unary(_name, getattr(np, _name), lambda *shape: uniform(0.5, 2, *shape))
for _name in "arcsin arccos arctanh tan".split():
    add_unary(_name, getattr(np, _name), lambda *shape: uniform(-0.8, 0.8, *shape))
add_unary("arccosh", np.arccosh, lambda *shape: uniform(1.5, 3, *shape))
add("reciprocal", np.reciprocal, uniform(-2, -0.5, 3))
add("absolute", abs, spread(4))
add("negative", operator.neg, normal(2))
add("positive", operator.pos, normal(2))
for _name in "relu sigmoid softplus gelu".split():
    add_unary(_name, getattr(ops, _name), spread)
add("round", np.round, spread(2, 3))
add("round", np.round, spread(2, 3), decimals=-1)
add("around", np.around, spread(3), 1)

# Elementwise functions of two arrays.
for _name, _operator in {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "maximum": None,
    "minimum": None,
    "logaddexp": None,
    "arctan2": None,
    "hypot": None,
}.items():
    add_binary(_name, getattr(np, _name), lambda *shape: uniform(0.6, 1.9, *shape))
    if _operator:
        add(_name, _operator, uniform(0.5, 2, 2, 3), uniform(0.5, 2, 3))
        add(_name, _operator, 2.5, uniform(0.5, 2, 3))
        add(_name, _operator, uniform(0.5, 2, 3), 3)
add("power", np.power, normal(4), 3)  # whole powers of negative numbers
add("power", np.power, spread(4), -2)
add("power", operator.pow, spread(4), 1)
add("power", operator.pow, spread(4), 0)
add("power", np.power, spread(3), np.array([0, 1, 3]))
add("power", np.power, uniform(0.5, 2, 3), np.array([0.0, 1.0, 2.0]))
add("arctan2", np.arctan2, np.array([1.0, -1.0, 2.0, -0.5]), np.array([-1.0, 2.0, 0.7, -2.0]))
add("maximum", np.maximum, spread(5), 0)
add("ratio", table["ratio"], spread(2, 3), spread(3))
add("keep", table["keep"], spread(2, 3), spread(2, 3) > 0)
add("minimum", np.minimum, 0.0, spread(5))
add("maximum", np.maximum, spread(2, 3), spread(3) + 0.4)
_condition = np.array([[True, False, True], [False, False, True]])
add("where", np.where, _condition, normal(2, 3), normal(3))
add("where", np.where, _condition, normal(1, 3), 0.0)
add("where", np.where, _condition, 1, normal(2, 1))
add("where", np.where, np.array(True), normal(), normal(2))
add("where", np.where, np.zeros((0, 3), bool), normal(3), normal())
add("select", np.select, [_condition, ~_condition], [normal(2, 3), normal(3)], 7.0)
add("select", np.select, [_condition], [normal(3)])
add("clip", np.clip, spread(2, 3), -1, 1.5)
add("clip", np.clip, spread(5), None, 1)
add("clip", np.clip, spread(5), a_min=-1, a_max=None)
add("clip", np.clip, spread(2, 3) + 0.4, np.array([-2.0, 0.0, -1.0]), np.array([1.0, 2.0, 3.0]))
add("clip", np.clip, spread(4), 2.0, -2.0)  # NumPy: the upper bound wins

# Reductions.
for _name, _make in {
    "sum": normal,
    "mean": normal,
    "prod": normal,
    "max": spread,
    "min": spread,
    "var": normal,
    "std": normal,
    "logsumexp": normal,
}.items():
    _function = getattr(np, _name, None) or getattr(ops, _name)
    add(_name, _function, _make())
    add(_name, _function, _make(2, 3))
    for _axis in (0, -1, (0, 2), (-1, 1), (0, 1, 2)):
        add(_name, _function, _make(2, 3, 2), axis=_axis)
    add(_name, _function, _make(2, 3), axis=1, keepdims=True)
    add(_name, _function, _make(2, 3), keepdims=True)
    add(_name, _function, _make(2, 1, 3), axis=1)
    add(_name, _function, _make(0, 3), axis=1)  # an empty result
    if _name in ("sum", "prod"):
        add(_name, _function, _make(0, 3))
        add(_name, _function, _make(2, 0), axis=1)
        add(_name, _function, _make(2, 3), axis=())
    if _name in ("std", "var"):
        # one element has no variance, where std has a kink
        SAMPLES[_name] = [s for s in SAMPLES[_name] if s.args[0].shape not in ((), (2, 1, 3))]
        add(_name, _function, _make(4, 3), axis=0, ddof=1)
        add(_name, _function, _make(2, 3), axis=None, ddof=1, keepdims=True)
for _zeros in (1, 2, 4):  # factors that are zero
    _factors = normal(4)
    _factors[:_zeros] = 0
    add("prod", np.prod, _factors)
    add("prod", np.prod, np.stack([_factors, normal(4)]), axis=1)
for _name, _ufunc in {"add": np.add, "multiply": np.multiply}.items():
    add(f"{_name}.reduce", _ufunc.reduce, normal(2, 3))  # along axis 0, unlike np.sum
    add(f"{_name}.reduce", _ufunc.reduce, normal(2, 3), axis=None)
    add(f"{_name}.reduce", _ufunc.reduce, normal(2, 3), axis=-1, keepdims=True)
for _name, _ufunc in {"maximum": np.maximum, "minimum": np.minimum}.items():
    add(f"{_name}.reduce", _ufunc.reduce, spread(2, 3))
    add(f"{_name}.reduce", _ufunc.reduce, spread(2, 3), axis=1)
add("cumsum", np.cumsum, normal(2, 3))
add("cumsum", np.cumsum, normal(2, 3), axis=0)
add("cumsum", np.cumsum, normal(2, 3, 2), axis=-2)
add("cumsum", np.cumsum, normal(0, 3), axis=0)
for _name in ("softmax", "log_softmax"):
    add(_name, getattr(ops, _name), normal(4))
    add(_name, getattr(ops, _name), normal(2, 3))
    add(_name, getattr(ops, _name), normal(2, 3, 2), axis=0)
    add(_name, getattr(ops, _name), normal(2, 3, 2), axis=-2)
    add(_name, getattr(ops, _name), normal(0, 3))
add("norm", np.linalg.norm, normal(3))
add("norm", np.linalg.norm, normal(2, 3))
add("norm", np.linalg.norm, normal(2, 3), axis=1)
add("norm", np.linalg.norm, normal(2, 3), axis=-1, keepdims=True)
add("norm", np.linalg.norm, normal(2, 3, 2), axis=(0, 2))
add("norm", np.linalg.norm, normal(2, 3), "fro")
add("norm", np.linalg.norm, normal(3), 2)
add("norm", np.linalg.norm, spread(2, 3), 1, axis=0)
add("norm", np.linalg.norm, spread(2, 3), np.inf, axis=1)
add("sum_to", ops.sum_to, normal(4, 2, 3), (2, 1))
add("sum_to", ops.sum_to, normal(2, 3), ())
for _name, _rest in {"sort": (), "partition": (1,)}.items():
    add(_name, getattr(np, _name), spread(4), *_rest)
    add(_name, getattr(np, _name), spread(3, 4), *_rest, axis=0)
    add(_name, getattr(np, _name), spread(3, 4), *_rest, axis=None)

# Shapes and joins.
add("reshape", np.reshape, normal(2, 3), (3, -1))
add("reshape", np.reshape, normal(2, 3), 6)
add("reshape", np.reshape, normal(), (1, 1))
add("reshape", np.reshape, normal(0, 3), (3, 0))
add("reshape", lambda x: x.reshape(3, 2), normal(2, 3))
add("ravel", np.ravel, normal(2, 3))
add("ravel", np.ravel, normal())
add("ravel", lambda x: x.flatten(), normal(2, 3))
add("transpose", np.transpose, normal(2, 3, 2))
add("transpose", np.transpose, normal(2, 3, 4), (2, 0, 1))
add("transpose", np.transpose, normal(2, 3, 4), axes=(-1, 0, 1))
add("transpose", np.transpose, normal())
add("transpose", lambda x: x.transpose(1, 0), normal(2, 3))
add("transpose", lambda x: x.T, normal(2, 3))
add("transpose", lambda x: x.mT, normal(2, 3, 4))
add("swapaxes", np.swapaxes, normal(2, 3, 4), 0, -1)
add("moveaxis", np.moveaxis, normal(2, 3, 4), 0, -1)
add("moveaxis", np.moveaxis, normal(2, 3, 4), (0, 1), (-1, 0))
add("expand_dims", np.expand_dims, normal(2, 3), 1)
add("expand_dims", np.expand_dims, normal(2), (0, -1))
add("expand_dims", lambda x: x[None, :, None], normal(2))
add("squeeze", np.squeeze, normal(1, 2, 1))
add("squeeze", np.squeeze, normal(1, 2, 1), axis=-1)
add("squeeze", np.squeeze, normal(1, 2, 1), axis=(0, 2))
add("broadcast_to", np.broadcast_to, normal(3), (2, 3))
add("broadcast_to", np.broadcast_to, normal(2, 1), (4, 2, 3))
add("broadcast_to", np.broadcast_to, normal(), 2)
add("broadcast_to", np.broadcast_to, normal(1), (0,))
add("astype", lambda x: shape_ops.astype(x, np.longdouble), normal(3))
for _name in ("atleast_1d", "atleast_2d", "atleast_3d"):
    for _shape in ((), (2,), (2, 3), (2, 1, 3)):
        add(_name, getattr(np, _name), normal(*_shape))
add("concatenate", np.concatenate, [normal(2, 3), normal(1, 3)])
add("concatenate", np.concatenate, [normal(2, 3), normal(2, 1), normal(2, 0)], axis=-1)
add("concatenate", np.concatenate, (normal(2, 3), normal(2)), axis=None)
add("concatenate", np.concatenate, [normal(2), [1.0, 2.0]])
add("stack", np.stack, [normal(2, 3), normal(2, 3)])
add("stack", np.stack, [normal(2, 3), normal(2, 3)], axis=-1)
add("stack", np.stack, [normal(), 2.0])
add("vstack", np.vstack, [normal(3), normal(2, 3)])
add("hstack", np.hstack, [normal(3), normal(2)])
add("hstack", np.hstack, [normal(2, 3), normal(2, 1)])
add("split", np.split, normal(4, 3), 2)
add("split", np.split, normal(2, 5), [1, 3], axis=-1)
add("array_split", np.array_split, normal(5, 2), 3)
add("array_split", np.array_split, normal(2, 2), 3, axis=1)
add("repeat", np.repeat, normal(2, 3), 2)
add("repeat", np.repeat, normal(2, 3), 2, axis=1)
add("repeat", np.repeat, normal(2, 3), [0, 2], axis=0)
add("tile", np.tile, normal(2, 3), 2)
add("tile", np.tile, normal(2), (2, 2))
add("tile", np.tile, normal(2, 1, 2), (3, 1))
add("pad", np.pad, normal(2, 3), 1)
add("pad", np.pad, normal(2, 3), ((1, 0), (2, 1)), constant_values=3.0)
add("pad", np.pad, normal(3), (1, 2))
for _axis in (None, 0, (0, -1)):
    add("flip", np.flip, normal(2, 3), axis=_axis)
add("fliplr", np.fliplr, normal(2, 3))
add("flipud", np.flipud, normal(2, 3))
add("roll", np.roll, normal(2, 3), 2)
add("roll", np.roll, normal(2, 3), -1, axis=1)
add("roll", np.roll, normal(2, 3), (1, 2), axis=(0, 1))
for _turns in (0, 1, 2, -1):
    add("rot90", np.rot90, normal(2, 3), _turns)
add("rot90", np.rot90, normal(2, 3, 2), axes=(2, 1))
for _offset in (0, 1, -1, 5):
    add("diagonal", np.diagonal, normal(3, 4), _offset)
    add("trace", np.trace, normal(3, 4), _offset)
add("diagonal", np.diagonal, normal(2, 3, 4), axis1=-1, axis2=0)
add("trace", np.trace, normal(2, 3, 3), axis1=1, axis2=2)
for _k in (0, 1, -2):
    add("diag", np.diag, normal(3), _k)
    add("diag", np.diag, normal(3, 4), _k)
    add("tril", np.tril, normal(3, 4), _k)
    add("triu", np.triu, normal(2, 3, 3), _k)

# Indexing.
_x = (3, 4, 2)
for _index in (
    1,
    -1,
    slice(None, None, -2),
    (0, 1, 1),
    (Ellipsis, 0),
    (slice(1, None), None, 2),
    slice(3, None),  # empty
    [0, 2, 2],  # an element taken twice
    np.array([[0, 1], [1, 1]]),
    np.array([], int),
    (np.array([0, 2, 0]), np.array([1, 3, 1])),
    (slice(None), np.array([0, 0, 3])),
    (np.array([0, 1]), slice(None), np.array([1, 1])),  # split by a slice: axes move to the front
    (np.array([[0], [2]]), np.array([0, 3, 3])),  # broadcast against each other
    (0, slice(None), np.array([1, 0, 1])),
    np.arange(24).reshape(_x) % 3 == 0,
    np.array([True, False, True]),
    (slice(None), np.array([True, False, True, True])),
    (np.array([True, True, False]), 1),
    True,
    np.zeros(_x, bool),
):
    add("getitem", operator.getitem, normal(*_x), _index)
add("getitem", operator.getitem, normal(), ())
add("getitem", operator.getitem, normal(), None)


add("scatter_add", shape_ops.scatter_add, normal(4), np.array([0, 2, 2, 0]), (3,))
add("scatter_add", shape_ops.scatter_add, normal(2, 3), slice(1, 3), (4, 3))
add("scatter_add", shape_ops.scatter_add, normal(), 2, (3,))
add("take", np.take, normal(2, 3), np.array([[0, 5], [5, 1]]))
add("take", np.take, normal(2, 3), [2, 0, 2], axis=1)
add("take", np.take, normal(2, 3), 1, axis=-1)
add("take_along_axis", np.take_along_axis, normal(2, 3), np.array([[2, 0], [1, 1]]), axis=1)
add("take_along_axis", np.take_along_axis, normal(2, 3), np.array([[1]]), axis=-1)
add("take_along_axis", np.take_along_axis, normal(2, 3), np.array([5, 0, 5]), axis=None)

# Products.
for _a, _b in [
    ((2, 3), (3, 4)),
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 1)),
    ((2, 1, 2, 3), (4, 3, 2)),
    ((3,), (2, 3, 2)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 2)),
]:
    add("matmul", np.matmul, normal(*_a), normal(*_b))
    add("matmul", operator.matmul, normal(*_a), normal(*_b))
add("matmul", operator.matmul, normal(2, 2), [[1.0, 2.0], [3.0, 4.0]])
for _a, _b in [
    ((2, 3), (3, 4)),
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((), (2, 3)),
    ((2, 2, 3), (2, 3, 2)),
    ((3,), (2, 3, 2)),
]:
    add("dot", np.dot, normal(*_a), normal(*_b))
for _a, _b in [((3,), (3,)), ((2, 3), (4, 3)), ((2,), ()), ((2, 1, 3), (2, 3))]:
    add("inner", np.inner, normal(*_a), normal(*_b))
add("outer", np.outer, normal(2), normal(3))
add("outer", np.outer, normal(2, 2), normal())
add("vdot", np.vdot, normal(2, 3), normal(3, 2))
add("tensordot", np.tensordot, normal(2, 3, 4), normal(3, 4, 2))
add("tensordot", np.tensordot, normal(2, 3), normal(3, 2), axes=1)
add("tensordot", np.tensordot, normal(2), normal(3), axes=0)
add("tensordot", np.tensordot, normal(2, 3, 4), normal(4, 3, 2), axes=([1, -1], [1, 0]))
add("tensordot", np.tensordot, normal(2, 3), normal(3, 2), axes=(1, 0))
for _subscripts, *_shapes in [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ba,cb", (2, 3), (4, 2)),  # implicit results are in alphabetical order
    ("i,i->", (3,), (3,)),
    ("i,j->ij", (2,), (3,)),
    ("ij->ji", (2, 3)),
    ("ij->", (2, 3)),
    ("ij->j", (2, 3)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->j", (3, 3, 2)),
    ("iii->i", (2, 2, 2)),
    ("ijij->ij", (2, 3, 2, 3)),
    ("ii,ij->j", (3, 3), (3, 2)),
    ("...ij,...jk->...ik", (2, 2, 3), (3, 4)),
    ("...ij,...jk", (2, 2, 3), (1, 3, 2)),
    ("...i->...", (2, 3, 2)),
    ("i...,i...", (2, 3), (2,)),
    ("i...j->j...", (2, 3, 2)),
    ("...ii->...i", (2, 3, 3)),
    ("ij,jk,kl->il", (2, 3), (3, 2), (2, 4)),
    ("ij,ij,ij->i", (2, 3), (2, 3), (2, 3)),
    ("ij,k->ik", (2, 3), (2,)),  # j is in one operand alone
    ("i,i->i", (3,), (1,)),  # size 1 broadcasts
    ("i,i->", (3,), (1,)),
    ("ij,ij->j", (1, 3), (2, 1)),
    (",i->i", (), (3,)),
    ("->", ()),
    ("ij,jk->ik", (0, 3), (3, 2)),
    ("ij,jk->ik", (2, 0), (0, 2)),
]:
    add("einsum", np.einsum, _subscripts, *[normal(*s) for s in _shapes])
add("kron", np.kron, normal(2), normal(3))
add("kron", np.kron, normal(2, 2), normal(3, 1))
add("kron", np.kron, normal(2), normal(2, 3))
add("cross", np.cross, normal(3), normal(3))
add("cross", np.cross, normal(2, 3), normal(3))
add("cross", np.cross, normal(3, 2), normal(3, 2), axis=0)

# Functions of matrices.
for _shape in ((1, 1), (3, 3), (2, 3, 3), (0, 2, 2)):
    add("inv", np.linalg.inv, well_conditioned(*_shape))
    add("det", np.linalg.det, well_conditioned(*_shape))
    add("slogdet", np.linalg.slogdet, well_conditioned(*_shape))
    # Cholesky reads one triangle of a symmetric matrix: the product is symmetric by itself.
    add(
        "cholesky",
        lambda a: np.linalg.cholesky(a @ np.swapaxes(a, -1, -2)),
        well_conditioned(*_shape),
    )
add("det", np.linalg.det, -well_conditioned(3, 3))
add("slogdet", np.linalg.slogdet, -well_conditioned(3, 3))
add("solve", np.linalg.solve, well_conditioned(3, 3), normal(3))
add("solve", np.linalg.solve, well_conditioned(3, 3), normal(3, 2))
add("solve", np.linalg.solve, well_conditioned(2, 3, 3), normal(2, 3, 1))
add("solve", np.linalg.solve, well_conditioned(3, 3), normal(4, 3, 2))
add("solve", np.linalg.solve, well_conditioned(2, 3, 3), normal(3, 2))
add("solve", np.linalg.solve, well_conditioned(2, 3, 3), normal(3))

# Layers. Leading axes broadcast: of the images, of the weights, of both, none.
for _x, _weight, _options in [
    ((2, 4, 5, 2), (3, 3, 2, 3), {}),
    ((2, 4, 5, 2), (3, 3, 2, 3), {"stride": 2}),
    ((1, 5, 4, 2), (3, 3, 2, 1), {"padding": "valid"}),
    ((1, 6, 5, 1), (3, 3, 1, 2), {"padding": "valid", "stride": 2}),
    ((1, 5, 5, 1), (2, 3, 1, 2), {"stride": 2}),  # an even and an odd kernel
    ((1, 5, 4, 2), (1, 1, 2, 2), {"stride": 2}),  # a stride that skips pixels
    ((1, 7, 6, 1), (2, 2, 1, 1), {"stride": 3}),
    ((1, 2, 2, 1), (3, 3, 1, 2), {}),  # an image smaller than the kernel
    ((2, 1, 4, 3, 1), (2, 3, 3, 1, 2), {"stride": 2}),
    ((2, 3, 3, 1), (2, 3, 3, 1, 2), {}),
    ((2, 1, 3, 3, 1), (3, 3, 1, 2), {"stride": 2}),
    ((2, 1, 1, 3, 3, 1), (3, 2, 2, 1, 1), {}),
    ((0, 4, 4, 1), (3, 3, 1, 2), {}),
]:
    add("conv2d", ops.conv2d, normal(*_x), normal(*_weight), **_options)
    add("conv2d", ops.conv2d, normal(*_x), normal(*_weight), normal(_weight[-1]), **_options)
add("conv2d", ops.conv2d, normal(1, 3, 3, 1), normal(3, 3, 1, 2), normal(2, 2))
add("conv2d", ops.conv2d, normal(2, 1, 3, 3, 1), normal(2, 3, 3, 1, 2), normal(2, 2))
_same, _valid = ((1, 1), (1, 1)), ((0, 0), (0, 0))
for _stride, _padding, _out in ((1, _same, (4, 5)), (2, _same, (2, 3)), (2, _valid, (1, 2))):
    _options = {"image": (4, 5), "kernel": (3, 3), "stride": _stride, "padding": _padding}
    for _name in ("conv2d", "conv2d_plain"):
        add(
            f"{_name}_input_grad",
            table[f"{_name}_input_grad"],
            *(normal(2, 1, *_out, 2), normal(3, 3, 1, 2)),
            **_options,
        )
        add(
            f"{_name}_weight_grad",
            table[f"{_name}_weight_grad"],
            *(normal(1, 4, 5, 1), normal(2, 1, *_out, 2)),
            **_options,
        )
add("conv2d_plain", ops.conv.conv2d, normal(2, 4, 5, 2), normal(3, 3, 2, 3), normal(3), stride=2)
for _shape, _size in (((2, 4, 6, 2), 2), ((1, 5, 3, 2), 2), ((2, 1, 3, 7, 1), 3)):
    add("max_pool2d", ops.max_pool2d, spread(*_shape), _size)
    add("mean_pool2d", ops.mean_pool2d, normal(*_shape), _size)


def pool_scatter(g, index, shape):
    return table["max_pool2d_scatter"](g, index, image=shape, size=2)


def pool_gather(x, index):
    return table["max_pool2d_gather"](x, index, image=x.shape[-3:-1], size=2)


def moments_of(h, x, **options):
    """What batch norm finds out of x on its way, for the leading axes of h."""
    one = np.ones_like(raw(h), shape=(*h.shape[: -options["core"]], h.shape[-1]))
    return table["batch_norm"].forward(raw(x), one, 0 * one, **options)[1]


def batch_norm_sums(h, x, **options):
    return table["batch_norm_sums"](h, x, moments_of(h, x, **options), **options)


def batch_norm_grad(h, x, gamma, **options):
    sums, moments = batch_norm_sums(h, x, **options), moments_of(h, x, **options)
    return table["batch_norm_grad"](h, x, gamma, sums, moments, **options)


def batch_norm_second(u, h, x, gamma, **options):
    sums, moments = batch_norm_sums(h, x, **options), moments_of(h, x, **options)
    products = table["batch_norm_products"](u, h, x, sums, moments, **options)
    return table["batch_norm_second"](u, h, x, gamma, products, sums, moments, **options)


_index = np.array([0, 3, 2, 1, 1, 0], np.uint8).reshape(1, 2, 3, 1)
add("max_pool2d_scatter", pool_scatter, normal(1, 2, 3, 1), _index, (4, 7))
add("max_pool2d_gather", pool_gather, normal(1, 4, 7, 1), _index)
for _x, _gamma in [
    ((5, 2), (2,)),
    ((3, 4, 2), (3, 2)),
    ((3, 4, 2), (2,)),
    ((2, 3, 2, 2), (2,)),
    ((2, 2, 3, 2, 2), (2, 2)),
    ((2, 2, 1, 2), (3, 2)),
]:
    _channels = normal(*_gamma), normal(*_gamma)
    add("batch_norm", ops.batch_norm, normal(*_x), *_channels)
    _core, _lead = (4 if len(_x) >= 4 else 2), _gamma[:-1]
    _options = {"eps": 1e-3, "core": _core}
    _g = normal(*_lead, *_x[len(_x) - _core :]) if _lead else normal(*_x)
    add("batch_norm_grad", batch_norm_grad, _g, normal(*_x), _channels[0], **_options)
    add("batch_norm_sums", batch_norm_sums, _g, normal(*_x), **_options)
    _all = (_g, _g[::-1], normal(*_x), _channels[0])
    add("batch_norm_second", batch_norm_second, *_all, differentiable=False, **_options)
add("batch_norm", ops.batch_norm, normal(4, 2), normal(2), normal(2), eps=0.1)
_labels = np.array([0, 2, 2, 1])
add("cross_entropy", ops.cross_entropy, normal(4, 3), _labels)
add("cross_entropy", ops.cross_entropy, normal(2, 4, 3), np.array([_labels, _labels[::-1]]))
add("cross_entropy", ops.cross_entropy, 50 * spread(4, 3), _labels)
add("mse", ops.mse, normal(4, 1), normal(4, 1))
add("mse", ops.mse, normal(3, 4, 2), normal(3, 4, 2))
add("mse", ops.mse, normal(3, 1, 4, 2), normal(5, 4, 2))
for _x, _weight, _bias in [
    ((4, 2), (2, 3), (3,)),
    ((2, 4, 2), (2, 2, 3), (2, 3)),
    ((4, 2), (5, 2, 3), (3,)),
    ((4, 2), (2, 3), (5, 3)),
    ((1, 4, 2), (2, 3), (3, 3)),
    ((0, 2), (2, 3), (3,)),
]:
    add("linear", table["linear"], normal(*_x), normal(*_weight), normal(*_bias))
add("sum_rows", table["sum_rows"], normal(4, 3))
add("sum_rows", table["sum_rows"], normal(2, 4, 3))
add("sum_rows", table["sum_rows"], normal(2, 0, 3))
add("descend", ops.descend, normal(2, 3), normal(2, 3), 0.1)
add("descend", ops.descend, normal(3), normal(3), uniform(0.1, 1))

# Values without a derivative.
_a, _b = np.array([[1.0, -2.0, 3.0], [0.0, np.inf, 5.0]]), np.array([1.0, 2.0, np.nan])
for _name, _operator in {
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
}.items():
    add(_name, getattr(np, _name), _a, _b, differentiable=False)
    add(_name, _operator, _a, 1, differentiable=False)
for _name in "isfinite isnan isinf signbit".split():
    add(_name, getattr(np, _name), _b, differentiable=False)
_yes, _no = np.array([True, False, True]), np.array([[False, False, True]])
for _name in "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor".split():
    add(_name, getattr(np, _name), _yes, _no, differentiable=False)
for _name in "and_ or_ xor".split():
    add(f"bitwise_{_name.strip('_')}", getattr(operator, _name), _yes, _no, differentiable=False)
for _name in "logical_not invert".split():
    add(_name, getattr(np, _name), _yes, differentiable=False)
add("invert", operator.invert, _yes, differentiable=False)
for _name in "any all".split():
    add(_name, getattr(np, _name), _no, differentiable=False)
    add(_name, getattr(np, _name), _no, axis=0, keepdims=True, differentiable=False)
for _name, _ufunc in {"logical_or": np.logical_or, "logical_and": np.logical_and}.items():
    add(f"{_name}.reduce", _ufunc.reduce, np.array([_yes, ~_yes]), differentiable=False)
for _name in "argmax argmin".split():
    add(_name, getattr(np, _name), spread(2, 3), differentiable=False)
    add(_name, getattr(np, _name), spread(2, 3), axis=0, differentiable=False)
    add(_name, getattr(np, _name), spread(2, 3), axis=-1, keepdims=True, differentiable=False)
    add(_name, getattr(np, _name), spread(2, 3), keepdims=True, differentiable=False)
add("as_integers", lambda x: x.astype(int), spread(2, 3), differentiable=False)
add("argsort", np.argsort, spread(2, 3), differentiable=False)
add("argsort", np.argsort, spread(2, 3), axis=0, differentiable=False)
add("argpartition", np.argpartition, spread(5), 2, differentiable=False)
add("one_hot", table["one_hot"], np.array([[2, 0], [1, 2]]), classes=3, differentiable=False)
for _name in "shape ndim size zeros_like ones_like".split():
    add(_name, getattr(np, _name), normal(2, 3), differentiable=False)
add("size", np.size, normal(2, 3), 1, differentiable=False)
add("zeros_like", np.zeros_like, normal(2), dtype=int, differentiable=False)
add("empty_like", lambda x: np.empty_like(x).shape, normal(2, 3), differentiable=False)
add("full_like", np.full_like, normal(2, 3), 7.0, differentiable=False)
add("array_equal", np.array_equal, _a, _a, differentiable=False)
add("allclose", np.allclose, _b, _b, equal_nan=True, differentiable=False)
