"""Decoding images: right pixels from whole files, one sentence from all others."""

import io
import os
import random
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from glyphs import chunk
from image_sets import encoded, write
from PIL import Image

from tinymaml.errors import UserError
from tinymaml.tasks import ImageEpisodes, image_files
from tinymaml.tasks.image_files import decode, decode_classes, read_images

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (8, 8), dtype=np.uint8)


def saved(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_pixels_are_those_of_the_file():
    np.testing.assert_array_equal(decode("x", encoded(RGB), 8), RGB)
    np.testing.assert_array_equal(decode("x", encoded(GREY), 8, 1)[..., 0], GREY)
    np.testing.assert_array_equal(decode("x", encoded(GREY), 8), np.stack([GREY] * 3, axis=-1))
    assert decode("x", encoded(RGB), 8).dtype == np.uint8


def test_colours_of_other_kinds_become_rgb():
    flat = np.full((8, 8, 3), (10, 200, 90), np.uint8)
    image = Image.fromarray(flat)
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(decode("x", saved(palette), 8), flat)
    for kind in ("CMYK", "RGB", "L"):
        jpeg = decode("x", saved(image.convert(kind), "JPEG", quality=95), 8).astype(int)
        target = np.asarray(image.convert("L"))[..., None] if kind == "L" else flat
        assert abs(jpeg - target).max() <= 4
    ink = np.eye(8, dtype=bool)
    np.testing.assert_array_equal(decode("x", saved(Image.fromarray(ink)), 8, 1)[..., 0], 255 * ink)


def test_what_is_transparent_is_white():
    # Strokes drawn on nothing: all of the colour channels are black.
    for mode, ink in (("RGBA", (0, 0, 0, 255)), ("LA", (0, 255))):
        image = Image.new(mode, (8, 8))
        image.putpixel((3, 2), ink)
        for channels in (1, 3):
            pixels = decode("x", saved(image), 8, channels)
            assert pixels[2, 3].max() == 0 and pixels.sum() == 255 * channels * 63
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.putpixel((3, 2), 0)
    pixels = decode("x", saved(palette, transparency=1), 8)
    assert pixels[2, 3].max() == 0 and pixels.sum() == 255 * 3 * 63


def test_other_sizes_are_resized_by_lanczos():
    tall = RNG.integers(0, 256, (30, 17, 3), dtype=np.uint8)
    target = Image.fromarray(tall).resize((8, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(decode("x", encoded(tall), 8), np.asarray(target))
    stack = np.stack([tall, tall[::-1]])
    np.testing.assert_array_equal(image_files.resize(stack, 8)[0], np.asarray(target))
    assert image_files.resize(stack[:, :17], 17) is not stack
    square = stack[:, :17]
    assert image_files.resize(square, 17) is square


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_photograph_is_turned_as_its_camera_noted():
    image = Image.fromarray(np.full((16, 16, 3), 255, np.uint8))
    image.paste(0, (0, 0, 16, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise: what is the top comes to the right
    turned = decode("x", saved(image, "JPEG", exif=exif), 16)
    assert turned[:, 13:].max() < 30 and turned[:, :11].min() > 225
    broken = saved(image, "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff" + bytes(30))
    assert decode("x", broken, 16).shape == (16, 16, 3)


def png(width, height, *chunks, depth=8, colour=2):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def jpeg_of(width, height):
    """A small JPEG that states another size."""
    data = saved(Image.fromarray(RGB), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def scans(count):
    data = saved(Image.new("L", (64, 64)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


ROWS = chunk(b"IDAT", zlib.compress(b"\x00" * (8 * 25)))


@pytest.mark.parametrize(
    "data, sentence",
    [
        (png(10**9, 10**9, ROWS), "x (is damaged or not|has over 64000000 pixels)"),
        (png(2**31 - 1, 1, ROWS), "has over 64000000 pixels|is damaged"),
        (png(8001, 8000, ROWS), "has 8001x8000 pixels; make it smaller"),
        (png(100_000, 1000, ROWS), "pixels; make it smaller"),
        (jpeg_of(65_000, 65_000), "pixels; make it smaller"),
        (jpeg_of(9000, 9000), "has 9000x9000 pixels; make it smaller"),
        (png(8, 8, ROWS, depth=16, colour=0), "more than 8 bits a channel"),
        (scans(40), "goes over the image more than 32 times"),
        (png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))), ROWS), "damaged"),
        (png(8, 8, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8))), ROWS), "damaged"),
        (png(8, 8, chunk(b"IDAT", zlib.compress(bytes(10**8)))), None),
        (png(8, 8, chunk(b"IDAT", b"")), "damaged"),
        (png(8, 8), "damaged"),
        (png(0, 8, ROWS), "damaged"),
        (saved(Image.fromarray(RGB), "GIF"), "not a JPEG or PNG image"),
        (saved(Image.fromarray(RGB), "BMP"), "not a JPEG or PNG image"),
        (b"", "not a JPEG or PNG image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a JPEG or PNG image"),
        (b"\n<html>", "x is an HTML page: the download failed"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_bad_images_are_one_sentence_and_little_memory(data, sentence):
    tracemalloc.start()
    try:
        if sentence is None:
            assert decode("x", data, 8).shape == (8, 8, 3)
        else:
            with pytest.raises(UserError, match=sentence), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                decode("x", data, 8)
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()


def damaged(whole, seed):
    rng = random.Random(seed)
    yield from (whole[:i] for i in range(0, len(whole) - 1))
    for _ in range(500):
        i = rng.randrange(len(whole))
        yield whole[:i] + bytes([whole[i] ^ (1 << rng.randrange(8))]) + whole[i + 1 :]


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_png_gives_its_pixels_or_a_user_error():
    # Smooth, so that it is packed: Pillow gives wrong pixels for 3 % of its flipped bits.
    smooth = Image.fromarray(RGB[:5, :5]).resize((30, 30))
    whole = saved(smooth)
    for data in damaged(whole, 0):
        try:
            pixels = decode("x", data, 30)
        except UserError:
            continue
        np.testing.assert_array_equal(pixels, np.asarray(smooth))


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_jpeg_gives_an_image_or_a_user_error():
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = saved(Image.fromarray(RGB), "JPEG", exif=exif, progressive=True)
    cut = [whole[:i] for i in range(len(whole) - 2)]
    for data in damaged(whole, 1):
        try:
            pixels = decode("x", data, 8)
        except UserError:
            continue
        # A JPEG has no checksums, but what is missing is noticed.
        assert pixels.shape == (8, 8, 3) and data not in cut


def test_classes_come_in_order_and_the_first_bad_image_is_named(monkeypatch):
    images = RNG.integers(0, 256, (3, 40, 4, 4, 3), dtype=np.uint8)

    def readers(name, stack):
        return [(f"{name}{i}", lambda image=image: encoded(image)) for i, image in enumerate(stack)]

    classes = {name: readers(name, stack) for name, stack in zip("cab", images)}
    for threads in (1, 4):
        monkeypatch.setattr(image_files, "MAX_THREADS", threads)
        result = decode_classes(classes, 4)
        assert list(result) == ["c", "a", "b"]
        np.testing.assert_array_equal(np.stack(list(result.values())), images)
    for name, i in (("b", 3), ("a", 30), ("a", 7)):
        classes[name][i] = (f"{name}{i}", lambda: b"damaged")
    with pytest.raises(UserError, match="a7 is damaged"):
        decode_classes(classes, 4)


def test_a_result_beyond_memory_is_refused_before_it_is_made():
    with pytest.raises(UserError, match="5000 images of 1024x1024 take more than 4 GB"):
        decode_classes({"a": [("a", None)] * 5000}, 1024)


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
        ({"a/more/1.png": b"x"}, "a holds a folder, more, and not only images"),
        ({"c/.hidden": b"x"}, "c holds no images; remove it or fill it"),
        ({"a/page.jpg": b"<!doctype html>"}, "a/page.jpg is an HTML page"),
        ({"a\x1b[2J/1.png": b"x"}, "has a class whose name is no text"),
    ],
)
def test_what_is_no_picture_is_named(pictures, files, sentence):
    write(pictures, files)
    with pytest.raises(UserError, match=sentence):
        read_images(pictures, 8)


def test_a_pipe_among_the_pictures_does_not_stop_the_reading(pictures):
    os.mkfifo(pictures / "a" / "5.png")
    with pytest.raises(UserError, match=r"5\.png is not a file"):
        read_images(pictures, 8)


def test_a_file_that_is_too_large_is_named(pictures):
    os.truncate(pictures / "a" / "0.png", 2**40)
    with pytest.raises(UserError, match=r"0\.png has 1099511627776 bytes, more than the"):
        read_images(pictures, 8)


def test_wrong_folders_and_sizes_are_named(pictures, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, options, sentence in (
        ("absent", {}, "absent does not exist; give a folder that holds one folder"),
        ("my_pictures/.DS_Store", {}, "is a file; give a folder"),
        ("empty", {}, "empty holds no folders; give a folder"),
        ("my_pictures", {"size": 0}, "size is 0;"),
        ("my_pictures", {"size": 10**6}, "size is 1000000;"),
        ("my_pictures", {"size": 8.5}, "size is 8.5;"),
        ("my_pictures", {"channels": 4}, "channels is 4;"),
    ):
        with pytest.raises(UserError, match=sentence):
            read_images(tmp_path / folder, **{"size": 8, **options})


def test_pillow_is_asked_for_by_name(pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UserError, match="takes Pillow: pip install pillow"):
        read_images(pictures, 8)


def test_libraries_are_loaded_only_when_images_are_read():
    code = (
        "import sys, tinymaml, tinymaml.tasks.miniimagenet; "
        "assert not {'PIL', 'h5py', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
