"""The state directory: one owner at a time, where to find it, and a backup put in the place of what
it holds, all of it or nothing.

What a backup brings is made ready in a directory beside; one rename decides; what follows is only
moved, and whoever uses the state directory next goes on with it if we die in between. Whatever has
to make room is moved aside, never deleted.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from ttrl import ReportedError
from ttrl.files import fresh, fsync
from ttrl.store import migrations
from ttrl.store.database import ADAPTERS, BACKUPS, FILE

LOCK = "owner.lock"
OWNER = "owner.json"
LOOK_SECONDS = 1.0
"""Who asks whether there is an owner holds the lock for a moment, shared with others who ask: an
owner waits for that."""
DAEMONS = platformdirs.user_cache_path("ttrl") / "daemons"
"""Where this user's daemons say which state directories are theirs, each in a file called by its
process."""
STAGING = ".restoring-"
READY = ".restored-"
ASIDE = "replaced-"
PARTS = {
    ADAPTERS: (ADAPTERS,),
    FILE: (FILE, f"{FILE}-wal", f"{FILE}-shm", f"{FILE}-journal", "runs"),
}
"""What a backup can hold, and what makes room for it: a write-ahead log would be played into a
store that it does not belong to, and a restored store gives the numbers of runs once more."""
OURS = (
    "owner.*", "store.sqlite*", "adapters", "logs", "runs", BACKUPS,
    f"{ASIDE}*", f"{STAGING}*", f"{READY}*",
)  # fmt: skip


class StateDirError(ReportedError):
    """The state directory cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Owner:
    """The process that owns a state directory. `url` is for users, `admin` and `token` for its
    admin routes, `page` is where the operator's page is and `key` what opens it. None when it has
    none."""

    pid: int
    url: str | None = None
    admin: str | None = None
    token: str | None = field(default=None, repr=False)
    page: str | None = None
    key: str | None = field(default=None, repr=False)


_OWNER = TypeAdapter(Owner)


def prepare(state_dir: Path) -> None:
    """Make the directory, for its owner's eyes only, and finish a restore that was cut off. Raises
    StateDirError."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(prefix=".writable-", dir=state_dir):
            pass  # root, who may be we, must not follow a link that the directory's user made
        if unfinished_restore(state_dir):
            with _locked(state_dir):
                finish_restore(state_dir)
    except OSError as error:
        raise StateDirError(
            f"the state directory {state_dir} cannot be written ({error.strerror}); "
            "choose another with --state-dir or TTRL_STATE_DIR, or fix its permissions"
        ) from None


@contextmanager
def owning(state_dir: Path) -> Iterator[None]:
    """Be the only owner. Raises StateDirError when there is one already."""
    prepare(state_dir)
    with _locked(state_dir):
        _lock_up(state_dir)
        announce(state_dir, owner_at(None))
        try:
            yield
        finally:
            (state_dir / OWNER).unlink(missing_ok=True)
            with suppress(OSError):
                (DAEMONS / str(os.getpid())).unlink()


@contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    lock = FileLock(state_dir / LOCK)
    try:
        lock.acquire(timeout=LOOK_SECONDS)
    except Timeout:
        owner = _read(state_dir)
        by = f"process {owner.pid}" if owner else "another process"
        raise StateDirError(
            f"the state directory {state_dir} is in use by {by}; "
            "stop that one, or choose another with --state-dir"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _lock_up(state_dir: Path) -> None:
    """Take away what others may do with our files, which another version or the operator may have
    made. Of the directory too, unless it is one for everybody, such as /tmp."""
    ours = (path for name in OURS for path in state_dir.glob(name))
    for path in [state_dir, *(each for one in ours for each in (one, *one.rglob("*")))]:
        with suppress(FileNotFoundError, PermissionError):
            mode = path.lstat().st_mode
            if mode & 0o077 and not mode & stat.S_ISVTX and not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) & 0o700)


def owner_at(
    url: str | None, *, admin: str | None = None, page: str | None = None, key: str | None = None
) -> Owner:
    """Return this process as an owner, with a new token, and a new key if none is given."""
    token, made = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    return Owner(os.getpid(), url, admin, token, page, key or made)


def announce(state_dir: Path, owner: Owner) -> None:
    """Write down who owns the directory, where it listens and where its page is, with the token and
    the key, which whoever may read the directory may use. Raises StateDirError."""
    path = state_dir / OWNER
    staging = path.with_suffix(".new")
    try:
        staging.unlink(missing_ok=True)
        with os.fdopen(fresh(staging), "w") as file:
            json.dump(asdict(owner), file)
        staging.replace(path)
        if owner.url is not None:
            with suppress(OSError):  # a service may have no home
                DAEMONS.mkdir(parents=True, exist_ok=True, mode=0o700)
                (DAEMONS / str(owner.pid)).write_text(str(state_dir))
    except OSError as error:
        raise StateDirError(
            f"cannot write {path} ({error.strerror}): free some disk space"
        ) from None


def owner_of(state_dir: Path) -> Owner | None:
    """Who owns the directory now; None when nobody does, whatever a dead owner left behind. Raises
    StateDirError."""
    try:
        handle = os.open(state_dir / LOCK, os.O_RDONLY)  # on a read-only disk, too
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise StateDirError(
            f"the state directory {state_dir} cannot be used by user {os.geteuid()}; run this as "
            f"its owner, or choose another with --state-dir"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(state_dir)
    finally:
        os.close(handle)
    return None


def running() -> list[Path]:
    """Return the state directories of this user's running daemons."""
    found = []
    for file in sorted(DAEMONS.glob("*")):
        with suppress(OSError, StateDirError):
            state_dir = Path(file.read_text())
            owner = owner_of(state_dir)
            if owner is not None and str(owner.pid) == file.name:
                found.append(state_dir)
            else:
                file.unlink()  # of one that was killed
    return found


def _read(state_dir: Path) -> Owner | None:
    try:
        return _OWNER.validate_json((state_dir / OWNER).read_bytes())
    except (OSError, ValueError):
        return None


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


def decide_restore(staged: Path) -> None:
    """From here on it is done, whatever happens to us."""
    staged.rename(staged.with_name(staged.name.replace(STAGING, READY)))
    fsync(staged.parent)


def unfinished_restore(state_dir: Path) -> Path | None:
    """What was decided and is not yet in its place."""
    return next(state_dir.glob(f"{READY}*"), None)


def finish_restore(state_dir: Path) -> Path | None:
    """Put what was decided in its place, or go on with that; where what made room is now. Only for
    the owner of the state directory."""
    ready = unfinished_restore(state_dir)
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
