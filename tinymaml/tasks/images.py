"""N-way K-shot episodes from images that are sorted into classes, and reading such images."""

import contextlib
import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from numbers import Integral
from pathlib import Path
from threading import Lock

import numpy as np

from ..errors import UserError
from ..files import LARGEST, reading
from .episode import Batch, Task

# Of what is read, far more than any set has: a file that claims more would fill the memory.
LONGEST, PIXELS, BYTES = 1 << 14, 1 << 26, 1 << 34
LARGE = 1 << 24  # pixels of a picture that is decoded alone, since it takes half a GB meanwhile
_alone = Lock()


class ImageEpisodes:
    """Draws classification tasks: n_way classes, k_shot support and n_query query images of each.

    An episode has no class twice, and no image twice in support and query. Labels are a fresh
    random permutation in every episode and the examples come in random order, so that neither
    tells anything about the class.

    Parameters
    ----------
    images : uint8 array (classes, images, h, w, c), or a list of uint8 arrays (images, h, w, c)
        The images of each class; in a list the classes may have unequal counts.
    n_way, k_shot, n_query : int
        Classes in an episode; support and query images of each class.
    rotate : bool
        Turn each class of an episode by 0, 90, 180 or 270 degrees, one draw for all its images
        in that episode, support and query alike.

    Raises
    ------
    UserError
        If the images cannot fill such an episode; the sentence names the wrong number.

    References
    ----------
    Vinyals et al. (2016), Matching Networks, section 4.1 (episodes); Santoro et al. (2016),
    section 4.1 (rotations). One rotation per class and episode, as Finn et al. do, also means that
    no episode has a character at two angles.

    Examples
    --------
    >>> images = np.zeros((10, 20, 28, 28, 1), np.uint8)
    >>> episodes = ImageEpisodes(images, n_way=5, k_shot=1, n_query=3)
    >>> tasks = episodes.sample(np.random.default_rng(0), n_tasks=32)
    >>> tasks.support.x.shape, tasks.query.y.shape
    ((32, 5, 28, 28, 1), (32, 15))
    >>> np.sort(tasks.support.y[0])
    array([0, 1, 2, 3, 4])
    """

    def __init__(
        self, images: Sequence, n_way: int, k_shot: int, n_query: int, rotate: bool = False
    ):
        if not isinstance(images, np.ndarray):
            images = [np.asarray(class_images) for class_images in images]
        _check_images(images, rotate)
        counts = np.array([len(class_images) for class_images in images])
        _check_sizes(counts, n_way, k_shot, n_query)
        self.images, self.counts = images, counts
        self.n_way, self.k_shot, self.n_query, self.rotate = n_way, k_shot, n_query, rotate

    def sample(self, rng: np.random.Generator, n_tasks: int) -> Task:
        """Draw episodes.

        Parameters
        ----------
        rng : numpy.random.Generator
            Equal generators draw equal episodes.
        n_tasks : int

        Returns
        -------
        Task
            x float32 (n_tasks, n_way * k, h, w, c) in [0, 1] and y int64 (n_tasks, n_way * k)
            in 0..n_way-1, with k = k_shot in the support and n_query in the query batch.
        """
        populations = np.full(n_tasks, len(self.counts))
        # In random order: the position of a class is its label.
        classes = _distinct(rng, populations, self.n_way)
        picks = _distinct(rng, self.counts[classes].ravel(), self.k_shot + self.n_query)
        picks = picks.reshape(n_tasks, self.n_way, -1)
        turns = rng.integers(0, 4, classes.shape) if self.rotate else np.zeros_like(classes)
        support = self._batch(rng, classes, picks[..., : self.k_shot], turns)
        query = self._batch(rng, classes, picks[..., self.k_shot :], turns)
        return Task(support, query)

    def _batch(self, rng, classes, picks, turns):
        n_tasks, n_way, k = picks.shape
        in_order = np.broadcast_to(np.arange(n_way * k), (n_tasks, n_way * k))
        order = rng.permuted(in_order, axis=1)
        labels = order // k
        task = np.arange(n_tasks)[:, None]
        x = self._gather(classes[task, labels], picks[task, labels, order % k])
        turns = turns[task, labels]
        for quarter in (1, 2, 3) if self.rotate else ():
            chosen = turns == quarter
            x[chosen] = np.rot90(x[chosen], quarter, axes=(1, 2))
        return Batch(np.divide(x, np.float32(255), dtype=np.float32), labels)

    def _gather(self, classes, picks):
        if isinstance(self.images, np.ndarray):
            return self.images[classes, picks]
        x = np.stack([self.images[i][j] for i, j in zip(classes.flat, picks.flat)])
        return x.reshape(classes.shape + x.shape[1:])


def _distinct(rng, populations, k):
    """Row r: k distinct numbers below populations[r], in random order, all outcomes equal.

    Floyd's sampling, all rows at once: its cost grows with k and not with the populations
    (Bentley and Floyd 1987, Programming Pearls: a sample of brilliance).
    """
    chosen = np.empty((len(populations), k), np.int64)
    for i in range(k):
        last = populations - k + i
        candidate = rng.integers(0, last, endpoint=True)
        taken = (chosen[:, :i] == candidate[:, None]).any(axis=1)
        chosen[:, i] = np.where(taken, last, candidate)
    return rng.permuted(chosen, axis=1)


def _check_images(images, rotate):
    different = images[:1] if isinstance(images, np.ndarray) else images  # an array's are alike
    kinds = {(x.dtype, x.shape[1:]) for x in different}
    kinds = sorted(f"{dtype} (images, {str(shape)[1:-1]})" for dtype, shape in kinds)
    if len(kinds) != 1 or images[0].dtype != np.uint8 or images[0].ndim != 4:
        raise UserError(
            "each class must be a uint8 array (images, h, w, c), all of one shape; got "
            f"{' and '.join(kinds) or 'no classes'}"
        )
    height, width, _ = images[0].shape[1:]
    if rotate and height != width:
        raise UserError(f"rotate needs square images; these are {height}x{width}")


