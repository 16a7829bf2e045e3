"""The series of all workers of the gateway, as one process shows them.

Each worker reports its samples to the daemon, which adds them to its own. prometheus-client's
multiprocess mode keeps them in files instead, which outlive their processes, and takes no
collectors but its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

Key = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and labels."""
Row = tuple[str, str, Key, float]
"""A sample: its family's type and name, its key, its value."""


def rows(collectors: Iterable[Collector]) -> list[Row]:
    """Return what they show."""
    return [
        (family.type, family.name, _key(sample), sample.value)
        for collector in collectors
        for family in collector.collect()
        for sample in family.samples
    ]


class Total(Collector):
    """What one process shows, and what the others reported last. Of one that has ended, what it had
    counted stays, since no counter may fall; what it held at the moment goes."""

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
