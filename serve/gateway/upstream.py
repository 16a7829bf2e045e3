"""Connections to the engine: one request at a time on each, kept for a next one for a moment.

A client library's sessions, timers and header tables cost more than all else that the gateway does
for an answer: this is HTTP/1.1 for one host, parsed by httptools.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from urllib.parse import urlsplit

import httptools

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 2.0
"""Idle connections are given up well before vLLM does (5 s), so that none is used as it closes."""
HEAD_BYTES = 64 * 1024
AHEAD_BYTES = 256 * 1024
"""Of an answer at most that are here before they are taken: then the engine waits."""


class Unreachable(Exception):
    """No connection to the engine could be made."""


class BrokeOff(Exception):
    """The engine closed the connection before its answer ended, or what it says is no HTTP."""


class Upstream:
    """The engine at `url`. There is no limit on connections: the engine keeps the queue, not we."""

    def __init__(self, url: str, key: str | None) -> None:
        there = urlsplit(url)
        self._host, self._path = there.hostname or "", there.path.rstrip("/")
        self._port = there.port or (443 if there.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if there.scheme == "https" else None
        # No encoding is asked for, so that bytes stay plain.
        head = f"host: {there.netloc}\r\nuser-agent: ttrl\r\naccept-encoding: identity\r\n"
        if key:
            head += f"authorization: Bearer {key}\r\n"
        self._head = f"{head}content-type: application/json\r\n".encode()
        self.idle: dict[Reply, float] = {}
        """Those that wait for a request, and since when, the longest first."""
        self._sweep: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def ask(self, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Reply:
        """Post a body; return when the head of the answer is there. Raises Unreachable, BrokeOff.
        Who leaves before the end of the answer closes the connection, which ends the engine's
        work."""
        if self.idle:
            reply, _ = self.idle.popitem()
        else:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    _, reply = await self._loop.create_connection(
                        lambda: Reply(self), self._host, self._port, ssl=self._tls
                    )
            except OSError as error:  # a TimeoutError is one
                raise Unreachable from error
        passed = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        target = (self._path + path).encode()
        reply.send(
            b"POST %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n"
            % (target, self._head, passed, len(body)),
            body,
        )
        try:
            await reply.head()
        except BaseException:
            reply.leave()
            raise
        return reply

    def keep(self, reply: Reply) -> None:
        self.idle[reply] = self._loop.time()
        if self._sweep is None:
            self._sweep = self._loop.call_later(IDLE_SECONDS, self._close_idle)

    async def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        for reply in list(self.idle):
            reply.leave()
        await asyncio.sleep(0)  # in which the loop closes them

    def _close_idle(self) -> None:
        self._sweep, now = None, self._loop.time()
        for reply, since in list(self.idle.items()):
            if since + IDLE_SECONDS > now:
                self._sweep = self._loop.call_at(since + IDLE_SECONDS, self._close_idle)
                return
            reply.leave()


class Reply(asyncio.Protocol):
    """A connection, and the answer that comes on it. `headers` have names in lower case, and the
    first of several values."""

    status: int
    headers: dict[bytes, bytes]

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._pieces: deque[bytes] = deque()
        self._asked = self._begun = self.ended = self._again = self._paused = False

    def send(self, head: bytes, body: bytes) -> None:
        self._asked, self._begun, self.ended, self._again = True, False, False, False
        self._size = self._ahead = 0
        self._parser = httptools.HttpResponseParser(self)
        self._transport.writelines([head, body])

    async def head(self) -> None:
        """Wait for status and headers. Raises BrokeOff."""
        while not self._begun:
            await self._more()

    async def piece(self) -> bytes:
        """Return what came since the last time; b"" at the end. Raises BrokeOff."""
        while not self._pieces:
            if self.ended:
                return b""
            await self._more()
        piece = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._ahead = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return piece

    def leave(self) -> None:
        """Have done with this answer: its connection is kept for a next one if it can be."""
        whole = self.ended and not self._pieces and not self._transport.get_write_buffer_size()
        if whole and self._asked and self._again and self._error is None:
            self._asked = False
            self._upstream.keep(self)
            return
        self._upstream.idle.pop(self, None)
        self._transport.abort()

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._upstream._loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self) -> None:
        self._error = self._error or BrokeOff()
        self._upstream.idle.pop(self, None)
        self._transport.abort()
        self._wake()

    # What the transport says.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail()
        if not self._begun and self._size > HEAD_BYTES:
            self._fail()
        self._wake()

    def eof_received(self) -> None:
        # An answer may end where the connection does, if nothing says otherwise.
        if self._begun and self._to_the_end:
            self.ended = True
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail()

    # What the parser says.

    def on_message_begin(self) -> None:
        if self.ended or not self._asked:  # what nobody asked for must reach nobody
            raise ValueError
        self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._begun:  # else it is behind a body
            self.headers.setdefault(name.lower(), value.strip())

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._begun = self.status >= 200
        framed = b"content-length" in self.headers or b"transfer-encoding" in self.headers
        self._to_the_end = not framed

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._ahead += len(body)
        if self._ahead > AHEAD_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        self.ended = self._begun
        self._again = self._parser.should_keep_alive()
