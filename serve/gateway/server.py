"""Connections whose clients are slow, silent or odd: uvicorn's HTTP, with bounds.

uvicorn ends an idle connection, and no other: one that never says anything, that sends a head or a
body a byte at a time, or that takes nothing of its answer stays. httptools bounds no head.

Much of this overrides what uvicorn calls private: pyproject.toml bounds its version, and
tests/quick/test_uvicorn.py names what is used.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import resource
import socket
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum, auto
from functools import partial
from typing import Any, ClassVar

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from serve.gateway.request import Refused
from ttrl import ReportedError
from ttrl.config import Config, GatewayConfig
from ttrl.metrics.series import Serving

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often connections are looked at, if no bound is shorter."""
TICK_SECONDS = 1.0
SWITCH_SECONDS = 0.0005
REFUSED = {400: "malformed", 408: "head_slow", 431: "head_long"}
"""Under which reason a connection that we refuse is counted."""
BODY = frozenset({b"content-length", b"transfer-encoding"})
HEAD_BYTES = 64 * 1024
LEFT = "ttrl.left"
"""The ASGI extension in which an application leaves what is called when its client hangs up."""
TOO_LONG = Refused(431, f"The head is longer than {HEAD_BYTES:,} bytes.")
BACKLOG = 1024
OTHER_FILES = 500
"""Logs, the store, runs, the engine."""


class Phase(Enum):
    """What a connection is for at the moment."""

    HEAD = auto()  # the head of a request is to come
    ANSWER = auto()  # a request is read or answered; how long that may take is not ours to say
    REST = auto()  # answered, but the request's body is still coming
    IDLE = auto()  # kept for a next request; uvicorn closes it after `gateway.keep_alive`
    CLOSING = auto()  # what was sent last is still on its way


def overdue(phase: Phase, seconds: float, still: float, settings: GatewayConfig) -> str | None:
    """Why a connection has to be closed, if so, after `seconds` in a phase, and `still` seconds in
    which its client took nothing of what it was sent."""
    if still > settings.stall.total_seconds():
        return "stalled"
    if seconds <= settings.head_timeout.total_seconds():
        return None
    return {Phase.HEAD: "head_slow", Phase.REST: "body_slow"}.get(phase)


def ambiguous(version: str, headers: Sequence[tuple[bytes, bytes]], *, upgrade: bool) -> str | None:
    """What another reader, such as a proxy before us, could take otherwise in a head that the
    parser lets pass: where the request ends, or whom it is for."""
    names = [name for name, _ in headers]
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if version not in ("1.0", "1.1"):
        return "Only HTTP/1.1 is supported."
    if names.count(b"host") > 1 or names.count(b"content-length") > 1:
        return "Host and Content-Length must not be repeated."
    if codings and (codings != [b"chunked"] or version != "1.1"):
        return "The only supported Transfer-Encoding is chunked, in HTTP/1.1."
    if upgrade and not BODY.isdisjoint(names):
        return "A request with a body must not have Upgrade: only HTTP/1.1 is supported."
    return None


async def unframed(cycle: RequestResponseCycle, message: Any) -> None:
    """Send to a client of HTTP/1.0, which knows no chunks: the connection's end is the answer's."""
    cycle.chunked_encoding = False
    cycle.expected_content_length = len(message.get("body", b""))
    await RequestResponseCycle.send(cycle, message)


class ConnectionWatch:
    """What the connections of one server share. When there are too many, the one that has waited
    longest for a request is closed: whoever holds many in silence loses his own, and a client that
    asks at once is served."""

    def __init__(self, settings: GatewayConfig, metrics: Serving) -> None:
        self.settings = settings
        self.metrics = metrics
        self.waiting: dict[Connection, None] = {}
        """Those that wait for a request, the longest first."""
        self.most = settings.share(settings.max_connections)
        shortest = min(settings.head_timeout, settings.stall).total_seconds()
        self.every = min(LOOK_SECONDS, shortest / 4)

    def protocol(self) -> type[Connection]:

        class Watched(Connection):
            watch = self

        return Watched


