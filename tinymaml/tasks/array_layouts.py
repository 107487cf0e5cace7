"""The layouts of few-shot image sets that hold arrays: pickles and HDF5.

Their images are uint8 arrays already, 84x84 in MiniImageNet, and are copied only to be resized.
"""

import contextlib
import json

import numpy as np

from ..errors import UserError
from .folders import Folder, check_size, read_file, refuse_web_page
from .image_files import check_class, resize
from .image_layouts import MAX_IMAGES, SPLITS, Layout, Split, by_name, class_names
from .unpickling import read_pickle

MAX_LABELS_BYTES = 2**20

# What h5py raises on files that are damaged.
_HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)


def _files(folder, *patterns):
    """Split -> paths, of files whose names are the patterns with the split's name in them."""
    if not isinstance(folder, Folder):
        return {}
    names = folder.listing()[1]
    found = [by_name(names, pattern) for pattern in patterns]
    return {
        split: [folder.path / names[split] for names in found]
        for split in SPLITS
        if all(split in names for names in found)
    }


def _find_caches(folder):
    return _files(folder, "mini-imagenet-cache-{}.pkl")


def _cache_splits(folder, found):
    return {split: _cache(*found[split]) for split in SPLITS}


def _cache(path):
    data = _text_keys(path, read_pickle(path))
    images = _images(path, data.get("image_data"), "image_data")
    classes = {
        check_class(path, name): _indices(path, name, rows, len(images))
        for name, rows in _text_keys(path, data.get("class_dict")).items()
    }
    rows = np.concatenate([np.empty(0, np.int64), *classes.values()])
    if len(np.unique(rows)) != len(rows):
        raise UserError(f"{path}: class_dict gives an image to two classes, or twice to one")
    return _split(images, classes)


def _indices(path, name, rows, count):
    rows = _list(rows, count)
    if not rows:
        raise UserError(f"{path}: class_dict[{name!r}] is no list of numbers of the {count} images")
    if not all(type(row) is int and 0 <= row < count for row in rows):
        raise UserError(
            f"{path}: class_dict[{name!r}] holds something other than numbers of the "
            f"{count} images, which start from 0"
        )
    return np.array(rows)


def _find_category_splits(folder):
    found = _files(folder, "miniImageNet_category_split_{}.pickle")
    # In training there are images of these classes for validation and test beside these.
    found |= _files(folder, "miniImageNet_category_split_{}_phase_train.pickle")
    return found


def _category_splits(folder, found):
    return {split: _category_split(*found[split]) for split in SPLITS}


def _category_split(path):
    data = _text_keys(path, read_pickle(path))
    images, labels = _images(path, data.get("data"), "data"), data.get("labels")
    labels = _list(labels, len(images))
    if len(labels) != len(images):
        raise UserError(f"{path}: labels is no list of one label for each image")
    named = _text_keys(path, data.get("catname2label", {})).items()
    names = {number: name for name, number in named if type(number) is int}
    names, numbered = class_names(path, labels, names)
    rows = {name: [] for name in sorted(set(names))}
    for row, name in enumerate(names):
        rows[name].append(row)
    return _split(images, {name: np.array(rows[name]) for name in rows}, numbered)


