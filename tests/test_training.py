"""Training runs: what they learn, resumed bit for bit, and their sentences."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

import tinymaml as tm
from tinymaml.errors import UserError
from tinymaml.experiments import EXPERIMENTS, from_config
from tinymaml.experiments.evaluation import evaluate, summarise
from tinymaml.experiments.runs import Run
from tinymaml.experiments.training import train
from tinymaml.files import replacing
from tinymaml.parallel.threads import single_threaded_blas

pytestmark = pytest.mark.numpy_only


def small(steps, **settings):
    often = {"log_every": 7, "checkpoint_every": 5, "validate_every": 14}
    return EXPERIMENTS["sinusoid"].replace(steps=steps, meta_batch=4, **often, **settings)


def start(path, experiment):
    run = Run(path)
    run.start({"experiment": "sinusoid", "settings": experiment.config()})
    return run


def contents(run):
    with np.load(run / "checkpoint.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def assert_same(run, other):
    ours, theirs = contents(run), contents(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    rows = [run.read_metrics(), other.read_metrics()]
    for row in rows[0] + rows[1]:
        del row["seconds"]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("stop", [5, 13, 20])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, stop):
    whole = start(tmp_path / "whole", small(30))
    train(small(30), whole, progress=False)
    parts = start(tmp_path / "parts", small(stop))
    train(small(stop), parts, progress=False)
    train(small(30), parts, resume=True, progress=False)
    assert_same(parts, whole)
    assert len(whole.read_metrics()) == 4
    assert [row["validation"] is not None for row in whole.read_metrics()] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "name", ["omniglot-statistician", "miniimagenet-meta-lstm", "omniglot-siamese"]
)
def test_what_is_random_in_an_objective_is_resumed_bit_for_bit_too(name, tmp_path):
    pixels, one = np.random.default_rng(0), EXPERIMENTS[name].replace(log_every=2, validate_every=3)
    if name == "omniglot-statistician":
        one, size = one.replace(filters=1, context=3, hidden=4, train_way=6), (28, 28, 1)
    elif name == "omniglot-siamese":
        one, size = one.replace(train_way=4, n_query=2), (28, 28, 1)
    else:
        one, size = one.replace(filters=2, image_size=16, inner_steps=2), (16, 16, 3)
    one = one.replace(validation_tasks=2, checkpoint_every=3, steps=5)
    images = pixels.integers(0, 256, (8, 20, *size), np.uint8)
    problem = one.problem.with_images(dict.fromkeys(("train", "val", "test"), images))
    one = replace(one, problem=problem)
    whole, parts = start(tmp_path / "whole", one), start(tmp_path / "parts", one)
    train(one, whole, progress=False)
    train(one.replace(steps=3), parts, progress=False)
    train(one, parts, resume=True, progress=False)
    assert_same(parts, whole)


def write_old_run(folder, seed, steps):
    """Write a run as the first version did, which had a class for each family of experiments."""
    settings = {"first_order": False, "meta_lr": 0.001, "meta_batch": 25, "inner_lr": 0.01}
    settings |= {"steps": steps, "seed": seed, "inner_steps": 1, "k_shot": 10}
    model, adam = tm.nn.mlp((1, 40, 40, 1)), tm.optim.Adam(0.001)
    params, losses = model.init(np.random.default_rng([seed, 0])), []
    state = adam.init(params)

    def loss(params, x, y):
        return tm.nn.mse_loss(model(params, x), y)

    with single_threaded_blas():
        for step in range(1, steps + 1):
            tasks = tm.tasks.SinusoidTasks().sample(np.random.default_rng([seed, 1, step]), 25)
            value, gradient = tm.maml.meta_gradient(loss, params, tasks, lr=0.01)
            params, state = adam.update(params, gradient, state)
            losses.append(float(value))
    folder.mkdir()
    config = {"experiment": "sinusoid", "settings": settings, "data": None}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.csv").write_text("step,seconds,meta_loss,validation,diverged\n")
    meta = {"format": "tinymaml checkpoint 2", "step": steps, "losses": losses}
    arrays = {f"params/{name}": p.numpy() for name, p in params.items()}
    for moment in ("first", "second"):
        arrays |= {f"optimizer/{moment}/{name}": a for name, a in state[moment].items()}
    meta = np.array(json.dumps(meta | {"optimizer": {"step": steps}}))
    np.savez(folder / "checkpoint.npz", meta=meta, **arrays)


def test_a_run_of_the_first_version_goes_on_as_one_of_this_version(tmp_path):
    write_old_run(tmp_path / "old", seed=3, steps=5)
    old, whole = Run(tmp_path / "old"), Run(tmp_path / "whole")
    stored = old.read_json("config.json")
    experiment = from_config(stored["experiment"], stored["settings"] | {"steps": 120})
    train(experiment, old, resume=True, progress=False)
    train(experiment, start(whole.path, experiment), progress=False)
    assert_same(old, whole)
    assert len(old.read_metrics()) == 1


def test_a_seed_fixes_the_run_and_another_changes_it(tmp_path):
    runs = []
    for i, seed in enumerate((3, 3, 4)):
        runs.append(start(tmp_path / str(i), small(10, seed=seed)))
        train(small(10, seed=seed), runs[-1], progress=False)
    assert_same(runs[0], runs[1])
    assert not np.array_equal(
        contents(runs[0])["params/linear1.weight"], contents(runs[2])["params/linear1.weight"]
    )


def test_training_learns(tmp_path):
    experiment = EXPERIMENTS["sinusoid"].replace(steps=1500)
    run = start(tmp_path / "run", experiment)
    reached = train(experiment, run, progress=False)
    params, rows = reached.params, run.read_metrics()
    assert reached.step == 1500 and rows[-1]["meta_loss"] < 0.6 * rows[0]["meta_loss"]
    tasks = experiment.problem.tasks("test").sample(np.random.default_rng(9), 100)
    mean = summarise(evaluate(experiment, params, tasks, 5))["mean"]
    assert mean[5] < mean[1] < 0.75 * mean[0]  # adaptation is what it learned


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path):
    experiment = small(2000, inner_lr=1e30)
    run = start(tmp_path / "run", experiment)
    with np.errstate(all="ignore"), pytest.raises(UserError, match=r"not finite at step \d+.*kept"):
        train(experiment, run, progress=False)
    assert all(np.isfinite(a).all() for n, a in contents(run).items() if n.startswith("params/"))


def foreign(kind, path):
    if kind == "text":
        path.write_text("hello")
    if kind == "empty":
        path.write_bytes(b"")
    if kind == "npz":
        np.savez(path, a=np.ones(3))
    if kind == "pickle":
        np.savez(path, meta=np.array([{"a": 1}], dtype=object))
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-3000])
    if kind == "flipped":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)


@pytest.mark.parametrize("kind", ["text", "empty", "npz", "pickle", "truncated", "flipped"])
def test_a_foreign_or_damaged_checkpoint_is_one_sentence(tmp_path, kind):
    run = start(tmp_path / "run", small(5))
    train(small(5), run, progress=False)
    foreign(kind, run / "checkpoint.npz")
    with pytest.raises(UserError, match=r"checkpoint\.npz") as error:
        train(small(10), run, resume=True, progress=False)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_network_is_named(tmp_path):
    run = start(tmp_path / "run", small(5))
    train(small(5), run, progress=False)
    model = tm.nn.mlp((1, 20, 1))
    with pytest.raises(UserError, match=r"params/linear1.weight is float32 of shape \(1, 40\)"):
        run.load(model.init(np.random.default_rng(0)))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UserError, match="No space left"), replacing(path) as file:
        file.write(b"new")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "run").mkdir()
    for name in ("results.json", ".results.json.part"):
        (tmp_path / "run" / name).symlink_to(tmp_path / "victim")
    Run(tmp_path / "run").write_json("results.json", {"a": 1})
    assert (tmp_path / "victim").read_text() == "precious"
    assert Run(tmp_path / "run").read_json("results.json") == {"a": 1}
    assert not (tmp_path / "run" / "results.json").is_symlink()


def test_two_writers_of_one_file_do_not_meet_and_old_leftovers_are_swept(tmp_path):
    path = tmp_path / "file [1]"
    left, lately = tmp_path / ".file [1].0123.part", tmp_path / ".file [1].4567.part"
    for part in (left, lately):
        part.write_text("half")
    os.utime(left, (0, 0))
    with replacing(path) as one, replacing(path) as other:
        one.write(b"one")
        other.write(b"other")
    assert path.read_text() == "one" and set(os.listdir(tmp_path)) == {path.name, lately.name}
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask  # as of any new file


@pytest.mark.parametrize("settings", [{"inner_lr": 0.1}, {"seed": 4}, {"first_order": True}])
def test_a_checkpoint_of_another_run_is_refused(tmp_path, settings):
    run, other = (start(tmp_path / name, small(5)) for name in ("run", "other"))
    train(small(5), run, progress=False)
    train(small(5, **settings), other, progress=False)
    (other / "checkpoint.npz").replace(run / "checkpoint.npz")
    name = "method" if "first_order" in settings else next(iter(settings))
    with pytest.raises(UserError, match=f"does not fit this experiment: {name} is"):
        train(small(9), run, resume=True, progress=False)
    train(small(9, test_steps=5, **settings), run, resume=True, progress=False)


def changed(run, meta=None, **arrays):
    """Change a checkpoint's numbers by a function, or some of its arrays."""
    content = contents(run) | arrays
    if meta:
        content["meta"] = np.array(json.dumps(meta(json.loads(str(content["meta"])))))
    np.savez(run / "checkpoint.npz", **content)


