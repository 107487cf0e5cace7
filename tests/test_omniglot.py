"""Reading Omniglot: upstream's layout from zips and folders, resizing, damage, cache."""

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from glyphs import CHARACTERS, NAMES, files, glyph, glyph_number, png, write_zip
from PIL import Image

from tinymaml.errors import UserError
from tinymaml.tasks import omniglot

BACKGROUND, EVALUATION = "images_background", "images_evaluation"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test reads or writes a cache of the person who runs it."""
    monkeypatch.setenv("TINYMAML_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def zips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("omniglot")
    for part in (BACKGROUND, EVALUATION):
        write_zip(folder, part)
    return folder


@pytest.fixture
def copy(zips, tmp_path):
    """A folder of the test's own, to damage."""
    return Path(shutil.copytree(zips, tmp_path / "omniglot"))


def unpack(archive, folder):
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)


def expected_images():
    centres = ((np.arange(28) + 0.5) * 105 / 28).astype(int)
    small = np.stack([glyph(n)[np.ix_(centres, centres)] for n in range(7)])
    character, drawing = np.ogrid[:1623, :20]
    return small[glyph_number(character, drawing)][..., None] * np.uint8(255)


@pytest.mark.slow
def test_zips_give_every_drawing_in_order_with_white_ink(zips):
    data = omniglot.load(zips)
    assert data.images.dtype == np.uint8
    np.testing.assert_array_equal(data.images, expected_images())
    assert data.names == sorted(data.names) == NAMES and len(set(NAMES)) == 1623
    assert data.names[963:965] == [
        "images_background/Tifinagh/character55",
        "images_evaluation/Angelic/character01",
    ]


@pytest.mark.slow
def test_an_unpacked_folder_gives_the_same(copy):
    archive = copy / f"{EVALUATION}.zip"
    # As unpackers leave it that make a folder of the archive's name.
    unpack(archive, copy / EVALUATION)
    archive.unlink()
    np.testing.assert_array_equal(omniglot.load(copy.parent).images, expected_images())


@pytest.mark.slow
def test_repacked_zips_with_strangers_in_them_give_the_same(tmp_path):
    for part in (BACKGROUND, EVALUATION):
        members = dict(reversed(files(part).items()))
        character = CHARACTERS[part][0]
        members[f"__MACOSX/{part}/{character}/._0001_01.png"] = b"x"
        members["../../escaped.txt"] = b"x"
        members[f"{part}/.DS_Store"] = b"x"
        write_zip(tmp_path, part, members)
    np.testing.assert_array_equal(omniglot.load(tmp_path).images, expected_images())
    assert not list(tmp_path.parent.glob("**/escaped.txt"))


def test_the_environment_names_the_folder(zips, monkeypatch):
    monkeypatch.setenv("TINYMAML_DATA", str(zips))
    assert omniglot.find() == zips
    monkeypatch.delenv("TINYMAML_DATA")
    with pytest.raises(UserError) as error:
        omniglot.find()
    for part in ("images_background.zip", omniglot.MD5[EVALUATION], omniglot.URL, "--download"):
        assert part in str(error.value)


def test_wrong_folders_are_named(tmp_path, zips):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "half").mkdir()
    shutil.copy(zips / f"{BACKGROUND}.zip", tmp_path / "half")
    for name, sentence in {
        "absent": "absent does not exist",
        "file": "file does not exist or is a file",
        "empty": "holds no images_background and no images_evaluation",
        "half": "holds no images_evaluation; ",
    }.items():
        with pytest.raises(UserError, match=sentence):
            omniglot.load(tmp_path / name)


