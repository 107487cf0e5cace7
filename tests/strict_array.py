"""A stand-in for CuPy on a machine without a GPU: arrays that refuse what ``cupy.ndarray`` refuses.

:class:`StrictArray` keeps its numbers in a NumPy array but answers NumPy only through
``__array_ufunc__`` and ``__array_function__``, as CuPy 14 does: it never turns into a NumPy array
by itself, does not mix with one, has only the functions, methods and options that CuPy has, and
gives 0-d arrays where NumPy gives scalars. :data:`strict` is the module it belongs to, for
``tinymaml.engine.backend``.

Where it is laxer than CuPy: an index out of bounds is an error here, CuPy wraps it round; adding
into an array twice at one place has a fixed order here and not on a GPU; ``partition`` does not
sort the whole axis.
"""

import inspect
from types import SimpleNamespace

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

_REDUCTION = "axis=None, dtype=None, out=None, keepdims=False"
_EXTREMUM = "axis=None, out=None, keepdims=False"
_DIAGONAL = "offset=0, axis1=0, axis2=1"

#: What CuPy 14 has of NumPy's functions, as far as tensors could need them, with its options.
FUNCTIONS = {
    # reductions and scans
    **dict.fromkeys(("sum", "mean", "prod"), f"a, {_REDUCTION}"),
    **dict.fromkeys(("max", "min", "amax", "amin", "any", "all"), f"a, {_EXTREMUM}"),
    **dict.fromkeys(("var", "std"), "a, axis=None, dtype=None, out=None, ddof=0, keepdims=False"),
    **dict.fromkeys(("argmax", "argmin"), f"a, {_REDUCTION}"),
    **dict.fromkeys(("cumsum", "cumprod"), "a, axis=None, dtype=None, out=None"),
    **dict.fromkeys(("sort", "argsort"), "a, axis=-1, kind=None"),
    **dict.fromkeys(("partition", "argpartition"), "a, kth, axis=-1"),
    # shapes and moves
    **dict.fromkeys(("shape", "ndim"), "a"),
    "size": "a, axis=None",
    "reshape": "a, newshape, order='C', *, copy=None",
    "ravel": "a, order='C'",
    "transpose": "a, axes=None",
    "swapaxes": "a, axis1, axis2",
    "moveaxis": "a, source, destination",
    "squeeze": "a, axis=None",
    "expand_dims": "a, axis",
    "broadcast_to": "array, shape",
    **dict.fromkeys(("atleast_1d", "atleast_2d", "atleast_3d"), "*arys"),
    **dict.fromkeys(
        ("concatenate", "stack"), "tup, axis=0, out=None, *, dtype=None, casting='same_kind'"
    ),
    **dict.fromkeys(("vstack", "hstack"), "tup, *, dtype=None, casting='same_kind'"),
    **dict.fromkeys(("split", "array_split"), "ary, indices_or_sections, axis=0"),
    "repeat": "a, repeats, axis=None",
    "tile": "A, reps",
    "pad": "array, pad_width, mode='constant', **kwargs",
    "flip": "a, axis=None",
    **dict.fromkeys(("fliplr", "flipud"), "a"),
    "roll": "a, shift, axis=None",
    "rot90": "a, k=1, axes=(0, 1)",
    # indexing and choices
    "take": "a, indices, axis=None, out=None",
    "take_along_axis": "a, indices, axis",
    "where": "condition, x=None, y=None",
    "select": "condlist, choicelist, default=0",
    "nonzero": "a",
    "searchsorted": "a, v, side='left', sorter=None",
    "i0": "x, /, out=None, *, casting='same_kind', dtype=None",
    "unwrap": "p, discont=None, axis=-1, *, period=2 * np.pi",
    "clip": "a, a_min, a_max, out=None",
    **dict.fromkeys(("round", "around"), "a, decimals=0, out=None"),
    "diag": "v, k=0",
    "diagonal": f"a, {_DIAGONAL}",
    "trace": f"a, {_DIAGONAL}, dtype=None, out=None",
    **dict.fromkeys(("tril", "triu"), "m, k=0"),
    # products
    **dict.fromkeys(("dot", "outer"), "a, b, out=None"),
    **dict.fromkeys(("inner", "vdot", "kron"), "a, b"),
    "tensordot": "a, b, axes=2",
    "einsum": "*operands, dtype=None, optimize=False",
    "cross": "a, b, axisa=-1, axisb=-1, axisc=-1, axis=None",
    # creation
    **dict.fromkeys(
        ("zeros_like", "ones_like"), "a, dtype=None, order='K', subok=None, shape=None"
    ),
    "empty_like": "prototype, dtype=None, order='K', subok=None, shape=None",
    "full_like": "a, fill_value, dtype=None, order='K', subok=None, shape=None",
    **dict.fromkeys(("zeros", "ones", "empty"), "shape, dtype=float, order='C'"),
    "full": "shape, fill_value, dtype=None, order='C'",
    "arange": "start, stop=None, step=1, dtype=None",
    "eye": "N, M=None, k=0, dtype=float, order='C'",
    "tri": "N, M=None, k=0, dtype=float",
    "identity": "n, dtype=float",
    "asarray": "a, dtype=None, order=None, *, copy=None, blocking=False",
    "array": "obj, dtype=None, copy=True, order='K', subok=False, ndmin=0, *, blocking=False",
    "ascontiguousarray": "a, dtype=None",
    "copyto": "dst, src, casting='same_kind', where=None",
    # comparisons
    "array_equal": "a1, a2, equal_nan=False",
    **dict.fromkeys(("allclose", "isclose"), "a, b, rtol=1e-05, atol=1e-08, equal_nan=False"),
    # matrices
    **dict.fromkeys([f"linalg.{name}" for name in ("inv", "det", "slogdet", "cholesky")], "a"),
    "linalg.svd": "a, full_matrices=True, compute_uv=True",
    "linalg.eigh": "a, UPLO='L'",
    "linalg.qr": "a, mode='reduced'",
    "linalg.pinv": "a, rcond=1e-15",
    "linalg.solve": "a, b",
    "linalg.norm": "x, ord=None, axis=None, keepdims=False",
    "lib.stride_tricks.sliding_window_view": (
        "x, window_shape, axis=None, *, subok=False, writeable=False"
    ),
}

