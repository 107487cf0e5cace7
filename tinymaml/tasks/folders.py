"""Folders of untrusted files, on disk or inside a zip: the names in them and bounded reading.

Nothing is unpacked to disk, no name leads out of its folder, and every size is checked before
memory is given to it.
"""

import contextlib
import io
import os
import struct
import zipfile
import zlib
from bisect import bisect_left
from pathlib import Path

from ..errors import UserError

# Of a zip at once: a packed image, or the directory, of which 60,000 long names take 9 MB.
MAX_READ = 2**25
MAX_PATH = 1024  # letters
# Images hardly shrink in a zip, tables of names to a tenth; a bomb of deflate to a thousandth.
MAX_GROWTH = 20

_JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")

# What zipfile and zlib raise on bytes that no zip writer has written.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    IndexError,
    OverflowError,
)


class Folder:
    """A folder on disk."""

    def __init__(self, path):
        self.path = Path(path)

    def __str__(self):
        return str(self.path)

    def listing(self, inside=""):
        """The sub-folders and the files of the folder or of one inside it, two sorted lists.

        Hidden ones are left out, and a folder that does not exist is empty.
        """
        folders, files = [], []
        try:
            with os.scandir(self.path / inside) as entries:
                for entry in entries:
                    if not _hidden(entry.name):
                        (folders if entry.is_dir() else files).append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise UserError(f"cannot list {self.path / inside}: {error.strerror}") from error
        return sorted(folders), sorted(files)

    def read(self, name, most):
        """The bytes of a file, if they are no more than `most`."""
        return read_file(self.path / safe(name), most)


class ZipFolder:
    """A folder inside an open zip; see `opened_zip`."""

    def __init__(self, path, archive, names, base=""):
        self.path, self._archive, self._names, self._base = path, archive, names, base

    def __str__(self):
        return str(self.path / self._base)

    def inside(self, name):
        """The folder `name` of this one."""
        return ZipFolder(self.path, self._archive, self._names, f"{self._base}{name}/")

    def listing(self, inside=""):
        """As `Folder.listing`."""
        folders, files = [], []
        prefix = f"{self._base}{inside}/" if inside else self._base
        at = bisect_left(self._names, prefix)
        while at < len(self._names) and self._names[at].startswith(prefix):
            name, slash, _ = self._names[at].removeprefix(prefix).partition("/")
            (folders if slash else files).append(name)
            # Past all that lies in this folder: of all letters, 0 is the one after the slash.
            at = bisect_left(self._names, f"{prefix}{name}0", at) if slash else at + 1
        return folders, files

    def read(self, name, most):
        """As `Folder.read`."""
        full = f"{self.path}: {self._base}{name}"
        try:
            member = self._archive.getinfo(self._base + safe(name))
            # zipfile never gives more than the stated size; other methods unpack without a bound.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(f"{full} is packed by an unexpected method; zip it anew")
            check_size(full, max(member.file_size, member.compress_size), most)
            return self._archive.read(member)
        except UserError:
            raise
        except KeyError:
            raise UserError(f"{full} is not in the zip") from None
        except _ZIP_ERRORS as error:
            raise UserError(f"{full} is damaged ({error}); get the zip again") from error


@contextlib.contextmanager
def opened_zip(path):
    """Open a zip as a `ZipFolder` inside a ``with`` block.

    Raises
    ------
    UserError
        If it is damaged, no zip, or a bomb, or if a name in it leads out of it.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        try:
            with open(path, "rb") as file:
                refuse_web_page(path, file.read(64))
            file = stack.enter_context(_BoundedReads(path))
            archive = stack.enter_context(zipfile.ZipFile(file))
            names = _names(path, archive.infolist())
        except UserError:
            raise
        except _ZIP_ERRORS as error:
            raise UserError(f"{path} is damaged or no zip ({error}); get it again") from error
        yield ZipFolder(path, archive, names)


def read_file(path, most):
    """The bytes of a file on disk, if they are no more than `most` and no web page.

    Raises
    ------
    UserError
        If the file is absent, unreadable, too large or an HTML page.
    """
    path = Path(path)
    # A named pipe would be waited for until something is written to it.
    if not path.is_file():
        raise UserError(f"{path} {'is not a file' if path.exists() else 'does not exist'}")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            check_size(path, size, most)
            data = file.read(size)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    refuse_web_page(path, data[:64])
    return data


def check_size(name, size, most):
    """Refuse a file of more than `most` bytes."""
    if size > most:
        raise UserError(f"{name} has {size} bytes, more than the {most} that are read of it")


def refuse_web_page(name, head):
    """Refuse a file that begins as an HTML page does."""
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise UserError(
            f"{name} is an HTML page: the download failed, and this is what the server said "
            "instead; open it in a browser, and download again"
        )


def safe(name):
    r"""The path `name` if it stays inside its folder on every system.

    Examples
    --------
    >>> safe("images/n01532829.jpg")
    'images/n01532829.jpg'
    >>> safe("../secret")
    Traceback (most recent call last):
    ...
    tinymaml.errors.UserError: the path '../secret' leads out of its folder or is no path
    """
    parts = name.split("/")
    fine = len(name) <= MAX_PATH and name.isprintable() and "\\" not in name
    fine = fine and name[1:2] != ":"  # a drive
    if not fine or any(part in ("", ".", "..") for part in parts):
        raise UserError(f"the path {name[:80]!r} leads out of its folder or is no path")
    return name


def _hidden(name):
    return name.startswith(".") or name in _JUNK


class _BoundedReads(io.FileIO):
    """A file whose reader does not trust the lengths that it finds in it."""

    def read(self, size=-1):
        if size > MAX_READ:
            raise UserError(f"{self.name} states a directory of {size} bytes, which is too large")
        return super().read(size)


def _names(path, members):
    """The sorted names of a zip's files."""
    names = []
    for member in members:
        name = member.filename.rstrip("/")
        try:
            parts = safe(name).split("/")
        except UserError as error:
            raise UserError(f"{path}: {error}; nothing of this zip is read") from None
        if not member.is_dir() and not any(map(_hidden, parts)):
            names.append(name)
    total = sum(member.file_size for member in members)
    check_size(f"{path}, unpacked,", total, MAX_GROWTH * path.stat().st_size)
    return sorted(names)
