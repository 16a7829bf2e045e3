"""Series of what users meet, of versions, and of the machine."""

from __future__ import annotations

from ttrl.engine.proof import Proof
from ttrl.metrics.series import Maker
from ttrl.questions.question import Unlearnable
from ttrl.store.adapters import Author

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
            "Time from a request to the end of its answer; without refused and failed requests.",
        )
        self.first_byte_seconds = make.histogram(
            "ttrl_http_first_byte_seconds",
            "Time from a request to the first byte of its answer, or the first token of a "
            "stream; without refused and failed requests.",
        )
        self.in_flight = make.gauge("ttrl_http_requests_in_flight", "Requests in progress.")
        self.aborted = make.counter(
            "ttrl_http_requests_aborted_total", "Requests whose client disconnected."
        )
        self.upstream_errors = make.counter(
            "ttrl_upstream_errors_total", "Requests that failed in the engine, by kind.", "kind"
        )
        self.turned_away = make.counter(
            "ttrl_http_requests_turned_away_total",
            "Refused requests, by reason: `no_key`, `wrong_key`, `wrong_host` (without keys), "
            "`rate` and `at_once` (limits of the key), `overloaded` (more concurrent requests "
            "than `gateway.max_requests`).",
            "reason",
        )
        self.connections = make.gauge("ttrl_http_connections", "Open client connections.")
        self.closed = make.counter(
            "ttrl_http_connections_closed_total",
            "Client connections that the gateway closed, by reason: `head_slow` or `body_slow` "
            "(sent too slowly), `head_long`, `malformed`, `stalled` (read nothing for "
            "`gateway.stall`), `crowded` (more than `gateway.max_connections`).",
            "reason",
        )
        self.keys_ok = make.gauge(
            "ttrl_keys_file_ok",
            "1 if the keys in use are those in `gateway.keys`, or no such file is set; 0 if it "
            "cannot be read and the previous keys stay in use.",
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
            "Requests not recorded for training, by reason.",
            "reason",
            each=LOST,
        )
        self.queue = make.gauge(
            "ttrl_recorder_queue_questions", "Questions waiting to be written to the store."
        )
        self.stored = make.gauge(
            "ttrl_questions",
            "Distinct questions in the store, by state.",
            "state",
        )


class Versions:
    """Who answers, and whether it is who should."""

    def __init__(self, make: Maker) -> None:
        self.engine_up = make.gauge("ttrl_engine_up", "1 while the engine is up.")
        self.engine_restarts = make.counter("ttrl_engine_restarts_total", "Restarts of the engine.")
        self.live = make.info("ttrl_live_adapter", "The live version.", "version", "base")
        self.live_since = make.newest(
            "ttrl_live_adapter_since_timestamp_seconds", "Time since when it is live."
        )
        self.live_is_wanted = make.gauge(
            "ttrl_live_adapter_is_wanted",
            "1 while the wanted version is live.",
        )
        self.adapters = make.gauge("ttrl_adapters", "Versions in the store, by state.", "state")
        self.waiting = make.gauge(
            "ttrl_adapters_waiting",
            "Held versions, newer than the live one, that wait for the operator.",
        )
        self.promotions = make.counter(
            "ttrl_promotions_total",
            "Changes of the wanted version, by author.",
            "author",
            each=(Author.RUN, Author.OPERATOR, Author.LABELS),
        )
        self.roll_backs = make.counter(
            "ttrl_roll_backs_total",
            "Roll-backs of the live version, by author.",
            "author",
            each=(Author.OPERATOR, Author.GUARD),
        )
        self.notices = make.counter(
            "ttrl_webhook_notices_total",
            "Webhook notices, by outcome.",
            "outcome",
            each=("delivered", "failed", "dropped"),
        )
        self.pruned = make.counter(
            "ttrl_pruned_total",
            "Pruned data, by kind: questions, samples and logs of runs, retired versions, "
            "removed versions' files.",
            "what",
        )
        self.flips = make.counter("ttrl_live_flips_total", "Switches of the live version.")
        self.loads = make.counter(
            "ttrl_adapter_loads_total",
            "Adapter loads, by outcome.",
            "outcome",
            each=("loaded", "refused", "damaged", "foreign"),
        )
        self.load_seconds = make.summary(
            "ttrl_adapter_load_duration_seconds", "Time that the engine took to load a version."
        )
        self.proof_seconds = make.summary(
            "ttrl_adapter_proof_duration_seconds",
            "Time to read a version's log-probabilities back.",
        )
        self.proofs = make.counter(
            "ttrl_adapter_proofs_total",
            "Comparisons of served log-probabilities with the trainer's, by outcome.",
            "outcome",
            each=Proof,
        )


class Host:
    """Room on disk and on the card."""

    def __init__(self, make: Maker) -> None:
        self.disk_free = make.newest(
            "ttrl_disk_free_bytes", "Free space on the disk of the state directory."
        )
        self.disk_size = make.newest(
            "ttrl_disk_size_bytes", "Size of the disk of the state directory."
        )
        self.store_up = make.gauge(
            "ttrl_store_up",
            "1 if the store can be used; without it nothing is recorded or trained.",
        )
        self.store_size = make.newest(
            "ttrl_store_size_bytes", "Size of the store's database, if it is SQLite."
        )
        self.card_used = make.gauge(
            "ttrl_gpu_memory_used_bytes",
            "Memory used on the GPU that engine and trainer share.",
            "card",
        )
        self.card_size = make.gauge(
            "ttrl_gpu_memory_size_bytes",
            "Total memory of the GPU that engine and trainer share.",
            "card",
        )
