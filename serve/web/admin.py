"""The admin address: the routes for `ttrl` on the same machine, with the token from the state
directory, metrics for whoever reaches it, and the operator's page."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from serve.daemon.core import Core
from serve.daemon.housekeeping import Pruning
from serve.daemon.schedule import Clock
from serve.gateway.request import HANDLERS, Refused, Unexpected
from serve.gateway.shadow import Watch
from serve.views import report
from ttrl.config.loading import ConfigError
from ttrl.store import StoreDamaged
from ttrl.store.database import OUTAGE, cause
from ttrl.store.runs import RunBusy, Trigger

Handler = Callable[[Request], Awaitable[Response]]


def app(routes: Sequence[BaseRoute], hosts: Sequence[str]) -> Starlette:
    """What answers at the admin address; `hosts` are the names under which it may be asked for, so
    that no other site's name can be made to point here."""
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Unexpected),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        ],
        exception_handlers=HANDLERS,
    )


class Admin:
    """What `ttrl` asks of a running daemon."""

    def __init__(
        self, core: Core, clock: Clock, watch: Watch, pruning: Pruning, token: str
    ) -> None:
        self._core = core
        self._clock = clock
        self._watch = watch
        self._pruning = pruning
        self._token = token

    def routes(self) -> list[BaseRoute]:
        """Each for who has the token."""
        return [
            Route("/admin/status", self._for_us(self._status)),
            Route("/admin/config", self._for_us(self._settings)),
            Route("/admin/runs", self._for_us(self._start_run), methods=["POST"]),
            Route("/admin/runs/stop", self._for_us(self._stop_run), methods=["POST"]),
            Route("/admin/reconcile", self._for_us(self._reconcile), methods=["POST"]),
            Route("/admin/prune", self._for_us(self._prune), methods=["POST"]),
        ]

    def _for_us(self, handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                return Refused(401, "The admin token is required.", code="unauthorized").response()
            try:
                return await handler(request)
            except OUTAGE as error:
                said = f"cannot use the store now: {cause(error)}"
                return Refused(503, said, code="store_unavailable").response()

        return checked

    async def _status(self, _: Request) -> Response:
        core, shadow = self._core, self._watch.report()
        stored = await asyncio.to_thread(report, core.store, core.config)
        return JSONResponse(
            {
                **stored,
                "next_run": await asyncio.to_thread(self._clock.next_run),
                "engine_up": core.engine.up,
                "engine_url": core.engine.url,
                "schedule": self._clock.said,
                "answering": core.live.current.version,
                "shadow": shadow and asdict(shadow),
                "store_damage": core.damage,
            }
        )

    async def _settings(self, _: Request) -> Response:
        return Response(self._core.config.model_dump_json(), media_type="application/json")

    async def _start_run(self, request: Request) -> Response:
        try:
            run = await self._core.runs.start(Trigger.OPERATOR, await _body(request))
        except RunBusy as error:
            return Refused(409, str(error), code="run_under_way").response()
        except StoreDamaged as error:
            return Refused(503, str(error), code="store_damaged").response()
        except ConfigError as error:
            return Refused(400, str(error), code="bad_setting").response()
        return JSONResponse({"run": run.id})

    async def _stop_run(self, _: Request) -> Response:
        return JSONResponse({"stopped": await self._core.runs.stop()})

    async def _reconcile(self, _: Request) -> Response:
        self._core.reconciler.wake()
        return JSONResponse({"answering": self._core.live.current.version})

    async def _prune(self, _: Request) -> Response:
        return JSONResponse({"removed": await self._pruning.remove_files()})


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ConfigError("the request's body must be a JSON object")
    return body
