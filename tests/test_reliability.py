"""Runs that are killed, interrupted, short of room, or read from damaged folders."""

import contextlib
import errno
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_training import assert_same, contents, small, start

import tinymaml as tm
from tinymaml import cli, files
from tinymaml.errors import UserError
from tinymaml.experiments import EXPERIMENTS, Experiment, Omniglot, Sinusoids, launch
from tinymaml.experiments.runs import COLUMNS, Run
from tinymaml.experiments.training import train
from tinymaml.parallel import chunks, group, threads

pytestmark = [
    pytest.mark.numpy_only,
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="about signals and limits of Unix"),
]

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def in_the_foreground():
    """Ctrl-C as in a terminal, though the tests themselves may be a job in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def in_a_process(function, *arguments, **environment):
    """Start a function of this file in a process of its own, which has no threads yet."""
    call = f"import test_reliability; test_reliability.{function.__name__}(*{arguments!r})"
    paths = os.pathsep.join(map(str, (TESTS, TESTS.parent)))
    return subprocess.Popen(
        [sys.executable, "-c", call],
        env=os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process):
    said, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return said


def forked(work, *arguments, **options):
    """Do work in a fork of this process; returns its id."""
    if child := os.fork():
        return child
    code = 1
    try:
        work(*arguments, **options)
        code = 0
    finally:
        os._exit(code)


def ended(child):
    """Return 0 if all was well in a fork, -9 if it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def hooked(experiment, at, hook):
    """The experiment, with a call before the tasks of one step are drawn."""

    class Hooked(Experiment):
        def training_tasks(self, step):
            if step == at:
                hook()
            return super().training_tasks(step)

    return Hooked(experiment.method, experiment.problem, experiment.schedule)


def assert_whole(run):
    """Every file of a run can be read to its end; what was being written is hidden."""
    for path in run.path.iterdir():
        if path.name in ("config.json", "training.json"):
            run.read_json(path.name)
        elif path.name == "metrics.csv":
            run.read_metrics()
        elif path.name == "checkpoint.npz":
            contents(run)
        else:
            assert re.fullmatch(r"\.(metrics\.csv|checkpoint\.npz)\.\w+\.part|\.lock", path.name)


def assert_nothing_left(run):
    names = {path.name for path in run.path.iterdir()} - {
        "training.json",
        ".lock",
    }  # of the command line
    assert names == {"config.json", "metrics.csv", "checkpoint.npz"}


# Killed


def without_waiting_for_the_disk():
    """What is written outlives the process that wrote it, though perhaps not the machine."""
    os.fsync = lambda file: None


def kill_at_random_moments(folder, seed):
    without_waiting_for_the_disk()
    rng, folder, steps = np.random.default_rng(seed), Path(folder), 150
    whole, run = (start(folder / name, small(steps)) for name in ("whole", "run"))
    began = time.perf_counter()
    assert ended(forked(train, small(steps), whole, progress=False)) == 0
    moments = rng.uniform(0, (time.perf_counter() - began) / 5, 12)
    killed = 0
    for moment in [*moments, None]:
        resume = (run / "checkpoint.npz").exists()
        child = forked(train, small(steps), run, resume=resume, progress=False)
        if moment is not None:
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
        fate = ended(child)
        assert fate in ((0,) if moment is None else (0, -signal.SIGKILL))
        killed += fate != 0
        assert_whole(run)
    assert killed >= 3
    assert_same(run, whole)
    assert_nothing_left(run)


def test_killed_at_random_moments_a_resumed_run_ends_as_one_without_a_break(tmp_path):
    done(in_a_process(kill_at_random_moments, str(tmp_path), 0))


class Operations:
    """Counts what ``files.replacing`` does to files, and kills this process at one operation."""

    def __init__(self, fatal):
        self.count, self.fatal = 0, fatal
        files.open = self.open
        os.fsync, os.replace = map(self.watched, (os.fsync, os.replace))

    def another(self):
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(self, function):
        def call(*arguments):
            self.another()
            function(*arguments)
            self.another()

        return call

    def open(self, path, mode="r", **options):
        if mode != "xb":
            return open(path, mode, **options)
        self.another()
        operations = self

        class Written(io.FileIO):
            def write(self, data):
                half = len(data) // 2
                super().write(data[:half])
                operations.another()
                return half + super().write(data[half:])

        return io.BufferedWriter(Written(path, mode))


