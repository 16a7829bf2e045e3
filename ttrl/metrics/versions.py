"""The engine, and the versions in it."""

from __future__ import annotations

from ttrl.metrics.series import Maker
from ttrl.proof import Proof
from ttrl.store.adapters import Author


class Versions:
    """Who answers, and whether it is who should."""

    def __init__(self, make: Maker) -> None:
        self.engine_up = make.gauge("ttrl_engine_up", "1 while the engine answers.")
        self.engine_restarts = make.counter(
            "ttrl_engine_restarts_total", "Times that the engine was started again."
        )
        self.live = make.info(
            "ttrl_live_adapter", "The version that answers users.", "version", "base"
        )
        self.live_since = make.newest(
            "ttrl_live_adapter_since_timestamp_seconds", "Since when it does."
        )
        self.live_is_wanted = make.gauge(
            "ttrl_live_adapter_is_wanted",
            "1 while users get the version that the store says they should.",
        )
        self.adapters = make.gauge(
            "ttrl_adapters", "Versions in the store, by the states that there are.", "state"
        )
        self.waiting = make.gauge(
            "ttrl_adapters_waiting",
            "Held versions, made since the live one was wanted, that wait for the operator.",
        )
        self.promotions = make.counter(
            "ttrl_promotions_total",
            "Times that another version was to go live, by whose word.",
            "author",
            each=(Author.RUN, Author.OPERATOR, Author.LABELS),
        )
        self.roll_backs = make.counter(
            "ttrl_roll_backs_total",
            "Times that the live version was taken back, by whose word.",
            "author",
            each=(Author.OPERATOR, Author.GUARD),
        )
        self.notices = make.counter(
            "ttrl_webhook_notices_total",
            "What the webhook was to hear, by what became of it.",
            "outcome",
            each=("delivered", "failed", "dropped"),
        )
        self.pruned = make.counter(
            "ttrl_pruned_total",
            "What was let go because it was old: questions, runs' samples, their logs, versions "
            "retired, versions whose files were removed.",
            "what",
        )
        self.flips = make.counter("ttrl_live_flips_total", "Times that another version went live.")
        self.loads = make.counter(
            "ttrl_adapter_loads_total",
            "Adapter loads, by outcome.",
            "outcome",
            each=("loaded", "refused", "damaged", "foreign"),
        )
        self.load_seconds = make.summary(
            "ttrl_adapter_load_duration_seconds", "What the engine took to load a version."
        )
        self.proof_seconds = make.summary(
            "ttrl_adapter_proof_duration_seconds", "Reading a version's log-probabilities back."
        )
        self.proofs = make.counter(
            "ttrl_adapter_proofs_total",
            "Comparisons of served log-probabilities with the trainer's, by outcome.",
            "outcome",
            each=Proof,
        )
