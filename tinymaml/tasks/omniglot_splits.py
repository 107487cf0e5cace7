"""Omniglot's characters of training, validation and test, as three lines of papers choose them."""

import re

import numpy as np

from ..errors import UserError
from .omniglot_source import find

# Finn et al. 2017's code; the paper joins validation to training (1200).
COUNTS = {"train": 1100, "val": 100, "test": 423}
LISTS = "github.com/jakesnell/prototypical-networks, data/omniglot/splits/vinyals"
MAX_LIST_BYTES = 2**18  # the longest of the published ones has 133,244

_TURNED = re.compile(r"([^/]+/character\d\d)/rot(000|090|180|270)")


def splits(omniglot, kind="random", data=None):
    """The images of training, validation and test.

    Accuracies of different kinds are not to be compared: alphabets that training has not seen are
    harder than characters that it has not seen.

    * ``"random"``: 1100, 100 and 423 characters, shuffled irrespective of alphabet, as
      Finn et al. (2017) do it.
    * ``"vinyals"``: 4112, 688 and 1692 classes from the text files ``train.txt``, ``val.txt`` and
      ``test.txt`` in the folder ``splits/vinyals`` of the data, as Snell et al. (2017) use them.
      A class is a character at one of four turns, counter-clockwise by ``rotDDD`` degrees. So
      episodes must not turn classes once more: a character could meet itself at one angle.
    * ``"lake"``: the background alphabets train and the evaluation alphabets test, as
      Lake et al. (2015) mean them: 815, 149 and 659 characters. Five whole background alphabets
      validate, drawn with seed 0: Arcadian, Cyrillic, Early_Aramaic, Latin and Sanskrit.

    Parameters
    ----------
    omniglot : Omniglot
        What `load` returns.
    kind : {"random", "vinyals", "lake"}
    data : str or path, optional
        The folder of the text files, see `find`; the other kinds need none.

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
        return {part: images[chosen] for part, chosen in shuffled(names).items()}
    if kind == "lake":
        return {part: images[chosen] for part, chosen in _by_alphabets(names).items()}
    if kind == "vinyals":
        return {part: _turned(images, classes) for part, classes in _listed(names, data).items()}
    raise UserError(f"split {kind!r} is unknown; choose random, vinyals or lake")


def shuffled(names, seed=0):
    """Positions in `names` of the characters of each part, irrespective of alphabet.

    Examples
    --------
    >>> chosen = shuffled([f"images_background/Latin/{i}" for i in range(1623)])
    >>> {part: len(characters) for part, characters in chosen.items()}
    {'train': 1100, 'val': 100, 'test': 423}
    """
    if len(names) != sum(COUNTS.values()):
        raise UserError(f"the split is of Omniglot's 1623 characters; got {len(names)}")
    order = np.argsort(names)[np.random.default_rng(seed).permutation(len(names))]
    ends = np.cumsum(list(COUNTS.values()))[:-1]
    return dict(zip(COUNTS, np.split(order, ends)))


def _by_alphabets(names):
    alphabets = np.array([name.rsplit("/", 1)[0] for name in names])
    background = np.char.startswith(alphabets, "images_background/")
    held_out = np.random.default_rng(0).permutation(np.unique(alphabets[background]))[:5]
    validates = np.isin(alphabets, held_out)
    return {"train": background & ~validates, "val": validates, "test": ~background}


def _listed(names, data):
    """Position in `names` and quarter turns of each class, by part."""
    folder = find(data) / "splits" / "vinyals"
    # The lists leave out which of upstream's parts an alphabet is in; each is in one.
    positions = {name.split("/", 1)[1]: i for i, name in enumerate(names)}
    listed, seen = {}, {}
    for part in COUNTS:
        path, classes = folder / f"{part}.txt", set()
        listed[part] = []
        for number, line in enumerate(_lines(path), 1):
            where = f"{path}, line {number}"
            match = _TURNED.fullmatch(line)
            if not match:
                raise UserError(
                    f"{where} is {line[:60]!r}, no class such as Latin/character01/rot090; "
                    f"fetch the file again from {LISTS}"
                )
            character, degrees = match.groups()
            if character not in positions:
                raise UserError(f"{where}: {character} is no character of Omniglot")
            if seen.setdefault(character, part) != part:
                raise UserError(f"{where}: {character} is in {seen[character]}.txt too")
            if line in classes:
                raise UserError(f"{where}: {line} is there twice")
            classes.add(line)
            listed[part].append((positions[character], int(degrees) // 90))
        if not classes:
            raise UserError(f"{path} is empty; fetch it again from {LISTS}")
    return listed


def _lines(path):
    if not path.is_file():
        raise UserError(f"the split needs {path}, which is not there; it comes from {LISTS}")
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if len(text) > MAX_LIST_BYTES:
        raise UserError(f"{path} has over {MAX_LIST_BYTES} bytes; it is no list of {LISTS}")
    return text.decode("utf-8", "replace").splitlines()


def _turned(images, classes):
    turned = np.empty((len(classes), *images.shape[1:]), images.dtype)
    for i, (position, quarters) in enumerate(classes):
        turned[i] = np.rot90(images[position], quarters, axes=(1, 2))
    return turned
