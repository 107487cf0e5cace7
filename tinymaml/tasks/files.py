"""Files of other people: what is wrong with one in a sentence, and writing one whole."""

import contextlib
import os
from collections.abc import Callable
from typing import NamedTuple

from ..errors import UserError


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
def replacing(path):
    """Open a file for writing bytes that takes the place of `path` when all went well.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "new folder" / "greeting.txt"
    >>> with replacing(path) as file:
    ...     _ = file.write(b"hello")
    >>> path.read_text()
    'hello'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(unfinished, "wb") as file:
            yield file
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
