"""The admin address: the routes for `ttrl` on the same machine, with the token from the state
directory, metrics for whoever reaches it, and the operator's page."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from serve.core import Core
from serve.errors import Refused, Unexpected, from_http_exception
from serve.pruning import Pruning
from serve.schedule import Clock
from serve.status import report
from serve.watch import Watch
from ttrl.settings import ConfigError
from ttrl.store import StoreDamaged
from ttrl.store.outage import OUTAGE, cause
from ttrl.store.runs import RunBusy, Trigger

EVERYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - what was set is compared with it
Handler = Callable[[Request], Awaitable[Response]]


def names(*hosts: str) -> list[str]:
    """Under which names one that listens on such hosts may be asked for."""
    if EVERYWHERE.intersection(hosts):
        return ["*"]
    found = {"localhost", "127.0.0.1", "::1", *hosts}
    return sorted({*found, *(f"[{name}]" for name in found if ":" in name)})


def app(routes: Sequence[BaseRoute], hosts: Sequence[str]) -> Starlette:
    """What answers at the admin address; `hosts` are the names under which it may be asked for, so
    that no other site's name can be made to point here."""
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Unexpected),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        ],
        exception_handlers={HTTPException: from_http_exception},
    )


def routes(core: Core, clock: Clock, watch: Watch, pruning: Pruning, token: str) -> list[BaseRoute]:
    """What `ttrl` asks of a running daemon."""

    async def status(_: Request) -> Response:
        def stored() -> dict[str, Any]:
            return {**report(core.store, core.config), "next_run": clock.next_run()}

        return JSONResponse(
            {
                **await asyncio.to_thread(stored),
                "engine_up": core.engine.up,
                "engine_url": core.engine.url,
                "schedule": clock.said,
                "answering": core.live.current.version,
                "shadow": watch.report(),
                "store_damage": core.damage,
            }
        )

    async def settings(_: Request) -> Response:
        return Response(core.config.model_dump_json(), media_type="application/json")

    async def start_run(request: Request) -> Response:
        try:
            run = await core.runs.start(Trigger.OPERATOR, await _body(request))
        except RunBusy as error:
            return Refused(409, str(error), code="run_under_way").response()
        except StoreDamaged as error:
            return Refused(503, str(error), code="store_damaged").response()
        except ConfigError as error:
            return Refused(400, str(error), code="bad_setting").response()
        return JSONResponse({"run": run.id})

    async def stop_run(_: Request) -> Response:
        return JSONResponse({"stopped": await core.runs.stop()})

    async def reconcile(_: Request) -> Response:
        core.reconciler.wake()
        return JSONResponse({"answering": core.live.current.version})

    async def prune(_: Request) -> Response:
        return JSONResponse({"removed": await pruning.remove_files()})

    def only_ours(handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), token.encode()):
                return Refused(401, "This needs the admin token.", code="unauthorized").response()
            try:
                return await handler(request)
            except OUTAGE as error:
                said = f"the store cannot be used now: {cause(error)}"
                return Refused(503, said, code="store_unavailable").response()

        return checked

    return [
        Route("/admin/status", only_ours(status)),
        Route("/admin/config", only_ours(settings)),
        Route("/admin/runs", only_ours(start_run), methods=["POST"]),
        Route("/admin/runs/stop", only_ours(stop_run), methods=["POST"]),
        Route("/admin/reconcile", only_ours(reconcile), methods=["POST"]),
        Route("/admin/prune", only_ours(prune), methods=["POST"]),
    ]


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ConfigError("the request's body must be a JSON object")
    return body
