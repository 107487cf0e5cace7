"""Several processes of one machine, or under mpiexec: the same bytes as one, however they end."""

import contextlib
import errno
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from test_training import assert_same

from tinymaml import cli, files
from tinymaml.errors import UserError
from tinymaml.experiments import EXPERIMENTS, Experiment, OmniglotMLP, launch
from tinymaml.experiments.runs import Run
from tinymaml.parallel.group import current, map_chunks, once
from tinymaml.parallel.start import number, together
from tinymaml.parallel.threads import cores

pytestmark = [
    pytest.mark.numpy_only,
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "pwrite"), reason="processes that share memory are of Unix"),
]

TESTS = Path(__file__).parent
MPIEXEC = shutil.which("mpiexec", path=Path(sys.executable).parent)
needs_mpi = pytest.mark.skipif(
    not (MPIEXEC and importlib.util.find_spec("mpi4py")), reason="mpi4py and mpich are missing"
)
WAYS = ["local", pytest.param("mpi", marks=needs_mpi)]


# A small experiment with images, whose processes can come to harm


@dataclass(frozen=True)
class Few(OmniglotMLP):
    """Random images, and chunks of two tasks. Before the third step something happens."""

    harm: str = ""
    rank: int = 0  # of the process that it happens to

    chunk = 2
    test_chunk = 3

    def load(self, data=None):
        rng = np.random.default_rng(7)
        splits = ("train", "val", "test")
        images = {s: list(rng.integers(0, 256, (6, 20, 28, 28, 1), np.uint8)) for s in splits}
        return self.with_images(images), "images"

    def tasks(self, split):
        source = super().tasks(split)
        return Third(source, self) if self.harm and split == "train" else source


class Third:
    calls = 0

    def __init__(self, source, problem):
        self.source, self.problem = source, problem

    def sample(self, rng, n_tasks):
        Third.calls += 1
        if Third.calls == 3 and current().rank == self.problem.rank:
            globals()[self.problem.harm]()
        return self.source.sample(rng, n_tasks)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def failing():
    raise LookupError("of one process alone")


