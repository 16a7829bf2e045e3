"""Older stores in the state directory, in which what was forgotten since would still be found."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from serve.restore import ASIDE
from ttrl.store import copies
from ttrl.store.database import BACKUPS


def stores(state_dir: Path) -> list[Path]:
    """From before upgrades, also of one that was cut off, and what made room for restores."""
    return [*copies.every(state_dir / BACKUPS), *sorted(state_dir.glob(f"{ASIDE}*"))]


def drop(stores: Iterable[Path]) -> None:
    """Delete them."""
    for path in stores:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
