"""The gateway's and the recorder's counts, as Prometheus series."""

from __future__ import annotations

from serve.counts import Counts, UpstreamError
from ttrl.metrics import Metrics
from ttrl.questions import Unlearnable


class Counting(Counts):
    """See there."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def request(
        self, route: str, status: int, seconds: float, first_byte_seconds: float | None
    ) -> None:
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if first_byte_seconds is not None:
            self._metrics.first_byte_seconds.labels(route).observe(first_byte_seconds)

    def recorded(self, questions: int) -> None:
        self._metrics.questions_recorded.inc(questions)

    def skipped(self, reason: Unlearnable) -> None:
        self._metrics.questions_skipped.labels(reason).inc()

    def upstream_error(self, kind: UpstreamError) -> None:
        self._metrics.upstream_errors.labels(kind).inc()

    def aborted(self) -> None:
        self._metrics.requests_aborted.inc()

    def in_flight(self, change: int) -> None:
        self._metrics.requests_in_flight.inc(change)
