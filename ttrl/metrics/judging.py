"""The judges: gate, guard of a run, guard of what is live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttrl.checks import Outcome, Rule
from ttrl.gate import Verdict
from ttrl.metrics.series import Maker, show


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
            "The gate's checks that candidates did not pass, by rule and outcome.",
            "rule",
            "outcome",
        )
        self.probes = make.gauge(
            "ttrl_gate_probes", "Probes that the newest gate asked, by kind.", "kind"
        )
        self.difference = make.gauge(
            "ttrl_gate_difference_ratio",
            "Candidate less live version in the newest gate, by rule.",
            "rule",
        )
        self.right_to_wrong = make.gauge(
            "ttrl_gate_right_to_wrong_ratio",
            "Share of the live version's right majorities that the newest candidate lost.",
        )
        self.e_value = make.gauge(
            "ttrl_gate_evidence",
            "E-value of the newest gate's labels against the candidate being no better.",
        )
        self.e_asked = make.gauge(
            "ttrl_gate_evidence_asked", "E-value that the newest gate asked for."
        )
        self.budget = make.gauge(
            "ttrl_gate_budget_left_ratio", "Share of the year's labelled gates that are left."
        )
        self.rulings = make.counter(
            "ttrl_guard_rulings_total",
            "Runs that the guard stopped, by how and by which rule.",
            "action",
            "rule",
        )
        self.shadow = make.counter(
            "ttrl_shadow_questions_total",
            "Questions meant to be asked again of the live version and the one before it, by what "
            "became of them.",
            "outcome",
        )
        self.shadow_evidence = make.gauge(
            "ttrl_shadow_evidence_ratio",
            "How near each stream of the live guard is to an alarm, which is at 1.",
            "stream",
        )
        self.alarms = make.counter(
            "ttrl_guard_alarms_total",
            "Roll-backs by the live guard, by stream.",
            "stream",
        )

    def verdict(self, numbers: Mapping[str, Any]) -> None:
        """What a gate said, as its run observed it."""
        self.verdicts.labels(numbers["verdict"]).inc()
        for kind in ("labelled", "held_out"):
            self.probes.labels(kind).set(numbers[kind])
        for check in numbers["checks"]:
            rule, outcome = Rule(check["rule"]).name.lower(), Outcome(check["outcome"])
            if outcome is not Outcome.PASSED:
                self.objections.labels(rule, outcome).inc()
            compared = check["compared"]
            if compared and not check["tag"]:
                if check["rule"] == Rule.KEPT_RIGHT:
                    self.right_to_wrong.set(1 - compared["after"])
                else:
                    show(self.difference, compared["after"] - compared["before"], rule)
        if sure := numbers["certainty"]:
            self.e_value.set(sure["e"])
            self.e_asked.set(sure["threshold"] or float("inf"))
            self.budget.set(sure["budget_left"])
