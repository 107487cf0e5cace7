"""Upstream's Omniglot files: which they are, where they lie, and the drawings in them.

Nothing is unpacked to disk, and every size is checked before memory is given to it: a damaged or
hostile file is a `UserError`.
"""

import contextlib
import os
import re
import struct
import zipfile
import zlib
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import UserError
from .png import read_png

URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
MD5 = {
    "images_background": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
}

# Alphabets and their numbers of characters, as upstream publishes them.
ALPHABETS = {
    "images_background": """
        Alphabet_of_the_Magi 20 Anglo-Saxon_Futhorc 29 Arcadian 26 Armenian 41
        Asomtavruli_(Georgian) 40 Balinese 24 Bengali 46
        Blackfoot_(Canadian_Aboriginal_Syllabics) 14 Braille 26 Burmese_(Myanmar) 34 Cyrillic 33
        Early_Aramaic 22 Futurama 26 Grantha 43 Greek 24 Gujarati 48 Hebrew 22
        Inuktitut_(Canadian_Aboriginal_Syllabics) 16 Japanese_(hiragana) 52 Japanese_(katakana) 47
        Korean 40 Latin 26 Malay_(Jawi_-_Arabic) 40 Mkhedruli_(Georgian) 41 N_Ko 33
        Ojibwe_(Canadian_Aboriginal_Syllabics) 14 Sanskrit 42 Syriac_(Estrangelo) 23 Tagalog 17
        Tifinagh 55""",
    "images_evaluation": """
        Angelic 20 Atemayar_Qelisayer 26 Atlantean 26 Aurek-Besh 26 Avesta 26 Ge_ez 26
        Glagolitic 45 Gurmukhi 45 Kannada 41 Keble 26 Malayalam 47 Manipuri 40 Mongolian 30
        Old_Church_Slavonic_(Cyrillic) 45 Oriya 46 Sylheti 28 Syriac_(Serto) 23 Tengwar 25
        Tibetan 42 ULOG 26""",
}
CHARACTERS = {
    part: [
        f"{alphabet}/character{number:02d}"
        for alphabet, count in zip(table.split()[::2], table.split()[1::2])
        for number in range(1, int(count) + 1)
    ]
    for part, table in ALPHABETS.items()
}
DRAWINGS = 20
SIDE = 105

# Upstream's zips are under 10 MB and their drawings under 600 bytes.
MAX_ZIP_BYTES = 32 * 2**20
MAX_PNG_BYTES = 8192

_DRAWING = re.compile(r"(?:^|/)([^/]+/character\d\d)/\d{4}_\d\d\.png$")


def find(data=None):
    """The folder that holds both of upstream's parts, as zips or unpacked.

    Parameters
    ----------
    data : str or path, optional
        That folder, or the one above it if it is called ``omniglot`` or ``omniglot-py``; without
        it, the environment variable ``TINYMAML_DATA``.

    Raises
    ------
    UserError
        If the files are not there; the sentence says which, and where they come from.

    Examples
    --------
    >>> find("/nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    tinymaml.errors.UserError: Omniglot folder /nowhere does not exist; give the folder ...
    """
    data = data or os.environ.get("TINYMAML_DATA")
    if not data:
        how = " and ".join(f"{URL}{part}.zip (md5 {MD5[part]})" for part in MD5)
        raise UserError(
            f"no Omniglot folder given; download {how} into a folder and pass --data FOLDER "
            "or set TINYMAML_DATA, or pass --data FOLDER --download"
        )
    data = Path(os.path.expanduser(data))  # Path's own raises for a user who is not there
    expected = "give the folder with images_background.zip and images_evaluation.zip, or --download"
    if not os.path.exists(data):
        raise UserError(f"Omniglot folder {data} does not exist; {expected}")
    if not os.path.isdir(data):
        raise UserError(f"{data} is a file; {expected}")
    missing = list(MD5)
    for folder in (data, data / "omniglot", data / "omniglot-py"):
        absent = [part for part in MD5 if source(folder, part) is None]
        if not absent:
            return folder
        missing = min(missing, absent, key=len)
    what = " and no ".join(missing)
    raise UserError(f"{data} holds no {what}, as .zip or as unpacked folder; {expected}")


def source(folder, part):
    """The zip file or the unpacked folder of a part, or None."""
    if os.path.isfile(archive := folder / f"{part}.zip"):
        if (size := archive.stat().st_size) > MAX_ZIP_BYTES:
            raise UserError(f"{archive} has {size} bytes, where upstream's has under 10 million")
        return archive
    # Some unpackers put images_background/images_background.
    for unpacked in (folder / part / part, folder / part):
        if os.path.isdir(unpacked):
            return unpacked
    return None


def drawings(path, part):
    """Yield the drawings of each character of `part`, characters and drawings sorted by name.

    Parameters
    ----------
    path : Path
        What `source` found: a zip file or an unpacked folder.
    part : str
        ``"images_background"`` or ``"images_evaluation"``.

    Yields
    ------
    bool array (20, 105, 105)
        True = ink.
    """
    with contextlib.ExitStack() as stack:
        try:
            files = _folder_files(path) if path.is_dir() else _zip_files(path, stack)
            _check_complete(files, part)
            for character in CHARACTERS[part]:
                readers = [read for _, read in sorted(files[character].items())]
                packed = np.stack([read_png(*read(), SIDE) for read in readers])
                # In the files paper is 1, and rows are padded to whole bytes.
                yield np.unpackbits(packed, axis=-1, count=SIDE) == 0
        except UserError as error:
            raise UserError(f"{path}: {error}; download it again") from None
        # What zipfile and zlib raise on bytes that no zip writer has written.
        except (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError) as error:
            raise UserError(f"{path} is damaged ({error}); download it again") from error
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); download it again") from error


def _zip_files(path, stack):
    archive = stack.enter_context(zipfile.ZipFile(path))
    files = defaultdict(dict)
    for member in archive.infolist():
        if match := _DRAWING.search(member.filename):
            files[match[1]][member.filename] = partial(_read_member, archive, member)
    return files


def _folder_files(path):
    files = defaultdict(dict)
    for file in path.glob("*/character??/*.png"):
        if (match := _DRAWING.search(file.as_posix())) and file.is_file():
            files[match[1]][file.name] = partial(_read_file, file)
    return files


def _read_member(archive, member):
    # Other methods unpack without a bound.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{member.filename} is packed by an unexpected method")
    if member.file_size > MAX_PNG_BYTES:
        raise UserError(f"{member.filename} has {member.file_size} bytes, too many for a drawing")
    # archive.read would first unpack all there is, whatever size is stated.
    with archive.open(member) as opened:
        return member.filename, opened.read(member.file_size)


def _read_file(file):
    with open(file, "rb") as opened:
        data = opened.read(MAX_PNG_BYTES + 1)
    if len(data) > MAX_PNG_BYTES:
        raise UserError(f"{file.name} has over {MAX_PNG_BYTES} bytes, too many for a drawing")
    return file.name, data


def _check_complete(files, part):
    alphabets = {character.split("/")[0] for character in files}
    expected = dict.fromkeys(character.split("/")[0] for character in CHARACTERS[part])
    if missing := [alphabet for alphabet in expected if alphabet not in alphabets]:
        names = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise UserError(f"{len(missing)} of {len(expected)} alphabets are missing: {names}")
    for character in CHARACTERS[part]:
        if (count := len(files[character])) != DRAWINGS:
            raise UserError(f"{character} has {count} drawings, expected {DRAWINGS}")