def frequent(steps):
    """An experiment that writes its files at every step, and not much."""

    class Tiny(Sinusoids):
        model = tm.nn.mlp((1, 2, 1))

    often = small(steps).replace(log_every=1, checkpoint_every=1, validation_tasks=2)
    return Experiment(often.method, Tiny(), often.schedule)


def kill_at_every_operation(folder):
    without_waiting_for_the_disk()
    folder = Path(folder)
    base, whole = (start(folder / name, frequent(2)) for name in ("base", "whole"))
    train(frequent(1), base, progress=False)
    train(frequent(2), whole, progress=False)

    def doomed(run, fatal):
        experiment = hooked(frequent(2), 2, lambda: Operations(fatal))
        train(experiment, run, resume=True, progress=False)

    for fatal in range(1, 1000):
        run = Run(shutil.copytree(base.path, folder / str(fatal)))
        fate = ended(forked(doomed, run, fatal))
        assert_whole(run)
        if fate == 0:  # there are no more operations
            break
        assert fate == -signal.SIGKILL
        assert ended(forked(train, frequent(2), run, resume=True, progress=False)) == 0
        assert_same(run, whole)
        assert_nothing_left(run)
        shutil.rmtree(run.path)
    assert fatal > 30


def test_killed_at_any_operation_on_its_files_a_run_is_whole_and_resumes_bit_for_bit(tmp_path):
    done(in_a_process(kill_at_every_operation, str(tmp_path)))


# Interrupted


class CtrlCAtLines:
    """Presses Ctrl-C at some of the lines of Python that a training runs through."""

    def __init__(self, *fatal):
        self.count, self.fatal = 0, fatal

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.of_frame)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)

    def of_frame(self, frame, event, argument):
        file = frame.f_code.co_filename
        return None if file == __file__ or "threading" in file else self.of_line

    def of_line(self, frame, event, argument):
        self.count += 1
        if self.count in self.fatal:
            signal.raise_signal(signal.SIGINT)
        return self.of_line


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_at_any_line_leaves_a_whole_run(tmp_path, monkeypatch, presses):
    """The first ends the training after the step at hand, the second at once."""
    experiment = frequent(3)
    monkeypatch.setattr(os, "fsync", lambda file: None)
    for name in ("warm", "whole"):
        whole = start(tmp_path / name, experiment)
        with CtrlCAtLines() as lines:
            train(experiment, whole, progress=False)
    rng, early = np.random.default_rng(0), 0
    for i in range(30):
        run = start(tmp_path / str(i), experiment)
        first, step = rng.integers(1, lines.count), None
        fatal = first, first + rng.integers(1, 100)
        # raised in the writing of an npz it becomes a ValueError of NumPy's
        given_up = contextlib.suppress(KeyboardInterrupt, *[ValueError] * (presses > 1))
        with given_up, CtrlCAtLines(*fatal[:presses]):
            step = train(experiment, run, progress=False).step
        resume = (run / "checkpoint.npz").exists()
        if step is not None:
            assert run.steps_done() == step
            early += step < 3
        elif presses == 1:  # before the first step or after the last
            assert not resume or run.steps_done() == 3
        else:
            early += 1
        assert_whole(run)
        train(experiment, run, resume=resume, progress=False)
        assert_same(run, whole)
        assert_nothing_left(run)
    assert early > 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_request_to_stop_ends_the_training_after_the_step_at_hand(tmp_path, number):
    before = signal.getsignal(number)
    run = start(tmp_path / "run", small(20))
    press = hooked(small(20), 8, lambda: signal.raise_signal(number))
    assert train(press, run, progress=False).step == run.steps_done() == 8
    assert_nothing_left(run)
    assert signal.getsignal(number) is before


