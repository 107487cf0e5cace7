"""MiniImageNet's layouts: all give the same arrays, and whatever is wrong is one sentence."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import image_sets as sets
import numpy as np
import pytest
from image_sets import LAYOUTS, NAMES, SIDE, TABLES, quietly, refusal
from PIL import Image

from tinymaml.tasks import miniimagenet
from tinymaml.tasks.miniimagenet import find, load

CLASSES = {split: sorted(names) for split, names in NAMES.items()}


@pytest.fixture(autouse=True)
def no_data_of_ones_own(request, monkeypatch):
    if "data_root" not in request.fixturenames:
        monkeypatch.delenv("TINYMAML_DATA", raising=False)


@pytest.fixture
def published(monkeypatch):
    """As if the tiny set were MiniImageNet."""
    monkeypatch.setattr(miniimagenet, "CLASSES", CLASSES)
    monkeypatch.setattr(miniimagenet, "IMAGES", sets.COUNT)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_arrays(layout, tmp_path, published):
    LAYOUTS[layout](tmp_path / "some set")
    data = load(tmp_path / "some set", SIDE)
    assert data.title == "MiniImageNet" and data.names == CLASSES
    for split, arrays in sets.expected().items():
        for ours, array in zip(data.images[split], arrays, strict=True):
            assert ours.dtype == np.uint8
            np.testing.assert_array_equal(ours, array)


@pytest.mark.parametrize("layout", ["listed", "listed, zipped", "caches", "hdf5", "parquet"])
def test_every_layout_is_resized_alike(layout, tmp_path, published):
    LAYOUTS[layout](tmp_path / "set")
    image = load(tmp_path / "set", 5).images["val"][1][3]
    whole = Image.fromarray(sets.expected()["val"][1][3])
    np.testing.assert_array_equal(image, whole.resize((5, 5), Image.Resampling.LANCZOS))


def test_the_first_layout_of_several_is_read_and_said(tmp_path):
    for layout, words in (
        ("sorted", "train/, val/ and test/ with a folder of images for each class"),
        ("listed", "images/ with train.csv, val.csv and test.csv"),
        ("category splits", "miniImageNet_category_split_*.pickle"),
        ("caches", "mini-imagenet-cache-*.pkl"),
    ):
        LAYOUTS[layout](tmp_path / "x")
        for entry in (tmp_path / "x").iterdir():
            target = tmp_path / "all" / entry.name
            target.parent.mkdir(exist_ok=True)
            entry.rename(target)
        assert quietly(tmp_path / "all").layout == words


def test_the_set_is_found_below_the_data_folder(tmp_path, monkeypatch, published):
    sets.write(tmp_path / "mini-imagenet", sets.listed())
    (tmp_path / "omniglot").mkdir()
    monkeypatch.setenv("TINYMAML_DATA", str(tmp_path))
    assert find() == find(tmp_path) == tmp_path / "mini-imagenet"
    assert load(size=SIDE).title == "MiniImageNet"
    sets.write_zip(tmp_path / "Mini_ImageNet" / "images.zip", sets.listed())
    assert find(tmp_path / "Mini_ImageNet") == tmp_path / "Mini_ImageNet"
    zipped = tmp_path / "Mini_ImageNet" / "images.zip"
    assert find(zipped) == zipped


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("root", ["shop.v2", "link", "shop.v2/inside/..", "shop.v2/a.b.zip"])
def test_what_find_gives_is_read_as_the_same_set(tmp_path, zipped, root):
    """Whatever the folder is called: a run remembers it."""
    folder = tmp_path / "shop.v2"
    (folder / "inside").mkdir(parents=True)
    if zipped or root.endswith("zip"):
        sets.write_zip(folder / "a.b.zip", sets.listed())
    else:
        sets.write(folder, sets.listed())
    (tmp_path / "link").symlink_to(folder)
    place = find(tmp_path / root).resolve()
    assert find(place) == place
    title = "a.b" if root.endswith("zip") else "shop.v2"
    assert quietly(tmp_path / root).title == quietly(place).title == title


@pytest.mark.parametrize("name", ["MiniImageNet", "Omniglot"])
def test_own_images_do_not_get_a_name_of_the_paper(tmp_path, name):
    sets.write(tmp_path / name, sets.listed())
    assert quietly(tmp_path / name).title == f"{name} (own images)"


def test_another_set_has_the_name_of_its_folder_or_zip_and_is_remarked_on(tmp_path):
    sets.write_zip(tmp_path / "groceries" / "jpeg.zip", sets.listed())
    remark = "groceries has 7/3/3 classes .* of 4 to 4 images, where MiniImageNet has 64/16/20 of"
    with pytest.warns(UserWarning, match=remark) as caught:
        assert load(tmp_path / "groceries", SIDE).title == "groceries"
    assert caught[0].filename == __file__
    assert quietly(tmp_path / "groceries" / "jpeg.zip").title == "jpeg"


def test_the_published_counts_are_not_remarked_on(tmp_path, published):
    sets.write_caches(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path, SIDE)


def test_where_nothing_is_the_layouts_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    for root, start in (
        (None, "no folder of images given; pass --root FOLDER or set TINYMAML_DATA"),
        (tmp_path, f"{tmp_path} holds no set of images"),
        (tmp_path / "absent", f"{tmp_path / 'absent'} does not exist"),
    ):
        sentence = refusal(root)
        assert sentence.startswith(start)
        for part in ("mini-imagenet-cache-*.pkl", "images/ with", "Parquet", "image-net.org"):
            assert part in sentence
    assert "file is neither a folder nor a zip" in refusal(tmp_path / "file")
    sets.write_zip(tmp_path / "other.zip", {"readme": b"x", "a/b": b"y"})
    assert "other.zip holds no set" in refusal(tmp_path / "other.zip")


def test_tables_without_images_are_called_that(tmp_path):
    tables = {f"splits/{name}": sets.listed()[name] for name in TABLES}
    sets.write(tmp_path / "miniimagenet", tables)
    for root in (tmp_path, tmp_path / "miniimagenet"):
        assert "miniimagenet holds only the tables train.csv, val.csv and test.csv" in refusal(root)


@pytest.mark.parametrize(
    "layout, gone, sentence",
    [
        ("listed", "val.csv", "but no val.csv"),
        ("sorted", "test", "but no test/"),
        ("caches", "mini-imagenet-cache-val.pkl", "but no mini-imagenet-cache-val.pkl"),
        ("hdf5", "train_data.hdf5", "but no train_data.hdf5 with train_labels.json"),
        ("hdf5", "test_labels.json", "but no test_data.hdf5 with test_labels.json"),
        (
            "category splits",
            "miniImageNet_category_split_train_phase_train.pickle",
            "but no miniImageNet_category_split_train_phase_train.pickle",
        ),
        ("parquet", "validation.parquet", "but no val.parquet"),
    ],
)
def test_a_missing_split_is_named(layout, gone, sentence, tmp_path):
    LAYOUTS[layout](tmp_path / "x")
    (tmp_path / "x" / gone).rename(tmp_path / gone)
    assert sentence in refusal(tmp_path / "x")


def test_shared_classes_are_refused_before_images_are_read(tmp_path):
    files = sets.listed()
    for name in files:
        if name.endswith(".png"):
            files[name] = b"not read"
    files["test.csv"] = files["test.csv"].replace(b",n00000031", b",n00000010")
    sets.write(tmp_path, files)
    assert "1 classes are in more than one of train, val and test (n00000010)" in refusal(tmp_path)
    # Split by images: every class is in every part.
    rows = [f"{name}{i}.png,{name}" for name in sets.EVERY for i in range(4)]
    for i, split in enumerate(NAMES):
        files[f"{split}.csv"] = "\n".join(["filename,label", *rows[i::3]]).encode()
    sets.write(tmp_path, files)
    assert "13 classes are in more than one of" in refusal(tmp_path)


def test_numbers_are_classes_unless_each_split_numbers_its_own(tmp_path, published):
    def global_numbers(split):
        return {k: v for k, v in sets.category_split(split).items() if k != "catname2label"}

    def own_numbers(split):
        data = global_numbers(split)
        return data | {"labels": np.array(data["labels"]) - sets.FIRST[split]}

    sets.write_category_splits(tmp_path / "a", contents=global_numbers)
    data = load(tmp_path / "a", SIDE)
    assert data.title == "a" and data.names["val"] == ["007", "008", "009"]
    sets.write_category_splits(tmp_path / "b", contents=own_numbers)
    data = load(tmp_path / "b", SIDE)  # as many as published
    assert data.names["val"] == ["val 000", "val 001", "val 002"]
    np.testing.assert_array_equal(data.images["val"][0], sets.images_of(NAMES["val"][0]))
    miniimagenet.CLASSES["val"].append("one more")
    try:
        assert "3 classes are in more than one" in refusal(tmp_path / "b")
    finally:
        miniimagenet.CLASSES["val"].pop()


@pytest.mark.parametrize(
    "layout, name",
    [
        ("listed", "train.csv"),
        ("listed", "images/n000000010.png"),
        ("listed, zipped", "images.zip"),
        ("caches", "mini-imagenet-cache-val.pkl"),
        ("category splits", "miniImageNet_category_split_test.pickle"),
        ("hdf5", "val_data.hdf5"),
        ("hdf5", "val_labels.json"),
        ("parquet", "test.parquet"),
    ],
)
def test_a_web_page_in_place_of_a_file_is_called_that(layout, name, tmp_path):
    LAYOUTS[layout](tmp_path / "x")
    (tmp_path / "x" / name).write_bytes(b"\n  <!DOCTYPE html><html>Quota exceeded")
    assert f"{Path(name).name} is an HTML page: the download failed" in refusal(tmp_path / "x")


def test_a_damaged_zip_is_named_though_tables_lie_beside_it(tmp_path):
    LAYOUTS["listed, tables beside the zip"](tmp_path)
    os.truncate(tmp_path / "images.zip", 5000)
    assert "images.zip is damaged or no zip" in refusal(tmp_path)


FUZZ = """
import random, resource, sys, warnings
from pathlib import Path
from tinymaml.errors import UserError
from tinymaml.tasks.miniimagenet import load

resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
warnings.simplefilter("ignore")
target, count = Path(sys.argv[1]), int(sys.argv[2])
whole, rng, refused = target.read_bytes(), random.Random(0), 0
for trial in range(count):
    data = bytearray(whole)
    if trial % 4 == 0:
        del data[rng.randrange(len(data)) :]
    else:
        # Near the ends lie the headers and tables of most formats.
        places = rng.randrange(len(data)), rng.randrange(2000), len(data) - rng.randrange(1, 2000)
        for _ in range(rng.choice((1, 1, 3))):
            place = rng.choice(places) % len(data)
            data[place] = rng.choice((0, 255, 127, data[place] ^ 1 << rng.randrange(8)))
    target.write_bytes(data)
    try:
        images = load(target.parent, 8).images
    except UserError:
        refused += 1
        continue
    arrays = [array for split in images.values() for array in split]
    assert all(array.shape[1:] == (8, 8, 3) and array.dtype == "uint8" for array in arrays)
    assert data != whole[: len(data)] or len(data) == len(whole) or not {exact}, "cut short"
print(refused)
"""


@pytest.mark.parametrize(
    "layout, name, count",
    [
        ("listed", "train.csv", 50),
        ("listed, zipped", "images.zip", 50),
        ("caches", "mini-imagenet-cache-train.pkl", 200),
        ("category splits", "miniImageNet_category_split_test.pickle", 200),
        ("hdf5", "val_data.hdf5", 80),
        ("parquet", "train.parquet", 60),
    ],
)
def test_damage_gives_images_or_a_user_error(layout, name, count, tmp_path):
    """In a process of its own, as HDF5 and Parquet are read by C and C++."""
    LAYOUTS[layout](tmp_path / "x")
    code = FUZZ.replace("{exact}", str(layout != "listed"))
    command = [sys.executable, "-c", code, str(tmp_path / "x" / name), str(count)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= count / 5


def test_the_published_classes_are_those_of_the_split_files(data_root):
    folder = data_root / "miniimagenet" / "splits"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    for split, names in miniimagenet.CLASSES.items():
        rows = (folder / f"{split}.csv").read_text().split()[1:]
        assert sorted({row.split(",")[1] for row in rows}) == names
        assert len(rows) == 600 * len(names)
    if not (data_root / "miniimagenet" / "images").exists():
        assert "holds only the tables" in refusal(data_root)


def test_real_photographs_are_read(data_root):
    folder = data_root / "grocerystore"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    data = quietly(folder, 84)
    assert data.title == "grocerystore"
    assert {split: len(names) for split, names in data.names.items()} == {
        "train": 52,
        "val": 13,
        "test": 16,
    }
    counts = {split: sum(map(len, images)) for split, images in data.images.items()}
    assert counts == {"train": 3606, "val": 797, "test": 1018}
    assert len({name for names in data.names.values() for name in names}) == 81
    # A photograph is neither flat nor noise.
    image = data.images["train"][0][0].astype(float)
    assert image.std() > 10 and abs(np.diff(image, axis=0)).mean() < image.std()
