"""Decoding pictures: right pixels from whole files, one sentence from all others."""

import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib

import h5py
import numpy as np
import pytest
from image_sets import encoded, write
from PIL import Image

from tinymaml.errors import UserError
from tinymaml.files import Member
from tinymaml.tasks import ImageEpisodes, miniimagenet, read_images
from tinymaml.tasks.images import decode as decode_picture
from tinymaml.tasks.images import decode_all

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (8, 8), dtype=np.uint8)


def decode(data, size=8, channels=3):
    return decode_picture(Member("x", lambda: data), size, channels)


def saved(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_pixels_are_those_of_the_file():
    np.testing.assert_array_equal(decode(encoded(RGB)), RGB)
    np.testing.assert_array_equal(decode(encoded(GREY), 8, 1)[..., 0], GREY)
    np.testing.assert_array_equal(decode(encoded(GREY)), np.stack([GREY] * 3, axis=-1))
    assert decode(encoded(RGB)).dtype == np.uint8


def test_colours_of_other_kinds_become_rgb():
    flat = np.full((8, 8, 3), (10, 200, 90), np.uint8)
    image = Image.fromarray(flat)
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(decode(saved(palette)), flat)
    for kind in ("CMYK", "RGB", "L"):
        jpeg = decode(saved(image.convert(kind), "JPEG", quality=95)).astype(int)
        target = np.asarray(image.convert("L"))[..., None] if kind == "L" else flat
        assert abs(jpeg - target).max() <= 4
    ink = np.eye(8, dtype=bool)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(ink)), 8, 1)[..., 0], 255 * ink)


def test_what_is_transparent_is_white():
    # Strokes drawn on nothing: all of the colour channels are black.
    for mode, ink in (("RGBA", (0, 0, 0, 255)), ("LA", (0, 255))):
        image = Image.new(mode, (8, 8))
        image.putpixel((3, 2), ink)
        for channels in (1, 3):
            pixels = decode(saved(image), 8, channels)
            assert pixels[2, 3].max() == 0 and pixels.sum() == 255 * channels * 63
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.putpixel((3, 2), 0)
    pixels = decode(saved(palette, transparency=1))
    assert pixels[2, 3].max() == 0 and pixels.sum() == 255 * 3 * 63


