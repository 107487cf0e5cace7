"""Installation of tinymaml; build and tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
source = (root / "tinymaml/version.py").read_text(encoding="utf-8")
version = re.search(r'__version__ = "(.+)"', source).group(1)

extras = {
    "gpu": ["cupy-cuda12x>=13; platform_system != 'Darwin'"],
    "images": ["h5py>=3.8", "pyarrow>=15"],
    "mpi": ["mpi4py>=4.1", "mpich>=4.3; platform_system != 'Windows'"],
    "report": ["markdown>=3.4"],
    "rl": ["gymnasium[mujoco]>=1.0"],
    "test": [
        "pytest>=8",
        "pytest-xdist>=3.5",
        "hypothesis>=6.100",
        "ruff>=0.6",
        "h5py>=3.8",
        "pyarrow>=15",
        "markdown>=3.4",
    ],
    "reference": ["torch>=2.2", "jax>=0.4.30", "autograd>=1.7"],
    "docs": [
        "sphinx>=8.1",
        "myst-nb>=1.2",
        "pydata-sphinx-theme>=0.16",
        "numpydoc>=1.8",
        "sphinx-copybutton>=0.5.2",
        "sphinx-mathjax-offline>=0.0.2",
        "sphinx-design>=0.6",
        "playwright>=1.49",
    ],
    "lite": ["jupyterlite-core[contents]==0.6.4", "jupyterlite-pyodide-kernel==0.6.1"],
    "notebooks": ["jupyterlab>=4", "nbconvert>=7", "ipywidgets>=8.1", "ipycanvas>=0.13"],
}
# One machine has one version of CUDA, so CUDA 13 has an extra of its own.
extras["gpu-cuda13"] = ["cupy-cuda13x>=13.6"]

setup(
    name="tinymaml",
    version=version,
    description="Model-Agnostic Meta-Learning from scratch on NumPy and CuPy, made for teaching",
    long_description=(root / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["tinymaml", "tinymaml.*"]),
    package_data={"tinymaml": ["checks/*.npz", "trained/*/*"]},
    install_requires=[
        "numpy>=2.0",
        "filelock>=3.20.3",
        "matplotlib>=3.8",
        "pillow>=10.1",
        "tqdm>=4.66",
        "threadpoolctl>=3.2",
    ],
    extras_require=extras,
    entry_points={"console_scripts": ["tinymaml = tinymaml.cli:console"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Intended Audience :: Education",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
