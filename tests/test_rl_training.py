"""Algorithm 3 by the command line and in MuJoCo: runs, resumed and shared out, and robots."""

import sys

import numpy as np
import pytest

import tinymaml as tm
from tinymaml import cli, rl
from tinymaml.errors import UserError
from tinymaml.experiments import EXPERIMENTS, Reinforcement, Run, paper
from tinymaml.experiments.report import report
from tinymaml.experiments.training import meta_step, train
from tinymaml.parallel.start import together
from tinymaml.rl import mujoco

pytestmark = pytest.mark.numpy_only

SMALL = ("--meta-batch", "5", "--rollouts", "2")


@pytest.fixture
def short(monkeypatch):
    """Walks of 10 steps in place of 100."""
    monkeypatch.setattr(rl.Navigation2D, "horizon", 10)


def small(steps=4, **settings):
    return EXPERIMENTS["navigation"].replace(steps=steps, meta_batch=6, rollouts=2, **settings)


def trained(experiment, run, resume=False, processes=1):
    if not resume:
        run.start({"experiment": "navigation", "settings": experiment.config()})
    return together(train, experiment, run, resume, False, processes=processes)


def arrays(run):
    with np.load(run / "checkpoint.npz") as archive:
        return {name: archive[name] for name in archive.files}


def same(one, other):
    one, other = arrays(one), arrays(other)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


@pytest.mark.slow
@pytest.mark.parametrize("update", ["trpo", "ppo"])
def test_a_resumed_run_equals_one_without_a_break_bit_for_bit(tmp_path, update):
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    trained(small(4, update=update), whole)
    trained(small(2, update=update), parts)
    trained(small(4, update=update), parts, resume=True)
    same(whole, parts)
    rows = [[{**row, "seconds": 0} for row in run.read_metrics()] for run in (whole, parts)]
    assert rows[0] == rows[1] and len(rows[0]) == 4


@pytest.mark.slow
def test_two_processes_learn_what_one_does_bit_for_bit(tmp_path):
    one, two = Run(tmp_path / "one"), Run(tmp_path / "two")
    trained(small(2), one)
    trained(small(2), two, processes=2)
    same(one, two)


@pytest.mark.slow
def test_training_adapts_better_than_it_did():
    """Minus the return after one update, in the mean of five iterations, falls by a third."""
    experiment = EXPERIMENTS["navigation"].replace(meta_batch=10, rollouts=10, inner_lr=0.1)
    params = experiment.init()
    state, losses = experiment.optimizer_state(params), []
    for step in range(1, 16):
        params, state, value = experiment.step(step, params, state)
        losses.append(value)
    after, before, _ = np.array(losses).T
    assert after[-5:].mean() < 2 / 3 * after[:5].mean()
    assert after[-5:].mean() < before[-5:].mean() - 5


def test_the_command_trains_tests_reports_and_evaluates(tmp_path, capsys, short):
    run = Run(tmp_path / "run")
    options = [*SMALL, "--steps", "1", "--test-tasks", "3", "--out", str(run.path)]
    assert cli.main(["train", "navigation", *options]) == 0
    said = capsys.readouterr()
    assert "40 rollouts" in said.out and "-40.4" in said.out
    results = run.read_json("results.json")
    assert [row["steps"] for row in results["rows"]] == [0, 1, 2, 3]
    assert "step sizes 0.1, 0.05, 0.05" in results["protocol"]
    assert {p.name for p in run.path.glob("*.png")} == {
        "learning_curve.png",
        "adaptation.png",
        "paths.png",
    }
    again = results["rows"]
    assert cli.main(["evaluate", str(run.path), "--tasks", "3"]) == 0
    assert run.read_json("results.json")["rows"] == again
    report([run.path], tmp_path / "page")
    page = (tmp_path / "page" / "report.md").read_text(encoding="utf-8")
    assert "**Return, paper and ours**" in page and "-11.7 ± 2.2" in page


@pytest.mark.parametrize("name", [n for n in EXPERIMENTS if n.startswith("navigation-")])
def test_what_is_beside_maml_starts_by_its_name(name, tmp_path, capsys, short, monkeypatch):
    monkeypatch.setattr(Reinforcement, "figures", lambda *_: [])  # drawn in the test above
    options = [
        "--meta-batch",
        "3",
        "--rollouts",
        "2",
        "--steps",
        "1",
        "--test-tasks",
        "2",
        "--eager",
    ]
    assert cli.main(["train", name, *options, "--out", str(tmp_path / "run")]) == 0
    results = Run(tmp_path / "run").read_json("results.json")
    assert len(results["rows"]) == (1 if name == "navigation-oracle" else 4)
    assert results["rows"][0]["method"] == EXPERIMENTS[name].label
    if name == "navigation-random":
        kept = arrays(Run(tmp_path / "run"))
        for key, p in EXPERIMENTS[name].init().items():
            np.testing.assert_array_equal(kept[f"params/{key}"], p.numpy())


