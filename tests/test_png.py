"""The PNG reader: what it refuses, and that it reads the rest right."""

import struct
import zlib

import numpy as np
import pytest
from glyphs import chunk, glyph, png

from tinymaml.errors import UserError
from tinymaml.tasks.png import read_png


def damaged():
    """Drawings that are wrong in one way each."""
    good, ink = png(glyph(0)), glyph(0)
    rows = zlib.compress(bytes(105 * 15))
    start = good[: 8 + 25]
    end = chunk(b"IEND", b"")
    return {
        "empty": b"",
        "text": b"\x89PNG but not really",
        "cut short": good[:-20],
        "checksum": good[:60] + bytes([good[60] ^ 1]) + good[61:],
        "8 bits a pixel": png(ink, struct.pack(">IIBBBBB", 105, 105, 8, 0, 0, 0, 0)),
        "colour": png(ink, struct.pack(">IIBBBBB", 105, 105, 1, 3, 0, 0, 0)),
        "interlaced": png(ink, struct.pack(">IIBBBBB", 105, 105, 1, 0, 0, 0, 1)),
        "giant": png(ink, struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 1, 0, 0, 0, 0)),
        "filtered": png(ink, filter_type=1),
        "no header": good[:8] + chunk(b"IDAT", rows) + end,
        "short header": good[:8] + chunk(b"IHDR", b"x") + end,
        "no pixels": start + end,
        "too few pixels": start + chunk(b"IDAT", zlib.compress(bytes(99))) + end,
        "bomb": start + chunk(b"IDAT", zlib.compress(bytes(10**7))) + end,
        "unended stream": start + chunk(b"IDAT", rows[:-5]) + end,
        "no stream": start + chunk(b"IDAT", b"xxxx") + end,
        "length beyond the end": start + struct.pack(">I", 2**32 - 1) + b"IDAT" + rows,
    }


@pytest.mark.parametrize("data", damaged().values(), ids=damaged())
def test_damaged_drawings_are_refused(data):
    with pytest.raises(UserError, match=r"^Latin/1\.png "):
        read_png("Latin/1.png", data, side=105)


def test_pixels_may_come_in_several_chunks():
    good = png(glyph(3))
    at = good.index(b"IDAT")
    (length,) = struct.unpack_from(">I", good, at - 4)
    body = good[at + 4 : at + 4 + length]
    halves = chunk(b"IDAT", body[:9]) + chunk(b"IDAT", b"") + chunk(b"IDAT", body[9:])
    split = good[: at - 4] + halves + chunk(b"IEND", b"")
    np.testing.assert_array_equal(
        np.unpackbits(read_png("x", split, side=105), axis=-1, count=105) == 0, glyph(3)
    )
