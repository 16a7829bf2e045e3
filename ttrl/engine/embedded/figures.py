"""How busy the engine is, under vLLM's names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ttrl.engine.embedded.work import Job


@dataclass(frozen=True)
class Figures:
    """Answers that are being written, and that wait; prompt tokens read and tokens written since
    the engine began."""

    running: int
    waiting: int
    prompt_tokens: int
    generation_tokens: int


def count(jobs: Collection[Job], queued: Collection[Job]) -> tuple[int, int]:
    """The answers that are running and waiting, of jobs under way. What has begun waits as well
    while it stands still because others go first: vLLM would have pre-empted it."""
    left = {job: sum(not row.finish for row in job.rows) for job in jobs if not job.done}
    first = min((job.order.priority for job in left), default=0)
    going = (job for job in left if job.order.priority == first and job not in queued)
    running = sum(left[job] for job in going)
    return running, sum(left.values()) - running


def registry(look: Callable[[], Figures]) -> CollectorRegistry:
    """What `GET /metrics` shows."""
    made = CollectorRegistry()
    made.register(_Series(look))
    return made


class _Series(Collector):
    def __init__(self, look: Callable[[], Figures]) -> None:
        self._look = look

    def describe(self) -> Iterator[Metric]:
        """None: asked for when registering, before there is anything to look at."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        now = self._look()
        yield GaugeMetricFamily(
            "vllm:num_requests_running", "Answers being written.", value=now.running
        )
        yield GaugeMetricFamily("vllm:num_requests_waiting", "Answers waiting.", value=now.waiting)
        yield CounterMetricFamily(
            "vllm:prompt_tokens", "Prompt tokens read.", value=now.prompt_tokens
        )
        yield CounterMetricFamily(
            "vllm:generation_tokens", "Tokens written.", value=now.generation_tokens
        )
