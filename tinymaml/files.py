"""Files: what is wrong with one in a sentence, and writing one whole or not at all."""

import contextlib
import glob
import os
import secrets
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from .errors import UserError

LARGEST = 1 << 28  # bytes of a file inside another one: what claims more would fill the memory


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
        if isinstance(path, Path) and path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError("is not a file")  # reading a pipe or a device may never end
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


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip of files that each fit the memory; UserError if it cannot be read or is not."""
    with reading(path, "zip"):
        archive = zipfile.ZipFile(path)
        if any(member.file_size > LARGEST for member in archive.infolist()):
            raise UserError(f"holds a file of more than {LARGEST >> 20} MB; take it out")
        return archive


@contextlib.contextmanager
def replacing(path: str | Path, stale: float = 3600) -> Iterator[IO[bytes]]:
    """Open a file for writing bytes that takes the place of ``path`` when all went well.

    Parameters
    ----------
    path : str or Path
        Where a symbolic link lies, it is replaced and not followed.
    stale : float
        Seconds after which what others have begun to write for ``path`` is what a killed process
        left, and is removed. 0 where nobody else can be writing.

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
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        for other in path.parent.glob(f".{glob.escape(path.name)}.*part"):
            with contextlib.suppress(OSError):
                if time.time() - other.lstat().st_mtime >= stale:
                    other.unlink()
        with open(part, "xb") as file:  # fails where anything lies, a planted link too
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        with contextlib.suppress(OSError):  # not on Windows, and not every file system can
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the new name too is to outlive a loss of power
            finally:
                os.close(folder)
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
