"""What becomes of a run's observations in the metrics."""

from __future__ import annotations

import re
from typing import Any

import pytest

from serve.counting import Counting
from ttrl.metrics import Metrics

STEP = {
    "step": 1, "share": 0.5, "vote_entropy": 1.0, "informative": 0.5, "step_samples": 32,
    "step_saved": 8, "in_flight_limit": 2.5, "paused_seconds": 3.0, "asked_again": 8, "flipped": 2,
    "alike": 0.25, "unreadable": 0.1, "length": 12.0, "token_entropy": 0.3, "kl": None,
    "mismatch": 0.01, "masked": 0.0, "step_tokens": 400, "reward": 0.5,
    "outcomes": {"label": 6, "tie": 2}, "shares": [0.5, 0.75, 0.25, 1.0],
}  # fmt: skip


def test_what_a_cap_keeps_out_is_counted() -> None:
    metrics = Metrics()
    for left_out in ({"client_share": 3}, {}, {"client_share": 1, "near_duplicate": 2}):
        metrics.observed("selection", {"chosen": 8, "left_out": left_out})
    total = "ttrl_questions_left_out_total"
    assert metrics.registry.get_sample_value(total, {"reason": "client_share"}) == 4
    assert metrics.registry.get_sample_value(total, {"reason": "near_duplicate"}) == 2


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


@pytest.mark.parametrize(
    ("observed", "limit", "paused"),
    [
        ([("step", STEP)], 2.5, 0),
        ([("pause", {"waiting": 70})], 0, 0),
        ([("pause", {"waiting": 70}), ("resume", {"seconds": 1.5})], 1, 1.5),
        ([("resume", {"seconds": 1.5}), ("resume", {"seconds": 2}), ("step", STEP)], 2.5, 3.5),
        ([("probe", {"done": 1, "of": 2})], None, 0),
    ],
)
def test_a_pause_shows(
    observed: list[tuple[str, dict[str, float]]], limit: float | None, paused: float
) -> None:
    metrics = Metrics()
    for kind, numbers in observed:
        metrics.observed(kind, numbers)
    assert value(metrics, "ttrl_sampling_in_flight_limit") == limit
    assert value(metrics, "ttrl_sampling_paused_seconds_total") == paused


def test_what_the_guard_looks_at_shows() -> None:
    metrics = Metrics()
    metrics.observed("step", {**STEP, "kl": 0.5})
    assert value(metrics, "ttrl_vote_flipped_ratio") == 0.25
    assert value(metrics, "ttrl_update_kl_nats") == 0.5
    metrics.observed("step", {**STEP, "asked_again": 0, "flipped": 0})
    assert value(metrics, "ttrl_vote_flipped_ratio") is None, "this one cannot say"
    assert value(metrics, "ttrl_update_kl_nats") is None
    assert value(metrics, "ttrl_samples_length_tokens") == 12
    assert value(metrics, "ttrl_samples_total") == 64
    assert value(metrics, "ttrl_sampled_tokens_total") == 800
    assert value(metrics, "ttrl_vote_share_ratio_count") == 8
    assert value(metrics, "ttrl_vote_share_ratio_sum") == 5.0
    assert metrics.registry.get_sample_value("ttrl_votes_total", {"outcome": "tie"}) == 4


CHECKS = [
    {"rule": "accuracy", "outcome": "passed", "tag": None,
     "compared": {"before": 0.5, "after": 0.7}},
    {"rule": "right majorities kept", "outcome": "failed", "tag": None,
     "compared": {"before": 1.0, "after": 0.9}},
    {"rule": "length", "outcome": "passed", "tag": None, "compared": None},
    {"rule": "accuracy by tag", "outcome": "unproven", "tag": "sums",
     "compared": {"before": 0.5, "after": 0.4}},
]  # fmt: skip


VERDICT = {
    "verdict": "worse", "labelled": 30, "held_out": 20, "checks": CHECKS,
    "certainty": {"e": 3.0, "threshold": None, "needed": 100, "budget_left": 0.5},
}  # fmt: skip
UNLABELLED = {**VERDICT, "verdict": "sharper", "labelled": 0, "checks": [], "certainty": None}


