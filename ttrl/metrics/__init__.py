"""Every Prometheus series, defined once. The daemon alone exports them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from ttrl.metrics.learned import Drifting, Judging, Quality, Scheduling, Updating, Voting
from ttrl.metrics.series import Described, Maker
from ttrl.metrics.served import Host, Recording, Serving, Versions

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each


class Metrics:
    """One registry and its series; names follow Prometheus' own rules."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        make = Maker(self.registry)
        make.info("ttrl_build", "The running version of ttrl.", "version", version("ttrl"))
        self.serving = Serving(make)
        self.recording = Recording(make)
        self.voting = Voting(make)
        self.updating = Updating(make)
        self.scheduling = Scheduling(make)
        self.judging = Judging(make)
        self.quality = Quality(make)
        self.drifting = Drifting(make)
        self.versions = Versions(make)
        self.host = Host(make)
        self.described: tuple[Described, ...] = tuple(make.made)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

    def observed(self, kind: str, numbers: Mapping[str, Any]) -> None:
        """Take in one observation of a run."""
        self._count(kind, numbers)
        self.show(kind, numbers)

    def _count(self, kind: str, numbers: Mapping[str, Any]) -> None:
        match kind:
            case "selection":
                for reason, count in numbers["left_out"].items():
                    self.scheduling.left_out.labels(reason).inc(count)
            case "step":
                self.updating.steps.inc()
                self.voting.count(numbers)
            case "draw":
                self.voting.count(numbers)
            case "unanswered":
                self.voting.unanswered.inc(numbers["questions"])
            case "resume":
                self.voting.paused_seconds.inc(numbers["seconds"])
            case "guard":
                self.judging.rulings.labels(numbers["action"], numbers["rule"]).inc()
            case "verdict":
                self.judging.count(numbers)

    def show(self, kind: str, numbers: Mapping[str, Any]) -> None:
        """How things look since an observation; it may have been counted by a daemon before."""
        match kind:
            case "selection":
                self.scheduling.step.set(0)
            case "step":
                self.scheduling.step.set(numbers["step"])
                self.voting.show(numbers)
                self.updating.show(numbers)
            case "draw":
                self.voting.show(numbers)
            case "pause":
                self.voting.in_flight_limit.set(0)
            case "resume":
                self.voting.in_flight_limit.set(1)
            case "verdict":
                self.judging.show(numbers)
