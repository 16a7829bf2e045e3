"""What the gateway and the recorder count."""

from __future__ import annotations

from enum import StrEnum

from ttrl.metrics import Metrics
from ttrl.questions.question import Unlearnable


class UpstreamError(StrEnum):
    """What went wrong between us and the engine, and what the client got."""

    UNREACHABLE = "unreachable"  # 503
    BROKE_OFF = "broke_off"  # before it answered: 502
    TIMED_OUT = "timed_out"  # 504, or a cut stream that counts as one
    CUT = "cut"  # in the middle of an answer: a cut stream that counts as a 502
    ADAPTER_MISSING = "adapter_missing"  # the live one: the base was asked instead
    NOT_JSON = "not_json"  # an error, put into the shape that clients expect


class TurnedAway(StrEnum):
    """Why a request was not admitted."""

    NO_KEY = "no_key"
    WRONG_KEY = "wrong_key"
    WRONG_HOST = "wrong_host"
    RATE = "rate"
    AT_ONCE = "at_once"
    OVERLOADED = "overloaded"


class Closed(StrEnum):
    """Why we closed a connection."""

    HEAD_SLOW = "head_slow"
    HEAD_LONG = "head_long"
    BODY_SLOW = "body_slow"  # answered, but the rest of the request's body did not come in time
    MALFORMED = "malformed"  # no HTTP, or what could be read in two ways
    STALLED = "stalled"  # the client took nothing of its answer
    CROWDED = "crowded"  # there were too many, and it had waited longest for a request


class Counts:
    """Keeps the Prometheus series of requests, questions and connections; without `metrics`, for
    nobody to read. Called from the event loop: quick, and never raises."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        metrics = metrics or Metrics()
        self._serving, self._recording = metrics.serving, metrics.recording
        for kind in UpstreamError:
            self._serving.upstream_errors.labels(kind)

    def request(self, status: int, seconds: float, first_byte_seconds: float | None) -> None:
        """`status` says how it ended: for an answer that was cut, it is not what was sent."""
        self._serving.requests.labels(f"{status // 100}xx").inc()
        if status >= 300:  # a refusal is quick: among the answers it would hide slow ones
            return
        self._serving.seconds.observe(seconds)
        if first_byte_seconds is not None:
            self._serving.first_byte_seconds.observe(first_byte_seconds)

    def recorded(self, questions: int) -> None:
        self._recording.recorded.inc(questions)

    def skipped(self, reason: Unlearnable) -> None:
        self._recording.skipped.labels(reason).inc()

    def upstream_error(self, kind: UpstreamError) -> None:
        self._serving.upstream_errors.labels(kind).inc()

    def aborted(self) -> None:
        self._serving.aborted.inc()

    def in_flight(self, change: int) -> None:
        self._serving.in_flight.inc(change)

    def turned_away(self, reason: TurnedAway) -> None:
        self._serving.turned_away.labels(reason).inc()

    def connections(self, change: int) -> None:
        self._serving.connections.inc(change)

    def closed(self, why: Closed) -> None:
        self._serving.closed.labels(why).inc()
