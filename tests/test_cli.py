"""The command line, as a user calls it: exit codes, sentences, files."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import glyphs
import numpy as np
import pytest

from tinymaml import cli
from tinymaml.engine import backend
from tinymaml.experiments import EXPERIMENTS
from tinymaml.experiments.runs import Run
from tinymaml.tasks import omniglot

pytestmark = pytest.mark.numpy_only


@pytest.fixture(scope="module")
def characters(tmp_path_factory):
    """A folder with Omniglot's two zips, drawn with seven glyphs."""
    folder = tmp_path_factory.mktemp("omniglot")
    for part in ("images_background", "images_evaluation"):
        glyphs.write_zip(folder, part)
    return folder


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYMAML_DATA", raising=False)
    monkeypatch.setenv("TINYMAML_CACHE", str(tmp_path / "cache"))


def call(*arguments):
    """Return the exit code; argparse leaves by SystemExit."""
    try:
        return cli.main([str(a) for a in arguments])
    except SystemExit as left:
        return left.code


def refused(capsys, *arguments):
    """Return the one sentence that a refused call prints."""
    assert call(*arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(said)
    return said[-1]


def test_sinusoid_from_training_to_figures(capsys, tmp_path):
    assert call("train", "sinusoid", "--steps", 100, "--out", "run") == 0
    said, progress = capsys.readouterr()
    assert "K = 5" in said and "paper" in said and "0.67" in said and "+-" in said
    assert "testing on 600 tasks" in said
    assert said.count("Trained for 100 of 70,000 iterations.") == 1
    assert "100/100" in progress and "test: " in progress and "/1800 [" in progress
    run = Run(tmp_path / "run")
    assert {p.name for p in run.path.iterdir()} == {
        "config.json",
        "metrics.csv",
        "checkpoint.npz",
        "training.json",
        "results.json",
        "learning_curve.png",
        "adaptation.png",
        "fits.png",
    }
    results = run.read_json("results.json")
    assert results["trained_steps"] == 100 and results["settings"]["meta_batch"] == 25
    assert results["peak_memory_mb"] > 20 and results["train_seconds"] > 0
    assert results["training"] == run.read_json("training.json")
    assert results["training"]["peak_memory_mb"] > 20
    curve = results["curves"]["K = 10"]
    assert len(curve["mean"]) == len(curve["ci95"]) == 11 and curve["tasks"] == 600
    for picture in run.path.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")

    assert call("evaluate", "run", "--tasks", 50) == 0
    again = run.read_json("results.json")
    assert again["curves"]["K = 5"]["tasks"] == 50
    assert again["training"] == results["training"]
    said, progress = capsys.readouterr()
    assert "over 50 tasks" in said and "/150 [" in progress


@pytest.mark.slow
def test_omniglot_from_zips_to_results(capsys, characters, tmp_path):
    options = ("--steps", 2, "--meta-batch", 9, "--data", characters, "--test-tasks", 20)
    assert call("train", "omniglot", *options) == 0
    said = capsys.readouterr().out
    assert "batch norm: query batch" in said and "98.7" in said and "over 20 tasks" in said
    config = Run(tmp_path / "runs/omniglot").read_json("config.json")
    assert config["settings"] == EXPERIMENTS["omniglot"].replace(steps=2, meta_batch=9).config()
    # the folder of the images is remembered
    assert call("evaluate", "runs/omniglot", "--tasks", 10) == 0
    # and a test may be another than the run's own
    assert call("evaluate", "runs/omniglot", "--tasks", 10, "--test-query", 3) == 0
    assert "3 query/class" in capsys.readouterr().out
    assert Run(tmp_path / "runs/omniglot").read_json("config.json") == config
    assert call("report", "runs/omniglot", "--out", "page") == 0
    assert "--test-query 3" in (tmp_path / "page/report.md").read_text()
    more = ("--steps", 3, "--resume", "--data", characters, "--test-tasks", 2)
    assert call("train", "omniglot", *more) == 0


def test_without_data_the_sentence_says_what_to_download(capsys):
    said = refused(capsys, "train", "omniglot")
    assert "images_background.zip (md5 68d2efa1b9178cc56df9314c21c6e718)" in said
    assert "--download" in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--n-way", 0], "--n-way is 0; give at least 2 classes"),
        (["--k-shot", 30], "more than the 20 drawings"),
        (["--meta-lr", -1], "--meta-lr is -1.0; give a number above 0"),
        (["--inner-lr", "fast"], "argument --inner-lr: invalid float value: 'fast'"),
        (["--data", "nowhere"], "nowhere does not exist"),
        (["--backend", "abacus"], "invalid choice: 'abacus'"),
    ],
)
def test_nonsense_options(capsys, options, sentence):
    assert sentence in refused(capsys, "train", "omniglot", *options)


