"""MiniImageNet, and any set of images handed on in one of the layouts in which it circulates."""

import contextlib
import os
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..experiments import paper
from .array_layouts import CACHES, CATEGORY_SPLITS, HDF5
from .folders import Folder, opened_zip
from .image_files import check_target, check_total
from .image_layouts import LISTED, SORTED, SPLITS
from .parquet import PARQUET

__all__ = ["CLASSES", "FewShotImages", "find", "load"]

SIZE = 84  # pixels a side, as every paper of the comparison
IMAGES = 600  # of each class

# WordNet's numbers of the classes, in the split of Ravi and Larochelle (2017).
CLASSES = {
    "train": """
        01532829 01558993 01704323 01749939 01770081 01843383 01910747 02074367 02089867 02091831
        02101006 02105505 02108089 02108551 02108915 02111277 02113712 02120079 02165456 02457408
        02606052 02687172 02747177 02795169 02823428 02966193 03017168 03047690 03062245 03207743
        03220513 03337140 03347037 03400231 03476684 03527444 03676483 03838899 03854065 03888605
        03908618 03924679 03998194 04067472 04243546 04251144 04258138 04275548 04296562 04389033
        04435653 04443257 04509417 04515003 04596742 04604644 04612504 06794110 07584110 07697537
        07747607 09246464 13054560 13133613""",
    "val": """
        01855672 02091244 02114548 02138441 02174001 02950826 02971356 02981792 03075370 03417042
        03535780 03584254 03770439 03773504 03980874 09256479""",
    "test": """
        01930112 01981276 02099601 02110063 02110341 02116738 02129165 02219486 02443484 02871525
        03127925 03146219 03272010 03544143 03775546 04146614 04149813 04418357 04522168 07613480
        """,
}
CLASSES = {split: [f"n{number}" for number in table.split()] for split, table in CLASSES.items()}

# The first that is there is read: arrays before files that take minutes to decode.
LAYOUTS = (CACHES, HDF5, CATEGORY_SPLITS, LISTED, SORTED, PARQUET)

_OURS = "MiniImageNet's images are ImageNet's, which everybody must get from image-net.org"
_UNDERSTOOD = ", or ".join(layout.words for layout in LAYOUTS)


class FewShotImages(NamedTuple):
    """A set of images in memory, in three parts that share no class.

    Attributes
    ----------
    title : str
        ``"MiniImageNet"`` if the classes are those of `CLASSES`, else the folder's or zip's name.
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


def load(root=None, size=SIZE):
    """Read MiniImageNet, or another set in a layout of it, from the files that are there.

    The layouts, in the order in which they are looked for: ``mini-imagenet-cache-*.pkl``,
    ``*_data.hdf5``, ``miniImageNet_category_split_*.pickle``, ``images/`` with ``train.csv``,
    ``val.csv`` and ``test.csv`` (also in a zip), ``train/``, ``val/`` and ``test/`` with a folder
    for each class (also in a zip), Parquet files. Nothing that the files hold is ever run.

    Parameters
    ----------
    root : str or path, optional
        See `find`.
    size : int
        Images of another width or height are resized to this, pixels.

    Returns
    -------
    FewShotImages

    Raises
    ------
    UserError
        If the set is not there, incomplete, damaged, or shares classes between its parts; the
        sentence says which and where.

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
    check_target(size)
    with _located(root) as (folder, layout, found, title, _):
        splits = layout.splits(folder, found)
        names = _disjoint_names(folder, splits)
        check_total(sum(sum(split.counts.values()) for split in splits.values()), size)
        images = {}
        for split in SPLITS:
            classes = splits[split].read(size)
            images[split] = [classes[name] for name in sorted(classes)]
    if names == CLASSES:
        title = "MiniImageNet"
    elif title in paper.TABLES:  # beside whose numbers these must not come to stand
        title += " (own images)"
    if remark := _other_counts(title, images):
        warnings.warn(remark, stacklevel=2)
    return FewShotImages(title, layout.words, images, names)


def find(root=None):
    """The folder or zip that holds the set; `load` takes it for the same one of the same title.

    Parameters
    ----------
    root : str or path, optional
        That folder or zip, or the folder above it if it is called ``miniimagenet``, with any
        capitals and hyphens; without it, the environment variable ``TINYMAML_DATA``.

    Returns
    -------
    Path

    Raises
    ------
    UserError
        If there is no whole set; the sentence says what is there and what was looked for.

    Examples
    --------
    >>> find("/nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    tinymaml.errors.UserError: /nowhere does not exist; give a folder that holds ...
    """
    with _located(root) as (_, _, _, _, place):
        return place


