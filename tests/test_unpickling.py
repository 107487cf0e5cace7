"""Pickles: plain data of every origin is read, and nothing else, whatever it asks for."""

import builtins
import codecs
import operator
import os
import pickle
import random
import runpy
import struct
import subprocess
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_sets import python2_array

from tinymaml.errors import UserError
from tinymaml.tasks import unpickling
from tinymaml.tasks.unpickling import read_pickle


@pytest.fixture
def read(tmp_path):
    def read(data):
        (tmp_path / "x.pkl").write_bytes(data)
        return read_pickle(tmp_path / "x.pkl")

    return read


def same(ours, theirs):
    """Whether two structures are equal, a scalar of NumPy's being Python's number to us."""
    if isinstance(theirs, np.ndarray):
        equal = isinstance(ours, np.ndarray) and ours.dtype == theirs.dtype
        return equal and ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()
    if isinstance(theirs, np.generic):
        return type(ours) is type(theirs.item()) and ours == theirs
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs or ours != ours


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**100), 2**100)
    | st.floats()
    | st.text()
    | st.binary()
    | st.integers(-100, 100).map(np.int64)
    | st.lists(st.integers(0, 255)).map(lambda x: np.array(x, np.uint8))
)
DATA = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.binary(), inner)
        | inner.map(lambda x: [x, {"again": x}, x])
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(data=DATA, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_of_any_protocol_is_read_as_python_reads_it(data, protocol):
    reader = unpickling._Reader(pickle.dumps(data, protocol))
    assert same(reader.run(), data)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.arange(9)[::2],
        np.float16(2.5) * np.ones((2, 0)),
        np.array([True, False]),
        np.array(["n01532829", "é"]),
        np.array([b"n01532829", b"x"]),
        np.array(7),
    ],
    ids=str,
)
def test_arrays_of_any_protocol_are_read_as_python_reads_them(read, array, protocol):
    # The second comes out of the memo, as its type does.
    assert same(read(pickle.dumps([array, array, array.T], protocol))[1], array)


def test_python_2_strings_are_bytes_and_arrays_the_same(read):
    array = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    data = b"\x80\x02}(U\x0aimage_data" + python2_array(array) + b"U\x06labels](K\x03K\x01eu."
    assert same(read(data), {b"image_data": array, b"labels": [3, 1]})
    assert same(read(data), pickle.loads(data, encoding="bytes"))
    assert read(b"S'it\\'s \\xff\\n'\np0\n.") == b"it's \xff\n"


def test_large_arrays_are_not_copied(tmp_path):
    array = np.zeros((100, 84, 84, 3), np.uint8)
    for protocol in (3, 4, 5):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(array, protocol))
        tracemalloc.start()
        read_pickle(tmp_path / "x.pkl")
        assert tracemalloc.get_traced_memory()[1] < 1.05 * array.nbytes
        tracemalloc.stop()


class Calls:
    """An object whose pickle calls a function when Python reads it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def payloads(canary):
    """Pickles that make a file when Python's reader reads them, and what they have to name."""
    touch, python = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    script = canary.with_suffix(".py")
    script.write_text(python)
    inner = pickle.dumps(Calls(os.system, touch))
    dtype = b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb"
    command = f"S'{touch}'\n".encode()
    yield pickle.dumps(Calls(os.system, touch)), "posix.system"
    yield pickle.dumps(Calls(os.system, touch), 0), "posix.system"
    yield pickle.dumps({"image_data": [Calls(os.system, touch)]}, 2), "posix.system"
    yield pickle.dumps(Calls(subprocess.call, touch.split())), "subprocess.call"
    yield pickle.dumps(Calls(eval, python)), "builtins.eval"
    yield pickle.dumps(Calls(exec, python)), "builtins.exec"
    yield pickle.dumps(Calls(runpy.run_path, str(script))), "runpy.run_path"
    yield pickle.dumps(Calls(operator.methodcaller("touch"), canary)), "methodcaller"
    yield pickle.dumps(Calls(getattr, canary, "touch")), "builtins.getattr"
    yield pickle.dumps(Calls(builtins.map, os.system, [touch])), "builtins.map"
    yield pickle.dumps(np.array([Calls(os.system, touch)], object), 2), "'O8'"
    yield pickle.dumps(Calls(np.load, str(canary.with_suffix(".npy")), None, True)), "numpy"
    # Old instructions that name a class and call it at once.
    yield b"(" + command + b"ios\nsystem\n.", "os.system"
    yield b"(cos\nsystem\n" + command + b"o.", "os.system"
    # An array scalar of dtype object holds a pickle, which NumPy reads.
    quoted = "".join(f"\\x{byte:02x}" for byte in inner).encode()
    yield b"cnumpy.core.multiarray\nscalar\n(" + dtype + b"S'" + quoted + b"'\ntR.", "'O8'"
    short = bytes([len(touch)]) + touch.encode()
    yield b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c" + short + b"\x85R.", "posix.system"


