"""The daemon: gateway, recorder, engine, reconciler, schedule and runs in one process."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from prometheus_client import CollectorRegistry
from starlette.routing import Route

from serve import admin
from serve.daemon.core import Core, core
from serve.daemon.housekeeping import Measuring, Observer, Pruning, Screening
from serve.daemon.process import Loop, Manager, background, on_signals
from serve.daemon.runs import STOP_SECONDS
from serve.daemon.schedule import TICK_SECONDS, Clock
from serve.daemon.webhook import Webhook, of_alert, of_change, of_run
from serve.daemon.workers import Workers
from serve.gateway.admission import names
from serve.gateway.app import gateway_for
from serve.gateway.recorder import DRAIN_SECONDS
from serve.gateway.server import (
    PortInUse,
    allow_files,
    bind,
    favour_answers,
    listen,
    own_url,
    server_for,
)
from serve.gateway.shadow import Shadow
from serve.state import Owner, announce, owner_at
from ttrl.answers.bounded import BoundedReader
from ttrl.answers.phrases import phrases
from ttrl.config import Config
from ttrl.metrics.series import Serving
from ttrl.store.adapters import Change
from ttrl.store.runs import Trigger

log = logging.getLogger(__name__)

LEEWAY_SECONDS = 30.0
"""For the engine to end, and for what takes longer than it should."""


async def serve(config: Config, progress: Callable[[float], None]) -> None:
    """Run until a signal says stop. Clients get 503 with Retry-After until the engine is up.

    Raises PortInUse, StateDirError, StoreError, EngineError, KeysUnreadable, RedactionFailed.
    """
    allow_files(config.gateway)
    manager = Manager.take()
    signs_of_life = Loop(manager.sign_of_life, manager.pause)
    with ExitStack() as stack:
        listener = stack.enter_context(bind(config.gateway.host, config.gateway.port))
        admin_listener, paged = _listen_for_operators(config, stack)
        async with background(manager=signs_of_life), core(config) as parts:

            def status() -> str:
                if not parts.engine.up:
                    return "waiting for the engine; requests get 503 until it is ready"
                run = "; a run is in progress" if parts.runs.busy else ""
                return f"{config.served_name} is served by {parts.live.current.version}{run}"

            manager.look = status
            admin_url = own_url(admin_listener)
            page = admin_url if paged else None
            owner = owner_at(own_url(listener), admin=admin_url, page=page, key=config.admin.key)
            await _run(parts, owner, manager, listener, admin_listener, progress)


def _listen_for_operators(config: Config, stack: ExitStack) -> tuple[socket.socket, bool]:
    """The listener, and whether there is a page: nobody is to go without answers because another
    process has its address."""
    if config.admin.port is not None:
        try:
            listener = bind(config.admin.host, config.admin.port, "--set admin.port=0")
            return stack.enter_context(listener), True
        except PortInUse as error:
            log.error("cannot start the page: %s", error)
    return stack.enter_context(bind("127.0.0.1", 0)), False


async def _run(
    parts: Core,
    owner: Owner,
    manager: Manager,
    listener: socket.socket,
    admin_listener: socket.socket,
    progress: Callable[[float], None],
) -> None:
    """Answer, record and learn until a signal says stop."""
    config, store, metrics, live = parts.config, parts.store, parts.metrics, parts.live
    webhook = Webhook(config.webhook, metrics)
    parts.runs.ended.append(lambda run: webhook.tell(of_run(run)))
    reader = BoundedReader(config.vote.kind, table=phrases(config.vote.phrases))
    shadow = Shadow(
        config,
        store,
        parts.engine.client,
        live,
        metrics.judging,
        reader=reader,
        rolled_back=parts.reconciler.wake,
        alerted=lambda version, words: webhook.tell(of_alert(version, words)),
    )
    screening = Loop(Screening(parts, reader).look, seconds=60)
    ready, admin_url = (lambda: parts.engine.up), own_url(admin_listener)
    workers = Workers(
        config, listener, parts.engine.url, admin_url, live, metrics, ready, shadow.take
    )
    gateway, redactor = gateway_for(
        config, store, parts.engine.url, live, metrics, ready, workers.scrape, workers.limits,
        shadow.offer, screening.wake,
    )  # fmt: skip
    recorder = gateway.recorder
    if gateway.keys is not None:
        metrics.host.keys_ok.set_function(gateway.keys.ok)
    start = partial(parts.runs.start, Trigger.SCHEDULE, {})
    clock = Clock(config.schedule, store, start, metrics, ready)
    assert owner.key is not None
    routes = admin.routes(parts, clock, shadow, owner)
    routes.append(Route("/metrics", gateway.show_metrics))
    if owner.page is not None:
        routes += admin.Page(parts, clock, shadow, owner.key).routes()
    hosts = names(config.admin.host, admin_listener.getsockname()[0])

    favour_answers()
    for each in (listener, admin_listener):
        listen(each)
    announce(config.state_dir, owner)
    log.info("listening at %s/v1", owner.url)
    if owner.page:
        log.info("the page is at %s; `ttrl page` prints a link that logs in", owner.page)
    server = server_for(config, gateway.app(), metrics.serving)
    admin_server = server_for(config, admin.app(routes, hosts), Serving(CollectorRegistry()))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    admin_serving = asyncio.create_task(admin_server.serve(sockets=[admin_listener]))
    drain = config.gateway.drain_timeout.total_seconds()
    longest_stop = drain + DRAIN_SECONDS + STOP_SECONDS + LEEWAY_SECONDS
    on_signals(
        [partial(manager.stopping, longest_stop), server.leave, workers.leave],
        [server.cut, workers.cut, parts.end_now, admin_server.cut],
    )
    manager.ready()
    try:
        if redactor is not None:
            await asyncio.to_thread(redactor.texts, [])
        starting = asyncio.create_task(parts.engine.start(progress))
        await asyncio.wait({serving, starting}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():  # told to stop before the engine was up
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        await starting
        log.info("model %s is served by %s", config.served_name, live.current.version)
        loop = asyncio.get_running_loop()

        def changed(change: Change) -> None:
            loop.call_soon_threadsafe(parts.reconciler.wake)
            webhook.tell(of_change(change))

        observer = Observer(store, metrics, config.state_dir, changed)
        metrics.host.store_up.set_function(
            lambda: (
                parts.damage is None
                and observer.reads
                and not (recorder.failing or workers.failing)
            )
        )
        async with background(
            engine=Loop(parts.engine.watch, seconds=2, delay=2),
            reconciler=parts.reconciler.loop,
            recorder=Loop(recorder.run),
            observer=Loop(observer.follow, seconds=1),
            shadow=Loop(shadow.run),
            measuring=Loop(Measuring(parts).look, seconds=60, delay=60),
            screening=screening,
            pruning=Loop(Pruning(parts).look, seconds=600, delay=600),
            checking=Loop(parts.check, seconds=86400, delay=60),
            webhook=Loop(webhook.run),
            **workers.loops(),
        ):
            async with background(schedule=Loop(clock.tick, TICK_SECONDS)):
                await serving
            if left := await recorder.drain(DRAIN_SECONDS):
                log.error("%d questions could not be written before the shutdown", left)
            await workers.ended(drain + DRAIN_SECONDS)
    finally:
        admin_server.leave()
        server.leave()
        await asyncio.wait({admin_serving, serving})
        reader.stop()
        if redactor is not None:
            redactor.close()
        await asyncio.gather(admin_serving, serving)  # raises what ended them