def without(key):
    return lambda meta: {k: v for k, v in meta.items() if k != key}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"params/linear1.bias": np.full(40, np.nan, np.float32)}, "linear1.bias is .*not finite"),
        (
            {"optimizer/second/linear2.bias": np.full(40, np.inf, np.float32)},
            "optimizer/second/linear2.bias is .*not finite",
        ),
        ({"meta": without("step")}, "is damaged, or is not a checkpoint"),
        ({"meta": without("losses")}, "is damaged, or is not a checkpoint"),
        ({"meta": lambda meta: [meta]}, "is damaged, or is not a checkpoint"),
        ({"meta": lambda meta: meta | {"optimizer": {}}}, "step is missing, where int is needed"),
    ],
)
def test_a_checkpoint_with_wrong_numbers_is_one_sentence(tmp_path, change, sentence):
    run = start(tmp_path / "run", small(5))
    train(small(5), run, progress=False)
    changed(run, **change)
    with pytest.raises(UserError, match=sentence):
        train(small(9), run, resume=True, progress=False)


def test_a_compressed_checkpoint_is_refused_before_it_fills_the_memory(tmp_path):
    run = start(tmp_path / "run", small(5))
    train(small(5), run, progress=False)
    np.savez_compressed(run / "checkpoint.npz", **contents(run), bomb=np.zeros(10**7))
    with pytest.raises(UserError, match=r"checkpoint\.npz is damaged"):
        train(small(9), run, resume=True, progress=False)


