"""Reading Omniglot: upstream's layout from zips and folders, damage, cache, split."""

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from glyphs import files, glyph, glyph_number, png, write_zip

from tinymaml.errors import UserError
from tinymaml.tasks import omniglot, omniglot_source

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


def test_zips_give_every_drawing_in_order_with_white_ink(zips):
    data = omniglot.load(zips)
    assert data.images.dtype == np.uint8
    np.testing.assert_array_equal(data.images, expected_images())
    assert len(data.names) == len(set(data.names)) == 1623
    assert data.names == sorted(data.names)
    assert data.names[963:965] == [
        "images_background/Tifinagh/character55",
        "images_evaluation/Angelic/character01",
    ]


def test_an_unpacked_folder_gives_the_same(copy):
    archive = copy / f"{EVALUATION}.zip"
    # As unpackers leave it that make a folder of the archive's name.
    unpack(archive, copy / EVALUATION)
    archive.unlink()
    np.testing.assert_array_equal(omniglot.load(copy.parent).images, expected_images())


def test_repacked_zips_with_strangers_in_them_give_the_same(tmp_path):
    for part in (BACKGROUND, EVALUATION):
        members = dict(reversed(files(part).items()))
        character = omniglot_source.CHARACTERS[part][0]
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
    for part in ("images_background.zip", "6b91aef0f799c5bb55b94e3f2daec811", "--download"):
        assert part in str(error.value)


def test_wrong_folders_are_named(tmp_path, zips):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "half").mkdir()
    shutil.copy(zips / f"{BACKGROUND}.zip", tmp_path / "half")
    for name, sentence in {
        "absent": "absent does not exist",
        "file": "file is a file",
        "empty": "holds no images_background and no images_evaluation",
        "half": "holds no images_evaluation, ",
    }.items():
        with pytest.raises(UserError, match=sentence):
            omniglot.load(tmp_path / name)