#: Methods of cupy.ndarray with their options.
METHODS = {
    **dict.fromkeys(("sum", "mean"), _REDUCTION),
    "prod": "axis=None, dtype=None, out=None, keepdims=None",
    **dict.fromkeys(("max", "min", "any", "all"), _EXTREMUM),
    **dict.fromkeys(("var", "std"), "axis=None, dtype=None, out=None, ddof=0, keepdims=False"),
    **dict.fromkeys(("argmax", "argmin"), "axis=None, out=None, dtype=None, keepdims=False"),
    **dict.fromkeys(("cumsum", "cumprod"), "axis=None, dtype=None, out=None"),
    "argsort": "axis=-1, kind=None",
    "argpartition": "kth, axis=-1",
    "reshape": "*shape, order='C', copy=None",
    **dict.fromkeys(("ravel", "flatten", "copy"), "order='C'"),
    "transpose": "*axes",
    "swapaxes": "axis1, axis2",
    "squeeze": "axis=None",
    "astype": "dtype, order='K', casting=None, subok=None, copy=True",
    "fill": "value",
    "repeat": "repeats, axis=None",
    "take": "indices, axis=None, out=None",
    "diagonal": _DIAGONAL,
    "trace": f"{_DIAGONAL}, dtype=None, out=None",
    "round": "decimals=0, out=None",
    "clip": "min=None, max=None, out=None",
    "dot": "b, out=None",
    "nonzero": "",
    "view": "dtype=None, type=None",
}

#: NumPy's ufuncs that CuPy lacks.
MISSING_UFUNCS = {"isnat", "matvec", "spacing", "vecdot", "vecmat"}

#: Functions that move a NumPy array (of data, of indices) to the GPU rather than refuse it.
MOVE_TO_GPU = {"asarray", "array", "ascontiguousarray", "take", "take_along_axis"}

_COMPARISONS = {"greater", "greater_equal", "less", "less_equal", "equal", "not_equal"}
_SCALARS = (bool, int, float, complex, np.generic)
#: What CuPy's atomic addition can add.
_ADDABLE = ("int32", "uint32", "uint64", "float16", "float32", "float64")


def signatures(table):
    """Return the signature of each function of a table."""
    return {
        name: inspect.signature(eval(f"lambda {options}: None")) for name, options in table.items()
    }


_function_signatures, _method_signatures = signatures(FUNCTIONS), signatures(METHODS)


def _wrap(result):
    """Wrap every array, NumPy scalar and truth value in a result; leave shapes and sizes."""
    if isinstance(result, (tuple, list)):
        wrapped = [_wrap(part) for part in result]
        return tuple(wrapped) if isinstance(result, tuple) else wrapped
    if isinstance(result, (np.ndarray, np.generic, bool)):
        return StrictArray(np.asarray(result))
    return result


def _unwrap(argument, numpy_allowed=False):
    if isinstance(argument, StrictArray):
        return argument.host
    if isinstance(argument, np.ndarray) and not numpy_allowed:
        raise TypeError(
            "Unsupported type <class 'numpy.ndarray'>: it does not mix with StrictArray"
        )
    if isinstance(argument, (tuple, list)):
        return type(argument)([_unwrap(part, numpy_allowed) for part in argument])
    return argument


def _unwrap_index(index):
    """Return an index for NumPy; index arrays may be ours, NumPy's or lists, as in CuPy."""
    parts = index if isinstance(index, tuple) else (index,)
    plain = [part.host if isinstance(part, StrictArray) else part for part in parts]
    if sum(np.asarray(p).dtype == bool for p in plain if isinstance(p, (np.ndarray, list))) > 1:
        raise IndexError("CuPy does not take more than one boolean array in an index")
    return tuple(plain) if isinstance(index, tuple) else plain[0]


