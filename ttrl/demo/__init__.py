"""The demo's small model, shipped as package data (made by benchmarks/demo_model.py), and the maker
of its questions."""

from importlib.resources import files
from pathlib import Path


def model_dir() -> Path:
    """Return the directory of the shipped model. A model is loaded from a path, so the package must
    lie on a file system, as installers put it."""
    return Path(str(files(__name__) / "model"))
