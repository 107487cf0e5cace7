"""Tables and zips: names that lead out, bombs and damage are refused before anything is read."""

import tracemalloc
import zipfile

import image_sets as sets
import numpy as np
import pytest
from image_sets import quietly, refusal


@pytest.mark.parametrize(
    "table, sentence",
    [
        (b"", "begins with ''; expected the header filename,label"),
        (b"name,class\na.png,n1\n", "begins with 'name,class'; expected the header filename,label"),
        (b"filename,label\n", "train has no classes"),
        (b"filename,label\nabsent.png,n1\n", "names absent.png, which is not in"),
        (b"filename,label\nn000000010.png\n", "line 2, has 1 columns; the header has 2"),
        (b"filename,label\nn000000030.png,a\nn000000030.png,b\n", "n000000030.png is listed twice"),
        (b"filename,label\nn000000010.png,\n", "a class whose name is no text"),
        (b"filename,label\nn000000010.png,\x1b[2J\n", "a class whose name is no text"),
        (b"filename,label\n\xff.png,n1\n", "is damaged or no CSV table"),
        (b'filename,label\n"n1.png,n1\n', "is damaged or no CSV table"),
        (b"filename,label\n" + b"x" * 200_000 + b",n1\n", "is damaged or no CSV table"),
        (b"filename,label\n../secret.png,n1\n", "the path '../secret.png' leads out of its folder"),
        (b"filename,label\n/etc/passwd,n1\n", "the path '/etc/passwd' leads out of its folder"),
        (b"filename,label\na/../../secret.png,n1\n", "leads out of its folder"),
        (b"filename,label\n..\\secret.png,n1\n", "leads out of its folder"),
        (b"filename,label\nC:/secret.png,n1\n", "leads out of its folder"),
        (b"filename,label\n.,n1\n", "leads out of its folder"),
        (b"filename,label\n,n1\n", "leads out of its folder"),
    ],
    ids=lambda value: repr(value[15:50]) if isinstance(value, bytes) else None,
)
@pytest.mark.parametrize("zipped", [False, True])
def test_bad_tables_are_named(table, sentence, zipped, tmp_path):
    files = sets.listed() | {"train.csv": table}
    sets.write(tmp_path, {"x/secret.png": files["images/n000000010.png"]})
    if zipped:
        sets.write_zip(tmp_path / "x" / "x.zip", files)
    else:
        sets.write(tmp_path / "x", files)
    said = refusal(tmp_path / "x")
    assert sentence in said and ("train.csv" in said or "no classes" in said)


@pytest.mark.parametrize(
    "name", ["../../escaped.png", "/escaped.png", "images/../../e", "C:\\e", "a//b"]
)
def test_a_zip_with_a_name_that_leads_out_is_refused_whole(name, tmp_path):
    sets.write_zip(tmp_path / "x.zip", sets.listed() | {name: b"x"})
    assert "leads out of its folder or is no path; nothing of this zip is read" in refusal(
        tmp_path / "x.zip"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_zip_bombs_are_refused(tmp_path):
    path = tmp_path / "x.zip"
    bomb = sets.listed() | {"images/n000000010.png": bytes(4 * 10**7)}
    sets.write_zip(path, bomb)
    assert "x.zip, unpacked, has 4" in refusal(path)
    # Beside enough that does not shrink: too large for an image.
    sets.write_zip(path, bomb | {"noise": np.random.default_rng(0).bytes(10**7)})
    assert "n000000010.png has 40000000 bytes, more than" in refusal(path)
    sets.write_zip(path, sets.listed(), zipfile.ZIP_LZMA)
    assert "train.csv is packed by an unexpected method; zip it anew" in refusal(path)
    # Thousands of entries of the same bytes, each stating a size of its own.
    sets.write_zip(path, sets.listed() | {"images/n000000010.png": bytes(30_000)})
    with zipfile.ZipFile(path, "a") as archive:
        member = archive.getinfo("images/n000000010.png")
        archive.filelist += [member] * 3000
        archive._didModify = True
    assert "x.zip, unpacked, has 9" in refusal(path)


def test_a_directory_of_a_zip_that_states_a_giant_size_is_refused(tmp_path):
    path = tmp_path / "x.zip"
    sets.write_zip(path, sets.listed())
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    for size in (2**25 + 1, 2**32 - 2):
        data[end + 12 : end + 16] = size.to_bytes(4, "little")
        path.write_bytes(bytes(data))
        tracemalloc.start()
        refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
        tracemalloc.stop()


def test_a_member_that_lies_about_its_size_is_refused(tmp_path):
    path = tmp_path / "x.zip"
    sets.write_zip(path, sets.listed())
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"images/n000000010.png") - 46
    data[entry + 20 : entry + 24] = (2**31).to_bytes(4, "little")  # packed
    path.write_bytes(bytes(data))
    assert "n000000010.png has 2147483648 bytes, more than" in refusal(path)


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
