"""Arrays made of arrays: NumPy's rarer joins, choices and moves, made of the rows of ``shape``."""

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..backend import to_numpy
from ..numpy_rules import implements, numpy_functions
from ..op import as_arrays
from ..tensor import Tensor, raw
from .elementwise import where
from .shape import (
    _moved,
    _moving,
    astype,
    atleast_3d,
    broadcast_to,
    concatenate,
    diag,
    expand_dims,
    getitem,
    moveaxis,
    pad_widths,
    ravel,
    reshape,
    same_dtype,
    scatter_add,
    split,
    stack,
    swapaxes,
    take,
    take_along_axis,
    zeros_like,
)
from .shape import pad as shape_pad

#: These choose elements by a condition or an index, and those that follow by shape alone.
delete, resize, rollaxis = map(_moving, "delete resize rollaxis".split())


def compress(condition, x, axis=None):
    """The elements (slices along an axis) where a condition holds."""
    return _moved(x, lambda at, c: np.compress(c, at, axis), condition)


def extract(condition, x):
    """The elements where a condition holds."""
    return compress(ravel(raw(condition)) != 0, ravel(x))


def trim_zeros(x, trim="fb", axis=None):
    """Without leading and trailing zeros."""
    there = np.nonzero(to_numpy(raw(x)))
    cut = range(x.ndim) if axis is None else normalize_axis_tuple(axis, x.ndim)
    ends = [(int(i.min()), int(i.max()) + 1) if i.size else (0, 0) for i in there]
    return getitem(
        x,
        tuple(
            slice(a if "f" in trim.lower() else 0, b if "b" in trim.lower() else None)
            if i in cut
            else slice(None)
            for i, (a, b) in enumerate(ends)
        ),
    )


def insert(x, obj, values, axis=None):
    """Insert values before given places along an axis."""
    x, values = as_arrays((x, values))
    if axis is None:
        x, axis = ravel(x), 0
    n = x.shape[axis]
    axis = normalize_axis_index(axis, x.ndim)
    order = np.insert(np.arange(n), to_numpy(raw(obj)) if hasattr(obj, "dtype") else obj, -1)
    new = order < 0
    if not np.ndim(obj) and not isinstance(obj, slice) and values.ndim:
        values = moveaxis(atleast(values, x.ndim), 0, axis)  # as NumPy does for one place
        count = values.shape[axis]
        order = np.insert(np.arange(n), [obj] * count, -1)
        new = order < 0
    shape = [int(new.sum()) if i == axis else m for i, m in enumerate(x.shape)]
    order = np.where(new, n + np.cumsum(new) - 1, order)
    return take(concatenate([x, astype(broadcast_to(values, shape), x.dtype)], axis), order, axis)


def atleast(x, ndim):
    """View with at least ``ndim`` axes, added in front."""
    return reshape(x, (1,) * (ndim - x.ndim) + x.shape)


def choose(a, choices, mode="raise"):
    """For each element of an index array the element of the choice of that number."""
    if mode != "raise":
        raise TypeError("np.choose on tensors takes no mode; clip the index instead")
    parts = as_arrays(choices) if isinstance(choices, (list, tuple)) else list(choices)
    a = np.asarray(raw(a), like=raw(parts[0]))
    shape = np.broadcast_shapes(np.shape(a), *[part.shape for part in parts])
    joined = stack([broadcast_to(part, shape) for part in same_dtype(*parts)])
    return take_along_axis(joined, broadcast_to(a, shape)[None], 0)[0]


def piecewise(x, condlist, funclist, *args, **kw):
    """For each element the function (or number) of the condition that holds; the last by default.

    As in NumPy a function sees the elements of its condition alone.
    """
    conditions = (
        [raw(c) for c in condlist] if isinstance(condlist, (list, tuple)) else [raw(condlist)]
    )
    if len(funclist) == len(conditions) + 1:
        conditions.append(~np.any(np.stack(conditions), axis=0))
    y = zeros_like(x)
    for condition, f in zip(conditions, funclist):
        condition = broadcast_to(condition, x.shape)
        if callable(f):
            y = where(condition, 0, y) + scatter_add(
                f(x[condition], *args, **kw), condition, x.shape
            )
        else:
            y = where(condition, f, y)
    return y


def append(x, values, axis=None):
    """Join values at the end, of the flattened arrays by default."""
    return concatenate(as_arrays((x, values)), axis)


def column_stack(arrays):
    """Stack vectors as columns, matrices as they are."""
    arrays = as_arrays(arrays)
    return concatenate([reshape(a, -1, 1) if a.ndim < 2 else a for a in arrays], 1)


def dstack(arrays):
    """Stack along the third axis."""
    return concatenate([atleast_3d(a) for a in as_arrays(arrays)], 2)


