"""The gateway: OpenAI's protocol in front, the engine behind, the live adapter in between.

Answers pass byte for byte, each piece as it comes; the one thing rewritten is `model`. Questions
are recorded after their answers have gone out. Only listed routes are forwarded.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.gateway.admission import RETRY_AFTER_SECONDS, Admission, Limits, Place, names
from serve.gateway.feedback import PATH as FEEDBACK
from serve.gateway.feedback import Feedback
from serve.gateway.keys import Key, KeyFile, client
from serve.gateway.live import BASE, Live, Target
from serve.gateway.recorder import Recorder
from serve.gateway.request import (
    HANDLERS,
    Refused,
    Unexpected,
    check,
    counts_as,
    defect,
    for_engine,
    read,
)
from serve.gateway.server import LEFT
from serve.gateway.upstream import BrokeOff, Reply, Unreachable, Upstream
from ttrl.config import Config
from ttrl.feedback import Receipt, receipt_hash
from ttrl.metrics import Metrics
from ttrl.questions.question import Question, Unlearnable
from ttrl.questions.routes import CHAT, FORMS, MESSAGES, RESPONSES, question_in
from ttrl.questions.screening import Circumstances, deciding, rules_of
from ttrl.redaction import Redactor
from ttrl.store import Store

COMPLETIONS = "/v1/completions"
READY = {"/readyz": "ok", "/health": "", "/ping": ""}
"""Where to ask whether users can be served, and what is said if so; the last two are vLLM's."""
REQUEST_HEADERS = frozenset(
    {b"accept", b"anthropic-version", b"traceparent", b"tracestate", b"x-request-id"}
)
"""What the engine is told of a client's headers: not the client's key, nothing of X-Vllm-*, which
would set priorities, and no Accept-Encoding."""
RESPONSE_HEADERS = (
    b"content-type", b"content-length", b"content-encoding", b"cache-control", b"retry-after",
    b"x-accel-buffering", b"x-request-id",
)  # fmt: skip
"""What a client is told of the engine's headers."""
ADAPTER_HEADER = "x-ttrl-adapter"
NO_LEARN_HEADER = "x-ttrl-no-learn"
FALSE = frozenset({"", "0", "false", "no", "off"})
CLIENT_LEFT = 499
"""nginx's status for a client that hung up; counted, never sent."""
DONE = b"data: [DONE]"
LAST_EVENTS = {
    MESSAGES: (b"event: message_stop\n",),
    RESPONSES: (b"event: response.completed\n", b"event: response.incomplete\n"),
}
"""With which other streams end. In JSON, what a model writes has no line's end in it."""
ERROR = b'data: {"error"'
ERRORS = {MESSAGES: b"event: error\n", RESPONSES: b"event: response.failed\n"}
"""With which streams say that the engine failed after a status of 200; all others by ERROR."""
TOOL_CALLS = {
    CHAT: b'"tool_calls":[{',
    MESSAGES: b'"type":"tool_use"',
    RESPONSES: b'"type":"function_call"',
}
"""What is in an answer that calls a tool, as vLLM writes it. What a model writes has its quotation
marks escaped."""
FAILURES = {
    "unreachable": (503, "The engine cannot be reached."),
    "broke_off": (502, "The engine closed the connection without an answer."),
    "timed_out": (504, "The engine took too long to answer."),
}
JSON, EVENTS = b"application/json", b"text/event-stream"
ANSWERS = frozenset({JSON, EVENTS})
"""The media types of answers to a chat request."""
HEAD_BYTES = 512
ANSWER_ID = re.compile(
    rb"\s*(?:event:\s*[a-z._]+\s+)?(?:data:\s*)?\{\s*"
    rb'(?:(?:"type"\s*:\s*"message_start"\s*,\s*"message"|"response")\s*:\s*\{\s*)?'
    rb'"id"\s*:\s*"([!#-[\]-~]{1,256})"'
)
"""The id of an answer, with which it, or its stream's first piece, begins. No text of the model's
can stand before it."""


