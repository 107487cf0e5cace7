"""What a folder of images holds, as text and as a contact sheet."""

import hashlib
import warnings
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..pictures import plots
from ..tasks import Batch, ImageEpisodes, Task, miniimagenet, omniglot
from .tables import aligned

#: Of the drawings as Lake et al. published them
OMNIGLOT_DIGEST = "75a36f7ce605ee617d0c45021613841aec979e079f71594e885aba52a7c003ce"


def datasheet(name: str, root: str | Path | None = None, out: str | Path | None = None) -> str:
    """Check a data set and describe it: counts, a digest of its content, a picture of episodes.

    The digest is of the images, not of the files: a zip, folders and any other layout of the same
    images have the same one.

    Parameters
    ----------
    name : {"omniglot", "miniimagenet"}
    root : str or path, optional
        Its folder; without it, the environment variable ``TINYMAML_DATA``.
    out : str or path, optional
        The contact sheet, a PNG of an episode each of training, validation and test;
        ``NAME-episodes.png`` in the current folder by default.

    Returns
    -------
    str
        The place and the layout of the data; the numbers of classes and images in each split and
        the memory that they take; the digest; the place of the contact sheet.

    Raises
    ------
    UserError
        If the name is unknown, the data is incomplete or damaged, or the contact sheet cannot be
        written.

    Examples
    --------
    >>> print(datasheet("omniglot", "data/omniglot"))  # doctest: +SKIP
    Omniglot
    data: data/omniglot
    layout: images_background.zip, images_evaluation.zip
    ...
    """
    if name not in _SHEETS:
        raise UserError(f"data set {name!r} is unknown; choose {' or '.join(_SHEETS)}")
    out = out or f"{name}-episodes.png"
    lines, images, rotate = _SHEETS[name](root)
    tasks = _episodes(images.values(), rotate)
    draw = lambda axes: plots.contact_sheet(tasks, list(images), ax=axes[0])
    plots.save(out, draw, width=8, height=9)
    return "\n".join([*lines, f"contact sheet: {out}"])


def _omniglot(root):
    loaded, folder = omniglot.load(root), omniglot.find(root)
    kinds, notes = {}, []
    for kind in ("random", "lake", "vinyals"):
        try:
            kinds[kind] = omniglot.splits(loaded, kind, root)
        except UserError as error:
            notes.append(f"no {kind} split: {error}")
    table = {f"{kind} {split}": images[split] for kind, images in kinds.items() for split in images}
    digest = hashlib.sha256()
    for _, ink in omniglot.drawings(folder):
        digest.update(np.packbits(ink.reshape(len(ink), -1), axis=-1))
    published = digest.hexdigest() == OMNIGLOT_DIGEST
    verdict = "the published ones" if published else f"not the published ones, {OMNIGLOT_DIGEST}"
    paths = [str(omniglot.source(folder, p).relative_to(folder)) for p in omniglot.CHARACTERS]
    lines = [
        f"Omniglot\ndata: {folder}\nlayout: {', '.join(paths)}",
        *_table(table),
        *notes,
        "",
        f"sha256 of the drawings at full size: {digest.hexdigest()}, {verdict}",
    ]
    return lines, kinds["random"], True


def _miniimagenet(root):
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        data = miniimagenet.load(root)
    digest = hashlib.sha256()
    for split, classes in data.images.items():
        for name, images in zip(data.names[split], classes):
            head = f"{split} {name} {images.shape}\n"
            digest.update(head.encode(errors="surrogateescape"))  # as folders' names may be
            digest.update(np.ascontiguousarray(images))
    lines = [
        f"{data.title}\ndata: {miniimagenet.find(root)}\nlayout: {data.layout}",
        *_table(data.images),
        *(f"note: {note.message}" for note in notes),
        "",
        f"sha256 of splits, class names and images: {digest.hexdigest()}",
    ]
    return lines, data.images, False


_SHEETS = {"omniglot": _omniglot, "miniimagenet": _miniimagenet}


def _table(splits):
    """Return an empty line and a table of splits, which are lists of classes."""
    rows = [("split", "classes", "images", "per class", "memory")]
    for split, classes in splits.items():
        counts = [len(images) for images in classes]
        each = "..".join(map(str, sorted({min(counts), max(counts)})))
        memory = f"{sum(images.nbytes for images in classes) / 1e6:.1f} MB"
        rows.append((split, str(len(counts)), str(sum(counts)), each, memory))
    return ["", *aligned(rows, left=1)]


def _episodes(splits, rotate):
    """Return an episode of each split, 5-way with 5 support and 10 query images or fewer."""
    fewest = min(len(images) for classes in splits for images in classes)
    n_way = max(2, min(5, *map(len, splits)))
    k_shot = max(1, min(5, fewest // 3))
    n_query = max(1, min(10, fewest - k_shot))
    tasks = []
    for classes in splits:
        episodes = ImageEpisodes(classes, n_way, k_shot, n_query, rotate)
        tasks.append(episodes.sample(np.random.default_rng(0), 1))
    support, query = (Batch(*map(np.concatenate, zip(*batches))) for batches in zip(*tasks))
    return Task(support, query)
