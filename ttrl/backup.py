"""Backups: a tar of the store and the versions, with a manifest. One may come from anywhere, so it
is read with care."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ttrl import ReportedError, versions
from ttrl.files import fsync, hand_over, touch, whole
from ttrl.store import Store, StoreError, migrations
from ttrl.store.backends import copy_file
from ttrl.store.database import ADAPTERS, BACKUPS, FILE, sqlite_file
from ttrl.versions import WEIGHTS, AdapterDamaged

MANIFEST = "manifest.json"
LONGEST_WORD = 80

Size = Annotated[int, Field(ge=0, lt=2**63)]
Moment = Annotated[float, Field(ge=0, lt=253_402_300_800)]
"""Unix seconds, before the year 10000, which no calendar here has."""
Tell = Callable[[int], object]
"""Hears of every file how many bytes it had."""
LONGEST_MANIFEST = 64 * 1024**2
NEWEST = "newest.json"
FILES = "|".join(map(re.escape, (*versions.FILES, versions.MANIFEST)))
MEMBER = re.compile(rf"{re.escape(FILE)}|{ADAPTERS}/{versions.NAME}/(?:{FILES})")
"""What a backup may hold, all of it regular files."""


class BackupError(ReportedError):
    """A backup cannot be made or used; the message says why and what to do."""


class Member(BaseModel, extra="forbid", strict=True):
    """One file of a backup: bytes, and their SHA-256."""

    size: Size
    sha256: str


class Manifest(BaseModel, extra="forbid", strict=True):
    """What a backup holds, and by which version it was made. `at` is the moment of the store in
    Unix seconds, `revision` that of its schema; `left_out` says of versions that are in the store
    and not in the backup why."""

    format: Literal[1]
    ttrl: str
    at: Moment
    revision: str
    members: dict[str, Member]
    left_out: dict[str, str]

    @property
    def versions(self) -> int:
        return sum(name.endswith(f"/{WEIGHTS}") for name in self.members)

    @property
    def size(self) -> int:
        return sum(member.size for member in self.members.values())


def read_manifest(text: bytes) -> Manifest:
    """Raises BackupError, whatever the text is."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:LONGEST_WORD] or "all of it"
        raise BackupError(
            f"cannot read the backup's {MANIFEST}: {where}: {first['msg']}; was it made by a newer "
            f"ttrl?"
        ) from None


@dataclass(frozen=True)
class Newest:
    """The newest backup that was made here, when it was (Unix seconds), and the newest file, which
    is not the same where it went into a pipe."""

    at: Moment
    file: str | None
    piped: bool = False


_NEWEST = TypeAdapter(Newest)


def write(
    out: IO[bytes], state_dir: Path, url: str | None, work: Path, tell: Tell, *, store: bool = True
) -> Manifest:
    """Write a backup to `out`; without the store, of the versions alone. `work` is an empty
    directory with room for the store. Raises BackupError, StoreError, OSError.

    The store comes first: a version is on disk before its row is in the store, so that all that
    the copy names are there, but for what was deleted since."""
    at = time.time()
    paths, left_out = {}, {}
    if store:
        source, paths[FILE] = _store_file(state_dir, url), work / FILE
        try:
            copy_file(source, paths[FILE])
        except sqlite3.Error as error:
            raise BackupError(
                f"cannot copy the store {source}: {error}; see `ttrl doctor`"
            ) from error
    with Store.look(work) if store else Store.look(state_dir, url) as look:
        revision, digests = look.revision(), look.adapters.digests()
    if revision is None:
        raise BackupError("the store has no schema revision; see `ttrl doctor`")
    for name, digest in digests.items():
        try:
            versions.verify(versions.place(state_dir / ADAPTERS, name), digest)
        except AdapterDamaged as error:
            left_out[name] = str(error).encode(errors="replace").decode()
        else:
            for file in (*versions.FILES, versions.MANIFEST):
                paths[f"{ADAPTERS}/{name}/{file}"] = state_dir / ADAPTERS / name / file
    with tarfile.open(fileobj=out, mode="w|") as tar:
        members = {name: _add(tar, name, path, at, tell) for name, path in paths.items()}
        manifest = Manifest(
            format=1,
            ttrl=version("ttrl"),
            at=at,
            revision=revision,
            members=members,
            left_out=left_out,
        )
        text = manifest.model_dump_json(indent=1).encode()
        tar.addfile(_info(MANIFEST, len(text), at), io.BytesIO(text))
    return manifest


