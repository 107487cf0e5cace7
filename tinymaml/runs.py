"""A run's folder: configuration, metrics, checkpoint, results and figures.

Every file is written beside its place and then moved there, so that none is ever half-written.
Nothing is pickled: JSON, CSV and npz, which other programs can read.
"""

import csv
import io
import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .backend import to_numpy
from .errors import UserError
from .tensor import tensor

FORMAT = "tinymaml checkpoint 2"


@contextmanager
def replacing(path):
    """Open a file for writing bytes that takes the place of ``path`` when all went well.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "greeting.txt"
    >>> with replacing(path) as file:
    ...     _ = file.write(b"hello")
    >>> path.read_text()
    'hello'
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; make room or choose another --out"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


class Checkpoint(NamedTuple):
    """Everything that the next step and the next row of the metrics depend on.

    Attributes
    ----------
    step : int
        Steps done.
    params : dict of str to Tensor
    optimizer : dict
        State of the optimiser.
    losses : list of float
        Meta-losses since the last row of the metrics.
    """

    step: int
    params: dict
    optimizer: dict
    losses: list


class Run:
    """The folder of one training run.

    Parameters
    ----------
    path : str or Path
        Made on first writing.
    """

    def __init__(self, path):
        self.path = Path(path)

    def __truediv__(self, name):
        return self.path / name

    def start(self, config):
        """Make the folder and write the configuration; UserError if it cannot or holds a run."""
        try:
            if (self / "checkpoint.npz").exists():
                raise UserError(
                    f"{self.path} already holds a run; add --resume to continue it, "
                    "or choose another --out"
                )
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make the folder {self.path}: {error.strerror}; choose another --out"
            ) from error
        self.write_json("config.json", config)

    def write_json(self, name, content):
        """Write a JSON file; NaN is not JSON, so numbers that are not finite become null."""
        with replacing(self / name) as file:
            file.write(json.dumps(_finite(content), indent=2, allow_nan=False).encode() + b"\n")

    def read_json(self, name):
        """Read a JSON object of the run; UserError if it is missing or damaged."""
        path = self / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(
                f"{self.path} holds no run: {name} is missing; give the folder that --out named"
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read as JSON: {error}") from error
        if not isinstance(content, dict):
            raise UserError(f"{path} should hold a JSON object, but holds {type(content).__name__}")
        return content

    def write_metrics(self, rows):
        """Write the metrics, a list of dicts with the same keys, as CSV."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, rows[0].keys() if rows else ["step"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with replacing(self / "metrics.csv") as file:
            file.write(text.getvalue().encode())

    def read_metrics(self, until=None):
        """Return the metrics up to a step as a list of dicts of numbers, None for empty cells."""
        try:
            with open(self / "metrics.csv", newline="", encoding="utf-8") as file:
                rows = [
                    {
                        key: None if cell == "" else int(cell) if key == "step" else float(cell)
                        for key, cell in row.items()
                    }
                    for row in csv.DictReader(file)
                ]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise UserError(f"{self / 'metrics.csv'} cannot be read: {error}") from error
        return [row for row in rows if until is None or row["step"] <= until]

    def save(self, checkpoint):
        """Write a :class:`Checkpoint`."""
        arrays = {f"params/{name}": to_numpy(p.data) for name, p in checkpoint.params.items()}
        numbers = {}
        for key, value in checkpoint.optimizer.items():
            if isinstance(value, dict):
                arrays |= {f"optimizer/{key}/{n}": to_numpy(a) for n, a in value.items()}
            else:
                numbers[key] = value
        meta = {
            "format": FORMAT,
            "step": checkpoint.step,
            "optimizer": numbers,
            "losses": checkpoint.losses,
        }
        with replacing(self / "checkpoint.npz") as file:
            np.savez(file, meta=np.array(json.dumps(meta)), **arrays)

    def load(self, like, optimizer=None):
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
        path = self / "checkpoint.npz"
        arrays, meta = self._read_checkpoint()
        try:
            step, numbers = int(meta["step"]), dict(meta["optimizer"])
            losses = [float(x) for x in meta["losses"]]
            expected = {k for k, v in (optimizer or {}).items() if not isinstance(v, dict)}
            if not all(type(numbers[key]) is int for key in expected):
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is not a checkpoint made by this tinymaml") from error
        params = {
            name: tensor(self._fitting(arrays, f"params/{name}", p.data), requires_grad=True)
            for name, p in like.items()
        }
        for key, value in (optimizer or {}).items():
            if isinstance(value, dict):
                numbers[key] = {
                    name: tensor(self._fitting(arrays, f"optimizer/{key}/{name}", a)).data
                    for name, a in value.items()
                }
        return Checkpoint(step, params, numbers, losses)

    def steps_done(self):
        """Return the step of the checkpoint."""
        return int(self._read_checkpoint()[1]["step"])

    def _read_checkpoint(self):
        """Return the arrays of the checkpoint and its numbers."""
        path = self / "checkpoint.npz"
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except FileNotFoundError as error:
            raise UserError(f"{self.path} has no checkpoint.npz yet; train it first") from error
        except Exception as error:  # NumPy, zipfile and zlib raise many kinds for damaged bytes
            raise UserError(f"{path} is no checkpoint, or is damaged: {error}") from error
        try:
            meta = json.loads(str(arrays.pop("meta")))
            if meta["format"] != FORMAT or type(meta["step"]) is not int:
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is not a checkpoint made by this tinymaml") from error
        return arrays, meta

    def _fitting(self, arrays, name, like):
        found = arrays.get(name)
        if found is None or found.shape != like.shape or found.dtype != like.dtype:
            what = "missing" if found is None else f"{found.dtype} of shape {found.shape}"
            raise UserError(
                f"{self / 'checkpoint.npz'} does not fit this experiment: {name} is {what}, "
                f"where {like.dtype} of shape {like.shape} is needed"
            )
        return found


def _finite(content):
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if isinstance(content, np.generic):
        content = content.item()
    if isinstance(content, float) and not np.isfinite(content):
        return None
    return content
