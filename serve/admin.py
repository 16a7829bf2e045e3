"""The admin routes: for `ttrl` on the same machine, with the token from the state directory."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from serve.core import Core
from serve.errors import Refused
from serve.schedule import Clock
from serve.status import report
from serve.watch import Watch
from ttrl.settings import ConfigError
from ttrl.store.runs import RunBusy, Trigger

Handler = Callable[[Request], Awaitable[Response]]


def routes(core: Core, clock: Clock, watch: Watch, token: str) -> list[BaseRoute]:
    """What `ttrl` asks of a running daemon."""

    async def status(_: Request) -> Response:
        live = report(core.store, core.config)
        return JSONResponse(
            {
                **live,
                "engine_up": core.engine.up.is_set(),
                "engine_url": core.engine.url,
                "next_run": clock.next_run(),
                "schedule": clock.said,
                "answering": core.live.current.version,
                "shadow": watch.report(),
            }
        )

    async def settings(_: Request) -> Response:
        return Response(core.config.model_dump_json(), media_type="application/json")

    async def start_run(request: Request) -> Response:
        try:
            run = await core.runs.start(Trigger.OPERATOR, await _body(request))
        except RunBusy as error:
            return Refused(409, str(error), code="run_under_way").response()
        except ConfigError as error:
            return Refused(400, str(error), code="bad_setting").response()
        return JSONResponse({"run": run.id})

    async def stop_run(_: Request) -> Response:
        return JSONResponse({"stopped": await core.runs.stop()})

    async def reconcile(_: Request) -> Response:
        core.reconciler.wake()
        return JSONResponse({"answering": core.live.current.version})

    def only_ours(handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), token.encode()):
                return Refused(401, "This needs the admin token.", code="unauthorized").response()
            return await handler(request)

        return checked

    return [
        Route("/admin/status", only_ours(status)),
        Route("/admin/config", only_ours(settings)),
        Route("/admin/runs", only_ours(start_run), methods=["POST"]),
        Route("/admin/runs/stop", only_ours(stop_run), methods=["POST"]),
        Route("/admin/reconcile", only_ours(reconcile), methods=["POST"]),
    ]


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ConfigError("the request's body must be a JSON object")
    return body