def test_no_payload_runs(read, tmp_path):
    canary = tmp_path / "canary"
    np.save(canary.with_suffix(".npy"), np.array([Calls(os.system, f"touch {canary}")], object))
    ran = 0
    for data, name in payloads(canary):
        with pytest.raises(UserError, match=f"x.pkl is refused.*{name}"):
            read(data)
        assert not canary.exists()
        try:  # the payload is a real one
            value = pickle.loads(data)
            list(value) if isinstance(value, map) else None
        except Exception:
            pass
        ran += canary.exists()
        canary.unlink(missing_ok=True)
    assert ran >= 12


GLOBAL = b"cnumpy.core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize(
    "data, sentence",
    [
        (b"cnumpy\nndarray\n)R.", "calls what is no part"),
        (b"cnumpy\ndtype\n)R.", "damaged"),
        (b"(lp0\n)R.", "calls what is no part"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "needs no instruction NEWOBJ"),
        (b"cnumpy\ndtype\n}X\x04\x00\x00\x00callK\x01sb.", "damaged"),
        (b"c_codecs\nencode\n(Vx\nVrot13\ntR.", "encodes something other"),
        (b"c_codecs\nencode\n(Vx\nVzlib\ntR.", "encodes something other"),
        (GLOBAL + b"(cnumpy\ndtype\n(I0\ntS'b'\ntR.", "damaged"),
        (GLOBAL + b"(cnumpy\nndarray\n(I0\ntS'b'\ntR.", "damaged"),  # and never filled
        (b"cnumpy\ndtype\n(S'M8'\nI00\nI01\ntR.", "dtype 'M8'"),
        (b"cnumpy\ndtype\n(S'u1,O'\nI00\nI01\ntR.", "dtype 'u1,O'"),
        (b"cnumpy\ndtype\n(S'f3'\nI00\nI01\ntR.", "dtype 'f3'"),
        (b"cnumpy\ndtype\n((lI00\nI01\ntR.", "damaged"),
        (b"Pos.system\n.", "needs no instruction PERSID"),
        (b"\x80\x02\x82\x01.", "needs no instruction EXT1"),
        (b"N2.", "needs no instruction DUP"),
        (b"\x97.", "needs no instruction NEXT_BUFFER"),
        (b"\x8f.", "needs no instruction EMPTY_SET"),
        (b"\xff", "needs no instruction 255"),
        (b"", "cut short"),
        (b".", "damaged"),
        (b"t.", "damaged"),
        (b"(.", "damaged"),
        (b"N(0.", "POP"),
        (b"N(s.", "damaged"),
        (b"h\x00.", "damaged"),
        (b"}K\x01Ns.", "keys are not text"),
        (b"}]Ns.", "keys are not text"),
        (b"}(Vx\nu.", "keys are not text"),
        (b"NN.x", None),
        (b"S'x\n.", "damaged"),
        (b"X\x01\x00\x00\x00\xff.", "damaged"),
        (b"\n <!DOCTYPE html>", "is an HTML page: the download failed"),
    ],
    ids=repr,
)
def test_what_is_no_data_is_refused(read, data, sentence):
    if sentence is None:  # what follows the end is no part of it
        assert read(data) is None
        return
    with pytest.raises(UserError, match=sentence):
        read(data)


def array_state(shape, dtype, data):
    dtype = b"cnumpy\ndtype\n(S'" + dtype + b"'\nI00\nI01\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    return (
        GLOBAL + b"(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n" + shape + dtype + b"I00\n" + data + b"tb."
    )


TEXT = b"X" + struct.pack("<I", 10**6) + b"x" * 10**6