def test_a_truncated_zip_is_named(copy):
    target = copy / f"{EVALUATION}.zip"
    os.truncate(target, target.stat().st_size // 2)
    with pytest.raises(UserError, match=r"images_evaluation\.zip is damaged or not a zip; get it"):
        omniglot.load(copy)


@pytest.mark.parametrize("offset", [40, 5000, 100_000])
def test_flipped_bytes_never_pass_silently(copy, offset):
    with open(copy / f"{BACKGROUND}.zip", "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0xFF]))
    try:
        images = omniglot.load(copy).images
    except UserError:
        return
    np.testing.assert_array_equal(images, expected_images())


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The zip of an evaluation part of two alphabets, Angelic and Tibetan, 62 characters."""
    members = {n: x for n, x in files(EVALUATION).items() if "Angelic" in n or "Tibetan" in n}
    monkeypatch.setattr(omniglot, "CHARACTERS", {EVALUATION: 62})
    write_zip(tmp_path, EVALUATION, members)
    return tmp_path / f"{EVALUATION}.zip", members


@pytest.mark.parametrize(
    "drop, count", [("/Tibetan/", 20), ("/", 0), ("/Tibetan/character07/", 61), ("_20.png", 0)]
)
@pytest.mark.parametrize("unpacked", [False, True])
def test_what_is_missing_is_counted(small, drop, count, unpacked):
    path, members = small
    members = {name: data for name, data in members.items() if drop not in name}
    write_zip(path.parent, EVALUATION, members | {f"{EVALUATION}/readme": b""})
    if unpacked:
        unpack(path, path.parent)
        path.unlink()
        path = path.with_suffix("")
    with pytest.raises(UserError, match=f"{path} holds {count} whole characters of 62; get it"):
        list(omniglot.drawings(path.parent))


@pytest.mark.parametrize(
    "data, sentence",
    [
        (png(np.zeros((28, 28), bool)), "is damaged or not a PNG image of 105x105; get it again"),
        (b"x" * 9000, "is damaged or not a PNG image"),
        (b"<html>", "is an HTML page"),
    ],
    ids=["small", "large", "page"],
)
@pytest.mark.parametrize("unpacked", [False, True])
def test_a_bad_drawing_is_named_in_zip_and_folder(small, data, sentence, unpacked):
    path, members = small
    name = f"{EVALUATION}/Angelic/character01/0965_01.png"
    write_zip(path.parent, EVALUATION, members | {name: data})
    if unpacked:
        unpack(path, path.parent)
        path.unlink()
    with pytest.raises(UserError, match=rf"{path.with_suffix('')}.*0965_01\.png {sentence}"):
        next(omniglot.drawings(path.parent))


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A folder of zips that are whole for an Omniglot of one character in each part."""
    monkeypatch.setattr(omniglot, "CHARACTERS", {BACKGROUND: 1, EVALUATION: 1})
    for part in (BACKGROUND, EVALUATION):
        names = [f"{part}/{CHARACTERS[part][0]}/0001_{i + 1:02d}.png" for i in range(20)]
        write_zip(tmp_path, part, {name: png(glyph(i % 7)) for i, name in enumerate(names)})
    return tmp_path


def test_resizing_takes_the_pixel_under_each_centre(zips, monkeypatch):
    # The centre of pixel i lies at 3.75 (i + 1/2): 1.875, 5.625, 9.375, 13.125, then 15 further on.
    under = np.isin(np.arange(105) % 15, (1, 5, 9, 13))
    ink = np.stack([under[:, None] & under, ~under[:, None] | ~under] * 10)

    monkeypatch.setattr(omniglot, "drawings", lambda _: ((name, ink) for name in NAMES))
    images = omniglot.load(zips).images
    assert images[:, ::2].min() == 255 and images[:, 1::2].max() == 0


@pytest.mark.parametrize("resize", ["nearest", "lanczos"])
def test_images_are_as_pillow_resizes_each_of_them(resize):
    rng = np.random.default_rng(0)
    noise = rng.random((6, 105, 105)) < np.linspace(0, 1, 6)[:, None, None]
    ink = np.concatenate([[glyph(number) for number in range(7)], noise, glyph(6)[None].mT])
    method = omniglot.RESIZE[resize]
    for drawing, small in zip(ink, omniglot._shrink(ink, method), strict=True):
        paper = Image.fromarray(np.where(drawing, 0, 255).astype(np.uint8))
        np.testing.assert_array_equal(small, 255 - np.asarray(paper.resize((28, 28), method)))


def test_an_unknown_resize_is_named(zips):
    with pytest.raises(UserError, match=r"^resize 'area' is unknown; choose nearest or lanczos$"):
        omniglot.load(zips, "area")


@pytest.fixture
def decodings(monkeypatch):
    """The folders that were decoded; blank drawings stand in for the slow decoding."""
    folders = []

    def blank(folder):
        folders.append(folder)
        return ((name, np.ones((20, 105, 105), bool)) for name in NAMES)

    monkeypatch.setattr(omniglot, "drawings", blank)
    return folders


def test_the_cache_serves_the_second_load(zips, decodings):
    first, second = omniglot.load(zips), omniglot.load(zips)
    np.testing.assert_array_equal(first.images, second.images)
    assert first.names == second.names == NAMES
    assert decodings == [zips]


@pytest.mark.slow
def test_changed_data_makes_the_cache_stale(copy, decodings):
    unpack(copy / f"{EVALUATION}.zip", copy)
    (copy / f"{EVALUATION}.zip").unlink()
    omniglot.load(copy)
    drawing = next((copy / EVALUATION / "Angelic" / "character01").glob("*.png"))
    for change in (
        lambda: write_zip(copy, BACKGROUND, files(BACKGROUND) | {"new": b"x"}),
        drawing.unlink,
        lambda: drawing.write_bytes(png(glyph(0))),
    ):
        decodings.clear()
        change()
        omniglot.load(copy)
        assert decodings == [copy]


def test_a_damaged_cache_is_rebuilt(zips, tmp_path, decodings):
    cache = tmp_path / "cache" / "omniglot-28x28-nearest.npz"
    omniglot.load(zips)
    whole = cache.read_bytes()
    flipped = whole[:2_000_000] + bytes([whole[2_000_000] ^ 1]) + whole[2_000_001:]
    for damaged_cache in (b"", whole[:1000], flipped):
        cache.write_bytes(damaged_cache)
        decodings.clear()
        assert omniglot.load(zips).images.min() == 255
        assert decodings == [zips]
        assert cache.read_bytes() == whole
    assert list(cache.parent.iterdir()) == [cache]


def test_each_resize_has_a_cache_of_its_own(tiny, tmp_path, monkeypatch):
    first = {resize: omniglot.load(tiny, resize).images for resize in ("nearest", "lanczos")}
    assert set(np.unique(first["nearest"])) == {0, 255} and len(np.unique(first["lanczos"])) > 10

    monkeypatch.delattr(omniglot, "drawings")
    for resize, images in first.items():
        again = omniglot.load(tiny, resize).images
        assert again.dtype == np.uint8 and again.flags.writeable
        np.testing.assert_array_equal(again, images)
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert names == ["omniglot-28x28-lanczos.npz", "omniglot-28x28-nearest.npz"]


def test_hostile_caches_are_as_good_as_none(tiny, tmp_path):
    expected = omniglot.load(tiny).images
    cache = tmp_path / "cache" / "omniglot-28x28-nearest.npz"
    with np.load(cache) as content:
        key = content["key"]
    for other in ({"images": expected}, {"key": key, "images": np.array([print], object)}):
        np.savez(cache, **other)
        np.testing.assert_array_equal(omniglot.load(tiny).images, expected)


def test_a_cache_that_cannot_be_written_does_not_fail_the_load(
    zips, tmp_path, monkeypatch, decodings
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TINYMAML_CACHE", str(tmp_path / "file"))
    assert omniglot.load(zips).images.shape == (1623, 20, 28, 28, 1)


@pytest.fixture(scope="module")
def real():
    if "TINYMAML_DATA" not in os.environ:
        pytest.skip("TINYMAML_DATA does not name the folder of the real Omniglot")
    return omniglot.find()


def test_the_real_drawings_are_the_published_ones(real):
    digest = hashlib.sha256()
    names = []
    for name, ink in omniglot.drawings(real):
        names.append(name)
        digest.update(np.packbits(ink.reshape(20, -1), axis=-1).tobytes())
    assert names == NAMES
    # Of all 32,460 drawings at full size, packed bits, ink = 1; computed apart from this code.
    assert digest.hexdigest() == "75a36f7ce605ee617d0c45021613841aec979e079f71594e885aba52a7c003ce"


@pytest.mark.parametrize("resize, file", [("nearest", "nearest_bits"), ("lanczos", "lanczos_u8")])
def test_the_real_images_are_as_pillow_resizes_them(real, resize, file):
    data = omniglot.load(real, resize)
    reference = real / f"omniglot28_{file}.npz"
    if not reference.is_file():
        pytest.skip(f"{reference.name} is not beside the real Omniglot")
    with np.load(reference, allow_pickle=False) as expected:
        images = expected["images"]
        assert data.names == expected["names"].tolist()
    if resize == "nearest":
        images = np.unpackbits(images, axis=-1) * np.uint8(255)
    np.testing.assert_array_equal(data.images, images.reshape(data.images.shape))
