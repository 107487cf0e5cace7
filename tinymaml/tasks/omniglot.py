"""Omniglot: 1623 handwritten characters of 50 alphabets, drawn by 20 people each."""

import contextlib
import hashlib
import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .omniglot_download import download
from .omniglot_source import CHARACTERS, DRAWINGS, SIDE, drawings, find, source

__all__ = ["Omniglot", "download", "find", "load", "split"]

SIZE = 28  # pixels a side, as every paper of the comparison resizes to
NAMES = [f"{part}/{character}" for part in CHARACTERS for character in CHARACTERS[part]]
# Finn et al. 2017's code; the paper joins validation to training (1200).
SPLIT = {"train": 1100, "val": 100, "test": 423}

_CACHE = "omniglot-28x28.npz"
_BITS = (len(NAMES), DRAWINGS, SIZE * SIZE // 8)


class Omniglot(NamedTuple):
    """The data set in memory.

    Attributes
    ----------
    images : uint8 array (1623, 20, 28, 28, 1)
        Ink = 255, paper = 0: characters, drawings of each, height, width, channel.
    names : list of str
        Of each character, such as ``"images_background/Latin/character05"``.
    """

    images: np.ndarray
    names: list


def load(data=None):
    """Read Omniglot from upstream's two zips or their unpacked folders.

    Characters are sorted, background before evaluation, and drawings too; drawings are resized by
    nearest neighbour. The result is kept as a small file for the next time: in the folder
    ``TINYMAML_CACHE`` if that is set, else beside the data, else in ``~/.cache/tinymaml``.

    Parameters
    ----------
    data : str or path, optional
        See `find`.

    Returns
    -------
    Omniglot

    Raises
    ------
    UserError
        If the data is not there, incomplete or damaged; the sentence says what is missing.

    References
    ----------
    Lake, Salakhutdinov, Tenenbaum (2015), Science 350(6266), 1332-1338.

    Examples
    --------
    >>> load("data/omniglot").images.shape  # doctest: +SKIP
    (1623, 20, 28, 28, 1)
    """
    home = find(data)
    paths = {part: source(home, part) for part in CHARACTERS}
    try:
        key = _fingerprint(paths)
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    folders = _cache_folders(home)
    bits = next((found for folder in folders if (found := _cached(folder, key)) is not None), None)
    if bits is None:
        bits = np.stack([_shrink(ink) for part in paths for ink in drawings(paths[part], part)])
        # A second reading costs seconds: no reason to fail where nothing can be written.
        for folder in folders:
            with contextlib.suppress(OSError):
                _save(folder, key, bits)
                break
    images = np.unpackbits(bits, axis=-1).reshape(len(NAMES), DRAWINGS, SIZE, SIZE, 1)
    images *= 255
    return Omniglot(images, list(NAMES))


def split(names, seed=0):
    """The characters of training, validation and test: 1100, 100 and 423 of them.

    Sorted by name, then shuffled by `seed` irrespective of alphabet, as Finn et al. do it; a split
    by alphabets is harder, so its accuracies are not to be compared.

    Parameters
    ----------
    names : list of str
        The 1623 names of `Omniglot`.
    seed : int

    Returns
    -------
    dict of int64 arrays
        Positions in `names` under ``"train"``, ``"val"`` and ``"test"``.

    Examples
    --------
    >>> {name: len(characters) for name, characters in split(NAMES).items()}
    {'train': 1100, 'val': 100, 'test': 423}
    """
    if len(names) != sum(SPLIT.values()):
        raise UserError(f"the split is of Omniglot's 1623 characters; got {len(names)}")
    shuffled = np.argsort(names)[np.random.default_rng(seed).permutation(len(names))]
    ends = np.cumsum(list(SPLIT.values()))[:-1]
    return dict(zip(SPLIT, np.split(shuffled, ends)))


def _shrink(ink):
    """Nearest neighbour, (20, 105, 105) -> packed bits (20, 98): the pixel under each centre."""
    centres = ((np.arange(SIZE) + 0.5) * SIDE / SIZE).astype(int)
    return np.packbits(ink[:, centres[:, None], centres].reshape(len(ink), -1), axis=-1)


def _fingerprint(paths):
    digest = hashlib.sha256()
    for path in paths.values():
        if path.is_file():
            with open(path, "rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
        else:
            # Adding, removing or replacing a drawing changes the time of its folder; to read all
            # 32,460 files would take as long as to decode them.
            for folder in sorted(path.glob("*/character??")):
                digest.update(f"{folder.relative_to(path)} {folder.stat().st_mtime_ns}".encode())
        digest.update(b"/")
    return digest.hexdigest()


def _cache_folders(home):
    if chosen := os.environ.get("TINYMAML_CACHE"):
        return [Path(chosen).expanduser()]
    user = Path("~/.cache/tinymaml").expanduser()
    # Root may write anywhere: a folder that is marked read-only is left alone all the same.
    return [home, user] if home.stat().st_mode & stat.S_IWUSR else [user]


def _cached(folder, key):
    """The packed images of the cache in `folder`, or None if it is absent, stale or damaged."""
    try:
        # Opened here because np.load leaves a file that is no npz open.
        with open(folder / _CACHE, "rb") as file, np.load(file, allow_pickle=False) as cache:
            bits, cached_key = cache["bits"], str(cache["key"])
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error):
        return None
    fits = cached_key == key and bits.shape == _BITS and bits.dtype == np.uint8
    return bits if fits else None


def _save(folder, key, bits):
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{_CACHE}.{os.getpid()}.part"
    try:
        with open(unfinished, "wb") as file:
            np.savez(file, key=key, bits=bits)
        os.replace(unfinished, folder / _CACHE)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
