"""The state directory: one owner at a time, and where to find it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = "owner.lock"
OWNER = "owner.json"


class StateDirError(Exception):
    """The state directory cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Owner:
    """The process that owns a state directory; `url` and `token` are for its admin routes, and
    None when it has none."""

    pid: int
    url: str | None = None
    token: str | None = field(default=None, repr=False)


def prepare(state_dir: Path) -> None:
    """Make the directory, for its owner's eyes only. Raises StateDirError."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = state_dir / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StateDirError(
            f"the state directory {state_dir} cannot be written ({error.strerror}); "
            "choose another with --state-dir or TTRL_STATE_DIR, or mend its permissions"
        ) from None


@contextmanager
def owning(state_dir: Path) -> Iterator[None]:
    """Be the only owner. Raises StateDirError when there is one already."""
    prepare(state_dir)
    lock = FileLock(state_dir / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        owner = _read(state_dir)
        by = f"process {owner.pid}" if owner else "another process"
        raise StateDirError(
            f"the state directory {state_dir} is in use by {by}; "
            "stop that one, or give this one its own with --state-dir"
        ) from None
    try:
        announce(state_dir, None)
        yield
    finally:
        (state_dir / OWNER).unlink(missing_ok=True)
        lock.release()


def announce(state_dir: Path, url: str | None) -> str:
    """Write down who owns the directory and where it listens; returns a new token, which whoever
    may read the directory may use."""
    owner = Owner(os.getpid(), url, secrets.token_urlsafe(24))
    path = state_dir / OWNER
    staging = path.with_suffix(".new")
    handle = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(asdict(owner), file)
    staging.replace(path)
    return str(owner.token)


def owner_of(state_dir: Path) -> Owner | None:
    """Who owns the directory now; None when nobody does, whatever a dead owner left behind."""
    if not (state_dir / LOCK).exists():
        return None
    try:
        with FileLock(state_dir / LOCK, blocking=False):
            return None
    except Timeout:
        return _read(state_dir)


def _read(state_dir: Path) -> Owner | None:
    try:
        return Owner(**json.loads((state_dir / OWNER).read_text()))
    except (OSError, ValueError, TypeError):
        return None
