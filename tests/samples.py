"""Sample inputs for every row of the derivative table and every NumPy function tensors take.

``SAMPLES[name]`` lists calls of one function. Its float arrays are the inputs to differentiate;
integer and boolean arrays are indices and masks. Values lie inside the function's domain and well
away from its kinks, so that finite differences hold; kinks have tests of their own.
"""

import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from tinymaml import ops
from tinymaml.engine import backend
from tinymaml.engine.op import table
from tinymaml.engine.ops import shape as shape_ops
from tinymaml.engine.structure import leaves, map_leaves
from tinymaml.engine.tensor import raw

#: The derivative table as the package makes it, before any test adds ops of its own.
TABLE = dict(table)

#: Functions that give vectors up to a sign, which is for the library to choose.
UP_TO_SIGNS = {"eigh", "svd"}


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


def beside(x, array):
    """Return an array where x lives, so that the two may meet in a call."""
    return array if isinstance(x, np.ndarray) else backend.asarray(array)


def long_double():
    if backend.get_backend() != "numpy":
        pytest.skip("no GPU has long doubles")
    return np.longdouble


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
for _name in "relu elu sigmoid softplus gelu".split():
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
add("astype", lambda x: shape_ops.astype(x, long_double()), normal(3))
for _name in ("atleast_1d", "atleast_2d", "atleast_3d"):
    for _shape in ((), (2,), (2, 3), (2, 1, 3)):
        add(_name, getattr(np, _name), normal(*_shape))
