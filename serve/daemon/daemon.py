"""The daemon: gateway, recorder, engine, reconciler, schedule and runs in one process."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve.daemon.core import Core, core
from serve.daemon.engine import WATCH_SECONDS
from serve.daemon.housekeeping import MEASURE_SECONDS, PRUNE_SECONDS, Measuring, Pruning
from serve.daemon.observer import INTERVAL_SECONDS, Observer
from serve.daemon.process import Loop, Manager, background, on_signals
from serve.daemon.runs import STOP_SECONDS
from serve.daemon.schedule import TICK_SECONDS, Clock
from serve.daemon.webhook import Webhook, of_alert, of_change, of_run
from serve.gateway import app as gateway
from serve.gateway.admission import names
from serve.gateway.counts import Counts
from serve.gateway.keys import KeyFile
from serve.gateway.recorder import Recorder
from serve.gateway.server import PortInUse, allow_files, listen, own_url, server_for
from serve.gateway.shadow import Shadow, Watch
from serve.state import Owner, announce
from serve.web import admin
from serve.web.page import Page
from ttrl.config import Config
from ttrl.redaction import Redactor
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
        admin_listener, paged = _listen_for_operators(config, stack)
        signs_of_life = Loop(manager.sign_of_life, manager.pause)
        async with background(manager=signs_of_life), core(config) as parts:
            manager.look = partial(_status_line, parts)
            admin_url = own_url(admin_listener)
            page = admin_url if paged else None
            owner = announce(
                config.state_dir,
                own_url(listener),
                admin=admin_url,
                page=page,
                key=config.admin.key,
            )
            log.info("listening at %s/v1", owner.url)
            if page:
                log.info("the page is at %s; `ttrl page` prints a link that logs in", page)
            await _Daemon.of(parts, owner).run(manager, listener, admin_listener, progress)


def _listen_for_operators(config: Config, stack: ExitStack) -> tuple[socket.socket, bool]:
    """The listener, and whether there is a page: nobody is to go without answers because another
    process has its address."""
    if config.admin.port is not None:
        try:
            listener = listen(config.admin.host, config.admin.port, "--set admin.port=0")
            return stack.enter_context(listener), True
        except PortInUse as error:
            log.error("cannot start the page: %s", error)
    return stack.enter_context(listen("127.0.0.1", 0)), False


def _status_line(parts: Core) -> str:
    """For the service manager."""
    if not parts.engine.up:
        return "waiting for the engine; requests get 503 until it is ready"
    run = "; a run is in progress" if parts.runs.busy else ""
    return f"{parts.config.served_name} is served by {parts.live.current.version}{run}"


@dataclass(frozen=True)
class _Daemon:
    """The parts of one state directory, and what only a daemon has beside them."""

    parts: Core
    owner: Owner
    counts: Counts
    redactor: Redactor | None
    watch: Watch
    shadow: Shadow
    recorder: Recorder
    clock: Clock
    pruning: Pruning

    @classmethod
    def of(cls, parts: Core, owner: Owner) -> _Daemon:
        config, metrics = parts.config, parts.metrics
        counts = Counts(metrics)
        redactor = None
        if config.record.entities:
            redactor = Redactor(config.record.entities, config.record.redact_model)
        watch = Watch(config.shadow, parts.store, parts.live, metrics)
        shadow = Shadow(
            config,
            watch,
            parts.engine.client,
            parts.live,
            metrics,
            rolled_back=parts.reconciler.wake,
        )
        recorder = Recorder(
            partial(parts.store.questions.record, holdout=config.gate.holdout),
            capacity=config.record.queue,
            counts=counts,
            then=shadow.offer,
            redact=None if redactor is None else redactor.question,
        )
        metrics.recording.queue.set_function(lambda: recorder.pending)

        async def start_run() -> None:
            try:
                await parts.runs.start(Trigger.SCHEDULE, {})
            except RunBusy as error:
                log.info("%s", error)

        clock = Clock(config.schedule, parts.store, start_run, metrics)
        return cls(parts, owner, counts, redactor, watch, shadow, recorder, clock, Pruning(parts))

    async def run(
        self,
        manager: Manager,
        listener: socket.socket,
        admin_listener: socket.socket,
        progress: Callable[[float], None],
    ) -> None:
        """Answer, record and learn until a signal says stop."""
        config = self.parts.config
        server = server_for(config, self._gateway(), self.counts)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        drain = config.gateway.drain_timeout.total_seconds()
        longest_stop = drain + DRAIN_SECONDS + STOP_SECONDS + LEEWAY_SECONDS
        now = [server.cut, self.parts.end_now]
        on_signals([partial(manager.stopping, longest_stop), server.leave], now)
        manager.ready()
        try:
            async with self._admin(admin_listener) as cut:
                now.append(cut)
                if self.redactor is not None:
                    await asyncio.to_thread(self.redactor.texts, [])
                starting = asyncio.create_task(self.parts.engine.start(progress))
                await asyncio.wait({serving, starting}, return_when=asyncio.FIRST_COMPLETED)
                if serving.done():  # told to stop before the engine was up
                    starting.cancel()
                    await asyncio.gather(starting, return_exceptions=True)
                    return
                await starting
                await self._work(serving)
        finally:
            if self.redactor is not None:
                self.redactor.close()
            server.leave()
            await serving

    async def _work(self, serving: asyncio.Task[None]) -> None:
        """Learn as long as users are served."""
        parts, config, recorder = self.parts, self.parts.config, self.recorder
        log.info("model %s is served by %s", config.served_name, parts.live.current.version)
        webhook = Webhook(config.webhook, parts.metrics)
        parts.runs.ended.append(lambda run: webhook.tell(of_run(run)))
        self.watch.alerted.append(lambda version, words: webhook.tell(of_alert(version, words)))
        observer = Observer(
            parts.store,
            parts.metrics,
            config.state_dir,
            lambda change: webhook.tell(of_change(change)),
        )
        parts.metrics.host.store_up.set_function(
            lambda: parts.damage is None and observer.reads and not recorder.failing
        )
        measuring = Measuring(parts)
        async with background(
            engine=Loop(parts.engine.watch, WATCH_SECONDS, delay=WATCH_SECONDS),
            reconciler=parts.reconciler.loop,
            recorder=Loop(recorder.run),
            observer=Loop(observer.follow, INTERVAL_SECONDS),
            shadow=Loop(self.shadow.run),
            measuring=Loop(measuring.look, MEASURE_SECONDS, delay=MEASURE_SECONDS),
            pruning=Loop(self.pruning.look, PRUNE_SECONDS, delay=PRUNE_SECONDS),
            webhook=Loop(webhook.run),
        ):
            async with background(schedule=Loop(self.clock.tick, TICK_SECONDS)):
                await serving
            if left := await recorder.drain(DRAIN_SECONDS):
                log.error("%d questions could not be written before the shutdown", left)

    def _gateway(self) -> Starlette:
        parts, config = self.parts, self.parts.config
        keys = KeyFile(config.gateway.keys) if config.gateway.keys else None
        if keys is not None:
            parts.metrics.serving.keys_ok.set_function(keys.ok)

        async def ready() -> bool:
            return parts.engine.up

        return gateway.app(
            config,
            parts.engine.url,
            parts.live,
            self.recorder,
            keys=keys,
            counts=self.counts,
            ready=ready,
            extra_routes=[self._metrics_route()],
        )

    def _metrics_route(self) -> Route:
        async def metrics(_: Request) -> Response:
            text = self.parts.metrics.text()
            return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

        return Route("/metrics", metrics)

    @asynccontextmanager
    async def _admin(self, listener: socket.socket) -> AsyncIterator[Callable[[], None]]:
        """The admin address, as long as the block lasts; with the page, if it has one. Yields what
        cuts off whoever is there."""
        parts, owner = self.parts, self.owner
        assert owner.token is not None
        assert owner.key is not None
        ours = admin.Admin(parts, self.clock, self.watch, self.pruning, owner.token)
        routes = [self._metrics_route(), *ours.routes()]
        if owner.page is not None:
            routes += Page(parts, self.clock, self.watch, owner.key).routes()
        hosts = names(parts.config.admin.host, listener.getsockname()[0])
        server = server_for(parts.config, admin.app(routes, hosts), Counts())
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield server.cut
        finally:
            server.leave()
            await serving
