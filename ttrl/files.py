"""Writing files that nobody else reads and that survive a power cut."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
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
def whole(final: Path, *, again: bool = False) -> Iterator[BinaryIO]:
    """A file to write that has its name once all of it is on the disk, and is gone if it fails.
    What has the name already is replaced if it is written `again`; else: FileExistsError."""
    handle, name = tempfile.mkstemp(".part", f".{final.name}.", final.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(final) if again else _place(part, final)
        fsync(final.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_directory(final: Path) -> Iterator[Path]:
    """A directory to fill that has its name once all of it is on the disk, and is gone if it fails.
    Raises FileExistsError."""
    if os.path.lexists(final):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final))
    part = Path(tempfile.mkdtemp(".part", f".{final.name}.", final.parent))
    try:
        yield part
        for path in (*part.rglob("*"), part):
            fsync(path)
        part.rename(final)
        fsync(final.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _place(part: Path, final: Path) -> None:
    """Unlike a rename, a link takes no name that something has, in one step. Where the file system
    has none, such as exFAT, an empty file keeps the name free."""
    try:
        os.link(part, final)
    except FileExistsError as error:
        raise FileExistsError(error.errno, error.strerror, str(final)) from None
    except OSError:
        os.close(fresh(final))
        part.replace(final)


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
