"""What users meet, and what is recorded of it."""

from __future__ import annotations

from ttrl.metrics.series import Maker
from ttrl.questions import Unlearnable

LOST = (Unlearnable.QUEUE_FULL, Unlearnable.STORE_FAILED, Unlearnable.NOT_REDACTED)
"""Reasons that are nobody's wish: an alert looks at these."""


class Serving:
    """The gateway's requests."""

    def __init__(self, make: Maker) -> None:
        self.requests = make.counter(
            "ttrl_http_requests_total",
            "Requests, by class of status: `2xx`, `4xx` (also where the client went away), `5xx` "
            "(also where an answer was cut).",
            "code",
        )
        self.seconds = make.histogram(
            "ttrl_http_request_duration_seconds",
            "From a request to the end of its answer; refusals and failures are not in it.",
        )
        self.first_byte_seconds = make.histogram(
            "ttrl_http_first_byte_seconds",
            "From a request to the first byte of its answer; of a stream, to its first token. As "
            "above, of answers only.",
        )
        self.in_flight = make.gauge("ttrl_http_requests_in_flight", "Requests under way.")
        self.aborted = make.counter(
            "ttrl_http_requests_aborted_total", "Requests whose client went away."
        )
        self.upstream_errors = make.counter(
            "ttrl_upstream_errors_total", "Requests that the engine failed, by kind.", "kind"
        )
        self.turned_away = make.counter(
            "ttrl_http_requests_turned_away_total",
            "Requests not let in: `no_key`, `wrong_key`, without keys a `wrong_host`, over the "
            "key's `rate` or `at_once`, or `overloaded`: more under way than "
            "`gateway.max_requests`.",
            "reason",
        )
        self.connections = make.gauge("ttrl_http_connections", "Open connections of clients.")
        self.closed = make.counter(
            "ttrl_http_connections_closed_total",
            "Connections that were closed on their clients: `head_slow` or `body_slow` (sent too "
            "slowly), `head_long`, `malformed`, `stalled` (took nothing for `gateway.stall`), "
            "`crowded` (beyond `gateway.max_connections`).",
            "reason",
        )
        self.keys_ok = make.gauge(
            "ttrl_keys_file_ok",
            "1 if the keys in use are those in `gateway.keys`, or there is no such file to read; 0 "
            "if it cannot be read, and the keys before go on to be taken.",
        )
        self.keys_ok.set(1)


class Recording:
    """The questions on their way to the store."""

    def __init__(self, make: Maker) -> None:
        self.recorded = make.counter(
            "ttrl_questions_recorded_total", "Questions written to the store."
        )
        self.skipped = make.counter(
            "ttrl_questions_skipped_total",
            "Requests that are no question to learn from, by reason.",
            "reason",
            each=LOST,
        )
        self.queue = make.gauge(
            "ttrl_recorder_queue_questions", "Questions that wait to be written to the store."
        )
        self.stored = make.gauge(
            "ttrl_questions",
            "Distinct questions in the store, by the states that there are.",
            "state",
        )
