"""Everything that can be wrong with one installation, and how to mend it. Nothing is changed, but
that SQLite may leave an empty write-ahead log beside a store that was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from enum import StrEnum
from pathlib import Path

import httpx2
import sqlalchemy as sa

from serve.doctor import host, store
from serve.doctor.host import Finding, Outcome, broken, note, ok, warning
from serve.gateway.keys import KeysUnreadable, read
from serve.gateway.request import whereabouts
from serve.gateway.server import PortInUse, listen
from serve.state import OWNER, Owner, StateDirError, owner_of
from ttrl.adapters.base import ModelNotFound, find
from ttrl.config import Config
from ttrl.engine import memory, preflight
from ttrl.engine.client import EngineClient, EngineError
from ttrl.store import Store, StoreError, migrations
from ttrl.store.database import ADAPTERS, Database, sqlite_file

__all__ = ["Finding", "Outcome", "examine"]


ASK_SECONDS = 10.0


class Daemon(StrEnum):
    """What becomes of asking the state directory's owner."""

    NONE = "none"
    """Nobody owns it."""
    DIED = "died"
    """Nobody does, and the last one left without a word."""
    SILENT = "silent"
    """It owns it and has no address: it starts, or is a run by hand."""
    HUNG = "hung"
    """It has an address and does not answer there."""
    UNREADY = "unready"
    """It answers, and has no engine to answer with."""
    READY = "ready"

    @property
    def owns(self) -> bool:
        """Whether a process has the state directory."""
        return self not in (Daemon.NONE, Daemon.DIED)


def examine(config: Config, now: float) -> Iterator[Finding]:
    """What there is to say, check by check. A running daemon's own settings go before `config`."""
    state_dir = config.state_dir
    try:
        owner = owner_of(state_dir)
    except StateDirError as error:
        yield broken("state directory", str(error), "sudo -u USER ttrl doctor")
        return
    found = look(state_dir, owner)
    if owner is not None and found in (Daemon.UNREADY, Daemon.READY):
        config = settings(owner) or config
    yield from _safely("packages", lambda: host.packages(config))
    yield from _safely("model", lambda: [model(config)])
    yield from _safely("memory", lambda: gpu_memory(config))
    if config.gateway.keys is not None:
        file = config.gateway.keys
        yield from _safely("keys", lambda: [keys(file)])
    yield from _safely("state directory", lambda: [host.directory(state_dir)])
    yield from _safely("daemon", lambda: [daemon(config, found, owner)])
    if not found.owns:
        yield from _safely("addresses", lambda: ports(config))
    if not state_dir.is_dir():
        return
    if not found.owns:
        yield from _safely("engine", lambda: engine(config))
    yield from _safely("disk", lambda: [host.disk(config)])
    yield from _safely("store", lambda: _rows(config, found, now))
    yield from _safely("backups", lambda: [host.backups(config, now)])


def _rows(config: Config, found: Daemon, now: float) -> Iterator[Finding]:
    """The store, and what is held against its rows."""
    file = sqlite_file(config.state_dir, config.store.url)
    if file is not None and (missing := store.missing(config, file)):
        yield missing
        return
    with closing(Database.look(config.state_dir, config.store.url)) as database:
        try:
            yield from store.check(config, database)
            if database.revision() == migrations.known()[0]:
                yield from _held_against(config, database, found, now)
        except sa.exc.DBAPIError as error:
            yield store.unreadable(config, error)


def _held_against(
    config: Config, database: Database, found: Daemon, now: float
) -> Iterator[Finding]:
    rows = Store(database)
    active = rows.runs.active()
    yield from _safely("runs", lambda: [store.judge_run(active, now, found.owns)])
    yield from _safely("clock", lambda: [store.judge_clock(store.newest_time(database), now)])
    yield from _safely("versions", lambda: store.check_versions(config, rows))
    if found is Daemon.READY:
        yield from _safely("serving", lambda: [store.serving(rows)])
    under_way = active.id if active and found.owns else None
    yield from _safely("leftovers", lambda: host.leftovers(config.state_dir, under_way))


