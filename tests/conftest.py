"""What all tests share: the array library they run on, and where real data lies.

``pytest --backend cupy`` runs the same tests on a GPU, ``--backend strict`` on the stand-in for
CuPy of ``strict_array.py``. Tests about NumPy arrays themselves are marked ``numpy_only``.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from strict_array import strict

from tinymaml.engine import backend
from tinymaml.engine.structure import map_leaves
from tinymaml.errors import UserError

backend._modules["strict"] = strict


def pytest_addoption(parser):
    parser.addoption(
        "--backend",
        choices=("numpy", "cupy", "strict"),
        default="numpy",
        help="the array library that tensors are made of",
    )


def pytest_configure(config):
    try:
        backend.set_backend(config.getoption("--backend"))
    except UserError as error:  # CuPy or the GPU is missing
        raise pytest.UsageError(str(error)) from error


SLOW_FIXTURES = {"built", "site", "data_root", "real"}  # documentation, notebooks, real data


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config, items):
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    name = config.getoption("--backend")
    if name == "numpy":
        return
    for item in items:
        if isinstance(item, pytest.DoctestItem) or item.get_closest_marker("numpy_only"):
            item.add_marker(pytest.mark.skip(reason=f"about NumPy arrays, not {name}"))


@pytest.fixture(autouse=True)
def compare_on_the_host(request, monkeypatch):
    """On a backend that is not NumPy, bring results to the host before ``np.testing`` sees them."""
    if request.config.getoption("--backend") == "numpy":
        return

    def on_host(check):
        return lambda actual, desired, *args, **kwargs: check(
            *[map_leaves(_to_host, a) for a in (actual, desired)], *args, **kwargs
        )

    for name in ("assert_allclose", "assert_array_equal"):
        monkeypatch.setattr(np.testing, name, on_host(getattr(np.testing, name)))


def _to_host(leaf):
    return leaf if backend.array_module(leaf) is np else backend.to_numpy(leaf)


@pytest.fixture
def data_root():
    """The folder of real data named by TINYMAML_DATA."""
    folder = os.environ.get("TINYMAML_DATA")
    if not folder:
        pytest.skip("TINYMAML_DATA does not name a folder of real data")
    if not Path(folder).is_dir():
        pytest.skip(f"TINYMAML_DATA names {folder}, which is no folder")
    return Path(folder)
