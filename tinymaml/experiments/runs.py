"""A run's folder: configuration, metrics, checkpoint, results and figures.

Every file is written beside its place and then moved there, so that none is ever half-written.
Nothing is pickled: JSON, CSV and npz, which other programs can read.
"""

import csv
import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..engine.backend import asarray, to_numpy
from ..engine.tensor import Tensor, tensor
from ..errors import UserError
from ..files import make_folder, replacing

FORMAT = "tinymaml checkpoint 2"
LARGEST = 1 << 26  # bytes of a text that is read: a million rows of the metrics
COLUMNS = ("step", "seconds", "meta_loss", "validation", "diverged")  # of the metrics
Known = dict[str, Any] | None  # what is known of a checkpoint


class Checkpoint(NamedTuple):
    """Everything that the next step and the next row of the metrics depend on.

    Attributes
    ----------
    step : int
        Steps done.
    params : dict of str to Tensor
    optimizer : dict
        State of the optimiser: numbers, and dicts of arrays named as the parameters.
    losses : list
        Meta-losses since the last row of the metrics, each a number or a list that begins with it.
    settings : dict
        What the training depends on; checkpoints of earlier versions do not say it.
    """

    step: int
    params: dict[str, Tensor]
    optimizer: dict[str, Any]
    losses: list
    settings: dict[str, Any] | None = None


