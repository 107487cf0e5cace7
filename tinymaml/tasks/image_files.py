"""Images from JPEG and PNG bytes, which may be damaged or made to do harm."""

import contextlib
import io
import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from numbers import Integral

import numpy as np

from ..errors import UserError
from .folders import Folder, refuse_web_page

MAX_FILE_BYTES = 2**25
# ImageNet's largest image has 61 million and a telephone's 50; as RGB that is 192 MB in memory.
MAX_PIXELS = 64 * 10**6
# Programs write at most some 15 passes over a progressive JPEG; a file may state thousands, each of
# a few bytes and each as slow as decoding the whole image.
MAX_SCANS = 32
MAX_NAME = 255  # letters, of a class
# The result, of which MiniImageNet takes 1.3 GB.
MAX_BYTES = 2**32

# Pillow needs 8 bytes a pixel for what is transparent.
MAX_THREADS = 4

# In a JPEG's stream of pixels 255 is followed by 0, or by the number of a restart.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_FORMATS = ("JPEG", "PNG")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_images(folder, size, channels=3):
    """Read your own pictures: a folder that holds a folder of JPEG or PNG files for each class.

    Pictures are turned upright as their camera noted, squeezed to squares, and laid on white where
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
        The names of the classes, which are those of their folders, sorted.

    Raises
    ------
    UserError
        If anything in the folder is no picture, or damaged; the sentence names it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> read_images("my_pictures", size=28, channels=1)
    Traceback (most recent call last):
    ...
    tinymaml.errors.UserError: the folder my_pictures does not exist; give a folder that holds \
one folder of pictures for each class
    """
    expected = "give a folder that holds one folder of pictures for each class"
    check_target(size, channels)
    if not os.path.isdir(folder):
        raise UserError(
            f"{folder} is a file; {expected}"
            if os.path.exists(folder)
            else f"the folder {folder} does not exist; {expected}"
        )
    folder = Folder(folder)
    classes = class_folders(folder)
    if not classes:
        raise UserError(f"{folder} holds no folders; {expected}")
    images = decode_classes(classes, size, channels)
    return list(images.values()), list(images)


def class_folders(folder, inside=""):
    """Class -> readers of its files, of a `Folder` that has a folder for each class.

    A reader is a pair: what to call the image, and a function of no arguments that gives its bytes.
    """
    classes, strays = folder.listing(inside)
    if strays:
        raise UserError(
            f"{folder}: {os.path.join(inside, strays[0])} lies beside the classes' folders; "
            "put it into one of them or away"
        )
    readers = {}
    for name in classes:
        path = f"{inside}/{name}".lstrip("/")
        folders, files = folder.listing(path)
        if folders:
            raise UserError(f"{folder}: {path} holds a folder, {folders[0]}, and not only images")
        if not files:
            raise UserError(f"{folder}: {path} holds no images; remove it or fill it")
        check_class(folder, name)
        readers[name] = [reader(folder, f"{path}/{file}") for file in files]
    return readers


def check_class(where, name):
    """The class's name, if it is one that can be shown."""
    if type(name) is not str or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise UserError(f"{where} has a class whose name is no text of 1 to {MAX_NAME} letters")
    return name


def reader(folder, name):
    """What to call a file of a `Folder`, and a function that gives its bytes."""
    return f"{folder}: {name}", partial(folder.read, name, MAX_FILE_BYTES)


def decode_classes(classes, size, channels=3):
    """Decode images on as many threads as there are cores.

    Parameters
    ----------
    classes : dict of str to list
        The readers of each class, as `class_folders` gives them.
    size, channels : int

    Returns
    -------
    dict of str to uint8 array (n, size, size, channels)
        In the order of `classes` and of their readers.
    """
    images = new_arrays({name: len(readers) for name, readers in classes.items()}, size, channels)
    jobs = [(images[name], i, *file) for name in classes for i, file in enumerate(classes[name])]
    decode_all(jobs)
    return images


def new_arrays(counts, size, channels=3):
    """An array for the images of each class, unless they are too many."""
    check_total(sum(counts.values()), size, channels)
    return {n: np.empty((count, size, size, channels), np.uint8) for n, count in counts.items()}


def check_total(count, size, channels=3):
    """Refuse more images than memory is given to."""
    if count * size * size * channels > MAX_BYTES:
        raise UserError(
            f"{count} images of {size}x{size} take more than {MAX_BYTES >> 30} GB; "
            "take fewer or make them smaller"
        )