@dataclass(eq=False)
class Gateway:
    """Answers clients. `keys` are those who may ask; None is everybody who asks for a name of this
    machine. `ready` says whether users can be served; `lifespan` is entered for as long as the
    server runs. A request's body must arrive within `body_seconds`, a whole answer, from request to
    last byte, within `deadline_seconds`."""

    config: Config
    engine_url: str
    live: Live
    recorder: Recorder
    metrics: Metrics
    keys: KeyFile | None = None
    feedback: Feedback | None = None
    ready: Callable[[], bool] = lambda: True
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    body_seconds: float = 60.0
    deadline_seconds: float = 3600.0
    scrape: Callable[[], Awaitable[bytes]] | None = None
    """What /metrics shows, if not `metrics`."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.rules = rules_of(self.config.record)

    def app(self) -> ASGIApp:
        """Make the ASGI application. If there are keys, all routes need one but /healthz and those
        in READY. What is forwarded does not go through a framework's layers."""
        gateway, serving = self.config.gateway, self.metrics.serving
        hosts = names(gateway.host, *gateway.hosts)
        most = gateway.share(gateway.max_requests)
        self.admission = Admission(self.keys, most, serving, hosts=hosts, limits=self.limits)
        forwarded = frozenset((CHAT, COMPLETIONS, *gateway.routes))
        ours = {
            "/v1/models": self._models,
            "/v1/models/{model:path}": self._models,
            "/metrics": self.show_metrics,
            "/version": show_version,
        }
        take = self.feedback and partial(self.feedback.handle, self.admission)
        starlette = Starlette(
            routes=[
                *([Route(FEEDBACK, take, methods=["POST"])] if take else []),
                *(Route(path, not_allowed, methods=["POST"]) for path in forwarded),
                *(Route(path, self.admission.handler(page)) for path, page in ours.items()),
                Route("/healthz", PlainTextResponse("ok"), methods=["GET"]),
                *(Route(path, self._readyz) for path in READY),
            ],
            middleware=[Middleware(Unexpected)],
            exception_handlers=HANDLERS,
            lifespan=self._running,
        )
        starlette.router.redirect_slashes = False

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] not in forwarded:
                scope["path"] = scope["path"].removesuffix("/")
            if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in forwarded:
                await Exchange(self, scope, receive, send).run()
            else:
                await starlette(scope, receive, send)

        if gateway.cors:
            return CORSMiddleware(
                app,
                allow_origins=gateway.cors,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=[ADAPTER_HEADER, "retry-after", "x-request-id"],
            )
        return app

    async def _models(self, request: Request) -> Response:
        """What clients may ask for, in OpenAI's shape: the stable name, no adapters."""
        live = self.live
        card = {"id": live.served_name, "object": "model", "created": live.since}
        length = {} if live.max_model_len is None else {"max_model_len": live.max_model_len}
        card |= {"owned_by": "ttrl", **length}
        if (asked := request.path_params.get("model")) is None:
            return JSONResponse({"object": "list", "data": [card]})
        if asked != live.served_name:
            raise no_such_model(live.served_name)
        return JSONResponse(card)

    async def show_metrics(self, _: Request) -> Response:
        text = await self.scrape() if self.scrape else self.metrics.text()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _readyz(self, request: Request) -> Response:
        if self.ready():
            return PlainTextResponse(READY[request.scope["path"]])
        raise Refused(503, "The engine is not ready.", code="not_ready")

    @asynccontextmanager
    async def _running(self, _: Starlette) -> AsyncIterator[None]:
        self.upstream = Upstream(self.engine_url, self.config.engine.api_key)
        async with self.lifespan():
            yield
        await self.upstream.close()