def _check_sizes(counts, n_way, k_shot, n_query):
    for name, size, least in (("n_way", n_way, 2), ("k_shot", k_shot, 1), ("n_query", n_query, 1)):
        if not isinstance(size, Integral) or size < least:
            raise UserError(f"{name} is {size!r}; an episode needs at least {least}")
    if n_way > len(counts):
        raise UserError(f"{n_way}-way episodes need {n_way} classes, but there are {len(counts)}")
    scarce = int(np.argmin(counts))
    if k_shot + n_query > counts[scarce]:
        raise UserError(
            f"{k_shot}-shot with {n_query} query images takes {k_shot + n_query} different images "
            f"of a class, but class {scarce} has {counts[scarce]}; lower k_shot or n_query"
        )


def read_images(folder: str | Path, size: int, channels: int = 3) -> tuple[list, list[str]]:
    """Read your own pictures: a folder that holds a folder of JPEG or PNG files for each class.

    Pictures are turned upright by their camera's note, squeezed to squares, and laid on white if
    they are transparent. Hidden files are left out.

    Parameters
    ----------
    folder : str or path
    size : int
        Width and height that every picture gets, pixels.
    channels : int
        3 for colour, 1 for grey.

    Returns
    -------
    images : list of uint8 arrays (n, size, size, channels)
        Of each class, sorted by the names of the files; classes may have unequal counts.
    names : list of str
        Of the classes, sorted: the names of their folders.

    Raises
    ------
    UserError
        If anything in the folder is damaged or not a picture; the sentence names it.

    Examples
    --------
    >>> read_images("my_pictures", size=28, channels=1)
    Traceback (most recent call last):
    ...
    tinymaml.errors.UserError: my_pictures is not a folder that holds a folder of pictures for \
each class
    """
    folder = Path(folder)
    classes = class_folders(folder) if folder.is_dir() else {}
    if not classes:
        raise UserError(f"{folder} is not a folder that holds a folder of pictures for each class")
    check_budget(folder, classes.values(), size, channels)
    return [decode_all(files, size, channels) for files in classes.values()], list(classes)


def check_budget(folder: Path, classes: Iterable, size: int, channels: int = 3) -> None:
    """Raise a UserError if the pictures of all classes would take more memory than any set's."""
    needed = size * size * channels * sum(map(len, classes))
    if needed > BYTES:
        raise UserError(f"{folder} takes {needed >> 30} GB at {size}x{size}; give a smaller size")


def class_folders(folder) -> dict[str, list]:
    """Return the files of each class in a path, or zipfile.Path, with a folder for each class."""
    classes = {}
    for path in visible(folder):
        if not path.is_dir():
            raise UserError(f"{path} lies beside the classes' folders; move it into one or away")
        classes[path.name] = visible(path)
        if not classes[path.name]:
            raise UserError(f"{path} holds no images; remove it or fill it")
    return classes


def visible(folder) -> list:
    """Return what a folder holds, sorted by name, without what systems leave there."""
    junk = ("__MACOSX", "Thumbs.db", "desktop.ini")
    paths = [p for p in folder.iterdir() if not p.name.startswith(".") and p.name not in junk]
    return sorted(paths, key=lambda path: path.name)


def decode_all(pictures: Iterable, size: int, channels: int = 3) -> np.ndarray:
    """Decode pictures on several threads: uint8 (n, size, size, channels)."""
    decoded = partial(decode, size=size, channels=channels)
    if os.cpu_count() == 1:  # in a browser no thread can be started
        return np.stack(list(map(decoded, pictures)))
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(decoded, pictures)))


def decode(picture, size: int, channels: int = 3) -> np.ndarray:
    """Decode a picture.

    Parameters
    ----------
    picture : path, `Member` or uint8 array (h, w, 3)
        A JPEG or PNG file, or a decoded one.
    size, channels : int

    Returns
    -------
    uint8 array (size, size, channels)

    References
    ----------
    Finn et al. (2017) resize MiniImageNet by Pillow's LANCZOS in their ``proc_images.py``.
    """
    from PIL import Image, ImageOps  # `import tinymaml` does without

    mode = {1: "L", 3: "RGB"}[channels]
    if isinstance(picture, np.ndarray):
        if picture.shape == (size, size, channels):
            return picture
        image = Image.fromarray(picture).convert(mode)
        image = image.resize((size, size), Image.Resampling.LANCZOS)
        return np.asarray(image).reshape(size, size, channels)
    with reading(picture, "JPEG or PNG image"):
        if isinstance(picture, Path) and picture.stat().st_size > LARGEST:
            raise UserError(f"has more than {LARGEST >> 20} MB; make it smaller")
        # Pillow reads some other formats by outside programs, which may run what they hold.
        image = Image.open(io.BytesIO(picture.read_bytes()), formats=("JPEG", "PNG"))
        if max(image.size) > LONGEST or image.width * image.height > PIXELS:
            raise UserError(f"has {image.width} x {image.height} pixels; make it smaller")
        with _alone if image.width * image.height > LARGE else contextlib.nullcontext():
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):
                raise UserError("has more than 8 bits a channel; save it with 8")
            transparent = image.has_transparency_data
            image = image.convert("RGBA" if transparent else mode)
            image = image.resize((size, size), Image.Resampling.LANCZOS)
    if transparent:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image).convert(mode)
    return np.asarray(image).reshape(size, size, channels)
