"""Rows that move elements without changing them: shapes, joins, indexing and its adjoint."""

import builtins
import itertools

import numpy as np

from ..backend import array_module
from ..tensor import Tensor, as_arrays, implements, op, raw
from .elementwise import where

# Rearrangements. Their derivative is the inverse rearrangement.
_reshape = op(
    lambda x, *, shape: x.reshape(shape),
    lambda g, _y, _x, shape: _reshape(g, shape=_x.shape),
    name="reshape",
)
_transpose = op(
    lambda x, *, axes: x.transpose(axes),
    lambda g, _y, _x, axes: _transpose(g, axes=tuple([axes.index(i) for i in range(len(axes))])),
    name="transpose",
)
# The engine sums a cotangent down to the shape of the argument, which is this op's derivative.
_broadcast_to = op(
    lambda x, *, shape: np.broadcast_to(x, shape), lambda g, _y, _x, shape: g, name="broadcast_to"
)
_astype = op(lambda x, *, dtype: x.astype(dtype), lambda g, _y, _x, dtype: g, name="astype")
_roll = op(
    lambda x, *, shift, axis: np.roll(x, shift, axis),
    lambda g, _y, _x, shift, axis: _roll(g, shift=_negated(shift), axis=axis),
    name="roll",
)
_pad = op(
    lambda x, *, widths, value: np.pad(x, widths, constant_values=value),
    lambda g, _y, _x, widths, value: getitem(
        g, tuple([slice(before, before + n) for (before, _), n in zip(widths, _x.shape)])
    ),
    name="pad",
)


def _concatenate_vjp(needed, g, _y, *_args, axis):
    """The slice of g that each argument went to."""
    ends = list(itertools.accumulate([a.shape[axis] for a in _args]))
    before = (slice(None),) * (axis % g.ndim)
    return [
        getitem(g, (*before, slice(start, end))) if wanted else None
        for wanted, start, end in zip(needed, [0, *ends], ends)
    ]


_concatenate = op(
    lambda *arrays, axis: np.concatenate(arrays, axis), joint=_concatenate_vjp, name="concatenate"
)

# Indexing and its adjoint, which adds each element back to where it was taken from.
_getitem = op(
    lambda x, *, index: x[index],
    lambda g, _y, _x, index: _scatter_add(g, index=index, shape=_x.shape),
    name="getitem",
)


def _scatter_add_forward(x, *, index, shape):
    if isinstance(x, np.generic):  # NumPy makes scalars of 0-d results
        x = np.asarray(x)
    z = np.zeros(shape, x.dtype, like=x)
    if _is_basic(index):
        z[index] = x
    else:  # an element may be taken more than once
        array_module(z).add.at(z, index, x)
    return z


_scatter_add = op(
    _scatter_add_forward,
    lambda g, _y, _x, index, shape: _getitem(g, index=index),
    name="scatter_add",
)
_take_along_axis = op(
    lambda x, *, indices, axis: np.take_along_axis(x, indices, axis),
    lambda g, _y, _x, indices, axis: _scatter_add(
        g, index=_along_axis(indices, axis, _x.shape), shape=_x.shape
    ),
    name="take_along_axis",
)


def _along_axis(indices, axis, shape):
    """Return the index that picks what ``take_along_axis`` does."""
    axis %= len(shape)
    grids = []
    for i, n in enumerate(shape):
        grid = [1] * len(shape)
        grid[i] = n
        grids.append(indices if i == axis else np.arange(n, like=indices).reshape(grid))
    return tuple(grids)


