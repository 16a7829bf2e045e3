"""Making series, and remembering what was made for the reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary
from prometheus_client.core import GaugeMetricFamily

SECONDS = (0.05, 0.2, 1, 5, 20, 60)
SHARES = (0.2, 0.4, 0.6, 0.8)
"""Every bucket is a series: few do."""


@dataclass(frozen=True)
class Described:
    """One series as the reference has it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


class Newest:
    """A gauge of the newest of something; as long as nothing can be said, it is no series."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._value: float | None = None

    def set(self, value: float | None) -> None:
        """What the newest one says; None where it says nothing."""
        self._value = value

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """What the registry asks for."""
        yield GaugeMetricFamily(self._name, self._text, self._value)


class Maker:
    """Makes the series of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.made: list[Described] = []
        self._registry = registry

    def counter(self, name: str, text: str, *labels: str, each: Iterable[str] = ()) -> Counter:
        """What only grows; its name ends in `_total`. Those for `each` value of its one label start
        at 0: what appears with its first event is no increase to Prometheus."""
        self._note(name, "counter", labels, text)
        made = Counter(name, text, labels, registry=self._registry)
        for value in each:
            made.labels(value)
        return made

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """What goes up and down."""
        self._note(name, "gauge", labels, text)
        return Gauge(name, text, labels, registry=self._registry)

    def newest(self, name: str, text: str) -> Newest:
        """The newest value, once there is one."""
        self._note(name, "gauge", (), text)
        made = Newest(name, text)
        self._registry.register(made)
        return made

    def histogram(
        self, name: str, text: str, *labels: str, buckets: Sequence[float] = SECONDS
    ) -> Histogram:
        """How values are spread."""
        self._note(name, "histogram", labels, text)
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)

    def summary(self, name: str, text: str) -> Summary:
        """Only how many there were, and their sum."""
        self._note(name, "summary", (), text)
        return Summary(name, text, registry=self._registry)

    def info(self, name: str, text: str, label: str, value: str) -> Info:
        """A text, as the label of a series that is 1."""
        self._note(f"{name}_info", "info", (label,), text)
        made = Info(name, text, registry=self._registry)
        made.info({label: value})
        return made

    def _note(self, name: str, kind: str, labels: tuple[str, ...], text: str) -> None:
        self.made.append(Described(name, kind, labels, text))


def show(gauge: Gauge, value: float | None, *labels: str) -> None:
    """Set a gauge that has labels; what cannot be said is no series, rather than a stale one."""
    if value is not None:
        gauge.labels(*labels).set(value)
        return
    with suppress(KeyError):
        gauge.remove(*labels)
