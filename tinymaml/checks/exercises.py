"""How an exercise of the notebooks says whether it is solved."""

import numpy as np


def check(name: str, yours, true, right: bool | None = None, rtol: float = 1e-4) -> bool:
    """Print an answer, and whether it is right; only a right one shows the true value beside it.

    Parameters
    ----------
    name : str
    yours, true : number, array_like or str
        None in place of a number is one that is still missing.
    right : bool, optional
        The verdict, where it is not whether ``yours`` has the shape and the values of ``true``.
    rtol : float
        By how much a value may be off, as a part of the true one.

    Returns
    -------
    bool

    Examples
    --------
    >>> from tinymaml.checks import check
    >>> check("slope", [None, 2], [3, 2])
    slope                      yours: [? 2]                not yet
    False
    >>> check("slope", [3, 2], [3, 2])
    slope                      yours: [3 2]                true: [3 2]  right
    True
    >>> check("slope", [[3, 2]], [3, 2])
    slope                      yours: [[3 2]]              shape (1, 2) in place of (2,): not yet
    False
    """
    verdict = "not yet"
    if right is None:
        yours, true = np.asarray(yours, dtype=float), np.asarray(true, dtype=float)
        right = yours.shape == true.shape and np.allclose(yours, true, rtol=rtol, atol=1e-6)
        if yours.shape != true.shape:
            verdict = f"shape {yours.shape} in place of {true.shape}: not yet"
    if right:
        verdict = f"true: {_shown(true)}  right"
    print(f"{name:<26} yours: {_shown(yours):<20} {verdict}")
    return bool(right)


def _shown(value):
    if isinstance(value, str):
        return value
    numbers = {"float_kind": lambda x: "?" if np.isnan(x) else f"{x:.6g}"}
    array = np.asarray(value, dtype=float)
    text = np.array2string(array, np.inf, formatter=numbers, threshold=16, edgeitems=2)
    return " ".join(text.split())
