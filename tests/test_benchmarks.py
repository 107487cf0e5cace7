"""The benchmark compares like with like: every peer computes our meta-gradient."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from strict_array import strict

from tinymaml.engine import backend
from tinymaml.errors import UserError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is part of the repository but not of the package

from benchmarks import measure  # noqa: E402
from benchmarks.workloads import WORKLOADS  # noqa: E402

pytestmark = pytest.mark.numpy_only

SMALL = {
    "W1": {"meta_batch": 5},
    "W1b": {"meta_batch": 3},
    "W2": {"meta_batch": 3, "filters": 4, "chunk": 2},
    "W2q": {"meta_batch": 2, "filters": 4, "n_query": 10, "image_size": 27},
    "W3": {"meta_batch": 2, "filters": 3, "n_query": 5, "inner_steps": 2, "image_size": 37},
}
PAIRS = [(name, peer) for name, workload in WORKLOADS.items() for peer in workload.peers]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "peer"), PAIRS)
def test_peer_agrees_with_ours(name, peer):
    pytest.importorskip(measure.CONTENDERS[peer][2])
    workload = replace(WORKLOADS[name], **SMALL[name])
    ours = measure.build(measure.OURS, workload, "float64").gradient()
    theirs = measure.build(peer, workload, "float64").gradient()
    assert measure.difference(theirs, ours) < 1e-10


def test_difference_is_the_worst_parameter_and_forgives_noise_where_the_gradient_is_zero():
    reference = [np.array([3.0, 4.0]), np.zeros(2), np.array([0.0, 1.0])]
    gradient = [np.array([3.0, 4.5]), np.array([1e-9, 0.0]), np.array([0.0, 1.5])]
    assert measure.difference(gradient, reference) == pytest.approx(0.5)
    assert measure.difference(gradient[:2], reference[:2]) == pytest.approx(0.1)


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.slow
def test_command_prints_a_table_and_writes_the_numbers(tmp_path):
    path = tmp_path / "report.json"
    done = run("W1", "--peers", "autograd", "--rounds", "1", "--json", str(path))
    assert done.returncode == 0, done.stderr
    assert "| W1 | tinymaml |" in done.stdout
    ours = json.loads(path.read_text())["workloads"]["W1"]["tinymaml"]
    assert len(ours["seconds"]) == 1
    assert ours["ratio"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["W9"], "there is no workload 'W9'; choose from W1, W1b"),
        (["W1", "--peers", "keras"], "there is no peer 'keras'; choose from torch"),
        (["W1", "--rounds", "-1"], "--rounds is -1; give 0 or more"),
        (["W1", "--json", "nowhere/r.json"], "there is no folder nowhere; make it first"),
    ],
)
def test_command_says_what_is_wrong(arguments, sentence):
    done = run(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_missing_framework_is_named_and_left_out(monkeypatch, capsys):
    from benchmarks import __main__ as command

    monkeypatch.setattr(measure, "is_installed", lambda name: name != "torch")
    monkeypatch.setattr(command, "measure_workload", lambda workload, names, options: {})
    command.main(["W1", "--peers", "torch"])
    assert "torch is not installed, so it is left out: pip install" in capsys.readouterr().err


def test_what_the_experiments_spend_is_a_table():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.experiments", "sinusoid", "--steps", "2", "--test"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    head, _, line = ([c.strip() for c in row.split("|")[1:-1]] for row in done.stdout.splitlines())
    found = dict(zip(head, line))
    assert found["experiment"] == "sinusoid" and found["share"].endswith(" %")
    assert float(found["step, ms"]) > 0 and float(found["test of 600 tasks, s"]) > 0


def test_without_a_gpu_its_benchmark_says_so_in_a_sentence(tmp_path):
    if has_gpu():
        pytest.skip("there is a GPU")
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path / "gpu")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "CuPy" in done.stderr
    assert not (tmp_path / "gpu").exists()


def has_gpu():
    try:
        backend._load("cupy")
    except UserError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", ["W1", "W2", "W3"])
def test_steps_on_another_array_library_are_timed(name, monkeypatch):
    from benchmarks import gpu

    device = SimpleNamespace(Device=lambda: SimpleNamespace(synchronize=lambda: None))
    monkeypatch.setattr(strict, "cuda", device, raising=False)
    monkeypatch.setitem(backend._modules, "cupy", strict)
    monkeypatch.setattr(gpu, "SECONDS", 0)
    monkeypatch.setitem(gpu.WORKLOADS, name, replace(WORKLOADS[name], **SMALL[name]))
    with backend.use_backend("cupy"):
        for contender in ("tinymaml", "tinymaml eager"):
            found = gpu.one(contender, name)
            assert found["ms"] > 0 and found["first_ms"] > 0
