"""NumPy's own functions on tensors: NumPy hands each call over, and this module finds the op.

Every public function of ``numpy`` and ``numpy.linalg`` is in one of three lists:
:data:`PASSING` have no derivative by nature, :data:`REFUSED` raise a ``TypeError`` with the reason,
all other :data:`numpy_functions` are differentiable.
"""

import contextlib
import functools
import inspect

import numpy as np

from .structure import map_leaves
from .tensor import Tensor, raw, thread

#: NumPy function, or (ufunc, method) -> the function that does the same on tensors; a method alone
#: -> one that does so for any ufunc, which is its first argument.
numpy_functions = {}

OF_SHAPES = "shapes, types and indices"  # whatever the values
#: What they are about -> NumPy's functions without a derivative; most take tensors and give arrays.
PASSING = {
    "truth values, places and shapes (these give tensors or numbers)": "all allclose any argmax "
    "argmin argpartition argsort array_equal bitwise_and bitwise_or bitwise_xor empty_like equal "
    "greater greater_equal invert isfinite isinf isnan less less_equal logical_and logical_not "
    "logical_or logical_xor ndim not_equal ones_like shape signbit size zeros_like",
    "comparisons and searches": "argwhere array_equiv count_nonzero digitize flatnonzero "
    "intersect1d is_busday isclose iscomplex isin isneginf isposinf isreal lexsort nanargmax "
    "nanargmin nonzero searchsorted setdiff1d setxor1d union1d unique unique_all unique_counts "
    "unique_inverse unique_values linalg.matrix_rank",
    "integers and steps": "bitwise_count bitwise_left_shift bitwise_right_shift gcd isnat ix_ lcm "
    "left_shift min_scalar_type right_shift spacing packbits unpackbits ravel_multi_index "
    "unravel_index",
    OF_SHAPES: "can_cast common_type diag_indices_from einsum_path iscomplexobj isdtype isfortran "
    "isrealobj isscalar issubdtype iterable may_share_memory mintypecode promote_types result_type "
    "shares_memory tril_indices_from triu_indices_from typename broadcast_shapes diag_indices "
    "indices mask_indices tril_indices triu_indices",
    "text and files": "array2string array_repr array_str base_repr binary_repr "
    "format_float_positional format_float_scientific save savetxt savez savez_compressed load "
    "loadtxt genfromtxt fromfile fromregex fromstring frombuffer",
    "new arrays": "arange bartlett blackman empty eye fromfunction frompyfunc hamming hanning "
    "identity kaiser ones tri zeros",
    "dates": "busday_count busday_offset datetime_as_string datetime_data",
    "NumPy itself": "get_include get_printoptions getbufsize geterr geterrcall info printoptions "
    "set_printoptions setbufsize seterr seterrcall show_config show_runtime test linalg.test "
    "nested_iters",
}
_AWAY = "call it on tensor.numpy() if no derivative is needed"
#: Why -> NumPy's functions that tensors are refused by.
REFUSED = {
    "changes an array in place, which would lose the derivative; build a new one, for example with "
    "np.where, np.concatenate or (for np.full) np.broadcast_to": "copyto fill_diagonal place put "
    "put_along_axis putmask full",
    f"makes a plain array, which would lose the derivative; {_AWAY}": "array asanyarray asarray "
    "asarray_chkfinite ascontiguousarray asfortranarray asmatrix bmat fromiter from_dlpack require",
    "gives complex numbers, which tinymaml has no derivatives of (np.linalg.eigh and eigvalsh are "
    f"for symmetric matrices); {_AWAY}": "linalg.eig linalg.eigvals poly roots sort_complex",
    f"gives counts, which have no derivative, and edges, which would lose theirs; {_AWAY}": (
        "histogram histogram2d histogram_bin_edges histogramdd"
    ),
    f"has no derivative in tinymaml; {_AWAY}": "nextafter polydiv",
}


def listed(names):
    """Return the functions of ``numpy`` of the given names, as far as this version has them."""
    found = [np.linalg if name.startswith("linalg.") else np for name in names.split()]
    named = [getattr(m, n.removeprefix("linalg."), None) for m, n in zip(found, names.split())]
    return [function for function in named if function is not None]


