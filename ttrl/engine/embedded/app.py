"""The HTTP side: routes, streams, and the adapters that are loaded."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ttrl.engine.embedded.fields import Refusal, read_json, text_field
from ttrl.engine.embedded.figures import registry
from ttrl.engine.embedded.lora import Adapter, AdapterMissing, AdapterUnfit, read_adapter
from ttrl.engine.embedded.protocol import Ask, Limits, chat_ask, completion_ask
from ttrl.engine.embedded.replies import ChatReply, CompletionReply, Cursor, Reply
from ttrl.engine.embedded.text import Language
from ttrl.engine.embedded.work import Job
from ttrl.engine.embedded.worker import Worker


@dataclass
class Engine:
    """All that the routes share. `adapters` is only touched on the event loop; a request holds on
    to its adapter itself, so unloading takes nothing away from it."""

    name: str
    root: str
    worker: Worker
    language: Language
    limits: Limits
    shapes: dict[str, tuple[int, int]]
    max_rank: int
    adapters: dict[str, Adapter] = field(default_factory=dict)
    started: int = field(default_factory=lambda: int(time.time()))

    def find(self, model: str | None) -> tuple[str, Adapter | None]:
        """The served name and its adapter, None for the base. Raises Refusal."""
        if model is None or model == self.name:
            return self.name, None
        if model in self.adapters:
            return model, self.adapters[model]
        raise Refusal(
            f"The model `{model}` does not exist.", status=404, kind="NotFoundError", param="model"
        )


def make_app(engine: Engine, *, api_key: str | None = None) -> Starlette:
    """The server. With a key, everything under /v1 asks for it."""
    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/metrics", metrics),
            Route("/v1/models", models),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/load_lora_adapter", load_adapter, methods=["POST"]),
            Route("/v1/unload_lora_adapter", unload_adapter, methods=["POST"]),
        ],
        exception_handlers={
            Refusal: _refused,
            HTTPException: _http_error,
            # Logged with its traceback all the same.
            Exception: _unexpected,
        },
        middleware=[Middleware(KeyCheck, api_key=api_key)] if api_key else [],
    )
    app.state.engine = engine
    return app


async def health(request: Request) -> Response:
    return Response(status_code=200 if _engine(request).worker.is_alive() else 503)


async def metrics(request: Request) -> Response:
    text = generate_latest(registry(_engine(request).worker.figures))
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def models(request: Request) -> Response:
    engine = _engine(request)
    base = _card(engine, engine.name, engine.root) | {"max_model_len": engine.limits.max_model_len}
    cards = [
        _card(engine, adapter.name, adapter.path) | {"parent": engine.name}
        for adapter in engine.adapters.values()
    ]
    return JSONResponse({"object": "list", "data": [base, *cards]})


async def chat(request: Request) -> Response:
    engine = _engine(request)
    body = read_json(await request.body())
    return await _answer(request, chat_ask(body, engine.language, engine.limits), ChatReply)


async def completions(request: Request) -> Response:
    engine = _engine(request)
    body = read_json(await request.body())
    ask = completion_ask(body, engine.language, engine.limits)
    return await _answer(request, ask, CompletionReply)


async def load_adapter(request: Request) -> Response:
    engine = _engine(request)
    body = read_json(await request.body())
    name, path = text_field(body, "lora_name"), text_field(body, "lora_path")
    _check_free(engine, name)
    try:
        adapter = await asyncio.to_thread(
            read_adapter, name, path, engine.shapes, max_rank=engine.max_rank
        )
    except AdapterMissing as error:
        raise Refusal(
            f"Loading lora {name} failed: {error}", status=404, kind="NotFoundError"
        ) from error
    except AdapterUnfit as error:
        raise Refusal(f"Loading lora {name} failed: {error}") from error
    # Again: somebody may have taken the name while this one was read.
    _check_free(engine, name)
    engine.adapters[name] = adapter
    return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")


async def unload_adapter(request: Request) -> Response:
    engine = _engine(request)
    name = text_field(read_json(await request.body()), "lora_name")
    if engine.adapters.pop(name, None) is None:
        raise Refusal(
            f"The lora adapter '{name}' cannot be found.", status=404, kind="NotFoundError"
        )
    return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")


class KeyCheck:
    """Refuses what comes to /v1 without the key."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self.app = app
        self._expected = f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1"):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                refusal = JSONResponse({"error": "Unauthorized"}, status_code=401)
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


async def _answer(request: Request, ask: Ask, reply_type: type[Reply]) -> Response:
    engine = _engine(request)
    model, adapter = engine.find(ask.model)
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def notify() -> None:
        loop.call_soon_threadsafe(news.set)

    jobs = [Job(order, adapter, engine.language, notify) for order in ask.orders]
    reply = reply_type(ask, model, jobs, engine.language)
    for job in jobs:
        engine.worker.submit(job)
    if ask.stream:
        return StreamingResponse(_stream(reply, jobs, news), media_type="text/event-stream")
    await _finish_or_leave(request, jobs, news)
    if any(job.failed for job in jobs):
        raise _engine_failed()
    return JSONResponse(reply.whole())


async def _finish_or_leave(request: Request, jobs: Sequence[Job], news: asyncio.Event) -> None:
    """Wait for the answers, but give up when the client does."""
    finished = asyncio.create_task(_finished(jobs, news))
    left = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({finished, left}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
        finished.cancel()
        for job in jobs:
            job.abandon_unfinished()


async def _finished(jobs: Sequence[Job], news: asyncio.Event) -> None:
    while not all(job.done for job in jobs):
        await news.wait()
        news.clear()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _stream(reply: Reply, jobs: Sequence[Job], news: asyncio.Event) -> AsyncIterator[str]:
    rows = [row for job in jobs for row in job.rows]
    cursors = [Cursor() for _ in rows]
    try:
        for chunk in reply.opening():
            yield _event(chunk)
        done = False
        while not done:
            await news.wait()
            news.clear()
            # Asked before reading: what comes in between is read in the next round.
            done = all(job.done for job in jobs)
            for at, (row, cursor) in enumerate(zip(rows, cursors, strict=True)):
                if news_of_row := reply.chunk(at, row, cursor):
                    yield _event(news_of_row)
        if any(job.failed for job in jobs):
            yield _event(_engine_failed().body)
        elif reply.ask.include_usage:
            yield _event(reply.usage_chunk())
        yield "data: [DONE]\n\n"
    finally:
        for job in jobs:
            job.abandon_unfinished()


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


def _card(engine: Engine, name: str, root: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": engine.started,
        "owned_by": "ttrl",
        "root": root,
        "parent": None,
        "max_model_len": None,
    }


def _check_free(engine: Engine, name: str) -> None:
    taken = "conflicts with a served base model" if name == engine.name else None
    if name in engine.adapters:
        taken = "has already been loaded"
    if taken:
        raise Refusal(f"The lora adapter '{name}' {taken}.", kind="InvalidUserInput")


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _engine_failed() -> Refusal:
    return Refusal("The engine stopped.", status=500, kind="InternalServerError")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.body, status_code=error.status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = Refusal(error.detail, status=error.status_code, kind=error.detail)
    return JSONResponse(refusal.body, status_code=refusal.status)


async def _unexpected(request: Request, error: Exception) -> Response:
    refusal = Refusal("Something unexpected went wrong.", status=500, kind="InternalServerError")
    return JSONResponse(refusal.body, status_code=refusal.status)
