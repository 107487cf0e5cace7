"""Files: what is wrong with one in a sentence, and writing one whole or not at all."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from .errors import UserError


class Member(NamedTuple):
    """A file inside another file, with what is used of a path: its name and its bytes."""

    name: str
    read_bytes: Callable[[], bytes]

    def __str__(self):
        return self.name


@contextlib.contextmanager
def reading(path, kind):
    """Say in one sentence what is wrong with a file that cannot be read inside the block.

    Parameters
    ----------
    path : Path, zipfile.Path or Member
    kind : str
        What the file should be, for the sentence.

    Raises
    ------
    UserError
        In place of whatever is raised inside the block. A UserError raised there goes on a
        sentence that begins with the path.

    Examples
    --------
    >>> with reading(Member("notes.zip", lambda: b"<html>"), "zip"):
    ...     raise ValueError
    Traceback (most recent call last):
    ...
    tinymaml.errors.UserError: notes.zip is an HTML page: the download failed; open it in a \
browser and download again
    """
    try:
        yield
    except Exception as error:  # the libraries raise nearly every kind on damaged bytes
        raise UserError(f"{path} {_fault(path, kind, error)}") from error


def _fault(path, kind, error):
    if isinstance(error, UserError):
        return error
    if isinstance(error, FileNotFoundError):
        return f"is not there; expected a {kind}"
    if isinstance(error, ImportError):
        return f"takes {error.name}: pip install {error.name}"
    with contextlib.suppress(Exception):
        if path.read_bytes()[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            return "is an HTML page: the download failed; open it in a browser and download again"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"is damaged or not a {kind}; get it again"


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file for writing bytes that takes the place of ``path`` when all went well.

    Raises
    ------
    UserError
        If it cannot be written; the old file is then still there.

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
            f"cannot write {path}: {error.strerror or error}; make room or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; UserError if that cannot be done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {path}: {error.strerror}; choose another one"
        ) from error