_passing = {function for names in PASSING.values() for function in listed(names)}
_of_shapes = set(listed(PASSING[OF_SHAPES]))
_reasons = {function: why for why, names in REFUSED.items() for function in listed(names)}
_reasons |= {"at": next(iter(REFUSED))}


def implements(module, *functions):
    """Say that functions do on tensors what those of the same names in ``module`` do on arrays."""
    for function in functions:
        if hasattr(module, function.__name__):  # an older NumPy may lack it
            numpy_functions[getattr(module, function.__name__)] = function


def _on_ufunc(self, ufunc, method, *inputs, **kwargs):
    ufunc = getattr(np, ufunc.__name__, ufunc)  # array.clip calls a ufunc that np does not show
    if method == "__call__":
        if (dtype := kwargs.pop("dtype", None)) is not None:
            inputs = [x.astype(dtype) if hasattr(x, "astype") else x for x in inputs]
        return _call(ufunc, ufunc, f"np.{ufunc.__name__}", inputs, kwargs)
    key = (ufunc, method)
    general = method in numpy_functions and ufunc in numpy_functions and not ufunc.signature
    if general and key not in numpy_functions:
        inputs, key = (numpy_functions[ufunc], *inputs), method
    return _call(key, ufunc, f"np.{ufunc.__name__}.{method}", inputs, kwargs)


def _on_function(self, function, types, args, kwargs):
    name = f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1)
    return _call(function, function, name, args, kwargs)


Tensor.__array_ufunc__ = _on_ufunc
Tensor.__array_function__ = _on_function


def _call(key, numpys, name, args, kwargs):
    """Call our function in place of ``numpys``; a call that does not fit is named after that."""
    function = numpy_functions.get(key)
    out = kwargs.pop("out", None)
    if any(o is not None for o in (out if isinstance(out, tuple) else (out,))):
        raise TypeError(
            f"{name} on a tensor does not take out=, which operators such as += stand for too, "
            "since the derivative would be lost; make a new one, as in array = array + tensor"
        )
    if function is None and key in _passing:
        if key not in _of_shapes:
            thread.state.refuse_value(f"what {name} gives")
        return numpys(*map_leaves(raw, list(args)), **map_leaves(raw, kwargs))
    if function is None:
        why = _reasons.get(key) or _reasons.get(key[-1] if isinstance(key, tuple) else None)
        raise TypeError(
            f"{name} {why}"
            if why
            else f"{name} has no derivative in tinymaml; use another function, define one with "
            "tinymaml.op, or call it on tensor.numpy() if no derivative is needed"
        )
    if kwargs:
        ours = _keywords(function, numpys)
        kwargs = {key: value for key, value in kwargs.items() if value is not np._NoValue}
        for key, value in list(kwargs.items()):
            if key not in ours and None not in ours:
                if key != "casting" and repr(value) not in ("None", repr(_default(numpys, key))):
                    raise TypeError(f"{name} on a tensor does not take {key}=; leave it out")
                del kwargs[key]
        kwargs = {ours.get(key, key): value for key, value in kwargs.items()}
    try:
        return function(*args, **kwargs)
    except TypeError:
        signature = inspect.signature(function)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as misfit:
            raise TypeError(f"{name} on a tensor takes {signature}: {misfit}") from None
        raise


def _default(numpys, keyword):
    """Return what a keyword of NumPy's is by default; that and None say nothing."""
    with contextlib.suppress(ValueError, KeyError):  # some functions in C do not tell
        return inspect.signature(numpys).parameters[keyword].default
    return None


@functools.cache
def _keywords(function, numpys):
    """Return the keywords that a call may have, by NumPy's name and by ours -> ours."""
    parameters = inspect.signature(function).parameters.values()
    ours = {
        p.name: p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        ours[None] = None  # any keyword
    theirs = []
    with contextlib.suppress(ValueError):  # some functions in C do not tell
        theirs = list(inspect.signature(numpys).parameters)
    return {their: our for their, our in zip(theirs, by_position) if our not in theirs} | ours
