"""Rows that move elements without changing them: shapes, joins, indexing and its adjoint."""

import itertools

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..backend import array_module, to_numpy
from ..numpy_rules import implements, numpy_functions
from ..op import as_arrays, op
from ..structure import map_leaves
from ..tensor import Tensor, raw, thread
from .elementwise import where

# Rearrangements. Their derivative is the inverse rearrangement.
_reshape = op(
    lambda x, shape: x.reshape(shape),
    "x",
    lambda g, x_like: _reshape(g, shape=x_like.shape),
    name="reshape",
)
_transpose = op(
    np.transpose, "x", lambda g, axes: _transpose(g, axes=tuple(np.argsort(axes).tolist()))
)


def _broadcast_forward(x, *, shape):
    new = len(shape) - x.ndim
    if type(x) is not np.ndarray or not x.flags.forc or shape[new:] != x.shape:
        return np.broadcast_to(x, shape)
    y = np.ndarray(shape, x.dtype, x, 0, (0,) * new + x.strides)  # six times as fast
    y.setflags(False)
    return y


_broadcast_forward.plain = np.broadcast_to  # what a program says, which makes the view but once

# The engine sums a cotangent down to the shape of the argument, which is this op's derivative.
_broadcast_to = op(_broadcast_forward, "x", lambda g: g, name="broadcast_to")
_astype = op(lambda x, dtype: x.astype(dtype), "x", lambda g: g, name="astype")
_as_integers = op(lambda x, dtype: x.astype(dtype), "x", None, name="as_integers")
_pad = op(
    lambda x, widths, value: np.pad(x, widths, constant_values=value),
    "x",
    lambda g, x_like, widths: getitem(
        g, tuple([slice(before, before + n) for (before, _), n in zip(widths, x_like.shape)])
    ),
    name="pad",
)
copy = op(lambda x: x.copy(), "x", lambda g: g, name="copy")
tril = op(np.tril, "x", lambda g, k: tril(g, k))
triu = op(np.triu, "x", lambda g, k: triu(g, k))


def _concatenate_vjp(needed, g, arrays_like, axis):
    """The slice of g that each argument went to."""
    ends = list(itertools.accumulate([a.shape[axis] for a in arrays_like]))
    before = (slice(None),) * (axis % g.ndim)
    return [
        getitem(g, (*before, slice(start, end))) if wanted else None
        for wanted, start, end in zip(needed, [0, *ends], ends)
    ]


_concatenate = op(
    lambda *arrays, axis: np.concatenate(arrays, axis),
    "*arrays",
    joint=_concatenate_vjp,
    name="concatenate",
)


#: What an index may hold beside arrays; a string is NumPy's to refuse.
BASIC = (int, slice, type(None), type(Ellipsis), np.generic, float, str)


# Indexing and its adjoint, which adds each element back to where it was taken from. The arrays of
# an index are arguments of the op; ``places`` says where in the index they go.
def _whole(index, places, arrays):
    """Return an index with its arrays in their places."""
    filled = dict(zip(places, arrays))
    return tuple([filled.get(i, part) for i, part in enumerate(index)]) if places else index


def _scatter_add_forward(x, *arrays, index, shape, places=()):
    x = np.asarray(x) if isinstance(x, np.generic) else x  # NumPy makes scalars of 0-d results
    z = np.zeros(shape, x.dtype, like=x)
    if places:  # an element may be taken more than once
        array_module(z).add.at(z, _whole(index, places, arrays), x)
    else:
        z[index] = x
    return z


_getitem = op(
    lambda x, *arrays, index, places=(): x[_whole(index, places, arrays)],
    "x *arrays",
    lambda g, x_like, arrays, **how: _scatter_add(g, *arrays, shape=x_like.shape, **how),
    name="getitem",
)
_scatter_add = op(
    _scatter_add_forward,
    "x *arrays",
    lambda g, arrays, index, places: _getitem(g, *arrays, index=index, places=places),
    name="scatter_add",
)


