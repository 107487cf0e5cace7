"""Which array library is in use, and the few places where its name matters.

Every op calls NumPy functions, and a CuPy array answers those by itself. Only *new* arrays
have to be told where to live; that is what this module is for.
"""

import importlib
import os
from contextlib import contextmanager

import numpy as np

from ..errors import UserError

_modules = {"numpy": np}
_current = None  # decided on first use, so that importing never fails


def _load(name):
    """Return the array module called ``name``, or say in one sentence why there is none."""
    if name in _modules:
        return _modules[name]
    if name != "cupy":
        raise UserError(f"backend {name!r} is unknown; choose 'numpy' or 'cupy'")
    install = "pip install cupy-cuda12x (for CUDA 12) or pip install cupy-cuda13x (for CUDA 13)"
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise UserError(
            f"backend 'cupy' was asked for but CuPy is not installed; run {install}"
        ) from error
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except Exception:  # a missing driver surfaces as one of several CUDA errors
        devices = 0
    if not devices:
        raise UserError(
            "backend 'cupy' was asked for and CuPy is installed, but it finds no NVIDIA GPU; "
            f"use the backend 'numpy', or check the driver and that CuPy matches it: {install}"
        )
    _modules["cupy"] = cupy
    return cupy


def set_backend(name: str) -> None:
    """Choose the array library for new tensors, for the whole process.

    Parameters
    ----------
    name : {"numpy", "cupy"}

    Raises
    ------
    UserError
        If the name is unknown, or CuPy or a GPU is missing; the sentence has the install command.

    Examples
    --------
    >>> import tinymaml as tm
    >>> tm.set_backend("numpy")
    >>> tm.get_backend()
    'numpy'
    """
    global _current
    _load(name)
    _current = name


def get_backend() -> str:
    """Return the name of the current backend.

    It is ``"numpy"`` unless :func:`set_backend` or the variable ``TINYMAML_BACKEND`` chose another.

    Examples
    --------
    >>> import tinymaml as tm
    >>> tm.get_backend()
    'numpy'
    """
    if _current is None:
        set_backend(os.environ.get("TINYMAML_BACKEND") or "numpy")
    return _current


@contextmanager
def use_backend(name: str):
    """Choose the array library inside a ``with`` block, for the whole process.

    Examples
    --------
    >>> import tinymaml as tm
    >>> with tm.use_backend("numpy"):
    ...     type(tm.tensor([1.0]).data).__name__
    'ndarray'
    """
    before = get_backend()
    set_backend(name)
    try:
        yield
    finally:
        set_backend(before)


def array_module(array):
    """Return the module (NumPy, CuPy) that ``array`` belongs to."""
    if isinstance(array, np.ndarray):
        return np
    for module in _modules.values():
        if isinstance(array, module.ndarray):
            return module
    return np


def is_array(x):
    """Whether x is an array of one of the libraries."""
    return isinstance(x, np.ndarray) or any(isinstance(x, m.ndarray) for m in _modules.values())


def asarray(data, dtype=None):
    """Return ``data`` as an array of the current backend, without a copy where possible."""
    module = _load(get_backend())
    if module is np and array_module(data) is not np:
        data = to_numpy(data)
    return module.asarray(data, dtype=dtype)


def to_numpy(array):
    """Return ``array`` on the host as ``numpy.ndarray``."""
    module = array_module(array)
    return np.asarray(array) if module is np else module.asnumpy(array)
