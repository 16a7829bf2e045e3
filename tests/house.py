"""A gateway in front of a stand-in engine, for tests: real servers, real sockets."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from serve.gateway.app import app
from serve.gateway.counts import Closed, Counts, TurnedAway, UpstreamError
from serve.gateway.keys import KeyFile
from serve.gateway.live import Live
from serve.gateway.recorder import Recorder
from serve.gateway.server import ConnectionWatch
from tests.standin import DEADLINE, Standin, at_once, serving
from ttrl.config import Config
from ttrl.questions.question import Unlearnable
from ttrl.store.questions import Recorded

Write = Callable[[Sequence[Recorded]], None]


@dataclass
class Tally(Counts):
    """Counts, kept for a test to look at."""

    requests: list[int] = field(default_factory=list)
    skips: Counter[Unlearnable] = field(default_factory=Counter)
    errors: Counter[UpstreamError] = field(default_factory=Counter)
    written: int = 0
    aborts: int = 0
    under_way: int = 0
    away: Counter[TurnedAway] = field(default_factory=Counter)
    closures: Counter[Closed] = field(default_factory=Counter)
    open: int = 0

    def request(self, status: int, seconds: float, first: float | None) -> None:
        assert first is None or 0 < first <= seconds
        self.requests.append(status)

    def recorded(self, questions: int) -> None:
        self.written += questions

    def skipped(self, reason: Unlearnable) -> None:
        self.skips[reason] += 1

    def upstream_error(self, kind: UpstreamError) -> None:
        self.errors[kind] += 1

    def aborted(self) -> None:
        self.aborts += 1

    def in_flight(self, change: int) -> None:
        self.under_way += change

    def turned_away(self, reason: TurnedAway) -> None:
        self.away[reason] += 1

    def connections(self, change: int) -> None:
        self.open += change

    def closed(self, why: Closed) -> None:
        self.closures[why] += 1


@dataclass
class House:
    """The gateway's URL, and what is around it."""

    url: str
    engine: Standin
    live: Live
    tally: Tally
    recorder: Recorder
    stored: list[Recorded]

    def client(self) -> Any:
        import openai  # late: it takes longer than most tests that have a house

        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="key", max_retries=0)

    def async_client(self) -> Any:
        import openai

        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="key", max_retries=0)

    def http(self) -> httpx2.Client:
        # No TLS here: loading certificates would take longer than most tests.
        return httpx2.Client(base_url=self.url, verify=False, timeout=DEADLINE)

    def settle(self) -> None:
        """Waits until nothing is on its way any more: an answer is out before it is counted."""
        until(lambda: not self.tally.under_way and not self.recorder.pending, "all has ended")

    def texts(self) -> list[str]:
        """What was recorded."""
        self.settle()
        return [recorded.question.text for recorded in self.stored]

    def clear(self) -> None:
        """As new, for the next test."""
        self.settle()
        self.engine.received.clear()
        self.engine.aborted.clear()
        self.engine.arrived.clear()
        self.engine.behave = at_once()
        self.engine.healthy = True
        self.live.flip(None)
        self.stored.clear()
        vars(self.tally).update(vars(Tally(open=self.tally.open)))


@contextmanager
def house(
    *,
    keys: KeyFile | None = None,
    engine_url: str | None = None,
    write: Write | None = None,
    capacity: int = 10_000,
    gateway: dict[str, Any] | None = None,
    record: dict[str, Any] | None = None,
    **seconds: float,
) -> Iterator[House]:
    """Starts all of it. Another `engine_url` stands for an engine that is none; `gateway` and
    `record` are settings, and `seconds` the application's time limits."""
    engine, live, tally = Standin(at_once()), Live(["demo", "other-name"], "base-model"), Tally()
    stored: list[Recorded] = []
    recorder = Recorder(
        write or stored.extend, interval=0.001, capacity=capacity, retry=(0.001, 0.01), counts=tally
    )

    @asynccontextmanager
    async def recording() -> AsyncIterator[None]:
        writer = asyncio.create_task(recorder.run())
        yield
        await recorder.drain(DEADLINE)
        writer.cancel()

    with serving(engine.app()) as url:
        config = Config.model_validate(
            {
                "engine": {"api_key": "engine-key"},
                "gateway": gateway or {},
                "record": {"max_chars": 16_000} | (record or {}),
            }
        )
        application = app(
            config,
            engine_url or url,
            live,
            recorder,
            keys=keys,
            counts=tally,
            lifespan=recording,
            **seconds,
        )
        with serving(application, ConnectionWatch(config.gateway, tally)) as gateway_url:
            yield House(gateway_url, engine, live, tally, recorder, stored)


def until(condition: Callable[[], object], what: str) -> None:
    """Waits for what must come true before the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.002)


def asking(text: str = "What is 2 plus 2?") -> Any:
    """Messages that ask this."""
    return [{"role": "user", "content": text}]
