"""The layouts of few-shot image sets that hold JPEG and PNG files.

A layout is recognised by names alone, and says which classes there are before any image is read.
"""

import csv
import io
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ..errors import UserError
from .folders import Folder, ZipFolder, safe
from .image_files import check_class, class_folders, decode_classes, reader

MAX_TABLE_BYTES = 2**25
MAX_CLASSES = 10**5
MAX_IMAGES = 10**6
# What people call the parts.
SPLITS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}


class Split(NamedTuple):
    """What a layout says of one part of the set.

    Attributes
    ----------
    counts : dict of str to int
        Images of each class.
    read : function of size
        Reads them: dict of class to uint8 array (n, size, size, 3).
    numbered : bool
        The names are numbers, as the classes have none.
    """

    counts: dict
    read: Callable
    numbered: bool = False


class Layout(NamedTuple):
    """One of the forms in which a set is handed on.

    Attributes
    ----------
    words : str
        What it is, for people.
    parts : dict of str to str
        What must be there, and how it is called: ``"train"``, ``"val"``, ``"test"`` and whatever
        else it takes.
    find : function of a folder
        Gives those of the parts that are there, as `splits` takes them.
    splits : function of a folder and of what `find` gave
        Gives a `Split` for each of ``"train"``, ``"val"`` and ``"test"``.
    """

    words: str
    parts: dict
    find: Callable
    splits: Callable


def by_name(names, pattern):
    """Split -> name, of the names that are `pattern` with what people call the split in it."""
    return {
        split: pattern.format(alias)
        for split, aliases in SPLITS.items()
        for alias in reversed(aliases)  # the first is the best, and is set last
        if pattern.format(alias) in names
    }


def class_names(where, labels, names=()):
    """Names of the classes that labels stand for, and whether these are just numbers.

    Parameters
    ----------
    where : str
        What to call the file in an error.
    labels : list of int, or of str or bytes
    names : dict of int to str
        Of the classes that the labels are numbers of, where the file says them.

    Examples
    --------
    >>> class_names("x", [7, 12, 7])
    (['007', '012', '007'], True)
    """
    kinds = {type(label) for label in labels}
    if kinds <= {str, bytes}:
        texts = {label: label for label in set(labels)}
    # Numbers that are chosen to do harm could make a dict or set of them take hours.
    elif kinds != {int} or not 0 <= min(labels) <= max(labels) < MAX_CLASSES:
        raise UserError(f"{where} has labels that are neither text nor numbers of classes")
    elif not names:
        texts = {label: f"{label:03}" for label in set(labels)}
    elif set(labels) <= set(names):
        texts = {label: names[label] for label in set(labels)}
    else:
        raise UserError(f"{where} has labels that it names no class for")
    for label, name in texts.items():
        texts[label] = check_class(where, name.decode("latin1") if type(name) is bytes else name)
    return [texts[label] for label in labels], kinds == {int} and not names


def _find_tables(folder):
    places = [folder]
    if isinstance(folder, ZipFolder):
        places.append(Folder(folder.path.parent))
    found = {}
    for place in reversed(places):
        for inside in ("splits", ""):
            tables = by_name(place.listing(inside)[1], "{}.csv")
            found |= {
                split: (place, f"{inside}/{name}".lstrip("/")) for split, name in tables.items()
            }
    if "images" in folder.listing()[0]:
        found["images"] = "images"
    return found


def _listed_splits(folder, found):
    splits, seen = {}, set()
    for split in SPLITS:
        place, name = found[split]
        classes = _table(f"{place}: {name}", place.read(name, MAX_TABLE_BYTES), seen)
        _check_present(folder, f"{place}: {name}", classes)
        readers = {
            label: [reader(folder, f"images/{image}") for image in images]
            for label, images in sorted(classes.items())
        }
        splits[split] = _encoded(readers)
    return splits


def _table(where, data, seen):
    """Class -> names of its images, as a CSV lists them; `seen` are the names of all tables."""
    try:
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = next(rows, [])
        if not {"filename", "label"} <= set(header):
            shown = ",".join(header)[:80]
            raise UserError(f"{where} begins with {shown!r}; expected the header filename,label")
        file, label = header.index("filename"), header.index("label")
        classes = {}
        for row in filter(None, rows):
            if len(row) != len(header):
                raise UserError(
                    f"{where}, line {rows.line_num}, has {len(row)} columns; "
                    f"the header has {len(header)}"
                )
            if row[file] in seen:
                raise UserError(f"{where}: {safe(row[file])} is listed twice")
            seen.add(row[file])
            classes.setdefault(row[label], []).append(safe(row[file]))
    except UserError as error:
        raise UserError(str(error) if where in str(error) else f"{where}: {error}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{where} is damaged or no CSV table ({error})") from error
    for name in classes:
        check_class(where, name)
    return classes


def _check_present(folder, where, classes):
    there = {}
    for images in classes.values():
        for image in images:
            inside, _, name = f"images/{image}".rpartition("/")
            if inside not in there:
                there[inside] = set(folder.listing(inside)[1])
            if name not in there[inside]:
                raise UserError(f"{where} names {image}, which is not in {folder}/images")


def _find_folders(folder):
    found = by_name(folder.listing()[0], "{}")
    # Folders of files only are another layout.
    return {split: name for split, name in found.items() if folder.listing(name)[0]}


def _sorted_splits(folder, found):
    return {split: _encoded(class_folders(folder, found[split])) for split in SPLITS}


def _encoded(readers):
    counts = {name: len(files) for name, files in readers.items()}
    return Split(counts, partial(decode_classes, readers))


LISTED = Layout(
    "images/ with train.csv, val.csv and test.csv",
    {split: f"{split}.csv" for split in SPLITS} | {"images": "images/"},
    _find_tables,
    _listed_splits,
)
SORTED = Layout(
    "train/, val/ and test/ with a folder of images for each class",
    {split: f"{split}/" for split in SPLITS},
    _find_folders,
    _sorted_splits,
)
