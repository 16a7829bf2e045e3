"""Every Prometheus series, defined once. The daemon alone exports them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """One registry and its series; names follow Prometheus' own rules."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._serving()
        self._recording()
        self._runs()
        self._votes()
        self._updates()
        self._schedule()
        self._engine()
        self._guarding()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

    def _serving(self) -> None:
        r = self.registry
        self.build = Info("ttrl_build", "The running version of ttrl.", registry=r)
        self.build.info({"version": version("ttrl")})
        self.requests = Counter(
            "ttrl_http_requests_total", "Requests, by route and status.", ["route", "code"],
            registry=r,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "ttrl_http_request_duration_seconds", "From a request to the end of its answer.",
            ["route"], buckets=SECONDS, registry=r,
        )  # fmt: skip
        self.first_byte_seconds = Histogram(
            "ttrl_http_first_byte_seconds", "From a request to the first byte of its answer.",
            ["route"], buckets=SECONDS, registry=r,
        )  # fmt: skip
        self.requests_in_flight = Gauge(
            "ttrl_http_requests_in_flight", "Requests under way.", registry=r
        )
        self.requests_aborted = Counter(
            "ttrl_http_requests_aborted_total", "Requests whose client went away.", registry=r
        )
        self.upstream_errors = Counter(
            "ttrl_upstream_errors_total", "Requests that the engine failed, by kind.", ["kind"],
            registry=r,
        )  # fmt: skip

    def _recording(self) -> None:
        r = self.registry
        self.questions_recorded = Counter(
            "ttrl_questions_recorded_total", "Questions written to the store.", registry=r
        )
        self.questions_skipped = Counter(
            "ttrl_questions_skipped_total", "Requests that are no question to learn from.",
            ["reason"], registry=r,
        )  # fmt: skip
        self.questions = Gauge(
            "ttrl_questions", "Distinct questions in the store, by state.", ["state"], registry=r
        )

    def _runs(self) -> None:
        r = self.registry
        self.left_out = Counter(
            "ttrl_questions_left_out_total",
            "Questions that a cap kept out of an update, once for each run.", ["reason"],
            registry=r,
        )  # fmt: skip
        self.runs = Counter("ttrl_runs_total", "Runs that ended, by how.", ["state"], registry=r)
        self.run_active = Gauge("ttrl_run_active", "1 while a run is under way.", registry=r)
        self.run_step = Gauge("ttrl_run_steps", "Optimizer steps of the newest run.", registry=r)

    def _votes(self) -> None:
        r = self.registry
        self.vote_share = Gauge(
            "ttrl_vote_share_ratio", "Mean share of the majority answer in the newest step.",
            registry=r,
        )  # fmt: skip
        self.vote_entropy = Gauge(
            "ttrl_vote_entropy_nats", "Mean entropy of the votes in the newest step.", registry=r
        )
        self.informative = Gauge(
            "ttrl_groups_informative_ratio",
            "Share of the newest step's questions that could teach.", registry=r,
        )  # fmt: skip
        self.flipped = Gauge(
            "ttrl_vote_flipped_ratio",
            "Share of the questions asked again in the newest step that have another label.",
            registry=r,
        )
        self.alike = Gauge(
            "ttrl_vote_alike_ratio",
            "Share of the pairs of the newest step's questions that got the same label.",
            registry=r,
        )
        self.unreadable = Gauge(
            "ttrl_samples_unreadable_ratio",
            "Share of the newest step's answers that were cut off or cannot be read.",
            registry=r,
        )
        self.answer_tokens = Gauge(
            "ttrl_samples_length_tokens", "Mean length of the newest step's answers.", registry=r
        )

    def _updates(self) -> None:
        r = self.registry
        self.token_entropy = Gauge(
            "ttrl_update_token_entropy_nats", "Mean entropy of the next token in the newest step.",
            registry=r,
        )  # fmt: skip
        self.kl = Gauge(
            "ttrl_update_kl_nats", "Estimated divergence a token from where the run started.",
            registry=r,
        )  # fmt: skip
        self.masked = Gauge(
            "ttrl_update_masked_ratio",
            "Share of the trained tokens that count for nothing because engine and trainer differ.",
            registry=r,
        )
        self.rulings = Counter(
            "ttrl_guard_rulings_total", "Runs that the guard stopped, by how and by which rule.",
            ["action", "rule"], registry=r,
        )  # fmt: skip
        self.in_flight_limit = Gauge(
            "ttrl_sampling_in_flight_limit",
            "Requests that a run may have in the engine at once; 0 while it pauses.",
            registry=r,
        )
        self.paused_seconds = Counter(
            "ttrl_sampling_paused_seconds_total",
            "Time that runs asked for nothing because many waited, counted when a pause ends.",
            registry=r,
        )  # fmt: skip
        self.samples = Counter("ttrl_samples_total", "Answers drawn for runs.", registry=r)
        self.saved = Counter(
            "ttrl_samples_saved_total",
            "Answers that were not drawn because the vote was decided without.",
            registry=r,
        )
        self.steps = Counter("ttrl_update_steps_total", "Optimizer steps.", registry=r)
        self.reward = Gauge(
            "ttrl_update_reward_ratio", "Mean pseudo-reward of the newest step.", registry=r
        )
        self.mismatch = Gauge(
            "ttrl_update_logprob_mismatch_nats",
            "Mean difference between the engine's and the trainer's log-probabilities.",
            registry=r,
        )

    def _schedule(self) -> None:
        r = self.registry
        self.paused = Gauge("ttrl_learning_paused", "1 while learning is paused.", registry=r)
        self.next_run = Gauge(
            "ttrl_next_run_timestamp_seconds", "When the next scheduled run is due.", registry=r
        )
        self.decisions = Counter(
            "ttrl_schedule_decisions_total", "Looks at the schedule, by outcome.", ["decision"],
            registry=r,
        )  # fmt: skip
        self.ticks_missed = Counter(
            "ttrl_schedule_ticks_missed_total", "Looks at the schedule that came late.", registry=r
        )

    def _engine(self) -> None:
        r = self.registry
        self.engine_up = Gauge("ttrl_engine_up", "1 while the engine answers.", registry=r)
        self.engine_restarts = Counter(
            "ttrl_engine_restarts_total", "Times that the engine was started again.", registry=r
        )
        self.live = Info("ttrl_live_adapter", "The version that answers users.", registry=r)
        self.live.info({"version": "base"})
        self.live_is_wanted = Gauge(
            "ttrl_live_adapter_is_wanted",
            "1 while users get the version that the store says they should.", registry=r,
        )  # fmt: skip
        self.loads = Counter(
            "ttrl_adapter_loads_total", "Adapter loads, by outcome.", ["outcome"], registry=r
        )
        self.load_seconds = Histogram(
            "ttrl_adapter_load_duration_seconds", "What the engine took to load a version.",
            buckets=SECONDS, registry=r,
        )  # fmt: skip
        self.proof_seconds = Histogram(
            "ttrl_adapter_proof_duration_seconds", "Reading a version's log-probabilities back.",
            buckets=SECONDS, registry=r,
        )  # fmt: skip
        self.proofs = Counter(
            "ttrl_adapter_proofs_total",
            "Comparisons of served log-probabilities with the trainer's, by outcome.",
            ["outcome"], registry=r,
        )  # fmt: skip
        self.flips = Counter(
            "ttrl_live_flips_total", "Times that another version went live.", registry=r
        )

    def _guarding(self) -> None:
        r = self.registry
        self.shadow = Counter(
            "ttrl_shadow_questions_total",
            "Questions meant to be asked again of the live version and the one before it, by what "
            "became of them.",
            ["outcome"], registry=r,
        )  # fmt: skip
        self.shadow_evidence = Gauge(
            "ttrl_shadow_evidence_ratio",
            "How near each stream of the live guard is to an alarm, which is at 1.", ["stream"],
            registry=r,
        )  # fmt: skip
        self.alarms = Counter(
            "ttrl_guard_alarms_total", "Roll-backs by the live guard, by stream.", ["stream"],
            registry=r,
        )  # fmt: skip

    def observed(self, kind: str, numbers: Mapping[str, Any]) -> None:
        """Take in one observation of a run."""
        if kind == "step":
            self._step(numbers)
        elif kind == "guard":
            self.rulings.labels(numbers["action"], numbers["rule"]).inc()
        elif kind == "selection":
            for reason, count in numbers["left_out"].items():
                self.left_out.labels(reason).inc(count)
        elif kind == "pause":
            self.in_flight_limit.set(0)
        elif kind == "resume":
            self.in_flight_limit.set(1)
            self.paused_seconds.inc(numbers["seconds"])

    def _step(self, numbers: Mapping[str, Any]) -> None:
        self.steps.inc()
        self.samples.inc(numbers["step_samples"])
        self.saved.inc(numbers["step_saved"])
        newest = {
            self.run_step: "step", self.vote_share: "share", self.vote_entropy: "vote_entropy",
            self.informative: "informative", self.alike: "alike", self.unreadable: "unreadable",
            self.answer_tokens: "length", self.token_entropy: "token_entropy", self.kl: "kl",
            self.mismatch: "mismatch", self.masked: "masked", self.reward: "reward",
            self.in_flight_limit: "in_flight_limit",
        }  # fmt: skip
        for gauge, name in newest.items():
            if numbers.get(name) is not None:
                gauge.set(numbers[name])
        if numbers["asked_again"]:
            self.flipped.set(numbers["flipped"] / numbers["asked_again"])