def test_what_a_gate_said_shows() -> None:
    metrics = Metrics()
    found = metrics.registry.get_sample_value
    metrics.observed("verdict", VERDICT)
    metrics.observed("verdict", VERDICT)
    assert found("ttrl_gate_verdicts_total", {"verdict": "worse"}) == 2
    assert found("ttrl_gate_probes", {"kind": "labelled"}) == 30
    assert found("ttrl_gate_difference_ratio", {"rule": "accuracy"}) == pytest.approx(0.2)
    assert found("ttrl_gate_difference_ratio", {"rule": "tag"}) is None
    assert found("ttrl_gate_right_to_wrong_ratio") == pytest.approx(0.1)
    objections = "ttrl_gate_objections_total"
    assert found(objections, {"rule": "tag", "outcome": "unproven"}) == 2
    assert found(objections, {"rule": "kept_right", "outcome": "failed"}) == 2
    assert found(objections, {"rule": "accuracy", "outcome": "passed"}) is None
    assert found("ttrl_gate_evidence") == 3
    assert found("ttrl_gate_evidence_asked") == float("inf")


def test_what_the_newest_gate_did_not_look_at_is_no_series() -> None:
    metrics = Metrics()
    metrics.observed("verdict", UNLABELLED)
    assert value(metrics, "ttrl_gate_budget_left_ratio") is None, "no gate has said"
    metrics.observed("verdict", VERDICT)
    metrics.observed("verdict", UNLABELLED)
    found = metrics.registry.get_sample_value
    assert found("ttrl_gate_probes", {"kind": "labelled"}) == 0
    assert found("ttrl_gate_difference_ratio", {"rule": "accuracy"}) is None
    for name in ("right_to_wrong_ratio", "evidence", "evidence_asked"):
        assert value(metrics, f"ttrl_gate_{name}") is None
    assert value(metrics, "ttrl_gate_budget_left_ratio") == 0.5, "the year's, as it was"


def test_before_anything_is_said_there_is_no_series() -> None:
    """A 0 would be read as one: no budget left, no accuracy, a step of length 0."""
    text = Metrics().text().decode()
    unsaid = re.compile(
        r"ttrl_(gate_[a-z_]+_ratio|gate_evidence|update_[a-z_]+(ratio|nats)|run_steps|vote_entropy"
        r"|samples_(length|unreadable)|groups_|drift_|[a-z_]+_timestamp_seconds)"
    )
    assert [line for line in text.splitlines() if unsaid.match(line)] == []


@pytest.mark.parametrize(
    ("kind", "numbers", "gauge", "counter"),
    [
        ("step", STEP, "ttrl_run_steps", "ttrl_samples_total"),
        ("draw", STEP, "ttrl_groups_informative_ratio", "ttrl_samples_total"),
        ("verdict", VERDICT, "ttrl_gate_evidence", "ttrl_gate_objections_total"),
    ],
)
def test_what_was_counted_before_is_only_shown(
    kind: str, numbers: dict[str, Any], gauge: str, counter: str
) -> None:
    metrics = Metrics()
    metrics.show(kind, numbers)
    assert value(metrics, gauge)
    assert not value(metrics, counter)


def test_rulings_are_counted_by_rule() -> None:
    metrics = Metrics()
    for rule in ("flips", "alike", "flips"):
        metrics.observed("guard", {"action": "hold", "rule": rule, "trusted": 3, "reason": "so"})
    found = metrics.registry.get_sample_value
    assert found("ttrl_guard_rulings_total", {"action": "hold", "rule": "flips"}) == 2
    assert found("ttrl_guard_rulings_total", {"action": "hold", "rule": "alike"}) == 1


def test_times_are_those_of_answers() -> None:
    """Refusals are quick: among them slow answers would not show."""
    metrics = Metrics()
    counting = Counting(metrics)
    for status in (200, 200, 400, 404, 415, 429, 499, 502, 504):
        counting.request(status, 0.5, 0.1)
    assert value(metrics, "ttrl_http_request_duration_seconds_count") == 2
    assert value(metrics, "ttrl_http_first_byte_seconds_count") == 2
    for code, count in (("2xx", 2), ("4xx", 5), ("5xx", 2)):
        found = metrics.registry.get_sample_value("ttrl_http_requests_total", {"code": code})
        assert found == count
