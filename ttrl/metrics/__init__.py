"""Every Prometheus series, and how what runs observe is shown. The daemon alone exports them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from ttrl.evaluation.gate import Outcome, Rule
from ttrl.metrics import series

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each


class Metrics:
    """One registry and its series; names follow Prometheus' own rules."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.serving = series.Serving(registry)
        self.serving.keys_ok.set(1)
        self.recording = series.Recording(registry)
        self.voting = series.Voting(registry)
        self.updating = series.Updating(registry)
        self.scheduling = series.Scheduling(registry)
        self.judging = series.Judging(registry)
        self.certainty = series.Certainty(registry)
        self.quality = series.Quality(registry)
        self.accuracy = series.Accuracy(registry)
        self.drifting = series.Drifting(registry)
        self.versions = series.Versions(registry)
        self.host = series.Host(registry)
        groups = [each for each in vars(self).values() if isinstance(each, series.Group)]
        self.described = [each for group in groups for each in group.made]

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def observed(self, kind: str, numbers: Mapping[str, Any]) -> None:
        match kind:
            case "selection":
                for reason, count in numbers["left_out"].items():
                    self.scheduling.left_out.labels(reason).inc(count)
            case "step" | "draw":  # the draw of a step that there was nothing to learn for
                if kind == "step":
                    self.updating.steps.inc()
                self.voting.samples.inc(numbers["step_samples"])
                self.voting.saved.inc(numbers["step_saved"])
                self.voting.tokens.inc(numbers["step_tokens"])
                for outcome, count in numbers["outcomes"].items():
                    self.voting.votes.labels(outcome).inc(count)
                for share in numbers["shares"]:
                    self.voting.shares.observe(share)
            case "unanswered":
                self.voting.unanswered.inc(numbers["questions"])
            case "resume":
                self.voting.paused_seconds.inc(numbers["seconds"])
            case "guard":
                self.judging.rulings.labels(numbers["action"], numbers["rule"]).inc()
            case "verdict":
                self.judging.verdicts.labels(numbers["verdict"]).inc()
                for check in numbers["checks"]:
                    rule, outcome = Rule(check["rule"]).name.lower(), Outcome(check["outcome"])
                    if outcome is not Outcome.PASSED:
                        self.judging.objections.labels(rule, outcome).inc()
        self.show(kind, numbers)

    def show(self, kind: str, numbers: Mapping[str, Any]) -> None:
        """Show how things look since an observation, which may have been counted by a daemon
        before."""
        match kind:
            case "selection":
                self.scheduling.step.set(0)
            case "step" | "draw":
                again = numbers["asked_again"]
                flip_rate = numbers["flipped"] / again if again else None
                self.voting.show({**numbers, "flip_rate": flip_rate})
                if kind == "step":
                    self.scheduling.step.set(numbers["step"])
                    self.updating.show(numbers)
            case "pause":
                self.voting.in_flight_limit.set(0)
            case "resume":
                self.voting.in_flight_limit.set(1)
            case "verdict":
                self._show_verdict(numbers)

    def _show_verdict(self, numbers: Mapping[str, Any]) -> None:
        """Of what this gate did not look at, nothing is left to see."""
        for kind in ("labelled", "held_out"):
            self.judging.probes.set(numbers[kind], kind)
        self.certainty.show(numbers["certainty"] or {})
        right_to_wrong, differences = None, {}
        for check in numbers["checks"]:
            if (compared := check["compared"]) and not check["tag"]:
                rule = Rule(check["rule"])
                if rule is Rule.KEPT_RIGHT:
                    right_to_wrong = 1 - compared["after"]
                else:
                    differences[rule.name.lower()] = compared["after"] - compared["before"]
        self.judging.right_to_wrong.set(right_to_wrong)
        self.judging.difference.replace(differences)

    def measured(self, role: str, numbers: Mapping[str, Any], at: float | None) -> None:
        """Show what is known of the version in a role (`live` or `base`); without numbers,
        nothing."""
        self.quality.show({**numbers, "at": at}, role)
        self.accuracy.show(numbers.get("estimate") or {}, role)
        if role == "live":
            tags = numbers.get("tags", {})
            self.versions.tag.replace({tag: each["value"] for tag, each in tags.items()})
