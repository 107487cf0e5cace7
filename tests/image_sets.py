"""A tiny few-shot set of images, written in every layout in which MiniImageNet circulates."""

import io
import json
import pickle
import struct
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from tinymaml.errors import UserError
from tinymaml.tasks.miniimagenet import load

SIDE = 8
COUNT = 4
NAMES = {
    "train": [f"n{i:08}" for i in (3, 1, 4, 5, 9, 2, 6)],
    "val": ["n00000010", "n00000015", "n00000011"],
    "test": ["n00000031", "n00000030", "n00000032"],
}
EVERY = [name for split in NAMES.values() for name in split]
FIRST = {"train": 0, "val": 7, "test": 10}  # the number of the first class


def images_of(name, side=SIDE):
    """The images of a class, whose red is nearly all its number."""
    rng = np.random.default_rng(int(name[1:]))
    images = rng.integers(0, 256, (COUNT, side, side, 3), dtype=np.uint8)
    images[..., 0] = int(name[1:])
    return images


def expected(side=SIDE):
    """Split -> the arrays of its classes, sorted by name."""
    return {split: [images_of(name, side) for name in sorted(NAMES[split])] for split in NAMES}


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, **options)
    return file.getvalue()


def table(split):
    rows = [f"{name}{i}.png,{name}" for name in NAMES[split] for i in range(COUNT)]
    return "\n".join(["filename,label", *rows, ""]).encode()


def listed(side=SIDE):
    """Name -> bytes, of a flat folder of images with a table for each split."""
    files = {f"{split}.csv": table(split) for split in NAMES}
    for name in EVERY:
        for i, image in enumerate(images_of(name, side)):
            files[f"images/{name}{i}.png"] = encoded(image)
    return files


def sorted_into_folders(names=("train", "val", "test")):
    """Name -> bytes, of a folder for each split with a folder for each class."""
    return {
        f"{folder}/{name}/{i}.png": encoded(image)
        for folder, split in zip(names, NAMES)
        for name in NAMES[split]
        for i, image in enumerate(images_of(name))
    }


def write(folder, files):
    """Write name -> bytes into a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_zip(path, files, method=zipfile.ZIP_DEFLATED):
    """Write name -> bytes into a zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def stacked(split):
    return np.concatenate([images_of(name) for name in NAMES[split]])


def cache(split):
    """The contents of mini-imagenet-cache-*.pkl."""
    rows = {name: [*range(i * COUNT, (i + 1) * COUNT)] for i, name in enumerate(NAMES[split])}
    return {"image_data": stacked(split), "class_dict": rows}


def category_split(split):
    """The contents of miniImageNet_category_split_*.pickle."""
    numbers = {name: FIRST[split] + i for i, name in enumerate(NAMES[split])}
    labels = [number for number in numbers.values() for _ in range(COUNT)]
    return {"data": stacked(split), "labels": labels, "catname2label": numbers}


def write_caches(folder, protocol=pickle.DEFAULT_PROTOCOL, val="val", contents=cache):
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in zip(NAMES, ("train", val, "test")):
        data = pickle.dumps(contents(split), protocol)
        (folder / f"mini-imagenet-cache-{name}.pkl").write_bytes(data)


def write_category_splits(folder, protocol=pickle.DEFAULT_PROTOCOL, contents=category_split):
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in zip(NAMES, ("train_phase_train", "val", "test")):
        data = pickle.dumps(contents(split), protocol)
        (folder / f"miniImageNet_category_split_{name}.pickle").write_bytes(data)


def write_hdf5(folder, pairs=False):
    h5py = pytest.importorskip("h5py")
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in NAMES.items():
        with h5py.File(folder / f"{split}_data.hdf5", "w") as file:
            group = file.create_group("datasets")
            for name in names:
                group.create_dataset(name, data=images_of(name))
        labels = [[split, name] for name in names] if pairs else names
        (folder / f"{split}_labels.json").write_text(json.dumps(labels))


