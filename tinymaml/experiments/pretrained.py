"""Trained networks: those that the package ships, and how a run becomes one.

Each is a run's folder without what a training or a picture needs: settings, test results and a
checkpoint of the parameters alone.
"""

from pathlib import Path

from ..errors import UserError
from ..files import make_folder
from ..learners import Learner
from ..learners.learner import Params
from .presets import experiment_of
from .runs import Checkpoint, Run
from .tables import command

FOLDER = Path(__file__).parents[1] / "trained"
PREFIX = "pretrained:"  # of a network's name where a run's folder could stand


def names() -> list[str]:
    """Return the names of the networks that the package ships."""
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


def pretrained(name: str | Path) -> tuple[Learner, Params]:
    """Return a trained network that ships with the package: its learner, and its parameters.

    Nothing is trained and nothing is downloaded. ``tinymaml list`` shows the networks with their
    scores, and ``tinymaml evaluate pretrained:NAME`` tests one.

    Parameters
    ----------
    name : str or Path
        Of the network, also as ``pretrained:NAME``, or the folder of a run of your own.

    Returns
    -------
    learner : Learner
        With the settings that it was trained with. Batch norm takes the statistics of the batch
        that is predicted, as in the paper; :class:`FewShotClassifier` takes those of the support.
    params : dict of str to Tensor

    Raises
    ------
    UserError
        If there is no such network; the sentence lists those that there are.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> learner, params = tm.pretrained("sinusoid")
    >>> tasks = tm.tasks.SinusoidTasks().sample(np.random.default_rng(0), n_tasks=1)
    >>> learner.predict(params, tasks.support, tasks.query.x).shape
    (1, 10, 1)
    """
    if not isinstance(name, str | Path) or name == "":
        raise UserError(f"{name!r} is no name; choose one of {', '.join(names())}")
    name = str(name).removeprefix(PREFIX)
    own = Path(name).is_dir() and name not in names()
    run = Run(name) if own else opened(f"{PREFIX}{name}")
    _, experiment = experiment_of(run)
    reached = run.load(experiment.init(), settings=experiment.recipe())
    return experiment.learner, reached.params


def describe(name: str) -> tuple[str, str, str, str]:
    """Return a shipped network's name, its method, what it was tested on, and its score."""
    run = opened(PREFIX + name)
    (_, experiment), results = experiment_of(run), run.read_json("results.json")
    first, *_ = rows = [row for row in results["rows"] if not row.get("floor")]
    same = [row for row in rows if all(row[k] == first[k] for k in ("setting", "batch_norm"))]
    row = same[-1]  # after the most steps
    after = f", {experiment.problem.axis}: {row['steps']}" * bool(row["steps"])
    score = f"{results['metric']} {experiment.problem.number(row['mean'], row['ci95'])}"
    return name, row["method"], f"{row['data']}, {row['setting']}{after}", score


def opened(folder: str) -> Run:
    """Return the run of a folder, or of ``pretrained:NAME``; UserError if there is no such name."""
    if not folder.startswith(PREFIX):
        return Run(folder)
    name = folder.removeprefix(PREFIX)
    if name not in names():
        raise UserError(
            f"no trained network has the name {name!r}; choose one of {', '.join(names())}"
        )
    return Run(FOLDER / name)


def check_own(folder: str | Path) -> None:
    """Raise UserError for a network that ships, where only a run of one's own will do."""
    if str(folder).startswith(PREFIX):
        raise UserError(f"{folder} ships with the package; give the folder of a run of yours")


def pack(folder: str, out: str) -> None:
    """Write what a trained network needs of a tested run into another folder.

    In the package's folder ``trained`` it is a network that ships, by the folder's name; anywhere
    else :func:`pretrained` takes the folder.

    Parameters
    ----------
    folder : str
        The run's.
    out : str
        A new folder, or one that holds such a network, which is replaced.

    Raises
    ------
    UserError
        If the run is not tested, or ships with the package, or ``out`` holds a run.
    """
    check_own(folder)
    run, packed = Run(folder), Run(out)
    name, experiment = experiment_of(run)
    reached = run.load(experiment.init(), settings=experiment.recipe())
    results = run.read_json("results.json") if (run / "results.json").exists() else {}
    if results.get("trained_steps") != reached.step:
        raise UserError(f"{run.path} has no test of its checkpoint; run `tinymaml evaluate` on it")
    if (packed / "config.json").exists() and "command" not in packed.read_json("config.json"):
        raise UserError(f"{packed.path} holds a run; choose another folder")
    made = command(results, run.read_json("config.json").get("data"))
    config = {"experiment": name, "settings": experiment.config(), "data": None, "command": made}
    make_folder(packed.path)
    packed.write_json("config.json", config)
    packed.save(Checkpoint(reached.step, reached.params, {}, [], experiment.recipe()))
    packed.write_json("results.json", results)
