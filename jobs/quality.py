"""From a version's answers to how good they are, and whether its labels speak for the traffic."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from jobs.asker import Asked
from ttrl import quality, staleness
from ttrl.config import GateConfig
from ttrl.paired import Answered
from ttrl.probes import ProbeOrigin
from ttrl.quality import Quality
from ttrl.staleness import Staleness
from ttrl.store import Store

RECENT = 500
"""Questions of the traffic that labelled probes are held against, at least."""


def look(store: Store, asked: Iterable[Asked]) -> Staleness | None:
    """Whether the labelled ones look like the newest questions; None: too few of either."""
    known = [each.question.text for each in asked if each.label is not None]
    newest = store.questions.page(max(RECENT, len(known)))
    return staleness.measure(known, [row.question.text for row in newest])


def measure(
    answered: Iterable[tuple[Asked, Answered]], looked: Staleness | None, settings: GateConfig
) -> Quality | None:
    """How good the answers are; `looked` is whether the labels look like the traffic."""
    speaks = _speaking(looked, settings)
    return quality.measure(
        [
            quality.Asked(
                asked.question.cluster,
                answers,
                asked.label is None or asked.label.origin in speaks,
                asked.label.tags if asked.label else (),
            )
            for asked, answers in answered
        ]
    )


def _speaking(looked: Staleness | None, settings: GateConfig) -> Collection[ProbeOrigin]:
    """The labels that say something of the traffic: those drawn from it, the operator's own once
    they are known to look like it, and none when it has moved away from them. Those of
    disagreements are the hard ones."""
    if looked is None:
        return (ProbeOrigin.RANDOM,)
    return () if looked.stale(settings) else (ProbeOrigin.RANDOM, ProbeOrigin.OPERATOR)
