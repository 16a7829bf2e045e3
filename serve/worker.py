"""A further process of the gateway: `python -m serve.worker NUMBER LISTENER CHANNEL LIMITS ENGINE
ADMIN`.

It answers and records as the daemon does, and goes by what that says (serve/daemon/workers.py). The
configuration comes on standard input; LISTENER, CHANNEL and LIMITS are open files; ENGINE and ADMIN
are URLs.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import cast

import httpx2
import uvloop

from serve.daemon.process import Loop, background
from serve.daemon.workers import LINE_BYTES, QUESTION, REPORT, STANDING, Report
from serve.gateway.app import Gateway
from serve.gateway.feedback import feedback_for
from serve.gateway.keys import KeyFile
from serve.gateway.limits import Limits
from serve.gateway.live import BASE, Live
from serve.gateway.recorder import DRAIN_SECONDS, recorder_for
from serve.gateway.request import Refused
from serve.gateway.server import favour_answers, server_for
from ttrl import ReportedError, logs
from ttrl.config import Config
from ttrl.metrics import Metrics
from ttrl.questions.question import Question
from ttrl.store import Store
from ttrl.store.questions import Recorded

log = logging.getLogger(__name__)

QUEUE = 16
"""Questions for the live monitor between two reports at most, the newest."""


async def work(
    config: Config,
    listener: socket.socket,
    channel: socket.socket,
    limits: Limits,
    engine_url: str,
    admin_url: str,
) -> None:
    """Answer until the daemon hangs up. Raises StoreError, KeysUnreadable, RedactionFailed."""
    reader, writer = await asyncio.open_unix_connection(sock=channel, limit=LINE_BYTES)
    metrics, live = Metrics(), Live(config.served_name, config.served_name)
    asked: deque[str] = deque(maxlen=QUEUE)

    def offer(question: Question) -> None:
        if live.current.version != BASE and random.random() < config.shadow.share:
            with suppress(ValueError):  # nested too deeply
                asked.append(QUESTION.dump_json(question).decode())

    def report() -> None:
        said = Report(live.held(), recorder.failing, metrics.of_worker(), [*asked])
        asked.clear()
        writer.write(REPORT.dump_json(said) + b"\n")

    async def scrape() -> bytes:
        try:
            async with httpx2.AsyncClient(trust_env=False) as client:
                return (await client.get(f"{admin_url}/metrics")).content
        except httpx2.HTTPError:
            raise Refused(503, "The daemon cannot be reached.") from None

    async def follow() -> None:
        report()
        while line := await reader.readline():
            live.take(STANDING.validate_json(line))
            report()

    def told_to_end() -> None:
        server.cut() if server.should_exit else server.leave()

    with ExitStack() as stack:
        store, write = None, cast("Callable[[Sequence[Recorded]], object]", list)
        if config.record.enabled:
            store = stack.enter_context(Store.open(config.state_dir, config.store.url))
            write = partial(store.questions.record, holdout=config.gate.holdout)
        recorder, redactor = recorder_for(config, write, metrics, offer)
        feedback = feedback_for(config, store, recorder, redactor, metrics) if store else None
        if redactor is not None:
            stack.callback(redactor.close)
            await asyncio.to_thread(redactor.texts, [])
        keys = KeyFile(config.gateway.keys) if config.gateway.keys else None
        report()
        if not (line := await reader.readline()):
            return
        live.take(STANDING.validate_json(line))
        gateway = Gateway(
            config, engine_url, live, recorder, metrics, keys, feedback,
            ready=lambda: live.ready, scrape=scrape, limits=limits,
        )  # fmt: skip
        server = server_for(config, gateway.app(), metrics.serving)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_end)
        favour_answers()
        async with background(recorder=Loop(recorder.run)):
            following = asyncio.create_task(follow())
            following.add_done_callback(lambda _: server.leave())
            await server.serve(sockets=[listener])
            if left := await recorder.drain(DRAIN_SECONDS):
                log.error("%d questions could not be written before the shutdown", left)
    following.cancel()
    with suppress(ConnectionError):  # the daemon may be gone
        report()
        await writer.drain()


def main() -> None:
    number, listener, channel, file = map(int, sys.argv[1:5])
    config = Config.model_validate_json(sys.stdin.read())
    logs.configure(config.log_level, config.log_format, worker=number)
    sockets = socket.socket(fileno=listener), socket.socket(fileno=channel)
    limits = Limits(config.gateway.workers, number, file)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work(config, *sockets, limits, *sys.argv[5:]))
    except ReportedError as error:
        log.error("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