add("concatenate", np.concatenate, [normal(2, 3), normal(1, 3)])
add("concatenate", np.concatenate, [normal(2, 3), normal(2, 1), normal(2, 0)], axis=-1)
add("concatenate", np.concatenate, (normal(2, 3), normal(2)), axis=None)
add("concatenate", np.concatenate, [normal(2), [1.0, 2.0]])
add("concatenate", np.concatenate, [normal(2), np.array([1, 2])], dtype=float)
add("stack", np.stack, [normal(2), normal(2)], dtype=float)
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
add("pad", np.pad, normal(2, 3), 1, constant_values=np.array([[1.0, 2.0], [3.0, 4.0]]))
add("pad", np.pad, normal(2, 3), (2, 1), mode="linear_ramp", end_values=(5.0, -4.0))
for _mode in "maximum minimum mean median".split():
    add("pad", np.pad, spread(3, 2), ((2, 1), (0, 1)), mode=_mode)
    add("pad", np.pad, spread(4), 1, mode=_mode, stat_length=(2, 3))
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
add("take", np.take, normal(2, 3), [7, -8, 2], axis=1, mode="wrap")
add("take", np.take, normal(2, 3), [7, -8, 2], axis=1, mode="clip")
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
    add(
        "cholesky",
        lambda a: np.linalg.cholesky(a @ np.swapaxes(a, -1, -2), upper=True),
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


def _used(u, *rest, k):
    """Of the vectors of a decomposition those that have a derivative: not what completes them."""
    return u[..., :k], *rest[:-1], rest[-1][..., :k, :]


for _shape in ((3, 3), (2, 4, 2), (2, 4)):
    _tall = normal(*_shape)
    add("svd", lambda a: np.linalg.svd(a, full_matrices=False), _tall)
    add("svd", np.linalg.svd, _tall, compute_uv=False)
    add("svdvals", np.linalg.svdvals, _tall)
    add("pinv", np.linalg.pinv, _tall)
    add("qr", np.linalg.qr, _tall)
    add("qr", np.linalg.qr, _tall, mode="r")
    _k = min(_shape[-2:])
    add("svd", lambda a, k=_k: _used(*np.linalg.svd(a), k=k), _tall)
    add("qr", lambda a, k=_k: _used(*np.linalg.qr(a, "complete"), k=k), _tall)
    add("cond", np.linalg.cond, _tall)
    for _ord in (None, "fro", "nuc", 2, -2, 1, -1, np.inf, -np.inf):
        _axis = {"axis": (0, 2)} if len(_shape) == 3 else {}
        add("norm", np.linalg.norm, _tall, _ord, **_axis)
    add("norm", np.linalg.norm, normal(3, 2, 4), 2, axis=(2, 0), keepdims=True)
    add("matrix_norm", np.linalg.matrix_norm, _tall)
    add("matrix_norm", np.linalg.matrix_norm, _tall, ord="nuc", keepdims=True)
add("svd", np.linalg.svd, normal(3, 3))
add("pinv", np.linalg.pinv, normal(4, 3), 1e-10)
add("cond", np.linalg.cond, well_conditioned(3, 3), 1)
add("cond", np.linalg.cond, well_conditioned(3, 3), -2)
for _shape in ((3, 3), (2, 2, 2)):
    add("eigh", np.linalg.eigh, normal(*_shape))
    add("eigh", np.linalg.eigh, normal(*_shape), UPLO="U")
    add("eigvalsh", np.linalg.eigvalsh, normal(*_shape))
add("lstsq", lambda a, b: np.linalg.lstsq(a, b)[:2], normal(4, 2), normal(4))
add("lstsq", lambda a, b: np.linalg.lstsq(a, b)[:2], normal(4, 2), normal(4, 3))
add("lstsq", lambda a, b: np.linalg.lstsq(a, b)[::3], normal(2, 4), normal(2))
add("tensorsolve", np.linalg.tensorsolve, normal(2, 3, 6), normal(2, 3))
add("tensorsolve", np.linalg.tensorsolve, normal(2, 6, 3), normal(2, 3), axes=(1,))
add("tensorinv", np.linalg.tensorinv, normal(2, 3, 6))
add("apart", table["apart"], spread(3), np.array([1, 0, 0]), what="eigenvalues")
add("unused", table["unused"], np.zeros((2, 1)), shape=(3, 2), differentiable=False)
add("tensorinv", np.linalg.tensorinv, normal(6, 2, 3), ind=1)
for _n in (0, 1, 2, 3, 5, -2):
    add("matrix_power", np.linalg.matrix_power, well_conditioned(2, 2), _n)
add("multi_dot", np.linalg.multi_dot, [normal(2, 3), normal(3, 2), normal(2, 4)])
add("multi_dot", np.linalg.multi_dot, [normal(3), normal(3, 2), normal(2)])
for _ord in (0, 1, 2, 3, 0.5, -1, np.inf, -np.inf):
    add("vector_norm", np.linalg.vector_norm, spread(2, 3), ord=_ord)
    add("norm", np.linalg.norm, spread(2, 3), _ord, axis=1)
    add("norm", np.linalg.norm, spread(3), _ord)
add("vector_norm", np.linalg.vector_norm, normal(2, 3, 2), axis=(0, 2), keepdims=True)
add("vecdot", np.vecdot, normal(2, 3), normal(3))
add("vecdot", np.linalg.vecdot, normal(3, 2), normal(3, 2), axis=0)
if hasattr(np, "matvec"):  # NumPy 2.2
    add("matvec", np.matvec, normal(2, 2, 3), normal(3))
    add("vecmat", np.vecmat, normal(2), normal(2, 3))
for _module in (np, np.linalg):
    add("matrix_transpose", _module.matrix_transpose, normal(2, 3, 4))
add("matmul", np.linalg.matmul, normal(2, 3), normal(3, 2))
add("tensordot", np.linalg.tensordot, normal(2, 3), normal(3, 2), axes=1)
add("outer", np.linalg.outer, normal(2), normal(3))
add("cross", np.linalg.cross, normal(3, 2), normal(3, 2), axis=0)
add("cross", np.cross, normal(3, 2), normal(2, 3), axisa=0, axisc=0)
add("linalg.diagonal", np.linalg.diagonal, normal(2, 3, 4), offset=1)
add("linalg.trace", np.linalg.trace, normal(2, 3, 4), offset=-1)
add("einsum", lambda a, b: np.einsum(a, [0, 1], b, [1, 2], [0, 2]), normal(2, 3), normal(3, 2))
add("einsum", lambda a, b: np.einsum(a, [..., 1], b, [1, 0]), normal(2, 3), normal(3, 2))

# Rarer ufuncs, and the methods of all.
for _name in "remainder fmod floor_divide divmod float_power logaddexp2 fmax fmin".split():
    add(_name, getattr(np, _name), uniform(2, 3, 2, 3), uniform(0.6, 0.9, 3))
    add(_name, getattr(np, _name), uniform(0.6, 0.9, 2), 2.5)
for _name, _operator in {"remainder": operator.mod, "floor_divide": operator.floordiv}.items():
    add(_name, _operator, spread(4), 0.71)
    add(_name, _operator, 7.3, spread(4))
add("divmod", divmod, spread(4), 0.71)
add("divmod", divmod, 7.3, spread(4))
add("fmod", np.fmod, spread(4), -0.71)
_nan = np.array([np.nan, 0.0])
for _function in (np.fmax, np.fmin):
    add(_function.__name__, lambda x, f=_function, m=_nan: f(x, beside(x, m)), spread(2))
add("heaviside", np.heaviside, spread(3), uniform(0, 1, 3))
add("heaviside", np.heaviside, np.array([0, -1, 1]), uniform(0, 1, 3))
add("copysign", np.copysign, spread(4), spread(4))
add("ldexp", np.ldexp, normal(3), np.array([1, -2, 0]))
for _name in "deg2rad radians rad2deg degrees fabs modf frexp real imag conjugate fix".split():
    add_unary(_name, getattr(np, _name), spread)
add("angle", np.angle, spread(4), deg=True)
add("real_if_close", np.real_if_close, spread(3))
add("sinc", np.sinc, spread(2, 3))
add("i0", np.i0, spread(2, 3))
add("i0", np.i0, np.array([0.0, 1e-5, 30.0, -8.5]))
add("sinc", np.sinc, np.array([0.0, 0.01, -0.015]))
add("nan_to_num", np.nan_to_num, spread(3))
_odd = np.array([1.0, np.nan, np.inf, -np.inf])
add(
    "nan_to_num",
    lambda x: np.nan_to_num(x + beside(x, _odd), nan=1.0, posinf=2.0, neginf=3.0),
    spread(4),
)
add("unwrap", np.unwrap, 3 * spread(6))
add("cumprod", np.cumprod, normal(2, 3))
add("cumprod", np.cumprod, np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 1.0]]), axis=1)
for _ufunc in (np.hypot, np.subtract, np.logaddexp):
    add("accumulate", _ufunc.accumulate, uniform(0.5, 2, 3, 2))
    add("reduce", _ufunc.reduce, uniform(0.5, 2, 3, 2), axis=-1)
    add("reduce", _ufunc.reduce, uniform(0.5, 2, 3, 2), axis=0, keepdims=True)
    add("reduceat", _ufunc.reduceat, uniform(0.5, 2, 5), [0, 3, 1])
    add("outer", _ufunc.outer, uniform(0.5, 2, 2), uniform(0.5, 2, 2, 1))
