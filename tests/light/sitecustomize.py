"""Puts a light engine and a light trainer in the place of those that need torch.

Python imports this file in every process that has its folder in PYTHONPATH (see
tests/integration/daemon.py). Daemon, runs, store and HTTP stay the real ones; only the model is a
few lines. For tests of processes that die, of disks and of stores, which start dozens of both.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

HERE = Path(__file__).parent
INSTEAD = {
    "torch": "no_torch.py",
    "ttrl.training.grpo": "trainer.py",
    "ttrl.engine.embedded.__main__": "engine.py",
}
if os.environ.get("TEST_LIGHT_TORCH"):  # for what reads meanings, which is real
    del INSTEAD["torch"]


class Finder(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        return spec_from_file_location(name, HERE / INSTEAD[name]) if name in INSTEAD else None


sys.meta_path.insert(0, Finder())

# Python imports one of this name: the one that stands behind it has its turn as well.
others = [each for each in sys.path if Path(each) != HERE]
if (behind := PathFinder.find_spec("sitecustomize", others)) and behind.loader:
    behind.loader.exec_module(module_from_spec(behind))
