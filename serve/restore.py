"""Putting a backup in the place of what a state directory holds: all of it or nothing.

What is to come is made ready in a directory beside; one rename decides; what follows is only moved,
and whoever uses the state directory next goes on with it if we die in between. Whatever has to make
room is moved aside, never deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ttrl.files import fsync
from ttrl.store import migrations
from ttrl.store.database import ADAPTERS, BACKUPS, FILE

STAGING = ".restoring-"
READY = ".restored-"
ASIDE = "replaced-"
PARTS = {
    ADAPTERS: (ADAPTERS,),
    FILE: (FILE, f"{FILE}-wal", f"{FILE}-shm", f"{FILE}-journal", "runs"),
}
"""What a backup can hold, and what makes room for it: a write-ahead log would be played into a
store that it does not belong to, and a restored store gives the numbers of runs once more."""


def in_the_way(state_dir: Path, parts: Iterable[str]) -> list[str]:
    """The parts for which something would have to make room."""

    def holds_something(path: Path) -> bool:
        return any(path.iterdir()) if path.is_dir() else path.exists()

    return [
        part
        for part in sorted(parts)
        if any(holds_something(state_dir / name) for name in PARTS[part])
    ]


@contextmanager
def staging(state_dir: Path, stamp: str) -> Iterator[Path]:
    """An empty directory for what is to come; it is gone at the end if nothing was decided."""
    for left in state_dir.glob(f"{STAGING}*"):
        shutil.rmtree(left)
    made = state_dir / f"{STAGING}{stamp}"
    made.mkdir(mode=0o700)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def decide(staged: Path) -> None:
    """From here on it is done, whatever happens to us."""
    staged.rename(staged.with_name(staged.name.replace(STAGING, READY)))
    fsync(staged.parent)


def unfinished(state_dir: Path) -> Path | None:
    """What was decided and is not yet in its place."""
    return next(state_dir.glob(f"{READY}*"), None)


def finish(state_dir: Path) -> Path | None:
    """Put what was decided in its place, or go on with that; where what made room is now. Only for
    the owner of the state directory."""
    ready = unfinished(state_dir)
    if ready is None:
        return None
    aside = state_dir / ready.name.replace(READY, ASIDE)
    for part in filter(lambda part: (ready / part).exists(), PARTS):
        for name in PARTS[part]:
            if (state_dir / name).exists():
                aside.mkdir(exist_ok=True, mode=0o700)
                (state_dir / name).rename(aside / name)
        (ready / part).rename(state_dir / part)
    for directory in (state_dir, *([aside] if aside.exists() else [])):
        fsync(directory)
    ready.rmdir()
    return aside if aside.exists() else None


def older_stores(state_dir: Path) -> list[Path]:
    """Where what was forgotten since would still be found: stores from before upgrades, also of one
    that was cut off, and what made room for restores."""
    backups = state_dir / BACKUPS
    unfinished = backups.glob(migrations.PART)
    return [*migrations.copies(backups), *unfinished, *sorted(state_dir.glob(f"{ASIDE}*"))]