def test_a_wrong_folder_and_a_truncated_zip(capsys, characters, tmp_path):
    assert "holds no images_background" in refused(capsys, "train", "omniglot", "--data", tmp_path)
    cut = tmp_path / "cut"
    cut.mkdir()
    for name in ("images_background.zip", "images_evaluation.zip"):
        data = (characters / name).read_bytes()
        (cut / name).write_bytes(data[: len(data) // 2])
    assert "images_background.zip" in refused(capsys, "train", "omniglot", "--data", cut)


def test_an_unwritable_output(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    said = refused(capsys, "train", "sinusoid", "--steps", 5, "--out", "file/run")
    assert "cannot make the folder file/run" in said


@pytest.mark.slow
def test_a_run_is_not_overwritten_and_resumes_only_as_it_was(capsys):
    assert call("train", "sinusoid", "--steps", 5, "--out", "run") == 0
    # nothing is left to train, so the training's facts stay
    Run("run").write_json("training.json", {"peak_memory_mb": 1e6})
    assert call("train", "sinusoid", "--steps", 5, "--out", "run", "--resume") == 0
    assert Run("run").read_json("training.json") == {"peak_memory_mb": 1e6}
    assert call("train", "sinusoid", "--steps", 6, "--out", "run", "--resume") == 0
    facts = Run("run").read_json("training.json")
    (Path("fresh")).mkdir()
    Run("fresh").write_json("training.json", {"peak_memory_mb": 1e6})  # of another training
    assert call("train", "sinusoid", "--steps", 5, "--out", "fresh") == 0
    assert Run("fresh").read_json("training.json")["peak_memory_mb"] < 1e6
    Run("fresh").write_json("training.json", {"peak_memory_mb": "much"})
    assert "has no number as its memory" in refused(capsys, "evaluate", "fresh")
    assert facts["peak_memory_mb"] == 1e6 and facts["cores"] > 0  # the most of all
    capsys.readouterr()
    assert "add --resume" in refused(capsys, "train", "sinusoid", "--steps", 5, "--out", "run")
    said = refused(capsys, "train", "sinusoid", "--inner-lr", 0.1, "--out", "run", "--resume")
    assert "--inner-lr 0.1 differs from the run's 0.01" in said
    said = refused(capsys, "train", "omniglot", "--out", "run", "--resume")
    assert "is a run of 'sinusoid'" in said
    assert "holds no run" in refused(capsys, "train", "sinusoid", "--out", "none", "--resume")
    said = refused(capsys, "train", "sinusoid", "--steps", 4, "--out", "run", "--resume")
    assert "--steps is 4, but run has done 6" in said


@pytest.mark.slow
def test_a_start_that_failed_does_not_block_the_folder(capsys, monkeypatch, characters):
    few = ("--steps", 1, "--meta-batch", 2, "--test-tasks", 2)
    options = ("train", "omniglot", *few, "--data", characters)
    monkeypatch.setenv("TINYMAML_BACKEND", "abacus")
    monkeypatch.setattr(backend, "_current", None)
    assert "backend 'abacus' is unknown" in refused(capsys, *options)
    monkeypatch.delenv("TINYMAML_BACKEND")
    said = refused(capsys, *options, "--n-way", 150)
    assert "the 'val' classes do not suffice for --k-shot 1 and --test-query 1" in said
    assert "150-way episodes need 150 classes, but there are 100" in said
    assert call(*options) == 0


@pytest.mark.parametrize("wrong", [("--meta-lr", 1e30), ("--meta-batch", 10**6, "--k-shot", 10**6)])
def test_a_first_command_that_failed_does_not_block_the_right_one(capsys, wrong):
    options = ("train", "sinusoid", "--steps", 3, "--test-tasks", 2)
    assert "not " in refused(capsys, *options, *wrong)
    assert call(*options) == 0
    assert Run("runs/sinusoid").read_json("config.json")["settings"]["meta_lr"] == 0.001


def test_a_run_in_use_is_locked_and_can_be_read(capsys):
    options = ("train", "sinusoid", "--out", "run", "--test-tasks", 2, "--meta-batch", 2)
    assert call(*options, "--steps", 3) == 0
    with Run("run").locked():
        for more in ((), ("--resume", "--steps", 5)):
            said = refused(capsys, *options, *more)
            assert "another training is at work in run; wait for it, or choose another" in said
        assert call("evaluate", "run", "--tasks", 2) == 0
        assert call("report", "run", "--out", "page") == 0
    assert call(*options, "--resume", "--steps", 5) == 0
    assert not list(Path("run").glob(".*"))
    Path("run/.lock").write_text("")  # of a process that was killed
    assert call(*options, "--resume", "--steps", 6) == 0


def test_what_nobody_thought_of_is_one_sentence_with_the_place_of_the_traceback(
    capsys, monkeypatch, tmp_path
):
    def broken(*_, **__):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(cli.launch, "train_run", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    said = refused(capsys, "train", "sinusoid")
    (kept,) = tmp_path.glob("tinymaml-*")
    assert "ZeroDivisionError: by nought, an error of ours" in said and str(kept) in said
    assert kept.read_text().startswith("Traceback") and "in broken" in kept.read_text()


def test_the_end_of_options_is_not_the_value_of_one(capsys):
    for options in (("evaluate", "run", "--tasks=--"), ("train", "sinusoid", "--steps=--")):
        assert "-- is not the value of an option" in refused(capsys, *options)
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["omniglot", "miniimagenet"])
def test_a_home_of_nobody_does_not_exist(capsys, name):
    assert "~nobody-here does not exist" in refused(capsys, "train", name, "--data", "~nobody-here")


def test_characters_are_read_where_there_is_no_home(monkeypatch, characters):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert len(omniglot.load(characters).images) == 1623


STREAMS = {
    "closed": ">&- 2>&- <&-",
    "output closed": ">&-",
    "errors closed": "2>&-",
}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="about shells of Unix")
def test_streams_that_are_closed_or_know_ascii_alone(tmp_path):
    train = f"{sys.executable} -m tinymaml train sinusoid --steps 2 --meta-batch 2 --test-tasks 2"
    for folder, streams in STREAMS.items():
        subprocess.run(f"{train} --out '{folder}' {streams}", shell=True, check=True)
        assert Run(folder).read_json("results.json")["trained_steps"] == 2
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([*train.split(), "--out", "é"], env=environment, capture_output=True)
    assert done.returncode == 0 and rb"figures: \xe9/adaptation.png" in done.stdout
    # and mathematics that is none in the names of figures
    for name in ("r$\\frac$1", "$x_$"):
        Path("a$b_", name).parent.mkdir(exist_ok=True)
        shutil.copytree("closed", Path("a$b_", name))
    assert call("report", *Path("a$b_").iterdir(), "--out", "page") == 0


@pytest.mark.parametrize("tasks", [1, 0, -3])
def test_too_few_test_tasks_are_refused_before_the_training(capsys, tasks):
    said = refused(capsys, "train", "sinusoid", "--steps", 5, "--test-tasks", tasks)
    assert f"--test-tasks is {tasks}; give at least 2, for an interval" in said
    assert not Path("runs").exists()
    said = refused(capsys, "evaluate", "run", "--tasks", tasks)
    assert f"--tasks is {tasks}; give at least 2, for an interval" in said
    said = refused(capsys, "evaluate", "run", "--tasks", 10**20)
    assert "give at least 2, for an interval, a million at most" in said


def test_a_damaged_configuration(capsys, tmp_path):
    assert call("train", "sinusoid", "--steps", 5, "--out", "run") == 0
    config = tmp_path / "run/config.json"
    for content in ("{", "[]", '{"experiment": "sinusoid", "settings": {"steps": "x"}}', "{}"):
        config.write_text(content)
        assert refused(capsys, "evaluate", "run")
    assert "no run" in refused(capsys, "evaluate", "nowhere")


def test_a_diverging_training_is_one_sentence(capsys):
    with np.errstate(all="ignore"):
        said = refused(capsys, "train", "sinusoid", "--steps", 50, "--inner-lr", 1e30)
    assert "not finite at step" in said and "kept in runs/sinusoid" in said


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is installed here")
def test_cupy_without_cupy_is_one_sentence_with_the_command(capsys):
    said = refused(capsys, "train", "sinusoid", "--backend", "cupy")
    assert "CuPy is not installed" in said and "pip install" in said


@pytest.mark.slow
def test_a_report_of_two_seeds(capsys, tmp_path):
    for seed in (0, 1):
        assert call("train", "sinusoid", "--steps", 100, "--seed", seed, "--out", f"run{seed}") == 0
    assert call("report", "run0", "run1", "--out", "page") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["page/report.md", "page/report.html"]
    text = (tmp_path / "page/report.md").read_text()
    assert "(2 seeds)" in text and "100 of 70,000 iterations" in text
    assert "holds no run" in refused(capsys, "report", "nowhere")
    said = refused(capsys, "evaluate", "run0", "--test-query", 3)
    assert "--test-query has no meaning for sinusoid" in said


@pytest.mark.slow
def test_the_images_of_a_folder_are_checked_and_shown(capsys, characters, tmp_path):
    assert call("data", "omniglot", "--root", characters, "--out", "page.png") == 0
    said = capsys.readouterr().out
    assert ["random", "train", "1100", "22000", "20"] in [
        row.split()[:5] for row in said.splitlines()
    ]
    assert "not the published ones" in said
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    assert "nowhere" in refused(capsys, "data", "miniimagenet", "--root", "nowhere")


def test_help_and_version(capsys):
    assert call("train", "omniglot", "--help") == 0
    assert "--inner-lr" in capsys.readouterr().out
    for name, preset in EXPERIMENTS.items():
        assert call("train", name, "--help") == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f" {preset.label}: " in said and f"; {preset.problem.task} options:" in said
        first = type(preset.problem).__doc__.splitlines()[0]
        assert first.endswith((".", ":"))  # a whole sentence, as the help shows it
    assert call("--version") == 0
    assert call() == 2