add("add.accumulate", np.add.accumulate, normal(3, 2))
add("maximum.accumulate", np.maximum.accumulate, spread(4))
add("less.outer", np.less.outer, spread(2), spread(3), differentiable=False)
add("add", lambda a, b: np.add(a, b, dtype=long_double()), normal(2), normal(2))

# Options of reductions.
_there = np.array([[True, False, True], [True, True, False]])
for _name in "sum prod mean var std".split():
    add(_name, getattr(np, _name), uniform(0.5, 2, 2, 3), where=_there)
    add(_name, getattr(np, _name), uniform(0.5, 2, 2, 3), where=[True, False, True])
    add(_name, getattr(np, _name), uniform(0.5, 2, 2, 3), axis=1, keepdims=True, where=_there)
for _name in "sum prod max min".split():
    add(_name, getattr(np, _name), spread(2, 3), axis=0, initial=0.2)
add("max", np.max, np.zeros((0, 3)), axis=0, initial=-9.0)
add("min", np.min, np.zeros((2, 0)), initial=7.0)
add("max", np.max, spread(2, 3), axis=1, initial=-9.0, where=_there)
add("sum", np.sum, np.arange(3), dtype=float, differentiable=False)
add("sum", lambda x: x.sum(1, initial=3.0, where=beside(x, _there)), normal(2, 3))
add("var", np.var, normal(4), correction=1)
add("var", np.var, normal(4), mean=np.array([0.5]))
add("add.reduce", np.add.reduce, normal(2, 3), 0, where=_there)
for _name in "cumulative_sum cumulative_prod".split() if hasattr(np, "unstack") else ():
    add(_name, getattr(np, _name), normal(3))
    add(_name, getattr(np, _name), normal(2, 3), axis=1, include_initial=True)