def _list(values, most):
    """A list of at most so many values, tuple or array as list, or nothing if it is none."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and len(values) <= most:
        return values.tolist()
    return values if type(values) in (list, tuple) and len(values) <= most else []


def _text_keys(path, data):
    """The dict, whose keys may be bytes if Python 2 has written it."""
    if type(data) is not dict:
        raise UserError(f"{path} is not of this layout: it holds no dict where one is expected")
    return {key.decode("latin1") if type(key) is bytes else key: data[key] for key in data}


def _images(path, images, name):
    if not isinstance(images, np.ndarray):
        raise UserError(f"{path} is not of this layout: it holds no array {name!r}")
    _check_images(f"{path}: {name}", images.shape, images.dtype)
    if len(images) > MAX_IMAGES:
        raise UserError(f"{path} holds {len(images)} images, more than {MAX_IMAGES}")
    return images


def _check_images(where, shape, dtype):
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise UserError(f"{where} is {dtype} {shape}; expected uint8 (n, height, width, 3)")


def _split(images, rows, numbered=False):
    def read(size):
        return {name: resize(_take(images, where), size) for name, where in rows.items()}

    return Split({name: len(where) for name, where in rows.items()}, read, numbered)


def _take(images, rows):
    """These images, as a view if they follow each other."""
    if (np.diff(rows) == 1).all():
        return images[rows[0] : rows[-1] + 1]
    return images[rows]


def _find_hdf5(folder):
    return _files(folder, "{}_data.hdf5", "{}_labels.json")


def _hdf5_splits(folder, found):
    return {split: _hdf5(*found[split]) for split in SPLITS}


def _hdf5(path, labels):
    names = _hdf5_names(labels)
    with _datasets(path) as datasets:
        counts = {name: datasets(name).shape[0] for name in names}
        # A file may name the same bytes again and again.
        total = sum(datasets(name).nbytes for name in names)
        check_size(f"{path}, read,", total, path.stat().st_size)

    def read(size):
        with _datasets(path) as datasets:
            return {name: resize(datasets(name)[...], size) for name in names}

    return Split(counts, read)


def _hdf5_names(path):
    data = read_file(path, MAX_LABELS_BYTES)
    try:
        labels = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged or no JSON; get it again") from error
    if not isinstance(labels, list) or not labels:
        raise UserError(f"{path} holds no list of the classes' names")
    # Some hold a pair, of which the last is the class.
    names = [label[-1] if isinstance(label, list) and label else label for label in labels]
    for name in names:
        check_class(path, name)
    if len(set(names)) != len(names):
        raise UserError(f"{path} names a class twice")
    return names


@contextlib.contextmanager
def _datasets(path):
    """A function that gives the HDF5 file's dataset of a class."""
    try:
        import h5py
    except ImportError:
        raise UserError(f"reading {path.name} takes h5py: pip install h5py") from None
    try:
        with open(path, "rb") as file:
            refuse_web_page(path, file.read(64))
        with h5py.File(path, "r") as file:
            group = _own(file, "datasets", h5py.Group, path)
            yield lambda name: _plain(_own(group, name, h5py.Dataset, path), path)
    except UserError:
        raise
    except _HDF5_ERRORS as error:
        raise UserError(f"{path} is damaged or no HDF5 file; get it again") from error


def _own(group, name, kind, path):
    """What a name in an HDF5 file stands for, if it lies in this very file: links may lead out."""
    import h5py

    if "/" in name or not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise UserError(f"{path} holds no {name!r}")
    found = group[name]
    if not isinstance(found, kind):
        raise UserError(f"{path}: {name!r} is no {kind.__name__.lower()}")
    return found


def _plain(dataset, path):
    """The dataset, if its bytes lie in this file as they are, so that it is as large as it says."""
    where = f"{path}: {dataset.name}"
    _check_images(where, dataset.shape, dataset.dtype)
    if dataset.id.get_offset() is None:  # there is no one place in this file that holds it
        raise UserError(
            f"{where} is compressed, in pieces or in other files; "
            "write it anew by create_dataset(name, data=images)"
        )
    return dataset


CACHES = Layout(
    "mini-imagenet-cache-*.pkl",
    {split: f"mini-imagenet-cache-{split}.pkl" for split in SPLITS},
    _find_caches,
    _cache_splits,
)
HDF5 = Layout(
    "*_data.hdf5 with *_labels.json",
    {split: f"{split}_data.hdf5 with {split}_labels.json" for split in SPLITS},
    _find_hdf5,
    _hdf5_splits,
)
CATEGORY_SPLITS = Layout(
    "miniImageNet_category_split_*.pickle",
    {
        "train": "miniImageNet_category_split_train_phase_train.pickle",
        "val": "miniImageNet_category_split_val.pickle",
        "test": "miniImageNet_category_split_test.pickle",
    },
    _find_category_splits,
    _category_splits,
)
