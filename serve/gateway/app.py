"""The gateway: OpenAI's protocol in front, the engine behind, the live adapter in between.

Answers pass byte for byte, each piece as it comes; the one thing rewritten is `model`. Questions
are recorded after their answers have gone out. Only listed routes are forwarded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, TypeVar

import aiohttp
from starlette import routing
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from serve.gateway.admission import RETRY_AFTER_SECONDS, Admission, names
from serve.gateway.counts import Counts, UpstreamError
from serve.gateway.keys import Key, KeyFile, client
from serve.gateway.live import BASE, Live, Route
from serve.gateway.recorder import Recorder
from serve.gateway.request import (
    HANDLERS,
    ClientGone,
    Refused,
    Unexpected,
    check,
    check_messages,
    for_engine,
    parse,
    read,
)
from ttrl.config import Config
from ttrl.questions.question import Unlearnable, from_request

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
REQUEST_HEADERS = ("accept", "anthropic-version", "traceparent", "tracestate", "x-request-id")
"""What the engine is told of a client's headers: not the client's key, nothing of X-Vllm-*, which
would set priorities, and no Accept-Encoding."""
RESPONSE_HEADERS = (
    "content-type", "content-length", "content-encoding", "cache-control", "retry-after",
    "x-accel-buffering", "x-request-id",
)  # fmt: skip
"""What a client is told of the engine's headers."""
ADAPTER_HEADER = "x-ttrl-adapter"
NO_LEARN_HEADER = "x-ttrl-no-learn"
FALSE = frozenset({"", "0", "false", "no", "off"})
CLIENT_LEFT = 499
"""nginx's status for a client that hung up; counted, never sent."""
DONE = b"data: [DONE]"
FAILURES = {
    UpstreamError.UNREACHABLE: (503, "The engine cannot be reached."),
    UpstreamError.BROKE_OFF: (502, "The engine closed the connection without an answer."),
    UpstreamError.TIMED_OUT: (504, "The engine took too long to answer."),
}
ANSWERS = frozenset({"application/json", "text/event-stream"})
"""The media types of answers to a chat request."""
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 2.0
"""Idle connections are given up well before vLLM does (5 s), so that none is used as it closes."""
HEALTH_SECONDS = 5.0
T = TypeVar("T")


def app(
    config: Config,
    engine_url: str,
    live: Live,
    recorder: Recorder,
    *,
    keys: KeyFile | None = None,
    counts: Counts | None = None,
    ready: Callable[[], Awaitable[bool]] | None = None,
    more: Mapping[str, Callable[[Request], Awaitable[Response]]] | None = None,
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    body_seconds: float = 60.0,
    deadline_seconds: float = 3600.0,
) -> Starlette:
    """Make the ASGI application. `keys` are those who may ask; None is everybody who asks for a
    name of this machine. `ready` says whether users can be served (by default, what the engine's
    /health says); `more` are further GET routes; `lifespan` is entered for as long as the server
    runs. A request's body must arrive within `body_seconds`, a whole answer, from request to last
    byte, within `deadline_seconds`. If there are keys, all routes need one but /healthz and
    /readyz."""
    engine = Engine(engine_url, config.engine.api_key)
    counts = counts or Counts()
    hosts = names(config.gateway.host, *config.gateway.hosts)
    admission = Admission(keys, config.gateway.max_requests, counts, hosts=hosts)

    def cards() -> list[dict[str, object]]:
        """What clients may ask for, in OpenAI's shape: the stable names, no adapters."""
        length = {} if live.max_model_len is None else {"max_model_len": live.max_model_len}
        return [
            {"id": name, "object": "model", "created": live.since, "owned_by": "ttrl", **length}
            for name in live.served_names
        ]

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": cards()})

    async def model(request: Request) -> Response:
        for card in cards():
            if card["id"] == request.path_params["model"]:
                return JSONResponse(card)
        raise no_such_model()

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_: Request) -> Response:
        if await (ready or engine.healthy)():
            return PlainTextResponse("ok")
        raise Refused(503, "The engine is not ready.", code="not_ready")

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        async with engine.connected(), lifespan():
            yield

    forward = partial(
        Forwarded,
        config=config,
        live=live,
        engine=engine,
        recorder=recorder,
        counts=counts,
        admission=admission,
        body_seconds=body_seconds,
        deadline_seconds=deadline_seconds,
    )
    forwarded = [
        routing.Route(path, forward(path), methods=["POST"])
        for path in dict.fromkeys((CHAT, COMPLETIONS, *config.gateway.routes))
    ]
    ours = {"/v1/models": models, "/v1/models/{model:path}": model, **(more or {})}
    starlette = Starlette(
        routes=[
            *forwarded,
            *(routing.Route(path, admission.handler(page)) for path, page in ours.items()),
            routing.Route("/healthz", healthz),
            routing.Route("/readyz", readyz),
        ],
        middleware=[Middleware(Unexpected)],
        exception_handlers=HANDLERS,
        lifespan=running,
    )
    starlette.router.redirect_slashes = False
    return starlette


