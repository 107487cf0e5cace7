"""The layouts of few-shot image sets such as MiniImageNet.

Each is two functions. The first looks at names alone, and finds the parts of a set in a folder. The
second reads a part, and returns the pictures of each class by its name: uint8 arrays (h, w, 3), or
paths of JPEG and PNG files, which are decoded later.

Nothing that a file holds is executed: names in a pickle stand for functions of this file.
"""

import csv
import json
import pickle
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import Member, reading
from .images import class_folders, visible

# Names of the parts. Some sets also have images to validate on in the classes of training.
SPLITS = {"train": "train_phase_train train", "val": "val validation valid", "test": "test"}


def _first(folder, *patterns):
    """Return, by split, the first path of these names that is in the folder."""
    found = {}
    for split, aliases in SPLITS.items():
        paths = [folder / name.format(alias) for name in patterns for alias in aliases.split()]
        found |= dict([(split, path) for path in paths if path.exists()][:1])
    return found


class _Dtype:
    """Stands for a dtype in a pickle: of numbers alone, since objects could be anything."""

    def __init__(self, name, *_):
        self.dtype = np.dtype(name)
        if self.dtype.kind not in "biuf":
            raise UserError(f"is refused: it has an array of dtype {name!r}, not of numbers")

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an array in a pickle, which first makes it and then fills it."""

    def __setstate__(self, state):
        _, shape, dtype, in_columns, data = state
        self.array = _from_buffer(data, dtype, shape, "F" if in_columns else "C")

    def __array__(self, dtype=None, copy=None):
        return self.array


def _from_buffer(data, dtype, shape, order, axes=None):
    data = data.encode("latin1") if isinstance(data, str) else data  # as Python 2 wrote bytes
    array = np.frombuffer(data, dtype.dtype)
    return array.reshape(shape).transpose(axes) if axes else array.reshape(shape, order=order)


_NAMES = {
    "numpy.ndarray": None,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": lambda *_: _Array(),
    "numpy.core.multiarray.scalar": lambda dtype, data: _from_buffer(data, dtype, (), "C"),
    "numpy.core.numeric._frombuffer": _from_buffer,
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        full = f"{module}.{name}".replace("numpy._core", "numpy.core")  # as NumPy 2 calls it
        if full not in _NAMES:
            raise UserError(f"is refused, and nothing of it run: it names {full!r}")
        return _NAMES[full]


def _read_pickle(path):
    """Read the pickle of a cache, or that of a category split, which has a label for each row."""
    with reading(path, "pickle of images"), open(path, "rb") as file:
        data = _texts(_Unpickler(file, encoding="latin1").load())
        if "class_dict" in data:
            images, rows = _images(np.asarray(data["image_data"])), _texts(data["class_dict"])
            return {name: [images[row] for row in np.asarray(rows[name])] for name in rows}
        names = {int(number): name for name, number in data.get("catname2label", {}).items()}
        labels = np.asarray(data["labels"]).tolist()
        return _by_class(_images(np.asarray(data["data"])), labels, names)


def _texts(data):
    """Return a dict whose keys may be bytes with keys that are text."""
    return {k.decode() if isinstance(k, bytes) else k: value for k, value in data.items()}


def _images(images):
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise UserError(f"holds {images.dtype} {images.shape}; expected uint8 (n, h, w, 3)")
    return images


def _by_class(pictures, labels, names):
    """Return the pictures of each class; labels are text, or numbers that may have names."""
    classes = {}
    for picture, label in zip(pictures, labels, strict=True):
        label = label.decode() if isinstance(label, bytes) else label
        name = names[label] if names else label if isinstance(label, str) else f"{label:03}"
        classes.setdefault(name, []).append(picture)
    return classes


def _read_hdf5(path):
    with reading(path, "HDF5 file"):
        import h5py

        with h5py.File(path) as file:
            return {name: list(_images(images)[...]) for name, images in file["datasets"].items()}


def _find_parquet(folder):
    found = {}
    for place in (folder / "default", folder / "data", folder) if isinstance(folder, Path) else ():
        for split, aliases in SPLITS.items():
            for alias in aliases.split():
                for name in (f"{alias}.parquet", f"{alias}-*.parquet", f"{alias}/*.parquet"):
                    if paths := sorted(place.glob(name)):
                        found.setdefault(split, paths)
    return found


_NO_NAMES = '{"info": {"features": {"label": {}}}}'


def _read_parquet(paths):
    classes = {}
    for path in paths:
        with reading(path, "Parquet file with columns image and label"):
            import pyarrow
            from pyarrow import parquet

            if int(pyarrow.__version__.split(".")[0]) < 15:  # CVE-2023-47248
                raise UserError("may hold code that this pyarrow runs: pip install -U pyarrow")
            table = parquet.read_table(path, columns=["image", "label"])
            cells = table["image"].to_pylist()
            cells = [cell["bytes"] if isinstance(cell, dict) else cell for cell in cells]
            images = [Member(f"{path}: image {i}", partial(bytes, x)) for i, x in enumerate(cells)]
            notes = json.loads((table.schema.metadata or {}).get(b"huggingface", _NO_NAMES))
            names = dict(enumerate(notes["info"]["features"]["label"].get("names", ())))
            for name, more in _by_class(images, table["label"].to_pylist(), names).items():
                classes.setdefault(name, []).extend(more)
    return classes


def find_tables(folder) -> dict:
    """Return the table of each split, in a folder or beside a zip."""
    places = [folder] if isinstance(folder, Path) else [Path(folder.root.filename).parent, folder]
    return dict(i for place in places for i in _first(place, "{}.csv", "splits/{}.csv").items())


def _find_listed(folder):
    images = folder / "images"
    return {s: (table, images) for s, table in find_tables(folder).items() if images.is_dir()}


def _read_listed(found):
    path, images = found
    classes = {}
    opened = partial(path.open, "r", encoding="utf-8-sig", newline="")
    with reading(path, "CSV table with columns filename and label"), opened() as file:
        for row in csv.DictReader(file):
            classes.setdefault(str.strip(row["label"]), []).append(images / row["filename"])
    return classes


def _find_sorted(folder):
    found = {split: path for split, path in _first(folder, "{}").items() if path.is_dir()}
    # Folders of files only are another layout.
    return {s: path for s, path in found.items() if any(p.is_dir() for p in visible(path))}


def _named(pattern):
    return lambda folder: _first(folder, pattern)


_CATEGORY_SPLIT = "miniImageNet_category_split_{}.pickle"

# The first that is there is read: arrays before files that take minutes to decode.
LAYOUTS = {
    "mini-imagenet-cache-*.pkl": (_named("mini-imagenet-cache-{}.pkl"), _read_pickle),
    "*_data.hdf5 with *_labels.json": (_named("{}_data.hdf5"), _read_hdf5),
    "miniImageNet_category_split_*.pickle": (_named(_CATEGORY_SPLIT), _read_pickle),
    "images/ with train.csv, val.csv and test.csv": (_find_listed, _read_listed),
    "train/, val/ and test/ with a folder of images for each class": (_find_sorted, class_folders),
    "Parquet files with columns image and label": (_find_parquet, _read_parquet),
}