@contextlib.contextmanager
def _located(root):
    """The folder of the set, its layout, what that found there, what to call it, and its place."""
    root = root or os.environ.get("TINYMAML_DATA")
    expected = f"give a folder that holds {_UNDERSTOOD}"
    if not root:
        raise UserError(
            "no folder of images given; pass --root FOLDER or set TINYMAML_DATA; "
            f"{expected}; {_OURS}"
        )
    root = Path(root).expanduser()
    if not root.exists():
        raise UserError(f"{root} does not exist; {expected}; {_OURS}")
    if root.is_file() and root.suffix.lower() != ".zip":
        raise UserError(f"{root} is neither a folder nor a zip; give the folder in which it lies")
    partly, damaged = [], []
    with contextlib.ExitStack() as stack:
        for folder, title, place in _candidates(root, stack, damaged):
            for layout in LAYOUTS:
                found = layout.find(folder)
                missing = [part for part in layout.parts if part not in found]
                if not missing:
                    yield folder, layout, found, title, place
                    return
                if found:
                    partly.append((len(found), folder, layout, missing))
        if damaged:
            raise damaged[0]
        if not partly:
            raise UserError(f"{root} holds no set of images; {expected}; {_OURS}")
        # The fullest, and of equals the first.
        _, folder, layout, missing = max(partly, key=lambda part: part[0])
        if missing == ["images"]:
            raise UserError(
                f"{folder} holds only the tables train.csv, val.csv and test.csv, which say what "
                f"images are in each part, and not the folder images/ itself; {_OURS}"
            )
        names = " and no ".join(layout.parts[part] for part in missing)
        raise UserError(f"{folder} holds a part of a set ({layout.words}), but no {names}")


def _candidates(root, stack, damaged):
    """Yield folders that may hold the set, each with what to call it and the root to find it by.

    Damaged zips are noted.
    """
    if root.is_file():
        for folder in _zip_folders(stack.enter_context(opened_zip(root))):
            yield folder, root.stem, root
        return
    for path in (root, *(root / name for name in Folder(root).listing()[0] if _is_ours(name))):
        title = path.resolve().name
        yield Folder(path), title, path
        for name in Folder(path).listing()[1]:
            if name.lower().endswith(".zip"):
                try:
                    zipped = stack.enter_context(opened_zip(path / name))
                except UserError as error:
                    damaged.append(error)
                else:
                    for folder in _zip_folders(zipped):
                        yield folder, title, path


def _is_ours(name):
    return re.sub("[-_ ]", "", name.lower()) == "miniimagenet"


def _zip_folders(zipped):
    yield zipped
    folders, _ = zipped.listing()
    if len(folders) == 1:
        yield zipped.inside(folders[0])


def _disjoint_names(folder, splits):
    """The names of the classes of each split, which no two splits may share."""
    names = {split: sorted(splits[split].counts) for split in SPLITS}
    for split in SPLITS:
        if not names[split]:
            raise UserError(f"{folder}: {split} has no classes; get the set again")
    counts = Counter(name for split in SPLITS for name in names[split])
    shared = sorted(name for name, count in counts.items() if count > 1)
    numbered = all(split.numbered for split in splits.values())
    if shared and numbered and [*map(len, names.values())] == [*map(len, CLASSES.values())]:
        # With the published numbers of classes, each part has numbered its own.
        return {split: [f"{split} {name}" for name in names[split]] for split in SPLITS}
    if shared:
        few = ", ".join(shared[:3]) + (" ..." if len(shared) > 3 else "")
        advice = "write names as labels if each part numbers its own" if numbered else "get another"
        raise UserError(
            f"{folder}: {len(shared)} classes are in more than one of train, val and test ({few}), "
            f"so that nothing would be new at the test; {advice}"
        )
    return names


def _other_counts(title, images):
    """What to remark on a set that has other numbers of classes and images than MiniImageNet."""
    counts = [len(images[split]) for split in SPLITS]
    sizes = {len(class_images) for split in SPLITS for class_images in images[split]}
    expected = [len(CLASSES[split]) for split in SPLITS]
    if counts == expected and sizes == {IMAGES}:
        return None
    classes, ours = "/".join(map(str, counts)), "/".join(map(str, expected))
    return (
        f"{title} has {classes} classes (train/val/test) of {min(sizes)} to {max(sizes)} images, "
        f"where MiniImageNet has {ours} of {IMAGES}; accuracies on it are not to be compared"
    )