def test_the_second_ctrl_c_is_raised_at_once_and_the_last_checkpoint_stays(tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    run, whole = (start(tmp_path / name, small(20)) for name in ("run", "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(hooked(small(20), 8, twice), run, progress=False)
    assert run.steps_done() == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train(small(20), run, resume=True, progress=False)
    train(small(20), whole, progress=False)
    assert_same(run, whole)


def test_ctrl_c_while_a_checkpoint_is_written_waits_until_it_is_whole(tmp_path, monkeypatch):
    def save(self, checkpoint, real=Run.save):
        if checkpoint.step == 5 and not saved:
            saved.append(5)
            signal.raise_signal(signal.SIGINT)
        real(self, checkpoint)

    saved = []
    monkeypatch.setattr(Run, "save", save)
    run = start(tmp_path / "run", small(20))
    assert train(small(20), run, progress=False).step == run.steps_done() == 5


def test_a_background_job_that_ignores_ctrl_c_goes_on_doing_so(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = start(tmp_path / "run", small(10))
        press = hooked(small(10), 8, lambda: signal.raise_signal(signal.SIGINT))
        assert train(press, run, progress=False).step == 10
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def stay(*_, **__):
    """Keep all threads of the pool busy for longer than any test."""
    print("here", flush=True)
    list(group.map_chunks(time.sleep, [300] * 8))


def train_and_stay(place, out):
    """The command line, with a training that takes for ever at some place."""
    EXPERIMENTS["sinusoid"] = small(20)
    name = "sinusoid"
    if place == "loading":
        name, Omniglot.load = "omniglot", stay
    if place == "step":

        def training_tasks(self, step, real=Experiment.training_tasks):
            return stay() if step == 13 else real(self, step)

        Experiment.training_tasks = training_tasks
    if place == "validation":
        Experiment.validate = stay
    if place == "test":
        Experiment.test = stay
    sys.argv = ["tinymaml", "train", name, "--out", out]
    cli.console()


def test_the_second_ctrl_c_does_not_wait_for_what_is_being_computed(tmp_path):
    kept = {"loading": None, "step": 10, "validation": 10, "test": 20}
    with contextlib.ExitStack() as stack:
        processes = {}
        for place in kept:
            process = processes[place] = in_a_process(train_and_stay, place, str(tmp_path / place))
            stack.callback(process.kill)
        for place, process in processes.items():
            while "here" not in (line := process.stdout.readline()):
                assert line, process.stderr.read()
            number = signal.SIGTERM if place == "validation" else signal.SIGINT
            if place in ("step", "validation"):  # the first waits for the step
                process.send_signal(number)
                time.sleep(0.5)
                assert process.poll() is None
            process.send_signal(number)
            said = "".join(process.communicate(timeout=60))
            assert process.returncode == -number
            assert "Traceback" not in said
    for place, step in kept.items():
        run = Run(tmp_path / place)
        if step is None:
            assert not run.path.exists()
        else:
            assert run.steps_done() == step
            assert_nothing_left(run)


def command(*arguments):
    """The command line, with frequent checkpoints and hardly a test."""
    EXPERIMENTS["sinusoid"] = EXPERIMENTS["sinusoid"].replace(log_every=7, checkpoint_every=50)
    Experiment.figures = lambda *_: []
    sys.argv = ["tinymaml", "train", "sinusoid", "--test-tasks", "3", *arguments]
    cli.console()


def wait_for_steps(process, run, steps):
    deadline = time.time() + 60
    while process.poll() is None and time.time() < deadline:
        rows = run.read_metrics()
        if rows and rows[-1]["step"] >= steps:
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate())


def test_stopped_and_killed_and_resumed_from_the_command_line(tmp_path):
    run, whole = Run(tmp_path / "run"), Run(tmp_path / "whole")
    options = ("--meta-batch", "2", "--seed", "5")
    for_long = ("--out", str(run.path), "--steps", "1000000")
    with contextlib.ExitStack() as stack:
        process = in_a_process(command, *for_long, *options)
        stack.callback(process.kill)
        wait_for_steps(process, run, 100)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 130 and "continue with: tinymaml train sinusoid" in said
        stopped = run.steps_done()
        assert stopped >= 100

        process = in_a_process(command, *for_long, "--resume")
        stack.callback(process.kill)
        wait_for_steps(process, run, stopped + 100)
        process.kill()
        process.communicate()
    killed = run.steps_done()
    assert killed >= stopped + 50
    steps = ("--steps", str(killed + 30))
    done(in_a_process(command, "--out", str(run.path), *steps, "--resume"))
    done(in_a_process(command, "--out", str(whole.path), *steps, *options))
    assert_same(run, whole)
    assert not list(run.path.glob(".*"))


# Short of room, or without what was there before


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """The command line with few test tasks, in a folder of its own."""
    monkeypatch.setattr(launch, "TEST_TASKS", 3)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(Experiment, "figures", lambda *_: [])


def call(capsys, *arguments):
    """Return the exit code and what was said last."""
    code = cli.main([str(a) for a in arguments])
    said = capsys.readouterr().err.replace("\r", "\n").strip().split("\n")
    assert "Traceback" not in said and "\x1b" not in said[-1]
    return code, said[-1]


def refused(capsys, *arguments):
    code, said = call(capsys, *arguments)
    assert code == 2 and said.startswith("tinymaml: ") and len(said) < 1100
    return said


@contextlib.contextmanager
def file_limit(size):
    """No file can be longer: to the program it is as if the disk were full."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents_of(run):
    return {path.name: path.read_bytes() for path in run.path.iterdir()}


def test_on_a_full_disk_every_file_is_the_old_one(quick, capsys, monkeypatch):
    options = ("train", "sinusoid", "--meta-batch", 2, "--out", "run")
    run = Run("run")
    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "figures", lambda *_: [])
        assert call(capsys, *options, "--steps", 5)[0] == 0
    config = run.read_json("config.json")
    config["settings"]["steps"] = 9
    run.write_json("config.json", config)
    before = contents_of(run)
    sizes = {name: len(content) for name, content in before.items()}
    for limit in (0, 50, sizes["config.json"], 5000, sizes["checkpoint.npz"] - 1):
        with file_limit(limit):
            said = refused(capsys, *options, "--resume")
        assert "cannot write run/" in said and "make room" in said
        assert contents_of(run) == before
    with file_limit(sizes["checkpoint.npz"] + 1000):  # which a figure is longer than
        assert "cannot write run/fits.png" in refused(capsys, *options, "--resume")
    assert run.steps_done() == run.read_json("results.json")["trained_steps"] == 9
    assert contents_of(run).keys() == before.keys() | {"adaptation.png"}


def in_the_way(run):
    shutil.rmtree(run.path)
    run.path.write_text("a file where the folder was")


def no_replacing(run):
    (run / "checkpoint.npz").rename(run / "kept.npz")
    (run / "checkpoint.npz").mkdir()


@pytest.mark.parametrize("change", [lambda run: shutil.rmtree(run.path), in_the_way, no_replacing])
def test_a_folder_that_is_lost_during_training_is_one_sentence(tmp_path, change):
    run = start(tmp_path / "run", small(20))
    with pytest.raises(UserError, match=r"cannot write .*; make room or choose another folder"):
        train(hooked(small(20), 8, lambda: change(run)), run, progress=False)
    if change is no_replacing:
        assert {"kept.npz", "checkpoint.npz"} <= set(os.listdir(run.path))
        os.rmdir(run / "checkpoint.npz")
        (run / "kept.npz").rename(run / "checkpoint.npz")
        assert run.steps_done() == 5


def test_a_folder_that_may_not_be_written_to_is_one_sentence(quick, no_figures, capsys):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    options = ("train", "sinusoid", "--meta-batch", 2, "--out", "run")
    assert call(capsys, *options, "--steps", 5)[0] == 0
    before = contents_of(Run("run"))
    os.chmod("run", 0o500)
    said = refused(capsys, *options, "--steps", 9, "--resume")
    assert "cannot write run/.lock: Permission denied" in said
    os.chmod("run", 0o700)
    assert contents_of(Run("run")) == before


def photographs(folder):
    """Twelve images of each of six classes in each split, as files."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in (
        f"{split}/{split}{c}/{i}.png"
        for split in ("train", "val", "test")
        for c in range(6)
        for i in range(12)
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / name)


@pytest.mark.filterwarnings("ignore:.*MiniImageNet has:UserWarning")
def test_images_that_are_gone_are_missed_in_one_sentence(quick, capsys, tmp_path):
    photographs(tmp_path / "set")
    options = ("train", "miniimagenet", "--out", "run", "--image-size", 16, "--filters", 2)
    more = ("--meta-batch", 1, "--k-shot", 1, "--n-query", 2, "--data", "set", "--steps", 1)
    assert call(capsys, *options, *more)[0] == 0
    before = contents_of(Run("run"))
    (tmp_path / "set").rename(tmp_path / "elsewhere")
    for command in (("train", "miniimagenet", "--out", "run", "--resume"), ("evaluate", "run")):
        assert f"{tmp_path / 'set'} does not exist; give" in refused(capsys, *command)
    assert contents_of(Run("run")) == before
    assert call(capsys, "evaluate", "run", "--tasks", 2, "--data", "elsewhere")[0] == 0


class Full(io.StringIO):
    """An output whose disk is full."""

    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("output", ["stdout", "stderr"])
def test_an_output_without_room_is_one_sentence_where_it_can_be_said(
    quick, no_figures, capsys, monkeypatch, output
):
    monkeypatch.setattr(sys, output, Full())
    assert cli.main(["train", "sinusoid", "--steps", "5", "--meta-batch", "2"]) == 2
    if output == "stdout":
        assert "No space left on device" in capsys.readouterr().err
    assert_whole(Run("runs/sinusoid"))


# Threads and chunks


def images(seed, channels=3):
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (6, 20, 28, 28, channels), np.uint8))


