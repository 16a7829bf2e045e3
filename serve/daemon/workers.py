"""The further processes of the gateway (`gateway.workers`): as the daemon has them, and what they
do, `python -m serve.daemon.workers NUMBER LISTENER CHANNEL LIMITS ENGINE ADMIN`.

They answer and record as the daemon does, and share its listening socket, so that what one has not
accepted another does, also when it dies. LISTENER, CHANNEL and LIMITS are open files; ENGINE and
ADMIN are URLs.

The daemon and each worker talk in turns, over a socket pair, a line of JSON each: the daemon says
what it serves, every second and at each change; the worker goes by it and reports. An end of file
says that the other has ended or is to end.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import httpx2
import uvloop
from pydantic import TypeAdapter

from serve.daemon.process import Loop, background, spawn
from serve.gateway.admission import Limits
from serve.gateway.app import gateway_for
from serve.gateway.live import BASE, Live, Standing
from serve.gateway.recorder import DRAIN_SECONDS
from serve.gateway.request import Refused
from serve.gateway.server import favour_answers, server_for
from ttrl import ReportedError, logs
from ttrl.config import Config
from ttrl.metrics import Metrics, Row
from ttrl.questions.question import Question
from ttrl.store import Store

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0
SCRAPE_SECONDS = 1.0
"""How long a scrape waits for the newest counts."""
PATIENCE_SECONDS = 30.0
"""A worker that says nothing for so long hangs, and is killed."""
EXIT_SECONDS = 5.0
LINE_BYTES = 64 * 1024**2
QUEUE = 16
"""Questions for the live monitor between two reports at most, the newest."""


@dataclass(frozen=True)
class Report:
    """What a worker says: the answers under way, by version; whether its last attempt to record
    failed; all that it counted; and questions for the live monitor, each as JSON of its own, since
    a request may be nested as deeply as can be read, and no deeper."""

    in_flight: dict[str, int]
    failing: bool
    series: list[Row]
    asked: list[str]


STANDING, REPORT = TypeAdapter(Standing), TypeAdapter(Report)
QUESTION = TypeAdapter(Question)


@dataclass(eq=False)
class Workers:
    """All but the first. `ready` says whether users can be served, `asked` takes questions for the
    live monitor."""

    config: Config
    listener: socket.socket
    engine_url: str
    admin_url: str
    live: Live
    metrics: Metrics
    ready: Callable[[], bool]
    asked: Callable[[Question], object] = lambda _: None
    leaving: bool = False

    def __post_init__(self) -> None:
        self.limits = Limits(self.config.gateway.workers)
        self._all = [Worker(number, self) for number in range(2, self.config.gateway.workers + 1)]
        self.live.spread = self.spread

    def loops(self) -> dict[str, Loop]:
        return {f"gateway worker {each.number}": Loop(each.run) for each in self._all}

    @property
    def failing(self) -> bool:
        return any(each.failing for each in self._all)

    async def spread(self, seconds: float | None = None) -> None:
        """Wait until all that run go by how things stand now, or for at most so many seconds."""
        if told := [asyncio.create_task(each.tell()) for each in self._all]:
            await asyncio.wait(told, timeout=seconds)

    async def scrape(self) -> bytes:
        await self.spread(SCRAPE_SECONDS)
        return self.metrics.text()

    def leave(self) -> None:
        """Answers under way end, and no other begins."""
        self.leaving = True
        for each in self._all:
            each.leave()

    def cut(self) -> None:
        for each in self._all:
            each.send(signal.SIGTERM)

    async def ended(self, seconds: float) -> None:
        """Wait until they have left, for at most so many seconds."""
        if left := [asyncio.create_task(each.ended.wait()) for each in self._all]:
            await asyncio.wait(left, timeout=seconds)


class Worker:
    """One process after the other. `failing` says that its last attempt to record failed."""

    def __init__(self, number: int, workers: Workers) -> None:
        self.number, self._workers = number, workers
        self.failing = False
        self.ended = asyncio.Event()
        self.ended.set()
        self._child: asyncio.subprocess.Process | None = None
        self._channel: asyncio.StreamWriter | None = None
        self._listens = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def run(self) -> None:
        workers, (here, there) = self._workers, socket.socketpair()
        with there:
            reader, channel = await asyncio.open_unix_connection(sock=here, limit=LINE_BYTES)
            if workers.leaving:
                channel.close()
                return
            self._channel = channel
            self.ended.clear()
            assert workers.limits.file is not None
            files = workers.listener.fileno(), there.fileno(), workers.limits.file
            arguments = [*map(str, (self.number, *files)), workers.engine_url, workers.admin_url]
            try:
                self._child = await spawn(__name__, arguments, workers.config, None, files)
                there.close()
                with suppress(ConnectionError):  # it was killed with something unread
                    await self._hear(reader)
                with suppress(TimeoutError):
                    async with asyncio.timeout(EXIT_SECONDS):
                        await self._child.wait()
            finally:
                self.send(signal.SIGKILL)
                channel.close()
                self._channel, self._listens, self.failing = None, False, False
                workers.live.elsewhere.pop(self.number, None)
                workers.limits.forget(self.number)
                workers.metrics.total.end(self.number)
                while self._waiting:
                    self._waiting.popleft().set_result(None)
                self.ended.set()
        if not workers.leaving:
            workers.metrics.host.workers.inc()
            status = self._child.returncode
            log.error("gateway worker %d ended (exit status %s)", self.number, status)

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        if not await reader.readline():  # with which it says that it is there
            return
        self._listens = True
        async with background(asking=Loop(self.tell, ASK_SECONDS)):
            while line := await reader.readline():
                report = REPORT.validate_json(line)
                self.failing = report.failing
                self._workers.live.elsewhere[self.number] = report.in_flight
                self._workers.metrics.total.take(self.number, report.series)
                for question in report.asked:
                    with suppress(ValueError):
                        self._workers.asked(QUESTION.validate_json(question))
                if self._waiting:
                    self._waiting.popleft().set_result(None)

    async def tell(self) -> None:
        """Wait until it goes by how things stand now, or has ended."""
        workers = self._workers
        if not self._listens or self._channel is None or workers.leaving:
            return
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        standing = workers.live.standing(ready=workers.ready())
        self._channel.write(STANDING.dump_json(standing) + b"\n")
        await asyncio.wait([answer], timeout=PATIENCE_SECONDS)
        if not answer.done():
            log.error("gateway worker %d hangs; killing it", self.number)
            self.send(signal.SIGKILL)
            await asyncio.wait([answer])

    def leave(self) -> None:
        if self._channel is not None and self._channel.can_write_eof():
            self._channel.write_eof()

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self._child is not None and self._child.returncode is None:
                self._child.send_signal(number)


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
        store = None
        if config.record.enabled:
            store = stack.enter_context(Store.open(config.state_dir, config.store.url))
        gateway, redactor = gateway_for(
            config, store, engine_url, live, metrics, lambda: live.ready, scrape, limits, offer
        )
        recorder = gateway.recorder
        if redactor is not None:
            stack.callback(redactor.close)
            await asyncio.to_thread(redactor.texts, [])
        report()
        if not (line := await reader.readline()):
            return
        live.take(STANDING.validate_json(line))
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
