"""Clients that are slow, silent, endless or many: each costs little, and the others are served."""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.types import Receive, Send

from serve.gateway import admission
from serve.gateway.server import Phase, overdue
from tests.house import House, asking, house, until
from tests.standin import DEADLINE, event, head, streaming
from ttrl.config import GatewayConfig

CHAT = "/v1/chat/completions"
QUICK = {"head_timeout": 0.3, "stall": 0.4}
PACE = 0.02
"""Seconds between the bytes of a slow client: none of its pauses is as long as any bound."""
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
BODY = json.dumps({"messages": asking(), "stream": True}).encode()
ASK = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n".encode()


@pytest.mark.parametrize(
    ("phase", "seconds", "still", "why"),
    [
        (Phase.HEAD, 10.0, 0.0, None),
        (Phase.HEAD, 10.1, 0.0, "head_slow"),
        (Phase.REST, 10.0, 0.0, None),
        (Phase.REST, 10.1, 0.0, "body_slow"),
        (Phase.ANSWER, 3600.0, 0.0, None),
        (Phase.ANSWER, 3600.0, 60.0, None),
        (Phase.ANSWER, 3600.0, 60.1, "stalled"),
        (Phase.IDLE, 3600.0, 0.0, None),
        (Phase.IDLE, 1.0, 60.1, "stalled"),
        (Phase.CLOSING, 3600.0, 60.0, None),
        (Phase.CLOSING, 1.0, 60.1, "stalled"),
    ],
)
def test_when_a_connection_is_closed(
    phase: Phase, seconds: float, still: float, why: str | None
) -> None:
    assert overdue(phase, seconds, still, GatewayConfig()) == why


@pytest.fixture(scope="module")
def running() -> Iterator[House]:
    with house(gateway=QUICK, body_seconds=0.3) as started:
        yield started


@pytest.fixture
def home(running: House) -> Iterator[House]:
    running.clear()
    yield running
    running.clear()
    with running.http() as client:
        assert client.post(CHAT, json={"messages": asking()}).status_code == 200
    until(lambda: running.tally.open == 0, "all connections are gone")


@contextmanager
def connected(home: House, **more: Any) -> Iterator[socket.socket]:
    address = urlsplit(home.url)
    place = (address.hostname, address.port)
    with socket.create_connection(place, timeout=DEADLINE, **more) as connection:
        yield connection


def trickle(connection: socket.socket, more: Iterator[bytes], pace: float = PACE) -> bytes:
    """Sends piece after piece, slowly, until the server has closed: what it said."""
    said = b""
    connection.settimeout(pace)
    try:
        for piece in more:
            connection.sendall(piece)
            try:
                got = connection.recv(65536)
            except TimeoutError:
                continue
            if not got:
                break
            said += got
    except ConnectionError:
        pass  # closed while we sent
    return said


def each_byte(whole: bytes) -> Iterator[bytes]:
    return (bytes([byte]) for byte in whole)


def drops(first: bytes, rest: bytes = b"x") -> Iterator[bytes]:
    return itertools.chain([first], itertools.repeat(rest))


@pytest.mark.fault(
    "a client connects and says nothing, or sends a request a byte at a time",
    sees="others nothing; it is cut off after gateway.head_timeout, with a 408 if it had begun",
    keeps="everything",
)
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (each_byte(ASK), b"408"),
        (drops(ASK, b"x"), b"408"),
        (drops(ASK, b"x: y\r\n"), b"408"),
        (itertools.chain([HEALTH], each_byte(ASK)), b"408"),
        (drops(HEALTH + b"POST /", b"x"), b"408"),
    ],
    ids=["all of it", "a name", "headers", "a second request", "its beginning with the first"],
)
def test_a_head_that_trickles(home: House, sent: Iterator[bytes], status: bytes) -> None:
    with connected(home) as connection:
        said = trickle(connection, sent)
    last = said[said.rindex(b"HTTP/1.1 ") :]
    assert last.split(b" ")[1] == status
    assert b'"type":"invalid_request_error"' in last
    assert home.tally.closures == {"head_slow": 1}
    assert home.engine.received == []


