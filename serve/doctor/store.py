"""The store: whole, of our schema, writable; and what its rows say of runs and of the clock."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from serve.doctor import house
from serve.doctor.finding import Finding, broken, note, ok, warning
from ttrl.config import Config
from ttrl.store import revisions
from ttrl.store.database import Database, lost, sqlite_file
from ttrl.store.runs import Run
from ttrl.store.schema import adapters, measurements, metadata, questions, runs, wanted
from ttrl.times import clock

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
        return broken("store", f"there is no directory {file.parent}", "mend store.url")
    if versions := lost(config.state_dir, config.store.url):
        said = f"{file} is empty or gone, and there are {versions} versions: it was lost"
        return broken("store", said, house.to_restore(config))
    if file.exists() and file.stat().st_size:
        return None
    return note("store", f"{file} is not there yet; `ttrl serve` makes it")


def unreadable(config: Config, error: sa.exc.DBAPIError) -> Finding:
    """What it means that the store could not be read."""
    said = " ".join(str(error.orig).split())
    if sqlite_file(config.state_dir, config.store.url) is None:
        return broken(
            "store", f"PostgreSQL: {said}", "start the server, or mend store.url; rows are safe"
        )
    if getattr(error.orig, "sqlite_errorname", "").startswith(DAMAGED):
        return broken("store", f"it is damaged: {said}", house.to_restore(config))
    mend = "see to the file and its directory"
    if "locked" in said:
        mend = "another process holds it (`fuser` on the file names it): end that, or try again"
    return broken("store", f"it cannot be read: {said}", mend)


def _schema(config: Config, database: Database) -> Finding:
    revision = database.revision()
    with database.read() as connection:
        ours = metadata.tables.keys() & sa.inspect(connection).get_table_names()
    if revision is None and ours:
        said = f"there are {len(ours)} tables of ours, and nothing says of which revision"
        return broken("schema", said, house.to_restore(config))
    return judge_schema(revision, revisions.known())


def judge_schema(revision: str | None, known: Sequence[str]) -> Finding:
    """`known` is newest first."""
    if revision is None:
        return note("schema", "there is none yet; the daemon makes it")
    if revision == known[0]:
        return ok("schema", f"revision {revision}")
    if revision in known:
        return note(
            "schema",
            f"revision {revision}; the next start brings it to {known[0]}, and copies an SQLite "
            "store to backups/ before",
        )
    return broken(
        "schema",
        f"revision {revision} of a newer ttrl; the newest here is {known[0]}",
        "install the ttrl that wrote it, or restore a backup from before",
    )


def judge_run(run: Run | None, now: float, owned: bool) -> Finding:
    """A run that claims to be at work."""
    if run is None:
        return ok("runs", "none is under way")
    said = f"run {run.id} says that it is {run.state}"
    if not owned:
        return note("runs", f"{said}, and died; the next start of the daemon ends it")
    if run.stale(now):
        since = clock(run.heartbeat or run.created)
        return broken("runs", f"{said}, and is silent since {since}", "ttrl runs stop")
    return ok("runs", said)


def judge_clock(newest: float | None, now: float) -> Finding:
    """`newest` is the latest time that any row has."""
    if newest is None or newest <= now + SKEW_SECONDS:
        return ok("clock", "no row is from the future")
    return warning(
        "clock",
        f"the store has rows of {clock(newest)}, and here it is {clock(now)}; schedules wait that "
        "long",
        "set this machine's clock; if it is right, the rows were written while it was wrong",
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
        yield broken("store", f"{file} is damaged: {words}", house.to_restore(config))
    elif lost:
        tables = ", ".join(sorted({row[0] for row in lost}))
        yield broken(
            "store",
            f"{file}: rows of {tables} refer to others that are gone ({len(lost)} times)",
            house.to_restore(config),
        )
    else:
        yield ok("store", f"{file}, {file.stat().st_size / house.MIB:,.1f} MiB, is whole")


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
            f"nothing can be written to {file}: {error}",
            "find the process that has it open (`fuser`), or mend the file's permissions",
        )
    return ok("writing", "the store takes writers")


def _log(file: Path) -> Finding:
    wal = file.with_name(f"{file.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    said = f"the write-ahead log has {size / house.MIB:,.1f} MiB"
    if size <= LONG_WAL:
        return ok("log of writes", said)
    return warning(
        "log of writes",
        f"{said}: something reads for so long that it cannot be brought into the store",
        "end what else has the store open, or restart the daemon",
    )
