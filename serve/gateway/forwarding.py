"""One forwarded route: from a client's request to the engine's answer, to the recorder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from serve.gateway import request
from serve.gateway.admission import Admission
from serve.gateway.counts import Counts, UpstreamError
from serve.gateway.keys import Key, client
from serve.gateway.live import BASE, Live, Route
from serve.gateway.recorder import Recorder
from serve.gateway.request import ClientGone, Refused, Request, no_such_model
from serve.gateway.upstream import Engine, EngineFailed, Reply, relay
from ttrl.questions.question import Question, Unlearnable, from_request

CHAT = "/v1/chat/completions"
REQUEST_HEADERS = ("accept", "anthropic-version", "traceparent", "tracestate", "x-request-id")
"""What the engine is told of a client's headers: not the client's key, nothing of X-Vllm-*, which
would set priorities, and no Accept-Encoding."""
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
T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """`max_chars` bounds the questions learned from, not those answered. `only_keys`: digests of
    the keys that are learned from, when not all are. `deadline_seconds` is for a whole answer, from
    request to last byte; `max_requests` is how many are under way at once."""

    max_body_bytes: int = 8 * 2**20
    max_n: int = 16
    max_chars: int = 16_000
    record: bool = True
    only_keys: frozenset[str] = frozenset()
    body_seconds: float = 60.0
    deadline_seconds: float = 3600.0
    retry_after_seconds: int = 5
    max_requests: int = 1000


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
    limits: Limits
    live: Live
    engine: Engine
    recorder: Recorder
    counts: Counts
    admission: Admission

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
        """Read the request, answer it, and hand its question to the recorder."""
        limits = self.limits
        body = await request.read(
            headers, receive, limit=limits.max_body_bytes, seconds=limits.body_seconds
        )
        asked = request.parse(body)
        request.check(asked, max_n=limits.max_n)
        if self.path == CHAT:
            request.check_messages(asked)
        route = self.live.route(asked.get("model"))
        if route is None:
            raise no_such_model()
        passed = {name: headers[name] for name in REQUEST_HEADERS if name in headers}
        passed = {"content-type": "application/json", **passed}
        reason: Unlearnable | None = Unlearnable.INCOMPLETE
        try:
            reason = await unless_gone(receive, self._answer(asked, route, passed, answer), answer)
        finally:
            if key is not None and not key.learn:
                reason = Unlearnable.KEY_OPTED_OUT
            question = self._question(asked, headers, reason)
            if isinstance(question, Unlearnable):
                self.counts.skipped(question)
            else:
                self.recorder.offer(question, client(headers))

    async def _answer(
        self, asked: Request, route: Route, headers: Mapping[str, str], answer: Answer
    ) -> Unlearnable | None:
        """Answers the client. Why the question is not for learning, if so. Raises Refused when the
        engine gives no answer."""
        if not self.live.open:
            raise self._failed(UpstreamError.UNREACHABLE, route)
        try:
            async with asyncio.timeout(self.limits.deadline_seconds):
                return await self._ask(asked, route, headers, answer)
        except TimeoutError:
            kind = UpstreamError.TIMED_OUT
        except EngineFailed as failed:
            kind = failed.kind
        if answer.begun:
            # The answer is left without an end: the server closes the connection, and the client
            # sees that it was cut. It is counted as what it would have got a moment earlier.
            timed_out = kind is UpstreamError.TIMED_OUT
            self.counts.upstream_error(kind if timed_out else UpstreamError.CUT)
            answer.status = FAILURES[kind][0]
            return Unlearnable.INCOMPLETE
        raise self._failed(kind, route)

    def _failed(self, kind: UpstreamError, route: Route) -> Refused:
        """The error for an engine that gives no answer."""
        self.counts.upstream_error(kind)
        status, message = FAILURES[kind]
        retry = {"retry-after": str(self.limits.retry_after_seconds)}
        return Refused(status, message, code=kind, headers={ADAPTER_HEADER: route.version, **retry})

    async def _ask(
        self, asked: Request, route: Route, headers: Mapping[str, str], answer: Answer
    ) -> Unlearnable | None:
        body = request.for_engine(asked, route.model)
        with self.live.hold(route.version):
            async with self.engine.ask(self.path, body, headers) as reply:
                if reply.status != 404 or route.version == BASE:
                    return await self._pass_on(reply, route, answer)
        # An engine that was restarted has forgotten its adapters. Until it has them again, the base
        # answers.
        self.counts.upstream_error(UpstreamError.ADAPTER_MISSING)
        return await self._ask(asked, self.live.base, headers, answer)

    async def _pass_on(self, reply: Reply, route: Route, answer: Answer) -> Unlearnable | None:
        status, kind = reply.status, reply.media_type
        extra = {ADAPTER_HEADER: route.version}
        if status >= 300 and kind != "application/json":
            self.counts.upstream_error(UpstreamError.NOT_JSON)
            message = "The engine answered with an error that is not JSON."
            raise Refused(max(status, 400), message, code=UpstreamError.NOT_JSON, headers=extra)
        await relay(reply, answer, extra)
        return None if status == 200 and kind in ANSWERS else Unlearnable.ENGINE_REFUSED

    def _question(
        self, asked: Request, headers: Headers, reason: Unlearnable | None
    ) -> Question | Unlearnable:
        if not self.limits.record:
            return Unlearnable.RECORDING_OFF
        if any(said.strip().lower() not in FALSE for said in headers.getlist(NO_LEARN_HEADER)):
            return Unlearnable.OPTED_OUT
        if self.limits.only_keys and client(headers) not in self.limits.only_keys:
            return Unlearnable.NOT_OPTED_IN
        if self.path != CHAT:
            return Unlearnable.NOT_CHAT
        return reason or from_request(asked, max_chars=self.limits.max_chars)


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