SMALL = {
    "miniimagenet": {"image_size": 28, "filters": 8, "meta_batch": 3, "inner_steps": 2},
    "omniglot": {"meta_batch": 33},  # of three chunks
    "sinusoid": {"inner_steps": 2},
}


def train_on_threads(name, folder, count, cores):
    if cores:
        os.sched_setaffinity(0, cores)
    if count:
        pool = ThreadPoolExecutor(count)
        threads._pool = lambda: pool
    experiment = EXPERIMENTS[name].replace(steps=3, **SMALL[name])
    if name != "sinusoid":
        channels = 1 if name == "omniglot" else 3
        problem = experiment.problem.with_images(
            {split: images(i, channels) for i, split in enumerate(("train", "val", "test"))}
        )
        experiment = replace(experiment, problem=problem)
    experiment = experiment.replace(log_every=1, validate_every=2, validation_tasks=3)
    run = Run(folder)
    run.start(experiment.config())
    reached = train(experiment, run, progress=False)
    run.write_json("results.json", experiment.test(reached.params, 5))


@pytest.mark.parametrize("name", SMALL)
def test_a_run_does_not_depend_on_threads_cores_and_hashes(tmp_path, name):
    core = [min(os.sched_getaffinity(0))] if hasattr(os, "sched_getaffinity") else None
    ways = [(1, None, "1"), (3, None, "2"), (None, core, "2")]
    processes = []
    for i, (count, cores, blas) in enumerate(ways):
        environment = {"OPENBLAS_NUM_THREADS": blas, "PYTHONHASHSEED": str(i)}
        arguments = name, str(tmp_path / str(i)), count, cores
        processes.append(in_a_process(train_on_threads, *arguments, **environment))
    for process in processes:
        done(process)
    first, *others = (Run(tmp_path / str(i)) for i in range(len(ways)))
    for other in others:
        assert_same(other, first)
        assert other.read_json("results.json") == first.read_json("results.json")


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_chunks_change_rounding_alone(dtype, tolerance):
    experiment = EXPERIMENTS["miniimagenet"].replace(
        image_size=28, filters=4, meta_batch=5, inner_steps=2, n_query=3
    )
    problem = experiment.problem.with_images({"train": images(0)})
    experiment = replace(experiment, problem=problem)
    params = problem.model.init(np.random.default_rng(0), dtype)
    tasks = experiment.training_tasks(1)
    tasks = tm.Task(*[tm.Batch(x.astype(dtype), y) for x, y in tasks])

    def gradient(chunk):
        objective = experiment.learner.objective
        value, gradient = chunks.gradient_by_chunks(objective, params, tasks, chunk)
        return {"loss": value} | {name: g.numpy() for name, g in gradient.items()}

    whole = gradient(None)
    largest = max(abs(g).max() for g in whole.values())
    for chunk in (1, 2, 3, 5, 8):
        for name, g in gradient(chunk).items():
            np.testing.assert_allclose(g, whole[name], rtol=0, atol=tolerance * largest)