def write_parquet(folder, name="{}.parquet", shards=1, struct=True, labels="notes", **options):
    """With labels as text, as numbers that the notes name, or as bare numbers."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in NAMES.items():
        images = [encoded(image) for image in stacked(split)]
        if struct:
            images = [{"bytes": data, "path": None} for data in images]
        which = [name for name in names for _ in range(COUNT)]
        if labels != "text":
            which = [EVERY.index(name) for name in which]
        columns = pyarrow.table({"image": images, "label": which})
        if labels == "notes":
            notes = {"info": {"features": {"label": {"names": EVERY, "_type": "ClassLabel"}}}}
            columns = columns.replace_schema_metadata({"huggingface": json.dumps(notes)})
        for shard in range(shards):
            start, stop = (len(which) * i // shards for i in (shard, shard + 1))
            path = folder / name.format(split.replace("val", "validation"), shard)
            path.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(columns.slice(start, stop - start), path, **options)


def python2_array(array):
    """A uint8 array as Python 2 and NumPy 1 pickle it by protocol 2: its bytes are a string."""
    shape = b"(" + b"".join(b"M" + struct.pack("<H", n) for n in array.shape) + b"t"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03"
        b"U\x01bq\x04\x87q\x05Rq\x06(K\x01" + shape + b"q\x07cnumpy\ndtype\nq\x08U\x02u1q\tK\x00K"
        b"\x01\x87q\nRq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0cb\x89"
        b"T" + struct.pack("<i", array.nbytes) + array.tobytes() + b"q\rtq\x0eb"
    )


def python2_cache(split):
    """A cache as its authors' Python 2 wrote it, as bytes of a pickle."""
    rows = cache(split)["class_dict"]
    classes = b"".join(
        b"U" + bytes([len(name)]) + name.encode() + b"](" + b"".join(b"K%c" % i for i in rows[name])
        + b"e" for name in rows
    )  # fmt: skip
    images = b"U\x0aimage_data" + python2_array(stacked(split))
    return b"\x80\x02}(U\x0aclass_dict}(" + classes + b"u" + images + b"u."


def write_python2_caches(folder):
    folder.mkdir()
    for split in NAMES:
        (folder / f"mini-imagenet-cache-{split}.pkl").write_bytes(python2_cache(split))


def bytes_keys(split):
    data = cache(split)
    rows = {name.encode(): np.array(rows) for name, rows in data["class_dict"].items()}
    return {b"image_data": data["image_data"], b"class_dict": rows}


def interleaved(split):
    """Not one class after the other."""
    data = cache(split)
    order = np.random.default_rng(0).permutation(len(data["image_data"]))
    places = np.argsort(order)
    rows = {name: [int(places[i]) for i in rows] for name, rows in data["class_dict"].items()}
    return {"image_data": data["image_data"][order], "class_dict": rows}


def named_labels(split):
    data = category_split(split)
    numbers = {number: name for name, number in data["catname2label"].items()}
    return {"data": data["data"], "labels": [numbers[i].encode() for i in data["labels"]]}


def in_folder(files):
    return lambda folder: write(folder, files())


def in_zip(files, inside="", beside=()):
    def write_both(folder):
        zipped = {inside + name: data for name, data in files().items() if name not in beside}
        write_zip(folder / "images.zip", zipped)
        write(folder, {name: files()[name] for name in beside})

    return write_both


def tables_below():
    """The tables in a folder of their own, as some hand them on."""
    move = lambda name: f"splits/{name}" if name.endswith(".csv") else name
    return {move(name): data for name, data in listed().items()}


TABLES = ("train.csv", "val.csv", "test.csv")
HUGGING_FACE = "{0}-{1:05}-of-00002-c7140eef5412dc9b.parquet"
LAYOUTS = {
    "listed": in_folder(listed),
    "listed, tables below": in_folder(tables_below),
    "listed, zipped": in_zip(listed),
    "listed, zipped folder": in_zip(listed, inside="mini-imagenet/"),
    "listed, tables beside the zip": in_zip(listed, beside=TABLES),
    "sorted": in_folder(sorted_into_folders),
    "sorted, other names": in_folder(lambda: sorted_into_folders(("train", "validation", "test"))),
    "sorted, zipped": in_zip(sorted_into_folders),
    "sorted, zipped folder": in_zip(sorted_into_folders, inside="mini/"),
    "caches": write_caches,
    "caches, protocol 0": lambda folder: write_caches(folder, 0),
    "caches, protocol 2": lambda folder: write_caches(folder, 2, val="validation"),
    "caches, bytes": lambda folder: write_caches(folder, 5, contents=bytes_keys),
    "caches, interleaved": lambda folder: write_caches(folder, contents=interleaved),
    "caches, Python 2": write_python2_caches,
    "hdf5": write_hdf5,
    "hdf5, pairs": lambda folder: write_hdf5(folder, pairs=True),
    "category splits": write_category_splits,
    "category splits, names": lambda folder: write_category_splits(folder, 2, named_labels),
    "parquet": write_parquet,
    "parquet, shards": lambda folder: write_parquet(folder / "data", HUGGING_FACE, 2),
    "parquet, plain": lambda folder: write_parquet(folder, struct=False, labels="text"),
    "parquet, converted": lambda folder: write_parquet(
        folder, "default/{0}/{1:04}.parquet", 3, compression="zstd"
    ),
}


def quietly(root, size=SIDE):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load(root, size)


def refusal(root, size=SIDE):
    with pytest.raises(UserError) as error, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(root, size)
    assert "\n" not in str(error.value)
    return str(error.value)
