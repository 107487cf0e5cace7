"""MiniImageNet's layouts: all give the same arrays, and whatever is wrong is one sentence."""

import hashlib
import os
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
    together = " ".join(name for split in CLASSES for name in CLASSES[split])
    monkeypatch.setattr(miniimagenet, "DIGEST", hashlib.sha256(together.encode()).hexdigest())
    monkeypatch.setattr(miniimagenet, "CLASSES", {split: len(CLASSES[split]) for split in CLASSES})
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
        (None, "no folder of images given; pass --root or set TINYMAML_DATA"),
        (tmp_path, f"{tmp_path} holds no set of images"),
        (tmp_path / "absent", f"{tmp_path / 'absent'} does not exist"),
    ):
        sentence = refusal(root)
        assert sentence.startswith(start)
        for part in ("mini-imagenet-cache-*.pkl", "images/ with", "Parquet", "image-net.org"):
            assert part in sentence
    assert "file is damaged or not a zip" in refusal(tmp_path / "file")
    sets.write_zip(tmp_path / "other.zip", {"readme": b"x", "a/b": b"y"})
    assert "other.zip holds no set" in refusal(tmp_path / "other.zip")


def test_tables_without_images_are_called_that(tmp_path):
    tables = {f"splits/{name}": sets.listed()[name] for name in TABLES}
    sets.write(tmp_path / "miniimagenet", tables)
    for root in (tmp_path, tmp_path / "miniimagenet"):
        assert "miniimagenet holds only the tables of a set, and no folder images/" in refusal(root)


