"""Every Prometheus series, and how the events of runs show in them. The daemon alone exports
them."""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from ttrl.engine.pacing import Pause, Resume
from ttrl.evaluation.estimates import Quality
from ttrl.evaluation.gate import Judgement, Outcome, Rule
from ttrl.events import Draw, Event, Scored, Selection, Step, Unanswered
from ttrl.metrics import series
from ttrl.metrics.workers import Row, Total, rows
from ttrl.monitoring.run import Ruling
from ttrl.store.measurements import Measurement

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each


class Metrics:
    """One registry and its series; names follow Prometheus' own rules."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.serving = series.Serving(registry)
        self.recording = series.Recording(registry)
        self.feedback = series.Feedback(registry)
        self.voting = series.Voting(registry)
        self.updating = series.Updating(registry)
        self.scheduling = series.Scheduling(registry)
        self.judging = series.Judging(registry)
        self.scoring = series.Scoring(registry)
        self.certainty = series.Certainty(registry)
        self.quality = series.Quality(registry)
        self.accuracy = series.Accuracy(registry)
        self.drifting = series.Drifting(registry)
        self.versions = series.Versions(registry)
        self.versions.live.set(1, "base")
        self.host = series.Host(registry)
        self.host.build.set(1, version("ttrl"))
        self.host.keys_ok.set(1)
        self.total = Total(registry)
        groups = [each for each in vars(self).values() if isinstance(each, series.Group)]
        self.described = [each for group in groups for each in group.made]

    def text(self) -> bytes:
        return generate_latest(self.total)

    def of_worker(self) -> list[Row]:
        """Return what each worker of the gateway counts for itself."""
        return rows(
            made for group in (self.serving, self.recording) for made in group.made.values()
        )

    def observed(self, event: Event) -> None:
        match event:
            case Selection():
                for reason, count in event.left_out.items():
                    self.scheduling.left_out.labels(reason).inc(count)
            case Draw():
                if isinstance(event, Step):
                    self.updating.steps.inc()
                for layer, count in event.layers.items():
                    self.voting.samples.labels(layer).inc(count)
                self.voting.saved.inc(event.step_saved)
                self.voting.tokens.inc(event.step_tokens)
                for outcome, count in event.outcomes.items():
                    self.voting.votes.labels(outcome).inc(count)
                for share in event.shares:
                    self.voting.shares.observe(share)
            case Unanswered():
                self.voting.unanswered.inc(event.questions)
            case Scored():
                for became, count in event.answers.items():
                    self.scoring.answers.labels(became).inc(count)
                self.scoring.requests.inc(event.requests)
                self.scoring.tokens.labels("read").inc(event.tokens_read)
                self.scoring.tokens.labels("written").inc(event.tokens_written)
                self.scoring.seconds.inc(event.seconds)
            case Resume():
                self.voting.paused_seconds.inc(event.seconds)
            case Ruling():
                self.judging.rulings.labels(event.action, event.rule).inc()
            case Judgement():
                self.judging.verdicts.labels(event.verdict).inc()
                for check in event.checks:
                    if check.outcome is not Outcome.PASSED:
                        self.judging.objections.labels(check.rule.name.lower(), check.outcome).inc()
        self.show(event)

    def show(self, event: Event) -> None:
        """Show how things look since an event, which may have been counted by a daemon before."""
        match event:
            case Selection():
                self.scheduling.step.set(0)
            case Draw():
                self.voting.show(event)
                if isinstance(event, Step):
                    self.scheduling.step.set(event.step)
                    self.updating.show(event)
            case Pause():
                self.voting.in_flight_limit.set(0)
            case Resume():
                self.voting.in_flight_limit.set(1)
            case Judgement():
                self._show_judgement(event)

    def _show_judgement(self, judgement: Judgement) -> None:
        """Of what this gate did not look at, nothing is left to see."""
        self.judging.probes.set(judgement.labelled, "labelled")
        self.judging.probes.set(judgement.probes - judgement.labelled, "held_out")
        self.certainty.show(judgement.certainty)
        compared = {
            check.rule: check.compared
            for check in judgement.checks
            if check.compared and not check.tag
        }
        kept = compared.pop(Rule.KEPT_RIGHT, None)
        self.judging.right_to_wrong.set(1 - kept.after if kept else None)
        differences = {rule.name.lower(): found.difference for rule, found in compared.items()}
        self.judging.difference.replace(differences)

    def measured(self, role: str, measured: Measurement[Quality] | None) -> None:
        """Show what is known of the version in a role (`live` or `base`)."""
        quality = measured.found if measured else None
        self.quality.show(quality, role, at=measured.at if measured else None)
        self.accuracy.show(quality.estimate if quality else None, role)
        if role == "live":
            tags = quality.tags if quality else {}
            self.versions.tag.replace({tag: each.value for tag, each in tags.items()})
