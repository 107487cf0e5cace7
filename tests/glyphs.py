"""Stand-ins for Omniglot's files: upstream's whole layout, drawn with a few glyphs."""

import struct
import zipfile
import zlib

import numpy as np

from tinymaml.tasks.omniglot import DRAWINGS, SIDE

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
NAMES = [f"{part}/{character}" for part in CHARACTERS for character in CHARACTERS[part]]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(ink):
    """A 1-bit PNG as upstream writes it: paper = 1, ink = 0."""
    height, width = ink.shape
    rows = np.insert(np.packbits(~ink, axis=1), 0, 0, axis=1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
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