add("sort", np.sort, spread(4), stable=True)

# Statistics and numerics.
add("average", np.average, normal(2, 3), axis=1)
add("average", np.average, normal(2, 3), weights=uniform(0.5, 1, 2, 3))
add("average", np.average, normal(2, 3), 0, weights=uniform(0.5, 1, 2), returned=True)
add("amax", np.amax, spread(2, 3), axis=1)
add("amin", np.amin, spread(2, 3), axis=1)
add("ptp", np.ptp, spread(2, 3), axis=1)
for _name in "median nanmedian".split():
    add(_name, getattr(np, _name), spread(5))
    add(_name, getattr(np, _name), spread(2, 4), axis=1, keepdims=True)
    add(_name, getattr(np, _name), spread(2, 3, 2), axis=(0, 2))
for _method in "linear lower higher midpoint nearest inverted_cdf hazen weibull".split():
    add("quantile", np.quantile, spread(7), 0.3, method=_method)
add("quantile", np.quantile, spread(2, 3), (0.1, 0.5, 1.0), axis=1)
add("quantile", np.quantile, spread(2, 3), [0.1, 0.5], keepdims=True)
add("nanquantile", np.nanquantile, spread(2, 3), (0.1, 0.5), axis=1)
for _name in "percentile nanpercentile".split():
    add(_name, getattr(np, _name), spread(2, 3), 30, axis=0)
_nan = np.array([[1.5, np.nan, 2.0], [np.nan, -3.0, 1.0]])
for (
    _name
) in "nansum nanprod nanmean nanvar nanstd nanmax nanmin nanmedian nancumsum nancumprod".split():
    _function = getattr(np, _name)
    add(_name, _function, spread(2, 3), axis=1)
    add(_name, lambda x, f=_function, m=_nan: f(x + beside(x, 0 * m), axis=1), spread(2, 3))