def _safely(check: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What cannot be looked at is a finding, and the next check goes on. What the database refuses
    is for the store's check to say."""
    try:
        yield from look()
    except (OSError, StoreError) as error:
        yield broken(check, f"cannot check it: {error}", "fix that first")
    except sa.exc.DBAPIError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is damaged, the rest is looked at
        yield broken(
            check,
            f"the check itself failed: {type(error).__name__} at {whereabouts(error)}",
            "the data that it reads may be damaged; if it is not, please report this",
        )


def look(state_dir: Path, owner: Owner | None) -> Daemon:
    if owner is None:
        return Daemon.DIED if (state_dir / OWNER).exists() else Daemon.NONE
    if owner.url is None:
        return Daemon.SILENT
    try:
        with _client(owner, owner.url) as client:
            client.get("/healthz").raise_for_status()
            return Daemon.READY if client.get("/readyz").is_success else Daemon.UNREADY
    except (httpx2.HTTPError, httpx2.InvalidURL):
        return Daemon.HUNG


def settings(owner: Owner) -> Config | None:
    """What a running daemon goes by."""
    with suppress(httpx2.HTTPError, ValueError), _client(owner, owner.admin) as client:
        answer = client.get("/admin/config")
        if answer.is_success:
            return Config.model_validate_json(answer.content)
    return None


def daemon(config: Config, found: Daemon, owner: Owner | None) -> Finding:
    pid, url = (owner.pid, owner.url) if owner else (None, None)
    process = f"process {pid}"
    match found:
        case Daemon.NONE:
            return ok("daemon", "none is running")
        case Daemon.DIED:
            return note("daemon", "none is running; the last one was killed", "ttrl serve")
        case Daemon.SILENT:
            return note(
                "daemon", f"{process} has no address yet: it is starting, or is a run by hand"
            )
        case Daemon.HUNG:
            return broken(
                "daemon",
                f"{process} owns the state directory, but does not answer",
                f"see its log; kill {pid} and start it again",
            )
        case Daemon.UNREADY:
            log = config.state_dir / "logs" / "engine.log"
            return broken("daemon", f"{process} answers, but its engine does not", f"see {log}")
        case Daemon.READY:
            return ok("daemon", f"{process} answers at {url}/v1")


def model(config: Config) -> Finding:
    """Whether the base model is there."""
    name = config.model.name
    if not name:
        mend = "give the daemon's configuration: --config FILE, or --set model.name=NAME"
        return note("model", "no model is set, so versions are not checked against it", mend)
    try:
        return ok("model", f"{name}, in {find(name)}")
    except ModelNotFound as error:
        if config.engine.url is not None:
            return note("model", f"{error}; the remote engine has it")
        if Path(name).is_absolute() or Path(name).exists():
            return broken("model", f"there is no config.json in {name}", "fix model.name")
        return note("model", f"{error}; vLLM downloads it when it starts")


def keys(path: Path) -> Finding:
    """Whether those who may ask are known."""
    try:
        return ok("keys", f"{path} has {len(read(path))}")
    except KeysUnreadable as error:
        known = "a running daemon uses the keys that it last read"
        return broken("keys", str(error), f"fix the file, or use `ttrl keys add`; {known}")


def engine(config: Config) -> Iterator[Finding]:
    """Somebody else's engine, while no daemon of ours uses it. It is asked to load an adapter
    without weights, as at every start."""
    url = config.engine.url
    if url is None:
        return
    with EngineClient(url, api_key=config.engine.api_key, timeout=ASK_SECONDS) as client:
        if not client.healthy():
            yield broken("engine", f"no engine answers at {url}", "start it, or fix engine.url")
            return
        root = config.state_dir / ADAPTERS
        name = config.model.name or _served(client)
        try:
            preflight.check(client, model=name, rank=config.update.lora_rank, root=root)
        except EngineError as error:
            yield broken("engine", str(error), "start it with the missing option")
            return
    yield ok("engine", f"{url} is compatible")


def gpu_memory(config: Config) -> Iterator[Finding]:
    """Whether engine and trainer fit on the GPU, if there is one."""
    checked = memory.check(config)
    if checked is None:
        return
    fit, figures = checked
    match fit:
        case memory.Fit.FITS:
            yield ok("memory", figures)
        case memory.Fit.UNKNOWN:
            yield note("memory", figures)
        case memory.Fit.UNLIKELY:
            yield warning("memory", figures, "change one of these settings")
        case memory.Fit.IMPOSSIBLE:
            yield broken("memory", figures, "change one of these settings")


def ports(config: Config) -> Iterator[Finding]:
    """Whether what a daemon would listen on is free."""
    wanted = [("gateway", config.gateway.host, config.gateway.port, broken)]
    if config.admin.port is not None:
        wanted.append(("admin", config.admin.host, config.admin.port, warning))
    for section, name, port, bad in wanted:
        try:
            listen(name, port, f"{section}.port").close()
        except PortInUse as error:
            yield bad(
                "addresses", str(error), "stop the process that listens there, or choose another"
            )
        else:
            yield ok("addresses", f"{name}:{port} is free for {section}")


def _client(owner: Owner, url: str | None) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {owner.token}"}
    return httpx2.Client(base_url=url or "", headers=headers, timeout=ASK_SECONDS, trust_env=False)


def _served(client: EngineClient) -> str:
    card = client.base_model()
    return card.root or card.name
