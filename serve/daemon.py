"""The daemon: gateway, recorder, engine, reconciler, schedule and runs in one process."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve import admin, gateway
from serve.core import Core, background, core
from serve.counting import Counting
from serve.counts import Counts
from serve.forward import Limits
from serve.gateway import GatewaySettings
from serve.keys import KeyFile
from serve.listening import (
    PortInUse,
    allow_files,
    listen,
    own_url,
    server_for,
)
from serve.measuring import Measuring
from serve.notices import of_change
from serve.notify import Manager
from serve.observer import Observer
from serve.page.app import Page
from serve.pruning import Pruning
from serve.recorder import Recorder
from serve.runs import STOP_SECONDS
from serve.schedule import Clock
from serve.shadow import Shadow
from serve.signals import on_signals
from serve.state import Owner, announce
from serve.watch import Watch
from serve.webhook import Webhook
from ttrl.config import Config
from ttrl.redaction import Redactor
from ttrl.store.questions import Recorded
from ttrl.store.runs import RunBusy, Trigger

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
LEEWAY_SECONDS = 30.0
"""For the engine to end, and for what takes longer than it should."""


async def serve(config: Config, progress: Callable[[float], None]) -> None:
    """Run until a signal says stop. Clients get 503 with Retry-After until the engine is up.

    Raises PortInUse, StateDirError, StoreError, EngineError, KeysUnreadable, RedactionFailed.
    """
    allow_files(config.gateway)
    manager = Manager.take()
    with ExitStack() as stack:
        listener = stack.enter_context(listen(config.gateway.host, config.gateway.port))
        desk, paged = _listen_for_operators(config, stack)
        async with background(manager=manager.keep), core(config) as parts:
            manager.look = partial(_in_words, parts)
            admin_url = own_url(desk)
            page = admin_url if paged else None
            owner = announce(
                config.state_dir,
                own_url(listener),
                admin=admin_url,
                page=page,
                key=config.admin.key,
            )
            log.info("answering at %s/v1", owner.url)
            if page:
                log.info("the page is at %s; `ttrl page` prints a link that logs in", page)
            await _serve(parts, manager, listener, desk, owner, progress)


async def _serve(
    parts: Core,
    manager: Manager,
    listener: socket.socket,
    desk: socket.socket,
    owner: Owner,
    progress: Callable[[float], None],
) -> None:
    config, counts = parts.config, Counting(parts.metrics)
    watch = Watch(config.shadow, parts.store, parts.live, parts.metrics)
    shadow = _shadow(parts, watch)
    redactor = _redactor(config)
    recorder = Recorder(
        partial(_record, parts),
        capacity=config.record.queue,
        counts=counts,
        then=shadow.offer,
        redact=None if redactor is None else redactor.question,
    )
    parts.metrics.recording.queue.set_function(lambda: recorder.pending)
    clock = Clock(config.schedule, parts.store, partial(_start_scheduled, parts), parts.metrics)
    pruning = Pruning(parts)
    server = server_for(config, _app(parts, recorder, counts), counts)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    now = [server.cut, parts.end_now]
    on_signals([partial(manager.stopping, _longest_stop(config)), server.leave], now)
    manager.ready()
    try:
        async with _admin(parts, clock, watch, pruning, desk, owner) as cut:
            now.append(cut)
            if redactor is not None:
                await asyncio.to_thread(redactor.texts, [])
            await _work(parts, serving, recorder, shadow, clock, pruning, progress)
    finally:
        if redactor is not None:
            redactor.close()
        server.leave()
        await serving


async def _work(
    parts: Core,
    serving: asyncio.Task[None],
    recorder: Recorder,
    shadow: Shadow,
    clock: Clock,
    pruning: Pruning,
    progress: Callable[[float], None],
) -> None:
    """Bring the engine up, and learn as long as users are served."""
    starting = asyncio.create_task(parts.start(progress))
    await asyncio.wait({serving, starting}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():  # told to stop before the engine was up
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    await starting
    config = parts.config
    log.info("%s is served by %s", config.served_name, parts.live.current.version)
    webhook = Webhook(config.webhook, parts.metrics)
    parts.runs.ended.append(webhook.hear)
    observer = Observer(
        parts.store, parts.metrics, config.state_dir, lambda c: webhook.tell(of_change(c))
    )
    parts.metrics.host.store_up.set_function(
        lambda: parts.damage is None and observer.reads and not recorder.failing
    )
    async with background(
        engine=parts.engine.watch,
        reconciler=parts.reconciler.run,
        recorder=recorder.run,
        observer=observer.run,
        shadow=shadow.run,
        measuring=Measuring(parts).run,
        pruning=pruning.run,
        webhook=webhook.run,
    ):
        clock.run()
        await serving
        clock.stop()
        if left := await recorder.drain(DRAIN_SECONDS):
            log.error("%d questions could not be written before the end", left)


def _app(parts: Core, recorder: Recorder, counts: Counting) -> Starlette:
    config = parts.config
    keys = KeyFile(config.gateway.keys) if config.gateway.keys else None
    if keys is not None:
        parts.metrics.serving.keys_ok.set_function(keys.ok)
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
            max_requests=config.gateway.max_requests,
        ),
        keys=keys,
        hosts=admin.names(config.gateway.host, *config.gateway.hosts),
    )

    async def ready() -> bool:
        return parts.engine.up

    return gateway.app(
        settings,
        parts.live,
        recorder,
        counts=counts,
        ready=ready,
        extra_routes=[_metrics(parts)],
    )


def _metrics(parts: Core) -> Route:
    async def metrics(_: Request) -> Response:
        return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Route("/metrics", metrics)


def _listen_for_operators(config: Config, stack: ExitStack) -> tuple[socket.socket, bool]:
    """Where, and whether there is a page: nobody is to go without answers because another has its
    address."""
    if config.admin.port is not None:
        try:
            listener = listen(config.admin.host, config.admin.port, "--set admin.port=0")
            return stack.enter_context(listener), True
        except PortInUse as error:
            log.error("there is no page: %s", error)
    return stack.enter_context(listen("127.0.0.1", 0)), False


@asynccontextmanager
async def _admin(
    parts: Core, clock: Clock, watch: Watch, pruning: Pruning, desk: socket.socket, owner: Owner
) -> AsyncIterator[Callable[[], None]]:
    """The admin address, as long as the block lasts; with the page, if it has one. What cuts off
    whoever is there."""
    assert owner.token is not None
    assert owner.key is not None
    ours = admin.Admin(parts, clock, watch, pruning, owner.token)
    routes = [_metrics(parts), *ours.routes()]
    if owner.page is not None:
        routes += Page(parts, clock, watch, owner.key).routes()
    hosts = admin.names(parts.config.admin.host, desk.getsockname()[0])
    server = server_for(parts.config, admin.app(routes, hosts), Counts())
    serving = asyncio.create_task(server.serve(sockets=[desk]))
    try:
        yield server.cut
    finally:
        server.leave()
        await serving


def _in_words(parts: Core) -> str:
    """For the service manager."""
    if not parts.engine.up:
        return "waiting for the engine; requests get 503 until it is up"
    run = "; a run is under way" if parts.runs.busy else ""
    return f"{parts.config.served_name} is served by {parts.live.current.version}{run}"


def _longest_stop(config: Config) -> float:
    """Seconds from a signal to the end, if all takes as long as it may."""
    drain = config.gateway.drain_timeout.total_seconds()
    return drain + DRAIN_SECONDS + STOP_SECONDS + LEEWAY_SECONDS


def _shadow(parts: Core, watch: Watch) -> Shadow:
    return Shadow(
        parts.config,
        watch,
        parts.engine.client,
        parts.live,
        parts.metrics,
        rolled_back=parts.reconciler.wake,
    )


def _redactor(config: Config) -> Redactor | None:
    record = config.record
    return Redactor(record.entities, record.redact_model) if record.entities else None


def _record(parts: Core, batch: Sequence[Recorded]) -> None:
    parts.store.questions.record(batch, holdout=parts.config.gate.holdout)


async def _start_scheduled(parts: Core) -> None:
    try:
        await parts.runs.start(Trigger.SCHEDULE, {})
    except RunBusy as error:
        log.info("%s", error)
