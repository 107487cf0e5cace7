"""Pickles, HDF5 and Parquet: what they may hold, and that nothing else gets past."""

import json
import os
import pickle
import sys
import tracemalloc
from pathlib import Path

import image_sets as sets
import numpy as np
import pytest
from image_sets import HUGGING_FACE, LAYOUTS, quietly, refusal

from tinymaml.errors import UserError


def large_cache(split):
    names = sets.NAMES[split]
    rows = {name: list(range(i * 60, i * 60 + 60)) for i, name in enumerate(names)}
    return {"image_data": np.zeros((60 * len(names), 84, 84, 3), np.uint8), "class_dict": rows}


def test_images_of_arrays_are_not_copied(tmp_path):
    sets.write_caches(tmp_path, contents=large_cache)
    sizes = sum(path.stat().st_size for path in tmp_path.iterdir())
    tracemalloc.start()
    data = quietly(tmp_path, 84)
    assert tracemalloc.get_traced_memory()[1] < 1.2 * sizes
    tracemalloc.stop()
    assert data.images["train"][0].shape == (60, 84, 84, 3)


def pickled(**changes):
    """A writer of caches of which the validation part is changed."""
    contents = lambda split: sets.cache(split) | (changes if split == "val" else {})
    return lambda folder: sets.write_caches(folder, contents=contents)


def categories(**changes):
    contents = lambda split: sets.category_split(split) | (changes if split == "val" else {})
    return lambda folder: sets.write_category_splits(folder, contents=contents)


IMAGES = sets.stacked("val")


