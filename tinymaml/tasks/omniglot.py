"""Omniglot: 1623 handwritten characters of 50 alphabets, drawn by 20 people each."""

import contextlib
import fnmatch
import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import UserError
from ..files import Member, make_folder, open_zip, reading, replacing

__all__ = ["Omniglot", "download", "find", "load", "splits"]

URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
MD5 = {
    "images_background": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
}
CHARACTERS = {"images_background": 964, "images_evaluation": 659}
DRAWINGS = 20
SIDE = 105  # pixels
SIZE = 28  # as every paper of the comparison resizes to
RESIZE = {"nearest": Image.Resampling.NEAREST, "lanczos": Image.Resampling.LANCZOS}

# Finn et al. 2017's code; the paper joins validation to training (1200).
COUNTS = {"train": 1100, "val": 100, "test": 423}
LISTS = "github.com/jakesnell/prototypical-networks, data/omniglot/splits/vinyals"

_DRAWING = "*/character??/????_??.png"


class Omniglot(NamedTuple):
    """The data set in memory.

    Attributes
    ----------
    images : uint8 array (1623, 20, 28, 28, 1)
        Ink = 255, paper = 0: characters, drawings of each, height, width, channel; 25 MB.
    names : list of str
        Of each character, such as ``"images_background/Latin/character05"``.
    """

    images: np.ndarray
    names: list


def load(data: str | Path | None = None, resize: str = "nearest", size: int = SIZE) -> Omniglot:
    """Read Omniglot from upstream's two zips or their unpacked folders.

    Characters are sorted, background before evaluation, and so are drawings. A file (of 25 MB at 28
    pixels) for each `resize` and `size` keeps the result for the next time, in the folder that the
    environment variable ``TINYMAML_CACHE`` names, or else in ``~/.cache/tinymaml``.

    Parameters
    ----------
    data : str or path, optional
        See `find`.
    resize : {"nearest", "lanczos"}
        From 105x105 to ``size``: the pixel under each centre, so that ink is 0 or 255, as in
        Finn et al.'s code; or Lanczos' window, which gives greys of 0 to 255.
    size : int
        Height and width of the images.

    Returns
    -------
    Omniglot

    Raises
    ------
    UserError
        If the data is missing, incomplete or damaged; the sentence says what is missing.

    References
    ----------
    Lake, Salakhutdinov, Tenenbaum (2015), Science 350(6266), 1332-1338.

    Examples
    --------
    >>> load("data/omniglot").images.shape  # doctest: +SKIP
    (1623, 20, 28, 28, 1)
    """
    if resize not in RESIZE:
        raise UserError(f"resize {resize!r} is unknown; choose {' or '.join(RESIZE)}")
    home = find(data)
    paths = [source(home, part) for part in CHARACTERS]
    # The time of a folder changes when a drawing in it is added, removed or replaced.
    paths += [folder for path in paths for folder in sorted(path.glob("*/character??"))]
    key = repr([(str(path.resolve()), path.stat().st_mtime_ns) for path in paths])
    # NumPy and zipfile raise many kinds of errors for damaged bytes; all mean to begin anew.
    with contextlib.suppress(Exception):
        if _cache(resize, size).is_file():  # reading a pipe may never end
            with np.load(_cache(resize, size), allow_pickle=False) as kept:
                if str(kept["key"]) == key:
                    return Omniglot(kept["images"], kept["names"].tolist())
    small = {name: _shrink(ink, RESIZE[resize], size) for name, ink in drawings(home)}
    names, images = list(small), np.stack(list(small.values()))[..., None]
    # A second reading costs seconds: no reason to fail where nothing can be written.
    with contextlib.suppress(OSError, UserError, RuntimeError):  # as where there is no home
        make_folder(_cache(resize, size).parent)
        with replacing(_cache(resize, size)) as file:
            np.savez(file, key=key, images=images, names=names)
    return Omniglot(images, names)


def _cache(resize, size=SIZE):
    folder = Path(os.environ.get("TINYMAML_CACHE") or "~/.cache/tinymaml").expanduser()
    return folder / f"omniglot-{size}x{size}-{resize}.npz"


