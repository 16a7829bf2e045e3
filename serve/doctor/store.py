"""The store: whole, of our schema, writable, and what its rows say of runs and of the clock; and
the versions: files and rows that belong together, and whether the wanted one can serve."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from serve.doctor import host
from serve.doctor.host import Finding, broken, note, ok, warning
from ttrl.adapters.base import Base, identify
from ttrl.adapters.versions import AdapterDamaged, verify
from ttrl.config import Config
from ttrl.config.section import clock
from ttrl.store import Store, migrations
from ttrl.store.adapters import GONE, AdapterRow
from ttrl.store.database import ADAPTERS, Database, lost, sqlite_file
from ttrl.store.runs import Run
from ttrl.store.schema import adapters, measurements, metadata, questions, runs, wanted

LOCK_SECONDS = 5.0
LONG_WAL = 256 * 1024**2
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
SKEW_SECONDS = 60.0
TIMES = (questions.c.last_seen, runs.c.created, adapters.c.created, wanted.c.at, measurements.c.at)


def check(config: Config, database: Database) -> Iterator[Finding]:
    """Whether it can be read, is whole and can be written."""
    file = sqlite_file(config.state_dir, config.store.url)
    schema = _schema(config, database)
    if file is not None:
        yield from _whole(config, database, file)
        yield _writable(file)
        yield _log(file)
    yield schema


def missing(config: Config, file: Path) -> Finding | None:
    """If there is no store, or nothing in it: it may have been lost."""
    if not file.parent.is_dir():
        return broken("store", f"there is no directory {file.parent}", "fix store.url")
    if versions := lost(config.state_dir, config.store.url):
        said = f"{file} is empty or missing, but there are {versions} versions: the store was lost"
        return broken("store", said, host.to_restore(config))
    if file.exists() and file.stat().st_size:
        return None
    return note("store", f"{file} does not exist yet; `ttrl serve` creates it")


def unreadable(config: Config, error: sa.exc.DBAPIError) -> Finding:
    """What it means that the store could not be read."""
    said = " ".join(str(error.orig).split())
    if sqlite_file(config.state_dir, config.store.url) is None:
        return broken(
            "store", f"PostgreSQL: {said}", "start the server, or fix store.url; the data are safe"
        )
    if getattr(error.orig, "sqlite_errorname", "").startswith(DAMAGED):
        return broken("store", f"it is damaged: {said}", host.to_restore(config))
    mend = "check the file and its directory"
    if "locked" in said:
        mend = "another process holds it (`fuser` on the file names it): stop it, or try again"
    return broken("store", f"it cannot be read: {said}", mend)


def _schema(config: Config, database: Database) -> Finding:
    revision = database.revision()
    with database.read() as connection:
        ours = metadata.tables.keys() & sa.inspect(connection).get_table_names()
    if revision is None and ours:
        said = f"there are {len(ours)} ttrl tables, but no schema revision"
        return broken("schema", said, host.to_restore(config))
    return judge_schema(revision, migrations.known())


def judge_schema(revision: str | None, known: Sequence[str]) -> Finding:
    """`known` is newest first."""
    if revision is None:
        return note("schema", "there is no store yet; the daemon creates it")
    if revision == known[0]:
        return ok("schema", f"revision {revision}")
    if revision in known:
        return note(
            "schema",
            f"revision {revision}; the next start migrates it to {known[0]}, after copying an "
            f"SQLite store to backups/",
        )
    return broken(
        "schema",
        f"revision {revision} of a newer ttrl; the newest here is {known[0]}",
        "install the ttrl that wrote it, or restore an older backup",
    )


def judge_run(run: Run | None, now: float, owned: bool) -> Finding:
    """A run that claims to be at work."""
    if run is None:
        return ok("runs", "no run is in progress")
    said = f"run {run.id} is {run.state}"
    if not owned:
        return note("runs", f"{said}, but its process died; the daemon ends it at its next start")
    if run.stale(now):
        since = clock(run.heartbeat or run.created)
        return broken("runs", f"{said}, but has not reported since {since}", "ttrl runs stop")
    return ok("runs", said)


def judge_clock(newest: float | None, now: float) -> Finding:
    """`newest` is the latest time that any row has."""
    if newest is None or newest <= now + SKEW_SECONDS:
        return ok("clock", "no timestamp is in the future")
    return warning(
        "clock",
        f"the store has timestamps of {clock(newest)}, but it is {clock(now)} now; schedules "
        f"wait until then",
        "set this machine's clock; if it is correct, it was wrong when the rows were written",
    )


def newest_time(database: Database) -> float | None:
    """The latest that any row has, in Unix seconds."""
    with database.read() as connection:
        found = [connection.scalar(sa.select(sa.func.max(column))) for column in TIMES]
    return max((at for at in found if at is not None), default=None)


def _whole(config: Config, database: Database, file: Path) -> Iterator[Finding]:
    with database.read() as connection:
        said = connection.exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
        lost = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if said != ["ok"]:
        words = "; ".join(" ".join(each.split()) for each in said)
        yield broken("store", f"{file} is damaged: {words}", host.to_restore(config))
    elif lost:
        tables = ", ".join(sorted({row[0] for row in lost}))
        yield broken(
            "store",
            f"{file}: rows of {tables} refer to missing rows ({len(lost)} times)",
            host.to_restore(config),
        )
    else:
        yield ok("store", f"{file}, {file.stat().st_size / host.MIB:,.1f} MiB, is intact")


def _writable(file: Path) -> Finding:
    """Takes the writers' lock and gives it back at once, having written nothing. The connection
    that looks is still open, so that closing this one brings nothing into the file."""
    uri = f"file:{quote(str(file))}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS)) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return broken(
            "writing",
            f"cannot write to {file}: {error}",
            "find the process that has it open (`fuser`), or fix the file's permissions",
        )
    return ok("writing", "the store is writable")


def _log(file: Path) -> Finding:
    wal = file.with_name(f"{file.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    said = f"the write-ahead log has {size / host.MIB:,.1f} MiB"
    if size <= LONG_WAL:
        return ok("log of writes", said)
    return warning(
        "log of writes",
        f"{said}: a long read keeps it from being merged into the store",
        "stop other processes that have the store open, or restart the daemon",
    )


def check_versions(config: Config, store: Store) -> Iterator[Finding]:
    """Every version of the store on the disk, and every directory in the store."""
    root, every = config.state_dir / ADAPTERS, store.adapters.all()
    rows = [row for row in every if row.state not in GONE]
    put_back = f"put it back from a backup (`tar xf FILE -C {config.state_dir} adapters/NAME`)"
    wanted, previous = store.adapters.wanted().adapter, store.adapters.previous()
    base = identify(config.model.name) if config.model.name else None
    wrong = {row.name: said for row in rows if (said := _wrong(root, row, base))}
    for name, said in wrong.items():
        if name == wanted:
            yield broken(
                "versions",
                f"the wanted version cannot be served: {said}",
                f"{put_back}, or `ttrl adapters promote` another; a roll-back would quarantine "
                f"its training questions",
            )
        elif name == previous:
            yield warning("versions", f"the previous version cannot be served: {said}", put_back)
        else:
            yield note("versions", said, f"{put_back}, if you miss it")
    if wanted is not None and wanted not in {row.name for row in rows}:
        said = f"{wanted} should be live, but is no version here or has no files"
        yield broken("versions", said, "`ttrl adapters promote` another, or base")
    elif not wrong:
        yield ok("versions", f"{len(rows)}, all intact; wanted is {wanted or 'the base model'}")
    if strange := strangers(root, [row.name for row in every], store.runs.active() is not None):
        yield note(
            "versions",
            f"not in the store: {', '.join(strange)}; they are not served; a run that died while "
            f"publishing, or a restore, leaves such files",
            f"delete them from {root} if you do not need them",
        )


def strangers(root: Path, known: Sequence[str], under_way: bool) -> list[str]:
    """Directories without a row. A run that publishes is about to write one."""
    found = {path.name for path in root.glob("[!.]*")}
    return [] if under_way else sorted(found - set(known))


def serving(store: Store) -> Finding:
    """Whether a running daemon serves what is wanted."""
    wanted, now = store.adapters.wanted().adapter, store.adapters.serving()
    if now.adapter == wanted:
        return ok("serving", f"{wanted or 'the base model'}, as wanted")
    return broken(
        "serving",
        f"{now.adapter or 'the base model'} is live, not {wanted or 'the base model'}: "
        f"{now.reason}",
        "fix that, then `ttrl adapters promote NAME`; or `ttrl adapters rollback`",
    )


def _wrong(root: Path, row: AdapterRow, base: Base | None) -> str | None:
    try:
        manifest = verify(root / row.name, row.digest)
    except AdapterDamaged as error:
        return str(error)
    if base is not None and not manifest.base.same_weights(base):
        return f"{row.name} was made for another base model, {manifest.base_model}"
    return None
