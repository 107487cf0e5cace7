"""NumPy's own functions on tensors: NumPy hands each call over, and this module finds the op."""

import contextlib
import functools
import inspect

import numpy as np

from .tensor import Tensor

#: NumPy function, or (ufunc, method) -> the function that does the same on tensors.
numpy_functions = {}


def implements(module, *functions):
    """Say that functions do on tensors what those of the same names in ``module`` do on arrays."""
    for function in functions:
        numpy_functions[getattr(module, function.__name__)] = function


def _on_ufunc(self, ufunc, method, *inputs, **kwargs):
    plain = method == "__call__"
    ufunc = getattr(np, ufunc.__name__, ufunc)  # array.clip calls a ufunc that np does not show
    name = f"np.{ufunc.__name__}" + ("" if plain else f".{method}")
    return _call(ufunc if plain else (ufunc, method), ufunc, name, inputs, kwargs)


def _on_function(self, function, types, args, kwargs):
    name = f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1)
    return _call(function, function, name, args, kwargs)


Tensor.__array_ufunc__ = _on_ufunc
Tensor.__array_function__ = _on_function


def _call(key, numpys, name, args, kwargs):
    """Call our function in place of ``numpys``; a call that does not fit is named after that."""
    function = numpy_functions.get(key)
    if function is None:
        raise TypeError(
            f"{name} has no derivative in tinymaml; use another function, define one with "
            "tinymaml.op, or call it on tensor.numpy() if no derivative is needed"
        )
    if kwargs:
        ours = _keywords(function, numpys)
        kwargs = {key: value for key, value in kwargs.items() if value is not np._NoValue}
        if kwargs.get("out") is not None:
            raise TypeError(
                f"{name} on a tensor does not take out=, which operators such as += stand for too, "
                "since the derivative would be lost; make a new one, as in array = array + tensor"
            )
        for key in kwargs:
            if key not in ours:
                raise TypeError(f"{name} on a tensor does not take {key}=; leave it out")
        kwargs = {ours[key]: value for key, value in kwargs.items()}
    try:
        return function(*args, **kwargs)
    except TypeError:
        signature = inspect.signature(function)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as misfit:
            raise TypeError(f"{name} on a tensor takes {signature}: {misfit}") from None
        raise


@functools.cache
def _keywords(function, numpys):
    """Return the keywords that a call may have, by NumPy's name and by ours -> ours."""
    parameters = inspect.signature(function).parameters.values()
    ours = {
        p.name: p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    theirs = []
    with contextlib.suppress(ValueError):  # some functions in C do not tell
        theirs = list(inspect.signature(numpys).parameters)
    return {their: our for their, our in zip(theirs, by_position) if our not in theirs} | ours