def _shrink(ink, method, size=SIZE):
    """Resize (20, 105, 105) bool to (20, size, size) uint8."""
    pixels = np.where(ink, 0, 255).astype(np.uint8)
    for _ in range(2):  # as Pillow does: along x and then along y; here for all drawings at once
        rows = Image.fromarray(pixels.reshape(-1, SIDE))
        rows = np.asarray(rows.resize((size, rows.height), method))
        pixels = rows.reshape(len(ink), -1, size).swapaxes(1, 2)
    return 255 - pixels


def find(data: str | Path | None = None) -> Path:
    """Return the folder that holds both of upstream's parts, as zips or unpacked.

    Parameters
    ----------
    data : str or path, optional
        That folder, or the one above it if it is called ``omniglot`` or ``omniglot-py``. The
        environment variable ``TINYMAML_DATA`` by default.

    Raises
    ------
    UserError
        If files are missing; the sentence says which, and where they come from.

    Examples
    --------
    >>> find("/nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    tinymaml.errors.UserError: Omniglot folder /nowhere does not exist or is a file; give ...
    """
    data = data or os.environ.get("TINYMAML_DATA")
    zips = " and ".join(f"{part}.zip (md5 {md5})" for part, md5 in MD5.items())
    expected = f"give the folder with {zips} of {URL} by --data or TINYMAML_DATA, or add --download"
    if not data:
        raise UserError(f"no Omniglot folder given; {expected}")
    data = Path(os.path.expanduser(data))
    folders = [data, data / "omniglot", data / "omniglot-py"]
    for folder in folders:
        if all(source(folder, part) for part in MD5):
            return folder
    missing = [part for part in MD5 if not any(source(folder, part) for folder in folders)]
    what = (
        f"holds no {' and no '.join(missing)}" if data.is_dir() else "does not exist or is a file"
    )
    raise UserError(f"Omniglot folder {data} {what}; {expected}")


def source(folder: Path, part: str) -> Path | None:
    """Return the zip file or the unpacked folder of a part, or None."""
    # Some unpackers put images_background/images_background.
    places = (folder / f"{part}.zip", folder / part / part, folder / part)
    return next((path for path in places if path.exists()), None)


