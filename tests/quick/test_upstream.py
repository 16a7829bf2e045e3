"""Answers of an engine, byte by byte: what is one whole answer, what is none, and whether the
connection is used again."""

from __future__ import annotations

import asyncio

import pytest

from serve.gateway.upstream import AHEAD_BYTES, HEAD_BYTES, BrokeOff, Reply, Unreachable, Upstream
from tests.standin import DEADLINE, free_port

OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"content-type: application/json\r\n"
LENGTH = OK + JSON + b"content-length: 4\r\n\r\n"
CHUNKED = OK + JSON + b"transfer-encoding: chunked\r\n\r\n"
WHOLE = (200, b"four")
LOST = (200, None)
NONE = (None, None)
"""Status and body; None where there is none, or no whole one."""


async def told(upstream: Upstream) -> tuple[int | None, bytes | None]:
    """Ask, and return status and body."""
    try:
        reply = await upstream.ask("/v1/x", [], b"{}")
    except BrokeOff:
        return NONE
    try:
        body = b""
        while not reply.ended or reply._pieces:
            body += await reply.piece()
        return reply.status, body
    except BrokeOff:
        return reply.status, None
    finally:
        reply.leave()


async def asked_twice(said: bytes, closes: bool, step: int) -> tuple[list[object], int]:
    """An engine says this to every request, so many bytes at a time; return what became of two
    requests, and how many connections they took."""
    connections = 0

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while await reader.readuntil(b"{}"):
                for start in range(0, len(said), step):
                    writer.write(said[start : start + step])
                    await writer.drain()
                    await asyncio.sleep(0)
                if closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(engine, "127.0.0.1", 0)
    async with server, asyncio.timeout(DEADLINE):
        upstream = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", None)
        found: list[object] = [await told(upstream) for _ in range(2)]
        await upstream.close()
        return found, connections


@pytest.mark.parametrize("step", [1, 1 << 20], ids=["bytes", "at once"])
@pytest.mark.parametrize(
    ("said", "closes", "found", "again"),
    [
        (LENGTH + b"four", False, WHOLE, True),
        (CHUNKED + b"2\r\nfo\r\n2\r\nur\r\n0\r\n\r\n", False, WHOLE, True),
        (CHUNKED + b"4\r\nfour\r\n0\r\ncontent-type: text/html\r\n\r\n", False, WHOLE, True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH + b"four", False, WHOLE, True),
        (OK + b"connection: close\r\ncontent-length: 4\r\n\r\nfour", False, WHOLE, False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nfour", False, WHOLE, False),
        (OK + JSON + b"\r\nfour", True, WHOLE, False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, (204, b""), True),
        (LENGTH + b"fou", True, LOST, False),
        (CHUNKED + b"4\r\nfour\r\n", True, LOST, False),
        (CHUNKED + b"4\r\nfour\r\nno number", False, LOST, False),
        (LENGTH[:20], True, NONE, False),
        (b"", True, NONE, False),
        (b"hello\r\n\r\n", False, NONE, False),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", False,
         NONE, False),
        (OK + b"content-length: 4\r\ncontent-length: 4\r\n\r\nfour", False, NONE, False),
        (OK + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\nfour", False, NONE, False),
        (OK + b"x: " + b"y" * HEAD_BYTES, False, NONE, False),
    ],
)  # fmt: skip
def test_one_answer_or_none(
    said: bytes, closes: bool, found: object, again: bool, step: int
) -> None:
    if step == 1 and len(said) > HEAD_BYTES:
        step = HEAD_BYTES // 4
    assert asyncio.run(asked_twice(said, closes, step)) == ([found, found], 1 if again else 2)


def test_an_answer_that_nobody_asked_for_reaches_nobody() -> None:
    said = LENGTH + b"four" + OK + b"content-length: 3\r\n\r\nyou"
    assert asyncio.run(asked_twice(said, False, len(said))) == ([WHOLE, WHOLE], 2)


def test_what_nobody_takes_keeps_the_engine_waiting() -> None:
    size = 64 * AHEAD_BYTES

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(OK + b"content-length: %d\r\n\r\n" % size + bytes(size))
        writer.close()

    async def ask() -> tuple[int, int]:
        server = await asyncio.start_server(engine, "127.0.0.1", 0)
        async with server, asyncio.timeout(DEADLINE):
            upstream = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", None)
            reply = await upstream.ask("/v1/x", [], b"{}")
            while not reply._paused:  # noqa: ASYNC110 - data comes meanwhile
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            held, taken = sum(map(len, reply._pieces)), 0
            while not reply.ended or reply._pieces:
                taken += len(await reply.piece())
            reply.leave()
            return held, taken

    held, taken = asyncio.run(ask())
    assert held < 4 * AHEAD_BYTES
    assert taken == size


def test_nobody_there() -> None:
    async def ask() -> Reply:
        return await Upstream(f"http://127.0.0.1:{free_port()}", None).ask("/v1/x", [], b"{}")

    with pytest.raises(Unreachable):
        asyncio.run(ask())