def check_target(size, channels=3):
    """Refuse a size or number of channels that no image can get."""
    if not isinstance(size, Integral) or not 1 <= size <= 1024:
        raise UserError(f"size is {size!r}; images can be made 1 to 1024 pixels wide and high")
    if channels not in (1, 3):
        raise UserError(f"channels is {channels!r}; give 3 for colour or 1 for grey")


def decode_all(jobs):
    """Decode each (array, index, name, read) into its place, the first bad one in order an error.

    ``read()`` gives the bytes and runs in the thread that decodes them.
    """

    def fill(job):
        images, i, name, read = job
        images[i] = decode(name, read(), *images.shape[2:])

    pillow()
    available = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(available(0)) if available else os.cpu_count()
    with warnings.catch_warnings():
        # Pillow's remarks on odd images tell a user nothing: what matters is an error here.
        warnings.filterwarnings("ignore", module="PIL")
        pool = ThreadPoolExecutor(min(cores, MAX_THREADS), "image")
        try:
            for _ in pool.map(fill, jobs):
                pass
        finally:
            pool.shutdown(cancel_futures=True)


def decode(name, data, size, channels=3):
    """Decode one JPEG or PNG image.

    Parameters
    ----------
    name : str
        What to call the image in an error.
    data : bytes
    size, channels : int
        The image is resized by Lanczos' filter, each side for itself, if it has another size.

    Returns
    -------
    uint8 array (size, size, channels)

    Raises
    ------
    UserError
        If the image is damaged, too large or of another format.

    References
    ----------
    Finn et al. (2017) resize MiniImageNet by Pillow's LANCZOS in their ``proc_images.py``.
    """
    image = _load(name, data)
    transparent = "A" in image.mode or "transparency" in image.info
    image = image.convert("RGBA" if transparent else "RGB" if channels == 3 else "L")
    if image.size != (size, size):
        image = image.resize((size, size), pillow().Resampling.LANCZOS)
    if transparent:
        paper = pillow().new("RGBA", image.size, "white")
        image = pillow().alpha_composite(paper, image).convert("RGB" if channels == 3 else "L")
    return np.asarray(image).reshape(size, size, channels)


def resize(images, size):
    """Images of uint8 (n, h, w, 3) as (n, size, size, 3): themselves if they have that size."""
    if images.shape[1:3] == (size, size):
        return images
    check_total(len(images), size)
    resized = np.empty((len(images), size, size, 3), np.uint8)
    for image, small in zip(images, resized):
        small[...] = pillow().fromarray(image).resize((size, size), pillow().Resampling.LANCZOS)
    return resized


def _load(name, data):
    refuse_web_page(name, data[:64])
    try:
        image = pillow().open(io.BytesIO(data), formats=_FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise UserError(f"{name} has {width}x{height} pixels; make it smaller")
        if image.mode not in _MODES:
            raise UserError(f"{name} has more than 8 bits a channel; save it with 8")
        if image.format == "PNG":
            image.verify()  # the checksums, which loading does not look at; that ends this image
            image = pillow().open(io.BytesIO(data), formats=_FORMATS)
        elif _scans(data) > MAX_SCANS:
            raise UserError(f"{name} goes over the image more than {MAX_SCANS} times; save it anew")
        image.load()
        return _upright(image)
    except UserError:
        raise
    # Pillow says with one exception that it is too large, and with nearly any that it is damaged.
    except pillow().DecompressionBombError:
        raise UserError(f"{name} has over {MAX_PIXELS} pixels; make it smaller") from None
    except Exception as error:
        raise UserError(f"{name} is damaged or not a JPEG or PNG image; get it again") from error


def _upright(image):
    """Turned as the camera noted, if it noted anything that can be read."""
    from PIL import ImageOps

    if "exif" in image.info:
        with contextlib.suppress(Exception):  # the image itself is whole all the same
            return ImageOps.exif_transpose(image)
    return image


def _scans(jpeg):
    """How many passes over the image its file holds."""
    at, scans = 2, 0
    while match := _MARKER.search(jpeg, at):
        marker = jpeg[match.end() - 1]
        if marker == 0xD9:  # the end
            break
        scans += marker == 0xDA
        at = match.end() + int.from_bytes(jpeg[match.end() : match.end() + 2], "big")
    return scans


def pillow():
    """Pillow's module Image, which few experiments need."""
    try:
        from PIL import Image
    except ImportError:
        raise UserError("reading JPEG and PNG images takes Pillow: pip install pillow") from None
    return Image