def no_such_model() -> Refused:
    message = "The model does not exist; GET /v1/models lists the models."
    return Refused(404, message, param="model", code="model_not_found")


class Answer:
    """`send`, remembering what was sent and when. `complete` once the client has all of the answer:
    its last byte, or the mark that ends a stream, after which clients hang up."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._began = time.perf_counter()
        self.begun = False
        self.complete = False
        self.status = 500
        self.first_byte: float | None = None

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            self.status = message["status"]
        else:
            self.first_byte = self.first_byte or self.seconds
            ended = not message.get("more_body") or message["body"].rstrip().endswith(DONE)
            self.complete = self.complete or ended
        await self._send(message)


@dataclass(frozen=True)
class Forwarded:
    """An ASGI application that answers one route. The engine is asked at `path`, whatever the
    client wrote in its URL."""

    path: str
    config: Config
    live: Live
    engine: Engine
    recorder: Recorder
    counts: Counts
    admission: Admission
    body_seconds: float
    deadline_seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(send)
        self.counts.in_flight(1)
        try:
            headers = Headers(scope=scope)
            with self.admission.admitted(headers) as key:
                await self._serve(headers, key, receive, answer)
        except Refused as refused:
            extra = {ADAPTER_HEADER: self.live.current.version, **(refused.headers or {})}
            await refused.response(extra)(scope, receive, answer)
        except ClientGone:
            answer.status = CLIENT_LEFT
            self.counts.aborted()
        finally:
            self.counts.request(answer.status, answer.seconds, answer.first_byte)
            self.counts.in_flight(-1)

    async def _serve(
        self, headers: Headers, key: Key | None, receive: Receive, answer: Answer
    ) -> None:
        gateway = self.config.gateway
        body = await read(headers, receive, limit=gateway.max_body, seconds=self.body_seconds)
        asked = parse(body)
        check(asked, max_n=gateway.max_n)
        if self.path == CHAT:
            check_messages(asked)
        route = self.live.route(asked.get("model"))
        if route is None:
            raise no_such_model()
        passed = {"content-type": "application/json"}
        passed |= {name: headers[name] for name in REQUEST_HEADERS if name in headers}
        reason: Unlearnable | None = Unlearnable.INCOMPLETE
        try:
            reason = await unless_gone(receive, self._answer(asked, route, passed, answer), answer)
        finally:
            self._record(asked, headers, key, reason)

    async def _answer(
        self, asked: dict[str, Any], route: Route, headers: Mapping[str, str], answer: Answer
    ) -> Unlearnable | None:
        """Answer the client. Why the question is not for learning, if so. Raises Refused when the
        engine gives no answer."""
        kind = UpstreamError.UNREACHABLE
        if self.live.open:
            try:
                async with asyncio.timeout(self.deadline_seconds):
                    return await self._ask(asked, route, headers, answer)
            except TimeoutError:
                kind = UpstreamError.TIMED_OUT
            except EngineFailed as failed:
                kind = failed.kind
        status, message = FAILURES[kind]
        if answer.begun:
            # The answer is left without an end: the server closes the connection, and the client
            # sees that it was cut. It is counted as what it would have got a moment earlier.
            timed_out = kind is UpstreamError.TIMED_OUT
            self.counts.upstream_error(kind if timed_out else UpstreamError.CUT)
            answer.status = status
            return Unlearnable.INCOMPLETE
        self.counts.upstream_error(kind)
        extra = {ADAPTER_HEADER: route.version, "retry-after": str(RETRY_AFTER_SECONDS)}
        raise Refused(status, message, code=kind, headers=extra)

    async def _ask(
        self, asked: dict[str, Any], route: Route, headers: Mapping[str, str], answer: Answer
    ) -> Unlearnable | None:
        body = for_engine(asked, route.model)
        with self.live.hold(route.version):
            async with self.engine.ask(self.path, body, headers) as reply:
                if reply.status != 404 or route.version == BASE:
                    return await self._pass_on(reply, route.version, answer)
        # An engine that was restarted has forgotten its adapters. Until it has them again, the base
        # answers.
        self.counts.upstream_error(UpstreamError.ADAPTER_MISSING)
        return await self._ask(asked, self.live.base, headers, answer)

    async def _pass_on(
        self, reply: aiohttp.ClientResponse, version: str, answer: Answer
    ) -> Unlearnable | None:
        """Send an answer on, byte for byte, each piece as it arrives."""
        status, content_type = reply.status, reply.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        extra = {ADAPTER_HEADER: version}
        if status >= 300 and media_type != "application/json":
            self.counts.upstream_error(UpstreamError.NOT_JSON)
            message = "The engine answered with an error that is not JSON."
            raise Refused(max(status, 400), message, code=UpstreamError.NOT_JSON, headers=extra)
        passed = {name: reply.headers[name] for name in RESPONSE_HEADERS if name in reply.headers}
        # As aiohttp decoded them, so that the bytes are the engine's.
        head = [
            (name.encode(), value.encode("utf-8", "surrogateescape"))
            for name, value in (passed | extra).items()
        ]
        await answer({"type": "http.response.start", "status": status, "headers": head})
        async for piece in reply.content.iter_any():
            await answer({"type": "http.response.body", "body": piece, "more_body": True})
        await answer({"type": "http.response.body", "body": b""})
        return None if status == 200 and media_type in ANSWERS else Unlearnable.ENGINE_REFUSED

    def _record(
        self, asked: dict[str, Any], headers: Headers, key: Key | None, reason: Unlearnable | None
    ) -> None:
        record, digest = self.config.record, client(headers)
        if not record.enabled:
            reason = Unlearnable.RECORDING_OFF
        elif any(value.strip().lower() not in FALSE for value in headers.getlist(NO_LEARN_HEADER)):
            reason = Unlearnable.OPTED_OUT
        elif record.only_keys and digest not in record.only_keys:
            reason = Unlearnable.NOT_OPTED_IN
        elif self.path != CHAT:
            reason = Unlearnable.NOT_CHAT
        elif key is not None and not key.learn:
            reason = Unlearnable.KEY_OPTED_OUT
        question = reason or from_request(asked, max_chars=record.max_chars)
        if isinstance(question, Unlearnable):
            self.counts.skipped(question)
        else:
            self.recorder.offer(question, digest)


async def unless_gone(receive: Receive, work: Coroutine[object, object, T], answer: Answer) -> T:
    """The result of `work`; if the client hangs up before its answer is complete, `work` is
    cancelled, its connection to the engine closed, and ClientGone raised."""

    async def hung_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and not answer.complete:
            raise ClientGone
        return await task
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


class EngineFailed(Exception):
    """The engine gave no answer, or only a part of one."""

    def __init__(self, kind: UpstreamError) -> None:
        super().__init__(kind)
        self.kind = kind


class Engine:
    """The engine, asked on clients' behalf by one pooled HTTP client, which is open within
    `connected`. No limit on connections: the engine keeps the queue, not we."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = url.rstrip("/")
        # No encoding is asked for, so that bytes stay plain.
        self._headers = {"accept-encoding": "identity", "user-agent": "ttrl"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            headers=self._headers,
            # Reading has no time limit of its own, because a long prompt is silent for long: the
            # gateway's deadline is for the whole answer.
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
            # What the engine tells one client must not reach another.
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        ) as self._session:
            yield

    @asynccontextmanager
    async def ask(
        self, path: str, body: bytes, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The engine's answer, from its head on. Leaving the block before the answer is through
        closes the connection, and that ends the engine's work. Raises EngineFailed, also while
        the pieces are read."""
        try:
            # A file, because a long body of bytes would be written in one go.
            async with self._session.post(
                self._url + path, data=BytesIO(body), headers=headers, allow_redirects=False
            ) as response:
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise EngineFailed(UpstreamError.UNREACHABLE) from error
        except aiohttp.ClientError as error:
            raise EngineFailed(UpstreamError.BROKE_OFF) from error

    async def healthy(self) -> bool:
        limit = aiohttp.ClientTimeout(total=HEALTH_SECONDS)
        url = f"{self._url}/health"
        try:
            async with self._session.get(url, timeout=limit, allow_redirects=False) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
