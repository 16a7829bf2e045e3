"""The daemon: gateway, recorder, engine, reconciler, schedule and runs in one process."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serve import admin, gateway
from serve.core import Core, background, core
from serve.counting import Counting
from serve.forward import Limits
from serve.gateway import GatewaySettings
from serve.observer import Observer
from serve.recorder import Recorder
from serve.schedule import Clock
from serve.shadow import Shadow
from serve.state import announce
from serve.watch import Watch
from ttrl.config import Config
from ttrl.store.questions import Recorded
from ttrl.store.runs import RunBusy, Trigger

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0


class PortInUse(Exception):
    """The address cannot be listened on; the message says which and what to do."""


async def serve(config: Config, progress: Callable[[float], None]) -> None:
    """Run until a signal says stop. Clients get 503 with Retry-After until the engine is up.

    Raises PortInUse, StateDirError, StoreError, EngineError.
    """
    listener = listen(config)
    with listener:
        async with core(config) as parts:
            token = announce(config.state_dir, own_url(listener))
            await _serve(parts, listener, token, progress)


async def _serve(
    parts: Core, listener: socket.socket, token: str, progress: Callable[[float], None]
) -> None:
    config, counts = parts.config, Counting(parts.metrics)
    watch = Watch(config.shadow, parts.store, parts.live, parts.metrics)
    shadow = _shadow(parts, watch)
    recorder = Recorder(
        partial(_record, parts), capacity=config.record.queue, counts=counts, then=shadow.offer
    )
    clock = Clock(config.schedule, parts.store, partial(_start_scheduled, parts), parts.metrics)
    server = _server(
        config, _app(parts, recorder, counts, admin.routes(parts, clock, watch, token))
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    _stop_on_signals(server)
    starting = asyncio.create_task(parts.start(progress))
    await asyncio.wait({serving, starting}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():  # told to stop before the engine was up
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    try:
        await starting
        version, where = parts.live.current.version, own_url(listener)
        log.info("%s is served by %s at %s/v1", config.served_name, version, where)
        observer = Observer(parts.store, parts.metrics)
        async with background(
            engine=parts.engine.watch,
            reconciler=parts.reconciler.run,
            recorder=recorder.run,
            observer=observer.run,
            shadow=shadow.run,
        ):
            clock.run()
            await serving
            clock.stop()
            if left := await recorder.drain(DRAIN_SECONDS):
                log.error("%d questions could not be written before the end", left)
    finally:
        server.should_exit = True
        await serving


def _app(
    parts: Core, recorder: Recorder, counts: Counting, admin_routes: Sequence[BaseRoute]
) -> Starlette:
    config = parts.config
    settings = GatewaySettings(
        engine_url=parts.engine.url,
        engine_api_key=config.engine.api_key,
        routes=config.gateway.routes,
        limits=Limits(
            max_body_bytes=config.gateway.max_body,
            max_n=config.gateway.max_n,
            max_chars=config.record.max_chars,
            record=config.record.enabled,
            only_keys=frozenset(config.record.only_keys),
        ),
    )

    async def metrics(_: Request) -> Response:
        return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def ready() -> bool:
        return parts.engine.up.is_set()

    extra = [Route("/metrics", metrics), *admin_routes]
    return gateway.app(
        settings, parts.live, recorder, counts=counts, ready=ready, extra_routes=extra
    )


def _shadow(parts: Core, watch: Watch) -> Shadow:
    return Shadow(
        parts.config,
        watch,
        parts.engine.client,
        parts.live,
        parts.metrics,
        rolled_back=parts.reconciler.wake,
    )


def _record(parts: Core, batch: Sequence[Recorded]) -> None:
    parts.store.questions.record(batch, holdout=parts.config.gate.holdout)


async def _start_scheduled(parts: Core) -> None:
    try:
        await parts.runs.start(Trigger.SCHEDULE, {})
    except RunBusy as error:
        log.info("%s", error)


def listen(config: Config) -> socket.socket:
    where = (config.gateway.host, config.gateway.port)
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    try:
        return socket.create_server(where, family=family, backlog=1024)
    except OSError as error:
        raise PortInUse(
            f"cannot listen on {where[0]}:{where[1]} ({error.strerror}); "
            "choose another with --port or --host"
        ) from None


def own_url(listener: socket.socket) -> str:
    """Where this machine reaches the daemon. One that listens everywhere listens on loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn's own handlers end the process before the rest is stopped."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(config: Config, app: Starlette) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(config.gateway.drain_timeout.total_seconds()),
        )
    )


def _stop_on_signals(server: uvicorn.Server) -> None:
    """The first signal lets answers under way end, the second does not."""

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
