"""Agreement with the label (Zuo et al., TTRL, arXiv 2504.16084)."""

from __future__ import annotations

from collections.abc import Sequence

from ttrl.samples import Sample
from ttrl.votes import Vote


def majority(vote: Vote, samples: Sequence[Sample]) -> tuple[float, ...]:
    """1 where a sample's canonical answer is the label, else 0; all 0 without a label.

    Raises ValueError if the vote was not taken over as many samples.
    """
    return tuple(
        float(answer is not None and answer == vote.label)
        for answer, _ in zip(vote.answers, samples, strict=True)
    )
