"""What the tests know of the engine they talk to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BASE = "tiny"
MAX_MODEL_LEN = 256


@dataclass(frozen=True)
class Served:
    """An engine that answers at `url` and serves `model` as BASE; `folder` has adapters for it."""

    kind: str
    url: str
    folder: Path
    name: str = "model"

    @property
    def model(self) -> Path:
        return self.folder / self.name