def _apart(index):
    """Return the arrays of an index, and what is left of it as options of an op."""
    parts = index if isinstance(index, tuple) else (index,)
    places = tuple([i for i, part in enumerate(parts) if not isinstance(part, BASIC)])
    if not places:
        return [], {"index": index}
    rest = tuple([None if i in places else part for i, part in enumerate(parts)])
    return [_kept(parts[i]) for i in places], {"index": rest, "places": places}


def _kept(array):
    """Return an index array that stays as it is when the user changes the one given."""
    if isinstance(array, (list, tuple)):
        array = np.asarray(array)
        return array if array.size else array.astype(int)  # an empty list's would be float
    return array.copy() if hasattr(array, "copy") else array


def getitem(x, index):
    """NumPy's basic, advanced and boolean indexing; index arrays may be tensors."""
    if isinstance(index, BASIC):
        return _getitem(x, index=index)
    arrays, options = _apart(index)
    return _getitem(x, *arrays, **options)


def scatter_add(x, index, shape):
    """Add the elements of x to zeros of a shape, at the places that an index picks there."""
    arrays, options = _apart(index)
    return _scatter_add(x, *arrays, shape=shape, **options)


def _take_along_axis_vjp(g, x_like, indices, axis):
    axis %= x_like.ndim
    grids = []
    for i, n in enumerate(x_like.shape):
        grid = [1] * x_like.ndim
        grid[i] = n
        grids.append(np.arange(n, like=raw(indices)).reshape(grid))
    grids[axis] = indices
    return scatter_add(g, tuple(grids), x_like.shape)


_take_along_axis = op(np.take_along_axis, "x indices", _take_along_axis_vjp, None)


def reshape(x, *shape, order="C"):
    """Reshape, given a tuple or separate lengths, one of which may be -1."""
    if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)):
        shape = shape[0]
    shape = tuple(shape)
    if order in ("A", "K") and raw(x).flags.forc:
        order = "F" if raw(x).flags.fnc else "C"
    if order == "F":
        return transpose(reshape(transpose(x), shape[::-1]))
    if order != "C":
        raise ValueError(f"this tensor is read in order 'C' or 'F', given {order!r}")
    return x if shape == x.shape else _reshape(x, shape=shape)


def ravel(x, order="C"):
    """Flatten to one axis."""
    return reshape(x, -1, order=order)


# Where NumPy says what becomes of a shape, or of the order of axes, it is asked: about an array
# of that shape without memory, or one without elements whose axis i has length i.
def _reshaped(x, function, *args):
    return reshape(x, function(np.broadcast_to(0, x.shape), *args).shape)


def _axes(x):
    return np.empty(tuple(range(x.ndim)))


def transpose(x, *axes):
    """Permute the axes, given as a tuple or one by one; reverse them by default."""
    return _transpose(x, axes=_axes(x).transpose(*axes).shape)


def swapaxes(x, axis1, axis2):
    """Exchange two axes."""
    return _transpose(x, axes=_axes(x).swapaxes(axis1, axis2).shape)


def moveaxis(x, source, destination):
    """Move axes to new positions; the others keep their order."""
    return _transpose(x, axes=np.moveaxis(_axes(x), source, destination).shape)


def expand_dims(x, axis):
    """Insert axes of length 1."""
    return _reshaped(x, np.expand_dims, axis)


def squeeze(x, axis=None):
    """Drop axes of length 1, all of them by default."""
    return _reshaped(x, np.squeeze, axis)


def atleast_1d(x):
    """View with at least one axis."""
    return _reshaped(x, np.atleast_1d)


def atleast_2d(x):
    """View with at least two axes; a vector becomes a row."""
    return _reshaped(x, np.atleast_2d)


def atleast_3d(x):
    """View with at least three axes, added as NumPy does."""
    return _reshaped(x, np.atleast_3d)


def _of_each(function):
    """Give one result for one array, and as NumPy does a tuple for several."""

    def of_each(*arrays):
        results = tuple([function(x) for x in as_arrays(arrays)])
        return results[0] if len(arrays) == 1 else results

    return of_each