def drawings(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the drawings of each character, characters and drawings sorted by name.

    Parameters
    ----------
    folder : Path
        As `find` returns it.

    Yields
    ------
    name : str
        Such as ``"images_background/Latin/character05"``.
    ink : bool array (20, 105, 105)
        True = ink.
    """
    for part, count in CHARACTERS.items():
        path, characters = source(folder, part), defaultdict(list)
        for file in _files(path):
            _, alphabet, character, _ = str(file).replace(os.sep, "/").rsplit("/", 3)
            characters[f"{part}/{alphabet}/{character}"].append(file)
        whole = [len(files) == DRAWINGS for files in characters.values()]
        if whole != [True] * count:
            raise UserError(f"{path} holds {sum(whole)} whole characters of {count}; get it again")
        for name in sorted(characters):
            yield name, np.stack([_ink(file) for file in characters[name]])


def _files(path):
    """Return the drawings in a zip or folder, sorted."""
    if path.is_dir():
        return sorted(path.glob(_DRAWING))
    archive = open_zip(path)
    names = sorted(fnmatch.filter(archive.namelist(), _DRAWING))
    return [Member(f"{path}/{name}", partial(archive.read, name)) for name in names]


def _ink(file):
    with reading(file, f"PNG image of {SIDE}x{SIDE}"):
        image = Image.open(io.BytesIO(file.read_bytes()), formats=("PNG",))
        if image.size != (SIDE, SIDE):  # before it is decoded
            raise ValueError(image.size)
        return ~np.asarray(image.convert("1"))


def download(root: str | Path) -> None:
    """Fetch upstream's two zips (16 MB) into the folder `root` and check them.

    A file whose checksum is right is kept, and no file is ever half-written.

    Raises
    ------
    UserError
        If there is no network or no room, or the server sends another file than upstream's.
    """
    # Imported here: they take longer than the rest of the package, and few runs download.
    import http.client
    import urllib.request

    advice = "try again, or download it in a browser"
    for part, md5 in MD5.items():
        target, url = Path(os.path.expanduser(root), f"{part}.zip"), f"{URL}{part}.zip"
        try:
            if target.is_file() and hashlib.md5(target.read_bytes()).hexdigest() == md5:
                continue
            with urllib.request.urlopen(url, timeout=30) as response:
                data = response.read()
            if hashlib.md5(data).hexdigest() != md5:
                raise UserError(f"{url} sent {data[:15]!r} ..., not the zip of md5 {md5}; {advice}")
            make_folder(target.parent)
            with replacing(target) as file:
                file.write(data)
        except (OSError, http.client.HTTPException) as error:
            raise UserError(f"could not bring {url} to {target} ({error}); {advice}") from error


def splits(
    omniglot: Omniglot, kind: str = "random", data: str | Path | None = None
) -> dict[str, np.ndarray]:
    """Return the images of training, validation and test.

    Do not compare accuracies of different kinds: new alphabets are harder than new characters.

    * ``"random"``: 1100, 100 and 423 characters, shuffled irrespective of alphabet, as
      Finn et al. (2017) do it.
    * ``"vinyals"``: 4112, 688 and 1692 classes from the text files ``train.txt``, ``val.txt`` and
      ``test.txt`` in the folder ``splits/vinyals`` of the data, as Snell et al. (2017) use them.
      A class is a character turned counter-clockwise by ``rotDDD`` degrees. Episodes must not turn
      classes once more: one could then have the same images twice.
    * ``"lake"``: the background alphabets train and the evaluation alphabets test, as
      Lake et al. (2015) mean them: 815, 149 and 659 characters. Five whole background alphabets
      validate, drawn with seed 0: Arcadian, Cyrillic, Early_Aramaic, Latin and Sanskrit.

    Parameters
    ----------
    omniglot : Omniglot
        As `load` returns it.
    kind : {"random", "vinyals", "lake"}
    data : str or path, optional
        The folder of the text files, as of `find`; the other kinds do not need it.

    Returns
    -------
    dict of uint8 arrays (classes, 20, 28, 28, 1)
        Under ``"train"``, ``"val"`` and ``"test"``. Copies of the images, together 25 MB, and
        102 MB for ``"vinyals"``.

    Raises
    ------
    UserError
        If the kind is unknown, or a text file is missing or wrong.

    Examples
    --------
    >>> parts = splits(load("data/omniglot"))  # doctest: +SKIP
    >>> {part: len(images) for part, images in parts.items()}  # doctest: +SKIP
    {'train': 1100, 'val': 100, 'test': 423}
    """
    images, names = omniglot
    if kind == "random":
        return {part: images[chosen] for part, chosen in _shuffled(names).items()}
    if kind == "lake":
        return {part: images[chosen] for part, chosen in _by_alphabets(names).items()}
    if kind == "vinyals":
        return {part: _turned(images, classes) for part, classes in _listed(names, data).items()}
    raise UserError(f"split {kind!r} is unknown; choose random, vinyals or lake")


def _shuffled(names):
    """Return the positions in `names` of the characters of each part."""
    order = np.argsort(names)[np.random.default_rng(0).permutation(len(names))]
    return dict(zip(COUNTS, np.split(order, np.cumsum(list(COUNTS.values()))[:-1])))


def _by_alphabets(names):
    alphabets = np.array([name.rsplit("/", 1)[0] for name in names])
    background = np.char.startswith(alphabets, "images_background/")
    held_out = np.random.default_rng(0).permutation(np.unique(alphabets[background]))[:5]
    validates = np.isin(alphabets, held_out)
    return {"train": background & ~validates, "val": validates, "test": ~background}


def _listed(names, data):
    """Return, by part, the position in `names` and the quarter turns of each class."""
    # The lists leave out which of upstream's parts an alphabet is in; each is in one.
    positions = {name.split("/", 1)[1]: i for i, name in enumerate(names)}
    turns = {f"/rot{90 * quarters:03}": quarters for quarters in range(4)}
    listed, seen = {}, set()
    for part in COUNTS:
        path = find(data) / "splits" / "vinyals" / f"{part}.txt"
        with reading(path, f"list of classes as in {LISTS}"):
            lines = path.read_text("utf-8").split()
            listed[part] = [(positions[line[:-7]], turns[line[-7:]]) for line in lines]
            characters = {position for position, _ in listed[part]}
            if seen & characters:
                raise UserError(f"has characters of another part; get all from {LISTS}")
            seen |= characters
    return listed


def _turned(images, classes):
    return np.stack([np.rot90(images[i], quarters, axes=(1, 2)) for i, quarters in classes])
