"""Everything that can be wrong with one installation, and how to mend it. Nothing is changed, but
that SQLite may leave an empty write-ahead log beside a store that was read."""

from __future__ import annotations

import platform
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import httpx2
import sqlalchemy as sa

from serve.doctor import host
from serve.doctor.host import Finding, Outcome, broken, note, ok, warning
from serve.gateway.keys import KeysUnreadable, read
from serve.gateway.request import whereabouts
from serve.gateway.server import PortInUse, bind
from serve.state import OWNER, Owner, StateDirError, owner_of
from ttrl.config import Config, EngineKind
from ttrl.config.section import clock
from ttrl.engine import memory
from ttrl.engine.client import EngineClient, EngineError
from ttrl.engine.process import check_external
from ttrl.store import Store, StoreError, migrations
from ttrl.store.adapters import GONE
from ttrl.store.database import ADAPTERS, lost, sqlite_file
from ttrl.store.runs import Run
from ttrl.store.schema import metadata
from ttrl.versions import AdapterDamaged, ModelNotFound, find, identify, place, verify
from ttrl.words import counted

__all__ = ["Finding", "Outcome", "broken", "examine", "ok"]

ASK_SECONDS = 10.0
LOCK_SECONDS = 5.0
LONG_WAL = 256 * 1024**2
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
SKEW_SECONDS = 60.0


Check = tuple[str, Finding]


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
    yield from _safely("packages", lambda: host.packages(config))
    if config.engine.kind is EngineKind.VLLM and config.engine.url is None:
        yield from _safely("vllm", lambda: host.vllm(config.engine.python or sys.executable))
    yield from _safely("model", lambda: model(config))
    yield from _safely("memory", lambda: gpu_memory(config))
    yield from _safely("keys", lambda: keys(config))
    yield from _safely("state directory", lambda: host.directory(state_dir))
    yield "daemon", about_daemon
    if owner is None:
        yield from _safely("addresses", lambda: ports(config))
    if not state_dir.is_dir():
        return
    if owner is None:
        yield from _safely("engine", lambda: engine(config))
    yield from _safely("disk", lambda: host.disk(config))
    serves = owner is not None and about_daemon.outcome is Outcome.OK
    yield from _safely("store", lambda: store(config, owner is not None, serves, now))
    yield from _safely("backups", lambda: host.backups(config, now))


def _safely(check: str, look: Callable[[], Finding | Iterable[Finding | Check]]) -> Iterator[Check]:
    """What cannot be looked at is a finding, and the next check goes on. What the database refuses
    is for the store's check to say."""
    try:
        found = look()
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
        with _client(owner, owner.url) as client:
            client.get("/healthz").raise_for_status()
            ready = client.get("/readyz").is_success
    except (httpx2.HTTPError, httpx2.InvalidURL):
        hangs = f"{process} owns the state directory, but does not answer"
        return broken(hangs, f"see its log; kill {owner.pid} and start it again"), config
    with suppress(httpx2.HTTPError, ValueError), _client(owner, owner.admin) as client:
        answer = client.get("/admin/config")
        if answer.is_success:
            config = Config.model_validate_json(answer.content)
    if ready:
        return ok(f"{process} answers at {owner.url}/v1"), config
    log = config.state_dir / "logs" / "engine.log"
    down = f"{process} answers, but its engine does not"
    return broken(down, f"see {log}"), config


def _client(owner: Owner, url: str | None) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {owner.token}"}
    return httpx2.Client(base_url=url or "", headers=headers, timeout=ASK_SECONDS, trust_env=False)


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
    """Whether engine and trainer fit on the GPU, if there is one."""
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
            schema = _schema(config, rows)
            if file is not None:
                yield from _sqlite(config, rows, file)
            yield "schema", schema
            if rows.revision() != migrations.known()[0]:
                return
            active = rows.runs.active()
            yield from _safely("runs", lambda: judge_run(active, now, owned))
            yield from _safely("clock", lambda: timestamps(rows, now))
            yield from _safely("versions", lambda: _versions(config, rows))
            if serves:
                yield from _safely("serving", lambda: _serving(rows))
            under_way = active.id if active and owned else None
            yield from _safely("leftovers", lambda: host.leftovers(config.state_dir, under_way))
        except sa.exc.DBAPIError as error:
            yield _unreadable(config, error)


def _missing(config: Config, file: Path) -> Finding | None:
    """If there is no store, or nothing in it: it may have been lost."""
    if not file.parent.is_dir():
        return broken(f"there is no directory {file.parent}", "fix store.url")
    if versions := lost(config.state_dir, config.store.url):
        there = counted(versions, "version")
        what = f"{file} is empty or missing beside {there} on disk: the store was lost"
        return broken(what, host.to_restore(config))
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
        return broken(f"it is damaged: {what}", host.to_restore(config))
    mend = "check the file and its directory"
    if "locked" in what:
        mend = "another process holds it (`fuser` on the file names it): stop it, or try again"
    return broken(f"it cannot be read: {what}", mend)


def _schema(config: Config, database: Store) -> Finding:
    revision, known = database.revision(), migrations.known()  # the newest first
    if revision is None:
        with database.read() as connection:
            ours = metadata.tables.keys() & sa.inspect(connection).get_table_names()
        if not ours:
            return note("there is no store yet; the daemon creates it")
        what = f"there are {len(ours)} ttrl tables, but no schema revision"
        return broken(what, host.to_restore(config))
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
    """Whether the latest time that any row has is in the future."""
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
        yield broken(f"{file} is damaged: {words}", host.to_restore(config))
    elif lost:
        tables = ", ".join(sorted({row[0] for row in lost}))
        dangling = f"rows of {tables} refer to missing rows ({counted(len(lost), 'time')})"
        yield broken(f"{file}: {dangling}", host.to_restore(config))
    else:
        yield ok(f"{file}, {file.stat().st_size / host.MIB:,.1f} MiB, is intact")

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
    what = f"the write-ahead log has {size / host.MIB:,.1f} MiB"
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
    """Whether a running daemon serves what is wanted."""
    wanted, now = store.adapters.wanted().adapter, store.adapters.serving()
    if now.adapter == wanted:
        return ok(f"{wanted or 'the base model'}, as wanted")
    return broken(
        f"{now.adapter or 'the base model'} is live, not {wanted or 'the base model'}: "
        f"{now.reason}",
        "fix that, then `ttrl adapters promote NAME`; or `ttrl adapters rollback`",
    )
