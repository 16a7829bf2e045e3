"""How good the answers are, as far as that can be known, and how far things have moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttrl.metrics.series import Maker, show

OF_A_VERSION = {
    "agreement": ("ttrl_quality_agreement_ratio", "Share of its answers that are their majority."),
    "consistency": (
        "ttrl_quality_consistency_ratio",
        "Chance that two answers to one question are the same.",
    ),
    "readable": ("ttrl_quality_readable_ratio", "Share of its answers that can be read."),
    "refused": ("ttrl_quality_refused_ratio", "Share of its answers that decline."),
    "tokens": ("ttrl_quality_answer_tokens", "Mean length of its answers."),
    "seconds": (
        "ttrl_quality_answer_seconds",
        "Mean time to an answer, asked for several at once and behind users.",
    ),
    "pass_at_1": ("ttrl_quality_pass_at_1_ratio", "Share of its right answers, labelled probes."),
    "pass_at_k": (
        "ttrl_quality_pass_at_k_ratio",
        "Labelled probes with a right one among all answers (k is gate.samples).",
    ),
    "majority_right": (
        "ttrl_quality_majority_right_ratio",
        "Labelled probes whose majority answer is right.",
    ),
    "questions": ("ttrl_quality_questions", "Held-out questions and probes that were asked."),
}
"""Of the newest measurement: the live version's, and the base model's."""


class Quality:
    """`role` is `live` or `base`."""

    def __init__(self, make: Maker) -> None:
        self._measured = {
            key: make.gauge(name, text, "role") for key, (name, text) in OF_A_VERSION.items()
        }
        self._accuracy = make.gauge(
            "ttrl_estimated_accuracy_ratio",
            "Estimated share of right answers to the traffic; none where labels are too few.",
            "role",
        )
        self._low = make.gauge(
            "ttrl_estimated_accuracy_low_ratio", "Lower end of its 95% interval.", "role"
        )
        self._high = make.gauge(
            "ttrl_estimated_accuracy_high_ratio", "Upper end of its 95% interval.", "role"
        )
        self._labels = make.gauge(
            "ttrl_estimated_accuracy_labels", "Labels that the estimate rests on.", "role"
        )
        self._at = make.gauge("ttrl_quality_timestamp_seconds", "When it was measured.", "role")
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
            "What that index stays below in 95% of the cases where nothing has moved.",
        )
        self.questions_at = make.newest(
            "ttrl_drift_questions_timestamp_seconds", "When the questions were compared."
        )
        self.policy = make.gauge(
            "ttrl_drift_policy_nats",
            "KL divergence a token of the live version from another one, on its pinned answers.",
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