class Run:
    """The folder of one training run.

    Parameters
    ----------
    path : str or Path
        Made by :meth:`start`.

    Examples
    --------
    >>> import tempfile
    >>> run = Run(tempfile.mkdtemp())
    >>> run.start({"experiment": "sinusoid", "settings": {"steps": 100}})
    >>> run.read_json("config.json")["settings"]
    {'steps': 100}
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def start(self, config: dict) -> None:
        """Make the folder and write the configuration; UserError if it cannot or holds a run.

        One that has not done a step is no obstacle: its command may have been a wrong one.
        """
        if (self / "checkpoint.npz").exists() and self.steps_done():
            raise UserError(
                f"{self.path} already holds a run; add --resume to continue it, "
                "or choose another --out"
            )
        make_folder(self.path)
        self.write_json("config.json", config)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep other trainings out of it; UserError if one is in it.

        The lock is the system's, which ends it with the process in whatever way that ends.
        """
        with warnings.catch_warnings():  # one of filelock's, where the system has no locks
            warnings.simplefilter("ignore")
            from filelock import FileLock, SoftFileLock, Timeout  # `import tinymaml` does without

        make_folder(self.path)
        if FileLock is SoftFileLock:  # in a browser; there a file would stay when the tab is closed
            yield
            return
        lock = FileLock(self / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"another training is at work in {self.path}; wait for it, or choose another --out"
            ) from None
        except OSError as error:
            raise UserError(f"cannot write {self / '.lock'}: {error.strerror}") from error
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not remove what is open
                (self / ".lock").unlink()
            lock.release()

    def write_json(self, name: str, content: dict) -> None:
        """Write a JSON file; NaN is not JSON, so numbers that are not finite become null."""
        text = json.dumps(content, default=lambda scalar: scalar.item())  # NumPy's scalars
        content = json.loads(text, parse_constant=lambda nan_or_infinity: None)
        with replacing(self / name) as file:
            file.write(json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")

    def read_json(self, name: str) -> dict:
        """Read a JSON object of the run; UserError if it is missing or damaged."""
        path = self / name
        if not path.exists():
            raise UserError(
                f"{self.path} holds no run: {name} is missing; give the folder that --out named"
            )
        try:
            content = json.loads(self._text(name))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read as JSON: {error}; put back a copy") from error
        if not isinstance(content, dict):
            raise UserError(f"{path} should hold a JSON object, but holds {type(content).__name__}")
        return content

    def _text(self, name):
        path = self / name
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise ValueError(f"it is not a file of at most {LARGEST >> 20} MB")
        return path.read_text(encoding="utf-8")

    def write_metrics(self, rows: list[dict]) -> None:
        """Write the metrics, a list of dicts with the keys ``COLUMNS``, as CSV."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with replacing(self / "metrics.csv", stale=0) as file:
            file.write(text.getvalue().encode())

    def read_metrics(self, until: int | None = None) -> list[dict]:
        """Return the metrics up to a step as a list of dicts of numbers, None for empty cells.

        UserError if they are damaged; no file is no rows.
        """
        path = self / "metrics.csv"
        if not path.exists():
            return []
        try:
            table = csv.DictReader(self._text("metrics.csv").splitlines(), restval="cut off")
            rows = [{key: _number(row[key]) for key in COLUMNS} for row in table]
            if any(None in (row["step"], row["seconds"], row["meta_loss"]) for row in rows):
                raise ValueError("a cell is empty")
            return [row for row in rows if until is None or row["step"] <= until]
        except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
            raise UserError(
                f"{path} does not hold numbers in the columns {', '.join(COLUMNS)} ({error}); "
                "put back a copy, or delete it to go on without what it holds"
            ) from error

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a :class:`Checkpoint`."""
        step, params, optimizer, losses, settings = checkpoint
        numbers = _numbers(optimizer)
        meta = {"format": FORMAT, "step": step, "optimizer": numbers, "losses": losses}
        meta["settings"] = settings or {}
        arrays = {name: to_numpy(a) for name, a in named_arrays(params, optimizer).items()}
        with replacing(self / "checkpoint.npz", stale=0) as file:
            np.savez(file, meta=np.array(json.dumps(meta)), **arrays)

    def load(self, like: dict, optimizer: Known = None, settings: Known = None) -> Checkpoint:
        """Read the checkpoint.

        Parameters
        ----------
        like : dict of str to Tensor
            Parameters of the names, shapes and dtypes that it must have.
        optimizer : dict, optional
            An optimiser state of the form that it must have.
        settings : dict, optional
            Those that it must have been trained with, as far as it says which these were.

        Returns
        -------
        Checkpoint
            With its tensors on the current backend.

        Raises
        ------
        UserError
            If there is none, it is damaged, or it belongs to another network or run.
        """
        meta, arrays = self._read()
        state, settings = dict(optimizer or {}), settings or {}
        numbers = _numbers(state)
        found = {name: _form(v) for name, v in (arrays | meta["optimizer"]).items()}
        forms = {name: _form(v) for name, v in (named_arrays(like, state) | numbers).items()}
        forms |= {name: v for name, v in settings.items() if name in meta["settings"]}
        found |= meta["settings"]
        for name, needed in forms.items():
            if (here := found.get(name, "missing")) != needed:
                raise UserError(
                    f"{self / 'checkpoint.npz'} does not fit this experiment: {name} is {here}, "
                    f"where {needed} is needed"
                )
        params = {name: tensor(arrays[f"params/{name}"], requires_grad=True) for name in like}
        for key, value in state.items():
            if isinstance(value, dict):
                state[key] = {name: asarray(arrays[f"optimizer/{key}/{name}"]) for name in value}
            else:
                state[key] = np.asarray(meta["optimizer"][key])
        return Checkpoint(meta["step"], params, state, meta["losses"], settings)

    def steps_done(self) -> int:
        """Return the step of the checkpoint."""
        return self._read()[0]["step"]

    def _read(self):
        """Return the numbers of the checkpoint, and its arrays by name."""
        path = self / "checkpoint.npz"
        if not path.exists():
            raise UserError(f"{self.path} has no checkpoint.npz; train it first, without --resume")
        try:
            if not path.is_file():
                raise ValueError("reading a pipe or a device may never end")
            with np.load(path, allow_pickle=False) as archive:
                stated = sum(member.file_size for member in archive.zip.infolist())
                if stated > path.stat().st_size:
                    raise ValueError("it is compressed, as ours never are")
                arrays = dict(archive)
            meta = {"settings": {}} | json.loads(str(arrays.pop("meta")))
            kinds = {"step": int, "losses": list, "optimizer": dict, "settings": dict}
            if meta["format"] != FORMAT or not all(isinstance(meta[k], kinds[k]) for k in kinds):
                raise ValueError("its format is another")
        except Exception as error:  # NumPy, zipfile and zlib raise many kinds for damaged bytes
            raise UserError(
                f"{path} is damaged, or is not a checkpoint made by this tinymaml; put back a "
                "copy, or train anew in another --out"
            ) from error
        return meta, arrays


def named_arrays(params: dict, optimizer: dict) -> dict:
    """Return the arrays of parameters and optimiser by their names in a checkpoint."""
    named = {f"params/{name}": p.data for name, p in params.items()}
    for key, value in optimizer.items():
        if isinstance(value, dict):
            named |= {f"optimizer/{key}/{name}": array for name, array in value.items()}
    return named


def _numbers(optimizer):
    """Return the numbers of an optimiser's state, without those of arrays."""
    found = {key: value for key, value in optimizer.items() if not isinstance(value, dict)}
    return {key: np.asarray(value).item() for key, value in found.items()}


def _form(value):
    """Return what a number or an array is, in words, and whether it may not be used."""
    if not hasattr(value, "dtype"):
        return type(value).__name__
    lost = value.dtype.kind == "f" and not np.isfinite(value).all()
    return f"{value.dtype} of shape {value.shape}" + " with numbers that are not finite" * lost


def _number(cell):
    """Return the number in a cell of the metrics, None for an empty one."""
    if cell == "":
        return None
    return int(cell) if cell.isdigit() else float(cell)