def broadcast_to(x, shape):
    """Broadcast to a shape, as a read-only view."""
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    return x if shape == x.shape else _broadcast_to(x, shape=shape)


def same_dtype(*arrays):
    """Convert to the dtype that NumPy would compute in; arrays of one dtype are left alone."""
    first = arrays[0].dtype
    if all(a.dtype == first for a in arrays):
        return arrays
    dtype = np.result_type(*[a.dtype for a in arrays])
    return [astype(a, dtype) for a in arrays]


def astype(x, dtype, *, copy=True):
    """Convert to another dtype; the gradient is converted back."""
    dtype = np.dtype(dtype)
    if dtype == x.dtype:
        return x
    return (_astype if dtype.kind in "fc" else _as_integers)(x, dtype=dtype)


def concatenate(arrays, axis=0, *, dtype=None):
    """Join along an existing axis; of the flattened arrays for ``axis=None``."""
    arrays = as_arrays(arrays)
    if dtype is not None:
        arrays = [astype(a, dtype) for a in arrays]
    if axis is None:
        arrays, axis = [ravel(a) for a in arrays], 0
    return _concatenate(*arrays, axis=axis)


def stack(arrays, axis=0, *, dtype=None):
    """Join along a new axis."""
    return concatenate([expand_dims(a, axis) for a in as_arrays(arrays)], axis, dtype=dtype)


def vstack(arrays, *, dtype=None):
    """Stack rows."""
    return concatenate([atleast_2d(a) for a in as_arrays(arrays)], 0, dtype=dtype)


def hstack(arrays, *, dtype=None):
    """Stack along the second axis, or the only one."""
    arrays = [atleast_1d(a) for a in as_arrays(arrays)]
    return concatenate(arrays, 0 if arrays[0].ndim == 1 else 1, dtype=dtype)


def _parts(x, function, sections, axis):
    parts = function(np.arange(x.shape[axis]), sections)
    slices = [slice(int(p[0]), int(p[-1]) + 1) if p.size else slice(0) for p in parts]
    before = (slice(None),) * normalize_axis_index(axis, x.ndim)
    return [getitem(x, (*before, part)) for part in slices]


def array_split(x, sections, axis=0):
    """Split into a list of tensors, of nearly equal lengths if they cannot be equal."""
    return _parts(x, np.array_split, sections, axis)


def split(x, sections, axis=0):
    """Split into equal parts, or at given positions; a list of tensors."""
    return _parts(x, np.split, sections, axis)


def _moved(x, function, *args, **options):
    """Return what a function of NumPy's makes of x by taking its elements, which places tell."""
    args, options = map_leaves(
        lambda a: to_numpy(raw(a)) if hasattr(a, "dtype") else a, (args, options)
    )
    return getitem(ravel(x), function(np.arange(x.size).reshape(x.shape), *args, **options))


def _moving(name):
    """Return a function of NumPy's that takes elements of its first argument."""
    function = getattr(np, name)

    def moving(x, *args, **options):
        return _moved(x, function, *args, **options)

    moving.__name__, moving.__doc__ = name, f"As NumPy's ``{name}``."
    return moving


repeat, tile, roll, rot90, diagonal = map(_moving, "repeat tile roll rot90 diagonal".split())


def diag(x, k=0):
    """The k-th diagonal of a matrix, or the matrix with a vector on it."""
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag takes a vector or a matrix, but the tensor has shape {x.shape}")
    n = x.size + abs(k)
    return scatter_add(x, np.nonzero(np.eye(n, k=k)), (n, n))


def trace(x, offset=0, axis1=0, axis2=1):
    """The sum of a diagonal."""
    return diagonal(x, offset, axis1, axis2).sum(axis=-1)


def pad_widths(x, pad_width):
    """Return NumPy's ``pad_width`` as a pair for each axis."""
    if isinstance(pad_width, dict):
        pad_width = [pad_width.get(i, pad_width.get(i - x.ndim, 0)) for i in range(x.ndim)]
        pad_width = [(w, w) if isinstance(w, int) else w for w in pad_width]
    return np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()


