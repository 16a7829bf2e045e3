"""What becomes of a run's observations in the metrics."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest

from tests.runs import STEP
from ttrl.engine.pacing import Pause, Resume
from ttrl.evaluation import gate
from ttrl.evaluation.evidence import Comparison
from ttrl.events import Draw, Event, Probed, Selection
from ttrl.metrics import Metrics
from ttrl.monitoring.run import Action, Rule, Ruling


def test_what_a_cap_keeps_out_is_counted() -> None:
    metrics = Metrics()
    for left_out in ({"client_share": 3}, {}, {"client_share": 1, "near_duplicate": 2}):
        metrics.observed(Selection(8, left_out))
    total = "ttrl_questions_left_out_total"
    assert metrics.registry.get_sample_value(total, {"reason": "client_share"}) == 4
    assert metrics.registry.get_sample_value(total, {"reason": "near_duplicate"}) == 2


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


@pytest.mark.parametrize(
    ("observed", "limit", "paused"),
    [
        ([STEP], 2.5, 0),
        ([Pause(70)], 0, 0),
        ([Pause(70), Resume(1.5)], 1, 1.5),
        ([Resume(1.5), Resume(2), STEP], 2.5, 3.5),
        ([Probed(1, 2)], None, 0),
    ],
)
def test_a_pause_shows(observed: list[Event], limit: float | None, paused: float) -> None:
    metrics = Metrics()
    for event in observed:
        metrics.observed(event)
    assert value(metrics, "ttrl_sampling_in_flight_limit") == limit
    assert value(metrics, "ttrl_sampling_paused_seconds_total") == paused


def test_what_the_guard_looks_at_shows() -> None:
    metrics = Metrics()
    metrics.observed(replace(STEP, kl=0.5))
    assert value(metrics, "ttrl_vote_flipped_ratio") == 0.25
    assert value(metrics, "ttrl_update_kl_nats") == 0.5
    metrics.observed(replace(STEP, asked_again=0, flipped=0))
    assert value(metrics, "ttrl_vote_flipped_ratio") is None, "this one cannot say"
    assert value(metrics, "ttrl_update_kl_nats") is None
    assert value(metrics, "ttrl_samples_length_tokens") == 12
    samples = metrics.registry.get_sample_value
    assert samples("ttrl_samples_total", {"read": "box"}) == 48
    assert samples("ttrl_samples_total", {"read": "cut_off"}) == 16
    assert value(metrics, "ttrl_sampled_tokens_total") == 800
    assert value(metrics, "ttrl_vote_share_ratio_count") == 8
    assert value(metrics, "ttrl_vote_share_ratio_sum") == 5.0
    assert metrics.registry.get_sample_value("ttrl_votes_total", {"outcome": "tie"}) == 4


def compared(before: float, after: float) -> Comparison:
    return Comparison(30, 30, before, after, -1.0, 1.0)


CHECKS = (
    gate.Check(gate.Rule.ACCURACY, gate.Outcome.PASSED, "", compared(0.5, 0.7)),
    gate.Check(gate.Rule.KEPT_RIGHT, gate.Outcome.PASSED, "", compared(1.0, 0.9)),
    gate.Check(gate.Rule.LENGTH, gate.Outcome.PASSED, ""),
    gate.Check(gate.Rule.TAG, gate.Outcome.UNPROVEN, "", compared(0.5, 0.4), "sums"),
)
CERTAINTY = gate.Certainty(labels=30, e=3.0, threshold=52.0, needed=100)
VERDICT = gate.Judgement(gate.Verdict.WORSE, "", CERTAINTY, CHECKS, (), 50)
UNLABELLED = gate.Judgement(gate.Verdict.SHARPER, "", None, (), (), 20)
DRAW = Draw(**{field.name: getattr(STEP, field.name) for field in fields(Draw)})


def test_what_a_gate_said_shows() -> None:
    metrics = Metrics()
    found = metrics.registry.get_sample_value
    metrics.observed(VERDICT)
    metrics.observed(VERDICT)
    assert found("ttrl_gate_verdicts_total", {"verdict": "worse"}) == 2
    assert found("ttrl_gate_probes", {"kind": "labelled"}) == 30
    assert found("ttrl_gate_difference_ratio", {"rule": "accuracy"}) == pytest.approx(0.2)
    assert found("ttrl_gate_difference_ratio", {"rule": "tag"}) is None
    assert found("ttrl_gate_right_to_wrong_ratio") == pytest.approx(0.1)
    objections = "ttrl_gate_objections_total"
    assert found(objections, {"rule": "tag", "outcome": "unproven"}) == 2
    assert found(objections, {"rule": "accuracy", "outcome": "passed"}) is None
    assert found("ttrl_gate_evidence") == 3
    assert found("ttrl_gate_evidence_asked") == 52
    assert found("ttrl_gate_labels_needed") == 100


def test_what_the_newest_gate_did_not_look_at_is_no_series() -> None:
    metrics = Metrics()
    metrics.observed(VERDICT)
    metrics.observed(UNLABELLED)
    found = metrics.registry.get_sample_value
    assert found("ttrl_gate_probes", {"kind": "labelled"}) == 0
    assert found("ttrl_gate_difference_ratio", {"rule": "accuracy"}) is None
    for name in ("right_to_wrong_ratio", "evidence", "evidence_asked", "labels_needed"):
        assert value(metrics, f"ttrl_gate_{name}") is None


def test_before_anything_is_said_there_is_no_series() -> None:
    """A 0 would be read as one: no labels needed, no accuracy, a step of length 0."""
    text = Metrics().text().decode()
    unsaid = re.compile(
        r"ttrl_(gate_[a-z_]+_ratio|gate_evidence|gate_labels_needed|update_[a-z_]+(ratio|nats)"
        r"|run_steps|vote_entropy"
        r"|samples_length|groups_|drift_|[a-z_]+_timestamp_seconds)"
    )
    assert [line for line in text.splitlines() if unsaid.match(line)] == []


@pytest.mark.parametrize(
    ("event", "gauge", "counter"),
    [
        (STEP, "ttrl_run_steps", "ttrl_sampled_tokens_total"),
        (DRAW, "ttrl_groups_informative_ratio", "ttrl_sampled_tokens_total"),
        (VERDICT, "ttrl_gate_evidence", "ttrl_gate_objections_total"),
    ],
)
def test_what_was_counted_before_is_only_shown(event: Event, gauge: str, counter: str) -> None:
    metrics = Metrics()
    metrics.show(event)
    assert value(metrics, gauge)
    assert not value(metrics, counter)


def test_rulings_are_counted_by_rule() -> None:
    metrics = Metrics()
    for rule in (Rule.FLIPS, Rule.ALIKE, Rule.FLIPS):
        metrics.observed(Ruling(Action.HOLD, 3, rule, "so"))
    found = metrics.registry.get_sample_value
    assert found("ttrl_guard_rulings_total", {"action": "hold", "rule": "flips"}) == 2
    assert found("ttrl_guard_rulings_total", {"action": "hold", "rule": "alike"}) == 1