@pytest.mark.parametrize("sent", [drops(b"\r\n", b"\r\n"), drops(HEALTH, b"\r\n")])
def test_empty_lines_without_end(home: House, sent: Iterator[bytes]) -> None:
    with connected(home) as connection:
        trickle(connection, sent)
    assert home.tally.closures == {"head_slow": 1}


def test_nothing_at_all(home: House) -> None:
    with connected(home) as connection:
        assert connection.recv(1) == b""
    assert home.tally.closures == {"head_slow": 1}


def test_a_body_that_trickles(home: House) -> None:
    with connected(home) as connection:
        said = trickle(connection, drops(ASK + b"content-length: 5000\r\n\r\n{", b" "))
    assert said.startswith(b"HTTP/1.1 408 ")
    home.settle()
    assert home.tally.requests == {"4xx": 1}


def test_chunks_that_trickle(home: House) -> None:
    with connected(home) as connection:
        sent = drops(ASK + b"transfer-encoding: chunked\r\n\r\n1;", b"x")
        said = trickle(connection, sent)
    assert said.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5000\r\n\r\n",
        b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5000\r\n\r\n",
        ASK.replace(b"json", b"text") + b"content-length: 5000\r\n\r\n",
    ],
)
def test_a_body_that_trickles_where_nobody_reads_it(home: House, sent: bytes) -> None:
    with connected(home) as connection:
        assert trickle(connection, drops(sent)).startswith(b"HTTP/1.1 ")
    assert home.tally.closures == {"body_slow": 1}


def test_silence_after_the_rest_of_a_body(home: House) -> None:
    with connected(home) as connection:
        connection.sendall(HEALTH[:-2] + b"content-length: 5\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"12345")
        assert connection.recv(1) == b""
    assert home.tally.closures == {"head_slow": 1}


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        (ASK + b"x: ", b"a" * 10_000),
        (b"", b"A" * 10_000),
        (b"GET /", b"a" * 10_000),
        (ASK, b"x: y\r\n" * 1000),
        (ASK + b"x", b"y" * 10_000),
        (ASK + b"transfer-encoding: chunked\r\n\r\n1;", b"x" * 10_000),
        (ASK + b"transfer-encoding: chunked\r\n\r\n0\r\nx: ", b"y" * 10_000),
        (ASK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 1000),
    ],
    ids=[
        "a line",
        "a method",
        "a path",
        "lines",
        "a name",
        "an extension",
        "a trailer",
        "trailers",
    ],
)
def test_what_has_no_end_is_not_kept(home: House, first: bytes, rest: bytes) -> None:
    with connected(home) as connection:
        said = trickle(connection, drops(first, rest), pace=0.001)
    assert said[:13] in (b"HTTP/1.1 431 ", b"HTTP/1.1 400 ", b""), "cut off while it sends"
    until(lambda: sum(home.tally.closures.values()) == 1, "it is counted")
    assert set(home.tally.closures) <= {"head_long", "malformed"}
    assert home.engine.received == []


@pytest.mark.parametrize("line", [b"x: " + b"a" * 70_000, b"\r\n".join([b"x: y"] * 12_000)])
def test_a_head_that_is_whole_and_too_long(home: House, line: bytes) -> None:
    with connected(home) as connection:
        connection.sendall(ASK + line + b"\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 431 ")
    assert home.tally.closures == {"head_long": 1}