def test_a_truncated_zip_is_named(copy):
    target = copy / f"{EVALUATION}.zip"
    os.truncate(target, target.stat().st_size // 2)
    with pytest.raises(UserError, match=r"images_evaluation\.zip is damaged .* download it again"):
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


def test_an_oversized_zip_is_refused_unread(copy):
    os.truncate(copy / f"{EVALUATION}.zip", 2**36)
    with pytest.raises(UserError, match="under 10 million"):
        omniglot.load(copy)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The zip of an evaluation part of two alphabets, Angelic and Tibetan, 62 characters."""
    characters = [
        name
        for name in omniglot_source.CHARACTERS[EVALUATION]
        if name.startswith(("Angelic/", "Tibetan/"))
    ]
    monkeypatch.setitem(omniglot_source.CHARACTERS, EVALUATION, characters)
    write_zip(tmp_path, EVALUATION)
    return tmp_path / f"{EVALUATION}.zip"


@pytest.mark.parametrize(
    "drop, sentence",
    [
        ("/Tibetan/", "1 of 2 alphabets are missing: Tibetan"),
        ("/", "2 of 2 alphabets are missing: Angelic, Tibetan"),
        ("/Tibetan/character07/", "Tibetan/character07 has 0 drawings, expected 20"),
        ("_20.png", "Angelic/character01 has 19 drawings, expected 20"),
    ],
)
@pytest.mark.parametrize("unpacked", [False, True])
def test_what_is_missing_is_named(small, drop, sentence, unpacked):
    members = {name: data for name, data in files(EVALUATION).items() if drop not in name}
    write_zip(small.parent, EVALUATION, members | {f"{EVALUATION}/readme": b""})
    path = small
    if unpacked:
        unpack(small, small.parent)
        path = small.with_suffix("")
    with pytest.raises(UserError, match=f"{path}: {sentence}; download it again"):
        next(omniglot_source.drawings(path, EVALUATION))


@pytest.mark.parametrize(
    "data, sentence",
    [
        (png(np.zeros((28, 28), bool)), "0965_01.png is a 28x28 PNG"),
        (b"x" * 9000, "too many for a drawing"),
        (b"<html>", "0965_01.png is not a PNG"),
    ],
    ids=["small", "large", "page"],
)
def test_a_bad_drawing_is_named_in_zip_and_folder(small, data, sentence):
    name = f"{EVALUATION}/Angelic/character01/0965_01.png"
    write_zip(small.parent, EVALUATION, files(EVALUATION) | {name: data})
    unpack(small, small.parent)
    for path in (small, small.with_suffix("")):
        with pytest.raises(UserError, match=f"{path}: .*{sentence}.*; download it again"):
            next(omniglot_source.drawings(path, EVALUATION))


def test_a_member_that_would_unpack_without_bound_is_refused(small):
    name = f"{EVALUATION}/Angelic/character01/0965_01.png"
    members = {key: data for key, data in files(EVALUATION).items() if key != name}
    write_zip(small.parent, EVALUATION, members)
    with zipfile.ZipFile(small, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr(name, bytes(100))
    with pytest.raises(UserError, match="unexpected method"):
        next(omniglot_source.drawings(small, EVALUATION))


def test_resizing_takes_the_pixel_under_each_centre(zips, monkeypatch):
    # The centre of pixel i lies at 3.75 (i + 1/2): 1.875, 5.625, 9.375, 13.125, then 15 further on.
    under = np.isin(np.arange(105) % 15, (1, 5, 9, 13))
    ink = np.stack([under[:, None] & under, ~under[:, None] | ~under] * 10)

    def one_drawing(_, part):
        return (ink for _ in omniglot_source.CHARACTERS[part])

    monkeypatch.setattr(omniglot, "drawings", one_drawing)
    images = omniglot.load(zips).images
    assert images[:, ::2].min() == 255 and images[:, 1::2].max() == 0


@pytest.fixture
def decodings(monkeypatch):
    """The parts that were decoded; blank drawings stand in for the slow decoding."""
    parts = []

    def blank(_, part):
        parts.append(part)
        return (np.ones((20, 105, 105), bool) for _ in omniglot_source.CHARACTERS[part])

    monkeypatch.setattr(omniglot, "drawings", blank)
    return parts


def test_the_cache_serves_the_second_load(zips, decodings):
    first, second = omniglot.load(zips), omniglot.load(zips)
    np.testing.assert_array_equal(first.images, second.images)
    assert decodings == [BACKGROUND, EVALUATION]


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
        assert decodings == [BACKGROUND, EVALUATION]


def test_a_damaged_cache_is_rebuilt(zips, tmp_path, decodings):
    cache = tmp_path / "cache" / "omniglot-28x28.npz"
    omniglot.load(zips)
    whole = cache.read_bytes()
    flipped = whole[:2_000_000] + bytes([whole[2_000_000] ^ 1]) + whole[2_000_001:]
    for damaged_cache in (b"", whole[:1000], flipped):
        cache.write_bytes(damaged_cache)
        decodings.clear()
        assert omniglot.load(zips).images.min() == 255
        assert decodings == [BACKGROUND, EVALUATION]
        assert cache.read_bytes() == whole
    assert list(cache.parent.iterdir()) == [cache]


def test_the_cache_lies_beside_the_data_unless_that_is_read_only(
    copy, monkeypatch, tmp_path, decodings
):
    monkeypatch.delenv("TINYMAML_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    omniglot.load(copy)
    cache = copy / "omniglot-28x28.npz"
    assert cache.stat().st_size < 4e6
    cache.unlink()
    copy.chmod(0o555)
    omniglot.load(copy)
    copy.chmod(0o755)
    assert not cache.exists()
    assert (tmp_path / "home/.cache/tinymaml/omniglot-28x28.npz").exists()


def test_a_cache_that_cannot_be_written_does_not_fail_the_load(
    zips, tmp_path, monkeypatch, decodings
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TINYMAML_CACHE", str(tmp_path / "file"))
    assert omniglot.load(zips).images.shape == (1623, 20, 28, 28, 1)


def test_the_split_is_disjoint_whole_and_across_alphabets():
    names = list(omniglot.NAMES)
    parts = omniglot.split(names)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 1100,
        "val": 100,
        "test": 423,
    }
    np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(1623))
    # 423 characters drawn irrespective of alphabet touch all but the odd small one of 50.
    assert len({names[i].rsplit("/", 1)[0] for i in parts["test"]}) >= 45


def test_the_split_depends_on_names_and_seed_alone():
    names = list(omniglot.NAMES)
    turned = names[::-1]
    for part in ("train", "val", "test"):
        here, there = omniglot.split(names)[part], omniglot.split(turned)[part]
        assert [names[i] for i in here] == [turned[i] for i in there]
        assert not np.array_equal(here, omniglot.split(names, seed=1)[part])
    # Accuracies of different machines are comparable only while this stays as it is.
    digest = hashlib.sha256(" ".join(names[i] for i in omniglot.split(names)["test"]).encode())
    assert digest.hexdigest()[:16] == "d20545f35578e52a"
    with pytest.raises(UserError, match="1623 characters; got 12"):
        omniglot.split(names[:12])


@pytest.fixture(scope="module")
def real():
    if "TINYMAML_DATA" not in os.environ:
        pytest.skip("TINYMAML_DATA does not name the folder of the real Omniglot")
    return omniglot.find()


def test_the_real_drawings_are_the_published_ones(real):
    digest = hashlib.sha256()
    for part in (BACKGROUND, EVALUATION):
        for ink in omniglot_source.drawings(omniglot_source.source(real, part), part):
            digest.update(np.packbits(ink.reshape(20, -1), axis=-1).tobytes())
    # Of all 32,460 drawings at full size, packed bits, ink = 1; computed apart from this code.
    assert digest.hexdigest() == "75a36f7ce605ee617d0c45021613841aec979e079f71594e885aba52a7c003ce"


def test_the_real_images_are_pillows_nearest_neighbour(real):
    data = omniglot.load(real)
    reference = real / "omniglot28_nearest_bits.npz"
    if not reference.is_file():
        pytest.skip(f"{reference.name} is not beside the real Omniglot")
    with np.load(reference, allow_pickle=False) as expected:
        bits = np.packbits(data.images.reshape(1623, 20, -1) == 255, axis=-1)
        np.testing.assert_array_equal(bits, expected["images"])
        assert data.names == expected["names"].tolist()
    assert set(np.unique(data.images)) == {0, 255}
