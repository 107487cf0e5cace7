"""How an exercise of the notebooks says whether it is solved."""

import numpy as np

from ..engine.structure import map_leaves
from ..engine.tensor import Tensor


def check(name: str, yours, true, right: bool | None = None, rtol: float = 1e-4) -> None:
    """Print an answer, and whether it is right; only a right one shows the true value beside it.

    Parameters
    ----------
    name : str
    yours, true : number, array_like or str
        None in place of a number is one that is still missing; a tensor is its numbers.
    right : bool, optional
        The verdict, where it is not whether ``yours`` has the shape and the values of ``true``.
    rtol : float
        By how much a value may be off, as a part of the true one.

    Examples
    --------
    >>> from tinymaml.checks import check
    >>> check("slope", [None, 2], [3, 2])
    slope                  yours: [? 2]        not yet
    >>> check("slope", [3, 2], [3, 2])
    slope                  yours: [3 2]        true: [3 2]  right
    >>> check("slope", [[3, 2]], [3, 2])
    slope                  yours: [[3 2]]      shape (1, 2) in place of (2,): not yet
    """
    verdict = "not yet"
    in_words = isinstance(yours, str) and right is not None
    if not in_words:
        yours = _numbers(yours)
    if yours is None:
        print(f"{name:<22} yours: {'?':<12} not yet: give numbers")
        return
    if right is None:
        true = np.asarray(true, dtype=float)
        right = yours.shape == true.shape and np.allclose(yours, true, rtol=rtol, atol=1e-6)
        if yours.shape != true.shape:
            verdict = f"shape {yours.shape} in place of {true.shape}: not yet"
    if right:
        verdict = f"true: {_shown(true)}  right"
    print(f"{name:<22} yours: {_shown(yours):<12} {verdict}")


def _numbers(answer):
    """Return an answer as an array, None if it does not consist of numbers."""
    try:
        plain = map_leaves(lambda a: a.numpy() if isinstance(a, Tensor) else a, answer)
        return np.asarray(plain, dtype=float)
    except (TypeError, ValueError):
        return None


def _shown(value):
    """Return an answer as text: of an array of more than eight numbers the first four."""
    if isinstance(value, str):
        return value
    array = np.asarray(value, dtype=float)
    few = array if array.size <= 8 else array.ravel()[:4]
    text = " ".join(np.array2string(few, np.inf, formatter={"float_kind": _number}).split())
    return text if array.size <= 8 else f"{text[:-1]} ...]"


def _number(x):
    if np.isnan(x):
        return "?"
    return f"{x:.9g}" if x == np.rint(x) else f"{x:.4g}"