def test_other_sizes_are_resized_by_lanczos():
    tall = RNG.integers(0, 256, (30, 17, 3), dtype=np.uint8)
    target = Image.fromarray(tall).resize((8, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(decode(encoded(tall)), np.asarray(target))
    np.testing.assert_array_equal(decode_picture(tall, 8), np.asarray(target))


def test_a_photograph_is_turned_as_its_camera_noted():
    image = Image.fromarray(np.full((16, 16, 3), 255, np.uint8))
    image.paste(0, (0, 0, 16, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise: what is the top comes to the right
    turned = decode(saved(image, "JPEG", exif=exif), 16)
    assert turned[:, 13:].max() < 30 and turned[:, :11].min() > 225


@pytest.mark.parametrize(
    "data, sentence",
    [
        (saved(Image.fromarray(GREY.astype(np.uint16) * 256)), "x has more than 8 bits a channel"),
        (saved(Image.fromarray(RGB), "GIF"), "x is damaged or not a JPEG or PNG image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "x is damaged or not a JPEG or PNG"),
        (encoded(RGB)[:100], "x is damaged or not a JPEG or PNG image"),
        (encoded(RGB, "JPEG")[:400], "x is damaged or not a JPEG or PNG image"),
        (b"", "x is damaged or not a JPEG or PNG image"),
        (b"\n<html>", "x is an HTML page: the download failed"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_bad_images_are_one_sentence(data, sentence):
    with pytest.raises(UserError, match=sentence):
        decode(data)


def header(width, height):
    """A PNG of one bit a pixel that holds hardly any."""
    whole = saved(Image.new("1", (width, 1)))
    head = b"IHDR" + struct.pack(">II", width, height) + whole[24:29]
    return whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]


@pytest.mark.parametrize("size", [(1, 43_000_000), (30_000, 1), (10_000, 8_000)])
def test_a_picture_of_too_many_pixels_is_not_decoded(size):
    with pytest.raises(UserError, match=f"x has {size[0]} x {size[1]} pixels"):
        decode(header(*size))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes of this kind")
def test_a_pipe_is_not_waited_for(pictures):
    os.mkfifo(pictures / "a" / "5.png")
    with pytest.raises(UserError, match=r"a/5\.png is not a file"):
        read_images(pictures, 8)
    (pictures / "a" / "5.png").unlink()
    for name in ("{}.parquet", "{}_data.hdf5", "mini-imagenet-cache-{}.pkl", "{}.zip"):
        folder = pictures / name[-4:]
        folder.mkdir()
        for split in ("train", "val", "test"):
            os.mkfifo(folder / name.format(split))
        with pytest.raises(UserError, match=r"(train|test)\S* is not a file"):
            miniimagenet.load(folder)


def test_a_zip_of_a_file_that_would_fill_the_memory_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("train/a/0.png", "w") as file:
            for _ in range(257):
                file.write(bytes(1 << 20))
    with pytest.raises(UserError, match=r"x\.zip holds a file of more than 256 MB"):
        miniimagenet.load(tmp_path)


def test_a_set_that_would_fill_the_memory_is_refused(tmp_path):
    with h5py.File(tmp_path / "train_data.hdf5", "w") as file:  # a few kB
        shape = (10**6, 84, 84, 3)
        file.create_dataset("datasets/a", shape, np.uint8, chunks=(1, 84, 84, 3))
    for split in ("val", "test"):
        (tmp_path / f"{split}_data.hdf5").write_bytes((tmp_path / "train_data.hdf5").read_bytes())
    with pytest.raises(UserError, match=r"train_data\.hdf5 holds 19 GB of images; give 16 at most"):
        miniimagenet.load(tmp_path)


def test_a_set_of_ones_own_that_would_fill_the_memory_is_refused(pictures):
    with pytest.raises(UserError, match=r"takes \d+ GB at 100000x100000; give a smaller size"):
        read_images(pictures, 10**5)
    with open(pictures / "a" / "5.png", "wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(UserError, match=r"5\.png has more than 256 MB"):
        read_images(pictures, 8)


def test_pictures_come_in_order_and_the_first_bad_one_is_named():
    images = RNG.integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    pictures = [Member(f"{i}", lambda x=x: encoded(x)) for i, x in enumerate(images)]
    np.testing.assert_array_equal(decode_all(pictures, 4), images)
    for i in (30, 7):
        pictures[i] = Member(f"{i}", lambda: b"damaged")
    with pytest.raises(UserError, match=r"^7 is damaged"):
        decode_all(pictures, 4)


@pytest.fixture
def pictures(tmp_path):
    files = {f"{name}/{i}.png": encoded(RGB // (i + 1)) for name in "ba" for i in range(4)}
    files |= {"b/9.jpg": saved(Image.new("RGB", (40, 20)), "JPEG")}
    files |= {".DS_Store": b"x", "a/.hidden": b"x", "a/Thumbs.db": b"x", ".git/x": b"x"}
    write(tmp_path / "my_pictures", files)
    return tmp_path / "my_pictures"


def test_a_folder_of_folders_becomes_episodes_in_three_lines(pictures):
    images, names = read_images(pictures, size=28, channels=1)
    episodes = ImageEpisodes(images, n_way=2, k_shot=1, n_query=3)
    tasks = episodes.sample(np.random.default_rng(0), n_tasks=4)
    assert names == ["a", "b"] and [len(x) for x in images] == [4, 5]
    assert tasks.support.x.shape == (4, 2, 28, 28, 1)
    images, _ = read_images(str(pictures), 8)
    np.testing.assert_array_equal(images[0], [RGB // (i + 1) for i in range(4)])


@pytest.mark.parametrize(
    "files, sentence",
    [
        ({"a/notes.txt": b"hello"}, "a/notes.txt is damaged or not a JPEG or PNG image"),
        ({"cat.jpg": b"x"}, "cat.jpg lies beside the classes' folders"),
        ({"a/more/1.png": b"x"}, "a/more cannot be read: Is a directory"),
        ({"c/.hidden": b"x"}, "c holds no images; remove it or fill it"),
        ({"a/page.jpg": b"<!doctype html>"}, "a/page.jpg is an HTML page"),
    ],
)
def test_what_is_not_a_picture_is_named(pictures, files, sentence):
    write(pictures, files)
    with pytest.raises(UserError, match=sentence):
        read_images(pictures, 8)


def test_wrong_folders_are_named(pictures, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in ("absent", "my_pictures/.DS_Store", "empty"):
        with pytest.raises(UserError, match=f"{folder} is not a folder that holds a folder of"):
            read_images(tmp_path / folder, 8)


def test_libraries_are_loaded_only_when_images_are_read():
    code = (
        "import sys, tinymaml, tinymaml.tasks.miniimagenet; "
        "assert not {'PIL', 'h5py', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
