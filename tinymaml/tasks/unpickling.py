"""A reader of pickles that are data: numbers, text, lists, dicts and NumPy arrays.

A pickle is a program, and Python's own reader runs whatever it names. This one knows only the
instructions that such data needs and calls nothing: the few names that NumPy's pickles hold stand
for functions of this file. Every length is checked against the file before memory is given to it.
"""

import codecs
import pickle
import re
import struct

import numpy as np

from ..errors import UserError
from .folders import read_file

# MiniImageNet's training images are 813 MB.
MAX_BYTES = 2**31
# MiniImageNet takes 40 thousand instructions, or 400 thousand if each label is an array scalar.
MAX_STEPS = 2 * 10**6
MAX_NUMBER = 64  # letters
MAX_DIMENSIONS = 8
_LONG = 4096  # bytes; longer strings are views of the file

_DTYPE = re.compile(r"[<>=|]?(b1|i[1248]|u[1248]|f[248]|[SU][1-9]\d{0,3})")


def read_pickle(path):
    """Read a pickle of plain data, as Python 2 or 3 and any NumPy have written it.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    None, bool, int, float, str, bytes, list, tuple, dict or array
        Python 2's strings are bytes, and long ones are memoryviews. Arrays are of booleans,
        numbers or text and share the memory of the file's bytes; array scalars are Python's
        numbers. The keys of a dict are text or bytes.

    Raises
    ------
    UserError
        If the file is damaged, too large, or holds anything else; the sentence names what.

    References
    ----------
    Python's ``pickletools.py`` describes every instruction.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     pickle.dump({"labels": [3, 1], "data": np.eye(2, dtype=np.uint8)}, file)
    ...     file.flush()
    ...     read_pickle(file.name)
    {'labels': [3, 1], 'data': array([[1, 0],
           [0, 1]], dtype=uint8)}
    """
    return _read(path, read_file(path, MAX_BYTES))


def _read(path, data):
    try:
        return _Reader(data).run()
    except UserError as error:
        raise UserError(f"{path} {error}") from None
    # What wrong instructions do to the stack, and wrong bytes to text, numbers and arrays.
    except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is damaged or no pickle; get it again") from error


class _Name:
    """What a pickle names, such as ``numpy.ndarray``."""

    def __init__(self, call):
        self.call = call


class _Unfilled:
    """An array or a dtype that a pickle has asked for, and fills by a later instruction."""

    def __init__(self, dtype=None):
        self.dtype, self.value = dtype, None


class _Reader:
    def __init__(self, data):
        self.data, self.view, self.at = data, memoryview(data), 0
        self.stack, self.marks, self.memo = [], [], {}
        # Bytes that may be made by recoding, which a pickle may ask for again and again.
        self.recoded = len(data)

    def run(self):
        for _ in range(MAX_STEPS):
            code = bytes(self.take(1))
            if code == pickle.STOP:
                return _filled(self.pop())
            if code not in _STEPS:
                raise UserError(f"is refused: a pickle of images needs no {_instruction(code)}")
            _STEPS[code](self)
        raise UserError(f"has more than {MAX_STEPS} instructions, too many for images")

    def take(self, count):
        """The next `count` bytes, not copied."""
        if not 0 <= count <= len(self.data) - self.at:
            raise UserError("is cut short or no pickle; get it again")
        self.at += count
        return self.view[self.at - count : self.at]

    def unpack(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def counted(self, form):
        """The bytes whose count comes first."""
        string = self.take(self.unpack(form))
        return string if len(string) >= _LONG else bytes(string)

    def line(self):
        end = self.data.find(b"\n", self.at)
        line = self.take(end - self.at if end >= 0 else -1)
        self.at += 1
        return bytes(line)

    def number(self):
        line = self.line()
        if len(line) > MAX_NUMBER:
            raise UserError(f"holds a number of {len(line)} digits")
        return line

    def push(self, value):
        self.stack.append(value)

    def pop(self):
        if self.marks and len(self.stack) == self.marks[-1]:
            raise IndexError("nothing after the mark")
        return self.stack.pop()

    def top(self, kind):
        if type(self.stack[-1]) is not kind:
            raise TypeError(f"not a {kind.__name__}")
        return self.stack[-1]

    def since_mark(self):
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items


def _instruction(code):
    import pickletools

    names = {op.code.encode("latin1"): op.name for op in pickletools.opcodes}
    return f"instruction {names.get(code, code[0])}"


def _filled(value):
    if type(value) is not _Unfilled:
        return value
    if value.value is None:
        raise ValueError("an array or dtype is used before it is filled")
    return value.value


def _text(value):
    """Text, or the bytes that Python 2 has written for it."""
    if type(value) is bytes:
        return value.decode("latin1")
    if type(value) is not str:
        raise TypeError("not text")
    return value


# Instructions: what they take from the file and the stack, and what they leave.


def _int(reader):
    line = reader.number()
    # Before protocol 2, True is the number 01.
    reader.push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))