@pytest.mark.parametrize(
    "write, sentence",
    [
        (pickled(image_data=IMAGES.astype(float)), "is float64 (12, 8, 8, 3); expected uint8"),
        (pickled(image_data=IMAGES[..., :1]), "is uint8 (12, 8, 8, 1); expected uint8 (n, height"),
        (pickled(image_data=IMAGES.reshape(12, -1)), "is uint8 (12, 192)"),
        (pickled(image_data=IMAGES[:0]), "is uint8 (0, 8, 8, 3)"),
        (pickled(image_data=None), "it holds no array 'image_data'"),
        (pickled(class_dict=[]), "it holds no dict where one is expected"),
        (pickled(class_dict={}), "val has no classes"),
        (pickled(class_dict={"a": [0, 1, 12]}), "class_dict['a'] holds something other than"),
        (pickled(class_dict={"a": [-1]}), "class_dict['a'] holds something other than"),
        (pickled(class_dict={"a": [0.0]}), "class_dict['a'] holds something other than"),
        (pickled(class_dict={"a": [True]}), "class_dict['a'] holds something other than"),
        (pickled(class_dict={"a": []}), "class_dict['a'] is no list of numbers"),
        (pickled(class_dict={"a": np.zeros(10**6, np.uint8)}), "class_dict['a'] is no list"),
        (pickled(class_dict={"a": np.zeros((2, 2), int)}), "class_dict['a'] is no list"),
        (pickled(class_dict={"a": np.array(1)}), "class_dict['a'] is no list"),
        (pickled(class_dict={"a": [0, 1], "b": [1, 2]}), "gives an image to two classes"),
        (pickled(class_dict={"\n": [0]}), "has a class whose name is no text"),
        (categories(labels=[1, 2]), "labels is no list of one label for each image"),
        (categories(labels=np.array(3)), "labels is no list"),
        (categories(labels=[1.5] * 12), "neither text nor numbers of classes"),
        (categories(labels=[1] * 11 + ["a"]), "neither text nor numbers of classes"),
        (categories(labels=[[1]] * 12), "neither text nor numbers of classes"),
        (categories(labels=[-1] * 12), "neither text nor numbers of classes"),
        (categories(labels=[2**61 - 1] * 12), "neither text nor numbers of classes"),
        (categories(labels=[0] * 12), "labels that it names no class for"),
        (categories(catname2label=3), "holds no dict"),
        (categories(catname2label={"a": [3]}), None),
        (categories(data=None), "it holds no array 'data'"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_pickles_of_other_things_are_named(write, sentence, tmp_path):
    write(tmp_path)
    if sentence is not None:
        assert sentence in refusal(tmp_path)
        return
    try:
        data = quietly(tmp_path)
    except UserError:
        return
    assert set(map(type, data.names["val"])) <= {str}


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_malicious_pickle_runs_nothing(tmp_path):
    pickled(class_dict=Touch(tmp_path / "canary"))(tmp_path / "x")
    assert "is refused: it names 'posix.system'" in refusal(tmp_path / "x")
    assert not (tmp_path / "canary").exists()
    pickle.loads((tmp_path / "x" / "mini-imagenet-cache-val.pkl").read_bytes())
    assert (tmp_path / "canary").exists()


def change_hdf5(folder, change):
    h5py = pytest.importorskip("h5py")
    sets.write_hdf5(folder)
    with h5py.File(folder / "val_data.hdf5", "a") as file:
        group = file["datasets"]
        del group["n00000010"]
        change(h5py, file, group)


def squeezed(h5py, file, group):
    group.create_dataset("n00000010", data=np.zeros((4, 8, 8, 3), np.uint8), compression="gzip")


def bomb(h5py, file, group):
    options = {"dtype": np.uint8, "chunks": (1000, 84, 84, 3), "compression": "gzip"}
    group.create_dataset("n00000010", (10**12, 84, 84, 3), **options)


def never_written(h5py, file, group):
    group.create_dataset("n00000010", (10**12, 84, 84, 3), dtype=np.uint8)


def elsewhere(h5py, file, group):
    path = Path(file.filename).with_name("train_data.hdf5")
    options = {"dtype": np.uint8, "external": [(str(path), 0, 4 * 192)]}
    group.create_dataset("n00000010", (4, 8, 8, 3), **options)


def virtual(h5py, file, group):
    layout = h5py.VirtualLayout((4, 8, 8, 3), np.uint8)
    path = Path(file.filename).with_name("train_data.hdf5")
    layout[...] = h5py.VirtualSource(str(path), "datasets/n00000003", (4, 8, 8, 3))
    group.create_virtual_dataset("n00000010", layout)


def other_file(h5py, file, group):
    group["n00000010"] = h5py.ExternalLink("train_data.hdf5", "/datasets/n00000003")


def soft(h5py, file, group):
    group["n00000010"] = h5py.SoftLink("/datasets/n00000010")


def grey(h5py, file, group):
    group.create_dataset("n00000010", data=np.zeros((4, 8, 8), np.uint8))


def floats(h5py, file, group):
    group.create_dataset("n00000010", data=np.zeros((4, 8, 8, 3)))


def deeper(h5py, file, group):
    group.create_group("n00000010")


def absent(h5py, file, group):
    pass


def no_group(h5py, file, group):
    file.move("datasets", "other")


@pytest.mark.parametrize(
    "change, sentence",
    [
        (squeezed, "is compressed, in pieces or in other files"),
        (bomb, "is compressed, in pieces or in other files"),
        (never_written, "is compressed, in pieces or in other files"),
        (elsewhere, "is compressed, in pieces or in other files"),
        (virtual, "is compressed, in pieces or in other files"),
        (other_file, "holds no 'n00000010'"),
        (soft, "holds no 'n00000010'"),
        (absent, "holds no 'n00000010'"),
        (no_group, "holds no 'datasets'"),
        (deeper, "'n00000010' is no dataset"),
        (grey, "is uint8 (4, 8, 8); expected uint8 (n, height, width, 3)"),
        (floats, "is float64 (4, 8, 8, 3)"),
    ],
)
def test_hdf5_of_other_things_is_named(change, sentence, tmp_path):
    change_hdf5(tmp_path, change)
    assert sentence in refusal(tmp_path)


def test_an_hdf5_file_that_names_the_same_bytes_again_and_again_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    sets.write_hdf5(tmp_path)
    names = [f"class {i}" for i in range(300)]
    with h5py.File(tmp_path / "val_data.hdf5", "a") as file:
        for name in names:
            file["datasets"][name] = file["datasets"]["n00000010"]
    (tmp_path / "val_labels.json").write_text(json.dumps(names))
    assert "val_data.hdf5, read, has 230400 bytes, more than" in refusal(tmp_path)


@pytest.mark.parametrize(
    "labels, sentence",
    [
        ("", "is damaged or no JSON"),
        ("[" * 100_000, "is damaged or no JSON"),
        ("{}", "holds no list of the classes' names"),
        ("[]", "holds no list of the classes' names"),
        ("[1]", "has a class whose name is no text"),
        ("[[]]", "has a class whose name is no text"),
        ('["../x"]', "holds no '../x'"),
        ('["."]', "val_data.hdf5"),
        ('["n00000010", "n00000010"]', "names a class twice"),
        ("[" + "9" * 5000 + "]", "val_labels.json"),
    ],
)
def test_bad_lists_of_labels_are_named(labels, sentence, tmp_path):
    sets.write_hdf5(tmp_path)
    (tmp_path / "val_labels.json").write_text(labels)
    assert sentence in refusal(tmp_path)


def write_rows(folder, **columns):
    """A set whose validation part is the table of these columns."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    sets.write_parquet(folder)
    parquet.write_table(pyarrow.table(columns), folder / "validation.parquet")


PNG = sets.encoded(sets.images_of("n00000010")[0])


@pytest.mark.parametrize(
    "columns, sentence",
    [
        ({"picture": [PNG], "label": [1]}, "has the columns picture, label; expected image and"),
        ({"image": [None, PNG], "label": ["a", "b"]}, "image 0 of a is absent"),
        ({"image": [{"bytes": None, "path": "/etc/passwd"}], "label": ["a"]}, "0 of a is absent"),
        ({"image": ["text"], "label": ["a"]}, "image 0 of a is absent"),
        ({"image": [b"<html>"], "label": ["a"]}, "image 0 of a is an HTML page"),
        ({"image": [PNG], "label": [None]}, "neither text nor numbers of classes"),
        ({"image": [PNG], "label": [-1]}, "neither text nor numbers of classes"),
        ({"image": [PNG], "label": [1.5]}, "neither text nor numbers of classes"),
        ({"image": [PNG], "label": [[1]]}, "neither text nor numbers of classes"),
        ({"image": [PNG], "label": ["x" * 300]}, "a label without end"),
        ({"image": [PNG] * 4000, "label": ["a"] * 4000}, "validation.parquet, unpacked, has"),
        ({"image": [bytes(10**7)], "label": ["a"]}, "validation.parquet, unpacked, has"),
    ],
)  # fmt: skip
def test_parquet_of_other_things_is_named(columns, sentence, tmp_path):
    write_rows(tmp_path, **columns)
    tracemalloc.start()
    assert sentence in refusal(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


def test_parts_of_a_split_that_are_missing_or_of_another_version_are_named(tmp_path):
    for change in ("unlink", "rename"):
        folder = tmp_path / change
        sets.write_parquet(folder, HUGGING_FACE, 2)
        second = folder / HUGGING_FACE.format("train", 1)
        if change == "unlink":
            second.unlink()
        else:
            second.rename(folder / second.name.replace("of-00002", "of-00004"))
        assert "that is not what their names say; get all of them anew" in refusal(folder)


def test_a_pyarrow_that_runs_code_of_files_is_refused(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    sets.write_parquet(tmp_path)
    monkeypatch.setattr(pyarrow, "__version__", "14.0.0")
    assert "pyarrow 14.0.0 may run code that train.parquet holds: pip install" in refusal(tmp_path)


@pytest.mark.parametrize("library, layout", [("h5py", "hdf5"), ("pyarrow", "parquet")])
def test_a_library_is_asked_for_by_name(library, layout, tmp_path, monkeypatch):
    LAYOUTS[layout](tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    assert f"takes {library}: pip install {library}" in refusal(tmp_path)