def test_a_long_head_within_bounds_is_fine(home: House) -> None:
    with connected(home) as connection:
        connection.sendall(HEALTH[:-2] + b"x: " + b"a" * 60_000 + b"\r\nconnection: close\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert not home.tally.closures


class Torrent:
    """Streams without end, as fast as it is let."""

    def __init__(self) -> None:
        self.pieces = 0

    async def __call__(self, body: dict[str, Any], receive: Receive, send: Send) -> None:
        await head(send, 200, "text/event-stream")
        while True:
            piece = event(body, "x" * 60_000)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            self.pieces += 1
            await asyncio.sleep(0)  # once its client is gone, sending waits for nothing


def narrow(connection: socket.socket) -> None:
    """As little as possible waits on our side."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


@pytest.mark.fault(
    "a client asks and does not read its answer",
    sees="others nothing; it is cut off after gateway.stall, and the engine's work for it ends",
    keeps="what was recorded; its question is not",
)
def test_a_reader_that_takes_nothing(home: House) -> None:
    home.engine.behave = torrent = Torrent()
    with connected(home) as connection:
        narrow(connection)
        connection.sendall(ASK + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)
        until(lambda: home.tally.closures, "it is cut off")
        assert home.engine.aborted.wait(DEADLINE)
    assert home.tally.closures == {"stalled": 1}
    assert torrent.pieces * 60_000 < 64 * 2**20, "the engine was held back"
    assert home.texts() == []
    assert home.tally.requests == {"4xx": 1}


def test_a_reader_that_takes_little_at_a_time_gets_everything(home: House) -> None:
    count = 300
    home.engine.behave = streaming(["x" * 60_000] * count)
    pause = threading.Event()
    with connected(home) as connection:
        narrow(connection)
        closing = b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY)
        connection.sendall(ASK + closing + BODY)
        got = 0
        for _ in range(100):  # several times as long as a stall
            pause.wait(PACE)
            got += len(connection.recv(16384))
        assert home.tally.under_way == 1
        rest = b"".join(iter(lambda: connection.recv(2**20), b""))
    assert got + len(rest) > count * 60_000
    assert rest.endswith(b"0\r\n\r\n")
    assert len(home.texts()) == 1
    assert not home.tally.closures


@contextmanager
def many(home: House, count: int) -> Iterator[list[socket.socket]]:
    """Connections that say nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * count + 500, hard), hard))
    try:
        with ExitStack() as stack:
            yield [stack.enter_context(connected(home)) for _ in range(count)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.fault(
    "as many bodies trickle in as the daemon takes requests",
    sees="nothing: one that has been coming for more than a second makes room, with a 408",
    keeps="everything",
)
def test_bodies_that_trickle_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "SLOW_SECONDS", 0.0)
    with house(gateway={"max_requests": 3}) as home, many(home, 3) as slow, home.http() as client:
        for each in slow:
            each.sendall(ASK + b"content-length: 5000\r\n\r\n{")
        until(lambda: home.tally.under_way == 3, "there is no room")
        assert client.post(CHAT, json={"messages": asking()}).status_code == 200
        (shed,), _, _ = select.select(slow, [], [], DEADLINE)
        assert shed.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert home.tally.away == {"overloaded": 1}


@pytest.mark.fault(
    "thousands of connections are held open in silence",
    sees="nothing",
    keeps="everything",
)
def test_two_thousand_idle_connections_and_one_that_asks() -> None:
    with house() as home, many(home, 2000), home.client() as client:
        until(lambda: home.tally.open == 2000, "all are there")
        for _ in range(5):
            answer = client.chat.completions.create(model="demo", messages=asking())
            assert answer.choices[0].message.content == "4"
        assert not home.tally.closures


def test_when_there_are_too_many_the_longest_silent_one_goes() -> None:
    with house(gateway={"max_connections": 50, "max_requests": 49}) as home, home.http() as client:
        home.engine.behave = Torrent()
        with client.stream("POST", CHAT, json={"messages": asking(), "stream": True}) as answer:
            pieces = answer.iter_raw()
            next(pieces)
            with many(home, 100) as silent:
                until(lambda: home.tally.closures["crowded"] == 51, "some had to go")
                assert [each.recv(1) for each in silent[:51]] == [b""] * 51
                silent[-1].sendall(HEALTH)
                assert silent[-1].recv(4096).startswith(b"HTTP/1.1 200 "), "a new one is served"
                next(pieces)
        assert home.tally.closures == {"crowded": 51}