class StrictArray(NDArrayOperatorsMixin):
    """An array that NumPy reaches only through its protocols, like ``cupy.ndarray``."""

    __slots__ = ("__weakref__", "host")
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, host):
        if host.dtype.char in "gGOSUVmM":
            raise ValueError(f"Unsupported dtype {host.dtype}")
        self.host = host

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__" or ufunc.__name__ in MISSING_UFUNCS:
            return NotImplemented
        plain = []
        for x in inputs:
            if isinstance(x, np.ndarray) and x.ndim == 0 and ufunc.__name__ in _COMPARISONS:
                x = x.item()
            if not isinstance(x, (StrictArray, np.ndarray, *_SCALARS)):
                return NotImplemented
            plain.append(_unwrap(x))
        unknown = set(kwargs) - {"out", "dtype", "casting"}
        if unknown:
            raise TypeError(f"Wrong arguments {unknown}")
        if "out" in kwargs:
            (out,) = kwargs["out"]
            ufunc(*plain, **{**kwargs, "out": (_unwrap(out),)})
            return out
        return _wrap(ufunc(*plain, **kwargs))

    def __array_function__(self, func, types, args, kwargs):
        name = ".".join([*func.__module__.split(".")[1:], func.__name__])
        signature = _function_signatures.get(name)
        if signature is None or any(t not in (StrictArray, np.ndarray) for t in types):
            return NotImplemented
        given = signature.bind(*args, **kwargs).arguments
        if name == "where" and "x" in given and not hasattr(given["condition"], "astype"):
            raise AttributeError("'bool' object has no attribute 'astype'")
        if name == "concatenate" and not all(isinstance(a, StrictArray) for a in given["tup"]):
            raise TypeError("Only cupy arrays can be concatenated")
        if name == "linalg.solve" and given["b"].ndim != 1:
            if given["a"].shape[:-1] != given["b"].shape[:-1]:
                raise ValueError("a must have (..., M, M) shape and b must have (..., M, K)")
        return _wrap(func(*_unwrap(args, name in MOVE_TO_GPU), **_unwrap_values(kwargs)))

    def __getitem__(self, index):
        return _wrap(self.host[_unwrap_index(index)])

    def __setitem__(self, index, value):
        self.host[_unwrap_index(index)] = _unwrap(value)

    def __len__(self):
        return len(self.host)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        return bool(self.host)

    def __int__(self):
        return int(self.host)

    def __float__(self):
        return float(self.host)

    def __repr__(self):
        return repr(self.host)

    def __str__(self):
        return str(self.host)

    def __format__(self, spec):
        return format(self.host, spec)

    def get(self):
        return self.host.copy()

    def item(self):
        return self.host.item()

    def tolist(self):
        return self.host.tolist()


def _unwrap_values(kwargs):
    return {name: _unwrap(value) for name, value in kwargs.items()}


def _method(name):
    signature = _method_signatures[name]

    def method(self, *args, **kwargs):
        signature.bind(*args, **kwargs)
        plain = {key: v for key, v in _unwrap_values(kwargs).items() if v is not None}
        return _wrap(getattr(self.host, name)(*_unwrap(args, name == "take"), **plain))

    method.__name__ = name
    return method


for _name in METHODS:
    setattr(StrictArray, _name, _method(_name))
for _name in ("shape", "ndim", "size", "dtype", "itemsize", "nbytes", "strides", "flags"):
    setattr(StrictArray, _name, property(lambda self, _name=_name: getattr(self.host, _name)))
StrictArray.T = property(lambda self: StrictArray(self.host.T))
StrictArray.mT = property(lambda self: StrictArray(self.host.swapaxes(-1, -2)))


def _asarray(a, dtype=None, order=None):
    host = np.asarray(a.host if isinstance(a, StrictArray) else a, dtype=dtype, order=order)
    return a if isinstance(a, StrictArray) and host is a.host else StrictArray(host)


def _add_at(a, indices, b):
    if a.dtype.name not in _ADDABLE:
        raise TypeError(f"scatter_add only supports {_ADDABLE}, as data type")
    np.add.at(a.host, _unwrap_index(indices), _unwrap(b))


def _as_strided(x, shape=None, strides=None):
    return StrictArray(np.lib.stride_tricks.as_strided(x.host, shape, strides))


#: The module of StrictArray, as far as tinymaml.engine.backend and the ops ask for one by name.
strict = SimpleNamespace(
    ndarray=StrictArray,
    asarray=_asarray,
    asnumpy=lambda a: a.get() if isinstance(a, StrictArray) else np.asarray(a),
    add=SimpleNamespace(at=_add_at),
    lib=SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_as_strided)),
)
