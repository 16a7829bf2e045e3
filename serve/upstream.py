"""The engine, asked on a client's behalf: one pooled client, answers passed on as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Self

import httpx2
from starlette.types import Message, Send

from serve.counts import UpstreamError

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


class Engine:
    """The pooled client. No limit on connections: the engine keeps the queue, not we."""

    def __init__(self, url: str, api_key: str | None, connect_seconds: float) -> None:
        # No encoding is asked for, so that bytes stay plain; reading has no time limit of its own,
        # because a long prompt is silent for long: the gateway's deadline is for the whole answer.
        headers = {"accept-encoding": "identity", "user-agent": "ttrl"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._client = httpx2.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=httpx2.Timeout(None, connect=connect_seconds),
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=256, keepalive_expiry=IDLE_SECONDS
            ),
            trust_env=False,
        )

    @asynccontextmanager
    async def ask(
        self, path: str, body: bytes, headers: Mapping[str, str]
    ) -> AsyncIterator[httpx2.Response]:
        """The engine's answer, from its head on. Leaving the block before the answer is through
        closes the connection, and that ends the engine's work. Raises httpx2.HTTPError."""
        async with self._client.stream("POST", path, content=body, headers=headers) as response:
            yield response

    async def healthy(self) -> bool:
        """Whether the engine says that it is well."""
        try:
            response = await self._client.get("/health", timeout=HEALTH_SECONDS)
        except httpx2.HTTPError:
            return False
        return response.status_code == 200

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()


async def relay(response: httpx2.Response, send: Send, extra: Mapping[str, str]) -> None:
    """Sends an answer on, byte for byte, each piece as it arrives."""
    await send(head(response, extra))
    async for piece in response.aiter_raw():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def head(response: httpx2.Response, extra: Mapping[str, str]) -> Message:
    """The status and the headers of an answer that is passed on."""
    passed = {name: response.headers[name] for name in RESPONSE_HEADERS if name in response.headers}
    headers = [
        (name.encode(), value.encode("latin-1")) for name, value in {**passed, **extra}.items()
    ]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}


def media_type(response: httpx2.Response) -> str:
    """The content type without its parameters."""
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def failure(error: TimeoutError | httpx2.HTTPError) -> UpstreamError:
    """What it means that the engine gave no answer."""
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return UpstreamError.UNREACHABLE
    return UpstreamError.TIMED_OUT if isinstance(error, TimeoutError) else UpstreamError.BROKE_OFF
