"""The engine, asked on a client's behalf: one pooled client, answers passed on as they come.

The only module of the gateway that knows which HTTP client is used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Self

import aiohttp
from starlette.types import Message, Send

from serve.gateway.counts import UpstreamError

RESPONSE_HEADERS = (
    "content-type",
    "content-length",
    "content-encoding",
    "cache-control",
    "retry-after",
    "x-accel-buffering",
    "x-request-id",
)
"""What a client is told of the engine's headers."""

IDLE_SECONDS = 2.0
"""Idle connections are given up well before vLLM does (5 s), so that none is used as it closes."""

HEALTH_SECONDS = 5.0


class EngineFailed(Exception):
    """The engine gave no answer, or only a part of one."""

    def __init__(self, kind: UpstreamError) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True)
class Reply:
    """The engine's answer: its head, and its bytes as they arrive."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]

    @property
    def media_type(self) -> str:
        """The content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Engine:
    """The pooled client, open within `async with`. No limit on connections: the engine keeps the
    queue, not we."""

    def __init__(self, url: str, api_key: str | None, connect_seconds: float) -> None:
        self._url = url.rstrip("/")
        # No encoding is asked for, so that bytes stay plain.
        self._headers = {"accept-encoding": "identity", "user-agent": "ttrl"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        # Reading has no time limit of its own, because a long prompt is silent for long: the
        # gateway's deadline is for the whole answer.
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_seconds)

    @asynccontextmanager
    async def ask(self, path: str, body: bytes, headers: Mapping[str, str]) -> AsyncIterator[Reply]:
        """The engine's answer, from its head on. Leaving the block before the answer is through
        closes the connection, and that ends the engine's work. Raises EngineFailed, also while
        the pieces are read."""
        try:
            # A file, because a long body of bytes would be written in one go.
            asked = self._session.post(
                self._url + path, data=BytesIO(body), headers=headers, allow_redirects=False
            )
            async with asked as response:
                yield Reply(response.status, response.headers, response.content.iter_any())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise EngineFailed(UpstreamError.UNREACHABLE) from error
        except aiohttp.ClientError as error:
            raise EngineFailed(UpstreamError.BROKE_OFF) from error

    async def healthy(self) -> bool:
        """Whether the engine says that it is well."""
        limit = aiohttp.ClientTimeout(total=HEALTH_SECONDS)
        asked = self._session.get(f"{self._url}/health", timeout=limit, allow_redirects=False)
        try:
            async with asked as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
            # What the engine tells one client must not reach another.
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()


async def relay(reply: Reply, send: Send, extra: Mapping[str, str]) -> None:
    """Sends an answer on, byte for byte, each piece as it arrives."""
    await send(head(reply, extra))
    async for piece in reply.pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def head(reply: Reply, extra: Mapping[str, str]) -> Message:
    """The status and the headers of an answer that is passed on."""
    passed = {name: reply.headers[name] for name in RESPONSE_HEADERS if name in reply.headers}
    told = {**passed, **extra}
    # As aiohttp decoded them, so that the bytes are the engine's.
    headers = [
        (name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in told.items()
    ]
    return {"type": "http.response.start", "status": reply.status, "headers": headers}
