"""What Prometheus is given: every series with its name, kind and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ttrl.answers.layers import Layer
from ttrl.engine.proof import Proof
from ttrl.evaluation.gate import Verdict
from ttrl.questions.question import Unlearnable
from ttrl.store.adapters import Author
from ttrl.store.runs import RunState
from ttrl.votes import VoteOutcome

SECONDS = (0.05, 0.2, 1, 5, 20, 60)
SHARES = (0.2, 0.4, 0.6, 0.8)
"""Every bucket is a series: few do."""
LOST = (Unlearnable.QUEUE_FULL, Unlearnable.STORE_FAILED, Unlearnable.NOT_REDACTED)
"""Reasons that are nobody's wish: an alert looks at these."""
ENDS = [state for state in RunState if state.ended]
T = TypeVar("T")


class Newest(Collector):
    """A gauge of the newest of something; as long as nothing can be said, it is no series."""

    def __init__(
        self, name: str, text: str, labels: tuple[str, ...], registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._values: dict[tuple[str, ...], float] = {}
        registry.register(self)

    def set(self, value: float | None, *labels: str) -> None:
        """Set what the newest one says; None where it says nothing."""
        if value is None:
            self._values.pop(labels, None)
        else:
            self._values[labels] = value

    def replace(self, values: Mapping[str, float]) -> None:
        """Set what the newest ones say, by label; of all others nothing."""
        self._values = {(label,): value for label, value in values.items()}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in tuple(self._values.items()):  # another thread may set one meanwhile
            family.add_metric(labels, value)
        yield family


def _counter(
    name: str,
    text: str,
    labels: tuple[str, ...],
    registry: CollectorRegistry,
    each: Iterable[str] = (),
) -> Counter:
    """Make a counter. Those for `each` value of its one label start at 0: what appears with its
    first event is no increase to Prometheus."""
    made = Counter(name, text, labels, registry=registry)
    for value in each:
        made.labels(value)
    return made


class Series(Generic[T]):
    """One series as a group declares it: `make` makes it for a registry, and in the group of that
    registry it is what was made."""

    def __init__(
        self, kind: str, make: Callable[..., T], name: str, text: str, *labels: str, **options: Any
    ) -> None:
        self.kind, self.make = kind, make
        self.name, self.text, self.labels, self.options = name, text, labels, options

    def __set_name__(self, group: type[Group], attribute: str) -> None:
        self.attribute = attribute

    def __get__(self, group: Group, _: type[Group]) -> T:
        made: T = group.made[self]
        return made


class Group:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.made = {
            each: each.make(each.name, each.text, each.labels, registry=registry, **each.options)
            for each in vars(type(self)).values()
            if isinstance(each, Series)
        }

    def show(self, found: object | None, *labels: str, **more: float | None) -> None:
        """Set each gauge of the newest to the number that has its name in `found` or `more`; what
        there is no number for is no series."""
        for series, gauge in self.made.items():
            if isinstance(gauge, Newest):
                if (name := series.attribute) in more:
                    gauge.set(more[name], *labels)
                else:
                    gauge.set(None if found is None else getattr(found, name), *labels)


counter = partial(Series, "counter", _counter)
gauge = partial(Series, "gauge", Gauge)
newest = partial(Series, "gauge", Newest)
histogram = partial(Series, "histogram", Histogram, buckets=SECONDS)
summary = partial(Series, "summary", Summary)


class Serving(Group):
    """The gateway's requests, of all its workers."""

    requests = counter(
        "ttrl_http_requests_total",
        "Requests, by class of status: `2xx`, `4xx` (also where the client went away), `5xx` "
        "(also where an answer was cut).",
        "code",
    )
    seconds = histogram(
        "ttrl_http_request_duration_seconds",
        "Time from a request to the end of its answer; without refused and failed requests.",
    )
    first_byte_seconds = histogram(
        "ttrl_http_first_byte_seconds",
        "Time from a request to the first byte of its answer, or the first token of a "
        "stream; without refused and failed requests.",
    )
    in_flight = gauge("ttrl_http_requests_in_flight", "Requests in progress.")
    aborted = counter("ttrl_http_requests_aborted_total", "Requests whose client disconnected.")
    upstream_errors = counter(
        "ttrl_upstream_errors_total",
        "Requests that failed in the engine, by kind.",
        "kind",
        each=(
            "unreachable",
            "broke_off",
            "timed_out",
            "cut",
            "adapter_missing",
            "not_json",
            "in_stream",
        ),
    )
    turned_away = counter(
        "ttrl_http_requests_turned_away_total",
        "Refused requests, by reason: `no_key`, `wrong_key`, `wrong_host` (without keys), "
        "`rate` and `at_once` (limits of the key), `overloaded` (more concurrent requests "
        "than `gateway.max_requests`).",
        "reason",
    )
    connections = gauge("ttrl_http_connections", "Open client connections.")
    closed = counter(
        "ttrl_http_connections_closed_total",
        "Client connections that the gateway closed, by reason: `head_slow` or `body_slow` "
        "(sent too slowly), `head_long`, `malformed`, `stalled` (read nothing for "
        "`gateway.stall`), `crowded` (more than `gateway.max_connections`).",
        "reason",
    )


class Recording(Group):
    """The questions on their way to the store, of all workers."""

    recorded = counter("ttrl_questions_recorded_total", "Questions written to the store.")
    skipped = counter(
        "ttrl_questions_skipped_total",
        "Requests not recorded for training, by reason (`docs/privacy.md`); `rule_NAME` is the "
        "rule that left them out.",
        "reason",
        each=LOST,
    )
    queue = gauge("ttrl_recorder_queue_questions", "Questions waiting to be written to the store.")
    stored = newest("ttrl_questions", "Distinct questions in the store, by state.", "state")
    feedback = counter(
        "ttrl_feedback_total",
        "Requests with feedback, by kind (`correction`, `score`, `thumb`, `comment`, or `unknown` "
        "where it was not read) and by what became of them (`new`, `replaced`, `unchanged`, or why "
        "they were refused).",
        "kind",
        "outcome",
    )
    feedback_stored = newest(
        "ttrl_feedback_stored", "Feedback in the store, by what became of it.", "state"
    )


class Feedback(Group):
    """How clients scored the answers of what has a role: `live` or `base`."""

    value = newest("ttrl_feedback_score_ratio", "Mean score of its answers.", "role")
    low = newest("ttrl_feedback_score_low_ratio", "Lower end of its 95% interval.", "role")
    high = newest("ttrl_feedback_score_high_ratio", "Upper end of its 95% interval.", "role")
    answers = newest("ttrl_feedback_scored_answers", "Number of answers behind it.", "role")


class Voting(Group):
    """What the samples say."""

    votes = counter(
        "ttrl_votes_total",
        "Votes, by whether they have a label or why not.",
        "outcome",
        each=VoteOutcome,
    )
    contradicted = counter(
        "ttrl_vote_contradicted_total",
        "Votes whose most common answer is not the label by checks, a teacher or other wordings.",
    )
    shares = histogram(
        "ttrl_vote_share_ratio", "Share of the majority answer in each vote.", buckets=SHARES
    )
    samples = counter(
        "ttrl_samples_total",
        "Samples drawn for runs, by the layer by which their answer was read, or why it was not.",
        "read",
        each=Layer,
    )
    saved = counter(
        "ttrl_samples_saved_total", "Samples not drawn because the vote was already decided."
    )
    tokens = counter("ttrl_sampled_tokens_total", "Tokens sampled for runs.")
    vote_entropy = newest("ttrl_vote_entropy_nats", "Mean entropy of the votes in the newest step.")
    informative = newest(
        "ttrl_groups_informative_ratio",
        "Share of the newest step's questions with a training signal.",
    )
    flip_rate = newest(
        "ttrl_vote_flipped_ratio",
        "Share of the questions sampled again in the newest step whose label changed.",
    )
    alike = newest(
        "ttrl_vote_alike_ratio", "Share of the newest step's question pairs with the same label."
    )
    length = newest("ttrl_samples_length_tokens", "Mean length of the newest step's samples.")
    unanswered = counter(
        "ttrl_questions_unanswered_total",
        "Questions left out of a step because the engine did not answer them.",
    )
    in_flight_limit = newest(
        "ttrl_sampling_in_flight_limit",
        "Limit of a run's concurrent requests to the engine; 0 while it pauses.",
    )
    paused_seconds = counter(
        "ttrl_sampling_paused_seconds_total",
        "Time that runs paused because many requests waited in the engine, counted when a "
        "pause ends.",
    )


class Updating(Group):
    """The policy update."""

    steps = counter("ttrl_update_steps_total", "Optimizer steps.")
    share = newest(
        "ttrl_update_reward_ratio",
        "Mean majority reward of the newest step: the share of its samples that match their "
        "question's majority. Other rewards are not included.",
    )
    token_entropy = newest(
        "ttrl_update_token_entropy_nats", "Mean entropy of the next token in the newest step."
    )
    kl = newest(
        "ttrl_update_kl_nats", "Estimated KL divergence per token from the start of the run."
    )
    staleness = newest(
        "ttrl_update_staleness_steps",
        "Optimizer steps between the weights that drew the newest step's samples and those that "
        "were trained on them.",
    )
    effective = newest(
        "ttrl_update_effective_ratio",
        "Effective sample size of the newest step's importance weights, as a share of what was "
        "trained on.",
    )
    mismatch = newest(
        "ttrl_update_logprob_mismatch_nats",
        "Mean difference between the engine's and the trainer's log-probabilities.",
    )


class Scheduling(Group):
    """Runs, and the clock that starts them."""

    runs = counter("ttrl_runs_total", "Finished runs, by state.", "state", each=ENDS)
    active = gauge("ttrl_run_active", "1 while a run is in progress.")
    step = newest("ttrl_run_steps", "Optimizer steps of the newest run.")
    last_run = newest("ttrl_last_run_timestamp_seconds", "Time when the last run ended.")
    left_out = counter(
        "ttrl_questions_left_out_total",
        "Questions that a cap kept out of a run, counted once a run, by cap.",
        "reason",
    )
    paused = gauge("ttrl_learning_paused", "1 while training is paused.")
    next_run = newest("ttrl_next_run_timestamp_seconds", "Time when the next scheduled run is due.")
    ticks_missed = counter(
        "ttrl_schedule_ticks_missed_total",
        "Missed checks of the schedule, which is checked every five seconds.",
    )


class Judging(Group):
    """What the gate and the monitors said, and what it rests on."""

    verdicts = counter(
        "ttrl_gate_verdicts_total",
        "Candidates that the gate judged, by verdict.",
        "verdict",
        each=Verdict,
    )
    objections = counter(
        "ttrl_gate_objections_total",
        "Gate checks that candidates did not pass, by rule and outcome.",
        "rule",
        "outcome",
    )
    probes = newest("ttrl_gate_probes", "Probes that the newest gate asked, by kind.", "kind")
    difference = newest(
        "ttrl_gate_difference_ratio",
        "Difference between candidate and live version in the newest gate, by rule.",
        "rule",
    )
    right_to_wrong = newest(
        "ttrl_gate_right_to_wrong_ratio",
        "Share of the live version's correct majority answers that the newest candidate lost.",
    )
    rulings = counter(
        "ttrl_guard_rulings_total",
        "Runs stopped by the run monitor, by action and rule.",
        "action",
        "rule",
    )
    shadow = counter(
        "ttrl_shadow_questions_total",
        "Questions drawn for the comparison of the live and the previous version, by outcome.",
        "outcome",
    )
    shadow_evidence = gauge(
        "ttrl_shadow_evidence_ratio",
        "Evidence of each stream of the live monitor, as a share of its threshold for an "
        "alarm or alert.",
        "stream",
    )
    alarms = counter(
        "ttrl_shadow_alarms_total", "Roll-backs by the live monitor, by stream.", "stream"
    )
    alerts = counter(
        "ttrl_shadow_alerts_total",
        "Alerts about differences of the live version that are not harmful in themselves, by "
        "stream.",
        "stream",
    )


class Scoring(Group):
    """What the judge scored, and what it cost."""

    answers = counter(
        "ttrl_judge_answers_total",
        "Answers that the judge was to score, by what became of them.",
        "outcome",
    )
    requests = counter("ttrl_judge_requests_total", "Requests to the judge.")
    tokens = counter(
        "ttrl_judge_tokens_total",
        "Tokens that the judge read and wrote, as it counts them, by kind.",
        "kind",
        each=("read", "written"),
    )
    seconds = counter(
        "ttrl_judge_seconds_total", "Time that the judge took, its requests one after the other."
    )


class Certainty(Group):
    """How sure the newest gate's labels are."""

    e = newest(
        "ttrl_gate_evidence", "E-value of the newest gate's labels for the candidate being better."
    )
    threshold = newest("ttrl_gate_evidence_asked", "E-value threshold of the newest gate.")
    needed = newest(
        "ttrl_gate_labels_needed",
        "Estimated number of labels needed to prove the newest candidate better.",
    )


class Quality(Group):
    """The newest measurement of what has a role: `live` or `base`."""

    agreement = newest(
        "ttrl_quality_agreement_ratio",
        "Share of its answers that match the majority answer.",
        "role",
    )
    consistency = newest(
        "ttrl_quality_consistency_ratio",
        "Probability that two answers to one question agree.",
        "role",
    )
    readable = newest(
        "ttrl_quality_readable_ratio", "Share of its answers that are readable.", "role"
    )
    refused = newest(
        "ttrl_quality_refused_ratio", "Share of its answers that decline to answer.", "role"
    )
    tokens = newest("ttrl_quality_answer_tokens", "Mean length of its answers.", "role")
    seconds = newest(
        "ttrl_quality_answer_seconds",
        "Mean time to an answer, with several in parallel and behind users' requests.",
        "role",
    )
    pass_at_1 = newest(
        "ttrl_quality_pass_at_1_ratio",
        "Share of correct answers to labelled probes (pass@1).",
        "role",
    )
    pass_at_k = newest(
        "ttrl_quality_pass_at_k_ratio",
        "Share of labelled probes with a correct one among all answers (k is gate.samples).",
        "role",
    )
    majority_right = newest(
        "ttrl_quality_majority_right_ratio",
        "Share of labelled probes whose majority answer is correct.",
        "role",
    )
    questions = newest(
        "ttrl_quality_questions",
        "Number of held-out questions and labelled probes asked.",
        "role",
    )
    at = newest("ttrl_quality_timestamp_seconds", "Time of the measurement.", "role")


class Accuracy(Group):
    """Its estimate of the accuracy on the traffic."""

    value = newest(
        "ttrl_estimated_accuracy_ratio",
        "Estimated accuracy on the traffic; absent if there are too few labels.",
        "role",
    )
    low = newest("ttrl_estimated_accuracy_low_ratio", "Lower end of its 95% interval.", "role")
    high = newest("ttrl_estimated_accuracy_high_ratio", "Upper end of its 95% interval.", "role")
    labels = newest(
        "ttrl_estimated_accuracy_labels", "Number of labels behind the estimate.", "role"
    )


class Drifting(Group):
    """What moves: the questions."""

    psi = newest(
        "ttrl_drift_questions_psi",
        "Population stability index of the newest questions against those before them.",
    )
    by_chance = newest(
        "ttrl_drift_questions_psi_by_chance", "95th percentile of that index without drift."
    )
    at = newest("ttrl_drift_questions_timestamp_seconds", "Time of the comparison.")


class Versions(Group):
    """Who answers, whether it is who should, and how it differs from others."""

    tag = newest("ttrl_tag_accuracy_ratio", "The live version's pass@1 on probes of a tag.", "tag")
    policy = newest(
        "ttrl_drift_policy_nats",
        "KL divergence per token between the live version and another one, on its pinned answers.",
        "against",
    )
    engine_up = gauge("ttrl_engine_up", "1 while the engine is up.")
    engine_restarts = counter("ttrl_engine_restarts_total", "Restarts of the engine.")
    live = newest("ttrl_live_adapter_info", "The live version.", "version")
    live_since = newest("ttrl_live_adapter_since_timestamp_seconds", "Time since when it is live.")
    live_is_wanted = gauge("ttrl_live_adapter_is_wanted", "1 while the wanted version is live.")
    adapters = newest("ttrl_adapters", "Versions in the store, by state.", "state")
    waiting = gauge(
        "ttrl_adapters_waiting",
        "Held versions, newer than the live one, that wait for the operator.",
    )
    promotions = counter(
        "ttrl_promotions_total",
        "Changes of the wanted version, by author.",
        "author",
        each=(Author.RUN, Author.OPERATOR, Author.LABELS),
    )
    roll_backs = counter(
        "ttrl_roll_backs_total",
        "Roll-backs of the live version, by author.",
        "author",
        each=(Author.OPERATOR, Author.LIVE_MONITOR),
    )
    notices = counter(
        "ttrl_webhook_notices_total",
        "Webhook notices, by outcome.",
        "outcome",
        each=("delivered", "failed", "dropped"),
    )
    pruned = counter(
        "ttrl_pruned_total",
        "Pruned data, by kind: questions, samples and logs of runs, retired versions, "
        "removed versions' files.",
        "what",
    )
    flips = counter("ttrl_live_flips_total", "Switches of the live version.")
    loads = counter(
        "ttrl_adapter_loads_total",
        "Adapter loads, by outcome.",
        "outcome",
        each=("loaded", "refused", "damaged", "foreign"),
    )
    load_seconds = summary(
        "ttrl_adapter_load_duration_seconds", "Time that the engine took to load a version."
    )
    proof_seconds = summary(
        "ttrl_adapter_proof_duration_seconds", "Time to read a version's log-probabilities back."
    )
    proofs = counter(
        "ttrl_adapter_proofs_total",
        "Comparisons of served log-probabilities with the trainer's, by outcome.",
        "outcome",
        each=Proof,
    )


class Host(Group):
    """The program, and its room on disk and on the card."""

    workers = counter(
        "ttrl_gateway_workers_ended_total",
        "Workers of the gateway that ended by themselves and were started again.",
    )
    build = newest("ttrl_build_info", "The running version of ttrl.", "version")
    disk_free = newest("ttrl_disk_free_bytes", "Free space on the disk of the state directory.")
    disk_size = newest("ttrl_disk_size_bytes", "Size of the disk of the state directory.")
    store_up = gauge(
        "ttrl_store_up", "1 if the store can be used; without it nothing is recorded or trained."
    )
    keys_ok = gauge(
        "ttrl_keys_file_ok",
        "1 if the keys in use are those in `gateway.keys`, or no such file is set; 0 if it "
        "cannot be read and the previous keys stay in use.",
    )
    store_size = newest("ttrl_store_size_bytes", "Size of the store's database, if it is SQLite.")
    card_used = gauge(
        "ttrl_gpu_memory_used_bytes",
        "Memory used on the GPU that engine and trainer share.",
        "card",
    )
    card_size = gauge(
        "ttrl_gpu_memory_size_bytes",
        "Total memory of the GPU that engine and trainer share.",
        "card",
    )
