"""What takes seconds to make is made once, however many processes share out the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from ttrl.demo import model_dir

ROOT = Path(__file__).parents[1]
ADAPTERS = """
import sys
from pathlib import Path
from tests.contract.models import make_adapter
for seed in (1, 2):
    make_adapter(Path(sys.argv[1]), Path(sys.argv[2]) / str(seed), seed=seed, rank=16)
"""


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder of this name, which `make` has filled."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / name
    with FileLock(shared / f"{name}.lock"):
        if not folder.exists():
            unfinished = factory.mktemp(name)
            make(unfinished)
            unfinished.rename(folder)
    return folder


def models(factory: pytest.TempPathFactory) -> Path:
    """A tiny model and adapters for it: see tests/contract/models.py."""
    return made_once(factory, "models", lambda folder: _run("-m", "tests.contract.models", folder))


def random_adapters(factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters of the demo's model that answer unlike it and unlike each other."""
    made = made_once(factory, "adapters", lambda folder: _run("-c", ADAPTERS, model_dir(), folder))
    return [made / "1", made / "2"]


def _run(*words: object) -> None:
    """In a process of its own, so that torch stays out of the tests'."""
    command = [sys.executable, *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