def gateway_for(
    config: Config,
    store: Store | None,
    engine_url: str,
    live: Live,
    metrics: Metrics,
    ready: Callable[[], bool],
    scrape: Callable[[], Awaitable[bytes]],
    limits: Limits,
    offer: Callable[[Question], None],
    corrected: Callable[[], None] = lambda: None,
) -> tuple[Gateway, Redactor | None]:
    """Return the gateway of one process, and what it redacts with, to be closed: `offer` takes the
    questions that it records, in the store if there is one, and `corrected` is called when there is
    a correction. Raises KeysUnreadable."""
    record, redactor, feedback = config.record, None, None
    if record.entities:
        redactor = Redactor(record.entities, record.redact_model)
    recorder = Recorder(
        partial(store.questions.record, holdout=config.gate.holdout) if store else lambda _: None,
        capacity=config.gateway.share(record.queue),
        metrics=metrics,
        then=offer,
        redact=redactor.question if redactor else None,
    )
    if store and config.feedback.enabled:
        redact = redactor.texts if redactor else None
        feedback = Feedback(config, store.feedback, recorder, metrics, redact, corrected)
    keys = KeyFile(config.gateway.keys) if config.gateway.keys else None
    gateway = Gateway(
        config, engine_url, live, recorder, metrics, keys, feedback, ready,
        scrape=scrape, limits=limits,
    )  # fmt: skip
    return gateway, redactor


async def show_version(_: Request) -> Response:
    """Ours: what runs behind it is not the clients' to know."""
    return JSONResponse({"version": version("ttrl")})


async def not_allowed(_: Request) -> Response:
    """What is forwarded does not come here with POST: Starlette says 405 to all else."""
    raise Refused(405, "Only POST is allowed on this route.")


def no_such_model(served: str) -> Refused:
    message = f"The model does not exist; this gateway serves {served}."
    return Refused(404, message, param="model", code="model_not_found")


def says_its_end(path: str, piece: bytes) -> bool:
    """Whether a piece of a stream has its last event."""
    last = LAST_EVENTS.get(path)
    if last is None:
        return piece.rstrip().endswith(DONE)
    return any(event in piece for event in last)


