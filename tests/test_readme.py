"""The README's examples run, its links lead somewhere, and importing stays light."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinymaml as tm
from tinymaml.experiments import BESIDE, EXPERIMENTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.numpy_only


def test_the_examples_print_what_they_say():
    failed, attempted = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert attempted >= 10 and failed == 0


def test_own_images_become_tasks_as_the_readme_says(tmp_path, monkeypatch):
    from PIL import Image

    for label in "abcdef":
        folder = tmp_path / "my_pictures" / label
        folder.mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (40, 30), (40 * i, 100, 50)).save(folder / f"{i}.jpg")
    monkeypatch.chdir(tmp_path)
    code = re.search(r"<!-- own images -->\n```python\n(.*?)```", README, re.S)[1]
    names = {"tm": tm, "np": np}
    exec(code, names)
    assert names["names"] == list("abcdef")
    assert names["tasks"].support.x.shape == (4, 5, 28, 28, 1)
    assert names["tasks"].query.y.shape == (4, 25)


def test_every_experiment_is_named():
    endings = re.compile(f"-({'|'.join(BESIDE)})$")
    for name in EXPERIMENTS:
        of_another = endings.search(name)
        assert name in README or (of_another and endings.sub("", name) in README)
        assert not of_another or of_another[0] in README


def test_local_links_and_anchors_hold():
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", README):
        path, anchor = target
        assert (ROOT / path).exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(encoding="utf-8"), re.M)
            assert anchor in {h.lower().replace(" ", "-") for h in headings}, anchor


def test_importing_brings_no_heavy_libraries():
    heavy = "cupy matplotlib pandas torch jax PIL".split()
    code = f"import sys, tinymaml; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