# Damaged folders


@pytest.fixture
def trained(quick, no_figures, capsys, monkeypatch):
    """A run of five steps, and a way to try its folder with one file changed."""
    often = {"log_every": 2, "checkpoint_every": 2, "validate_every": 4, "validation_tasks": 2}
    monkeypatch.setitem(EXPERIMENTS, "sinusoid", EXPERIMENTS["sinusoid"].replace(**often))
    assert (
        call(capsys, "train", "sinusoid", "--steps", 5, "--meta-batch", 2, "--out", "run")[0] == 0
    )
    return contents_of(Run("run"))


COMMANDS = {
    "train": ("train", "sinusoid", "--out", "run", "--resume", "--steps", 7),
    "evaluate": ("evaluate", "run", "--tasks", 2),
    "report": ("report", "run", "--out", "page"),
}


def outcomes(capsys, trained, name, content):
    """Return the exit codes of the commands that read a file of the run, with this content."""
    codes = {}
    for kind in READ[name]:
        for path in Path("run").iterdir():
            path.unlink()
        for other, data in (trained | {name: content}).items():
            Path("run", other).write_bytes(data)
        code, said = call(capsys, *COMMANDS[kind])
        assert code == 0 or (code == 2 and said.startswith("tinymaml: ") and len(said) < 1100)
        assert {path.name for path in Path().iterdir()} <= {"run", "page"}
        assert set(os.listdir("run")) == set(trained)
        codes[kind] = code
    return codes