class Exchange:
    """A request that is forwarded, and its answer. `complete` once the client has all of it: its
    last byte, or the mark that ends a stream, after which clients hang up."""

    def __init__(self, gateway: Gateway, scope: Scope, receive: Receive, send: Send):
        self._gateway, self._scope, self._receive, self._send = gateway, scope, receive, send
        self._path: str = scope["path"]
        self._sent: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            self._sent.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        self._headers = {name: values[0] for name, values in self._sent.items()}
        self._lefts: dict[Callable[[], None], None] = (
            scope.get("extensions", {}).get(LEFT, {}).get("calls", {})
        )
        self._serving = gateway.metrics.serving
        self._began = time.perf_counter()
        self._begun = self._complete = False
        self._status = 500
        self._first_byte: float | None = None
        self._cut_by: Exception | None = None
        self._version, self._head = BASE, b""
        self._calls_tool = False

    def _seconds(self) -> float:
        return time.perf_counter() - self._began

    async def run(self) -> None:
        live = self._gateway.live
        self._task = asyncio.current_task()
        self._serving.in_flight.inc()
        try:
            with self._gateway.admission.admitted(self._headers) as place:
                await self._forward(place)
        except Refused as refused:
            await self._refuse(refused, live.current.version)
        except ClientDisconnect:
            self._status = CLIENT_LEFT
            self._serving.aborted.inc()
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer, or sees that it is cut
            internal = defect(error)
            if not self._begun:
                await self._refuse(internal, live.current.version)
            self._status = internal.status
        finally:
            self._serving.requests.labels(f"{self._status // 100}xx").inc()
            if self._status < 300:  # a refusal is quick: among the answers it would hide slow ones
                self._serving.seconds.observe(self._seconds())
                self._serving.first_byte_seconds.observe(self._first_byte or self._seconds())
            self._serving.in_flight.dec()

    async def _refuse(self, refused: Refused, version: str) -> None:
        response = refused.response({ADAPTER_HEADER: version})
        await response(self._scope, self._receive, self._pass)

    async def _pass(self, message: Message) -> None:
        """Send, and remember what was sent and when."""
        if message["type"] == "http.response.start":
            self._begun = True
            self._status = message["status"]
        else:
            self._first_byte = self._first_byte or self._seconds()
            ended = not message.get("more_body") or says_its_end(self._path, message["body"])
            self._complete = self._complete or ended
        await self._send(message)

    async def _forward(self, place: Place) -> None:
        config, live = self._gateway.config.gateway, self._gateway.live
        admission = self._gateway.admission
        late = Refused(408, "The request did not arrive in time.", headers={"connection": "close"})
        with (
            self._within(self._gateway.body_seconds, late),
            admission.reading(place, partial(self._cut, late)),
        ):
            asked = await read(
                self._headers, self._receive, limit=config.max_body, by="gateway.max_body"
            )
        check(asked, max_n=config.max_n)
        if (more := counts_as(asked, config.max_n) - 1) > 0:
            admission.hold(place, more)
        if (target := live.target(asked.get("model"))) is None:
            raise no_such_model(live.served_name)
        body = for_engine(asked, target.model)
        reason: Unlearnable | None = Unlearnable.INCOMPLETE
        try:
            reason = await self._answer(target, asked, body)
        finally:
            self._record(asked, place.key, reason)

    @contextmanager
    def _within(self, seconds: float, late: Exception) -> Iterator[None]:
        """What is awaited here ends with `late` when the time is over, and with ClientDisconnect
        when the client hangs up before its answer is complete. Cheaper than a task that waits for
        it."""
        timer = asyncio.get_running_loop().call_later(seconds, self._cut, late)
        self._lefts[self._left] = None
        try:
            yield
        except asyncio.CancelledError:
            if self._cut_by is None or self._task is None:
                raise
            self._task.uncancel()
            raise self._cut_by from None
        finally:
            timer.cancel()
            self._lefts.pop(self._left, None)

    def _left(self) -> None:
        if not self._complete:
            self._cut(ClientDisconnect())

    def _cut(self, why: Exception) -> None:
        if self._cut_by is None and self._task is not None:
            self._cut_by = why
            self._task.cancel()

    async def _answer(
        self, target: Target, asked: dict[str, Any], body: bytes
    ) -> Unlearnable | None:
        """Answer the client. Why the question is not for learning, if so. Raises Refused when the
        engine gives no answer."""
        live, kind = self._gateway.live, "unreachable"
        passed = [pair for pair in self._scope["headers"] if pair[0] in REQUEST_HEADERS]
        if live.open:
            try:
                with self._within(self._gateway.deadline_seconds, TimeoutError()):
                    while True:
                        with live.hold(target.version):
                            reply = await self._gateway.upstream.ask(self._path, passed, body)
                            try:
                                if reply.status != 404 or target.version == BASE:
                                    return await self._pass_on(reply, target.version)
                            finally:
                                reply.leave()
                        # An engine that was restarted has forgotten its adapters. Until it has them
                        # again, the base answers.
                        self._failed("adapter_missing")
                        target = live.base
                        body = for_engine(asked, target.model)
            except Unreachable:
                pass
            except TimeoutError:
                kind = "timed_out"
            except BrokeOff:
                kind = "broke_off"
        status, message = FAILURES[kind]
        if self._begun:
            # The answer is left without an end: the server closes the connection, and the client
            # sees that it was cut. It is counted as what it would have got a moment earlier.
            self._failed(kind if kind == "timed_out" else "cut")
            self._status = status
            return Unlearnable.INCOMPLETE
        self._failed(kind)
        extra = {ADAPTER_HEADER: target.version, "retry-after": str(RETRY_AFTER_SECONDS)}
        raise Refused(status, message, code=kind, headers=extra)

    async def _pass_on(self, reply: Reply, version: str) -> Unlearnable | None:
        """Send an answer on, byte for byte, each piece as it arrives."""
        status, content_type = reply.status, reply.headers.get(b"content-type", b"")
        media_type = content_type.partition(b";")[0].strip().lower()
        if status >= 300 and media_type != JSON:
            self._failed("not_json")
            message = "The engine answered with an error that is not JSON."
            extra = {ADAPTER_HEADER: version}
            raise Refused(max(status, 400), message, code="not_json", headers=extra)
        head = [(name, reply.headers[name]) for name in RESPONSE_HEADERS if name in reply.headers]
        head.append((ADAPTER_HEADER.encode(), version.encode()))
        await self._pass({"type": "http.response.start", "status": status, "headers": head})
        error = ERRORS.get(self._path, ERROR) if media_type == EVENTS else None
        call, seen = TOOL_CALLS.get(self._path), b""
        self._version, ended, failed = version, False, False
        while not ended:
            piece, ended = await reply.piece(), reply.ended
            failed = failed or (error is not None and error in piece)
            if call is not None:  # a piece may end in the middle of it
                seen = seen[-len(call) :] + piece
                self._calls_tool = self._calls_tool or call in seen
            if len(self._head) < HEAD_BYTES:
                self._head += piece[:HEAD_BYTES]
            await self._pass({"type": "http.response.body", "body": piece, "more_body": not ended})
        if failed:
            self._failed("in_stream")
        good = status == 200 and media_type in ANSWERS and not failed
        return None if good else Unlearnable.ENGINE_REFUSED

    def _failed(self, kind: str) -> None:
        self._serving.upstream_errors.labels(kind).inc()

    def _record(self, asked: dict[str, Any], key: Key | None, reason: Unlearnable | None) -> None:
        recorder, digest = self._gateway.recorder, client(self._headers)
        unwanted = self._unwanted(key, digest)
        receipt = None if unwanted or reason else self._receipt(digest if key else None)
        question = unwanted or self._question(asked, key, reason)
        if isinstance(question, Question):
            recorder.offer(question, digest, receipt)
            return
        self._gateway.metrics.recording.skipped.labels(question).inc()
        if receipt is not None:
            recorder.offer(None, digest, receipt)

    def _question(
        self, asked: dict[str, Any], key: Key | None, reason: Unlearnable | None
    ) -> Question | str:
        """The question to learn from, or why there is none; `reason` is what its answer says."""
        gateway = self._gateway
        if self._path not in FORMS:
            return Unlearnable.NOT_CHAT
        if reason is None and self._calls_tool:
            reason = Unlearnable.TOOL_CALL
        max_chars = gateway.config.record.max_chars
        question = reason or question_in(self._path, asked, max_chars=max_chars)
        if isinstance(question, Unlearnable):
            return question
        around = Circumstances(key.name if key else "", str(asked.get("model") or ""), self._sent)
        rule, _ = deciding(gateway.rules, question, around)
        return question if rule is None or rule.teach else f"rule_{rule.name}"

    def _unwanted(self, key: Key | None, digest: str | None) -> Unlearnable | None:
        """Why nothing of it may be kept, if somebody does not want it."""
        record = self._gateway.config.record
        if not record.enabled:
            return Unlearnable.RECORDING_OFF
        wishes = self._sent.get(NO_LEARN_HEADER, ())
        if any(wish.strip(" \t").lower() not in FALSE for wish in wishes):
            return Unlearnable.OPTED_OUT
        if record.only_keys and digest not in record.only_keys:
            return Unlearnable.NOT_OPTED_IN
        return Unlearnable.KEY_OPTED_OUT if key is not None and not key.learn else None

    def _receipt(self, digest: str | None) -> Receipt | None:
        """What feedback on the answer needs, if there is feedback and the answer has an id."""
        found = ANSWER_ID.match(self._head) if self._gateway.feedback else None
        if found is None:
            return None
        version = None if self._version == BASE else self._version
        return Receipt(receipt_hash(found[1].decode(), digest), digest, version)