def test_the_oracle_sees_its_goal_and_the_others_do_not():
    oracle, maml = (EXPERIMENTS[n].learner for n in ("navigation-oracle", "navigation"))
    assert (oracle.policy.network.layers[0].inputs, maml.policy.network.layers[0].inputs) == (4, 2)
    goals = np.array([[0.1, -0.4]])
    seen, _ = oracle.environment(goals, 2).reset([None])
    np.testing.assert_array_equal(seen, [[[0, 0, 0.1, -0.4]] * 2])


def test_a_policy_that_diverges_ends_the_training_and_keeps_the_last_checkpoint(tmp_path):
    run = Run(tmp_path / "run")
    trained(small(1, update="none"), run)
    with pytest.raises(
        UserError, match=r"not finite at step \d+ in iteration 2: the training .* kept"
    ):
        experiment = small(3, update="none")
        experiment.__dict__["learner"] = Wild(**vars(experiment.learner))
        together(train, experiment, run, True, False)
    assert run.steps_done() == 1


class Wild(rl.MAML):
    def adapt(self, params, rollouts, lr=None):
        return {name: p * np.float32(np.inf) for name, p in params.items()}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--surrogate", "plain"], "choose reinforce, dice or low-variance"),
        (["--update", "sgd"], "choose trpo, ppo or none"),
        (["--rollouts", "1"], "give 2 or more"),
        (["--max-kl", "0"], "give a number above 0"),
    ],
)
def test_bad_options_are_named(options, sentence, capsys, tmp_path):
    assert cli.main(["train", "navigation", *options, "--out", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err


def test_a_missing_simulator_names_the_install_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    mujoco._model.cache_clear()
    options = ["--meta-batch", "2", "--rollouts", "2", "--steps", "1", "--out", str(tmp_path)]
    assert cli.main(["train", "cheetah-direction", *options]) == 2
    assert "pip install 'tinymaml[rl]'" in capsys.readouterr().err


def test_reference_returns():
    assert paper.value("2D navigation", "MAML", "40 rollouts", 1) == (-11.7, 2.2)
    assert paper.value("half-cheetah direction", "MAML", "20 rollouts", 3) == (315.7, 13.9)
    for name, preset in EXPERIMENTS.items():
        if isinstance(preset, Reinforcement):
            assert preset.problem.data in paper.RETURNS, name
            if "first-order" not in name and name != "navigation-pretrained":
                assert preset.problem.paper_values(preset.method), name
    random, oracle = (EXPERIMENTS[f"ant-velocity-{end}"] for end in ("random", "oracle"))
    assert random.problem.printed(random.label) == "-78.6 / -62.8 / -48.6 / -35.6"
    assert oracle.problem.printed(oracle.label) == "107.9"


# Robots

ROBOTS = {
    "cheetah-direction": (mujoco.HalfCheetahDirection, lambda v, g: g * v, 0.05, 0),
    "cheetah-velocity": (mujoco.HalfCheetahVelocity, lambda v, g: -abs(v - g), 0.05, 0),
    "ant-direction": (mujoco.AntDirection, lambda v, g: g * v, 0.005, 0.05),
    "ant-velocity": (mujoco.AntVelocity, lambda v, g: 1 - abs(v - g), 0.005, 0.05),
}


@pytest.mark.parametrize("name", ROBOTS)
def test_a_robot_moves_as_its_simulator_says_and_is_paid_by_the_formula(name):
    """Five steps of six states at once against mj_step of one of them after another."""
    simulator = pytest.importorskip("mujoco")
    kind, worth, cost, living = ROBOTS[name]
    assert EXPERIMENTS[name].problem.environment is kind
    goals = kind.sample_tasks(np.random.default_rng(0), 3)
    env = kind(goals, 2)
    rngs = [np.random.default_rng(i) for i in range(3)]
    seen, _ = env.reset(rngs)
    model, data = env.model, simulator.MjData(env.model)
    hidden = 1 if "cheetah" in name else 2
    q, v = env._parts(env.state)
    assert np.abs(q - model.qpos0).std() < 0.02 and 0.05 < v.std() < 0.15
    start = q[1, 0].copy(), v[1, 0].copy()
    data.qpos[:], data.qvel[:] = start
    np.testing.assert_array_equal(seen[1, 0], np.concatenate([start[0][hidden:], start[1]]))
    for t in range(5):
        actions = np.random.default_rng(t).normal(size=(3, 2, model.nu))
        seen, reward, terminated, truncated, _ = env.step(actions)
        x = data.qpos[0]
        data.ctrl[:] = np.clip(actions[1, 0], -1, 1)
        data.qacc_warmstart[:] = 0
        simulator.mj_step(model, data)
        expected = np.concatenate([data.qpos[hidden:], data.qvel])
        np.testing.assert_allclose(seen[1, 0], expected, rtol=1e-6, atol=1e-9)
        speed = (data.qpos[0] - x) / model.opt.timestep
        paid = worth(speed, goals[1]) - cost * (data.ctrl**2).sum() + living
        np.testing.assert_allclose(reward[1, 0], paid, rtol=1e-6)
        assert not truncated and not terminated.any()


@pytest.mark.parametrize("name", ["cheetah-direction", "ant-velocity"])
def test_a_picture_shows_the_robot_where_the_simulator_has_it(name):
    simulator = pytest.importorskip("mujoco")
    env = EXPERIMENTS[name].problem.environment(np.ones(1), 1)
    seen = [env.reset([np.random.default_rng(0)])[0]]
    for t in range(40):
        seen.append(env.step(np.random.default_rng(t).normal(size=(1, 1, env.action_size)))[0])
    *ends, radius = np.split(env.poses(np.array(seen)[:, 0, 0])[-1], [3, 6], axis=1)
    data = simulator.MjData(env.model)
    data.qpos[:], data.qvel[:] = (part[0, 0] for part in env._parts(env.state))
    simulator.mj_forward(env.model, data)
    assert abs(data.qpos[0]) > 0.02  # it has moved
    np.testing.assert_allclose(sum(ends) / 2, data.geom_xpos[1:], atol=0.01)  # 0 is the floor
    torso = env.model.geom_size[1]
    np.testing.assert_allclose(np.linalg.norm(ends[1][0] - ends[0][0]), 2 * torso[1], atol=1e-12)
    assert radius[0] == torso[0]


def test_an_ant_that_has_fallen_ends_its_rollout():
    pytest.importorskip("mujoco")
    env = mujoco.AntVelocity(np.array([1.0, 1.0, 1.0]), 1)
    env.reset([np.random.default_rng(i) for i in range(3)])
    env.state[:, 0, 3] = [0.1, 0.5, 1.1]
    assert env.fallen()[:, 0].tolist() == [True, False, True]


def test_the_time_steps_are_the_authors():
    pytest.importorskip("mujoco")
    assert mujoco.HalfCheetahVelocity(np.zeros(1), 1).model.opt.timestep == 0.01
    assert mujoco.AntVelocity(np.zeros(1), 1).model.opt.timestep == 0.02


def test_the_informed_robot_sees_its_goal():
    pytest.importorskip("mujoco")
    kind = mujoco.informed(mujoco.HalfCheetahVelocity)
    seen, _ = kind(np.array([0.5, 1.5]), 2).reset([np.random.default_rng(i) for i in range(2)])
    assert seen.shape == (2, 2, kind.observation_size) == (2, 2, 18)
    np.testing.assert_array_equal(seen[:, :, -1], [[0.5, 0.5], [1.5, 1.5]])


def test_the_protocol_says_the_simulator_and_its_time_step(monkeypatch):
    simulator = pytest.importorskip("mujoco")
    monkeypatch.setattr(mujoco.AntVelocity, "horizon", 5)
    experiment = EXPERIMENTS["ant-velocity"].replace(test_steps=0)
    protocol = experiment.test(experiment.init(), 2)["protocol"]
    assert f"; mujoco {simulator.__version__} and gymnasium " in protocol
    assert protocol.endswith("time step 0.02 s, no frame skip")


def test_environments_refuse_another_array_library(capsys, tmp_path):
    with tm.use_backend("strict"), pytest.raises(UserError, match="leave --backend out"):
        small().init()


def test_an_iteration_with_a_robot_runs():
    pytest.importorskip("mujoco")
    experiment = EXPERIMENTS["cheetah-velocity"].replace(meta_batch=2, rollouts=2)
    from tinymaml.experiments.runs import Checkpoint

    params = experiment.init()
    now = Checkpoint(0, params, experiment.optimizer_state(params), [])
    now = meta_step(experiment, now, eager=True)
    assert now.step == 1 and len(now.losses[0]) == 3
    assert all(np.isfinite(p.numpy()).all() for p in now.params.values())
    assert isinstance(now.params["log_std"], tm.Tensor)