def test_texts_of_a_run_that_no_training_writes_are_one_sentence(tmp_path):
    run = start(tmp_path / "run", small(5))
    for content in ("[" * 10**5, '{"a": ' * 10**5):
        (run / "config.json").write_text(content)
        with pytest.raises(UserError, match=r"config\.json cannot be read as JSON"):
            run.read_json("config.json")
    for name, read in (
        ("config.json", run.read_json),
        ("metrics.csv", lambda _: run.read_metrics()),
    ):
        with open(run / name, "wb") as file:
            file.truncate(1 << 40)  # takes no room on the disk
        with pytest.raises(UserError, match="not a file of at most 64 MB"):
            read(name)
        (run / name).unlink()
        os.mkfifo(run / name)
        with pytest.raises(UserError, match="not a file"):
            read(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes of this kind")
def test_a_pipe_in_place_of_a_checkpoint_is_not_waited_for(tmp_path):
    run = start(tmp_path / "run", small(5))
    os.mkfifo(run / "checkpoint.npz")
    for use in (run.steps_done, lambda: run.load({}), lambda: run.start({})):
        with pytest.raises(UserError, match=r"checkpoint\.npz is damaged"):
            use()


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("sinusoid", {"steps": 0}, "--steps is 0"),
        ("sinusoid", {"steps": 10**400}, "--steps is 10+; give 1 or more, at most 1e.09"),
        ("sinusoid", {"inner_lr": 10**400}, "--inner-lr is 10+; give .*, at most 1e.06"),
        ("sinusoid", {"inner_steps": 1001}, "--inner-steps is 1001; give .*, at most 1000"),
        ("sinusoid", {"meta_batch": 10**9}, "--meta-batch is 10+; give 1 or more, at most 1e.06"),
        (
            "omniglot-reptile",
            {"test_steps": 10**4},
            "--test-steps is 10000; give 1 or more, at most 1000",
        ),
        ("sinusoid", {"inner_lr": -0.1}, "--inner-lr is -0.1; give a number above 0"),
        ("sinusoid", {"meta_lr": float("nan")}, "--meta-lr is nan"),
        ("sinusoid", {"seed": -1}, "--seed is -1"),
        ("sinusoid", {"nonsense": 1}, "'nonsense' is not a setting of the experiment sinusoid"),
        ("sinusoid", {"steps": "many"}, "steps is 'many', but int is needed"),
        ("omniglot", {"n_way": 0}, "--n-way is 0; give at least 2 classes"),
        ("omniglot", {"k_shot": 30}, "--k-shot 30 .* more than the 20 drawings"),
        ("omniglot", {"n_query": -1}, "--n-query is -1"),
        ("omniglot", {"k_shot": 11}, "--k-shot 11 and --n-query 11 take more"),
        ("chess", {}, "'chess' is unknown; choose one of sinusoid, "),
        ("sinusoid", {"inner_steps": -1}, "--inner-steps is -1"),
        (
            "omniglot",
            {"split": "alphabet"},
            "--split is 'alphabet'; choose random, vinyals or lake",
        ),
        ("omniglot", {"resize": "bicubic"}, "choose nearest or lanczos"),
        ("omniglot", {"test_query": 20}, "--test-query 20 take more"),
        ("miniimagenet", {"image_size": 8}, "--image-size is 8; give 16 to 512"),
        ("miniimagenet", {"clip": -1.0}, "--clip is -1.0"),
        ("miniimagenet", {"filters": 0}, "--filters is 0"),
        ("miniimagenet", {"test_steps": 0}, "--test-steps is 0"),
        ("miniimagenet-pretrained", {"test_steps": 0}, "--test-steps is 0"),
        ("omniglot-statistician", {"filters": 0}, "--filters is 0; give 1 or more"),
        ("omniglot-statistician", {"n_query": 20}, "--k-shot 1 and --n-query 20 take more than"),
        ("miniimagenet-meta-lstm", {"inner_steps": 0}, "--inner-steps is 0; give 1 to 100"),
        ("omniglot-protonet", {"train_way": 1}, "--train-way is 1; give at least 2 classes, or 0"),
        ("omniglot", {"train_way": 10}, "'train_way' is not a setting"),
        ("omniglot-reptile", {"train_way": 10}, "'train_way' is not a setting"),
        ("sinusoid", {"test_steps": 5}, "'test_steps' is not a setting"),
        ("omniglot-reptile", {"inner_batch": 0}, "--inner-batch is 0; give 1 or more"),
        ("omniglot-reptile", {"optimizer": "adam"}, "'optimizer' is not a setting"),
        ("sinusoid", {"decay": "slow"}, "--decay is 'slow'; choose none, linear, cosine or"),
        ("omniglot-matching", {"temperature": 0.0}, "--temperature is 0.0; give a number above 0"),
        ("omniglot-matching", {"fce_steps": -1}, "--fce-steps is -1; give 1 or more, or 0"),
        ("omniglot-imaml", {"cg_steps": 0}, "--cg-steps is 0; give 1 or more"),
        ("omniglot-imaml", {"strength": 0.0}, "--strength is 0.0; give a number above 0"),
        ("omniglot-meta-sgd", {"learned_lr": True}, "'learned_lr' is not a setting"),
        ("omniglot-siamese", {"image_size": 64}, "--image-size is 64; choose 28 or 105"),
        ("omniglot", {"multi_step": True, "inner_steps": 0}, "--inner-steps is 0; give 1 or more"),
        ("omniglot", {"head": "none"}, "--head is 'none'; choose own or tied"),
        ("sinusoid", {"head": "tied"}, "'head' is not a setting"),
    ],
)
def test_nonsense_settings_are_one_sentence(name, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        from_config(name, settings)


def test_diverged_tasks_are_counted_and_not_averaged():
    scores = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 1e9]])
    summary = summarise(scores, worst=100.0)
    assert summary["mean"] == [3.0, 2.0] and summary["diverged"] == [0, 2]
    assert summary["ci95"][0] == pytest.approx(1.96 * np.sqrt(8 / 3) / np.sqrt(3))


def test_a_whole_training_on_another_array_library(tmp_path):
    """Training, checkpoint, resuming and evaluation on the stand-in for CuPy, as on NumPy."""
    results = []
    for name in ("numpy", "strict"):
        with tm.use_backend(name):
            run = start(tmp_path / name, small(7))
            train(small(7), run, progress=False)
            reached = train(small(14), run, resume=True, progress=False)
            tasks = small(1).problem.tasks("test").sample(np.random.default_rng(0), 5)
            results.append((evaluate(small(1), reached.params, tasks, 2), contents(run)))
            assert isinstance(
                reached.params["linear1.bias"].data, tm.engine.backend._modules[name].ndarray
            )
    (scores, arrays), (other_scores, other) = results
    np.testing.assert_allclose(other_scores, scores, rtol=1e-5)
    for name in set(arrays) - {"meta"}:
        np.testing.assert_allclose(other[name], arrays[name], rtol=1e-4, atol=1e-6)