def unpack(file: Path, staging: Path, tell: Tell) -> Manifest:
    """Put what a backup holds into the empty directory `staging`, verified and on the disk. Nothing
    of the archive decides where a file goes, whose it is or who may read it. Raises BackupError,
    OSError."""
    with _opened(file) as (tar, infos, manifest):
        for name, member in manifest.members.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            source = tar.extractfile(infos[name])
            assert source is not None
            touch(path)
            with path.open("r+b") as target:
                shutil.copyfileobj(source, target)
                target.seek(0)
                if hashlib.file_digest(target, "sha256").hexdigest() != member.sha256:
                    raise BackupError(f"{file} is damaged: the checksum of {name} is wrong")
            fsync(path)
            tell(member.size)
    for directory in {staging, *(path for path in staging.rglob("*") if path.is_dir())}:
        fsync(directory)
    return manifest


def contents(file: Path) -> Manifest:
    """What a backup holds, by its manifest. Raises BackupError, OSError."""
    with _opened(file) as (_, _, manifest):
        return manifest


def check_revision(manifest: Manifest) -> None:
    """Raise StoreError when the store of a backup was written by a newer ttrl."""
    known = migrations.known()
    if FILE in manifest.members and manifest.revision not in known:
        raise StoreError(
            f"the backup was made by a newer ttrl ({manifest.ttrl}) than this one; install that "
            f"version (its store has revision {manifest.revision}, the newest here is {known[0]})"
        )


def size_of(state_dir: Path, url: str | None, *, store: bool) -> tuple[int, int]:
    """About how many bytes the store and the versions have. Raises BackupError, StoreError,
    OSError."""
    weights = (state_dir / ADAPTERS).glob("[!.]*/*")
    store_size = _store_file(state_dir, url).stat().st_size if store else 0
    return store_size, sum(path.stat().st_size for path in weights)


def remember(state_dir: Path, newest: Newest) -> None:
    """Write down beside the store, which may be lost, that a backup was made. Raises OSError."""
    directory = state_dir / BACKUPS
    directory.mkdir(exist_ok=True, mode=0o700)
    with whole(directory / NEWEST, again=True) as out:
        out.write(json.dumps(asdict(newest)).encode())
    hand_over(directory, state_dir)


def newest(state_dir: Path) -> Newest | None:
    """The newest backup that was made of this state directory, as far as it says that there."""
    try:
        return _NEWEST.validate_json((state_dir / BACKUPS / NEWEST).read_bytes())
    except (OSError, ValueError):
        return None


def _store_file(state_dir: Path, url: str | None) -> Path:
    source = sqlite_file(state_dir, url)
    if source is None:
        raise BackupError(
            "the store is in PostgreSQL: run pg_dump first, then `ttrl "
            "backup --adapters-only FILE`, so that the file has every version of the dump"
        )
    if not source.is_file():
        raise BackupError(f"nothing to back up: there is no store {source}")
    return source


def _add(tar: tarfile.TarFile, name: str, path: Path, at: float, tell: Tell) -> Member:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise BackupError(f"{name} was pruned while the backup was made; make another") from None
    with file:
        size, sha256 = path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        tar.addfile(_info(name, size, at), file)
    tell(size)
    return Member(size=size, sha256=sha256)


def _info(name: str, size: int, at: float) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, int(at), 0o600
    return info


class _Careful(io.BufferedReader):
    """A file of which no header that claims to be long is read into memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > LONGEST_MANIFEST:
            raise tarfile.ReadError("it has a header that is too long")
        return super().read(size)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[tarfile.TarFile, dict[str, tarfile.TarInfo], Manifest]]:
    """A backup's archive, its entries by name, and its manifest, which names exactly those."""
    try:
        with _Careful(io.FileIO(file)) as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
            infos: dict[str, tarfile.TarInfo] = {}
            for info in tar:
                name, plain = info.name, info.isreg() and not info.issparse()
                if not plain or not (name == MANIFEST or MEMBER.fullmatch(name)):
                    raise BackupError(f"{file} is not a ttrl backup: unexpected file {name!r}")
                if name in infos:
                    raise BackupError(f"{file} is not a ttrl backup: it has {name} twice")
                infos[name] = info
            last = infos.pop(MANIFEST, None)
            if last is None or last.size > LONGEST_MANIFEST:
                raise BackupError(f"{file} is not a backup, or is truncated: it has no {MANIFEST}")
            source = tar.extractfile(last)
            assert source is not None
            manifest = read_manifest(source.read())
            sizes = {name: info.size for name, info in infos.items()}
            if sizes != {name: member.size for name, member in manifest.members.items()}:
                raise BackupError(f"{file} is damaged: its files do not match its manifest")
            yield tar, infos, manifest
    except (tarfile.TarError, ValueError) as error:  # the latter for what should be a number
        raise BackupError(f"{file} is not a backup, or is damaged: {error}") from error