def _long(reader, form):
    count = reader.unpack(form)
    if count > MAX_NUMBER:
        raise UserError(f"holds a number of {count} bytes")
    reader.push(int.from_bytes(reader.take(count), "little", signed=True))


def _string(reader):
    line = reader.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a string without quotes")
    reader.push(codecs.escape_decode(line[1:-1])[0])


def _extend(reader):
    items = reader.since_mark()
    reader.top(list).extend(items)


def _set_items(reader, target, items):
    keys = items[::2]
    # Only of text and bytes is the hash beyond the control of who wrote the file: with other keys
    # a dict can be made to take hours.
    if len(items) % 2 or {type(key) for key in keys} - {str, bytes}:
        raise UserError("is refused: it has a dict whose keys are not text")
    target.update(zip(keys, items[1::2]))


def _dict(reader):
    items = reader.since_mark()
    reader.push({})
    _set_items(reader, reader.top(dict), items)


def _set_item(reader):
    value, key = reader.pop(), reader.pop()
    _set_items(reader, reader.top(dict), [key, value])


def _update(reader):
    items = reader.since_mark()
    _set_items(reader, reader.top(dict), items)


def _tuple(reader, count):
    reader.push(tuple(reversed([reader.pop() for _ in range(count)])))


def _get(reader, index):
    value = reader.memo[index]
    done = type(value) is _Unfilled and value.value is not None
    reader.push(value.value if done else value)


def _name(reader, module, name):
    full = f"{_text(module)}.{_text(name)}"
    if full not in _NAMES:
        raise UserError(
            f"is refused: it names {full[:80]!r}, which data does not need and which may run "
            "code of others on this machine"
        )
    reader.push(_NAMES[full])


def _instance(reader):
    reader.since_mark()
    _global(reader)
    raise UserError(f"is refused: a pickle of images needs no {_instruction(pickle.INST)}")


def _global(reader):
    module, name = reader.line(), reader.line()
    _name(reader, module, name)


def _stack_global(reader):
    name, module = reader.pop(), reader.pop()
    _name(reader, module, name)


def _reduce(reader):
    arguments, name = reader.pop(), reader.pop()
    if type(name) is not _Name or type(arguments) is not tuple or name.call is None:
        raise UserError("is refused: it calls what is no part of an array")
    reader.push(name.call(reader, *arguments))


def _build(reader):
    state = reader.pop()
    unfilled = reader.top(_Unfilled)
    if type(state) is not tuple or unfilled.value is not None:
        raise TypeError("nothing to fill")
    if unfilled.dtype is None:
        version, shape, dtype, in_columns, data = state
        unfilled.value = _array(data, dtype, shape, in_columns)
    else:
        version, order, subarray, names, fields = state[:5]
        if (version, subarray, names, fields) != (3, None, None, None):
            raise TypeError("not a plain dtype")
        unfilled.value = unfilled.dtype.newbyteorder(_text(order))
    reader.stack[-1] = unfilled.value


# What the names in a pickle stand for.