def pad(x, pad_width, mode="constant", constant_values=0, reflect_type="even"):
    """Pad with a constant number, or with elements taken from the array."""
    widths = pad_widths(x, pad_width)
    if mode in ("edge", "reflect", "symmetric", "wrap") and reflect_type == "even":
        return _moved(x, np.pad, widths, mode)
    if mode != "constant":
        raise TypeError(
            f"np.pad on a tensor does not take mode={mode!r} with reflect_type={reflect_type!r}"
        )
    return _pad(x, widths=tuple(map(tuple, widths)), value=constant_values)


def flip(x, axis=None):
    """Reverse the order along axes, along all by default."""
    axes = range(x.ndim) if axis is None else normalize_axis_tuple(axis, x.ndim)
    return getitem(x, tuple([slice(None, None, -1 if i in axes else 1) for i in range(x.ndim)]))


def take_along_axis(x, indices, axis=-1):
    """Take elements along an axis by an index array of the same number of axes."""
    if axis is None:
        x, axis = ravel(x), 0
    return _take_along_axis(x, _kept(indices), axis=axis)


def take(x, indices, axis=None, mode="raise"):
    """Take elements along an axis, of the flattened array by default."""
    if axis is None:
        x, axis = ravel(x), 0
    if mode != "raise":
        last, indices = x.shape[axis] - 1, np.asarray(raw(indices), like=raw(x))
        indices = np.clip(indices, 0, last) if mode == "clip" else indices % (last + 1)
    return getitem(x, (*[slice(None)] * normalize_axis_index(axis, x.ndim), indices))


def select(condlist, choicelist, default=0):
    """For each element the choice of the first condition that holds."""
    result = default
    for condition, choice in reversed(list(zip(condlist, choicelist))):
        result = where(condition, choice, result)
    return result


def where_or_nonzero(condition, *choices):
    """Choose by a condition; without choices the places where it holds, as arrays."""
    if not choices:
        return np.nonzero(raw(condition))
    return where(condition, *choices)


# Values that do not depend on the elements, or carry no derivative.
zeros_like = op(np.zeros_like, "x", None)
ones_like = op(np.ones_like, "x", None)
empty_like = op(np.empty_like, "x", None)


def full_like(x, fill_value, dtype=None, shape=None):
    """Array like another, full of a value, which is differentiated."""
    if type(fill_value) is not Tensor:
        return Tensor(np.full_like(raw(x), fill_value, dtype=dtype, shape=shape))
    value = astype(fill_value, x.dtype if dtype is None else dtype)
    return broadcast_to(value, x.shape if shape is None else shape)


def array_equal(a, b, equal_nan=False):
    """Whether shapes and all elements are equal."""
    thread.state.refuse_value("what np.array_equal gives")
    return bool(np.array_equal(raw(a), raw(b), equal_nan=equal_nan))


def allclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Whether all elements are equal within a tolerance."""
    thread.state.refuse_value("what np.allclose gives")
    return bool(np.allclose(raw(a), raw(b), rtol=rtol, atol=atol, equal_nan=equal_nan))


implements(np, ravel, swapaxes, moveaxis, expand_dims, squeeze, broadcast_to, concatenate, stack)
implements(np, vstack, hstack, array_split, split, repeat, tile, pad, flip, roll)
implements(np, rot90, diagonal, diag, trace, tril, triu, take_along_axis, take, select)
implements(np, astype, copy)
implements(np, zeros_like, ones_like, empty_like, full_like, array_equal, allclose)
for _function in (atleast_1d, atleast_2d, atleast_3d):
    numpy_functions[getattr(np, _function.__name__)] = _of_each(_function)
numpy_functions |= {
    np.where: where_or_nonzero,
    np.reshape: lambda x, shape, order="C", *, copy=None: reshape(x, shape, order=order),
    np.transpose: lambda x, axes=None: transpose(x, axes),
    np.fliplr: lambda x: flip(x, 1),
    np.flipud: lambda x: flip(x, 0),
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x, axis=None: np.size(raw(x), axis),
}