def _is_basic(index):
    """Whether an index has no arrays, so that it takes no element twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return builtins.all(
        part is None
        or part is Ellipsis
        or (isinstance(part, (int, np.integer, slice)) and not isinstance(part, bool))
        for part in parts
    )


def _negated(shift):
    return tuple([-s for s in shift]) if isinstance(shift, (tuple, list)) else -shift


def _normal_axis(axis, ndim):
    if not -ndim <= axis < ndim:
        raise (
            np.exceptions.AxisError(axis, ndim)
            if hasattr(np, "exceptions")
            else ValueError(f"axis {axis} is out of bounds for a tensor of {ndim} dimensions")
        )
    return axis % ndim


def _normal_axes(axes, ndim):
    axes = axes if isinstance(axes, (tuple, list, range)) else (axes,)
    axes = [_normal_axis(a, ndim) for a in axes]
    if len(set(axes)) < len(axes):
        raise ValueError(f"repeated axis among {axes}; give each one once")
    return axes


@implements(np.reshape)
def _np_reshape(x, shape):
    return reshape(x, shape)


def reshape(x, *shape):
    """Reshape, given a tuple or separate lengths, one of which may be -1."""
    if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)):
        shape = shape[0]
    shape = tuple(shape)
    return x if shape == x.shape else _reshape(x, shape=shape)


@implements(np.ravel)
def ravel(x):
    """Flatten to one axis."""
    return reshape(x, -1)


@implements(np.transpose)
def _np_transpose(x, axes=None):
    return transpose(x, axes)


def transpose(x, *axes):
    """Permute the axes, given as a tuple or one by one; reverse them by default."""
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))):
        axes = axes[0]
    axes = tuple(_normal_axes(axes, x.ndim)) if axes else tuple(range(x.ndim))[::-1]
    return _transpose(x, axes=axes)


@implements(np.swapaxes)
def swapaxes(x, axis1, axis2):
    """Exchange two axes."""
    axis1, axis2 = _normal_axis(axis1, x.ndim), _normal_axis(axis2, x.ndim)
    axes = list(range(x.ndim))
    axes[axis1], axes[axis2] = axis2, axis1
    return _transpose(x, axes=tuple(axes))


@implements(np.moveaxis)
def moveaxis(x, source, destination):
    """Move axes to new positions; the others keep their order."""
    source, destination = _normal_axes(source, x.ndim), _normal_axes(destination, x.ndim)
    if len(source) != len(destination):
        raise ValueError(f"moveaxis: {len(source)} axes to move but {len(destination)} places")
    axes = [a for a in range(x.ndim) if a not in source]
    for to, a in sorted(zip(destination, source)):
        axes.insert(to, a)
    return _transpose(x, axes=tuple(axes))


@implements(np.expand_dims)
def expand_dims(x, axis):
    """Insert axes of length 1."""
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = _normal_axes(axes, x.ndim + len(axes))
    lengths = iter(x.shape)
    ndim = x.ndim + len(axes)
    return reshape(x, tuple([1 if i in axes else next(lengths) for i in range(ndim)]))


@implements(np.squeeze)
def squeeze(x, axis=None):
    """Drop axes of length 1, all of them by default."""
    axes = (
        [i for i, n in enumerate(x.shape) if n == 1] if axis is None else _normal_axes(axis, x.ndim)
    )
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(f"cannot squeeze axis {a} of shape {x.shape}: its length is not 1")
    return reshape(x, tuple([n for i, n in enumerate(x.shape) if i not in axes]))


@implements(np.broadcast_to)
def broadcast_to(x, shape):
    """Broadcast to a shape, as a read-only view."""
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    return x if shape == x.shape else _broadcast_to(x, shape=shape)


def same_dtype(*arrays):
    """Convert to the dtype that NumPy would compute in; arrays of one dtype are left alone."""
    first = arrays[0].dtype
    if builtins.all(a.dtype == first for a in arrays):
        return arrays
    dtype = np.result_type(*[a.dtype for a in arrays])
    return [astype(a, dtype) for a in arrays]


def astype(x, dtype):
    """Convert to another dtype; the gradient is converted back."""
    dtype = np.dtype(dtype)
    if dtype == x.dtype:
        return x
    if dtype.kind != "f":  # integers and booleans carry no gradient
        return Tensor(raw(x).astype(dtype)) if type(x) is Tensor else x.astype(dtype)
    return _astype(x, dtype=dtype)


def _of_each(function):
    """Give one result for one array, and as NumPy does a tuple (NumPy 1: a list) for several."""
    several = type(np.atleast_1d(0, 0))

    def of_each(*arrays):
        results = several([function(x) for x in as_arrays(arrays)])
        return results[0] if len(arrays) == 1 else results

    return of_each


def atleast_1d(x):
    """View with at least one axis."""
    return reshape(x, 1) if x.ndim == 0 else x


def atleast_2d(x):
    """View with at least two axes; a vector becomes a row."""
    return x if x.ndim > 1 else reshape(x, 1, -1)


def atleast_3d(x):
    """View with at least three axes, added as NumPy does."""
    return expand_dims(x, -1) if x.ndim == 2 else x if x.ndim > 2 else reshape(x, 1, -1, 1)


for _function in (atleast_1d, atleast_2d, atleast_3d):
    implements(getattr(np, _function.__name__))(_of_each(_function))


@implements(np.concatenate)
def concatenate(arrays, axis=0):
    """Join along an existing axis; of the flattened arrays for ``axis=None``."""
    arrays = as_arrays(arrays)
    if axis is None:
        arrays, axis = [ravel(a) for a in arrays], 0
    return _concatenate(*arrays, axis=axis)


@implements(np.stack)
def stack(arrays, axis=0):
    """Join along a new axis."""
    arrays = as_arrays(arrays)
    return concatenate([expand_dims(a, axis) for a in arrays], axis)


@implements(np.vstack)
def vstack(arrays):
    """Stack rows."""
    return concatenate([atleast_2d(a) for a in as_arrays(arrays)], 0)


@implements(np.hstack)
def hstack(arrays):
    """Stack along the second axis, or the only one."""
    arrays = [atleast_1d(a) for a in as_arrays(arrays)]
    return concatenate(arrays, 0 if arrays[0].ndim == 1 else 1)


@implements(np.array_split)
def array_split(x, sections, axis=0):
    """Split into a list of tensors, of nearly equal lengths if they cannot be equal."""
    n = x.shape[axis]
    if isinstance(sections, (int, np.integer)):
        short, longer = divmod(n, sections)
        lengths = [short + 1] * longer + [short] * (sections - longer)
        sections = list(itertools.accumulate(lengths))[:-1]
    bounds = [None, *sections, None]
    index = (slice(None),) * _normal_axis(axis, x.ndim)
    return [getitem(x, (*index, slice(a, b))) for a, b in itertools.pairwise(bounds)]


@implements(np.split)
def split(x, sections, axis=0):
    """Split into equal parts, or at given positions; a list of tensors."""
    if isinstance(sections, (int, np.integer)) and x.shape[axis] % sections:
        raise ValueError(
            f"cannot split axis {axis} of length {x.shape[axis]} in {sections} equally"
        )
    return array_split(x, sections, axis)


@implements(np.repeat)
def repeat(x, repeats, axis=None):
    """Repeat every element along an axis, of the flattened array by default."""
    if axis is None:
        x, axis = ravel(x), 0
    picked = np.repeat(np.arange(x.shape[_normal_axis(axis, x.ndim)]), np.asarray(repeats))
    return take(x, picked, axis)


@implements(np.tile)
def tile(x, reps):
    """Lay copies beside each other."""
    reps = (reps,) if isinstance(reps, (int, np.integer)) else tuple(reps)
    shape = (1,) * (len(reps) - x.ndim) + x.shape
    reps = (1,) * (len(shape) - len(reps)) + reps
    pairs = [1 if i % 2 == 0 else shape[i // 2] for i in range(2 * len(shape))]
    copies = [m for pair in zip(reps, shape) for m in pair]
    return reshape(
        broadcast_to(reshape(x, pairs), copies), tuple([r * n for r, n in zip(reps, shape)])
    )


@implements(np.pad)
def pad(x, pad_width, mode="constant", constant_values=0):
    """Pad with a constant number; NumPy's other modes have no derivative here."""
    if mode != "constant" or not isinstance(constant_values, (int, float)):
        raise TypeError("np.pad on a tensor pads with one constant number; leave mode out")
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    return _pad(x, widths=tuple([tuple(w) for w in widths]), value=constant_values)