@pytest.mark.parametrize(
    "data",
    [
        b"\x8e" + struct.pack("<Q", 2**40) + b"x.",  # BINBYTES8
        b"\x8e" + struct.pack("<Q", 2**63) + b"x.",
        b"\x96" + struct.pack("<Q", 2**40) + b"x.",  # BYTEARRAY8
        b"\x8d" + struct.pack("<Q", 2**40) + b"x.",  # BINUNICODE8
        b"X" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"T" + struct.pack("<i", 2**31 - 1) + b"x.",
        b"T" + struct.pack("<i", -5) + b"x.",
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",  # LONG4
        b"\x8b" + struct.pack("<i", -1) + b"x.",
        b"\x8b" + struct.pack("<i", 10**5) + b"x" * 10**5 + b".",
        b"I" + b"9" * 10**5 + b"\n.",
        b"L" + b"9" * 10**5 + b"L\n.",
        array_state(b"(L1099511627776L\nt", b"u1", b"S''\n"),
        array_state(b"(L1099511627776L\nI-1\nt", b"u1", b"S''\n"),
        array_state(b"(L4294967296L\nL4294967296L\nt", b"u1", b"S''\n"),  # 2**64, which is 0
        array_state(b"(L1099511627776L\nt", b"S0", b"S''\n"),
        array_state(b"(L1099511627776L\nt", b"V0", b"S''\n"),
        array_state(b"(I1\nt", b"S999999999", b"S''\n"),
        array_state(b"(" + b"I1\n" * 65 + b"t", b"u1", b"S'x'\n"),
        array_state(b"(I0\nL1180591620717411303424L\nt", b"u1", b"S''\n"),
        TEXT + b"p0\n(" + b"c_codecs\nencode\n(g0\nVlatin1\ntR" * 100 + b"l.",
        b"(" + b"]" * 2 * 10**4 + b"l.",
        # A tuple of the same tuple twice, and so on, whose hash takes time without end.
        b"})"
        + b"".join(b"q%c0(h%ch%ct" % (i, i, i) for i in range(60)).replace(b"0", b"")
        + b"Ns.",
    ],
    ids=lambda data: repr(data[:30]),
)
def test_bombs_take_neither_memory_nor_time(read, data, monkeypatch):
    monkeypatch.setattr(unpickling, "MAX_STEPS", 10**4)
    tracemalloc.start()
    with pytest.raises(UserError):
        read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e7


def test_a_list_that_holds_itself_many_times_over_stays_small(read):
    laughs = b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(40)) + b"."
    tracemalloc.start()
    value = read(laughs)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
    assert value[0] is value[1]
    # Python's own reader gives 34 GB to such a number.
    assert read(b"Nr\xff\xff\xff\xff.") is None


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    with open(tmp_path / "x.pkl", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match=r"x.pkl has 1099511627776 bytes, more than"):
        read_pickle(tmp_path / "x.pkl")


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, sentence in {
        "absent": "does not exist",
        "": "not a file",
        "pipe": "not a file",
    }.items():
        with pytest.raises(UserError, match=sentence):
            read_pickle(tmp_path / name)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_damage_gives_data_or_a_user_error(protocol):
    whole = pickle.dumps(
        {
            "image_data": np.arange(48, dtype=np.uint8).reshape(2, 8, 3),
            "class_dict": {"n1": [0, 1]},
        },
        protocol,
    )
    rng = random.Random(protocol)
    flips = [(rng.randrange(len(whole)), rng.choice([1, 2, 4, 128, 255])) for _ in range(1500)]
    damaged = [whole[:i] for i in range(len(whole))]
    damaged += [whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :] for i, bit in flips]
    damaged += [rng.randbytes(50) for _ in range(300)]
    for data in damaged:
        try:
            value = unpickling._read("x", data)
        except UserError:
            continue
        assert data not in damaged[: len(whole)], "cut short and read all the same"
        assert type(value) in (
            dict,
            list,
            tuple,
            str,
            bytes,
            int,
            float,
            bool,
            type(None),
            np.ndarray,
        )


def test_escaped_strings_are_read_as_python_2_wrote_them():
    for byte in range(256):
        text = codecs.escape_encode(bytes([byte, 39, 34, 92]))[0]
        assert unpickling._Reader(b"S'" + text + b"'\n.").run() == bytes([byte, 39, 34, 92])
