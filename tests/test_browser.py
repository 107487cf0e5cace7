"""In a browser tab, where Python has no threads, no other processes and not all of its library.

The first part needs no browser. The rest needs ``pip install -e '.[lite,docs]'`` and a Chromium; it
builds the site that ``docs/lite.py`` makes, and is skipped without them.
"""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent

pytestmark = pytest.mark.numpy_only


def use():
    """Do what a class does."""
    import numpy as np

    import tinymaml as tm
    from tinymaml import cli

    options = ["--steps", "20", "--test-tasks", "10", "--out", "waves"]
    assert cli.main(["train", "sinusoid", *options]) == 0
    assert cli.main(["train", "sinusoid", *options, "--resume", "--steps", "40"]) == 0
    assert cli.main(["evaluate", "waves", "--tasks", "10"]) == 0
    small = ["--meta-batch", "2", "--rollouts", "2", "--test-tasks", "2"]
    assert cli.main(["train", "navigation", *small, "--steps", "1", "--out", "walk"]) == 0
    assert cli.main(["check"]) == cli.main(["list"]) == 0

    learner, params = tm.pretrained("sinusoid")
    x = np.linspace(-5, 5, 10)[:, None]
    y = 3 * np.sin(x)
    assert tm.FewShotRegressor(learner, params).fit(x, y).score(x, y) > 0.9
    photographs = np.zeros((3, 8, 8, 3), np.uint8)
    assert tm.tasks.images.decode_all(photographs, size=4).shape == (3, 4, 4, 3)

    curvature = tm.func.grad(tm.func.grad(np.tanh))
    compiled = tm.compile(curvature)
    for x in (0.3, 0.4, 0.5):
        assert float(compiled(np.array(x))) == curvature(x)
    x = tm.tensor(0.3, requires_grad=True)
    assert "Computation graph of 1 operation" in tm.draw(np.tanh(x))._repr_html_()


USED = f"{inspect.getsource(use)}\nuse()\nprint('used')\n"


def told(folder, code):
    """Return what a Python like that of a browser does and says."""
    paths = os.pathsep.join(map(str, (ROOT, TESTS)))
    settings = {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    command = [sys.executable, "-c", f"import like_a_browser\n{code}"]
    settings = os.environ | settings
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)


@pytest.mark.parametrize(
    "code",
    [
        "import threading; threading.Thread(target=print).start()",
        "import concurrent.futures as f; f.ThreadPoolExecutor().submit(print)",
        "import subprocess; subprocess.run(['ls'])",
        "import os; os.fork()",
        "import ctypes; ctypes.CDLL(None)",
        "import fcntl",
    ],
)
def test_what_a_browser_lacks_is_refused(tmp_path, code):
    assert told(tmp_path, code).returncode == 1


def test_the_package_works_without_threads_processes_and_system_libraries(tmp_path):
    done = told(tmp_path, USED)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert (tmp_path / "waves" / "fits.png").exists()
    assert not (tmp_path / "waves" / ".lock").exists()
