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

from ttrl.metrics.host import Host
from ttrl.metrics.judging import Judging
from ttrl.metrics.learning import Scheduling, Updating, Voting
from ttrl.metrics.quality import Drifting, Quality
from ttrl.metrics.series import Described, Maker
from ttrl.metrics.serving import Recording, Serving
from ttrl.metrics.versions import Versions

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
        match kind:
            case "step":
                self.updating.steps.inc()
                self.voting.drew(numbers)
                self._newest(numbers)
            case "draw":
                self.voting.drew(numbers)
                self._newest(numbers)
            case "verdict":
                self.judging.verdict(numbers)
            case "guard":
                self.judging.rulings.labels(numbers["action"], numbers["rule"]).inc()
            case "selection":
                self.scheduling.step.set(0)
                for reason, count in numbers["left_out"].items():
                    self.scheduling.left_out.labels(reason).inc(count)
            case "pause":
                self.voting.in_flight_limit.set(0)
            case "resume":
                self.voting.in_flight_limit.set(1)
                self.voting.paused_seconds.inc(numbers["seconds"])

    def _newest(self, numbers: Mapping[str, Any]) -> None:
        voting, updating = self.voting, self.updating
        newest = {
            self.scheduling.step: "step", voting.entropy: "vote_entropy",
            voting.informative: "informative", voting.alike: "alike",
            voting.unreadable: "unreadable", voting.length: "length",
            voting.in_flight_limit: "in_flight_limit", updating.token_entropy: "token_entropy",
            updating.kl: "kl", updating.mismatch: "mismatch", updating.masked: "masked",
            updating.reward: "reward",
        }  # fmt: skip
        for gauge, name in newest.items():
            if numbers.get(name) is not None:
                gauge.set(numbers[name])
