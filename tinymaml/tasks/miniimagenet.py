"""MiniImageNet, and any set of images handed on in one of the layouts in which it circulates."""

import hashlib
import os
import re
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..files import open_zip
from .images import check_budget, decode_all, visible
from .layouts import LAYOUTS, SPLITS, find_tables

SIZE = 84  # pixels a side, as every paper of the comparison
CLASSES = {"train": 64, "val": 16, "test": 20}
IMAGES = 600  # of each class
# Of the WordNet numbers of the classes, train before val before test, each sorted, with a space
# between them; the split is Ravi and Larochelle's (2017).
DIGEST = "2a9dbfaf0a90cd6cf4018ba2521799c4abe41f8677a66a696bcb2042f3a0e8c3"

_OURS = "MiniImageNet's images are ImageNet's, which everybody must get from image-net.org"


class FewShotImages(NamedTuple):
    """A set of images in memory, in three parts that share no class.

    Attributes
    ----------
    title : str
        ``"MiniImageNet"`` if the classes are MiniImageNet's, else the folder's or zip's name.
    layout : str
        In which layout the set was found.
    images : dict of str to list of uint8 arrays (n, size, size, 3)
        Of each class of ``"train"``, ``"val"`` and ``"test"``.
    names : dict of str to list of str
        The classes' names, sorted.
    """

    title: str
    layout: str
    images: dict
    names: dict


def load(root: str | Path | None = None, size: int = SIZE) -> FewShotImages:
    """Read MiniImageNet, or another set in one of its layouts.

    The layouts, in the order of the search: ``mini-imagenet-cache-*.pkl``,
    ``*_data.hdf5``, ``miniImageNet_category_split_*.pickle``, ``images/`` with ``train.csv``,
    ``val.csv`` and ``test.csv`` (also in a zip), ``train/``, ``val/`` and ``test/`` with a folder
    for each class (also in a zip), Parquet files. Nothing that the files hold is executed.

    Parameters
    ----------
    root : str or path, optional
        As of `find`.
    size : int
        Images of another width or height are resized to this, pixels.

    Returns
    -------
    FewShotImages

    Raises
    ------
    UserError
        If the set is missing, incomplete or damaged, or shares classes between its parts; the
        sentence says what is wrong and where.

    Warns
    -----
    UserWarning
        If it has other numbers of classes and images than MiniImageNet.

    References
    ----------
    Vinyals et al. (2016), Matching Networks, section 4.1.2; Ravi and Larochelle (2017),
    Optimization as a Model for Few-Shot Learning, section 5.1 (the split).

    Examples
    --------
    >>> len(load("data/miniimagenet").images["train"])  # doctest: +SKIP
    64
    """
    folder, layout, found, place = _located(root)
    classes = {split: LAYOUTS[layout][1](found[split]) for split in SPLITS}
    names = {split: sorted(classes[split]) for split in SPLITS}
    _check_disjoint(folder, names)
    check_budget(folder, [c for split in SPLITS for c in classes[split].values()], size)
    images = {
        split: [decode_all(classes[split][name], size) for name in names[split]] for split in SPLITS
    }
    title = place.stem if place.is_file() else place.resolve().name
    together = " ".join(name for split in SPLITS for name in names[split])
    if hashlib.sha256(together.encode(errors="surrogateescape")).hexdigest() == DIGEST:
        title = "MiniImageNet"
    elif title in ("MiniImageNet", "Omniglot", "sinusoid"):
        # A title of the paper's tables: other images do not belong beside its numbers.
        title += " (own images)"
    counts = {split: len(images[split]) for split in SPLITS}
    sizes = {len(class_images) for split in SPLITS for class_images in images[split]}
    if counts != CLASSES or sizes != {IMAGES}:
        classes, ours = ("/".join(map(str, table.values())) for table in (counts, CLASSES))
        remark = (
            f"{title} has {classes} classes (train/val/test) of {min(sizes)} to {max(sizes)} "
            f"images, where MiniImageNet has {ours} of {IMAGES}; do not compare accuracies"
        )
        warnings.warn(remark, stacklevel=2)
    return FewShotImages(title, layout, images, names)


def find(root: str | Path | None = None) -> Path:
    """Return the folder or zip that holds the set: `load` finds the same set by it.

    Parameters
    ----------
    root : str or path, optional
        That folder or zip, or the folder above it if it is called ``miniimagenet`` (in any
        capitals, with or without hyphen). The environment variable ``TINYMAML_DATA`` by default.

    Returns
    -------
    Path

    Raises
    ------
    UserError
        If there is no whole set; the sentence says what is there and what is expected.

    Examples
    --------
    >>> find("/nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    tinymaml.errors.UserError: /nowhere does not exist; give a folder that holds ...
    """
    return _located(root)[-1]


def _located(root):
    """Return the folder of the set, its layout, its parts, and the root to find it by."""
    root = root or os.environ.get("TINYMAML_DATA")
    expected = f"give a folder that holds {', or '.join(LAYOUTS)}; {_OURS}"
    if not root:
        raise UserError(f"no folder of images given; pass --root or set TINYMAML_DATA; {expected}")
    root = Path(os.path.expanduser(root))
    if not root.exists():
        raise UserError(f"{root} does not exist; {expected}")
    most, failure = 0, f"{root} holds no set of images; {expected}"
    for folder, place in _candidates(root):
        for layout, (find_parts, _) in LAYOUTS.items():
            found = find_parts(folder)
            if len(found) == len(SPLITS):
                return folder, layout, found, place
            if len(found) > most:
                most, lacking = len(found), " and no ".join(s for s in SPLITS if s not in found)
                failure = f"{folder} holds a part of a set ({layout}), but no {lacking}"
        if not most and len(find_tables(folder)) == len(SPLITS):
            failure = f"{folder} holds only the tables of a set, and no folder images/; {_OURS}"
    raise UserError(failure)


def _candidates(root):
    """Yield folders that may hold the set, in zips too, each with the root to find it by."""
    places = [root]
    if root.is_dir():
        places += [p for p in visible(root) if re.fullmatch("mini[-_ ]?imagenet", p.name, re.I)]
    for place in places:
        zips = [place]
        if place.is_dir():
            yield place, place
            zips = [path for path in visible(place) if path.suffix.lower() == ".zip"]
        for path in zips:
            zipped = zipfile.Path(open_zip(path))
            for folder in (zipped, *(inside for inside in visible(zipped) if inside.is_dir())):
                yield folder, place


def _check_disjoint(folder, names):
    counts = Counter(name for split in SPLITS for name in names[split])
    if shared := [name for name, count in counts.items() if count > 1]:
        few = ", ".join(shared[:3]) + (" ..." if len(shared) > 3 else "")
        raise UserError(
            f"{folder}: {len(shared)} classes are in more than one of train, val and test ({few}); "
            "get another split, or write names as labels if each part numbers its own"
        )
    if not all(names.values()):
        raise UserError(f"{folder}: train, val or test has no classes; get the set again")
