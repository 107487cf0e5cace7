"""Small stand-ins for Omniglot's files: upstream's whole layout, drawn with a few glyphs."""

import struct
import zipfile
import zlib

import numpy as np

from tinymaml.tasks.omniglot_source import CHARACTERS, DRAWINGS, SIDE


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(ink, header=None, filter_type=0):
    """A 1-bit PNG as upstream writes it: paper = 1, ink = 0."""
    height, width = ink.shape
    header = header or struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = np.packbits(~ink, axis=1)
    rows = np.insert(rows, 0, filter_type, axis=1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"tIME", bytes(7))
        + chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + chunk(b"IEND", b"")
    )


def glyph(number):
    """Glyph 0..6: a bar whose length and place tell its number and which way is up."""
    ink = np.zeros((SIDE, SIDE), bool)
    ink[10:25, : 15 * (number + 1)] = True
    return ink


def glyph_number(character, drawing):
    """Which glyph stands for a drawing; neighbours in either direction differ."""
    return (3 * character + drawing) % 7


_PNGS = [png(glyph(number)) for number in range(7)]


def files(part):
    """All drawings of a part, name -> PNG bytes, in upstream's names."""
    first = 0 if part == "images_background" else len(CHARACTERS["images_background"])
    return {
        f"{part}/{name}/{first + i + 1:04d}_{j + 1:02d}.png": _PNGS[glyph_number(first + i, j)]
        for i, name in enumerate(CHARACTERS[part])
        for j in range(DRAWINGS)
    }


def write_zip(folder, part, members=None):
    with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
        for name, data in (members or files(part)).items():
            archive.writestr(name, data)
