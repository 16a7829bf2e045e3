"""The gateway: OpenAI's protocol in front, the engine behind, the live adapter in between.

Answers pass byte for byte, each piece as it comes; the one thing rewritten is `model`. Questions
are recorded after their answers have gone out. Only listed routes are forwarded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from serve.gateway.admission import LOOPBACK, Admission, Admitted
from serve.gateway.counts import Counts
from serve.gateway.forwarding import CHAT, Forwarded, Limits
from serve.gateway.keys import KeyFile
from serve.gateway.live import Live
from serve.gateway.recorder import Recorder
from serve.gateway.request import Refused, Unexpected, from_http_exception, no_such_model
from serve.gateway.upstream import Engine

COMPLETIONS = "/v1/completions"
OTHER_ROUTES = ("/v1/responses", "/v1/messages", "/v1/embeddings", "/tokenize", "/detokenize")


@dataclass(frozen=True)
class GatewaySettings:
    """Where the engine is, what is forwarded to it beside chat and completions, and the bounds."""

    engine_url: str
    engine_api_key: str | None = field(default=None, repr=False)
    routes: tuple[str, ...] = OTHER_ROUTES
    connect_seconds: float = 5.0
    limits: Limits = field(default_factory=Limits)
    keys: KeyFile | None = field(default=None, repr=False)
    """Who may ask; None is everybody who asks for one of `hosts`."""
    hosts: Collection[str] = LOOPBACK


def app(
    settings: GatewaySettings,
    live: Live,
    recorder: Recorder,
    *,
    counts: Counts | None = None,
    ready: Callable[[], Awaitable[bool]] | None = None,
    extra_routes: Sequence[Route] = (),
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> Starlette:
    """The whole ASGI application. `ready` says whether users can be served (by default, what the
    engine's /health says); `lifespan` is entered for as long as the server runs. If there are keys,
    all needs one but what says whether we are well."""
    engine = Engine(settings.engine_url, settings.engine_api_key, settings.connect_seconds)
    limits, counts = settings.limits, counts or Counts()
    admission = Admission(
        settings.keys,
        limits.max_requests,
        limits.retry_after_seconds,
        counts,
        hosts=settings.hosts,
    )

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": _cards(live)})

    async def model(request: Request) -> Response:
        asked = request.path_params["model"]
        card = next((card for card in _cards(live) if card["id"] == asked), None)
        return JSONResponse(card) if card else no_such_model().response()

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_: Request) -> Response:
        if await (ready or engine.healthy)():
            return PlainTextResponse("ok")
        return Refused(503, "The engine is not ready.", code="not_ready").response()

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        async with engine, lifespan():
            yield

    forwarded = [
        Route(
            path,
            Forwarded(path, limits, live, engine, recorder, counts, admission),
            methods=["POST"],
        )
        for path in dict.fromkeys((CHAT, COMPLETIONS, *settings.routes))
    ]
    ours = [
        Route("/v1/models", models),
        Route("/v1/models/{model:path}", model),
        *extra_routes,
    ]
    admitted = [Middleware(Admitted, admission=admission)]
    starlette = Starlette(
        routes=[
            *forwarded,
            *(Route(r.path, r.endpoint, methods=["GET"], middleware=admitted) for r in ours),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ],
        middleware=[Middleware(Unexpected)],
        exception_handlers={HTTPException: from_http_exception},
        lifespan=running,
    )
    starlette.router.redirect_slashes = False
    return starlette


def _cards(live: Live) -> list[dict[str, object]]:
    """What clients may ask for, in OpenAI's shape: the stable names, no adapters."""
    length = {} if live.max_model_len is None else {"max_model_len": live.max_model_len}
    return [
        {"id": name, "object": "model", "created": live.since, "owned_by": "ttrl", **length}
        for name in live.served_names
    ]
