"""Series of runs, of the gate and the monitors, and of how good the answers are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttrl.evaluation.gate import Outcome, Rule, Verdict
from ttrl.metrics.series import SHARES, Maker, show
from ttrl.store.runs import RunState
from ttrl.votes import VoteOutcome

OF_A_VERSION = {
    "agreement": (
        "ttrl_quality_agreement_ratio",
        "Share of its answers that match the majority answer.",
    ),
    "consistency": (
        "ttrl_quality_consistency_ratio",
        "Probability that two answers to one question agree.",
    ),
    "readable": ("ttrl_quality_readable_ratio", "Share of its answers that are readable."),
    "refused": ("ttrl_quality_refused_ratio", "Share of its answers that decline to answer."),
    "tokens": ("ttrl_quality_answer_tokens", "Mean length of its answers."),
    "seconds": (
        "ttrl_quality_answer_seconds",
        "Mean time to an answer, with several in parallel and behind users' requests.",
    ),
    "pass_at_1": (
        "ttrl_quality_pass_at_1_ratio",
        "Share of correct answers to labelled probes (pass@1).",
    ),
    "pass_at_k": (
        "ttrl_quality_pass_at_k_ratio",
        "Share of labelled probes with a correct one among all answers (k is gate.samples).",
    ),
    "majority_right": (
        "ttrl_quality_majority_right_ratio",
        "Share of labelled probes whose majority answer is correct.",
    ),
    "questions": (
        "ttrl_quality_questions",
        "Number of held-out questions and labelled probes asked.",
    ),
}
"""Of the newest measurement: the live version's, and the base model's."""


class Voting:
    """What the samples say."""

    def __init__(self, make: Maker) -> None:
        self.votes = make.counter(
            "ttrl_votes_total",
            "Votes, by whether they have a label or why not.",
            "outcome",
            each=VoteOutcome,
        )
        self.shares = make.histogram(
            "ttrl_vote_share_ratio", "Share of the majority answer in each vote.", buckets=SHARES
        )
        self.samples = make.counter("ttrl_samples_total", "Samples drawn for runs.")
        self.saved = make.counter(
            "ttrl_samples_saved_total",
            "Samples not drawn because the vote was already decided.",
        )
        self.tokens = make.counter("ttrl_sampled_tokens_total", "Tokens sampled for runs.")
        self.entropy = make.newest(
            "ttrl_vote_entropy_nats", "Mean entropy of the votes in the newest step."
        )
        self.informative = make.newest(
            "ttrl_groups_informative_ratio",
            "Share of the newest step's questions with a training signal.",
        )
        self.flipped = make.newest(
            "ttrl_vote_flipped_ratio",
            "Share of the questions sampled again in the newest step whose label changed.",
        )
        self.alike = make.newest(
            "ttrl_vote_alike_ratio",
            "Share of the newest step's question pairs with the same label.",
        )
        self.unreadable = make.newest(
            "ttrl_samples_unreadable_ratio",
            "Share of the newest step's samples that are cut off or unreadable.",
        )
        self.cut = make.newest(
            "ttrl_samples_cut_off_ratio",
            "Share of the newest step's samples that were cut off at vote.max_tokens.",
        )
        self.unanswered = make.counter(
            "ttrl_questions_unanswered_total",
            "Questions left out of a step because the engine did not answer them.",
        )
        self.length = make.newest(
            "ttrl_samples_length_tokens", "Mean length of the newest step's samples."
        )
        self.in_flight_limit = make.newest(
            "ttrl_sampling_in_flight_limit",
            "Limit of a run's concurrent requests to the engine; 0 while it pauses.",
        )
        self.paused_seconds = make.counter(
            "ttrl_sampling_paused_seconds_total",
            "Time that runs paused because many requests waited in the engine, counted when a "
            "pause ends.",
        )

    def count(self, numbers: Mapping[str, Any]) -> None:
        """What a step drew, or the draw of one that there was nothing to learn for."""
        self.samples.inc(numbers["step_samples"])
        self.saved.inc(numbers["step_saved"])
        self.tokens.inc(numbers["step_tokens"])
        for outcome, count in numbers["outcomes"].items():
            self.votes.labels(outcome).inc(count)
        for share in numbers["shares"]:
            self.shares.observe(share)

    def show(self, numbers: Mapping[str, Any]) -> None:
        """How that looked."""
        self.entropy.set(numbers["vote_entropy"])
        self.informative.set(numbers["informative"])
        self.alike.set(numbers["alike"])
        self.unreadable.set(numbers["unreadable"])
        self.cut.set(numbers["cut"])
        self.length.set(numbers["length"])
        self.in_flight_limit.set(numbers["in_flight_limit"])
        again = numbers["asked_again"]
        self.flipped.set(numbers["flipped"] / again if again else None)


class Updating:
    """The policy update."""

    def __init__(self, make: Maker) -> None:
        self.steps = make.counter("ttrl_update_steps_total", "Optimizer steps.")
        self.reward = make.newest(
            "ttrl_update_reward_ratio",
            "Mean majority reward of the newest step: the share of its samples that match their "
            "question's majority. Other rewards are not included.",
        )
        self.token_entropy = make.newest(
            "ttrl_update_token_entropy_nats", "Mean entropy of the next token in the newest step."
        )
        self.kl = make.newest(
            "ttrl_update_kl_nats", "Estimated KL divergence per token from the start of the run."
        )
        self.effective = make.newest(
            "ttrl_update_effective_ratio",
            "Effective sample size of the newest step's importance weights, as a share of what was "
            "trained on.",
        )
        self.mismatch = make.newest(
            "ttrl_update_logprob_mismatch_nats",
            "Mean difference between the engine's and the trainer's log-probabilities.",
        )

    def show(self, numbers: Mapping[str, Any]) -> None:
        """What the newest step was like."""
        self.reward.set(numbers["share"])
        self.token_entropy.set(numbers["token_entropy"])
        self.kl.set(numbers["kl"])
        self.effective.set(numbers["effective"])
        self.mismatch.set(numbers["mismatch"])


class Scheduling:
    """Runs, and the clock that starts them."""

    def __init__(self, make: Maker) -> None:
        ends = [state for state in RunState if state.ended]
        self.runs = make.counter("ttrl_runs_total", "Finished runs, by state.", "state", each=ends)
        self.active = make.gauge("ttrl_run_active", "1 while a run is in progress.")
        self.step = make.newest("ttrl_run_steps", "Optimizer steps of the newest run.")
        self.last_run = make.newest(
            "ttrl_last_run_timestamp_seconds", "Time when the last run ended."
        )
        self.left_out = make.counter(
            "ttrl_questions_left_out_total",
            "Questions that a cap kept out of a run, counted once a run, by cap.",
            "reason",
        )
        self.paused = make.gauge("ttrl_learning_paused", "1 while training is paused.")
        self.next_run = make.newest(
            "ttrl_next_run_timestamp_seconds", "Time when the next scheduled run is due."
        )
        self.ticks_missed = make.counter(
            "ttrl_schedule_ticks_missed_total",
            "Missed checks of the schedule, which is checked every five seconds.",
        )


class Judging:
    """What they said, and what it rests on."""

    def __init__(self, make: Maker) -> None:
        self.verdicts = make.counter(
            "ttrl_gate_verdicts_total",
            "Candidates that the gate judged, by verdict.",
            "verdict",
            each=Verdict,
        )
        self.objections = make.counter(
            "ttrl_gate_objections_total",
            "Gate checks that candidates did not pass, by rule and outcome.",
            "rule",
            "outcome",
        )
        self.probes = make.gauge(
            "ttrl_gate_probes", "Probes that the newest gate asked, by kind.", "kind"
        )
        self.difference = make.gauge(
            "ttrl_gate_difference_ratio",
            "Difference between candidate and live version in the newest gate, by rule.",
            "rule",
        )
        self.right_to_wrong = make.newest(
            "ttrl_gate_right_to_wrong_ratio",
            "Share of the live version's correct majority answers that the newest candidate lost.",
        )
        self.e_value = make.newest(
            "ttrl_gate_evidence",
            "E-value of the newest gate's labels for the candidate being better.",
        )
        self.e_asked = make.newest(
            "ttrl_gate_evidence_asked", "E-value threshold of the newest gate."
        )
        self.labels_needed = make.newest(
            "ttrl_gate_labels_needed",
            "Estimated number of labels needed to prove the newest candidate better.",
        )
        self.rulings = make.counter(
            "ttrl_guard_rulings_total",
            "Runs stopped by the run monitor, by action and rule.",
            "action",
            "rule",
        )
        self.shadow = make.counter(
            "ttrl_shadow_questions_total",
            "Questions drawn for the comparison of the live and the previous version, by outcome.",
            "outcome",
        )
        self.shadow_evidence = make.gauge(
            "ttrl_shadow_evidence_ratio",
            "Evidence of each stream of the live monitor, as a share of its threshold for an "
            "alarm or alert.",
            "stream",
        )
        self.alarms = make.counter(
            "ttrl_guard_alarms_total",
            "Roll-backs by the live monitor, by stream.",
            "stream",
        )

        self.alerts = make.counter(
            "ttrl_guard_alerts_total",
            "Alerts about differences of the live version that are not harmful in themselves, by "
            "stream.",
            "stream",
        )

    def count(self, numbers: Mapping[str, Any]) -> None:
        """What a gate said, as its run observed it."""
        self.verdicts.labels(numbers["verdict"]).inc()
        for check in numbers["checks"]:
            rule, outcome = Rule(check["rule"]).name.lower(), Outcome(check["outcome"])
            if outcome is not Outcome.PASSED:
                self.objections.labels(rule, outcome).inc()

    def show(self, numbers: Mapping[str, Any]) -> None:
        """What that rests on; of what this gate did not look at, nothing is left to see."""
        for kind in ("labelled", "held_out"):
            self.probes.labels(kind).set(numbers[kind])
        compared = {
            Rule(check["rule"]): check["compared"]
            for check in numbers["checks"]
            if check["compared"] and not check["tag"]
        }
        kept_right = compared.pop(Rule.KEPT_RIGHT, None)
        self.right_to_wrong.set(1 - kept_right["after"] if kept_right else None)
        self.difference.clear()
        for rule, values in compared.items():
            self.difference.labels(rule.name.lower()).set(values["after"] - values["before"])
        self._show_certainty(numbers["certainty"])

    def _show_certainty(self, sure: Mapping[str, Any] | None) -> None:
        self.e_value.set(sure["e"] if sure else None)
        self.e_asked.set(sure["threshold"] if sure else None)
        self.labels_needed.set(sure["needed"] if sure else None)


class Quality:
    """`role` is `live` or `base`."""

    def __init__(self, make: Maker) -> None:
        self._measured = {
            key: make.gauge(name, text, "role") for key, (name, text) in OF_A_VERSION.items()
        }
        self._accuracy = make.gauge(
            "ttrl_estimated_accuracy_ratio",
            "Estimated accuracy on the traffic; absent if there are too few labels.",
            "role",
        )
        self._low = make.gauge(
            "ttrl_estimated_accuracy_low_ratio", "Lower end of its 95% interval.", "role"
        )
        self._high = make.gauge(
            "ttrl_estimated_accuracy_high_ratio", "Upper end of its 95% interval.", "role"
        )
        self._labels = make.gauge(
            "ttrl_estimated_accuracy_labels", "Number of labels behind the estimate.", "role"
        )
        self._at = make.gauge("ttrl_quality_timestamp_seconds", "Time of the measurement.", "role")
        self._of_tag = make.gauge(
            "ttrl_tag_accuracy_ratio", "The live version's pass@1 on probes of a tag.", "tag"
        )
        self._tags: set[str] = set()

    def measured(self, role: str, numbers: Mapping[str, Any], at: float | None) -> None:
        """What is known of the version in a role now; without numbers, nothing."""
        for key, gauge in self._measured.items():
            show(gauge, numbers.get(key), role)
        estimate = numbers.get("estimate") or {}
        show(self._accuracy, estimate.get("value"), role)
        show(self._low, estimate.get("low"), role)
        show(self._high, estimate.get("high"), role)
        show(self._labels, estimate.get("labels"), role)
        show(self._at, at, role)
        if role == "live":
            self._show_tags(numbers.get("tags", {}))

    def _show_tags(self, tags: Mapping[str, Mapping[str, float]]) -> None:
        for tag in self._tags | tags.keys():
            show(self._of_tag, tags.get(tag, {}).get("value"), tag)
        self._tags = set(tags)


class Drifting:
    """What moves: the questions, and the policy."""

    def __init__(self, make: Maker) -> None:
        self.psi = make.newest(
            "ttrl_drift_questions_psi",
            "Population stability index of the newest questions against those before them.",
        )
        self.by_chance = make.newest(
            "ttrl_drift_questions_psi_by_chance",
            "95th percentile of that index without drift.",
        )
        self.questions_at = make.newest(
            "ttrl_drift_questions_timestamp_seconds", "Time of the comparison."
        )
        self.policy = make.gauge(
            "ttrl_drift_policy_nats",
            "KL divergence per token between the live version and another one, on its pinned "
            "answers.",
            "against",
        )

    def moved(self, numbers: Mapping[str, Any]) -> None:
        """How far the live version is from others; without numbers, nothing is known."""
        for other in ("base", "live", "week"):
            against = "previous" if other == "live" else other
            show(self.policy, numbers.get(f"from_{other}"), against)

    def asked(self, numbers: Mapping[str, Any], at: float) -> None:
        """How far the questions are from those before them."""
        self.psi.set(numbers["psi"])
        self.by_chance.set(numbers["by_chance"])
        self.questions_at.set(at)
