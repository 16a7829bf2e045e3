"""A gateway in front of a stand-in engine, for tests: real servers, real sockets."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2

from serve.gateway.app import Gateway
from serve.gateway.feedback import Feedback
from serve.gateway.keys import KeyFile
from serve.gateway.live import Live
from serve.gateway.recorder import Recorder
from serve.gateway.server import ConnectionWatch
from tests.standin import DEADLINE, Standin, at_once, serving
from ttrl.config import Config
from ttrl.metrics import Metrics
from ttrl.store import Store
from ttrl.store.questions import Recorded

Write = Callable[[Sequence[Recorded]], None]


class Tally:
    """What was counted since it was made, or cleared."""

    def __init__(self) -> None:
        self.metrics = metrics = Metrics()
        serving, recording = metrics.serving, metrics.recording
        self._counters = {
            "requests": serving.requests,
            "errors": serving.upstream_errors,
            "away": serving.turned_away,
            "closures": serving.closed,
            "aborts": serving.aborted,
            "skips": recording.skipped,
            "written": recording.recorded,
        }
        self.clear()

    def clear(self) -> None:
        self._before = {name: _values(counter) for name, counter in self._counters.items()}

    def __getattr__(self, name: str) -> Any:
        """A count, by label where it has one."""
        since = _values(self._counters[name]) - self._before[name]
        return since if self._counters[name]._labelnames else since[""]

    @property
    def under_way(self) -> int:
        return _values(self.metrics.serving.in_flight)[""]

    @property
    def open(self) -> int:
        return _values(self.metrics.serving.connections)[""]


def _values(series: Any) -> Counter[str]:
    samples = [each for family in series.collect() for each in family.samples]
    return Counter({next(iter(each.labels.values()), ""): int(each.value) for each in samples})


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
        self.tally.clear()


@contextmanager
def house(
    *,
    keys: KeyFile | None = None,
    engine_url: str | None = None,
    write: Write | None = None,
    capacity: int = 10_000,
    gateway: dict[str, Any] | None = None,
    record: dict[str, Any] | None = None,
    store: Store | None = None,
    feedback: dict[str, Any] | None = None,
    redact: Callable[[Sequence[str]], list[str]] | None = None,
    **seconds: float,
) -> Iterator[House]:
    """Starts all of it. Another `engine_url` stands for an engine that is none; with a `store`
    questions and feedback, its texts after `redact`, are kept there; `gateway`, `record` and
    `feedback` are settings, and `seconds` the application's time limits."""
    engine, live, tally = Standin(at_once()), Live("demo", "base-model"), Tally()
    stored: list[Recorded] = []
    recorder = Recorder(
        write or (partial(store.questions.record, holdout=0) if store else stored.extend),
        interval=0.001,
        capacity=capacity,
        retry=(0.001, 0.01),
        metrics=tally.metrics,
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
                "feedback": {"enabled": store is not None} | (feedback or {}),
            }
        )
        taken = None
        if store is not None:
            taken = Feedback(config, store.feedback, recorder, tally.metrics, redact)
        gateway_app = Gateway(
            config,
            engine_url or url,
            live,
            recorder,
            tally.metrics,
            keys=keys,
            feedback=taken,
            ready=lambda: engine.healthy and engine_url is None,
            lifespan=recording,
            **seconds,
        ).app()
        watch = ConnectionWatch(config.gateway, tally.metrics.serving)
        with serving(gateway_app, watch) as gateway_url:
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
