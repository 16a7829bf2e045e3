"""The API keys: a file of their digests, read again when it changes."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ttrl import ReportedError
from ttrl.files import whole

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
LOCK_SECONDS = 10.0
OTHERS_WRITE = 0o022
GROUP_READS = 0o040

Many = Annotated[int, Field(ge=1)] | None
Stamp = tuple[int, ...] | None


class Key(BaseModel):
    """One client's. Keys are long random strings that we make, so that a plain SHA-256 is enough:
    what passwords need a slow hash for, guessing, is hopeless."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=r"^[\w.@+-]{1,64}$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    learn: bool = True
    """Whether its questions may be recorded."""
    requests_a_minute: Many = None
    at_once: Many = None
    """Requests under way."""


class KeysUnreadable(ReportedError):
    """The file of keys cannot be used; the message says why."""


def made() -> str:
    """Make a new key: 256 random bits."""
    return f"ttrl-{secrets.token_urlsafe(32)}"


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def client(headers: Mapping[str, str]) -> str | None:
    """The digest of the key that came as `Authorization: Bearer`, or as `x-api-key` or `api-key`,
    as Anthropic's and Azure's clients send it. None without a key."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        key = headers.get("x-api-key") or headers.get("api-key", "")
    return digest_of(key.strip()) if key.strip() else None


def read(path: Path) -> list[Key]:
    """The keys in a file. Raises KeysUnreadable."""
    try:
        if path.stat().st_mode & OTHERS_WRITE:
            raise KeysUnreadable(f"other users can write {path}: run `chmod 600` on it")
        found = _KEYS.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        hint = "" if path.exists() else "; `ttrl keys add NAME` makes one"
        raise KeysUnreadable(f"cannot read the keys in {path}: {error.strerror}{hint}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise KeysUnreadable(f"{path} is not a list of keys: {where}: {first['msg']}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as a date that is none
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}," if mark else ""
        raise KeysUnreadable(f"{path}{where} is not valid YAML") from None
    for field in ("name", "sha256"):
        if len({getattr(key, field) for key in found}) < len(found):
            raise KeysUnreadable(f"{path} has a duplicate {field}")
    return found


_KEYS = TypeAdapter(list[Key])


@contextmanager
def changing(path: Path) -> Iterator[list[Key]]:
    """The keys, to be changed in place and written at the end, whole or not at all, by one at a
    time; none if there is no file yet. Raises KeysUnreadable.

    What root makes goes to whom the keys, or their directory, belong to, so that the daemon can
    read it and its user change it. That user could put links in its place: none is followed."""
    path = path.resolve()  # a link stays one
    lock = path.with_name(f".{path.name}.lock")
    try:
        with FileLock(lock, mode=0o600, timeout=LOCK_SECONDS):
            there = path.exists()
            like = (path if there else path.parent).stat()
            with suppress(PermissionError):
                os.lchown(lock, like.st_uid, like.st_gid)
            keys = read(path) if there else []
            yield keys
            with whole(path, again=True) as file:
                with suppress(PermissionError):
                    os.fchown(file.fileno(), like.st_uid, like.st_gid)
                os.fchmod(file.fileno(), 0o600 | (like.st_mode & GROUP_READS if there else 0))
                rows = [key.model_dump(exclude_defaults=True) for key in keys]
                yaml.safe_dump(rows, file, encoding="utf-8", sort_keys=False)
    except Timeout:
        raise KeysUnreadable(
            f"cannot write the keys to {path}: {lock} could not be locked, perhaps because "
            f"another ttrl command holds it; try again"
        ) from None
    except OSError as error:
        raise KeysUnreadable(
            f"cannot write the keys to {path}: {error.strerror} ({error.filename})"
        ) from None


@dataclass(eq=False)
class KeyFile:
    """The keys in a file, as it is now. While it is missing, being written or wrong, the keys that
    there were. Raises KeysUnreadable when it is so from the start.

    What is being written may be cut where an entry ends, and be a file for all that can be seen: it
    is taken when it was found the same at two looks, or has been so for as long."""

    path: Path
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._stamp = self._seen = _stamp(self.path)
        self._keys = _by_digest(self.path)
        self._looked = self.clock()
        self._ok = True

    def find(self, digest: str | None) -> Key | None:
        """Whose key has this digest.

        How long a look-up takes may tell how a digest of ours begins. Nobody can make use of that
        who cannot choose the digest of what he sends, so that comparing in constant time would add
        nothing; where a secret itself is compared, we do (serve/admin.py).
        """
        self._look()
        return self._keys.get(digest) if digest else None

    def ok(self) -> bool:
        self._look()
        return self._ok

    def _look(self) -> None:
        if (now := self.clock()) - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        seen, self._seen = self._seen, (stamp := _stamp(self.path))
        # By the machine's clock, as the file's times are.
        rests = stamp == seen or (stamp and self.wall() - stamp[0] / 1e9 >= LOOK_SECONDS)
        if not rests or (stamp == self._stamp and self._ok):
            return
        try:
            keys = _by_digest(self.path)
        except KeysUnreadable as error:
            if stamp != self._stamp:
                log.error("%s; the previous keys stay in use", error)
            self._stamp, self._ok = stamp, False
            return
        if _stamp(self.path) == stamp:  # else somebody writes at this moment
            self._stamp, self._keys, self._ok = stamp, keys, True
            log.info("reloaded the key file: %d keys", len(keys))


def _by_digest(path: Path) -> dict[str, Key]:
    return {key.sha256: key for key in read(path)}


def _stamp(path: Path) -> Stamp:
    """What changes when a file does; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ctime_ns, found.st_mtime_ns, found.st_ino, found.st_size
