"""A run's folder: configuration, metrics, checkpoint, results and figures.

Every file is written beside its place and then moved there, so that none is ever half-written.
Nothing is pickled: JSON, CSV and npz, which other programs can read.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..engine.backend import asarray, to_numpy
from ..engine.tensor import Tensor, tensor
from ..errors import UserError
from ..files import make_folder, replacing

FORMAT = "tinymaml checkpoint 2"
COLUMNS = ("step", "seconds", "meta_loss", "validation", "diverged")  # of the metrics


class Checkpoint(NamedTuple):
    """Everything that the next step and the next row of the metrics depend on.

    Attributes
    ----------
    step : int
        Steps done.
    params : dict of str to Tensor
    optimizer : dict
        State of the optimiser: numbers, and dicts of arrays named as the parameters.
    losses : list of float
        Meta-losses since the last row of the metrics.
    """

    step: int
    params: dict[str, Tensor]
    optimizer: dict[str, Any]
    losses: list[float]


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
        """Make the folder and write the configuration; UserError if it cannot or holds a run."""
        if (self / "checkpoint.npz").exists():
            raise UserError(
                f"{self.path} already holds a run; add --resume to continue it, "
                "or choose another --out"
            )
        make_folder(self.path)
        self.write_json("config.json", config)

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
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read as JSON: {error}; put back a copy") from error
        if not isinstance(content, dict):
            raise UserError(f"{path} should hold a JSON object, but holds {type(content).__name__}")
        return content

    def write_metrics(self, rows: list[dict]) -> None:
        """Write the metrics, a list of dicts with the keys ``COLUMNS``, as CSV."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with replacing(self / "metrics.csv") as file:
            file.write(text.getvalue().encode())

    def read_metrics(self, until: int | None = None) -> list[dict]:
        """Return the metrics up to a step as a list of dicts of numbers, None for empty cells.

        UserError if they are damaged; no file is no rows.
        """
        path = self / "metrics.csv"
        if not path.exists():
            return []
        try:
            with open(path, newline="", encoding="utf-8") as file:
                table = list(csv.DictReader(file, restval="cut off"))
            rows = [{key: _number(row[key]) for key in COLUMNS} for row in table]
            return [row for row in rows if until is None or row["step"] <= until]
        except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
            raise UserError(
                f"{path} does not hold numbers in the columns {', '.join(COLUMNS)} ({error}); "
                "put back a copy, or delete it to go on without what it holds"
            ) from error

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a :class:`Checkpoint`."""
        step, params, optimizer, losses = checkpoint
        numbers = {key: value for key, value in optimizer.items() if not isinstance(value, dict)}
        meta = {"format": FORMAT, "step": step, "optimizer": numbers, "losses": losses}
        arrays = {name: to_numpy(a) for name, a in _arrays(params, optimizer).items()}
        with replacing(self / "checkpoint.npz") as file:
            np.savez(file, meta=np.array(json.dumps(meta)), **arrays)

    def load(self, like: dict[str, Tensor], optimizer: dict[str, Any] | None = None) -> Checkpoint:
        """Read the checkpoint.

        Parameters
        ----------
        like : dict of str to Tensor
            Parameters of the names, shapes and dtypes that it must have.
        optimizer : dict, optional
            An optimiser state of the form that it must have.

        Returns
        -------
        Checkpoint
            With its tensors on the current backend.

        Raises
        ------
        UserError
            If there is none, it is damaged, or it belongs to another network.
        """
        meta, arrays = self._read()
        state = dict(optimizer or {})
        for name, wanted in _arrays(like, state).items():
            here, needed = _form(arrays.get(name)), _form(wanted)
            if here != needed:
                raise UserError(
                    f"{self / 'checkpoint.npz'} does not fit this experiment: {name} is {here}, "
                    f"where {needed} is needed"
                )
        params = {name: tensor(arrays[f"params/{name}"], requires_grad=True) for name in like}
        for key, value in state.items():
            if isinstance(value, dict):
                state[key] = {name: asarray(arrays[f"optimizer/{key}/{name}"]) for name in value}
            else:
                state[key] = meta["optimizer"][key]
        return Checkpoint(meta["step"], params, state, meta["losses"])

    def steps_done(self) -> int:
        """Return the step of the checkpoint."""
        return self._read()[0]["step"]

    def _read(self):
        """Return the numbers of the checkpoint, and its arrays by name."""
        path = self / "checkpoint.npz"
        if not path.exists():
            raise UserError(f"{self.path} has no checkpoint.npz; train it first, without --resume")
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = dict(archive)
            meta = json.loads(str(arrays.pop("meta")))
            if meta["format"] != FORMAT:
                raise ValueError(f"its format is {meta['format']}")
        except Exception as error:  # NumPy, zipfile and zlib raise many kinds for damaged bytes
            raise UserError(
                f"{path} is damaged, or is not a checkpoint made by this tinymaml; put back a "
                "copy, or train anew in another --out"
            ) from error
        return meta, arrays


def _arrays(params, optimizer):
    """Return the arrays of parameters and optimiser by their names in a checkpoint."""
    named = {f"params/{name}": p.data for name, p in params.items()}
    for key, value in optimizer.items():
        if isinstance(value, dict):
            named |= {f"optimizer/{key}/{name}": array for name, array in value.items()}
    return named


def _form(array):
    """Return dtype and shape of an array in words."""
    return "missing" if array is None else f"{array.dtype} of shape {array.shape}"


def _number(cell):
    """Return the number in a cell of the metrics, None for an empty one."""
    if cell == "":
        return None
    return int(cell) if cell.isdigit() else float(cell)