add("cov", np.cov, normal(2, 4))
add("cov", np.cov, normal(4), normal(4), bias=True)
add("cov", np.cov, normal(4, 2), rowvar=False, ddof=0)
add("cov", np.cov, normal(2, 4), fweights=np.array([1, 2, 1, 3]), aweights=uniform(0.5, 1, 4))
add("corrcoef", np.corrcoef, normal(2, 4))
add("bincount", np.bincount, np.array([0, 2, 2]), normal(3))
add("bincount", np.bincount, np.array([0, 2, 2]), weights=normal(3), minlength=5)
add("diff", np.diff, normal(2, 4))
add("diff", np.diff, normal(4, 2), 2, axis=0)
add("diff", np.diff, normal(4), prepend=1.0, append=normal(2))
add("ediff1d", np.ediff1d, normal(2, 3))
add("ediff1d", np.ediff1d, normal(3), to_end=normal(2), to_begin=0.5)
add("trapezoid", np.trapezoid, normal(2, 4))
add("trapezoid", np.trapezoid, normal(4, 2), normal(4), axis=0)
add("trapezoid", np.trapezoid, normal(2, 4), normal(2, 4))
add("trapezoid", np.trapezoid, normal(4), dx=0.5)
add("gradient", np.gradient, normal(3, 4))
add("gradient", np.gradient, normal(5), 0.5, edge_order=2)
add("gradient", np.gradient, normal(5), np.cumsum(uniform(0.5, 1, 5)), edge_order=2)
add("gradient", np.gradient, normal(3, 4), 0.5, np.cumsum(uniform(0.5, 1, 4)))
add("gradient", np.gradient, normal(3, 4), axis=1)
_places = np.array([-1.0, 0.5, 2.0, 3.5])
add("interp", np.interp, uniform(0, 3, 4), _places, normal(4))
add("interp", np.interp, np.array([-2.0, 0.7, 9.0]), _places, normal(4))
add("interp", np.interp, np.array([-2.0, 0.7, 9.0]), _places, normal(4), left=0.5, right=1.5)
add("interp", np.interp, uniform(0, 5, 4), np.array([0.3, 1.5, 2.2]), normal(3), period=3.0)
for _mode in "full same valid".split():
    for _m, _n in ((4, 2), (2, 4), (3, 5), (3, 3), (5, 3)):
        add("convolve", np.convolve, normal(_m), normal(_n), _mode)
        add("correlate", np.correlate, normal(_m), normal(_n), _mode)
add("polyval", np.polyval, normal(3), normal(2, 2))
add("polyval", np.polyval, [1.0, 2.0], normal(2))
for _name in "polyadd polysub polymul".split():
    add(_name, getattr(np, _name), normal(3), normal(2))
add("polyder", np.polyder, normal(4))
add("polyder", np.polyder, normal(4), m=2)
add("polyint", np.polyint, normal(3))
add("polyint", np.polyint, normal(3), m=2, k=[1.0, 2.0])
add("vander", np.vander, normal(3))
add("vander", np.vander, normal(3), 2, increasing=True)
add("polyfit", np.polyfit, spread(5), normal(5), 2)
add("linspace", np.linspace, normal(), normal(), 4)
add("linspace", np.linspace, normal(2), 3.0, num=3, endpoint=False, retstep=True)
add("linspace", np.linspace, normal(2), normal(2), 3, axis=1)
add("logspace", np.logspace, normal(), normal(), 3)
add("geomspace", np.geomspace, uniform(1, 2), uniform(3, 4), 4)

# Rarer joins and moves.
add("append", np.append, normal(2, 2), normal(1, 2), axis=0)
add("append", np.append, normal(2, 2), 3.0)
for _name, _axis in {"hsplit": 1, "vsplit": 0, "dsplit": 2}.items():
    add(_name, getattr(np, _name), normal(2, 2, 2), 2)
add("hsplit", np.hsplit, normal(4), [1, 3])
add("column_stack", np.column_stack, [normal(3), normal(3, 2)])
add("dstack", np.dstack, [normal(3), normal(3)])
add("dstack", np.dstack, [normal(2, 3), normal(2, 3, 2)])
add("block", np.block, [[normal(2, 2), normal(2, 1)], [normal(1, 2), 5.0]])
add("block", np.block, [normal(2), normal(3)])
if hasattr(np, "unstack"):  # NumPy 2.1
    add("unstack", np.unstack, normal(2, 3), axis=1)
add("broadcast_arrays", np.broadcast_arrays, normal(2, 1), normal(3))
for _options in ({}, {"indexing": "ij"}, {"sparse": True}):
    add("meshgrid", np.meshgrid, normal(2), normal(3), normal(1), **_options)
