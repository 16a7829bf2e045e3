"""The admin address: the routes for `ttrl` on the same machine, with the token from the state
directory, metrics for whoever reaches it, and the operator's page."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

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


def app(routes: Sequence[Route], hosts: Sequence[str]) -> Starlette:
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


def routes(core: Core, clock: Clock, watch: Watch, pruning: Pruning, token: str) -> list[Route]:
    """What `ttrl` asks of a running daemon: each for who has the token."""

    async def status(_: Request) -> Response:
        stored = await asyncio.to_thread(report, core.store, core.config)
        next_run, shadow = await asyncio.to_thread(clock.next_run), watch.report()
        running = {
            "next_run": next_run,
            "engine_up": core.engine.up,
            "engine_url": core.engine.url,
            "schedule": clock.decision,
            "answering": core.live.current.version,
            "shadow": shadow and asdict(shadow),
            "store_damage": core.damage,
        }
        return JSONResponse(stored | running)

    async def settings(_: Request) -> Response:
        return Response(core.config.model_dump_json(), media_type="application/json")

    async def start_run(request: Request) -> Response:
        try:
            body = json.loads(await request.body() or b"{}")
        except ValueError:
            body = None
        try:
            if not isinstance(body, dict):
                raise ConfigError("the request's body must be a JSON object")
            run = await core.runs.start(Trigger.OPERATOR, body)
        except RunBusy as error:
            raise Refused(409, str(error), code="run_under_way") from None
        except StoreDamaged as error:
            raise Refused(503, str(error), code="store_damaged") from None
        except ConfigError as error:
            raise Refused(400, str(error), code="bad_setting") from None
        return JSONResponse({"run": run.id})

    async def stop_run(_: Request) -> Response:
        return JSONResponse({"stopped": await core.runs.stop()})

    async def reconcile(_: Request) -> Response:
        core.reconciler.wake()
        return JSONResponse({"answering": core.live.current.version})

    async def prune(_: Request) -> Response:
        return JSONResponse({"removed": await pruning.remove_files()})

    def checked(handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), token.encode()):
                raise Refused(401, "The admin token is required.", code="unauthorized")
            try:
                return await handler(request)
            except OUTAGE as error:
                message = f"cannot use the store now: {cause(error)}"
                raise Refused(503, message, code="store_unavailable") from None

        return answer

    return [
        Route("/admin/status", checked(status)),
        Route("/admin/config", checked(settings)),
        Route("/admin/runs", checked(start_run), methods=["POST"]),
        Route("/admin/runs/stop", checked(stop_run), methods=["POST"]),
        Route("/admin/reconcile", checked(reconcile), methods=["POST"]),
        Route("/admin/prune", checked(prune), methods=["POST"]),
    ]