def _array(data, dtype, shape, in_columns):
    dtype = _filled(dtype)
    if not isinstance(dtype, np.dtype) or type(shape) is not tuple or len(shape) > MAX_DIMENSIONS:
        raise TypeError("no plain array")
    size = dtype.itemsize
    for length in shape:
        if type(length) is not int or length < 0:
            raise TypeError("no shape")
        size *= length
    if size != len(data):
        raise ValueError(f"{len(data)} bytes for an array of {size}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if in_columns else "C")


def _new_array(reader, kind, shape, code):
    if kind is not _NDARRAY:
        raise TypeError("not numpy.ndarray")
    return _Unfilled()


def _new_dtype(reader, name, align, copy):
    name = _text(name)
    if not _DTYPE.fullmatch(name):
        raise UserError(f"is refused: it has an array of dtype {name[:80]!r}, which is no number")
    return _Unfilled(np.dtype(name))


def _scalar(reader, dtype, data):
    return _array(data, dtype, (), False).item()


def _from_buffer(reader, data, dtype, shape, order):
    return _array(data, dtype, shape, order == "F")


def _encode(reader, text, encoding):
    """How Python 3 writes bytes before protocol 3."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise UserError("is refused: it encodes something other than bytes")
    reader.recoded -= len(text)
    if reader.recoded < 0:
        raise UserError("is refused: it makes more bytes than it holds")
    return text.encode("latin1")


_NDARRAY = _Name(None)
_NAMES = {
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _Name(_new_dtype),
    "_codecs.encode": _Name(_encode),
    "__builtin__.bytes": _Name(lambda reader: b""),  # how no bytes are written before protocol 3
    # NumPy 2 has put an underscore before core.
    **{
        f"numpy.{core}.{name}": _Name(call)
        for core in ("core", "_core")
        for name, call in (
            ("multiarray._reconstruct", _new_array),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}

_STEPS = {
    pickle.PROTO: lambda r: r.take(1),
    pickle.FRAME: lambda r: r.take(8),
    pickle.MARK: lambda r: r.marks.append(len(r.stack)),
    pickle.NONE: lambda r: r.push(None),
    pickle.NEWTRUE: lambda r: r.push(True),
    pickle.NEWFALSE: lambda r: r.push(False),
    pickle.INT: _int,
    pickle.BININT: lambda r: r.push(r.unpack("<i")),
    pickle.BININT1: lambda r: r.push(r.unpack("<B")),
    pickle.BININT2: lambda r: r.push(r.unpack("<H")),
    pickle.LONG: lambda r: r.push(int(r.number().rstrip(b"L"))),
    pickle.LONG1: lambda r: _long(r, "<B"),
    pickle.LONG4: lambda r: _long(r, "<i"),
    pickle.FLOAT: lambda r: r.push(float(r.number())),
    pickle.BINFLOAT: lambda r: r.push(r.unpack(">d")),
    pickle.STRING: _string,
    pickle.BINSTRING: lambda r: r.push(r.counted("<i")),
    pickle.SHORT_BINSTRING: lambda r: r.push(r.counted("<B")),
    pickle.BINBYTES: lambda r: r.push(r.counted("<I")),
    pickle.SHORT_BINBYTES: lambda r: r.push(r.counted("<B")),
    pickle.BINBYTES8: lambda r: r.push(r.counted("<Q")),
    pickle.BYTEARRAY8: lambda r: r.push(r.counted("<Q")),
    pickle.UNICODE: lambda r: r.push(r.line().decode("raw-unicode-escape")),
    pickle.SHORT_BINUNICODE: lambda r: r.push(str(r.take(r.unpack("<B")), "utf-8")),
    pickle.BINUNICODE: lambda r: r.push(str(r.take(r.unpack("<I")), "utf-8")),
    pickle.BINUNICODE8: lambda r: r.push(str(r.take(r.unpack("<Q")), "utf-8")),
    pickle.EMPTY_LIST: lambda r: r.push([]),
    pickle.LIST: lambda r: r.push(r.since_mark()),
    pickle.APPEND: lambda r: (lambda item: r.top(list).append(item))(r.pop()),
    pickle.APPENDS: _extend,
    pickle.EMPTY_TUPLE: lambda r: r.push(()),
    pickle.TUPLE: lambda r: r.push(tuple(r.since_mark())),
    pickle.TUPLE1: lambda r: _tuple(r, 1),
    pickle.TUPLE2: lambda r: _tuple(r, 2),
    pickle.TUPLE3: lambda r: _tuple(r, 3),
    pickle.EMPTY_DICT: lambda r: r.push({}),
    pickle.DICT: _dict,
    pickle.SETITEM: _set_item,
    pickle.SETITEMS: _update,
    pickle.PUT: lambda r: r.memo.__setitem__(int(r.number()), r.stack[-1]),
    pickle.BINPUT: lambda r: r.memo.__setitem__(r.unpack("<B"), r.stack[-1]),
    pickle.LONG_BINPUT: lambda r: r.memo.__setitem__(r.unpack("<I"), r.stack[-1]),
    pickle.MEMOIZE: lambda r: r.memo.__setitem__(len(r.memo), r.stack[-1]),
    pickle.GET: lambda r: _get(r, int(r.number())),
    pickle.BINGET: lambda r: _get(r, r.unpack("<B")),
    pickle.LONG_BINGET: lambda r: _get(r, r.unpack("<I")),
    pickle.GLOBAL: _global,
    pickle.STACK_GLOBAL: _stack_global,
    pickle.INST: _instance,
    pickle.REDUCE: _reduce,
    pickle.BUILD: _build,
}