@implements(np.flip)
def flip(x, axis=None):
    """Reverse the order along axes, along all by default."""
    axes = range(x.ndim) if axis is None else _normal_axes(axis, x.ndim)
    return getitem(x, tuple([slice(None, None, -1 if i in axes else 1) for i in range(x.ndim)]))


@implements(np.fliplr)
def fliplr(x):
    """Reverse along axis 1."""
    return flip(x, 1)


@implements(np.flipud)
def flipud(x):
    """Reverse along axis 0."""
    return flip(x, 0)


@implements(np.roll)
def roll(x, shift, axis=None):
    """Roll elements along axes, over the flattened array by default."""
    return _roll(x, shift=shift, axis=axis)


@implements(np.rot90)
def rot90(x, k=1, axes=(0, 1)):
    """Rotate by k quarter turns in the plane of two axes."""
    first, second = axes
    for _ in range(k % 4):
        x = swapaxes(flip(x, second), first, second)
    return x


@implements(np.diagonal)
def diagonal(x, offset=0, axis1=0, axis2=1):
    """The diagonal in the plane of two axes, moved to the last axis."""
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    rows, columns = x.shape[-2:]
    n = builtins.max(
        0, builtins.min(rows + builtins.min(offset, 0), columns - builtins.max(offset, 0))
    )
    i = np.arange(n)
    return getitem(x, (Ellipsis, i - builtins.min(offset, 0), i + builtins.max(offset, 0)))


