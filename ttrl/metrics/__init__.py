"""Every Prometheus series, and how the events of runs show in them. The daemon alone exports
them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from ttrl.engine.pacing import Pause, Resume
from ttrl.evaluation.estimates import Quality
from ttrl.evaluation.gate import Judgement, Outcome, Rule
from ttrl.events import Draw, Event, Scored, Selection, Step, Unanswered
from ttrl.metrics import series
from ttrl.monitoring.run import Ruling
from ttrl.store.measurements import Measurement

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each

Key = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and labels."""
Row = tuple[str, str, Key, float]
"""A sample: its family's type and name, its key, its value."""


def rows(collectors: Iterable[Collector]) -> list[Row]:
    return [
        (family.type, family.name, _key(sample), sample.value)
        for collector in collectors
        for family in collector.collect()
        for sample in family.samples
    ]


class Total(Collector):
    """What one process shows, and what the others, further workers of the gateway, reported last.
    Of one that has ended, what it had counted stays, since no counter may fall; what it held at the
    moment goes. prometheus-client's multiprocess mode keeps samples in files instead, which outlive
    their processes, and takes no collectors but its own."""

    def __init__(self, own: Collector) -> None:
        self._own = own
        self._reported: dict[int, list[Row]] = {}
        self._ended: dict[tuple[str, Key], float] = defaultdict(float)

    def take(self, worker: int, reported: list[Row]) -> None:
        self._reported[worker] = reported

    def end(self, worker: int) -> None:
        for kind, family, key, value in self._reported.pop(worker, ()):
            if kind != "gauge":
                self._ended[family, key] += value

    def collect(self) -> Iterator[Metric]:
        more: dict[str, dict[Key, float]] = defaultdict(partial(defaultdict, float))
        for (family, key), value in self._ended.items():
            more[family][key] += value
        for reported in self._reported.values():
            for _, family, key, value in reported:
                more[family][key] += value
        for found in self._own.collect():
            others = more[found.name]
            found.samples = [
                sample._replace(value=sample.value + others.pop(_key(sample), 0))
                for sample in found.samples
            ]
            found.samples += [Sample(name, dict(labels), n) for (name, labels), n in others.items()]
            yield found


def _key(sample: Sample) -> Key:
    return sample.name, tuple(sample.labels.items())


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
                self.voting.contradicted.inc(event.contradicted)
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
            case Judgement():  # of what this gate did not look at, nothing is left to see
                self.judging.probes.set(event.labelled, "labelled")
                self.judging.probes.set(event.probes - event.labelled, "held_out")
                self.certainty.show(event.certainty)
                compared = {
                    check.rule: check.compared
                    for check in event.checks
                    if check.compared and not check.tag
                }
                kept = compared.pop(Rule.KEPT_RIGHT, None)
                self.judging.right_to_wrong.set(1 - kept.after if kept else None)
                self.judging.difference.replace(
                    {rule.name.lower(): found.difference for rule, found in compared.items()}
                )

    def measured(self, role: str, measured: Measurement[Quality] | None) -> None:
        """Show what is known of the version in a role (`live` or `base`)."""
        quality = measured.found if measured else None
        self.quality.show(quality, role, at=measured.at if measured else None)
        self.accuracy.show(quality.estimate if quality else None, role)
        if role == "live":
            tags = quality.tags if quality else {}
            self.versions.tag.replace({tag: each.value for tag, each in tags.items()})
