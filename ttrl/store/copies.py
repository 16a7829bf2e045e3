"""Copies of an SQLite store: of one moment, while others write to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ttrl.files import fsync, hand_over, stamp, touch

PART = "store.part"
KEPT = 3
"""Copies from before a migration that are kept."""


def read_only(file: Path) -> str:
    """How SQLite names a file that is to be read and never written."""
    return f"file:{quote(str(file))}?mode=ro"


def copy(source: Path, target: Path) -> None:
    """Write what is committed in `source` to the new file `target`, and to the disk.

    VACUUM INTO rather than the online backup: it is one read transaction, which a busy writer
    neither waits for nor makes begin anew; it reads every row, and so fails where a page is damaged
    rather than copying it; and what was deleted is not in the copy. Raises sqlite3.Error.
    """
    touch(target)
    try:
        with closing(sqlite3.connect(read_only(source), uri=True, isolation_level=None)) as reader:
            reader.execute("VACUUM INTO ?", (str(target),))
        fsync(target)
    except BaseException:
        target.unlink()
        raise


def before_migration(source: Path, directory: Path, revision: str, at: float) -> Path:
    """Copy a store that is about to be migrated, and delete all but the newest such copies: a start
    that fails is tried again and again. Where it is. Raises OSError, sqlite3.Error."""
    directory.mkdir(exist_ok=True, mode=0o700)
    final = directory / f"store-{revision}-{stamp(at)}.sqlite"
    part = directory / PART
    part.unlink(missing_ok=True)
    copy(source, part)
    part.rename(final)
    fsync(directory)
    for old in newest_first(directory)[KEPT:]:
        old.unlink()
    hand_over(directory, directory.parent)
    return final


def every(directory: Path) -> list[Path]:
    """The copies from before migrations, and one that was not finished."""
    return [*newest_first(directory), *directory.glob(PART)]


def newest_first(directory: Path) -> list[Path]:
    """The copies from before migrations."""
    return sorted(directory.glob("store-*.sqlite"), key=_when, reverse=True)


def _when(path: Path) -> str:
    return path.stem.rpartition("-")[2]
