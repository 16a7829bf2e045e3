"""What the gateway and the recorder report."""

from __future__ import annotations

from enum import StrEnum

from ttrl.questions import Unlearnable


class UpstreamError(StrEnum):
    """What went wrong between us and the engine."""

    UNREACHABLE = "unreachable"
    """No connection: the client got a 503."""
    BROKE_OFF = "broke_off"
    """The engine hung up before it answered: a 502."""
    TIMED_OUT = "timed_out"
    """No complete answer by the deadline: a 504, or a cut stream."""
    CUT = "cut"
    """The engine hung up in the middle of an answer: a cut stream."""
    ADAPTER_MISSING = "adapter_missing"
    """The engine did not know the live adapter: the base was asked instead."""
    NOT_JSON = "not_json"
    """An error that was not JSON, put into the shape that clients expect."""


class Counts:
    """Counts nothing; `serve.counting` does. Called from the event loop: must be quick and never
    raise."""

    def request(
        self, route: str, status: int, seconds: float, first_byte_seconds: float | None
    ) -> None: ...

    def recorded(self, questions: int) -> None: ...

    def skipped(self, reason: Unlearnable) -> None: ...

    def upstream_error(self, kind: UpstreamError) -> None: ...

    def aborted(self) -> None: ...

    def in_flight(self, change: int) -> None: ...
