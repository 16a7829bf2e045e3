"""Addresses that the daemon listens at, and the servers there."""

from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from serve.counts import Counts
from serve.protocol import Bounds, Guard
from ttrl.config import Config, GatewayConfig

log = logging.getLogger(__name__)

OTHER_FILES = 500
"""Logs, the store, runs, the engine."""


class PortInUse(Exception):
    """The address cannot be listened on; the message says which and what to do."""


def allow_files(settings: GatewayConfig) -> None:
    """Each connection is a file, and each request has another to the engine; systems often allow
    1,024 unless more is asked for."""
    needed = settings.max_connections + settings.max_requests + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        log.warning(
            "%d open files are allowed, and %d connections may need %d: lower "
            "gateway.max_connections, or raise the limit (LimitNOFILE= under systemd)",
            allowed, settings.max_connections, needed,
        )  # fmt: skip


def listen(host: str, port: int, otherwise: str = "--port or --host") -> socket.socket:
    """A socket that listens there; `otherwise` are the options that choose another. Raises
    PortInUse."""
    where = (host, port)
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    try:
        return socket.create_server(where, family=family, backlog=1024)
    except OSError as error:
        raise PortInUse(
            f"cannot listen on {where[0]}:{where[1]} ({error.strerror}); "
            f"choose another with {otherwise}"
        ) from None


def own_url(listener: socket.socket) -> str:
    """Where this machine reaches the daemon. One that listens everywhere listens on loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not listened on
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Leaves signals to us: uvicorn's own handlers end the process before the rest is stopped."""

    def leave(self) -> None:
        """Answers under way end, and no other begins."""
        self.should_exit = True

    def cut(self) -> None:
        """The same for clients who wait: it goes on as if they had left. Not uvicorn's force_exit,
        which leaves requests and the application behind as they are."""
        self.leave()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


KEEP_ALIVE_SECONDS = 20
"""Longer than clients keep a connection that rests (OpenAI's: 5 s), so that they end it, and no
request meets our closing it."""


def server_for(config: Config, app: Starlette, counts: Counts) -> Server:
    """Within the bounds of the configuration; its connections are counted there."""
    bounds = Bounds(
        most=config.gateway.max_connections,
        head_seconds=config.gateway.head_timeout.total_seconds(),
        stall_seconds=config.gateway.stall.total_seconds(),
    )
    return Server(
        uvicorn.Config(
            app,
            http=Guard(bounds, counts).protocol(),
            ws="none",
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            server_header=False,
            timeout_graceful_shutdown=int(config.gateway.drain_timeout.total_seconds()),
        )
    )
