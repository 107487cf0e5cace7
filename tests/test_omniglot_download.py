"""Downloading Omniglot, from a local stand-in for upstream's server."""

import functools
import hashlib
import http.server
import threading

import pytest

from tinymaml import files
from tinymaml.errors import UserError
from tinymaml.tasks import omniglot

BACKGROUND, EVALUATION = "images_background", "images_evaluation"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local stand-in for upstream: serves a folder whose two files it calls the right ones."""
    folder = tmp_path / "served"
    folder.mkdir()
    for part in (BACKGROUND, EVALUATION):
        (folder / f"{part}.zip").write_bytes(part.encode() * 100_000)
    checksums = {
        part: hashlib.md5((folder / f"{part}.zip").read_bytes()).hexdigest()
        for part in (BACKGROUND, EVALUATION)
    }
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        # A client that has seen enough and hangs up is no news.
        server.handle_error = lambda *_: None
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(omniglot, "URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr(omniglot, "MD5", checksums)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield folder
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_download_brings_both_files_and_keeps_what_is_right(server, tmp_path):
    target = tmp_path / "new" / "folder"
    omniglot.download(target)
    for part in (BACKGROUND, EVALUATION):
        assert (target / f"{part}.zip").read_bytes() == (server / f"{part}.zip").read_bytes()
        (server / f"{part}.zip").unlink()
    omniglot.download(target)
    assert len(list(target.iterdir())) == 2


@pytest.mark.parametrize(
    "sent, sentence",
    [
        (b"\n<!DOCTYPE html>", r"sent b'\\n<!DOCTYPE html' \.\.\., not the zip of md5"),
        (b"PK" * 1000, "sent b'PK.*not the zip of md5"),
        (b"", "sent b'' ..., not the zip"),
        (None, "could not bring .*404.*; try again, or download it in a browser"),
    ],
)
def test_a_download_that_is_not_the_file_leaves_nothing(server, tmp_path, sent, sentence):
    (server / f"{BACKGROUND}.zip").unlink()
    if sent is not None:
        (server / f"{BACKGROUND}.zip").write_bytes(sent)
    with pytest.raises(UserError, match=sentence):
        omniglot.download(tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_download_without_network_or_folder(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make the folder .*file"):
        omniglot.download(tmp_path / "file")
    monkeypatch.setattr(omniglot, "URL", "http://127.0.0.1:9/")
    with pytest.raises(UserError, match=r"could not bring http.*; try again"):
        omniglot.download(tmp_path / "target")


def test_a_full_disk_is_named(server, tmp_path, monkeypatch):
    class FullDisk:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "open", lambda *_: FullDisk(), raising=False)
    with pytest.raises(UserError, match=r"cannot write .*zip: No space left on device"):
        omniglot.download(tmp_path / "target")
    assert not list((tmp_path / "target").iterdir())