def full():
    def no_room(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.os.fsync = no_room


def waiting():
    print("here", flush=True)
    time.sleep(3)


def command(*arguments, harm="", rank=0):
    """The command line, with the small experiment."""
    preset = EXPERIMENTS["omniglot-mlp"]
    often = {"log_every": 2, "checkpoint_every": 1, "validate_every": 4, "validation_tasks": 7}
    schedule = replace(preset.schedule, meta_batch=9, **often)
    EXPERIMENTS["omniglot-mlp"] = Experiment(preset.method, Few(harm=harm, rank=rank), schedule)
    Experiment.figures = lambda *_: []
    sys.argv = ["tinymaml", *arguments]
    cli.console()


def start(way, size, *arguments, prefix=(), mpiexec=(), **harm):
    """Start the command line on several processes."""
    if way == "local":
        arguments = (*arguments, "--processes", str(size))
    program = f"import test_processes as t; t.command(*{arguments!r}, **{harm!r})"
    python = [sys.executable, "-c", program]
    paths = os.pathsep.join(map(str, (TESTS, TESTS.parent)))
    return subprocess.Popen(
        python if way == "local" else [*prefix, MPIEXEC, *mpiexec, "-n", str(size), *python],
        env=os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def training(way, size, run, steps=4, *more, **harm):
    options = ("--out", str(run.path), "--steps", str(steps), "--test-tasks", "11", *more)
    return start(way, size, "train", "omniglot-mlp", *options, **harm)


def end(process):
    """Wait for the end; return the exit code, what was printed, and what was said last."""
    with process:
        try:
            printed, said = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert "Traceback" not in said and said.count("tinymaml: ") <= 1
    return process.returncode, printed, said.replace("\r", "\n").strip().split("\n")[-1]


@pytest.fixture(autouse=True)
def nothing_stays():
    """Neither a process of ours nor shared memory is left behind."""
    shared = Path("/dev/shm")
    before = set(shared.glob("*mpich*"))
    yield
    deadline = time.time() + 10
    remains = lambda: [*others(), *(set(shared.glob("*mpich*")) - before)]
    while (left := remains()) and time.time() < deadline:  # tests beside this one have theirs
        time.sleep(0.1)
    assert not left


def others():
    """Command lines of processes that follow one of this file, or are of its MPI."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_text().replace("\0", " ")
            if str(TESTS) in line and "local.follow" in line:
                found.append(line)
    return found


def results(run):
    found = run.read_json("results.json")
    return {key: found[key] for key in ("curves", "rows", "protocol", "trained_steps")}


# The same bytes


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process, with threads."""
    run = Run(tmp_path_factory.mktemp("alone") / "run")
    assert end(training("local", 1, run))[0] == 0
    return run


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_run_does_not_depend_on_the_number_of_processes(alone, tmp_path, way, size):
    run = Run(tmp_path / "run")
    code, printed, _ = end(training(way, size, run))
    assert code == 0 and printed.count("testing on 11 tasks") == 1
    assert_same(run, alone)
    assert (run / "checkpoint.npz").read_bytes() == (alone / "checkpoint.npz").read_bytes()
    assert results(run) == results(alone)
    assert run.read_json("training.json")["processes"] == size
    assert not (run / ".lock").exists()


@pytest.mark.parametrize("way", WAYS)
def test_nor_on_another_number_when_it_is_resumed(alone, tmp_path, way):
    run = Run(tmp_path / "run")
    for i, (size, steps) in enumerate([(2, 1), (1, 2), (3, 3), (4, 4)]):
        assert end(training(way, size, run, steps, *["--resume"] * (i > 0)))[0] == 0
    assert (run / "checkpoint.npz").read_bytes() == (alone / "checkpoint.npz").read_bytes()
    assert results(run) == results(alone)
    before = results(run)
    assert end(start(way, 3, "evaluate", str(run.path), "--tasks", "11"))[0] == 0
    assert results(run) == before


SSH = """#!/bin/sh
# As ssh: options, a host, a command. The hosts are network namespaces.
while [ "${1#-}" != "$1" ]; do shift; done
host=$1; shift
exec ip netns exec %s-${host##*.} sh -c "$*"
"""


@pytest.fixture
def hosts(tmp_path):
    """Two hosts with a cable between them: the name of their cards, and what stands for ssh."""
    if not shutil.which("ip") or os.geteuid():
        pytest.skip("only root makes network namespaces, by the command ip")
    name = f"maml{os.getpid()}"
    commands = [f"link add {name}-1 type veth peer name {name}-2"]
    for i in (1, 2):
        namespace = f"{name}-{i}"
        commands += [f"netns add {namespace}", f"link set {namespace} netns {namespace}"]
        commands += [f"-n {namespace} link set {namespace} name card"]
        commands += [f"-n {namespace} addr add 10.77.0.{i}/24 dev card"]
        commands += [f"-n {namespace} link set {card} up" for card in ("card", "lo")]
    (tmp_path / "ssh").write_text(SSH % name)
    (tmp_path / "ssh").chmod(0o700)
    try:
        for command in commands:
            if subprocess.run(["ip", *command.split()], capture_output=True).returncode:
                pytest.skip(f"this machine does not do `ip {command}`")
        yield name
    finally:
        for i in (1, 2):
            subprocess.run(["ip", "netns", "del", f"{name}-{i}"], capture_output=True)


def bytes_received(namespace):
    file = "/sys/class/net/card/statistics/rx_bytes"
    return int(subprocess.check_output(["ip", "netns", "exec", namespace, "cat", file]))


@needs_mpi
def test_nor_on_the_number_of_hosts(alone, tmp_path, hosts):
    ssh = ["-launcher", "ssh", "-launcher-exec", str(tmp_path / "ssh"), "-iface", "card"]
    here = ["ip", "netns", "exec", f"{hosts}-1"]
    run = Run(tmp_path / "run")
    # which find out that they are of one machine, and would use its memory
    tcp = ["-genv", "UCX_TLS", "tcp,self", "-genv", "MPIR_CVAR_NOLOCAL", "1"]
    two = [*ssh, "-hosts", "10.77.0.1,10.77.0.2", *tcp]
    assert end(training("mpi", 3, run, prefix=here, mpiexec=two))[0] == 0
    assert (run / "checkpoint.npz").read_bytes() == (alone / "checkpoint.npz").read_bytes()
    assert results(run) == results(alone)
    weights = (run / "checkpoint.npz").stat().st_size / 3  # beside them are Adam's moments
    assert bytes_received(f"{hosts}-1") > 4 * weights  # gradients of four steps came this way


# However they end


def resumed(alone, run, way):
    """What was kept goes on to the same end."""
    assert end(training(way, 2, run, 4, "--resume"))[0] == 0
    assert (run / "checkpoint.npz").read_bytes() == (alone / "checkpoint.npz").read_bytes()
    names = {path.name for path in run.path.iterdir()}
    assert names - {".lock"} == {
        *("config.json", "metrics.csv", "checkpoint.npz", "training.json", "results.json")
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_killed_process_ends_all(alone, tmp_path, way, rank):
    run = Run(tmp_path / "run")
    code, _, said = end(training(way, 3, run, harm="killed", rank=rank))
    if way == "mpi":  # mpiexec says so, and kills the others
        assert code == 9
    elif rank:
        assert code == 2
        assert re.search(r"one of the 3 processes was killed.*--resume", said)
    else:
        assert code == -9
    assert run.steps_done() == 2
    resumed(alone, run, way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_process_is_said_once_and_ends_all(alone, tmp_path, way, rank):
    run = Run(tmp_path / "run")
    code, _, said = end(training(way, 3, run, harm="failing", rank=rank))
    assert code == 2
    kept = re.search(r"LookupError: of one process alone, an error of ours; .* with (.*)", said)
    assert "in failing" in Path(kept[1]).read_text()
    os.unlink(kept[1])
    assert run.steps_done() == 2
    resumed(alone, run, way)


@pytest.mark.parametrize("way", WAYS)
def test_a_full_disk_is_one_sentence(alone, tmp_path, way):
    run = Run(tmp_path / "run")
    code, _, said = end(training(way, 2, run, harm="full"))
    assert code == 2 and "No space left on device; make room" in said
    assert run.steps_done() == 2
    resumed(alone, run, way)


@pytest.mark.parametrize("way", WAYS)
def test_a_training_that_diverges_is_one_sentence(tmp_path, way):
    run = Run(tmp_path / "run")
    code, _, said = end(training(way, 2, run, 40, "--meta-lr", "1e37"))
    assert code == 2 and re.search(r"not finite at step \d+: the training diverged", said)
    assert run.steps_done() >= 0


def pressed(process, number, everywhere):
    """Wait until the third step, then ask for the end as a terminal or as `kill` does."""
    while "here" not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
    (os.killpg if everywhere else os.kill)(process.pid, number)


@pytest.mark.parametrize(
    ("way", "everywhere"),
    [("local", True), ("local", False), pytest.param("mpi", False, marks=needs_mpi)],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_request_to_stop_ends_all_after_the_step(
    alone, tmp_path, way, everywhere, number
):
    run = Run(tmp_path / "run")
    process = training(way, 3, run, harm="waiting")
    pressed(process, number, everywhere)
    code, printed, _ = end(process)
    assert code == 130 and printed.count("continue with: tinymaml train omniglot-mlp") == 1
    assert run.steps_done() == 3
    resumed(alone, run, way)


@pytest.mark.parametrize("everywhere", [True, False])
def test_the_second_request_ends_all_at_once(alone, tmp_path, everywhere):
    run = Run(tmp_path / "run")
    process = training("local", 3, run, harm="waiting")
    pressed(process, signal.SIGINT, everywhere)
    time.sleep(0.5)
    assert process.poll() is None
    (os.killpg if everywhere else os.kill)(process.pid, signal.SIGINT)
    assert end(process)[0] == -signal.SIGINT
    assert run.steps_done() == 2
    resumed(alone, run, "local")


def test_another_training_in_the_folder_is_refused(tmp_path):
    run = Run(tmp_path / "run")
    process = training("local", 2, run, harm="waiting")
    while "here" not in process.stdout.readline():
        pass
    code, _, said = end(training("local", 2, run))
    assert code == 2 and "another training is at work" in said
    assert end(process)[0] == 0


@needs_mpi
def test_mpiexec_says_once_what_is_wrong(tmp_path):
    run = Run(tmp_path / "run")
    code, _, said = end(training("mpi", 3, run, 0))
    assert code == 2 and said.startswith("tinymaml: --steps is 0")
    code, _, said = end(training("mpi", 2, run, 4, "--processes", "4"))
    assert code == 2 and said.endswith("mpiexec has started 2; leave it out")
    code, _, said = end(training("mpi", 2, run, 4, "--nonsense"))
    assert code == 2 and said.endswith("unrecognized arguments: --nonsense")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPI4PY_LIBMPI", str(tmp_path / "missing.so"))
        code, _, said = end(training("mpi", 3, run))
    assert code == 2 and said.endswith("run pip install mpi4py mpich")
    assert not run.path.exists()


# The door by itself


def square(array):
    return array * array


def squares():
    """Chunks of all sizes, more and fewer than processes, one round right after the other."""
    rng, found = np.random.default_rng(0), []
    for count in rng.integers(0, 9, 60):
        chunks = [rng.standard_normal(int(n)) for n in 10 ** rng.uniform(0, 5, count)]
        found += list(map_chunks(square, chunks))
    return found


def test_the_door_gives_all_results_in_order():
    for ours, theirs in zip(squares(), together(squares, processes=3), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def odd(n):
    if n == 3:
        raise ValueError(f"{n} is odd")
    return n


def some_odd():
    return list(map_chunks(odd, range(6)))


def pid_of_the_first():
    return once(os.getpid), current().size


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def peculiar():
    if current().rank:
        raise Unpicklable(1, 2)
    return list(map_chunks(odd, range(2)))


def test_errors_come_through_the_door():
    with pytest.raises(ValueError, match="3 is odd"):
        together(some_odd, processes=2)
    with pytest.raises(RuntimeError, match="Unpicklable: 1"):
        together(peculiar, processes=3)
    assert together(pid_of_the_first, processes=2) == (os.getpid(), 2)
    assert current().size == 1


def read_only(arrays):
    assert not any(array.flags.writeable for array in arrays) or current().rank == 0
    return [float(array.sum()) for array in arrays]


def test_what_is_given_to_the_processes_is_shared_and_not_copied():
    arrays = [np.arange(n, dtype=np.float32).reshape(-1, 5) for n in (0, 5, 10**6)]
    assert together(read_only, arrays, processes=3) == read_only(arrays[:0]) + [
        float(a.sum()) for a in arrays
    ]


def test_the_number_of_processes():
    assert number(None, 1) == 1 and number(None, 10**6) == cores() and number(7, 1) == 7
    for wrong in (0, -1, 1025):
        with pytest.raises(UserError, match=f"--processes is {wrong}; give 1 to 1024"):
            number(wrong, 4)
    assert launch.train_run.__kwdefaults__["processes"] == 1  # in notebooks
    assert EXPERIMENTS["sinusoid"].chunks == 1 and EXPERIMENTS["omniglot"].chunks == 4


def test_chunks_within_chunks_are_done_in_place():
    inner = lambda c: sum(map_chunks(lambda d: d * c, range(3)))
    assert list(map_chunks(inner, range(4))) == [0, 3, 6, 9]
