"""The state directory: whose it is, room on its disk, what was left behind, and backups."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from serve import restore
from serve.doctor.finding import Finding, broken, note, ok, warning
from ttrl import backup
from ttrl.config import Config
from ttrl.store import copies
from ttrl.store.database import ADAPTERS, BACKUPS, sqlite_file

MIB = 1024**2
DAY = 86_400.0
OLD_DAYS = 7.0
LEAST_FREE = 64 * MIB
SPARE = 256 * MIB
"""For logs and what else grows."""


@dataclass(frozen=True)
class Access:
    """Who may do what with a file or directory: its owner's number and its mode."""

    name: str
    uid: int
    mode: int

    @property
    def open(self) -> bool:
        """Whether others than its owner may do anything with it."""
        return bool(self.mode & (stat.S_IRWXG | stat.S_IRWXO))


def directory(state_dir: Path) -> Finding:
    """Whether it is there and ours."""
    if not state_dir.exists():
        return note("state directory", f"{state_dir} is not there yet; `ttrl serve` makes it")
    if not state_dir.is_dir():
        return broken(
            "state directory", f"{state_dir} is no directory", "choose another with --state-dir"
        )
    inside = [
        path
        for path in (*state_dir.iterdir(), *(state_dir / BACKUPS).glob("*"))
        if not path.name.startswith(".")  # such as what is there for a moment only
    ]
    return judge_access(_access(state_dir), list(map(_access, inside)), os.geteuid())


def _access(path: Path) -> Access:
    found = path.lstat()
    return Access(str(path), found.st_uid, stat.S_IMODE(found.st_mode))


def judge_access(top: Access, inside: Sequence[Access], us: int) -> Finding:
    """What the daemon can use and nobody else can read."""
    check = "state directory"
    if us not in (0, top.uid):
        return broken(
            check,
            f"{top.name} belongs to user {top.uid}, and this is user {us}",
            "run ttrl as its owner, or choose another directory with --state-dir",
        )
    if foreign := [each.name for each in inside if each.uid != top.uid]:
        return broken(
            check,
            f"{', '.join(foreign)} of another user than the directory's, as when root ran ttrl",
            f"chown -R {top.uid} {top.name}",
        )
    if top.mode & stat.S_IRWXU != stat.S_IRWXU:
        return broken(check, f"{top.name} cannot be written", f"chmod u+rwx {top.name}")
    if top.open:
        return warning(
            check,
            f"others than its owner may look into {top.name} (mode {top.mode:o}), which has your "
            "users' questions",
            f"chmod 700 {top.name}",
        )
    return ok(check, f"{top.name}, for its owner alone")


def disk(config: Config) -> Finding:
    """Whether there is room for a run, and for a copy of the store."""
    root = config.state_dir / ADAPTERS
    largest = max((_size(each) for each in root.glob("[!.]*")), default=0)
    file = sqlite_file(config.state_dir, config.store.url)
    store = file.stat().st_size if file and file.is_file() else 0
    need = store + (config.update.snapshots + 2) * largest + SPARE
    return judge_room(config.state_dir, shutil.disk_usage(config.state_dir).free, need)


def judge_room(state_dir: Path, free: int, need: int) -> Finding:
    """`need` bytes are for the next run and one copy of the store."""
    said = f"{free / MIB:,.0f} MiB are free for {state_dir}"
    mend = (
        f"free some: {state_dir} has adapters/, logs/, backups/ and, after a restore, replaced-*/, "
        "which may be moved away"
    )
    if free < LEAST_FREE:
        return broken("disk", f"only {said}", mend)
    if free < need:
        return warning(
            "disk", f"{said}; a run and a copy of the store need {need / MIB:,.0f}", mend
        )
    return ok("disk", said)


def leftovers(state_dir: Path, active: int | None) -> Iterator[Finding]:
    """What was cut off left behind; what the run under way is at is none."""
    check = "leftovers"
    if restore.unfinished(state_dir):
        yield warning(check, "a restore was cut off", "any other ttrl command finishes it")
    scratch = [path for path in (state_dir / "runs").glob("*") if path.name != str(active)]
    staged = [*state_dir.glob(f"{restore.STAGING}*"), *state_dir.glob(".writable-*")]
    if scratch or staged:
        names = " ".join(map(str, sorted([*scratch, *staged])))
        size = sum(map(_size, (*scratch, *staged)))
        yield note(check, f"{size / MIB:,.0f} MiB of what ended early", f"rm -r {names}")
    if half := [*(state_dir / ADAPTERS).glob(".*")] if active is None else []:
        names = ", ".join(path.name for path in half)
        yield note(check, f"half a version: {names}", "the next start of the daemon clears it up")
    for path in sorted(state_dir.glob(f"{restore.ASIDE}*")):
        yield note(
            check,
            f"{path} is what made room for a restore, {_size(path) / MIB:,.0f} MiB",
            "delete it when you need it no more",
        )


def backups(config: Config, now: float) -> Finding:
    """When the newest was made."""
    if sqlite_file(config.state_dir, config.store.url) is None:
        return note("backups", "the store is in PostgreSQL: pg_dump is yours to see to")
    return judge_backup(backup.newest(config.state_dir), now)


def judge_backup(newest: backup.Newest | None, now: float) -> Finding:
    """Whether it is there and not too old."""
    mend = "ttrl backup FILE"
    if newest is None:
        return note("backups", "none was made yet", mend)
    days = (now - newest.at) / DAY
    said = f"the newest is {days:.1f} days old"
    if newest.file:
        said += f", and the newest file {newest.file}" if newest.piped else f": {newest.file}"
    if newest.file and not Path(newest.file).exists():
        return warning("backups", f"{said}, and it is no longer there", mend)
    if days > OLD_DAYS:
        return warning("backups", said, mend)
    return ok("backups", said)


def to_restore(config: Config) -> str:
    """How to go on without the store as it is."""
    state_dir = config.state_dir
    file = sqlite_file(state_dir, config.store.url)
    newest = backup.newest(state_dir)
    named = newest.file if newest and newest.file and Path(newest.file).is_file() else None
    means = [f"`ttrl restore --force {named or 'FILE'} --state-dir {state_dir}`"]
    if old := copies.newest_first(state_dir / BACKUPS):
        means.append(f"put {old[0]}, from before an upgrade, in the place of {file}")
    away = f"{file}, {file}-wal, {file}-shm and {state_dir / ADAPTERS}"
    means.append(f"move {away} away and begin with nothing")
    return f"stop the daemon, then {'; or '.join(means)}"


def _size(path: Path) -> int:
    """Bytes of a file, or of all in a directory."""
    size = 0
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            size += each.stat().st_size if each.is_file() else 0
    return size