class Connection(HttpToolsProtocol):
    watch: ClassVar[ConnectionWatch]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._in_head = False
        self._head = 0  # bytes of the present head's lines so far
        # Bytes since the parser last made something of them: an endless line fills memory there, in
        # a head or after a body.
        self._unread = 0
        # What waited for the client at the last look, and when it last took some of it.
        self._unsent, self._taken = 0, self.loop.time()
        # Called when the client hangs up: less than a task for each request that waits for it, and
        # uvicorn tells only the last of several requests on one connection.
        self._left: dict[Callable[[], None], None] = {}
        # What is wrong with the present request, beyond what the parser says.
        self._wrong: Refused | None = None
        watch = self.watch
        watch.metrics.connections.inc()
        self._timer = self.loop.call_later(watch.every, self._look)
        self._enter(Phase.HEAD)
        if len(self.connections) > watch.most:
            next(iter(watch.waiting))._drop("crowded")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for left in tuple(self._left):
            left()
        self._timer.cancel()
        self.watch.waiting.pop(self, None)
        self.watch.metrics.connections.dec()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        self._unread += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # not done, and that was its last request: see on_headers_complete
        except httptools.HttpParserError:
            self._refuse(self._wrong or Refused(400, "This is not a valid HTTP/1.1 request."))
            return
        if self._unread > HEAD_BYTES:
            self._refuse(TOO_LONG)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {LEFT: {"calls": self._left}}
        self._in_head, self._head, self._unread = True, 0, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        # What follows a body is no head: a proxy in front has not seen to it.
        if self._in_head:
            super().on_header(name, value)
        self._grow(len(name) + len(value))

    def on_headers_complete(self) -> None:
        upgrade, http = self.parser.should_upgrade(), self.parser.get_http_version()
        if wrong := ambiguous(http, self.headers, upgrade=upgrade):
            self._stop(Refused(400, wrong))
        super().on_headers_complete()
        if http == "1.0":
            self.cycle.send = partial(unframed, self.cycle)  # type: ignore[method-assign]
        if upgrade:  # what follows may not be HTTP/1.1
            self.cycle.keep_alive = False
        self._in_head, self._unread = False, 0
        self._enter(Phase.ANSWER)

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        super().on_message_complete()
        if self._phase is Phase.REST:  # by now uvicorn does not close it for being idle
            self._enter(Phase.HEAD)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:  # and no other is to be answered
            self._enter(Phase.REST if self.cycle.more_body else Phase.IDLE)

    def _look(self) -> None:
        self._timer = self.loop.call_later(self.watch.every, self._look)
        now, closing = self.loop.time(), self.transport.is_closing()
        # Bytes that the client has not taken, the system's included: that asks for more only when a
        # third of what it holds is gone, which takes a slow reader minutes.
        unsent = self.transport.get_write_buffer_size()
        with suppress(OSError):
            handle = self.transport.get_extra_info("socket").fileno()
            unsent += int.from_bytes(fcntl.ioctl(handle, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        if not (self.flow.write_paused or closing) or not unsent or unsent < self._unsent:
            self._taken = now
        self._unsent = unsent
        phase = Phase.CLOSING if closing else self._phase
        why = overdue(phase, now - self._since, now - self._taken, self.watch.settings)
        if why == "head_slow" and self._in_head:
            self._refuse(Refused(408, "The request did not arrive in time."))
        elif why is not None:
            self._drop(why)

    def _drop(self, why: str) -> None:
        self._count(why)
        self.transport.abort()

    def _count(self, why: str) -> None:
        self.watch.waiting.pop(self, None)
        self.watch.metrics.closed.labels(why).inc()

    def _enter(self, phase: Phase) -> None:
        self._phase, self._since = phase, self.loop.time()
        self.watch.waiting.pop(self, None)
        if phase is not Phase.ANSWER:
            self.watch.waiting[self] = None

    def _grow(self, more: int) -> None:
        self._head += more + len(b": \r\n")
        self._unread = 0
        if self._head > HEAD_BYTES:
            self._stop(TOO_LONG)

    def _stop(self, refusal: Refused) -> None:
        """For the parser's callbacks: read no further, and say why."""
        self._wrong = refusal
        raise ValueError

    def _should_upgrade(self) -> bool:
        return False

    def _refuse(self, refusal: Refused) -> None:
        """Say why and close; in the midst of another answer, only close."""
        why = REFUSED[refusal.status]
        if self.cycle is not None and self.cycle.response_started != self.cycle.response_complete:
            self._drop(why)
            return
        self._count(why)
        response = refusal.response({"connection": "close"})
        head = [b"%s: %s\r\n" % pair for pair in response.raw_headers]
        said = [STATUS_LINE[refusal.status], *head, b"\r\n", response.body]
        self.transport.write(b"".join(said))
        self.transport.close()


class PortInUse(ReportedError):
    """The address cannot be listened on; the message says which and what to do."""


def allow_files(settings: GatewayConfig) -> None:
    """Each connection is a file, and each request has another to the engine; systems often allow
    1,024 unless more is asked for."""
    connections = settings.share(settings.max_connections)
    needed = connections + settings.share(settings.max_requests) + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        log.warning(
            "the limit of open files is %d, but %d connections may need %d: lower "
            "gateway.max_connections, or raise the limit (LimitNOFILE= under systemd)",
            allowed, connections, needed,
        )  # fmt: skip


def bind(host: str, port: int, otherwise: str = "--port or --host") -> socket.socket:
    """Return a socket that has the address; `otherwise` are the options that choose another. Who
    connects is refused until it listens: he would wait, and a balancer takes that for service.
    Raises PortInUse."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bound.family is socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise PortInUse(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another with {otherwise}"
        ) from None
    return bound


def listen(bound: socket.socket) -> None:
    """Raises PortInUse: somebody else who had the address as well was quicker."""
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        raise PortInUse(f"cannot listen on {own_url(bound)} ({error.strerror})") from None


def own_url(listener: socket.socket) -> str:
    """Where this machine reaches the daemon. One that listens everywhere listens on loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not listened on
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def favour_answers() -> None:
    """Let what else this process does hold up answers less: what is there by now is not looked at
    by the garbage collector any more, and a thread that computes, such as the recorder's, gives way
    after half a millisecond instead of five."""
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)


class Server(uvicorn.Server):
    """Leaves signals to us: uvicorn's own handlers end the process before the rest is stopped."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    async def main_loop(self) -> None:
        # uvicorn's looks ten times a second whether it is to end; headers have the time in seconds.
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._leaving.wait()

    def leave(self) -> None:
        """Answers under way end, and no other begins."""
        self.should_exit = True
        self._leaving.set()

    def cut(self) -> None:
        """The same for clients who wait: it goes on as if they had left. Not uvicorn's force_exit,
        which leaves requests and the application behind as they are."""
        self.leave()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server_for(config: Config, app: ASGIApp, metrics: Serving) -> Server:
    return Server(
        uvicorn.Config(
            app,
            http=ConnectionWatch(config.gateway, metrics).protocol(),
            ws="none",
            log_config=None,
            access_log=False,
            timeout_keep_alive=int(config.gateway.keep_alive.total_seconds()),
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=int(config.gateway.drain_timeout.total_seconds()),
        )
    )
