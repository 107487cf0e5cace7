"""Fetching upstream's Omniglot zips."""

import contextlib
import hashlib
import os
from pathlib import Path

from ..errors import UserError
from .omniglot_source import MAX_ZIP_BYTES, MD5, URL

TIMEOUT = 30  # seconds without a byte


def download(root):
    """Fetch upstream's two zips (16 MB) into the folder `root` and check them.

    A file whose checksum is right is kept; a name only ever appears complete.

    Raises
    ------
    UserError
        If there is no network, no room, or the server sends anything but upstream's file.
    """
    root = Path(root).expanduser()
    for part, md5 in MD5.items():
        target, url = root / f"{part}.zip", f"{URL}{part}.zip"
        unfinished = target.with_suffix(".zip.part")
        try:
            if target.is_file() and _md5(target) == md5:
                continue
            root.mkdir(parents=True, exist_ok=True)
            with open(unfinished, "wb") as file:
                for block in _fetch(url):
                    file.write(block)
            _check_download(unfinished, md5, url)
            os.replace(unfinished, target)
        except OSError as error:
            raise UserError(f"could not write {target}: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink()


def _fetch(url):
    by_hand = "check the network and try again, or download it in a browser"
    # Loaded here because it takes longer than the rest of the package, and few runs download.
    import http.client
    import urllib.request

    size = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            while block := response.read(2**18):
                size += len(block)
                if size > MAX_ZIP_BYTES:
                    raise UserError(f"{url} sent more than {MAX_ZIP_BYTES} bytes; {by_hand}")
                # An error of the caller's disk does not come back through the yield.
                yield block
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"could not download {url}: {error}; {by_hand}") from error


def _check_download(path, md5, url):
    with open(path, "rb") as file:
        if file.read(64).lstrip().startswith(b"<"):
            raise UserError(f"{url} sent a web page and no zip; download it in a browser")
    if (found := _md5(path)) != md5:
        size = path.stat().st_size
        raise UserError(
            f"{url} sent {size} bytes with md5 {found}, expected {md5}: the download is "
            "incomplete or the file has changed; try again"
        )


def _md5(path):
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
