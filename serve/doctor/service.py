"""What runs: the daemon, its engine, its model, its addresses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import httpx2

from serve.doctor.finding import Finding, broken, note, ok, warning
from serve.keys import KeysUnreadable, read
from serve.listening import PortInUse, listen
from serve.state import OWNER, Owner
from ttrl.config import Config
from ttrl.engine import fitness
from ttrl.engine.client import EngineClient, EngineError
from ttrl.memory.shape import CannotPlan, find
from ttrl.store.database import ADAPTERS

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


def look(state_dir: Path, owner: Owner | None) -> Daemon:
    """Ask it."""
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
    """How it is."""
    pid, url = (owner.pid, owner.url) if owner else (None, None)
    process = f"process {pid}"
    match found:
        case Daemon.NONE:
            return ok("daemon", "none is running")
        case Daemon.DIED:
            return note("daemon", "none is running; the last one was killed", "ttrl serve")
        case Daemon.SILENT:
            return note("daemon", f"{process} has no address yet: it starts, or is a run by hand")
        case Daemon.HUNG:
            return broken(
                "daemon",
                f"{process} owns the state directory and does not answer",
                f"look into its log; kill {pid} and start it again",
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
        mend = "give what the daemon gets: --config FILE, or --set model.name=NAME"
        return note("model", "none is set, so that versions are not compared with it", mend)
    try:
        return ok("model", f"{name}, in {find(name)}")
    except CannotPlan as error:
        if config.engine.url is not None:
            return note("model", f"{error}; the engine elsewhere has it")
        if Path(name).is_absolute() or Path(name).exists():
            return broken("model", f"there is no config.json in {name}", "mend model.name")
        return note("model", f"{error}; vLLM downloads it when it starts")


def keys(path: Path) -> Finding:
    """Whether those who may ask are known."""
    try:
        return ok("keys", f"{path} has {len(read(path))}")
    except KeysUnreadable as error:
        known = "a running daemon goes by those that it read last, whatever was changed since"
        return broken("keys", str(error), f"mend the file, or `ttrl keys add`; {known}")


def engine(config: Config) -> Iterator[Finding]:
    """Somebody else's engine, while no daemon of ours uses it. It is asked to load an adapter
    without weights, as at every start."""
    url = config.engine.url
    if url is None:
        return
    with EngineClient(url, api_key=config.engine.api_key, timeout=ASK_SECONDS) as client:
        if not client.healthy():
            yield broken("engine", f"no engine answers at {url}", "start it, or mend engine.url")
            return
        root = config.state_dir / ADAPTERS
        name = config.model.name or _served(client)
        try:
            fitness.check(client, model=name, rank=config.update.lora_rank, root=root)
        except EngineError as error:
            yield broken("engine", str(error), "start it with what it lacks")
            return
    yield ok("engine", f"{url} has what is needed")


def ports(config: Config) -> Iterator[Finding]:
    """Whether what a daemon would listen on is free."""
    wanted = [("gateway", config.gateway.host, config.gateway.port, broken)]
    if config.admin.port is not None:
        wanted.append(("admin", config.admin.host, config.admin.port, warning))
    for section, host, port, bad in wanted:
        try:
            listen(host, port, f"{section}.port").close()
        except PortInUse as error:
            yield bad("addresses", str(error), "stop who listens there, or choose another")
        else:
            yield ok("addresses", f"{host}:{port} is free for {section}")


def _client(owner: Owner, url: str | None) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {owner.token}"}
    return httpx2.Client(base_url=url or "", headers=headers, timeout=ASK_SECONDS, trust_env=False)


def _served(client: EngineClient) -> str:
    card = client.base_model()
    return card.root or card.name
