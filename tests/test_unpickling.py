"""Pickles: arrays of any origin are read, and nothing else, whatever it asks for."""

import builtins
import operator
import os
import pickle
import runpy
import subprocess

import numpy as np
import pytest
from image_sets import python2_array

from tinymaml.errors import UserError
from tinymaml.tasks.layouts import _read_pickle, _Unpickler


def loaded(path, data):
    path.write_bytes(data)
    with open(path, "rb") as file:
        return _Unpickler(file, encoding="latin1").load()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.arange(9)[::2],
        np.float16(2.5) * np.ones((2, 3)),
        np.array([True, False]),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(0, 2, 1),
        np.array(7),
    ],
    ids=str,
)
def test_arrays_of_any_protocol_are_read_as_python_reads_them(tmp_path, array, protocol):
    # The second comes out of the memo, as its type does.
    data = pickle.dumps({"x": [array, array, array.T], "n": [np.int64(-3)]}, protocol)
    ours = loaded(tmp_path / "x.pkl", data)
    for one, other in zip(map(np.asarray, ours["x"]), (array, array, array.T), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert ours["n"] == [-3]


def test_python_2_bytes_are_read(tmp_path):
    array = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    data = b"\x80\x02}(U\x0aimage_data" + python2_array(array) + b"U\x06labels](K\x03K\x01eu."
    ours = loaded(tmp_path / "x.pkl", data)
    np.testing.assert_array_equal(np.asarray(ours["image_data"]), array)
    assert ours["labels"] == [3, 1]


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


def test_no_payload_runs(tmp_path):
    canary = tmp_path / "canary"
    np.save(canary.with_suffix(".npy"), np.array([Calls(os.system, f"touch {canary}")], object))
    ran = 0
    for data, name in payloads(canary):
        with pytest.raises(UserError, match=f"x.pkl is refused.*{name}"):
            (tmp_path / "x.pkl").write_bytes(data)
            _read_pickle(tmp_path / "x.pkl")
        assert not canary.exists()
        try:  # the payload is a real one
            value = pickle.loads(data)
            list(value) if isinstance(value, map) else None
        except Exception:
            pass
        ran += canary.exists()
        canary.unlink(missing_ok=True)
    assert ran >= 12


@pytest.mark.parametrize(
    "data",
    [
        # NumPy itself would make an array of pointers of these bytes.
        b"cnumpy\nndarray\n((I1\ntS'O'\nS'AAAAAAAA'\ntR.",
        b"cnumpy.core.numeric\n_frombuffer\n(S'AAAAAAAA'\nS'O'\n(I1\ntS'C'\ntR.",
        b"cnumpy\nndarray\n)\x81.",
        b"cnumpy\ndtype\n(S'M8'\nI00\nI01\ntR.",
        b"cnumpy\ndtype\n(S'u1,O'\nI00\nI01\ntR.",
        b"Pos.system\n.",
        b"\x80\x02\x82\x01.",
        pickle.dumps([1, 2]),
        pickle.dumps({"image_data": np.zeros((2, 2, 2, 3), np.uint8), "class_dict": {"a": [5]}}),
        b"",
        b"(.",
        pickle.dumps({"class_dict": {}})[:-5],
    ],
    ids=repr,
)
def test_what_is_not_a_pickle_of_images_is_refused(data, tmp_path):
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(UserError, match=r"x\.pkl is (refused|damaged)"):
        _read_pickle(tmp_path / "x.pkl")