@implements(np.diag)
def diag(x, k=0):
    """The k-th diagonal of a matrix, or the matrix with a vector on it."""
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag takes a vector or a matrix, but the tensor has shape {x.shape}")
    i = np.arange(x.shape[0])
    n = x.shape[0] + abs(k)
    index = (i + builtins.max(-k, 0), i + builtins.max(k, 0))
    return _scatter_add(x, index=index, shape=(n, n))


@implements(np.trace)
def trace(x, offset=0, axis1=0, axis2=1):
    """The sum of a diagonal."""
    on_it = diagonal(x, offset, axis1, axis2)
    return on_it.sum(axis=-1)


@implements(np.tril)
def tril(x, k=0):
    """The lower triangle of the last two axes; zero above the k-th diagonal."""
    return where(np.tri(*x.shape[-2:], k=k, dtype=bool, like=raw(x)), x, 0)


@implements(np.triu)
def triu(x, k=0):
    """The upper triangle of the last two axes; zero below the k-th diagonal."""
    return where(np.tri(*x.shape[-2:], k=k - 1, dtype=bool, like=raw(x)), 0, x)


def getitem(x, index):
    """NumPy's basic, advanced and boolean indexing; index arrays may be tensors."""
    own = tuple([_own(part) for part in index]) if isinstance(index, tuple) else _own(index)
    return _getitem(x, index=own)


def _own(index):
    """Return an index that stays as it is when the user changes the array that it came as."""
    if isinstance(index, (list, tuple)):
        index = np.asarray(index)
        return index if index.size else index.astype(int)  # an empty list's would be float
    index = raw(index)
    return index.copy() if hasattr(index, "copy") else index


@implements(np.take_along_axis)
def take_along_axis(x, indices, axis=-1):
    """Take elements along an axis by an index array of the same number of axes."""
    if axis is None:
        x, axis = ravel(x), 0
    return _take_along_axis(x, indices=_own(indices), axis=axis)


@implements(np.take)
def take(x, indices, axis=None):
    """Take elements along an axis, of the flattened array by default."""
    if axis is None:
        x, axis = ravel(x), 0
    return getitem(x, (*[slice(None)] * _normal_axis(axis, x.ndim), indices))


@implements(np.select)
def select(condlist, choicelist, default=0):
    """For each element the choice of the first condition that holds."""
    result = default
    for condition, choice in reversed(list(zip(condlist, choicelist))):
        result = where(condition, choice, result)
    return result


# Values that do not depend on the elements, or carry no derivative.
implements(np.shape)(lambda x: x.shape)
implements(np.ndim)(lambda x: x.ndim)
implements(np.size)(lambda x, axis=None: np.size(raw(x), axis))


def _filled(function):
    return lambda x, dtype=None: Tensor(function(raw(x), dtype=dtype))


for _function in (np.zeros_like, np.ones_like, np.empty_like):
    implements(_function)(_filled(_function))
implements(np.full_like)(
    lambda x, fill_value, dtype=None: Tensor(np.full_like(raw(x), raw(fill_value), dtype=dtype))
)
implements(np.array_equal)(
    lambda a, b, equal_nan=False: bool(np.array_equal(raw(a), raw(b), equal_nan=equal_nan))
)
implements(np.allclose)(
    lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: bool(
        np.allclose(raw(a), raw(b), rtol=rtol, atol=atol, equal_nan=equal_nan)
    )
)