READ = {
    "config.json": ("train", "evaluate", "report"),
    "metrics.csv": ("train", "evaluate", "report"),
    "checkpoint.npz": ("train", "evaluate"),
    "results.json": ("report",),
}


@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_is_one_sentence_or_harmless(capsys, trained, name):
    rng, whole = np.random.default_rng(0), trained[name]
    for length in rng.integers(len(whole), size=8):
        content = whole[:length]
        codes = outcomes(capsys, trained, name, content)
        harmless = False
        if name == "metrics.csv":  # lacking rows is no damage
            rows = content.splitlines()[1:]
            harmless = not rows or rows[-1] in whole.splitlines()
        assert set(codes.values()) == {2} or harmless
    binary = name == "checkpoint.npz"
    for place in rng.integers(len(whole), size=8 * binary):
        content = bytearray(whole)
        content[place] ^= 1 << rng.integers(8)
        codes = outcomes(capsys, trained, name, bytes(content))
        if codes["evaluate"] == 0:
            like = EXPERIMENTS["sinusoid"].init()
            (Path("run") / name).write_bytes(content)
            found = Run("run").load(like).params
            with np.load(io.BytesIO(whole)) as archive:
                for key, p in found.items():
                    np.testing.assert_array_equal(p.data, archive[f"params/{key}"])


OTHER = {"experiment": "omniglot", "settings": {}}
CONFIGS = {
    "infinite rate": b'{"experiment": "sinusoid", "settings": {"inner_lr": 1e999}}',
    "NaN": b'{"experiment": "sinusoid", "settings": {"meta_lr": NaN}}',
    "a list as name": b'{"experiment": [], "settings": {}}',
    "a number as data": json.dumps(OTHER | {"data": 5}).encode(),
    "not UTF-8": b"\xff\xfe{}",
}
HEAD = ",".join(COLUMNS).encode()
METRICS = {
    "no number": HEAD + b"\n2,1.0,much,,\n",
    "a line cut off": HEAD + b"\n2,1.0,2.0",
    "no column of diverged tasks": b"step,seconds,meta_loss,validation\n2,1.0,2.0,\n",
    "not UTF-8": b"\xff",
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_configuration_of_another_form_is_one_sentence(capsys, trained, kind):
    codes = outcomes(capsys, trained, "config.json", CONFIGS[kind])
    assert codes["train"] == codes["evaluate"] == 2


@pytest.mark.parametrize("kind", METRICS)
def test_metrics_of_another_form_are_one_sentence(capsys, trained, kind):
    assert set(outcomes(capsys, trained, "metrics.csv", METRICS[kind]).values()) == {2}


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archive(trained, **members):
    """The trained checkpoint with members changed, or left out where None."""
    file = io.BytesIO()
    with np.load(io.BytesIO(trained["checkpoint.npz"])) as old:
        content = {name: npy(old[name]) for name in old.files} | members
    with zipfile.ZipFile(file, "w") as new:
        for name, data in content.items():
            if data is not None:
                new.writestr(f"{name}.npy", data)
    return file.getvalue()


class Payload:
    """Leaves a folder behind when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("evil",)


WEIGHT = "params/linear1.weight"
EVIL = np.array([Payload()], dtype=object)
CHECKPOINTS = {
    "a missing array": lambda t: archive(t, **{WEIGHT: None}),
    "too little data": lambda t: archive(t, **{WEIGHT: npy(np.zeros((1, 40), np.float32))[:-8]}),
    "another precision": lambda t: archive(t, **{WEIGHT: npy(np.zeros((1, 40)))}),
    "a pickle": lambda t: archive(t, meta=npy(EVIL)),
    "a pickled weight": lambda t: archive(t, **{WEIGHT: npy(EVIL)}),
    "a pickle alone": lambda t: pickle.dumps(Payload()),
    "an array alone": lambda t: npy(np.zeros(3)),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_of_another_form_is_one_sentence_and_nothing_in_it_runs(capsys, trained, kind):
    codes = outcomes(capsys, trained, "checkpoint.npz", CHECKPOINTS[kind](trained))
    assert codes == {"train": 2, "evaluate": 2}
    assert not Path("evil").exists()
