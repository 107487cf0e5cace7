"""The networks that the package ships: they load, they are what they say, and how one is made."""

import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import tinymaml as tm
from tinymaml import cli
from tinymaml.errors import UserError
from tinymaml.experiments import EXPERIMENTS
from tinymaml.experiments.classification import Omniglot
from tinymaml.experiments.presets import experiment_of
from tinymaml.experiments.pretrained import FOLDER, names, pack
from tinymaml.experiments.runs import Run

pytestmark = pytest.mark.numpy_only
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 20 steps."""
    folder = tmp_path_factory.mktemp("runs") / "waves"
    words = ("train", "sinusoid", "--steps", 20, "--inner-lr", 0.02, "--test-tasks", 4)
    assert cli.main([*map(str, words), "--out", str(folder)]) == 0
    return folder


def refused(capsys, *words):
    assert cli.main([str(word) for word in words]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("name", names())
def test_a_network_is_what_it_says(name):
    learner, params = tm.pretrained(name)
    assert {p.dtype for p in params.values()} == {np.dtype("float32")}
    run = Run(FOLDER / name)
    config, results = run.read_json("config.json"), run.read_json("results.json")
    assert config["data"] is None  # whose machine it was is nobody's business
    kind, experiment = experiment_of(run)
    assert type(learner) is type(experiment.learner) is type(EXPERIMENTS[kind].learner)
    assert results["settings"].items() <= config["settings"].items()
    assert f"seed {config['settings']['seed']}" in results["protocol"] and results["rows"]
    # the command is one, and makes this network
    program, train, *words = shlex.split(config["command"], comments=True)
    assert (program, train) == ("tinymaml", "train")
    given = vars(cli._parser().parse_args([train, *words]))
    settings = {n: given[n] for n in EXPERIMENTS[kind].options() if n in given}
    assert given["experiment"] == kind
    if experiment.schedule.decay not in ("linear", "cosine"):
        experiment = experiment.replace(steps=results["trained_steps"])
    elif experiment.schedule.steps != results["trained_steps"]:  # its rate was still falling
        assert f"# stopped after {results['trained_steps']}" in config["command"]
    assert EXPERIMENTS[kind].replace(**settings).config() == experiment.config()


def test_all_of_them_are_small():
    assert {"sinusoid", "omniglot", "omniglot-protonet", "navigation"} <= set(names())
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 12e6


def test_an_unknown_name_is_a_sentence_with_the_known_ones(capsys):
    with pytest.raises(UserError, match="no trained network has the name 'om'; choose one of"):
        tm.pretrained("om")
    said = refused(capsys, "evaluate", "pretrained:../trained/omniglot")
    assert all(name in said for name in names())


@pytest.mark.parametrize("name", ["", None, 3])
def test_what_is_no_name_is_a_sentence_with_the_known_ones(name):
    with pytest.raises(UserError, match=f"{name!r} is no name; choose one of {names()[0]}"):
        tm.pretrained(name)


def test_a_name_may_have_the_prefix_of_the_command_line(capsys):
    (learner, params), (same, others) = map(tm.pretrained, ("omniglot", "pretrained:omniglot"))
    assert type(learner) is type(same) and params.keys() == others.keys()
    with pytest.raises(UserError, match="no trained network has the name 'om'"):
        tm.pretrained("pretrained:om")
    said = refused(capsys, "pack", "pretrained:omniglot", "small")
    assert "pretrained:omniglot ships with the package; give the folder of a run of yours" in said
    said = refused(capsys, "report", "pretrained:omniglot")
    assert "give the folder of a run of yours" in said and not list(Path().iterdir())


def test_the_list_shows_each_with_its_score(capsys):
    assert cli.main(["list"]) == 0
    shown = capsys.readouterr().out.split("trained networks")[1]
    for name in names():
        (line,) = [line for line in shown.splitlines() if line.split()[:1] == [name]]
        assert " +- " in line


def test_a_run_is_packed_loaded_and_packed_anew(capsys, trained):
    pack(trained, "small")
    assert {path.name for path in Path("small").iterdir()} == {
        "config.json",
        "results.json",
        "checkpoint.npz",
    }
    config = Run("small").read_json("config.json")
    assert config["command"] == "tinymaml train sinusoid --inner-lr 0.02 --steps 20 --seed 0"
    (learner, params), (_, own) = tm.pretrained("small"), tm.pretrained(trained)
    assert learner.lr == 0.02
    for name, p in Run(trained).load(params).params.items():
        np.testing.assert_array_equal(params[name].numpy(), p.numpy())
        np.testing.assert_array_equal(own[name].numpy(), p.numpy())
    size = lambda folder: Path(folder, "checkpoint.npz").stat().st_size
    assert size("small") < size(trained) / 2  # without the optimiser
    # a better one may take its place, a run's place it may not
    assert cli.main(["pack", str(trained), "small"]) == 0
    assert "holds a run; choose another folder" in refused(capsys, "pack", "small", trained)
    assert cli.main(["evaluate", "small", "--tasks", "5"]) == 0


def test_a_run_is_packed_with_the_test_of_its_own_checkpoint(capsys, trained):
    shutil.copytree(trained, "run")
    results = Run("run").read_json("results.json")
    Run("run").write_json("results.json", results | {"trained_steps": 19})
    said = refused(capsys, "pack", "run", "small")
    assert "has no test of its checkpoint; run `tinymaml evaluate` on it" in said
    Path("run/results.json").unlink()
    assert "has no test of its checkpoint" in refused(capsys, "pack", "run", "small")
    assert "holds no run" in refused(capsys, "pack", "nowhere", "small")
    assert not Path("small").exists()


def test_evaluating_writes_where_it_is_told_to_and_else_nowhere(capsys, trained):
    before = {path: path.stat().st_mtime for path in FOLDER.rglob("*")}
    assert cli.main(["evaluate", "pretrained:sinusoid", "--tasks", "5"]) == 0
    said = capsys.readouterr().out
    assert "over 5 tasks" in said and "K = 5" in said and "figures" not in said
    assert not list(Path().iterdir())
    assert cli.main(["evaluate", "pretrained:sinusoid", "--tasks", "5", "--out", "here"]) == 0
    assert Run("here").read_json("results.json")["rows"][0]["tasks"] == 5
    assert {path: path.stat().st_mtime for path in FOLDER.rglob("*")} == before
    assert cli.main(["report", "here", "--out", "page"]) == 0
    said = refused(capsys, "evaluate", "pretrained:sinusoid", "--tasks", 5, "--out", trained)
    assert "already holds a run" in said


class Trap:
    def __reduce__(self):
        return open, ("sprung", "w")


def test_nothing_in_a_file_is_executed(trained):
    pack(trained, "small")
    with np.load("small/checkpoint.npz") as archive:
        arrays = dict(archive)
    first = next(name for name in arrays if name.startswith("params/"))
    np.savez("small/checkpoint.npz", **arrays | {first: np.array([Trap()], object)})
    with pytest.raises(UserError, match="is damaged, or is not a checkpoint"):
        tm.pretrained("small")
    assert not Path("sprung").exists()


@pytest.mark.parametrize("wrong", [{"steps": "x"}, {"n_way": 5}, {"inner_lr": -1.0}])
def test_wrong_settings_are_one_sentence(trained, wrong):
    pack(trained, "small")
    config = Run("small").read_json("config.json")
    config["settings"] |= wrong
    Run("small").write_json("config.json", config)
    with pytest.raises(UserError, match=r"steps|n_way|inner-lr"):
        tm.pretrained("small")


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("setuptools"), reason="setuptools is not installed")
def test_wheel_and_source_archive_include_them(tmp_path):
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "tinymaml", tmp_path / "tinymaml")
    command = [sys.executable, "setup.py", "-q", "sdist", "--formats=zip", "build"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (archive,) = (tmp_path / "dist").iterdir()
    built = tmp_path / "build" / "lib"  # what a wheel holds
    held = [zipfile.ZipFile(archive).namelist(), [str(path) for path in built.rglob("*")]]
    for path in filter(Path.is_file, FOLDER.rglob("*")):
        inside = f"tinymaml/{path.relative_to(ROOT / 'tinymaml').as_posix()}"
        for names_held in held:
            assert any(name.endswith(inside) for name in names_held), inside


# What they can do


def scored(name, n_tasks, data=None):
    """Return the first test of a network on tasks of its own, its scores by steps."""
    _, experiment = experiment_of(Run(FOLDER / name))
    if data:
        experiment, _ = experiment.load(data)
    _, params = tm.pretrained(name)
    trial = next(experiment.method.trials(experiment.problem, params, experiment.schedule))
    return trial, trial.score("test", np.random.default_rng(0), n_tasks)["mean"]


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("sinusoid")])
def test_waves_are_learned_from_five_points(name):
    _, errors = scored(name, 200)
    # predicting 0 has an error of 4.2
    assert errors[10] < {"sinusoid-oracle": 0.01, "sinusoid-pretrained": 3.0}.get(name, 0.8)
    if name in ("sinusoid", "sinusoid-first-order"):
        assert errors[0] > 2 > errors[1] > errors[10]


def test_a_policy_finds_goals_after_one_update():
    _, experiment = experiment_of(Run(FOLDER / "navigation"))
    _, params = tm.pretrained("navigation")
    returns = experiment.test(params, 5)["curves"]["40 rollouts"]["mean"]
    assert returns[1] > -20 > returns[0]


@pytest.mark.slow
def test_a_robot_runs_either_way_after_one_update():
    pytest.importorskip("mujoco")
    _, experiment = experiment_of(Run(FOLDER / "cheetah-direction"))
    learner, params = tm.pretrained("cheetah-direction")
    rngs = lambda task, update: np.random.default_rng((task, update))
    either = np.array([-1.0, 1.0])  # backward and forward
    before, after = learner.path(params, either, rngs, experiment.method.rates()[:1])
    assert before.returns.mean() < 50 and after.returns.min() > 100


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("omniglot")])
def test_characters_are_told_apart(name, data_root):
    trial, accuracy = scored(name, 20, str(data_root / "omniglot"))
    chance = 1 / trial.problem.n_way
    assert accuracy[trial.steps.index(trial.rows[0])] > chance + (1 - chance) / 3
    # and as an estimator, which classifies each image by itself; not on streams but on episodes
    learner, params = tm.pretrained(name)
    few = tm.FewShotClassifier(learner, params)
    episodes = Omniglot(n_way=trial.problem.n_way, k_shot=1, images=trial.problem.images)
    tasks = next(episodes.blocks("test", np.random.default_rng(1), 20))
    each = [few.fit(x, y).score(*query) for x, y, query in zip(*tasks.support, zip(*tasks.query))]
    assert np.mean(each) > chance + (1 - chance) / 3


def test_the_protocol_is_told_anew(capsys, data_root):
    stored = json.loads((FOLDER / "omniglot" / "results.json").read_text())
    words = ["evaluate", "pretrained:omniglot", "--data", str(data_root / "omniglot")]
    assert cli.main([*words, "--tasks", "4"]) == 0
    said = capsys.readouterr().out
    assert "over 4 tasks" in said and stored["protocol"].split("; resize")[1] in said
