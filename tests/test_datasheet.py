"""What ``tinymaml data`` says and draws of a folder of images."""

import hashlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from glyphs import NAMES
from matplotlib.figure import Figure
from matplotlib.image import imread

from tinymaml.errors import UserError
from tinymaml.experiments.datasheet import OMNIGLOT_DIGEST, datasheet
from tinymaml.pictures import plots
from tinymaml.tasks import Batch, ImageEpisodes, Task, omniglot


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes a cache of the person who runs it."""
    monkeypatch.setenv("TINYMAML_CACHE", str(tmp_path_factory.mktemp("cache")))


def photographs(counts, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (count, 84, 84, 3), np.uint8) for count in counts]


COUNTS = {"train": (20, 35, 16, 17, 18, 19), "val": (15,) * 5, "test": (16,) * 5}


@pytest.fixture
def groceries(tmp_path):
    """A set of photographs by split and class, and the folder that holds it."""
    images = {
        split: {f"{split} {i}": x for i, x in enumerate(photographs(counts, seed=len(split)))}
        for split, counts in COUNTS.items()
    }
    folder = tmp_path / "groceries"
    folder.mkdir()
    write_caches(folder, images)
    return images, folder


def write_caches(folder, images):
    for split, classes in images.items():
        ends = np.cumsum([len(x) for x in classes.values()])
        indices = [list(range(end - len(x), end)) for end, x in zip(ends, classes.values())]
        content = {
            "image_data": np.concatenate(list(classes.values())),
            "class_dict": dict(zip(classes, indices)),
        }
        with open(folder / f"mini-imagenet-cache-{split}.pkl", "wb") as file:
            pickle.dump(content, file)


def test_the_sheet_says_where_what_and_how_much(groceries, tmp_path):
    images, folder = groceries
    out = tmp_path / "sheet.png"
    lines = datasheet("miniimagenet", folder, out).splitlines()
    assert lines[:2] == ["groceries", f"data: {folder}"]
    assert lines[2].startswith("layout: mini-imagenet-cache-")
    assert lines[3:-4] == [
        "",
        "split  classes  images  per class  memory",
        "train        6     125     16..35  2.6 MB",
        "val          5      75         15  1.6 MB",
        "test         5      80         16  1.7 MB",
    ]
    assert lines[-4].startswith("note: groceries has 6/5/5 classes")
    digest = hashlib.sha256()
    for split, classes in images.items():
        for name, x in classes.items():
            digest.update(f"{split} {name} ({len(x)}, 84, 84, 3)\n".encode())
            digest.update(x.tobytes())
    assert lines[-2] == f"sha256 of splits, class names and images: {digest.hexdigest()}"
    assert lines[-1] == f"contact sheet: {out}"
    assert imread(out).shape == (990, 880, 4) and imread(out)[..., :3].std() > 0.1


def test_the_digest_is_of_the_content_in_any_layout(groceries, tmp_path):
    image = pytest.importorskip("PIL.Image")
    images, folder = groceries

    def digest(root):
        return datasheet("miniimagenet", root, tmp_path / "x.png").splitlines()[-2]

    images = {s: {name: x[:3] for name, x in classes.items()} for s, classes in images.items()}
    write_caches(folder, images)
    first = digest(folder)
    sorted_into = tmp_path / "sorted"
    for split, classes in images.items():
        for name, x in classes.items():
            (sorted_into / split / name).mkdir(parents=True)
            for i in range(len(x)):
                image.fromarray(x[i]).save(sorted_into / split / name / f"{i:03d}.png")
    assert digest(sorted_into) == first
    assert digest(shutil.make_archive(tmp_path / "zipped", "zip", sorted_into)) == first
    images["train"]["train 1"][2, 4, 5, 1] ^= 1
    write_caches(folder, images)
    changed = digest(folder)
    assert changed != first
    images["val"]["milk"] = images["val"].pop("val 4")
    write_caches(folder, images)
    assert digest(folder) not in (first, changed)


def test_the_picture_is_of_one_episode_of_each_split(groceries, tmp_path, monkeypatch):
    images, folder = groceries
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    drawn = []
    draw = plots.contact_sheet
    monkeypatch.setattr(plots, "contact_sheet", lambda *a, **k: drawn.append(a) or draw(*a, **k))
    sheet = datasheet("miniimagenet", folder)
    assert sheet.endswith("contact sheet: miniimagenet-episodes.png")
    assert [path.name for path in Path().iterdir()] == ["miniimagenet-episodes.png"]
    ((task, titles),) = drawn
    assert titles == ["train", "val", "test"]
    # 15 images of a class at most, so 5 to adapt on and 10 to be scored on.
    assert task.support.x.shape == (3, 25, 84, 84, 3) and task.query.x.shape == (3, 50, 84, 84, 3)
    for split, x in zip(titles, task.support.x):
        known = {image.tobytes() for x in images[split].values() for image in x}
        assert {np.uint8(np.round(image * 255)).tobytes() for image in x} <= known


def test_small_sets_are_shown_too(groceries, tmp_path):
    images, folder = groceries
    out = tmp_path / "x.png"
    images["val"] = dict(zip("ab", photographs((2, 3))))
    write_caches(folder, images)
    datasheet("miniimagenet", folder, out)
    images["val"]["a"] = images["val"]["a"][:1]
    write_caches(folder, images)
    with pytest.raises(UserError, match="2 different images of a class, but class 0 has 1"):
        datasheet("miniimagenet", folder, out)


def test_bad_input_is_named(groceries, tmp_path):
    with pytest.raises(UserError, match=r"^data set 'cifar' is unknown; choose omniglot or mini"):
        datasheet("cifar")
    with pytest.raises(UserError, match=r"^cannot write .*absent.*: No such file"):
        datasheet("miniimagenet", groceries[1], tmp_path / "absent" / "x.png")
    for name in ("omniglot", "miniimagenet"):
        with pytest.raises(UserError, match="nowhere does not exist"):
            datasheet(name, tmp_path / "nowhere")


def test_omniglot_is_compared_with_the_published_drawings(tmp_path, monkeypatch):
    black = np.ones((20, 105, 105), bool)
    monkeypatch.setattr(omniglot, "drawings", lambda _: ((name, black) for name in NAMES))
    for part in omniglot.CHARACTERS:
        (tmp_path / f"{part}.zip").touch()
    text = datasheet("omniglot", tmp_path, tmp_path / "x.png")
    assert f"data: {tmp_path}\nlayout: images_background.zip, images_evaluation.zip\n" in text
    assert "\nrandom train     1100   22000         20  17.2 MB\n" in text
    assert "\nlake test         659   13180         20  10.3 MB\n" in text
    assert f"\nno vinyals split: {tmp_path}/splits/vinyals/train.txt is not there; expected" in text
    # 105 * 105 = 1378 * 8 + 1 bits of ink.
    digest = hashlib.sha256((b"\xff" * 1378 + b"\x80") * 32_460).hexdigest()
    assert f"{digest}, not the published ones, {OMNIGLOT_DIGEST}\n" in text


def test_the_real_omniglot_is_the_published_one(tmp_path):
    if "TINYMAML_DATA" not in os.environ:
        pytest.skip("TINYMAML_DATA does not name the folder of the real Omniglot")
    text = datasheet("omniglot", out=tmp_path / "x.png")
    assert f"at full size: {OMNIGLOT_DIGEST}, the published ones\n" in text


def drawn(task, titles=None):
    ax = Figure().subplots()
    assert plots.contact_sheet(task, titles, ax=ax) is ax
    return ax


def pixel(ax, x, y):
    """The colour at a point, as the image there says."""
    (image,) = [
        image
        for image in ax.images
        if image.get_extent()[0] <= x < image.get_extent()[1]
        and image.get_extent()[3] <= y < image.get_extent()[2]
    ]
    left, right, bottom, top = image.get_extent()
    rows, columns = image.get_array().shape[:2]
    row, column = (y - top) / (bottom - top) * rows, (x - left) / (right - left) * columns
    return image.get_array()[int(row), int(column)]


def test_a_row_for_each_class_and_support_left_of_query():
    """Each image has one grey, which says its task, label and place among its class."""
    rng = np.random.default_rng(0)
    batches = []
    for k in (2, 3):
        y = np.stack([rng.permutation(np.repeat(np.arange(4), k)) for _ in range(2)])
        place = np.take_along_axis(np.cumsum(y[..., None] == np.arange(4), 1), y[..., None], 2) - 1
        grey = (np.arange(2)[:, None] * 40 + y * 10 + place[..., 0] + (k == 3) * 5) / 100
        x = np.broadcast_to(grey[..., None, None, None], (*y.shape, 6, 6, 1))
        batches.append(Batch(x.astype(np.float32), y))
    ax = drawn(Task(*batches), ["first", "second"])
    places = {}
    for text in ax.texts:
        places.setdefault(text.get_text(), []).append(text.get_position())
    assert {text: len(at) for text, at in places.items()} == {
        **dict.fromkeys(("support", "query", "0", "1", "2", "3"), 2),
        **dict.fromkeys(("first", "second"), 1),
    }
    for task in range(2):
        start = places["query"][task][0]
        for label in range(4):
            y = places[str(label)][task][1]
            for j in range(2):
                expected = task * 0.4 + label * 0.1 + j * 0.01
                np.testing.assert_allclose(pixel(ax, j + 0.4, y), expected, atol=1e-6)
            for j in range(3):
                expected = task * 0.4 + label * 0.1 + j * 0.01 + 0.05
                np.testing.assert_allclose(pixel(ax, start + j + 0.4, y), expected, atol=1e-6)
    heights = {text: [y for _, y in at] for text, at in places.items()}
    (first,), (second,) = heights["first"], heights["second"]
    assert first < heights["0"][0] < heights["3"][0] < second < heights["0"][1]


def test_colours_are_kept_and_neighbours_do_not_touch():
    images = photographs((3,) * 3)
    task = ImageEpisodes(images, 3, 1, 2).sample(np.random.default_rng(0), 1)
    ax = drawn(task)
    assert [text.get_text() for text in ax.texts] == ["support", "query", "0", "1", "2"]
    sheet = ax.images[1].get_array()
    assert sheet.shape == (3 * 90, 2 * 90, 3)
    np.testing.assert_array_equal(sheet[85::90], 1)
    np.testing.assert_array_equal(sheet[:, 85::90], 1)
    first = task.query.x[0][task.query.y[0] == 2][1]
    np.testing.assert_array_equal(sheet[180:264, 90:174], first)
