"""A strict reader for one kind of PNG: square, 1 bit a pixel, grayscale, as in Omniglot."""

import struct
import zlib

import numpy as np

from ..errors import UserError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_png(name, data, side):
    """Decode a `side` x `side` 1-bit grayscale PNG whose rows are unfiltered.

    Anything else is refused, so that time and memory stay bounded whatever the bytes say.

    Parameters
    ----------
    name : str
        What to call the image in an error.
    data : bytes
    side : int
        Its required width and height, pixels.

    Returns
    -------
    uint8 array (side, ceil(side / 8))
        Packed rows: most significant bit first, 1 = white.

    Raises
    ------
    UserError
        If the image is damaged or of another kind.

    References
    ----------
    Portable Network Graphics Specification (W3C), sections 5 (chunks) and 9 (filters).

    Examples
    --------
    >>> def chunk(kind, body):
    ...     return struct.pack(">I", len(body)) + kind + body + struct.pack(
    ...         ">I", zlib.crc32(kind + body))
    >>> header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 1, 0, 0, 0, 0))
    >>> pixels = chunk(b"IDAT", zlib.compress(bytes([0, 0b01000000, 0, 0b10000000])))
    >>> rows = read_png("x", _SIGNATURE + header + pixels + chunk(b"IEND", b""), side=2)
    >>> np.unpackbits(rows, axis=-1, count=2)
    array([[0, 1],
           [1, 0]], dtype=uint8)
    """
    if not data.startswith(_SIGNATURE):
        raise UserError(f"{name} is not a PNG image")
    chunks = _chunks(name, data)
    kind, header = next(chunks)
    if kind != b"IHDR" or len(header) != 13:
        raise UserError(f"{name} is a PNG without a header")
    width, height, depth, colour, *methods = struct.unpack(">IIBBBBB", header)
    # Colour type 0 is grayscale; the methods are deflate, adaptive filters, not interlaced.
    if (width, height, depth, colour, methods) != (side, side, 1, 0, [0, 0, 0]):
        raise UserError(
            f"{name} is a {width}x{height} PNG with {depth} bits a pixel (colour type {colour}), "
            f"expected {side}x{side} with 1 bit, grayscale"
        )
    packed = b"".join(body for kind, body in chunks if kind == b"IDAT")
    row = 1 + (side + 7) // 8
    unpacker = zlib.decompressobj()
    try:
        # One byte more than needed is enough to know that there is too much.
        raw = unpacker.decompress(packed, side * row + 1)
    except zlib.error as error:
        raise UserError(f"{name} is damaged ({error})") from error
    if len(raw) != side * row or not unpacker.eof:
        raise UserError(f"{name} does not hold {side} rows of {side} pixels")
    rows = np.frombuffer(raw, np.uint8).reshape(side, row)
    if rows[:, 0].any():
        raise UserError(f"{name} has filtered rows, which Omniglot's drawings have not")
    return rows[:, 1:]


def _chunks(name, data):
    """Yield kind and body of each chunk up to the end mark."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length
        if at > len(data):
            break
        if struct.unpack_from(">I", data, at - 4) != (zlib.crc32(body, zlib.crc32(kind)),):
            raise UserError(f"{name} is damaged (wrong checksum)")
        yield kind, body
        if kind == b"IEND":
            return
    raise UserError(f"{name} is cut short")
