"""The gateway's and the recorder's counts, as Prometheus series."""

from __future__ import annotations

from serve.counts import Closed, Counts, TurnedAway, UpstreamError
from ttrl.metrics import Metrics
from ttrl.questions import Unlearnable


class Counting(Counts):
    """See there."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        for kind in UpstreamError:
            metrics.serving.upstream_errors.labels(kind)

    def request(self, status: int, seconds: float, first_byte_seconds: float | None) -> None:
        self._metrics.serving.requests.labels(f"{status // 100}xx").inc()
        if status >= 300:  # a refusal is quick: among the answers it would hide slow ones
            return
        self._metrics.serving.seconds.observe(seconds)
        if first_byte_seconds is not None:
            self._metrics.serving.first_byte_seconds.observe(first_byte_seconds)

    def recorded(self, questions: int) -> None:
        self._metrics.recording.recorded.inc(questions)

    def skipped(self, reason: Unlearnable) -> None:
        self._metrics.recording.skipped.labels(reason).inc()

    def upstream_error(self, kind: UpstreamError) -> None:
        self._metrics.serving.upstream_errors.labels(kind).inc()

    def aborted(self) -> None:
        self._metrics.serving.aborted.inc()

    def in_flight(self, change: int) -> None:
        self._metrics.serving.in_flight.inc(change)

    def turned_away(self, reason: TurnedAway) -> None:
        self._metrics.serving.turned_away.labels(reason).inc()

    def connections(self, change: int) -> None:
        self._metrics.serving.connections.inc(change)

    def closed(self, why: Closed) -> None:
        self._metrics.serving.closed.labels(why).inc()
