"""The judges: gate, guard of a run, guard of what is live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttrl.checks import Outcome, Rule
from ttrl.gate import Verdict
from ttrl.metrics.series import Maker


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
        self.right_to_wrong = make.newest(
            "ttrl_gate_right_to_wrong_ratio",
            "Share of the live version's right majorities that the newest candidate lost.",
        )
        self.e_value = make.newest(
            "ttrl_gate_evidence",
            "E-value of the newest gate's labels against the candidate being no better.",
        )
        self.e_asked = make.newest(
            "ttrl_gate_evidence_asked", "E-value that the newest gate asked for."
        )
        self.budget = make.newest(
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
        """The budget is the year's: a gate without labels leaves it as it is."""
        self.e_value.set(sure["e"] if sure else None)
        self.e_asked.set((sure["threshold"] or float("inf")) if sure else None)
        if sure:
            self.budget.set(sure["budget_left"])
