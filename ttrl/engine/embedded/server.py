"""The HTTP server: routes, streams, and the adapters that are loaded."""

from __future__ import annotations

import asyncio
import hmac
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ttrl.engine.embedded.generation import Job, Scheduler
from ttrl.engine.embedded.model import Adapter, AdapterMissing, AdapterUnfit, Model
from ttrl.engine.embedded.protocol import (
    Chat,
    Completion,
    LoadAdapter,
    Refusal,
    Reply,
    Request,
    UnloadAdapter,
    read,
)

HOST = "127.0.0.1"
STOP_SECONDS = 5


class Server:
    def __init__(self, model: Model) -> None:
        self._model = model
        self.scheduler = Scheduler(model)
        self._adapters: dict[str, Adapter] = {}
        self._started = int(time.time())

    def app(self, api_key: str | None) -> Starlette:
        # With a key, everything under /v1 asks for it.
        routes = [
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", partial(self.answer, Chat), methods=["POST"]),
            Route("/v1/completions", partial(self.answer, Completion), methods=["POST"]),
            Route("/v1/load_lora_adapter", self.load_adapter, methods=["POST"]),
            Route("/v1/unload_lora_adapter", self.unload_adapter, methods=["POST"]),
        ]
        return Starlette(
            routes=routes,
            exception_handlers={Refusal: _refuse, HTTPException: _refuse, Exception: _refuse},
            middleware=[Middleware(key_check, api_key=api_key)] if api_key else [],
        )

    async def health(self, _: HttpRequest) -> Response:
        return Response(status_code=503 if self.scheduler.ended else 200)

    async def metrics(self, _: HttpRequest) -> Response:
        return Response(generate_latest(self.scheduler.registry), media_type=CONTENT_TYPE_LATEST)

    async def models(self, _: HttpRequest) -> Response:
        base = self._model
        about = {"object": "model", "created": self._started, "owned_by": "ttrl"}
        cards = [{"id": base.name, "root": base.folder, "parent": None, **about}]
        cards[0]["max_model_len"] = base.max_model_len
        cards += [
            {"id": each.name, "root": each.path, "parent": base.name, **about}
            for each in self._adapters.values()
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def answer(self, kind: type[Request], http: HttpRequest) -> Response:
        request = read(kind, await http.body(), self._model)
        name = request.model or self._model.name
        adapter = self._adapters.get(name)
        if adapter is None and name != self._model.name:
            raise Refusal(f"The model `{name}` does not exist.", 404)
        jobs = request.jobs(self._model, adapter)
        reply = Reply(request, name, jobs, self._model)
        if request.stream:
            return StreamingResponse(self._stream(reply, jobs), media_type="text/event-stream")
        self.scheduler.submit(jobs)
        left = asyncio.ensure_future(_left(http, jobs[0].news))
        try:
            while not left.done() and not all(job.done for job in jobs):
                await jobs[0].news.wait()  # the jobs of one request share it
                jobs[0].news.clear()
        finally:
            left.cancel()
            self.scheduler.close(jobs)
        if any(job.failed for job in jobs):
            raise Refusal("The engine stopped.", 500)
        return JSONResponse(reply.whole())

    async def _stream(self, reply: Reply, jobs: Sequence[Job]) -> AsyncIterator[str]:
        self.scheduler.submit(jobs)
        news = jobs[0].news
        try:
            chunks, done = reply.opening(), False
            while True:
                for chunk in chunks:
                    yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
                if done:
                    break
                await news.wait()
                news.clear()
                # Asked before reading: what comes in between is read in the next round.
                done = all(job.done for job in jobs)
                chunks = reply.news()
                if done:
                    failed = any(job.failed for job in jobs)
                    stopped = Refusal("The engine stopped.", 500)
                    chunks += [stopped.body] if failed else reply.closing()
            yield "data: [DONE]\n\n"
        finally:
            self.scheduler.close(jobs)

    async def load_adapter(self, http: HttpRequest) -> Response:
        request = read(LoadAdapter, await http.body(), self._model)
        name = request.lora_name
        self._check_free(name)
        try:
            adapter = await asyncio.to_thread(self._model.read_adapter, name, request.lora_path)
        except (AdapterMissing, AdapterUnfit) as error:
            status = 404 if isinstance(error, AdapterMissing) else 400
            raise Refusal(f"Loading lora {name} failed: {error}", status) from error
        # Again: somebody may have taken the name while this one was read.
        self._check_free(name)
        self._adapters[name] = adapter
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    def _check_free(self, name: str) -> None:
        if name in {self._model.name, *self._adapters}:
            raise Refusal(f"The lora adapter '{name}' has already been loaded.")

    async def unload_adapter(self, http: HttpRequest) -> Response:
        name = read(UnloadAdapter, await http.body(), self._model).lora_name
        if self._adapters.pop(name, None) is None:
            raise Refusal(f"The lora adapter '{name}' cannot be found.", 404)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")


def key_check(app: ASGIApp, api_key: str) -> ASGIApp:

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1"):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, f"Bearer {api_key}".encode()):
                await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)
                return
        await app(scope, receive, send)

    return checked


async def _left(http: HttpRequest, news: asyncio.Event) -> None:
    """Wait until the client has left, and wake who waits for news."""
    try:
        while (await http.receive())["type"] != "http.disconnect":
            pass
    finally:
        news.set()


async def _refuse(_: HttpRequest, error: Exception) -> Response:
    """Answer with vLLM's shape of an error. What is none of ours is logged all the same."""
    if isinstance(error, HTTPException):
        error = Refusal(error.detail, error.status_code, error.detail)
    elif not isinstance(error, Refusal):
        error = Refusal("Internal error.", 500)
    return JSONResponse(error.body, status_code=error.status)


def serve(model: Model, port: int, api_key: str | None) -> int:
    """Serve until SIGTERM or SIGINT, or until generation dies; return the exit code."""
    server = Server(model)
    http = uvicorn.Server(
        uvicorn.Config(
            server.app(api_key),
            host=HOST,
            port=port,
            log_config=None,
            log_level="warning",
            # An open stream must not keep the process from ending.
            timeout_graceful_shutdown=STOP_SECONDS,
            timeout_keep_alive=30,
        )
    )

    async def run() -> int:
        generation = asyncio.create_task(server.scheduler.run())
        generation.add_done_callback(lambda _: setattr(http, "should_exit", True))
        await http.serve()
        if generation.done():  # and was not told to
            generation.result()
        generation.cancel()
        return 0 if http.started else 1

    # uvicorn sends itself the signal again once it has shut down: let it pass.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    name = model.name
    line = f"embedded engine (for trials and tests only) serves {name} at http://{HOST}:{port}"
    print(line, file=sys.stderr, flush=True)  # noqa: T201
    return asyncio.run(run())
