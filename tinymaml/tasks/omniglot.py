"""Omniglot: 1623 handwritten characters of 50 alphabets, drawn by 20 people each."""

import contextlib
import hashlib
import os
import stat
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .omniglot_download import download
from .omniglot_source import CHARACTERS, DRAWINGS, SIDE, drawings, find, source
from .omniglot_splits import splits

__all__ = ["Omniglot", "download", "find", "load", "splits"]

SIZE = 28  # pixels a side, as every paper of the comparison resizes to
NAMES = [f"{part}/{character}" for part in CHARACTERS for character in CHARACTERS[part]]

# More than a cache of either resize takes: 25 MB of pixels.
_MAX_CACHE_BYTES = 32 * 2**20


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


def load(data=None, resize="nearest"):
    """Read Omniglot from upstream's two zips or their unpacked folders.

    Characters are sorted, background before evaluation, and drawings too. The result is kept as a
    file for the next time, one for each `resize`: in the folder ``TINYMAML_CACHE`` if that is set,
    else beside the data, else in ``~/.cache/tinymaml``.

    Parameters
    ----------
    data : str or path, optional
        See `find`.
    resize : {"nearest", "lanczos"}
        From 105x105 to 28x28: the pixel under each centre, so that ink is 0 or 255, as in
        Finn et al.'s code; or Lanczos' window, which gives greys of 0 to 255.

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
    if resize not in _SHRINK:
        raise UserError(f"resize {resize!r} is unknown; choose {' or '.join(_SHRINK)}")
    home = find(data)
    paths = {part: source(home, part) for part in CHARACTERS}
    try:
        key = _fingerprint(paths)
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    caches = [folder / f"omniglot-28x28-{resize}.npz" for folder in _cache_folders(home)]
    shape = (len(NAMES), DRAWINGS, SIZE * SIZE // (8 if resize == "nearest" else 1))
    small = next((s for cache in caches if (s := _cached(cache, key, shape)) is not None), None)
    if small is None:
        small = np.empty(shape, np.uint8)
        for i, ink in enumerate(ink for part in paths for ink in drawings(paths[part], part)):
            small[i] = _SHRINK[resize](ink)
        # A second reading costs seconds: no reason to fail where nothing can be written.
        for cache in caches:
            with contextlib.suppress(OSError):
                _save(cache, key, small)
                break
    if resize == "nearest":
        small = np.unpackbits(small, axis=-1)
        small *= 255
    return Omniglot(small.reshape(len(NAMES), DRAWINGS, SIZE, SIZE, 1), list(NAMES))


def _nearest(ink):
    """(20, 105, 105) bool -> (20, 98): the pixel under each centre, packed bits."""
    centres = ((np.arange(SIZE) + 0.5) * SIDE / SIZE).astype(int)
    return np.packbits(ink[:, centres[:, None], centres].reshape(len(ink), -1), axis=-1)


def _lanczos(ink):
    """(20, 105, 105) bool -> (20, 784): greys, rounded along x and then along y as in Pillow."""
    grey = np.where(ink, 0.0, 255.0)
    for _ in range(2):
        sums = _WINDOW @ grey.swapaxes(1, 2)
        grey = np.clip(np.floor(sums / 2**22 + 0.5), 0, 255)
    return 255 - grey.reshape(len(ink), -1).astype(np.uint8)


def _lanczos_window():
    """(28, 105): weights of the old pixels in each new one, in units of 2**-22.

    sinc(x) sinc(x / 3) for |x| < 3, with x the distance in new pixels. Whole numbers, as in
    Pillow, make sums exact, so that any machine gets the same greys.
    """
    x = (np.arange(SIDE) + 0.5) * SIZE / SIDE - (np.arange(SIZE)[:, None] + 0.5)
    weights = np.where(abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return np.round(weights / weights.sum(axis=1, keepdims=True) * 2**22)


_WINDOW = _lanczos_window()
_SHRINK = {"nearest": _nearest, "lanczos": _lanczos}


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


def _cached(path, key, shape):
    """The images of a cache, or None if it is absent, stale or damaged."""
    try:
        # Nothing in a file of stored members, none packed, takes more memory than the file.
        if not path.is_file() or path.stat().st_size > _MAX_CACHE_BYTES:
            return None
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                return None
        with np.load(path, allow_pickle=False) as cache:
            images, cached_key = cache["images"], str(cache["key"])
    except Exception:  # NumPy and zipfile raise many kinds for damaged bytes
        return None
    fits = cached_key == key and images.shape == shape and images.dtype == np.uint8
    return images if fits else None


def _save(path, key, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(unfinished, "wb") as file:
            np.savez(file, key=key, images=images)
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
