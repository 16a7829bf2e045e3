"""Writing files that nobody else reads and that survive a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO


def fsync(path: Path) -> None:
    """Wait until a file's contents, or a directory's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def touch(path: Path) -> None:
    """Make an empty file for its owner's eyes only; one that is there stays as it is."""
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))


def fresh(path: Path) -> int:
    """A handle to write a file that was not there, for its owner's eyes only. Whatever is there, a
    link too, is neither followed nor changed: FileExistsError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


@contextmanager
def whole(final: Path) -> Iterator[BinaryIO]:
    """A file to write that has its name once all of it is on the disk, and is gone if it fails."""
    part = final.with_name(f".{final.name}.part")
    part.unlink(missing_ok=True)
    try:
        touch(part)
        with part.open("wb") as file:
            yield file
        fsync(part)
        part.rename(final)
        fsync(final.parent)
    finally:
        part.unlink(missing_ok=True)


def stamp(at: float) -> str:
    """Unix seconds as a part of a file's name, in UTC, which sorts by time."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")


def hand_over(directory: Path, state_dir: Path) -> None:
    """Give what root made to the state directory's owner, whose daemon could not read it else.
    They could put links in its place meanwhile: none is followed, on the way neither."""
    if os.geteuid() != 0:
        return
    owner = state_dir.stat()
    os.lchown(directory, owner.st_uid, owner.st_gid)
    for _, directories, files, at in os.fwalk(directory):
        for name in (*directories, *files):
            os.chown(name, owner.st_uid, owner.st_gid, dir_fd=at, follow_symlinks=False)