add("diagflat", np.diagflat, normal(2, 2), 1)
add("delete", np.delete, normal(3, 2), 1, axis=0)
add("delete", np.delete, normal(5), [0, 3])
add("insert", np.insert, normal(3), 1, normal())
add("insert", np.insert, normal(3, 2), 1, normal(2), axis=0)
add("insert", np.insert, normal(3, 2), [0, 2], normal(2, 2), axis=0)
add("insert", np.insert, normal(3), [1, 1], normal(2))
add("resize", np.resize, normal(2, 2), (3, 2))
add("rollaxis", np.rollaxis, normal(2, 3, 4), 2)
add("compress", np.compress, [True, False, True], normal(3, 2), axis=0)
add("compress", lambda x: x.compress([True, False], axis=0), normal(2, 2))
add("extract", np.extract, np.array([[True, False], [True, True]]), normal(2, 2))
add("trim_zeros", lambda x: np.trim_zeros(np.pad(x, 2)), normal(3))
add("trim_zeros", lambda x: np.trim_zeros(np.pad(x, 2), "b"), normal(3))
add("choose", np.choose, [1, 0, 1], [normal(3), normal(3)])
add("choose", np.choose, np.array([1, 0, 1]), [normal(3), normal()])
add("piecewise", lambda x: np.piecewise(x, [x < 0, x >= 1], [np.sin, 2.0, np.cos]), spread(5))
add("apply_along_axis", lambda x: np.apply_along_axis(np.cumsum, 0, x), normal(3, 2))
add("apply_along_axis", lambda x: np.apply_along_axis(np.outer, 1, x, x[0]), normal(2, 2))
add("apply_over_axes", lambda x: np.apply_over_axes(np.sum, x, [0, 2]), normal(2, 3, 2))
add("copy", np.copy, normal(2))
add("astype", lambda x: np.astype(x, long_double()), normal(3))
add("full_like", lambda x: np.full_like(x, x.sum()), normal(2, 3))
add("where", lambda x: x[np.where(x > 0)], spread(5))
for _mode in "edge reflect symmetric wrap".split():
    add("pad", np.pad, normal(3, 3), ((1, 2), (0, 1)), mode=_mode)
add("reshape", np.reshape, normal(2, 3), (3, 2), order="F")
add("nanmean", np.nanmean, normal(2, 3), axis=1, where=_there)
for _order in "AK":
    add("ravel", np.ravel, normal(2, 3), order=_order)
    add("ravel", lambda x, o=_order: np.ravel(x.T, order=o), normal(2, 3))
add("ravel", np.ravel, normal(2, 3), order="F")

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
for _x, _weight, _options in [
    ((2, 2, 3, 3), (2, 2, 2, 3), {"stride": 2}),
    ((2, 3, 2, 1), (3, 3, 2, 1), {}),
    ((1, 2, 2, 2), (3, 2, 1, 2), {"stride": 2, "padding": "valid"}),
    ((2, 1, 2, 1, 1), (2, 2, 2, 1, 1), {"stride": 3}),  # a weight for each task
    ((1, 2, 2, 1), (2, 2, 2, 1, 1), {}),
]:
    add("conv2d_transpose", ops.conv2d_transpose, normal(*_x), normal(*_weight), **_options)
    _bias = normal(*_weight[:-4], _weight[-2])
    add("conv2d_transpose", ops.conv2d_transpose, normal(*_x), normal(*_weight), _bias, **_options)
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

# The memory of a memory module, which is no function of what it is told but of what is near.
_known = np.array([[-1, 0, 1, 0], [-1, 1, 1, 0]])
_queries = normal(2, 4, 3)
_options = {"slots": 3, "differentiable": False}
add("memory_contrast", table["memory_contrast"], _queries, _known, np.abs(_known), **_options)
add("memory_answers", table["memory_answers"], _queries, _known, classes=2, **_options)
add(
    "memory_recall",
    table["memory_recall"],
    normal(2, 5, 3),
    _queries,
    _known,
    classes=2,
    **_options,
)
