"""The layout of few-shot image sets that Hugging Face hands on: Parquet files."""

import contextlib
import json
import re
from collections import Counter
from functools import partial

from ..errors import UserError
from .folders import MAX_GROWTH, Folder, check_size, refuse_web_page
from .image_files import MAX_FILE_BYTES, MAX_NAME, decode_all, new_arrays
from .image_layouts import MAX_IMAGES, SPLITS, Layout, Split, class_names

BATCH = 16  # rows in memory at a time, as a value may be large
SINCE = 15  # older versions of pyarrow run code that a file holds (CVE-2023-47248)

_SHARD = re.compile(r"(\w+?)(?:-(\d{5})-of-(\d{5})(?:-\w+)?)?\.parquet")


def _find(folder):
    found = {}
    for place in ("default", "data", "") if isinstance(folder, Folder) else ():
        folders, files = folder.listing(place)
        for split, aliases in SPLITS.items():
            shards = [name for name in files if _split_of(name) in aliases]
            for alias in aliases:
                inside = (
                    folder.listing(f"{place}/{alias}".lstrip("/"))[1] if alias in folders else ()
                )
                shards += [f"{alias}/{name}" for name in inside if name.endswith(".parquet")]
            if shards:
                found[split] = [folder.path / place / name for name in shards]
    return found


def _split_of(name):
    match = _SHARD.fullmatch(name)
    return match and match[1]


def _splits(folder, found):
    return {split: _split(_complete(found[split])) for split in SPLITS}


def _complete(paths):
    """The shards of a split, if all of them are there that their names speak of."""
    matches = [_SHARD.fullmatch(path.name) for path in paths]
    numbers = sorted((int(match[2]), int(match[3])) for match in matches if match and match[2])
    total = len(paths)
    if numbers and numbers != [(i, total) for i in range(total)]:
        raise UserError(
            f"{paths[0].parent} holds {len(paths)} files of which {paths[0].name} is one; "
            f"that is not what their names say; get all of them anew"
        )
    return paths


def _split(paths):
    labels = [_labels(path) for path in paths]
    counts = Counter(name for names, _ in labels for name in names)
    return Split(dict(counts), partial(_read, paths, labels, counts), labels[0][1])


def _labels(path):
    """The name of each row's class, and whether the names are just numbers."""
    labels = []
    with _opened(path) as file:
        for label in _values(file, "label"):
            labels.append(label)
            # Before more of them are read: a small file may repeat a long text without end.
            if len(labels) > MAX_IMAGES or (isinstance(label, str) and len(label) > MAX_NAME):
                raise UserError(f"{path} has over {MAX_IMAGES} images or a label without end")
        return class_names(path, labels, _names(file.schema_arrow.metadata or {}))


def _names(notes):
    """Number -> name of the classes, if the file notes them as Hugging Face's library does."""
    try:
        notes = json.loads(notes[b"huggingface"])
        return dict(enumerate(notes["info"]["features"]["label"]["names"]))
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}


def _read(paths, labels, counts, size):
    images, filled = new_arrays(counts, size), Counter()
    for path, (names, _) in zip(paths, labels):
        jobs, total = [], 0
        with _opened(path) as file:
            for name, value in zip(names, _values(file, "image")):
                what = f"{path}: image {filled[name]} of {name}"
                data = value.get("bytes") if isinstance(value, dict) else value
                if not isinstance(data, bytes):
                    raise UserError(f"{what} is absent; get the file again")
                check_size(what, len(data), MAX_FILE_BYTES)
                total += len(data)
                check_size(f"{path}, unpacked,", total, MAX_GROWTH * path.stat().st_size)
                jobs.append((images[name], filled[name], what, partial(bytes, data)))
                filled[name] += 1
                if len(jobs) == BATCH:
                    decode_all(jobs)
                    jobs = []
            decode_all(jobs)
    if filled != counts:
        raise UserError(f"{paths[0].parent} holds more labels than images; get all files again")
    return images


@contextlib.contextmanager
def _opened(path):
    pyarrow, parquet = _pyarrow(path)
    try:
        with open(path, "rb") as file:
            refuse_web_page(path, file.read(64))
        # Read through a small buffer, as a row group may be large.
        with parquet.ParquetFile(path, buffer_size=2**16, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            if not {"image", "label"} <= set(names):
                columns = ", ".join(names)[:80]
                raise UserError(f"{path} has the columns {columns}; expected image and label")
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
            total = sum(group.total_byte_size for group in groups)
            check_size(f"{path}, unpacked,", total, MAX_GROWTH * path.stat().st_size)
            yield file
    except UserError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged or no Parquet file; get it again") from error


def _values(file, column):
    for batch in file.iter_batches(BATCH, columns=[column], use_threads=False):
        for value in batch.column(0):
            yield value.as_py()


def _pyarrow(path):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"reading {path.name} takes pyarrow: pip install pyarrow") from None
    if int(pyarrow.__version__.split(".")[0]) < SINCE:
        raise UserError(
            f"pyarrow {pyarrow.__version__} may run code that {path.name} holds: "
            "pip install --upgrade pyarrow"
        )
    return pyarrow, pyarrow.parquet


PARQUET = Layout(
    "Parquet files with columns image and label",
    {split: f"{split}.parquet or {split}-00000-of-....parquet" for split in SPLITS},
    _find,
    _splits,
)