@pytest.mark.parametrize(
    "layout, gone, sentence",
    [
        ("listed", "val.csv", "images/ with train.csv, val.csv and test.csv), but no val"),
        ("sorted", "test", "but no test"),
        ("caches", "mini-imagenet-cache-val.pkl", "(mini-imagenet-cache-*.pkl), but no val"),
        ("hdf5", "train_data.hdf5", "but no train"),
        ("category splits", "miniImageNet_category_split_val.pickle", "but no val"),
        ("parquet", "validation.parquet", "but no val"),
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


def test_numbers_are_classes_if_no_two_parts_share_one(tmp_path):
    def numbers(split, own):
        data = sets.category_split(split)
        return {"data": data["data"], "labels": np.array(data["labels"]) - own * sets.FIRST[split]}

    sets.write_category_splits(tmp_path / "a", contents=lambda split: numbers(split, own=False))
    data = quietly(tmp_path / "a")
    assert data.title == "a" and data.names["val"] == ["007", "008", "009"]
    sets.write_category_splits(tmp_path / "b", contents=lambda split: numbers(split, own=True))
    sentence = refusal(tmp_path / "b")
    assert "3 classes are in more than one" in sentence and "write names as labels" in sentence


@pytest.mark.parametrize(
    "layout, name",
    [
        ("listed", "train.csv"),
        ("listed", "images/n000000010.png"),
        ("listed, zipped", "images.zip"),
        ("caches", "mini-imagenet-cache-val.pkl"),
        ("category splits", "miniImageNet_category_split_test.pickle"),
        ("hdf5", "val_data.hdf5"),
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
    assert "images.zip is damaged or not a zip" in refusal(tmp_path)


@pytest.mark.parametrize(
    "layout, name",
    [
        ("listed", "images/n000000010.png"),
        ("listed, zipped", "images.zip"),
        ("caches", "mini-imagenet-cache-val.pkl"),
        ("category splits", "miniImageNet_category_split_test.pickle"),
        ("hdf5", "val_data.hdf5"),
        ("parquet", "train.parquet"),
    ],
)
def test_a_file_that_is_cut_short_is_named(layout, name, tmp_path):
    LAYOUTS[layout](tmp_path / "x")
    size = (tmp_path / "x" / name).stat().st_size
    for rest in (size // 2, 0):
        os.truncate(tmp_path / "x" / name, rest)
        assert f"{Path(name).name} is damaged or not a" in refusal(tmp_path / "x")


@pytest.mark.parametrize(
    "table, sentence",
    [
        (
            b"name,class\na.png,n1\n",
            "train.csv is damaged or not a CSV table with columns filename",
        ),
        (b"filename,label\n", "train, val or test has no classes"),
        (b"filename,label\nabsent.png,n1\n", "absent.png is not there"),
        (b"filename,label\nn000000010.png", "train.csv is damaged or not a CSV table"),
        (b"filename,label\n\xff.png,n1\n", "train.csv is damaged or not a CSV table"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_bad_tables_are_named(table, sentence, zipped, tmp_path):
    files = sets.listed() | {"train.csv": table}
    if zipped:
        sets.write_zip(tmp_path / "x.zip", files)
    else:
        sets.write(tmp_path, files)
    assert sentence in refusal(tmp_path)


def test_tables_may_have_other_columns_and_a_byte_order_mark(tmp_path):
    files = sets.listed()
    rows = files["val.csv"].decode().split()
    turned = [",".join([str(i), *reversed(row.split(","))]) for i, row in enumerate(rows)]
    files["val.csv"] = b"\xef\xbb\xbf" + "\r\n".join(turned).encode()
    sets.write(tmp_path, files)
    np.testing.assert_array_equal(quietly(tmp_path).images["val"], sets.expected()["val"])


@pytest.mark.parametrize("zipped", [False, True])
def test_tables_may_name_images_in_folders_of_images(zipped, tmp_path):
    files = sets.listed()
    for split in sets.NAMES:
        files[f"{split}.csv"] = files[f"{split}.csv"].replace(b"\nn", b"\nsub/more/n")
    moved = {name.replace("images/", "images/sub/more/"): data for name, data in files.items()}
    if zipped:
        sets.write_zip(tmp_path / "x.zip", moved)
    else:
        sets.write(tmp_path, moved)
    for ours, array in zip(quietly(tmp_path).images["train"], sets.expected()["train"]):
        np.testing.assert_array_equal(ours, array)


@pytest.mark.parametrize("images", [sets.stacked("val") / 1.0, sets.stacked("val")[..., :1], None])
def test_arrays_that_are_not_of_images_are_named(images, tmp_path):
    contents = lambda split: sets.cache(split) | ({"image_data": images} if split == "val" else {})
    sets.write_caches(tmp_path, contents=contents)
    assert "expected uint8 (n, h, w, 3)" in refusal(tmp_path)


def test_compressed_hdf5_is_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    sets.write_hdf5(tmp_path)
    with h5py.File(tmp_path / "val_data.hdf5", "a") as file:
        del file["datasets/n00000010"]
        images = sets.images_of("n00000010")
        file.create_dataset("datasets/n00000010", data=images, compression="gzip")
    np.testing.assert_array_equal(quietly(tmp_path).images["val"], sets.expected()["val"])


def test_a_parquet_image_that_is_absent_is_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    sets.write_parquet(tmp_path)
    columns = {"image": [{"bytes": None, "path": "/etc/passwd"}], "label": ["a"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "validation.parquet")
    assert "validation.parquet: image 0 is damaged or not a JPEG or PNG image" in refusal(tmp_path)


def test_a_pyarrow_that_runs_code_of_files_is_refused(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    sets.write_parquet(tmp_path)
    monkeypatch.setattr(pyarrow, "__version__", "14.0.0")
    assert "may hold code that this pyarrow runs: pip install -U pyarrow" in refusal(tmp_path)


@pytest.mark.parametrize("library, layout", [("h5py", "hdf5"), ("pyarrow", "parquet")])
def test_a_library_is_asked_for_by_name(library, layout, tmp_path, monkeypatch):
    LAYOUTS[layout](tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    assert f"takes {library}: pip install {library}" in refusal(tmp_path)


def test_the_published_classes_are_those_of_the_split_files(data_root):
    folder = data_root / "miniimagenet" / "splits"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    published = []
    for split, count in miniimagenet.CLASSES.items():
        rows = (folder / f"{split}.csv").read_text().split()[1:]
        names = sorted({row.split(",")[1] for row in rows})
        assert len(names) == count and len(rows) == miniimagenet.IMAGES * count
        published += names
    assert hashlib.sha256(" ".join(published).encode()).hexdigest() == miniimagenet.DIGEST
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
