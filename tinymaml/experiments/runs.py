"""A run's folder: configuration, metrics, checkpoint, results and figures.

Every file is written beside its place and then moved there, so that none is ever half-written.
Nothing is pickled: JSON, CSV and npz, which other programs can read.
"""

import csv
import io
import json
import math
import os
import stat
import zipfile
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..engine.backend import to_numpy
from ..engine.tensor import tensor
from ..errors import UserError

FORMAT = "tinymaml checkpoint 2"
COLUMNS = ("step", "seconds", "meta_loss", "validation", "diverged")  # of the metrics
MOST_TEXT = 16 * 2**20  # bytes of a JSON or CSV file, of which a run writes less than one
MOST_READ = 2**20  # bytes of a checkpoint at once: its directory, its numbers


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
            f"cannot write {path}: {error.strerror or error}; make room or choose another --out"
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
            content = json.loads(self._text(name))
        except FileNotFoundError as error:
            raise UserError(
                f"{self.path} holds no run: {name} is missing; give the folder that --out named"
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read as JSON: {_brief(error)}") from error
        if not isinstance(content, dict):
            raise UserError(f"{path} should hold a JSON object, but holds {type(content).__name__}")
        return content

    def write_metrics(self, rows):
        """Write the metrics, a list of dicts with the same keys, as CSV."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, rows[0].keys() if rows else COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with replacing(self / "metrics.csv") as file:
            file.write(text.getvalue().encode())

    def read_metrics(self, until=None):
        """Return the metrics up to a step as a list of dicts of numbers, None for empty cells.

        UserError if they are damaged or lack one of their columns; no file is no rows.
        """
        path = self / "metrics.csv"
        try:
            reader = csv.DictReader(io.StringIO(self._text(path.name), newline=""))
            if lacking := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise ValueError(f"it has no column {lacking[0]}")
            rows = [{key: _number(key, cell) for key, cell in row.items()} for row in reader]
            steps = [row["step"] for row in rows]
            if any(later <= step for step, later in pairwise(steps)):
                raise ValueError("the steps are not in order")
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise UserError(
                f"{path} cannot be read: {_brief(error)}; put back a copy, or delete it to go on "
                "without what it holds"
            ) from error
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
        wanted = {f"params/{name}": p.data for name, p in like.items()}
        for key, value in (optimizer or {}).items():
            if isinstance(value, dict):
                wanted |= {f"optimizer/{key}/{name}": a for name, a in value.items()}
        meta, arrays = self._read_checkpoint(wanted)
        try:
            numbers, losses = dict(meta["optimizer"]), [float(x) for x in meta["losses"]]
            expected = {k for k, v in (optimizer or {}).items() if not isinstance(v, dict)}
            if not all(_is_count(numbers[key]) for key in expected):
                raise ValueError
            if not all(map(math.isfinite, losses)):
                raise ValueError
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._foreign() from error
        params = {name: tensor(arrays[f"params/{name}"], requires_grad=True) for name in like}
        for key, value in (optimizer or {}).items():
            if isinstance(value, dict):
                numbers[key] = {
                    name: tensor(arrays[f"optimizer/{key}/{name}"]).data for name in value
                }
        return Checkpoint(meta["step"], params, numbers, losses)

    def steps_done(self):
        """Return the step of the checkpoint."""
        return self._read_checkpoint({})[0]["step"]

    def _read_checkpoint(self, wanted):
        """Return the checkpoint's numbers, and the arrays of the names of ``wanted``.

        Whatever the file declares, it takes no more memory than the arrays of ``wanted``, whose
        shapes and dtypes it must have.
        """
        path = self / "checkpoint.npz"
        try:
            _regular_size(path)
            with _BoundedReads(path) as file, zipfile.ZipFile(file) as archive:
                shape, dtype = _header(archive, "meta")
                if shape != () or dtype.kind != "U" or dtype.itemsize > MOST_READ:
                    raise self._foreign()
                text = str(_read_array(archive, "meta"))
                for name, like in wanted.items():
                    if (found := _header(archive, name)) != (like.shape, like.dtype):
                        raise self._misfit(name, like, *found)
                arrays = {name: _read_array(archive, name) for name in wanted}
        except UserError:
            raise
        except FileNotFoundError as error:
            raise UserError(
                f"{self.path} has no checkpoint.npz; train it first, without --resume"
            ) from error
        except Exception as error:  # NumPy, zipfile and zlib raise many kinds for damaged bytes
            raise UserError(f"{path} is no checkpoint, or is damaged: {_brief(error)}") from error
        try:
            meta = json.loads(text)
            if meta["format"] != FORMAT or not _is_count(meta["step"]):
                raise ValueError
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise self._foreign() from error
        return meta, arrays

    def _foreign(self):
        return UserError(f"{self / 'checkpoint.npz'} is not a checkpoint made by this tinymaml")

    def _misfit(self, name, like, shape, dtype):
        what = "missing" if shape is None else f"{dtype} of shape {shape}"
        return UserError(
            f"{self / 'checkpoint.npz'} does not fit this experiment: {name} is {_brief(what)}, "
            f"where {like.dtype} of shape {like.shape} is needed"
        )

    def _text(self, name):
        """Return the text of a file; ValueError if it cannot be one of a run."""
        path = self / name
        if _regular_size(path) > MOST_TEXT:
            raise ValueError(f"it is larger than {MOST_TEXT >> 20} MB, which no run writes")
        with open(path, newline="", encoding="utf-8") as file:
            return file.read()


class _BoundedReads(io.FileIO):
    """A file whose reader does not trust the lengths that it finds in it."""

    def read(self, size=-1):
        if size > MOST_READ:
            raise ValueError(f"it states a directory of {size} bytes")
        return super().read(size)


def _regular_size(path):
    """Return the size of a file; ValueError if it is a pipe, which could be waited on for ever."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    return status.st_size


def _header(archive, name):
    """Return shape and dtype of an array of an npz, both None if it is not there."""
    if f"{name}.npy" not in archive.NameToInfo:
        return None, None
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is packed, as no checkpoint is")
    with archive.open(member) as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype


def _read_array(archive, name):
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _is_count(value):
    return type(value) is int and 0 <= value < 2**63


def _number(key, cell):
    """Return the number in a cell of the metrics; ValueError or TypeError if it holds none."""
    if key == "step":
        if not _is_count(step := int(cell)):
            raise ValueError(f"there is no step {cell}")
        return step
    if cell == "" and key not in ("seconds", "meta_loss"):
        return None
    if math.isinf(number := float(cell)):
        raise ValueError(f"{key} is {cell}")
    return number


def _brief(error):
    """Return a text in one line and not too long, since it may quote what a file holds."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}..."


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
