"""A stand-in for the engine: answers what a test tells it to, and remembers what it was asked.

Nothing in it sleeps: a test opens its gates, and waits for its events with a deadline.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.gateway.server import ConnectionWatch

DEADLINE = 10.0
"""How long a test waits for what must happen."""

Behaviour = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class Gate:
    """Closed until a test opens it, from any thread."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        while not self._open.is_set():  # noqa: ASYNC110 - opened from a test's thread
            await asyncio.sleep(0.002)


@dataclass(frozen=True)
class Received:
    """What the engine was asked."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Standin:
    """`behave` answers every POST; `aborted` is set when a client has gone before its answer's
    end, `arrived` when a request has come."""

    behave: Behaviour
    received: list[Received] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    aborted: threading.Event = field(default_factory=threading.Event)
    healthy: bool = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            body = await request.json()
        except ClientDisconnect:
            return
        self.received.append(Received(scope["path"], dict(request.headers), body))
        self.arrived.set()
        answering = asyncio.ensure_future(self.behave(body, receive, send))
        leaving = asyncio.ensure_future(_hung_up(receive))
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            self.aborted.set()
        answering.cancel()
        leaving.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)

    def app(self) -> Starlette:
        async def health(_: Request) -> PlainTextResponse:
            return PlainTextResponse("", status_code=200 if self.healthy else 503)

        return Starlette(
            routes=[Route("/health", health), Route("/{path:path}", self, methods=["POST"])]
        )


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def answer_id(body: dict[str, Any]) -> str:
    """An answer's id is of its request's seed, so that a test can choose it."""
    return f"chatcmpl-{body.get('seed', 1)}"


def completion(body: dict[str, Any], text: str = "4") -> dict[str, Any]:
    """A chat answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {
        "id": answer_id(body),
        "object": "chat.completion",
        "created": 1,
        "model": body.get("model"),
        "choices": [choice],
        "usage": usage,
    }


def event(body: dict[str, Any], text: str) -> bytes:
    """One server-sent piece of a chat answer."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {
        "id": answer_id(body),
        "object": "chat.completion.chunk",
        "created": 1,
        "model": body.get("model"),
        "choices": [choice],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def head(send: Send, status: int, media_type: str) -> None:
    headers = [(b"content-type", media_type.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


def at_once(text: str = "4") -> Behaviour:
    """Answers in full; streams if asked to."""

    async def behave(body: dict[str, Any], receive: Receive, send: Send) -> None:
        if body.get("stream"):
            await streaming([text])(body, receive, send)
        else:
            response = JSONResponse(completion(body, text))
            await response({"type": "http"}, receive, send)

    return behave


def streaming(texts: Sequence[str], gates: Sequence[Gate] = ()) -> Behaviour:
    """Streams the texts; before the second and each later one (and the end) waits at its gate."""

    async def behave(body: dict[str, Any], receive: Receive, send: Send) -> None:
        await head(send, 200, "text/event-stream; charset=utf-8")
        pieces = [*(event(body, text) for text in texts), b"data: [DONE]\n\n"]
        for index, piece in enumerate(pieces):
            if 0 < index <= len(gates):
                await gates[index - 1].passed()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return behave


def dying_after(texts: Sequence[str]) -> Behaviour:
    """Streams the texts and then cuts the connection."""

    async def behave(body: dict[str, Any], receive: Receive, send: Send) -> None:
        await head(send, 200, "text/event-stream")
        for text in texts:
            message = {"type": "http.response.body", "body": event(body, text), "more_body": True}
            await send(message)

    return behave


def saying(status: int, content: bytes, media_type: str) -> Behaviour:
    """Says this, whatever it is."""

    async def behave(body: dict[str, Any], receive: Receive, send: Send) -> None:
        await head(send, status, media_type)
        await send({"type": "http.response.body", "body": content})

    return behave


async def hanging(body: dict[str, Any], receive: Receive, send: Send) -> None:
    """Never answers."""
    await asyncio.Event().wait()


async def echoing(body: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answers with the question itself, streamed if asked to."""
    await at_once(body["messages"][-1]["content"])(body, receive, send)


@contextmanager
def serving(app: ASGIApp, watch: ConnectionWatch | None = None) -> Iterator[str]:
    """Runs an ASGI app on a free loopback port, in a thread with a loop of its own: its URL."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(
        app,
        http=watch.protocol() if watch else "auto",
        ws="none",
        log_level="critical",
        timeout_graceful_shutdown=1,
    )
    server = Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        assert server.up.wait(DEADLINE), "the server did not start"
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.end()
        thread.join(DEADLINE)
        listening.close()
        assert not thread.is_alive(), "the server did not end"


class Server(uvicorn.Server):
    """Says when it listens, and ends at once: uvicorn's looks every 0.1 s whether it is to end, and
    takes as long again, which hundreds of tests would wait for."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()
        self._over = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._over.wait()

    def end(self) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._over.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn sets no event
                    await asyncio.sleep(0.001)
        for task in state.tasks:
            task.cancel()
        await self.lifespan.shutdown()


@contextmanager
def hanging_up() -> Iterator[str]:
    """An engine that hangs up on everybody before it says anything: its URL."""
    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            connection.recv(65536)
            connection.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(DEADLINE)


def free_port() -> int:
    """A loopback port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