def block(arrays):
    """Join nested lists of blocks: the innermost along the last axis."""
    flat, depth, inner = [], 0, arrays

    def flatten(part):
        return [x for p in part for x in flatten(p)] if isinstance(part, list) else [part]

    while isinstance(inner, list):
        depth, inner = depth + 1, inner[0]
    flat = as_arrays(flatten(arrays))
    ndim, parts = max([depth, *[x.ndim for x in flat]]), iter(flat)

    def join(part, axis):
        if isinstance(part, list):
            return concatenate([join(p, axis + 1) for p in part], axis)
        return atleast(next(parts), ndim)

    return join(arrays, ndim - depth)


_STATISTICS = {"maximum": np.max, "minimum": np.min, "mean": np.mean, "median": np.median}


def pad(x, pad_width, mode="constant", **options):
    """Pad by any of NumPy's modes; constants and ends are differentiated too."""
    constants = options.get("constant_values", 0)
    if (mode == "constant" and isinstance(constants, (int, float))) or (
        mode not in ("constant", "linear_ramp", *_STATISTICS)
    ):
        return shape_pad(x, pad_width, mode, **options)
    values = options.get("end_values", constants)
    if type(values) is not Tensor:
        values = np.asarray(values, like=raw(x))
    values = broadcast_to(astype(values, x.dtype), (x.ndim, 2))
    lengths = options.get("stat_length")
    lengths = np.broadcast_to(np.asarray(0 if lengths is None else lengths), (x.ndim, 2)).tolist()
    for axis, widths in enumerate(pad_widths(x, pad_width)):
        x = _pad_axis(x, axis, widths, mode, values[axis], lengths[axis])
    return x


def _pad_axis(x, axis, widths, mode, values, lengths):
    """Pad one axis on both sides, by a value, by a ramp to it, or by a statistic of some length."""
    sides, length = [], x.shape[axis]
    for first, width, value, n in zip((True, False), widths, values, lengths):
        n = 1 if mode == "linear_ramp" else min(n or length, length)
        part = x[(slice(None),) * axis + (slice(n) if first else slice(length - n, None),)]
        if mode in _STATISTICS:
            value = _STATISTICS[mode](part, axis=axis, keepdims=True)
        elif mode == "linear_ramp":
            share = np.arange(width).reshape(-1, *[1] * (x.ndim - axis - 1)) / (width or 1)
            share = np.asarray(share if first else share[::-1], x.dtype, like=raw(x))
            value = value + (part - value) * share
        value = value if hasattr(value, "dtype") else np.asarray(value, like=raw(x))
        sides.append(broadcast_to(value, (*x.shape[:axis], width, *x.shape[axis + 1 :])))
    return concatenate([sides[0], x, sides[1]], axis, dtype=x.dtype)


def unstack(x, *, axis=0):
    """The slices along an axis, as a tuple."""
    return tuple(moveaxis(x, axis, 0))


def hsplit(x, sections):
    """Split along the second axis, or the only one."""
    return split(x, sections, 1 if x.ndim > 1 else 0)


def broadcast_arrays(*arrays):
    """Broadcast arrays against each other, to a tuple."""
    arrays = as_arrays(arrays)
    shape = np.broadcast_shapes(*[a.shape for a in arrays])
    return tuple([broadcast_to(a, shape) for a in arrays])


def meshgrid(*arrays, copy=True, sparse=False, indexing="xy"):
    """Coordinates of a grid, one array for each axis."""
    n = len(arrays)
    arrays = [
        reshape(a, [-1 if i == j else 1 for j in range(n)]) for i, a in enumerate(as_arrays(arrays))
    ]
    arrays = arrays if sparse else broadcast_arrays(*arrays)
    return tuple([swapaxes(a, 0, 1) if indexing == "xy" and n > 1 else a for a in arrays])


def diagflat(x, k=0):
    """The matrix with the elements on a diagonal."""
    return diag(ravel(x), k)


def apply_along_axis(func1d, axis, arr, *args, **kwargs):
    """Apply a function to each vector along an axis."""
    rows = moveaxis(arr, axis, -1)
    parts = [func1d(row, *args, **kwargs) for row in reshape(rows, (-1, rows.shape[-1]))]
    y = stack(parts, 0)
    y = reshape(y, rows.shape[:-1] + y.shape[1:])
    axis, lead = normalize_axis_index(axis, arr.ndim), rows.ndim - 1
    return moveaxis(y, range(lead, y.ndim), range(axis, axis + y.ndim - lead))


def apply_over_axes(func, a, axes):
    """Apply a function over one axis after the other, each of which is kept."""
    for axis in np.atleast_1d(axes).tolist():
        y = func(a, axis)
        a = y if y.ndim == a.ndim else expand_dims(y, axis)
    return a


implements(np, delete, resize, rollaxis, compress, extract, trim_zeros, insert, choose, piecewise)
implements(np, append, column_stack, dstack, block, hsplit, broadcast_arrays, meshgrid, diagflat)
implements(np, apply_along_axis, apply_over_axes, unstack, pad)
numpy_functions |= {
    np.vsplit: lambda x, sections: split(x, sections, 0),
    np.dsplit: lambda x, sections: split(x, sections, 2),
}
